"""Time and memory of the methods on one head, one after another, with BLAS on one thread."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

from schoenbat_theory.activations import Head
from schoenbat_theory.compare.approximation import Approximation
from schoenbat_theory.compare.measure import Entry, Measured, alone
from schoenbat_theory.compare.targets import Problem, problem
from schoenbat_theory.timings import peak_of, take_turns

__all__ = ["clocked"]


class _Ready(NamedTuple):
    """A draw that is made, the seconds that its fit took, and the memory that making and running it took."""

    draw: Approximation
    fit_seconds: float | None
    peak_bytes: int


def clocked(found: Measured, head: Head, seed: int) -> Measured:
    """Return what was found of one target on ``head`` with times and memory.

    Methods take turns, in another order in every repeat, and the least of three counts. A result whose first draw has no
    answer is not timed.
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
        exact, *seconds = map(min, take_turns([target.attend, *(one.draw.run for one in ready.values())]))
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
