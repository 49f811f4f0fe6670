r"""Softmax attention to first order around the mean query: one weighted covariance, in time linear in n and m.

    out_i = v_w + (q_i - c)^T C,    C = sum_j w_j (k_j - m) (v_j - v_w)^T,    m = sum_j w_j k_j,    v_w = sum_j w_j v_j

with w the softmax of <c, k_j> and the log-weights of the keys: the expansion of degree <= 1 after `recenter`, whose basis
leaves degree 1 alone. Its denominator is 1, so that no row is divided by something near 0.
"""

from __future__ import annotations

import numpy as np

from schoenbat_theory.arrays import Array, all_finite, check_finite, device_of, namespace
from schoenbat_theory.attention.inputs import check_shapes, explain_not_finite
from schoenbat_theory.attention.sums import TOKENS
from schoenbat_theory.features.recenter import shifts
from schoenbat_theory.features.weights import hide, key_weights, normalised

__all__ = ["first_order_attention"]


def first_order_attention(
    q: Array, k: Array, v: Array, *, key_mask: Array | None = None, key_log_weights: Array | None = None
) -> Array:
    r"""Approximate softmax attention by its tangent at a shift c of the queries, as `recenter` chooses it.

        out_i = v_w + sum_j w_j <q_i - c, k_j - m> (v_j - v_w),    w_j = exp(<c, k_j> + key_log_weights_j) / their sum,
        m = sum_j w_j k_j,    v_w = sum_j w_j v_j,    c = s (mean of q),    s in {0, 1/4, 1/2, 3/4, 1}

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given: softmax attention of an encoder divides
                     queries and keys by d**0.25 first
    ``key_mask``     (..., m) booleans, True = the key is used; masked keys and values are never looked at
    ``key_log_weights``  (..., m) finite or -inf
    returns          (..., n, e), same library, device and dtype; zeros where no key is used

    It is exact where all queries are equal, and, however sharp, where (k, v) is jointly Gaussian under w. Otherwise the
    error is of second order in the logits <q_i - c, k_j - m>. A row is no average of values: it may leave their
    hull. 2 d + e (d + 4) multiply-adds per key, d (e + 1) per query, and what `recenter` takes to choose s. There is
    no causal form: c is a mean of all queries and w, m, v_w are sums over all keys, so that each row knows of later
    tokens.

    Rounding, u the unit roundoff: sums over keys that reach the output are made in blocks of b = 512 and of values less a
    mean, so that v_w errs by at most about (b + m / b) u sum_j w_j |v_j - v_w| + u |v_w| and an entry of C by
    (b + m / b) u sum_j w_j |k_j| |v_j - v_w|; the product with q_i adds (d + 1) u (|q_i| + |c|) |C|. An error in c moves
    the point of expansion, not the result at a given one.

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
    if m == 0:
        return namespace(q).zeros((*lead, n, v.shape[-1]), dtype=q.dtype, device=device_of(q))
    return _tangent(q, k, v, log_weights)


@np.errstate(all="ignore")  # an overflow is found in the result
def _tangent(q: Array, k: Array, v: Array, log_weights: Array | None) -> Array:
    """Return the rows; ``k`` and ``v`` are zeros where log-weights are -inf."""
    xp = namespace(q)
    if log_weights is None:
        log_weights = xp.zeros(k.shape[:-1], dtype=k.dtype, device=device_of(k))
    try:
        c, m, log_weights = shifts(q, k, log_weights)
    except ValueError:  # too large, or not finite to begin with
        check_finite(q=q, k=k)
        raise
    w = normalised(log_weights)
    centre = w[..., None, :] @ v
    y = v - centre
    y *= w[..., None]
    slope = _over_keys(k, y)
    rest = _over_keys(xp.ones_like(k[..., :1]), y)
    slope = slope - m[..., :, None] * rest  # what rounding left of sum_j w_j (v_j - v_w) = 0
    out = _of_queries(q, slope)
    out += centre + rest - c[..., None, :] @ slope
    if not all_finite(out):
        explain_not_finite(q=q, k=k, v=v)
    return out


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
