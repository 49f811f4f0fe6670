"""Bounds for the mean of D independent, equally distributed numbers: bounded ones, and ones of known variance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from schoenbat_theory.bounds.base import TailBound

__all__ = ["Cantelli", "CentralLimit", "Chebyshev", "EmpiricalBernstein", "Hoeffding"]


@dataclass(frozen=True, eq=False)
class Hoeffding(TailBound):
    r"""2 exp(-D eps^2 / (2 B^2)) for terms in an interval of length 2 B.

    ``half_range``  B > 0, (...); ``inf`` where nothing is bounded: the tail is then 2

    Source: Hoeffding (1963), Theorem 2.

    >>> bound = Hoeffding(half_range=2.0)
    >>> round(float(bound.tail(1.0, 8)), 4), float(bound.features(1.0, 0.05))  # 2 / e; 8 log 40 = 29.5
    (0.7358, 30.0)
    """

    half_range: Any

    source = "Hoeffding (1963), Theorem 2"

    def __post_init__(self) -> None:
        self._require("positive numbers", lambda b: b > 0, "half_range")

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        return 2 * np.exp(-n_features * (deviation / self.half_range) ** 2 / 2)


@dataclass(frozen=True, eq=False)
class _SecondMoment(TailBound):
    variance: Any

    def __post_init__(self) -> None:
        self._require("numbers >= 0", lambda v: v >= 0, "variance")

    def _relative_variance(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        """Variance of the mean over eps^2, divided step by step: a square could leave float64."""
        return self.variance / deviation / deviation / n_features


@dataclass(frozen=True, eq=False)
class Chebyshev(_SecondMoment):
    r"""variance / (D eps^2), two-sided.

    ``variance``  of one feature, >= 0, (...); ``inf`` is allowed and says nothing

    Source: Chebyshev (1867), from memory.

    >>> bound = Chebyshev(variance=4.0)
    >>> float(bound.tail(1.0, 16)), float(bound.deviation(16, 0.25)), float(bound.features(1.0, 0.05))
    (0.25, 1.0, 80.0)
    """

    source = "Chebyshev (1867), not seen"

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        return self._relative_variance(deviation, n_features)


@dataclass(frozen=True, eq=False)
class Cantelli(_SecondMoment):
    r"""variance / (variance + D eps^2), **one-sided**: P[estimate - target >= eps], or P[target - estimate >= eps].

    ``variance``  of one feature, >= 0, (...); ``inf`` is allowed and says nothing

    With eps = S, the target itself, it bounds P[estimate <= 0]: the probability that a sum of weights loses its sign.
    Source: Cantelli (1929), from memory.

    >>> float(Cantelli(variance=4.0).tail(1.0, 16))
    0.2
    """

    source = "Cantelli (1929), not seen"

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        return 1 / (1 + 1 / self._relative_variance(deviation, n_features))


@dataclass(frozen=True, eq=False)
class CentralLimit(_SecondMoment):
    r"""2 (1 - Phi(eps sqrt(D / variance))): the normal approximation, two-sided. **Asymptotic, and no bound.**

    ``variance``  of one feature, >= 0, (...); where it is ``inf`` there is no such limit and the tail is 1

    >>> round(float(CentralLimit(variance=4.0).tail(1.0, 16)), 4)  # two standard deviations
    0.0455
    """

    source = "central limit theorem"
    asymptotic = True

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.special.erfc(1 / np.sqrt(2 * self._relative_variance(deviation, n_features))))


@dataclass(frozen=True, eq=False)
class EmpiricalBernstein(TailBound):
    r"""The error rate at which |mean - target| <= sqrt(2 V L / n) + 7 width L / (3 (n - 1)), L = log(4 / delta).

    ``variance``  V >= 0 of the **sample**, divisor n - 1, (...);  ``width``  >= 0 of an interval that holds all terms

    V is random, so `tail` is the error rate of the interval whose half-width is the deviation, given that V.
    Solved for L: sqrt L is the positive root of a s^2 + b s = eps, a = 7 width / (3 (n - 1)), b = sqrt(2 V / n).
    Source: Maurer & Pontil (2009), Theorem 4, both sides (from memory).

    >>> round(float(EmpiricalBernstein(variance=0.0, width=1.0).deviation(1001, 0.04)), 5)  # 7 log(100) / 3000
    0.01075
    """

    variance: Any
    width: Any

    source = "Maurer & Pontil (2009), Theorem 4, not seen"

    def __post_init__(self) -> None:
        self._require("finite numbers >= 0", lambda x: (x >= 0) & (x < math.inf), "variance", "width")

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        linear = np.sqrt(2 * self.variance / n_features) / deviation
        square = np.where(n_features > 1, 7 / 3 * self.width / deviation / (n_features - 1), np.inf)  # one term: no V
        root = 2 / (linear + np.sqrt(linear**2 + 4 * square))
        return 4 * np.exp(-(root**2))
