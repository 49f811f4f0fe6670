r"""P13: "The denominator of feature attention is positive." False for random Maclaurin features; P13R bounds how often.

    S^ = sum_j <phi(q), phi(k_j)>,    S = E S^ = sum_j f(t_j) > 0,    V = sum_jl C_jl, the variance of S^ at D = 1

    P13:   P[S^ <= 0] = 0                       P13R:   P[S^ <= 0] <= V / (V + D S^2)

C_jl = Cov(<phi(q), phi(k_j)>, <phi(q), phi(k_l)>) at D = 1. The weights estimate f(t_j) > 0, but a product of signs may be
negative, or 0, and where S^ = 0 the output does not exist.

Hypotheses of P13R: S > 0 and V finite. (V is infinite for inv, logi and sqrt where the second moment diverges, P05: the bound is then 1.)
For a truncated series S < 0 is possible, and the bound fails.

Source: a reading. P13 is what a division by S^ without a guard takes for granted, not a claim of the sources seen: the code released with
SchoenbAt (arXiv:2505.12252, seen) raises S^ to at least 1 (P14), and positive features (Choromanski et al. 2021, seen) keep it positive by
construction. Cantelli (1929), not seen.

Idea of proof: S^ <= 0 is a deviation of S below the mean of S^, whose variance is V / D; Cantelli's inequality. It is attained: f(t) = t, q = k =
(1, 1), D = 1 has S^ = 0 or 4, each with probability 1/2, and V = S^2 = 4.

Checked exactly, in rational arithmetic, from the exact law of S^: both, for rows in one, two and four dimensions, one of them with the
law of the released code and norms within those after its pre-scaling, one with t_j > 0 throughout. By sampling: exp in
d = 8, six unit keys, D = 4 .. 32. Data: how often it happens on real heads, prepared as SchoenbAt does and as they are.

Not checked: a sharper rate. The probability falls exponentially in D where features are bounded; Cantelli's bound like 1 / D.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st


@dataclass(frozen=True)
class Row:
    """One query and its keys, in units of 1 / 6, and a law."""

    q: tuple[int, ...]
    k: tuple[tuple[int, ...], ...]
    max_degree: int = 2
    exact_below: int = 0
    kernel: st.DotProductKernel = st.KERNELS["exp"]


ATTAINED, ALIKE, RELEASED = "f(t) = t, q = k", "positive inner product", "released law, degrees up to 2"
ROWS = {
    ATTAINED: Row((6, 6), ((6, 6),), 1, 1, st.polynomial(1)),
    "opposite keys": Row((6,), ((-6,), (-6,)), 3),
    "two keys": Row((3, 3), ((3, -6), (-6, 3))),
    ALIKE: Row((6, 3), ((3, 6),)),
    RELEASED: Row((2, -2, 2, -2), ((-2, 2, -2, 2), (2, 2, -2, -2)), exact_below=1),
}
SIZES = (1, 2, 4, 8)  # random features


@functools.cache
def _law(row: Row, n_random: int) -> st.RatioLaw:
    q, k = ([Fraction(x, 6) for x in row.q], [[Fraction(x, 6) for x in key] for key in row.k])
    options: dict[str, Any] = {"max_degree": row.max_degree, "exact_below": row.exact_below}
    return st.ratio_law(q, k, [1] * len(k), row.kernel, n_features=n_random + row.exact_below, **options)


def _not_positive(row: Row, n: int) -> Fraction:
    """P[S^ <= 0]."""
    return _law(row, n).zero + _law(row, n).negative


def _cantelli(row: Row, n: int, of_variance: Fraction = Fraction(1), power: int = 1) -> Fraction:
    """V / (V + D S^2); V times ``of_variance`` and D to the ``power`` for the mutants."""
    one = _law(row, 1).sums.items()
    total = sum((p * y for (_, y), p in one), Fraction(0))
    variance = of_variance * sum((p * (y - total) ** 2 for (_, y), p in one), Fraction(0))
    return variance / (variance + n**power * total**2)


def _positive(name: str, sizes: tuple[int, ...]) -> st.Evidence:
    """Decide P[S^ <= 0] = 0 on a row."""
    chance = {n: _not_positive(ROWS[name], n) for n in sizes}
    worst = max(sizes, key=lambda n: chance[n])
    return st.decide(
        chance[worst] == 0,
        because="the exact law of the denominator, rational arithmetic",
        measured=float(chance[worst]),
        predicted=0.0,
        comparisons=len(sizes),
        name=name,
        note=f"P[S^ = 0] = {float(_law(ROWS[name], worst).zero):.3g} at D = {worst + ROWS[name].exact_below}",
    )


def positive_in_every_row(cell: st.Cell) -> list[st.Evidence]:
    """Every row, up to eight random features."""
    del cell
    return [_positive(name, SIZES) for name in ROWS]


def _row_of_eight() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(7, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[0], x[1:]


def _sampled(cell: st.Cell, bound: np.ndarray) -> st.Evidence:
    """Compare P[S^ <= 0] with ``bound`` at D = 4, 8, 16, 32: eight groups of four features, one after the other."""
    q, k = _row_of_eight()
    law, on_device = st.RandomMaclaurin("exp", 4), (cell.asarray(q), cell.asarray(k))

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        groups = st.to_host(law.estimates(*on_device, rng=rng, size=8 * size)).sum(axis=-1).reshape(8, size)
        return np.cumsum(groups, axis=0)[[0, 1, 3, 7]].T <= 0

    return st.check_tail(exceeds, bound, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws).but(
        figure={"x": [4, 8, 16, 32], "x_label": "features D (exp, d = 8, six unit keys)"}
    )


def positive_in_eight_dimensions(cell: st.Cell) -> st.Evidence:
    """Exp in d = 8, six unit keys: the rate of S^ <= 0 against 0."""
    return _sampled(cell, np.zeros(4))


def _share(law: st.RandomMaclaurin, q: np.ndarray, k: np.ndarray, rng: np.random.Generator) -> float:
    """Share of rows with S^ <= 0 in eight draws; NaN where features overflow, as those of long vectors may."""
    draws = [law.draw(q.shape[-1], rng) for _ in range(8)]
    try:
        return float(np.mean([phi(q) @ phi(k).sum(axis=0) <= 0 for phi in draws]))
    except ValueError:
        return math.nan


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Share of rows with S^ <= 0, 256 features: prepared as SchoenbAt does, and as softmax attention takes them."""
    found = []
    for head in cell.heads:
        quarter = head.q.shape[-1] ** -0.25
        for name, (q, k), degrees in (
            ("pre-scaled", st.prepare(head.q, head.k), "released"),
            ("as they are", (head.q * quarter, head.k * quarter), "geometric"),
        ):
            share = _share(st.RandomMaclaurin("exp", 256, degrees), q, k, cell.rng)
            found.append(st.observe(name=f"rows with a denominator <= 0, {name}: {head.name}", measured=share, draws=8))
    return found


def positive_for_positive_inner_products(cell: st.Cell) -> st.Evidence:
    """A weaker claim: where all t_j > 0."""
    del cell
    return _positive(ALIKE, SIZES)


def positive_from_eight_features_on(cell: st.Cell) -> st.Evidence:
    """A weaker claim: from eight random features on, under the law of the released code."""
    del cell
    return _positive(RELEASED, SIZES[-1:])


def _bounded(name: str, **change: Any) -> st.Evidence:
    """Decide P[S^ <= 0] <= V / (V + D S^2) on a row; the figure shows both."""
    row = ROWS[name]
    chance, bound = [_not_positive(row, n) for n in SIZES], [_cantelli(row, n, **change) for n in SIZES]
    slack = [b / p for p, b in zip(chance, bound, strict=True)]
    worst = slack.index(min(slack))
    return st.decide(
        min(slack) >= 1,
        because="the exact law of the denominator, rational arithmetic",
        measured=float(chance[worst]),
        predicted=float(bound[worst]),
        comparisons=len(SIZES),
        name=name,
        note=f"bound / probability is {float(slack[worst]):.3g} where it is smallest",
        figure={
            "plot": "curves",
            "x": list(SIZES),
            "series": {"exact": [float(x) for x in chance], "Cantelli": [float(x) for x in bound]},
            "x_label": "random features D",
            "y_label": "P[denominator ≤ 0]",
            "log_x": True,
            "log_y": True,
        },
    )


def bounded_in_every_row(cell: st.Cell) -> list[st.Evidence]:
    """Cantelli's bound, every row, up to eight random features; equality in the first at D = 1."""
    del cell
    return [_bounded(name) for name in ROWS]


def bounded_in_eight_dimensions(cell: st.Cell) -> st.Evidence:
    """Exp in d = 8, six unit keys, V from `row_covariance`."""
    q, k = _row_of_eight()
    law = st.RandomMaclaurin("exp", 1)
    bound = st.bounds.Cantelli(float(law.row_covariance(q, k).sum()))
    return _sampled(cell, bound.tail(float(law.mean(q, k).sum()), [4, 8, 16, 32]))


def fails_for_a_negative_sum(cell: st.Cell) -> st.Evidence:
    """Hypothesis broken: 1 + t at t = -2 has S = -1, and the probability tends to 1 while the bound tends to 0."""
    del cell
    row = Row((6,), ((-12,),), max_degree=1)
    chance, bound = _not_positive(row, 32), _cantelli(row, 32)
    return st.decide(
        chance > bound,
        because="the exact law of the denominator, rational arithmetic",
        measured=float(chance),
        predicted=float(bound),
        note="S = -1, D = 32",
    )


def variance_halved(cell: st.Cell) -> st.Evidence:
    """V / 2 in place of V."""
    del cell
    return _bounded(ATTAINED, of_variance=Fraction(1, 2))


def features_squared(cell: st.Cell) -> st.Evidence:
    """D^2 in place of D."""
    del cell
    return _bounded(ATTAINED, power=2)


P13 = st.Proposition(
    id="P13",
    title="The denominator of feature attention is positive",
    statement=r"$\hat S = \sum_j\langle\phi(q),\phi(k_j)\rangle > 0$ with probability 1.",
    hypotheses=(),
    source="implicit in a division by the sum of estimated weights; the code of arXiv:2505.12252 (seen) guards it with a clamp (P14)",
    expected="refuted",
    checks=[positive_in_every_row, positive_in_eight_dimensions, on_activations],
    mutants=[positive_for_positive_inner_products, positive_from_eight_features_on],
    cites=("guo2025schoenbat", "katharopoulos2020transformers", "choromanski2021rethinking"),
)

P13R = st.Proposition(
    id="P13R",
    title="How often the denominator is not positive",
    statement=r"$\Pr[\hat S \le 0] \le \frac{V}{V + D S^2}$, $V = \sum_{jl} C_{jl}$ the variance of $\hat S$ at $D = 1$.",
    hypotheses=("$S = \\sum_j f(t_j) > 0$", "$V$ is finite"),
    source="Cantelli (1929), not seen; the covariances as in P05 and P09R",
    expected="consistent",
    checks=[bounded_in_every_row, bounded_in_eight_dimensions, fails_for_a_negative_sum],
    mutants=[variance_halved, features_squared],
    cites=("cantelli1929",),
)
