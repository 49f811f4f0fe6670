from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import (
    KERNELS,
    FixedDegrees,
    GeometricDegrees,
    PolynomialSketch,
    RandomMaclaurin,
    feature_maps,
    load_draw,
    polynomial,
    to_host,
)
from schoenbat_theory.arrays import eps
from schoenbat_theory.confidence import catoni_interval
from schoenbat_theory.features.moments import rademacher_moment
from schoenbat_theory.features.sketch_moments import WEIGHTS
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
X, Y, Z = np.array([3, -1, 2]) / 8, np.array([1, 2, -3]) / 8, np.array([2, 2, 1]) / 8  # dyadic: exact in float64
DEGREES = ["geometric", "released", "h01", (1, 2, 0, 3), GeometricDegrees(3.0, 1), GeometricDegrees(1.5, 2, 6)]


def signs(dim: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=dim))


def inner(w, x) -> Fraction:
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(w, x, strict=True)), Fraction(0))


def products(n: int, x, y) -> Iterator[Fraction]:
    """prod_{i <= n} <w_i, x> <w_i, y> for every choice of n sign vectors."""
    for ws in itertools.product(signs(len(x)), repeat=n):
        yield math.prod((inner(w, x) * inner(w, y) for w in ws), start=Fraction(1))


def mean(values) -> Fraction:
    values = list(values)
    return sum(values, Fraction(0)) / len(values)


# Moments


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_moment_of_signs_is_the_average_over_all_of_them(asarray, dim):
    grid = list(itertools.product((-1, 0, 2), repeat=dim))
    x, y = (np.array(part, dtype=float) for part in zip(*itertools.product(grid, grid), strict=True))
    found = to_host(rademacher_moment(asarray(x), asarray(y)))
    exact = [float(mean(inner(w, a) ** 2 * inner(w, b) ** 2 for w in signs(dim))) for a, b in zip(x, y, strict=True)]
    assert found.tolist() == exact  # small integers: no rounding


def test_the_mixed_moment_of_signs_is_the_average_over_all_of_them():
    exact = mean(inner(w, X) ** 2 * inner(w, Y) * inner(w, Z) for w in signs(3))
    assert float(rademacher_moment(X, Y, Z)) == float(exact)
    assert rademacher_moment(X, Y, Y) == rademacher_moment(X, Y)


def test_the_moment_is_never_below_the_square_of_the_mean(rng):
    x, y = rng.normal(size=(2, 1000, 1))  # in one dimension they are equal, up to rounding
    assert np.all(rademacher_moment(x, y) >= np.sum(x * y, axis=-1) ** 2)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": [np.nan], "y": [1.0]}, "x: expected finite entries, found nan"),
        ({"x": [1.0], "y": [1.0], "z": [np.inf]}, "z: expected finite entries, found inf"),
        ({"x": [1e100], "y": [1e100]}, "x, y: finite, but their moments overflow"),
        ({"x": [1.0], "y": [1.0, 2.0]}, r"x, y: expected \(\.\.\., d\) with one d, found \(1,\), \(2,\)"),
        ({"x": 1.0, "y": 1.0}, r"x, y: expected \(\.\.\., d\) with one d, found \(\), \(\)"),
    ],
)
def test_a_moment_is_finite_or_refused(asarray, arrays, words):
    with pytest.raises(ValueError, match=words):
        rademacher_moment(**{name: asarray(np.array(x)) for name, x in arrays.items()})


# Closed forms of laws


@dataclasses.dataclass
class Brute:
    """Mean and second moment of the estimate, from every degree and every sign."""

    mean: Fraction
    variance: Fraction
    covariance: Fraction


def enumerated(kernel, degrees, n_features, x, y, z) -> Brute:
    a = [Fraction(kernel.coefficient(n)) for n in range(degrees.max_degree + 1)]
    first = lambda n, w: mean(products(n, x, w))
    mixed = lambda n, w: mean(p * q for p, q in zip(products(n, x, y), products(n, x, w), strict=True))
    if isinstance(degrees, FixedDegrees):
        used = [(n, count) for n, count in enumerate(degrees.counts) if count]
        parts = [a[n] ** 2 / count * (mixed(n, w) - first(n, y) * first(n, w)) for w in (y, z) for n, count in used]
        middle = len(parts) // 2
        return Brute(sum(a[n] * first(n, y) for n, _ in used), sum(parts[:middle]), sum(parts[middle:]))
    b = degrees.exact_below
    weight = [Fraction(degrees.p) ** -n for n in range(b, degrees.max_degree + 1)]
    q = {n: w / sum(weight) for n, w in enumerate(weight, start=b)}
    exact = sum(a[n] * inner(x, y) ** n for n in range(b))
    one = sum(q[n] * a[n] / q[n] * first(n, y) for n in q)
    other = sum(q[n] * a[n] / q[n] * first(n, z) for n in q)
    square, cross = (sum(q[n] * (a[n] / q[n]) ** 2 * mixed(n, w) for n in q) for w in (y, z))
    n_random = n_features - (0, 1, 1 + len(x))[b]
    return Brute(exact + one, (square - one**2) / n_random, (cross - one * other) / n_random)


@pytest.mark.parametrize("name", [*KERNELS, "polynomial"])
@pytest.mark.parametrize(
    "degrees",
    [GeometricDegrees(p, b, 3) for p in (2.0, 1.5) for b in (0, 1, 2)]
    + [FixedDegrees((1, 2, 0, 3)), FixedDegrees((0, 6))],
    ids=repr,
)
def test_mean_and_variance_are_those_of_all_degrees_and_signs(asarray, name, degrees):
    kernel = polynomial(3, 0.5) if name == "polynomial" else KERNELS[name]
    law = RandomMaclaurin(kernel, 6, degrees)
    x, y, z = X[:2], Y[:2], Z[:2]
    brute = enumerated(kernel, degrees, 6, x, y, z)
    there = [asarray(w) for w in (x, y, z)]
    whole = float(sum(Fraction(kernel.coefficient(n)) for n in range(4)))  # |t| < 1: it bounds every sum below
    second = abs(float(brute.variance)) * 6 + whole**2
    # Horner over 4 terms, moments of d = 2 terms, powers, and a difference: below 64 roundings of the terms.
    assert abs(float(law.mean(*there[:2])) - float(brute.mean)) <= 64 * U * whole
    assert abs(float(law.variance(*there[:2])) - float(brute.variance)) <= 64 * U * second
    row = to_host(law.row_covariance(there[0], asarray(np.stack([y, z]))))
    assert np.array_equal(row, row.T)
    assert abs(row[0, 0] - float(brute.variance)) <= 64 * U * second
    assert abs(row[0, 1] - float(brute.covariance)) <= 64 * U * second
    assert float(law.second_moment(*there[:2])) == float(law.variance(*there[:2])) + float(law.mean(*there[:2])) ** 2


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("exact_below", [0, 1, 2])
def test_without_a_largest_degree_the_variance_is_the_whole_series(name, exact_below):
    kernel, d, n_features = KERNELS[name], 3, 10
    law = RandomMaclaurin(kernel, n_features, GeometricDegrees(2.0, exact_below))
    t, v = inner(X, Y), Fraction(float(rademacher_moment(X, Y)))
    terms = range(exact_below, 60)  # 2 v < 1/4: what follows is below 2^-120
    second = sum(Fraction(kernel.coefficient(n)) ** 2 * (2 * v) ** n for n in terms) * Fraction(2) ** (1 - exact_below)
    first = sum(Fraction(kernel.coefficient(n)) * t**n for n in terms)
    exact = float((second - first**2) / (n_features - (0, 1, 1 + d)[exact_below]))
    assert float(law.mean(X, Y)) == float(law.target(X, Y)) == kernel(float(t))
    assert abs(float(law.variance(X, Y)) - exact) <= 2 * 60 * U * float(second + first**2)


def test_a_law_reaches_degrees_that_follow_a_gap():
    kernel = polynomial(12)  # t^12: a_0 .. a_11 are 0
    law, x = RandomMaclaurin(kernel, 4, "geometric"), np.array([0.75])
    exact = (2.0**13 * 0.75**48 - 0.75**48) / 4  # (a^2 / q_12) V^12 - t^24, over 4 features
    assert abs(float(law.variance(x, x)) - exact) <= 64 * U * exact


def test_variance_is_infinite_beyond_the_radius():
    x = np.array([0.6, 0.6])  # V = 0.5184: p V > 1, although ||x||^2 = 0.72 < 1
    for name in ("inv", "logi", "sqrt"):
        for degrees in ("geometric", "h01", GeometricDegrees(2.0, 1)):
            law = RandomMaclaurin(name, 8, degrees)
            assert math.isfinite(float(law.mean(x, x)))
            assert float(law.variance(x, x)) == float(law.second_moment(x, x)) == math.inf
        assert math.isfinite(float(RandomMaclaurin(name, 8, "released").variance(x, x)))
    assert math.isfinite(float(RandomMaclaurin("exp", 8).variance(10 * x, 10 * x)))


def test_an_overflowing_variance_is_infinite_and_not_nan():
    x = np.array([20.0, 20.0])
    for degrees in ("geometric", "h01", "released"):
        assert RandomMaclaurin("exp", 8, degrees).variance(x, x / 2) > 0
    x = np.array([1e77, 0.0])  # V = 1e308, 2 V is beyond float64
    assert RandomMaclaurin("exp", 8).variance(x, x[::-1]) == math.inf


def test_no_mean_exists_beyond_the_radius():
    x, y = np.array([1.2, 0.0]), np.array([0.0, 1.0])  # <x, y> = 0, yet E|estimate| is infinite
    for degrees in ("geometric", "h01"):
        with pytest.raises(ValueError, match=r"the random series of inv needs \|\|x\|\| \|\|y\|\| <= 1"):
            RandomMaclaurin("inv", 8, degrees).mean(x, y)
    many = np.stack([np.array([0.0, 1e200]), x])  # the first pair has <x, y> = 0 and a square that overflows
    with pytest.raises(ValueError, match="the random series of inv"):
        RandomMaclaurin("inv", 8).mean(many, np.stack([np.zeros(2), y]))
    assert RandomMaclaurin("inv", 8, "released").mean(x, y) == 1
    assert RandomMaclaurin("inv", 3, "h01").mean(x, y) == 1  # nothing random is left


def test_closed_forms_broadcast_and_keep_dtype(asarray, rng):
    x, y = rng.normal(size=(5, 1, 3)) / 4, rng.normal(size=(2, 3)) / 4
    for dtype in ("float32", "float64"):
        law, there = RandomMaclaurin("exp", 8), (asarray(x.astype(dtype)), asarray(y.astype(dtype)))
        for form in (law.target, law.mean, law.variance, law.second_moment):
            found = form(*there)
            assert type(found) is type(there[0])
            assert found.dtype == there[0].dtype
            assert tuple(found.shape) == (5, 2)
            one = form(x[3, 0], y[1])
            assert abs(float(found[3, 1]) - float(one)) <= 64 * eps(found) * (1 + float(one))


# Draws


def naive(phi, x: np.ndarray) -> np.ndarray:
    """The definition, one inner product at a time."""
    bits, sizes = np.unpackbits(phi.bits), [int((phi.degrees >= n).sum()) for n in range(1, phi.degrees.max() + 1)]
    levels, start = [], 0
    for size in sizes:
        levels.append(2.0 * bits[start : start + size * phi.dim].reshape(size, phi.dim) - 1)
        start += size * phi.dim
    columns = []
    for j, degree in enumerate(phi.degrees):
        column = np.full(len(x), phi.scale[j])
        for level in levels[:degree]:
            column *= [sum(w * entry for w, entry in zip(level[j], row, strict=True)) for row in x]
        columns.append(column)
    if phi.constant is not None:
        columns.append(np.full(len(x), phi.constant))
    if phi.linear is not None:
        columns += [phi.linear * x[:, i] for i in range(phi.dim)]
    return np.stack(columns, axis=-1)


def feature_bound(phi, x: np.ndarray) -> np.ndarray:
    """How much two computations of phi(x) may differ, in units of u: every <w, x> errs by d u ||x||_1."""
    longest = np.sum(np.abs(x), axis=-1, keepdims=True)
    sizes = phi.scale * longest**phi.degrees * (phi.degrees * (phi.dim + 2) + 2)
    exact = np.ones((len(x), phi.n_features - phi.degrees.size)) * 2
    return 2 * np.concatenate([sizes, exact], axis=-1)


@pytest.mark.parametrize("degrees", DEGREES, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_are_the_products_of_the_definition(asarray, rng, degrees, dtype):
    n_features = sum(degrees) if isinstance(degrees, tuple) else 40
    phi = RandomMaclaurin("exp", n_features, degrees).draw(3, rng)
    x = (rng.normal(size=(5, 3)) / 3).astype(dtype)
    there = asarray(x)
    found = phi(there)
    assert type(found) is type(there)
    assert found.dtype == there.dtype
    assert tuple(found.shape) == (5, n_features) == (5, phi.n_features)
    x = x.astype(np.float64)
    assert np.all(np.abs(to_host(found) - naive(phi, x)) <= eps(there) * feature_bound(phi, x))


@pytest.mark.parametrize("degrees", DEGREES, ids=repr)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1)])
def test_merged_features_have_the_same_inner_products(rng, degrees, shape):
    n_features = sum(degrees) if isinstance(degrees, tuple) else 40
    phi = RandomMaclaurin("exp", n_features, degrees).draw(3, rng, shape=shape)
    x = rng.normal(size=(6, 3)) / 3
    full, merged = phi(x), phi.merged(x)
    assert merged.shape[-1] <= full.shape[-1]
    if shape == () and np.sum(phi.degrees == 0) + (phi.constant is not None) > 1:
        assert merged.shape[-1] < full.shape[-1]
    products = np.abs(full) @ np.swapaxes(np.abs(full), -1, -2)
    difference = full @ np.swapaxes(full, -1, -2) - merged @ np.swapaxes(merged, -1, -2)
    # Products of sums of D terms, and features of degree <= 60 that may round differently in another block.
    assert np.all(np.abs(difference) <= 4 * (n_features + 60 * 5) * U * (products + 1))


def test_the_same_seed_gives_the_same_signs_in_every_library(asarray):
    law, x = RandomMaclaurin("exp", 32), np.eye(4) / 2  # halves: products of signs and powers of two are exact
    phi, again = law.draw(4, 5), law.draw(4, np.random.SeedSequence(5))
    assert np.array_equal(phi.bits, again.bits)
    assert np.array_equal(phi.degrees, again.degrees)
    assert np.array_equal(to_host(phi(asarray(x))) == 0, again(x) == 0)
    assert np.array_equal(np.sign(to_host(phi(asarray(x)))), np.sign(again(x)))
    assert not np.array_equal(phi.bits, law.draw(4, 6).bits)


@pytest.mark.parametrize("degrees", ["geometric", "released", "h01"])
def test_leading_axes_hold_independent_maps(asarray, rng, degrees):
    law, d = RandomMaclaurin("exp", 12, degrees), 3
    phi = law.draw(d, rng, shape=(400, 2))
    x, y = X + 0.0, Y + 0.0
    both = to_host(phi(asarray(np.stack([x, y]))))
    assert both.shape == (400, 2, 2, 12)
    estimates = np.sum(both[..., 0, :] * both[..., 1, :], axis=-1)
    low, high = catoni_interval(estimates.ravel(), float(law.variance(x, y)), 1e-9)
    assert low <= float(law.mean(x, y)) <= high
    # Independent: the mean of the product of two maps is the product of means (variance at most that of a product).
    product = (estimates[:, 0] - float(law.mean(x, y))) * (estimates[:, 1] - float(law.mean(x, y)))
    low, high = catoni_interval(product, float(law.variance(x, y)) ** 2, 1e-9)
    assert low <= 0 <= high


@pytest.mark.parametrize("degrees", DEGREES, ids=repr)
def test_estimates_have_the_mean_and_the_spread_of_the_law(asarray, degrees):
    n_features, size = sum(degrees) if isinstance(degrees, tuple) else 8, 4000
    law = RandomMaclaurin("exp", n_features, degrees)
    pairs = [asarray(np.stack([X, Y])), asarray(np.stack([Y, Z]))]
    found = to_host(law.estimates(*pairs, rng=0, size=size))
    assert found.shape == (size, 2)
    variance = to_host(law.variance(*pairs))
    low, high = catoni_interval(found, variance, 1e-9)
    assert np.all((low <= to_host(law.mean(*pairs))) & (to_host(law.mean(*pairs)) <= high))
    # The spread has heavy tails; within a factor of 2 it is that of 4000 replicates.
    assert np.all((found.var(axis=0) > variance / 2) & (found.var(axis=0) < 2 * variance))


@pytest.mark.parametrize("degrees", DEGREES[:3], ids=repr)
def test_products_of_independent_features_have_the_mean_and_the_spread_of_the_random_part(asarray, degrees):
    size, exact = 4000, ["geometric", "released", "h01"].index(degrees)
    law = RandomMaclaurin("exp", (0, 1, 4)[exact] + 1, degrees)
    found = to_host(law.features(asarray(np.stack([X, Y, Z])), rng=0, size=size))
    assert found.shape == (size, 3)
    x, y = np.stack([X, Y]), np.stack([Y, Z])
    products = found[:, :2] * found[:, 1:]
    t, variance = np.sum(x * y, axis=-1), law.variance(x, y)
    mean = law.mean(x, y) - np.stack([0 * t, 1 + 0 * t, 1 + t])[exact]  # less the exact part
    low, high = catoni_interval(products, variance, 1e-9)
    assert np.all((low <= mean) & (mean <= high))
    assert np.all((products.var(axis=0) > variance / 2) & (products.var(axis=0) < 2 * variance))


def test_features_come_in_random_order_as_if_each_were_alone():
    law, size = RandomMaclaurin("exp", 1), 1 << 14
    found = law.features(np.zeros(3), rng=1, size=size)  # only those of degree 0 are not 0 there: half of them
    assert found.shape == (size,)
    assert set(np.unique(found**2).round(12)) == {0.0, 2.0}
    # Neighbours agree half of the time: Hoeffding with error rate 1e-9, over every second pair, which are independent.
    agree = np.mean((found[0::2] > 0) == (found[1::2] > 0))
    assert abs(agree - 0.5) <= np.sqrt(np.log(2e9) / size)


def test_the_width_of_a_law_does_not_change_its_independent_features():
    narrow, wide = (RandomMaclaurin("exp", width).features(np.stack([X, Y]), rng=2, size=32) for width in (1, 100))
    assert np.array_equal(narrow, wide)


@pytest.mark.parametrize(("degrees", "weights"), [((1, 2, 0, 4), "rademacher"), ("released", "complex-rademacher")])
def test_features_that_depend_on_one_another_are_refused(degrees, weights):
    law = RandomMaclaurin("exp", 7, degrees, weights)
    with pytest.raises(ValueError, match="degrees, weights: expected random degrees and real weights"):
        law.features(X, rng=0, size=4)


def test_a_width_of_the_exact_part_has_no_variance():
    law = RandomMaclaurin("exp", 4, "h01")
    phi = law.draw(3, 0)
    assert float(law.variance(X, Y)) == 0
    assert phi.degrees.size == 0
    assert float(law.mean(X, Y)) == 1 + float(inner(X, Y))  # dyadic: exact
    assert float((phi(X[None]) @ phi(Y[None]).T)[0, 0]) == 1 + float(inner(X, Y))
    one = RandomMaclaurin("exp", 1, "released")
    assert float(one.variance(X, Y)) == 0
    assert one.draw(3, 0)(X[None]).tolist() == [[1.0]]


def test_a_width_below_the_exact_part_is_refused():
    with pytest.raises(
        ValueError, match="n_features: the exact part of degrees below 2 has 4 features at dim = 3, found"
    ):
        RandomMaclaurin("exp", 3, "h01").draw(3, 0)
    with pytest.raises(ValueError, match="n_features: the exact part"):
        RandomMaclaurin("exp", 1, "h01")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomMaclaurin("exp", 0), "n_features: expected an int >= 1, found 0"),
        (lambda: RandomMaclaurin("exp", 2.5), "n_features: expected an int >= 1, found 2.5"),
        (lambda: RandomMaclaurin("exp", True), "n_features: "),
        (
            lambda: RandomMaclaurin("exp", 4, weights="normal"),
            "weights: expected one of rademacher, gaussian, .*, found 'normal'",
        ),
        (
            lambda: RandomMaclaurin("exp", 4, weights="srht"),
            r"rows of srht share one transform.*expected counts, as FixedDegrees.optimal\(.*, found GeometricDegrees",
        ),
        (lambda: RandomMaclaurin("exp", 4, "released", "tensorsketch"), "rows of tensorsketch share one transform"),
        (lambda: RandomMaclaurin("exp", 4, "h01", "complex-srht"), "rows of complex-srht share one transform"),
        (
            lambda: RandomMaclaurin("exp", 5, weights="complex-gaussian"),
            "random features of complex-gaussian come in pairs; .* exact 0, found n_features = 5",
        ),
        (lambda: RandomMaclaurin("exp", 4, "released", "complex-rademacher"), "an even number beside the exact 1"),
        (
            lambda: RandomMaclaurin("exp", 6, "h01", "complex-rademacher").draw(2, 0),
            "an even number beside the exact 3, found n_features = 6",
        ),
        (
            lambda: RandomMaclaurin("exp", 6, (1, 2, 3), "complex-srht"),
            r"degrees: features of complex-srht come in pairs.*found \(1, 2, 3\)",
        ),
        (lambda: RandomMaclaurin("exp", 4).draw(0), "dim: expected an int >= 1, found 0"),
        (
            lambda: RandomMaclaurin("exp", 4).draw(3, 0)(np.ones((2, 4))),
            r"x: expected shape \(\.\.\., n, 3\), found \(2, 4\)",
        ),
        (lambda: RandomMaclaurin("exp", 4).draw(3, 0)(np.ones(3)), "x: expected shape"),
        (
            lambda: RandomMaclaurin("exp", 4).draw(1, 0)(np.full((1, 1), np.nan)),
            "x: expected finite entries, found nan",
        ),
        (lambda: RandomMaclaurin("exp", 64).draw(1, 0)(np.full((1, 1), 1e300)), "x: features overflow float64"),
        (lambda: RandomMaclaurin("exp", 4).draw(1, 0, shape=(2,))(np.ones((3, 1, 1))), r"draw \(2,\), x \(3,\)"),
        (lambda: RandomMaclaurin("exp", 4).draw(3, 0, shape=(-1,)), "shape: expected an int >= 0, found -1"),
        (lambda: RandomMaclaurin("exp", 4).mean(np.ones(2), np.ones(3)), "x, y: expected"),
        *(
            (make, f"{names}: finite, but their moments overflow float64")
            for law in (RandomMaclaurin("exp", 4), RandomMaclaurin("exp", 4, (2, 2), "srht"))
            for make, names in (
                (lambda law=law: law.variance(np.full(2, 1e100), np.full(2, 1e100)), "x, y"),
                (lambda law=law: law.row_covariance(np.full(2, 1e100), np.full((3, 2), 1e100)), "q, k"),
            )
        ),
        (lambda: RandomMaclaurin("exp", 4).estimates(np.ones(2), np.ones(3), rng=0, size=1), "x, y: expected"),
        (lambda: RandomMaclaurin("exp", 4).estimates(np.ones(()), np.ones(()), rng=0, size=1), "x, y: expected"),
        (
            lambda: RandomMaclaurin("exp", 4).estimates(np.ones((2, 1)), np.ones((3, 1)), rng=0, size=1),
            r"leading axes do not broadcast: x \(2,\), y \(3,\)",
        ),
        (lambda: RandomMaclaurin("exp", 4).estimates(X, X, rng=0, size=0), "size: expected an int >= 1, found 0"),
        (lambda: RandomMaclaurin("exp", 4).estimates(X, X, rng=0, size=2.0), "size: expected an int >= 1, found 2.0"),
        (lambda: RandomMaclaurin("exp", 4).row_covariance(X, X), r"q, k: expected \(\.\.\., d\), \(\.\.\., m, d\)"),
        (lambda: RandomMaclaurin("exp", 4).row_covariance(np.ones(()), np.ones((2, 3))), "q, k: expected"),
        (lambda: RandomMaclaurin("exp", 4).row_covariance(np.ones(2), np.ones((2, 3))), "q, k: expected"),
        (
            lambda: RandomMaclaurin("exp", 4).row_covariance(np.ones((2, 3)), np.ones((3, 2, 3))),
            r"leading axes do not broadcast: q \(2,\), k \(3,\)",
        ),
        (
            lambda: RandomMaclaurin("exp", 4).mean(np.ones(2), np.array([1, np.inf])),
            "y: expected finite entries, found inf",
        ),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Weights other than signs

STRUCTURED = ["srht", "complex-srht", "tensorsketch"]
INDEPENDENT = ["gaussian", "complex-rademacher", "complex-gaussian"]
# A variable of three values with the first five moments of the normal law: each level has moments of order 4.
NORMAL = {-math.sqrt(3): 1 / 6, 0.0: 2 / 3, math.sqrt(3): 1 / 6}
ENTRIES = {
    "rademacher": {1.0: 1 / 2, -1.0: 1 / 2},
    "gaussian": NORMAL,
    "complex-rademacher": dict.fromkeys((1, 1j, -1, -1j), 1 / 4),
    "complex-gaussian": {(u + 1j * v) / math.sqrt(2): NORMAL[u] * NORMAL[v] for u in NORMAL for v in NORMAL},
}


def rows(weights, degree, x, y):
    """Re prod_{i <= n} <w_i, x> conj <w_i, y> and its probability, for every choice of n vectors of weights."""
    entries = list(itertools.product(ENTRIES[weights].items(), repeat=len(x)))
    w = np.array([[value for value, _ in row] for row in entries])
    one, chance = (w @ x) * np.conj(w @ y), np.array([math.prod(p for _, p in row) for row in entries])
    values, chances = np.ones(1), np.ones(1)
    for _ in range(degree):
        values, chances = np.multiply.outer(values, one).ravel(), np.multiply.outer(chances, chance).ravel()
    return values.real, chances


def covariance(kernel, degrees, weights, n_features, x, y, z):
    """The covariance of two estimates, from every degree and every vector of weights."""
    a, pair = kernel.coefficients(2), 1 + weights.startswith("complex")

    def moments(n):
        (one, chance), (other, _) = (rows(weights, n, x, w) for w in (y, z))
        return (one * other) @ chance, one @ chance, other @ chance

    if isinstance(degrees, FixedDegrees):
        found = [(a[n] ** 2 * pair / count, *moments(n)) for n, count in enumerate(degrees.counts) if count]
        return sum(scale * (second - one * other) for scale, second, one, other in found)
    b = degrees.exact_below
    q = np.array([float(degrees.p) ** -n for n in range(b, 3)])
    found = [(a[n], a[n] ** 2 / p, *moments(n)) for n, p in enumerate(q / q.sum(), start=b)]
    one, other = sum(f[0] * f[3] for f in found), sum(f[0] * f[4] for f in found)
    n_random = n_features - (0, 1, 1 + len(x))[b]
    return pair / n_random * (sum(f[1] * f[2] for f in found) - one * other)


@pytest.mark.parametrize("weights", ENTRIES)
@pytest.mark.parametrize(
    "degrees", [*(GeometricDegrees(1.5, b, 2) for b in (0, 1, 2)), FixedDegrees((1, 2, 4))], ids=repr
)
def test_covariances_are_those_of_all_weights(asarray, weights, degrees):
    kernel, (x, y, z) = KERNELS["inv"], (w[:2] for w in (X, Y, Z))
    n_features = 7 if degrees.exact_below != 0 or isinstance(degrees, FixedDegrees) else 6
    law = RandomMaclaurin(kernel, n_features, degrees, weights)
    variance, other = (covariance(kernel, degrees, weights, n_features, x, y, w) for w in (y, z))
    there = [asarray(w) for w in (x, y, z)]
    # Sums of 81^2 products, all of them below 4: their rounding is below 81^2 times that of one.
    assert abs(float(law.variance(*there[:2])) - variance) <= 4 * 81**2 * U
    row = to_host(law.row_covariance(there[0], asarray(np.stack([y, z]))))
    assert np.array_equal(row, row.T)
    assert np.all(np.abs(row[0] - [variance, other]) <= 4 * 81**2 * U)
    assert float(law.mean(*there[:2])) == float(RandomMaclaurin(kernel, n_features, degrees).mean(x, y))
    assert float(law.second_moment(*there[:2])) == float(law.variance(*there[:2])) + float(law.mean(*there[:2])) ** 2


@pytest.mark.parametrize("weights", [*ENTRIES, *STRUCTURED])
def test_with_counts_the_variance_is_that_of_the_sketches(weights):
    counts, a = (3, 2, 6, 0, 4), KERNELS["exp"].coefficients(4)
    law = RandomMaclaurin("exp", 15, counts, weights)
    parts = [
        a[n] ** 2 * float(PolynomialSketch(n, count, weights=weights).variance(X, Y))
        for n, count in enumerate(counts)
        if n and count
    ]
    # The factor a_n^2 is under the power, as a_n^(2/n): 3 roundings more of each base, n <= 4 times.
    assert abs(float(law.variance(X, Y)) - math.fsum(parts)) <= 64 * U * math.fsum(parts)
    assert float(law.mean(X, Y)) == float(RandomMaclaurin("exp", 15, counts).mean(X, Y))


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_variance_is_exact_where_squares_of_coefficients_underflow_and_powers_overflow(weights):
    x, counts = np.full(4, 3.5), (1, *[2] * 149)  # moments beyond 1e3, their powers beyond 1e447; 1 / 149! = 1e-261
    law = RandomMaclaurin("exp", sum(counts), counts, weights)
    a, s = Fraction(49**2), 0 if "gaussian" in weights else 4 * Fraction(7, 2) ** 4  # <x, x>^2 is A
    kinds = [(1, 2 * a - s)] if weights.startswith("complex") else [(Fraction(1, 2), 3 * a - 2 * s)]  # C = P here
    if weights == "srht":  # two of four rows
        kinds.append((Fraction(1, 2), a - (2 * a - 2 * s) / 3))
    series = lambda z: sum(z**n / Fraction(math.factorial(n)) ** 2 for n in range(1, 150))
    exact = sum(share * (series(m) - series(a)) for share, m in kinds)
    for found in (law.variance(x, x), law.row_covariance(x, np.stack([x, -x]))[0, 0]):
        # A base errs by less than 8 u of 3 A, so its power by less than 8 n u.
        assert abs(float(found) - float(exact)) <= 8 * 150 * U * float(series(3 * a))


def test_weights_may_be_a_family():
    law = RandomMaclaurin("exp", 8, weights=WEIGHTS["gaussian"])
    assert law == RandomMaclaurin("exp", 8, weights="gaussian")
    assert law.draw(3, 0)(X[None]).shape == (1, 8)


@pytest.mark.parametrize("weights", STRUCTURED)
def test_the_covariance_of_linear_estimates_follows_from_their_variances(weights):
    law = RandomMaclaurin("exp", 6, (0, 6), weights)  # linear in the key: polarisation
    row = law.row_covariance(X, np.stack([Y, Z]))
    polar = float(law.variance(X, Y + Z) - law.variance(X, Y - Z)) / 4
    assert abs(row[0, 1] - polar) <= 64 * U
    assert abs(row[1, 1] - float(law.variance(X, Z))) <= 64 * U


@pytest.mark.parametrize("weights", INDEPENDENT)
def test_variance_is_infinite_where_that_of_the_weights_is(weights):
    x = np.array([0.6, 0.6])  # C >= |x|^4 = 0.5184 for all of them, and 2 C > 1
    for name in ("inv", "logi", "sqrt"):
        law = RandomMaclaurin(name, 8, "geometric", weights)
        assert math.isfinite(float(law.mean(x, x)))
        assert float(law.variance(x, x)) == float(law.second_moment(x, x)) == math.inf
        assert math.isfinite(float(law.variance(x / 2, x / 2)))
        fixed = RandomMaclaurin(name, 8, (2, 4, 2), weights)
        assert math.isfinite(float(fixed.variance(x, x)))
    with pytest.raises(ValueError, match=r"the random series of inv needs \|\|x\|\| \|\|y\|\| <= 1"):
        RandomMaclaurin("inv", 8, "geometric", weights).mean(2 * x, x * [1, -1])


@pytest.mark.parametrize(
    ("weights", "degrees"),
    [*itertools.product(INDEPENDENT, ["geometric", "released", "h01"]), *((w, (1, 2, 0, 4)) for w in WEIGHTS)],
)
def test_estimates_have_the_mean_and_the_spread_of_the_law_for_all_weights(weights, degrees):
    n_features, size = {"geometric": 8, "released": 9, "h01": 12}.get(degrees, 7), 4000
    law, pairs = RandomMaclaurin("exp", n_features, degrees, weights), (np.stack([X, Y]), np.stack([Y, Z]))
    found = law.estimates(*pairs, rng=1, size=size)
    assert found.shape == (size, 2)
    variance = law.variance(*pairs)
    low, high = catoni_interval(found, variance, 1e-9)
    assert np.all((low <= law.mean(*pairs)) & (law.mean(*pairs) <= high))
    assert np.all((found.var(axis=0) > variance / 2) & (found.var(axis=0) < 2 * variance))


def test_estimates_keep_the_two_of_a_pair_together():
    law = RandomMaclaurin("exp", 9, GeometricDegrees(2.0, 1, 1), "complex-rademacher")
    x = np.array([0.5])  # Re^2 + Im^2 of a fourth root of one is one: nothing is left to chance
    assert float(law.variance(x, x)) == 0
    assert np.all(np.abs(law.estimates(x, x, rng=0, size=50) - 1.25) <= 32 * U)


def test_pairs_of_signs_in_the_complex_plane_have_less_variance_than_signs():
    x, y = np.full(8, 8**-0.5), np.full(8, 8**-0.5)  # t = 1: C + P < T + t^2, and the larger n the more so
    found = [
        float(RandomMaclaurin("exp", 64, (2, 30, 32), w).variance(x, y)) for w in ("complex-rademacher", "rademacher")
    ]
    assert found[0] < found[1]


def test_signs_are_drawn_as_they_always_were():
    phi = RandomMaclaurin("exp", 8).draw(2, 0)
    assert phi.degrees.tolist() == [3, 2, 1, 1, 1, 0, 0, 0]
    assert phi.bits.tolist() == [191, 127]  # of the version before there were other weights


# Maps by name


@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize("n_features", [1, 2, 7, 16])
def test_maps_by_name_are_no_wider_than_asked(dim, n_features, rng):
    made = {name: make for name, make in feature_maps().items() if name.startswith(("random M", "fixed"))}
    assert len(made) == 9
    q, k = rng.normal(size=(2, 5, dim)) / 4
    for name, make in made.items():
        law = make("inv", dim, n_features)
        if law is None:
            exact = {"random Maclaurin, complex": 2, "random Maclaurin, H0/1": 1 + dim}[name]
            assert n_features < exact
            continue
        law = law.fit(q, k) if hasattr(law, "fit") else law
        assert n_features - 1 <= law.n_features <= n_features
        assert law.draw(dim, 0)(q).shape == (5, law.n_features)
        assert law.n_features == n_features or "complex" in law.weights


def test_names_say_which_map_is_meant(rng):
    made, q = feature_maps(), rng.normal(size=(5, 4)) / 4
    found = {name: made[name]("exp", 4, 16) for name in made if name.startswith("random M")}
    assert {name: (law.weights, law.degrees.exact_below) for name, law in found.items()} == {
        "random Maclaurin": ("rademacher", 0),
        "random Maclaurin, released": ("rademacher", 1),
        "random Maclaurin, H0/1": ("rademacher", 2),
        "random Maclaurin, Gaussian": ("gaussian", 0),
        "random Maclaurin, complex": ("complex-rademacher", 0),
    }
    assert {name: made[name]("exp", 4, 16).fit(q, q).weights for name in made if name.startswith("fixed")} == {
        "fixed counts, Rademacher": "rademacher",
        "fixed counts, SRHT": "srht",
        "fixed counts, complex SRHT": "complex-srht",
        "fixed counts, TensorSketch": "tensorsketch",
    }


# Files


@pytest.mark.parametrize("degrees", DEGREES, ids=repr)
def test_a_saved_draw_is_the_same_map(tmp_path, rng, degrees):
    n_features = sum(degrees) if isinstance(degrees, tuple) else 20
    phi = RandomMaclaurin("inv", n_features, degrees).draw(3, rng, shape=(2,))
    phi.save(tmp_path / "phi.npz")
    again, x = load_draw(tmp_path / "phi.npz"), rng.normal(size=(4, 3)) / 4
    assert np.array_equal(again(x), phi(x))
    assert np.array_equal(again.merged(x), phi.merged(x))
    assert (again.radius, again.name, again.n_features) == (phi.radius, phi.name, phi.n_features)


@pytest.mark.parametrize(
    "change",
    [
        {"format": np.array(2)},
        {"format": np.array([1, 1])},
        {"dim": np.array(0)},
        {"dim": np.array(4)},
        {"dim": np.array(2.0)},
        {"degrees": np.array(3)},
        {"degrees": np.array([1.0] * 8)},
        {"degrees": np.array([-1] * 8)},
        {"degrees": np.array([10**18] * 8)},
        {"scale": np.ones(7)},
        {"scale": np.full(8, np.nan)},
        {"bits": np.zeros(1, dtype=np.uint8)},
        {"bits": np.zeros(8)},
        {"constant": np.array("one")},
        {"radius": np.array(np.nan)},
        {"radius": np.array(0.0)},
        {"bits": np.zeros(8, dtype=np.uint16)},
        {"degrees": np.array([0, 1, 2, 0, 0, 0, 0, 0]), "bits": np.zeros(1, dtype=np.uint8)},
        {"scale": np.full(8, np.inf)},
        {"constant": np.ones(2)},
        {"constant": np.array([np.inf])},
        {"linear": np.ones(1)},
        {"constant": np.ones(1), "linear": np.ones(2)},
    ],
    ids=lambda change: "-".join(f"{k} {v}" for k, v in change.items()),
)
def test_an_archive_that_is_no_draw_is_refused(tmp_path, change):
    path = tmp_path / "phi.npz"
    RandomMaclaurin("exp", 8).draw(2, 0).save(path)
    stored = read_npz(path, ("format", "dim", "degrees", "scale", "bits", "radius", "name", "constant", "linear"))
    write_npz(path, **{**stored, **change})
    with pytest.raises(ValueError, match=r"phi\.npz"):
        load_draw(path)


@pytest.mark.parametrize("degrees", ["geometric", "h01", [1, 3, 2]])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_features_are_rows_in_memory_as_products_and_multiplications_want_them(degrees, shape):
    n_features = 6 if isinstance(degrees, list) else 16
    phi = RandomMaclaurin("exp", n_features, degrees).draw(3, rng=0, shape=shape)
    for found in (phi(np.ones((2, 7, 3))), phi.merged(np.ones((2, 7, 3)))):
        assert found.strides[-2:] == (8, 7 * 8)
