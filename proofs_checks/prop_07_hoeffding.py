r"""P07: Hoeffding's tail for the kernel estimate. True for the l1 radius, false for the l2 radius.

    P[ |<phi(x), phi(y)> - f(<x,y>)| > eps ]  <=  2 exp(-D eps^2 / (8 C^2)),      C = p f(p R^2)

Hypotheses: R bounds the **l1** norms of x and y (P07R). Read with an l2 radius, as "the ball of radius R" invites
(P07), the inequality is false in dimension 64 already.

Source: Kar & Karnick (2012), Lemma 4 and section 4 (seen), where the ball is B_1(0, R). What the theorem of SchoenbAt
(arXiv:2505.12252) calls the radius was not seen; pre-scaling bounds the l2 norm, not the l1 norm.

Idea of proof: |<w,x>| <= ||x||_1, so one feature product lies in [-C, C]; Hoeffding. With the l2 norm the range is wrong: x =
d^(-1/2) (1, ..., 1) has ||x||_2 = 1 but <w,x> = sqrt(d) for w = (1, ..., 1), and at p = 2 the product of degree 1 is then
4 d, beyond 2 e^2 = 14.8 from d = 4 on.

Checked exactly: for x = y = d^(-1/2) (1, ..., 1), d = 64, exp, D = 1, the law of <w,x>^2 is a rational binomial law; the
probability of a deviation above eps is bounded from below by the degrees 1 to 4, all in rational arithmetic, and
exceeds the bound. For P07R, that C bounds every product of one feature. By sampling: the same as the exact leg, and D = 16; and P07R
on the l1 sphere, at five deviations. Those lie tens of standard deviations out, so the sampled leg has little power: the bound is that loose.

Not checked: that the constant 8 could be 2 (it can: the range is 2 C wide, not 4 C), which only widens the slack.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

DIM = 64
E_HIGH = Fraction(271829, 100000)  # above e


def _squared_projection() -> dict[Fraction, Fraction]:
    """The law of <w,x>^2 for x = d^(-1/2) (1, ..., 1): (2B - d)^2 / d with B binomial(d, 1/2), as value -> probability."""
    law: dict[Fraction, Fraction] = defaultdict(Fraction)
    for b in range(DIM + 1):
        law[Fraction((2 * b - DIM) ** 2, DIM)] += Fraction(math.comb(DIM, b), 2**DIM)
    return law


def _exceedance(eps: int, top_degree: int = 4) -> Fraction:
    """A rational lower bound of P[|X - e| > eps] for one geometric feature: degrees 1 .. 4 only.

    Given degree n, X = 2^{n+1} / n! times a product of n independent squared projections.
    """
    one, product = _squared_projection(), {Fraction(1): Fraction(1)}
    total = Fraction(0)
    for n in range(1, top_degree + 1):
        longer: dict[Fraction, Fraction] = defaultdict(Fraction)
        for u, p in product.items():
            for v, q in one.items():
                longer[u * v] += p * q
        product = longer
        weight = Fraction(2 ** (n + 1), math.factorial(n))
        far = sum(p for u, p in product.items() if weight * u > E_HIGH + eps)  # eps > e: only the upper side
        total += Fraction(1, 2 ** (n + 1)) * far
    return total


def _l2_range() -> float:
    return st.maclaurin_range("exp", 1.0)


def _exact(slack: int) -> st.Evidence:
    """D = 1, eps = 150: rational lower bound of the probability against 2 exp(-eps^2 / (slack C^2))."""
    probability = _exceedance(150)
    # C = 2 e^2 <= 2 E_HIGH^2, and e > 2.7: the bound is below 2 * 2.7^-floor(z).
    z = Fraction(150**2) / (slack * (2 * E_HIGH**2) ** 2)
    bound = 2 * Fraction(10, 27) ** math.floor(z)
    return st.decide(
        probability <= bound,
        because="rational lower bound of the probability, rational upper bound of the bound",
        measured=float(probability),
        predicted=float(bound),
        note=f"P >= {float(probability):.3g}, and the bound is at most {float(bound):.3g}",
    )


def exact(cell: st.Cell) -> st.Evidence:
    """The bound read with ||x||_2 = R = 1, in rational arithmetic."""
    del cell
    return _exact(slack=8)


def exponent_without_its_factor(cell: st.Cell) -> st.Evidence:
    """Twin: the same without the factor 8 in the exponent."""
    del cell
    return _exact(slack=1)


def _flat() -> np.ndarray:
    return np.full(DIM, DIM**-0.5)


def _exceeds(cell: st.Cell, x: np.ndarray, width: int, deviations: np.ndarray) -> Any:
    """Return the event |estimate - f| > deviation for the exp kernel at x = y."""
    law, on_device = st.RandomMaclaurin("exp", width), cell.asarray(x)
    mean = float(law.mean(x, x))

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        estimate = st.to_host(law.estimates(on_device, on_device, rng=rng, size=size))
        return np.abs(estimate - mean)[:, None] > deviations

    return exceeds


def sampled_one_feature(cell: st.Cell) -> st.Evidence:
    """D = 1, eps = 150 and 200, l2 radius 1."""
    deviations = np.array([150.0, 200.0])
    bound = st.hoeffding_tail(deviations, 1, 2 * _l2_range())
    return st.check_tail(
        _exceeds(cell, _flat(), 1, deviations), bound, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(figure={"x": deviations.tolist(), "x_label": "deviation ε (d = 64, D = 1, bound read with the l2 radius)"})


def sampled_sixteen_features(cell: st.Cell) -> st.Evidence:
    """D = 16, eps = 40, l2 radius 1."""
    bound = st.hoeffding_tail([40.0], 16, 2 * _l2_range())
    return st.check_tail(
        _exceeds(cell, _flat(), 16, np.array([40.0])), bound, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    )


WIDTH = 128
TARGETS = np.array([1.5, 0.9, 0.5, 0.1, 0.01])  # values of the bound; the first is vacuous


def _on_the_l1_sphere(cell: st.Cell, shrink: float = 1.0) -> st.Evidence:
    """Deviations at which the bound takes the values TARGETS, for x = y with ||x||_1 = 1."""
    x = np.array([0.4, -0.3, 0.2, 0.1])
    c = st.maclaurin_range("exp", float(np.abs(x).sum()))
    deviations = np.sqrt(8 * c**2 / WIDTH * np.log(2 / TARGETS))
    sd = float(np.sqrt(st.RandomMaclaurin("exp", WIDTH).variance(x, x)))
    silent = float(np.sqrt(8 * c**2 / WIDTH * np.log(2)))
    return st.check_tail(
        _exceeds(cell, x, WIDTH, deviations * shrink),
        st.hoeffding_tail(deviations, WIDTH, 2 * c),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(
        note=f"the bound says nothing below ε = {silent:.2g}, which is {silent / sd:.0f} standard deviations of the estimate",
        figure={"x": deviations.tolist(), "x_label": f"deviation ε (D = {WIDTH}, R = 1, l1)"},
    )


def _range_holds(bound: float) -> st.Evidence:
    """Largest |Z(x) Z(y)| of one feature over all signs and degrees <= 12, x = y with ||x||_1 = 1, d = 4, against ``bound``."""
    tenths = np.array([4, -3, 2, 1])
    largest = Fraction(int(np.max((st.sign_vectors(4) @ tenths) ** 2)), 100)  # of <w,x>^2: it is ||x||_1^2
    values = [Fraction(2 ** (n + 1)) * Fraction(st.KERNELS["exp"].coefficient(n)) * largest**n for n in range(13)]
    return st.decide(
        largest == 1 and max(values) <= bound,
        because="all signs, degrees up to 12 (the values fall from degree 2 on), rational arithmetic",
        measured=float(max(values)),
        predicted=bound,
        note=f"largest product {float(max(values)):.3g}, bound C = {bound:.3g}",
    )


def range_of_a_product(cell: st.Cell) -> st.Evidence:
    """C = p f(p R^2) bounds every product: the hypothesis of Hoeffding's inequality."""
    del cell
    return _range_holds(st.maclaurin_range("exp", 1.0))


def range_without_p(cell: st.Cell) -> st.Evidence:
    """f(R^2) in place of p f(p R^2)."""
    del cell
    return _range_holds(float(np.e))


def l1_radius(cell: st.Cell) -> st.Evidence:
    """The bound with the l1 radius, from vacuous to 1 %; its slack is in the figure."""
    return _on_the_l1_sphere(cell)


def deviations_too_small(cell: st.Cell) -> st.Evidence:
    """The bound at eps compared with the tail at eps / 100, as a lost factor in C would have it."""
    return _on_the_l1_sphere(cell, shrink=0.01)


def l2_for_l1(cell: st.Cell) -> st.Evidence:
    """The l2 norm where the l1 norm belongs."""
    return sampled_one_feature(cell)


P07 = st.Proposition(
    id="P07",
    title="Hoeffding tail of the kernel estimate, with an l2 radius",
    statement=r"If $\|x\|_2, \|y\|_2 \le R$ then $\Pr\left[\,|\langle\phi(x),\phi(y)\rangle - f(\langle x,y\rangle)| > \varepsilon\,\right] "
    r"\le 2\exp\left(-\frac{D\varepsilon^2}{8C^2}\right)$ with $C = p f(p R^2)$.",
    hypotheses=(r"the radius is read as an $\ell_2$ radius; Kar & Karnick state it for the $\ell_1$ ball",),
    source="a reading of Kar & Karnick (2012), section 4 (seen); the theorem of arXiv:2505.12252 was not seen",
    expected="refuted",
    checks=[exact, sampled_one_feature, sampled_sixteen_features],
    mutants=[exponent_without_its_factor],
)

P07R = st.Proposition(
    id="P07R",
    title="Hoeffding tail of the kernel estimate, with the l1 radius",
    statement=r"If $\|x\|_1, \|y\|_1 \le R$ then $\Pr\left[\,|\langle\phi(x),\phi(y)\rangle - f(\langle x,y\rangle)| > \varepsilon\,\right] "
    r"\le 2\exp\left(-\frac{D\varepsilon^2}{8C^2}\right)$ with $C = p f(p R^2)$.",
    hypotheses=(r"$R$ bounds the $\ell_1$ norms", "$p R^2$ is inside the radius of convergence", "$p = 2$"),
    source="Kar & Karnick (2012), Lemma 4 and section 4 (seen)",
    expected="consistent",
    checks=[range_of_a_product, l1_radius],
    mutants=[range_without_p, deviations_too_small, l2_for_l1],
)
