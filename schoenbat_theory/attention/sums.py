"""The two sums of attention through features, in linear time, block by block, causal or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
    require_bool,
    require_real,
)
from schoenbat_theory.attention.inputs import blocks, check_shapes, divide, explain_not_finite
from schoenbat_theory.attention.running import (
    TOKENS,
    Keys,
    Queries,
    State,
    add_keys,
    causal_blocks,
    causal_sums,
    part,
    row_sums,
)
from schoenbat_theory.features.weights import hide, key_weights

__all__ = ["AttentionSums", "attention_sums", "no_room", "of_block"]


@dataclass(frozen=True, eq=False)
class AttentionSums:
    """Numerator and denominator of attention through features, before the division.

    ``numerator``    (..., n, e)   sum_j w_j <phi(q_i), phi(k_j)> v_j
    ``denominator``  (..., n)      sum_j w_j <phi(q_i), phi(k_j)>;  may be negative or zero
    ``visible``      (..., n) booleans, False for a query that sees no key; ``None``: every query sees one

    Each is linear in the estimates of the kernel, hence unbiased wherever those are; their ratio is not (P09).
    """

    numerator: Array
    denominator: Array
    visible: Array | None = None

    def ratio(self, clamp: float | None = None) -> Array:
        """Return numerator / denominator, (..., n, e); rows that see no key are zeros.

        ``clamp`` raises every denominator to at least this value first, as the code released with
        SchoenbAt does with 1.0; never a default, because it changes the result (P14). Raises
        ``ArithmeticError`` where a denominator is exactly 0, or so close to it that the output overflows.
        """
        denominator = self.denominator
        if clamp is not None:
            clamp = require_real("clamp", clamp, "a finite number")
            xp = namespace(denominator)
            denominator = xp.maximum(denominator, xp.zeros_like(denominator) + clamp)
        out = divide(self.numerator, denominator, self.visible)
        if not all_finite(out):
            check_finite(numerator=self.numerator, denominator=self.denominator)
            raise no_room(out.dtype)
        return out


def attention_sums(
    phi_q: Array,
    phi_k: Array,
    v: Array,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
) -> AttentionSums:
    """Return the two sums of attention for features ``phi_q`` (..., n, D) and ``phi_k`` (..., m, D).

    ``v`` (..., m, e); ``causal``, ``key_mask`` and ``key_log_weights`` as in `kernel_attention`. Time is
    linear in n and m; the causal form carries a (D, e + 1) state from block to block.

    Source: Katharopoulos et al. (2020), equations 4 to 6 (from memory); masks and weights are not in the source.

    >>> import numpy as np
    >>> sums = attention_sums(np.ones((1, 1)), np.ones((2, 1)), np.array([[1.0], [3.0]]))
    >>> sums.ratio()
    array([[2.]])
    """
    lead = check_shapes(phi_q, phi_k, v, ("phi_q", "phi_k"))
    causal = require_bool("causal", causal)
    weights = key_weights(phi_k, phi_k.shape[-2], lead, key_mask, key_log_weights)
    phi_k, v = hide(phi_k, weights), hide(v, weights)
    lead = broadcast_shapes(arrays=lead, hidden=tuple(phi_k.shape[:-2]))
    sums, log_scale = _whole(
        lambda r: phi_q[..., r.start : r.stop, :],
        lambda r: (phi_k[..., r.start : r.stop, :], part(weights, r)),
        v,
        (*lead, phi_q.shape[-2]),
        causal=causal,
        weighted=weights is not None,
    )
    if log_scale is not None:
        xp = namespace(v)
        with np.errstate(all="ignore"):  # an overflow is found below
            scale = xp.where(log_scale > -xp.inf, xp.exp(log_scale), xp.zeros_like(log_scale))
            sums = AttentionSums(sums.numerator * scale[..., None], sums.denominator * scale, sums.visible)
    if not all_finite(sums.denominator, sums.numerator):
        explain_not_finite(phi_q=phi_q, phi_k=phi_k, v=v)
    return sums


def _whole(
    features_q: Queries, features_k: Keys, v: Array, shape: tuple[int, ...], *, causal: bool, weighted: bool
) -> tuple[AttentionSums, Array | None]:
    """Return the sums of all rows, and their log scales; ``shape`` (..., n) of the rows."""
    xp, m, n = namespace(v), v.shape[-2], shape[-1]
    sums = xp.empty((*shape, v.shape[-1] + 1), dtype=v.dtype, device=device_of(v))
    scale = xp.empty(shape, dtype=v.dtype, device=device_of(v)) if weighted else None
    state = State(v, shape[:-1], weighted)
    if not causal:
        add_keys(state, features_k, v, range(m))
    for rows in causal_blocks(n) if causal else blocks(n, TOKENS):
        found, top = (
            causal_sums(state, features_q, features_k, v, rows) if causal else row_sums(state, features_q, v, rows)
        )
        sums[..., rows.start : rows.stop, :] = found
        if scale is not None:
            scale[..., rows.start : rows.stop] = top
    visible = None if scale is None else scale > -xp.inf
    if m == 0:
        visible = xp.zeros(shape, dtype=xp.bool, device=device_of(v))
    return AttentionSums(sums[..., :-1], sums[..., -1], visible), scale


def of_block(block: Array, top: Array | None) -> AttentionSums:
    """Return the sums (..., b, e + 1) of a block of rows and their log scale as `AttentionSums`."""
    if top is None:
        return AttentionSums(block[..., :-1], block[..., -1])
    xp = namespace(block)
    return AttentionSums(block[..., :-1], block[..., -1], xp.broadcast_to(top > -xp.inf, block.shape[:-1]))


def no_room(dtype: Any) -> ArithmeticError:
    """Return the error for rows that overflow in the division alone."""
    return ArithmeticError(f"a denominator is so close to 0 that the output overflows {dtype}")
