"""Feature maps: a law, a draw, an application; closed forms beside each."""

from schoenbat_theory.features.exponential import PositiveFeatures
from schoenbat_theory.features.exponential_draw import PositiveDraw
from schoenbat_theory.features.exponential_moments import optimal_tilt, orthogonal_gap
from schoenbat_theory.features.maclaurin import MaclaurinDraw, RandomMaclaurin, load_draw

__all__ = [
    "MaclaurinDraw",
    "PositiveDraw",
    "PositiveFeatures",
    "RandomMaclaurin",
    "load_draw",
    "optimal_tilt",
    "orthogonal_gap",
]
