"""What the trials found: a table for a terminal, JSON, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from schoenbat_theory.environment import environment
from schoenbat_theory.files import json_text, write_whole
from schoenbat_theory.power.trial import GROUPS, KINDS, LEVEL, Tally
from schoenbat_theory.propositions import Evidence

__all__ = ["Power", "Record", "columns", "figure_of", "save", "to_json"]

WANTED = 0.99  # share of the runs in which a mutant must be caught
PLACES = ("on target", "at the edge", "just beyond")
FALSE = (*PLACES, "twin")  # groups in which the verdict that is counted is wrong


@dataclass(frozen=True)
class Power:
    """The tallies of `power`, and what is needed to repeat it."""

    tallies: list[Tally] = field(repr=False)
    runs: int
    seed: int
    alpha: float

    def group(self, *names: str) -> list[Tally]:
        """Return the tallies of these groups."""
        return [tally for tally in self.tallies if tally.trial.group in names]

    @property
    def contradictions(self) -> list[str]:
        """What was promised and is not so: a false-verdict rate surely above alpha, a mutant that escapes too often."""
        above = [t for t in self.group(*FALSE) if t.limits[0] > self.alpha]
        missed = [t for t in self.group("mutant") if t.rate < WANTED]
        return [f"{' / '.join(t.trial.address[:3])}: {t.count} of {t.runs}" for t in (*above, *missed)]

    @property
    def exit_code(self) -> int:
        """0 if nothing is contradicted, else 1."""
        return 1 if self.contradictions else 0

    def table(self) -> str:
        """Return the record as text for a terminal."""
        places = zip(*(self.group(place) for place in PLACES), strict=True)
        controls = [[row[0].trial.kind, row[0].trial.name, *map(_wrong, row)] for row in places]
        mutants = [
            [t.trial.name, t.trial.look, f"{t.trial.effect:.1f}", f"{t.count:,} of {t.runs:,}", f"{t.limits[0]:.1%}",
             f"{t.median_draws or 0:,.0f}"] for t in self.group("mutant")
        ]  # fmt: skip
        curves = [[kind, *(f"{t.rate:.0%}" for t in row)] for kind, row in self._curves().items()]
        parts = [
            f"Wrong verdicts at alpha = {self.alpha:g}, of runs (exact upper limit; limits hold with {1 - LEVEL / 2:.1%} each)",
            columns(["check", "correct estimator", *PLACES], controls),
            "\n".join(f"  {kind}: {meaning}" for kind, meaning in KINDS.items()),
            "The library, unbroken, accused, of runs (exact upper limit)",
            columns(["check", "accused"], [[t.trial.look, _wrong(t)] for t in self.group("twin")]),
            "Where an asymptotic interval fails: a correct estimator outside its range, accused",
            columns(["estimator", "accused"], [[t.trial.name, _wrong(t)] for t in self.group("out of range")]),
            "Mutants of the library: effect in margins, caught of runs, exact lower limit, median of the draws",
            columns(["mutant", "check", "effect", "caught", "at least", "draws"], mutants),
            "Power: share of runs refuted, by distance from the claim in margins",
            columns(["check", *(f"{effect:g}" for effect in self._effects())], curves),
        ]
        return "\n\n".join([*parts, "\n".join(self.summary())])

    def summary(self) -> list[str]:
        """Return the closing sentences."""
        false, mutants = self.group(*FALSE), self.group("mutant")
        sure, near = (max(t.limits[1] for t in false if t.trial.asymptotic is kind) for kind in (False, True))
        caught, least = sum(t.rate >= WANTED for t in mutants), min(t.limits[0] for t in mutants)
        return [
            f"False verdicts: at most {sure:.1%} in every row of a guaranteed check, {near:.1%} of an asymptotic one, "
            f"by exact limits; alpha is {self.alpha:.1%}.",
            f"Mutants: {caught} of {len(mutants)} caught in at least {WANTED:.0%} of runs, each with probability "
            f"{least:.1%} or more, by exact limits.",
            *(f"CONTRADICTED: {line}" for line in self.contradictions),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document, schema 1."""
        return {
            "schema": 1,
            "status": "contradicted" if self.contradictions else "as-expected",
            "seed": self.seed,
            "alpha": self.alpha,
            "runs": self.runs,
            "level": LEVEL,
            "environment": environment(),
            "trials": [_as_dict(tally) for tally in self.tallies],
        }

    def figures(self) -> dict[str, Evidence]:
        """Return file name -> evidence whose figure data `schoenbat_theory.plots` draws."""
        places = {place: self.group(place) for place in PLACES}
        names = [f"{t.trial.kind}: {t.trial.name}" for t in places[PLACES[0]]]
        rates = {place: [t.rate for t in row] for place, row in places.items()}
        mutants = {t.trial.name: t.trial.effect for t in self.group("mutant")}
        distance = "distance from the claim, in margins"
        axis = {"plot": "curves", "x": self._effects(), "x_label": distance}
        refuted = {kind: [t.rate for t in row] for kind, row in self._curves().items()}
        usual = {kind: [t.median_draws if t.rate >= 0.5 else None for t in row] for kind, row in self._curves().items()}
        return {
            "power": figure_of(
                "power of the checks", **axis, series=refuted, lines={"α": self.alpha}, y_label="share of runs refuted"
            ),
            "draws": figure_of("draws needed", **axis, series=usual, log_y=True, y_label="draws until refuted, median"),
            "false-verdicts": figure_of(
                "false verdicts",
                plot="bars",
                names=names,
                series={**rates, "α": [self.alpha] * len(names)},
                y_label="share of runs with a wrong verdict",
            ),
            "mutants": figure_of(
                "mutants of the library",
                plot="bars",
                names=list(mutants),
                series={distance: list(mutants.values())},
                y_label=distance,
                log=True,
            ),
        }

    def _effects(self) -> list[float]:
        return sorted({t.trial.effect for t in self.group("curve")})

    def _curves(self) -> dict[str, list[Tally]]:
        """Kind -> tallies by rising effect."""
        found: dict[str, list[Tally]] = {}
        for tally in sorted(self.group("curve"), key=lambda t: t.trial.effect):
            found.setdefault(tally.trial.kind, []).append(tally)
        return found


class Record(Protocol):
    """What can be saved: a JSON document and pictures."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document."""

    def figures(self) -> dict[str, Evidence]:
        """Return file name -> evidence with figure data."""


def to_json(record: Record) -> str:
    """Return the JSON document of a record as text."""
    return json_text(record.as_dict())


def save(record: Record, folder: Path, name: str) -> None:
    """Write ``name``.json and figures/ into ``folder``, which exists."""
    from schoenbat_theory import plots

    write_whole(folder / f"{name}.json", to_json(record))
    (folder / "figures").mkdir(exist_ok=True)
    for figure, evidence in record.figures().items():
        write_whole(folder / "figures" / f"{figure}.svg", plots.draw(evidence).file())


def figure_of(name: str, **figure: Any) -> Evidence:
    """Return figure data as evidence that `schoenbat_theory.plots` draws."""
    return Evidence(None, "data", name=name, figure=figure)


def _wrong(tally: Tally) -> str:
    return f"{tally.count:,} of {tally.runs:,} (≤ {tally.limits[1]:.1%})"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows set in columns, indented by two."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def _as_dict(tally: Tally) -> dict[str, Any]:
    trial = tally.trial
    return {
        "group": trial.group,
        "kind": trial.kind,
        "name": trial.name,
        "check": trial.look,
        "effect": trial.effect,
        "runs": tally.runs,
        "verdicts": dict(sorted(tally.verdicts.items())),
        "counted": GROUPS[trial.group],
        "rate": tally.rate,
        "limits": list(tally.limits),
        "median_draws": tally.median_draws,
    }
