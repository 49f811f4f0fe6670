"""Error against time: every method at every length, and what no method beats at a length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from schoenbat_theory.plots.contest import spread_apart
from schoenbat_theory.plots.methods import LEVEL, canvas_of, finish, key_of, styles_of
from schoenbat_theory.plots.style import GREY, INK, PALE, count, decades, figure_data, numbers
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_front"]

STEPS: dict[str, Any] = {"color": GREY, "lw": 2.2, "alpha": 0.4, "zorder": 0}
GAP = 0.135  # of the width, from the middle of one length above the axes to the next


def plot_front(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw error against time, both logarithmic, a line through the lengths of each method; what is exact has a place below.

    Figure data: series (label -> {"x": seconds, "y": errors, 0 where exact}), x_label, y_label, "fronts" (length -> {"x",
    "y"} of what no other beats there, by rising time), "levels" (errors without information, the lowest and the highest,
    as lengths differ; from the lowest up is shaded); "methods", "exact", "said" as in `plot_race`.

    >>> series = {"a": {"x": [1, 2], "y": [0.1, 0.05]}, "b": {"x": [4, 16], "y": [0, 0]}}
    >>> figure = {"series": series, "fronts": {8: {"x": [1, 4], "y": [0.1, 0]}}, "levels": [0.2, 0.3]}
    >>> plot_front(Evidence(None, "data", figure=figure | {"x_label": "s", "y_label": "error"})).get_yticklabels()[0].get_text()
    'exact'
    """
    f = figure_data(evidence.figure, "series", "fronts", "levels", "x_label", "y_label")
    times, curves = ({label: numbers(one[axis]) for label, one in f["series"].items()} for axis in "xy")
    levels, styles = [float(level) for level in f["levels"] if level > 0], styles_of(f)
    errors = np.concatenate([*curves.values(), levels])
    lowest = float(errors[errors > 0].min(initial=1.0))
    bottom = lowest / 4  # where exact methods stand
    others = {"not beaten at length n": (math.inf, STEPS)}
    if levels:
        others["no information"] = (max(levels), LEVEL)
    key = key_of(f, curves, others)
    with canvas_of(ax, key) as axes:
        axes.set(xscale="log", yscale="log")
        for label, y in curves.items():
            axes.plot(times[label], np.where(y > 0, y, bottom), **styles[label])
        axes.margins(x=0.05, y=0.06)
        _uninformed(axes, levels)
        decades(axes.yaxis)
        if (errors == 0).any():
            _exact(axes, bottom, lowest)
        _steps(axes, f["fronts"], bottom)
        decades(axes.xaxis)
        finish(axes, f, key)
        return axes


def _uninformed(axes: Axes, levels: Sequence[float]) -> None:
    """Draw the errors without information, and shade what is no better than the lowest of them."""
    bottom, top = axes.get_ylim()
    top = max([top, *(1.6 * level for level in levels)])
    for level in dict.fromkeys(levels):
        axes.axhline(level, **LEVEL)
    axes.axhspan(min(levels, default=top), top, color=PALE, alpha=0.45, lw=0, zorder=-1)
    axes.set_ylim(bottom, top)


def _exact(axes: Axes, bottom: float, lowest: float) -> None:
    """Give what is exact a place of its own on the axis, below a line."""
    axes.axhline(bottom * 2, color=GREY, lw=0.6, zorder=1)
    axes.set_ylim(bottom / 1.8, axes.get_ylim()[1])
    label, ticks = axes.yaxis.get_major_formatter(), axes.get_yticks()
    shown = [bottom, *(float(tick) for tick in ticks if lowest / 1.1 <= tick <= axes.get_ylim()[1])]
    axes.yaxis.set_major_locator(ticker.FixedLocator(shown))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, i: "exact" if y == bottom else label(y, i)))


def _steps(axes: Axes, fronts: Mapping[int, Mapping[str, Any]], bottom: float) -> None:
    """Draw a stair down from the top for each length, with the length above."""
    top = axes.get_ylim()[1]
    starts = np.log([float(one["x"][0]) for one in fronts.values()])
    left, right = np.log(axes.get_xlim())
    order, places = np.argsort(starts), np.empty_like(starts)
    places[order] = spread_apart(starts[order], GAP * (right - left), left + 0.07 * (right - left), right)
    above: dict[str, Any] = {"va": "bottom", "fontsize": 7.5, "color": INK}
    leader = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 0}
    for (n, one), place in zip(fronts.items(), places, strict=True):
        x, y = numbers(one["x"]), numbers(one["y"])
        axes.step(np.append(x[0], x), np.append(top, np.where(y > 0, y, bottom)), where="post", **STEPS)
        at, to = (float(x[0]), top), (math.exp(place), 1.035)
        names: dict[str, Any] = {
            "textcoords": axes.get_xaxis_transform(),
            "ha": "center",
            "arrowprops": leader,
            **above,
        }
        axes.annotate(count(n), at, to, xycoords="data", **names)
    axes.text(0, 1.035, "n =", transform=axes.transAxes, ha="right", **above)
