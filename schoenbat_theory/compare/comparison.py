"""What a comparison of methods on real heads found: as objects, as a table for a terminal, as JSON; the page is beside."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schoenbat_theory import markup
from schoenbat_theory.attention.costs import RULE
from schoenbat_theory.compare.quantities import counted
from schoenbat_theory.compare.results import Result, Target
from schoenbat_theory.compare.rows import Row, row_of
from schoenbat_theory.environment import environment
from schoenbat_theory.files import json_text, kept

if TYPE_CHECKING:
    from schoenbat_theory.compare.ratios import Ratio

__all__ = ["Comparison"]

USUAL_WIDTH = 256


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
