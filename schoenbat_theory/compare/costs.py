"""What an attention costs in multiply-adds: one rule for every method.

A product, a sum, or a product with a sum counts one, and so does exp, cos, sin or one value of a kernel. Counted is what
one head takes, both its sides, divided by its queries. Left out on all sides: what is drawn or fitted beforehand, the
e quotients of a row, and log scales of features. Landmarks are tokens, so that nothing that is made of them can be made
beforehand: the root of their kernel matrix is counted, as are the inverses of the Nyström methods.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RULE", "Sizes", "exact", "features", "nystrom", "nystromformer", "root"]

RULE = (
    "multiply-adds of one head divided by its queries: a product, a sum or a product with a sum counts one, and so do "
    "exp, cos, sin and one value of a kernel; features of queries and of keys, both sums over them, and roots and inverses "
    "of matrices of landmarks are counted, draws and fits made beforehand, the e quotients of a row and log scales of "
    "features are not"
)
EIGH = 4.5  # c^3 of these make an eigendecomposition: Golub & Van Loan (2013), 9 c^3 operations, from memory


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


def features(sizes: Sizes, of_a_row: float, width: int, *, divided: bool = True) -> float:
    """Return what one query of attention through features costs: the map on both sides, and both sums, ``width`` wide.

    >>> features(Sizes(512, 512, 32, 32), 0, 256)  # the sums alone
    16896.0
    """
    n, m, _, e = sizes
    return (n + m) * (of_a_row + width * (e + divided)) / n


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
