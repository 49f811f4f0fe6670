r"""P25: "The regularised softmax kernel is within 2 d^(-1/3) of the softmax kernel." False; P25R has what holds.

    SM(x, y) = exp(<x,y>) = E L exp(<w,z>),  w ~ N(0, I),      z = x + y,  F = |z|^2,  L = exp(-(|x|^2 + |y|^2) / 2)
    SMREG(x, y)           = E L exp(<w,z>),  w uniform on the sphere of radius sqrt(d)

    SMREG / SM = E_K prod_{i<K} d / (d + 2i),   K ~ Poisson(F/2)         (SMREG = L 0F1(; d/2; d F / 4))

    P25:   1 - 2 d^(-1/3) <= SMREG / SM             P25R:   exp(-F^2 / (4d)) <= SMREG / SM <= 1

Source: Performers, Theorem 1 (Choromanski et al. 2021, seen; its proof was not): SMREG <= SM; and if the attention
matrix A, whose entries are values of SM, has norm ||A||_inf at most C, then the least ratio is at least 1 - 2 d^(-1/3) +
o(d^(-1/3)). That is a statement about large d, and for |z| bounded it is true (P25R). P25 is not the paper's: it is the
same bound without the o-term, as one uses it who puts numbers in. The ratio as a Poisson mean and the lower bound of
P25R are derived here.

Proof that P25 is false. For x orthogonal to y, SM = 1 whatever their lengths: a bound on A bounds no length. Take |x|^2
= |y|^2 = sqrt(d), queries and keys with entries of order one after the usual d^(-1/4). Then F = 2 sqrt(d), and the
ratio tends to 1/e, not to 1. So even for large d the o-term cannot depend on C alone; with a bound on |z| it can, and
P25R gives 1 - O(1/d).

Proof of P25R. A Gaussian vector is a chi_d length times a uniform direction u, independent, so E<u,e>^2k = (2k-1)!! /
(d (d+2) ... (d+2k-2)) and the series of E exp(<w,z>) is that of the Poisson mean. Every factor is at most 1: SMREG <=
SM, for d = 1 too. From 1 + t <= e^t the product is at least exp(-K(K-1)/d), and Jensen's inequality with E K(K-1) =
(F/2)^2 ends it. Hence P25 holds where F^2 <= 8 d^(2/3), that is F^3 <= 16 sqrt(2) d.

Checked exactly: P25 at d = 64, 729, 4096, by rational enclosures of both series; P25R's moments by integrating the
polynomial density (1 - t^2)^((d-3)/2) for odd d, each step of the proof, and both inequalities together by enclosures.
By sampling: spherical features at d = 27, F = 20 average to a seventh of SM. Data: the ratio on real heads, at the
median F.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

Interval = tuple[Fraction, Fraction]


def _exp(x: Fraction) -> Interval:
    """Enclose exp(x); `decimal` rounds it correctly, to 40 digits here, and the quotient before it."""
    with localcontext() as context:
        context.prec = 40
        quotient = Decimal(x.numerator) / Decimal(x.denominator)
        value = Fraction(quotient.exp())
    slack = value * (abs(x) + 1) / 10**38
    return value - slack, value + slack


def _ratio(dim: int, squared: Fraction) -> Interval:
    """Enclose SMREG / SM at |z|^2 = ``squared``."""
    series, whole = st.enclose_series(squared / 2, lambda i: Fraction(dim, dim + 2 * i)), _exp(squared / 2)
    return series[0] / whole[1], series[1] / whole[0]


def _at_least(name: str, cases: list[tuple[int, Fraction]], bound: Callable[[int, Fraction], Interval]) -> st.Evidence:
    """Decide SMREG / SM >= bound(d, F) in every case, by enclosures; the case that comes closest is shown."""
    ratios, bounds = [_ratio(*case) for case in cases], [bound(*case) for case in cases]
    excess = [ratio[0] - limit[1] for ratio, limit in zip(ratios, bounds, strict=True)]
    worst = excess.index(min(excess))
    (dim, squared), measured, predicted = cases[worst], float(ratios[worst][0]), float(bounds[worst][1])
    return st.decide(
        min(excess) >= 0,
        because="rational enclosures of both series",
        measured=measured,
        predicted=predicted,
        comparisons=len(cases),
        name=name,
        note=f"d = {dim}, |z|² = {float(squared):g}: ratio {measured:.4f}, bound {predicted:.4f}",
    )


def _cube_root(dim: int) -> int:
    root = round(dim ** (1 / 3))
    assert root**3 == dim
    return root


def _without_remainder(dim: int, squared: Fraction, factor: int = 2) -> Interval:
    """1 - 2 d^(-1/3) for a cube d, exactly; the |z|^2 does not enter."""
    del squared
    bound = 1 - Fraction(factor, _cube_root(dim))
    return bound, bound


ENTRIES_OF_ORDER_ONE = [(d, Fraction(2 * math.isqrt(d))) for d in (64, 729, 4096)]  # squares and cubes: F = 2 sqrt(d)


def sixty_four_dimensions(cell: st.Cell) -> st.Evidence:
    """In d = 64 with |z|^2 = 16 and SM = 1 the ratio is 0.4706, the bound 1/2."""
    del cell
    return _at_least("", ENTRIES_OF_ORDER_ONE[:1], _without_remainder)


def entries_of_order_one(cell: st.Cell) -> list[st.Evidence]:
    """|z|^2 = 2 sqrt(d), SM = 1, d up to 4096: the bound tends to 1, the ratio to 1/e = 0.3679."""
    del cell
    return [_at_least(f"d = {case[0]}", [case], _without_remainder) for case in ENTRIES_OF_ORDER_ONE[1:]]


def _sampled(cell: st.Cell, bound: float) -> st.Evidence:
    """The mean of spherical features relative to SM, d = 27, |z|^2 = 20, against [bound, 2 - bound]."""
    dim, squared = 27, Fraction(20)
    mean = float(_ratio(dim, squared)[0])
    second = float(st.enclose_series(2 * squared, lambda i: Fraction(dim, dim + 2 * i))[1] / _exp(squared)[0])
    z = np.zeros(dim)
    z[:2] = float(squared / 2) ** 0.5

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        w = rng.normal(size=(size, dim))
        w *= math.sqrt(dim) / np.linalg.norm(w, axis=1, keepdims=True)
        return np.exp(w @ z - float(squared) / 2)

    return st.check_mean(
        sample, 1.0, margin=1 - bound, variance=second - mean**2, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(note=f"the ratio is {mean:.4f}", figure={"label": "mean of spherical features over SM"})


def spherical_features(cell: st.Cell) -> st.Evidence:
    """Spherical features do not average to within 2/3 of SM at d = 27."""
    return _sampled(cell, 1 / 3)


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """SMREG / SM at the median |q + k|^2 of the given heads, after the usual d^(-1/4)."""
    found = []
    for head in cell.heads:
        dim = head.q.shape[1]
        q, k = head.q * dim**-0.25, head.k * dim**-0.25
        squared = float(np.median(np.sum(q * q, axis=1)[:, None] + np.sum(k * k, axis=1) + 2 * q @ k.T))
        found.append(
            st.observe(
                name=f"SMREG / SM at the median pair: {head.name}",
                measured=float(_ratio(dim, Fraction(round(squared * 16), 16))[0]),
                predicted=math.exp(-(squared**2) / (4 * dim)),
                note=f"median |z|² {squared:.1f}; predicted is the bound of P25R; 1 − 2 d^(−1/3) = {1 - 2 * dim ** (-1 / 3):.3f}",
            )
        )
    return found


def half_the_gap(cell: st.Cell) -> st.Evidence:
    """Twin: 1 - d^(-1/3)."""
    del cell
    return _at_least("", ENTRIES_OF_ORDER_ONE[:1], lambda d, f: _without_remainder(d, f, 1))


def nine_tenths_sampled(cell: st.Cell) -> st.Evidence:
    """Twin: the ratio at d = 27 is at least 0.9, sampled."""
    return _sampled(cell, 0.9)


def _moments(formula: Callable[[int, int], Fraction]) -> st.Evidence:
    """Moments of a coordinate of a uniform direction: integrals of t^2k (1 - t^2)^((d-3)/2), d odd, against a formula."""
    cases = [(dim, k) for dim in range(3, 22, 2) for k in range(11)]

    def integral(k: int, h: int) -> Fraction:
        """The integral of t^2k (1 - t^2)^h over [0, 1], by the binomial theorem."""
        return sum((Fraction((-1) ** j * math.comb(h, j), 2 * (k + j) + 1) for j in range(h + 1)), Fraction(0))

    wrong = [(d, k) for d, k in cases if integral(k, d // 2 - 1) != formula(d, k) * integral(0, d // 2 - 1)]
    return st.decide(
        not wrong,
        because="integrals of polynomials in rational arithmetic; every d by the independence of length and direction",
        measured=float(len(wrong)),
        predicted=0.0,
        comparisons=len(cases),
        note=f"{len(wrong)} of {len(cases)} moments differ, d = 3, 5, ..., 21, degrees up to 20",
    )


def _double_factorial(n: int) -> int:
    return math.prod(range(n, 0, -2))


def moments_of_a_direction(cell: st.Cell) -> st.Evidence:
    """E<u,e>^2k = (2k-1)!! / (d (d+2) ... (d+2k-2)) for a uniform direction u and a unit vector e."""
    del cell
    return _moments(lambda d, k: Fraction(_double_factorial(2 * k - 1), math.prod(range(d, d + 2 * k, 2))))


def steps_of_the_proof(cell: st.Cell) -> st.Evidence:
    """Coefficients of both series, factors at most 1, sum of the exponents, E K(K-1) of a Poisson K: identities."""
    del cell
    wrong, cases = 0, 0
    for k in range(24):
        # d^k E<u,e>^2k / (2k)! is (1/2)^k / k! prod d/(d+2i), since (2k-1)!! / (2k)! = 1 / (2^k k!): free of d.
        wrong += Fraction(_double_factorial(2 * k - 1), math.factorial(2 * k)) != Fraction(1, 2**k * math.factorial(k))
        wrong += sum(2 * i for i in range(k)) != k * (k - 1)  # both of degree 2 in k: three values decide
        # E K(K-1) = t^2: the coefficients of sum_k k(k-1) t^k / k! are those of t^2 e^t.
        wrong += Fraction(k * (k - 1), math.factorial(k)) != (Fraction(1, math.factorial(k - 2)) if k > 1 else 0)
        wrong += not all(0 < Fraction(d, d + 2 * i) <= 1 for d in (1, 2, 64) for i in range(k))
        cases += 4
    return st.decide(
        wrong == 0,
        because="identities in rational arithmetic, 1 + t ≤ exp(t), Jensen's inequality",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
    )


DIMS = (1, 2, 8, 64, 512)
GRID = [Fraction(f) for f in (Fraction(1, 4), 1, 2, 4, 8, 12, 16, 24, 32)]


def _gaussian_bound(dim: int, squared: Fraction, divisor: int = 4) -> Interval:
    return _exp(-(squared**2) / (divisor * dim))


def lower_bound(cell: st.Cell) -> st.Evidence:
    """exp(-|z|^4 / (4d)) <= SMREG / SM at 45 pairs of d and |z|^2, and the picture for d = 64."""
    del cell
    printed = _without_remainder(64, Fraction(0))[0]
    crossing = next(f for f in range(1, 33) if _ratio(64, Fraction(f))[1] < printed)
    return _at_least("", [(d, f) for d in DIMS for f in GRID], _gaussian_bound).but(
        figure={
            "plot": "curves",
            "title": "The regularised kernel over the softmax kernel",
            "caption": r"The ratio lies above its bound and crosses the printed bound $1 - 2 d^{-1/3}$ (dashed) between "
            rf"$\|z\|^2 = {crossing - 1}$ and ${crossing}$.",
            "x": [float(f) for f in GRID],
            "series": {
                "SMREG / SM": [float(_ratio(64, f)[0]) for f in GRID],
                "exp(−|z|⁴ / 4d)": [float(_gaussian_bound(64, f)[0]) for f in GRID],
            },
            "lines": {"1 − 2 d^(−1/3)": float(printed)},
            "x_label": "|z|² = |x + y|², d = 64",
            "y_label": "ratio of the kernels",
        }
    )


def upper_bound(cell: st.Cell) -> st.Evidence:
    """SMREG <= SM at the same pairs, coefficient by coefficient in F."""
    del cell
    gaps = [1 - Fraction(d, d + 2 * i) for d in DIMS for i in range(64)]
    return st.decide(
        min(gaps) >= 0,
        because="every coefficient of SMREG is at most that of SM, since d ≤ d + 2i",
        measured=float(1 - min(gaps)),
        predicted=1.0,
        comparisons=len(gaps),
        note="equality in degrees 0 and 1 only",
    )


def printed_bound_for_short_vectors(cell: st.Cell) -> st.Evidence:
    """1 - 2 d^(-1/3) <= SMREG / SM where |z|^4 <= 8 d^(2/3), at the largest such |z|^2 in steps of 1/16."""
    del cell
    cases = [(r**3, Fraction(math.isqrt(8 * 256 * r * r), 16)) for r in (1, 2, 3, 4, 8, 16)]
    return _at_least("", cases, _without_remainder)


def half_the_exponent(cell: st.Cell) -> st.Evidence:
    """exp(-|z|^4 / (8d))."""
    del cell
    return _at_least("", [(d, f) for d in DIMS for f in GRID], lambda d, f: _gaussian_bound(d, f, 8))


def printed_bound_for_longer_vectors(cell: st.Cell) -> st.Evidence:
    """1 - 2 d^(-1/3) where |z|^4 <= 16 d^(2/3): at d = 64 that admits |z|^2 = 16."""
    del cell
    return _at_least("", ENTRIES_OF_ORDER_ONE[:1], _without_remainder)


def steps_of_one(cell: st.Cell) -> st.Evidence:
    """The product d (d+1) ... (d+k-1) in place of d (d+2) ... (d+2k-2)."""
    del cell
    return _moments(lambda d, k: Fraction(_double_factorial(2 * k - 1), math.prod(range(d, d + k))))


KERNELS = (
    r"$\mathrm{SM}(x,y) = \exp\langle x,y\rangle$; $\mathrm{SMREG}(x,y)$ is the mean of $e^{\langle w,z\rangle - (\|x\|^2+\|y\|^2)/2}$, "
    r"$z = x + y$, with $w$ uniform on the sphere of radius $\sqrt{d}$ in $\mathbb{R}^d$"
)

P25 = st.Proposition(
    id="P25",
    title="The regularised softmax kernel: Theorem 1 of Performers without its o-term",
    statement=r"$\mathrm{SMREG}(x,y) \ge (1 - 2 d^{-1/3})\,\mathrm{SM}(x,y)$ in every dimension $d$.",
    hypotheses=(
        KERNELS,
        r"read without the o-term, in a given dimension; the source states it for large $d$, where $\|A\|_\infty \le C$ for the "
        r"attention matrix $A$, whose entries are values of SM, and a bound on $A$ bounds no length ($\mathrm{SM} = 1$ below)",
    ),
    source="a use of Choromanski et al. (2021), Theorem 1 (seen; its proof was not), which has the term $o(d^{-1/3})$",
    expected="refuted",
    checks=[sixty_four_dimensions, entries_of_order_one, spherical_features, on_activations],
    mutants=[half_the_gap, nine_tenths_sampled],
    cites=("choromanski2021rethinking",),
)

P25R = st.Proposition(
    id="P25R",
    title="The regularised softmax kernel, between two bounds in every dimension",
    statement=r"$\exp\left(-\frac{\|x+y\|^4}{4d}\right) \le \frac{\mathrm{SMREG}(x,y)}{\mathrm{SM}(x,y)} \le 1$ for every $d \ge 1$; so "
    r"$1 - 2 d^{-1/3}$ is a lower bound where $\|x+y\|^6 \le 16\sqrt{2}\,d$.",
    hypotheses=(KERNELS,),
    source="the upper bound is Choromanski et al. (2021), Theorem 1 (seen), for $d \\ge 2$; the lower one is derived here",
    expected="proved",
    checks=[moments_of_a_direction, steps_of_the_proof, lower_bound, upper_bound, printed_bound_for_short_vectors],
    mutants=[half_the_exponent, printed_bound_for_longer_vectors, steps_of_one],
    cites=("choromanski2021rethinking",),
)
