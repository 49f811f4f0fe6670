r"""Random Maclaurin features: products of random projections whose inner product estimates f(<x, y>).

    phi_j(x) = sqrt(a_N / c_N) prod_{i <= N} <w_i, x>,    N the degree of feature j,  w_i uniform on {-1, 1}^d

with c_n the expected number of features of degree n (Kar & Karnick 2012, Algorithm 1). A law is
drawn once (`RandomMaclaurin.draw`) and then applied to any number of arrays. Any family of
`PolynomialSketch` may take the place of the signs.

Differs from the source: (1) the degree law is normalised for every p, not for p = 2 alone; (2) degrees
may be exact, truncated or fixed; (3) features are sorted by degree, so that level i is one matrix
product for the first features, those of degree >= i, and constants cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, as_generator, asarray_like, check_finite, namespace, require_int, to_host
from schoenbat_theory.degrees import FixedDegrees, GeometricDegrees, get_degrees
from schoenbat_theory.features import replicates
from schoenbat_theory.features.draw import MaclaurinDraw
from schoenbat_theory.features.inputs import check_norms, check_vectors, leading_axes, too_large
from schoenbat_theory.features.joined import JoinedDraw
from schoenbat_theory.features.moments import pair_terms, row_terms
from schoenbat_theory.features.sketch_moments import WEIGHTS, Weights, get_weights
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.markup import inline_math

__all__ = ["RandomMaclaurin"]


@dataclass(frozen=True)
class RandomMaclaurin:
    r"""The law of a random Maclaurin feature map of total width ``n_features``.

    ``kernel``      name or `DotProductKernel`
    ``n_features``  total width D, exact features included
    ``degrees``     "geometric", "released", "h01", a `GeometricDegrees`, or counts per degree
    ``weights``     "rademacher", or "gaussian", "complex-rademacher", "complex-gaussian"; with counts per degree
                    also "srht", "complex-srht", "tensorsketch", see `PolynomialSketch`. Complex features are
                    pairs: every count of a degree >= 1 is even, and so is the width of the random part

    The estimate is <phi(x), phi(y)> at full width. Its target, mean, second moment and variance are
    known in closed form; ``x`` and ``y`` are (..., d), and all four work elementwise over broadcast
    leading axes.

    >>> law = RandomMaclaurin("exp", n_features=256)
    >>> x = np.array([0.5, 0.5])
    >>> float(law.mean(x, x)) == float(np.exp(0.5)), float(law.variance(x, x)) < 0.03
    (True, True)
    """

    kernel: DotProductKernel
    n_features: int
    degrees: GeometricDegrees | FixedDegrees
    weights: str

    def __init__(
        self,
        kernel: str | DotProductKernel,
        n_features: int,
        degrees: str | GeometricDegrees | FixedDegrees | Sequence[int] = "geometric",
        weights: str = "rademacher",
    ) -> None:
        n_features = require_int("n_features", n_features, 1)
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "kernel", get_kernel(kernel))
        set_field(self, "n_features", n_features)
        set_field(self, "degrees", get_degrees(degrees, n_features))
        set_field(self, "weights", get_weights(weights).name)
        self._check_weights()
        self.n_random(1 + n_features % 2)  # of all lengths d, one that leaves H0/1 an even number for pairs

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> MaclaurinDraw | JoinedDraw:
        """Draw one feature map for vectors of length ``dim``, or independent ones for leading axes ``shape``.

        ``rng`` is an int, SeedSequence or Generator. Drawn on the host, so the same seed gives the same
        signs for every array library.

        >>> phi = RandomMaclaurin("inv", 8).draw(3, rng=0)
        >>> phi(np.ones((5, 3)) / 3).shape
        (5, 8)
        """
        dim = require_int("dim", dim, 1)
        shape = leading_axes(shape)
        rng = as_generator(rng)
        n_random, exact = self.n_random(dim), self.degrees.exact_below
        degrees = self._sample(n_random, rng, shape)
        n_max = int(degrees.max(initial=0))
        with np.errstate(divide="ignore", invalid="ignore"):  # degrees that cannot occur have count 0
            squares = self.kernel.coefficients(n_max) / self.degrees.expected_counts(n_random, n_max)
        a = self.kernel.coefficients(1)
        options: dict[str, Any] = {
            "constant": math.sqrt(a[0]) if exact > 0 else None,
            "linear": math.sqrt(a[1]) if exact > 1 else None,
            "radius": self.kernel.radius,
            "name": repr(self),
            "rng": rng,
        }
        if self.weights == "rademacher":
            return MaclaurinDraw.sample(dim, degrees, np.sqrt(squares), **options)
        return JoinedDraw.sample(self._family, dim, degrees, np.sqrt(squares), **options)

    def target(self, x: Array, y: Array) -> Array:
        """Return f(<x, y>), the kernel that the map is made for."""
        t = self._inner(x, y)
        return self.kernel(self.kernel.clip(t, x.shape[-1]))

    def mean(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>: f(<x, y>), or the partial sum of the degrees that the law reaches.

        Without a largest degree, ||x|| ||y|| beyond the radius of convergence is a ``ValueError``: there
        E|phi(x) phi(y)| may be infinite and no mean exists. So it may be at the radius itself, where no error is
        raised: for "inv" it is so for signs, x = e_1 and y = e_2.
        """
        t = self._inner(x, y)
        n_random = self.n_random(x.shape[-1])
        if n_random and self.degrees.max_degree is None:
            check_norms(x, y, self.kernel.radius, self.kernel.name)
        t = to_host(self.kernel.clip(t, x.shape[-1])).astype(np.float64)
        with np.errstate(all="ignore"):  # an overflow is reported below
            result = self.degrees.mean(self.kernel, t, n_random)
        if not np.isfinite(result).all():
            raise ValueError(f"x, y: the mean at <x, y> = {float(t[~np.isfinite(result)][0]):g} overflows float64")
        return asarray_like(result, x)

    def variance(self, x: Array, y: Array) -> Array:
        r"""Return the variance of <phi(x), phi(y)> at full width, ``inf`` where it is infinite or beyond float64.

            random degrees:  (1/R) [ sum_n (a_n^2 / q_n) V^n - (mean of the random part)^2 ]
            fixed counts:    sum_n (a_n^2 / D_n) (V^n - <x, y>^{2n})

        with R random features and V the second moment of one projection (`rademacher_moment`). Complex pairs: V^n
        is C^n + P^n, less a second square of the mean. Families that share a transform: sum_n a_n^2 Var_n, Var_n that
        of their `PolynomialSketch`. Not in the sources seen; P05 enumerates and samples it for signs.
        """
        t, a, s = pair_terms(x, y)
        result = self._covariance(t, t, a, s, x, "x, y")
        xp = namespace(result)
        return xp.maximum(result, xp.zeros_like(result))  # Cauchy-Schwarz; rounding may say otherwise

    def row_covariance(self, q: Array, k: Array) -> Array:
        r"""Return the covariances of the estimates <phi(q), phi(k_j)> in the row of one query, (..., m, m).

            C_jl = (1/R) [ sum_n (a_n^2 / q_n) T_jl^n - (mean of the random part)_j (...)_l ]

        ``q`` (..., d), ``k`` (..., m, d); T_jl is the mixed moment of `rademacher_moment`, or that of the weights. It
        is what the bias of the attention ratio is made of (P09). Not in the sources seen.
        """
        t, a, s = row_terms(q, k)
        return self._covariance(t[..., :, None], t[..., None, :], a, s, q, "q, k")

    def second_moment(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>^2 = variance + mean^2 at full width, ``inf`` where it is infinite or beyond float64."""
        return self.variance(x, y) + self.mean(x, y) ** 2

    def estimates(self, x: Array, y: Array, *, rng: Any, size: int) -> Array:
        """Return ``size`` independent replicates of <phi(x), phi(y)>, (size, ...), for ``x``, ``y`` (..., d).

        All pairs of one replicate share its draw. Random degrees: one wide draw, whose features are cut
        into ``size`` groups; much cheaper than ``size`` draws.

        >>> RandomMaclaurin("exp", 4).estimates(np.ones(2) / 2, np.ones(2) / 2, rng=0, size=3).shape
        (3,)
        """
        return replicates.estimates(self, x, y, as_generator(rng), require_int("size", size, 1))

    def features(self, x: Array, *, rng: Any, size: int) -> Array:
        r"""Return ``size`` independent random features at ``x`` (..., d), each as if it were alone, (size, ...).

            phi_r(x) = sqrt(a_N / q_N) prod_{i <= N} <w_i, x>,    q_n the probability of degree n

        All of ``x`` share a draw, so that products phi_r(x_i) phi_r(x_j) are replicates of the random part of the estimate,
        for all pairs at once: outer products. Raises ``ValueError`` where features are not independent (complex weights)
        or their degrees are not random.

        >>> RandomMaclaurin("exp", 1).features(np.ones((5, 2)) / 2, rng=0, size=3).shape
        (3, 5)
        """
        return replicates.features(self, x, as_generator(rng), require_int("size", size, 1))

    @property
    def _family(self) -> Weights:
        return WEIGHTS[self.weights]

    def _check_weights(self) -> None:
        """Raise ``ValueError`` for weights and degrees that do not go together."""
        counts = self.degrees.counts if isinstance(self.degrees, FixedDegrees) else None
        if self._family.structured and counts is None:
            raise ValueError(
                f"degrees: rows of {self.weights} share one transform, so how many a degree has cannot be random; "
                f"expected counts, as FixedDegrees.optimal(kernel, n_features, x, y) gives, found {self.degrees!r}"
            )
        if self._family.complex and counts is not None and any(count % 2 for count in counts[1:]):
            raise ValueError(
                f"degrees: features of {self.weights} come in pairs, so every count of a degree >= 1 is even; "
                f"found {counts}"
            )

    def n_random(self, dim: int) -> int:
        """Return how many of the features are random for vectors of length ``dim``; ``ValueError`` where exact ones do not fit."""
        exact = (0, 1, 1 + dim)[self.degrees.exact_below]
        if self.n_features < exact:
            raise ValueError(
                f"n_features: the exact part of degrees below {self.degrees.exact_below} has {exact} "
                f"features at dim = {dim}, found n_features = {self.n_features}"
            )
        n_random = self.n_features - exact
        if self._family.complex and n_random % 2 and not isinstance(self.degrees, FixedDegrees):
            raise ValueError(
                f"n_features: random features of {self.weights} come in pairs; expected an even number beside the "
                f"exact {exact}, found n_features = {self.n_features}"
            )
        return n_random

    def _sample(self, n_random: int, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the degrees of the random features, (*shape, n_random); the two of a pair have the same."""
        if self._family.complex and isinstance(self.degrees, GeometricDegrees):
            return np.repeat(self.degrees.sample(n_random // 2, rng, shape), 2, axis=-1)
        return self.degrees.sample(n_random, rng, shape)

    def _covariance(self, t: Array, u: Array, a: Array, s: Array, like: Array, names: str) -> Array:
        """Return the covariance of two estimates whose targets are f(t) and f(u), computed on the host in float64."""
        dim = like.shape[-1]
        with np.errstate(all="ignore"):  # an overflow is found below
            product, a, s = (to_host(one).astype(np.float64) for one in (t * u, a, s))
            moments = self._family.moments(a, product, s)
        if not all(np.isfinite(moment).all() for moment in moments):
            raise too_large(names, like)
        if isinstance(self.degrees, FixedDegrees):
            return asarray_like(self._counted(self.degrees.counts, dim, a, product, s), like)
        # Complex: the mean of the covariances made of C and of P, at half as many rows, is their sum at as many.
        t, u = (to_host(self.kernel.clip(one, dim)).astype(np.float64) for one in (t, u))
        parts = [self.degrees.covariance(self.kernel, t, u, m, self.n_random(dim)) for m in moments]
        return asarray_like(sum(parts), like)

    def _counted(self, counts: Sequence[int], dim: int, a: np.ndarray, u: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return sum_n a_n^2 times the covariance of two estimates by the sketch of degree n."""
        total = np.zeros_like(a)
        for n, (coefficient, count) in enumerate(zip(self.kernel.coefficients(len(counts) - 1), counts, strict=True)):
            if n and count:
                scale = coefficient ** (2 / n)  # of the moments: a_n^2 alone may underflow, their power overflow
                total = total + self._family.covariance(n, count, dim, scale * a, scale * u, scale * s)
        return total

    def _inner(self, x: Array, y: Array) -> Array:
        xp = check_vectors(x=x, y=y)
        check_finite(x=x, y=y)
        with np.errstate(all="ignore"):  # an overflow is found by the kernel
            return xp.asarray(xp.sum(x * y, axis=-1))

    def _repr_html_(self) -> str:
        return inline_math(repr(self))
