"""The ablation of scaling: what pre-scaling does to attention and its approximation, and what post-scaling restores.

`first_order` has the closed forms, `post` the fits and their lower bound, `ablation` the measurement, `words` what it says.
"""

from schoenbat_theory.compare.scaling.ablation import Ablation, AblationRow, ablate_scaling

__all__ = ["Ablation", "AblationRow", "ablate_scaling"]
