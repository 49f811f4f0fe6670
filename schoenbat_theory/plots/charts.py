"""One function per kind of figure data; each accepts ``ax=`` and returns the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes

from schoenbat_theory.markup import decimal
from schoenbat_theory.plots.style import (
    BESIDE,
    BLUE,
    GREY,
    INK,
    MARKS,
    PALE,
    VERMILLION,
    PlainFormatter,
    canvas,
    decades,
    figure_data,
    label_of,
    legend,
    numbers,
    positions,
    spaced,
    ticks_at,
    words,
)  # fmt: skip
from schoenbat_theory.propositions import Evidence

__all__ = ["plot_bars", "plot_rate", "plot_sequence", "plot_tail", "plot_weights"]


def plot_sequence(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw an estimate with its confidence sequence against the number of draws.

    Figure data: draws, estimate, lower, upper (one number per look), target, margin; "label" names the y axis.

    >>> data = {"draws": [8, 16], "estimate": [1, 2], "lower": [0, 1], "upper": [2, 3], "target": 2, "margin": 1}
    >>> plot_sequence(Evidence("consistent", "monte-carlo", figure=data)).get_xlabel()
    'draws'
    """
    f = figure_data(evidence.figure, "draws", "estimate", "lower", "upper", "target", "margin")
    draws, estimate, lower, upper = (numbers(f[key]) for key in ("draws", "estimate", "lower", "upper"))
    target, margin = float(f["target"]), float(f["margin"])
    with canvas(ax) as axes:
        band = axes.axhspan(target - margin, target + margin, color=PALE, lw=0)
        line = axes.axhline(target, color=INK, lw=0.8, ls="--")
        axes.fill_between(draws, lower, upper, color=BLUE, alpha=0.15, lw=0)
        axes.vlines(draws, lower, upper, color=BLUE, lw=1.4)
        (dots,) = axes.plot(draws, estimate, "o", color=BLUE)
        axes.set_xscale("log")
        ticks_at(axes.xaxis, draws)
        axes.yaxis.set_major_formatter(PlainFormatter())
        legend(axes, [dots, line, band], ["estimate and interval", f"target {decimal(target)}", "margin"])
        axes.set(xlabel="draws", ylabel=label_of(f.get("label", "estimate of the mean"), 32))
        return axes


def plot_tail(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw how often an event happened, with exact limits, under the bound on its probability.

    Figure data: rate, lower, upper, bound (one number per comparison); "x" (numbers or names), "x_label".
    A rate of zero is drawn as its upper limit with an arrow; bounds of at least 1 are in the shaded part.

    >>> data = {"rate": [0.1], "lower": [0.08], "upper": [0.12], "bound": [0.4]}
    >>> plot_tail(Evidence("consistent", "monte-carlo", figure=data)).get_yscale()
    'log'
    """
    f = figure_data(evidence.figure, "rate", "lower", "upper", "bound")
    rate, lower, upper, bound = (numbers(f[key]) for key in ("rate", "lower", "upper", "bound"))
    x, names = positions(f.get("x"), len(rate))
    seen = rate > 0
    smallest = float(np.concatenate([rate[seen], upper, bound[bound > 0]]).clip(1e-12).min())
    low, high = (
        max(smallest / 2, float(upper.min()) / 1e4),
        min(max(float(bound.max()) * 2, float(upper.max()) * 2), 10),
    )
    shown = bound.clip(low, high)
    with canvas(ax) as axes:
        if (bound >= 1).any():
            axes.axhspan(1, high * 2, color=PALE, lw=0)
            axes.annotate("says nothing: bound ≥ 1", (1, 1), (-3, 3), **BESIDE, ha="right", va="bottom", fontsize=8)
        axes.vlines(x, np.where(seen, rate, upper).clip(low), shown, color=GREY, lw=0.6, ls=":")
        for mark, part in (("D", shown == bound), ("^", bound > high), ("v", bound < low)):  # arrows: off the scale
            label = "bound" if mark == "D" or not (shown == bound).any() else None
            axes.plot(x[part], shown[part], mark, mfc="white", color=VERMILLION, label=label if part.any() else None)
        axes.vlines(x[seen], lower[seen].clip(low), upper[seen], color=BLUE, lw=1.4)
        axes.plot(x[seen], rate[seen], "o", color=BLUE, label="rate")
        if not seen.all():
            axes.plot(x[~seen], upper[~seen], "_", color=BLUE, ms=8, mew=1.4)
            axes.plot(x[~seen], upper[~seen] / 1.25, "v", color=BLUE, mfc="white", label="rate 0, at most")
        slack = bound / np.where(seen, rate, upper)
        for i in range(len(x)) if len(x) <= 8 else [int(np.argmin(slack))]:  # beyond eight the numbers would collide
            middle = math.sqrt(shown[i] * (rate[i] if seen[i] else upper[i]))
            text = f"{'' if seen[i] else '≥ '}{decimal(float(slack[i]), float(slack[i]))}"
            axes.annotate(text, (x[i], middle), (5, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        decades(axes.yaxis)
        if names is None and x.min() > 0 and x.max() >= 8 * x.min():
            axes.set_xscale("log")
            ticks_at(axes.xaxis, x)
        elif names is not None:
            axes.set_xticks(x, names)
        elif len(x) <= 8:
            shown_at = spaced(x)
            axes.set_xticks(shown_at, [decimal(float(v), 0 if v == round(v) else abs(v) / 10) for v in shown_at])
        axes.margins(x=0.12)
        axes.set(xlabel=label_of(f.get("x_label", "comparison")), ylabel="probability")
        legend(axes)
        return axes


def plot_rate(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw mean squared errors against size, with a triangle of the slope that is claimed.

    Figure data: sizes, error, lower, upper (one number per size), exponent, fitted; "predicted" (exact
    squared errors), "baselines" (name -> squared error), "x_label", "y_label".

    >>> data = {"sizes": [1, 10], "error": [1, 0.1], "lower": [1, 0.1], "upper": [1, 0.1], "exponent": 1, "fitted": 1}
    >>> plot_rate(Evidence("consistent", "monte-carlo", figure=data)).get_ylabel()
    'mean squared error'
    """
    f = figure_data(evidence.figure, "sizes", "error", "lower", "upper", "exponent", "fitted")
    sizes, error, lower, upper = (numbers(f[key]) for key in ("sizes", "error", "lower", "upper"))
    exponent = float(f["exponent"])
    with canvas(ax) as axes:
        axes.vlines(sizes, lower, upper, color=BLUE, lw=1.4)
        axes.plot(sizes, error, "o", color=BLUE, label=f"measured, slope {decimal(-float(f['fitted']), 0.1)}", zorder=3)
        if f.get("predicted") is not None:
            axes.plot(sizes, numbers(f["predicted"]), "-", color=VERMILLION, label="predicted exactly")
        for name, value in dict(f.get("baselines") or {}).items():
            axes.axhline(float(value), color=GREY, lw=0.8, ls=(0, (5, 2)))
            left = abs(math.log(float(value) / error[-1])) < math.log(2)  # the curve is near on the right
            side = {"xy": (0.01, float(value)), "ha": "left"} if left else {"xy": (1, float(value)), "ha": "right"}
            axes.annotate(words(name), xytext=(0, 2), va="bottom", fontsize=8, **BESIDE, **side)
        axes.set(xscale="log", yscale="log")
        # Right angle below the curve: one step along x, exponent steps down, parallel to the claim.
        xs = sizes[0] * (sizes[-1] / sizes[0]) ** np.array([0.08, 0.08, 0.38])
        top = float(lower[lower > 0].min(initial=error.min())) if exponent == 0 else float(lower[0]) * 0.35
        drop = (xs[2] / xs[0]) ** -exponent
        axes.fill(xs, [top, top * drop, top * drop], facecolor=PALE, edgecolor=GREY, lw=0.6)
        axes.annotate(f"claimed slope {decimal(-exponent)}", (xs[1], top * min(drop, 1)), (0, -2), textcoords="offset points",
                    va="top", fontsize=8)  # fmt: skip
        axes.margins(y=0.12)
        ticks_at(axes.xaxis, sizes)
        decades(axes.yaxis)
        axes.set(xlabel=label_of(f.get("x_label", "size")), ylabel=label_of(f.get("y_label", "mean squared error"), 32))
        legend(axes)
        return axes


def plot_weights(evidence: Evidence, *, ax: Sequence[Axes] | None = None) -> Axes:
    """Draw two matrices of attention weights side by side on one logarithmic scale of weight x number of keys.

    ``ax``   a pair of axes. Figure data: before, after (n, m), rows sum to 1; "labels" (two titles),
    "uniform" (the weight that counts as 1, default 1/m). Returns the first of the two axes.

    >>> plot_weights(Evidence(None, "data", figure={"before": [[0.5, 0.5]], "after": [[0.9, 0.1]]})).get_title()
    'before'
    """
    f = figure_data(evidence.figure, "before", "after")
    pair = [np.atleast_2d(np.asarray(f[key], dtype=np.float64)) for key in ("before", "after")]
    relative = [x / float(f.get("uniform") or 1 / x.shape[1]) for x in pair]
    positive = np.concatenate([x[x > 0] for x in relative] or [np.ones(1)])
    high = float(positive.max(initial=1.0)) * 1.001
    low = max(float(positive.min(initial=1.0)), high / 1e4) / 1.001  # four decades of colour; less is the darkest
    norm, cmap = colors.LogNorm(low, high), matplotlib.colormaps["cividis"].with_extremes(bad=VERMILLION)
    with canvas(ax, (5.2, 2.5), columns=2) as axes:
        for x, one, title in zip(relative, axes, f.get("labels") or ("before", "after"), strict=True):
            shown = np.ma.masked_where(x <= 0, x.clip(min=low))
            picture = one.imshow(shown, norm=norm, cmap=cmap, aspect="auto", interpolation="none")
            one.set(title=words(title), xlabel="key")
        axes[0].set_ylabel("query")
        bar = axes[0].figure.colorbar(picture, ax=list(axes), orientation="horizontal", aspect=40, pad=0.04)
        bar.set_label("weight × number of keys (1 = uniform)")
        decades(bar.ax.xaxis)
        return axes[0]


def plot_bars(evidence: Evidence, *, ax: Axes | None = None) -> Axes:
    """Draw several numbers per name as dots on one line, to be compared along it.

    Figure data: names, series (label -> one number per name), y_label (what the numbers are), "log".

    >>> data = {"names": ["a", "b"], "series": {"error": [1, 2], "baseline": [2, 2]}, "y_label": "error"}
    >>> plot_bars(Evidence(None, "data", figure=data)).get_xlabel()
    'error'
    """
    f = figure_data(evidence.figure, "names", "series", "y_label")
    rows = np.arange(len(f["names"]))
    with canvas(ax, (4.4, 1.0 + 0.22 * len(rows))) as axes:
        axes.hlines(rows, 0, 1, transform=axes.get_yaxis_transform(), color=PALE, lw=0.8, zorder=0)
        for i, (label, values) in enumerate(f["series"].items()):
            mark, color = MARKS[i % len(MARKS)]
            face = color if i % 2 == 0 else "white"
            axes.plot(numbers(values), rows, mark, color=color, mfc=face, label=words(label), clip_on=False)
        if f.get("log"):
            axes.set_xscale("log")
            decades(axes.xaxis)
        else:
            axes.xaxis.set_major_formatter(PlainFormatter())
        axes.set_yticks(rows, [words(name, 28) for name in f["names"]])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label_of(f["y_label"]))
        legend(axes)
        return axes
