"""Replicates of a random Maclaurin law: independent features are cut from one wide draw, much cheaper than many draws."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, namespace
from schoenbat_theory.degrees import GeometricDegrees
from schoenbat_theory.features.inputs import check_vectors
from schoenbat_theory.features.sketch_moments import WEIGHTS

if TYPE_CHECKING:
    from schoenbat_theory.features.maclaurin import RandomMaclaurin

__all__ = ["estimates", "features"]


def estimates(law: RandomMaclaurin, x: Array, y: Array, rng: np.random.Generator, size: int) -> Array:
    """Return replicates of <phi(x), phi(y)>, (size, ...), as `RandomMaclaurin.estimates` says."""
    xp, n_random = check_vectors(x=x, y=y), law.n_random(x.shape[-1])
    if not _independent(law) or n_random == 0:
        phi = law.draw(x.shape[-1], rng, shape=(size, *([1] * (max(x.ndim, y.ndim) - 1))))
        return xp.sum(phi(x[..., None, :]) * phi(y[..., None, :]), axis=-1)[..., 0]
    phi = _widened(law, n_random * (size - 1)).draw(x.shape[-1], rng)
    phi_x, phi_y = (xp.reshape(phi(xp.reshape(w, (-1, phi.dim))), (*w.shape[:-1], -1)) for w in (x, y))
    products = phi_x * phi_y  # (..., D)
    random = xp.take(products[..., : n_random * size], _random_order(n_random * size, rng, x), axis=-1) * size
    groups = xp.sum(xp.reshape(random, (*products.shape[:-1], size, n_random)), axis=-1)
    exact = xp.sum(products[..., n_random * size :], axis=-1)
    return xp.moveaxis(groups + exact[..., None], -1, 0)


def features(law: RandomMaclaurin, x: Array, rng: np.random.Generator, size: int) -> Array:
    """Return independent random features at x, (size, ...), as `RandomMaclaurin.features` says."""
    xp = check_vectors(x=x)
    if not _independent(law):
        raise ValueError(
            f"degrees, weights: expected random degrees and real weights, whose features are independent, found {law!r}"
        )
    phi = _widened(law, size - law.n_random(x.shape[-1])).draw(x.shape[-1], rng)
    drawn = xp.matrix_transpose(phi(xp.reshape(x, (-1, phi.dim))))[:size, :]
    drawn = xp.take(drawn, _random_order(size, rng, x), axis=0) * math.sqrt(size)
    return xp.reshape(drawn, (size, *x.shape[:-1]))


def _independent(law: RandomMaclaurin) -> bool:
    """Return whether random features are independent of one another."""
    return isinstance(law.degrees, GeometricDegrees) and not WEIGHTS[law.weights].complex


def _widened(law: RandomMaclaurin, by: int) -> RandomMaclaurin:
    """Return the same law with that many more random features."""
    return dataclasses.replace(law, n_features=law.n_features + by)


def _random_order(count: int, rng: np.random.Generator, like: Array) -> Array:
    """Return 0 .. count - 1 in random order: a draw sorts its features by degree, so they are independent again."""
    return asarray_like(rng.permutation(count), like, dtype=namespace(like).int64)
