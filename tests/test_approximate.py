"""The best approximation within a budget: what is tried, what wins, what it says of itself, and when attention is exact."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import approximate_attention
from schoenbat_theory.attention.costs import Sizes
from schoenbat_theory.attention.local import doubted_local_attention

MEANS = ["mean of the values", "weighted mean of the values"]
TRIALS = sys.modules["schoenbat_theory.attention.trials"]
HEAD = sys.modules["schoenbat_theory.attention.certify"].Head(*np.ones((3, 9, 4)), st.get_kernel("exp"), None)


def relative(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def scaled(head):
    return (*(x / head.q.shape[-1] ** 0.25 for x in (head.q, head.k)), head.v)


@pytest.fixture(scope="module")
def problem():
    """Moderate attention, long enough for 16 features to cost less than it."""
    return tuple(np.random.default_rng(0).normal(size=(3, 400, 4)) * np.array([0.7, 0.7, 1.0])[:, None, None])


@pytest.mark.parametrize("head", st.shipped_heads(), ids=lambda head: head.name)
def test_on_real_heads_it_is_several_times_better_than_features_and_means_at_their_cost(head):
    q, k, v = scaled(head)
    exact = st.kernel_attention(q, k, v, "exp")
    found = approximate_attention(q, k, v, rng=0)
    features = st.feature_attention(q, k, v, st.PositiveFeatures(256).draw(32, 0))
    error = relative(found.output, exact)
    assert error < 0.25 * relative(features, exact)
    assert error < 0.2 * min(relative(one(q, k, v), exact) for one in (st.mean_attention, st.weighted_mean_attention))
    assert found.method in ("monomials", "local expansions")
    assert found.multiply_adds <= 2 * 256 * 65  # of 256 features, its own checking included


@pytest.mark.parametrize("head", st.shipped_heads()[::3], ids=lambda head: head.name)
def test_after_pre_scaling_monomials_win_and_are_certified(head):
    q, k = st.prepare(head.q, head.k)
    found = approximate_attention(q, k, head.v, rng=0)
    assert found.method == "monomials"
    assert found.certificate.certified
    assert found.certificate.interval[1] < 1e-4


def test_certificates_of_winners_cover():
    covered = total = 0
    for head in st.shipped_heads()[4:]:  # moderate: no row dominates
        q, k, v = scaled(head)
        exact = st.kernel_attention(q, k, v, "exp")
        for seed in range(5):
            found = approximate_attention(q, k, v, rng=seed)
            low, high = found.certificate.interval
            covered += low <= relative(found.output, exact) <= high
            total += 1
    assert covered >= 17, f"of {total}"  # 95 % of 20 and more than two standard deviations


def test_the_winner_errs_least_on_the_rows_that_choose(problem):
    for scale in (0.1, 1.0, 3.0):
        q, k, v = problem
        found = approximate_attention(scale * q, k, v, n_features=128, rng=1)
        errors = {one.name: one.error for one in found.candidates}
        assert list(errors)[:2] == MEANS
        assert found.method == min(errors, key=errors.get)


def test_it_pays_candidates_and_rows_from_one_budget(problem):
    q, k, v = problem
    found = approximate_attention(q, k, v, n_features=200, rng=0)
    assert found.method != "exact attention"
    tried = sum(one.multiply_adds for one in found.candidates)
    rows = 88 * 400 * (4 + 4 + 2)  # of 400 keys each
    assert found.multiply_adds == pytest.approx(tried + rows / 400, rel=1e-12)
    assert found.multiply_adds <= 2 * 200 * (4 + 4 + 1)


def test_88_rows_are_computed_each_once_and_attention_never_whole(problem, monkeypatch):
    asked = []
    module = sys.modules["schoenbat_theory.attention.certify"]

    def counting(q, *rest, **options):
        asked.append(q)
        return st.kernel_attention(q, *rest, **options)

    monkeypatch.setattr(module, "kernel_attention", counting)
    found = approximate_attention(*problem, n_features=200, rng=0)
    assert [len(rows) for rows in asked] == [24, 16, 48]
    assert len(np.unique(np.concatenate(asked), axis=0)) == 88
    assert (found.certificate.rows, found.certificate.certain, found.certificate.n) == (88, 40, 400)


def test_doubts_are_the_squared_distance_to_the_cluster_times_what_blocks_leave_out(asarray, rng):
    q, k, v = rng.normal(size=(6, 1)), np.sort(rng.normal(size=(8, 1)), axis=0), rng.normal(size=(8, 2))
    budget = st.LocalBudget(clusters=1, blocks=2, exact=0)
    out, doubts = map(st.to_host, doubted_local_attention(*map(asarray, (q, k, v)), budget=budget))
    halves, weights = k.reshape(2, 4), np.exp(q.mean() * k).reshape(2, 4)  # on a line blocks are halves
    means = np.sum(weights * halves, axis=1) / weights.sum(axis=1)
    x = q - q.mean()
    shares = weights.sum(axis=1) * np.exp(x * means)
    expected = x[:, 0] ** 2 * (shares @ halves.var(axis=1)) / shares.sum(axis=1)
    ratios = doubts / expected
    assert ratios == pytest.approx([ratios[0]] * 6, rel=1e-9)
    assert np.array_equal(out, st.to_host(st.local_attention(*map(asarray, (q, k, v)), budget=budget)))


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_rows_that_are_doubted_most_hold_most_of_the_error_of_sharp_heads(factor):
    for head in st.shipped_heads()[:4]:
        q, k, v = scaled(head)
        out, doubts = doubted_local_attention(factor * q, k, v, budget=st.LocalBudget(48, 48, 96))
        errors = np.sum((out - st.kernel_attention(factor * q, k, v, "exp")) ** 2, axis=-1)
        held = errors[np.argsort(-doubts)[:32]].sum() / errors.sum()
        assert held > 0.6, head.name  # 32 rows of 512 hold 1/16 of errors that are spread evenly


def test_certificates_of_sharp_heads_look_at_doubted_rows():
    words = []
    for head in st.shipped_heads()[:4]:
        q, k, v = scaled(head)
        exact = st.kernel_attention(q, k, v, "exp")
        for seed in range(5):
            found = approximate_attention(q, k, v, rng=seed)
            low, high = found.certificate.interval
            words.append(found.certificate.certified and low <= relative(found.output, exact) <= high)
    assert sum(words) >= 14  # of 20; without the doubts all but one are refused or wrong


def test_rows_that_choose_stand_for_all_rows(problem):
    head = sys.modules["schoenbat_theory.attention.certify"].Head(*problem, st.get_kernel("exp"), None)
    module = sys.modules["schoenbat_theory.attention.approximate"]
    sizes = Sizes(400, 400, 4, 4)
    tried = [module._Tried.of(one(head, sizes)) for one in (TRIALS.mean, TRIALS.first_order)]
    far = np.argsort(-np.sum((tried[0].output - tried[1].output) ** 2, axis=-1))
    rows = module._Rows.of(head, np.concatenate([far[2:5], far[-21:]]))  # some of the farthest are there already
    rows, weights = module._with_certain(head, tried, rows)
    assert len(set(rows.numbers)) == 40
    assert set(far[:19]) <= set(rows.numbers)
    assert weights.sum() == pytest.approx(400, rel=1e-12)
    assert np.count_nonzero(weights == 1) == 19
    assert np.array_equal(rows.exact, head.rows(rows.numbers))


def test_monomials_too_narrow_for_degree_1_are_not_tried():
    found = [TRIALS.monomials(HEAD, Sizes(9, 9, 4, 4), width, 1e9) for width in (5, 6)]
    assert [len(trials) for trials in found] == [0, 1]


@pytest.mark.parametrize("unit", [2.0**1000, 2.0**-900])
def test_the_unit_of_values_does_not_matter(problem, unit):
    q, k, v = problem
    one, other = (approximate_attention(q, k, x, n_features=200, rng=0) for x in (v, unit * v))
    assert np.array_equal(other.output, unit * one.output)
    assert other.certificate.interval == one.certificate.interval


def test_local_expansions_pay_for_their_doubts():
    sizes, budget = Sizes(512, 512, 32, 32), st.LocalBudget.for_length(512, 512)
    cost = budget.multiply_adds(*sizes) + 2 * 32 + budget.blocks
    (one,), (coarser,) = (TRIALS.local(HEAD, sizes, 256, left) for left in (cost, cost - 1))
    assert one.multiply_adds == cost
    assert coarser.multiply_adds < cost


def test_a_larger_budget_is_used():
    q, k, v = np.random.default_rng(1).normal(size=(3, 3000, 4))
    exact = st.kernel_attention(q, k, v, "exp")
    small, large = (approximate_attention(q, k, v, n_features=D, tolerance=np.inf, rng=0) for D in (200, 1600))
    assert relative(large.output, exact) < relative(small.output, exact) / 4


# Exact attention.


def test_where_exact_attention_costs_no_more_than_the_budget_it_is_computed(problem):
    q, k, v = problem  # 400 (4 + 4 + 2) = 4000 against 2 D (4 + 4 + 1)
    found = approximate_attention(q, k, v, n_features=223, rng=0)
    assert found.method == "exact attention"
    assert [one.name for one in found.candidates] == ["exact attention"]
    assert found.multiply_adds == 4000
    assert np.array_equal(found.output, st.kernel_attention(q, k, v, "exp"))
    assert (found.certificate.error, found.certificate.interval, found.certificate.certified) == (0.0, (0.0, 0.0), True)
    assert approximate_attention(q, k, v, n_features=222, rng=0).method != "exact attention"
    q, k, v = q[:360], k[:360], v[:360]
    assert (
        approximate_attention(q, k, v, n_features=200, rng=0).method == "exact attention"
    )  # 3600, the same as the budget


def test_where_all_rows_would_be_looked_at_it_is_computed(rng):
    q, k, v = rng.normal(size=(88, 2)), rng.normal(size=(5000, 2)), rng.normal(size=(5000, 2))
    found = approximate_attention(q, k, v, n_features=8, rng=0)
    assert [one.name for one in found.candidates] == ["exact attention"]
    assert found.certificate.certain == found.certificate.rows == 88


def test_where_nothing_else_will_do_it_is_computed():
    q, k, v = np.random.default_rng(0).normal(size=(3, 300, 16))  # random and sharp: no structure to use
    found = approximate_attention(2 * q, k, v, n_features=32, rng=0)
    assert found.method == "exact attention"
    assert min(one.error for one in found.candidates[:-1]) > 0.5
    assert np.array_equal(found.output, st.kernel_attention(2 * q, k, v, "exp"))
    assert found.multiply_adds > 300 * (16 + 16 + 2)


def test_a_tolerance_asks_for_a_certificate(problem):
    free = approximate_attention(*problem, n_features=200, rng=0)
    high = free.certificate.interval[1]
    same = approximate_attention(*problem, n_features=200, rng=0, tolerance=high)
    assert same.method == free.method
    stricter = approximate_attention(*problem, n_features=200, rng=0, tolerance=0.99 * high)
    assert stricter.method == "exact attention"
    assert stricter.candidates[:-1] == free.candidates
    q, k, v = np.random.default_rng(0).normal(size=(3, 300, 16))
    never = approximate_attention(2 * q, k, v, n_features=32, rng=0, tolerance=math.inf)
    assert never.method != "exact attention"


# Kernels, weights, heads.


@pytest.mark.parametrize("kernel", ["inv", "logi", "sqrt", st.polynomial(2, 1.0)], ids=str)
def test_other_kernels_have_means_and_monomials(problem, kernel):
    q, k, v = 0.25 * problem[0], 0.25 * problem[1], problem[2]
    found = approximate_attention(q, k, v, kernel=kernel, n_features=200, rng=0)
    assert [one.name for one in found.candidates] == [*MEANS, "monomials"]
    assert found.method == "monomials"
    exact = st.kernel_attention(q, k, v, kernel)
    assert relative(found.output, exact) < 0.1 * relative(st.mean_attention(q, k, v), exact)


def test_the_mean_is_there_where_a_kernel_is_0_at_0(problem):
    q, k, v = problem
    found = approximate_attention(q, k, v, kernel=st.polynomial(2, 0.0), n_features=200, tolerance=math.inf, rng=0)
    assert math.isfinite(found.candidates[0].error)


@pytest.mark.parametrize("kernel", ["exp", "inv"])
def test_monomials_know_the_weights_of_keys(problem, kernel):
    q, k, v = 0.2 * problem[0], 0.2 * problem[1], problem[2]
    weights = 2 * np.random.default_rng(2).normal(size=400)
    found = approximate_attention(q, k, v, kernel=kernel, key_log_weights=weights, n_features=200, rng=0)
    assert found.method == "monomials"
    assert relative(found.output, st.kernel_attention(q, k, v, kernel, key_log_weights=weights)) < 0.01


@pytest.mark.parametrize("kernel", ["trigh", st.get_kernel("exp").scaled(0.5)], ids=str)
def test_every_exponential_is_one(problem, kernel):
    q, k, v = problem
    slope = st.get_kernel(kernel).log_slope
    one = approximate_attention(q, k, v, kernel=kernel, n_features=200, rng=0)
    other = approximate_attention(slope * q, k, v, n_features=200, rng=0)
    assert one.method == other.method
    assert np.array_equal(one.output, other.output)


def test_masked_keys_are_not_looked_at_and_weights_count(asarray, problem):
    q, k, v = problem
    mask, weights = np.arange(400) % 4 > 0, np.random.default_rng(2).normal(size=400)
    exact = st.kernel_attention(q, k, v, "exp", key_mask=mask, key_log_weights=weights)
    k, v = (np.where(mask[:, None], x, np.nan) for x in (k, v))
    found = approximate_attention(
        *map(asarray, (q, k, v)), n_features=200, key_mask=asarray(mask), key_log_weights=asarray(weights), rng=0
    )
    assert found.method != "exact attention"
    assert relative(st.to_host(found.output), exact) < 0.1
    errors = {one.name: one.error for one in found.candidates}
    mean = np.broadcast_to(np.average(problem[2][mask], axis=0, weights=np.exp(weights[mask])), exact.shape)
    assert errors[MEANS[0]] == pytest.approx(relative(mean, exact), rel=0.5)


def test_each_head_has_a_method_of_its_own(asarray, problem):
    q, k, v = problem
    many = np.stack([[0.01 * q, 3 * q], [q, 0.0 * q]])
    found = approximate_attention(*map(asarray, (many, k, v)), n_features=200, rng=0)
    exact = st.kernel_attention(many, k, v, "exp")
    assert found.output.shape == (2, 2, 400, 4)
    assert type(found.output) is type(asarray(q))
    assert found.method[0] == ("monomials", "local expansions")
    assert found.candidates[0][1][0].name == MEANS[0]
    assert found.certificate.error.shape == found.multiply_adds.shape == (2, 2)
    errors = [relative(one, other) for one, other in zip(st.to_host(found.output)[0], exact[0], strict=True)]
    assert errors[0] < 1e-5
    assert errors[1] < 0.3
    # of queries that are all 0 the mean is exact
    assert np.max(np.abs(st.to_host(found.output)[1, 1] - v.mean(axis=0))) < 1e-12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_seed_are_kept(asarray, problem, dtype):
    arrays = [x.astype(dtype) for x in problem]
    here = approximate_attention(*arrays, n_features=200, rng=3)
    there = approximate_attention(*map(asarray, arrays), n_features=200, rng=3)
    assert there.output.dtype == asarray(arrays[0]).dtype
    assert there.method == here.method
    # the same operations on the same numbers, in other orders
    assert relative(st.to_host(there.output), here.output) < 1e4 * np.finfo(dtype).eps


def test_a_candidate_that_cannot_serve_is_left_out(problem, monkeypatch):
    def refuse(*arguments, **options):
        raise ArithmeticError("the attention weights of 1 rows sum to exactly 0")

    monkeypatch.setattr(TRIALS, "feature_attention", refuse)
    q, k, v = problem
    found = approximate_attention(0.1 * q, k, v, n_features=200, rng=0)
    errors = {one.name: one.error for one in found.candidates}
    assert errors["monomials"] == math.inf
    assert found.method == "first order"


def test_an_answer_that_blows_up_does_not_win(problem, monkeypatch):
    first_order = st.first_order_attention

    def unstable(q, k, v, **options):
        out = first_order(q, k, v, **options)
        out[7] = 1e6  # one row of 400, which 24 random rows would hardly meet
        return out

    monkeypatch.setattr(TRIALS, "first_order_attention", unstable)
    monkeypatch.setattr(TRIALS, "monomials", lambda *arguments: [])
    q, k, v = problem[0], problem[1], problem[2] / 2  # the largest value is in [1, 2)
    exact = st.kernel_attention(0.1 * q, k, v, "exp")
    for seed in range(8):
        found = approximate_attention(0.1 * q, k, v, n_features=100, rng=seed)
        assert relative(found.output, exact) < 1
        # the row stands for itself alone, the others for all: rows of exact are not even, hence the tolerance
        assert found.candidates[2].error == pytest.approx(2e6 / np.linalg.norm(exact), rel=0.5)


def test_no_key_at_all_gives_zeros(rng):
    q, k = rng.normal(size=(200, 3)), rng.normal(size=(5, 3))
    found = approximate_attention(q, k, k, key_mask=np.zeros(5, dtype=bool), n_features=1, rng=0)
    assert not found.output.any()
    assert not approximate_attention(q, k[:0], k[:0], rng=0).output.any()


def test_it_shows_what_was_tried(problem):
    found = approximate_attention(*problem, n_features=200, rng=0)
    shown = found._repr_html_()
    assert all(one.name in shown for one in found.candidates)
    assert "approximate certificate" in shown
    assert shown.count("chosen") == 1
    assert found.method in repr(found)
    many = approximate_attention(np.stack([problem[0]] * 2), *problem[1:], n_features=200, rng=0)
    assert many._repr_html_().count("chosen") == 2


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"q": np.full((400, 4), np.nan)}, ValueError, "q: expected finite"),
        ({"v": np.full((400, 4), np.inf)}, ValueError, "v: expected finite"),
        ({"q": np.zeros((0, 4))}, ValueError, "at least one query"),
        ({"q": np.zeros((400, 3))}, ValueError, "last axis"),
        ({"q": np.zeros((400, 4), dtype=int)}, TypeError, "q: expected dtype"),
        ({"n_features": 0}, ValueError, "n_features"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
        ({"tolerance": "small"}, TypeError, "tolerance"),
        ({"kernel": "none"}, ValueError, "kernel"),
        ({"rng": -1}, ValueError, "rng"),
        ({"key_mask": np.ones(400)}, TypeError, "key_mask"),
    ],
)
def test_what_does_not_fit_is_named(problem, change, error, word):
    arguments = dict(zip(("q", "k", "v"), problem, strict=True)) | {"n_features": 200}
    with pytest.raises(error, match=word):
        approximate_attention(**(arguments | change))
