"""Replicates per second of every kind of check, beside a loop that makes one after another, in paired repeats.

Ours is the whole check, intervals and verdict included; the loop only adds up. It is run on fewer replicates, and both are
counted per replicate. Both keep to one core, as each of the processes of `verify` does.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import schoenbat_theory as st
from schoenbat_theory.arrays import require_bool, require_int
from schoenbat_theory.benchmark import loop
from schoenbat_theory.benchmark.machine import machine
from schoenbat_theory.sampling import sign_sums, signs, stream
from schoenbat_theory.threads import one_core
from schoenbat_theory.timings import take_turns

__all__ = ["Contest", "Throughput", "Throughputs", "contests", "read_throughput", "throughput"]

PAIRS, DIM = 32, 64


@dataclass(frozen=True)
class Contest:
    """A kind of check: ``ours()`` and ``loop()`` each return how many replicates they made; ``replicate`` says of what."""

    kind: str
    replicate: str
    ours: Callable[[], int]
    loop: Callable[[], int]


@dataclass(frozen=True)
class Throughput:
    """One kind of check as it was timed.

    ``count, loop_count``      replicates of a repeat
    ``seconds, loop_seconds``  of every repeat; those with the same index belong together
    """

    kind: str
    replicate: str
    count: int
    loop_count: int
    seconds: tuple[float, ...]
    loop_seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Replicates per second, in the median."""
        return self.count / float(np.median(self.seconds))

    @property
    def loop_rate(self) -> float:
        """Replicates per second of the loop, in the median."""
        return self.loop_count / float(np.median(self.loop_seconds))

    @property
    def gain(self) -> float:
        """How many times as many replicates as the loop in the same time: the median over pairs of repeats."""
        pairs = np.array(self.loop_seconds) / np.array(self.seconds)
        return float(np.median(pairs)) * self.count / self.loop_count

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and what follows from them, as JSON holds them."""
        return {**dataclasses.asdict(self), "rate": self.rate, "loop_rate": self.loop_rate, "gain": self.gain}


@dataclass(frozen=True)
class Throughputs:
    """All kinds, and the machine that they were timed on."""

    environment: dict[str, Any]
    kinds: tuple[Throughput, ...]

    def lines(self) -> str:
        """Return the record as text: a line of JSON for the environment, then one for each kind."""
        documents = ({"schema": 1, "environment": self.environment}, *(one.as_dict() for one in self.kinds))
        return "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in documents)

    def table(self) -> str:
        """Return rates and gains as text for a terminal."""
        rows = [f"{'check':<26} {'a replicate is':<46} {'per second':>11} {'loop':>11} {'times':>8}"]
        rows += [
            f"{one.kind:<26} {one.replicate:<46} {one.rate:>11.3g} {one.loop_rate:>11.3g} {one.gain:>8.3g}"
            for one in self.kinds
        ]
        return "\n".join(rows)


def throughput(*, quick: bool = False, seed: int = 0, repeats: int = 5) -> Throughputs:
    """Time every kind of check beside its loop, in turns.

    ``quick``    few replicates: a look at whether all works, not at how fast it is
    ``seed``     root of the streams
    ``repeats``  of both

    >>> [one.kind for one in throughput(quick=True, repeats=1).kinds][:2]
    ['moments over pairs', 'mean']
    """
    quick, seed = require_bool("quick", quick), require_int("seed", seed, 0)
    repeats = require_int("repeats", repeats, 1)
    with one_core():
        found = [_timed(one, repeats) for one in contests(quick, seed)]
    return Throughputs(machine(seed=seed, quick=quick, cores_used=1), tuple(found))


def read_throughput(path: str | os.PathLike[str]) -> Throughputs:
    """Read a record; ``ValueError`` in one sentence for a file that is none."""
    try:
        first, *rest = map(json.loads, Path(path).read_text(encoding="utf-8").splitlines())
        return Throughputs(first["environment"], tuple(map(_read, rest)))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: expected a record of throughput, found something else") from None


def _read(one: dict[str, Any]) -> Throughput:
    seconds, loop_seconds = (tuple(map(float, one[name])) for name in ("seconds", "loop_seconds"))
    return Throughput(one["kind"], one["replicate"], one["count"], one["loop_count"], seconds, loop_seconds)


def contests(quick: bool, seed: int) -> list[Contest]:
    """Return the kinds of checks, with replicates of stated laws."""
    rng = stream(seed, "throughput")
    points = rng.normal(size=(2 * PAIRS, DIM))
    points /= 2 * np.linalg.norm(points, axis=1, keepdims=True)
    x, y = points[:PAIRS], points[PAIRS:]
    draws, few = (1 << 13, 1 << 6) if quick else (1 << 20, 1 << 12)
    widths = (4, 8, 16, 40) if quick else (64, 128, 256, 640)
    one, many = st.RandomMaclaurin("exp", 1), st.RandomMaclaurin("exp", 16)
    exponents = np.eye(16, dtype=np.int64)[:, None] + np.eye(16, dtype=np.int64)  # all products of two of sixteen signs
    exponents = exponents.reshape(-1, 16)
    d = 10 if quick else 16
    return [
        Contest(
            "moments over pairs",
            f"a feature at {PAIRS} x {PAIRS} pairs, d = {DIM}",
            lambda: _moments_of_pairs(points, rng, draws),
            lambda: _did(few, loop.moments_of_pairs(one, x, y, rng, few)),
        ),
        Contest(
            "mean",
            f"a feature at one pair, d = {DIM}",
            lambda: _mean(one, x[0], y[0], rng, draws),
            lambda: _did(few, loop.moments_of_pairs(one, x[:1], y[:1], rng, few)),
        ),
        Contest(
            "tail",
            f"an estimate by 16 features, d = {DIM}",
            lambda: _tail(many, x[0], y[0], rng, draws >> 3),
            lambda: _did(few, loop.exceedances(many, x[0], y[0], 0.5, rng, few)),
        ),
        Contest(
            "rate",
            f"a feature of an estimate, d = {DIM}",
            lambda: _rate(x[0], y[0], rng, widths, 4 if quick else 64),
            lambda: _did(sum(widths), loop.errors(one, x[0], y[0], widths, rng)),
        ),
        Contest(
            "enumeration",
            f"a sign vector of length {d}",
            lambda: _did(1 << d, st.product_moment(x[0, :d], y[0, :d], 2)),
            lambda: _did(1 << d, loop.enumerated_moment(x[0, :d], y[0, :d], 2)),
        ),
        Contest(
            "signs",
            "a sign",
            lambda: signs(rng, draws).size,
            lambda: loop.signs_by_choice(rng, draws).size,
        ),
        Contest(
            "moments of signs",
            f"{len(exponents)} products of two of 16 signs",
            lambda: _did(draws, sign_sums(rng, exponents, draws)),
            lambda: _did(draws >> 4, loop.sign_products(rng, exponents, draws >> 4)),
        ),
    ]


def _timed(contest: Contest, repeats: int) -> Throughput:
    counts: dict[bool, int] = {}

    def run(ours: bool) -> None:
        counts[ours] = contest.ours() if ours else contest.loop()

    seconds, loop_seconds = take_turns([lambda: run(True), lambda: run(False)], repeats)
    return Throughput(contest.kind, contest.replicate, counts[True], counts[False], seconds, loop_seconds)


def _did(count: int, result: Any) -> int:
    del result
    return count


def _moments_of_pairs(points: np.ndarray, rng: np.random.Generator, draws: int) -> int:
    """Decide mean and mean square of one feature's products over all pairs, in one check."""
    law, x, y = st.RandomMaclaurin("exp", 1), points[:PAIRS], points[PAIRS:]

    def powers(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = law.features(points, rng=rng, size=size)
        both = np.stack([drawn, drawn * drawn], axis=1)
        return both[..., :PAIRS], both[..., PAIRS:]

    mean, variance = law.mean(x[:, None], y[None]), law.variance(x[:, None], y[None])
    second = mean**2 + variance
    # E X^4 = sum_n 8 8^n a_n^4 M_4^n, and M_4 = E <w,x>^4 <w,y>^4 <= 105 |x|^4 |y|^4 (Khinchine, Cauchy-Schwarz).
    squares = np.sum(points**2, axis=1)
    fourth = 105 * np.multiply.outer(squares[:PAIRS], squares[PAIRS:]) ** 2
    a = law.kernel.coefficients(30)[:, None, None]
    fourth = np.sum(8 * a**4 * (8 * fourth) ** np.arange(31)[:, None, None], axis=0)
    target, known = np.stack([mean, second]), np.stack([variance, fourth])
    found = st.check_mean(
        st.OuterProducts(powers), target, margin=0.01 * np.sqrt(known), variance=known, rng=rng, max_draws=draws
    )
    return found.draws


def _mean(law: st.RandomMaclaurin, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int) -> int:
    variance = float(law.variance(x, y))
    return st.check_mean(
        lambda rng, size: law.estimates(x, y, rng=rng, size=size),
        law.mean(x, y),
        margin=0.005 * variance**0.5,
        variance=variance,
        rng=rng,
        max_draws=draws,
    ).draws


def _tail(law: st.RandomMaclaurin, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int) -> int:
    f, bound = float(law.target(x, y)), float(law.variance(x, y)) / 0.25  # Chebyshev
    return st.check_tail(
        lambda rng, size: np.abs(law.estimates(x, y, rng=rng, size=size) - f) >= 0.5, bound, rng=rng, max_draws=draws
    ).draws


def _rate(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, widths: tuple[int, ...], repeats: int) -> int:
    f = float(np.exp(x @ y))

    def error(rng: np.random.Generator, width: int) -> float:
        phi = st.RandomMaclaurin("exp", width).draw(len(x), rng)
        return (float(phi(x[None])[0] @ phi(y[None])[0]) - f) ** 2

    found = st.check_rate(error, widths, 1.0, band=0.2, rng=rng, max_draws=repeats)
    return found.draws // len(widths) * sum(widths)
