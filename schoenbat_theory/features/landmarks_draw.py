"""Drawn landmarks: points on the host, their root per library and dtype, features by way of the Gaussian factor."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    asarray_like,
    check_finite,
    eps,
    namespace,
    placement,
)
from schoenbat_theory.features.gram import centred_gram, gaussian_rounding, inverse_roots
from schoenbat_theory.features.inputs import check_features, check_stored, check_tokens
from schoenbat_theory.files import read_npz, write_npz
from schoenbat_theory.kernels import KERNELS, DotProductKernel

__all__ = ["LANDMARKS_FORMAT", "LandmarkDraw", "read_landmarks"]

LANDMARKS_FORMAT = "landmarks 1"  # what an archive of a draw says of itself


class _Prepared(NamedTuple):
    """What a draw keeps per library, dtype and device, for landmarks as the dtype rounds them."""

    landmarks: Array  # (*shape, c, d); of an exponential times sqrt(b), around their mean
    centre: Array  # (*shape, 1, d) that mean; zeros otherwise
    root: Array  # (*shape, c, c) K_SS^{+1/2}


@dataclass(frozen=True, eq=False)
class LandmarkDraw:
    r"""Drawn landmarks: a map phi: (..., n, d) -> (..., n, D), same library, device and dtype.

    ``kernel``  the kernel;  ``landmarks``  (*shape, c, d) float64 on the host, D = c;  ``name``  for people

    The root is computed on the host in float64 for landmarks as the dtype of x rounds them: symmetric, so that it does
    not hang on the signs of eigenvectors. Eigenvalues that the rounding of k(S, x) could have made, in the dtype of x,
    are taken for zero; with u the unit roundoff they are those of at most (eta + c u) lambda_max (`inverse_roots`).
    Of exponentials eta is `gaussian_rounding`. Else an inner product errs by at most h = d u r^2, r the longest
    landmark; increments of f are largest at the end, so that f errs by e = f(s) - f(s - h), s = min(r^2 + h, radius),
    and is rounded; a matrix of c x c such errors is of norm at most c times that, and lambda_max >= f(r^2), whence
    eta = c (e / f(r^2) + u). Errors of k(S, x) are divided by the root of an eigenvalue once.
    """

    kernel: DotProductKernel
    landmarks: np.ndarray = field(repr=False)
    name: str
    _on_device: dict[Any, _Prepared] = field(default_factory=dict, init=False, repr=False)

    @property
    def dim(self) -> int:
        """Length d of the vectors that it takes."""
        return int(self.landmarks.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the draw."""
        return self.landmarks.shape[:-2]

    @property
    def n_features(self) -> int:
        """Total width D."""
        return int(self.landmarks.shape[-2])

    @property
    def radius(self) -> float:
        """Radius of convergence of the kernel's series."""
        return self.kernel.radius

    @property
    def multiply_adds(self) -> int:
        r"""Multiply-adds of the scaled features of one row, f counting as one.

        c d of inner products, c of f and c^2 of the root; of an exponential besides 3 c for squared distances and 4 d + 1
        for the scaled and centred row, its squared length, and the log scale.
        """
        c, d = self.n_features, self.dim
        return c * (c + d + 1) + (0 if self.kernel.log_slope is None else 3 * c + 4 * d + 1)

    @np.errstate(all="ignore")  # an overflow is found in the result
    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, inner products beyond the radius, and
        features that overflow; `scaled` has none that do for an exponential.
        """
        features, log_scale = self.scaled(x)
        check_finite(x=x)
        return check_features(x, features * namespace(x).exp(log_scale)[..., None], scaled=True)

    @np.errstate(all="ignore")
    def scaled(self, x: Array) -> tuple[Array, Array]:
        """Return (features, log_scale) with phi(x) = features exp(log_scale), (..., n, D) and (..., n).

        Of an exponential e^(bt) the scale is b |x|^2 / 2, and features have rows of length at most 1; of another kernel
        it is 0. This is what attention uses.
        """
        xp = check_tokens(x, self.dim, self.shape)
        landmarks, centre, root = self._prepared(x)
        if self.kernel.log_slope is None:
            features = self.kernel.gram(x, landmarks) @ root
            return features, xp.zeros_like(features[..., 0])
        x = math.sqrt(self.kernel.log_slope) * x
        features = centred_gram(x - centre, landmarks) @ root
        return features, xp.sum(x * x, axis=-1) / 2 + xp.zeros_like(features[..., 0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`.

        Of the kernel only the name is written: one that is not in `KERNELS` is a ``ValueError``.
        """
        if KERNELS.get(self.kernel.name) is not self.kernel:
            raise ValueError(f"kernel: expected one of {', '.join(KERNELS)} to save a draw, found {self.kernel.name}")
        write_npz(
            path,
            format=np.array(LANDMARKS_FORMAT),
            kernel=np.array(self.kernel.name),
            landmarks=self.landmarks,
            name=np.array(self.name),
        )

    def _prepared(self, x: Array) -> _Prepared:
        key = placement(x)
        if key not in self._on_device:
            dtype = np.dtype(key[1].rpartition(".")[2])
            self._on_device[key] = _Prepared(*(asarray_like(part, x) for part in self._host(dtype)))
        return self._on_device[key]

    @np.errstate(all="ignore")  # what overflows is refused where the result is
    def _host(self, dtype: np.dtype[Any]) -> _Prepared:
        landmarks = self.landmarks.astype(dtype)
        centre = np.zeros_like(landmarks[..., :1, :])
        if self.kernel.log_slope is None:
            wide = landmarks.astype(np.float64)
            gram, rounding = self._gram(wide, eps(landmarks)), self._rounding(wide, eps(landmarks))
        else:
            landmarks = math.sqrt(self.kernel.log_slope) * landmarks
            centre = landmarks.mean(axis=-2, keepdims=True)
            landmarks = landmarks - centre
            wide = landmarks.astype(np.float64)
            gram, rounding = centred_gram(wide, wide), gaussian_rounding(landmarks, "landmarks")
        vectors, roots = inverse_roots(gram, rounding + self.n_features * eps(landmarks))
        return _Prepared(landmarks, centre, (vectors * roots[..., None, :]) @ np.swapaxes(vectors, -1, -2))

    def _gram(self, landmarks: np.ndarray, unit: float) -> np.ndarray:
        """Return k(S, S) of landmarks rounded to unit roundoff ``unit``, which may lie beyond the radius by as much."""
        t, edge = landmarks @ np.swapaxes(landmarks, -1, -2), self.radius
        near = np.abs(t) <= edge * (1 + 2 * self.dim * unit)  # as `DotProductKernel.clip` says in that dtype
        return np.asarray(self.kernel(np.where(near, np.clip(t, -edge, edge), t)))

    def _rounding(self, landmarks: np.ndarray, unit: float) -> np.ndarray:
        """Return eta, (*shape), in units of lambda_max, for what is not an exponential."""
        squared = np.max(np.sum(landmarks**2, axis=-1), axis=-1, keepdims=True)
        slack = self.dim * unit * squared
        end = np.minimum(squared + slack, self.radius)
        error = self.kernel(end) - self.kernel(end - slack)
        size = self.kernel(np.minimum(squared, self.radius))  # longer ones have been refused
        return np.asarray(self.n_features * (np.where(size > 0, error / size, 0.0) + unit))[..., 0]


def read_landmarks(path: str | os.PathLike[str]) -> LandmarkDraw:
    """Read a draw written by `LandmarkDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, ("kernel", "landmarks", "name"))
    landmarks = stored["landmarks"]
    holds = {
        "kernel": stored["kernel"].dtype.kind == "U" and str(stored["kernel"]) in KERNELS,
        "landmarks": landmarks.dtype == np.float64
        and landmarks.ndim > 1
        and min(landmarks.shape[-2:]) > 0
        and np.all(np.isfinite(landmarks)),
        "name": stored["name"].dtype.kind == "U" and stored["name"].ndim == 0,
    }
    check_stored(path, stored, holds)
    return LandmarkDraw(KERNELS[str(stored["kernel"])], landmarks, str(stored["name"]))
