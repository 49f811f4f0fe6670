"""Many methods on one target: error against what is spent, each method with its mark and its name beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from scipy.optimize import isotonic_regression

from schoenbat_theory.plots.style import (
    GREY,
    INK,
    PALE,
    STYLE,
    HouseFigure,
    decades,
    figure_data,
    numbers,
    ticks_at,
    words,
)
from schoenbat_theory.propositions import Evidence

__all__ = ["looks", "plot_contest", "spread_apart"]

COLORS = (
    "#0072B2",
    "#009E73",
    "#D55E00",
    "#B0447E",
    "#8C6D00",
    "#23307A",
    "#6B4FA0",
    "#5A5A5A",
)  # after Okabe & Ito, darker
SHAPES = "oDs^vP>X<*"  # that differ when small; methods of one family differ in them
LINE = 9.5  # points from one name to the next


def plot_contest(evidence: Evidence, *, ax: Sequence[Axes] | None = None) -> Axes:
    """Draw errors of many methods, panel by panel on one scale, with their names right of the panels that say so.

    ``ax``   one pair of axes per panel. Figure data: panels, a list of
      {"title", "x_label", "names": whether methods are named beside it, "series": label -> {"x", "error", "lower",
      "upper" (None where undefined), "strong": whether it is drawn to be seen first}, "levels": label -> error,
      "limits": label -> x, a line from which on the answer could be exact (optional)}.
      A series of one point has spent all that it can: a dotted line carries its error on. What lies above the lowest of
      the levels is shaded.
    "families": label -> family, of all labels that are to look the same in several figures: a family is a colour;
    "shared": whether all panels have one range of errors. Returns the first axes.

    >>> series = {"a": {"x": [1, 2], "error": [1, 0.5], "lower": [1, 0.4], "upper": [2, 0.6], "strong": True}}
    >>> panel = {"title": "", "x_label": "features", "names": True, "series": series, "levels": {"mean of V": 0.7}}
    >>> plot_contest(Evidence(None, "data", figure={"panels": [panel], "families": {"a": "A"}})).get_yscale()
    'log'
    """
    f = figure_data(evidence.figure, "panels", "families")
    panels, styles = f["panels"], looks(f["families"])
    with matplotlib.rc_context(STYLE):
        axes = _canvas(panels) if ax is None else list(ax)
        for one, panel in zip(axes, panels, strict=True):
            _draw(one, panel, styles)
        axes[0].set_ylabel("relative error")
        _scale(axes, bool(f.get("shared")))
        for one, panel in zip(axes, panels, strict=True):
            _shade(one, panel)
        for one, panel in zip(axes, panels, strict=True):
            if panel["names"]:
                _name(one, panel, styles)
        return axes[0]


def spread_apart(y: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Return the places in [low, high] nearest to sorted ``y`` (squared distance) that are ``gap`` apart or more.

    With z_i = y_i - i gap these are the nearest increasing z, cut off at the limits. Where there is no room the gap shrinks.

    >>> spread_apart(np.array([1.0, 1.0, 5.0]), 1.0, 0.0, 5.0)
    array([0.5, 1.5, 5. ])
    """
    gap = min(gap, (high - low) / max(len(y) - 1, 1))
    steps = gap * np.arange(len(y))
    return isotonic_regression(y - steps).x.clip(low, high - steps[-1:].sum()) + steps


def _canvas(panels: Sequence[Mapping[str, Any]]) -> list[Axes]:
    """Return one axes per panel in a new figure 7.3 inches wide, with room for names where they stand."""
    most = max(len(panel["series"]) + len(panel["levels"]) for panel in panels)
    figure = HouseFigure((7.3, max(3.0, 0.75 + most * LINE / 72 * 1.12)))
    named = [bool(panel["names"]) for panel in panels]
    room = 0.302  # of the width, for one column of names
    gap = 0.03 if sum(named) < 2 else 0.05
    width = (0.995 - 0.085 - room * sum(named) - gap * (len(panels) - 1)) / len(panels)
    left, axes = 0.085, list[Axes]()
    bottom = 0.42 / figure.get_figheight()
    for names in named:
        axes.append(figure.add_axes((left, bottom, width, 1 - bottom - 0.28 / figure.get_figheight())))
        left += width + gap + (room if names else 0)
    return axes


def looks(families: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return label -> (mark, colour): a colour per family, a mark per method within it."""
    found: dict[str, list[str]] = {}
    for label, family in families.items():
        found.setdefault(family, []).append(label)
    return {
        label: (SHAPES[(3 * i + j) % len(SHAPES)], COLORS[i % len(COLORS)])
        for i, labels in enumerate(found.values())
        for j, label in enumerate(labels)
    }


def _draw(ax: Axes, panel: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> None:
    ax.set(xscale="log", yscale="log", xlabel=words(panel["x_label"], 60))
    ax.set_title(words(panel["title"], 60), loc="left")
    levels = [float(level) for level in panel["levels"].values()]
    for level in levels:
        ax.axhline(level, color=INK, lw=0.9, ls=(0, (5, 2)), zorder=1)
    for label, x in panel.get("limits", {}).items():
        ax.axvline(float(x), color=GREY, lw=0.9, ls=(0, (1, 1.5)), zorder=1)
        above: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "ha": "center",
            "va": "bottom",
        }
        ax.annotate(words(label), (float(x), 1), (0, 2), fontsize=7.5, color=GREY, **above)
    for label, one in panel["series"].items():
        (x, y), (mark, color) = _points(one), styles[label]
        strong = bool(one["strong"])
        if strong and len(x) > 1:
            lower, upper = (numbers(one[key]) for key in ("lower", "upper"))
            ax.fill_between(numbers(one["x"]), lower, upper, color=color, alpha=0.12, lw=0, zorder=0)
        ax.plot(
            x,
            y,
            f"-{mark}",
            color=color,
            mfc=color if strong else "white",
            ms=5 if strong else 3.6,
            lw=1.8 if strong else 0.7,
            mew=0.8,
            zorder=4 if strong else 2,
        )
    x_all = np.unique(np.concatenate([_points(one)[0] for one in panel["series"].values()] or [np.ones(1)]))
    if x_all.size and panel.get("ticks"):
        ticks_at(ax.xaxis, numbers(panel["ticks"]))
    else:
        decades(ax.xaxis)
    ax.grid(axis="y", color=GREY, lw=0.3, alpha=0.35)


def _points(one: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a series that can be drawn."""
    x, y = numbers(one["x"]), numbers(one["error"])
    seen = np.isfinite(y) & (y > 0)
    return x[seen], y[seen]


def _scale(axes: Sequence[Axes], shared: bool) -> None:
    """Label the errors; where one range is shared, on the leftmost panel alone."""
    limits = [ax.get_ylim() for ax in axes]
    for ax in axes:
        if shared:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        decades(ax.yaxis)
        if shared and ax is not axes[0]:
            ax.yaxis.set_major_formatter(ticker.NullFormatter())


def _shade(ax: Axes, panel: Mapping[str, Any]) -> None:
    """Shade what is no better than the best of the levels, as far as the panel goes."""
    low, high = ax.get_ylim()
    best = min((float(level) for level in panel["levels"].values()), default=high)
    ax.axhspan(max(best, low), high, color=PALE, alpha=0.45, lw=0, zorder=-1)
    ax.set_ylim(low, high)


def _name(ax: Axes, panel: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]) -> None:
    """Write the names in a column right of ``ax``, each beside its last error, with its mark and a thin line to it."""
    right = ax.get_xlim()[1]
    ends = [
        (label, *(float(part[-1]) for part in _points(one)))
        for label, one in panel["series"].items()
        if _points(one)[0].size
    ]
    ends += [(label, right, float(level)) for label, level in panel["levels"].items()]
    ends.sort(key=lambda end: end[2])
    low, high = np.log(ax.get_ylim())
    heights = np.array([(math.log(y) - low) / (high - low) for _, _, y in ends])
    height_in_points, width_in_points = (size * 72 / ax.figure.dpi for size in (ax.bbox.height, ax.bbox.width))
    places = spread_apart(heights, LINE / height_in_points, 0.0, 0.98)
    for (label, x, y), height, place in zip(ends, heights, places, strict=True):
        mark, color = styles.get(label, ("", INK))
        strong = label in panel["series"] and bool(panel["series"][label]["strong"])
        if label in panel["series"] and x < right:
            ax.plot([x, right], [y, y], ls=":", lw=0.7, color=color, zorder=1)
        elbow: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False, "color": color}
        ax.plot([1, 1 + 12 / width_in_points], [height, place], lw=0.5, **elbow)
        if mark:
            face = color if strong else "white"
            ax.plot([1 + 16 / width_in_points], [place], mark, ms=4.2, mew=0.8, mfc=face, **elbow)
        ax.text(
            1 + (22 if mark else 14) / width_in_points,
            place,
            words(label, 40),
            transform=ax.transAxes,
            va="center_baseline",
            fontsize=7.5,
            color=color,
            fontweight="bold" if strong else "normal",
        )
