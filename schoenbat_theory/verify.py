"""Run propositions: cells in parallel, verdicts in order, one report.

A cell is one check of one proposition. Its stream, its share of alpha and its input depend on nothing
but its address, so the report is the same for any selection, order and number of workers.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import pickle
import pkgutil
import reprlib
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import threadpoolctl

from schoenbat_theory.activations import load_heads, shipped_heads
from schoenbat_theory.arrays import backend_asarray
from schoenbat_theory.loading import defined_in, files_named_in, load_propositions, run_file
from schoenbat_theory.propositions import Cell, Check, Evidence, Proposition, check_name
from schoenbat_theory.results import Outcome, Report
from schoenbat_theory.sampling import stream
from schoenbat_theory.scaling import pre_scale

__all__ = ["BUDGETS", "CheckError", "builtin_propositions", "find", "verify"]

ALPHA_PARTS = 128  # each proposition owns alpha / 128, whatever else runs
BUDGETS = {  # draws of a sampled check; repeats of a whole experiment
    "quick": {"draws": 1 << 22, "repeats": 1 << 8},
    "full": {"draws": 1 << 25, "repeats": 1 << 11},
}


Named = str | os.PathLike[str] | Proposition  # an id, a file that defines propositions, or one itself


class CheckError(RuntimeError):
    """A check stopped with an error of its own; the message names the proposition, the check and the error."""


def verify(
    ids_or_propositions: Iterable[Named] | Named | None = None,
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

    Raises ``ValueError`` or ``TypeError`` for an argument that does not fit and for unreadable input,
    ``RuntimeError`` for a backend that this machine lacks, `CheckError` for a check that fails with an
    error or finds nothing. Ctrl-C returns what is decided so far, status "interrupted". What a check or
    a file prints goes to standard error.

    >>> verify("P01", workers=1).status
    'as-expected'
    """
    if not (isinstance(budget, str) and budget in BUDGETS):
        raise ValueError(f"budget: expected one of {', '.join(BUDGETS)}, found {budget!r}")
    _require("seed", seed, Integral, lambda x: x >= 0, "an int >= 0")
    _require("alpha", alpha, Real, lambda x: 0 < x < 1, "a number in (0, 1)")
    if workers is not None:
        _require("workers", workers, Integral, lambda x: x >= 1, "an int >= 1")
    if not isinstance(qkv, str | os.PathLike | None):
        raise TypeError(f"qkv: expected the path of an archive or None, found {qkv!r}")
    seed, alpha = int(seed), float(alpha)  # NumPy's scalars are not JSON
    backend_asarray(backend)  # says at once if it is missing
    propositions = _select(ids_or_propositions)
    settings = _Settings(None if qkv is None else os.fspath(qkv), backend, budget, seed, alpha)
    settings.refuse_bad_input()  # before anything runs
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
    return {name: defined_in(importlib.import_module(f"proofs_checks.{name}")) for name in names}


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

    def refuse_bad_input(self) -> None:
        """Read the heads, and pre-scale a user's as every check on activations will."""
        if self.qkv is not None:
            for (index, head), name in itertools.product(enumerate(self.heads()), "qk"):
                try:
                    pre_scale(getattr(head, name))
                except ValueError as error:
                    reason = str(error).removeprefix("x: ")
                    raise ValueError(f"{self.qkv}: {name} of head {index}: {reason}") from None


@dataclass(frozen=True)
class _Task:
    """One cell: a check or a mutant of a proposition."""

    proposition: Proposition
    check: Check
    kind: str = field(default="checks")

    @property
    def address(self) -> tuple[str, str, str]:
        """Where the stream of this cell is."""
        return self.proposition.id, self.kind, check_name(self.check)

    @property
    def where(self) -> str:
        """The address, for error messages."""
        return f"proposition {self.proposition.id}, {self.kind[:-1]} {check_name(self.check)!r}"

    def run(self, settings: _Settings) -> list[Evidence]:
        """Return the evidence of this cell, named, timed, with BLAS on one thread."""
        cell = Cell(
            rng=stream(settings.seed, *self.address),
            alpha=settings.alpha / ALPHA_PARTS / len(self.proposition.checks),
            **BUDGETS[settings.budget],
            heads=settings.heads(),
            asarray=backend_asarray(settings.backend),
        )
        start = time.perf_counter()
        with threadpoolctl.threadpool_limits(1), contextlib.redirect_stdout(sys.stderr):
            found = self._check(cell)
        seconds = time.perf_counter() - start
        name = self.address[-1]
        return [
            one.but(
                name=f"{name}: {one.name}" if one.name else name,
                seed=settings.seed,
                backend=settings.backend,
                seconds=seconds / len(found),
            )
            for one in found
        ]

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
    with contextlib.ExitStack() as stack:
        if workers == 1:
            results: Any = ((i, task.run(settings)) for i, task in enumerate(tasks))
        else:
            packed = [_pack(task) for task in tasks]
            pool = stack.enter_context(joblib.Parallel(n_jobs=workers, return_as="generator_unordered"))
            with _interrupts_held():
                results = pool(joblib.delayed(_run_packed)(i, *one, settings) for i, one in enumerate(packed))
        bar = tqdm(results, total=len(tasks), unit="check", disable=not progress, leave=False)
        try:
            yield from bar
        finally:
            bar.close()
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


def _pack(task: _Task) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return (where, files, bytes): a task as it travels, and the users' files that it refers to."""
    import joblib

    try:  # joblib's wrapper brings cloudpickle: functions of a notebook and closures travel by value
        payload = pickle.dumps(joblib.wrap_non_picklable_objects(task, keep_wrapper=False))
    except Exception as error:  # pickle raises many kinds
        reason = f"{type(error).__name__}: {error}"
        raise CheckError(f"{task.where}: cannot be sent to a worker, {reason}; workers=1 runs it here") from error
    return task.where, files_named_in(payload), payload


def _run_packed(
    index: int, where: str, files: list[tuple[str, str]], payload: bytes, settings: _Settings
) -> tuple[int, list[Evidence]]:
    """Run a task in a worker, after the files that it refers to."""
    try:
        for path, name in files:
            if name not in sys.modules and run_file(Path(path)).__name__ != name:
                raise ValueError(f"{path}: has changed since this run began")
        task: _Task = pickle.loads(payload)
    except Exception as error:
        raise CheckError(f"{where}: cannot be received by a worker, {type(error).__name__}: {error}") from error
    return index, task.run(settings)


def _require(name: str, value: Any, kind: type, fits: Callable[[Any], bool], expected: str) -> None:
    """Refuse an argument by name: ``TypeError`` for another kind of thing, ``ValueError`` for another value."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {expected}, found {value!r}")
    if not fits(value):
        raise ValueError(f"{name}: expected {expected}, found {value!r}")


def _select(wanted: Iterable[Named] | Named | None) -> list[Proposition]:
    if wanted is None:
        return list(itertools.chain.from_iterable(builtin_propositions().values()))
    if isinstance(wanted, str | os.PathLike | Proposition):
        wanted = [wanted]
    listed = list(wanted) if isinstance(wanted, Iterable) else [wanted]
    chosen: dict[str, Proposition] = {}
    for item in listed:
        if not isinstance(item, str | os.PathLike | Proposition):
            raise TypeError(f"ids_or_propositions: expected ids, paths of .py files or Propositions, found {item!r}")
        if isinstance(item, Proposition):
            group: tuple[Proposition, ...] = (item,)
        elif isinstance(item, os.PathLike) or item.endswith(".py"):
            group = load_propositions(item)
        else:
            group = find(item)
        for p in group:
            if p.id in chosen and chosen[p.id] is not p:
                raise ValueError(f"two propositions have the id {p.id}")
            chosen[p.id] = p
    if not chosen:
        raise ValueError("no proposition was named")
    return list(chosen.values())
