"""Attention over a stream: sums of fixed size take in keys and values as they come, and answer queries at any time."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    asarray_like,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
)
from schoenbat_theory.attention.inputs import blocks, check_rows, check_shapes, explain_not_finite, take_rows
from schoenbat_theory.attention.maps import Map, check_radius, maps_of, weigh
from schoenbat_theory.attention.memory import LogState, Memory, fingerprint, read_memory, write_memory
from schoenbat_theory.attention.running import TOKENS, State, part, parts_of_keys, with_ones
from schoenbat_theory.attention.sums import AttentionSums
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.threads import each

__all__ = ["AttentionState"]


class AttentionState:
    r"""Attention over a stream of keys and values, of which sums of fixed size are kept: (..., D, e + 1) numbers.

        S = sum_j w_j phi(k_j) [v_j, 1],    attend(q)_i = N_i / Z_i,    [N_i, Z_i] = phi(q_i) S

    ``phi``  a draw, any callable (..., n, d) -> (..., n, D), or a pair (phi_q, phi_k), as in `feature_attention`

    Update with a token and attend with its query: row t of causal attention, at O(D (d + e)) a token. Update with all
    keys in chunks, then attend with the queries in chunks: attention to all keys, which may lie in a file
    (`numpy.memmap`). Leading axes are those of the first update and of the draw; queries may have more. A refused update
    leaves the state as it was. A finite radius is asked of pairs that meet, not of a query and a later key.

    *Equality.* Both this and `feature_attention` sum m terms in some order, then D. Where phi has the same features for
    both, the results differ, to first order in u, by at most

        2 g sum_j w_j <|phi(q)|, |phi(k_j)|> (|v_j| + |out|) / |Z|,    g = (D + m + 4 R + 12 L + 8) u

    u the unit roundoff, R how often the largest weight so far rose, L the largest |log w_j|, logarithms of features or
    of their scales included (R = L = 0 without any). g grows with m: in float32 chunks err less than single tokens,
    and a sum of 2^24 equal ones, one by one, stops growing.

    *Underflow.* Where both maps have logarithms (``log``, as positive features do), every feature has a scale of its
    own, its largest w_j phi(k_j) so far: no term that matters underflows, and no key need be seen again.

    Source: Katharopoulos et al. (2020), section 3.3, the recurrent form (from memory); scales and weights are not in it.

    >>> import numpy as np
    >>> state = AttentionState(np.exp).update(np.zeros((1, 2)), np.ones((1, 1)))
    >>> state.attend(np.ones((1, 2))), state.update(np.zeros((1, 2)), np.zeros((1, 1))).attend(np.ones((1, 2)))
    (array([[1.]]), array([[0.5]]))
    """

    def __init__(self, phi: Any) -> None:
        self._phi = phi
        self._map_q, self._map_k = maps_of(phi)
        self._kind = LogState if self._map_q.positive and self._map_k.positive else State
        self._bounded = not math.isinf(getattr(self._map_k.phi, "radius", math.inf))
        self._memory: Memory | None = None
        # What was checked last: in a long stream the next token is of the same kind, and not checked again.
        self._keys: tuple[Any, ...] = ()
        self._queries: tuple[Any, ...] = ()

    @property
    def tokens(self) -> int:
        """Number of keys taken in so far, masked ones included."""
        return 0 if self._memory is None else self._memory.tokens

    @np.errstate(all="ignore")  # an overflow is found in the sums
    def update(
        self, k: Array, v: Array, *, key_mask: Array | None = None, key_log_weights: Array | None = None
    ) -> AttentionState:
        """Take in keys ``k`` (..., m, d) and values ``v`` (..., m, e), m >= 0, and return the state itself.

        ``key_mask`` (..., m) booleans, False for a key that is left out, whatever it holds;  ``key_log_weights`` (..., m)

        Raises ``TypeError`` or ``ValueError`` that names the argument: for NaN, infinity, features or sums that
        overflow, and for a library, dtype, width or leading axes other than those of the first update.
        """
        k, v, memory, weights = _plain(k), _plain(v), self._memory, None
        kinds = _kind(k), _kind(v)
        if memory is None or kinds != self._keys or key_mask is not None or key_log_weights is not None:
            memory, weights = self._admit(k, v, key_mask, _plain(key_log_weights))
        self._memory, self._keys = self._taken(memory, k, v, weights) if k.shape[-2] else memory, kinds
        return self

    @np.errstate(all="ignore")
    def attend(self, q: Array) -> Array:
        """Return attention of queries ``q`` (..., n, d) to the keys so far, (..., n, e); zeros in a row that sees none.

        Raises ``ValueError`` before the first update (one with zero keys will do), ``TypeError`` or ``ValueError`` for
        what does not belong to the stream, and ``ArithmeticError`` as `feature_attention` does.
        """
        q = _plain(q)
        if self._memory is None:
            raise ValueError("q: expected an update before, found none: the width of values is not known")
        if _kind(q) != self._queries:
            check_rows(q=q)
            self._memory = memory = self._memory.beside(q=q)
            self._map_q.lead = broadcast_shapes(stream=memory.lead, q=tuple(q.shape[:-2]), draw=self._map_q.shape)
            self._queries = _kind(q)
        xp, memory = namespace(q), self._memory
        if self._bounded:
            check_radius(q, asarray_like([[memory.longest]], q), self._map_k.phi)
        shape = (*self._map_q.lead, q.shape[-2], memory.width)
        if not memory.tokens:
            return xp.zeros(shape, dtype=q.dtype, device=device_of(q))
        out = xp.empty(shape, dtype=q.dtype, device=device_of(q))

        def write(rows: range) -> None:
            out[..., rows.start : rows.stop, :] = self._rows(memory.sums, memory.width, take_rows(q, rows))

        _on_cores(write, blocks(q.shape[-2], TOKENS), self._map_q, q)
        return out

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state, not its maps, to ``path`` as .npz, whole or not at all; ``ValueError`` before the first update."""
        if self._memory is None:
            raise ValueError("path: expected an update before, found none: there is nothing to save")
        write_memory(path, self._memory, fingerprint(self._phi))

    @classmethod
    def load(cls, path: str | os.PathLike[str], phi: Any) -> AttentionState:
        """Read a state that `save` wrote, for the same ``phi``; the next tokens say in which library it lives.

        Raises ``ValueError`` for what is no such archive and for a draw other than that which it was saved with; of a
        callable only D is known.
        """
        state = cls(phi)
        state._memory = memory = read_memory(path, fingerprint(phi), state._kind)
        if memory.sums.matrix is not None:
            state._map_k.width["D"] = memory.sums.matrix.shape[-2]
        return state

    def _admit(self, k: Array, v: Array, mask: Array | None, logs: Array | None) -> tuple[Memory, Array | None]:
        """Return the memory that takes these keys in, a new one where there is none, and their log-weights."""
        lead = check_shapes(k, k, v, ("k", "k"))
        weights = key_weights(k, k.shape[-2], lead, mask, logs)
        shapes = {"weights": () if weights is None else tuple(weights.shape[:-1]), "draw": self._map_k.shape}
        lead = broadcast_shapes(arrays=lead, **shapes)
        memory = self._memory
        if memory is None:
            self._map_k.forget()  # an update that was refused
            for one in (self._map_q, self._map_k):
                if one.drawn and one.phi.dim != k.shape[-1]:
                    found = tuple(k.shape)
                    raise ValueError(f"k: expected rows of {one.phi.dim} entries as {one.name} takes, found {found}")
            self._map_k.lead = lead
            sums = self._kind(k, lead, self._map_k.scaled)
            return Memory(sums, _zeros(k, (0,)), lead, k.shape[-1], v.shape[-1]), weights
        memory = memory.beside(k=k, v=v)
        if broadcast_shapes(stream=memory.lead, update=lead) != memory.lead:
            raise ValueError(f"k, v: expected leading axes {memory.lead} as the first update has, found {lead}")
        self._map_k.lead = memory.lead
        return memory, weights

    def _taken(self, memory: Memory, k: Array, v: Array, weights: Array | None) -> Memory:
        """Return the memory with these keys in it, or raise; where keys are cut depends on their number alone."""
        m, sums = k.shape[-2], copy.copy(memory.sums)
        if weights is not None and sums.top is None:  # so far every key weighed 1
            sums.top = _zeros(k, (*memory.lead, 1)) - (0.0 if memory.tokens else math.inf)
        if sums.top is not None and weights is None and not self._map_k.scaled:
            weights = _zeros(k, (m,))

        def take(columns: range) -> State:
            found = self._kind(k, memory.lead, sums.top is not None) if columns.start else sums
            for rows in blocks(columns, TOKENS):
                w = part(weights, rows)
                x, y = hide(take_rows(k, rows), w), hide(take_rows(v, rows), w)
                phi_k, scale = self._features(self._map_k, k=x)
                if self._kind is State:
                    phi_k, w = weigh(phi_k, scale, w)
                elif w is not None:
                    (_, phi_k), w = weigh(phi_k, phi_k, w[..., None]), None
                found.add(phi_k, with_ones(y, range(len(rows))), w)
            return found

        for other in _on_cores(take, parts_of_keys(m), self._map_k, k)[1:]:
            sums.merge(other)
        if not all_finite(sums.matrix):
            _explain(self._map_k, k=hide(k, weights), v=hide(v, weights))
        longest = max(memory.longest, _longest(k, weights)) if self._bounded else 0.0
        return memory._replace(sums=sums, tokens=memory.tokens + m, longest=longest)

    def _features(self, one: Map, **named: Array) -> tuple[Array, Array | None]:
        """Return the features of a block of tokens and the log scales that they lack; or their logarithms alone."""
        if self._kind is State:
            return one.block(*named.values())
        try:
            return one.log(*named.values()), None
        except ValueError:
            check_finite(**named)  # the map looks too, and knows no name
            raise

    def _rows(self, sums: State, width: int, q: Array) -> Array:
        """Return attention of a block of queries."""
        xp = namespace(q)
        found = sums.read(self._features(self._map_q, q=q)[0], width + 1)
        out = found[..., :-1] / found[..., -1:]
        if all_finite(out, found[..., -1]):  # a denominator of infinity would hide in the ratio
            return out
        if not all_finite(found):
            _explain(self._map_q, q=q)
        visible = None
        if sums.top is not None:
            visible = xp.broadcast_to(xp.any(sums.top > -xp.inf, axis=-1)[..., None], found.shape[:-1])
        return AttentionSums(found[..., :-1], found[..., -1], visible).ratio()


def _plain(x: Any) -> Any:
    """Return a file mapped into memory as the plain array that it is, without a copy."""
    return np.asarray(x) if isinstance(x, np.memmap) else x


def _kind(x: Any) -> tuple[Any, ...]:
    """Return what checks look at besides entries."""
    return type(x), getattr(x, "shape", None), getattr(x, "dtype", None), getattr(x, "device", None)


def _on_cores(work: Callable[[range], Any], pieces: list[range], one: Map, like: Array) -> list[Any]:
    """Return the results for all pieces: on this thread for a callable of unknown habits, and for a single token."""
    return each(work, pieces, like) if one.drawn and like.shape[-2] > 1 else [work(piece) for piece in pieces]


def _zeros(like: Array, shape: tuple[int, ...]) -> Array:
    return namespace(like).zeros(shape, dtype=like.dtype, device=device_of(like))


def _longest(k: Array, weights: Array | None) -> float:
    """Return the length of the longest key."""
    xp = namespace(k)
    some = (hide(take_rows(k, rows), part(weights, rows)) for rows in blocks(k.shape[-2], TOKENS))
    return max(float(xp.sqrt(xp.max(xp.sum(x * x, axis=-1)))) for x in some)


def _explain(one: Map, **named: Array) -> NoReturn:
    """Raise ``ValueError`` for sums that are not finite: an argument, a map that makes NaN, or an overflow."""
    check_finite(**named)
    one.explain_nan(next(iter(named.values())))
    explain_not_finite(**named)
