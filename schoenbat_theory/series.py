"""Power series with non-negative coefficients: how many terms, what remains, where they diverge."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, namespace

__all__ = ["MAX_DEGREE", "MAX_TERMS", "partial_sum", "polynomial", "squared", "term", "terms_needed"]

MAX_TERMS = 2048  # beyond it direct summation is slower and less accurate than any closed form
MAX_DEGREE = 1 << 13  # exact coefficients below it take seconds, twice as many the better part of a minute


def polynomial(coefficients: np.ndarray, t: Array, n_min: int = 0) -> Array:
    """Return sum_{n >= n_min} c_n t^n by Horner's rule, elementwise, in the library and dtype of ``t``."""
    total = 0 * t
    for c in reversed(coefficients[n_min:]):
        total = total * t + float(c)
    return total * t**n_min if n_min else total


@np.errstate(over="ignore")  # beyond the dtype is inf
def partial_sum(coefficient: Callable[[int], Any], floats: np.ndarray, t: Array, n_min: int) -> Array:
    """Return sum_{n >= n_min} a_n t^n, elementwise, also where coefficients underflow and their terms do not.

    ``floats`` are the coefficients in float64. Where one is below the smallest normal number of the dtype of ``t``
    (1/n! is from n = 35 on in float32) and |t| > 1, the series is summed in t / 2^k instead, with coefficients
    a_n 2^(kn - e), 2^k > |t|: powers of two change no rounding, and what underflows now is beyond the last digit.
    """
    xp = namespace(t)
    small = np.flatnonzero(floats < float(xp.finfo(t.dtype).smallest_normal))
    largest = float(xp.max(xp.abs(t))) if math.prod(t.shape) else 0.0
    if not (1 < largest < math.inf and any(coefficient(int(n)) for n in small if n >= n_min)):
        return polynomial(floats, t, n_min)
    k = math.frexp(largest)[1]
    scaled = [Fraction(coefficient(n)) * 2 ** (k * n) for n in range(len(floats))]
    e = max(a.numerator.bit_length() - a.denominator.bit_length() for a in scaled[n_min:] if a)
    shifted = [float(a / Fraction(2) ** e) if n >= n_min else 0.0 for n, a in enumerate(scaled)]
    total = polynomial(np.array(shifted), t / 2.0**k, n_min)
    for half in (e // 2, e - e // 2):  # 2^e alone may be beyond the dtype although the sum is not
        total = total * 2.0 ** min(half, 1023)
    return total


def terms_needed(coefficient: Callable[[int], Any], t: float, radius: float, start: int) -> int | None:
    """Return N such that sum_{start <= n <= N} a_n t^n has reached its rounding level, or ``None``.

    It stops where a term, divided by 1 - t/radius (the geometric series that dominates what follows,
    if a_n radius^n does not grow), is below 2^-56 of the sum. For an entire series the ratio of
    successive terms takes the place of t/radius. ``None``: no N within MAX_TERMS terms, or the terms
    leave the range of float64 first; a closed form is needed then.
    """
    if t == 0:
        return max(start, 1)
    total, previous, quiet, last = 0.0, math.inf, 0, start
    for n in range(start, start + MAX_TERMS):
        a = coefficient(n)
        if not a:
            continue  # a gap, as in an even function, proves nothing
        exponent = n * math.log(t)
        try:
            value = float(a)
        except OverflowError:
            return None
        if 0 < value < 2.0**-1022 or exponent > 700:
            return None
        size = value * math.exp(exponent)
        total += size
        ratio = t / radius if math.isfinite(radius) else (size / previous if previous else 0.0)
        # One small term proves nothing either: ask for a run of them.
        quiet = quiet + 1 if ratio < 1 and size <= 2.0**-56 * total * (1 - ratio) else 0
        if quiet == 8:
            return n
        previous, last = size, n
    return last if last < start + MAX_TERMS // 2 else None  # a polynomial: what follows is zero


def squared(kernel: Any, z: np.ndarray, n_min: int, n_max: int | None) -> np.ndarray:
    """Return sum_{n_min <= n <= n_max} a_n^2 z^n in float64; see `DotProductKernel.squared_series`.

    ``kernel`` has a name, a radius, coefficient(n), coefficients(n_max) and squared(z) or ``None``.
    """
    if n_max is not None:
        return polynomial(kernel.coefficients(n_max) ** 2, z, n_min)
    limit = kernel.radius**2
    # Direct terms keep relative accuracy when the head is cut off; far out, closed form minus head.
    near = np.abs(z) <= min(limit / 2, 1.0)
    result = np.full_like(z, np.inf)
    if near.any():
        result[near] = _squared_sum(kernel, z[near], n_min)
    far = ~near & (np.abs(z) <= limit) & np.isfinite(z)
    if not far.any():
        return result
    if kernel.squared is not None:
        head = polynomial(kernel.coefficients(n_min)[:n_min] ** 2, z[far])
        with np.errstate(all="ignore"):  # the divergence at a pole is the answer: inf
            result[far] = kernel.squared(z[far]) - head
        return result
    if np.any(np.abs(z[far]) == limit):
        raise ValueError(
            f"kernel {kernel.name}: whether sum a_n^2 z^n converges on |z| = radius^2 = {limit:g} is not known"
        )
    result[far] = _squared_sum(kernel, z[far], n_min)
    return result


def _squared_sum(kernel: Any, z: np.ndarray, n_min: int) -> np.ndarray:
    largest = float(np.max(np.abs(z), initial=0.0))
    last = terms_needed(lambda n: kernel.coefficient(n) ** 2, largest, kernel.radius**2, n_min)
    if last is None:
        raise ValueError(
            f"kernel {kernel.name}: sum a_n^2 z^n does not settle within {MAX_TERMS} terms at |z| = {largest:g}"
        )
    return polynomial(kernel.coefficients(last) ** 2, z, n_min)


def term(a: float, n: int) -> str:
    """Return a_n t^n in LaTeX, with the coefficient as a small fraction where it is one."""
    simple = Fraction(a).limit_denominator(1000)
    exact = abs(float(simple) - a) < 1e-12 * max(a, 1e-300)
    number = f"{a:.3g}" if not exact else str(simple.numerator)
    if exact and simple.denominator > 1:
        number = rf"\tfrac{{{simple.numerator}}}{{{simple.denominator}}}"
    power = "" if n == 0 else "t" if n == 1 else f"t^{{{n}}}"
    return power if power and number == "1" else number + power
