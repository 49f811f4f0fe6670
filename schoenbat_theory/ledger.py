"""The ledger of a run: finished cells as JSON lines, so that a run that was killed can be taken up again.

A line holds the evidence of one cell and its key: all that the numbers depend on. It is written whole, by one
call, and is on the disk before the cell counts as finished; what a kill leaves of a line is dropped.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from schoenbat_theory.arrays import to_host
from schoenbat_theory.environment import version
from schoenbat_theory.propositions import Evidence

__all__ = ["Key", "Ledger", "fingerprint", "settled"]

SCHEMA = 1  # of a line
Key = Mapping[str, Any]


class Ledger:
    """Finished cells in a file of JSON lines, which is begun afresh unless ``resume``.

    A key is a mapping of JSON's own values. Use it in a ``with`` statement; a file without a line is removed.
    Raises ``OSError`` for a file that cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Ledger(folder + "/cells.jsonl") as ledger:
    ...     ledger.add({"cell": ["P01", "checks", "radii"]}, [Evidence("proved", "exact")])
    ...     print(Path(folder + "/cells.jsonl").read_text()[:50])
    {"cell": ["P01", "checks", "radii"], "evidence": [
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        self._path = Path(path)
        self._found = dict(self._earlier()) if resume else {}
        self._file = open(path, "ab" if resume else "wb", buffering=0)  # noqa: SIM115, closed in __exit__

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        empty = self._file.tell() == 0 and self._path.is_file()
        self._file.close()
        if empty:
            self._path.unlink()

    def get(self, key: Key) -> list[Evidence] | None:
        """Return the evidence that an earlier run found under ``key``, or ``None``."""
        return self._found.get(_canonical(key))

    def add(self, key: Key, evidence: Sequence[Evidence]) -> None:
        """Write the `settled` evidence of a finished cell."""
        line = json.dumps({**key, "evidence": [_record(one) for one in evidence]}, allow_nan=False) + "\n"
        rest = memoryview(line.encode())
        while rest:  # once, unless the disk is full: then the second call says so
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())

    def _earlier(self) -> Iterator[tuple[str, list[Evidence]]]:
        """Yield (key, evidence) of the whole lines, after what was torn off the last one is gone."""
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self._path, whole)
        for line in data[:whole].split(b"\n"):
            try:
                key = json.loads(line, object_hook=_number)
                yield _canonical(key), [_evidence(record) for record in key.pop("evidence")]
            except (ValueError, TypeError, LookupError, AttributeError):  # torn, or not a line of ours
                continue


def settled(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Return ``evidence`` as a ledger gives it back: numbers of Python, lists for arrays and tuples.

    So a report does not depend on whether a cell ran now or before a kill. ``TypeError`` for a figure that holds
    anything but numbers, texts, lists, arrays and dicts.

    >>> settled([Evidence("proved", "exact", measured=np.float64(0.5), figure={"x": np.arange(2)})])[0].figure
    {'x': [0, 1]}
    """
    records = json.dumps([_record(one) for one in evidence], allow_nan=False)
    return [_evidence(record) for record in json.loads(records, object_hook=_number)]


@functools.cache
def fingerprint() -> Key:
    """Return what numbers depend on beside their settings: the code installed here, Python and its libraries."""
    code = hashlib.sha256()
    for package in ("schoenbat_theory", "proofs_checks"):
        spec = importlib.util.find_spec(package)
        for root in map(Path, spec.submodule_search_locations or []) if spec else []:
            for path in sorted(root.rglob("*.py")):
                code.update(f"{path.relative_to(root.parent).as_posix()}\0".encode())
                code.update(hashlib.sha256(path.read_bytes()).digest())
    libraries = {name: metadata.version(name) for name in ("numpy", "scipy")}
    return {"version": version(), "code": code.hexdigest()[:16], "python": platform.python_version(), **libraries}


def _canonical(key: Key) -> str:
    return json.dumps({name: key[name] for name in key if name != "evidence"}, sort_keys=True)


def _record(evidence: Evidence) -> dict[str, Any]:
    return {name: _plain(name, value) for name, value in vars(evidence).items()}


def _evidence(record: dict[str, Any]) -> Evidence:
    interval = record["interval"]
    return Evidence(**{**record, "interval": None if interval is None else tuple(interval)})


def _plain(name: str, value: Any) -> Any:
    """Return ``value`` as strict JSON can hold it, exactly; NaN and infinities as ``{"$float": "nan"}``."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, dict):
        return {str(key): _plain(name, one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, one) for one in value]
    host = to_host(value)
    if host.dtype.kind in "biufU":
        return _plain(name, host.tolist())
    raise TypeError(f"{name}: expected numbers, texts, lists, arrays or dicts, found {value!r:.60}")


def _number(found: dict[str, Any]) -> Any:
    """Undo what `_plain` does to NaN and infinities."""
    return float(found["$float"]) if found.keys() == {"$float"} else found
