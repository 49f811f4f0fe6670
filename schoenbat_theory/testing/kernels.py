"""The laws of a dot-product kernel, and its exam."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, as_generator, device_of, namespace, to_host
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.testing.exam import Exam, Finding, agree, at_least, holds, not_examined, sit, unit, worst

__all__ = ["KERNEL_LAWS", "examine_kernel"]

TERMS = 255  # the series is compared up to this degree
OPERATIONS = 16.0  # a closed form may use this many roundings; elementary functions err by up to 4 units each


@dataclass(frozen=True)
class _Case:
    kernel: DotProductKernel
    asarray: Callable[[np.ndarray], Array]
    t: np.ndarray  # arguments inside the radius
    x: np.ndarray  # (n, d) rows with ||x|| ||y|| inside the radius
    y: np.ndarray  # (m, d)
    a: np.ndarray  # a_0 .. a_TERMS as the kernel's function of n gives them, unchecked

    def size(self, t: Any) -> np.ndarray:
        """Return sum |a_n t^n|, the sum of absolute values of the terms (beyond TERMS they are below rounding)."""
        return np.asarray(np.sum(np.abs(self.a) * np.abs(t)[..., None] ** np.arange(self.a.size), axis=-1))

    def slope(self, t: Any) -> np.ndarray:
        """Return sum n |a_n t^n|: how much f(t) moves, relative to a relative move of t."""
        n = np.arange(self.a.size)
        return np.asarray(np.sum(n * np.abs(self.a) * np.abs(t)[..., None] ** n, axis=-1))


def coefficients_are_not_negative(case: _Case) -> Finding:
    """Schoenberg's condition: every a_n is finite and >= 0."""
    a = case.a
    if not np.isfinite(a).all():
        return Finding("fails", note=f"a_{int(np.argmin(np.isfinite(a)))} is not finite")
    return at_least(float(a.min()), 0.0, f"smallest of a_0 .. a_{TERMS}, at n = {int(np.argmin(a))}")


def function_equals_its_series(case: _Case) -> Finding:
    """f(t) = sum a_n t^n, up to the tail and rounding."""
    kernel, t = case.kernel, case.t
    series = np.zeros_like(t)
    for c in case.a[::-1]:
        series = series * t + c
    # Horner errs by at most 2 N u sum |a_n t^n|.
    bound = np.abs(kernel.tail(np.abs(t), TERMS)) + (2 * TERMS + OPERATIONS) * unit(t.dtype) * case.size(t)
    return agree(kernel(case.asarray(t)), series, bound, f"series up to degree {TERMS}")


def partial_sum_plus_tail_is_the_function(case: _Case) -> Finding:
    """S_N(t) + tail_N(t) = f(t) for N = 0, 3, 20."""
    kernel, t = case.kernel, case.asarray(case.t)
    bound = (4 * TERMS + OPERATIONS) * unit(case.t.dtype) * case.size(case.t)  # two sums by Horner
    return worst(
        *(agree(kernel.partial_sum(t, n) + kernel.tail(t, n), kernel(t), bound, f"N = {n}") for n in (0, 3, 20))
    )


def gram_matrices_are_symmetric(case: _Case) -> Finding:
    """K(x, y) = K(y, x)^T, up to the rounding of the inner products."""
    gram = case.kernel.gram(case.asarray(case.x), case.asarray(case.y))
    other = case.kernel.gram(case.asarray(case.y), case.asarray(case.x))
    return agree(gram, to_host(other).T, 2 * _entry_error(case, case.x, case.y), "two Gram matrices")


def gram_matrices_are_positive_semidefinite(case: _Case) -> Finding:
    """Every eigenvalue of K(x, x) is >= 0, up to rounding."""
    gram = np.asarray(to_host(case.kernel.gram(case.asarray(case.x), case.asarray(case.x))), dtype=np.float64)
    n = gram.shape[0]
    # Weyl: eigenvalues move by at most ||E||_2 <= ||E||_F; a symmetric eigenvalue solver errs by n u ||K||_F.
    bound = np.linalg.norm(_entry_error(case, case.x, case.x)) + n * unit(np.float64) * np.linalg.norm(gram)
    return at_least(float(np.linalg.eigvalsh((gram + gram.T) / 2)[0]), -float(bound), f"{n} points")


def scaled_kernel_is_the_kernel_of_the_scaled_argument(case: _Case) -> Finding:
    """scaled(beta)(t) = f(beta t), and its coefficients are a_n beta^n."""
    found = []
    for beta in (0.3, 1.0, 1.75):
        scaled, t = case.kernel.scaled(beta), case.t / max(beta, 1.0)
        # beta t is rounded before f sees it: a relative move of 2 u.
        bound = 2 * unit(t.dtype) * (case.slope(beta * t) + OPERATIONS * case.size(beta * t))
        found.append(agree(scaled(case.asarray(t)), case.kernel(case.asarray(beta * t)), bound, f"beta = {beta}"))
        n = np.arange(21)
        expected = case.kernel.coefficients(20) * beta**n
        found.append(agree(scaled.coefficients(20), expected, (n + 4) * unit(t.dtype) * expected, f"beta = {beta}"))
    return worst(*found)


def dtype_and_device_are_kept(case: _Case) -> Finding:
    """f, Gram matrices, partial sums and tails stay in the library, dtype and device of their argument."""
    for dtype in (np.float32, np.float64):
        t, x = case.asarray(case.t.astype(dtype)), case.asarray(case.x.astype(dtype))
        for name, out in (
            ("kernel(t)", case.kernel(t)),
            ("kernel.gram(x, x)", case.kernel.gram(x, x)),
            ("kernel.partial_sum(t, 3)", case.kernel.partial_sum(t, 3)),
            ("kernel.tail(t, 3)", case.kernel.tail(t, 3)),
        ):
            complaint = same_kind(out, t)
            if complaint:
                return Finding("fails", note=f"{name}: {complaint}")
    return holds("float32 and float64")


def arguments_outside_the_radius_are_refused(case: _Case) -> Finding:
    """|t| > radius and NaN are a ValueError."""
    values = [math.nan] if math.isinf(case.kernel.radius) else [math.nan, 1.01 * case.kernel.radius]
    for value in values:
        try:
            case.kernel(case.asarray(np.array([value])))
        except ValueError:
            continue
        return Finding("fails", note=f"t = {value:g} was accepted, radius {case.kernel.radius:g}")
    if math.isinf(case.kernel.radius):
        return not_examined("the radius is infinite; NaN is refused")
    return holds(f"t = NaN and t = {values[-1]:g}")


KERNEL_LAWS: tuple[Callable[[_Case], Finding], ...] = (
    coefficients_are_not_negative,
    function_equals_its_series,
    partial_sum_plus_tail_is_the_function,
    gram_matrices_are_symmetric,
    gram_matrices_are_positive_semidefinite,
    scaled_kernel_is_the_kernel_of_the_scaled_argument,
    dtype_and_device_are_kept,
    arguments_outside_the_radius_are_refused,
)


def examine_kernel(
    kernel: str | DotProductKernel, *, asarray: Callable[[Any], Array] = np.asarray, dim: int = 3, rng: Any = 0
) -> Exam:
    """Examine a dot-product kernel: Schoenberg's condition, series, Gram matrices, scaling, domain.

        f(t) = sum_n a_n t^n,   a_n >= 0,   |t| <= radius

    ``kernel``   name or `DotProductKernel`, a user's own too
    ``asarray``  function that moves a host array to the library and device to be examined
    ``dim``      d of the points of the Gram matrices, (4 d, d)
    ``rng``      int, SeedSequence or Generator, for those points

    Returns an `Exam`; raises `ExamFailed`, an ``AssertionError``, that names every law which fails, the
    number found and its bound. Every bound is the first-order rounding error of the sums involved.

    Source: Schoenberg (1942) for the first law; the exam is not in the source.

    >>> examine_kernel("inv").passed
    True
    """
    kernel = get_kernel(kernel)
    reach = min(kernel.radius, 2.0)
    generator = as_generator(rng)
    x, y = (generator.normal(size=(4 * dim, dim)) for _ in range(2))
    x, y = (a * (math.sqrt(0.75 * reach) / np.linalg.norm(a, axis=-1, keepdims=True)) for a in (x, y))
    a = np.array([float(kernel.coefficient(n)) for n in range(TERMS + 1)])
    case = _Case(kernel, asarray, np.linspace(-0.75, 0.75, 13) * reach, x, y, a)
    return sit(f"kernel {kernel.name}", case, KERNEL_LAWS)


def same_kind(out: Array, like: Array) -> str:
    """Return what differs between two arrays in library, dtype or device, or an empty text."""
    if type(out) is not type(like):
        return f"returned {type(out).__module__}.{type(out).__name__} for {type(like).__module__}"
    if out.dtype != like.dtype:
        return f"returned dtype {out.dtype} for {like.dtype}"
    if namespace(out) is not namespace(like) or device_of(out) != device_of(like):
        return f"returned device {device_of(out)} for {device_of(like)}"
    return ""


def _entry_error(case: _Case, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a bound for the error of f(<x_i, y_j>): inner products of d terms err by d u sum |x_c y_c|."""
    s = np.abs(x) @ np.abs(y).T
    size = np.linalg.norm(x, axis=-1)[:, None] * np.linalg.norm(y, axis=-1)
    return np.asarray(unit(x.dtype) * (x.shape[-1] * case.slope(size) * s / size + OPERATIONS * case.size(size)))
