r"""P27: Kernelized attention is a block of a semidefinite matrix, of which Nyström's approximation errs on one side.

    C = kappa(Q', K') = D_Q^(-1/2) A D_K^(-1/2),  kappa(x, y) = exp(-|x - y|^2 / 2),  Q' = d^(-1/4) Q,  K' = d^(-1/4) K
    A = exp(Q K^T / sqrt d),                        D_Q = diag exp(|q_i|^2 / sqrt d),    D_K likewise
    G = kappa([Q'; K'], [Q'; K']) = [[., C], [C^T, .]],   G~ = G S (S^T G S)^+ S^T G,   C~ = the block of G~ where C is

0 <= G~ <= G in the Loewner order; G - G~ falls when landmarks are added, is zero in their rows and columns, and
vanishes once every distinct point is a landmark; and |C - C~| <= |G - G~| / 2 in the spectral norm.

Hypotheses: G is positive semidefinite, which the lifting to queries and keys together ensures. C itself is neither
symmetric nor semidefinite; Nyström's formula on C may err by any factor (below by 65536, where no entry of C exceeds
1).

Source: Chen et al. (2021), Skyformer, equations (3) to (6) and Lemma 1 (seen, with appendix and code); there |C - C~|
<= |G - G~|. The factor 1/2 is not in the sources seen.

Idea of proof: -|q - k|^2 / 2 = <q, k> - |q|^2 / 2 - |k|^2 / 2. G~ = G^(1/2) P G^(1/2) with the projection P on the
range of G^(1/2) S, so that R = G - G~ = G^(1/2) (I - P) G^(1/2), and P grows with S. The half: with t = |R|, both R and
t I - R are semidefinite, the second also after the signs of the keys are changed; the sum of the two is [[t I, 2 B], [2
B^T, t I]], B the block of R, and semidefinite if and only if 2 |B| <= t.

Checked exactly: the identity, a polynomial of degree 2 in each of two numbers summed over coordinates, at 3 x 3 points,
which proves it. The order, on integer multiples of sqrt(2 log 2), where kappa = 2^(-|a - b|^2) is rational: all that is
said above, for four sets of points (distinct ones, a query equal to a key, repeated landmarks, crossed pairs) and every
number of landmarks; each is a case, and the proof is the one above. By computation on normal points: that the library's
Gram matrix, attention, Nyström's formula and Nyström attention are these.

Not checked: how small the error is (P28).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

U = 2.0**-53
SETS = {  # integer queries and keys, and landmarks in the order in which they are added, as indices of both together
    "distinct points": ([[0, 0], [1, 0], [2, 1]], [[0, 1], [1, 1], [0, 2]], [0, 4, 2, 3, 1, 5]),
    "a query equal to a key": ([[0, 0], [1, 0], [0, 3]], [[0, 0], [1, 1], [2, 0]], [1, 2, 4, 5, 3]),
    "repeated landmarks": ([[0], [1], [1]], [[1], [0], [2]], [0, 1, 2, 4, 3, 5]),
    "crossed pairs": ([[0], [4]], [[4], [0]], [0, 1]),
}


def _lattice(a: Any, b: Any) -> np.ndarray:
    """Kappa between integer multiples of sqrt(2 log 2), exactly."""
    squares = np.sum((np.asarray(a)[:, None] - np.asarray(b)[None]) ** 2, axis=-1)
    return np.array([[Fraction(1, 2 ** int(s)) for s in row] for row in squares], dtype=object)


def _eliminated(a: np.ndarray, pivots: Any) -> np.ndarray:
    """Return the Schur complement of ``a`` after elimination at ``pivots``, at full size; pivots of 0 are skipped."""
    for i in pivots:
        a = a - np.outer(a[:, i], a[i]) / a[i, i] if a[i, i] else a
    return a


def _is_semidefinite(a: np.ndarray) -> bool:
    """Whether ``a`` of rationals is positive semidefinite: symmetric, no pivot negative, and rows with pivot 0 zero."""
    for i in range(len(a)):
        if (a != a.T).any() or a[i, i] < 0 or (a[i, i] == 0 and a[i].any()):
            return False
        a = _eliminated(a, [i])
    return True


def _pseudo_inverse(w: np.ndarray) -> np.ndarray:
    """Return the pseudo-inverse F (F^T F)^-1 W_JJ (F^T F)^-1 F^T of symmetric ``w``, F = W_J independent columns."""
    independent: list[int] = []
    for j in range(len(w)):
        if _eliminated(w, independent)[j, j]:
            independent.append(j)
    f = w[:, independent]
    rank, one = len(independent), np.array(Fraction(1)) * np.eye(len(independent), dtype=int)
    pair = np.block([[f.T @ f, one], [one, 0 * one]])
    inverse = -_eliminated(pair, range(rank))[rank:, rank:]
    return np.asarray(f @ inverse @ w[np.ix_(independent, independent)] @ inverse @ f.T)


def _nystrom(g: np.ndarray, landmarks: list[int]) -> np.ndarray:
    """Nyström's formula as it is defined, in rationals."""
    w = g[np.ix_(landmarks, landmarks)]
    return np.asarray(g[:, landmarks] @ _pseudo_inverse(w) @ g[landmarks])


def identity(cell: st.Cell) -> st.Evidence:
    """The exponents of C and of D_Q^(-1/2) A D_K^(-1/2), times sqrt d, for one coordinate."""
    del cell
    return _identity(Fraction(1, 2))


def exponent_without_its_half(cell: st.Cell) -> st.Evidence:
    """Twin: D_Q^(-1) and D_K^(-1) in place of their roots."""
    del cell
    return _identity(Fraction(1))


def _identity(power: Fraction) -> st.Evidence:
    pairs = list(itertools.product(range(3), repeat=2))
    holds = all(Fraction(-((q - k) ** 2), 2) == q * k - power * q**2 - power * k**2 for q, k in pairs)
    return st.decide(
        holds,
        because="two polynomials of degree 2 in each of two variables that agree at 3 x 3 points are equal",
        comparisons=len(pairs),
    )


def _order(name: str, lifted: bool = True, share: int = 2) -> Iterator[tuple[str, bool]]:
    """Yield what is claimed of the residual, ``share`` |B| <= |R| too, and whether it is so, for each landmark."""
    q, k, added = SETS[name]
    points, n = np.array(q + k), len(q)
    g = _lattice(points, points) if lifted else _lattice(q, k)
    before = g
    for count in range(1, len(added) + 1) if lifted else [1]:
        landmarks = added[:count]
        r = g - _nystrom(g, landmarks)
        yield "elimination", bool((r == _eliminated(g, landmarks)).all())
        yield "G~ >= 0", _is_semidefinite(g - r)
        yield "G~ <= G", _is_semidefinite(r)
        yield "monotone", _is_semidefinite(before - r)
        yield "exact at landmarks", not r[landmarks].any() and not r[:, landmarks].any()
        if lifted:
            t = Fraction(float(np.linalg.eigvalsh(r.astype(float))[-1]) + 1e-9)  # the next claim: not below |R|
            top, block = t * np.eye(n, dtype=int), share * r[:n, n:]
            yield "bound of |R|", _is_semidefinite(t * np.eye(2 * n, dtype=int) - r)
            yield "block", _is_semidefinite(np.block([[top, block], [block.T, top]]))
        before = r
    if lifted:
        yield "all distinct points", not before.any()


def _ordered(claims: list[tuple[str, bool]]) -> st.Evidence:
    broken = sorted({claim for claim, holds in claims if not holds})
    return st.decide(
        not broken,
        because="Gaussian elimination in rational arithmetic",
        measured=float(sum(not holds for _, holds in claims)),
        predicted=0.0,
        comparisons=len(claims),
        note=f"broken: {', '.join(broken)}" if broken else f"kappa = 2^-|a - b|^2, {len(claims)} claims",
    )


def loewner_order(cell: st.Cell) -> st.Evidence:
    """The order, its monotony, exactness at landmarks and the half, on rational Gaussian Gram matrices."""
    del cell
    return _ordered([claim for name in SETS for claim in _order(name)])


def a_third_of_the_residual(cell: st.Cell) -> st.Evidence:
    """Twin: |C - C~| <= |G - G~| / 3. An unsampled query that is also a key has equality with 1/2."""
    del cell
    return _ordered(list(_order("a query equal to a key", share=3)))


def unlifted(cell: st.Cell) -> st.Evidence:
    """Twin: a landmark of C alone, not semidefinite here: the entry beyond it is 2^-16, its approximation 2^16."""
    del cell
    return _ordered(list(_order("crossed pairs", lifted=False)))


def _normal_points() -> tuple[np.ndarray, np.ndarray]:
    """Queries (24, 16) and keys (32, 16), scaled as in the source."""
    rng = np.random.default_rng(27)
    return rng.normal(size=(24, 16)) / 2, rng.normal(size=(32, 16)) / 2


def _rounding(*points: np.ndarray) -> float:
    """Relative rounding error of an entry of the kernel matrix.

    There are d + 4 operations on an exponent, an exponential, and three products.
    No term of the exponent exceeds 8 max |x|^2, also about another centre, the mean of some of the points.
    """
    largest = max(float(np.max(np.sum(x**2, axis=-1))) for x in points)
    return (8 * (points[0].shape[-1] + 4) * largest + 4) * U


def _within(found: Any, wanted: np.ndarray, allowed: Any, because: str) -> st.Evidence:
    worst = float(np.max(np.abs(st.to_host(found) - wanted) / allowed))
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because=because,
        measured=worst,
        predicted=0.0,
        comparisons=wanted.size,
        note=f"largest difference {worst:.2g} of the rounding bound",
    )


def gram_and_attention(cell: st.Cell) -> list[st.Evidence]:
    """`gaussian_gram` and `gaussian_attention` against D_Q^(-1/2) A D_K^(-1/2), without and with a mask."""
    return _gram_and_attention(cell, 0.5)


def diagonal_without_its_root(cell: st.Cell) -> list[st.Evidence]:
    """Twin: D_Q^(-1) A D_K^(-1), against the library."""
    return _gram_and_attention(cell, 1.0)


def _gram_and_attention(cell: st.Cell, power: float) -> list[st.Evidence]:
    q, k = _normal_points()
    v, used = np.random.default_rng(270).normal(size=(len(k), 3)), np.arange(len(k)) % 3 > 0
    a = np.exp(q @ k.T)
    c = np.exp(-power * np.sum(q**2, axis=-1))[:, None] * a * np.exp(-power * np.sum(k**2, axis=-1))
    on_device, each = [cell.asarray(x) for x in (q, k, v)], 4 * _rounding(q, k)
    found = [_within(st.gaussian_gram(*on_device[:2]), c, each * c, "rounding of the exponents and of exp")]
    for mask in (None, used):
        weights = c if mask is None else c * mask
        out = st.gaussian_attention(*on_device, key_mask=None if mask is None else cell.asarray(mask))
        allowed = (each + 2 * len(k) * U) * (weights @ np.abs(v))
        found.append(
            _within(out, weights @ v, allowed, "rounding of the weights and of m sums").but(
                name="attention" if mask is None else "masked"
            )
        )
    return found


def _spectral(a: np.ndarray) -> float:
    return float(np.linalg.norm(a, 2))


def _error(g: np.ndarray, landmarks: Any, each: float) -> float:
    """Spectral error of F W^+ F^T, to first order: (2 |F| + |W| |F W^+|) |F W^+| (each + N u).

    Entries of F and W err by ``each`` of themselves, and the inverse of W belongs to a matrix that is N u |W| away, N
    the number of points, as it is for stable routines.
    """
    f, w = g[:, landmarks], g[np.ix_(landmarks, landmarks)]
    spread = _spectral(f @ np.linalg.pinv(w, hermitian=True))
    return (2 * _spectral(f) + _spectral(w) * spread) * spread * (each + len(g) * U)


def _library(cell: st.Cell, formula: Callable[..., Any]) -> list[st.Evidence]:
    """The order on normal points with 4, 12 and 36 landmarks, through ``formula(gram, landmarks)``, within rounding."""
    points = np.concatenate(_normal_points())
    g = np.exp(-np.sum((points[:, None] - points) ** 2, axis=-1) / 2)
    chosen, n = np.random.default_rng(271).permutation(len(g)), len(_normal_points()[0])
    before, claims = g, []
    for count in (4, 12, 36):
        landmarks = chosen[:count]
        approximation = st.to_host(formula(cell.asarray(g), landmarks))
        r, allowed = g - approximation, _error(g, landmarks, 0.0) + 2 * U * _spectral(g)
        lowest = min(np.linalg.eigvalsh(x)[0] for x in (approximation, r, before - r))
        half = _spectral(r[:n, n:]) - _spectral(r) / 2
        # An eigenvalue moves by no more than the matrix (Weyl), and a routine for it errs by N u times the norm.
        worst = max(-float(lowest), half, _spectral(r[landmarks])) / (2 * allowed + len(g) * U * _spectral(g))
        claims.append(_decided(worst, f"{count} landmarks"))
        before = r
    return claims


def _decided(worst: float, name: str) -> st.Evidence:
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="Weyl's inequality; rounding bounded to first order",
        name=name,
        measured=worst,
        predicted=0.0,
        note=f"largest violation {worst:.2g} of the rounding bound",
    )


def order_in_the_library(cell: st.Cell) -> list[st.Evidence]:
    """`nystrom_gram`: 0 <= G~ <= G, monotone, exact at landmarks, the half."""
    return _library(cell, st.nystrom_gram)


def root_of_the_inverse(cell: st.Cell) -> list[st.Evidence]:
    """Twin: W^(-1/2) in place of W^+."""

    def formula(gram: Any, landmarks: np.ndarray) -> np.ndarray:
        g = st.to_host(gram)
        values, vectors = np.linalg.eigh(g[np.ix_(landmarks, landmarks)])
        half = g[:, landmarks] @ vectors * values**-0.25
        return np.asarray(half @ half.T)

    return _library(cell, formula)


def repeated_landmarks_in_the_library(cell: st.Cell) -> list[st.Evidence]:
    """`nystrom_gram` where landmarks repeat, so that W is singular, against rational arithmetic."""
    found = []
    for name, (q, k, added) in SETS.items():
        g = _lattice(q + k, q + k)
        landmarks, rounded = [*added, added[0]], g.astype(float)  # powers of two: nothing is rounded
        out = st.to_host(st.nystrom_gram(cell.asarray(rounded), landmarks))
        wanted = _nystrom(g, landmarks).astype(float)
        found.append(_decided(_spectral(out - wanted) / _error(rounded, landmarks, 2 * U), name))
    return found


def _attention(cell: st.Cell, dropped: int) -> list[st.Evidence]:
    """`nystrom_attention` with V = I against the block of the formula at the same landmarks but for ``dropped``."""
    q, k = _normal_points()
    points, n, found = np.concatenate([q, k]), len(q), []
    g, v = np.exp(-np.sum((points[:, None] - points) ** 2, axis=-1) / 2), np.eye(len(k))
    for law in ("uniform", "replacement", "released"):
        chosen = st.to_host(st.draw_landmarks(n, len(k), 12, 27, landmarks=law))[dropped:]
        middle = np.linalg.pinv(g[np.ix_(chosen, chosen)], hermitian=True)
        out = st.nystrom_attention(*map(cell.asarray, (q, k, v)), n_landmarks=12, rng=27, landmarks=law)
        off = _spectral(st.to_host(out) - g[:n, chosen] @ middle @ g[chosen, n:])
        found.append(_decided(off / (2 * _error(g, chosen, _rounding(q, k))), f"landmarks {law}"))
    return found


def attention_is_the_block(cell: st.Cell) -> list[st.Evidence]:
    """`nystrom_attention` with V = I is a block of the formula, for three laws of the landmarks."""
    return _attention(cell, 0)


def one_landmark_dropped(cell: st.Cell) -> list[st.Evidence]:
    """Twin: the formula with one landmark less."""
    return _attention(cell, 1)


P27 = st.Proposition(
    id="P27",
    title="Kernelized attention is a block of a semidefinite matrix",
    statement=r"$\kappa(Q', K') = D_Q^{-1/2} A D_K^{-1/2}$; for the matrix $G$ of queries and keys together and "
    r"$\tilde{G} = G S (S^\top G S)^+ S^\top G$: $0 \le \tilde{G} \le G$, "
    r"$G - \tilde{G}$ falls when landmarks are added and is zero in their rows, "
    r"and $\|C - \tilde{C}\| \le \|G - \tilde{G}\| / 2$ for the blocks of queries and keys.",
    hypotheses=(
        r"$\kappa(x, y) = \exp(-\|x - y\|^2 / 2)$, $Q' = d^{-1/4} Q$, $K'$ likewise, $d$ their width",
        r"$A = \exp(Q K^\top / \sqrt{d})$ entry by entry, $D_Q = \mathrm{diag} \exp(\|q_i\|^2 / \sqrt{d})$, $D_K$ likewise",
        r"$G = \kappa([Q'; K'], [Q'; K'])$, of which $C = \kappa(Q', K')$ is a block; $S$ chooses columns, the landmarks",
        r"$X \le Y$ (Loewner): $Y - X$ is positive semidefinite",
    ),
    source="Chen et al. (2021), equations (3) to (6) and Lemma 1 (seen); the factor 1/2 is not in the sources seen",
    expected="consistent",
    checks=[
        identity,
        loewner_order,
        gram_and_attention,
        order_in_the_library,
        repeated_landmarks_in_the_library,
        attention_is_the_block,
    ],
    mutants=[
        exponent_without_its_half,
        a_third_of_the_residual,
        unlifted,
        diagonal_without_its_root,
        root_of_the_inverse,
        one_landmark_dropped,
    ],
    cites=("chen2021skyformer",),
)
