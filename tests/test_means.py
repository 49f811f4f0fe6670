"""Baselines without information: means that no row bends to its own query, and what they are means of."""

from __future__ import annotations

import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import mean_attention, weighted_mean_attention
from schoenbat_theory.testing import ExamFailed, examine_attention

U = 2.0**-53
KERNELS = [*st.KERNELS.values(), st.polynomial(2, 1.0)]


@pytest.fixture
def problem(rng):
    q, k, v = rng.normal(size=(7, 4)), rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
    return 0.2 * q, 0.2 * k, v


def failures(attend, **options):
    with pytest.raises(ExamFailed) as raised:
        examine_attention(attend, **options)
    assert not any(f.note.startswith("raised") for f in raised.value.exam.failures)
    return {f.law for f in raised.value.exam.failures}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_is_the_mean_of_the_values(asarray, problem, dtype):
    q, k, v = (asarray(x.astype(dtype)) for x in problem)
    found = mean_attention(q, k, v)
    assert type(found) is type(q)
    assert found.dtype == q.dtype
    host = st.to_host(v).astype(np.float64)
    expected = np.broadcast_to(host.mean(axis=0), (7, 3))
    assert np.max(np.abs(st.to_host(found) - expected)) <= 2 * 10 * np.finfo(dtype).eps * np.max(np.abs(host))


def test_a_causal_mean_is_that_of_the_prefix(asarray, rng):
    q, k, v = rng.normal(size=(300, 2)), rng.normal(size=(300, 2)), rng.normal(size=(300, 3))
    found = st.to_host(mean_attention(*map(asarray, (q, k, v)), causal=True))
    expected = np.cumsum(v, axis=0) / np.arange(1, 301)[:, None]
    assert np.max(np.abs(found - expected)) <= 4 * 301 * U * np.max(np.abs(v))


def test_the_mean_is_attention_with_the_kernel_one_and_the_limit_of_small_queries(problem):
    q, k, v = problem
    one = st.DotProductKernel.from_coefficients("one", lambda n: int(n == 0), radius=math.inf)
    mask = np.arange(9) % 3 > 0
    for causal in (False, True):
        expected = st.kernel_attention(q, k, v, one, causal=causal, key_mask=mask)
        found = mean_attention(q, k, v, causal=causal, key_mask=mask)
        assert np.max(np.abs(found - expected)) <= 4 * 10 * U * np.max(np.abs(v))
        # |exp(t) - 1| <= 2 |t|, so weights are off by 2 s |q| |k| of themselves, rows by twice that times |v|
        s, size = 2.0**-20, np.max(np.linalg.norm(q, axis=-1)) * np.max(np.linalg.norm(k, axis=-1))
        near = st.kernel_attention(s * q, k, v, "exp", causal=causal, key_mask=mask)
        assert np.max(np.abs(near - found)) <= 5 * s * size * np.max(np.abs(v))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_weighted_mean_is_the_attention_of_the_mean_query_repeated(asarray, problem, kernel, dtype):
    q, k, v = (x.astype(dtype) for x in problem)
    found = weighted_mean_attention(*map(asarray, (q, k, v)), kernel)
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    repeated = np.broadcast_to(q.mean(axis=0), q.shape)
    expected = st.kernel_attention(repeated, k, v, kernel)
    # The mean errs by n u max |q|, an inner product by d u more, f' / f <= 3 here; sums and quotient by (m + 16) u.
    bound = 4 * (3 * (7 + 4) + 9 + 16) * np.finfo(dtype).eps * np.max(np.abs(v))
    assert np.max(np.abs(st.to_host(found) - expected)) <= bound
    assert np.ptp(st.to_host(found), axis=0).max() == 0  # every row is the same, bit for bit


def test_equal_queries_get_the_attention_that_is_theirs(problem):
    q, k, v = problem
    q = np.broadcast_to(q[:1], (8, 4))  # a sum of eighths, exact
    bound = 4 * (2 * 4 + 9 + 16) * U * np.max(np.abs(v))
    assert np.max(np.abs(weighted_mean_attention(q, k, v) - st.kernel_attention(q, k, v, "exp"))) <= bound
    assert np.array_equal(weighted_mean_attention(q[:1], k, v, "inv"), st.kernel_attention(q[:1], k, v, "inv"))


def test_the_mean_of_equal_unit_queries_is_no_longer_than_they():
    """A sum of a thousand thousandths would exceed 1 by more than the kernel forgives, whose end is at 1."""
    q = np.ones((1000, 1))
    assert np.sum(q / 1000, axis=0)[0] > 1 + 2 * U
    assert np.array_equal(weighted_mean_attention(q, q[:2], q[:2], "sqrt"), q)


def test_the_weights_are_those_of_the_kernel_named():
    q, k = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])  # mean query 1/2: weights 1 and 2
    assert np.allclose(weighted_mean_attention(q, k, np.eye(2), "inv"), [[1 / 3, 2 / 3]] * 2, rtol=8 * U)
    e = math.exp(0.5)
    assert np.allclose(weighted_mean_attention(q, k, np.eye(2)), [[1 / (1 + e), e / (1 + e)]] * 2, rtol=8 * U)


def test_no_row_depends_on_its_own_query(problem):
    q, k, v = problem
    other = q.copy()
    other[2], other[5] = 9 * q[5] - 1, -q[2]
    assert np.array_equal(mean_attention(other, k[::-1], v), mean_attention(q, k, v))
    # The mean query is kept while every query changes; halves and doubles are exact.
    q = np.round(q * 64) / 64
    moved = q + np.array([1, -1, 2, -2, 3, -3, 0])[:, None]
    assert np.allclose(weighted_mean_attention(moved, k, v), weighted_mean_attention(q, k, v), rtol=0, atol=100 * U)
    # but for its part in the mean, it does not matter which query is whose
    assert np.allclose(weighted_mean_attention(q[::-1], k, v), weighted_mean_attention(q, k, v), rtol=0, atol=100 * U)


def test_the_exam_finds_exactly_what_is_missing(asarray):
    """The plain mean is an attention in every respect but one, for which it is a baseline."""
    found = failures(
        mean_attention,
        asarray=asarray,
        options=("causal", "key_mask"),
        dense=lambda q, k: 0 * st.get_kernel("exp").gram(q, k) + 1,
    )
    assert found == {"output depends on queries and keys"}


def test_the_exam_finds_the_same_of_the_weighted_mean_which_looks_at_all_queries(asarray):
    def attend(q, k, v, **options):
        return weighted_mean_attention(q, k, v, "exp", **options)

    found = failures(attend, asarray=asarray, options=("key_mask",), fixed=False)
    assert found == {"output depends on queries and keys"}  # the exam reverses the queries: their mean is the same


@pytest.mark.parametrize("attend", [mean_attention, weighted_mean_attention])
def test_masked_keys_count_for_nothing_and_rows_without_keys_are_zeros(asarray, problem, attend):
    q, k, v = problem
    used = np.arange(9) % 3 > 0
    hidden = [np.where(used[:, None], x, np.nan) for x in (k, v)]
    found = st.to_host(attend(asarray(q), *map(asarray, hidden), key_mask=asarray(used)))
    assert np.allclose(found, attend(q, k[used], v[used]), rtol=0, atol=64 * U)
    none = st.to_host(attend(*map(asarray, (q, k, v)), key_mask=asarray(np.zeros(9, dtype=bool))))
    assert np.array_equal(none, np.zeros((7, 3)))
    assert np.array_equal(attend(q, k[:0], v[:0]), np.zeros((7, 3)))
    assert attend(q[:0], k, v).shape == (0, 3)


def test_a_causal_row_before_the_first_key_is_zeros(problem):
    q, k, v = problem
    found = mean_attention(q, k, v, causal=True, key_mask=np.arange(9) >= 2)
    assert np.array_equal(found[:2], np.zeros((2, 3)))
    assert np.array_equal(found[2], v[2])


@pytest.mark.parametrize("attend", [mean_attention, weighted_mean_attention])
def test_leading_axes_broadcast_and_an_item_is_alone(asarray, rng, attend):
    q, k, v = rng.normal(size=(2, 1, 5, 4)), rng.normal(size=(3, 6, 4)), rng.normal(size=(6, 2))
    mask = rng.random((3, 6)) < 0.7
    found = st.to_host(attend(*map(asarray, (q, k, v)), key_mask=asarray(mask)))
    assert found.shape == (2, 3, 5, 2)
    for i in range(2):
        for j in range(3):
            alone = attend(q[i, 0], k[j], v, key_mask=mask[j])
            assert np.allclose(found[i, j], alone, rtol=0, atol=64 * U)


def test_exponentials_do_not_overflow(asarray):
    q, k, v = np.array([[1e3], [3e3]]), np.array([[1e3], [1e3 - 1e-3]]), np.eye(2)
    found = st.to_host(weighted_mean_attention(*map(asarray, (q, k, v)), "exp"))  # exponents 2e6 and 2e6 - 2
    w = 1 / (1 + math.exp(-2))
    assert np.allclose(found, [[w, 1 - w]] * 2, rtol=0, atol=2e6 * 8 * U)
    large = np.full((2, 1), 1.5e308)  # the sum of the queries overflows, their mean does not
    assert np.array_equal(weighted_mean_attention(large, np.zeros((2, 1)), v), np.full((2, 2), 0.5))


def test_wrong_input_is_refused(problem):
    q, k, v = problem
    nan = np.full((7, 4), np.nan)
    for attend in (mean_attention, weighted_mean_attention):
        with pytest.raises(ValueError, match="q: expected finite entries, found nan"):
            attend(nan, k, v)
        with pytest.raises(ValueError, match="k: expected finite entries, found nan"):
            attend(q, np.where(np.arange(9)[:, None] == 3, np.nan, k), v)
        with pytest.raises(ValueError, match="v: expected finite entries, found inf"):
            attend(q, k, np.where(np.arange(9)[:, None] == 3, np.inf, v))
        with pytest.raises(ValueError, match="v: expected 9 rows as k has"):
            attend(q, k, v[:3])
        with pytest.raises(ValueError, match="k: expected last axis 4 as q has"):
            attend(q, k[:, :3], v)
        with pytest.raises(TypeError, match="key_mask: expected booleans"):
            attend(q, k, v, key_mask=np.ones(9))
    with pytest.raises(TypeError, match="causal: expected True or False"):
        mean_attention(q, k, v, causal=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'causal'"):
        weighted_mean_attention(q, k, v, causal=True)
    with pytest.raises(ValueError, match="kernel inv needs finite"):
        weighted_mean_attention(10 * q + 1, 10 * k + 1, v, "inv")
