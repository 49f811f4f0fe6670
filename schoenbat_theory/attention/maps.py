"""The feature maps of an attention: asked for one block of tokens after another, and checked."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from schoenbat_theory.arrays import Array, broadcast_shapes, check_finite, check_floating, eps, namespace
from schoenbat_theory.attention.inputs import blocks, explain_not_finite, take_rows
from schoenbat_theory.attention.running import TOKENS

__all__ = ["Map", "check_radius", "explain_sums", "maps_of", "open_maps", "weigh"]


def open_maps(phi: Any, q: Array, k: Array, lead: tuple[int, ...]) -> tuple[Map, Map]:
    """Return the maps of queries and keys, made for results whose leading axes are ``lead`` and those of the draws.

    Raises ``TypeError`` or ``ValueError`` for what is no map, and where q and k lie beyond the radius of its series.
    """
    map_q, map_k = maps_of(phi)
    for name, x, one in (("q", q, map_q), ("k", k, map_k)):
        if one.drawn and one.phi.dim != x.shape[-1]:
            raise ValueError(
                f"{name}: expected rows of {one.phi.dim} entries as {one.name} takes, found {tuple(x.shape)}"
            )
    check_radius(q, k, map_k.phi)
    shapes = {"hidden": tuple(k.shape[:-2]), "draw": map_q.shape, "draw_k": map_k.shape}
    map_q.lead = map_k.lead = broadcast_shapes(arrays=lead, **shapes)
    return map_q, map_k


class Map:
    """One map of an attention, asked for one block after another; what it returns is checked, not scanned."""

    def __init__(self, name: str, phi: Any, *, merge: bool, queries: bool = False) -> None:
        if not callable(phi):
            words = "a draw; call .draw(dim, rng)" if hasattr(phi, "draw") else "a draw or a callable"
            raise TypeError(f"{name}: expected {words}, found {phi!r:.60}")
        self.name, self.phi = name, phi
        self.shape = tuple(getattr(phi, "shape", ()))  # leading axes of a draw
        self.drawn = hasattr(phi, "n_features") and hasattr(phi, "dim")  # else a dim may mean anything
        self.lead: tuple[int, ...] = ()  # those of the result
        self.scaled = hasattr(phi, "scaled")
        self.positive = self.scaled and hasattr(phi, "log")
        self.apply = getattr(phi, "merged", phi) if merge else phi
        if queries:  # some draws treat queries in a way of their own, as one that clips them does
            self.apply = getattr(phi, "queries", self.apply)
        self.width: dict[str, int] = {}  # D, once it is known; two maps of one attention share it
        self._checked_kind: tuple[Any, ...] = ()  # of tokens and features that were right last

    def __call__(self, x: Array) -> Array:
        """Return the features of a block of tokens."""
        return self._checked(x, self.apply(x))

    def block(self, x: Array) -> tuple[Array, Array | None]:
        """Return the features of a block of tokens and the log scales that they lack, ``None`` where there are none."""
        if not self.scaled:
            return self(x), None
        features, log_scale = self.phi.scaled(x)
        shape = tuple(self._checked(x, features).shape[:-1])
        check_floating(x=x, **{f"log scale of {self.name}": log_scale})
        if tuple(log_scale.shape) != shape:
            raise ValueError(f"{self.name}: expected a log scale {shape}, found {tuple(log_scale.shape)}")
        return features, log_scale

    def log(self, x: Array) -> Array:
        """Return the logarithms of the features of a block of tokens."""
        return self._checked(x, self.phi.log(x))

    def _checked(self, x: Array, features: Array) -> Array:
        kind = (
            type(x),
            x.dtype,
            x.shape,
            type(features),
            *(getattr(features, name, None) for name in ("dtype", "shape")),
        )
        if kind == self._checked_kind:  # the same as in the block before, device apart, which a map does not change
            return features
        check_floating(x=x, **{self.name: features})
        n, found = x.shape[-2], tuple(features.shape)
        if len(found) < 2 or found[-2] != n or broadcast_shapes(x=self.lead, phi=found[:-2]) != self.lead:
            raise ValueError(f"{self.name}: expected features (..., {n}, D) for {tuple(x.shape)}, found {found}")
        if self.width.setdefault("D", found[-1]) != found[-1]:
            others = {"phi_q": "phi_k has", "phi_k": "phi_q has"}.get(self.name, "other tokens have")
            raise ValueError(f"{self.name}: expected {self.width['D']} features as {others}, found {found[-1]}")
        self._checked_kind = kind
        return features

    def forget(self) -> None:
        """Take features of any width from now on."""
        self.width.clear()
        self._checked_kind = ()

    @np.errstate(all="ignore")
    def explain_nan(self, x: Array) -> None:
        """Raise ``ValueError`` where the map makes NaN of finite tokens; infinity is an overflow, as a NaN of a draw is."""
        if self.scaled or hasattr(self.phi, "merged"):
            return
        xp = namespace(x)
        for rows in blocks(x.shape[-2], TOKENS):
            if bool(xp.any(xp.isnan(self(take_rows(x, rows))))):
                raise ValueError(f"{self.name}: expected finite features of finite tokens, found NaN")


def explain_sums(q: Array, k: Array, v: Array, map_q: Map, map_k: Map) -> NoReturn:
    """Raise ``ValueError`` for sums that are not finite: an argument, a map that makes NaN, or an overflow."""
    check_finite(q=q, k=k, v=v)
    for one, x in ((map_q, q), (map_k, k)):
        one.explain_nan(x)
    explain_not_finite(q=q, k=k, v=v)


def weigh(features: Array, log_scale: Array | None, logweights: Array | None) -> tuple[Array, Array | None]:
    """Return the features of a block of keys and their log-weights, the scale of the features included."""
    if log_scale is None:
        return features, logweights
    xp = namespace(features)
    total = log_scale if logweights is None else log_scale + logweights
    # A sum beyond the dtype is no weight of zero: as NaN it is found in the sums.
    total = xp.where(xp.isfinite(total), total, xp.zeros_like(total) + xp.nan)
    if logweights is not None:
        total = xp.where(logweights > -xp.inf, total, xp.zeros_like(total) - xp.inf)
    return features, total


def maps_of(phi: Any) -> tuple[Map, Map]:
    """Return the maps of queries and keys."""
    pair = phi if isinstance(phi, tuple) else (phi, phi)
    if len(pair) != 2:
        raise ValueError(f"phi: expected a map or a pair (phi_q, phi_k), found {len(pair)} of them")
    # Two draws merge different numbers of constants, so only one draw may merge them.
    same = pair[0] is pair[1]
    names = ("phi_q", "phi_k") if isinstance(phi, tuple) else ("phi", "phi")
    map_q, map_k = Map(names[0], pair[0], merge=same, queries=True), Map(names[1], pair[1], merge=same)
    map_k.width = map_q.width
    return map_q, map_k


@np.errstate(over="ignore")
def check_radius(q: Array, k: Array, phi: Any) -> None:
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
