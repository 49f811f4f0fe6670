"""Run propositions: cells in parallel, verdicts in order, one report.

A cell is one check of one proposition. Its stream, its share of alpha and its input depend on nothing
but its address, so the report is the same for any selection, order and number of workers.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import pkgutil
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import threadpoolctl

from schoenbat_theory.activations import load_heads, shipped_heads
from schoenbat_theory.arrays import backend_asarray
from schoenbat_theory.propositions import Cell, Check, Evidence, Proposition, check_name
from schoenbat_theory.results import Outcome, Report
from schoenbat_theory.sampling import stream

__all__ = ["BUDGETS", "CheckError", "builtin_propositions", "find", "load_propositions", "verify"]

ALPHA_PARTS = 128  # each proposition owns alpha / 128, whatever else runs
BUDGETS = {  # draws of a sampled check; repeats of a whole experiment
    "quick": {"draws": 1 << 22, "repeats": 1 << 8},
    "full": {"draws": 1 << 25, "repeats": 1 << 11},
}


class CheckError(RuntimeError):
    """A check stopped with an error of its own; the message names the proposition, the check and the error."""


def verify(
    ids_or_propositions: Iterable[str | Proposition] | str | None = None,
    *,
    qkv: str | os.PathLike[str] | None = None,
    backend: str = "numpy",
    budget: str = "quick",
    seed: int = 0,
    alpha: float = 1e-3,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Decide propositions and return a `Report`.

    ``ids_or_propositions``  ids such as "P05", paths of files that define propositions, `Proposition`
                             objects, or ``None`` for all that are installed; an id brings its file's repair along
    ``qkv``       archive of real heads (`load_heads`); ``None``: the shipped ones
    ``backend``   "numpy" or "cupy";  ``budget``  "quick" or "full", a table of draws
    ``seed``      root of all streams;  ``alpha``  error rate, of which each proposition owns 1/128
    ``workers``   processes, ``None`` for one per core;  ``progress``  a bar on standard error

    Raises ``ValueError`` for an unknown id, budget or backend and for unreadable input, ``RuntimeError``
    for a backend that this machine lacks, `CheckError` for a check that fails with an error. Ctrl-C returns what is decided so far, status "interrupted".

    >>> verify("P01", workers=1).status
    'as-expected'
    """
    if budget not in BUDGETS:
        raise ValueError(f"budget: expected one of {', '.join(BUDGETS)}, found {budget!r}")
    if not (isinstance(seed, int) and seed >= 0):
        raise ValueError(f"seed: expected an int >= 0, found {seed!r}")
    if not (0 < alpha < 1):
        raise ValueError(f"alpha: expected a number in (0, 1), found {alpha!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected an int >= 1, found {workers!r}")
    backend_asarray(backend)  # says at once if it is missing
    propositions = _select(ids_or_propositions)
    settings = _Settings(None if qkv is None else os.fspath(qkv), backend, budget, seed, alpha)
    settings.heads()  # unreadable input is refused before anything runs
    tasks = [_Task(p, check, kind) for p in propositions for kind, check in _cells(p)]
    outcomes = {p.id: Outcome(p) for p in propositions}
    report = Report(list(outcomes.values()), seed, alpha, budget, backend, Path(qkv).name if qkv else "shipped")
    results = _run(tasks, settings, workers, progress)
    try:
        for index, evidence in results:
            task = tasks[index]
            outcomes[task.proposition.id].add(task.kind, check_name(task.check), evidence)
    except KeyboardInterrupt:
        results.close()
        report.interrupt()
    return report


def builtin_propositions() -> dict[str, tuple[Proposition, ...]]:
    """Return the installed propositions by file name, in the order of the file names.

    >>> [p.id for p in builtin_propositions()["prop_01_coefficients"]]
    ['P01']
    """
    package = importlib.import_module("proofs_checks")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("prop_"))
    return {name: _defined_in(importlib.import_module(f"proofs_checks.{name}")) for name in names}


def load_propositions(path: str | os.PathLike[str]) -> tuple[Proposition, ...]:
    """Import a Python file and return the propositions at its top level; ``ValueError`` if there are none."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"propositions_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path}: cannot be imported, {type(error).__name__}: {error}") from error
    found = _defined_in(module)
    if not found:
        raise ValueError(f"{path}: defines no Proposition")
    return found


def find(proposition_id: str) -> tuple[Proposition, ...]:
    """Return the installed propositions of the file in which ``proposition_id`` stands."""
    known = builtin_propositions()
    for group in known.values():
        if any(p.id == proposition_id for p in group):
            return group
    ids = ", ".join(p.id for group in known.values() for p in group)
    raise ValueError(f"unknown proposition {proposition_id!r}; known: {ids}, or a .py file")


@dataclass(frozen=True)
class _Settings:
    """What all cells share; small enough to be sent to a worker, which reads the heads itself."""

    qkv: str | None
    backend: str
    budget: str
    seed: int
    alpha: float

    def heads(self) -> tuple[Any, ...]:
        return shipped_heads() if self.qkv is None else load_heads(self.qkv)


@dataclass(frozen=True)
class _Task:
    """One cell: a check or a mutant of a proposition."""

    proposition: Proposition
    check: Check
    kind: str = field(default="checks")

    def run(self, settings: _Settings) -> list[Evidence]:
        """Return the evidence of this cell, named, timed, with BLAS on one thread."""
        address = (self.proposition.id, self.kind, check_name(self.check))
        cell = Cell(
            rng=stream(settings.seed, *address),
            alpha=settings.alpha / ALPHA_PARTS / len(self.proposition.checks),
            **BUDGETS[settings.budget],
            heads=settings.heads(),
            asarray=backend_asarray(settings.backend),
        )
        start = time.perf_counter()
        with threadpoolctl.threadpool_limits(1):
            found = self._check(cell)
        seconds = time.perf_counter() - start
        several = [found] if isinstance(found, Evidence) else list(found)
        return [
            one.but(
                name=f"{address[-1]}: {one.name}" if one.name else address[-1],
                seed=settings.seed,
                backend=settings.backend,
                seconds=seconds / len(several),
            )
            for one in several
        ]

    def _check(self, cell: Cell) -> Evidence | Sequence[Evidence]:
        try:
            return self.check(cell)
        except Exception as error:
            where = f"proposition {self.proposition.id}, check {check_name(self.check)!r}"
            raise CheckError(f"{where}: {type(error).__name__}: {error}") from error


def _cells(proposition: Proposition) -> Iterator[tuple[str, Check]]:
    for kind in ("checks", "mutants"):
        for check in getattr(proposition, kind):
            yield kind, check


def _run(
    tasks: Sequence[_Task], settings: _Settings, workers: int | None, progress: bool
) -> Generator[tuple[int, list[Evidence]]]:
    """Yield (index of the task, its evidence) as cells finish."""
    import joblib
    from tqdm import tqdm

    workers = min(workers or joblib.cpu_count(), max(len(tasks), 1))
    if workers == 1:
        results: Any = (_indexed(i, task, settings) for i, task in enumerate(tasks))
    else:
        pool = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
        results = pool(joblib.delayed(_indexed)(i, task, settings) for i, task in enumerate(tasks))
    bar = tqdm(results, total=len(tasks), unit="check", disable=not progress, leave=False)
    try:
        yield from bar
    finally:
        bar.close()
        results.close()


def _indexed(index: int, task: _Task, settings: _Settings) -> tuple[int, list[Evidence]]:
    return index, task.run(settings)


def _select(wanted: Iterable[str | Proposition] | str | None) -> list[Proposition]:
    if wanted is None:
        return list(itertools.chain.from_iterable(builtin_propositions().values()))
    if isinstance(wanted, str | Proposition):
        wanted = [wanted]
    chosen: dict[str, Proposition] = {}
    for item in wanted:
        if isinstance(item, Proposition):
            group: tuple[Proposition, ...] = (item,)
        elif str(item).endswith(".py"):
            group = load_propositions(item)
        else:
            group = find(str(item))
        for p in group:
            if p.id in chosen and chosen[p.id] is not p:
                raise ValueError(f"two propositions have the id {p.id}")
            chosen[p.id] = p
    if not chosen:
        raise ValueError("no proposition was named")
    return list(chosen.values())


def _defined_in(module: Any) -> tuple[Proposition, ...]:
    return tuple(value for value in vars(module).values() if isinstance(value, Proposition))
