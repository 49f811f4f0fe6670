r"""P33: Attention through features may be computed in linear time.

    phi(Q) (phi(K)^T V)  =  (phi(Q) phi(K)^T) V,    and row by row for prefixes (causal attention)

Hypotheses: none; it is the associativity of the matrix product.

Source: Katharopoulos et al. (2020), "Transformers are RNNs" (from memory); used by the code released with SchoenbAt.

Idea of proof: both sides are linear in each of phi(Q), phi(K) and V, so it suffices to take basis matrices. For those both
sides are the same product of Kronecker deltas (and of j <= i when causal), whatever the shape.

Checked exactly: all triples of basis matrices whose rows are neighbours inside a block, neighbours across a block boundary, or
blocks apart in 1,100 tokens, through `attention_sums` itself, full and causal, so that both the triangle inside a block and the
state carried between blocks are exercised; the numbers are 0 and 1, which float64 holds exactly.

Not checked here: rounding (the shared exam does, with a derived bound) and seconds (`bench` will).
"""

from __future__ import annotations

import itertools

import numpy as np

import schoenbat_theory as st

TOKENS = 1100
ROWS = (0, 1, 511, 512, 1024, 1099)  # neighbours in one block, and on either side of a boundary
COLUMNS = (0, 1)  # D = e = 2
PLACES = tuple(itertools.product(ROWS, COLUMNS))


def _basis(row: int, column: int) -> np.ndarray:
    matrix = np.zeros((TOKENS, len(COLUMNS)))
    matrix[row, column] = 1
    return matrix


def _agree(cell: st.Cell, *, causal: bool, shift: int = 0) -> st.Evidence:
    """Compare the sums for basis matrices with the deltas; query i sees keys j <= i + ``shift``."""
    every = cell.asarray(np.stack([_basis(*place) for place in PLACES]))  # (12, tokens, 2)
    wrong, compared = 0, 0
    for i, c in PLACES:
        sums = st.attention_sums(cell.asarray(_basis(i, c)), every[:, None, ...], every[None, ...], causal=causal)
        numerator = np.zeros((len(PLACES), len(PLACES), TOKENS, len(COLUMNS)))
        denominator = np.zeros(numerator.shape[:-1])
        for a, (j, same) in enumerate(PLACES):
            if same == c and (not causal or j <= i + shift):
                denominator[a, :, i] = 1
                for b, (row, column) in enumerate(PLACES):
                    numerator[a, b, i, column] = row == j
        wrong += int(np.sum(st.to_host(sums.numerator) != numerator))
        wrong += int(np.sum(st.to_host(sums.denominator) != denominator))
        compared += numerator.size + denominator.size
    return st.decide(
        wrong == 0,
        because="a trilinear identity on basis matrices across block boundaries, exact in float64",
        measured=float(wrong),
        predicted=0.0,
        comparisons=compared,
        note=f"{wrong} of {compared:,} entries differ",
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
        found.append(
            st.observe(
                name=f"quadratic over linear: {head.name}",
                measured=quadratic / linear,
                note=f"{quadratic / 1e6:.1f} M and {linear / 1e6:.1f} M at D = {width}",
            )
        )
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
    source="Katharopoulos et al. (2020), from memory; used by the code released with SchoenbAt (arXiv:2505.12252)",
    expected="proved",
    checks=[all_keys, prefixes, multiply_adds],
    mutants=[sees_one_key_too_many],
    cites=("katharopoulos2020transformers", "guo2025schoenbat"),
)
