"""All cores for arrays of NumPy: pieces of work on one thread per core, BLAS on one thread inside each.

BLAS by itself uses all cores for large products alone, and leaves them idle during everything between two products.
Pieces have a size that does not depend on the number of cores and their results come in order, so neither do the bits.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from schoenbat_theory.arrays import Array

__all__ = ["CORES", "each", "one_core"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Task = TypeVar("Task")
Found = TypeVar("Found")
_serial = contextvars.ContextVar("serial", default=False)  # inside a piece, and inside `one_core`
# A single task may share its own pieces; of several threads of the user the first has the cores.
_cores = threading.RLock()


def each(work: Callable[[Task], Found], tasks: Iterable[Task], like: Array | None) -> list[Found]:
    """Return ``work(task)`` for every task, in their order; on all cores where ``like`` is an array of NumPy.

    Else tasks are worked on one after another: other libraries have threads or streams of their own. So is what is
    called from within a piece, within `one_core`, or while another thread has the cores. The first exception is raised once
    no piece is running any more.

    >>> each(lambda x: x * x, range(5), np.zeros(1))
    [0, 1, 4, 9, 16]
    """
    tasks, cores = list(tasks), _cores
    if not isinstance(like, np.ndarray) or _serial.get() or not cores.acquire(blocking=False):
        return [work(task) for task in tasks]
    try:
        with _blas().limit(limits=1):
            helpers = min(CORES, len(tasks)) - 1
            return _shared(work, tasks, helpers) if helpers > 0 else [work(task) for task in tasks]
    finally:
        cores.release()


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep to one core: `each` and all libraries use one thread inside, as is right where other processes have the others."""
    import threadpoolctl

    token = _serial.set(True)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        _serial.reset(token)


def _shared(work: Callable[[Task], Found], tasks: list[Task], helpers: int) -> list[Found]:
    """Work on tasks in this thread and in ``helpers`` others; who is free takes the next one."""
    found: list[Any] = [None] * len(tasks)
    turn = itertools.count()  # its next() is atomic
    failed = threading.Event()

    def take() -> None:
        _serial.set(True)
        while not failed.is_set() and (i := next(turn)) < len(tasks):
            try:
                found[i] = work(tasks[i])
            except BaseException:
                failed.set()
                raise

    others: list[Future[None]] = []
    try:
        _ask(others, take, helpers)
        contextvars.copy_context().run(take)
    finally:
        failed.set()  # nothing is left to take, or something failed
        errors = [one.exception() for one in others if not one.cancel()]
    for error in errors:
        if error is not None:
            raise error
    return found


def _ask(others: list[Future[None]], take: Callable[[], None], helpers: int) -> None:
    """Add to ``others`` the helpers that take tasks from now on; none once the main thread has ended."""
    try:
        for _ in range(helpers):
            # Settings such as numpy.errstate belong to a context, and a context to one thread at a time.
            others.append(_pool().submit(contextvars.copy_context().run, take))
    except RuntimeError:  # Python starts no more work then, though other threads of the user may go on
        if threading.main_thread().is_alive():
            raise


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return the helpers, kept: to start a thread takes as long as a short sequence."""
    return ThreadPoolExecutor(max(CORES - 1, 1), thread_name_prefix="schoenbat-theory")


@functools.cache
def _blas() -> Any:
    """Return what controls BLAS; found once, as to look through all loaded libraries takes milliseconds."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _alone() -> None:
    """Forget the helpers, and who had the cores: threads do not survive a fork."""
    global _cores
    _cores = threading.RLock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
