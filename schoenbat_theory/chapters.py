"""Chapters of a report: its systems, with the propositions, pictures and numbers of this very report and the record of timed runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from schoenbat_theory.markup import short, span
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.results import Outcome, Report
from schoenbat_theory.systems import SYSTEMS, Picture, Sentence, System
from schoenbat_theory.timings import Timing, Timings, figures_of, installed_timings, notes_of, since, title_of

__all__ = ["Chapter", "chapters", "compare", "family", "held_by", "informed", "undrawn"]


@dataclass(frozen=True)
class Chapter:
    """What a report shows of a system; ``pictures`` and ``timed`` by a key that no other figure of the page has."""

    system: System
    outcomes: list[Outcome]
    sentences: list[str]
    pictures: dict[str, tuple[Picture, Evidence]] = field(repr=False)
    comparisons: dict[str, list[str]]  # of the record: how a scene was timed -> what came out
    timed: dict[str, Evidence] = field(repr=False)

    def shows(self, evidence: Evidence) -> bool:
        """Whether the figure of ``evidence`` is here."""
        return any(one is evidence for _, one in self.pictures.values())


def chapters(report: Report) -> list[Chapter]:
    """Return a chapter for every system that ``report`` has a proposition of.

    >>> import schoenbat_theory as st
    >>> [chapter.system.title for chapter in chapters(st.verify("P16", workers=1))]
    ['SchoenbAt']
    """
    found = []
    for system in SYSTEMS:
        outcomes = [one for one in report.outcomes if family(one.proposition.id) in system.propositions]
        if outcomes:
            found.append(_chapter(system, outcomes, _recorded(system.record)))
    return found


def _recorded(name: str) -> Timings:
    try:
        return installed_timings(name) or Timings({}, ())
    except (OSError, ValueError):  # a damaged record must not cost the report
        return Timings({}, ())


def _chapter(system: System, outcomes: list[Outcome], timings: Timings) -> Chapter:
    scenes = [scene for scene in system.scenes if timings.of(scene)]
    return Chapter(
        system,
        outcomes,
        [text for sentence in system.sentences if (text := _said(sentence, outcomes))],
        {f"{system.name} {p}": (p, one) for p in system.pictures if (one := _picture(p, outcomes))},
        {_conditions(timings, scene): _compared(scene, system, timings) for scene in scenes},
        {f"{scene} {e.name}": e for scene in scenes for e in figures_of(timings, scene)},
    )


def _conditions(timings: Timings, scene: str) -> str:
    """Return a sentence on where and how a scene was timed."""
    cells, machine = timings.of(scene), timings.environment
    one, runs = cells[0], span(len(cell.seconds) for cell in cells)
    widths = f"d = {one.d}, e = {one.e}, {machine['tokens']}" if one.d else f"{one.e} columns"
    threads = max((pool["num_threads"] for pool in machine["blas"]), default=1)
    return (
        f"{title_of(scene)}: timed on {machine['date']} on {machine['cpu']}, {machine['cores']} cores, BLAS on {threads}, in {one.dtype}, {widths}; "
        f"medians of {runs} runs in which the methods took turns; faster means by a tenth of the median or more, with quartiles that do "
        f"not overlap.{notes_of(cells)}"
    )


def _compared(scene: str, system: System, timings: Timings) -> list[str]:
    cells = timings.of(scene)
    said = [compare(timings, *one) for one in system.compared if one[0] == scene]
    return [text for text in (*said, held_by(cells), informed(cells)) if text]


def compare(timings: Timings, scene: str, ours: str, theirs: str) -> str:
    """Return sentences on two methods of a scene at the largest n that both reached; empty if there is none."""
    pairs = [(a, b) for a in timings.of(scene, ours) for b in timings.of(scene, theirs) if a.n == b.n]
    if not pairs:
        return ""
    a, b = pairs[-1]
    first = since({one.n: one.faster(other) for one, other in pairs})
    turn = (
        f"Among the lengths timed, {ours} is faster from n = {first:,} on."
        if first is not None
        else f"Up to n = {a.n:,}, the longest that both were timed at, {ours} is not faster."
    )
    return f"At n = {a.n:,} {_measured(a)}; {_measured(b)}. {turn}"


def _measured(cell: Timing) -> str:
    said = f"{cell.method} takes {short(cell.median)} s and {short(cell.peak_bytes / 1e6)} MB"
    if cell.size is None:
        return said
    return f"{said}, and errs by {short(cell.error)}, an answer without information by {short(cell.baseline)}"


def held_by(cells: Sequence[Timing]) -> str:
    """Say what approximations and exact methods hold, and from which length on the ones hold less than the others."""
    methods, held = {cell.method for cell in cells}, dict[int, tuple[list[float], list[float]]]()
    for n in sorted({cell.n for cell in cells}):
        there = [cell for cell in cells if cell.n == n]
        near, exact = ([c.peak_bytes / 1e6 for c in there if (c.size is None) is one] for one in (False, True))
        if near and exact and {cell.method for cell in there} == methods:
            held[n] = near, exact
    if not held:
        return ""
    n = max(held)
    said = f"At n = {n:,} the approximations hold {span(held[n][0])} MB, the exact methods {span(held[n][1])} MB."
    if first := since({n: max(exact) < min(near) for n, (near, exact) in held.items()}):
        turn = "every exact method holds less than every approximation: an approximation saves time there, if anything"
        return f"{said} From n = {first:,} on {turn}."
    if first := since({n: max(near) < min(exact) for n, (near, exact) in held.items()}):
        return f"{said} From n = {first:,} on every approximation holds less than every exact method."
    return said


def informed(cells: Sequence[Timing]) -> str:
    """Say how the errors of approximations compare with that of an answer without information."""
    found: dict[str, dict[int, float]] = {}
    for cell in cells:
        if cell.size is not None:
            found.setdefault(cell.method, {})[cell.n] = cell.error / cell.baseline
    common = set.intersection(*map(set, found.values())) if found else None
    if not common:
        return ""
    n = max(common)
    now = "; ".join(f"{short(ratio[n])} for {method}" for method, ratio in found.items())
    worse = {method: sum(x >= 1 for x in ratio.values()) for method, ratio in found.items()}
    often = "; ".join(f"at {k} of {len(found[method])} lengths for {method}" for method, k in worse.items() if k)
    return (
        f"At n = {n:,} the error, divided by that of an answer without information, is {now}. "
        + (f"It is 1 or more, no better than that answer, {often}." if often else "It is below 1 at every length timed.")
    )  # fmt: skip


def undrawn(evidence: Sequence[Evidence], chapters: Sequence[Chapter]) -> list[Evidence]:
    """Return the evidence that has a figure which no chapter shows."""
    return [one for one in evidence if one.figure and not any(chapter.shows(one) for chapter in chapters)]


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
