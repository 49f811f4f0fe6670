"""Run every trial many times, on any number of processes: the same record in any order."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from schoenbat_theory.arrays import require_int, require_real
from schoenbat_theory.power.controls import controls, curves
from schoenbat_theory.power.mutants import mutants, twins
from schoenbat_theory.power.record import Power
from schoenbat_theory.power.trial import Tally, Trial
from schoenbat_theory.sampling import stream
from schoenbat_theory.threads import one_core

__all__ = ["in_processes", "power", "trials"]

BLOCK = 50  # runs that a process does at a time
PARTS = {"mutant": 2, "twin": 2, "curve": 10}  # groups that get a part of the runs, one in so many

Address = tuple[str, str, str, str]
Result = TypeVar("Result")


def power(
    *, runs: int = 2000, seed: int = 0, alpha: float = 0.05, workers: int | None = None, progress: bool = False
) -> Power:
    """Run every check on correct estimators, on mutants of the library and at graded distances, and count verdicts.

    ``runs``     of every correct estimator, three times as many on target where a check is asymptotic, whose rate comes
                 close to alpha; mutants and their unbroken twins get a half, each point of a power curve a tenth
    ``seed``     root of all streams;  ``alpha``  error rate that each check is given
    ``workers``  processes, ``None`` for one per core;  ``progress``  a bar on standard error

    The result does not depend on ``workers``. Raises ``ValueError`` or ``TypeError`` for an argument that does not fit.

    >>> result = power(runs=1, workers=1)
    >>> len(result.group("mutant")), result.group("mutant")[0].trial.name
    (15, 'all-zero answer')
    """
    runs, seed = require_int("runs", runs, 1), require_int("seed", seed, 0)
    alpha = require_real("alpha", alpha, "a number in (0, 1)", lambda a: 0 < a < 1)
    workers = None if workers is None else require_int("workers", workers, 1)
    tallies = {address: Tally(trial) for address, trial in trials().items()}
    blocks = []
    for address, tally in tallies.items():
        total = _share(tally.trial, runs)
        starts = range(0, total, BLOCK)
        blocks += [(address, range(first, min(first + BLOCK, total)), seed, alpha) for first in starts]
    for address, found in in_processes(_block, blocks, workers, progress):
        for verdict, draws in found:
            tallies[address].add(verdict, draws)
    return Power(list(tallies.values()), runs, seed, alpha)


@functools.cache
def trials() -> dict[Address, Trial]:
    """Return all trials by address; a process makes them once."""
    return {trial.address: trial for trial in itertools.chain(controls(), twins(), mutants(), curves())}


def in_processes(
    function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], workers: int | None, progress: bool
) -> Iterator[Result]:
    """Yield function(*task) of every task as it is found, in any order; one worker runs here, ``None``: one per core."""
    import joblib
    from tqdm import tqdm

    if workers == 1:
        results: Any = itertools.starmap(function, tasks)
    else:
        pool = joblib.Parallel(n_jobs=workers or joblib.cpu_count(), return_as="generator_unordered")
        results = pool(joblib.delayed(function)(*task) for task in tasks)
    yield from tqdm(results, total=len(tasks), unit="block", disable=not progress, leave=False)


def _share(trial: Trial, runs: int) -> int:
    """Return how many runs a trial gets."""
    if trial.asymptotic and trial.group == "on target":
        return 3 * runs
    return -(-runs // PARTS.get(trial.group, 1))


def _block(address: Address, which: range, seed: int, alpha: float) -> tuple[Address, list[tuple[str, int]]]:
    """Run a trial some times, each on its own stream."""
    trial, found = trials()[address], []
    with one_core():
        for i in which:
            evidence = trial.decide(stream(seed, "power", *address, str(i)), alpha)
            found.append((str(evidence.verdict), evidence.draws))
    return address, found
