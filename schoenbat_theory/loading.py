"""Propositions and feature maps in a user's own Python file: run it, find them, and run it again in a worker.

Compiled here, not imported: no bytecode appears beside the file, and an edit within the same second is
seen. The name of the module holds a digest of place and content, so files of one stem do not collide.
A file travels as text: a worker on another machine needs no copy of it, only of the modules that it imports.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from schoenbat_theory.features.registry import MapMaker, forgotten_afterwards
from schoenbat_theory.files import slug
from schoenbat_theory.propositions import Proposition

__all__ = [
    "UserFile",
    "code_of",
    "defined_in",
    "files_named_in",
    "load_maps",
    "load_propositions",
    "run_file",
    "run_user_file",
]


class UserFile(NamedTuple):
    """A user's file as it was read: the module that it becomes, where it stands, what it says."""

    module: str
    place: str
    source: bytes


_FILES: dict[str, UserFile] = {}  # by place: the files that are modules here, as they last ran
_MAPS: dict[str, dict[str, MapMaker]] = {}  # by place: the feature maps that they register


def load_propositions(path: str | os.PathLike[str]) -> tuple[Proposition, ...]:
    """Run a Python file and return the propositions at its top level; ``ValueError`` if there are none.

    The file may import modules beside it. It is run anew at every call, so that a notebook sees its edits.
    """
    path = Path(path)
    found = defined_in(run_file(path))
    if not found:
        raise ValueError(f"{path}: defines no Proposition at its top level")
    return found


def load_maps(*paths: str | os.PathLike[str]) -> dict[str, MapMaker]:
    """Run Python files and return the feature maps that they register, name -> maker, which no one else comes to see.

    A map is registered in the file itself: modules that it imports run once in a process. Raises ``ValueError`` for a
    file that registers none, and for a name that two files, or a file and this package, use.
    """
    found: dict[str, MapMaker] = {}
    for path in map(Path, paths):
        module = run_file(path)
        maps = _MAPS[str(module.__file__)]
        if not maps:
            raise ValueError(f"{path}: registers no feature map (@st.feature_map)")
        if taken := sorted(found.keys() & maps):
            raise ValueError(f"{path}: expected new names of feature maps, found {taken[0]!r} of another file")
        found |= maps
    return found


def defined_in(module: ModuleType) -> tuple[Proposition, ...]:
    """Return the propositions at the top level of a module, in their order there."""
    return tuple(value for value in vars(module).values() if isinstance(value, Proposition))


def code_of(proposition: Proposition) -> str | None:
    """Return a digest of the user's file that defines ``proposition`` and of the modules beside it that are loaded.

    The empty text for an installed proposition, ``None`` for an object that stands in no file known here.
    """
    installed = [module for name, module in sys.modules.items() if name.startswith("proofs_checks.")]
    if any(proposition is one for module in installed for one in defined_in(module)):
        return ""
    for file in _FILES.values():
        if any(proposition is one for one in defined_in(sys.modules[file.module])):
            sources = [file.source, *_beside_in_memory(Path(file.place))]
            return hashlib.sha256(b"".join(hashlib.sha256(source).digest() for source in sources)).hexdigest()
    return None


def files_named_in(payload: bytes) -> list[UserFile]:
    """Return the users' files that a pickle refers to; the name of such a module stands for nothing else."""
    return [file for file in _FILES.values() if file.module.encode() in payload]


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
    return run_user_file(UserFile(f"propositions_of_{slug(path.stem)}_{digest[:16]}", place, source))


def run_user_file(file: UserFile) -> ModuleType:
    """Run a file that was read here or elsewhere; ``ValueError`` in one sentence if that fails."""
    module = ModuleType(file.module)
    module.__file__ = file.place
    if file.place in _FILES:
        sys.modules.pop(_FILES.pop(file.place).module, None)  # what is left of an older run travels by value
    sys.modules[file.module] = module  # dataclasses and pickle look there
    try:
        with (
            _beside(str(Path(file.place).parent)),
            contextlib.redirect_stdout(sys.stderr),
            forgotten_afterwards() as maps,
        ):
            exec(compile(file.source, file.place, "exec"), vars(module))
    except BaseException as error:
        del sys.modules[file.module]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise ValueError(f"{file.place}: cannot be imported, {type(error).__name__}: {error}") from error
    _FILES[file.place], _MAPS[file.place] = file, maps
    return module


def _beside_in_memory(path: Path) -> Iterator[bytes]:
    """Yield the sources of the loaded modules that stand beside ``path``, by name."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for file in sorted(file for file in files if file and Path(file).parent == path.parent and file != str(path)):
        with contextlib.suppress(OSError):  # gone since
            yield Path(file).read_bytes()


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
