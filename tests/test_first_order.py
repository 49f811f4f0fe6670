"""First-order attention: the tangent of softmax attention at a shift of the queries, as recentred features compute it."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import first_order_attention
from schoenbat_theory.features.recenter import shifts
from schoenbat_theory.testing import examine_attention

U = 2.0**-53


def tangent(q, k, v, c, log_weights):
    """The formula in float64, whole, for one head."""
    logits = k @ c + log_weights
    w = np.exp(logits - logits.max())
    w /= w.sum()
    m, mean = w @ k, w @ v
    return mean + ((q - c) @ (k - m).T * w) @ (v - mean)


def allowed(q, k, v, c, log_weights, u, extra=0.0):
    """Rounding of two computations of one tangent at shifts c that agree: weights, sums of m terms, products of d.

    A logarithm of a weight errs by (d + 4) u (|c| |k_j| + |log w_j|), twice that in the weight beside its sum; sums of m
    terms by m u of their absolute values, products by d u.
    """
    d, m = k.shape[-1], len(k)
    logits = k @ c + log_weights
    w = np.exp(logits - logits.max())
    w /= w.sum()
    size_k, size_v = np.linalg.norm(k, axis=-1), np.linalg.norm(v, axis=-1)
    finite = np.where(w > 0, log_weights, 0)
    of_weights = 2 * (d + 4) * w @ ((np.linalg.norm(c) * size_k + np.abs(finite)) * size_v)
    size_q = np.linalg.norm(q, axis=-1)[:, None] + np.linalg.norm(c)
    terms = (m + 2 * d + 16 + extra) * (w @ size_v + size_q * (w @ (size_k * size_v)) * 4)
    return 2 * u * (terms + of_weights * (1 + 4 * size_q * (w @ size_k)))


def problem(rng, n=40, m=60, d=4, e=3, scale=1.0):
    q, k = scale * (rng.normal(size=(n, d)) + 0.5), scale * (rng.normal(size=(m, d)) - 0.25)
    return q, k, k @ rng.normal(size=(d, e)) + rng.normal(size=(m, e)) + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "m"), [(40, 1), (40, 60), (512, 512), (1100, 1100)])
def test_rows_are_the_tangent_at_the_shift_that_recenter_chooses(asarray, rng, dtype, n, m):
    q, k, v = (x.astype(dtype) for x in problem(rng, n=n, m=m))
    weights = rng.normal(size=m).astype(dtype)
    weights[::7] = -np.inf if m > 1 else 0
    found = first_order_attention(*map(asarray, (q, k, v)), key_log_weights=asarray(weights))
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    c = shifts(q, np.where(weights[:, None] > -np.inf, k, 0), weights)[0]
    q, k, v, c, weights = (x.astype(np.float64) for x in (q, k, v, c, weights))
    bound = allowed(q, k, v, c, weights, np.finfo(dtype).eps / 2)
    assert np.all(np.abs(st.to_host(found) - tangent(q, k, v, c, weights)) <= bound)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_it_is_taylor_features_of_degree_1_after_recentring(rng, scale):
    q, k, v = problem(rng, scale=scale)
    mask, weights = rng.random(60) < 0.8, rng.normal(size=60)
    options = {"key_mask": mask, "key_log_weights": weights}
    x, y, w = st.recenter(q, k, **options)
    phi = st.TaylorFeatures("exp", 1, dim=4).draw(4)
    expected = st.feature_attention(x, y, v, phi, key_log_weights=w)
    masked = np.where(mask, weights, -np.inf)
    c, *_ = shifts(q, np.where(mask[:, None], k, 0), masked)
    basis = np.linalg.lstsq(q - c, x, rcond=None)[0]
    # Tokens times a basis err by d u times its condition number, in queries and in keys, for either sum.
    extra = 4 * 8 * np.linalg.cond(basis)
    assert np.all(np.abs(first_order_attention(q, k, v, **options) - expected) <= allowed(q, k, v, c, masked, U, extra))


@pytest.mark.parametrize(("n", "m"), [(5, 6), (600, 700)])
def test_every_head_is_as_alone_and_leading_axes_broadcast(asarray, rng, n, m):
    q, k, v = rng.normal(size=(2, 1, n, 4)), rng.normal(size=(3, m, 4)), rng.normal(size=(m, 2))
    mask, weights = rng.random((3, m)) < 0.7, rng.normal(size=(2, 1, m))
    found = st.to_host(
        first_order_attention(*map(asarray, (q, k, v)), key_mask=asarray(mask), key_log_weights=asarray(weights))
    )
    assert found.shape == (2, 3, n, 2)
    for i in range(2):
        for j in range(3):
            alone = first_order_attention(q[i, 0], k[j], v, key_mask=mask[j], key_log_weights=weights[i, 0])
            masked = np.where(mask[j], weights[i, 0], -np.inf)
            c = shifts(q[i, 0], np.where(mask[j][:, None], k[j], 0), masked)[0]
            assert np.all(np.abs(found[i, j] - alone) <= allowed(q[i, 0], k[j], v, c, masked, U))


def test_heads_are_grouped_along_any_axis(rng, monkeypatch):
    monkeypatch.setattr(st.threads, "CORES", 2)
    q, k, v = rng.normal(size=(4, 1, 5, 3)), rng.normal(size=(4, 2, 6, 3)), rng.normal(size=(2, 6, 2))
    weights = rng.normal(size=(4, 1, 6))
    found = first_order_attention(q, k, v, key_log_weights=weights)
    for i, j in np.ndindex(4, 2):
        assert np.array_equal(found[i, j], first_order_attention(q[i, 0], k[i, j], v[j], key_log_weights=weights[i, 0]))


def test_queries_that_are_all_equal_get_exact_attention(rng):
    q, k, v = problem(rng, scale=2.0)
    q = np.broadcast_to(q[0], q.shape)
    c = shifts(q, k, np.zeros(60))[0]
    assert np.linalg.norm(c - q[0]) <= 4 * 40 * U * np.linalg.norm(
        q[0]
    )  # the whole mean is chosen, as nothing is left to err
    bound = allowed(q, k, v, q[0], np.zeros(60), U, 40)
    assert np.all(np.abs(first_order_attention(q, k, v) - st.kernel_attention(q, k, v, "exp")) <= bound)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_gaussian_keys_with_linear_values_make_it_exact_however_sharp(rng, sharpness):
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)  # e^(q x) is summed to 64! q^128 / 128! < 1e-60 of its mean
    k, log_weights = nodes[:, None] + 0.5, np.log(weights)
    v = 3 * k - 1
    q = sharpness * np.linspace(-1, 1, 9)[:, None]
    exact = st.kernel_attention(q, k, v, "exp", key_log_weights=log_weights)
    np.testing.assert_allclose(exact, 3 * (0.5 + q) - 1, rtol=1e-12)  # the mean of a Gaussian moves by q
    c = shifts(q, k, log_weights)[0]
    size = 2 * (64 + 16) * U * (np.abs(v).max() + np.abs(log_weights).max() + 3 * np.abs(k).max())
    bound = allowed(q, k, v, c, log_weights, U) + size
    assert np.all(np.abs(first_order_attention(q, k, v, key_log_weights=log_weights) - exact) <= bound)


def test_half_the_logits_leave_a_quarter_of_the_error(rng):
    q, k, v = problem(rng, scale=0.05)
    q = q - q.mean(axis=0)
    errors = []
    for share in (1.0, 0.5):
        exact = st.kernel_attention(share * q, k, v, "exp")
        errors.append(np.linalg.norm(first_order_attention(share * q, k, v) - exact))
    # Terms of third order are at most max |<q, k - m>| < 0.1 of those of second order, in each of the errors.
    assert 4 / 1.3 < errors[0] / errors[1] < 4 * 1.3


@pytest.mark.parametrize("m", [60, 3000])
def test_a_large_common_part_of_keys_and_values_costs_no_more_than_the_documented_rounding(rng, m):
    q, k, v = problem(rng, m=m, scale=0.25)
    q, k, v = (x.astype(np.float32) for x in (q - q.mean(axis=0), k + 2**10, v + 2**16))
    found = first_order_attention(q, k, v)
    c, *_ = shifts(q, k, np.zeros(m, dtype=np.float32))
    q, k, v, c = (x.astype(np.float64) for x in (q, k, v, c))
    u, w = 2.0**-24, np.exp(k @ c - (k @ c).max())
    w /= w.sum()
    size_k, size_v, size_q = (np.linalg.norm(x, axis=-1) for x in (k, v - w @ v, q))
    length, slope = 512 + m / 512, w @ (size_k * size_v)
    of_weights = 2 * (4 + 4) * np.linalg.norm(c) * slope + 16 * w @ size_v  # <c, k_j> and an exponential
    rounding = length * (w @ size_v + (size_q + np.linalg.norm(c)) * slope) + of_weights * (1 + size_q.max())
    bound = 2 * u * (rounding[:, None] + 2 * np.abs(v).max() + (4 + 1) * (size_q[:, None] + 1) * slope)
    assert np.all(np.abs(found - tangent(q, k, v, c, np.zeros(m))) <= bound)


def test_log_weights_however_large_do_not_overflow(rng):
    q, k, v = problem(rng)
    one = first_order_attention(q, k, v, key_log_weights=np.zeros(60))
    assert np.array_equal(first_order_attention(q, k, v, key_log_weights=np.full(60, 2.0**900)), one)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-10, 1.0, 2.0**10, 2.0**60])
@pytest.mark.parametrize("offset", [0.0, 0.0625, 30.0])  # of the last, scaled tokens are formed
@pytest.mark.parametrize("factor", [1.0, 0.5, 2.0**-20])
def test_pre_scaled_tokens_need_not_be_formed(asarray, rng, dtype, scale, offset, factor):
    q, k = (rng.normal(size=(2, n, 8)) for n in (530, 600))
    q, k = (((x - x.mean(axis=-1, keepdims=True) + offset) * scale).astype(dtype) for x in (q, k))
    v, mask = rng.normal(size=(600, 3)).astype(dtype) + 1, rng.random((2, 600)) < 0.8
    weights = rng.normal(size=600).astype(dtype)
    k[~mask] = 0
    found = first_order_attention(
        *map(asarray, (q, k, v)), key_mask=asarray(mask), key_log_weights=asarray(weights), pre_scaled=factor
    )
    assert found.dtype == asarray(q).dtype
    u = np.finfo(dtype).eps / 2
    for i in range(2):
        x, y = factor * st.pre_scale(q[i]), factor * st.pre_scale(k[i], key_mask=mask[i])
        masked = np.where(mask[i], weights, -np.inf)
        c = shifts(x, y, masked)[0].astype(np.float64)
        expected = first_order_attention(x, y, v, key_log_weights=masked)
        # Lengths err by 5/2 (d + 2) u; an inner product with P x of tokens sqrt(2) longer than P x by 2 (d + 1) u.
        x, y = x.astype(np.float64), y.astype(np.float64)
        bound = 2 * allowed(x, y, v.astype(np.float64), c, masked, u, 8 * (8 + 3))
        assert np.all(np.abs(st.to_host(found)[i] - expected) <= bound)


def test_tokens_of_sure_lengths_are_not_scaled_and_others_are(rng, monkeypatch):
    module, (q, k, v) = sys.modules[first_order_attention.__module__], problem(rng)
    names = []
    plain = module.pre_scale_named
    monkeypatch.setattr(module, "pre_scale_named", lambda name, *rest: (names.append(name), plain(name, *rest))[1])
    first_order_attention(q - q.mean(axis=-1, keepdims=True), k - k.mean(axis=-1, keepdims=True), v, pre_scaled=1.0)
    assert names == []
    first_order_attention(q - q.mean(axis=-1, keepdims=True), k + 100, v, pre_scaled=1.0)
    assert names == ["k"]


@pytest.mark.parametrize("name", ["q", "k"])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_tokens_that_have_no_direction_are_refused_as_by_pre_scale_unless_masked(asarray, rng, name, lead):
    arrays = {key: np.broadcast_to(x, (*lead, *x.shape)).copy() for key, x in zip("qkv", problem(rng), strict=True)}
    arrays[name][..., 3, :][-1:] = 2.0
    where = (*(size - 1 for size in lead), 3)
    if not lead:
        arrays[name][3] = 2.0
    q, k, v = (asarray(x) for x in arrays.values())
    with pytest.raises(ValueError, match=re.escape(f"{name}: token {where} is constant over its 4 features")):
        first_order_attention(q, k, v, pre_scaled=1.0)
    if name == "k":
        used = np.arange(60) != 3
        found = first_order_attention(q, k, v, key_mask=asarray(used), pre_scaled=1.0)
        q, k, v = arrays.values()
        expected = first_order_attention(q, k[..., used, :], v[..., used, :], pre_scaled=1.0)
        bound = (
            2 * 2 * 60 * U * np.abs(v).max() * 16
        )  # sums of 60 terms in another order; logits, at most 1, and their slope
        assert np.all(np.abs(st.to_host(found) - expected) <= bound)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_factor_of_pre_scaled_tokens_is_positive(rng, bad):
    with pytest.raises(ValueError, match="pre_scaled: expected a finite number > 0"):
        first_order_attention(*problem(rng), pre_scaled=bad)


def test_no_keys_no_queries_and_nothing_but_masked_keys_give_zeros(asarray, rng):
    q, k, v = (asarray(x) for x in problem(rng, n=3, m=5))
    assert st.to_host(first_order_attention(q, k[:0, :], v[:0, :])).tolist() == [[0.0] * 3] * 3
    assert tuple(first_order_attention(q[:0, :], k, v).shape) == (0, 3)
    assert tuple(first_order_attention(q[None, ...][:0, ...], k, v).shape) == (0, 3, 3)  # no heads
    none = asarray(np.zeros(5, dtype=bool))
    assert st.to_host(first_order_attention(q, k, v, key_mask=none)).tolist() == [[0.0] * 3] * 3


def test_it_passes_the_exam_of_an_attention_that_looks_at_whole_sequences(asarray):
    options = ("key_mask", "key_log_weights")
    assert examine_attention(first_order_attention, asarray=asarray, options=options, fixed=False).passed


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("pre_scaled", [None, 1.0])
def test_what_is_not_finite_is_named(asarray, rng, name, bad, pre_scaled):
    arrays = dict(zip("qkv", problem(rng), strict=True))
    arrays[name][3, 1] = bad
    with pytest.raises(ValueError, match=rf"{name}: expected finite entries, found {bad} at index \(3, 1\)"):
        first_order_attention(*(asarray(x) for x in arrays.values()), pre_scaled=pre_scaled)


def test_overflow_and_wrong_input_are_refused(rng):
    q, k, v = problem(rng)
    with pytest.raises(ValueError, match="overflow"):
        first_order_attention(1e200 * q, 1e200 * k, v)
    with pytest.raises(ValueError, match="q, k, v: finite, but the sums overflow float64"):
        first_order_attention(q, k, 1.5e308 * np.sign(v))
    with pytest.raises(ValueError, match="k: expected last axis 4"):
        first_order_attention(q, k[:, :3], v)
    with pytest.raises(TypeError, match="v: expected dtype float64"):
        first_order_attention(q, k, v.astype(np.float32))
    with pytest.raises(TypeError, match="key_mask: expected booleans"):
        first_order_attention(q, k, v, key_mask=np.ones(60))
