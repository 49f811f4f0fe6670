r"""The exact law of the attention ratio through random Maclaurin features, where it is small enough to be written down.

    R = sum_j <phi(q), phi(k_j)> v_j / sum_j <phi(q), phi(k_j)>

One query, few keys, few features, degrees up to a limit: all degrees and sign vectors are enumerated, and every
probability is a `Fraction`. One feature first, then the sum of independent ones.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import numbers
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from schoenbat_theory.arrays import require_int
from schoenbat_theory.degrees import GeometricDegrees
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["RatioLaw", "ratio_law"]

LARGEST = 1 << 21  # steps of one enumeration: a few seconds

Vector = tuple[Fraction, ...]
Sums = tuple[Fraction, Fraction]  # numerator and denominator


@dataclass(frozen=True)
class RatioLaw:
    """The exact law of the two sums of feature attention, and what follows for their ratio R.

    ``sums``      {(numerator, denominator): probability}
    ``target``    sum_j f(t_j) v_j / sum_j f(t_j), f the truncated series: what R estimates
    ``values``    {value of R: probability}, where the denominator is not 0
    ``zero``      P[denominator = 0];  ``negative``  P[denominator < 0]
    ``mean``      E[R | denominator != 0];  ``bias``  mean - target
    """

    sums: Mapping[Sums, Fraction] = field(repr=False)
    target: Fraction

    @functools.cached_property
    def values(self) -> dict[Fraction, Fraction]:
        """The values of R with their probabilities, which add up to 1 - ``zero``."""
        return _merged((x / y, p) for (x, y), p in self.sums.items() if y)

    @functools.cached_property
    def zero(self) -> Fraction:
        """P[denominator = 0]: R does not exist there."""
        return _sum([p for (_, y), p in self.sums.items() if y == 0])

    @functools.cached_property
    def negative(self) -> Fraction:
        """P[denominator < 0]."""
        return _sum([p for (_, y), p in self.sums.items() if y < 0])

    @functools.cached_property
    def mean(self) -> Fraction:
        """E[R | denominator != 0]; ``ValueError`` where the denominator is always 0."""
        if self.zero == 1:
            raise ValueError("mean: the denominator is 0 with probability 1, and R never exists")
        # Terms with one denominator first: what is left to add has few long denominators.
        parts = _merged((y, p * x) for (x, y), p in self.sums.items() if y)
        bits = sum(y.numerator.bit_length() for y in parts)
        _require_small("mean", bits, f"the bits of a common denominator of {len(parts)} denominators")
        return _sum([part / y for y, part in parts.items()]) / (1 - self.zero)

    @property
    def bias(self) -> Fraction:
        """E[R | denominator != 0] - target."""
        return self.mean - self.target


def ratio_law(
    q: Any,
    k: Any,
    v: Any,
    kernel: str | DotProductKernel = "exp",
    *,
    n_features: int,
    max_degree: int,
    exact_below: int = 0,
    p: Any = 2,
) -> RatioLaw:
    r"""Return the exact law of R = sum_j <phi(q), phi(k_j)> v_j / sum_j <phi(q), phi(k_j)> for one query.

    ``q`` (d,), ``k`` (m, d), ``v`` (m,)  ints, Fractions or floats, taken exactly
    ``n_features``                        D, the total width, exact features included
    ``max_degree, exact_below, p``        of `GeometricDegrees`: phi is a draw of RandomMaclaurin(kernel, D, degrees),
                                          its probabilities q_n and weights a_n / q_n in rational arithmetic

    Raises ``TypeError`` or ``ValueError`` for arguments that do not fit; ``ValueError`` where the target is x / 0, and
    for more than 2^21 steps of enumeration, with their number. Not in the sources seen.

    >>> law = ratio_law([0.5], [[1], [0]], [1, 0], n_features=1, max_degree=1)
    >>> law.mean, law.target  # blind to the query: degree 0 (2 of 3) gives 1/2, degree 1 gives 1
    (Fraction(2, 3), Fraction(3, 5))
    """
    query, keys, values = _rationals("q", q, 1), _rationals("k", k, 2), _rationals("v", v, 1)
    if keys.shape != (len(values), len(query)):
        raise ValueError(f"k: expected (m, d) = ({len(values)}, {len(query)}) as v and q have, found {keys.shape}")
    max_degree, p = require_int("max_degree", max_degree, 0), _rational("p", p)
    exact_below = GeometricDegrees(float(p), exact_below, max_degree).exact_below
    exact_width = (0, 1, 1 + len(query))[exact_below]
    n_random = require_int("n_features", n_features, exact_width + 1) - exact_width
    a = [_rational("kernel", get_kernel(kernel).coefficient(n)) for n in range(max_degree + 1)]

    def series(stop: int) -> list[Fraction]:
        return [_sum([a[n] * _dot(query, key) ** n for n in range(stop)]) for key in keys]

    def sums(weights: Sequence[Fraction]) -> Sums:
        return _dot(weights, values), _sum(weights)

    numerator, denominator = sums(series(max_degree + 1))
    if denominator == 0:
        raise ValueError(f"q, k: the truncated kernel sums to 0 over the keys, so that the target is {numerator} / 0")
    scale = _sum([p**-n for n in range(exact_below, max_degree + 1)])
    exact = series(exact_below)  # every random feature brings its share
    feature: dict[Sums, Fraction] = defaultdict(Fraction)
    for n, of_degree in enumerate(_products(query, keys, max_degree)):
        if n >= exact_below:
            q_n = p**-n / scale
            for products, chance in of_degree.items():
                weights = [(e + a[n] / q_n * x) / n_random for e, x in zip(exact, products, strict=True)]
                feature[sums(weights)] += q_n * chance
    return RatioLaw(_sum_of(dict(feature), n_random), numerator / denominator)


def _products(query: np.ndarray, keys: np.ndarray, max_degree: int) -> Iterator[dict[Vector, Fraction]]:
    """Yield for n = 0, 1, ... the law of (prod_{i <= n} <w_i, q> <w_i, k_j>)_j over all signs w_1 .. w_n."""
    count = 2 ** (len(query) - 1)
    _require_small("q", count, f"2^{len(query) - 1} sign vectors")
    one = _merged(  # w and -w give the same product
        (tuple(_dot(w, query) * _dot(w, key) for key in keys), Fraction(1, count))
        for w in (
            (Fraction(1), *rest) for rest in itertools.product((Fraction(1), Fraction(-1)), repeat=len(query) - 1)
        )
    )
    atoms = math.comb(max_degree + len(one) - 1, max_degree)
    _require_small("max_degree", atoms * len(one), f"{atoms} products of {max_degree} of {len(one)} projections")
    law = {(Fraction(1),) * len(keys): Fraction(1)}
    for _ in range(max_degree):
        yield law
        law = _merged(
            (tuple(x * y for x, y in zip(old, new, strict=True)), p_old * p_new)
            for old, p_old in law.items()
            for new, p_new in one.items()
        )
    yield law


def _sum_of(law: dict[Sums, Fraction], n: int) -> dict[Sums, Fraction]:
    """Return the law of the sum of ``n`` independent pairs.

    On a grid, pairs are exponents, a law is a polynomial with integer coefficients, and the sum is its n-th power.
    """
    if n == 1:
        return law
    numerators, denominators = zip(*law, strict=True)
    (x, x_low, x_step, x_unit), (y, y_low, y_step, y_unit) = _grid(numerators), _grid(denominators)
    weights, unit = _integers(list(law.values()))
    width, total = n * max(y) + 1, unit**n
    atoms = min(math.comb(n + len(law) - 1, n), (n * max(x) + 1) * width)
    _require_small("n_features", atoms * len(law), f"{atoms} sums of {n} out of {len(law)} features")
    found = {}
    for e, weight in _power({i * width + j: w for i, j, w in zip(x, y, weights, strict=True)}, n).items():
        i, j = divmod(e, width)
        sums = Fraction(n * x_low + x_step * i, x_unit), Fraction(n * y_low + y_step * j, y_unit)
        found[sums] = Fraction(weight, total)
    return found


def _power(polynomial: dict[int, int], n: int) -> dict[int, int]:
    """Return the n-th power of a sparse polynomial {exponent: coefficient > 0}, exactly.

    Q = P^n solves P Q' = n P' Q, which gives Q's coefficients one after the other (J. C. P. Miller's recurrence, from
    memory): with P = sum_i p_i x^{e_i}, e_0 = 0,   e p_0 Q_e = sum_{i > 0} ((n + 1) e_i - e) p_i Q_{e - e_i}.
    """
    (low, first), *rest = sorted(polynomial.items())
    steps = [(exponent - low, weight) for exponent, weight in rest]
    power = {0: first**n}
    queue = [step for step, _ in steps]
    met = set(queue)
    while queue:
        e = heapq.heappop(queue)
        total = sum(((n + 1) * step - e) * weight * power[e - step] for step, weight in steps if e - step in power)
        if total:  # else e is a sum of more than n exponents
            power[e] = total // (e * first)
            for step, _ in steps:
                if e + step not in met:
                    met.add(e + step)
                    heapq.heappush(queue, e + step)
    return {n * low + e: weight for e, weight in power.items()}


def _grid(values: Sequence[Fraction]) -> tuple[list[int], int, int, int]:
    """Return integers (i, low, step, unit) with values = (low + step i) / unit, i >= 0 without common factor."""
    found, unit = _integers(values)
    low = min(found)
    step = math.gcd(*(x - low for x in found)) or 1
    return [(x - low) // step for x in found], low, step, unit


def _integers(values: Sequence[Fraction]) -> tuple[list[int], int]:
    """Return (i, unit) with values = i / unit."""
    unit = math.lcm(*(x.denominator for x in values))
    return [int(x * unit) for x in values], unit


def _merged(pairs: Iterable[tuple[Any, Fraction]]) -> dict[Any, Fraction]:
    found: dict[Any, Fraction] = defaultdict(Fraction)
    for key, value in pairs:
        found[key] += value
    return dict(found)


def _sum(terms: Sequence[Fraction]) -> Fraction:
    """Add by halves, so that few sums are long."""
    if len(terms) < 3:
        return sum(terms, Fraction(0))
    half = len(terms) // 2
    return _sum(terms[:half]) + _sum(terms[half:])


def _dot(x: Iterable[Fraction], y: Iterable[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def _rationals(name: str, values: Any, ndim: int) -> np.ndarray:
    """Return ``values`` as an array of Fractions."""
    found = np.asarray(values, dtype=object)
    if found.ndim != ndim or found.size == 0:
        raise ValueError(f"{name}: expected {ndim} axes and at least one number, found shape {found.shape}")
    return np.vectorize(functools.partial(_rational, name), otypes=[object])(found)


def _rational(name: str, value: Any) -> Fraction:
    if isinstance(value, numbers.Rational):
        return Fraction(int(value.numerator), int(value.denominator))  # NumPy's integers overflow
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return Fraction(float(value))
    kind = ValueError if isinstance(value, numbers.Real) else TypeError
    raise kind(f"{name}: expected finite rational numbers, found {value!r:.60}")


def _require_small(name: str, steps: int, what: str) -> None:
    if steps > LARGEST:
        raise ValueError(f"{name}: expected at most {LARGEST} steps of enumeration, found {steps}, for {what}")
