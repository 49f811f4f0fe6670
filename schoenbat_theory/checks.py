"""Checks by sampling: is a mean what it should be, does a tail obey its bound, does an error fall at its rate?

kind                 refuted                                     consistent       otherwise
mean = target        interval misses [target - m, target + m]    inside it        undecided
P <= bound           lower limit above the bound                 upper at/below   undecided
error^2 ~ size^-s    interval of s misses the band               inside it        undecided
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_generator, as_reals, require_int, require_real
from schoenbat_theory.confidence import (
    asymptotic_interval,
    binomial_limits,
    catoni_interval,
    empirical_bernstein_interval,
    looks,
)
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.sampling import BATCHES, CHUNK, batch_means, replicates

__all__ = ["check_mean", "check_rate", "check_tail"]

Sample = Callable[[np.random.Generator, int], Any]
FIRST = 1 << 13  # draws at the first look
ROUNDING = (CHUNK + 64) * 2.0**-53  # a mean of batches of up to CHUNK errs by at most this times the mean of |x|


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

    ``sample``     (rng, size) -> (size, ...) independent replicates
    ``target``     (...) what their mean should be;  ``margin``  absolute, > 0, broadcast with it
    ``variance``   of one replicate, (...) or a number, an upper bound will do: Catoni's interval
    ``bounds``     (low, high) that no replicate leaves: empirical Bernstein.  With neither, an
                   asymptotic interval (Student's t), named so and not ``guaranteed``
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
    margin = _of_shape("margin", margin, shape)
    _require(target.size > 0 and np.isfinite(target).all(), "target", "finite numbers, at least one", target)
    _require((margin > 0).all(), "margin", "positive numbers", margin)
    _require_alpha(alpha)
    if variance is not None:
        variance = _of_shape("variance", variance, shape)
        _require(np.isfinite(variance).all() and (variance >= 0).all(), "variance", "finite, >= 0", variance)
    if bounds is not None:
        found = as_reals("bounds", bounds)
        _require(found.shape == (2,) and found[0] <= found[1], "bounds", "(low, high), low <= high", bounds)
        _require(np.isfinite(found).all(), "bounds", "finite numbers", bounds)
    sizes = looks(max(BATCHES, min(FIRST, _power_of_two(max_draws))), max_draws)
    share = alpha / (len(sizes) * comparisons)
    trace = []
    for n, means, square in batch_means(_within(sample, bounds), as_generator(rng), sizes, shape, target):
        estimate = means.mean(axis=0)
        sample_variance = np.maximum(square - (estimate - target) ** 2, 0.0) * n / (n - 1)
        # Batches grow beyond CHUNK with the draws; ROUNDING is for those that do not.
        slack = (max(CHUNK, n // BATCHES) + 64) * 2.0**-53 * (np.abs(target) + np.sqrt(square))
        if variance is not None:
            spread = means.max(axis=0) - means.min(axis=0)
            still = (variance > 0) | (spread <= 2 * slack)
            _require(still.all(), "variance", "an upper bound of the variance", "0 although replicates differ")
            lower, upper = catoni_interval(means, variance * BATCHES / n, share)
            name = "Catoni, known variance"
        elif bounds is not None:
            width = bounds[1] - bounds[0]
            lower, upper = empirical_bernstein_interval(estimate, sample_variance, n, width, share)
            name = "empirical Bernstein, known bounds"
        else:
            lower, upper = asymptotic_interval(means, share)
            name = "asymptotic (Student's t of batch means)"
        lower, upper = lower - slack, upper + slack
        trace.append((n, estimate, lower, upper))
        outside = (lower > target + margin) | (upper < target - margin)
        inside = (lower >= target - margin) & (upper <= target + margin)
        if outside.any() or inside.all():
            break
    excess = np.maximum(upper - target, target - lower) / margin
    gap = np.maximum(lower - target, target - upper) / margin
    worst = np.unravel_index(int(np.argmax(gap if outside.any() else excess)), shape) if shape else ()
    return Evidence(
        "refuted" if outside.any() else "consistent" if inside.all() else "undecided",
        "monte-carlo",
        measured=float(estimate[worst]),
        predicted=float(target[worst]),
        interval=(float(lower[worst]), float(upper[worst])),
        draws=n,
        comparisons=comparisons,
        inequality=name,
        alpha=alpha,
        guaranteed=variance is not None or bounds is not None,
        figure={
            "plot": "sequence",
            "draws": [look[0] for look in trace],
            "estimate": [float(look[1][worst]) for look in trace],
            "lower": [float(look[2][worst]) for look in trace],
            "upper": [float(look[3][worst]) for look in trace],
            "target": float(target[worst]),
            "margin": float(margin[worst]),
        },
    )


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
    _require(bound.size > 0 and (bound >= 0).all(), "bound", "numbers >= 0, at least one", bound)
    _require_alpha(alpha)
    says = bound < 1
    comparisons = int(says.sum())
    if comparisons == 0:
        return Evidence(
            "vacuous", "monte-carlo", predicted=float(bound.min()), inequality="a bound of at least 1", alpha=0.0
        )
    sizes = looks(min(FIRST, _power_of_two(max_draws)), max_draws)
    share = alpha / (len(sizes) * comparisons)
    rng, hits, done = as_generator(rng), np.zeros(shape), 0
    for n in sizes:
        for drawn in replicates(exceeds, rng, n - done, shape):
            _require(drawn.dtype == np.bool_, "exceeds", "booleans", drawn.dtype)
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
    """Decide whether the mean squared error falls like size^-exponent, over all sizes and over the last decade.

    ``error``     (rng, size) -> one squared error at that size, > 0 on average
    ``sizes``     at least three, spanning at least a decade
    ``band``      half-width around ``exponent`` within which the fitted exponent must lie
    ``max_draws`` repeats per size

    Least squares on log mean error with intervals from the normal approximation: asymptotic,
    and named so. The last decade is judged alone as well, because a plateau, the mark of a bias, shows
    there first. Raises ``ValueError`` for too few sizes.

    >>> check_rate(lambda rng, size: rng.exponential() / size, [10, 30, 100], 1.0, band=0.2, rng=0).verdict
    'consistent'
    """
    found = as_reals("sizes", sizes)
    whole = found.ndim == 1 and np.isfinite(found).all() and (found == np.floor(found)).all()
    _require(whole, "sizes", "three or more positive integers", sizes)
    sizes = sorted(int(size) for size in found)
    _require(len(sizes) >= 3 and sizes[0] > 0, "sizes", "three or more positive integers", sizes)
    _require(sizes[-1] >= 10 * sizes[0], "sizes", "at least a decade", sizes)
    exponent = require_real("exponent", exponent, "a finite number")
    band = require_real("band", band, "a positive number", lambda b: 0 < b < math.inf)
    max_draws = require_int("max_draws", max_draws, 1)
    _require_alpha(alpha)
    rng = as_generator(rng)
    x = np.log(np.asarray(sizes, dtype=np.float64))
    last = x >= x[-1] - math.log(10) - 1e-9
    repeats = looks(min(16, max_draws), max_draws)
    share = alpha / (2 * len(repeats))
    errors = np.empty((0, len(sizes)))
    for r in repeats:
        fresh = [[float(error(rng, size)) for size in sizes] for _ in range(r - len(errors))]
        errors = np.concatenate([errors, np.array(fresh).reshape(-1, len(sizes))])
        mean = errors.mean(axis=0)
        if not (np.isfinite(mean).all() and (mean > 0).all()):
            raise ArithmeticError(f"error: expected positive finite squared errors, found means {mean}")
        spread = errors.std(axis=0, ddof=1) / math.sqrt(r) / mean if r > 1 else np.full_like(mean, np.inf)
        fits = [_slope(x[part], np.log(mean[part]), spread[part], r, share) for part in (slice(None), last)]
        refuted = any(low > exponent + band or high < exponent - band for _, low, high in fits)
        holds = all(low >= exponent - band and high <= exponent + band for _, low, high in fits)
        if refuted or holds:
            break
    worst = max(fits, key=lambda fit: max(fit[2] - exponent, exponent - fit[1]))
    return Evidence(
        "refuted" if refuted else "consistent" if holds else "undecided",
        "monte-carlo",
        measured=worst[0],
        predicted=float(exponent),
        interval=worst[1:],
        draws=r * len(sizes),
        comparisons=2,
        inequality="asymptotic (normal approximation of log mean squared errors)",
        alpha=alpha,
        guaranteed=False,
        note=f"exponent {fits[0][0]:.3f} overall, {fits[1][0]:.3f} on the last decade",
        figure={
            "plot": "rate",
            "sizes": sizes,
            "error": mean.tolist(),
            "lower": (mean * np.exp(-2 * spread)).tolist(),
            "upper": (mean * np.exp(2 * spread)).tolist(),
            "exponent": float(exponent),
            "fitted": fits[0][0],
        },
    )


def _slope(x: np.ndarray, y: np.ndarray, sd: np.ndarray, r: int, alpha: float) -> tuple[float, float, float]:
    """Return minus the least-squares slope of y on x with its t interval, given the sd of each y from r repeats."""
    import scipy.special

    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    if r < 2:
        return -float(weights @ y), -math.inf, math.inf
    slope, se = -float(weights @ y), float(np.sqrt(weights**2 @ sd**2))
    half = float(scipy.special.stdtrit(max(r - 1, 1), 1 - alpha / 2)) * se
    return slope, slope - half, slope + half


def _within(sample: Sample, bounds: tuple[float, float] | None) -> Sample:
    if bounds is None:
        return sample

    def checked(rng: np.random.Generator, size: int) -> Any:
        drawn = as_reals("sample", sample(rng, size))
        low, high = float(drawn.min(initial=math.inf)), float(drawn.max(initial=-math.inf))
        # NaN is in no bounds and outside none: it is the next to look who names it.
        _require(not (low < bounds[0] or high > bounds[1]), "bounds", f"to contain [{low:g}, {high:g}]", bounds)
        return drawn

    return checked


def _of_shape(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``values`` broadcast to ``shape``, that of the target."""
    found = as_reals(name, values)
    try:
        return np.broadcast_to(found, shape)
    except ValueError:
        raise ValueError(f"{name}: expected a shape that broadcasts to {shape}, found {found.shape}") from None


def _power_of_two(n: int) -> int:
    return 1 << (require_int("max_draws", n, 1).bit_length() - 1)


def _require_alpha(alpha: float) -> None:
    require_real("alpha", alpha, "a number in (0, 1)", lambda a: 0 < a < 1)


def _require(condition: Any, name: str, expected: str, found: Any) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {expected}, found {found}")
