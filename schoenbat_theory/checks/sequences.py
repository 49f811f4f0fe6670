"""The confidence sequence of a mean that follows from what is known: a variance, bounds, or nothing.

Each takes the looks of `batch_means` and returns limits, widened by a bound of the rounding error of the
sums they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from schoenbat_theory.arrays import as_reals
from schoenbat_theory.checks.arguments import of_shape, require
from schoenbat_theory.confidence import (
    asymptotic_interval,
    betting_interval,
    catoni_interval,
    empirical_bernstein_interval,
    on_knots,
)
from schoenbat_theory.sampling import BATCHES, CHUNK

__all__ = [
    "ROUNDING",
    "Asymptotic",
    "Betting",
    "EmpiricalBernstein",
    "KnownVariance",
    "MeanSequence",
    "Sample",
    "mean_sequence",
]

Sample = Callable[[np.random.Generator, int], Any]
Limits = tuple[np.ndarray, np.ndarray]
# Knots cost at most (l / (1 - l))^2 / (8 (KNOTS - 1)^2) of the log capital per value; the best l has n l^2 = 2 L / variance at log
# capital L: less than 1 % of L while the standard deviation is above 2 % of the width, and l is small.
KNOTS = 257
FEW = 64  # numbers that are worth a histogram each
ROUNDING = (CHUNK + 64) * 2.0**-53  # a mean of batches of up to CHUNK errs by at most this times the mean of |x|


class MeanSequence(Protocol):
    """What `check_mean` needs: a name, whether it is guaranteed, and limits at every look."""

    name: str
    guaranteed: bool

    @property
    def watch(self) -> Callable[[np.ndarray], None] | None:
        """Take in replicates (size, ...), each once; ``None`` where batch means are enough."""

    def interval(self, n: int, means: np.ndarray, square: np.ndarray) -> Limits:
        """Return limits from batch means (BATCHES, ...) of n draws and the mean square about the target (...)."""


def mean_sequence(
    target: np.ndarray,
    variance: Any,
    bounds: Any,
    sizes: list[int],
    alpha: float,
) -> MeanSequence:
    """Return the sequence for what is known; ``alpha`` is for one number, and all of its looks."""
    if variance is not None:
        return KnownVariance(target, variance, alpha / len(sizes))
    if bounds is not None:
        return (Betting if target.size <= FEW else EmpiricalBernstein)(target, bounds, alpha, horizon=sizes[-1])
    return Asymptotic(target, alpha / len(sizes))


class KnownVariance:
    """Catoni's interval on batch means, whose variance is known too; every look spends its share of alpha."""

    name = "Catoni, known variance"
    guaranteed = True
    watch = None

    def __init__(self, target: np.ndarray, variance: Any, alpha: float) -> None:
        self.variance = of_shape("variance", variance, target.shape)
        known = np.isfinite(self.variance).all() and (self.variance >= 0).all()
        require(known, "variance", "finite, >= 0", variance)
        self.target, self.alpha = target, alpha

    def interval(self, n: int, means: np.ndarray, square: np.ndarray) -> Limits:
        """Return limits as `MeanSequence` says; ``ValueError`` where replicates vary although the variance is 0."""
        slack = _rounding(n, self.target, square)
        still = np.ptp(means, axis=0) <= 2 * slack
        holds = (self.variance > 0) | still
        require(holds.all(), "variance", "an upper bound of the variance", "0 although replicates differ")
        lower, upper = catoni_interval(means, self.variance * BATCHES / n, self.alpha)
        return lower - slack, upper + slack


class Betting:
    """Betting on the replicates, from a histogram of each number; holds at all times together, so that looks are free.

    Of the sequences with known bounds it is the narrowest: about as narrow as Catoni's with the variance, without
    knowing it. (On batch means it would not be: their bounds do not shrink as their variance does.)
    """

    name = "betting, known bounds"
    guaranteed = True

    def __init__(self, target: np.ndarray, bounds: Any, alpha: float, horizon: int) -> None:
        self.bounds = _checked_bounds(bounds)
        self.target, self.alpha, self.horizon = target, alpha, horizon
        self.histogram = np.zeros((KNOTS, *target.shape))

    def watch(self, drawn: np.ndarray) -> None:
        """Add replicates to the histograms; ``ValueError`` for one outside the bounds."""
        self.histogram += on_knots(_inside(drawn, self.bounds), self.bounds, KNOTS)

    def interval(self, n: int, means: np.ndarray, square: np.ndarray) -> Limits:
        """Return limits as `MeanSequence` says."""
        slack = _rounding(n, self.target, square, self.bounds[1] - self.bounds[0])
        knots = np.linspace(*self.bounds, KNOTS)
        lower, upper = betting_interval(knots, self.bounds, self.alpha, weights=self.histogram, horizon=self.horizon)
        return lower - slack, upper + slack


class EmpiricalBernstein:
    """Empirical Bernstein from two sums of each number, where numbers are many; holds at all times together."""

    name = "empirical Bernstein, known bounds"
    guaranteed = True

    def __init__(self, target: np.ndarray, bounds: Any, alpha: float, horizon: int) -> None:
        self.bounds = _checked_bounds(bounds)
        self.target, self.alpha, self.horizon = target, alpha, horizon

    def watch(self, drawn: np.ndarray) -> None:
        """Look at the bounds of the replicates; ``ValueError`` for one outside."""
        _inside(drawn, self.bounds)

    def interval(self, n: int, means: np.ndarray, square: np.ndarray) -> Limits:
        """Return limits as `MeanSequence` says."""
        slack = _rounding(n, self.target, square, self.bounds[1] - self.bounds[0])
        mean = means.mean(axis=0)
        variance = np.maximum(square - (mean - self.target) ** 2, 0.0)
        lower, upper = empirical_bernstein_interval(mean, variance, n, self.bounds, self.alpha, horizon=self.horizon)
        return lower - slack, upper + slack


class Asymptotic:
    """Student's t on batch means; every look spends its share of alpha."""

    name = "asymptotic (Student's t of batch means)"
    guaranteed = False
    watch = None

    def __init__(self, target: np.ndarray, alpha: float) -> None:
        self.target, self.alpha = target, alpha

    def interval(self, n: int, means: np.ndarray, square: np.ndarray) -> Limits:
        """Return limits as `MeanSequence` says."""
        slack = _rounding(n, self.target, square)
        lower, upper = asymptotic_interval(means, self.alpha)
        return lower - slack, upper + slack


def _checked_bounds(bounds: Any) -> tuple[float, float]:
    found = as_reals("bounds", bounds)
    require(found.shape == (2,) and found[0] <= found[1], "bounds", "(low, high), low <= high", bounds)
    require(np.isfinite(found).all(), "bounds", "finite numbers", bounds)
    return float(found[0]), float(found[1])


def _inside(drawn: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    low, high = float(drawn.min(initial=np.inf)), float(drawn.max(initial=-np.inf))
    require(low >= bounds[0] and high <= bounds[1], "bounds", f"to contain [{low:g}, {high:g}]", bounds)
    return drawn.astype(np.float64, copy=False)


def _rounding(n: int, target: np.ndarray, square: np.ndarray, width: float = 0.0) -> np.ndarray:
    """Bound the rounding error of a mean: of batches as long as a chunk or longer, and of histograms of that width.

    A sum of k numbers errs by at most k u times the sum of their magnitudes, u = 2^-53. Batch means are sums over a
    batch, the weights of a histogram sums over a chunk; 64 is for the few operations after that.
    """
    longest = max(CHUNK, n // BATCHES) + n // CHUNK
    return (longest + 64) * 2.0**-53 * (np.abs(target) + np.sqrt(square) + width)
