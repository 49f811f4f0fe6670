"""Rows of attention whose weights underflow in a product of scaled features, computed again in logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from schoenbat_theory.arrays import Array, device_of, namespace, to_host
from schoenbat_theory.attention.inputs import blocks, causal_mask
from schoenbat_theory.attention.running import TOKENS, exp_difference, part, with_ones
from schoenbat_theory.attention.sums import AttentionSums

__all__ = ["recompute_lost_rows"]


@np.errstate(all="ignore")  # an overflow is found in the sums
def recompute_lost_rows(
    sums: AttentionSums,
    log_q: Callable[[range], Array],
    log_k: Callable[[range], tuple[Array, Array | None]],
    v: Array,
    *,
    width: int,
    causal: bool,
    log_bias: Array | None = None,
    first: int = 0,
) -> None:
    """Replace rows of ``sums``, of positive features scaled to [0, 1], that underflow may have spoilt.

    ``log_q``  range of rows -> logarithms of the features of these queries, (..., b, D)
    ``log_k``  range of columns -> logarithms of the features of these keys, and their log-weights or ``None``
    ``width``  D;  ``log_bias``  (..., n + m - 1), entry j - i + n - 1 is that of key j for query i
    ``first``  the number i of the first of the rows of ``sums``; 0 with a ``log_bias``, whose length counts all rows

    A row depends on its own query and on the keys that it sees, bit for bit, as the choice of rows does. Each costs
    m D exponentials.
    """
    xp, n, m = namespace(v), sums.denominator.shape[-1], v.shape[-2]
    # A denominator sums, over D features and m keys, products of factors in [0, 1]: two features, a weight, and what
    # later blocks rescale it by. Each of these four loses at most tiny, the smallest normal number, and so does each of
    # the two products (rescaling an entry, once a block, is left): less than 7 D m tiny. Above D m tiny / eps that is
    # 7 eps of the sum. Numerators lose as much in units of 1: values far below 1 keep fewer digits there.
    finfo = xp.finfo(v.dtype)
    lost = sums.denominator < width * m * float(finfo.smallest_normal) / float(finfo.eps)
    if sums.visible is not None:
        lost = lost & sums.visible
    if not bool(xp.any(lost)):
        return
    found = np.any(to_host(lost), axis=tuple(range(lost.ndim - 1)))
    for rows in blocks(range(first, first + n), TOKENS):
        chosen = [i for i in rows if found[i - first]]
        if not chosen:
            continue
        logs, states = log_q(rows), {i: _Row(v, tuple(lost.shape[:-1])) for i in chosen}
        for columns in blocks(min(m, rows.stop) if causal else m, TOKENS):
            (logs_k, weights), values = log_k(columns), with_ones(v, columns)
            for i, state in states.items():
                scores = _log_sum_exp(logs[..., i - rows.start : i - rows.start + 1, :] + logs_k)
                scores = scores if weights is None else scores + weights
                if log_bias is not None:
                    scores = scores + part(log_bias, range(columns.start - i + n - 1, columns.stop - i + n - 1))
                if causal:
                    seen = causal_mask(v, range(i, i + 1), columns)[0, :]
                    scores = xp.where(seen, scores, xp.zeros_like(scores) - xp.inf)
                state.add(scores, values)
        for i, state in states.items():
            at = slice(i - first, i - first + 1)
            mine = lost[..., at]
            sums.denominator[..., at] = xp.where(mine, state.total[..., -1], sums.denominator[..., at])
            sums.numerator[..., at, :] = xp.where(mine[..., None], state.total[..., :-1], sums.numerator[..., at, :])


class _Row:
    """The sum of exp(score_j) [v_j, 1] over the keys so far, (..., 1, e + 1), divided by exp(largest score)."""

    def __init__(self, v: Array, lead: tuple[int, ...]) -> None:
        xp = namespace(v)
        self.top = xp.full((*lead, 1), -math.inf, dtype=v.dtype, device=device_of(v))
        self.total = xp.zeros((*lead, 1, v.shape[-1] + 1), dtype=v.dtype, device=device_of(v))

    def add(self, scores: Array, values: Array) -> None:
        xp = namespace(scores)
        top = xp.maximum(self.top, xp.max(scores, axis=-1, keepdims=True))
        new = exp_difference(scores, top)[..., None, :] @ values
        self.total = self.total * exp_difference(self.top, top)[..., None] + new
        self.top = top


def _log_sum_exp(x: Array) -> Array:
    """Return log sum exp over the last axis."""
    xp = namespace(x)
    top = xp.max(x, axis=-1)
    return top + xp.log(xp.sum(exp_difference(x, top[..., None]), axis=-1))
