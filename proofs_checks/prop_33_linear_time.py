r"""P33: Attention through features may be computed in linear time.

    phi(Q) (phi(K)^T V)  =  (phi(Q) phi(K)^T) V,    and row by row for prefixes (causal attention)

Hypotheses: none; it is the associativity of the matrix product.

Source: Katharopoulos et al. (2020), "Transformers are RNNs" (from memory); used by SchoenbAt.

Idea of proof: both sides are linear in each of phi(Q), phi(K) and V. A trilinear identity holds if it
holds for all triples of basis matrices.

Checked exactly: all triples of basis matrices at n = 3, m = 4, D = 2, e = 2, through `attention_sums`
itself, full and causal, in numbers that float64 holds exactly. This proves the identity for these shapes.

Not checked here: rounding (the shared exam does, with a derived bound) and seconds (`bench` does).
"""

from __future__ import annotations

import itertools

import numpy as np

import schoenbat_theory as st

N, M, D, E = 3, 4, 2, 2


def _basis(rows: int, columns: int) -> np.ndarray:
    return np.eye(rows * columns).reshape(rows * columns, rows, columns)


def _triples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triples (phi(Q), phi(K), V) of basis matrices, as one batch."""
    parts = itertools.product(_basis(N, D), _basis(M, D), _basis(M, E))
    phi_q, phi_k, v = (np.array(stack) for stack in zip(*parts, strict=True))
    return phi_q, phi_k, v


def _agree(cell: st.Cell, *, causal: bool, shift: int = 0) -> st.Evidence:
    phi_q, phi_k, v = _triples()
    seen = np.tril(np.ones((N, M)), k=shift) if causal else np.ones((N, M))
    weights = (phi_q @ np.swapaxes(phi_k, -1, -2)) * seen
    sums = st.attention_sums(*map(cell.asarray, (phi_q, phi_k, v)), causal=causal)
    wrong = int(np.sum(st.to_host(sums.numerator) != weights @ v))
    wrong += int(np.sum(st.to_host(sums.denominator) != weights.sum(axis=-1)))
    return st.decide(
        wrong == 0,
        because="a trilinear identity on all triples of basis matrices, exact in float64",
        measured=float(wrong),
        predicted=0.0,
        comparisons=len(v) * N * (E + 1),
        note=f"{wrong} of {len(v) * N * (E + 1)} entries differ",
    )


def all_keys(cell: st.Cell) -> st.Evidence:
    """phi(Q) (phi(K)^T V) against (phi(Q) phi(K)^T) V."""
    return _agree(cell, causal=False)


def prefixes(cell: st.Cell) -> st.Evidence:
    """The causal form against the masked product."""
    return _agree(cell, causal=True)


def multiply_adds(cell: st.Cell) -> list[st.Evidence]:
    """How many multiply-adds both orders take on the given heads, at D = 256 features already computed."""
    found = []
    for head in cell.heads:
        n, m, e, width = len(head.q), len(head.k), head.v.shape[1], 256
        linear, quadratic = (n + m) * width * (e + 1), n * m * (width + e + 1)
        found += [
            st.observe(name=f"linear: {head.name}", measured=float(linear), note=f"D = {width}"),
            st.observe(name=f"quadratic: {head.name}", measured=float(quadratic), note=f"D = {width}"),
        ]
    return found


def sees_one_key_too_many(cell: st.Cell) -> st.Evidence:
    """Causality off by one."""
    return _agree(cell, causal=True, shift=1)


P33 = st.Proposition(
    id="P33",
    title="Feature attention in linear time",
    statement=r"$\phi(Q)\,(\phi(K)^\top V) = (\phi(Q)\,\phi(K)^\top)\,V$, and the same for every prefix: "
    r"$O((n + m) D e)$ multiply-adds instead of $O(n m (D + e))$.",
    hypotheses=(),
    source="Katharopoulos et al. (2020), from memory; used throughout arXiv:2505.12252",
    expected="proved",
    checks=[all_keys, prefixes, multiply_adds],
    mutants=[sees_one_key_too_many],
)
