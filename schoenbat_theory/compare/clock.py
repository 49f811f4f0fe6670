"""Time and memory of the methods on one head, one after another, with BLAS on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.activations import Head
from schoenbat_theory.compare.approximation import Approximation
from schoenbat_theory.compare.measure import Entry, Measured, alone
from schoenbat_theory.compare.targets import Problem, problem
from schoenbat_theory.timings import peak_of

__all__ = ["clocked"]

REPEATS = 3  # of a run, of which the least counts


class _Ready(NamedTuple):
    """A draw that is made, the seconds that its fit took, and the memory that making and running it took."""

    draw: Approximation
    fit_seconds: float | None
    peak_bytes: int


def clocked(found: Measured, head: Head, seed: int) -> Measured:
    """Return what was found of one target on ``head`` with times and memory.

    Methods take turns, in another order in every repeat, so that what slows the machine slows all of them. A result whose
    first draw has no answer is not timed.
    """
    results = found.results
    if not results:
        return found
    with alone():
        target = problem(found.target.setting, found.target.kernel, head)
        ready = {
            i: _ready(entry, target, seed)
            for i, (entry, one) in enumerate(zip(found.entries, results, strict=True))
            if one.errors[0] is not None
        }
        exact, *seconds = _turns([target.attend, *(one.draw.run for one in ready.values())])
    taken = dict(zip(ready, seconds, strict=True))
    timed = [
        replace(one, seconds=taken[i], fit_seconds=ready[i].fit_seconds, peak_bytes=ready[i].peak_bytes)
        if i in ready
        else one
        for i, one in enumerate(results)
    ]
    return found._replace(target=replace(found.target, seconds=exact), results=timed)


def _ready(entry: Entry, target: Problem, seed: int) -> _Ready:
    start = time.perf_counter()
    law = entry.fitted(target)
    fit_seconds = time.perf_counter() - start

    def whole() -> Approximation:
        draw = entry.draw(law, target, seed, 0)
        draw.run()
        return draw

    draw, peak = peak_of(whole)
    return _Ready(draw, fit_seconds if entry.is_fitted(target) else None, peak)


def _turns(runs: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the least seconds of each."""
    seconds: list[list[float]] = [[] for _ in runs]
    for repeat in range(REPEATS):
        for i in np.roll(range(len(runs)), repeat):
            start = time.perf_counter()
            runs[i]()
            seconds[i].append(time.perf_counter() - start)
    return [min(taken) for taken in seconds]
