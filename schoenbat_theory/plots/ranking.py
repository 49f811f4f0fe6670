"""Methods in the order of their errors: one line each, from the best head to the worst, with its numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import transforms
from matplotlib.axes import Axes

from schoenbat_theory.plots.contest import looks
from schoenbat_theory.plots.style import GREY, INK, PALE, STYLE, HouseFigure, decades, figure_data, numbers, words
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_ranking"]

LINE = 0.175  # inches from one method to the next
NAMES, COLUMN = 2.35, 0.62  # inches of the names on the left, of each column of numbers on the right
WIDTH = 7.3


def plot_ranking(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw one line per method, best first: a mark at the median, a thick stroke for the draws, a thin one for the heads.

    ``ax``   axes to draw on; figure data: rows, a list of {"label", "error", "draws": (least, largest), "heads": (best,
      worst), "cells": texts, "strong"}, in the order in which they are drawn, numbers None where undefined; "columns":
      headings of the cells; "families": label -> family, a colour each; a label without family is a level: a dashed line.
    Returns the axes.

    >>> row = {"label": "a", "error": 0.1, "draws": (0.09, 0.2), "heads": (0.05, 0.3), "cells": ["0.1"], "strong": True}
    >>> plot_ranking(Evidence(None, "data", figure={"rows": [row], "columns": ["error"], "families": {"a": "A"}})).get_xscale()
    'log'
    """
    f = figure_data(evidence.figure, "rows", "columns", "families")
    rows, styles = f["rows"], looks(f["families"])
    with matplotlib.rc_context(STYLE):
        if ax is None:
            ax = _canvas(len(rows), len(f["columns"]))
        ax.set(xscale="log", xlabel="relative error", xlim=_limits(rows), ylim=(len(rows) - 0.4, -0.6))
        for place, row in enumerate(rows):
            _draw(ax, place, row, *styles.get(row["label"], ("|", INK)))
        decades(ax.xaxis)
        _levels(ax, [float(row["error"]) for row in rows if row["label"] not in styles and row["error"]])
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        _name(ax, rows, f["columns"], {label: color for label, (_, color) in styles.items()})
        return ax


def _canvas(count: int, columns: int) -> Axes:
    height = LINE * count + 0.75
    figure = HouseFigure((WIDTH, height))
    width = WIDTH - NAMES - COLUMN * columns - 0.1
    return figure.add_axes((NAMES / WIDTH, 0.45 / height, width / WIDTH, LINE * count / height))


def _limits(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return what holds every number that can be drawn, and a little more."""
    found = numbers([x for row in rows for x in (row["error"], *row["draws"], *row["heads"])])
    seen = found[found > 0]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.1, 1.0)
    return low / 1.3, high * 1.3


def _draw(ax: Axes, place: int, row: Mapping[str, Any], mark: str, color: str) -> None:
    (error,) = numbers([row["error"]])
    ax.axhline(place, color=PALE, lw=0.6, zorder=0)
    for key, width, alpha in (("heads", 1.0, 0.9), ("draws", 3.6, 0.45)):
        ends = numbers(row[key])
        ax.plot(ends, [place, place], color=color, lw=width, alpha=alpha, solid_capstyle="butt", zorder=2)
    strong = bool(row["strong"])
    ax.plot(
        [error],
        [place],
        mark,
        color=color,
        mfc=color if strong else "white",
        ms=5 if strong else 4.2,
        mew=0.9,
        zorder=3,
    )


def _levels(ax: Axes, levels: Sequence[float]) -> None:
    """Draw what knows nothing of a query, and shade what is no better than the best of it."""
    for level in levels:
        ax.axvline(level, color=INK, lw=0.8, ls=(0, (5, 2)), zorder=1)
    if levels:
        low, high = ax.get_xlim()
        ax.axvspan(max(min(levels), low), high, color=PALE, alpha=0.45, lw=0, zorder=-1)
        ax.set_xlim(low, high)


def _name(ax: Axes, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], colors: Mapping[str, str]) -> None:
    """Write names on the left and cells on the right, each in the colour of its family."""
    left, right = (transforms.blended_transform_factory(ax.transAxes, ax.transData) for _ in range(2))
    inch = 1 / (ax.bbox.width / ax.figure.dpi)
    for place, row in enumerate(rows):
        color, weight = colors.get(row["label"], INK), "bold" if row["strong"] else "normal"
        style: dict[str, Any] = {"va": "center", "ha": "right", "fontsize": 7.5, "color": color, "fontweight": weight}
        ax.text(-0.12 * inch, place, words(row["label"], 40), transform=left, **style)
        for i, cell in enumerate(row["cells"], start=1):
            ax.text(1 + i * COLUMN * inch, place, words(cell, 12), transform=right, **style)
    for i, heading in enumerate(columns, start=1):
        ax.text(
            1 + i * COLUMN * inch,
            -0.75,
            words(heading, 20),
            transform=right,
            ha="right",
            va="bottom",
            fontsize=7.5,
            color=GREY,
        )
