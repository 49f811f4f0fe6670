from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import series
from schoenbat_theory.coefficients import check_radius

U = 2.0**-53


def test_horner_is_the_sum_of_powers(asarray):
    c, t = np.array([3.0, -1.0, 0.0, 2.0]), np.array([-2.0, 0.0, 0.5, 4.0])
    for n_min in range(4):
        exact = sum(c[n] * t**n for n in range(n_min, 4))  # small dyadic numbers: exact
        found = series.polynomial(c, asarray(t), n_min)
        assert [float(found[i]) for i in range(4)] == exact.tolist()


@pytest.mark.parametrize(
    ("dtype", "t", "n_max"),
    [
        ("float64", 300.0, 310),
        ("float64", 700.0, 800),
        ("float64", -3.0, 200),
        ("float32", 20.0, 100),
        ("float32", -3.0, 60),
    ],
)
@pytest.mark.parametrize("n_min", [0, 37])
def test_coefficients_that_underflow_are_not_lost_where_their_terms_count(asarray, dtype, t, n_max, n_min):
    def coefficient(n):
        return Fraction(1, math.factorial(n))

    floats = np.array([float(coefficient(n)) for n in range(n_max + 1)])
    exact = float(sum(coefficient(n) * Fraction(t) ** n for n in range(n_min, n_max + 1)))
    found = float(series.partial_sum(coefficient, floats, asarray(np.array([t], dtype=dtype)), n_min)[0])
    # Horner: at most 2 n_max roundings relative to the sum of magnitudes, which is below exp(|t|).
    assert abs(found - exact) <= 2 * (n_max + 2) * float(np.finfo(dtype).eps) * math.exp(abs(t))


@pytest.mark.parametrize("t", [1e-300, 1e-3, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("start", [0, 5])
def test_what_is_left_after_the_terms_needed_is_below_rounding(t, start):
    n = series.terms_needed(lambda n: 1, t, 1.0, start)
    # The geometric tail t^(N+1) / (1 - t) against the sum t^start / (1 - t).
    assert (n + 1) * math.log(t) <= math.log(2.0**-56) + start * math.log(t)


def test_a_gap_in_the_series_does_not_end_it():
    lacunary = {n * n for n in range(60)}
    n = series.terms_needed(lambda n: int(n in lacunary), 0.9, 1.0, 1)
    assert 0.9**n <= 2.0**-56  # the gap after 25 is longer than any fixed run
    assert series.terms_needed(lambda n: int(n == 30), 0.5, math.inf, 0) == 30


def test_no_number_of_terms_is_enough_at_the_radius():
    assert series.terms_needed(lambda n: 1, 1.0, 1.0, 0) is None
    assert series.terms_needed(lambda n: Fraction(1, math.factorial(n)), 1000.0, math.inf, 0) is None


def test_coefficients_beyond_float64_are_not_summed():
    assert series.terms_needed(lambda n: 1000**n, 0.9999e-3, 1e-3, 0) is None


@pytest.mark.parametrize(("a", "n", "latex"), [
    (1.0, 0, "1"), (1.0, 1, "t"), (0.5, 2, r"\tfrac{1}{2}t^{2}"), (3.0, 10, "3t^{10}"), (math.pi, 1, "3.14t"),
])  # fmt: skip
def test_terms_are_written_as_small_fractions_where_they_are(a, n, latex):
    assert series.term(a, n) == latex


def test_coefficients_that_contradict_the_radius_are_refused():
    n = np.arange(256.0)
    check_radius(0.5**n, 2.0, "half")
    check_radius(0.5**n / np.maximum(n, 1) ** 2, 2.0, "half")
    check_radius(np.r_[1.0, np.zeros(255)], math.inf, "constant")
    for radius in (4.0, math.inf):
        with pytest.raises(ValueError, match="radius: the coefficients of half say about 2"):
            check_radius(0.5**n, radius, "half")
