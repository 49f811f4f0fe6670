"""Closed forms of positive features, on the host in float64: variance, what orthogonality takes off it, best tilt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, require_int

__all__ = ["log_relative_variance", "optimal_tilt", "orthogonal_gap"]


def optimal_tilt(squared_norm: Any, dim: int) -> Any:
    r"""Return the tilt A <= 0 for which one positive feature has the smallest second moment.

        A = (1 - 2f - sqrt((2f + 1)^2 + 8f)) / 16,    f = |x + y|^2 / d

    ``squared_norm``  |x + y|^2 >= 0, a number or a host array;  ``dim``  d;  returns a float or an array of that shape

    It is the minimiser over A < 1/8 of ((rho+1) / (2 sqrt rho))^d exp(rho |x+y|^2), rho = 1/(1-8A). Orthogonal blocks
    take off the same whatever the tilt, so it is best for them too; hyperbolic pairs have a minimiser of their own.
    Raises ``ValueError`` for what is negative or not finite. Source: Likhosherstov et al. (2022), not seen; derived
    here.

    >>> optimal_tilt(0.0, 64), round(optimal_tilt(16.0, 64), 4)
    (0.0, -0.0976)
    """
    f = _squared_norm(squared_norm) / require_int("dim", dim, 1)
    root = np.hypot(2 * f + 1, np.sqrt(8 * f))
    # With root^2 - 4f^2 = 1 + 12f the difference becomes sums of positive terms: no cancellation, however small f.
    return _like(0.0 - f / (1 + (1 + 12 * f) / (root + 2 * f)))


def orthogonal_gap(squared_norm: Any, dim: int) -> Any:
    r"""Return 1 - E g(w) g(w') / exp(2<x, y>) for orthogonal w and w' with independent chi_d norms, in [0, 1].

        gap = 1 - e^-F 1F1(d; d/2; F/2) = E[1 - c_K],   K ~ Poisson(F),  F = |x+y|^2,  c_k = prod_{i<k} (d+i) / (d+2i)

    ``squared_norm``  F >= 0, a number or a host array;  ``dim``  d;  returns a float or an array of that shape

    w + w' has a uniform direction and a chi_2d norm, and its moments give the series; the tilt cancels. Each pair of
    orthogonal features has the covariance -gap exp(2<x, y>). About F^2 / (2d+4) for small F, near 1 for large F.
    All terms are positive, so the relative error is that of one of them, whose logarithm has parts as large as k log k
    for k about F + d. Raises ``ValueError`` for what is negative or not finite. Source: not in those seen; Theorem 2 of
    Choromanski et al. (2021), seen, bounds it below.

    >>> orthogonal_gap(0.0, 4), round(orthogonal_gap(1.0, 4), 6)
    (0.0, 0.064932)
    """
    squared = _squared_norm(squared_norm)
    dim = require_int("dim", dim, 1)
    # c_k <= (2/3)^(k-d), as factors with i >= d are <= 2/3; hence 1 - gap <= (3/2)^d e^(-F/3), below u/8 from here on.
    largest = 3 * (dim * math.log(1.5) + 56 * math.log(2))
    squared = np.minimum(squared, largest)
    # Chernoff: P(K >= F + s) <= exp(-s^2 / (2F + 2s/3)) = e^-L. The sum is at least P(K = 2) / (d+2), so F^2 / (6d + 12)
    # for F <= 1; beyond it is more than at 1. So 2^-56 of it is left out at most. Smaller F leave out less.
    top = max(float(squared.max(initial=0.0)), 1.0)
    left = 56 * math.log(2) + math.log(6 * dim + 12)
    last = math.ceil(top + left / 3 + math.sqrt(left**2 / 9 + 2 * left * top))
    with np.errstate(divide="ignore"):
        log_squared = np.log(squared)
    total, log_c = np.zeros_like(squared), 0.0
    for k in range(2, last + 1):
        log_c += math.log1p(-(k - 1) / (dim + 2 * (k - 1)))
        total += np.exp(k * log_squared - squared - math.lgamma(k + 1)) * -math.expm1(log_c)
    return _like(np.minimum(total, 1.0))


@np.errstate(all="ignore")  # the branch not taken overflows
def log_relative_variance(
    squared: np.ndarray, dim: int, *, tilt: float, hyperbolic: bool, blocks: Sequence[int]
) -> np.ndarray:
    r"""Return log(Var / exp(2<x, y>)) of a mean of m products, in blocks that are orthogonal within.

        Var / SM^2 = (1/m) (E h^2 / SM^2 - 1) - (1/m^2) sum_blocks b (b-1) gap

    ``squared`` |x + y|^2;  ``blocks``  their sizes b, m in all;  -inf where the variance is 0, inf for ``tilt`` >= 1/8.
    """
    if tilt >= 0.125:
        return np.full(squared.shape, math.inf)
    m, pairs = sum(blocks), sum(b * (b - 1) for b in blocks)
    rho_less_1 = 8 * tilt / (1 - 8 * tilt)
    root = math.sqrt(1 + rho_less_1)
    log_p = dim * math.log1p((rho_less_1 / (root + 1)) ** 2 / (2 * root))
    # a >= 0 and b are the logarithms of E g(w)^2 / SM^2 and E g(w) g(-w) / SM^2. All is divided by e^a.
    a, b = log_p + (1 + rho_less_1) * squared, log_p - squared
    excess = -np.expm1(-a)
    if hyperbolic:
        # (e^a + e^b) / 2 - 1: the first form has no cancellation at small vectors, the second no overflow.
        small = np.expm1(-a) * np.expm1(b) + np.exp(-a) * np.expm1(2 * log_p + rho_less_1 * squared)
        excess = np.where(a < 1, small, 1 + np.exp(b - a) - 2 * np.exp(-a)) / 2
    if pairs:
        excess = excess - np.exp(-a) * orthogonal_gap(squared, dim) * (pairs / m)
    return np.asarray(a + np.log(np.maximum(excess, 0.0)) - math.log(m))  # rounding may say less than 0


def _squared_norm(value: Any) -> np.ndarray:
    found = as_reals("squared_norm", value)
    if not np.all((found >= 0) & (found < math.inf)):
        raise ValueError(f"squared_norm: expected finite numbers >= 0, found {value!r:.60}")
    return found


def _like(result: np.ndarray) -> Any:
    return np.asarray(result) if np.ndim(result) else float(result)
