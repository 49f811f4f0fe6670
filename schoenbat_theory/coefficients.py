"""Coefficients a_n >= 0 of a kernel: their float64 table, and what is checked of those that a user hands in."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import eps

__all__ = ["UserCoefficient", "check_closed_form", "check_radius", "coefficient_table"]


@dataclass(frozen=True)
class UserCoefficient:
    """A user's n -> a_n, whose own errors come with the n at which they happened."""

    function: Callable[[int], Any]
    name: str

    def __call__(self, n: int) -> Any:
        """Return a_n."""
        try:
            return self.function(n)
        except OverflowError:
            raise  # a number too large: refused where it is asked for
        except Exception as error:
            raise ValueError(
                f"coefficient: kernel {self.name} raised {type(error).__name__} at n = {n}: {error}"
            ) from error


@functools.lru_cache(maxsize=256)
def coefficient_table(coefficient: Callable[[int], Any], name: str, length: int) -> np.ndarray:
    """Return a_0 .. a_{length-1} as float64, ``inf`` from the first that overflows; ``ValueError`` for a negative one."""
    values = np.full(length, np.inf)
    for n in range(length):
        try:
            a = coefficient(n)
            real = isinstance(a, numbers.Real)
            valid = real and math.isfinite(a) and a >= 0
        except OverflowError:
            break  # refused where it is asked for
        if not valid:
            raise ValueError(f"kernel {name}: Schoenberg's condition needs finite a_n >= 0, found a_{n} = {a!s:.60}")
        values[n] = float(a)
    return values


def check_radius(coefficients: np.ndarray, radius: float, name: str) -> None:
    """Raise ``ValueError`` if 256 coefficients grow faster than ``radius`` allows.

    The slope of -log a_n over n in [128, 256) estimates log(radius of convergence); factors n^k move
    it by k/180, so an estimate below 0.8 ``radius`` is a contradiction, not noise. An entire series
    must have a slope that grows from [32, 64) to [128, 256).
    """
    late = _decay(coefficients, 128, 256)
    if late is None:
        return  # a polynomial: every radius is true
    if math.isfinite(radius):
        if late < math.log(0.8 * radius):
            raise ValueError(
                f"radius: the coefficients of {name} say about {math.exp(late):.3g}, found radius = {radius:g}"
            )
        return
    early = _decay(coefficients, 32, 64)
    if early is not None and late < early + 0.1:
        raise ValueError(f"radius: the coefficients of {name} say about {math.exp(late):.3g}, found radius = inf")


def _decay(coefficients: np.ndarray, start: int, stop: int) -> float | None:
    n = np.arange(start, stop)
    a = coefficients[start:stop]
    if np.count_nonzero(a) < 2:
        return None
    return float(-np.polyfit(n[a > 0], np.log(a[a > 0]), 1)[0])


def check_closed_form(kernel: Any) -> None:
    """Compare closed form and series at seven points with |t| <= radius/2, where 60 terms reach rounding."""
    assert kernel.closed_form is not None
    t = np.linspace(-0.5, 0.5, 7) * min(kernel.radius, 2.0)
    try:
        found, expected = np.asarray(kernel.closed_form(t)), kernel.partial_sum(t, 255)
    except Exception as error:
        raise TypeError(
            f"closed_form: kernel {kernel.name} must take arrays, raised {type(error).__name__}: {error}"
        ) from error
    if found.shape != t.shape:
        raise TypeError(
            f"closed_form: kernel {kernel.name} must take arrays, returned shape {found.shape} for {t.shape}"
        )
    # Horner over N terms errs by 2 N u sum a_n |t|^n; the closed form is granted as much again.
    allowed = 4 * 256 * eps(t) * kernel.partial_sum(np.abs(t), 255) + 2.0**-200
    bad = ~(np.abs(found - expected) <= allowed)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"closed_form: kernel {kernel.name} at t = {t[i]:g} is {found[i]!r}, its series gives {expected[i]!r}"
        )
