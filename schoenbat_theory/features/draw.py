"""One drawn random Maclaurin map: signs as bits, applied level by level, saved and loaded."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    asarray_like,
    broadcast_shapes,
    check_finite,
    device_of,
    matmul_into,
    namespace,
    placement,
)
from schoenbat_theory.features.inputs import check_features, check_tokens
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["MACLAURIN_FORMAT", "MaclaurinDraw", "read_maclaurin"]

MACLAURIN_FORMAT = 1  # what an archive of a draw says of itself


@dataclass(frozen=True, eq=False)
class MaclaurinDraw:
    """A frozen random Maclaurin map phi: (..., n, d) -> (..., n, D), same library, device and dtype.

    ``dim``       d, the length of the vectors it takes
    ``degrees``   (*shape, R) degrees of the random features, non-increasing along the last axis
    ``scale``     (*shape, R) factor of each random feature, sqrt(a_N / expected count)
    ``bits``      packed signs, bit 1 for +1, level after level, each level (*shape, c_l, d) with c_l
                  the number of features of degree >= l (the largest over ``shape``)
    ``constant``  sqrt(a_0) where degree 0 is exact, else ``None``;  ``linear``  sqrt(a_1) likewise
    ``radius``    radius of convergence of the kernel's series
    ``name``      what was drawn, for people

    Columns: random features by falling degree, the exact constant, the exact linear part.

    >>> from schoenbat_theory import RandomMaclaurin
    >>> phi = RandomMaclaurin("exp", 64, degrees="released").draw(4, rng=0)
    >>> phi(np.ones((3, 4)) / 4).shape, phi.merged(np.ones((3, 4)) / 4).shape
    ((3, 64), (3, 64))
    """

    dim: int
    degrees: np.ndarray = field(repr=False)
    scale: np.ndarray = field(repr=False)
    bits: np.ndarray = field(repr=False)
    constant: float | None
    linear: float | None
    radius: float
    name: str
    _on_device: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def sample(
        cls,
        dim: int,
        degrees: np.ndarray,
        scale_of_degree: np.ndarray,
        *,
        constant: float | None,
        linear: float | None,
        radius: float,
        name: str,
        rng: np.random.Generator,
    ) -> MaclaurinDraw:
        """Draw the signs for the given degrees."""
        degrees = -np.sort(-degrees, axis=-1)
        n_signs = sum(_level_sizes(degrees)) * dim * math.prod(degrees.shape[:-1])
        bits = np.frombuffer(rng.bytes(-(-n_signs // 8)), dtype=np.uint8)
        return cls(dim, degrees, scale_of_degree[degrees], bits, constant, linear, radius, name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the draw."""
        return self.degrees.shape[:-1]

    @property
    def n_features(self) -> int:
        """Total width D."""
        return self.degrees.shape[-1] + (self.constant is not None) + (self.dim if self.linear is not None else 0)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds spent on the features of one row.

        For each level d to a feature, and one more to multiply it from the second level on; d for the exact linear
        part. Where maps of one draw differ in degree, their offsets cost one each.
        """
        count = sum(self._sizes) * self.dim + sum(self._sizes[1:]) + (self.dim if self.linear is not None else 0)
        for level, size in enumerate(self._sizes, start=1):
            count += size * bool((self.degrees[..., :size] < level).any())
        return count

    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, and features that overflow.
        """
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        return check_features(x, self._apply(x, merge=False))

    def merged(self, x: Array) -> Array:
        """Return features with the same inner products as ``phi(x)`` and all constant ones merged into one.

        (..., n, W) with W <= D. This is what attention uses; it does not scan its input or output.
        """
        check_tokens(x, self.dim, self.shape)
        return self._apply(x, merge=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        options = {"constant": self.constant, "linear": self.linear}
        write_npz(
            path,
            format=np.array(MACLAURIN_FORMAT),
            dim=np.array(self.dim),
            degrees=self.degrees,
            scale=self.scale,
            bits=self.bits,
            radius=np.array(float(self.radius)),
            name=np.array(self.name),
            **{key: np.array([] if value is None else [value]) for key, value in options.items()},
        )

    @functools.cached_property
    def _sizes(self) -> list[int]:
        """Sizes of the levels, counted once: every block of tokens asks for them."""
        return _level_sizes(self.degrees)

    def _constants(self, merge: bool) -> np.ndarray:
        """Return the values of the constant features that stand behind the products, (*shape, k); k <= 1 if merged."""
        columns = self.scale[..., next(iter(self._sizes), 0) :]
        if self.constant is not None:
            columns = np.concatenate([columns, np.full((*self.shape, 1), self.constant)], axis=-1)
        if merge and columns.shape[-1]:
            columns = np.sqrt(np.sum(columns**2, axis=-1, keepdims=True))
        return columns

    @np.errstate(all="ignore")  # an overflow is found in the result
    def _apply(self, x: Array, *, merge: bool) -> Array:
        """Return the features, (..., n, width): as rows in memory, of which each factor multiplies the first in place.

        All factors come from one product. Those of the highest level stand first, those of level 1 last, where the
        features begin.
        """
        xp, sizes = namespace(x), self._sizes
        signs, offsets, constants = self._factors(x, merge)
        height, first = sum(sizes), next(iter(sizes), 0)
        last = first + constants.shape[-2]
        width = last + (self.dim if self.linear is not None else 0)
        lead = broadcast_shapes(draw=self.shape, x=tuple(x.shape[:-2]))
        rows = xp.empty((*lead, height - first + width, x.shape[-2]), dtype=x.dtype, device=device_of(x))
        tokens = xp.matrix_transpose(x)
        matmul_into(rows[..., :height, :], signs, tokens)
        features, start = rows[..., height - first :, :], height
        for size, offset in zip(sizes, offsets, strict=True):
            start -= size
            factor = rows[..., start : start + size, :]
            if offset is not None:
                factor += offset
            if start < height - first:
                some = features[..., :size, :]
                some *= factor
        if last > first:
            features[..., first:last, :] = constants
        if self.linear is not None:
            features[..., last:, :] = self.linear * tokens
        return xp.matrix_transpose(features)

    def _factors(self, x: Array, merge: bool) -> tuple[Array, list[Array | None], Array]:
        """Return the signs of all levels (*shape, sum c_l, d), the highest first, offsets, and constants; kept per device."""
        key = placement(x), merge
        if key not in self._on_device:
            matrices, offsets = zip(*self._host_levels(), strict=True) if self._sizes else ((), ())
            none = np.empty((*self.shape, 0, self.dim))
            self._on_device[key] = (
                asarray_like(np.concatenate([*matrices[::-1], none], axis=-2), x),
                [None if one is None else asarray_like(one[..., None], x) for one in offsets],
                asarray_like(self._constants(merge)[..., None], x),
            )
        return self._on_device[key]

    def _host_levels(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        levels, start = [], 0
        signs = np.unpackbits(self.bits).astype(np.int8)
        for level, size in enumerate(self._sizes, start=1):
            count = math.prod(self.shape) * size * self.dim
            matrix = (2.0 * signs[start : start + count] - 1.0).reshape(*self.shape, size, self.dim)
            start += count
            scale = self.scale[..., :size] if level == 1 else np.ones((*self.shape, size))
            # A feature of lower degree than its column's level is multiplied by 0 x + 1 instead.
            active = self.degrees[..., :size] >= level
            offset = None if active.all() else np.where(active, 0.0, scale)
            levels.append((matrix * np.where(active, scale, 0.0)[..., None], offset))
        return levels


def read_maclaurin(path: str | os.PathLike[str]) -> MaclaurinDraw:
    """Read a draw written by `MaclaurinDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, tuple(_STORED))
    for name, (kind, ndim) in _STORED.items():
        x = stored[name]
        if x.dtype.kind != kind or x.ndim != (x.ndim if ndim is None else ndim):
            raise ValueError(f"{path}: {name} of the draw has dtype {x.dtype} and shape {x.shape}")
        if (kind == "i" and x.min(initial=0) < 0) or (kind == "f" and not (x.size == 0 or np.all(x >= 0))):
            raise ValueError(f"{path}: {name} of the draw holds negative numbers or NaN")
    degrees, scale, dim = stored["degrees"], stored["scale"], int(stored["dim"])
    constant, linear = stored["constant"], stored["linear"]
    for name, holds in {
        "bits": stored["bits"].dtype == np.uint8,
        "degrees": bool(np.all(degrees[..., 1:] <= degrees[..., :-1])) if degrees.ndim else False,  # falling
        "scale": bool(np.all(np.isfinite(scale))),
        "radius": bool(stored["radius"] > 0),
        "constant": constant.size < 2 and bool(np.all(np.isfinite(constant))),
        "linear": linear.size <= constant.size and bool(np.all(np.isfinite(linear))),  # never without a constant
    }.items():
        if not holds:
            raise ValueError(f"{path}: {name} of the draw is damaged")
    fits = dim > 0 and int(degrees.max(initial=0)) <= 8 * stored["bits"].size
    n_signs = sum(_level_sizes(degrees)) * dim * math.prod(degrees.shape[:-1]) if fits else -1
    if n_signs < 0 or scale.shape != degrees.shape or stored["bits"].size != -(-n_signs // 8):
        raise ValueError(f"{path}: degrees, scale and bits of the draw do not belong together")
    return MaclaurinDraw(
        dim,
        degrees,
        scale,
        stored["bits"],
        float(constant[0]) if constant.size else None,
        float(linear[0]) if linear.size else None,
        float(stored["radius"]),
        str(stored["name"]),
    )


_STORED: dict[str, tuple[str, int | None]] = {  # kind of dtype and number of axes, None for any
    "format": ("i", 0),
    "dim": ("i", 0),
    "degrees": ("i", None),
    "scale": ("f", None),
    "bits": ("u", 1),
    "radius": ("f", 0),
    "name": ("U", 0),
    "constant": ("f", 1),
    "linear": ("f", 1),
}


def _level_sizes(degrees: np.ndarray) -> list[int]:
    """Return c_1, c_2, ...: how many features have degree >= 1, >= 2, ... (the largest over leading axes)."""
    sizes = []
    for level in range(1, int(degrees.max(initial=0)) + 1):
        sizes.append(int((degrees >= level).sum(axis=-1).max(initial=0)))
    return sizes
