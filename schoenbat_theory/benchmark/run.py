"""Run scenes: methods take turns, so that what slows the machine slows all of them; memory and error are measured apart."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from schoenbat_theory.arrays import Array, require_bool, require_int
from schoenbat_theory.benchmark.floor import Work, lowest, rivals
from schoenbat_theory.benchmark.machine import machine
from schoenbat_theory.benchmark.problem import Inputs, Method, Scene, tokens
from schoenbat_theory.benchmark.scenes import SCENES
from schoenbat_theory.files import write_whole
from schoenbat_theory.sampling import stream
from schoenbat_theory.timings import Timing, Timings, peak_of, resident_of, take_turns

__all__ = ["bench"]

DRAWS = {4096: 5, sys.maxsize: 3}  # up to this n -> draws that an error is the median of


def bench(
    scenes: Iterable[str | Scene] | None = None,
    *,
    quick: bool = False,
    longest: int | None = None,
    seed: int = 0,
    progress: bool = False,
    keep: str | os.PathLike[str] | None = None,
) -> Timings:
    """Time every method of some scenes at every length, with its memory, its error and the floor of its work.

    ``scenes``     names of `SCENES` or scenes of your own; ``None``: all that are installed
    ``quick``      short sequences, three repeats
    ``longest``    no lengths beyond this one
    ``seed``       root of the streams of tokens and draws
    ``progress``   a bar on standard error
    ``keep``       file that holds what is done so far, written whole after every length of every scene

    returns `Timings`: seconds of every repeat, as `schoenbat_theory.timings.take_turns` says, the floors of
    `schoenbat_theory.benchmark.floor` in turns with the methods; memory as NumPy and as the system tell it, in runs of
    their own that are not timed; errors on a few rows, of five draws up to n = 4,096 and three beyond, the same for all
    methods of a length. Threads of BLAS are left as they are found, and recorded, but in scenes whose methods use all
    cores by themselves: one there. Raises ``ValueError`` or ``TypeError`` for an unknown scene or where no length is
    left, ``RuntimeError`` for a method that fails or whose answer is not finite.

    >>> cells = bench(["toeplitz-product"], quick=True).cells
    >>> {cell.method for cell in cells if cell.error < 1e-5} == {cell.method for cell in cells}
    True
    """
    chosen, quick, seed = _scenes(scenes), require_bool("quick", quick), require_int("seed", seed, 0)
    plan = _plan(chosen, quick, sys.maxsize if longest is None else require_int("longest", longest, 1))
    from tqdm import tqdm

    where, cells, start = machine(seed=seed, quick=quick, tokens=tokens(chosen)), list[Timing](), time.monotonic()
    bar = tqdm(plan, disable=not progress, leave=False, unit="length")
    for length in bar:
        bar.set_description(f"{length.scene.name}, n = {length.n:,}")
        with threadpoolctl.threadpool_limits(1, "blas") if length.scene.parallel else contextlib.nullcontext():
            cells += length.timings(seed)
        where["elapsed_seconds"] = round(time.monotonic() - start)  # so that one can say how long a run takes
        if keep is not None:
            write_whole(keep, Timings(where, tuple(cells)).lines())
    return Timings(where, tuple(cells))


def _scenes(scenes: Iterable[str | Scene] | None) -> list[Scene]:
    if isinstance(scenes, str):
        raise TypeError(f"scenes: expected names in a list, found {scenes!r}")
    return [_scene(one) for one in (SCENES if scenes is None else scenes)]


def _scene(one: str | Scene) -> Scene:
    found = SCENES.get(one) if isinstance(one, str) else one
    if not isinstance(found, Scene):
        raise ValueError(f"scenes: expected some of {', '.join(SCENES)}, found {one!r}")
    return found


def _plan(scenes: Iterable[Scene], quick: bool, longest: int) -> list[_Length]:
    """Return the lengths of scenes up to the longest; ``ValueError`` where none is left."""
    lengths = [
        _Length(scene, n, least, 0.0 if quick else scene.enough)
        for scene in scenes
        for n, least in scene.lengths(quick).items()
    ]
    found = [one for one in lengths if one.n <= longest]
    if lengths and not found:
        raise ValueError(f"longest: expected at least {min(one.n for one in lengths)}, found {longest}")
    return found


class _Ready(NamedTuple):
    """A method that is ready to be timed, and what was measured before."""

    run: Callable[[], Array]
    peak: int
    resident: int | None
    errors: tuple[float, ...]
    baseline: float
    work: Work | None


@dataclass(frozen=True)
class _Length:
    """A scene at one length; ``least`` repeats, and more until a method took ``enough`` seconds."""

    scene: Scene
    n: int
    least: int
    enough: float

    def timings(self, seed: int) -> list[Timing]:
        """Measure the methods that reach this length."""
        scene, n = self.scene, self.n
        inputs = scene.inputs(n, stream(seed, "bench", scene.name, str(n)))
        methods = [method for method in scene.methods if n <= method.longest]
        rows = np.unique(np.linspace(0, n - 1, min(n, scene.rows)).astype(int))
        solved = functools.cache(lambda target, causal: target(inputs, rows, causal))
        targets = [solved(method.target or scene.target, method.causal) for method in methods]
        ready = [self._ready(*both, inputs, rows, seed) for both in zip(methods, targets, strict=True)]
        seconds, floors = self._timed(ready, inputs["v"].dtype)
        return [
            Timing(
                scene=scene.name,
                method=method.name,
                causal=method.causal,
                n=n,
                d=inputs["width"],
                e=inputs["v"].shape[-1],
                size=method.size_at(n),
                dtype=str(inputs["v"].dtype),
                seconds=taken,
                peak_bytes=one.peak,
                error=float(np.median(one.errors)),
                baseline=one.baseline,
                note=method.note,
                errors=one.errors,
                rows=len(rows),
                resident_bytes=one.resident,
                multiply_adds=None if one.work is None else one.work.multiply_adds,
                bytes_moved=None if one.work is None else one.work.bytes,
                floor_seconds=None if one.work is None else floors[one.work],
            )
            for method, one, taken in zip(methods, ready, seconds, strict=True)
        ]

    def _ready(
        self, method: Method, target: tuple[Array, Array], inputs: Inputs, rows: np.ndarray, seed: int
    ) -> _Ready:
        """Measure memory and errors of a method, which warms it up too."""
        exact, blind = target
        draws = 1 if method.size is None else next(count for longest, count in DRAWS.items() if self.n <= longest)

        def whole(draw: int = 0) -> tuple[Any, Array]:
            rng = stream(seed, "bench", self.scene.name, str(self.n), str(draw))  # the same for all methods
            made = method.make(inputs, rng)
            return made, method.run(inputs, made)

        def error(output: Array) -> float:
            return _error(self.scene.seen(output, rows), exact)

        with self._named(method):
            (made, output), peak = peak_of(whole)
            first = error(output)
            del output  # a second one would be memory too
            resident = resident_of(whole)[1]
            errors = first, *(error(whole(draw)[1]) for draw in range(1, draws))
            if not np.isfinite(errors).all():
                raise ArithmeticError("its answer is not finite")
            work = None if method.work is None else method.work(inputs, made)
        run = functools.partial(method.run, inputs, made)
        return _Ready(run, peak, resident, errors, _error(blind, exact), work)

    @contextlib.contextmanager
    def _named(self, method: Method) -> Iterator[None]:
        """Let an error say which method it is of, and where."""
        try:
            yield
        except Exception as error:
            where = f"{method.name} of {self.scene.name} at n = {self.n:,}"
            raise RuntimeError(f"{where}: {type(error).__name__}: {error}") from error

    def _timed(
        self, ready: Sequence[_Ready], dtype: np.dtype[Any]
    ) -> tuple[list[tuple[float, ...]], dict[Work, float]]:
        """Return the seconds of methods, and the floor of each kind of work; what shows the floors takes turns with them."""
        alone = {one.work: rivals(one.work, dtype) for one in ready if one.work is not None}
        runs = [*(one.run for one in ready), *itertools.chain.from_iterable(alone.values())]
        seconds = take_turns(runs, self.least, enough=self.enough, warm=self.scene.parallel or self.scene.warm)
        rest = iter(seconds[len(ready) :])
        floors = {work: lowest(list(itertools.islice(rest, len(several)))) for work, several in alone.items()}
        return seconds[: len(ready)], floors


def _error(found: Array, exact: Array) -> float:
    """Return the relative Frobenius error, of all heads together where there are several."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
