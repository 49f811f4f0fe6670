"""Measure the methods on one head: errors draw by draw, at widths asked for and at the largest within a budget."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.activations import Head
from schoenbat_theory.cells import CheckError, turn
from schoenbat_theory.compare.approximation import LARGEST, Approximation, Method, too_many
from schoenbat_theory.compare.budget import budget_of, width_within
from schoenbat_theory.compare.quantities import ROUNDING, finite
from schoenbat_theory.compare.results import BASELINE, Result, Target
from schoenbat_theory.compare.targets import Problem, problem
from schoenbat_theory.sampling import stream
from schoenbat_theory.sweep import sweep
from schoenbat_theory.threads import one_core

__all__ = ["Entry", "Job", "Measured", "alone", "swept"]

PAIRS = 8  # of tokens, on which a law without variance shows that it has none


@dataclass(frozen=True)
class Entry:
    """A method at a width, and why it is there; ``width`` is ``None`` where it has its own and leaves no choice."""

    method: Method
    width: int | None
    basis: str = "width"

    def unfitted(self, target: Problem) -> Any:
        """Return the law, or what is to be fitted first: it has ``fit`` and no ``draw``; ``None``: it does not enter."""
        return self.method.law(target, self.width or LARGEST)

    def is_fitted(self, target: Problem) -> bool:
        """Return whether there is anything to fit."""
        found = self.unfitted(target)
        return hasattr(found, "fit") and not hasattr(found, "draw")

    def fitted(self, target: Problem) -> Any:
        """Return the law, fitted to queries and keys where it is to be; ``None``: it does not enter."""
        law = self.unfitted(target)
        if self.is_fitted(target):
            law = law.fit(target.q, target.k)
        return None if hasattr(law, "points") and too_many(target, law.n_features) else law

    def draw(self, law: Any, target: Problem, seed: int, index: int) -> Approximation:
        """Return the draw of this number; its stream has an address and no position."""
        setting, kernel, head = target.target.setting, target.target.kernel, target.target.head
        address = "compare", setting, kernel, self.method.name, str(self.width), head, str(index)
        return self.method.draw(law, target, stream(seed, *address))


class Measured(NamedTuple):
    """What a job found; ``entries`` those of the results, one each;  ``refused`` method -> why it does not answer."""

    target: Target
    results: list[Result]
    entries: list[Entry]
    refused: dict[str, str]


@dataclass(frozen=True)
class Job:
    """Measure methods against one target on one head: at each of ``widths``, and at the largest within a budget.

    The budget is what a random Maclaurin map costs at the middle width; the cost of a method is the mean over its draws. A
    map whose only width is beyond all ``widths`` enters at its own, so that none is left out in silence.
    """

    setting: str
    kernel: str
    head: Head = field(repr=False)
    chosen: Sequence[Method] = field(repr=False)
    widths: Sequence[int]
    draws: int
    seed: int

    @property
    def where(self) -> str:
        """What it is about, for error messages."""
        return f"{self.setting} {self.kernel}, {self.head.name}"

    def run(self, settings: Any = None) -> Measured:
        """Return the target, the results of every method that enters, and which refuse; no more where there is no target."""
        del settings
        found, entries, refused = list[Result](), list[Entry](), dict[str, str]()
        with alone():
            target = problem(self.setting, self.kernel, self.head)
            budget = budget_of(target, self.widths[len(self.widths) // 2], self.seed)
            for method in self.chosen if target.exact is not None else ():
                if self.setting in method.settings:
                    with _named(method, self.where, refused):
                        for entry, result in self._results(method, target, budget):
                            entries.append(entry)
                            found.append(result)
        best = min((one.error for one in found if one.family == BASELINE and one.error is not None), default=0.0)
        scored = [replace(one, skill=_skill(one.error, best)) for one in found]
        return Measured(replace(target.target, budget=budget), scored, entries, refused)

    def _results(self, method: Method, target: Problem, budget: float | None) -> Iterator[tuple[Entry, Result]]:
        """Yield a method at all its widths, and what it comes to."""
        known = list[tuple[int, float]]()  # widths, and what they cost
        for entry in self._asked(method, target):
            result = self._measured(entry, target)
            if result is not None:
                yield entry, result
                if result.multiply_adds is not None and entry.width is not None and not result.chosen:
                    known.append((entry.width, result.multiply_adds))
        if budget is not None and method.family != BASELINE:
            width: int | None = 0
            with _named(method, self.where, {}):  # who refuses is noted at the widths asked for
                width = width_within(budget, method, target, lambda x: self._cost(Entry(method, x), target), known)
            entry = Entry(method, width, "multiply-adds")
            result = self._measured(entry, target) if width != 0 else None
            if result is not None:
                yield entry, result

    def _asked(self, method: Method, target: Problem) -> list[Entry]:
        """Return a method at the widths asked for, or at its own."""
        own = [Entry(method, None)]
        if not (method.sized and method.at_widths):
            return own
        asked = [Entry(method, width) for width in self.widths]
        if any(entry.unfitted(target) is not None for entry in asked):
            return asked
        return own if getattr(own[0].unfitted(target), "n_features", LARGEST) < LARGEST else []

    def _cost(self, entry: Entry, target: Problem) -> float:
        """Return the mean cost of the draws of an entry, infinite where it does not enter or does not say."""
        law = entry.fitted(target)
        cost = None if law is None else _mean_cost(self._drawn(entry, law, target))
        return math.inf if cost is None else cost

    def _drawn(self, entry: Entry, law: Any, target: Problem) -> Iterator[Approximation]:
        """Yield the draws of an entry, one where they are all alike."""
        alike = not entry.method.random or _without_variance(law, target)
        return (entry.draw(law, target, self.seed, index) for index in range(1 if alike else self.draws))

    def _measured(self, entry: Entry, target: Problem) -> Result | None:
        """Return the errors of the draws, before anything is known of skill; ``None`` where the method does not enter."""
        law = entry.fitted(target)
        if law is None:
            return None
        made: list[Approximation] = []
        errors: list[float | None] = []
        shares: list[float] = []
        chosen: list[str] = []
        for one in self._drawn(entry, law, target):
            try:
                found = one.run()
            except ArithmeticError:  # a denominator of exactly 0, or an overflow
                made.append(one)
                errors.append(None)
                continue
            made.append(one if found.multiply_adds is None else one._replace(multiply_adds=found.multiply_adds))
            errors.append(finite(target.error(found.values)))
            shares += [] if found.nonpositive is None else [found.nonpositive]
            chosen += [found.chosen] if found.chosen else []
        return Result(
            target=target.target.name,
            setting=self.setting,
            kernel=self.kernel,
            head=self.head.name,
            method=entry.method.name,
            family=entry.method.family,
            width=entry.width,
            basis=entry.basis,
            features=made[0].features,
            multiply_adds=_mean_cost(made),
            errors=tuple(errors),
            nonpositive=float(np.mean(shares)) if shares else None,
            chosen=tuple(chosen),
        )


def _mean_cost(draws: Iterable[Approximation]) -> float | None:
    """Return the mean of what draws cost, ``None`` where they do not say."""
    costs = [one.multiply_adds for one in draws]
    known = [one for one in costs if one is not None]
    return float(np.mean(known)) if known else None


def swept(jobs: Sequence[Any], workers: int | None, progress: bool = False) -> list[Any]:
    """Return what every job returns, in their order."""
    settings: Any = None  # jobs bring their own
    found: dict[int, Any] = dict(sweep(jobs, settings, workers=workers, progress=progress))
    return [found[i] for i in range(len(jobs))]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep BLAS to one thread and standard output to documents, as cells of a run do."""
    with turn(), one_core(), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _named(method: Method, where: str, refused: dict[str, str]) -> Iterator[None]:
    """Note a ``ValueError``, by which a method refuses what it cannot do; let any other error say which method it is of."""
    try:
        yield
    except ValueError as error:
        refused[method.name] = str(error)
    except CheckError:  # says so already
        raise
    except (Exception, SystemExit) as error:  # a map of your own may raise anything
        raise CheckError(f"{method.name} on {where}: {type(error).__name__}: {error}") from error


def _without_variance(law: Any, target: Problem) -> bool:
    """Return whether a law says that its draws are all alike."""
    if not hasattr(law, "variance"):
        return False
    try:
        pairs = min(PAIRS, target.target.n, target.target.m)
        found = law.variance(target.q[:pairs], target.k[:pairs])
    except (ValueError, ArithmeticError):  # there is none, or none that is known
        return False
    return found is not None and not np.any(found)


def _skill(error: float | None, best: float) -> float | None:
    """Return 1 - error / best, 0 where only rounding tells them apart; nothing is better than a baseline without error."""
    if error is None:
        return None
    if abs(error - best) <= ROUNDING:
        return 0.0
    return None if best <= ROUNDING else 1 - error / best
