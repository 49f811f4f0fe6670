from __future__ import annotations

import numpy as np
import pytest

import schoenbat_theory.attention.features as module
from schoenbat_theory import (
    AttentionSums,
    PositiveFeatures,
    RandomMaclaurin,
    attention_sums,
    feature_attention,
    to_host,
)
from schoenbat_theory.attention.underflow import recompute_lost_rows

U = 2.0**-53


def positive(x):
    """A feature map with positive entries: every relative error stays what it is."""
    return x * x + 1


def dense(phi_q, phi_k, v, *, causal=False, key_mask=None, key_log_weights=None):
    """Numerator and denominator by the definition, divided by exp(the largest log-weight of the row)."""
    n, m = phi_q.shape[-2], phi_k.shape[-2]
    logs = np.zeros((n, m))
    if key_log_weights is not None:
        logs = logs + key_log_weights[..., None, :]
    if key_mask is not None:
        logs = np.where(key_mask[..., None, :], logs, -np.inf)
    if causal:
        logs = np.where(np.arange(m)[None, :] <= np.arange(n)[:, None], logs, -np.inf)
    top = logs.max(axis=-1, keepdims=True, initial=-np.inf)
    factor = np.exp(logs - np.where(np.isfinite(top), top, 0))
    weights = (phi_q @ np.swapaxes(phi_k, -1, -2)) * factor
    return weights @ v, weights.sum(axis=-1)


def ratio(numerator, denominator):
    safe = np.where(denominator == 0, 1, denominator)[..., None]
    return np.where(denominator[..., None] == 0, 0, numerator / safe)


def bound(width, m, v, logs=0.0, u=U):
    """Sums of D and m positive terms err by (D + m) u, weights by a few roundings of their logarithm; both sums, both ways."""
    return 4 * u * (width + m + 8 + 4 * logs) * np.abs(v).max(initial=0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_time_gives_what_quadratic_time_gives(asarray, rng, causal, dtype):
    q, k, v = (rng.normal(size=shape).astype(dtype) for shape in ((7, 4), (9, 4), (9, 3)))
    found = feature_attention(*map(asarray, (q, k, v)), positive, causal=causal)
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    expected = ratio(*dense(positive(q), positive(k), v, causal=causal))
    assert np.all(np.abs(to_host(found) - expected) <= bound(4, 9, v, u=np.finfo(dtype).eps / 2))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m"), [(511, 511), (512, 512), (513, 513), (1025, 1025), (1025, 3), (3, 1025), (1, 513)])
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_make_the_whole(rng, causal, n, m, weighted):
    q, k, v = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), rng.normal(size=(m, 2))
    extra = {"key_log_weights": 5 * rng.normal(size=m), "key_mask": rng.random(m) < 0.8} if weighted else {}
    found = feature_attention(q, k, v, positive, causal=causal, **extra)
    expected = ratio(*dense(positive(q), positive(k), v, causal=causal, **extra))
    assert np.all(np.abs(found - expected) <= bound(3, m, v, 25.0 * weighted))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lead_q", [(), (3,), (1, 3), (2, 1)])
@pytest.mark.parametrize("lead_k", [(3,), (2, 1), (2, 3)])
@pytest.mark.parametrize("lead_w", [None, (2, 1)])
def test_every_head_of_one_draw_is_as_alone(asarray, rng, causal, lead_q, lead_k, lead_w):
    phi, lead = RandomMaclaurin("exp", 16).draw(4, rng=0), np.broadcast_shapes(lead_q, lead_k, lead_w or ())
    arrays = [rng.normal(size=shape) / 4 for shape in ((*lead_q, 5, 4), (*lead_k, 6, 4), (6, 2))]
    weights = None if lead_w is None else rng.normal(size=(*lead_w, 6))
    options = {} if weights is None else {"key_log_weights": asarray(weights)}
    found = to_host(feature_attention(*map(asarray, arrays), phi, causal=causal, **options))
    assert found.shape == (*lead, 5, 2)
    q, k, v = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in arrays)
    for i in np.ndindex(*lead):
        logs = {} if weights is None else {"key_log_weights": np.broadcast_to(weights, (*lead, 6))[i]}
        assert np.array_equal(found[i], feature_attention(q[i], k[i], v[i], phi, causal=causal, **logs))


@pytest.mark.parametrize("causal", [False, True])
def test_leading_axes_broadcast(asarray, rng, causal):
    q, k, v = rng.normal(size=(2, 1, 5, 4)), rng.normal(size=(3, 6, 4)), rng.normal(size=(6, 2))
    extra = {"key_mask": rng.random((3, 6)) < 0.7, "key_log_weights": rng.normal(size=(2, 1, 6))}
    there = {name: asarray(x) for name, x in extra.items()}
    found = feature_attention(*map(asarray, (q, k, v)), positive, causal=causal, **there)
    assert tuple(found.shape) == (2, 3, 5, 2)
    expected = ratio(*dense(positive(q), positive(k), v, causal=causal, **extra))
    assert np.all(np.abs(to_host(found) - expected) <= bound(4, 6, v, 5.0))


@pytest.mark.parametrize("degrees", ["geometric", "released", "h01"])
@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("causal", [False, True])
def test_a_drawn_map_is_applied_to_queries_and_keys(asarray, rng, degrees, shape, causal):
    q, k, v = rng.normal(size=(6, 3)) / 6, rng.normal(size=(8, 3)) / 6, rng.normal(size=(8, 2))
    phi = RandomMaclaurin("exp", 64, degrees).draw(3, rng, shape=shape)
    found = to_host(feature_attention(*map(asarray, (q, k, v)), phi, causal=causal))
    numerator, denominator = dense(phi(q), phi(k), v, causal=causal)
    assert found.shape == (*shape, 6, 2)
    # No sign is common to the terms: the error is that of the sums of absolute values, with features that err
    # by N (d + 2) u, N the largest degree. |found| (the error of the denominator) joins that of the numerator.
    errors = dense(np.abs(phi(q)) + 1, np.abs(phi(k)) + 1, np.abs(v) + 1, causal=causal)
    units = 4 * U * (64 + 8 + 2 * phi.degrees.max() * 5)
    allowed = units * (errors[0] + np.abs(found) * errors[1][..., None]) / np.abs(denominator)[..., None]
    assert np.all(np.abs(found - ratio(numerator, denominator)) <= 2 * allowed)


def test_queries_and_keys_may_have_maps_of_their_own(rng):
    q, k, v = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    found = feature_attention(q, k, v, (positive, lambda x: 2 * positive(x)))  # a factor cancels
    assert np.array_equal(found, feature_attention(q, k, v, positive))


def test_two_draws_meet_column_by_column(rng):
    q, k, v = rng.normal(size=(4, 3)) / 6, rng.normal(size=(5, 3)) / 6, np.arange(10.0).reshape(5, 2)
    one, two = (RandomMaclaurin("exp", 16).draw(3, rng) for _ in range(2))
    assert np.sum(one.degrees == 0) != np.sum(two.degrees == 0)  # as many constants could be merged by chance
    numerator, denominator = dense(one(q), two(k), v)
    found = feature_attention(q, k, v, (one, two))
    # Sums of 16 + 5 terms; features of degree N err by N (d + 2) u.
    errors = dense(np.abs(one(q)) + 1, np.abs(two(k)) + 1, np.abs(v) + 1)
    units = 8 * U * (16 + 5 + 2 * max(one.degrees.max(), two.degrees.max()) * 5)
    allowed = units * (errors[0] + np.abs(found) * errors[1][:, None]) / np.abs(denominator)[:, None]
    assert np.all(np.abs(found - ratio(numerator, denominator)) <= allowed)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e15])
def test_log_weights_of_any_size_do_not_overflow(asarray, rng, causal, size):
    q, k, v = rng.normal(size=(6, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    weights = size * np.array([-1.0, 0.0, 1.0, 0.5, 1.0])
    found = feature_attention(*map(asarray, (q, k, v)), positive, causal=causal, key_log_weights=asarray(weights))
    expected = ratio(*dense(positive(q), positive(k), v, causal=causal, key_log_weights=weights))
    assert np.all(np.abs(to_host(found) - expected) <= bound(3, 5, v, 2 * size))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_masked_key_is_never_looked_at(asarray, rng, causal, bad):
    q, k, v = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    mask = np.array([True, False, True, True, False])
    spoiled = [np.where(mask[:, None], x, bad) for x in (k, v)]
    found = feature_attention(asarray(q), *map(asarray, spoiled), positive, causal=causal, key_mask=asarray(mask))
    expected = ratio(*dense(positive(q), positive(k), v, causal=causal, key_mask=mask))
    assert np.all(np.abs(to_host(found) - expected) <= bound(3, 5, v, 1.0))
    sums = attention_sums(*map(asarray, (positive(q), *spoiled)), causal=causal, key_mask=asarray(mask))
    assert np.isfinite(to_host(sums.numerator)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_later_keys_change_nothing_bit_for_bit(rng, weighted):
    n = 1030  # nine blocks
    q, k, v = rng.normal(size=(n, 3)), rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    weights = rng.normal(size=n) if weighted else None
    out = feature_attention(q, k, v, positive, causal=True, key_log_weights=weights)
    for i in (0, 1, 127, 128, 510, 511, 512, 1023, 1024, 1028):
        later = np.arange(n) > i
        new = [np.where(later[:, None], x + 5, x) for x in (k, v)]
        heavier = np.where(later, 1e3, weights) if weighted else None
        other = feature_attention(q, *new, positive, causal=True, key_log_weights=heavier)
        assert np.array_equal(other[: i + 1], out[: i + 1])
        assert not np.array_equal(other[i + 1 :], out[i + 1 :])


def test_a_row_that_sees_no_key_is_zeros(asarray, rng):
    q, k, v = (asarray(rng.normal(size=shape)) for shape in ((3, 4), (2, 4), (2, 2)))
    none = feature_attention(q, k, v, positive, key_mask=asarray(np.zeros(2, dtype=bool)))
    assert to_host(none).tolist() == [[0, 0]] * 3
    first = feature_attention(q, k, v, positive, causal=True, key_mask=asarray(np.array([False, True])))
    assert to_host(first)[0].tolist() == [0, 0]
    for causal in (False, True):
        assert to_host(feature_attention(q, k[:0, :], v[:0, :], positive, causal=causal)).tolist() == [[0, 0]] * 3
        assert tuple(feature_attention(q[:0, :], k, v, positive, causal=causal).shape) == (0, 2)


def test_the_order_of_the_keys_and_a_common_value_do_not_matter(rng):
    q, k, v = rng.normal(size=(4, 3)), rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    order = rng.permutation(8)
    out = feature_attention(q, k, v, positive)
    assert np.all(np.abs(feature_attention(q, k[order], v[order], positive) - out) <= bound(3, 8, v))
    # The denominator is a column of the numerator, so that a constant comes back exactly, whatever the signs.
    phi = RandomMaclaurin("exp", 32).draw(3, rng)
    assert np.all(feature_attention(q / 3, k / 3, np.ones((8, 1)), phi) == 1)


@pytest.mark.parametrize("causal", [False, True])
def test_the_two_sums_are_those_of_the_definition(asarray, rng, causal):
    phi_q, phi_k, v = rng.random((5, 4)), rng.random((6, 4)), rng.random((6, 2))
    weights = rng.normal(size=6)
    sums = attention_sums(*map(asarray, (phi_q, phi_k, v)), causal=causal, key_log_weights=asarray(weights))
    numerator, denominator = dense(phi_q, phi_k * np.exp(weights)[:, None], v, causal=causal)
    assert np.all(np.abs(to_host(sums.numerator) / numerator - 1) <= bound(4, 6, np.ones(1), 5.0))
    assert np.all(np.abs(to_host(sums.denominator) / denominator - 1) <= bound(4, 6, np.ones(1), 5.0))


def test_a_clamp_raises_small_denominators_only(asarray):
    sums = AttentionSums(asarray(np.array([[1.0], [3.0], [1.0]])), asarray(np.array([0.5, 2.0, -1.0])))
    assert to_host(sums.ratio()).tolist() == [[2], [1.5], [-1]]
    assert to_host(sums.ratio(clamp=1.0)).tolist() == [[1], [1.5], [1]]


def test_denominators_of_zero_are_counted(asarray):
    phi_q, phi_k, v = (asarray(np.array(x)) for x in ([[1.0], [0.0], [2.0]], [[1.0], [-1.0]], [[1.0], [2.0]]))
    sums = attention_sums(phi_q, phi_k, v)
    assert to_host(sums.denominator).tolist() == [0, 0, 0]
    with pytest.raises(ArithmeticError, match="the attention weights of 3 rows sum to exactly 0"):
        sums.ratio()
    with pytest.raises(ArithmeticError, match="the attention weights of 3 rows"):
        feature_attention(phi_q, phi_k, v, lambda x: x)
    with pytest.raises(ArithmeticError, match="the attention weights of 2 rows"):
        feature_attention(phi_q, phi_k, v, lambda x: x, causal=True)  # the first row sees one key


def test_a_quotient_that_overflows_is_no_result():
    q, v = np.array([[1e-150]]), np.array([[1e10], [-1e10]])
    k = np.array([[1e-150], [-1e-150 * (1 - 2 * U)]])
    with pytest.raises(ArithmeticError, match="a denominator is so close to 0 that the output overflows"):
        feature_attention(q, k, 1e290 * v, lambda x: x)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_traced_back(asarray, rng, name, bad):
    arrays = {"q": rng.normal(size=(3, 4)) / 4, "k": rng.normal(size=(5, 4)) / 4, "v": rng.normal(size=(5, 2))}
    arrays[name][1, 1] = bad
    there = {key: asarray(x) for key, x in arrays.items()}
    words = rf"{name}: expected finite entries, found {bad} at index \(1, 1\)"
    for phi in (positive, RandomMaclaurin("exp", 16).draw(4, 0)):
        with pytest.raises(ValueError, match=words):
            feature_attention(**there, phi=phi)
    names = {"q": "phi_q", "k": "phi_k", "v": "v"}
    with pytest.raises(ValueError, match=f"{names[name]}: expected finite entries"):
        attention_sums(**{names[key]: x for key, x in there.items()})


def test_finite_input_whose_sums_overflow_is_blamed_on_size(asarray):
    x, v = asarray(np.full((2, 2), 1e200)), asarray(np.ones((2, 1)))
    with pytest.raises(ValueError, match="q, k, v: finite, but the sums overflow"):
        feature_attention(x, x, v, positive)
    with pytest.raises(ValueError, match="phi_q, phi_k, v: finite, but the sums overflow"):
        attention_sums(x / x, x / x, v, key_log_weights=asarray(np.full(2, 1e3)))


def test_beyond_the_radius_of_its_series_a_map_is_not_applied(asarray):
    phi = RandomMaclaurin("inv", 8).draw(2, 0)
    q, k, v = (asarray(np.array(x)) for x in ([[0.0, 1.0]], [[1.01, 0.0]], [[1.0]]))
    with pytest.raises(ValueError, match=r"q, k: the series of the map needs \|\|q\|\| \|\|k\|\| <= 1, found"):
        feature_attention(q, k, v, phi)


@pytest.mark.parametrize("name", ["key_mask", "key_log_weights"])
def test_leading_axes_of_masks_and_weights_that_fit_nothing_are_named(asarray, rng, name):
    q, k, v = (asarray(rng.random((2, n, 4))) for n in (3, 5, 5))
    extra = {name: asarray(np.ones((3, 5), dtype=bool if name == "key_mask" else float))}
    for call in (lambda: feature_attention(q, k, v, positive, **extra), lambda: attention_sums(q, k, v, **extra)):
        with pytest.raises(ValueError, match=rf"leading axes do not broadcast: arrays \(2,\), {name} \(3,\)"):
            call()


def test_a_mask_may_have_leading_axes_of_its_own(asarray, rng):
    q, k, v, mask = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 2)), rng.random((6, 5)) < 0.7
    found = to_host(feature_attention(*map(asarray, (q, k, v)), positive, key_mask=asarray(mask)))
    assert found.shape == (6, 3, 2)
    expected = ratio(*dense(positive(q), positive(k), v, key_mask=mask))
    assert np.all(np.abs(found - expected) <= bound(4, 5, v, 1.0))


def test_a_ratio_of_finite_sums_never_overflows_in_silence(asarray):
    tiny = AttentionSums(asarray(np.array([[1e10]])), asarray(np.array([1e-300])))
    with pytest.raises(ArithmeticError, match="a denominator is so close to 0 that the output overflows"):
        tiny.ratio()
    assert to_host(tiny.ratio(clamp=1.0)).tolist() == [[1e10]]
    with pytest.raises(ValueError, match="numerator: expected finite entries, found nan"):
        AttentionSums(asarray(np.array([[np.nan]])), asarray(np.array([1.0]))).ratio()


@pytest.mark.parametrize(
    ("phi", "error", "words"),
    [
        (RandomMaclaurin("exp", 8), TypeError, r"phi: expected a draw; call \.draw\(dim, rng\)"),
        (3, TypeError, "phi: expected a draw or a callable, found 3"),
        ((positive,), ValueError, r"phi: expected a map or a pair \(phi_q, phi_k\), found 1"),
        ((positive, None), TypeError, "phi_k: expected a draw or a callable, found None"),
        (lambda x: None, TypeError, "phi: expected an array, found NoneType"),
        (lambda x: x[..., 0], ValueError, r"phi: expected features \(\.\.\., 3, D\) for \(3, 4\), found \(3,\)"),
        (lambda x: x[:2], ValueError, r"phi: expected features \(\.\.\., 3, D\) for \(3, 4\), found \(2, 4\)"),
        (lambda x: np.stack([x, x]), ValueError, r"phi: expected features .*found \(2, 3, 4\)"),
        (lambda x: x.astype(np.float32), TypeError, "phi: expected dtype float64 as x has, found float32"),
        ((positive, lambda x: x[..., :2]), ValueError, "phi_(q|k): expected . features as phi_(k|q) has"),
        (lambda x: x * np.nan, ValueError, "phi: expected finite features of finite tokens, found NaN"),
        ((positive, lambda x: x * np.nan), ValueError, "phi_k: expected finite features of finite tokens"),
    ],
)
def test_a_map_that_is_none_is_named(rng, phi, error, words):
    q, v = rng.random((3, 4)), rng.random((3, 2))
    for causal in (False, True):
        with pytest.raises(error, match=words):
            feature_attention(q, q, v, phi, causal=causal)


def test_two_draws_have_the_leading_axes_of_both(rng):
    q, v = rng.random((3, 2)) / 4, rng.random((3, 2))
    law = RandomMaclaurin("exp", 16)
    assert feature_attention(q, q, v, (law.draw(2, 0), law.draw(2, 1, shape=(5,)))).shape == (5, 3, 2)


@pytest.mark.parametrize("causal", ["no", np.ones(2, dtype=bool), None, 1])
def test_causal_is_a_bool(causal):
    x = np.ones((2, 2))
    for call in (
        lambda: feature_attention(x, x, x, positive, causal=causal),
        lambda: attention_sums(x, x, x, causal=causal),
    ):
        with pytest.raises(TypeError, match="causal: expected True or False, found"):
            call()


def test_wrong_shapes_are_named_as_the_caller_knows_them():
    x, v = np.ones((3, 4)), np.ones((3, 2))
    with pytest.raises(ValueError, match="k: expected last axis 4 as q has"):
        feature_attention(x, np.ones((3, 5)), v, positive)
    with pytest.raises(ValueError, match="phi_k: expected last axis 4 as phi_q has"):
        attention_sums(x, np.ones((3, 5)), v)
    with pytest.raises(ValueError, match=r"q: expected rows of 2 entries as phi takes, found \(3, 4\)"):
        feature_attention(x, x, v, RandomMaclaurin("exp", 8).draw(2, 0))


# Maps that have scaled features


def in_logarithms(q, k, v, phi, *, causal=False, key_mask=None, key_log_weights=None):
    """Attention through a positive map by the definition, in float64, with no product of features; and the weights."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    logs_q, logs_k = phi.log(q), phi.log(k)
    scores = np.logaddexp.reduce(logs_q[..., :, None, :] + logs_k[..., None, :, :], axis=-1)
    if key_log_weights is not None:
        scores = scores + key_log_weights[..., None, :]
    if key_mask is not None:
        scores = np.where(key_mask[..., None, :], scores, -np.inf)
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:])) > 0, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    return weights @ v, weights


def allowed(q, k, v, phi, weights, out, logs=0.0, u=U):
    """Logarithms of features err by delta, so weights by a factor within e^(4 delta); sums of D, m and a few by u each.

    Backward error of an inner product, d u |w| |x|, of |x|^2 / 2, of a sum of four such parts, twice; ``logs`` is the
    largest log-weight. Underflow adds 7 eps of the largest value, here near 1 (`recompute_lost_rows`).
    """
    d, m = q.shape[-1], k.shape[-2]
    longest = [np.linalg.norm(x.astype(np.float64), axis=-1).max() for x in (q, k)]
    norm = np.linalg.norm(phi.weights, axis=-1).max()
    root = np.sqrt(1 - 4 * phi.tilt)
    size = sum(root * norm * x + x * x + abs(phi.tilt) * norm**2 + abs(np.log(phi.n_features)) + d for x in longest)
    delta = (2 * d + 8) * u * (size + logs)
    spread = np.sum(weights[..., None] * np.abs(v[..., None, :, :] - out[..., :, None, :]), axis=-2)
    return np.expm1(min(4 * delta, 700)) * spread + 4 * u * (phi.n_features + m + 40) * np.abs(v).max()


POSITIVE = [
    PositiveFeatures(16),
    PositiveFeatures(16, hyperbolic=True),
    PositiveFeatures(6, orthogonal=False, tilt=-0.3),
]


@pytest.mark.parametrize("law", POSITIVE, ids=repr)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [0.5, 5.0, 30.0, 1e3])
@pytest.mark.parametrize("apart", [False, True])
def test_positive_features_of_any_length_do_not_overflow(asarray, rng, law, causal, dtype, length, apart):
    phi = law.draw(4, rng)
    q, k, v = (rng.normal(size=shape) for shape in ((7, 4), (9, 4), (9, 2)))
    if apart:  # every product of features underflows; only logarithms see which key is the nearest
        q, k = (length * sign * np.eye(4)[0] + x for sign, x in ((1, q), (-1, k)))
    else:
        q, k = length / 2 * q, length / 2 * k
    q, k, v = (x.astype(dtype) for x in (q, k, v))
    found = to_host(feature_attention(*map(asarray, (q, k, v)), phi, causal=causal))
    assert found.dtype == dtype
    expected, weights = in_logarithms(q, k, v, phi, causal=causal)
    u = float(np.finfo(dtype).eps) / 2
    assert np.all(np.abs(found - expected) <= allowed(q, k, v, phi, weights, expected, u=u))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1.0, 200.0, 1000.0])
def test_lost_rows_heed_masks_weights_and_leading_axes(asarray, rng, causal, length):
    phi = PositiveFeatures(8).draw(3, rng, shape=(2, 1))
    first = length * np.eye(3)[0]
    q, k = first + rng.normal(size=(6, 3)), rng.normal(size=(3, 7, 3)) - first
    q[2:4] *= 1e-3  # some rows are lost and some are not
    v = rng.normal(size=(7, 2))
    extra = {"key_mask": rng.random((3, 7)) < 0.6, "key_log_weights": 3 * length * rng.normal(size=7)}
    extra["key_mask"][0, 0], extra["key_mask"][1] = False, False
    there = {name: asarray(x) for name, x in extra.items()}
    found = to_host(feature_attention(*map(asarray, (q, k, v)), phi, causal=causal, **there))
    assert found.shape == (2, 3, 6, 2)
    q, k = np.broadcast_to(q, (2, 3, 6, 3)), np.broadcast_to(k, (2, 3, 7, 3))
    expected, weights = in_logarithms(q, k, v, phi, causal=causal, **extra)
    assert np.all(found[:, 1] == 0)
    assert np.all(found[:, 0, 0] == 0) or not causal
    assert np.all(np.abs(found - expected) <= allowed(q, k, v, phi, weights, expected, logs=12 * length))


@pytest.mark.parametrize("n", [600, 1030])
def test_lost_rows_are_the_same_across_blocks(rng, n):
    phi = PositiveFeatures(4).draw(2, rng)
    q, k, v = 600 + rng.normal(size=(n, 2)), -600 + rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    q[: n - 20] /= 600  # the last rows are lost, and see keys of every block
    for causal in (False, True):
        expected, weights = in_logarithms(q, k, v, phi, causal=causal)
        found = feature_attention(q, k, v, phi, causal=causal)
        assert np.all(np.abs(found - expected) <= allowed(q, k, v, phi, weights, expected))


def test_a_lost_row_of_one_item_changes_no_bit_of_another(rng):
    phi = PositiveFeatures(8).draw(3, rng)
    q, k, v = (rng.normal(size=(2, 5, 3)) for _ in range(3))
    far = np.stack([q[0], q[1] + 1e3]), np.stack([k[0], k[1] - 1e3])
    for causal in (False, True):
        out = feature_attention(q, k, v, phi, causal=causal)
        assert np.array_equal(feature_attention(*far, v, phi, causal=causal)[0], out[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_computed_again_below_the_threshold_and_nowhere_else(rng, dtype):
    phi, finfo = PositiveFeatures(16).draw(3, rng), np.finfo(dtype)
    x, v = rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(5, 2)).astype(dtype)
    limit = 16 * 5 * float(finfo.smallest_normal) / float(finfo.eps)  # D m tiny / eps
    share = np.array([0.0, 0.5, 0.999, 1.0, 2.0])
    logs = lambda r: phi.log(x[r.start : r.stop])
    for visible in (None, np.array([True, False, True, True, True])):
        sums = AttentionSums(np.full((5, 2), 7, dtype), (share * limit).astype(dtype), visible)
        recompute_lost_rows(sums, logs, lambda r: (logs(r), None), v, width=16, causal=False)
        lost = (share < 1) if visible is None else (share < 1) & visible
        assert np.array_equal(np.any(sums.numerator != 7, axis=-1), lost)
        assert np.array_equal(sums.denominator >= 1, lost)  # the largest weight is 1


def test_without_logarithms_such_rows_would_be_lost(rng, monkeypatch):
    phi = PositiveFeatures(16).draw(4, rng)
    q, k, v = (
        x.astype(np.float32) for x in (rng.normal(size=(6, 4)), rng.normal(size=(7, 4)), rng.normal(size=(7, 2)))
    )
    lost = []

    def recompute(sums, log_q, log_k, v, *, width, causal, first):
        assert (width, causal, first) == (16, False, 0)
        lost.append(sums.denominator)

    monkeypatch.setattr(module, "recompute_lost_rows", recompute)
    feature_attention(q, k, v, phi)
    assert np.all(lost[0] > 0.1)
    with pytest.raises(ArithmeticError, match="the attention weights of 6 rows sum to exactly 0"):
        feature_attention(q + 60, k - 60, v, phi)


@pytest.mark.parametrize("length", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_later_keys_of_any_length_change_no_bit(rng, length, weighted):
    n = 600  # five blocks
    phi = PositiveFeatures(8).draw(3, rng)
    first = length * np.eye(3)[0]
    q, k, v = first + rng.normal(size=(n, 3)), rng.normal(size=(n, 3)) - first, rng.normal(size=(n, 2))
    q[::3] *= -1  # a third of the rows is not lost
    q, k, v = (x.astype(np.float32) for x in (q, k, v))
    weights = rng.normal(size=n).astype(np.float32) if weighted else None
    out = feature_attention(q, k, v, phi, causal=True, key_log_weights=weights)
    for i in (0, 127, 128, 300, 511, 512, 598):
        later = np.arange(n) > i
        for factor in (-1, 0, 1e3):
            new = np.where(later[:, None], np.float32(factor) * k, k), np.where(later[:, None], np.float32(1e6), v)
            heavier = np.where(later, np.float32(1e5), weights) if weighted else None
            other = feature_attention(q, *new, phi, causal=True, key_log_weights=heavier)
            assert np.array_equal(other[: i + 1], out[: i + 1])
            # Keys of zero are nearer to every query than those at -q, and their values are large.
            assert factor or not np.array_equal(other[i + 1 :], out[i + 1 :])


def test_a_scaled_map_may_meet_one_that_is_not(rng):
    phi = PositiveFeatures(16).draw(3, rng)
    q, k, v = rng.normal(size=(5, 3)), rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    plain, signed = phi.__call__, RandomMaclaurin("exp", 16).draw(3, rng)
    for causal in (False, True):
        expected = ratio(*dense(phi(q), phi(k), v, causal=causal))
        for pair in (phi, (phi, phi), (phi, plain), (plain, phi), plain):
            found = feature_attention(q, k, v, pair, causal=causal)
            # Features err by the logarithms of their size, below 50 here, and (d + 2) u of each.
            assert np.all(np.abs(found - expected) <= bound(16, 6, v, 50.0 * 5))
        k_small = k / 8
        for pair in ((phi, signed), (signed, phi)):
            numerator, denominator = dense(pair[0](q / 8), pair[1](k_small), v, causal=causal)
            sizes = dense(np.abs(pair[0](q / 8)), np.abs(pair[1](k_small)), np.abs(v) + 1, causal=causal)
            found = feature_attention(q / 8, k_small, v, pair, causal=causal)
            units = 8 * U * (16 + 6 + 50 + 2 * signed.degrees.max() * 5)
            size = (sizes[0] + np.abs(found) * sizes[1][:, None]) / np.abs(denominator)[:, None]
            assert np.all(np.abs(found - ratio(numerator, denominator)) <= units * size)


def test_lost_rows_of_a_map_without_logarithms_are_refused(rng):
    phi = PositiveFeatures(16).draw(3, rng)
    q, k, v = rng.normal(size=(5, 3)) + 600, rng.normal(size=(6, 3)) - 600, rng.normal(size=(6, 2))
    plain = lambda x: phi.scaled(x)[0]  # the map of queries without its scales, which cancel
    for causal in (False, True):
        assert np.isfinite(feature_attention(q, k, v, (phi, phi), causal=causal)).all()
        with pytest.raises(ArithmeticError, match="the attention weights of 5 rows sum to exactly 0"):
            feature_attention(q, k, v, (plain, phi), causal=causal)


def test_scaled_features_may_be_signed(rng):
    class Signed:
        """phi(x) = x e^(700 x_0), of which no number holds more than the scaled form."""

        def __call__(self, x):
            raise AssertionError("asked for features that overflow")

        def scaled(self, x):
            return x, 700 * x[..., 0]

    q, k, v = rng.random((4, 3)), rng.random((5, 3)), rng.normal(size=(5, 2))
    k[:, 0] += np.arange(5)
    for causal in (False, True):
        found = feature_attention(q, k, v, Signed(), causal=causal)
        expected = ratio(*dense(q, k, v, causal=causal, key_log_weights=700 * k[:, 0]))
        assert np.all(np.abs(found - expected) <= bound(3, 5, v, 700 * 6))


@pytest.mark.parametrize("causal", [False, True])
def test_a_masked_key_is_never_looked_at_by_a_scaled_map(asarray, rng, causal):
    phi = PositiveFeatures(16).draw(3, rng)
    q, k, v = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    mask = np.array([False, True, False, True, True])
    for factor in (1.0, 40.0):  # the second in logarithms
        x, y = q + factor, k - factor
        spoiled = [np.where(mask[:, None], z, np.nan) for z in (y, v)]
        found = to_host(feature_attention(*map(asarray, (x, *spoiled)), phi, causal=causal, key_mask=asarray(mask)))
        expected, weights = in_logarithms(x, y, v, phi, causal=causal, key_mask=mask)
        assert np.all(np.abs(found - expected) <= allowed(x, y, v, phi, weights, expected))
        assert np.all(found[0] == 0) or not causal


def test_no_query_and_no_key(rng):
    phi, v = PositiveFeatures(16).draw(3, rng), np.ones((2, 1))
    for causal in (False, True):
        x = rng.normal(size=(2, 3))
        assert feature_attention(x, x[:0], v[:0], phi, causal=causal).tolist() == [[0], [0]]
        assert feature_attention(x[:0], x, v, phi, causal=causal).shape == (0, 1)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_traced_through_scaled_features(asarray, rng, name, bad):
    phi = PositiveFeatures(16).draw(4, rng)
    arrays = {"q": rng.normal(size=(3, 4)), "k": rng.normal(size=(5, 4)), "v": rng.normal(size=(5, 2))}
    arrays[name][1, 1] = bad
    there = {key: asarray(x) for key, x in arrays.items()}
    for causal in (False, True):
        with pytest.raises(ValueError, match=rf"{name}: expected finite entries, found {bad} at index \(1, 1\)"):
            feature_attention(**there, phi=phi, causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_key_whose_weight_is_beyond_the_dtype_is_not_dropped(asarray, rng, causal, dtype):
    phi, size = PositiveFeatures(16).draw(2, rng), 1e30 if dtype == "float32" else 1e200  # |k|^2 / 2 is infinite
    q, v = np.ones((2, 2), dtype), np.ones((2, 1), dtype)
    k = np.array([[size, 0], [0, 1]], dtype)
    with pytest.raises(ValueError, match=f"q, k, v: finite, but the sums overflow .*{dtype}"):
        feature_attention(*map(asarray, (q, k, v)), phi, causal=causal)


@pytest.mark.parametrize(
    ("scaled", "error", "words"),
    [
        (lambda x: (x, x), ValueError, r"phi: expected a log scale \(3,\), found \(3, 4\)"),
        (lambda x: (x, x[:2, 0]), ValueError, r"phi: expected a log scale \(3,\), found \(2,\)"),
        (lambda x: (x, 0.0), TypeError, "log scale of phi: expected an array, found float"),
        (lambda x: (x, x[..., 0].astype(np.float32)), TypeError, "log scale of phi: expected dtype float64"),
        (lambda x: (None, x[..., 0]), TypeError, "phi: expected an array, found NoneType"),
        (
            lambda x: (x[:2], x[:2, 0]),
            ValueError,
            r"phi: expected features \(\.\.\., 3, D\) for \(3, 4\), found \(2, 4\)",
        ),
    ],
)
def test_scaled_features_that_are_none_are_named(rng, scaled, error, words):
    class Map:
        def __call__(self, x):
            return x

    phi, x = Map(), rng.random((3, 4))
    phi.scaled = scaled
    for causal in (False, True):
        with pytest.raises(error, match=words):
            feature_attention(x, x, x, phi, causal=causal)


@pytest.mark.parametrize("lead", [(0,), (3, 0)])
@pytest.mark.parametrize("causal", [False, True])
def test_no_heads_at_all_give_no_rows(asarray, lead, causal):
    x, phi = asarray(np.ones((*lead, 5, 4))), RandomMaclaurin("exp", 8).draw(4, rng=0)
    assert feature_attention(x, x, x, phi, causal=causal).shape == (*lead, 5, 4)
