r"""The error of feature attention from closed forms, to first order in 1 / D, and the variances of its kernel values.

The error of the attention of one query, to first order in 1 / D (the delta method, as in P10):

    E ||out - a||^2 ~ sum_jl C_jl <v_j - a, v_l - a> / S^2,   C = RandomMaclaurin.row_covariance,  S = sum_j f(<q, k_j>)

It is trusted where the denominator, of relative variance r = sum_jl C_jl / S^2, is not likely to come near 0: r <= 1/25
on the mean over the rows, where a Gaussian denominator would add 3 r = 12 % to the square; and where the degrees beyond
20 hold at most 1 % of any denominator.

Both are of one random feature; a map of D - 1 independent ones and a constant has them over D - 1.
"""

from __future__ import annotations

import math

import numpy as np

from schoenbat_theory.features import RandomMaclaurin

__all__ = ["CUT", "TRUSTED", "first_order", "pair_variances"]

TRUSTED = 1 / 25  # relative variance of the denominator up to which the delta method is believed
CUT = 0.01  # share of a denominator that may lie beyond the degrees of the map, likewise


def pair_variances(law: RandomMaclaurin, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Return Var / f^2 of all pairs of a query (n, d) and a key (m, d), (n, m); one infinite number beyond float64.

    Those of 16 queries are held at a time.
    """
    blocks = [q[i : i + 16, None, :] for i in range(0, len(q), 16)]
    with np.errstate(all="ignore"):  # an overflow is found in the quotients
        try:
            found = np.concatenate([law.variance(x, k) / law.target(x, k) ** 2 for x in blocks])
        except ValueError:  # a value or a moment beyond float64
            return np.full(1, math.inf)
    return np.where(np.isnan(found), math.inf, found)


def first_order(law: RandomMaclaurin, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """Return, for one random feature, the relative mean squared errors of attention and of its denominators.

    ``q`` (n, d), ``k`` (m, d), ``v`` (m, e) on the host; both infinite beyond float64, the second also where degrees that
    the law leaves out hold more than `CUT` of a denominator.
    """
    errors, sizes, denominators = [], [], []
    for x in q:  # one matrix (m, m) at a time
        try:
            weights, covariance = law.target(x, k), law.row_covariance(x, k)
        except ValueError:  # beyond float64
            return math.inf, math.inf
        if not np.isfinite(covariance).all():
            return math.inf, math.inf
        total = weights.sum()
        weights, covariance = weights / total, covariance / total / total
        out = weights @ v
        square = float(np.sum((v - out) * (covariance @ (v - out))))
        errors.append(max(square, 0.0))  # rounding apart, it is not negative
        sizes.append(np.sum(out**2))
        cut = abs(law.mean(x, k).sum() / total - 1)
        denominators.append(covariance.sum() if cut <= CUT else math.inf)
    return float(np.sum(errors) / np.sum(sizes)), float(np.mean(denominators))
