"""What a stress test found: as objects, as a table for a terminal, as JSON; the page is beside."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schoenbat_theory import markup
from schoenbat_theory.attention.sharpness import FAMILIES, WORKS
from schoenbat_theory.compare.quantities import finite
from schoenbat_theory.environment import environment
from schoenbat_theory.files import json_text, kept

__all__ = ["COVERED", "EXACT", "LIMIT", "MISSED", "REFUSED", "RULED", "Case", "Point", "Stress"]

COVERED, MISSED, REFUSED, EXACT = "covered", "missed", "refused", "exact"  # what became of a certificate
LIMIT = 1.05  # times the better mean: beyond that a method does harm
RULED = {
    "first order": "first order, recentred",
    "monomials": "optimized Maclaurin, with values",
    "local": "local expansions",
}


@dataclass(frozen=True)
class Case:
    """One method on one input of one head, a number or a word per seed.

    ``errors``        relative Frobenius errors of the whole output; infinite where it overflows or divides by 0
    ``ratios``        the same over that of the better mean of the values, plain or weighted, on that input
    ``certificates``  "covered": the interval holds the error;  "missed": it does not;  "refused": there is none;
                      "exact": the answer is the exact one, with nothing to certify
    ``chosen``        what it decided for, of a method that decides; else nothing
    """

    head: str
    input: str
    method: str
    errors: tuple[float, ...] = field(repr=False)
    ratios: tuple[float, ...] = field(repr=False)
    certificates: tuple[str, ...] = field(repr=False)
    chosen: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Point:
    """One head or other input at one temperature: what `sharpness` says of it, and what errors there are.

    ``beta``  its logits are those of softmax attention times this
    ``errors``  method -> relative Frobenius error of the whole output, one draw
    """

    head: str
    beta: float
    spread: float
    divergence: float
    dimension: float
    tail: float
    effective_keys: float
    row_keys: float
    family: str
    errors: dict[str, float] = field(repr=False)

    @property
    def enough(self) -> str:
        """The cheapest family whose error is at most `WORKS`."""
        return next((one for one in RULED if self.errors[RULED[one]] <= WORKS), FAMILIES[-1])

    @property
    def error(self) -> float:
        """The error of the family that the rule names; 0 for the exact one."""
        return self.errors[RULED[self.family]] if self.family in RULED else 0.0

    @property
    def judged(self) -> str:
        """How the rule did: "right", "dearer than needed", or "too cheap": what it names errs by more than `WORKS`."""
        return "right" if self.family == self.enough else "dearer than needed" if self.error <= WORKS else "too cheap"


@dataclass(frozen=True)
class Stress:
    """The cases and the curve of a stress test, and what is needed to repeat it.

    ``curve``  points of all heads and temperatures;  ``afresh``  points on which the rule of `sharpness` was not set
    ``rows, level``  of the certificates;  ``width``  of the maps;  ``data``  where the heads are from
    """

    cases: tuple[Case, ...] = field(repr=False)
    curve: tuple[Point, ...] = field(repr=False)
    afresh: tuple[Point, ...] = field(repr=False)
    heads: tuple[str, ...]
    inputs: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    seed: int
    rows: int
    level: float
    width: int
    data: str

    def of(self, method: str, input: str | None = None) -> list[Case]:
        """Return the cases of a method, on one input or on all."""
        return [one for one in self.cases if one.method == method and input in (None, one.input)]

    def table(self) -> str:
        """Return the stress test as text for a terminal."""
        from schoenbat_theory.compare.stress.table import table

        return table(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document: schema 1, no NaN or infinity in it; an error that is infinite is null."""
        names = ("data", "heads", "inputs", "methods", "seeds", "seed", "rows", "level", "width")
        return {
            "schema": 1,
            **{name: _plain(getattr(self, name)) for name in names},
            "environment": environment(),
            "cases": [_plain(dataclasses.asdict(one)) for one in self.cases],
            "curve": [_judged(one) for one in self.curve],
            "afresh": [_judged(one) for one in self.afresh],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the JSON document, and write it to ``path``, whole or not at all, if one is given."""
        return kept(json_text(self.as_dict()), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the stress test as one self-contained HTML page, and write it to ``path`` if one is given."""
        from schoenbat_theory.compare.stress.page import page  # jinja2 and matplotlib are needed from here on

        return kept(page(self), path)

    def _repr_html_(self) -> str:
        from schoenbat_theory.compare.stress.table import HARM, harm

        return markup.table(HARM, harm(self))


def _judged(point: Point) -> dict[str, Any]:
    return {**_plain(dataclasses.asdict(point)), "enough": point.enough, "judged": point.judged}


def _plain(value: Any) -> Any:
    """Return nested fields as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return finite(value) if isinstance(value, float) else value
