r"""P36: Shifts of queries and keys, with weights of keys, and a change of basis leave softmax attention as it is.

    exp(<q, k>)  =  exp(<B (q - c), B^-T (k - m)>)  exp(<c, k>)  exp(<q, m> - <c, m>)

for all vectors c, m and every invertible B. In attention with weights w_j exp(<q_i, k_j>) the last factor cancels, and

    q' = B (q - c),    k' = B^-T (k - m),    log w' = log w + <c, k>

give the same output. A change of basis alone keeps <q, k>, hence attention with every kernel f(<q, k>).

Hypotheses: B is invertible; for the shifts the kernel is exp(t): with another kernel they give another attention.

Source: derived here; not in the sources seen. That a common vector may be taken off all keys is common knowledge, and the basis of
`balance` is that of balanced realisations (Moore, 1981, from memory).

Idea of proof: <q, k> = <q - c, k - m> + <c, k> + <q, m> - <c, m>, and <B x, B^-T y> = <x, y>.

Checked exactly: the exponents of the library's `Frame` on integers, with integer bases of determinant 1, whose inverse
is integer as well: nothing is rounded. They differ from the given ones by a number for each query. Through the library:
attention of `recenter` and of `balance` against attention of what they were given, within a bound of rounding. Data: the
largest difference on real heads, in float64 and float32.

The bound: let x = q - c, y = k - m, and b_r, b*_r be rows of B and B^-T. A coordinate of q' errs by (d + 2) u |b_r| |x|, and
so on: <q', k'> errs by less than 8 (d + 4) u sum_r |b_r| |b*_r| |x| |y|, where a third is left to B^-T, which is the inverse
up to rounding (that eigenvectors are orthogonal within d u is taken from LAPACK's manual, from memory). Weights that are
wrong by factors of at most e^delta move a mean of values by (e^(2 delta) - 1) times their spread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import schoenbat_theory as st

UNIT = 2.0**-53
Change = Callable[[st.Frame, Any, Any, Any], tuple[Any, Any, Any]]


def _as_stated(frame: st.Frame, q: Any, k: Any, given: Any) -> tuple[Any, Any, Any]:
    return frame.queries(q), frame.keys(k), frame.key_log_weights(k, given)


def _exponents(cell: st.Cell, change: Change) -> st.Evidence:
    """That log w_j + <q_i, k_j> less its counterpart after ``change`` does not depend on j: integers, 500 frames, d = 3."""
    rng, wrong, frames = np.random.default_rng(36), 0, 500
    for _ in range(frames):
        q, k = (rng.integers(-4, 5, (n, 3)) * 1.0 for n in (3, 5))
        (c, m), given = rng.integers(-4, 5, (2, 3)) * 1.0, rng.integers(-4, 5, 5) * 1.0
        lower, upper = (np.eye(3) + np.tril(rng.integers(-2, 3, (3, 3)), -1) for _ in range(2))
        basis, dual = lower @ upper.T, np.round(np.linalg.inv(lower @ upper.T)).T
        if not np.array_equal(basis @ dual.T, np.eye(3)):  # of determinant 1: the inverse is integer
            raise ArithmeticError("the inverse of an integer matrix of determinant 1 is not integer")
        frame = st.Frame(*map(cell.asarray, (c, m, basis, dual)))
        x, y, weights = map(st.to_host, change(frame, *map(cell.asarray, (q, k, given))))
        gap = q @ k.T + given - x @ y.T - weights
        wrong += bool(np.any(gap != gap[:, :1]))
    return st.decide(
        wrong == 0,
        because="integers in float64, bases of determinant 1; all others by bilinearity",
        measured=float(wrong),
        predicted=0.0,
        comparisons=frames * 12,
        note=f"{wrong} of {frames} frames change attention",
    )


def exponents_on_integers(cell: st.Cell) -> st.Evidence:
    """The library's frames: exponents differ by a number for each query."""
    return _exponents(cell, _as_stated)


def one_basis_for_both_sides(cell: st.Cell) -> st.Evidence:
    """B for queries and for keys."""
    return _exponents(
        cell, lambda f, q, k, w: _as_stated(st.Frame(f.query_shift, f.key_shift, f.basis, f.basis), q, k, w)
    )


def weights_left_out(cell: st.Cell) -> st.Evidence:
    """Queries shifted, and keys keep the weights they had."""
    return _exponents(cell, lambda f, q, k, w: (f.queries(q), f.keys(k), w))


def weights_of_the_wrong_sign(cell: st.Cell) -> st.Evidence:
    """exp(-<c, k>) in place of exp(<c, k>)."""
    return _exponents(cell, lambda f, q, k, w: (f.queries(q), f.keys(k), f.key_log_weights(-k, w)))


def _rounding(q: Any, k: Any, x: Any, y: Any) -> float:
    """How much logits may err: the bound of the page, with the basis as least squares find it from what went in and out."""
    basis, dual = (np.linalg.lstsq(a - a.mean(axis=0), b - b.mean(axis=0))[0].T for a, b in ((q, x), (k, y)))
    rows = np.linalg.norm(basis, axis=1) @ np.linalg.norm(dual, axis=1)
    largest = [float(np.linalg.norm(a, axis=1).max()) for a in (x @ dual, y @ basis, q, k)]
    return 8 * (q.shape[1] + 4) * UNIT * float(rows * largest[0] * largest[1] + largest[2] * largest[3])


def _attention(
    cell: st.Cell, transform: Callable[..., Any], kernel: str = "exp", size: float = 1.0, *, weigh: bool = True
) -> st.Evidence:
    """Attention with ``kernel`` after ``transform`` against attention as given: masked and weighted keys, d = 8."""
    worst, cases, mask = 0.0, 16, np.arange(64) % 5 > 0
    for _ in range(cases):
        q, k = (size * (cell.rng.normal(size=(n, 8)) @ cell.rng.normal(size=(8, 8)) / 8 + 0.5) for n in (48, 64))
        v, log_weights = cell.rng.normal(size=(64, 3)), cell.rng.normal(size=64)
        given = {"key_mask": cell.asarray(mask), "key_log_weights": cell.asarray(log_weights)}
        sides, values = [cell.asarray(a) for a in (q, k)], cell.asarray(v)
        x, y, *left = transform(*sides, **given)
        after = {"key_log_weights": left[0]} if weigh and left else given
        target = st.to_host(st.kernel_attention(sides[0], sides[1], values, kernel, **given))
        found = st.to_host(st.kernel_attention(x, y, values, kernel, **after))
        x, y, k = st.to_host(x), st.to_host(y)[mask], k[mask]
        spread = float(np.ptp(v, axis=0).max())
        # exp: logits are exponents; inv: (1 - t)^-1 with |t| <= 1/2 turns an error delta into a factor of at most e^(4 delta).
        allowed = np.expm1(8 * _rounding(q, k, x, y)) * spread + 2 * (64 + 8) * UNIT * np.abs(v).max()
        worst = max(worst, float(np.abs(found - target).max() / allowed))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="search over random heads; rounding bounded",
        measured=worst,
        predicted=0.0,
        comparisons=cases * 48 * 3,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def attention_recentred(cell: st.Cell) -> st.Evidence:
    """`recenter`, with keys masked and weighted."""
    return _attention(cell, st.recenter)


def attention_balanced(cell: st.Cell) -> list[st.Evidence]:
    """`balance` under exp and under 1/(1 - t), |t| < 1/2."""
    return [
        _attention(cell, st.balance, kernel, size).but(name=kernel) for kernel, size in (("exp", 1.0), ("inv", 0.05))
    ]


def shifts_under_another_kernel(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: shifts with 1/(1 - t) in place of exp(t)."""
    return _attention(cell, st.recenter, "inv", 0.05)


def recentred_with_the_weights_given(cell: st.Cell) -> st.Evidence:
    """`recenter`, and the weights that it returns are not used."""
    return _attention(cell, st.recenter, weigh=False)


def real_heads(cell: st.Cell) -> list[st.Evidence]:
    """Largest difference of an output after `recenter`, relative to the largest output, in float64 and float32."""
    found = []
    for head in cell.heads:
        for dtype in (np.float64, np.float32):
            q, k, v = (
                x.astype(dtype) for x in (head.q / head.q.shape[1] ** 0.25, head.k / head.k.shape[1] ** 0.25, head.v)
            )
            x, y, weights = st.recenter(q, k)
            exact = st.kernel_attention(q, k, v, "exp")
            gap = (
                np.abs(st.kernel_attention(x, y, v, "exp", key_log_weights=weights) - exact).max() / np.abs(exact).max()
            )
            found.append(st.observe(name=f"difference in {np.dtype(dtype)}: {head.name}", measured=float(gap)))
    return found


P36 = st.Proposition(
    id="P36",
    title="Shifts, weights of keys and a change of basis leave softmax attention as it is",
    statement=r"For all $c, m$ and invertible $B$, $e^{\langle q,k\rangle} = e^{\langle B(q-c),\,B^{-\top}(k-m)\rangle}\, e^{\langle c,k\rangle}\, "
    r"e^{\langle q,m\rangle - \langle c,m\rangle}$, whose last factor cancels in attention; $B$ alone keeps every dot-product kernel.",
    hypotheses=("$B$ is invertible", "for the shifts, the kernel is $e^t$"),
    source="derived here; not in the sources seen",
    expected="consistent",
    cites=("schoenbat_theory2026", "moore1981principal"),
    checks=[exponents_on_integers, attention_recentred, attention_balanced, real_heads],
    mutants=[
        one_basis_for_both_sides,
        weights_left_out,
        weights_of_the_wrong_sign,
        shifts_under_another_kernel,
        recentred_with_the_weights_given,
    ],
)
