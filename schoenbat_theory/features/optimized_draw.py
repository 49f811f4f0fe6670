"""One drawn optimized map: monomials, the random remainder beside them, and the clipping of queries; saved and loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, broadcast_shapes, check_finite, namespace
from schoenbat_theory.features.draw import MaclaurinDraw, read_maclaurin
from schoenbat_theory.features.inputs import check_features, check_stored, check_tokens
from schoenbat_theory.features.monomials import Monomials
from schoenbat_theory.features.remainder import leading
from schoenbat_theory.files import read_npz, write_npz

__all__ = ["OPTIMIZED_FORMAT", "OptimizedDraw", "clip_rows", "read_optimized"]

OPTIMIZED_FORMAT = 2  # what an archive of a draw says of itself: one of format 1, the random part, and more beside it


@dataclass(frozen=True, eq=False)
class OptimizedDraw:
    r"""A frozen optimized map phi: (..., n, d) -> (..., n, D), same library, device and dtype.

        phi(x) = (factor_alpha x^alpha, ..., z_1(x), ...),    queries(x) = phi(x min(1, clip / size(x)))
        size(x)^2 = sum_i x_i^2 E_w y_i^2

    ``monomials``  `Monomials` (*lead, D_m);  ``factors``  (*lead, D_m) of them
    ``remainder``  `MaclaurinDraw` of the random products, (*shape, D - D_m), none where the map is not random
    ``cuts``       (*lead) int64, r: of degree 2 the products of the first r coordinates are taken off again
    ``clip``       (*lead), the largest size of a query;  ``spread``  (*lead, d), E_w y_i^2 of the keys of the fit

    Where coordinates of keys are uncorrelated, size(x) is the root mean square of the logits of x.

    >>> from schoenbat_theory import OptimizedMaclaurin
    >>> x = np.random.default_rng(0).normal(size=(6, 2))
    >>> phi = OptimizedMaclaurin("exp", 6).fit(x / 4, x / 4).draw(2)
    >>> phi(x).shape, bool(np.all(phi.queries(x / 4) == phi(x / 4)))
    ((6, 6), True)
    """

    monomials: Monomials
    factors: np.ndarray
    remainder: MaclaurinDraw
    cuts: np.ndarray
    clip: np.ndarray
    spread: np.ndarray

    @property
    def dim(self) -> int:
        """Length d of the vectors that it takes."""
        return self.monomials.dim

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the draw."""
        return self.remainder.shape

    @property
    def n_features(self) -> int:
        """Total width D."""
        return self.monomials.n_features + self.remainder.n_features

    @property
    def radius(self) -> float:
        """Radius of convergence of the kernel's series."""
        return self.remainder.radius

    @property
    def name(self) -> str:
        """What was drawn, for people."""
        return self.remainder.name

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the features of one row; that of a query takes 3 d more, to be clipped.

        One multiplication a monomial; the random part, twice and subtracted where a subspace of degree 2 is left out.
        """
        twice = bool(self.cuts.any())
        return self.monomials.multiply_adds + self.remainder.multiply_adds * (1 + twice) + self._random * twice

    def __call__(self, x: Array) -> Array:
        """Return phi(x), (..., n, D), for ``x`` (..., n, d); the draw's leading axes broadcast with those of x.

        Raises ``TypeError`` or ``ValueError`` for a wrong dtype or shape, NaN, and features that overflow.
        """
        check_tokens(x, self.dim, self.shape)
        check_finite(x=x)
        return check_features(x, self.merged(x))

    @np.errstate(all="ignore")  # an overflow is found in the result
    def merged(self, x: Array) -> Array:
        """Return the same features without a scan of input or output, as attention uses them."""
        xp = check_tokens(x, self.dim, self.shape)
        lead = broadcast_shapes(draw=self.shape, x=tuple(x.shape[:-2]))
        parts = [self.monomials.apply(x, self.factors)]
        if self._random:
            parts.append(self._products(x))
        parts = [xp.broadcast_to(part, (*lead, *part.shape[-2:])) for part in parts]
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1)

    @np.errstate(all="ignore")
    def queries(self, x: Array) -> Array:
        """Return the features of queries, (..., n, D): those of ``x`` (..., n, d) moved into the trusted range."""
        check_tokens(x, self.dim, self.shape)
        return self.merged(clip_rows(x, self.clip, self.spread))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the draw to ``path`` as .npz, without pickle and whole or not at all; see `load_draw`."""
        random = {name: getattr(self.remainder, name) for name in ("dim", "degrees", "scale", "bits", "radius", "name")}
        write_npz(
            path,
            format=np.array(OPTIMIZED_FORMAT),
            **{name: np.asarray(value) for name, value in random.items()},
            constant=np.array([]),
            linear=np.array([]),
            parents=self.monomials.parents,
            coordinates=self.monomials.coordinates,
            **{name: np.asarray(getattr(self, name)) for name in _STORED},
        )

    def __repr__(self) -> str:
        return f"OptimizedDraw(dim={self.dim}, n_features={self.n_features}, shape={self.shape}, name={self.name!r})"

    @property
    def _random(self) -> int:
        return self.remainder.n_features

    def _products(self, x: Array) -> Array:
        """Return the random features: of degree 2 less those of the leading coordinates."""
        whole = self.remainder.merged(x)
        if not self.cuts.any():
            return whole
        kept = asarray_like(leading(self.cuts, self.dim)[..., None, :], x)
        second = asarray_like((self.remainder.degrees == 2)[..., None, :], x)
        return whole - second * self.remainder.merged(kept * x)


_STORED = ("factors", "cuts", "clip", "spread")


def clip_rows(x: Array, clip: np.ndarray, spread: np.ndarray) -> Array:
    """Return rows of ``x`` (..., n, d) times min(1, clip / size), size^2 = sum_i x_i^2 spread_i; leading axes broadcast."""
    xp = namespace(x)
    size = xp.sqrt((x * x) @ asarray_like(spread[..., None], x))
    limit = asarray_like(clip[..., None, None], x)
    return x * (limit / xp.maximum(size, limit))


def read_optimized(path: str | os.PathLike[str]) -> OptimizedDraw:
    """Read a draw written by `OptimizedDraw.save`; ``ValueError`` with ``path`` for what is no such archive."""
    remainder = read_maclaurin(path)
    stored = read_npz(path, ("parents", "coordinates", *_STORED))
    parents, cuts = stored["parents"], stored["cuts"]
    lead, dim = cuts.shape, remainder.dim
    shapes = {"factors": parents.shape, "cuts": parents.shape[:-1], "clip": lead, "spread": (*lead, dim)}
    holds: dict[str, Any] = {
        name: stored[name].shape == shape
        and stored[name].dtype == (np.int64 if name == "cuts" else np.float64)
        and bool(np.all((stored[name] >= 0) & np.isfinite(stored[name].astype(np.float64))))
        for name, shape in shapes.items()
    }
    holds["clip"] = holds["clip"] and bool(np.all(stored["clip"] > 0))
    for name in ("parents", "coordinates"):
        holds[name] = stored[name].dtype == np.int64 and stored[name].shape == parents.shape and parents.ndim > 0
    check_stored(path, stored, holds)
    try:
        monomials = Monomials(dim, parents, stored["coordinates"])
        broadcast = broadcast_shapes(random=remainder.shape, monomials=lead) == remainder.shape
    except ValueError as error:
        raise ValueError(f"{path}: parents of the draw are damaged: {error}") from None
    if not broadcast:
        raise ValueError(f"{path}: monomials and random products of the draw do not belong together")
    return OptimizedDraw(monomials, remainder=remainder, **{name: stored[name] for name in _STORED})
