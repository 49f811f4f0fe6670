from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from schoenbat_theory import KERNELS, get_kernel, kernel_attention, polynomial, threads, to_host
from schoenbat_theory.attention.exact import COLUMNS, ROWS

U = 2.0**-53
EVERY = [*KERNELS.values(), polynomial(2, 1.0)]


def tokens(rng, *shape):
    """Vectors of length below 0.7, so that |<q, k>| <= 1/2, where f' / f <= 4 for every kernel here."""
    x = rng.normal(size=shape)
    return 0.7 * x / np.maximum(1, np.linalg.norm(x, axis=-1, keepdims=True))


def dense(q, k, v, kernel, *, causal=False, key_mask=None, key_log_weights=None, log_bias=None):
    """The definition, with all n x m weights at once."""
    n, m = q.shape[-2], k.shape[-2]
    i, j = np.arange(n)[:, None], np.arange(m)[None, :]
    logs = np.zeros((n, m))
    if key_log_weights is not None:
        logs = logs + key_log_weights[..., None, :]
    if log_bias is not None:
        logs = logs + log_bias[..., j - i + n - 1]
    if key_mask is not None:
        logs = np.where(key_mask[..., None, :], logs, -np.inf)
    if causal:
        logs = np.where(j <= i, logs, -np.inf)
    top = logs.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = kernel(q @ np.swapaxes(k, -1, -2)) * np.exp(logs - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    return np.where(total == 0, 0, weights @ v / np.where(total == 0, 1, total))


def bound(q, k, v, logs=0.0, u=U):
    """How far two computations of an average with positive weights may be apart.

    An inner product errs by d u |q| |k|, which f multiplies by at most 4; an exponent of size T + L is rounded a
    few times, and again for each of B blocks; the two sums err by m u each. Twice, once for each computation.
    """
    d, m, blocks = q.shape[-1], k.shape[-2], 1 + k.shape[-2] // 1024
    t = np.linalg.norm(q, axis=-1).max(initial=0) * np.linalg.norm(k, axis=-1).max(initial=0)
    relative = 4 * d * t + (5 + 2 * blocks) * (t + logs + 2) + m + 8
    return 4 * u * relative * np.abs(v).max(initial=0)


@pytest.mark.parametrize("kernel", EVERY, ids=lambda k: k.name)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_weighted_average_of_the_definition(asarray, rng, kernel, causal, dtype):
    q, k, v = (tokens(rng, *shape).astype(dtype) for shape in ((7, 4), (9, 4), (9, 3)))
    found = kernel_attention(*map(asarray, (q, k, v)), kernel, causal=causal)
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    expected = dense(*(x.astype(np.float64) for x in (q, k, v)), kernel, causal=causal)
    assert np.all(np.abs(to_host(found) - expected) <= bound(q, k, v, u=np.finfo(dtype).eps / 2))


@pytest.mark.parametrize("kernel", ["exp", "inv"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m"), [(255, 1023), (256, 1024), (257, 1025), (1, 2049), (600, 3), (1030, 1030)])
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_make_the_whole(rng, kernel, causal, n, m, weighted):
    q, k, v = tokens(rng, n, 3), tokens(rng, m, 3), tokens(rng, m, 2)
    extra = {"key_mask": rng.random(m) < 0.8, "log_bias": rng.normal(size=n + m - 1)} if weighted else {}
    found = kernel_attention(q, k, v, kernel, causal=causal, **extra)
    expected = dense(q, k, v, get_kernel(kernel), causal=causal, **extra)
    assert np.all(np.abs(found - expected) <= bound(q, k, v, 6.0 * weighted))


@pytest.mark.parametrize("kernel", ["exp", "sqrt"])
@pytest.mark.parametrize("causal", [False, True])
def test_leading_axes_broadcast(asarray, rng, kernel, causal):
    q, k, v = tokens(rng, 2, 1, 5, 4), tokens(rng, 3, 6, 4), tokens(rng, 6, 2)
    extra = {
        "key_mask": rng.random((3, 6)) < 0.7,
        "key_log_weights": rng.normal(size=(2, 1, 6)),
        "log_bias": rng.normal(size=(3, 10)),
    }
    found = kernel_attention(
        *map(asarray, (q, k, v)), kernel, causal=causal, **{name: asarray(x) for name, x in extra.items()}
    )
    assert tuple(found.shape) == (2, 3, 5, 2)
    expected = dense(q, k, v, get_kernel(kernel), causal=causal, **extra)
    assert np.all(np.abs(to_host(found) - expected) <= bound(q, k, v, 10.0))


def test_softmax_is_the_exponential_kernel_at_any_size(asarray):
    q, k = np.array([[1e3, 0.0], [-1e3, 0.0], [0.0, 1e-3]]), np.array([[1.0, 1.0], [-1.0, 1.0]])
    found = to_host(kernel_attention(asarray(q), asarray(k), asarray(np.eye(2)), "exp"))
    assert found.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]  # e^-2000 is nothing
    assert np.array_equal(to_host(kernel_attention(asarray(q), asarray(k), asarray(np.eye(2)), "trigh")), found)


@pytest.mark.parametrize("kernel", ["exp", "inv"])
@pytest.mark.parametrize("size", [1e3, 1e15])
def test_log_weights_of_any_size_do_not_overflow(asarray, rng, kernel, size):
    q, k, v = tokens(rng, 3, 4), tokens(rng, 5, 4), tokens(rng, 5, 2)
    weights = size * np.array([0.0, -1.0, 1.0, 0.5, 1.0])
    found = to_host(kernel_attention(*map(asarray, (q, k, v)), kernel, key_log_weights=asarray(weights)))
    expected = dense(q, k[[2, 4]], v[[2, 4]], get_kernel(kernel))  # the two heaviest keys alone
    assert np.all(np.abs(found - expected) <= bound(q, k, v, 2 * size))
    shift = to_host(kernel_attention(*map(asarray, (q, k, v)), kernel, key_log_weights=asarray(weights - size)))
    assert np.all(np.abs(found - shift) <= bound(q, k, v, 2 * size))


@pytest.mark.parametrize("kernel", ["exp", "inv"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_masked_key_is_never_looked_at(asarray, rng, kernel, bad):
    q, k, v = tokens(rng, 3, 4), tokens(rng, 5, 4), tokens(rng, 5, 2)
    mask = np.array([True, False, True, True, False])
    spoiled = [np.where(mask[:, None], x, bad) for x in (k, v)]
    found = kernel_attention(asarray(q), *map(asarray, spoiled), kernel, key_mask=asarray(mask))
    assert np.all(np.abs(to_host(found) - dense(q, k[mask], v[mask], get_kernel(kernel))) <= bound(q, k, v))
    weights = np.where(mask, 0.0, -np.inf)
    same = kernel_attention(asarray(q), *map(asarray, spoiled), kernel, key_log_weights=asarray(weights))
    assert np.array_equal(to_host(found), to_host(same))


@pytest.mark.parametrize("kernel", ["exp", "inv"])
def test_later_keys_change_nothing_bit_for_bit(rng, kernel):
    n = 300  # more than one block of queries
    q, k, v = tokens(rng, n, 4), tokens(rng, n, 4), tokens(rng, n, 2)
    out = kernel_attention(q, k, v, kernel, causal=True)
    for i in (0, 1, 254, 255, 256, 298):
        later = np.arange(n)[:, None] > i
        new_k = np.where(later, 9 * k if kernel == "exp" else -k, k)  # beyond the radius inv has no value
        other = kernel_attention(q, new_k, np.where(later, 5.0, v), kernel, causal=True)
        assert np.array_equal(other[: i + 1], out[: i + 1])
        assert not np.array_equal(other[i + 1 :], out[i + 1 :])


def test_a_key_that_no_query_sees_may_lie_beyond_the_radius():
    q, k, v = np.array([[0.5], [0.0]]), np.array([[0.5], [9.0]]), np.array([[1.0], [2.0]])
    assert kernel_attention(q, k, v, "inv", causal=True).tolist() == [[1.0], [1.5]]
    with pytest.raises(ValueError, match=r"t: kernel inv needs finite \|t\| <= 1, found \|t\| = 4\.5"):
        kernel_attention(q, k, v, "inv")


@pytest.mark.parametrize("kernel", ["exp", "logi"])
def test_a_row_that_sees_no_key_is_zeros(asarray, rng, kernel):
    q, k, v = (asarray(tokens(rng, *shape)) for shape in ((3, 4), (2, 4), (2, 2)))
    none = kernel_attention(q, k, v, kernel, key_mask=asarray(np.zeros(2, dtype=bool)))
    assert to_host(none).tolist() == [[0, 0]] * 3
    first = kernel_attention(q, k, v, kernel, causal=True, key_mask=asarray(np.array([False, True])))
    assert to_host(first)[0].tolist() == [0, 0]
    only = to_host(v)[[1, 1]]
    assert np.all(np.abs(to_host(first)[1:] - only) <= 2 * U * np.abs(only))  # (w v) / w
    assert to_host(kernel_attention(q, k[:0, :], v[:0, :], kernel)).tolist() == [[0, 0]] * 3
    assert tuple(kernel_attention(q[:0, :], k, v, kernel).shape) == (0, 2)
    bias = asarray(np.zeros(0))
    assert tuple(kernel_attention(q[:0, :], k[:0, :], v[:0, :], kernel, log_bias=bias).shape) == (0, 2)


def test_the_order_of_the_keys_and_a_common_value_do_not_matter(rng):
    q, k, v = tokens(rng, 4, 3), tokens(rng, 8, 3), tokens(rng, 8, 2)
    order = rng.permutation(8)
    for kernel in EVERY:
        shuffled = kernel_attention(q, k[order], v[order], kernel)
        assert np.all(np.abs(shuffled - kernel_attention(q, k, v, kernel)) <= bound(q, k, v))
        constant = kernel_attention(q, k, np.full((8, 1), 3.0), kernel)
        assert np.all(np.abs(constant - 3) <= bound(q, k, np.full((8, 1), 3.0)))


def test_weights_that_sum_to_zero_are_counted(asarray):
    q, k, v = (asarray(np.array(x)) for x in ([[0.0], [1.0], [0.0]], [[1.0]], [[1.0]]))
    with pytest.raises(ArithmeticError, match="the attention weights of 2 rows sum to exactly 0"):
        kernel_attention(q, k, v, polynomial(2))


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(asarray, rng, name, bad):
    arrays = {"q": tokens(rng, 3, 4), "k": tokens(rng, 5, 4), "v": tokens(rng, 5, 2)}
    arrays[name][1, 1] = bad
    with pytest.raises(ValueError, match=rf"{name}: expected finite entries, found {bad} at index \(1, 1\)"):
        kernel_attention(**{key: asarray(x) for key, x in arrays.items()}, kernel="exp")


def test_an_inner_product_that_overflows_is_no_masked_key(asarray):
    q, k, v = (asarray(np.array(x)) for x in ([[1e200]], [[-1e200]], [[1.0]]))
    with pytest.raises(ValueError, match="q, k: finite, but an inner product overflows"):
        kernel_attention(q, k, v, "exp")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": np.ones(4)}, ValueError, "q: expected shape"),
        ({"q": np.ones((3, 0)), "k": np.ones((5, 0))}, ValueError, "q: expected shape"),
        ({"k": np.ones((5, 3))}, ValueError, "k: expected last axis 4 as q has"),
        ({"v": np.ones((6, 2))}, ValueError, "v: expected 5 rows as k has"),
        ({"v": np.ones((5, 2), dtype=np.float32)}, TypeError, "v: expected dtype float64 as q has, found float32"),
        ({"q": np.ones((2, 3, 4)), "k": np.ones((3, 5, 4))}, ValueError, r"q \(2,\), k \(3,\)"),
        ({"key_mask": np.ones(5)}, TypeError, "key_mask: expected booleans"),
        ({"key_mask": np.ones(4, dtype=bool)}, ValueError, r"key_mask: expected \(\.\.\., 5\), found \(4,\)"),
        ({"key_log_weights": np.ones(4)}, ValueError, r"key_log_weights: expected \(\.\.\., 5\), found \(4,\)"),
        ({"key_log_weights": np.full(5, np.nan)}, ValueError, "key_log_weights: expected finite numbers or -inf"),
        ({"key_log_weights": np.full(5, np.inf)}, ValueError, "key_log_weights: expected finite numbers or -inf"),
        ({"log_bias": np.ones(5)}, ValueError, r"log_bias: expected \(\.\.\., 7\), found \(5,\)"),
        ({"log_bias": np.full(7, np.inf)}, ValueError, "log_bias: expected finite entries"),
        ({"kernel": "cosh"}, ValueError, "kernel: expected one of"),
        ({"causal": "no"}, TypeError, "causal: expected True or False, found 'no'"),
        ({"causal": np.ones(2, dtype=bool)}, TypeError, "causal: expected True or False"),
    ],
)
def test_wrong_arguments_are_named(change, error, words):
    right = {"q": np.ones((3, 4)) / 4, "k": np.ones((5, 4)) / 4, "v": np.ones((5, 2)), "kernel": "exp"}
    kernel_attention(**right)
    with pytest.raises(error, match=words):
        kernel_attention(**{**right, **change})


@pytest.mark.parametrize("name", ["key_mask", "key_log_weights"])
def test_leading_axes_of_masks_and_weights_that_fit_nothing_are_named(asarray, rng, name):
    q, k, v = (asarray(tokens(rng, 2, n, 4)) for n in (3, 5, 5))
    kind = bool if name == "key_mask" else float
    with pytest.raises(ValueError, match=rf"leading axes do not broadcast: arrays \(2,\), .*{name} \(3,\)"):
        kernel_attention(q, k, v, "exp", **{name: asarray(np.ones((3, 5), dtype=kind))})
    both = {"key_mask": asarray(np.ones((2, 5), dtype=bool)), "key_log_weights": asarray(np.ones((3, 5)))}
    with pytest.raises(ValueError, match="leading axes do not broadcast"):
        kernel_attention(q, k, v, "exp", **both)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["exp", "inv"])
@pytest.mark.parametrize("size", [1e308, -1e308])
def test_a_factor_common_to_all_keys_leaves_the_kernel_whatever_its_size(asarray, rng, causal, kernel, size):
    n = 1030  # two blocks of keys
    q, k, v = tokens(rng, 3 if not causal else n, 4), tokens(rng, n, 4), tokens(rng, n, 2)
    there = [asarray(x) for x in (q, k, v)]
    free = to_host(kernel_attention(*there, kernel, causal=causal))
    weighted = kernel_attention(*there, kernel, causal=causal, key_log_weights=asarray(np.full(n, size)))
    assert np.array_equal(to_host(weighted), free)
    biased = kernel_attention(*there, kernel, causal=causal, log_bias=asarray(np.full(len(q) + n - 1, size)))
    assert np.array_equal(to_host(biased), free)


def test_a_later_key_of_any_weight_leaves_the_kernel_of_earlier_rows(rng):
    q, k, v = tokens(rng, 5, 4), tokens(rng, 5, 4), tokens(rng, 5, 2)
    weights = np.array([0.0, 0.0, 0.0, 1e308, -1e308])
    out = kernel_attention(q, k, v, "exp", causal=True, key_log_weights=weights)
    assert np.array_equal(out[:3], kernel_attention(q, k, v, "exp", causal=True)[:3])
    assert np.array_equal(out[3:], v[[3, 3]])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_sum_of_bias_and_weight_that_overflows_is_no_masked_key(asarray, causal, sign):
    x, huge = asarray(np.ones((1, 1))), asarray(np.array([sign * 1e308]))
    with pytest.raises(ValueError, match="log_bias, key_log_weights: finite, but their sum overflows"):
        kernel_attention(x, x, x, "exp", causal=causal, log_bias=huge, key_log_weights=huge)


def test_an_exponent_that_overflows_is_no_masked_key():
    with pytest.raises(ValueError, match="q, k: finite, but an inner product overflows"):
        kernel_attention(np.array([[1e150]]), np.array([[-1e150]]), np.ones((1, 1)), get_kernel("exp").scaled(1e10))


def test_memory_is_linear_in_the_number_of_tokens(rng):
    n = 1 << 14
    q, v = tokens(rng, n, 4).astype(np.float32), rng.normal(size=(n, 1)).astype(np.float32)
    tracemalloc.start()
    try:
        out = kernel_attention(q, q, v, "exp", causal=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * n * n / 100  # a hundredth of one float64 matrix n x n
    last = dense(q[-1:].astype(float), q.astype(float), v.astype(float), get_kernel("exp"))
    assert abs(out[-1, 0] - last[0, 0]) <= bound(q, q, v, u=2.0**-24)
    assert math.isfinite(out[0, 0])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n", [1, ROWS - 1, 2 * ROWS + 1])
def test_any_number_of_cores_gives_the_same_bits(rng, causal, n, monkeypatch):
    q, k, v = (rng.normal(size=(2, 3, size, 4)).astype(np.float32) for size in (n, COLUMNS + 7, COLUMNS + 7))
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "CORES", cores)
        found.append(kernel_attention(q, k, v, "exp", causal=causal))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[0][1, 2], kernel_attention(q[1, 2], k[1, 2], v[1, 2], "exp", causal=causal))
