"""The two steps of local expansions: queries and keys are sorted into clusters; each cluster attends."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array, device_of, namespace
from schoenbat_theory.attention.clusters import covariance, equal_clusters, fit_multiply_adds, gather, largest
from schoenbat_theory.attention.sums import with_ones

__all__ = ["Keys", "Sizes", "attend", "fit"]

NUMBERS = 1 << 19  # in each array of a step: 2 MB in float32
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
        clusters, blocks = min(clusters, n), min(blocks, m)
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
        """Return how many clusters are worked on at once, ``width`` that of keys and values together."""
        return max(1, NUMBERS // max(self.length, self.treated * max(width, self.tile)))

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

    k: Array  # (length, d)
    v: Array  # (length, e)
    both: Array  # (blocks, keys of a block, d + e + 1): keys, values, ones
    log_weights: Array  # (length,), the largest 0
    log_spread: Array  # (length,): log E z^2 but for a constant, z = <query - its cluster, key - its block>


def fit(q: Array, k: Array, v: Array, log_weights: Array, sizes: Sizes) -> tuple[Array, Keys]:
    """Return which query (heads, clusters, tile) is where, those from n on standing for the first, and the keys.

    ``q`` (heads, n, d), ``k`` (heads, m, d), ``v`` (heads, m, e), ``log_weights`` (heads, m), the largest 0
    """
    xp, heads, d = namespace(q), q.shape[0], q.shape[-1]
    seen = log_weights > -xp.inf
    spare = sizes.length - k.shape[-2]
    k, v = _filled(k, sizes.length), _filled(v, sizes.length)
    nothing = xp.full((heads, spare), -xp.inf, dtype=q.dtype, device=device_of(q))
    log_weights = xp.concat([log_weights, nothing], axis=-1)

    queries = _filled(_scaled(q), sizes.clusters * sizes.tile)
    keys = _scaled(_without_hidden(k, _filled(seen[..., None], sizes.length)))
    rows = equal_clusters(queries, covariance(keys), sizes.clusters)
    tiles = gather(queries, rows)
    rest = covariance(xp.reshape(tiles - xp.mean(tiles, axis=-2, keepdims=True), queries.shape))
    order = xp.reshape(equal_clusters(keys, rest, *sizes.parts), (heads, sizes.blocks, -1))
    z = gather(keys, order)
    z = xp.reshape(z - xp.mean(z, axis=-2, keepdims=True), keys.shape)
    spread = xp.sum((z @ rest) * z, axis=-1)
    order = xp.reshape(order, (heads, -1))
    k, v = gather(k, order), gather(v, order)
    both = xp.reshape(
        with_ones(xp.concat([k, v], axis=-1), range(sizes.length)), (heads, sizes.blocks, -1, d + v.shape[-1] + 1)
    )
    smallest = float(xp.finfo(q.dtype).smallest_normal)  # rounding may leave less than nothing
    log_spread = xp.log(xp.maximum(spread, xp.full_like(spread, smallest)))
    return rows, Keys(k, v, both, gather(log_weights[..., None], order)[..., 0], log_spread)


@np.errstate(all="ignore")  # an overflow is found in the output
def attend(queries: Array, keys: Keys, sizes: Sizes) -> Array:
    """Return the attention (c, tile, e) of clusters of queries (c, tile, d) to the keys of one head."""
    xp, clusters, d = namespace(queries), queries.shape[0], queries.shape[-1]
    centre = xp.mean(queries, axis=-2)
    logs = centre @ xp.matrix_transpose(keys.k) + keys.log_weights  # of the weights w_j, (c, length)
    scores = xp.reshape(logs + keys.log_spread, (clusters, -1, sizes.run))
    scores = functools.reduce(xp.maximum, (scores[..., i] for i in range(sizes.run)))  # of short rows, faster than max
    index, chosen = largest(scores, sizes.chosen)
    logs = xp.reshape(logs, (clusters, -1, sizes.run))
    exact = _runs(keys.k, index, sizes.run), _of_rows(logs, index), _runs(keys.v, index, sizes.run)
    logs = xp.where(chosen[..., None], xp.full_like(logs[..., :1], -xp.inf), logs)
    means = _block_means(xp.reshape(logs, (clusters, sizes.blocks, -1)), keys.both, d)
    near, log_weights, values = (xp.concat([a, b], axis=1) for a, b in zip(exact, means, strict=True))

    weights = (queries - centre[:, None, :]) @ xp.matrix_transpose(near)  # (c, tile, treated)
    weights += log_weights[:, None, :]
    weights = _exp(weights, xp.max(weights, axis=-1, keepdims=True))
    total = xp.sum(weights, axis=-1, keepdims=True)
    return (weights @ values) / xp.where(total > 0, total, xp.ones_like(total))


def _block_means(logs: Array, both: Array, d: int) -> tuple[Array, Array, Array]:
    """Return weighted means of keys (c, blocks, d), logs of masses (c, blocks), weighted means of values (c, blocks, e)."""
    xp = namespace(logs)
    top = xp.max(logs, axis=-1)  # taken off for each block, so that none underflows beside another
    weights = _exp(logs, top[..., None])
    sums = xp.permute_dims(xp.permute_dims(weights, (1, 0, 2)) @ both, (1, 0, 2))
    mass = xp.where(top > -xp.inf, sums[..., -1], xp.ones_like(top))
    means = sums[..., :-1] / mass[..., None]
    return means[..., :d], top + xp.log(mass), means[..., d:]


def _exp(logs: Array, top: Array) -> Array:
    """Return exp(logs - top), zeros where top is -inf, in the place of ``logs`` as far as a library can."""
    xp = namespace(logs)
    logs -= xp.where(top > -xp.inf, top, xp.zeros_like(top))
    return xp.exp(logs)


def _runs(x: Array, index: Array, run: int) -> Array:
    """Return the runs ``index`` (c, chosen) of x (length, w), (c, chosen run, w)."""
    xp, width = namespace(x), x.shape[-1]
    found = xp.take(xp.reshape(x, (-1, run * width)), xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(found, (index.shape[0], -1, width))


def _of_rows(logs: Array, index: Array) -> Array:
    """Return the runs ``index`` (c, chosen) of logs (c, runs, run), each from its own row, (c, chosen run)."""
    xp = namespace(logs)
    return xp.reshape(gather(logs, index), (logs.shape[0], -1))


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
