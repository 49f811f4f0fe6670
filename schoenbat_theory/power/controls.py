"""Synthetic trials: estimators whose law is known exactly, at any distance from the claim.

The estimator stays as it is and the claim moves: target = mean - effect * margin. Among the means is a
real estimate of the library, one Maclaurin feature: skewed, heavy-tailed, with closed-form moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.checks import Sample, check_mean, check_rate, check_tail
from schoenbat_theory.features import RandomMaclaurin
from schoenbat_theory.power.trial import Decide, Trial
from schoenbat_theory.propositions import Evidence

__all__ = ["BAND", "EFFECTS", "LAWS", "SIZES", "Law", "controls", "curves"]

EFFECTS = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # of the power curves, in margins
PLACES = {"at the edge": 1.0, "just beyond": 1.02}  # group: effect
MARGIN = 0.05  # of a mean, in standard deviations
BAND, SIZES = 0.2, (8, 16, 32, 64, 128)  # of a rate
UNRESOLVABLE = 2.0**-10  # a margin or a band that no run here resolves, so that only errors end it

Noise = Callable[[np.random.Generator], float]


@dataclass(frozen=True)
class Law:
    """An estimator: its sampler, mean and standard deviation, and bounds if it has any."""

    sample: Sample
    mean: float
    sd: float
    bounds: tuple[float, float] | None = None


def _bernoulli(p: float) -> Law:
    return Law(lambda rng, size: 1.0 * (rng.random(size) < p), p, math.sqrt(p * (1 - p)), (0.0, 1.0))


def _one_feature() -> Law:
    """Kurtosis 20 by enumeration; with more features an estimate would be closer to normal."""
    law, x, y = RandomMaclaurin("exp", 1), np.array([1.0, -0.6, 0.8]), np.array([0.9, 0.3, 0.5])
    return Law(
        lambda rng, size: law.estimates(x, y, rng=rng, size=size),
        float(law.mean(x, y)),
        math.sqrt(float(law.variance(x, y))),
    )


EXPONENTIAL = Law(lambda rng, size: rng.exponential(size=size), 1.0, 1.0)
LAWS = {  # kind: estimators; the first is that of the power curve
    "Catoni": {
        "one feature": _one_feature(),
        "fair signs": Law(lambda rng, size: rng.choice([-1.0, 1.0], size), 0.0, 1.0),
        "exponential": EXPONENTIAL,
        "Student's t(3)": Law(lambda rng, size: rng.standard_t(3, size), 0.0, math.sqrt(3.0)),
    },
    "betting": {
        "fair coin": _bernoulli(0.5),
        "event, 1 in 100": _bernoulli(0.01),
        "uniform": Law(lambda rng, size: rng.random(size), 0.5, math.sqrt(1 / 12), (0.0, 1.0)),
    },
    "Student's t": {
        "one feature": _one_feature(),
        "normal": Law(lambda rng, size: rng.normal(size=size), 0.0, 1.0),
        "exponential": EXPONENTIAL,
        "event, 1 in 100": _bernoulli(0.01),
    },
}
BOUNDS = {"event, 1 in 100": 0.01, "event, 1 in 10": 0.1, "event, 1 in 1000": 0.001}
ERRORS: dict[str, Noise] = {  # squared errors with mean 1
    "exponential": lambda rng: rng.exponential(),
    "chi-squared(1)": lambda rng: rng.normal() ** 2,
    "log-normal": lambda rng: math.exp(rng.normal() - 0.5),
}


def controls() -> Iterator[Trial]:
    """Yield correct estimators, on target and at the edge, and those just beyond it."""
    for kind, laws in LAWS.items():
        for name, law in laws.items():
            yield Trial("on target", kind, name, 0.0, _mean(kind, law, 0.0, UNRESOLVABLE, 1 << 15))
            for group, effect in PLACES.items():
                yield Trial(group, kind, name, effect, _mean(kind, law, effect, MARGIN, 1 << 15))
    for name, bound in BOUNDS.items():
        yield Trial("on target", "tail", name, 0.5, _tail(0.5, bound, 1 << 15))
        for group, effect in PLACES.items():
            yield Trial(group, "tail", name, effect, _tail(effect, bound, 1 << 15))
    for name, noise in ERRORS.items():
        yield Trial("on target", "rate", name, 0.0, _rate(noise, 0.0, UNRESOLVABLE))
        for group, effect in PLACES.items():
            yield Trial(group, "rate", name, effect, _rate(noise, effect, BAND))
    kind, rare = "Student's t", _bernoulli(0.001)  # eight events at the first look
    yield Trial("out of range", kind, "event, 1 in 1000", 0.0, _mean(kind, rare, 0.0, UNRESOLVABLE, 1 << 15))


def curves() -> Iterator[Trial]:
    """Yield an estimator of each kind at `EFFECTS` margins, and a rate that ends in a plateau."""
    for effect in EFFECTS:
        for kind, laws in LAWS.items():
            name, law = next(iter(laws.items()))
            yield Trial("curve", kind, name, effect, _mean(kind, law, effect, MARGIN, 1 << 17))
        name, bound = next(iter(BOUNDS.items()))
        yield Trial("curve", "tail", name, effect, _tail(effect, bound, 1 << 17))
        name, noise = next(iter(ERRORS.items()))
        yield Trial("curve", "rate", name, effect, _rate(noise, effect, BAND))
        yield Trial("curve", "plateau", name, effect, _rate(noise, effect, BAND, plateau=True))


def _mean(kind: str, law: Law, effect: float, margin: float, draws: int) -> Decide:
    """A mean that is ``effect`` margins above the target; the margin is in standard deviations."""
    known: dict[str, Any] = {}
    if kind == "Catoni":
        known["variance"] = law.sd**2
    if kind == "betting":
        known["bounds"] = law.bounds
    margin = margin * law.sd
    target = law.mean - effect * margin

    def decide(rng: np.random.Generator, alpha: float) -> Evidence:
        return check_mean(law.sample, target, margin=margin, alpha=alpha, rng=rng, max_draws=draws, **known)

    return decide


def _tail(effect: float, bound: float, draws: int) -> Decide:
    """An event whose probability is ``effect`` times its bound."""

    def happens(rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.random(size) < effect * bound

    def decide(rng: np.random.Generator, alpha: float) -> Evidence:
        return check_tail(happens, bound, alpha=alpha, rng=rng, max_draws=draws)

    return decide


def _rate(noise: Noise, effect: float, band: float, *, plateau: bool = False) -> Decide:
    """Squared errors that fall with exponent 1 - effect * band; with a plateau, at the largest size alone.

    With the plateau c the mean is 1 / size + c, and its exponent at the largest size n is 1 / (1 + c n).
    """
    exponent = 1 - effect * band
    floor = (1 / exponent - 1) / SIZES[-1] if plateau else 0.0

    def error(rng: np.random.Generator, size: int) -> float:
        return noise(rng) * (1 / size + floor if plateau else size**-exponent)

    def decide(rng: np.random.Generator, alpha: float) -> Evidence:
        return check_rate(error, SIZES, 1.0, band=band, alpha=alpha, rng=rng)

    return decide
