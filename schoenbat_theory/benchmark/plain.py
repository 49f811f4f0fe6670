r"""Attention as one would write it first: the whole n x n matrix, and random Maclaurin features group by group, all held.

They are what the fast forms are compared with: correct, short, and without a thought of memory. The map loops over the
degrees and multiplies one projection after another, as the code released with SchoenbAt (seen) does; it neither merges
constant features nor cuts tokens into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import schoenbat_theory as st

__all__ = ["PlainMaclaurin", "plain_attention", "plain_feature_attention"]


def plain_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *, causal: bool = False) -> np.ndarray:
    """Return attention with the kernel exp, (..., n, e), for q, k (..., n, d) and v (..., n, e), by all n^2 weights at once.

    >>> plain_attention(np.eye(2), np.eye(2), np.array([[1.0], [0.0]])).round(3)
    array([[0.731],
           [0.269]])
    """
    scores = q @ np.swapaxes(k, -1, -2)
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True) @ v)


@dataclass(frozen=True, eq=False)
class PlainMaclaurin:
    """A random Maclaurin map (..., n, d) -> (..., n, D), float32: for each degree its features' scale and their signs.

    >>> draw = st.RandomMaclaurin("exp", 8).draw(4, rng=0)
    >>> x = np.ones((1, 4), dtype=np.float32) / 4
    >>> np.allclose(PlainMaclaurin.of(draw)(x), draw(x))
    True
    """

    groups: list[tuple[float, np.ndarray]] = field(repr=False)  # signs of one degree (degree, features, d)

    @classmethod
    def of(cls, draw: Any) -> PlainMaclaurin:
        """Return the map with the signs of a `MaclaurinDraw` without leading axes or exact features."""
        if not isinstance(draw, st.MaclaurinDraw) or draw.shape or draw.constant is not None:
            raise ValueError(f"draw: expected a MaclaurinDraw, one map without exact features, found {draw!r:.60}")
        bits, levels, start = np.unpackbits(draw.bits), [], 0
        for level in range(1, int(draw.degrees.max(initial=0)) + 1):
            stop = start + int(np.sum(draw.degrees >= level)) * draw.dim
            levels.append(2 * bits[start:stop].reshape(-1, draw.dim).astype(np.float32) - 1)
            start = stop
        groups = []
        for degree in sorted(set(draw.degrees.tolist()), reverse=True):
            which = np.flatnonzero(draw.degrees == degree)
            signs = np.array([level[which] for level in levels[:degree]], dtype=np.float32)
            groups.append((float(draw.scale[which[0]]), signs.reshape(degree, which.size, draw.dim)))
        return cls(groups)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the features of x."""
        return np.concatenate([self._of_one_degree(x, *group) for group in self.groups], axis=-1)

    @staticmethod
    def _of_one_degree(x: np.ndarray, scale: float, signs: np.ndarray) -> np.ndarray:
        features = np.full((*x.shape[:-1], signs.shape[1]), scale, dtype=x.dtype)
        for level in signs:
            features = features * (x @ level.T)
        return features


def plain_feature_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, phi: PlainMaclaurin) -> np.ndarray:
    """Return attention through features, (..., n, e), with those of all queries and of all keys in memory."""
    phi_q, phi_k = phi(q), phi(k)
    numerator = phi_q @ (np.swapaxes(phi_k, -1, -2) @ v)
    return numerator / (phi_q @ phi_k.sum(axis=-2)[..., None])
