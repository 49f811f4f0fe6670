"""The look of all figures: colours, type, axes, and words that are safe in them."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from schoenbat_theory.markup import decimal, plain, superscript

__all__ = [
    "BESIDE", "BLUE", "GREY", "INK", "MARKS", "PALE", "STYLE", "VERMILLION", "HouseFigure", "PlainFormatter",
    "canvas", "columns_of", "count", "decades", "figure_data", "label_of", "legend", "numbers", "positions", "readable",
    "spaced", "ticks_at", "words",
]  # fmt: skip

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe & Ito: safe for the colour-blind
INK, GREY, PALE = "#333333", "#777777", "#E6E6E6"
MARKS = (("o", BLUE), ("D", VERMILLION), ("s", GREEN), ("^", PURPLE), ("v", INK), ("P", GREY))  # differ without colour
STYLE: Any = {  # typed by name and version in matplotlib's stubs
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.6,
    "svg.fonttype": "none",
}


class HouseFigure(Figure):
    """A figure that a notebook shows as SVG, with or without pyplot."""

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        self.savefig(buffer, format="svg")
        return buffer.getvalue()


def words(text: Any, most: int = 44) -> str:
    """Return a reader's text for matplotlib, at most ``most`` letters; its dollar signs start no formula."""
    text = readable(str(text))
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def label_of(text: Any, width: int = 50) -> str:
    """Return the label of an axis in at most two lines."""
    return "\n".join(textwrap.wrap(words(text, 2 * width - 10).replace(" = ", "\xa0=\xa0"), width))


def readable(text: str) -> str:
    """Return text with formulas in Unicode, web addresses without their scheme, and nothing unprintable."""
    text = re.sub(r"https?://", "", text)
    text = plain(text) if text.count("$") and text.count("$") % 2 == 0 else text
    return "".join(c if c.isprintable() else " " for c in text)


class PlainFormatter(ticker.ScalarFormatter):
    """Tick labels whose common factor is ×10⁻⁵ in Unicode."""

    def __init__(self) -> None:
        super().__init__(useOffset=False)
        self.set_powerlimits((-3, 5))

    def get_offset(self) -> str:
        """Return the common factor, or nothing."""
        exponent = super().get_offset().replace("−", "-").partition("e")[2]
        return f"×10{superscript(int(exponent))}" if exponent else ""


BESIDE: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}


@contextmanager
def canvas(ax: Any, size: tuple[float, float] = (4.4, 2.9), columns: int = 1) -> Iterator[Any]:
    """Yield ``ax``, or the axes of a new figure, with `STYLE` in force."""
    with matplotlib.rc_context(STYLE):
        yield HouseFigure(size, layout="constrained").subplots(1, columns, sharey=columns > 1) if ax is None else ax


def figure_data(found: dict[str, Any] | None, *keys: str) -> dict[str, Any]:
    """Return the figure data ``found``; ``ValueError`` that names those of ``keys`` that it lacks."""
    missing = [key for key in keys if key not in (found or {})]
    if missing or found is None:
        raise ValueError(f"figure: expected the keys {', '.join(keys)}; missing {', '.join(missing)}")
    return found


def numbers(values: Any) -> np.ndarray:
    """Return numbers with NaN for what cannot be drawn, ``None`` too, so that an infinite limit does not scale the axis."""
    x = np.asarray(values, dtype=np.float64).ravel()
    return np.where(np.isfinite(x), x, np.nan)


def positions(x: Any, count: int) -> tuple[np.ndarray, list[str] | None]:
    """Return positions and, where ``x`` holds names, their labels."""
    if x is None:
        return np.arange(1.0, count + 1), None
    if any(isinstance(value, str) for value in x):
        return np.arange(1.0, count + 1), [words(value) for value in x]
    return numbers(x), None


def ticks_at(axis: Any, values: np.ndarray) -> None:
    """Put at most seven ticks on a logarithmic axis, at measured values, the last among them."""
    kept = np.unique(values[np.isin(np.log(values), spaced(np.log(values)))])
    axis.set_major_locator(ticker.FixedLocator(kept.tolist()))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: count(value)))
    axis.set_minor_locator(ticker.NullLocator())


def spaced(x: np.ndarray) -> np.ndarray:
    """Return those of the positions ``x`` whose labels do not collide: 16 % of the range apart, the last among them."""
    kept: list[float] = []
    for value in np.sort(x)[::-1].tolist():
        if not kept or kept[-1] - value >= 0.16 * np.ptp(x):
            kept.append(value)
    return np.array(kept[::-1])


def count(n: float) -> str:
    """Return a number of tokens or features for an axis: 65,536, but 1M from a million on."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if unit <= n < 1e15:
            n /= unit
            return f"{n:.2g}{letter}" if n < 100 else f"{n:.0f}{letter}"
    return decimal(n)


def decades(axis: Any) -> None:
    """Label a logarithmic axis 0.1, 1, 10, or 10⁻³, 10⁻², ... all of them; between decades where it spans fewer than two."""
    low, high = sorted(axis.get_view_interval())
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    label = _power if any(not -2 <= exponent <= 3 for exponent in exponents) else _plain_decade
    if high < 100 * low:
        steps: ticker.Locator = ticker.LogLocator(subs=(1, 2, 5))
        axis.set_major_locator(steps if high >= 10 * low else ticker.MaxNLocator(5))
        label = decimal
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: label(x)))
    axis.set_minor_formatter(ticker.NullFormatter())


def _plain_decade(x: float) -> str:
    return decimal(10.0 ** round(math.log10(x)))


def _power(x: float) -> str:
    return f"10{superscript(round(math.log10(x)))}"


def legend(ax: Any, *entries: Any, **look: Any) -> None:
    """Put the legend above the data, where it hides none, in as many columns as fit."""
    handles, labels = entries or ax.get_legend_handles_labels()
    spacing = {"ncols": columns_of(labels), "handletextpad": 0.4, "columnspacing": 1.2, "borderaxespad": 0.2, **look}
    if isinstance(ax.figure, HouseFigure):  # ours alone, so the legend may begin left of the axes
        ax.figure.legend(handles, labels, loc="outside upper left", **spacing)
    else:
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), **spacing)


def columns_of(labels: Sequence[str]) -> int:
    """Return in how many columns a legend above the data has room."""
    lengths = [len(label) + 5 for label in labels]
    columns = len(labels) if sum(lengths) <= 64 else 2 if 2 * max(lengths) <= 68 else 1
    return max(columns, 1)
