r"""P09: "Random Maclaurin feature attention is unbiased." False for the ratio, true for its two sums.

    R = sum_j <phi(q), phi(k_j)> v_j / sum_j <phi(q), phi(k_j)>,      attention = sum_j f(<q,k_j>) v_j / sum_j f(<q,k_j>)

P09 claims E R = attention. P09R: numerator and denominator are unbiased, each for itself.

Hypotheses: no bound on norms saves it; where the denominator can be 0 the mean does not even exist (P13). With one key, or equal
values, R is constant and the claim is true.

Source: the abstract of SchoenbAt (arXiv:2505.12252, seen) announces an unbiasedness theorem; its text was not seen.

Proofs that it is false. (1) D = 1: R = phi(q) sum phi(k_j) v_j / phi(q) sum phi(k_j) does not depend on q, attention does.
(2) In numbers, d = 1, p = 2, keys 1 and 0, values 1 and 0: signs cancel, only degrees are random, 0 <= R <= 1. At D = 1, N = 0
(probability 1/2) gives 1/2 and N >= 1 gives 1, because the key 0 has no feature of degree >= 1: E R = 3/4 for every q > 0, while
attention is e^q / (e^q + 1) = 0.622 at q = 1/2. E R is 0.6819 at D = 2, 0.6471 at D = 4, and 0.6138 in the law of the released code with
one random feature beside the exact constant.

Checked exactly: (1) equality of outputs for two queries; (2) the exact law of R with degrees up to 20, which is a law of its own right
(the released code stops there) and all but the geometric one: given that no degree is larger the two agree, since the weights
differ by one common factor, which cancels; a larger one has probability at most D 2^-21. By sampling: the geometric law at D = 4 (R is in
[0, 1], so that betting applies); and, under P09R, that the same check accepts the true value of E R there.
For P09R: all degrees <= 3 and signs in d = 2, exactly; both sums in d = 5 with six keys, sampled, against closed forms with closed-form
variances; that the library's attention is their ratio; and the covariances behind these variances, from exact laws in d = 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

QUERY, ATTENTION = 0.5, math.exp(0.5) / (math.exp(0.5) + 1)


def _law(n_features: int, exact_below: int = 0) -> st.RatioLaw:
    """The exact law of R in the example, degrees up to 20."""
    keys, values = [[1], [0]], [1, 0]
    return st.ratio_law([QUERY], keys, values, n_features=n_features, max_degree=20, exact_below=exact_below)


def _claim(mean: Fraction, target: Fraction) -> st.Evidence:
    return st.decide(
        mean == target,
        because="the exact law of the ratio, degrees up to 20, rational arithmetic",
        measured=float(mean),
        predicted=float(target),
        note=f"E R = {float(mean):.7f}, attention = {float(target):.7f}",
    )


def one_feature(cell: st.Cell) -> st.Evidence:
    """D = 1: E R = 3/4, up to the degrees above 20."""
    del cell
    return _claim(_law(1).mean, _law(1).target)


def two_features(cell: st.Cell) -> st.Evidence:
    """D = 2: E R = 0.6819."""
    del cell
    return _claim(_law(2).mean, _law(2).target)


def released_law(cell: st.Cell) -> st.Evidence:
    """The law of the released code, one random feature and the constant: E R = 0.6138."""
    del cell
    law = _law(2, exact_below=1)
    return _claim(law.mean, law.target)


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
        kind="deterministic",
        because="algebra: phi(q) cancels; equality to rounding in every draw",
        measured=float(same),
        predicted=0.0,
        comparisons=draws,
        note=f"{same} of {draws} draws give both queries the same output; attention differs by {abs(exact[0, 0] - exact[1, 0]):.3f}",
    )


def _sampled_ratio(cell: st.Cell, target: float) -> st.Evidence:
    """Compare the mean of R at D = 4 with ``target``, through the library."""
    law, q, keys = st.RandomMaclaurin("exp", 4), np.array([QUERY]), np.array([[1.0], [0.0]])

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        weights = law.estimates(q, keys, rng=rng, size=size)  # (size, 2), never negative here
        return weights[:, 0] / weights.sum(axis=-1)

    return st.check_mean(
        sample, target, margin=0.005, bounds=(0.0, 1.0), alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(note="R lies in [0, 1] in this example", figure={"label": "mean of the attention ratio, D = 4"})


def sampled_four_features(cell: st.Cell) -> st.Evidence:
    """D = 4: the mean of R is not attention, within 0.005."""
    return _sampled_ratio(cell, ATTENTION)


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
    return _claim(_law(2).mean, Fraction(1, 2))


def one_feature_for_four(cell: st.Cell) -> st.Evidence:
    """Twin: the value of E R at D = 1 claimed for D = 4, through the sampled check."""
    return _sampled_ratio(cell, 0.75)


def _expect(law: st.RatioLaw, function: Callable[[Fraction, Fraction], Fraction]) -> Fraction:
    """Return E function(numerator, denominator)."""
    return sum((p * function(*sums) for sums, p in law.sums.items()), Fraction(0))


def _sums(kernel: str | st.DotProductKernel) -> st.Evidence:
    """E of numerator and denominator for d = 2, D = 2, degrees 0 .. 3, against the truncated sums of exp."""
    q, keys, values = np.array([3, -2]) / 4, np.array([[4, 2], [-1, 8]]) / 4, [3, -1]
    law = st.ratio_law(q, keys, values, kernel, n_features=2, max_degree=3)
    found = _expect(law, lambda x, _: x), _expect(law, lambda _, y: y)
    f = [sum((Fraction(t) ** n / math.factorial(n) for n in range(4)), Fraction(0)) for t in keys @ q]  # t is dyadic
    return st.decide(
        found == (values[0] * f[0] + values[1] * f[1], f[0] + f[1]),
        because="exact law, degrees 0 to 3, all signs, d = 2, D = 2, rational arithmetic",
        comparisons=2,
    )


def sums_enumerated(cell: st.Cell) -> st.Evidence:
    """Numerator and denominator by enumeration in d = 2."""
    del cell
    return _sums("exp")


def weight_without_probability(cell: st.Cell) -> st.Evidence:
    """Weights a_n in place of a_n / q_n: as if the coefficients were a_n q_n."""
    del cell
    return _sums(
        st.DotProductKernel.from_coefficients(
            "exp, weights a_n", lambda n: Fraction(2 ** max(3 - n, 0), 15 * math.factorial(n)), radius=math.inf
        )
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


def sums_sampled(cell: st.Cell) -> st.Evidence:
    """Numerator and denominator by sampling."""
    return _sums_sampled(cell)


def clamped_denominator(cell: st.Cell) -> st.Evidence:
    """The released clamp at 1 on the denominator."""
    return _sums_sampled(cell, lambda drawn: np.maximum(drawn, [-np.inf, 1.0]))


def attention_is_their_ratio(cell: st.Cell) -> st.Evidence:
    """`feature_attention`, which merges constant features, against both sums over <phi(q), phi(k_j)>: three laws, 32 features, d = 8."""
    rng, worst = np.random.default_rng(90), 0.0
    q, k = st.prepare(*rng.normal(size=(2, 16, 8)))
    v = rng.normal(size=(16, 2))
    for degrees in ("geometric", "released", "h01"):
        phi = st.RandomMaclaurin("exp", 32, degrees).draw(8, rng=0)
        found = st.to_host(st.feature_attention(cell.asarray(q), cell.asarray(k), cell.asarray(v), phi))
        phi_q, phi_k = (st.to_host(phi(cell.asarray(x))) for x in (q, k))
        weights, sizes = phi_q @ phi_k.T, np.abs(phi_q) @ np.abs(phi_k).T
        total = weights.sum(axis=1, keepdims=True)
        ratio = weights @ v / total
        # Below degree 20 a feature takes 20 sums of 8 terms; sums of 32 and of 16 follow: fewer than 512 roundings on either side.
        allowed = (
            1024 * 2.0**-53 * (sizes @ np.abs(v) + np.abs(ratio) * sizes.sum(axis=1, keepdims=True)) / np.abs(total)
        )
        worst = float(np.maximum(worst, np.max(np.abs(found - ratio) / allowed)))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="the definition; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=3 * v.size,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def covariances_enumerated(cell: st.Cell) -> st.Evidence:
    """`row_covariance` of a truncated law against the exact law of its features, d = 4, three keys."""
    q, keys, n_max = np.array([2, -1, 1, 3]) / 16, np.array([[1.0, 0, 2, -1], [2, 2, -1, 1], [-1, 3, 0, 2]]), 5
    law = st.RandomMaclaurin("exp", 1, st.GeometricDegrees(max_degree=n_max))
    found, worst = st.to_host(law.row_covariance(cell.asarray(q), cell.asarray(keys))), 0.0
    for j, m in itertools.product(range(3), repeat=2):
        # With values 1 and 0 the numerator x is the estimate of one weight, and y - x that of the other.
        pair = st.ratio_law(q, keys[[j, m]], [1, 0], n_features=1, max_degree=n_max)
        means = _expect(pair, lambda x, _: x) * _expect(pair, lambda x, y: y - x)
        size = _expect(pair, lambda x, y: abs(x * (y - x))) + abs(means)
        error = abs(Fraction(float(found[j, m])) - (_expect(pair, lambda x, y: x * (y - x)) - means))
        # A sum of six terms of at most 3 n_max + 8 rounded factors, relative to the sum of magnitudes.
        worst = max(worst, float(error / size) / (6 * (3 * n_max + 8) * 2.0**-53))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="exact laws, degrees up to 5; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=9,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def control_of_the_sampled_ratio(cell: st.Cell) -> st.Evidence:
    """The sampled leg of P09 must accept the true mean, 0.6471: a check that always accuses is caught here."""
    mean = float(_law(4).mean)
    return _sampled_ratio(cell, mean).but(note=f"E R = {mean:.7f} from the exact law, up to {4 * 2.0**-21:.0e}")


P09 = st.Proposition(
    id="P09",
    title="Feature attention is unbiased",
    statement=r"$\mathbb{E}\,\frac{\sum_j \langle\phi(q),\phi(k_j)\rangle v_j}{\sum_j \langle\phi(q),\phi(k_j)\rangle} = "
    r"\frac{\sum_j f(\langle q,k_j\rangle)\,v_j}{\sum_j f(\langle q,k_j\rangle)}$ for every number of features $D$.",
    hypotheses=(),
    source="announced in the abstract of arXiv:2505.12252 (seen); the theorem itself was not seen",
    expected="refuted",
    cites=("guo2025schoenbat",),
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
    cites=("kar2012random",),
    checks=[
        sums_enumerated,
        sums_sampled,
        attention_is_their_ratio,
        covariances_enumerated,
        control_of_the_sampled_ratio,
    ],
    mutants=[clamped_denominator, weight_without_probability],
)
