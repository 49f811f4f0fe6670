"""Coverage is judged by an exact binomial test: a correct interval fails each test with probability below 1e-9."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from schoenbat_theory import confidence
from schoenbat_theory.confidence import (
    asymptotic_interval,
    betting_interval,
    binomial_limits,
    catoni_interval,
    empirical_bernstein_interval,
    looks,
    on_knots,
)

RUNS, ALPHA = 2000, 0.05
MOST = int(scipy.stats.binom.isf(1e-9, RUNS, ALPHA))  # misses that an honest interval exceeds once in 10^9

# name, sampler (rng, shape) of a law with mean 0, its variance
LAWS = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 1.0),
    "signs": (lambda rng, shape: rng.choice([-1.0, 1.0], size=shape), 1.0),
    "skewed": (lambda rng, shape: rng.exponential(size=shape) - 1, 1.0),
    "heavy tails": (lambda rng, shape: rng.standard_t(2.1, size=shape), 2.1 / 0.1),
    "rare": (lambda rng, shape: (rng.random(shape) < 1e-3) / 1e-3 - 1.0, 1e3 - 1),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("n", [16, 256])
def test_catoni_misses_the_mean_at_most_as_often_as_it_says(rng, name, n):
    sample, variance = LAWS[name]
    lower, upper = catoni_interval(sample(rng, (n, RUNS)), variance, ALPHA)
    assert np.sum((lower > 0) | (upper < 0)) <= MOST
    assert np.all(lower <= upper)


@pytest.mark.parametrize("name", ["normal", "signs", "skewed"])
def test_catoni_is_as_short_as_theory_says(rng, name):
    sample, variance = LAWS[name]
    n = 4096
    lower, upper = catoni_interval(sample(rng, (n, 50)), variance, ALPHA)
    half = np.sqrt(2 * variance * math.log(2 / ALPHA) / n)
    # Catoni (2012, Proposition 2.4): at most 2 half / (1 + sqrt(1 - 2 log(2/alpha) / n)) on each side of the estimate.
    assert np.all(upper - lower <= 4 * half / (1 + math.sqrt(1 - 4 * math.log(2 / ALPHA) / n)) * 1.1)
    assert np.all(upper - lower >= half)


def test_catoni_of_a_shifted_sample_is_shifted_and_of_an_overstated_variance_is_wider(rng):
    x = rng.normal(size=(256, 20))
    lower, upper = catoni_interval(x, 1.0, ALPHA)
    # Bisection ends after 60 halvings of a bracket below 2^5.
    for found, expected in zip(catoni_interval(x + 4, 1.0, ALPHA), (lower + 4, upper + 4), strict=True):
        assert np.all(np.abs(found - expected) <= 2.0**-45)
    wider = catoni_interval(x, 4.0, ALPHA)
    assert np.all(wider[0] < lower)
    assert np.all(wider[1] > upper)


def test_catoni_without_variance_leaves_a_constant_alone():
    lower, upper = catoni_interval(np.full((64, 2), 3.0), 0.0, ALPHA)
    assert lower.tolist() == upper.tolist() == [3, 3]


def test_catoni_needs_some_values():
    with pytest.raises(ValueError, match=r"values: alpha = 0\.05 needs more than 7 values, found 7"):
        catoni_interval(np.zeros(7), 1.0, ALPHA)


BOUNDED = {  # name: sampler (rng, shape) of a law on [0, 1], its mean
    "coin": (lambda rng, shape: 1.0 * (rng.random(shape) < 0.5), 0.5),
    "rare": (lambda rng, shape: 1.0 * (rng.random(shape) < 0.02), 0.02),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
}


def bernstein(x, n, alpha, horizon):
    return empirical_bernstein_interval(x[:n].mean(axis=0), x[:n].var(axis=0), n, (0.0, 1.0), alpha, horizon=horizon)


def betting(x, n, alpha, horizon):
    weights = on_knots(x[:n], (0.0, 1.0), 9)
    return betting_interval(np.linspace(0, 1, 9), (0.0, 1.0), alpha, weights=weights, horizon=horizon)


@pytest.mark.parametrize("interval", [betting, bernstein])
@pytest.mark.parametrize("name", BOUNDED)
def test_sequences_with_known_bounds_miss_at_any_look_at_most_as_often_as_they_say(rng, name, interval):
    sample, mean = BOUNDED[name]
    x, missed = sample(rng, (1024, RUNS)), np.zeros(RUNS, dtype=bool)
    for n in (16, 32, 64, 128, 256, 512, 1024):  # seven looks, and alpha is not split
        lower, upper = interval(x, n, ALPHA, 1024)
        missed |= (lower > mean) | (upper < mean)
        assert np.all((lower >= 0) & (lower <= upper) & (upper <= 1))
    assert missed.sum() <= MOST


# The last bet is the first that is below sqrt(8 log(2 / alpha) / horizon), at alpha = 0.01: 0.46 at 200, 0.12 at 3200.
HORIZONS = {None: [1, 1 / 2, 1 / 4], 3200: [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]}


@pytest.mark.parametrize("horizon", HORIZONS)
def test_at_a_limit_of_the_betting_interval_the_capital_is_two_over_alpha(rng, horizon):
    values, alpha = 2 + 3 * rng.beta(2, 5, size=200), 0.01  # in [2, 5]
    found = betting_interval(values, (2.0, 5.0), alpha, horizon=horizon)
    for limit, sign in zip(found, (1, -1), strict=True):
        capital = np.mean([np.prod(1 + sign * bet * (values - limit) / 3) for bet in HORIZONS[horizon]])
        # The limit is off by 3 * 2^-59 and by rounding, and the capital moves by at most 200 times that, relatively.
        assert capital == pytest.approx(2 / alpha, rel=1e-11)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_at_a_limit_of_the_bernstein_interval_the_bound_of_the_capital_is_two_over_alpha(rng, horizon):
    values, alpha = rng.beta(2, 5, size=200), 0.01
    found = empirical_bernstein_interval(values.mean(), values.var(), 200, (0.0, 1.0), alpha, horizon=horizon)
    for limit, sign in zip(found, (1, -1), strict=True):
        y = sign * (values - limit)
        capital = np.mean([np.exp(np.sum(b * y + (b + np.log1p(-b)) * y**2)) for b in HORIZONS[horizon][1:]])
        assert capital == pytest.approx(2 / alpha, rel=1e-11)


def test_the_inequality_behind_empirical_bernstein_holds():
    y, bet = np.linspace(-1, 5, 601), np.array([0.01, 0.25, 0.5, 0.9])[:, None]
    # Both sides are below 20 and made of four rounded operations each.
    assert np.all(np.log1p(bet * y) >= bet * y + (bet + np.log1p(-bet)) * y**2 - 200 * 2.0**-53)


@pytest.mark.parametrize("interval", [betting, bernstein])
def test_sequences_with_known_bounds_adapt_to_the_variance(rng, interval):
    n, alpha = 4096, 0.01
    for p in (0.5, 0.05):
        x = 1.0 * (rng.random((n, 20)) < p)
        lower, upper = interval(x, n, alpha, n)
        # The docstring: close to sqrt(2 v log(2 J / alpha) / n); J = 5, and (2/3) log(2 J / alpha) / n comes on top.
        log_term = math.log(2 * 5 / alpha)
        half = math.sqrt(2 * p * (1 - p) * log_term / n) + log_term / n
        assert np.all(upper - lower <= 2 * 1.2 * half)
        assert np.all(upper - lower >= half)


def test_knots_keep_the_mean_and_only_widen_the_interval(rng):
    values, bounds = rng.beta(2, 5, size=(500, 3)) * 4 - 1, (-1.0, 3.0)
    weights, knots = on_knots(values, bounds, 65), np.linspace(-1, 3, 65)
    assert np.allclose(weights.sum(axis=0), 500, rtol=1e-13, atol=0)
    # Sums of 500 numbers below 3, in two orders: 500 u each.
    assert np.allclose(knots @ weights / 500, values.mean(axis=0), rtol=0, atol=2 * 500 * 3 * 2.0**-53)
    exact, coarse = betting_interval(values, bounds, 0.01), betting_interval(knots, bounds, 0.01, weights=weights)
    assert np.all(coarse[0] <= exact[0])
    assert np.all(coarse[1] >= exact[1])
    assert np.all(coarse[1] - coarse[0] <= 1.01 * (exact[1] - exact[0]))


def test_knots_take_the_ends_of_the_bounds():
    assert on_knots(np.array([0.0, 1.0, 1.0]), (0.0, 1.0), 5).tolist() == [1, 0, 0, 0, 2]
    assert on_knots(np.full((3, 2), 7.0), (7.0, 7.0), 2).tolist() == [[3, 3], [0, 0]]


def test_bounds_that_leave_one_point_leave_one_interval():
    assert betting_interval(np.full(5, 7.0), (7.0, 7.0), 0.05) == (7, 7)
    assert empirical_bernstein_interval(np.array(7.0), np.array(0.0), 5, (7.0, 7.0), 0.05) == (7, 7)


def test_values_at_a_bound_leave_that_bound_in_the_interval():
    for n in (1, 4, 1000):
        lower, upper = betting_interval(np.ones(n), (0.0, 1.0), 0.05)
        # The largest of at most four bets is 1: (2 - m)^n / 4 <= capital <= (2 - m)^n, and the capital is 2 / alpha.
        assert upper == 1
        assert max(0, 2 - 160 ** (1 / n)) <= lower <= max(0, 2 - 40 ** (1 / n)) + 1e-15


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3, 0.5, 0.98])
def test_binomial_limits_miss_the_probability_at_most_as_often_as_they_say(rng, p):
    n = 100
    lower, upper = binomial_limits(rng.binomial(n, p, size=RUNS), n, ALPHA)
    assert np.sum((lower > p) | (upper < p)) <= MOST


def test_binomial_limits_are_where_a_tail_has_half_of_alpha():
    n, hits = 50, np.arange(51)
    lower, upper = binomial_limits(hits, n, ALPHA)
    assert lower[0] == 0
    assert upper[n] == 1
    # P[X >= k] at the lower limit, P[X <= k] at the upper one; both functions are SciPy's, good to 1e-12.
    assert np.allclose(scipy.stats.binom.sf(hits[1:] - 1, n, lower[1:]), ALPHA / 2, rtol=1e-10, atol=0)
    assert np.allclose(scipy.stats.binom.cdf(hits[:-1], n, upper[:-1]), ALPHA / 2, rtol=1e-10, atol=0)
    assert np.all(lower <= hits / n)
    assert np.all(hits / n <= upper)


def test_the_asymptotic_interval_is_exact_for_normal_values(rng):
    for n in (2, 5, 100):
        lower, upper = asymptotic_interval(rng.normal(size=(n, RUNS)), ALPHA)
        misses = np.sum((lower > 0) | (upper < 0))
        assert scipy.stats.binom.ppf(1e-9, RUNS, ALPHA) <= misses <= MOST


def test_a_smaller_error_rate_needs_a_wider_interval(rng):
    x = rng.random(size=(256, 5))
    mean, variance = x.mean(axis=0), x.var(axis=0, ddof=1)
    for interval in (
        lambda a: catoni_interval(x, 1 / 12, a),
        lambda a: empirical_bernstein_interval(mean, variance, 256, (0.0, 1.0), a),
        lambda a: betting_interval(x, (0.0, 1.0), a),
        lambda a: asymptotic_interval(x, a),
        lambda a: binomial_limits(np.arange(5) * 40, 256, a),
    ):
        (low, high), (lower, higher) = interval(0.1), interval(0.001)
        assert np.all(lower <= low)
        assert np.all(high < higher)


def test_looks_double_up_to_the_last():
    assert looks(4, 20) == [4, 8, 16]
    assert looks(4, 16) == [4, 8, 16]
    assert looks(4, 3) == [4]


def test_catoni_of_many_columns_is_that_of_each_with_its_own_variance(rng):
    values, variance = rng.normal(size=(256, 3, 50)), np.linspace(0.5, 2.0, 150).reshape(3, 50)
    assert values.size > 2 * confidence.BLOCK
    found = catoni_interval(values, variance, 0.01)
    for i, j in np.ndindex(3, 50):
        alone = catoni_interval(values[:, i, j], variance[i, j], 0.01)
        # Both ends are found to four units in the last place, and sums of 256 numbers may be taken in another order.
        assert np.allclose([side[i, j] for side in found], alone, rtol=0, atol=2.0**-40)


@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
def test_catoni_finds_a_limit_however_far_from_the_mean(rng, variance, sign):
    values, alpha = sign * np.concatenate([[1e6], rng.normal(size=999)]), 1e-3  # one value moves the mean by 1,000
    limits = catoni_interval(values, variance, alpha)
    far, near = limits if sign == 1 else limits[::-1]
    level = 2 * math.log(2 / alpha)
    rate = math.sqrt(level / (1000 * variance))
    u = rate * (values - far)
    influence = np.sum(np.sign(u) * np.log1p(np.abs(u) + u * u / 2))
    # psi' <= 1: the sum moves by at most 1000 rate times the error of the limit, within 2^-50 of 10^6.
    assert abs(influence - sign * level) <= 1000 * rate * 1e6 * 2.0**-50 + 1e-9
    assert (
        limits[0] <= np.mean(values) <= limits[1]
    )  # the side of the outlier ends at the mean or beyond: wider, never less
    assert near != far
