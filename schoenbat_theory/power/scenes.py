"""The checks that mutants stand before, on the real library, each with a place for what is changed.

Every scene has small fixed inputs and a claim in closed form or by enumeration, so that the distance of a mutant is
known exactly. Without a change it is the unbroken twin, which must not be accused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.attention import attention_sums, feature_attention, released_attention
from schoenbat_theory.bounds import KarKarnick
from schoenbat_theory.checks import Sample, check_mean, check_rate, check_tail
from schoenbat_theory.degrees import GeometricDegrees
from schoenbat_theory.enumeration import central_moments
from schoenbat_theory.features import MaclaurinDraw, RandomMaclaurin
from schoenbat_theory.power.controls import BAND, SIZES
from schoenbat_theory.power.trial import Decide
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.ratio import ratio_law

__all__ = [
    "Change",
    "Scene",
    "attention_ratio",
    "causal_sums",
    "denominators",
    "eighths",
    "kernel_estimate",
    "output_of_ones",
    "squared_deviations",
    "tail_of_estimate",
]

Change = Callable[[MaclaurinDraw], MaclaurinDraw]
DRAWS = 1 << 17
X, Y = np.array([0.5, -0.3, 0.4]), np.array([0.6, 0.2, 0.3])  # two vectors
Q = np.array([[0.5, -0.3], [0.2, 0.6], [-0.4, 0.5]])  # three tokens
K = np.array([[0.3, 0.4], [0.6, -0.2], [0.5, 0.5]])
V = np.array([[1.0, -1.0], [2.0, 0.5], [-1.0, 1.5]])
ONE = RandomMaclaurin("exp", 1)  # the law of a single feature


@dataclass(frozen=True)
class Scene:
    """A check of the library: its kind, what it looks at, its claim, its margin (of a tail: the bound), one run of it."""

    kind: str
    look: str
    target: Any
    margin: Any
    decide: Decide = field(repr=False)


def kernel_estimate(change: Change | None = None, *, p: float = 2.0) -> Scene:
    """The mean of <phi(x), phi(y)> is f(<x, y>); changed are the draw, or the p that degrees are drawn with."""

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        phi = _changed(RandomMaclaurin("exp", size, GeometricDegrees(p)).draw(X.size, rng), change)
        # A draw sorts its features by degree; in random order each is an estimate of its own.
        return rng.permutation(size * phi(X[None])[0] * phi(Y[None])[0])

    return _mean("mean of a kernel estimate", sample, np.exp(X @ Y), 0.02, variance=ONE.variance(X, Y))


def squared_deviations(change: Change | None = None, *, claim: float | None = None) -> Scene:
    """The mean of (<phi(x), phi(y)> - f(<x, y>))^2 at D = 4 is the variance; changed are the draw, or that claim."""
    law, (second, fourth) = RandomMaclaurin("exp", 4), central_moments("exp", X, Y)
    target = second / 4
    square = (fourth + 9 * second**2) / 64  # E e^4 of a mean of D: (m_4 + 3 (D - 1) m_2^2) / D^3

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        phi = _changed(law.draw(X.size, rng, shape=(size,)), change)
        estimates: np.ndarray = np.sum(phi(X[None]) * phi(Y[None]), axis=-1)[:, 0]
        return (estimates - np.exp(X @ Y)) ** 2

    look, variance = "variance of a kernel estimate", square - target**2
    return _mean(look, sample, target if claim is None else claim, 0.03, variance=variance)


def causal_sums(sums: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None) -> Scene:
    """The means of both sums of causal attention are those of the kernel; changed is how they are added up."""
    values, seen = np.concatenate([V, np.ones((3, 1))], axis=-1), np.tril(np.ones((3, 3)))
    used = seen[..., None] * values  # (query, key, value)
    variance = np.einsum("ija,ijl,ila->ia", used, ONE.row_covariance(Q, np.stack([K] * 3)), used)

    def library(phi_q: np.ndarray, phi_k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = attention_sums(phi_q, phi_k, v, causal=True)
        return found.numerator, found.denominator

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        phi = ONE.draw(2, rng, shape=(size,))
        numerator, denominator = (sums or library)(phi(Q), phi(K), V)
        return np.concatenate([numerator, denominator[..., None]], axis=-1)

    target = (seen * np.exp(Q @ K.T)) @ values
    return _mean("means of both causal sums", sample, target, 0.05 * np.sqrt(variance), variance=variance)


def attention_ratio(answer: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> Scene:
    """The mean of feature attention is that of its exact law, D = 2, degrees <= 8; changed is the answer."""
    q, k, v = np.array([[0.5]]), np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])
    law = RandomMaclaurin("exp", 2, GeometricDegrees(max_degree=8))
    exact = ratio_law(q[0], k, v[:, 0], "exp", n_features=2, max_degree=8)

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        out = feature_attention(q, k, v, law.draw(1, rng, shape=(size,)))
        return (out if answer is None else answer(out, v))[:, 0, 0]

    return _mean("attention ratio, exact law", sample, float(exact.mean), 0.02, bounds=(0.0, 1.0))


def output_of_ones(clamp: float | None = None) -> Scene:
    """Attention to values that are all 1 is 1 in every draw; changed is the clamp of the denominator."""
    token = np.array([[math.sqrt(0.5)]])

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        phi = ONE.draw(1, rng, shape=(size,))
        out: np.ndarray = released_attention(token, token, np.ones((1, 1)), phi, clamp=clamp)
        return out[:, 0, 0]

    return _mean("attention to values of 1", sample, 1.0, 0.02, bounds=(0.0, 1.0))


def denominators(*, separate: bool = False, epsilon: float = 0.0) -> Scene:
    """The squared error of a denominator falls as 1/D; changed are the maps (a draw each), or a constant is added."""

    def errors(rng: np.random.Generator, width: int) -> Iterator[float]:
        law = eighths(width)
        phi_q = phi_k = law.draw(2, rng, shape=(16,))
        if separate:
            phi_k = law.draw(2, rng, shape=(16,))
        found = attention_sums(phi_q(Q[:1]), phi_k(K), V).denominator + epsilon
        yield from np.square(found[:, 0] - np.sum(law.mean(Q[0], K))).tolist()

    def decide(rng: np.random.Generator, alpha: float) -> Evidence:
        stock: dict[int, Iterator[float]] = {}  # sixteen errors are drawn at a time

        def error(generator: np.random.Generator, width: int) -> float:
            if (found := next(stock.get(width, iter(())), None)) is None:
                stock[width] = errors(generator, width)
                found = next(stock[width])
            return found

        return check_rate(error, SIZES, 1.0, band=BAND, alpha=alpha, rng=rng)

    return Scene("rate", "error of a denominator", 1.0, BAND, decide)


def eighths(width: int) -> RandomMaclaurin:
    """The law with 1, 4, 2, 1 eighths of the features of degrees 0 to 3: with fixed counts the error is c/D exactly."""
    return RandomMaclaurin("exp", width, [width // 8, width // 2, width // 4, width // 8])


def tail_of_estimate(x: np.ndarray, radius: float) -> Scene:
    """P[|<phi(x), phi(x)> - f| > 150] obeys Kar & Karnick's bound with that radius; changed is its norm."""
    deviation, target = 150.0, math.exp(float(x @ x))
    bound = float(KarKarnick("exp", radius).tail(deviation, 1))

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        phi = RandomMaclaurin("exp", size).draw(x.size, rng)
        return rng.permutation(np.abs(size * phi(x[None])[0] ** 2 - target) > deviation)

    def decide(rng: np.random.Generator, alpha: float) -> Evidence:
        return check_tail(exceeds, bound, alpha=alpha, rng=rng, max_draws=DRAWS)

    return Scene("tail", "tail of a kernel estimate", bound, bound, decide)


def _changed(phi: Any, change: Change | None) -> Any:
    return phi if change is None else change(phi)


def _mean(look: str, sample: Sample, target: Any, margin: Any, **known: Any) -> Scene:
    def decide(rng: np.random.Generator, alpha: float) -> Evidence:
        return check_mean(sample, target, margin=margin, alpha=alpha, rng=rng, max_draws=DRAWS, **known)

    kind = "Catoni" if "variance" in known else "betting"
    return Scene(kind, look, target, margin, decide)
