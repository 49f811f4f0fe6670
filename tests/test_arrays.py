from __future__ import annotations

import math
import sys
from fractions import Fraction

import array_api_compat
import numpy as np
import pytest

from schoenbat_theory.arrays import (
    as_generator,
    as_reals,
    asarray_like,
    backend_asarray,
    broadcast_shapes,
    check_finite,
    check_floating,
    check_mask,
    device_of,
    eps,
    matmul_into,
    require_bool,
    require_int,
    require_real,
    to_host,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_host_and_back_is_the_identity(asarray, dtype):
    host = np.arange(6, dtype=dtype).reshape(2, 3) / 7
    there = asarray(host)
    assert to_host(there).dtype == host.dtype
    assert np.array_equal(to_host(there), host)
    again = asarray_like(host, there)
    assert type(again) is type(there)
    assert device_of(again) == device_of(there)
    assert again.dtype == there.dtype


def test_values_beyond_float32_arrive_as_infinity():
    assert float(asarray_like(1e300, np.ones(1, dtype=np.float32))) == np.inf


def test_unit_roundoff_is_the_largest_number_that_vanishes_beside_one(asarray):
    for dtype in (np.float32, np.float64):
        u = eps(asarray(np.ones(1, dtype=dtype)))
        assert dtype(1) + dtype(u) == dtype(1)  # a tie, rounded to even
        assert dtype(1) + dtype(2 * u) > dtype(1)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1.0], "y: expected an array, found list"),
        (np.float64(1), "y: expected an array, found the scalar"),
        (np.ma.ones(2), "y: expected a plain array, found MaskedArray"),
        (np.ones((2, 2)).view(np.matrix), "y: expected an array, found matrix"),
        (np.ones(1, dtype=int), "y: expected dtype float32 or float64, found int64"),
        (np.ones(1, dtype=np.float16), "y: expected dtype float32 or float64, found float16"),
        (np.ones(1, dtype=complex), "y: expected dtype float32 or float64, found complex128"),
        (np.ones(1, dtype=np.float32), "y: expected dtype float64 as x has, found float32"),
    ],
)
def test_a_wrong_array_is_named_with_what_was_found(bad, words):
    with pytest.raises(TypeError, match=words):
        check_floating(x=np.ones(1), y=bad)


def test_arrays_of_two_libraries_or_devices_are_refused(asarray):
    here, there = np.ones(1), asarray(np.ones(1))
    if type(there) is not np.ndarray:
        with pytest.raises(TypeError, match="y: expected an array of the same library as x"):
            check_floating(x=here, y=there)
    if "strict" in type(there).__module__:
        other = array_api_compat.array_namespace(there).asarray([1.0])
        with pytest.raises(TypeError, match="y: expected device"):
            check_floating(x=there, y=other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_with_its_place(asarray, bad):
    x = np.zeros((2, 3))
    check_finite(x=asarray(x))
    x[1, 2] = bad
    with pytest.raises(ValueError, match=rf"y: expected finite entries, found {bad} at index \(1, 2\)"):
        check_finite(x=asarray(np.zeros(1)), y=asarray(x))


def test_masks_are_booleans_of_the_right_length(asarray):
    x = asarray(np.ones(3))
    check_mask("mask", asarray(np.ones((2, 3), dtype=bool)), x, 3)
    with pytest.raises(ValueError, match=r"mask: expected \(\.\.\., 3\), found \(2,\)"):
        check_mask("mask", asarray(np.ones(2, dtype=bool)), x, 3)
    for bad in (asarray(np.ones(3, dtype=int)), [True] * 3, np.bool_(True)):
        with pytest.raises(TypeError, match="mask: expected booleans"):
            check_mask("mask", bad, x, 3)


def test_masks_of_another_library_or_device_are_refused(asarray):
    here, there = np.ones(3), asarray(np.ones(3))
    if type(there) is not np.ndarray:
        with pytest.raises(TypeError, match=r"mask: expected booleans .* of numpy, found"):
            check_mask("mask", asarray(here > 0), here, 3)
    if "strict" in type(there).__module__:
        other = array_api_compat.array_namespace(there).asarray([True] * 3)
        with pytest.raises(TypeError, match="mask: expected device"):
            check_mask("mask", other, there, 3)


def test_shapes_that_do_not_broadcast_are_all_shown():
    assert broadcast_shapes(q=(2, 1), k=(3,)) == (2, 3)
    with pytest.raises(ValueError, match=r"q \(2,\), k \(3,\)"):
        broadcast_shapes(q=(2,), k=(3,))


def test_a_seed_a_sequence_and_a_generator_give_the_same_numbers():
    numbers = [as_generator(rng).random(4) for rng in (7, np.random.SeedSequence(7), np.random.default_rng(7))]
    assert np.array_equal(numbers[0], numbers[1])
    assert np.array_equal(numbers[0], numbers[2])
    generator = np.random.default_rng(0)
    assert as_generator(generator) is generator


@pytest.mark.parametrize("bad", ["seed", -1, 1.5])
def test_a_wrong_rng_is_named(bad):
    with pytest.raises((TypeError, ValueError), match="rng: expected"):
        as_generator(bad)


def test_a_number_is_itself_and_anything_else_is_named():
    assert require_int("n", np.int32(3), 1) == 3
    assert require_real("x", Fraction(1, 2), "a number") == require_real("x", np.float32(0.5), "a number") == 0.5
    assert require_real("x", 10**400, "a number", lambda x: x > 0) == math.inf
    assert require_bool("b", np.True_) is True
    for bad, error in [(0, ValueError), (1.0, ValueError), (True, ValueError), ("a", TypeError), (None, TypeError)]:
        with pytest.raises(error, match=f"n: expected an int >= 1, found {bad!r}"):
            require_int("n", bad, 1)
    for bad, error in [(np.nan, ValueError), (-(10**400), ValueError), ("1", TypeError), (1j, TypeError)]:
        with pytest.raises(error, match="x: expected a number, found"):
            require_real("x", bad, "a number")
    for bad in ("no", 1, None, np.ones(2, dtype=bool)):
        with pytest.raises(TypeError, match="b: expected True or False, found"):
            require_bool("b", bad)


def test_real_numbers_of_any_library_come_to_the_host_and_others_are_refused(asarray):
    assert as_reals("x", asarray(np.ones(2))).tolist() == as_reals("x", [Fraction(1), 1]).tolist() == [1, 1]
    for bad in (1j, "a", "1", [1, [2, 3]], None, object()):
        with pytest.raises(TypeError, match="x: expected real numbers, found"):
            as_reals("x", bad)


def test_an_unknown_or_missing_backend_is_one_sentence():
    with pytest.raises(ValueError, match="backend: expected 'numpy' or 'cupy', found 'torch'"):
        backend_asarray("torch")


def test_without_a_gpu_cupy_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match="backend cupy: CuPy is not installed"):
        backend_asarray("cupy")


def test_a_product_is_written_into_a_view_and_nowhere_else(asarray, rng):
    a, b, out = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5)), np.full((2, 6, 5), 7.0)
    whole, x, y = map(asarray, (out, a, b))
    matmul_into(whole[:, 1:4, :], x, y)
    found = to_host(whole)
    assert np.array_equal(found[:, 1:4, :], to_host(x @ y))
    assert np.all(found[:, [0, 4, 5], :] == 7.0)
