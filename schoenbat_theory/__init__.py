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
    attention_sums,
    feature_attention,
    kernel_attention,
    released_attention,
    schoenbat_attention,
)
from schoenbat_theory.attention.schoenbat import prepare
from schoenbat_theory.bounds import maclaurin_range
from schoenbat_theory.checks import check_mean, check_rate, check_tail
from schoenbat_theory.declare import mean_is
from schoenbat_theory.degrees import FixedDegrees, GeometricDegrees
from schoenbat_theory.enumeration import central_moments, product_moment, sign_vectors
from schoenbat_theory.environment import version as _version
from schoenbat_theory.features import MaclaurinDraw, RandomMaclaurin, load_draw
from schoenbat_theory.features.maclaurin import rademacher_moment
from schoenbat_theory.kernels import KERNELS, DotProductKernel, get_kernel, polynomial
from schoenbat_theory.propositions import Cell, Evidence, Proposition, decide, observe
from schoenbat_theory.ratio import RatioLaw, ratio_law
from schoenbat_theory.results import Report
from schoenbat_theory.scaling import post_scale, pre_scale
from schoenbat_theory.verify import verify

__version__ = _version()

__all__ = [
    "KERNELS",
    "AttentionSums",
    "Cell",
    "DotProductKernel",
    "Evidence",
    "FixedDegrees",
    "GeometricDegrees",
    "Head",
    "MaclaurinDraw",
    "Proposition",
    "RandomMaclaurin",
    "RatioLaw",
    "Report",
    "attention_sums",
    "bounds",
    "central_moments",
    "check_mean",
    "check_rate",
    "check_tail",
    "decide",
    "feature_attention",
    "get_kernel",
    "kernel_attention",
    "load_draw",
    "load_heads",
    "maclaurin_range",
    "mean_is",
    "observe",
    "polynomial",
    "post_scale",
    "pre_scale",
    "prepare",
    "product_moment",
    "rademacher_moment",
    "ratio_law",
    "released_attention",
    "schoenbat_attention",
    "shipped_heads",
    "sign_vectors",
    "testing",
    "to_host",
    "verify",
]
