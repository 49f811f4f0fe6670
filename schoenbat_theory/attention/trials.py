r"""What `approximate_attention` tries on one head: five approximations, each with what it costs, fit included.

A cost is in multiply-adds per query: a product, a sum, or a product with a sum counts one, and so does an exponential or
one value of a kernel; comparisons are left out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array, namespace
from schoenbat_theory.attention.certify import Head, as_floats, take
from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.first_order import first_order_attention
from schoenbat_theory.attention.local import LocalBudget, local_attention
from schoenbat_theory.features.choice import choose_monomials
from schoenbat_theory.features.prediction import spread_keys
from schoenbat_theory.features.recenter import balance, recenter, sample_sizes
from schoenbat_theory.features.weights import normalised

__all__ = [
    "Sizes",
    "Trial",
    "exact_cost",
    "features_cost",
    "first_order",
    "local",
    "mean",
    "monomials",
    "weighted_mean",
]

SAMPLE = 128  # queries, and keys, on which monomials are chosen
FINEST = 8  # doublings of the length for which a budget of local expansions is made


class Sizes(NamedTuple):
    """Queries, keys, their width, and that of a value."""

    n: int
    m: int
    d: int
    e: int


class Trial(NamedTuple):
    """An approximation before it is computed: its name, its cost per query, and what computes it, (n, e)."""

    name: str
    multiply_adds: float
    run: Callable[[], Array]


def exact_cost(m: int, d: int, e: int) -> float:
    """Return what one query of exact attention costs: m inner products, kernel values, and rows of values with a one."""
    return m * (d + 1 + e + 1)


def features_cost(sizes: Sizes, of_a_row: float, width: int) -> float:
    """Return what one query of attention through features costs: the map on both sides, and both sums."""
    return (sizes.n + sizes.m) * (of_a_row + width * (sizes.e + 1)) / sizes.n


def mean(head: Head, sizes: Sizes) -> Trial:
    """Return the mean of the values, with the weights that are given."""
    return Trial("mean of the values", sizes.m * sizes.e / sizes.n, lambda: _same(head, 0 * head.q[:1, :], "exp"))


def weighted_mean(head: Head, sizes: Sizes) -> Trial:
    """Return the attention of the mean query, for every query."""
    cost = sizes.d + exact_cost(*sizes[1:]) / sizes.n
    query = namespace(head.q).mean(head.q, axis=0, keepdims=True)
    return Trial("weighted mean of the values", cost, lambda: _same(head, query, head.kernel))


def first_order(head: Head, sizes: Sizes) -> Trial:
    """Return the tangent at the mean query; exp alone."""
    n, m, d, e = sizes
    cost = _shifts(sizes) + e * (m * (d + 4) + n * (d + 1)) / n
    weights = head.log_weights
    return Trial("first order", cost, lambda: first_order_attention(head.q, head.k, head.v, key_log_weights=weights))


def monomials(head: Head, sizes: Sizes, n_features: int, left: float) -> list[Trial]:
    """Return recentred (exp) or balanced monomials, as many as ``left`` allows, at most ``n_features``; none below degree 1.

    They are those of `choose_monomials` on a sample. `OptimizedMaclaurin` searches among other maps as well, which alone
    takes most of what a budget of its width holds.
    """
    n, m, d, _ = sizes
    fixed = (n + m) * 2 * d * d / n + 25 * d**3 / n
    fixed += _shifts(sizes) + (n + m) * d / n if head.kernel.log_slope == 1 else 0.0
    each = 4 * SAMPLE * d / n + features_cost(sizes, 1, 1)
    width = min(n_features, int((left - fixed) / each))
    if width <= d + 1:
        return []
    return [Trial("monomials", fixed + each * width, lambda: _through_monomials(head, width))]


def local(head: Head, sizes: Sizes, n_features: int, left: float) -> list[Trial]:
    """Return the finest local expansions that ``left`` allows, of those made for 2^j times as many tokens as there are.

    From the default of their length on, j = 0, those for half as many come before them, where ``left`` allows both: rows in which
    the two differ are rows that may be off. None finer than the default come without.
    """
    del n_features  # they have none
    options = {"key_log_weights": head.log_weights}
    finer: Trial | None = None
    for j in range(FINEST, -math.ceil(math.log2(max(sizes.n, sizes.m))), -1):
        budget = LocalBudget.for_length(math.ceil(sizes.n * 2.0**j), math.ceil(sizes.m * 2.0**j))
        run = functools.partial(local_attention, head.q, head.k, head.v, budget=budget, **options)
        one = Trial("local expansions", budget.multiply_adds(*sizes), run)
        if finer is not None and one.multiply_adds + finer.multiply_adds <= left:
            return [one._replace(name="local expansions, coarser"), finer]
        if finer is not None and j < 0 and finer.multiply_adds <= left:
            return [finer]
        finer = one
    return []


def _same(head: Head, query: Array, kernel: Any) -> Array:
    """Return the row of one query for all queries."""
    row = kernel_attention(query, head.k, head.v, kernel, key_log_weights=head.log_weights)
    return namespace(row).broadcast_to(row, (head.q.shape[0], row.shape[1]))


def _shifts(sizes: Sizes) -> float:
    """Return what one query costs of the shifts of `recenter`: passes over tokens, and five shares on a sample."""
    n, m, d, _ = sizes
    pairs = math.prod(sample_sizes(n, m, d))
    return (n * d + m * (2 * d + 2) + pairs * (d + 2 + 5 * 6)) / n


def _through_monomials(head: Head, width: int) -> Array:
    if head.kernel.log_slope == 1:
        x, y, log_weights = recenter(head.q, head.k, key_log_weights=head.log_weights)
    else:
        x, y = balance(head.q, head.k, key_log_weights=head.log_weights)
        log_weights = head.log_weights
    n, m = x.shape[0], y.shape[0]
    weights = np.full(m, 1 / m) if log_weights is None else as_floats(normalised(log_weights))
    rows = (2 * np.arange(min(SAMPLE, n)) + 1) * n // (2 * min(SAMPLE, n))  # evenly spaced
    columns, sampled = spread_keys(weights, SAMPLE)
    chosen, _ = choose_monomials(head.kernel, as_floats(take(x, rows)), as_floats(take(y, columns)), sampled, width)
    factors = chosen.factors(head.kernel)
    return feature_attention(x, y, head.v, lambda tokens: chosen.apply(tokens, factors), key_log_weights=log_weights)
