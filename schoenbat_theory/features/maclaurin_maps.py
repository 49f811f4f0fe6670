"""Random Maclaurin maps by name: random degrees, and counts per degree that are fitted to queries and keys."""

from __future__ import annotations

import functools

import numpy as np

from schoenbat_theory.arrays import Array, to_host
from schoenbat_theory.degrees import FixedDegrees
from schoenbat_theory.features.inputs import check_fitted
from schoenbat_theory.features.maclaurin import RandomMaclaurin
from schoenbat_theory.features.registry import Unfitted, feature_map
from schoenbat_theory.features.sketch_moments import get_weights

__all__ = ["fit_counts"]

# Counts follow sqrt(c_n), c_n a mean over pairs of a variance. Errors of its estimate with relative deviation r raise
# the variance of the map by r^2/4 to first order. With a coefficient of variation up to 4 of one pair, r^2 = 16 / PAIRS
# and 4096 pairs make it 1 part in 1024.
PAIRS = 1 << 12


def fit_counts(kernel: str, n_features: int, weights: str, q: Array, k: Array) -> RandomMaclaurin:
    """Return the map with the counts of `FixedDegrees.optimal` for 4096 pairs of a query and a key.

    ``q`` (..., n, d), ``k`` (..., m, d), scaled as the map will see them; the pairs are drawn uniformly, with
    replacement and always the same for the same shapes, from all pairs that attention compares. It looks at every query
    and every key, so attention with a fitted map is not causal. Raises as `FixedDegrees.optimal` does.

    >>> fit_counts("exp", 16, "srht", np.eye(4), np.eye(4) / 2).degrees
    FixedDegrees(counts=(1, 15))
    """
    lead = check_fitted(q, k)
    q, k = (np.broadcast_to(to_host(one), (*lead, *one.shape[-2:])) for one in (q, k))
    sizes = (*lead, q.shape[-2], k.shape[-2])
    rng = np.random.default_rng(0)
    *head, i, j = (rng.integers(size, size=PAIRS) for size in sizes)
    counts = FixedDegrees.optimal(kernel, n_features, q[(*head, i)], k[(*head, j)], weights=weights)
    return RandomMaclaurin(kernel, n_features, counts, weights)


def _random(name: str, degrees: str = "geometric", weights: str = "rademacher") -> None:
    @feature_map(name)
    def make(kernel: str, dim: int, n_features: int) -> RandomMaclaurin | None:
        exact = {"geometric": 0, "released": 1, "h01": 1 + dim}[degrees]
        n_features -= (n_features - exact) % 2 if get_weights(weights).complex else 0
        return RandomMaclaurin(kernel, n_features, degrees, weights) if n_features >= max(exact, 1) else None


def _fixed(name: str, weights: str) -> None:
    @feature_map(name)
    def make(kernel: str, dim: int, n_features: int) -> Unfitted:
        del dim
        return Unfitted(functools.partial(fit_counts, kernel, n_features, weights))


_random("random Maclaurin")
_random("random Maclaurin, released", "released")
_random("random Maclaurin, H0/1", "h01")
_random("random Maclaurin, Gaussian", weights="gaussian")
_random("random Maclaurin, complex", weights="complex-rademacher")
_fixed("fixed counts, Rademacher", "rademacher")
_fixed("fixed counts, SRHT", "srht")
_fixed("fixed counts, complex SRHT", "complex-srht")
_fixed("fixed counts, TensorSketch", "tensorsketch")
