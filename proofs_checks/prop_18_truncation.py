r"""P18: "Features of degree at most 20, the released law, are unbiased on the unit ball."

    E <phi(x), phi(y)>  =  f_20(t)  =  sum_{n <= 20} a_n t^n,      f(t) - f_20(t) = sum_{n > 20} a_n t^n > 0  for t > 0

so the estimate is too small for every one of the five kernels: at t = 9/10 by 10.9 % for inv (whose tail is t^21
f(t), exactly), 1.2 % for logi, 0.13 % for sqrt and 10^-21 for exp. Where |t| <= d^(-1/2), as after pre-scaling and
the factor d^(-1/4), it does not matter. P18R:

    |f(t) - f_20(t)|  <=  a_21 |t|^21 / (1 - |t|),      and below 2^-52 f(t) for |t| <= d^(-1/2), d >= 32

Hypotheses of P18R: |t| < 1; d >= 32 and pre-scaled tokens for "does not matter".

Source: P18 is a reading. The abstract of SchoenbAt (arXiv:2505.12252, seen) announces an unbiasedness theorem, whose text was
not seen; measures.py and rmfa.py of its code, read, have degrees 1 to 20, and the constant exactly.
Truncation as such is in Kar & Karnick (2012), supplement, section 9 (seen), with its error. The constants are derived here.

Idea of proof: all five kernels have a_(n+1) <= a_n for n >= 1 (P01: the ratios are 1/(n+1), 1, n/(n+1) and
(2n-1)/(2n+2)), hence a_(21+k) |t|^(21+k) <= a_21 |t|^21 |t|^k, a geometric series. Relative to f the bias of inv is
t^21, at most 32^(-21/2) = 2^(-52.5); the others have a_21 <= 1/21, and f >= 0.83 there. It grows with |t|: for t > 0
(f - f_20) / f_20 does, for t < 0 the tail is an alternating sum that grows and f falls.

Checked exactly, in rational arithmetic: both sides at rational t, f - f_20 enclosed by a long partial sum and the
geometric series of the rest; x = y = (3/10, 9/10) has t = 9/10 inside the unit ball. `kernel.tail`, which adds
float64, against the same enclosures, and the library's mean against f_20. By sampling, at t = 0.999 in one dimension, where variances are finite and the
bias is large: the released law has the mean f_20, not f.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

TOP = 20
X = (Fraction(3, 10), Fraction(9, 10))  # ||X||^2 = 9/10
POINTS = tuple(sign * t for t in (Fraction(9, 10), Fraction(1, 2), Fraction(3, 17)) for sign in (1, -1))
PRESCALED = (Fraction(99, 560), Fraction(-99, 560))  # 32 * 99^2 > 560^2: just above 32^(-1/2)
Interval = tuple[Fraction, Fraction]


def _coefficient(name: str, n: int) -> Fraction:
    return Fraction(st.KERNELS[name].coefficient(n))


def _partial_sum(name: str, t: Fraction, first: int, last: int) -> Fraction:
    """sum_{first <= n <= last} a_n t^n, by Horner's rule."""
    total = Fraction(0)
    for n in range(last, first - 1, -1):
        total = total * t + _coefficient(name, n)
    return total * t**first


def _majorant(name: str, t: Fraction, first: int) -> Fraction:
    """a_first |t|^first / (1 - |t|)."""
    return _coefficient(name, first) * abs(t) ** first / (1 - abs(t))


def _remainder(name: str, t: Fraction) -> Interval:
    """An enclosure of f(t) - f_20(t), narrower than 2^-60 of its first term over 1 - |t|."""
    last = TOP + math.ceil(60 * math.log(2) / -math.log(abs(t)))
    found, left = _partial_sum(name, t, TOP + 1, last), _majorant(name, t, last + 1)
    return found - left, found + left


def _relative_bias(name: str, t: Fraction) -> Interval:
    """An enclosure of (f - f_20) / f, with f > 0."""
    kept, (low, high) = _partial_sum(name, t, 0, TOP), _remainder(name, t)
    return low / (kept + low), high / (kept + high)  # x / (kept + x) grows with x for kept > 0


def _unbiased_at(t: Fraction) -> st.Evidence:
    """Is the bias 0 for every kernel? It is not where its enclosure leaves 0 out."""
    bias = {name: _relative_bias(name, t) for name in st.KERNELS}
    biased = [name for name, (low, high) in bias.items() if low > 0 or high < 0]
    return st.decide(
        not biased,
        because="rational enclosures of f - f_20",
        measured=float(max(low for low, _ in bias.values())),
        predicted=0.0,
        comparisons=len(bias),
        note="relative bias: " + ", ".join(f"{name} {float(low):.2g}" for name, (low, _) in bias.items()),
    )


def bias_inside_the_ball(cell: st.Cell) -> st.Evidence:
    """At x = y = (3/10, 9/10), where t = 9/10; the figure shows other t."""
    del cell
    shown = [Fraction(n, 40) for n in range(2, 39, 2)]
    return _unbiased_at(sum((x * x for x in X), Fraction(0))).but(
        figure={
            "plot": "curves",
            "title": "bias of degrees cut off at 20",
            "x": [float(t) for t in shown],
            "series": {
                name: [float(_relative_bias(name, t)[1]) for t in shown] for name in ("inv", "logi", "sqrt", "exp")
            },
            "x_label": "inner product t",
            "y_label": "relative bias 1 − f₂₀/f",
            "log_y": True,
            "shade": [None, 2.0**-53],
            "shade_label": "below one rounding of float64",
        }
    )


def bias_at_a_half(cell: st.Cell) -> st.Evidence:
    """Twin: the claim for t = 1/2 only, where the bias is below 10^-6 and still no 0."""
    del cell
    return _unbiased_at(Fraction(1, 2))


def _sampled(cell: st.Cell, share_of_bias: float) -> st.Evidence:
    """Mean of the released law at t = 0.999, d = 1, against f_20 plus a share of the bias; the margin is a third of the bias."""
    names, x = ("logi", "sqrt"), np.array([0.999**0.5])
    laws = [st.RandomMaclaurin(name, 2, "released") for name in names]
    t = Fraction(float(x @ x))
    kept = np.array([float(_partial_sum(name, t, 0, TOP)) for name in names])
    bias = np.array([st.KERNELS[name](float(t)) for name in names]) - kept
    on_device = cell.asarray(x)

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        return np.stack([st.to_host(law.estimates(on_device, on_device, rng=rng, size=size)) for law in laws], axis=-1)

    return st.check_mean(
        sample,
        kept + share_of_bias * bias,
        margin=bias / 3,
        variance=np.array([float(law.variance(x, x)) for law in laws]),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "estimate of f(0.999), degrees <= 20"}, note="logi and sqrt; margin a third of the bias")


def sampled(cell: st.Cell) -> st.Evidence:
    """The mean of the released law against f."""
    return _sampled(cell, 1.0)


def _within(cell: st.Cell, majorant: Callable[[str, Fraction], Fraction]) -> st.Evidence:
    """|f - f_20| against ``majorant``, at six t, for five kernels."""
    del cell
    falling = all(_coefficient(name, n + 1) <= _coefficient(name, n) for name in st.KERNELS for n in range(1, 256))
    shares = []
    for name in st.KERNELS:
        for t in POINTS:
            largest = max(map(abs, _remainder(name, t)))
            shares.append(largest / majorant(name, t))
    return st.decide(
        falling and max(shares) <= 1,  # inv attains it for t > 0
        because="rational enclosures; a_(n+1) <= a_n from the recurrences of P01",
        measured=float(max(shares)),
        predicted=1.0,
        comparisons=len(shares),
        note=f"largest error over its bound: {float(max(shares)):.6g}",
    )


def geometric_majorant(cell: st.Cell) -> st.Evidence:
    """The bound a_21 |t|^21 / (1 - |t|), which inv attains for t > 0."""
    return _within(cell, lambda name, t: _majorant(name, t, TOP + 1))


def majorant_one_term_late(cell: st.Cell) -> st.Evidence:
    """The bound a_22 |t|^22 / (1 - |t|)."""
    return _within(cell, lambda name, t: _majorant(name, t, TOP + 2))


def _library_tail(cell: st.Cell, n_max: int) -> st.Evidence:
    """`kernel.tail(t, n_max)` against the enclosures of f - f_20."""
    worst = 0.0
    for name, kernel in st.KERNELS.items():
        for t in POINTS:
            found = float(st.to_host(kernel.tail(cell.asarray(np.array([float(t)])), n_max))[0])
            low, high = _remainder(name, t)
            # Horner over N terms errs by 2 N u of the sum of magnitudes, to which 2^-56 of it is cut off; t itself errs by u.
            terms = 60 * math.log(2) / -math.log(abs(t))
            allowed = Fraction((4 * terms + 64) * 2.0**-53) * _majorant(name, t, TOP + 1)
            worst = float(np.maximum(worst, float(max(found - high, low - found) / allowed)))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="float64 against rational enclosures; rounding bounded",
        measured=max(worst, 0.0),
        predicted=0.0,
        comparisons=len(st.KERNELS) * len(POINTS),
        note=f"largest difference {max(worst, 0.0):.2g} of its rounding bound",
    )


def library_tail(cell: st.Cell) -> st.Evidence:
    """The tail that the library computes."""
    return _library_tail(cell, TOP)


def tail_without_its_first_term(cell: st.Cell) -> st.Evidence:
    """The tail from degree 22 on."""
    return _library_tail(cell, TOP + 1)


def _negligible(points: Sequence[Fraction]) -> st.Evidence:
    worst = max(abs(end) for name in st.KERNELS for t in points for end in _relative_bias(name, t))
    return st.decide(
        worst < Fraction(1, 2**52),
        because="rational enclosures; t^21 for inv, and less for the others, whose a_21 <= 1/21",
        measured=float(worst),
        predicted=2.0**-52,
        comparisons=len(st.KERNELS) * len(points),
    )


def negligible_after_pre_scaling(cell: st.Cell) -> st.Evidence:
    """At |t| = 99/560, just above 32^(-1/2), the bias is below 2^-52; it grows with |t|."""
    del cell
    return _negligible(PRESCALED)


def without_the_factor(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: tokens pre-scaled but not multiplied by d^(-1/4), which may have t = 9/10."""
    del cell
    return _negligible(POINTS)


def mean_of_the_released_law(cell: st.Cell) -> st.Evidence:
    """The sampled check of P18 must accept f_20."""
    return _sampled(cell, 0.0)


def mean_of_the_library(cell: st.Cell) -> st.Evidence:
    """`RandomMaclaurin.mean` of the released law is f_20, at t = 7/8 and -7/8."""
    worst, cases = 0.0, list(itertools.product(st.KERNELS, (Fraction(7, 8), Fraction(-7, 8))))
    for name, t in cases:
        law = st.RandomMaclaurin(name, 2, "released")
        found = law.mean(cell.asarray(np.array([float(t)])), cell.asarray(np.array([1.0])))
        # Horner over 21 rounded coefficients.
        allowed = 4 * 22 * 2.0**-53 * float(_partial_sum(name, abs(t), 0, TOP))
        worst = float(np.maximum(worst, abs(float(found) - float(_partial_sum(name, t, 0, TOP))) / allowed))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="float64 against rational sums; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=len(cases),
    )


def mean_with_the_bias_added(cell: st.Cell) -> st.Evidence:
    """The sampled check with the bias counted twice."""
    return _sampled(cell, 2.0)


def bias_on_heads(cell: st.Cell) -> list[st.Evidence]:
    """Relative bias of inv at the largest |<q, k>| of each head after pre-scaling: |t|^21."""
    found = []
    for head in cell.heads:
        q, k = st.prepare(head.q, head.k)
        largest = float(np.abs(q @ k.T).max())
        found.append(
            st.observe(
                name=head.name,
                measured=largest ** (TOP + 1),
                predicted=float(q.shape[1] ** -0.5) ** (TOP + 1),
                note=f"largest |t| = {largest:.3f}; predicted is the bound",
            )
        )
    return found


P18 = st.Proposition(
    id="P18",
    title="The released law, cut off at degree 20, is unbiased on the unit ball",
    statement=r"$\mathbb{E}\,\langle\phi(x),\phi(y)\rangle = f(\langle x,y\rangle)$ for $\|x\|, \|y\| < 1$ with degrees $N \le 20$.",
    hypotheses=(),
    source="a reading: the abstract of arXiv:2505.12252 (seen) announces unbiasedness, its released code (read) stops at degree 20",
    expected="refuted",
    checks=[bias_inside_the_ball, sampled],
    mutants=[bias_at_a_half],
    cites=("guo2025schoenbat", "kar2012random"),
)

P18R = st.Proposition(
    id="P18R",
    title="The bias of the released law is below a geometric tail, negligible after pre-scaling",
    statement=r"$|f(t) - f_{20}(t)| \le \frac{a_{21} |t|^{21}}{1 - |t|}$ for the five kernels and $|t| < 1$, and below $2^{-52} f(t)$ for "
    r"$|t| \le d^{-1/2}$, $d \ge 32$.",
    hypotheses=("$|t| < 1$", r"for the second part, tokens are pre-scaled and multiplied by $d^{-1/4}$, $d \ge 32$"),
    source="truncation: Kar & Karnick (2012), supplement, section 9 (seen); constants derived here",
    expected="consistent",
    checks=[
        geometric_majorant,
        library_tail,
        negligible_after_pre_scaling,
        mean_of_the_released_law,
        mean_of_the_library,
        bias_on_heads,
    ],
    mutants=[
        majorant_one_term_late,
        tail_without_its_first_term,
        without_the_factor,
        mean_with_the_bias_added,
    ],
    cites=("kar2012random", "guo2025schoenbat"),
)
