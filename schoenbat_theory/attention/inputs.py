"""What every attention asks of its arguments, and the words in which it says no."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from schoenbat_theory import threads
from schoenbat_theory.arrays import (
    Array,
    broadcast_shapes,
    check_finite,
    check_floating,
    device_of,
    namespace,
)

__all__ = [
    "blocks",
    "causal_mask",
    "check_bias",
    "check_rows",
    "check_shapes",
    "divide",
    "explain_not_finite",
    "groups",
    "no_weight",
    "one_head",
    "quotient",
    "some_heads",
    "take_rows",
    "toeplitz_block",
    "zero_rows",
]


def check_rows(**named: Array) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless all are floating arrays (..., rows, columns >= 1) of one kind."""
    check_floating(**named)
    for name, x in named.items():
        if x.ndim < 2 or x.shape[-1] == 0:
            raise ValueError(f"{name}: expected shape (..., rows, columns >= 1), found {tuple(x.shape)}")


def check_shapes(q: Array, k: Array, v: Array, names: tuple[str, str] = ("q", "k")) -> tuple[int, ...]:
    """Return the broadcast leading axes of ``q`` (..., n, d), ``k`` (..., m, d) and ``v`` (..., m, e)."""
    check_rows(**{names[0]: q, names[1]: k, "v": v})
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"{names[1]}: expected last axis {q.shape[-1]} as {names[0]} has, found {tuple(k.shape)}")
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v: expected {k.shape[-2]} rows as {names[1]} has, found {tuple(v.shape)}")
    shapes = {name: tuple(x.shape[:-2]) for name, x in ((names[0], q), (names[1], k), ("v", v))}
    return broadcast_shapes(**shapes)


def check_bias(log_bias: Array, q: Array, v: Array, lead: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``lead`` broadcast with the leading axes of a bias of relative positions, (..., n + m - 1) and finite."""
    check_floating(v=v, log_bias=log_bias)
    entries = max(q.shape[-2] + v.shape[-2] - 1, 0)
    if log_bias.ndim < 1 or log_bias.shape[-1] != entries:
        raise ValueError(f"log_bias: expected (..., {entries}), found {tuple(log_bias.shape)}")
    check_finite(log_bias=log_bias)
    return broadcast_shapes(arrays=lead, log_bias=tuple(log_bias.shape[:-1]))


def causal_mask(like: Array, rows: range, columns: range) -> Array:
    """Return booleans (len(rows), len(columns)), True where key j <= query i."""
    xp, device = namespace(like), device_of(like)
    i = xp.arange(rows.start, rows.stop, device=device)
    j = xp.arange(columns.start, columns.stop, device=device)
    return j[None, :] <= i[:, None]


def toeplitz_block(coefficients: Array, rows: range, columns: range, n: int) -> Array:
    """Return the block c_{j-i+n-1}, i in ``rows``, j in ``columns``, as a matrix (..., rows, columns).

    >>> toeplitz_block(np.array([0.0, 2.0, 1.0]), range(2), range(2), 2)
    array([[2., 1.],
           [0., 2.]])
    """
    xp, device = namespace(coefficients), device_of(coefficients)
    i = xp.arange(rows.start, rows.stop, device=device)
    j = xp.arange(columns.start, columns.stop, device=device)
    index = xp.reshape(j[None, :] - i[:, None] + n - 1, (-1,))
    return xp.reshape(xp.take(coefficients, index, axis=-1), (*coefficients.shape[:-1], len(rows), len(columns)))


def take_rows(x: Array, rows: range) -> Array:
    """Return these rows of ``x`` (..., n, d)."""
    return x[..., rows.start : rows.stop, :]


def one_head(x: Array, index: tuple[int, ...], axes: int) -> Array:
    """Return what x (..., axes) holds for one index of the leading axes that it is broadcast to, as a view."""
    own = x.shape[: x.ndim - axes]
    chosen = index[len(index) - len(own) :]
    return x[(*(i if size > 1 else 0 for i, size in zip(chosen, own, strict=True)), ...)]


def groups(lead: tuple[int, ...]) -> list[tuple[int, range]]:
    """Return the heads of leading axes ``lead`` in a group for each core, cut along the longest axis: (axis, indices)."""
    if not lead:
        return [(0, range(1))]
    axis = max(range(len(lead)), key=lambda i: lead[i])
    return [(len(lead) - axis, part) for part in blocks(lead[axis], max(-(-lead[axis] // threads.CORES), 1))]


def some_heads(x: Array, group: tuple[int, range], axes: int) -> Array:
    """Return of x (..., axes) the heads of a group, as a view; all of x where it is the same for all of them."""
    from_the_end, part = group
    axis = x.ndim - axes - from_the_end
    if from_the_end == 0 or axis < 0 or x.shape[axis] == 1:
        return x
    return x[(*(slice(None),) * axis, slice(part.start, part.stop), ...)]


def blocks(rows: int | range, size: int) -> list[range]:
    """Return 0 .. rows, or a range, cut into ranges of constant ``size`` (the last may be shorter)."""
    rows = rows if isinstance(rows, range) else range(rows)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def divide(numerator: Array, denominator: Array, visible: Array | None) -> Array:
    """Return `quotient`; a denominator of exactly 0 in a row that sees a key is an ``ArithmeticError`` with the number of rows."""
    if count := zero_rows(denominator, visible):
        raise no_weight(count)
    return quotient(numerator, denominator, visible)


@np.errstate(all="ignore")  # an overflow is found in the result
def quotient(numerator: Array, denominator: Array, visible: Array | None) -> Array:
    """Return numerator / denominator per row, whatever comes of it; rows that see no key are zeros."""
    if visible is None:
        return numerator / denominator[..., None]
    xp = namespace(numerator)
    safe = xp.where(visible, denominator, xp.ones_like(denominator))
    return xp.where(visible[..., None], numerator / safe[..., None], xp.zeros_like(numerator))


def zero_rows(denominator: Array, visible: Array | None) -> int:
    """Return how many rows that see a key have a denominator of exactly 0."""
    xp, zero = namespace(denominator), denominator == 0
    if visible is not None:
        zero = zero & visible
    return int(xp.sum(xp.astype(zero, xp.int64))) if bool(xp.any(zero)) else 0


def no_weight(count: int) -> ArithmeticError:
    """Return the error for rows whose denominator is exactly 0."""
    return ArithmeticError(f"the attention weights of {count} rows sum to exactly 0")


def explain_not_finite(**named: Any) -> NoReturn:
    """Raise ``ValueError`` for the first named array that holds NaN or infinity, else blame overflow."""
    check_finite(**named)
    dtype = next(iter(named.values())).dtype
    raise ValueError(f"{', '.join(named)}: finite, but the sums overflow {dtype}; scale down or use float64")
