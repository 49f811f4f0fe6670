"""Many methods against the length of a sequence: time with fitted powers, speed-up with the lengths where it begins."""

from __future__ import annotations

from matplotlib.axes import Axes

from schoenbat_theory.plots.methods import LEVEL, canvas_of, finish, key_of, styles_of
from schoenbat_theory.plots.style import decades, figure_data, numbers, ticks_at, words
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_race"]


def plot_race(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw a quantity of several methods against the length, both logarithmic; what is 0 or below is left out.

    Figure data: x, series (label -> one number per x, ``None`` where there is none), x_label, y_label; "methods" (all
    labels that have a look; default: those of the series; others are dotted), "exact" (those of exact methods), "said"
    (label -> words behind it), "bands" (label -> its lower and upper limits), "fits" (label -> two lengths and two values
    of a fitted power), "level" (words and a number, a dotted line), "turns" (label -> the length where it meets the level).

    >>> data = {"x": [8, 64], "series": {"a": [1, 8]}, "x_label": "tokens n", "y_label": "seconds"}
    >>> plot_race(Evidence(None, "data", figure=data)).get_yscale()
    'log'
    """
    f = figure_data(evidence.figure, "x", "series", "x_label", "y_label")
    x, curves, styles = numbers(f["x"]), {label: numbers(y) for label, y in f["series"].items()}, styles_of(f)
    said, level = f.get("level") or ("", None)
    key = key_of(f, curves, {} if level is None else {words(said): (float(level), LEVEL)})
    with canvas_of(ax, key) as axes:
        axes.set(xscale="log", yscale="log")
        if level is not None:
            axes.axhline(level, **LEVEL)
        for label, y in curves.items():
            color = styles[label]["color"]
            if label in f.get("bands", {}):
                axes.vlines(x, *map(numbers, f["bands"][label]), color=color, lw=3, alpha=0.3)
            if label in f.get("fits", {}):
                axes.plot(*f["fits"][label], color=color, lw=5, alpha=0.16, solid_capstyle="butt", zorder=1)
            axes.plot(x[y > 0], y[y > 0], **styles[label])
            if label in f.get("turns", {}):
                axes.plot([f["turns"][label]], [level], "o", ms=9, mfc="none", mew=1.2, color=color, zorder=5)
        axes.margins(x=0.04, y=0.08)
        ticks_at(axes.xaxis, x)
        decades(axes.yaxis)
        finish(axes, f, key)
        return axes
