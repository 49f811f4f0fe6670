r"""What Kar & Karnick prove of random Maclaurin features: their range, a tail at one pair, a tail over a set of pairs.

R is the **l1** radius throughout: |<w, x>| <= ||x||_1 is sharp for sign vectors w, and with the l2 norm in its place the
statements are false (P06, P07). The degree law is normalised for every p > 1, P[N = n] = (p - 1) p^-(n+1), as the
features of this package are; the source normalises it for p = 2 only, where the two agree.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from schoenbat_theory.arrays import require_int, require_real
from schoenbat_theory.bounds.base import TailBound
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.series import MAX_DEGREE

__all__ = ["KarKarnick", "KarKarnickUniform", "lipschitz", "maclaurin_range", "sharp_range"]


def maclaurin_range(kernel: str | DotProductKernel, radius: float, p: float = 2.0) -> float:
    r"""Return C = p f(p R^2) / (p - 1), an almost sure bound of |Z(x) Z(y)| for one Kar & Karnick feature.

    ``radius``  R, such that ||x||_1 <= R and ||y||_1 <= R
    ``p``       > 1, of the degree law

    Raises ``ValueError`` where p R^2 is beyond the kernel's radius. Source: Kar & Karnick (2012), Lemma 4, for p = 2.

    >>> round(maclaurin_range("exp", 1.0), 4)  # 2 e^2
    14.7781
    """
    t, p = _argument(radius, p)
    return require_real("p", p / (p - 1) * get_kernel(kernel)(t), "p f(p R^2) / (p - 1) within float64")


def sharp_range(kernel: str | DotProductKernel, radius: float, p: float = 2.0) -> float:
    r"""Return B = max_n (a_n / q_n) R^{2n} = p / (p - 1) max_n a_n (p R^2)^n, the smallest such bound.

    It is attained by x = y = R e_1. Arguments and errors as for `maclaurin_range`. Not in the sources seen.

    >>> round(sharp_range("exp", 1.0), 4)  # 2 max_n 2^n / n!, at n = 1 and 2
    4.0
    """
    kernel = get_kernel(kernel)
    t, p = _argument(radius, p)
    # The terms are >= 0 and sum to f(t): the largest is found when what is left of the sum, rounded up, is no more.
    left, largest, best = kernel(t) * (1 + 2.0**-40), -1.0, 0
    for n in range(MAX_DEGREE):
        size = math.exp(_log(kernel.coefficient(n)) + (n * math.log(t) if n else 0.0))
        left -= size
        if size > largest:
            largest, best = size, n
        if left <= largest:
            exact = Fraction(kernel.coefficient(best)) * Fraction(t) ** best
            return require_real("p", p / (p - 1) * float(exact), "a range within float64")
    raise ValueError(f"radius: expected one whose largest feature has a degree below {MAX_DEGREE}, found {radius!r}")


@dataclass(frozen=True)
class KarKarnick(TailBound):
    r"""2 exp(-D eps^2 / (8 C^2)) at one pair, C = `maclaurin_range`.

    ``kernel``  name or `DotProductKernel`;  ``radius``  R >= 0, ||x||_1, ||y||_1 <= R;  ``p``  > 1

    It is `Hoeffding` at B = 2 C, and C would do: the range [-C, C] is 2 C wide. Raises as `maclaurin_range`.
    Source: Kar & Karnick (2012), section 4.

    >>> bound = KarKarnick("exp", radius=1.0)
    >>> float(bound.features(0.1, 0.05))  # 800 C^2 log 40, C = 2 e^2
    644500.0
    """

    kernel: str | DotProductKernel
    radius: float
    p: float = 2.0
    half_range: float = field(init=False, repr=False)

    norm = "l1"
    source = "Kar & Karnick (2012), section 4"

    def __post_init__(self) -> None:
        object.__setattr__(self, "half_range", maclaurin_range(self.kernel, self.radius, self.p))

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        return 2 * np.exp(-n_features * (deviation / self.half_range) ** 2 / 8)


def lipschitz(kernel: str | DotProductKernel, radius: float, dim: int, p: float = 2.0) -> float:
    r"""Return L = R f'(R^2) + p^2 R sqrt(d) f'(p R^2) / (p - 1), of the error <Z(x), Z(y)> - f(<x, y>) in x, l2 metric.

    For all x, y of the l1 ball of radius R. The kernel has the gradient f'(<x, y>) y, of length at most
    f'(R^2) ||y||_2 <= R f'(R^2); a feature of degree n has (a_n / q_n) sum_i w_i <w_i, y> prod_{j != i} <w_j, x> <w_j, y>, of
    length at most (a_n / q_n) n sqrt(d) R^{2n-1}, and n a_n (p R^2)^{n-1} <= f'(p R^2).

    The first term is corrected: Kar & Karnick (2012), Lemma 6, have f'(R^2), which drops ||y|| <= R and is false for
    R > 1 (P08). The second is theirs, for p = 2. Raises as `maclaurin_range`.

    >>> round(lipschitz("exp", 1.0, 4), 4)  # e + 8 e^2
    61.8307
    """
    dim = require_int("dim", dim, 1)
    t, p = _argument(radius, p)
    kernel = get_kernel(kernel)
    value = radius * (_slope(kernel, t / p) + p**2 / (p - 1) * math.sqrt(dim) * _slope(kernel, t))
    return require_real("radius", value, "a Lipschitz constant within float64")


@dataclass(frozen=True)
class KarKarnickUniform(TailBound):
    r"""2 max(32 R L / eps, 1)^{2d} exp(-D eps^2 / (8 C^2)) for the supremum over all x, y of a compact set.

    ``kernel``  name or `DotProductKernel`;  ``radius``  R >= 0;  ``dim``  d, of x and y;  ``p``  > 1

    The set is any compact part of the l1 ball of radius R; C = `maclaurin_range`, L = `lipschitz` (corrected, l2 metric).
    Proof: cover the set by balls of l2 radius r = eps / (4 L), (32 R L / eps)^d of them at most; at pairs of centres the
    error is at most eps / 2 but for the probability of Hoeffding's inequality, range [-C, C]; away from them it grows by
    at most 2 L r = eps / 2. (At most (1 + 2 R / r)^d <= (8 R / r)^d balls for r <= R, and one for r > R.)
    Source: Kar & Karnick (2012), Theorem 8, with its L corrected; the maximum with 1 is not in the source.

    >>> bound = KarKarnickUniform("exp", radius=1.0, dim=4)
    >>> bool(bound.tail(0.1, 1024) > 1), float(bound.features(0.1, 0.05)) > 1e7
    (True, True)
    """

    kernel: str | DotProductKernel
    radius: float
    dim: int
    p: float = 2.0
    half_range: float = field(init=False, repr=False)
    lipschitz: float = field(init=False, repr=False)

    norm = "l1"
    source = "Kar & Karnick (2012), Theorem 8, with its Lipschitz constant corrected"

    def __post_init__(self) -> None:
        object.__setattr__(self, "half_range", maclaurin_range(self.kernel, self.radius, self.p))
        object.__setattr__(self, "lipschitz", lipschitz(self.kernel, self.radius, self.dim, self.p))

    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        balls = np.log(np.maximum(32 * self.radius * self.lipschitz / deviation, 1.0))
        return 2 * np.exp(2 * self.dim * balls - n_features * (deviation / self.half_range) ** 2 / 8)


def _argument(radius: float, p: float) -> tuple[float, float]:
    """Return p R^2 and p; a square beyond float64 is infinite, and refused by the kernel."""
    radius = require_real("radius", radius, "a number >= 0", lambda r: 0 <= r < math.inf)
    p = require_real("p", p, "a finite number > 1", lambda p: 1 < p < math.inf)
    with np.errstate(over="ignore"):
        return float(p * np.float64(radius) ** 2), p


def _log(a: int | float | Fraction) -> float:
    """Log of a coefficient, also where it leaves float64 (1/n! from n = 178 on); -inf for 0."""
    exact = Fraction(a)
    return math.log(exact.numerator) - math.log(exact.denominator) if exact else -math.inf


def _slope(kernel: DotProductKernel, t: float) -> float:
    """Return f'(t)."""
    return _derivative(kernel)(t) if kernel.log_slope is None else kernel.log_slope * kernel(t)


@functools.lru_cache(64)
def _derivative(kernel: DotProductKernel) -> DotProductKernel:
    """The kernel sum_n (n + 1) a_{n+1} t^n."""
    return DotProductKernel(f"{kernel.name}'", lambda n: (n + 1) * kernel.coefficient(n + 1), None, kernel.radius)
