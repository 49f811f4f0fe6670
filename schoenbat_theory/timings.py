"""A record of timed runs: one line of JSON per cell, as a table, as figures."""

from __future__ import annotations

import dataclasses
import json
import os
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from schoenbat_theory.files import slug, write_whole
from schoenbat_theory.markup import short, span
from schoenbat_theory.propositions import Evidence, observe

__all__ = [
    "RECORD", "Timing", "Timings", "installed_timings", "notes_of", "peak_of", "read_timings", "since", "title_of",
]  # fmt: skip

RECORD = "systems.jsonl"
Found = TypeVar("Found")


@dataclass(frozen=True)
class Timing:
    """One method at one length.

    ``scene, method``   which problem, and what solves it;  ``causal``  whether query i sees keys j <= i only
    ``n, d, e``         tokens, width of a query (``None`` where there is none) and of a value
    ``size``            landmarks or features, ``None`` where exact
    ``seconds``         of every repeat
    ``peak_bytes``      most memory that NumPy held beyond the input, measured apart from the time
    ``error``           relative Frobenius error against the exact answer in float64, median of ``errors``
    ``baseline``        the same error of an answer that ignores queries and keys
    ``errors``          of every draw of landmarks or features; empty in older records, which had one
    ``rows``            of the output that the errors are measured on, evenly spaced
    """

    scene: str
    method: str
    causal: bool
    n: int
    d: int | None
    e: int
    size: int | None
    dtype: str
    seconds: tuple[float, ...]
    peak_bytes: int
    error: float
    baseline: float
    note: str = ""
    errors: tuple[float, ...] = ()
    rows: int = 64  # in older records, which do not say

    @property
    def median(self) -> float:
        """Median of ``seconds``."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile of ``seconds``."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)

    def faster(self, other: Timing) -> bool:
        """Whether the median is lower by a tenth or more, and the quartiles do not overlap."""
        return self.median <= 0.9 * other.median and self.quartiles[1] < other.quartiles[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, with median and quartiles, as JSON holds them."""
        return {**dataclasses.asdict(self), "median": self.median, "quartiles": list(self.quartiles)}


@dataclass(frozen=True)
class Timings:
    """Timed cells, and the machine that they were timed on."""

    environment: dict[str, Any] = field(repr=False)
    cells: tuple[Timing, ...]

    def lines(self) -> str:
        """Return the record as text: a line of JSON for the environment, then one per cell; no NaN, no infinity."""
        documents = ({"schema": 1, "environment": self.environment}, *(cell.as_dict() for cell in self.cells))
        return "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in documents)

    def table(self) -> str:
        """Return medians, memory and errors as text for a terminal."""
        lines = [f"{'scene':<20} {'n':>7}  {'method':<38} {'seconds':>9} {'MB':>8} {'error':>9} {'baseline':>9}"]
        lines += [
            f"{one.scene:<20} {one.n:>7,}  {one.method:<38} {one.median:>9.4f} {one.peak_bytes / 1e6:>8.1f} "
            f"{one.error:>9.1e} {one.baseline:>9.1e}"
            for one in self.cells
        ]
        rows = span(cell.rows for cell in self.cells)
        legend = (
            f"error: relative Frobenius error on {rows} rows against float64; "
            "baseline: the same of an answer that ignores queries and keys"
        )
        said = [text for scene in dict.fromkeys(one.scene for one in self.cells) for text in self.gain(scene)]
        return "\n".join([*lines, *said, legend])

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the record and figures/ into ``folder``, which exists, and return their paths; older figures there go."""
        from schoenbat_theory import plots  # matplotlib is needed from here on

        folder, texts = Path(folder), {RECORD: self.lines()}
        for scene in dict.fromkeys(cell.scene for cell in self.cells):
            for one in self.figures(scene):
                stem = slug(f"{scene} {one.name}")
                texts[f"figures/{stem}.svg"] = plots.draw(one).file()
        (folder / "figures").mkdir(exist_ok=True)
        for old in (folder / "figures").glob("*.svg"):
            old.unlink()
        for name, text in texts.items():
            write_whole(folder / name, text)
        return [folder / name for name in texts]

    def of(self, scene: str, method: str | None = None) -> list[Timing]:
        """Return the cells of a scene, or of one method there, by rising n."""
        found = (cell for cell in self.cells if cell.scene == scene and method in (None, cell.method))
        return sorted(found, key=lambda cell: cell.n)

    def gain(self, scene: str, error: float = 0.01) -> list[str]:
        """Say how soon an error of at most ``error`` is had, beside the fastest exact method, and from which n on each saves time."""
        found = self.of(scene)
        if len({cell.size is None for cell in found}) < 2:
            return []
        n = max(cell.n for cell in found)
        exact = {
            cell.n: cell for cell in sorted(found, key=lambda one: -one.median) if cell.size is None
        }  # the fastest
        near = [cell for cell in found if cell.size is not None and cell.n in exact]
        said = []
        if enough := [cell for cell in near if cell.n == n and cell.error <= error]:
            one, other = min(enough, key=lambda cell: cell.median), exact[n]
            said.append(
                f"{scene}: at n = {n:,} an error of {error:.0%} or less takes {short(one.median)} s ({one.method}), "
                f"no error {short(other.median)} s ({other.method}), {short(other.median / one.median)} times as long."
            )
        for method in dict.fromkeys(cell.method for cell in near):
            first = since({cell.n: cell.faster(exact[cell.n]) for cell in near if cell.method == method})
            turn = "not faster", f"at n = {n:,}"
            if first is not None:
                turn = "faster", f"from n = {first:,} on"
            said.append(f"{scene}: {method} is {turn[0]} than every exact method {turn[1]}.")
        return said

    def figures(self, scene: str) -> list[Evidence]:
        """Return time, memory and error against n as evidence whose figure `schoenbat_theory.plots` draws."""
        if not self.of(scene):
            return []
        found = self.of(scene)
        close = [cell for cell in found if cell.size is not None] or found  # rounding errors would need half the axis
        time = f"Median of runs that took turns.{notes_of(found)}"
        memory = "The most that NumPy held beyond the input, with what is made beforehand."
        error = f"{_measure(close)}{notes_of(close)}"
        return [
            self._figure(scene, "time", _curves(found, "median"), "seconds", time),
            self._figure(scene, "memory", _curves(found, "megabytes"), "MB", memory),
            self._figure(scene, "error", _curves(close, "error") | _baselines(close), "relative error", error),
        ]

    def _figure(
        self, scene: str, what: str, curves: dict[str, dict[int, float]], y_label: str, caption: str
    ) -> Evidence:
        x = sorted({n for curve in curves.values() for n in curve})
        figure = {
            "plot": "curves",
            "title": f"{title_of(scene)}: {what} against n",
            "x": x,
            "series": {label: [curve.get(n) for n in x] for label, curve in curves.items()},
            "x_label": "tokens n",
            "y_label": y_label,
            "log_x": True,
            "log_y": True,
            "caption": caption,
        }
        return observe(name=f"{what} against n", figure=figure)


def installed_timings(name: str = "systems") -> Timings | None:
    """Return the record of this name that comes with the package, or that of a source checkout; ``None`` if there is none."""
    root = resources.files("schoenbat_theory")
    with resources.as_file(root) as package:
        for path in (package / "data" / f"{name}.jsonl", package.parent / "benchmarks" / name / RECORD):
            if path.is_file():
                return read_timings(path)
    return None


def peak_of(run: Callable[[], Found]) -> tuple[Found, int]:
    """Return what ``run`` returns, and the most memory held at a time meanwhile, in bytes, as tracemalloc sees it."""
    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        found = run()
        return found, tracemalloc.get_traced_memory()[1] - before
    finally:
        if ours:
            tracemalloc.stop()


def read_timings(path: str | os.PathLike[str]) -> Timings:
    """Read a record; ``ValueError`` in one sentence, with the line, for a file that is none."""
    text = Path(path).read_text(encoding="utf-8").splitlines()
    number = 1
    try:
        environment = json.loads(text[0])["environment"]
        cells = []
        for number, line in enumerate(text[1:], 2):  # noqa: B007 (named in the error)
            found = {"errors": (), "rows": Timing.rows, **json.loads(line)}  # what older records lack
            values = {one.name: found[one.name] for one in dataclasses.fields(Timing)}
            cells.append(Timing(**values | {name: tuple(map(float, found[name])) for name in ("seconds", "errors")}))
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: expected a record of `schoenbat-theory bench`, line {number} is damaged") from None
    return Timings(environment, tuple(cells))


def _curves(cells: Sequence[Timing], name: str) -> dict[str, dict[int, float]]:
    """Return method -> n -> a quantity; what is 0 has no place on a logarithmic axis."""
    found: dict[str, dict[int, float]] = {}
    for cell in cells:
        value = cell.peak_bytes / 1e6 if name == "megabytes" else getattr(cell, name)
        if value > 0:
            found.setdefault(cell.method, {})[cell.n] = value
    return found


def _baselines(cells: Sequence[Timing]) -> dict[str, dict[int, float]]:
    """Return the errors without information, once for all methods that answer the same question."""
    found: dict[str, dict[int, float]] = {}
    for cell in cells:
        if cell.size is not None:
            found.setdefault("no information" + ", causal" * cell.causal, {})[cell.n] = cell.baseline
    return found


def _measure(cells: Sequence[Timing]) -> str:
    """Return how the errors were measured."""
    rows, draws = span(cell.rows for cell in cells), [max(len(cell.errors), 1) for cell in cells]
    said = f"Relative Frobenius error on {rows} rows, against exact answers in float64"
    drawn = f", median of {span(draws)} draws; all methods of a length have the same draws" if max(draws) > 1 else ""
    return f"{said}{drawn}."


def notes_of(cells: Iterable[Timing]) -> str:
    """Return the notes of the methods, each with those whom it is about, to be appended to a caption."""
    notes: dict[str, dict[str, None]] = {}
    for cell in cells:
        notes.setdefault(cell.note, {})[cell.method] = None
    return "".join(f" {' and '.join(methods)}: {note}." for note, methods in notes.items() if note)


def title_of(scene: str) -> str:
    """Return the name of a scene as a title."""
    return scene.replace("-", " ").capitalize()


def since(holds: Mapping[int, bool]) -> int | None:
    """Return the length from which on something holds at all lengths; ``None`` where it does not hold at the longest.

    >>> since({8: True, 16: False, 32: True, 64: True}), since({8: True, 16: False})
    (32, None)
    """
    fails = max((n for n, true in holds.items() if not true), default=0)
    return min((n for n in holds if n > fails), default=None)
