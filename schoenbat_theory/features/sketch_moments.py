r"""Families of weights for sketches of <x, y>^p, and the exact covariance of two estimates.

Every estimate is a mean over R rows (for TensorSketch over D frequencies) of a product of p independent levels, and
the moment of a level depends only on how two rows stand to each other. Hence, for all families,

    Cov = sum_kinds (share of the ordered pairs of rows of this kind) (M_kind^p - (<q, k> <q, l>)^p)

with M_kind = E z z' of one level, z = <w, q> conj <w, k> at one row, z' = <w', q> conj <w', l> at the other. With
A = |q|^2 <k, l>, u = <q, k> <q, l>, s = sum_i q_i^2 k_i l_i, and e = 1 for signs, 0 for Gaussian weights:

    a row and itself    real weights: T = A + 2u - 2es;    complex: C = E z conj(z') = A + u - es, P = E z z' = 2u - es
    two rows            independent: u;    of the Hadamard families: u - (M - u) / (N - 1), M the moment of one row
    two frequencies     equal: 2u - s;    opposite: A + u - s;    both at once: T;    else u

The real part of a complex estimate has the mean of the covariances made of C and of P.

Hadamard: the N = d' ceil(R / d') stacked rows of a level have sum_i z_i = N <q, k> whatever the signs, as the
transform is orthogonal, and R of them are drawn without replacement; so two different ones have the moment
(N^2 u - N M) / (N (N - 1)). TensorSketch: of D^2 ordered pairs of frequencies, g are equal and opposite at once, g = 1
for odd D and 2 for even D; D - g are equal only, and D - g opposite only.

Source: the moments of a row and the Hadamard families with k = l are Table 1 of Wacker, Ohana & Filippone (2023). The
covariances, and TensorSketch beyond p = 1, are not in the sources seen. All are enumerated in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from schoenbat_theory.arrays import Array, to_host

__all__ = ["WEIGHTS", "Weights", "get_weights", "next_power_of_two"]


@dataclass(frozen=True)
class Weights:
    """A family of weights.

    ``name``       what it is called
    ``complex``    features are real and imaginary parts of complex ones, and R = D / 2; else R = D
    ``gaussian``   normal weights, not signs
    ``structure``  how the rows of a sketch depend on each other

    >>> WEIGHTS["gaussian"].moments(1.0, 0.25, 0.1), WEIGHTS["complex-gaussian"].moments(1.0, 0.25, 0.1)
    ((1.5,), (1.25, 0.5))
    """

    name: str
    complex: bool = False
    gaussian: bool = False
    structure: Literal["independent", "hadamard", "tensorsketch"] = "independent"

    @property
    def structured(self) -> bool:
        """Whether the rows of a sketch share a transform: they are not independent then."""
        return self.structure != "independent"

    def rows(self, n_features: int) -> int:
        """Return R, the number of rows behind ``n_features`` features; ``ValueError`` for half a complex row."""
        if self.complex and n_features % 2:
            raise ValueError(f"n_features: expected an even number for {self.name} weights, found {n_features}")
        return n_features // 2 if self.complex else n_features

    def moments(self, a: Array, u: Array, s: Array) -> tuple[Array, ...]:
        """Return the moments of one level of one row, (T,) or (C, P), for A, u, s (...) of the module's formulas."""
        same = 0 if self.gaussian else s
        if self.complex:
            return a + u - same, 2 * u - same
        return (a + 2 * u - 2 * same,)

    def covariance(self, degree: int, n_features: int, dim: int, a: Array, u: Array, s: Array) -> np.ndarray:
        """Return the covariance of the estimates of <q, k>^p and <q, l>^p by one map, the variance for k = l.

        ``degree`` p >= 0, ``n_features`` D, ``dim`` d; ``a``, ``u``, ``s`` (...) are A, u, s of the module's formulas.
        Returns (...) on the host in float64; ``inf`` where a power is beyond it. Not in the source for k != l.

        >>> t = np.array(0.5)  # x = y = (0.5, 0.5): A = u = 1/4, s = 1/8
        >>> WEIGHTS["rademacher"].covariance(1, 4, 2, t**2, t**2, t**2 / 2)
        array(0.0625)
        """
        return np.asarray(np.mean(self.parts(degree, n_features, dim, a, u, s), axis=0))

    def parts(self, degree: int, n_features: int, dim: int, a: Array, u: Array, s: Array) -> tuple[np.ndarray, ...]:
        """Return the covariances that `covariance` is the mean of, one for each of `moments`; complex: (C's, P's)."""
        a, u, s = (to_host(one).astype(np.float64) for one in (a, u, s))
        with np.errstate(all="ignore"):  # inf is an answer
            kinds = [self._kinds(moment, n_features, dim, a, u, s) for moment in self.moments(a, u, s)]
            found = [np.asarray(sum(share * (m**degree - u**degree) for share, m in pairs)) for pairs in kinds]
        return tuple(np.where(np.isfinite(one), one, np.inf) for one in found)

    def _kinds(
        self, moment: Array, n_features: int, dim: int, a: Array, u: Array, s: Array
    ) -> list[tuple[float, Array]]:
        """Return the kinds of pairs of rows whose moment is not u: their share of all pairs, and their moment."""
        rows = self.rows(n_features)
        if self.structure == "tensorsketch":
            both = 2 - rows % 2
            one = (rows - both) / rows**2
            return [(both / rows**2, moment), (one, 2 * u - s), (one, a + u - s)]
        if self.structure == "independent" or rows == 1:
            return [(1 / rows, moment)]
        size = next_power_of_two(dim)
        stacked = size * -(-rows // size)
        return [(1 / rows, moment), (1 - 1 / rows, u - (moment - u) / (stacked - 1))]


WEIGHTS: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights("rademacher"),
        Weights("gaussian", gaussian=True),
        Weights("complex-rademacher", complex=True),
        Weights("complex-gaussian", complex=True, gaussian=True),
        Weights("srht", structure="hadamard"),
        Weights("complex-srht", complex=True, structure="hadamard"),
        Weights("tensorsketch", structure="tensorsketch"),
    )
}


def get_weights(name: str | Weights) -> Weights:
    """Return the family of that name, the family itself, or raise ``ValueError`` that lists them.

    >>> get_weights("srht").structured
    True
    """
    if isinstance(name, Weights):
        return name
    if not isinstance(name, str) or name not in WEIGHTS:
        raise ValueError(f"weights: expected one of {', '.join(WEIGHTS)}, found {name!r:.60}")
    return WEIGHTS[name]


def next_power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n`` >= 1.

    >>> next_power_of_two(1), next_power_of_two(5), next_power_of_two(8)
    (1, 8, 8)
    """
    return 1 << (n - 1).bit_length()
