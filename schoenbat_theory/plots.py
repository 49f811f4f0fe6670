"""Pictures of evidence: one function per kind of figure data, and inline SVG for pages.

    sequence    an estimate and its confidence sequence against the number of draws
    tail        how often an event happens, and the bound on its probability
    rate        a squared error against a size, with the slope claimed
    weights     attention weights before and after, relative to uniform
    bars        several numbers per name, as dots on one line

This module alone imports matplotlib. It uses `Figure` without pyplot, so there is no window and no
global state; text is set in Unicode, not in mathtext, so a reader's ``$`` is a dollar sign.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import os
import re
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schoenbat_theory.files import write_whole
from schoenbat_theory.markup import plain
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.results import Report

__all__ = ["decimal", "plot", "plot_bars", "plot_rate", "plot_sequence", "plot_tail", "plot_weights", "save_figures", "svg"]  # fmt: skip

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe & Ito: safe for the colour-blind
INK, GREY, PALE = "#333333", "#777777", "#E6E6E6"
MARKS = (("o", BLUE), ("D", VERMILLION), ("s", GREEN), ("^", PURPLE), ("v", INK), ("P", GREY))  # differ without colour
STYLE: Any = {  # typed by name and version in matplotlib's stubs
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
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
READING = {  # one sentence on how to read each kind
    "sequence": "Estimate and its confidence sequence against the number of draws; the line is the target, the grey band its margin.",
    "tail": "Exceedance rate with exact limits (blue) below the bound (orange); the number is bound / rate, an arrow an upper limit.",
    "rate": "Mean squared error against size, both logarithmic; the triangle has the slope that is claimed.",
    "weights": "Attention weights times the number of keys: 1 is uniform, each factor of ten one step of colour; orange is not positive.",
    "bars": "One line per name; the marks on it are to be compared.",
}


class _Figure(Figure):
    """A figure that a notebook shows as SVG, with or without pyplot."""

    def _repr_html_(self) -> str:
        return _inline(self, "figure", _key(str(id(self))))


def plot(evidence: Evidence, *, ax: Any = None) -> Axes:
    """Draw the figure data of ``evidence`` as their kind demands.

    ``ax``   axes to draw on, a pair of them for "weights"; ``None``: a figure is made, see ``.figure``
    returns the axes. Raises ``ValueError`` where there are no data, or of no known kind.

    >>> data = {"plot": "rate", "sizes": [1, 10], "error": [1, 0.1], "lower": [1, 0.1], "upper": [1, 0.1],
    ...         "exponent": 1.0, "fitted": 1.0}
    >>> plot(Evidence("consistent", "monte-carlo", figure=data)).get_xscale()
    'log'
    """
    kind = (evidence.figure or {}).get("plot")
    if kind not in PLOTS:
        raise ValueError(f"figure: expected plot to be one of {', '.join(PLOTS)}, found {kind!r}")
    return PLOTS[kind](evidence, ax=ax)


def plot_sequence(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw an estimate with its confidence sequence against the number of draws.

    Figure data: draws, estimate, lower, upper (one number per look), target, margin; "label" names the y axis.

    >>> data = {"draws": [8, 16], "estimate": [1, 2], "lower": [0, 1], "upper": [2, 3], "target": 2, "margin": 1}
    >>> plot_sequence(Evidence("consistent", "monte-carlo", figure=data)).get_xlabel()
    'draws'
    """
    f = _data(evidence, "draws", "estimate", "lower", "upper", "target", "margin")
    draws, estimate, lower, upper = (_array(f[key]) for key in ("draws", "estimate", "lower", "upper"))
    target, margin = float(f["target"]), float(f["margin"])
    with _canvas(ax) as axes:
        band = axes.axhspan(target - margin, target + margin, color=PALE, lw=0)
        line = axes.axhline(target, color=INK, lw=0.8, ls="--")
        axes.fill_between(draws, lower, upper, color=BLUE, alpha=0.15, lw=0)
        axes.vlines(draws, lower, upper, color=BLUE, lw=1.4)
        (dots,) = axes.plot(draws, estimate, "o", color=BLUE)
        axes.set_xscale("log")
        _ticks_at(axes.xaxis, draws)
        axes.yaxis.set_major_formatter(_Plain())
        _legend(axes, [dots, line, band], ["estimate and interval", f"target {decimal(target)}", "margin"])
        axes.set(xlabel="draws", ylabel=words(f.get("label", "estimate of the mean")))
        return axes


def plot_tail(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw how often an event happened, with exact limits, under the bound on its probability.

    Figure data: rate, lower, upper, bound (one number per comparison); "x" (numbers or names), "x_label".
    A rate of zero is drawn as its upper limit with an arrow; bounds of at least 1 are in the shaded part.

    >>> data = {"rate": [0.1], "lower": [0.08], "upper": [0.12], "bound": [0.4]}
    >>> plot_tail(Evidence("consistent", "monte-carlo", figure=data)).get_yscale()
    'log'
    """
    f = _data(evidence, "rate", "lower", "upper", "bound")
    rate, lower, upper, bound = (_array(f[key]) for key in ("rate", "lower", "upper", "bound"))
    x, names = _positions(f.get("x"), len(rate))
    seen = rate > 0
    smallest = float(np.concatenate([rate[seen], upper, bound[bound > 0]]).clip(1e-12).min())
    low, high = (
        max(smallest / 2, float(upper.min()) / 1e4),
        min(max(float(bound.max()) * 2, float(upper.max()) * 2), 10),
    )
    shown, arrow = bound.clip(low, high), (bound > high) | (bound < low)
    with _canvas(ax) as axes:
        if (bound >= 1).any():
            axes.axhspan(1, high * 2, color=PALE, lw=0)
            axes.annotate("says nothing: bound ≥ 1", (1, 1), (-3, 3), **_BESIDE, ha="right", va="bottom", fontsize=8)
        axes.vlines(x, np.where(seen, rate, upper).clip(low), shown, color=GREY, lw=0.6, ls=":")
        axes.plot(x[~arrow], shown[~arrow], "D", mfc="white", color=VERMILLION, label="bound")
        axes.plot(x[arrow], shown[arrow], "^", mfc="white", color=VERMILLION)
        axes.vlines(x[seen], lower[seen].clip(low), upper[seen], color=BLUE, lw=1.4)
        axes.plot(x[seen], rate[seen], "o", color=BLUE, label="rate")
        if not seen.all():
            axes.plot(x[~seen], upper[~seen], "_", color=BLUE, ms=8, mew=1.4)
            axes.plot(x[~seen], upper[~seen] / 1.25, "v", color=BLUE, mfc="white", label="rate 0, at most")
        slack = bound / np.where(seen, rate, upper)
        for i in range(len(x)) if len(x) <= 8 else [int(np.argmin(slack))]:  # beyond eight the numbers would collide
            middle = math.sqrt(shown[i] * (rate[i] if seen[i] else upper[i]))
            text = f"{'' if seen[i] else '≥ '}{decimal(float(slack[i]), 0.1 * float(slack[i]))}"
            axes.annotate(text, (x[i], middle), (5, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        _decades(axes.yaxis)
        if names is None and x.min() > 0 and x.max() >= 8 * x.min():
            axes.set_xscale("log")
            _ticks_at(axes.xaxis, x)
        elif names is not None or len(x) <= 8:
            axes.set_xticks(x, names or [decimal(float(value)) for value in x])
        axes.margins(x=0.12)
        axes.set(xlabel=words(f.get("x_label", "comparison")), ylabel="probability")
        _legend(axes)
        return axes


def plot_rate(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw mean squared errors against size, with a triangle of the slope that is claimed.

    Figure data: sizes, error, lower, upper (one number per size), exponent, fitted; "predicted" (exact
    squared errors), "baselines" (name -> squared error), "x_label", "y_label".

    >>> data = {"sizes": [1, 10], "error": [1, 0.1], "lower": [1, 0.1], "upper": [1, 0.1], "exponent": 1, "fitted": 1}
    >>> plot_rate(Evidence("consistent", "monte-carlo", figure=data)).get_ylabel()
    'mean squared error'
    """
    f = _data(evidence, "sizes", "error", "lower", "upper", "exponent", "fitted")
    sizes, error, lower, upper = (_array(f[key]) for key in ("sizes", "error", "lower", "upper"))
    exponent = float(f["exponent"])
    with _canvas(ax) as axes:
        axes.vlines(sizes, lower, upper, color=BLUE, lw=1.4)
        axes.plot(sizes, error, "o", color=BLUE, label=f"measured, slope {decimal(-float(f['fitted']), 0.1)}", zorder=3)
        if f.get("predicted") is not None:
            axes.plot(sizes, _array(f["predicted"]), "-", color=VERMILLION, label="predicted exactly")
        for name, value in dict(f.get("baselines") or {}).items():
            axes.axhline(float(value), color=GREY, lw=0.8, ls=(0, (5, 2)))
            axes.annotate(words(name), (1, float(value)), (0, 2), **_BESIDE, ha="right", va="bottom", fontsize=8)
        axes.set(xscale="log", yscale="log")
        # Right angle below the curve: one step along x, exponent steps down, parallel to the claim.
        xs = sizes[0] * (sizes[-1] / sizes[0]) ** np.array([0.08, 0.08, 0.38])
        top = float(lower[lower > 0].min(initial=error.min())) if exponent == 0 else float(lower[0]) * 0.35
        drop = (xs[2] / xs[0]) ** -exponent
        axes.fill(xs, [top, top * drop, top * drop], facecolor=PALE, edgecolor=GREY, lw=0.6)
        axes.annotate(f"claimed slope {decimal(-exponent)}", (xs[1], top * min(drop, 1)), (0, -2), textcoords="offset points",
                    va="top", fontsize=8)  # fmt: skip
        axes.margins(y=0.12)
        _ticks_at(axes.xaxis, sizes)
        _decades(axes.yaxis)
        axes.set(xlabel=words(f.get("x_label", "size")), ylabel=words(f.get("y_label", "mean squared error")))
        _legend(axes)
        return axes


def plot_weights(evidence: Evidence, *, ax: Sequence[Axes] | None = None) -> Axes:
    """Draw two matrices of attention weights side by side on one logarithmic scale of weight x number of keys.

    ``ax``   a pair of axes. Figure data: before, after (n, m), rows sum to 1; "labels" (two titles),
    "uniform" (the weight that counts as 1, default 1/m). Returns the first of the two axes.

    >>> plot_weights(Evidence(None, "data", figure={"before": [[0.5, 0.5]], "after": [[0.9, 0.1]]})).get_title()
    'before'
    """
    f = _data(evidence, "before", "after")
    pair = [np.atleast_2d(np.asarray(f[key], dtype=np.float64)) for key in ("before", "after")]
    relative = [x / float(f.get("uniform") or 1 / x.shape[1]) for x in pair]
    positive = np.concatenate([x[x > 0] for x in relative] or [np.ones(1)])
    high = float(positive.max(initial=1.0)) * 1.001
    low = max(float(positive.min(initial=1.0)), high / 1e4) / 1.001  # four decades of colour; less is the darkest
    norm, cmap = colors.LogNorm(low, high), matplotlib.colormaps["cividis"].with_extremes(bad=VERMILLION)
    with _canvas(ax, (5.2, 2.5), columns=2) as axes:
        for x, one, title in zip(relative, axes, f.get("labels") or ("before", "after"), strict=True):
            shown = np.ma.masked_where(x <= 0, x.clip(min=low))
            picture = one.imshow(shown, norm=norm, cmap=cmap, aspect="auto", interpolation="none")
            one.set(title=words(title), xlabel="key")
        axes[0].set_ylabel("query")
        bar = axes[0].figure.colorbar(picture, ax=list(axes), orientation="horizontal", aspect=40, pad=0.04)
        bar.set_label("weight × number of keys (1 = uniform)")
        _decades(bar.ax.xaxis)
        return axes[0]


def plot_bars(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw several numbers per name as dots on one line, to be compared along it.

    Figure data: names, series (label -> one number per name), y_label (what the numbers are), "log".

    >>> data = {"names": ["a", "b"], "series": {"error": [1, 2], "baseline": [2, 2]}, "y_label": "error"}
    >>> plot_bars(Evidence(None, "data", figure=data)).get_xlabel()
    'error'
    """
    f = _data(evidence, "names", "series", "y_label")
    rows = np.arange(len(f["names"]))
    with _canvas(ax, (4.4, 1.0 + 0.22 * len(rows))) as axes:
        axes.hlines(rows, 0, 1, transform=axes.get_yaxis_transform(), color=PALE, lw=0.8, zorder=0)
        for i, (label, values) in enumerate(f["series"].items()):
            mark, color = MARKS[i % len(MARKS)]
            face = color if i % 2 == 0 else "white"
            axes.plot(_array(values), rows, mark, color=color, mfc=face, label=words(label), clip_on=False)
        if f.get("log"):
            axes.set_xscale("log")
            _decades(axes.xaxis)
        else:
            axes.xaxis.set_major_formatter(_Plain())
        axes.set_yticks(rows, [words(name, 28) for name in f["names"]])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(words(f["y_label"]))
        _legend(axes)
        return axes


PLOTS: dict[Any, Callable[..., Axes]] = {
    "sequence": plot_sequence,
    "tail": plot_tail,
    "rate": plot_rate,
    "weights": plot_weights,
    "bars": plot_bars,
}


def svg(evidence: Evidence, *, key: str | None = None) -> str:
    """Return the figure of ``evidence`` as an SVG element for a page: no prolog, no address, no script.

    ``key``   makes its ids differ from those of other figures on the page; default: from the data
    The same data give the same text. It is as wide as its container.

    >>> data = {"rate": [0.1], "lower": [0.08], "upper": [0.12], "bound": [0.4]}
    >>> svg(Evidence("consistent", "monte-carlo", figure={"plot": "tail", **data})).startswith('<svg viewBox="0 0 ')
    True
    """
    return _inline(plot(evidence).figure, describe(evidence), _key(key or repr((evidence.name, evidence.figure))))


def save_figures(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one SVG file per evidence that has a figure, e.g. ``P05-sampled-squares.svg``; return their paths.

    ``folder``   is made if it is missing; names hold letters, digits and hyphens only.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for outcome in report.outcomes:
        for evidence in outcome.evidence:
            if evidence.figure is not None:
                stem = unused(f"{slug(outcome.proposition.id)}-{slug(evidence.name).lower()}", paths)
                root = _root(plot(evidence).figure, _key(stem), background="white")
                title = ElementTree.Element("title")
                title.text = describe(evidence)
                root.insert(0, title)
                root.set("xmlns", "http://www.w3.org/2000/svg")
                paths[stem.lower()] = folder / f"{stem}.svg"
                write_whole(paths[stem.lower()], ElementTree.tostring(root, encoding="unicode") + "\n")
    return list(paths.values())


def describe(evidence: Evidence) -> str:
    """Return one plain sentence on the figure for those who do not see it."""
    verdict = f", {evidence.verdict}" if evidence.verdict else ""
    return f"{plain(evidence.name) or 'figure'}{verdict}. {READING[(evidence.figure or {})['plot']]}"


def decimal(x: float | None, width: float | None = None) -> str:
    """Return ``x`` for people: to two digits of ``width``, the uncertainty, or to four digits without one.

    >>> decimal(0.123456, 0.01), decimal(1.23456e-5), decimal(-2.0), decimal(float("inf")), decimal(None)
    ('0.123', '1.235 × 10⁻⁵', '−2', '∞', '–')
    """
    if x is None or math.isnan(x):
        return "–"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0 or (x == round(x) and abs(x) < 1e7 and not width):
        return f"{x:,.0f}".replace("-", "−")
    exponent = math.floor(math.log10(abs(x)))
    places = 3 - exponent
    if width and math.isfinite(width):  # at least two digits of the number itself, at most twelve
        places = min(max(1 - math.floor(math.log10(abs(width))), 1 - exponent), 11 - exponent)
    if -4 <= exponent < 6:
        text, power = f"{x:,.{max(places, 0)}f}", ""
    else:
        text, e = f"{x:.{max(places + exponent, 0)}e}".split("e")
        power = f" × 10{superscript(int(e))}"
    if not width and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−") + power


def superscript(n: int) -> str:
    """Return an integer as Unicode superscripts: -5 as ⁻⁵."""
    return str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def slug(text: str) -> str:
    """Return the letters and digits of ``text`` joined by hyphens, safe in a file name and an address."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60] or "figure"


def unused(stem: str, taken: Container[str]) -> str:
    """Return ``stem``, numbered if it is ``taken`` already; names that differ in case only are the same."""
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(name for name in names if name.lower() not in taken)


def words(text: Any, most: int = 44) -> str:
    """Return a reader's text for a figure, at most ``most`` letters: formulas as Unicode, other dollar signs kept."""
    text = re.sub(r"https?://", "", str(text))
    text = plain(text) if text.count("$") and text.count("$") % 2 == 0 else text
    text = "".join(c if c.isprintable() else " " for c in text)
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


class _Plain(ticker.ScalarFormatter):
    """Tick labels whose common factor is ×10⁻⁵ in Unicode."""

    def __init__(self) -> None:
        super().__init__(useOffset=False)
        self.set_powerlimits((-3, 5))

    def get_offset(self) -> str:
        exponent = super().get_offset().replace("−", "-").partition("e")[2]
        return f"×10{superscript(int(exponent))}" if exponent else ""


_BESIDE: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}


@contextmanager
def _canvas(ax: Any, size: tuple[float, float] = (4.4, 2.9), columns: int = 1) -> Iterator[Any]:
    """Yield ``ax``, or the axes of a new figure, with `STYLE` in force."""
    with matplotlib.rc_context(STYLE):
        yield _Figure(size, layout="constrained").subplots(1, columns, sharey=columns > 1) if ax is None else ax


def _data(evidence: Evidence, *keys: str) -> dict[str, Any]:
    found = evidence.figure or {}
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(f"figure: expected the keys {', '.join(keys)}; missing {', '.join(missing)}")
    return found


def _array(values: Any) -> np.ndarray:
    """Return numbers with NaN for what cannot be drawn, so that an infinite limit does not scale the axis."""
    x = np.asarray(values, dtype=np.float64).ravel()
    return np.where(np.isfinite(x), x, np.nan)


def _positions(x: Any, count: int) -> tuple[np.ndarray, list[str] | None]:
    """Return positions and, where ``x`` holds names, their labels."""
    if x is None:
        return np.arange(1.0, count + 1), None
    if any(isinstance(value, str) for value in x):
        return np.arange(1.0, count + 1), [words(value) for value in x]
    return _array(x), None


def _ticks_at(axis: Any, values: np.ndarray) -> None:
    """Put at most six ticks on a logarithmic axis, at measured values, the last among them."""
    kept = values[::-1][:: math.ceil(len(values) / 6)]
    axis.set_major_locator(ticker.FixedLocator(kept.tolist()))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _count(value)))
    axis.set_minor_locator(ticker.NullLocator())


def _count(n: float) -> str:
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if n >= unit:
            n, suffix = (n / 1e3, "k") if letter == "k" else (n / unit, letter)
            return f"{n:.2g}{suffix}" if n < 100 else f"{n:.0f}{suffix}"
    return decimal(n)


def _decades(axis: Any) -> None:
    """Label a logarithmic axis 10⁻², 10⁻¹, 1; between decades only where there are fewer than two."""
    axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: _decade(x)))
    low, high = sorted(axis.get_view_interval())
    if math.floor(math.log10(high)) - math.ceil(math.log10(low)) < 1:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: decimal(x)))
    axis.set_minor_formatter(ticker.NullFormatter())


def _decade(x: float) -> str:
    exponent = round(math.log10(x))
    return decimal(10.0**exponent) if -2 <= exponent <= 3 else f"10{superscript(exponent)}"


def _legend(ax: Any, *entries: Any) -> None:
    """Put the legend above the data, where it hides none, in as many columns as fit."""
    handles, labels = entries or ax.get_legend_handles_labels()
    lengths = [len(label) + 5 for label in labels]
    columns = len(labels) if sum(lengths) <= 75 else 2 if 2 * max(lengths) <= 75 else 1
    spacing = {"ncols": max(columns, 1), "handletextpad": 0.4, "columnspacing": 1.2, "borderaxespad": 0.2}
    if isinstance(ax.figure, _Figure):  # ours alone, so the legend may begin left of the axes
        ax.figure.legend(handles, labels, loc="outside upper left", **spacing)
    else:
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), **spacing)


def _inline(figure: Any, label: str, key: str) -> str:
    """Return a figure as an SVG element that fills its container and says what it shows."""
    root = _root(figure, key, background="none")
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.attrib.update({"width": "100%", "role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")


def _root(figure: Any, key: str, background: str) -> ElementTree.Element:
    """Return the SVG of a figure without namespaces, metadata and unused ids; used ids begin with ``key``."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "schoenbat_theory"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has fonts that we lack
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", facecolor=background, metadata=none)
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in [child for child in root if child.tag.endswith("metadata")]:
        root.remove(metadata)
    used = set(re.findall(r"""(?:href="|url\()#([^")]+)""", buffer.getvalue()))
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        found = {name.rpartition("}")[2]: value for name, value in node.attrib.items()}
        if found.get("id") not in used:
            found.pop("id", None)
        for name, value in found.items():
            if name == "id":
                found[name] = key + value
            elif name in ("href", "clip-path"):
                found[name] = re.sub(r"^(url\()?#", rf"\g<0>{key}", value)
            elif name == "style":
                found[name] = re.sub(r"'?DejaVu Sans'?", "system-ui, sans-serif", value)
        node.attrib.clear()
        node.attrib.update(found)
    return root


def _key(text: str) -> str:
    return f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
