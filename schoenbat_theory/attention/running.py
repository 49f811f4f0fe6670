"""Sums over keys as they go: what a head holds while it takes in keys and answers queries, one block of tokens at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from schoenbat_theory.arrays import Array, device_of, namespace
from schoenbat_theory.attention.inputs import blocks, causal_mask

__all__ = [
    "CAUSAL_TOKENS",
    "TOKENS",
    "State",
    "add_keys",
    "causal_blocks",
    "causal_sums",
    "exp_difference",
    "merge_states",
    "part",
    "parts_of_keys",
    "row_sums",
    "tokens_at_a_time",
    "with_ones",
]

TOKENS = 512  # tokens per block: their features, 256 wide in float32, fill half a megabyte
PARTS = 16  # of the keys, for all heads together where they are fewer: the sums of no more are held at a time
CAUSAL_TOKENS = 128  # per part of a causal block: a part of b tokens has b^2 scores besides

Queries = Callable[[range], Array]  # features of a block of queries, (..., b, D)
Keys = Callable[
    [range], tuple[Array, Array | None]
]  # of keys, and their log-weights (..., b), None if nothing is weighted


class State:
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
        self._grow(xp.matrix_transpose(phi_k) @ values)

    def run(self, phi_k: Array, values: Array, log_weights: Array | None) -> tuple[Array, Array | None]:
        """Take in parts of a block, (..., parts, b, ·), one after another; return what was held before each.

        That is the matrices (..., parts, D, e + 1) and, with weights, their tops (..., parts, 1).
        """
        xp, held, tops = namespace(values), [self.matrix], [self.top]
        for i in range(phi_k.shape[-3]):
            self.add(phi_k[..., i, :, :], values[..., i, :, :], None if log_weights is None else log_weights[..., i, :])
            held.append(self.matrix)
            tops.append(self.top)
        if held[0] is None:
            held[0] = xp.zeros_like(self.matrix)
        return xp.stack(held[:-1], axis=-3), None if self.top is None else xp.stack(tops[:-1], axis=-2)

    def merge(self, other: State) -> None:
        """Take in the keys of another state."""
        if other.matrix is None:
            return
        matrix = other.matrix
        if self.top is not None:
            top = namespace(self.top).maximum(self.top, other.top)
            matrix = matrix * exp_difference(other.top, top)[..., None]
            if self.matrix is not None:
                self.matrix = self.matrix * exp_difference(self.top, top)[..., None]
            self.top = top
        self._grow(matrix)

    def _grow(self, new: Array) -> None:
        self.matrix = new if self.matrix is None else self.matrix + new

    def read(self, phi_q: Array, width: int) -> Array:
        """Return the sums for a block of queries, (..., b, width)."""
        xp = namespace(phi_q)
        if self.matrix is None:
            return xp.zeros((*phi_q.shape[:-1], width), dtype=phi_q.dtype, device=device_of(phi_q))
        return phi_q @ self.matrix


@np.errstate(all="ignore")  # an overflow is found in the sums
def add_keys(state: State, features_k: Keys, v: Array, columns: range, tokens: int = TOKENS) -> State:
    """Take some keys into ``state``, ``tokens`` at a time, and return it."""
    for block in blocks(columns, tokens):
        phi_k, weights = features_k(block)
        state.add(phi_k, with_ones(v, block), weights)
    return state


@np.errstate(all="ignore")  # an overflow is found in the sums
def merge_states(states: Iterator[State]) -> State:
    """Return the first of some states with the keys of all others, taken in in their order."""
    first = next(states)
    for other in states:
        first.merge(other)
    return first


@np.errstate(all="ignore")  # an overflow is found in the sums
def row_sums(state: State, features_q: Queries, v: Array, rows: range) -> tuple[Array, Array | None]:
    """Return the sums (..., b, e + 1) of one block of rows over all keys of ``state``, and their log scale (..., 1) if any."""
    return state.read(features_q(rows), v.shape[-1] + 1), state.top


@np.errstate(all="ignore")  # an overflow is found in the sums
def causal_sums(
    state: State, features_q: Queries, features_k: Keys, v: Array, rows: range
) -> tuple[Array, Array | None]:
    """Return the sums of one block of rows over keys j <= i, each divided by exp(log scale of the row), and those scales.

    ``state`` holds the keys before the block, and those of the block too on return. The scale (..., b) is the largest
    log-weight that the row sees; ``None`` if nothing is weighted.
    """
    phi_q, columns = features_q(rows), range(rows.start, min(rows.stop, v.shape[-2]))
    if not columns:
        return state.read(phi_q, v.shape[-1] + 1), state.top
    phi_k, weights = features_k(columns)
    even = len(columns) == len(rows) and len(rows) % CAUSAL_TOKENS == 0
    parts = len(rows) // CAUSAL_TOKENS if even else 1
    phi_q, phi_k, values = (_in_parts(x, parts) for x in (phi_q, phi_k, with_ones(v, columns)))
    if weights is not None:
        weights = _in_parts(weights[..., None], parts)[..., 0]
    before, top = state.run(phi_k, values, weights)
    block, top = _add_triangle(phi_q @ before, top, phi_q, phi_k, values, weights)
    xp, (*lead, _, _, width) = namespace(v), block.shape
    block = xp.reshape(block, (*lead, len(rows), width))
    return block, None if top is None else xp.reshape(top, (*lead, len(rows)))


def causal_blocks(n: int, tokens: int = TOKENS) -> list[range]:
    """Return 0 .. n cut into blocks, of which all but the last consist of whole parts."""
    rest = n % CAUSAL_TOKENS
    return [*blocks(n - rest, tokens), *blocks(range(n - rest, n), CAUSAL_TOKENS)]


def parts_of_keys(m: int, tokens: int = TOKENS, heads: int = 1) -> list[range]:
    """Return 0 .. m, m >= 1, cut for all cores into whole blocks of ``tokens``; where, and so the bits of a sum, no core decides."""
    size = -(-m // max(PARTS // heads, 1))
    return blocks(m, -(-size // tokens) * tokens)


def tokens_at_a_time(lead: tuple[int, ...]) -> int:
    """Return how many tokens of all heads are in a block, so that features of few heads stay in the cache."""
    return max(CAUSAL_TOKENS, TOKENS // max(math.prod(lead), 1) // CAUSAL_TOKENS * CAUSAL_TOKENS)


def _in_parts(x: Array, parts: int) -> Array:
    """Return x (..., b, c) as (..., parts, b / parts, c)."""
    *lead, b, c = x.shape
    return namespace(x).reshape(x, (*lead, parts, b // parts, c))


def _add_triangle(
    block: Array, top: Array | None, phi_q: Array, phi_k: Array, values: Array, log_weights: Array | None
) -> tuple[Array, Array | None]:
    """Add the keys of the part itself, j <= i, to the sums of the keys before it; return sums and row scales."""
    xp = namespace(values)
    seen = causal_mask(values, range(phi_q.shape[-2]), range(phi_k.shape[-2]))
    scores = phi_q @ xp.matrix_transpose(phi_k)
    scores = xp.where(seen, scores, xp.zeros_like(scores))
    if log_weights is None:
        block += scores @ values
        return block, None
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
