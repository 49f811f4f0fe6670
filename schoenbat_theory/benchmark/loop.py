"""Checks as one would write them first: redraw, apply, add up, one replicate after another.

They are what the batches of `schoenbat_theory.sampling` are timed against: the same replicates of the same laws, short,
and without a thought of speed. None of them computes an interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

import schoenbat_theory as st

__all__ = ["enumerated_moment", "errors", "exceedances", "moments_of_pairs", "sign_products", "signs_by_choice"]


def moments_of_pairs(
    law: st.RandomMaclaurin, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and mean square of <phi(x_i), phi(y_j)> over ``size`` draws, (n, m) each, for x (n, d), y (m, d)."""
    first, second = np.zeros((len(x), len(y))), np.zeros((len(x), len(y)))
    for _ in range(size):
        phi = law.draw(x.shape[-1], rng)
        products = phi(x) @ phi(y).T
        first += products
        second += products**2
    return first / size, second / size


def exceedances(
    law: st.RandomMaclaurin, x: np.ndarray, y: np.ndarray, error: float, rng: np.random.Generator, size: int
) -> int:
    """Return in how many of ``size`` draws the estimate of f(<x, y>), x and y (d,), is off by ``error`` or more."""
    hits = 0
    for _ in range(size):
        phi = law.draw(len(x), rng)
        hits += bool(abs(phi(x[None])[0] @ phi(y[None])[0] - law.target(x, y)) >= error)
    return hits


def errors(
    law: st.RandomMaclaurin, x: np.ndarray, y: np.ndarray, widths: Sequence[int], rng: np.random.Generator
) -> list[float]:
    """Return one squared error of the mean of so many features, for each width; ``law`` has one feature."""
    found = []
    for width in widths:
        total = 0.0
        for _ in range(width):
            phi = law.draw(len(x), rng)
            total += float(phi(x[None])[0] @ phi(y[None])[0])
        found.append((total / width - float(law.target(x, y))) ** 2)
    return found


def enumerated_moment(x: np.ndarray, y: np.ndarray, order: int) -> float:
    """Return E (<w, x> <w, y>)^order over all sign vectors w, for x and y (d,)."""
    total = 0.0
    for w in itertools.product((-1, 1), repeat=len(x)):
        total += float((np.dot(w, x) * np.dot(w, y)) ** order)
    return total / 2 ** len(x)


def signs_by_choice(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return ``size`` random signs."""
    return rng.choice([-1.0, 1.0], size=size)


def sign_products(rng: np.random.Generator, exponents: np.ndarray, size: int) -> np.ndarray:
    """Return sums of the products of signs over ``size`` vectors, (k,), one number for every sign."""
    w = rng.choice([-1.0, 1.0], size=(size, exponents.shape[1]))
    return np.array([np.prod(w[:, row % 2 == 1], axis=1).sum() for row in exponents])
