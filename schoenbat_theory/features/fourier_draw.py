"""One drawn trigonometric feature map: cosines and sines of projections, with a scale of their own."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    asarray_like,
    check_finite,
    device_of,
    namespace,
    placement,
)
from schoenbat_theory.features.inputs import check_features, check_stored, check_tokens
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["FOURIER_FORMAT", "FOURIER_KERNELS", "FourierDraw", "read_fourier"]

FOURIER_FORMAT = "fourier 1"  # what an archive of a draw says of itself
FOURIER_KERNELS = ("exp", "gaussian")


@dataclass(frozen=True, eq=False)
class FourierDraw:
    r"""A frozen trigonometric feature map phi: (..., n, d) -> (..., n, 2m), same library, device and dtype.

        phi(x) = [cos<w_1, x>, ..., cos<w_m, x>, sin<w_1, x>, ..., sin<w_m, x>] / sqrt(m),   times e^(|x|^2/2) for "exp"

    ``weights``  (*shape, m, d) the vectors w_j
    ``kernel``   "exp" for exp(<x, y>), "gaussian" for exp(-|x-y|^2/2)
    ``name``     what was drawn, for people

    An angle errs by at most (d + 1) u |w_j| |x| and a rounding of its own, and a feature by as much.

    >>> from schoenbat_theory import FourierFeatures
    >>> phi, x = FourierFeatures(64).draw(4, rng=0), np.ones((3, 4)) / 4
    >>> features, log_scale = phi.scaled(x)
    >>> features.shape, log_scale.shape, bool((abs(features) <= 1).all())
    ((3, 64), (3,), True)
    """

    weights: np.ndarray = field(repr=False)
    kernel: str
    name: str
    _on_device: dict[Any, Array] = field(default_factory=dict, init=False, repr=False)

    @property
    def dim(self) -> int:
        """Length d of the vectors that it takes."""
        return int(self.weights.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the draw."""
        return self.weights.shape[:-2]

    @property
    def n_features(self) -> int:
        """Total width D = 2m."""
        return 2 * int(self.weights.shape[-2])

    @property
    def radius(self) -> float:
        """Radius of convergence of the kernel's series: there is none to mind."""
        return math.inf

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of `scaled` for one row: m (d + 2), and d + 2 for the scale of "exp"."""
        return (self.n_features // 2 + (self.kernel == "exp")) * (self.dim + 2)

    @np.errstate(all="ignore")  # an overflow is found in the result
    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, and features that overflow.
        """
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        features, log_scale = self.scaled(x)
        return check_features(x, features * namespace(x).exp(log_scale)[..., None], scaled=True)

    @np.errstate(all="ignore")
    def scaled(self, x: Array) -> tuple[Array, Array]:
        """Return (features, log_scale) with phi(x) = features exp(log_scale).

        features (..., n, D) are the cosines and sines; log_scale (..., n) is |x|^2/2 - log(m)/2 for "exp", and
        -log(m)/2 for "gaussian". This is what attention uses; it scans neither its input nor its output: NaN stays NaN,
        an angle beyond the dtype becomes NaN, and |x|^2/2 beyond it makes the scale infinite.
        """
        xp = check_tokens(x, self.dim, self.shape)
        angles = self._matrix(x) @ xp.matrix_transpose(x)
        *lead, m, n = angles.shape
        features = xp.empty((*lead, 2 * m, n), dtype=x.dtype, device=device_of(x))
        features[..., :m, :], features[..., m:, :] = xp.cos(angles), xp.sin(angles)
        half = xp.vecdot(x, x) / 2 if self.kernel == "exp" else xp.zeros_like(x[..., 0])
        log_scale = half - math.log(m) / 2
        return xp.matrix_transpose(features), xp.broadcast_to(log_scale, (*lead, n))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        text = {"format": FOURIER_FORMAT, "kernel": self.kernel, "name": self.name}
        write_npz(path, weights=self.weights, **{name: np.array(value) for name, value in text.items()})

    def _matrix(self, x: Array) -> Array:
        """Return the vectors, (*shape, m, d), kept per device."""
        key = placement(x)
        if key not in self._on_device:
            self._on_device[key] = asarray_like(self.weights, x)
        return self._on_device[key]


def read_fourier(path: str | os.PathLike[str]) -> FourierDraw:
    """Read a draw written by `FourierDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, ("weights", "kernel", "name"))
    weights, kernel = stored["weights"], str(stored["kernel"])
    numbers = weights.dtype == np.float64 and weights.ndim > 1 and min(weights.shape[-2:]) > 0
    holds = {
        "weights": numbers and bool(np.all(np.isfinite(weights))),
        "kernel": kernel in FOURIER_KERNELS,
        "name": stored["name"].dtype.kind == "U" and stored["name"].ndim == 0,
    }
    check_stored(path, stored, holds)
    return FourierDraw(weights, kernel, str(stored["name"]))
