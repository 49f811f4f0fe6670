from __future__ import annotations

import itertools
import math
from fractions import Fraction

import array_api_strict
import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import bounds, maclaurin_range

BOUNDS = [
    bounds.Hoeffding(2.0),
    bounds.Hoeffding(1e-5),
    bounds.KarKarnick("exp", 1.5),
    bounds.KarKarnick("inv", 0.5, p=3.0),
    bounds.KarKarnickUniform("exp", 1.0, 3),
    bounds.KarKarnickUniform("logi", 0.1, 64),
    bounds.Chebyshev(3.0),
    bounds.Chebyshev(1e300),
    bounds.Cantelli(3.0),
    bounds.CentralLimit(3.0),
    bounds.EmpiricalBernstein(0.5, 2.0),
    bounds.EmpiricalBernstein(0.0, 2.0),
    bounds.RatioHoeffding(2.0, 1.0, 0.5, n_values=3),
    bounds.RatioChebyshev(0.1, 3.0, 1.2),
]
EVERY = pytest.mark.parametrize("bound", BOUNDS, ids=repr)
WIDTHS = np.array([1.0, 2.0, 64.0, 1e6, 1e15])
DELTAS = np.array([1e-300, 1e-6, 0.05, 0.999])[:, None]
U = 2.0**-53


@EVERY
def test_a_deviation_is_the_smallest_that_will_do(bound):
    found = bound.deviation(WIDTHS, DELTAS)
    assert found.shape == (4, 5)
    some = np.isfinite(found)
    deltas, widths = np.broadcast_to(DELTAS, found.shape), np.broadcast_to(WIDTHS, found.shape)
    assert some.any()
    assert (bound.tail(found[some], widths[some]) <= deltas[some]).all()
    assert (bound.tail(np.nextafter(found[some], 0), widths[some]) > deltas[some]).all()
    assert (bound.tail(np.finfo(float).max, widths[~some]) > deltas[~some]).all()


@EVERY
def test_a_number_of_features_is_the_smallest_that_will_do(bound):
    """Beyond 2^53 the neighbour of a whole float64 is not the number minus one, but the float64 before it."""
    deviations = np.geomspace(1e-6, 1e3, 7)
    found = bound.features(deviations, DELTAS)
    assert found.shape == (4, 7)
    some, more = np.isfinite(found), np.isfinite(found) & (found > 1)
    deltas, deviations = np.broadcast_to(DELTAS, found.shape), np.broadcast_to(deviations, found.shape)
    assert (some & (found >= 1) & (found == np.floor(found)))[some].all()
    assert more.any()
    assert (bound.tail(deviations[some], found[some]) <= deltas[some]).all()
    before = np.minimum(found[more] - 1, np.nextafter(found[more], 0))
    assert (bound.tail(deviations[more], before) > deltas[more]).all()


@EVERY
def test_a_bound_says_which_norm_it_needs_and_where_it_comes_from(bound):
    assert bound.norm == ("l1" if "KarKarnick" in repr(bound) else "any")
    assert bound.source
    assert bound.asymptotic == isinstance(bound, bounds.CentralLimit)


@EVERY
def test_a_bound_falls_and_stays_a_number_however_extreme_its_arguments(bound):
    deviations = np.array([5e-324, 1e-300, 1e-150, 1.0, 1e150, 1.7e308])
    widths = np.array([1.0, 2.0, 1e15, 1e300])
    tails = bound.tail(deviations[:, None], widths)
    assert not np.isnan(tails).any()
    assert (tails >= 0).all()
    assert (tails[1:] <= tails[:-1]).all()
    assert (tails[:, 1:] <= tails[:, :-1]).all()
    assert (tails[0] >= 1).all()


@EVERY
def test_bad_arguments_of_a_bound_are_named(bound):
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"deviation: expected positive finite numbers, found {bad}"):
            bound.tail([1.0, bad], 8)
        with pytest.raises(ValueError, match="deviation: expected positive finite numbers"):
            bound.features(bad, 0.05)
    for bad in (0, -1, 1.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"n_features: expected whole numbers >= 1, found"):
            bound.tail(1.0, bad)
        with pytest.raises(ValueError, match=r"n_features: expected whole numbers >= 1, found"):
            bound.deviation(bad, 0.05)
    for bad in (0.0, 1.0, -1.0, 2.0, math.nan):
        with pytest.raises(ValueError, match=r"delta: expected numbers in \(0, 1\), found"):
            bound.deviation(8, bad)
        with pytest.raises(ValueError, match=r"delta: expected numbers in \(0, 1\), found"):
            bound.features(1.0, bad)
    with pytest.raises(TypeError, match="deviation: expected real numbers, found 'a'"):
        bound.tail("a", 8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bounds.Hoeffding(0.0), "half_range: expected positive numbers, found 0.0"),
        (lambda: bounds.Hoeffding([1.0, math.nan]), "half_range: expected positive numbers, found nan"),
        (lambda: bounds.Chebyshev(-1.0), "variance: expected numbers >= 0, found -1.0"),
        (lambda: bounds.Cantelli(math.nan), "variance: expected numbers >= 0, found nan"),
        (lambda: bounds.EmpiricalBernstein(1.0, math.inf), "width: expected finite numbers >= 0, found inf"),
        (lambda: bounds.RatioHoeffding(1.0, 0.0, 1.0), "mean_weight: expected positive finite numbers, found 0.0"),
        (lambda: bounds.RatioHoeffding(1.0, 1.0, 1.0, 0), "n_values: expected an int >= 1, found 0"),
        (lambda: bounds.RatioChebyshev(1.0, math.inf, 1.0), "weight_variance: expected positive finite numbers"),
        (lambda: bounds.ratio_deviation(-1.0, 1.0, 1.0), "weight_deviation: expected finite numbers >= 0, found -1.0"),
        (lambda: bounds.weight_deviation(0.0, 1.0, 1.0), "ratio_deviation: expected positive finite numbers"),
        (lambda: bounds.KarKarnick("exp", -1.0), "radius: expected a number >= 0, found -1.0"),
        (lambda: bounds.KarKarnick("inv", 0.8), "t: kernel inv needs finite"),
        (lambda: bounds.KarKarnickUniform("exp", 1.0, 0), "dim: expected an int >= 1, found 0"),
        (lambda: bounds.sharp_range("logi", 0.5**0.5), "logi"),
        (lambda: bounds.sharp_range("inv", 0.5**0.5 * (1 - 1e-5)), "radius: expected one whose largest feature has"),
        (lambda: bounds.lipschitz("exp", math.inf, 2), "radius: expected a number >= 0, found inf"),
    ],
)
def test_bad_fields_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


@pytest.mark.parametrize(
    ("radius", "p", "words"),
    [
        (-1.0, 2.0, "radius: expected a number >= 0, found -1.0"),
        (math.inf, 2.0, "radius: expected a number >= 0, found inf"),
        ("a", 2.0, "radius: expected a number >= 0, found 'a'"),
        (1.0, -1, "p: expected a finite number > 1, found -1"),
        (1.0, 0.5, "p: expected a finite number > 1, found 0.5"),
        (1.0, math.nan, "p: expected a finite number > 1, found nan"),
        (1e200, 2.0, "t: kernel exp needs finite"),
        (1e-160, 1e308, None),
    ],
)
def test_the_range_of_a_feature_is_known_for_a_law_only(radius, p, words):
    if words is None:
        assert math.isfinite(maclaurin_range("exp", radius, p))
        return
    with pytest.raises((TypeError, ValueError), match=words):
        maclaurin_range("exp", radius, p)


@pytest.mark.parametrize("p", [1.25, 2.0, 5.0])
@pytest.mark.parametrize("name", ["exp", "inv", "sqrt"])
def test_no_feature_of_the_normalised_law_leaves_its_range_and_one_reaches_it(name, p):
    radius, law = 0.4, st.GeometricDegrees(p=p)
    a = st.get_kernel(name).coefficients(40)
    features = [a[n] / law.probability(n) * radius ** (2 * n) for n in range(41)]
    sharp = bounds.sharp_range(name, radius, p)
    # The power p^-n and the quotient err by about n + 4 roundings each; the library's value by a few.
    assert abs(max(features) - sharp) <= 100 * U * sharp
    assert sharp <= bounds.maclaurin_range(name, radius, p)


def test_the_sharp_range_survives_coefficients_that_underflow():
    """R = 12: the largest term of e^288 has degree 287 or 288, where 1/n! is beyond float64."""
    exact = 2 * Fraction(288) ** 288 / math.factorial(288)
    assert bounds.sharp_range("exp", 12.0) == float(exact)
    assert bounds.sharp_range("exp", 0.0) == 2.0
    assert bounds.sharp_range(st.polynomial(1), 0.0) == 0.0


def test_inverses_agree_with_the_closed_forms():
    """The root in eps moves by at most half the relative error of exponent or quotient, here below 16 roundings."""
    widths, deltas = np.array([3.0, 500.0, 1e9]), np.array([1e-6, 0.05, 0.7])[:, None]
    log = np.log(2 / deltas)
    pairs = [
        (bounds.Hoeffding(0.3), 0.3 * np.sqrt(2 * log / widths)),
        (bounds.KarKarnick("exp", 1.0), 2 * math.exp(2) * np.sqrt(8 * log / widths)),
        (bounds.Chebyshev(0.3), np.sqrt(0.3 / (widths * deltas))),
        (bounds.Cantelli(0.3), np.sqrt(0.3 / widths * (1 / deltas - 1))),
    ]
    for bound, closed in pairs:
        assert (np.abs(bound.deviation(widths, deltas) - closed) <= 16 * U * closed).all()
    width = bounds.Hoeffding(0.3).features(0.01, deltas)
    assert (width == np.ceil(2 * 0.3**2 * log / 0.01**2)).all()


def test_the_inverse_of_the_ratio_bound_agrees_with_its_closed_form():
    """It is Dv h / (1 - h) with h = (B / kbar) sqrt(2 log(3 / delta) / D); there is none where h >= 1."""
    widths, deltas = np.array([3.0, 500.0, 1e9]), np.array([1e-6, 0.05, 0.7])[:, None]
    h = 2 * np.sqrt(2 * np.log(3 / deltas) / widths)
    found = bounds.RatioHoeffding(2.0, 1.0, 0.5).deviation(widths, deltas)
    assert (np.isinf(found) == (h >= 1)).all()
    found, h = found[h < 1], h[h < 1]
    closed = 0.5 * h / (1 - h)
    assert (np.abs(found - closed) <= 16 * U * closed / (1 - h)).all()  # 1 - h amplifies the error of h


def test_a_tail_bound_depends_on_the_quotient_however_large_or_small_its_parts_are():
    for size in (1e-200, 1e200):
        assert bounds.Hoeffding(2 * size).tail(size, 8) == 2 * math.exp(-1)
    assert bounds.Hoeffding(1.0).tail(1e200, 8) == 0
    assert bounds.Hoeffding(2.0).tail(np.array([1.0, 2.0]), 8).tolist() == [2 * math.exp(-1), 2 * math.exp(-4)]


def test_nothing_is_said_of_what_has_no_range_or_no_variance():
    assert bounds.Hoeffding(math.inf).tail(1.0, 8) == 2
    assert bounds.Chebyshev(math.inf).tail(1.0, 8) == math.inf
    assert bounds.Cantelli(math.inf).tail(1.0, 8) == bounds.CentralLimit(math.inf).tail(1.0, 8) == 1
    assert bounds.EmpiricalBernstein(0.0, 1.0).tail(1.0, 1) == 4
    for bound in (bounds.Hoeffding(math.inf), bounds.Chebyshev(math.inf)):
        assert bound.features(1.0, 0.5) == bound.deviation(8, 0.5) == math.inf
    for bound in (bounds.Chebyshev(0.0), bounds.Cantelli(0.0), bounds.CentralLimit(0.0)):
        assert bound.tail(5e-324, 1) == 0


def test_fields_and_arguments_broadcast_and_come_from_any_library():
    bound = bounds.Chebyshev(array_api_strict.asarray([1.0, 4.0]))
    assert bound.tail(np.array([[1.0], [2.0]]), 8).tolist() == [[0.125, 0.5], [0.03125, 0.125]]
    assert bound.features(1.0, 0.25).tolist() == [4.0, 16.0]
    assert bound.deviation(np.array([[4], [16]]), 0.25).shape == (2, 2)
    assert isinstance(bound.tail(1.0, 8), np.ndarray)


def _tails_of_signs(n: int) -> dict[Fraction, Fraction]:
    """P[|mean of n signs| >= t] at each possible t > 0."""
    counts = {Fraction(2 * b - n, n): math.comb(n, b) for b in range(n + 1)}
    return {t: Fraction(sum(c for s, c in counts.items() if abs(s) >= t), 2**n) for t in counts if t > 0}


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_bounds_hold_for_a_mean_of_signs(n):
    """Hoeffding's and Chebyshev's also bound P[... >= eps]; at eps = 1 and n = 1 Chebyshev is attained."""
    for t, probability in _tails_of_signs(n).items():
        eps = float(t)
        assert probability <= bounds.Hoeffding(1.0).tail(eps, n)
        assert probability <= bounds.Chebyshev(1.0).tail(eps, n) * (1 + 8 * U)
        assert probability / 2 <= bounds.Cantelli(1.0).tail(eps, n) * (1 + 8 * U)
    assert bounds.Chebyshev(1.0).tail(1.0, 1) == 1


def test_cantelli_is_attained_by_two_points():
    """X = 3 with probability 1/10, else -1/3: variance 1, P[X >= 3] = 1/10."""
    assert abs(bounds.Cantelli(1.0).tail(3.0, 1) - 0.1) <= 4 * U


def test_the_central_limit_is_approached_by_signs():
    """Berry and Esseen: two-sided within 2 * 0.4748 / sqrt(n) (Shevtsova's constant, from memory)."""
    n = 400
    for t, probability in _tails_of_signs(n).items():
        near = bounds.CentralLimit(1.0).tail(float(t) - 1e-9, n)
        assert abs(float(probability) - near) <= 2 * 0.4748 / math.sqrt(n)
    assert abs(bounds.CentralLimit(1.0).deviation(1, 0.05) - 1.959963984540054) <= 1e-14


@pytest.mark.parametrize("n", [8, 60])
@pytest.mark.parametrize("p", [0.5, 0.03])
def test_the_interval_of_empirical_bernstein_misses_no_more_often_than_it_says(n, p):
    k = np.arange(n + 1)
    mean = k / n
    half = bounds.EmpiricalBernstein(n / (n - 1) * mean * (1 - mean), 1.0).deviation(n, 0.4)
    probability = np.array([math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in k])
    assert probability[np.abs(mean - p) > half].sum() <= 0.4
    expected = np.sqrt(2 * mean * (1 - mean) * math.log(10) / (n - 1)) + 7 * math.log(10) / (3 * (n - 1))
    assert np.allclose(half, expected, rtol=16 * U, atol=0)


def _exact_ratio(n_features: int, high: int) -> list[tuple[Fraction, Fraction, float]]:
    """Law of (S^/S, L^) for two keys of weight 1 and values 0, 1; a feature is (1 + s c, 1 + t c), s, t fair signs, c = high - 1.

    Returns (S^, L^, probability) for means over two keys, so S = 1, r = 1/2.
    """
    law = {}
    for counts in itertools.product(range(n_features + 1), repeat=2):
        s, t = (Fraction(2 * b - n_features, n_features) * (high - 1) for b in counts)
        first, second = 1 + s, 1 + t
        weight = math.comb(n_features, counts[0]) * math.comb(n_features, counts[1])
        key = ((first + second) / 2, (second - first) / 4)  # mean of k^; mean of k^ (v - 1/2)
        law[key] = law.get(key, Fraction(0)) + Fraction(weight, 4**n_features)
    return [(total, error, float(probability)) for (total, error), probability in law.items()]


@pytest.mark.parametrize("n_features", [4, 16, 48])
@pytest.mark.parametrize("high", [2, 3])
def test_the_ratio_bounds_hold_in_an_exact_law(n_features, high):
    law, c = _exact_ratio(n_features, high), high - 1
    hoeffding = bounds.RatioHoeffding(half_range=high, mean_weight=1.0, spread=0.5)
    # One feature: L = c (t - s) / 4, of variance c^2 / 8; S = 1 + c (s + t) / 2, of variance c^2 / 2.
    chebyshev = bounds.RatioChebyshev(c**2 / 8, c**2 / 2, 1.0)
    informative = 0
    for delta in (Fraction(1, 16), Fraction(1, 4), Fraction(1), Fraction(4)):
        far = sum(p for total, error, p in law if total <= 0 or abs(error) > delta * total)
        for bound in (hoeffding, chebyshev):
            limit = float(bound.tail(float(delta), n_features))
            assert far <= limit
            informative += limit < 1
    assert informative or n_features < 48


def test_the_ratio_bounds_are_the_formulas_of_their_docstrings():
    bound = bounds.RatioHoeffding(half_range=3.0, mean_weight=0.5, spread=0.25, n_values=4)
    expected = 9 * math.exp(-100 * 0.25 * 0.01 / (2 * 9 * 0.35**2))
    assert abs(bound.tail(0.1, 100) - expected) <= 16 * U * expected
    a, b = 0.2 / (100 * 0.01 * 4.0), 0.3 / (100 * 4.0)
    g = (0.3 * 0.01 / 0.2) ** (1 / 3)
    expected = a * (1 + g) ** 2 + b / (b + (g / (1 + g)) ** 2)
    assert abs(bounds.RatioChebyshev(0.2, 0.3, 2.0).tail(0.1, 100) - expected) <= 32 * U * expected
    for h in np.linspace(0.01, 0.99, 99):  # no other h makes the relaxed bound smaller
        assert (a ** (1 / 3) + b ** (1 / 3)) ** 3 <= (a / (1 - h) ** 2 + b / h**2) * (1 + 32 * U)


def test_the_deterministic_ratio_bound_has_an_inverse():
    found = bounds.ratio_deviation([0.0, 0.25, 0.5, 0.999, 1.0, 2.0], 1.0, 0.5)
    assert found.tolist() == [0.0, 0.25 / 0.75 * 0.5, 0.5, 0.999 / (1 - 0.999) * 0.5, math.inf, math.inf]
    for mean, spread in ((1.0, 0.5), (1e-9, 1e9)):
        delta = np.array([1e-6, 1.0, 1e6])
        back = bounds.ratio_deviation(bounds.weight_deviation(delta, mean, spread), mean, spread)
        # kbar - eps is kbar / (1 + delta / Dv): the error of eps grows by that quotient.
        assert (np.abs(back - delta) <= 8 * U * delta * (1 + delta / spread)).all()


def test_the_deterministic_ratio_bound_holds_for_every_choice_of_signs():
    rng, eps, signs = np.random.default_rng(0), 0.4, st.sign_vectors(6)
    for _ in range(200):
        k, v = rng.uniform(0.5, 2, 6), rng.normal(size=6)
        r = k @ v / k.sum()
        estimates = k + eps * signs
        worst = np.abs(estimates @ v / estimates.sum(axis=1) - r).max()
        assert worst <= bounds.ratio_deviation(eps, k.mean(), np.abs(v - r).mean())


def test_the_deterministic_ratio_bound_is_nearly_attained():
    """Equal weights, one value 1 and the others 0; the weight of the 1 too large, all others too small: slack 2 eps / n."""
    n, eps = 1000, 0.4
    k, v = np.full(n, 1 - eps), np.zeros(n)
    k[0], v[0] = 1 + eps, 1.0
    found = k @ v / k.sum() - 1 / n
    bound = bounds.ratio_deviation(eps, 1.0, 2 * (n - 1) / n**2)
    slack = 1 + 2 * eps / n / (1 - eps)
    assert found < bound <= found * slack * (1 + 4 * n * U)


@pytest.mark.parametrize("name", ["exp", "inv", "logi", "sqrt", "trigh"])
def test_the_lipschitz_constant_is_made_of_the_derivative(name):
    slope = {
        "exp": math.exp,
        "trigh": math.exp,
        "inv": lambda t: (1 - t) ** -2,
        "logi": lambda t: 1 / (1 - t),
        "sqrt": lambda t: 0.5 / math.sqrt(1 - t),
    }[name]
    for radius, p in ((0.25, 2.0), (0.5, 1.5)):
        expected = radius * (slope(radius**2) + p**2 / (p - 1) * 3 * slope(p * radius**2))
        # A series of positive terms, summed to 2^-56 in a few hundred terms by Horner's rule: two roundings a term.
        assert abs(bounds.lipschitz(name, radius, 9, p) - expected) <= 1000 * U * expected


def test_the_uniform_bound_never_counts_fewer_than_one_ball():
    bound = bounds.KarKarnickUniform("exp", 0.5, 2)
    far = 64 * 0.5 * bound.lipschitz
    assert bound.tail(far, 8) == bounds.KarKarnick("exp", 0.5).tail(far, 8)
    near = 32 * 0.5 * bound.lipschitz / 10  # 10^4 pairs of balls
    assert np.isclose(bound.tail(near, 8), 1e4 * bounds.KarKarnick("exp", 0.5).tail(near, 8), rtol=1e-12, atol=0)


def test_arguments_that_do_not_fit_together_or_into_float64_are_named():
    bound = bounds.Hoeffding(2.0)
    with pytest.raises(ValueError, match=r"do not broadcast: deviation \(2,\), delta \(3,\)"):
        bound.features([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="n_features: expected numbers within float64, found 1000"):
        bound.tail(0.1, 10**400)
