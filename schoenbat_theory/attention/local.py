"""Local expansions: clusters of queries, each with the keys that matter to it exactly and the others as blocks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
    require_int,
)
from schoenbat_theory.attention.clusters import gather, rounded_up
from schoenbat_theory.attention.expansion import Keys, Sizes, attend, fit, square_radii
from schoenbat_theory.attention.inputs import blocks, check_shapes, explain_not_finite
from schoenbat_theory.features.weights import hide, key_weights, top_off
from schoenbat_theory.threads import each

__all__ = ["LocalBudget", "doubted_local_attention", "local_attention"]


@dataclass(frozen=True)
class LocalBudget:
    r"""How fine the local expansions of attention are.

    ``clusters``  of queries, of one size, rounded up to 2^a 3^b; as many as queries, or more, make attention exact
    ``blocks``    of keys, of one size, rounded up likewise; as many as keys, or more, make it exact
    ``exact``     keys that each cluster treats exactly, rounded up to runs of neighbours where keys are many; all: exact

    Numbers are rounded where they are used, because clusters and blocks are cut into halves and thirds again and again.
    Raises ``TypeError`` or ``ValueError`` unless clusters and blocks are at least 1, and exact at least 0.

    >>> LocalBudget.for_length(512, 512)
    LocalBudget(clusters=64, blocks=64, exact=128)
    """

    clusters: int
    blocks: int
    exact: int

    def __post_init__(self) -> None:
        for name, minimum in (("clusters", 1), ("blocks", 1), ("exact", 0)):
            object.__setattr__(self, name, require_int(name, getattr(self, name), minimum))

    @classmethod
    def for_length(cls, n: int, m: int) -> LocalBudget:
        r"""Return the default for ``n`` queries and ``m`` keys, with which the cost of a query grows as sqrt(m).

            blocks = sqrt(8 m),    exact = 2 blocks,    clusters = n sqrt(8 / m),    rounded up to 2^a 3^b

        The constant 8 makes the cost at 512 tokens and d = e = 32 that of 256 random features, fit included.

        >>> LocalBudget.for_length(16384, 16384)
        LocalBudget(clusters=384, blocks=384, exact=768)
        """
        n, m = require_int("n", n, 0), require_int("m", m, 0)
        clusters, count = (max(math.ceil(x), 1) for x in (n * math.sqrt(8 / max(m, 1)), math.sqrt(8 * m)))
        return cls(rounded_up(clusters), rounded_up(count), 2 * rounded_up(count))

    def multiply_adds(self, n: int, m: int, d: int, e: int) -> float:
        r"""Return what a query costs, in multiply-adds, the fit included: a product, a sum, an exponential is one each.

        ``n``, ``m``   queries and keys, which share the cost of the fit and of the clusters
        ``d``, ``e``   widths of keys and of values

            (exact + blocks) (d + e + 4) + 5 d + e                            for each query
            [m (2 d + e + 5) + blocks (d + e + 2)] / n                        for each cluster
            [cutting queries into clusters and keys into blocks + m d (d + 4)] / n

        with the numbers that are executed, which fill up clusters, blocks and runs. Comparisons are left out.

        >>> round(LocalBudget.for_length(512, 512).multiply_adds(512, 512, 32, 32))
        25819
        """
        if min(n, m) == 0:
            return 0.0
        return self.sizes(n, m).multiply_adds(d, e) / n

    def sizes(self, n: int, m: int) -> Sizes:
        """Return the sizes of arrays for ``n`` queries and ``m`` keys, at least one of each."""
        return Sizes.of(self.clusters, self.blocks, self.exact, n, m)


def local_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    budget: LocalBudget | None = None,
) -> Array:
    r"""Approximate attention with the kernel exp: each cluster of queries looks closely at the keys that it attends to.

        out = [sum_(j in T) w_j e^<x, k_j> v_j + sum_b W_b e^<x, m_b> v_b] / [the same with every v = 1],
        x = q - c,  w_j = e^<c, k_j> (times the weight of the key),  W_b = sum_(j in b) w_j,  m_b, v_b = means with weights w_j

    of each cluster with mean c, its exact keys T and the blocks b of all others. It is attention in which e^<x, k_j>
    of a key that is not in T is replaced by e^<x, m_b>; nothing else is inexact. So every weight is positive, the
    output lies in the convex hull of the values and is linear in them, and the error vanishes with the size of
    z_j = <x, k_j - m_b>, which by the choice of m_b has mean 0 in every block (P42).

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given, as in `kernel_attention`
    ``key_mask``, ``key_log_weights``   (..., m), as in `kernel_attention`
    ``budget``  `LocalBudget`; ``None``: `LocalBudget.for_length`
    returns     (..., n, e), same library, device and dtype; zeros where every key is masked

    T are the keys with the largest w_j E z_j^2, in runs of neighbours where m is large, E over a sample of all queries.
    Clusters and blocks are cut by `equal_clusters`; nothing is random, but which tokens are sampled and which fill up
    depends on their order. Each head is fitted on its own, from all its queries and keys, so that there is no causal form: a
    later token would change the clusters of earlier ones. Values are not looked at: where one value alone counts, a mean
    may err less. Logarithms of weights err by about u |c| |k|: a query that is huge costs its cluster digits.
    Unlike maps of features it is worth its cost on sharp heads; where attention is nearly uniform, features are cheaper.
    Never holds n x m numbers. Raises ``TypeError`` or ``ValueError`` for wrong input, as `kernel_attention` does.

    Source: not in the sources seen.

    >>> import numpy as np
    >>> local_attention(np.eye(2), np.eye(2), np.array([[1.0], [0.0]])).round(3)  # so few tokens are treated exactly
    array([[0.731],
           [0.269]])
    """
    return _local(q, k, v, key_mask, key_log_weights, budget, doubted=False)


def doubted_local_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    budget: LocalBudget | None = None,
) -> tuple[Array, Array]:
    r"""Return `local_attention`, (..., n, e), and how much each row is to be doubted, (..., n), of which only the order counts.

        doubt = |x|^2 sum_b p_b E_b |k_j - m_b|^2,    p_b the weight that the row gives to block b

    This is the share of the row that is not exact times the mean of z^2 there, the direction of z left out: what the
    leading error grows with (P42). On sharp heads most of the error sits in a few rows, and these are nearly always among
    those of the largest doubt. It takes 2 d + blocks multiply-adds per query more.
    """
    out = _local(q, k, v, key_mask, key_log_weights, budget, doubted=True)
    return out[..., :-1], out[..., -1]


def _local(
    q: Array,
    k: Array,
    v: Array,
    key_mask: Array | None,
    key_log_weights: Array | None,
    budget: LocalBudget | None,
    *,
    doubted: bool,
) -> Array:
    """Return local attention, (..., n, e), with the doubts as a last column where they are asked for."""
    lead = check_shapes(q, k, v)
    if budget is not None and not isinstance(budget, LocalBudget):
        raise TypeError(f"budget: expected a LocalBudget or None, found {budget!r:.60}")
    xp, (n, d), (m, e) = namespace(q), q.shape[-2:], v.shape[-2:]
    weights = key_weights(k, m, lead, key_mask, key_log_weights)
    k, v = hide(k, weights), hide(v, weights)
    check_finite(q=q, k=k, v=v)
    zeros = xp.zeros((m,), dtype=q.dtype, device=device_of(q))
    weights = zeros if weights is None else top_off(weights)
    lead = broadcast_shapes(arrays=lead, weights=tuple(weights.shape[:-1]))
    heads = math.prod(lead)
    if heads * n * m == 0:
        return xp.zeros((*lead, n, e + doubted), dtype=q.dtype, device=device_of(q))
    # No inner product is larger, of a query with a key or of what is left of one with the mean of a block.
    with np.errstate(over="ignore"):
        largest = 4 * d * xp.max(xp.abs(q)) * xp.max(xp.abs(k))
    if not all_finite(largest):
        raise ValueError(f"q, k: finite, but an inner product may overflow {q.dtype}; scale down or use float64")
    sizes = (budget or LocalBudget.for_length(n, m)).sizes(n, m)
    q, k, v = (xp.reshape(xp.broadcast_to(x, (*lead, *x.shape[-2:])), (heads, *x.shape[-2:])) for x in (q, k, v))
    weights = xp.reshape(xp.broadcast_to(weights, (*lead, m)), (heads, m))
    fits = each(
        lambda some: _fitted(q[some, ...], k[some, ...], v[some, ...], weights[some, ...], sizes, doubted),
        _together(q),
        q,
    )
    heads_of = [one for group in fits for one in group]
    found = xp.empty((heads, sizes.clusters * sizes.tile, e + doubted), dtype=q.dtype, device=device_of(q))

    def work(task: tuple[int, range]) -> None:
        head, some = task
        one = heads_of[head]
        part = attend(one.tiles[some.start : some.stop, ...], one.keys, sizes, one.radii)
        found[head, some.start * sizes.tile : some.stop * sizes.tile, :] = xp.reshape(part, (-1, e + doubted))

    each(work, itertools.product(range(heads), blocks(sizes.clusters, sizes.at_once(d + e))), q)
    out = xp.empty((heads, n, e + doubted), dtype=q.dtype, device=device_of(q))

    def unsort(head: int) -> None:
        out[head, ...] = xp.take(found[head, ...], heads_of[head].places, axis=0)

    each(unsort, range(heads), q)
    if not all_finite(out[..., :e]):
        explain_not_finite(q=q, k=k, v=v)
    return xp.reshape(out, (*lead, n, e + doubted))


class _Head(NamedTuple):
    """One head, fitted."""

    tiles: Array  # (clusters, tile, d): its queries by clusters
    places: Array  # (n,): where each query is among them
    keys: Keys
    radii: Array | None  # of blocks, where rows are to be doubted


def _fitted(q: Array, k: Array, v: Array, weights: Array, sizes: Sizes, doubted: bool) -> list[_Head]:
    """Fit some heads, each on its own."""
    xp, (heads, n, d) = namespace(q), q.shape
    rows, keys = fit(q, k, v, weights, sizes)
    tiles = gather(q, rows % n)
    places = xp.argsort(xp.reshape(rows, (heads, -1)), axis=-1)[:, :n]
    found = []
    for head in range(heads):
        its_keys = Keys(*(x[head, ...] for x in keys))
        radii = square_radii(its_keys, d, sizes) if doubted else None
        found.append(_Head(tiles[head, ...], places[head, ...], its_keys, radii))
    return found


def _together(q: Array) -> list[slice]:
    """Return which of the heads are fitted together: each alone where threads share them, else all in the same calls."""
    heads = q.shape[0]
    return [slice(i, i + 1) for i in range(heads)] if isinstance(q, np.ndarray) else [slice(0, heads)]
