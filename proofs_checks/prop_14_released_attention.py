r"""P14: "The released attention computes kernel attention." It is causal, and it raises small denominators to 1.

    released_i  =  sum_{j <= i} <phi(q_i), phi(k_j)> v_j  /  max(1, sum_{j <= i} <phi(q_i), phi(k_j)>)

Hypotheses of the repair P14R: the clamp is left out, causal attention is what is wanted, and no row of weights sums
to 0.

Source: rmfa.py of the code released with SchoenbAt (arXiv:2505.12252), read, not run; the abstract (seen) announces a
drop-in replacement of attention. Prefix sums: Katharopoulos et al. (2020), from memory.

Proof that it is false, whatever the features, exact ones included. (1) The first row sees one key: kernel attention
is v_1, the released row is min(1, f(t)) v_1, and f(t) < f(0) = 1 for t < 0. After pre-scaling to d = 32 it may be
0.838 v_1 (exp). With V = 1 everywhere it is therefore not 1. (2) Row i is the same whatever the later keys hold;
attention over all keys is not.

Idea of proof of the repair: sum_{j <= i} <phi(q_i), phi(k_j)> v_j = <phi(q_i), sum_{j <= i} phi(k_j) v_j>, so that
prefix sums are the sums of causal kernel attention; what comes after i is in none of them.

Checked exactly: a first row with the two features (1, x) of the kernel 1 + t, in numbers that float64 holds; later
tokens replaced; prefix sums against the masked product in integers, over 1,100 tokens, so that two block boundaries
are crossed. By search: the exact features of the five kernels (phi(q_i) = row i of the Gram matrix, phi(k_j) = unit
vector j), rounding bounded.

Would not tell: moving later keys together with their values, which changes neither form of attention. Here they are
replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import schoenbat_theory as st

TOKENS = 1100  # two block boundaries, at 512 and 1024
UNIT = 2.0**-53
Attention = Callable[[Any, Any, Any], Any]  # features of queries, features of keys, values


def _released(phi_q: Any, phi_k: Any, v: Any, clamp: float | None = 1.0) -> Any:
    return st.released_attention(phi_q, phi_k, v, lambda features: features, clamp=clamp)


def _without_clamp(phi_q: Any, phi_k: Any, v: Any) -> Any:
    return _released(phi_q, phi_k, v, clamp=None)


def _through_features(phi_q: Any, phi_k: Any, v: Any) -> Any:
    return st.feature_attention(phi_q, phi_k, v, lambda features: features, causal=True)


def _apply(cell: st.Cell, attention: Attention, *arrays: np.ndarray) -> np.ndarray:
    return st.to_host(attention(*map(cell.asarray, arrays)))


def first_row(cell: st.Cell) -> st.Evidence:
    """One token, q = 1/2, k = -1/2, v = 1, kernel 1 + t: attention is 1 whether causal or not, the released code's is 3/4."""
    found = _apply(cell, _released, np.array([[1, 0.5]]), np.array([[1, -0.5]]), np.array([[1.0]]))
    return st.decide(
        float(found[0, 0]) == 1,
        because="a single key has all the weight; halves and quarters are exact in float64",
        measured=float(found[0, 0]),
        predicted=1.0,
    )


def _ones_stay_ones(cell: st.Cell, attention: Attention) -> st.Evidence:
    """V = 1, exact features of the five kernels, 64 sequences of 8 pre-scaled tokens, d = 32."""
    q, k = st.prepare(*cell.rng.normal(size=(2, 64, 8, 32)))
    smallest, largest = np.inf, -np.inf
    for kernel in st.KERNELS.values():
        out = _apply(cell, attention, kernel.gram(q, k), np.broadcast_to(np.eye(8), (64, 8, 8)), np.ones((64, 8, 1)))
        smallest, largest = float(np.minimum(smallest, out.min())), float(np.maximum(largest, out.max()))
    # Two sums of 8 positive products and a quotient: 9 roundings in either sum, one in the quotient.
    allowed = 20 * UNIT
    return st.decide(
        1 - smallest <= allowed and largest - 1 <= allowed,
        kind="deterministic",
        because="search over random sequences; rounding bounded",
        measured=smallest,
        predicted=1.0,
        comparisons=len(st.KERNELS) * 64 * 8,
        note=f"outputs between {smallest:.3f} and {largest:.3f}",
    )


def values_of_one(cell: st.Cell) -> st.Evidence:
    """The mean of ones is not 1; the figure shows the smallest possible first row."""
    dims = [4, 8, 16, 32, 64, 128, 256]
    shown = {name: [st.KERNELS[name](-(dim**-0.5)) for dim in dims] for name in ("exp", "inv", "logi", "sqrt")}
    return _ones_stay_ones(cell, _released).but(
        figure={
            "plot": "curves",
            "title": "smallest first row of the released attention",
            "x": dims,
            "series": {"attention": [1.0] * len(dims)} | shown,
            "x_label": "width of a head d",
            "y_label": "output over v₁",
            "log_x": True,
        }
    )


def additive_epsilon(cell: st.Cell) -> st.Evidence:
    """Twin: 10^-6 added to the denominator in place of the clamp."""

    def attention(phi_q: Any, phi_k: Any, v: Any) -> Any:
        sums = st.attention_sums(phi_q, phi_k, v, causal=True)
        return sums.numerator / (sums.denominator[..., None] + 1e-6)

    return _ones_stay_ones(cell, attention)


def _rows_that_see_later_tokens(cell: st.Cell, attention: Attention) -> int:
    """How many of the first five rows of six change when the tokens after them are replaced; kernel 1 + t, integers."""
    rng, changed = np.random.default_rng(14), 0
    x = rng.integers(1, 9, size=(6, 1)) * 1.0
    features, v = np.concatenate([np.ones_like(x), x], axis=-1), rng.integers(-9, 9, size=(6, 2)) * 1.0
    before = _apply(cell, attention, features, features, v)
    for i in range(5):
        other, values = features.copy(), v.copy()
        other[i + 1 :, 1] += 100
        values[i + 1 :] += 10
        changed += not np.array_equal(_apply(cell, attention, features, other, values)[i], before[i])
    return changed


def _sees_all_keys(cell: st.Cell, attention: Attention) -> st.Evidence:
    changed = _rows_that_see_later_tokens(cell, attention)
    return st.decide(
        changed == 5,
        because="later keys and values replaced; outputs compared bit by bit",
        measured=float(changed),
        predicted=5.0,
        comparisons=5,
        note=f"{changed} of 5 rows depend on the tokens after them",
    )


def later_tokens_matter(cell: st.Cell) -> st.Evidence:
    """In attention over all keys every row depends on the tokens after it; here none does."""
    return _sees_all_keys(cell, _released)


def causal_without_clamp(cell: st.Cell) -> st.Evidence:
    """Twin: the clamp repaired, causality not."""
    return _sees_all_keys(cell, _without_clamp)


def share_of_tokens_shrunk_if_first(cell: st.Cell) -> list[st.Evidence]:
    """Tokens of each head whose output the clamp would shrink if the sequence began with them (exp, exact features)."""
    found = []
    for head in cell.heads:
        q, k = st.prepare(head.q, head.k)
        weight = np.exp(np.sum(q * k, axis=-1))
        found.append(
            st.observe(
                name=head.name,
                measured=float(np.mean(weight < 1)),
                note=f"to {weight.min():.3f} of their value at the worst",
            )
        )
    return found


def _prefix_sums_agree(cell: st.Cell, twin: Attention | None = None) -> st.Evidence:
    """Both sums, by the library or a twin, against the masked product: integers between -3 and 3, three features, two values."""
    phi_q, phi_k, v = np.random.default_rng(41).integers(-3, 4, size=(3, TOKENS, 3))
    v[:, 2] = 1  # so that the denominator is one more numerator
    if twin is None:
        sums = st.attention_sums(*(cell.asarray(x * 1.0) for x in (phi_q, phi_k, v[:, :2])), causal=True)
        found = np.concatenate([st.to_host(sums.numerator), st.to_host(sums.denominator)[:, None]], axis=1)
    else:
        found = twin(phi_q, phi_k, v)
    wrong = int(np.sum(found != np.tril(phi_q @ phi_k.T) @ v))
    return st.decide(
        wrong == 0,
        because="integers below 2^53, which float64 adds exactly",
        measured=float(wrong),
        predicted=0.0,
        comparisons=v.size,
        note=f"{wrong} of {v.size:,} sums differ from those over the keys j <= i",
    )


def prefix_sums(cell: st.Cell) -> st.Evidence:
    """`attention_sums`, causal, across block boundaries."""
    return _prefix_sums_agree(cell)


def _cumulative(phi_q: np.ndarray, phi_k: np.ndarray, v: np.ndarray, axis: int) -> np.ndarray:
    return np.einsum("nd,nde->ne", phi_q, np.cumsum(phi_k[:, :, None] * v[:, None, :], axis=axis))


def cumulative_sums(cell: st.Cell) -> st.Evidence:
    """The released code's own way: all n x D x e products, and their cumulative sums over the tokens."""
    return _prefix_sums_agree(cell, lambda q, k, v: _cumulative(q, k, v, axis=0))


def cumulative_over_features(cell: st.Cell) -> st.Evidence:
    """Cumulative sums along the wrong axis."""
    return _prefix_sums_agree(cell, lambda q, k, v: _cumulative(q, k, v, axis=1))


def sees_one_key_too_few(cell: st.Cell) -> st.Evidence:
    """Keys j < i."""
    return _prefix_sums_agree(cell, lambda q, k, v: np.tril(q @ k.T, -1) @ v)


def sees_one_key_too_many(cell: st.Cell) -> st.Evidence:
    """Keys j <= i + 1."""
    return _prefix_sums_agree(cell, lambda q, k, v: np.tril(q @ k.T, 1) @ v)


def clamped_sums(cell: st.Cell) -> st.Evidence:
    """The released clamp on the denominators."""
    return _prefix_sums_agree(
        cell, lambda q, k, v: np.maximum(_cumulative(q, k, v, axis=0), np.array([-np.inf, -np.inf, 1.0]))
    )


def later_tokens_are_ignored(cell: st.Cell) -> st.Evidence:
    """Row i of the causal form ignores what comes after it, and the same test sees that the form over all keys does not."""

    def over_all(phi_q: Any, phi_k: Any, v: Any) -> Any:
        return st.attention_sums(phi_q, phi_k, v).ratio()

    causal, full = (_rows_that_see_later_tokens(cell, one) for one in (_without_clamp, over_all))
    return st.decide(
        (causal, full) == (0, 5),
        because="later keys and values replaced; outputs compared bit by bit",
        measured=float(causal),
        predicted=0.0,
        comparisons=10,
        note=f"rows that change: {causal} of 5 in the causal form, {full} of 5 in the form over all keys",
    )


def ones_stay_ones(cell: st.Cell) -> st.Evidence:
    """Without the clamp, the mean of ones is 1."""
    return _ones_stay_ones(cell, _without_clamp)


def kernel_attention_is_reached(cell: st.Cell) -> st.Evidence:
    """With exact features the unclamped form, and `feature_attention`, are causal kernel attention: five kernels, 40 tokens, d = 16."""
    tokens, dim, worst = 40, 16, 0.0
    for kernel in st.KERNELS.values():
        q, k = st.prepare(*cell.rng.normal(size=(2, tokens, dim)))
        k[0] = -q[0]  # the first row is where a clamp acts
        v = cell.rng.uniform(-1, 1, size=(tokens, 3))
        exact = st.kernel_attention(cell.asarray(q), cell.asarray(k), cell.asarray(v), kernel, causal=True)
        for attention in (_without_clamp, _through_features):
            found = _apply(cell, attention, kernel.gram(q, k), np.eye(tokens), v)
            worst = float(np.maximum(worst, np.max(np.abs(found - st.to_host(exact)))))
    # Either side finds t with error d u d^(-1/2), which f'/f <= 4/3 on |t| <= 1/4 passes on, and some roundings more; each
    # of four sums of at most m weighted values |v| <= 1 errs by that and by m u.
    allowed = 4 * (tokens + 3 * dim**0.5 + 16) * UNIT
    return st.decide(
        worst <= allowed,
        kind="deterministic",
        because="search; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=2 * len(st.KERNELS) * tokens * 3,
        note=f"largest difference {worst:.1e}, rounding bound {allowed:.1e}",
    )


def weights_that_sum_to_zero(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: features 1, 1 and 1, -1 give the weight 0; no attention exists, and the released code returns 0."""
    arrays = np.array([[1.0, 1.0]]), np.array([[1.0, -1.0]]), np.array([[5.0]])
    try:
        _apply(cell, _without_clamp, *arrays)
        refused = False
    except ArithmeticError:
        refused = True
    return st.decide(
        refused and _apply(cell, _released, *arrays)[0, 0] == 0,
        because="0/0 is refused by name; 0/1 is what the clamp makes of it",
    )


P14 = st.Proposition(
    id="P14",
    title="The released attention computes kernel attention",
    statement=r"With exact features, $\frac{\sum_{j \le i} \langle\phi(q_i),\phi(k_j)\rangle v_j}{\max\left(1, \sum_{j \le i} "
    r"\langle\phi(q_i),\phi(k_j)\rangle\right)} = \frac{\sum_j f(\langle q_i,k_j\rangle)\,v_j}{\sum_j f(\langle q_i,k_j\rangle)}$.",
    hypotheses=(),
    source="rmfa.py of the code released with SchoenbAt (arXiv:2505.12252), read, not run",
    expected="refuted",
    checks=[first_row, values_of_one, later_tokens_matter, share_of_tokens_shrunk_if_first],
    mutants=[additive_epsilon, causal_without_clamp],
    cites=("guo2025schoenbat",),
)

P14R = st.Proposition(
    id="P14R",
    title="Without its clamp it computes causal kernel attention",
    statement=r"$\sum_{j \le i} \langle\phi(q_i),\phi(k_j)\rangle v_j = \left\langle \phi(q_i), \sum_{j \le i} \phi(k_j) v_j\right\rangle$, "
    "so that prefix sums give the two sums of causal kernel attention, and row $i$ ignores every key $j > i$.",
    hypotheses=("the denominator is not clamped", "causal attention is wanted", "the weights of no row sum to 0"),
    source="derived here; prefix sums: Katharopoulos et al. (2020), from memory",
    expected="consistent",
    checks=[
        prefix_sums,
        cumulative_sums,
        later_tokens_are_ignored,
        ones_stay_ones,
        kernel_attention_is_reached,
        weights_that_sum_to_zero,
    ],
    mutants=[sees_one_key_too_few, sees_one_key_too_many, cumulative_over_features, clamped_sums],
    cites=("katharopoulos2020transformers", "guo2025schoenbat"),
)
