"""Propositions and the evidence for them: what is claimed, what was measured, what that decides.

Nothing here knows any mathematics of attention. A check is a function of a `Cell` that returns
`Evidence`; `check_mean`, `check_tail` and `check_rate` make evidence by sampling, `decide` and
`observe` make it by enumeration, search or plain measurement.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from schoenbat_theory.markup import decimal, inline_math, table
from schoenbat_theory.references import bibtex

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
KINDS = ("exact", "deterministic", "monte-carlo", "data")


@dataclass(frozen=True)
class Evidence:
    """What one check found.

    ``verdict``      one of `VERDICTS`; ``None`` for numbers that decide nothing, as on given activations
    ``kind``         "exact" (enumeration, algebra), "deterministic" (grid, search), "monte-carlo", "data"
    ``measured, predicted, interval``   of the comparison that decides, or comes closest to
    ``draws, comparisons``              replicates used; numbers compared at once
    ``inequality``   what the verdict rests on, by name
    ``alpha``        probability of a wrong verdict here, in either direction
    ``guaranteed``   False for asymptotic intervals
    ``note``         one sentence for people
    ``figure``       plain data that `schoenbat_theory.plots` draws, or ``None``

    A field that does not fit is refused by name, ``TypeError`` or ``ValueError``; NumPy's scalars are numbers.
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
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {self.kind!r}")
        _require(self, _is_text, "a str", "name", "inequality", "note", "backend")
        _require(self, _or_none(_is_number), "a real number or None", "measured", "predicted")
        _require(self, _or_none(_is_pair), "a pair of real numbers or None", "interval")
        _require(self, _is_number, "a real number", "alpha", "seconds")
        _require(self, _is_whole, "an integer", "draws", "comparisons")
        _require(self, _or_none(_is_whole), "an integer or None", "seed")
        _require(self, _or_none(lambda x: isinstance(x, dict)), "a dict or None", "figure")

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
    ``cites``        keys of the shipped references.bib, or whole BibTeX entries (texts that start with "@")

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
    cites: Sequence[str] = ()

    def __post_init__(self) -> None:
        _require(self, _is_text, "a str", "id", "title", "statement", "source")
        if not self.id.strip():
            raise ValueError(f"id: expected a text that is not empty, found {self.id!r}")
        _require(self, _is_sequence_of(_is_text), "a sequence of str, not a str", "hypotheses", "cites")
        _require(self, _is_sequence_of(callable), "a sequence of functions", "checks", "mutants")
        if self.expected not in VERDICTS:
            raise ValueError(
                f"expected: proposition {self.id} declares {self.expected!r}, not one of {', '.join(VERDICTS)}"
            )
        if not self.checks:
            raise ValueError(f"checks: proposition {self.id} has none")
        names = [check_name(check) for check in (*self.checks, *self.mutants)]
        if len(set(names)) != len(names):
            raise ValueError(f"checks, mutants: proposition {self.id} has two of one name, {sorted(names)}")
        try:
            bibtex(self.cites)
        except ValueError as error:
            raise ValueError(f"proposition {self.id}: {error}") from None

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


def _require(owner: Evidence | Proposition, fits: Callable[[Any], bool], expected: str, *fields: str) -> None:
    """Refuse what would fail much later, in a table or a page, and without a name."""
    for name in fields:
        value = getattr(owner, name)
        if not fits(value):
            whose = f"proposition {owner.id}: " if isinstance(owner, Proposition) and name != "id" else ""
            raise TypeError(f"{whose}{name}: expected {expected}, found {reprlib.repr(value)}")


def _is_text(x: Any) -> bool:
    return isinstance(x, str)


def _is_number(x: Any) -> bool:
    return isinstance(x, Real)


def _is_whole(x: Any) -> bool:
    return isinstance(x, Integral)


def _is_pair(x: Any) -> bool:
    return isinstance(x, Sequence | np.ndarray) and len(x) == 2 and all(map(_is_number, x))


def _is_sequence_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, Sequence) and not isinstance(x, str | bytes) and all(map(fits, x))


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: x is None or fits(x)
