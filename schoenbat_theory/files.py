"""Files are written whole or not at all, under safe names, and archives are read without pickle."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

__all__ = ["json_text", "kept", "read_npz", "slug", "unused", "write_npz", "write_whole"]


def write_whole(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, even after a kill, sees the old file or the new one."""
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def kept(text: str, path: str | os.PathLike[str] | None) -> str:
    """Return ``text``, written to ``path``, whole or not at all, if one is given."""
    if path is not None:
        write_whole(path, text)
    return text


def json_text(document: Mapping[str, Any]) -> str:
    """Return a JSON document as text for people and programs; ``ValueError`` for NaN and infinity in it."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_npz(path: str | os.PathLike[str], **arrays: np.ndarray) -> None:
    """Write ``arrays`` as an .npz archive, whole or not at all; ``TypeError`` for one that would need pickle."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"{name}: expected numbers or text, found objects, which only pickle can write")
    buffer, save = io.BytesIO(), cast(Any, np.savez_compressed)  # before NumPy 2.2 it took no allow_pickle
    save(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read_npz(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of an .npz archive; ``ValueError`` in one sentence for anything else."""
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError(f"{path}: expected an .npz archive, found a single array")
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise ValueError(
                    f"{path}: expected arrays {', '.join(names)}; missing {', '.join(missing)}, "
                    f"found {', '.join(archive.files) or 'none'}"
                )
            return {name: _read(archive, name, path) for name in names}
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # the libraries that read archives raise many kinds for damaged ones
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: expected an .npz archive, found a damaged or other file") from None


def slug(text: str) -> str:
    """Return the letters and digits of ``text`` joined by hyphens, safe in a file name and an address."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60] or "figure"


def unused(stem: str, taken: Container[str]) -> str:
    """Return ``stem``, numbered if it is ``taken`` already; names that differ in case only are the same."""
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(name for name in names if name.lower() not in taken)


def _read(archive: np.lib.npyio.NpzFile, name: str, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        return np.asarray(archive[name])
    except Exception as error:  # zlib.error, BadZipFile, NotImplementedError, MemoryError, ...
        if isinstance(error, ValueError) and "allow_pickle" in str(error):
            raise ValueError(f"{path}: array {name} holds pickled objects, which are not read") from None
        raise ValueError(f"{path}: array {name} is damaged") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
