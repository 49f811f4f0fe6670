"""Is the mean of a random array what it should be?"""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_generator, as_reals
from schoenbat_theory.checks.arguments import look_sizes, of_shape, require, require_alpha
from schoenbat_theory.checks.sequences import Sample, mean_sequence
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.sampling import BATCHES, batch_means

__all__ = ["check_mean"]


def check_mean(
    sample: Sample,
    target: Any,
    *,
    margin: Any,
    alpha: float = 1e-3,
    variance: Any = None,
    bounds: tuple[float, float] | None = None,
    rng: Any = None,
    max_draws: int = 1 << 22,
) -> Evidence:
    """Decide whether the mean of a random array equals ``target`` up to ``margin``.

    ``sample``     (rng, size) -> (size, ...) independent replicates; `OuterProducts` and `SignProducts` form none of them
    ``target``     (...) what their mean should be;  ``margin``  absolute, > 0, broadcast with it
    ``variance``   of one replicate, (...) or a number, an upper bound will do: Catoni's interval
    ``bounds``     (low, high) that no replicate leaves: betting, and empirical Bernstein for more than 64
                   numbers. With neither, an asymptotic interval (Student's t), named so and not ``guaranteed``
    ``alpha``      probability of a wrong verdict, shared by all numbers compared and all looks

    Draws until every number is inside its margin, or one is outside, or ``max_draws`` are used, but at least
    256: every look is made of that many batches. Raises ``ValueError`` for arguments or replicates of the wrong
    shape, outside ``bounds``, or that vary although ``variance`` is 0.

    >>> check_mean(lambda rng, size: rng.choice([-1.0, 1.0], size), 0.0, margin=0.02, variance=1.0, rng=0).verdict
    'consistent'
    >>> check_mean(lambda rng, size: rng.choice([-1.0, 1.0], size), 0.1, margin=0.02, variance=1.0, rng=0).verdict
    'refuted'
    """
    target = as_reals("target", target)
    shape, comparisons = target.shape, max(target.size, 1)
    margin = of_shape("margin", margin, shape)
    require(target.size > 0 and np.isfinite(target).all(), "target", "finite numbers, at least one", target)
    require((margin > 0).all(), "margin", "positive numbers", margin)
    require_alpha(alpha)
    sizes = look_sizes(max_draws, at_least=BATCHES)
    sequence = mean_sequence(target, variance, bounds, sizes, alpha / comparisons)
    draws: list[int] = []
    trace: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for n, means, square in batch_means(sample, as_generator(rng), sizes, shape, target, sequence.watch):
        lower, upper = sequence.interval(n, means, square)
        draws.append(n)
        trace.append((means.mean(axis=0), lower, upper))
        outside = (lower > target + margin) | (upper < target - margin)
        inside = (lower >= target - margin) & (upper <= target + margin)
        if outside.any() or inside.all():
            break
    excess = np.maximum(upper - target, target - lower) / margin
    gap = np.maximum(lower - target, target - upper) / margin
    worst = np.unravel_index(int(np.argmax(gap if outside.any() else excess)), shape) if shape else ()
    estimates, lowers, uppers = ([float(look[i][worst]) for look in trace] for i in range(3))
    return Evidence(
        "refuted" if outside.any() else "consistent" if inside.all() else "undecided",
        "monte-carlo",
        measured=estimates[-1],
        predicted=float(target[worst]),
        interval=(lowers[-1], uppers[-1]),
        draws=n,
        comparisons=comparisons,
        inequality=sequence.name,
        alpha=alpha,
        guaranteed=sequence.guaranteed,
        figure={
            "plot": "sequence",
            "draws": draws,
            "estimate": estimates,
            "lower": lowers,
            "upper": uppers,
            "target": float(target[worst]),
            "margin": float(margin[worst]),
        },
    )
