"""Exact kernelized attention, the oracle of everything else: quadratic time, linear memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    check_floating,
    device_of,
    namespace,
    require_bool,
)
from schoenbat_theory.attention.inputs import (
    blocks,
    causal_mask,
    check_shapes,
    divide,
    explain_not_finite,
    take_rows,
    toeplitz_block,
)
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.threads import each

__all__ = ["kernel_attention", "pieces"]

ROWS, COLUMNS = 256, 512  # one block of weights: 512 KB in float32


def kernel_attention(
    q: Array,
    k: Array,
    v: Array,
    kernel: str | DotProductKernel,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    log_bias: Array | None = None,
) -> Array:
    r"""Average the values with weights f(<q_i, k_j>), exactly and block by block.

        out_i = sum_j f(<q_i, k_j>) w_ij v_j / sum_j f(<q_i, k_j>) w_ij,    w_ij = exp(key_log_weights_j + bias_{j-i})

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given; softmax attention of an encoder is
                         q / d**0.25, k / d**0.25 with "exp"
    ``kernel``           name or `DotProductKernel`
    ``causal``           query i sees keys j <= i
    ``key_mask``         (..., m) booleans, True = the key is used; masked keys and values are never looked at
    ``key_log_weights``  (..., m), -inf masks; only differences matter, so that 1e308 on every key is no weight at all
    ``log_bias``         (..., n + m - 1), entry j - i + n - 1 for key j and query i
    returns              (..., n, e), same library, device and dtype; a row that sees no key is zeros

    Kernels that are exponentials are summed with a running maximum and cannot overflow; the largest weight and bias
    of a row so far is taken off first, without looking at keys that the row does not see. Raises ``TypeError`` or
    ``ValueError`` for wrong input (shape, dtype, NaN, an inner product beyond the radius or at a pole)
    and ``ArithmeticError`` where weights sum to exactly 0. Never holds n x m numbers; those of NumPy are worked on by all
    cores, with the same bits for any number of them.

    Source: kernelized attention as in arXiv:2505.12252; the blocks and the running maximum are not in the source.

    >>> import numpy as np
    >>> kernel_attention(np.eye(2), np.eye(2), np.array([[1.0], [0.0]]), "exp").round(3)
    array([[0.731],
           [0.269]])
    """
    kernel = get_kernel(kernel)
    lead = check_shapes(q, k, v)
    n, m = q.shape[-2], k.shape[-2]
    causal = require_bool("causal", causal)
    log_weights = key_weights(k, m, lead, key_mask, key_log_weights)
    k, v = hide(k, log_weights), hide(v, log_weights)
    check_finite(q=q, k=k, v=v)
    if log_bias is not None:
        check_floating(q=q, log_bias=log_bias)
        check_finite(log_bias=log_bias)
        if log_bias.ndim < 1 or log_bias.shape[-1] != max(n + m - 1, 0):
            raise ValueError(f"log_bias: expected (..., {max(n + m - 1, 0)}), found {tuple(log_bias.shape)}")
        lead = broadcast_shapes(arrays=lead, log_bias=tuple(log_bias.shape[:-1]))
    if log_weights is not None:
        lead = broadcast_shapes(arrays=lead, weights=tuple(log_weights.shape[:-1]))
    xp, sure = namespace(q), _cannot_overflow(q, k, kernel)
    out = xp.empty((*lead, n, v.shape[-1]), dtype=q.dtype, device=device_of(q))
    x, y, z = (xp.broadcast_to(one, (*lead, *one.shape[-2:])) for one in (q, k, v))
    beside = [None if one is None else xp.broadcast_to(one, (*lead, one.shape[-1])) for one in (log_weights, log_bias)]

    def work(piece: tuple[tuple[Any, ...], range]) -> None:
        item, rows = piece
        its = (None if one is None else one[item] for one in beside)
        part = _rows(x[item], y[item], z[item], kernel, rows, causal, sure, *its)
        out[(*item, slice(rows.start, rows.stop), slice(None))] = part

    each(work, pieces(lead, n, q), q)
    if not all_finite(out):
        explain_not_finite(q=q, k=k, v=v)
    return out


def pieces(lead: tuple[int, ...], n: int, like: Array) -> list[tuple[tuple[Any, ...], range]]:
    """Return indices of leading axes and blocks of rows that are worked on at a time.

    Items of NumPy are taken one by one, as their cores share them; other libraries take all in the same calls.
    """
    items: list[tuple[Any, ...]] = list(np.ndindex(*lead)) if isinstance(like, np.ndarray) else [(...,)]
    return list(itertools.product(items, blocks(n, ROWS)))


@np.errstate(all="ignore")
def _cannot_overflow(q: Array, k: Array, kernel: DotProductKernel) -> bool:
    """Whether no inner product, nor the exponent of the kernel that is made of it, can overflow."""
    xp = namespace(q)
    if 0 in (*q.shape, *k.shape):
        return True
    slope = 1.0 if kernel.log_slope is None else max(1.0, abs(kernel.log_slope))
    return all_finite(2 * slope * q.shape[-1] * xp.max(xp.abs(q)) * xp.max(xp.abs(k)))


@np.errstate(all="ignore")  # an overflow is found in the inner products or in the result
def _rows(
    q: Array,
    k: Array,
    v: Array,
    kernel: DotProductKernel,
    rows: range,
    causal: bool,
    sure: bool,
    log_weights: Array | None,
    log_bias: Array | None,
) -> Array:
    """Attention of one block of queries, key block after key block, rescaled to a running maximum; ``sure``: no overflow."""
    xp, n = namespace(q), q.shape[-2]
    q = take_rows(q, rows)
    total, norm = 0.0, 0.0  # sum of w v, sum of w
    # Largest log factor and, that taken off, largest exponent so far. A factor of exp(1e308) would swallow the kernel.
    shift, top = -math.inf, -math.inf
    for columns in blocks(k.shape[-2], COLUMNS):
        if causal and columns.start >= rows.stop:
            break
        k_block = k[..., columns.start : columns.stop, :]
        t = q @ xp.matrix_transpose(k_block)  # (..., rows, columns)
        if not (
            sure or all_finite(t if kernel.log_slope is None else kernel.log_slope * t)
        ):  # -inf would have no weight
            raise ValueError(f"q, k: finite, but an inner product overflows {t.dtype}; scale down or use float64")
        seen = causal_mask(q, rows, columns) if causal and columns.stop > rows.start + 1 else None
        if seen is not None:  # a key that is not seen may lie beyond the radius
            t = xp.where(seen, t, xp.zeros_like(t))
        weights, exponent = _split(kernel, kernel.clip(t, q.shape[-1]))
        if not (log_weights is None and log_bias is None and not causal):
            factor = _log_factor(log_weights, log_bias, seen, rows, columns, n, like=t)
            new_shift = xp.maximum(xp.max(factor, axis=-1, keepdims=True), xp.zeros_like(factor[..., :1]) + shift)
            finite_shift = xp.where(new_shift > -xp.inf, new_shift, xp.zeros_like(new_shift))
            exponent = exponent + (factor - finite_shift)
            top, shift = top + (shift - finite_shift), new_shift
        if not isinstance(exponent, float):
            new_top = xp.maximum(xp.max(exponent, axis=-1, keepdims=True), xp.zeros_like(t[..., :1]) + top)
            finite_top = xp.where(new_top > -xp.inf, new_top, xp.zeros_like(new_top))
            if isinstance(weights, float):
                exponent -= finite_top
                weights = xp.exp(exponent)
            else:  # one exponent for all rows
                weights = weights * xp.exp(exponent - finite_top)
            rescale = xp.exp(top - finite_top)
            total, norm, top = total * rescale, norm * rescale, new_top
        total = total + weights @ v[..., columns.start : columns.stop, :]
        norm = norm + xp.sum(weights, axis=-1, keepdims=True)
    if isinstance(total, float):  # there are no keys at all
        return xp.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=device_of(q))
    visible = None if isinstance(top, float) else xp.broadcast_to((top > -xp.inf)[..., 0], norm.shape[:-1])
    return divide(total, norm[..., 0], visible)


def _split(kernel: DotProductKernel, t: Array) -> tuple[Array, Array]:
    """Return (weights, exponent) with f(t) = weights exp(exponent)."""
    if kernel.log_slope is not None:
        return 1.0, t if kernel.log_slope == 1 else kernel.log_slope * t
    return kernel(t), 0.0


def _log_factor(
    log_weights: Array | None,
    log_bias: Array | None,
    seen: Array | None,
    rows: range,
    columns: range,
    n: int,
    *,
    like: Array,
) -> Array:
    """Return the log of what multiplies the kernel, (..., rows or 1, columns), -inf at keys not seen."""
    xp = namespace(like)
    factor = xp.zeros_like(like[..., :1, :])
    if log_weights is not None:
        factor = log_weights[..., None, columns.start : columns.stop]
    if log_bias is not None:
        hidden = (factor == -xp.inf) if seen is None else (factor == -xp.inf) | ~seen
        factor = factor + toeplitz_block(log_bias, rows, columns, n)
        # An infinite sum of finite numbers would pass for a masked key.
        if not bool(xp.all(xp.isfinite(factor) | hidden)):
            raise ValueError(f"log_bias, key_log_weights: finite, but their sum overflows {factor.dtype}")
    return factor if seen is None else xp.where(seen, factor, xp.zeros_like(factor) - xp.inf)
