"""A report as one HTML page and as figures: no script, nothing fetched, formulas as MathML, figures as SVG.

Every text of a proposition is input: jinja2 escapes it, `markup.inline_math` escapes what surrounds a
formula, and matplotlib escapes what stands in a figure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from schoenbat_theory import plots
from schoenbat_theory.chapters import Chapter, chapters, undrawn
from schoenbat_theory.environment import environment
from schoenbat_theory.files import slug, unused, write_whole
from schoenbat_theory.markup import decimal, inline_math
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.results import Outcome, Report

__all__ = ["Section", "page", "render", "save", "save_figures", "write_folder"]

VERDICTS = {  # verdict: (sign, what it means and what it does not)
    "proved": ("∎", "Decided by enumeration or algebra, in the cases that the check names; no sampling is involved."),
    "consistent": (
        "✓",
        "Measured, and inside the stated margin with the stated error rate. Not a proof: a violation "
        "smaller than the margin, or outside the inputs tried, would not be seen.",
    ),
    "refuted": (
        "✗",
        "False as stated: a counterexample was found, or an interval excludes the claim. Where “refuted” "
        "is also what was expected, nothing has failed: the claim is false, and the laboratory shows it.",
    ),
    "undecided": ("?", "The draws did not suffice, or a broken twin was not caught. Never counted as a success."),
    "vacuous": ("∅", "True but empty: the bound is at least 1, or asks for more features than there are keys."),
}
STATUS = {
    "as-expected": "Every proposition was decided as declared in advance.",
    "contradicted": "At least one verdict contradicts what was declared in advance.",
    "undecided": "No verdict contradicts what was declared in advance, but some propositions remain undecided.",
    "interrupted": "The run was interrupted: only propositions whose every check had finished are shown.",
}
KINDS = {"exact": "exact", "deterministic": "grid or search", "monte-carlo": "sampled", "data": "real activations"}


@dataclass(frozen=True)
class Section:
    """What the page shows of one proposition: its anchor, its decisive evidence and that on real activations."""

    anchor: str
    outcome: Outcome
    decisive: list[Evidence]
    data: list[Evidence]

    def belongs(self, chapter: Chapter) -> bool:
        """Whether ``chapter`` is about a system that this proposition is of."""
        return any(one is self.outcome for one in chapter.outcomes)

    def key(self, evidence: Evidence) -> str:
        """Return a name for the figure of ``evidence`` that no other figure of the page has."""
        everything = [*self.decisive, *self.data]
        return f"{self.anchor} {next(i for i, one in enumerate(everything) if one is evidence)}"


def page(report: Report) -> str:
    """Return ``report`` as one self-contained HTML page.

    The same report gives the same text, apart from seconds and the description of the machine. A figure
    that cannot be drawn is replaced by the reason.

    >>> import schoenbat_theory as st
    >>> page(st.verify("P01", workers=1)).startswith("<!doctype html>")
    True
    """
    anchors: dict[str, Outcome] = {}
    sections = []
    for outcome in report.outcomes:
        anchor = unused(slug(outcome.proposition.id), anchors)
        anchors[anchor.lower()] = outcome
        data = [e for e in outcome.evidence if e.kind == "data"]
        sections.append(Section(anchor, outcome, [e for e in outcome.evidence if e.kind != "data"], data))
    return render(
        "report.html.j2",
        report=report,
        sections=sections,
        chapters=chapters(report),
        verdicts=VERDICTS,
        status=STATUS[report.status],
        kinds=KINDS,
    )


def render(template: str, **names: Any) -> str:
    """Return one of the templates of this package as text, filled with ``names`` and the description of the machine."""
    return _environment().get_template(template).render(machine=_machine(), **names)


def save(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write verify.json, report.html and figures/ into ``folder``, afresh, and return their paths.

    Everything is made before anything is written, so that a failure leaves the old files as they were;
    figures of an earlier run are removed.
    """
    texts = {"verify.json": report.to_json(), "report.html": page(report)}
    return write_folder(texts | {f"figures/{name}": text for name, text in _figures(report).items()}, folder)


def write_folder(texts: Mapping[str, str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``texts``, path -> text, into ``folder`` and its figures/, of which older figures go; return the paths."""
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for old in (folder / "figures").glob("*.svg"):
        old.unlink()
    return _written(texts, folder)


def save_figures(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one SVG file per evidence that has a figure, e.g. ``P05-sampled.svg``; return their paths.

    ``folder``   is made if it is missing; names hold letters, digits and hyphens only. A figure that
                 cannot be drawn is left out; the page says why.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    return _written(_figures(report), Path(folder))


def _figures(report: Report) -> dict[str, str]:
    """Return the SVG files of all figures that can be drawn, by file name."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for outcome in report.outcomes:
        for evidence in outcome.evidence:
            if evidence.figure is not None:
                stem = unused(f"{slug(outcome.proposition.id)}-{slug(evidence.name).lower()}", taken)
                taken.add(stem.lower())
                text, _ = _drawn(plots.svg_file, evidence, stem)
                if text is not None:
                    files[f"{stem}.svg"] = text
    return files


def _drawn(draw: Callable[[Evidence, str], str], evidence: Evidence, key: str) -> tuple[str | None, str]:
    """Return (the figure, "") or (None, why it cannot be drawn).

    Whatever a user's data does to matplotlib: the numbers must not be lost with the picture.
    """
    try:
        return draw(evidence, key), ""
    except Exception as reason:
        return None, str(reason) if isinstance(reason, ValueError) else f"{type(reason).__name__}: {reason}"


def _written(texts: Mapping[str, str], folder: Path) -> list[Path]:
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts]


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("schoenbat_theory", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"prose": _prose, "interval": _interval, "decimal": decimal, "count": "{:,}".format}
    found.globals |= {"figure": _figure, "width": _width, "reading": plots.reading, "undrawn": undrawn}
    return found


def _prose(text: str) -> Markup:
    """Return a proposition's text as HTML; a web address loses its scheme, since the page names none."""
    return Markup(inline_math(re.sub(r"https?://", "", text)))


def _figure(evidence: Evidence, key: str) -> Markup:
    text, reason = _drawn(lambda one, name: plots.svg(one, key=name), evidence, key)
    return Markup("<p>This figure cannot be drawn. {}</p>").format(reason) if text is None else Markup(text)


def _width(evidence: Evidence) -> float | None:
    return None if evidence.interval is None else evidence.interval[1] - evidence.interval[0]


def _interval(evidence: Evidence) -> str:
    if evidence.interval is None:
        return "–"
    low, high = (decimal(limit, _width(evidence)) for limit in evidence.interval)
    return f"[{low}, {high}]"


def _machine() -> dict[str, str]:
    """Return `environment` as pairs of texts."""
    return {key: _flat(value) for key, value in environment().items()}


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return "; ".join(_flat(one) for one in value)
    return str(value)
