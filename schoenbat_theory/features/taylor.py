r"""The map without randomness: every monomial up to degree 2, whose inner product is the start of the kernel's series.

    phi(x) = (sqrt(a_0), sqrt(a_1) x_i, sqrt(a_2) x_i^2, sqrt(2 a_2) x_i x_j for i < j),    a_n >= 0
    <phi(x), phi(y)> = a_0 + a_1 t + a_2 t^2,    t = <x, y>,    as t^2 = sum_i x_i^2 y_i^2 + 2 sum_{i<j} x_i x_j y_i y_j

Nothing is drawn, so the error is the truncation alone, f(t) minus its first terms. Of degree 2 the map is as wide as
there are monomials, 1 + d + d (d + 1) / 2. The map is folklore; no source was seen.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    device_of,
    require_int,
)
from schoenbat_theory.features.inputs import check_features, check_stored, check_tokens, check_vectors, leading_axes
from schoenbat_theory.features.registry import feature_map
from schoenbat_theory.files import read_npz, write_npz
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.markup import inline_math

__all__ = ["TAYLOR_FORMAT", "TaylorDraw", "TaylorFeatures", "read_taylor"]

TAYLOR_FORMAT = "taylor 1"  # what an archive of a draw says of itself
LARGEST_DEGREE = 2  # of degree 3 a map of d = 64 has 47905 features: more than any feature map is asked for


@dataclass(frozen=True)
class TaylorFeatures:
    r"""The law of the exact feature map of the first terms of a kernel's series, for vectors of one length.

    ``kernel``  name or `DotProductKernel`;  ``degree``  0, 1 or 2;  ``dim``  d, which fixes the width

    ``n_features`` is the width: 1, 1 + d or 1 + d + d (d + 1) / 2. ``x`` and ``y`` are (..., d), and the closed forms
    work elementwise over broadcast leading axes. ``ValueError`` or ``TypeError`` for another degree or length.

    >>> law = TaylorFeatures("exp", 2, dim=3)
    >>> x = np.array([0.5, 0.5, 0.0])
    >>> law.n_features, float(law.mean(x, x)), float(law.variance(x, x))
    (10, 1.625, 0.0)
    """

    kernel: DotProductKernel
    degree: int
    dim: int

    def __init__(self, kernel: str | DotProductKernel, degree: int, dim: int) -> None:
        degree = require_int("degree", degree, 0)
        if degree > LARGEST_DEGREE:
            raise ValueError(f"degree: expected 0, 1 or 2, found {degree}")
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "kernel", get_kernel(kernel))
        set_field(self, "degree", degree)
        set_field(self, "dim", require_int("dim", dim, 1))

    @property
    def n_features(self) -> int:
        """Total width D."""
        return _width(self.degree, self.dim)

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> TaylorDraw:
        """Return the map, for leading axes ``shape`` the same one everywhere; ``rng`` is not looked at.

        ``dim`` must be the one that the law was made for.

        >>> TaylorFeatures("inv", 1, dim=2).draw(2)(np.array([[0.5, 0.25]]))
        array([[1.  , 0.5 , 0.25]])
        """
        del rng
        if require_int("dim", dim, 1) != self.dim:
            raise ValueError(f"dim: expected {self.dim}, which the law was made for, found {dim}")
        coefficients = self.kernel.coefficients(self.degree)
        return TaylorDraw(self.dim, coefficients, leading_axes(shape), self.kernel.radius, repr(self))

    def target(self, x: Array, y: Array) -> Array:
        """Return f(<x, y>), the kernel whose first terms the map sums."""
        return self.kernel(self.kernel.clip(self._inner(x, y), self.dim))

    def mean(self, x: Array, y: Array) -> Array:
        """Return <phi(x), phi(y)>, the partial sum of f up to the degree, at any finite <x, y>."""
        return self.kernel.partial_sum(self._inner(x, y), self.degree)

    def variance(self, x: Array, y: Array) -> Array:
        """Return zeros: nothing is random."""
        return 0 * self._inner(x, y)

    def second_moment(self, x: Array, y: Array) -> Array:
        """Return <phi(x), phi(y)>^2, the square of the mean."""
        return self.mean(x, y) ** 2

    def _inner(self, x: Array, y: Array) -> Array:
        xp = check_vectors(x=x, y=y)
        check_finite(x=x, y=y)
        if x.shape[-1] != self.dim:
            raise ValueError(f"x, y: expected (..., {self.dim}), found {tuple(x.shape)}, {tuple(y.shape)}")
        with np.errstate(over="ignore", invalid="ignore"):  # found below
            t = xp.asarray(xp.sum(x * y, axis=-1))
        if not all_finite(t):
            raise ValueError(f"x, y: finite, but <x, y> overflows {t.dtype}; scale down or use float64")
        return t

    def _repr_html_(self) -> str:
        return inline_math(repr(self))


@dataclass(frozen=True, eq=False)
class TaylorDraw:
    """The map of `TaylorFeatures`, phi: (..., n, d) -> (..., n, D), same library, device and dtype.

    ``dim``           d;  ``coefficients``  (degree + 1,) a_0, a_1, a_2 as far as they go
    ``shape``         leading axes of the draw, along which it is the same
    ``radius``        radius of convergence of the kernel's series;  ``name``  what was drawn, for people

    Columns: 1, x_i, then x_i x_j for (0, 0), (0, 1), ..., (1, 1), ..., each with its factor.

    >>> TaylorFeatures("inv", 2, dim=2).draw(2)(np.array([[1.0, 2.0]])).round(2)
    array([[1.  , 1.  , 2.  , 1.  , 2.83, 4.  ]])
    """

    dim: int
    coefficients: np.ndarray = field(repr=False)
    shape: tuple[int, ...]
    radius: float
    name: str

    @property
    def n_features(self) -> int:
        """Total width D."""
        return _width(len(self.coefficients) - 1, self.dim)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the features of one row: d factors of degree 1, and two at most for each product x_i x_j."""
        return (0, self.dim, self.dim + self.dim * (self.dim + 1))[len(self.coefficients) - 1]

    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, and products that overflow.
        """
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        return check_features(x, self.merged(x))

    @np.errstate(all="ignore")  # an overflow is found in the result
    def merged(self, x: Array) -> Array:
        """Return the same features without a scan of input or output, as attention uses them: each one row of memory."""
        xp, d = check_tokens(x, self.dim, self.shape), self.dim
        *own, n, _ = x.shape
        out = xp.empty((*own, self.n_features, n), dtype=x.dtype, device=device_of(x))
        roots = [math.sqrt(a) for a in self.coefficients]
        out[..., 0, :] = roots[0]
        if len(roots) > 1:
            rows = xp.empty((*own, d, n), dtype=x.dtype, device=device_of(x))
            rows[...] = xp.matrix_transpose(x)
            out[..., 1 : 1 + d, :] = roots[1] * rows
        if len(roots) > 2:
            once, twice, start = roots[2] * rows, math.sqrt(2) * roots[2] * rows, 1 + d
            for i in range(d):
                row = rows[..., i : i + 1, :]
                out[..., start, :] = (row * once[..., i : i + 1, :])[..., 0, :]
                out[..., start + 1 : start + d - i, :] = row * twice[..., i + 1 :, :]
                start += d - i
        lead = broadcast_shapes(draw=self.shape, x=tuple(own))
        return xp.matrix_transpose(xp.broadcast_to(out, (*lead, *out.shape[-2:])))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        write_npz(
            path,
            format=np.array(TAYLOR_FORMAT),
            dim=np.array(self.dim),
            coefficients=self.coefficients,
            shape=np.array(self.shape, dtype=np.int64),
            radius=np.array(float(self.radius)),
            name=np.array(self.name),
        )


def read_taylor(path: str | os.PathLike[str]) -> TaylorDraw:
    """Read a draw written by `TaylorDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, ("dim", "coefficients", "shape", "radius", "name"))
    dim, a, shape, radius = (stored[name] for name in ("dim", "coefficients", "shape", "radius"))
    holds = {
        "dim": dim.dtype.kind == "i" and dim.ndim == 0 and dim > 0,
        "coefficients": a.dtype == np.float64
        and a.ndim == 1
        and 1 <= len(a) <= LARGEST_DEGREE + 1
        and np.all((a >= 0) & np.isfinite(a)),
        "shape": shape.dtype.kind == "i" and shape.ndim == 1 and np.all(shape >= 0),
        "radius": radius.dtype == np.float64 and radius.ndim == 0 and radius > 0,
        "name": stored["name"].dtype.kind == "U" and stored["name"].ndim == 0,
    }
    check_stored(path, stored, holds)
    return TaylorDraw(int(dim), a, tuple(int(size) for size in shape), float(radius), str(stored["name"]))


def _width(degree: int, dim: int) -> int:
    return (1, 1 + dim, 1 + dim + dim * (dim + 1) // 2)[degree]


def _no_wider(kernel: str, degree: int, dim: int, n_features: int) -> TaylorFeatures | None:
    """Return the law, or ``None`` where it is wider than what is asked for: widths that are compared are equal."""
    return TaylorFeatures(kernel, degree, dim) if _width(degree, dim) <= n_features else None


@feature_map("Taylor, degree 1")
def _degree_1(kernel: str, dim: int, n_features: int) -> TaylorFeatures | None:
    return _no_wider(kernel, 1, dim, n_features)


@feature_map("Taylor, degree 2")
def _degree_2(kernel: str, dim: int, n_features: int) -> TaylorFeatures | None:
    return _no_wider(kernel, 2, dim, n_features)
