"""What a method is, and what it makes of a problem: an attention that is ready to run, with what it spends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array
from schoenbat_theory.attention import attention_sums, feature_attention
from schoenbat_theory.attention.costs import Sizes
from schoenbat_theory.compare.targets import Problem

__all__ = [
    "DIVIDED",
    "LARGEST",
    "Approximation",
    "Method",
    "Output",
    "any_width",
    "features",
    "says_its_width",
    "sizes",
    "through",
    "too_many",
]

LARGEST = 1 << 13  # a width that says: as wide as you are
DIVIDED = ("raw", "unit", "released", "isotropic")  # settings in which the weights of a row are divided by their sum


class Output(NamedTuple):
    """What an attention found, (n, e).

    ``nonpositive``  share of its rows whose denominator is <= 0, ``None`` without denominators
    ``chosen``       the method that it decided for, where it decides, and then ``multiply_adds``, what that came to per query
    """

    values: np.ndarray
    nonpositive: float | None = None
    chosen: str = ""
    multiply_adds: float | None = None


class Approximation(NamedTuple):
    """One draw of a method, ready to run.

    ``run``       computes the attention; it may run again, with the same output
    ``features``  features or landmarks in use;  ``multiply_adds``  per query, ``None`` where a map does not say
    """

    run: Callable[[], Output]
    features: int | None
    multiply_adds: float | None


@dataclass(frozen=True)
class Method:
    """A way to answer a problem.

    ``law``       (problem, width) -> what is drawn from, with ``fit(q, k)`` where it is to be fitted; ``None``: does not enter
    ``draw``      (fitted law, problem, generator) -> `Approximation`
    ``settings``  where it enters;  ``sized``  whether it has a width to choose;  ``random``  whether draws differ
    ``at_widths`` whether it enters at the widths asked for, too, and not only at its own (asked for `LARGEST`) and within a budget
    ``group``     its family, if that is not the name before its first comma
    """

    name: str
    law: Callable[[Problem, int], Any]
    draw: Callable[[Any, Problem, np.random.Generator], Approximation]
    settings: tuple[str, ...] = DIVIDED
    sized: bool = True
    random: bool = True
    at_widths: bool = True
    group: str = ""

    @property
    def family(self) -> str:
        """What it is a variant of."""
        return self.group or self.name.partition(",")[0]


def any_width(problem: Problem, width: int) -> int:
    """Return a law for what has nothing to draw beforehand: the width itself."""
    del problem
    return width


def too_many(problem: Problem, landmarks: int) -> bool:
    """Return whether landmarks are more than half of the queries or of the keys: exact attention is cheaper by far."""
    return landmarks > min(problem.target.n, problem.target.m) / 2


def sizes(problem: Problem) -> Sizes:
    """Return queries, keys, their width and that of a value."""
    return Sizes(*(getattr(problem.target, name) for name in Sizes._fields))


def through(phi: Any, q: Array, k: Array, v: Array, log_weights: Array | None = None) -> Output:
    """Return attention through a map, as `feature_attention` computes it, and its denominators' signs from the same sums."""
    if hasattr(phi, "scaled") and hasattr(phi, "log"):  # positive; rows that underflow are rescued there
        return Output(feature_attention(q, k, v, phi, key_log_weights=log_weights), 0.0)
    (phi_q, _), (phi_k, log_scale) = features(getattr(phi, "queries", phi), q), features(phi, k)
    if log_scale is not None:
        log_weights = log_scale if log_weights is None else log_weights + log_scale
    weights = None if log_weights is None else log_weights - log_weights.max()
    try:
        sums = attention_sums(phi_q, phi_k, v, key_log_weights=weights)
    except ValueError as error:  # of the right shape, hence features or sums overflow
        raise ArithmeticError(str(error)) from None
    return Output(sums.ratio(), float(np.mean(sums.denominator <= 0)))


def says_its_width(phi: Any) -> bool:
    """Return whether the sums are as wide as a draw says: one that merges its constants makes them narrower."""
    return hasattr(phi, "n_features") and not hasattr(phi, "merged")


@np.errstate(all="ignore")  # an overflow is found in the features
def features(phi: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return features as attention uses them, and the log scales that they lack."""
    found, log_scale = phi.scaled(x) if hasattr(phi, "scaled") else (getattr(phi, "merged", phi)(x), None)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) != len(x):
        raise ValueError(f"phi: expected features ({len(x)}, D), found {getattr(found, 'shape', found)!r:.60}")
    return found, log_scale
