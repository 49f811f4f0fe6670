"""Attention: exact for any kernel, through features in linear time, and SchoenbAt end to end."""

from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.schoenbat import released_attention, schoenbat_attention
from schoenbat_theory.attention.sums import AttentionSums, attention_sums

__all__ = [
    "AttentionSums",
    "attention_sums",
    "feature_attention",
    "kernel_attention",
    "released_attention",
    "schoenbat_attention",
]
