"""Which queries and keys a fit looks at: evenly spaced ones, and keys by their weights; nothing is random."""

from __future__ import annotations

import numpy as np

__all__ = ["evenly_spaced", "spread_keys"]


def evenly_spaced(count: int, n: int) -> np.ndarray:
    """Return ``count`` of the positions 0 .. n - 1, rising, at the middles of equal parts; all of them where there are no more.

    >>> evenly_spaced(2, 8), evenly_spaced(5, 3)
    (array([2, 6]), array([0, 1, 2]))
    """
    count = min(count, n)
    return (2 * np.arange(count) + 1) * n // max(2 * count, 1)


def spread_keys(weights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most ``size`` positions of ``weights`` (m,) that are not 0, and new weights of sum 1 for them.

    Evenly spaced along the cumulative sum of half the weights and half the uniform ones: heavy keys cannot be missed, and
    no light one counts more than twice what it would if all counted alike. The new weight is weight / chance.
    """
    seen = np.flatnonzero(weights)
    if len(seen) <= size:
        return seen, weights[seen]
    chance = (weights[seen] + weights.sum() / len(seen)) / 2
    points = (np.arange(size) + 0.5) / size * chance.sum()
    found, times = np.unique(np.minimum(np.searchsorted(np.cumsum(chance), points), len(seen) - 1), return_counts=True)
    own = weights[seen[found]] / chance[found] * times
    return seen[found], own / own.sum()
