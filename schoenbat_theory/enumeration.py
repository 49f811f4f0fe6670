"""Exact answers by enumeration: every sign vector, every power, no sampling."""

from __future__ import annotations

import itertools

import numpy as np

__all__ = ["product_moment", "sign_vectors"]

LARGEST = 20  # 2^20 sign vectors of length 20 are 168 MB in float64


def sign_vectors(dim: int) -> np.ndarray:
    """Return all 2^d vectors of {-1, 1}^d, (2^d, d) int64.

    >>> sign_vectors(2).tolist()
    [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    """
    if not 1 <= dim <= LARGEST:
        raise ValueError(f"dim: expected 1 .. {LARGEST}, found {dim!r}")
    return np.array(list(itertools.product((-1, 1), repeat=dim)), dtype=np.int64)


def product_moment(x: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    """Return E[(<w, x> <w, y>)^order] for w uniform on {-1, 1}^d, by enumeration, over leading axes.

    ``x, y`` (..., d), integers (then the sum is exact until the division by 2^d) or floats; returns (...) float64.

    >>> float(product_moment(np.array([1, 1]), np.array([1, -1]), 2))
    0.0
    """
    signs = sign_vectors(x.shape[-1])
    products = (x @ signs.T) * (y @ signs.T)  # (..., 2^d)
    return np.sum(products**order, axis=-1) / len(signs)
