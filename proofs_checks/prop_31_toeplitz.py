r"""P31: Attention with relative positions is a sum of Toeplitz products, which FFT computes and rounding can spoil.

    num_i = sum_j e^{b_{j-i}} <phi(q_i), phi(k_j)> v_j  =  sum_l phi_l(q_i) (T x_l)_i,
    x_l = phi_l(k_j) v_j,   T_ij = c_{j-i},   c = e^b

The denominator is the same with v = 1. Each T x costs O(n log n) by a circulant embedding of length N >= n + m - 1.

Hypotheses: the bias is finite. In floating point FFT has an absolute error, about eps log2(N) ||c|| ||x||: a row whose
weights are smaller than that is lost, in float32 from a range of c of about 1e8 on. The library estimates this for each
row, computes lost rows densely and counts them; what it keeps errs by at most sqrt(u) of the largest value. That
threshold rests on the estimate; the worst case of radix 2 is up to ten times as large.

Not reducible to features without positions: c_k = a^|k| has a matrix of determinant (1 - a^2)^{n-1} > 0, of rank n,
hence <u_i, w_j> = c_{j-i} needs vectors of n entries.

Source: Luo et al. (2021), whose abstract was seen; definition and algorithm from memory. Rounding of one transform:
Higham (2002), Theorem 24.2, from memory. Determinant, guard and causal form are not in the sources seen.

Idea of proof: exchange the sums over j and l. For the determinant, subtract a times each row from the next one: the
matrix becomes triangular with 1, 1 - a^2, ..., 1 - a^2 on its diagonal. For rounding see `toeplitz_product`.

Checked exactly: the determinant, by elimination in rational arithmetic. Deterministic: the FFT product on all pairs of
basis vectors of several shapes, which decides a bilinear identity, and on integers against integer arithmetic, within
the estimate of rounding; attention against the definition in float64 with no bias, ALiBi symmetric, plain and causal,
in both dtypes; that without the guard, float32 and a range of 1e27 there are negative sums of positive numbers; and
that with it there is none.
Numbers: the given heads with normalised queries and keys and positive features, ALiBi and T5.

Not checked: other transforms than those of the array library at hand; time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

SHAPES = ((1, 1), (1, 5), (5, 1), (4, 4), (7, 3), (3, 8), (16, 11))
ROWS, WIDTH = 512, 4
HEADS, STEEP = 8, 3  # ALiBi: the head of slope 1/16 of 8
LONG = 2304  # beyond 2048 tokens the causal form transforms

Attend = Callable[[Any, Any, Any, Any, bool], st.ToeplitzSums]  # of phi_q, phi_k, v, log_bias, causal


# --- the product -----------------------------------------------------------------------------------------------------


def _matrix(c: np.ndarray, n: int, m: int) -> np.ndarray:
    """c_{j-i}, entry j - i + n - 1 of ``c``, as an (n, m) matrix."""
    return c[np.arange(m)[None, :] - np.arange(n)[:, None] + n - 1]


def _estimate(c: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return eps (log2(n + m - 1) + 2) ||c|| ||x||, at most what the library estimates."""
    size = np.linalg.norm(c, axis=-1) * np.linalg.norm(x, axis=-1)
    return np.asarray(2.0**-52 * (math.log2(c.shape[-1]) + 2) * size)


def _product(cell: st.Cell, cases: list[tuple[np.ndarray, np.ndarray]], because: str) -> st.Evidence:
    """Compare the FFT product with that of integer matrices, which int64 holds exactly."""
    worst, compared = 0.0, 0
    for c, x in cases:
        m = x.shape[-1]
        n = c.shape[-1] - m + 1
        found = st.to_host(st.toeplitz_product(cell.asarray(c.astype(float)), cell.asarray(x.astype(float))))
        error = np.abs(found - np.stack([_matrix(one, n, m) @ two for one, two in zip(c, x, strict=True)]))
        worst = max(worst, float(np.max(error / _estimate(c.astype(float), x.astype(float))[:, None])))
        compared += error.size
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because=because,
        measured=worst,
        predicted=1.0,
        comparisons=compared,
        note=f"largest error {worst:.2g} of eps (log₂N + 2) ‖c‖ ‖x‖",
    )


def basis_vectors(cell: st.Cell) -> st.Evidence:
    """All pairs of a basis vector of coefficients and one of inputs, for seven shapes."""
    cases = []
    for n, m in SHAPES:
        c, x = np.eye(n + m - 1, dtype=np.int64), np.eye(m, dtype=np.int64)
        cases.append((np.repeat(c, m, axis=0), np.tile(x, (n + m - 1, 1))))
    return _product(cell, cases, "a bilinear identity on all pairs of basis vectors, rounding estimated")


def integers(cell: st.Cell) -> st.Evidence:
    """Integers below a thousand in magnitude, of lengths prime and not."""
    cases = []
    for n, m in ((37, 41), (256, 256), (1, 300), (300, 7)):
        cases.append((cell.rng.integers(-999, 1000, (3, n + m - 1)), cell.rng.integers(-999, 1000, (3, m))))
    return _product(cell, cases, "integer arithmetic, rounding estimated")


# --- full rank -------------------------------------------------------------------------------------------------------


def _determinant(a: Fraction, n: int) -> Fraction:
    """Return det(a^|i-j|) by elimination in rational arithmetic."""
    rows = [[a ** abs(i - j) for j in range(n)] for i in range(n)]
    product = Fraction(1)
    for k in range(n):
        pivot = rows[k][k]  # positive: the leading minors are
        product *= pivot
        for i in range(k + 1, n):
            factor = rows[i][k] / pivot
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    return product


def _full_rank(power: int) -> st.Evidence:
    """Compare determinants with (1 - a^2)^(n - ``power``), n = 2 .. 10, a = 1/2, 2/3, 9/10."""
    wrong, smallest = 0, Fraction(1)
    for a in (Fraction(1, 2), Fraction(2, 3), Fraction(9, 10)):
        for n in range(2, 11):
            found = _determinant(a, n)
            wrong += found != (1 - a * a) ** (n - power)
            smallest = min(smallest, found)
    return st.decide(
        wrong == 0 and smallest > 0,
        because="elimination in rational arithmetic; for every n the elimination is the same",
        measured=float(wrong),
        predicted=0.0,
        comparisons=27,
        note=f"smallest determinant {float(smallest):.2g}, so the rank is n",
    )


def determinant(cell: st.Cell) -> st.Evidence:
    """det(a^|i-j|) = (1 - a^2)^(n-1) > 0: no feature dimension below n reproduces these weights."""
    del cell
    return _full_rank(1)


def determinant_with_one_factor_more(cell: st.Cell) -> st.Evidence:
    """(1 - a^2)^n in its place."""
    del cell
    return _full_rank(0)


# --- attention -------------------------------------------------------------------------------------------------------


def _problem(cell: st.Cell, n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive features of n queries and keys, and values."""
    phi_q, phi_k = (cell.rng.random((n, WIDTH)) + 0.1 for _ in range(2))
    return phi_q.astype(dtype), phi_k.astype(dtype), cell.rng.normal(size=(n, 2)).astype(dtype)


def _biases(n: int) -> dict[str, tuple[np.ndarray, bool]]:
    """Name, bias, causal."""
    plain, symmetric = (st.alibi_bias(n, n, HEADS, symmetric=s)[STEEP] for s in (False, True))
    return {
        "no bias": (np.zeros(2 * n - 1), False),
        "ALiBi, symmetric": (symmetric, False),
        "ALiBi, plain": (plain, False),
        "ALiBi, causal": (plain, True),
    }


def _definition(
    phi_q: np.ndarray, phi_k: np.ndarray, v: np.ndarray, bias: np.ndarray, causal: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return output, denominator exp(-largest bias), and sum_j w_ij |b_ij - largest of the row| / sum_j w_ij."""
    phi_q, phi_k, v, bias = (x.astype(np.float64) for x in (phi_q, phi_k, v, bias))
    logs = _matrix(bias, len(phi_q), len(phi_k))
    seen = np.tril(np.ones(logs.shape, dtype=bool)) if causal else np.ones(logs.shape, dtype=bool)
    top = np.max(np.where(seen, logs, -np.inf), axis=-1, keepdims=True)
    depth = np.where(seen, top - logs, 0.0)
    weights = np.where(seen, np.exp(-depth), 0.0) * (phi_q @ phi_k.T)
    total = weights.sum(axis=-1, keepdims=True)
    scale = np.exp(top[:, 0] - bias.max())
    return weights @ v / total, total[:, 0] * scale, np.sum(weights * depth, axis=-1) / total[:, 0]


def guarded(phi_q: Any, phi_k: Any, v: Any, log_bias: Any, causal: bool) -> st.ToeplitzSums:
    """What the library does."""
    return st.toeplitz_sums(phi_q, phi_k, v, log_bias=log_bias, causal=causal)


def _agree(cell: st.Cell, attend: Attend, n: int = ROWS, names: tuple[str, ...] = ()) -> st.Evidence:
    """Compare attention with the definition: a row by FFT may lose sqrt(u) of the largest value, the rest is rounding.

    Sums of D and n positive terms err by n + D roundings, a weight of exponent b by |b - largest| and a few more, that
    of a transformed row by another log(1/sqrt(u)) < 40; numerator and denominator do, so that all counts twice.
    """
    worst, recomputed, not_positive, rows = 0.0, 0, 0, 0
    for name, (bias, causal) in _biases(n).items():
        if names and name not in names:
            continue
        for dtype in (np.float32, np.float64):
            phi_q, phi_k, v = _problem(cell, n, dtype)
            bias = bias.astype(dtype)
            expected, _, depth = _definition(phi_q, phi_k, v, bias, causal)
            there = (cell.asarray(phi_q), cell.asarray(phi_k), cell.asarray(v), cell.asarray(bias))
            sums = attend(*there, causal)
            with np.errstate(all="ignore"):  # a lost denominator may be 0
                out = st.to_host(sums.numerator) / st.to_host(sums.denominator)[:, None]
            u, dense = np.finfo(dtype).eps / 2, st.to_host(sums.recomputed)
            allowed = np.where(dense, 0.0, math.sqrt(u)) + 2 * u * (n + WIDTH + 60 + depth)
            error = np.abs(out - expected) / (allowed[:, None] * np.max(np.abs(v)))
            worst = max(worst, float(np.max(np.where(np.isnan(error), np.inf, error))))
            not_positive += int(np.sum(st.to_host(sums.denominator) <= 0))
            recomputed += sums.n_recomputed
            rows += n
    return st.decide(
        worst <= 1 and not_positive == 0,
        kind="deterministic",
        because="the definition in float64; derived rounding and sqrt(u) for FFT",
        measured=worst,
        predicted=1.0,
        comparisons=rows,
        note=f"of {rows:,} rows {recomputed:,} computed densely; {not_positive:,} denominators not positive",
    )


def attention_is_the_definition(cell: st.Cell) -> st.Evidence:
    """No bias, ALiBi symmetric, plain and causal, 512 tokens, float32 and float64."""
    return _agree(cell, guarded)


def causal_halves(cell: st.Cell) -> st.Evidence:
    """2,304 tokens, causal: keys of the first half are transformed, those of the last tokens are not."""
    return _agree(cell, guarded, LONG, ("ALiBi, causal",))


def _plain_fft(phi_q: Any, phi_k: Any, v: Any, log_bias: Any, causal: bool) -> st.ToeplitzSums:
    """Sums by FFT and nothing else: a causal bias is zeroed, no row is looked at twice."""
    n = phi_q.shape[0]
    c = np.exp(st.to_host(log_bias) - st.to_host(log_bias)[: n if causal else None].max())
    if causal:
        c = np.where(np.arange(c.size) < n, c, 0.0).astype(c.dtype)
    return _by_columns(st.toeplitz_product, phi_q, phi_k, v, c)


def _by_columns(product: Callable[[Any, Any], Any], phi_q: Any, phi_k: Any, v: Any, c: Any) -> st.ToeplitzSums:
    """Sum over features phi_l(q_i) (T x_l)_i, x_l = phi_l(k) [v, 1], on the host."""
    phi_q, phi_k, v = (st.to_host(x) for x in (phi_q, phi_k, v))
    values = np.concatenate([v, np.ones_like(v[:, :1])], axis=1)
    sums = np.sum(phi_q.T[:, None] * product(c, phi_k.T[:, None] * values.T), axis=0)
    none = np.zeros(sums.shape[-1])
    return st.ToeplitzSums(sums[:-1].T, sums[-1], log_scale=none, recomputed=none > 0)


def the_guard_is_needed(cell: st.Cell) -> st.Evidence:
    """Plain ALiBi in float32, a range of 1e27: by FFT alone some sums of positive numbers are not positive."""
    phi_q, phi_k, v = _problem(cell, ROWS, np.float32)
    bias = _biases(ROWS)["ALiBi, plain"][0].astype(np.float32)
    _, exact, _ = _definition(phi_q, phi_k, v, bias, False)
    alone = _plain_fft(phi_q, phi_k, v, bias, False).denominator
    sums = guarded(cell.asarray(phi_q), cell.asarray(phi_k), cell.asarray(v), cell.asarray(bias), False)
    scale = np.exp(st.to_host(sums.log_scale).astype(float) - bias.max())
    good = st.to_host(sums.denominator) * scale
    broken, left = int(np.sum(alone <= 0)), int(np.sum(good <= 0))
    shown = np.arange(0, ROWS, 16)
    curves = {
        label: [float(e) if e > 0 else None for e in np.abs(x / exact - 1)[shown]]
        for label, x in (("FFT alone", alone), ("with the guard", good))
    }
    return st.decide(
        broken > 0 and left == 0,
        kind="deterministic",
        because="sums of positive numbers are positive",
        measured=float(broken),
        predicted=0.0,
        comparisons=2 * ROWS,
        note=f"{broken} of {ROWS} denominators not positive by FFT alone, {left} with the guard, "
        f"which computes {sums.n_recomputed} rows densely",
    ).but(
        figure={
            "plot": "curves",
            "title": "Denominators by FFT alone and with the guard",
            "caption": "FFT alone loses the late rows of plain ALiBi; the guard finds them and computes them densely.",
            "x": shown.tolist(),
            "series": curves,
            "x_label": "query i (ALiBi, slope 1/16, 512 keys, float32)",
            "y_label": "relative error of the denominator",
            "log_y": True,
            "lines": {"√u, which the guard promises": float(2.0**-12)},
        }
    )


def normalised_heads(cell: st.Cell) -> list[st.Evidence]:
    """Given heads with q / |q|, k / |k|, 64 positive features: FFT against dense, ALiBi in float32, T5 in float64."""
    found = []
    for head in cell.heads:
        n, m = len(head.q), len(head.k)
        phi = st.PositiveFeatures(64).draw(head.q.shape[-1], cell.rng)
        features = [phi(st.unit_norm(x)) for x in (head.q, head.k)]
        table = cell.rng.normal(size=32)
        for label, bias, dtype in (
            ("ALiBi, float32", st.alibi_bias(n, m, HEADS, symmetric=True)[STEEP], np.float32),
            ("T5 buckets, float64", st.t5_bias(table, n, m), np.float64),
        ):
            phi_q, phi_k, v, b = (cell.asarray(x.astype(dtype)) for x in (*features, head.v, bias))
            sums = st.toeplitz_sums(phi_q, phi_k, v, log_bias=b)
            dense = st.to_host(st.kernel_attention(phi_q, phi_k, v, st.polynomial(1), log_bias=b))
            error = float(np.max(np.abs(st.to_host(sums.ratio()) - dense)) / np.max(np.abs(dense)))
            found.append(
                st.observe(
                    name=f"FFT against dense, {label}: {head.name}",
                    measured=error,
                    note="largest difference, relative to the largest output; "
                    f"{sums.n_recomputed} of {n} rows computed densely",
                )
            )
    return found


# --- mutants ---------------------------------------------------------------------------------------------------------


def offsets_shifted_by_one(cell: st.Cell) -> st.Evidence:
    """The bias of j - i + 1."""

    def shifted(phi_q: Any, phi_k: Any, v: Any, log_bias: Any, causal: bool) -> st.ToeplitzSums:
        return guarded(phi_q, phi_k, v, cell.asarray(np.roll(st.to_host(log_bias), -1)), causal)

    return _agree(cell, shifted, names=("ALiBi, symmetric",))


def transform_too_short(cell: st.Cell) -> st.Evidence:
    """A circle of n tokens, on which the last key is next to the first query."""

    def circular(c: np.ndarray, x: np.ndarray) -> np.ndarray:
        n = x.shape[-1]
        wrapped = np.fft.rfft(c[n - 1 :][:n]) + np.fft.rfft(np.concatenate([[0], c[: n - 1]]))
        return np.fft.irfft(np.conj(wrapped) * np.fft.rfft(x), n=n)

    def wrap(phi_q: Any, phi_k: Any, v: Any, log_bias: Any, causal: bool) -> st.ToeplitzSums:
        del causal
        return _by_columns(circular, phi_q, phi_k, v, np.exp(st.to_host(log_bias)))

    return _agree(cell, wrap, names=("ALiBi, symmetric",))


def causal_without_zeros(cell: st.Cell) -> st.Evidence:
    """Later keys kept."""
    return _agree(cell, lambda phi_q, phi_k, v, b, causal: guarded(phi_q, phi_k, v, b, False), names=("ALiBi, causal",))


def guard_switched_off(cell: st.Cell) -> st.Evidence:
    """FFT and nothing else."""
    return _agree(cell, _plain_fft, names=("ALiBi, plain",))


P31 = st.Proposition(
    id="P31",
    title="Relative positions: attention by Toeplitz products and FFT",
    statement=r"$\sum_j e^{b_{j-i}} \langle\phi(q_i),\phi(k_j)\rangle\,v_j = \sum_l \phi_l(q_i)\,(T x_l)_i$ with "
    r"$x_l = (\phi_l(k_j)\,v_j)_j$ and $T_{ij} = e^{b_{j-i}}$: $O(n \log n)$ by FFT. For $b_{j-i} = -s|j-i|$, $s > 0$, no "
    r"feature dimension below $n$ does the same without positions. In floating point FFT loses rows whose sum is small "
    r"beside $\|e^b\|\,\|x_l\|$. Where these are found by an estimate and computed densely, every row errs by at most "
    r"$\sqrt{u}$ of the larger of $\max_j |v_j|$ and its output, beside rounding.",
    hypotheses=(
        "the bias is finite",
        r"the guard rests on an estimate of rounding, $2u (\log_2 N + 2)\,\|e^b\|\,\|x_l\|$: $u$ the unit roundoff, "
        r"$N \ge 2n - 1$ the length of the transform, $\|\cdot\|$ the Euclidean norm",
    ),
    source="Luo et al. (2021), abstract seen, algorithm from memory; rounding after Higham (2002), Theorem 24.2, "
    "from memory; the guard is not in the source",
    expected="consistent",
    checks=[
        basis_vectors,
        integers,
        determinant,
        attention_is_the_definition,
        causal_halves,
        the_guard_is_needed,
        normalised_heads,
    ],
    mutants=[
        determinant_with_one_factor_more,
        offsets_shifted_by_one,
        transform_too_short,
        causal_without_zeros,
        guard_switched_off,
    ],
    cites=("luo2021stable", "press2022train", "raffel2020exploring", "higham2002accuracy"),
)
