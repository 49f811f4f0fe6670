"""Several curves over one axis: bounds, widths, powers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from schoenbat_theory.plots.style import (
    BESIDE,
    GREY,
    MARKS,
    PALE,
    PlainFormatter,
    canvas,
    decades,
    figure_data,
    label_of,
    legend,
    numbers,
    ticks_at,
    words,
)
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_curves"]


def plot_curves(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw several quantities against one, e.g. the bounds of an inequality against the number of features.

    Figure data: x, series (label -> one number per x, ``None`` where there is none), x_label, y_label;
    "bands" (label of a series -> its lower and upper limits), "lines" (label -> a level), "shade" (low, high, either
    may be ``None``) with "shade_label" for a region, e.g. where a bound says nothing; "log_x", "log_y".

    >>> data = {"x": [1, 10], "series": {"Chebyshev": [2, 0.2]}, "x_label": "features D", "y_label": "bound"}
    >>> plot_curves(Evidence(None, "data", figure=data)).get_xlabel()
    'features D'
    """
    f = figure_data(evidence.figure, "x", "series", "x_label", "y_label")
    x = numbers(f["x"])
    with canvas(ax, (4.4, 2.9 + 0.12 * max(len(f["series"]) - 3, 0))) as axes:
        for i, (label, values) in enumerate(f["series"].items()):
            mark, color = MARKS[i % len(MARKS)]
            y = numbers(values)
            face = color if i % 2 == 0 else "white"
            axes.plot(x, y, f"-{mark}", color=color, mfc=face, ms=3.5, lw=1.1, label=words(label))
            if label in (f.get("bands") or {}):
                lower, upper = map(numbers, f["bands"][label])
                axes.fill_between(x, lower, upper, color=color, alpha=0.1, lw=0)
                axes.plot(x, np.stack([lower, upper], axis=1), f"-{mark}", color=color, mfc=face, ms=3.5, lw=0.8)
        axes.set(xscale="log" if f.get("log_x") else "linear", yscale="log" if f.get("log_y") else "linear")
        axes.margins(x=0.03, y=0.15 if f.get("shade") else 0.08)  # room for the name of the region
        _levels(axes, f)
        if f.get("log_x"):
            ticks_at(axes.xaxis, x)
        else:
            axes.xaxis.set_major_formatter(PlainFormatter())
        if f.get("log_y"):
            decades(axes.yaxis)
        else:
            axes.yaxis.set_major_formatter(PlainFormatter())
        axes.set(xlabel=label_of(f["x_label"]), ylabel=label_of(f["y_label"], 32))
        legend(axes)
        return axes


def _levels(axes: Axes, f: dict[str, Any]) -> None:
    """Draw the shaded region and the level lines, with their names beside them."""
    bottom, top = axes.get_ylim()
    if f.get("shade"):
        low, high = (edge if end is None else float(end) for end, edge in zip(f["shade"], (bottom, top), strict=True))
        low, high = max(low, bottom), min(high, top)
        if low < high:  # else the region is out of sight
            axes.axhspan(low, high, color=PALE, lw=0, zorder=0)
            axes.annotate(
                words(f.get("shade_label", "")), (1, high), (-3, -3), **BESIDE, ha="right", va="top", fontsize=8
            )
    for label, level in (f.get("lines") or {}).items():
        axes.axhline(float(level), color=GREY, lw=0.8, ls=(0, (5, 2)))
        axes.annotate(words(label), (1, float(level)), (0, 2), **BESIDE, ha="right", va="bottom", fontsize=8)
    axes.set_ylim(bottom, top)
