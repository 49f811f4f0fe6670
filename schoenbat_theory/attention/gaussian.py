"""Skyformer's kernelized attention: Gaussian weights, not divided by their sum; quadratic time, linear memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, all_finite, broadcast_shapes, check_finite, device_of, namespace
from schoenbat_theory.attention.exact import COLUMNS, pieces
from schoenbat_theory.attention.inputs import blocks, check_shapes, explain_not_finite, take_rows
from schoenbat_theory.features.gram import centred_gram, gaussian_rounding
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.threads import each

__all__ = ["gaussian_attention", "gaussian_gram", "mean_row"]


def gaussian_gram(x: Array, y: Array) -> Array:
    r"""Return exp(-|x_i - y_j|^2 / 2), (..., n, m), for ``x`` (..., n, d) and ``y`` (..., m, d), unscaled.

    The mean of y is taken off both first, which changes no distance: |x|^2 + |y|^2 - 2 <x, y> cancels for close points
    far from the origin, but not for points that lie around it. Let a and b be the lengths of x_i and y_j seen from that
    mean. To first order the squared distance errs by (d + 4) u (a + b)^2: d u from three inner products, 2 u from two
    sums, 2 u from taking off the mean. With a <= r + b, r the distance, an entry errs by at most

        u [(d + 4) (a + b)^2 / 2 + 2] e^(-r^2 / 2)  <=  u [(d + 4) (1 + 4 b^2) + 2],

    whatever x is. Holds n m numbers and no more than a few times that, never n m d. Raises ``TypeError`` or
    ``ValueError`` for wrong input (shape, dtype, NaN), and where y is spread so far that the right-hand side reaches 1
    or its squares overflow.

    Source: the kernel of arXiv:2111.00035, equation 3; the centre and the bound are not in the source.

    >>> gaussian_gram(np.array([[0.0], [1.0]]), np.array([[0.0]])).round(3)
    array([[1.   ],
           [0.607]])
    """
    check_shapes(x, y, y, ("x", "y"))
    check_finite(x=x, y=y)
    with np.errstate(all="ignore"):  # an overflow is found in the result
        centre = mean_row(y)
        y_centred = y - centre
        gaussian_rounding(y_centred, "y")
        gram = centred_gram(x - centre, y_centred)
    if not all_finite(gram):
        explain_not_finite(x=x, y=y)
    return gram


def gaussian_attention(q: Array, k: Array, v: Array, *, key_mask: Array | None = None) -> Array:
    r"""Sum the values with Gaussian weights, exactly and block by block; the weights are not divided by their sum.

        out_i = sum_j exp(-|q_i - k_j|^2 / 2) v_j

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given; the paper's kernelized attention is
                  gaussian_attention(q / d**0.25, k / d**0.25, v)
    ``key_mask``  (..., m) booleans, True = the key is used; masked keys and values are never looked at
    returns       (..., n, e), same library, device and dtype; a row that sees no key is zeros

    Beside softmax attention without its division, exp(<q_i, k_j>), a weight is divided by exp(|q_i|^2 / 2) and
    exp(|k_j|^2 / 2), so that none exceeds 1. Rounding of a weight is that of `gaussian_gram`, the mean being that of
    the keys used; what is refused there is refused here. Never holds n m numbers. Raises ``TypeError`` or
    ``ValueError`` for wrong input.

    Source: arXiv:2111.00035, equation 3 (seen); the blocks are not in the source.

    >>> gaussian_attention(np.zeros((1, 2)), np.eye(2), np.ones((2, 1))).round(3)  # 2 / sqrt(e)
    array([[1.213]])
    """
    lead = check_shapes(q, k, v)
    n, m = q.shape[-2], k.shape[-2]
    weights = key_weights(k, m, lead, key_mask, None)
    k, v = hide(k, weights), hide(v, weights)
    check_finite(q=q, k=k, v=v)
    xp = namespace(q)
    with np.errstate(all="ignore"):  # an overflow is found in the result
        centre = mean_row(k, weights)
        k_centred = hide(k - centre, weights)
        gaussian_rounding(k_centred, "k")
        lead = broadcast_shapes(arrays=lead, hidden=tuple(k_centred.shape[:-2]))
        out = xp.zeros((*lead, n, v.shape[-1]), dtype=q.dtype, device=device_of(q))
        q_all, c_all, k_all, v_all = (xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, centre, k_centred, v))

        def work(piece: tuple[tuple[Any, ...], range]) -> None:
            item, rows = piece
            x, y, z = take_rows(q_all[item], rows) - c_all[item], k_all[item], v_all[item]
            for r in blocks(m, COLUMNS):
                part = centred_gram(x, take_rows(y, r)) @ take_rows(z, r)
                out[(*item, slice(rows.start, rows.stop), slice(None))] += part

        each(work, pieces(lead, n, q), q)
    if not all_finite(out):
        explain_not_finite(q=q, k=k, v=v)
    return out


def mean_row(y: Array, log_weights: Array | None = None) -> Array:
    """Return the mean (..., 1, d) of the rows of ``y`` (..., m, d) that are not hidden; zeros where there is none."""
    xp = namespace(y)
    total = xp.sum(y, axis=-2, keepdims=True)
    if log_weights is None:
        return total / max(y.shape[-2], 1)
    # Hidden rows are zeros: they add nothing to the sum.
    count = xp.sum(xp.astype(log_weights > -xp.inf, y.dtype), axis=-1)[..., None, None]
    return total / xp.where(count > 0, count, xp.ones_like(count))
