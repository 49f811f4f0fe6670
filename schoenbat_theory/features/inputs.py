"""What every law and draw of feature maps asks of what it is given, and the words in which it says no."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    check_floating,
    eps,
    namespace,
    require_int,
)

__all__ = [
    "check_features",
    "check_fitted",
    "check_norms",
    "check_pairs",
    "check_some",
    "check_stored",
    "check_tokens",
    "check_vectors",
    "leading_axes",
    "too_large",
]


def check_vectors(**named: Array) -> Any:
    """Return the namespace of arrays (..., d) with one d and leading axes that broadcast, or raise with their names."""
    xp, names = check_floating(**named), ", ".join(named)
    if any(x.ndim < 1 for x in named.values()) or len({x.shape[-1] for x in named.values()}) != 1:
        found = ", ".join(str(tuple(x.shape)) for x in named.values())
        raise ValueError(f"{names}: expected (..., d) with one d, found {found}")
    broadcast_shapes(**{name: tuple(x.shape[:-1]) for name, x in named.items()})
    return xp


def check_tokens(x: Array, dim: int, shape: tuple[int, ...]) -> Any:
    """Return the namespace of ``x`` (..., n, dim), whose leading axes broadcast with ``shape`` of a draw, or raise."""
    xp = check_floating(x=x)
    if x.ndim < 2 or x.shape[-1] != dim:
        raise ValueError(f"x: expected shape (..., n, {dim}), found {tuple(x.shape)}")
    broadcast_shapes(draw=shape, x=tuple(x.shape[:-2]))
    return xp


def check_features(x: Array, features: Array, *, scaled: bool = False) -> Array:
    """Return the features of ``x``, or raise ``ValueError`` where they overflow; ``scaled``: the map has a form that does not."""
    if not all_finite(features):
        remedy = "use scaled(x), scale x down" if scaled else "scale x down"
        raise ValueError(f"x: features overflow {x.dtype}; {remedy} or use float64")
    return features


def check_pairs(q: Array, k: Array) -> tuple[int, ...]:
    """Return the common leading axes of ``q`` (..., n, d) and ``k`` (..., m, d), d >= 1, or raise."""
    check_floating(q=q, k=k)
    if q.ndim < 2 or k.ndim < 2 or not q.shape[-1] == k.shape[-1] > 0:
        raise ValueError(f"q, k: expected (..., n, d), (..., m, d), d >= 1, found {tuple(q.shape)}, {tuple(k.shape)}")
    return broadcast_shapes(q=tuple(q.shape[:-2]), k=tuple(k.shape[:-2]))


def check_some(q: Array, k: Array) -> tuple[int, ...]:
    """Return the common leading axes of ``q`` (..., n, d) and ``k`` (..., m, d), neither empty, or raise."""
    lead = check_pairs(q, k)
    if 0 in (*q.shape, *k.shape):
        found = f"{tuple(q.shape)}, {tuple(k.shape)}"
        raise ValueError(f"q, k: expected (..., n, d), (..., m, d), none empty, found {found}")
    return lead


def check_fitted(q: Array, k: Array) -> tuple[int, ...]:
    """Return the common leading axes of finite ``q`` (..., n, d) and ``k`` (..., m, d) that a law is fitted to, or raise."""
    lead = check_some(q, k)
    check_finite(q=q, k=k)
    return lead


def check_stored(path: str | os.PathLike[str], stored: Mapping[str, np.ndarray], holds: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` with ``path`` for the first array of a saved draw, name -> truth, that is not as it was saved."""
    for name, sound in holds.items():
        if not sound:
            raise ValueError(f"{path}: {name} of the draw is damaged: {stored[name].dtype} {stored[name].shape}")


def leading_axes(shape: Any) -> tuple[int, ...]:
    """Return the leading axes asked of a draw as a tuple of ints, or raise with their name."""
    if not isinstance(shape, tuple):
        raise TypeError(f"shape: expected a tuple of leading axes, found {shape!r}")
    return tuple(require_int("shape", size, 0) for size in shape)


def too_large(names: str, x: Array) -> ValueError:
    """Return the error for finite ``names`` whose moments do not fit the dtype of ``x``."""
    return ValueError(f"{names}: finite, but their moments overflow {x.dtype}; scale down or use float64")


@np.errstate(over="ignore", invalid="ignore")  # 0 times a square that overflows is NaN, and no norm beyond
def check_norms(x: Array, y: Array, radius: float, name: str) -> None:
    """Raise ``ValueError`` where ||x|| ||y||, elementwise over leading axes, exceeds ``radius`` beyond rounding."""
    if math.isinf(radius):
        return
    xp = namespace(x)
    norms = xp.sqrt(xp.sum(x * x, axis=-1) * xp.sum(y * y, axis=-1))
    beyond = norms > radius * (1 + (x.shape[-1] + 4) * eps(x))  # sums of d squares err by d u, halved by the root
    if bool(xp.any(beyond)):
        largest = float(xp.max(xp.where(beyond, norms, xp.zeros_like(norms))))
        raise ValueError(
            f"the random series of {name} needs ||x|| ||y|| <= {radius:g}, found ||x|| ||y|| = {largest:.6g}"
        )
