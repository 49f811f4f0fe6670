r"""How sharp softmax attention is, and which family of approximations that leaves, from queries and keys alone.

After `recenter` the logits are t = <q', k'>, keys have weights w and every row has sum_j w_j t_j = 0. Of one head:

    spread       s = (mean over queries of sum_j w_j t_j^2)^(1/2)
    divergence   A = mean over queries of log sum_j w_j e^(t_j) = KL(w || the weights of the row)
    dimension    r = (sum_i l_i)^2 / sum_i l_i^2,    s^2 = sum_i l_i over the coordinates of the balanced basis
    tail         T = mean over queries of a row's weight beyond the keys that its cluster would treat exactly

A = s^2 / 2 to leading order. Where logits grow until w rests on a few keys, s falls to 0 and A does not (P46, P46R);
hence S = sqrt(2 A) stands where a rule of thumb has s. The rule names the first of these families whose error it
predicts to be at most `WORKS` = 1/10 of the output:

    first order   A <= WORKS. Degree <= 1 errs by at most A times the diameter of the values (P46R)
    monomials     S^3 / sqrt(3!) <= WORKS and 1 + d + r (r + 1) / 2 <= 256. For Gaussian t the part of degree n of e^t has
                  size S^n / sqrt(n!); the first that is left out is n = 3, where the width holds degree 2 in r coordinates
    local         T S (C K)^(-1/r) / 2 <= WORKS. N parts leave the share N^(-2/r) of a variance in r dimensions (Zador,
                  from memory), so that C clusters of queries and K blocks of keys leave logits of spread S (C K)^(-1/r)
                  inside a block: an error of first order for the weight T
    exact         always

What a cluster knows of its queries is emulated: with e = C^(-2/r), the share that clusters leave, the mean of a query's
cluster has logits (1 - e) t + (e (1 - e))^(1/2) t', t' those of another query; its largest weights are treated exactly.

The forms are derived, the size that counts is not: an error relative to the output depends on the values. The factor 1/2
was set on the eight shipped heads, logits times 1/4 to 4 (values are half explained by their block), and the emulated
mean was put in when random heads of high dimension had been judged too well without it. `compare --stress` counts how
often the rule is right. Not in the sources seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, namespace, to_host
from schoenbat_theory.attention.local import LocalBudget
from schoenbat_theory.features.recenter import recenter
from schoenbat_theory.features.sample import evenly_spaced
from schoenbat_theory.features.weights import normalised
from schoenbat_theory.markup import decimal, table

__all__ = ["FAMILIES", "WORKS", "Sharpness", "sharpness"]

FAMILIES = ("first order", "monomials", "local", "exact")  # from cheap to dear
WORKS = 0.1  # a relative error that is small enough
WIDTH = 256  # of the monomials
ROWS = 64  # a mean of so many exponential variables errs by 12 %, its root by half of that


@dataclass(frozen=True, eq=False)
class Sharpness:
    """How sharp attention is, and what that leaves; floats and a text, or arrays of the leading axes where there are any.

    ``spread``      standard deviation s of the recentred logits under the weights w of the keys
    ``divergence``  A, mean over queries of the Kullback-Leibler divergence of the weights of a row from w; about s^2/2
    ``dimension``   r, over how many coordinates of the balanced basis the logits spread
    ``tail``        T, mean weight of a row beyond the keys that local expansions would treat exactly
    ``effective_keys``  1 / sum_j w_j^2, how many keys the weights w rest on (Kish's effective size, from memory)
    ``row_keys``    the same of the weights of a row, median over rows
    ``family``      "first order" (`first_order_attention`), "monomials" (`OptimizedMaclaurin` after `recenter`),
                    "local" (`local_attention`), or "exact" (`kernel_attention`)
    """

    spread: Any
    divergence: Any
    dimension: Any
    tail: Any
    effective_keys: Any
    row_keys: Any
    family: Any

    def _repr_html_(self) -> str:
        names = ("family", "spread", "divergence", "dimension", "tail", "effective_keys", "row_keys")
        columns = np.broadcast_arrays(*(getattr(self, name) for name in names))
        rows = [
            (
                ", ".join(map(str, index)) or "–",
                str(columns[0][index]),
                *(decimal(float(x[index])) for x in columns[1:]),
            )
            for index in np.ndindex(columns[0].shape)
        ]
        return table(("head", *(name.replace("_", " ") for name in names)), rows, "how sharp the attention is")


def sharpness(q: Array, k: Array, *, key_mask: Array | None = None, key_log_weights: Array | None = None) -> Sharpness:
    """Return how sharp softmax attention is, head by head, and the family of approximations that will do.

    ``q`` (..., n, d), ``k`` (..., m, d)   used as given; softmax attention of an encoder is q / d**0.25, k / d**0.25
    ``key_mask``         (..., m) booleans, True = the key is used;  ``key_log_weights``  (..., m), -inf masks
    returns              `Sharpness`, on the host

    The rule is that of the module, a prediction for values of no particular kind: `approximate_attention` tries and
    certifies. It takes what `recenter` takes and about m (d + 8) multiply-adds for each of 64 queries, evenly spaced: nothing is
    random. It looks at all tokens, so that it is not for causal attention. Raises as `recenter` does.

    Source: not in the sources seen.

    >>> q = np.random.default_rng(0).normal(size=(2, 64, 4))
    >>> sharpness(q / 8, q).family.tolist(), sharpness(9 * q[0], q[0]).row_keys < 2
    (['first order', 'first order'], True)
    """
    x, y, log_weights = recenter(q, k, key_mask=key_mask, key_log_weights=key_log_weights)
    (n, d), m, xp = q.shape[-2:], k.shape[-2], namespace(x)
    if 0 in (n, m):
        return _decided(_Numbers(*(np.zeros(log_weights.shape[:-1]) for _ in range(6))), n, m, d)
    weights = normalised(log_weights)
    parts = xp.mean(x * x, axis=-2) * (weights[..., None, :] @ (y * y))[..., 0, :]
    t = xp.take(x, asarray_like(evenly_spaced(ROWS, n), x, xp.int64), axis=-2) @ xp.matrix_transpose(y)
    logits = t + log_weights[..., None, :]
    rows = normalised(logits)
    growth = _log_sum_exp(logits) - _log_sum_exp(log_weights)[..., None]
    numbers = _Numbers(
        xp.sqrt(xp.sum(parts, axis=-1)),
        xp.mean(xp.maximum(growth, xp.zeros_like(growth)), axis=-1),
        _dimension(parts),
        _tail(t, log_weights, rows, _dimension(parts), LocalBudget.for_length(n, m)),
        _effective(weights),
        _effective(rows),
    )
    spread, divergence, dimension, tail, keys, row_keys = (to_host(one).astype(np.float64) for one in numbers)
    return _decided(_Numbers(spread, divergence, dimension, tail, keys, np.median(row_keys, axis=-1)), n, m, d)


class _Numbers(NamedTuple):
    """The numbers of `Sharpness`, in its order, each of the leading axes."""

    spread: Array
    divergence: Array
    dimension: Array
    tail: Array
    effective_keys: Array
    row_keys: Array


def _dimension(parts: Array) -> Array:
    """Return (sum_i l_i)^2 / sum_i l_i^2, (...), of (..., d); 1 where all are 0."""
    xp = namespace(parts)
    total = xp.sum(parts, axis=-1, keepdims=True)
    shares = parts / xp.where(total > 0, total, xp.ones_like(total))
    square = xp.sum(shares * shares, axis=-1)
    return 1 / xp.where(square > 0, square, xp.ones_like(square))


def _tail(t: Array, log_weights: Array, rows: Array, dimension: Array, budget: LocalBudget) -> Array:
    """Return T, (...), of logits (..., s, m) of some queries and the weights of their rows."""
    xp = namespace(t)
    left = float(budget.clusters) ** (-2 / dimension)[..., None, None]
    other = xp.roll(t, t.shape[-2] // 2, axis=-2)
    centre = (1 - left) * t + xp.sqrt(left * (1 - left)) * other + log_weights[..., None, :]
    last = xp.sort(centre, axis=-1, descending=True)[..., min(budget.exact, t.shape[-1]) - 1, None]
    beyond = xp.sum(xp.where(centre < last, rows, xp.zeros_like(rows)), axis=-1)
    return xp.mean(beyond, axis=-1)


def _effective(weights: Array) -> Array:
    """Return 1 / sum_j w_j^2, (...), of (..., m) with sum 1; 0 where there are no weights."""
    xp = namespace(weights)
    square = xp.sum(weights * weights, axis=-1)
    return xp.where(square > 0, 1 / xp.where(square > 0, square, xp.ones_like(square)), xp.zeros_like(square))


def _log_sum_exp(x: Array) -> Array:
    """Return log sum_j exp(x_j), (...), of (..., m); 0 where all are -inf."""
    xp = namespace(x)
    top = xp.max(x, axis=-1, keepdims=True)
    top = xp.where(top > -xp.inf, top, xp.zeros_like(top))
    total = xp.sum(xp.exp(x - top), axis=-1)
    return xp.log(xp.where(total > 0, total, xp.ones_like(total))) + top[..., 0]


def _decided(numbers: _Numbers, n: int, m: int, d: int) -> Sharpness:
    """Apply the rule of the module."""
    size, r, budget = np.sqrt(2 * numbers.divergence), numbers.dimension, LocalBudget.for_length(n, m)
    left = size * float(budget.clusters * budget.blocks) ** (-1 / np.maximum(r, 1.0))
    works = [
        numbers.divergence <= WORKS,
        (size**3 / math.sqrt(6) <= WORKS) & (1 + d + r * (r + 1) / 2 <= WIDTH),
        numbers.tail * left / 2 <= WORKS,
    ]
    family = np.select(works, FAMILIES[:3], FAMILIES[3])
    plain = [one.item() if one.ndim == 0 else one for one in (*numbers, family)]
    return Sharpness(*plain)
