"""Closed forms of trigonometric features, on the host in float64: what two orthogonal ones have in common."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, require_int

__all__ = ["cosine_covariance", "cosine_variance"]

LONG, WIDE = 200.0, 13  # the sum is taken for z < LONG; beyond, the covariance of odd d > WIDE is nothing


def cosine_variance(squared_norm: Any) -> np.ndarray:
    """Return Var cos<w, x-y> = (1 - e^-G)^2 / 2 for w ~ N(0, I) and G = |x-y|^2, a number or a host array."""
    return np.asarray(np.expm1(-np.asarray(squared_norm)) ** 2 / 2)


def cosine_covariance(squared_norm: Any, dim: int) -> np.ndarray:
    r"""Return Cov(cos<w, x-y>, cos<w', x-y>) for orthogonal w and w' with independent chi_d norms.

        1F1(d; d/2; -G/2) - e^-G = E[(-1)^K b_K] - e^-G,   K ~ Poisson(G/2),  b_k = prod_{i<k} (d-2i) / (d+2i)

    ``squared_norm``  G = |x-y|^2, numbers >= 0 in a number or a host array, inf included;  ``dim``  d >= 2
    returns           an array of that shape

    The product of the cosines is (cos<w+w', x-y> + cos<w-w', x-y>) / 2; both vectors have a uniform direction and a
    chi_2d norm, whose moments give 1F1. Its series at -G/2 loses all digits for large G; Kummer's transformation
    e^-z 1F1(-d/2; d/2; z), z = G/2, gives the mean above, in which |b_k| <= 1. About -G^2 / (2d+4) for small G.

    Absolute error: that of one probability of K, whose logarithm has parts as large as k log k for k about z, times
    E|b_K| or E|1 - b_K|, both at most 2. From z = 200 on, even d has no more than 2 e^(-z/2), because Laguerre
    polynomials have |1F1(-n; n; z)| <= e^(z/2), and odd d has a tail of order z^-d: twelve terms of its asymptotic series
    are taken for d <= 13, and 0 is returned for all others (at d = 15, z = 200 the exact value is 5e-28, and less at
    every larger d that was evaluated).
    Raises ``ValueError`` for negative numbers and NaN. Source: derived here.

    >>> cosine_covariance([0.0, 1.0, np.inf], 4).round(6)
    array([ 0.      , -0.039342,  0.      ])
    """
    squared, dim = as_reals("squared_norm", squared_norm), require_int("dim", dim, 2)
    if not np.all(squared >= 0):
        raise ValueError(f"squared_norm: expected numbers >= 0, found {squared_norm!r:.60}")
    z = squared / 2
    return np.where(z < LONG, _poisson_mean(np.minimum(z, LONG), dim), _tail(np.maximum(z, LONG), dim))


def _poisson_mean(z: np.ndarray, dim: int) -> np.ndarray:
    """Return E[(-1)^K b_K] - e^-2z, that is E[(-1)^K (b_K - 1)], K ~ Poisson(z)."""
    # Signs cancel, so the smaller terms are summed: b_k is about e^(-2 k^2 / d).
    near = z * z < dim / 2 + 1
    # Chernoff: P(K >= z + s) <= exp(-s^2 / (2z + 2s/3)) = e^-L. What is left out is 2^-56 of z^2 e^-2z / (d/2 + 1), the
    # covariance of small z, at z = 1; smaller z leave out less, and larger ones 2^-56 at most.
    left = 60 * math.log(2) + math.log(dim + 2)
    top = max(float(z.max(initial=0.0)), 1.0)
    last = math.ceil(top + left / 3 + math.sqrt(left**2 / 9 + 2 * left * top))
    with np.errstate(divide="ignore"):
        log_z = np.log(z)
    total, b, rest = np.where(near, 0.0, np.exp(-z) - np.exp(-2 * z)), 1.0, 0.0  # rest = 1 - b
    for k in range(1, last + 1):
        rest += b * 4 * (k - 1) / (dim + 2 * (k - 1))
        b *= (dim - 2 * (k - 1)) / (dim + 2 * (k - 1))
        total += (-1) ** k * np.exp(k * log_z - z - math.lgamma(k + 1)) * np.where(near, -rest, b)
    return total


def _tail(z: np.ndarray, dim: int) -> np.ndarray:
    """Return Gamma(n) / Gamma(-n) z^-2n sum_s (n+1)_s (2n)_s / (s! z^s), n = d/2, which is 0 for even d."""
    if dim % 2 == 0 or dim > WIDE:
        return np.zeros_like(z)
    term, total = np.ones_like(z), np.ones_like(z)
    for s in range(12):
        term = term * (dim / 2 + 1 + s) * (dim + s) / ((s + 1) * z)
        total += term
    sign = 1.0 if dim % 4 == 3 else -1.0  # 1 / Gamma(-n) = -Gamma(n+1) sin(pi n) / pi
    log_size = math.lgamma(dim / 2) + math.lgamma(dim / 2 + 1) - math.log(math.pi) - dim * np.log(z)
    return np.asarray(sign * np.exp(log_size) * total)
