from __future__ import annotations

import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import AttentionState, attention_sums, feature_attention, to_host
from schoenbat_theory.attention.memory import LogState, fingerprint
from schoenbat_theory.attention.running import TOKENS
from schoenbat_theory.threads import one_core


def positive(x):
    """A map without rounding of its own for integers, and positive: sums lose no digit by cancellation."""
    return x * x + 1


def units(width, m, weighted=False, logs=0.0):
    """The g of the docstring, in units of u: any order of D and of m terms, R <= m scales, logarithms up to L."""
    return width + m + 4 * m * weighted + 12 * logs + 8


def allowance(g, out, phi_q, phi_k, sizes_q, sizes_k, v, **extra):
    """How far two results may lie apart: the bound of the docstring, for features of at most these sizes.

    It is of first order. Where the error of the denominator is at most 1/16 of it the rest adds less than an eighth.
    """
    gamma = g * float(np.finfo(out.dtype).eps) / 2
    z = attention_sums(phi_q, phi_k, v, **extra)
    sizes = attention_sums(sizes_q, sizes_k, np.abs(v), **extra)
    seen = np.ones(z.denominator.shape, bool) if z.visible is None else z.visible
    assert np.all(gamma * sizes.denominator[seen] <= np.abs(z.denominator)[seen] / 16)
    error = 2 * gamma * (sizes.numerator + np.abs(out) * sizes.denominator[..., None])
    return np.where(seen[..., None], 1.125 * error / np.where(seen, np.abs(z.denominator), 1)[..., None], 0)


def of_positive(out, v, g):
    """The same for positive features, whose weights sum to the denominator."""
    return 4.5 * g * float(np.finfo(out.dtype).eps) / 2 * np.abs(v).max(initial=0)


def draw(kind, d, width=16, kernel="exp"):
    laws = {
        "maclaurin": lambda: st.RandomMaclaurin(kernel, width),
        "srht": lambda: st.RandomMaclaurin(kernel, width, degrees=(2, width - 4, 2), weights="srht"),
        "positive": lambda: st.PositiveFeatures(width),
        "fourier": lambda: st.FourierFeatures(width),
        "taylor": lambda: st.TaylorFeatures(kernel, 2, d),
    }
    return laws[kind]().draw(d, rng=0)


def sizes(phi, x):
    """Upper bounds of |phi(x)| that grow with what is rounded: signs of products left out, norms by Cauchy-Schwarz."""
    if isinstance(phi, st.MaclaurinDraw):
        return phi.scale[..., None, :] * np.sum(np.abs(x), axis=-1, keepdims=True) ** phi.degrees[..., None, :]
    return np.abs(phi(x)) + math.sqrt(2 / phi.n_features) * np.exp(np.sum(x * x, -1, keepdims=True) / 2)


def feature_units(phi, x):
    """Relative rounding of features to these sizes, in u: N (d + 2) of degree N; d + 4 times |w| |x| of an angle or logarithm."""
    d = x.shape[-1]
    if isinstance(phi, st.MaclaurinDraw):
        return int(phi.degrees.max()) * (d + 2)
    longest = np.sqrt(np.max(np.sum(phi.weights**2, -1)) * np.max(np.sum(x * x, -1)))
    return (d + 4) * (1 + longest + np.max(np.sum(x * x, -1)))


def stream(phi, k, v, cuts, asarray=np.asarray, **extra):
    """A state that took in keys from cut to cut."""
    state = AttentionState(phi)
    for start, stop in zip((0, *cuts), (*cuts, k.shape[-2]), strict=True):
        some = {name: asarray(x[..., start:stop]) for name, x in extra.items()}
        assert state.update(asarray(k[..., start:stop, :]), asarray(v[..., start:stop, :]), **some) is state
    assert state.tokens == k.shape[-2]
    return state


def decode(phi, q, k, v, asarray=np.asarray, **extra):
    """Token by token: row t of the result is of keys up to t."""
    state, rows = AttentionState(phi), []
    for t in range(k.shape[-2]):
        one = slice(t, t + 1)
        state.update(
            asarray(k[..., one, :]),
            asarray(v[..., one, :]),
            **{name: asarray(x[..., one]) for name, x in extra.items()},
        )
        rows.append(to_host(state.attend(asarray(q[..., one, :]))))
    return np.concatenate(rows, axis=-2)


def mapped(tmp_path, name, x):
    """The same numbers in a file, read-only."""
    path = tmp_path / name
    x.tofile(path)
    return np.memmap(path, dtype=x.dtype, mode="r", shape=x.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["maclaurin", "fourier"])
def test_a_stream_of_tokens_is_causal_attention(asarray, rng, kind, dtype):
    q, k, v = (rng.normal(size=(2, 20, 3)).astype(dtype) / 4 for _ in range(3))
    phi = draw(kind, 3)
    found = decode(phi, q, k, v, asarray)
    expected = feature_attention(q, k, v, phi, causal=True)
    assert found.dtype == dtype
    q, k, v = (x.astype(float) for x in (q, k, v))
    sides = (phi(q), phi(k), sizes(phi, q), sizes(phi, k))
    g = units(phi.n_features, 20, kind == "fourier", np.max(np.sum(k * k, -1)) + 3) + 4 * feature_units(phi, k)
    assert np.all(np.abs(found - expected) <= allowance(g, expected, *sides, v, causal=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stream_through_positive_features_is_causal_attention(asarray, rng, dtype):
    q, k, v = (rng.normal(size=(2, 20, 3)).astype(dtype) for _ in range(3))
    phi = draw("positive", 3)
    found, expected = decode(phi, q, k, v, asarray), feature_attention(q, k, v, phi, causal=True)
    logs = np.max(np.abs(phi.log(np.concatenate([q, k]))))
    g = units(16, 20, True, logs) + 4 * feature_units(phi, np.concatenate([q, k]))
    assert found.dtype == dtype
    assert np.all(np.abs(found - expected) <= of_positive(expected, v, g))


@pytest.mark.parametrize("m", [1, TOKENS - 1, TOKENS, TOKENS + 1, 17 * TOKENS + 3])
@pytest.mark.parametrize("cuts", [(), (1,), (0, 0), (1, 1, 1)])
def test_keys_in_chunks_and_then_queries_are_attention_to_all_keys(rng, m, cuts):
    q, k, v = (
        rng.integers(-3, 4, size=(TOKENS + 2, 3)) / 1.0,
        rng.integers(-3, 4, size=(m, 3)) / 1.0,
        rng.normal(size=(m, 2)),
    )
    state = stream(positive, k, v, cuts)
    found, expected = state.attend(q), feature_attention(q, k, v, positive)
    assert np.all(np.abs(found - expected) <= of_positive(expected, v, units(3, m)))
    assert np.array_equal(state.attend(q[:5]), found[:5])  # integers: products of features are exact, in any order


@pytest.mark.parametrize("kind", [None, "maclaurin", "positive", "fourier"])
def test_masks_and_weights_may_come_and_go(asarray, rng, kind):
    q, k, v = (rng.normal(size=(12, 3)) / 4 for _ in range(3))
    phi = positive if kind is None else draw(kind, 3)
    logs, mask = np.where(np.arange(12) < 8, 0, 3 * rng.normal(size=12)), np.arange(12) != 6
    state = AttentionState(phi).update(asarray(k[:4]), asarray(v[:4]))  # without either
    state.update(asarray(k[4:8]), asarray(v[4:8]), key_mask=asarray(mask[4:8]))
    state.update(asarray(k[8:11]), asarray(v[8:11]), key_log_weights=asarray(logs[8:11]))
    state.update(asarray(k[11:]), asarray(v[11:]))
    logs[11] = 0
    found = to_host(state.attend(asarray(q)))
    extra = {"key_mask": mask, "key_log_weights": logs}
    expected = feature_attention(q, k, v, phi, **extra)
    if kind in (None, "positive"):
        allowed = of_positive(expected, v, units(16, 12, True, 20) + (0 if kind is None else 4 * feature_units(phi, k)))
    else:
        g = units(phi.n_features, 12, True, 12) + 4 * feature_units(phi, k)
        allowed = allowance(g, expected, phi(q), phi(k), sizes(phi, q), sizes(phi, k), v, **extra)
    assert np.all(np.abs(found - expected) <= allowed)


@pytest.mark.parametrize("kind", [None, "positive"])
@pytest.mark.parametrize("size", [1e3, 1e15])
def test_weights_of_any_size_rise_without_an_overflow(rng, kind, size):
    q, k, v = (rng.normal(size=(6, 3)) for _ in range(3))
    phi, weights = positive if kind is None else draw(kind, 3), size * np.arange(6.0)
    # The last key outweighs all others by more than the range of float64; rounding of its weight cancels in the ratio.
    allowed = of_positive(v, v, units(16, 1))
    assert np.all(np.abs(decode(phi, q, k, v, key_log_weights=weights) - v) <= allowed)
    found = stream(phi, k[::-1], v[::-1], (2, 4), key_log_weights=weights[::-1]).attend(q)
    assert np.all(np.abs(found - v[-1]) <= allowed)


def test_leading_axes_are_those_of_the_first_update_and_of_the_draw(asarray, rng):
    q, k, v = rng.normal(size=(2, 1, 5, 3)) / 4, rng.normal(size=(3, 6, 3)) / 4, rng.normal(size=(6, 2))
    extra = {"key_mask": rng.random((3, 6)) < 0.7, "key_log_weights": rng.normal(size=(1, 6))}
    phi = st.RandomMaclaurin("exp", 16).draw(3, rng=0, shape=(3,))
    found = stream(phi, k, v, (2,), asarray, **extra).attend(asarray(q))
    expected = feature_attention(q, k, v, phi, **extra)
    assert tuple(found.shape) == (2, 3, 5, 2)
    g = units(16, 6, True, 5) + 4 * feature_units(phi, k)
    sides = (phi(q), phi(k), sizes(phi, q), sizes(phi, k))
    assert np.all(np.abs(to_host(found) - expected) <= allowance(g, expected, *sides, v, **extra))


def test_later_updates_may_have_fewer_leading_axes_not_more(rng):
    k, v = rng.normal(size=(4, 3)), rng.normal(size=(2, 4, 2))
    state = AttentionState(positive).update(k, v).update(k, v[0])
    twice = AttentionState(positive).update(k, v).update(np.stack([k, k]), np.stack([v[0], v[0]]))
    assert np.array_equal(state.attend(k), twice.attend(k))
    for more in (np.zeros((3, 4, 3)), np.zeros((5, 2, 4, 3))):
        with pytest.raises(ValueError, match=r"leading axes"):
            state.update(more, v[0])
    with pytest.raises(ValueError, match=r"leading axes"):
        state.update(k, v[0], key_mask=np.ones((3, 4), bool))
    assert state.tokens == 8
    state.attend(k)
    with pytest.raises(ValueError, match=r"^q: expected rows of 3"):  # after others that were in order
        state.attend(k[:, :2])


def test_leading_axes_of_draws_count(rng):
    x = rng.normal(size=(4, 3)) / 4
    one, two = (st.RandomMaclaurin("exp", 8, degrees=(2, 4, 2)).draw(3, rng=0, shape=shape) for shape in ((), (2,)))
    for phi in (two, (two, one), (one, two)):
        assert AttentionState(phi).update(x, x).attend(x).shape == (2, 4, 3)
        assert AttentionState(phi).update(x[:0], x[:0]).attend(x).shape == (2, 4, 3)


def test_queries_of_a_draw_go_their_own_way_and_constants_are_merged(rng):
    x, v = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    phi = st.OptimizedMaclaurin("exp", 10).fit(x / 4, x / 4).draw(3)
    far = 8 * x[:4]
    assert not np.array_equal(phi.queries(far), phi(far))  # clipped
    state = stream(phi, x / 4, v, (7,))
    expected = feature_attention(far, x / 4, v, phi)
    f_q, f_k = phi.queries(far), phi(x / 4)
    # Monomials of degree <= N lose N + 2 roundings, clipping d + 4 more of each factor; every feature keeps its size.
    g = units(10, 30) + 4 * 10 * (3 + 6)
    assert np.all(np.abs(state.attend(far) - expected) <= allowance(g, expected, f_q, f_k, abs(f_q), abs(f_k), v))
    maclaurin = st.RandomMaclaurin("exp", 16).draw(3, rng=0)
    state = stream(maclaurin, x / 4, v, ())
    assert state._memory.sums.matrix.shape[-2] == maclaurin.merged(x).shape[-1] < 16


def test_queries_and_keys_may_have_maps_of_their_own(rng):
    q, k, v = (rng.normal(size=(5, 3)) for _ in range(3))
    found = stream((lambda x: 2 * positive(x), positive), k, v, (2,)).attend(q)
    assert np.array_equal(found, stream(positive, k, v, (2,)).attend(q))  # a factor of 2 cancels, bit for bit
    one, two = (st.RandomMaclaurin("exp", 16).draw(3, rng=seed) for seed in (0, 1))
    q, k = q / 4, k / 4
    expected = feature_attention(q, k, v, (one, two))
    g = units(16, 5) + 4 * max(feature_units(one, k), feature_units(two, k))
    allowed = allowance(g, expected, one(q), two(k), sizes(one, q), sizes(two, k), v)
    assert np.all(np.abs(stream((one, two), k, v, (2,)).attend(q) - expected) <= allowed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_positive_features_far_apart_do_not_underflow(asarray, rng, dtype):
    q, k, v = (rng.normal(size=(9, 3)).astype(dtype) for _ in range(3))
    q, k = q + 300, k - 300
    phi = draw("positive", 3, 32)
    assert np.all(phi.scaled(q)[0] @ phi.scaled(k)[0].T == 0)  # of features scaled row by row nothing is left
    found = decode(phi, q, k, v, asarray)
    last = stream(phi, k, v, (2, 3), asarray).attend(asarray(q))
    if dtype == "float64":
        logs = np.max(np.abs(phi.log(np.concatenate([q, k]))))
        g = units(32, 9, True, logs) + 4 * feature_units(phi, np.concatenate([q, k]))
        expected = feature_attention(q, k, v, phi, causal=True)
        assert np.all(np.abs(found - expected) <= of_positive(expected, v, g))
        expected = feature_attention(q, k, v, phi)
        assert np.all(np.abs(to_host(last) - expected) <= of_positive(expected, v, g))
    # Logarithms of 10^5 say nothing in float32, but a mean of values stays one: rounded weights, 32 + 9 terms.
    slack = of_positive(found, v, units(32, 9))
    assert np.all(found <= np.maximum.accumulate(v) + slack)
    assert np.all(found >= np.minimum.accumulate(v) - slack)


def test_rows_that_see_no_key_are_zeros(asarray, rng):
    k, v = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 2))
    for phi in (positive, draw("positive", 3), draw("fourier", 3), draw("maclaurin", 3)):
        state = AttentionState(phi).update(asarray(k[:, :0]), asarray(v[:, :0]))
        assert state.tokens == 0
        assert np.array_equal(to_host(state.attend(asarray(k[0]))), np.zeros((2, 4, 2)))
        mask = np.array([[False] * 4, [True] * 4])
        out = to_host(state.update(asarray(k), asarray(v), key_mask=asarray(mask)).attend(asarray(k)))
        assert np.all(out[0] == 0)
        assert np.all(out[1] != 0)
        out = to_host(state.update(asarray(k), asarray(v)).attend(asarray(k)))  # and one that is hidden no longer
        assert np.all(out != 0)
        assert state.tokens == 8


def test_no_query_gives_no_row(rng):
    state = AttentionState(positive).update(rng.normal(size=(4, 3)), rng.normal(size=(4, 2)))
    assert state.attend(np.ones((5, 0, 3))).shape == (5, 0, 2)


def test_a_masked_key_is_never_looked_at(asarray, rng):
    q, k, v = (rng.normal(size=(5, 3)) for _ in range(3))
    mask = np.array([True, False, True, True, False])
    for phi in (positive, draw("positive", 3), draw("maclaurin", 3, kernel="inv")):
        scale = 0.1 if phi is not positive else 1.0
        states = [
            AttentionState(phi).update(
                *(asarray(np.where(mask[:, None], x, bad)) for x in (scale * k, v)), key_mask=asarray(mask)
            )
            for bad in (0.0, np.nan, np.inf, 1e300)
        ]
        found = [to_host(state.attend(asarray(scale * q))) for state in states]
        assert all(np.array_equal(found[0], one) for one in found)


def test_a_masked_key_takes_no_blame():
    k, v, mask = np.array([[np.nan], [1.0]]), np.array([[1.0], [np.nan]]), np.array([False, True])
    with pytest.raises(ValueError, match=r"^v: expected finite entries, found nan at index \(1, 0\)"):
        AttentionState(positive).update(k, v, key_mask=mask)


def test_weights_of_exactly_zero_are_an_arithmetic_error():
    state = (
        AttentionState(lambda x: x).update(np.ones((1, 1)), np.ones((1, 1))).update(-np.ones((1, 1)), np.ones((1, 1)))
    )
    with pytest.raises(ArithmeticError, match="2 rows sum to exactly 0"):
        state.attend(np.ones((2, 1)))


@pytest.mark.parametrize("kind", [None, "maclaurin", "positive", "fourier"])
@pytest.mark.parametrize(("name", "bad"), [("k", np.nan), ("k", np.inf), ("v", np.nan), ("v", np.inf)])
@pytest.mark.parametrize("row", [0, 2 * TOKENS + 5])
def test_a_refused_update_changes_nothing(rng, kind, name, bad, row):
    phi = positive if kind is None else draw(kind, 3)
    k, v = rng.normal(size=(2 * TOKENS + 9, 3)) / 4, rng.normal(size=(2 * TOKENS + 9, 2))
    state = AttentionState(phi).update(k[:3], v[:3])
    before = state.attend(k[:5])
    spoilt = {"k": k.copy(), "v": v.copy()}
    spoilt[name][row, 1] = bad
    with pytest.raises(ValueError, match=f"^{name}: "):
        state.update(**spoilt)
    assert state.tokens == 3
    assert np.array_equal(state.attend(k[:5]), before)
    assert np.all(np.isfinite(state.update(k, v).attend(k[:5])))


def test_a_refused_first_update_leaves_no_trace(rng):
    state = AttentionState(positive)
    with pytest.raises(ValueError, match=r"^v: "):
        state.update(np.ones((1, 3)), np.full((1, 2), np.nan))
    assert state.tokens == 0
    assert state.update(np.ones((1, 5)), np.ones((1, 4))).attend(np.ones((1, 5))).shape == (1, 4)  # of other widths


def test_a_killed_update_changes_nothing(rng):
    calls = iter([1] * 3)

    def dies(x):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return positive(x)

    k, v = rng.normal(size=(4 * TOKENS, 3)), rng.normal(size=(4 * TOKENS, 2))
    state = AttentionState(dies).update(k[:4], v[:4])
    with pytest.raises(KeyboardInterrupt):
        state.update(k, v)
    calls = iter([1])
    assert np.array_equal(state.attend(k[:3]), AttentionState(positive).update(k[:4], v[:4]).attend(k[:3]))


@pytest.mark.parametrize("kind", [None, "maclaurin", "positive", "fourier"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_query_that_is_not_finite_is_named(rng, kind, bad):
    state = AttentionState(positive if kind is None else draw(kind, 3)).update(np.ones((2, 3)) / 4, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^q: expected finite entries"):
        state.attend(np.array([[0.0, 0, 0], [0, bad, 0]]))


def test_overflows_and_maps_that_make_nan_are_named():
    state = AttentionState(positive).update(np.ones((2, 3), "f4"), np.ones((2, 2), "f4"))
    big = np.full((1, 3), 1e19, "f4")
    with pytest.raises(ValueError, match=r"^k, v: finite, but the sums overflow float32"):
        state.update(big, np.full((1, 2), 1e19, "f4"))
    with pytest.raises(ValueError, match=r"^q: finite, but the sums overflow float32"):
        state.attend(10 * big)
    state = AttentionState(np.abs).update(np.full((1, 1), 1e200), np.full((1, 1), 1e-200))
    with pytest.raises(ValueError, match=r"^q: finite, but the sums overflow float64"):
        state.attend(np.full((1, 1), 1e200))  # the denominator does, and alone
    state = AttentionState((np.abs, np.sqrt)).update(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^phi_k: expected finite features of finite tokens, found NaN"):
        state.update(-np.ones((2, 3)), np.ones((2, 2)))
    state = AttentionState((np.sqrt, np.abs)).update(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^phi_q: expected finite features of finite tokens, found NaN"):
        state.attend(-np.ones((2, 3)))


@pytest.mark.parametrize("kind", ["positive", "fourier"])
def test_log_weights_that_overflow_are_no_weights_of_zero(kind):
    phi, sign = draw(kind, 2), 1 if kind == "positive" else -1
    x = np.full((1, 2), 1e153)  # log phi is about -10^306, or 10^306
    with pytest.raises(ValueError, match=r"^k, v: finite, but the sums overflow float64"):
        AttentionState(phi).update(x, np.ones((1, 1)), key_log_weights=np.array([-sign * np.finfo(float).max]))


def test_a_radius_is_asked_of_the_pairs_that_meet(asarray):
    phi = draw("maclaurin", 2, kernel="inv")
    short, long, v = (asarray(x) for x in (np.full((1, 2), 0.1), np.full((1, 2), 0.8), np.ones((1, 1))))
    hidden = {"key_mask": asarray(np.array([False]))}
    state = AttentionState(phi).update(short, v).update(long, v, **hidden)
    state.attend(long)
    state.update(long, v)
    state.attend(short)
    with pytest.raises(ValueError, match=r"\|\|q\|\| \|\|k\|\| <= 1"):
        state.update(short, v).attend(long)


K, V = np.ones((4, 3)), np.ones((4, 2))


@pytest.mark.parametrize(
    ("error", "match", "k", "v", "extra"),
    [
        (ValueError, "^k: expected rows of 3 entries", np.ones((4, 5)), V, {}),
        (ValueError, "^v: expected rows of 2 entries", K, np.ones((4, 1)), {}),
        (ValueError, "^v: expected 4 rows as k has", K, np.ones((3, 2)), {}),
        (ValueError, "^k: expected shape", np.ones(3), V, {}),
        (TypeError, "^k: expected dtype float64 as the stream has", K.astype("f4"), V.astype("f4"), {}),
        (TypeError, "^v: expected dtype float64 as k has", K, V.astype("f4"), {}),
        (TypeError, "^k: expected an array, found list", [[1.0]], V, {}),
        (TypeError, "^k: expected dtype float32 or float64", np.ones((4, 3), int), V, {}),
        (TypeError, "^key_mask: expected booleans", K, V, {"key_mask": np.ones(4)}),
        (ValueError, "^key_mask: expected", K, V, {"key_mask": np.ones(3, bool)}),
        (ValueError, "^key_log_weights: expected", K, V, {"key_log_weights": np.ones(3)}),
        (ValueError, "^key_log_weights: expected finite", K, V, {"key_log_weights": np.full(4, np.nan)}),
    ],
)
def test_what_does_not_belong_to_the_stream_is_named(error, match, k, v, extra):
    state = AttentionState(positive).update(K, V)
    for _ in range(2):  # not let in the second time either
        with pytest.raises(error, match=match):
            state.update(k, v, **extra)
    assert state.tokens == 4


def test_what_does_not_belong_is_named_by_attend_too():
    import array_api_strict

    state = AttentionState(positive)
    with pytest.raises(ValueError, match=r"^q: expected an update before"):
        state.attend(K)
    with pytest.raises(ValueError, match=r"^path: expected an update before"):
        state.save("nowhere.npz")
    state.update(K, V)
    for error, match, q in (
        (ValueError, "^q: expected rows of 3 entries", np.ones((4, 5))),
        (ValueError, "^q: expected shape", np.ones(3)),
        (TypeError, "^q: expected dtype float64 as the stream has", K.astype("f4")),
        (TypeError, "^q: expected an array of the same library as the stream", array_api_strict.asarray(K)),
        (ValueError, "leading axes do not broadcast", np.ones((3, 4, 3))),
    ):
        with pytest.raises(error, match=match):
            AttentionState(positive).update(np.stack([K, K]), V).attend(q)
    with pytest.raises(TypeError, match=r"^k: expected an array of the same library as the stream"):
        state.update(array_api_strict.asarray(K), array_api_strict.asarray(V))


def test_what_is_no_map_or_of_another_dimension_is_named():
    with pytest.raises(TypeError, match=r"^phi: expected a draw or a callable"):
        AttentionState(3)
    with pytest.raises(TypeError, match=r"^phi: expected a draw; call \.draw"):
        AttentionState(st.RandomMaclaurin("exp", 8))
    with pytest.raises(ValueError, match=r"^k: expected rows of 5 entries as phi takes"):
        AttentionState(draw("maclaurin", 5)).update(K, V)
    with pytest.raises(ValueError, match=r"^k: expected rows of 5 entries as phi_q takes"):
        AttentionState((draw("maclaurin", 5), draw("maclaurin", 3))).update(K, V)
    with pytest.raises(ValueError, match=r"^phi_q: expected 16 features as phi_k has"):
        AttentionState((draw("maclaurin", 3, 8), draw("maclaurin", 3))).update(K / 4, V).attend(K / 4)
    with pytest.raises(ValueError, match=r"^phi: expected features"):
        AttentionState(lambda x: x[..., 0]).update(K, V)


@pytest.mark.parametrize("kind", [None, "maclaurin", "positive", "fourier", "srht", "taylor"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stream_survives_a_kill_bit_for_bit(asarray, rng, tmp_path, kind, weighted):
    k, v = rng.normal(size=(2, 9, 3)) / 4, rng.normal(size=(2, 9, 2))
    extra = {"key_log_weights": asarray(rng.normal(size=4))} if weighted else {}
    phi = positive if kind is None else draw(kind, 3)
    state = AttentionState(phi).update(asarray(k[:, :4]), asarray(v[:, :4]), **extra)
    state.save(tmp_path / "state.npz")
    if kind is not None:
        phi.save(tmp_path / "phi.npz")
        phi = st.load_draw(tmp_path / "phi.npz")
    again = AttentionState.load(tmp_path / "state.npz", phi)
    assert again.tokens == 4
    found, expected = (
        to_host(one.attend(asarray(k))) for one in (AttentionState.load(tmp_path / "state.npz", phi), state)
    )
    assert np.array_equal(found, expected)
    found, expected = (to_host(one.update(asarray(k), asarray(v)).attend(asarray(k))) for one in (again, state))
    assert np.array_equal(found, expected)
    assert again.tokens == state.tokens == 13


def test_a_stream_without_a_key_and_a_radius_survive_too(tmp_path):
    AttentionState(positive).update(np.ones((3, 0, 2), "f4"), np.ones((0, 5), "f4")).save(tmp_path / "state.npz")
    again = AttentionState.load(tmp_path / "state.npz", positive)
    assert np.array_equal(again.attend(np.ones((1, 2), "f4")), np.zeros((3, 1, 5)))
    with pytest.raises(ValueError, match=r"^v: expected rows of 5"):
        again.update(np.ones((1, 2), "f4"), np.ones((1, 4), "f4"))
    phi, x = draw("fourier", 2), np.ones((1, 2))
    AttentionState(phi).update(x[:0], x[:0]).save(tmp_path / "state.npz")
    again = AttentionState.load(tmp_path / "state.npz", phi)
    assert np.array_equal(again.update(x, x).attend(x), AttentionState(phi).update(x, x).attend(x))
    phi = draw("maclaurin", 2, kernel="inv")
    AttentionState(phi).update(np.full((1, 2), 0.8), np.ones((1, 1))).save(tmp_path / "state.npz")
    with pytest.raises(ValueError, match=r"\|\|q\|\| \|\|k\|\| <= 1"):
        AttentionState.load(tmp_path / "state.npz", phi).attend(np.full((1, 2), 0.8))


def test_a_stream_keeps_its_dtype(tmp_path):
    AttentionState(positive).update(K.astype("f4"), V.astype("f4")).save(tmp_path / "state.npz")
    for use in (lambda one: one.attend(K), lambda one: one.update(K, V)):
        with pytest.raises(TypeError, match="expected dtype float32 as the stream has, found float64"):
            use(AttentionState.load(tmp_path / "state.npz", positive))


def test_other_maps_are_refused(tmp_path):
    path = tmp_path / "state.npz"
    AttentionState(draw("maclaurin", 3)).update(K / 4, V).save(path)
    other = st.RandomMaclaurin("exp", 16).draw(3, rng=1)
    for phi in (other, positive, draw("positive", 3), (draw("maclaurin", 3), draw("maclaurin", 3))):
        with pytest.raises(ValueError, match=r"^phi: expected the maps that .*state.npz was saved with"):
            AttentionState.load(path, phi)
    AttentionState(lambda x: x).update(K, V).save(path)
    with pytest.raises(ValueError, match=r"^phi: expected 3 features as other tokens have, found 6"):
        AttentionState.load(path, lambda x: np.concatenate([x, x], -1)).attend(K)


def test_every_draw_has_a_fingerprint_of_its_own():
    draws = [draw(kind, 3) for kind in ("maclaurin", "srht", "positive", "fourier", "taylor")]
    draws += [st.RandomMaclaurin("exp", 16).draw(3, rng=seed) for seed in (1, 2)] + [
        st.PositiveFeatures(16).draw(3, rng=1)
    ]
    for options in ({}, {"weights": "srht"}):  # nothing but the signs differs
        draws += [st.RandomMaclaurin("exp", 16, degrees=(4, 4, 8), **options).draw(3, rng=seed) for seed in (1, 2)]
    prints = [fingerprint(phi) for phi in draws] + [
        fingerprint((draws[0], draws[1])),
        fingerprint((draws[1], draws[0])),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint(draw("srht", 3)) == fingerprint(draws[1])
    assert all(prints)


def test_damaged_archives_are_named(tmp_path):
    path = tmp_path / "state.npz"
    AttentionState(positive).update(K, V, key_log_weights=np.zeros(4)).save(path)
    good = dict(np.load(path))
    for name, bad in (
        ("format", np.array("stream 9")),
        ("maps", np.array(3)),
        ("sizes", np.array([4, 3])),
        ("sizes", np.array([-4, 3, 2])),
        ("sizes", np.array([4.0, 3.0, 2.0])),
        ("longest", np.array(np.nan)),
        ("matrix", np.full((3, 3), np.nan)),
        ("matrix", np.ones((3, 3), int)),
        ("matrix", np.ones((3, 4))),
        ("matrix", np.ones(3)),
        ("top", np.ones(2)),
        ("top", np.array([np.inf])),
        ("top", np.array([np.nan])),
        ("top", np.ones(1, "f4")),
    ):
        np.savez(path, **{**good, name: bad})
        with pytest.raises(ValueError, match=f"^{path}: .*{name}"):
            AttentionState.load(path, positive)
    np.savez(path, **{name: x for name, x in good.items() if name != "top"})
    with pytest.raises(ValueError, match=r"missing top"):
        AttentionState.load(path, positive)


def test_sums_of_one_kind_are_no_sums_of_another(tmp_path):
    path = tmp_path / "state.npz"
    phi = draw("positive", 3)
    AttentionState(phi).update(K, V).save(path)
    stored = dict(np.load(path))
    np.savez(path, **{**stored, "top": np.empty(0)})
    with pytest.raises(ValueError, match="do not belong together"):
        AttentionState.load(path, phi)


def test_keys_in_a_file_are_read_in_chunks(rng, tmp_path):
    m, chunk = 100_000, 30_000
    keys, values = (mapped(tmp_path, name, rng.integers(-3, 4, size=(m, 2)).astype("f4")) for name in ("k", "v"))
    q = rng.integers(-3, 4, size=(7, 2)).astype("f4")
    state = AttentionState(positive)
    for start in range(0, m, chunk):
        state.update(keys[start : start + chunk], values[start : start + chunk])
    # Sums of integers up to 10^5 (3 * 10) are exact in float32: not a bit may differ, in whatever order they are added.
    assert m * 30 < 2**24
    expected = feature_attention(q, np.array(keys), np.array(values), positive)
    assert np.array_equal(state.attend(q), expected)
    assert np.array_equal(state.attend(mapped(tmp_path, "q", q)), expected)
    assert np.array_equal(AttentionState(positive).update(keys, values).attend(q), expected)
    assert type(state._memory.sums.matrix) is np.ndarray


@pytest.mark.parametrize("causal", [False, True])
def test_the_whole_form_takes_arrays_in_files(rng, tmp_path, causal):
    arrays = [rng.normal(size=(2, 600, 4)).astype("f4") / 4 for _ in range(3)]
    phi = draw("maclaurin", 4)
    expected = feature_attention(*arrays, phi, causal=causal)
    files = [mapped(tmp_path, str(i), x) for i, x in enumerate(arrays)]
    for mixed in (files, [arrays[0], *files[1:]], [*files[:2], arrays[2]]):
        found = feature_attention(*mixed, phi, causal=causal)
        assert type(found) is np.ndarray
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["maclaurin", "positive", "fourier"])
def test_the_number_of_cores_does_not_change_a_bit(rng, kind):
    k, v = rng.normal(size=(20 * TOKENS + 7, 3)) / 4, rng.normal(size=(20 * TOKENS + 7, 2))
    phi = draw(kind, 3)
    found = AttentionState(phi).update(k, v).attend(k)
    with one_core():
        assert np.array_equal(AttentionState(phi).update(k, v).attend(k), found)


def test_the_state_does_not_grow(rng):
    state = AttentionState(draw("positive", 3))
    sizes = set()
    for _ in range(50):
        state.update(rng.normal(size=(3, 3)), rng.normal(size=(3, 2)))
        sums = state._memory.sums
        assert isinstance(sums, LogState)
        sizes.add((sums.matrix.shape, sums.top.shape, len(vars(sums))))
    assert sizes == {((16, 3), (16,), 2)}


def test_what_was_taken_in_may_be_overwritten(rng):
    k, v = np.ones((1, 3)), np.ones((1, 2))
    state = AttentionState(lambda x: x).update(k, v)
    k[...], v[...] = 7, 9
    assert np.array_equal(state.attend(np.ones((1, 3))), np.ones((1, 2)))


def test_pieces_of_one_update_are_summed_once_each(rng):
    """Of integers, which sums do not round, so that nothing else can hide in a tolerance."""
    q, k, v = (rng.integers(-3, 4, size=(m, 3)).astype(np.float64) for m in (4, 2 * TOKENS + 100, 2 * TOKENS + 100))
    assert np.array_equal(AttentionState(positive).update(k, v).attend(q), feature_attention(q, k, v, positive))


def test_after_a_refused_first_update_maps_of_two_widths_are_still_refused_by_name():
    phi = lambda x: x[..., :1] + np.zeros(3), lambda x: x[..., :1] + np.zeros(2)
    state, k = AttentionState(phi), np.ones((1, 4))
    with pytest.raises(ValueError, match="v: expected finite entries"):
        state.update(k, np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match=r"expected 2 features as phi_k has, found 3"):
        state.update(k, np.ones((1, 2))).attend(k)
