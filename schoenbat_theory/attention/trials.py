"""What `approximate_attention` tries on one head: five approximations, each with what it costs by the rule of `costs`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array, namespace
from schoenbat_theory.attention import costs
from schoenbat_theory.attention.certify import Head, as_floats, take
from schoenbat_theory.attention.costs import Sizes
from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.first_order import first_order_attention
from schoenbat_theory.attention.local import LocalBudget, doubted_local_attention
from schoenbat_theory.features.choice import choose_monomials
from schoenbat_theory.features.recenter import balance, recenter
from schoenbat_theory.features.sample import evenly_spaced, spread_keys
from schoenbat_theory.features.weights import normalised

__all__ = ["Trial", "first_order", "local", "mean", "monomials", "weighted_mean"]

SAMPLE = 128  # queries, and keys, on which monomials are chosen
FINEST = 8  # doublings of the length for which a budget of local expansions is made


class Trial(NamedTuple):
    """An approximation before it is computed: its name, its cost per query, and what computes it.

    ``run``  returns the output (n, e), and how much each row is to be doubted, (n,), or ``None``
    """

    name: str
    multiply_adds: float
    run: Callable[[], tuple[Array, Array | None]]


def mean(head: Head, sizes: Sizes) -> Trial:
    """Return the mean of the values, with the weights that are given."""
    return Trial("mean of the values", costs.mean(sizes), lambda: (_same(head, 0 * head.q[:1, :], "exp"), None))


def weighted_mean(head: Head, sizes: Sizes) -> Trial:
    """Return the attention of the mean query, for every query."""
    query = namespace(head.q).mean(head.q, axis=0, keepdims=True)
    cost = costs.weighted_mean(sizes)
    return Trial("weighted mean of the values", cost, lambda: (_same(head, query, head.kernel), None))


def first_order(head: Head, sizes: Sizes) -> Trial:
    """Return the tangent at the mean query; exp alone."""
    answer = functools.partial(first_order_attention, head.q, head.k, head.v, key_log_weights=head.log_weights)
    return Trial("first order", costs.first_order(sizes), lambda: (answer(), None))


def monomials(head: Head, sizes: Sizes, n_features: int, left: float) -> list[Trial]:
    """Return recentred (exp) or balanced monomials, as many as ``left`` allows, at most ``n_features``; none below degree 1.

    They are those of `choose_monomials` on a sample. `OptimizedMaclaurin` searches among other maps as well, which alone
    takes most of what a budget of its width holds.
    """
    fixed = costs.recentring(sizes) if head.kernel.log_slope == 1 else costs.balancing(sizes)
    each = costs.monomial(sizes, SAMPLE)
    width = min(n_features, int((left - fixed) / each))
    if width <= sizes.d + 1:
        return []
    return [Trial("monomials", fixed + each * width, lambda: (_through_monomials(head, width), None))]


def local(head: Head, sizes: Sizes, n_features: int, left: float) -> list[Trial]:
    """Return the finest local expansions that ``left`` allows, of those made for 2^j times as many tokens as there are."""
    del n_features  # they have none
    weights = head.log_weights
    for j in range(FINEST, -math.ceil(math.log2(max(sizes.n, sizes.m))), -1):
        budget = LocalBudget.for_length(math.ceil(sizes.n * 2.0**j), math.ceil(sizes.m * 2.0**j))
        cost = budget.multiply_adds(*sizes) + 2 * sizes.d + budget.blocks
        if cost <= left:
            run = functools.partial(
                doubted_local_attention, head.q, head.k, head.v, key_log_weights=weights, budget=budget
            )
            return [Trial("local expansions", cost, run)]
    return []


def _same(head: Head, query: Array, kernel: Any) -> Array:
    """Return the row of one query for all queries."""
    row = kernel_attention(query, head.k, head.v, kernel, key_log_weights=head.log_weights)
    return namespace(row).broadcast_to(row, (head.q.shape[0], row.shape[1]))


def _through_monomials(head: Head, width: int) -> Array:
    if head.kernel.log_slope == 1:
        x, y, log_weights = recenter(head.q, head.k, key_log_weights=head.log_weights)
    else:
        x, y = balance(head.q, head.k, key_log_weights=head.log_weights)
        log_weights = head.log_weights
    n, m = x.shape[0], y.shape[0]
    weights = np.full(m, 1 / m) if log_weights is None else as_floats(normalised(log_weights))
    rows, (columns, sampled) = evenly_spaced(SAMPLE, n), spread_keys(weights, SAMPLE)
    chosen, _ = choose_monomials(head.kernel, as_floats(take(x, rows)), as_floats(take(y, columns)), sampled, width)
    factors = chosen.factors(head.kernel)
    return feature_attention(x, y, head.v, lambda tokens: chosen.apply(tokens, factors), key_log_weights=log_weights)
