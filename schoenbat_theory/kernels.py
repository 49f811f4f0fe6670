r"""Dot-product kernels k(x, y) = f(<x, y>), f(t) = sum_n a_n t^n, with every a_n >= 0.

Schoenberg (1942): f(<x, y>) is positive definite on the unit ball of every dimension if and only if
all a_n >= 0. A kernel here is a value made of four things: its name, its coefficients in exact
closed form, its function, its radius of convergence. All else is derived from them.

    exp    e^t            1/n!                        trigh   sinh t + cosh t, the same function as exp
    inv    1/(1-t)        1                           logi    1 - log(1-t),  a_0 = 1, a_n = 1/n
    sqrt   2 - sqrt(1-t)  |binom(1/2, n)|             polynomial(p, c)  (t+c)^p, binom(p, n) c^(p-n)

To add a kernel, add one constant to ``KERNELS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.special

from schoenbat_theory import series
from schoenbat_theory.arrays import (
    Array,
    all_finite,
    asarray_like,
    broadcast_shapes,
    check_finite,
    check_floating,
    eps,
    namespace,
    require_int,
    require_real,
)
from schoenbat_theory.coefficients import UserCoefficient, check_closed_form, check_radius, coefficient_table
from schoenbat_theory.markup import inline_math

__all__ = ["KERNELS", "DotProductKernel", "get_kernel", "polynomial"]


@dataclass(frozen=True)
class DotProductKernel:
    """A dot-product kernel f(<x, y>) given by its power series.

    ``name``         how users and reports call it
    ``coefficient``  n -> a_n, exactly (int or ``Fraction``) where possible, a float otherwise; a_n >= 0
    ``closed_form``  array t -> array f(t) of the same library; ``None``: the series is summed
    ``radius``       radius of convergence of the series, ``math.inf`` allowed
    ``formula``      f(t) in LaTeX
    ``log_slope``    c if f(t) = exp(c t), so that attention can subtract a maximum; ``None`` otherwise
    ``squared``      host array z -> sum_n a_n^2 z^n for |z| <= radius^2, ``inf`` where it diverges

    Users build theirs with `DotProductKernel.from_coefficients`, which checks what can be checked.

    >>> get_kernel("exp")(0.0), get_kernel("inv")(0.5), float(get_kernel("sqrt").coefficients(2)[2])
    (1.0, 2.0, 0.125)
    """

    name: str
    coefficient: Callable[[int], Any] = field(repr=False)
    closed_form: Callable[[Array], Array] | None = field(repr=False, compare=False)
    radius: float
    formula: str = field(default="", repr=False)
    log_slope: float | None = field(default=None, repr=False)
    squared: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> Any:
        # The kernels of this package travel by name: their functions cannot be pickled.
        return (get_kernel, (self.name,)) if KERNELS.get(self.name) is self else object.__reduce_ex__(self, 2)

    @classmethod
    def from_coefficients(
        cls,
        name: str,
        coefficient: Callable[[int], Any],
        closed_form: Callable[[Array], Array] | None = None,
        *,
        radius: float,
    ) -> DotProductKernel:
        """Build a kernel from n -> a_n, after checking Schoenberg's condition, the radius and the closed form.

        Checked: a_n finite and >= 0 for n < 256 (and again for every later n that is used); the
        growth of a_n against ``radius``; ``closed_form`` against the series at seven points inside it.
        Raises ``ValueError`` that says which condition fails and where.

        >>> geometric = DotProductKernel.from_coefficients("half", lambda n: 0.5**n, radius=2.0)
        >>> round(geometric(1.0), 12)
        2.0
        """
        radius = require_real("radius", radius, "a positive number or math.inf", lambda r: r > 0)
        for argument, function in (("coefficient", coefficient), ("closed_form", closed_form or coefficient)):
            if not callable(function):
                raise TypeError(f"{argument}: expected a function, found {function!r:.60}")
        kernel = cls(name, UserCoefficient(coefficient, name), closed_form, radius)
        check_radius(kernel.coefficients(255), kernel.radius, name)
        if closed_form is not None:
            check_closed_form(kernel)
        return kernel

    def coefficients(self, n_max: int) -> np.ndarray:
        """Return a_0 .. a_{n_max} as float64, (n_max + 1,), each correctly rounded from its exact value.

        ``n_max`` below 8192: exact coefficients up to there take seconds, far beyond it hours.
        """
        n_max = _degree(n_max, series.MAX_DEGREE - 1)
        length = max(64, 1 << n_max.bit_length())  # few lengths, so that the cache is hit
        values = coefficient_table(self.coefficient, self.name, length)[: n_max + 1].copy()
        if math.isinf(values.max()):
            raise ValueError(
                f"kernel {self.name}: a_{int(np.argmax(values))} overflows float64; a Fraction goes furthest"
            )
        return values

    def __call__(self, t: Array) -> Array:
        """Return f(t) elementwise; a float for a float.

        Raises ``ValueError`` where |t| > radius and where f(t) is not finite.

        >>> get_kernel("logi")(np.array([0.0, 0.5])).round(4)
        array([1.    , 1.6931])
        """
        if isinstance(t, int | float):
            return float(self(_scalar(t))[0])
        xp = check_floating(t=t)
        if math.prod(t.shape) == 0:
            return xp.zeros_like(t)
        largest = float(xp.max(xp.abs(t)))
        if not (largest <= self.radius and largest < math.inf):  # also catches NaN
            raise ValueError(f"t: kernel {self.name} needs finite |t| <= {self.radius:g}, found |t| = {largest!r}")
        with np.errstate(all="ignore"):  # a pole or an overflow is reported below, with its place
            values = xp.asarray(self.closed_form(t) if self.closed_form is not None else self._sum(t, largest))
        if not all_finite(values):
            culprit = float(xp.max(xp.where(xp.isfinite(values), asarray_like(-math.inf, t), t)))
            raise ValueError(f"t: kernel {self.name} is not finite (in {t.dtype}) at t = {culprit!r}")
        return values

    def gram(self, x: Array, y: Array) -> Array:
        """Return f(<x_i, y_j>), (..., n, m), for ``x`` (..., n, d) and ``y`` (..., m, d), unscaled.

        An inner product beyond the radius by no more than its own rounding error, as unit vectors
        produce, counts as on the boundary. Raises like calling the kernel.

        >>> get_kernel("exp").gram(np.eye(2), np.eye(2)).round(3)
        array([[2.718, 1.   ],
               [1.   , 2.718]])
        """
        xp = check_floating(x=x, y=y)
        if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
            raise ValueError(f"x, y: expected (..., n, d), (..., m, d), found {tuple(x.shape)}, {tuple(y.shape)}")
        broadcast_shapes(x=tuple(x.shape[:-2]), y=tuple(y.shape[:-2]))
        with np.errstate(all="ignore"):  # an overflow is found by the call
            t = self.clip(x @ xp.matrix_transpose(y), x.shape[-1])
        if not all_finite(t):
            check_finite(x=x, y=y)
        return self(t)

    def clip(self, t: Array, dim: int) -> Array:
        """Return inner products ``t`` of length-``dim`` vectors, moved onto |t| = radius where rounding pushed them out."""
        if math.isinf(self.radius):
            return t
        xp = namespace(t)
        slack = self.radius * (1 + 2 * dim * eps(t))  # dot products of d terms err by at most d u ||x|| ||y||
        edge = asarray_like(self.radius, t)
        near = (xp.abs(t) > edge) & (xp.abs(t) <= slack)
        return xp.where(near, xp.sign(t) * edge, t)

    def partial_sum(self, t: Array, n_max: int, n_min: int = 0) -> Array:
        """Return sum_{n_min <= n <= n_max} a_n t^n elementwise (Horner), for any finite t."""
        if n_max < n_min:
            return 0 * t
        return series.partial_sum(self.coefficient, self.coefficients(n_max), t, n_min)

    def tail(self, t: Array, n_max: int) -> Array:
        """Return f(t) - sum_{n <= n_max} a_n t^n, elementwise, without cancellation inside the radius.

        ``n_max`` from 0 to 4096, so that there are terms left to be summed.

        >>> get_kernel("inv").tail(0.5, 20) == 0.5**21 / 0.5
        True
        """
        if isinstance(t, int | float):
            return float(self.tail(_scalar(t), n_max)[0])
        n_max = _degree(n_max, series.MAX_DEGREE // 2)
        xp = check_floating(t=t)
        if math.prod(t.shape) == 0:
            return xp.zeros_like(t)
        largest = float(xp.max(xp.abs(t)))
        if not (largest <= self.radius and largest < math.inf):
            raise ValueError(f"t: the tail of {self.name} needs |t| <= {self.radius:g}, found {largest!r}")
        last = series.terms_needed(self.coefficient, largest, self.radius, n_max + 1)
        with np.errstate(all="ignore"):  # an overflow is reported below
            if last is None:  # too close to the radius for direct summation; the tail is then no small number
                values = xp.asarray(self(t) - self.partial_sum(t, n_max))
            else:
                values = xp.asarray(self.partial_sum(t, last, n_max + 1))
        if not all_finite(values):
            raise ValueError(f"t: the tail of {self.name} overflows {t.dtype} at |t| = {largest!r}")
        return values

    def squared_series(self, z: np.ndarray, n_min: int = 0, n_max: int | None = None) -> np.ndarray:
        """Return sum_{n_min <= n <= n_max} a_n^2 z^n on the host, ``inf`` where it diverges.

        It is what second moments of random Maclaurin features are made of (`RandomMaclaurin.variance`).
        Closed forms: I_0(2 sqrt z) for exp, 1/(1-z) for inv, 1 + Li_2(z) for logi,
        2F1(-1/2, -1/2; 1; z) for sqrt. A user's kernel on |z| = radius^2 exactly is a ``ValueError``:
        nothing is known of convergence there. ``z`` is taken as given, with no slack for rounding (unlike
        `clip`): a sum that diverges one rounding beyond radius^2 is ``inf`` there, whatever was meant.
        """
        return series.squared(self, np.asarray(z, dtype=np.float64), n_min, n_max)

    def scaled(self, beta: float) -> DotProductKernel:
        """Return the kernel f(beta t), beta > 0: coefficients a_n beta^n, radius divided by beta.

        >>> get_kernel("inv").scaled(0.5).radius
        2.0
        """
        expected = "a positive number (a_n beta^n must stay >= 0)"
        beta = require_real("beta", beta, expected, lambda b: 0 < b < math.inf)
        if math.isinf(self.radius / beta) and math.isfinite(self.radius):
            raise ValueError(f"beta: expected radius / beta within float64, radius = {self.radius:g}, found {beta!r}")
        form, squared, exact = self.closed_form, self.squared, Fraction(beta)
        square = beta**2 if beta < 2.0**511 else math.inf  # Python raises where NumPy says inf
        return DotProductKernel(
            f"{self.name}({beta:g} t)",
            lambda n: self.coefficient(n) * exact**n,
            None if form is None else lambda t: form(beta * t),
            self.radius / beta,
            f"f({beta:g}\\,t),\\quad f(t) = {self.formula}",
            None if self.log_slope is None else beta * self.log_slope,
            None if squared is None else lambda z: squared(square * z),
        )

    def _sum(self, t: Array, largest: float) -> Array:
        last = series.terms_needed(self.coefficient, largest, self.radius, 0)
        if last is None:
            raise ValueError(
                f"t: the series of {self.name} does not settle within {series.MAX_TERMS} terms at "
                f"|t| = {largest!r}; give a closed_form"
            )
        return self.partial_sum(t, last)

    def _repr_html_(self) -> str:
        first = self.coefficients(4)
        expansion = " + ".join(series.term(a, n) for n, a in enumerate(first) if a)
        formula = self.formula or _ANY
        radius = r"\infty" if math.isinf(self.radius) else f"{self.radius:g}"
        latex = rf"f(t) = {formula} = {expansion or '0'} + \cdots, \qquad |t| \le {radius}"
        return f"<b>{inline_math(self.name)}</b> {inline_math('$' + latex + '$')}"

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle f(t) = {self.formula or _ANY}$"


_ANY = r"\sum_n a_n t^n"


def get_kernel(kernel: str | DotProductKernel) -> DotProductKernel:
    """Return the kernel of that name, or the kernel itself; ``ValueError`` lists the names that exist.

    >>> get_kernel("logi").radius
    1.0
    """
    if isinstance(kernel, DotProductKernel):
        return kernel
    if not isinstance(kernel, str):
        raise TypeError(f"kernel: expected a name or a DotProductKernel, found {type(kernel).__name__}")
    if kernel not in KERNELS:
        raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, found {kernel!r}")
    return KERNELS[kernel]


def polynomial(p: int, c: float = 0.0) -> DotProductKernel:
    """Return the polynomial kernel (t + c)^p, c >= 0, p a positive integer.

    >>> polynomial(2, 1.0).coefficients(3)
    array([1., 2., 1., 0.])
    """
    p = require_int("p", p, 1)
    c = require_real("c", c, "a number >= 0 (Schoenberg: a_n >= 0)", lambda c: 0 <= c < math.inf)
    exact = Fraction(c)
    return DotProductKernel(
        f"polynomial({p}, {c:g})",
        lambda n: math.comb(p, n) * exact ** (p - n) if n <= p else 0,
        lambda t: (t + c) ** p,
        math.inf,
        f"(t + {c:g})^{{{p}}}" if c else f"t^{{{p}}}",
        squared=lambda z: np.polynomial.polynomial.polyval(
            z, [float(math.comb(p, n) * exact ** (p - n)) ** 2 for n in range(p + 1)]
        ),
    )


def _degree(n_max: int, largest: int) -> int:
    if require_int("n_max", n_max, 0) > largest:
        raise ValueError(f"n_max: expected at most {largest}, found {n_max!r:.60}")
    return int(n_max)


def _scalar(t: float) -> np.ndarray:
    """Return a Python number as an array of one; an int beyond float64 is infinite, and refused as such."""
    try:
        return np.asarray([t], dtype=np.float64)
    except OverflowError:
        return np.asarray([math.inf])


def _log1p_series(n: int) -> Fraction:
    return Fraction(1, max(n, 1))


def _sqrt_coefficient(n: int) -> Fraction:
    return Fraction(math.comb(2 * n, n), abs(2 * n - 1) * 4**n)


def _exp(t: Array) -> Array:
    return namespace(t).exp(t)


def _bessel(z: np.ndarray) -> np.ndarray:
    """Sum_n z^n / n!^2 = I_0(2 sqrt z), or J_0(2 sqrt -z) for z < 0."""
    root = np.minimum(2 * np.sqrt(np.abs(z)), 1e300)  # SciPy's i0 of infinity is NaN, that of 1e300 infinite
    return np.where(z >= 0, scipy.special.i0(root), scipy.special.j0(root))


KERNELS: dict[str, DotProductKernel] = {
    kernel.name: kernel
    for kernel in (
        DotProductKernel("exp", lambda n: Fraction(1, math.factorial(n)), _exp, math.inf, "e^{t}", 1.0, _bessel),
        DotProductKernel(
            "inv",
            lambda n: Fraction(1),
            lambda t: 1 / (1 - t),
            1.0,
            r"\frac{1}{1-t}",
            squared=lambda z: np.where(z < 1, 1 / (1 - z), np.inf),
        ),
        DotProductKernel(
            "logi",
            _log1p_series,
            lambda t: 1 - namespace(t).log1p(-t),
            1.0,
            r"1 - \log(1-t)",
            squared=lambda z: 1 + scipy.special.spence(1 - z),  # scipy's spence(1 - z) is Li_2(z)
        ),
        # sinh + cosh is e^t, coefficient by coefficient, and exp does not cancel for t < 0.
        DotProductKernel(
            "trigh",
            lambda n: Fraction(1, math.factorial(n)),
            _exp,
            math.inf,
            r"\sinh t + \cosh t = e^{t}",
            1.0,
            _bessel,
        ),
        DotProductKernel(
            "sqrt",
            _sqrt_coefficient,
            lambda t: 2 - namespace(t).sqrt(1 - t),
            1.0,
            r"2 - \sqrt{1-t}",
            squared=lambda z: scipy.special.hyp2f1(-0.5, -0.5, 1.0, z),
        ),
    )
}
