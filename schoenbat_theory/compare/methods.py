"""What is compared: every registered feature map, and the attentions of `ENTRANTS`; one more is one more entry there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.attention import (
    attention_sums,
    feature_attention,
    linear_attention,
    mean_attention,
    nystrom_attention,
    nystromformer_attention,
    weighted_mean_attention,
)
from schoenbat_theory.compare import costs
from schoenbat_theory.compare.costs import Sizes
from schoenbat_theory.compare.results import BASELINE
from schoenbat_theory.compare.targets import Problem
from schoenbat_theory.features.fourier import FourierFeatures
from schoenbat_theory.features.maclaurin import RandomMaclaurin
from schoenbat_theory.features.registry import MapMaker, feature_maps

__all__ = ["ENTRANTS", "REFERENCE", "Approximation", "Method", "Output", "methods", "too_many"]

DIVIDED = ("raw", "unit", "released")  # settings in which the weights of a row are divided by their sum
STEPS = 6  # of Nystromformer's and of Skyformer's iterations, the defaults of both


class Output(NamedTuple):
    """What an attention found, (n, e), and the share of its rows whose denominator is <= 0, ``None`` without denominators."""

    values: np.ndarray
    nonpositive: float | None = None


class Approximation(NamedTuple):
    """One draw of a method, ready to run.

    ``run``       computes the attention; it may run again, with the same output
    ``features``  features or landmarks in use;  ``multiply_adds``  per query, ``None`` where a map does not say
    """

    run: Callable[[], Output]
    features: int | None = None
    multiply_adds: float | None = 0.0


@dataclass(frozen=True)
class Method:
    """A way to answer a problem.

    ``law``       (problem, width) -> what is drawn from, with ``fit(q, k)`` where it is to be fitted; ``None``: does not enter
    ``draw``      (fitted law, problem, generator) -> `Approximation`
    ``settings``  where it enters;  ``sized``  whether it has a width to choose;  ``random``  whether draws differ
    ``group``     its family, if that is not the name before its first comma
    """

    name: str
    law: Callable[[Problem, int], Any]
    draw: Callable[[Any, Problem, np.random.Generator], Approximation]
    settings: tuple[str, ...] = DIVIDED
    sized: bool = True
    random: bool = True
    group: str = ""

    @property
    def family(self) -> str:
        """What it is a variant of."""
        return self.group or self.name.partition(",")[0]


def methods(maps: Mapping[str, MapMaker] | None = None) -> dict[str, Method]:
    """Return all methods by name: the entrants of this file, then the registered maps, then ``maps`` of your own.

    >>> list(methods())[:2]
    ['mean of the values', 'weighted mean of the values']
    """
    listed = [*ENTRANTS, *(_of_map(name, make) for name, make in (feature_maps() | dict(maps or {})).items())]
    return {one.name: one for one in listed}


def too_many(problem: Problem, landmarks: int) -> bool:
    """Return whether landmarks are more than half of the queries or of the keys: exact attention is cheaper by far."""
    return landmarks > min(problem.target.n, problem.target.m) / 2


def _of_map(name: str, make: MapMaker) -> Method:
    return Method(name, functools.partial(_law_of_map, make), _draw_map)


def _law_of_map(make: MapMaker, problem: Problem, width: int) -> Any:
    return make(problem.target.kernel, problem.target.d, width)


def _draw_map(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    phi = law.draw(problem.target.d, rng)
    width = phi.n_features if _says_its_width(phi) else _features(phi, problem.q[:1])[0].shape[-1]
    of_a_row = getattr(phi, "multiply_adds", None)
    cost = None if of_a_row is None else costs.features(_sizes(problem), of_a_row, width) + _of_landmarks(law, problem)
    return Approximation(lambda: _through(phi, problem), int(getattr(phi, "n_features", width)), cost)


def _of_landmarks(law: Any, problem: Problem) -> float:
    """Return what is to be made of landmarks once a head is there, for a law that draws them from its points."""
    return costs.root(_sizes(problem), law.n_features) if hasattr(law, "points") else 0.0


def _says_its_width(phi: Any) -> bool:
    """Return whether the sums are as wide as a draw says: one that merges its constants makes them narrower."""
    return hasattr(phi, "n_features") and not hasattr(phi, "merged")


def _through(phi: Any, problem: Problem) -> Output:
    """Return attention through a map, as `feature_attention` computes it, and its denominators' signs from the same sums."""
    if hasattr(phi, "scaled") and hasattr(phi, "log"):  # positive; rows that underflow are rescued there
        return Output(feature_attention(problem.q, problem.k, problem.v, phi), 0.0)
    (phi_q, _), (phi_k, log_scale) = _features(phi, problem.q), _features(phi, problem.k)
    weights = None if log_scale is None else log_scale - log_scale.max()
    try:
        sums = attention_sums(phi_q, phi_k, problem.v, key_log_weights=weights)
    except ValueError as error:  # of the right shape, hence features or sums overflow
        raise ArithmeticError(str(error)) from None
    return Output(sums.ratio(), float(np.mean(sums.denominator <= 0)))


@np.errstate(all="ignore")  # an overflow is found in the features
def _features(phi: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return features as attention uses them, and the log scales that they lack."""
    found, log_scale = phi.scaled(x) if hasattr(phi, "scaled") else (getattr(phi, "merged", phi)(x), None)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) != len(x):
        raise ValueError(f"phi: expected features ({len(x)}, D), found {getattr(found, 'shape', found)!r:.60}")
    return found, log_scale


def _random_maclaurin(problem: Problem, width: int) -> RandomMaclaurin:
    return RandomMaclaurin(problem.target.kernel, width)


# Attentions that are no feature maps.


def _fixed(problem: Problem, width: int) -> int:
    """A law for what has nothing to draw, and no width."""
    del problem
    return width


def _even(problem: Problem, width: int) -> int | None:
    """Pairs of a cosine and a sine: an even width."""
    del problem
    return width - width % 2 or None


def _landmarks(problem: Problem, width: int) -> int | None:
    """As many landmarks as the width says, where they are not too many."""
    return None if too_many(problem, width) else width


def _mean(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    return Approximation(lambda: Output(mean_attention(problem.q, problem.k, problem.v)))


def _weighted_mean(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    kernel = problem.target.kernel
    return Approximation(lambda: Output(weighted_mean_attention(problem.q, problem.k, problem.v, kernel)))


def _nothing(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    return Approximation(lambda: Output(np.zeros((problem.target.n, problem.target.e))))


def _nystromformer(width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    q, k, v = problem.head.q, problem.head.k, problem.v
    return Approximation(
        lambda: Output(nystromformer_attention(q, k, v, n_landmarks=width, steps=STEPS)),
        width,
        costs.nystromformer(_sizes(problem), width, STEPS),
    )


def _elu(law: Any, problem: Problem, rng: np.random.Generator) -> Approximation:
    q, k, v, d = problem.head.q, problem.head.k, problem.v, problem.target.d
    cost = costs.features(_sizes(problem), 2 * d, d)  # exp and a sum per entry
    return Approximation(lambda: Output(linear_attention(q, k, v), 0.0), d, cost)


def _nystrom(inverse: str, width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    run: Any = functools.partial(nystrom_attention, problem.q, problem.k, problem.v, n_landmarks=width, inverse=inverse)
    seed = int(rng.integers(1 << 32))  # so that it can run again with the same landmarks
    steps = STEPS if inverse == "schulz" else None
    return Approximation(lambda: Output(run(rng=seed)), width, costs.nystrom(_sizes(problem), width, steps))


def _trigonometric(width: int, problem: Problem, rng: np.random.Generator) -> Approximation:
    phi = FourierFeatures(width, kernel="gaussian").draw(problem.target.d, rng)
    cost = costs.features(_sizes(problem), phi.multiply_adds, phi.n_features, divided=False)
    return Approximation(
        lambda: Output(attention_sums(phi(problem.q), phi(problem.k), problem.v).numerator), phi.n_features, cost
    )


def _sizes(problem: Problem) -> Sizes:
    return Sizes(*(getattr(problem.target, name) for name in Sizes._fields))


_BASELINE: dict[str, Any] = {"sized": False, "random": False, "group": BASELINE}
ENTRANTS = (
    Method("mean of the values", _fixed, _mean, **_BASELINE),
    Method("weighted mean of the values", _fixed, _weighted_mean, **_BASELINE),
    Method("the answer 0", _fixed, _nothing, ("gaussian",), **_BASELINE),
    Method("Nyströmformer", _landmarks, _nystromformer, ("raw",), random=False),
    Method("linear attention, elu + 1", _fixed, _elu, ("raw",), sized=False, random=False),
    Method("Nyström, pseudo-inverse", _landmarks, functools.partial(_nystrom, "exact"), ("gaussian",)),
    Method("Nyström, Schulz iteration", _landmarks, functools.partial(_nystrom, "schulz"), ("gaussian",)),
    Method("trigonometric, Gaussian", _even, _trigonometric, ("gaussian",)),
)
# Its cost at the middle width is the budget of all.
REFERENCE = Method("random Maclaurin", _random_maclaurin, _draw_map)
