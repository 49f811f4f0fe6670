r"""What post-scaling can restore: the best gamma and beta for a given target, and what no gamma and beta can reach.

    s(a) = gamma_c sign(a) |a|^beta_c,   a an entry of channel c of an attention output A (n, e), the target Y (n, e)

The fits see the target itself (an oracle, in sample), so that training on this input cannot leave less.

**Theorem.** Let ||.|| be Frobenius norms, and e_c ||Y|| the distance of Y to the nearest matrix of equal rows.

1. If S is within delta ||Y|| of a matrix of equal rows, then ||Y - S|| >= (e_c - delta) ||Y||.
2. If each channel of S is a monotone function of that channel of A, then ||Y - S||^2 >= sum_c min(up_c, down_c), up_c and
   down_c the squared distances of channel c of Y to the sequences that do not fall, or do not rise, in the order of A.

Proof. 1: with U the matrix of equal rows near S, e_c ||Y|| <= ||Y - U|| <= ||Y - S|| + ||S - U||. 2: channel c of S is one
of these sequences. For beta >= 0, s is monotone whatever gamma: |a|^beta grows with |a|, and its sign is that of a. Queries
whose outputs agree keep agreeing: post-scaling acts on each entry alone.   Not in the sources seen.

A negative beta has a pole at a = 0; on channels of one sign it is monotone too, and 2 holds for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["BETAS", "PostScaling", "post_scaling"]

BETAS = np.concatenate([[0.0], 2.0 ** (np.arange(-32, 65) / 8)])  # 0, and from 1/16 to 256 in steps of 9 %; 1 is one


@dataclass(frozen=True)
class PostScaling:
    """Relative Frobenius errors that are left after post-scaling, with the best parameters of every channel.

    ``gamma``     best gamma, beta = 1
    ``power``     best gamma and best beta of `BETAS`
    ``monotone``  theorem 2: no gamma and no beta >= 0 leave less, nor does any monotone function per channel
    ``constant``  e_c: the best constant row
    ``spread``    delta of theorem 1 for the best gamma: distance of its result from its own mean row, over ||Y||
    """

    gamma: float
    power: float
    monotone: float
    constant: float
    spread: float

    @property
    def bound(self) -> float:
        """Theorem 1 for the best gamma: max(0, e_c - delta), at most ``gamma``."""
        return max(0.0, self.constant - self.spread)


def post_scaling(a: np.ndarray, target: np.ndarray) -> PostScaling:
    """Fit gamma and beta, channel by channel, so that the post-scaled ``a`` (n, e) is next to ``target`` (n, e).

    Host arrays in float64. Raises ``ValueError`` where the shapes differ or the target is zero everywhere.

    >>> a = np.array([[1.0], [2.0], [-3.0]])
    >>> found = post_scaling(a, 5 * a)
    >>> round(found.gamma, 12), round(found.monotone, 12), round(found.constant, 12)
    (0.0, 0.0, 1.0)
    """
    if a.ndim != 2 or a.shape != target.shape:
        raise ValueError(f"a, target: expected one shape (n, e), found {a.shape}, {target.shape}")
    size = float(np.linalg.norm(target))
    if size == 0:
        raise ValueError("target: expected a number other than 0 in it")
    left = np.stack([_left(a, target, beta) for beta in BETAS])  # (betas, e)
    fitted = _fitted(a, target, 1.0)
    return PostScaling(
        gamma=float(np.sqrt(left[BETAS == 1.0].sum())) / size,
        power=float(np.sqrt(left.min(axis=0).sum())) / size,
        monotone=float(np.sqrt(sum(map(_monotone, a.T, target.T)))) / size,
        constant=float(np.linalg.norm(target - target.mean(axis=0))) / size,
        spread=float(np.linalg.norm(fitted - fitted.mean(axis=0))) / size,
    )


def _fitted(a: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """Return gamma sign(a) |a|^beta with the gamma of least squares in every channel, <s, y> / <s, s>."""
    largest = np.abs(a).max(axis=0)
    power = np.sign(a) * (np.abs(a) / np.where(largest > 0, largest, 1.0)) ** beta  # gamma takes the scale: no overflow
    square = np.sum(power * power, axis=0)
    return power * (np.sum(power * target, axis=0) / np.where(square > 0, square, 1.0))


def _left(a: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """Return the squared error that is left in every channel, (e,)."""
    return np.sum((target - _fitted(a, target, beta)) ** 2, axis=0)


def _monotone(a: np.ndarray, target: np.ndarray) -> float:
    """Return the squared distance of ``target`` (n,) to the monotone functions of ``a`` (n,).

    Entries of ``a`` that are equal stand against the order of the sequence, which pools them: a function gives them one value.
    """
    from scipy.optimize import isotonic_regression  # 0.1 s, and `schoenbat_theory` imports this file

    up, down = (target[np.lexsort((sign * target, a))] for sign in (-1, 1))
    return min(
        float(np.sum((y - isotonic_regression(y, increasing=rises).x) ** 2)) for y, rises in ((up, True), (down, False))
    )
