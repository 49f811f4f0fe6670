"""The life that all tail bounds share: a formula that falls, and two inverses found by halving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from schoenbat_theory.arrays import as_reals, broadcast_shapes

__all__ = ["TailBound", "reals"]


class TailBound(ABC):
    r"""An upper bound of P[|estimate - target| > deviation], the estimate being made of D independent features.

    ``norm``        in which a radius that enters is measured: "l1", "l2", or "any" where none enters
    ``source``      with theorem number; "not in the sources seen" where it was derived here
    ``asymptotic``  True for what is a limit and no bound

    Arguments and fields are numbers or arrays that broadcast; results are float64 arrays. The inverses are exact
    for `tail` as it is computed: positive floats are ordered as their bit patterns are, and halving these ends at two
    neighbours, one on each side of ``delta``. No closed form, rounded, can promise that.
    """

    norm: ClassVar[str] = "any"
    source: ClassVar[str]
    asymptotic: ClassVar[bool] = False

    @abstractmethod
    def _tail(self, deviation: np.ndarray, n_features: np.ndarray) -> np.ndarray:
        """The formula, falling in both arguments: positive floats of any size, D whole or not; warnings are off."""

    def tail(self, deviation: Any, n_features: Any) -> np.ndarray:
        """Return the bound, (...), for ``deviation`` > 0 and whole ``n_features`` >= 1; a value >= 1 says nothing."""
        deviation, n_features = _positive("deviation", deviation), _whole("n_features", n_features)
        broadcast_shapes(deviation=deviation.shape, n_features=n_features.shape)
        with np.errstate(all="ignore"):  # beyond float64 is 0 or inf, and both are meant
            return np.asarray(self._tail(deviation, n_features))

    def deviation(self, n_features: Any, delta: Any) -> np.ndarray:
        """Return the smallest deviation at which the tail is at most ``delta`` in (0, 1); ``inf`` where there is none."""
        n_features, delta = _whole("n_features", n_features), _probability(delta)
        broadcast_shapes(n_features=n_features.shape, delta=delta.shape)
        return _smallest(lambda deviation: self._tail(deviation, n_features) <= delta, above=0.0)

    def features(self, deviation: Any, delta: Any) -> np.ndarray:
        """Return the smallest whole D at which the tail is at most ``delta`` in (0, 1); ``inf`` where there is none."""
        deviation, delta = _positive("deviation", deviation), _probability(delta)
        broadcast_shapes(deviation=deviation.shape, delta=delta.shape)
        return np.ceil(_smallest(lambda n: self._tail(deviation, n) <= delta, above=math.nextafter(1.0, 0.0)))

    def _require(self, expected: str, holds: Callable[[np.ndarray], Any], *names: str) -> None:
        """Make the named fields float64 arrays, or floats where they have no axes, all of which ``holds``."""
        for name in names:
            found = reals(name, getattr(self, name), expected, holds)
            object.__setattr__(self, name, found if found.ndim else float(found))


def reals(name: str, values: Any, expected: str, holds: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Return ``values`` as float64 if all of them ``holds``, or raise ``ValueError`` with the first that does not."""
    found = as_reals(name, values)
    good = holds(found)
    if not np.all(good):
        raise ValueError(f"{name}: expected {expected}, found {float(found[~good].flat[0])!r}")
    return found


def _positive(name: str, values: Any) -> np.ndarray:
    return reals(name, values, "positive finite numbers", lambda x: (x > 0) & (x < math.inf))


def _whole(name: str, values: Any) -> np.ndarray:
    return reals(name, values, "whole numbers >= 1", lambda x: (x >= 1) & (x < math.inf) & (x == np.floor(x)))


def _probability(delta: Any) -> np.ndarray:
    return reals("delta", delta, "numbers in (0, 1)", lambda x: (x > 0) & (x < 1))


@np.errstate(all="ignore")
def _smallest(holds: Callable[[np.ndarray], np.ndarray], above: float) -> np.ndarray:
    """Return the smallest float64 beyond ``above`` >= 0 that ``holds``, (...); ``inf`` where none does."""
    shape = np.shape(holds(np.asarray(1.0)))
    low, high = (np.full(shape, np.float64(end).view(np.int64)) for end in (above, math.inf))
    while (high - low > 1).any():
        middle = low + (high - low) // 2
        good = holds(middle.view(np.float64))
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    return np.asarray(high.view(np.float64))
