"""Attention through a feature map: phi(Q) (phi(K)^T V), the map applied to one block of tokens at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    broadcast_shapes,
    check_finite,
    check_floating,
    eps,
    namespace,
    require_bool,
)
from schoenbat_theory.attention.inputs import (
    blocks,
    check_shapes,
    explain_not_finite,
    hide,
    key_weights,
)
from schoenbat_theory.attention.sums import TOKENS, Problem, accumulate

__all__ = ["feature_attention"]


def feature_attention(
    q: Array,
    k: Array,
    v: Array,
    phi: Any,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
) -> Array:
    """Approximate kernelized attention with a drawn feature map, in time linear in n and m.

        out_i = sum_j w_j <phi(q_i), phi(k_j)> v_j / sum_j w_j <phi(q_i), phi(k_j)>

    ``phi``   a draw, or any callable (..., n, d) -> (..., n, D), or a pair (phi_q, phi_k) of them
    the rest  as in `kernel_attention`; returns (..., n, e)

    Features exist for one block of tokens at a time; each block's shape and dtype are checked, and ``phi`` is named
    where they are wrong or where it makes NaN of finite tokens. Input is not scanned: NaN, overflow and a
    denominator of exactly 0 are found in the result and traced back to an argument. Denominators may
    be negative: random Maclaurin weights have no sign. Raises as `kernel_attention` does.

    Source: the estimator RMFA of arXiv:2505.12252, without the clamp of its released code.

    >>> import numpy as np
    >>> from schoenbat_theory import RandomMaclaurin
    >>> phi = RandomMaclaurin("exp", 64).draw(2, rng=0)
    >>> feature_attention(np.eye(2), np.eye(2), np.ones((2, 1)), phi)
    array([[1.],
           [1.]])
    """
    lead = check_shapes(q, k, v)
    causal = require_bool("causal", causal)
    weights = key_weights(k, k.shape[-2], lead, key_mask, key_log_weights)
    k, v = hide(k, weights), hide(v, weights)
    map_q, map_k = _maps(phi)
    _check_radius(q, k, map_k.phi)
    shape = broadcast_shapes(arrays=lead, hidden=tuple(k.shape[:-2]), draw=map_q.shape, draw_k=map_k.shape)
    map_q.lead = map_k.lead = shape
    sums, _ = accumulate(
        lambda r: map_q(q[..., r.start : r.stop, :]),
        lambda r: map_k(k[..., r.start : r.stop, :]),
        v,
        Problem(shape, q.shape[-2], causal, weights),
    )
    if not all_finite(sums.denominator, sums.numerator):
        check_finite(q=q, k=k, v=v)
        for one, x in ((map_q, q), (map_k, k)):
            one.explain_nan(x)
        explain_not_finite(q=q, k=k, v=v)
    return sums.ratio()


class _Map:
    """One map of `feature_attention`, asked for one block after another; what it returns is checked, not scanned."""

    def __init__(self, name: str, phi: Any, *, merge: bool) -> None:
        if not callable(phi):
            words = "a draw; call .draw(dim, rng)" if hasattr(phi, "draw") else "a draw or a callable"
            raise TypeError(f"{name}: expected {words}, found {phi!r:.60}")
        self.name, self.phi = name, phi
        self.shape = tuple(getattr(phi, "shape", ()))  # leading axes of a draw
        self.lead: tuple[int, ...] = ()  # those of the result
        self.apply = getattr(phi, "merged", phi) if merge else phi
        self.width: dict[str, int] = {}  # D, once it is known; two maps of one attention share it

    def __call__(self, x: Array) -> Array:
        features = self.apply(x)
        check_floating(x=x, **{self.name: features})
        n, found = x.shape[-2], tuple(features.shape)
        if len(found) < 2 or found[-2] != n or broadcast_shapes(x=self.lead, phi=found[:-2]) != self.lead:
            raise ValueError(f"{self.name}: expected features (..., {n}, D) for {tuple(x.shape)}, found {found}")
        if self.width.setdefault("D", found[-1]) != found[-1]:
            raise ValueError(
                f"{self.name}: expected {self.width['D']} features as other tokens have, found {found[-1]}"
            )
        return features

    @np.errstate(all="ignore")
    def explain_nan(self, x: Array) -> None:
        """Raise ``ValueError`` where the map makes NaN of finite tokens; infinity is an overflow, as a NaN of a draw is."""
        if hasattr(self.phi, "merged"):
            return
        xp = namespace(x)
        for rows in blocks(x.shape[-2], TOKENS):
            if bool(xp.any(xp.isnan(self(x[..., rows.start : rows.stop, :])))):
                raise ValueError(f"{self.name}: expected finite features of finite tokens, found NaN")


def _maps(phi: Any) -> tuple[_Map, _Map]:
    """Return the maps of queries and keys."""
    if not isinstance(phi, tuple):
        one = _Map("phi", phi, merge=True)
        return one, one
    if len(phi) != 2:
        raise ValueError(f"phi: expected a map or a pair (phi_q, phi_k), found {len(phi)} of them")
    # Two draws merge different numbers of constants, so only one draw may merge them.
    same = phi[0] is phi[1]
    pair = _Map("phi_q", phi[0], merge=same), _Map("phi_k", phi[1], merge=same)
    pair[1].width = pair[0].width
    return pair


@np.errstate(over="ignore")
def _check_radius(q: Array, k: Array, phi: Any) -> None:
    """Raise ``ValueError`` where max ||q_i|| max ||k_j|| exceeds a finite radius of the map's series."""
    radius = getattr(phi, "radius", math.inf)
    if math.isinf(radius) or 0 in (q.shape[-2], k.shape[-2]):
        return
    xp = check_floating(q=q, k=k)
    longest = [float(xp.sqrt(xp.max(xp.sum(x * x, axis=-1)))) for x in (q, k)]
    if longest[0] * longest[1] > radius * (1 + (q.shape[-1] + 4) * eps(q)):
        raise ValueError(
            f"q, k: the series of the map needs ||q|| ||k|| <= {radius:g}, found "
            f"max ||q|| = {longest[0]:.6g}, max ||k|| = {longest[1]:.6g}; pre_scale brings both to 1"
        )
