"""Propositions in a user's own Python file: run it, find them, and run it again in a worker.

Compiled here, not imported: no bytecode appears beside the file, and an edit within the same second is
seen. The name of the module holds a digest of place and content, so files of one stem do not collide
and a worker can tell whether it has the same file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from schoenbat_theory.files import slug
from schoenbat_theory.propositions import Proposition

__all__ = ["defined_in", "files_named_in", "load_propositions", "run_file"]

_FILES: dict[str, str] = {}  # path of a user's file: name of the module it became when it last ran


def load_propositions(path: str | os.PathLike[str]) -> tuple[Proposition, ...]:
    """Run a Python file and return the propositions at its top level; ``ValueError`` if there are none.

    The file may import modules beside it. It is run anew at every call, so that a notebook sees its edits.
    """
    path = Path(path)
    found = defined_in(run_file(path))
    if not found:
        raise ValueError(f"{path}: defines no Proposition at its top level")
    return found


def defined_in(module: ModuleType) -> tuple[Proposition, ...]:
    """Return the propositions at the top level of a module, in their order there."""
    return tuple(value for value in vars(module).values() if isinstance(value, Proposition))


def files_named_in(payload: bytes) -> list[tuple[str, str]]:
    """Return (path, module name) of the users' files that a pickle refers to; such a name stands for nothing else."""
    return [(path, name) for path, name in _FILES.items() if name.encode() in payload]


def run_file(path: Path) -> ModuleType:
    """Run a user's Python file as a module of its own; ``ValueError`` in one sentence if that fails."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    place = str(path.resolve())
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    digest = hashlib.sha256(place.encode("utf-8", "surrogateescape") + b"\0" + source).hexdigest()
    module = ModuleType(f"propositions_of_{slug(path.stem)}_{digest[:16]}")
    module.__file__ = place
    sys.modules.pop(_FILES.pop(place, ""), None)  # what is left of an older run travels by value
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    try:
        with _beside(str(Path(place).parent)), contextlib.redirect_stdout(sys.stderr):
            exec(compile(source, place, "exec"), vars(module))
    except BaseException as error:
        del sys.modules[module.__name__]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise ValueError(f"{path}: cannot be imported, {type(error).__name__}: {error}") from error
    _FILES[place] = module.__name__
    return module


@contextlib.contextmanager
def _beside(folder: str) -> Iterator[None]:
    """Let a file import modules of its folder: first while it runs, last afterwards, for imports in its checks."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
