"""Feature maps: a law, a draw, an application; closed forms beside each."""

from schoenbat_theory.features.exponential import PositiveFeatures
from schoenbat_theory.features.exponential_draw import PositiveDraw
from schoenbat_theory.features.exponential_moments import optimal_tilt, orthogonal_gap
from schoenbat_theory.features.fourier import FourierFeatures
from schoenbat_theory.features.fourier_draw import FourierDraw
from schoenbat_theory.features.hadamard import hadamard
from schoenbat_theory.features.joined import JoinedDraw
from schoenbat_theory.features.landmarks import LandmarkFeatures
from schoenbat_theory.features.landmarks_draw import LandmarkDraw
from schoenbat_theory.features.maclaurin import MaclaurinDraw, RandomMaclaurin, load_draw
from schoenbat_theory.features.registry import feature_map, feature_maps
from schoenbat_theory.features.sketch_draw import SketchDraw
from schoenbat_theory.features.sketches import PolynomialSketch
from schoenbat_theory.features.taylor import TaylorDraw, TaylorFeatures

__all__ = [
    "FourierDraw",
    "FourierFeatures",
    "JoinedDraw",
    "LandmarkDraw",
    "LandmarkFeatures",
    "MaclaurinDraw",
    "PolynomialSketch",
    "PositiveDraw",
    "PositiveFeatures",
    "RandomMaclaurin",
    "SketchDraw",
    "TaylorDraw",
    "TaylorFeatures",
    "feature_map",
    "feature_maps",
    "hadamard",
    "load_draw",
    "optimal_tilt",
    "orthogonal_gap",
]
