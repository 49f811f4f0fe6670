"""The two sums of attention through features, in linear time, block by block, causal or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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
from schoenbat_theory.attention.inputs import blocks, causal_mask, check_shapes, divide, explain_not_finite
from schoenbat_theory.features.weights import hide, key_weights

__all__ = [
    "TOKENS",
    "AttentionSums",
    "Problem",
    "accumulate",
    "attention_sums",
    "exp_difference",
    "part",
    "with_ones",
]

TOKENS = 512  # tokens per block: their features, 256 wide in float32, fill half a megabyte
CAUSAL_TOKENS = 128  # of the causal form, where a block of b tokens has b^2 scores besides


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
            raise ArithmeticError(f"a denominator is so close to 0 that the output overflows {out.dtype}")
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
    sums, log_scale = accumulate(
        lambda r: phi_q[..., r.start : r.stop, :],
        lambda r: (phi_k[..., r.start : r.stop, :], part(weights, r)),
        v,
        Problem(lead, phi_q.shape[-2], causal, weights is not None),
    )
    if log_scale is not None:
        xp = namespace(v)
        with np.errstate(all="ignore"):  # an overflow is found below
            scale = xp.where(log_scale > -xp.inf, xp.exp(log_scale), xp.zeros_like(log_scale))
            sums = AttentionSums(sums.numerator * scale[..., None], sums.denominator * scale, sums.visible)
    if not all_finite(sums.denominator, sums.numerator):
        explain_not_finite(phi_q=phi_q, phi_k=phi_k, v=v)
    return sums


@dataclass(frozen=True)
class Problem:
    """What the accumulation needs to know besides features and values."""

    lead: tuple[int, ...]  # leading axes of the sums
    n: int
    causal: bool
    weighted: bool  # whether features of keys come with log-weights


class _State:
    """The sum of w_j phi(k_j) [v_j, 1] over the keys so far, divided by exp(top), top the largest log w_j.

    Dividing by the largest weight *so far* keeps weights from overflowing, and in the causal form keeps
    later keys out of earlier rows.
    """

    def __init__(self, like: Array, lead: tuple[int, ...], weighted: bool) -> None:
        xp = namespace(like)
        self.matrix: Array | None = None  # (..., D, e + 1)
        self.top: Array | None = None  # (..., 1), only with weights
        if weighted:
            self.top = xp.full((*lead, 1), -math.inf, dtype=like.dtype, device=device_of(like))

    def add(self, phi_k: Array, values: Array, log_weights: Array | None) -> None:
        """Take in a block of keys: features (..., b, D), values with ones (..., b, e + 1), weights (..., b)."""
        xp = namespace(values)
        if log_weights is not None:
            top = xp.maximum(self.top, xp.max(log_weights, axis=-1, keepdims=True))
            values = values * exp_difference(log_weights, top)[..., None]
            if self.matrix is not None:
                self.matrix = self.matrix * exp_difference(self.top, top)[..., None]
            self.top = top
        new = xp.matrix_transpose(phi_k) @ values
        self.matrix = new if self.matrix is None else self.matrix + new

    def read(self, phi_q: Array, width: int) -> Array:
        """Return the sums for a block of queries, (..., b, width)."""
        xp = namespace(phi_q)
        if self.matrix is None:
            return xp.zeros((*phi_q.shape[:-1], width), dtype=phi_q.dtype, device=device_of(phi_q))
        return phi_q @ self.matrix


@np.errstate(all="ignore")  # an overflow is found in the sums
def accumulate(
    features_q: Callable[[range], Array],
    features_k: Callable[[range], tuple[Array, Array | None]],
    v: Array,
    problem: Problem,
) -> tuple[AttentionSums, Array | None]:
    """Return the sums, each row divided by exp(log scale of the row), and those log scales (..., n).

    ``features_q`` gives the features of a block of queries, ``features_k`` those of a block of keys and their
    log-weights (..., b), ``None`` if nothing is weighted. The scale is the largest log-weight that the row sees; ``None`` likewise.
    """
    xp, m = namespace(v), v.shape[-2]
    sums = xp.empty((*problem.lead, problem.n, v.shape[-1] + 1), dtype=v.dtype, device=device_of(v))
    scale = xp.empty(sums.shape[:-1], dtype=v.dtype, device=device_of(v)) if problem.weighted else None
    state = _State(v, problem.lead, problem.weighted)
    if not problem.causal:
        for columns in blocks(m, TOKENS):
            phi_k, weights = features_k(columns)
            state.add(phi_k, with_ones(v, columns), weights)
    for rows in blocks(problem.n, CAUSAL_TOKENS if problem.causal else TOKENS):
        phi_q = features_q(rows)
        block, top = state.read(phi_q, sums.shape[-1]), state.top
        columns = range(rows.start, min(rows.stop, m))
        if problem.causal and columns:
            (phi_k, weights), values = features_k(columns), with_ones(v, columns)
            block, top = _add_triangle(block, top, phi_q, phi_k, values, weights, rows, columns)
            state.add(phi_k, values, weights)
        sums[..., rows.start : rows.stop, :] = block
        if scale is not None:
            scale[..., rows.start : rows.stop] = top
    visible = None
    if scale is not None or m == 0:
        visible = xp.zeros(sums.shape[:-1], dtype=xp.bool, device=device_of(v)) if scale is None else scale > -xp.inf
    return AttentionSums(sums[..., :-1], sums[..., -1], visible), scale


def _add_triangle(
    block: Array,
    top: Array | None,
    phi_q: Array,
    phi_k: Array,
    values: Array,
    log_weights: Array | None,
    rows: range,
    columns: range,
) -> tuple[Array, Array | None]:
    """Add the keys of the block itself, j <= i, to the sums of the keys before it; return sums and row scales."""
    xp = namespace(values)
    seen = causal_mask(values, rows, columns)
    scores = phi_q @ xp.matrix_transpose(phi_k)
    scores = xp.where(seen, scores, xp.zeros_like(scores))
    if log_weights is None:
        return block + scores @ values, None
    pairs = log_weights[..., None, :]
    pairs = xp.where(seen, pairs, xp.zeros_like(pairs) - xp.inf)  # (..., b, b)
    row_top = xp.maximum(xp.max(pairs, axis=-1), top)
    inside = (scores * exp_difference(pairs, row_top[..., None])) @ values
    return block * exp_difference(top, row_top)[..., None] + inside, row_top


def part(x: Array | None, columns: range) -> Array | None:
    """Return the log-weights of a block of keys."""
    return None if x is None else x[..., columns.start : columns.stop]


def with_ones(v: Array, columns: range) -> Array:
    """Return a block of values with a column of ones, so that the denominator is one more value."""
    xp = namespace(v)
    v = v[..., columns.start : columns.stop, :]
    return xp.concat([v, xp.ones_like(v[..., :1])], axis=-1)


def exp_difference(a: Array, b: Array) -> Array:
    """Return exp(a - b) for a <= b, with exp(-inf - -inf) = 0: no weight at all."""
    xp = namespace(a)
    return xp.exp(a - xp.where(b > -xp.inf, b, xp.zeros_like(b)))
