from __future__ import annotations

import numpy as np
import pytest

from schoenbat_theory import AttentionSums, RandomMaclaurin, attention_sums, feature_attention, to_host

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
    n = 1030  # three blocks
    q, k, v = rng.normal(size=(n, 3)), rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    weights = rng.normal(size=n) if weighted else None
    out = feature_attention(q, k, v, positive, causal=True, key_log_weights=weights)
    for i in (0, 1, 510, 511, 512, 1023, 1024, 1028):
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
        ((positive, lambda x: x[..., :2]), ValueError, "phi_.: expected . features as other tokens have"),
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
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., n, 2\)"):
        feature_attention(x, x, v, RandomMaclaurin("exp", 8).draw(2, 0))
