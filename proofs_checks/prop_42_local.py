r"""P42: local expansions of attention: every weight is positive, no block has too much mass, the error is bounded.

For a cluster of queries with centre c, x = q - c, and keys with weights w_j = e^<c, k_j>, the keys of a block b are replaced by one:

    o = sum_j w_j e^<x, k_j> v_j / sum_j w_j e^<x, k_j>,          the same for every c: e^<q, k> = e^<c, k> e^<x, k>
    o^ = sum_b W_b e^<x, m_b> v_b / sum_b W_b e^<x, m_b>,         W_b = sum w_j,  m_b = sum w_j k_j / W_b,  v_b = sum w_j v_j / W_b

A key that is treated exactly is a block of its own. Write z_j = <x, k_j - m_b>, E_b for the mean over a block with weights w_j, p_j for the
weights w_j e^<x, m_b> over their sum, pi_b for their sum over a block, E for the mean with weights p_j, rho_b for the range of z in b. Then

    (1)  o^ = E v:  attention with p_j for the true weights, which are p_j e^(z_j) / E e^z; so o^ lies in the convex hull of the values
    (2)  E_b z = 0, hence  1 <= E_b e^z <= e^(rho_b^2 / 8):  a block never has too much mass, and what it lacks is of second order
    (3)  o - o^ = E (e^z - 1)(v - o^) / E e^z,  hence  |o - o^|^2 <= E |v - o^|^2  sum_b pi_b (e^(rho_b^2 / 2) - 1)
    (4)  o - o^ = L + r,  L = sum_b pi_b [E_b z (v - v_b) + E_b z^2 (v - o^) / 2],
         |r| <= E |z|^3 e^(z+) |v - o^| / 6  +  |L| E z^2 e^(z+) / 2,          z+ = max(z, 0): third order in the size of a cluster

Hypotheses: means of keys and of values have the weights w_j of their cluster, the mass too; z is a linear function of the key.

Source: not in the sources seen. The upper bound of (2) is Hoeffding's lemma (1963), the lower one Jensen's inequality.

Proofs. (1) is the definition of v_b, and e^<x, k_j> = e^<x, m_b> e^(z_j). (2) Jensen, and Hoeffding's lemma for a variable of mean 0 with range
rho. (3) E e^z o = E e^z v, so E e^z (o - o^) = E e^z (v - o^) = E (e^z - 1)(v - o^), as E (v - o^) = 0. By (2) E e^z >= 1, and by Cauchy and
Schwarz the square is at most E |v - o^|^2 E (e^z - 1)^2, where E_b (e^z - 1)^2 = E_b e^(2z) - 2 E_b e^z + 1 <= e^((2 rho)^2 / 8) - 1. (4) Expand
e^z - 1 = z + z^2 / 2 + r_3 with |r_3| <= |z|^3 e^(z+) / 6 in (3); E z (v - o^) = sum pi_b E_b z (v - v_b) by (2). The division by E e^z
in [1, 1 + E z^2 e^(z+) / 2] takes off at most |L| E z^2 e^(z+) / 2, and of the rest nothing is added.

Checked exactly: recentring, with 2 for e so that all is rational; (2) and (4) as identities of power series in s, z -> s z, up to s^2, in rational
arithmetic. By search: (2), (3) and (4) for blocks drawn at random, down to small clusters. That the library computes this definition, and that its
weights are positive with sum 1. The mutants, unweighted means, weights of the cluster left out of the mass, values averaged without weights, each
break the identities and differ from what the library computes.
Not checked: how clusters and blocks are found; every choice of them satisfies the proposition. (3) is far above the error where ranges are wide, as
on real heads; there the error is measured, not bounded (`certify`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

U = 2.0**-53
AVERAGES = ("means", "mass", "values")  # what the weights of the cluster enter


def recentred_in_powers_of_two(cell: st.Cell) -> st.Evidence:
    """Weights 2^<q, k_j> and 2^<c, k_j> 2^<q - c, k_j>, integer vectors: the same mean of values, a fraction."""
    del cell
    rng, same, cases = np.random.default_rng(42), 0, 64
    for _ in range(cases):
        q, c, k, v = (rng.integers(-4, 5, size=shape).astype(object) for shape in ((3,), (3,), (6, 3), (6,)))
        whole = _mean([Fraction(2) ** t for t in k @ q], v)
        centred = [Fraction(2) ** s * Fraction(2) ** t for s, t in zip(k @ c, k @ (q - c), strict=True)]
        same += whole == _mean(centred, v)
    return st.decide(same == cases, because="rational arithmetic, 2 in place of e", comparisons=cases)


def _mean(weights: Any, values: Any) -> Fraction:
    """The mean of ``values`` with these weights, exact."""
    total = sum((w * Fraction(x) for w, x in zip(weights, values, strict=True)), Fraction(0))
    return total / sum(weights, Fraction(0))


def _series(without: str = "") -> st.Evidence:
    """o(s) - o^ for z -> s z up to s^2 against L, and the mass of every block up to s against W_b, in fractions."""
    rng, wrong, cases = np.random.default_rng(4242), 0, 32
    for _ in range(cases):
        k, v = (rng.integers(-6, 7, size=(2, 4)).astype(object) for _ in range(2))  # two blocks of four keys, d = 1
        w = rng.integers(1, 9, size=(2, 4)).astype(object)
        shrink = [Fraction(int(rng.integers(1, 9)), 8) for _ in range(2)]  # e^<x, m_b>, any positive number
        one = np.full((2, 4), 1, dtype=object)
        m = [_mean(a, b) for a, b in zip(one if without == "means" else w, k, strict=True)]
        middle = [_mean(a, b) for a, b in zip(one if without == "values" else w, v, strict=True)]
        mass = [sum(a, Fraction(0)) for a in (one if without == "mass" else w)]
        p = np.array([[a * s for a in row] for row, s in zip(w, shrink, strict=True)])
        z = np.array([[Fraction(a) - b for a in row] for row, b in zip(k, m, strict=True)])
        shares = [a * s for a, s in zip(mass, shrink, strict=True)]
        out = _mean(shares, middle)
        powers = [[(p * z**i * v**j).sum() / math.factorial(i) for i in range(3)] for j in (1, 0)]
        zero, first, second = _quotient(*powers)
        spread = [(w * z * (v - np.array(middle)[:, None])).sum(axis=1), (w * z**2 * (v - out)).sum(axis=1)]
        by_block = [[s * e / t for s, e, t in zip(shares, row, map(sum, w), strict=True)] for row in spread]
        claimed = [sum(row) / sum(shares) for row in by_block]
        wrong += [zero - out, first, second] != [0, claimed[0], claimed[1] / 2]
        wrong += any(
            Fraction(total) != a or s for total, a, s in zip(map(sum, w), mass, (w * z).sum(axis=1), strict=True)
        )
    return st.decide(
        wrong == 0,
        because="power series in the size of the cluster, rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=2 * cases,
        note=f"{wrong} of {2 * cases} identities fail, in two blocks of four keys",
    )


def _quotient(top: list[Fraction], bottom: list[Fraction]) -> list[Fraction]:
    """The first coefficients of a quotient of power series."""
    found: list[Fraction] = []
    for i, a in enumerate(top):
        found.append((a - sum((bottom[i - j] * found[j] for j in range(i)), Fraction(0))) / bottom[0])
    return found


def leading_order(cell: st.Cell) -> st.Evidence:
    """(2) and (4) to second order."""
    del cell
    return _series()


def _problem(rng: np.random.Generator, size: float) -> tuple[np.ndarray, ...]:
    """Log-weights (b, s), z (b, s) of mean 0 in every block, and log e^<x, m_b> (b, 1); values (b, s, 2)."""
    logs, products = rng.normal(size=(2, 4, 6)) * np.array([[[3.0]], [[size]]])
    weights = np.exp(logs)
    middle = (weights * products).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    return logs, products - middle, middle, rng.normal(size=(4, 6, 2))


def _bounds(cell: st.Cell, holds: Callable[..., tuple[Any, Any]], because: str, name: str) -> st.Evidence:
    """Compare (what is bounded, its bound) of ``holds`` over random blocks, spreads from 2^-8 to 1."""
    worst, cases, sizes = 0.0, 40, 2.0 ** np.arange(-8, 1)
    shown = np.zeros((2, len(sizes)))
    for i, size in enumerate(sizes):
        for _ in range(cases):
            found, bound = holds(*_problem(cell.rng, float(size)))
            worst = max(worst, float(np.max(found / bound)))
            shown[:, i] = np.maximum(shown[:, i], (np.max(found), np.max(bound)))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because=because,
        measured=worst,
        predicted=1.0,
        comparisons=cases * len(sizes),
        note=f"at most {worst:.2g} of the bound, rounding added to it",
        figure={
            "plot": "curves", "x": sizes.tolist(), "series": {f"largest {name}": shown[0].tolist(), "largest bound": shown[1].tolist()},
            "x_label": "standard deviation of ⟨x, k⟩ in a block", "y_label": name, "log_x": True, "log_y": True,
        },
    )  # fmt: skip


def _shares(logs: np.ndarray, middle: np.ndarray) -> np.ndarray:
    weights = np.exp(logs + middle)
    return np.asarray(weights / weights.sum())


def mass_of_a_block(cell: st.Cell) -> st.Evidence:
    """(2): 0 <= E_b e^z - 1 <= e^(rho^2 / 8) - 1."""

    def holds(logs: np.ndarray, z: np.ndarray, middle: np.ndarray, v: np.ndarray) -> tuple[Any, Any]:
        del middle, v
        weights = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
        lacking, rounding = (weights * np.expm1(z)).sum(axis=1), 32 * U * (weights * np.exp(np.abs(z))).sum(axis=1)
        bound = np.expm1(np.ptp(z, axis=1) ** 2 / 8)
        return np.where(lacking >= -rounding, lacking, np.inf), bound + rounding

    return _bounds(
        cell, holds, "Jensen from below, Hoeffding's lemma from above", "share that the mass of a block lacks"
    )


def output_bound(cell: st.Cell) -> st.Evidence:
    """(3): the distance of the outputs."""

    def holds(logs: np.ndarray, z: np.ndarray, middle: np.ndarray, v: np.ndarray) -> tuple[Any, Any]:
        p = _shares(logs, middle)[..., None]
        out, true = (p * v).sum(axis=(0, 1)), _mean_of(p[..., 0] * np.exp(z), v)
        spread = math.sqrt(float((p * (v - out) ** 2).sum()))
        sharp = math.sqrt(float((p[..., 0].sum(axis=1) * np.expm1(np.ptp(z, axis=1) ** 2 / 2)).sum()))
        return np.linalg.norm(true - out), spread * sharp + 256 * U * np.abs(v).max()

    return _bounds(cell, holds, "Cauchy and Schwarz, and Hoeffding's lemma", "distance of the outputs")


def remainder_bound(cell: st.Cell) -> st.Evidence:
    """(4): what is left beside L."""

    def holds(logs: np.ndarray, z: np.ndarray, middle: np.ndarray, v: np.ndarray) -> tuple[Any, Any]:
        p = _shares(logs, middle)[..., None]
        out, true, z = (p * v).sum(axis=(0, 1)), _mean_of(p[..., 0] * np.exp(z), v), z[..., None]
        lead, growth = (p * (z + z**2 / 2) * (v - out)).sum(axis=(0, 1)), np.exp(np.maximum(z, 0))
        distance = np.linalg.norm(v - out, axis=-1, keepdims=True)
        bound = (p * np.abs(z) ** 3 * growth * distance).sum() / 6
        bound += np.linalg.norm(lead) * (p * z**2 * growth).sum() / 2
        return np.linalg.norm(true - out - lead), bound + 256 * U * np.abs(v).max() * (1 + np.abs(z).max()) ** 2

    return _bounds(cell, holds, "Taylor's theorem", "remainder beside the leading order")


def _mean_of(weights: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.asarray((weights[..., None] * v).sum(axis=(0, 1)) / weights.sum())


def _separated() -> tuple[np.ndarray, ...]:
    """Two clusters of four queries and two blocks of four keys, each its own half, and values."""
    rng = np.random.default_rng(420)
    q, k = rng.normal(size=(2, 8, 4)) * 0.5
    q[4:, 1] += 8.0
    k[4:, 0] += 8.0
    return q, k, rng.normal(size=(8, 3))


def _definition(q: np.ndarray, k: np.ndarray, v: np.ndarray, exact: int, without: str) -> np.ndarray:
    """Local expansions by their definition, row by row, halves as clusters and as blocks."""
    halves, out = (slice(0, 4), slice(4, 8)), np.empty((8, v.shape[1]))
    rest = np.concatenate([q[half] - q[half].mean(axis=0) for half in halves])
    z = np.concatenate([k[half] - k[half].mean(axis=0) for half in halves])
    spread = np.sum((z @ (rest.T @ rest)) * z, axis=1)
    for cluster in halves:
        c = q[cluster].mean(axis=0)
        w = np.exp(k @ c - np.max(k @ c))
        left = np.argsort(-w * spread)[exact:]
        parts = [[j] for j in range(8) if j not in left]
        parts += [[j for j in left if half.start <= j < half.stop] for half in halves]
        used = {name: np.ones(8) if without == name else w for name in AVERAGES}
        m, values = (np.stack([np.average(x[part], axis=0, weights=used[name][part]) for part in parts])
                     for name, x in (("means", k), ("values", v)))  # fmt: skip
        mass = np.array([used["mass"][part].sum() for part in parts])
        weights = mass * np.exp((q[cluster] - c) @ m.T)
        out[cluster] = weights @ values / weights.sum(axis=1, keepdims=True)
    return out


def _library(cell: st.Cell, without: str = "") -> st.Evidence:
    """`local_attention` against the definition, without and with exact keys."""
    q, k, v = _separated()
    worst, size = 0.0, float(np.abs(q).max() * np.abs(k).max() * 4)
    for exact in (0, 2):
        found = st.local_attention(*(cell.asarray(x) for x in (q, k, v)), budget=st.LocalBudget(2, 2, exact))
        # Exponents up to 3 |q| |k| of sums of 8 terms, each with a relative error u; as much for sums and means.
        allowed = 64 * U * (3 * size + 16) * np.abs(v).max()
        worst = max(worst, float(np.max(np.abs(st.to_host(found) - _definition(q, k, v, exact, without)))) / allowed)
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="the definition, row by row; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=2 * v.size,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def library_computes_this(cell: st.Cell) -> st.Evidence:
    """Two clusters, two blocks, no exact key and two."""
    return _library(cell)


def weights_are_positive_and_sum_to_one(cell: st.Cell) -> st.Evidence:
    """(1): with unit vectors as values the output is the weights, 512 queries and 96 keys."""
    rng, worst = np.random.default_rng(421), 0.0
    q, k = rng.normal(size=(512, 8)), rng.normal(size=(96, 8))
    for factor in (0.1, 1.0, 4.0):
        found = st.local_attention(
            *(cell.asarray(x) for x in (factor * q, k, np.eye(96))), budget=st.LocalBudget(16, 8, 8)
        )
        weights = st.to_host(found)
        worst = max(worst, float(np.max(np.abs(weights.sum(axis=1) - 1))) / (2 * 96 * U))
        worst = worst if bool((weights >= 0).all()) else math.inf
    return st.decide(
        worst <= 1, kind="deterministic", because="weights from unit vectors; rounding of a sum of 96", measured=worst,
        predicted=0.0, comparisons=3 * 512 * 97, note=f"sums are 1 within {worst:.2g} of the rounding bound",
    )  # fmt: skip


def on_real_heads(cell: st.Cell) -> list[st.Evidence]:
    """Relative error of the whole output with the default budget, as trained, beside the better of two means."""
    found = []
    for head in cell.heads:
        q, k = (x / head.q.shape[1] ** 0.25 for x in (head.q, head.k))
        exact = st.kernel_attention(q, k, head.v, "exp")
        error, *means = (
            float(np.linalg.norm(out - exact) / np.linalg.norm(exact))
            for out in (
                st.local_attention(q, k, head.v),
                st.mean_attention(q, k, head.v),
                st.weighted_mean_attention(q, k, head.v),
            )
        )
        note = f"the better mean: {min(means):.3f}; {st.LocalBudget.for_length(len(q), len(k))}"
        found.append(st.observe(name=f"relative error, default budget: {head.name}", measured=error, note=note))
    return found


def block_means_without_weights(cell: st.Cell) -> st.Evidence:
    """m_b the plain mean: the mass of a block errs to first order."""
    del cell
    return _series("means")


def mass_without_weights(cell: st.Cell) -> st.Evidence:
    """W_b the number of keys: the weights of the cluster are forgotten."""
    del cell
    return _series("mass")


def values_without_weights(cell: st.Cell) -> st.Evidence:
    """v_b the plain mean of the values: an error that does not vanish with the size of the cluster."""
    del cell
    return _series("values")


def library_and_means_without_weights(cell: st.Cell) -> st.Evidence:
    """The library compared with plain block means."""
    return _library(cell, "means")


def library_and_mass_without_weights(cell: st.Cell) -> st.Evidence:
    """The library compared with blocks that forget the weights of their cluster."""
    return _library(cell, "mass")


def library_and_values_without_weights(cell: st.Cell) -> st.Evidence:
    """The library compared with values averaged without weights."""
    return _library(cell, "values")


P42 = st.Proposition(
    id="P42",
    title="Local expansions: positive weights, and an error that is bounded and of known leading order",
    statement=r"With $z_j = \langle q - c, k_j - m_b\rangle$, $m_b$ and $v_b$ means with weights $w_j = e^{\langle c, k_j\rangle}$ and $p_j \propto w_j "
    r"e^{\langle q - c, m_b\rangle}$: $\hat o = \sum_j p_j v_j$, $1 \le \mathbb{E}_b e^z \le e^{\rho_b^2 / 8}$ and $\|o - \hat o\|^2 \le \sum_j p_j \|v_j - "
    r"\hat o\|^2 \sum_b \pi_b (e^{\rho_b^2 / 2} - 1)$, $\rho_b$ the range of $z$ in block $b$, $\pi_b$ its share; and $o - \hat o = \sum_b \pi_b [\mathbb{E}_b "
    r"z (v - v_b) + \frac{1}{2} \mathbb{E}_b z^2 (v - \hat o)] + O(\|z\|^3)$.",
    hypotheses=(
        "mass of a block, and means of its keys and of its values, are taken with the weights of the cluster",
        "the kernel is exp",
    ),
    source="derived here; not in the sources seen. Hoeffding (1963) for his lemma (from memory)",
    expected="consistent",
    cites=("hoeffding1963probability",),
    checks=[
        recentred_in_powers_of_two,
        leading_order,
        mass_of_a_block,
        output_bound,
        remainder_bound,
        library_computes_this,
        weights_are_positive_and_sum_to_one,
        on_real_heads,
    ],
    mutants=[
        block_means_without_weights,
        mass_without_weights,
        values_without_weights,
        library_and_means_without_weights,
        library_and_mass_without_weights,
        library_and_values_without_weights,
    ],
)
