"""A report as one HTML page and as figures: no script, nothing fetched, formulas as MathML, figures as SVG.

Every text of a proposition is input: jinja2 escapes it, `markup.inline_math` escapes what surrounds a
formula, and matplotlib escapes what stands in a figure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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

__all__ = ["Gallery", "Section", "page", "render", "save", "save_figures", "write_folder"]

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


class Gallery:
    """The pictures of one run of pages and files: each is drawn once, however often it is shown."""

    def __init__(self) -> None:
        self._drawn: dict[int, tuple[Evidence, plots.Drawing | str]] = {}

    def draw(self, evidence: Evidence) -> plots.Drawing | str:
        """Return the picture of ``evidence``, or why there is none.

        Whatever a user's data does to matplotlib: the numbers must not be lost with the picture.
        """
        if id(evidence) not in self._drawn:
            found: plots.Drawing | str
            try:
                found = plots.draw(evidence)
            except Exception as reason:
                found = str(reason) if isinstance(reason, ValueError) else f"{type(reason).__name__}: {reason}"
            self._drawn[id(evidence)] = evidence, found  # kept alive, so that no other has its id
        return self._drawn[id(evidence)][1]

    def show(self, evidence: Evidence, key: str) -> Markup:
        """Return the picture as an element of a page; ``key`` as no other element there has it."""
        found = self.draw(evidence)
        if isinstance(found, str):
            return Markup("<p>This figure cannot be drawn. {}</p>").format(found)
        return Markup(found.element(key))

    def files(self, named: Mapping[str, Evidence]) -> dict[str, str]:
        """Return file name -> SVG of what is ``named``, without what cannot be drawn."""
        drawn = {name: self.draw(evidence) for name, evidence in named.items()}
        return {f"{name}.svg": found.file() for name, found in drawn.items() if not isinstance(found, str)}


def page(report: Report, gallery: Gallery | None = None) -> str:
    """Return ``report`` as one self-contained HTML page, with pictures from ``gallery`` or drawn for it.

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
        gallery or Gallery(),
        report=report,
        sections=sections,
        chapters=chapters(report),
        verdicts=VERDICTS,
        status=STATUS[report.status],
        kinds=KINDS,
    )


def render(template: str, gallery: Gallery, **names: Any) -> str:
    """Return one of the templates of this package as text, filled with ``names`` and the description of the machine."""
    return _environment().get_template(template).render(figure=gallery.show, machine=_machine(), **names)


def save(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write verify.json, report.html and figures/ into ``folder``, afresh, and return their paths.

    Everything is made before anything is written, so that a failure leaves the old files as they were;
    figures of an earlier run are removed.
    """
    gallery = Gallery()
    texts = {"verify.json": report.to_json(), "report.html": page(report, gallery)}
    return write_folder(texts, gallery.files(_named(report)), folder)


def write_folder(texts: Mapping[str, str], figures: Mapping[str, str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``texts``, name -> text, into ``folder`` and ``figures`` into its figures/, of which older ones go.

    Returns the paths.
    """
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for old in (folder / "figures").glob("*.svg"):
        old.unlink()
    return [*_written(texts, folder), *_written(figures, folder / "figures")]


def save_figures(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one SVG file per evidence that has a figure, e.g. ``P05-sampled.svg``; return their paths.

    ``folder``   is made if it is missing; names hold letters, digits and hyphens only. A figure that
                 cannot be drawn is left out; the page says why.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    return _written(Gallery().files(_named(report)), Path(folder))


def _named(report: Report) -> dict[str, Evidence]:
    """Return the evidence that has a figure, by the name of its file."""
    named: dict[str, Evidence] = {}
    taken: set[str] = set()
    for outcome in report.outcomes:
        for evidence in outcome.evidence:
            if evidence.figure is not None:
                stem = unused(f"{slug(outcome.proposition.id)}-{slug(evidence.name).lower()}", taken)
                taken.add(stem.lower())
                named[stem] = evidence
    return named


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
    found.globals |= {"width": _width, "reading": plots.reading, "undrawn": undrawn}
    return found


def _prose(text: str) -> Markup:
    """Return a proposition's text as HTML; a web address loses its scheme, since the page names none."""
    return Markup(inline_math(re.sub(r"https?://", "", text)))


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
