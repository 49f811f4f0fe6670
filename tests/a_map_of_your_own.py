r"""A feature map of your own in one file: random Maclaurin features whose weights are mostly zero.

    phi_j(x) = sqrt(a_N 2^(N+1) / D) prod_{l=1}^N <w_l, x>,    P(N = n) = 2^-(n+1),
    entries of w: sqrt(3), 0, -sqrt(3) with probabilities 1/6, 2/3, 1/6,    f(t) = sum_n a_n t^n

As E w w^T = I, a product of N inner products has the mean <x, y>^N, and the estimate is unbiased. As E w^4 = 3, which a
normal number has too, E <w, x>^2 <w, y>^2 = V = |x|^2 |y|^2 + 2 <x, y>^2, and

    Var <phi(x), phi(y)> = (1/D) [ sum_n a_n^2 2^(n+1) V^n - f(<x, y>)^2 ].

Examine it, then put it beside the others:

    st.testing.examine_map(SparseSigns("exp", 64))
    schoenbat-theory compare tests/a_map_of_your_own.py
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import array_api_compat
import numpy as np

import schoenbat_theory as st


@dataclass(frozen=True)
class SparseSigns:
    """The law: what is drawn, and what is known of it."""

    kernel: str
    n_features: int

    def draw(self, dim: int, rng: Any = None) -> SparseDraw:
        """Draw degrees and, for each level, weights (dim, features that reach it)."""
        rng, values = np.random.default_rng(rng), np.sqrt(3) * np.array([1, 0, 0, 0, 0, -1])
        degrees = np.sort(rng.geometric(1 / 2, self.n_features) - 1)[::-1]
        squares = st.get_kernel(self.kernel).coefficients(int(degrees[0]))[degrees] * 2.0 ** (degrees + 1)
        reach = [np.sum(degrees >= level) for level in range(1, degrees[0] + 1)]
        return SparseDraw(np.sqrt(squares / self.n_features), [rng.choice(values, (dim, count)) for count in reach])

    def target(self, x, y):
        """Return f(<x, y>)."""
        return st.get_kernel(self.kernel)(np.sum(x * y, axis=-1))

    mean = target  # the series is not cut off

    def variance(self, x, y):
        """Return the formula above; the series of squares at 2 V, times 2, is its sum."""
        moment = np.sum(x * x, axis=-1) * np.sum(y * y, axis=-1) + 2 * np.sum(x * y, axis=-1) ** 2
        series = 2 * st.get_kernel(self.kernel).squared_series(2 * moment)
        return (series - self.mean(x, y) ** 2) / self.n_features

    def second_moment(self, x, y):
        """Return variance + mean^2."""
        return self.variance(x, y) + self.mean(x, y) ** 2


@dataclass(frozen=True)
class SparseDraw:
    """The map: what was drawn, applied to rows of any array library."""

    scale: np.ndarray = field(repr=False)
    levels: list[np.ndarray] = field(repr=False)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one row: the inner products of each level and their products (zeros are not skipped)."""
        return sum(weights.size + weights.shape[1] for weights in self.levels)

    def __call__(self, x):
        """Return phi(x), (..., n, D), for x (..., n, d)."""
        xp = array_api_compat.array_namespace(x)
        scale, *levels = (xp.asarray(w, dtype=x.dtype, device=x.device) for w in (self.scale, *self.levels))
        out = scale + 0 * x[..., :1]
        for weights in levels:
            c = weights.shape[-1]
            out = xp.concat([out[..., :c] * (x @ weights), out[..., c:]], axis=-1)
        return out


@st.feature_map("sparse signs")
def make(kernel: str, dim: int, n_features: int) -> SparseSigns:
    """Return the law for a kernel, a length of vectors and a width; it serves all of them."""
    del dim
    return SparseSigns(kernel, n_features)
