"""What speed is asked of this package, and what a record shows of it: ratios within one run, medians of paired repeats."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from schoenbat_theory.timings import Timing, Timings
from schoenbat_theory.timings.trends import UPPER, growth

__all__ = ["Threshold", "thresholds", "thresholds_table"]

MAP, EXACT = "random Maclaurin", "exact attention (torch"
HEADS = 4  # of the scenes "attention" and "long"
TORCH = {1024: 2.0, 4096: 9.0, 16384: 35.0}  # n -> how many times as fast as the fastest of torch
LONG, LONGEST = 262_144, 1_048_576


class Threshold(NamedTuple):
    """One line: what is asked, and what a record shows, ``None`` where it does not tell."""

    line: str
    asked: str
    measured: float | None
    holds: bool | None


def thresholds(timings: Timings) -> list[Threshold]:
    """Return every threshold with what this record shows of it.

    Speed-ups over several lengths are the least of them, other figures the worst; lengths below 1,024 do not count.

    >>> {one.holds for one in thresholds(Timings({}, ()))}
    {None}
    """
    timings = dataclasses.replace(timings, cells=tuple(cell for cell in timings.cells if cell.n >= min(TORCH)))
    attention, long = timings.of("attention", MAP), timings.of("long", MAP)
    floors = [cell.floor_ratio for cell in attention if cell.n >= UPPER and cell.floor_ratio is not None]
    paired = [cell for cell in long if UPPER <= cell.n <= LONG]
    grown = growth(paired) if {UPPER, LONG} <= {cell.n for cell in paired} else None
    return [
        *(
            _at_least(times, _faster(timings, "attention", EXACT, n), f"torch's exact attention at {n:,}")
            for n, times in TORCH.items()
        ),
        _at_least(3, _faster(timings, "attention", "random Maclaurin, plain"), "the plain map, in attention"),
        _at_least(4, _faster(timings, "attention", "FAVOR+ (performer"), "performer-pytorch of equal width"),
        _at_least(10, _faster(timings, "maps", "PolynomialCountSketch"), "PolynomialCountSketch of scikit-learn"),
        _threshold(f"floor / time, n >= {UPPER:,}", 0.65, min(floors, default=None), least=True),
        _threshold(f"exponent of time, {UPPER:,} to {LONG:,}", 1.05, None if grown is None else grown.exponent),
        *(
            _threshold(f"MB beyond input and output at {n:,}", 64, _beside([cell for cell in long if cell.n == n]))
            for n in (LONG, LONGEST)
        ),
        _threshold("causal / not causal, in time", 2, _slowest_causal(timings)),
    ]


def thresholds_table(found: Iterable[Threshold]) -> str:
    """Return those thresholds that a record tells of as text for a terminal, empty where it tells of none."""
    return "\n".join(
        f"{'holds' if one.holds else 'FAILS'}  {one.line}: {one.measured:.3g} ({one.asked} asked)"
        for one in found
        if one.measured is not None
    )


def _threshold(line: str, asked: float, measured: float | None, *, least: bool = False) -> Threshold:
    words = f"{'>=' if least else '<='} {asked:g}"
    if measured is None:
        return Threshold(line, words, None, None)
    return Threshold(line, words, measured, measured >= asked if least else measured <= asked)


def _at_least(times: float, measured: float | None, whom: str) -> Threshold:
    return _threshold(f"times as fast as {whom}", times, measured, least=True)


def _faster(timings: Timings, scene: str, peer: str, n: int | None = None) -> float | None:
    """Return how many times as long as the map the fastest method takes whose name begins so, the least over lengths."""
    fastest: dict[int, Timing] = {}
    for cell in timings.of(scene):
        if cell.method.startswith(peer) and n in (None, cell.n):
            fastest[cell.n] = min(cell, fastest.get(cell.n, cell), key=lambda one: one.median)
    ours = {cell.n for cell in timings.of(scene, MAP)}
    ratios = [timings.ratio(scene, cell.method, MAP, cell.n).median for cell in fastest.values() if cell.n in ours]
    return min(ratios, default=None)


def _beside(cells: list[Timing]) -> float | None:
    """Return the megabytes that the one cell there may be held beside its output."""
    outputs = [HEADS * cell.n * cell.e * np.dtype(cell.dtype).itemsize for cell in cells]
    return max(((cell.peak_bytes - out) / 1e6 for cell, out in zip(cells, outputs, strict=True)), default=None)


def _slowest_causal(timings: Timings) -> float | None:
    both = [{cell.n for cell in timings.of("causal", name)} for name in (MAP, f"{MAP}, causal")]
    ratios = [timings.ratio("causal", f"{MAP}, causal", MAP, n).median for n in set.intersection(*both)]
    return max(ratios, default=None)
