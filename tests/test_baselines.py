from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from schoenbat_theory import (
    kernel_attention,
    linear_attention,
    nystromformer_attention,
    shipped_heads,
    softmax_attention,
    to_host,
)

U = 2.0**-53
LARGEST = np.finfo(np.float64).max


def unit(dtype):
    return np.finfo(dtype).eps / 2


def normalised(weights):
    total = weights.sum(axis=-1, keepdims=True)
    return np.where(total == 0, 0, weights / np.where(total == 0, 1, total))


def seen(n, m, causal=False, key_mask=None):
    out = np.tril(np.ones((n, m), dtype=bool)) if causal else np.ones((n, m), dtype=bool)
    return out if key_mask is None else out & key_mask[..., None, :]


# --- softmax -------------------------------------------------------------------------------------------------------


def softmax(q, k, *, causal=False, key_mask=None, key_log_weights=0.0, log_bias=None):
    """The matrix of weights (..., n, m), by the definition."""
    n, m, d = q.shape[-2], k.shape[-2], q.shape[-1]
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(d) + key_log_weights
    if log_bias is not None:
        scores = scores + log_bias[np.arange(m)[None, :] - np.arange(n)[:, None] + n - 1]
    scores = np.where(seen(n, m, causal, key_mask), scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    return normalised(np.exp(scores - np.where(np.isfinite(top), top, 0)))


def weight_error(q, k, logs=0.0, u=U, extra=0):
    """Return by which factor, less 1, a normalised weight may be off, to first order.

    Exponents are at most T = |q| |k| / sqrt(d) and L = ``logs``. An inner product errs by d u T, its factor 1 / sqrt(d)
    by 2 u T, ``extra`` more by what its arguments are off. Adding the logs, taking off a maximum, and rescaling once
    per block err by u (T + L) each, twice as large where it is a difference; exp errs by 2 u, the sum of m weights by
    m u. Numerator and denominator err so, and the division.
    """
    d, m = q.shape[-1], k.shape[-2]
    t = np.linalg.norm(q, axis=-1).max() * np.linalg.norm(k, axis=-1).max() / math.sqrt(d)
    exponent = (d + 2 + extra) * t + 2 * (4 + m // 1024) * (t + logs)
    return u * (2 * (exponent + 3 + m) + 1)


def softmax_bound(q, k, v, logs=0.0, u=U):
    """Two computations of an average of values of at most max |v|."""
    return 2 * weight_error(q, k, logs, u) * np.abs(v).max()


OPTIONS = {
    "plain": {},
    "causal": {"causal": True},
    "masked": {"key_mask": np.arange(9) % 3 != 1},
    "weighted": {"key_log_weights": np.linspace(-2, 2, 9)},
    "biased": {"log_bias": np.linspace(-2, 2, 15)},
    "all": {
        "causal": True,
        "key_mask": np.arange(9) % 3 != 1,
        "key_log_weights": np.linspace(-2, 2, 9),
        "log_bias": np.linspace(-2, 2, 15),
    },
}


def moved(asarray, options, dtype):
    """Return options with their arrays moved, floating ones in ``dtype``."""
    return {
        name: asarray(x if x.dtype == bool else x.astype(dtype)) if isinstance(x, np.ndarray) else x
        for name, x in options.items()
    }


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_attention_is_the_matrix_of_the_paper(asarray, rng, options, dtype):
    q, k, v = (rng.normal(size=shape).astype(dtype) for shape in ((7, 5), (9, 5), (9, 3)))
    found = softmax_attention(*map(asarray, (q, k, v)), **moved(asarray, options, dtype))
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    assert np.all(np.abs(to_host(found) - softmax(q, k, **options) @ v) <= softmax_bound(q, k, v, 4.0, unit(dtype)))


def test_softmax_attention_is_the_exponential_kernel_of_scaled_tokens(rng):
    head = shipped_heads()[0]
    factor = head.q.shape[-1] ** -0.25
    found = softmax_attention(head.q, head.k, head.v)
    other = kernel_attention(head.q * factor, head.k * factor, head.v, "exp")
    allowed = 2 * weight_error(head.q, head.k, extra=3) * np.abs(head.v).max()  # the factor, and its two products
    assert np.all(np.abs(found - other) <= allowed)


def test_softmax_attention_of_one_token_is_its_value(asarray):
    one = [asarray(np.full((1, 1), x)) for x in (3.0, -2.0, 7.0)]
    assert to_host(softmax_attention(*one)).tolist() == [[7.0]]


# --- linear --------------------------------------------------------------------------------------------------------


def elu_plus_one(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def linear_bound(q, k, v, u=U):
    """All terms are positive, and sums of d and m of them err by (d + m) u, twice where a block is rescaled.

    A feature errs by 2 u for exp or its sum, by u for what is taken off, by u for the quotient, and by u |x| for the
    exponent x - max x; the log scale, at most X = max |x|, by 3 u X in itself, in a difference and in exp, and 2 u.
    Numerator and denominator, the division, and a second computation.
    """
    size = max(np.abs(q).max(), np.abs(k).max())
    relative = q.shape[-1] + 2 * k.shape[-2] + 2 * (6 + 2 * size) + 3 * size + 2
    return 2 * u * (2 * relative + 1) * np.abs(v).max()


@pytest.mark.parametrize("key_mask", [None, np.arange(9) % 3 != 1], ids=["plain", "masked"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_attention_is_the_matrix_of_the_paper(asarray, rng, causal, key_mask, dtype):
    q, k, v = (2 * rng.normal(size=shape).astype(dtype) for shape in ((9, 5), (9, 5), (9, 3)))
    options = {"causal": causal} if key_mask is None else {"causal": causal, "key_mask": asarray(key_mask)}
    found = linear_attention(*map(asarray, (q, k, v)), **options)
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    weights = elu_plus_one(q) @ elu_plus_one(k).T * seen(9, 9, causal, key_mask)
    assert np.all(np.abs(to_host(found) - normalised(weights) @ v) <= linear_bound(q, k, v, unit(dtype)))


@pytest.mark.parametrize("causal", [False, True])
def test_features_that_underflow_keep_their_ratio(asarray, rng, causal):
    q, k, v = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    # e^(x - c) = e^x e^-c: far below 0 all weights shrink by one factor, which the ratio does not see.
    q, k = q - np.abs(q).max(), k - np.abs(k).max()
    expected = linear_attention(q, k, v, causal=causal)
    found = linear_attention(*map(asarray, (q - 1e3, k - 2e3, v)), causal=causal)
    shifted = linear_bound(q - 1e3, k - 2e3, v)  # contains the rounding of the shifts, u |x| each
    assert np.all(np.abs(to_host(found) - expected) <= shifted)


def test_weights_that_underflow_in_every_feature_keep_their_ratio(asarray):
    q, k = np.array([[0.0, -1e3]]), np.array([[-1e3, 0.0], [-2e3, 1.0], [-1e3 - math.log(2), -1e3]])
    v = np.array([[1.0], [2.0], [11.0]])
    found = to_host(linear_attention(*map(asarray, (q, k, v))))  # weights e^-1000 times 2, 2 and 1/2
    assert abs(found[0, 0] - 11.5 / 4.5) <= linear_bound(q, k, v)


def test_features_that_overflow_in_their_product_keep_their_ratio(asarray):
    q, k, v = np.array([[1e200]]), np.array([[1e200], [3e200]]), np.array([[1.0], [5.0]])
    found = to_host(linear_attention(*map(asarray, (q, k, v))))
    assert abs(found[0, 0] - 4.0) <= linear_bound(np.ones((1, 1)), np.log(k), v)  # (1 + 3 * 5) / 4


def test_a_causal_row_does_not_feel_a_later_key_of_any_size(rng):
    q, k, v = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    out = linear_attention(q, k, v, causal=True)
    later = np.where(np.arange(6)[:, None] > 2, 1e150, k)
    assert np.array_equal(linear_attention(q, later, v, causal=True)[:3], out[:3])


# --- Nystromformer -------------------------------------------------------------------------------------------------


def runs(n, count):
    """The edges of ``count`` runs of successive tokens, the shorter ones first."""
    length, longer = divmod(n, count)
    return np.cumsum([0] + [length] * (count - longer) + [length + 1] * longer)


def means(x, count, used=None):
    used = np.ones(len(x), dtype=bool) if used is None else used
    edges = runs(len(x), count)
    parts = [x[a:b][used[a:b]] for a, b in itertools.pairwise(edges)]
    return np.array([part.mean(axis=0) for part in parts if len(part)])


def divided_difference(x, y):
    """(h(x) - h(y)) / (x - y) of h(x) = (13 x - 15 x^2 + 7 x^3 - x^4) / 4, which is not negative on [0, 1]."""
    return (13 - 15 * (x + y) + 7 * (x * x + x * y + y * y) - (x**3 + x * x * y + x * y * y + y**3)) / 4


class Dense:
    """The method by its formulas, with every matrix; landmarks without keys are not there at all."""

    def __init__(self, q, k, v, count, steps=6, used=None):
        used = np.ones(len(k), dtype=bool) if used is None else used
        self.middle_q, self.middle_k = means(q, count), means(k, count, used)
        self.q, self.k, self.v, self.length = q, k[used], v[used], math.ceil(max(len(q), len(k)) / count)
        self.f, self.a = softmax(q, self.middle_k), softmax(self.middle_q, self.middle_k)
        self.b, self.identity = softmax(self.middle_q, self.k), np.eye(len(self.a))
        self.z = [self.a.T / (self.a.sum(axis=0).max() * self.a.sum(axis=1).max())]
        for _ in range(steps):
            x, z, eye = self.a @ self.z[-1], self.z[-1], self.identity
            self.z.append(z @ (13 * eye - x @ (15 * eye - x @ (7 * eye - x))) / 4)
        self.out = self.f @ self.z[-1] @ (self.b @ self.v)

    def bound(self, u=U):
        """How far two computations may be apart, (n, e), to first order.

        Let A = U S V' and Z_k = V D_k U', x = S D_k. One step, x -> h(x) = (13 x - 15 x^2 + 7 x^3 - x^4) / 4, changes
        an error V E U' of Z_k into V (E_ij h[x_i, x_j]) U', h[.,.] the divided difference: at most 13/4 per step, and
        nothing where both have come to 1. So every step's own error counts times the largest product of the factors of
        later steps, in the Frobenius norm. The weights are off by w, means of a run included.
        """
        c, m = len(self.a), len(self.k)
        w = weight_error(self.q, self.k, u=u, extra=2 * (self.length + 2)) + u * m
        norm = np.linalg.norm
        errors = [(3 * w + (2 * c + 2) * u) * norm(self.z[0])]
        for z in self.z[:-1]:
            x = self.a @ z
            first = 7 * self.identity - x
            second = 15 * self.identity - x @ first
            third = 13 * self.identity - x @ second
            ex = (c * u + w) * norm(self.a) * norm(z)
            e1 = ex + u * norm(first)
            e2 = ex * norm(first) + norm(x) * (e1 + c * u * norm(first)) + u * norm(second)
            e3 = ex * norm(second) + norm(x) * (e2 + c * u * norm(second)) + u * norm(third)
            errors.append(norm(z) * (e3 + c * u * norm(third)) / 4)
        s = np.linalg.svd(self.a, compute_uv=False)
        null = [0.0] * (self.a.shape[0] - self.a.shape[1])  # of A Z, where runs without keys are gone
        x = np.append(s * s, null) / (self.a.sum(axis=0).max() * self.a.sum(axis=1).max())
        slopes = []
        for _ in self.z[1:]:
            slopes.append(divided_difference(x[:, None], x[None, :]))
            x = x * divided_difference(x, 0.0)
        later = [np.prod([np.ones((len(x), len(x))), *slopes[k:]], axis=0).max() for k in range(len(self.z))]
        of_z = sum(error * factor for error, factor in zip(errors, later, strict=True))
        values = self.b @ self.v
        through = norm(self.f, axis=-1, keepdims=True) * norm(values, axis=0) * of_z
        own = self.f @ np.abs(self.z[-1]) @ (self.b @ np.abs(self.v))
        return 2 * (through + (2 * w + (2 * c + 2) * u) * own)


def aligned(rng, n, m, dim=4, size=3.0):
    """Queries and keys along one path, so that landmarks meet landmarks and A is far from singular."""
    q, k = (np.cos(np.linspace(0, 1, count)[:, None] * np.arange(3, 3 + dim)) for count in (n, m))
    return size * q, size * k, rng.normal(size=(m, 2))


@pytest.mark.parametrize(("n", "m", "count"), [(12, 12, 4), (23, 31, 5), (31, 23, 7), (6, 40, 6), (1, 9, 1), (5, 5, 5)])
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_nystromformer_is_the_formula_of_the_paper(asarray, rng, n, m, count, steps):
    q, k, v = aligned(rng, n, m)
    found = nystromformer_attention(*map(asarray, (q, k, v)), n_landmarks=count, steps=steps)
    assert type(found) is type(asarray(q))
    dense = Dense(q, k, v, count, steps)
    assert dense.bound().max() < 1e-6 * np.abs(dense.out).max()  # the bound says something
    assert np.all(np.abs(to_host(found) - dense.out) <= dense.bound())


def test_nystromformer_keeps_float32(asarray, rng):
    q, k, v = (x.astype(np.float32) for x in aligned(rng, 12, 12))
    found = nystromformer_attention(*map(asarray, (q, k, v)), n_landmarks=4)
    assert found.dtype == asarray(q).dtype
    dense = Dense(*(x.astype(np.float64) for x in (q, k, v)), 4)
    bound = dense.bound(unit(np.float32))
    assert bound.max() < 0.1 * np.abs(dense.out).max()
    assert np.all(np.abs(to_host(found) - dense.out) <= bound)


MASKS = {
    "a key here and there": np.arange(17) % 3 != 1,
    "a run without keys": np.arange(17) >= 4,
    "two runs without keys": (np.arange(17) < 3) | (np.arange(17) > 9),
    "one key": np.arange(17) == 8,
}


@pytest.mark.parametrize("used", MASKS.values(), ids=MASKS)
def test_masked_keys_are_in_no_mean_and_a_run_without_keys_is_no_landmark(asarray, rng, used):
    q, k, v = aligned(rng, 13, 17)
    found = nystromformer_attention(*map(asarray, (q, k, v)), n_landmarks=5, key_mask=asarray(used))
    dense = Dense(q, k, v, 5, used=used)
    assert dense.bound().max() < 1e-5 * np.abs(dense.out).max()
    assert np.all(np.abs(to_host(found) - dense.out) <= dense.bound())
    hidden = [np.where(used[:, None], x, np.nan) for x in (k, v)]
    same = nystromformer_attention(*map(asarray, (q, *hidden)), n_landmarks=5, key_mask=asarray(used))
    assert np.array_equal(to_host(same), to_host(found))


def test_masks_of_a_batch_are_those_of_its_items(asarray, rng):
    q, k, v = aligned(rng, 13, 17)
    used = np.stack([*MASKS.values(), np.zeros(17, dtype=bool)])
    found = to_host(nystromformer_attention(*map(asarray, (q, k, v)), n_landmarks=5, key_mask=asarray(used)))
    for item, mask in zip(found, used[:-1], strict=False):
        dense = Dense(q, k, v, 5, used=mask)
        assert np.all(np.abs(item - dense.out) <= dense.bound())
    assert found[-1].tolist() == [[0, 0]] * 13


@pytest.mark.parametrize("steps", [2, 6, 12])
def test_with_every_token_a_landmark_the_iteration_comes_to_softmax_attention(rng, steps):
    q, k, v = aligned(rng, 9, 9, size=2.0)
    dense = Dense(q, k, v, 9, steps)
    exact = dense.a @ v
    # F = A = B: out - A v = -(I - A Z) A v, and E = I - A Z, symmetric, becomes (3 E^3 + E^4) / 4 in each step.
    e = 1 - np.linalg.svd(dense.a, compute_uv=False).min() ** 2 / dense.a.sum(axis=0).max()
    for _ in range(steps):
        e = (3 * e**3 + e**4) / 4
    found = nystromformer_attention(q, k, v, n_landmarks=9, steps=steps)
    error, rounding = np.linalg.norm(found - exact), np.linalg.norm(dense.bound())
    assert error <= e * np.linalg.norm(exact) + rounding
    assert (e * np.linalg.norm(exact) < 1e-3) == (steps == 12)  # where it has come to it, and where it has not


def test_one_landmark_is_the_attention_of_the_mean_query(asarray, rng):
    q, k, v = rng.normal(size=(5, 4)), rng.normal(size=(7, 4)), rng.normal(size=(7, 2))
    found = to_host(nystromformer_attention(*map(asarray, (q, k, v)), n_landmarks=1))
    expected = softmax_attention(q.mean(axis=0, keepdims=True), k, v)  # F = A = Z = 1
    assert np.all(np.abs(found - expected) <= Dense(q, k, v, 1).bound())


def test_nystromformer_of_one_token_is_its_value(asarray):
    one = [asarray(np.full((1, 1), x)) for x in (3.0, -2.0, 7.0)]
    assert to_host(nystromformer_attention(*one, n_landmarks=1)).tolist() == [[7.0]]


def test_an_item_is_not_moved_by_another(rng):
    q, k, v = (rng.normal(size=(2, 12, 4)) for _ in range(3))
    out = nystromformer_attention(q, k, v, n_landmarks=4)
    k[1] *= 30.0  # a norm over the batch would be that of this item
    v[1] *= 1e6
    assert np.array_equal(nystromformer_attention(q, k, v, n_landmarks=4)[0], out[0])


def test_an_iteration_that_overflows_says_so(asarray, rng):
    q = asarray(np.ones((12, 4)))  # all landmarks are one, but for rounding
    k, v = asarray(1 + 1e-3 * rng.normal(size=(12, 4))), asarray(np.ones((12, 1)))
    with pytest.raises(ArithmeticError, match="the iteration for the inverse overflows within 1000 steps"):
        nystromformer_attention(q, k, v, n_landmarks=6, steps=1000)


def test_memory_is_linear_in_the_number_of_tokens(rng):
    n = 1 << 13
    q, k, v = (rng.normal(size=(n, 2)).astype(np.float32) for _ in range(3))
    for attend in (linear_attention, lambda q, k, v: nystromformer_attention(q, k, v, n_landmarks=8)):
        tracemalloc.start()
        try:
            attend(q, k, v)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4 * n * n / 20  # a twentieth of one float32 matrix n x n


# --- bad input -----------------------------------------------------------------------------------------------------

ATTENTIONS = {
    "softmax": softmax_attention,
    "linear": linear_attention,
    "nystromformer": lambda q, k, v, **options: nystromformer_attention(q, k, v, **{"n_landmarks": 2, **options}),
}


@pytest.mark.parametrize("attend", ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_what_is_not_finite_is_named(asarray, rng, attend, name, bad):
    arrays = {"q": rng.normal(size=(3, 4)), "k": rng.normal(size=(5, 4)), "v": rng.normal(size=(5, 2))}
    arrays[name][1, 1] = bad
    with pytest.raises(ValueError, match=rf"^{name}: expected finite entries, found {bad} at index \(1, 1\)"):
        attend(**{key: asarray(x) for key, x in arrays.items()})


@pytest.mark.parametrize("attend", ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": [[1.0]]}, TypeError, "q: expected an array, found list"),
        ({"q": np.ones(4)}, ValueError, "q: expected shape"),
        ({"q": np.ones((3, 4), dtype=int)}, TypeError, "q: expected dtype float32 or float64, found int64"),
        ({"k": np.ones((5, 3))}, ValueError, "k: expected last axis 4 as q has"),
        ({"v": np.ones((6, 2))}, ValueError, "v: expected 5 rows as k has"),
        ({"v": np.ones((5, 2), dtype=np.float32)}, TypeError, "v: expected dtype float64 as q has, found float32"),
        ({"q": np.ones((2, 3, 4)), "k": np.ones((3, 5, 4))}, ValueError, r"q \(2,\), k \(3,\)"),
        ({"key_mask": np.ones(5)}, TypeError, "key_mask: expected booleans"),
        ({"key_mask": np.ones(4, dtype=bool)}, ValueError, r"key_mask: expected \(\.\.\., 5\), found \(4,\)"),
    ],
)
def test_wrong_arguments_are_named(attend, change, error, words):
    right = {"q": np.ones((3, 4)), "k": np.ones((5, 4)), "v": np.ones((5, 2))}
    attend(**right)
    with pytest.raises(error, match=words):
        attend(**{**right, **change})


@pytest.mark.parametrize(
    ("n", "m", "options", "error", "words"),
    [
        (3, 5, {"n_landmarks": 4}, ValueError, "n_landmarks: expected at most 3 for 3 queries and 5 keys, found 4"),
        (5, 3, {"n_landmarks": 4}, ValueError, "n_landmarks: expected at most 3 for 5 queries and 3 keys, found 4"),
        (0, 3, {"n_landmarks": 1}, ValueError, "n_landmarks: expected at most 0 for 0 queries and 3 keys, found 1"),
        (3, 5, {"n_landmarks": 0}, ValueError, "n_landmarks: expected an int >= 1, found 0"),
        (3, 5, {"n_landmarks": 2.0}, ValueError, "n_landmarks: expected an int >= 1, found 2.0"),
        (3, 5, {"n_landmarks": "2"}, TypeError, "n_landmarks: expected an int >= 1, found '2'"),
        (3, 5, {"n_landmarks": 2, "steps": -1}, ValueError, "steps: expected an int >= 0, found -1"),
    ],
)
def test_landmarks_and_steps_are_checked(n, m, options, error, words):
    with pytest.raises(error, match=words):
        nystromformer_attention(np.ones((n, 4)), np.ones((m, 4)), np.ones((m, 2)), **options)


@pytest.mark.parametrize("name", ["q", "k"])
def test_tokens_whose_sum_overflows_are_named(asarray, name):
    arrays = {"q": np.ones((4, 1)), "k": np.ones((4, 1)), "v": np.ones((4, 1))}
    arrays[name] = np.full((4, 1), LARGEST)
    with pytest.raises(ValueError, match="q, k: finite, but the sums overflow"):
        nystromformer_attention(**{key: asarray(x) for key, x in arrays.items()}, n_landmarks=1)


def test_values_that_overflow_are_named(asarray):
    q, k = np.array([[1.0], [-1.0]]), np.array([[20.0], [-19.9], [19.9], [-20.0]])
    v = LARGEST / 4 * np.sign(k)  # of both signs in B v; landmarks +-0.05 make an inverse that is large
    assert np.isfinite(softmax_attention(q, k, v)).all()
    with pytest.raises(ValueError, match=r"^v: finite, but the sums overflow"):
        nystromformer_attention(*map(asarray, (q, k, v)), n_landmarks=2, steps=12)
