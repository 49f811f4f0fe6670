r"""P39: "The error of a set of monomials is the sum of the scores left out, and best-first search leaves out the least." False.

    f(<x, y>) = sum_alpha c_alpha x^alpha y^alpha,    c_alpha = a_n n! / alpha!,    score_alpha = c_alpha^2 E x^(2 alpha) E_w y^(2 alpha)
    error(S) = E E_w (f(<x, y>) - sum_(alpha in S) c_alpha x^alpha y^alpha)^2

P39 claims, for a set S that holds with each monomial its parent (one coordinate of the largest index less): error(S) is the sum of
the scores not in S; search from the constant that always takes the largest score whose parent is taken leaves out the least sum
of all such sets of its size, hence the least error.

P39R: (1) error(S) = sum c_alpha c_beta E x^(alpha + beta) E_w y^(alpha + beta) over alpha, beta not in S. (2) Where the law of x, or that of
y, does not change if the sign of any one coordinate does, error(S) is at least the sum of the scores left out, and equal to it
if no two exponents left out have the same parities. (3) Where no score exceeds its parent's, best-first search takes the
D largest scores, and no D monomials, a tree or not, leave out a smaller sum; for exp that is so if |x_i| |y_i| <= 1 always.

Hypotheses: x and y independent (all pairs of queries and keys count). Without the signs of (2) cross terms have either sign. With them
independence of the coordinates adds nothing: 1 and x^2 are not orthogonal. Where (3) fails a small parent hides a large child.
Even where (2) and (3) hold, the D largest scores need not have the least error among trees of their size: cross terms add.

Source: none seen for the claim or the repair; the scores are what a greedy choice of Taylor monomials goes by.

Ideas of the proofs. (1) The square of a sum. (2) E x^gamma = 0 if some gamma_i is odd, else it and E y^gamma are at least 0; alpha + beta
is even throughout exactly where the parities agree. (3) The D largest, ties to the lower degree, hold their parents, and search finds
them. A child's score is E[x^(2 alpha) x_i^2] / E[x^(2 alpha)], the same of y, and 1 / (alpha_i + 1)^2 times its parent's for exp.

Checked exactly: all trees of monomials in two variables up to degree 3 (64 of 10 monomials) and for (3) all 2^9 sets with the constant, for
laws on few rational points: the error by its definition, each pair for itself. By sampling: the error of the library's features for
uniform coordinates, against (1). To rounding: that `choose_monomials` takes what search takes where scores fall, and leaves out less
where they do not. On activations: the mean square error over the sum of the scores left out; it decides nothing.

Not checked: optimality of what `choose_monomials` does where scores rise (it shares scores along paths; no claim is made).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

import schoenbat_theory as st


def _exp(degree: int) -> st.DotProductKernel:
    """The first terms of exp, up to ``degree``."""
    return st.DotProductKernel.from_coefficients(
        f"exp up to degree {degree}",
        lambda n: Fraction(1, math.factorial(n)) if n <= degree else 0,
        radius=math.inf,
    )


EXP3, EVERY = _exp(3), st.Monomials.up_to(3, 2)
ALPHA, PARENT = [tuple(alpha) for alpha in EVERY.exponents().tolist()], EVERY.parents.tolist()
COLUMNS = range(len(ALPHA))
SIZES = COLUMNS[1:]
Moment = Callable[[int, int], Fraction]
Points = Sequence[tuple[Fraction | int, Fraction | int]]
SETS = [(0, *rest) for size in COLUMNS for rest in itertools.combinations(SIZES, size)]  # all that hold the constant
TREES = [one for one in SETS if all(PARENT[a] in one for a in one[1:])]


def _left(kept: Iterable[int]) -> list[int]:
    return sorted(set(COLUMNS) - set(kept))


@dataclass
class Moments:
    """Independent x and y in the plane, by (i, j) -> E x_0^i x_1^j, and the same of y."""

    of_x: Moment
    of_y: Moment

    @functools.cached_property
    def cross(self) -> list[list[Fraction]]:
        """c_alpha c_beta E x^(alpha + beta) E y^(alpha + beta), of all pairs of columns."""
        size = [Fraction(1, math.factorial(i) * math.factorial(j)) for i, j in ALPHA]

        def term(a: int, b: int) -> Fraction:
            powers = ALPHA[a][0] + ALPHA[b][0], ALPHA[a][1] + ALPHA[b][1]
            return size[a] * size[b] * self.of_x(*powers) * self.of_y(*powers)

        return [[term(a, b) for b in COLUMNS] for a in COLUMNS]

    def score(self, a: int) -> Fraction:
        """The mean square of one term."""
        return self.cross[a][a]

    def predicted(self, kept: Iterable[int]) -> Fraction:
        """The cross terms of all that is left out."""
        left = _left(kept)
        return sum((self.cross[a][b] for a in left for b in left), Fraction(0))

    def sum_of_scores(self, kept: Iterable[int]) -> Fraction:
        """The diagonal of them alone."""
        return sum(map(self.score, _left(kept)), Fraction(0))

    def best_first(self, size: int) -> tuple[int, ...]:
        """Search from the constant, always the largest score on offer; ties to the first column."""
        kept = [0]
        while len(kept) < size:
            offered = [a for a in COLUMNS if a not in kept and PARENT[a] in kept]
            kept.append(max(offered, key=lambda a: (self.score(a), -a)))
        return tuple(sorted(kept))


class Law(Moments):
    """Independent x and y, uniform on points of the plane."""

    def __init__(self, x: Points, y: Points) -> None:
        def moment(points: Points) -> Moment:
            return lambda i, j: sum((Fraction(a) ** i * Fraction(b) ** j for a, b in points), Fraction(0)) / len(points)

        super().__init__(moment(x), moment(y))
        self.x, self.y = x, y

    @functools.cached_property
    def pairs(self) -> list[list[Fraction]]:
        """The terms c_alpha x^alpha y^alpha of each pair."""
        products = [(Fraction(x[0]) * y[0], Fraction(x[1]) * y[1]) for x, y in itertools.product(self.x, self.y)]
        return [[s**i * t**j / (math.factorial(i) * math.factorial(j)) for i, j in ALPHA] for s, t in products]

    def error(self, kept: Iterable[int]) -> Fraction:
        """The mean square of what is left out, by its definition."""
        left = _left(kept)
        return sum((sum((pair[a] for a in left), Fraction(0)) ** 2 for pair in self.pairs), Fraction(0)) / len(
            self.pairs
        )


def _signed(points: Points) -> Points:
    """The points with all signs."""
    return [(i * a, j * b) for a, b in points for i, j in st.sign_vectors(2).tolist()]


Q = Fraction(1, 4)
GENERIC = Law([(2 * Q, 3 * Q), (-Q, 3 * Q), (Q, -2 * Q), (Q, Q)], [(3 * Q, Q), (-2 * Q, Q), (Q, -3 * Q)])
SIGNED = Law(_signed([(2 * Q, 3 * Q), (4 * Q, Q)]), GENERIC.y)  # x_0, x_1 not independent, y without symmetry
HALVES = _signed([(Q, 2 * Q), (2 * Q, 2 * Q)])  # independent coordinates
ADDING = Law(HALVES, HALVES)
RARE = _signed([(4, 5 * Q), *[(0, 5 * Q)] * 15])  # x_0 is mostly 0: of score 1, its square of score 64
RISING = Law(RARE, RARE)
UNIFORM = Moments(*[lambda i, j: Fraction(i % 2 == j % 2 == 0, (i + 1) * (j + 1))] * 2)  # coordinates on [-1, 1]


def _is_error(law: Law, predicted: Callable[[Iterable[int]], Fraction]) -> st.Evidence:
    """Whether the error of each tree is what is predicted."""
    found = [(law.error(one), predicted(one)) for one in TREES]
    error, other = max(found, key=lambda pair: abs(pair[0] - pair[1]))
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
    return _is_error(GENERIC, GENERIC.predicted)


def no_cross_term(cell: st.Cell) -> st.Evidence:
    """Twin: the diagonal alone."""
    return sum_of_scores(cell)


def _search_is_best(
    law: Law, sets: Sequence[tuple[int, ...]], cost: Callable[[Iterable[int]], Fraction]
) -> st.Evidence:
    """Whether no set costs less than what best-first search finds of its size."""
    ratios = [cost(law.best_first(n)) / min(cost(one) for one in sets if len(one) == n) for n in SIZES]
    return st.decide(
        max(ratios) <= 1,
        because=f"all {len(sets) - 1} sets of 1 to {len(SIZES)} monomials with the constant, rational arithmetic",
        measured=float(max(ratios)),
        predicted=1.0,
        comparisons=len(ratios),
        note="largest ratio of what search leaves out to the least possible",
    )


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
        parities = [(i % 2, j % 2) for i, j in (ALPHA[a] for a in _left(one))]
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
    return [_signs(SIGNED).but(figure=figure), _signs(Law(SIGNED.y, SIGNED.x))]


def no_random_signs(cell: st.Cell) -> st.Evidence:
    """Without the hypothesis: points without symmetry."""
    del cell
    return _signs(GENERIC)


def _scores_fall(law: Law) -> st.Evidence:
    ratio = max(law.score(a) / law.score(PARENT[a]) for a in SIZES)
    return st.decide(
        ratio <= 1,
        because="every monomial of degree <= 3 against its parent, rational arithmetic",
        measured=float(ratio),
        predicted=1.0,
        comparisons=len(SIZES),
        note="largest score / parent's",
    )


def scores_fall(cell: st.Cell) -> list[st.Evidence]:
    """(3): scores of exp fall where |x_i| |y_i| <= 1."""
    del cell
    return [_scores_fall(law) for law in (GENERIC, SIGNED, ADDING)]


def scores_beyond_one(cell: st.Cell) -> st.Evidence:
    """Without the hypothesis: |x_0 y_0| = 16."""
    del cell
    return _scores_fall(RISING)


def _chosen(law: Law, size: int, weights: Sequence[float] | None = None) -> dict[int, float]:
    """The columns that `choose_monomials` takes, and their scores."""
    x, y = (np.array(points, dtype=float) for points in (law.x, law.y))
    found, scores = st.choose_monomials(EXP3, x, y, np.ones(len(y)) if weights is None else np.array(weights), size)
    columns = [ALPHA.index(tuple(alpha)) for alpha in found.exponents().tolist()]
    return dict(zip(columns, scores.tolist(), strict=True))


def _agrees(weights: Sequence[float] | None = None) -> st.Evidence:
    """Whether `choose_monomials` takes what search takes, of each size, with the same scores."""
    chosen = [_chosen(GENERIC, size, weights) for size in SIZES]
    same = all(tuple(sorted(one)) == GENERIC.best_first(len(one)) for one in chosen) and [*map(len, chosen)] == [*SIZES]
    gap = max(abs(Fraction(score) / GENERIC.score(a) - 1) for one in chosen for a, score in one.items())
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
    ratios = [left(_chosen(RISING, size)) / left(RISING.best_first(size)) for size in SIZES]
    return st.decide(
        max(ratios) <= 1 and min(ratios) < 1,
        kind="deterministic",
        because="exact sums for what was chosen in float64",
        measured=float(min(ratios)),
        predicted=1.0,
        comparisons=len(ratios),
        note="smallest ratio of the sums left out",
    )


def _sampled(cell: st.Cell, target: Callable[[Iterable[int]], Fraction]) -> st.Evidence:
    """The squared error of the library's features at random x, y; coordinates uniform on [-1, 1], four monomials kept."""
    kept = list(UNIFORM.best_first(4))
    column = {a: i for i, a in enumerate(kept)}
    chosen = st.Monomials(2, np.array([column.get(PARENT[a], -1) for a in kept]), EVERY.coordinates[kept])
    factors, error = chosen.factors(EXP3), float(UNIFORM.predicted(kept))

    def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        phi_x, phi_y = (st.to_host(chosen.apply(cell.asarray(z), factors)) for z in (x, y))
        return (EXP3.partial_sum(np.sum(x * y, axis=-1), 3) - np.sum(phi_x * phi_y, axis=-1)) ** 2

    nodes, weights = np.polynomial.legendre.leggauss(7)  # exact up to degree 13 in each of four coordinates
    grid = np.stack(np.meshgrid(*[nodes] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    weight = functools.reduce(np.multiply.outer, [weights / 2] * 4).reshape(-1)
    variance = float(weight @ squares(grid[:, :2], grid[:, 2:]) ** 2) - error**2
    return st.check_mean(
        lambda rng, size: squares(*rng.uniform(-1, 1, size=(2, size, 2))),
        float(target(kept)),
        margin=0.02 * error,
        variance=variance,
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(
        note=f"error {error:.4g}, sum of scores left out {float(UNIFORM.sum_of_scores(kept)):.4g}",
        figure={"label": "mean square error, four monomials"},
    )


def features_sampled(cell: st.Cell) -> st.Evidence:
    """(1) for the library's features, by sampling."""
    return _sampled(cell, UNIFORM.predicted)


def features_without_cross_terms(cell: st.Cell) -> st.Evidence:
    """Twin: the sum of the scores left out, for the same."""
    return _sampled(cell, UNIFORM.sum_of_scores)


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
        no_cross_term,
        no_random_signs,
        search_where_a_score_rises,
        scores_beyond_one,
        library_with_other_weights,
        features_without_cross_terms,
    ],
)
