r"""P41: How far random features are shrunk, and what they estimate beside exact ones.

    (1)  E z(x) z(y) = t^2 - t_r^2,    z(x) = <w, x> <w', x> - <w, x_r> <w', x_r>,    t = <x, y>, t_r = <x_r, y_r>
    (2)  (1 - lambda)^2 M + lambda^2 (V - M) / D   is least at   lambda = M / (M + (V - M) / D),   and is M (1 - lambda) there
    (3)  counts D_n of a given sum that leave the least sum of M_n (1 - lambda_n) are those of the largest gains

with w, w' independent signs, x_r the first r coordinates of x; M the mean square of what is estimated over the pairs, V
that of one feature, each times a_n^2. So a feature for what is left of degree 2 beside its exact part in r coordinates is
unbiased, and, shrunk, never adds error.

(2) is of one degree. All degrees together err by (sum_n (1 - lambda_n) a_n t^n)^2, whose mixed terms E t^(n + n') do not
vanish: then lambda_n is not the best factor any more, and a smaller error can be had. The mixed terms of degrees of other
parity vanish where t and -t are alike.

Hypotheses: (2) and (3) degrees that do not correlate over the pairs, as one degree alone.

Source: none seen for (1); (2) is the shrinkage of an unbiased estimate to 0, folklore.

Idea of proof: (1) E <w, a> <w, b> = <a, b> four times: the two mixed products are t_r^2 each. (2) The difference from the
value at lambda* is (M + (V - M) / D) (lambda - lambda*)^2. (3) M (1 - lambda) is convex in D, so that gains fall.

Checked exactly: (1) all signs, all x and y of a grid; (2) the quadratic identity at three factors, hence at all; that
mixed terms break it. By search: `plan_remainder` against all counts and against (2).

Not checked: how much the mixed terms cost on heads; the fit measures the bias of its candidates with them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

Feature = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _difference_of_features(whole: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """z(x) for all pairs of signs from <w, x> and <w, x_r> of all signs."""
    return np.asarray(np.multiply.outer(whole, whole) - np.multiply.outer(kept, kept))


def _unbiased(feature: Feature) -> st.Evidence:
    """The mean of z(x) z(y) over all signs against t^2 - t_r^2, d = 3, x and y of {-1, 0, 2}^3, r = 0 to 3."""
    w, grid = st.sign_vectors(3), [np.array(x) for x in itertools.product((-1, 0, 2), repeat=3)]
    wrong = cases = 0
    for r in range(4):
        kept = np.arange(3) < r
        features = [feature(w @ x, w @ (x * kept)) for x in grid]
        for (x, z), (y, u) in itertools.product(zip(grid, features, strict=True), repeat=2):
            t, t_r = int(x @ y), int((x * kept) @ y)
            wrong, cases = wrong + (int(np.sum(z * u)) != len(w) ** 2 * (t**2 - t_r**2)), cases + 1
    return st.decide(
        wrong == 0,
        because="all signs, integers",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
        note=f"{wrong} of {cases:,} pairs differ",
    )


def residual_features_are_unbiased(cell: st.Cell) -> st.Evidence:
    """(1) by enumeration."""
    del cell
    return _unbiased(_difference_of_features)


def feature_of_the_difference(cell: st.Cell) -> st.Evidence:
    """<w, x - x_r> <w', x - x_r>, whose mean is (t - t_r)^2: the products of a kept with another coordinate are lost."""
    del cell
    return _unbiased(lambda whole, kept: np.multiply.outer(whole - kept, whole - kept))


def _error(factor: Fraction, signal: Fraction, noise: Fraction) -> Fraction:
    return (1 - factor) ** 2 * signal + factor**2 * noise


def _shrinkage(choose: Callable[[Fraction, Fraction, int], Fraction]) -> st.Evidence:
    """error(f) - error(f*) = (M + noise) (f - f*)^2 at f = 0, 1, 2, and error(f*) = M (1 - f*): quadratics, so for all f."""
    wrong = cases = 0
    for m, excess, count in itertools.product((1, 3, 10), (0, 1, 7, 100), (1, 2, 9)):
        signal, noise = Fraction(m), Fraction(excess, count)
        best = choose(signal, signal + excess, count)
        least = _error(best, signal, noise)
        same = [_error(Fraction(f), signal, noise) - least == (signal + noise) * (f - best) ** 2 for f in range(3)]
        wrong, cases = wrong + (not all(same) or least != signal * (1 - best)), cases + 1
    return st.decide(
        wrong == 0,
        because="quadratic identities, rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
        note=f"{wrong} of {cases} cases differ",
    )


def best_factor(cell: st.Cell) -> st.Evidence:
    """(2) for M, V and D of a grid."""
    del cell
    return _shrinkage(lambda m, v, count: m / (m + (v - m) / count))


def number_of_features_forgotten(cell: st.Cell) -> st.Evidence:
    """The factor M / V whatever D."""
    del cell
    return _shrinkage(lambda m, v, count: m / v)


def mean_square_for_variance(cell: st.Cell) -> st.Evidence:
    """V for V - M: lambda = M / (M + V / D)."""
    del cell
    return _shrinkage(lambda m, v, count: m / (m + v / count))


def mixed_terms_move_the_best_factor(cell: st.Cell) -> st.Evidence:
    """Degrees 2 and 3 of inv with t = 1/2 on all pairs, V = 4 M: the factors of (2) against those of least error of both."""
    del cell
    t = Fraction(1, 2)
    signals = [t**4, t**6]
    noises = [3 * m for m in signals]

    def both(f: Fraction, g: Fraction) -> Fraction:
        apart = _error(f, signals[0], noises[0]) + _error(g, signals[1], noises[1])
        return apart + 2 * (1 - f) * (1 - g) * t**5

    alone = both(Fraction(1, 4), Fraction(1, 4))  # M / (M + 3 M)
    better = both(Fraction(3, 8), Fraction(1, 4))
    return st.decide(
        better < alone,
        because="rational arithmetic",
        measured=float(better),
        predicted=float(alone),
        note=f"factors 1/4 and 1/4 leave {alone}, 3/8 and 1/4 only {better}",
    )


def _planned(moved: bool, shrink: float) -> st.Evidence:
    """`plan_remainder`, all its features ``moved`` to degree 2 or its factors changed, against all counts with the factors of (2): exp, d = 3."""
    rng, worst, cases = np.random.default_rng(41), 0.0, 0
    kernel, weights = st.get_kernel("exp"), np.full(5, 1 / 5)
    for r, width in itertools.product((0, 1, 2), (1, 2, 4, 6)):
        x, y = rng.normal(size=(2, 5, 3))
        planned, factors, _ = st.plan_remainder(kernel, x, y, weights, r, width, r)
        chosen = (width, 0, 0, 0, 0) if moved else tuple(int(c) for c in planned[2:7])
        signal, noise = np.array([_moments(kernel, x, y, r, n) for n in range(2, 7)]).T

        def left(
            some: tuple[int, ...], by: np.ndarray | None = None, s: np.ndarray = signal, v: np.ndarray = noise
        ) -> float:
            of = np.array(some)
            best = np.where(of > 0, s / (s + v / np.maximum(of, 1)), 0.0) if by is None else by
            return float(np.sum((1 - best) ** 2 * s + best**2 * v / np.maximum(of, 1)))

        everything = itertools.product(range(width + 1), repeat=5)
        least = min(left(some) for some in everything if sum(some) == width)
        found = left(chosen, shrink * factors[2:7] * (np.array(chosen) > 0))
        worst, cases = max(worst, found / least - 1), cases + 1
    # Moments are sums of 25 terms of some ten products, twice over; a ratio of two such errors by less than 2^10 roundings.
    return st.decide(
        worst <= 2.0**10 * 2.0**-53,
        kind="deterministic",
        because="all counts of degrees 2 to 6; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=cases,
        note=f"largest excess over the least error {worst:.2g}",
    )


def _moments(kernel: st.DotProductKernel, x: np.ndarray, y: np.ndarray, r: int, n: int) -> tuple[float, float]:
    """Mean squares over all pairs of the estimate's mean and of its deviation, for one feature of degree n, not shrunk."""
    one = st.Remainder(kernel, np.array(r), np.eye(8, dtype=np.int64)[n], np.ones(8))
    mean = one.mean(x[:, None], y[None])
    deviation = one.covariance(np.repeat(x, len(y), 0), np.tile(y, (len(x), 1))[:, None, :])
    return float(np.mean(mean**2)), float(np.mean(deviation))


def planned_counts_are_best(cell: st.Cell) -> st.Evidence:
    """(3) for `plan_remainder`."""
    del cell
    return _planned(False, 1.0)


def all_features_of_degree_two(cell: st.Cell) -> st.Evidence:
    """All features spent on the lowest degree."""
    del cell
    return _planned(True, 1.0)


def not_shrunk_enough(cell: st.Cell) -> st.Evidence:
    """Factors a tenth too large."""
    del cell
    return _planned(False, 1.1)


P41 = st.Proposition(
    id="P41",
    title="Random features beside exact ones: unbiased for what is left, and never harmful once shrunk",
    statement=r"$\mathbb{E}\, z(x) z(y) = t^2 - t_r^2$; $(1-\lambda)^2 M + \lambda^2 (V-M)/D$ is least at $\lambda = M / (M + (V-M)/D)$, and the best "
    r"counts are those of the largest gains.",
    hypotheses=("degrees do not correlate over the pairs, for the factors to be the best of all degrees together",),
    source="not in the sources seen; shrinkage of an unbiased estimate is folklore",
    expected="consistent",
    cites=("kar2012random",),
    checks=[
        residual_features_are_unbiased,
        best_factor,
        mixed_terms_move_the_best_factor,
        planned_counts_are_best,
    ],
    mutants=[
        feature_of_the_difference,
        number_of_features_forgotten,
        mean_square_for_variance,
        all_features_of_degree_two,
        not_shrunk_enough,
    ],
)
