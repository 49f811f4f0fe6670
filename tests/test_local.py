"""Local expansions: exact where every key or query is on its own, near everywhere else, and never outside the values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import LocalBudget, kernel_attention, local_attention, threads
from schoenbat_theory.attention import clusters, expansion
from schoenbat_theory.attention.local import doubted_local_attention

U = 2.0**-53


@pytest.fixture
def problem(rng):
    return rng.normal(size=(37, 4)), rng.normal(size=(53, 4)), rng.normal(size=(53, 3))


def size(q, k):
    """The largest inner product is at most this."""
    return q.shape[-1] * np.max(np.abs(q)) * np.max(np.abs(k))


def rounding(q, k, v, unit=U):
    """Return how far two computations may differ: exponents of at most 3 |q| |k|, sums of d, n and m terms, all relative to u."""
    return 8 * unit * ((q.shape[-1] + q.shape[-2]) * 3 * size(q, k) + k.shape[-2] + 32) * np.max(np.abs(v))


def relative_error(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def scaled(head):
    return head.q / 32**0.25, head.k / 32**0.25, head.v


@pytest.mark.parametrize(
    "budget", [LocalBudget(37, 1, 0), LocalBudget(1, 53, 0), LocalBudget(3, 5, 53), LocalBudget(99, 99, 99)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_exact_where_every_query_or_every_key_is_on_its_own(asarray, problem, budget, dtype):
    q, k, v = (asarray(x.astype(dtype)) for x in problem)
    found = local_attention(q, k, v, budget=budget)
    assert type(found) is type(q)
    assert found.dtype == q.dtype
    q, k, v = (st.to_host(x).astype(np.float64) for x in (q, k, v))
    bound = rounding(q, k, v, np.finfo(dtype).eps / 2)
    assert np.max(np.abs(st.to_host(found) - kernel_attention(q, k, v, "exp"))) <= bound


def test_one_cluster_and_one_block_are_the_weighted_mean(asarray, problem):
    """With x -> <x, m> on every key alike, the query cancels: the attention of the mean query."""
    q, k, v = problem
    found = st.to_host(local_attention(*map(asarray, problem), budget=LocalBudget(1, 1, 0)))
    expected = st.weighted_mean_attention(q[np.arange(37)], k, v)
    assert np.max(np.abs(found - expected)) <= rounding(q, k, v)


@pytest.mark.parametrize("exact", [0, 3, 20])
@pytest.mark.parametrize("lengths", [(37, 53), (64, 400), (5, 3), (300, 7)])
def test_weights_are_positive_and_sum_to_one(rng, lengths, exact):
    n, m = lengths
    q, k = 3 * rng.normal(size=(n, 4)), rng.normal(size=(m, 4))
    weights = local_attention(q, k, np.eye(m), budget=LocalBudget(4, 6, exact))
    assert weights.shape == (n, m)
    assert weights.min() >= 0
    assert np.max(np.abs(weights.sum(axis=1) - 1)) <= 2 * (m + 8) * U


def test_it_is_attention_whose_products_are_those_of_block_means(problem):
    """Against the definition, through the clusters and blocks that the fit returns."""
    q, k, v = problem
    log_weights = np.linspace(-2.0, 0.0, 53)
    sizes = LocalBudget(4, 6, 0).sizes(37, 53)
    rows, keys = expansion.fit(q[None], k[None], v[None], log_weights[None], sizes)
    logs, their_k, their_v = keys.rows[0, :, 0], keys.rows[0, :, 1:5], keys.rows[0, :, 5:8]
    found = local_attention(q, k, v, key_log_weights=log_weights, budget=LocalBudget(4, 6, 0))
    for place in rows[0]:  # 37 and more fill up, and are read elsewhere
        tile, read = place % 37, place < 37
        c = q[tile].mean(axis=0)
        w = np.exp(their_k @ c + logs)
        block = np.arange(len(w)) // (len(w) // 6)
        middle = np.stack([np.average(their_k[block == b], axis=0, weights=w[block == b]) for b in range(6)])
        weights = w * np.exp((q[tile] - c) @ middle[block].T)
        expected = weights @ their_v / weights.sum(axis=1, keepdims=True)
        assert np.max(np.abs(found[tile] - expected)[read]) <= rounding(q, k, v)


def test_exact_keys_are_those_that_a_block_would_spoil_most(rng):
    """Two blocks of four equal keys, but for one key: it is the one treated exactly, and nothing else is inexact."""
    k = np.repeat([[0.0, 0.0], [5.0, 5.0]], 4, axis=0)
    k[2] = [1.0, -1.0]
    q, v = rng.normal(size=(6, 2)), rng.normal(size=(8, 2))
    found = local_attention(q, k, v, budget=LocalBudget(2, 2, 1))
    assert np.max(np.abs(found - kernel_attention(q, k, v, "exp"))) <= rounding(q, k, v)
    inexact = local_attention(q, k, v, budget=LocalBudget(2, 2, 0))
    assert np.max(np.abs(inexact - kernel_attention(q, k, v, "exp"))) > 1e6 * rounding(q, k, v)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("every", [1, 2])
def test_real_heads_are_within_a_tenth_of_the_better_mean(factor, every):
    """Sharp heads and moderate ones, at half and at twice the logits, on all and on half of the tokens."""
    for head in st.shipped_heads():
        q, k, v = (x[::every] for x in scaled(head))
        exact = kernel_attention(factor * q, k, v, "exp")
        means = st.mean_attention(q, k, v), st.weighted_mean_attention(factor * q, k, v)
        found = relative_error(local_attention(factor * q, k, v), exact)
        assert found <= 0.2 * min(relative_error(mean, exact) for mean in means), head.name


def test_a_larger_budget_errs_less():
    q, k, v = scaled(st.shipped_heads()[1])
    exact = kernel_attention(q, k, v, "exp")
    errors = [relative_error(local_attention(q, k, v, budget=LocalBudget(c, c, 2 * c)), exact) for c in (8, 32, 128)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_the_same_arguments_give_the_same_bits_and_values_enter_linearly(problem):
    q, k, v = problem
    budget = LocalBudget(4, 5, 6)
    found = local_attention(q, k, v, budget=budget)
    assert np.array_equal(found, local_attention(q, k, v, budget=budget))
    double = local_attention(q, k, 2 * v, budget=budget)
    assert np.array_equal(double, 2 * found)


def test_clusters_are_of_one_size_and_nested():
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, size=(2, 48, 3))
    identity = np.broadcast_to(np.eye(3), (2, 3, 3))
    parts = clusters.equal_clusters(x, identity, 6, 4)
    assert parts.shape == (2, 6, 4, 2)
    assert np.array_equal(np.sort(parts.reshape(2, -1)), np.broadcast_to(np.arange(48), (2, 48)))
    whole = clusters.equal_clusters(x, identity, 6)
    assert np.array_equal(np.sort(whole), np.sort(parts.reshape(2, 6, 8)))


def test_queries_are_cut_where_keys_tell_them_apart_and_keys_where_queries_of_a_cluster_do(rng):
    """Clusters of one first coordinate, blocks of one second: then nothing is inexact, wherever the keys lie."""
    q, k, v = np.zeros((32, 16)), np.zeros((32, 16)), rng.normal(size=(32, 2))
    q[:, 0], q[:, 1] = np.repeat([3.0, -3.0], 16), np.tile(np.linspace(-6.5, 6.5, 16), 2)
    k[:, 0], k[:, 1] = np.tile(np.linspace(-3.2, 3.2, 16), 2), np.repeat([21.0, 19.0], 16)
    i, j = rng.permutation(32), rng.permutation(32)
    found = local_attention(q[i], k[j], v[j], budget=LocalBudget(2, 2, 0))
    assert np.max(np.abs(found - kernel_attention(q[i], k[j], v[j], "exp"))) <= rounding(q, k, v)


def test_tokens_that_are_small_beside_a_huge_one_are_cut_as_any_others(rng):
    x = rng.uniform(-1, 1, size=(1, 48, 3)).astype(np.float32)
    identity = np.eye(3, dtype=np.float32)[None]
    assert np.array_equal(
        clusters.equal_clusters(x * np.float32(2.0**-60), identity, 6, 4), clusters.equal_clusters(x, identity, 6, 4)
    )


def test_numbers_with_large_prime_factors_are_rounded_up_unless_each_token_is_on_its_own():
    assert LocalBudget(47, 13, 5).sizes(200, 300) == LocalBudget(48, 16, 5).sizes(200, 300)
    assert LocalBudget(47, 47, 5).sizes(47, 47)[:3] == (47, 1, 47)


def test_the_order_of_tokens_does_not_count_where_none_is_left_out_of_a_sample_or_fills_up(rng):
    q, k, v = rng.normal(size=(24, 16)), rng.normal(size=(32, 16)), rng.normal(size=(32, 3))
    i, j, budget = rng.permutation(24), rng.permutation(32), LocalBudget(6, 8, 4)
    found = local_attention(q, k, v, budget=budget)
    assert np.max(np.abs(local_attention(q[i], k[j], v[j], budget=budget) - found[i])) <= rounding(q, k, v)


def test_clusters_are_cut_across_the_axis_of_largest_variance():
    x = np.zeros((1, 8, 2))
    x[0, :, 0], x[0, :, 1] = [1, -1, 1, -1, 1, -1, 1, -1], np.linspace(-0.5, 0.5, 8)
    for metric, halves in (((1.0, 1.0), [{0, 2, 4, 6}, {1, 3, 5, 7}]), ((1e-4, 1.0), [{0, 1, 2, 3}, {4, 5, 6, 7}])):
        found = clusters.equal_clusters(x, np.diag(metric)[None], 2)
        assert sorted(map(sorted, found[0].tolist())) == sorted(map(sorted, halves))


@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_the_largest_entries_are_found_and_marked(asarray, rng, count):
    x = rng.normal(size=(4, 3, 9))
    index, marked = map(st.to_host, clusters.largest(asarray(x), count))
    expected = np.argsort(-x)[..., :count]
    assert np.array_equal(np.sort(index), np.sort(expected))
    assert np.array_equal(marked, np.any(np.arange(9) == expected[..., None], axis=-2))


def test_masked_keys_count_for_nothing_and_rows_without_keys_are_zeros(asarray, problem):
    q, k, v = problem
    used = np.arange(53) % 3 > 0
    hidden = [asarray(np.where(used[:, None], x, np.nan)) for x in (k, v)]
    found = st.to_host(local_attention(asarray(q), *hidden, key_mask=asarray(used), budget=LocalBudget(4, 53, 0)))
    assert np.max(np.abs(found - kernel_attention(q, k[used], v[used], "exp"))) <= rounding(q, k, v)
    coarse = st.to_host(local_attention(asarray(q), *hidden, key_mask=asarray(used), budget=LocalBudget(4, 8, 8)))
    assert np.array_equal(
        coarse, local_attention(q, np.where(used[:, None], k, 7.0), v, key_mask=used, budget=LocalBudget(4, 8, 8))
    )
    none = asarray(np.zeros(53, dtype=bool))
    assert np.array_equal(st.to_host(local_attention(*map(asarray, problem), key_mask=none)), np.zeros((37, 3)))


def test_masked_keys_sway_no_cluster():
    """Keys far from 0, where masked ones are put: blocks are as good as without the masked keys."""
    q, k, v = scaled(st.shipped_heads()[3])
    k, used = k + 20.0, np.arange(512) % 4 == 0  # a shift of all keys changes no weight
    exact = kernel_attention(q, k[used], v[used], "exp")
    budget = LocalBudget(64, 8, 0)
    dropped = relative_error(local_attention(q, k[used], v[used], budget=budget), exact)
    assert relative_error(local_attention(q, k, v, key_mask=used, budget=budget), exact) <= 1.5 * dropped


def test_a_scale_moved_from_keys_to_queries_changes_no_bit(problem):
    """Powers of two whose squares neither float32 nor a covariance could hold."""
    q, k, v = (x.astype(np.float32) for x in problem)
    found = local_attention(q * 2.0**80, k * 2.0**-80, v, budget=LocalBudget(4, 5, 6))
    assert np.array_equal(found, local_attention(q, k, v, budget=LocalBudget(4, 5, 6)))


def test_log_weights_of_any_size_weigh_keys(asarray, problem):
    q, k, v = problem
    log_weights = np.linspace(-4.0, 0.0, 53)
    log_weights[7] = -np.inf
    expected = kernel_attention(q, k, v, "exp", key_log_weights=log_weights)
    budget = LocalBudget(37, 5, 6)  # exact: every query is its cluster
    found = local_attention(*map(asarray, problem), key_log_weights=asarray(log_weights), budget=budget)
    assert np.max(np.abs(st.to_host(found) - expected)) <= rounding(q, k, v)
    large = local_attention(q, k, v, key_log_weights=np.full(53, 1e308), budget=budget)
    assert np.array_equal(large, local_attention(q, k, v, budget=budget))
    nothing = local_attention(q, k, v, key_log_weights=np.full(53, -np.inf))
    assert np.array_equal(nothing, np.zeros((37, 3)))


def test_leading_axes_broadcast_and_an_item_is_alone(asarray, rng):
    q, k, v = rng.normal(size=(2, 1, 20, 4)), rng.normal(size=(3, 31, 4)), rng.normal(size=(31, 2))
    mask = rng.random((3, 31)) < 0.7
    budget = LocalBudget(4, 6, 5)
    found = st.to_host(local_attention(*map(asarray, (q, k, v)), key_mask=asarray(mask), budget=budget))
    assert found.shape == (2, 3, 20, 2)
    for i in range(2):
        for j in range(3):
            alone = local_attention(q[i, 0], k[j], v, key_mask=mask[j], budget=budget)
            assert np.max(np.abs(found[i, j] - alone)) <= rounding(q, k, v)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 40), (40, 1), (3, 2)])
def test_few_queries_and_few_keys_are_no_special_case(asarray, rng, shape):
    n, m = shape
    q, k, v = rng.normal(size=(n, 4)), rng.normal(size=(m, 4)), rng.normal(size=(m, 2))
    found = st.to_host(local_attention(*map(asarray, (q, k, v))))
    assert found.shape == (n, 2)
    if n and m:  # the default treats so few tokens exactly
        assert np.max(np.abs(found - kernel_attention(q, k, v, "exp"))) <= rounding(q, k, v)
    else:
        assert not found.any()
    assert LocalBudget.for_length(n, m).multiply_adds(n, m, 4, 2) >= 0


def test_equal_tokens_and_constant_coordinates_have_no_axis_and_need_none(rng):
    v = rng.normal(size=(40, 2))
    for k in (np.ones((40, 3)), np.concatenate([rng.normal(size=(40, 1)), np.zeros((40, 2))], axis=1)):
        for q in (np.zeros((24, 3)), np.full((24, 3), 2.0)):
            found = local_attention(q, k, v, budget=LocalBudget(4, 5, 3))
            assert np.max(np.abs(found - kernel_attention(q, k, v, "exp"))) <= rounding(q, k, v)


def test_exponentials_do_not_overflow_and_products_that_do_are_refused(asarray, rng):
    q, k, v = (
        x.astype(np.float32)
        for x in (1e3 * rng.normal(size=(64, 4)), rng.normal(size=(96, 4)), rng.normal(size=(96, 2)))
    )
    for budget in (LocalBudget(8, 8, 16), LocalBudget(1, 2, 0)):
        found = st.to_host(local_attention(*map(asarray, (q, k, v)), budget=budget))
        assert np.isfinite(found).all()
        assert (found >= v.min(axis=0) - 1e-5).all()
        assert (found <= v.max(axis=0) + 1e-5).all()
    with pytest.raises(ValueError, match=r"q, k: finite, but an inner product may overflow .*float32"):
        local_attention(*map(asarray, (1e17 * q, 1e19 * k, v)))


def test_blocks_of_clusters_are_worked_on_one_after_another(problem, monkeypatch):
    q, k, v = problem
    budget = LocalBudget(9, 5, 6)
    whole = local_attention(q, k, v, budget=budget)
    monkeypatch.setattr(expansion, "NUMBERS", 1)
    assert np.max(np.abs(local_attention(q, k, v, budget=budget) - whole)) <= rounding(q, k, v)


def test_many_keys_are_chosen_in_runs_and_those_that_fill_up_have_no_weight(rng):
    sizes = LocalBudget(4, 4, 8).sizes(100, 1000)
    assert (sizes.run, sizes.chosen, sizes.tile) == (31, 1, 25)
    assert sizes.length >= 1000
    q, k, v = rng.normal(size=(100, 3)), rng.normal(size=(1000, 3)), rng.normal(size=(1000, 2))
    found = local_attention(q, k, v, budget=LocalBudget(100, 4, 8))
    assert np.max(np.abs(found - kernel_attention(q, k, v, "exp"))) <= rounding(q, k, v)


def test_the_default_costs_no_more_than_a_map_of_256_features_and_grows_as_a_root():
    def cost(n, m):
        return LocalBudget.for_length(n, m).multiply_adds(n, m, 32, 32)

    assert cost(512, 512) <= 26500
    assert cost(8192, 8192) / cost(512, 512) < 4.4  # 16 times the tokens, 4 times the cost
    assert cost(4096, 512) < 1.1 * cost(512, 512)
    assert LocalBudget.for_length(512, 512) == LocalBudget(64, 64, 128)
    assert LocalBudget.for_length(4096, 4096) == LocalBudget(192, 192, 384)


def test_the_cost_is_that_of_the_sums_by_hand():
    """One cluster, one block: no cut at all; d = e = 2, n = m = 4, 1 exact key."""
    queries = 4 * (5 * 2 + 2 + (1 + 1) * (2 + 2 + 4))
    cluster = 4 * (2 * 2 + 2 + 5) + 1 * (2 + 2 + 2)
    fit = 2 * 4 * 2 * (2 + 1) + 4 * 2 * (2 + 4)
    assert LocalBudget(1, 1, 1).multiply_adds(4, 4, 2, 2) == (queries + cluster + fit) / 4


def test_wrong_input_is_refused(problem):
    q, k, v = problem
    with pytest.raises(ValueError, match="q: expected finite entries, found nan"):
        local_attention(np.full((7, 4), np.nan), k, v)
    with pytest.raises(ValueError, match="v: expected finite entries, found inf"):
        local_attention(q, k, np.full((53, 3), np.inf))
    with pytest.raises(ValueError, match="k: expected last axis 4 as q has"):
        local_attention(q, k[:, :3], v)
    with pytest.raises(TypeError, match="budget: expected a LocalBudget or None, found 64"):
        local_attention(q, k, v, budget=64)
    with pytest.raises(TypeError, match="unexpected keyword argument 'causal'"):
        local_attention(q, k, v, causal=True)
    for name, value, least in (("clusters", 0, 1), ("blocks", 0, 1), ("exact", -1, 0)):
        with pytest.raises(ValueError, match=f"{name}: expected an int >= {least}, found {value}"):
            LocalBudget(**{"clusters": 1, "blocks": 1, "exact": 1, name: value})
    with pytest.raises(ValueError, match="exact: expected an int >= 0, found 1"):
        LocalBudget(1, 1, 1.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        LocalBudget(1, 1, 1).exact = 2


@pytest.mark.parametrize("lead", [(), (3,)])
def test_any_number_of_cores_gives_the_same_bits(rng, lead, monkeypatch):
    q, k, v = (rng.normal(size=(*lead, n, 4)).astype(np.float32) for n in (301, 411, 411))
    monkeypatch.setattr(expansion, "NUMBERS", 1 << 12)  # several pieces to a head, the last one short
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "CORES", cores)
        found.append(doubted_local_attention(q, k, v, budget=LocalBudget(18, 12, 30)))
    for out, doubts in found[1:]:
        assert np.array_equal(out, found[0][0])
        assert np.array_equal(doubts, found[0][1])
    heads = [x.reshape(-1, *x.shape[-2:]) for x in (q, k, v)]
    alone = [local_attention(*head, budget=LocalBudget(18, 12, 30)) for head in zip(*heads, strict=True)]
    assert np.array_equal(np.reshape(found[0][0], np.shape(alone)), alone)


def test_equal_scores_are_chosen_without_a_threshold(asarray):
    """Where several entries are as large as the last of the chosen, one of them is left out, the same in every row."""
    x = asarray(np.array([[1.0, 1.0, 1.0, 0.0], [-np.inf, -np.inf, -np.inf, -np.inf], [3.0, 0.0, 2.0, 1.0]]))
    index, marked = (st.to_host(found) for found in clusters.largest(x, 2))
    assert marked.sum(axis=-1).tolist() == [2, 2, 2]
    assert np.array_equal(np.flatnonzero(marked).reshape(3, 2) - 4 * np.arange(3)[:, None], index)
    assert index[2].tolist() == [0, 2]
