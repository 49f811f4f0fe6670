"""Cells of a run: each is one check of one proposition, at an address on which its stream and nothing else depends."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import reprlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from schoenbat_theory.activations import Head, shipped_heads
from schoenbat_theory.arrays import backend_asarray
from schoenbat_theory.ledger import settled
from schoenbat_theory.propositions import Cell, Check, Evidence, Proposition, check_name
from schoenbat_theory.sampling import stream
from schoenbat_theory.threads import one_core

__all__ = ["ALPHA_PARTS", "BUDGETS", "CheckError", "Settings", "Task", "in_turn", "tasks_of", "turn"]

ALPHA_PARTS = 128  # each proposition owns alpha / 128, whatever else runs
BUDGETS = {  # draws of a sampled check; repeats of a whole experiment
    "quick": {"draws": 1 << 22, "repeats": 1 << 8},
    "full": {"draws": 1 << 25, "repeats": 1 << 11},
}
_LOCK, _MINE = threading.RLock(), threading.local()


class CheckError(RuntimeError):
    """A check stopped with an error of its own; the message names the proposition, the check and the error."""


@dataclass(frozen=True)
class Settings:
    """What all cells of a run share. It travels with a user's heads in it: workers need not see the archive.

    ``archive``   heads, pickled; ``None`` for the shipped ones, which every worker has
    """

    backend: str
    budget: str
    seed: int
    alpha: float
    archive: bytes | None = field(default=None, repr=False)

    def key(self) -> dict[str, Any]:
        """Return what the numbers of all cells depend on, as JSON's own values; heads as a digest of their content."""
        digest = hashlib.sha256()
        for head in _heads(self.archive):
            digest.update(repr((head.name, head.q.shape, head.k.shape, head.v.shape)).encode())
            for x in (head.q, head.k, head.v):
                digest.update(x.tobytes())
        shared = {name: getattr(self, name) for name in ("seed", "alpha", "budget", "backend")}
        return {**shared, "input": digest.hexdigest()[:16]}


@dataclass(frozen=True)
class Task:
    """A check or a mutant (``kind``: "checks", "mutants") of a proposition, to be run."""

    proposition: Proposition
    kind: str
    check: Check

    @property
    def address(self) -> tuple[str, str, str]:
        """Where the stream of this cell is."""
        return self.proposition.id, self.kind, check_name(self.check)

    @property
    def where(self) -> str:
        """The address, for error messages."""
        return f"proposition {self.proposition.id}, {self.kind[:-1]} {check_name(self.check)!r}"

    def run(self, settings: Settings) -> list[Evidence]:
        """Return the evidence of this cell: named, timed, `settled`, found with BLAS on one thread.

        Raises `CheckError` for a check that fails with an error, and for one that finds no evidence.
        """
        cell = Cell(
            rng=stream(settings.seed, *self.address),
            alpha=settings.alpha / ALPHA_PARTS / len(self.proposition.checks),
            **BUDGETS[settings.budget],
            heads=_heads(settings.archive),
            asarray=backend_asarray(settings.backend),
        )
        with turn(), one_core(), contextlib.redirect_stdout(sys.stderr):
            start = time.perf_counter()
            found = self._check(cell)
            seconds = time.perf_counter() - start
        name, each = self.address[-1], {"seed": settings.seed, "backend": settings.backend}
        named = [
            one.but(name=f"{name}: {one.name}" if one.name else name, seconds=seconds / len(found), **each)
            for one in found
        ]
        try:
            return settled(named)
        except TypeError as error:
            raise CheckError(f"{self.where}: {error}") from None

    def _check(self, cell: Cell) -> list[Evidence]:
        try:
            found: Any = self.check(cell)
            # A generator's body runs here: inside the limits, the clock and this try.
            several = list(found) if isinstance(found, Iterable) else [found]
        except (Exception, SystemExit) as error:  # sys.exit() in a check must not end the run as a success
            raise CheckError(f"{self.where}: {type(error).__name__}: {error}") from error
        wrong = [one for one in several if not isinstance(one, Evidence)]
        if wrong or not several:
            shown = reprlib.repr(found if isinstance(found, str) or not wrong else wrong[0])
            raise CheckError(f"{self.where}: expected Evidence or a non-empty sequence of it, found {shown}")
        return several


def tasks_of(proposition: Proposition) -> list[Task]:
    """Return the cells of a proposition: its checks, then its mutants."""
    return [Task(proposition, kind, check) for kind in ("checks", "mutants") for check in getattr(proposition, kind)]


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Let cells that an engine runs in threads of one process take turns: BLAS's limits and standard output are shared."""
    with _LOCK:
        before, _MINE.turn = in_turn(), True
        try:
            yield
        finally:
            _MINE.turn = before


def in_turn() -> bool:
    """Return whether this thread is inside a cell."""
    return getattr(_MINE, "turn", False)


@functools.lru_cache(maxsize=1)
def _heads(archive: bytes | None) -> tuple[Head, ...]:
    """Return heads, read once in a process; a check that writes into them would spoil those after it."""
    heads: tuple[Head, ...] = shipped_heads() if archive is None else pickle.loads(archive)
    for head in heads:
        for x in (head.q, head.k, head.v):
            x.setflags(write=False)
    return heads
