"""Feature maps: a law, a draw, an application; closed forms beside each."""

from schoenbat_theory.features.maclaurin import MaclaurinDraw, RandomMaclaurin, load_draw

__all__ = ["MaclaurinDraw", "RandomMaclaurin", "load_draw"]
