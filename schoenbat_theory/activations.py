"""Queries, keys and values of real attention heads: the shipped ones, and a user's own archive."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np

from schoenbat_theory.files import read_npz

__all__ = ["Head", "as_heads", "load_heads", "shipped_heads"]

SHIPPED = ((2, "minilm_layer2_qkv.npz"), (5, "minilm_layer5_qkv.npz"))
SHIPPED_HEADS = (0, 4, 8, 10)  # which heads of the layer the four are


@dataclass(frozen=True, eq=False)
class Head:
    """One attention head: ``q`` (n, d), ``k`` (m, d), ``v`` (m, e), float64, unscaled, and a ``name``."""

    name: str
    q: np.ndarray = field(repr=False)
    k: np.ndarray = field(repr=False)
    v: np.ndarray = field(repr=False)


def shipped_heads() -> tuple[Head, ...]:
    """Return the eight shipped heads: layers 2 and 5 of all-MiniLM-L6-v2 over 512 tokens (data/PROVENANCE.md).

    >>> [head.name for head in shipped_heads()][:2], shipped_heads()[0].q.shape
    (['layer 2 head 0', 'layer 2 head 4'], (512, 32))
    """
    heads: list[Head] = []
    for layer, file in SHIPPED:
        with resources.as_file(resources.files("schoenbat_theory") / "data" / file) as path:
            names = [f"layer {layer} head {head}" for head in SHIPPED_HEADS]
            heads += _heads(path, names)
    return tuple(heads)


def load_heads(path: str | os.PathLike[str]) -> tuple[Head, ...]:
    """Read q, k, v of shape (heads, n, d), (heads, m, d), (heads, m, e), unscaled, from an .npz archive.

    float16, float32 or float64. Raises ``ValueError`` in one sentence for a file that is no archive, a
    missing array, pickles, wrong shapes or dtypes, NaN, infinity, empty arrays, and heads that are zero
    everywhere or beyond 1e100.
    """
    return tuple(_heads(path, None))


def _heads(path: str | os.PathLike[str], names: list[str] | None) -> list[Head]:
    return as_heads(read_npz(path, ("q", "k", "v")), path, names)


def as_heads(
    stored: Mapping[str, np.ndarray], path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> list[Head]:
    """Return the heads in arrays q, k, v as `load_heads` does; errors and, without ``names``, heads bear that of ``path``."""
    for name, x in stored.items():
        if not np.issubdtype(x.dtype, np.floating):
            raise ValueError(f"{path}: {name} has dtype {x.dtype}, expected float16, float32 or float64")
        if x.ndim != 3:
            raise ValueError(f"{path}: {name} has shape {x.shape}, expected (heads, tokens, width)")
        if x.size == 0:
            raise ValueError(f"{path}: {name} has shape {x.shape}: it is empty")
        if not np.isfinite(x).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
            raise ValueError(f"{path}: {name} holds {x[where]} at index {where}, expected finite numbers")
        largest = np.abs(x.astype(np.float64)).max(axis=(1, 2))
        if not ((largest >= 1e-100) & (largest <= 1e100)).all():  # squares and relative errors need room
            head = int(np.argmin((largest >= 1e-100) & (largest <= 1e100)))
            raise ValueError(
                f"{path}: the largest entry of {name}, head {head}, is {largest[head]:g}, expected 1e-100 .. 1e100"
            )
    q, k, v = (stored[name].astype(np.float64) for name in "qkv")
    if q.shape[0] != k.shape[0] or q.shape[2] != k.shape[2] or k.shape[:2] != v.shape[:2]:
        raise ValueError(
            f"{path}: q {q.shape}, k {k.shape}, v {v.shape} do not fit; expected (heads, n, d), "
            "(heads, m, d), (heads, m, e)"
        )
    if q.shape[2] < 2:
        raise ValueError(f"{path}: head dimension {q.shape[2]}, expected at least 2 (pre-scaling centres each token)")
    if names is None:
        names = [f"{Path(path).name} head {i}" for i in range(q.shape[0])]
    return [Head(*head) for head in zip(names, q, k, v, strict=True)]
