"""What pictures of timed methods share: looks, and a legend above the data that holds a dozen of them.

A method has one colour and one mark in all pictures of a scene; exact methods have hollow marks and broken lines.
Everything is named in the legend, from what ends highest down, as a dozen names beside their lines would collide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from schoenbat_theory.plots.contest import looks
from schoenbat_theory.plots.style import INK, canvas, columns_of, label_of, legend, words

__all__ = ["LEVEL", "Key", "Styles", "canvas_of", "finish", "key_of", "styles_of"]

ROW = 0.145  # inches of a row of the legend
LEVEL: dict[str, Any] = {"color": INK, "lw": 1.0, "ls": (0, (1.5, 1.5)), "zorder": 2}
BROKEN = (0, (4, 1.6))

Styles = dict[str, dict[str, Any]]  # label -> how its line is drawn
Key = list[tuple[str, dict[str, Any]]]  # words of the legend and how their line is drawn, from the top down


def styles_of(f: Mapping[str, Any]) -> Styles:
    """Return label -> how its line is drawn: one of "methods", of which "exact" are hollow and broken, or a level.

    Where colours do not suffice, an exact method shares that of one that errs.
    """
    exact = f.get("exact", ())
    methods = sorted(f.get("methods", f["series"]), key=lambda label: label in exact)
    found: Styles = dict.fromkeys(f["series"], LEVEL | {"marker": "_"})
    for label, (mark, color) in looks({method: method for method in methods}).items():
        face, dashes = ("white", BROKEN) if label in exact else (color, "-")
        found[label] = {
            "color": color,
            "marker": mark,
            "mfc": face,
            "ls": dashes,
            "ms": 4.2,
            "lw": 1.0,
            "mew": 0.9,
            "zorder": 3,
        }
    return found


def key_of(f: Mapping[str, Any], curves: Mapping[str, np.ndarray], others: Mapping[str, tuple[float, Any]]) -> Key:
    """Return the legend: ``curves`` (label -> numbers) by the last of them, ``others`` (words -> height and style) between."""
    said, styles = f.get("said", {}), styles_of(f)
    found = [(height, label, style) for label, (height, style) in others.items()]
    for label, y in curves.items():
        behind = f", {words(said[label], 24)}" if label in said else ""
        found.append((max(y[np.isfinite(y)][-1:].tolist(), default=0.0), words(label, 42) + behind, styles[label]))
    return [(label, style) for _, label, style in sorted(found, key=lambda one: -one[0])]


def canvas_of(ax: Axes | None, key: Key, height: float = 2.9) -> AbstractContextManager[Any]:
    """Return the canvas of `style`, higher by the legend."""
    return canvas(ax, (4.4, height + ROW * math.ceil(len(key) / columns_of([label for label, _ in key]))))


def finish(axes: Axes, f: Mapping[str, Any], key: Key) -> None:
    """Label the axes and write the legend."""
    axes.set(xlabel=label_of(f["x_label"]), ylabel=label_of(f["y_label"], 34))
    handles = [axes.plot([], [], **style)[0] for _, style in key]
    legend(axes, handles, [label for label, _ in key], fontsize=8, labelspacing=0.25)
