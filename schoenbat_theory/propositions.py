"""Propositions and the evidence for them: what is claimed, what was measured, what that decides.

Nothing here knows any mathematics of attention. A check is a function of a `Cell` that returns
`Evidence`; `check_mean`, `check_tail` and `check_rate` make evidence by sampling, `decide` and
`observe` make it by enumeration, search or plain measurement.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.markup import decimal, inline_math, table

__all__ = [
    "VERDICTS",
    "Cell",
    "Check",
    "Evidence",
    "Proposition",
    "check_name",
    "combine",
    "decide",
    "json_number",
    "observe",
]

VERDICTS = ("proved", "consistent", "refuted", "undecided", "vacuous")


@dataclass(frozen=True)
class Evidence:
    """What one check found.

    ``verdict``      one of `VERDICTS`; ``None`` for numbers that decide nothing (kind "data")
    ``kind``         "exact" (enumeration, algebra), "deterministic" (grid, search), "monte-carlo", "data"
    ``measured, predicted, interval``   of the comparison that decides, or comes closest to
    ``draws, comparisons``              replicates used; numbers compared at once
    ``inequality``   what the verdict rests on, by name
    ``alpha``        probability with which a correct proposition would be accused here
    ``guaranteed``   False for asymptotic intervals
    ``note``         one sentence for people
    ``figure``       plain data that `schoenbat_theory.plots` draws, or ``None``
    """

    verdict: str | None
    kind: str
    name: str = ""
    measured: float | None = None
    predicted: float | None = None
    interval: tuple[float, float] | None = None
    draws: int = 0
    comparisons: int = 1
    inequality: str = ""
    alpha: float = 0.0
    guaranteed: bool = True
    note: str = ""
    seed: int | None = None
    backend: str = "numpy"
    seconds: float = 0.0
    figure: dict[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise ValueError(f"verdict: expected one of {', '.join(VERDICTS)} or None, found {self.verdict!r}")

    def _repr_html_(self) -> str:
        interval = "–" if self.interval is None else "[{}, {}]".format(*map(decimal, self.interval))
        row = (self.name, self.verdict or "–", decimal(self.measured), decimal(self.predicted), interval, self.note)
        return table(("evidence", "verdict", "measured", "predicted", "interval", ""), [row], self.inequality)

    def but(self, **changes: Any) -> Evidence:
        """Return a copy with ``changes``; ``figure`` is merged into the figure that is there."""
        if self.figure is not None and changes.get("figure") is not None:
            changes["figure"] = {**self.figure, **changes["figure"]}
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Cell:
    """What a check is given: its stream of random numbers, its share of alpha, its budget, its input.

    ``rng``      generator at the address (proposition, check)
    ``alpha``    error rate that this check may spend
    ``draws``    replicates that a sampled check may use;  ``repeats``  the same for whole experiments
    ``heads``    real attention heads, a tuple of `schoenbat_theory.activations.Head`
    ``asarray``  moves a host array to the backend
    """

    rng: np.random.Generator
    alpha: float
    draws: int
    repeats: int
    heads: tuple[Any, ...] = ()
    asarray: Callable[[Any], Any] = np.asarray


Check = Callable[[Cell], Evidence | Sequence[Evidence]]


@dataclass(frozen=True)
class Proposition:
    """A statement that the laboratory can decide.

    ``id, title``    short and stable;  ``statement``  text with ``$...$`` for formulas
    ``hypotheses``   each a sentence;  ``source``  where it comes from, and whether that was seen
    ``expected``     the verdict declared in advance
    ``checks``       functions Cell -> Evidence (or several); their names name the evidence
    ``mutants``      checks of broken twins, each of which must be refuted; they count neither in the verdict nor in alpha

    >>> def fair(cell):
    ...     return check_mean(lambda rng, size: rng.integers(0, 2, size) * 1.0, 0.5,
    ...                       margin=0.01, variance=0.25, alpha=cell.alpha, rng=cell.rng)
    >>> from schoenbat_theory import check_mean, verify
    >>> mine = Proposition("X1", "A fair coin", "$E X = 1/2$", (), "folklore", "consistent", [fair], [])
    >>> verify([mine], workers=1).status
    'as-expected'
    """

    id: str
    title: str
    statement: str
    hypotheses: Sequence[str]
    source: str
    expected: str
    checks: Sequence[Check]
    mutants: Sequence[Check] = ()

    def __post_init__(self) -> None:
        if self.expected not in VERDICTS:
            raise ValueError(
                f"expected: proposition {self.id} declares {self.expected!r}, not one of {', '.join(VERDICTS)}"
            )
        if not self.checks:
            raise ValueError(f"checks: proposition {self.id} has none")
        names = [check_name(check) for check in (*self.checks, *self.mutants)]
        if len(set(names)) != len(names):
            raise ValueError(f"checks, mutants: proposition {self.id} has two of one name, {sorted(names)}")

    def _repr_html_(self) -> str:
        rows = [("statement", self.statement), ("source", self.source), ("expected", self.expected)]
        rows[1:1] = [("hypothesis", hypothesis) for hypothesis in self.hypotheses]
        return f"<h4>{inline_math(f'{self.id}: {self.title}')}</h4>" + table(("", ""), rows)


def check_name(check: Check) -> str:
    """Return how a check is called in evidence: its function name with spaces."""
    return getattr(check, "__name__", type(check).__name__).replace("_", " ").strip()


def decide(holds: bool, *, kind: str = "exact", because: str, **found: Any) -> Evidence:
    """Return evidence from enumeration, algebra or search: "proved" (exact) or "consistent" if it holds, else "refuted".

    ``because`` names the argument, e.g. "enumeration of 2^4 signs in integers"; ``found`` are fields of `Evidence`.

    >>> decide(1 + 1 == 2, because="integer arithmetic", measured=2.0).verdict
    'proved'
    """
    if kind not in ("exact", "deterministic"):
        raise ValueError(f"kind: expected 'exact' or 'deterministic', found {kind!r}")
    good = "proved" if kind == "exact" else "consistent"
    return Evidence(good if holds else "refuted", kind, inequality=because, **found)


def observe(**found: Any) -> Evidence:
    """Return numbers that decide nothing, e.g. on given activations (kind "data", no verdict)."""
    return Evidence(None, "data", **found)


def combine(verdicts: Sequence[str | None]) -> str:
    """Return the verdict on a proposition from those of its checks: refuted if any is, else the weakest.

    >>> combine(["proved", "consistent", None]), combine(["proved", "refuted"]), combine([None])
    ('consistent', 'refuted', 'undecided')
    """
    found = {verdict for verdict in verdicts if verdict is not None}
    for verdict in ("refuted", "undecided", "vacuous", "consistent", "proved"):
        if verdict in found:
            return verdict
    return "undecided"


def json_number(x: Any) -> float | str | None:
    """Return ``x`` as JSON can hold it: a float, "inf", "-inf", or ``None`` for NaN and nothing."""
    if x is None or math.isnan(x):
        return None
    return float(x) if math.isfinite(x) else ("inf" if x > 0 else "-inf")
