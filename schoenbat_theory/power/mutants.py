r"""Fifteen ways to break the library, each before the check meant for it, with its effect in units of the margin.

A mutant is the real estimator with one change: of the draw, of the maps, of the sums, of the answer, or of
the formula that it is compared with. No effect is sampled.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from schoenbat_theory.attention import attention_sums
from schoenbat_theory.enumeration import sign_vectors
from schoenbat_theory.features import MaclaurinDraw
from schoenbat_theory.features.moments import rademacher_moment
from schoenbat_theory.power import scenes
from schoenbat_theory.power.controls import SIZES
from schoenbat_theory.power.scenes import ONE, Change, K, Q, Scene, V, X, Y
from schoenbat_theory.power.trial import Trial

__all__ = ["mutants", "twins"]

N = np.arange(64)  # degrees; the terms of exp beyond them are below 1 / 64! here
A = np.array([1 / math.factorial(int(n)) for n in N])
INNER, MOMENT = float(X @ Y), float(rademacher_moment(X, Y))
F = math.exp(INNER)
L1, L2 = np.array([0.4, -0.3, 0.2, 0.1]), np.full(16, 0.25)  # of l1 norm 1; of l2 norm 1


def twins() -> Iterator[Trial]:
    """Yield the unbroken library before every check that a mutant stands before."""
    for scene in (
        scenes.kernel_estimate(),
        scenes.squared_deviations(),
        scenes.causal_sums(),
        scenes.attention_ratio(),
        scenes.output_of_ones(),
        scenes.denominators(),
        scenes.tail_of_estimate(L1, radius=1.0),
    ):
        yield Trial("twin", scene.kind, scene.look, 0.0, scene.decide, scene.look)


def mutants() -> Iterator[Trial]:
    """Yield the mutants."""
    yield from _of_the_answer()
    yield from _of_the_draw()
    yield from _of_the_sums()
    yield from _of_the_rate()
    yield from _of_the_formulas()


def _of_the_answer() -> Iterator[Trial]:
    """What comes out does not depend on what went in."""
    scene = scenes.attention_ratio(lambda out, v: np.zeros_like(out))
    yield _mutant("all-zero answer", scene, scene.target)
    scene = scenes.attention_ratio(lambda out, v: np.broadcast_to(v.mean(axis=0), out.shape))
    yield _mutant("mean of V", scene, scene.target - 0.5)


def _of_the_draw() -> Iterator[Trial]:
    """Weights and signs."""
    scene = scenes.kernel_estimate(_times(lambda n: 1.0 * (n != 2)))
    yield _mutant("dropped degree", scene, A[2] * INNER**2)
    scene = scenes.kernel_estimate(_times(lambda n: np.sqrt(1 / A[n])))
    yield _mutant("missing n!", scene, 1 / (1 - INNER) - F)
    # Degrees of p = 3, (2/3) 3^-n, with the weights of p = 2: each term is (4/3) (2/3)^n of what it should be.
    scene = scenes.kernel_estimate(_times(lambda n: np.sqrt(4 / 3 * (2 / 3) ** n)), p=3.0)
    yield _mutant("p misused", scene, 4 / 3 * math.exp(2 / 3 * INNER) - F)
    scene = scenes.kernel_estimate(_times(lambda n: math.sqrt(1.05)))
    yield _mutant("5 % weight", scene, 0.05 * F)
    # E (<w,x> <w,y>)^2 = V in place of <x,y>^2, for all degrees from 2 on.
    scene = scenes.kernel_estimate(
        _signs(lambda first, level, i: first[..., : level.shape[-2], :] if i == 1 else level)
    )
    yield _mutant("one factor reused", scene, (MOMENT - INNER**2) * (F - 1 - INNER) / INNER**2)
    # Two features of degrees n and m share min(n, m) factors: their covariance no longer vanishes.
    shared = sum(
        A[n] * A[m] * MOMENT ** min(n, m) * INNER ** abs(n - m) for n, m in itertools.product(range(64), repeat=2)
    )
    scene = scenes.squared_deviations(_signs(lambda first, level, i: np.broadcast_to(level[..., :1, :], level.shape)))
    yield _mutant("shared signs across degrees", scene, 3 / 4 * (shared - F**2))


def _of_the_sums() -> Iterator[Trial]:
    """Which keys, along which axis, and what is cut off."""
    gram, values = np.exp(Q @ K.T), np.concatenate([V, np.ones((3, 1))], axis=-1)
    scene = scenes.causal_sums(_along_the_values)
    wrong = np.diag(gram)[:, None] * np.cumsum(V, axis=-1)
    yield _mutant(
        "sum over the wrong axis", scene, np.concatenate([wrong, scene.target[:, 2:]], axis=-1) - scene.target
    )
    scene = scenes.causal_sums(_one_key_too_many)
    yield _mutant("off-by-one causality", scene, (np.tril(gram, 1) @ values) - scene.target)
    # A draw of degree n has the denominator g_n = 2^(n+1) t^n / n! at t = 1/2, and g_n / max(g_n, 1) comes out.
    scene = scenes.output_of_ones(clamp=1.0)
    yield _mutant("clamped denominator", scene, np.sum(0.5 ** (N + 1) * np.maximum(1 - 2 * A, 0)))


def _of_the_rate() -> Iterator[Trial]:
    """What leaves a floor b^2 under a squared error c / D, whose exponent at D is then 1 / (1 + b^2 D / c)."""
    width, degrees = SIZES[-1], np.arange(4)
    law = scenes.eighths(width)
    noise = float(np.sum(law.row_covariance(Q[0], K)))  # c / D
    yield _mutant(
        "additive epsilon", scenes.denominators(epsilon=2 * math.sqrt(noise)), 1 - noise / (noise + 4 * noise)
    )
    # With a draw each only the features of degree 0 agree, 1 for each of the three keys; a feature of degree n has mean 0
    # and the second moment (a_n / D_n)^2 |q|^2n sum_jl <k_j, k_l>^n.
    moments = np.sum((K @ K.T) ** degrees[:, None, None], axis=(1, 2)) * (Q[0] @ Q[0]) ** degrees
    noise = float(np.sum((A[:4] ** 2 / law.degrees.expected_counts(width, 3) * moments)[1:]))
    bias = float(np.sum(law.mean(Q[0], K))) - 3
    yield _mutant("separate draws for q and k", scenes.denominators(separate=True), 1 - noise / (noise + bias**2))


def _of_the_formulas() -> Iterator[Trial]:
    """The library is right, and what it is compared with is not."""
    moment = float((X @ X) * (Y @ Y) + 2 * INNER**2)  # without - 2 sum x_i^2 y_i^2
    claim = (np.sum(2 * (2 * moment) ** N * A**2) - F**2) / 4
    scene = scenes.squared_deviations(claim=float(claim))
    yield _mutant("variance without last term", scene, claim - float(ONE.variance(X, Y)) / 4)
    scene = scenes.tail_of_estimate(L2, radius=1.0)
    yield _mutant("l2 for l1", scene, _exceedance(L2, 150.0))


def _mutant(name: str, scene: Scene, shift: np.ndarray | float) -> Trial:
    effect = float(np.max(np.abs(shift) / scene.margin))
    return Trial("mutant", scene.kind, name, effect, scene.decide, scene.look)


def _times(factor: Callable[[np.ndarray], Any]) -> Change:
    """Multiply each feature by a factor of its degree."""
    return lambda phi: dataclasses.replace(phi, scale=phi.scale * factor(phi.degrees))


def _signs(change: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> Change:
    """Replace the signs of each level (..., features, d) by a function of the first level, itself and its number."""

    def changed(phi: MaclaurinDraw) -> MaclaurinDraw:
        bits, start, levels = np.unpackbits(phi.bits), 0, []
        for level in range(1, int(phi.degrees.max()) + 1):
            shape = (*phi.shape, int((phi.degrees >= level).sum(axis=-1).max()), phi.dim)
            levels.append(bits[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        new = [change(levels[0], level, i).ravel() for i, level in enumerate(levels)]
        return dataclasses.replace(phi, bits=np.packbits(np.concatenate(new)))

    return changed


def _along_the_values(phi_q: np.ndarray, phi_k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The running sum of phi(k_j) v_j^T along the axis of the values, which should be that of the keys."""
    state = np.cumsum(phi_k[..., None] * v[..., None, :], axis=-1)  # (..., keys, features, values)
    denominator = np.sum(phi_q * np.cumsum(phi_k, axis=-2), axis=-1)
    return np.sum(phi_q[..., None] * state, axis=-2), denominator


def _one_key_too_many(phi_q: np.ndarray, phi_k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Query i in row i + 1: it sees the key after it."""
    sums = attention_sums(np.concatenate([phi_q[..., :1, :], phi_q], axis=-2), phi_k, v, causal=True)
    return sums.numerator[..., 1:, :], sums.denominator[..., 1:]


def _exceedance(x: np.ndarray, deviation: float) -> float:
    """P[|<phi(x), phi(x)> - f| > deviation] at D = 1, all signs, degrees up to 4: at least, if by less than 1/32."""
    squares, counts = np.unique((sign_vectors(x.size) @ x) ** 2, return_counts=True)
    products, chances, total = np.ones(1), np.ones(1), 0.0
    for n in range(5):
        far = np.abs(2 ** (n + 1) * A[n] * products - math.exp(float(x @ x))) > deviation
        total += 0.5 ** (n + 1) * float(chances[far].sum())
        products = np.multiply.outer(products, squares).ravel()
        chances = np.multiply.outer(chances, counts / counts.sum()).ravel()
    return total
