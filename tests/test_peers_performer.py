"""performer-pytorch: an oracle of positive features where it adds no epsilon, and what the epsilon does where it does.

Its softmax_kernel divides features by their largest, over one query or over all keys of a head, and then adds 1e-4 to
each, a choice for stability: no denominator is 0, and what is lost to underflow counts as 1e-4. In float64 here.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version

import numpy as np
import pytest

import schoenbat_theory as st

torch = pytest.importorskip("torch", reason="torch is not installed (extra peers)")
with warnings.catch_warnings():  # it imports distutils, which warns of its end, and is gone from Python 3.12 on
    warnings.filterwarnings("ignore", "(The )?distutils", DeprecationWarning)
    reason = "performer-pytorch or distutils, which it imports, is not installed (extra peers)"
    theirs = pytest.importorskip("performer_pytorch.performer_pytorch", reason=reason)

U = 2.0**-53
EXP = 20 * U  # an exponential, the less exact of the two in use (from memory)
HEADS, D, E, WIDTH = 3, 8, 5, 64


def mended(what):
    return f"performer-pytorch {version('performer-pytorch')} does not {what} any more: say so wherever it is said to"


def tokens(rng, n, m):
    """Queries (HEADS, n, D) and keys (HEADS, m, D), unscaled, of length about D^(1/2), and values (HEADS, m, E)."""
    return tuple(rng.normal(size=(HEADS, *shape)) for shape in ((n, D), (m, D), (m, E)))


def scaled(*arrays):
    return tuple(x * D**-0.25 for x in arrays)


def their_features(x, phi, *, query, **eps):
    """Features (HEADS, n, D) of unscaled tokens, with the vectors of our draw."""
    found = theirs.softmax_kernel(
        torch.from_numpy(x)[None], projection_matrix=torch.from_numpy(phi.weights), is_query=query, **eps
    )
    return found[0].numpy()


def their_attention(q, k, v, phi, *, causal=False, **eps):
    features = their_features(q, phi, query=True, **eps), their_features(k, phi, query=False, **eps)
    attend = theirs.linear_attention
    if causal:  # what is used without the compiled package; its own epsilon is left out
        attend = lambda q, k, v: theirs.causal_linear_attention_noncuda(q, k, v, eps=0.0)
    return attend(*(torch.from_numpy(x)[None] for x in (*features, v)))[0].numpy()


def feature_error(phi, *arrays):
    """How far features of both may be apart, as a multiple of them; first order, scaled tokens.

    The exponent <w, x> - |x|^2 / 2 - top is of size 2 |w| |x| + |x|^2 at most. Inner products of d factors err by
    (d + 1) u of their size, scales of both factors by 2 u, and each of four sums by u. An exponential adds EXP and a
    constant factor 3 u; and all this twice.
    """
    longest = max(float(np.linalg.norm(x, axis=-1).max()) for x in arrays)
    size = 2 * float(np.linalg.norm(phi.weights, axis=-1).max()) * longest + longest**2
    return 2 * ((D + 7) * U * size + EXP + 3 * U)


def average_error(phi, q, k):
    """How far averages by positive weights may be apart, as a multiple of the average of |v|; three sums, a ratio."""
    weight = 2 * feature_error(phi, q, k) + 2 * (phi.n_features + 2 * k.shape[-2]) * U
    return 2 * weight + 2 * U


def test_features_without_epsilon_are_positive_features_up_to_a_factor_per_query_and_per_head(rng):
    q, k, _ = tokens(rng, 20, 30)
    phi = st.PositiveFeatures(WIDTH).draw(D, rng)
    allowed = feature_error(phi, *scaled(q, k))
    found = their_features(q, phi, query=True, eps=0.0)
    expected, _ = phi.scaled(scaled(q)[0])  # the largest of each row is 1
    assert np.all(np.abs(found / found.max(axis=-1, keepdims=True) - expected) <= 2 * allowed * expected)
    factor = np.log(their_features(k, phi, query=False, eps=0.0)) - phi.log(scaled(k)[0])
    # A logarithm adds EXP of its size; its argument may be small.
    size = np.abs(phi.log(scaled(k)[0])).max() + np.abs(factor).max()
    assert np.all(np.ptp(factor, axis=(-1, -2)) <= 2 * (allowed + EXP * size))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_without_epsilon_is_feature_attention(rng, causal):
    q, k, v = tokens(rng, 300, 300)
    phi = st.PositiveFeatures(WIDTH).draw(D, rng)
    expected, size = (their_attention(q, k, x, phi, causal=causal, eps=0.0) for x in (v, np.abs(v)))
    found = st.feature_attention(*scaled(q, k), v, phi, causal=causal)
    assert np.all(np.abs(found - expected) <= average_error(phi, *scaled(q, k)) * size)


def test_their_projection_matrix_makes_a_draw_of_ours(rng):
    torch.manual_seed(0)
    weights = theirs.gaussian_orthogonal_random_matrix(2 * D, D).double().numpy()
    phi = st.PositiveDraw(weights, tilt=0.0, hyperbolic=False, name="performer-pytorch")
    q, k, v = tokens(rng, 20, 30)
    expected, size = (their_attention(q, k, x, phi, eps=0.0) for x in (v, np.abs(v)))
    found = st.feature_attention(*scaled(q, k), v, phi)
    assert np.all(np.abs(found - expected) <= average_error(phi, *scaled(q, k)) * size)
    # Blocks of D rows are orthogonal, in the float32 in which they are drawn: the factors of QR err by D^2 u or less.
    directions = weights / np.linalg.norm(weights, axis=-1, keepdims=True)
    assert np.all(np.abs(directions[:D] @ directions[:D].T - np.eye(D)) <= D**2 * 2.0**-23)


def test_the_epsilon_makes_the_error_level_off_as_features_are_added(rng):
    """Queries and keys far from 0 on opposite sides: |q + k| is small, and so is the variance of positive features."""
    centre = 3 * st.unit_norm(np.ones(D)[None])
    q, k = (D**0.25 * (sign * centre + 0.25 * rng.normal(size=(32, D))) for sign in (1, -1))
    v = rng.normal(size=(32, E))
    exact = st.softmax_attention(q, k, v)

    def squared_error(eps):
        def error(rng, n_features):
            phi = st.PositiveFeatures(n_features).draw(D, rng)
            found = their_attention(*(x[None] for x in (q, k, v)), phi, eps=eps)[0]
            return float(np.sum((found - exact) ** 2) / np.sum(exact**2))

        return error

    def verdict(eps):
        return st.check_rate(squared_error(eps), [64, 256, 1024], 1.0, band=0.5, rng=0, max_draws=128).verdict

    assert verdict(0.0) == "consistent"
    assert verdict(1e-4) == "refuted", mended("level off")


def test_the_epsilon_lets_earlier_rows_of_causal_attention_depend_on_a_later_key(rng):
    q, k, v = tokens(rng, 20, 20)
    phi = st.PositiveFeatures(WIDTH).draw(D, rng)
    longer = k.copy()
    longer[:, -1] *= 10

    def before_the_last(attend):
        return tuple(attend(*scaled(q, one), v)[:, :-1] for one in (k, longer))

    ours = before_the_last(lambda q, k, v: st.feature_attention(q, k, v, phi, causal=True))
    assert np.array_equal(*ours)

    def moved(eps):
        one, other = (their_attention(q, x, v, phi, causal=True, eps=eps)[:, :-1] for x in (k, longer))
        size = their_attention(q, k, np.abs(v), phi, causal=True, eps=eps)[:, :-1]
        return np.max(np.abs(one - other) / size)

    rounding = average_error(phi, *scaled(q, longer))
    assert moved(0.0) <= rounding
    assert moved(1e-4) > rounding, mended("look at later keys")
