"""Chapters of a report: its systems, with the propositions, pictures and numbers of this very report and the record of timed runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from schoenbat_theory.propositions import Evidence
from schoenbat_theory.results import Outcome, Report
from schoenbat_theory.systems import SYSTEMS, Picture, Sentence, System
from schoenbat_theory.timings import Timings, installed_timings, short

__all__ = ["Chapter", "chapters", "family"]


@dataclass(frozen=True)
class Chapter:
    """What a report shows of a system; ``pictures`` and ``timed`` by a key that no other figure of the page has."""

    system: System
    outcomes: list[Outcome]
    sentences: list[str]
    pictures: dict[str, tuple[Picture, Evidence]] = field(repr=False)
    comparisons: dict[str, list[str]]  # of the record: how a scene was timed -> what came out
    timed: dict[str, Evidence] = field(repr=False)


def chapters(report: Report) -> list[Chapter]:
    """Return a chapter for every system that ``report`` has a proposition of.

    >>> import schoenbat_theory as st
    >>> [chapter.system.title for chapter in chapters(st.verify("P16", workers=1))]
    ['SchoenbAt']
    """
    try:
        timings = installed_timings() or Timings({}, ())
    except (OSError, ValueError):  # a damaged record must not cost the report
        timings = Timings({}, ())
    found = []
    for system in SYSTEMS:
        outcomes = [one for one in report.outcomes if family(one.proposition.id) in system.propositions]
        if outcomes:
            found.append(_chapter(system, outcomes, timings))
    return found


def _chapter(system: System, outcomes: list[Outcome], timings: Timings) -> Chapter:
    scenes = [scene for scene in system.scenes if timings.of(scene)]
    return Chapter(
        system,
        outcomes,
        [text for sentence in system.sentences if (text := _said(sentence, outcomes))],
        {f"{system.name} {p}": (p, one) for p in system.pictures if (one := _picture(p, outcomes))},
        {timings.conditions(scene): _compared(scene, system, timings) for scene in scenes},
        {f"{scene} {e.name}": e for scene in scenes for e in timings.figures(scene)},
    )


def _compared(scene: str, system: System, timings: Timings) -> list[str]:
    return [text for one in system.compared if one[0] == scene and (text := timings.compare(*one))]


def family(identity: str) -> str:
    """Return the id without the letter of a repair or of a vacuous bound."""
    return re.sub(r"(?<=\d)[A-Z]$", "", identity)


def _picture(wanted: Picture, outcomes: Sequence[Outcome]) -> Evidence | None:
    found = (e for e in _evidence(wanted.proposition, outcomes) if e.figure and wanted.words in e.name)
    return next(found, None)


def _evidence(identity: str, outcomes: Sequence[Outcome]) -> list[Evidence]:
    return [e for one in outcomes if one.proposition.id == identity for e in one.evidence]


def _said(sentence: Sentence, outcomes: Sequence[Outcome]) -> str:
    """Return the sentence with its numbers to three digits, or nothing."""
    values = []
    for number in sentence.numbers:
        named = (e for e in _evidence(number.proposition, outcomes) if number.words in e.name)
        found = [float(x) for e in named if (x := getattr(e, number.field)) is not None]
        if not found:
            return ""
        values.append(short(number.which(found)))
    return sentence.words % tuple(values)
