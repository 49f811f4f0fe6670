r"""Positive random features: exponentials of Gaussian projections, whose inner product estimates exp(<x, y>).

    phi_j(x) = (1-4A)^(d/4) exp(A |w_j|^2 + sqrt(1-4A) <w_j, x> - |x|^2/2) / sqrt(m),    w_j ~ N(0, I)

The tilt A < 1/4 leaves the mean as it is: completing the square in E exp(2A |w|^2 + sqrt(1-4A) <w, x+y>) gives
(1-4A)^(-d/2) exp(|x+y|^2/2). A = 0 is the positive map of Performers (Choromanski et al. 2021, Lemma 1, seen); the tilt
is that of Likhosherstov et al. (2022), whose text was not seen. The moments are derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    as_generator,
    asarray_like,
    check_finite,
    namespace,
    require_bool,
    require_int,
    require_real,
    to_host,
)
from schoenbat_theory.features.exponential_draw import PositiveDraw
from schoenbat_theory.features.exponential_moments import log_relative_variance, optimal_tilt
from schoenbat_theory.features.inputs import check_fitted, check_vectors, leading_axes, too_large
from schoenbat_theory.features.registry import Unfitted, feature_map
from schoenbat_theory.markup import inline_math

__all__ = ["PositiveFeatures"]

EXPONENTIALS = ("exp", "trigh")  # names of e^t


@dataclass(frozen=True)
class PositiveFeatures:
    r"""The law of a positive random feature map of total width ``n_features``, for the kernel exp(<x, y>).

    ``n_features``  total width D
    ``orthogonal``  True: the w_j come in blocks of d with exactly orthogonal directions and independent chi_d
                    norms, the last block shorter if need be; False: all are independent
    ``hyperbolic``  True: D = 2m is even, features of w_j and of -w_j, each divided by sqrt(2); False: D = m
    ``tilt``        A < 1/4; the variance is finite if and only if A < 1/8

    The estimate is <phi(x), phi(y)> at full width. Its mean, second moment and variance are known in closed form;
    ``x`` and ``y`` are (..., d), and all work elementwise over broadcast leading axes.

    >>> law = PositiveFeatures(256)
    >>> x = np.array([0.5, 0.5])
    >>> float(law.mean(x, x)) == float(np.exp(0.5)), float(law.variance(x, x)) < 0.07
    (True, True)
    """

    n_features: int
    orthogonal: bool = True
    hyperbolic: bool = False
    tilt: float = 0.0

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "n_features", require_int("n_features", self.n_features, 1))
        set_field(self, "orthogonal", require_bool("orthogonal", self.orthogonal))
        set_field(self, "hyperbolic", require_bool("hyperbolic", self.hyperbolic))
        tilt = require_real("tilt", self.tilt, "a finite number < 1/4", lambda a: -math.inf < a < 0.25)
        set_field(self, "tilt", tilt)
        if self.hyperbolic and self.n_features % 2:
            raise ValueError(f"n_features: expected an even number for hyperbolic pairs, found {self.n_features}")

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> PositiveDraw:
        """Draw one feature map for vectors of length ``dim``, or independent ones for leading axes ``shape``.

        ``rng`` is an int, SeedSequence or Generator. Drawn on the host, so the same seed gives the same map for every
        array library.

        >>> phi = PositiveFeatures(8).draw(3, rng=0)
        >>> phi(np.ones((5, 3)) / 3).shape
        (5, 8)
        """
        dim = require_int("dim", dim, 1)
        shape = leading_axes(shape)
        return PositiveDraw.sample(
            dim,
            shape,
            self._blocks(dim),
            tilt=self.tilt,
            hyperbolic=self.hyperbolic,
            name=repr(self),
            rng=as_generator(rng),
        )

    def target(self, x: Array, y: Array) -> Array:
        """Return exp(<x, y>), the kernel that the map is made for; ``inf`` beyond the dtype."""
        _, t, _ = self._pairs(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(np.exp(t), x)

    def mean(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)> = exp(<x, y>), whatever the tilt; ``inf`` beyond the dtype."""
        return self.target(x, y)

    def variance(self, x: Array, y: Array) -> Array:
        r"""Return the variance of <phi(x), phi(y)> at full width, ``inf`` where it is infinite or beyond the dtype.

            (1/m) (E h^2 - SM^2) - (SM^2 / m^2) sum_blocks b (b-1) gap,    SM = exp(<x, y>)

        h is one product g(w) = m phi_w(x) phi_w(y), or the mean of g(w) and g(-w). With F = |x+y|^2, rho = 1/(1-8A),
        P = ((rho+1) / (2 sqrt rho))^d:  E g(w)^2 = SM^2 P exp(rho F) and E g(w) g(-w) = SM^2 P exp(-F), infinite for
        A >= 1/8. gap is `orthogonal_gap`, counted for the b (b-1) ordered pairs of each orthogonal block of b.

        Source: A = 0 without blocks is Lemma 2 of Choromanski et al. (2021), seen; the rest is not in the sources seen.
        """
        t, log_relative = self._log_moments(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(np.exp(2 * t + log_relative), x)

    def second_moment(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>^2 = variance + mean^2 at full width, ``inf`` where the variance is or it overflows."""
        t, log_relative = self._log_moments(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(np.exp(2 * t + log_relative) + np.exp(2 * t), x)

    def estimates(self, x: Array, y: Array, *, rng: Any, size: int) -> Array:
        """Return ``size`` independent replicates of <phi(x), phi(y)>, (size, ...), for ``x``, ``y`` (..., d).

        All pairs of one replicate share its draw. Raises ``ValueError`` where an estimate overflows.

        >>> PositiveFeatures(4).estimates(np.ones(2) / 2, np.ones(2) / 2, rng=0, size=3).shape
        (3,)
        """
        xp, size = check_vectors(x=x, y=y), require_int("size", size, 1)
        phi = self.draw(x.shape[-1], rng, shape=(size, *([1] * (max(x.ndim, y.ndim) - 1))))
        with np.errstate(over="ignore"):
            products = xp.exp(phi.log(x[..., None, :]) + phi.log(y[..., None, :]))
            result = xp.sum(products, axis=-1)[..., 0]
        if not all_finite(result):
            raise too_large("x, y", x)
        return result

    def fit(self, q: Array, k: Array) -> PositiveFeatures:
        """Return the same law with the tilt that is optimal at the mean of |q_i + k_j|^2 over all pairs.

        ``q`` (..., n, d), ``k`` (..., m, d), leading axes broadcast and are averaged over; cost O((n + m) d). It looks
        at every query and every key, so attention with a fitted map is not causal. See `optimal_tilt` for what is
        optimal, and for its source. Raises ``ValueError`` for wrong shapes, no queries or keys, NaN.

        >>> PositiveFeatures(8).fit(np.zeros((3, 2)), np.zeros((4, 2))).tilt
        0.0
        """
        check_fitted(q, k)
        xp = namespace(q)
        with np.errstate(all="ignore"):  # an overflow is found in the result
            squares = (xp.mean(xp.sum(x * x, axis=-1), axis=-1) for x in (q, k))
            product = xp.sum(xp.mean(q, axis=-2) * xp.mean(k, axis=-2), axis=-1)
            squared = float(xp.mean(sum(squares) + 2 * product))
        if not math.isfinite(squared):
            raise too_large("q, k", q)
        return replace(self, tilt=optimal_tilt(max(squared, 0.0), q.shape[-1]))  # rounding may say less than 0

    def _blocks(self, dim: int) -> list[int]:
        """Return the sizes of blocks of vectors w that are orthogonal within."""
        n_draws = self.n_features // (1 + self.hyperbolic)
        if not self.orthogonal:
            return [1] * n_draws
        full, rest = divmod(n_draws, dim)
        return [dim] * full + [rest] * (rest > 0)

    def _log_moments(self, x: Array, y: Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms of the mean and of variance / mean^2, on the host."""
        dim, t, squared = self._pairs(x, y)
        return t, log_relative_variance(
            squared, dim, tilt=self.tilt, hyperbolic=self.hyperbolic, blocks=self._blocks(dim)
        )

    def _pairs(self, x: Array, y: Array) -> tuple[int, np.ndarray, np.ndarray]:
        """Return d, <x, y> and |x + y|^2 on the host in float64."""
        check_vectors(x=x, y=y)
        check_finite(x=x, y=y)
        require_int("d, the last axis of x and y", x.shape[-1], 1)
        a, b = (to_host(one).astype(np.float64) for one in (x, y))
        with np.errstate(over="ignore", invalid="ignore"):
            t, squared = np.sum(a * b, axis=-1), np.sum((a + b) ** 2, axis=-1)
            finite = np.isfinite(2 * t) & np.isfinite(squared)
        if not finite.all():
            raise too_large("x, y", x)
        return a.shape[-1], t, squared

    def _repr_html_(self) -> str:
        return inline_math(repr(self))


@feature_map("positive, independent")
def _independent(kernel: str, dim: int, n_features: int) -> PositiveFeatures | None:
    del dim
    return PositiveFeatures(n_features, orthogonal=False) if kernel in EXPONENTIALS else None


@feature_map("positive, orthogonal")
def _orthogonal(kernel: str, dim: int, n_features: int) -> PositiveFeatures | None:
    del dim
    return PositiveFeatures(n_features) if kernel in EXPONENTIALS else None


@feature_map("positive, tilted")
def _tilted(kernel: str, dim: int, n_features: int) -> Unfitted | None:
    law = _orthogonal(kernel, dim, n_features)
    return None if law is None else Unfitted(law.fit)
