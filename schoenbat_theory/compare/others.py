"""Attentions that are no feature maps: the baselines, and what the literature compares with."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from schoenbat_theory.attention import (
    attention_sums,
    costs,
    linear_attention,
    mean_attention,
    nystrom_attention,
    nystromformer_attention,
    weighted_mean_attention,
)
from schoenbat_theory.compare.approximation import Approximation, Method, Output, any_width, sizes, too_many
from schoenbat_theory.compare.results import BASELINE, LANDMARKS
from schoenbat_theory.compare.targets import Problem
from schoenbat_theory.features.fourier import FourierFeatures

__all__ = ["OTHERS"]

STEPS = 6  # of Nystromformer's and of Skyformer's iterations, the defaults of both


def _even(problem: Problem, width: int) -> int | None:
    """Pairs of a cosine and a sine: an even width."""
    del problem
    return width - width % 2 or None


def _landmarks(problem: Problem, width: int) -> int | None:
    """As many landmarks as the width says, where they are not too many."""
    return None if too_many(problem, width) else width


def _mean(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    cost = costs.mean(sizes(problem))
    return Approximation(lambda: Output(mean_attention(problem.q, problem.k, problem.v)), None, cost)


def _weighted_mean(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    kernel, cost = problem.target.kernel, costs.weighted_mean(sizes(problem))
    return Approximation(lambda: Output(weighted_mean_attention(problem.q, problem.k, problem.v, kernel)), None, cost)


def _nothing(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    return Approximation(lambda: Output(np.zeros((problem.target.n, problem.target.e))), None, 0.0)


def _nystromformer(width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    q, k, v = problem.head.q, problem.head.k, problem.v
    return Approximation(
        lambda: Output(nystromformer_attention(q, k, v, n_landmarks=width, steps=STEPS)),
        width,
        costs.nystromformer(sizes(problem), width, STEPS),
    )


def _elu(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    q, k, v, d = problem.head.q, problem.head.k, problem.v, problem.target.d
    cost = costs.features(sizes(problem), 2 * d, d)  # exp and a sum per entry
    return Approximation(lambda: Output(linear_attention(q, k, v), 0.0), d, cost)


def _nystrom(inverse: str, width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    run: Any = functools.partial(nystrom_attention, problem.q, problem.k, problem.v, n_landmarks=width, inverse=inverse)
    seed = int(rng.integers(1 << 32))  # so that it can run again with the same landmarks
    steps = STEPS if inverse == "schulz" else None
    return Approximation(lambda: Output(run(rng=seed)), width, costs.nystrom(sizes(problem), width, steps))


def _trigonometric(width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    phi = FourierFeatures(width, kernel="gaussian").draw(problem.target.d, rng)
    cost = costs.features(sizes(problem), phi.multiply_adds, phi.n_features, divided=False)
    return Approximation(
        lambda: Output(attention_sums(phi(problem.q), phi(problem.k), problem.v).numerator), phi.n_features, cost
    )


_BASELINE: dict[str, Any] = {"sized": False, "random": False, "group": BASELINE}
OTHERS = (
    Method("mean of the values", any_width, _mean, **_BASELINE),
    Method("weighted mean of the values", any_width, _weighted_mean, **_BASELINE),
    Method("the answer 0", any_width, _nothing, ("gaussian",), **_BASELINE),
    Method("Nyströmformer", _landmarks, _nystromformer, ("raw",), random=False, group=LANDMARKS),
    Method("linear attention, elu + 1", any_width, _elu, ("raw",), sized=False, random=False),
    Method("Nyström, pseudo-inverse", _landmarks, functools.partial(_nystrom, "exact"), ("gaussian",)),
    Method("Nyström, Schulz iteration", _landmarks, functools.partial(_nystrom, "schulz"), ("gaussian",)),
    Method("trigonometric, Gaussian", _even, _trigonometric, ("gaussian",)),
)
