r"""P26: Tilted positive features are unbiased, and one tilt has the smallest variance.

    phi_j(x) = (1-4A)^(d/4) exp(A |w_j|^2 + sqrt(1-4A) <w_j, x> - |x|^2/2) / sqrt(m),     w_j ~ N(0, I),  A < 1/4

    mean            exp(<x,y>) for every A < 1/4
    second moment   SM^2 M(rho) at m = 1,  rho = 1/(1-8A),  F = |x+y|^2;  infinite if A >= 1/8
                    M = ((rho+1) / (2 sqrt rho))^d exp(rho F)
    least at        A* = (1 - 2F/d - sqrt((1 + 2F/d)^2 + 8F/d)) / 16  <=  0

A = 0 is P23. A* is 0 at F = 0 only, and at large F it is near -F / (4d) - 1/8. For several pairs at once F is their
mean, which is a choice: the mean of the second moments has another minimiser.

Source: optimal positive random features (OPRF) of Likhosherstov et al. (2022), not seen; formulas are derived here. A
version of A* circulates in notes with 1/8 in front and without the divisions by d; it is a mutant here.

Idea of proof. Every coordinate has E exp(c w^2 + b w) = (1-2c)^(-1/2) exp(b^2 / (2 (1-2c))) for c < 1/2 and infinite
otherwise; c = 2A, b = sqrt(1-4A) z for the mean, c = 4A, b = 2 sqrt(1-4A) z for the second moment. In s = log rho, log
M = d log cosh(s/2) + F e^s is convex (in rho it is not); its derivative is zero where 2F rho^2 + (2F + d) rho - d = 0,
which has one positive root.

Checked exactly: mean and second moment as power series in A and F, from the moments (2k-1)!! alone, in one and in two
coordinates; that the partial sums of E exp(4A w^2) have no limit at A = 1/8; that A* solves the quadratic, at pairs (F,
d) where it is rational; the library's A* and second moment against these. By sampling, through the library: the mean at
A* and at A = 1/16, the second moment at A*. Data: what A* is worth on real heads at their mean F.

Not checked: that A* is worth its O(n d) pass over queries and keys in a model; gains for pairs away from the mean F.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

ORDER = 9  # coefficients of a power series in A


def _product(*factors: Sequence[Fraction]) -> list[Fraction]:
    """The product of power series, cut off."""
    result = [Fraction(1)] + [Fraction(0)] * (ORDER - 1)
    for factor in factors:
        result = [sum((result[i] * factor[n - i] for i in range(n + 1)), Fraction(0)) for n in range(ORDER)]
    return result


def _power(c: int, exponent: Fraction) -> list[Fraction]:
    """The series of (1 - c A)^exponent."""
    terms = [Fraction(1)]
    for n in range(ORDER - 1):
        terms.append(terms[-1] * (exponent - n) * -c / (n + 1))
    return terms


def _tilted_moment(c: int, k: int) -> list[Fraction]:
    """The series of E w^2k exp(c A w^2), from the moments (2k + 2n - 1)!! of w."""
    return [Fraction(c**n * math.prod(range(2 * (k + n) - 1, 0, -2)), math.factorial(n)) for n in range(ORDER)]


def _moment(power: int, k: int, prefactor: Fraction = Fraction(1, 2)) -> list[Fraction]:
    """The series in A of the coefficient of z^2k in E h^power, one coordinate, ``prefactor`` in place of 1/2 in a mutant.

    h = (1-4A)^(1/2) exp(2A w^2 + sqrt(1-4A) w z) is one estimate g without its factor exp(-(x^2 + y^2) / 2).
    """
    scale = Fraction(power ** (2 * k), math.factorial(2 * k))
    series = _product(_power(4, power * prefactor + k), _tilted_moment(2 * power, k))
    return [scale * x for x in series]


def _unbiased(prefactor: Fraction) -> st.Evidence:
    """E h = exp(z^2 / 2) whatever A: the coefficient of z^2k is 1 / (2^k k!), and no power of A is left."""
    wrong, size = 0, 10
    for k in range(size):
        found = _moment(1, k, prefactor)
        wrong += found[0] != Fraction(1, 2**k * math.factorial(k))
        wrong += sum(x != 0 for x in found[1:])
    return st.decide(
        wrong == 0,
        because="power series in A and z in rational arithmetic; coordinates are independent",
        measured=float(wrong),
        predicted=0.0,
        comparisons=size * ORDER,
        note=f"{wrong} of {size * ORDER} coefficients differ",
    )


def unbiased_as_series(cell: st.Cell) -> st.Evidence:
    """E g = SM as a power series in A, without exp(-(|x|^2 + |y|^2) / 2) on either side."""
    del cell
    return _unbiased(Fraction(1, 2))


def prefactor_dropped(cell: st.Cell) -> st.Evidence:
    """Features without (1-4A)^(d/4)."""
    del cell
    return _unbiased(Fraction(0))


def second_moment_as_series(cell: st.Cell) -> st.Evidence:
    """E g^2 in d = 2, over exp(-|x|^2 - |y|^2): (1-4A)^2 / (1-8A) exp(2F (1-4A)/(1-8A)), which is exp(F) M."""
    del cell
    wrong, cases = 0, 0
    for j in range(6):
        for k in range(6):
            found = _product(_moment(2, j), _moment(2, k))
            # rho = 1/(1-8A): (rho+1)/2 = (1-4A)/(1-8A), so P = ((rho+1) / (2 sqrt rho))^2 = (1-4A)^2 / (1-8A).
            claimed = _product(_power(4, Fraction(2 + j + k)), _power(8, Fraction(-1 - j - k)))
            scale = Fraction(2 ** (j + k), math.factorial(j) * math.factorial(k))
            wrong += sum(x != scale * y for x, y in zip(found, claimed, strict=True))
            cases += ORDER
    return st.decide(
        wrong == 0,
        because="power series in A, z1 and z2 in rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
        note=f"{wrong} of {cases} coefficients differ",
    )


def infinite_from_an_eighth_on(cell: st.Cell) -> st.Evidence:
    """At A = 1/8 partial sums of E exp(w^2 / 2) = sum_n binom(2n, n) / 4^n reach sqrt(N); library: inf, finite just below."""
    x = cell.asarray(np.array([0.3, 0.1]))
    library = [float(st.PositiveFeatures(1, tilt=a).variance(x, x)) for a in (0.125, 0.2, 0.1249)]
    term, total, wrong = Fraction(1), Fraction(0), 0
    for n in range(200):
        total += term
        # The sum grows by (2n+3) / (2n+2), the square of which exceeds (n+2) / (n+1): always above sqrt(n+1), no limit.
        wrong += total != (2 * n + 1) * term or total**2 < n + 1
        term *= Fraction(2 * n + 1, 2 * n + 2)
    return st.decide(
        wrong == 0 and library[:2] == [math.inf] * 2 and math.isfinite(library[2]),
        because="partial sums in closed form, rational arithmetic; larger A and z ≠ 0 only add",
        measured=float(total),
        predicted=math.inf,
        comparisons=200 + 3,
        note="at A = 1/8, after 200 terms",
    )


def _relative_moment(r: int, tilt: float, dim: int, squared: float) -> float:
    """E (g / SM)^r, finite for r tilt < 1/4."""
    spread = 1 - 4 * r * tilt
    log = dim / 2 * (r * math.log1p(-4 * tilt) - math.log(spread))
    return math.exp(log + (r * r * (1 - 4 * tilt) / spread - r) * squared / 2)


def _rational_pairs() -> list[tuple[Fraction, int, Fraction]]:
    """(F, d, A*) with rational A*: 4 r^2 + 12 r + 1 = (2r + t)^2 for r = F/d = (t^2 - 1) / (12 - 4t), 1 <= t < 3."""
    found = []
    for d in (1, 2, 16, 64):
        for i in range(16):
            t = 1 + Fraction(i, 8)
            r = (t * t - 1) / (12 - 4 * t)
            found.append((r * d, d, (1 - 2 * r - (2 * r + t)) / 16))
    return found


def _second_moments(cell: st.Cell, formula: Callable[[float, int, float], float]) -> st.Evidence:
    """`second_moment` of one feature, ten tilts and 32 random pairs in d = 4, against SM^2 times ``formula``."""
    worst, tilts = 0.0, (-2.0, -0.5, -0.1, -0.01, -1e-6, 0.0, 0.01, 0.05, 0.1, 0.12)
    x, y = cell.rng.normal(size=(2, 32, 4)) * 0.7
    squared, kernel = np.sum((x + y) ** 2, axis=1), np.exp(np.sum(x * y, axis=1))
    for tilt in tilts:
        found = st.to_host(st.PositiveFeatures(1, tilt=tilt).second_moment(cell.asarray(x), cell.asarray(y)))
        claimed = kernel**2 * np.array([formula(tilt, 4, float(f)) for f in squared])
        # A dozen roundings of exponents: at most F (1-4A) / (1-8A), d log terms of size 8, |x| |y|, with 1-8A rounded.
        units = 64 * (16 + 2 * np.abs(np.log(kernel)) + squared / (1 - 8 * tilt) ** 2)
        worst = max(worst, float(np.max(np.abs(found / claimed - 1) / (units * 2.0**-53))))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="random pairs; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=len(tilts) * len(x),
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def second_moments_of_the_library(cell: st.Cell) -> st.Evidence:
    """`second_moment` of the library against SM^2 M(rho)."""
    return _second_moments(cell, lambda tilt, dim, squared: _relative_moment(2, tilt, dim, squared))


def prefactor_of_one_coordinate(cell: st.Cell) -> st.Evidence:
    """(rho+1) / (2 sqrt rho) without its power d."""
    return _second_moments(cell, lambda tilt, dim, squared: _relative_moment(2, tilt, 1, squared))


def _is_least(tilts: Sequence[Fraction]) -> st.Evidence:
    """The derivative of log M in log rho, times 2 (rho+1) > 0, at given tilts: 2F rho^2 + (2F+d) rho - d."""
    pairs, wrong, worst = _rational_pairs(), 0, Fraction(0)
    for (squared, dim, _), tilt in zip(pairs, tilts, strict=True):
        rho = 1 / (1 - 8 * tilt)
        slope = 2 * squared * rho**2 + (2 * squared + dim) * rho - dim
        wrong += slope != 0 or not 0 < rho <= 1
        worst = max(worst, abs(slope) / dim)
    return st.decide(
        wrong == 0,
        because="the derivative in rational arithmetic; log M is convex in log ρ",
        measured=float(worst),
        predicted=0.0,
        comparisons=len(pairs),
        note=f"{wrong} of {len(pairs)} tilts are not where the derivative is zero",
    )


def zero_of_the_derivative(cell: st.Cell) -> st.Evidence:
    """A* at 64 pairs (F, d) where it is rational; the picture is for d = 64, F = 16."""
    del cell
    dim, squared = 64, 16.0
    best = float(st.optimal_tilt(squared, dim))
    tilts = [best, *(a / 50 for a in range(-12, 2))]
    moments = [_relative_moment(2, a, dim, squared) for a in sorted(tilts)]
    untilted = _relative_moment(2, 0.0, dim, squared)
    return _is_least([tilt for _, _, tilt in _rational_pairs()]).but(
        figure={
            "plot": "curves",
            "title": "The second moment against the tilt",
            "caption": f"It is least at $A^* = {best:.4f}$, {untilted / min(moments):.0f} times smaller there than without a tilt ($A = 0$).",
            "x": sorted(tilts),
            "series": {"E g² / SM²": moments},
            "lines": {"A = 0": untilted, f"A* = −{-best:.4f}": min(moments)},
            "x_label": "tilt A (d = 64, |z|² = 16)",
            "y_label": "second moment of one feature",
            "log_y": True,
        }
    )


def formula_that_circulates(cell: st.Cell) -> st.Evidence:
    """A = (1 - 2F - sqrt((1 + 2F)^2 + 8F)) / 8, to 53 bits: 1/8 in front, no division by d."""
    del cell
    roots = [Fraction(math.sqrt((1 + 2 * f) ** 2 + 8 * f)) for f, _, _ in _rational_pairs()]
    return _is_least([(1 - 2 * f - root) / 8 for (f, _, _), root in zip(_rational_pairs(), roots, strict=True)])


def tilt_of_the_library(cell: st.Cell) -> st.Evidence:
    """`optimal_tilt` against the rational A*, and `fit` against it at the mean of |q_i + k_j|^2."""
    worst = 0.0
    for squared, dim, tilt in _rational_pairs():
        found = Fraction(float(st.optimal_tilt(float(squared), dim)))
        # Sums of numbers of at most 2 (1 + F/d) in size, a dozen rounded operations.
        worst = max(worst, float(abs(found - tilt) / ((1 + squared / dim) * Fraction(1, 2**48))))
    q, k = np.random.default_rng(26).normal(size=(2, 16, 4))
    mean = float(np.mean(np.sum((q[:, None] + k) ** 2, axis=-1)))
    fitted = st.PositiveFeatures(4).fit(cell.asarray(q), cell.asarray(k)).tilt
    # A mean of 256 sums of four on either side: fewer than 2^9 roundings.
    worst = max(worst, abs(fitted - float(st.optimal_tilt(mean, 4))) / ((1 + mean / 4) * 2.0**-43))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="rational arithmetic; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=65,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


X, Y = np.array([0.8, -0.3, 0.5, 0.2]), np.array([0.6, 0.1, 0.4, -0.5])
SQUARED = float(np.sum((X + Y) ** 2))


def _sampled(cell: st.Cell, tilt: float, power: int, factor: float = 1.0) -> st.Evidence:
    """The mean of (g / SM)^power at m = 1 through the library, d = 4; ``factor`` spoils the features of a mutant."""
    law, kernel = st.PositiveFeatures(1, tilt=tilt), math.exp(X @ Y)
    x, y = cell.asarray(X), cell.asarray(Y)
    target = _relative_moment(power, tilt, X.size, SQUARED)
    variance = _relative_moment(2 * power, tilt, X.size, SQUARED) - target**2

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        return (factor * st.to_host(law.estimates(x, y, rng=rng, size=size)) / kernel) ** power

    return st.check_mean(
        sample,
        target,
        margin=0.02 * math.sqrt(variance),
        variance=variance,
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(
        note=f"A = {tilt:.4f}, |x+y|² = {SQUARED:.2f}",
        figure={"label": "estimate over SM" if power == 1 else "squared estimate over SM²"},
    )


def _best() -> float:
    return float(st.optimal_tilt(SQUARED, X.size))


def mean_at_the_optimal_tilt(cell: st.Cell) -> st.Evidence:
    """The mean at A*."""
    return _sampled(cell, _best(), 1)


def mean_at_a_positive_tilt(cell: st.Cell) -> st.Evidence:
    """The mean at A = 1/16."""
    return _sampled(cell, 1 / 16, 1)


def second_moment_at_the_optimal_tilt(cell: st.Cell) -> st.Evidence:
    """The second moment at A*; there all moments are finite."""
    return _sampled(cell, _best(), 2)


def prefactor_dropped_sampled(cell: st.Cell) -> st.Evidence:
    """Features without (1-4A)^(d/4), sampled."""
    return _sampled(cell, _best(), 1, (1 - 4 * _best()) ** (-X.size / 2))


def gain_of_the_tilt(cell: st.Cell) -> list[st.Evidence]:
    """M at A = 0 over M at A*, at the mean |q + k|^2 of the given heads, after the usual d^(-1/4)."""
    found = []
    for head in cell.heads:
        dim = head.q.shape[1]
        q, k = head.q * dim**-0.25, head.k * dim**-0.25
        squared = float(np.sum(q * q) / len(q) + np.sum(k * k) / len(k) + 2 * q.mean(axis=0) @ k.mean(axis=0))
        tilt = float(st.optimal_tilt(squared, dim))
        gain = _relative_moment(2, 0.0, dim, squared) / _relative_moment(2, tilt, dim, squared)
        found.append(
            st.observe(
                name=f"second moment, untilted over optimal: {head.name}",
                measured=gain,
                note=f"A* = {tilt:.3f} at the mean |z|² {squared:.1f}",
            )
        )
    return found


P26 = st.Proposition(
    id="P26",
    title="Tilted positive features: unbiased, and one tilt is best",
    statement=r"For every $A < 1/4$ the features $c\,e^{A\|w\|^2 + \sqrt{1-4A}\langle w,x\rangle - \|x\|^2/2}$, $c^4 = (1-4A)^d$, estimate "
    r"$e^{\langle x,y\rangle}$ without bias. Their second moment is finite if and only if $A < 1/8$, and least at "
    r"$A^* = \frac{1}{16}\left(1 - 2r - \sqrt{(1+2r)^2 + 8r}\right)$, $r = \|x+y\|^2/d$.",
    hypotheses=(
        r"$w$ is standard normal in $\mathbb{R}^d$",
        "$A < 1/4$",
        r"$g$: one estimate, the product of the features of $x$ and of $y$; $\mathrm{SM} = e^{\langle x,y\rangle}$, "
        r"$M = E g^2 / \mathrm{SM}^2$, $\rho = 1/(1-8A)$, $F = \|z\|^2$, $z = x + y$",
    ),
    source="Likhosherstov et al. (2022), not seen; derived here",
    expected="consistent",
    checks=[
        unbiased_as_series,
        second_moment_as_series,
        infinite_from_an_eighth_on,
        second_moments_of_the_library,
        zero_of_the_derivative,
        tilt_of_the_library,
        mean_at_the_optimal_tilt,
        mean_at_a_positive_tilt,
        second_moment_at_the_optimal_tilt,
        gain_of_the_tilt,
    ],
    mutants=[prefactor_dropped, prefactor_dropped_sampled, prefactor_of_one_coordinate, formula_that_circulates],
    cites=("likhosherstov2022chefs", "choromanski2021rethinking"),
)
