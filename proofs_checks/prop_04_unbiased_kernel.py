r"""P04: The random Maclaurin estimate of one kernel value is unbiased.

    E <phi(x), phi(y)>  =  sum_n q_n (a_n / q_n) (E <w,x><w,y>)^n  =  f(<x,y>)

Hypotheses: ||x|| ||y|| inside the radius of convergence (then Fubini applies: E |<w,x><w,y>| <= ||x|| ||y||);
weights a_n / q_n with the probabilities q_n that are really drawn.

Source: Kar & Karnick (2012), Lemma 3 (seen). The released law of SchoenbAt stops at degree 20: its mean is f_20.

Idea of proof: E <w,x><w,y> = <x,y>, factors are independent, and the weights cancel the probabilities.

Checked exactly: truncated laws with p = 2 and p = 3, all degrees and all sign matrices, in rational arithmetic.
By sampling: five kernels under the three named laws, on inputs scaled so that variances are finite and known.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

MARGIN = 0.01  # of the standard deviation of one replicate: a bias of 1 % of the noise of one feature is caught
X, Y = (Fraction(1, 2), Fraction(-1, 3)), (Fraction(2, 3), Fraction(1, 5))  # d = 2


def _inputs(cell: st.Cell) -> tuple[Any, Any]:
    """Three pairs in d = 6 with ||x|| ||y|| = 1/4: V <= 3/16, hence p V < 1 and inv, logi and sqrt have variances."""
    x, y = np.random.default_rng(4).normal(size=(2, 3, 6))
    x[2] = y[2]  # a pair with <x, y> as large as it can be
    unit = [w / np.linalg.norm(w, axis=-1, keepdims=True) / 2 for w in (x, y)]
    return cell.asarray(unit[0]), cell.asarray(unit[1])


def _law(kernel: str, degrees: str) -> st.RandomMaclaurin:
    """The smallest width with one random feature."""
    return st.RandomMaclaurin(kernel, {"geometric": 1, "released": 2, "h01": 8}[degrees], degrees)


def _rational_mean(p: int, n_max: int, weight: Any) -> Fraction:
    """Sum over degrees and over all sign matrices of probability times weight times product, for d = 2."""
    total = Fraction(0)
    normaliser = sum(Fraction(1, p**n) for n in range(n_max + 1))
    for n in range(n_max + 1):
        q = Fraction(1, p**n) / normaliser
        for signs in itertools.product((-1, 1), repeat=2 * n):
            product = Fraction(1)
            for a, b in zip(signs[::2], signs[1::2], strict=True):
                product *= (a * X[0] + b * X[1]) * (a * Y[0] + b * Y[1])
            total += q * weight(n, q) * product / 4**n
    return total


def exact_sum(cell: st.Cell) -> st.Evidence:
    """All degrees up to 4 and all sign matrices: the mean is the partial sum, exactly."""
    del cell
    t = X[0] * Y[0] + X[1] * Y[1]
    wrong, cases = 0, 0
    for kernel, p, n_max in itertools.product(st.KERNELS.values(), (2, 3), (0, 1, 4)):
        mean = _rational_mean(p, n_max, lambda n, q, a=kernel.coefficient: Fraction(a(n)) / q)
        wrong += mean != sum(Fraction(kernel.coefficient(n)) * t**n for n in range(n_max + 1))
        cases += 1
    return st.decide(
        wrong == 0,
        because="all degrees and sign matrices, d = 2, rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=cases,
    )


def sampled(cell: st.Cell) -> st.Evidence:
    """Five kernels, three laws, three pairs: means against closed forms."""
    x, y = _inputs(cell)
    laws = [_law(kernel, degrees) for kernel in st.KERNELS for degrees in ("geometric", "released", "h01")]
    target = np.array([st.to_host(law.mean(x, y)) for law in laws])
    variance = np.array([st.to_host(law.variance(x, y)) for law in laws])

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        return np.stack([st.to_host(law.estimates(x, y, rng=rng, size=size)) for law in laws], axis=1)

    return _check(cell, sample, target, variance).but(
        note="five kernels, laws geometric, released and h01, three pairs; margin 1 % of one feature's standard deviation"
    )


def _check(cell: st.Cell, sample: Any, target: np.ndarray, variance: np.ndarray) -> st.Evidence:
    margin = MARGIN * np.sqrt(variance)
    return st.check_mean(
        sample, target, margin=margin, variance=variance, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(figure={"label": "estimate of f(<x, y>) with one random feature"})


def _mutant(cell: st.Cell, change: Any, kernel: str = "exp") -> st.Evidence:
    """Judge ``change(rng, size, law, x, y)`` as if it were the geometric law's estimate."""
    x, y = _inputs(cell)
    law = _law(kernel, "geometric")
    target, variance = (st.to_host(moment(x, y)) for moment in (law.mean, law.variance))
    # A mutant may have another variance; 16 times the closed form covers the ones below.
    return _check(cell, lambda rng, size: st.to_host(change(rng, size, law, x, y)), target, 16 * variance)


def zero_answer(cell: st.Cell) -> st.Evidence:
    """The answer 0, which passes several published tests."""
    return _mutant(cell, lambda rng, size, law, x, y: 0 * law.estimates(x, y, rng=rng, size=size))


def weights_of_the_source_at_p_3(cell: st.Cell) -> st.Evidence:
    """Weights a_N p^{N+1} as printed, with a normalised law at p = 3: too large by p - 1 = 2."""
    law = st.RandomMaclaurin("exp", 1, st.GeometricDegrees(p=3.0))
    return _mutant(cell, lambda rng, size, _, x, y: 2 * law.estimates(x, y, rng=rng, size=size))


def five_percent(cell: st.Cell) -> st.Evidence:
    """Weights 5 % too large."""
    return _mutant(cell, lambda rng, size, law, x, y: 1.05 * law.estimates(x, y, rng=rng, size=size))


def separate_draws(cell: st.Cell) -> st.Evidence:
    """Queries and keys through different draws of the signs, the degrees alike: a historic bug of a peer."""

    def change(rng: np.random.Generator, size: int, law: st.RandomMaclaurin, x: Any, y: Any) -> Any:
        del law
        fixed = st.RandomMaclaurin("exp", 4, (2, 1, 1))
        one, two = (fixed.draw(x.shape[-1], rng, shape=(size,)) for _ in range(2))
        return np.sum(st.to_host(one(x)) * st.to_host(two(y)), axis=-1)

    return _mutant(cell, change)


P04 = st.Proposition(
    id="P04",
    title="The kernel estimate is unbiased",
    statement=r"$\mathbb{E}\,\langle \phi(x), \phi(y)\rangle = f(\langle x,y\rangle)$ for random Maclaurin features; "
    r"$= f_{20}(\langle x,y\rangle)$ for the law of the released code, which stops at degree 20.",
    hypotheses=(
        r"$\|x\|\,\|y\|$ is inside the radius of convergence",
        "weights are divided by the probabilities that are really drawn (the printed ones are normalised for $p = 2$ only)",
    ),
    source="Kar & Karnick (2012), Lemma 3 (seen)",
    expected="consistent",
    checks=[exact_sum, sampled],
    mutants=[zero_answer, weights_of_the_source_at_p_3, five_percent, separate_draws],
)
