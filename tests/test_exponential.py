from __future__ import annotations

import dataclasses
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import scipy.special

from schoenbat_theory import PositiveFeatures, check_mean, load_draw, optimal_tilt, orthogonal_gap, to_host
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
LAWS = [
    PositiveFeatures(6, orthogonal=False),
    PositiveFeatures(2),  # fewer than d = 3, d, and more
    PositiveFeatures(3),
    PositiveFeatures(8),
    PositiveFeatures(10, hyperbolic=True),
    PositiveFeatures(8, tilt=-0.25),
    PositiveFeatures(8, tilt=0.03),
    PositiveFeatures(6, orthogonal=False, hyperbolic=True, tilt=-0.1),
]


# Closed forms


def normal_mean(f):
    """E f(w), w ~ N(0, 1), and the error that quad reports; the products below are negligible beyond 36."""
    density = lambda w: f(w) * math.exp(-w * w / 2) / math.sqrt(2 * math.pi)
    value, error = scipy.integrate.quad(density, -36, 36, epsabs=0, epsrel=1e-12, limit=400, points=(-5, 0, 5))
    return value, error


@pytest.mark.parametrize("tilt", [0.0, -0.5, -0.1, 0.05, 0.1])
@pytest.mark.parametrize("hyperbolic", [False, True])
@pytest.mark.parametrize(("x", "y"), [(0.5, 0.25), (1.0, 1.0), (-0.75, 1.5), (0.5, -0.5)])
def test_in_one_dimension_the_moments_are_integrals(tilt, hyperbolic, x, y):
    law = PositiveFeatures(1 + hyperbolic, orthogonal=False, hyperbolic=hyperbolic, tilt=tilt)

    def product(w):
        return math.sqrt(1 - 4 * tilt) * math.exp(
            2 * tilt * w * w + math.sqrt(1 - 4 * tilt) * w * (x + y) - (x * x + y * y) / 2
        )

    estimate = (lambda w: (product(w) + product(-w)) / 2) if hyperbolic else product
    vectors = np.array([x]), np.array([y])
    for moment, power in ((law.mean, 1), (law.second_moment, 2)):
        value, error = normal_mean(lambda w, power=power: estimate(w) ** power)
        # A dozen roundings of exponents of at most 25 in the closed form.
        assert abs(float(moment(*vectors)) - value) <= error + 12 * 25 * U * value


@pytest.mark.parametrize(
    "squared", [Fraction(1, 1000), Fraction(1, 4), Fraction(1), Fraction(7, 2), Fraction(20), Fraction(150)]
)
@pytest.mark.parametrize("dim", [1, 2, 3, 16, 100])
def test_the_gap_is_its_series_in_rational_numbers(squared, dim):
    term, ratio, gap, total = Fraction(1), Fraction(1), Fraction(0), Fraction(0)
    last = int(squared) * 3 + 90  # (3F + 90)! is far beyond F^(3F + 90) times 2^53 / F^2
    for k in range(last):
        gap, total = gap + term * (1 - ratio), total + term
        term, ratio = term * squared / (k + 1), ratio * Fraction(dim + k, dim + 2 * k)
        if k % 8 == 7:  # rounded to 200 bits, or the fractions grow without end
            term, ratio, gap, total = (Fraction(round(z * 2**400), 2**400) for z in (term, ratio, gap, total))
    exact, f = gap / total, float(squared)
    # Of one term: u for each part of its exponent and a few for the functions; log1p is summed, up to `last` terms.
    units = 8 * (last * abs(math.log(f)) + f + math.lgamma(last)) + last + 16
    assert abs(orthogonal_gap(f, dim) / float(exact) - 1) <= units * U


@pytest.mark.parametrize("dim", [2, 5, 64])
def test_the_gap_is_one_minus_kummers_function(dim):
    squared = np.linspace(0.5, 60, 40)
    kummer = np.exp(-squared) * scipy.special.hyp1f1(dim, dim / 2, squared / 2)
    assert np.all(np.abs(orthogonal_gap(squared, dim) + kummer - 1) <= 1e3 * U * squared)  # exponents of F, k log k


@pytest.mark.parametrize("tilt", [0.0, -0.3, 0.1])
@pytest.mark.parametrize("length", [0.5, 1.0, 2.5])
def test_in_two_dimensions_the_gap_is_an_integral_whatever_the_tilt(tilt, length):
    """By polar coordinates, not by the chi_2d norm of a sum: E over two Rayleigh norms, at right angles."""
    b = math.sqrt(1 - 4 * tilt)

    def along(c):  # E exp(2A r^2 + b r c) over a chi_2 norm r
        inner = lambda r: r * math.exp((2 * tilt - 0.5) * r * r + b * c * r)
        return scipy.integrate.quad(inner, 0, 60, epsabs=0, epsrel=1e-12, limit=200, points=(2, 6))[0]

    angles = 2 * np.pi * np.arange(64) / 64  # the trapezium rule converges exponentially for periodic functions
    mean = np.mean([along(length * math.cos(a)) * along(length * math.sin(a)) for a in angles])
    cross = (1 - 4 * tilt) ** 2 * mean  # E g(w) g(w') / Lambda^2
    assert abs(1 - math.exp(-(length**2)) * cross - orthogonal_gap(length**2, 2)) <= 1e-11  # of quad, twice
    assert math.isclose(cross, (1 + length**2 / 2) * math.exp(length**2 / 2), rel_tol=1e-11)  # 1F1(2; 1; z)


def test_the_gap_is_small_and_positive_for_short_vectors_and_one_for_long_ones():
    squared = np.array([0.0, 1e-300, 1e-150, 1e-9, 1e4, 1e300])
    for dim in (1, 7, 512):
        gap = orthogonal_gap(squared, dim)
        assert gap[0] == 0
        # F^2 / 2 (1 - c_2) = F^2 / (2d + 4), the next term is smaller by a factor F; 1e-150 squared is not normal
        assert abs(gap[3] * (2 * dim + 4) / 1e-18 - 1) <= 2e-9
        assert np.all((gap >= 0) & (gap <= 1))
        assert np.all(gap[4:] >= 1 - 2**10 * dim * U)


@pytest.mark.parametrize("dim", [1, 64, 1000])
def test_the_best_tilt_solves_its_equation_from_both_sides(dim):
    """2F rho^2 + (2F + d) rho = d at rho = 1 / (1 - 8A), times (1 - 8A)^2; decreasing in A beyond its root."""

    def equation(a, squared):
        inverse = 1 - 8 * a
        return 2 * squared + (2 * squared + dim) * inverse - dim * inverse**2

    for squared in (1e-200, 1e-9, 0.1, 1.0, 37.0, 1e6, 1e200):
        tilt = Fraction(optimal_tilt(squared, dim))
        spread = Fraction(16 * U)  # ten roundings, none of them magnified
        signs = [equation(tilt * (1 + s), Fraction(squared)) > 0 for s in (-spread, spread)]
        assert signs == [True, False]
    assert optimal_tilt(0.0, dim) == 0
    assert math.copysign(1, optimal_tilt(0.0, dim)) == 1


def test_the_best_tilt_has_the_smallest_variance():
    x, y = np.full(16, 0.5), np.linspace(-0.5, 1, 16)
    best = optimal_tilt(np.sum((x + y) ** 2), 16)
    for orthogonal in (False, True):
        law = PositiveFeatures(32, orthogonal, tilt=best)
        variance = float(law.variance(x, y))
        for other in (0.0, best - 0.01, best + 0.01, 2 * best):
            assert variance < float(dataclasses.replace(law, tilt=other).variance(x, y))


def test_orthogonal_blocks_take_off_what_their_pairs_gain():
    x, y, dim = np.array([0.5, 0.0, 0.25]), np.array([0.25, -0.5, 0.5]), 3
    squared, t = float(np.sum((x + y) ** 2)), float(x @ y)
    for n_features, pairs in ((2, 2), (3, 6), (7, 12), (8, 14)):
        for tilt in (0.0, -0.125):
            apart, law = (PositiveFeatures(n_features, orthogonal, tilt=tilt) for orthogonal in (False, True))
            gain = pairs / n_features**2 * math.exp(2 * t) * orthogonal_gap(squared, dim)
            found = float(apart.variance(x, y) - law.variance(x, y))
            assert abs(found - gain) <= 40 * U * float(apart.variance(x, y))  # exponents of size 1 at most
    one = np.array([[0.5], [0.25]])  # in one dimension there is nothing to be orthogonal to
    assert PositiveFeatures(5).variance(*one) == PositiveFeatures(5, False).variance(*one)


def test_variances_are_exact_at_opposite_vectors():
    x = np.array([0.5, -0.25])
    for hyperbolic in (False, True):  # x + y = 0: every product is exp(-|x|^2)
        law = PositiveFeatures(4, hyperbolic=hyperbolic)
        assert float(law.variance(x, -x)) == 0
        assert np.ptp(law.estimates(x, -x, rng=0, size=50)) <= 20 * U
    assert float(PositiveFeatures(4, tilt=-0.1).variance(x, -x)) > 0  # the norm of w is in the product


@pytest.mark.parametrize("hyperbolic", [False, True])
def test_variances_of_short_vectors_do_not_cancel(hyperbolic):
    x, y = np.array([3e-6, 0.0]), np.array([1e-6, 0.0])
    squared = 1.6e-11  # relative variance F + F^2 / 2 of one product, F^2 / 2 of a pair; the gap is F^2 / 8
    for orthogonal in (False, True):
        found = float(PositiveFeatures(4, orthogonal, hyperbolic).variance(x, y))
        n_draws, pairs = (2, 2 * orthogonal) if hyperbolic else (4, 4 * orthogonal)
        first = squared**2 / 2 if hyperbolic else squared
        expected = first / n_draws - pairs * squared**2 / 8 / n_draws**2
        assert abs(found / expected - 1) <= 2 * squared + 100 * U  # the next order, and 2 <x, y>


@pytest.mark.parametrize("hyperbolic", [False, True])
def test_large_factors_of_a_tilt_do_not_overflow_on_the_way(hyperbolic):
    x, law = np.full(1000, math.sqrt(0.75)), PositiveFeatures(2000, hyperbolic=hyperbolic, tilt=-10.0)
    log_p = 1000 * math.log((82 / 81) / (2 / 9))  # rho = 1 / 81; P is beyond float64, exp(-2 |x|^2) P is not
    expected = math.exp(log_p - 1500) / (1000 if hyperbolic else 2000)
    assert abs(float(law.variance(x, -x)) / expected - 1) <= 1008 * 1516 * U  # exponents of 1516; |x|^2 has 1000 terms


def test_moments_of_long_vectors_are_infinite_only_beyond_float64():
    law = PositiveFeatures(64)
    x = np.full(4, 9.0)
    assert float(law.mean(x, x)) == math.exp(324)
    assert float(law.variance(x, x)) == math.inf  # exp(8 |x|^2 - 2 |x|^2)
    assert float(law.variance(x, -x)) == 0
    assert float(dataclasses.replace(law, tilt=optimal_tilt(1296.0, 4)).variance(x, x)) < math.inf
    assert float(law.mean(2 * x, 2 * x)) == math.inf
    assert float(law.mean(2 * x, -2 * x)) == 0
    assert float(PositiveFeatures(64, hyperbolic=True).variance(2 * x, -1.9 * x)) == 0  # exp(-2462 + 3.24): no number
    with pytest.raises(ValueError, match="x, y: finite, but their moments overflow float64"):
        law.variance(1e200 * x, x)


def test_beyond_a_tilt_of_an_eighth_the_variance_is_infinite():
    x = np.array([[0.5, 0.25]])
    for tilt in (0.125, 0.2):
        law = PositiveFeatures(4, tilt=tilt)
        assert law.variance(x, x).tolist() == [math.inf]
        assert law.second_moment(x, x).tolist() == [math.inf]
        assert law.mean(x, x).tolist() == np.exp([0.3125]).tolist()
    assert np.isfinite(PositiveFeatures(4, tilt=0.1249).variance(x / 8, x / 8)).all()


def test_closed_forms_are_elementwise_and_keep_library_and_dtype(asarray, rng):
    x, y = rng.normal(size=(2, 1, 4)) / 4, rng.normal(size=(3, 4)) / 4
    law = PositiveFeatures(10, tilt=-0.05)
    for dtype in (np.float32, np.float64):
        there = asarray(x.astype(dtype)), asarray(y.astype(dtype))
        for name in ("target", "mean", "variance", "second_moment"):
            assert isinstance(getattr(law, name)(there[0][0, 0, :], there[1][0, :]), type(there[0]))  # no scalar
            found, host = getattr(law, name)(*there), getattr(law, name)(x.astype(dtype), y.astype(dtype))
            assert type(found) is type(there[0])
            assert found.dtype == there[0].dtype
            assert np.array_equal(to_host(found), host)
            one = getattr(law, name)(x[1, 0].astype(dtype), y[2].astype(dtype))
            assert host[1, 2] == one
    assert np.array_equal(law.mean(x, y), law.target(x, y))


# Draws


def within(values, cdf):
    """Whether the empirical distribution is within the interval of Dvoretzky, Kiefer and Wolfowitz at 1 - 1e-9."""
    values = np.sort(np.ravel(values))
    n = len(values)
    steps, exact = np.arange(n + 1) / n, cdf(values)
    distance = max(np.max(steps[1:] - exact), np.max(exact - steps[:-1]))
    return distance <= math.sqrt(math.log(2e9) / (2 * n))


@pytest.mark.parametrize(("dim", "n_features"), [(1, 3), (2, 5), (16, 16), (16, 11), (16, 40)])
def test_directions_of_a_block_are_orthogonal_and_those_of_two_blocks_are_not(dim, n_features):
    w = PositiveFeatures(n_features).draw(dim, 0, shape=(3,)).weights
    assert w.shape == (3, n_features, dim)
    directions = w / np.linalg.norm(w, axis=-1, keepdims=True)
    gram = np.abs(directions @ np.swapaxes(directions, -1, -2) - np.eye(n_features))
    block = np.arange(n_features) // dim
    same = block[:, None] == block[None, :]
    # Householder QR: ||Q - exact||_F <= sqrt(d) gamma_(c d^2), c a small constant (Higham 2002, Theorem 19.4); 4 is taken.
    assert np.all(gram[:, same] <= 2 * (4 * dim**2.5 + 3 * dim) * U)
    if not same.all():
        assert gram[:, ~same].max() > 1e-3


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_norms_are_chi_and_directions_uniform(orthogonal, dim):
    w = PositiveFeatures(2 * dim, orthogonal).draw(dim, 0, shape=(8000,)).weights
    squares = np.sum(w**2, axis=-1)
    for j in (0, dim - 1, 2 * dim - 1):  # every row of a block alike
        assert within(squares[:, j], lambda s: scipy.special.gammainc(dim / 2, s / 2))
        assert within(w[:, j, 0], scipy.special.ndtr)
        assert within(w[:, j, -1], scipy.special.ndtr)
    if dim > 1:
        # Norms of a block are independent: their sum has twice the degrees of freedom.
        assert within(squares[:, 0] + squares[:, 1], lambda s: scipy.special.gammainc(dim, s / 2))


def test_blocks_turn_left_as_often_as_right():
    """Uniform on the orthogonal group, of which rotations are one half only: the factor of LAPACK is always the other."""
    w = PositiveFeatures(2).draw(2, 0, shape=(4000,)).weights
    left = np.mean(np.linalg.det(w) > 0)
    assert abs(left - 0.5) <= math.sqrt(math.log(2e9) / 8000)  # Hoeffding


def test_a_draw_is_a_function_of_the_seed(rng):
    x = rng.normal(size=(3, 4))
    for law in LAWS:
        phi = law.draw(4, 7)
        assert np.array_equal(phi(x), law.draw(4, np.random.default_rng(7))(x))
        assert not np.array_equal(phi(x), law.draw(4, 8)(x))
        assert (phi.dim, phi.n_features, phi.shape, phi.radius) == (4, law.n_features, (), math.inf)
        assert phi.name == repr(law)


# Maps


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_feature_is_its_formula(asarray, rng, law):
    x, phi = rng.normal(size=(2, 5, 3)), law.draw(3, 0)
    w = np.concatenate([phi.weights, -phi.weights]) if law.hyperbolic else phi.weights
    root = math.sqrt(1 - 4 * law.tilt)
    exponent = law.tilt * np.sum(w**2, axis=-1) + root * (x @ w.T) - np.sum(x**2, axis=-1, keepdims=True) / 2
    exact = (1 - 4 * law.tilt) ** (3 / 4) * np.exp(exponent) / math.sqrt(len(w))
    sizes = 1 + np.sum(w**2, axis=-1) + root * (np.abs(x) @ np.abs(w.T)) + np.sum(x**2, axis=-1, keepdims=True)
    units = 16 * U * (sizes + math.log(len(w)))  # sums of three, a few functions, twice
    for found in (phi(asarray(x)), asarray(np.exp(to_host(phi.log(asarray(x)))))):
        assert np.all(np.abs(to_host(found) / exact - 1) <= units)
    features, log_scale = (to_host(part) for part in phi.scaled(asarray(x)))
    assert np.all(features.max(axis=-1) == 1)
    assert np.all(np.abs(features * np.exp(log_scale)[..., None] / exact - 1) <= 2 * units)


def test_one_draw_serves_every_dtype_and_device_in_turn():
    strict = pytest.importorskip("array_api_strict")
    law, x = PositiveFeatures(8, tilt=-0.1), np.ones((2, 3)) / 4
    phi = law.draw(3, 0)
    devices = [strict.Device(name) for name in ("CPU_DEVICE", "device1")]
    for dtype in ("float64", "float32", "float64"):
        for here in (x.astype(dtype), *(strict.asarray(x.astype(dtype), device=device) for device in devices)):
            found = phi(here)
            assert (found.dtype, found.device) == (here.dtype, here.device)
            assert np.array_equal(to_host(found), to_host(law.draw(3, 0)(here)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaled_features_do_not_overflow(asarray, rng, dtype):
    phi = PositiveFeatures(8).draw(3, 0)
    x = asarray((1e15 * rng.normal(size=(4, 3))).astype(dtype))
    features, log_scale = (to_host(part) for part in phi.scaled(x))
    assert np.all((features >= 0) & (features <= 1))
    assert np.all(features.max(axis=-1) == 1)
    assert np.isfinite(log_scale).all()
    assert features.dtype == log_scale.dtype == dtype
    assert np.all(to_host(phi(x)) == 0)  # far below every number, and so says the map
    along = asarray(400 * phi.weights[:1].astype(dtype))
    assert to_host(PositiveFeatures(8, tilt=0.2).draw(3, 0).scaled(along)[0]).max() == 1


def test_features_that_overflow_are_refused_and_scaled_named(asarray):
    wide = dataclasses.replace(PositiveFeatures(2).draw(1, 0), weights=np.array([[60.0], [-60.0]]))
    x = asarray(np.array([[40.0]]))
    with pytest.raises(ValueError, match=r"x: features overflow .*float64; use scaled\(x\)"):
        wide(x)
    assert to_host(wide.log(x))[0, 0] == pytest.approx(1600 - math.log(2) / 2)
    with pytest.raises(ValueError, match="x: finite, but logarithms of features overflow"):
        wide.log(asarray(np.array([[1e200]])))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_estimates_have_the_mean_and_variance_of_the_law(law):
    x, y = np.array([[2, 1, -1], [1, 0, 2]]) / 8, np.array([[1, 2, 1], [-2, 1, 0]]) / 8
    mean, variance = law.mean(x, y), law.variance(x, y)
    sample = lambda rng, size: law.estimates(x, y, rng=rng, size=size)
    found = check_mean(
        sample, mean, margin=0.05 * np.sqrt(variance), variance=variance, alpha=1e-9, rng=0, max_draws=200_000
    )
    assert found.verdict == "consistent"
    squares = lambda rng, size: (sample(rng, size) - mean) ** 2 / variance
    found = check_mean(squares, np.ones(2), margin=0.1, alpha=1e-6, rng=1, max_draws=400_000)
    assert found.verdict == "consistent"


def test_pairs_of_a_replicate_share_its_draw_and_replicates_do_not():
    law, x = PositiveFeatures(4), np.array([0.5, 0.25])
    for pair in ((np.stack([x, x]), x), (x, np.stack([x, x]))):
        for size in (2, 5):
            twice = law.estimates(*pair, rng=0, size=size)
            assert twice.shape == (size, 2)
            assert np.array_equal(twice[:, 0], twice[:, 1])
            assert len(set(twice[:, 0])) == size


# Fit


def test_fit_takes_the_mean_over_all_pairs(asarray, rng):
    q, k = rng.normal(size=(2, 5, 4)), rng.normal(size=(7, 4)) + 1
    law = PositiveFeatures(16, hyperbolic=True)
    fitted = law.fit(asarray(q), asarray(k))
    squares = np.sum((q[:, :, None] + k[None, None]) ** 2, axis=-1)
    assert dataclasses.replace(fitted, tilt=0.0) == law
    # Sums of 5, 7 and 4 terms; the tilt changes by at most 1 / (2 d) per unit of the square.
    allowed = 2 * (5 + 7 + 4 + 8) * U * float(np.mean((np.sum(q**2, -1)[:, :, None] + np.sum(k**2, -1)) * 2)) / 8
    assert abs(fitted.tilt - optimal_tilt(float(squares.mean()), 4)) <= allowed
    x = asarray(rng.normal(size=(1, 4)))
    assert law.fit(x, -x).tilt == 0  # and never the root of a negative number
    y = asarray(np.full((3, 4), 0.1))
    assert -1e-15 < law.fit(y, -y).tilt <= 0


@pytest.mark.parametrize(
    ("q", "k", "words"),
    [
        (np.ones(3), np.ones((2, 3)), r"q, k: expected \(\.\.\., n, d\), \(\.\.\., m, d\), d >= 1, found \(3,\)"),
        (np.ones((2, 4)), np.ones((2, 3)), r"q, k: expected .* found \(2, 4\), \(2, 3\)"),
        (np.ones((0, 3)), np.ones((2, 3)), "q, k: expected .* none empty"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), "k: expected finite entries, found nan"),
        (np.ones((2, 2, 3)), np.ones((3, 2, 3)), r"leading axes do not broadcast: q \(2,\), k \(3,\)"),
        (np.full((2, 3), 1e200), np.ones((2, 3)), "q, k: finite, but their moments overflow"),
    ],
)
def test_fit_names_what_it_cannot_use(q, k, words):
    with pytest.raises(ValueError, match=words):
        PositiveFeatures(4).fit(q, k)


# Bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PositiveFeatures(0), "n_features: expected an int >= 1, found 0"),
        (lambda: PositiveFeatures(3, hyperbolic=True), "n_features: expected an even number for hyperbolic pairs, found 3"),
        (lambda: PositiveFeatures(4, tilt=0.25), "tilt: expected a finite number < 1/4, found 0.25"),
        (lambda: PositiveFeatures(4, tilt=-math.inf), "tilt: expected a finite number"),
        (lambda: PositiveFeatures(4, tilt=math.nan), "tilt: expected a finite number"),
        (lambda: PositiveFeatures(4).draw(0), "dim: expected an int >= 1, found 0"),
        (lambda: PositiveFeatures(4).draw(3, 0, shape=(-1,)), "shape: expected an int >= 0, found -1"),
        (lambda: PositiveFeatures(4).draw(3, 0)(np.ones((2, 4))), r"x: expected shape \(\.\.\., n, 3\), found \(2, 4\)"),
        (lambda: PositiveFeatures(4).draw(3, 0).scaled(np.ones(3)), r"x: expected shape \(\.\.\., n, 3\), found \(3,\)"),
        (lambda: PositiveFeatures(4).draw(3, 0, shape=(2,))(np.ones((5, 1, 3))), r"broadcast: draw \(2,\), x \(5,\)"),
        (lambda: PositiveFeatures(4).draw(1, 0)(np.full((1, 1), np.nan)), "x: expected finite entries, found nan"),
        (lambda: PositiveFeatures(4).mean(np.ones(2), np.ones(3)), r"x, y: expected \(\.\.\., d\) with one d"),
        (lambda: PositiveFeatures(4).variance(np.ones(0), np.ones(0)), "d, the last axis of x and y: expected an int >= 1"),
        (lambda: PositiveFeatures(4).variance(np.ones(2), np.array([1, np.inf])), "y: expected finite entries, found inf"),
        (lambda: PositiveFeatures(4).estimates(np.ones(2), np.ones(2), rng=0, size=0), "size: expected an int >= 1"),
        (lambda: PositiveFeatures(4).estimates(np.ones(2), np.ones(3), rng=0, size=1), "x, y: expected"),
        (lambda: optimal_tilt(-1.0, 2), "squared_norm: expected finite numbers >= 0, found -1.0"),
        (lambda: optimal_tilt(1.0, 0), "dim: expected an int >= 1"),
        (lambda: orthogonal_gap([1.0, math.inf], 2), "squared_norm: expected finite numbers >= 0"),
        (lambda: orthogonal_gap(math.nan, 2), "squared_norm: expected finite numbers >= 0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PositiveFeatures(2.5), "n_features: expected an int"),
        (lambda: PositiveFeatures(4, orthogonal=1), "orthogonal: expected True or False, found 1"),
        (lambda: PositiveFeatures(4, hyperbolic="no"), "hyperbolic: expected True or False, found 'no'"),
        (lambda: PositiveFeatures(4, tilt="0"), "tilt: expected a finite number < 1/4, found '0'"),
        (lambda: PositiveFeatures(4).draw(3, 0, shape=2), "shape: expected a tuple of leading axes, found 2"),
        (lambda: PositiveFeatures(4).draw(3, 0)([[1.0, 2.0, 3.0]]), "x: expected an array, found list"),
        (lambda: PositiveFeatures(4).draw(3, 0).log(np.ones((2, 3), dtype=int)), "x: expected dtype float32 or float64"),
    ],
)  # fmt: skip
def test_arguments_of_a_wrong_kind_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_a_law_is_a_value_with_a_face():
    law = PositiveFeatures(np.int64(8), tilt=0)
    assert law == PositiveFeatures(8)
    assert hash(law) == hash(PositiveFeatures(8))
    assert pickle.loads(pickle.dumps(law)) == law
    assert repr(law) == "PositiveFeatures(n_features=8, orthogonal=True, hyperbolic=False, tilt=0.0)"
    assert repr(law) in law._repr_html_()
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.tilt = 0.1


# Files


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_saved_draw_is_the_same_map(tmp_path, rng, law):
    phi, x = law.draw(3, rng, shape=(2,)), rng.normal(size=(4, 3))
    phi.save(tmp_path / "phi.npz")
    again = load_draw(tmp_path / "phi.npz")
    assert type(again) is type(phi)
    assert np.array_equal(again(x), phi(x))
    assert (again.name, again.tilt, again.hyperbolic, again.shape) == (phi.name, phi.tilt, phi.hyperbolic, (2,))


@pytest.mark.parametrize(
    "change",
    [
        {"format": np.array("positive 2")},
        {"format": np.array(1)},
        {"format": np.array(["positive 1"])},
        {"weights": np.ones(3)},
        {"weights": np.ones((0, 2))},
        {"weights": np.ones((4, 0))},
        {"weights": np.full((4, 2), np.nan)},
        {"weights": np.ones((4, 2), dtype=np.float32)},
        {"weights": np.array([["a", "b"]])},
        {"tilt": np.array(0.25)},
        {"tilt": np.array(np.nan)},
        {"tilt": np.array(-np.inf)},
        {"tilt": np.array([0.0])},
        {"hyperbolic": np.array(1)},
        {"hyperbolic": np.array([True, False])},
        {"name": np.array(3)},
    ],
    ids=lambda change: "-".join(f"{k} {v}" for k, v in change.items()),
)
def test_an_archive_that_is_no_draw_is_refused(tmp_path, change):
    path = tmp_path / "phi.npz"
    PositiveFeatures(4).draw(2, 0).save(path)
    stored = read_npz(path, ("format", "weights", "tilt", "hyperbolic", "name"))
    write_npz(path, **{**stored, **change})
    with pytest.raises(ValueError, match=r"phi\.npz"):
        load_draw(path)


def test_an_archive_that_lacks_an_array_is_refused(tmp_path):
    path = tmp_path / "phi.npz"
    PositiveFeatures(4).draw(2, 0).save(path)
    stored = read_npz(path, ("format", "weights", "tilt", "hyperbolic", "name"))
    for name in stored:
        write_npz(path, **{key: value for key, value in stored.items() if key != name})
        with pytest.raises(ValueError, match=f"missing {name}"):
            load_draw(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"phi\.npz"):
        load_draw(path)
