"""What the numbers of a comparison do not say by themselves, in sentences computed from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.quantities import ROUNDING, median, short
from schoenbat_theory.compare.results import BASELINE, BEYOND_THE_PAPER
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.markup import decimal

__all__ = ["failures", "remarks"]

HALF = 0.5  # of the error of the better baseline: who leaves more has not found much
TWICE = 2.0


def failures(comparison: Comparison) -> Iterator[str]:
    """Yield where methods beyond the paper do not work, and where another of them is better and cheaper."""
    rows = _widest(comparison)
    yield from _poor(rows)
    yield from _beaten([row for row in rows if row.kernel == "exp"])


def remarks(comparison: Comparison) -> Iterator[str]:
    """Yield what was chosen, what is fitted, what saves nothing, and which methods are the mean of the values in disguise."""
    yield from _chosen(comparison)
    yield from _fitted(comparison)
    yield from _dear(comparison)
    yield from _means(comparison)


def _widest(comparison: Comparison) -> list[Row]:
    """Return of every method, against every target, the row of its largest width."""
    rows = [row for row in comparison.rows() if row.basis == "width"]
    return list({(row.target, row.method): row for row in sorted(rows, key=lambda row: row.width or 0)}.values())


def _poor(rows: Sequence[Row]) -> Iterator[str]:
    """Methods beyond the paper that leave most of the error of a mean of the values."""
    said = []
    for target in dict.fromkeys(row.target for row in rows):
        mine = [row for row in rows if row.target == target]
        failed = [row for row in mine if row.family == BEYOND_THE_PAPER and (row.skill is None or row.skill < 1 - HALF)]
        if failed:
            said.append(f"{target}: {'; '.join(f'{row.method} (error {short(row.error)})' for row in failed)}")
    if said:
        yield (
            "What does not work: methods beyond the paper that leave more than half of the error of the better mean of the values, "
            f"median over heads. {'. '.join(said)}."
        )


def _beaten(rows: Sequence[Row]) -> Iterator[str]:
    """Methods beyond the paper that err more than `TWICE` as much as another of them that costs less."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.family == BEYOND_THE_PAPER:
            others = [one for one in rows if one.target == row.target and one.family == BEYOND_THE_PAPER]
            best = _better(row, others)
            if best is not None and row.error is not None and best.error and row.error > TWICE * best.error:
                times = row.error / best.error
                said.setdefault(row.method, []).append(f"{row.target} ({best.method}, {decimal(times, times / 10)})")
    listed = [f"{method}: {'; '.join(targets)}" for method, targets in said.items()]
    if listed:
        yield (
            "With kernel exp, methods beyond the paper that err more than twice as much as another of them that takes fewer multiply-adds, "
            f"with that one and the factor. {'. '.join(listed)}."
        )


def _better(row: Row, others: Sequence[Row]) -> Row | None:
    """Return the one with the least error of those that cost less."""
    found = [
        one for one in others if one.error is not None and (one.multiply_adds or math.inf) < (row.multiply_adds or 0.0)
    ]
    return min(found, key=lambda one: one.error or 0.0, default=None)


def _chosen(comparison: Comparison) -> Iterator[str]:
    """What methods decided for that decide."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in comparison.results:
        if one.basis == "width" and one.width in (comparison.usual, None) and one.chosen:
            counts.setdefault((one.method, one.target), Counter()).update(one.chosen)
    for method in dict.fromkeys(name for name, _ in counts):
        said = (
            f"{target}: {', '.join(f'{what} ({number})' for what, number in found.most_common())}"
            for (name, target), found in counts.items()
            if name == method
        )
        yield f"What {method} decided for, and in how many draws on all heads. {'. '.join(said)}."


def _fitted(comparison: Comparison) -> Iterator[str]:
    seconds = {one.method: one.fit_seconds for one in comparison.results if one.fit_seconds is not None}
    longest = max((one.fit_seconds for one in comparison.results if one.fit_seconds is not None), default=0.0)
    exact = max((one.seconds for one in comparison.targets if one.seconds is not None), default=0.0)
    if seconds:
        yield (
            f"Fitted to queries and keys of each head before anything is drawn: {'; '.join(seconds)}. That is in their "
            f"multiply-adds and times; it took up to {1e3 * longest:.1f} ms, exact attention up to {1e3 * exact:.1f} ms."
        )


def _dear(comparison: Comparison) -> Iterator[str]:
    """At any width that was asked for, against any target: the cost of a map may depend on what it is fitted to."""
    exact = {one.name: one.multiply_adds for one in comparison.targets if not one.undefined}
    dear: dict[str, set[int]] = {}
    for row in comparison.rows():
        if row.basis == "width" and row.multiply_adds is not None and row.multiply_adds >= exact[row.target]:
            dear.setdefault(row.method, set()).add(row.width or row.features or 0)
    if dear:
        usual = median(exact.values())
        listed = (f"{method} ({', '.join(f'{one:,}' for one in sorted(widths))})" for method, widths in dear.items())
        yield (
            f"Exact attention takes {usual:,.0f} multiply-adds per query at this length. As many or more, against some target, "
            f"at the widths in brackets: {'; '.join(listed)}: they save nothing there."
        )


def _means(comparison: Comparison) -> Iterator[str]:
    """Each method at its largest width: one whose features are all constant is the mean of the values."""
    means = {(one.target, one.head): one.error for one in comparison.results if one.method == "mean of the values"}
    widest = {
        (one.target, one.head, one.method): one.error
        for one in sorted(comparison.results, key=lambda one: one.width or 0)
        if one.basis == "width" and one.family != BASELINE
    }
    found: dict[tuple[str, str], list[str]] = {}
    for (target, head, method), error in widest.items():
        mean = means.get((target, head))
        if error is not None and mean is not None and mean > ROUNDING and abs(error - mean) <= ROUNDING:
            found.setdefault((target, head), []).append(method)
    for (target, head), methods in found.items():
        yield f"{target}, {head}: the error is that of the mean of the values, to rounding, for {'; '.join(methods)}."
