"""Attention through a feature map with relative positions: features, then Toeplitz sums, then the division."""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, all_finite, require_bool
from schoenbat_theory.attention.inputs import check_bias, check_shapes, take_rows
from schoenbat_theory.attention.maps import explain_sums, open_maps, weigh
from schoenbat_theory.attention.running import part
from schoenbat_theory.attention.toeplitz import weighted_toeplitz_sums
from schoenbat_theory.attention.underflow import recompute_lost_rows
from schoenbat_theory.features.weights import hide, key_weights

__all__ = ["relative_attention"]


def relative_attention(
    q: Array, k: Array, v: Array, phi: Any, *, log_bias: Array, causal: bool = False, key_mask: Array | None = None
) -> Array:
    r"""Approximate kernelized attention with relative positions, through a drawn feature map, in O(n log n) time.

        out_i = sum_j exp(b_{j-i}) <phi(q_i), phi(k_j)> v_j / sum_j exp(b_{j-i}) <phi(q_i), phi(k_j)>

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given; the source divides queries and keys by
                  their lengths first: `unit_norm`
    ``phi``       as in `feature_attention`; the features of all queries and keys exist at once
    ``log_bias``  (..., n + m - 1), e.g. from `alibi_bias`, `t5_bias`, `clipped_bias`;  the rest as in `toeplitz_sums`
    returns       (..., n, e)

    Scaled and positive features are treated as in `feature_attention`: rows whose weights underflow are computed in
    logarithms. Raises as `feature_attention` and `toeplitz_sums` do. Source: Luo et al. (2021), from memory.

    >>> from schoenbat_theory.features import RandomMaclaurin
    >>> x, phi = np.eye(2), RandomMaclaurin("exp", 64).draw(2, rng=0)
    >>> relative_attention(x, x, np.ones((2, 1)), phi, log_bias=np.zeros(3)).round(9).tolist()
    [[1.0], [1.0]]
    """
    lead = check_bias(log_bias, q, v, check_shapes(q, k, v))
    causal = require_bool("causal", causal)
    mask = key_weights(k, k.shape[-2], lead, key_mask, None)
    k, v = hide(k, mask), hide(v, mask)
    map_q, map_k = open_maps(phi, q, k, lead)
    with np.errstate(all="ignore"):  # an overflow is found in the sums
        phi_q, (phi_k, weights) = map_q.block(q)[0], weigh(*map_k.block(k), mask)
    sums = weighted_toeplitz_sums(phi_q, phi_k, v, log_bias, weights, causal)
    if not all_finite(sums.denominator, sums.numerator):
        explain_sums(q, k, v, map_q, map_k)
    if map_q.positive and map_k.positive:
        recompute_lost_rows(
            sums,
            lambda r: map_q.log(take_rows(q, r)),
            lambda r: (map_k.log(take_rows(k, r)), part(mask, r)),
            v,
            width=phi_q.shape[-1],
            causal=causal,
            log_bias=log_bias,
        )
    return sums.ratio()
