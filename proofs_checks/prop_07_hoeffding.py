r"""P07: Hoeffding's tail for the kernel estimate. True for the l1 radius, false for the l2 radius.

    P[ |<phi(x), phi(y)> - f(<x,y>)| > eps ]  <=  2 exp(-D eps^2 / (8 C^2)),      C = p f(p R^2)

Hypotheses: R bounds the **l1** norms of x and y (P07R). Read with an l2 radius, as "the ball of radius R" invites
(P07), the inequality is false in dimension 64 already.

Source: Kar & Karnick (2012), Lemma 4 and section 4 (seen), where the ball is B_1(0, R). What the theorem of SchoenbAt
(arXiv:2505.12252) calls the radius was not seen; pre-scaling bounds the l2 norm, not the l1 norm.

Idea of proof: |<w,x>| <= ||x||_1, so one feature product lies in [-B, B], B = max_n p a_n (p R^2)^n <= C (P06R), and Hoeffding's inequality has
the exponent D eps^2 / (2 B^2). With the l2 norm the range is wrong: x = d^(-1/2) (1, ..., 1) has ||x||_2 = 1 but <w,x> = sqrt(d)
for w = (1, ..., 1), and at p = 2 the product of degree 1 is then 4 d, beyond 2 e^2 = 14.8 from d = 4 on.

With B the bound is nearly sharp for inv at x = e_1 / sqrt 2, y = e_2 / sqrt 2: every feature is 2 or -2, the latter with probability
1/4, so the tail is binomial; there C is infinite.

Checked exactly: for x = y = d^(-1/2) (1, ..., 1), d = 64, exp, D = 1, the law of <w,x>^2 is a rational binomial law; the
probability of a deviation above eps is bounded from below by the degrees 1 to 3, all in rational arithmetic, and
exceeds the bound. For P07R, the binomial tail at D = 16, 64, 256, and that C bounds every product of one feature. By sampling: the same
as the exact leg, and D = 16; P07R on the l1 sphere, where the bound with C lies tens of standard deviations out and the check has little
power, and beside the nearly sharp case, where it has much. What the bound says at SchoenbAt's sizes is P07V.

Not checked: that the constant 8 could be 2 for C as well (it can: the range is 2 C wide, not 4 C), which only widens the slack.
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


def _exceedance(eps: int) -> Fraction:
    """A rational lower bound of P[|X - e| > eps] for one geometric feature: degrees 1 .. 3 only.

    Given degree n, X = 2^{n+1} / n! times a product of n independent squared projections.
    """
    one, product = _squared_projection(), {Fraction(1): Fraction(1)}
    total = Fraction(0)
    for n in (1, 2, 3):
        longer: dict[Fraction, Fraction] = defaultdict(Fraction)
        for u, p in product.items():
            for v, q in one.items():
                longer[u * v] += p * q
        product = longer
        weight = Fraction(2 ** (n + 1), math.factorial(n))
        far = sum(p for u, p in product.items() if weight * u > E_HIGH + eps)  # eps > e: only the upper side
        total += Fraction(1, 2 ** (n + 1)) * far
    return total


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


def _exceeds(cell: st.Cell, law: st.RandomMaclaurin, x: np.ndarray, y: np.ndarray, deviations: np.ndarray) -> Any:
    """Return the events |estimate - f| > deviation at one pair."""
    on_device, mean = (cell.asarray(x), cell.asarray(y)), float(law.mean(x, y))

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        estimate = st.to_host(law.estimates(*on_device, rng=rng, size=size))
        return np.abs(estimate - mean)[:, None] > deviations

    return exceeds


def _tail(
    cell: st.Cell,
    law: st.RandomMaclaurin,
    x: np.ndarray,
    y: np.ndarray,
    deviations: np.ndarray,
    bound: np.ndarray,
    label: str,
) -> st.Evidence:
    """The tails of the estimate at ``deviations`` against ``bound``, by sampling."""
    exceeds = _exceeds(cell, law, x, y, deviations)
    found = st.check_tail(exceeds, bound, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws)
    return found.but(figure={"x": deviations.tolist(), "x_label": f"deviation ε ({label}, D = {law.n_features})"})


def _with_l2_radius(cell: st.Cell, width: int, deviations: list[float]) -> st.Evidence:
    """The bound read with the l2 radius 1, at the flat unit vector."""
    flat, law = np.full(DIM, DIM**-0.5), st.RandomMaclaurin("exp", width)
    bound = st.bounds.KarKarnick("exp", 1.0).tail(deviations, width)
    return _tail(cell, law, flat, flat, np.array(deviations), bound, f"d = {DIM}, l2 radius 1")


def sampled_one_feature(cell: st.Cell) -> st.Evidence:
    """D = 1, eps = 150 and 200, l2 radius 1."""
    return _with_l2_radius(cell, 1, [150.0, 200.0])


def sampled_sixteen_features(cell: st.Cell) -> st.Evidence:
    """D = 16, eps = 40, l2 radius 1."""
    return _with_l2_radius(cell, 16, [40.0])


def _on_the_l1_sphere(cell: st.Cell, shrink: float = 1.0) -> st.Evidence:
    """Deviations at which the bound takes four values, for x = y with ||x||_1 = 1."""
    x, law, bound = np.array([0.4, -0.3, 0.2, 0.1]), st.RandomMaclaurin("exp", 128), st.bounds.KarKarnick("exp", 1.0)
    values = np.array([0.9, 0.5, 0.1, 0.01])
    silent, sd = float(bound.deviation(128, math.nextafter(1.0, 0.0))), float(np.sqrt(law.variance(x, x)))
    return _tail(cell, law, x, x, bound.deviation(128, values) * shrink, values, "l1 radius 1").but(
        note=f"says nothing below ε = {silent:.2g}, which is {silent / sd:.0f} standard deviations of the estimate"
    )


def l1_radius(cell: st.Cell) -> st.Evidence:
    """The bound with the l1 radius, from nearly vacuous to 1 %; its slack is in the figure."""
    return _on_the_l1_sphere(cell)


def deviations_too_small(cell: st.Cell) -> st.Evidence:
    """The bound at eps compared with the tail at eps / 100, as a lost factor in C would have it."""
    return _on_the_l1_sphere(cell, shrink=0.01)


def l2_for_l1(cell: st.Cell) -> st.Evidence:
    """The l2 norm where the l1 norm belongs."""
    return sampled_one_feature(cell)


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
    return _range_holds(math.e)


def bound_of_the_library(cell: st.Cell) -> st.Evidence:
    """`maclaurin_range` is C, and `KarKarnick` the bound with it: f(t) = 1 + t, R = 1/2, C = 3, where exponents are 1 and 4 at D = 8."""
    del cell
    kernel, wanted = st.polynomial(1, 1.0), 2 * np.exp([-1.0, -4.0])
    found, c = st.bounds.KarKarnick(kernel, 0.5).tail([3.0, 6.0], 8), st.maclaurin_range(kernel, 0.5)
    return st.decide(
        c == 3 and bool((np.abs(found - wanted) <= 8 * 2.0**-53 * wanted).all()),
        kind="deterministic",
        because="C is exact in float64, an exponential correct to 4 u",
        measured=c,
        predicted=3.0,
        comparisons=3,
    )


def _binomial_tail(factor: int) -> st.Evidence:
    """P[(D - 4 K)^2 > 8 j D] <= 2 exp(-factor j) for K binomial(D, 1/4), j = 1 .. 8, in integers.

    Features are 2 and, with probability 1/4, -2: D (mean - 1) = D - 4 K. With B = 2 and eps^2 = 8 j / D the exponent is j.
    """
    slack = []
    for width in (16, 64, 256):
        for j in range(1, 9):
            far = sum(
                math.comb(width, k) * 3 ** (width - k) for k in range(width + 1) if (width - 4 * k) ** 2 > 8 * j * width
            )
            slack.append(2 / E_HIGH ** (factor * j) / Fraction(far, 4**width) if far else Fraction(math.inf))
    return st.decide(
        min(slack) >= 1,
        because="binomial law in integers, e < 2.71829",
        measured=float(min(slack)),
        predicted=1.0,
        comparisons=len(slack),
        note=f"smallest bound / tail: {float(min(slack)):.3g}",
    )


def nearly_sharp(cell: st.Cell) -> st.Evidence:
    """The bound with B = 2 for inv at R^2 = 1/2, D = 16, 64, 256: an exact binomial tail."""
    del cell
    return _binomial_tail(1)


def half_the_squared_range(cell: st.Cell) -> st.Evidence:
    """The exponent D eps^2 / B^2: a lost factor 2."""
    del cell
    return _binomial_tail(2)


def _beside_the_sharp_case(cell: st.Cell, fraction: float = 1.0) -> st.Evidence:
    """The kernel inv at x = 0.7 e_1, y = 0.7 e_2, D = 64, bound from ``fraction`` of the sharp range at four deviations."""
    x, law = np.array([0.7, 0.0]), st.RandomMaclaurin("inv", 64)
    sharp = st.bounds.sharp_range("inv", 0.7)
    deviations = st.bounds.Hoeffding(sharp).deviation(64, [0.9, 0.5, 0.1, 0.01])
    bound = st.bounds.Hoeffding(fraction * sharp).tail(deviations, 64)
    return _tail(cell, law, x, x[::-1].copy(), deviations, bound, "inv, sharp range 2")


def sharp_range_sampled(cell: st.Cell) -> st.Evidence:
    """The bound with B = 2 for inv at R = 0.7, where C = 100: a bound within a few times the tail."""
    return _beside_the_sharp_case(cell)


def range_for_half_range(cell: st.Cell) -> st.Evidence:
    """B / 2 in place of B, as if the range were B wide."""
    return _beside_the_sharp_case(cell, 0.5)


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
    cites=("kar2012random", "guo2025schoenbat", "hoeffding1963probability"),
)

P07R = st.Proposition(
    id="P07R",
    title="Hoeffding tail of the kernel estimate, with the l1 radius",
    statement=r"If $\|x\|_1, \|y\|_1 \le R$ then $\Pr\left[\,|\langle\phi(x),\phi(y)\rangle - f(\langle x,y\rangle)| > \varepsilon\,\right] "
    r"\le 2\exp\left(-\frac{D\varepsilon^2}{8C^2}\right)$ with $C = p f(p R^2)$, and $\le 2\exp\left(-\frac{D\varepsilon^2}{2B^2}\right)$ "
    r"with $B = \max_n p\,a_n (p R^2)^n$.",
    hypotheses=(r"$R$ bounds the $\ell_1$ norms", "$p R^2$ is inside the radius of convergence", "$p = 2$"),
    source="Kar & Karnick (2012), Lemma 4 and section 4 (seen); the range B is not in the sources seen",
    expected="consistent",
    checks=[range_of_a_product, bound_of_the_library, l1_radius, nearly_sharp, sharp_range_sampled],
    mutants=[range_without_p, deviations_too_small, l2_for_l1, half_the_squared_range, range_for_half_range],
    cites=("kar2012random", "hoeffding1963probability"),
)
