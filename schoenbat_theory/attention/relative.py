"""Attention through a feature map with relative positions: features, then Toeplitz sums, then the division."""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, all_finite, check_finite, namespace, require_bool
from schoenbat_theory.attention.inputs import check_shapes, explain_not_finite, hide, key_weights
from schoenbat_theory.attention.maps import open_maps, weigh
from schoenbat_theory.attention.toeplitz import ToeplitzSums, weighted_toeplitz_sums

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

    Raises as `feature_attention` and `toeplitz_sums` do, and ``ArithmeticError`` where sums of positive features,
    scaled to at most 1, underflow. Source: Luo et al. (2021), from memory.

    >>> from schoenbat_theory.features import RandomMaclaurin
    >>> x, phi = np.eye(2), RandomMaclaurin("exp", 64).draw(2, rng=0)
    >>> relative_attention(x, x, np.ones((2, 1)), phi, log_bias=np.zeros(3)).round(9).tolist()
    [[1.0], [1.0]]
    """
    lead = check_shapes(q, k, v)
    causal = require_bool("causal", causal)
    weights = key_weights(k, k.shape[-2], lead, key_mask, None)
    k, v = hide(k, weights), hide(v, weights)
    map_q, map_k = open_maps(phi, q, k, lead)
    with np.errstate(all="ignore"):  # an overflow is found in the sums
        phi_q, (phi_k, weights) = map_q.block(q)[0], weigh(*map_k.block(k), weights)
    sums = weighted_toeplitz_sums(phi_q, phi_k, v, log_bias, weights, causal)
    if not all_finite(sums.denominator, sums.numerator):
        check_finite(q=q, k=k, v=v)
        for one, x in ((map_q, q), (map_k, k)):
            one.explain_nan(x)
        explain_not_finite(q=q, k=k, v=v)
    if map_q.positive and map_k.positive:
        _check_underflow(sums, phi_q.shape[-1] * phi_k.shape[-2])
    return sums.ratio()


def _check_underflow(sums: ToeplitzSums, terms: int) -> None:
    """Raise ``ArithmeticError`` where sums of so many products of factors in [0, 1] may have lost digits: underflow."""
    xp = namespace(sums.denominator)
    limits = xp.finfo(sums.denominator.dtype)
    lost = sums.denominator < terms * float(limits.smallest_normal) / float(limits.eps)
    if sums.visible is not None:
        lost = lost & sums.visible
    if bool(xp.any(lost)):
        count = int(xp.sum(xp.astype(lost, xp.int64)))
        raise ArithmeticError(
            f"the attention weights of {count} rows underflow {sums.denominator.dtype}; "
            "shorter queries and keys help: unit_norm"
        )
