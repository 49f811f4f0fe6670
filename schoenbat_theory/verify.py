"""Run propositions: cells in parallel, verdicts in order, one report.

The stream of a cell, its share of alpha and its input depend on nothing but its address, so the report is
the same for any selection, order, engine and number of workers, and for a run that was killed and resumed.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import itertools
import os
import pickle
import pkgutil
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from schoenbat_theory.activations import load_heads
from schoenbat_theory.arrays import backend_asarray, require_bool, require_int, require_real
from schoenbat_theory.cells import BUDGETS, Settings, Task, tasks_of
from schoenbat_theory.ledger import SCHEMA, Ledger, fingerprint
from schoenbat_theory.loading import code_of, defined_in, load_propositions
from schoenbat_theory.propositions import Evidence, Proposition, check_name
from schoenbat_theory.results import Outcome, Report
from schoenbat_theory.scaling import pre_scale
from schoenbat_theory.sweep import sweep

__all__ = ["builtin_propositions", "find", "verify"]

Named = str | os.PathLike[str] | Proposition  # an id, a file that defines propositions, or one itself


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
    ledger: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Report:
    """Decide propositions and return a `Report`.

    ``ids_or_propositions``  ids such as "P05", paths of files that define propositions, `Proposition`
                             objects, or ``None`` for all that are installed; an id brings its file's repair along
    ``qkv``       archive of real heads (`load_heads`); ``None``: the shipped ones
    ``backend``   "numpy" or "cupy";  ``budget``  "quick" or "full", a table of draws
    ``seed``      root of all streams;  ``alpha``  error rate, of which each proposition owns 1/128
    ``workers``   1 runs here; else on the engine of ``joblib.parallel_config``, by default one process per core
    ``progress``  a bar on standard error
    ``ledger``    file to which every finished cell goes as a line of JSON, begun afresh unless ``resume``: then
                  cells that it holds under the same code, libraries, seed, alpha, budget, input and backend are not
                  run again. A `Proposition` object that stands in no file cannot be recognised, and is

    Raises ``ValueError`` or ``TypeError`` for an argument that does not fit and for unreadable input,
    ``RuntimeError`` for a backend that this machine lacks, `CheckError` for a check that fails with an
    error, finds nothing or ends its worker again and again, ``OSError`` for a ledger that cannot be written.
    Ctrl-C returns what is decided so far, status "interrupted". What a check or a file prints goes to standard error.

    >>> verify("P01", workers=1).status
    'as-expected'
    """
    if not (isinstance(budget, str) and budget in BUDGETS):
        raise ValueError(f"budget: expected one of {', '.join(BUDGETS)}, found {budget!r}")
    seed = require_int("seed", seed, 0)
    alpha = require_real("alpha", alpha, "a number in (0, 1)", lambda x: 0 < x < 1)
    workers = None if workers is None else require_int("workers", workers, 1)
    for name, path in (("qkv", qkv), ("ledger", ledger)):
        if not isinstance(path, str | os.PathLike | None):
            raise TypeError(f"{name}: expected a path or None, found {path!r}")
    if require_bool("resume", resume) and ledger is None:
        raise ValueError("resume: expected a ledger to resume from, found None")
    backend_asarray(backend)  # says at once if it is missing
    propositions = _select(ids_or_propositions)
    settings = Settings(backend, budget, seed, alpha, None if qkv is None else _archive(qkv))
    outcomes = {p.id: Outcome(p) for p in propositions}
    report = Report(list(outcomes.values()), seed, alpha, budget, backend, Path(qkv).name if qkv else "shipped")
    with contextlib.nullcontext() if ledger is None else Ledger(ledger, resume=resume) as book:
        results = _results(propositions, settings, workers, progress, book)
        try:
            for task, evidence in results:
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
    ids = [p.id for group in known.values() for p in group]
    near = difflib.get_close_matches(proposition_id.upper(), ids, n=1, cutoff=0.81)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"unknown proposition {proposition_id!r}{hint}; known: {', '.join(ids)}, or a .py file")


def _archive(qkv: str | os.PathLike[str]) -> bytes:
    """Return a user's heads as they travel, after pre-scaling them as every check on activations will."""
    heads = load_heads(qkv)
    for (index, head), name in itertools.product(enumerate(heads), "qk"):
        try:
            pre_scale(getattr(head, name))
        except ValueError as error:
            reason = str(error).removeprefix("x: ")
            raise ValueError(f"{os.fspath(qkv)}: {name} of head {index}: {reason}") from None
    return pickle.dumps(heads)


def _results(
    propositions: list[Proposition], settings: Settings, workers: int | None, progress: bool, ledger: Ledger | None
) -> Generator[tuple[Task, list[Evidence]]]:
    """Yield what the ledger knows already, then what cells find, which goes into the ledger first."""
    tasks = list(itertools.chain.from_iterable(map(tasks_of, propositions)))
    files = {p.id: None if ledger is None else code_of(p) for p in propositions}
    shared = {} if ledger is None else {"schema": SCHEMA, **fingerprint(), **settings.key()}
    todo: list[tuple[Task, dict[str, Any]]] = []
    for task in tasks:
        key = {"cell": list(task.address), "file": files[task.proposition.id], **shared}
        evidence = None if ledger is None or key["file"] is None else ledger.get(key)
        if evidence is None:
            todo.append((task, key))
        else:
            yield task, evidence
    done = len(tasks) - len(todo)
    for index, evidence in sweep([task for task, _ in todo], settings, workers=workers, progress=progress, done=done):
        task, key = todo[index]
        if ledger is not None:
            ledger.add(key, evidence)
        yield task, evidence


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
