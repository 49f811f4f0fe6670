"""Draws of random Maclaurin maps of other weights than signs: columns, merging, leading axes, files."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from schoenbat_theory import JoinedDraw, PositiveFeatures, RandomMaclaurin, load_draw, to_host
from schoenbat_theory.confidence import catoni_interval
from schoenbat_theory.features.sketch_moments import WEIGHTS
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
X = np.array([[3, -1, 2], [1, 2, -3], [0, 1, 1], [2, 2, 1]]) / 8
INDEPENDENT = ["gaussian", "complex-rademacher", "complex-gaussian"]
STRUCTURED = ["srht", "complex-srht", "tensorsketch"]
WIDTHS = {"geometric": 12, "released": 13, "h01": 16}
LAWS = [RandomMaclaurin("exp", width, degrees, w) for w in INDEPENDENT for degrees, width in WIDTHS.items()]
LAWS += [RandomMaclaurin("exp", 11, (3, 2, 0, 6), w) for w in [*INDEPENDENT, *STRUCTURED]]
IDS = [f"{law.weights}-{law.degrees!r}" for law in LAWS]


def column(part, x, j, pairs):
    """Feature j of an independent part by its definition: a product of projections, as real or imaginary part."""
    entries = np.asarray(part.entries, dtype=float)  # (p, c, rows, d)
    rows = part.n_features // 2 if pairs else part.n_features
    w = entries[:, 0, j % rows, :] + (1j * entries[:, 1, j % rows, :] if pairs else 0)
    value = np.prod(x @ w.T, axis=-1) / math.sqrt(rows)
    return value.imag if j >= rows else value.real


@pytest.mark.parametrize("law", [law for law in LAWS if law.weights in INDEPENDENT], ids=repr)
def test_features_are_the_products_of_the_definition(law):
    phi = law.draw(3, 0)
    a, counts = law.kernel.coefficients(40), law.degrees.expected_counts(law.n_random(3), 40)
    pairs = law.weights.startswith("complex")
    columns = []
    for part in phi.parts:
        scale = math.sqrt(a[part.degree] / counts[part.degree] * part.n_features)
        columns += [scale * column(part, X, j, pairs) for j in range(part.n_features)]
    n_zero = law.n_random(3) - len(columns)
    columns += [np.full(4, math.sqrt(a[0] / counts[0])) for _ in range(n_zero)]
    exact = law.degrees.exact_below
    columns += [np.ones(4)] * (exact > 0) + [*X.T] * (exact > 1)
    found, expected = phi(X), np.stack(columns, axis=-1)
    assert found.shape == (4, law.n_features)
    degree = max(part.degree for part in phi.parts)
    # A projection errs by (d + 2) u of the sum of its terms, here below 16; so does each of at most `degree` factors.
    assert np.all(np.abs(found - expected) <= 16 * (degree + 1) * 5 * U * np.maximum(1, np.abs(expected).max()))


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_degrees_fall_and_their_features_add_up(law):
    phi = law.draw(3, 1)
    assert [part.degree for part in phi.parts] == sorted((part.degree for part in phi.parts), reverse=True)
    assert all(part.degree > 0 for part in phi.parts)
    assert phi.n_features == law.n_features
    assert phi.radius == law.kernel.radius
    assert phi.picks is None
    assert repr(law) == phi.name


@pytest.mark.parametrize("law", LAWS, ids=IDS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_merged_features_have_the_same_inner_products(asarray, law, shape):
    phi = law.draw(3, 2, shape=shape)
    full, merged = (to_host(f(asarray(X))) for f in (phi, phi.merged))
    assert full.shape == (*shape, 4, law.n_features)
    assert merged.shape[-1] == law.n_features - max(phi.constants.shape[-1] - 1, 0)
    bound = 8 * law.n_features * U * (np.abs(full) @ np.swapaxes(np.abs(full), -1, -2))
    difference = full @ np.swapaxes(full, -1, -2) - merged @ np.swapaxes(merged, -1, -2)
    assert np.all(np.abs(difference) <= bound)


def test_constants_are_merged_into_one():
    phi = RandomMaclaurin("exp", 11, (3, 2, 0, 6), "srht").draw(3, 0)
    assert phi(X).shape == (4, 11)
    assert phi.merged(X).shape == (4, 9)
    assert np.all(phi.merged(X)[:, 8] == 1)
    one = RandomMaclaurin("exp", 13, "released", "gaussian").draw(3, 0)
    assert one.merged(X).shape == (4, 13)  # its one constant is exact already


@pytest.mark.parametrize("law", [law for law in LAWS if law.weights in INDEPENDENT], ids=repr)
def test_leading_axes_hold_independent_maps(asarray, law):
    phi = law.draw(3, 3, shape=(400, 2))
    both = to_host(phi(asarray(X[:2])))
    assert both.shape == (400, 2, 2, law.n_features)
    estimates, mean = np.sum(both[..., 0, :] * both[..., 1, :], axis=-1), float(law.mean(X[0], X[1]))
    low, high = catoni_interval(estimates.ravel(), float(law.variance(X[0], X[1])), 1e-9)
    assert low <= mean <= high
    # Independent: the mean of the product of two maps is the product of means (variance at most that of a product).
    product = (estimates[:, 0] - mean) * (estimates[:, 1] - mean)
    low, high = catoni_interval(product, float(law.variance(X[0], X[1])) ** 2, 1e-9)
    assert low <= 0 <= high


@pytest.mark.parametrize("weights", INDEPENDENT)
def test_each_map_takes_the_first_rows_of_each_degree(weights):
    phi = RandomMaclaurin("exp", 12, "geometric", weights).draw(3, 4, shape=(6,))
    out, scale = phi(X), dict(zip((part.degree for part in phi.parts), phi.factors, strict=True))
    seen = set()
    for i in range(6):
        columns = []
        taken = phi.picks[i]
        start = 0
        for part in phi.parts:
            mine = taken[(taken >= start) & (taken < start + part.n_features)] - start
            pair = 1 + weights.startswith("complex")
            half = mine.size // pair
            expected = [*range(half), *(range(part.n_features // 2, part.n_features // 2 + half) if pair == 2 else ())]
            assert mine.tolist() == expected
            columns.append(scale[part.degree] * part(X)[i][:, mine])
            start += part.n_features
            seen.add((part.degree, half))
        fillers = np.full((4, int(np.sum(taken == start))), phi.filler)
        assert np.array_equal(out[i, :, : taken.size], np.concatenate([*columns, fillers], axis=-1))
        assert np.all(out[i, :, taken.size :] == phi.constants[i])
    assert len(seen) > len(phi.parts)  # the maps do differ


def test_a_draw_with_leading_axes_broadcasts_with_those_of_its_argument(asarray):
    law = RandomMaclaurin("exp", 12, "h01", "complex-rademacher")
    phi, x = law.draw(3, 5, shape=(2, 1)), asarray(np.stack([X, X[::-1], 2 * X]))
    found = to_host(phi(x))
    assert found.shape == (2, 3, 4, 12)
    assert np.array_equal(found[1, 0], found[1, 1][::-1])


@pytest.mark.parametrize("law", LAWS, ids=IDS)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_saved_draw_is_the_same_map(tmp_path, law, shape):
    phi = law.draw(3, 6, shape=shape)
    phi.save(tmp_path / "phi.npz")
    again = load_draw(tmp_path / "phi.npz")
    assert isinstance(again, JoinedDraw)
    assert np.array_equal(again(X), phi(X))
    assert np.array_equal(again.merged(X), phi.merged(X))
    for name in ("radius", "name", "n_features", "shape", "dim", "multiply_adds"):
        assert getattr(again, name) == getattr(phi, name)


DAMAGE = {
    "no dim": {"dim": np.array(0)},
    "dim of floats": {"dim": np.array(3.0)},
    "another dim": {"dim": np.array(4)},
    "factors of another number": {"factors": np.ones(40)},
    "negative factors": {"factors": -np.ones(3)},
    "factors of integers": {"factors": np.ones(3, dtype=int)},
    "filler without end": {"filler": np.array(np.inf)},
    "picks of floats": {"picks": np.zeros((3, 11))},
    "picks beyond the parts": {"picks": np.full((3, 11), 1000)},
    "picks before the parts": {"picks": np.full((3, 11), -1)},
    "picks of other maps": {"picks": np.zeros((2, 11), dtype=int)},
    "constants of other maps": {"constants": np.ones((2, 1))},
    "constants without axes": {"constants": np.array(1.0)},
    "constants of NaN": {"constants": np.full((3, 1), np.nan)},
    "two linear parts": {"linear": np.ones(2)},
    "no radius": {"radius": np.array(0.0)},
    "a name of bytes": {"name": np.array(b"phi")},
    "a part of noise": {"part_0": np.arange(200, dtype=np.uint8)},
    "a part of floats": {"part_0": np.ones(3)},
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_an_archive_that_is_no_draw_is_refused(tmp_path, change):
    path = tmp_path / "phi.npz"
    phi = RandomMaclaurin("exp", 12, "geometric", "gaussian").draw(3, 0, shape=(3,))
    phi.save(path)
    names = ("format", "dim", "factors", "filler", "picks", "constants", "linear", "radius", "name")
    stored = read_npz(path, (*names, *(f"part_{i}" for i in range(len(phi.parts)))))
    write_npz(path, **{**stored, **change})
    with pytest.raises(ValueError, match=r"phi\.npz") as raised:
        load_draw(path)
    assert "part.npz" not in str(raised.value)


def test_constants_of_other_maps_are_refused_without_picks(tmp_path):
    path = tmp_path / "phi.npz"
    phi = RandomMaclaurin("exp", 11, (3, 2, 0, 6), "srht").draw(3, 0, shape=(3,))
    dataclasses.replace(phi, constants=phi.constants[:2]).save(path)
    with pytest.raises(ValueError, match=r"phi\.npz: parts, picks and constants of the draw do not belong together"):
        load_draw(path)


def test_multiply_adds_are_those_of_parts_factors_and_the_linear_part():
    law = RandomMaclaurin("exp", 12, "h01", "gaussian")
    phi = law.draw(3, 0)
    sizes = [(part.degree, part.n_features) for part in phi.parts]
    # d to a projection, one to each further product of a feature, one to its factor.
    assert phi.multiply_adds == sum(n * width * 3 + (n - 1) * width + width for n, width in sizes) + 3
    assert RandomMaclaurin("exp", 3, (3,), "srht").draw(3, 0).multiply_adds == 0


def test_multiply_adds_of_signs_and_of_positive_features():
    phi = RandomMaclaurin("exp", 11, (3, 2, 0, 6)).draw(5, 0)
    assert phi.multiply_adds == (8 + 6 + 6) * 5 + (6 + 6)
    # A constant, the linear part of 5, and as many levels as there are degrees.
    exact = RandomMaclaurin("exp", 10, "h01").draw(5, 0)
    degrees = exact.degrees.tolist()
    assert exact.multiply_adds == sum(degrees) * 5 + sum(n - 1 for n in degrees) + 5
    # Two maps, of degrees (2, 1) and (1, 1): their second level has an offset.
    both = dataclasses.replace(
        RandomMaclaurin("exp", 2, (0, 1, 1)).draw(5, 0, shape=(2,)), degrees=np.array([[2, 1], [1, 1]])
    )
    assert both.multiply_adds == 3 * 5 + 1 + 1
    assert PositiveFeatures(8).draw(5, 0).multiply_adds == 8 * 5 + 6 + 3 * 8
    assert PositiveFeatures(8, hyperbolic=True).draw(5, 0).multiply_adds == 4 * 5 + 4 + 6 + 3 * 8


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones((2, 4)), r"x: expected shape \(\.\.\., n, 3\), found \(2, 4\)"),
        (np.ones(3), r"x: expected shape \(\.\.\., n, 3\), found \(3,\)"),
        (np.full((1, 3), np.nan), "x: expected finite entries, found nan"),
        (np.full((1, 3), 1e200), "x: features overflow float64"),
        (np.ones((5, 2, 3)), r"draw \(2,\), x \(5,\)"),
    ],
)
def test_wrong_arguments_are_named(x, words):
    phi = RandomMaclaurin("exp", 11, (3, 2, 0, 6), "gaussian").draw(3, 0, shape=(2,))
    with pytest.raises(ValueError, match=words):
        phi(x)


@pytest.mark.parametrize("law", LAWS, ids=IDS)
def test_library_and_dtype_are_kept(asarray, law):
    for dtype, shape in itertools.product((np.float32, np.float64), ((), (2,))):
        x = asarray(X.astype(dtype))
        for out in (law.draw(3, 0, shape=shape)(x), law.draw(3, 0, shape=shape).merged(x)):
            assert type(out) is type(x)
            assert out.dtype == x.dtype


def test_all_families_are_here():
    assert {law.weights for law in LAWS} == set(WEIGHTS) - {"rademacher"}
