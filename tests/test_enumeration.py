from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest

from schoenbat_theory import enclose_series


def exponential(rate):
    """Return exp of a Fraction, its error below 10^-35 of it for rates below 1000."""
    with localcontext() as context:
        context.prec = 40
        return Fraction((Decimal(rate.numerator) / Decimal(rate.denominator)).exp())


@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(1, 2), Fraction(1), Fraction(22, 7), Fraction(400)])
def test_a_series_is_between_its_bounds(rate):
    for factor, exact in (
        (lambda i: 1, exponential(rate)),
        (lambda i: Fraction(1 + i, 2 + i), (exponential(rate) - 1) / rate),  # 1F1(1; 2; x)
        (lambda i: Fraction(1, 2), exponential(rate / 2)),
    ):
        low, high = enclose_series(rate, factor)
        error = exact / 10**30 / min(rate, 1)  # of `exponential`, and a difference of two numbers near 1
        assert low < exact + error
        assert exact - error < high
        assert high - low <= low / 10**12


def test_a_rate_is_taken_exactly_and_zero_leaves_one_term():
    assert enclose_series(0, lambda i: 1) == (1, 1)
    assert enclose_series(0.1, lambda i: 1) == enclose_series(Fraction(0.1), lambda i: 1)


@pytest.mark.parametrize("rate", [-1, math.inf, math.nan, "1"])
def test_a_rate_that_is_none_is_named(rate):
    with pytest.raises((TypeError, ValueError), match="rate: expected a finite number >= 0, found"):
        enclose_series(rate, lambda i: 1)


@pytest.mark.parametrize("factor", [0, -1, 2, Fraction(3, 2)])
def test_a_factor_that_bounds_nothing_is_refused(factor):
    with pytest.raises(ValueError, match=r"factor: expected numbers in \(0, 1\], found .* at 3"):
        enclose_series(4, lambda i: factor if i == 3 else 1)
