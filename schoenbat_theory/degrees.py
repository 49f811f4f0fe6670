"""Degree laws: how the degrees N of random Maclaurin features are chosen.

A law says which degrees are taken exactly, how the others are drawn, and how many features of each
degree to expect. The weight of a feature of degree n is then sqrt(a_n / expected count of n), which
makes every estimate unbiased for the degrees that the law can reach.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, as_reals, require_int, require_real
from schoenbat_theory.kernels import DotProductKernel
from schoenbat_theory.series import polynomial

__all__ = ["DEGREES", "FixedDegrees", "GeometricDegrees", "allocate", "get_degrees"]


@dataclass(frozen=True)
class GeometricDegrees:
    """Independent degrees with P[N = n] proportional to p^-n on exact_below <= n <= max_degree.

    ``p``            > 1; Kar & Karnick (2012, Algorithm 1) use p^-(n+1), a probability only for p = 2;
                     here the law is normalised for every p
    ``exact_below``  0, 1 or 2: degrees below it need no randomness (constant; constant and linear part)
    ``max_degree``   largest degree, ``None`` for no limit; with one, the mean is a partial sum of f

    >>> GeometricDegrees().probability(0), GeometricDegrees(exact_below=1, max_degree=2).probability(1)
    (0.5, 0.6666666666666666)
    """

    p: float = 2.0
    exact_below: int = 0
    max_degree: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", require_real("p", self.p, "a finite number > 1", lambda p: 1 < p < math.inf))
        if require_int("exact_below", self.exact_below, 0) > 2:
            raise ValueError(f"exact_below: expected 0, 1 or 2, found {self.exact_below!r}")
        if self.max_degree is not None and require_int("max_degree", self.max_degree, 0) < self.exact_below:
            raise ValueError(
                f"max_degree: expected at least exact_below = {self.exact_below}, found {self.max_degree!r}"
            )
        if self.inverse_scale < 2.0**-1022:
            raise ValueError(f"p: expected p^-{self.exact_below} within float64, found {self.p!r}")

    def probability(self, n: int) -> float:
        """Return P[N = n]."""
        if n < self.exact_below or (self.max_degree is not None and n > self.max_degree):
            return 0.0
        return self.p**-n / self.inverse_scale

    @property
    def inverse_scale(self) -> float:
        """The constant c with P[N = n] = p^-n / c: the sum of p^-n over the reachable degrees."""
        b = self.exact_below
        cut = 0.0 if self.max_degree is None else self.p ** -(self.max_degree - b + 1)
        return self.p ** (1 - b) / (self.p - 1) * (1 - cut)

    def expected_counts(self, n_random: int, n_max: int) -> np.ndarray:
        """Return the expected number of features of each degree 0 .. n_max, (n_max + 1,)."""
        return n_random * np.array([self.probability(n) for n in range(n_max + 1)])

    def sample(self, n_random: int, rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Draw degrees, (*shape, n_random) integers."""
        size = (*shape, n_random)
        if self.max_degree is None:
            return self.exact_below + rng.geometric(1 - 1 / self.p, size=size) - 1
        reachable = range(self.exact_below, self.max_degree + 1)
        cumulative = np.cumsum([self.probability(n) for n in reachable])
        drawn = np.searchsorted(cumulative, rng.random(size), side="right")
        return self.exact_below + np.minimum(drawn, len(reachable) - 1)  # the last sum may round below 1

    def mean(self, kernel: DotProductKernel, t: np.ndarray, n_random: int) -> np.ndarray:
        """Return the mean of the estimate at <x, y> = t: f(t), or the partial sum of the degrees reached."""
        if n_random == 0:
            return kernel.partial_sum(t, self.exact_below - 1)
        return kernel(t) if self.max_degree is None else kernel.partial_sum(t, self.max_degree)

    def covariance(
        self, kernel: DotProductKernel, t: np.ndarray, u: np.ndarray, moment: np.ndarray, n_random: int
    ) -> np.ndarray:
        """Return (1/R) [sum_n (a_n^2 / q_n) moment^n - r(t) r(u)], r the mean of the random part; ``inf`` where it diverges."""
        if n_random == 0:
            return np.zeros_like(moment)
        means = self._random_mean(kernel, t), self._random_mean(kernel, u)
        with np.errstate(all="ignore"):  # inf is an answer
            second = self.inverse_scale * kernel.squared_series(self.p * moment, self.exact_below, self.max_degree)
            return np.where(np.isinf(second), second, second - means[0] * means[1]) / n_random

    def _random_mean(self, kernel: DotProductKernel, t: np.ndarray) -> np.ndarray:
        if self.max_degree is not None:
            return kernel.partial_sum(t, self.max_degree, self.exact_below)
        return kernel.tail(t, self.exact_below - 1) if self.exact_below else kernel(t)


@dataclass(frozen=True)
class FixedDegrees:
    """A fixed number of features of each degree: ``counts[n]`` features of degree n, none beyond.

    It removes the variance that random degrees add (not in Kar & Karnick). `optimal` chooses the counts.

    >>> FixedDegrees((1, 4, 2)).expected_counts(7, 2)
    array([1., 4., 2.])
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        try:
            counts = tuple(require_int("degrees", c, 0) for c in self.counts)
        except (TypeError, ValueError):
            counts = ()
        if sum(counts) == 0:
            raise ValueError(f"degrees: expected counts >= 0 with a positive sum, found {self.counts!r:.60}")
        object.__setattr__(self, "counts", counts)

    @classmethod
    def optimal(
        cls, kernel: str | DotProductKernel, n_features: int, x: Array, y: Array, *, weights: str = "rademacher"
    ) -> FixedDegrees:
        r"""Return the counts of least mean squared error on the pairs x_i, y_i, degrees from 0 to a largest one.

            sum_n c_n / D_n + mean_i (sum_{n > N} a_n t_i^n)^2,    c_n = mean_i a_n^2 (V_i^n - t_i^{2n}),  t = <x, y>

        ``kernel``      name or `DotProductKernel`;  ``n_features``  D = sum_n D_n
        ``x``, ``y``    (..., d), broadcast: row i of both is a pair, scaled as the map will see it
        ``weights``     of the map; V is their moment, for complex families V^n is C^n + P^n - t^2n and counts of degrees
                        >= 1 are even. Those that share a transform get the counts of independent rows (TensorSketch:
                        of its variance up to 1/D^2), not quite the best

        Each degree n <= N with a_n > 0 has features. Those with variance get theirs from `allocate`, others just one
        (or a pair); what is left over then goes to degree 0: nothing, or the odd one beside pairs, or all where no
        degree has variance. N <= 255 has the least sum. It may be 0: where the noise of degree 1 is more than what it
        tells, all features are constant. Raises ``ValueError`` for no pairs, too few features for the first degree, t
        beyond the radius, moments that overflow. Source: Wacker, Kanagawa & Filippone (2024) choose such counts, text
        not seen; derived here.

        >>> import numpy as np
        >>> FixedDegrees.optimal("exp", 16, np.full((1, 4), 0.5), np.full((1, 4), 0.5))
        FixedDegrees(counts=(1, 8, 7))
        """
        from schoenbat_theory.features.allocation import optimal_counts  # features themselves need this module

        return cls(optimal_counts(kernel, n_features, x, y, weights))

    @property
    def exact_below(self) -> int:
        """No degree is taken without random signs."""
        return 0

    @property
    def max_degree(self) -> int:
        """The largest degree that has a feature."""
        return max(n for n, count in enumerate(self.counts) if count)

    def expected_counts(self, n_random: int, n_max: int) -> np.ndarray:
        """Return ``counts``, cut or padded with zeros to degrees 0 .. n_max."""
        del n_random
        return np.array([float(c) for c in (*self.counts, *[0] * (n_max + 1))[: n_max + 1]])

    def sample(self, n_random: int, rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Return the degrees, (*shape, n_random); nothing is random."""
        del n_random, rng
        degrees = np.repeat(np.arange(len(self.counts)), self.counts)
        return np.broadcast_to(degrees, (*shape, degrees.size)).copy()

    def mean(self, kernel: DotProductKernel, t: np.ndarray, n_random: int) -> np.ndarray:
        """Return sum a_n t^n over the degrees that have a feature."""
        del n_random
        a = kernel.coefficients(self.max_degree)
        return polynomial(np.where(np.array(self.counts[: a.size]) > 0, a, 0.0), t)


def allocate(costs: Sequence[float], n_features: int, *, least: int = 1) -> tuple[int, ...]:
    r"""Return the integers D_n that minimise sum_n c_n / D_n, subject to sum_n D_n = ``n_features``, D_n >= ``least``.

    ``costs``       c_n >= 0, finite, one at least positive; c_n = 0 gets D_n = 0
    ``n_features``  D, at least ``least`` for each positive c_n

    Greedy, and exact up to the rounding of gains: the k-th feature of degree n lowers the sum by c_n / (k (k-1)), which
    falls in k, so the largest gains of all are always on offer, and no D features gain more. O(D log P), P the number of
    positive c_n. Its real-valued relative D_n ~ sqrt(c_n) gives the lower bound (sum_n sqrt c_n)^2 / D. The algorithm is
    folklore; no source seen.

    >>> allocate([4.0, 1.0, 0.0], 6)
    (4, 2, 0)
    """
    gains = as_reals("costs", costs)
    if gains.ndim != 1 or not np.all(np.isfinite(gains) & (gains >= 0)) or not gains.any():
        raise ValueError(f"costs: expected finite numbers >= 0, one of them positive, found {costs!r:.60}")
    n_features, least = require_int("n_features", n_features, 1), require_int("least", least, 1)
    counts = np.where(gains > 0, least, 0)
    spare = n_features - int(counts.sum())
    if spare < 0:
        raise ValueError(f"n_features: expected at least {counts.sum()}, {least} for each c_n > 0, found {n_features}")
    gains = gains / gains.max()  # so that none underflows
    heap = [(-gains[n] / (least * (least + 1)), int(n)) for n in np.flatnonzero(counts)]
    heapq.heapify(heap)
    for _ in range(spare):
        n = heap[0][1]
        counts[n] += 1
        heapq.heapreplace(heap, (-gains[n] / (int(counts[n]) * (int(counts[n]) + 1)), n))
    return tuple(counts.tolist())


DEGREES: dict[str, GeometricDegrees] = {
    "geometric": GeometricDegrees(),  # Kar & Karnick (2012)
    "released": GeometricDegrees(exact_below=1, max_degree=20),  # as in SchoenbAt's code: its mean is f_20
    "h01": GeometricDegrees(exact_below=2),  # Kar & Karnick's heuristic H0/1
}


def get_degrees(
    degrees: str | GeometricDegrees | FixedDegrees | Sequence[int], n_features: int
) -> GeometricDegrees | FixedDegrees:
    """Return the degree law of that name, the law itself, or `FixedDegrees` for counts that sum to ``n_features``."""
    if isinstance(degrees, GeometricDegrees | FixedDegrees):
        law = degrees
    elif isinstance(degrees, str):
        if degrees not in DEGREES:
            raise ValueError(f"degrees: expected one of {', '.join(DEGREES)}, found {degrees!r}")
        law = DEGREES[degrees]
    elif isinstance(degrees, Sequence | np.ndarray):
        counts: Any = degrees
        law = FixedDegrees(tuple(counts))
    else:
        raise TypeError(f"degrees: expected a name, a GeometricDegrees or counts, found {type(degrees).__name__}")
    if isinstance(law, FixedDegrees) and sum(law.counts) != n_features:
        raise ValueError(f"degrees: the counts sum to {sum(law.counts)}, expected n_features = {n_features}")
    return law
