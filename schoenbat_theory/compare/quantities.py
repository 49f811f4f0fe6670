"""Numbers of a comparison: medians with what is undefined among them, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Iterable

from schoenbat_theory.markup import decimal

__all__ = ["ROUNDING", "counted", "finite", "median", "or_inf", "short", "whole"]

ROUNDING = 1e-12  # a relative error in float64 that is not worth its digits


def median(values: Iterable[float]) -> float:
    """Return the median; of an even number of values the mean of the middle two, infinite where one of them is."""
    found = sorted(values)
    middle = found[(len(found) - 1) // 2], found[len(found) // 2]
    return middle[0] if middle[0] == middle[1] else sum(middle) / 2


def counted(n: int, thing: str) -> str:
    """Return "1 draw", "2 draws"."""
    return f"{n} {thing}{'s' * (n != 1)}"


def finite(x: float) -> float | None:
    """Return ``x``, ``None`` where it is infinite."""
    return x if math.isfinite(x) else None


def or_inf(x: float | None) -> float:
    """Return ``x``, infinity for ``None``: what is undefined comes last."""
    return math.inf if x is None else x


def short(x: float | None) -> str:
    """Return an error in words, to two digits or three."""
    return "undefined" if x is None else decimal(x, x / 10)


def whole(x: float | None) -> str:
    """Return a count in words, "–" for ``None``."""
    return "–" if x is None else f"{x:,.0f}"
