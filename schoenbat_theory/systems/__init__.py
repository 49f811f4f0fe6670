"""Systems of the literature and ours, in the order of the chapters of a report."""

from schoenbat_theory.systems.beyond import BEYOND
from schoenbat_theory.systems.literature import RELATIVE, SCHOENBAT, SKYFORMER
from schoenbat_theory.systems.system import Number, Picture, Sentence, System

__all__ = ["SYSTEMS", "Number", "Picture", "Sentence", "System"]

SYSTEMS = (SCHOENBAT, SKYFORMER, RELATIVE, BEYOND)
