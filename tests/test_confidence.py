"""Coverage is judged by an exact binomial test: a correct interval fails each test with probability below 1e-9."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from schoenbat_theory.confidence import (
    asymptotic_interval,
    binomial_limits,
    catoni_interval,
    empirical_bernstein_interval,
    looks,
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


@pytest.mark.parametrize("name", ["uniform", "coin", "rare"])
def test_empirical_bernstein_misses_the_mean_at_most_as_often_as_it_says(rng, name):
    n, p = 200, {"uniform": 0.5, "coin": 0.5, "rare": 0.02}[name]
    x = rng.random((n, RUNS)) if name == "uniform" else 1.0 * (rng.random((n, RUNS)) < p)
    lower, upper = empirical_bernstein_interval(x.mean(axis=0), x.var(axis=0, ddof=1), n, 1.0, ALPHA)
    assert np.sum((lower > p) | (upper < p)) <= MOST


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
        lambda a: empirical_bernstein_interval(mean, variance, 256, 1.0, a),
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
