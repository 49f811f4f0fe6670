"""The results of one method on all heads in one row: medians, the worst head, and how many heads it serves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schoenbat_theory.compare.quantities import finite, median, or_inf
from schoenbat_theory.compare.results import Result

__all__ = ["Row", "row_of"]


@dataclass(frozen=True)
class Row:
    """The results of one method against one target on all heads: medians over heads, and the worst head.

    ``features, multiply_adds``  medians over the heads on which they are known
    ``error, worst``  ``None``: undefined;  ``skill``  median over heads, an undefined one counted as minus infinity;
    ``nonpositive``   mean over heads;  ``seconds, fit_seconds, peak_bytes``  on the head that is timed
    ``heads``         how many there are;  ``wins``  on how many of them the skill is positive
    """

    target: str
    setting: str
    kernel: str
    method: str
    family: str
    width: int | None
    basis: str
    features: int | None
    multiply_adds: float | None
    error: float | None
    worst: float | None
    skill: float | None
    nonpositive: float | None
    seconds: float | None
    fit_seconds: float | None
    peak_bytes: int | None
    heads: int
    wins: int

    @property
    def total_seconds(self) -> float | None:
        """Seconds of one attention with its fit, ``None`` where it was not timed."""
        return None if self.seconds is None else self.seconds + (self.fit_seconds or 0.0)

    @property
    def better(self) -> bool:
        """Whether more than half of the heads are approximated better than by the means of their values."""
        return 2 * self.wins > self.heads


def row_of(group: Sequence[Result]) -> Row:
    """Return the results of one method on all heads as one row."""
    first = group[0]
    errors = [or_inf(one.error) for one in group]
    skills = [-math.inf if one.skill is None else one.skill for one in group]
    shares = [one.nonpositive for one in group if one.nonpositive is not None]
    features = [one.features for one in group if one.features is not None]
    costs = [one.multiply_adds for one in group if one.multiply_adds is not None]
    timed = next((one for one in group if one.seconds is not None), first)
    shared = {
        name: getattr(first, name) for name in ("target", "setting", "kernel", "method", "family", "width", "basis")
    }
    return Row(
        **shared,
        features=int(median(features)) if features else None,
        multiply_adds=median(costs) if costs else None,
        error=finite(median(errors)),
        worst=finite(max(errors)),
        skill=finite(median(skills)),
        nonpositive=float(np.mean(shares)) if shares else None,
        seconds=timed.seconds,
        fit_seconds=timed.fit_seconds,
        peak_bytes=timed.peak_bytes,
        heads=len(group),
        wins=sum(skill > 0 for skill in skills),
    )
