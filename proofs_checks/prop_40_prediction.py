r"""P40: What attention through an optimized map will err is known before the map is drawn.

    E <phi(x), phi(y)>  =  sum_alpha c_alpha x^alpha y^alpha + a_2 lambda_2 (t^2 - t_r^2) + sum_{n >= 3} a_n lambda_n t^n
    Cov_jl  =  sum_n (a_n lambda_n)^2 (E z(x)^2 z(y_j) z(y_l) - E z(x) z(y_j) E z(x) z(y_l)) / D_n

with z(x) = prod_{i <= n} <w_i, x> for signs w_i, less the same of x_r for n = 2, where x_r keeps the first r coordinates of
x; t = <x, y>, t_r = <x_r, y_r>. One level of the fourth moment is that of P03, for four vectors of which each may be cut:

    E <w,a> <w,b> <w,c> <w,e> = <a,b> <c,e> + <a,c> <b,e> + <a,e> <b,c> - 2 sum_i a_i b_i c_i e_i

and of degree 2 the second moment is a sum of sixteen squares of it. For the row R = N / S of attention, N and S its sums, and
o' = E N / E S,

    variance  =  sum_jl w_j w_l <v_j - o', v_l - o'> Cov_jl / (E S)^2
    variance / (1 + delta)^2  <=  E |R - o'|^2  <=  variance / (1 - delta)^2        if |S - E S| <= delta E S always

so that the bias o' - o, which is exact, and the variance, to first order, are all that has to be known. A fit that takes the
least predicted error of its candidates is never predicted to be worse than any of them; where it samples nothing and
nothing is random, that is its error.

Hypotheses: delta < 1 for the second statement. For the third that the fit looks at all tokens (no more than 128 of each),
and that it trusts the denominators of the truncation: of exp and recentred keys those of at least half of a_0.

Source: none seen; the moment for y_j = y_l and r = 0 is in Wacker, Ohana & Filippone (2023), Table 1.

Idea of proof: products of levels are independent. R - o' = L / (1 + (S - E S) / E S), L = sum_j w_j (estimate_j - mean) (v_j - o')
/ E S, and E |L|^2 is the variance.

Checked exactly: mean and covariances against all signs, in integers, d = 2 and 3, r = 0 to d, one and two features. By
sampling: estimates of drawn maps, d = 5. By enumeration in floating point: the two bounds for all signs. By search: errors of fits against those of the truncations they
contain. Data: what is predicted and what is found on heads.

Not checked: sampled fits, whose prediction is an estimate.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import schoenbat_theory as st

Claim = Callable[[st.Remainder, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
INV = st.get_kernel("inv")  # all coefficients 1, so that integers stay integers


def _remainder(cut: int, counts: tuple[int, ...], shrinkage: float = 0.5) -> st.Remainder:
    return st.Remainder(INV, np.array(cut), np.array(counts), np.full(len(counts), shrinkage))


def _products(x: np.ndarray, degree: int, cut: int) -> np.ndarray:
    """z(x) for every choice of ``degree`` sign vectors, (2^(d degree),)."""
    w, kept = st.sign_vectors(x.size), np.arange(x.size) < cut
    found = []
    for one in (w @ x, w @ (x * kept)):
        product = np.ones(1, dtype=np.int64)
        for _ in range(degree):
            product = np.multiply.outer(product, one).ravel()
        found.append(product)
    return np.asarray(found[0] - found[1] if degree == 2 else found[0])


def _outcomes(remainder: st.Remainder, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The estimates of one query and its keys for all signs, (outcomes, m), of one degree with one or two features."""
    degree = int(np.flatnonzero(remainder.counts)[-1])
    count, cut = int(remainder.counts[degree]), int(remainder.cuts)
    one = np.stack([_products(q, degree, cut) * _products(key, degree, cut) for key in k], axis=-1)
    if count == 2:
        one = (one[:, None] + one[None]).reshape(-1, len(k)) / 2
    return one * float(remainder.shrinkage[degree])


def _library(remainder: st.Remainder, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return remainder.mean(q[None], k), remainder.covariance(q, k)


def _enumerated(claim: Claim) -> st.Evidence:
    """``claim`` against all signs: products of dyadic numbers below 2^53, so that every sum is exact."""
    wrong, cases, rng = 0, 0, np.random.default_rng(40)
    for dim, counts in ((3, (0, 0, 1)), (2, (0, 0, 2)), (2, (0, 0, 0, 1)), (2, (0, 0, 0, 2))):
        for cut, _ in itertools.product(range(dim + 1), range(4)):
            q, k = (rng.integers(-2, 3, size=shape).astype(float) for shape in ((dim,), (3, dim)))
            remainder = _remainder(cut, counts)
            found = _outcomes(remainder, q, k)
            mean = found.sum(axis=0) / len(found)
            covariance = found.T @ found / len(found) - np.outer(mean, mean)  # outcomes are a power of 2
            claimed = claim(remainder, q, k)
            wrong += not (np.array_equal(claimed[0], mean) and np.array_equal(claimed[1], covariance))
            cases += 1
    return st.decide(
        wrong == 0,
        because="all signs, integers, d = 2 and 3",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
        note=f"{wrong} of {cases} laws differ",
    )


def moments_of_all_signs(cell: st.Cell) -> st.Evidence:
    """`Remainder.mean` and `Remainder.covariance` against enumeration."""
    del cell
    return _enumerated(_library)


def mean_not_subtracted(cell: st.Cell) -> st.Evidence:
    """V^n in place of V^n less the square of the mean."""
    del cell

    def claim(remainder: st.Remainder, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, covariance = _library(remainder, q, k)
        return mean, covariance + np.outer(mean, mean) / remainder.counts.sum()

    return _enumerated(claim)


def cross_terms_lost(cell: st.Cell) -> st.Evidence:
    """The variance of a difference of features as the difference of their variances."""
    del cell

    def claim(remainder: st.Remainder, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = _remainder(0, tuple(remainder.counts))
        kept = (np.arange(q.size) < int(remainder.cuts)) * (remainder.counts.size == 3)  # of degree 2 alone
        return _library(remainder, q, k)[0], whole.covariance(q, k) - whole.covariance(q * kept, k * kept)

    return _enumerated(claim)


def shrinkage_dropped(cell: st.Cell) -> st.Evidence:
    """Shrinkage forgotten in mean and covariance."""
    del cell
    return _enumerated(lambda some, q, k: _library(_remainder(int(some.cuts), tuple(some.counts), 1.0), q, k))


def _law(cut: int, counts: tuple[int, ...], shrinkage: float, dim: int) -> st.FittedMaclaurin:
    """An optimized law with this random part, whose clipping begins far beyond the rows used here."""
    nothing = st.Prediction(np.zeros(()), np.zeros(()), np.array("by hand"), {})
    remainder, far = _remainder(cut, counts, shrinkage), np.array(1e6)
    return st.FittedMaclaurin(INV, st.Monomials.subspace(dim, cut), remainder, far, np.ones(dim), nothing, np.array(0))


def _bounds(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> st.Evidence:
    """E |R - o'|^2 over all signs against its two bounds, ``change`` (variance, E S) being what is taken for the variance."""
    worst, cases, rng = -np.inf, 0, np.random.default_rng(41)
    for cut, counts, shrinkage in itertools.product((0, 1), ((0, 0, 1), (0, 0, 2), (0, 0, 0, 1)), (0.5, 0.0625)):
        law = _law(cut, counts, shrinkage, 2)
        q, k, v = (rng.choice([-4, -2, 1, 3], size=size) / 8 for size in ((1, 2), (4, 2), (4, 2)))
        log_weights = np.log(np.array([1.0, 2.0, 3.0, 2.0]) / 8)
        _, variance = st.predict_error(law, q, k, v, log_weights)
        weights = np.exp(log_weights)
        mean = law.mean(q, k)
        found = (mean + _outcomes(law.remainder, q[0], k) - law.remainder.mean(q, k)) * weights
        total, output = float(mean @ weights), (mean * weights) @ v / float(mean @ weights)
        delta = float(np.max(np.abs(found.sum(axis=-1) / total - 1)))
        if not delta < 1:
            raise ValueError("the inputs of this check keep every denominator positive")
        error = float(np.mean(np.sum((found @ v / found.sum(axis=-1)[:, None] - output) ** 2, axis=-1)))
        claimed = float(change(variance, np.array([total]))[0])
        # Rows and weights are below 1, and 1 / (1 - delta)^2 is what sums of some hundred terms are multiplied with.
        rounding = 1e3 * 2.0**-53 / (1 - delta) ** 2
        worst = max(worst, claimed / (1 + delta) ** 2 - error - rounding, error - claimed / (1 - delta) ** 2 - rounding)
        cases += 1
    return st.decide(
        worst <= 0,
        kind="deterministic",
        because="all signs, d = 2; rounding bounded",
        measured=worst,
        comparisons=2 * cases,
        note=f"nearest to a bound: {-worst:.2g}",
    )


def _sampled(cell: st.Cell, cut: int) -> st.Evidence:
    """Estimates of three kernel values by drawn maps, r = 2, four features of degree 2 and two of degree 3, d = 5.

    ``cut`` is what the drawn maps take off of degree 2, 2 if they are right.
    """
    law, rng = _law(2, (0, 0, 4, 2), 0.5, 5), np.random.default_rng(43)
    q, k = (0.4 * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, 3, 5)))
    variance = law.variance(q, k)

    def sample(generator: np.random.Generator, size: int) -> np.ndarray:
        phi = dataclasses.replace(law.draw(5, generator, shape=(size,)), cuts=np.array(cut))
        return np.asarray(np.sum(st.to_host(phi(cell.asarray(q))) * st.to_host(phi(cell.asarray(k))), axis=-1))

    return st.check_mean(
        sample,
        law.mean(q, k),
        margin=0.05 * np.sqrt(variance),
        variance=variance,
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "kernel value, six random features beside 9 monomials"})


def estimates_sampled(cell: st.Cell) -> st.Evidence:
    """The mean of the estimate of drawn maps, with its variance in closed form."""
    return _sampled(cell, 2)


def leading_part_counted_twice(cell: st.Cell) -> st.Evidence:
    """Random features of degree 2 from which those of the leading coordinates are not taken off."""
    return _sampled(cell, 0)


def error_of_the_ratio_between_its_bounds(cell: st.Cell) -> st.Evidence:
    """The variance that `predict_error` gives, to the bounds of the file."""
    del cell
    return _bounds(lambda variance, total: variance)


def variance_not_divided(cell: st.Cell) -> st.Evidence:
    """The variance of the numerator alone scaled by E S in place of its square."""
    del cell
    return _bounds(lambda variance, total: variance * total)


def variance_of_two_draws(cell: st.Cell) -> st.Evidence:
    """The variance that independent maps of queries and keys, or of numerator and denominator, would have: twice as much."""
    del cell
    return _bounds(lambda variance, total: 2 * variance)


def _relative(cell: st.Cell, q: np.ndarray, k: np.ndarray, v: np.ndarray, phi: Any, kernel: str) -> float:
    q, k, v = (cell.asarray(x) for x in (q, k, v))
    exact = st.to_host(st.kernel_attention(q, k, v, kernel))
    return float(np.linalg.norm(st.to_host(st.feature_attention(q, k, v, phi)) - exact) / np.linalg.norm(exact))


def _against_truncations(cell: st.Cell, turn: int) -> st.Evidence:
    """Errors of fits against those of degree 0, <= 1 and <= 2; coordinates of the fit are turned round by ``turn``."""
    worst, cases, rng = -np.inf, 0, np.random.default_rng(42)
    for kernel, width, _ in itertools.product(("exp", "inv", "sqrt"), (7, 16, 28), range(2)):
        q, k = (0.9 * x / np.max(np.linalg.norm(x, axis=-1)) for x in rng.normal(size=(2, 40, 6)) * 0.6 ** np.arange(6))
        v = rng.normal(size=(40, 3)) + 1
        law = st.OptimizedMaclaurin(kernel, width).fit(
            *(cell.asarray(np.roll(x, turn, axis=-1)) for x in (q, k)), values=cell.asarray(v)
        )
        found = _relative(cell, q, k, v, law.draw(6), kernel)
        for degree in (n for n, wide in enumerate((1, 7, 28)) if wide <= width):
            cut = _relative(cell, q, k, v, st.TaylorFeatures(kernel, degree, 6).draw(6), kernel)
            worst, cases = max(worst, found - cut), cases + 1
    allowed = 1e4 * 2.0**-53  # sums of 40 terms and 28 features on either side, divided by denominators near 1
    return st.decide(
        worst <= allowed,
        kind="deterministic",
        because="errors of the output measured, rounding allowed for",
        measured=worst,
        comparisons=cases,
        note=f"largest error above that of a truncation: {worst:.2g}",
    )


def never_worse_than_a_truncation(cell: st.Cell) -> st.Evidence:
    """Three kernels, three widths, forty tokens: the fitted map against the truncations that it contains."""
    return _against_truncations(cell, 0)


def fitted_to_other_coordinates(cell: st.Cell) -> st.Evidence:
    """A map that was fitted to the same tokens with their coordinates in another order."""
    return _against_truncations(cell, 3)


def predicted_and_found(cell: st.Cell) -> list[st.Evidence]:
    """Recentred heads, pre-scaled to length 1: the error that the fit predicts over the one that is found, width 256."""
    found = []
    for head in cell.heads:
        q, k, v = cell.asarray(st.pre_scale(head.q)), cell.asarray(st.pre_scale(head.k)), cell.asarray(head.v)
        x, y, weights = st.recenter(q, k)
        law = st.OptimizedMaclaurin("exp", 256).fit(x, y, weights, values=v)
        exact = st.to_host(st.kernel_attention(q, k, v, "exp"))
        out = st.to_host(st.feature_attention(x, y, v, law.draw(head.q.shape[-1], cell.rng), key_log_weights=weights))
        error = float(np.linalg.norm(out - exact) / np.linalg.norm(exact))
        found.append(
            st.observe(
                name=f"predicted over found error, 256 optimized features, length 1: {head.name}",
                measured=float(law.prediction.error) / error,
                note=f"found {error:.3g}",
            )
        )
    return found


P40 = st.Proposition(
    id="P40",
    title="What attention through an optimized map errs is known before it is drawn",
    statement=r"Mean and covariances of the estimates are known in closed form; $\frac{\mathrm{Var}}{(1+\delta)^2} \le \mathbb{E}|R-o'|^2 \le "
    r"\frac{\mathrm{Var}}{(1-\delta)^2}$ for a row of attention, and the fitted map is never predicted to be worse than a truncation of its width.",
    hypotheses=(
        r"$|S - \mathbb{E} S| \le \delta\, \mathbb{E} S$ with $\delta < 1$, for the bounds",
        "the fit samples nothing and trusts a truncation's denominators, for both to be compared by their errors",
    ),
    source="not in the sources seen; the moment of one level for one key in Wacker, Ohana & Filippone (2023), Table 1 (seen)",
    expected="consistent",
    cites=("wacker2023complex", "kar2012random", "oehlert1992"),
    checks=[
        moments_of_all_signs,
        estimates_sampled,
        error_of_the_ratio_between_its_bounds,
        never_worse_than_a_truncation,
        predicted_and_found,
    ],
    mutants=[
        mean_not_subtracted,
        cross_terms_lost,
        shrinkage_dropped,
        leading_part_counted_twice,
        variance_not_divided,
        variance_of_two_draws,
        fitted_to_other_coordinates,
    ],
)
