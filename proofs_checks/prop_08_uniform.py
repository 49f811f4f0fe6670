r"""P08: the Lipschitz constant behind Kar & Karnick's uniform bound. False for R > 1 as printed, true with the factor R.

    sup ||grad_x f(<x, y>)||  <=  f'(R^2)          over ||x||, ||y|| <= R         (P08, as printed)
    sup ||grad_x f(<x, y>)||   =  R f'(R^2)                                       (P08R)

and with L = R f'(R^2) + p^2 R sqrt(d) f'(p R^2), C = p f(p R^2), p = 2, over any compact part of the l1 ball of radius R,

    P[ sup_{x, y} |<phi(x), phi(y)> - f(<x, y>)| > eps ]  <=  2 max(32 R L / eps, 1)^{2d} exp(-D eps^2 / (8 C^2)).      (P08R)

Hypotheses: p R^2 is inside the radius of convergence; R bounds the l1 norms (for the gradient of f any norm that is at least l2 will do).

Source: Kar & Karnick (2012), Lemma 6 and Theorem 8 (seen).

Idea of proof: grad_x f(<x, y>) = f'(<x, y>) y; the printed proof drops ||y|| <= R. At x = y = R e_1 its length is R f'(R^2), so the printed bound
fails for every f that is not constant as soon as R > 1, f(t) = t first of all. A feature of degree n is (a_n / q_n) prod <w_i, x> <w_i, y>; its
gradient is a sum of n terms, each at most (a_n / q_n) sqrt(d) R^{2n-1} long, and n a_n p^{n+1} R^{2n-1} is a term of p^2 R f'(p R^2). The
error is then Lipschitz with constant L in x and in y, and a net of radius eps / (4 L), Hoeffding's inequality at its points for eps / 2, and a
union bound do the rest (`st.bounds.KarKarnickUniform`). For R <= 1 the printed L is larger than the true one and the theorem stands.

Checked exactly, in rational arithmetic: the failure for f(t) = t, 1 + t and (1 + t)^3 at R = 2 and 3; the corrected bound at rational points for
twelve polynomials and four radii, attained; the gradient of a feature for all signs, n <= 3, d = 3, attained. That the library's
uniform bound is this one, up to rounding. By search: gradients of all kernels, and the error of drawn maps against L. By sampling: the
uniform bound in dimension 1 for f(t) = 1 + t, where the supremum is a formula. At D = 1e5 it speaks there, tens of standard deviations
out: the sampled leg has little power. What it says at SchoenbAt's sizes is P08V.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

Vector = tuple[Fraction, ...]
HALF = Fraction(1, 2)


def _dot(x: Sequence[int | Fraction], y: Sequence[int | Fraction]) -> Fraction:
    return sum((Fraction(a) * b for a, b in zip(x, y, strict=True)), Fraction(0))


def _polynomial_gradients(
    bound: Callable[[Fraction, Fraction], Fraction], radii: Sequence[Fraction], degrees: Sequence[int]
) -> st.Evidence:
    """Squared gradients of (t + c)^p, c = 0, 1/2, 1, at rational points of the ball, against bound(R, f'(R^2))^2.

    The points are R times (1, 0), (3/5, 4/5), (-4/5, 3/5), (1/2, 1/2) and (0, 0); the first attains R f'(R^2).
    """
    fifth = Fraction(1, 5)
    points: list[Vector] = [
        (Fraction(1), Fraction(0)),
        (3 * fifth, 4 * fifth),
        (-4 * fifth, 3 * fifth),
        (HALF, HALF),
        (Fraction(0), Fraction(0)),
    ]
    worst, comparisons = Fraction(0), 0
    for p, c, radius in itertools.product(degrees, (Fraction(0), HALF, Fraction(1)), radii):

        def slope(t: Fraction, p: int = p, c: Fraction = c) -> Fraction:
            return p * (t + c) ** (p - 1)

        limit = bound(radius, slope(radius**2)) ** 2
        for x, y in itertools.product(points, repeat=2):
            length = slope(radius**2 * _dot(x, y)) ** 2 * radius**2 * _dot(y, y)
            worst, comparisons = max(worst, length / limit), comparisons + 1
    return st.decide(
        worst <= 1,
        because="polynomial kernels at rational points of the ball, rational arithmetic",
        measured=math.sqrt(worst),
        predicted=1.0,
        comparisons=comparisons,
        note=f"longest gradient over its bound: {math.sqrt(worst):.4g}",
    )


def as_printed(cell: st.Cell) -> st.Evidence:
    """The printed f'(R^2) for polynomials of degree 1 to 3, R = 2 and 3."""
    del cell
    return _polynomial_gradients(lambda radius, slope: slope, [Fraction(2), Fraction(3)], (1, 2, 3))


def half_of_what_is_printed(cell: st.Cell) -> st.Evidence:
    """Twin: f'(R^2) / 2 at R = 1, where f'(R^2) is right."""
    del cell
    return _polynomial_gradients(lambda radius, slope: slope / 2, [Fraction(1)], (1, 2, 3))


def with_the_radius(cell: st.Cell) -> st.Evidence:
    """The bound R f'(R^2) for polynomials of degree 1 to 4, R = 1/2, 1, 2, 3; attained, so the largest quotient is 1."""
    del cell
    return _polynomial_gradients(
        lambda radius, slope: radius * slope, [HALF, Fraction(1), Fraction(2), Fraction(3)], (1, 2, 3, 4)
    )


def bound_of_the_library(cell: st.Cell) -> st.Evidence:
    """`KarKarnickUniform` is the bound that is stated: f(t) = (1 + t)^2, R = 1/2, C = 9/2, L = 5/4 + 6 sqrt d."""
    del cell
    # d, D, eps; 32 R L and D eps^2 / (8 C^2), by hand. In the last case the maximum is 1.
    cases = [(1, 72, 4.5, 116, 9), (4, 200, 4.5, 212, 25), (1, 1, 126.0, 116, 98)]
    bounds = [
        st.bounds.KarKarnickUniform(st.polynomial(2, 1.0), 0.5, d).tail(eps, width) for d, width, eps, *_ in cases
    ]
    wanted = [2 * max(net / eps, 1.0) ** (2 * d) * math.exp(-exponent) for d, _, eps, net, exponent in cases]
    error = float(np.max(np.abs(np.array(bounds) / wanted - 1)))
    return st.decide(
        error <= 2.0**-43,  # exponents up to 98, rounded a few times
        kind="deterministic",
        because="the formula in float64; rounding bounded",
        measured=error,
        predicted=0.0,
        comparisons=len(cases),
    )


def _feature_gradients(bound: Callable[[int, int], int]) -> st.Evidence:
    """Squared gradient in x of prod_{i <= n} <w_i, x> <w_i, y>, n = 1, 2, 3, all signs in d = 3, against bound(n, d) R^{4n-2}.

    Integer points with ||x||_1 = ||y||_1 = R = 4; in the first pair x = y.
    """
    signs, worst, comparisons = st.sign_vectors(3), Fraction(0), 0
    for x, y in (([2, -1, 1], [2, -1, 1]), ([1, 3, 0], [2, -1, -1]), ([4, 0, 0], [1, 2, 1])):
        along_x, along_y = (signs @ x).tolist(), (signs @ y).tolist()
        for n in (1, 2, 3):
            for chosen in itertools.product(range(len(signs)), repeat=n):
                rest = [math.prod(along_x[j] for j in chosen[:i] + chosen[i + 1 :]) for i in range(n)]
                gradient = np.array(rest) @ signs[list(chosen)]
                squared = int(gradient @ gradient) * math.prod(along_y[i] for i in chosen) ** 2
                worst, comparisons = max(worst, Fraction(squared, bound(n, 3) * 4 ** (4 * n - 2))), comparisons + 1
    return st.decide(
        worst <= 1,
        because="all signs, degrees up to 3, d = 3, integer points",
        measured=math.sqrt(worst),
        predicted=1.0,
        comparisons=comparisons,
        note=f"longest gradient over n sqrt(d) R^(2n-1): {math.sqrt(worst):.4g}",
    )


def gradient_of_a_feature(cell: st.Cell) -> st.Evidence:
    """The bound n sqrt(d) R^(2n-1), attained at x = y."""
    del cell
    return _feature_gradients(lambda n, d: n**2 * d)


def without_the_dimension(cell: st.Cell) -> st.Evidence:
    """The bound n R^(2n-1): the length of a sign vector forgotten."""
    del cell
    return _feature_gradients(lambda n, d: n**2)


SLOPES: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "trigh": math.exp,
    "inv": lambda t: (1 - t) ** -2,
    "logi": lambda t: 1 / (1 - t),
    "sqrt": lambda t: 0.5 / math.sqrt(1 - t),
}


def _quotients(bound: Callable[[float, float], float]) -> st.Evidence:
    """Largest |f(<x,y>) - f(<x',y>)| / (bound(R, f'(R^2)) ||x - x'||) of five kernels, x, x', y in the l2 ball of radius R.

    A thousand triples each, a tenth of them along one ray, where the gradient is longest; R = 3/2 for entire kernels, else 9/10.
    """
    rng, largest = np.random.default_rng(8), 0.0
    for name, slope in SLOPES.items():
        kernel = st.KERNELS[name]
        radius = 1.5 if math.isinf(kernel.radius) else 0.9
        x, other, y = (u * radius / np.linalg.norm(u, axis=1, keepdims=True) for u in rng.normal(size=(3, 1000, 3)))
        x, other = x * rng.random((1000, 1)), other * rng.random((1000, 1))
        x[:100], other[:100] = y[:100] * rng.uniform(0.9, 1.0, (100, 1)), y[:100] * 0.8
        change = np.abs(kernel(np.sum(x * y, axis=1)) - kernel(np.sum(other * y, axis=1)))
        quotient = change / (bound(radius, slope(radius**2)) * np.linalg.norm(x - other, axis=1))
        largest = float(np.maximum(largest, quotient.max()))
    return st.decide(
        largest <= 1,
        kind="deterministic",
        because="search: difference quotients of five kernels",
        measured=largest,
        predicted=1.0,
        comparisons=5000,
    )


def difference_quotients(cell: st.Cell) -> st.Evidence:
    """The kernels' own difference quotients against R f'(R^2)."""
    del cell
    return _quotients(lambda radius, slope: radius * slope)


def quotients_without_the_radius(cell: st.Cell) -> st.Evidence:
    """The same against f'(R^2)."""
    del cell
    return _quotients(lambda radius, slope: slope)


def errors_of_drawn_maps(cell: st.Cell) -> st.Evidence:
    """|error at (x, y) - error at (x', y)| <= L ||x - x'|| for 32 maps of 64 features, exp, l1 ball of radius 1, d = 3."""
    x, other, y = (u / np.abs(u).sum(axis=1, keepdims=True) for u in cell.rng.normal(size=(3, 64, 3)))
    x, other, y = (cell.asarray(u) for u in (x, other, y))
    lipschitz, largest = st.bounds.lipschitz("exp", 1.0, 3), 0.0
    exact = st.to_host(st.KERNELS["exp"].gram(x, y)) - st.to_host(st.KERNELS["exp"].gram(other, y))
    step = np.linalg.norm(st.to_host(x) - st.to_host(other), axis=1)[:, None]
    for _ in range(32):
        phi = st.RandomMaclaurin("exp", 64).draw(3, cell.rng)
        change = st.to_host(phi(x) - phi(other)) @ st.to_host(phi(y)).T - exact
        largest = float(np.maximum(largest, (np.abs(change) / step).max()))
    return st.decide(
        largest <= lipschitz,
        kind="deterministic",
        because="search over drawn maps and pairs of points",
        measured=largest,
        predicted=lipschitz,
        comparisons=32 * 64 * 64,
    )


LINEAR = st.polynomial(1, 1.0)  # f(t) = 1 + t


def _in_dimension_one(cell: st.Cell, shrink: float = 1.0) -> st.Evidence:
    """Supremum of the error over |x|, |y| <= 1/2, f(t) = 1 + t, D = 2^17, at deviations where the bound takes four values.

    In dimension 1 signs cancel: the error is (2 N_0 / D - 1) + (4 N_1 / D - 1) x y, N_n features having degree n, and its
    supremum |2 N_0 / D - 1| + |4 N_1 / D - 1| R^2. Degrees of 2 and more have weight 0.
    """
    width, bound = 1 << 17, st.bounds.KarKarnickUniform(LINEAR, 0.5, 1)
    values = np.array([0.9, 0.5, 0.1, 0.01])
    deviations = bound.deviation(width, values) * shrink

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        counts = rng.multinomial(width, [0.5, 0.25, 0.25], size=size)
        supremum = np.abs(2 * counts[:, 0] / width - 1) + np.abs(4 * counts[:, 1] / width - 1) / 4
        return supremum[:, None] > deviations

    return st.check_tail(exceeds, values, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws).but(
        figure={"x": deviations.tolist(), "x_label": "deviation ε of the supremum (d = 1, D = 2¹⁷, R = 1/2)"}
    )


def uniform_bound(cell: st.Cell) -> st.Evidence:
    """The bound where it speaks: dimension 1, D = 131,072."""
    return _in_dimension_one(cell)


def uniform_deviations_too_small(cell: st.Cell) -> st.Evidence:
    """The bound at eps compared with the tail at eps / 100."""
    return _in_dimension_one(cell, shrink=0.01)


P08 = st.Proposition(
    id="P08",
    title="Gradient of the kernel, without the radius",
    statement=r"$\sup_{\|x\|, \|y\| \le R} \|\nabla_x f(\langle x, y\rangle)\| \le f'(R^2)$.",
    hypotheses=(),
    source="Kar & Karnick (2012), Lemma 6, as printed (seen)",
    expected="refuted",
    checks=[as_printed],
    mutants=[half_of_what_is_printed],
    cites=("kar2012random",),
)

P08R = st.Proposition(
    id="P08R",
    title="Gradient of the kernel, with the radius, and the uniform bound",
    statement=r"$\sup_{\|x\|, \|y\| \le R} \|\nabla_x f(\langle x, y\rangle)\| = R f'(R^2)$; and with $L = R f'(R^2) + p^2 R \sqrt{d}\, f'(p R^2)$, "
    r"$C = p f(p R^2)$, over a compact part of the $\ell_1$ ball of radius $R$, $\Pr[\sup_{x,y} |\langle\phi(x),\phi(y)\rangle - "
    r"f(\langle x,y\rangle)| > \varepsilon] \le 2 \max(32 R L / \varepsilon, 1)^{2d} \exp\left(-\frac{D\varepsilon^2}{8C^2}\right)$.",
    hypotheses=(r"$R$ bounds the $\ell_1$ norms", "$p R^2$ is inside the radius of convergence", "$p = 2$"),
    source="Kar & Karnick (2012), Lemma 6 and Theorem 8 (seen), corrected",
    expected="consistent",
    checks=[
        with_the_radius,
        gradient_of_a_feature,
        bound_of_the_library,
        difference_quotients,
        errors_of_drawn_maps,
        uniform_bound,
    ],
    mutants=[without_the_dimension, quotients_without_the_radius, uniform_deviations_too_small],
    cites=("kar2012random",),
)
