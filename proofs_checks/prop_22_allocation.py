r"""P22: Which number of features of each degree has the smallest variance.

    Var  =  sum_n c_n / D_n,     c_n = a_n^2 v_n,     v_n = V^n - <x, y>^2n,     sum_n D_n = D

with D_n independent Rademacher features of degree n, V = E <w,x>^2 <w,y>^2 (P03); for several pairs v_n is their mean.

    (1) for real D_n >= 0 the least value is (sum_n sqrt c_n)^2 / D, at D_n proportional to sqrt c_n = a_n sqrt v_n
    (2) for integers: begin with one feature of each degree with c_n > 0, and give each further one to a degree with the
        largest gain c_n / (D_n (D_n + 1)). With P degrees the value is at most (sum_n sqrt c_n)^2 / (D - P)
    (3) random degrees with probabilities q_n never have a smaller variance than counts D_n = q_n D: they add

            (1/D) [ sum_n a_n^2 t^2n / q_n - (sum_n a_n t^n)^2 ]  >=  0,      t = <x, y>

The degree 0 has v_0 = 0: one feature is exact, more are wasted. So have all degrees where V = t^2.

Source: Wacker, Kanagawa & Filippone (2024; abstract and released code seen) choose counts greedily. (1) is Neyman's
allocation of strata (1934, from memory); (2), (3) and the sandwich are derived here.

Proof. (1) Cauchy-Schwarz: (sum sqrt c_n)^2 <= (sum c_n / D_n) (sum D_n). (2) Gains of one degree fall. Any counts
take from each degree its first gains; of all sets of D - P gains the greedy one is the largest that there is. At
least as good are the counts ceil((D - P) sqrt c_n / sum sqrt c), which add up to at most D. (3) Cauchy-Schwarz again,
with weights q_n; equality if a_n t^n is proportional to q_n.

Checked exactly: (1) where sqrt c_n are integers; (2) `st.allocate` against all compositions; (3) by enumeration of
all degrees and all signs. By search: `FixedDegrees.optimal` against all counts, by the library's own closed forms. By
sampling: squared errors with such counts. Data: what they save on real heads.

Not checked: how much of it is lost when pairs of other data choose the counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

Counts = tuple[int, ...]


def _compositions(total: int, parts: int) -> Iterator[Counts]:
    """All ways to write ``total`` as a sum of ``parts`` positive integers."""
    for cuts in itertools.combinations(range(1, total), parts - 1):
        yield tuple(b - a for a, b in itertools.pairwise((0, *cuts, total)))


def _value(costs: Sequence[int], counts: Sequence[int]) -> Fraction:
    """The sum of c_n / D_n; a degree without cost needs no feature."""
    return sum((Fraction(c, n) for c, n in zip(costs, counts, strict=True) if c), Fraction(0))


def _decide(wrong: int, cases: int, because: str, **found: Any) -> st.Evidence:
    note = f"{wrong} of {cases:,} cases differ"
    return st.decide(
        wrong == 0, because=because, measured=float(wrong), predicted=0.0, comparisons=cases, note=note, **found
    )


def _optimal(choose: Callable[[Sequence[int], int], Sequence[int]]) -> st.Evidence:
    """Counts that ``choose`` gives against all compositions: costs of {0, 1, 2, 9, 100}^3, one of them positive, D <= 9."""
    wrong = cases = 0
    for costs in itertools.product((0, 1, 2, 9, 100), repeat=3):
        positive = [c for c in costs if c]
        for total in range(max(len(positive), 1), 10 if positive else 0):
            counts = tuple(choose(costs, total))
            best = min(_value(positive, other) for other in _compositions(total, len(positive)))
            proper = sum(counts) == total and all((n > 0) == (c > 0) for n, c in zip(counts, costs, strict=True))
            wrong, cases = wrong + (not proper or _value(costs, counts) != best), cases + 1
    return _decide(wrong, cases, "all compositions, rational arithmetic")


def greedy_counts(cell: st.Cell) -> st.Evidence:
    """`st.allocate` against brute force, ties and degrees without cost among them."""
    del cell
    return _optimal(lambda costs, total: st.allocate(costs, total))


def root_forgotten(cell: st.Cell) -> st.Evidence:
    """Counts in proportion to c_n in place of their roots."""
    del cell
    return _optimal(lambda costs, total: st.allocate([c * c for c in costs], total))


def _sandwich(upper: Callable[[int, int], int]) -> st.Evidence:
    """(sum sqrt c)^2 / D <= least value <= (sum sqrt c)^2 / upper(D, P), with equality below where the quotas are integers."""
    wrong = cases = 0
    for roots in itertools.product((1, 2, 3, 5), repeat=3):
        costs, whole = [r * r for r in roots], sum(roots)
        for total in (4, 6, 9, 12, 2 * whole):
            least = min(_value(costs, counts) for counts in _compositions(total, 3))
            low, high = Fraction(whole**2, total), Fraction(whole**2, upper(total, 3))
            exact = total % whole != 0 or least == low
            wrong, cases = wrong + (not (low <= least <= high and exact)), cases + 1
    return _decide(wrong, cases, "all compositions, rational arithmetic; all others by the proof in the file")


def proportional_to_roots(cell: st.Cell) -> st.Evidence:
    """The least value between its bounds, and equal to the lower one where D_n proportional to sqrt c_n are integers."""
    del cell
    return _sandwich(lambda total, parts: total - parts)


def no_price_for_integers(cell: st.Cell) -> st.Evidence:
    """The upper bound without its - P: as if all counts could be had."""
    del cell
    return _sandwich(lambda total, parts: total)


def _outcomes(a: Fraction, degree: int, x: np.ndarray, y: np.ndarray) -> tuple[Fraction, Fraction]:
    """Variance and second moment of a prod <w,x> <w,y>, one feature of that degree without its 1/q, over all signs."""
    w = st.sign_vectors(x.size)
    found = [a * math.prod(z) for z in itertools.product([int(z) for z in (w @ x) * (w @ y)], repeat=degree)]
    mean, second = (sum((z**power for z in found), Fraction(0)) / len(found) for power in (1, 2))
    return second - mean**2, second


def _random_degrees(extra_of_degrees: bool) -> st.Evidence:
    """One random feature against counts q_n D: exp up to degree 2, all degrees and all signs, d = 2, at every D alike."""
    law, a = (Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)), (Fraction(1), Fraction(1), Fraction(1, 2))
    wrong = cases = 0
    for x, y in itertools.product(itertools.product((-2, 0, 1, 3), repeat=2), repeat=2):
        t, parts = int(np.dot(x, y)), [_outcomes(a[n], n, np.array(x), np.array(y)) for n in range(3)]
        mean = sum((a[n] * t**n for n in range(3)), Fraction(0))
        fixed, second, extra = (
            sum((value / q for value, q in zip(values, law, strict=True)), Fraction(0))
            for values in (*zip(*parts, strict=True), [(a[n] * t**n) ** 2 for n in range(3)])
        )
        extra -= mean**2
        wrong += second - mean**2 != fixed + extra * extra_of_degrees or extra < 0
        cases += 1
    return _decide(wrong, cases, "all degrees and all signs, rational arithmetic")


def fixed_counts_against_random_degrees(cell: st.Cell) -> st.Evidence:
    """What random degrees add is as claimed, and never negative."""
    del cell
    return _random_degrees(True)


def degrees_cost_nothing(cell: st.Cell) -> st.Evidence:
    """Random degrees claimed to be as good as counts."""
    del cell
    return _random_degrees(False)


def _pairs(n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Pairs near one axis, norm 0.8: V is near <x, y>^2, so that higher degrees are worth a feature; both signs of <x, y>."""
    near = np.eye(3)[0] + 0.2 * np.random.default_rng(22).normal(size=(2, n, 3))
    x, y = 0.8 * near / np.linalg.norm(near, axis=-1, keepdims=True)
    return x, y * (-1.0) ** np.arange(n)[:, None]


def _error(law: st.RandomMaclaurin, x: Any, y: Any) -> float:
    """Mean over the pairs of variance plus squared bias, by the library's closed forms."""
    bias = st.to_host(law.mean(x, y)) - st.to_host(law.target(x, y))
    return float(np.mean(st.to_host(law.variance(x, y)) + bias**2))


def best_of_all_counts(cell: st.Cell) -> st.Evidence:
    """`FixedDegrees.optimal` against all counts with one feature of degree 0, three kernels, D = 4, 7 and 9."""
    x, y = (cell.asarray(z) for z in _pairs())
    worst, cases = 0.0, 0
    for kernel, width in itertools.product(("exp", "inv", "sqrt"), (4, 7, 9)):
        chosen = st.FixedDegrees.optimal(kernel, width, x, y)
        found = _error(st.RandomMaclaurin(kernel, width, chosen), x, y)
        others = [
            _error(st.RandomMaclaurin(kernel, width, (1, *rest)), x, y)
            for top in range(1, width)
            for rest in _compositions(width - 1, top)
        ]
        worst, cases = max(worst, found / min(others) - 1), cases + len(others)
    # Positive sums of at most 9 terms, each of powers up to 9 of rounded sums, but for V^n - t^2n, which loses at most
    # the ratio of both: below 2^10 on these pairs.
    return st.decide(
        worst <= 2.0**-53 * 2**20,
        kind="deterministic",
        because="search over all counts; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=cases,
        note=f"relative excess over the best of all counts {worst:.2g}",
    )


def _sampled(cell: st.Cell, per_degree: Callable[[st.RandomMaclaurin], np.ndarray]) -> st.Evidence:
    """Squared errors with eight features at the counts chosen for two pairs, one by one."""
    x, y = _pairs(2)
    counts = st.FixedDegrees.optimal("exp", 8, x, y).counts
    law = st.RandomMaclaurin("exp", 8, counts)
    mean, target = law.mean(x, y), per_degree(law)
    l1 = np.abs(x).sum(axis=1) * np.abs(y).sum(axis=1)
    bound = (np.max([np.exp(l1), np.abs(mean)], axis=0) + np.abs(mean)).max() ** 2  # |est| <= sum a_n (|x|_1 |y|_1)^n
    on_device = cell.asarray(x), cell.asarray(y)

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        return (st.to_host(law.estimates(*on_device, rng=rng, size=size)) - mean) ** 2

    return st.check_mean(
        sample,
        target,
        margin=0.15 * target,
        bounds=(0.0, float(bound)),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "squared error of eight features"}, note=f"counts {', '.join(map(str, counts))}")


def sampled_counts(cell: st.Cell) -> st.Evidence:
    """Squared errors of the chosen counts against sum c_n / D_n."""
    x, y = _pairs(2)
    return _sampled(cell, lambda law: st.to_host(law.variance(x, y)))


def means_not_subtracted(cell: st.Cell) -> st.Evidence:
    """The sum of a_n^2 V^n / D_n, as for random degrees: the squared means are still in it."""
    x, y = _pairs(2)

    def second_moments(law: st.RandomMaclaurin) -> np.ndarray:
        assert isinstance(law.degrees, st.FixedDegrees)
        counts = np.array(law.degrees.counts)
        a = law.kernel.coefficients(counts.size - 1)
        return np.sum(a**2 / counts * st.rademacher_moment(x, y)[:, None] ** np.arange(counts.size), axis=1)

    return _sampled(cell, second_moments)


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Root mean squared error at 512 pairs of the given heads, pre-scaled, exp: counts chosen for them, and random degrees."""
    found, widths = [], (64, 128, 256, 512, 1024)
    laws = {"chosen counts": "", "geometric degrees": "geometric", "released degrees": "released", "H0/1": "h01"}
    for head in cell.heads:
        q, k = st.prepare(head.q, head.k)
        i, j = cell.rng.integers(len(q), size=(2, 512))
        curves: dict[str, list[float]] = {name: [] for name in laws}
        for width, (name, law) in itertools.product(widths, laws.items()):
            degrees = law or st.FixedDegrees.optimal("exp", width, q[i], k[j])
            curves[name].append(math.sqrt(_error(st.RandomMaclaurin("exp", width, degrees), q[i], k[j])))
        chosen = st.FixedDegrees.optimal("exp", 256, q[i], k[j]).counts
        found += [
            st.observe(
                name=f"error of chosen counts over that of {other} at D = 256: {head.name}",
                measured=curves["chosen counts"][2] / curves[other][2],
                note=f"root mean square over 512 pairs, pre-scaled; counts {', '.join(map(str, chosen))}",
            )
            for other in ("geometric degrees", "released degrees", "H0/1")
        ]
        if len(found) == 3:
            figure = {
                "plot": "curves",
                "title": "Error of one weight by law of degrees",
                "caption": f"Root mean squared error of one weight of {head.name}, pre-scaled, exp. H0/1 takes the constant and the linear "
                "part exactly and spends the rest on random degrees from 2 on.",
                "x": list(widths),
                "series": curves,
                "x_label": "features D",
                "y_label": "root mean squared error",
                "log_x": True,
                "log_y": True,
            }
            found[0] = found[0].but(figure=figure)
    return found


P22 = st.Proposition(
    id="P22",
    title="Which counts of features per degree have the least variance",
    statement=r"The variance $\sum_n c_n / D_n$, $c_n = a_n^2 v_n$, $\sum_n D_n = D$, is at least $(\sum_n \sqrt{c_n})^2 / D$, attained at $D_n \propto \sqrt{c_n} = a_n \sqrt{v_n}$; "
    r"over integers the greedy rule attains the minimum, which is at most $(\sum_n \sqrt{c_n})^2 / (D - P)$ for $P$ degrees. Random degrees "
    r"never have a smaller variance than the same counts fixed.",
    hypotheses=(
        "features of different degrees are independent",
        r"$v_n = V^n - \langle x, y\rangle^{2n}$: what is left of the second moment when counts are fixed",
    ),
    source="greedy counts: Wacker, Kanagawa & Filippone (2024; abstract and code seen); the rest is derived here",
    expected="consistent",
    checks=[
        greedy_counts,
        proportional_to_roots,
        fixed_counts_against_random_degrees,
        best_of_all_counts,
        sampled_counts,
        on_activations,
    ],
    mutants=[root_forgotten, no_price_for_integers, degrees_cost_nothing, means_not_subtracted],
    cites=("wacker2024improved", "kar2012random", "neyman1934two"),
)
