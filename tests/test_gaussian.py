from __future__ import annotations

import math
import re
import tracemalloc

import numpy as np
import pytest

from schoenbat_theory import gaussian_attention, gaussian_gram, threads, to_host
from schoenbat_theory.attention.gaussian import gaussian_rounding

U = 2.0**-53


def dense(x, y):
    """The definition, coordinate by coordinate: a squared distance errs by (d + 2) u of itself."""
    difference = np.asarray(x, dtype=np.float64)[..., :, None, :] - np.asarray(y, dtype=np.float64)[..., None, :, :]
    return np.exp(-np.sum(difference**2, axis=-1) / 2)


def entry_bound(x, y, u=U):
    """The bound in the docstring of gaussian_gram, and that of `dense`, r^2 e^(-r^2 / 2) <= 2 / e; second order 1 %."""
    d, centre = x.shape[-1], np.mean(y, axis=-2, keepdims=True)
    a, b = (np.linalg.norm(points - centre, axis=-1) for points in (x, y))
    relative = (d + 4) * (a[..., :, None] + b[..., None, :]) ** 2 / 2 + 2
    return 1.01 * (u * relative * dense(x, y) + U * ((d + 2) / math.e + 2))


def attention_bound(q, k, v, u=U):
    """Of weights, as above, and of sums of m products: m u each."""
    m = k.shape[-2]
    return (entry_bound(q, k, u) + 2 * m * u * dense(q, k)) @ np.abs(v)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gram_matrix_is_that_of_the_definition(asarray, rng, dtype):
    x, y = rng.normal(size=(7, 4)).astype(dtype), rng.normal(size=(9, 4)).astype(dtype)
    found = gaussian_gram(asarray(x), asarray(y))
    assert type(found) is type(asarray(x))
    assert found.dtype == asarray(x).dtype
    assert np.all(np.abs(to_host(found) - dense(x, y)) <= entry_bound(x, y, np.finfo(dtype).eps / 2))


@pytest.mark.parametrize("shift", [1e3, 1e6, 1e12])
def test_points_far_from_the_origin_are_as_good_as_near_ones(asarray, rng, shift):
    x, y = (shift + rng.normal(size=shape) for shape in ((7, 4), (9, 4)))
    found = to_host(gaussian_gram(asarray(x), asarray(y)))
    assert np.all(np.abs(found - dense(x, y)) <= entry_bound(x, y))


def test_the_bound_without_the_queries_is_above_the_one_with_them(rng):
    for scale in (0.1, 1.0, 10.0):
        x, y = scale * rng.normal(size=(200, 3)), rng.normal(size=(9, 3))
        y = y - np.mean(y, axis=0)
        assert np.max(entry_bound(x, y)) <= 1.01 * (gaussian_rounding(y, "y") + U * (5 / math.e + 2))


def test_the_bound_is_that_of_the_farthest_row_of_each_item(asarray):
    y = asarray(np.array([[[-1.0], [0.0], [1.0]], [[-3.0], [0.0], [3.0]]]))
    assert to_host(gaussian_rounding(y, "y")).tolist() == [U * (5 * 5 + 2), U * (5 * 37 + 2)]
    assert to_host(gaussian_rounding(y[:, :0, :], "y")).tolist() == [U * 7] * 2


def test_no_entry_exceeds_one_and_a_point_is_at_no_distance_from_itself(rng):
    x = 100 * rng.normal(size=(50, 8))
    gram = gaussian_gram(x, x)
    assert np.max(gram) <= 1
    assert np.all(1 - np.diagonal(gram) <= np.diagonal(entry_bound(x, x)))


def test_attention_is_the_sum_of_the_definition_and_is_not_normalised(asarray, rng):
    q, k, v = (rng.normal(size=shape) for shape in ((7, 4), (9, 4), (9, 3)))
    found = to_host(gaussian_attention(*map(asarray, (q, k, v))))
    assert np.all(np.abs(found - dense(q, k) @ v) <= attention_bound(q, k, v))
    ones = np.ones((9, 1))
    assert np.max(np.abs(gaussian_attention(q, k, ones) - 1)) > 0.5


def test_it_is_softmax_attention_without_its_division_up_to_lengths(rng):
    """C = D_Q^(-1/2) A D_K^(-1/2): the identity of the paper, A = exp(<q, k>), D_Q = exp(|q|^2), D_K = exp(|k|^2)."""
    q, k = rng.normal(size=(7, 4)), rng.normal(size=(9, 4))
    a, b = (np.exp(-np.sum(x * x, axis=-1) / 2) for x in (q, k))
    exponent = 4 * U * (np.linalg.norm(q, axis=-1)[:, None] + np.linalg.norm(k, axis=-1)) ** 2  # d u of each of three
    found = gaussian_gram(q, k)
    assert np.all(np.abs(found - a[:, None] * np.exp(q @ k.T) * b) <= entry_bound(q, k) + (exponent + 8 * U) * found)


@pytest.mark.parametrize(("n", "m"), [(255, 1023), (256, 1024), (257, 1025), (1, 2049), (600, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_make_the_whole(rng, n, m, masked):
    q, k, v = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), rng.normal(size=(m, 2))
    mask = np.append(rng.random(m - 1) < 0.8, True) if masked else np.ones(m, dtype=bool)
    found = gaussian_attention(q, k, v, key_mask=mask if masked else None)
    k, v = k[mask], v[mask]
    assert np.all(np.abs(found - dense(q, k) @ v) <= attention_bound(q, k, v))


def test_leading_axes_broadcast(asarray, rng):
    q, k, v = rng.normal(size=(2, 1, 5, 4)), rng.normal(size=(3, 6, 4)), rng.normal(size=(6, 2))
    mask = rng.random((3, 6)) < 0.7
    found = to_host(gaussian_attention(*map(asarray, (q, k, v)), key_mask=asarray(mask)))
    assert found.shape == (2, 3, 5, 2)
    for i in range(2):
        for j in range(3):
            one = q[i, 0], k[j][mask[j]], v[mask[j]]
            assert np.all(np.abs(found[i, j] - dense(*one[:2]) @ one[2]) <= attention_bound(*one))
    only_mask = gaussian_attention(*map(asarray, (q[0, 0], k[0], v)), key_mask=asarray(mask))
    assert tuple(only_mask.shape) == (3, 5, 2)
    assert to_host(gaussian_gram(asarray(q), asarray(k))).shape == (2, 3, 5, 6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300, 1e9])
def test_a_masked_key_is_never_looked_at_nor_in_the_mean(asarray, rng, bad):
    q, k, v = (1e9 + rng.normal(size=shape) for shape in ((3, 4), (5, 4), (5, 2)))  # hidden rows, zeros, are far away
    mask = np.array([True, False, True, True, False])
    spoiled = [np.where(mask[:, None], x, bad) for x in (k, v)]
    found = to_host(gaussian_attention(asarray(q), *map(asarray, spoiled), key_mask=asarray(mask)))
    one = q, k[mask], v[mask]
    assert np.all(np.abs(found - dense(*one[:2]) @ one[2]) <= attention_bound(*one))


def test_a_row_that_sees_no_key_is_zeros(asarray, rng):
    q, k, v = (asarray(rng.normal(size=shape)) for shape in ((3, 4), (2, 4), (2, 2)))
    none = gaussian_attention(q, k, v, key_mask=asarray(np.zeros(2, dtype=bool)))
    assert to_host(none).tolist() == [[0, 0]] * 3
    assert to_host(gaussian_attention(q, k[:0, :], v[:0, :])).tolist() == [[0, 0]] * 3
    assert tuple(gaussian_attention(q[:0, :], k, v).shape) == (0, 2)
    assert tuple(gaussian_gram(q, k[:0, :]).shape) == (3, 0)


def test_a_query_whose_squared_length_overflows_has_weight_zero(asarray):
    q, k, v = (asarray(np.array(x)) for x in ([[1e200], [-1e308]], [[1.0], [-1.0]], [[1.0], [1.0]]))
    assert to_host(gaussian_attention(q, k, v)).tolist() == [[0], [0]]
    with pytest.raises(ValueError, match="q, k, v: finite, but the sums overflow"):  # <q, k> does too
        gaussian_attention(asarray(np.array([[1e308]])), 2 * k, v)


def test_keys_too_far_apart_for_the_dtype_are_refused(asarray):
    """5 u 4 b^2 reaches 1 at b = 2.1e7 in float64 and d = 1, at 915 in float32."""
    k = np.array([[-1.0], [1.0]])
    v = np.ones((2, 1))
    for dtype, fits, too_far in (("float64", 2.1e7, 2.2e7), ("float32", 9e2, 1e3)):
        q, near, far, values = (asarray(x.astype(dtype)) for x in (k[:1], fits * k, too_far * k, v))
        gaussian_attention(q, near, values)
        with pytest.raises(
            ValueError, match=rf"k: .*found one {re.escape(f'{too_far:.3g}')} away: .*no correct digit in .*{dtype}"
        ):
            gaussian_attention(q, far, values)
        with pytest.raises(ValueError, match="y: expected rows around their mean"):
            gaussian_gram(q, far)


@pytest.mark.parametrize("points", [[[-1e200], [1e200]], [[1.7e308], [1.7e308]], [[1.7e308], [-1.7e308]]])
def test_keys_whose_squares_or_mean_overflow_are_named(asarray, points):
    q, k = asarray(np.zeros((1, 1))), asarray(np.array(points))
    with pytest.raises(ValueError, match=r"k: finite, but squared distances overflow .*float64"):
        gaussian_attention(q, k, k)
    with pytest.raises(ValueError, match=r"y: finite, but squared distances overflow .*float64"):
        gaussian_gram(q, k)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(asarray, rng, name, bad):
    arrays = {"q": rng.normal(size=(3, 4)), "k": rng.normal(size=(5, 4)), "v": rng.normal(size=(5, 2))}
    arrays[name][1, 1] = bad
    with pytest.raises(ValueError, match=rf"{name}: expected finite entries, found {bad} at index \(1, 1\)"):
        gaussian_attention(**{key: asarray(x) for key, x in arrays.items()})


def test_sums_that_overflow_are_named(asarray):
    q, v = asarray(np.zeros((1, 1))), asarray(np.full((2, 1), 1e308))
    with pytest.raises(ValueError, match="q, k, v: finite, but the sums overflow"):
        gaussian_attention(q, asarray(np.zeros((2, 1))), v)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": np.ones(4)}, ValueError, "q: expected shape"),
        ({"k": np.ones((5, 3))}, ValueError, "k: expected last axis 4 as q has"),
        ({"v": np.ones((6, 2))}, ValueError, "v: expected 5 rows as k has"),
        ({"v": np.ones((5, 2), dtype=np.float32)}, TypeError, "v: expected dtype float64 as q has, found float32"),
        ({"q": np.ones((2, 3, 4)), "k": np.ones((3, 5, 4))}, ValueError, r"q \(2,\), k \(3,\)"),
        ({"key_mask": np.ones(5)}, TypeError, "key_mask: expected booleans"),
        ({"key_mask": np.ones(4, dtype=bool)}, ValueError, r"key_mask: expected \(\.\.\., 5\), found \(4,\)"),
    ],
)
def test_wrong_arguments_are_named(change, error, words):
    right = {"q": np.ones((3, 4)), "k": np.ones((5, 4)), "v": np.ones((5, 2))}
    gaussian_attention(**right)
    with pytest.raises(error, match=words):
        gaussian_attention(**{**right, **change})


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.ones(4), np.ones((5, 4)), "x: expected shape"),
        (np.ones((3, 4)), np.ones((5, 3)), "y: expected last axis 4 as x has"),
        (np.full((3, 4), np.nan), np.ones((5, 4)), "x: expected finite entries"),
        (np.ones((2, 3, 4)), np.ones((3, 5, 4)), r"x \(2,\), y \(3,\)"),
    ],
)
def test_wrong_points_are_named(x, y, words):
    with pytest.raises(ValueError, match=words):
        gaussian_gram(x, y)


def test_memory_is_linear_in_the_number_of_tokens(rng):
    n = 4096
    q = rng.normal(size=(n, 2))
    tracemalloc.start()
    gaussian_attention(q, q, q)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 8 / 8  # all weights would be 8 times that


def test_any_number_of_cores_gives_the_same_bits(rng, monkeypatch):
    q, k, v = (rng.normal(size=(2, size, 4)).astype(np.float32) for size in (517, 1031, 1031))
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "CORES", cores)
        found.append(gaussian_attention(q, k, v))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
