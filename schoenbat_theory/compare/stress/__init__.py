"""The stress test: methods on other temperatures and halves of the tokens, their certificates, and the rule of sharpness.

`inputs`, `measure` (one head) and `run` (all of them); `results` holds what was found; `table`, `figures` and `page` show it.
"""

from schoenbat_theory.compare.stress.results import Case, Point, Stress
from schoenbat_theory.compare.stress.run import stress

__all__ = ["Case", "Point", "Stress", "stress"]
