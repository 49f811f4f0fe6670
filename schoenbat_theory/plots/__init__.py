"""Pictures of evidence: one function per kind of figure data, and SVG for pages and files.

    sequence    an estimate and its confidence sequence against the number of draws
    tail        how often an event happens, and the bound on its probability
    rate        a squared error against a size, with the slope claimed
    weights     attention weights before and after, relative to uniform
    curves      several quantities against one: bounds, widths, powers
    bars        several numbers per name, as dots on one line
    contest     errors of many methods against what they spend, with their names beside them
    dots        several numbers per line, panel under panel
    ranking     methods in the order of their errors, with their numbers beside them
    race        many methods against the length of a sequence
    front       error against time, and what no method beats
    roof        multiply-adds per second under the roof of the machine

This package alone imports matplotlib. It uses `Figure` without pyplot, so there is no window and no
global state; text is set in Unicode, not in mathtext, so a reader's ``$`` is a dollar sign.
"""

from schoenbat_theory.plots.charts import plot_bars, plot_rate, plot_sequence, plot_tail, plot_weights
from schoenbat_theory.plots.contest import plot_contest
from schoenbat_theory.plots.curves import plot_curves
from schoenbat_theory.plots.dots import plot_dots
from schoenbat_theory.plots.front import plot_front
from schoenbat_theory.plots.race import plot_race
from schoenbat_theory.plots.ranking import plot_ranking
from schoenbat_theory.plots.roof import plot_roof
from schoenbat_theory.plots.vector import READING, Drawing, draw, plot, reading, svg

__all__ = [
    "READING",
    "Drawing",
    "draw",
    "plot",
    "plot_bars",
    "plot_contest",
    "plot_curves",
    "plot_dots",
    "plot_front",
    "plot_race",
    "plot_ranking",
    "plot_rate",
    "plot_roof",
    "plot_sequence",
    "plot_tail",
    "plot_weights",
    "reading",
    "svg",
]
