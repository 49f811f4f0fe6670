"""How much smaller the error of a method is than that of another, head by head: the thresholds worth quoting, as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.quantities import finite, median
from schoenbat_theory.compare.results import Result

__all__ = ["QUOTED", "RATIO_COLUMNS", "Ratio", "ratio", "ratio_rows", "ratios"]

RATIO_COLUMNS = (
    "target: method beside another",
    "error, median over heads",
    "worst head",
    "multiply-adds",
    "of the other",
)
QUOTED = (  # target, basis, method, reference
    *(
        (target, "width", method, "random Maclaurin")
        for target in ("released exp", "unit exp", "isotropic exp")
        for method in ("optimized Maclaurin, with values", "optimized Maclaurin, recentred", "first order, recentred")
    ),
    *(
        ("raw exp", basis, method, "positive, orthogonal")
        for basis in ("width", "multiply-adds")
        for method in ("local expansions", "approximate attention")
    ),
)


@dataclass(frozen=True)
class Ratio:
    """The error of a method over that of a reference, on the same heads.

    ``target, basis``  as in `Result`;  ``width``  asked of both where the basis is "width", else ``None``
    ``method, reference``  their names;  ``heads``  on how many both were measured
    ``median, worst``  of the ratios over heads, the largest; ``None`` where it is infinite
    ``multiply_adds, reference_multiply_adds``  medians over heads, ``None`` where unknown;  ``budget``  of the target
    """

    target: str
    basis: str
    width: int | None
    method: str
    reference: str
    heads: int
    median: float | None
    worst: float | None
    multiply_adds: float | None
    reference_multiply_adds: float | None
    budget: float | None


def ratio(comparison: Comparison, target: str, method: str, reference: str, basis: str) -> Ratio | None:
    """Return how two methods compare; ``None`` where they were measured together on no head.

    On the basis "width" both are taken at `Comparison.usual`, or at the one width that a method has.
    """
    errors, others = (_by_head(comparison, target, name, basis) for name in (method, reference))
    both = [head for head in errors if head in others]
    if not both:
        return None
    found = [_quotient(errors[head].error, others[head].error) for head in both]
    budgets = [one.budget for one in comparison.targets if one.name == target and one.budget is not None]
    return Ratio(
        target,
        basis,
        comparison.usual if basis == "width" else None,
        method,
        reference,
        len(both),
        finite(median(found)),
        finite(max(found)),
        _cost(errors[head] for head in both),
        _cost(others[head] for head in both),
        budgets[0] if budgets else None,
    )


def ratios(comparison: Comparison) -> Iterator[Ratio]:
    """Yield the comparisons of `QUOTED` that were measured."""
    for target, basis, method, reference in QUOTED:
        found = ratio(comparison, target, method, reference, basis)
        if found is not None:
            yield found


def ratio_rows(found: Sequence[Ratio]) -> list[list[str]]:
    """Return ratios as rows of texts under `RATIO_COLUMNS`."""
    within = {"width": "", "multiply-adds": ", at equal multiply-adds"}
    return [
        [
            f"{one.target}: {one.method} beside {one.reference}{within[one.basis]}",
            *map(_part, (one.median, one.worst)),
            *("–" if x is None else f"{x:,.0f}" for x in (one.multiply_adds, one.reference_multiply_adds)),
        ]
        for one in found
    ]


def _by_head(comparison: Comparison, target: str, method: str, basis: str) -> dict[str, Result]:
    asked = (comparison.usual, None)
    return {
        one.head: one
        for one in comparison.results
        if (one.target, one.method, one.basis) == (target, method, basis) and (basis != "width" or one.width in asked)
    }


def _quotient(error: float | None, other: float | None) -> float:
    """Return the quotient of two errors: infinite where the first is undefined, 0 where the second alone is."""
    if error is None:
        return math.inf
    return 0.0 if other is None else error / other if other else math.inf


def _cost(results: Iterable[Result]) -> float | None:
    known = [one.multiply_adds for one in results if one.multiply_adds is not None]
    return median(known) if known else None


def _part(x: float | None) -> str:
    """Return a ratio as a part of one where it is small."""
    if x is None:
        return "∞"
    return f"1/{1 / x:,.0f}" if 0 < x < 0.1 else f"1/{1 / x:.1f}" if 0 < x < 0.95 else f"{x:.2g}"
