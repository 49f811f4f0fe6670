r"""The random part of an optimized map: products of signs for what its monomials leave out, in part and shrunk.

    n >= 3:  z(x) = prod_{i <= n} <w_i, x>,                E z(x) z(y) = t^n,           t = <x, y>
    n  = 2:  z(x) = <w_1, x> <w_2, x> - <w_1, x_r> <w_2, x_r>,    E z(x) z(y) = t^2 - t_r^2,   t_r = <x_r, y_r>

x_r has the first r coordinates of x, whose products are features of their own, and zeros beyond. With D_n features of
degree n and a factor lambda_n the estimate of a_n t^n (of a_2 (t^2 - t_r^2)) has

    mean  a_n lambda_n E z(x) z(y),    variance  (a_n lambda_n)^2 (E z(x)^2 z(y)^2 - (E z(x) z(y))^2) / D_n

Over pairs, with M_n the mean square of what is estimated and V_n that of z(x) z(y), the error of one degree is least at

    lambda_n = M_n / (M_n + (V_n - M_n) / D_n),    where it is  a_n^2 M_n (1 - lambda_n)

Shrunk like this a feature never adds error, and the first features of a degree gain most, so that the best counts are
those of the largest gains. Derived here; P41 enumerates it. Not in the sources seen.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from schoenbat_theory.arrays import as_generator
from schoenbat_theory.features.draw import MaclaurinDraw
from schoenbat_theory.kernels import DotProductKernel

__all__ = ["Remainder", "leading", "plan_remainder"]

LAST = 8  # the largest degree with random features: in the ball of radius 1 the terms of exp beyond it are below 3e-6


@dataclass(frozen=True, eq=False)
class Remainder:
    """Random features beside exact ones: how many of each degree, and how far they are shrunk, in every head.

        mean of the estimate  sum_n a_n lambda_n (t^n - [n = 2] t_r^2),    t = <x, y>, t_r = <x_r, y_r>

    ``kernel``     the kernel, with coefficients a_n
    ``cuts``       (*lead) int64, r: products of the first r coordinates, x_r, have degree 2 without them
    ``counts``     (*lead, N + 1) int64, D_n, none below degree 2;  ``shrinkage``  (*lead, N + 1) float64, lambda_n

    Arguments of the moments are float64 on the host. Their leading axes are (..., *lead, n): one head, n rows.
    `OptimizedMaclaurin` makes them with `plan_remainder`. Derived here; P41.

    >>> from schoenbat_theory import get_kernel
    >>> beside = Remainder(get_kernel("exp"), np.array(0), np.array([0, 0, 5]), np.array([0.0, 0.0, 0.8]))
    >>> beside.n_features, float(beside.mean(np.array([2.0, 0.0]), np.array([1.0, 1.0])))  # 0.8 (2^2 / 2)
    (5, 1.6)
    """

    kernel: DotProductKernel
    cuts: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    shrinkage: np.ndarray = field(repr=False)

    @property
    def n_features(self) -> int:
        """The number of columns: that of the head that has most."""
        return int(self.counts.sum(axis=-1).max(initial=0))

    def mean(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the mean of the estimate, (...), for ``x``, ``y`` (..., d)."""
        t = np.sum(x * y, axis=-1)
        return sum((found for _, found in self.means(t, np.sum(x * y * self._leading(x), axis=-1))), np.zeros_like(t))

    def means(self, t: np.ndarray, inside: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each degree that has features and the mean of its estimate, for ``t`` <x, y> and ``inside`` <x_r, y_r>."""
        for n, factor, _ in self._degrees(0):
            yield n, factor * (t**n - inside**2 * (n == 2))

    def covariance(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the covariances of the estimates for one query and its keys, (..., m, m), ``q`` (..., d), ``k`` (..., m, d)."""
        masks = (np.ones(()), self._leading(q))
        turned, squares = np.swapaxes(k, -1, -2), q * q
        norms = [np.sum(squares * mask, axis=-1)[..., None, None] for mask in masks]
        inner = [(k * _rows(mask)) @ turned for mask in masks]
        s = [(k * _rows(squares * mask)) @ turned for mask in masks]
        t = [np.sum(k * _rows(q * mask), axis=-1) for mask in masks]
        left, right = [one[..., :, None] for one in t], [one[..., None, :] for one in t]
        total = np.zeros(np.broadcast_shapes(norms[0].shape, inner[0].shape))
        for n, factor, count in self._degrees(2):
            second, mean = _moments(n, norms, inner, s, left, right)
            total = total + factor**2 * (second - mean) / np.maximum(count, 1)
        return total

    def draw(self, dim: int, rng: np.random.Generator, shape: tuple[int, ...], name: str) -> MaclaurinDraw:
        """Draw the signs of the products for leading axes (*shape, *lead); what degree 2 leaves out is subtracted later."""
        lead = (*shape, *self.cuts.shape)
        n = np.arange(self.counts.shape[-1])
        degrees = np.zeros((*self.cuts.shape, self.n_features), dtype=np.int64)
        for head in np.ndindex(self.cuts.shape):
            own = np.repeat(n, self.counts[head])
            degrees[head][: own.size] = own[::-1]  # falling, as a draw keeps them; 0 pads
        roots = np.sqrt(self._factors() / np.maximum(self.counts, 1))
        degrees = np.broadcast_to(degrees, (*lead, self.n_features))
        scale = np.take_along_axis(np.broadcast_to(roots, (*lead, n.size)), degrees, axis=-1)
        drawn = MaclaurinDraw.sample(
            dim,
            degrees,
            np.zeros(n.size),
            constant=None,
            linear=None,
            radius=self.kernel.radius,
            name=name,
            rng=as_generator(rng),
        )
        return dataclasses.replace(drawn, scale=scale)

    def _factors(self) -> np.ndarray:
        """Return a_n lambda_n, (*lead, N + 1), 0 where a degree has no feature."""
        a = self.kernel.coefficients(self.counts.shape[-1] - 1)
        return np.where(self.counts > 0, a * self.shrinkage, 0.0)

    def _degrees(self, axes: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Return degree, a_n lambda_n and D_n of the degrees that have features, with ``axes`` axes behind those of rows."""
        found, factors = np.flatnonzero(self.counts.reshape(-1, self.counts.shape[-1]).any(axis=0)), self._factors()
        return [(int(n), _behind(factors[..., n], axes), _behind(self.counts[..., n], axes)) for n in found]

    def _leading(self, x: np.ndarray) -> np.ndarray:
        """Return 1 at the first r coordinates and 0 beyond, to be multiplied with rows ``x`` (..., d)."""
        kept = leading(self.cuts, x.shape[-1])
        return kept[..., None, :] if self.cuts.ndim else kept


def leading(cuts: np.ndarray, dim: int) -> np.ndarray:
    """Return 1.0 at the first ``cuts`` (*lead) of ``dim`` coordinates and 0.0 beyond, (*lead, d)."""
    return (np.arange(dim) < np.asarray(cuts)[..., None]).astype(np.float64)


def plan_remainder(
    kernel: DotProductKernel, x: np.ndarray, y: np.ndarray, weights: np.ndarray, r: int, width: int, whole: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return how many random features each degree gets, how far they are shrunk, and the relative error that they leave.

        error^2 = sum_n a_n^2 M_n (1 - lambda_n),    lambda_n = M_n / (M_n + (V_n - M_n) / D_n),    least for sum D_n <= width

    ``kernel``   with coefficients a_n
    ``x`` (s, d), ``y`` (s', d), ``weights`` (s',) of sum 1   pairs weigh w_j / s in the means M_n, V_n, of t^2n and of its features
    ``r``        leading coordinates whose products are had exactly: degree 2 is t^2 - t_r^2;  ``width``  features at most
    ``whole``    the error is relative to the root mean square of degrees 2 to N beyond so many coordinates
    returns      counts (N + 1,), shrinkage lambda (N + 1,), error; N = 8, none below degree 2

    Degrees are added up as if they did not correlate. Arguments are not checked. Derived here; P41.

    >>> from schoenbat_theory import get_kernel
    >>> x = np.array([[1.0, 2.0]])
    >>> plan_remainder(get_kernel("exp"), x, x, np.ones(1), 0, 8, 0)[0].tolist()
    [0, 0, 1, 2, 3, 2, 0, 0, 0]
    """
    signal, noise = _signal_and_noise(kernel, x, y, weights, r)
    count = np.arange(width + 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is nothing to estimate, or no noise
        share = np.nan_to_num(noise[:, None] / (noise[:, None] + count * signal[:, None]))  # 1 - lambda
    left = signal[:, None] * np.where(count == 0, 1.0, share)
    gains = left[:, :-1] - left[:, 1:]
    best = np.argsort(-gains, axis=None, kind="stable")[:width]  # each row falls: the first of a degree come first
    counts = np.bincount(best[gains.flat[best] > 0] // max(width, 1), minlength=LAST + 1)
    shrinkage = np.where(counts > 0, 1 - share[np.arange(LAST + 1), counts], 0.0)
    beyond = signal if r == whole else _signal_and_noise(kernel, x, y, weights, whole)[0]
    rest = float(np.sum(left[np.arange(LAST + 1), counts]) / (np.sum(beyond) or 1.0))
    return counts, shrinkage, float(np.sqrt(rest))


def _signal_and_noise(
    kernel: DotProductKernel, x: np.ndarray, y: np.ndarray, weights: np.ndarray, r: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a_n^2 M_n and a_n^2 (V_n - M_n), (N + 1,) each."""
    a, kept = kernel.coefficients(LAST), leading(np.array(r), x.shape[-1])
    norms = [np.sum(x * x * mask, axis=-1)[:, None] for mask in (1.0, kept)]
    inner = [np.sum(y * y * mask, axis=-1)[None, :] for mask in (1.0, kept)]
    s = [(x * x * mask) @ (y * y).T for mask in (1.0, kept)]
    t = [(x * mask) @ y.T for mask in (1.0, kept)]
    signal, noise = np.zeros(LAST + 1), np.zeros(LAST + 1)
    for n in range(2, LAST + 1):
        second, mean = _moments(n, norms, inner, s, t, t)
        signal[n], noise[n] = (np.mean(one @ weights) for one in (mean, np.maximum(second - mean, 0.0)))
    return a**2 * signal, a**2 * noise


def _moments(
    n: int,
    norms: list[np.ndarray],
    inner: list[np.ndarray],
    s: list[np.ndarray],
    left: list[np.ndarray],
    right: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return E z(x)^2 z(y) z(y') and E z(x) z(y) E z(x) z(y') of degree n; each argument is (of vectors, of x_r's).

    ``norms`` <x, x>, ``inner`` <y, y'>, ``s`` sum_i x_i^2 y_i y'_i, ``left`` <x, y>, ``right`` <x, y'>. One level:

        E <w,a> <w,b> <w,c> <w,e> = <a,b> <c,e> + <a,c> <b,e> + <a,e> <b,c> - 2 sum_i a_i b_i c_i e_i

    and of degree 2 each of the four factors z is a difference, so that there are sixteen squares of it.
    """

    def level(a: int, b: int, c: int, e: int) -> np.ndarray:
        crossed = left[a | c] * right[b | e] + right[a | e] * left[b | c]
        return norms[a | b] * inner[c | e] + crossed - 2 * s[a | b | c | e]

    if n > 2:
        return level(0, 0, 0, 0) ** n, (left[0] * right[0]) ** n
    places = itertools.product((0, 1), repeat=4)
    second = sum(((-1) ** sum(where) * level(*where) ** 2 for where in places), np.zeros(()))
    return second, (left[0] ** 2 - left[1] ** 2) * (right[0] ** 2 - right[1] ** 2)


def _rows(mask: np.ndarray) -> np.ndarray:
    """Return ``mask`` (..., d) to be multiplied with the keys (..., m, d) of each row."""
    return mask[..., None, :] if mask.ndim else mask


def _behind(value: np.ndarray, axes: int) -> np.ndarray:
    """Return ``value`` (*lead) with an axis of rows and ``axes`` more behind it; a number stays one."""
    return value.reshape(*value.shape, *[1] * (1 + axes)) if value.ndim else value
