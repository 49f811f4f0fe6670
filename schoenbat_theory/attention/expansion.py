"""The two steps of local expansions: queries and keys are sorted into clusters; each cluster attends."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array, device_of, namespace
from schoenbat_theory.attention.clusters import (
    covariance,
    equal_clusters,
    fit_multiply_adds,
    gather,
    largest,
    rounded_up,
)
from schoenbat_theory.attention.inputs import blocks

__all__ = ["Keys", "Sizes", "attend", "fit", "square_radii"]

NUMBERS = 1 << 19  # in each array while blocks are weighed: 2 MB in float32
CACHED = 1 << 17  # in each array while queries attend, which are gone through again and again: 512 KB
CANDIDATES = 4  # runs of keys among which one is chosen


class Sizes(NamedTuple):
    """The sizes of a problem, all rectangular: the first queries and keys fill up, the keys without any weight."""

    clusters: int
    tile: int  # queries of a cluster
    blocks: int
    runs: int  # of a block
    run: int  # keys of a run
    chosen: int  # runs that a cluster treats exactly

    @classmethod
    def of(cls, clusters: int, blocks: int, exact: int, n: int, m: int) -> Sizes:
        """Return the sizes for ``n`` queries and ``m`` keys, at least one of each."""
        clusters, blocks = min(rounded_up(clusters), n), min(rounded_up(blocks), m)
        run = max(1, min(m // blocks, m // (CANDIDATES * max(exact, 1))))
        runs = -(-m // (blocks * run))
        return cls(clusters, -(-n // clusters), blocks, runs, run, min(-(-exact // run), blocks * runs))

    @property
    def length(self) -> int:
        """Keys, with those that fill up."""
        return self.blocks * self.runs * self.run

    @property
    def parts(self) -> tuple[int, ...]:
        """How keys are cut: into blocks, and these into runs unless every key is one."""
        return (self.blocks, self.runs) if self.run > 1 else (self.blocks,)

    @property
    def treated(self) -> int:
        """Weights of a row: exact keys and blocks."""
        return self.chosen * self.run + self.blocks

    def at_once(self, width: int) -> int:
        """Return for how many clusters blocks are weighed at once, ``width`` that of keys and values together."""
        return max(1, NUMBERS // max(self.length, self.blocks * width))

    def in_cache(self, width: int) -> int:
        """Return how many clusters attend at once."""
        return max(1, CACHED // (self.treated * max(width, self.tile)))

    def multiply_adds(self, d: int, e: int) -> float:
        """Return what one head costs, in multiply-adds: the sum of what `fit` and `attend` do, comparisons left out."""
        queries = self.clusters * self.tile
        rows = queries * (5 * d + e + self.treated * (d + e + 4))  # scale, two centres; product, shift, exp, sum, value
        weights = self.clusters * self.length * (2 * d + e + 5)  # products, score, shift, exp; sums of the blocks
        means = self.clusters * self.blocks * (d + e + 2)
        cuts = fit_multiply_adds(queries, d, self.clusters) + fit_multiply_adds(self.length, d, *self.parts)
        return rows + weights + means + cuts + self.length * d * (d + 4)  # the last: the spread of keys


class Keys(NamedTuple):
    """Keys in the order of their blocks, (heads, ...) or, of one head, without."""

    rows: Array  # (length, 1 + d + e + 1): log-weight, the largest 0, then key, value and one
    turned: Array  # (1 + d, length): log-weight and key again, which a product with few rows is faster with
    log_spread: Array  # (length,): log E z^2 but for a constant, z = <query - its cluster, key - its block>


def fit(q: Array, k: Array, v: Array, log_weights: Array, sizes: Sizes) -> tuple[Array, Keys]:
    """Return which query (heads, clusters, tile) is where, those from n on standing for the first, and the keys.

    ``q`` (heads, n, d), ``k`` (heads, m, d), ``v`` (heads, m, e), ``log_weights`` (heads, m), the largest 0
    """
    xp, heads = namespace(q), q.shape[0]
    seen = log_weights > -xp.inf
    nothing = xp.full((heads, sizes.length - k.shape[-2]), -xp.inf, dtype=q.dtype, device=device_of(q))
    log_weights = xp.concat([log_weights, nothing], axis=-1)[..., None]
    k, v = _filled(k, sizes.length), _filled(v, sizes.length)

    queries = _filled(_scaled(q), sizes.clusters * sizes.tile)
    keys = _scaled(_without_hidden(k, _filled(seen[..., None], sizes.length)))
    rows = equal_clusters(queries, covariance(keys), sizes.clusters)
    tiles = gather(queries, rows)
    rest = covariance(xp.reshape(tiles - xp.mean(tiles, axis=-2, keepdims=True), queries.shape))
    order = xp.reshape(equal_clusters(keys, rest, *sizes.parts), (heads, sizes.blocks, -1))
    z = gather(keys, order)
    z = xp.reshape(z - xp.mean(z, axis=-2, keepdims=True), keys.shape)
    spread = xp.vecdot(z @ rest, z)
    smallest = float(xp.finfo(q.dtype).smallest_normal)  # rounding may leave less than nothing
    log_spread = xp.log(xp.maximum(spread, xp.full_like(spread, smallest)))
    table = xp.concat([log_weights, k, v, xp.ones_like(log_weights)], axis=-1)
    table = gather(table, xp.reshape(order, (heads, -1)))
    turned = xp.matrix_transpose(table[..., : q.shape[-1] + 1]) + 0  # a copy
    return rows, Keys(table, turned, log_spread)


@np.errstate(all="ignore")  # an overflow is found in the output
def attend(queries: Array, keys: Keys, sizes: Sizes, radii: Array | None = None) -> Array:
    """Return the attention (c, tile, e) of clusters of queries (c, tile, d) to the keys of one head.

    With the ``radii`` of blocks (blocks,) a last column holds what a query's error grows with: |x|^2 sum_b pi_b radius_b,
    pi_b the weight of a block. It is the variance of <x, k_j - m_b> that the weights leave out, but for its direction.
    """
    xp, (clusters, tile, d), width = namespace(queries), queries.shape, keys.rows.shape[-1]
    centre = xp.mean(queries, axis=-2, keepdims=True)
    logs = _after_one(centre)[:, 0, :] @ keys.turned  # of the weights w_j, (c, length)
    scores = xp.reshape(logs + keys.log_spread, (clusters, -1, sizes.run))
    scores = functools.reduce(xp.maximum, (scores[..., i] for i in range(sizes.run)))  # of short rows, faster than max
    index, chosen = largest(scores, sizes.chosen)
    logs = xp.reshape(logs, (clusters, -1, sizes.run))
    exact = xp.reshape(gather(logs, index), (clusters, -1))
    nothing = xp.where(chosen, xp.full_like(scores, -xp.inf), xp.zeros_like(scores))
    for i in range(sizes.run):
        logs[..., i] += nothing
    means = _block_means(xp.reshape(logs, (clusters, sizes.blocks, -1)), keys.rows)

    x, n_exact = queries - centre, exact.shape[-1]
    after_one = _after_one(x)
    out = xp.empty((clusters, tile, width - d - 2), dtype=x.dtype, device=device_of(x))
    beyond = xp.empty((clusters, tile, 1), dtype=x.dtype, device=device_of(x))
    for some in blocks(clusters, sizes.in_cache(width)):
        part = (slice(some.start, some.stop), ...)
        near = xp.empty((len(some), sizes.treated, width), dtype=x.dtype, device=device_of(x))
        near[:, :n_exact, :] = _runs(keys.rows, index[part], sizes.run)
        near[:, :n_exact, 0] = exact[part]
        near[:, n_exact:, :] = means[part]
        weights = after_one[part] @ xp.matrix_transpose(near[..., : d + 1])  # their logarithms, (c, tile, treated)
        weights = _exp(weights, xp.max(weights, axis=-1))
        sums = weights @ near[..., d + 1 :]
        total = xp.where(sums[..., -1:] > 0, sums[..., -1:], xp.ones_like(sums[..., -1:]))
        out[part] = sums[..., :-1] / total
        if radii is not None:
            beyond[part] = weights[..., -sizes.blocks :] @ radii[:, None] / total
    return out if radii is None else xp.concat([out, xp.sum(x * x, axis=-1, keepdims=True) * beyond], axis=-1)


def square_radii(keys: Keys, d: int, sizes: Sizes) -> Array:
    """Return the mean squared distance of the keys of each block to their mean, (blocks,), but for a constant."""
    k = keys.rows[:, 1 : d + 1]
    xp, of_blocks = namespace(k), (sizes.blocks, -1, d)
    z = xp.reshape(k, of_blocks)
    z = _scaled(xp.reshape(z - xp.mean(z, axis=-2, keepdims=True), (1, *k.shape)))
    return xp.mean(xp.sum(xp.reshape(z * z, of_blocks), axis=-1), axis=-1)


def _after_one(x: Array) -> Array:
    """Return rows x with a one before each, beside which the log-weight of a key is one more coordinate."""
    xp = namespace(x)
    return xp.concat([xp.ones_like(x[..., :1]), x], axis=-1)


def _block_means(logs: Array, rows: Array) -> Array:
    """Return a row for each block, (c, blocks, width): log of its mass, weighted means of keys and of values, one."""
    xp = namespace(logs)
    top = xp.max(logs, axis=-1)  # taken off for each block, so that none underflows beside another
    weights = xp.permute_dims(_exp(logs, top), (1, 0, 2))
    sums = weights @ xp.reshape(rows, (logs.shape[1], -1, rows.shape[-1]))[..., 1:]
    sums = xp.permute_dims(sums, (1, 0, 2))
    mass = xp.where(top > -xp.inf, sums[..., -1], xp.ones_like(top))
    found = xp.empty((*top.shape, rows.shape[-1]), dtype=rows.dtype, device=device_of(rows))
    found[..., 0] = top + xp.log(mass)
    found[..., 1:] = sums
    found[..., 1:] /= mass[..., None]
    found[..., -1] = 1.0
    return found


def _exp(logs: Array, top: Array) -> Array:
    """Return exp(logs - top) of rows, zeros where top is -inf, in the place of ``logs`` as far as a library can."""
    xp = namespace(logs)
    logs -= xp.where(top > -xp.inf, top, xp.zeros_like(top))[..., None]
    return xp.exp(logs)


def _runs(x: Array, index: Array, run: int) -> Array:
    """Return the runs ``index`` (c, chosen) of x (length, w), (c, chosen run, w)."""
    xp, width = namespace(x), x.shape[-1]
    found = xp.take(xp.reshape(x, (-1, run * width)), xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(found, (index.shape[0], -1, width))


def _filled(x: Array, rows: int) -> Array:
    """Return x (h, n, d) with its first rows again, so that there are ``rows``."""
    xp, n = namespace(x), x.shape[-2]
    return x if n == rows else xp.take(x, xp.arange(rows, device=device_of(x)) % n, axis=-2)


def _scaled(x: Array) -> Array:
    """Return x (h, n, d) divided by the largest |entry| of its head, so that squares neither overflow nor vanish."""
    xp = namespace(x)
    top = xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    return x / xp.where(top > 0, top, xp.ones_like(top))


def _without_hidden(k: Array, seen: Array) -> Array:
    """Return keys (h, m, d) with the mean of those seen (h, m, 1) in place of the others, where they sway no cluster."""
    xp = namespace(k)
    if bool(xp.all(seen)):
        return k
    share = xp.astype(seen, k.dtype)
    mean = xp.sum(
        k * (share / xp.maximum(xp.sum(share, axis=-2, keepdims=True), xp.ones_like(share[:, :1, :]))),
        axis=-2,
        keepdims=True,
    )
    return xp.where(seen, k, mean)
