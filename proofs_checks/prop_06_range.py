r"""P06: the range of one feature. True for the l1 radius, false for the l2 radius.

    |Z(x) Z(y)|  <=  C = p f(p R^2),       Z(x) = sqrt(a_N / q_N) prod_{i <= N} <w_i, x>,    q_n = p^-(n+1), p = 2

Hypotheses: R bounds the **l1** norms of x and y, and p R^2 is inside the radius of convergence (P06R). With an l2 radius (P06) the
bound fails in dimension 2 already. For p other than 2 the law is normalised, q_n = (p - 1) p^-(n+1), and C = p f(p R^2) / (p - 1).

Source: Kar & Karnick (2012), Lemma 4 (seen), where the ball is B_1(0, R). Pre-scaling, as SchoenbAt does it, bounds the l2 norm.

Idea of proof: |<w, x>| <= ||x||_1, attained at w = sign(x). A feature of degree n is therefore at most

    (a_n / q_n) (||x||_1 ||y||_1)^n  <=  p / (p - 1) a_n (p R^2)^n,

one term of a series of terms >= 0 whose sum is C. The largest term, B, is the smallest bound: x = y attains it.
With the l2 norm: x = y = d^(-1/2) (1, ..., 1) has <w, x>^2 = d at w = (1, ..., 1), and for exp the feature of degree n is
2 (2 d)^n / n! there, against 2 e^2 = 14.8: 64/3 = 21.3 for d = 2 at n = 3 and n = 4 (at n = 1, 4 d is beyond it from d = 4 on). For
inv at R^2 = 1/4 it is 2 (d/2)^n against C = 4: without any bound from d = 3 on.

Checked exactly, in rational arithmetic: the failure, for every d from 2 to 64. For P06R: six pairs of points in up to six dimensions,
all sign vectors, degrees up to 8, p = 2 and 3, all five kernels (the factors of a product are independent, so its largest value is a
power of the largest factor); and that x = y attains B, to the last bit of the library's value. By search: features drawn by the
library stay within B. Degrees beyond 8 rest on the proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

E_HIGH = Fraction(271829, 100000)  # above e
TOP = 8  # largest degree enumerated


def _stays_below(bound: Fraction, dims: range) -> st.Evidence:
    """The claim for exp at x = y = d^(-1/2) (1, ..., 1), w = (1, ..., 1): 2^(n+1) / n! d^n <= ``bound``, degrees <= TOP."""
    largest = {d: max(Fraction(2 ** (n + 1) * d**n, math.factorial(n)) for n in range(TOP + 1)) for d in dims}
    broken = [d for d, size in largest.items() if size > bound]
    shown = broken[0] if broken else dims[-1]
    return st.decide(
        not broken,
        because="one sign vector, rational arithmetic, e < 2.71829",
        measured=float(largest[shown]),
        predicted=float(bound),
        comparisons=len(dims),
        note=f"broken in {len(broken)} of {len(dims)} dimensions; d = {shown}: a feature of {float(largest[shown]):.4g}",
    )


def l2_radius(cell: st.Cell) -> st.Evidence:
    """The l2 unit ball, exp, d = 1 to 64, against a rational above 2 e^2."""
    del cell
    return _stays_below(2 * E_HIGH**2, range(1, 65))


def without_p(cell: st.Cell) -> st.Evidence:
    """Twin: f(R^2) in place of p f(p R^2), in dimension 1, where the two norms agree."""
    del cell
    return _stays_below(E_HIGH, range(1, 2))


def no_bound_at_all(cell: st.Cell) -> st.Evidence:
    """The kernel inv at l2 radius 1/2, C = 4: at the flat vector of d = 3 the feature of degree n is 2 (3/2)^n."""
    del cell
    largest = 2 * Fraction(3, 2) ** TOP
    return st.decide(
        largest <= 4,
        because="one sign vector, rational arithmetic; 2 (3/2)^n grows without bound",
        measured=float(largest),
        predicted=4.0,
        note=f"degree {TOP}; for exp features are bounded, by more than C",
    )


Vector = tuple[Fraction, ...]


def _vector(denominator: int, *entries: int) -> Vector:
    return tuple(Fraction(entry, denominator) for entry in entries)


# ||.||_1 <= 1/2, so that p R^2 <= 3/4. In the first two pairs x = y; in the third <w, x> <w, y> = 0 always.
PAIRS = [
    (_vector(2, 1), _vector(2, 1)),
    (_vector(20, 4, -3, 2, 1), _vector(20, 4, -3, 2, 1)),
    (_vector(4, 1, 1), _vector(4, 1, -1)),
    (_vector(12, 1, 2, 3), _vector(12, 3, -1, 1)),
    (_vector(10, 1, 1, 1, 1, 1), _vector(10, 2, 0, -1, 0, 2)),
    (_vector(12, 1, -1, 2, 0, 1, 1), _vector(12, 0, 1, 0, 1, -1, 3)),
]


def _squared_l1(x: Vector) -> Fraction:
    return Fraction(sum(map(abs, x))) ** 2


def _squared_l2(x: Vector) -> Fraction:
    return sum((entry**2 for entry in x), Fraction(0))


def _largest_factor(x: Vector, y: Vector) -> Fraction:
    """Return max |<w, x> <w, y>| over all sign vectors w."""
    return max(abs(_dot(w, x) * _dot(w, y)) for w in st.sign_vectors(len(x)).tolist())


def _dot(w: Sequence[int], x: Vector) -> Fraction:
    return sum((sign * entry for sign, entry in zip(w, x, strict=True)), Fraction(0))


def _all_signs(squared_norm: Callable[[Vector], Fraction], scale: Callable[[int], Fraction]) -> st.Evidence:
    """Largest product of every degree <= TOP against its term and against scale(p) sum_n a_n (p R^2)^n, n <= TOP, which is below C."""
    worst, comparisons = Fraction(0), 0
    for x, y in PAIRS:
        factor, squared = _largest_factor(x, y), max(squared_norm(x), squared_norm(y))
        for kernel in st.KERNELS.values():
            a = [Fraction(kernel.coefficient(n)) for n in range(TOP + 1)]
            for p in (2, 3):
                below_c = scale(p) * sum(a[n] * (p * squared) ** n for n in range(TOP + 1))
                for n in range(TOP + 1):
                    weight = a[n] * Fraction(p ** (n + 1), p - 1)
                    worst = max(worst, weight * factor**n / min(weight * squared**n, below_c))
                    comparisons += 2
    return st.decide(
        worst <= 1,
        because=f"all signs in up to six dimensions, degrees up to {TOP}, five kernels, p = 2 and 3, rational arithmetic",
        measured=float(worst),
        predicted=1.0,
        comparisons=comparisons,
        note=f"largest product over its bound: {float(worst):.4g}",
    )


def l1_radius(cell: st.Cell) -> st.Evidence:
    """Every product of degree <= 8 is within its term and within C."""
    del cell
    return _all_signs(_squared_l1, lambda p: Fraction(p, p - 1))


def l2_for_l1(cell: st.Cell) -> st.Evidence:
    """The l2 norm where the l1 norm belongs."""
    del cell
    return _all_signs(_squared_l2, lambda p: Fraction(p, p - 1))


def range_without_p(cell: st.Cell) -> st.Evidence:
    """f(p R^2) in place of p f(p R^2) / (p - 1)."""
    del cell
    return _all_signs(_squared_l1, lambda p: Fraction(1))


def sharp_range_is_attained(cell: st.Cell) -> st.Evidence:
    """At x = y = (1, -1/2, 1) the largest product of exp, over all signs and degrees <= 16, is the library's B at R = 5/2."""
    del cell
    x = _vector(2, 2, -1, 2)
    factor = _largest_factor(x, x)
    products = [Fraction(2 ** (n + 1), math.factorial(n)) * factor**n for n in range(17)]
    found = st.bounds.sharp_range("exp", 2.5)
    return st.decide(
        factor == _squared_l1(x) and float(max(products)) == found,
        because="all signs, rational arithmetic; the products fall from degree 12 on",
        measured=found,
        predicted=float(max(products)),
        note=f"B = {found:.6g} at degree {products.index(max(products))}, C = {st.bounds.maclaurin_range('exp', 2.5):.6g}",
    )


def _drawn_features(cell: st.Cell, x: np.ndarray, y: np.ndarray, radius: float) -> st.Evidence:
    """Largest of 2^14 drawn one-feature estimates of exp, against B at ``radius``."""
    law = st.RandomMaclaurin("exp", 1)
    drawn = st.to_host(law.estimates(cell.asarray(x), cell.asarray(y), rng=cell.rng, size=1 << 14))
    bound = st.bounds.sharp_range("exp", radius)
    # A feature of degree n rounds 2 n sums of d terms and as many products: degrees beyond 64 have probability 2^-64.
    slack = 1 + (2 * 64 * (len(x) + 1) + 8) * 2.0**-53
    largest = float(np.abs(drawn).max())
    return st.decide(
        largest <= bound * slack,
        kind="deterministic",
        because="search over 2^14 drawn features; rounding bounded",
        measured=largest,
        predicted=bound,
    )


def features_of_the_library(cell: st.Cell) -> st.Evidence:
    """Features drawn by `RandomMaclaurin` at x = y = (0.4, -0.3, 0.2, 0.1)."""
    x = np.array([0.4, -0.3, 0.2, 0.1])
    return _drawn_features(cell, x, x, 1.0)


def features_outside_the_l1_ball(cell: st.Cell) -> st.Evidence:
    """The same at the flat vector of l2 norm 1 in d = 64."""
    x = np.full(64, 0.125)
    return _drawn_features(cell, x, x, 1.0)


def ranges_after_pre_scaling(cell: st.Cell) -> list[st.Evidence]:
    """C of exp at the l1 radius of pre-scaled queries and keys; inv, logi and sqrt have none where p R^2 > 1."""
    found = []
    for head in cell.heads:
        norms = [np.abs(one).sum(axis=-1).max() for one in st.prepare(head.q, head.k)]
        radius = float(max(norms))
        note = f"exp; p R^2 = {2 * radius**2:.3g} with the l1 radius, {2 * head.q.shape[-1] ** -0.5:.3g} with the l2 radius"
        found.append(st.observe(name=f"range C: {head.name}", measured=st.maclaurin_range("exp", radius), note=note))
    return found


P06 = st.Proposition(
    id="P06",
    title="Range of a feature, with an l2 radius",
    statement=r"If $\|x\|_2, \|y\|_2 \le R$ then one feature obeys $|Z(x) Z(y)| \le C = p f(p R^2)$.",
    hypotheses=(r"the radius is read as an $\ell_2$ radius; Kar & Karnick state it for the $\ell_1$ ball",),
    source="a reading of Kar & Karnick (2012), Lemma 4 (seen); the theorem of arXiv:2505.12252 was not seen",
    expected="refuted",
    checks=[l2_radius, no_bound_at_all],
    mutants=[without_p],
    cites=("kar2012random", "guo2025schoenbat"),
)

P06R = st.Proposition(
    id="P06R",
    title="Range of a feature, with the l1 radius",
    statement=r"If $\|x\|_1, \|y\|_1 \le R$ then one feature obeys $|Z(x) Z(y)| \le \max_n \frac{p}{p-1} a_n (p R^2)^n \le "
    r"\frac{p}{p-1} f(p R^2)$, and $x = y$ attains the first bound.",
    hypotheses=(r"$R$ bounds the $\ell_1$ norms", "$p R^2$ is inside the radius of convergence"),
    source="Kar & Karnick (2012), Lemma 4 (seen), for p = 2; the smaller bound is not in the sources seen",
    expected="consistent",
    checks=[l1_radius, sharp_range_is_attained, features_of_the_library, ranges_after_pre_scaling],
    mutants=[l2_for_l1, range_without_p, features_outside_the_l1_ball],
    cites=("kar2012random",),
)
