"""Clusters of equal size, cut again and again at quantiles of their principal axis, and the largest of many numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from schoenbat_theory.arrays import Array, device_of, namespace

__all__ = ["covariance", "equal_clusters", "fit_multiply_adds", "gather", "largest", "rounded_up"]

STEPS = 4  # of the power method: an axis that is nearly another is as good a place to cut
GOLDEN = (5**0.5 - 1) / 2
SAMPLE = 2  # tokens per coordinate that an axis or a covariance is fitted to


def equal_clusters(x: Array, metric: Array, *counts: int) -> Array:
    r"""Return the rows of each of c clusters of one size, and of the parts of clusters, where ``counts`` has several.

        cut every cluster into p of one size at quantiles of <a, x>, a with the largest variance a' Cov(x) a of all
        with a' metric^+ a = 1, for every prime factor p of the first of ``counts``, then of the next

    ``x``       (h, n, d), entries at most 1 in size, n a multiple of the product of ``counts``
    ``metric``  (h, d, d), positive semidefinite: how the other side of the inner products varies, so that it is products
                that are alike in a cluster, whatever the basis
    returns     integers (h, *counts, n / product), rows of x

    The axis is found by the power method on a sample. Nothing is random. Not in the sources seen.
    """
    xp, (heads, n, _) = namespace(x), x.shape
    index = xp.broadcast_to(xp.arange(n, device=device_of(x)), (heads, 1, n))
    for p in _cuts(counts):
        rows, size = gather(x, index), index.shape[-1] // p  # (h, c, size p, d)
        scores = (rows @ xp.matrix_transpose(_principal_axis(rows, metric)))[..., 0]
        order = xp.argsort(scores, axis=-1, stable=False)
        # Sorted, so that rounding, which may swap neighbours, leaves the samples of all clusters as they are.
        index = xp.sort(xp.reshape(_take_along(index, order), (heads, -1, size)), axis=-1)
    return xp.reshape(index, (heads, *counts, -1))


def gather(x: Array, index: Array) -> Array:
    """Return the rows ``index`` (h, ...) of x (h, n, d), each from its head: (h, ..., d)."""
    xp, (heads, n, d) = namespace(x), x.shape
    first = xp.arange(heads, device=device_of(x)) * n
    flat = index + xp.reshape(first, (heads, *(1,) * (index.ndim - 1)))
    return xp.reshape(xp.take(xp.reshape(x, (heads * n, d)), xp.reshape(flat, (-1,)), axis=0), (*index.shape, d))


def covariance(x: Array) -> Array:
    """Return the covariance (h, d, d) of a sample of the tokens x (h, n, d), divided by its largest variance."""
    xp = namespace(x)
    x = _sample(x)
    x = x - xp.mean(x, axis=-2, keepdims=True)
    found = xp.matrix_transpose(x) @ x
    top = xp.max(xp.abs(found), axis=(-2, -1), keepdims=True)
    return found / xp.where(top > 0, top, xp.ones_like(top))


def fit_multiply_adds(n: int, dim: int, *counts: int) -> float:
    """Return what `equal_clusters` and one covariance cost one head, in multiply-adds.

    A covariance: s d (d + 1) for s sampled tokens. Each cut: n d for the scores, and for every cluster of which s tokens
    are sampled 2 s d for the mean and the farthest, d^2 + d to begin and 2 s d + d^2 + d per step for the axis.
    """
    sampled = min(n, SAMPLE * dim)
    clusters, total = 1, float(sampled * dim * (dim + 1))
    for p in _cuts(counts):
        s = min(n // clusters, SAMPLE * dim)
        total += n * dim + clusters * (2 * s * dim + dim**2 + dim + STEPS * (2 * s * dim + dim**2 + dim))
        clusters *= p
    return total


def largest(x: Array, count: int) -> tuple[Array, Array]:
    """Return where the ``count`` largest entries of the last axis are, from first to last, and booleans that mark them.

    NumPy and its like look for the smallest of them alone, unless others are as large, and sort nothing.

    >>> import numpy as np
    >>> largest(np.array([3.0, 1.0, 2.0]), 1)
    (array([0]), array([ True, False, False]))
    """
    xp, length = namespace(x), x.shape[-1]
    if hasattr(xp, "partition") and 0 < count < length:
        marked = x >= xp.partition(x, length - count, axis=-1)[..., length - count, None]
        (found,) = xp.nonzero(xp.reshape(marked, (-1,)))
        rows = math.prod(x.shape[:-1])
        if found.size == rows * count:  # none beside that are as large
            first = xp.arange(rows, device=device_of(x)) * length
            return xp.reshape(xp.reshape(found, (rows, count)) - first[:, None], (*x.shape[:-1], count)), marked
    if not (hasattr(xp, "argpartition") and hasattr(xp, "put_along_axis")):
        order = xp.argsort(-x, axis=-1)
        return xp.sort(order[..., :count], axis=-1), xp.argsort(order, axis=-1) < count
    index = xp.sort(xp.argpartition(-x, min(count, length - 1), axis=-1)[..., :count], axis=-1)
    marked = xp.zeros_like(x, dtype=xp.bool)
    xp.put_along_axis(marked, index, True, axis=-1)
    return index, marked


def _principal_axis(rows: Array, metric: Array) -> Array:
    """Return metric times the direction of largest variance of ``rows`` (h, c, s, d), (h, c, 1, d), zeros where there is none."""
    xp = namespace(rows)
    z = _sample(rows)
    z = z - xp.mean(z, axis=-2, keepdims=True)
    metric = metric[:, None, :, :]
    farthest = xp.argmax(xp.vecdot(z, z), axis=-1)  # it has a share in the axis, as zeros have not
    axis = gather(xp.reshape(z, (-1, *z.shape[-2:])), xp.reshape(farthest, (-1, 1)))
    axis = _of_size_one(xp.reshape(axis, (*z.shape[:-2], 1, z.shape[-1])) @ metric)
    for _ in range(STEPS):
        axis = _of_size_one((xp.matrix_transpose(z @ xp.matrix_transpose(axis)) @ z) @ metric)
    return axis


def _of_size_one(axis: Array) -> Array:
    """Return axes (..., 1, d) with 1 as largest |entry|, or zeros: squares of a length could underflow beside a huge token."""
    xp = namespace(axis)
    size = xp.max(xp.abs(axis), axis=-1, keepdims=True)
    return axis / xp.where(size > 0, size, xp.ones_like(size))


def _sample(x: Array) -> Array:
    """Return at most 2 d of the rows of x (..., n, d), spread by the golden ratio, which no period of the rows echoes."""
    xp, n, count = namespace(x), x.shape[-2], SAMPLE * x.shape[-1]
    if n <= count:
        return x
    rows = [int(i * GOLDEN % 1 * n) for i in range(count)]
    return xp.take(x, xp.asarray(rows, device=device_of(x)), axis=-2)


def _take_along(index: Array, order: Array) -> Array:
    """Return ``index`` (h, c, s) in another ``order`` (h, c, s) of each cluster."""
    xp, s = namespace(index), index.shape[-1]
    rows = xp.reshape(xp.arange(order.size // s, device=device_of(order)) * s, (*order.shape[:-1], 1))
    return xp.reshape(xp.take(xp.reshape(index, (-1,)), xp.reshape(order + rows, (-1,))), order.shape)


def rounded_up(count: int) -> int:
    """Return the smallest 2^a 3^b that is at least ``count``: it can be cut into halves and thirds again and again.

    >>> [rounded_up(count) for count in (1, 5, 47, 64, 65)]
    [1, 6, 48, 64, 72]
    """
    powers: list[int] = [3**b for b in range(count.bit_length())]
    return min(power << (-(-count // power) - 1).bit_length() for power in powers)


def _cuts(counts: Sequence[int]) -> list[int]:
    """Return the prime factors of each of ``counts``, the largest first.

    >>> _cuts([12, 4])
    [3, 2, 2, 2, 2]
    """
    return [p for count in counts for p in _prime_factors(count)]


def _prime_factors(count: int) -> list[int]:
    factors, p = list[int](), 2
    while count > 1:
        while count % p == 0:
            factors.append(p)
            count //= p
        p += 1
    return factors[::-1]
