"""The scenes by name: systems of the literature, what goes beyond the paper, and the speed of what is here beside others."""

from schoenbat_theory.benchmark.beyond import LOCAL, PRE_SCALED
from schoenbat_theory.benchmark.scenes.attention import ATTENTION, CAUSAL
from schoenbat_theory.benchmark.scenes.decoding import DECODING
from schoenbat_theory.benchmark.scenes.literature import LANDMARKS, LITERATURE
from schoenbat_theory.benchmark.scenes.long import LONG
from schoenbat_theory.benchmark.scenes.maps import MAPS

__all__ = ["LANDMARKS", "SCENES"]

SCENES = {scene.name: scene for scene in (*LITERATURE, *PRE_SCALED, *LOCAL, ATTENTION, CAUSAL, LONG, MAPS, DECODING)}
