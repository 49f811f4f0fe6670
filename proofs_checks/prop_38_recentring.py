r"""P38: "Recentring makes every degree smaller, and its random features less variable." True of degree 1, not of all.

With t = <q - c, k - m>, a mean over all pairs of a query and a key, keys with weights w:

    P38 claims   E t^2n and E (V^n - t^2n)  are at c = mean query, m = weighted mean key at most what they are without shifts

where V = |x|^2 |y|^2 + 2 <x, y>^2 - 2 sum_i x_i^2 y_i^2 and V^n - t^2n is the variance of one Rademacher feature of degree n (P05).
It is false from degree 2 on, and for degree 1 where the weights are those that the shift leaves:

    skewed queries      -2 once and 1 eight times, keys +-1: E t^4 rises from 8/3 to 152/27, because E q^3 = 0 already
    symmetric queries   (2, 0) and (0, -1/2), keys +-(1, 0): the variance at degree 2 rises from 1/32 to 33/256
    weights that move   keys 0 and 1 with weights 64/65 and 1/65, mean query log 64, variance 4: both weights become 1/2, and E t^2
                        rises from less than 1/3 to 1

P38R, for weights that are held fixed. Let a = mean query - c, b = mean key - m, and S, T the covariances of queries and keys:

    E t^2 = tr[(S + a a^T) (T + b b^T)] = tr(S T) + a^T T a + b^T S b + <a, b>^2                       least at a = b = 0
    V - t^2 = sum_(i<j) (x_i y_j + x_j y_i)^2,  a sum of squares of bilinear forms,  E (V - t^2) likewise  least at a = b = 0

and for all n, E t^2n and E V^n are least at a = b = 0 where queries and keys are symmetric about their means. (Their difference need
not be, by the second example.) Nothing here says that c at the mean query is best once weights move with it: `recenter`
therefore tries shares of it.

Hypotheses of P38R: weights do not depend on c; for n >= 2 both sides are symmetric about their means.

Source: derived here; not in the sources seen.

Idea of proof: for a bilinear form l, E l(x + a, y + b)^2 = E l(x, y)^2 + E l(a, y)^2 + E l(x, b)^2 + l(a, b)^2 if x and y are centred
and independent. With y fixed t^2 and V are positive semidefinite quadratic forms of x, so that t^2n and V^n are even and convex,
and E g(x + a) = E [g(x + a) + g(-x + a)] / 2 >= E g(x) for symmetric x. First for x, then for y.

Checked exactly, in rational arithmetic: the three counterexamples (log 64 < 21/5 by partial sums of e^(21/5)); both
identities of degree 1; E t^2n and E V^n, n <= 3, on symmetric sets against shifted ones. Data: what recentring makes of E t^2, E t^4 and
the variance at degree 2 on real heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

fractions = np.vectorize(Fraction, otypes=[object])
Quantity = Callable[[Any, Any], Any]  # x (n, 1, d), y (1, m, d) -> (n, m)


def _inner(x: Any, y: Any) -> Any:
    return (x * y).sum(axis=-1)


def _second_moment(x: Any, y: Any) -> Any:
    return _inner(x, x) * _inner(y, y) + 2 * _inner(x, y) ** 2 - 2 * _inner(x * x, y * y)


def _square(degree: int) -> Quantity:
    return lambda x, y: _inner(x, y) ** (2 * degree)


def _moment(degree: int) -> Quantity:
    return lambda x, y: _second_moment(x, y) ** degree


def _variance(degree: int) -> Quantity:
    return lambda x, y: _second_moment(x, y) ** degree - _inner(x, y) ** (2 * degree)


def _mean(quantity: Quantity, q: Any, k: Any, weights: Any) -> Any:
    """The mean over all pairs of a query and a weighted key."""
    return (quantity(q[:, None], k[None]) @ weights).sum() / len(q)


def _centred(q: Any, k: Any, weights: Any) -> tuple[Any, Any]:
    return q - q.sum(axis=0) / len(q), k - weights @ k


def _reduced(quantity: Quantity, q: Any, k: Any) -> st.Evidence:
    """Whether ``quantity`` is at most as large around the means as it is for the rational q and k, keys of one weight."""
    q, k = fractions(np.array(q)), fractions(np.array(k))
    weights = fractions(np.ones(len(k), dtype=int)) / len(k)
    before, after = (_mean(quantity, *pair, weights) for pair in ((q, k), _centred(q, k, weights)))
    return st.decide(
        after <= before,
        because="all pairs in rational arithmetic",
        measured=float(after),
        predicted=float(before),
        note=f"{before} without shifts, {after} around the means",
    )


SKEWED = [[-2]] + 8 * [[1]]
TURNED = [[Fraction(2), Fraction(0)], [Fraction(0), Fraction(-1, 2)]]


def skewed_queries(cell: st.Cell) -> st.Evidence:
    """E t^4: 8/3 becomes 152/27."""
    del cell
    return _reduced(_square(2), SKEWED, [[1], [-1]])


def symmetric_queries(cell: st.Cell) -> st.Evidence:
    """The variance at degree 2: 1/32 becomes 33/256, with queries symmetric about their mean."""
    del cell
    return _reduced(_variance(2), TURNED, [[1, 0], [-1, 0]])


def weights_that_move(cell: st.Cell) -> st.Evidence:
    """E t^2 with keys 0 and 1 at weights 64/65 and 1/65: below 1/3 as given, and 1 at c = mean query = log 64, variance 4."""
    del cell
    limit, small = Fraction(21, 5), Fraction(1, 65)
    term, total = Fraction(1), Fraction(0)
    for n in range(12):
        total, term = total + term, term * limit / (n + 1)
    if total <= 64:
        raise ArithmeticError("log 64 is not below 21/5 by twelve terms")
    before, after = (4 + limit**2) * small, 4 * Fraction(1, 2) ** 2
    return st.decide(
        after <= before,
        because="rational arithmetic, log 64 from above",
        measured=float(after),
        predicted=float(before),
        note=f"at most {float(before):.4f} without shifts, {after} around the means",
    )


def skewed_keys(cell: st.Cell) -> st.Evidence:
    """Twin: the same for skewed keys."""
    del cell
    return _reduced(_square(2), [[1], [-1]], SKEWED)


def skewed_at_degree_three(cell: st.Cell) -> st.Evidence:
    """Twin: degree 3, where E q^5 = 0 in place of E q^3: -2 once and 1 thirty-two times."""
    del cell
    return _reduced(_square(3), [[-2]] + 32 * [[1]], [[1], [-1]])


def _rationals(rng: np.random.Generator, *shape: int) -> Any:
    return fractions(rng.integers(-6, 7, shape)) / 2


def _excess(quantity: Quantity, claimed: Callable[..., Any]) -> st.Evidence:
    """E quantity at random shifts less that around the means, against ``claimed``(a, b, S, T): 60 rational sets, d = 3."""
    rng, wrong, sets = np.random.default_rng(38), 0, 60
    for _ in range(sets):
        q, k, weights = _rationals(rng, 4, 3), _rationals(rng, 5, 3), fractions(rng.integers(1, 6, 5))
        weights = weights / weights.sum()
        x, y = _centred(q, k, weights)
        a, b = _rationals(rng, 2, 3)
        found = _mean(quantity, x + a, y + b, weights) - _mean(quantity, x, y, weights)
        excess = claimed(a, b, x.T @ x / len(x), (y.T * weights) @ y)
        wrong += found != excess or excess < 0
    return st.decide(
        wrong == 0,
        because="all pairs in rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=sets,
        note=f"{wrong} of {sets} sets disagree",
    )


def _excess_of_square(a: Any, b: Any, s: Any, t: Any) -> Any:
    return a @ t @ a + b @ s @ b + (a @ b) ** 2


def _excess_of_variance(a: Any, b: Any, s: Any, t: Any) -> Any:
    """The sum over i < j of E l(a, y)^2 + E l(x, b)^2 + l(a, b)^2, l(x, y) = x_i y_j + x_j y_i."""

    def swapped(u: Any, c: Any, i: int, j: int) -> Any:
        return u[i] ** 2 * c[j, j] + u[j] ** 2 * c[i, i] + 2 * u[i] * u[j] * c[i, j]

    return sum(
        swapped(a, t, i, j) + swapped(b, s, i, j) + (a[i] * b[j] + a[j] * b[i]) ** 2
        for i, j in itertools.combinations(range(len(a)), 2)
    )


def mean_square_of_degree_one(cell: st.Cell) -> st.Evidence:
    """E t^2 exceeds its least value by a^T T a + b^T S b + <a, b>^2."""
    del cell
    return _excess(_square(1), _excess_of_square)


def variance_of_degree_one(cell: st.Cell) -> st.Evidence:
    """E (V - t^2) exceeds its least value by a sum of squares."""
    del cell
    return _excess(_variance(1), _excess_of_variance)


def product_of_means_left_out(cell: st.Cell) -> st.Evidence:
    """<a, b>^2 dropped."""
    del cell
    return _excess(_square(1), lambda a, b, s, t: a @ t @ a + b @ s @ b)


def sides_exchanged(cell: st.Cell) -> st.Evidence:
    """a^T S a + b^T T b + <a, b>^2."""
    del cell
    return _excess(_square(1), lambda a, b, s, t: _excess_of_square(a, b, t, s))


def _least_at_the_centre(quantities: Sequence[Quantity], sets: Iterable[Sequence[Any]]) -> st.Evidence:
    """No shift a of x, b of y, nor both, makes the mean of one of ``quantities`` smaller, for all (x, y, a, b) of ``sets``."""
    smaller, cases = 0, 0
    for x, y, a, b in sets:
        weights = fractions(np.ones(len(y), dtype=int)) / len(y)
        for quantity in quantities:
            least = _mean(quantity, x, y, weights)
            shifted = [_mean(quantity, x + c, y + m, weights) for c, m in ((a, b), (a, 0 * b), (0 * a, b))]
            smaller, cases = smaller + sum(one < least for one in shifted), cases + len(shifted)
    return st.decide(
        smaller == 0,
        kind="deterministic",
        because="search over sets in rational arithmetic; by convexity for all",
        measured=float(smaller),
        predicted=0.0,
        comparisons=cases,
        note=f"{smaller} of {cases} become smaller",
    )


def symmetric_sides(cell: st.Cell) -> st.Evidence:
    """E t^2n and E V^n, n = 1, 2, 3: 40 integer sets of four queries and six keys, d = 2."""
    del cell
    rng = np.random.default_rng(83)
    integers = (rng.integers(-6, 7, (7, 2)).astype(object) for _ in range(40))
    halves = ((rows[:2], rows[2:5], *rows[5:]) for rows in integers)
    sets = [(np.concatenate([x, -x]), np.concatenate([y, -y]), a, b) for x, y, a, b in halves]
    return _least_at_the_centre([make(n) for make in (_square, _moment) for n in (1, 2, 3)], sets)


def _example(quantity: Quantity, queries: Any, keys: Any) -> st.Evidence:
    """The queries of P38 around their mean, and shifted back to where they were."""
    queries, keys = fractions(np.array(queries)), fractions(np.array(keys))
    mean = queries.sum(axis=0) / len(queries)
    return _least_at_the_centre([quantity], [(queries - mean, keys, mean, 0 * keys[0])])


def skewed_side(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: E t^4 with skewed queries."""
    del cell
    return _example(_square(2), SKEWED, [[1], [-1]])


def difference_of_both(cell: st.Cell) -> st.Evidence:
    """E (V^2 - t^4) in place of E V^2 and E t^4, with symmetric queries."""
    del cell
    return _example(_variance(2), TURNED, [[1, 0], [-1, 0]])


def real_heads(cell: st.Cell) -> list[st.Evidence]:
    """E t^2, E t^4 and the mean variance at degree 2, keys weighted as c = mean query leaves them: around the means over without shifts."""
    found, ratios = [], dict[str, list[float]]()
    for head in cell.heads:
        q, k = (x / head.q.shape[1] ** 0.25 for x in (head.q, head.k))
        logits = k @ q.mean(axis=0)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        moved = _centred(q, k, weights)
        for name, degree, which in (
            ("⟨x, y⟩²", 1, _square_of),
            ("⟨x, y⟩⁴", 2, _square_of),
            ("variance, degree 2", 2, _variance_of),
        ):
            before, after = (float((which(x, y, degree) @ weights).mean()) for x, y in ((q, k), moved))
            ratios.setdefault(name, []).append(after / before)
            found.append(st.observe(name=f"{name}, recentred over given: {head.name}", measured=after / before))
    if found:
        figure = {
            "plot": "bars",
            "title": "what recentring leaves of a mean over pairs",
            "names": [head.name for head in cell.heads],
            "series": ratios,
            "y_label": "recentred / as given",
        }
        found[0] = found[0].but(figure=figure)
    return found


def _square_of(x: Any, y: Any, degree: int) -> Any:
    return (x @ y.T) ** (2 * degree)


def _variance_of(x: Any, y: Any, degree: int) -> Any:
    t, sizes = x @ y.T, np.sum(x**2, axis=1)[:, None] * np.sum(y**2, axis=1)
    return (sizes + 2 * t**2 - 2 * (x**2) @ (y**2).T) ** degree - t ** (2 * degree)


P38 = st.Proposition(
    id="P38",
    title="Recentring makes every degree smaller, and its random features less variable",
    statement=r"With $t = \langle q - c, k - m\rangle$, $\mathbb{E}\, t^{2n}$ and $\mathbb{E}\,(V^n - t^{2n})$ are at $c = \bar q$, $m = \sum_j w_j k_j$ "
    r"at most what they are at $c = m = 0$, for every $n \ge 1$, also where the weights $w$ are those that $c$ leaves.",
    hypotheses=(),
    source="what one expects of recentring; not in the sources seen",
    expected="refuted",
    checks=[skewed_queries, symmetric_queries, weights_that_move],
    mutants=[skewed_keys, skewed_at_degree_three],
    cites=("kar2012random",),
)

P38R = st.Proposition(
    id="P38R",
    title="It does so at degree 1 for fixed weights, and at all degrees for symmetric tokens",
    statement=r"For fixed weights $\mathbb{E}\,t^2 = \mathrm{tr}[(S + aa^\top)(T + bb^\top)]$ and $\mathbb{E}\,(V - t^2)$ are least at $a = \bar q - c = 0$, "
    r"$b = \bar k_w - m = 0$; $\mathbb{E}\,t^{2n}$ and $\mathbb{E}\,V^n$ are so for every $n$ where both sides are symmetric about their means.",
    hypotheses=("weights do not depend on $c$", r"for $n \ge 2$: queries and keys are symmetric about their means"),
    source="derived here; not in the sources seen",
    expected="consistent",
    cites=("schoenbat_theory2026", "kar2012random"),
    checks=[mean_square_of_degree_one, variance_of_degree_one, symmetric_sides, real_heads],
    mutants=[product_of_means_left_out, sides_exchanged, skewed_side, difference_of_both],
)
