from __future__ import annotations

import numpy as np
import pytest

from schoenbat_theory import hadamard, to_host
from schoenbat_theory.features.hadamard import hadamard_multiply_adds


def matrix(n: int) -> np.ndarray:
    """Sylvester's construction, entry by entry: -1 to the number of ones that two indices share."""
    return np.array([[(-1.0) ** (i & j).bit_count() for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_transform_is_the_product_with_sylvesters_matrix(asarray, rng, n, dtype):
    x = rng.integers(-9, 10, size=(2, 3, n)).astype(dtype)  # small integers: no rounding
    there = asarray(x)
    found = hadamard(there)
    assert type(found) is type(there)
    assert found.dtype == there.dtype
    assert np.array_equal(to_host(found), x @ matrix(n))


def test_the_transform_twice_is_n_times_the_vector(rng):
    x = rng.integers(-9, 10, size=32).astype(np.float64)
    assert np.array_equal(hadamard(hadamard(x)), 32 * x)


def test_each_row_keeps_to_itself():
    x = np.ones((3, 4))
    x[1, 2] = np.nan
    found = hadamard(x)
    assert np.isnan(found[1]).all()
    assert np.array_equal(found[[0, 2]], [[4, 0, 0, 0]] * 2)
    assert hadamard(np.ones((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(("n", "count"), [(1, 2), (2, 6), (8, 8 * 6), (64, 64 * 16), (128, 128 * 24)])
def test_multiply_adds_are_those_of_two_small_products(n, count):
    assert hadamard_multiply_adds(n) == count


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 12)])
def test_a_length_that_is_no_power_of_two_is_refused(asarray, shape):
    with pytest.raises(ValueError, match=r"x: expected \(\.\.\., n\), n a power of two, found \("):
        hadamard(asarray(np.ones(shape)))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="x: expected dtype float32 or float64, found int64"):
        hadamard(np.ones(4, dtype=np.int64))
