"""What is kept of a stream of keys and values: its sums, where they live, and how they outlive a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, check_floating, namespace, to_host
from schoenbat_theory.attention.running import State, exp_difference
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["STREAM_FORMAT", "LogState", "Memory", "fingerprint", "read_memory", "write_memory"]

STREAM_FORMAT = "stream 1"  # what an archive of a stream says of itself


class LogState(State):
    """A `State` of positive features, given as logarithms, each with a scale of its own: ``top`` is (..., D).

    Divided by the largest of its terms the sum of a feature is at least 1, and so is, over all features, the
    denominator of a query, divided by its largest term: nothing that matters underflows.
    """

    def add(self, phi_k: Array, values: Array, log_weights: Array | None) -> None:
        """Take in a block of keys: log phi(k_j) + log w_j in ``phi_k`` (..., b, D), values with ones (..., b, e + 1)."""
        xp = namespace(phi_k)
        top = xp.maximum(self.top, xp.max(phi_k, axis=-2))
        if self.matrix is not None:
            self.matrix = self.matrix * exp_difference(self.top, top)[..., None]
        self.top = top
        self._grow(xp.matrix_transpose(exp_difference(phi_k, top[..., None, :])) @ values)

    def read(self, phi_q: Array, width: int) -> Array:
        """Return the sums for a block of queries, log phi(q_i) in ``phi_q``, each row divided by its largest term."""
        if self.matrix is None or self.top is None:
            return super().read(phi_q, width)
        xp, terms = namespace(phi_q), phi_q + self.top[..., None, :]
        return exp_difference(terms, xp.max(terms, axis=-1, keepdims=True)) @ self.matrix


class Memory(NamedTuple):
    """A stream so far; an update makes another one, so that one that is refused or killed changes nothing."""

    sums: State
    like: Array  # an array of the library, dtype and device of the stream
    lead: tuple[int, ...]  # leading axes of the sums
    dim: int  # d
    width: int  # e
    tokens: int = 0
    longest: float = 0.0  # length of a key, where the radius of a map asks for it
    stored: bool = False  # read from a file: lives where the next tokens do

    def beside(self, **named: Array) -> Memory:
        """Return the memory in the library and on the device of these tokens, q, or k and v; raise where they differ."""
        memory = self._moved(next(iter(named.values()))) if self.stored else self
        check_floating(**{"the stream": memory.like}, **named)
        for name, x in named.items():
            columns = self.width if name == "v" else self.dim
            if x.shape[-1] != columns:
                raise ValueError(
                    f"{name}: expected rows of {columns} entries as the first update has, found {tuple(x.shape)}"
                )
        return memory

    def _moved(self, x: Array) -> Memory:
        """Return the memory beside x, its dtype kept."""
        check_floating(x=x)

        def move(y: Array | None) -> Array | None:
            return None if y is None else asarray_like(y, x, dtype=getattr(namespace(x), y.dtype.name))

        sums = type(self.sums)(x, self.lead, self.sums.top is not None)
        sums.matrix, sums.top = move(self.sums.matrix), move(self.sums.top)
        return self._replace(sums=sums, like=move(self.like), stored=False)


def fingerprint(phi: Any) -> str:
    """Return a digest of all numbers of a drawn map, or of a pair; empty for a callable, of which nothing is known.

    >>> from schoenbat_theory import RandomMaclaurin
    >>> one, two = (RandomMaclaurin("exp", 8).draw(2, rng=rng) for rng in (0, 1))
    >>> fingerprint(one) == fingerprint(two), fingerprint(np.exp)
    (False, '')
    """
    if isinstance(phi, tuple):
        return " ".join(fingerprint(one) for one in phi)
    if not dataclasses.is_dataclass(phi):
        return ""
    digest = hashlib.sha256()
    for piece in _pieces(phi):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(x: Any) -> Iterator[bytes]:
    """Return what a value consists of, field by field."""
    yield type(x).__name__.encode()
    if dataclasses.is_dataclass(x):
        for field in dataclasses.fields(x):
            if field.init:
                yield from _pieces(getattr(x, field.name))
    elif isinstance(x, tuple):
        for one in x:
            yield from _pieces(one)
    elif isinstance(x, np.ndarray):
        yield f"{x.dtype.str}{x.shape}".encode() + x.tobytes()
    elif isinstance(x, str | int | float):
        yield repr(x).encode()


def write_memory(path: str | os.PathLike[str], memory: Memory, maps: str) -> None:
    """Write a stream and the fingerprint of its maps to ``path`` as .npz, without pickle and whole or not at all."""
    nothing = np.empty(0, to_host(memory.like).dtype)
    matrix, top = (nothing if x is None else to_host(x) for x in (memory.sums.matrix, memory.sums.top))
    write_npz(
        path,
        format=np.array(STREAM_FORMAT),
        maps=np.array(maps),
        sizes=np.array([memory.tokens, memory.dim, memory.width, *memory.lead]),
        longest=np.array(memory.longest),
        matrix=matrix,
        top=top,
    )


def read_memory(path: str | os.PathLike[str], maps: str, kind: type[State]) -> Memory:
    """Read what `write_memory` wrote for maps of this fingerprint, sums of this kind.

    Raises ``ValueError`` with ``path`` for what is no such archive, and with ``phi`` for other maps.
    """
    stored = read_npz(path, ("format", "maps", "sizes", "longest", "matrix", "top"))
    sizes, longest, matrix, top = (stored[name] for name in ("sizes", "longest", "matrix", "top"))
    sound = {
        "format": str(stored["format"]) == STREAM_FORMAT,
        "maps": stored["maps"].dtype.kind == "U" and stored["maps"].ndim == 0,
        "sizes": sizes.dtype == np.int64 and sizes.ndim == 1 and sizes.size > 2 and bool(np.all(sizes >= 0)),
        "longest": longest.dtype == np.float64 and longest.ndim == 0 and bool(longest >= 0),
        "matrix": matrix.dtype in (np.float32, np.float64) and bool(np.all(np.isfinite(matrix))),
        "top": top.dtype == matrix.dtype and bool(np.all(top < np.inf)),
    }
    for name, holds in sound.items():
        if not holds:
            raise ValueError(f"{path}: {name} of the stream is damaged: {stored[name].dtype} {stored[name].shape}")
    if str(stored["maps"]) != maps:
        raise ValueError(f"phi: expected the maps that {path} was saved with, found others")
    tokens, dim, width, *lead = (int(size) for size in sizes)
    if tokens:
        n_features = matrix.shape[-2] if matrix.ndim > 1 else 0
        scales = [(*lead, n_features)] if kind is LogState else [(0,), (*lead, 1)]
        if matrix.shape != (*lead, n_features, width + 1) or top.shape not in scales:
            raise ValueError(f"{path}: matrix, top and sizes of the stream do not belong together")
    sums = kind(matrix, tuple(lead), weighted=kind is LogState or top.size > 0)
    if tokens:
        sums.matrix, sums.top = matrix, top if top.size else None
    return Memory(sums, np.empty(0, matrix.dtype), tuple(lead), dim, width, tokens, float(longest), stored=True)
