r"""Trigonometric random features: cosines and sines of Gaussian projections, whose inner product is a mean of cosines.

    phi(x) = [cos<w_1, x>, ..., cos<w_m, x>, sin<w_1, x>, ..., sin<w_m, x>] / sqrt(m),    w_j ~ N(0, I)
    <phi(x), phi(y)> = (1/m) sum_j cos<w_j, x-y>,     E cos<w, z> = exp(-|z|^2/2)

That is the Gaussian kernel (Rahimi and Recht 2007, from memory); times exp((|x|^2 + |y|^2)/2) it is exp(<x, y>).
Orthogonal vectors: Yu et al. (2016), abstract seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    asarray_like,
    check_finite,
    require_bool,
    require_int,
    to_host,
)
from schoenbat_theory.features.exponential import EXPONENTIALS, PositiveFeatures
from schoenbat_theory.features.fourier_draw import FOURIER_KERNELS, FourierDraw
from schoenbat_theory.features.fourier_moments import cosine_covariance, cosine_variance
from schoenbat_theory.features.inputs import check_vectors, too_large
from schoenbat_theory.features.registry import feature_map
from schoenbat_theory.markup import inline_math

__all__ = ["FourierFeatures"]


@dataclass(frozen=True)
class FourierFeatures:
    r"""The law of a trigonometric feature map of total width ``n_features``.

    ``n_features``  total width D = 2m, even
    ``kernel``      "exp" for exp(<x, y>), "gaussian" for exp(-|x-y|^2/2)
    ``orthogonal``  True: the w_j come in blocks of d with exactly orthogonal directions and independent chi_d norms, the
                    last block shorter if need be; False: all are independent

    Features have both signs, and so has the estimate: attention through them may have denominators <= 0. The estimate is
    <phi(x), phi(y)> at full width. Its mean, second moment and variance are known in closed form; ``x`` and ``y`` are
    (..., d), and all work elementwise over broadcast leading axes.

    >>> law = FourierFeatures(256)
    >>> x = np.array([0.5, 0.5])
    >>> float(law.mean(x, x)) == float(np.exp(0.5)), float(law.variance(x, x))
    (True, 0.0)
    """

    n_features: int
    kernel: str = "exp"
    orthogonal: bool = True

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "n_features", require_int("n_features", self.n_features, 2))
        set_field(self, "orthogonal", require_bool("orthogonal", self.orthogonal))
        if self.n_features % 2:
            raise ValueError(f"n_features: expected an even number, a cosine and a sine each, found {self.n_features}")
        if self.kernel not in FOURIER_KERNELS:
            raise ValueError(f"kernel: expected {' or '.join(map(repr, FOURIER_KERNELS))}, found {self.kernel!r:.60}")

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> FourierDraw:
        """Draw one feature map for vectors of length ``dim``, or independent ones for leading axes ``shape``.

        ``rng`` is an int, SeedSequence or Generator. Drawn on the host, so the same seed gives the same map for every
        array library; the vectors are those of `PositiveFeatures` of width m with that seed.

        >>> phi = FourierFeatures(8).draw(3, rng=0)
        >>> phi(np.ones((5, 3)) / 3).shape
        (5, 8)
        """
        vectors = PositiveFeatures(self.n_features // 2, self.orthogonal).draw(dim, rng, shape=shape).weights
        return FourierDraw(vectors, self.kernel, repr(self))

    def target(self, x: Array, y: Array) -> Array:
        """Return exp(<x, y>) or exp(-|x-y|^2/2), the kernel that the map is made for; ``inf`` beyond the dtype."""
        log_mean, _, _ = self._log_moments(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(np.exp(log_mean), x)

    def mean(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>, which is the target; ``inf`` beyond the dtype."""
        return self.target(x, y)

    def variance(self, x: Array, y: Array) -> Array:
        r"""Return the variance of <phi(x), phi(y)> at full width, ``inf`` beyond the dtype.

            S^2 ((1 - e^-G)^2 / (2m) + (1/m^2) sum_blocks b (b-1) (1F1(d; d/2; -G/2) - e^-G)),    G = |x-y|^2

        S = exp((|x|^2 + |y|^2)/2) for "exp", 1 for "gaussian". The second term is counted for the b (b-1) ordered pairs
        of each orthogonal block of b; it is negative for small G and may have either sign beyond. It is 0 where x = y.

        Source: without blocks Lemma 2 of Choromanski et al. (2021), seen; that of blocks is derived here.
        """
        _, log_scale, relative = self._log_moments(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(np.exp(log_scale + relative), x)

    def second_moment(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>^2 = variance + mean^2 at full width, ``inf`` beyond the dtype."""
        log_mean, log_scale, relative = self._log_moments(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(np.exp(log_scale + relative) + np.exp(2 * log_mean), x)

    def estimates(self, x: Array, y: Array, *, rng: Any, size: int) -> Array:
        """Return ``size`` independent replicates of <phi(x), phi(y)>, (size, ...), for ``x``, ``y`` (..., d).

        All pairs of one replicate share its draw. Raises ``ValueError`` where an estimate overflows.

        >>> FourierFeatures(4).estimates(np.ones(2) / 2, np.ones(2) / 2, rng=0, size=3).shape
        (3,)
        """
        xp, size = check_vectors(x=x, y=y), require_int("size", size, 1)
        phi = self.draw(x.shape[-1], rng, shape=(size, *([1] * (max(x.ndim, y.ndim) - 1))))
        (a, log_a), (b, log_b) = (phi.scaled(one[..., None, :]) for one in (x, y))
        with np.errstate(over="ignore", invalid="ignore"):
            result = (xp.sum(a * b, axis=-1) * xp.exp(log_a + log_b))[..., 0]
        if not all_finite(result):
            raise too_large("x, y", x)
        return result

    def _log_moments(self, x: Array, y: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the logarithms of the mean, of S^2 and of variance / S^2, on the host."""
        check_vectors(x=x, y=y)
        check_finite(x=x, y=y)
        dim, m = require_int("d, the last axis of x and y", x.shape[-1], 1), self.n_features // 2
        a, b = (to_host(one).astype(np.float64) for one in (x, y))
        with np.errstate(over="ignore", invalid="ignore"):
            squared, inner = np.sum((a - b) ** 2, axis=-1), np.sum(a * b, axis=-1)
            norms = np.sum(a * a, axis=-1) + np.sum(b * b, axis=-1)
        if not np.isfinite(squared).all() or not np.isfinite(norms).all():
            raise too_large("x, y", x)
        variance = cosine_variance(squared) / m
        if self.orthogonal and dim > 1 and m > 1:
            full, rest = divmod(m, dim)
            pairs = full * dim * (dim - 1) + rest * (rest - 1)
            variance = variance + cosine_covariance(squared, dim) * (pairs / m**2)
        with np.errstate(divide="ignore"):
            relative = np.log(np.maximum(variance, 0.0))  # rounding may say less than 0
        if self.kernel == "exp":
            return inner, norms, relative
        return -squared / 2, np.zeros_like(norms), relative

    def _repr_html_(self) -> str:
        return inline_math(repr(self))


@feature_map("trigonometric")
def _trigonometric(kernel: str, dim: int, n_features: int) -> FourierFeatures | None:
    del dim
    return FourierFeatures(n_features - n_features % 2) if kernel in EXPONENTIALS and n_features > 1 else None
