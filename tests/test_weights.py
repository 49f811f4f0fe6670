"""Weights of keys: only differences of logarithms count, and a row without a key has no weight."""

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.features.weights import hide, key_weights, normalised, top_off

INF = np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_log_weight_is_taken_off(asarray, dtype):
    given = np.array([[1.0, 3.0, -INF], [-INF, -INF, -INF], [1e30, 1e30, -1e30]], dtype=dtype)
    found = top_off(asarray(given))
    assert found.dtype == asarray(given).dtype
    expected = np.array([[-2.0, 0.0, -INF], [-INF, -INF, -INF], [0.0, 0.0, -2e30]], dtype=dtype)
    assert np.array_equal(st.to_host(found), expected)


def test_weights_sum_to_one_or_to_nothing(asarray, rng):
    given = rng.normal(size=(4, 7)) * 1e3
    given[1, 2:] = given[2] = -INF
    weights = st.to_host(normalised(asarray(given)))
    assert np.allclose(weights.sum(axis=-1), [1, 1, 0, 1], rtol=0, atol=8 * 2.0**-53)
    assert np.all(weights >= 0)
    assert np.array_equal(weights[2], np.zeros(7))


def test_a_shift_of_all_log_weights_changes_no_weight():
    given = np.array([0.0, 1.0, 2.0])
    assert np.array_equal(normalised(given), normalised(given + 1024))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4)])
def test_no_key_at_all_is_no_obstacle(asarray, shape):
    for function in (top_off, normalised):
        assert st.to_host(function(asarray(np.zeros(shape)))).shape == shape


def test_masks_and_log_weights_come_to_one_array(asarray, rng):
    k, mask, given = rng.normal(size=(3, 2)), np.array([True, False, True]), np.array([1.0, 2.0, -INF])
    found = st.to_host(key_weights(asarray(k), 3, (), asarray(mask), asarray(given)))
    assert np.array_equal(found, [1.0, -INF, -INF])
    assert np.array_equal(st.to_host(hide(asarray(k), asarray(found))), [k[0], [0, 0], [0, 0]])
    assert key_weights(k, 3, (), None, None) is None
    assert hide(k, None) is k
