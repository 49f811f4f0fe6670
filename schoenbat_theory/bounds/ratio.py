r"""Bounds for the ratio R^ = sum_j k^_j v_j / sum_j k^_j against r = sum_j k_j v_j / sum_j k_j, k^_j unbiased for k_j > 0.

All rest on one identity, sum_j k_j (v_j - r) = 0, so that with S = sum_j k_j and L^ = sum_j k^_j (v_j - r) = sum_j (k^_j - k_j)(v_j - r)

    R^ - r = L^ / S^,    S^ = sum_j k^_j,    E L^ = 0,    E S^ = S.

For every h in (0, 1), {|R^ - r| > delta or S^ <= 0} is therefore inside {|L^| > delta (1 - h) S} or {S^ <= (1 - h) S}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import require_int
from schoenbat_theory.bounds.base import TailBound, reals

__all__ = ["RatioChebyshev", "RatioHoeffding", "ratio_deviation", "weight_deviation"]

_POSITIVE = "positive finite numbers", lambda x: (x > 0) & (x < math.inf)
_NOT_NEGATIVE = "finite numbers >= 0", lambda x: (x >= 0) & (x < math.inf)


@dataclass(frozen=True, eq=False)
class RatioHoeffding(TailBound):
    r"""(2 e + 1) exp(-D kbar^2 delta^2 / (2 B^2 (Dv + delta)^2)), a bound of P[max_c |R^ - r|_c > delta, or S^ <= 0].

    ``half_range``   B: every feature of every weight lies in [-B, B]
    ``mean_weight``  kbar = mean_j k_j > 0
    ``spread``       Dv = max_c mean_j |v_j - r|_c > 0, over the coordinates c of the values
    ``n_values``     e, the number of coordinates

    The deviation is delta, that of the ratio. No union over the n keys, and no n. Proof: in every coordinate one feature of
    L^ lies within n B Dv, and one of S^ within n B; S = n kbar. Hoeffding bounds |L^|_c > delta (1 - h) S by
    2 exp(-D delta^2 (1 - h)^2 kbar^2 / (2 B^2 Dv^2)), for each of e coordinates, and S^ <= (1 - h) S by
    exp(-D h^2 kbar^2 / (2 B^2)); h = delta / (Dv + delta) makes the exponents equal. Not in the sources seen.

    >>> bound = RatioHoeffding(half_range=2.0, mean_weight=1.0, spread=0.5)
    >>> round(float(bound.tail(0.5, 32)), 4), bool(np.isinf(bound.deviation(8, 0.05)))  # 3 / e; h cannot exceed 1
    (1.1036, True)
    """

    half_range: Any
    mean_weight: Any
    spread: Any
    n_values: int = 1

    source = "not in the sources seen"

    def __post_init__(self) -> None:
        self._require(*_POSITIVE, "half_range", "mean_weight", "spread")
        object.__setattr__(self, "n_values", require_int("n_values", self.n_values, 1))

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        h = 1 / (1 + self.spread / deviation)
        return (2 * self.n_values + 1) * np.exp(-n_features * (h * (self.mean_weight / self.half_range)) ** 2 / 2)


@dataclass(frozen=True, eq=False)
class RatioChebyshev(TailBound):
    r"""a (1 + g)^2 + b / (b + (g / (1 + g))^2), a bound of P[|R^ - r| > delta, or S^ <= 0] for one coordinate.

        a = A / (D delta^2 S^2),    b = B / (D S^2),    g = (b / a)^(1/3) = (B delta^2 / A)^(1/3)

    ``error_variance``   A: of one feature of L^ = sum_j k^_j (v_j - r), > 0
    ``weight_variance``  B: of one feature of S^ = sum_j k^_j, > 0
    ``weight``           S > 0; all three for sums over keys, or all three for means

    The deviation is delta. Proof: Chebyshev on |L^| > delta (1 - h) S gives a / (1 - h)^2, Cantelli on S^ <= (1 - h) S
    gives b / (b + h^2) <= b / h^2; h = g / (1 + g) makes a / (1 - h)^2 + b / h^2 smallest, (a^(1/3) + b^(1/3))^3. It does not
    depend on D, and the bound falls in D and in delta. No range is needed. Not in the sources seen.

    >>> bound = RatioChebyshev(error_variance=1.0, weight_variance=1.0, weight=1.0)
    >>> round(float(bound.tail(1.0, 96)), 4)  # 4 / 96 + 1 / (1 + 24)
    0.0817
    """

    error_variance: Any
    weight_variance: Any
    weight: Any

    source = "not in the sources seen"

    def __post_init__(self) -> None:
        self._require(*_POSITIVE, "error_variance", "weight_variance", "weight")

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        g = np.cbrt(self.weight_variance) / np.cbrt(self.error_variance) * np.cbrt(deviation) ** 2
        a = self.error_variance * ((1 + g) / deviation / self.weight) ** 2 / n_features
        b = self.weight_variance * ((1 + 1 / g) / self.weight) ** 2 / n_features
        return a + 1 / (1 + 1 / b)


def ratio_deviation(weight_deviation: Any, mean_weight: Any, spread: Any) -> np.ndarray:
    r"""Return eps Dv / (kbar - eps), which |R^ - r| does not exceed if no |k^_j - k_j| exceeds eps; ``inf`` for eps >= kbar.

    ``weight_deviation``  eps >= 0;  ``mean_weight``  kbar > 0;  ``spread``  Dv >= 0, the mean of |v_j - r|, in any norm
    that the error is measured in. All (...), broadcast.

    Proof: |L^| <= n eps Dv and S^ >= n (kbar - eps). No probability enters. Not in the sources seen.

    >>> float(ratio_deviation(0.5, 1.0, 3.0))
    3.0
    """
    eps = reals("weight_deviation", weight_deviation, *_NOT_NEGATIVE)
    mean = reals("mean_weight", mean_weight, *_POSITIVE)
    spread = reals("spread", spread, *_NOT_NEGATIVE)
    with np.errstate(all="ignore"):
        return np.where(eps < mean, eps / (mean - eps) * spread, np.inf)


def weight_deviation(ratio_deviation: Any, mean_weight: Any, spread: Any) -> np.ndarray:
    r"""Return delta kbar / (Dv + delta), the largest eps for which `ratio_deviation` is at most delta > 0.

    >>> float(weight_deviation(3.0, 1.0, 3.0))
    0.5
    """
    delta = reals("ratio_deviation", ratio_deviation, *_POSITIVE)
    mean = reals("mean_weight", mean_weight, *_POSITIVE)
    spread = reals("spread", spread, *_NOT_NEGATIVE)
    with np.errstate(all="ignore"):
        return mean / (1 + spread / delta)
