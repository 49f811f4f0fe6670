r"""The law of an optimized map: what its estimate of the kernel averages to, and how it varies, in closed form.

    E <phi(x), phi(y)> = sum_alpha factor_alpha^2 x^alpha y^alpha + a_2 lambda_2 (t^2 - t_r^2) + sum_n a_n lambda_n t^n

over the monomials that were chosen and the degrees of the random part (`Remainder`); the variance is that of the random
part alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    as_generator,
    asarray_like,
    broadcast_shapes,
    check_finite,
    check_floating,
    require_int,
    to_host,
)
from schoenbat_theory.features.inputs import leading_axes, too_large
from schoenbat_theory.features.monomials import Monomials
from schoenbat_theory.features.optimized_draw import OptimizedDraw, clip_rows
from schoenbat_theory.features.prediction import Prediction
from schoenbat_theory.features.remainder import Remainder
from schoenbat_theory.kernels import DotProductKernel
from schoenbat_theory.markup import inline_math

__all__ = ["FittedMaclaurin"]


@dataclass(frozen=True, eq=False)
class FittedMaclaurin:
    r"""The law that `OptimizedMaclaurin.fit` returns: every leading index (a head) has a map of its own.

    ``kernel``      the kernel;  ``monomials``  `Monomials` (*lead, D_m);  ``remainder``  `Remainder` (*lead)
    ``clip``        (*lead) and ``spread`` (*lead, d): how far queries are trusted, see `OptimizedDraw`
    ``prediction``  `Prediction`: the relative error that the fit expects
    ``fit_multiply_adds``  (*lead) int64, what the fit of each head has cost, as executed

    ``x`` and ``y`` of the closed forms are (..., d) where the law has no leading axes, else (..., *lead, n, d); they are of
    <phi(x), phi(y)>. Attention clips its queries: with ``x = law.clipped(q)`` the forms are those of attention.

    >>> x = np.random.default_rng(0).normal(size=(8, 3)) / 2
    >>> from schoenbat_theory import OptimizedMaclaurin
    >>> law = OptimizedMaclaurin("exp", 10).fit(x, x)
    >>> law.n_features, float(abs(law.mean(x[0], x[1]) - law.target(x[0], x[1]))) < 0.1
    (10, True)
    """

    kernel: DotProductKernel
    monomials: Monomials
    remainder: Remainder
    clip: np.ndarray
    spread: np.ndarray
    prediction: Prediction
    fit_multiply_adds: np.ndarray

    @property
    def n_features(self) -> int:
        """Total width D, that of the head that has most; the others are padded with zeros."""
        return self.monomials.n_features + self.remainder.n_features

    @property
    def dim(self) -> int:
        """Length d of the vectors that it takes."""
        return self.monomials.dim

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes that it was fitted to."""
        return self.monomials.shape

    @property
    def random(self) -> bool:
        """Whether two draws differ."""
        return self.remainder.n_features > 0

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> OptimizedDraw:
        """Draw one map for every leading index of the law, or independent ones for axes ``shape`` before these.

        ``dim`` is that of the fit; ``rng`` is an int, SeedSequence or Generator, not looked at where nothing is random.
        """
        if require_int("dim", dim, 1) != self.dim:
            raise ValueError(f"dim: expected {self.dim}, which the law was fitted to, found {dim}")
        drawn = self.remainder.draw(dim, as_generator(rng), leading_axes(shape), repr(self))
        factors = self.monomials.factors(self.kernel)
        return OptimizedDraw(self.monomials, factors, drawn, self.remainder.cuts, self.clip, self.spread)

    def clipped(self, q: Array) -> Array:
        """Return queries ``q`` (..., n, d) moved into the trusted range, as attention uses them."""
        return clip_rows(q, self.clip, self.spread)

    def target(self, x: Array, y: Array) -> Array:
        """Return f(<x, y>), the kernel that the map is made for."""
        wide_x, wide_y = self._rows(x, y)
        t = np.sum(wide_x * wide_y, axis=-1)
        return self._like(self.kernel(self.kernel.clip(t, self.dim)), "x, y", x)

    @np.errstate(all="ignore")  # an overflow is found in the result
    def mean(self, x: Array, y: Array) -> Array:
        """Return E <phi(x), phi(y)>, of the formula of this module."""
        wide_x, wide_y = self._rows(x, y)
        factors = self.monomials.factors(self.kernel)
        phi_x, phi_y = (self.monomials.apply(np.atleast_2d(one), factors) for one in (wide_x, wide_y))
        known = np.sum(phi_x * phi_y, axis=-1)
        known = known if wide_x.ndim > 1 or wide_y.ndim > 1 else known[0]
        return self._like(known + self.remainder.mean(wide_x, wide_y), "x, y", x)

    @np.errstate(all="ignore")
    def variance(self, x: Array, y: Array) -> Array:
        """Return the variance of <phi(x), phi(y)>: that of the random part, 0 where there is none."""
        wide_x, wide_y = self._rows(x, y)
        found = self.remainder.covariance(wide_x, wide_y[..., None, :])[..., 0, 0]
        return self._like(np.maximum(found, 0.0), "x, y", x)

    def second_moment(self, x: Array, y: Array) -> Array:
        """Return E <phi(x), phi(y)>^2 = variance + mean^2."""
        return self.variance(x, y) + self.mean(x, y) ** 2

    @np.errstate(all="ignore")
    def row_covariance(self, q: Array, k: Array) -> Array:
        """Return the covariances of <phi(q), phi(k_j)> in the row of one query, (..., m, m), ``q`` (..., d), ``k`` (..., m, d).

        Where the law has leading axes, ``q`` is (..., *lead, n, d) and ``k`` (..., *lead, n or 1, m, d).
        """
        wide_q, wide_k = self._rows(q, k, of_keys=1)
        return self._like(self.remainder.covariance(wide_q, wide_k), "q, k", q)

    def __repr__(self) -> str:
        return (
            f"FittedMaclaurin({self.kernel.name!r}, dim={self.dim}, n_features={self.n_features}, shape={self.shape})"
        )

    def _rows(self, x: Array, y: Array, of_keys: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return both on the host in float64, checked; ``of_keys`` counts the axes of keys in ``y``."""
        check_floating(x=x, y=y)
        check_finite(x=x, y=y)
        axes = 2 if self.shape else 1  # of rows, and of tokens where there are heads
        if x.ndim < axes or y.ndim < axes + of_keys or not x.shape[-1] == y.shape[-1] == self.dim:
            rows = "..., n" if self.shape else "..."
            raise ValueError(f"x, y: expected ({rows}, {self.dim}), found {tuple(x.shape)}, {tuple(y.shape)}")
        broadcast_shapes(x=tuple(x.shape[:-1]), y=tuple(y.shape[: y.ndim - 1 - of_keys]))
        if self.shape:
            own = {"x": tuple(x.shape[:-2]), "y": tuple(y.shape[: -2 - of_keys])}
            broadcast_shapes(law=self.shape, **own)
        return to_host(x).astype(np.float64), to_host(y).astype(np.float64)

    def _like(self, found: np.ndarray, names: str, like: Array) -> Array:
        if not np.isfinite(found).all():
            raise too_large(names, like)
        return asarray_like(found, like)

    def _repr_html_(self) -> str:
        return inline_math(repr(self))
