"""Certify an approximation of attention: compute some of its rows exactly, and say what they say of all (certificate.py).

A quarter of the rows is taken with certainty, where the output differs most from another approximation, nested or
cheaper: rows that an unstable method has blown up are among them, and random rows alone would hardly ever meet one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    as_generator,
    asarray_like,
    broadcast_shapes,
    check_finite,
    namespace,
    require_int,
    to_host,
)
from schoenbat_theory.attention.certificate import Certificate, row_certificate
from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.inputs import check_rows, check_shapes
from schoenbat_theory.features.weights import key_weights
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["Head", "as_floats", "certain_rows", "certify", "choose_rows", "heads_of", "squared_distances", "take"]

QUARTER = 4  # one row in four is taken with certainty


@dataclass(frozen=True, eq=False)
class Head:
    """Attention of one head, of which single rows can be asked: q (n, d), k (m, d), v (m, e), log-weights (m,) or ``None``."""

    q: Array
    k: Array
    v: Array
    kernel: DotProductKernel
    log_weights: Array | None

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return these rows of exact attention, (len(index), e), on the host."""
        return as_floats(self.attend(take(self.q, index)))

    def attend(self, q: Array) -> Array:
        """Return exact attention of queries ``q``."""
        return kernel_attention(q, self.k, self.v, self.kernel, key_log_weights=self.log_weights)


def certify(
    q: Array,
    k: Array,
    v: Array,
    output: Array,
    kernel: str | DotProductKernel = "exp",
    *,
    rows: int = 64,
    level: float = 0.95,
    nested: Array | None = None,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    rng: Any = None,
    among: Any = None,
) -> Certificate:
    r"""Estimate the relative error of an approximation of attention from a few rows that are computed exactly.

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e), ``kernel``, ``key_mask``, ``key_log_weights``   as in `kernel_attention`
    ``output``   (..., n, e), the approximation; the leading axes of q, k and v broadcast to its own
    ``rows``     rows computed exactly, at m (d + e + 2) multiply-adds each; all n where n is no larger
    ``level``    how often the interval is to cover, in (0, 1)
    ``nested``   (..., n, e), another approximation: a quarter of the rows is taken where the two differ most; by default
                 the mean row of ``output`` in its place, which finds rows that are blown up
    ``rng``      draws the other rows, without replacement
    ``among``    row numbers that the certificate is about, each once; by default all. Leave out queries that are padding
    returns      `Certificate`: floats, or arrays of the leading axes, each head judged by its own rows

    The interval is *approximate*: row errors of a few rows that outweigh all others can be missed (P44). It is refused
    where fewer than 16 rows were drawn at random, where none of them errs, where the exact rows are zero, and where one
    row drawn holds too much of the sum of squared errors, over 26 % of 48. With all rows it is a point, exact up to rounding. Errors below
    the rounding of the dtype are not measured. The errors of local expansions sit in few rows that the mean row does not point
    at: give them ``nested``, local expansions with half of the clusters, or far fewer of their intervals cover. Raises as `kernel_attention` does, and ``TypeError`` or ``ValueError`` for
    an ``output`` that does not fit or is not finite.

    Source: ratio estimates of finite populations are textbook (Cochran, from memory); the degrees of freedom, the floor,
    the quarter and the refusals are not in the sources seen.

    >>> q = np.random.default_rng(0).normal(size=(500, 4))
    >>> certify(q, q, q, np.zeros_like(q), rng=0).error  # the answer 0 errs by all that there is
    1.0
    """
    lead = check_shapes(q, k, v)
    weights = key_weights(k, k.shape[-2], lead, key_mask, key_log_weights)
    lead = _leading_axes(
        q, v, output, nested, arrays=lead, weights=() if weights is None else tuple(weights.shape[:-1])
    )
    rows, kernel, rng = require_int("rows", rows, 1), get_kernel(kernel), as_generator(rng)
    about = np.arange(q.shape[-2])
    if among is not None:  # what the others hold, be it NaN, does not matter
        about = _numbers(among, q.shape[-2])
        output, nested = take(output, about), None if nested is None else take(nested, about)
    check_finite(output=output)
    rows = min(rows, about.size)
    certain = certain_rows(rows, about.size)
    found = []
    for head, (out, other) in heads_of(lead, q, k, v, kernel, weights, output, nested):
        index = choose_rows(squared_distances(out, other), certain, rows, rng)
        exact = head.rows(about[index])
        errors = np.sum((as_floats(take(out, index)) - exact) ** 2, axis=-1)
        found.append((errors, np.sum(exact**2, axis=-1)))
    errors, norms = (np.reshape([one[i] for one in found], (*lead, rows)) for i in (0, 1))
    return row_certificate(errors, norms, n=about.size, certain=certain, level=level)


def certain_rows(rows: int, n: int) -> int:
    """Return how many of so many rows are taken with certainty: a quarter, and all where no row is left out.

    >>> certain_rows(64, 512), certain_rows(64, 64)
    (16, 64)
    """
    return rows // QUARTER if rows < n else n


def choose_rows(distances: np.ndarray, certain: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return row numbers (rows,): first those of the ``certain`` largest ``distances`` (n,), then others at random."""
    order = rng.permutation(distances.size)  # ties, too, are broken at random
    first = order[np.argsort(-distances[order], kind="stable")[:certain]]
    rest = order[~np.isin(order, first)]
    return np.concatenate([first, rest[: rows - certain]])


def squared_distances(output: Array, other: Array | None) -> np.ndarray:
    """Return |output_i - other_i|^2, (n,), on the host, inf where that is none; ``None``: the mean row of ``output``."""
    xp = namespace(output)
    with np.errstate(all="ignore"):  # an overflow is inf
        difference = output - (xp.mean(output, axis=-2, keepdims=True) if other is None else other)
        found = np.sum(as_floats(difference) ** 2, axis=-1)  # squares of float32 need room
    return np.where(np.isnan(found), np.inf, found)


def heads_of(
    lead: tuple[int, ...],
    q: Array,
    k: Array,
    v: Array,
    kernel: DotProductKernel,
    log_weights: Array | None,
    *outputs: Array | None,
) -> Iterator[tuple[Head, tuple[Any, ...]]]:
    """Yield every head of the leading axes ``lead``, with its part of the ``outputs``."""

    def part(x: Array | None, index: tuple[int, ...], axes: int = 2) -> Array | None:
        if x is None:
            return None
        return namespace(x).broadcast_to(x, (*lead, *x.shape[x.ndim - axes :]))[(*index, ...)]

    for index in np.ndindex(lead):
        head = Head(part(q, index), part(k, index), part(v, index), kernel, part(log_weights, index, 1))
        yield head, tuple(part(x, index) for x in outputs)


def take(x: Array, index: np.ndarray) -> Array:
    """Return these rows of ``x`` (..., n, columns)."""
    xp = namespace(x)
    return xp.take(x, asarray_like(index, x, xp.int64), axis=-2)


def as_floats(x: Array) -> np.ndarray:
    """Return ``x`` on the host, in float64."""
    return to_host(x).astype(np.float64)


def _leading_axes(
    q: Array, v: Array, output: Array, nested: Array | None, **shapes: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the leading axes of ``output``, to which those of all others must broadcast."""
    given = {"output": output} if nested is None else {"output": output, "nested": nested}
    check_rows(q=q, **given)
    for name, x in given.items():
        if tuple(x.shape[-2:]) != (q.shape[-2], v.shape[-1]):
            raise ValueError(f"{name}: expected (..., {q.shape[-2]}, {v.shape[-1]}), found {tuple(x.shape)}")
        shapes[name] = tuple(x.shape[:-2])
    if q.shape[-2] == 0:
        raise ValueError(f"q: expected at least one query, found {tuple(q.shape)}")
    lead = broadcast_shapes(**shapes)
    if lead != shapes["output"]:
        raise ValueError(f"output: expected leading axes {lead}, found {tuple(output.shape)}")
    return lead


def _numbers(among: Any, n: int) -> np.ndarray:
    found = np.asarray(among)
    whole = found.ndim == 1 and found.size > 0 and np.issubdtype(found.dtype, np.integer)
    if not whole or found.min() < 0 or found.max() >= n or len(np.unique(found)) < found.size:
        raise ValueError(f"among: expected row numbers 0 .. {n - 1}, each once and at least one, found {among!r:.60}")
    return found
