r"""P16: After SchoenbAt's pre-scaling, attention is nearly uniform averaging.

Pre-scaling gives ||q|| = ||k|| = 1 and the released code multiplies both by d^(-1/4), so |<q,k>| <= tau = d^(-1/2). Then

    max weight / min weight  <=  rho = f(tau) / f(-tau),      TV(row, uniform)  <=  (sqrt(rho) - 1) / (sqrt(rho) + 1)

with TV half the sum of |weight - 1/m|. For d = 32 and exp, rho = 1.42 and TV <= 0.088: the output moves from the plain mean of the
values by at most 0.088 times their diameter.

Hypotheses: f increasing and positive on [-tau, tau], which is true of the five kernels (a_n >= 0 alone gives it for t >= 0 only: cosh t
is a counterexample, checked below); the factor d^(-1/4).

Source: derived here about the code released with SchoenbAt (arXiv:2505.12252); the paper's formulas were not seen.

Idea of proof: Cauchy-Schwarz bounds t, monotonicity bounds f(t). Among laws with weights in [w, rho w] the distance to uniform is
convex, hence largest at two values; with a share s of large ones it is s (1-s) (rho-1) / (1 + s (rho-1)), largest at
s = 1/(1 + sqrt rho), where it equals the bound: sharp for such laws.

Checked: sharpness of the TV bound on a grid of shares and ratios; the ratio is attained by q = k and q = -k; both bounds on
random and on adversarial inputs, by search, for five kernels and several d. A search is no proof: the verdict is "consistent".
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

DIMS = (4, 16, 32, 64)


def bounds_of(kernel: str, dim: int) -> tuple[float, float]:
    """Return (rho, bound on TV)."""
    tau = dim**-0.5
    f = st.get_kernel(kernel)
    rho = f(tau) / f(-tau)
    return rho, (rho**0.5 - 1) / (rho**0.5 + 1)


def _rows(kernel: str, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    weights = st.get_kernel(kernel).gram(q, k)
    return weights / weights.sum(axis=-1, keepdims=True)


def _distance(rows: np.ndarray) -> np.ndarray:
    return 0.5 * np.abs(rows - 1 / rows.shape[-1]).sum(axis=-1)


def _search(cell: st.Cell, factor: Any) -> st.Evidence:
    """Largest ratio of found to bound, over random tokens and over keys that are copies of +q and -q."""
    worst, cases = np.zeros(2), 0
    for kernel in st.KERNELS:
        for dim in DIMS:
            rho, distance = bounds_of(kernel, dim)
            tokens = st.pre_scale(cell.rng.normal(size=(64, dim)))
            share = round(64 / (1 + rho**0.5))
            extreme = np.concatenate([np.tile(tokens[:1], (share, 1)), np.tile(-tokens[:1], (64 - share, 1))])
            for keys in (tokens, extreme):
                rows = _rows(kernel, tokens * factor(dim), keys * factor(dim))
                ratio = rows.max(axis=-1) / rows.min(axis=-1)
                # t errs by at most (d + 4) u tau and f'/f <= 1 + 1/(1 - tau) on [-tau, tau]: far below 10^-12.
                worst = np.maximum(worst, [ratio.max() / rho, _distance(rows).max() / distance])
                cases += 2 * len(rows)
    return st.decide(
        bool((worst <= 1 + 1e-12).all()),
        kind="deterministic",
        because="search over random and extreme inputs",
        measured=float(worst.max()),
        predicted=1.0,
        comparisons=cases,
        note=f"largest found / bound: weight ratio {worst[0]:.6f}, total variation {worst[1]:.6f}",
    )


def search(cell: st.Cell) -> st.Evidence:
    """Random tokens, and keys +q and -q in the worst proportion, for five kernels and four dimensions."""
    return _search(cell, lambda dim: dim**-0.25)


def sharp_for_two_values(cell: st.Cell) -> st.Evidence:
    """The distance of two-valued rows, maximised over the share of large weights, equals the bound."""
    del cell
    share = np.linspace(0, 1, 100_001)
    worst = 0.0
    ratios = np.array([1.01, 1.133, 1.424, 2.0, 10.0])
    for rho in ratios:
        found = np.max(share * (1 - share) * (rho - 1) / (1 + share * (rho - 1)))
        worst = max(worst, abs(found / ((rho**0.5 - 1) / (rho**0.5 + 1)) - 1))
    # The distance g is flat at its maximum, |g''| = 2 (1 + sqrt rho)^2 / sqrt rho g: missing the best share by h <= 5e-6
    # costs g'' h^2 / 2.
    return st.decide(
        worst <= float(np.max((1 + ratios**0.5) ** 2 / ratios**0.5)) * 5e-6**2 + 1e-12,
        kind="deterministic",
        because="grid of shares, error of the grid bounded",
        measured=worst,
        predicted=0.0,
        comparisons=len(ratios),
    )


def distance_from_uniform(cell: st.Cell) -> list[st.Evidence]:
    """Distance of attention rows from uniform on the given heads: softmax as trained, and after pre-scaling."""
    found, pictured = [], list[str]()
    for head in cell.heads:
        dim = head.q.shape[1]
        scaled = _rows("exp", *st.prepare(head.q, head.k))
        logits = head.q @ head.k.T * dim**-0.5
        softmax = np.exp(logits - logits.max(axis=-1, keepdims=True))
        softmax /= softmax.sum(axis=-1, keepdims=True)
        before, after, bound = _distance(softmax).mean(), _distance(scaled).mean(), bounds_of("exp", dim)[1]
        step = max(1, len(scaled) // 32)
        figure = {
            "plot": "weights",
            "title": f"weights of {head.name}, before and after",
            "before": softmax[::step, :64].tolist(),
            "after": scaled[::step, :64].tolist(),
            "uniform": 1 / scaled.shape[1],
            "labels": [f"{head.name}: softmax, as trained", f"{head.name}: exp after pre-scaling"],
        }
        found += [
            st.observe(name=f"as trained: {head.name}", measured=float(before), note="mean over rows"),
            st.observe(
                name=f"after pre-scaling: {head.name}",
                measured=float(after),
                predicted=float(bound),
                note="mean over rows; predicted is the bound",
                figure=figure if len(pictured) == len(cell.heads) // 2 else None,  # one picture says it
            ),
        ]
        pictured.append(head.name)
    return found


def cosh_is_not_increasing(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: cosh t has a_n >= 0 and f(tau) = f(-tau), so the bound would be 1."""
    cosh = st.DotProductKernel.from_coefficients(
        "cosh", lambda n: Fraction((n + 1) % 2, math.factorial(n)), radius=math.inf
    )
    tokens = st.pre_scale(cell.rng.normal(size=(64, 16))) * 16**-0.25
    weights = cosh.gram(tokens, tokens)
    ratio, bound = float(weights.max() / weights.min()), cosh(16**-0.5) / cosh(-(16**-0.5))
    return st.decide(
        ratio <= bound * (1 + 1e-12), kind="deterministic", because="search", measured=ratio, predicted=float(bound)
    )


def without_the_factor(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: unit vectors without d^(-1/4)."""
    return _search(cell, lambda dim: 0.99)  # 0.99 keeps inv and logi off their pole at 1


def factor_of_the_logits(cell: st.Cell) -> st.Evidence:
    """Twin: d^(-1/8), a factor that scales the logits too little."""
    return _search(cell, lambda dim: dim**-0.125)


P16 = st.Proposition(
    id="P16",
    title="Near-uniform weights after pre-scaling",
    statement=r"With $\|q\| = \|k\| = d^{-1/4}$ all weights of a row are within a factor $\rho = f(d^{-1/2})/f(-d^{-1/2})$ of each "
    r"other, and its total variation distance from uniform is at most $\frac{\sqrt\rho - 1}{\sqrt\rho + 1}$.",
    hypotheses=(r"tokens are pre-scaled and multiplied by $d^{-1/4}$", "$f$ is increasing and positive on the range"),
    source="derived here about the code released with SchoenbAt (arXiv:2505.12252)",
    expected="consistent",
    checks=[search, sharp_for_two_values, distance_from_uniform],
    mutants=[without_the_factor, factor_of_the_logits, cosh_is_not_increasing],
    cites=("guo2025schoenbat",),
)
