"""A laboratory in which the theory of random-feature attention is tested.

One sentence of data flow: a kernel's coefficients -> a law, drawn -> features -> attention sums -> a
proposition -> evidence -> a table, a page, a picture.

    import schoenbat_theory as st
    st.verify("P05")                                     # decide one proposition
    law = st.RandomMaclaurin("exp", n_features=256)      # a law of feature maps, with its variance
    phi = law.draw(64, rng=0)                            # one map
    st.feature_attention(q, k, v, phi)                   # attention in linear time
"""

from schoenbat_theory import bounds, testing
from schoenbat_theory.activations import Head, load_heads, shipped_heads
from schoenbat_theory.arrays import to_host
from schoenbat_theory.attention import (
    AttentionSums,
    SchulzInverse,
    ToeplitzSums,
    alibi_bias,
    attention_sums,
    clipped_bias,
    draw_landmarks,
    feature_attention,
    gaussian_attention,
    gaussian_gram,
    kernel_attention,
    linear_attention,
    mean_attention,
    nystrom_attention,
    nystrom_gram,
    nystromformer_attention,
    relative_attention,
    released_attention,
    rfa_attention,
    schoenbat_attention,
    schulz_inverse,
    schulz_step,
    softmax_attention,
    t5_bias,
    toeplitz_product,
    toeplitz_sums,
    weighted_mean_attention,
)
from schoenbat_theory.attention.schoenbat import prepare
from schoenbat_theory.bounds import maclaurin_range
from schoenbat_theory.checks import check_mean, check_rate, check_tail
from schoenbat_theory.compare import Comparison, compare
from schoenbat_theory.compare.scaling.ablation import Ablation, ablate_scaling
from schoenbat_theory.declare import mean_is
from schoenbat_theory.degrees import FixedDegrees, GeometricDegrees, allocate
from schoenbat_theory.enumeration import central_moments, enclose_series, product_moment, sign_vectors
from schoenbat_theory.environment import version as _version
from schoenbat_theory.features import (
    FourierDraw,
    FourierFeatures,
    JoinedDraw,
    LandmarkDraw,
    LandmarkFeatures,
    MaclaurinDraw,
    PolynomialSketch,
    PositiveDraw,
    PositiveFeatures,
    RandomMaclaurin,
    SketchDraw,
    TaylorDraw,
    TaylorFeatures,
    feature_map,
    feature_maps,
    hadamard,
    load_draw,
    optimal_tilt,
    orthogonal_gap,
)
from schoenbat_theory.features.moments import rademacher_moment
from schoenbat_theory.kernels import KERNELS, DotProductKernel, get_kernel, polynomial
from schoenbat_theory.propositions import Cell, Evidence, Proposition, decide, observe
from schoenbat_theory.ratio import RatioLaw, ratio_law
from schoenbat_theory.results import Report
from schoenbat_theory.scaling import post_scale, pre_scale, unit_norm
from schoenbat_theory.verify import verify

__version__ = _version()

__all__ = [
    "KERNELS",
    "Ablation",
    "AttentionSums",
    "Cell",
    "Comparison",
    "DotProductKernel",
    "Evidence",
    "FixedDegrees",
    "FourierDraw",
    "FourierFeatures",
    "GeometricDegrees",
    "Head",
    "JoinedDraw",
    "LandmarkDraw",
    "LandmarkFeatures",
    "MaclaurinDraw",
    "PolynomialSketch",
    "PositiveDraw",
    "PositiveFeatures",
    "Proposition",
    "RandomMaclaurin",
    "RatioLaw",
    "Report",
    "SchulzInverse",
    "SketchDraw",
    "TaylorDraw",
    "TaylorFeatures",
    "ToeplitzSums",
    "ablate_scaling",
    "alibi_bias",
    "allocate",
    "attention_sums",
    "bounds",
    "central_moments",
    "check_mean",
    "check_rate",
    "check_tail",
    "clipped_bias",
    "compare",
    "decide",
    "draw_landmarks",
    "enclose_series",
    "feature_attention",
    "feature_map",
    "feature_maps",
    "gaussian_attention",
    "gaussian_gram",
    "get_kernel",
    "hadamard",
    "kernel_attention",
    "linear_attention",
    "load_draw",
    "load_heads",
    "maclaurin_range",
    "mean_attention",
    "mean_is",
    "nystrom_attention",
    "nystrom_gram",
    "nystromformer_attention",
    "observe",
    "optimal_tilt",
    "orthogonal_gap",
    "polynomial",
    "post_scale",
    "pre_scale",
    "prepare",
    "product_moment",
    "rademacher_moment",
    "ratio_law",
    "relative_attention",
    "released_attention",
    "rfa_attention",
    "schoenbat_attention",
    "schulz_inverse",
    "schulz_step",
    "shipped_heads",
    "sign_vectors",
    "softmax_attention",
    "t5_bias",
    "testing",
    "to_host",
    "toeplitz_product",
    "toeplitz_sums",
    "unit_norm",
    "verify",
    "weighted_mean_attention",
]
