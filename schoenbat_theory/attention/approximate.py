r"""The best approximation of attention within a budget, found by trying, and certified on rows that did not choose it.

Per head, in this order:

    1. the mean of the values, their mean with the weights of the mean query, and, of exp, the first order
    2. 24 rows at random are computed exactly. Where the first order errs by at most 1/10 on them, `monomials` are tried
       next, else `local` expansions: each as fine as what is left of the budget allows, the other one with what then is left
    3. 16 more rows: where the one that errs least so far is most to be doubted by its own account (`local`), or differs most
       from the second best (the others). The least error on all 40 rows wins
    4. 48 more rows at random. The 40 enter the certificate with certainty, for themselves alone; those drawn stand for all others

The budget is what attention through ``n_features`` random features of degree 1 takes, D (d + e + 1) multiply-adds for each
query and each key; fits and the 88 exact rows are paid from it. Exact attention is computed where it costs no more, and
where nothing that was tried will do.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    as_generator,
    broadcast_shapes,
    check_finite,
    device_of,
    namespace,
    require_int,
    require_real,
    to_host,
)
from schoenbat_theory.attention import costs, trials
from schoenbat_theory.attention.certificate import Certificate, row_certificate
from schoenbat_theory.attention.certify import Head, as_floats, heads_of, squared_distances, take
from schoenbat_theory.attention.costs import Sizes
from schoenbat_theory.attention.inputs import check_shapes
from schoenbat_theory.attention.outcome import ApproximateAttention, Candidate, nested
from schoenbat_theory.attention.trials import Trial
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["approximate_attention"]

# Rows: at random first, then where two candidates differ, then at random for the certificate.
CHOOSING, CERTAIN, DRAWN = 24, 16, 48
LOOKED = CHOOSING + CERTAIN + DRAWN
MODERATE = 0.1  # error of the first order up to which monomials beat local expansions that cost as much, on real heads
USELESS = 0.5  # a relative error that is no approximation
EXACT = "exact attention"


def approximate_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    kernel: str | DotProductKernel = "exp",
    n_features: int = 256,
    tolerance: float | None = None,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    rng: Any = None,
) -> ApproximateAttention:
    r"""Approximate attention by whatever errs least on rows computed exactly, and say how much it errs.

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e), ``key_mask``, ``key_log_weights``   as in `kernel_attention`
    ``kernel``      name or `DotProductKernel`; local expansions and the first order are of exponentials alone
    ``n_features``  D of the budget, (1 + m/n) D (d + e + 1) multiply-adds per query
    ``tolerance``   relative error, > 0, that the upper limit of the certificate may not exceed, else attention is exact: also
                    where the certificate is refused. ``None``: exact where the estimate exceeds 1/2, refused or not
    ``rng``         draws rows; int, SeedSequence, Generator or ``None``
    returns         `ApproximateAttention`: each head has a method of its own

    What is tried, in which order and with which rows is in the docstring of the module. What is returned errs, on the rows that choose, no
    more than the better of the two means. The certificate of the winner is *approximate*: of rows that were not looked
    at it knows what 48 drawn at random say (P43, P44). Exact attention, m (d + e + 2) multiply-adds per query, is
    computed where it costs no more than the budget, where n <= 88, and where nothing else will do, by ``tolerance``;
    then ``multiply_adds`` is above the budget, as it is where the means, the first order and the 88 rows cost more than a
    small ``n_features`` allows.

    It looks at all tokens, so there is no causal form. Raises ``TypeError`` or ``ValueError`` for wrong input. Not in
    the sources seen.

    >>> q, k, v = np.random.default_rng(0).normal(size=(3, 500, 4))
    >>> found = approximate_attention(q / 2, k / 2, v, rng=0)
    >>> found.method, found.certificate.interval[1] < 0.1
    ('monomials', True)
    """
    kernel, lead = get_kernel(kernel), check_shapes(q, k, v)
    n_features = require_int("n_features", n_features, 1)
    if tolerance is not None:
        tolerance = require_real("tolerance", tolerance, "a number > 0 or None", lambda x: x > 0)
    weights, rng = key_weights(k, k.shape[-2], lead, key_mask, key_log_weights), as_generator(rng)
    if weights is not None:
        lead = broadcast_shapes(arrays=lead, weights=tuple(weights.shape[:-1]))
    k, v = hide(k, weights), hide(v, weights)
    check_finite(q=q, k=k, v=v)
    if 0 in (q.shape[-2], *lead):
        raise ValueError(f"q: expected at least one query, found {tuple(q.shape)}")
    if kernel.log_slope is not None:  # exp(c t): the slope joins the queries
        q, kernel = kernel.log_slope * q, get_kernel("exp")
    unit = _unit(v)
    found = [_of_head(head, n_features, tolerance, rng) for head, _ in heads_of(lead, q, k, v / unit, kernel, weights)]
    out = namespace(q).empty((*lead, q.shape[-2], v.shape[-1]), dtype=q.dtype, device=device_of(q))
    for index, one in zip(np.ndindex(lead), found, strict=True):
        out[(*index, ...)] = unit * one.output
    return ApproximateAttention(
        out,
        nested([one.method for one in found], lead),
        Certificate.stack([one.certificate for one in found], lead),
        nested([one.candidates for one in found], lead),
        np.reshape([one.multiply_adds for one in found], lead) if lead else found[0].multiply_adds,
    )


def _unit(v: Array) -> float:
    """Return a power of two, so that nothing is rounded, by which the squares of values neither overflow nor vanish."""
    xp = namespace(v)
    top = float(to_host(xp.max(xp.abs(v)))) if math.prod(v.shape) else 0.0
    return 2.0 ** (math.frexp(top)[1] - 1) if top > 0 else 1.0


class _Tried(NamedTuple):
    """A candidate that was computed, (n, e), ``None``: it cannot serve this head; and its doubts (n,) if it has any."""

    trial: Trial
    output: Array | None
    doubts: Array | None = None

    @classmethod
    def of(cls, trial: Trial) -> _Tried:
        try:
            return cls(trial, *trial.run())
        except (ArithmeticError, ValueError):  # the input is finite: weights that sum to 0, a radius, an overflow
            return cls(trial, None)

    def errors(self, rows: _Rows) -> np.ndarray:
        """Return squared errors of these rows."""
        if self.output is None:
            return np.full(rows.numbers.size, np.inf)
        with np.errstate(all="ignore"):  # whoever overflows does not win
            return np.asarray(np.sum((as_floats(take(self.output, rows.numbers)) - rows.exact) ** 2, axis=-1))


class _Rows(NamedTuple):
    """Rows that were computed exactly: their numbers (r,) and themselves (r, e)."""

    numbers: np.ndarray
    exact: np.ndarray

    @classmethod
    def of(cls, head: Head, numbers: np.ndarray) -> _Rows:
        return cls(numbers, head.rows(numbers))

    def and_more(self, others: _Rows) -> _Rows:
        return _Rows(*(np.concatenate(pair) for pair in zip(self, others, strict=True)))

    @property
    def norms(self) -> np.ndarray:
        """Squared norms."""
        return np.sum(self.exact**2, axis=-1)


def _of_head(head: Head, n_features: int, tolerance: float | None, rng: np.random.Generator) -> ApproximateAttention:
    """Return the approximation of one head, in the steps of the module."""
    sizes = Sizes(head.q.shape[0], head.k.shape[0], head.k.shape[1], head.v.shape[1])
    n, exact = sizes.n, costs.exact(*sizes[1:])
    budget = costs.budget(sizes, n_features)
    if exact <= budget or n <= LOOKED:
        return _exactly(head, exact, (), 0.0)
    order = rng.permutation(n)
    rows = _Rows.of(head, order[:CHOOSING])
    spent = LOOKED * exact / n
    tried = _try(head, sizes, n_features, budget - spent, rows)
    spent += sum(one.trial.multiply_adds for one in tried)
    rows, weights = _with_certain(head, tried, rows)
    errors = [_relative_error(one, rows, weights) for one in tried]
    candidates = tuple(Candidate(*one.trial[:2], error) for one, error in zip(tried, errors, strict=True))
    best = tried[int(np.argmin(errors))]
    rows = rows.and_more(_Rows.of(head, order[~np.isin(order, rows.numbers)][:DRAWN]))
    certificate = row_certificate(best.errors(rows), rows.norms, n=n, certain=CHOOSING + CERTAIN)
    if certificate.error > USELESS if tolerance is None else certificate.interval[1] > tolerance:
        return _exactly(head, exact, candidates, spent)
    return ApproximateAttention(best.output, best.trial.name, certificate, candidates, spent)


def _try(head: Head, sizes: Sizes, n_features: int, left: float, rows: _Rows) -> list[_Tried]:
    """Return the candidates of a head that cost no more than ``left``, but for the first ones, which are always tried."""
    exponential = head.kernel.log_slope is not None
    cheap = [trials.mean(head, sizes), trials.weighted_mean(head, sizes)]
    tried = [_Tried.of(one) for one in cheap + ([trials.first_order(head, sizes)] if exponential else [])]
    families = [trials.monomials]
    if exponential:
        moderate = _relative_error(tried[-1], rows) <= MODERATE
        families = [trials.monomials, trials.local] if moderate else [trials.local, trials.monomials]
    left -= sum(one.trial.multiply_adds for one in tried)
    for family in families:
        found = [_Tried.of(one) for one in family(head, sizes, n_features, left)]
        left -= sum(one.trial.multiply_adds for one in found)
        tried += found
    return tried


def _relative_error(one: _Tried, rows: _Rows, weights: np.ndarray | float = 1.0) -> float:
    """Return the relative error that weighted rows show; 0 where all of them are zero and right."""
    error, norm = np.sum(weights * one.errors(rows)), np.sum(weights * rows.norms)
    return float(np.sqrt(error / norm)) if norm > 0 else float(np.inf if error > 0 else 0.0)


def _with_certain(head: Head, tried: list[_Tried], rows: _Rows) -> tuple[_Rows, np.ndarray]:
    """Add the rows in which the best candidate is most likely off, and return what each row stands for.

    The largest doubts, or differences from the second best, are gone through until 16 rows are new: so many stand for
    themselves, and the random rows that are none of them for all others.
    """
    served = sorted((one for one in tried if one.output is not None), key=lambda one: _relative_error(one, rows))
    if served[0].doubts is not None:
        distances = as_floats(served[0].doubts)
    else:
        distances = squared_distances(served[0].output, served[1].output if len(served) > 1 else None)
    far = np.argsort(-np.where(np.isnan(distances), np.inf, distances), kind="stable")  # what overflows comes first
    new = ~np.isin(far, rows.numbers)
    certain = far[: int(np.flatnonzero(new)[CERTAIN - 1]) + 1]
    rows = rows.and_more(_Rows.of(head, certain[np.isin(certain, far[new])]))
    themselves = np.isin(rows.numbers, certain)
    others = max(int(np.count_nonzero(~themselves)), 1)
    return rows, np.where(themselves, 1.0, (len(far) - len(certain)) / others)


def _exactly(head: Head, cost: float, candidates: tuple[Candidate, ...], spent: float) -> ApproximateAttention:
    """Return exact attention, after ``candidates`` that were tried."""
    output = head.attend(head.q)
    norms = np.sum(as_floats(output) ** 2, axis=-1)
    certificate = row_certificate(np.zeros_like(norms), norms, n=norms.size, certain=norms.size)
    candidates = (*candidates, Candidate(EXACT, cost, 0.0))
    return ApproximateAttention(output, EXACT, certificate, candidates, spent + cost)
