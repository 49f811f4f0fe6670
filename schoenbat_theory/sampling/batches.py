"""Replicates in chunks of constant size, and the means of batches that every look at a mean is made of."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, to_host

__all__ = ["BATCHES", "CHUNK", "Batched", "batch_means", "chunks", "replicates"]

BATCHES = 256  # batch means that every look at a mean is made of
CHUNK = 1 << 14  # replicates asked for at a time
NUMBERS = 1 << 19  # numbers in a chunk: arrays get fewer replicates at a time, always a power of 2

Sample = Callable[[np.random.Generator, int], Any]
Watch = Callable[[np.ndarray], None]


class Batched(ABC):
    """A sampler (rng, size) -> (size, ...) that also knows means of its replicates without forming them."""

    @abstractmethod
    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return ``size`` fresh replicates, formed."""

    @abstractmethod
    def means(
        self, rng: np.random.Generator, batches: int, size: int, centre: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return means of ``batches`` batches of ``size`` fresh replicates, (batches, ...), and a scale of their rounding (...).

        ``centre`` (...) has the shape of a replicate. |centre| + sqrt(scale / number of replicates) is at least the mean of
        the magnitudes that are added up, as it is for the sum of all squares about the centre.
        """

    @abstractmethod
    def held(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what is held in memory for each replicate, whose own shape is ``shape``."""


def chunks(total: int, shape: tuple[int, ...]) -> Iterator[int]:
    """Cut ``total`` replicates of ``shape`` into chunks of constant size (the last may be smaller)."""
    size = max(1, min(CHUNK, NUMBERS >> math.ceil(math.log2(max(math.prod(shape), 1)))))
    while total > 0:
        yield min(size, total)
        total -= size


def replicates(sample: Sample, rng: np.random.Generator, total: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield host arrays (size, *shape) of fresh replicates, ``total`` in all.

    Raises ``ValueError`` for a wrong shape (broadcasting would pretend to have more replicates), ``TypeError``
    for complex numbers and ``ArithmeticError`` for replicates that are not finite.
    """
    for size in chunks(total, shape):
        yield _drawn(sample, rng, size, shape)


def batch_means(
    sample: Sample,
    rng: np.random.Generator,
    sizes: list[int],
    shape: tuple[int, ...],
    centre: np.ndarray,
    watch: Watch | None = None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield per look (n, batch means (BATCHES, *shape), mean square about ``centre``), n doubling from a power of 2.

    Old batches are merged in pairs and as many new draws are added, so that every look has BATCHES
    batches of equal size. ``watch`` sees every array of replicates once; without it a `Batched` sampler forms none.
    """
    source: Batched | _Formed
    source = sample if isinstance(sample, Batched) and watch is None else _Formed(sample, watch)
    means, square, done = np.empty((0, *shape)), np.zeros(shape), 0
    for n in sizes:
        per_batch, parts = n // BATCHES, []
        for size in chunks(n - done, source.held(shape)):
            piece = min(size, per_batch)
            found, squares = source.means(rng, size // piece, piece, centre)
            parts.append(found)
            square += squares
        block = np.concatenate(parts).reshape(-1, per_batch // piece, *shape).mean(axis=1)
        means, done = np.concatenate([means, block]), n
        yield n, means, square / n
        means = means.reshape(BATCHES // 2, 2, *shape).mean(axis=1)


class _Formed:
    """Any other sampler, as a batched one: its replicates are formed, watched, and averaged."""

    def __init__(self, sample: Sample, watch: Watch | None) -> None:
        self.sample, self.watch = sample, watch

    def means(
        self, rng: np.random.Generator, batches: int, size: int, centre: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        drawn = _drawn(self.sample, rng, batches * size, np.shape(centre))
        if self.watch is not None:
            self.watch(drawn)
        squares = np.sum((drawn - centre) ** 2, axis=0)
        return drawn.reshape(batches, size, *drawn.shape[1:]).mean(axis=1), squares

    def held(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


def _drawn(sample: Sample, rng: np.random.Generator, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return replicates (size, *shape) on the host, or raise."""
    drawn = to_host(sample(rng, size))
    if drawn.shape != (size, *shape):
        raise ValueError(f"sample: expected shape {(size, *shape)} for size = {size}, found {drawn.shape}")
    if drawn.dtype != np.bool_:
        drawn = as_reals("sample", drawn)
        if not np.isfinite(drawn).all():
            raise ArithmeticError("sample: a replicate is not finite")
    return drawn
