"""Which counts of features per degree estimate f(<x, y>) best, on average over given pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from schoenbat_theory.arrays import Array, require_int, to_host
from schoenbat_theory.degrees import allocate
from schoenbat_theory.features.inputs import too_large
from schoenbat_theory.features.moments import pair_terms
from schoenbat_theory.features.sketch_moments import WEIGHTS, Weights, get_weights
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["LARGEST_DEGREE", "optimal_counts"]

LARGEST_DEGREE = 255  # as far as a user's coefficients are checked


def optimal_counts(
    kernel: str | DotProductKernel, n_features: int, x: Array, y: Array, weights: str = "rademacher"
) -> tuple[int, ...]:
    """Return the counts that `FixedDegrees.optimal` holds; its docstring says what they minimise.

    Adding a degree never lowers the variance part: its features were better spent on the others. So the search ends at
    the first largest degree whose variance alone is no less than the best sum before it.

    >>> optimal_counts("exp", 16, np.full((1, 4), 0.5), np.full((1, 4), 0.5))
    (1, 8, 7)
    """
    kernel, family, n_features = get_kernel(kernel), get_weights(weights), require_int("n_features", n_features, 1)
    t, a, s = pair_terms(x, y)
    if 0 in t.shape:
        raise ValueError(f"x, y: expected at least one pair, found shapes {tuple(x.shape)}, {tuple(y.shape)}")
    rest = to_host(kernel(kernel.clip(t, x.shape[-1]))).astype(np.float64)
    t, a, s = (to_host(one).astype(np.float64) for one in (t, a, s))
    moments = _moments(family, t, a, s)
    if not all(np.isfinite(one).all() for one in moments):
        raise too_large("x, y", x)
    best, least_error, costs = None, np.inf, np.zeros(0)
    for n, (power, *powers) in zip(range(LARGEST_DEGREE + 1), _powers(t, *moments), strict=False):
        coefficient = kernel.coefficients(n)[n]
        rest = rest - coefficient * power  # by subtraction: its rounding is far below what weighs in the sum
        costs = np.append(costs, _cost(coefficient, n, power, powers))
        if not coefficient:
            continue
        counts = _counts(costs, kernel.coefficients(n) > 0, n_features, 1 + family.complex)
        if counts is None:
            break
        used = costs > 0
        variance, bias = np.sum(costs[used] / counts[used]), np.mean(rest**2)
        if variance + bias < least_error:
            best, least_error = counts, variance + bias
        if variance >= least_error or variance + bias == variance:
            break
    if best is None:
        raise ValueError(f"n_features: too few for the first degree of {kernel.name}, found {n_features}")
    return tuple(int(count) for count in best)


def _moments(family: Weights, t: np.ndarray, a: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the moments m of one level such that sum (m^n - t^2n) / D is the variance of degree n, rows independent."""
    if family.structure == "tensorsketch":  # two frequencies are equal, or opposite: the moments of complex signs
        family = WEIGHTS["complex-rademacher"]
    with np.errstate(all="ignore"):  # an overflow is found in the result
        return family.moments(a, t * t, s)


def _powers(*bases: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield the powers 0, 1, 2, ... of all bases, by products, which cost less than `pow`."""
    powers = [np.ones_like(base) for base in bases]
    while True:
        yield powers
        with np.errstate(all="ignore"):  # what is beyond float64 costs too much
            powers = [power * base for power, base in zip(powers, bases, strict=True)]


@np.errstate(all="ignore")
def _cost(coefficient: float, n: int, power: np.ndarray, powers: Sequence[np.ndarray]) -> float:
    """Return c_n, the mean over pairs of a_n^2 sum (m^n - t^2n), of t^n and of all m^n."""
    if not coefficient or n == 0:
        return 0.0
    found = float(np.mean(sum(one - power * power for one in powers)) * coefficient**2)
    return max(found, 0.0) if np.isfinite(found) else np.inf


def _counts(costs: np.ndarray, wanted: np.ndarray, n_features: int, size: int) -> np.ndarray | None:
    """Return counts, multiples of ``size`` beyond degree 0, or ``None`` where features do not suffice.

    A wanted degree of no variance gets as few as possible; what remains when all is given out goes to degree 0.
    """
    counts = np.where(wanted, size, 0)
    counts[0] = int(wanted[0])
    spare = n_features - counts.sum()
    if spare < 0 or np.isinf(costs).any():
        return None
    if costs.any():
        shares = allocate(costs.tolist(), int(spare // size + np.count_nonzero(costs)))
        counts = np.where(costs > 0, size * np.asarray(shares), counts)
    counts[0] += n_features - counts.sum()
    return counts
