r"""P29: The normalised landmark matrix of Skyformer has eigenvalues in (0, 1], and six steps do not always invert it.

    M = W + gamma I,   W = kappa(landmarks, landmarks) (c, c),   D = diag(M 1),   N = D^(-1/2) M D^(-1/2)
    V <- V (13 I - X (15 I - X (7 I - X))) / 4,   X = N V,   V_0 = N^T / s,   s the largest column sum of N

P29 claims that all singular values of N lie in the open interval (0, 1). P29R: they lie in (0, 1], and 1 is always one
of them; E = I - N V obeys E' = (3 E^3 + E^4) / 4; an eigenvalue t = 1 - e of N V grows by at most 13/4 in a step, so
that after six steps

    |I - N V| >= 1 - (13/4)^6 t_0,   t_0 = lambda_min(N)^2 / s,   (13/4)^6 = 1178.4...

Hypotheses: the entries of M are not negative, and gamma > 0. With gamma = 0 and a landmark drawn twice, 0 is an
eigenvalue.

Source: Chen et al. (2021), Skyformer, Lemma 3 and section 4.4 (seen); gamma = 0.1 and six steps are those of the
released code (seen). What the lemma is used for, |I - N| < 1, stays true. The residual map and the bound are not in the
sources seen.

Idea of proof: D^(-1) M 1 = 1, so D^(1/2) 1 is an eigenvector of N with eigenvalue 1. x^T (D - M) x = (1/2) sum_ij M_ij
(x_i - x_j)^2 >= 0, a graph Laplacian, so N <= I; M >= gamma I. All matrices of the iteration are polynomials in N: X' =
X (13 - 15 X + 7 X^2 - X^3) / 4; and (13/4) t - t' = t^2 (15 - 7 t + t^2) / 4 >= 0, because 7^2 < 4 * 15. s is at least
the spectral radius, 1, so 0 < t_0 <= 1.

Checked exactly, on integer multiples of sqrt(2 log 2), where kappa = 2^(-|a - b|^2) is rational: the eigenvalue 1; all
eigenvalues on the corners of a cube, also repeated; both polynomials at five points, which proves them; the Laplacian
for two indices, of which it is a sum; and that six steps leave 0.95 on the 128 corners of a cube of dimension 7. By
computation: that `schulz_inverse` is this iteration. By sampling, without a verdict: the residual on normal points,
against the number of landmarks. Data: the residual on heads.

Not checked: what an iteration that has not converged does to training. It damps small eigenvalues, as a larger gamma
would.
"""

from __future__ import annotations

import contextlib
import itertools
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

U = 2.0**-53
STEPS, GAMMA = 6, 0.1  # of the released code
GROWTH = Fraction(13, 4)


def _lattice(points: Any) -> np.ndarray:
    """Kappa between integer multiples of sqrt(2 log 2): 2^(-|a - b|^2), which float64 holds exactly."""
    a = np.asarray(points)
    return np.asarray(0.5 ** np.sum((a[:, None] - a) ** 2, axis=-1))


def _rational(a: np.ndarray) -> np.ndarray:
    return np.array([[Fraction(float(x)) for x in row] for row in a], dtype=object)


def _below(limit: Fraction) -> st.Evidence:
    """The spectral radius of D^(-1) M, similar to N, from its row sums (Collatz and Wielandt), for seven points."""
    m = _rational(_lattice([[0, 0], [1, 0], [2, 1], [0, 2], [1, 2], [3, 0], [3, 0]])) + Fraction(1, 10) * np.eye(
        7, dtype=int
    )
    quotients = set((m / m.sum(axis=1)[:, None]).sum(axis=1))  # one value: it is an eigenvalue, and the largest
    return st.decide(
        max(quotients) < limit,
        because="row sums of D^-1 M in rational arithmetic; they enclose the spectral radius of a positive matrix",
        measured=float(min(quotients)),
        predicted=float(limit),
        comparisons=7,
        note=f"the row sums are all {', '.join(map(str, quotients))}, and the vector of ones is an eigenvector",
    )


def largest_eigenvalue(cell: st.Cell) -> st.Evidence:
    """It is 1."""
    del cell
    return _below(Fraction(1))


def below_a_half(cell: st.Cell) -> st.Evidence:
    """Twin: singular values in (0, 1/2)."""
    del cell
    return _below(Fraction(1, 2))


def _spectrum(dim: int, copies: int, gamma: Fraction) -> list[Fraction]:
    """All eigenvalues of N for corners of a cube, each ``copies`` times; ``[]`` if a vector below is no eigenvector.

    Walsh's vectors, constant over copies, have (1/2)^k (3/2)^(dim - k) copies + gamma; differences of copies gamma.
    """
    corners = np.array(list(itertools.product((0, 1), repeat=dim)))
    points, orders = np.repeat(corners, copies, axis=0), corners.sum(axis=1)
    w = 2 ** (dim - np.sum(points[:, None] != points, axis=-1))  # 2^dim kappa, whole numbers
    contrasts = np.eye(copies, dtype=int)[:, 1:] - np.eye(copies, dtype=int)[:, :1]
    walsh = np.kron((-1) ** (corners @ corners.T), np.ones((copies, 1), dtype=int))
    vectors = np.hstack([walsh, np.kron(np.eye(len(corners), dtype=int), contrasts)])
    values = np.concatenate([copies * 3 ** (dim - orders), np.zeros(len(points) - len(corners), dtype=int)])
    total = w.sum(axis=1)
    if (w @ vectors != vectors * values).any() or (total != total[0]).any():
        return []
    return [(Fraction(int(value), 2**dim) + gamma) / (Fraction(int(total[0]), 2**dim) + gamma) for value in values]


def _interval(gamma: Fraction, largest: Fraction = Fraction(1)) -> st.Evidence:
    """All eigenvalues in (0, largest], the largest attained: cubes of dimension 1 to 4, each corner once and twice."""
    spectra = [_spectrum(dim, copies, gamma) for dim in range(1, 5) for copies in (1, 2)]
    low, high = min(map(min, spectra)), max(map(max, spectra))
    return st.decide(
        low > 0 and high == largest,
        because="complete sets of eigenvectors in rational arithmetic",
        measured=float(low),
        predicted=0.0,
        comparisons=sum(map(len, spectra)),
        note=f"smallest {low}, largest {high}",
    )


def half_open_interval(cell: st.Cell) -> st.Evidence:
    """(0, 1], with landmarks drawn once and twice."""
    del cell
    return _interval(Fraction(1, 10))


def gamma_omitted(cell: st.Cell) -> st.Evidence:
    """Twin: gamma = 0, where a landmark drawn twice gives the eigenvalue 0."""
    del cell
    return _interval(Fraction(0))


def _laplacian(power: int) -> st.Evidence:
    """x^T (D - M) x = (1/2) sum_ij M_ij |x_i - x_j|^power for M = E_ij + E_ji and M = E_ii, in coordinates i and j."""
    pairs = list(itertools.product(range(3), repeat=2))
    across, along = np.array([[0, 1], [1, 0]]), np.array([[1, 0], [0, 0]])
    holds = all(
        np.array(x) @ (np.diag(m.sum(axis=1)) - m) @ np.array(x) == m[0, 1] * abs(x[0] - x[1]) ** power
        for m in (across, along)
        for x in pairs
    )
    return st.decide(
        holds,
        because="linear in M; polynomials of degree 2 in each of two variables that agree at 3 x 3 points are equal",
        comparisons=2 * len(pairs),
    )


def laplacian(cell: st.Cell) -> st.Evidence:
    """D - M is a sum of squares with weights M_ij >= 0: no eigenvalue of N is beyond 1."""
    del cell
    return _laplacian(2)


def laplacian_of_differences(cell: st.Cell) -> st.Evidence:
    """Twin: differences that are not squared."""
    del cell
    return _laplacian(1)


def _stepped(x: Any, middle: int = 7, divisor: int = 4) -> Any:
    """One step for an eigenvalue ``x`` of X = N V."""
    return x * (13 - x * (15 - x * (middle - x))) / divisor


def _map(middle: int = 7, divisor: int = 4) -> st.Evidence:
    """E' = (3 E^3 + E^4) / 4, and (13/4) t - t' = t^2 (15 - 7 t + t^2) / 4, at five points."""
    points = [Fraction(i) for i in range(5)]
    cubic = all(1 - _stepped(1 - e, middle, divisor) == (3 * e**3 + e**4) / 4 for e in points)
    growth = all(GROWTH * t - _stepped(t, middle, divisor) == t**2 * (15 - 7 * t + t**2) / 4 for t in points)
    return st.decide(
        cubic and growth and 7**2 < 4 * 15,
        because="polynomials of degree 4 that agree at five points are equal",
        comparisons=2 * len(points),
    )


def residual_map(cell: st.Cell) -> st.Evidence:
    """The residual of a step, and the growth of a small eigenvalue."""
    del cell
    return _map()


def six_for_seven(cell: st.Cell) -> st.Evidence:
    """Twin: 6 I in place of 7 I."""
    del cell
    return _map(middle=6)


def quarter_forgotten(cell: st.Cell) -> st.Evidence:
    """Twin: no division by 4."""
    del cell
    return _map(divisor=1)


def _remainder(growth: Fraction = GROWTH, allowed: Fraction = Fraction(1)) -> st.Evidence:
    """|I - N V| after six steps against 1 - growth^6 t_0, for cubes of dimension 1 to 7, and ``allowed`` in the last.

    Gamma is 1/10. The largest column sum of N is 1 there.
    """
    left, floor = [], []
    for dim in range(1, 8):
        x = min(_spectrum(dim, 1, Fraction(1, 10))) ** 2
        floor.append(1 - growth**STEPS * x)
        for _ in range(STEPS):
            x = _stepped(x)
        left.append(1 - x)
    return st.decide(
        all(found >= least for found, least in zip(left, floor, strict=True)) and left[-1] <= allowed,
        because="the smallest eigenvalue through six steps in rational arithmetic",
        measured=float(left[-1]),
        predicted=float(floor[-1]),
        comparisons=len(left),
        note=f"128 landmarks: {float(left[-1]):.4f} of the direction of the smallest eigenvalue is left, "
        f"at least {float(floor[-1]):.4f}",
    )


def left_by_six_steps(cell: st.Cell) -> st.Evidence:
    """At least 1 - (13/4)^6 t_0; 0.95 with 128 landmarks."""
    del cell
    return _remainder()


def half_the_growth(cell: st.Cell) -> st.Evidence:
    """Twin: a step multiplies by at most 13/8."""
    del cell
    return _remainder(growth=GROWTH / 2)


def six_steps_invert_128_landmarks(cell: st.Cell) -> st.Evidence:
    """Twin: six steps leave at most a half."""
    del cell
    return _remainder(allowed=Fraction(1, 2))


def step_of_the_library(cell: st.Cell) -> st.Evidence:
    """`schulz_step` on rational matrices that do not commute: I - N V' = (3 E^3 + E^4) / 4."""
    draws = cell.rng.integers(-9, 10, size=(8, 2, 3, 3))
    one, equal = np.array(Fraction(1)) * np.eye(3, dtype=int), 0
    for n, v in draws * np.array(Fraction(1, 7)):
        e = one - n @ v
        cube = e @ e @ e
        equal += bool((one - n @ st.schulz_step(n, v) == (3 * cube + cube @ e) / 4).all())
    return st.decide(
        equal == len(draws), because="rational arithmetic, eight pairs of matrices", comparisons=len(draws)
    )


def inverse_of_the_library(cell: st.Cell) -> list[st.Evidence]:
    """`schulz_inverse` on the corners of a square, gamma = 1/2, after 1, 2, 6 steps, against rational eigenvalues."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    walsh, values, found = (-1.0) ** (corners @ corners.T) / 2, _spectrum(2, 1, Fraction(1, 2)), []
    total = 2.75  # of a row of M
    for steps in (1, 2, 6):
        v, error = values, 0.0
        for _ in range(steps):
            largest = float(max(v))
            # 9 |V| bounds a step term by term, four products of 4 x 4 matrices; errors grow by at most 13/4 + 8 |V|.
            error = (13 / 4 + 8 * largest) * error + 9 * largest * 4 * (4 * 4 + 12) * U
            v = [_stepped(value * one) / value for value, one in zip(values, v, strict=True)]
        wanted = walsh * np.array(v, dtype=float) @ walsh / total
        out = st.schulz_inverse(cell.asarray(_lattice(corners)), steps=steps, gamma=0.5)
        worst = float(np.linalg.norm(st.to_host(out.inverse) - wanted, 2)) * total / (error + 9 * float(max(v)) * U)
        found.append(_within(worst, f"{steps} steps"))
        left = float(max(abs(1 - value * one) for value, one in zip(values, v, strict=True)))
        allowed = error + 32 * float(max(v)) * U  # of V, of N (norm 1), of their product and of its norm
        found.append(_within(abs(float(out.residual) - left) / allowed, f"{steps} steps, residual"))
    return found


def _within(worst: float, name: str) -> st.Evidence:
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="rounding bounded step by step",
        name=name,
        measured=worst,
        predicted=0.0,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def _landmarks(cell: st.Cell, head: Any, count: int) -> np.ndarray:
    """At most ``count`` landmarks of a head, scaled as in the source and drawn without replacement."""
    points = np.concatenate([head.q, head.k]) / head.q.shape[-1] ** 0.25
    return np.asarray(points[st.draw_landmarks(len(head.q), len(head.k), min(count, len(points)), cell.rng)])


def _observed(points: np.ndarray, steps: int) -> tuple[float, float]:
    """|I - N V| after ``steps``, and its floor 1 - (13/4)^steps t_0. ``ValueError`` for points too far apart."""
    found = st.schulz_inverse(st.gaussian_gram(points, points), steps=steps, gamma=GAMMA)
    n = found.normalized
    t = float(np.linalg.eigvalsh(n)[0]) ** 2 / float(n.sum(axis=0).max())
    return float(found.residual), max(1 - float(GROWTH) ** steps * t, 0.0)


def _curve(points: np.ndarray, counts: list[int], steps: int) -> list[tuple[float, float] | None]:
    """`_observed` for the first points, ``counts`` of them; ``None`` where there are fewer."""
    return [_observed(points[:count], steps) if count <= len(points) else None for count in counts]


def residual_against_landmarks(cell: st.Cell) -> st.Evidence:
    """The residual of normal points, as the released code scales them, and of the first and the last head."""
    counts = [4, 8, 16, 32, 64, 128, 256]
    sets = {"normal points": cell.rng.normal(size=(counts[-1], 16)) / 32**0.25}
    for head in (*cell.heads[:1], *cell.heads[1:][-1:]):
        sets[head.name] = _landmarks(cell, head, counts[-1])
    series: dict[str, list[float | None]] = {}
    for name, points in sets.items():
        with contextlib.suppress(ValueError):  # `residual_on_heads` says why
            six = _curve(points, counts, STEPS)
            series[name] = [one and one[0] for one in six]
            floor = {f"{name}, no less is possible": [one and one[1] for one in six]}
            longer = {f"{name}, 12 steps": [one and one[0] for one in _curve(points, counts, 2 * STEPS)]}
    inverted = [label for label, left in (series | longer).items() if all(one is None or one < 1e-3 for one in left)]
    small = f" Below 0.001 for any number of landmarks: {'; '.join(inverted)}." if inverted else ""
    series |= floor | longer  # of the last
    return st.Evidence(
        None,
        "monte-carlo",
        name="128 normal points",
        measured=series["normal points"][counts.index(128)],
        draws=1,
        note="|I - N V| after six steps; 1 is no inverse at all",
        figure={
            "plot": "curves",
            "title": "Residual against landmarks",
            "x": counts,
            "series": series,
            "x_label": "landmarks",
            "y_label": "residual ‖I − NV‖",
            "log_x": True,
            "caption": f"Six steps, where no other number is said. Near 1 nothing is inverted.{small}",
        },
    )


def residual_on_heads(cell: st.Cell) -> list[st.Evidence]:
    """The residual of 128 landmarks after six steps, beside 1, which is no inverse at all."""
    found = []
    for head in cell.heads:
        try:
            left, floor = _observed(_landmarks(cell, head, 128), STEPS)
        except ValueError as error:
            found.append(st.observe(name=head.name, note=f"points too far apart: {error}"))
            continue
        note = f"at least {floor:.3f} by P29R; 1 is no inverse at all"
        found.append(st.observe(name=head.name, measured=left, note=note))
    return found


P29 = st.Proposition(
    id="P29",
    title="Singular values of the landmark matrix in the open interval",
    statement=r"All singular values of $N = D^{-1/2} (W + \gamma I) D^{-1/2}$, "
    r"$D$ the diagonal of the row sums of $W + \gamma I$, lie in $(0, 1)$.",
    hypotheses=(r"$W$ is the Gaussian Gram matrix of the landmarks, $\gamma > 0$",),
    source="Chen et al. (2021), Lemma 3 (seen)",
    expected="refuted",
    checks=[largest_eigenvalue],
    mutants=[below_a_half],
    cites=("chen2021skyformer",),
)

P29R = st.Proposition(
    id="P29R",
    title="Singular values in (0, 1], and what six steps leave",
    statement=r"The singular values of $N$ (P29) lie in $(0, 1]$, and 1 is one of them. "
    r"The released iteration, $V' = V (13 I - X (15 I - X (7 I - X))) / 4$ with $X = N V$, $V_0 = N^\top / s$, "
    r"$s$ the largest column sum of $N$, has $E' = (3 E^3 + E^4) / 4$ for $E = I - N V$; after six steps "
    r"$\|I - N V\| \ge 1 - (13/4)^6\, \lambda_{\min}(N)^2 / s$.",
    hypotheses=(r"$W$ is positive semidefinite with entries $\ge 0$", r"$\gamma > 0$"),
    source="Chen et al. (2021), Lemma 3 and section 4.4, and its released code (seen); "
    "the residual map and the bound are not in it",
    expected="consistent",
    checks=[
        half_open_interval,
        laplacian,
        residual_map,
        left_by_six_steps,
        step_of_the_library,
        inverse_of_the_library,
        residual_against_landmarks,
        residual_on_heads,
    ],
    mutants=[
        gamma_omitted,
        laplacian_of_differences,
        six_for_seven,
        quarter_forgotten,
        half_the_growth,
        six_steps_invert_128_landmarks,
    ],
    cites=("chen2021skyformer",),
)
