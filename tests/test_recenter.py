"""Recentring: the same attention, in coordinates that a series copes with; what it promises, and at which edges."""

import sys

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.features.frame import balanced_basis
from schoenbat_theory.features.recenter import SHARES, balance, recenter, sample_sizes, shifts
from schoenbat_theory.features.weights import normalised

INF = np.inf


def unit(dtype):
    return float(np.finfo(dtype).eps) / 2


def rows(rng, *shape, dtype=np.float64):
    """Tokens with a mean and correlated coordinates."""
    d = shape[-1]
    return (rng.normal(size=shape) @ rng.normal(size=(d, d)) / d + 0.5).astype(dtype)


def rounding(q, k, x, y, dtype):
    """How much logits may err after a change of basis, from what went in and out: q' = x, k' = y.

    A coordinate of q' errs by (d + 2) u |b_r| |q - c|, and the sum over r of |b_r| |b*_r| is at most |B| |B*| (Frobenius).
    The same for k', for the inner products before and after, and as much again for B^-T, the inverse up to rounding.
    """
    d = q.shape[-1]
    basis, dual = (np.linalg.lstsq(a - a[:1], b - b[:1])[0].T for a, b in ((q, x), (k, y)))
    sizes = [np.linalg.norm(a, axis=-1).max(initial=0) for a in (x @ dual, y @ basis, q, k)]
    both = np.linalg.norm(basis) * np.linalg.norm(dual) * sizes[0] * sizes[1]
    return 8 * (d + 4) * unit(dtype) * (both + sizes[2] * sizes[3])


def same_attention(found, target, v, logits, m, dtype):
    """Weights that err by factors up to e^logits, and sums of m products."""
    allowed = np.expm1(2 * logits) * np.ptp(v) + 2 * (m + 8) * unit(dtype) * np.abs(v).max()
    assert np.abs(found - target).max() <= allowed
    return allowed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attention_stays_what_it_is(asarray, rng, dtype):
    q, k, v = rows(rng, 40, 6, dtype=dtype), rows(rng, 50, 6, dtype=dtype), rng.normal(size=(50, 3)).astype(dtype)
    given = rng.normal(size=50).astype(dtype)
    given[::7] = -INF
    arrays = [asarray(a) for a in (q, k, v)]
    target = st.to_host(st.kernel_attention(*arrays, "exp", key_log_weights=asarray(given)))
    x, y, w = recenter(*arrays[:2], key_log_weights=asarray(given))
    assert (x.dtype, y.dtype, w.dtype, type(x)) == (arrays[0].dtype,) * 3 + (type(arrays[0]),)
    found = st.to_host(st.kernel_attention(x, y, arrays[2], "exp", key_log_weights=w))
    x, y, w = map(st.to_host, (x, y, w))
    used = given > -INF
    logits = rounding(*(a.astype(np.float64) for a in (q, k[used], x, y[used])), dtype)
    assert same_attention(found, target, v, logits, 50, dtype) < 0.1
    assert w.max() == 0
    assert np.array_equal(w == -INF, ~used)


@pytest.mark.parametrize("kernel", ["exp", "inv"])
def test_balancing_keeps_attention_with_every_kernel(asarray, rng, kernel):
    q, k, v = rows(rng, 40, 6) / 8, rows(rng, 50, 6) / 8, rng.normal(size=(50, 3))
    x, y = balance(asarray(q), asarray(k))
    found = st.to_host(st.kernel_attention(x, y, asarray(v), kernel))
    logits = rounding(q, k, st.to_host(x), st.to_host(y), np.float64)
    same_attention(found, st.kernel_attention(q, k, v, kernel), v, 4 * logits, 50, np.float64)  # 1/(1 - t), |t| <= 1/2


def moments(x, weights):
    return (x.swapaxes(-1, -2) * weights[..., None, :]) @ x


@pytest.mark.parametrize("transform", [recenter, balance])
def test_second_moments_are_one_diagonal_that_falls(asarray, rng, transform):
    q, k = rows(rng, 2, 40, 6), rows(rng, 2, 50, 6)
    mask = np.arange(50) % 3 > 0
    x, y, *log_weights = map(st.to_host, transform(asarray(q), asarray(k), key_mask=asarray(mask)))
    weights = normalised(log_weights[0] if log_weights else np.where(mask, 0.0, -INF))
    queries, keys = moments(x, np.full(40, 1 / 40)), moments(y, weights)
    diagonal = np.diagonal(queries, axis1=-2, axis2=-1)
    # Eigenvectors and products of d x d matrices, each off by d u times the norm; conditions of X and Y are below 1e5 here.
    slack = 32 * 6 * unit(np.float64) * 1e5 * diagonal.max()
    assert np.abs(queries - keys).max() <= slack
    assert np.abs(queries - np.eye(6) * diagonal[..., None]).max() <= slack
    assert np.all(np.diff(diagonal) <= slack)
    assert diagonal[..., 0].min() > 2 * diagonal[..., -1].max()  # it does fall


def test_the_weighted_mean_of_recentred_keys_is_zero(asarray, rng):
    q, k = rows(rng, 3, 20, 4), rows(rng, 3, 30, 4)
    _, y, w = map(st.to_host, recenter(asarray(q), asarray(k)))
    mean = normalised(w)[..., None, :] @ y
    assert np.abs(mean).max() <= 100 * unit(np.float64) * np.abs(y).max()


def test_coordinates_do_not_depend_on_the_basis_that_was_given(rng):
    """Balanced coordinates are determined up to signs."""
    q, k, change = rng.normal(size=(40, 4)), rng.normal(size=(50, 4)), rng.normal(size=(4, 4)) + 3 * np.eye(4)
    x, _, w = recenter(q, k)
    x2, _, w2 = recenter(q @ change, k @ np.linalg.inv(change).T)
    assert np.allclose(np.abs(x), np.abs(x2), atol=1e-9)
    assert np.allclose(w, w2, atol=1e-12)


@pytest.mark.parametrize("lead", [((2, 1), (3,)), ((), (2,)), ((2,), ()), ((0,), ()), ((2, 0), (0,))])
def test_leading_axes_broadcast_and_every_head_is_on_its_own(asarray, rng, lead):
    q, k = rng.normal(size=(*lead[0], 9, 3)), rng.normal(size=(*lead[1], 8, 3))
    shape = np.broadcast_shapes(*lead)
    x, y, w = map(st.to_host, recenter(asarray(q), asarray(k)))
    assert (x.shape, y.shape, w.shape) == ((*shape, 9, 3), (*shape, 8, 3), (*shape, 8))
    if shape and 0 not in shape:
        last = (-1,) * len(shape)
        one = recenter(np.broadcast_to(q, (*shape, 9, 3))[last], np.broadcast_to(k, (*shape, 8, 3))[last])
        for found, alone in zip((x, y, w), one, strict=True):
            assert np.allclose(found[last], alone, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "d"), [(1, 1, 3), (1, 5, 3), (5, 1, 3), (3, 4, 8), (6, 6, 1), (0, 4, 3), (4, 0, 3), (0, 0, 1)]
)
def test_few_tokens_and_many_coordinates(asarray, rng, n, m, d):
    q, k, v = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=(m, 2))
    x, y, w = recenter(asarray(q), asarray(k))
    found = st.to_host(st.kernel_attention(x, y, asarray(v), "exp", key_log_weights=w))
    # Directions without any token are raised to sqrt(u): the basis has a condition of at most u^(-1/4), up to d.
    target = st.kernel_attention(q, k, v, "exp")
    assert np.abs(found - target).max(initial=0) <= 100 * d * unit(np.float64) ** 0.75 * max(
        np.abs(v).max(initial=0), 1
    )
    x, y = balance(q, k)
    assert np.allclose(x @ y.T, q @ k.T, atol=1e-10)
    heads = recenter(np.stack([q, q]), np.stack([k, k]))
    assert all(np.allclose(a[1], b) for a, b in zip(heads, recenter(q, k), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pre_scaled_tokens_have_a_direction_less_and_are_recentred_all_the_same(rng, dtype):
    q, k, v = (st.pre_scale(rows(rng, 64, 8, dtype=dtype)) for _ in range(3))
    x, y, w = recenter(q, k)
    gap = np.abs(st.kernel_attention(x, y, v, "exp", key_log_weights=w) - st.kernel_attention(q, k, v, "exp"))
    assert gap.max() <= 100 * 8 * unit(dtype) ** 0.75


def test_identical_tokens_are_recentred_to_logits_of_zero(asarray):
    q, k = np.full((5, 3), 2.0), np.full((4, 3), -7.0)
    x, y, w = map(st.to_host, recenter(asarray(q), asarray(k)))
    assert np.abs(x @ y.T).max() <= 100 * unit(np.float64) * 42  # of <q, k> = -42
    assert np.array_equal(w, np.zeros(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_lengths_whose_squares_overflow_are_no_obstacle(rng, dtype, scale):
    q, k, v = rows(rng, 20, 4), rows(rng, 30, 4), rng.normal(size=(30, 2)).astype(dtype)
    target = st.kernel_attention(q.astype(dtype), k.astype(dtype), v, "exp")
    q, k = (q * scale).astype(dtype), (k / scale).astype(dtype)
    x, y, w = recenter(q, k)
    found = st.kernel_attention(x, y, v, "exp", key_log_weights=w)
    assert np.abs(found - target).max() <= 1000 * unit(dtype)
    assert np.abs(x).max() < 1e3 > np.abs(y).max()


def test_the_mean_of_queries_whose_sum_overflows_is_found():
    assert np.allclose(shifts(np.full((8, 2), 1e308), np.zeros((3, 2)), np.zeros(3))[0], 1e308)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_basis_is_far_from_singular_whatever_the_tokens(rng, dtype):
    x, y = rng.normal(size=(3, 8)).astype(dtype), (rng.normal(size=(50, 8)) * 0.1 ** np.arange(8)).astype(dtype)
    for a, b in ((x, y), (y, x), (x * 0, y), (x, x * 0), (x[:0], y)):
        basis, dual = balanced_basis(a, b, np.full(len(b), 1 / len(b), dtype=dtype))
        condition = float(np.linalg.cond(basis.astype(np.float64)))
        assert condition <= 1.01 * unit(dtype) ** -0.25
        basis, dual = basis.astype(np.float64), dual.astype(np.float64)
        # Each is made in float64 (d u, times the condition of L, at most u^(-1/4) of its own dtype), cast and scaled.
        allowed = 4 * 8 * unit(np.float64) * unit(dtype) ** -0.25 + 4 * unit(dtype) * np.abs(basis).T @ np.abs(dual)
        assert np.all(np.abs(basis.T @ dual - np.eye(8)) <= allowed)


def test_long_tokens_give_log_weights_that_do_not_overflow(rng):
    q, k, v = 1e4 * rows(rng, 20, 4), 1e4 * rows(rng, 30, 4), rng.normal(size=(30, 2))
    x, y, w = recenter(q, k)
    assert np.all(w <= 0)
    assert w.max() == 0
    found = st.kernel_attention(x, y, v, "exp", key_log_weights=w)
    # Logits near 1e8 have an absolute error near 1e-8 in either form.
    assert np.abs(found - st.kernel_attention(q, k, v, "exp")).max() <= 1e-5


def test_only_differences_of_log_weights_count(rng):
    q, k = rows(rng, 8, 3), rows(rng, 6, 3)
    plain = recenter(q, k)
    far = recenter(q, k, key_log_weights=np.full(6, 1e308))
    assert all(np.array_equal(a, b) for a, b in zip(plain, far, strict=True))


def test_masked_keys_are_never_looked_at(asarray, rng):
    q, k, mask = rows(rng, 8, 3), rows(rng, 6, 3), np.array([True, False, True, True, False, True])
    spoilt = np.where(mask[:, None], k, np.nan)
    x, y, w = map(st.to_host, recenter(asarray(q), asarray(spoilt), key_mask=asarray(mask)))
    assert np.array_equal(y[~mask], np.zeros((2, 3)))
    assert np.array_equal(w == -INF, ~mask)
    given = np.where(mask, 0.0, -INF)
    for one, other in zip((x, y, w), recenter(q, spoilt, key_log_weights=given), strict=True):
        assert np.allclose(one, other, atol=1e-14)
    _, y = balance(asarray(q), asarray(spoilt), key_mask=asarray(mask))
    assert np.array_equal(st.to_host(y)[~mask], np.zeros((2, 3)))


def test_without_a_key_left_rows_of_attention_are_zeros(asarray, rng):
    q, k, mask = rows(rng, 2, 8, 3), rows(rng, 2, 6, 3), np.array([[True] * 6, [False] * 6])
    x, y, w = recenter(asarray(q), asarray(k), key_mask=asarray(mask))
    assert all(np.all(np.isfinite(st.to_host(a))) for a in (x, y))
    found = st.to_host(st.kernel_attention(x, y, asarray(np.ones((6, 1))), "exp", key_log_weights=w))
    assert np.array_equal(found[1], np.zeros((8, 1)))
    assert np.allclose(found[0], 1)


def first_degree(q, k, v, c, m, w, given=None):
    """The relative error of attention of degree <= 1 around these shifts."""
    weights = normalised(w)
    found = v.T @ weights + (q - c) @ ((k - m) * weights[:, None]).T @ (v - weights @ v)
    exact = st.kernel_attention(q, k, v, "exp", key_log_weights=given)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def around(share, q, k, given=0.0):
    c = share * q.mean(axis=0)
    w = given + k @ c
    return c, normalised(w) @ k, w


def test_shifts_are_a_share_of_the_mean_query_and_the_weighted_mean_of_the_keys(asarray, rng):
    q, k, given = rows(rng, 4, 20, 3), rows(rng, 4, 30, 3), rng.normal(size=(4, 30))
    c, m, w = map(st.to_host, shifts(*map(asarray, (q, k, given))))
    mean = q.mean(axis=-2)
    shares = np.sum(c * mean, axis=-1) / np.sum(mean * mean, axis=-1)
    assert np.all(np.abs(shares[:, None] - np.array(SHARES)).min(axis=1) < 1e-12)
    tilted = given + (k @ c[..., None])[..., 0]
    assert np.allclose(w, tilted - tilted.max(axis=-1, keepdims=True), atol=1e-12)
    assert np.allclose(m, (normalised(w)[..., None, :] @ k)[..., 0, :], atol=1e-12)


def test_the_share_is_the_best_of_all_where_all_tokens_are_sampled(rng):
    """Values that are independent noise: with as many of them as keys the mean over values is what is predicted."""
    chosen = set()
    for sharpness in (0.5, 1.0, 2.0, 3.0, 4.0, 6.0):
        q, k, given = sharpness * rows(rng, 8, 8), sharpness * rows(rng, 64, 8), 2 * rng.normal(size=64)
        v = np.eye(64)  # |D V|^2 = |D|^2 then
        errors = [first_degree(q, k, v, *around(share, q, k, given), given) for share in SHARES]
        chosen.add(best := SHARES[int(np.argmin(errors))])
        assert np.allclose(shifts(q, k, given)[0], best * q.mean(axis=0))
    assert len(chosen) > 1


def test_shares_on_real_heads_cost_little_against_the_best(rng):
    """Sharp heads (layer 2) want a part of the mean query, moderate ones (layer 5) all of it."""
    for head in st.shipped_heads():
        q, k = (x / head.q.shape[1] ** 0.25 for x in (head.q, head.k))
        found = first_degree(q, k, head.v, *shifts(q, k, np.zeros(len(k))))
        best = min(first_degree(q, k, head.v, *around(share, q, k)) for share in SHARES)
        assert found <= 1.05 * best  # measured: 1.03 at most


def test_where_no_logit_is_beyond_1_all_of_the_mean_is_taken_without_a_trial(asarray, rng, monkeypatch):
    """Of two heads, one small and one sharp, each is as alone."""
    q, k = rows(rng, 2, 8, 4), rows(rng, 2, 16, 4)
    q[0] /= np.abs(q[0] @ k[0].T).max()  # the largest is 1 but for rounding
    q[0] *= 1 - 1e-12
    q[1] *= 8
    mean, given = q.mean(axis=-2), np.zeros((2, 16))
    c = st.to_host(shifts(*map(asarray, (q, k, given)))[0])
    assert np.allclose(c[0], mean[0])
    assert not np.allclose(c[1], mean[1])
    module = sys.modules[shifts.__module__]
    monkeypatch.setattr(module, "SHARES", (0.5,))  # whatever a trial finds
    c = st.to_host(shifts(*map(asarray, (q, k, given)))[0])
    assert np.allclose(c, [mean[0], mean[1] / 2])
    q[0] *= 1 + 1e-9
    assert np.allclose(st.to_host(shifts(*map(asarray, (q, k, given)))[0]), mean / 2)


def test_one_huge_query_outside_the_sample_does_not_take_all_others_along(asarray, rng):
    q, k = rows(rng, 8, 2) / 100, rows(rng, 16, 2)
    q[0] = 1e4  # of 8 queries those in the middle of either half are looked at
    assert not np.any(st.to_host(shifts(*map(asarray, (q, k, np.zeros(16))))[0]))


def test_a_sample_is_spread_over_all_tokens():
    """In d = 2 a sample has 32 keys; the first 32 of these 64 are zeros, and tell nothing."""
    rng = np.random.default_rng(9)
    q, k = 4 * rows(rng, 2, 2), 4 * rows(rng, 64, 2)
    k[:32] = 0
    assert not np.allclose(shifts(q, k, np.zeros(64))[0], q.mean(axis=0))
    q, k = np.concatenate([np.zeros((30, 2)), 4 * rows(rng, 30, 2)]), k[32:]
    assert not np.allclose(shifts(q, k, np.zeros(32))[0], q.mean(axis=0))


def test_a_share_is_chosen_where_no_query_or_key_tells(rng):
    q, k = rows(rng, 4, 3), rows(rng, 5, 3)
    mean = q.mean(axis=0)
    assert np.allclose(shifts(q, k, np.full(5, -INF))[0], mean)  # all are predicted alike
    with np.errstate(all="ignore"):
        assert np.allclose(shifts(q * 1e200, k * 1e107, np.zeros(5))[0], mean * 1e200)  # no prediction is finite


def test_a_sample_never_costs_more_than_the_moments():
    for n, m, d in [(1, 1, 1), (16, 4096, 32), (5000, 7, 64), (100_000, 100_000, 128), (0, 3, 2)]:
        queries, keys = sample_sizes(n, m, d)
        assert queries <= n
        assert keys <= m
        assert queries * keys * d <= m * d**2


def test_a_frame_is_what_recenter_applies(asarray, rng):
    q, k, given = rows(rng, 9, 3), rows(rng, 8, 3), rng.normal(size=8)
    c, m, w = shifts(q, k, given)
    basis, dual = balanced_basis(q - c, k - m, normalised(w))
    assert np.allclose(basis @ dual.T, np.eye(3), atol=1e-12)
    frame = st.Frame(*map(asarray, (c, m, basis, dual)))
    x, y, log_weights = recenter(q, k, key_log_weights=given)
    assert np.allclose(st.to_host(frame.queries(asarray(q))), x, atol=1e-12)
    assert np.allclose(st.to_host(frame.keys(asarray(k))), y, atol=1e-12)
    assert np.allclose(st.to_host(frame.key_log_weights(asarray(k), asarray(given))), log_weights, atol=1e-12)
    for far in (None, asarray(np.full(8, 1e300))):  # only differences count
        assert np.allclose(st.to_host(frame.key_log_weights(asarray(k), far)), k @ c - (k @ c).max(), atol=1e-12)


def test_wrong_input_is_refused(rng):
    q, k = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    for transform in (recenter, balance):
        with pytest.raises(
            ValueError, match=r"q, k: expected \(..., n, d\), \(..., m, d\), d >= 1, found \(4, 3\), \(5, 2\)"
        ):
            transform(q, k[:, :2])
        with pytest.raises(ValueError, match=r"d >= 1, found \(4, 0\), \(5, 0\)"):
            transform(q[:, :0], k[:, :0])
        with pytest.raises(ValueError, match="leading axes do not broadcast"):
            transform(np.stack([q] * 2), np.stack([k] * 3))
        with pytest.raises(ValueError, match="q: expected finite entries, found nan"):
            transform(q * np.nan, k)
        with pytest.raises(ValueError, match="k: expected finite entries, found inf"):
            transform(q, np.full((5, 3), INF))
        with pytest.raises(TypeError, match="k: expected an array"):
            transform(q, [[1.0]])
        with pytest.raises(TypeError, match="k: expected dtype float64"):
            transform(q, k.astype(np.float32))
        with pytest.raises(ValueError, match="key_log_weights: expected finite numbers or -inf"):
            transform(q, k, key_log_weights=np.full(5, INF))
        with pytest.raises(TypeError, match="key_log_weights: expected dtype float64 as k has, found float32"):
            transform(q, k, key_log_weights=np.zeros(5, dtype=np.float32))
        with pytest.raises(ValueError, match=r"key_log_weights: expected \(..., 5\), found \(\)"):
            transform(q, k, key_log_weights=np.array(0.0))
        with pytest.raises(ValueError, match=r"key_mask: expected \(..., 5\), found \(4,\)"):
            transform(q, k, key_mask=np.ones(4, dtype=bool))
        with pytest.raises(ValueError, match=r"do not broadcast: arrays \(2,\), key_mask \(3,\)"):
            transform(np.stack([q] * 2), k, key_mask=np.ones((3, 5), dtype=bool))


def test_what_overflows_is_refused_by_name(rng):
    far = np.array([[1.7e308]] * 3 + [[-1.7e308]])
    for transform, q, k in [
        (recenter, np.full((4, 3), 1e200), np.full((5, 3), 1e200)),  # an inner product
        (recenter, far, np.zeros((5, 1))),  # the distance from the mean query
        (balance, np.full((4, 3), 1e-320), np.full((5, 3), 1e308)),  # the ratio of their lengths
        (recenter, np.array([[1e-320], [0.0]]), np.array([[1e308], [0.0]])),
    ]:
        with pytest.raises(ValueError, match="q, k: finite, but their moments overflow float64"):
            transform(q, k)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="overflow float64"):
        shifts(np.full((4, 3), 1e200), np.full((5, 3), 1e200), np.zeros(5))  # which has no basis to show it
