from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory.confidence import binomial_limits
from schoenbat_theory.degrees import DEGREES, FixedDegrees, GeometricDegrees, get_degrees

U = 2.0**-53
LAWS = [GeometricDegrees(p, b, top) for p in (1.5, 2.0, 3.0) for b in (0, 1, 2) for top in (None, b, b + 1, 20)]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_probabilities_sum_to_one_and_fall_by_p(law):
    top = 400 if law.max_degree is None else law.max_degree
    q = [law.probability(n) for n in range(top + 2)]
    assert all(q[n] == 0 for n in range(law.exact_below))
    reached = q[law.exact_below : top + 1]
    # A power is within 2 u, a division or product within u: 3 u for each q_n, 8 u for their constant.
    assert abs(math.fsum(reached) - 1) <= 12 * U
    for more, less in itertools.pairwise(reached):
        assert abs(more - law.p * less) <= 8 * U * more
    if law.max_degree is not None:
        assert q[top + 1] == 0


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_constant_is_the_geometric_sum(law):
    top = 400 if law.max_degree is None else law.max_degree
    exact = sum(Fraction(law.p) ** -n for n in range(law.exact_below, top + 1))
    assert abs(law.inverse_scale / float(exact) - 1) <= 10 * U


def test_the_released_law_is_the_one_of_the_released_code():
    law = DEGREES["released"]
    for n in range(1, 21):
        assert law.probability(n) == 2.0**-n / (1 - 2.0**-20)  # powers of two: exact until the division
    assert law.probability(0) == law.probability(21) == 0


def test_kar_and_karnick_reach_every_degree_from_the_names_first_one():
    assert [DEGREES["geometric"].probability(n) for n in range(3)] == [0.5, 0.25, 0.125]
    assert [DEGREES["h01"].probability(n) for n in range(4)] == [0, 0, 0.5, 0.25]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_drawn_degrees_follow_their_probabilities(law, rng):
    n = 1 << 19
    drawn = law.sample(n, rng, (2,))
    assert drawn.shape == (2, n)
    assert drawn.min() >= law.exact_below
    assert law.max_degree is None or drawn.max() <= law.max_degree
    up = law.exact_below + np.arange(13)  # a law cut at degree 6 would miss a hundredth of its draws or more
    q = np.array([law.probability(int(degree)) for degree in up])
    hits = np.bincount(drawn.ravel(), minlength=up[-1] + 1)[up]
    low, high = binomial_limits(hits, 2 * n, 1e-11)  # exact; 36 laws of 13 degrees
    assert np.all((low <= q * (1 + 1e-12)) & (q * (1 - 1e-12) <= high))


def test_the_mean_degree_is_one_over_p_minus_one(rng):
    for p in (1.5, 2.0, 4.0):
        law = GeometricDegrees(p)
        exact = math.fsum(n * law.probability(n) for n in range(400))
        assert abs(exact - 1 / (p - 1)) <= 400 * U * exact
        # Chebyshev, failing with probability 1e-6: the variance of a degree is p / (p - 1)^2.
        n = 1 << 16
        assert abs(law.sample(n, rng).mean() - exact) <= 1e3 * math.sqrt(p / n) / (p - 1)


def test_expected_counts_are_numbers_of_features_times_probabilities():
    for law in LAWS:
        assert law.expected_counts(10, 6).tolist() == [10 * law.probability(n) for n in range(7)]


def test_fixed_degrees_are_what_was_asked_for(rng):
    law = FixedDegrees((1, 0, 3, 0))
    assert law.max_degree == 2
    assert law.sample(4, rng, (2,)).tolist() == [[0, 2, 2, 2]] * 2
    assert law.expected_counts(4, 5).tolist() == [1, 0, 3, 0, 0, 0]
    assert law.expected_counts(4, 1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GeometricDegrees(1.0), "p: expected a finite number > 1, found 1.0"),
        (lambda: GeometricDegrees(math.inf), "p: "),
        (lambda: GeometricDegrees(math.nan), "p: "),
        (lambda: GeometricDegrees(exact_below=3), "exact_below: expected 0, 1 or 2, found 3"),
        (lambda: GeometricDegrees(exact_below=2, max_degree=1), "max_degree: expected at least exact_below = 2"),
        (lambda: FixedDegrees(()), "degrees: expected counts"),
        (lambda: FixedDegrees((0, 0)), "degrees: expected counts"),
        (lambda: FixedDegrees((2, -1)), "degrees: expected counts"),
        (lambda: FixedDegrees((1, 1.5)), "degrees: expected counts"),
        (lambda: FixedDegrees(("a",)), "degrees: expected counts"),
        (lambda: FixedDegrees(3), "degrees: expected counts"),
        (lambda: GeometricDegrees(exact_below=1.0), "exact_below: expected an int >= 0, found 1.0"),
        (lambda: GeometricDegrees(max_degree=2.5), "max_degree: expected an int >= 0, found 2.5"),
        (lambda: GeometricDegrees(max_degree=math.nan), "max_degree: expected an int >= 0, found nan"),
        (lambda: GeometricDegrees(1e200, 2), r"p: expected p\^-2 within float64, found 1e\+200"),
        (lambda: get_degrees("harmonic", 4), "degrees: expected one of geometric, released, h01, found 'harmonic'"),
        (lambda: get_degrees((1, 2), 4), "degrees: the counts sum to 3, expected n_features = 4"),
    ],
)
def test_wrong_laws_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_law_may_be_a_name_a_law_or_counts():
    assert get_degrees("h01", 4) is DEGREES["h01"]
    assert get_degrees([1, 3], 4) == get_degrees(np.array([1, 3]), 4) == FixedDegrees((1, 3))
    with pytest.raises(TypeError, match="p: expected a finite number > 1, found 'a'"):
        GeometricDegrees(p="a")
    with pytest.raises(TypeError, match="degrees: expected a name"):
        get_degrees(3, 4)
