"""Feature maps: a law, a draw, an application; closed forms beside each law.

    law = PolynomialSketch(2, 64)     what is drawn, with its mean and variance
    phi = law.draw(dim, rng=0)        one map of it, which can be saved: `load_draw`
    phi(x)                            features, (..., n, d) -> (..., n, D)

    RandomMaclaurin    MaclaurinDraw, JoinedDraw    any kernel sum_n a_n t^n, by degrees drawn or counted
    PolynomialSketch   SketchDraw                   <x, y>^p
    TaylorFeatures     TaylorDraw                   the series up to degree 2, without randomness
    OptimizedMaclaurin OptimizedDraw                any kernel, by the monomials that given queries and keys need
    PositiveFeatures   PositiveDraw                 exp(<x, y>), by positive features
    FourierFeatures    FourierDraw                  exp(<x, y>) and exp(-|x - y|^2 / 2), by cosines and sines
    LandmarkFeatures   LandmarkDraw                 any kernel, by projections on points of the data

`feature_maps()` lists what is registered by name; ``@feature_map("name")`` adds one of your own.
"""

from schoenbat_theory.features.archive import load_draw
from schoenbat_theory.features.choice import choose_monomials
from schoenbat_theory.features.draw import MaclaurinDraw
from schoenbat_theory.features.exponential import PositiveFeatures
from schoenbat_theory.features.exponential_draw import PositiveDraw
from schoenbat_theory.features.exponential_moments import optimal_tilt, orthogonal_gap
from schoenbat_theory.features.fitted import FittedMaclaurin
from schoenbat_theory.features.fourier import FourierFeatures
from schoenbat_theory.features.fourier_draw import FourierDraw
from schoenbat_theory.features.frame import Frame
from schoenbat_theory.features.hadamard import hadamard
from schoenbat_theory.features.joined import JoinedDraw
from schoenbat_theory.features.landmarks import LandmarkFeatures
from schoenbat_theory.features.landmarks_draw import LandmarkDraw
from schoenbat_theory.features.maclaurin import RandomMaclaurin
from schoenbat_theory.features.monomials import Monomials
from schoenbat_theory.features.optimized import OptimizedMaclaurin
from schoenbat_theory.features.optimized_draw import OptimizedDraw
from schoenbat_theory.features.prediction import Prediction, predict_error
from schoenbat_theory.features.recenter import Recentred, balance, recenter
from schoenbat_theory.features.registry import feature_map, feature_maps
from schoenbat_theory.features.remainder import Remainder, plan_remainder
from schoenbat_theory.features.sketch_draw import SketchDraw
from schoenbat_theory.features.sketches import PolynomialSketch
from schoenbat_theory.features.taylor import TaylorDraw, TaylorFeatures

__all__ = [
    "FittedMaclaurin",
    "FourierDraw",
    "FourierFeatures",
    "Frame",
    "JoinedDraw",
    "LandmarkDraw",
    "LandmarkFeatures",
    "MaclaurinDraw",
    "Monomials",
    "OptimizedDraw",
    "OptimizedMaclaurin",
    "PolynomialSketch",
    "PositiveDraw",
    "PositiveFeatures",
    "Prediction",
    "RandomMaclaurin",
    "Recentred",
    "Remainder",
    "SketchDraw",
    "TaylorDraw",
    "TaylorFeatures",
    "balance",
    "choose_monomials",
    "feature_map",
    "feature_maps",
    "hadamard",
    "load_draw",
    "optimal_tilt",
    "orthogonal_gap",
    "plan_remainder",
    "predict_error",
    "recenter",
]
