r"""Tokens as sums see them: as given, or pre-scaled without ever being formed.

    x'_j = f P x_j / |P x_j|,    P = I - 1 1^T / d,    f > 0

A sum over x'_j is P times a sum over x_j with a number for each token, f / |P x_j|: two passes over the tokens are saved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schoenbat_theory.arrays import Array, device_of, namespace
from schoenbat_theory.scaling import plain_lengths

__all__ = ["Tokens", "pre_scaled_tokens"]

SURE = 2.0**16  # factors of pre-scaling within this and its inverse


@dataclass(frozen=True)
class Tokens:
    """Tokens x' (..., n, d): ``x`` as given or, with ``scale`` = f / |P x| (..., n), off their means and times that."""

    x: Array
    scale: Array | None = None

    def take(self, rows: Array) -> Array:
        """Return some tokens x', formed, (..., s, d)."""
        xp = namespace(self.x)
        some = xp.take(self.x, rows, axis=-2)
        return some if self.scale is None else _off_mean(some) * xp.take(self.scale, rows, axis=-1)[..., None]

    def total(self, weights: Array) -> Array:
        """Return sum_j weights_j x'_j, (..., d), for weights (..., n)."""
        if self.scale is None:
            return (weights[..., None, :] @ self.x)[..., 0, :]
        return _off_mean((self.given(weights)[..., None, :] @ self.x)[..., 0, :])

    def along(self, c: Array) -> Array:
        """Return <c, x'_j>, (..., n), for c (..., d) whose entries have mean 0 where tokens are not formed."""
        return self.given((self.x @ c[..., None])[..., 0])

    def given(self, weights: Array) -> Array:
        """Return weights (..., n) of x in place of those of x', up to P."""
        return weights if self.scale is None else weights * self.scale

    def ones(self) -> Array:
        """Return what becomes 1 by `given`, (..., n)."""
        x = self.x
        return (
            namespace(x).ones(x.shape[:-1], dtype=x.dtype, device=device_of(x))
            if self.scale is None
            else 1 / self.scale
        )

    def projected(self, matrix: Array) -> Array:
        """Return P matrix (..., d, e) where tokens are not formed, else ``matrix``."""
        return matrix if self.scale is None else _off_mean(matrix, axis=-2)


@np.errstate(all="ignore")
def pre_scaled_tokens(x: Array, factor: float, used: Array | None = None) -> Tokens | None:
    """Return tokens (..., n, d) pre-scaled and times ``factor``, not formed; ``None`` where they should be, for accuracy.

    Those that are not ``used``, (..., n) booleans, may be anything finite that weights of 0 take out.
    """
    if not 1 / SURE <= factor <= SURE:
        return None
    lengths = plain_lengths(x, used)
    return None if lengths is None else Tokens(x, factor / lengths)


def _off_mean(x: Array, axis: int = -1) -> Array:
    """Return P x along an axis."""
    return x - namespace(x).mean(x, axis=axis, keepdims=True)
