"""What an attention costs in multiply-adds: one rule for every method.

A product, a sum, or a product with a sum counts one, and so does exp, cos, sin or one value of a kernel. Counted is what
one head takes, both its sides, divided by its queries, with all that can be made only once this head is there: fits, shifts,
changes of basis, what is made of landmarks, rows that certify. Left out on all sides: what is drawn or chosen before, the e
quotients of a row, comparisons, and log scales of features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from schoenbat_theory.features.maclaurin_maps import PAIRS
from schoenbat_theory.features.recenter import SHARES, sample_sizes

__all__ = [
    "RULE", "Sizes", "balancing", "budget", "counts", "exact", "features", "first_order", "fit", "mean", "monomial", "nystrom",
    "nystromformer", "of_draw", "recentring", "root", "shifts", "tilt", "weighted_mean",
]  # fmt: skip

RULE = (
    "multiply-adds of one head divided by its queries: a product, a sum or a product with a sum counts one, and so do "
    "exp, cos, sin and one value of a kernel; counted are features of queries and of keys, both sums over them, and all that "
    "is made for this very head: fits, shifts and changes of basis, roots and inverses of matrices of landmarks, rows that "
    "certify; what is drawn or chosen before a head is there is not, nor are the e quotients of a row, comparisons, and log "
    "scales of features"
)
# Of a c x c matrix, c^3 of these; Golub & Van Loan (2013), from memory: 9 c^3 and 21 c^3 operations.
EIGH, SVD = 4.5, 10.5


class Sizes(NamedTuple):
    """Queries, keys, their width, and that of a value."""

    n: int
    m: int
    d: int
    e: int


def exact(m: int, d: int, e: int) -> float:
    """Return what one query of exact attention costs: m inner products, kernel values, and rows of values with a one.

    >>> exact(512, 32, 32)
    33792
    """
    return m * (d + 1 + e + 1)


def features(sizes: Sizes, of_a_row: float, width: float, *, divided: bool = True) -> float:
    """Return what one query of attention through features costs: the map on both sides, and both sums, ``width`` wide.

    >>> features(Sizes(512, 512, 32, 32), 0, 256)  # the sums alone
    16896.0
    """
    n, m, _, e = sizes
    return (n + m) * (of_a_row + width * (e + divided)) / n


def budget(sizes: Sizes, n_features: int) -> float:
    """Return what one query of attention through ``n_features`` random features of degree 1 costs, a product of d numbers each."""
    return features(sizes, n_features * sizes.d, n_features)


def of_draw(sizes: Sizes, phi: Any, width: float) -> float | None:
    """Return what one query of attention through a draw costs, ``None`` where it does not say; clipping takes 3 d a query."""
    of_a_row = getattr(phi, "multiply_adds", None)
    clipped = 3.0 * sizes.d if hasattr(phi, "queries") else 0.0
    return None if of_a_row is None else features(sizes, of_a_row, width) + clipped


def nystromformer(sizes: Sizes, c: int, steps: int) -> float:
    """Return what one query costs with ``c`` means of tokens: three softmax attentions, and four products a step."""
    n, m, d, e = sizes
    softmaxes = exact(m, d, e) * c + exact(c, d, c) * c + exact(c, d, e) * n
    return ((n + m) * d + softmaxes + 4 * steps * c**3 + c * c * e) / n


def nystrom(sizes: Sizes, c: int, steps: int | None) -> float:
    """Return what one query of Nyström attention costs with ``c`` landmarks; ``steps`` of Schulz, ``None``: by eigenvalues."""
    n, m, d, e = sizes
    inverse, factors = (EIGH * c**3, 2) if steps is None else (4 * steps * c**3, 1)  # a pseudo-inverse is held as two
    return ((n + m) * c * (d + 1 + e) + c * c * (d + 1 + factors * e) + inverse) / n


def root(sizes: Sizes, c: int) -> float:
    """Return what one query costs of the root of the kernel matrix of ``c`` landmarks: the matrix, eigenvalues, a product."""
    return (c * c * (sizes.d + 1) + (EIGH + 1) * c**3) / sizes.n


def mean(sizes: Sizes) -> float:
    """Return what one query costs of the mean of the values: one sum over them for all queries."""
    return sizes.m * sizes.e / sizes.n


def weighted_mean(sizes: Sizes) -> float:
    """Return what one query costs of the attention of the mean query: that mean, and one row of exact attention."""
    n, m, d, e = sizes
    return (n * d + exact(m, d, e)) / n


def tilt(sizes: Sizes) -> float:
    """Return what one query costs of the fit of a tilt: squared norms and means of all tokens."""
    return (sizes.n + sizes.m) * 2 * sizes.d / sizes.n


def counts(sizes: Sizes, degrees: int) -> float:
    """Return what one query costs of counts of features, chosen on `PAIRS` pairs among ``degrees`` degrees.

    A pair takes an inner product, two norms and a sum of products of squares, and about eight more for every degree.
    """
    return PAIRS * (6 * sizes.d + 8 * degrees) / sizes.n


def shifts(sizes: Sizes) -> float:
    """Return what one query costs of the shifts of `recenter`: passes over tokens, and its shares on a sample.

    For a pair of the sample an inner product and an exact weight, then six for each of the shares.
    """
    n, m, d, _ = sizes
    pairs = math.prod(sample_sizes(n, m, d))
    return (n * d + m * (2 * d + 2) + pairs * (d + 2 + 6 * len(SHARES))) / n


def balancing(sizes: Sizes) -> float:
    """Return what one query costs of the basis of `balance`: second moments, two eigenvalue problems, an SVD, both products."""
    n, m, d, _ = sizes
    return ((n + m) * 2 * d * d + m * d + (2 * EIGH + SVD + 4) * d**3) / n


def recentring(sizes: Sizes) -> float:
    """Return what one query of `recenter` costs: shifts, which are taken off both sides, and the basis."""
    return shifts(sizes) + (sizes.n + sizes.m) * sizes.d / sizes.n + balancing(sizes)


def first_order(sizes: Sizes) -> float:
    """Return what one query of `first_order_attention` costs: shifts, one weighted covariance, and its product."""
    n, m, d, e = sizes
    return shifts(sizes) + (m * e * (d + 4) + n * e * (d + 1)) / n


def monomial(sizes: Sizes, sample: int) -> float:
    """Return what one query costs of one monomial among those that `choose_monomials` takes on a sample, and of its use.

    Once taken it proposes d more: for each a product and a square with a sum over ``sample`` queries, and as many keys.
    """
    return 4 * sample * sizes.d / sizes.n + features(sizes, 1, 1)


def fit(law: Any, sizes: Sizes) -> float:
    """Return what one query costs of the fit of a law: as the law says, nothing where it says nothing."""
    return float(getattr(law, "fit_multiply_adds", 0.0)) / sizes.n
