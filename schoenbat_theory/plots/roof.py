"""Work per second against work per byte, under the roof of a machine (a roofline)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from schoenbat_theory.markup import short
from schoenbat_theory.plots.methods import canvas_of, finish, key_of, styles_of
from schoenbat_theory.plots.style import INK, decades, figure_data, numbers
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_roof"]

ROOF: dict[str, Any] = {"color": INK, "lw": 1.6, "zorder": 1}


def plot_roof(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw multiply-adds per second against multiply-adds per byte, and the smaller of product rate and bandwidth times x.

    Figure data: series (label -> {"x": multiply-adds per byte, "y": multiply-adds per second}), x_label, y_label, "rate" (of
    large products, multiply-adds per second), "bandwidth" (of large copies, bytes per second); "methods", "exact" and
    "said" as in `plot_race`.

    >>> data = {"series": {"a": {"x": [1, 2], "y": [1e9, 2e9]}}, "rate": 1e11, "bandwidth": 1e10, "x_label": "x", "y_label": "y"}
    >>> plot_roof(Evidence(None, "data", figure=data)).get_xscale()
    'log'
    """
    f = figure_data(evidence.figure, "series", "rate", "bandwidth", "x_label", "y_label")
    rate, bandwidth, styles = float(f["rate"]), float(f["bandwidth"]), styles_of(f)
    work, speed = ({label: numbers(one[axis]) for label, one in f["series"].items()} for axis in "xy")
    said = f"measured: products {short(rate / 1e9)} billion/s, copies {short(bandwidth / 1e9)} GB/s"
    key = key_of(f, speed, {said: (rate, ROOF)})
    x = np.concatenate([*work.values(), [rate / bandwidth]])
    ends = np.array([x.min() / 2, rate / bandwidth, x.max() * 2])
    with canvas_of(ax, key) as axes:
        axes.set(xscale="log", yscale="log")
        axes.plot(ends, np.minimum(rate, bandwidth * ends), **ROOF)
        for label in f["series"]:
            axes.plot(work[label], speed[label], **styles[label])
        axes.margins(x=0, y=0.1)
        decades(axes.xaxis)
        decades(axes.yaxis)
        finish(axes, f, key)
        return axes
