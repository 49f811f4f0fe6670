"""A trial: one run of a check on an estimator whose distance from the claim is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from schoenbat_theory.confidence import binomial_limits
from schoenbat_theory.propositions import Evidence

__all__ = ["GROUPS", "KINDS", "LEVEL", "Decide", "Tally", "Trial"]

Decide = Callable[[np.random.Generator, float], Evidence]  # (rng, alpha) -> one run of a check
LEVEL = 0.01  # of the exact binomial limits that are printed: 0.5 % on each side

GROUPS = {  # group: the verdict that is counted
    "on target": "refuted",  # a correct estimator, and a margin too small to be resolved: a false accusation
    "at the edge": "refuted",  # off by exactly the margin, the worst case of a correct one: a false accusation
    "just beyond": "consistent",  # off by 1.02 margins: a false confirmation
    "twin": "refuted",  # the library, unbroken, before the check of a mutant: a false accusation
    "out of range": "refuted",  # a correct estimator that an asymptotic interval is not made for: a false accusation
    "mutant": "refuted",  # the library, broken: caught
    "curve": "refuted",  # a synthetic estimator, off by ``effect`` margins: detected
}

KINDS = {  # kind of check: what it is
    "Catoni": "check_mean with a known variance",
    "betting": "check_mean with known bounds",
    "Student's t": "check_mean with neither: asymptotic",
    "tail": "check_tail",
    "rate": "check_rate: asymptotic",
    "plateau": "check_rate, off at the largest size alone: asymptotic",
}


@dataclass(frozen=True)
class Trial:
    """What is tried again and again.

    ``group``   a key of `GROUPS`;  ``kind``  of check, a key of `KINDS`;  ``name``  the estimator or the mutant
    ``effect``  distance from the claim in units of the margin: of the band for a rate, of the bound for a tail
    ``decide``  (rng, alpha) -> Evidence, one run;  ``look``  what the check looks at
    """

    group: str
    kind: str
    name: str
    effect: float
    decide: Decide = field(repr=False)
    look: str = ""

    @property
    def asymptotic(self) -> bool:
        """Whether the check is named so, and its error rate is only approached."""
        return "asymptotic" in KINDS[self.kind]

    @property
    def address(self) -> tuple[str, str, str, str]:
        """Where the streams of its runs are; no two trials share one."""
        return self.group, self.kind, self.name, f"{self.effect:g}"


@dataclass
class Tally:
    """The verdicts of the runs of one trial, and the draws of those that are counted."""

    trial: Trial
    verdicts: Counter[str] = field(default_factory=Counter)
    draws: list[int] = field(default_factory=list)

    def add(self, verdict: str, draws: int) -> None:
        """Take in one run."""
        self.verdicts[verdict] += 1
        if verdict == GROUPS[self.trial.group]:
            self.draws.append(draws)

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return sum(self.verdicts.values())

    @property
    def count(self) -> int:
        """How many had the verdict that is counted."""
        return len(self.draws)

    @property
    def rate(self) -> float:
        """The share of them."""
        return self.count / self.runs

    @property
    def limits(self) -> tuple[float, float]:
        """Exact binomial limits of their probability, 99 % two-sided.

        >>> from schoenbat_theory.propositions import decide
        >>> tally = Tally(Trial("mutant", "tail", "x", 2.0, lambda rng, alpha: decide(False, because="it is")))
        >>> for _ in range(2000):
        ...     tally.add("refuted", 1)
        >>> [round(limit, 4) for limit in tally.limits]  # 0.005 ** (1 / 2000)
        [0.9974, 1.0]
        """
        lower, upper = binomial_limits(np.asarray(self.count), self.runs, LEVEL)
        return float(lower), float(upper)

    @property
    def median_draws(self) -> float | None:
        """Draws until the verdict that is counted, the median over the runs that had it."""
        return float(np.median(self.draws)) if self.draws else None
