"""Sums of attention with relative positions over one rectangle of rows and keys: by FFT, or densely."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schoenbat_theory.arrays import Array, broadcast_shapes, device_of, namespace
from schoenbat_theory.attention.fft import ToeplitzProduct, length
from schoenbat_theory.attention.inputs import blocks, causal_mask, toeplitz_block
from schoenbat_theory.attention.running import exp_difference, with_ones

__all__ = ["Problem", "dense", "transformed"]

NUMBERS = 1 << 18  # in one block of columns, 2 MB in float64: a transform finds in the cache what the last one left


@dataclass(frozen=True, eq=False)
class Problem:
    """Features, values with a row of ones (tokens along the last axis), log-factors, and leading axes of the result."""

    phi_q: Array  # (..., n, D)
    phi_k: Array  # (..., m, D)
    values: Array  # (..., e + 1, m)
    log_bias: Array  # (..., n + m - 1)
    log_weights: Array | None  # (..., m), -inf: the key is not used
    causal: bool
    lead: tuple[int, ...]

    @property
    def n(self) -> int:
        """The number of queries."""
        return int(self.phi_q.shape[-2])

    @property
    def m(self) -> int:
        """The number of keys."""
        return int(self.phi_k.shape[-2])

    def visible(self) -> Array | None:
        """Return (..., n), which queries see a key; ``None``: all do."""
        xp, device = namespace(self.values), device_of(self.values)
        if self.m == 0:
            return xp.zeros((*self.lead, self.n), dtype=xp.bool, device=device)
        if self.log_weights is None:
            return None
        last = xp.arange(self.n, device=device) if self.causal else xp.full((self.n,), self.m - 1, device=device)
        place = xp.arange(self.m, device=device)
        first = xp.min(xp.where(self.log_weights > -xp.inf, place, place + self.n + self.m), axis=-1, keepdims=True)
        return xp.broadcast_to(first <= last, (*self.lead, self.n))

    @classmethod
    def of(
        cls, phi_q: Array, phi_k: Array, v: Array, log_bias: Array, log_weights: Array | None, causal: bool
    ) -> Problem:
        """Return the problem for values ``v`` (..., m, e); leading axes of the weights are among those of the rest."""
        shapes = {"phi_q": phi_q.shape[:-2], "phi_k": phi_k.shape[:-2], "v": v.shape[:-2], "bias": log_bias.shape[:-1]}
        lead = broadcast_shapes(**{name: tuple(shape) for name, shape in shapes.items()})
        values = _columns(with_ones(v, range(v.shape[-2])), range(v.shape[-2]), range(v.shape[-1] + 1))
        return cls(phi_q, phi_k, values, log_bias, log_weights, causal, lead)


def transformed(p: Problem, rows: range, keys: range) -> tuple[Array, Array, Array]:
    """Return sums over ``keys`` by FFT (..., e + 1, rows), estimated errors (..., rows), log-scale (..., 1)."""
    xp, values = namespace(p.values), p.values[..., keys.start : keys.stop]
    bias = p.log_bias[..., keys.start - rows.stop + p.n : keys.stop - rows.start + p.n - 1]
    top = xp.max(bias, axis=-1, keepdims=True)
    toeplitz = ToeplitzProduct(xp.exp(bias - top)[..., None, None, :], len(keys))
    if p.log_weights is not None:
        weights = p.log_weights[..., keys.start : keys.stop]
        heaviest = xp.max(weights, axis=-1, keepdims=True)
        values, top = values * exp_difference(weights, heaviest)[..., None, :], top + heaviest
    width, total = values.shape[-2], p.phi_q.shape[-1]
    room = max(NUMBERS // (toeplitz.size * max(math.prod(p.lead), 1)), 1)
    sums = xp.zeros((*p.lead, width, len(rows)), dtype=values.dtype, device=device_of(values))
    error = xp.zeros_like(sums[..., 0, :])
    tiny = float(xp.finfo(sums.dtype).smallest_normal)  # below it features have few digits, and queries may be large
    for features in blocks(total, max(room // width, 1)):
        left, right = _columns(p.phi_q, rows, features), _columns(p.phi_k, keys, features)
        for some in blocks(width, room):
            y = toeplitz(right[..., None, :] * values[..., None, some.start : some.stop, :])
            sums[..., some.start : some.stop, :] += xp.sum(left[..., None, :] * y, axis=-3)
        sizes = length(right * values[..., -1:, :]) * toeplitz.rounding[..., 0] + tiny
        error += xp.sum(xp.abs(left) * sizes[..., None], axis=-2)
    return sums, error, top


def dense(p: Problem, rows: range, keys: range) -> tuple[Array, float, Array]:
    """Return sums over ``keys`` by matrix products (..., e + 1, rows), 0 for the error, log-scales (..., rows)."""
    xp = namespace(p.values)
    phi_q, phi_k = p.phi_q[..., rows.start : rows.stop, :], p.phi_k[..., keys.start : keys.stop, :]
    scores = phi_q @ xp.matrix_transpose(phi_k)
    factor = toeplitz_block(p.log_bias, rows, keys, p.n)
    if p.log_weights is not None:
        factor = factor + p.log_weights[..., None, keys.start : keys.stop]
    if p.causal:
        factor = xp.where(causal_mask(factor, rows, keys), factor, xp.zeros_like(factor) - xp.inf)
    top = xp.max(factor, axis=-1)
    weights = xp.where(factor > -xp.inf, scores * exp_difference(factor, top[..., None]), xp.zeros_like(scores))
    return p.values[..., keys.start : keys.stop] @ xp.matrix_transpose(weights), 0.0, top


def _columns(phi: Array, tokens: range, features: range) -> Array:
    """Return features (..., features, tokens), each in one piece of memory."""
    xp = namespace(phi)
    out = xp.empty((*phi.shape[:-2], len(features), len(tokens)), dtype=phi.dtype, device=device_of(phi))
    out[...] = xp.matrix_transpose(phi[..., tokens.start : tokens.stop, features.start : features.stop])
    return out
