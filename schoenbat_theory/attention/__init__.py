"""Attention: exact for any kernel, through features in linear time, and SchoenbAt end to end."""

from schoenbat_theory.attention.approximate import approximate_attention
from schoenbat_theory.attention.baselines import linear_attention, nystromformer_attention, softmax_attention
from schoenbat_theory.attention.biases import alibi_bias, clipped_bias, t5_bias
from schoenbat_theory.attention.certificate import Certificate, row_certificate
from schoenbat_theory.attention.certify import certify
from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.fft import toeplitz_product
from schoenbat_theory.attention.first_order import first_order_attention
from schoenbat_theory.attention.gaussian import gaussian_attention, gaussian_gram
from schoenbat_theory.attention.local import LocalBudget, local_attention
from schoenbat_theory.attention.means import mean_attention, weighted_mean_attention
from schoenbat_theory.attention.nystrom import draw_landmarks, nystrom_attention, nystrom_gram
from schoenbat_theory.attention.outcome import ApproximateAttention
from schoenbat_theory.attention.relative import relative_attention
from schoenbat_theory.attention.rfa import rfa_attention
from schoenbat_theory.attention.schoenbat import released_attention, schoenbat_attention
from schoenbat_theory.attention.schulz import SchulzInverse, schulz_inverse, schulz_step
from schoenbat_theory.attention.sharpness import Sharpness, sharpness
from schoenbat_theory.attention.state import AttentionState
from schoenbat_theory.attention.sums import AttentionSums, attention_sums
from schoenbat_theory.attention.toeplitz import ToeplitzSums, toeplitz_sums

__all__ = [
    "ApproximateAttention",
    "AttentionState",
    "AttentionSums",
    "Certificate",
    "LocalBudget",
    "SchulzInverse",
    "Sharpness",
    "ToeplitzSums",
    "alibi_bias",
    "approximate_attention",
    "attention_sums",
    "certify",
    "clipped_bias",
    "draw_landmarks",
    "feature_attention",
    "first_order_attention",
    "gaussian_attention",
    "gaussian_gram",
    "kernel_attention",
    "linear_attention",
    "local_attention",
    "mean_attention",
    "nystrom_attention",
    "nystrom_gram",
    "nystromformer_attention",
    "relative_attention",
    "released_attention",
    "rfa_attention",
    "row_certificate",
    "schoenbat_attention",
    "schulz_inverse",
    "schulz_step",
    "sharpness",
    "softmax_attention",
    "t5_bias",
    "toeplitz_product",
    "toeplitz_sums",
    "weighted_mean_attention",
]
