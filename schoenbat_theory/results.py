"""What a run of propositions found: as objects, as a table for a terminal, as JSON; the page is in `report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schoenbat_theory.environment import environment
from schoenbat_theory.files import json_text, kept
from schoenbat_theory.markup import decimal, table
from schoenbat_theory.propositions import Evidence, Proposition, check_name, combine, json_number

__all__ = ["Outcome", "Report", "columns"]


@dataclass
class Outcome:
    """One proposition, the evidence for it, and how its mutants fared."""

    proposition: Proposition
    found: dict[str, dict[str, list[Evidence]]] = field(default_factory=lambda: {"checks": {}, "mutants": {}})

    def add(self, kind: str, check: str, evidence: Sequence[Evidence]) -> None:
        """Take in the evidence of one cell; ``kind`` is "checks" or "mutants"."""
        self.found[kind][check] = list(evidence)

    @property
    def complete(self) -> bool:
        """Whether every cell has reported."""
        p = self.proposition
        return len(self.found["checks"]) == len(p.checks) and len(self.found["mutants"]) == len(p.mutants)

    @property
    def evidence(self) -> list[Evidence]:
        """Evidence of the checks, in the order of the proposition."""
        return self._in_order("checks")

    @property
    def mutants(self) -> list[Evidence]:
        """Evidence against the mutants, in the order of the proposition."""
        return self._in_order("mutants")

    @property
    def escaped(self) -> list[str]:
        """Mutants that were not refuted; a check that lets one pass decides nothing."""
        return [one.name for one in self.mutants if one.verdict != "refuted"]

    @property
    def verdict(self) -> str:
        """The verdict on the proposition: "undecided" where a mutant escaped."""
        if self.escaped:
            return "undecided"
        return combine([one.verdict for one in self.evidence])

    @property
    def seconds(self) -> float:
        """Time of all cells together."""
        return sum(one.seconds for one in (*self.evidence, *self.mutants))

    def _in_order(self, kind: str) -> list[Evidence]:
        done = self.found[kind]
        return [e for check in getattr(self.proposition, kind) for e in done.get(check_name(check), [])]


@dataclass
class Report:
    """The result of `verify`: outcomes in order, and everything needed to repeat the run."""

    all_outcomes: list[Outcome] = field(repr=False)
    seed: int
    alpha: float
    budget: str
    backend: str
    data: str
    interrupted: bool = False

    def interrupt(self) -> None:
        """Mark the run as interrupted; only propositions whose every cell reported are kept."""
        self.interrupted = True

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of the propositions that were decided."""
        return [outcome for outcome in self.all_outcomes if outcome.complete]

    @property
    def evidence(self) -> list[Evidence]:
        """All evidence, proposition by proposition, mutants left out."""
        return [evidence for outcome in self.outcomes for evidence in outcome.evidence]

    @property
    def status(self) -> str:
        """One of "as-expected", "contradicted", "undecided", "interrupted"."""
        if self.interrupted:
            return "interrupted"
        surprises = [o.verdict for o in self.outcomes if o.verdict != o.proposition.expected]
        if any(verdict != "undecided" for verdict in surprises):
            return "contradicted"
        return "undecided" if surprises else "as-expected"

    @property
    def exit_code(self) -> int:
        """Exit code of the command line: 0, 1, 3 or 130, in the order of `status`."""
        return {"as-expected": 0, "contradicted": 1, "undecided": 3, "interrupted": 130}[self.status]

    @property
    def alpha_spent(self) -> tuple[float, float]:
        """Total error rate of the guaranteed and of the asymptotic checks, by the union bound."""
        spent = [sum(float(e.alpha) for e in self.evidence if bool(e.guaranteed) is kind) for kind in (True, False)]
        return spent[0], spent[1]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document: schema 1, no NaN or infinity in it."""
        return {
            "schema": 1,
            "status": self.status,
            "seed": self.seed,
            "alpha": self.alpha,
            "budget": self.budget,
            "backend": self.backend,
            "data": self.data,
            "environment": environment(),
            "propositions": [_outcome_dict(outcome) for outcome in self.outcomes],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the JSON document, and write it to ``path``, whole or not at all, if one is given."""
        return kept(json_text(self.as_dict()), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the report as one self-contained HTML page, and write it to ``path`` if one is given."""
        from schoenbat_theory.report import page  # jinja2 and matplotlib are needed from here on

        return kept(page(self), path)

    def table(self) -> str:
        """Return verdicts and numbers as text for a terminal."""
        lines = [f"{'id':<5} {'expected':<11} {'verdict':<11}    {'mutants':<8} {'seconds':>7}  statement in short"]
        for o in self.outcomes:
            mark = "as expected" if o.verdict == o.proposition.expected else "NOT AS EXPECTED"
            caught = f"{len(o.mutants) - len(o.escaped)}/{len(o.mutants)}" if o.mutants else "-"
            sign = "✓" if mark == "as expected" else "✗"
            lines.append(
                f"{o.proposition.id:<5} {o.proposition.expected:<11} {o.verdict:<11} {sign}  {caught:<8} "
                f"{o.seconds:>7.1f}  {o.proposition.title}"
            )
        header, rows = self.activations()
        if rows:
            lines += ["", f"On real activations ({self.data}): numbers, no verdict.", ""]
            lines += columns([header, *rows])
        return "\n".join([*lines, "", *self.summary()])

    def activations(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of one table of all "data" evidence: per quantity the smallest, median and largest head."""
        found: dict[str, list[Evidence]] = {}
        for o in self.outcomes:
            for e in o.evidence:
                if e.kind == "data" and e.measured is not None:
                    quantity = (
                        e.name.rpartition(": ")[0] or e.name
                    )  # without a colon: one number, of no head in particular
                    found.setdefault(f"{o.proposition.id} {quantity}", []).append(e)
        rows = []
        for quantity, several in found.items():
            several.sort(key=lambda e: float(e.measured or 0.0))
            chosen = several[0], several[len(several) // 2], several[-1]
            rows.append(
                [quantity, *(_measured(e) if len(several) > 1 or i == 1 else "–" for i, e in enumerate(chosen))]
            )
        return ["", "smallest head", "median", "largest head"], rows

    def summary(self) -> list[str]:
        """Return the closing sentences: how many as expected, and which error rate stands behind them."""
        expected = sum(o.verdict == o.proposition.expected for o in self.outcomes)
        guaranteed, asymptotic = self.alpha_spent
        lines = [f"{expected} of {len(self.all_outcomes)} propositions decided as expected ({self.status})."]
        lines += [
            f"{o.proposition.id}: mutants not refuted: {', '.join(o.escaped)}; a check that passes them decides nothing."
            for o in self.outcomes
            if o.escaped
        ]
        lines.append(
            "Probability of a wrong sampled verdict, by the union bound: "
            f"at most {decimal(guaranteed, guaranteed)} in guaranteed checks (given their variances and bounds), "
            f"about {decimal(asymptotic, asymptotic)} in asymptotic ones."
        )
        return lines

    def _repr_html_(self) -> str:
        rows = [(o.proposition.id, o.proposition.title, o.proposition.expected, o.verdict) for o in self.outcomes]
        return table(("id", "proposition", "expected", "verdict"), rows, " ".join(self.summary()))


def _measured(e: Evidence) -> str:
    spread = None if e.interval is None else e.interval[1] - e.interval[0]
    return decimal(e.measured, spread or abs(e.measured or 0.0) / 10)


def columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Set a table in columns, one line per row: the first to the left, the others, numbers, to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in table
    ]


def _outcome_dict(outcome: Outcome) -> dict[str, Any]:
    p = outcome.proposition
    return {
        "id": p.id,
        "title": p.title,
        "source": p.source,
        "expected": p.expected,
        "verdict": outcome.verdict,
        "seconds": round(outcome.seconds, 3),
        "evidence": [_evidence_dict(evidence) for evidence in outcome.evidence],
        "mutants": [{"name": e.name, "verdict": e.verdict} for e in outcome.mutants],
    }


def _evidence_dict(evidence: Evidence) -> dict[str, Any]:
    interval = evidence.interval
    return {
        "name": evidence.name,
        "kind": evidence.kind,
        "verdict": evidence.verdict,
        "measured": json_number(evidence.measured),
        "predicted": json_number(evidence.predicted),
        "interval": None if interval is None else [json_number(limit) for limit in interval],
        "draws": int(evidence.draws),  # NumPy's scalars are numbers in `Evidence`, and not in JSON
        "comparisons": int(evidence.comparisons),
        "inequality": evidence.inequality,
        "alpha": json_number(evidence.alpha),
        "guaranteed": bool(evidence.guaranteed),
        "note": evidence.note,
        "seconds": round(evidence.seconds, 3),
    }
