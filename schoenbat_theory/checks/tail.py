"""Does the probability of an event obey its bound?"""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_generator, as_reals
from schoenbat_theory.checks.arguments import look_sizes, require, require_alpha
from schoenbat_theory.checks.sequences import Sample
from schoenbat_theory.confidence import binomial_limits
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.sampling import replicates

__all__ = ["check_tail"]


def check_tail(
    exceeds: Sample,
    bound: Any,
    *,
    alpha: float = 1e-3,
    rng: Any = None,
    max_draws: int = 1 << 22,
) -> Evidence:
    """Decide whether the probability of an event obeys ``bound``.

    ``exceeds``  (rng, size) -> (size, ...) booleans, independent over the first axis
    ``bound``    (...) numbers >= 0; those >= 1 say nothing and are left out; all of them: "vacuous"

    Exact binomial limits; ``alpha`` is shared by the bounds and the looks. The slack bound / rate is in the
    note. Raises ``ValueError`` for arguments of the wrong kind.

    >>> check_tail(lambda rng, size: rng.random(size) < 0.1, 0.2, rng=0).verdict
    'consistent'
    >>> check_tail(lambda rng, size: rng.random(size) < 0.1, 1.5, rng=0).verdict
    'vacuous'
    """
    bound = as_reals("bound", bound)
    shape = bound.shape
    require(bound.size > 0 and (bound >= 0).all(), "bound", "numbers >= 0, at least one", bound)
    require_alpha(alpha)
    sizes = look_sizes(max_draws)
    says = bound < 1
    comparisons = int(says.sum())
    if comparisons == 0:
        return Evidence(
            "vacuous", "monte-carlo", predicted=float(bound.min()), inequality="a bound of at least 1", alpha=0.0
        )
    share = alpha / (len(sizes) * comparisons)
    rng, hits, done = as_generator(rng), np.zeros(shape), 0
    for n in sizes:
        for drawn in replicates(exceeds, rng, n - done, shape):
            require(drawn.dtype == np.bool_, "exceeds", "booleans", drawn.dtype)
            hits += drawn.sum(axis=0)
        done = n
        lower, upper = binomial_limits(hits, n, share)
        refuted, holds = says & (lower > bound), ~says | (upper <= bound)
        if refuted.any() or holds.all():
            break
    tiny = np.maximum(bound, 1e-300)
    score = np.where(says, lower / tiny if refuted.any() else upper / tiny, -1.0)
    worst = np.unravel_index(int(np.argmax(score)), shape) if shape else ()
    rate = hits / n
    slack = float(bound[worst] / max(rate[worst], 1 / n))
    more = "" if hits[worst] else "at least "
    return Evidence(
        "refuted" if refuted.any() else "consistent" if holds.all() else "undecided",
        "monte-carlo",
        measured=float(rate[worst]),
        predicted=float(bound[worst]),
        interval=(float(lower[worst]), float(upper[worst])),
        draws=n,
        comparisons=comparisons,
        inequality="Clopper-Pearson, exact binomial",
        alpha=alpha,
        note=f"bound / rate: {more}{slack:.3g}, where the rate comes closest",
        figure={
            "plot": "tail",
            "rate": rate.ravel().tolist(),
            "lower": lower.ravel().tolist(),
            "upper": upper.ravel().tolist(),
            "bound": bound.ravel().tolist(),
        },
    )
