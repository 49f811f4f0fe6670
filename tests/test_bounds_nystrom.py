from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import bounds, gaussian_gram, nystrom_gram

U = 2.0**-53


def gram(rng, size=12, scale=1.0):
    x = scale * rng.normal(size=(size, 3))
    return gaussian_gram(x, x)


@pytest.mark.parametrize("ridge", [1e-3, 0.5, 10.0])
def test_scores_are_the_diagonal_of_the_definition(asarray, rng, ridge):
    """Solving with G + ridge I errs by N u times its condition, and so do the eigenvalues: twice each."""
    g = gram(rng)
    expected = np.diagonal(np.linalg.solve(g + ridge * np.eye(12), g))
    found = bounds.leverage_scores(asarray(g), ridge)
    assert type(found) is np.ndarray
    assert np.all(np.abs(found - expected) <= 4 * 12 * U * (1 + np.linalg.eigvalsh(g)[-1] / ridge))
    assert np.all((found > 0) & (found < 1))
    assert bounds.statistical_dimension(g, ridge) == pytest.approx(float(np.sum(found)), rel=12 * U)


def test_scores_of_rational_matrices_are_exact_numbers():
    """[[2, 1], [1, 2]] has eigenvalues 1 and 3: each score is (1/2 + 3/4) / 2 at ridge 1."""
    found = bounds.leverage_scores(np.array([[2.0, 1.0], [1.0, 2.0]]), 1.0)
    assert np.all(np.abs(found - 5 / 8) <= 8 * U)
    assert bounds.leverage_scores(np.diag([3.0, 0.0]), 1.0).tolist() == [0.75, 0.0]


def test_an_eigenvalue_that_rounding_made_negative_counts_as_zero():
    assert bounds.leverage_scores(np.diag([1.0, -1e-9]), 1.0).tolist() == [0.5, 0.0]


def test_a_zero_matrix_needs_nothing():
    assert bounds.leverage_scores(np.zeros((2, 2)), 1.0).tolist() == [0, 0]
    assert bounds.landmarks_required(np.zeros((2, 2)), 1.0, 0.1) == 0


def test_the_number_of_landmarks_is_what_bernsteins_inequality_asks_for():
    """At t = |M| / 2, variance N l |M| / c, range N l / c the exponent is 3 / 28 of c |M| / (N l); |M| >= 1/2."""
    t = Fraction(1, 2)
    exponent = t**2 / (2 * (1 + t / 3))
    identity = np.eye(4)  # every score is 1/2 at ridge 1, N max l = 2
    for delta in (0.4, 1e-2, 1e-12):
        assert bounds.landmarks_required(identity, 1.0, delta) == math.ceil(2 / exponent * 2 * math.log(8 / delta))
    lopsided = np.diag([1.0, 0.0, 0.0, 0.0])  # the statistical dimension is 1/2, N max l is still 2
    assert bounds.statistical_dimension(lopsided, 1.0) == 0.5
    assert bounds.landmarks_required(lopsided, 1.0, 0.1) == bounds.landmarks_required(identity, 1.0, 0.1)


def test_that_many_landmarks_keep_the_error_below_the_ridge_where_the_theorem_says_something(rng):
    """Points so close that one score fits all: 2n l_max is about 1, and c below N. A failure has probability 1e-3."""
    x = 0.02 * rng.normal(size=(600, 1))
    g = gaussian_gram(x, x)
    ridge = 0.5 * np.linalg.norm(g[:300, 300:], ord=2)
    required = bounds.landmarks_required(g, ridge, 1e-3)
    assert required < 600
    for _ in range(3):
        error = g - nystrom_gram(g, rng.integers(600, size=required))
        assert np.linalg.norm(error, ord=2) <= ridge


def test_float32_matrices_may_be_asymmetric_in_their_last_digits(asarray, rng):
    g = gram(rng).astype(np.float32)
    g[0, 1] += 1e-6
    found = bounds.leverage_scores(asarray(g), 0.1)
    assert found.dtype == np.float64
    assert np.array_equal(found, bounds.leverage_scores(asarray(g.T), 0.1))  # both triangles count
    with pytest.raises(ValueError, match=r"gram: expected a symmetric matrix, found \|G - G\^T\| up to 1e-06"):
        bounds.leverage_scores(gram(rng) + 1e-6 * np.eye(12, k=1), 0.1)


def test_numbers_near_the_limits_of_float64_do_not_overflow():
    assert bounds.leverage_scores(np.diag([1.7e308, 1.7e308]), 1.0).tolist() == [1.0, 1.0]
    assert bounds.landmarks_required(np.eye(2), 1.0, 2.0**-1074) == math.ceil(56 / 3 * (2 + 1074) * math.log(2))


@pytest.mark.parametrize("function", ["leverage_scores", "statistical_dimension", "landmarks_required"])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"gram": np.ones((2, 3))}, ValueError, r"gram: expected shape \(N, N\), N >= 1, found \(2, 3\)"),
        ({"gram": np.ones((0, 0))}, ValueError, "gram: expected shape"),
        ({"gram": np.ones((2, 2, 2))}, ValueError, "gram: expected shape"),
        ({"gram": "matrix"}, TypeError, "gram: expected real numbers"),
        ({"gram": np.full((2, 2), np.nan)}, ValueError, "gram: expected finite entries"),
        ({"gram": np.triu(np.ones((2, 2)))}, ValueError, "gram: expected a symmetric matrix"),
        (
            {"gram": np.diag([1.0, -1.0])},
            ValueError,
            "gram: expected a positive semidefinite matrix, found the eigenvalue -1",
        ),
        ({"ridge": 0.0}, ValueError, "ridge: expected a positive finite number, found 0.0"),
        ({"ridge": math.inf}, ValueError, "ridge: expected a positive finite number"),
        ({"ridge": "1"}, TypeError, "ridge: expected"),
    ],
)
def test_wrong_arguments_are_named(function, change, error, words):
    right = {"gram": np.eye(2), "ridge": 1.0} | ({"delta": 0.1} if function == "landmarks_required" else {})
    getattr(bounds, function)(**right)
    with pytest.raises(error, match=words):
        getattr(bounds, function)(**{**right, **change})


@pytest.mark.parametrize("delta", [0.0, 0.5, -1, math.nan])
def test_a_wrong_probability_is_named(delta):
    with pytest.raises(ValueError, match=r"delta: expected a number in \(0, 1/2\)"):
        bounds.landmarks_required(np.eye(2), 1.0, delta)
