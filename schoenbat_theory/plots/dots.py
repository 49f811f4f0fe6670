"""Strips of dots: several numbers per line, panel under panel, each with a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import transforms
from matplotlib.axes import Axes

from schoenbat_theory.plots.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    STYLE,
    VERMILLION,
    HouseFigure,
    PlainFormatter,
    decades,
    figure_data,
    label_of,
    numbers,
    words,
)
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_dots"]

NAME = 46  # letters of a name


def plot_dots(evidence: Evidence, *, ax: Sequence[Axes] | None = None) -> Axes:
    """Draw one line of dots per name, with a stroke at the median of those that are complete, panel under panel.

    ``ax``   one pair of axes per panel. Figure data: panels, a list of {"title", "x_label", "groups": name -> numbers,
             "log", "marked": the names in another colour, "missing": words for numbers that cannot be drawn, which are
             counted beside their line}. Returns the first axes.

    >>> panel = {"title": "", "x_label": "error", "groups": {"a": [1, 2], "b": [3]}, "log": False, "marked": ["b"]}
    >>> plot_dots(Evidence(None, "data", figure={"panels": [panel]})).get_xlabel()
    'error'
    """
    panels = figure_data(evidence.figure, "panels")["panels"]
    with matplotlib.rc_context(STYLE):
        axes = _canvas(panels) if ax is None else list(ax)
        for one, panel in zip(axes, panels, strict=True):
            _draw(one, panel)
        return axes[0]


def _canvas(panels: Sequence[Mapping[str, Any]]) -> list[Axes]:
    """Return one axes per panel, one under the other, in a new figure; a solver's layout would differ in its last digits."""
    rows = [len(panel["groups"]) for panel in panels]
    height = 0.235 * sum(rows) + 0.85 * len(rows)  # title, ticks and label of a panel take 0.85 inches
    figure = HouseFigure((7.3, height))
    left = min(
        0.03 + 0.0102 * max((len(words(name, NAME)) for panel in panels for name in panel["groups"]), default=0), 0.5
    )
    axes, top = list[Axes](), height
    for count in rows:
        axes.append(figure.add_axes((left, (top - 0.3 - 0.235 * count) / height, 0.975 - left, 0.235 * count / height)))
        top -= 0.235 * count + 0.85
    return axes


def _draw(ax: Axes, panel: Mapping[str, Any]) -> None:
    groups, log = panel["groups"], bool(panel["log"])
    for row, (name, values) in enumerate(groups.items()):
        x = numbers(values)
        seen = x[np.isfinite(x) & ((x > 0) | (not log))]
        color = VERMILLION if name in panel["marked"] else BLUE
        ax.axhline(row, color=PALE, lw=0.8, zorder=0)
        ax.plot(seen, np.full(seen.shape, row), "o", color=color, alpha=0.55, mec="none", ms=6, clip_on=False)
        missing = len(x) - len(seen)
        if seen.size and not missing:
            ax.plot([np.median(seen)] * 2, [row - 0.36, row + 0.36], color=color, lw=1.8, solid_capstyle="butt")
        if missing:
            said = f"{missing} {words(panel.get('missing', 'without a number'), 60)}"
            above: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
            ax.annotate(said, (1, row), (0, 2), ha="right", fontsize=7.5, color=GREY, **above)
    if log:
        ax.set_xscale("log")
        ax.margins(x=0.05)
        decades(ax.xaxis)
    else:
        ax.set_xlim(0, max([1.0, *(float(v) for values in groups.values() for v in values if np.isfinite(v))]) * 1.02)
        ax.xaxis.set_major_formatter(PlainFormatter())
    ax.set_yticks(range(len(groups)), [words(name, NAME) for name in groups])
    for label, name in zip(ax.get_yticklabels(), groups, strict=True):
        label.set_color(VERMILLION if name in panel["marked"] else INK)
    ax.set_ylim(len(groups) - 0.4, -0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0, pad=9)  # a dot at 0 is not under its name
    at_left = transforms.blended_transform_factory(ax.figure.transFigure, ax.transAxes)
    ax.text(0.01, 1.03, words(panel["title"], 110), transform=at_left, fontweight="bold", va="bottom")
    ax.set_xlabel(label_of(panel["x_label"], 70))
