r"""P02: Gram matrices of a kernel with non-negative coefficients are positive semidefinite.

    sum_ij c_i c_j f(<x_i, x_j>)  >=  0,      f(t) = sum_n a_n t^n,  every a_n >= 0,  every ||x_i|| < 1

for the five kernels, whose coefficients are those of P01, in every dimension.

Hypotheses: a_n >= 0; the series converges for |t| < 1; tokens in the open unit ball. On the closed one inv and logi have a pole at t = 1.

Source: Schoenberg (1942), Theorem 2, as quoted in Kar & Karnick (2012), Theorem 1 and its supplement (seen), with "if
and only if", for the Hilbert space; Schoenberg's text was not seen. The converses in fixed dimension are derived
here.

Idea of proof: T = [<x_i, x_j>] is a Gram matrix, its entrywise powers are positive semidefinite (Schur 1911), and so
are their combinations with a_n >= 0 and limits. All the truncations of f are therefore, and what each leaves out is,
too.

Does the converse need all dimensions? On the ball, one is enough: with x_i = (i - k/2) h and c_i = (-1)^i C(k, i),
the k-th difference, sum_ij c_i c_j f(x_i x_j) = sum_n a_n (sum_i c_i x_i^n)^2 = a_k (k! h^k)^2 + O(h^(2k+4)), which
is negative for a_k < 0 and small h. On the unit sphere of a fixed dimension the converse is false: f(t) = 2 t^2 - 1
has a_0 = -1 and is cos 2 angle, a kernel on the circle. There the condition is a weaker one, on Gegenbauer
coefficients; in R^3 this f fails.

Checked exactly, in rational arithmetic, by symmetric elimination: the kernels cut at degree 12 on points of R, R^2
and R^3; that a negative a_k with k <= 6 is fatal on R already; cos 2 angle on rational points of the circle, and on a
basis of R^3; divergence at t = 1. By search: the kernels themselves, close to the boundary too, where a vector c that
makes the form negative would refute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

DEGREE = 12
Points = Sequence[Sequence[Fraction]]
Matrix = list[list[Fraction]]
PLANTED = (Fraction(0), Fraction(1), Fraction(-1, 2))  # t - t^2 / 2


def _gram(coefficients: Sequence[Fraction], points: Points) -> Matrix:
    """sum_n a_n <x_i, x_j>^n."""
    inner = [[sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0)) for y in points] for x in points]
    return [[sum((a * t**n for n, a in enumerate(coefficients)), Fraction(0)) for t in row] for row in inner]


def _semidefinite(matrix: Matrix) -> bool:
    """Symmetric elimination: no pivot is negative, and beside a pivot of zero there are zeros only."""
    while matrix:
        (pivot, *row), *rest = matrix
        if pivot < 0 or (pivot == 0 and any(row)):
            return False
        matrix = [[a - b * c / pivot if pivot else a for a, c in zip(line, row, strict=True)] for b, *line in rest]
    return True


def _coefficients(name: str) -> list[Fraction]:
    return [Fraction(st.KERNELS[name].coefficient(n)) for n in range(DEGREE + 1)]


def _clouds() -> list[Points]:
    """Eight points of the open ball of R, R^2 and R^3, the last two of which are equal."""
    clouds: list[Points] = []
    for dim in (1, 2, 3):
        points = np.random.default_rng(dim).integers(-7, 8, size=(8, dim))  # 7 sqrt(3) < 13
        points[7] = points[6]
        clouds.append([[Fraction(int(c), 13) for c in point] for point in points])
    return clouds


def _exactly(functions: Sequence[Sequence[Fraction]], clouds: Sequence[Points]) -> st.Evidence:
    """Is every function a kernel on every cloud of points?"""
    wrong = sum(not _semidefinite(_gram(a, points)) for a in functions for points in clouds)
    cases = len(functions) * len(clouds)
    return st.decide(
        wrong == 0,
        because="symmetric elimination in rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
        note=f"{wrong} of {cases} Gram matrices are not positive semidefinite",
    )


def exact(cell: st.Cell) -> st.Evidence:
    """Five kernels, cut at degree 12, on eight points of R, R^2 and R^3."""
    del cell
    return _exactly([_coefficients(name) for name in st.KERNELS], _clouds())


def negative_coefficient(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: t - t^2/2, with more points than dimensions, so that c^T T c = 0 for some c."""
    del cell
    return _exactly([PLANTED], _clouds())


def _differences(k: int) -> Points:
    return [[(Fraction(i) - Fraction(k, 2)) / 16] for i in range(k + 1)]


def converse_on_the_ball(cell: st.Cell) -> st.Evidence:
    """A kernel with the sign of one a_k turned, k <= 6, is none on k + 1 points of R."""
    del cell
    missed, cases = 0, 0
    for name in st.KERNELS:
        for k in range(7):
            turned = [-a if n == k else a for n, a in enumerate(_coefficients(name))]
            missed += _semidefinite(_gram(turned, _differences(k)))
            cases += 1
    return st.decide(
        missed == 0,
        because="symmetric elimination in rational arithmetic",
        measured=float(missed),
        predicted=0.0,
        comparisons=cases,
        note=f"{missed} of {cases} negative coefficients go unnoticed in dimension 1",
    )


def circle_is_not_enough(cell: st.Cell) -> st.Evidence:
    """On the circle 2 t^2 - 1 is a kernel in spite of a_0 = -1; on a basis of R^3 it is not."""
    del cell
    double_angle = (Fraction(-1), Fraction(0), Fraction(2))
    triples = ((1, 0, 1), (0, 1, 1), (3, 4, 5), (-5, 12, 13), (8, -15, 17), (-20, -21, 29))
    circle = [[Fraction(a, c), Fraction(b, c)] for a, b, c in triples]
    basis = [[Fraction(int(i == j)) for j in range(3)] for i in range(3)]
    on_circle, in_space = (_semidefinite(_gram(double_angle, points)) for points in (circle, basis))
    return st.decide(
        on_circle and not in_space,
        because="cos(2a - 2b) = cos 2a cos 2b + sin 2a sin 2b; symmetric elimination in rational arithmetic",
        comparisons=2,
        note="on a sphere of fixed dimension the converse is false, on the ball it is true",
    )


def closed_ball_is_too_large(cell: st.Cell) -> st.Evidence:
    """At t = 1 the sums of inv and logi pass every bound, those of the others do not, and the library says so."""
    sums = {name: [Fraction(0)] for name in st.KERNELS}
    for name, kernel in st.KERNELS.items():
        for n in range(2**8 + 1):
            sums[name].append(sums[name][-1] + Fraction(kernel.coefficient(n)))
    # 1/(n+1) + ... + 1/(2n) >= 1/2: the sum up to 2^k is at least 1 + k/2, and that of inv is larger.
    poles = [name for name in st.KERNELS if all(sums[name][2**k + 1] >= 1 + Fraction(k, 2) for k in range(9))]
    bounded = [name for name in st.KERNELS if sums[name][-1] < 3]
    unit = cell.asarray(np.array([[1.0, 0.0]]))
    refused = []
    for name, kernel in st.KERNELS.items():
        try:
            kernel.gram(unit, unit)
        except ValueError:
            refused.append(name)
    return st.decide(
        poles == refused == ["inv", "logi"] and sorted(poles + bounded) == sorted(st.KERNELS),
        because="Oresme's blocks of 1/n, and partial sums in rational arithmetic",
        comparisons=3 * len(st.KERNELS),
        note=f"not finite at t = 1: {', '.join(poles)}",
    )


def _cloud(rng: np.random.Generator, dim: int) -> np.ndarray:
    """32 points: all lengths up to 0.999, with neighbours and opposites."""
    points = rng.normal(size=(24, dim))
    points *= np.linspace(0.05, 0.999, 24)[:, None] / np.linalg.norm(points, axis=-1, keepdims=True)
    return np.concatenate([points, points[-4:] * (1 - 1e-6), -points[-4:]])


def _search(cell: st.Cell, functions: Sequence[tuple[Callable[[Any], Any], Callable[[Any], Any]]]) -> st.Evidence:
    """The form at its lowest eigenvector, beside its rounding error; ``functions`` are pairs f, sum |a_n| t^n."""
    unit, lowest, worst, cases = 2.0**-53, math.inf, -math.inf, 0
    for f, majorant in functions:
        for dim in (1, 2, 8):
            for _ in range(4):
                points = cell.asarray(_cloud(cell.rng, dim))
                t = points @ points.T
                gram, t = st.to_host(f(t)), np.abs(st.to_host(t))
                c = np.linalg.eigh(gram)[1][:, 0]
                form, size = float(c @ gram @ c), np.abs(c)
                # t errs by d u, 1 - t by u more: e. f' <= majorant' <= the slope of a chord to the right, by convexity.
                e = (dim + 3) * unit
                slope = 2 * (majorant((1 + t) / 2) - majorant(t)) / (1 - t)
                entry = slope * e + 8 * unit * majorant(t)
                allowed = float(size @ (entry + 2 * (len(c) + 1) * unit * np.abs(gram)) @ size)
                lowest, worst, cases = min(lowest, form), float(np.maximum(worst, -form / allowed)), cases + 1
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="search: the lowest eigenvector makes the form most negative; rounding of the form bounded",
        measured=lowest,
        predicted=0.0,
        comparisons=cases,
        note=f"a negative form is at most {max(worst, 0.0):.2g} of its rounding bound",
    )


def search(cell: st.Cell) -> st.Evidence:
    """Five kernels, in dimensions 1, 2 and 8, up to a thousandth from the boundary."""
    return _search(cell, [(kernel, kernel) for kernel in st.KERNELS.values()])


def negative_coefficient_searched(cell: st.Cell) -> st.Evidence:
    """The planted t - t^2/2 again, which the search must find."""
    return _search(cell, [(lambda t: t - t * t / 2, lambda t: t + t * t / 2)])


P02 = st.Proposition(
    id="P02",
    title="Gram matrices of the five kernels are positive semidefinite",
    statement=r"If $f(t) = \sum_n a_n t^n$ with every $a_n \ge 0$ then $\left[f(\langle x_i, x_j\rangle)\right]_{ij}$ is positive "
    r"semidefinite for all $x_1, \dots, x_m$ in the open unit ball, in every dimension.",
    hypotheses=(
        r"every $a_n \ge 0$; one negative coefficient is fatal on the ball of dimension 1 already, though not on the circle",
        r"$\|x_i\| < 1$, where the series converges; on the closed ball inv and logi are not finite",
    ),
    source="Schoenberg (1942), Theorem 2, as quoted in Kar & Karnick (2012), Theorem 1 (seen); converses in fixed dimension: derived here",
    expected="consistent",
    checks=[exact, converse_on_the_ball, circle_is_not_enough, closed_ball_is_too_large, search],
    mutants=[negative_coefficient, negative_coefficient_searched],
    cites=("schoenberg1942positive", "kar2012random", "schur1911"),
)
