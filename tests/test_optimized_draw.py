"""Drawn optimized maps: features column by column, clipped queries, archives, multiply-adds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import FittedMaclaurin, Monomials, OptimizedDraw, Remainder, load_draw
from schoenbat_theory.features.optimized_draw import clip_rows
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
STORED = (
    *("format", "dim", "degrees", "scale", "bits", "radius", "name", "constant", "linear"),
    *("parents", "coordinates", "factors", "cuts", "clip", "spread"),
)


def drawn(cut=2, counts=(0, 0, 3, 2), shape=(), dim=4, clip=1.0):
    """A map of exp with this random part; queries are clipped to ``clip`` times their length."""
    kernel = st.get_kernel("exp")
    remainder = Remainder(kernel, np.array(cut), np.array(counts), np.array([0.0, 0.0, 0.5, 0.25][: len(counts)]))
    nothing = st.Prediction(np.zeros(()), np.zeros(()), np.array("by hand"), {})
    law = FittedMaclaurin(
        kernel, Monomials.subspace(dim, cut), remainder, np.array(clip), np.ones(dim), nothing, np.array(0)
    )
    return law.draw(dim, 0, shape=shape)


def signs(phi):
    """The signs of each random feature, by degree falling: a list of (degree, d)."""
    levels, start = [], 0
    bits = 2.0 * np.unpackbits(phi.remainder.bits) - 1
    for level in range(1, int(phi.remainder.degrees.max()) + 1):
        size = int(np.sum(phi.remainder.degrees >= level))
        levels.append(bits[start : start + size * phi.dim].reshape(size, phi.dim))
        start += size * phi.dim
    return [np.stack([level[j] for level in levels if j < len(level)]) for j in range(phi.remainder.n_features)]


def test_random_features_are_products_less_those_of_the_leading_coordinates(asarray, rng):
    phi, x = drawn(), rng.normal(size=(7, 4)) / 2
    found = st.to_host(phi(asarray(x)))
    assert found.shape == (7, phi.n_features) == (7, 5 + 3 + 5)
    kept = np.array([1.0, 1.0, 0.0, 0.0])
    for column, own in zip(found[:, 8:].T, signs(phi), strict=True):
        degree = len(own)
        factor = math.sqrt({2: 0.5 * 0.5 / 3, 3: 0.25 / 6 / 2}[degree])
        expected = np.prod(x @ own.T, axis=-1) - (degree == 2) * np.prod((x * kept) @ own.T, axis=-1)
        assert np.allclose(column, factor * expected, rtol=0, atol=32 * U * np.max(np.abs(x)) ** degree * 4**degree)


def test_monomials_come_first_and_sum_the_series(rng):
    phi, x, y = drawn(cut=4, counts=(0,)), *rng.normal(size=(2, 3, 4)) / 2
    t = x @ y.T
    assert phi.n_features == 15
    assert np.allclose(phi(x) @ phi(y).T, 1 + t + t**2 / 2, rtol=0, atol=64 * U * 10)


def test_queries_within_the_trusted_range_stay_and_others_are_brought_back(asarray, rng):
    phi, x = drawn(clip=1.0), rng.normal(size=(30, 4))
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    clipped = x * np.minimum(1, 1 / lengths)
    found = st.to_host(phi.queries(asarray(x)))
    assert np.allclose(found, phi(clipped), rtol=0, atol=1e3 * U)
    short = x * 0.9 / np.max(lengths)
    assert np.array_equal(phi.queries(short), phi(short))
    assert np.all(np.isfinite(phi.queries(1e100 * x)))


def test_size_weighs_coordinates_by_the_spread_of_the_keys():
    x = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    found = clip_rows(x, np.array(1.0), np.array([1.0, 0.25]))
    assert np.array_equal(found, [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])


def test_attention_clips_queries_and_not_keys(asarray, rng):
    phi, (q, k) = drawn(cut=1, clip=0.5), rng.normal(size=(2, 9, 4))
    v = rng.normal(size=(9, 2))
    weights = phi.queries(q) @ phi(k).T
    expected = weights @ v / weights.sum(axis=1, keepdims=True)
    # Sums of nine terms of eleven features, divided by their sum.
    allowed = 100 * U * (np.abs(phi.queries(q)) @ np.abs(phi(k)).T) @ (np.abs(v) + np.abs(expected).max())
    allowed = allowed / np.abs(weights.sum(axis=1, keepdims=True))
    moved = [asarray(x) for x in (q, k, v)]
    for maps in (phi, (phi, phi)):
        assert np.all(np.abs(st.to_host(st.feature_attention(*moved, maps)) - expected) <= allowed)
    unclipped = st.feature_attention(q, k, v, (lambda x: phi(x), phi))
    assert np.max(np.abs(unclipped - expected)) > 1e-3


def test_the_same_seed_gives_the_same_map_and_leading_axes_others(rng):
    x = rng.normal(size=(5, 4))
    assert np.array_equal(drawn()(x), drawn()(x))
    several = drawn(shape=(3,))
    assert several.shape == (3,)
    assert several(x).shape == (3, 5, several.n_features)
    assert np.min(np.abs(several(x)[0] - several(x)[1]).max(axis=0)[8:]) > 0


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_draw_survives_its_archive(tmp_path, rng, shape):
    phi, x = drawn(shape=shape), rng.normal(size=(5, 4))
    phi.save(tmp_path / "phi.npz")
    again = load_draw(tmp_path / "phi.npz")
    assert isinstance(again, OptimizedDraw)
    assert np.array_equal(again(x), phi(x))
    assert np.array_equal(again.queries(x), phi.queries(x))
    assert (again.name, again.radius, again.multiply_adds) == (phi.name, phi.radius, phi.multiply_adds)


@pytest.mark.parametrize(
    "damage",
    [
        {"clip": np.array(0.0)},
        {"clip": np.array(np.nan)},
        {"spread": np.ones(3)},
        {"factors": np.full(8, np.inf)},
        {"cuts": np.array(-1)},
        {"cuts": np.array([2, 2])},
        {"parents": np.arange(8)},
        {"coordinates": np.zeros(3, dtype=np.int64)},
        {"degrees": np.array([2, 3])},
        {"bits": np.zeros(1, dtype=np.uint8)},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    path = tmp_path / "phi.npz"
    drawn().save(path)
    write_npz(path, **(read_npz(path, STORED) | damage))
    with pytest.raises(ValueError, match=str(path)):
        load_draw(path)


def test_an_archive_of_more_heads_than_random_features_have_is_named(tmp_path):
    path = tmp_path / "phi.npz"
    drawn().save(path)
    stored = read_npz(path, STORED)
    heads = {
        name: np.stack([stored[name]] * 2) for name in ("parents", "coordinates", "factors", "cuts", "clip", "spread")
    }
    write_npz(path, **(stored | heads))
    with pytest.raises(ValueError, match="do not belong together"):
        load_draw(path)


def test_multiply_adds_are_those_executed():
    """One a monomial; each level four and one to join; of a subspace all that twice, and subtracted."""
    assert drawn(cut=4, counts=(0,)).multiply_adds == 14
    once = (5 + 5 + 2) * 4 + (5 + 2)
    assert drawn(cut=0).multiply_adds == 4 + once
    assert drawn(cut=2).multiply_adds == 7 + 2 * once + 5


def test_wrong_input_is_named(rng):
    phi = drawn()
    with pytest.raises(ValueError, match=r"x: expected shape \(..., n, 4\)"):
        phi(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="x: expected finite"):
        phi(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="features overflow"):
        phi(np.full((3, 4), 1e200))
    with pytest.raises(ValueError, match="do not broadcast"):
        dataclasses.replace(phi, cuts=np.array(0)).queries(np.zeros((3, 4))) @ drawn(shape=(2,))(np.zeros((3, 3, 4)))
