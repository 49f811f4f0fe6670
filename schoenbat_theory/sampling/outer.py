r"""Replicates that are outer products: their sums are matrix products, and none of them is formed.

sum_r z_r = A^T B,    sum_r z_r^2 = (A o A)^T (B o B),    z_r[i, j] = a_r[i] b_r[j],  o elementwise
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals
from schoenbat_theory.sampling.batches import Batched

__all__ = ["OuterProducts"]


class OuterProducts(Batched):
    """Replicates z[..., i, j] = a[..., i] b[..., j], such as products of random features over all pairs of two sets of points.

    ``factors``  (rng, size) -> a (size, ..., n) and b (size, ..., m), independent over the first axis
    ``about``    (..., n, m) or a number c: replicates are (z - c)^2 instead

    A sampler for `check_mean` whose target is (..., n, m). A replicate costs n + m numbers and two multiply-adds a pair.
    With known bounds every replicate is looked at, so that they are formed after all.

    >>> from schoenbat_theory import check_mean
    >>> square = OuterProducts(lambda rng, size: (rng.random((size, 3)), rng.random((size, 4))))
    >>> check_mean(square, np.full((3, 4), 0.25), margin=0.02, variance=7 / 144, rng=0).verdict
    'consistent'
    """

    def __init__(
        self, factors: Callable[[np.random.Generator, int], tuple[Any, Any]], about: np.ndarray | float | None = None
    ) -> None:
        self.factors = factors
        self.about = None if about is None else as_reals("about", about)
        if self.about is not None and not np.isfinite(self.about).all():
            raise ValueError(f"about: expected finite numbers, found {about!r:.60}")

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return replicates, formed: (size, ..., n, m)."""
        a, b = self._drawn(rng, size)
        products: np.ndarray = a[..., :, None] * b[..., None, :]
        return products if self.about is None else (products - self.about) ** 2

    def means(
        self, rng: np.random.Generator, batches: int, size: int, centre: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return batch means and a scale for their rounding error, as `Batched` says.

        The mean of (z - c)^2 is made of three terms, of which the largest is at most (|z| + |c|)^2 <= 2 (z^2 + c^2) in the mean.
        """
        a, b = self._drawn(rng, batches * size)
        if (shape := (*a.shape[1:], *b.shape[-1:])) != centre.shape:
            raise ValueError(f"sample: expected factors of a target {centre.shape}, found those of {shape}")
        with np.errstate(over="ignore", invalid="ignore"):  # found in the squares
            first, second = _sums(a, b, batches) / size, _sums(a * a, b * b, batches) / size
            square = second.mean(axis=0)
        if not np.isfinite(square).all():
            raise ArithmeticError("sample: a replicate, or its square, is not finite")
        if self.about is None:
            return first, batches * size * square
        largest = 2 * (square + self.about**2)
        return second - 2 * self.about * first + self.about**2, batches * size * largest**2

    def held(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (..., n + m): replicates are not held, their factors are."""
        return (*shape[:-2], sum(shape[-2:]))

    def _drawn(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return both factors in float64, of one shape but for the last axis: nothing overflows or is broadcast."""
        a, b = (as_reals("sample", one) for one in self.factors(rng, size))
        if min(a.ndim, b.ndim) < 2 or a.shape[:-1] != b.shape[:-1] or len(a) != size:
            raise ValueError(
                f"sample: expected factors (size, ..., n) and (size, ..., m), found {a.shape} and {b.shape} for size = {size}"
            )
        return a, b


def _sums(a: np.ndarray, b: np.ndarray, batches: int) -> np.ndarray:
    """Return the sums of the outer products of each batch, (batches, ..., n, m)."""
    a, b = (np.moveaxis(x.reshape(batches, -1, *x.shape[1:]), 1, -2) for x in (a, b))  # (batches, ..., size, n or m)
    return np.swapaxes(a, -1, -2) @ b
