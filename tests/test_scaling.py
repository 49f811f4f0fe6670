from __future__ import annotations

import math

import numpy as np
import pytest

from schoenbat_theory import post_scale, pre_scale, to_host, unit_norm
from schoenbat_theory.arrays import eps

SIZES = [1.0, 1e-30, 1e30]


def bound(x: np.ndarray) -> float:
    """How far a computed pre_scale(x) may lie from the true one, in units of u.

    With entries of at most 1, the mean of d numbers and the difference err by (d + 2) u, so the vector by
    sqrt(d) (d + 2) u, before it is divided by its length.
    """
    d = x.shape[-1]
    unit = x / np.max(np.abs(x), axis=-1, keepdims=True)
    length = np.linalg.norm(unit - unit.mean(axis=-1, keepdims=True), axis=-1).min()
    return 2 * math.sqrt(d) * (d + 4) / length + d


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_every_token_has_length_one_and_mean_zero(asarray, rng, dtype, size):
    x = (size * rng.normal(size=(2, 5, 8))).astype(dtype)
    there = asarray(x)
    out = pre_scale(there)
    assert type(out) is type(there)
    assert out.dtype == there.dtype
    out, u = to_host(out).astype(np.float64), eps(there)
    assert np.all(np.abs(np.linalg.norm(out, axis=-1) - 1) <= u * bound(x))
    assert np.all(np.abs(out.mean(axis=-1)) <= u * bound(x))


@pytest.mark.parametrize(("a", "b"), [(2.0, 0.0), (3.7, 0.0), (1.0, 5.0), (0.01, -3.0)])
def test_a_shift_and_a_positive_factor_change_nothing(rng, a, b):
    x = rng.normal(size=(6, 8))
    u = eps(x)
    assert np.all(np.abs(pre_scale(a * x + b) - pre_scale(x)) <= u * (bound(x) + 3 * bound(a * x + b)))
    assert np.all(np.abs(pre_scale(-x) + pre_scale(x)) == 0)


def test_a_layer_normalisation_before_it_changes_nothing(rng):
    x = rng.normal(size=(6, 8))
    normal = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    assert np.all(np.abs(pre_scale(normal) - pre_scale(x)) <= eps(x) * (bound(x) + 3 * bound(normal)))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.3, 1e300, 1e-300, 5e-324])
@pytest.mark.parametrize("d", [1, 2, 3, 7, 64, 1000])
def test_a_constant_token_has_no_direction(asarray, value, d):
    x = np.stack([np.arange(d) + 1.0, np.full(d, value)]) if d > 1 else np.array([[value]])
    with pytest.raises(ValueError, match=rf"x: token \({len(x) - 1},\) is constant over its {d} features"):
        pre_scale(asarray(x))


def test_a_token_that_differs_by_rounding_alone_has_no_direction(asarray):
    x = np.array([[0.3, 0.1 + 0.2, 0.3]])
    assert x[0, 0] != x[0, 1]
    with pytest.raises(ValueError, match=r"x: token \(0,\) is constant"):
        pre_scale(asarray(x))
    for size in (1.0, 1e-200, 1e200):  # a difference of many roundings is one, where squares overflow too
        pre_scale(asarray(size * np.array([[0.3, 0.3 + 1e-12, 0.3]])))


def test_a_masked_token_is_zeros_whatever_it_holds(asarray):
    x = np.array([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0], [np.nan, np.inf, 0.0]])
    mask = np.array([True, False, False])
    out = to_host(pre_scale(asarray(x), key_mask=asarray(mask)))
    assert np.array_equal(out[0], pre_scale(x[:1])[0])
    assert np.all(out[1:] == 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_is_named(asarray, bad):
    x = np.array([[1.0, 2.0, 3.0], [1.0, bad, 3.0]])
    with pytest.raises(ValueError, match=rf"x: expected finite entries, found {bad} at index \(1, 1\)"):
        pre_scale(asarray(x))


def test_wrong_shapes_and_masks_are_named(asarray):
    for shape in ((3,), (2, 0)):
        with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., n, d\)"):
            pre_scale(asarray(np.ones(shape)))
    x = asarray(np.array([[1.0, 2.0]]))
    with pytest.raises(TypeError, match="key_mask: expected booleans"):
        pre_scale(x, key_mask=asarray(np.ones(1)))
    with pytest.raises(ValueError, match=r"key_mask: expected \(\.\.\., 1\), found \(2,\)"):
        pre_scale(x, key_mask=asarray(np.ones(2, dtype=bool)))
    assert tuple(pre_scale(asarray(np.ones((0, 3)))).shape) == (0, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_size_that_the_dtype_holds_keeps_the_direction(asarray, rng, dtype):
    direction, info = rng.normal(size=(2, 8)), np.finfo(dtype)
    one = pre_scale(direction.astype(dtype))
    for power in range(int(np.log2(info.tiny)), info.maxexp - 2, 2 if dtype == "float32" else 9):
        x = (direction * 2.0**power).astype(dtype)  # a power of 2 moves no bit of a normal number
        error = np.abs(to_host(pre_scale(asarray(x))).astype(np.float64) - one)
        # Below the normal numbers entries lose bits themselves: half the smallest number.
        lost = info.smallest_subnormal / (2.0**power * np.linalg.norm(direction, axis=-1)[:, None])
        assert np.all(error <= np.finfo(dtype).eps * bound(direction) + 32 * lost), power


def test_one_token_of_extreme_size_leaves_the_others_as_they_are_bit_for_bit(asarray, rng):
    x = rng.normal(size=(3, 5, 8))
    extreme, mask = x.copy(), np.ones((3, 5), dtype=bool)
    extreme[1, 2] *= 1e-200
    extreme[2, 4], mask[2, 4] = 1e300, False
    out, plain = to_host(pre_scale(asarray(extreme), key_mask=asarray(mask))), to_host(pre_scale(asarray(x)))
    assert np.all(out[2, 4] == 0)
    assert np.all(np.abs(out[1, 2] - plain[1, 2]) <= 2 * eps(x) * bound(x))
    others = np.ones((3, 5), dtype=bool)
    others[1, 2] = others[2, 4] = False
    assert np.array_equal(out[others], plain[others])


def test_neighbouring_huge_and_tiny_numbers_have_a_direction():
    for size in (1e308, 1e-308):
        assert pre_scale(size * np.array([[1.0, -1.0]])).tolist() == pre_scale(np.array([[1.0, -1.0]])).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [*SIZES, 1e-42])
def test_unit_norm_keeps_the_direction_and_makes_the_length_one(asarray, rng, dtype, size):
    direction = rng.normal(size=(2, 5, 8))
    x = (size * direction).astype(dtype)
    there = asarray(x)
    out = unit_norm(there)
    assert type(out) is type(there)
    assert out.dtype == there.dtype
    # d squares, their sum, a root and two quotients; 1e-42 is a subnormal number in float32, itself taken as it is.
    x, out, allowed = x.astype(np.float64), to_host(out).astype(np.float64), eps(there) * (8 + 6)
    assert np.all(np.abs(out - x / np.linalg.norm(x, axis=-1, keepdims=True)) <= allowed)


def test_a_token_of_zeros_has_no_direction_to_keep(asarray):
    x = np.ones((2, 3, 4))
    x[1, 2] = 0
    with pytest.raises(ValueError, match=r"x: token \(1, 2\) is zero, and has no direction to keep"):
        unit_norm(asarray(x))
    x[0, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"x: expected finite entries, found nan at index \(0, 1, 1\)"):
        unit_norm(asarray(x))
    for shape in ((3,), (2, 0)):
        with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., n, d\)"):
            unit_norm(asarray(np.ones(shape)))
    assert tuple(unit_norm(asarray(np.ones((0, 3)))).shape) == (0, 3)


def test_post_scale_is_gamma_a_to_the_beta(asarray):
    a = np.array([[0.0, 1.0, 4.0], [0.25, 9.0, 16.0]])
    assert to_host(post_scale(asarray(a), 3.0, 0.5)).tolist() == [[0, 3, 6], [1.5, 9, 12]]
    assert to_host(post_scale(asarray(a), np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]))).tolist() == [
        [1, 2, 48],
        [1, 18, 768],
    ]
    assert to_host(post_scale(asarray(-a), 1.0, 3.0)).tolist() == (-(a**3)).tolist()  # a whole power has a sign
    assert post_scale(asarray(a.astype(np.float32)), 2.0, 0.5).dtype == asarray(a.astype(np.float32)).dtype


def test_the_signed_power_keeps_the_sign(asarray, rng):
    a = rng.normal(size=(3, 4))
    out = to_host(post_scale(asarray(a), 2.0, 0.5, signed=True))
    assert np.array_equal(np.sign(out), np.sign(a))
    assert np.array_equal(np.abs(out), post_scale(np.abs(a), 2.0, 0.5))
    assert np.array_equal(to_host(post_scale(asarray(a), 2.0, 1.0, signed=True)), 2 * a)


@pytest.mark.parametrize(
    ("a", "gamma", "beta", "words"),
    [
        (
            [-1.0, 4.0, -2.0],
            1.0,
            0.5,
            "a: 2 negative entries have no real power beta = 0.5; signed=True keeps the sign",
        ),
        ([0.0, 1.0], 1.0, -1.0, r"a: 0 to the negative power beta = -1\.0 is not finite"),
        ([1e200], 1.0, 2.0, "a: gamma a.beta overflows .*float64"),
        ([1.0], np.inf, 1.0, "gamma: expected finite numbers, found inf"),
        ([1.0], 1.0, np.nan, "beta: expected finite numbers, found nan"),
        ([np.nan], 1.0, 1.0, "a: expected finite entries, found nan"),
        ([1.0], "a", 1.0, "gamma: expected real numbers, found 'a'"),
        ([1.0], 1.0, 1j, "beta: expected real numbers, found 1j"),
        ([1.0, 2.0], np.ones(3), 1.0, r"gamma: expected a number or \(2,\), found \(3,\)"),
    ],
)
def test_a_power_that_is_no_number_is_refused(asarray, a, gamma, beta, words):
    with pytest.raises((TypeError, ValueError), match=words):
        post_scale(asarray(np.array([a])), gamma, beta)
