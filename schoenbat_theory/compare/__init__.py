"""Every feature map and every attention beside it on real heads: error, skill, cost, time and memory.

In the order of reading: `targets` (what is approximated), `approximation` (what a method is), `methods` (all of them, with
`others` and `beyond`), `costs` and `budget`, `measure` and `clock` (one head), `run` (all of them); `results`, `rows` and
`ratios` hold what was found, `table`, `remarks`, `figures`, `sections` and `page` show it. `scaling` is the ablation of
pre-scaling and post-scaling, `stress` what happens on heads that are changed.
"""

from schoenbat_theory.compare.results import Comparison, Result, Target
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.compare.run import compare
from schoenbat_theory.compare.scaling.ablation import Ablation, ablate_scaling

__all__ = ["Ablation", "Comparison", "Result", "Row", "Target", "ablate_scaling", "compare"]
