"""Which monomials are chosen: the best by their scores, deterministic, and what must not cut a branch off."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import Monomials, choose_monomials

U = 2.0**-53
# The logarithm of a score is a sum of ten terms below 32, each to 2 u of itself: 640 u. A mean of 40 squares of monomials
# of degree n errs by (2 (3 n + 2) + 41) u, two of them by 200 u where n <= 8; the definition's errs by as much.
ROUNDING = 2 * (640 + 200) * U
COSH = st.DotProductKernel.from_coefficients(
    "cosh", lambda n: 0 if n % 2 else Fraction(1, math.factorial(n)), np.cosh, radius=math.inf
)


def sample(rng, dim=3, rows=40, size=0.5):
    """Return queries, keys, their weights and values, coordinates falling in size."""
    x, y = size * rng.uniform(-1, 1, size=(2, rows, dim)) * 0.8 ** np.arange(dim)
    weights = rng.uniform(size=rows)
    return x, y, weights / weights.sum(), rng.normal(size=(rows, 2))


def scores_of(kernel, every, x, y, weights, values=None):
    """Return the scores of all columns of ``every`` by their definition."""
    factors = np.array([float(a) for a in st.get_kernel(kernel).coefficients(int(every.degrees.max()))])[every.degrees]
    px, py = (np.prod(z[:, None, :] ** every.exponents(), axis=-1) for z in (x, y))
    if values is None:
        keys = weights @ py**2
    else:
        keys = np.sum(((weights[:, None] * py).T @ (values - weights @ values)) ** 2, axis=-1)
    return (factors * every.multinomial) ** 2 * np.mean(px**2, axis=0) * keys


def columns_of(chosen, every):
    """Return where the chosen monomials are among all."""
    place = {tuple(alpha): i for i, alpha in enumerate(every.exponents().tolist())}
    return [place[tuple(alpha)] for alpha in chosen.exponents().tolist()]


@pytest.mark.parametrize("kernel", ["exp", "sqrt", st.polynomial(4, 2.0)], ids=str)
@pytest.mark.parametrize("width", [1, 2, 9, 20])
def test_where_scores_fall_the_largest_of_all_are_chosen(rng, kernel, width):
    x, y, weights, _ = sample(rng, dim=6)
    every = Monomials.up_to(6, 6)  # what is beyond has smaller scores than any chosen
    expected = scores_of(kernel, every, x, y, weights)
    assert np.all(expected[1:] <= expected[every.parents[1:]])
    chosen, scores = choose_monomials(kernel, x, y, weights, width)
    where = columns_of(chosen, every)
    assert sorted(where) == sorted(np.argsort(-expected, kind="stable")[:width])
    assert np.allclose(scores, expected[where], rtol=ROUNDING, atol=0)


def test_scores_with_values_are_those_of_the_effects(rng):
    x, y, weights, values = sample(rng)
    chosen, scores = choose_monomials("exp", x, y, weights, 25, values=values)
    expected = scores_of("exp", chosen, x, y, weights, values)
    # Effects may cancel: a sum of 40 terms, each of 4 n + 4 roundings, errs by 80 u of the sum of magnitudes, which is
    # at most sqrt(e) max |v - v_w| < 8; so does the definition's, and other factors are below 1.
    assert np.all(np.abs(np.sqrt(scores) - np.sqrt(expected))[1:] <= 2 * 80 * 8 * U + ROUNDING * np.sqrt(expected[1:]))
    assert scores[0] == 0  # sum_j w_j (v_j - v_w) = 0: the constant has none, and is taken
    assert columns_of(chosen, Monomials.up_to(8, 3))[0] == 0


def test_values_change_what_is_chosen(rng):
    x, y, weights, values = sample(rng, dim=6)
    both = [choose_monomials("exp", x, y, weights, 15, values=one)[0] for one in (None, values)]
    gains = [np.sum(scores_of("exp", chosen, x, y, weights, values)) for chosen in both]
    assert gains[0] < gains[1]


@pytest.mark.parametrize("width", [4, 12, 30])
@pytest.mark.parametrize("with_values", [False, True])
def test_the_chosen_are_distinct_and_hold_their_parents(rng, width, with_values):
    x, y, weights, values = sample(rng, dim=5, size=3.0)  # far from falling
    chosen, scores = choose_monomials("exp", x, y, weights, width, values=values if with_values else None)
    alpha = [tuple(one) for one in chosen.exponents().tolist()]
    assert len(set(alpha)) == len(alpha) == chosen.n_features == len(scores) == width
    assert np.all(np.diff(chosen.degrees) >= 0)


def test_pairs_of_scores_that_rise_are_taken_for_their_mean():
    """Only degrees 1 and 3 of one variable matter: x^2 of score 0 is on the way to x^3, and both are worth half of it."""
    odd = st.DotProductKernel.from_coefficients("odd", lambda n: {1: 1, 3: 4}.get(n, 0), radius=math.inf)
    x = np.array([[1.0, 0.7], [-1.0, 0.7]])
    y, weights = x, np.full(2, 0.5)
    chosen, scores = choose_monomials(odd, x, y, weights, 4)
    every = Monomials.up_to(3, 2)
    expected = scores_of(odd, every, x, y, weights)
    assert chosen.exponents().tolist() == [[0, 0], [1, 0], [2, 0], [2, 1]]
    assert np.allclose(scores, expected[columns_of(chosen, every)], rtol=ROUNDING, atol=0)
    # Of all closed sets of four it has the largest sum.
    sums = [
        sum(expected[i] for i in one)
        for one in itertools.combinations(range(every.n_features), 4)
        if all(every.parents[i] < 0 or every.parents[i] in one for i in one)
    ]
    assert np.isclose(max(sums), scores.sum(), rtol=ROUNDING, atol=0)


@pytest.mark.parametrize(("score", "second"), [(0.6, [2, 0]), (0.8, [0, 1])])
def test_a_path_is_worth_the_mean_of_its_scores(score, second):
    """x_0 and its square score 0.4 and 1, 0.7 in the mean: more than 0.6 of x_1, and less than 0.8."""
    kernel = st.DotProductKernel.from_coefficients("bent", lambda n: (1, 1, 0.625, 0)[min(n, 3)], radius=math.inf)
    rows = np.diag([6.4**0.25, (score * 16 / 9) ** 0.25])[[0, 1, 1, 1]]  # on one axis each: x_0 x_1 is 0
    chosen, scores = choose_monomials(kernel, rows, rows, np.ones(4), 3)
    assert chosen.exponents().tolist() == [[0, 0], [1, 0], second]
    assert np.allclose(scores, [1, 0.4, 1 if second == [2, 0] else score], rtol=ROUNDING, atol=0)


@pytest.mark.parametrize(("kernel", "degrees"), [(COSH, {0, 2, 4}), (st.polynomial(2), {2}), (st.polynomial(3), {3})])
def test_a_coefficient_of_zero_does_not_cut_off_what_is_above_it(rng, kernel, degrees):
    x, y, weights, values = sample(rng, size=1.5)
    for wanted in (None, values):
        chosen, scores = choose_monomials(kernel, x, y, weights, 16, values=wanted)
        assert set(chosen.degrees[chosen.factors(kernel) > 0].tolist()) == degrees
        assert np.all(scores[~np.isin(chosen.degrees, list(degrees))] == 0)
        assert np.isin(chosen.degrees, list(degrees)).sum() >= 6


def test_columns_that_lead_nowhere_are_left_out(rng):
    x, y, weights, _ = sample(rng, size=1.0)
    chosen, scores = choose_monomials(st.polynomial(3), x, y, weights, 6)
    leaves = np.setdiff1d(np.arange(1, chosen.n_features), chosen.parents)
    assert np.all(scores[leaves] > 0)
    assert chosen.n_features <= 6
    axes = np.eye(2)  # x_0 x_1 is 0: a fourth column could only be one that leads beyond the fourth
    assert choose_monomials(COSH, axes, axes, np.ones(2), 4)[0].exponents().tolist() == [[0, 0], [1, 0], [2, 0]]


def test_effects_that_cancel_do_not_cut_off_what_is_above_them(rng):
    """Keys in pairs y, -y with equal values: no odd monomial has an effect, even ones have."""
    x, half, _, values = sample(rng)
    y, values = np.concatenate([half, -half]), np.concatenate([values, values])
    chosen, scores = choose_monomials("exp", x, y, np.full(80, 1 / 80), 9, values=values)
    assert np.sum(chosen.degrees == 2) >= 4
    # What is left of 80 terms that cancel is their rounding, 160 u of their magnitudes, against effects of some percent.
    assert np.max(scores[chosen.degrees == 1]) < (100 * 160 * U) ** 2 * np.max(scores)


def test_ties_go_to_the_lower_degree_and_then_to_the_lower_coordinates():
    signs = st.sign_vectors(3)
    weights = np.full(8, 1 / 8)
    kernel = st.DotProductKernel.from_coefficients(
        "1 + t + t^2/2", lambda n: (1, 1, 0.5, 0)[min(n, 3)], radius=math.inf
    )
    # 1, x_i and x_i x_j have the score 1, squares 1/4
    for width, last in ((3, [0, 1, 0]), (5, [1, 1, 0]), (6, [1, 0, 1]), (8, [2, 0, 0])):
        chosen, _ = choose_monomials(kernel, signs, signs, weights, width)
        assert chosen.exponents()[-1 if width < 8 else 4].tolist() == last
    again, _ = choose_monomials(kernel, signs[::-1], signs, weights, 6)
    assert again.exponents().tolist() == choose_monomials(kernel, signs, signs, weights, 6)[0].exponents().tolist()


def test_no_size_of_the_coordinates_overflows(rng):
    x, y, weights, values = sample(rng, dim=4)
    plain = choose_monomials("exp", x, y, weights, 30, values=values)
    power = np.array([2.0**400, 2.0**-400, 2.0**500, 2.0**-1])  # x_i y_i as before: degree 3 has 2^1500
    scaled = choose_monomials("exp", x * power, y / power, weights, 30, values=values)
    assert np.array_equal(plain[0].exponents(), scaled[0].exponents())
    assert np.allclose(plain[1], scaled[1], rtol=2**7 * ROUNDING, atol=0)  # terms below 2^12 in place of 2^5
    with np.errstate(all="raise", under="ignore"):
        huge, scores = choose_monomials("exp", 1e200 * x, 1e200 * y, weights, 30)
    assert huge.n_features == 30
    assert np.isinf(scores[1])


def test_the_size_of_the_values_changes_scores_only(rng):
    x, y, weights, values = sample(rng, size=2.0)
    chosen, scores = choose_monomials("exp", x, y, weights, 12, values=values)
    again, larger = choose_monomials("exp", x, y, weights, 12, values=2.0**20 * values)
    assert np.array_equal(again.exponents(), chosen.exponents())
    assert np.allclose(larger, 2.0**40 * scores, rtol=ROUNDING, atol=0)


def test_one_variable_may_have_every_degree():
    x = np.array([[3.0], [-2.0]])
    chosen, scores = choose_monomials("exp", x, x, [0.5, 0.5], 40)
    assert chosen.exponents()[:, 0].tolist() == list(range(40))
    assert np.all(scores > 0)


def test_coordinates_of_zeros_and_keys_without_weight_count_for_nothing(rng):
    x, y, weights, values = sample(rng, dim=4)
    x[:, 1] = 0
    y[:, 3] = 0
    weights[:5], y[:5] = 0, 1e300
    weights /= weights.sum()
    kept = [0, 2]
    for wanted in (None, values):
        found, scores = choose_monomials("exp", x, y, weights, 20, values=wanted)
        rest = None if wanted is None else values[5:] - weights @ values
        alone, alone_scores = choose_monomials("exp", x[:, kept], y[5:, kept], weights[5:], 20, values=rest)
        assert np.array_equal(found.exponents()[:, kept], alone.exponents())
        assert np.all(found.exponents()[:, [1, 3]] == 0)
        assert np.allclose(np.sqrt(scores), np.sqrt(alone_scores), rtol=ROUNDING, atol=2 * 80 * 8 * U)
    nothing, scores = choose_monomials("exp", 0 * x, y, weights, 20)
    assert nothing.n_features == 1
    assert scores.tolist() == [1]


def test_weights_are_divided_by_their_sum(rng):
    x, y, weights, values = sample(rng)
    chosen, scores = choose_monomials("exp", x, y, weights, 12, values=values)
    again, same = choose_monomials("exp", x, y, 1024 * weights, 12, values=values)
    assert np.array_equal(chosen.exponents(), again.exponents())
    assert np.array_equal(scores, same)


def test_a_polynomial_has_no_more_monomials_than_it_has(rng):
    x, y, weights, _ = sample(rng)
    constant = st.DotProductKernel.from_coefficients("1", lambda n: int(n == 0), radius=math.inf)
    chosen, _ = choose_monomials(st.polynomial(2, 1.0), x, y, weights, 256)
    assert chosen.n_features == 10
    assert choose_monomials(st.polynomial(3), x, y, weights, 3)[0].n_features == 1  # no cube is within three columns
    assert choose_monomials(constant, x, y, weights, 256)[0].n_features == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_features": 0}, ValueError, "n_features: expected an int >= 1, found 0"),
        ({"kernel": "cos"}, ValueError, "kernel: expected one of"),
        ({"x": np.ones(3)}, ValueError, r"x, y: expected \(s, d\), \(t, d\), none empty, found \(3,\), \(4, 2\)"),
        ({"x": np.ones((0, 2))}, ValueError, "x, y: expected"),
        ({"x": np.ones((3, 3))}, ValueError, "x, y: expected"),
        ({"x": np.full((3, 2), np.nan)}, ValueError, "x: expected finite entries"),
        ({"y": np.full((4, 2), 1j)}, TypeError, "y: expected real numbers"),
        ({"weights": np.ones(3)}, ValueError, r"weights: expected \(4,\), finite and >= 0, not all 0, found array"),
        ({"weights": np.zeros(4)}, ValueError, "weights: expected"),
        ({"weights": np.array([np.inf, 1, 1, 1])}, ValueError, "weights: expected"),
        ({"weights": np.array([2.0, -1, 0, 0])}, ValueError, "weights: expected"),
        ({"weights": np.full(4, np.nan)}, ValueError, "weights: expected"),
        ({"values": np.ones(4)}, ValueError, r"values: expected \(4, e\), found \(4,\)"),
        ({"values": np.full((4, 1), np.inf)}, ValueError, "values: expected finite entries"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    arguments = {"kernel": "exp", "x": np.ones((3, 2)), "y": np.ones((4, 2)), "weights": np.full(4, 0.25)}
    with pytest.raises(error, match=message):
        choose_monomials(**{**arguments, "n_features": 5, **change})
