"""What an exam is made of: a table of laws, what each found against which bound, and one error for all failures."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, to_host
from schoenbat_theory.markup import plain, table
from schoenbat_theory.propositions import Evidence

__all__ = [
    "Exam",
    "ExamFailed",
    "Finding",
    "agree",
    "at_least",
    "at_most",
    "from_evidence",
    "holds",
    "not_examined",
    "positive",
    "reported",
    "sit",
    "unit",
    "worst",
]


@dataclass(frozen=True)
class Finding:
    """What one law found.

    ``verdict``    "holds", "fails", "undecided", "reported" (a number, no bound) or "not examined"
    ``found``      the number measured where it comes closest to its bound
    ``bound``      what it was compared with;  ``relation``  "<=", ">=" or ">", how it should stand to it
    ``note``       what was measured, or why nothing was
    ``law``, ``statement``   name and sentence of the law, filled in by the exam
    """

    verdict: str
    found: float | None = None
    bound: float | None = None
    relation: str = "<="
    note: str = ""
    law: str = ""
    statement: str = ""

    @property
    def fails(self) -> bool:
        """Whether the exam is failed by it: a law that could not be decided is not a law that holds."""
        return self.verdict in ("fails", "undecided")

    @property
    def numbers(self) -> str:
        """The comparison in figures."""
        if self.found is None:
            return ""
        return f"{self.found:.3g}" + ("" if self.bound is None else f" {self.relation} {self.bound:.3g}")

    def __str__(self) -> str:
        if self.fails and self.found is not None:
            wanted = "" if self.bound is None else f", the law asks for {self.relation} {self.bound:.6g}"
            return f"{self.law} ({self.statement}) {self.verdict}: found {self.found:.6g}{wanted}; {self.note}"
        return f"{self.law} ({self.statement}) {self.verdict}: {self.note}"


class ExamFailed(AssertionError):
    """Raised by an exam that is not passed; ``exam`` has every finding, not only the failures."""

    def __init__(self, exam: Exam) -> None:
        failed = exam.failures
        lines = "\n".join(f"  {finding}" for finding in failed)
        super().__init__(f"{exam.subject} fails {len(failed)} of {len(exam.findings)} laws:\n{lines}")
        self.exam = exam


@dataclass(frozen=True)
class Exam:
    """The findings of one exam, in the order of its laws.

    ``alpha``  probability with which a correct subject would be failed by the laws that draw samples; the part
               of it that rests on an asymptotic interval is named in their notes

    >>> exam = Exam("a subject", (Finding("holds", 0.0, 1e-15, law="is symmetric", statement="G = G^T"),))
    >>> print(exam)
    a subject: 1 law holds
      holds         is symmetric  0 <= 1e-15
    """

    subject: str
    findings: tuple[Finding, ...]
    alpha: float = 0.0

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that fail the exam."""
        return tuple(finding for finding in self.findings if finding.fails)

    @property
    def passed(self) -> bool:
        """Whether no law failed; laws that were not examined are listed as such."""
        return not self.failures

    def finding(self, law: str) -> Finding:
        """Return the finding of the law of that name; ``KeyError`` with the names there are."""
        for finding in self.findings:
            if finding.law == law:
                return finding
        raise KeyError(f"{law!r}: expected one of {', '.join(f.law for f in self.findings)}")

    def summary(self) -> str:
        """Return how many laws hold, fail, were reported or not examined, and the error rate."""
        verdicts = [finding.verdict for finding in self.findings]
        parts = []
        for verdict, one, more in _WORDS:
            count = verdicts.count(verdict)
            if count:
                parts.append(f"{count} {one if count == 1 else more}")
        rate = f"; error rate {self.alpha:g}" if self.alpha else ""
        return f"{self.subject}: {', '.join(parts)}{rate}"

    def table(self) -> str:
        """Return the findings as text for a terminal."""
        width = max((len(finding.law) for finding in self.findings), default=0)
        lines = [self.summary()]
        for f in self.findings:
            line = f"  {f.verdict:<13} {f.law:<{width}}  {f.numbers}"
            lines.append((line + (f"  ({plain(f.note)})" if f.note else "")).rstrip())
        return "\n".join(lines)

    __str__ = table

    def _repr_html_(self) -> str:
        rows = [(f.law, f.statement, f.verdict, f.numbers, f.note) for f in self.findings]
        return table(("law", "statement", "verdict", "found", "note"), rows, self.summary())


def sit(subject: str, case: Any, laws: Sequence[Callable[[Any], Finding]], alpha: float = 0.0) -> Exam:
    """Ask every law about ``case``; raise `ExamFailed` once, with all failures. What a law raises fails that law."""
    findings = []
    for law in laws:
        try:
            found = law(case)
        except Exception as error:  # whatever a broken subject raises is a failure of the law that met it
            found = Finding("fails", note=f"raised {type(error).__name__}: {error}")
        statement = (inspect.getdoc(law) or "").partition("\n\n")[0]
        findings.append(
            dataclasses.replace(found, law=law.__name__.replace("_", " "), statement=" ".join(statement.split()))
        )
    exam = Exam(subject, tuple(findings), alpha)
    if not exam.passed:
        raise ExamFailed(exam)
    return exam


def at_most(found: float, bound: float, note: str = "") -> Finding:
    """Return "holds" if found <= bound, "fails" otherwise and for NaN."""
    return Finding("holds" if found <= bound else "fails", float(found), float(bound), "<=", note)


def at_least(found: float, bound: float, note: str = "") -> Finding:
    """Return "holds" if found >= bound, "fails" otherwise and for NaN."""
    return Finding("holds" if found >= bound else "fails", float(found), float(bound), ">=", note)


def positive(found: float, note: str = "") -> Finding:
    """Return "holds" if found > 0, "fails" otherwise and for NaN."""
    return Finding("holds" if found > 0 else "fails", float(found), 0.0, ">", note)


def holds(note: str) -> Finding:
    """Return a finding without numbers: what was asked for is there."""
    return Finding("holds", note=note)


def agree(found: Array, expected: Array, bound: Any, note: str = "") -> Finding:
    """Compare two arrays entry by entry: |found - expected| <= bound; the worst entry is the finding."""
    a, b = (np.asarray(to_host(x), dtype=np.float64) for x in (found, expected))
    if a.shape != b.shape:
        return Finding("fails", note=f"{note}: shape {a.shape}, expected {b.shape}")
    error = np.abs(a - b)
    allowed = np.broadcast_to(np.asarray(bound, dtype=np.float64), error.shape)
    if not error.size:
        return at_most(0.0, 0.0, note)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(error == 0, 0.0, error / allowed)
    ratio = np.where(np.isnan(ratio) | np.isnan(allowed), math.inf, ratio)
    i = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return at_most(float(error[i]), float(allowed[i]), note)


def worst(*findings: Finding) -> Finding:
    """Return the first finding that fails, else the one that comes closest to its bound."""
    for finding in findings:
        if finding.fails:
            return finding
    return max(findings, key=lambda f: f.found / f.bound if f.found and f.bound else 0.0)


def not_examined(reason: str) -> Finding:
    """Return a finding that says openly that the law was not examined, and why."""
    return Finding("not examined", note=reason)


def reported(found: float, note: str) -> Finding:
    """Return a number that decides nothing."""
    return Finding("reported", float(found), None, "", note)


def from_evidence(evidence: Evidence, margin: str) -> Finding:
    """Return what `check_mean` found: the end of its interval that is farthest from the prediction, and the margin."""
    verdict = {"consistent": "holds", "refuted": "fails"}.get(str(evidence.verdict), "undecided")
    assert evidence.interval is not None
    assert evidence.predicted is not None
    low, high = evidence.interval
    width = evidence.figure["margin"] if evidence.figure else math.nan
    note = (
        f"mean {evidence.measured:.6g}, predicted {evidence.predicted:.6g}, interval [{low:.6g}, {high:.6g}], "
        f"{evidence.draws} draws, alpha {evidence.alpha:g}, {evidence.inequality}; margin {margin}"
    )
    farthest = max(abs(low - evidence.predicted), abs(high - evidence.predicted))
    return Finding(verdict, farthest, width, "<=", note)


def unit(dtype: Any) -> float:
    """Return the unit roundoff u of a NumPy dtype: half the gap between 1 and the next number."""
    return float(np.finfo(dtype).eps) / 2


_WORDS = (
    ("holds", "law holds", "laws hold"),
    ("fails", "fails", "fail"),
    ("undecided", "is undecided", "are undecided"),
    ("reported", "is reported", "are reported"),
    ("not examined", "was not examined", "were not examined"),
)
