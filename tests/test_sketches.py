from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import array_api_strict
import numpy as np
import pytest

from schoenbat_theory import PolynomialSketch, SketchDraw, load_draw, to_host
from schoenbat_theory.arrays import device_of, eps
from schoenbat_theory.features import sketch_levels
from schoenbat_theory.features.sketch_draw import read_sketch, sketch
from schoenbat_theory.features.sketch_moments import WEIGHTS, get_weights, next_power_of_two
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
Q, K, L = np.array([2, -1, 1]), np.array([1, 3, 1]), np.array([-1, 2, 2])  # integers: enumeration does not round
REAL = [name for name in WEIGHTS if not WEIGHTS[name].complex]
COMPLEX = [name for name in WEIGHTS if WEIGHTS[name].complex]


# Closed forms, by enumeration of everything that a sketch draws


def letters(weights) -> tuple[list[complex], Fraction]:
    """The values of one weight, all equally likely, and a factor of |w|^2.

    sqrt(3) (-1, 0, 0, 0, 0, 1) has the moments of a normal number up to the fifth, all that a second moment asks for.
    """
    if weights.gaussian:
        values = [-1, 0, 0, 0, 0, 1]
        return [a + 1j * b for a in values for b in values] if weights.complex else values, Fraction(
            3, 1 + weights.complex
        )
    return ([1, 1j, -1, -1j] if weights.complex else [1, -1]), Fraction(1)


def sylvester(n: int) -> np.ndarray:
    return np.array([[(-1) ** (i & j).bit_count() for j in range(n)] for i in range(n)])


def level_rows(weights, rows: int, dim: int) -> tuple[np.ndarray, Fraction]:
    """All equally likely matrices of weights of one level, (outcomes, rows, dim), and a factor of |w|^2."""
    values, factor = letters(weights)
    if weights.structure == "independent":
        all_rows = itertools.product(itertools.product(values, repeat=dim), repeat=rows)
        return np.array(list(all_rows)), factor
    size = next_power_of_two(dim)
    blocks = -(-rows // size)
    matrix = np.kron(np.eye(blocks, dtype=int), sylvester(size))
    taken = np.array(list(itertools.permutations(range(blocks * size), rows)))
    found = []
    for signs in itertools.product(values, repeat=blocks * dim):
        stacked = np.zeros((blocks * size, dim), dtype=complex)
        for b in range(blocks):
            block = matrix[b * size : (b + 1) * size, b * size : b * size + dim]
            stacked[b * size : (b + 1) * size] = block * np.array(signs[b * dim : (b + 1) * dim])
        found.append(stacked[taken])
    return np.concatenate(found), factor


def row_products(weights, rows: int, q, k) -> tuple[np.ndarray, Fraction]:
    """<w, q> conj <w, k>, (outcomes, rows), for all rows of one level, and its factor."""
    w, factor = level_rows(weights, rows, len(q))
    return (w @ q) * np.conj(w @ k), factor


def enumerated(weights, degree: int, n_features: int, q, k, other) -> tuple[Fraction, Fraction, Fraction]:
    """Return mean and E est est' and E est^2 of the real estimates, est of <q, k>^p and est' of <q, other>^p."""
    rows = weights.rows(n_features)
    estimates, scale = [], Fraction(1)
    for y in (k, other):
        if weights.structure == "tensorsketch":
            estimates.append(tensor_estimates(degree, n_features, q, y))
            continue
        level, factor = row_products(weights, rows, q, y)
        product = level
        for _ in range(degree - 1):
            product = (product[:, None] * level).reshape(-1, rows)
        estimates.append(np.rint(np.sum(product, axis=-1).real).astype(np.int64))
        scale = factor**degree / rows
    first, second = (one.tolist() for one in estimates)
    count = len(first)
    return (
        scale * Fraction(sum(first), count),
        scale**2 * Fraction(sum(a * b for a, b in zip(first, second, strict=True)), count),
        scale**2 * Fraction(sum(a * a for a in first), count),
    )


def tensor_estimates(degree: int, size: int, x, y) -> np.ndarray:
    """<TS(x), TS(y)> for all hashes and signs: TS(x)_b sums x_I over all I in [d]^p with h(I) = b mod D."""
    dim = len(x)
    level = []
    for hashes in itertools.product(range(size), repeat=dim):
        for signs in itertools.product((1, -1), repeat=dim):
            counts = np.zeros((2, size), dtype=np.int64)
            for i, (bucket, sign) in enumerate(zip(hashes, signs, strict=True)):
                counts[:, bucket] += sign * np.array([x[i], y[i]])
            level.append(counts)
    level = np.array(level)
    shifted = (np.arange(size)[:, None] - np.arange(size)) % size
    found = level
    for _ in range(degree - 1):
        found = np.einsum("aci,bcoi->abco", found, level[..., shifted]).reshape(-1, 2, size)
    return np.sum(found[:, 0] * found[:, 1], axis=-1)


CASES = [
    *((name, p, features, 2) for name in ("rademacher", "srht") for p in (1, 2, 3) for features in (1, 2)),
    ("rademacher", 2, 2, 3),
    ("gaussian", 1, 2, 2),
    ("gaussian", 2, 1, 2),
    ("gaussian", 3, 1, 1),
    ("complex-rademacher", 1, 4, 2),
    ("complex-rademacher", 2, 4, 1),
    ("complex-rademacher", 2, 2, 3),
    ("complex-rademacher", 3, 2, 2),
    ("complex-gaussian", 1, 2, 2),
    ("complex-gaussian", 2, 2, 1),
    ("srht", 2, 3, 2),  # two blocks: N = 4
    ("srht", 2, 4, 2),
    ("srht", 2, 3, 3),  # padded to 4
    ("srht", 3, 2, 3),
    ("srht", 2, 3, 1),  # d' = 1: three blocks
    ("srht", 2, 1, 1),  # one row alone
    ("complex-srht", 1, 4, 2),
    ("complex-srht", 2, 4, 2),
    ("complex-srht", 3, 4, 2),
    ("complex-srht", 2, 4, 1),
    ("complex-srht", 1, 6, 2),
    ("complex-srht", 1, 6, 3),
    *(("tensorsketch", p, features, 2) for p in (1, 2, 3) for features in (1, 2, 3)),
    ("tensorsketch", 2, 4, 2),
    ("tensorsketch", 2, 2, 3),
    ("tensorsketch", 2, 3, 3),
]


@pytest.mark.parametrize(("name", "degree", "n_features", "dim"), CASES)
def test_mean_variance_and_covariance_are_those_of_all_draws(asarray, name, degree, n_features, dim):
    weights, (q, k, other) = WEIGHTS[name], (w[:dim] for w in (Q, K, L))
    mean, mixed, second = enumerated(weights, degree, n_features, q, k, other)
    t, v = int(q @ k), int(q @ other)
    assert mean == t**degree
    law = PolynomialSketch(degree, n_features, name)
    there = [asarray(w.astype(np.float64)) for w in (q, k)]
    # Integers below 2^53 are exact; powers, shares, their sum and the mean of two parts stay below 16 roundings of
    # what is added, for all kinds of pairs at most the largest moment, T, to the power p.
    largest = float((int(q @ q) * max(int(k @ k), int(other @ other)) * 3) ** degree)
    assert float(law.mean(*there)) == float(law.target(*there)) == t**degree
    assert abs(float(law.variance(*there)) - float(second - mean**2)) <= 16 * U * largest
    assert float(law.second_moment(*there)) == float(law.variance(*there)) + float(law.mean(*there)) ** 2
    a, u, s = (np.array(float(one)) for one in ((q @ q) * (k @ other), t * v, np.sum(q * q * k * other)))
    found = weights.covariance(degree, n_features, dim, a, u, s)
    assert abs(float(found) - float(mixed - Fraction(t * v) ** degree)) <= 16 * U * largest


@pytest.mark.parametrize(
    ("name", "degree", "n_features"), [(name, p, D) for name in COMPLEX for p in (1, 2) for D in (2, 4)]
)
def test_complex_and_pseudo_variance_are_those_of_all_draws(asarray, name, degree, n_features):
    weights, dim = WEIGHTS[name], 1 if "gaussian" in name and n_features == 4 else 2
    if weights.gaussian and degree == 2:
        n_features, dim = 2, 1
    q, k = Q[:dim], K[:dim]
    rows = n_features // 2
    level, factor = row_products(weights, rows, q, k)
    product = level if degree == 1 else (level[:, None] * level).reshape(-1, rows)
    estimate = np.sum(product, axis=-1)  # Gaussian integers: exact
    scale, t = (float(factor) ** degree / rows) ** 2, float(q @ k) ** (2 * degree)
    law = PolynomialSketch(degree, n_features, name)
    there = [asarray(w.astype(np.float64)) for w in (q, k)]
    modulus, square = np.mean(np.abs(estimate) ** 2) * scale - t, np.mean(estimate**2) * scale - t
    bound = 64 * U * float((q @ q) * (k @ k) * 3) ** degree
    assert square.imag == 0
    assert abs(float(law.complex_variance(*there)) - modulus) <= bound
    assert abs(float(law.pseudo_variance(*there)) - square.real) <= bound
    assert abs(float(law.variance(*there)) - (modulus + square.real) / 2) <= bound


def test_hadamard_rows_are_better_for_odd_powers_and_can_be_worse_for_even_ones():
    x, y = np.array([0.5, 0.5, 0.5, 0.5]), np.array([0.5, -0.5, 0.5, -0.5])  # t = 0: c = -V / (N - 1) < 0
    for degree in (1, 2, 3):
        ratio = float(PolynomialSketch(degree, 4, "srht").variance(x, y) / PolynomialSketch(degree, 4).variance(x, y))
        # (1/4) V^p + (3/4) (-V/3)^p over (1/4) V^p
        assert abs(ratio - (1 + 3 * (-1 / 3) ** degree)) <= 32 * U


def test_all_rows_of_a_transform_keep_the_inner_product(rng):
    x = rng.normal(size=(2, 5))
    phi = PolynomialSketch(1, 8, "srht").draw(5, rng)
    assert abs(phi(x)[0] @ phi(x)[1] - x[0] @ x[1]) <= 64 * U * np.abs(x[0]) @ np.abs(x[1]) * 8
    assert float(PolynomialSketch(1, 8, "srht").variance(x[0], x[1])) <= 64 * U * float(x[0] @ x[0] * (x[1] @ x[1]))


def test_a_variance_is_never_negative(rng):
    x, y = rng.normal(size=(2, 1000, 1))  # in one dimension signs make no error
    for name in ("rademacher", "complex-rademacher", "srht", "complex-srht", "tensorsketch"):
        assert np.all(PolynomialSketch(3, 4, name).variance(x, y) >= 0)
    for name in COMPLEX:
        assert np.all(PolynomialSketch(3, 4, name).complex_variance(x, y) >= 0)


def test_closed_forms_broadcast_and_keep_dtype(asarray, rng):
    x, y = rng.normal(size=(5, 1, 3)), rng.normal(size=(2, 3))
    for name in WEIGHTS:
        law = PolynomialSketch(2, 6, name)
        forms = [law.target, law.mean, law.variance, law.second_moment]
        for form in forms + ([law.complex_variance, law.pseudo_variance] if name in COMPLEX else []):
            for dtype in (np.float32, np.float64):
                there = asarray(x.astype(dtype)), asarray(y.astype(dtype))
                found = form(*there)
                assert type(found) is type(there[0])
                assert found.dtype == there[0].dtype
                assert tuple(found.shape) == (5, 2)
                one = float(form(x[3, 0].astype(dtype), y[1].astype(dtype)))
                moment = 9 * float(np.sum(x[3, 0] ** 2) * np.sum(y[1] ** 2)) ** 2  # bounds T^2, of which parts cancel
                assert abs(float(found[3, 1]) - one) <= 2 * eps(found) * abs(one) + 64 * U * (1 + moment)


def test_powers_beyond_the_dtype_are_infinite_and_moments_beyond_float64_are_refused(asarray):
    x = asarray(np.full((1, 2), 1e60))
    for name in WEIGHTS:
        law = PolynomialSketch(3, 4, name)
        assert float(law.variance(x, x)[0]) == float(law.second_moment(x, x)[0]) == math.inf
        with pytest.raises(ValueError, match=r"x, y: finite, but their moments overflow .*float64"):
            law.variance(1e40 * x, x)
    assert float(PolynomialSketch(6, 4).mean(x, x)[0]) == math.inf
    single = asarray(np.full((1, 2), 1e10, dtype=np.float32))  # moments are taken in float64
    assert float(PolynomialSketch(1, 4, "gaussian").variance(single, single)[0]) == math.inf
    with pytest.raises(ValueError, match=r"d, the last axis of x and y: expected an int >= 1, found 0"):
        law.variance(x[:, :0], x[:, :0])
    with pytest.raises(ValueError, match="y: expected finite entries, found nan"):
        law.mean(x, math.nan * x)
    with pytest.raises(ValueError, match=r"x, y: expected \(\.\.\., d\) with one d"):
        law.mean(x, x[:, :1])


# Draws


def naive(phi: SketchDraw, x: np.ndarray) -> np.ndarray:
    """The definition, one number at a time, for one vector: complex features, or real ones."""
    degree, dim, rows = phi.degree, phi.dim, phi.weights.rows(phi.n_features)
    entries = phi.entries.astype(np.float64)
    weights = entries[:, 0] + 1j * entries[:, 1] if phi.weights.complex else entries[:, 0]  # (p, K, d)
    if phi.weights.structure == "tensorsketch":
        out = np.zeros(rows)
        for index in itertools.product(range(dim), repeat=degree):
            bucket = sum(int(phi.places[i, c]) for i, c in enumerate(index)) % rows
            out[bucket] += math.prod(float(weights[i, 0, c] * x[c]) for i, c in enumerate(index))
        return out
    out = np.ones(rows, dtype=weights.dtype)
    size = next_power_of_two(dim)
    for i, j in itertools.product(range(degree), range(rows)):
        row = weights[i, j] if phi.weights.structure == "independent" else None
        if row is None:
            block, place = divmod(int(phi.places[i, j]), size)
            row = [(-1) ** (place & c).bit_count() * weights[i, block, c] for c in range(dim)]
        out[j] *= sum(w * entry for w, entry in zip(row, x, strict=True))
    return out / math.sqrt(rows)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(("degree", "n_features", "dim"), [(1, 6, 5), (2, 20, 5), (3, 4, 3), (3, 9, 4), (2, 4, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_are_those_of_the_definition(asarray, rng, name, degree, n_features, dim, dtype):
    n_features += name in COMPLEX and n_features % 2
    phi = PolynomialSketch(degree, n_features, name).draw(dim, rng)
    x = rng.normal(size=(4, dim)).astype(dtype)
    there = asarray(x)
    phi(asarray(x.astype(np.float64 if dtype == np.float32 else np.float32)))  # what is kept is kept for each dtype
    found = phi(there)
    assert type(found) is type(there)
    assert found.dtype == there.dtype
    assert tuple(found.shape) == (4, n_features) == (4, phi.n_features)
    exact = np.stack([naive(phi, row) for row in x.astype(np.float64)])
    # Every <w, x> errs by (d + 2) u |w|_inf |x|_1, every product by a few more; an FFT by less, in absolute terms.
    top = np.max(np.abs(phi.entries)) * np.sum(np.abs(x.astype(np.float64)), axis=-1, keepdims=True)
    bound = 4 * (degree * (dim + 16)) * eps(there) * (math.sqrt(2) * top) ** degree
    if name in COMPLEX:
        assert to_host(phi.complex(there)).dtype == (np.complex64 if dtype == np.float32 else np.complex128)
        assert np.all(np.abs(to_host(phi.complex(there)) - exact) <= bound)
        exact = np.concatenate([exact.real, exact.imag], axis=-1)
    assert np.all(np.abs(to_host(found) - exact) <= bound)
    assert np.array_equal(to_host(phi.merged(there)), to_host(found))


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("shape", [(3,), (2, 1), (2, 3)])
def test_leading_axes_hold_the_maps_one_by_one(asarray, rng, name, shape):
    phi = PolynomialSketch(2, 8, name).draw(3, rng, shape=shape)
    assert phi.shape == shape
    x = rng.normal(size=(3, 5, 3))
    found = to_host(phi(asarray(x)))
    assert found.shape == (*np.broadcast_shapes(shape, (3,)), 5, 8)
    for place in itertools.product(*map(range, found.shape[:-2])):
        mine = tuple(min(i, n - 1) for i, n in zip(place[-len(shape) :], shape, strict=True))
        one = dataclasses.replace(phi, entries=phi.entries[mine], places=phi.places[mine])
        alone = one(x[place[-1]])
        assert np.allclose(found[place], alone, rtol=0, atol=64 * U * np.abs(alone).max())
    plain = to_host(phi(asarray(x[0])))
    assert plain.shape == (*shape, 5, 8)
    assert phi(np.zeros((0, 3))).shape == (*shape, 0, 8)
    assert PolynomialSketch(2, 8, name).draw(3, rng, shape=(0,))(x[0]).shape == (0, 5, 8)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_a_draw_are_uniform_and_of_variance_one(name):
    weights = WEIGHTS[name]
    entries = sketch(name, 2, 4, 3, rng=0, shape=(5000,)).entries
    assert np.all(np.abs(np.mean(entries, axis=0)) <= 8 / math.sqrt(5000))  # |w| <= 1 or normal: 8 standard errors
    squares = np.sum(entries.astype(np.float64) ** 2, axis=-3)
    assert np.all(np.abs(np.mean(squares, axis=0) - 1) <= 8 * math.sqrt(2 / 5000))
    if weights.complex and not weights.gaussian:
        assert {tuple(pair) for pair in np.moveaxis(entries, -3, -1).reshape(-1, 2).tolist()} == {
            (1, 0),
            (-1, 0),
            (0, 1),
            (0, -1),
        }


def test_rows_and_hashes_of_a_draw_are_uniform():
    places = sketch("srht", 2, 3, 3, rng=0, shape=(24_000,)).places  # 3 of 4 rows in order: 24 outcomes in a level
    for level in (places[:, 0], places[:, 1]):
        _, counts = np.unique(level, axis=0, return_counts=True)
        assert counts.size == 24
        assert np.all(np.abs(counts - 1000) <= 8 * math.sqrt(1000))
    assert 0 < np.mean(np.all(places[:, 0] == places[:, 1], axis=-1)) < 0.1  # levels are independent: 1 in 24
    hashes = sketch("tensorsketch", 2, 5, 3, rng=0, shape=(5000,)).places
    assert np.all(np.abs(np.stack([np.mean(hashes == b, axis=0) for b in range(5)]) - 0.2) <= 8 * 0.4 / math.sqrt(5000))


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_same_seed_gives_the_same_map(name):
    law = PolynomialSketch(2, 8, name)
    first, again, other = law.draw(5, 5), law.draw(5, np.random.SeedSequence(5)), law.draw(5, 6)
    assert np.array_equal(first.entries, again.entries)
    assert np.array_equal(first.places, again.places)
    assert not np.array_equal(first.entries, other.entries)


@pytest.mark.parametrize("name", WEIGHTS)
def test_one_draw_serves_every_library_and_device_in_turn(name):
    phi, x = PolynomialSketch(2, 8, name).draw(5, 0), np.eye(5)
    devices = [array_api_strict.Device(device) for device in ("CPU_DEVICE", "device1", "device2")]
    for there in (x, *(array_api_strict.asarray(x, device=device) for device in devices)):
        found = phi(there)
        assert type(found) is type(there)
        assert device_of(found) == device_of(there)
        assert np.all(np.abs(to_host(found) - phi(x)) <= 64 * U)


@pytest.mark.parametrize("name", WEIGHTS)
def test_degree_0_has_constant_features_whose_squares_sum_to_1(asarray, name):
    phi = sketch(name, 0, 6, 3, rng=0, shape=(2,))
    found = to_host(phi(asarray(np.ones((5, 3)))))
    assert found.shape == (2, 5, 6)
    assert np.all(np.abs(np.sum(found**2, axis=-1) - 1) <= 16 * U)
    assert not found[..., phi.weights.rows(6) :].any()  # imaginary parts
    assert phi.multiply_adds == 0


def test_features_that_overflow_are_refused(asarray):
    x = asarray(np.full((1, 3), 1e120))
    for name in WEIGHTS:
        phi = PolynomialSketch(3, 4, name).draw(3, 0)
        with pytest.raises(ValueError, match=r"x: features overflow .*float64; scale x down or use float64"):
            phi(x)
        assert not np.all(np.isfinite(to_host(phi.merged(x))))  # not scanned
        with pytest.raises(ValueError, match="x: expected finite entries, found nan"):
            phi(asarray(np.full((1, 3), math.nan)))
        with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., n, 3\), found \(3,\)"):
            phi(asarray(np.ones(3)))
        with pytest.raises(TypeError, match="x: expected dtype float32 or float64"):
            phi(np.ones((2, 3), dtype=np.int64))
        with pytest.raises(ValueError, match="leading axes do not broadcast"):
            PolynomialSketch(3, 4, name).draw(3, 0, shape=(2,))(asarray(np.ones((3, 1, 3))))


# What it costs


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("rademacher", 3 * 5 * 12 + 2 * 12),
        ("gaussian", 3 * 5 * 12 + 2 * 12),
        ("complex-rademacher", 3 * 5 * 12 + 2 * 6 * 4),
        ("complex-gaussian", 3 * 5 * 12 + 2 * 6 * 4),
        ("srht", 3 * 2 * (5 + 8 * (2 + 4)) + 2 * 12),  # two blocks of 8 rows
        ("complex-srht", 3 * 2 * (5 + 8 * (2 + 4)) + 2 * 6 * 4),  # one block, two parts
    ],
)
def test_multiply_adds_are_counted_by_hand(name, count):
    law = PolynomialSketch(3, 12, name)
    assert law.draw(5, 0).multiply_adds == law.draw(5, 1, shape=(7,)).multiply_adds == count


def test_a_count_sketch_costs_a_product_for_each_entry_and_a_sum_for_each_collision():
    signs = np.ones((1, 1, 1, 4), dtype=np.int8)
    counted = lambda *hashes, size: SketchDraw(get_weights("tensorsketch"), size, signs, np.array([hashes]), "")
    assert counted(0, 1, 2, 3, size=5).multiply_adds == 4
    assert counted(1, 1, 2, 1, size=5).multiply_adds == 4 + 2
    assert counted(1, 1, 2, 1, size=5)(np.array([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[0, 7, 3, 0, 0]]
    both = SketchDraw(get_weights("tensorsketch"), 4, np.concatenate([signs, signs]), np.zeros((2, 4), dtype=int), "")
    # Two levels with three sums each, three real transforms of length 4, three complex products of frequencies.
    assert both.multiply_adds == 2 * (4 + 3) + 3 * 2 * 4 * 2 + 3 * 4


# Archives


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize(("degree", "shape"), [(0, ()), (2, ()), (3, (2,))])
def test_a_saved_draw_is_the_same_map_bit_for_bit(tmp_path, rng, name, degree, shape):
    phi, x = sketch(name, degree, 10, 5, rng, shape, "mine"), rng.normal(size=(4, 5))
    phi.save(tmp_path / "phi.npz")
    again = load_draw(tmp_path / "phi.npz")
    assert isinstance(again, SketchDraw)
    assert np.array_equal(again(x), phi(x))
    assert (again.name, again.weights, again.shape) == ("mine", phi.weights, shape)
    assert phi.radius == again.radius == math.inf


def change(name: str, function):
    def damage(stored):
        return stored | {name: function(stored[name])}

    return damage


def one_entry(value):
    def put(x):
        x = x.copy()
        x[(0,) * x.ndim] = value
        return x

    return put


DAMAGES = {
    "an unknown family": ("srht", "weights", lambda x: np.array("other")),
    "no text": ("srht", "weights", lambda x: np.array(1)),
    "a name that is no text": ("srht", "name", lambda x: np.array(1)),
    "no width": ("srht", "n_features", lambda x: np.array(0)),
    "a width that is no integer": ("srht", "n_features", lambda x: np.array(8.0)),
    "half a complex row": ("complex-srht", "n_features", lambda x: x - 1),
    "another width": ("rademacher", "entries", lambda x: x[..., :-1, :]),
    "no levels": ("rademacher", "entries", lambda x: x[0, 0]),
    "no length": ("rademacher", "entries", lambda x: x[..., :0]),
    "no imaginary parts": ("complex-rademacher", "entries", lambda x: x[:, :1]),
    "signs that are floats": ("srht", "entries", lambda x: x.astype(np.float64)),
    "a sign of 2": ("tensorsketch", "entries", one_entry(2)),
    "a sign of 0": ("rademacher", "entries", one_entry(0)),
    "a complex sign of two parts": ("complex-srht", "entries", lambda x: np.ones_like(x)),
    "a weight that is NaN": ("gaussian", "entries", one_entry(np.nan)),
    "Gaussian weights in float32": ("gaussian", "entries", lambda x: x.astype(np.float32)),
    "a row beyond the last": ("srht", "places", one_entry(8)),
    "a row twice": ("srht", "places", lambda x: 0 * x),
    "a row before the first": ("complex-srht", "places", one_entry(-1)),
    "a hash beyond the last": ("tensorsketch", "places", one_entry(8)),
    "a hash missing": ("tensorsketch", "places", lambda x: x[:, :-1]),
    "a single place": ("srht", "places", lambda x: np.array(0)),
    "places that are text": ("srht", "places", lambda x: x.astype(str)),
    "hashes that are floats": ("tensorsketch", "places", lambda x: x.astype(np.float64)),
    "places of independent rows": ("gaussian", "places", lambda x: np.zeros((2, 1), dtype=np.int64)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_refused_with_the_name_of_the_part(tmp_path, damage):
    name, part, function = DAMAGES[damage]
    path = tmp_path / "phi.npz"
    sketch(name, 2, 8, 5, rng=0).save(path)
    stored = read_npz(path, ("format", "weights", "n_features", "entries", "places", "name"))
    write_npz(path, **(stored | {part: function(stored[part])}))
    with pytest.raises(ValueError, match=rf"phi\.npz: {part} of the draw is damaged"):
        load_draw(path)


def test_an_archive_without_a_part_is_refused(tmp_path):
    path = tmp_path / "phi.npz"
    write_npz(path, weights=np.array("srht"))
    with pytest.raises(ValueError, match="missing n_features, entries, places, name"):
        read_sketch(path)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((0, 4), ValueError, "degree: expected an int >= 1, found 0"),
        ((2, 0), ValueError, "n_features: expected an int >= 1, found 0"),
        ((2.5, 4), ValueError, "degree: expected an int >= 1"),
        ((2, 4, "normal"), ValueError, "weights: expected one of rademacher, gaussian, .*, found 'normal'"),
        ((2, 4, ["srht"]), ValueError, "weights: expected one of"),
        ((2, 5, "complex-srht"), ValueError, "n_features: expected an even number for complex-srht weights, found 5"),
    ],
)
def test_arguments_are_checked(arguments, error, words):
    with pytest.raises(error, match=words):
        PolynomialSketch(*arguments)


def test_arguments_of_a_draw_are_checked():
    law = PolynomialSketch(2, 4)
    with pytest.raises(ValueError, match="dim: expected an int >= 1, found 0"):
        law.draw(0)
    with pytest.raises(TypeError, match="shape: expected a tuple"):
        law.draw(2, shape=[3])
    with pytest.raises(ValueError, match="degree: expected an int >= 0"):
        sketch("srht", -1, 4, 2)
    with pytest.raises(ValueError, match="n_features: expected an even number"):
        sketch("complex-gaussian", 1, 3, 2)
    for ask in (law.complex_variance, law.pseudo_variance):
        with pytest.raises(ValueError, match="weights: expected complex ones, found 'rademacher'"):
            ask(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="weights: expected complex ones, found 'rademacher'"):
        law.draw(2).complex(np.ones((1, 2)))


def test_a_law_says_what_it_is():
    assert repr(PolynomialSketch(2, 4, "srht")) == "PolynomialSketch(degree=2, n_features=4, weights='srht')"
    assert "PolynomialSketch" in PolynomialSketch(2, 4)._repr_html_()
    assert PolynomialSketch(2, 4).draw(3).name == repr(PolynomialSketch(2, 4))
    assert {name for name, weights in WEIGHTS.items() if weights.structured} == {"srht", "complex-srht", "tensorsketch"}


@pytest.mark.parametrize("name", ["srht", "complex-srht"])
@pytest.mark.parametrize(("dim", "n_features"), [(5, 12), (16, 8), (33, 70)])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_short_transforms_are_multiplied_out_and_remain_what_they_are(
    asarray, monkeypatch, name, dim, n_features, shape
):
    """Of whole numbers both ways are exact but for the factor."""
    found = []
    for longest in (0, sketch_levels.DENSE):
        monkeypatch.setattr(sketch_levels, "DENSE", longest)
        phi = sketch(name, 1, n_features, dim, rng=1, shape=shape)
        x = np.arange(2 * dim, dtype=float).reshape(2, dim)
        found.append(to_host(phi(asarray(x))) * math.sqrt(phi.weights.rows(n_features)))
    assert np.allclose(found[0], np.round(found[0]), rtol=0, atol=1e-9)
    assert np.array_equal(np.round(found[0]), np.round(found[1]))
