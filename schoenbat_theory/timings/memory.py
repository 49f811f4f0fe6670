"""Memory of one call, as NumPy reports it and as the system does."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["peak_of", "resident_of"]

PROCESS = Path("/proc/self")  # of Linux; elsewhere there is none
Found = TypeVar("Found")


def peak_of(run: Callable[[], Found]) -> tuple[Found, int]:
    """Return what ``run`` returns, and the most memory held at a time meanwhile, in bytes, as tracemalloc sees it."""
    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        found = run()
        return found, tracemalloc.get_traced_memory()[1] - before
    finally:
        if ours:
            tracemalloc.stop()


def resident_of(run: Callable[[], Found]) -> tuple[Found, int | None]:
    """Return what ``run`` returns, and by how many bytes the memory of the process grew meanwhile, at its peak.

    All memory that is touched counts, also that of libraries which do not use NumPy. What is kept from earlier calls does
    not, by a library or by the allocator for a thread that is still there: take the larger of this and `peak_of`. Right to
    some hundred kB, as the kernel counts. ``None`` where the system does not tell: elsewhere than on Linux.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before is taken again unseen
    try:
        (PROCESS / "clear_refs").write_text("5")  # from here on the peak is that of now
        before = _peak()
    except (OSError, StopIteration):
        return run(), None
    found = run()
    return found, max(_peak() - before, 0)


def _peak() -> int:
    """Return the largest resident set since the last reset, in bytes."""
    lines = (PROCESS / "status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
