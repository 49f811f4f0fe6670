"""Replicates at addresses: a stream belongs to (proposition, check, cell), never to a position in a run.

The same seed and the same address give the same numbers, whatever else runs, in any order, on any
number of workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, to_host

__all__ = ["BATCHES", "CHUNK", "batch_means", "chunks", "replicates", "stream"]

BATCHES = 256  # batch means that every look at a mean is made of
CHUNK = 1 << 14  # replicates asked for at a time
NUMBERS = 1 << 19  # numbers in a chunk: arrays get fewer replicates at a time, always a power of 2


def stream(seed: int, *address: str) -> np.random.Generator:
    """Return the generator at ``address`` under the root ``seed``.

    >>> float(stream(0, "P05", "sampled").random()) == float(stream(0, "P05", "sampled").random())
    True
    """
    digest = hashlib.sha256("\0".join(address).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(seed, spawn_key=key)))


def chunks(total: int, shape: tuple[int, ...]) -> Iterator[int]:
    """Cut ``total`` replicates of ``shape`` into chunks of constant size (the last may be smaller)."""
    size = max(1, min(CHUNK, NUMBERS >> math.ceil(math.log2(max(math.prod(shape), 1)))))
    while total > 0:
        yield min(size, total)
        total -= size


def replicates(
    sample: Callable[[np.random.Generator, int], Any],
    rng: np.random.Generator,
    total: int,
    shape: tuple[int, ...],
) -> Iterator[np.ndarray]:
    """Yield host arrays (size, *shape) of fresh replicates, ``total`` in all.

    Raises ``ValueError`` for a wrong shape (broadcasting would pretend to have more replicates), ``TypeError``
    for complex numbers and ``ArithmeticError`` for replicates that are not finite.
    """
    for size in chunks(total, shape):
        drawn = to_host(sample(rng, size))
        if drawn.shape != (size, *shape):
            raise ValueError(f"sample: expected shape {(size, *shape)} for size = {size}, found {drawn.shape}")
        if drawn.dtype != np.bool_:
            drawn = as_reals("sample", drawn)
            if not np.isfinite(drawn).all():
                raise ArithmeticError("sample: a replicate is not finite")
        yield drawn


def batch_means(
    sample: Callable[[np.random.Generator, int], Any],
    rng: np.random.Generator,
    sizes: list[int],
    shape: tuple[int, ...],
    centre: np.ndarray,
    watch: Callable[[np.ndarray], None] | None = None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield per look (n, batch means (BATCHES, *shape), mean square about ``centre``), n doubling.

    Old batches are merged in pairs and as many new draws are added, so that every look has BATCHES
    batches of equal size. ``watch`` sees every array of replicates once.
    """
    means = np.empty((0, *shape))
    square, done = np.zeros(shape), 0
    for n in sizes:
        per_batch, fresh, parts = n // BATCHES, n - done, []
        for drawn in replicates(sample, rng, fresh, shape):
            if watch is not None:
                watch(drawn)
            square += np.sum((drawn - centre) ** 2, axis=0)
            parts.append(drawn)
            if sum(len(part) for part in parts) % per_batch == 0:
                block = np.concatenate(parts).reshape(-1, per_batch, *shape)
                means, parts = np.concatenate([means, block.mean(axis=1)]), []
        done = n
        yield n, means, square / n
        means = means.reshape(BATCHES // 2, 2, *shape).mean(axis=1)
