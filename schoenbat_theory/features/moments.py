"""What the closed forms of random projections are made of: A, u and s of pairs of vectors, and of the row of a query."""

from __future__ import annotations

import numpy as np

from schoenbat_theory.arrays import Array, all_finite, broadcast_shapes, check_finite, check_floating
from schoenbat_theory.features.inputs import check_vectors, too_large
from schoenbat_theory.features.sketch_moments import WEIGHTS

__all__ = ["pair_terms", "rademacher_moment", "row_terms"]


@np.errstate(all="ignore")  # an overflow is found in the result
def rademacher_moment(x: Array, y: Array, z: Array | None = None) -> Array:
    r"""Return T = E[<w, x>^2 <w, y> <w, z>] for w uniform on {-1, 1}^d, elementwise over leading axes.

        T = ||x||^2 <y, z> + 2 <x, y> <x, z> - 2 sum_i x_i^2 y_i z_i,    V = T at z = y,  V >= <x, y>^2

    ``x, y, z`` (..., d), broadcast, z = y if it is not given; returns (...). Source: z = y in Wacker,
    Ohana & Filippone (2023), Table 1; the mixed moment is not in the source. Both are enumerated in P03.
    Raises ``ValueError`` for NaN and for a moment that overflows.

    >>> rademacher_moment(np.array([1.0, 1.0]), np.array([1.0, -1.0]))
    array(0.)
    """
    named = {"x": x, "y": y} if z is None else {"x": x, "y": y, "z": z}
    xp = check_vectors(**named)
    z = y if z is None else z
    xx, xy, xz = x * x, xp.sum(x * y, axis=-1), xp.sum(x * z, axis=-1)
    norms = xp.sum(xx, axis=-1) * xp.sum(y * z, axis=-1)
    (moment,) = WEIGHTS["rademacher"].moments(norms, xy * xz, xp.sum(xx * y * z, axis=-1))
    if z is y:
        moment = xp.maximum(moment, xy * xy)  # Jensen; rounding may say otherwise
    moment = xp.asarray(moment)
    if not all_finite(moment):
        check_finite(**named)
        raise too_large(", ".join(named), moment)
    return moment


@np.errstate(all="ignore")  # an overflow is found in the moments
def pair_terms(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return t = <x, y>, A = |x|^2 |y|^2 and s = sum_i x_i^2 y_i^2, (...), for ``x``, ``y`` (..., d) that broadcast."""
    xp = check_vectors(x=x, y=y)
    check_finite(x=x, y=y)
    xx, yy = x * x, y * y
    t, s = xp.sum(x * y, axis=-1), xp.sum(xx * yy, axis=-1)
    return xp.asarray(t), xp.asarray(xp.sum(xx, axis=-1) * xp.sum(yy, axis=-1)), xp.asarray(s)


@np.errstate(all="ignore")  # an overflow is found in the moments
def row_terms(q: Array, k: Array) -> tuple[Array, Array, Array]:
    """Return t = <q, k_j>, (..., m), A = |q|^2 <k_j, k_l> and s = sum_i q_i^2 k_ji k_li, both (..., m, m).

    ``q`` (..., d), ``k`` (..., m, d), leading axes broadcast.
    """
    xp = check_floating(q=q, k=k)
    if q.ndim < 1 or k.ndim < 2 or q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q, k: expected (..., d), (..., m, d), found {tuple(q.shape)}, {tuple(k.shape)}")
    broadcast_shapes(q=tuple(q.shape[:-1]), k=tuple(k.shape[:-2]))
    check_finite(q=q, k=k)
    turned, squares = xp.matrix_transpose(k), q * q
    norms = xp.sum(squares, axis=-1)[..., None, None] * (k @ turned)
    return xp.sum(q[..., None, :] * k, axis=-1), norms, (k * squares[..., None, :]) @ turned
