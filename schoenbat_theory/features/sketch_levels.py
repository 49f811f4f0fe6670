"""One level of a sketch, applied: a dense product, a fast transform and selected rows, or a CountSketch.

A level is made once for each device from what was drawn, and takes x (..., n, d) to (..., c R, n), features as rows: R of
them, or for complex weights (c = 2) their R real parts and then their R imaginary parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, device_of, namespace
from schoenbat_theory.features.hadamard import hadamard, hadamard_multiply_adds
from schoenbat_theory.features.sketch_moments import next_power_of_two

__all__ = ["CountLevel", "DenseLevel", "HadamardLevel", "complex_product", "convolved", "picked_rows"]

DENSE = 128  # longest transform that takes longer than a dense product with its rows, in float32 on a CPU


class DenseLevel:
    """Independent rows: one product with the matrix of all weights.

    ``entries``  (*shape, c, R, d) weights
    """

    def __init__(self, entries: np.ndarray, places: np.ndarray, n_features: int) -> None:
        del places, n_features
        *lead, c, rows, dim = entries.shape
        self.matrix = entries.reshape(*lead, c * rows, dim)
        self.multiply_adds = c * rows * dim

    def on_device(self, x: Array, factor: float) -> tuple[Array, ...]:
        """Return what `apply` needs beside ``x``; the result is multiplied by ``factor``."""
        return (asarray_like(factor * self.matrix, x),)

    @staticmethod
    def apply(x: Array, matrix: Array) -> Array:
        """Return the level of ``x``."""
        return matrix @ namespace(x).matrix_transpose(x)


class HadamardLevel:
    """Rows of stacked transforms: signs, the transform of all blocks at once, the rows that were drawn.

    Short ones are multiplied out, into one dense product: 256 rows of length 64 take it a fifth of the time, of length 128
    three fifths, of length 256 twice as long. They are counted as transforms all the same.

    ``entries``  (*shape, c, B, d) weights of B blocks;  ``places``  (*shape, R) rows of 0 .. B d' - 1
    """

    def __init__(self, entries: np.ndarray, places: np.ndarray, n_features: int) -> None:
        del n_features
        self.entries, self.places = entries, places
        c, blocks, dim = entries.shape[-3:]
        size = next_power_of_two(dim)
        self.multiply_adds = c * blocks * (dim + hadamard_multiply_adds(size))

    def on_device(self, x: Array, factor: float) -> tuple[Array, ...]:
        """Return what `apply` needs beside ``x``; the result is multiplied by ``factor``."""
        if next_power_of_two(x.shape[-1]) <= DENSE:
            return DenseLevel(self._rows(), self.places, 0).on_device(x, factor)
        return asarray_like(factor * self.entries[..., None, :, :, :], x), _indices(self.places, x, 2)

    def _rows(self) -> np.ndarray:
        """Return the rows that were drawn, (*shape, c, R, d)."""
        dim = self.entries.shape[-1]
        size = next_power_of_two(dim)
        block, row = np.divmod(self.places, size)
        signs = np.take_along_axis(self.entries, block[..., None, :, None], axis=-2)
        return signs * hadamard(np.eye(size))[row][..., None, :, :dim]

    @staticmethod
    def apply(x: Array, signs: Array, rows: Array | None = None) -> Array:
        """Return the level of ``x``; without ``rows``, ``signs`` are all of its weights."""
        xp = namespace(x)
        if rows is None:
            return DenseLevel.apply(x, signs)
        signed = x[..., None, None, :] * signs  # (..., n, c, B, d)
        size = next_power_of_two(x.shape[-1])
        pad = xp.zeros((*signed.shape[:-1], size - x.shape[-1]), dtype=x.dtype, device=device_of(x))
        stacked = hadamard(xp.concat([signed, pad], axis=-1))
        *lead, blocks, _ = stacked.shape
        picked = _pick(xp.reshape(stacked, (*lead, blocks * size)), rows)  # (..., n, c, R)
        *lead, c, width = picked.shape
        return xp.matrix_transpose(xp.reshape(picked, (*lead, c * width)))


class CountLevel:
    """CountSketch: every entry of x, with its sign, is added to the bucket that its hash names.

    Sums in an order that holds for every library: the array API has no scatter, a dense product would cost d D and
    differences of cumulative sums would cancel. With buckets by falling load, the first entries of all buckets, their
    second entries and so on each fill a prefix, so that the sums are slices; a last selection puts buckets in place.

    ``entries``  (*shape, 1, 1, d) signs;  ``places``  (*shape, d) hashes, 0 .. D - 1
    """

    def __init__(self, entries: np.ndarray, places: np.ndarray, n_features: int) -> None:
        self.signs, dim = entries[..., 0, :], entries.shape[-1]
        lead = places.shape[:-1]
        loads = np.sum(places[..., None, :] == np.arange(n_features)[:, None], axis=-1)  # (*shape, D)
        order = np.argsort(-loads, axis=-1, kind="stable")  # buckets by falling load
        self.home = np.argsort(order, axis=-1, kind="stable")
        turns = range(int(loads.max(initial=1)))
        self.sizes = [int(np.sum(loads > turn, axis=-1).max(initial=0)) for turn in turns]
        # An entry's turn is the number of earlier ones in its bucket. Where maps differ in their loads, gaps of the
        # table point at entry d, a zero.
        turn = np.sum(np.tril(places[..., :, None] == places[..., None, :], -1), axis=-1)
        starts = np.cumsum([0, *self.sizes])
        spot = starts[turn] + np.take_along_axis(self.home, places, axis=-1)
        self.table = np.full((*lead, starts[-1]), dim)
        np.put_along_axis(self.table, spot, np.broadcast_to(np.arange(dim), spot.shape), axis=-1)
        self.multiply_adds = dim + sum(self.sizes[1:])

    def on_device(self, x: Array, factor: float) -> tuple[Array, ...]:
        """Return what `apply` needs beside ``x``; the result is multiplied by ``factor``."""
        first = self.sizes[0]
        home = np.minimum(self.home, first)  # the buckets beyond are empty: entry `first`, a zero
        signs = asarray_like(factor * self.signs, x)
        return signs, _indices(self.table, x, 1), _indices(home, x, 1), self.sizes

    @staticmethod
    def apply(x: Array, signs: Array, table: Array, home: Array, sizes: list[int]) -> Array:
        """Return the level of ``x``."""
        entries = _pick(_with_zero(x * signs), table)  # (..., n, sum of sizes)
        first = sizes[0]
        buckets, start = entries[..., :first], first
        for size in sizes[1:]:
            buckets[..., :size] += entries[..., start : start + size]
            start += size
        return namespace(x).matrix_transpose(_pick(_with_zero(buckets), home))


def complex_product(x: Array, y: Array) -> Array:
    """Return the product of complex numbers given as real parts, then imaginary parts, (..., 2 R, n)."""
    xp, rows = namespace(x), x.shape[-2] // 2
    a, b, c, d = x[..., :rows, :], x[..., rows:, :], y[..., :rows, :], y[..., rows:, :]
    out = xp.empty_like(x)
    out[..., :rows, :], out[..., rows:, :] = a * c, a * d
    out[..., :rows, :] -= b * d
    out[..., rows:, :] += b * c
    return out


def convolved(levels: Iterator[Array], size: int) -> Array:
    """Return the circular convolution of real levels (..., D, n), up to the factor of the transforms' norm."""
    # "ortho" is the one norm with which NumPy 2.4 keeps float32 out of float64.
    spectrum = None
    for level in levels:
        xp = namespace(level)
        other = xp.fft.rfft(xp.matrix_transpose(level), n=size, norm="ortho")
        spectrum = other if spectrum is None else spectrum * other
    return xp.matrix_transpose(xp.fft.irfft(spectrum, n=size, norm="ortho"))


def picked_rows(x: Array, picks: np.ndarray) -> Array:
    """Return the rows ``picks`` (*shape, F) of ``x`` (*lead, W, n), those of its map; ``shape`` broadcasts with ``lead``."""
    xp, (*lead, width, n) = namespace(x), x.shape
    outer, own = lead[: len(lead) - picks.ndim + 1], lead[len(lead) - picks.ndim + 1 :]
    picks = np.broadcast_to(picks, (*own, picks.shape[-1])).reshape(math.prod(own), -1)
    places = asarray_like((picks + width * np.arange(len(picks))[:, None]).reshape(-1), x, dtype=xp.int64)
    found = xp.take(xp.reshape(x, (math.prod(outer), len(picks) * width, n)), places, axis=1)
    return xp.reshape(found, (*lead, picks.shape[-1], n))


def _with_zero(x: Array) -> Array:
    """Return ``x`` with a zero behind its last entry."""
    xp = namespace(x)
    return xp.concat([x, xp.zeros((*x.shape[:-1], 1), dtype=x.dtype, device=device_of(x))], axis=-1)


def _indices(places: np.ndarray, like: Array, axes: int) -> Array:
    """Return indices (m,), or for maps with leading axes (*shape, 1 .. 1, m) with so many axes between."""
    if places.ndim > 1:
        places = places.reshape(*places.shape[:-1], *[1] * axes, places.shape[-1])
    return asarray_like(places, like, namespace(like).int64)


def _pick(x: Array, places: Array) -> Array:
    """Return the entries of ``x`` along its last axis at ``places``, (m,) or one row for each map."""
    xp = namespace(x)
    if places.ndim == 1:
        return xp.take(x, places, axis=-1)
    return xp.take_along_axis(x, places[(*[None] * (x.ndim - places.ndim), ...)], axis=-1)
