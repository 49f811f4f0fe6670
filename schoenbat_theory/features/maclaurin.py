r"""Random Maclaurin features: monomials in random signs whose inner product estimates f(<x, y>).

    phi_j(x) = sqrt(a_N / c_N) prod_{i <= N} <w_i, x>,    N the degree of feature j,  w_i uniform on {-1, 1}^d

with c_n the expected number of features of degree n (Kar & Karnick 2012, Algorithm 1). A law is
drawn once (`RandomMaclaurin.draw`) and then applied to any number of arrays.

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

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    as_generator,
    asarray_like,
    broadcast_shapes,
    check_finite,
    check_floating,
    require_int,
    to_host,
)
from schoenbat_theory.degrees import FixedDegrees, GeometricDegrees, get_degrees
from schoenbat_theory.features.draw import MaclaurinDraw, load_draw
from schoenbat_theory.features.inputs import check_norms, check_vectors, leading_axes, too_large
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.markup import inline_math

__all__ = ["MaclaurinDraw", "RandomMaclaurin", "load_draw", "rademacher_moment"]


@np.errstate(all="ignore")  # an overflow is found in the result
def rademacher_moment(x: Array, y: Array, z: Array | None = None) -> Array:
    r"""Return T = E[<w, x>^2 <w, y> <w, z>] for w uniform on {-1, 1}^d, elementwise over leading axes.

        T = ||x||^2 <y, z> + 2 <x, y> <x, z> - 2 sum_i x_i^2 y_i z_i,    V = T at z = y,  V >= <x, y>^2

    ``x, y, z`` (..., d), broadcast, z = y if it is not given; returns (...). Source: z = y in Wacker,
    Ohana & Filippone (2023), Table 1; the mixed moment is not in the source. Both are enumerated in P03.
    Raises ``ValueError`` for NaN and for a moment that overflows.

    >>> rademacher_moment(np.array([1.0, 1.0]), np.array([1.0, -1.0]))
    array(0.)
    """
    named = {"x": x, "y": y} if z is None else {"x": x, "y": y, "z": z}
    xp = check_vectors(**named)
    z = y if z is None else z
    xx, xy, xz = x * x, xp.sum(x * y, axis=-1), xp.sum(x * z, axis=-1)
    moment = xp.sum(xx, axis=-1) * xp.sum(y * z, axis=-1) + 2 * xy * xz - 2 * xp.sum(xx * y * z, axis=-1)
    if z is y:
        moment = xp.maximum(moment, xy * xy)  # Jensen; rounding may say otherwise
    moment = xp.asarray(moment)
    if not all_finite(moment):
        check_finite(**named)
        raise too_large(", ".join(named), moment)
    return moment


@dataclass(frozen=True)
class RandomMaclaurin:
    r"""The law of a random Maclaurin feature map of total width ``n_features``.

    ``kernel``      name or `DotProductKernel`
    ``n_features``  total width D, exact features included
    ``degrees``     "geometric", "released", "h01", a `GeometricDegrees`, or counts per degree
    ``weights``     "rademacher"

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
        if weights != "rademacher":
            raise ValueError(f"weights: expected 'rademacher', found {weights!r}")
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "kernel", get_kernel(kernel))
        set_field(self, "n_features", n_features)
        set_field(self, "degrees", get_degrees(degrees, n_features))
        set_field(self, "weights", weights)
        self._n_random(1)

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> MaclaurinDraw:
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
        n_random, exact = self._n_random(dim), self.degrees.exact_below
        degrees = self.degrees.sample(n_random, rng, shape)
        n_max = int(degrees.max(initial=0))
        with np.errstate(divide="ignore", invalid="ignore"):  # degrees that cannot occur have count 0
            squares = self.kernel.coefficients(n_max) / self.degrees.expected_counts(n_random, n_max)
        a = self.kernel.coefficients(1)
        return MaclaurinDraw.sample(
            dim,
            degrees,
            np.sqrt(squares),
            constant=math.sqrt(a[0]) if exact > 0 else None,
            linear=math.sqrt(a[1]) if exact > 1 else None,
            radius=self.kernel.radius,
            name=repr(self),
            rng=rng,
        )

    def target(self, x: Array, y: Array) -> Array:
        """Return f(<x, y>), the kernel that the map is made for."""
        t = self._inner(x, y)
        return self.kernel(self.kernel.clip(t, x.shape[-1]))

    def mean(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>: f(<x, y>), or the partial sum of the degrees that the law reaches.

        Without a largest degree, ||x|| ||y|| beyond the radius of convergence is a ``ValueError``: there
        E|phi(x) phi(y)| may be infinite and no mean exists.
        """
        t = self._inner(x, y)
        n_random = self._n_random(x.shape[-1])
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

        with R random features and V = `rademacher_moment`. Not in the sources seen; derived in P05, which
        checks it by enumeration and by sampling.
        """
        xp = check_floating(x=x, y=y)
        t = self._inner(x, y)
        result = self._covariance(t, t, rademacher_moment(x, y), x)
        return xp.maximum(result, xp.zeros_like(result))  # Cauchy-Schwarz; rounding may say otherwise

    @np.errstate(all="ignore")  # an overflow is found in the moments
    def row_covariance(self, q: Array, k: Array) -> Array:
        r"""Return the covariances of the estimates <phi(q), phi(k_j)> in the row of one query, (..., m, m).

            C_jl = (1/R) [ sum_n (a_n^2 / q_n) T_jl^n - (mean of the random part)_j (...)_l ]

        ``q`` (..., d), ``k`` (..., m, d); T_jl is the mixed moment of `rademacher_moment`. It is what the bias
        of the attention ratio is made of (P09). Not in the sources seen.
        """
        xp = check_floating(q=q, k=k)
        if q.ndim < 1 or k.ndim < 2 or q.shape[-1] != k.shape[-1]:
            raise ValueError(f"q, k: expected (..., d), (..., m, d), found {tuple(q.shape)}, {tuple(k.shape)}")
        broadcast_shapes(q=tuple(q.shape[:-1]), k=tuple(k.shape[:-2]))
        check_finite(q=q, k=k)
        t = self._inner(q[..., None, :], k)  # (..., m)
        turned = xp.matrix_transpose(k)
        moment = xp.sum(q * q, axis=-1)[..., None, None] * (k @ turned) - 2 * ((k * (q * q)[..., None, :]) @ turned)
        moment = moment + 2 * t[..., :, None] * t[..., None, :]
        return self._covariance(t[..., :, None], t[..., None, :], moment, q)

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
        xp, rng = check_vectors(x=x, y=y), as_generator(rng)
        size = require_int("size", size, 1)
        n_random = self._n_random(x.shape[-1])
        if isinstance(self.degrees, FixedDegrees) or n_random == 0:
            phi = self.draw(x.shape[-1], rng, shape=(size, *([1] * (max(x.ndim, y.ndim) - 1))))
            return xp.sum(phi(x[..., None, :]) * phi(y[..., None, :]), axis=-1)[..., 0]
        wide = RandomMaclaurin(self.kernel, self.n_features + n_random * (size - 1), self.degrees, self.weights)
        phi = wide.draw(x.shape[-1], rng)
        phi_x, phi_y = (xp.reshape(phi(xp.reshape(w, (-1, phi.dim))), (*w.shape[:-1], -1)) for w in (x, y))
        products = phi_x * phi_y  # (..., D)
        # A draw sorts its features by degree. In random order they are independent again.
        order = asarray_like(rng.permutation(n_random * size), x, dtype=xp.int64)
        random = xp.take(products[..., : n_random * size], order, axis=-1) * size
        groups = xp.sum(xp.reshape(random, (*products.shape[:-1], size, n_random)), axis=-1)
        exact = xp.sum(products[..., n_random * size :], axis=-1)
        return xp.moveaxis(groups + exact[..., None], -1, 0)

    def _n_random(self, dim: int) -> int:
        exact = (0, 1, 1 + dim)[self.degrees.exact_below]
        if self.n_features < exact:
            raise ValueError(
                f"n_features: the exact part of degrees below {self.degrees.exact_below} has {exact} "
                f"features at dim = {dim}, found n_features = {self.n_features}"
            )
        return self.n_features - exact

    def _covariance(self, t: Array, u: Array, moment: Array, like: Array) -> Array:
        """Covariance of two estimates whose targets are f(t) and f(u), on the host in float64."""
        dim = like.shape[-1]
        t, u = (to_host(self.kernel.clip(one, dim)).astype(np.float64) for one in (t, u))
        moment = to_host(moment).astype(np.float64)
        if not np.isfinite(moment).all():
            raise too_large("x, y", like)
        return asarray_like(self.degrees.covariance(self.kernel, t, u, moment, self._n_random(dim)), like)

    def _inner(self, x: Array, y: Array) -> Array:
        xp = check_vectors(x=x, y=y)
        check_finite(x=x, y=y)
        with np.errstate(all="ignore"):  # an overflow is found by the kernel
            return xp.asarray(xp.sum(x * y, axis=-1))

    def _repr_html_(self) -> str:
        return inline_math(repr(self))
