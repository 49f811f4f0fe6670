r"""A frame of queries and keys: shifts and a change of basis under which softmax attention stays what it is.

    q' = B (q - c),    k' = B^-T (k - m),    log w' = log w + <c, k>

    exp(<q, k>) w = exp(<q', k'>) w' exp(<q, m> - <c, m>)

The last factor belongs to the query and cancels in attention. In a series that is cut off nothing cancels: there c, m
and B decide how small <q', k'> is and which coordinates carry it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schoenbat_theory.arrays import Array, eps, namespace
from schoenbat_theory.features.weights import top_off

__all__ = ["Frame", "balanced_basis"]


@dataclass(frozen=True, eq=False)
class Frame:
    """Shifts and a basis of every head, under which softmax attention stays what it is; `recenter` chooses them.

        q' = B (q - c),    k' = B^-T (k - m),    log w' = log w + <c, k>

    ``query_shift`` (..., d) c;  ``key_shift`` (..., d) m;  ``basis`` (..., d, d) B;  ``dual`` (..., d, d) B^-T, not checked

    >>> import numpy as np
    >>> frame = Frame(np.ones(2), np.zeros(2), 2 * np.eye(2), np.eye(2) / 2)
    >>> frame.queries(np.array([[1.0, 3.0]])), frame.keys(np.array([[4.0, 2.0]]))
    (array([[0., 4.]]), array([[2., 1.]]))
    """

    query_shift: Array
    key_shift: Array
    basis: Array
    dual: Array

    def queries(self, q: Array) -> Array:
        """Return B (q - c), (..., n, d), of ``q`` (..., n, d)."""
        return (q - self.query_shift[..., None, :]) @ namespace(q).matrix_transpose(self.basis)

    def keys(self, k: Array) -> Array:
        """Return B^-T (k - m), (..., m, d), of ``k`` (..., m, d)."""
        return (k - self.key_shift[..., None, :]) @ namespace(k).matrix_transpose(self.dual)

    def key_log_weights(self, k: Array, given: Array | None = None) -> Array:
        """Return the log-weights (..., m) that the shift of the queries leaves to ``k``, the largest 0; ``given`` are added."""
        tilt = (k @ self.query_shift[..., None])[..., 0]
        return top_off(tilt if given is None else top_off(given) + tilt)


def balanced_basis(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    r"""Return B and B^-T (..., d, d) which make second moments of ``x`` and ``y`` one diagonal that falls.

        B X B^T = B^-T Y B^-1 = S,    X = mean of x x^T,    Y = sum_j w_j y_j y_j^T

    With roots X = L L^T, Y = K K^T and K^T L = V S U^T it is B = S^(1/2) U^T L^-1, B^-T = S^(-1/2) U^T L^T. Eigenvalues
    of X and Y below sqrt(u) times their largest, u the unit roundoff, are raised to that, and those directions alone are not
    balanced: B^T B is the geometric mean of X^-1 and Y, so that B has a condition of at most u^(-1/4) whatever x and y are.
    Source: this is the basis of balanced realisations of linear systems (Moore, 1981, from memory).

    ``x`` (..., n, d), ``y`` (..., m, d);  ``weights`` (..., m), sum 1
    """
    xp = namespace(x)
    size_x, size_y = _size(x), _size(y)  # taken off, as squares may overflow
    x, y = x / size_x, y / size_y
    queries, root_x = _eigen(xp.matrix_transpose(x) @ x / max(x.shape[-2], 1), eps(x))
    keys, root_y = _eigen(xp.matrix_transpose(y * weights[..., None]) @ y, eps(x))
    k_root, l_root = keys * root_y[..., None, :], queries * root_x[..., None, :]
    _, s, u_t = xp.linalg.svd(xp.matrix_transpose(k_root) @ l_root, full_matrices=False)
    root_s = xp.sqrt(s)[..., :, None]
    basis = root_s * (u_t @ xp.matrix_transpose(queries / root_x[..., None, :]))
    dual = u_t @ xp.matrix_transpose(l_root) / root_s
    scale = xp.sqrt(size_y) / xp.sqrt(size_x)
    return xp.astype(basis, x.dtype) * scale, xp.astype(dual, x.dtype) / scale


def _size(x: Array) -> Array:
    """Return the largest |entry| of each matrix, (..., 1, 1); 1 where there is none but zeros."""
    xp = namespace(x)
    if 0 in x.shape[-2:]:
        return xp.ones_like(xp.sum(x, axis=(-2, -1), keepdims=True))
    size = xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    return xp.where(size > 0, size, xp.ones_like(size))


def _eigen(moments: Array, unit: float) -> tuple[Array, Array]:
    """Return eigenvectors and roots of eigenvalues of second moments (..., d, d), in float64, none of them small."""
    xp = namespace(moments)
    values, vectors = xp.linalg.eigh(xp.astype(moments, xp.float64))
    largest = values[..., -1:]
    floor = xp.where(largest > 0, math.sqrt(unit) * largest, xp.ones_like(largest))
    return vectors, xp.sqrt(xp.maximum(values, floor))
