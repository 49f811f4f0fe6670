"""Every feature map and every attention beside it on real heads: error, skill, cost, time and memory."""

from schoenbat_theory.compare.ablation import Ablation, ablate_scaling
from schoenbat_theory.compare.results import Comparison, Result, Target
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.compare.run import compare

__all__ = ["Ablation", "Comparison", "Result", "Row", "Target", "ablate_scaling", "compare"]
