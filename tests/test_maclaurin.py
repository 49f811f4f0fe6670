from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import KERNELS, FixedDegrees, GeometricDegrees, RandomMaclaurin, load_draw, polynomial, to_host
from schoenbat_theory.arrays import eps
from schoenbat_theory.confidence import catoni_interval
from schoenbat_theory.features.maclaurin import rademacher_moment
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
        (lambda: RandomMaclaurin("exp", 4, weights="gaussian"), "weights: expected 'rademacher', found 'gaussian'"),
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
