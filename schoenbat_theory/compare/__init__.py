"""Every feature map and every attention beside it on real heads: error, skill, cost, time and memory.

In the order of reading: `targets` (what is approximated), `approximation` (what a method is), `methods` (all of them, with
`others` and `beyond`), `budget` (what they may cost, by the rule of `attention.costs`), `measure` and `clock` (one head),
`run` (all of them); `results` (of one method on one head), `rows` (on all heads), `ratios` and `comparison` hold what was
found, `table`, `remarks`, `figures`, `sections` and `page` show it. `scaling` is the ablation of pre-scaling and
post-scaling, `stress` what happens on heads that are changed.
"""

from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.results import Result, Target
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.compare.run import compare
from schoenbat_theory.compare.scaling.ablation import Ablation, ablate_scaling

__all__ = ["Ablation", "Comparison", "Result", "Row", "Target", "ablate_scaling", "compare"]
