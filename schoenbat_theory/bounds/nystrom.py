r"""How many landmarks Skyformer's theorem asks for: ridge leverage scores of a positive semidefinite matrix.

The scores l_i are the diagonal of G (G + ridge I)^-1, each in [0, 1); their sum is the statistical dimension of G,
which N max_i l_i is never below.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, check_finite, eps, require_real, to_host

__all__ = ["landmarks_required", "leverage_scores", "statistical_dimension"]


def leverage_scores(gram: Any, ridge: float) -> np.ndarray:
    r"""Return the ridge leverage scores diag(G (G + ridge I)^-1), (N,) on the host.

    ``gram``   G, (N, N), symmetric positive semidefinite but for half of the digits of its dtype
    ``ridge``  a positive number, in units of G

    Raises ``TypeError`` or ``ValueError`` for wrong input.
    Source: arXiv:2111.00035, theorem 2, with ridge = epsilon times the spectral norm of C.

    >>> leverage_scores(np.eye(2), 1.0)
    array([0.5, 0.5])
    """
    ridge = require_real("ridge", ridge, "a positive finite number", lambda r: 0 < r < math.inf)
    values, vectors = _spectrum(gram)
    return np.asarray(np.square(vectors) @ (values / (values + ridge)))


def statistical_dimension(gram: Any, ridge: float) -> float:
    r"""Return the trace of G (G + ridge I)^-1, the sum of the `leverage_scores`; arguments and errors as there.

    Source: d_stat of arXiv:2111.00035, theorem 2.

    >>> statistical_dimension(np.diag([1.0, 0.0]), 1.0)
    0.5
    """
    return float(np.sum(leverage_scores(gram, ridge)))


def landmarks_required(gram: Any, ridge: float, delta: float) -> int:
    r"""Return how many landmarks the theorem asks for, so that the Nyström error exceeds ``ridge`` rarely.

        c = ceil((56 / 3) N max_i l_i log(2 N / delta))

    ``gram, ridge``  as in `leverage_scores`; of Skyformer N = 2 n, the queries and keys together
    ``delta``        in (0, 1/2)

    returns          c, an int

    For c landmarks drawn uniformly **with replacement**, ||G - G S (S^T G S)^+ S^T G|| <= ridge with probability at
    least 1 - delta. A number above N says nothing: with all N points there is no error. Raises as `leverage_scores`.

    Proof, as in the paper. Let G = B B^T, Psi = B (B^T B + ridge I)^(-1/2) with rows psi_i, so that |psi_i|^2 = l_i,
    and M = Psi^T Psi, the mean of N psi_i psi_i^T over uniform i. By matrix Bernstein the mean of c such terms is
    farther than ||M|| / 2 from M with probability at most 2 N exp(-3 c ||M|| / (28 N max_i l_i)), and ||M|| >= 1/2
    where ridge <= ||G||; a larger ridge is never exceeded. If it is not farther, as ||M|| <= 1,
    B^T B <= 2 (N / c) B^T S S^T B + ridge I. The projector Pi onto the range of B^T S turns this into
    (I - Pi) B^T B (I - Pi) <= ridge I, and G minus its approximation is B (I - Pi) B^T, of the same norm.

    Used is one side only, that M is at most I / 2 above the mean: for that (28 / 3) N max_i l_i log(N / delta)
    landmarks are enough, whatever the ridge, by Bernstein's inequality for the largest eigenvalue. Not in the source.

    Source: arXiv:2111.00035, theorem 2: c >= C (d_stat / beta) log(n / delta), the constant C not printed, for every
    beta in (0, 1] with beta <= d_stat / (N l_i) for all i. The best beta makes the quotient N max_i l_i; 56/3 and 2 N
    are what the proof in its appendix (seen) gives with Bernstein's constants kept.

    >>> landmarks_required(np.eye(2), 1.0, 0.1)  # (56 / 3) log 40 = 68.9
    69
    """
    delta = require_real("delta", delta, "a number in (0, 1/2)", lambda p: 0 < p < 0.5)
    scores = leverage_scores(gram, ridge)
    size = len(scores)
    return math.ceil(56 / 3 * size * float(np.max(scores)) * (math.log(2 * size) - math.log(delta)))


def _spectrum(gram: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues (N,), those that rounding made negative set to zero, and eigenvectors (N, N)."""
    found = as_reals("gram", gram)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        raise ValueError(f"gram: expected shape (N, N), N >= 1, found {found.shape}")
    check_finite(gram=found)
    given = to_host(gram)
    # Entries may err by half of their digits, the matrix by N times that in spectral norm: enough to tell a mistake.
    slack = math.sqrt(eps(given if given.dtype == np.float32 else found)) * float(np.max(np.abs(found)))
    if np.any(np.abs(found - found.T) > slack):
        difference = float(np.max(np.abs(found - found.T)))
        raise ValueError(f"gram: expected a symmetric matrix, found |G - G^T| up to {difference:.3g}")
    values, vectors = np.linalg.eigh(found / 2 + found.T / 2)
    if values[0] < -len(found) * slack:
        raise ValueError(f"gram: expected a positive semidefinite matrix, found the eigenvalue {values[0]:.3g}")
    return np.maximum(values, 0.0), vectors
