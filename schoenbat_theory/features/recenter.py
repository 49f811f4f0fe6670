r"""Recentring and balancing: what softmax attention does not notice, used before its kernel is cut off or sampled.

    exp(<q, k>) = exp(<B (q - c), B^-T (k - m)>)  exp(<c, k>)  exp(<q, m> - <c, m>)

for any vectors c, m and any invertible B. The second factor belongs to the key, a log-weight; the third to the query, and
cancels in attention. So c, m and B are free, and a kernel that is cut off depends on them: m should be the mean of the
keys under the weights that c leaves (then degree <= 1 has a constant denominator), c about the mean query.

    recenter(q, k)    all three, for exp        balance(q, k)    B alone, for every dot-product kernel
    shifts(q, k, w)   c, m and weights alone
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    asarray_like,
    device_of,
    namespace,
)
from schoenbat_theory.features.frame import Frame, balanced_basis
from schoenbat_theory.features.inputs import too_large
from schoenbat_theory.features.sample import evenly_spaced
from schoenbat_theory.features.tokens import Tokens
from schoenbat_theory.features.weights import hide, normalised, open_keys, top_off

__all__ = ["SHARES", "Recentred", "balance", "recenter", "sample_sizes", "shifts", "shifts_of"]

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the mean query; the first of those that are predicted alike
SMALL = 1.0  # logits up to this need no trial


class Recentred(NamedTuple):
    """Queries (..., n, d), keys (..., m, d) and log-weights of keys (..., m), the largest 0, of the same attention."""

    q: Array
    k: Array
    key_log_weights: Array


@np.errstate(all="ignore")  # an overflow is found in the result
def recenter(q: Array, k: Array, *, key_mask: Array | None = None, key_log_weights: Array | None = None) -> Recentred:
    r"""Return queries, keys and log-weights of the same softmax attention, with logits that a series copes with better.

        q' = B (q - c),    k' = B^-T (k - m),    log w' = log w + <c, k> - max

    ``q`` (..., n, d), ``k`` (..., m, d)   used as given; softmax attention of an encoder is q / d**0.25, k / d**0.25
    ``key_mask``         (..., m) booleans, True = the key is used; others are never looked at and become zeros
    ``key_log_weights``  (..., m), -inf masks
    returns              q' (..., n, d), k' (..., m, d), log w' (..., m), same library, device and dtype, with the
                         leading axes of all arguments broadcast: each head has shifts and a basis of its own

    `kernel_attention` with "exp" gives with them, in exact arithmetic, what it gives with q, k and the weights given, for
    all of c, m and B (P36). They are `shifts` and `balanced_basis`: second moments of q' and, under the weights w', of k'
    are the same diagonal, falling from coordinate 0 on. Where no key is used, all is finite and log w' is -inf. Rounding
    moves a logit by at most order d^2 u |q| |k| times the condition of B, at most u^(-1/4), u the unit roundoff.

    It looks at all queries and all keys: not for causal attention, where a row must not depend on later ones. Multiply-adds:
    2 (n + m) d^2 for moments and basis, (n + 3 m) d for shifts, what `shifts` takes to choose, and about 25 d^3
    for the basis. Raises ``TypeError`` or ``ValueError`` for wrong input and where moments overflow.

    Source: not in the sources seen; shifting queries or keys alone is common knowledge.

    >>> rng = np.random.default_rng(0)
    >>> q, k = rng.normal(size=(2, 6, 4)) + 3
    >>> x, y, w = recenter(q, k)
    >>> bool(np.abs(x @ y.T).max() < np.abs(q @ k.T).max() / 4)
    True
    """
    k, log_weights = open_keys(q, k, key_mask, key_log_weights)
    c, m, tilted = shifts(q, k, log_weights)
    x, y = _finite(q - c[..., None, :], k - m[..., None, :])
    frame = Frame(c, m, *balanced_basis(x, y, normalised(tilted)))
    x, y = _finite(frame.queries(q), hide(frame.keys(k), tilted))
    return Recentred(x, y, tilted)


@np.errstate(all="ignore")  # an overflow is found in the result
def balance(
    q: Array, k: Array, *, key_mask: Array | None = None, key_log_weights: Array | None = None
) -> tuple[Array, Array]:
    r"""Return B q and B^-T k: the same inner products in a basis in which queries and keys are alike.

    Second moments of both, of keys under their weights, are the same diagonal, falling from coordinate 0 on; see
    `balanced_basis`. It is exact for every dot-product kernel; lengths change, so that |q| |k| may leave the radius
    of a series that it was within. Arguments and errors as in `recenter`, without the shifts.

    >>> x, y = balance(np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> np.allclose(x.T @ x, y.T @ y), np.allclose(x @ y.T, [[3, 0], [0, 1]])
    (True, True)
    """
    k, log_weights = open_keys(q, k, key_mask, key_log_weights)
    basis, dual = balanced_basis(q, k, normalised(log_weights))
    xp = namespace(q)
    return _finite(q @ xp.matrix_transpose(basis), k @ xp.matrix_transpose(dual))


@np.errstate(all="ignore")  # an overflow is found in the log-weights
def shifts(q: Array, k: Array, log_weights: Array) -> tuple[Array, Array, Array]:
    r"""Return c (..., d), m (..., d) and log-weights (..., m) + <c, k>, the largest 0: all that degree <= 1 needs.

        c = s qbar,    m = sum_j w_j k_j,    w = softmax(log_weights + <c, k>),    qbar the mean query

    ``q`` (..., n, d), ``k`` (..., m, d), ``log_weights`` (..., m)   checked, and zeros in k where a log-weight is -inf

    The share s, one of `SHARES`, is that of the least predicted error of degree <= 1,

        sum_ij ( w_j (1 + <q_i - c, k_j - m>) - p_ij )^2,    p_i = softmax(log_weights + <q_i, k>),

    over min(n, d) queries and min(m, 16 d) keys, evenly spaced, masked keys among them. That is the mean squared error of
    the output, up to a factor, where values are independent of the keys and of each other with one variance; values are not
    looked at. Where no logit among them is beyond 1, nor one of the mean query, s = 1 without a trial: too little is left
    then for another share to matter. A share decides how good an approximation is, never what is exact. n d + 2 m d
    multiply-adds, and at most m d^2 to choose, with 32 more for every pair.

    >>> c, m, w = shifts(np.ones((2, 1)), np.array([[0.0], [2.0]]), np.zeros(2))
    >>> c, m.round(4), w
    (array([1.]), array([1.7616]), array([-2.,  0.]))
    """
    return shifts_of(Tokens(q), Tokens(k), log_weights)


def shifts_of(q: Tokens, k: Tokens, log_weights: Array) -> tuple[Array, Array, Array]:
    """Return `shifts` of tokens that need not be formed."""
    xp, given, n = namespace(q.x), top_off(log_weights), q.x.shape[-2]
    # Divided first, as a sum of finite rows may overflow; as a product ten times faster than as a sum.
    mean = q.total(xp.full((n,), 1 / max(n, 1), dtype=q.x.dtype, device=device_of(q.x)))
    c = _share(q, k, given, mean)[..., None] * mean
    tilt = k.along(c)
    if not all_finite(tilt):
        raise too_large("q, k", q.x)
    log_weights = top_off(given + tilt)
    return c, k.total(normalised(log_weights)), log_weights


def sample_sizes(n: int, m: int, d: int) -> tuple[int, int]:
    """Return on how many queries and keys a share is chosen: at most m d products of d numbers, no more than moments take.

    >>> sample_sizes(16, 4096, 32)
    (16, 512)
    """
    return min(n, d), min(m, 16 * d)


def _share(q: Tokens, k: Tokens, given: Array, mean: Array) -> Array:
    """Return the share (...,) of the mean query with the least predicted error; 1 where there is nothing to tell them by."""
    xp, sizes = namespace(mean), sample_sizes(q.x.shape[-2], *k.x.shape[-2:])
    rows, columns = (
        asarray_like(evenly_spaced(count, some.x.shape[-2]), mean, dtype=xp.int64)
        for count, some in zip(sizes, (q, k), strict=True)
    )
    keys, given = k.take(columns), xp.take(given, columns, axis=-1)
    t = q.take(rows) @ xp.matrix_transpose(keys)
    ones = xp.ones(t.shape[:-2], dtype=t.dtype, device=device_of(t))
    tilt = (keys @ mean[..., None])[..., 0]  # a query beyond those of the sample may sway the mean
    small = xp.all(xp.abs(t) <= SMALL, axis=(-2, -1)) & xp.all(xp.abs(tilt) <= SMALL, axis=-1)  # False for NaN
    if bool(xp.all(small)):
        return ones
    exact = normalised(given[..., None, :] + t)
    errors = []
    for share in SHARES:
        weights = normalised(given + share * tilt)
        left = t - share * tilt[..., None, :]
        left -= left @ weights[..., None] - 1  # now 1 + <q - c, k - m>, m of these keys
        left *= weights[..., None, :]
        left -= exact
        errors.append(xp.sum(xp.vecdot(left, left), axis=-1))
    found = xp.stack(errors, axis=-1)
    best = xp.argmin(found, axis=-1, keepdims=True) == xp.arange(len(SHARES), device=device_of(mean))
    best = xp.sum(xp.where(best, asarray_like(SHARES, mean), xp.zeros_like(found)), axis=-1)
    return xp.where(small, ones, best)


def _finite(x: Array, y: Array) -> tuple[Array, Array]:
    if not all_finite(x, y):
        raise too_large("q, k", x)
    return x, y
