"""One drawn positive feature map: directions and norms on the host, features by way of their logarithms."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    asarray_like,
    check_finite,
    device_of,
    namespace,
    placement,
)
from schoenbat_theory.features.inputs import check_features, check_stored, check_tokens
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["POSITIVE_FORMAT", "PositiveDraw", "read_positive"]

POSITIVE_FORMAT = "positive 1"  # what an archive of a draw says of itself


@dataclass(frozen=True, eq=False)
class PositiveDraw:
    r"""A frozen positive feature map phi: (..., n, d) -> (..., n, D), same library, device and dtype.

        log phi_j(x) = (d/4) log(1-4A) - log(D)/2 + A |w_j|^2 + sqrt(1-4A) <w_j, x> - |x|^2/2

    ``weights``     (*shape, m, d) the vectors w_j
    ``tilt``        A < 1/4
    ``hyperbolic``  True: the features of all w_j, then those of all -w_j, D = 2m; False: D = m
    ``name``        what was drawn, for people

    >>> from schoenbat_theory import PositiveFeatures
    >>> phi, x = PositiveFeatures(64).draw(4, rng=0), np.ones((3, 4)) / 4
    >>> features, log_scale = phi.scaled(x)
    >>> features.shape, log_scale.shape, bool((phi(x) > 0).all()), bool((features.max(axis=-1) == 1).all())
    ((3, 64), (3,), True, True)
    """

    weights: np.ndarray = field(repr=False)
    tilt: float
    hyperbolic: bool
    name: str
    _on_device: dict[Any, tuple[Array, Array]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def sample(
        cls,
        dim: int,
        shape: tuple[int, ...],
        blocks: Sequence[int],
        *,
        tilt: float,
        hyperbolic: bool,
        name: str,
        rng: np.random.Generator,
    ) -> PositiveDraw:
        """Draw the vectors: blocks of the given sizes, at most ``dim`` each, orthogonal within; all norms are chi."""
        groups = [(size, len(list(group))) for size, group in itertools.groupby(blocks)]
        rows = [_block(rng, (*shape, count), size, dim).reshape(*shape, count * size, dim) for size, count in groups]
        return cls(np.concatenate(rows, axis=-2), tilt, hyperbolic, name)

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
        """Total width D."""
        return int(self.weights.shape[-2]) * (1 + self.hyperbolic)

    @property
    def radius(self) -> float:
        """Radius of convergence of the kernel's series: there is none to mind."""
        return math.inf

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds spent on the features of one row: m d for <w_j, x>, d + 1 for |x|^2/2, three to a feature.

        The three are its offset, its exponent less |x|^2/2, and exp. A hyperbolic map turns the sign of m products.
        """
        n_draws = int(self.weights.shape[-2])
        return n_draws * self.dim + self.dim + 1 + 3 * self.n_features + n_draws * self.hyperbolic

    @np.errstate(all="ignore")  # an overflow is found in the result
    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Features below the smallest number of the dtype come out as 0. Raises ``TypeError`` or ``ValueError`` for a
        wrong dtype or shape, NaN, and features that overflow; `scaled` has none that do.
        """
        logs = self.log(x)
        return check_features(x, namespace(logs).exp(logs), scaled=True)

    @np.errstate(all="ignore")
    def log(self, x: Array) -> Array:
        """Return log phi(x), (..., n, D). Raises as the map itself does, where the logarithms overflow."""
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        logs, half = self._logs(x)
        logs -= half[..., None, :]
        if not all_finite(logs):
            raise ValueError(f"x: finite, but logarithms of features overflow {x.dtype}; scale x down or use float64")
        return namespace(x).matrix_transpose(logs)

    @np.errstate(all="ignore")
    def scaled(self, x: Array) -> tuple[Array, Array]:
        """Return (features, log_scale) with phi(x) = features exp(log_scale).

        features (..., n, D) in [0, 1], the largest of each row 1; log_scale (..., n). Features do not overflow for any
        x; those too far below the largest of their row are 0. This is what attention uses; it scans neither its input
        nor its output: NaN stays NaN, and |x|^2 / 2 beyond the dtype makes the scale infinite.
        """
        xp = check_tokens(x, self.dim, self.shape)
        logs, half = self._logs(x)
        top = xp.max(logs, axis=-2)
        logs -= top[..., None, :]
        return xp.matrix_transpose(xp.exp(logs)), top - half

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        write_npz(
            path,
            format=np.array(POSITIVE_FORMAT),
            weights=self.weights,
            tilt=np.array(self.tilt),
            hyperbolic=np.array(self.hyperbolic),
            name=np.array(self.name),
        )

    def _logs(self, x: Array) -> tuple[Array, Array]:
        """Return the logarithms without their part -|x|^2/2, (..., D, n), and |x|^2/2, (..., n)."""
        xp = namespace(x)
        matrix, offset = self._matrix(x)
        logs = matrix @ xp.matrix_transpose(x)
        if self.hyperbolic:
            along = logs
            *lead, m, n = along.shape
            logs = xp.empty((*lead, 2 * m, n), dtype=x.dtype, device=device_of(x))
            logs[..., :m, :], logs[..., m:, :] = along + offset, offset - along
        else:
            logs += offset
        return logs, xp.vecdot(x, x) / 2

    def _matrix(self, x: Array) -> tuple[Array, Array]:
        """Return sqrt(1-4A) w, (*shape, m, d), and what does not depend on x, (*shape, m, 1); kept per device."""
        key = placement(x)
        if key not in self._on_device:
            offset = self.tilt * np.sum(self.weights**2, axis=-1)
            offset += self.dim / 4 * math.log1p(-4 * self.tilt) - math.log(self.n_features) / 2
            matrix = math.sqrt(1 - 4 * self.tilt) * self.weights
            self._on_device[key] = asarray_like(matrix, x), asarray_like(offset[..., None], x)
        return self._on_device[key]


def _block(rng: np.random.Generator, lead: tuple[int, ...], size: int, dim: int) -> np.ndarray:
    """Return (*lead, size, dim): every row N(0, I), directions of a block exactly orthogonal, norms independent."""
    if size == 1:
        return rng.standard_normal((*lead, 1, dim))
    q, r = np.linalg.qr(rng.standard_normal((*lead, dim, size)))
    # LAPACK fixes the signs of q by a rule of its own. With r of positive diagonal the factorisation is unique, so q
    # inherits the invariance of the normal matrix under rotations: it is uniform (Haar).
    signs = np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    norms = np.sqrt(rng.chisquare(dim, size=(*lead, size, 1)))
    return np.asarray(norms * np.swapaxes(q * signs[..., None, :], -1, -2))


def read_positive(path: str | os.PathLike[str]) -> PositiveDraw:
    """Read a draw written by `PositiveDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, ("weights", "tilt", "hyperbolic", "name"))
    weights, tilt = stored["weights"], stored["tilt"]
    holds = {
        "weights": weights.dtype == np.float64
        and weights.ndim > 1
        and min(weights.shape[-2:]) > 0
        and np.all(np.isfinite(weights)),
        "tilt": tilt.dtype == np.float64 and tilt.ndim == 0 and -math.inf < tilt < 0.25,
        "hyperbolic": stored["hyperbolic"].dtype == np.bool_ and stored["hyperbolic"].ndim == 0,
        "name": stored["name"].dtype.kind == "U" and stored["name"].ndim == 0,
    }
    check_stored(path, stored, holds)
    return PositiveDraw(weights, float(tilt), bool(stored["hyperbolic"]), str(stored["name"]))
