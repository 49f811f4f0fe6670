r"""Sketches of polynomial kernels: maps into D features whose inner product estimates <x, y>^p without bias.

    estimate = (1/R) Re sum_j prod_{i <= p} <w_ij, x> conj <w_ij, y>,    E w_ij conj(w_ij)' = I

A family of weights says how the w_ij are drawn: independent signs or normal numbers, real or complex; rows of a
randomised Hadamard transform, which is fast; or those of TensorSketch, by hashing and the fast Fourier transform. The
closed forms are in `sketch_moments`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, asarray_like, require_int, to_host
from schoenbat_theory.features.inputs import check_vectors, too_large
from schoenbat_theory.features.moments import pair_terms
from schoenbat_theory.features.sketch_draw import SketchDraw, sketch
from schoenbat_theory.features.sketch_moments import Weights, get_weights
from schoenbat_theory.markup import inline_math

__all__ = ["PolynomialSketch"]


@dataclass(frozen=True)
class PolynomialSketch:
    r"""The law of a sketch of <x, y>^p of total width ``n_features``.

    ``degree``      p >= 1
    ``n_features``  total width D, even for complex weights
    ``weights``     "rademacher", "gaussian": independent signs or normal numbers
                    "complex-rademacher" (uniform on 1, -1, i, -i), "complex-gaussian": D / 2 complex features, of which
                    phi holds the real and the imaginary parts
                    "srht", "complex-srht": in each level, D (or D / 2) rows drawn without replacement from stacked
                    Hadamard transforms of independently signed copies of x, padded to a power of two
                    "tensorsketch": the circular convolution of p CountSketches with independent hashes and signs

    The estimate is <phi(x), phi(y)>. Its mean, second moment and variance are exact for all weights; ``x`` and ``y``
    are (..., d), and all work elementwise over broadcast leading axes.

    Source: real signs, Kar & Karnick (2012); complex weights and "srht", Wacker, Ohana & Filippone (2023);
    "tensorsketch", Pham & Pagh (2013), not seen.

    >>> x = np.array([0.5, 0.5])
    >>> [float(PolynomialSketch(2, 8, weights).variance(x, x)) for weights in ("gaussian", "rademacher")]
    [0.0625, 0.0234375]
    """

    degree: int
    n_features: int
    weights: str = "rademacher"

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the class is frozen; these are its normalised arguments
        set_field(self, "degree", require_int("degree", self.degree, 1))
        set_field(self, "n_features", require_int("n_features", self.n_features, 1))
        set_field(self, "weights", get_weights(self.weights).name)
        self._family.rows(self.n_features)  # odd widths of complex weights are refused

    def draw(self, dim: int, rng: Any = None, *, shape: tuple[int, ...] = ()) -> SketchDraw:
        """Draw one sketch for vectors of length ``dim``, or independent ones for leading axes ``shape``.

        ``rng`` is an int, SeedSequence or Generator. Drawn on the host, so the same seed gives the same map for every
        array library.

        >>> phi = PolynomialSketch(3, 8, "srht").draw(5, rng=0)
        >>> phi(np.ones((2, 5))).shape
        (2, 8)
        """
        return sketch(self.weights, self.degree, self.n_features, dim, rng, shape, repr(self))

    def target(self, x: Array, y: Array) -> Array:
        """Return <x, y>^p; ``inf`` beyond the dtype."""
        t, _, _ = _products(x, y)
        with np.errstate(over="ignore"):
            return asarray_like(t**self.degree, x)

    def mean(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)> = <x, y>^p, whatever the weights; ``inf`` beyond the dtype."""
        return self.target(x, y)

    def variance(self, x: Array, y: Array) -> Array:
        r"""Return the variance of <phi(x), phi(y)>, ``inf`` beyond the dtype.

        With t = <x, y>, A = |x|^2 |y|^2 and s = sum_i x_i^2 y_i^2, for real signs, and for complex ones:

            (1/D) [(A + 2t^2 - 2s)^p - t^(2p)],    (1/D) [(A + t^2 - s)^p + (2t^2 - s)^p - 2 t^(2p)]

        The other families, and the sources, are in `sketch_moments`.
        """
        t, a, s = _products(x, y)
        found = self._family.covariance(self.degree, self.n_features, x.shape[-1], a, t * t, s)
        return asarray_like(np.maximum(found, 0.0), x)  # rounding may say less

    def second_moment(self, x: Array, y: Array) -> Array:
        """Return E<phi(x), phi(y)>^2 = variance + mean^2, ``inf`` beyond the dtype."""
        with np.errstate(over="ignore"):
            return self.variance(x, y) + self.mean(x, y) ** 2

    def complex_variance(self, x: Array, y: Array) -> Array:
        """Return E|estimate|^2 - <x, y>^(2p) of the complex estimate of D / 2 rows; ``ValueError`` for real weights.

        The estimate is sum_j phi_j(x) conj(phi_j(y)) with the complex features of `SketchDraw.complex`; `variance` is
        the mean of this and `pseudo_variance`.
        """
        return asarray_like(np.maximum(self._parts(x, y)[0], 0.0), x)  # rounding may say less

    def pseudo_variance(self, x: Array, y: Array) -> Array:
        """Return E estimate^2 - <x, y>^(2p) of the complex estimate of D / 2 rows; ``ValueError`` for real weights."""
        return asarray_like(self._parts(x, y)[1], x)

    @property
    def _family(self) -> Weights:
        return get_weights(self.weights)

    def _parts(self, x: Array, y: Array) -> tuple[np.ndarray, ...]:
        if not self._family.complex:
            raise ValueError(f"weights: expected complex ones, found {self.weights!r}")
        t, a, s = _products(x, y)
        return self._family.parts(self.degree, self.n_features, x.shape[-1], a, t * t, s)

    def _repr_html_(self) -> str:
        return inline_math(repr(self))


@np.errstate(all="ignore")  # an overflow is found in the result
def _products(x: Array, y: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return <x, y>, |x|^2 |y|^2 and sum_i x_i^2 y_i^2, on the host in float64."""
    check_vectors(x=x, y=y)
    require_int("d, the last axis of x and y", x.shape[-1], 1)
    t, norms, s = pair_terms(*(to_host(one).astype(np.float64) for one in (x, y)))
    if not np.isfinite(2 * norms).all():  # it bounds the square of the first, and the last
        raise too_large("x, y", x)
    return t, norms, s
