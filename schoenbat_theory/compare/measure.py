"""Measure the methods on one head: errors draw by draw, and the widths that one budget of multiply-adds allows."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from schoenbat_theory.activations import Head
from schoenbat_theory.cells import CheckError, turn
from schoenbat_theory.compare.methods import REFERENCE, Approximation, Method, too_many
from schoenbat_theory.compare.results import BASELINE, ROUNDING, Result, Target, finite
from schoenbat_theory.compare.targets import Problem, problem
from schoenbat_theory.sampling import stream
from schoenbat_theory.sweep import sweep

__all__ = ["Entry", "Job", "Measured", "Plan", "alone", "swept"]

MANY = 64  # draws of the reference
LARGEST = 1 << 13  # a width that says: as wide as you are
STEP = 8  # widths within a budget are multiples of this
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


@dataclass(frozen=True)
class Plan:
    """Find the largest width of each method that costs no more than `REFERENCE` does at the middle one of ``widths``.

    The cost of a method is the mean over its draws; that of the reference the mean over `MANY`, the same ones for all
    kernels. A map whose only width is beyond all ``widths`` enters at its own, so that none is left out in silence.
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

    def run(self, settings: Any = None) -> tuple[float | None, list[Entry]]:
        """Return the budget, the entries within it, and those of maps that are wider than all widths asked for."""
        del settings
        with alone():
            target = problem(self.setting, self.kernel, self.head)
            if target.exact is None or self.setting not in REFERENCE.settings:
                return None, []
            middle = self.widths[len(self.widths) // 2]
            law, rng = REFERENCE.law(target, middle), stream(self.seed, "compare", "budget", str(middle))
            budget = _mean_cost(REFERENCE.draw(law, target, rng) for _ in range(MANY))
            assert budget is not None
            mine = [one for one in self.chosen if self.setting in one.settings]
            entries = [*(self._largest(one, target, budget) for one in mine), *(self._own(one, target) for one in mine)]
        return budget, [one for one in entries if one is not None]

    def _own(self, method: Method, target: Problem) -> Entry | None:
        """Return an entry at the width that a map has by itself, where it fits into none of those asked for."""
        with _named(method, self.where, {}):
            if method.sized and all(Entry(method, width).unfitted(target) is None for width in self.widths):
                width = getattr(Entry(method, None).unfitted(target), "n_features", LARGEST)
                return Entry(method, None) if width < LARGEST else None
        return None

    def _largest(self, method: Method, target: Problem, budget: float) -> Entry | None:
        if method.family == BASELINE:
            return None
        with _named(method, self.where, {}):  # a job notes who refuses
            high = int(budget / target.target.e) // STEP + 1  # in steps: there the sums alone are dearer
            law = Entry(method, high * STEP).fitted(target) if method.sized else None
            own = getattr(law, "n_features", high * STEP)  # less where the width is fixed
            if not method.sized or own <= (high - 1) * STEP:
                entry = Entry(method, own if method.sized else None, "multiply-adds")
                return entry if self._fits(entry, target, budget) else None
            low = 0
            while high - low > 1:
                middle = (low + high) // 2
                fits = self._fits(Entry(method, middle * STEP), target, budget)
                low, high = (middle, high) if fits else (low, middle)
            return Entry(method, low * STEP, "multiply-adds") if low else None
        return None

    def _fits(self, entry: Entry, target: Problem, budget: float) -> bool:
        law = entry.fitted(target)
        if law is None:
            return False
        cost = _mean_cost(entry.draw(law, target, self.seed, index) for index in range(self.draws))
        return cost is not None and cost <= budget


class Measured(NamedTuple):
    """What a job found; ``refused`` method -> why it does not answer."""

    target: Target
    results: list[Result]
    refused: dict[str, str]


@dataclass(frozen=True)
class Job:
    """Measure entries against one target on one head."""

    setting: str
    kernel: str
    head: Head = field(repr=False)
    entries: Sequence[Entry] = field(repr=False)
    draws: int
    seed: int

    @property
    def where(self) -> str:
        """What it is about, for error messages."""
        return f"{self.setting} {self.kernel}, {self.head.name}"

    def run(self, settings: Any = None) -> Measured:
        """Return the target, the result of every entry that enters, and which methods refuse; no more where there is no target."""
        del settings
        found, refused = list[Result](), dict[str, str]()
        with alone():
            target = problem(self.setting, self.kernel, self.head)
            for entry in self.entries if target.exact is not None else ():
                if self.setting in entry.method.settings:
                    with _named(entry.method, self.where, refused):
                        found += self._measured(entry, target)
        best = min((one.error for one in found if one.family == BASELINE and one.error is not None), default=0.0)
        return Measured(target.target, [replace(one, skill=_skill(one.error, best)) for one in found], refused)

    def _measured(self, entry: Entry, target: Problem) -> list[Result]:
        """Return the errors of the draws, before anything is known of skill; nothing where the method does not enter."""
        law = entry.fitted(target)
        if law is None:
            return []
        made: list[Approximation] = []
        errors: list[float | None] = []
        shares: list[float] = []
        for index in range(self.draws if entry.method.random and not _without_variance(law, target) else 1):
            one = entry.draw(law, target, self.seed, index)
            made.append(one)
            try:
                found = one.run()
            except ArithmeticError:  # a denominator of exactly 0, or an overflow
                errors.append(None)
                continue
            errors.append(finite(target.error(found.values)))
            shares += [] if found.nonpositive is None else [found.nonpositive]
        result = Result(
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
        )
        return [result]


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
    with turn(), threadpoolctl.threadpool_limits(1), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _named(method: Method, where: str, refused: dict[str, str]) -> Iterator[None]:
    """Note a ``ValueError``, by which a method refuses what it cannot do; let any other error say which method it is of."""
    try:
        yield
    except ValueError as error:
        refused[method.name] = str(error)
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
