"""The matrix inverse of Skyformer's released code: a cubic iteration that uses products only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    check_finite,
    check_floating,
    device_of,
    namespace,
    require_int,
    require_real,
)

__all__ = ["SchulzInverse", "schulz_inverse", "schulz_step"]


@dataclass(frozen=True)
class SchulzInverse:
    """What `schulz_inverse` returns.

    ``inverse``     (..., c, c), approximately (gram + gamma I)^-1
    ``normalized``  (..., c, c), X = D^-1/2 (gram + gamma I) D^-1/2 with D = diag((gram + gamma I) 1)
    ``iterate``     (..., c, c), V, approximately X^-1;  inverse = D^-1/2 V D^-1/2
    """

    inverse: Array
    normalized: Array
    iterate: Array

    @property
    def residual(self) -> Array:
        """The spectral norm of I - X V, (...): 0 is an inverse, near 1 some direction is not inverted at all."""
        xp = namespace(self.iterate)
        return xp.linalg.matrix_norm(_identity(self.iterate) - self.normalized @ self.iterate, ord=2)


def schulz_inverse(gram: Array, *, steps: int = 6, gamma: float = 0.1) -> SchulzInverse:
    r"""Invert gram + gamma I approximately, by ``steps`` steps of `schulz_step` on the normalised matrix.

        M = gram + gamma I,   D = diag(M 1),   X = D^-1/2 M D^-1/2,   V_0 = X^T / max_j sum_i X_ij

    ``gram``   (..., c, c), symmetric positive semidefinite, row sums of M positive
    ``steps``  int >= 0, ``gamma``  number >= 0; the defaults are those of the released code
    returns    `SchulzInverse`

    D^(1/2) 1 is an eigenvector of X with eigenvalue 1. Where no entry of M is negative it is the largest, and where
    gamma > 0 too, eigenvalues of I - X V_0 lie in [0, 1) and the iteration converges. An eigenvalue t of X V that is
    small grows to at most 13 t / 4 in a step: directions with t_0 below 1e-4, of which six steps make less than 0.12,
    are damped rather than inverted.

    The released code divides V_0 by the largest column sum of all matrices of a batch, where one item changes the
    result of another; here it is that of each matrix. Raises ``TypeError`` or ``ValueError`` for wrong input, and
    ``ValueError`` where the iteration overflows.

    Source: arXiv:2111.00035, section 4.4, and its released code (seen). Lemma 3 there has the singular values of X in
    the open interval (0, 1); 1 is one of them.

    >>> schulz_inverse(np.eye(2), gamma=0.25).inverse  # D = M: X and V are the identity
    array([[0.8, 0. ],
           [0. , 0.8]])
    """
    xp = check_floating(gram=gram)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2] or gram.shape[-1] == 0:
        raise ValueError(f"gram: expected shape (..., c, c), c >= 1, found {tuple(gram.shape)}")
    steps = require_int("steps", steps, 0)
    gamma = require_real("gamma", gamma, "a number >= 0", lambda g: 0 <= g < math.inf)
    check_finite(gram=gram)
    with np.errstate(all="ignore"):  # an overflow is found in the result
        shifted = gram + gamma * _identity(gram)
        sums = xp.sum(shifted, axis=-1)
        if bool(xp.any(sums <= 0)):
            raise ValueError(f"gram: expected positive row sums of gram + gamma I, found {float(xp.min(sums)):.3g}")
        root = xp.sqrt(sums)
        outer = root[..., :, None] * root[..., None, :]
        x = shifted / outer
        iterate = xp.matrix_transpose(x) / xp.max(xp.sum(x, axis=-2), axis=-1)[..., None, None]
        for _ in range(steps):
            iterate = schulz_step(x, iterate)
        inverse = iterate / outer
    if not all_finite(iterate, inverse):
        words = "expected a positive semidefinite matrix, found one on which the iteration overflows"
        raise ValueError(f"gram, gamma: {words} {gram.dtype}")
    return SchulzInverse(inverse, x, iterate)


def schulz_step(x: Array, v: Array) -> Array:
    r"""Return V (13 I - X V (15 I - X V (7 I - X V))) / 4, the next approximation of X^-1.

    With E = I - X V it makes E' = (3 E^3 + E^4) / 4 of the residual: third order. ``x``, ``v`` (..., c, c), of any
    dtype: with ``Fraction`` entries the step is exact.

    Source: arXiv:2111.00035, section 4.4 (seen).

    >>> schulz_step(np.array([[0.5]]), np.array([[1.0]]))  # E = 1/2, E' = 7/64: X V' = 57/64
    array([[1.78125]])
    """
    identity, product = _identity(v), x @ v
    return v @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product))) / 4


def _identity(like: Array) -> Array:
    return namespace(like).eye(like.shape[-1], dtype=like.dtype, device=device_of(like))
