"""Who is timed takes turns: what slows the machine for a while slows everybody, and ratios within a repeat stay right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["LEAST", "take_turns"]

LEAST, MOST = 3, 25  # repeats of a run
LONG = 1.0  # seconds of a run that warms up while it runs
WARM = 0.05  # seconds; idle threads of OpenBLAS spin for 2^26 cycles, some 20 ms


def take_turns(
    runs: Sequence[Callable[[], object]],
    least: int = LEAST,
    *,
    enough: float = 0.0,
    warm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[float, ...]]:
    """Return the seconds of every repeat of every run; in each repeat they take turns, each time another one first.

    All are repeated ``least`` times. Those whose repeats took less than ``enough`` seconds together are repeated on until
    they did, or 25 times: what takes a moment is easily disturbed. Repeats with the same index belong together.

    ``warm``   untimed runs of at least `WARM` seconds together go before every timed one: idle threads of BLAS or of another
               library, which wait for work without sleeping for a while, have gone to sleep, caches are those of this run,
               and the cores are awake, which they are not after a rest; what takes a second needs none
    ``clock``  seconds

    >>> now = iter(range(100))
    >>> take_turns([lambda: None, lambda: None], 2, clock=lambda: next(now))
    [(1, 1), (1, 1)]
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for repeat in range(max(least, MOST)):
        now = [i for i, taken in enumerate(seconds) if repeat < least or sum(taken) < enough]
        if not now:
            break
        for i in np.roll(now, repeat):  # nobody always follows the same one
            if warm and min(seconds[i], default=0.0) < LONG:
                _warm_up(runs[i], clock)
            start = clock()
            runs[i]()
            seconds[i].append(clock() - start)
    return [tuple(taken) for taken in seconds]


def _warm_up(run: Callable[[], object], clock: Callable[[], float]) -> None:
    """Run once, and again until `WARM` seconds are over."""
    start = clock()
    run()
    while clock() < start + WARM:
        run()
