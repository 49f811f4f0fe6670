r"""P32: Queries and keys of unit length bound the error of positive features, whatever the pair.

    relative MSE of m positive features = (e^F - 1) / m,  F = |x+y|^2          (P23)
    |x| = |y| = 1:   F = 2 + 2<x,y> <= 4,  so at most (e^4 - 1) / m = 53.6 / m, with equality where x = y only

A relative error of 10 % (root mean square) then takes at most ceil((e^4 - 1) / 0.01) = 5360 features. Without it there
is no bound that holds for every pair:

    entries N(0, 1), times d^(-1/4):             E e^F = (1 - 4 d^(-1/2))^(-d/2), infinite for d <= 16;
                                                 2^32 at d = 64, 9.8e15 at d = 256
    lengths sqrt(d), times d^(-1/4), <x,y> = 0:  e^F = e^(2 sqrt d), 8.9e6 at d = 64

and where F is large the few features that carry the mean are hardly ever drawn: at F = 16 and m = 128 the estimate is
below half of SM in four draws of five, although it is unbiased.

What it costs: with unit lengths all weights of a row are within a factor e^2 of each other, and none exceeds e^2 / (n -
1 + e^2). It is attained by one key equal to the query and n - 1 keys opposite to it. Attention of normalised queries
and keys is no approximation of softmax attention: it is another attention, without sharp rows unless relative positions
bring them back.

Source: "normalised positive random features" of Luo et al. (2021; abstract and introduction seen, its theorem was not).
The formulas are derived here from Choromanski et al. (2021), Lemma 2 (seen).

Idea of proof: Cauchy-Schwarz. For Gaussian entries x + y has variance 2 d^(-1/2) in each coordinate, and E exp(c
chi^2_d) = (1 - 2c)^(-d/2) for c < 1/2, else infinite. A weight e^t / (e^t + sum of others) is largest at the largest t
= 1 and the smallest others, -1.

Checked exactly: F <= 4 for rational unit vectors; the 5360 by an enclosure of e^4; the Gaussian means by their moments,
and for d <= 16 that the partial sums have no limit. Through the library: its variance against the bound at random pairs
and at x = y, the limit of the weights. By sampling: the mean at x = y; how often an estimate is below SM / 2. Data:
features for 10 % on real heads, with lengths as they are and with unit lengths; the largest weights.

Not checked: that a model trained with unit lengths is as good; the error after division by the denominator (P10).
"""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

RELATIVE = 0.1  # the relative error that is asked for


def _unit_pairs(limit: int, scale: Fraction = Fraction(1)) -> st.Evidence:
    """|x+y|^2 <= limit, equality where x = y only: pairs of 81 rational vectors of length ``scale`` in three dimensions."""
    # The inverse stereographic projection of rational points is rational, and dense on the sphere.
    points = itertools.product([Fraction(i, 2) for i in range(-4, 5)], repeat=2)
    vectors = [tuple(scale * c / (1 + a * a + b * b) for c in (2 * a, 2 * b, 1 - a * a - b * b)) for a, b in points]
    pairs = list(itertools.combinations_with_replacement(vectors, 2))
    squared = [sum((a + b) ** 2 for a, b in zip(x, y, strict=True)) for x, y in pairs]
    wrong = sum(f > limit or (f == limit) != (x == y) for f, (x, y) in zip(squared, pairs, strict=True))
    return st.decide(
        wrong == 0,
        because="rational unit vectors; all others by Cauchy-Schwarz",
        measured=float(max(squared)),
        predicted=float(limit),
        comparisons=len(pairs),
        note=f"{wrong} of {len(pairs)} pairs disagree",
    )


def four_for_unit_vectors(cell: st.Cell) -> st.Evidence:
    """|x+y|^2 <= 4, with equality where x = y."""
    del cell
    return _unit_pairs(4)


def two_for_four(cell: st.Cell) -> st.Evidence:
    """|x+y|^2 <= 2, as for orthogonal vectors."""
    del cell
    return _unit_pairs(2)


def no_normalisation(cell: st.Cell) -> st.Evidence:
    """Vectors of length 3/2."""
    del cell
    return _unit_pairs(4, Fraction(3, 2))


def features_for_ten_percent(cell: st.Cell) -> st.Evidence:
    """ceil((e^4 - 1) / 0.01) = 5360; `decimal` rounds e^4 correctly."""
    del cell
    with localcontext() as context:
        context.prec = 30
        asked = (Decimal(4).exp() - 1) * 100
    return st.decide(
        5359 < asked < 5360,
        because="e⁴ to thirty digits, correctly rounded",
        measured=float(asked),
        predicted=5360.0,
    )


def gaussian_entries(cell: st.Cell) -> st.Evidence:
    """E e^F for entries N(0, 1) times d^(-1/4): (1 - 4 d^(-1/2))^(-d/2) at d = 64 and 256, no limit for d <= 16."""
    del cell
    wrong, sums = 0, dict[int, Fraction]()
    for dim, terms in ((64, 160), (256, 260)):
        c = Fraction(2, math.isqrt(dim))  # F = c chi^2_d
        term, total, claimed = Fraction(1), Fraction(0), (1 - 2 * c) ** (-dim // 2)
        for k in range(terms):
            # E chi^2k_d = d (d+2) ... (d+2k-2): every term is the one before it times c (d + 2k) / (k + 1).
            total += term
            term *= c * (dim + 2 * k) / (k + 1)
        ratio = c * (dim + 2 * terms) / (terms + 1)  # of later terms, falling to 2c < 1
        wrong += not (ratio < 1 and total < claimed <= total + term / (1 - ratio))
        sums[dim] = total
    # For d <= 16, c d = 2 sqrt(d) >= 1 and 2c = 4 / sqrt(d) >= 1: no term is smaller than the one before it.
    wrong += not all(2 * math.isqrt(d) >= 1 and Fraction(4, d) * 4 >= 1 for d in range(1, 17))
    return st.decide(
        wrong == 0,
        because="moments of chi² in rational arithmetic, tails of the series enclosed",
        measured=float(sums[64]),
        predicted=2.0**32,
        comparisons=len(sums) + 16,
        note=f"partial sums {float(sums[64]):.3e} at d = 64 and {float(sums[256]):.3e} at d = 256; none for d <= 16",
    )


def _relative_variance(cell: st.Cell, limit: float, lengths: float = 1.0) -> st.Evidence:
    """The library's variance over SM^2, times m, is at most e^limit - 1, and equal at x = y, after `unit_norm`."""
    worst, least, cases = 0.0, math.inf, 0
    for dim in (2, 8, 64):
        x, y = (st.unit_norm(cell.asarray(cell.rng.normal(size=(256, dim)))) * lengths for _ in range(2))
        for other in (y, x):
            law = st.PositiveFeatures(7, orthogonal=False)
            relative = st.to_host(law.variance(x, other)) * 7 / st.to_host(law.target(x, other)) ** 2
            worst, cases = max(worst, float(relative.max())), cases + len(relative)
        least = min(least, float(relative.min()))  # at x = y
    # Squares of 64 entries after a division each: F errs by less than 2^8 roundings, its exponential e^F F times as much.
    slack = 2.0**-45 * limit * math.exp(limit)
    return st.decide(
        worst <= math.expm1(limit) + slack and least >= math.expm1(limit) - slack,
        kind="deterministic",
        because="search over random pairs, and x = y; rounding bounded",
        measured=worst,
        predicted=math.expm1(limit),
        comparisons=cases,
        note=f"at least {least:.6g} at x = y, in 2, 8 and 64 dimensions",
    )


def variance_of_the_library(cell: st.Cell) -> st.Evidence:
    """Relative variance times m is at most e^4 - 1 after `unit_norm`; x = y attains it."""
    return _relative_variance(cell, 4.0)


def exponent_two(cell: st.Cell) -> st.Evidence:
    """e^2 - 1, the error of orthogonal vectors, for every pair."""
    return _relative_variance(cell, 2.0)


def lengths_of_order_one_more(cell: st.Cell) -> st.Evidence:
    """Lengths 3/2 after `unit_norm`."""
    return _relative_variance(cell, 4.0, 1.5)


def mean_at_the_worst_pair(cell: st.Cell) -> st.Evidence:
    """The mean at x = y, |x| = 1, sixteen independent features in d = 8, with the variance of the bound."""
    x = st.unit_norm(cell.asarray(np.arange(1.0, 9.0)[None]))[0, :]
    law, variance = st.PositiveFeatures(16, orthogonal=False), math.expm1(4) / 16
    return st.check_mean(
        lambda rng, size: st.to_host(law.estimates(x, x, rng=rng, size=size)) / math.e,
        1.0,
        margin=0.02 * math.sqrt(variance),
        variance=variance,
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "estimate over SM, x = y"})


def _seldom_half(cell: st.Cell, bound: float) -> st.Evidence:
    """P[estimate >= SM / 2] at |x+y|^2 = 16, 128 independent features, against ``bound``."""
    x = cell.asarray(np.array([2.0, 0.0]))
    law, half = st.PositiveFeatures(128, orthogonal=False), math.exp(4) / 2
    return st.check_tail(
        lambda rng, size: st.to_host(law.estimates(x, x, rng=rng, size=size)) >= half,
        bound,
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"x": ["|z|² = 16, m = 128"], "x_label": "at least half of its mean"})


def usually_too_low(cell: st.Cell) -> st.Evidence:
    """At |x+y|^2 = 16 and m = 128 the unbiased estimate reaches half of its mean in at most one draw of four."""
    return _seldom_half(cell, 0.25)


def hardly_ever_half(cell: st.Cell) -> st.Evidence:
    """One draw of ten in place of one of four."""
    return _seldom_half(cell, 0.1)


def _largest_weight(cell: st.Cell, limit: float) -> st.Evidence:
    """The largest weight of exp-attention of unit vectors, eight keys: random ones, and one against seven opposite."""
    tokens = st.unit_norm(cell.asarray(cell.rng.normal(size=(64, 9, 4))))
    q, k = tokens[:, :1, :], tokens[:, 1:, :]
    sign = cell.asarray(np.array([1.0, *[-1.0] * 7])[:, None])
    eye = cell.asarray(np.eye(8))
    largest = [float(st.to_host(st.kernel_attention(q, keys, eye, "exp")).max()) for keys in (k, q * sign)]
    slack = 2.0**-44 * limit  # sums of eight and of four numbers, one exponential
    return st.decide(
        max(largest) <= limit + slack and largest[1] >= limit - slack,
        kind="deterministic",
        because="random keys, and the extreme ones; rounding bounded",
        measured=max(largest),
        predicted=limit,
        comparisons=2 * 64 * 8,
        note=f"largest of random keys {largest[0]:.3f}, of the extreme ones {largest[1]:.3f}",
    )


def no_sharp_rows(cell: st.Cell) -> st.Evidence:
    """No weight exceeds e^2 / (n - 1 + e^2), n = 8; the extreme keys attain it."""
    return _largest_weight(cell, math.exp(2) / (7 + math.exp(2)))


def factor_e_of_the_weights(cell: st.Cell) -> st.Evidence:
    """A factor e in place of e^2, as if the smallest inner product were 0."""
    return _largest_weight(cell, math.e / (7 + math.e))


def _squared_sums(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """|q_i + k_j|^2, (n, m)."""
    return np.sum(q * q, axis=1)[:, None] + np.sum(k * k, axis=1) + 2 * q @ k.T


def features_on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Features for 10 % error, (e^F - 1) / 0.01, of the given heads: times d^(-1/4), and of unit length."""
    found, medians = list[st.Evidence](), dict[str, list[float]]()
    for head in cell.heads:
        factor = head.q.shape[1] ** -0.25
        for name, squared in (
            ("as they are", _squared_sums(head.q * factor, head.k * factor)),
            ("unit norms", _squared_sums(*(st.unit_norm(x) for x in (head.q, head.k)))),
        ):
            with np.errstate(over="ignore"):
                median, worst = np.expm1([np.median(squared), squared.max()]) / RELATIVE**2
            medians.setdefault(name, []).append(min(float(median), 1e300))
            note = f"median pair, |z|² = {np.median(squared):.2f}; largest |z|² = {squared.max():.2f}"
            found += [
                st.observe(name=f"features for 10 % error, {name}: {head.name}", measured=float(median), note=note),
                st.observe(name=f"features for 10 % error, {name}, worst pair: {head.name}", measured=float(worst)),
            ]
    (least, _), (fewest, most) = ((min(medians[name]), max(medians[name])) for name in ("as they are", "unit norms"))
    figure = {
        "plot": "bars",
        "title": "Features for 10 % error",
        "caption": f"With unit norms the median pair takes {fewest:,.0f} to {most:,.0f} features, with lengths as they are "
        f"{least:,.0f} or more.",
        "names": [head.name for head in cell.heads],
        "series": medians,
        "y_label": "features for 10 % error, median pair",
        "log": True,
    }
    return [found[0].but(figure=figure), *found[1:]]


def weights_on_activations(cell: st.Cell) -> list[st.Evidence]:
    """The largest weight of a row, mean over the rows of the given heads: as trained, and of unit vectors."""
    found = []
    for head in cell.heads:
        factor = head.q.shape[1] ** -0.25
        limit = math.exp(2) / (len(head.k) - 1 + math.exp(2))
        for name, q, k in (
            ("as trained", head.q * factor, head.k * factor),
            ("unit norms", st.unit_norm(head.q), st.unit_norm(head.k)),
        ):
            logits = q @ k.T
            largest = 1 / np.sum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
            found.append(
                st.observe(
                    name=f"largest weight of a row, {name}: {head.name}",
                    measured=float(largest.mean()),
                    predicted=limit if name == "unit norms" else None,
                    note="mean over rows" + ("; predicted is the limit" if name == "unit norms" else ""),
                )
            )
    return found


P32 = st.Proposition(
    id="P32",
    title="Unit norms bound the error of positive features",
    statement=r"If $\|x\| = \|y\| = 1$, the relative squared error of $m$ positive features is at most $(e^4 - 1)/m$, attained where $x = y$. "
    r"Its mean over queries and keys with entries $N(0, 1)$ times $d^{-1/4}$ is $((1 - 4 d^{-1/2})^{-d/2} - 1)/m$, infinite for $d \le 16$. "
    r"With unit norms no weight of $n$ keys exceeds $e^2/(n - 1 + e^2)$, without a bias.",
    hypotheses=(
        r"$m$ features of $\mathrm{SM} = e^{\langle x,y\rangle}$, $x, y \in \mathbb{R}^d$: positive, independent and untilted; "
        r"$F = \|z\|^2$, $z = x + y$",
        r"the weight of key $j$ is $e^{\langle q,k_j\rangle}$ over the sum of all $n$ of them",
        r"unit norms: $\|x\| = \|y\| = 1$, and $\|q\| = \|k_j\| = 1$",
    ),
    source="Luo et al. (2021), abstract and introduction seen, theorem not seen; derived here from Choromanski et al. (2021), Lemma 2 (seen)",
    expected="consistent",
    checks=[
        four_for_unit_vectors,
        features_for_ten_percent,
        gaussian_entries,
        variance_of_the_library,
        mean_at_the_worst_pair,
        usually_too_low,
        no_sharp_rows,
        features_on_activations,
        weights_on_activations,
    ],
    mutants=[
        two_for_four,
        no_normalisation,
        exponent_two,
        lengths_of_order_one_more,
        hardly_ever_half,
        factor_e_of_the_weights,
    ],
    cites=("luo2021stable", "choromanski2021rethinking"),
)
