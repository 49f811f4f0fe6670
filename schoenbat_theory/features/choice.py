r"""Which monomials are worth a feature: a score in closed form for each, and the best of a tree of them.

    score_alpha = (a_n n! / alpha!)^2  E x^(2 alpha)  E_w y^(2 alpha),                  the mean square of its term
    score_alpha = (a_n n! / alpha!)^2  E x^(2 alpha)  |E_w (v - v_w) y^alpha|^2         of its effect on the output

E is the mean over queries x, E_w that over keys y with weights w of sum 1, v_w = E_w v. The second is the mean square of
what the term adds to sum_j w_j k(x, y_j) (v_j - v_w), the numerator of the output less v_w. What a *set* of terms that is
left out adds is not the sum of its scores, but at least that sum where signs of the x_i are random, and equal to it where
no two of the exponents have the same parities (P39R). Not in the sources seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, check_finite, require_int
from schoenbat_theory.features.monomials import Monomials
from schoenbat_theory.kernels import DotProductKernel, get_kernel

__all__ = ["choose_monomials"]

LARGEST_DEGREE = 255  # up to which a kernel's coefficients are at hand


def choose_monomials(
    kernel: str | DotProductKernel, x: Any, y: Any, weights: Any, n_features: int, *, values: Any = None
) -> tuple[Monomials, np.ndarray]:
    r"""Return the monomials that are most worth a feature, closed under parents, and their scores (D,).

        (a_n n! / alpha!)^2 E x^(2 alpha) E_w y^(2 alpha),    with values (a_n n! / alpha!)^2 E x^(2 alpha) |E_w (v - v_w) y^alpha|^2

    ``kernel``      name or `DotProductKernel`, its coefficients a_n
    ``x``           (s, d) queries, a sample of them;  ``y``  (t, d) keys, a sample of them
    ``weights``     (t,) >= 0, the weights of the keys, divided by their sum here
    ``n_features``  D, the most columns there may be;  ``values``  (t, e): the second score, else the first

    The constant is always taken. Where no score exceeds its parent's, the constant aside, the others are the D - 1 largest
    of those looked at, which no D - 1 monomials exceed in sum. Where one does, as where the parent's a_n is 0 or its effects cancel, parent and child
    share: the worth of a monomial is the mean score of the path to which it leads that way, and columns are taken by
    worth, none before its parent. Ties go to the lower degree, then to the lower coordinates. Nothing of score 0 is
    taken that leads nowhere: there may be fewer than D columns. A column that only leads on has a factor of 0.

    Of each degree the second scores are those of the D monomials whose first scores are largest. A degree takes at most
    (s + t) D d multiply-adds and with values t D e more, on the host in float64. Magnitudes are kept as logarithms:
    nothing overflows but a score beyond float64, which is ``inf``. Raises ``TypeError`` or ``ValueError``.

    >>> x = np.array([[1.0, 0.1], [-1.0, 0.1]])
    >>> chosen, scores = choose_monomials("exp", x, x, [0.5, 0.5], 4)
    >>> chosen.exponents().tolist(), scores.round(4)
    ([[0, 0], [1, 0], [2, 0], [3, 0]], array([1.    , 1.    , 0.25  , 0.0278]))
    """
    x, y, weights, values = _checked(x, y, weights, values)
    width = require_int("n_features", n_features, 1)
    coefficients = get_kernel(kernel).coefficients(min(width - 1, LARGEST_DEGREE))
    with np.errstate(divide="ignore", over="ignore"):  # a score of 0 is -inf, one beyond float64 inf
        tree = _grow(_Side.of(x, np.full(len(x), 1 / len(x))), _Side.of(y, weights, values), coefficients, width)
        scores = np.exp(tree.log_scores)
    kept = _most_worth(tree, width)
    column = np.full(len(tree.parents), -1)
    column[kept] = np.arange(len(kept))
    parents = np.where(kept > 0, column[tree.parents[kept]], -1)
    return Monomials(x.shape[1], parents, tree.coordinates[kept]), scores[kept]


@dataclass(frozen=True)
class _Side:
    """Queries or keys z with weights w, and sqrt(w) z^alpha for the monomials of one degree, magnitudes apart."""

    coordinates: np.ndarray  # (d, s) z_i divided by the largest |z_i|
    log_sizes: np.ndarray  # (d,) logarithms of those
    effects: np.ndarray | None  # (s, e) sqrt(w) (v - v_w)
    roots: np.ndarray  # (K, s) sqrt(w) z^alpha divided by the largest magnitude
    log_roots: np.ndarray  # (K,) logarithms of those

    @classmethod
    def of(cls, z: np.ndarray, weights: np.ndarray, values: np.ndarray | None = None) -> _Side:
        """Return the side of rows ``z`` (s, d) with the constant monomial."""
        effects = None if values is None else (np.sqrt(weights)[:, None] * (values - weights @ values))[weights > 0]
        z, root = z[weights > 0], np.sqrt(weights[weights > 0])
        size = np.max(np.abs(z), axis=0)
        return cls((z / np.where(size > 0, size, 1.0)).T, np.log(size), effects, root[None, :], np.zeros(1))

    def times(self, row: np.ndarray, step: np.ndarray) -> _Side:
        """Return the side with the monomials ``row`` times the coordinates ``step``."""
        roots = self.roots[row] * self.coordinates[step]
        size = np.max(np.abs(roots), axis=1, initial=0)
        roots /= np.where(size > 0, size, 1.0)[:, None]
        log_roots = self.log_roots[row] + self.log_sizes[step] + np.log(size)
        return _Side(self.coordinates, self.log_sizes, self.effects, roots, log_roots)

    def log_squares(self, row: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return log E_w z^(2 alpha) of the monomials ``row`` times the coordinates ``step``, without making them."""
        squares = (self.roots**2 @ self.coordinates.T**2)[row, step]
        return np.log(squares) + 2 * (self.log_roots[row] + self.log_sizes[step])

    def log_effects(self) -> np.ndarray:
        """Return log |E_w (v - v_w) z^alpha|^2 of the monomials."""
        return np.log(np.sum((self.roots @ self.effects) ** 2, axis=1)) + 2 * self.log_roots


@dataclass(frozen=True)
class _Tree:
    """Monomials by degree, those of degree n from ``starts[n]`` on, and the logarithms of their scores."""

    parents: np.ndarray
    coordinates: np.ndarray
    log_scores: np.ndarray
    starts: list[int]


def _grow(x: _Side, y: _Side, coefficients: np.ndarray, width: int) -> _Tree:
    """Return monomials among which are the ``width`` most worth where first scores fall, degree after degree until none may be.

    Kept are of each degree the ``width`` with the largest first scores, children of those kept before, where above the
    ``width``-th score of all so far. Second scores are at most the first times E_w |v - v_w|^2 (Cauchy and Schwarz), which
    is compared. Where a_n is 0, a number between its neighbours takes its place.
    """
    used = np.flatnonzero(coefficients)
    log_a = np.log(coefficients)
    smooth = np.interp(range(len(log_a)), used, log_a[used]) if used.size else log_a
    spread = 0.0 if y.effects is None else np.log(np.sum(y.effects**2))
    words, last, run = np.zeros(1), np.zeros(1, dtype=int), np.zeros(1, dtype=int)
    parents, coordinates, starts = [np.array([-1])], [np.array([-1])], [0, 1]
    scores = np.array([2 * log_a[0] if y.effects is None else -np.inf])  # E_w (v - v_w) = 0
    for n in range(1, np.max(used, initial=0) + 1):
        row, step = np.nonzero(np.arange(len(x.coordinates)) >= last[:, None])
        times = np.where(step == last[row], run[row] + 1, 1)
        log_words = words[row] + np.log(n / times)  # n! / alpha!
        log_x, log_y = x.log_squares(row, step), y.log_squares(row, step)
        bounds = 2 * (smooth[n] + log_words) + log_x + log_y + spread
        keep = _largest(bounds, width, _nth(scores, width))
        row, last, run, words = row[keep], step[keep], times[keep], log_words[keep]
        if not row.size:
            break
        x, y = x.times(row, last), y.times(row, last)
        effects = log_y[keep] if y.effects is None else y.log_effects()
        scores = np.concatenate([scores, 2 * (log_a[n] + words) + log_x[keep] + effects])
        parents.append(row + starts[-2])
        coordinates.append(last)
        starts.append(scores.size)
    return _Tree(np.concatenate(parents), np.concatenate(coordinates), scores, starts)


def _most_worth(tree: _Tree, width: int) -> np.ndarray:
    """Return the columns of the ``width`` monomials most worth a feature, in order, without those that lead nowhere."""
    index, parents = np.arange(len(tree.parents)), tree.parents
    top = np.max(tree.log_scores[1:], initial=-np.inf)
    own = np.exp(tree.log_scores - (top if np.isfinite(top) else 0.0))
    total, count, joined = own.copy(), np.ones(len(own)), np.zeros(len(own), dtype=bool)  # of the path that it leads to
    levels = [slice(*pair) for pair in zip(tree.starts[1:-1], tree.starts[2:], strict=True)]  # of degree 1 and up
    for level in reversed(levels[1:]):
        rise = np.argsort((total / count)[level], kind="stable") + level.start
        best = np.full(len(own), -1)
        best[parents[rise]] = rise  # the last one, the largest, stays
        shares = np.flatnonzero((best >= 0) & ((total / count)[best] > own))
        total[shares] = own[shares] + total[best[shares]]
        count[shares] = 1 + count[best[shares]]
        joined[best[shares]] = True
    worth, path = total / count, index.copy()
    worth[0] = np.inf
    for level in levels:
        worth[level] = np.minimum(worth[level], worth[parents[level]])
        path[level] = np.where(joined[level], path[parents[level]], index[level])
    order = np.lexsort((index, path, -worth))[:width]
    needed, step = np.zeros(len(own), dtype=bool), order[own[order] > 0]
    while step.size:
        needed[step] = True
        step = parents[step[step > 0]]
    needed[0] = True
    return np.flatnonzero(needed)


def _largest(bounds: np.ndarray, most: int, floor: float) -> np.ndarray:
    """Return where the ``most`` largest above ``floor`` are, in order; of equal ones the first."""
    above = np.flatnonzero(bounds > floor)
    return np.sort(above[np.argsort(-bounds[above], kind="stable")[:most]])


def _nth(scores: np.ndarray, n: int) -> float:
    """Return the n-th largest score, -inf where there are fewer."""
    return float(np.partition(scores, -n)[-n]) if scores.size >= n else -np.inf


def _checked(x: Any, y: Any, weights: Any, values: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Return the arguments on the host, or raise with their names."""
    x, y, weights = (as_reals(name, one) for name, one in (("x", x), ("y", y), ("weights", weights)))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in (*x.shape, *y.shape):
        raise ValueError(f"x, y: expected (s, d), (t, d), none empty, found {x.shape}, {y.shape}")
    if weights.shape != y.shape[:1] or not (np.all(weights >= 0) and 0 < np.sum(weights) < np.inf):
        raise ValueError(f"weights: expected ({len(y)},), finite and >= 0, not all 0, found {weights!r:.60}")
    if values is not None:
        values = as_reals("values", values)
        if values.ndim != 2 or len(values) != len(y):
            raise ValueError(f"values: expected ({len(y)}, e), found {values.shape}")
    check_finite(x=x, y=y, **({} if values is None else {"values": values}))
    return x, y, weights / np.sum(weights), values
