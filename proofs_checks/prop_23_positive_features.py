r"""P23: Positive features of the softmax kernel are unbiased, and their errors are known in closed form.

    SM(x, y) = exp(<x,y>) = L E exp(<w,z>) = L E cosh(<w,z>),   w ~ N(0, I),  z = x + y,  L = exp(-(|x|^2 + |y|^2) / 2)

    positive       MSE = (1/m) e^F SM^2 (1 - e^-F),  that is (e^F - 1) / m relative to SM^2,         F = |x+y|^2
    hyperbolic     MSE = (1/2) (1 - e^-F) times that: features of w and of -w, from m draws of w
    trigonometric  MSE = (1/2m) e^(|x|^2+|y|^2) (1 - e^-G)^2,                                        G = |x-y|^2
    orthogonal     MSE = that of independent ones + sum over blocks of b (b-1) SM^2 (o - 1) / m^2,
                   o = e^-F sum_k c_k F^k / k!  (positive, hyperbolic),     c_k = prod_{i<k} (d+i) / (d+2i) as in P24,
                   o = e^G sum_k c_k (-G)^k / k!  (trigonometric)

Where SM is small because x = -y, positive features are exact and the relative error of trigonometric ones is large;
where x = y it is the other way round.

Source: Choromanski et al. (2021), Lemma 1 and Lemma 2 (seen): the first three lines. The fourth is derived here
(P24); directions orthogonal in blocks of d are the paper's, its theorem is about one block. Trigonometric features
are those of Rahimi and Recht (2007), orthogonal ones those of Yu et al. (2016), which were not seen in full.

Idea of proof: u = <w,z> is normal with variance F, and E e^(t u) = e^(t^2 F / 2). Second moments are of the same
kind, with 2z for z. Features of one block are dependent, and their mixed moment is E g(w1) g(w2) = SM^2 o: with <w1 +
w2, z> for two exponentials, whose moments are c_k times those of an independent pair (P24), and with alternating
signs for two cosines, as cos a cos b = (cos(a+b) + cos(a-b)) / 2. Features of different blocks are independent.

Checked exactly: means and errors of the first three lines as power series in F or G. Both sides are combinations of
at most five exponentials, which five coefficients determine (Vandermonde); twelve are compared. By sampling, with the
variances that the fourth moments give: means and squared errors of the library's maps, at F, G < 1; means and mixed
moments of orthogonal features in blocks, of which the error is made. The library's closed forms against these
formulas.

Not checked by sampling: larger F. There the relative second moment is e^F and the fourth e^(6F), and no feasible number
of draws shows the error (P32).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

Formula = dict[int, Fraction]  # exponent c -> coefficient of e^(c V), V = F or G


@dataclass(frozen=True)
class Kind:
    """One product of features, without its factor: exp(u), cosh(u) or cos(u), u normal with variance V.

    ``even``   True: the mean of exp(s u) and exp(-s u);  ``sign``   s^2: -1 for cos
    ``error``  its variance as Lemma 2 gives it, m and the factor left out
    """

    even: bool
    sign: int
    error: Formula

    def powers(self, r: int) -> Formula:
        """E of the r-th power, sum_t P(t) e^(sign t^2 V / 2), as {t: P(t)}."""
        if not self.even:
            return {r: Fraction(1)}
        return {r - 2 * j: Fraction(math.comb(r, j), 2**r) for j in range(r + 1)}

    def coefficient(self, r: int, k: int) -> Fraction:
        """The coefficient of V^k in E of the r-th power: E u^2k = (2k-1)!! V^k."""
        odd = Fraction(math.prod(range(2 * k - 1, 0, -2)), math.factorial(2 * k))
        return odd * self.sign**k * sum(p * t ** (2 * k) for t, p in self.powers(r).items())

    def moment(self, r: int, v: Any) -> Any:
        """E Y^r where Y is the product divided by its mean."""
        return np.sum([float(p) * np.exp(self.sign * (t * t - r) * v / 2) for t, p in self.powers(r).items()], axis=0)

    def mixed(self, r: int, v: float, dim: int) -> float:
        """E Y1^r Y2^r of two orthogonal features, r <= 2: exponents t, s are opposite, equal, or one of them is 0."""
        total = 0.0
        for (t, p), (s, q) in itertools.product(self.powers(r).items(), repeat=2):
            if t * t == s * s:
                total += float(p * q) * _orthogonal(self.sign * t * t * v, dim)
            else:
                total += float(p * q) * math.exp(self.sign * (t * t + s * s) * v / 2)
        return total * math.exp(-self.sign * r * v)


@functools.cache
def _orthogonal(v: float, dim: int) -> float:
    """E e^<w1+w2, z> of orthogonal w1, w2, v = |z|^2, or E cos<w1+w2, z> for -v: sum_k c_k v^k / k!, in rationals."""
    term = total = Fraction(1)
    for k in range(96):  # the terms left add up to less than 2^-110 where |v| < 16
        term *= Fraction(v) * Fraction(dim + k, (dim + 2 * k) * (k + 1))
        total += term
    return float(total)


HALF = Fraction(1, 2)
POSITIVE = Kind(False, 1, {2: Fraction(1), 1: Fraction(-1)})
HYPERBOLIC = Kind(True, 1, {2: HALF, 1: Fraction(-1), 0: HALF})
TRIGONOMETRIC = Kind(True, -1, {-2: HALF, -1: Fraction(-1), 0: HALF})
KINDS = {"positive": POSITIVE, "hyperbolic": HYPERBOLIC, "trigonometric": TRIGONOMETRIC}


def _as_series(kind: Kind, error: Formula) -> st.Evidence:
    """Mean e^(sign V / 2), and E X^2 - (E X)^2 against ``error``, coefficient by coefficient."""
    wrong, size = 0, 12
    mean = [kind.coefficient(1, k) for k in range(size)]
    for k in range(size):
        wrong += mean[k] != Fraction(kind.sign, 2) ** k / math.factorial(k)
        squared_mean = sum(mean[j] * mean[k - j] for j in range(k + 1))
        claimed = sum((p * Fraction(c) ** k for c, p in error.items()), Fraction(0)) / math.factorial(k)
        wrong += kind.coefficient(2, k) - squared_mean != claimed
    return st.decide(
        wrong == 0,
        because="power series in rational arithmetic; five coefficients determine five exponentials",
        measured=float(wrong),
        predicted=0.0,
        comparisons=2 * size,
    )


def means_and_errors_as_series(cell: st.Cell) -> list[st.Evidence]:
    """Lemma 1 and Lemma 2 as power series; the picture shows all three errors at the same width."""
    del cell
    inner = np.arange(-7, 8) / 8
    plus, minus = 2 + 2 * inner, 2 - 2 * inner
    width = {  # relative squared errors of unit vectors times D; the last two take two features per draw
        "positive": np.expm1(plus),
        "hyperbolic": np.expm1(plus) * -np.expm1(-plus),
        "trigonometric": np.exp(minus) * np.expm1(-minus) ** 2,
    }
    figure = {
        "plot": "curves",
        "title": "Three errors at the same width",
        "caption": r"Positive features are good where $\langle x,y\rangle < 0$, trigonometric ones where it is $> 0$.",
        "x": inner.tolist(),
        "series": {name: y.tolist() for name, y in width.items()},
        "x_label": "⟨x, y⟩, unit vectors",
        "y_label": "relative squared error × features",
        "log_y": True,
    }
    found = [_as_series(kind, kind.error).but(name=name) for name, kind in KINDS.items()]
    return [found[0].but(figure=figure), *found[1:]]


def hyperbolic_without_its_half(cell: st.Cell) -> st.Evidence:
    """The hyperbolic error without the factor 1/2."""
    del cell
    return _as_series(HYPERBOLIC, {c: 2 * p for c, p in HYPERBOLIC.error.items()})


DIM = 4
X = np.array([[0.4, -0.2, 0.1, 0.3], [0.3, 0.2, -0.4, 0.1]])
Y = np.array([[0.1, 0.3, 0.2, -0.2], [0.3, -0.1, 0.1, 0.2]])
KERNEL = np.exp(np.sum(X * Y, axis=1))
PLUS, MINUS = np.sum((X + Y) ** 2, axis=1), np.sum((X - Y) ** 2, axis=1)
Sample = Callable[[np.random.Generator, int], Any]


def _sampled(cell: st.Cell, kind: Kind, v: np.ndarray, sample: Sample) -> st.Evidence:
    """Mean and squared error of estimates / SM at two pairs, from one draw of w each."""
    mean, second, third, fourth = (kind.moment(r, v) for r in (1, 2, 3, 4))
    variance = second - mean**2
    of_square = fourth - 4 * third + 6 * second - 3 - variance**2

    def both(rng: np.random.Generator, size: int) -> np.ndarray:
        relative = st.to_host(sample(rng, size)) / KERNEL
        return np.stack([relative, (relative - 1) ** 2], axis=1)

    return st.check_mean(
        both,
        np.stack([mean, variance]),
        margin=np.stack([0.02 * np.sqrt(variance), 0.05 * variance]),
        variance=np.stack([variance, of_square]),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "estimate over SM, or its squared error"})


def _library(cell: st.Cell, law: Any) -> Sample:
    """Estimates of the library from one draw of w."""
    x, y = cell.asarray(X), cell.asarray(Y)
    return lambda rng, size: law.estimates(x, y, rng=rng, size=size)


def positive_sampled(cell: st.Cell) -> st.Evidence:
    """Independent positive features of the library."""
    return _sampled(cell, POSITIVE, PLUS, _library(cell, st.PositiveFeatures(1, orthogonal=False)))


def hyperbolic_sampled(cell: st.Cell) -> st.Evidence:
    """Hyperbolic features of the library."""
    return _sampled(cell, HYPERBOLIC, PLUS, _library(cell, st.PositiveFeatures(2, orthogonal=False, hyperbolic=True)))


def trigonometric_sampled(cell: st.Cell) -> st.Evidence:
    """Trigonometric features of the library."""
    return _sampled(cell, TRIGONOMETRIC, MINUS, _library(cell, st.FourierFeatures(2, orthogonal=False)))


def sum_for_difference(cell: st.Cell) -> st.Evidence:
    """|x+y|^2 in place of |x-y|^2 in the error of trigonometric features."""
    return _sampled(cell, TRIGONOMETRIC, PLUS, _library(cell, st.FourierFeatures(2, orthogonal=False)))


A, B, VECTORS = np.array([0.3, 0.2]), np.array([0.4, 0.3]), 3  # d = 2: a block of two vectors and one of one
V = float(np.sum((A + B) ** 2))


def _blocks_sampled(cell: st.Cell, kind: Kind, sample: Sample) -> st.Evidence:
    """Means of Y, Y^2, and Y_i Y_j inside and across blocks, Y (size, 3) from ``sample``."""
    target = np.array([1, kind.moment(2, V), kind.mixed(1, V, A.size), 1])
    second = np.array([kind.moment(2, V), kind.moment(4, V), kind.mixed(2, V, A.size), kind.moment(2, V) ** 2])

    def moments(rng: np.random.Generator, size: int) -> np.ndarray:
        y = sample(rng, size)
        pair, alone = y[:, :2], y[:, 2:]
        return np.stack([y.mean(axis=1), (y * y).mean(axis=1), pair.prod(axis=1), (pair * alone).mean(axis=1)], axis=1)

    return st.check_mean(
        moments,
        target,
        margin=np.array([0.02, 0.15, 0.025, 0.03]),
        variance=second - target**2,  # of one product; a mean of several varies less
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "mean of Y, of its square, or of a product of two"})


def _products(cell: st.Cell, law: Any, y: np.ndarray) -> Sample:
    """What each of three vectors of the library gives as an estimate at A and ``y``, over SM, (size, 3)."""
    pair, kernel = (cell.asarray(A[None]), cell.asarray(y[None])), math.exp(A @ y)

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        phi = law.draw(A.size, rng, shape=(size,))
        # A cosine and a sine, as many features apart as there are vectors, belong to one vector.
        return st.to_host(phi(pair[0]) * phi(pair[1])).reshape(size, -1, VECTORS).sum(axis=1) * VECTORS / kernel

    return sample


def orthogonal_blocks_sampled(cell: st.Cell) -> st.Evidence:
    """Orthogonal positive features of the library, d = 2, a block of two and one of one."""
    return _blocks_sampled(cell, POSITIVE, _products(cell, st.PositiveFeatures(VECTORS), B))


def orthogonal_trigonometric_sampled(cell: st.Cell) -> st.Evidence:
    """Orthogonal trigonometric features of the library, the same blocks; x - y = A + B."""
    return _blocks_sampled(cell, TRIGONOMETRIC, _products(cell, st.FourierFeatures(2 * VECTORS), -B))


def independent_directions(cell: st.Cell) -> st.Evidence:
    """Independent positive features where orthogonal ones were promised."""
    return _blocks_sampled(cell, POSITIVE, _products(cell, st.PositiveFeatures(VECTORS, orthogonal=False), B))


def lengths_of_root_d(cell: st.Cell) -> st.Evidence:
    """Orthogonal directions with all lengths sqrt(d): each feature alone is biased."""
    law = st.PositiveFeatures(VECTORS)

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        w = law.draw(A.size, rng, shape=(size,)).weights
        return np.exp(math.sqrt(A.size) * (w @ (A + B)) / np.linalg.norm(w, axis=-1) - V / 2)

    return _blocks_sampled(cell, POSITIVE, sample)


def closed_forms_of_the_library(cell: st.Cell) -> st.Evidence:
    """`mean` and `variance` of nine laws, 1 to 14 vectors in d = 4, against the formulas above."""
    rng, worst, cases = np.random.default_rng(23), 0.0, 0
    x, y = rng.normal(size=(2, 32, DIM)) * 0.7
    plus, minus = np.sum((x + y) ** 2, axis=1), np.sum((x - y) ** 2, axis=1)
    softmax, gaussian = np.exp(np.sum(x * y, axis=1)), np.exp(-minus / 2)
    for law, m, kind, v, kernel in (
        (st.PositiveFeatures(6, orthogonal=False), 6, POSITIVE, plus, softmax),
        (st.PositiveFeatures(6, orthogonal=False, hyperbolic=True), 3, HYPERBOLIC, plus, softmax),
        (st.PositiveFeatures(1), 1, POSITIVE, plus, softmax),
        (st.PositiveFeatures(14), 14, POSITIVE, plus, softmax),
        (st.PositiveFeatures(14, hyperbolic=True), 7, HYPERBOLIC, plus, softmax),
        (st.FourierFeatures(6, orthogonal=False), 3, TRIGONOMETRIC, minus, softmax),
        (st.FourierFeatures(6, "gaussian", orthogonal=False), 3, TRIGONOMETRIC, minus, gaussian),
        (st.FourierFeatures(28), 14, TRIGONOMETRIC, minus, softmax),
        (st.FourierFeatures(14, "gaussian"), 7, TRIGONOMETRIC, minus, gaussian),
    ):
        pairs = sum(b * (b - 1) for i in range(0, m, DIM) for b in [min(DIM, m - i)]) if law.orthogonal else 0
        mixed = np.array([kind.mixed(1, float(one), DIM) for one in v])
        variance = kernel**2 * ((kind.moment(2, v) - 1) / m + pairs * (mixed - 1) / m**2)
        # Exponents below 64 of at most 16 rounded operations, 64 terms of a series: 2^12 roundings of the second moment.
        for form, exact, scale in (
            (law.mean, kernel, kernel),
            (law.variance, variance, kernel**2 * (kind.moment(2, v) + 1)),
        ):
            found = st.to_host(form(cell.asarray(x), cell.asarray(y)))
            worst = max(worst, float(np.max(np.abs(found - exact) / (2.0**-41 * scale))))
            cases += len(x)
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="32 random pairs in d = 4; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=cases,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


P23 = st.Proposition(
    id="P23",
    title="Positive features are unbiased, their squared errors known in closed form (Performer, Lemmas 1 and 2)",
    statement=r"Positive features of $\mathrm{SM} = e^{\langle x,y\rangle}$ have mean SM and relative squared error $(e^{F} - 1)/m$, $F = \|x+y\|^2$; "
    r"hyperbolic ones $\frac{1}{2}(1 - e^{-F})$ of it from as many draws; trigonometric ones $\frac{1}{2m} e^{\|x\|^2+\|y\|^2}"
    r"(1 - e^{-\|x-y\|^2})^2 / \mathrm{SM}^2$; orthogonal ones that of independent ones and $\frac{1}{m^2} \sum_b b(b-1) (o - 1)$, "
    r"over blocks of $b$ draws, $o = e^{-F} \sum_k c_k F^k / k!$ with the $c_k$ of P24, or the same at $F = -\|x-y\|^2$ "
    r"(trigonometric).",
    hypotheses=(
        r"an estimate is the mean over $m$ draws of $w$, standard normal in $\mathbb{R}^d$: of $e^{\langle w,z\rangle - (\|x\|^2+\|y\|^2)/2}$, "
        r"$z = x + y$ (positive), of half the sum of this at $w$ and at $-w$ (hyperbolic), or of "
        r"$e^{(\|x\|^2+\|y\|^2)/2} \cos\langle w,x-y\rangle$ (trigonometric)",
        r"orthogonal: directions exactly so in blocks of $d$, lengths independent $\chi_d$",
    ),
    source="Choromanski et al. (2021), Lemmas 1 and 2 (seen); the error of orthogonal features is derived here",
    expected="consistent",
    checks=[
        means_and_errors_as_series,
        positive_sampled,
        hyperbolic_sampled,
        trigonometric_sampled,
        orthogonal_blocks_sampled,
        orthogonal_trigonometric_sampled,
        closed_forms_of_the_library,
    ],
    mutants=[
        hyperbolic_without_its_half,
        sum_for_difference,
        independent_directions,
        lengths_of_root_d,
    ],
    cites=("choromanski2021rethinking", "rahimi2007random", "yu2016orthogonal"),
)
