"""What the numbers of a comparison do not say by themselves, in sentences computed from them."""

from __future__ import annotations

from collections.abc import Iterator

from schoenbat_theory.compare.results import BASELINE, ROUNDING, Comparison, median

__all__ = ["remarks"]


def remarks(comparison: Comparison) -> Iterator[str]:
    """Yield which methods are fitted, which save nothing, and which are the mean of the values in disguise."""
    yield from _fitted(comparison)
    yield from _dear(comparison)
    yield from _means(comparison)


def _fitted(comparison: Comparison) -> Iterator[str]:
    seconds = {one.method: one.fit_seconds for one in comparison.results if one.fit_seconds is not None}
    longest = max((one.fit_seconds for one in comparison.results if one.fit_seconds is not None), default=0.0)
    exact = max((one.seconds for one in comparison.targets if one.seconds is not None), default=0.0)
    if seconds:
        yield (
            f"Fitted to queries and keys of each head before anything is drawn: {'; '.join(seconds)}. That is in none of the "
            f"costs and times; it took up to {1e3 * longest:.1f} ms, exact attention up to {1e3 * exact:.1f} ms."
        )


def _dear(comparison: Comparison) -> Iterator[str]:
    """At any width that was asked for, against any target: the cost of a map may depend on what it is fitted to."""
    exact = median(one.multiply_adds for one in comparison.targets)
    dear: dict[str, set[int]] = {}
    for row in comparison.rows():
        if row.basis == "width" and row.multiply_adds is not None and row.multiply_adds >= exact:
            dear.setdefault(row.method, set()).add(row.features or 0)
    if dear:
        listed = (f"{method} ({', '.join(f'{one:,}' for one in sorted(widths))})" for method, widths in dear.items())
        yield (
            f"Exact attention takes {exact:,.0f} multiply-adds per query at this length. As many or more, against some target, "
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
