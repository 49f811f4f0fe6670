r"""P09: "Random Maclaurin feature attention is unbiased." False for the ratio, true for its two sums.

    R = sum_j <phi(q), phi(k_j)> v_j / sum_j <phi(q), phi(k_j)>,      attention = sum_j f(<q,k_j>) v_j / sum_j f(<q,k_j>)

P09 claims E R = attention. P09R: numerator and denominator are unbiased, each for itself.

Hypotheses: no bound on norms saves it; where the denominator can be 0 the mean does not even exist. (With one key, or equal values, R is
constant and the claim is true.)

Source: the abstract of SchoenbAt (arXiv:2505.12252, seen) announces an unbiasedness theorem; its text was not seen.

Proofs that it is false. (1) D = 1: R = phi(q) sum phi(k_j) v_j / phi(q) sum phi(k_j) does not depend on q, attention does.
(2) In numbers, d = 1, p = 2, keys 1 and 0, values 1 and 0: signs cancel, only degrees are random. At D = 1, N = 0 (probability
1/2) gives 1/2 and N >= 1 gives 1, because the key 0 has no feature of degree >= 1: E R = 3/4 for every q > 0, while attention is
e^q / (e^q + 1) = 0.622 at q = 1/2. At D = 2, E R = 3/8 + sum_{n >= 1} 2^-(n+1) (2 + g_n)/(4 + g_n), g_n = 2/n!, which is 0.6819.
The released law, one random feature beside the exact constant: E R = sum_{n = 1}^{20} (2^-n / c) (1 + g_n) / (2 + g_n), g_n = c / n!,
c = 1 - 2^-20, which is 0.6138.

Checked exactly: (1) equality of outputs for two queries; (2) with e^(1/2) and the tail of the sum enclosed by rationals.
By sampling: the same example at D = 4 (R is in [0, 1], so empirical Bernstein applies); and, under P09R, that the same check accepts the
true value of E R there. For P09R: all degrees <= 3 and signs in d = 2, exactly; both sums in d = 5 with six keys, sampled, against closed
forms with closed-form variances; and the covariances behind these variances, by enumeration in d = 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

QUERY = Fraction(1, 2)
Interval = tuple[Fraction, Fraction]


def _attention() -> Interval:
    """e^q / (e^q + 1) at q = 1/2, enclosed: the tail of the series beyond n is below twice its first term."""
    low = sum((QUERY**n / math.factorial(n) for n in range(20)), Fraction(0))
    high = low + 2 * QUERY**20 / math.factorial(20)
    return low / (low + 1), high / (high + 1)


def _two_features() -> Interval:
    """E R at D = 2, enclosed: each term of the tail lies between 2^-(n+1)/2 and 2^-(n+1)."""
    head = Fraction(1, 4) * Fraction(1, 2) + Fraction(1, 4)  # both of degree 0: 1/2; both of degree >= 1: 1
    for n in range(1, 40):
        g = Fraction(2 ** (n + 1)) * QUERY**n / math.factorial(n)  # the feature product of degree n
        head += Fraction(1, 2 ** (n + 1)) * (2 + g) / (4 + g)  # one of each: 2 * 1/2 * P[N = n]
    return head + Fraction(1, 2**41), head + Fraction(1, 2**40)


def _claim(expectation: Interval, target: Interval) -> st.Evidence:
    disjoint = expectation[1] < target[0] or target[1] < expectation[0]
    return st.decide(
        not disjoint,
        because="rational enclosures",
        measured=float(sum(expectation) / 2),
        predicted=float(sum(target) / 2),
        interval=(float(expectation[0]), float(expectation[1])),
        note=f"E R = {float(expectation[0]):.7f}, attention = {float(target[0]):.7f}",
    )


def one_feature(cell: st.Cell) -> st.Evidence:
    """D = 1: E R = 1/2 * 1/2 + 1/2 * 1 = 3/4."""
    del cell
    return _claim((Fraction(3, 4), Fraction(3, 4)), _attention())


def two_features(cell: st.Cell) -> st.Evidence:
    """D = 2: E R = 0.6819."""
    del cell
    return _claim(_two_features(), _attention())


def released_law(cell: st.Cell) -> st.Evidence:
    """The law of the released code, one random feature and the constant: E R = 0.6138, a finite rational sum."""
    del cell
    c, total = 1 - Fraction(1, 2**20), Fraction(0)
    for n in range(1, 21):
        g = c * 2**n * QUERY**n / math.factorial(n)  # a_n / q_n times q^n
        total += Fraction(1, 2**n) / c * (1 + g) / (2 + g)
    return _claim((total, total), _attention())


def blind_to_the_query(cell: st.Cell) -> st.Evidence:
    """D = 1, d = 5: outputs of two different queries are equal, exact attention's are not."""
    rng = np.random.default_rng(9)
    q, k = rng.uniform(0.25, 0.75, size=(2, 2, 5))
    v = np.array([[1.0], [0.0]])
    same, draws = 0, 32
    for i in range(draws):
        phi = st.RandomMaclaurin("exp", 1).draw(5, rng=i)
        out = st.to_host(st.feature_attention(cell.asarray(q), cell.asarray(k), cell.asarray(v), phi))
        same += bool(abs(out[0, 0] - out[1, 0]) <= 16 * 2.0**-53 * abs(out).max())  # four rounded operations each
    exact = st.kernel_attention(q, k, v, "exp")
    return st.decide(
        not (same == draws and abs(exact[0, 0] - exact[1, 0]) > 0.01),
        because="algebra: phi(q) cancels; equality to rounding in every draw",
        measured=float(same),
        predicted=0.0,
        comparisons=draws,
        note=f"{same} of {draws} draws give both queries the same output; attention differs by {abs(exact[0, 0] - exact[1, 0]):.3f}",
    )


def _ratio_sample(width: int) -> Any:
    """Replicates of R in the example, through the library."""
    law = st.RandomMaclaurin("exp", width)
    q, keys = np.array([float(QUERY)]), np.array([[1.0], [0.0]])

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        weights = law.estimates(q, keys, rng=rng, size=size)  # (size, 2), never negative here
        return weights[:, 0] / weights.sum(axis=-1)

    return sample


def _sampled_ratio(cell: st.Cell, target: float) -> st.Evidence:
    """Compare the mean of R at D = 4 with ``target``."""
    return st.check_mean(
        _ratio_sample(4),
        target,
        margin=0.005,
        bounds=(0.0, 1.0),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(note="R lies in [0, 1] in this example", figure={"label": "mean of the attention ratio, D = 4"})


def sampled_four_features(cell: st.Cell) -> st.Evidence:
    """D = 4: the mean of R is not attention, within 0.005."""
    return _sampled_ratio(cell, float(_attention()[0]))


def relative_size(cell: st.Cell) -> list[st.Evidence]:
    """The first-order bias of the ratio, relative to attention, at D = 256 after pre-scaling, for eight queries a head.

    E R - r = -(1/S^2) sum_jl (v_j - r) Cov(<phi(q), phi(k_j)>, <phi(q), phi(k_l)>) + O(D^-2), S = sum_j f(<q,k_j>).
    """
    law, found = st.RandomMaclaurin("exp", 256, degrees="released"), []
    for head in cell.heads:
        q, k = st.prepare(head.q, head.k)
        rows = q[cell.rng.integers(len(q), size=8)]
        exact = st.kernel_attention(rows, k, head.v, "exp")
        bias = np.empty_like(exact)
        for i, x in enumerate(rows):
            total = float(np.sum(np.exp(k @ x)))
            bias[i] = -((head.v - exact[i]).T @ law.row_covariance(x, k).sum(axis=1)) / total**2
        drawn = np.stack([st.feature_attention(rows, k, head.v, law.draw(x.size, cell.rng)) for _ in range(16)])
        error = np.sqrt(np.mean(np.sum((drawn - exact) ** 2, axis=(1, 2))))
        size, one_draw = np.linalg.norm(bias) / np.linalg.norm(exact), error / np.linalg.norm(exact)
        found += [
            st.observe(
                name=f"bias of the ratio: {head.name}", measured=float(size), note="first order, D = 256, 8 queries"
            ),
            st.observe(
                name=f"error of one draw: {head.name}", measured=float(one_draw), draws=16, note="root mean square"
            ),
        ]
    return found


def mean_of_the_values(cell: st.Cell) -> st.Evidence:
    """Twin: E R = 1/2, the plain mean of the values, at D = 2."""
    del cell
    return _claim(_two_features(), (Fraction(1, 2), Fraction(1, 2)))


def one_feature_for_four(cell: st.Cell) -> st.Evidence:
    """Twin: the value of E R at D = 1 claimed for D = 4, through the sampled check."""
    return _sampled_ratio(cell, 0.75)


def _sums_exactly(weight: Any) -> list[Fraction]:
    """E of numerator and denominator at D = 1 for d = 2, degrees 0 .. 3, all signs, minus the truncated sums."""
    half = Fraction(1, 2)
    q, keys, values = (half, Fraction(-1, 3)), ((Fraction(1), half), (Fraction(-1, 4), Fraction(2))), (3, -1)
    differences = [Fraction(0), Fraction(0)]
    for n in range(4):
        a, probability = Fraction(1, math.factorial(n)), Fraction(2 ** (3 - n), 15)
        for key, value in zip(keys, values, strict=True):
            mean = Fraction(0)
            for signs in itertools.product((-1, 1), repeat=2 * n):
                product = Fraction(1)
                for w in zip(signs[::2], signs[1::2], strict=True):
                    product *= _dot(w, q) * _dot(w, key)
                mean += product / 4**n
            error = probability * weight(a, probability) * mean - a * _dot(q, key) ** n
            differences = [differences[0] + error * value, differences[1] + error]
    return differences


def _dot(x: Sequence[int | Fraction], y: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def sums_enumerated(cell: st.Cell) -> st.Evidence:
    """Numerator and denominator by enumeration in d = 2."""
    del cell
    differences = _sums_exactly(lambda a, q: a / q)
    return st.decide(
        differences == [0, 0], because="degrees 0 to 3, all signs, d = 2, rational arithmetic", comparisons=2
    )


def _sums_sampled(cell: st.Cell, change: Any = None) -> st.Evidence:
    """Both sums for exp at D = 1, d = 5, six keys: means with closed-form variances."""
    rng = np.random.default_rng(99)
    q, k, v = rng.normal(size=5) * 0.3, rng.normal(size=(6, 5)) * 0.3, rng.normal(size=6)
    law = st.RandomMaclaurin("exp", 1)
    coefficients = np.stack([v, np.ones(6)])  # numerator and denominator as combinations of six estimates
    target = coefficients @ law.mean(q, k)
    variance = np.einsum("aj,jl,al->a", coefficients, law.row_covariance(q, k), coefficients)
    on_device = cell.asarray(q), cell.asarray(k)

    def sample(generator: np.random.Generator, size: int) -> np.ndarray:
        drawn = st.to_host(law.estimates(*on_device, rng=generator, size=size)) @ coefficients.T
        return drawn if change is None else change(drawn)

    margin = 0.01 * np.sqrt(variance)
    return st.check_mean(
        sample, target, margin=margin, variance=variance, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(figure={"label": "numerator or denominator, one feature"})


def covariances_enumerated(cell: st.Cell) -> st.Evidence:
    """`row_covariance` of a truncated law against the enumeration of all signs, d = 4, three keys."""
    q, k = np.array([2, -1, 1, 3]), np.array([[1, 0, 2, -1], [2, 2, -1, 1], [-1, 3, 0, 2]])
    n_max, signs = 5, st.sign_vectors(4)
    query, keys = signs @ q, signs @ k.T  # (16,), (16, 3)
    moment = (
        np.einsum("s,sj,sl->jl", query**2, keys, keys) / len(signs) / 16.0**2
    )  # vectors over 16: q over 16, k as is
    t = (k @ q) / 16.0
    n = np.arange(n_max + 1)
    a = st.KERNELS["exp"].coefficients(n_max)
    inverse_q = 2.0**n * (2 - 2.0**-n_max)
    second = np.sum(a**2 * inverse_q * moment[..., None] ** n, axis=-1)
    mean = np.sum(a * t[:, None] ** n, axis=-1)
    law = st.RandomMaclaurin("exp", 1, st.GeometricDegrees(max_degree=n_max))
    found = st.to_host(law.row_covariance(cell.asarray(q / 16.0), cell.asarray(k * 1.0)))
    # Sums of six terms of at most 3 n_max + 8 rounded factors, on both sides, relative to the sum of magnitudes.
    size = np.sum(a**2 * inverse_q * np.abs(moment[..., None]) ** n, axis=-1) + np.abs(mean[:, None] * mean)
    worst = float(np.max(np.abs(found - (second - mean[:, None] * mean)) / (2 * 6 * (3 * n_max + 8) * 2.0**-53 * size)))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="all 16 signs, degrees up to 5; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=9,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def _exact_mean_of_four(top: int = 22) -> tuple[float, float]:
    """E R at D = 4 in the example, by enumeration of the multisets of four degrees <= ``top``, and P[a degree is larger]."""
    g = [float(Fraction(2 ** (n + 1)) * QUERY**n / math.factorial(n)) for n in range(top + 1)]
    mean = 0.0
    for degrees in itertools.combinations_with_replacement(range(top + 1), 4):
        orders = math.factorial(4)
        for n in set(degrees):
            orders //= math.factorial(degrees.count(n))
        numerator, zeros = sum(g[n] for n in degrees), 2.0 * degrees.count(0)
        mean += orders * 2.0 ** -(sum(degrees) + 4) * numerator / (numerator + zeros)
    return mean, 4 * 2.0 ** -(top + 1)


def control_of_the_sampled_ratio(cell: st.Cell) -> st.Evidence:
    """The sampled leg of P09 must accept the true mean, 0.6471: a check that always accuses is caught here."""
    mean, missing = _exact_mean_of_four()
    return _sampled_ratio(cell, mean).but(note=f"E R = {mean:.7f} at D = 4 by enumeration, up to {missing:.0e}")


def sums_sampled(cell: st.Cell) -> st.Evidence:
    """Numerator and denominator by sampling."""
    return _sums_sampled(cell)


def clamped_denominator(cell: st.Cell) -> st.Evidence:
    """The released clamp at 1 on the denominator."""
    return _sums_sampled(cell, lambda drawn: np.maximum(drawn, [-np.inf, 1.0]))


def weight_without_probability(cell: st.Cell) -> st.Evidence:
    """Weights a_n in place of a_n / q_n."""
    del cell
    return st.decide(_sums_exactly(lambda a, q: a) == [0, 0], because="the same enumeration")


P09 = st.Proposition(
    id="P09",
    title="Feature attention is unbiased",
    statement=r"$\mathbb{E}\,\frac{\sum_j \langle\phi(q),\phi(k_j)\rangle v_j}{\sum_j \langle\phi(q),\phi(k_j)\rangle} = "
    r"\frac{\sum_j f(\langle q,k_j\rangle)\,v_j}{\sum_j f(\langle q,k_j\rangle)}$ for every number of features $D$.",
    hypotheses=(),
    source="announced in the abstract of arXiv:2505.12252 (seen); the theorem itself was not seen",
    expected="refuted",
    checks=[one_feature, two_features, released_law, blind_to_the_query, sampled_four_features, relative_size],
    mutants=[mean_of_the_values, one_feature_for_four],
)

P09R = st.Proposition(
    id="P09R",
    title="Numerator and denominator are unbiased, separately",
    statement=r"$\mathbb{E}\sum_j \langle\phi(q),\phi(k_j)\rangle v_j = \sum_j f(\langle q,k_j\rangle)\,v_j$ and "
    r"$\mathbb{E}\sum_j \langle\phi(q),\phi(k_j)\rangle = \sum_j f(\langle q,k_j\rangle)$.",
    hypotheses=(r"$\|q\|\,\|k_j\|$ is inside the radius of convergence",),
    source="linearity and Kar & Karnick (2012), Lemma 3 (seen)",
    expected="consistent",
    checks=[sums_enumerated, sums_sampled, covariances_enumerated, control_of_the_sampled_ratio],
    mutants=[clamped_denominator, weight_without_probability],
)
