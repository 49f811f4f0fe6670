r"""Maclaurin features made for given queries and keys: the monomials that matter, and as little randomness as pays.

A random feature of degree n spends its width on every monomial alike. Where queries and keys lie along few directions most
of <x, y>^n is in few monomials, which can be had exactly. The fit predicts, on a sample, what each of a few maps of the
same width would err, and takes the best:

    monomials         those that contribute most, by closed form (`choose_monomials`), up to each of their degrees
    whole degrees     degree 0, <= 1, <= 2 ..., as many as fit; where only 1 does, degree 2 in the first r coordinates
                      besides, r as large as fits
    random remainder  degree <= 1 and degree 2 in r or 0.7 r coordinates, and in the width that is left random features of
                      degree >= 2 for what is missing, in optimal counts and shrunk (`Remainder`)

Queries are clipped to where the map was seen to work. Derived here; the parts are folklore or cited where they are made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from schoenbat_theory.arrays import Array, require_int, to_host
from schoenbat_theory.features.candidates import CLIPS, Candidate, Search
from schoenbat_theory.features.choice import LARGEST_DEGREE, choose_monomials
from schoenbat_theory.features.fitted import FittedMaclaurin
from schoenbat_theory.features.inputs import check_some
from schoenbat_theory.features.monomials import Monomials
from schoenbat_theory.features.prediction import Prediction, Sample, open_values, take_sample
from schoenbat_theory.features.registry import Unfitted, feature_map
from schoenbat_theory.features.remainder import Remainder
from schoenbat_theory.features.weights import normalised, open_keys
from schoenbat_theory.kernels import DotProductKernel, get_kernel
from schoenbat_theory.threads import each

__all__ = ["OptimizedMaclaurin", "sample_size"]

PART = 0.7  # of the largest subspace, where random features take the rest


@dataclass(frozen=True)
class OptimizedMaclaurin:
    """Deterministic monomials, random features where they pay, and clipped queries: to be fitted to queries and keys.

    ``kernel``      name or `DotProductKernel`
    ``n_features``  the width D that no map exceeds, >= 1

    `fit` gives the law to draw from, a `FittedMaclaurin`, after `recenter` (exp) or `balance` (any kernel).

    >>> q, k = np.random.default_rng(0).normal(size=(2, 64, 4)) / 2
    >>> law = OptimizedMaclaurin("exp", 32).fit(q, k)
    >>> law.n_features, bool(law.prediction.error < 0.1)
    (32, True)
    """

    kernel: DotProductKernel
    n_features: int

    def __init__(self, kernel: str | DotProductKernel, n_features: int) -> None:
        object.__setattr__(self, "kernel", get_kernel(kernel))
        object.__setattr__(self, "n_features", require_int("n_features", n_features, 1))

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> NoReturn:
        """Raise ``ValueError``: there is nothing to draw before `fit`."""
        del dim, rng, shape
        raise ValueError("OptimizedMaclaurin: expected a fitted law to draw from; fit(q, k) gives it")

    def fit(
        self,
        q: Array,
        k: Array,
        key_log_weights: Array | None = None,
        *,
        values: Array | None = None,
        key_mask: Array | None = None,
    ) -> FittedMaclaurin:
        """Return the law of the map with the least predicted error for these queries and keys, every head its own.

        ``q`` (..., n, d), ``k`` (..., m, d)   taken as they are. Call `recenter` (for exp) or `balance` (any kernel) first:
                             monomials are chosen along coordinates, and shifts decide how large <q, k> is. On the
                             shipped heads, pre-scaled, at width 256, errors are ten times as large without
        ``key_log_weights``  (..., m), -inf masks;  ``key_mask``  (..., m) booleans, True = the key is used
        ``values``           (..., m, e): then what errs is the output of attention, else its weights

        It samples s queries and s keys, s of `sample_size`, and looks at all denominators, so that it costs
        O((n + m) (d^2 + D)); the law says what was spent. Nothing is random. It looks at every query and every key, so attention with a fitted map is not causal.
        Raises ``TypeError`` or ``ValueError`` for wrong input, NaN, inner products beyond the radius, and a width
        at which no map serves, as 1 does not where a_0 = 0.
        """
        check_some(q, k)
        k, log_weights = open_keys(q, k, key_mask, key_log_weights)
        lead, weights = tuple(log_weights.shape[:-1]), to_host(normalised(log_weights)).astype(np.float64)
        heads = [np.broadcast_to(to_host(one).astype(np.float64), (*lead, *one.shape[-2:])) for one in (q, k)]
        if values is not None:
            heads.append(open_values("values", values, k, weights))
        made = each(lambda head: self._fit(*(one[head] for one in (weights, *heads))), np.ndindex(lead), weights)
        return _together(self.kernel, lead, made, q.shape[-1])

    @np.errstate(all="ignore")  # what is not finite is not trusted
    def _fit(
        self, weights: np.ndarray, q: np.ndarray, k: np.ndarray, values: np.ndarray | None = None
    ) -> tuple[list[Candidate], np.ndarray, int]:
        """Return the candidates of one head, the best first, E_w y_i^2, and the multiply-adds spent."""
        (n, d), m, width = q.shape, len(k), self.n_features
        spread = weights @ (k * k)
        if not weights.any():  # no key: any map will do
            return [Candidate("degree 0", Monomials.up_to(0, d), CLIPS[0], 0.0)], spread, 0
        if values is not None:  # in any unit: their squares must neither overflow nor vanish
            values = values / (np.max(np.abs(values)) or 1.0)
        sample = take_sample(self.kernel, q, k, weights, values, sample_size(n, m, d, width))
        search = Search(self.kernel, sample, q, k, weights, spread)
        given = None if values is None else sample.values
        chosen, _ = choose_monomials(self.kernel, sample.x, sample.y, sample.weights, width, values=given)
        names = [f"monomials of degree <= {n}" for n in range(1 + int(chosen.degrees.max()))]
        found = search.truncations(names, chosen)
        whole, names, r = _whole_degrees(d, width)
        plain = search.truncations(names, whole)
        found += plain
        for cut in sorted({r, int(PART * r)}) if width > d else []:
            best = min(one.error for one in found)
            candidate = search.with_remainder(cut, width, r, plain[:3][-1], best)
            found += [] if candidate is None else [candidate]
        found.sort(key=lambda one: one.error)
        if math.isinf(found[0].error):  # as where a_0 = 0 and no other degree fits
            raise ValueError(
                f"n_features: expected enough for every query to have a denominator that can be trusted, found {width}"
            )
        return found, spread, search.spent + _choice(chosen, sample, values is not None)


def sample_size(n: int, m: int, d: int, n_features: int) -> int:
    """Return how many queries, and how many keys, a fit looks at: s = max(128, ceil(2 d sqrt((n + m) / (D + 2 d)))).

    With all 512 tokens for 128 errors of the shipped heads, pre-scaled, fall by 0 to 10 per cent, and the fit costs four
    times as much. Beyond 128, s^2 (D + 2 d) = 4 (n + m) d^2.
    """
    return max(128, math.ceil(2 * d * math.sqrt((n + m) / (n_features + 2 * d))))


def _choice(chosen: Monomials, sample: Sample, with_values: bool) -> int:
    """Return about how many multiply-adds `choose_monomials` has spent, from the members that it has kept of each degree."""
    of_degree, (s, d), (t, e) = np.bincount(chosen.degrees), sample.x.shape, sample.values.shape
    grown = np.minimum(of_degree * d, chosen.n_features)
    return int(np.sum(of_degree) * (s + t) * d + np.sum(grown) * (2 * (s + t) + with_values * t * e))


def _whole_degrees(d: int, width: int) -> tuple[Monomials, list[str], int]:
    """Return as many whole degrees as fit, their names, and in how many coordinates degree 2 is among them."""
    full = next((n for n in range(LARGEST_DEGREE) if math.comb(d + n + 1, d) > width), LARGEST_DEGREE)
    names = ["degree 0", *(f"degree <= {n}" for n in range(1, full + 1))]
    if full != 1:
        return Monomials.up_to(full, d), names, d if full else 0
    r = (math.isqrt(8 * (width - 1 - d) + 1) - 1) // 2  # r (r + 1) / 2 <= width - 1 - d
    return Monomials.subspace(d, r), names + [f"degree 2 in {r} coordinates"] * (r > 0), r


def _together(
    kernel: DotProductKernel, lead: tuple[int, ...], made: list[tuple[list[Candidate], np.ndarray, int]], d: int
) -> FittedMaclaurin:
    """Return the law of heads that were fitted one by one."""

    def shaped(values: list[Any]) -> np.ndarray:
        array = np.array(values)
        return array.reshape((*lead, *array.shape[1:]))

    best = [candidates[0] for candidates, _, _ in made]
    length = max(one.counts.size for one in best)
    counts, shrinkage = (
        shaped([np.pad(getattr(one, name), (0, length - one.counts.size)) for one in best])
        for name in ("counts", "shrinkage")
    )
    names = list(dict.fromkeys(one.name for candidates, _, _ in made for one in candidates))
    errors = [{one.name: one.error for one in candidates} for candidates, _, _ in made]
    prediction = Prediction(
        shaped([one.bias for one in best]),
        shaped([one.deviation for one in best]),
        shaped([one.name for one in best]),
        {name: shaped([found.get(name, math.nan) for found in errors]) for name in names},
    )
    stacked = Monomials.stack([one.monomials for one in best])
    return FittedMaclaurin(
        kernel,
        Monomials(d, *(shaped(list(one)) for one in (stacked.parents, stacked.coordinates))),
        Remainder(kernel, shaped([one.cut for one in best]), counts, shrinkage),
        shaped([one.clip for one in best]),
        shaped([spread for _, spread, _ in made]),
        prediction,
        shaped([spent for _, _, spent in made]),
    )


@feature_map("optimized Maclaurin")
def _optimized(kernel: str, dim: int, n_features: int) -> Unfitted:
    del dim
    return Unfitted(OptimizedMaclaurin(kernel, n_features).fit)
