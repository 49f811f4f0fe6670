"""One budget of multiply-adds for all methods, and the largest width of each that is within it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from schoenbat_theory.attention import costs
from schoenbat_theory.compare.approximation import DIVIDED, Method, sizes
from schoenbat_theory.compare.targets import Problem
from schoenbat_theory.features.maclaurin import RandomMaclaurin
from schoenbat_theory.sampling import stream

__all__ = ["MANY", "budget_of", "width_within"]

MANY = 64  # draws whose mean cost is the budget
STEP = 8  # widths within a budget are multiples of this
GUESSES = 5  # points of a line at most, then bisection


def budget_of(target: Problem, width: int, seed: int) -> float | None:
    """Return what a random Maclaurin map of this width costs, mean over `MANY` draws; ``None`` where it has no target."""
    if target.exact is None or target.target.setting not in DIVIDED:
        return None
    return costs.features(sizes(target), *_of_a_row(target.target.d, width, seed))


@functools.lru_cache(maxsize=8)
def _of_a_row(dim: int, width: int, seed: int) -> tuple[float, float]:
    """Return the means over draws of multiply-adds of a row and of the width of the sums, the same for all kernels."""
    rng, law = stream(seed, "compare", "budget", str(width)), RandomMaclaurin("exp", width)
    draws = [law.draw(dim, rng) for _ in range(MANY)]
    widths = [phi.merged(np.zeros((1, dim))).shape[-1] for phi in draws]
    return float(np.mean([phi.multiply_adds for phi in draws])), float(np.mean(widths))


def width_within(
    budget: float,
    method: Method,
    target: Problem,
    cost: Callable[[int | None], float],
    known: Sequence[tuple[int, float]],
) -> int | None:
    """Return the largest width, a multiple of `STEP`, whose ``cost`` is within the budget.

    It is 0 where there is none, and ``None`` where the method has no width to choose and fits. Costs are nearly linear in widths:
    the first guesses are by a line through the two last ``known`` (width, cost), or through one and 0; the others halve
    what is left.
    """
    if not method.sized:
        return None if cost(None) <= budget else 0
    low, high = 0, int(budget / target.target.e) // STEP + 1  # in steps: there the sums alone are dearer
    own = getattr(method.law(target, high * STEP), "n_features", high * STEP)  # less where it is fixed
    if own <= (high - 1) * STEP:
        return own if cost(own) <= budget else 0
    if len(known) > 1 and min(one for _, one in known) > budget and _crossing(known, budget) < STEP:
        return 0  # what does not depend on the width is beyond the budget
    points = [*([(0, 0.0)] if len(known) < 2 else []), *known]
    while high - low > 1:
        guess = _crossing(points, budget) / STEP if 1 < len(points) < GUESSES else -math.inf
        step = max(int(guess if low < guess < high else (low + high) / 2), low + 1)
        points.append((step * STEP, cost(step * STEP)))
        low, high = (step, high) if points[-1][1] <= budget else (low, step)
        inside = all(one <= budget for _, one in points[-2:])  # where costs grow faster than the line, it is too low
        if inside and 0 < _crossing(points, budget) < (step + 1) * STEP:
            break  # one step more would be too much
    return low * STEP


def _crossing(points: Sequence[tuple[int, float]], budget: float) -> float:
    """Return where the line through the last two points reaches the budget; -inf where it is not a rising one."""
    (x, a), (y, b) = points[-2:]
    slope = (b - a) / (y - x) if x != y else 0.0
    return x + (budget - a) / slope if 0 < slope < math.inf else -math.inf
