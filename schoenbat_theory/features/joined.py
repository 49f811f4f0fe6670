"""A direct sum of sketches of <x, y>^n, one for each degree n: random Maclaurin features of any family of weights."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    asarray_like,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
)
from schoenbat_theory.features.inputs import check_features, check_stored, check_tokens
from schoenbat_theory.features.sketch_draw import SketchDraw, read_sketch, sketch
from schoenbat_theory.features.sketch_levels import picked_rows
from schoenbat_theory.features.sketch_moments import Weights
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["JOINED_FORMAT", "JoinedDraw", "read_joined"]

JOINED_FORMAT = "joined 1"  # what an archive of a draw says of itself


@dataclass(frozen=True, eq=False)
class JoinedDraw:
    """A frozen random Maclaurin map phi: (..., n, d) -> (..., n, D), same library, device and dtype.

    ``dim``        d, the length of the vectors it takes
    ``parts``      draws of sketches of falling degrees >= 1, all with the leading axes ``shape``
    ``factors``    the factor of each part;  ``filler``  the value of a feature of degree 0
    ``picks``      (*shape, F) the columns that each map takes of all parts together, followed by the filler; ``None``
                   where they are all columns of the parts, in order
    ``constants``  (*shape, k) the constant features behind them
    ``linear``     sqrt(a_1) where the linear part is exact, else ``None``
    ``radius``     radius of convergence of the kernel's series
    ``name``       what was drawn, for people

    Columns: random features by falling degree, constants, the exact linear part. Maps of one draw may have other
    numbers of features of a degree: a part is as wide as the largest, and rows are independent.

    >>> from schoenbat_theory import RandomMaclaurin
    >>> phi = RandomMaclaurin("exp", 8, degrees=(2, 4, 2), weights="srht").draw(4, rng=0)
    >>> phi(np.ones((3, 4)) / 4).shape, phi.merged(np.ones((3, 4)) / 4).shape
    ((3, 8), (3, 7))
    """

    dim: int
    parts: tuple[SketchDraw, ...] = field(repr=False)
    factors: tuple[float, ...] = field(repr=False)
    filler: float
    picks: np.ndarray | None = field(repr=False)
    constants: np.ndarray = field(repr=False)
    linear: float | None
    radius: float
    name: str

    @classmethod
    def sample(
        cls,
        weights: Weights,
        dim: int,
        degrees: np.ndarray,
        scale_of_degree: np.ndarray,
        *,
        constant: float | None,
        linear: float | None,
        radius: float,
        name: str,
        rng: np.random.Generator,
    ) -> JoinedDraw:
        """Draw a sketch for each degree in ``degrees`` (*shape, R); complex families need pairs of every degree."""
        degrees = -np.sort(-degrees, axis=-1)
        shape = degrees.shape[:-1]
        n_constant = int((degrees == 0).sum(axis=-1).min(initial=degrees.shape[-1]))
        filler = float(scale_of_degree[0]) if (degrees == 0).any() else 0.0
        constants = np.full((*shape, n_constant), filler)
        if constant is not None:
            constants = np.concatenate([constants, np.full((*shape, 1), constant)], axis=-1)
        degrees = degrees[..., : degrees.shape[-1] - n_constant]
        widths = {int(n): int((degrees == n).sum(axis=-1).max()) for n in np.unique(degrees)[::-1] if n}
        return cls(
            dim,
            tuple(sketch(weights, n, width, dim, rng, shape) for n, width in widths.items()),
            tuple(float(scale_of_degree[n]) * math.sqrt(width) for n, width in widths.items()),
            filler,
            _picks(degrees, widths, weights.complex),
            constants,
            linear,
            radius,
            name,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the draw."""
        return self.constants.shape[:-1]

    @property
    def n_features(self) -> int:
        """Total width D."""
        return self._width + self.constants.shape[-1] + (self.dim if self.linear is not None else 0)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds spent on the features of one row: those of the parts, a factor each, the linear part."""
        parts = [part.multiply_adds + part.n_features for part in self.parts]
        return sum(parts) + (self.dim if self.linear is not None else 0)

    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, and features that overflow.
        """
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        return check_features(x, self._apply(x, self.constants))

    def merged(self, x: Array) -> Array:
        """Return features with the same inner products as ``phi(x)`` and the constant ones behind merged into one.

        (..., n, W) with W <= D. This is what attention uses; it does not scan its input or output.
        """
        check_tokens(x, self.dim, self.shape)
        columns = self.constants
        if columns.shape[-1]:
            columns = np.sqrt(np.sum(columns**2, axis=-1, keepdims=True))
        return self._apply(x, columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        write_npz(
            path,
            format=np.array(JOINED_FORMAT),
            dim=np.array(self.dim),
            factors=np.array(self.factors, dtype=np.float64),
            filler=np.array(self.filler),
            picks=np.array([], dtype=np.int64) if self.picks is None else self.picks,
            constants=self.constants,
            linear=np.array([] if self.linear is None else [self.linear]),
            radius=np.array(float(self.radius)),
            name=np.array(self.name),
            **{f"part_{i}": _packed(part) for i, part in enumerate(self.parts)},
        )

    @property
    def _width(self) -> int:
        """Number F of columns before the constants."""
        return sum(part.n_features for part in self.parts) if self.picks is None else int(self.picks.shape[-1])

    @np.errstate(all="ignore")  # an overflow is found in the result
    def _apply(self, x: Array, constants: np.ndarray) -> Array:
        xp, n, first = namespace(x), x.shape[-2], self._width
        lead, last = broadcast_shapes(draw=self.shape, x=tuple(x.shape[:-2])), first + constants.shape[-1]

        def empty(rows: int) -> Array:  # features as rows of memory
            return xp.empty((*lead, rows, n), dtype=x.dtype, device=device_of(x))

        out = empty(last + (self.dim if self.linear is not None else 0))
        if self.picks is None:
            self._fill(out, x)
        else:
            wide = empty(1 + sum(part.n_features for part in self.parts))
            wide[..., self._fill(wide, x) :, :] = self.filler
            out[..., :first, :] = picked_rows(wide, self.picks)
        out[..., first:last, :] = asarray_like(constants[..., None], x)
        if self.linear is not None:
            out[..., last:, :] = self.linear * xp.matrix_transpose(x)
        return xp.matrix_transpose(out)

    def _fill(self, out: Array, x: Array) -> int:
        """Write the features of the parts into the first rows of ``out`` (..., rows, n) and return how many there are."""
        stop = 0
        for factor, part in zip(self.factors, self.parts, strict=True):
            start, stop = stop, stop + part.n_features
            out[..., start:stop, :] = factor * part.rows(x)
        return stop


def read_joined(path: str | os.PathLike[str]) -> JoinedDraw:
    """Read a draw written by `JoinedDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, ("dim", "factors", "filler", "picks", "constants", "linear", "radius", "name"))
    dim, factors, constants, linear = (stored[name] for name in ("dim", "factors", "constants", "linear"))
    holds = {
        "dim": dim.dtype.kind == "i" and dim.ndim == 0 and dim > 0,
        "factors": _nonnegative(factors) and factors.ndim == 1,
        "filler": _nonnegative(stored["filler"]) and stored["filler"].ndim == 0,
        "picks": stored["picks"].dtype.kind == "i",
        "constants": _nonnegative(constants) and constants.ndim > 0,
        "linear": _nonnegative(linear) and linear.ndim == 1 and linear.size < 2,
        "radius": stored["radius"].dtype.kind == "f" and stored["radius"].ndim == 0 and stored["radius"] > 0,
        "name": stored["name"].dtype.kind == "U" and stored["name"].ndim == 0,
    }
    check_stored(path, stored, holds)
    packed = read_npz(path, tuple(f"part_{i}" for i in range(factors.size)))
    parts = tuple(_unpacked(one, f"{path}: {name}") for name, one in packed.items())
    picks, width = stored["picks"], sum(part.n_features for part in parts)
    fits = all(part.dim == dim and part.shape == constants.shape[:-1] for part in parts)
    if picks.shape != (0,):
        fits = fits and picks.shape[:-1] == constants.shape[:-1] and bool(np.all((picks >= 0) & (picks <= width)))
    if not fits:
        raise ValueError(f"{path}: parts, picks and constants of the draw do not belong together")
    return JoinedDraw(
        int(dim),
        parts,
        tuple(factors.tolist()),
        float(stored["filler"]),
        None if picks.shape == (0,) else picks,
        constants,
        float(linear[0]) if linear.size else None,
        float(stored["radius"]),
        str(stored["name"]),
    )


def _picks(degrees: np.ndarray, widths: dict[int, int], pairs: bool) -> np.ndarray | None:
    """Return for each feature its column among parts of the given widths: within a degree, the first of them.

    ``degrees`` (*shape, F) falling. Of a complex part of width w the imaginary halves begin at column w / 2.
    """
    column = np.arange(degrees.shape[-1])
    picks, start = np.full(degrees.shape, sum(widths.values())), 0  # the filler, until a part claims the column
    for n, width in widths.items():
        mine = degrees == n
        rank = column - (degrees > n).sum(axis=-1, keepdims=True)
        if pairs:
            half = mine.sum(axis=-1, keepdims=True) // 2
            rank = np.where(rank < half, rank, rank - half + width // 2)
        picks = np.where(mine, start + rank, picks)
        start += width
    return None if start == column.size and np.all(picks == column) else picks


def _nonnegative(x: np.ndarray) -> bool:
    """Whether ``x`` holds finite numbers >= 0 in float64."""
    return bool(x.dtype == np.float64 and np.all(np.isfinite(x) & (x >= 0)))


def _packed(part: SketchDraw) -> np.ndarray:
    """Return the bytes of the archive that ``part`` saves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.npz"
        part.save(path)
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)


def _unpacked(packed: np.ndarray, where: str) -> SketchDraw:
    """Return the part whose archive has these bytes; errors say ``where`` it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.npz"
        path.write_bytes(packed.tobytes())
        try:
            return read_sketch(path)
        except ValueError as error:
            raise ValueError(f"{where}{str(error).removeprefix(str(path))}") from None
