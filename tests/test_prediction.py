"""Errors of attention before a map is drawn: bias exactly, variance to first order, and the sample of a fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.features.prediction import kernel_weights, row_variances, take_sample
from schoenbat_theory.features.sample import spread_keys

U = 2.0**-53


def tokens(rng, shape=(), n=6, m=9, dim=3):
    return tuple(rng.normal(size=(*shape, *size)) / 2 for size in ((n, dim), (m, dim), (m, 2)))


# --- predict_error -------------------------------------------------------------------------------------------------


def test_of_a_map_without_randomness_the_bias_is_the_error(asarray, rng):
    q, k, v = tokens(rng, (2,))
    law = st.OptimizedMaclaurin("exp", 6).fit(q, k, values=v)
    assert not law.random
    moved = [asarray(x) for x in (q, k, v)]
    bias, variance = st.predict_error(law, *moved)
    exact, found = (
        st.to_host(x) for x in (st.kernel_attention(*moved, "exp"), st.feature_attention(*moved, law.draw(3)))
    )
    assert tuple(bias.shape) == (2, 6)
    assert bias.dtype == moved[0].dtype
    assert np.allclose(st.to_host(bias), np.sum((found - exact) ** 2, axis=-1), rtol=0, atol=1e4 * U)
    assert np.all(st.to_host(variance) == 0)


def test_the_variance_is_the_mean_square_of_many_draws(rng):
    """With 1024 features the first order is all: what is left out is of the order of 1 / D, here about a tenth of a per cent.

    The mean of 4096 squares of an error in two nearly normal coordinates has a relative deviation of at most
    sqrt(2 / 4096), 2.2 per cent; six rows, six standard deviations.
    """
    q, k, v = tokens(rng)
    law = st.RandomMaclaurin("exp", 1024)
    bias, variance = st.predict_error(law, q, k, v)
    assert np.all(bias < 1e-25)
    exact = st.kernel_attention(q, k, v, "exp")
    drawn = st.feature_attention(q, k, v, law.draw(3, rng, shape=(4096,)))
    found = np.mean(np.sum((drawn - exact) ** 2, axis=-1), axis=0)
    assert np.all(np.abs(found / variance - 1) < 6 * 0.022 + 0.01)


def test_weights_of_keys_and_masks_are_looked_at(rng):
    q, k, v = tokens(rng)
    law = st.RandomMaclaurin("exp", 64)
    weights = np.where(np.arange(9) < 3, np.log(2), 0.0)
    copies = (q, np.concatenate([k, k[:3]]), np.concatenate([v, v[:3]]))
    for found, expected in zip(st.predict_error(law, q, k, v, weights), st.predict_error(law, *copies), strict=True):
        assert np.allclose(found, expected, rtol=1e-9, atol=1e-20)
    mask = np.arange(9) < 5
    k[~mask], v[~mask] = np.nan, np.inf
    short = st.predict_error(law, q, k[:5], v[:5])
    for options in ({"key_mask": mask}, {"key_log_weights": np.where(mask, 0.0, -np.inf)}):
        for found, expected in zip(st.predict_error(law, q, k, v, **options), short, strict=True):
            assert np.allclose(found, expected, rtol=1e-9, atol=1e-20)


def test_a_law_that_clips_is_predicted_with_its_clipping(rng):
    q, k, v = tokens(rng)
    law = dataclasses.replace(st.OptimizedMaclaurin("exp", 6).fit(q, k, values=v), clip=np.array(0.1))
    bias, _ = st.predict_error(law, q, k, v)
    exact, found = st.kernel_attention(q, k, v, "exp"), st.feature_attention(q, k, v, law.draw(3))
    assert np.allclose(bias, np.sum((found - exact) ** 2, axis=-1), rtol=1e-9, atol=1e4 * U)


def test_wrong_input_is_named(rng):
    q, k, v = tokens(rng)
    law = st.RandomMaclaurin("exp", 8)
    with pytest.raises(ValueError, match="q, k: expected"):
        st.predict_error(law, q[:, :2], k, v)
    with pytest.raises(TypeError, match="law: expected one with mean and row_covariance"):
        st.predict_error(st.PositiveFeatures(8), q, k, v)
    with pytest.raises(ValueError, match="key_log_weights"):
        st.predict_error(law, q, k, v, np.zeros(4))
    with pytest.raises(ValueError, match="v: expected"):
        st.predict_error(law, q, k, v[:4])
    with pytest.raises(ValueError, match="v: expected finite"):
        st.predict_error(law, q, k, np.full((9, 2), np.nan))


# --- its parts -----------------------------------------------------------------------------------------------------


def test_the_variance_of_rows_is_the_sum_that_defines_it(rng):
    root = rng.normal(size=(4, 5, 5))
    covariance, weights, values = root @ np.swapaxes(root, -1, -2), rng.random(5), rng.normal(size=(5, 2)) + 100
    output, total = rng.normal(size=(4, 2)) + 100, rng.random(4) + 1
    away = weights[:, None] * (values - output[:, None, :])  # (4, 5, 2)
    expected = np.einsum("ijl,ije,ile->i", covariance, away, away) / total**2
    assert np.allclose(row_variances(covariance, weights, values, output, total), expected, rtol=1e-9)


@pytest.mark.parametrize("kernel", st.KERNELS.values(), ids=lambda kernel: kernel.name)
def test_exact_weights_are_those_of_exact_attention(rng, kernel):
    q, k, _ = tokens(rng)
    weights = rng.random(9)
    weights[2] = 0
    found = kernel_weights(kernel, q / 4, k / 4, weights / weights.sum())
    with np.errstate(divide="ignore"):
        expected = st.kernel_attention(q / 4, k / 4, np.eye(9), kernel, key_log_weights=np.log(weights))
    assert np.allclose(found, expected, rtol=0, atol=100 * U)
    assert np.all(found[:, 2] == 0)


def test_of_few_keys_all_are_taken_with_their_own_weights():
    keys, weights = spread_keys(np.array([0.25, 0.0, 0.75]), 2)
    assert keys.tolist() == [0, 2]
    assert weights.tolist() == [0.25, 0.75]


def test_heavy_keys_cannot_be_missed_and_weights_stay_what_they_are_on_average(rng):
    weights = rng.random(5000) ** 4
    weights[[17, 4000]] = weights.sum() / 4
    weights /= weights.sum()
    keys, own = spread_keys(weights, 256)
    assert {17, 4000} <= set(keys.tolist())
    assert len(keys) <= 256
    assert own.sum() == pytest.approx(1)
    # Of a part of the keys the weight changes by less than what two steps along the cumulative sum hold, at both ends,
    # and that of a heavy key by two of some twenty steps, one of them through the sum of all.
    assert abs(own[keys < 2500].sum() - weights[:2500].sum()) < 8 / 256
    assert own[keys == 17][0] == pytest.approx(weights[17], rel=2 / 20)
    assert np.max(own[~np.isin(keys, [17, 4000])]) < 2.2 * np.max(np.delete(weights, [17, 4000])) * 5000 / 256


def test_a_sample_is_spread_evenly_and_has_exact_outputs_of_its_own(rng):
    q, k, v = tokens(rng, n=1000, m=1000)
    sample = take_sample(st.get_kernel("exp"), q, k, np.full(1000, 1e-3), v, 100)
    assert np.array_equal(sample.x, q[5::10])
    assert len(sample.y) == 100
    weighted = st.kernel_attention(sample.x, sample.y, sample.values, "exp", key_log_weights=np.log(sample.weights))
    assert np.allclose(sample.output, weighted, rtol=0, atol=1e3 * U)
    blind = take_sample(st.get_kernel("exp"), q, k, np.full(1000, 1e-3), None, 100)
    assert np.array_equal(np.abs(blind.values), np.ones((100, 32)))
