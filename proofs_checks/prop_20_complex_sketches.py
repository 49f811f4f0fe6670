r"""P20: "At equal real width a complex-to-real sketch never has a larger variance than the real Rademacher sketch."

    real:             est = (1/D) sum_l prod_i <w_il, x> <w_il, y>                           D rows, D features
    complex-to-real:  est = Re (2/D) sum_l prod_i <w_il, x> conj <w_il, y>                 D/2 rows, D features

Both have mean <x, y>^p. With A = |x|^2 |y|^2, t = <x, y>, s = sum_i x_i^2 y_i^2, and z = <w, x> conj <w, y> for one w:

                            C = E |z|^2          P = E z^2
    Rademacher              A + 2t^2 - 2s        the same             w_i in {1, -1}
    Gaussian                A + 2t^2             the same
    complex Rademacher      A + t^2 - s          2t^2 - s             w_i in {1, i, -1, -i}
    complex Gaussian        A + t^2              2t^2                 E |w_i|^2 = 1, E w_i^2 = 0

    variance and pseudo-variance of one row  C^p - t^2p,  P^p - t^2p;  at width D their sum over D if complex

P20R, with a = t^2 - s: for Rademacher weights and p >= 2

    D (Var_real - Var_CtR) = g(A) - g(s) = sum_{j=1}^{p-1} C(p,j) (2^(p-j) - 1) a^(p-j) (A^j - s^j),  g(u) = (u+2a)^p - (u+a)^p

is > 0 if a > 0 and A > s; 0 if a = 0 or A = s; < 0 if a < 0, except for odd p at t = 0, A = 2s, where both variances
are 0. For Gaussian weights a is t^2 and s is 0, so that no term is negative. At p = 1 both variances are equal.

Source: the table, the gap as a double sum, and that a >= 0 is enough are in Wacker, Ohana & Filippone (2023), Table 1,
Theorems 3.4 and 3.5 (seen). The short sum, and what happens for a < 0 and p > 2, are derived here.

Proof of the sign. Real: A + 2a = T; complex: A + a = C, s + 2a = P; and t^2 = s + a. So the gap is g(A) - g(s). For a
>= 0 all coefficients of g are >= 0, and A >= s. Let b = -a > 0, e = t^2 = s - b, and T >= t^2 (Jensen) is A = s + b +
r with r >= 0. The gap is (e+r)^p + e^p - (e+r+b)^p - (e-b)^p. The last two points have the sum of the first two and
lie outside them, so it is < 0 wherever u^p is strictly convex: p even, or e >= b. Else p is odd and e < b: at r = 0
it is 2 e^p - ((b+e)^p - (b-e)^p), which is -2 sum_{j odd < p} C(p,j) b^(p-j) e^j, and it falls strictly in r.

Proof that d = 4 is every d: every monomial of E |z|^2 and E z^2 has four indices, and both sides are symmetric under a
permutation of the coordinates. A grid of three values per coordinate determines polynomials of degree 2 in each.

Checked exactly: the table on that grid; the gap as polynomials in A, s, a, p <= 6; its sign on all of {-2, ..., 2}^6;
P20 by enumeration of all weights of both sketches. The library's variances against the table. By sampling: mean and
variance of its four families. Data: share of pairs of real heads with a < 0, and what complex weights save there.

Not checked: tails of sketches; widths at which complex arithmetic costs more time than it saves.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

ATOMS: dict[str, tuple[complex, ...]] = {"rademacher": (1, -1), "complex-rademacher": (1, 1j, -1, -1j)}
# Values of one weight, equally likely, and a factor of |w|^2. Those of Gaussian weights have all moments of a normal
# number that C and P ask for: E w^2 = 1 and E w^4 = 3 if real; E |w|^2 = 1, E |w|^4 = 2 and E w^2 = 0 if complex.
VALUES: dict[str, tuple[tuple[complex, ...], int]] = {
    **{family: (values, 1) for family, values in ATOMS.items()},
    "gaussian": ((1, -1, 0, 0, 0, 0), 3),
    "complex-gaussian": ((1, 1j, -1, -1j, 0, 0, 0, 0), 2),
}
ORTHOGONAL = np.array([[1, 1], [1, -1]])  # real Rademacher weights never err on this pair: w_1^2 - w_2^2 = 0
PAIRS = np.array([[[1, 1, 0], [1, -1, 0.5]], [[1, -0.5, 0.5], [0.5, 1, 0.5]]])  # a = -2 and a = -1/2


def _statistics(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any]:
    """A, t^2 and s."""
    return np.sum(x * x, -1) * np.sum(y * y, -1), np.sum(x * y, -1) ** 2, np.sum(x * x * y * y, -1)


def _table(family: str, a: Any, tt: Any, s: Any) -> tuple[Any, Any]:
    """C and P as claimed."""
    s = s if "rademacher" in family else 0 * s
    if family in ("rademacher", "gaussian"):
        return a + 2 * tt - 2 * s, a + 2 * tt - 2 * s
    return a + tt - s, 2 * tt - s


def _compare(wrong: np.ndarray, because: str, kind: str = "exact") -> st.Evidence:
    return st.decide(
        not wrong.any(),
        kind=kind,
        because=because,
        measured=float(wrong.sum()),
        predicted=0.0,
        comparisons=wrong.size,
        note=f"{wrong.sum()} of {wrong.size:,} differ",
    )


def _one_level(claimed: Callable[..., tuple[Any, Any]]) -> st.Evidence:
    grid = np.array(list(itertools.product((-1, 0, 1), repeat=4)))
    wrong, statistics = [], _statistics(grid[:, None], grid[None])
    for family, (values, factor) in VALUES.items():
        w = np.array(list(itertools.product(values, repeat=4)))
        wx = w @ grid.T  # Gaussian integers, here and below: exact
        found = [factor**2 * (power.T @ power.conj()) for power in (wx * wx.conj(), wx**2)]  # times the number of w
        wrong.append(np.stack(found) != len(w) * np.stack(claimed(family, *statistics)))
    return _compare(np.array(wrong), "moments of one coordinate, integers, a grid that determines the polynomials")


def level_moments(cell: st.Cell) -> st.Evidence:
    """C and P of the four families on the grid {-1, 0, 1}^8."""
    del cell
    return _one_level(_table)


def wrong_sign_of_s(cell: st.Cell) -> st.Evidence:
    """The pseudo-moment of complex weights without - s."""
    del cell
    return _one_level(lambda family, a, tt, s: (_table(family, a, tt, s)[0], _table(family, a, tt, 0 * s)[1]))


def _closed(family: str, degree: int, width: int, x: Any, y: Any) -> Fraction:
    """The variance by the table: half of C^p + P^p from D / 2 complex rows, T^p from D real ones."""
    a, tt, s = (int(part) for part in _statistics(np.asarray(x), np.asarray(y)))
    c, p = _table(family, a, tt, s)
    return Fraction(c**degree + p**degree - 2 * tt**degree, width * (1 + (not family.startswith("complex"))))


def library(cell: st.Cell) -> st.Evidence:
    """Variances of the library's four families against the table, p <= 4, D up to 24, d up to 5."""
    rng, wrong = np.random.default_rng(20), []
    for family, degree, width, dim in itertools.product(VALUES, (1, 2, 3, 4), (2, 4, 24), (1, 2, 5)):
        x, y = rng.integers(-3, 4, size=(2, dim))
        found = st.PolynomialSketch(degree, width, family).variance(cell.asarray(x * 1.0), cell.asarray(y * 1.0))
        # Integers below 2^53; then shares, differences and a mean of powers of at most 3 A: at most 8 roundings of each.
        allowed = Fraction(4 * 8, 2**53) * int(3 * _statistics(x, y)[0]) ** degree
        wrong.append(abs(Fraction(float(st.to_host(found))) - _closed(family, degree, width, x, y)) > allowed)
    return _compare(np.array(wrong), "the table in rational arithmetic; rounding bounded", kind="deterministic")


def _gap(p: int, a: Any, s: Any, small: Any, gaussian: bool = False) -> Any:
    """D (Var_real - Var_CtR) for A, s and small = a, from the table."""
    tt, family = (small, "gaussian") if gaussian else (s + small, "rademacher")
    real, (c, pseudo) = _table(family, a, tt, s)[0], _table(f"complex-{family}", a, tt, s)
    return real**p - c**p - pseudo**p + tt**p


def gap_as_polynomials(cell: st.Cell) -> st.Evidence:
    """The sum over j against the table, both weights, as polynomials in A, s and a of degree <= p."""
    del cell
    wrong = []
    for p in range(1, 7):
        a, s, small = np.meshgrid(*[np.arange(p + 1)] * 3)
        for gaussian in (False, True):
            base = 0 * s if gaussian else s
            short = sum(math.comb(p, j) * (2 ** (p - j) - 1) * small ** (p - j) * (a**j - base**j) for j in range(1, p))
            wrong.append((short != _gap(p, a, s, small, gaussian)).ravel())
    return _compare(np.concatenate(wrong), "p + 1 integers per variable determine polynomials of degree p; p ≤ 6")


def _sign_rule(p: int, a: np.ndarray, s: np.ndarray, small: np.ndarray) -> np.ndarray:
    even_out = (p % 2 == 1) & (s + small == 0) & (a == 2 * s)
    return np.where((a == s) | even_out, 0, np.sign(small))


def _signs(rule: Callable[..., np.ndarray]) -> st.Evidence:
    grid = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    a, tt, s = _statistics(grid[:, None], grid[None])
    wrong = np.stack([np.sign(_gap(p, a, s, tt - s)) != rule(p, a, s, tt - s) for p in range(2, 7)])
    return _compare(wrong, "all x, y of {-2, ..., 2}^3, p = 2, ..., 6, integers; all others by the proof in the file")


def sign_of_the_gap(cell: st.Cell) -> st.Evidence:
    """Where complex weights win, tie and lose."""
    del cell
    return _signs(_sign_rule)


def without_the_exception(cell: st.Cell) -> st.Evidence:
    """The sign of a alone, also where p is odd, t = 0 and A = 2s."""
    del cell
    return _signs(lambda p, a, s, small: np.where(a == s, 0, np.sign(small)))


def _fourth(family: str, x: np.ndarray, y: np.ndarray) -> float:
    """E |z|^4 of one level."""
    a, tt, _ = _statistics(x, y)
    if family in ATOMS:
        w = np.array(list(itertools.product(ATOMS[family], repeat=x.size)))
        return float(np.mean(np.abs((w @ x) * (w @ y)) ** 4))
    if family == "gaussian":
        return float(9 * a * a + 72 * a * tt + 24 * tt * tt)
    return float(4 * a * a + 16 * a * tt + 4 * tt * tt)


def _sampled(cell: st.Cell, families: Iterable[str], claimed: Callable[..., tuple[Any, Any]]) -> st.Evidence:
    """Mean and squared error of one (complex) row of degree 2, three coordinates, against C^2 and P^2."""
    laws = {family: st.PolynomialSketch(2, 1 + family.startswith("complex"), family) for family in families}
    target, spread = np.zeros((2, len(laws), len(PAIRS), 2))
    for (i, family), (j, (x, y)) in itertools.product(enumerate(laws), enumerate(PAIRS)):
        a, tt, s = _statistics(x, y)
        c, p = claimed(family, a, tt, s)
        # Minkowski: (E |est - t^2|^4)^(1/4) <= (E |est|^4)^(1/4) + t^2, and one level is independent of the other.
        target[i, j] = tt, (c**2 + p**2) / 2 - tt**2
        spread[i, j] = target[i, j, 1], (_fourth(family, x, y) ** 0.5 + tt) ** 4
    x, y = (cell.asarray(PAIRS[:, i]) for i in (0, 1))

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        maps = [law.draw(3, rng, shape=(size,)) for law in laws.values()]
        estimates = np.stack([np.sum(st.to_host(phi(x)) * st.to_host(phi(y)), axis=-1) for phi in maps], axis=1)
        return np.stack([estimates, (estimates - target[..., 0]) ** 2], axis=-1)  # (size, families, pairs, 2)

    margin = np.stack([0.05 * np.sqrt(target[..., 1]), 0.15 * target[..., 1]], axis=-1)
    return st.check_mean(
        sample, target, margin=margin, variance=spread, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(figure={"label": "estimate or squared error of one row"})


def sampled_variances(cell: st.Cell) -> st.Evidence:
    """Mean and variance of the library's four families."""
    return _sampled(cell, VALUES, _table)


def without_the_pseudo_variance(cell: st.Cell) -> st.Evidence:
    """Half the complex variance claimed for the real part, as if the pseudo-variance were 0."""
    return _sampled(cell, ("complex-rademacher",), lambda family, a, tt, s: (_table(family, a, tt, s)[0], tt))


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Pairs of the given heads, d^(-1/4) times queries and keys as trained: where a < 0, and mean variances at degree 2."""
    found = []
    for head in cell.heads:
        q, k = (x * head.q.shape[1] ** -0.25 for x in (head.q, head.k))
        a, tt, s = np.outer(np.sum(q * q, 1), np.sum(k * k, 1)), (q @ k.T) ** 2, (q * q) @ (k * k).T
        ratio = 1 - np.mean(_gap(2, a, s, tt - s)) / np.mean(_table("rademacher", a, tt, s)[0] ** 2 - tt**2)
        for name, measured, note in (
            ("pairs with a < 0", np.mean(tt < s), "share of all pairs"),
            ("mean variance at degree 2, complex / real", ratio, "Rademacher weights, equal width, as trained"),
        ):
            found.append(st.observe(name=f"{name}: {head.name}", measured=float(measured), note=note))
    return found


def _enumerated(family: str, degree: int, width: int, x: Any, y: Any) -> Fraction:
    """The variance of a whole sketch: all weights of all rows and levels, in integers."""
    w = np.array(list(itertools.product(ATOMS[family], repeat=len(x))))  # all weights of one row of one level
    rows = width // (1 + family.startswith("complex"))
    level = (w @ x) * (w @ y).conj()
    row = functools.reduce(lambda done, _: np.multiply.outer(done, level).ravel(), range(degree - 1), level)
    total = functools.reduce(lambda done, _: np.add.outer(done, row).ravel(), range(rows - 1), row)
    real = np.round(total.real).astype(np.int64)  # Gaussian integers in complex128: exact
    return Fraction(int(np.sum(real**2)), real.size * rows**2) - Fraction(int(np.sum(real)), real.size * rows) ** 2


def _never_larger(family: str, width: int) -> st.Evidence:
    x, y = ORTHOGONAL
    real, other = _enumerated("rademacher", 2, 2, x, y), _enumerated(family, 2, width, x, y)
    return st.decide(
        other <= real,
        because="enumeration of all weights in integers",
        measured=float(other),
        predicted=float(real),
        note=f"x = (1, 1), y = (1, -1), p = 2: variance {other} with {width} features, real weights {real} with 2",
    )


def smallest_example(cell: st.Cell) -> st.Evidence:
    """Entries 1 and -1, d = 2, p = 2, D = 2: real weights never err, complex ones have variance 4."""
    del cell
    evidence = _never_larger("complex-rademacher", 2)
    d = 16  # flat unit vectors, of which the second has some signs flipped
    t = [1 - 2 * flips / d for flips in range(9)]
    ratios: dict[str, list[float]] = {}
    for p in (2, 3, 4, 6):
        real = [(1 + 2 * (u * u - 1 / d)) ** p - u ** (2 * p) for u in t]
        ratios[f"degree {p}"] = [1 - _gap(p, 1.0, 1 / d, u * u - 1 / d) / v for u, v in zip(t, real, strict=True)]
    figure = {
        "plot": "curves",
        "title": "Complex weights against real ones",
        "caption": "Variance of a complex-to-real sketch over that of a real Rademacher sketch of the same width, for flat unit "
        "vectors in 16 dimensions. Complex weights lose where the squared inner product is below 1/16.",
        "x": t,
        "series": ratios,
        "x_label": "inner product of x and y",
        "y_label": "variance, complex / real",
        "lines": {"equal": 1.0},
    }
    return evidence.but(figure=figure)


def twice_the_width(cell: st.Cell) -> st.Evidence:
    """Twin: complex weights at twice the width."""
    del cell
    return _never_larger("complex-rademacher", 4)


P20 = st.Proposition(
    id="P20",
    title="At equal width a complex-to-real sketch never has a larger variance than a real Rademacher sketch",
    statement=r"$\mathrm{Var}_{\mathrm{CtR}} \le \mathrm{Var}_{\mathrm{real}}$ for all $x, y$ and all degrees $p$, at the same even number of "
    "real features.",
    hypotheses=(),
    source="a reading of Wacker, Ohana & Filippone (2023), whose Theorem 3.4 (seen) asks for $a \\ge 0$",
    expected="refuted",
    checks=[smallest_example],
    mutants=[twice_the_width],
    cites=("wacker2023complex",),
)

P20R = st.Proposition(
    id="P20R",
    title="Exactly when complex weights win: where <x, y>² > Σ xᵢ²yᵢ²",
    statement=r"With $a = \langle x, y\rangle^2 - \sum_i x_i^2 y_i^2$, $A = \|x\|^2\|y\|^2$, $s = \sum_i x_i^2 y_i^2$ and $p \ge 2$: "
    r"$D(\mathrm{Var}_{\mathrm{real}} - \mathrm{Var}_{\mathrm{CtR}}) = \sum_{j=1}^{p-1} \binom{p}{j}(2^{p-j}-1)\,a^{p-j}(A^j - s^j)$, which has "
    r"the sign of $a$, except that it is 0 where $A = s$ and, for odd $p$, where $\langle x, y\rangle = 0$ and $A = 2s$.",
    hypotheses=("Rademacher weights; with Gaussian ones complex weights never lose", "$D$ is even"),
    source="Wacker, Ohana & Filippone (2023), Table 1, Theorems 3.4 and 3.5 (seen); the case $a < 0$ at $p > 2$ is derived here",
    expected="consistent",
    checks=[
        level_moments,
        library,
        gap_as_polynomials,
        sign_of_the_gap,
        sampled_variances,
        on_activations,
    ],
    mutants=[wrong_sign_of_s, without_the_exception, without_the_pseudo_variance],
    cites=("wacker2023complex",),
)
