"""What timed cells show: how time grows with n, speed-ups and where they begin, and what no other method beats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schoenbat_theory.timings.record import Ratio, Timing, Timings

__all__ = ["Growth", "break_even", "fastest_exact", "front", "growth", "questions", "speed_ups", "upper"]

UPPER = 4096  # from here on calls of functions are a small part of the time


@dataclass(frozen=True)
class Growth:
    """Time as n to a power, from length ``start`` to ``stop``.

    ``exponent``  median of the least-squares slopes of log time on log n, one slope per repeat;  ``repeats``  how many
    ``low, high``  smallest and largest of them: these hold the median of the law of such a slope with probability
    1 - 2^(1 - repeats) where repeats are independent, as each slope is below it, and above it, with probability 1/2 at most
    ``ends``  seconds of the fitted line at ``start`` and ``stop``
    """

    exponent: float
    low: float
    high: float
    start: int
    stop: int
    repeats: int
    ends: tuple[float, float]


def upper(cells: Sequence[Timing]) -> list[Timing]:
    """Return the cells from n = 4,096 on where two or more lengths are left, else all of them."""
    long = [cell for cell in cells if cell.n >= UPPER]
    return long if len({cell.n for cell in long}) > 1 else list(cells)


def growth(cells: Sequence[Timing]) -> Growth | None:
    """Return how the time of one method grows over its `upper` lengths; ``None`` where fewer than two were timed.

    ``cells``  of one method, at most one per length, by rising n
    """
    cells = [cell for cell in upper(cells) if cell.seconds and min(cell.seconds) > 0]
    if len(cells) < 2:
        return None
    repeats = min(len(cell.seconds) for cell in cells)
    times = np.log([cell.seconds[:repeats] for cell in cells])
    sizes = np.log([cell.n for cell in cells])
    centred = sizes - sizes.mean()
    slopes = centred @ times / (centred @ centred)
    exponent = float(np.median(slopes))
    ends = np.exp(np.median(times.mean(axis=0)) + exponent * centred[[0, -1]])
    return Growth(
        exponent, float(slopes.min()), float(slopes.max()), cells[0].n, cells[-1].n, repeats, (float(ends[0]), float(ends[1]))
    )  # fmt: skip


def questions(cells: Iterable[Timing]) -> list[list[Timing]]:
    """Return the cells that answer one question, apart: all keys, and those up to the query."""
    found: dict[bool, list[Timing]] = {}
    for cell in cells:
        found.setdefault(cell.causal, []).append(cell)
    return list(found.values())


def fastest_exact(cells: Iterable[Timing]) -> dict[int, Timing]:
    """Return n -> the exact method with the smallest median there; ``cells`` answer one question."""
    slowest_first = sorted((cell for cell in cells if cell.size is None), key=lambda cell: -cell.median)
    return {cell.n: cell for cell in slowest_first}


def speed_ups(timings: Timings, scene: str) -> dict[str, dict[int, Ratio]]:
    """Return approximation -> n -> time of the fastest exact method there over its own, where both answer one question."""
    found: dict[str, dict[int, Ratio]] = {}
    for cells in questions(timings.of(scene)):
        exact = fastest_exact(cells)
        for cell in cells:
            if cell.size is not None and cell.n in exact:
                ratio = timings.ratio(scene, exact[cell.n].method, cell.method, cell.n)
                found.setdefault(cell.method, {})[cell.n] = ratio
    return found


def break_even(ratios: Mapping[int, float]) -> float | None:
    """Return the length from which on all ratios are 1 or more, between lengths by a straight line in logarithms.

    ``ratios``  n -> speed-up;  returns the smallest n where that holds at all of them, ``None`` where it fails at the largest

    >>> round(break_even({1024: 0.5, 4096: 2.0})), break_even({1024: 3.0}), break_even({1024: 2.0, 4096: 0.5})
    (2048, 1024.0, None)
    """
    lengths = sorted(ratios)
    below = [i for i, n in enumerate(lengths) if ratios[n] < 1]
    if not below:
        return float(lengths[0])
    if below[-1] == len(lengths) - 1:
        return None
    pair = lengths[below[-1] : below[-1] + 2]
    return float(np.exp(np.interp(0.0, np.log([ratios[n] for n in pair]), np.log(pair))))


def front(cells: Iterable[Timing]) -> list[Timing]:
    """Return the methods that no other beats in time and error both, fastest first; ``cells`` are of one length.

    An exact method counts as without error: its rounding is not compared.
    """
    found: list[Timing] = []
    for cell in sorted(cells, key=lambda one: (one.median, _error(one))):
        if not found or _error(cell) < _error(found[-1]):
            found.append(cell)
    return found


def _error(cell: Timing) -> float:
    return 0.0 if cell.size is None else cell.error
