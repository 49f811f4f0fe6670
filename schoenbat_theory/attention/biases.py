"""Ready-made biases of relative positions: entry j - i + n - 1 for key j and query i, as ``log_bias`` wants them."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, check_floating, namespace, require_bool, require_int

__all__ = ["alibi_bias", "clipped_bias", "t5_bias"]


def alibi_bias(n: int, m: int, n_heads: int, *, symmetric: bool = False, like: Array | None = None) -> Array:
    r"""Return the bias of ALiBi, slope_h (j - i), or -slope_h |j - i| if ``symmetric``.

        slope_h = 2^(-8 h / H),   h = 1 .. H,   for a power of two H = n_heads;

    for another H those of the largest power of two below it, then the first, third, ... of the next power.

    ``n``, ``m``  numbers of queries and keys
    ``like``      array whose library, device and dtype the bias is to have, e.g. q; by default NumPy and float64
    returns       (n_heads, n + m - 1)

    The bias grows with j without limit, exp(511.5) = 1e222 at n = m = 1024 in the first of 8 heads: it is meant for
    causal attention, j <= i, where both forms agree. Raises ``TypeError`` or ``ValueError`` for sizes below 1.

    Source: Press et al. (2022) and the code released with it, from memory; the symmetric form is not in the paper.

    >>> alibi_bias(2, 2, 8)[0].tolist(), alibi_bias(2, 2, 8, symmetric=True)[0].tolist()
    ([-0.5, 0.0, 0.5], [-0.5, 0.0, -0.5])
    """
    offsets, heads = _offsets(n, m), require_int("n_heads", n_heads, 1)
    below = 1 << (heads.bit_length() - 1)  # the largest power of two that is not larger
    slopes = np.concatenate([_slopes(below), _slopes(2 * below)[::2][: heads - below]])
    distance = -np.abs(offsets) if require_bool("symmetric", symmetric) else offsets
    bias = slopes[:, None] * distance
    if like is None:
        return bias
    check_floating(like=like)
    return asarray_like(bias, like)


def t5_bias(table: Array, n: int, m: int, *, bidirectional: bool = True, max_distance: int = 128) -> Array:
    r"""Return the bias of T5: one learned number for each bucket of distances.

    With B buckets for distances r, of which E = B // 2 are exact, the bucket of r is

        r                                                             for r < E,
        min(E + floor((B - E) log(r / E) / log(max_distance / E)), B - 1)   for r >= E.

    ``bidirectional``: B is half of the table, rounded down, r = |j - i|, and keys after the query (j > i) use the B
    entries that follow. Else B is the whole table and r = max(i - j, 0).

    ``table``  (..., buckets);  ``n``, ``m``  numbers of queries and keys
    returns    (..., n + m - 1), same library, device, dtype

    The floor is taken in integers; the released code takes it in float32. Raises ``TypeError`` or ``ValueError`` for a
    table too short to hold distances (fewer than 4, or 2 if not bidirectional) and for max_distance <= E.

    Source: Raffel et al. (2020) through the code released with it, from memory.

    >>> t5_bias(np.arange(32.0), 4, 4).tolist()  # bucket numbers for j - i = -3 .. 3
    [3.0, 2.0, 1.0, 0.0, 17.0, 18.0, 19.0]
    """
    offsets, found = _offsets(n, m), _entries("table", table)
    buckets = found // 2 if require_bool("bidirectional", bidirectional) else found
    exact = buckets // 2
    if exact < 1:
        raise ValueError(
            f"table: expected (..., buckets), buckets >= {4 if bidirectional else 2}, found {tuple(table.shape)}"
        )
    farthest = require_int("max_distance", max_distance, exact + 1)
    distances = np.abs(offsets) if bidirectional else np.maximum(-offsets, 0)
    bucket = np.searchsorted(_first_distances(buckets, exact, farthest), distances, side="right") - 1
    return _gather(table, bucket + buckets * (offsets > 0) if bidirectional else bucket)


def clipped_bias(values: Array, n: int, m: int) -> Array:
    """Return a learned bias of each offset, those beyond K clipped to K: b_{j-i} = values[min(max(j - i, -K), K) + K].

    ``values``  (..., 2 K + 1);  ``n``, ``m``  numbers of queries and keys
    returns     (..., n + m - 1), same library, device, dtype

    Raises ``TypeError`` or ``ValueError`` for an even number of values. Source: clipping as in Shaw et al. (2018), from
    memory.

    >>> clipped_bias(np.array([-1.0, 0.0, 1.0]), 3, 3).tolist()
    [-1.0, -1.0, 0.0, 1.0, 1.0]
    """
    offsets, found = _offsets(n, m), _entries("values", values)
    if found % 2 == 0:
        raise ValueError(f"values: expected (..., 2 K + 1), an odd number, found {tuple(values.shape)}")
    reach = found // 2
    return _gather(values, np.clip(offsets, -reach, reach) + reach)


def _offsets(n: int, m: int) -> np.ndarray:
    """Return j - i in the order of the entries: -(n - 1) .. m - 1."""
    return np.arange(1 - require_int("n", n, 1), require_int("m", m, 1))


def _slopes(heads: int) -> np.ndarray:
    return np.exp2(-8 * np.arange(1, heads + 1) / heads)


def _entries(name: str, x: Array) -> int:
    """Return the length of the last axis of a floating array."""
    check_floating(**{name: x})
    if x.ndim < 1:
        raise ValueError(f"{name}: expected at least one axis, found {tuple(x.shape)}")
    return int(x.shape[-1])


def _first_distances(buckets: int, exact: int, farthest: int) -> list[int]:
    """Return the least distance of each bucket.

    Bucket ``exact`` + t begins at the least r with (r / exact)^(buckets - exact) >= (farthest / exact)^t.
    """
    large, up_to = buckets - exact, range(farthest)
    starts = (exact ** (large - t) * farthest**t for t in range(1, large))
    return [*range(exact + 1), *(bisect_left(up_to, start, key=lambda r: r**large) for start in starts)]


def _gather(values: Array, index: np.ndarray) -> Array:
    xp = namespace(values)
    return xp.take(values, asarray_like(index, values, dtype=xp.int64), axis=-1)
