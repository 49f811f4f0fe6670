"""The floor: the least time in which this machine executes the products of a method, or moves its bytes.

Both are run, not looked up: the products at their own shapes, on operands that stay in the cache where they fit, and the
bytes as copies of the same size; each on all cores, in turns with the methods, the least of all repeats. Who executes
these products by the same BLAS takes as long as they do alone, and at least as long as the bytes do. A processor loads
while it multiplies, so the floor is the larger of the two and not their sum; nothing says that it can be reached.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from schoenbat_theory.threads import CORES, each, one_core
from schoenbat_theory.timings import take_turns

__all__ = ["Product", "Work", "floor", "lowest", "rivals", "roof"]

ENTRIES = 1 << 24  # of the operands of one product, 64 MB in float32; larger ones are cut
COPIED = 1 << 26  # bytes of one copy: more than caches hold
LITTLE = 1 << 23  # multiply-adds, or bytes: less is done before another core has begun
SEVERAL = 7  # repeats where nobody else takes turns
SQUARE = 1024  # rows and columns of the product that shows how fast this BLAS multiplies


@dataclass(frozen=True)
class Product:
    """``count`` matrix products (rows, inner) x (inner, columns)."""

    rows: int
    inner: int
    columns: int
    count: int = 1

    @property
    def multiply_adds(self) -> int:
        """Product of all four."""
        return self.rows * self.inner * self.columns * self.count

    @property
    def entries(self) -> int:
        """Entries of both factors and of the product, once."""
        return self.rows * self.inner + self.inner * self.columns + self.rows * self.columns

    def pieces(self, cores: int) -> Product:
        """Return the product cut in halves across its longest side until every core has one and its operands have room.

        >>> Product(4096, 64, 256).pieces(2)
        Product(rows=2048, inner=64, columns=256, count=2)
        """
        sides = {name: getattr(self, name) for name in ("rows", "inner", "columns")}
        longest = max(sides, key=lambda name: sides[name])
        if sides[longest] == 1 or (self.count >= cores and self.entries <= ENTRIES):
            return self
        return replace(self, **{longest: sides[longest] // 2}, count=2 * self.count).pieces(cores)


@dataclass(frozen=True)
class Work:
    """What one run of a method executes: matrix products by shape, and bytes moved at least, inputs read and output written.

    ``one_core``  the method runs on one core: so does its floor
    """

    products: tuple[Product, ...]
    bytes: int
    one_core: bool = False

    @property
    def multiply_adds(self) -> int:
        """Of all products.

        >>> Work((Product(4, 8, 2, count=3), Product(2, 2, 2)), bytes=0).multiply_adds
        200
        """
        return sum(one.multiply_adds for one in self.products)


def floor(work: Work, dtype: DTypeLike) -> float:
    """Return the floor of ``work`` in seconds, timed here and now; `schoenbat_theory.benchmark.bench` lets it take turns.

    >>> 0 < floor(Work((Product(64, 64, 64, count=8),), bytes=4096), "float32") < 1
    True
    """
    return lowest(take_turns(rivals(work, dtype), SEVERAL))


def rivals(work: Work, dtype: DTypeLike) -> list[Callable[[], None]]:
    """Return what takes turns with a method: its products alone, and copies of its bytes; all memory is taken here."""
    return [
        *([_products(work, np.dtype(dtype))] if work.products else []),
        *([_copies(work)] if work.bytes else []),
    ]


def lowest(seconds: Sequence[Sequence[float]]) -> float:
    """Return the floor that repeats of the `rivals` come to: the least of each, and the larger of these."""
    return max(map(min, seconds), default=0.0)


@functools.cache
def roof(dtype: str = "float32") -> tuple[float, float]:
    """Return multiply-adds per second, in large products on all cores, and bytes per second, in large copies; timed once."""
    work = Work((Product(SQUARE, SQUARE, SQUARE, CORES),), bytes=2 * CORES * COPIED)
    multiplied, copied = map(min, take_turns(rivals(work, dtype), SEVERAL))
    return work.multiply_adds / multiplied, work.bytes / copied


def _products(work: Work, dtype: np.dtype[Any]) -> Callable[[], None]:
    """Return what executes the products and nothing else, every core on operands of its own."""
    cores = 1 if work.one_core or work.multiply_adds < LITTLE else CORES
    pieces = [one.pieces(cores) for one in work.products]
    operands = [[_operands(one, dtype) for one in pieces] for _ in range(cores)]

    def share(core: int) -> None:
        for one, (left, right, out) in zip(pieces, operands[core], strict=True):
            for _ in range(core, one.count, cores):
                np.matmul(left, right, out=out)

    return _on(cores, share)


def _copies(work: Work) -> Callable[[], None]:
    """Return what reads half of the bytes and writes as many, in pieces as large as they can be."""
    cores = 1 if work.one_core or work.bytes < LITTLE else CORES
    half = -(-work.bytes // 2)
    size = min(-(-half // cores), COPIED)
    buffers = [
        np.ones((2, size), np.uint8) for _ in range(cores)
    ]  # touched: a page of zeros would be read from a cache

    def share(core: int) -> None:
        for start in range(core * size, half, cores * size):
            source, target = buffers[core][:, : half - start]
            np.copyto(target, source)

    return _on(cores, share)


def _operands(one: Product, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both factors and room for the product; ones, as their products are neither denormal nor infinite."""
    return (
        np.ones((one.rows, one.inner), dtype),
        np.ones((one.inner, one.columns), dtype),
        np.ones((one.rows, one.columns), dtype),
    )


def _on(cores: int, share: Callable[[int], None]) -> Callable[[], None]:
    """Return what does the shares of all cores, BLAS on one thread each."""

    def run() -> None:
        with one_core() if cores == 1 else contextlib.nullcontext():
            each(share, range(cores), np.empty(0))

    return run
