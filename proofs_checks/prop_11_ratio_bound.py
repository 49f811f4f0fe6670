r"""P11: a deterministic bound for the attention ratio: small errors of the weights are a small error of the output.

    R = sum_j k^_j v_j / sum_j k^_j,    r = sum_j k_j v_j / sum_j k_j,    kbar = mean_j k_j > 0,    Dv = mean_j ||v_j - r||

    |k^_j - k_j| <= eps < kbar for all j          =>   ||R - r|| <= eps Dv / (kbar - eps)                       (additive)
    |k^_j - k_j| <= eps < k_min for all j         =>   ||R - r|| <= 2 eps max_j ||v_j|| / (k_min - eps)         (weaker)
    |k^_j - k_j| <= eta k_j, eta < 1, for all j   =>   ||R - r|| <= eta / (1 - eta) sum_j w_j ||v_j - r||       (multiplicative)

in any norm, w_j = k_j / sum_l k_l the exact attention. Nothing is random here: k^_j may come from any method.

Hypotheses: kbar > 0 and eps < kbar; k_j > 0 for the multiplicative form. From eps = 2 kbar on, R can be any number.

Source: not in the sources seen.

Proof. sum_j k_j (v_j - r) = 0, so R - r = sum_j (k^_j - k_j) (v_j - r) / sum_j k^_j; the numerator is at most n eps Dv and the
denominator at least n (kbar - eps). For the weaker form, Dv <= 2 max ||v_j|| and kbar >= k_min. The multiplicative form is alike.
Is it attained? Not with Dv > 0 and scalar values: it would take k^_j = k_j - eps for all j and one sign of all v_j - r, whose mean is 0.
But one key against many, equal weights, comes as close as one likes: no smaller constant will do.

Checked exactly: all signs of the errors for 2 to 8 random keys with integer weights and values in two dimensions, sup norm, in integers. A
coordinate of R is a quotient of affine functions and the denominator is positive, so that its extremes over the box of errors are at the
corners: each instance is decided for every error, the search is over instances only. The nearly attained case and the broken
hypothesis in rational arithmetic; the library's two functions. On given activations: error over bound.

Not checked: other norms (the proof uses the triangle inequality alone).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

PERCENT = (1, 5, 10, 25, 50, 75, 90, 99)  # of the largest error that the hypothesis allows


class Instance:
    """Integer weights k (m,), values v (m, c), their exact attention and distances from it in the sup norm."""

    def __init__(self, rng: np.random.Generator, m: int) -> None:
        self.k, self.v = rng.integers(1, 100, m), rng.integers(-20, 21, (m, 2))
        self.v[0] = 21  # so that no spread is 0
        self.m, self.total = m, int(self.k.sum())
        away = np.abs(self.v * self.total - self.k @ self.v).max(axis=1)
        self.distance = [Fraction(int(x), self.total) for x in away]

    def largest_error(self, scale: int, error: np.ndarray) -> Fraction:
        """Return the largest ||R - r|| for weights k + error / scale times signs, over all signs."""
        weights = scale * self.k + st.sign_vectors(self.m) * error
        total = weights.sum(axis=1)
        gap = np.abs(weights @ self.v * self.total - total[:, None] * (self.k @ self.v)).max(axis=1)
        return max(Fraction(int(x), int(y) * self.total) for x, y in zip(gap, total, strict=True))


Form = Callable[[Instance, int], tuple[Fraction, Fraction]]  # instance, percent -> largest error, bound


def _additive(one: Instance, percent: int, rest: int = 1, spread: Fraction = Fraction(1)) -> tuple[Fraction, Fraction]:
    """Errors of percent / 100 of kbar; ``rest`` and ``spread`` are factors of eps in kbar - eps and of Dv."""
    error = np.full(one.m, percent * one.total)
    bound = Fraction(percent, 100 - rest * percent) * spread * sum(one.distance) / one.m
    return one.largest_error(100 * one.m, error), bound


def _weaker(one: Instance, percent: int) -> tuple[Fraction, Fraction]:
    """Errors of percent / 100 of k_min."""
    bound = Fraction(percent, 100 - percent) * 2 * int(np.abs(one.v).max())
    return one.largest_error(100, np.full(one.m, percent * one.k.min())), bound


def _multiplicative(one: Instance, percent: int, rest: int = 1) -> tuple[Fraction, Fraction]:
    """Errors of percent / 100 of each weight."""
    mean = sum(int(k) * x for k, x in zip(one.k, one.distance, strict=True)) / Fraction(one.total)
    return one.largest_error(100, percent * one.k), Fraction(percent, 100 - rest * percent) * mean


FORMS: dict[str, Form] = {"additive": _additive, "multiplicative": _multiplicative, "weaker": _weaker}


def _search(cell: st.Cell, **forms: Form) -> st.Evidence:
    """Decide whether no error exceeds its bound, over random instances; the figure shows the largest quotients."""
    instances = [Instance(cell.rng, m) for m in range(2, 9) for _ in range(4)]
    largest = {
        name: [max(error / bound for error, bound in (form(one, percent) for one in instances)) for percent in PERCENT]
        for name, form in forms.items()
    }
    worst = max(max(row) for row in largest.values())
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because=f"{len(instances)} instances in integers, all corners of the errors each",
        measured=float(worst),
        predicted=1.0,
        comparisons=len(instances) * len(PERCENT) * len(forms),
        note=f"largest error / bound: {float(worst):.4f}",
        figure={
            "plot": "curves",
            "x": list(PERCENT),
            "series": {name: [float(x) for x in row] for name, row in largest.items()},
            "x_label": "error of the weights, percent of the largest allowed",
            "y_label": "largest error / bound found",
        },
    )


def no_error_exceeds_its_bound(cell: st.Cell) -> st.Evidence:
    """The three bounds, 2 to 8 keys."""
    return _search(cell, **FORMS)


def nearly_attained(cell: st.Cell) -> st.Evidence:
    """One key of value 1 against n - 1 of value 0, equal weights 1, eps = 1/2: error + and all others -; quotient above 1 - 2 / n."""
    del cell
    n, eps = 10**6, Fraction(1, 2)
    r = Fraction(1, n)
    error = (1 + eps) / (1 + eps + (n - 1) * (1 - eps)) - r
    bound = eps * ((1 - r) + (n - 1) * r) / n / (1 - eps)
    return st.decide(
        1 - Fraction(2, n) <= error / bound <= 1,
        because="rational arithmetic",
        measured=float(error / bound),
        predicted=1.0,
        note="the bound cannot have a smaller constant",
    )


def functions_of_the_library(cell: st.Cell) -> st.Evidence:
    """`ratio_deviation`, infinite from eps = kbar on, and its inverse `weight_deviation`, where float64 is exact."""
    del cell
    cases = [
        (1 / 2, 1.0, 3.0, 3.0),
        (2.0, 3.0, 5.0, 10.0),
        (1.0, 5 / 4, 3.0, 12.0),
    ]  # eps, kbar, Dv, eps Dv / (kbar - eps)
    right = [
        st.bounds.ratio_deviation(*x[:3]) == x[3] and st.bounds.weight_deviation(x[3], *x[1:3]) == x[0] for x in cases
    ]
    return st.decide(
        all(right) and np.isinf(st.bounds.ratio_deviation(1.0, 1.0, 3.0)),
        because="rational arithmetic by hand; every quotient is exact in float64",
        comparisons=2 * len(cases) + 1,
    )


def anything_from_twice_the_mean_on(cell: st.Cell) -> st.Evidence:
    """Hypothesis broken: weights 1 and 1, values 1 and 0, errors of at most 2 = 2 kbar give every R."""
    del cell
    found = []
    for x in (Fraction(10**6), Fraction(-(10**6)), Fraction(1, 3)):
        total = 1 / max(abs(x), abs(1 - x))
        weights = x * total, (1 - x) * total
        found.append(max(abs(w - 1) for w in weights) <= 2 and weights[0] / sum(weights) == x)
    return st.decide(
        all(found), because="rational arithmetic", measured=1e6, comparisons=3, note="R = 10^6, -10^6 and 1/3"
    )


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Error over bound, one draw of 256 features after pre-scaling, eight queries a head."""
    law, found = st.RandomMaclaurin("exp", 256, degrees="released"), []
    for head in cell.heads:
        q, k = st.prepare(head.q, head.k)
        rows = q[cell.rng.integers(len(q), size=8)]
        phi = law.draw(rows.shape[-1], cell.rng)
        weights, exact = phi(rows) @ phi(k).T, np.exp(rows @ k.T)
        r = exact @ head.v / exact.sum(axis=1, keepdims=True)
        error = np.linalg.norm(weights @ head.v / weights.sum(axis=1, keepdims=True) - r, axis=1)
        eps, mean = np.abs(weights - exact).max(axis=1), exact.mean(axis=1)
        spread = np.linalg.norm(head.v - r[:, None], axis=-1).mean(axis=1)
        bound = st.bounds.ratio_deviation(eps, mean, spread)
        quotient = np.divide(error, bound, out=np.zeros_like(error), where=bound > 0)  # 0 for values that are all equal
        found.append(
            st.observe(
                name=f"error / bound: {head.name}",
                measured=float(np.median(quotient)),
                note=f"median of 8 queries; eps / kbar is {float(np.max(eps / mean)):.2f} at most",
            )
        )
    return found


def mean_weight_without_eps(cell: st.Cell) -> st.Evidence:
    """The denominator kbar in place of kbar - eps."""
    return _search(cell, mutant=lambda one, percent: _additive(one, percent, rest=0))


def spread_halved(cell: st.Cell) -> st.Evidence:
    """Dv / 2 in place of Dv."""
    return _search(cell, mutant=lambda one, percent: _additive(one, percent, spread=Fraction(1, 2)))


def eta_without_its_denominator(cell: st.Cell) -> st.Evidence:
    """The factor eta in place of eta / (1 - eta)."""
    return _search(cell, mutant=lambda one, percent: _multiplicative(one, percent, rest=0))


P11 = st.Proposition(
    id="P11",
    title="A deterministic bound for the attention ratio",
    statement=r"If $|\hat k_j - k_j| \le \varepsilon < \bar k$ for all $j$ then "
    r"$\|R - r\| \le \frac{\varepsilon}{\bar k - \varepsilon}\,\frac1n\sum_j\|v_j - r\|$; if $|\hat k_j - k_j| \le \eta k_j$ with $\eta < 1$ then "
    r"$\|R - r\| \le \frac{\eta}{1-\eta}\sum_j w_j\|v_j - r\|$.",
    hypotheses=(r"$\bar k = \frac1n\sum_j k_j > \varepsilon$; for the second form every $k_j > 0$",),
    source="derived here; not in the sources seen",
    expected="consistent",
    checks=[
        no_error_exceeds_its_bound,
        nearly_attained,
        functions_of_the_library,
        anything_from_twice_the_mean_on,
        on_activations,
    ],
    mutants=[mean_weight_without_eps, spread_halved, eta_without_its_denominator],
    cites=("schoenbat_theory2026",),
)
