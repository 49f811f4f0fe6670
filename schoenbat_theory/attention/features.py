"""Attention through a feature map: phi(Q) (phi(K)^T V), the map applied to one block of tokens at a time.

    all keys    the state of each head, sum_j w_j phi(k_j) [v_j, 1], from pieces of the keys; then blocks of queries read it
    causal      blocks of queries read the state of the keys before them while it grows

Heads and pieces are worked on by all cores. Nothing that grows with the sequence is held beside input and output.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from schoenbat_theory.arrays import Array, all_finite, device_of, namespace, require_bool
from schoenbat_theory.attention.inputs import blocks, check_shapes, no_weight, one_head, quotient, take_rows, zero_rows
from schoenbat_theory.attention.maps import Map, explain_sums, open_maps, weigh
from schoenbat_theory.attention.running import (
    TOKENS,
    State,
    add_keys,
    causal_blocks,
    causal_sums,
    merge_states,
    part,
    parts_of_keys,
    row_sums,
    tokens_at_a_time,
)
from schoenbat_theory.attention.sums import AttentionSums, no_room, of_block
from schoenbat_theory.attention.underflow import recompute_lost_rows
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.threads import each

__all__ = ["feature_attention"]

PIECE = 2 * TOKENS  # queries that one core takes at a time


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
    xp, shape = namespace(v), (*map_q.lead, q.shape[-2], v.shape[-1])
    if k.shape[-2] == 0 or 0 in map_q.lead:
        return xp.zeros(shape, dtype=v.dtype, device=device_of(v))
    whole = _Heads(q, k, v, weights, xp.empty(shape, dtype=v.dtype, device=device_of(v)), map_q, map_k)
    heads = whole.apart() if map_q.shape == map_k.shape == () and whole.drawn else [whole]
    found = _causal(heads) if causal else _all_keys(heads)
    if not all(one.finite for one in found):
        explain_sums(q, k, v, map_q, map_k)
    if count := sum(one.zeros for one in found):
        raise no_weight(count)
    if any(one.overflow for one in found):
        raise no_room(v.dtype)
    return whole.out


class _Found(NamedTuple):
    """What a block of rows turned out to be: are its sums finite, which are 0, does their ratio overflow."""

    finite: bool = True
    zeros: int = 0
    overflow: bool = False


class _Heads(NamedTuple):
    """One head of the problem, or all of them where a map wants all at once; ``out`` is written block by block."""

    q: Array
    k: Array
    v: Array
    weights: Array | None
    out: Array
    map_q: Map
    map_k: Map

    @property
    def drawn(self) -> bool:
        """Whether the maps are draws; a callable of unknown habits is asked for all heads at once, on one thread."""
        return self.map_q.drawn and self.map_k.drawn

    @property
    def tokens(self) -> int:
        """Tokens of a block."""
        return tokens_at_a_time(tuple(self.out.shape[:-2])) if self.drawn else TOKENS

    def apart(self) -> list[_Heads]:
        """Return every head alone, as views."""

        def alone(index: tuple[int, ...]) -> _Heads:
            q, k, v, out = (one_head(x, index, 2) for x in (self.q, self.k, self.v, self.out))
            weights = None if self.weights is None else one_head(self.weights, index, 1)
            return self._replace(q=q, k=k, v=v, weights=weights, out=out)

        return [alone(index) for index in itertools.product(*(range(size) for size in self.out.shape[:-2]))]

    def state(self) -> State:
        """Return the state before the first key."""
        return State(self.v, tuple(self.out.shape[:-2]), self.weights is not None or self.map_k.scaled)

    def queries(self, rows: range) -> Array:
        """Return the features of a block of queries."""
        return self.map_q.block(take_rows(self.q, rows))[0]

    def keys(self, columns: range) -> tuple[Array, Array | None]:
        """Return the features of a block of keys, and their log-weights."""
        return weigh(*self.map_k.block(take_rows(self.k, columns)), part(self.weights, columns))

    def write(self, rows: range, sums: AttentionSums, *, causal: bool) -> _Found:
        """Divide a block of sums and write its rows, unless something is wrong with them."""
        if self.map_q.positive and self.map_k.positive and all_finite(sums.denominator, sums.numerator):
            recompute_lost_rows(
                sums,
                lambda r: self.map_q.log(take_rows(self.q, r)),
                lambda r: (self.map_k.log(take_rows(self.k, r)), part(self.weights, r)),
                self.v,
                width=self.map_q.width.get("D", 0),
                causal=causal,
                first=rows.start,
            )
        ratio = quotient(sums.numerator, sums.denominator, sums.visible)
        if all_finite(ratio, sums.denominator):  # a denominator of infinity would hide in the ratio
            self.out[..., rows.start : rows.stop, :] = ratio
            return _Found()
        finite, zeros = all_finite(sums.denominator, sums.numerator), zero_rows(sums.denominator, sums.visible)
        return _Found(finite, zeros, overflow=finite and not zeros)


def _all_keys(heads: list[_Heads]) -> list[_Found]:
    """Attend to all keys: first the states, then the rows."""
    first = heads[0]
    tokens, like = first.tokens, first.v if first.drawn else None
    pieces = parts_of_keys(first.k.shape[-2], tokens, len(heads))

    def keys_of(task: tuple[_Heads, range]) -> State:
        one, columns = task
        return add_keys(one.state(), one.keys, one.v, columns, tokens)

    def rows_of(task: tuple[tuple[_Heads, State], range]) -> list[_Found]:
        (one, state), rows = task
        return [
            one.write(block, of_block(*row_sums(state, one.queries, one.v, block)), causal=False)
            for block in blocks(rows, tokens)
        ]

    parts = iter(each(keys_of, itertools.product(heads, pieces), like))
    states = [merge_states(itertools.islice(parts, len(pieces))) for _ in heads]
    rows = blocks(first.q.shape[-2], PIECE)
    found = each(rows_of, itertools.product(zip(heads, states, strict=True), rows), like)
    return list(itertools.chain.from_iterable(found))


def _causal(heads: list[_Heads]) -> list[_Found]:
    """Attend to the keys so far, one head after another on every core."""

    def rows_of(one: _Heads) -> list[_Found]:
        state = one.state()
        return [
            one.write(block, of_block(*causal_sums(state, one.queries, one.keys, one.v, block)), causal=True)
            for block in causal_blocks(one.q.shape[-2], one.tokens)
        ]

    found = each(rows_of, heads, heads[0].v if heads[0].drawn else None)
    return list(itertools.chain.from_iterable(found))
