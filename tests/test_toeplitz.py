from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.linalg import matmul_toeplitz

from schoenbat_theory import (
    PositiveFeatures,
    RandomMaclaurin,
    alibi_bias,
    attention_sums,
    feature_attention,
    kernel_attention,
    polynomial,
    relative_attention,
    to_host,
    toeplitz_product,
    toeplitz_sums,
    unit_norm,
)
from schoenbat_theory.attention import rectangles, toeplitz
from schoenbat_theory.attention.fft import ToeplitzProduct

SIZES = [(1, 1), (5, 8), (130, 70), (70, 130), (530, 1040), (1, 600), (600, 1)]
CAUSAL_SIZES = [(255, 255), (256, 256), (257, 257), (1300, 1300), (1100, 3), (1300, 300), (300, 1300)]  # around 256


def unit(dtype) -> float:
    return float(np.finfo(dtype).eps) / 2


def offsets(n, m):
    return np.arange(1 - n, m)


def matrix(c, n, m):
    return c[..., np.arange(m)[None, :] - np.arange(n)[:, None] + n - 1]


class Dense:
    """Attention of the definition in float64, rows with a scale of their own; how far two computations may be apart."""

    def __init__(self, phi_q, phi_k, v, log_bias, *, causal=False, key_mask=None):
        phi_q, phi_k, self.v, self.bias = (np.asarray(x, dtype=np.float64) for x in (phi_q, phi_k, v, log_bias))
        self.n, self.m, self.width = phi_q.shape[-2], phi_k.shape[-2], phi_q.shape[-1]
        logs = matrix(self.bias, self.n, self.m)
        if causal:
            logs = np.where(np.arange(self.m) <= np.arange(self.n)[:, None], logs, -np.inf)
        if key_mask is not None:
            logs = np.where(key_mask[..., None, :], logs, -np.inf)
            phi_k, self.v = (np.where(key_mask[..., None], x, 0.0) for x in (phi_k, self.v))
        top = logs.max(axis=-1, keepdims=True)
        self.logs, self.top = logs, np.where(np.isfinite(top), top, 0.0)
        factor = np.exp(logs - self.top)
        self.weights = (phi_q @ np.swapaxes(phi_k, -1, -2)) * factor
        self.sizes = (np.abs(phi_q) @ np.swapaxes(np.abs(phi_k), -1, -2)) * factor
        self.total = self.weights.sum(axis=-1, keepdims=True)
        self.out = np.where(self.total == 0, 0.0, self.weights @ self.v / np.where(self.total == 0, 1.0, self.total))
        # K u (log2(N) + 2) ||c|| sum |phi_q| ||phi_k||, in units of u, at the scale of each row; twice that of one
        # product for the halves of the causal form, whose local scales are at most the largest bias there is.
        c = np.exp(self.bias - self.bias.max(axis=-1, keepdims=True))
        sums = np.abs(phi_q) @ np.linalg.norm(phi_k, axis=-2)[..., None]
        size = 2 * math.log2(4 * (self.n + self.m)) * np.linalg.norm(c, axis=-1, keepdims=True)[..., None]
        with np.errstate(over="ignore"):
            self.fft = (2 if causal else 1) * size * sums * np.exp(self.bias.max(axis=-1)[..., None, None] - self.top)

    def bound(self, u, recomputed):
        """Sums of D and m terms, exponents of |b| that are rounded, and FFT where the row was not recomputed."""
        largest = np.abs(self.v) + np.abs(self.v).max(axis=-2, keepdims=True, initial=0)
        seen = np.where(np.isfinite(self.logs), self.logs, 0.0)
        scale = np.where(recomputed[..., None], self.top, self.bias.max(axis=-1)[..., None, None])
        exponents = np.abs(seen - scale) + np.abs(seen - self.top)
        total = np.abs(np.where(self.total == 0, 1.0, self.total))
        dense = ((self.m + self.width + 16 + 2 * exponents) * self.sizes) @ (largest + np.abs(self.out).max(initial=0))
        fft = np.where(recomputed[..., None], 0.0, self.fft) * (np.abs(self.v).max(initial=0) + np.abs(self.out))
        return 2 * u * (dense + fft) / total


def agrees(sums, expected, u):
    """Within the derived bound, and no kept row errs by more than sqrt(u) of the largest value, as promised."""
    recomputed = to_host(sums.recomputed)
    error = np.abs(to_host(sums.ratio()) - expected.out)
    assert np.all(error <= expected.bound(u, recomputed))
    promised = math.sqrt(u) * np.maximum(np.abs(expected.v).max(initial=0), np.abs(expected.out))
    own = expected.bound(u, np.ones_like(recomputed))
    assert np.all(error <= promised + own)


def problem(rng, n, m, dtype=np.float64, signed=False, width=4):
    phi_q, phi_k = rng.random((n, width)) + 0.1, rng.random((m, width)) + 0.1
    if signed:
        phi_q[:, 1:] *= rng.choice([-1, 1], size=(n, width - 1)) / 4
        phi_k[:, 1:] *= rng.choice([-1, 1], size=(m, width - 1)) / 4
    return [x.astype(dtype) for x in (phi_q, phi_k, rng.normal(size=(m, 2)))]


# --- the product ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_the_product_is_that_of_the_matrix_within_the_estimate(asarray, rng, n, m, dtype):
    for c, x in [
        (rng.normal(size=n + m - 1), rng.normal(size=m)),
        (np.ones(n + m - 1), np.ones(m)),
        (np.exp(-np.abs(offsets(n, m))), rng.random(m)),
        (np.cos(0.7 * offsets(n, m)), np.cos(0.7 * np.arange(m))),
    ]:
        c, x = c.astype(dtype), x.astype(dtype)
        found = toeplitz_product(asarray(c), asarray(x))
        assert type(found) is type(asarray(x))
        assert found.dtype == asarray(x).dtype
        c, x = c.astype(np.float64), x.astype(np.float64)
        operator = ToeplitzProduct(c.astype(dtype), m)
        allowed = operator.rounding * np.linalg.norm(x) + m * 2.0**-53 * np.abs(matrix(c, n, m)) @ np.abs(x)
        assert np.all(np.abs(to_host(found) - matrix(c, n, m) @ x) <= allowed)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 1), (2, 2), (3, 2), (3, 3), (4, 4), (8, 8), (16, 16)])
def test_the_estimate_holds_for_the_shortest_transforms_too(asarray, rng, n, m):
    c, x = (np.exp(rng.normal(size=(10_000, length))).astype(np.float32) for length in (n + m - 1, m))
    found, estimate = to_host(toeplitz_product(asarray(c), asarray(x))), ToeplitzProduct(c, m).rounding
    c, x = c.astype(np.float64), x.astype(np.float64)  # products of two float32 are exact in float64
    error = np.abs(found - np.sum(matrix(c, n, m) * x[:, None, :], axis=-1)).max(axis=-1)
    assert np.all(error <= estimate * np.linalg.norm(x, axis=-1))


def test_the_product_is_that_of_scipy(rng):
    n, m = 100, 70
    c, x = rng.normal(size=n + m - 1), rng.normal(size=(m, 3))
    expected = matmul_toeplitz((c[n - 1 :: -1], c[n - 1 :]), x)
    allowed = 2 * ToeplitzProduct(c, m).rounding * np.linalg.norm(x)
    assert np.all(np.abs(toeplitz_product(c, x.T.copy()).T - expected) <= allowed)


def test_leading_axes_of_coefficients_and_vectors_broadcast(asarray, rng):
    c, x = rng.normal(size=(3, 1, 9)), rng.normal(size=(2, 5))
    found = to_host(toeplitz_product(asarray(c), asarray(x)))
    assert found.shape == (3, 2, 5)
    for i in range(3):
        for j in range(2):
            assert np.all(np.abs(found[i, j] - matrix(c[i, 0], 5, 5) @ x[j]) <= 1e-14 * 9 * 9)


@pytest.mark.parametrize(
    ("c", "x", "error", "words"),
    [
        (np.ones(3), np.ones(0), ValueError, r"x: expected shape \(\.\.\., m\), m >= 1, found \(0,\)"),
        (np.ones(3), np.ones(4), ValueError, r"coefficients: expected \(\.\.\., n \+ 4 - 1\), n >= 1, found \(3,\)"),
        (np.ones(3), np.ones(2, dtype=np.float32), TypeError, "x: expected dtype float64 as coefficients has"),
        (np.ones((2, 3)), np.ones((3, 2)), ValueError, "leading axes do not broadcast"),
        ([1.0], np.ones(1), TypeError, "coefficients: expected an array, found list"),
    ],
)
def test_wrong_arguments_of_the_product_are_named(c, x, error, words):
    with pytest.raises(error, match=words):
        toeplitz_product(c, x)


# --- the sums ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_sums_are_those_of_the_definition(asarray, rng, n, m, causal, signed, dtype):
    phi_q, phi_k, v = problem(rng, n, m, dtype, signed)
    for bias in (np.zeros(n + m - 1), rng.normal(size=n + m - 1), -0.1 * np.abs(offsets(n, m))):
        bias = bias.astype(dtype)
        sums = toeplitz_sums(*map(asarray, (phi_q, phi_k, v)), log_bias=asarray(bias), causal=causal)
        assert sums.denominator.dtype == asarray(v).dtype
        assert tuple(sums.numerator.shape) == (n, 2)
        agrees(sums, Dense(phi_q, phi_k, v, bias, causal=causal), unit(dtype))


@pytest.fixture
def small_blocks(monkeypatch):
    """Halves from 256 tokens on and lost rows by 256 keys at a time, so that few tokens have several of each."""
    monkeypatch.setattr(toeplitz, "TOKENS", 256)
    monkeypatch.setattr(toeplitz, "COLUMNS", 256)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_halves_hold_each_pair_of_different_diagonal_blocks_once(monkeypatch, tokens):
    monkeypatch.setattr(toeplitz, "TOKENS", tokens)
    for n in range(20):
        for m in range(24):
            visits = np.zeros((n, m), dtype=int)
            for rows, keys in toeplitz._halves(n, m):
                visits[rows.start : rows.stop, keys.start : keys.stop] += 1
            i, j = np.arange(n)[:, None] // tokens, np.arange(m)[None, :] // tokens
            assert np.array_equal(visits, np.where(j < i, 1, 0))


def test_blocks_have_rows_of_one_diagonal_block_only():
    assert toeplitz.TOKENS % toeplitz.ROWS == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "m"), CAUSAL_SIZES)
def test_halves_and_diagonal_blocks_make_the_causal_sums(rng, small_blocks, n, m, dtype):
    phi_q, phi_k, v = problem(rng, n, m, dtype)
    bias = rng.normal(size=n + m - 1).astype(dtype)
    mask = rng.random(m) < 0.8
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=True, key_mask=mask)
    agrees(sums, Dense(phi_q, phi_k, v, bias, causal=True, key_mask=mask), unit(dtype))


def test_the_first_half_is_transformed_beyond_2048_tokens(rng):
    phi_q, phi_k, v = problem(rng, 2100, 2100)
    bias = rng.normal(size=4199)
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=True)
    agrees(sums, Dense(phi_q, phi_k, v, bias, causal=True), unit(np.float64))
    assert list(toeplitz._halves(2100, 2100)) == [(range(2048, 2100), range(2048))]


@pytest.mark.parametrize("causal", [False, True])
def test_the_exact_oracle_is_kernel_attention_with_a_linear_kernel(rng, causal):
    phi_q, phi_k, v = problem(rng, 300, 200)
    bias = rng.normal(size=499)
    expected = kernel_attention(phi_q, phi_k, v, polynomial(1), log_bias=bias, causal=causal)
    sums, own = (
        toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=causal),
        Dense(phi_q, phi_k, v, bias, causal=causal),
    )
    assert np.all(np.abs(sums.ratio() - expected) <= 2 * own.bound(unit(np.float64), sums.recomputed))


@pytest.mark.parametrize("causal", [False, True])
def test_leading_axes_broadcast(asarray, rng, causal):
    phi_q, phi_k, v = rng.random((2, 1, 6, 4)), rng.random((3, 7, 4)), rng.normal(size=(7, 2))
    bias, mask = rng.normal(size=(2, 1, 12)), rng.random((4, 1, 1, 7)) < 0.6
    there = {"log_bias": asarray(bias), "key_mask": asarray(mask), "causal": causal}
    sums = toeplitz_sums(*map(asarray, (phi_q, phi_k, v)), **there)
    assert tuple(sums.ratio().shape) == (4, 2, 3, 6, 2)
    for a in range(4):
        for b in range(2):
            for c in range(3):
                one = Dense(phi_q[b, 0], phi_k[c], v, bias[b, 0], causal=causal, key_mask=mask[a, 0, 0])
                found = to_host(sums.ratio())[a, b, c]
                assert np.all(np.abs(found - one.out) <= one.bound(unit(np.float64), np.zeros(6, dtype=bool)))


@pytest.mark.parametrize("causal", [False, True])
def test_both_sums_times_their_scale_are_the_sums(asarray, rng, causal):
    phi_q, phi_k, v = problem(rng, 9, 6)
    bias = rng.normal(size=14) + 3
    sums = toeplitz_sums(*map(asarray, (phi_q, phi_k, v)), log_bias=asarray(bias), causal=causal)
    weights = (phi_q @ phi_k.T) * np.exp(matrix(bias, 9, 6))
    weights = np.tril(weights) if causal else weights
    scale = np.exp(to_host(sums.log_scale))
    for found, expected in ((sums.denominator, weights.sum(-1)), (to_host(sums.numerator).T, (weights @ v).T)):
        assert np.all(np.abs(to_host(found) * scale - expected) <= 1e-13 * weights.sum(-1) * np.abs(v).max())
    floor = weights.sum(-1)[3]
    clamped = to_host(sums.ratio(clamp=float(floor)))
    assert np.all(
        np.abs(clamped - weights @ v / np.maximum(weights.sum(-1), floor)[:, None]) <= 1e-13 * np.abs(v).max()
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shift", [1e5, -1e5, 1e300])
def test_a_constant_in_the_bias_is_no_bias_whatever_its_size(rng, causal, shift):
    phi_q, phi_k, v = problem(rng, 40, 50)
    plain = toeplitz_sums(phi_q, phi_k, v, log_bias=np.zeros(89), causal=causal)
    moved = toeplitz_sums(phi_q, phi_k, v, log_bias=np.full(89, shift), causal=causal)
    assert np.array_equal(plain.ratio(), moved.ratio())
    assert np.all(moved.log_scale == shift)
    assert np.array_equal(moved.ratio(clamp=0.0), plain.ratio())


# --- the guard -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", ["plain", "symmetric", "causal"])
def test_alibi_with_a_range_of_1e222_loses_no_row(asarray, rng, form, dtype):
    n = 1024
    phi_q, phi_k, v = problem(rng, n, n, dtype)
    bias = alibi_bias(n, n, 8, symmetric=form == "symmetric")[0].astype(dtype)
    assert bias.max() == (0 if form == "symmetric" else 511.5)
    there = [asarray(x) for x in (phi_q, phi_k, v)]
    sums = toeplitz_sums(*there, log_bias=asarray(bias), causal=form == "causal")
    agrees(sums, Dense(phi_q, phi_k, v, bias, causal=form == "causal"), unit(dtype))
    # Row i weighs exp(-i / 2) of row 0, of which FFT has digits down to u: rows are kept at most where that > sqrt(u).
    kept = n - sums.n_recomputed
    logs = np.log(to_host(sums.denominator).astype(float)) + to_host(sums.log_scale)
    own = Dense(phi_q, phi_k, v, bias, causal=form == "causal")
    rounded = unit(dtype) * (2 * n + 2 * np.abs(own.top[:, 0])) + math.sqrt(unit(dtype))
    assert np.all(np.abs(logs - np.log(own.total[:, 0]) - own.top[:, 0]) <= rounded)
    if form == "plain":
        assert 0 < kept < 2 * math.log(unit(dtype) ** -0.5)
        assert not to_host(sums.recomputed)[0]
    else:
        assert kept == n


def test_no_offset_that_no_row_sees_and_no_light_far_key_costs_a_row(rng, small_blocks):
    n = 1100
    phi_q, phi_k, v = problem(rng, n, n, np.float32)
    rising = alibi_bias(n, n, 8)[0].astype(np.float32)  # e^549 for the last key and the first query
    assert toeplitz_sums(phi_q, phi_k, v, log_bias=rising, causal=True).n_recomputed == 0
    # Three keys before row 768 weigh 1, all others e^-60, also those of the larger rectangle of keys before row 512.
    weights = np.where(np.abs(np.arange(n) - 601) <= 1, 0, -60).astype(np.float32)
    flat = np.zeros(2 * n - 1, dtype=np.float32)
    sums = toeplitz.weighted_toeplitz_sums(phi_q, phi_k, v, flat, weights, True)
    assert not sums.recomputed[768:1024].any()


def test_a_negative_denominator_is_as_good_as_a_positive_one(rng):
    phi_q, phi_k, v = problem(rng, 300, 300)
    sums, negative = (toeplitz_sums(sign * phi_q, phi_k, v, log_bias=np.zeros(599)) for sign in (1, -1))
    assert np.all(negative.denominator < 0)
    assert negative.n_recomputed == 0
    assert np.array_equal(negative.ratio(), sums.ratio())


def test_the_guard_sees_every_block_of_features(rng, monkeypatch):
    phi_q, phi_k, v = problem(rng, 300, 300, np.float32)
    phi_q[:, -1] = 0  # the last block errs by nothing
    bias = (0.3 * offsets(300, 300)).astype(np.float32)
    together = toeplitz_sums(phi_q, phi_k, v, log_bias=bias)
    monkeypatch.setattr(rectangles, "NUMBERS", 1)
    alone = toeplitz_sums(phi_q, phi_k, v, log_bias=bias)
    assert together.n_recomputed > 200
    assert np.array_equal(alone.recomputed, together.recomputed)
    agrees(alone, Dense(phi_q, phi_k, v, bias), unit(np.float32))


def blind(monkeypatch):
    monkeypatch.setattr(toeplitz._Rows, "lost", lambda rows: np.zeros(rows.top.shape, dtype=bool))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_the_guard_rows_are_wrong_in_silence(rng, monkeypatch, dtype):
    phi_q, phi_k, v = problem(rng, 1024, 1024, dtype)
    bias = alibi_bias(1024, 1024, 8)[0].astype(dtype)
    blind(monkeypatch)
    sums, expected = toeplitz_sums(phi_q, phi_k, v, log_bias=bias), Dense(phi_q, phi_k, v, bias)
    assert sums.n_recomputed == 0
    with np.errstate(all="ignore"):
        out = sums.numerator / sums.denominator[:, None]
    assert np.sum(~(np.abs(out - expected.out).max(axis=-1) <= np.abs(v).max())) > 100
    assert np.sum(sums.denominator < 0) > 100  # of a sum of positive numbers


def test_the_guard_sees_what_a_level_of_halves_spoils(rng, monkeypatch, small_blocks):
    n = 600  # transforms for rows from 512 on reach beyond the offset -550 of weight e^40, where few have a key
    phi_q, phi_k, v = problem(rng, n, n, np.float32)
    bias = np.where(offsets(n, n) < -550, 40.0, 0.0).astype(np.float32)
    expected = Dense(phi_q, phi_k, v, bias, causal=True)
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=True)
    agrees(sums, expected, unit(np.float32))
    lost = np.flatnonzero(sums.recomputed)
    assert set(range(512, 551)) <= set(lost) <= set(range(512, 560))
    blind(monkeypatch)
    wrong = np.abs(toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=True).ratio() - expected.out)
    assert np.any(wrong > 100 * expected.bound(unit(np.float32), np.ones(n, dtype=bool)))


def test_features_whose_squares_underflow_are_not_trusted(rng):
    phi_q, phi_k, v = problem(rng, 300, 300, np.float32)
    bias = (0.3 * offsets(300, 300)).astype(np.float32)
    sums = toeplitz_sums(phi_q, np.float32(1e-25) * phi_k, v, log_bias=bias)
    agrees(sums, Dense(phi_q, np.float32(1e-25) * phi_k, v, bias), unit(np.float32))
    assert sums.n_recomputed > 200


def test_features_of_few_digits_are_not_trusted_beside_large_queries(rng):
    phi_q, phi_k, v = problem(rng, 300, 300, np.float32)
    phi_q, phi_k = np.float32(1e30) * phi_q, np.float32(1e-43) * phi_k  # multiples of 1.4e-45
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=np.zeros(599, dtype=np.float32))
    agrees(sums, Dense(phi_q, phi_k, v, np.zeros(599)), unit(np.float32))


def test_a_transform_that_overflows_is_not_trusted(rng):
    n = 300  # the sum of all values is beyond float64, that of a few neighbours is not
    phi, v, bias = np.full((n, 1), 0.5), np.full((n, 1), 5e307), -2.0 * np.abs(offsets(n, n))
    sums = toeplitz_sums(phi, phi, v, log_bias=bias)
    assert sums.n_recomputed == n
    assert np.all(np.abs(sums.ratio() / v - 1) <= 2 * unit(np.float64) * (n + 20))


def test_far_keys_that_weigh_nothing_cost_no_row(rng, small_blocks):
    n = 2600  # a transform of far keys errs by 1e-4 of them in float32, but these weigh e^-1000
    phi_q, phi_k, v = problem(rng, n, n, np.float32)
    bias = (-4 * np.abs(offsets(n, n))).astype(np.float32)
    assert toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=True).n_recomputed == 0


def test_keys_of_little_weight_count_little_in_the_estimate(rng):
    phi_q, phi_k, v = problem(rng, 300, 300)
    light = np.arange(300) % 2 == 1
    phi_k[light] *= 1e20
    weights = np.where(light, -100.0, 0.0)  # e^-100 = 4e-44
    sums = toeplitz.weighted_toeplitz_sums(phi_q, phi_k, v, np.zeros(599), weights, False)
    assert sums.n_recomputed == 0
    agrees(
        sums, Dense(phi_q, phi_k[~light], v[~light], np.zeros(449)), unit(np.float64)
    )  # without a bias places do not matter


def test_a_denominator_of_zero_is_counted(asarray, rng):
    phi_q, phi_k, v = problem(rng, 5, 6)
    phi_q[[1, 3]] = 0
    sums = toeplitz_sums(*map(asarray, (phi_q, phi_k, v)), log_bias=asarray(np.zeros(10)))
    assert np.flatnonzero(to_host(sums.recomputed)).tolist() == [1, 3]
    with pytest.raises(ArithmeticError, match="the attention weights of 2 rows sum to exactly 0"):
        sums.ratio()


# --- masks, causality ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_masked_key_is_never_looked_at(asarray, rng, causal, bad):
    phi_q, phi_k, v = problem(rng, 7, 7)
    bias, mask = 3 * rng.normal(size=13), np.array([True, False, True, True, False, True, False])
    results = []
    for filler in (0.0, bad):
        spoiled = [asarray(np.where(mask[:, None], x, filler)) for x in (phi_k, v)]
        sums = toeplitz_sums(asarray(phi_q), *spoiled, log_bias=asarray(bias), causal=causal, key_mask=asarray(mask))
        agrees(sums, Dense(phi_q, phi_k, v, bias, causal=causal, key_mask=mask), unit(np.float64))
        results.append(to_host(sums.ratio()))
    assert np.array_equal(*results)


def test_the_bias_of_a_masked_key_does_not_drown_the_others(rng):
    phi_q, phi_k, v = problem(rng, 6, 6)
    bias, mask = np.zeros(11), np.arange(6) != 2
    bias[2 - 3 + 5] = 1e4  # key 2 for query 3, key 1 for query 2, ...
    for causal in (False, True):
        sums = toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=causal, key_mask=mask)
        agrees(sums, Dense(phi_q, phi_k, v, bias, causal=causal, key_mask=mask), unit(np.float64))


@pytest.mark.parametrize("causal", [False, True])
def test_a_row_that_sees_no_key_is_zeros_and_not_recomputed(asarray, rng, causal):
    phi_q, phi_k, v = (asarray(x) for x in problem(rng, 4, 3))
    late, none = (asarray(np.array(mask)) for mask in ([False, False, True], [False] * 3))
    zeros = asarray(np.zeros(6))
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=zeros, causal=causal, key_mask=none)
    assert to_host(sums.ratio()).tolist() == [[0, 0]] * 4
    assert to_host(sums.log_scale).tolist() == [0] * 4
    assert sums.n_recomputed == 0
    first = to_host(toeplitz_sums(phi_q, phi_k, v, log_bias=zeros, causal=causal, key_mask=late).ratio())
    assert (first == 0).all(axis=-1).tolist() == [causal, causal, False, False]
    empty = toeplitz_sums(phi_q, phi_k[:0, :], v[:0, :], log_bias=zeros[:3], causal=causal)
    assert to_host(empty.ratio()).tolist() == [[0, 0]] * 4
    assert tuple(toeplitz_sums(phi_q[:0, :], phi_k, v, log_bias=zeros[:2], causal=causal).ratio().shape) == (0, 2)
    nothing = toeplitz_sums(phi_q[:0, :], phi_k[:0, :], v[:0, :], log_bias=zeros[:0], causal=causal)
    assert tuple(nothing.ratio().shape) == (0, 2)


@pytest.mark.parametrize("steep", [0.0, 0.1])
def test_later_keys_change_nothing_bit_for_bit(rng, small_blocks, steep):
    n = 1100  # three levels of halves
    phi_q, phi_k, v = problem(rng, n, n, np.float32)
    bias = (-steep * offsets(n, n)).astype(np.float32)  # with 0.1 far keys weigh e^110 times near ones: rows are lost
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=bias, causal=True)
    out = sums.ratio()
    assert (sums.n_recomputed > 100) == (steep > 0)
    for i in (0, 127, 128, 255, 256, 400, 767, 768, 1023, 1024, 1098):
        later = np.arange(n)[:, None] > i
        new = [np.where(later, np.float32(-1e6) * x, x) for x in (phi_k, v)]
        other = toeplitz_sums(phi_q, *new, log_bias=bias, causal=True)
        assert np.array_equal(other.ratio()[: i + 1], out[: i + 1])
        assert np.array_equal(other.recomputed[: i + 1], sums.recomputed[: i + 1])
        assert steep or not np.array_equal(other.ratio()[i + 1 :], out[i + 1 :])


def test_a_product_with_a_later_key_may_overflow():
    phi_q, phi_k = np.array([[1e200], [1.0], [1e-200]]), np.array([[1e-200], [1.0], [1e200]])
    v = np.array([[1.0], [2.0], [3.0]])
    assert toeplitz_sums(phi_q, phi_k, v, log_bias=np.zeros(5), causal=True).ratio().tolist() == [[1], [2], [3]]


def test_rows_that_later_keys_spoil_take_no_earlier_row_with_them(rng, small_blocks):
    n, i = 600, 400
    phi_q, phi_k, v = problem(rng, n, n, np.float32)
    sums = toeplitz_sums(phi_q, phi_k, v, log_bias=np.zeros(2 * n - 1, dtype=np.float32), causal=True)
    # From key 401 on all weights are negative: near row 500, in the block of row 400, the sum crosses zero and is lost.
    other = toeplitz_sums(
        phi_q,
        np.where(np.arange(n)[:, None] > i, -4 * phi_k, phi_k),
        v,
        log_bias=np.zeros(2 * n - 1, dtype=np.float32),
        causal=True,
    )
    assert sums.n_recomputed == 0
    assert other.recomputed[i + 1 : 512].any()
    assert np.array_equal(other.numerator[: i + 1], sums.numerator[: i + 1])
    assert np.array_equal(other.denominator[: i + 1], sums.denominator[: i + 1])


# --- attention -----------------------------------------------------------------------------------------------------


def test_memory_is_linear_and_does_not_grow_with_the_features(rng):
    n, peaks = 1 << 14, []
    for width in (4, 32):
        phi_q, phi_k, v = problem(rng, n, n, np.float32, width=width)
        tracemalloc.start()
        try:
            toeplitz_sums(phi_q, phi_k, v, log_bias=np.zeros(2 * n - 1, dtype=np.float32))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert max(peaks) < 4 * n * n / 50
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_drawn_map_is_applied_to_queries_and_keys(asarray, rng, causal, shape):
    q, k, v = unit_norm(rng.normal(size=(6, 3))) / 2, unit_norm(rng.normal(size=(8, 3))) / 2, rng.normal(size=(8, 2))
    bias, phi = rng.normal(size=13), RandomMaclaurin("exp", 64).draw(3, rng, shape=shape)
    found = to_host(relative_attention(*map(asarray, (q, k, v)), phi, log_bias=asarray(bias), causal=causal))
    assert found.shape == (*shape, 6, 2)
    for i in np.ndindex(*shape):
        own = Dense(phi(q)[i], phi(k)[i], v, bias, causal=causal)
        assert np.all(np.abs(found[i] - own.out) <= 4 * own.bound(unit(np.float64), np.zeros(6, dtype=bool)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1.0, 12.0])
def test_scaled_features_neither_overflow_nor_underflow(asarray, rng, small_blocks, causal, dtype, size):
    q, k, v = size * unit_norm(rng.normal(size=(300, 8))), size * rng.random((310, 8)), rng.normal(size=(310, 2))
    q, k, v = (x.astype(dtype) for x in (q, k, v))
    phi, bias, mask = PositiveFeatures(32).draw(8, 0), rng.normal(size=609).astype(dtype), rng.random(310) < 0.8
    mask[0] = True
    found = relative_attention(
        *map(asarray, (q, k, v)), phi, log_bias=asarray(bias), causal=causal, key_mask=asarray(mask)
    )
    logs = [np.asarray(phi.log(x.astype(np.float64))) for x in (q, k)]
    logs = np.logaddexp.reduce(logs[0][:, None, :] + logs[1][None, :, :], axis=-1) + matrix(
        bias.astype(np.float64), 300, 310
    )
    logs = np.where(mask & ((np.arange(310) <= np.arange(300)[:, None]) | (not causal)), logs, -np.inf)
    weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
    expected = weights @ v / weights.sum(axis=-1, keepdims=True)
    # Logarithms of features up to |w| |x| + |x|^2 are rounded a few times, on both sides and in both computations;
    # sums of D + m positive terms follow, and what FFT may lose of a kept row.
    exponents = 16 * (size**2 * 8 + 8 * size * math.sqrt(8) + 10)
    allowed = 2 * (unit(dtype) * (exponents + 32 + 310) + math.sqrt(unit(dtype))) * np.abs(v).max()
    assert np.all(np.abs(to_host(found) - expected) <= allowed)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1.0, 300.0, 1000.0])
def test_rows_that_underflow_are_computed_in_logarithms(asarray, rng, causal, size):
    phi, v = PositiveFeatures(8).draw(3, rng, shape=(2, 1)), rng.normal(size=(20, 2))
    first = size * np.eye(3)[0]  # products of features of q and k are about exp(-size^2 / 2)
    q, k = first + rng.normal(size=(6, 3)), rng.normal(size=(20, 3)) - first
    q[2:4] *= 1e-3  # not lost
    bias, mask = size * rng.normal(size=(3, 25)), rng.random((3, 20)) < 0.7
    mask[0, 0], mask[1], mask[2] = False, False, True
    there = {"log_bias": asarray(bias), "key_mask": asarray(mask), "causal": causal}
    found = to_host(relative_attention(*map(asarray, (q, k, v)), phi, **there))
    assert found.shape == (2, 3, 6, 2)
    logs = np.logaddexp.reduce(phi.log(q)[..., :, None, :] + phi.log(k)[..., None, :, :], axis=-1) + matrix(bias, 6, 20)
    logs = np.where(mask[:, None, :] & ((np.arange(20) <= np.arange(6)[:, None]) | (not causal)), logs, -np.inf)
    top = logs.max(axis=-1, keepdims=True)
    weights = np.exp(logs - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    expected = weights @ v / np.where(total > 0, total, 1)
    # Logarithms up to |w| |x| + |x|^2 / 2 of few roundings in both computations, and what FFT may lose of a kept row.
    longest = size + 5
    exponents = 16 * (longest**2 + longest * np.linalg.norm(phi.weights, axis=-1).max() + np.abs(bias).max())
    allowed = 2 * (unit(np.float64) * (exponents + 100) + math.sqrt(unit(np.float64))) * np.abs(v).max()
    assert np.all(np.abs(found - expected) <= allowed)


def test_later_keys_change_nothing_bit_for_bit_through_scaled_features(rng, small_blocks):
    n, phi = 600, PositiveFeatures(8).draw(3, rng)
    q, k, v, bias = (
        rng.normal(size=(n, 3)),
        rng.normal(size=(n, 3)),
        rng.normal(size=(n, 2)),
        rng.normal(size=2 * n - 1),
    )
    out = relative_attention(q, k, v, phi, log_bias=bias, causal=True)
    for i in (300, 400, 520):
        new = [np.where(np.arange(n)[:, None] > i, -9 * x, x) for x in (k, v)]
        other = relative_attention(q, *new, phi, log_bias=bias, causal=True)
        assert np.array_equal(other[: i + 1], out[: i + 1])
        assert not np.array_equal(other[i + 1 :], out[i + 1 :])


@pytest.mark.parametrize("causal", [False, True])
def test_without_a_bias_it_is_feature_attention(rng, causal):
    q, k, v = rng.normal(size=(30, 3)) / 6, rng.normal(size=(30, 3)) / 6, rng.normal(size=(30, 2))
    phi = RandomMaclaurin("exp", 128).draw(3, rng)
    found, mask = relative_attention(q, k, v, phi, log_bias=np.zeros(59), causal=causal), np.ones(30, dtype=bool)
    own = Dense(phi(q), phi(k), v, np.zeros(59), causal=causal)
    assert np.all(
        np.abs(found - feature_attention(q, k, v, phi, causal=causal)) <= 8 * own.bound(unit(np.float64), ~mask)
    )
    sums = toeplitz_sums(phi(q), phi(k), v, log_bias=np.zeros(59), causal=causal)
    plain = attention_sums(phi(q), phi(k), v, causal=causal)
    assert np.all(np.abs(sums.denominator - plain.denominator) <= 1e-11)
    pair = relative_attention(q, k, v, (phi, lambda x: 2 * phi(x)), log_bias=np.zeros(59), causal=causal)
    assert np.all(np.abs(pair - found) <= 8 * own.bound(unit(np.float64), ~mask))


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_traced_back(asarray, rng, name, bad):
    arrays = dict(zip("qkv", problem(rng, 3, 5), strict=True))
    arrays[name][1, 1] = bad
    there, bias = {key: asarray(x) for key, x in arrays.items()}, asarray(np.zeros(7))
    with pytest.raises(ValueError, match=rf"{name}: expected finite entries, found {bad} at index \(1, 1\)"):
        relative_attention(**there, phi=lambda x: x, log_bias=bias)
    names = {"q": "phi_q", "k": "phi_k", "v": "v"}
    with pytest.raises(ValueError, match=f"{names[name]}: expected finite entries"):
        toeplitz_sums(**{names[key]: x for key, x in there.items()}, log_bias=bias)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": np.ones(4)}, ValueError, "q: expected shape"),
        ({"k": np.ones((5, 3))}, ValueError, "k: expected last axis 4 as q has"),
        ({"v": np.ones((6, 2))}, ValueError, "v: expected 5 rows as k has"),
        ({"log_bias": np.ones(8)}, ValueError, r"log_bias: expected \(\.\.\., 7\), found \(8,\)"),
        ({"log_bias": np.array(1.0)}, ValueError, r"log_bias: expected \(\.\.\., 7\), found \(\)"),
        (
            {"log_bias": np.ones(7, dtype=np.float32)},
            TypeError,
            "log_bias: expected dtype float64 as v has, found float32",
        ),
        (
            {"log_bias": np.full(7, -np.inf)},
            ValueError,
            r"log_bias: expected finite entries, found -inf at index \(0,\)",
        ),
        ({"log_bias": [0.0] * 7}, TypeError, "log_bias: expected an array, found list"),
        ({"log_bias": np.ones((2, 7)), "v": np.ones((3, 5, 2))}, ValueError, "leading axes do not broadcast"),
        ({"key_mask": np.ones(5)}, TypeError, "key_mask: expected booleans"),
        ({"causal": 1}, TypeError, "causal: expected True or False, found 1"),
        ({"phi": RandomMaclaurin("exp", 8)}, TypeError, r"phi: expected a draw; call \.draw\(dim, rng\)"),
        ({"phi": RandomMaclaurin("inv", 8).draw(4, 0)}, ValueError, "the series of the map needs"),
        ({"phi": lambda x: x[:-1]}, ValueError, r"phi: expected features \(\.\.\., 3, D\)"),
        ({"phi": lambda x: x * np.nan}, ValueError, "phi: expected finite features of finite tokens, found NaN"),
        ({"log_bias": np.ones(8), "phi": lambda x: 1 / 0}, ValueError, "log_bias: expected"),  # before any features
        ({"log_bias": np.ones((3, 7)), "q": np.ones((2, 3, 4))}, ValueError, r"arrays \(2,\), log_bias \(3,\)"),
    ],
)
def test_wrong_arguments_are_named(change, error, words):
    right = {
        "q": np.ones((3, 4)),
        "k": np.ones((5, 4)),
        "v": np.ones((5, 2)),
        "phi": lambda x: x,
        "log_bias": np.ones(7),
    }
    relative_attention(**right)
    with pytest.raises(error, match=words):
        relative_attention(**{**right, **change})


def test_wrong_arguments_of_the_sums_are_named():
    right = {"phi_q": np.ones((3, 4)), "phi_k": np.ones((5, 4)), "v": np.ones((5, 2)), "log_bias": np.ones(7)}
    with pytest.raises(TypeError, match="causal: expected True or False, found 1"):
        toeplitz_sums(**right, causal=1)
    with pytest.raises(ValueError, match=r"phi_k: expected last axis 4 as phi_q has"):
        toeplitz_sums(**{**right, "phi_k": np.ones((5, 3))})
    with pytest.raises(ValueError, match=r"log_bias: expected \(\.\.\., 7\), found \(6,\)"):
        toeplitz_sums(**{**right, "log_bias": np.ones(6)})
