r"""P21: "A sketch by subsampled Hadamard transforms never has a larger variance than independent rows of the same width."

    level i:  rows of H diag(signs) on x padded to d' = a power of two; blocks with signs of their own are stacked until
              there are N = d' ceil(R / d') >= R rows, R of which are drawn without replacement
    est  =  (1/R) sum_{l <= R} prod_{i <= p} z_i(l),      z_i(l) = <row l of level i, x> conj <the same row, y>

Real signs: R = D. Complex-to-real: signs of {1, i, -1, -i}, R = D/2, the real part. P21 is false for both: for real
signs at even degrees, for complex ones at odd degrees too.

P21R. With M = E z^2 of one real row (T of P20), or E |z|^2 or E z^2 of a complex one (C and P of P20, of which the
mean is taken), t = <x, y>:

    Var  =  (M^p - t^2p) / R  -  (1 - 1/R) (t^2p - c^p),        c = t^2 - (M - t^2) / (N - 1)

so that for real signs it is never above Var_iid at odd p, at most (1 + (D-1) / (N-1)^p) Var_iid at even p, which is 2
Var_iid at d = D = p = 2 and at most 1.016 Var_iid from N = 64 on, and 0 at p = 1, D = N.

Source: the formula is in Wacker, Ohana & Filippone (2023), Table 1, for the sampling of Algorithm 2 (seen); the bound
for even degrees, the pseudo-variance and the odd example are derived here.

Proof. Every row of H diag(signs) is a vector of independent uniform signs, so a row has the moment M. H is orthogonal
up to its length, so sum_l z_i(l) = N t over all N rows whatever the signs: two different rows, equally likely, have E
z conj(z') = (N^2 t^2 - N M) / (N (N-1)) = c. Levels are independent; a pair of rows of the sketch is different in
every level, and contributes c^p - t^2p to the covariances. Odd p: M >= t^2 (Jensen) gives c <= t^2, and u^p rises.
Even p: c^p > t^2p only if c < 0, where |c| <= (T - t^2) / (N-1); and (T - t^2)^p <= T^p - t^2p. Complex signs: P -
t^2 = a may be negative, and then c > t^2 for the pseudo-variance.

Checked exactly: the formula by all signs and all ordered samples, padded and stacked cases among them; the bound and
the odd case on all of {-2, ..., 2}^6. The library's variances against the formula. By sampling: squared errors of the
library, in four dimensions, where signs matter: in three or fewer the rows of a transform are all vectors of signs
up to a common one, whatever the signs.

Not checked: tails; whether the estimates of several pairs by one sketch hang together differently.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

Vector = tuple[int, ...]
Case = tuple[str, int, int, Vector, Vector]  # family, degree, rows R, x, y
ATOMS: dict[str, tuple[complex, ...]] = {"srht": (1, -1), "complex-srht": (1, 1j, -1, -1j)}
CASES: list[Case] = [  # d = 3 is padded, R > d' stacked
    ("srht", 1, 2, (1, 2), (3, -1)),
    ("srht", 2, 2, (1, 0), (0, 1)),
    ("srht", 3, 2, (1, 2), (3, -1)),
    ("srht", 2, 3, (1, 2), (2, 1)),
    ("srht", 3, 4, (1, 1), (1, -2)),
    ("srht", 2, 3, (1, 2, -1), (2, 0, 1)),
    ("srht", 3, 4, (1, 2, -1), (2, 0, 1)),
    ("srht", 2, 5, (1, 2, -1), (1, 1, 0)),
    ("srht", 2, 4, (1, 0, 2, 1), (0, 1, 1, -1)),
    ("complex-srht", 2, 2, (1, 2), (3, -1)),
    ("complex-srht", 3, 2, (1, 2), (1, -2)),
    ("complex-srht", 2, 3, (1, 1), (1, -2)),
    ("complex-srht", 2, 2, (1, 2, -1), (2, 0, 1)),
]
SAMPLED: list[Case] = [  # two or three of four rows, and three of two blocks of two
    ("srht", 2, 3, (1, 1, 1, 1), (1, 1, 1, 0)),
    ("srht", 3, 3, (1, 1), (1, 2)),
    ("complex-srht", 2, 2, (1, 1, 1, 1), (1, 1, 1, 0)),
    ("complex-srht", 2, 3, (1, 1), (1, -2)),
]


def _padded(dim: int) -> int:
    return 1 << (dim - 1).bit_length()


def _stacked(dim: int, rows: int) -> int:
    """N, the rows that R are drawn from."""
    return _padded(dim) * math.ceil(rows / _padded(dim))


def _level(family: str, rows: int, x: Vector, y: Vector) -> Counter[tuple[complex, ...]]:
    """All outcomes of (z(1), ..., z(R)) of one level, with their numbers."""
    h = np.array([[(-1) ** (i & j).bit_count() for j in range(len(x))] for i in range(_padded(len(x)))])  # Sylvester's
    signs = np.array(list(itertools.product(ATOMS[family], repeat=len(x))))
    blocks = ((signs * x) @ h.T) * ((signs * y) @ h.T).conj()  # every block, all signs: (., d')
    seen = Counter(tuple(block) for block in blocks)
    found: Counter[tuple[complex, ...]] = Counter()
    for chosen in itertools.product(seen.items(), repeat=_stacked(len(x), rows) // len(h)):
        stack = [z for block, _ in chosen for z in block]
        times = math.prod(n for _, n in chosen)
        for sample, n in Counter(itertools.permutations(stack, rows)).items():
            found[sample] += times * n
    return found


def _estimates(family: str, degree: int, rows: int, x: Vector, y: Vector) -> Counter[int]:
    """R times the estimate, for all signs and all ordered samples, in (Gaussian) integers, with their numbers."""
    level = _level(family, rows, x, y)
    product = Counter({(1 + 0j,) * rows: 1})
    for _ in range(degree):
        longer: Counter[tuple[complex, ...]] = Counter()
        for (one, n), (other, m) in itertools.product(product.items(), level.items()):
            longer[tuple(a * b for a, b in zip(one, other, strict=True))] += n * m
        product = longer
    found: Counter[int] = Counter()
    for z, n in product.items():
        found[round(sum(z).real)] += n
    return found


def _enumerated(family: str, degree: int, rows: int, x: Vector, y: Vector, power: int = 2) -> Fraction:
    """E (estimate - <x, y>^p)^power, which is the variance where the mean is what it should be."""
    center, found = rows * int(np.dot(x, y)) ** degree, _estimates(family, degree, rows, x, y)
    return Fraction(sum(n * (z - center) ** power for z, n in found.items()), found.total() * rows**power)


def _moments(family: str, x: Iterable[int], y: Iterable[int]) -> tuple[list[Any], Any]:
    """The moments M of one row, and t^2."""
    x, y = np.asarray(x), np.asarray(y)
    a, tt = np.sum(x * x, -1) * np.sum(y * y, -1), np.sum(x * y, -1) ** 2
    s = np.sum(x * x * y * y, -1)
    return ([a + 2 * tt - 2 * s] if family == "srht" else [a + tt - s, 2 * tt - s]), tt


def _independent(family: str, degree: int, rows: int, x: Iterable[int], y: Iterable[int]) -> Fraction:
    """The variance of as many independent rows."""
    moments, tt = _moments(family, x, y)
    return sum((Fraction(int(m**degree - tt**degree), rows) for m in moments), Fraction(0)) / len(moments)


def _closed(family: str, degree: int, rows: int, x: Vector, y: Vector, size: int = 0) -> Fraction:
    """The variance as claimed; ``size`` in place of N in a mutant."""
    moments, tt = _moments(family, x, y)
    size, saved = size or _stacked(len(x), rows), Fraction(0)
    for m in moments:
        c = int(tt) - Fraction(int(m - tt), size - 1)
        saved += (1 - Fraction(1, rows)) * (int(tt) ** degree - c**degree)
    return _independent(family, degree, rows, x, y) - saved / len(moments)


def _compare(wrong: int, cases: int, because: str, kind: str = "exact") -> st.Evidence:
    note = f"{wrong} of {cases:,} differ"
    return st.decide(
        wrong == 0, kind=kind, because=because, measured=float(wrong), predicted=0.0, comparisons=cases, note=note
    )


def _formula(closed: Callable[..., Fraction]) -> st.Evidence:
    wrong = sum(_enumerated(*case) != closed(*case) for case in CASES)
    return _compare(wrong, len(CASES), "all signs and all ordered samples, integers")


def formula(cell: st.Cell) -> st.Evidence:
    """The formula for real and for complex signs: d = 2, 3 (padded) and 4, R up to 5 (stacked), p up to 3."""
    del cell
    return _formula(_closed)


def sampled_with_replacement(cell: st.Cell) -> st.Evidence:
    """Rows drawn with replacement from one block: c is t^2, as for independent rows."""
    del cell
    return _formula(_independent)


def without_padding(cell: st.Cell) -> st.Evidence:
    """The formula with ceil(R / d) d in place of N: the same where d is a power of two, and wrong elsewhere."""
    del cell

    def unpadded(family: str, degree: int, rows: int, x: Vector, y: Vector) -> Fraction:
        return _closed(family, degree, rows, x, y, size=len(x) * math.ceil(rows / len(x)))

    return _formula(unpadded)


def library(cell: st.Cell) -> st.Evidence:
    """Variances of the library's law against the formula, d up to 9 and D up to 24."""
    rng, wrong = np.random.default_rng(21), []
    for family, degree, dim, width in itertools.product(ATOMS, (1, 2, 3), (2, 3, 9), (4, 24)):
        x, y = rng.integers(-3, 4, size=(2, dim))
        found = st.PolynomialSketch(degree, width, family).variance(cell.asarray(x * 1.0), cell.asarray(y * 1.0))
        exact = _closed(family, degree, width if family == "srht" else width // 2, tuple(x), tuple(y))
        # At most eight powers of numbers below 3 |x|^2 |y|^2, which were rounded at most 4 times; then up to 8 roundings.
        allowed = 8 * (4 * degree + 8) * 2.0**-53 * float(3 * (x @ x) * (y @ y)) ** degree
        wrong.append(abs(float(Fraction(float(st.to_host(found))) - exact)) > allowed)
    return _compare(sum(wrong), len(wrong), "closed form in rational arithmetic; rounding bounded", "deterministic")


def _bound(degrees: tuple[int, ...], share: Callable[[int, int, int], Fraction]) -> st.Evidence:
    """D (Var - Var_iid) <= share(D, N, p) D Var_iid at every T and t^2 of {-2, ..., 2}^6, real signs, in integers."""
    grid = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    (moment,), tt = _moments("srht", grid[:, None], grid[None])
    pairs = sorted(set(zip(moment.ravel().tolist(), tt.ravel().tolist(), strict=True)))
    cases = list(itertools.product(degrees, (2, 3, 4, 7, 8), pairs))
    wrong = 0
    for p, rows, (m, t2) in cases:
        size = _stacked(3, rows)
        c = t2 * (size - 1) - (m - t2)  # times N - 1
        gap = Fraction((rows - 1) * (c**p - (t2 * (size - 1)) ** p), (size - 1) ** p)
        wrong += gap > share(rows, size, p) * (m**p - t2**p)
    return _compare(
        wrong, len(cases), "integers, every T and t² of {-2, ..., 2}^6; all others by the proof in the file"
    )


def odd_degrees_never_lose(cell: st.Cell) -> st.Evidence:
    """Real signs, p = 1, 3, 5: at most the variance of independent rows."""
    del cell
    return _bound((1, 3, 5), lambda rows, size, p: Fraction(0))


def even_degrees_lose_little(cell: st.Cell) -> st.Evidence:
    """Real signs, p = 2, 4, 6: at most a share (D-1) / (N-1)^p more."""
    del cell
    return _bound((2, 4, 6), lambda rows, size, p: Fraction(rows - 1, (size - 1) ** p))


def half_the_share(cell: st.Cell) -> st.Evidence:
    """Half of that share, at which disjoint vectors are over the bound."""
    del cell
    return _bound((2, 4, 6), lambda rows, size, p: Fraction(rows - 1, 2 * (size - 1) ** p))


def _sampled(cell: st.Cell, closed: Callable[..., Fraction], cases: list[Case] = SAMPLED) -> st.Evidence:
    """Squared errors of the library against ``closed``, for each of ``cases``."""
    target = np.array([float(closed(*case)) for case in cases])
    spread = np.array([float(_enumerated(*case, power=4) - _enumerated(*case) ** 2) for case in cases])
    laws = [st.PolynomialSketch(p, rows * (1 + (family != "srht")), family) for family, p, rows, _, _ in cases]
    pairs = [[cell.asarray(np.array([v], dtype=float)) for v in case[3:]] for case in cases]

    def sample(rng: np.random.Generator, size: int) -> np.ndarray:
        drawn = []
        for law, (x, y) in zip(laws, pairs, strict=True):
            phi = law.draw(x.shape[-1], rng, shape=(size,))
            estimate = np.sum(st.to_host(phi(x)) * st.to_host(phi(y)), axis=-1)[:, 0]
            drawn.append((estimate - st.to_host(law.mean(x, y))[0]) ** 2)
        return np.stack(drawn, axis=-1)

    return st.check_mean(
        sample, target, margin=0.1 * target, variance=spread, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws
    ).but(figure={"label": "squared error of a sketch"})


def sampled_errors(cell: st.Cell) -> st.Evidence:
    """Squared errors of the library, real and complex signs."""
    return _sampled(cell, _closed)


def independent_rows_claimed(cell: st.Cell) -> st.Evidence:
    """The variance of independent rows claimed for Hadamard rows."""
    return _sampled(cell, _independent, SAMPLED[:2])


def _never_larger(family: str, degree: int, x: Vector, y: Vector, factor: Fraction = Fraction(1)) -> st.Evidence:
    """Var <= factor Var_iid at R = 2, both by enumeration: of the sketch, and of one row alone."""
    found, one = _enumerated(family, degree, 2, x, y), _enumerated(family, degree, 1, x, y)
    return st.decide(
        found <= factor * one / 2,
        because="all signs and all ordered samples, integers",
        measured=float(found),
        predicted=float(factor * one / 2),
        note=f"x = {x}, y = {y}, p = {degree}: variance {found} from two rows without replacement, {one / 2} from independent ones",
    )


def real_signs_at_degree_two(cell: st.Cell) -> st.Evidence:
    """Disjoint vectors, d = D = p = 2: variance 1, and 1/2 for independent rows."""
    del cell
    widths = [2**i for i in range(1, 9)]  # D = N = d', disjoint vectors: T = 1, t = 0
    series = {f"degree {p}": [1 + (n - 1) * (-1 / (n - 1)) ** p for n in widths] for p in (2, 3, 4)}
    return _never_larger("srht", 2, (1, 0), (0, 1)).but(
        figure={
            "plot": "curves",
            "title": "Hadamard rows against independent ones",
            "caption": "Variance of a sketch whose rows are all those of one Hadamard block over that of as many independent rows, for "
            "vectors with disjoint supports. Even degrees lose, from 64 rows on less than 2 %.",
            "x": widths,
            "series": series,
            "x_label": "rows D = d, a power of two",
            "y_label": "variance, Hadamard / independent",
            "log_x": True,
            "lines": {"equal": 1.0},
        }
    )


def complex_signs_at_degree_three(cell: st.Cell) -> st.Evidence:
    """Complex signs at an odd degree: x = (1, 2), y = (1, -2), p = 3, two complex rows."""
    del cell
    return _never_larger("complex-srht", 3, (1, 2), (1, -2))


def at_most_three_halves(cell: st.Cell) -> st.Evidence:
    """Twin: at most three halves of the variance of independent rows."""
    del cell
    return _never_larger("srht", 2, (1, 0), (0, 1), Fraction(3, 2))


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Mean variance at degrees 2 and 3 over pairs of the given heads as trained, D = 256, over that of independent rows."""
    found, width = [], 256
    for head in cell.heads:
        q, k = (x * head.q.shape[1] ** -0.25 for x in (head.q, head.k))
        tt = (q @ k.T) ** 2
        moment = np.outer(np.sum(q * q, 1), np.sum(k * k, 1)) + 2 * tt - 2 * (q * q) @ (k * k).T
        c = tt - (moment - tt) / (_stacked(q.shape[1], width) - 1)
        for p in (2, 3):
            ratio = 1 - (width - 1) * np.mean(tt**p - c**p) / np.mean(moment**p - tt**p)
            name = f"variance at degree {p}, Hadamard / independent rows: {head.name}"
            found.append(
                st.observe(name=name, measured=float(ratio), note=f"D = {width}, mean over all pairs, as trained")
            )
    return found


P21 = st.Proposition(
    id="P21",
    title="A sketch by subsampled Hadamard transforms never has a larger variance than independent rows",
    statement=r"$\mathrm{Var}_{\mathrm{SRHT}} \le \mathrm{Var}_{\mathrm{iid}}$ for all $x, y$, all degrees and all widths, with signs of "
    r"$\{1, -1\}$ as with signs of $\{1, i, -1, -i\}$.",
    hypotheses=(),
    source="what one expects of sampling without replacement; Wacker, Ohana & Filippone (2023, seen) state it for odd degrees only",
    expected="refuted",
    checks=[real_signs_at_degree_two, complex_signs_at_degree_three],
    mutants=[at_most_three_halves],
    cites=("wacker2023complex", "tropp2011improved"),
)

P21R = st.Proposition(
    id="P21R",
    title="Its variance in closed form; real signs never lose at odd degrees, hardly at even ones",
    statement=r"$\mathrm{Var} = (T^p - t^{2p}) / D - (1 - 1/D)(t^{2p} - c^p)$ with $t = \langle x, y\rangle$, $c = t^2 - (T - t^2) / (N-1)$, $T$ "
    r"the second moment of one row (P20), $N$ stacked rows. It is at most the variance of independent rows for odd $p$, and at most "
    r"$1 + (D-1)/(N-1)^p$ times that for even $p$. For complex signs it is the mean of the same in $C$ and in $P$, at $D/2$ rows.",
    hypotheses=("rows are drawn without replacement, in every level anew", "$N > 1$", "the bounds: real signs"),
    source="formula: Wacker, Ohana & Filippone (2023), Table 1 (seen); pseudo-variance and the bound for even p: derived here",
    expected="consistent",
    checks=[
        formula,
        library,
        odd_degrees_never_lose,
        even_degrees_lose_little,
        sampled_errors,
        on_activations,
    ],
    mutants=[sampled_with_replacement, without_padding, half_the_share, independent_rows_claimed],
    cites=("wacker2023complex", "tropp2011improved"),
)
