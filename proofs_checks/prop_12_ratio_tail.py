r"""P12: tails of the attention ratio, from bounded features and from second moments.

    P[|R - r| > delta or S^ <= 0] <= 3 exp(-D kbar^2 delta^2 / (2 B^2 (Dv + delta)^2))                              (bounded)
    P[|R - r| > delta or S^ <= 0] <= A / (D delta^2 (1 - h)^2 S^2) + V / (V + D h^2 S^2)   for 0 < h < 1            (second moments)

    R = sum_j k^_j v_j / S^,   S^ = sum_j k^_j,   r = sum_j k_j v_j / S,   S = sum_j k_j = n kbar > 0,   Dv = mean_j |v_j - r|

for unbiased k^_j, means of D independent features of size at most B; A and V are the variances of sum_j k^_j (v_j - r) and of S^ at D = 1.
Values in R^e: (2 e + 1) for 3, sup norm, the largest Dv of a coordinate. No union over keys and no number of keys is in either.

Hypotheses: kbar > 0; unbiased means of independent features; A and V are finite. For random Maclaurin features B is a range over the
**l1** norms of q and k_j (P06), and infinite for inv, logi and sqrt beyond their radius.

Source: Hoeffding (1963), Chebyshev and Cantelli (not seen); the bounds for the ratio are not in the sources seen. What the theorem
of SchoenbAt (arXiv:2505.12252) says of the tail was not seen.

Proof. R - r = L^ / S^ with L^ = sum_j k^_j (v_j - r), E L^ = 0 because sum_j k_j (v_j - r) = 0. For 0 < h < 1 the event is inside
{|L^| > delta (1 - h) S} or {S^ <= (1 - h) S}. A feature of L^ is at most n B Dv in size, one of S^ at most n B: Hoeffding gives the exponents
D delta^2 (1 - h)^2 kbar^2 / (2 B^2 Dv^2), twice, and D h^2 kbar^2 / (2 B^2), once; they are equal at h = delta / (Dv + delta). Chebyshev
and Cantelli give the second bound; `RatioChebyshev` takes the h that is best if V / (V + x) is replaced by V / x.

Checked exactly: both bounds against the exact law of R, in one dimension with degrees up to 2, and the bounded one on the row f(t) = t,
q = (1, 0), keys (1/4, 1) and (1/4, -1), where its exponent is the exact one up to the factor 1 / (B (1 + 2 delta))^2; both where S^ <= 0
happens; and the range B. That the library's bounds are these formulas, up to rounding.
By sampling: exp in d = 4 with six keys and two values. How loose they are is in the notes; how little the first one says at released
sizes, in P12V.

Not checked: whether the constants could be better.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)


@functools.cache
def _sharp(n: int) -> st.RatioLaw:
    """One feature of the weights is 1/4 +- 1 and 1/4 -+ 1: S^ is constant, L^ a mean of signs, B = 5/4, kbar = 1/4, Dv = 1/2."""
    keys = [[QUARTER, 1], [QUARTER, -1]]
    return st.ratio_law([1, 0], keys, [1, 0], st.polynomial(1), n_features=n + 1, max_degree=1, exact_below=1)


@functools.cache
def _line(n: int) -> st.RatioLaw:
    """The example of P09 with degrees up to 2; one feature of a weight is 7/4, 7/4 or 7/8."""
    return st.ratio_law([HALF], [[1], [0]], [1, 0], n_features=n, max_degree=2)


@functools.cache
def _both_signs(n: int) -> st.RatioLaw:
    """One feature of the weights is 1/2 +- 1/2 and +- 1/2: S^ = 1/2 + a mean of signs, L^ minus half of it, B = 1, kbar = 1/4, Dv = 1/2."""
    keys = [[HALF, HALF], [0, HALF]]
    return st.ratio_law([1, 0], keys, [1, 0], st.polynomial(1), n_features=n + 1, max_degree=1, exact_below=1)


Law = Callable[[int], st.RatioLaw]  # of D


@functools.cache
def _errors(law: Law, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return |R - r|, infinite for S^ <= 0, and the probabilities, in floats."""
    r, sums = law(n).target, law(n).sums.items()
    errors = [float(abs(x / y - r)) if y > 0 else math.inf for (x, y), _ in sums]
    return np.array(errors), np.array([float(p) for _, p in sums])


def _tail(law: Law, n: int, deviation: float) -> float:
    errors, chances = _errors(law, n)
    return float(chances[errors > deviation].sum())


def _exactly(law: Law, bound: Any, sizes: Sequence[int], deviations: Sequence[float]) -> st.Evidence:
    """Decide whether the exact tail obeys ``bound`` wherever it speaks."""
    cases = [(n, x) for n in sizes for x in deviations if float(bound.tail(x, n)) < 1]
    slack = {(n, x): float(bound.tail(x, n)) / max(_tail(law, n, x), 1e-300) for n, x in cases}
    n, x = min(slack, key=lambda case: slack[case])
    return st.decide(
        slack[n, x] >= 1,
        kind="deterministic",
        because="the exact law of the ratio",
        measured=_tail(law, n, x),
        predicted=float(bound.tail(x, n)),
        comparisons=len(cases),
        note=f"bound / tail is {slack[n, x]:.3g} where it is smallest, D = {n}, delta = {x:.3g}",
    )


def _on_the_sharp_row(half_range: float = 1.25, spread: float = 0.5) -> st.Evidence:
    bound = st.bounds.RatioHoeffding(half_range, mean_weight=0.25, spread=spread)
    return _exactly(_sharp, bound, (256, 1024, 4096), (1 / 16, 3 / 32, 1 / 8, 1 / 4, 1 / 2))


def sharp_row(cell: st.Cell) -> st.Evidence:
    """The bounded form where its exponent is closest to the exact one; the figure has delta = 1 / 8."""
    del cell
    sizes, x = [2**i for i in range(6, 13)], 1 / 8
    series = {
        "bounded features (P12)": st.bounds.RatioHoeffding(1.25, 0.25, 0.5).tail(x, sizes).tolist(),
        "Chebyshev": st.bounds.Chebyshev(4.0).tail(x, sizes).tolist(),  # S^ is constant, A / S^2 = 1 / (4 kbar^2)
        "central limit": st.bounds.CentralLimit(4.0).tail(x, sizes).tolist(),
        "exact": [_tail(_sharp, n, x) for n in sizes],
    }
    return _on_the_sharp_row().but(
        figure={
            "plot": "curves",
            "x": sizes,
            "series": series,
            "x_label": "features D",
            "y_label": f"P[|R − r| > {x}]",
            "log_x": True,
            "log_y": True,
            "shade": [1.0, None],
            "shade_label": "says nothing: bound ≥ 1",
        }
    )


def one_dimension(cell: st.Cell) -> list[st.Evidence]:
    """Both forms against the exact law with a random denominator, D = 16 .. 128."""
    del cell
    one, r, total = _line(1).sums.items(), _line(1).target, Fraction(21, 8)  # S = 1 + 1 + 1/2 + 1/8
    error, weight = sum(p * (x - r * y) ** 2 for (x, y), p in one), sum(p * (y - total) ** 2 for (_, y), p in one)
    bounds = {
        "bounded features": st.bounds.RatioHoeffding(7 / 4, mean_weight=21 / 16, spread=0.5),
        "second moments": st.bounds.RatioChebyshev(float(error), float(weight), float(total)),
    }
    return [
        _exactly(_line, bound, (16, 64, 128), (0.05, 0.1, 0.2, 0.3)).but(name=name) for name, bound in bounds.items()
    ]


def bounds_of_the_library(cell: st.Cell) -> st.Evidence:
    """`RatioHoeffding` and `RatioChebyshev` are what the statement has, the second at h = g / (1 + g), g = (V delta^2 / A)^(1/3)."""
    del cell
    cases, worst = list(itertools.product((16, 64, 256), (0.1, 0.5, 2.0, 10.0))), 0.0
    for n, x in cases:  # B = 2, kbar = 3/4, Dv = 1/2, two values; A = 1/4, V = 2, S = 3
        h = 1 / (1 + (2 * x**2 / 0.25) ** (-1 / 3))
        bounded = 5 * math.exp(-n * (0.75 * x) ** 2 / (2 * (2 * (0.5 + x)) ** 2))
        second = 0.25 / (n * x**2 * (1 - h) ** 2 * 9) + 2 / (2 + n * h**2 * 9)
        library = st.bounds.RatioHoeffding(2.0, 0.75, 0.5, n_values=2), st.bounds.RatioChebyshev(0.25, 2.0, 3.0)
        for found, wanted in zip(library, (bounded, second), strict=True):
            worst = float(np.maximum(worst, abs(float(found.tail(x, n)) / wanted - 1)))
    # Two dozen roundings, passed on by exponents below 18 or by 1 / (1 - h) < 11, on either side.
    return st.decide(
        worst <= 2.0**-43,
        kind="deterministic",
        because="both formulas in float64; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=2 * len(cases),
    )


def _where_the_sum_may_vanish(bound: Any) -> st.Evidence:
    return _exactly(_both_signs, bound, (16, 64, 256), (0.25, 1, 4, 64))


def denominator_of_both_signs(cell: st.Cell) -> list[st.Evidence]:
    """Both forms where S^ <= 0 has a probability, 0.04 at D = 16, which no deviation makes smaller."""
    del cell
    bounds = {
        "bounded features": st.bounds.RatioHoeffding(1.0, mean_weight=0.25, spread=0.5),
        "second moments": st.bounds.RatioChebyshev(0.25, 1.0, 0.5),
    }
    return [_where_the_sum_may_vanish(bound).but(name=name) for name, bound in bounds.items()]


def denominator_without_variance(cell: st.Cell) -> st.Evidence:
    """The second form with V / 10^4, as if S^ were all but constant."""
    del cell
    return _where_the_sum_may_vanish(st.bounds.RatioChebyshev(0.25, 1e-4, 0.5))


def _range(norm: int) -> st.Evidence:
    """Largest weight of one feature, exp, d = 4, q = k, all signs, degrees up to 12, against B from the l1 or the l2 norm."""
    x = np.array([4, -3, 2, 1])  # of which q and k are an eighth: all numbers below are exact
    square = Fraction(int(np.max((st.sign_vectors(4) @ x) ** 2)), 64)
    largest = max(2 ** (n + 1) * Fraction(st.KERNELS["exp"].coefficient(n)) * square**n for n in range(13))
    bound = st.bounds.sharp_range("exp", float(np.linalg.norm(x / 8, norm)))
    return st.decide(
        float(largest) <= bound,
        kind="deterministic",
        because="all signs, degrees up to 12 (the weights fall from degree 3 on)",
        measured=float(largest),
        predicted=bound,
    )


def range_of_a_weight(cell: st.Cell) -> st.Evidence:
    """B = max_n (a_n / q_n) (||q||_1 ||k||_1)^n bounds every feature of a weight."""
    del cell
    return _range(1)


def _sampled(cell: st.Cell, shrink: float = 1.0) -> list[st.Evidence]:
    """Exp in d = 4, six keys, two values, ||q||_1 ||k_j||_1 <= 1/2, D = 128, at deviations where the bounds are 0.9 .. 0.01."""
    rng, n, targets = np.random.default_rng(12), 128, np.array([0.9, 0.5, 0.1, 0.01])
    q, k, v = rng.normal(size=4), rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    q, k = q / np.abs(q).sum(), k * 0.5 / np.abs(k).sum(axis=1).max()
    one, law, on_device = st.RandomMaclaurin("exp", 1), st.RandomMaclaurin("exp", n), (cell.asarray(q), cell.asarray(k))
    f, covariance = one.mean(q, k), one.row_covariance(q, k)
    r = f @ v / f.sum()
    spread, first = float(np.abs(v - r).mean(axis=0).max()), v[:, 0] - r[0]
    bounds = {
        "bounded features": st.bounds.RatioHoeffding(
            st.bounds.sharp_range("exp", 0.5**0.5), f.mean(), spread, n_values=2
        ),
        "second moments": st.bounds.RatioChebyshev(first @ covariance @ first, covariance.sum(), f.sum()),
    }
    found = []
    for (name, bound), values in zip(bounds.items(), (2, 1), strict=True):
        deviations = bound.deviation(n, targets)

        def exceeds(generator: np.random.Generator, size: int, values: int = values, x: Any = deviations) -> np.ndarray:
            weights = st.to_host(law.estimates(*on_device, rng=generator, size=size))
            total = weights.sum(axis=-1)
            error = np.abs((weights @ v) / total[:, None] - r)[:, :values].max(axis=-1)
            return (error[:, None] > shrink * x) | (total <= 0)[:, None]

        checked = st.check_tail(
            exceeds, bound.tail(deviations, n), alpha=cell.alpha / 2, rng=cell.rng, max_draws=cell.draws
        )
        axes = {"x": deviations.tolist(), "x_label": f"deviation of R (d = 4, D = {n}, {name})"}
        found.append(checked.but(name=name, figure=axes))
    return found


def four_dimensions(cell: st.Cell) -> list[st.Evidence]:
    """Both forms for exp, l1 norms of product at most 1/2."""
    return _sampled(cell)


def range_halved(cell: st.Cell) -> st.Evidence:
    """B / 2 in place of B, on the sharp row."""
    del cell
    return _on_the_sharp_row(half_range=0.625)


def spread_dropped(cell: st.Cell) -> st.Evidence:
    """Without Dv, as a tail relative to the error itself."""
    del cell
    return _on_the_sharp_row(spread=1e-9)


def l2_range_for_l1(cell: st.Cell) -> st.Evidence:
    """The range from the l2 norms."""
    del cell
    return _range(2)


def deviations_too_small(cell: st.Cell) -> st.Evidence:
    """The second form at delta, the tail at delta / 4."""
    return _sampled(cell, shrink=0.25)[1]


P12 = st.Proposition(
    id="P12",
    title="Tails of the attention ratio",
    statement=r"$\Pr[\,|R-r|>\delta \text{ or } \hat S\le 0\,] \le 3\exp\left(-\frac{D\bar k^2\delta^2}{2B^2(D_v+\delta)^2}\right)$ if every "
    r"feature of every weight is in $[-B, B]$; and with second moments alone it is at most "
    r"$\frac{A}{D\delta^2(1-h)^2S^2} + \frac{V}{V + D h^2 S^2}$ for $0 < h < 1$.",
    hypotheses=(
        r"$\bar k > 0$; $\hat k_j$ is unbiased for $k_j$, all of them means of $D$ independent features",
        r"$B$ bounds the features: for random Maclaurin features by the $\ell_1$ norms of $q$ and $k_j$",
        r"$A, V < \infty$, the variances of one feature of $\sum_j \hat k_j(v_j-r)$ and of $\hat S$",
    ),
    source="Hoeffding (1963), Chebyshev and Cantelli, not seen; the bounds for the ratio are not in the sources seen",
    expected="consistent",
    checks=[
        sharp_row,
        one_dimension,
        denominator_of_both_signs,
        bounds_of_the_library,
        range_of_a_weight,
        four_dimensions,
    ],
    mutants=[range_halved, spread_dropped, denominator_without_variance, l2_range_for_l1, deviations_too_small],
    cites=("hoeffding1963probability", "chebyshev1867", "cantelli1929"),
)
