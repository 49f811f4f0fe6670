"""One drawn sketch of <x, y>^p: p independent levels, multiplied; saved and loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    as_generator,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
    placement,
    require_int,
)
from schoenbat_theory.features.inputs import check_features, check_tokens, leading_axes
from schoenbat_theory.features.sketch_levels import CountLevel, DenseLevel, HadamardLevel, complex_product, convolved
from schoenbat_theory.features.sketch_moments import WEIGHTS, Weights, get_weights, next_power_of_two
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["SKETCH_FORMAT", "SketchDraw", "read_sketch", "sketch"]

SKETCH_FORMAT = "sketch 1"  # what an archive of a draw says of itself
LEVELS: dict[str, type[DenseLevel | HadamardLevel | CountLevel]] = {
    "independent": DenseLevel,
    "hadamard": HadamardLevel,
    "tensorsketch": CountLevel,
}


def sketch(
    weights: str | Weights,
    degree: int,
    n_features: int,
    dim: int,
    rng: Any = None,
    shape: tuple[int, ...] = (),
    name: str | None = None,
) -> SketchDraw:
    """Draw a sketch of <x, y>^degree, ``degree`` >= 0, of total width ``n_features`` for vectors of length ``dim``.

    ``weights`` is a family or its name, ``rng`` an int, SeedSequence or Generator, ``shape`` leading axes of independent
    maps, ``name`` what was drawn. Degree 0 gives constant features whose squares sum to 1.

    >>> sketch("srht", 3, 8, 5, rng=0)(np.ones((2, 5))).shape
    (2, 8)
    """
    weights = get_weights(weights)
    degree, dim = require_int("degree", degree, 0), require_int("dim", dim, 1)
    n_features = require_int("n_features", n_features, 1)
    lead, rng = (*leading_axes(shape), degree), as_generator(rng)
    blocks, size, limit = _layout(weights, n_features, dim)
    entries = _entries(weights, (*lead, 1 + weights.complex, blocks, dim), rng)
    if weights.structure == "hadamard":  # the order matters: it pairs rows of different levels
        places = rng.permuted(np.broadcast_to(np.arange(limit), (*lead, limit)), axis=-1)[..., :size]
    else:
        places = rng.integers(limit, size=(*lead, size))
    return SketchDraw(weights, n_features, entries, places, name or f"sketch({weights.name!r}, {degree}, {n_features})")


def _layout(weights: Weights, n_features: int, dim: int) -> tuple[int, int, int]:
    """Return of one level: K of its entries (c, K, d), m of its places (m,), and the number that places are below."""
    rows, padded = weights.rows(n_features), next_power_of_two(dim)
    blocks = -(-rows // padded)
    layouts = {"independent": (rows, 0, 1), "hadamard": (blocks, rows, blocks * padded), "tensorsketch": (1, dim, rows)}
    return layouts[weights.structure]


def _entries(weights: Weights, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw weights (..., c, K, d), c = 2 for real and imaginary parts: floats if Gaussian, else signs as int8."""
    *lead, c, blocks, dim = size
    if weights.gaussian:
        return rng.standard_normal(size) / math.sqrt(c)
    signs = 1 - 2 * rng.integers(2, size=(*lead, 1, blocks, dim), dtype=np.int8)
    if not weights.complex:
        return signs
    real = rng.integers(2, size=signs.shape, dtype=np.int8)
    return np.concatenate([real * signs, (1 - real) * signs], axis=-3)


@dataclass(frozen=True, eq=False)
class SketchDraw:
    r"""A frozen sketch phi: (..., n, d) -> (..., n, D), same library, device and dtype.

        phi_j(x) = prod_{i <= p} <w_ij, x> / sqrt(R),    R = D, or R = D / 2 and real parts before imaginary ones

    ``weights``     the family
    ``n_features``  total width D
    ``entries``     (*shape, p, c, K, d) signs or Gaussian weights, c = 2 for real and imaginary parts, of K = R rows,
                    K blocks of a Hadamard family, K = 1 of TensorSketch
    ``places``      (*shape, p, m) rows drawn from the blocks, m = R; hashes of TensorSketch, m = d; else m = 0
    ``name``        what was drawn, for people

    TensorSketch has the circular convolution of p CountSketches instead, by real FFT: then rounding is an absolute
    error, of the size of the largest features.

    >>> phi = sketch("complex-srht", 2, 8, 3, rng=0)
    >>> phi.dim, phi.degree, phi.n_features, phi.complex(np.ones((5, 3))).shape
    (3, 2, 8, (5, 4))
    """

    weights: Weights
    n_features: int
    entries: np.ndarray = field(repr=False)
    places: np.ndarray = field(repr=False)
    name: str
    _on_device: dict[Any, list[tuple[Any, ...]]] = field(default_factory=dict, init=False, repr=False)

    @property
    def dim(self) -> int:
        """Length d of the vectors that it takes."""
        return int(self.entries.shape[-1])

    @property
    def degree(self) -> int:
        """The power p."""
        return int(self.entries.shape[-4])

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the draw."""
        return self.entries.shape[:-4]

    @property
    def radius(self) -> float:
        """Radius of convergence of the kernel's series: a power has none to mind."""
        return math.inf

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds spent on the features of one row, as executed.

        A product, a sum, or a product with a sum counts one; so a complex product counts 4, and a real FFT of length D
        2 D log2(D), as if of radix 2. Selections and zeros of the padding are moved, not computed. Hadamard transforms are
        counted as `hadamard` does them, though short ones take less time as one dense product, and are.
        """
        levels = sum(level.multiply_adds for level in self._levels())
        joints, width = max(self.degree - 1, 0), self.n_features
        if self.weights.structure != "tensorsketch":
            return levels + joints * width * (1 + self.weights.complex)
        transforms = (self.degree + 1) * 2 * width * math.log2(width) if joints else 0
        return levels + math.ceil(transforms) + joints * 4 * (width // 2 + 1)

    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, and features that overflow.
        """
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        return check_features(x, self.merged(x))

    def merged(self, x: Array) -> Array:
        """Return the same features without a scan of input or output, as attention uses them: each one row of memory."""
        check_tokens(x, self.dim, self.shape)
        return namespace(x).matrix_transpose(self.rows(x))

    @np.errstate(all="ignore")  # an overflow is found in the result
    def rows(self, x: Array) -> Array:
        """Return the features as rows, (..., D, n), nothing checked."""
        xp = namespace(x)
        kind = LEVELS[self.weights.structure]
        levels = (kind.apply(x, *arrays) for arrays in self._prepared(x))
        if self.degree == 0:
            lead = broadcast_shapes(draw=self.shape, x=tuple(x.shape[:-2]))
            out = xp.zeros((*lead, self.n_features, x.shape[-2]), dtype=x.dtype, device=device_of(x))
            out[..., : self.weights.rows(self.n_features), :] = 1 / math.sqrt(self.weights.rows(self.n_features))
            return out
        if self.weights.structure == "tensorsketch" and self.degree > 1:
            return convolved(levels, self.n_features)
        out = next(levels)
        for level in levels:
            if self.weights.complex:
                out = complex_product(out, level)
            else:
                out *= level
        return out

    def complex(self, x: Array) -> Array:
        """Return the R complex features behind phi(x), (..., n, R): <x, y>^p = E sum_j phi_j(x) conj(phi_j(y)).

        Raises as phi(x) does, and ``ValueError`` for real weights.
        """
        if not self.weights.complex:
            raise ValueError(f"weights: expected complex ones, found {self.weights.name!r}")
        xp, out, rows = namespace(x), self(x), self.n_features // 2
        out = xp.astype(out, xp.complex64 if x.dtype == xp.float32 else xp.complex128)
        return out[..., :rows] + 1j * out[..., rows:]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        write_npz(
            path,
            format=np.array(SKETCH_FORMAT),
            weights=np.array(self.weights.name),
            n_features=np.array(self.n_features),
            entries=self.entries,
            places=self.places,
            name=np.array(self.name),
        )

    def _levels(self) -> Iterator[Any]:
        kind = LEVELS[self.weights.structure]
        for i in range(self.degree):
            yield kind(self.entries[..., i, :, :, :], self.places[..., i, :], self.n_features)

    def _prepared(self, x: Array) -> list[tuple[Any, ...]]:
        """Return what each level needs beside ``x``, with the factors of the features; kept per device."""
        key = placement(x)
        if key not in self._on_device:
            first, later = 1 / math.sqrt(self.weights.rows(self.n_features)), 1.0
            if self.weights.structure == "tensorsketch":
                first, later = 1.0, math.sqrt(self.n_features)  # p + 1 transforms of norm "ortho" leave sqrt(D)^(1-p)
            self._on_device[key] = [level.on_device(x, later if i else first) for i, level in enumerate(self._levels())]
        return self._on_device[key]


def read_sketch(path: str | os.PathLike[str]) -> SketchDraw:
    """Read a draw written by `SketchDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    stored = read_npz(path, ("weights", "n_features", "entries", "places", "name"))
    for name in stored:
        if not _holds(name, stored):
            raise ValueError(f"{path}: {name} of the draw is damaged: {stored[name].dtype} {stored[name].shape}")
    weights, n_features = WEIGHTS[str(stored["weights"])], int(stored["n_features"])
    return SketchDraw(weights, n_features, stored["entries"], stored["places"], str(stored["name"]))


def _holds(name: str, stored: dict[str, np.ndarray]) -> bool:
    """Whether the array of that name is one that `sketch` may have drawn, given those before it."""
    x = stored[name]
    if name in ("weights", "name"):
        return x.dtype.kind == "U" and x.ndim == 0 and (name == "name" or str(x) in WEIGHTS)
    weights = WEIGHTS[str(stored["weights"])]
    if name == "n_features":
        return x.dtype.kind == "i" and x.ndim == 0 and int(x) > 0 and not (weights.complex and int(x) % 2)
    entries = stored["entries"]
    if entries.ndim < 4 or entries.shape[-1] < 1:
        return False
    blocks, size, limit = _layout(weights, int(stored["n_features"]), entries.shape[-1])
    if name == "places":
        if x.dtype != np.int64 or x.shape != (*entries.shape[:-3], size) or not np.all((x >= 0) & (x < limit)):
            return False
        return weights.structure != "hadamard" or bool(np.all(np.diff(np.sort(x, axis=-1), axis=-1)))
    if entries.shape[-3:-1] != (1 + weights.complex, blocks):
        return False
    if weights.gaussian:
        return x.dtype == np.float64 and bool(np.isfinite(x).all())
    return x.dtype == np.int8 and bool(np.all(np.sum(np.abs(x), axis=-3) == 1))
