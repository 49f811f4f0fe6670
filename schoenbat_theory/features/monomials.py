r"""Sets of monomials that hold the parent of each member, and their features by one multiplication each.

    x^alpha = x^parent x_i,    i the largest coordinate in alpha,    parent = alpha - e_i
    phi_alpha(x) = factor_alpha x^alpha,    factor_alpha = sqrt(a_n n! / alpha!),    n = |alpha|
    sum_alpha phi_alpha(x) phi_alpha(y) = sum_alpha a_n (n! / alpha!) x^alpha y^alpha,    f(<x, y>) over all alpha

The sum over all alpha is the multinomial theorem. A set closed under parents is a tree with the constant at its root, so
that each feature is an earlier one times a coordinate. The scheme is folklore; no source was seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, broadcast_shapes, device_of, namespace, placement, require_int
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["Monomials"]

TOKENS, BYTES = 64, 2**18  # features at a time: of so many tokens, or so many bytes, which a second-level cache holds


@dataclass(frozen=True, eq=False)
class Monomials:
    r"""A set of D monomials in d variables for each leading index: column 0 the constant, parents before children.

    ``dim``          d, the number of variables
    ``parents``      (..., D) int64, the column of each monomial's parent, before its own; -1 for none
    ``coordinates``  (..., D) int64, the coordinate multiplied on, not below the parent's; -1 for none

    A column after the first that has no parent is empty, its factor 0: it pads a set smaller than those beside it.
    Raises ``TypeError`` or ``ValueError`` for what is no such tree.

    >>> two = Monomials.up_to(2, dim=2)
    >>> two.exponents().tolist()
    [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    >>> two.apply(np.array([[2.0, 3.0]]), np.ones(6))
    array([[1., 2., 3., 4., 6., 9.]])
    """

    dim: int
    parents: np.ndarray = field(repr=False)
    coordinates: np.ndarray = field(repr=False)
    _plans: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require_int("dim", self.dim, 1)
        for name in ("parents", "coordinates"):
            found = np.array(getattr(self, name))
            if found.dtype.kind != "i" or found.ndim < 1 or found.shape[-1] < 1:
                raise TypeError(f"{name}: expected ints (..., D), D >= 1, found {found.dtype} {found.shape}")
            object.__setattr__(self, name, found.astype(np.int64))
        _check_tree(self.dim, self.parents, self.coordinates)

    @classmethod
    def up_to(cls, degree: int, dim: int) -> Monomials:
        """Return all monomials up to ``degree`` in ``dim`` variables, binom(dim + degree, degree) of them.

        >>> Monomials.up_to(2, dim=32).n_features
        561
        """
        degree, letters = require_int("degree", degree, 0), range(require_int("dim", dim, 1))
        return cls._of(dim, (itertools.combinations_with_replacement(letters, n) for n in range(1, degree + 1)))

    @classmethod
    def subspace(cls, dim: int, r: int) -> Monomials:
        """Return degrees 0 and 1 in all ``dim`` variables and degree 2 in the first ``r``, 1 + dim + r (r + 1) / 2 of them.

        >>> Monomials.subspace(3, 2).exponents().tolist()[4:]
        [[2, 0, 0], [1, 1, 0], [0, 2, 0]]
        """
        if require_int("r", r, 0) > require_int("dim", dim, 1):
            raise ValueError(f"r: expected at most dim = {dim}, found {r}")
        return cls._of(dim, [((i,) for i in range(dim)), itertools.combinations_with_replacement(range(r), 2)])

    @classmethod
    def stack(cls, sets: Sequence[Monomials]) -> Monomials:
        """Return sets of one ``dim`` and shape as one, (len(sets), ..., D), the smaller ones padded to the largest D."""
        width = max(one.n_features for one in sets)
        dim, shape = sets[0].dim, sets[0].shape
        if any((one.dim, one.shape) != (dim, shape) for one in sets):
            raise ValueError(f"sets: expected one dim and shape, found {[(one.dim, one.shape) for one in sets]}")
        empty = np.full((len(sets), *shape, width), -1)
        parents, coordinates = empty, empty.copy()
        for i, one in enumerate(sets):
            parents[i, ..., : one.n_features], coordinates[i, ..., : one.n_features] = one.parents, one.coordinates
        return cls(dim, parents, coordinates)

    @property
    def n_features(self) -> int:
        """Number of columns D."""
        return self.parents.shape[-1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes."""
        return self.parents.shape[:-1]

    @property
    def multiply_adds(self) -> int:
        """Multiplications that the features of one row take, D - 1; the factors, multiplied on at most d D coordinates, aside."""
        return self.n_features - 1

    @property
    def degrees(self) -> np.ndarray:
        """|alpha| of each column, (..., D) int64."""
        return self.exponents().sum(axis=-1)

    @property
    def multinomial(self) -> np.ndarray:
        """Number of words n! / alpha! with the letters of each column, (..., D) float64, to 2 n roundings."""
        exponents = self.exponents()
        last = np.take_along_axis(exponents, np.maximum(self.coordinates, 0)[..., None], -1)[..., 0]
        step = np.where(self.coordinates < 0, 1.0, exponents.sum(axis=-1) / np.maximum(last, 1))  # n / alpha_i
        result = np.ones(self.parents.shape)
        for column in self._ancestors():
            result *= np.take_along_axis(step, column, -1)
        return result

    def exponents(self) -> np.ndarray:
        """Return alpha of each column, (..., D, d) int64."""
        units = np.eye(self.dim + 1, self.dim, dtype=np.int64)  # the last row, of coordinate -1, is zero
        alpha = np.zeros((*self.parents.shape, self.dim), dtype=np.int64)
        for column in self._ancestors():
            alpha += units[np.take_along_axis(self.coordinates, column, -1)]
        return alpha

    def factors(self, kernel: str | DotProductKernel) -> np.ndarray:
        """Return sqrt(a_n n! / alpha!), (..., D) float64, with which features sum the kernel's series; 0 where empty.

        >>> Monomials.up_to(2, dim=2).factors("inv") ** 2
        array([1., 1., 1., 1., 2., 1.])
        """
        degrees = self.degrees
        squares = get_kernel(kernel).coefficients(int(degrees.max()))[degrees] * self.multinomial
        return np.sqrt(np.where((self.parents < 0) & (np.arange(self.n_features) > 0), 0.0, squares))

    def apply(self, x: Array, factors: np.ndarray) -> Array:
        """Return factors x^alpha, (..., n, D), for ``x`` (..., n, d) and host ``factors`` (..., D); leading axes broadcast.

        Library, device and dtype are those of x; nothing is scanned. The result is a transposed view: each feature is
        one row of memory. One of degree n errs by at most 3 n + 2 roundings of the dtype, relative to itself.
        """
        xp, width, n = namespace(x), self.n_features, x.shape[-2]
        own = broadcast_shapes(monomials=self.shape, factors=np.shape(factors)[:-1])
        lead = broadcast_shapes(monomials=own, x=tuple(x.shape[:-2]))
        outer, heads = math.prod(lead[: len(lead) - len(own)]), lead[len(lead) - len(own) :]
        plan = self._plan(factors, heads, x)
        x = xp.reshape(xp.broadcast_to(x, (*lead, n, self.dim)), (outer, math.prod(heads), n, self.dim))
        out = xp.empty((*x.shape[:2], width, n), dtype=x.dtype, device=device_of(x))
        tokens = max(TOKENS, BYTES // max(1, math.prod(heads) * width * xp.finfo(x.dtype).bits // 8))
        for start in range(0, n, tokens):
            stop = min(start + tokens, n)
            out[..., start:stop] = plan.features(x[..., start:stop, :])
        return xp.matrix_transpose(xp.reshape(out, (*lead, width, n)))

    @classmethod
    def _of(cls, dim: int, levels: Any) -> Monomials:
        """Return the set of words, non-decreasing tuples of coordinates, level after level."""
        column: dict[tuple[int, ...], int] = {(): 0}
        steps = [(-1, -1)]
        for word in itertools.chain.from_iterable(levels):
            column[word] = len(steps)
            steps.append((column[word[:-1]], word[-1]))
        return cls(dim, *np.array(steps).T)

    def _ancestors(self) -> Iterator[np.ndarray]:
        """Yield for each column itself, its parent, the parent's parent, up to the constant, until all have arrived."""
        column = np.broadcast_to(np.arange(self.n_features), self.parents.shape)
        while column.any():
            yield column
            column = np.maximum(np.take_along_axis(self.parents, column, -1), 0)

    def _plan(self, factors: np.ndarray, heads: tuple[int, ...], x: Array) -> _Plan:
        """Return the plan for arrays beside ``x``, the last one kept: blocks of tokens ask for the same again."""
        key = (np.asarray(factors).tobytes(), np.shape(factors), heads, placement(x))
        if key not in self._plans:
            self._plans.clear()
            wide = (*heads, self.n_features)
            parents, coordinates, factors = (
                np.broadcast_to(one, wide).reshape(-1, wide[-1]) for one in (self.parents, self.coordinates, factors)
            )
            self._plans[key] = _Plan(self.dim, parents, coordinates, factors, x)
        return self._plans[key]


class _Plan:
    """How the features of H sets are computed together, (outer, H, n, d) -> (outer, H, D, n), in waves of columns.

    A wave is the longest run of columns whose parents all come before it, in every set. Factors ride on the coordinates:
    phi = phi_parent (r x_i) with r the ratio of both factors, and the products r x_i, of which there are few, come first.
    """

    def __init__(
        self, dim: int, parents: np.ndarray, coordinates: np.ndarray, factors: np.ndarray, like: Array
    ) -> None:
        xp, self.width = namespace(like), parents.shape[-1]
        head, before = np.arange(len(parents))[:, None], np.maximum(parents, 0)
        scale = np.where(factors == 0, 1.0, factors)  # a column of zeros may have children
        ratio = scale / np.take_along_axis(scale, before, -1)
        steps = np.stack([np.maximum(coordinates, 0) + head * dim, ratio], axis=-1)
        pairs, step = np.unique(steps.reshape(-1, 2), axis=0, return_inverse=True)

        def beside(columns: np.ndarray) -> Array:
            return asarray_like(columns.reshape(-1), like, dtype=xp.int64)

        self.coordinate = beside(pairs[:, 0].astype(np.int64))
        self.ratio = asarray_like(pairs[:, 1:], like)
        self.constant = asarray_like(scale[:, :1], like)[..., None]
        self.used = asarray_like(factors != 0, like)[..., None] if (factors == 0).any() else None
        self.waves, start, step = [], 1, step.reshape(parents.shape)
        while start < self.width:
            late = (parents[:, start:] >= start).any(axis=0)
            stop = start + int(np.argmax(late)) if late.any() else self.width
            columns = slice(start, stop)
            self.waves.append((columns, beside((before + head * self.width)[:, columns]), beside(step[:, columns])))
            start = stop

    def features(self, x: Array) -> Array:
        """Return factors x^alpha of ``x``."""
        xp, (outer, heads, n, dim) = namespace(x), x.shape
        table = xp.reshape(xp.matrix_transpose(x), (outer, heads * dim, n))
        table = xp.take(table, self.coordinate, axis=1) * self.ratio
        out = xp.empty((outer, heads, self.width, n), dtype=x.dtype, device=device_of(x))
        out[:, :, :1, :] = self.constant
        for columns, parent, step in self.waves:
            product = xp.take(xp.reshape(out, (outer, heads * self.width, n)), parent, axis=1)
            product *= xp.take(table, step, axis=1)
            out[:, :, columns, :] = xp.reshape(product, (outer, heads, columns.stop - columns.start, n))
        return out if self.used is None else out * self.used


def _check_tree(dim: int, parents: np.ndarray, coordinates: np.ndarray) -> None:
    """Raise ``ValueError`` unless every column's parent is before it and its coordinate not below the parent's."""
    if parents.shape != coordinates.shape:
        raise ValueError(f"parents, coordinates: expected one shape, found {parents.shape}, {coordinates.shape}")
    if (parents < -1).any() or (parents >= np.arange(parents.shape[-1])).any():
        raise ValueError("parents: expected columns before the child's own, or -1")
    before = np.take_along_axis(coordinates, np.maximum(parents, 0), -1)
    if ((parents < 0) != (coordinates < 0)).any() or (coordinates >= dim).any() or (coordinates < before).any():
        raise ValueError(f"coordinates: expected 0 .. {dim - 1}, not below the parent's, and -1 where there is none")
