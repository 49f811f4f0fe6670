r"""The Walsh-Hadamard transform, by two small matrices.

    H_1 = (1),   H_2m = [[H_m, H_m], [H_m, -H_m]],   H_ab = H_a (x) H_b

With x written as an a x b matrix X row by row, H_ab x is H_a X H_b: two products with matrices of about sqrt(n) rows,
n (a + b) multiply-adds, where a dense product has n^2. No other step rounds.
"""

from __future__ import annotations

import functools

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, check_floating

__all__ = ["hadamard", "hadamard_multiply_adds"]


def hadamard(x: Array) -> Array:
    """Return the Walsh-Hadamard transform of ``x`` along its last axis, without a factor: H H = n.

    ``x`` (..., n), n a power of two, float32 or float64; returns (..., n), same library, device and dtype. It scans
    neither its input nor its output: NaN stays NaN. Raises ``ValueError`` for another length, ``TypeError`` for another
    dtype. Source: Sylvester's construction, folklore.

    >>> hadamard(np.array([1.0, 2.0, 0.0, 0.0]))
    array([ 3., -1.,  3., -1.])
    """
    xp = check_floating(x=x)
    n = x.shape[-1] if x.ndim else 0
    if n < 1 or n & (n - 1):
        raise ValueError(f"x: expected (..., n), n a power of two, found {tuple(x.shape)}")
    a, b = _split(n)
    left, right = (asarray_like(_matrix(m), x) for m in (a, b))
    square = xp.reshape(x, (*x.shape[:-1], a, b))
    return xp.reshape(left @ (square @ right), x.shape)


def hadamard_multiply_adds(n: int) -> int:
    """Return the multiply-adds of one transform of length ``n``, as `hadamard` executes it.

    >>> hadamard_multiply_adds(64)
    1024
    """
    return n * sum(_split(n))


@functools.cache
def _matrix(n: int) -> np.ndarray:
    """Return H_n, (n, n)."""
    return functools.reduce(np.kron, [np.array([[1.0, 1.0], [1.0, -1.0]])] * (n.bit_length() - 1), np.ones((1, 1)))


def _split(n: int) -> tuple[int, int]:
    """Return the two factors of a power of two that are closest to each other, the smaller first."""
    a = 1 << (n.bit_length() - 1) // 2
    return a, n // a
