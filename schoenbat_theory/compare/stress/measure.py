"""Stress one head: the errors of methods on its inputs seed by seed, what their certificates say, and the curve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.activations import Head
from schoenbat_theory.attention import costs, mean_attention, sharpness, weighted_mean_attention
from schoenbat_theory.attention.approximate import EXACT as EXACT_ATTENTION
from schoenbat_theory.attention.approximate import approximate_attention
from schoenbat_theory.attention.certificate import Certificate, row_certificate
from schoenbat_theory.attention.certify import certain_rows, choose_rows, squared_distances
from schoenbat_theory.attention.local import LocalBudget, local_attention
from schoenbat_theory.cells import CheckError
from schoenbat_theory.compare.approximation import Method
from schoenbat_theory.compare.measure import Entry, alone
from schoenbat_theory.compare.quantities import ROUNDING
from schoenbat_theory.compare.stress.inputs import HALF, drawn, heated
from schoenbat_theory.compare.stress.results import COVERED, EXACT, MISSED, REFUSED, RULED, Case, Point
from schoenbat_theory.compare.targets import Problem, problem
from schoenbat_theory.sampling import stream

__all__ = ["APPROXIMATE", "LEVEL", "MEANS", "ROWS", "CurveJob", "StressJob"]

APPROXIMATE = "approximate attention"  # the one that brings a certificate with it
MEANS = "mean of the values", "weighted mean of the values"
ROWS, LEVEL = 64, 0.95  # of certificates


class _Answer(NamedTuple):
    """What a method answers, (n, e); ``None`` in place of values that overflow or are divided by 0."""

    values: np.ndarray | None
    certificate: Certificate | None = None
    chosen: str = ""


@dataclass(frozen=True)
class StressJob:
    """One input of one head, by all methods and seeds."""

    head: Head = field(repr=False)
    input: str
    methods: Sequence[Method] = field(repr=False)
    width: int
    seeds: int
    seed: int

    @property
    def where(self) -> str:
        """What it is about, for error messages."""
        return f"{self.head.name}, {self.input}"

    def run(self, settings: Any = None) -> list[Case]:
        """Return a case per method."""
        del settings
        with alone():
            different = self.seeds if self.input == HALF else 1
            targets = [problem("raw", "exp", drawn(self.input, self.head, self.seed, i)) for i in range(different)]
            return [self._case(method, targets) for method in self.methods]

    def _case(self, method: Method, targets: Sequence[Problem]) -> Case:
        errors, certificates, ratios, chosen = list[float](), list[str](), list[float](), list[str]()
        answer = _Answer(None)
        for index in range(self.seeds):
            target = targets[index % len(targets)]
            fresh = index < len(targets)
            if fresh:
                fitted, nested = _fitted(method, target, self.width), _nested(method, target)
            if fresh or method.random:
                answer = fitted(self.seed, index)
            error = math.inf if answer.values is None else target.error(answer.values)
            errors.append(error)
            ratios.append(error / _better_mean(target))
            certificates.append(self._certified(method, target, answer, nested, error, index))
            chosen += [answer.chosen] if answer.chosen else []
        return Case(
            self.head.name, self.input, method.name, tuple(errors), tuple(ratios), tuple(certificates), tuple(chosen)
        )

    def _certified(
        self, method: Method, target: Problem, answer: _Answer, nested: np.ndarray | None, error: float, index: int
    ) -> str:
        """Return what becomes of the certificate of an answer; one that is no answer has none."""
        if answer.values is None:
            return REFUSED
        if answer.chosen == EXACT_ATTENTION:
            return EXACT
        found = answer.certificate
        if found is None:
            rng = stream(self.seed, "stress", "certificate", self.input, method.name, self.head.name, str(index))
            found = _certificate(target, answer.values, nested, rng)
        if not found.certified:
            return REFUSED
        low, high = found.interval
        return COVERED if low - ROUNDING <= error <= high + ROUNDING else MISSED


@dataclass(frozen=True)
class CurveJob:
    """One head at some temperatures, by all methods, one draw each."""

    head: Head = field(repr=False)
    betas: Sequence[float]
    methods: Sequence[Method] = field(repr=False)
    width: int
    seed: int

    @property
    def where(self) -> str:
        """What it is about, for error messages."""
        return f"{self.head.name}, curve"

    def run(self, settings: Any = None) -> list[Point]:
        """Return a point per temperature."""
        del settings
        with alone():
            return [self._point(beta, problem("raw", "exp", heated(self.head, beta))) for beta in self.betas]

    def _point(self, beta: float, target: Problem) -> Point:
        means = zip(MEANS, _means(target), strict=True)
        errors = {name: target.error(values) for name, values in means}
        for method in self.methods:
            values = _fitted(method, target, self.width)(self.seed, 0).values
            errors[method.name] = math.inf if values is None else target.error(values)
        s = sharpness(target.q, target.k)
        numbers = s.spread, s.divergence, s.dimension, s.tail, s.effective_keys, s.row_keys
        return Point(self.head.name, beta, *numbers, family=s.family, errors=errors)


def _fitted(method: Method, target: Problem, width: int) -> Callable[[int, int], _Answer]:
    """Return (seed, index) -> the answer of that draw, of a method that is fitted once. Errors are of `CheckError`, with its name."""
    entry = Entry(method, width if method.sized and method.at_widths else None)
    with _named(method, target):
        law = None if method.name == APPROXIMATE else entry.fitted(target)

    def answer(seed: int, index: int) -> _Answer:
        with _named(method, target), contextlib.suppress(ArithmeticError):  # a denominator of exactly 0, or an overflow
            if method.name == APPROXIMATE:
                rng = stream(seed, "stress", method.name, target.target.head, str(index))
                found = approximate_attention(target.q, target.k, target.v, n_features=_budget(target, width), rng=rng)
                return _Answer(found.output, found.certificate, found.method)
            values = entry.draw(law, target, seed, index).run().values
            return _Answer(values if np.isfinite(values).all() else None)
        return _Answer(None)

    return answer


def _budget(target: Problem, width: int) -> int:
    """Return the ``n_features`` of approximate attention: ``width``, or as many as leave less than exact attention costs.

    With more it would be exact, and there would be nothing to test.
    """
    (n, d), (m, e) = target.q.shape, target.v.shape
    sizes = costs.Sizes(n, m, d, e)
    return min(width, max(1, math.ceil(costs.exact(m, d, e) / costs.features(sizes, d, 1)) - 1))


@contextlib.contextmanager
def _named(method: Method, target: Problem) -> Iterator[None]:
    """Let an error say which method it is of."""
    try:
        yield
    except Exception as error:
        raise CheckError(f"{method.name} on {target.target.head}: {type(error).__name__}: {error}") from error


def _nested(method: Method, target: Problem) -> np.ndarray | None:
    """Return another approximation, that differs from local expansions where these err: the same with half of the clusters.

    Of five that were tried on the shipped heads it finds most of the few rows in which their error hides; others have none.
    """
    if method.name != RULED["local"]:
        return None
    budget = LocalBudget.for_length(target.target.n, target.target.m)
    coarse = replace(budget, clusters=max(1, budget.clusters // 2))
    return np.asarray(local_attention(target.q, target.k, target.v, budget=coarse))


def _certificate(
    target: Problem, values: np.ndarray, nested: np.ndarray | None, rng: np.random.Generator
) -> Certificate:
    """Return the certificate that `certify` would give, from exact rows that are there already."""
    assert target.exact is not None
    rows, n = min(ROWS, len(values)), len(values)
    certain = certain_rows(rows, n)
    index = choose_rows(squared_distances(values, nested), certain, rows, rng)
    errors, norms = (np.sum(x[index] ** 2, axis=-1) for x in (values - target.exact, target.exact))
    return row_certificate(errors, norms, n=n, certain=certain, level=LEVEL)


def _means(target: Problem) -> tuple[np.ndarray, np.ndarray]:
    return mean_attention(target.q, target.k, target.v), weighted_mean_attention(target.q, target.k, target.v)


def _better_mean(target: Problem) -> float:
    """Return the error of the better of the two answers that know nothing of a query."""
    return min(map(target.error, _means(target)))
