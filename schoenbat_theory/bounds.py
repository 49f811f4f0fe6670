"""Tail inequalities of the literature, each with its radius and its source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, require_real
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["hoeffding_tail", "maclaurin_range"]


@np.errstate(over="ignore")  # an overflow is found by the kernel or in the result
def maclaurin_range(kernel: str | DotProductKernel, radius: float, p: float = 2.0) -> float:
    r"""Return C = p f(p R^2), an almost sure bound of |Z(x) Z(y)| for one Kar & Karnick feature.

    ``radius``  R, such that ||x||_1 <= R and ||y||_1 <= R: the **l1** norm, because |<w, x>| <= ||x||_1 is
                sharp for sign vectors w; with the l2 norm in its place the bound is false (P07)
    ``p``       > 1, of the degree law; the source normalises it for p = 2 only

    Raises ``ValueError`` where p R^2 is beyond the kernel's radius. Source: Kar & Karnick (2012), Lemma 4.

    >>> round(maclaurin_range("exp", 1.0), 4)  # 2 e^2
    14.7781
    """
    radius = require_real("radius", radius, "a number >= 0", lambda r: 0 <= r < math.inf)
    p = require_real("p", p, "a finite number > 1", lambda p: 1 < p < math.inf)
    bound = p * get_kernel(kernel)(p * float(np.float64(radius) ** 2))
    return require_real("p", bound, "p f(p R^2) within float64")


def hoeffding_tail(deviation: Any, n_features: Any, half_range: float) -> np.ndarray:
    r"""Return 2 exp(-D eps^2 / (2 B^2)), a bound on P[|mean of D - its expectation| > eps].

    ``deviation``   eps > 0, (...);  ``n_features``  D, broadcast
    ``half_range``  B: each of the D independent terms lies in [-B, B]

    A value above 1 says nothing. Source: Hoeffding (1963), Theorem 2. Kar & Karnick (2012, section 4) use the
    weaker exponent D eps^2 / (8 C^2), which is this function at B = 2 C.

    >>> round(float(hoeffding_tail(1.0, 8, 2.0)), 4)  # 2 / e
    0.7358
    """
    deviation, n_features = as_reals("deviation", deviation), as_reals("n_features", n_features)
    half = as_reals("half_range", half_range)
    if not all(np.all((x > 0) & (x < math.inf)) for x in (deviation, n_features, half)):
        raise ValueError(
            "deviation, n_features, half_range: expected positive finite numbers, "
            f"found {deviation}, {n_features}, {half_range}"
        )
    with np.errstate(all="ignore"):  # where a square leaves float64, that of the quotient decides
        exponent = -n_features * deviation**2 / (2 * half**2)
        exponent = np.where(np.isfinite(exponent), exponent, -n_features * (deviation / half) ** 2 / 2)
        return 2 * np.exp(exponent)
