"""Run scenes: methods take turns, so that what slows the machine slows all of them; memory and error are measured apart."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

import schoenbat_theory
from schoenbat_theory.arrays import Array, require_bool, require_int
from schoenbat_theory.benchmark.problem import Inputs, Method, Scene, tokens
from schoenbat_theory.benchmark.scenes import SCENES
from schoenbat_theory.environment import environment
from schoenbat_theory.files import write_whole
from schoenbat_theory.sampling import stream
from schoenbat_theory.timings import Timing, Timings, peak_of

__all__ = ["bench"]

DRAWS = {4096: 5, sys.maxsize: 3}  # up to this n -> draws that an error is the median of


def bench(
    scenes: Iterable[str | Scene] | None = None,
    *,
    quick: bool = False,
    seed: int = 0,
    progress: bool = False,
    keep: str | os.PathLike[str] | None = None,
) -> Timings:
    """Time every method of some scenes at every length, and measure its memory and its error.

    ``scenes``     names of `SCENES` or scenes of your own; ``None``: all that are installed
    ``quick``      short sequences, three repeats
    ``seed``       root of the streams of tokens and draws
    ``progress``   a bar on standard error
    ``keep``       file that holds what is done so far, written whole after every length of every scene

    returns `Timings`: seconds of every repeat; ``peak_bytes``, which tracemalloc sees in a run of its own that is not
    timed: arrays of NumPy, not the buffers inside BLAS; errors on a few rows, of five draws up to n = 4,096 and three
    beyond, the same for all methods of a length. Raises ``ValueError`` or ``TypeError`` for an unknown scene. Threads
    of BLAS are left as they are found, and recorded, but in scenes whose methods use all cores by themselves: one there.

    >>> cells = bench(["toeplitz-product"], quick=True).cells
    >>> {cell.method for cell in cells if cell.error < 1e-5} == {cell.method for cell in cells}
    True
    """
    chosen = _scenes(scenes)
    quick, seed = require_bool("quick", quick), require_int("seed", seed, 0)
    from tqdm import tqdm

    plan = [(scene, n, repeats) for scene in chosen for n, repeats in scene.lengths(quick).items()]
    machine, cells = _machine(chosen, seed, quick), list[Timing]()
    bar = tqdm(plan, disable=not progress, leave=False, unit="length")
    for scene, n, repeats in bar:
        bar.set_description(f"{scene.name}, n = {n:,}")
        with threadpoolctl.threadpool_limits(1, "blas") if scene.parallel else contextlib.nullcontext():
            cells += _length(scene, n, repeats, seed)
        if keep is not None:
            write_whole(keep, Timings(machine, tuple(cells)).lines())
    return Timings(machine, tuple(cells))


def _scenes(scenes: Iterable[str | Scene] | None) -> list[Scene]:
    if isinstance(scenes, str):
        raise TypeError(f"scenes: expected names in a list, found {scenes!r}")
    return [_scene(one) for one in (SCENES if scenes is None else scenes)]


def _scene(one: str | Scene) -> Scene:
    found = SCENES.get(one) if isinstance(one, str) else one
    if not isinstance(found, Scene):
        raise ValueError(f"scenes: expected some of {', '.join(SCENES)}, found {one!r}")
    return found


def _length(scene: Scene, n: int, repeats: int, seed: int) -> list[Timing]:
    """Measure the methods of a scene that reach this length."""
    inputs = scene.inputs(n, stream(seed, "bench", scene.name, str(n)))
    methods = [method for method in scene.methods if n <= method.longest]
    rows = np.unique(np.linspace(0, n - 1, min(n, scene.rows)).astype(int))
    targets = {causal: scene.target(inputs, rows, causal) for causal in {method.causal for method in methods}}
    made, peaks, errors = [], [], []
    for method in methods:  # also the warm-up
        ready, output, peak = _memory(method, inputs, _draw(scene, n, 0, seed))
        made.append(ready)
        peaks.append(peak)
        outputs = [output[..., rows, :], *(one[..., rows, :] for one in _redrawn(scene, method, inputs, n, seed))]
        errors.append(tuple(_error(found, targets[method.causal][0]) for found in outputs))
    seconds: list[list[float]] = [[] for _ in methods]
    for repeat in range(repeats):
        for i in np.roll(range(len(methods)), repeat):  # nobody always follows the same one
            if scene.parallel:
                methods[i].run(inputs, made[i])
            start = time.perf_counter()
            methods[i].run(inputs, made[i])
            seconds[i].append(time.perf_counter() - start)
    v = inputs["v"]
    return [
        Timing(
            scene.name, one.name, one.causal, n, inputs["width"], v.shape[-1], one.size_at(n), str(v.dtype),
            tuple(taken), peak, float(np.median(wrong)), _error(*targets[one.causal][::-1]), one.note, wrong, len(rows),
        )
        for one, taken, peak, wrong in zip(methods, seconds, peaks, errors, strict=True)
    ]  # fmt: skip


def _memory(method: Method, inputs: Inputs, rng: np.random.Generator) -> tuple[Any, Array, int]:
    """Return (what is made once, the output, the most memory held at a time, in bytes)."""

    def whole() -> tuple[Any, Array]:
        made = method.make(inputs, rng)
        return made, method.run(inputs, made)

    (made, output), peak = peak_of(whole)
    return made, output, peak


def _draw(scene: Scene, n: int, draw: int, seed: int) -> np.random.Generator:
    """Return what all methods of a length draw from, so that they are given the same landmarks or directions."""
    return stream(seed, "bench", scene.name, str(n), str(draw))


def _redrawn(scene: Scene, method: Method, inputs: Inputs, n: int, seed: int) -> Iterator[Array]:
    """Yield the outputs of further draws, none for a method that is exact."""
    draws = 1 if method.size is None else next(count for longest, count in DRAWS.items() if n <= longest)
    for draw in range(1, draws):
        yield method.run(inputs, method.make(inputs, _draw(scene, n, draw, seed)))


def _error(found: Array, exact: Array) -> float:
    """Return the relative Frobenius error, of all heads together where there are several."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _machine(scenes: list[Scene], seed: int, quick: bool) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _processor(),
        "commit": _commit(),
        "seed": seed,
        "quick": quick,
        "tokens": tokens(scenes),
        **environment(),
    }


def _processor() -> str:
    """Return the processor by name, which Python knows on some systems only."""
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from, "-dirty" where it was edited; else ``None``."""
    root = Path(schoenbat_theory.__file__).parent.parent
    if not (root / ".git").exists():  # else the repository around a virtual environment would answer
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
