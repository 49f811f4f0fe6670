"""Attention sums weighted by exp(b_{j-i}), relative positions: by FFT, and densely where FFT would lose them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    device_of,
    eps,
    namespace,
    require_bool,
    require_real,
)
from schoenbat_theory.attention.inputs import blocks, check_bias, check_shapes, explain_not_finite
from schoenbat_theory.attention.rectangles import Problem, dense, transformed
from schoenbat_theory.attention.running import exp_difference
from schoenbat_theory.attention.sums import AttentionSums
from schoenbat_theory.features.weights import hide, key_weights

__all__ = ["ToeplitzSums", "toeplitz_sums", "weighted_toeplitz_sums"]

TOKENS = 2048  # below so many the causal form is dense: BLAS is faster than many transforms
ROWS, COLUMNS = 128, 2048  # one dense block of weights: 2 MB in float64 per leading item


@dataclass(frozen=True, eq=False, kw_only=True)
class ToeplitzSums(AttentionSums):
    """Numerator and denominator of attention with relative positions, both to be multiplied by exp(``log_scale``).

    ``log_scale``   (..., n)  log of the factor taken off both sums of a row, against overflow; `ratio` does not need it
    ``recomputed``  (..., n) booleans, True for a row that was computed densely because FFT would have lost it

    The rest as in `AttentionSums`.
    """

    log_scale: Array
    recomputed: Array

    @property
    def n_recomputed(self) -> int:
        """How many rows, over all leading axes, were recomputed densely."""
        xp = namespace(self.recomputed)
        return int(xp.sum(xp.astype(self.recomputed, xp.int64)))

    @np.errstate(over="ignore")  # a clamp that is infinite beside the sums makes a row 0
    def ratio(self, clamp: float | None = None) -> Array:
        """Return numerator / denominator, (..., n, e), as `AttentionSums.ratio` does; ``clamp`` is unscaled."""
        if clamp is None:
            return super().ratio()
        xp, clamp = namespace(self.denominator), require_real("clamp", clamp, "a finite number")
        least = clamp * xp.exp(-self.log_scale) if clamp else xp.zeros_like(self.log_scale)
        return AttentionSums(self.numerator, xp.maximum(self.denominator, least), self.visible).ratio()


def toeplitz_sums(
    phi_q: Array, phi_k: Array, v: Array, *, log_bias: Array, causal: bool = False, key_mask: Array | None = None
) -> ToeplitzSums:
    r"""Return the two sums of attention for features and a bias of relative positions, in O(n log n) time.

        num_i = sum_j exp(b_{j-i}) <phi(q_i), phi(k_j)> v_j,     den_i = sum_j exp(b_{j-i}) <phi(q_i), phi(k_j)>

    ``phi_q`` (..., n, D), ``phi_k`` (..., m, D), ``v`` (..., m, e)
    ``log_bias``  (..., n + m - 1), entry j - i + n - 1 is b for key j and query i; finite
    ``causal``, ``key_mask``   as in `kernel_attention`; causal rows keep every bit whatever later keys hold

    For each feature l and each column of V and of ones, one Toeplitz product with phi_k[:, l] v. The causal form halves
    recursively: Toeplitz products for the keys of the first half and the rows of the second, and dense blocks of 2048
    tokens on the diagonal, O(n log^2 n). Beside the result and one copy of v the memory is O(n + m): a constant number
    of columns at a time.

    The error of FFT is absolute (`toeplitz_product`). The denominator errs by about

        E_i = K u (log2(N) + 2) ||c||_2 sum_l |phi_q[i,l]| ||phi_k[:,l]||_2,     c = e^b,

    a numerator by at most E_i max|v|, because ||phi_k[:,l] v|| <= ||phi_k[:,l]|| max|v|, so that the output errs by

        |error_i| <= (max|v| + |out_i|) E_i / |den_i|     to first order.

    Rows where 2 E_i > sqrt(u) |den_i| are computed densely instead, block by block with a running maximum of the bias,
    and marked in ``recomputed``: if all rows are, time is quadratic. What remains errs by at most sqrt(u) of the larger
    of max|v| and |out_i| by the estimate, ten times that by the theorem for powers of two, beside dense rounding and
    products phi_k v that underflow.
    Raises ``TypeError`` or ``ValueError`` for wrong input, as `kernel_attention` does.

    Source: Luo et al. (2021), from memory; the scales, the causal form and the guard are not in the source.

    >>> one = np.ones((2, 1))
    >>> toeplitz_sums(one, one, np.array([[1.0], [4.0]]), log_bias=np.log([1.0, 2.0, 1.0])).ratio().round(9)
    array([[2.],
           [3.]])
    """
    lead = check_bias(log_bias, phi_q, v, check_shapes(phi_q, phi_k, v, ("phi_q", "phi_k")))
    causal = require_bool("causal", causal)
    weights = key_weights(phi_k, phi_k.shape[-2], lead, key_mask, None)
    sums = weighted_toeplitz_sums(phi_q, hide(phi_k, weights), hide(v, weights), log_bias, weights, causal)
    if not all_finite(sums.denominator, sums.numerator):
        explain_not_finite(phi_q=phi_q, phi_k=hide(phi_k, weights), v=hide(v, weights))
    return sums


class _Rows:
    """The sums of ``rows`` so far and estimates of their errors, divided by exp(top), top the largest log-factor."""

    def __init__(self, problem: Problem, rows: range) -> None:
        xp, like, lead = namespace(problem.values), problem.values, problem.lead
        kind = {"dtype": like.dtype, "device": device_of(like)}
        self.start = rows.start
        self.sums = xp.zeros((*lead, like.shape[-2], len(rows)), **kind)
        self.error = xp.zeros((*lead, len(rows)), **kind)
        self.top = xp.full((*lead, len(rows)), -math.inf, **kind)

    def add(self, rows: range, sums: Array, error: Array | float, top: Array) -> None:
        """Add ``sums`` (..., e + 1, rows) exp(top) with estimates (..., rows) exp(top) of their errors."""
        xp, part = namespace(sums), slice(rows.start - self.start, rows.stop - self.start)
        old = self.top[..., part]
        new = xp.maximum(old, top)
        keep, scale = exp_difference(old, new), exp_difference(top, new)
        self.sums[..., part] = self.sums[..., part] * keep[..., None, :] + sums * scale[..., None, :]
        self.error[..., part] = self.error[..., part] * keep + error * scale
        self.top[..., part] = new

    def lost(self) -> Array:
        """Return (..., n), where the error may not be small beside the denominator, or a sum is not finite."""
        xp = namespace(self.sums)
        limits = xp.finfo(self.sums.dtype)
        # Beside the roundings, results below the normal numbers have an absolute error of their own.
        error = 2 * (self.error + float(limits.smallest_normal))
        small = error <= math.sqrt(eps(self.sums)) * xp.abs(self.sums[..., -1, :])
        return ~(small & xp.all(xp.isfinite(self.sums), axis=-2))

    def replace(self, rows: range, chosen: Array, other: _Rows) -> None:
        """Take the rows ``chosen`` (..., rows) from ``other``."""
        xp, part = namespace(self.sums), slice(rows.start, rows.stop)
        self.sums[..., part] = xp.where(chosen[..., None, :], other.sums, self.sums[..., part])
        self.top[..., part] = xp.where(chosen, other.top, self.top[..., part])


@np.errstate(all="ignore")  # an overflow is found in the sums
def weighted_toeplitz_sums(
    phi_q: Array, phi_k: Array, v: Array, log_bias: Array, log_weights: Array | None, causal: bool
) -> ToeplitzSums:
    """Return the sums for keys of weight exp(``log_weights``) (..., m); no later key enters a causal row."""
    p = Problem.of(phi_q, phi_k, v, log_bias, log_weights, causal)
    xp, every = namespace(v), _Rows(p, range(p.n))
    for rows, keys in _halves(p.n, p.m) if causal else [(range(p.n), range(p.m))]:
        if rows and keys:
            every.add(rows, *transformed(p, rows, keys))
    for rows in blocks(p.n, ROWS) if causal else []:
        keys = range(rows.start - rows.start % TOKENS, min(rows.stop, p.m))
        if keys:
            every.add(rows, *dense(p, rows, keys))
    visible, lost = p.visible(), every.lost()
    if visible is not None:
        lost = lost & visible
    for rows in blocks(p.n, ROWS):  # of constant size, so that no row depends on which other rows are lost
        chosen = lost[..., rows.start : rows.stop]
        if bool(xp.any(chosen)):
            again = _Rows(p, rows)
            for keys in blocks(min(rows.stop, p.m) if causal else p.m, COLUMNS):
                again.add(rows, *dense(p, rows, keys))
            every.replace(rows, chosen, again)
    log_scale = xp.where(every.top > -xp.inf, every.top, xp.zeros_like(every.top))
    numerator, denominator = xp.matrix_transpose(every.sums[..., :-1, :]), every.sums[..., -1, :]
    return ToeplitzSums(numerator, denominator, visible, log_scale=log_scale, recomputed=lost)


def _halves(n: int, m: int) -> Iterator[tuple[range, range]]:
    """Yield the rows of each second half with the keys of its first half, for halves of 2048, 4096, ... tokens."""
    size = TOKENS
    while size < n:
        for start in range(0, min(n - size, m), 2 * size):
            middle = start + size
            yield range(middle, min(middle + size, n)), range(start, min(middle, m))
        size *= 2
