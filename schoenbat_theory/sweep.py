"""Sweeps: cells through joblib, in whatever order and on whatever engine; a worker that dies costs time, not numbers.

The engine is the one that the user names with ``joblib.parallel_config``, else joblib's own: processes of this machine.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple

from schoenbat_theory.cells import CheckError, Settings, Task, in_turn, turn
from schoenbat_theory.cluster import mended
from schoenbat_theory.ledger import Key, fingerprint
from schoenbat_theory.loading import UserFile, files_named_in, run_user_file
from schoenbat_theory.propositions import Evidence

__all__ = ["sweep"]

TRIES = 3  # a cell is blamed when so many pools died while it ran

Result = tuple[int, list[Evidence]]


def sweep(
    tasks: Sequence[Task], settings: Settings, *, workers: int | None = None, progress: bool = False, done: int = 0
) -> Generator[Result]:
    """Yield (index of the task, its evidence) as cells finish.

    ``workers``    processes, or threads of the engine; ``None``: what ``joblib.parallel_config`` says, else one per
                   core; 1: here, without any engine
    ``progress``   a bar on standard error, which counts ``done`` cells as finished

    Raises `CheckError` for a check that fails, cannot travel, or ends its worker `TRIES` times; ``RuntimeError`` for
    an engine that gives up.
    """
    import joblib
    from tqdm import tqdm

    engine, configured = joblib.parallel.get_active_backend()
    engine, local = mended(engine), type(engine).__name__ == "LokyBackend"  # local: processes of this machine
    # A check that calls `verify` must not wait for threads that wait for it.
    here = workers == 1 or in_turn() or (local and len(tasks) < 2)
    workers = 1 if here else engine.effective_n_jobs(workers or configured or -1)
    if workers == 1:
        results = _here(tasks, settings)
    else:
        workers = max(2, min(workers, len(tasks)))  # 1 would be this process, which a cell must not end
        results = _elsewhere(tasks, settings, workers, engine, {} if local else fingerprint())
    bar = tqdm(results, total=done + len(tasks), initial=done, unit="check", disable=not progress, leave=False)
    try:
        yield from bar
    finally:
        bar.close()
        results.close()


def _here(tasks: Sequence[Task], settings: Settings) -> Generator[Result]:
    for index, task in enumerate(tasks):
        yield index, task.run(settings)


def _elsewhere(
    tasks: Sequence[Task], settings: Settings, workers: int, engine: Any, expected: Key
) -> Generator[Result]:
    """Run tasks where the engine does, and those of a pool that died once more in a fresh one.

    What ran when a worker died runs last, and alone: the next time there is no doubt which cell it was.
    """
    left, deaths = {i: _pack(task) for i, task in enumerate(tasks)}, Counter[int]()
    while left:
        running: set[int] = set()
        chosen = [i for i in left if not deaths[i]] or [min(left, key=deaths.__getitem__)]
        jobs = _jobs({i: left[i] for i in chosen}, settings, expected, running)
        try:
            for index, evidence in _results(jobs, workers, engine):
                running.discard(index)
                del left[index]
                yield index, evidence
        except CheckError:
            raise
        except BrokenExecutor:  # a worker was killed, or was out of memory
            deaths.update(running)
            for i in running:
                if deaths[i] == TRIES:  # it was alone
                    raise CheckError(f"{tasks[i].where}: {TRIES} times a worker died while this ran") from None
        except Exception as error:
            cells = "; ".join(tasks[i].where for i in sorted(running))
            raise RuntimeError(f"{cells}: the engine gave up, {type(error).__name__}: {error}") from error


def _jobs(packed: dict[int, _Packed], settings: Settings, expected: Key, running: set[int]) -> Iterator[Any]:
    """Yield what joblib runs; ``running`` takes in what it asked for."""
    import joblib

    for index, one in packed.items():
        running.add(index)
        yield joblib.delayed(_run_packed)(index, one, settings, expected)


def _results(jobs: Iterator[Any], workers: int, engine: Any) -> Generator[Result]:
    """Yield results as they come; batch by batch from an engine that cannot do so, e.g. Ray's."""
    import joblib

    options = {"n_jobs": workers, "backend": engine, "batch_size": 1, "pre_dispatch": "n_jobs"}
    try:
        pool = joblib.Parallel(return_as="generator_unordered", **options)
    except ValueError:
        pool = joblib.Parallel(**options)
        while batch := list(itertools.islice(jobs, 4 * workers)):
            yield from pool(batch)
        return
    with _interrupts_held():
        results = pool(jobs)
    try:
        yield from results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that cells which nobody waits for any more are cancelled
            results.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C for a moment: processes started meanwhile never see it, this one sees it afterwards.

    A terminal sends Ctrl-C to the workers too, where it would end as one traceback each. They inherit
    the mask, and this process stops them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # now, since it lifts the mask when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Packed(NamedTuple):
    """A task as it travels, and the users' files that it refers to."""

    where: str
    files: list[UserFile]
    payload: bytes


def _pack(task: Task) -> _Packed:
    import joblib

    try:  # joblib's wrapper brings cloudpickle: functions of a notebook and closures travel by value
        payload = pickle.dumps(joblib.wrap_non_picklable_objects(task, keep_wrapper=False))
    except Exception as error:  # pickle raises many kinds
        reason = f"{type(error).__name__}: {error}"
        raise CheckError(f"{task.where}: cannot be sent to a worker, {reason}; workers=1 runs it here") from error
    return _Packed(task.where, files_named_in(payload), payload)


def _run_packed(index: int, packed: _Packed, settings: Settings, expected: Key) -> Result:
    """Run a task in a worker, after the files that it refers to, if the worker has the same code and libraries."""
    with turn():
        try:
            own = fingerprint() if expected else {}
            if other := [
                f"{name} {own[name]}, expected {expected[name]}" for name in own if own[name] != expected[name]
            ]:
                raise ValueError(f"it has {'; '.join(other)}")
            for file in packed.files:
                if file.module not in sys.modules:
                    run_user_file(file)
            task: Task = pickle.loads(packed.payload)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise CheckError(f"{packed.where}: cannot be received by a worker, {reason}") from error
        return index, task.run(settings)
