"""Methods beyond the paper, each with all that it makes of a head before it answers: shifts, bases, fits, certificates."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.attention import costs
from schoenbat_theory.attention.approximate import approximate_attention
from schoenbat_theory.attention.first_order import first_order_attention
from schoenbat_theory.attention.local import LocalBudget, local_attention
from schoenbat_theory.compare.approximation import LARGEST, Approximation, Method, Output, any_width, sizes, through
from schoenbat_theory.compare.results import BEYOND_THE_PAPER
from schoenbat_theory.compare.targets import Problem
from schoenbat_theory.features.optimized import OptimizedMaclaurin
from schoenbat_theory.features.recenter import balance, recenter
from schoenbat_theory.features.registry import Unfitted
from schoenbat_theory.features.taylor import TaylorFeatures

__all__ = ["BEYOND"]


class _Moved(NamedTuple):
    """Tokens of the same attention, log-weights of keys (``None``: all alike), and what one query of moving them cost."""

    q: np.ndarray
    k: np.ndarray
    log_weights: np.ndarray | None
    multiply_adds: float


class _Fitted(NamedTuple):
    """A law for tokens that were moved."""

    moved: _Moved
    law: Any

    def variance(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Return the law's own; what is 0 for all pairs is so for tokens that were not moved."""
        return self.law.variance(x, y)


@dataclass(frozen=True)
class _Wide(Unfitted):
    """What is to be fitted, and says its width beforehand."""

    n_features: int


def _moved(problem: Problem) -> _Moved:
    """Return tokens recentred where the kernel is exp, whose attention a shift leaves as it is, else only balanced."""
    if problem.target.kernel == "exp":
        return _Moved(*recenter(problem.q, problem.k), costs.recentring(sizes(problem)))
    return _Moved(*balance(problem.q, problem.k), None, costs.balancing(sizes(problem)))


def _optimized(with_values: bool, problem: Problem, width: int) -> Unfitted:
    return Unfitted(functools.partial(_fit_optimized, with_values, problem, width))


def _fit_optimized(with_values: bool, problem: Problem, width: int, q: np.ndarray, k: np.ndarray) -> _Fitted:
    moved, law = _moved(problem), OptimizedMaclaurin(problem.target.kernel, width)
    return _Fitted(moved, law.fit(*moved[:3], values=problem.v if with_values else None))


def _degree_2(problem: Problem, width: int) -> _Wide | None:
    law = TaylorFeatures(problem.target.kernel, 2, problem.target.d)
    return _Wide(functools.partial(_with, law, problem), law.n_features) if law.n_features <= width else None


def _with(law: Any, problem: Problem, q: np.ndarray, k: np.ndarray) -> _Fitted:
    return _Fitted(_moved(problem), law)


def _draw_moved(fitted: _Fitted, problem: Problem, rng: np.random.Generator) -> Approximation:
    moved, law = fitted
    phi = law.draw(problem.target.d, rng)
    of_features = costs.of_draw(sizes(problem), phi, phi.n_features) or 0.0
    cost = of_features + moved.multiply_adds + costs.fit(law, sizes(problem))
    run = functools.partial(through, phi, moved.q, moved.k, problem.v, moved.log_weights)
    return Approximation(run, phi.n_features, cost)


def _of_exp(problem: Problem, width: int) -> int | None:
    """A law for what answers for the kernel exp alone."""
    return width if problem.target.kernel == "exp" else None


def _first_order(width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    run = functools.partial(first_order_attention, problem.q, problem.k, problem.v)
    return Approximation(lambda: Output(run()), 1 + problem.target.d, costs.first_order(sizes(problem)))


def _budget(problem: Problem, width: int) -> LocalBudget | None:
    """Return the rule for this length where any width is good, else as many terms of a row as the width says.

    Clusters and blocks are then those of the rule for this length, or for half of it, a quarter ..., so that at most half of the
    terms are blocks.
    """
    if problem.target.kernel != "exp":
        return None
    n, m = problem.target.n, problem.target.m
    rule = LocalBudget.for_length(n, m)
    if width == LARGEST:
        return rule
    while 2 * rule.blocks > width and m > 8:
        n, m = -(-n // 2), m // 2
        rule = LocalBudget.for_length(n, m)
    return LocalBudget(rule.clusters, rule.blocks, max(width - rule.blocks, 0))


def _local(budget: LocalBudget, problem: Problem, rng: np.random.Generator) -> Approximation:
    run = functools.partial(local_attention, problem.q, problem.k, problem.v, budget=budget)
    return Approximation(lambda: Output(run()), budget.blocks + budget.exact, budget.multiply_adds(*sizes(problem)))


def _approximate(width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    """Promise what the budget of ``width`` features is; what it comes to is known when it has run."""
    seed, kernel = int(rng.integers(1 << 32)), problem.target.kernel

    def run() -> Output:
        found = approximate_attention(problem.q, problem.k, problem.v, kernel=kernel, n_features=width, rng=seed)
        return Output(found.output, chosen=found.method, multiply_adds=found.multiply_adds)

    return Approximation(run, width, costs.budget(sizes(problem), width))


_HERE: dict[str, Any] = {"group": BEYOND_THE_PAPER}
BEYOND = (
    Method("first order, recentred", _of_exp, _first_order, sized=False, random=False, **_HERE),
    Method("optimized Maclaurin, recentred", functools.partial(_optimized, False), _draw_moved, **_HERE),
    Method("optimized Maclaurin, with values", functools.partial(_optimized, True), _draw_moved, **_HERE),
    Method("Taylor, degree 2, recentred", _degree_2, _draw_moved, random=False, **_HERE),
    Method("local expansions", _budget, _local, at_widths=False, random=False, **_HERE),
    Method("approximate attention", any_width, _approximate, **_HERE),
)
