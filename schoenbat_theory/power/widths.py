"""How wide the confidence sequences are, and how often they miss, beside those of the package `ville`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special

from schoenbat_theory.arrays import require_int, require_real
from schoenbat_theory.checks.sequences import Asymptotic, Betting, EmpiricalBernstein, KnownVariance, MeanSequence
from schoenbat_theory.confidence import binomial_limits, looks
from schoenbat_theory.environment import environment
from schoenbat_theory.files import slug
from schoenbat_theory.power.controls import LAWS, Law
from schoenbat_theory.power.record import columns, figure_of
from schoenbat_theory.power.run import in_processes
from schoenbat_theory.power.trial import LEVEL
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.sampling import batch_means, stream

__all__ = ["Widths", "widths"]

LOOKS = looks(1 << 8, 1 << 16)
DATA = {
    **LAWS["betting"],
    "one feature": LAWS["Catoni"]["one feature"],
}
GUARANTEED = ("Catoni, variance known", "betting", "empirical Bernstein")
Limits = np.ndarray  # (2, looks): lower and upper


def _ours(law: Law, alpha: float) -> dict[str, MeanSequence]:
    """The sequences of `check_mean`, as it makes them."""
    mean, each = np.asarray(law.mean), alpha / len(LOOKS)
    found: dict[str, MeanSequence] = {
        "Catoni, variance known": KnownVariance(mean, law.sd**2, each),
        "Student's t, asymptotic": Asymptotic(mean, each),
    }
    if law.bounds is not None:
        found["betting"] = Betting(mean, law.bounds, alpha, LOOKS[-1])
        found["empirical Bernstein"] = EmpiricalBernstein(mean, law.bounds, alpha, LOOKS[-1])
    return found


def _peers(law: Law, alpha: float) -> dict[str, Any]:
    """The sequences of `ville`, with its defaults; none if it is not installed."""
    if (ville := _ville()) is None:
        return {}
    found = {"ville: asymptotic": ville.AsymptoticCS(alpha=alpha)}
    if law.bounds is not None:
        half = (law.bounds[1] - law.bounds[0]) / 2
        found["ville: betting"] = ville.BettingCS(bounds=law.bounds, alpha=alpha)
        found["ville: empirical Bernstein"] = ville.EmpiricalBernsteinCS(bounds=law.bounds, alpha=alpha)
        found["ville: sub-Gaussian mixture"] = ville.GaussianMixtureCS(sigma=half, alpha=alpha)
    return found


def _ville() -> Any:
    try:
        return importlib.import_module("ville")
    except ImportError:
        return None


def _one(name: str, run: int, seed: int, alpha: float) -> tuple[str, int, dict[str, Limits]]:
    """Return the limits of every sequence on one stream of data, at every look."""
    law = DATA[name]
    values = np.asarray(law.sample(stream(seed, "widths", name, str(run)), LOOKS[-1]), dtype=np.float64)
    found = {label: _follow(sequence, values, law.mean) for label, sequence in _ours(law, alpha).items()}
    for label, peer in _peers(law, alpha).items():
        peer.update(values)
        at = np.array(LOOKS) - 1
        found[label] = np.stack([peer.lower_[at], peer.upper_[at]])
    return name, run, found


def _follow(sequence: MeanSequence, values: np.ndarray, mean: float) -> Limits:
    done = 0

    def replay(rng: np.random.Generator, size: int) -> np.ndarray:
        nonlocal done
        done += size
        return values[done - size : done]

    batches = batch_means(replay, np.random.default_rng(0), LOOKS, (), np.asarray(mean), sequence.watch)
    return np.array([sequence.interval(*look) for look in batches]).T


@dataclass(frozen=True)
class Widths:
    """What `widths` found: data -> sequence -> limits of every run, (runs, 2, looks)."""

    limits: dict[str, dict[str, np.ndarray]] = field(repr=False)
    runs: int
    seed: int
    alpha: float

    def width(self, name: str, label: str) -> np.ndarray:
        """Return median widths at every look."""
        lower, upper = np.moveaxis(self.limits[name][label], 1, 0)
        return np.median(upper - lower, axis=0)

    def relative(self, name: str, label: str) -> np.ndarray:
        """Return median widths in units of the normal interval at that sample size alone, 2 z sd / sqrt(n)."""
        z = float(scipy.special.ndtri(1 - self.alpha / 2))
        return self.width(name, label) / (2 * z * DATA[name].sd / np.sqrt(LOOKS))

    def missed(self, name: str, label: str) -> int:
        """Return how many runs had the mean outside at one of the looks or more."""
        lower, upper = np.moveaxis(self.limits[name][label], 1, 0)
        mean = DATA[name].mean
        return int(np.sum(((lower > mean) | (upper < mean)).any(axis=1)))

    @property
    def exit_code(self) -> int:
        """1 if a guaranteed sequence of ours surely misses more often than alpha, else 0."""
        ours = [
            self.missed(name, label) for name, found in self.limits.items() for label in found if label in GUARANTEED
        ]
        return int(any(binomial_limits(np.asarray(missed), self.runs, LEVEL)[0] > self.alpha for missed in ours))

    def table(self) -> str:
        """Return widths and misses as text for a terminal."""
        shown = LOOKS[::2]
        parts = ["Median width, in units of the normal interval at that n alone; runs that missed the mean at any look"]
        for name, found in self.limits.items():
            rows = [
                [
                    label,
                    *(f"{x:.2f}" for x in self.relative(name, label)[::2]),
                    f"{self.missed(name, label)} of {self.runs}",
                ]
                for label in found
            ]
            parts += [name, columns(["sequence", *(f"n = {n:,}" for n in shown), "missed"], rows)]
        if not any(label.startswith("ville") for found in self.limits.values() for label in found):
            parts.append(
                'The package ville is not installed (pip install "schoenbat_theory[peers]"): its columns are left out.'
            )
        return "\n\n".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document, schema 1."""
        return {
            "schema": 1,
            "seed": self.seed,
            "alpha": self.alpha,
            "runs": self.runs,
            "environment": environment(),
            "ville": getattr(_ville(), "__version__", None),
            "looks": LOOKS,
            "data": {
                name: {
                    label: {"width": self.width(name, label).tolist(), "missed": self.missed(name, label)}
                    for label in found
                }
                for name, found in self.limits.items()
            },
        }

    def figures(self) -> dict[str, Evidence]:
        """Return file name -> evidence whose figure data `schoenbat_theory.plots` draws: widths, and one funnel."""
        drawn = {
            f"width-{slug(name)}": figure_of(
                f"width of confidence sequences: {name}",
                plot="curves",
                x=LOOKS,
                series={
                    label: self.relative(name, label).tolist()
                    for label in found
                    if DATA[name].bounds is None or "asymptotic" not in label  # six curves can be told apart
                },
                x_label="draws",
                y_label="width, in units of a single normal interval",
                log_x=True,
            )
            for name, found in self.limits.items()
        }
        name = next(iter(self.limits))
        first = {label: found[0] for label, found in self.limits[name].items() if label in GUARANTEED}
        drawn["funnel"] = figure_of(
            f"a funnel of confidence sequences: {name}",
            plot="curves",
            x=LOOKS,
            series={label: [None] * len(LOOKS) for label in first},
            bands={label: pair.tolist() for label, pair in first.items()},
            lines={"mean": DATA[name].mean},
            x_label="draws",
            y_label="limits of the mean",
            log_x=True,
        )
        return drawn


def widths(
    *, runs: int = 100, seed: int = 0, alpha: float = 0.05, workers: int | None = None, progress: bool = False
) -> Widths:
    """Follow confidence sequences from 256 to 65,536 draws, ours and those of `ville` on the same data.

    ``runs``  streams of each kind of data; the rest as in `power`. Without `ville` its columns are left out.
    Raises ``ValueError`` or ``TypeError`` for an argument that does not fit.
    """
    runs, seed = require_int("runs", runs, 1), require_int("seed", seed, 0)
    alpha = require_real("alpha", alpha, "a number in (0, 1)", lambda a: 0 < a < 1)
    workers = None if workers is None else require_int("workers", workers, 1)
    tasks = [(name, run, seed, alpha) for name in DATA for run in range(runs)]
    found = sorted(in_processes(_one, tasks, workers, progress), key=lambda one: one[1])
    limits = {name: [one for data, _, one in found if data == name] for name in DATA}
    stacked = {name: {label: np.stack([one[label] for one in row]) for label in row[0]} for name, row in limits.items()}
    return Widths(stacked, runs, seed, alpha)
