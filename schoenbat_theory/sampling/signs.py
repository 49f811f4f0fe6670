r"""Random signs: from whole words of bits, and their products 64 at a time.

    prod_i w_i^(e_i) = (-1)^(XOR of the bits with odd e_i),    sum over n replicates = n - 2 popcount,    w = (-1)^bit

A product of signs is a sign, and its bit the XOR of theirs: sums of products are whole numbers that nothing rounds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, require_int, to_host
from schoenbat_theory.sampling.batches import Batched

__all__ = ["SignProducts", "sign_sums", "signs"]

ALL = (1 << 64) - 1


def signs(rng: np.random.Generator, shape: int | tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Return independent signs, -1 or 1 with equal probability, of this shape and dtype; the same on every machine.

    Eight to a byte, looked up in a table: several times as fast as ``rng.choice`` or ``rng.integers``.

    >>> signs(np.random.default_rng(0), (2, 4), np.int8).tolist()
    [[-1, 1, -1, 1], [1, 1, 1, 1]]
    """
    shape = (shape,) if isinstance(shape, int) else shape
    count = math.prod(shape)
    table = _table(np.dtype(dtype))
    data = _words(rng, -(-count // 64)).view(np.uint8)
    found = np.empty((data.size, 8), dtype=table.dtype)
    np.take(table, data, axis=0, out=found, mode="clip")  # every byte is a row, but "raise" would copy
    return found.reshape(-1)[:count].reshape(shape)


def sign_sums(rng: np.random.Generator, exponents: Any, total: int) -> np.ndarray:
    """Return sum_r prod_i w_ri^e_i over ``total`` vectors of random signs, exactly, (k,) int64.

    ``exponents``  (k, d) whole numbers >= 0, one row for each monomial

    Raises ``ValueError`` for other exponents. The mean of each sum is 0, or ``total`` where all exponents are even.

    >>> sign_sums(np.random.default_rng(0), [[2, 0], [1, 1]], 1000)
    array([1000,  -26])
    """
    odd, total = _odd(exponents), require_int("total", total, 1)
    return _sums(_fair(rng, odd.shape[1], 1, total), odd, total)[0]


class SignProducts(Batched):
    """Replicates z[k] = prod_i w_i^e_ki of signs w, a sampler for `check_mean` that works on packed bits.

    ``exponents``  (k, d) whole numbers >= 0, one row for each monomial
    ``bits``       (rng, size) -> (size, d) zeros and ones, 1 for the sign -1, independent over the first axis; default: fair

    Raises ``ValueError`` for other exponents.

    >>> from schoenbat_theory import check_mean
    >>> pairs = SignProducts([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
    >>> check_mean(pairs, np.zeros(3), margin=0.05, variance=1.0, rng=0).verdict
    'consistent'
    """

    def __init__(self, exponents: Any, bits: Callable[[np.random.Generator, int], Any] | None = None) -> None:
        self.odd, self.bits = _odd(exponents), bits

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return replicates, formed: (size, k)."""
        return _sums(self._packed(rng, size, 1), self.odd, 1).astype(np.float64)

    def means(
        self, rng: np.random.Generator, batches: int, size: int, centre: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return batch means, exact but for one division, and the scale of a replicate, as `Batched` says."""
        if centre.shape != (len(self.odd),):
            raise ValueError(f"sample: expected a target ({len(self.odd)},), found {centre.shape}")
        sums = _sums(self._packed(rng, batches, size), self.odd, size)
        return sums / size, np.full(centre.shape, float(batches * size))

    def held(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return (d,): at most a number for each sign."""
        return self.odd.shape[1:]

    def _packed(self, rng: np.random.Generator, batches: int, size: int) -> np.ndarray:
        d = self.odd.shape[1]
        if self.bits is None:
            return _fair(rng, d, batches, size)
        found = to_host(self.bits(rng, batches * size))
        if found.shape != (batches * size, d) or not np.isin(found, (0, 1)).all():
            raise ValueError(f"bits: expected zeros and ones ({batches * size}, {d}), found shape {found.shape}")
        return _pack(found.reshape(batches, size, d))


@functools.cache
def _table(dtype: np.dtype[Any]) -> np.ndarray:
    """Return the signs of every byte, (256, 8): the highest bit first, 1 for +1."""
    return (2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int8) - 1).astype(dtype)


def _words(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return ``count`` words of 64 fair bits, as little-endian on every machine.

    Through the generator, not ``bit_generator.random_raw``, half of whose bits are 0 with MT19937, and no slower.
    """
    return rng.integers(0, ALL, size=count, dtype=np.uint64, endpoint=True).astype("<u8", copy=False)


def _fair(rng: np.random.Generator, d: int, batches: int, size: int) -> np.ndarray:
    """Return fair bits (d, batches, words), 64 to a word; those beyond ``size`` are 0."""
    count = -(-size // 64)
    words = _words(rng, d * batches * count).reshape(d, batches, count)
    words[..., -1] &= np.uint64(ALL >> (64 * count - size))
    return words


def _pack(bits: np.ndarray) -> np.ndarray:
    """Return bits (batches, size, d) as words (d, batches, words); those beyond size are 0."""
    batches, size, d = bits.shape
    padded = np.zeros((d, batches, 64 * -(-size // 64)), dtype=np.uint8)
    padded[..., :size] = np.moveaxis(bits, -1, 0)
    return np.packbits(padded, axis=-1).view(np.uint64)


def _sums(words: np.ndarray, odd: np.ndarray, size: int) -> np.ndarray:
    """Return the sums of every product over each batch of ``size``, (batches, k) int64."""
    ones = [np.bitwise_count(np.bitwise_xor.reduce(words[row], axis=0)).sum(axis=-1, dtype=np.int64) for row in odd]
    return size - 2 * np.stack(ones, axis=-1)


def _odd(exponents: Any) -> np.ndarray:
    """Return which exponents are odd, (k, d)."""
    found = as_reals("exponents", exponents)
    whole = np.isfinite(found).all() and (found >= 0).all() and (found == np.floor(found)).all()
    if found.ndim != 2 or found.size == 0 or not whole:
        raise ValueError(f"exponents: expected whole numbers >= 0, (k, d), found {exponents!r}")
    return found % 2 == 1
