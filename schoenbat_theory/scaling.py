"""ppSBN, the two-stage regularisation of SchoenbAt, as its released code computes it.

It is called a batch normalisation there; it uses no statistics of a batch or a sequence. Each token
is normalised alone. `unit_norm` is the scaling of Luo et al. (2021) instead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    as_reals,
    asarray_like,
    broadcast_shapes,
    check_finite,
    check_floating,
    check_mask,
    device_of,
    eps,
    namespace,
    to_host,
)

__all__ = ["plain_lengths", "post_scale", "pre_scale", "pre_scale_named", "unit_norm", "unit_norm_named"]


def pre_scale(x: Array, *, key_mask: Array | None = None) -> Array:
    r"""Centre every token over its features and divide by its length.

        pre_scale(x) = c / ||c||,   c = x - mean(x),   so that ||pre_scale(x)|| = 1

    ``x``         (..., n, d), any scale
    ``key_mask``  (..., n) booleans, True = the token is used; the others become zeros, whatever they hold
    returns       (..., n, d)

    Dividing by the standard deviation first, as a layer normalisation would, changes nothing: the map
    is invariant under x -> a x + b with a > 0, which a test asserts. A constant token has c = 0 and no direction:
    a ``ValueError`` unless it is masked (the released code returns NaN).

    Source: PreSBN in the code released with SchoenbAt (arXiv:2505.12252); the printed definition was not seen.

    >>> pre_scale(np.array([[1.0, 2.0, 3.0]])).round(4)
    array([[-0.7071,  0.    ,  0.7071]])
    """
    return pre_scale_named("x", x, key_mask)


@np.errstate(all="ignore")  # infinite entries are found in the lengths
def pre_scale_named(name: str, x: Array, key_mask: Array | None = None) -> Array:
    """Return `pre_scale` of ``x``, which errors call ``name``, as the caller knows it."""
    xp = check_floating(**{name: x})
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape (..., n, d), d >= 1, found {tuple(x.shape)}")
    if key_mask is not None:
        check_mask("key_mask", key_mask, x, x.shape[-2])
        broadcast_shapes(**{name: tuple(x.shape[:-2])}, key_mask=tuple(key_mask.shape[:-1]))
        x = xp.where(key_mask[..., None], x, xp.zeros_like(x))
    centred, square, mean = _centred(x)
    # What underflows of d squares is at most d times the smallest normal number, too little to matter above d / u times
    # that. A constant token comes out no longer than _rounding |mean|: what is up to twice as long is looked at again.
    d, u = x.shape[-1], eps(x)
    sure = xp.isfinite(square) & (square > d / u * float(xp.finfo(x.dtype).smallest_normal))
    sure = sure & (square > (2 * _rounding(d, u) * mean) ** 2)
    if key_mask is not None:
        sure = sure | ~key_mask
    if not bool(xp.all(sure)):
        centred, square = _carefully(name, x, sure)
    length = xp.sqrt(square)[..., None]
    centred /= xp.where(length > 0, length, xp.ones_like(length))
    return centred


def _centred(x: Array) -> tuple[Array, Array, Array]:
    """Return x - mean(x) for every token, its square (...), and the mean (...)."""
    xp, d = namespace(x), x.shape[-1]
    mean = x @ xp.full((d,), 1 / d, dtype=x.dtype, device=device_of(x))  # several times faster than xp.mean
    centred = x - mean[..., None]
    return centred, xp.vecdot(centred, centred), mean


@np.errstate(all="ignore")  # what is not finite is found in the squares
def plain_lengths(x: Array, used: Array | None = None) -> Array | None:
    """Return |x - mean(x)| (..., n) without forming x - mean(x), 1 where not ``used``; None where one would not be accurate.

    It is the root of |x|^2 - d mean(x)^2. Where the mean makes at most half of |x|^2, and lengths are within 2^-16 and 2^16,
    nothing underflows that matters and a length errs by at most 5/2 (d + 2) u of itself to first order in the unit roundoff
    u: d u |x|^2 in one square and (sqrt(2) (d + 1) + 1) u |x|^2 in the other, doubled at most by the difference, halved by
    the root; u for each of these two.
    """
    xp, d = namespace(x), x.shape[-1]
    mean = x @ xp.full((d,), 1 / d, dtype=x.dtype, device=device_of(x))
    whole = xp.vecdot(x, x)
    square = whole - d * mean * mean
    if used is not None:
        whole, square = (xp.where(used, some, xp.ones_like(some)) for some in (whole, square))
    sure = (2 * square >= whole) & (square >= 2.0**-32) & (square <= 2.0**32)  # False for NaN
    return xp.sqrt(square) if bool(xp.all(sure)) else None


def _carefully(name: str, x: Array, sure: Array) -> tuple[Array, Array]:
    """Return x - mean(x) and its square, of tokens divided by their largest |entry| where they are not ``sure``.

    Raises ``ValueError`` for a token among those that is not finite or constant.
    """
    xp, d = namespace(x), x.shape[-1]
    unit, _ = _by_the_largest(x)
    centred, square, _ = _centred(xp.where(sure[..., None], x, unit))
    good = sure | (xp.isfinite(square) & (xp.sqrt(square) > _rounding(d, eps(x))))
    if not bool(xp.all(good)):
        check_finite(**{name: x})
        token = tuple(int(i) for i in np.argwhere(~to_host(good))[0])
        raise ValueError(
            f"{name}: token {token} is constant over its {d} features, so that x - mean(x) = 0 has no direction "
            "to normalise (0/0); mask it with key_mask or leave it out"
        )
    return centred, square


def _rounding(d: int, u: float) -> float:
    """Return how long x - mean(x) may come out where x is constant, in units of its largest entry.

    The mean of d entries of at most 1 errs by at most d u, the difference by u more, the vector by sqrt(d) times that: at
    or below no direction is left in this dtype.
    """
    return math.sqrt(d) * (d + 1) * u


def unit_norm(x: Array) -> Array:
    """Divide every token by its length, x / ||x||, as attention with normalised queries and keys does.

    ``x``    (..., n, d), any scale
    returns  (..., n, d)

    A token of zeros has no direction: a ``ValueError`` that names it.

    Source: Luo et al. (2021), from memory.

    >>> unit_norm(np.array([[3.0, 4.0]])).round(4)
    array([[0.6, 0.8]])
    """
    return unit_norm_named("x", x)


@np.errstate(all="ignore")  # infinite entries are found in the lengths
def unit_norm_named(name: str, x: Array) -> Array:
    """Return `unit_norm` of ``x``, which errors call ``name``, as the caller knows it."""
    xp = check_floating(**{name: x})
    if x.ndim < 2 or x.shape[-1] == 0:
        raise ValueError(f"{name}: expected shape (..., n, d), d >= 1, found {tuple(x.shape)}")
    unit, largest = _by_the_largest(x)
    if not bool(xp.all(xp.isfinite(largest) & (largest > 0))):
        check_finite(**{name: x})
        token = tuple(int(i) for i in np.argwhere(to_host(largest)[..., 0] == 0)[0])
        raise ValueError(f"{name}: token {token} is zero, and has no direction to keep; leave it out")
    return unit / xp.sqrt(xp.sum(unit * unit, axis=-1, keepdims=True))


def _by_the_largest(x: Array) -> tuple[Array, Array]:
    """Return tokens divided by their largest |entry|, which keeps squares from overflow and underflow, and that entry (..., n, 1)."""
    xp = namespace(x)
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    return x / xp.where(largest > 0, largest, xp.ones_like(largest)), largest


@np.errstate(all="ignore")  # an overflow is found in the result
def post_scale(a: Array, gamma: Any, beta: Any, *, signed: bool = False) -> Array:
    r"""Restore the scale of an attention output: gamma a^beta, elementwise.

    ``a``            (..., n, e) attention output
    ``gamma, beta``  numbers, or host arrays (e,)
    ``signed``       True: gamma sign(a) |a|^beta, which keeps the sign (not in the source)
    returns          (..., n, e)

    Raises ``ValueError`` where the power is not a real number: a < 0 with a beta that is no integer
    (NaN in the released code), or a = 0 with beta < 0; and where the result overflows.

    Source: PostSBN in the code released with SchoenbAt (arXiv:2505.12252); the printed definition was not seen.

    >>> post_scale(np.array([4.0]), 2.0, 0.5), post_scale(np.array([-4.0]), 2.0, 0.5, signed=True)
    (array([4.]), array([-4.]))
    """
    xp = check_floating(a=a)
    gamma, beta = as_reals("gamma", gamma), as_reals("beta", beta)
    for name, value in (("gamma", gamma), ("beta", beta)):
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name}: expected finite numbers, found {value}")
        if value.ndim and value.shape != (1,) and value.shape != tuple(a.shape[-1:]):
            raise ValueError(f"{name}: expected a number or ({a.shape[-1] if a.ndim else ''},), found {value.shape}")
    check_finite(a=a)
    power, factor = asarray_like(beta, a), asarray_like(gamma, a)
    if np.any(beta < 0) and bool(xp.any((a == 0) & (power < 0))):
        raise ValueError(f"a: 0 to the negative power beta = {beta} is not finite")
    if signed:
        result = factor * xp.sign(a) * xp.abs(a) ** power
    else:
        whole = asarray_like(beta == np.round(beta), a, dtype=xp.bool)
        if bool(xp.any((a < 0) & ~whole)):
            count = int(xp.sum(xp.astype((a < 0) & ~whole, xp.int64)))
            raise ValueError(
                f"a: {count} negative entries have no real power beta = {beta}; "
                "signed=True keeps the sign, gamma sign(a) |a|^beta"
            )
        result = factor * a**power
    if not all_finite(result):
        raise ValueError(f"a: gamma a^beta overflows {a.dtype} at gamma = {gamma}, beta = {beta}")
    return result
