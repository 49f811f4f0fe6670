"""Figures as SVG, drawn once: an element for pages, a file for people; the same data give the same bytes."""

from __future__ import annotations

import copy
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes

from schoenbat_theory.plots.charts import plot_bars, plot_rate, plot_sequence, plot_tail, plot_weights
from schoenbat_theory.plots.contest import plot_contest
from schoenbat_theory.plots.curves import plot_curves
from schoenbat_theory.plots.dots import plot_dots
from schoenbat_theory.plots.front import plot_front
from schoenbat_theory.plots.race import plot_race
from schoenbat_theory.plots.ranking import plot_ranking
from schoenbat_theory.plots.roof import plot_roof
from schoenbat_theory.plots.style import STYLE, readable
from schoenbat_theory.propositions import Evidence

__all__ = ["PLOTS", "READING", "Drawing", "describe", "draw", "plot", "reading", "svg"]

READING = {  # one sentence on how to read each kind
    "sequence": "Estimate and its confidence sequence against the number of draws; the line is the target, the grey band its margin.",
    "tail": "Exceedance rate with exact limits (blue) below the bound (orange); the number is bound / rate, an arrow an upper limit.",
    "rate": "Mean squared error against size, both logarithmic; the triangle has the slope that is claimed.",
    "weights": "Attention weights times the number of keys: 1 is uniform, each factor of ten one step of colour; orange is not positive.",
    "curves": "One curve per quantity.",
    "bars": "One line per name: compare the marks along it.",
    "contest": "Error against what is spent, one line per method with its name beside it; dashed levels know nothing of the query.",
    "dots": "One dot per number, the stroke their median.",
    "ranking": "One line per method, best first: the mark is the median, the thick stroke the draws, the thin one the heads.",
    "race": "One line per method against the length; broken lines are exact.",
    "front": "Error against time, a line through the lengths of each method; the grey steps are what no method beats at a length.",
    "roof": "Multiply-adds per second against multiply-adds per byte; the black line is what the machine was measured to do.",
}

PLOTS: dict[Any, Callable[..., Axes]] = {
    "sequence": plot_sequence,
    "tail": plot_tail,
    "rate": plot_rate,
    "weights": plot_weights,
    "curves": plot_curves,
    "bars": plot_bars,
    "contest": plot_contest,
    "dots": plot_dots,
    "ranking": plot_ranking,
    "race": plot_race,
    "front": plot_front,
    "roof": plot_roof,
}


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


@dataclass(frozen=True)
class Drawing:
    """The picture of one evidence, which a page and a file can share.

    ``root``   its SVG without namespaces, metadata, background and unused ids;  ``label``  what it shows, in words
    """

    root: ElementTree.Element = field(repr=False)
    label: str

    def element(self, key: str) -> str:
        """Return it for a page: as wide as its container, no prolog, no address, no script.

        ``key``   makes its ids differ from those of all else on the page
        """
        prefix = f"f{hashlib.sha256(key.encode()).hexdigest()[:8]}-"
        root = _prefixed(self.root, prefix)
        for name in ("width", "height"):
            del root.attrib[name]
        root.attrib.update({"width": "100%", "role": "img", "aria-label": self.label})
        return ElementTree.tostring(root, encoding="unicode")

    def file(self) -> str:
        """Return it as the text of a file: with a title, on white."""
        root = ElementTree.Element("svg", self.root.attrib | {"xmlns": "http://www.w3.org/2000/svg"})
        ElementTree.SubElement(root, "title").text = self.label
        ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
        root.extend(self.root)
        return ElementTree.tostring(root, encoding="unicode") + "\n"


def draw(evidence: Evidence) -> Drawing:
    """Return the picture of ``evidence``; raises as `plot` does.

    >>> data = {"rate": [0.1], "lower": [0.08], "upper": [0.12], "bound": [0.4]}
    >>> draw(Evidence("consistent", "monte-carlo", name="a tail", figure={"plot": "tail", **data})).label[:19]
    'a tail, consistent.'
    """
    return Drawing(_root(plot(evidence).figure), describe(evidence))


def svg(evidence: Evidence, *, key: str | None = None) -> str:
    """Return the figure of ``evidence`` as an SVG element for a page, see `Drawing.element`.

    ``key``   makes its ids differ from those of other figures on the page; default: from the data
    The same data give the same text.

    >>> data = {"rate": [0.1], "lower": [0.08], "upper": [0.12], "bound": [0.4]}
    >>> svg(Evidence("consistent", "monte-carlo", figure={"plot": "tail", **data})).startswith('<svg viewBox="0 0 ')
    True
    """
    return draw(evidence).element(key or repr((evidence.name, evidence.figure)))


def describe(evidence: Evidence) -> str:
    """Return one plain sentence on the figure for those who do not see it."""
    verdict = f", {evidence.verdict}" if evidence.verdict else ""
    return f"{readable(evidence.name) or 'figure'}{verdict}. {readable(reading(evidence.figure or {}))}"


def reading(figure: Mapping[str, Any]) -> str:
    """Return the caption of figure data, or how to read what has none.

    >>> reading({"plot": "curves", "shade": (1, None)})
    'One curve per quantity; the shaded region is where nothing is said.'
    """
    if "caption" in figure:
        return str(figure["caption"])
    said = READING.get(str(figure.get("plot")), "")
    return f"{said.removesuffix('.')}; the shaded region is where nothing is said." if figure.get("shade") else said


def _root(figure: Any) -> ElementTree.Element:
    """Return the SVG of a figure without namespaces, metadata, background and unused ids."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "schoenbat_theory"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has fonts that we lack
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", facecolor="none", metadata=none)
    root = ElementTree.fromstring(buffer.getvalue())
    for metadata in [child for child in root if child.tag.endswith("metadata")]:
        root.remove(metadata)
    used = set(re.findall(r"""(?:href="|url\()#([^")]+)""", buffer.getvalue()))
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        found = {name.rpartition("}")[2]: value for name, value in node.attrib.items()}
        if found.get("id") not in used:
            found.pop("id", None)
        if "style" in found:
            found["style"] = re.sub(r"'?DejaVu Sans'?", "system-ui, sans-serif", found["style"])
        node.attrib.clear()
        node.attrib.update(found)
    return root


def _prefixed(root: ElementTree.Element, prefix: str) -> ElementTree.Element:
    """Return a copy whose ids, and what refers to them, begin with ``prefix``."""
    root = copy.deepcopy(root)
    for node in root.iter():
        if "id" in node.attrib:
            node.set("id", prefix + node.attrib["id"])
        for name in {"href", "clip-path"} & node.attrib.keys():
            node.set(name, re.sub(r"^(url\()?#", rf"\g<0>{prefix}", node.attrib[name]))
    return root
