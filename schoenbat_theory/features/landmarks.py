r"""Random landmarks: the map whose inner products are the Nyström approximation of a kernel, a baseline that sees data.

    phi(x) = K_SS^{+1/2} k(S, x),    <phi(x), phi(y)> = k(x, S) K_SS^+ k(S, y),    S = {s_1, ..., s_c}

K_SS^{+1/2} is the root of the pseudo-inverse, and S is drawn uniformly, without replacement, from the queries and keys
that the law was fitted to. It is the kernel of projections on span{k(s, .)}: exact where x or y is a landmark, and of
any points the matrix of the approximation is at most the kernel's in the Loewner order, and no entry on the diagonal
exceeds its own. Hence it is biased, for all but a full set of landmarks, and its moments depend on the data.

Exponentials f(t) = e^(bt) go through the Gaussian factor, which cannot overflow: with g(x, y) = exp(-b |x - y|^2 / 2)
and f = e^(b|x|^2/2) g(x, y) e^(b|y|^2/2) the approximation of f is that of g between the same two factors.

Source: Williams and Seeger (2001), from memory; the factor is Skyformer's, arXiv:2111.00035 (seen).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, as_generator, check_finite, check_floating, require_int, to_host
from schoenbat_theory.features.inputs import check_vectors, leading_axes
from schoenbat_theory.features.landmarks_draw import LandmarkDraw
from schoenbat_theory.features.registry import Unfitted, feature_map
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.markup import inline_math

__all__ = ["LandmarkFeatures"]


@dataclass(frozen=True, eq=False)
class LandmarkFeatures:
    r"""The law of a feature map through ``n_features`` landmarks, drawn uniformly from points without replacement.

    ``kernel``      name or `DotProductKernel`;  ``n_features``  total width D, the number c of landmarks
    ``points``      (N, d) float64 on the host, where landmarks are drawn from; ``None`` before `fit`

    ``mean``, ``variance`` and ``second_moment`` return ``None``: the map is biased, by an amount that depends on the
    data, and no closed form is known. ``x`` and ``y`` are (..., d).

    >>> x = np.random.default_rng(0).normal(size=(6, 2)) / 2
    >>> law = LandmarkFeatures("exp", 12).fit(x, -x)
    >>> phi = law.draw(2, rng=0)  # all twelve points: the kernel itself
    >>> np.allclose(phi(x) @ phi(x).T, np.exp(x @ x.T))
    True
    """

    kernel: DotProductKernel
    n_features: int
    points: np.ndarray | None = field(default=None, repr=False)

    def __init__(self, kernel: str | DotProductKernel, n_features: int, points: np.ndarray | None = None) -> None:
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "kernel", get_kernel(kernel))
        set_field(self, "n_features", require_int("n_features", n_features, 1))
        set_field(self, "points", None if points is None else _as_points(points))
        if self.points is not None and self.n_features > len(self.points):
            raise ValueError(f"n_features: expected at most the {len(self.points)} points, found {n_features}")

    def fit(self, q: Array, k: Array) -> LandmarkFeatures:
        """Return the law whose landmarks are drawn from all rows of ``q`` (..., n, d) and ``k`` (..., m, d).

        Leading axes are pooled. Of fewer than ``n_features`` points all are landmarks, and the law is as wide as they
        are many. It looks at every query and key, so attention with a fitted map is not causal. Raises ``ValueError``
        for wrong shapes, no row at all, NaN.
        """
        check_floating(q=q, k=k)
        if q.ndim < 2 or k.ndim < 2 or not q.shape[-1] == k.shape[-1] > 0:
            raise ValueError(
                f"q, k: expected (..., n, d), (..., m, d), d >= 1, found {tuple(q.shape)}, {tuple(k.shape)}"
            )
        check_finite(q=q, k=k)
        points = np.concatenate([to_host(x).reshape(-1, x.shape[-1]) for x in (q, k)])
        return LandmarkFeatures(self.kernel, max(min(self.n_features, len(points)), 1), points)

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> LandmarkDraw:
        """Draw landmarks for one map, or independent ones for leading axes ``shape``; ``dim`` is that of the points.

        ``rng`` is an int, SeedSequence or Generator. Raises ``ValueError`` for a law that was not fitted.
        """
        if self.points is None:
            raise ValueError("points: expected some to draw landmarks from, found none; fit(q, k) gives them")
        count, found = self.points.shape
        if require_int("dim", dim, 1) != found:
            raise ValueError(f"dim: expected {found} as the points have, found {dim}")
        order = as_generator(rng).permuted(np.broadcast_to(np.arange(count), (*leading_axes(shape), count)), axis=-1)
        name = f"{self.n_features} of {count} landmarks for {self.kernel.name}"
        return LandmarkDraw(self.kernel, self.points[order[..., : self.n_features]], name)

    def target(self, x: Array, y: Array) -> Array:
        """Return f(<x, y>), the kernel that the map is made for."""
        xp = check_vectors(x=x, y=y)
        check_finite(x=x, y=y)
        with np.errstate(all="ignore"):  # an overflow is found by the kernel
            t = xp.asarray(xp.sum(x * y, axis=-1))
        return self.kernel(self.kernel.clip(t, x.shape[-1]))

    def mean(self, x: Array, y: Array) -> None:
        """Return ``None``: the mean depends on the points, and no closed form is known."""

    def variance(self, x: Array, y: Array) -> None:
        """Return ``None``, as `mean` does."""

    def second_moment(self, x: Array, y: Array) -> None:
        """Return ``None``, as `mean` does."""

    def _repr_html_(self) -> str:
        return inline_math(repr(self))


def _as_points(points: np.ndarray) -> np.ndarray:
    points = np.array(points, dtype=np.float64)
    if points.ndim != 2 or 0 in points.shape or not np.isfinite(points).all():
        raise ValueError(f"points: expected finite (N, d), none empty, found {points.shape}")
    return points


@feature_map("random landmarks")
def _random_landmarks(kernel: str, dim: int, n_features: int) -> Unfitted:
    del dim
    return Unfitted(LandmarkFeatures(kernel, n_features).fit)
