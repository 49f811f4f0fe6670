from __future__ import annotations

import dataclasses
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from schoenbat_theory import FourierFeatures, PositiveFeatures, feature_attention, feature_maps, load_draw, to_host
from schoenbat_theory.features.fourier_moments import cosine_covariance, cosine_variance
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
LAWS = [
    FourierFeatures(6, orthogonal=False),
    FourierFeatures(6, "gaussian", orthogonal=False),
    FourierFeatures(4),  # two vectors, fewer than d = 3; then three, and more
    FourierFeatures(6, "gaussian"),
    FourierFeatures(16),
]


# Closed forms


def exact_covariance(squared: Fraction, dim: int) -> float:
    """1F1(d; d/2; -G/2) - e^-G, both series as they stand, in fixed point of 2^-2000: not the mean that is computed."""
    bits, total, first, second, k = 2000, 0, 1 << 2000, 1 << 2000, 0
    while first or second:
        total += first - second
        first = -first * squared.numerator * (dim + k) // (squared.denominator * (dim + 2 * k) * (k + 1))
        second = -second * squared.numerator // (squared.denominator * (k + 1))
        k += 1
    return float(Fraction(total, 1 << bits))


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 13, 14, 15, 64, 101, 1000])
def test_the_covariance_is_kummers_function_in_fixed_point(dim):
    for squared in (2.0**-20, 2.0**-10, 0.5, 1.0, 2.0, 3.0, 6.0, 16.0, 45.0, 100.0, 399.0, 400.0, 450.0, 900.0):
        z = squared / 2
        k = np.arange(1000)
        factors = np.cumprod(np.concatenate([[1.0], (dim - 2.0 * k[:-1]) / (dim + 2 * k[:-1])]))  # b_k
        smaller = min(
            float(scipy.stats.poisson.pmf(k, z) @ np.abs(1 - factors)),
            float(scipy.stats.poisson.pmf(k, z) @ np.abs(factors)) + math.exp(-squared),
        )
        # One probability errs by a unit for each part of its exponent, and b_k by 4 k units; k is hardly above 3 z + 60.
        last = 3 * z + 60
        units = 3 * last * math.log(last) + 4 * last
        tail = 2.0**-56 if z >= 200 else 0.0  # what twelve terms leave out, or all of them
        error = abs(float(cosine_covariance(squared, dim)) - exact_covariance(Fraction(squared), dim))
        assert error <= units * U * smaller + tail


@pytest.mark.parametrize("dim", [3, 5, 13])
def test_the_tail_of_odd_dimensions_has_its_own_precision(dim):
    for squared in (400.0, 700.0):  # of order (d/2)!^2 z^-d, down to 1e-28
        exact = exact_covariance(Fraction(squared), dim)
        assert abs(float(cosine_covariance(squared, dim)) / exact - 1) <= 1e-8  # the next term at d = 13 is below 2^-26


@pytest.mark.parametrize("length", [0.5, 1.0, 2.5])
def test_in_two_dimensions_the_covariance_is_an_integral(length):
    """By polar coordinates, not by the chi_2d norm of a sum: E over two Rayleigh norms, at right angles."""

    def along(c):  # E cos(r c) over a chi_2 norm r
        inner = lambda r: r * math.exp(-r * r / 2) * math.cos(r * c)
        return scipy.integrate.quad(inner, 0, 40, epsabs=1e-13, epsrel=0, limit=200)[0]

    angles = 2 * np.pi * np.arange(64) / 64  # the trapezium rule converges exponentially for periodic functions
    mean = np.mean([along(length * math.cos(a)) * along(length * math.sin(a)) for a in angles])
    assert abs(mean - math.exp(-(length**2)) - float(cosine_covariance(length**2, 2))) <= 1e-11  # of quad, twice


@pytest.mark.parametrize("kernel", ["exp", "gaussian"])
@pytest.mark.parametrize(("x", "y"), [(0.5, 0.25), (1.0, 1.0), (-0.75, 1.5), (0.5, -0.5)])
def test_in_one_dimension_the_moments_are_integrals(kernel, x, y):
    factor = math.exp((x * x + y * y) / 2) if kernel == "exp" else 1.0
    for law in (FourierFeatures(2, kernel), FourierFeatures(2, kernel, orthogonal=False)):
        for moment, power in ((law.mean, 1), (law.second_moment, 2)):
            density = lambda w, p=power: (factor * math.cos(w * (x - y))) ** p * math.exp(-w * w / 2)
            value, error = scipy.integrate.quad(density, -40, 40, epsabs=0, epsrel=1e-12, limit=400)
            value, error = value / math.sqrt(2 * math.pi), error / math.sqrt(2 * math.pi)
            found = float(moment(np.array([x]), np.array([y])))
            assert abs(found - value) <= error + 100 * U * factor**2  # a dozen roundings of exponents below 8


def test_orthogonal_blocks_add_the_covariance_of_their_pairs():
    x, y, dim = np.array([0.5, 0.0, 0.25]), np.array([0.25, -0.5, 1.5]), 3
    squared, scale = float(np.sum((x - y) ** 2)), math.exp(float(x @ x + y @ y))
    for m, pairs in ((1, 0), (2, 2), (3, 6), (4, 6), (7, 12), (8, 14)):
        for kernel, factor in (("exp", scale), ("gaussian", 1.0)):
            apart, law = (FourierFeatures(2 * m, kernel, orthogonal) for orthogonal in (False, True))
            one = factor * (1 - math.exp(-squared)) ** 2 / 2
            assert abs(float(apart.variance(x, y)) - one / m) <= 40 * U * one
            gain = factor * pairs / m**2 * float(cosine_covariance(squared, dim))
            assert abs(float(law.variance(x, y) - apart.variance(x, y)) - gain) <= 40 * U * one
    assert float(FourierFeatures(6).variance(x, y)) < float(FourierFeatures(6, orthogonal=False).variance(x, y))
    line = np.array([[0.5], [0.25]])  # in one dimension there is nothing to be orthogonal to
    assert FourierFeatures(10).variance(*line) == FourierFeatures(10, orthogonal=False).variance(*line)


def test_the_variance_is_zero_at_equal_vectors_and_does_not_cancel_beside():
    x, y = np.array([3e-5, 0.0]), np.array([1e-5, 0.0])
    squared = 4e-10  # one cosine has G^2 / 2, a pair -G^2 / 8 in two dimensions
    for kernel in ("exp", "gaussian"):
        for orthogonal in (False, True):
            law = FourierFeatures(4, kernel, orthogonal)
            assert float(law.variance(x, x)) == 0
            expected = squared**2 / 4 - orthogonal * squared**2 / 8 / 2
            assert abs(float(law.variance(x, y)) / expected - 1) <= 3e-9 + 1000 * U  # the next orders, G and |x|^2
    assert float(cosine_variance(0.0)) == 0


def test_moments_of_long_vectors_are_infinite_only_beyond_float64():
    x, law = np.full(4, 13.0), FourierFeatures(8)
    assert float(law.mean(x, x)) == math.exp(676)
    assert float(law.variance(x, x)) == 0
    assert float(law.second_moment(x, x)) == math.inf
    assert float(law.variance(x, -x)) == math.inf
    assert float(law.mean(x, -x)) == math.exp(-676)
    gaussian = dataclasses.replace(law, kernel="gaussian")
    assert abs(float(gaussian.variance(1e150 * x, -x)) - 1 / 8) <= 4 * U
    assert float(gaussian.mean(1e150 * x, -x)) == 0
    # e^(|x|^2 + |y|^2) = e^800 is beyond float64, the variance e^800 G^2 / 8 of close vectors is not.
    near, far = np.array([20.0]), np.array([math.nextafter(20.0, 21.0)])
    log = 800 + 4 * math.log(far[0] - 20.0) - math.log(8)
    assert abs(math.log(float(law.variance(near, far))) - log) <= 8 * 800 * U
    with pytest.raises(ValueError, match="x, y: finite, but their moments overflow float64"):
        law.variance(1e200 * x, x)
    with pytest.raises(ValueError, match="x, y: finite, but their moments overflow float64"):
        law.variance(1e200 * x, 1e200 * x)


def test_closed_forms_are_elementwise_and_keep_library_and_dtype(asarray, rng):
    x, y = rng.normal(size=(2, 1, 4)) / 4, rng.normal(size=(3, 4)) / 4
    for law in (FourierFeatures(10), FourierFeatures(10, "gaussian", orthogonal=False)):
        for dtype in (np.float32, np.float64):
            there = asarray(x.astype(dtype)), asarray(y.astype(dtype))
            for name in ("target", "mean", "variance", "second_moment"):
                found, host = getattr(law, name)(*there), getattr(law, name)(x.astype(dtype), y.astype(dtype))
                assert type(found) is type(there[0])
                assert found.dtype == there[0].dtype
                assert np.array_equal(to_host(found), host)
                assert host[1, 2] == getattr(law, name)(x[1, 0].astype(dtype), y[2].astype(dtype))
        assert np.array_equal(law.mean(x, y), law.target(x, y))


def test_the_target_is_the_kernel(rng):
    x, y = rng.normal(size=(2, 5, 3))
    roundings = 8 * U * (1 + np.sum(np.abs(x * y), axis=-1) + np.sum((x - y) ** 2, axis=-1))
    gaussian = np.exp(-np.sum((x - y) ** 2, axis=-1) / 2)
    for kernel, exact in (("exp", np.exp(np.sum(x * y, axis=-1))), ("gaussian", gaussian)):
        assert np.all(np.abs(FourierFeatures(2, kernel).target(x, y) / exact - 1) <= roundings)


# Draws and maps


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_draw_has_the_vectors_of_positive_features_with_that_seed(law):
    phi = law.draw(3, 7, shape=(2,))
    same = PositiveFeatures(law.n_features // 2, law.orthogonal).draw(3, 7, shape=(2,))
    assert np.array_equal(phi.weights, same.weights)
    assert (phi.dim, phi.n_features, phi.shape, phi.radius) == (3, law.n_features, (2,), math.inf)
    assert phi.name == repr(law)
    assert phi.kernel == law.kernel


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_feature_is_its_formula(asarray, rng, law):
    x, phi = rng.normal(size=(2, 5, 3)), law.draw(3, 0)
    angles, half = x @ phi.weights.T, np.sum(x * x, axis=-1, keepdims=True) / 2 * (law.kernel == "exp")
    exact = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1) * np.exp(half) / math.sqrt(law.n_features / 2)
    units = 8 * U * (1 + half + np.max(np.abs(x) @ np.abs(phi.weights.T))) * np.exp(half)
    assert np.all(np.abs(to_host(phi(asarray(x))) - exact) <= units)
    features, log_scale = (to_host(part) for part in phi.scaled(asarray(x)))
    assert np.max(np.abs(features)) <= 1
    assert log_scale.shape == (2, 5)
    assert np.all(np.abs(features * np.exp(log_scale)[..., None] - exact) <= units)


def test_leading_axes_of_a_draw_are_those_of_features_and_scales(rng):
    for law in LAWS:
        phi, x = law.draw(3, 0, shape=(4, 1)), rng.normal(size=(2, 5, 3))
        features, log_scale = phi.scaled(x)
        assert features.shape == (4, 2, 5, law.n_features)
        assert log_scale.shape == (4, 2, 5)


def test_one_draw_serves_every_dtype_and_device_in_turn():
    strict = pytest.importorskip("array_api_strict")
    law, x = FourierFeatures(8), np.ones((2, 3)) / 4
    phi = law.draw(3, 0)
    devices = [strict.Device(name) for name in ("CPU_DEVICE", "device1")]
    for dtype in ("float64", "float32", "float64"):
        for here in (x.astype(dtype), *(strict.asarray(x.astype(dtype), device=device) for device in devices)):
            found = phi(here)
            assert (found.dtype, found.device) == (here.dtype, here.device)
            assert np.array_equal(to_host(found), to_host(law.draw(3, 0)(here)))


def test_features_that_overflow_are_refused_and_scaled_named(asarray):
    phi, x = FourierFeatures(4).draw(3, 0), asarray(np.full((1, 3), 30.0))
    with pytest.raises(ValueError, match=r"x: features overflow .*float64; use scaled\(x\)"):
        phi(x)
    features, log_scale = phi.scaled(x)
    assert np.all(np.abs(to_host(features)) <= 1)
    assert float(log_scale[0]) == 1350 - math.log(2) / 2
    assert np.isfinite(to_host(FourierFeatures(4, "gaussian").draw(3, 0)(x))).all()


def test_scales_of_keys_join_their_weights(asarray, rng):
    """Keys of length 40 have features of e^800: attention is the ratio of cosines with the largest scale taken off."""
    phi = FourierFeatures(16).draw(3, 0)
    q, k, v = rng.normal(size=(4, 3)), rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    k = k / np.linalg.norm(k, axis=-1, keepdims=True) * np.linspace(39.98, 40.0, 6)[:, None]
    half = np.sum(k * k, axis=-1) / 2
    weights = np.cos((q[:, None] - k[None]) @ phi.weights.T).mean(axis=-1) * np.exp(half - half.max())
    found = to_host(feature_attention(asarray(q), asarray(k), asarray(v), phi))
    # Cosines of angles of at most 45 |w|, weights of exponents of 800: 2^13 roundings of the terms of a sum.
    terms = np.abs(weights).sum(axis=-1) / np.abs(weights.sum(axis=-1))
    exact = weights @ v / weights.sum(axis=-1)[:, None]
    assert np.all(
        np.abs(found - exact) <= 2**13 * U * (terms * (np.abs(v).max() + np.abs(exact).max(axis=-1)))[:, None]
    )


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_estimates_are_inner_products_of_a_shared_draw(law):
    x = np.array([[0.5, 0.25, -1.0], [0.0, 1.0, 0.5]])
    y = np.array([0.25, 0.0, 0.5])
    for size in (1, 3):
        phi, found = law.draw(3, 5, shape=(size,)), law.estimates(x, y, rng=5, size=size)
        products = np.sum(phi(x) * phi(y[None]), axis=-1)
        assert found.shape == (size, 2)
        assert np.all(np.abs(found - products) <= 64 * U * math.exp(2))
    with pytest.raises(ValueError, match="x, y: finite, but their moments overflow float64"):
        FourierFeatures(4).estimates(np.full(3, 30.0), np.full(3, 29.0), rng=0, size=2)


def test_multiply_adds_count_the_operations():
    # 5 vectors of length 3: 15 products with a sum, 5 cosines, 5 sines; |x|^2 / 2 - log(m) / 2 takes 3 + 2.
    assert FourierFeatures(10, "gaussian").draw(3, 0).multiply_adds == 25
    assert FourierFeatures(10).draw(3, 0).multiply_adds == 30


def test_the_map_is_registered_for_the_exponential_at_even_widths():
    make = feature_maps()["trigonometric"]
    assert make("exp", 4, 64) == FourierFeatures(64)
    assert make("exp", 4, 65) == FourierFeatures(64)
    assert make("exp", 4, 1) is None
    assert make("inv", 4, 64) is None


# Bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FourierFeatures(0), "n_features: expected an int >= 2, found 0"),
        (lambda: FourierFeatures(5), "n_features: expected an even number, a cosine and a sine each, found 5"),
        (lambda: FourierFeatures(4, "inv"), "kernel: expected 'exp' or 'gaussian', found 'inv'"),
        (lambda: FourierFeatures(2.0), "n_features: expected an int"),
        (lambda: FourierFeatures(4, orthogonal=1), "orthogonal: expected True or False, found 1"),
        (lambda: FourierFeatures(4).draw(0), "dim: expected an int >= 1, found 0"),
        (lambda: FourierFeatures(4).draw(3, 0, shape=(-1,)), "shape: expected an int >= 0, found -1"),
        (lambda: FourierFeatures(4).draw(3, 0)(np.ones((2, 4))), r"x: expected shape \(\.\.\., n, 3\), found \(2, 4\)"),
        (lambda: FourierFeatures(4).draw(3, 0).scaled(np.ones(3)), r"x: expected shape \(\.\.\., n, 3\), found \(3,\)"),
        (lambda: FourierFeatures(4).draw(3, 0, shape=(2,))(np.ones((5, 1, 3))), r"broadcast: draw \(2,\), x \(5,\)"),
        (lambda: FourierFeatures(4).draw(1, 0)(np.full((1, 1), np.nan)), "x: expected finite entries, found nan"),
        (lambda: FourierFeatures(4).draw(2, 0)([[1.0, 2.0]]), "x: expected an array, found list"),
        (lambda: FourierFeatures(4).mean(np.ones(2), np.ones(3)), r"x, y: expected \(\.\.\., d\) with one d"),
        (lambda: FourierFeatures(4).variance(np.ones(0), np.ones(0)), "d, the last axis of x and y: expected an int >= 1"),
        (lambda: FourierFeatures(4).variance(np.ones(2), np.array([1, np.inf])), "y: expected finite entries, found inf"),
        (lambda: FourierFeatures(4).estimates(np.ones(2), np.ones(2), rng=0, size=0), "size: expected an int >= 1"),
        (lambda: cosine_covariance([1.0, -1.0], 4), "squared_norm: expected numbers >= 0, found"),
        (lambda: cosine_covariance(math.nan, 4), "squared_norm: expected numbers >= 0, found nan"),
        (lambda: cosine_covariance(1.0, 1), "dim: expected an int >= 2, found 1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_a_law_is_a_value_with_a_face():
    law = FourierFeatures(np.int64(8))
    assert law == FourierFeatures(8)
    assert hash(law) == hash(FourierFeatures(8))
    assert pickle.loads(pickle.dumps(law)) == law
    assert repr(law) == "FourierFeatures(n_features=8, kernel='exp', orthogonal=True)"
    assert law._repr_html_()
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.kernel = "gaussian"


# Files


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_saved_draw_is_the_same_map(tmp_path, rng, law):
    phi, x = law.draw(3, rng, shape=(2,)), rng.normal(size=(4, 3))
    phi.save(tmp_path / "phi.npz")
    again = load_draw(tmp_path / "phi.npz")
    assert type(again) is type(phi)
    assert np.array_equal(again(x), phi(x))
    assert (again.name, again.kernel, again.shape) == (phi.name, phi.kernel, (2,))


@pytest.mark.parametrize(
    "change",
    [
        {"format": np.array("fourier 2")},
        {"format": np.array(["fourier 1"])},
        {"weights": np.ones(3)},
        {"weights": np.ones((0, 2))},
        {"weights": np.full((4, 2), np.nan)},
        {"weights": np.ones((4, 2), dtype=np.float32)},
        {"weights": np.array([["a", "b"]])},
        {"kernel": np.array("inv")},
        {"kernel": np.array(["exp"])},
        {"name": np.array(3)},
        {"name": np.array(["a"])},
    ],
    ids=lambda change: "-".join(f"{k} {v}" for k, v in change.items()),
)
def test_an_archive_that_is_no_draw_is_refused(tmp_path, change):
    path = tmp_path / "phi.npz"
    FourierFeatures(8).draw(2, 0).save(path)
    stored = read_npz(path, ("format", "weights", "kernel", "name"))
    write_npz(path, **{**stored, **change})
    with pytest.raises(ValueError, match=r"phi\.npz"):
        load_draw(path)
    for name in stored:
        write_npz(path, **{key: value for key, value in stored.items() if key != name})
        with pytest.raises(ValueError, match=f"missing {name}"):
            load_draw(path)
