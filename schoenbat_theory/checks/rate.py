"""Does a mean squared error fall at its rate?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from schoenbat_theory.arrays import as_generator, as_reals, require_int, require_real
from schoenbat_theory.checks.arguments import require, require_alpha
from schoenbat_theory.confidence import looks
from schoenbat_theory.propositions import Evidence

__all__ = ["check_rate"]

REPEATS = 16  # of every size, at the first look


def check_rate(
    error: Callable[[np.random.Generator, int], float],
    sizes: Sequence[int],
    exponent: float,
    *,
    band: float,
    alpha: float = 1e-3,
    rng: Any = None,
    max_draws: int = 1 << 8,
) -> Evidence:
    """Decide whether the mean squared error falls like size^-exponent, to the last size, without a plateau.

    ``error``     (rng, size) -> one squared error at that size, > 0 on average
    ``sizes``     at least three, spanning at least a decade
    ``band``      half-width around ``exponent`` within which fitted exponents must lie
    ``max_draws`` repeats per size

    Least squares on log mean error: over all sizes, over the last decade, and over every other run of two or more
    sizes that ends at the largest, because a plateau, the mark of a bias, shows at the end. Each fit is an average of the
    exponents between neighbouring sizes, with weights >= 0: where these lie in the band, so does it. Refuted where one
    interval is outside the band; consistent where those of all sizes and of the last decade are inside, so that a plateau
    which moves them by less than the band is accepted.

    The intervals are asymptotic, and named so: Student's t with the jackknife variance of each log mean, which errs on
    the large side for skewed errors. ``alpha`` is shared by the fits and the looks. Raises ``ValueError`` for too
    few sizes. Source: none for the check; the jackknife is Quenouille's (1956, from memory).

    >>> check_rate(lambda rng, size: rng.exponential() / size, [10, 30, 100], 1.0, band=0.2, rng=0).verdict
    'consistent'
    """
    sizes = _checked_sizes(sizes)
    exponent = require_real("exponent", exponent, "a finite number")
    band = require_real("band", band, "a positive number", lambda b: 0 < b < math.inf)
    max_draws = require_int("max_draws", max_draws, 1)
    require_alpha(alpha)
    rng, x = as_generator(rng), np.log(np.asarray(sizes, dtype=np.float64))
    decade = int(np.argmax(x >= x[-1] - math.log(10) - 1e-9))  # where the last one begins
    repeats = looks(min(REPEATS, max_draws), max_draws)
    share = alpha / ((len(sizes) - 1) * len(repeats))
    errors = np.empty((0, len(sizes)))
    for r in repeats:
        fresh = [[float(error(rng, size)) for size in sizes] for _ in range(r - len(errors))]
        errors = np.concatenate([errors, np.array(fresh).reshape(-1, len(sizes))])
        mean = errors.mean(axis=0)
        if not (np.isfinite(mean).all() and (mean > 0).all()):
            raise ArithmeticError(f"error: expected positive finite squared errors, found means {mean}")
        spread = _spread_of_log_means(errors)
        fits = [_fit(x[i:], np.log(mean[i:]), spread[i:], r, share) for i in range(len(sizes) - 1)]
        refuted = [fit for fit in fits if fit.low > exponent + band or fit.high < exponent - band]
        holds = all(fit.low >= exponent - band and fit.high <= exponent + band for fit in (fits[0], fits[decade]))
        if refuted or holds:
            break
    worst = max(refuted or [fits[0], fits[decade]], key=lambda fit: max(fit.high - exponent, exponent - fit.low))
    return Evidence(
        "refuted" if refuted else "consistent" if holds else "undecided",
        "monte-carlo",
        measured=worst.slope,
        predicted=float(exponent),
        interval=(worst.low, worst.high),
        draws=r * len(sizes),
        comparisons=len(fits),
        inequality="asymptotic (Student's t of log mean squared errors)",
        alpha=alpha,
        guaranteed=False,
        note=f"exponent {fits[0].slope:.3f} overall, {fits[decade].slope:.3f} on the last decade, "
        f"{fits[-1].slope:.3f} on the last step",
        figure={
            "plot": "rate",
            "sizes": sizes,
            "error": mean.tolist(),
            "lower": (mean * np.exp(-2 * spread)).tolist(),
            "upper": (mean * np.exp(2 * spread)).tolist(),
            "exponent": float(exponent),
            "fitted": fits[0].slope,
        },
    )


@dataclass(frozen=True)
class _Fit:
    """An exponent and its interval."""

    slope: float
    low: float
    high: float


def _fit(x: np.ndarray, y: np.ndarray, sd: np.ndarray, r: int, alpha: float) -> _Fit:
    """Return minus the least-squares slope of y on x with its t interval, given the sd of each y from r repeats."""
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    slope = -float(weights @ y)
    if r < 2:
        return _Fit(slope, -math.inf, math.inf)
    half = float(scipy.special.stdtrit(r - 1, 1 - alpha / 2)) * float(np.sqrt(weights**2 @ sd**2))
    return _Fit(slope, slope - half, slope + half)


def _spread_of_log_means(errors: np.ndarray) -> np.ndarray:
    """Return jackknife standard deviations of the log means of ``errors`` (r, sizes) over its rows."""
    r = len(errors)
    if r < 2:
        return np.full(errors.shape[1], np.inf)
    without = np.log((errors.sum(axis=0) - errors) / (r - 1))  # one row left out
    return np.sqrt((r - 1) * without.var(axis=0))


def _checked_sizes(sizes: Sequence[int]) -> list[int]:
    found = as_reals("sizes", sizes)
    whole = found.ndim == 1 and np.isfinite(found).all() and (found == np.floor(found)).all()
    require(whole, "sizes", "three or more positive integers", sizes)
    whole_sizes = sorted(int(size) for size in found)
    require(len(whole_sizes) >= 3 and whole_sizes[0] > 0, "sizes", "three or more positive integers", sizes)
    require(whole_sizes[-1] >= 10 * whole_sizes[0], "sizes", "at least a decade", sizes)
    return whole_sizes
