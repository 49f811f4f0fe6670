from __future__ import annotations

import math

import numpy as np
import pytest

from schoenbat_theory import FourierFeatures, kernel_attention, rfa_attention, to_host, unit_norm

U = 2.0**-53


@pytest.fixture
def qkv(rng):
    return 3 * rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 7, 4)) / 5, rng.normal(size=(2, 7, 3))


def cosines(q, k, n_features, rng):
    """The weights c_ij, (..., n, m), as a mean of cosines of differences."""
    w = FourierFeatures(n_features, orthogonal=False).draw(q.shape[-1], rng).weights
    return np.cos((unit_norm(q)[..., :, None, :] - unit_norm(k)[..., None, :, :]) @ w.T).mean(axis=-1)


def test_weights_are_means_of_cosines(asarray, qkv):
    q, k, v = qkv
    for n_features in (2, 64):
        weights = cosines(q, k, n_features, 3)
        total = weights.sum(axis=-1, keepdims=True)
        exact = weights @ v / total
        found = to_host(rfa_attention(*(asarray(x) for x in qkv), n_features=n_features, rng=3))
        # Angles below 2 |w| < 16, sums of 64 and 7 terms of at most 1: 2^8 roundings of each weight.
        assert np.all(np.abs(found - exact) <= 2**8 * U * 7 / np.abs(total) * (np.abs(v).max() + np.abs(exact)))


@pytest.mark.parametrize("causal", [False, True])
def test_wide_maps_give_softmax_attention_of_unit_vectors(qkv, causal):
    q, k, v = qkv
    n_features, alpha = 1 << 16, 1e-9
    # Hoeffding: of all pairs, no mean of D/2 cosines is farther from e^(t-1) than this, but with probability alpha.
    far = math.sqrt(2 * math.log(2 * (2 * 5 * 7) / alpha) / (n_features / 2))
    exact = kernel_attention(unit_norm(q), unit_norm(k), v, "exp", causal=causal)
    seen = np.tri(5, 7) if causal else np.ones((5, 7))
    true = np.exp(unit_norm(q) @ np.swapaxes(unit_norm(k), -1, -2) - 1) * seen
    # out - exact = sum_j (c_ij - true_ij) (v_j - exact_i) / sum_j c_ij
    spread = np.max(np.abs(v[:, None] - exact[:, :, None]), axis=(-2, -1))
    count = seen.sum(axis=-1)
    allowed = far * count * spread / (true.sum(axis=-1) - far * count)
    found = rfa_attention(q, k, v, n_features=n_features, rng=0, causal=causal)
    assert np.all((allowed > 0) & (allowed < spread / 3))  # the bound says something
    assert np.all(np.max(np.abs(found - exact), axis=-1) <= allowed)


def test_weights_have_the_mean_and_variance_of_the_law():
    """Two keys, values 1 and 0: c_1 / (c_1 + c_2) of many maps gives back c_1 where the second key is the query."""
    q, k = np.array([[0.6, 0.8]]), np.array([[1.0, 0.0], [0.6, 0.8]])
    law, n = FourierFeatures(4, "gaussian", orthogonal=False), 4000
    # The query itself has c_2 = 1, so that c_1 = out / (1 - out).
    out = np.array([rfa_attention(q, k, np.eye(2)[:, :1], n_features=4, rng=r)[0, 0] for r in range(n)])
    weights = out / (1 - out)
    # Hoeffding, for weights in [-1, 1] and squares in [0, 1], 1e-9 each.
    far = math.sqrt(math.log(2e9) / (2 * n))
    assert abs(weights.mean() - float(law.mean(q[0], k[0]))) <= 2 * far
    assert abs((weights**2).mean() - float(law.second_moment(q[0], k[0]))) <= far


def test_lengths_of_queries_and_keys_do_not_matter(qkv):
    q, k, v = qkv
    once = rfa_attention(q, k, v, n_features=8, rng=1)
    assert np.array_equal(once, rfa_attention(4 * q, k / 8, v, n_features=8, rng=1))  # powers of two are exact
    assert not np.array_equal(once, rfa_attention(q, k, v, n_features=8, rng=2))


def test_masked_keys_may_hold_anything_even_nothing(asarray, qkv):
    q, k, v = qkv
    mask = np.arange(7) < 5
    for hole in (0.0, np.nan):
        k[:, 5:], v[:, 5:] = hole, np.nan
        arrays = (asarray(x) for x in (q, k, v))
        found = rfa_attention(*arrays, n_features=8, rng=1, key_mask=asarray(mask))
        assert np.allclose(to_host(found), rfa_attention(q, k[:, :5], v[:, :5], n_features=8, rng=1), atol=0, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_features": 3}, "n_features: expected an even number"),
        ({"q": np.zeros((5, 4))}, r"q: token \(0,\) is zero"),
        ({"k": np.zeros((7, 4))}, r"k: token \(0,\) is zero"),
        ({"k": np.full((7, 4), np.nan)}, "k: expected finite entries, found nan"),
        ({"k": np.ones((7, 3))}, "k: expected last axis 4 as q has"),
        ({"key_mask": np.ones(6, dtype=bool)}, r"key_mask: expected \(\.\.\., 7\), found \(6,\)"),
        ({"key_mask": np.ones(7)}, "key_mask: expected booleans"),
        ({"causal": 1}, "causal: expected True or False, found 1"),
        ({"rng": "seed"}, "rng: expected"),
    ],
)
def test_wrong_arguments_are_named(qkv, change, words):
    q, k, v = qkv
    options = {"q": q, "k": k, "v": v, "n_features": 8, "rng": 0} | change
    with pytest.raises((TypeError, ValueError), match=words):
        rfa_attention(**options)
