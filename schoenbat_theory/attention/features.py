"""Attention through a feature map: phi(Q) (phi(K)^T V), the map applied to one block of tokens at a time."""

from __future__ import annotations

from typing import Any

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    require_bool,
)
from schoenbat_theory.attention.inputs import check_shapes, take_rows
from schoenbat_theory.attention.maps import explain_sums, open_maps, weigh
from schoenbat_theory.attention.sums import Problem, accumulate, part
from schoenbat_theory.attention.underflow import recompute_lost_rows
from schoenbat_theory.features.weights import hide, key_weights

__all__ = ["feature_attention"]


def feature_attention(
    q: Array,
    k: Array,
    v: Array,
    phi: Any,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
) -> Array:
    """Approximate kernelized attention with a drawn feature map, in time linear in n and m.

        out_i = sum_j w_j <phi(q_i), phi(k_j)> v_j / sum_j w_j <phi(q_i), phi(k_j)>

    ``phi``   a draw, or any callable (..., n, d) -> (..., n, D), or a pair (phi_q, phi_k) of them
    the rest  as in `kernel_attention`; returns (..., n, e)

    A map may have ``scaled(x)`` -> (features, log_scale (..., n)), which stand for features exp(log_scale). Scales of
    queries cancel, those of keys join the log-weights, of which the largest *so far* is subtracted: nothing overflows,
    and nothing of later keys enters a causal row. Where both maps have ``log(x)`` too, their features are taken for
    positive and at most 1, and rows whose weights underflow are computed again in logarithms.

    Features exist for one block of tokens at a time; each block's shape and dtype are checked, and ``phi`` is named
    where they are wrong or where it makes NaN of finite tokens. Input is not scanned: NaN, overflow and a
    denominator of exactly 0 are found in the result and traced back to an argument. Denominators may
    be negative: random Maclaurin weights have no sign. Raises as `kernel_attention` does.

    Source: the estimator RMFA of arXiv:2505.12252, without the clamp of its released code.

    >>> import numpy as np
    >>> from schoenbat_theory import RandomMaclaurin
    >>> phi = RandomMaclaurin("exp", 64).draw(2, rng=0)
    >>> feature_attention(np.eye(2), np.eye(2), np.ones((2, 1)), phi)
    array([[1.],
           [1.]])
    """
    lead = check_shapes(q, k, v)
    causal = require_bool("causal", causal)
    weights = key_weights(k, k.shape[-2], lead, key_mask, key_log_weights)
    k, v = hide(k, weights), hide(v, weights)
    map_q, map_k = open_maps(phi, q, k, lead)
    sums, _ = accumulate(
        lambda r: map_q.block(take_rows(q, r))[0],
        lambda r: weigh(*map_k.block(take_rows(k, r)), part(weights, r)),
        v,
        Problem(map_q.lead, q.shape[-2], causal, weights is not None or map_k.scaled),
    )
    if not all_finite(sums.denominator, sums.numerator):
        explain_sums(q, k, v, map_q, map_k)
    if map_q.positive and map_k.positive:
        recompute_lost_rows(
            sums,
            lambda r: map_q.log(take_rows(q, r)),
            lambda r: (map_k.log(take_rows(k, r)), part(weights, r)),
            v,
            width=map_q.width.get("D", 0),
            causal=causal,
        )
    return sums.ratio()
