r"""P28: Skyformer's theorem on the number of landmarks holds, and on some inputs its order is what it takes.

    c >= (56/3) 2n l_max log(4n / delta)  implies  P[ G - G~ <= lambda I ] >= 1 - delta,  and then |C - C~| <= eps |C|
    l_i = [G (G + lambda I)^(-1)]_ii,   lambda = eps |C|,   G, C and their approximations as in P27

for c landmarks drawn uniformly with replacement from the 2n points.

Hypotheses: eps < 1, delta < 1/2. The source has c >= const (d_stat / beta) log(n / delta) with d_stat = sum_i l_i and
a beta <= d_stat / (2n l_i) for all i, which at its best is 2n l_max log(n / delta). Its constant is not printed; 56/3
follows from the lemmas of its appendix with their constants kept.

Source: Chen et al. (2021), Skyformer, Theorem 2 with Definitions 1 and 2, and its appendix (seen). Not in the sources
seen: the examples of its order; that c >= 8 (2n l_max + 1/6) log(2n / delta) is enough; that the block needs only
lambda = 2 eps |C|, by the half of P27.

Idea of proof: G = B B^T, and Psi = B (B^T B + lambda I)^(-1/2) has rows of squared norm l_i. X = Psi^T Psi - (2n / c)
sum psi psi^T, over the sampled rows, is a mean of c independent matrices, each at most I in the Loewner order, the
variance of each at most 2n l_max. Where X <= I / 2, B^T B <= 2 B^T P P^T B + lambda I with the scaled S as P, and the
projection off the landmarks leaves at most lambda. Matrix Bernstein's inequality for the largest eigenvalue then asks
for 8 (2n l_max + 1/6) log(2n / delta), which is less than what the theorem does.

The order. (1) n queries far from each other, each equal to one key: |C| = 1, l_i = 1 / (2 + eps) for all, and the error
of C is 1 unless every pair is hit. That is the coupon collector's problem, which takes about n log(n / delta) draws.
(2) n - 1 queries and as many keys, all equal, and one pair far from them: |C| = n - 1, d_stat < 2, and l_i = 1 / (2 +
lambda) for the pair. Where eps < 1 / (n - 1), lambda < 1, the error of C is 1 > lambda until one of the pair is hit: it
fails with probability (1 - 1/n)^c. So 2n l_max, and not d_stat, is what counts; there without the factor n in the
logarithm.

Checked exactly: the probabilities of failure of both examples, with the landmarks that are asked for, in rationals. By
sampling: nearly equal points, where the theorem asks for fewer landmarks than there are points; the rate of failure of
four pairs. By computation: the library's leverage scores, their sum, and the number asked for.

Not checked: other beta than the best. At practical sizes the theorem says nothing (P28V). Far points are 40 apart,
where kappa rounds to 0.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

U = 2.0**-53
DELTA = 0.1
Asked = Callable[[int, float, float], int]


def _theorem(size: int, coherence: float, delta: float) -> int:
    """Landmarks that the theorem asks for among ``size`` = 2n points with ``coherence`` 2n l_max."""
    return math.ceil(56 / 3 * coherence * math.log(2 * size / delta))


def _one_sided(size: int, coherence: float, delta: float) -> int:
    """The same by Bernstein's inequality for the largest eigenvalue."""
    return math.ceil(8 * (coherence + 1 / 6) * math.log(size / delta))


def _pairs_missed(n: int, c: int) -> Fraction:
    """Probability that c uniform draws from n pairs miss some pair."""
    return Fraction(sum((-1) ** (j + 1) * math.comb(n, j) * (n - j) ** c for j in range(1, n + 1)), n**c)


def _pair_missed(n: int, c: int) -> Fraction:
    """Probability that c uniform draws from n pairs miss a certain one."""
    return Fraction(n - 1, n) ** c


def _examples(ridge: float) -> Iterator[tuple[int, float, float, Callable[[int], Fraction]]]:
    """Yield the number of points, 2n l_max, d_stat, and the probability of failure with c landmarks; ``ridge`` < 1."""
    for n in (4, 16):  # n pairs: G is all blocks [[1, 1], [1, 1]], and a missed one leaves 2 of G and 1 of C
        yield 2 * n, 2 * n / (2 + ridge), 2 * n / (2 + ridge), functools.partial(_pairs_missed, n)
    for n in (8, 1024):  # a far pair: G is such a block and one of ones, and the pair is left if it is missed
        pair, together = 2 / (2 + ridge), (2 * n - 2) / (2 * n - 2 + ridge)
        yield 2 * n, n * pair, pair + together, functools.partial(_pair_missed, n)


def _failures(asked: Asked, coherent: bool = True) -> st.Evidence:
    """The probability of failure with the landmarks ``asked``, in both examples, lambda = 1/2, delta = 0.1 and 0.01."""
    worst, ratios = 0.0, []
    for size, coherence, dimension, missed in _examples(0.5):
        for delta in (Fraction(1, 10), Fraction(1, 100)):
            c = asked(size, coherence if coherent else dimension, float(delta))
            worst = max(worst, float(missed(c) / delta))
            if size <= 16:
                ratios.append(c / next(i for i in itertools.count(1) if missed(i) <= delta))
    return st.decide(
        worst <= 1,
        because="failure probabilities in rational arithmetic",
        measured=worst,
        predicted=1.0,
        comparisons=8,
        note=f"largest probability / delta {worst:.2g}; "
        f"asked / needed {min(ratios):.2g} to {max(ratios):.2g}, up to 16 points",
    )


def theorem_in_the_examples(cell: st.Cell) -> st.Evidence:
    """Pairs, and a far pair, with the landmarks of the theorem."""
    del cell
    return _failures(_theorem)


def one_sided_in_the_examples(cell: st.Cell) -> st.Evidence:
    """The same with those of one-sided Bernstein."""
    del cell
    return _failures(_one_sided)


def half_for_56_thirds(cell: st.Cell) -> st.Evidence:
    """Twin: the constant 1/2, fewer than n log(n / delta): pairs need that many, by the coupon collector."""
    del cell
    return _failures(lambda size, coherence, delta: math.ceil(coherence * math.log(2 * size / delta) / 2))


def dimension_for_coherence(cell: st.Cell) -> st.Evidence:
    """Twin: d_stat in place of 2n l_max, as if beta were 1: a far pair is missed."""
    del cell
    return _failures(_theorem, coherent=False)


def _kappa(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.sum((points[:, None] - points) ** 2, axis=-1) / 2))


def _sets() -> dict[str, np.ndarray]:
    """Points, queries first: the two examples, nearly equal points, and the ordinary ones of P28V."""
    rng = np.random.default_rng(28)
    ordinary = rng.normal(size=(512, 16)) / 2
    far = 40.0 * np.arange(4)[:, None]
    apart = 40.0 * (np.arange(8)[:, None] == 0)
    return {
        "four pairs": np.concatenate([far, far]),
        "a far pair": np.concatenate([apart, apart]),
        "nearly equal": rng.normal(size=(128, 16)) / 100,
        "normal points": ordinary,
    }


def _norm(a: np.ndarray) -> float:
    return float(np.linalg.norm(a, 2))


def scores_of_the_library(cell: st.Cell) -> list[st.Evidence]:
    """Scores, their sum, and what is asked, by `st.bounds`, against the inverse of G + lambda I, and the theorem."""
    found = []
    for name, points in _sets().items():
        g, n = _kappa(points), len(points) // 2
        ridge = 0.5 * _norm(g[:n, n:])
        wanted = np.diagonal(g @ np.linalg.inv(g + ridge * np.eye(2 * n)))
        scores, total = st.bounds.leverage_scores(g, ridge), st.bounds.statistical_dimension(g, ridge)
        # Eigenvalues and inverses belong to matrices that are 2n u |G| away; scores move by that over the ridge.
        allowed = 4 * 2 * n * U * _norm(g) / ridge * (1 + _norm(g) / ridge)
        off = float(max(np.abs(scores - wanted).max(), abs(total - wanted.sum()) / (2 * n)))
        asked = [_theorem(2 * n, 2 * n * (wanted.max() + sign * allowed), DELTA) for sign in (-1, 1)]
        count = st.bounds.landmarks_required(g, ridge, DELTA)
        found.append(
            st.decide(
                off <= allowed and asked[0] <= count <= asked[1],
                kind="deterministic",
                because="the definition; rounding bounded to first order",
                name=name,
                measured=float(count),
                predicted=float(asked[1]),
                comparisons=2 * n + 2,
                note=f"of {2 * n} points; d_stat {total:.3g}, 2n l_max {2 * n * scores.max():.3g}, eps = 0.5; "
                f"one-sided Bernstein asks for {_one_sided(2 * n, 2 * n * wanted.max(), DELTA)}",
            )
        )
    return found


def _tail(cell: st.Cell, name: str, share: float = 1.0, ridged: bool = True) -> st.Evidence:
    """P[|G - G~| > eps |C|] in the larger Frobenius norm, eps = 0.5, delta = 0.1, with ``share`` of what is asked."""
    points = _sets()[name]
    g, n = _kappa(points), len(points) // 2
    ridge = 0.5 * _norm(g[:n, n:])
    count = math.ceil(share * st.bounds.landmarks_required(g, ridge, DELTA))
    threshold, on_device = ridge if ridged else len(g) * U * _norm(g), cell.asarray(g)
    largest = 0.0

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        nonlocal largest
        errors = []
        for _ in range(size):
            landmarks = st.draw_landmarks(n, n, count, rng, landmarks="replacement")
            errors.append(float(np.linalg.norm(g - st.to_host(st.nystrom_gram(on_device, landmarks)))))
        largest = max(largest, *errors)
        return np.array(errors) > threshold

    found = st.check_tail(exceeds, DELTA, alpha=cell.alpha, rng=cell.rng, max_draws=256)
    return found.but(
        note=f"{count} landmarks of {2 * n} points; largest error {largest / ridge:.2g} lambda",
        figure={"x": [0.5], "x_label": f"ε ({name}, {count} landmarks)"},
    )


def nearly_equal_points(cell: st.Cell) -> st.Evidence:
    """64 queries and 64 keys of norm about 0.04: fewer landmarks are asked for than there are points."""
    return _tail(cell, "nearly equal")


def no_ridge(cell: st.Cell) -> st.Evidence:
    """Twin: lambda = 0, up to rounding."""
    return _tail(cell, "nearly equal", ridged=False)


def a_hundredth_of_the_landmarks(cell: st.Cell) -> st.Evidence:
    """Twin: four pairs, with a hundredth of the landmarks."""
    return _tail(cell, "four pairs", share=0.01)


def _rate_of_failure(cell: st.Cell, law: str) -> st.Evidence:
    """How often |C - C~| > |C| / 2 for four pairs with eight landmarks of ``law``, against the coupon collector."""
    points = _sets()["four pairs"]
    g, known = _kappa(points), {}
    on_device, target = cell.asarray(g), float(_pairs_missed(4, 8))

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        failed = np.empty(size)
        for i in range(size):
            landmarks = st.draw_landmarks(4, 4, 8, rng, landmarks=law)
            key = tuple(np.unique(landmarks).tolist())
            if key not in known:
                error = g - st.to_host(st.nystrom_gram(on_device, landmarks))
                known[key] = _norm(error[:4, 4:]) > 0.5 * _norm(g[:4, 4:])
            failed[i] = known[key]
        return failed

    return st.check_mean(
        sample,
        target,
        margin=0.03,
        variance=target * (1 - target),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "rate of failure, four pairs, eight landmarks"})


def coupon_collector(cell: st.Cell) -> st.Evidence:
    """The rate of failure with landmarks drawn with replacement is that of the coupon collector, 0.377."""
    return _rate_of_failure(cell, "replacement")


def without_replacement(cell: st.Cell) -> st.Evidence:
    """Twin: eight landmarks without replacement are all points, and never fail."""
    return _rate_of_failure(cell, "uniform")


P28 = st.Proposition(
    id="P28",
    title="How many landmarks are enough for Skyformer",
    statement=r"If $c \ge (56/3)\, 2n\, l_{\max} \log(4n/\delta)$ landmarks are drawn uniformly with replacement, then "
    r"$\Pr[\,G - \tilde{G} \le \lambda I\,] \ge 1 - \delta$ in the Loewner order with $\lambda = \varepsilon \|C\|$, "
    r"and then $\|C - \tilde{C}\| \le \varepsilon \|C\|$.",
    hypotheses=(
        r"$G$, $C$, $\tilde{G}$, $\tilde{C}$ are those of P27, with $n$ queries and $n$ keys; $\varepsilon < 1$, $\delta < 1/2$",
        r"$l_{\max}$ is the largest diagonal entry of $G (G + \lambda I)^{-1}$ (the source's $\beta$ at its best)",
    ),
    source="Chen et al. (2021), Theorem 2 and its appendix (seen); it prints no constant, 56/3 is from its lemmas",
    expected="consistent",
    checks=[
        theorem_in_the_examples,
        one_sided_in_the_examples,
        scores_of_the_library,
        nearly_equal_points,
        coupon_collector,
    ],
    mutants=[
        half_for_56_thirds,
        dimension_for_coherence,
        no_ridge,
        a_hundredth_of_the_landmarks,
        without_replacement,
    ],
    cites=("chen2021skyformer",),
)
