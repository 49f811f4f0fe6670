r"""P39: "The error of a set of monomials is the sum of the scores left out, and best-first search leaves out the least." False.

    f(<x, y>) = sum_alpha c_alpha x^alpha y^alpha,    c_alpha = a_n n! / alpha!,    score_alpha = c_alpha^2 E x^(2 alpha) E_w y^(2 alpha)
    error(S) = E E_w (f(<x, y>) - sum_(alpha in S) c_alpha x^alpha y^alpha)^2

P39 claims, for a set S that holds with each monomial its parent (one coordinate of the largest index less): error(S) is the sum of
the scores not in S; search from the constant that always takes the largest score whose parent is taken leaves out the least sum
of all such sets, trees, of its size, hence the least error.

P39R: (1) error(S) = sum c_alpha c_beta E x^(alpha + beta) E_w y^(alpha + beta) over alpha, beta not in S. (2) Where the law of x, or that of
y, does not change if the sign of any one coordinate does, error(S) is at least the sum of the scores left out, and equal to it
if no two exponents left out have the same parities. (3) Where no score exceeds its parent's, best-first search takes the
D largest scores, and no D monomials, a tree or not, leave out a smaller sum; for exp that is so if |x_i| |y_i| <= 1 always.

Hypotheses: x and y independent (all pairs of queries and keys count); a_n >= 0. Without the signs of (2) cross terms have either sign;
with them independence of the coordinates adds nothing: 1 and x^2 are not orthogonal. Where (3) fails a small parent hides a large
child. Even where (2) and (3) hold, the D largest scores need not have the least error among trees of their size: cross terms add.

Source: none seen for the claim or the repair; the scores are what a greedy choice of Taylor monomials goes by.

Ideas of the proofs. (1) The square of a sum. (2) E x^gamma = 0 if some gamma_i is odd, else it and E y^gamma are at least 0; alpha + beta
is even throughout exactly where the parities agree. (3) Of the scores not yet taken the largest is on offer, or its first ancestor
that is not taken, which is no smaller. A child's score is its parent's times E[x^(2 alpha) x_i^2] / E[x^(2 alpha)], the same of y, and
1 / (alpha_i + 1)^2 for exp, alpha the parent's.

Checked exactly: all 64 trees of monomials in two variables up to degree 3, ten, and for (3) all 2^9 sets with the constant, for laws on
few rational points: the error by its definition, pair by pair. By sampling: the error of the library's features for uniform
coordinates, against (1). To rounding: that `choose_monomials` takes what search takes where scores fall, and leaves out less where
they do not. On activations: the mean square error over the sum of the scores left out; it decides nothing.

Not checked: optimality of what `choose_monomials` does where scores rise (it shares scores along paths; no claim is made).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st


def _exp(degree: int) -> st.DotProductKernel:
    """The first terms of exp, up to ``degree``."""
    return st.DotProductKernel.from_coefficients(
        f"exp up to degree {degree}", lambda n: Fraction(1, math.factorial(n)) if n <= degree else 0, radius=math.inf
    )


fractions = np.vectorize(Fraction, otypes=[object])
EXP3, EVERY = _exp(3), st.Monomials.up_to(3, 2)
ALPHA, PARENT = EVERY.exponents(), EVERY.parents.tolist()
COLUMNS = range(EVERY.n_features)
C = fractions([Fraction(1, math.prod(map(math.factorial, alpha))) for alpha in ALPHA.tolist()])  # a_n n! / alpha!
SIZES = COLUMNS[1:]
Points = Sequence[tuple[Fraction | int, Fraction | int]]
Set = tuple[int, ...]
SETS = [(0, *rest) for size in COLUMNS for rest in itertools.combinations(SIZES, size)]  # all that hold the constant
TREES = [one for one in SETS if all(PARENT[a] in one for a in one[1:])]


def _left(kept: Set) -> list[int]:
    return [a for a in COLUMNS if a not in kept]


class Law:
    """Independent x and y, uniform on points of the plane."""

    def __init__(self, x: Points, y: Points) -> None:
        self.points = [np.array(side, dtype=float) for side in (x, y)]
        self.x, self.y = (np.prod(fractions(side)[:, None] ** ALPHA.astype(object), axis=-1) for side in (x, y))
        self.cross = np.outer(C, C) * (self.x.T @ self.x / len(x)) * (self.y.T @ self.y / len(y))
        self.scores = np.diagonal(self.cross)

    def error(self, kept: Set) -> Fraction:
        """The mean square of what is left out, by its definition, pair by pair."""
        left = _left(kept)
        pairs = self.x[:, left] * C[left] @ self.y[:, left].T
        return Fraction((pairs**2).sum(), pairs.size)

    def cross_terms(self, kept: Set) -> Fraction:
        """(1): c_alpha c_beta E x^(alpha + beta) E y^(alpha + beta), summed over all pairs left out."""
        return Fraction(self.cross[np.ix_(_left(kept), _left(kept))].sum())

    def sum_of_scores(self, kept: Set) -> Fraction:
        """The diagonal of them alone."""
        return Fraction(self.scores[_left(kept)].sum())

    def best_first(self, size: int) -> Set:
        """Search from the constant, always the largest score on offer; ties to the first column."""
        kept = [0]
        while len(kept) < size:
            kept.append(max((a for a in _left(tuple(kept)) if PARENT[a] in kept), key=lambda a: (self.scores[a], -a)))
        return tuple(sorted(kept))


def _signed(points: Points) -> Points:
    """The points with all signs."""
    return [(i * a, j * b) for a, b in points for i, j in st.sign_vectors(2).tolist()]


Q = Fraction(1, 4)
FEW = [(3 * Q, Q), (-2 * Q, Q), (Q, -3 * Q)]  # no symmetry
GENERIC = Law([(2 * Q, 3 * Q), (-Q, 3 * Q), (Q, -2 * Q), (Q, Q)], FEW)
DEPENDENT = _signed([(2 * Q, 3 * Q), (4 * Q, Q)])  # coordinates that have random signs and are not independent
SIGNED, EXCHANGED = Law(DEPENDENT, FEW), Law(FEW, DEPENDENT)
HALVES = _signed([(Q, 2 * Q), (2 * Q, 2 * Q)])  # independent coordinates
ADDING = Law(HALVES, HALVES)
RARE = _signed([(4, 5 * Q), *[(0, 5 * Q)] * 15])  # x_0 is mostly 0: of score 1, its square of score 64
RISING = Law(RARE, RARE)


def _is_error(law: Law, predicted: Callable[[Set], Fraction]) -> st.Evidence:
    """Whether the error of each tree is what is predicted."""
    error, other = max(((law.error(one), predicted(one)) for one in TREES), key=lambda pair: abs(pair[0] - pair[1]))
    return st.decide(
        error == other,
        because=f"all {len(TREES)} trees of degree <= 3, d = 2, pair by pair, rational arithmetic",
        measured=float(error),
        predicted=float(other),
        comparisons=len(TREES),
        note="where they differ most",
    )


def sum_of_scores(cell: st.Cell) -> st.Evidence:
    """The error of every tree is the sum of the scores left out: four points and three."""
    del cell
    return _is_error(GENERIC, GENERIC.sum_of_scores)


def sum_of_scores_with_signs(cell: st.Cell) -> st.Evidence:
    """The same where coordinates are independent and have random signs."""
    del cell
    return _is_error(ADDING, ADDING.sum_of_scores)


def sum_for_dependent_coordinates(cell: st.Cell) -> st.Evidence:
    """Twin: the same where coordinates have random signs and are not independent."""
    del cell
    return _is_error(SIGNED, SIGNED.sum_of_scores)


def every_cross_term(cell: st.Cell) -> st.Evidence:
    """(1): the error of every tree from the moments, cross terms included."""
    del cell
    return _is_error(GENERIC, GENERIC.cross_terms)


def _at_most_one(ratios: Sequence[Fraction], because: str, note: str) -> st.Evidence:
    return st.decide(
        max(ratios) <= 1,
        because=f"{because}, rational arithmetic",
        measured=float(max(ratios)),
        predicted=1.0,
        comparisons=len(ratios),
        note=f"largest ratio of {note}",
    )


def _search_is_best(law: Law, sets: Sequence[Set], cost: Callable[[Set], Fraction]) -> st.Evidence:
    """Whether no set costs less than what best-first search finds of its size."""
    ratios = [cost(law.best_first(n)) / min(cost(one) for one in sets if len(one) == n) for n in SIZES]
    because = f"all {len(sets) - 1} sets of 1 to {len(SIZES)} monomials with the constant"
    return _at_most_one(ratios, because, "what search leaves out to the least possible")


def search_where_scores_rise(cell: st.Cell) -> st.Evidence:
    """Best-first search leaves out the least sum of all trees: x_0 has a small score, its square a large one."""
    del cell
    return _search_is_best(RISING, TREES, RISING.sum_of_scores)


def search_for_the_least_error(cell: st.Cell) -> st.Evidence:
    """Best-first search has the least error of all trees, for independent signed coordinates and scores that fall."""
    del cell
    return _search_is_best(ADDING, TREES, ADDING.error)


def search_where_scores_fall(cell: st.Cell) -> st.Evidence:
    """(3): no set of its size, of all 2^9 with the constant, leaves out less than best-first search."""
    del cell
    return _search_is_best(GENERIC, SETS, GENERIC.sum_of_scores)


def search_where_a_score_rises(cell: st.Cell) -> st.Evidence:
    """Without the hypothesis: a score above its parent's."""
    del cell
    return _search_is_best(RISING, SETS, RISING.sum_of_scores)


def _signs(law: Law) -> st.Evidence:
    """(2) for all trees: at least the sum, and equal where no two parities left out agree."""
    holds, more = True, 0
    for one in TREES:
        parities = [tuple(alpha % 2) for alpha in ALPHA[_left(one)]]
        error, total = law.error(one), law.sum_of_scores(one)
        holds &= error == total if len(set(parities)) == len(parities) else error >= total
        more += error > total
    return st.decide(
        holds,
        because=f"all {len(TREES)} trees, rational arithmetic",
        comparisons=len(TREES),
        note=f"{more} trees of {len(TREES)} err by more than the sum of the scores",
    )


def random_signs(cell: st.Cell) -> list[st.Evidence]:
    """(2): dependent coordinates of x with all signs, y without; and the two exchanged."""
    del cell
    kept = [SIGNED.best_first(size) for size in SIZES]
    figure = {
        "plot": "curves",
        "x": list(SIZES),
        "x_label": "monomials kept, of 10",
        "series": {
            "mean square error": [float(SIGNED.error(one)) for one in kept],
            "sum of the scores left out": [float(SIGNED.sum_of_scores(one)) for one in kept],
        },
        "y_label": "left out",
        "log_y": True,
    }
    return [_signs(SIGNED).but(figure=figure), _signs(EXCHANGED)]


def no_random_signs(cell: st.Cell) -> st.Evidence:
    """Without the hypothesis: points without symmetry."""
    del cell
    return _signs(GENERIC)


def _scores_fall(law: Law) -> st.Evidence:
    ratios = [law.scores[a] / law.scores[PARENT[a]] for a in SIZES]
    return _at_most_one(ratios, "every monomial of degree <= 3 against its parent", "a score to the parent's")


def scores_fall(cell: st.Cell) -> list[st.Evidence]:
    """(3): scores of exp fall where |x_i| |y_i| <= 1."""
    del cell
    return [_scores_fall(law) for law in (GENERIC, SIGNED, ADDING)]


def scores_beyond_one(cell: st.Cell) -> st.Evidence:
    """Without the hypothesis: |x_0 y_0| = 16."""
    del cell
    return _scores_fall(RISING)


def _chosen(law: Law, size: int, weights: Sequence[float] | None = None) -> tuple[Set, list[float]]:
    """The columns that `choose_monomials` takes, and their scores."""
    x, y = law.points
    found, scores = st.choose_monomials(EXP3, x, y, np.ones(len(y)) if weights is None else np.array(weights), size)
    return tuple(ALPHA.tolist().index(alpha) for alpha in found.exponents().tolist()), scores.tolist()


def _agrees(weights: Sequence[float] | None = None) -> st.Evidence:
    """Whether `choose_monomials` takes what search takes, of each size, with the same scores."""
    chosen = [_chosen(GENERIC, size, weights) for size in SIZES]
    same = [tuple(sorted(kept)) for kept, _ in chosen] == [GENERIC.best_first(size) for size in SIZES]
    gap = max(abs(Fraction(one) / GENERIC.scores[a] - 1) for pair in chosen for a, one in zip(*pair, strict=True))
    # The logarithm of a score is a sum of ten terms below 16, each to 2 u of itself; means of squares add 2 (3 n + 4) u.
    return st.decide(
        same and gap <= 346 * Fraction(1, 2**53),
        kind="deterministic",
        because="exact scores; rounding bounded",
        measured=float(gap),
        predicted=0.0,
        comparisons=len(chosen),
        note=f"largest relative difference of a score; the sets agree: {same}",
    )


def library_where_scores_fall(cell: st.Cell) -> st.Evidence:
    """`choose_monomials` takes what search takes, for 1 to 9 monomials, with the same scores."""
    del cell
    return _agrees()


def library_with_other_weights(cell: st.Cell) -> st.Evidence:
    """Twin: keys weighted otherwise."""
    del cell
    return _agrees([0.5, 0.25, 0.25])


def library_where_scores_rise(cell: st.Cell) -> st.Evidence:
    """`choose_monomials` leaves out no more than best-first search, for 1 to 9 monomials of which a score rises, and less for some."""
    del cell
    left = RISING.sum_of_scores
    ratios = [left(_chosen(RISING, size)[0]) / left(RISING.best_first(size)) for size in SIZES]
    return st.decide(
        max(ratios) <= 1 and min(ratios) < 1,
        kind="deterministic",
        because="exact sums for what was chosen in float64",
        measured=float(min(ratios)),
        predicted=1.0,
        comparisons=len(ratios),
        note="smallest ratio of the sums left out",
    )


def _sampled(cell: st.Cell, target: Callable[[Any], Any]) -> st.Evidence:
    """The squared error of the library's features, 1, x_0, x_1 and x_0 x_1, coordinates uniform on [-1, 1], against ``target``."""
    chosen = st.Monomials(2, np.array([-1, 0, 0, 1]), np.array([-1, 0, 1, 1]))
    factors, left = chosen.factors(EXP3), [a for a, alpha in enumerate(ALPHA.tolist()) if max(alpha) > 1]
    both = ALPHA[left] + ALPHA[left][:, None]
    moments = np.prod(np.where(both % 2, 0.0, 1 / (both + 1)), axis=-1)  # E x^(alpha + beta), the same of y
    cross = np.outer(C[left], C[left]).astype(float) * moments**2

    def squares(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = rng.uniform(-1, 1, size=(2, size, 2))
        phi_x, phi_y = (st.to_host(chosen.apply(cell.asarray(z), factors)) for z in (x, y))
        return (EXP3.partial_sum(np.sum(x * y, axis=-1), 3) - np.sum(phi_x * phi_y, axis=-1)) ** 2

    largest = float(sum(C[left])) ** 2  # at |x_i| = |y_i| = 1
    return st.check_mean(
        squares,
        float(target(cross)),
        margin=0.05 * float(cross.sum()),
        bounds=(0.0, largest),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(
        note=f"error {cross.sum():.4g}, sum of scores left out {np.trace(cross):.4g}",
        figure={"label": "mean square error, four monomials"},
    )


def features_sampled(cell: st.Cell) -> st.Evidence:
    """(1) for the library's features, by sampling."""
    return _sampled(cell, np.sum)


def features_without_cross_terms(cell: st.Cell) -> st.Evidence:
    """Twin: the sum of the scores left out, for the same."""
    return _sampled(cell, np.trace)


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Mean square error of degree 2 over the sum of the scores left out, 256 monomials of 561, recentred pre-scaled heads."""
    kernel, found = _exp(2), []
    for head in cell.heads:
        x, y, log_weights = st.recenter(st.pre_scale(head.q), st.pre_scale(head.k))
        weights = np.exp(log_weights) / np.sum(np.exp(log_weights))
        every, scores = st.choose_monomials(kernel, x, y, weights, 561)
        left = np.argsort(-scores, kind="stable")[256:]
        phi = [every.apply(z, every.factors(kernel))[:, left] for z in (x, y)]
        error = np.mean((phi[0] @ phi[1].T) ** 2 @ weights)
        found.append(
            st.observe(
                name=f"error / sum of scores left out: {head.name}",
                measured=float(error / np.sum(scores[left])),
                note="degree <= 2, 256 monomials of 561, unit norms, recentred",
            )
        )
    return found


P39 = st.Proposition(
    id="P39",
    title="The error of a set of monomials is the sum of the scores left out",
    statement=r"$\mathbb{E}\big(f(\langle x,y\rangle) - \sum_{\alpha \in S} c_\alpha x^\alpha y^\alpha\big)^2 = \sum_{\alpha \notin S} "
    r"c_\alpha^2\, \mathbb{E} x^{2\alpha}\, \mathbb{E}_w y^{2\alpha}$, $c_\alpha = a_n n!/\alpha!$, and best-first search from the constant finds the set "
    "closed under parents with the least error of its size.",
    hypotheses=("$x$ and $y$ are independent",),
    source="none seen; what a greedy choice of Taylor monomials supposes",
    expected="refuted",
    cites=("schoenbat_theory2026",),
    checks=[sum_of_scores, sum_of_scores_with_signs, search_where_scores_rise, search_for_the_least_error],
    mutants=[sum_for_dependent_coordinates],
)

P39R = st.Proposition(
    id="P39R",
    title="The error of a set of monomials, with its cross terms",
    statement=r"$\mathbb{E}\big(f(\langle x,y\rangle) - \sum_{\alpha \in S} c_\alpha x^\alpha y^\alpha\big)^2 = \sum_{\alpha, \beta \notin S} "
    r"c_\alpha c_\beta\, \mathbb{E} x^{\alpha+\beta}\, \mathbb{E}_w y^{\alpha+\beta}$. It is at least the sum of the scores left out where the signs of the "
    r"coordinates of $x$ or of $y$ are random, and equal to it if no two $\alpha, \beta \notin S$ have the same parities. Where no score exceeds its "
    r"parent's, best-first search leaves out the least sum of scores of all sets of its size; for $\exp$ it suffices that $|x_i y_i| \le 1$.",
    hypotheses=("$x$ and $y$ are independent", "each part has its own, named in it"),
    source="not in the literature seen; elementary",
    expected="consistent",
    cites=("schoenbat_theory2026",),
    checks=[
        every_cross_term,
        random_signs,
        search_where_scores_fall,
        scores_fall,
        library_where_scores_fall,
        library_where_scores_rise,
        features_sampled,
        on_activations,
    ],
    mutants=[
        sum_of_scores,
        no_random_signs,
        search_where_a_score_rises,
        scores_beyond_one,
        library_with_other_weights,
        features_without_cross_terms,
    ],
)
