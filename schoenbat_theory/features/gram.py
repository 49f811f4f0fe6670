"""Gram matrices of landmarks: the Gaussian one, what rounding does to it, and the spectrum that can be divided by."""

from __future__ import annotations

from typing import Any

from schoenbat_theory.arrays import Array, all_finite, asarray_like, eps, namespace

__all__ = ["centred_gram", "gaussian_rounding", "inverse_roots"]


def centred_gram(x: Array, y: Array) -> Array:
    """Return exp(-|x_i - y_j|^2 / 2), (..., n, m), for rows that lie around the origin; nothing is checked."""
    xp = namespace(x)
    exponent = x @ xp.matrix_transpose(y)
    exponent -= (xp.vecdot(x, x) / 2)[..., :, None]
    exponent -= (xp.vecdot(y, y) / 2)[..., None, :]
    return xp.exp(xp.minimum(exponent, asarray_like(0.0, exponent)))


def gaussian_rounding(y: Array, name: str) -> Array:
    """Return the bound of `gaussian_gram` on the error of an entry, (...), for ``y`` (..., m, d) around the origin.

    Where x is one of y too, it bounds the relative error: (a + b)^2 / 2 <= 2 b^2. Raises ``ValueError`` with ``name``
    where it reaches 1: no digit would be right; and where it overflows.
    """
    xp, d = namespace(y), y.shape[-1]
    squares = xp.sum(y * y, axis=-1)
    spread = xp.max(squares, axis=-1) if y.shape[-2] else xp.sum(squares, axis=-1)
    bound = eps(y) * ((d + 4) * (1 + 4 * spread) + 2)
    if not all_finite(bound):
        raise ValueError(f"{name}: finite, but squared distances overflow {y.dtype}; scale down or use float64")
    if not bool(xp.all(bound < 1)):
        raise ValueError(
            f"{name}: expected rows around their mean, found one {float(xp.max(spread)) ** 0.5:.3g} away: squared "
            f"distances have no correct digit in {y.dtype}; scale down or use float64"
        )
    return bound


def inverse_roots(gram: Array, rounding: Any) -> tuple[Array, Array]:
    """Return eigenvectors (..., c, c) of a semidefinite matrix and 1 / sqrt(eigenvalue), 0 where it may be zero, (..., c).

    An eigenvalue of at most (rounding + c u) lambda_max may be: ``rounding`` (...) bounds by how much entries move the
    matrix, over lambda_max; the eigenvalues as computed are those of a matrix at most c u lambda_max away.
    """
    xp, count = namespace(gram), gram.shape[-1]
    values, vectors = xp.linalg.eigh(gram)
    cut = (rounding + count * eps(gram)) * values[..., -1]
    kept = values > xp.maximum(cut, xp.zeros_like(cut))[..., None]
    roots = xp.where(kept, 1 / xp.sqrt(xp.where(kept, values, xp.ones_like(values))), xp.zeros_like(values))
    return vectors, roots
