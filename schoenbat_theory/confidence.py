"""Intervals with a stated error rate. Every look at the data is paid for.

    Catoni              mean, variance known or bounded; any distribution with that variance
    empirical Bernstein mean, values in a known interval
    asymptotic          mean, nothing known: Student's t for batch means, and named as such
    Clopper-Pearson     probability, exact

Looks are taken at sample sizes n_0, 2 n_0, 4 n_0, ...; the error rate is split evenly over them, so
that all the intervals of one check hold together with probability 1 - alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.special

__all__ = [
    "asymptotic_interval",
    "binomial_limits",
    "catoni_interval",
    "empirical_bernstein_interval",
    "looks",
]


def looks(first: int, last: int) -> list[int]:
    """Return the sample sizes first, 2 first, 4 first, ... up to ``last``; at least one.

    >>> looks(4, 20)
    [4, 8, 16]
    """
    sizes = [first]
    while 2 * sizes[-1] <= last:
        sizes.append(2 * sizes[-1])
    return sizes


def catoni_interval(values: np.ndarray, variance: np.ndarray | float, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return Catoni's interval for the mean of independent ``values`` whose variance is at most ``variance``.

        { m : | sum_i psi(lambda (x_i - m)) | <= n lambda^2 variance / 2 + log(2 / alpha) },
        psi(u) = sign(u) log(1 + |u| + u^2 / 2),    lambda = sqrt(2 log(2 / alpha) / (n variance))

    ``values``    (n, ...) floats;  ``variance``  (...) or a number, >= the true variance
    returns       lower and upper limits, (...), each (...)

    The true mean is outside with probability at most ``alpha``, for every distribution: E exp(psi(u)) <=
    1 + E u + E u^2 / 2, then Markov on each side. The half-width is close to sqrt(2 variance log(2 / alpha) / n).
    A variance of 0 says that all values are the mean: the limits are the smallest and the largest value,
    an interval only if the values do not differ, or by rounding alone.
    Raises ``ValueError`` if n <= 2 log(2 / alpha): too few values for any interval.

    Source: Catoni (2012); as confidence set for a mean, Wang & Ramdas (2022), from memory.

    >>> lower, upper = catoni_interval(np.tile([-1.0, 1.0], 500), 1.0, 1e-3)
    >>> bool(lower < 0 < upper), round(float(upper), 3)
    (True, 0.124)
    """
    n, log_term = values.shape[0], math.log(2 / alpha)
    if n <= 2 * log_term:
        raise ValueError(f"values: alpha = {alpha:g} needs more than {2 * log_term:.0f} values, found {n}")
    variance = np.broadcast_to(np.asarray(variance, dtype=np.float64), values.shape[1:])
    rate = np.sqrt(2 * log_term / (n * np.where(variance > 0, variance, 1.0)))
    # The limits are the roots of a decreasing function of m. At mean +- 4 half-widths it has usually passed them:
    # |psi(u)| >= log(1 + u^2/2) grows, and `_bisect` widens the bracket wherever that is not enough.
    level = n * rate**2 * variance / 2 + log_term
    centre, reach = values.mean(axis=0), 4 * np.sqrt(2 * variance * log_term / n)

    def influence(m: np.ndarray) -> np.ndarray:
        u = rate * (values - m)
        return np.sum(np.sign(u) * np.log1p(np.abs(u) + u * u / 2), axis=0)

    upper = _bisect(lambda m: influence(m) + level, centre, reach)
    lower = -_bisect(lambda m: level - influence(-m), -centre, reach)
    still = variance == 0  # a constant is its own interval
    return np.where(still, values.min(axis=0), lower), np.where(still, values.max(axis=0), upper)


def empirical_bernstein_interval(
    mean: np.ndarray, variance: np.ndarray, n: int, width: float, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the interval mean +- [ sqrt(2 V log(4/alpha) / n) + 7 width log(4/alpha) / (3 (n - 1)) ].

    ``mean``, ``variance`` (...) of n independent values in an interval of length ``width``, the variance with
    divisor n - 1. Source: Maurer & Pontil (2009), Theorem 4, both sides (from memory).

    >>> lower, upper = empirical_bernstein_interval(np.array(0.5), np.array(0.0), 1001, 1.0, 0.04)
    >>> round(float(upper - 0.5), 5)  # 7 log(100) / 3000
    0.01075
    """
    log_term = math.log(4 / alpha)
    half = np.sqrt(2 * variance * log_term / n) + 7 * width * log_term / (3 * (n - 1))
    return mean - half, mean + half


def asymptotic_interval(values: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's t interval for the mean of ``values`` (n, ...): exact for normal values, else asymptotic.

    >>> lower, upper = asymptotic_interval(np.array([-1.0, 1.0] * 50), 0.05)
    >>> round(float(upper), 4)
    0.1994
    """
    n = values.shape[0]
    quantile = float(scipy.special.stdtrit(n - 1, 1 - alpha / 2))
    half = quantile * values.std(axis=0, ddof=1) / math.sqrt(n)
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def binomial_limits(hits: np.ndarray, n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Clopper-Pearson limits for a probability after ``hits`` (...) in ``n`` trials, alpha / 2 on each side.

    >>> lower, upper = binomial_limits(np.array(0), 1000, 0.002)
    >>> float(lower), round(float(upper), 5)  # 1 - 0.001 ** (1 / 1000)
    (0.0, 0.00688)
    """
    hits = np.asarray(hits, dtype=np.float64)
    lower = scipy.special.betaincinv(np.maximum(hits, 1), n - hits + 1, alpha / 2)
    upper = scipy.special.betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - alpha / 2)
    return np.where(hits == 0, 0.0, lower), np.where(hits == n, 1.0, upper)


def _bisect(function: Callable[[np.ndarray], np.ndarray], centre: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return roots >= centre of a function that falls in m and is positive at the centre; outer end of the bracket."""
    low, high = centre.copy(), centre + reach
    for _ in range(64):
        open_end = function(high) > 0
        if not open_end.any():
            break
        high = np.where(open_end, high + (high - low), high)
    for _ in range(60):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high
