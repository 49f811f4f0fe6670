"""What is compared: every registered feature map, and the attentions of `ENTRANTS`; one more is one more entry there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from schoenbat_theory.attention import costs
from schoenbat_theory.attention.costs import Sizes
from schoenbat_theory.compare.approximation import Approximation, Method, features, says_its_width, sizes, through
from schoenbat_theory.compare.beyond import BEYOND
from schoenbat_theory.compare.others import OTHERS
from schoenbat_theory.compare.results import BEYOND_THE_PAPER, LANDMARKS
from schoenbat_theory.compare.targets import Problem
from schoenbat_theory.features.registry import MapMaker, feature_maps

__all__ = ["ENTRANTS", "methods"]

GROUPS = {"optimized Maclaurin": BEYOND_THE_PAPER, "random landmarks": LANDMARKS}


def methods(maps: Mapping[str, MapMaker] | None = None) -> dict[str, Method]:
    """Return all methods by name: the entrants, then the registered maps, then ``maps`` of your own.

    >>> list(methods())[:2]
    ['mean of the values', 'weighted mean of the values']
    """
    listed = [*ENTRANTS, *(_of_map(name, make) for name, make in (feature_maps() | dict(maps or {})).items())]
    return {one.name: one for one in listed}


def _of_map(name: str, make: MapMaker) -> Method:
    fit = FITS.get(name.partition(",")[0], costs.fit)
    return Method(
        name, functools.partial(_law_of_map, make), functools.partial(_draw_map, fit), group=GROUPS.get(name, "")
    )


def _law_of_map(make: MapMaker, problem: Problem, width: int) -> Any:
    return make(problem.target.kernel, problem.target.d, width)


def _draw_map(
    fit: Callable[[Any, Sizes], float], law: Any, problem: Problem, rng: np.random.Generator
) -> Approximation:
    phi = law.draw(problem.target.d, rng)
    width = phi.n_features if says_its_width(phi) else features(phi, problem.q[:1])[0].shape[-1]
    cost = costs.of_draw(sizes(problem), phi, width)
    cost = None if cost is None else cost + fit(law, sizes(problem))
    run = functools.partial(through, phi, problem.q, problem.k, problem.v)
    return Approximation(run, int(getattr(phi, "n_features", width)), cost)


def _fit_of_counts(law: Any, sizes: Sizes) -> float:
    return costs.counts(sizes, len(law.degrees.counts))


def _fit_of_tilt(law: Any, sizes: Sizes) -> float:
    return costs.tilt(sizes) if law.tilt else 0.0


def _root_of_landmarks(law: Any, sizes: Sizes) -> float:
    return costs.root(sizes, law.n_features)


# By family, of laws that do not say themselves what is made for a head.
FITS = {"fixed counts": _fit_of_counts, "positive": _fit_of_tilt, "random landmarks": _root_of_landmarks}
ENTRANTS = (*OTHERS, *BEYOND)
