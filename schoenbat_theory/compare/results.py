"""What a comparison of methods on real heads found: as objects, as a table for a terminal, as JSON; the page is beside."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schoenbat_theory import markup
from schoenbat_theory.compare.costs import RULE
from schoenbat_theory.environment import environment
from schoenbat_theory.files import json_text, kept

if TYPE_CHECKING:
    from schoenbat_theory.compare.ratios import Ratio
    from schoenbat_theory.compare.rows import Row

__all__ = [
    "BASELINE",
    "BEYOND_THE_PAPER",
    "LANDMARKS",
    "ROUNDING",
    "SETTINGS",
    "Comparison",
    "Result",
    "Target",
    "counted",
    "finite",
    "median",
]

BASELINE = "baseline"  # the family of those that know nothing of queries, or nothing at all
LANDMARKS = "landmarks"  # the family of methods that answer through some of the tokens
BEYOND_THE_PAPER = "beyond the paper"  # the family of methods that fit themselves to a head
USUAL_WIDTH = 256
ROUNDING = 1e-12  # a relative error in float64 that is not worth its digits
SETTINGS = {  # what a target is the attention of, for the start of a sentence
    "raw": "On these heads, as trained",
    "unit": "After pre-scaling to unit length",
    "released": "After pre-scaling and the factor d^(-1/4)",
    "isotropic": "On random unit vectors, no direction preferred",
    "gaussian": "With Gaussian weights that are not normalised",
}


@dataclass(frozen=True)
class Target:
    """What the methods are to approximate on one head.

    ``setting``    "raw": queries and keys times d^(-1/4); "unit": pre-scaled; "released": pre-scaled, times d^(-1/4);
                   "gaussian": Skyformer's attention of queries and keys times d^(-1/4); "isotropic": random unit vectors
    ``kernel``     name of f in the weights f(<q_i, k_j>), "gaussian" for those of Skyformer
    ``head``       name of the head;  ``n, m, d, e``  its queries, its keys, their width, that of a value
    ``largest``    the largest |<q_i, k_j>| of the queries and keys as they are used
    ``undefined``  why this attention does not exist, e.g. an inner product beyond the radius; empty where it does
    ``distance``   relative Frobenius distance to the softmax attention of the head: what pre-scaling costs
    ``multiply_adds``  of the exact attention per query, by the rule of `compare.costs`
    ``budget``  what a method may take on the basis "multiply-adds"; ``None`` where there is no such basis
    ``seconds``  of the exact attention, least of some runs, on the head that is timed; else ``None``
    """

    setting: str
    kernel: str
    head: str
    n: int
    m: int
    d: int
    e: int
    largest: float
    undefined: str
    distance: float | None
    multiply_adds: float
    budget: float | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """Setting and kernel, e.g. "unit exp"; one word for Skyformer's."""
        return self.setting if self.setting == self.kernel else f"{self.setting} {self.kernel}"


@dataclass(frozen=True)
class Result:
    """One method against one target on one head.

    ``target``         setting and kernel, e.g. "unit exp";  ``setting, kernel, head``  as in `Target`
    ``method, family`` its name, and the part of it before a comma; the family of a baseline is "baseline"
    ``width``          features or landmarks asked for; ``None`` where the method has no width to choose
    ``basis``          "width": the widths of the run; "multiply-adds": the largest width within one budget for all
    ``features``       features or landmarks that the first draw uses; ``None`` where there are none
    ``multiply_adds``  per query, both sides and the sums, by the rule of `compare.costs`; mean over draws;
                       ``None`` where a map of your own does not say
    ``errors``         relative Frobenius error of the whole output, per draw; ``None``: a denominator of exactly 0, or
                       an overflow
    ``error``          their median, an undefined one counted as infinite; ``None`` where that is what it is
    ``interval``       the smallest and the largest: covers the median of the law with probability >= 1 - 2^(1-draws)
    ``skill``          1 - error / error of the better baseline, 0 where only rounding tells them apart; ``None``: undefined
    ``nonpositive``    share of rows whose denominator is <= 0, mean over draws; ``None`` where nothing is divided
    ``chosen``         per draw, what a method that chooses among others decided for; empty where it does not choose
    ``seconds``        of one attention, its draw made beforehand, least of some runs, on the head that is timed; else ``None``
    ``fit_seconds``    of fitting the law to queries and keys; ``None`` where nothing is fitted or the head is not timed
    ``peak_bytes``     most memory that NumPy held in a run of its own; ``None`` on heads that are not timed
    """

    target: str
    setting: str
    kernel: str
    head: str
    method: str
    family: str
    width: int | None
    basis: str
    features: int | None
    multiply_adds: float | None
    errors: tuple[float | None, ...]
    skill: float | None = None
    nonpositive: float | None = None
    chosen: tuple[str, ...] = ()
    seconds: float | None = None
    fit_seconds: float | None = None
    peak_bytes: int | None = None
    error: float | None = field(init=False)
    interval: tuple[float | None, float | None] = field(init=False)

    def __post_init__(self) -> None:
        found = [math.inf if error is None else error for error in self.errors]
        object.__setattr__(self, "error", finite(median(found)))
        object.__setattr__(self, "interval", (finite(min(found)), finite(max(found))))


@dataclass(frozen=True)
class Comparison:
    """The results of `compare`, what they were measured against, and what is needed to repeat them.

    ``results``  per target, head, method, basis and width;  ``targets``  per setting, kernel and head
    ``heads``    their names;  ``timed``  the name of the one on which times and memory were measured
    ``widths, draws, seed``  as `compare` was given them, widths rising and each once
    ``data``     where the heads are from;  ``notes``  what a reader should know besides
    """

    results: tuple[Result, ...] = field(repr=False)
    targets: tuple[Target, ...] = field(repr=False)
    heads: tuple[str, ...]
    timed: str
    widths: tuple[int, ...]
    draws: int
    seed: int
    data: str
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def middle(self) -> int:
        """The width at which the random Maclaurin map sets the budget of multiply-adds."""
        return self.widths[len(self.widths) // 2]

    @property
    def usual(self) -> int:
        """The width of the tables: `USUAL_WIDTH` where it was measured, else the middle one."""
        return USUAL_WIDTH if USUAL_WIDTH in self.widths else self.middle

    @property
    def inequality(self) -> str:
        """What the intervals promise."""
        if self.draws == 1:
            return "there is one draw of each method, and hence no interval"
        return (
            f"[least, largest] of {counted(self.draws, 'independent draw')} covers the median of a method's error with "
            f"probability 1 - 2^(1 - {self.draws}) = {1 - 2.0 ** (1 - self.draws):g} or more: it fails where all draws lie "
            "on one side, each with probability at most 1/2"
        )

    def rows(self) -> tuple[Row, ...]:
        """Return the results, those of all heads in one row, in the order in which they were measured.

        What fits into the budget of multiply-adds on some heads only has no row there: they may be the easy ones.
        """
        from schoenbat_theory.compare.rows import row_of

        heads = Counter(one.name for one in self.targets if not one.undefined)
        groups: dict[tuple[Any, ...], list[Result]] = {}
        for one in self.results:
            groups.setdefault((one.target, one.method, one.basis, one.width if one.basis == "width" else 0), []).append(
                one
            )
        return tuple(
            row_of(group)
            for (target, _, basis, _), group in groups.items()
            if basis == "width" or len(group) == heads[target]
        )

    def sentences(self) -> dict[str, str]:
        """Return target -> which methods are no better than the means of the values, in a sentence computed from the results."""
        from schoenbat_theory.compare.table import sentence

        rows = self.rows()
        return {name: sentence(name, rows) for name in dict.fromkeys(row.target for row in rows)}

    def ratio(self, target: str, method: str, reference: str, basis: str = "width") -> Ratio:
        """Return the error of a method over that of a reference: median over heads, and worst head.

        ``target``  e.g. "unit exp";  ``basis``  "width": both `usual` features wide, or as wide as they are;
        "multiply-adds": both within one budget. Raises ``ValueError`` where they were measured together on no head.
        """
        from schoenbat_theory.compare.ratios import ratio

        found = ratio(self, target, method, reference, basis)
        if found is None:
            raise ValueError(
                f"method, reference: {method!r} and {reference!r} are not both measured against {target!r}"
            )
        return found

    def ratios(self) -> tuple[Ratio, ...]:
        """Return the ratios worth quoting, as far as they were measured."""
        from schoenbat_theory.compare.ratios import ratios

        return tuple(ratios(self))

    def remarks(self) -> list[str]:
        """Return what a reader of the numbers should know besides: notes, and sentences computed from the results."""
        from schoenbat_theory.compare.remarks import remarks

        return [*self.notes, *remarks(self)]

    def failures(self) -> list[str]:
        """Return what does not work of the methods beyond the paper, in sentences computed from the results."""
        from schoenbat_theory.compare.remarks import failures

        return list(failures(self))

    def table(self) -> str:
        """Return the comparison as text for a terminal."""
        from schoenbat_theory.compare.table import table

        return table(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document: schema 1, no NaN or infinity in it; what is undefined is null."""
        return {
            "schema": 1,
            "data": self.data,
            "heads": list(self.heads),
            "timed": self.timed,
            "widths": list(self.widths),
            "draws": self.draws,
            "seed": self.seed,
            "inequality": self.inequality,
            "multiply_adds": RULE,
            "notes": list(self.notes),
            "sentences": self.sentences(),
            "failures": self.failures(),
            "remarks": self.remarks(),
            "ratios": [dataclasses.asdict(one) for one in self.ratios()],
            "environment": environment(),
            "targets": [dataclasses.asdict(one) for one in self.targets],
            "results": [dataclasses.asdict(one) for one in self.results],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the JSON document, and write it to ``path``, whole or not at all, if one is given."""
        return kept(json_text(self.as_dict()), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the comparison as one self-contained HTML page, and write it to ``path`` if one is given."""
        from schoenbat_theory.compare.page import page  # jinja2 and matplotlib are needed from here on

        return kept(page(self), path)

    def _repr_html_(self) -> str:
        return markup.table(("target", "on these heads"), list(self.sentences().items()))


def median(values: Iterable[float]) -> float:
    """Return the median; of an even number of values the mean of the middle two, infinite where one of them is."""
    found = sorted(values)
    middle = found[(len(found) - 1) // 2], found[len(found) // 2]
    return middle[0] if middle[0] == middle[1] else sum(middle) / 2


def counted(n: int, thing: str) -> str:
    """Return "1 draw", "2 draws"."""
    return f"{n} {thing}{'s' * (n != 1)}"


def finite(x: float) -> float | None:
    """Return ``x``, ``None`` where it is infinite."""
    return x if math.isfinite(x) else None
