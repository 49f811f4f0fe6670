"""Feature maps by name: each registers itself at the bottom of its own file, so that one more touches no other."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from schoenbat_theory.arrays import Array

__all__ = ["MapMaker", "Unfitted", "feature_map", "feature_maps", "forgotten_afterwards"]

MapMaker = Callable[[str, int, int], Any]
Maker = TypeVar("Maker", bound=MapMaker)

_HERE = "schoenbat_theory.features"
_MAPS: dict[str, MapMaker] = {}


@dataclass(frozen=True)
class Unfitted:
    """What a maker returns for a law that needs data: ``fit(q, k)``, (..., n, d), (..., m, d) -> law, and no ``draw``."""

    fit: Callable[[Array, Array], Any]


def feature_map(name: str) -> Callable[[Maker], Maker]:
    """Register a maker of laws under ``name``, as a decorator that leaves it as it is.

        make(kernel, dim, n_features) -> law | something to fit | None

    ``kernel``      the name of a kernel, a key of `KERNELS`;  ``dim``  d, the length of queries and keys, >= 1
    ``n_features``  the width that is asked for, >= 1: no draw of the law has more features
    returns         a law, which has ``draw``; what has no ``draw`` but ``fit(q, k)`` -> law, to be fitted first (a law
                    that has both is drawn as it is); or ``None``: not for this kernel, length or width

    A name that is taken is a ``ValueError``; in a notebook alone, whose cells run again, the later one counts.
    ``TypeError`` for a name that is no text and for a ``make`` that cannot be called.

    >>> import schoenbat_theory as st
    >>> st.feature_maps()["positive, independent"]("exp", 8, 64)
    PositiveFeatures(n_features=64, orthogonal=False, hyperbolic=False, tilt=0.0)
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name: expected a text that is not empty, found {name!r:.60}")

    def register(make: Maker) -> Maker:
        if not callable(make):
            raise TypeError(f"make: expected a function (kernel, dim, n_features) -> law or None, found {make!r:.60}")
        if name in _MAPS and not _module(_MAPS[name]) == _module(make) == "__main__":
            raise ValueError(f"name: expected a new one, found {name!r}, registered in {_module(_MAPS[name])}")
        _MAPS[name] = make
        return make

    return register


def feature_maps() -> dict[str, MapMaker]:
    """Return the registered maps, name -> maker: those of this package, then your own.

    By name of module, and within a module in order of registration: who imported what first makes no difference.

    >>> list(feature_maps())[:2]
    ['positive, independent', 'positive, orthogonal']
    """
    package = importlib.import_module(_HERE)
    for found in pkgutil.iter_modules(package.__path__, f"{_HERE}."):
        importlib.import_module(found.name)
    return dict(sorted(_MAPS.items(), key=lambda item: _place(item[1])))


@contextlib.contextmanager
def forgotten_afterwards() -> Iterator[dict[str, MapMaker]]:
    """Yield a dict that holds, once the block has ended, the maps registered in it; they are no longer registered then.

    A file can thus run twice in one process, and what it registers is nobody else's.
    """
    before, found = feature_maps(), dict[str, MapMaker]()
    try:
        yield found
    finally:
        found.update((name, make) for name, make in _MAPS.items() if name not in before)
        _MAPS.clear()
        _MAPS.update(before)


def _place(make: MapMaker) -> tuple[bool, str]:
    module = _module(make)
    return not module.startswith(f"{_HERE}."), module


def _module(make: MapMaker) -> str:
    return str(getattr(make, "__module__", ""))
