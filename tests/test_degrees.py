from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import RandomMaclaurin, polynomial
from schoenbat_theory.confidence import binomial_limits
from schoenbat_theory.degrees import DEGREES, FixedDegrees, GeometricDegrees, allocate, get_degrees
from schoenbat_theory.features.maclaurin_maps import PAIRS, fit_counts
from schoenbat_theory.features.sketch_moments import WEIGHTS

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


# Counts


def compositions(total, parts, least=1):
    """Every way to write ``total`` as a sum of integers of at least ``least``."""
    if parts == 1:
        return [(total,)] if total >= least else []
    return [(n, *rest) for n in range(least, total + 1) for rest in compositions(total - n, parts - 1, least)]


def value(costs, counts):
    return sum(Fraction(c) / n for c, n in zip(costs, counts, strict=True) if c)


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("n_features", [6, 7, 10])
def test_no_counts_are_better_than_those_allocated(least, n_features):
    for costs in itertools.product((1, 4, 7, 1000), repeat=3):
        found = allocate(costs, n_features, least=least)
        best = min(value(costs, counts) for counts in compositions(n_features, 3, least))
        assert value(costs, found) == best
        assert sum(found) == n_features
        assert min(found) >= least


def test_costs_of_zero_get_nothing():
    assert allocate([0, 3.0, 0, 3.0], 5) in {(0, 3, 0, 2), (0, 2, 0, 3)}
    assert allocate([0, 1e-320], 4) == (0, 4)
    assert allocate([1e300, 1e-300], 4) == (3, 1)
    assert allocate([2.0**-1060, 4 * 2.0**-1060], 300) == allocate([1, 4], 300)  # gains beyond the smallest number
    assert allocate(np.array([2.0]), 1) == (1,)


def test_counts_are_near_the_best_real_ones(rng):
    costs = rng.exponential(size=12) ** 3
    lower = np.sum(np.sqrt(costs)) ** 2
    for n_features in (12, 50, 4000):
        found = float(np.sum(costs / allocate(costs, n_features)))
        assert lower / n_features <= found * (1 + 64 * U)
        # Real counts for D - P features, rounded up, are at most D.
        assert n_features == 12 or found <= lower / (n_features - 12) * (1 + 64 * U)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], 3), "costs: expected finite numbers >= 0, one of them positive"),
        (([0.0, 0.0], 3), "costs: expected finite numbers"),
        (([1.0, -1.0], 3), "costs: expected finite numbers"),
        (([1.0, np.nan], 3), "costs: expected finite numbers"),
        (([1.0, np.inf], 3), "costs: expected finite numbers"),
        (([[1.0]], 3), "costs: expected finite numbers"),
        (([1.0, 1.0], 1), "n_features: expected at least 2, 1 for each c_n > 0, found 1"),
        (([1.0, 1.0], 0), "n_features: expected an int >= 1, found 0"),
    ],
)
def test_what_cannot_be_allocated_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        allocate(*arguments)
    with pytest.raises(ValueError, match="least: expected an int >= 1, found 0"):
        allocate([1.0], 3, least=0)
    with pytest.raises(ValueError, match="n_features: expected at least 4, 2 for each"):
        allocate([1.0, 1.0], 3, least=2)
    with pytest.raises(TypeError, match="costs: expected real numbers"):
        allocate(["a"], 3)


def squared_error(kernel, counts, x, y, weights):
    """Mean over the pairs of variance and squared bias, by the closed forms of the map."""
    law = RandomMaclaurin(kernel, sum(counts), counts, weights)
    return float(np.mean(law.variance(x, y) + (law.mean(x, y) - law.target(x, y)) ** 2))


@pytest.mark.parametrize("weights", ["rademacher", "gaussian", "complex-rademacher", "complex-gaussian"])
@pytest.mark.parametrize("norm", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("kernel", ["exp", polynomial(5, 1.0)], ids=str)
def test_no_counts_have_a_smaller_error_than_the_optimal_ones(kernel, norm, weights, rng):
    x, y = rng.normal(size=(2, 5, 6))
    y = y + 2 * x
    x, y = (norm * w / np.linalg.norm(w, axis=-1, keepdims=True) for w in (x, y))
    n_features, step = 17, 1 + weights.startswith("complex")
    found = FixedDegrees.optimal(kernel, n_features, x, y, weights=weights)
    assert found.counts[0] == 1
    assert 1 <= found.max_degree <= 3
    others = [(n_features,)] + [
        (1, *(step * n for n in counts))
        for top in range(1, 5)
        for counts in compositions((n_features - 1) // step, top)
    ]
    errors = [squared_error(kernel, counts, x, y, weights) for counts in others]
    best = squared_error(kernel, found.counts, x, y, weights)
    assert best <= min(errors) * (1 + 256 * U)
    assert min(errors) < max(errors)


@pytest.mark.parametrize("weights", ["rademacher", "gaussian", "complex-rademacher", "complex-gaussian"])
def test_no_exchange_between_two_degrees_lowers_the_variance(weights, rng):
    x = rng.normal(size=(5, 6))
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    counts = np.array(FixedDegrees.optimal("exp", 1025, x, x, weights=weights).counts)
    assert counts.size > 3
    variance = lambda counts: float(np.mean(RandomMaclaurin("exp", 1025, counts, weights).variance(x, x)))
    step = 1 + weights.startswith("complex")
    for i, j in itertools.permutations(range(1, counts.size), 2):
        other = counts.copy()
        other[i], other[j] = counts[i] + step, counts[j] - step
        if other[j]:
            assert variance(other) >= variance(counts) * (1 - 256 * U)


def test_more_features_reach_larger_degrees(rng):
    x, y = rng.normal(size=(2, 50, 8)) / 4
    tops = [FixedDegrees.optimal("exp", n, x, y).max_degree for n in (2, 64, 1 << 12)]
    assert tops[0] < tops[1] < tops[2]


def test_degrees_without_variance_have_one_feature_and_degrees_without_coefficient_none():
    one = np.array([[0.5], [-0.25]])  # in one dimension signs leave nothing to chance: dyadic, hence exactly
    found = FixedDegrees.optimal("exp", 6, one, one)
    assert found.counts == (1, 1, 1, 1, 1, 1)
    x = np.full((1, 4), 0.25)
    assert FixedDegrees.optimal(polynomial(3), 7, x, x).counts == (0, 0, 0, 7)
    assert FixedDegrees.optimal(polynomial(2, 1.0), 7, x, x).max_degree <= 2
    assert FixedDegrees.optimal("exp", 4, 0 * x, x).counts == (4,)  # nothing to estimate
    assert FixedDegrees.optimal("exp", 1, x, x).counts == (1,)


def test_rounding_neither_makes_a_variance_nor_leaves_the_radius(rng):
    for x, y in zip(*rng.normal(size=(2, 50, 1)), strict=True):  # signs leave nothing to chance, up to rounding
        assert sum(FixedDegrees.optimal("exp", 64, x, y).counts) == 64
    x = rng.normal(size=(500, 5))
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    assert np.max(np.sum(x * x, axis=-1)) > 1
    assert sum(FixedDegrees.optimal("sqrt", 64, x, x).counts) == 64


def test_degrees_whose_cost_overflows_are_not_reached():
    x = np.full((1, 4), math.sqrt(75))  # t = 300: squares of terms of e^t beyond float64
    assert FixedDegrees.optimal("exp", 64, x, x).counts == (64,)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_family_has_counts_that_it_can_draw(weights, rng):
    x, y = rng.normal(size=(2, 20, 4)) / 2
    for n_features in (1, 2, 15, 16):
        counts = FixedDegrees.optimal("exp", n_features, x, y, weights=weights)
        assert RandomMaclaurin("exp", n_features, counts, weights).draw(4, 0)(x).shape == (20, n_features)


def test_counts_of_independent_rows_serve_families_that_share_a_transform(rng):
    x = rng.normal(size=(20, 4)) / 2
    y = x + rng.normal(size=(20, 4)) / 8
    counts = lambda weights: FixedDegrees.optimal("exp", 1024, x, y, weights=weights).counts
    assert counts("srht") == counts("rademacher")
    assert counts("complex-srht") == counts("complex-rademacher")
    assert abs(np.array(counts("tensorsketch"))[1:] - counts("complex-rademacher")[1:]).max() <= 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FixedDegrees.optimal("exp", 4, np.ones((0, 2)), np.ones((0, 2))), "x, y: expected at least one pair"),
        (
            lambda: FixedDegrees.optimal("inv", 4, np.ones((1, 2)), np.ones((1, 2))),
            r"kernel inv needs finite \|t\| <= 1",
        ),
        (lambda: FixedDegrees.optimal("exp", 0, np.ones((1, 2)), np.ones((1, 2))), "n_features: expected an int >= 1"),
        (lambda: FixedDegrees.optimal("exp", 4, np.ones((1, 2)), np.ones((1, 3))), "x, y: expected"),
        (
            lambda: FixedDegrees.optimal("exp", 4, np.full((1, 2), [1e100, 0]), np.full((1, 2), [0, 1e100])),
            "x, y: finite, but their moments overflow",
        ),
        (
            lambda: FixedDegrees.optimal("exp", 4, np.ones((1, 2)), np.ones((1, 2)), weights="normal"),
            "weights: expected one of",
        ),
        (
            lambda: FixedDegrees.optimal(polynomial(300), 4, np.ones((1, 2)) / 4, np.ones((1, 2)) / 4),
            "n_features: too few",
        ),
        (lambda: fit_counts("exp", 8, "srht", np.ones((0, 2)), np.ones((1, 2))), "q, k: expected"),
        (lambda: fit_counts("exp", 8, "srht", np.ones((1, 2)), np.ones((1, 3))), "q, k: expected"),
        (lambda: fit_counts("exp", 8, "srht", np.ones((1, 2)), np.full((1, 2), np.nan)), "k: expected finite entries"),
        (lambda: fit_counts("exp", 8, "srht", np.ones((2, 1, 2)), np.ones((3, 1, 2))), "leading axes do not broadcast"),
    ],
)
def test_pairs_that_choose_no_counts_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_fitted_counts_are_optimal_for_pairs_of_queries_and_keys(asarray, rng):
    q, k = rng.normal(size=(3, 7, 4)) / 2, rng.normal(size=(1, 9, 4)) / 2
    law = fit_counts("exp", 64, "rademacher", asarray(q), asarray(k))
    assert law == fit_counts("exp", 64, "rademacher", q, k)
    pairs = np.broadcast_arrays(q[:, :, None], k[:, None, :])
    every = FixedDegrees.optimal("exp", 64, *pairs)
    # Of all 189 pairs the sample of 4096 sees nearly all: the counts are nearly those of all.
    assert abs(np.array(every.counts) - law.degrees.counts).max() <= 2
    assert PAIRS > 20 * 189


def test_fitted_counts_are_always_the_same_for_the_same_arrays(rng):
    q, k = rng.normal(size=(2, 50, 4))
    first, again = (fit_counts("exp", 1 << 14, "rademacher", q, k).degrees for _ in range(2))
    assert first == again


def test_a_query_of_one_head_is_never_paired_with_a_key_of_another():
    q = np.stack([np.eye(2)[:1], 4 * np.eye(2)[1:]])  # the heads are orthogonal: only one has anything to estimate
    k = np.stack([np.zeros((1, 2)), np.eye(2)[1:]])
    law = fit_counts("inv", 8, "rademacher", q / 8, k)
    assert law.degrees == FixedDegrees.optimal("inv", 8, np.array([[0, 0], [0, 0.5]]), np.array([[0, 0.0], [0, 1]]))
