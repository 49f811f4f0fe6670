r"""The candidates of a fit, what each is predicted to err on the sample, and which clipping of queries it needs.

A clipped query is r x, r = min(1, clip / size(x)), so that a monomial of degree n is r^n times what it was: from the sums
over the keys of each degree all truncations and all clippings follow at no cost. The last clipping leaves the sample as it
is: no truncation is predicted to do better without.

A denominator is trusted where it is at least half of f(min(<r x, k_w>, 0)), k_w the weighted mean of the keys: of a convex f
that is no more than half of the exact one (Jensen). All queries are looked at, with all keys.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from schoenbat_theory.features.monomials import Monomials
from schoenbat_theory.features.prediction import Sample, row_variances
from schoenbat_theory.features.remainder import Remainder, leading, plan_remainder
from schoenbat_theory.features.sample import spread_keys
from schoenbat_theory.kernels import DotProductKernel

__all__ = ["CLIPS", "Candidate", "Search"]

CLIPS = (1.0, 1.5, 2.0, 3.0, 4.0)  # and the largest size sampled, beyond which nothing is known of a polynomial
BLOCK = 1024  # of tokens whose features exist at a time: 2 MiB at width 256
TRUSTED = 0.5
PAYS = 0.9  # of the least error so far: random features that could not lower it by a tenth are not looked at
ROWS, KEYS = 16, 64  # of the sample, whose covariances are computed: the cost does not grow with the sample
DEVIATIONS = 4  # of a random denominator that may not lead below half of its mean


@dataclass(frozen=True, eq=False)
class Candidate:
    """A map that a fit may choose, with its best clipping: relative ``bias`` and ``deviation`` on the sample."""

    name: str
    monomials: Monomials = field(repr=False)
    clip: float
    bias: float
    deviation: float = 0.0
    cut: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64), repr=False)
    shrinkage: np.ndarray = field(default_factory=lambda: np.zeros(1), repr=False)

    @property
    def error(self) -> float:
        """sqrt(bias^2 + deviation^2), ``inf`` where no clipping makes its denominators trusted."""
        return float(np.hypot(self.bias, self.deviation))


class Search:
    """Predicts the candidates of one head.

    ``sample``  what the errors are measured on;  ``q`` (n, d), ``k`` (m, d), ``weights`` (m,) of sum 1  all tokens
    ``spread``  (d,) of `clip_rows`;  ``spent``  multiply-adds so far, as executed, f and a power counting as one
    """

    def __init__(
        self,
        kernel: DotProductKernel,
        sample: Sample,
        q: np.ndarray,
        k: np.ndarray,
        weights: np.ndarray,
        spread: np.ndarray,
    ) -> None:
        self.kernel, self.sample, self.q, self.k, self.weights = kernel, sample, q, k, weights
        self.values = np.concatenate([sample.values, np.ones((len(sample.y), 1))], axis=-1) * sample.weights[:, None]
        self.norm = float(np.sum(sample.output**2)) or 1.0
        sizes = [np.sqrt(x * x @ spread) for x in (sample.x, q)]
        self.clips = np.array([*CLIPS, np.max(sizes[0], where=np.isfinite(sizes[0]), initial=CLIPS[-1])])
        limits = self.clips[:, None]
        self.shrink, self.shrink_all = (limits / np.maximum(size, limits) for size in sizes)  # (clips, rows)
        lowest = np.minimum(q @ (weights @ k), 0.0) * self.shrink_all
        self.floor = TRUSTED * kernel(kernel.clip(lowest, q.shape[-1]))
        (s, d), (n, m), e = sample.x.shape, (len(q), len(k)), sample.values.shape[-1]
        self.spent = (s + n) * (2 * d + len(self.clips)) + (n + 3 * m) * d + s * len(sample.y) * (d + e + 2)

    def truncations(self, names: list[str], monomials: Monomials) -> list[Candidate]:
        """Return what ``monomials``, ordered by degree, give up to each of their degrees, named by degree."""
        degrees = monomials.degrees
        biases = self._biases(self._sums(monomials), self._denominators(monomials))
        found = []
        for n, name in enumerate(names):
            best, width = int(np.argmin(biases[:, n])), int(np.sum(degrees <= n))
            some = Monomials(monomials.dim, monomials.parents[:width], monomials.coordinates[:width])
            found.append(Candidate(name, some, float(self.clips[best]), float(biases[best, n])))
        return found

    def with_remainder(self, cut: int, width: int, largest: int, plain: Candidate, best: float) -> Candidate | None:
        """Return degree 2 in ``cut`` coordinates and random features beside it, or ``None`` if that is not predicted to pay.

        ``plain`` is degree 2 in the ``largest`` subspace, ``best`` the least error so far. Queries are planned for as they are
        clipped there; if errors of the output fall as those of the kernel do, this candidate's is that of ``plain`` times
        the root of what is left of the latter.
        """
        kernel, sample, monomials = self.kernel, self.sample, Monomials.subspace(self.q.shape[-1], cut)
        spare = width - monomials.n_features
        clipped = sample.x * self.shrink[np.flatnonzero(self.clips == plain.clip)[0], :, None]
        x, (some, weights) = clipped[:: -(-len(clipped) // KEYS)], spread_keys(sample.weights, KEYS)
        counts, shrinkage, left = plan_remainder(kernel, x, sample.y[some], weights, cut, spare, largest)
        self.spent += (1 + (cut != largest)) * len(x) * len(some) * (6 * x.shape[-1] + 80)
        if not counts.any() or not plain.error * left < PAYS * best:
            return None
        remainder = Remainder(kernel, np.array(cut), counts, shrinkage)
        exact = self._sums(monomials)
        sums = np.zeros((len(counts), *exact.shape[1:]))
        sums[: len(exact)] = exact
        t, inside = (sample.x * mask @ sample.y.T for mask in (1.0, leading(np.array(cut), x.shape[-1])))
        for n, mean in remainder.means(t, inside):
            sums[n] += mean @ self.values
            self.spent += t.size * (self.values.shape[-1] + 2)
        biases = self._biases(sums, self._denominators(monomials))[:, -1]
        clip = int(np.argmin(biases))
        if not biases[clip] < best:
            return None
        deviation = self._deviation(remainder, sums, clip)
        name = f"degree 2 in {cut} coordinates, random beyond"
        return Candidate(
            name, monomials, float(self.clips[clip]), float(biases[clip]), deviation, cut, counts, shrinkage
        )

    def _sums(self, monomials: Monomials) -> np.ndarray:
        """Return sum_j w_j <phi_n(x_i), phi_n(y_j)> (v_j, 1) of the sample for each degree n, (N + 1, s, e + 1)."""
        return self._by_degree(monomials, self.sample.x, self.sample.y, self.values)

    def _denominators(self, monomials: Monomials) -> np.ndarray:
        """Return sum_j w_j <phi_n(q_i), phi_n(k_j)> for each degree n and all queries, (N + 1, n, 1)."""
        return self._by_degree(monomials, self.q, self.k, self.weights[:, None])

    def _by_degree(self, monomials: Monomials, x: np.ndarray, y: np.ndarray, values: np.ndarray) -> np.ndarray:
        factors, degrees = monomials.factors(self.kernel), monomials.degrees  # which do not fall
        starts = np.searchsorted(degrees, range(2 + int(degrees[-1])))
        state = sum(monomials.apply(y[rows], factors).T @ values[rows] for rows in _blocks(len(y)))
        found = np.empty((len(starts) - 1, len(x), values.shape[-1]))
        for rows in _blocks(len(x)):
            phi = monomials.apply(x[rows], factors)
            for n, (start, stop) in enumerate(itertools.pairwise(starts)):
                found[n, rows] = phi[:, start:stop] @ state[start:stop]
        self.spent += (len(x) + len(y)) * monomials.n_features * (1 + values.shape[-1])
        return found

    def _biases(self, sums: np.ndarray, ones: np.ndarray) -> np.ndarray:
        """Return the relative bias (clips, N + 1) of each truncation, ``inf`` where a denominator is not trusted."""
        total = _clipped(sums, self.shrink)
        ones = np.pad(ones, ((0, len(sums) - len(ones)), (0, 0), (0, 0)))  # what is random adds nothing here
        errors = np.sum((total[..., :-1] / total[..., -1:] - self.sample.output) ** 2, axis=(-2, -1)) / self.norm
        trusted = np.all(_clipped(ones, self.shrink_all)[..., 0] >= self.floor[:, None, :], axis=-1)
        return np.where(trusted & np.isfinite(errors), np.sqrt(errors), np.inf)

    def _deviation(self, remainder: Remainder, sums: np.ndarray, clip: int) -> float:
        """Return the relative deviation of one draw, to first order, from a few rows; ``inf`` where a denominator may fail.

        Fewer keys than the sample's make it larger, if anything: what is random has to pay by a margin.
        """
        sample = self.sample
        rows = np.linspace(0, len(sample.x) - 1, min(ROWS, len(sample.x))).astype(int)
        some, weights = spread_keys(sample.weights, KEYS)
        covariance = remainder.covariance(sample.x[rows] * self.shrink[clip, rows, None], sample.y[some][None])
        self.spent += covariance.size * (4 * sample.x.shape[-1] + 60)
        total = _clipped(sums, self.shrink)[clip, -1, rows]
        noise = np.sqrt(np.maximum(np.einsum("ijl,j,l->i", covariance, weights, weights), 0.0))
        if not np.all(DEVIATIONS * noise < (1 - TRUSTED) * total[:, -1]):
            return float("inf")
        output = total[:, :-1] / total[:, -1:]
        found = row_variances(covariance, weights, sample.values[some], output, total[:, -1])
        return float(np.sqrt(np.sum(found) / (float(np.sum(sample.output[rows] ** 2)) or 1.0)))


def _blocks(length: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, length, BLOCK)]


def _clipped(sums: np.ndarray, shrink: np.ndarray) -> np.ndarray:
    """Return sum_{n <= N} r^n sums_n for each clipping and each N, (clips, N + 1, s, e), of ``sums`` (N + 1, s, e)."""
    powers = shrink[:, None, :] ** np.arange(len(sums))[:, None]
    return np.cumsum(powers[..., None] * sums, axis=1)
