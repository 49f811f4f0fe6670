"""Tail inequalities, each with the norm it needs, its source, and its inverses.

    bound = st.bounds.Hoeffding(half_range=2.0)
    bound.tail(0.1, 256)              # P[|estimate - target| > 0.1] at D = 256 is at most this
    bound.deviation(256, 0.05)        # the smallest deviation that is exceeded with probability at most 5 %
    bound.features(0.1, 0.05)         # the smallest D for that

All share one life, that of `TailBound`. To add a bound, write a frozen dataclass with ``source`` and ``_tail``.
"""

from schoenbat_theory.bounds.base import TailBound
from schoenbat_theory.bounds.maclaurin import KarKarnick, KarKarnickUniform, lipschitz, maclaurin_range, sharp_range
from schoenbat_theory.bounds.mean import Cantelli, CentralLimit, Chebyshev, EmpiricalBernstein, Hoeffding
from schoenbat_theory.bounds.nystrom import landmarks_required, leverage_scores, statistical_dimension
from schoenbat_theory.bounds.ratio import RatioChebyshev, RatioHoeffding, ratio_deviation, weight_deviation

__all__ = [
    "Cantelli",
    "CentralLimit",
    "Chebyshev",
    "EmpiricalBernstein",
    "Hoeffding",
    "KarKarnick",
    "KarKarnickUniform",
    "RatioChebyshev",
    "RatioHoeffding",
    "TailBound",
    "landmarks_required",
    "leverage_scores",
    "lipschitz",
    "maclaurin_range",
    "ratio_deviation",
    "sharp_range",
    "statistical_dimension",
    "weight_deviation",
]
