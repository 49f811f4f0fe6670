r"""Softmax attention to first order around the mean query: one weighted covariance, in time linear in n and m.

    out_i = v_w + (q_i - c)^T C,    C = sum_j w_j (k_j - m) (v_j - v_w)^T,    m = sum_j w_j k_j,    v_w = sum_j w_j v_j

with w the softmax of <c, k_j> and the log-weights of the keys: the expansion of degree <= 1 after `recenter`, whose basis
leaves degree 1 alone. Its denominator is 1, so that no row is divided by something near 0.
"""

from __future__ import annotations

import math

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
    require_real,
)
from schoenbat_theory.attention.inputs import blocks, check_shapes, explain_not_finite, groups, some_heads, take_rows
from schoenbat_theory.attention.running import TOKENS
from schoenbat_theory.features.recenter import shifts_of
from schoenbat_theory.features.tokens import Tokens, pre_scaled_tokens
from schoenbat_theory.features.weights import hide, key_weights, normalised
from schoenbat_theory.scaling import pre_scale_named
from schoenbat_theory.threads import each

__all__ = ["first_order_attention"]

CACHED = 2**18  # entries of a piece that is passed over several times: a megabyte in float32


def first_order_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    pre_scaled: float | None = None,
) -> Array:
    r"""Approximate softmax attention by its tangent at a shift c of the queries, as `recenter` chooses it.

        out_i = v_w + sum_j w_j <q_i - c, k_j - m> (v_j - v_w),    w_j = exp(<c, k_j> + key_log_weights_j) / their sum,
        m = sum_j w_j k_j,    v_w = sum_j w_j v_j,    c = s (mean of q),    s in {0, 1/4, 1/2, 3/4, 1}

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given: softmax attention of an encoder divides
                     queries and keys by d**0.25 first
    ``key_mask``     (..., m) booleans, True = the key is used; masked keys and values are never looked at
    ``key_log_weights``  (..., m) finite or -inf
    ``pre_scaled``   a factor > 0: attention of `pre_scale` of q and of k, each times it, without forming them; 1 as SchoenbAt
                     is printed, d**-0.25 as its released code. ``None``: q and k as given
    returns          (..., n, e), same library, device and dtype; zeros where no key is used

    It is exact where all queries are equal, and, however sharp, where (k, v) is jointly Gaussian under w. Otherwise the
    error is of second order in the logits <q_i - c, k_j - m>. A row is no average of values: it may leave their
    hull. 2 d + e (d + 4) multiply-adds per key, d (e + 1) per query, and what `recenter` takes to choose s. There is
    no causal form: c is a mean of all queries and w, m, v_w are sums over all keys, so that each row knows of later
    tokens.

    Rounding, u the unit roundoff: sums over keys that reach the output are made in blocks of b = 512 and of values less a
    mean, so that v_w errs by at most about (b + m / b) u sum_j w_j |v_j - v_w| + u |v_w| and an entry of C by
    (b + m / b) u sum_j w_j |k_j| |v_j - v_w|; the product with q_i adds (d + 1) u (|q_i| + |c|) |C|. An error in c moves
    the point of expansion, not the result at a given one. With ``pre_scaled``, where every token has at most half of its
    square in the mean of its entries, a length between 2^-16 and 2^16, and the factor too, sums over tokens are scaled
    instead of tokens: lengths err by 5/2 (d + 2) u and inner products are with tokens up to sqrt(2) times as long, so that
    the bounds hold with 3 (d + 3) for every token more. Elsewhere scaled tokens are formed, for all heads alike.

    Raises ``TypeError`` or ``ValueError`` for wrong input, NaN and overflow included. Not in the sources seen.

    >>> import numpy as np
    >>> q, k = np.array([[0.1], [-0.1]]), np.array([[1.0], [-1.0]])
    >>> first_order_attention(q, k, k).round(4).tolist()  # exact: tanh(0.1) = 0.0997
    [[0.1], [-0.1]]
    """
    lead = check_shapes(q, k, v)
    n, m = q.shape[-2], k.shape[-2]
    log_weights = key_weights(k, m, lead, key_mask, key_log_weights)
    k, v = hide(k, log_weights), hide(v, log_weights)
    if pre_scaled is not None:
        pre_scaled = require_real("pre_scaled", pre_scaled, "a finite number > 0", lambda it: 0 < it < math.inf)
    xp = namespace(q)
    if m == 0:
        return xp.zeros((*lead, n, v.shape[-1]), dtype=q.dtype, device=device_of(q))
    if log_weights is None:
        log_weights = xp.zeros(m, dtype=k.dtype, device=device_of(k))
    lead = broadcast_shapes(arrays=lead, weights=tuple(log_weights.shape[:-1]))
    out = xp.empty((*lead, n, v.shape[-1]), dtype=q.dtype, device=device_of(q))

    def some(heads: tuple[int, range]) -> tuple[bool, bool, bool]:
        rows, queries, keys, values = (some_heads(x, heads, 2) for x in (out, q, k, v))
        return _tangent(rows, queries, keys, values, some_heads(log_weights, heads, 1), pre_scaled, formed)

    formed = (False, False)  # queries, keys
    try:
        found = each(some, groups(lead), q)
        formed = any(one[1] for one in found), any(one[2] for one in found)
        if any(one[1:] != formed for one in found):  # how heads are grouped, by cores, must not change a bit
            found = each(some, groups(lead), q)
    except ValueError:  # of some heads: said again as what was given knows it
        if pre_scaled is not None:
            q, k = _pre_scaled("q", q, pre_scaled).x, _pre_scaled("k", k, pre_scaled, log_weights).x
        check_finite(q=q, k=k)
        raise
    if not all(one[0] for one in found):
        explain_not_finite(q=q, k=k, v=v)
    return out


@np.errstate(all="ignore")  # an overflow is found in the result
def _tangent(
    out: Array,
    q: Array,
    k: Array,
    v: Array,
    log_weights: Array,
    pre_scaled: float | None,
    formed: tuple[bool, bool],
) -> tuple[bool, bool, bool]:
    """Write the rows of some heads, tell whether they are finite, and whether scaled queries, and keys, had to be formed.

    ``k`` and ``v`` are zeros where log-weights are -inf; ``formed`` says which tokens must be.
    """
    queries, keys = Tokens(q), Tokens(k)
    if pre_scaled is not None:
        queries = _pre_scaled("q", q, pre_scaled, formed=formed[0])
        keys = _pre_scaled("k", k, pre_scaled, log_weights, formed=formed[1])
    c, m, log_weights = shifts_of(queries, keys, log_weights)
    w = normalised(log_weights)
    centre = w[..., None, :] @ v
    w, ones = keys.given(w)[..., None], keys.ones()[..., None]

    def sums(rows: range) -> tuple[Array, Array]:
        y = _plus(take_rows(v, rows), -centre)
        y *= take_rows(w, rows)
        return _over_keys(take_rows(keys.x, rows), y), _over_keys(take_rows(ones, rows), y)

    tokens = max(TOKENS, CACHED // v.shape[-1] // TOKENS * TOKENS)
    parts = each(sums, blocks(v.shape[-2], tokens), v)
    slope, rest = (sum(part) for part in zip(*parts, strict=True))
    slope = keys.projected(slope) - m[..., :, None] * rest  # what rounding left of sum_j w_j (v_j - v_w) = 0
    constant, slope = centre + rest - c[..., None, :] @ slope, queries.projected(slope)

    def write(rows: range) -> bool:
        some = _of_queries(take_rows(queries.x, rows), slope)
        if queries.scale is not None:
            some *= take_rows(queries.scale[..., None], rows)
        some = _plus(some, constant)
        out[..., rows.start : rows.stop, :] = some
        return all_finite(some)

    finite = all(each(write, blocks(q.shape[-2], tokens), v))
    return finite, queries.scale is None, keys.scale is None


def _pre_scaled(
    name: str, x: Array, factor: float, log_weights: Array | None = None, *, formed: bool = False
) -> Tokens:
    """Return tokens pre-scaled and times ``factor``, formed where they must be or where that is more accurate."""
    used = None if log_weights is None else log_weights > -namespace(x).inf
    found = None if formed else pre_scaled_tokens(x, factor, used)
    return Tokens(factor * pre_scale_named(name, x, used)) if found is None else found


def _plus(x: Array, row: Array) -> Array:
    """Return x (..., n, e) + row (..., 1, e), several rows at a time: short ones take NumPy three times as long."""
    xp, (n, e) = namespace(x), x.shape[-2:]
    fold = math.gcd(n, 16)
    wide = xp.reshape(x, (*x.shape[:-2], n // fold, fold * e)) + xp.tile(row, (fold,))
    return xp.reshape(wide, (*wide.shape[:-2], n, e))


def _over_keys(x: Array, y: Array) -> Array:
    """Return x^T y, (..., d, e), summed block after block: their products stay in the cache, and rounding stays small."""
    xp = namespace(x)
    (x, x_rest), (y, y_rest) = _in_blocks(x), _in_blocks(y)
    return xp.sum(xp.matrix_transpose(x) @ y, axis=-3) + xp.matrix_transpose(x_rest) @ y_rest


def _of_queries(q: Array, slope: Array) -> Array:
    """Return q slope, (..., n, e), block by block."""
    xp, (x, x_rest) = namespace(q), _in_blocks(q)
    out = x @ slope[..., None, :, :]
    out = xp.reshape(out, (*out.shape[:-3], out.shape[-3] * TOKENS, out.shape[-1]))
    return out if x_rest.shape[-2] == 0 else xp.concat([out, x_rest @ slope], axis=-2)


def _in_blocks(x: Array) -> tuple[Array, Array]:
    """Return x (..., n, d) as blocks (..., n // b, b, d) of b tokens and the tokens that are left, (..., n % b, d)."""
    count = x.shape[-2] // TOKENS
    whole = namespace(x).reshape(x[..., : count * TOKENS, :], (*x.shape[:-2], count, TOKENS, x.shape[-1]))
    return whole, x[..., count * TOKENS :, :]
