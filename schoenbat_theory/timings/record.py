"""The record: one line of JSON per cell, and one for the machine that they were timed on."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["RECORD", "Ratio", "Timing", "Timings", "installed_timings", "read_timings"]

RECORD = "systems.jsonl"
SCHEMA = 2  # 1: without resident memory, products and floors; older still, without single draws


@dataclass(frozen=True)
class Timing:
    """One method at one length.

    ``scene, method``   which problem, and what solves it;  ``causal``  whether query i sees keys j <= i only
    ``n, d, e``         tokens, width of a query (``None`` where there is none) and of a value
    ``size``            landmarks or features, ``None`` where exact
    ``seconds``         of every repeat; those of two methods with the same index were taken one soon after the other
    ``peak_bytes``      most memory that NumPy held beyond the input, measured apart from the time
    ``error``           relative Frobenius error against the exact answer in float64, median of ``errors``
    ``baseline``        the same error of an answer that ignores queries and keys
    ``errors``          of every draw of landmarks or features; empty in older records, which had one
    ``rows``            of the output that the errors are measured on, evenly spaced

    The rest is ``None`` where it is not known, and in older records:

    ``resident_bytes``  growth of the most memory that the process had, whoever took it, measured apart too
    ``multiply_adds``   of the matrix products that were executed
    ``bytes_moved``     at least: inputs read once, the output written once
    ``floor_seconds``   the least in which this machine does these products alone, or moves these bytes
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
    resident_bytes: int | None = None
    multiply_adds: int | None = None
    bytes_moved: int | None = None
    floor_seconds: float | None = None

    @property
    def median(self) -> float:
        """Median of ``seconds``."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper quartile of ``seconds``."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)

    @property
    def floor_ratio(self) -> float | None:
        """The floor divided by the least of ``seconds``: 1 at the floor, less above it."""
        return None if self.floor_seconds is None else self.floor_seconds / min(self.seconds)

    def faster(self, other: Timing) -> bool:
        """Whether the median is lower by a tenth or more, and the quartiles do not overlap."""
        return self.median <= 0.9 * other.median and self.quartiles[1] < other.quartiles[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, with median, quartiles and the ratio to the floor, as JSON holds them."""
        derived = {"median": self.median, "quartiles": list(self.quartiles), "floor_ratio": self.floor_ratio}
        return {**dataclasses.asdict(self), **derived}


class Ratio(NamedTuple):
    """Median and quartiles of the ratios of two methods, one for each repeat that both were timed in."""

    median: float
    low: float
    high: float
    repeats: int


@dataclass(frozen=True)
class Timings:
    """Timed cells, and the machine that they were timed on."""

    environment: dict[str, Any] = field(repr=False)
    cells: tuple[Timing, ...]

    def lines(self) -> str:
        """Return the record as text: a line of JSON for the environment, then one per cell; no NaN, no infinity."""
        documents = ({"schema": SCHEMA, "environment": self.environment}, *(cell.as_dict() for cell in self.cells))
        return "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in documents)

    @property
    def scenes(self) -> list[str]:
        """Names of the scenes that have cells, in their order."""
        return list(dict.fromkeys(cell.scene for cell in self.cells))

    def of(self, scene: str, method: str | None = None) -> list[Timing]:
        """Return the cells of a scene, or of one method there, by rising n."""
        found = (cell for cell in self.cells if cell.scene == scene and method in (None, cell.method))
        return sorted(found, key=lambda cell: cell.n)

    def ratio(self, scene: str, method: str, other: str, n: int) -> Ratio:
        """Return how many times as long as ``other`` a method takes at length n: the ratios within repeats.

        What slows the machine for a while slows both and leaves their ratio alone. ``ValueError`` where one was not timed.
        """
        found = {cell.method: cell.seconds for cell in self.of(scene) if cell.n == n}
        for name in (method, other):
            if name not in found:
                raise ValueError(f"method: expected one that {scene} has at n = {n:,}, found {name!r}")
        ratios = [
            a / b for a, b in zip(found[method], found[other], strict=False)
        ]  # who is fast is repeated more often
        low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        return Ratio(float(median), float(low), float(high), len(ratios))


def installed_timings(name: str = "systems") -> Timings | None:
    """Return the record of this name that comes with the package, or that of a source checkout; ``None`` if there is none."""
    root = resources.files("schoenbat_theory")
    with resources.as_file(root) as package:
        for path in (package / "data" / f"{name}.jsonl", package.parent / "benchmarks" / name / RECORD):
            if path.is_file():
                return read_timings(path)
    return None


def read_timings(path: str | os.PathLike[str]) -> Timings:
    """Read a record, older ones too; ``ValueError`` in one sentence, with the line, for a file that is none."""
    text = Path(path).read_text(encoding="utf-8").splitlines()
    number = 1
    try:
        first, cells = json.loads(text[0]), []
        environment, schema = first["environment"], int(first.get("schema", 1))
        if schema <= SCHEMA:
            for number, line in enumerate(text[1:], 2):  # noqa: B007 (named in the error)
                cells.append(_timing(json.loads(line)))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: expected a record of `schoenbat-theory bench`, line {number} is damaged") from None
    if schema > SCHEMA:
        raise ValueError(f"{path}: expected schema {SCHEMA} or below, found {schema}, of a later version")
    return Timings(environment, tuple(cells))


def _timing(found: dict[str, Any]) -> Timing:
    """Return a cell; what older records lack has its default."""
    fields = dataclasses.fields(Timing)
    lacking = {one.name: one.default for one in fields if one.default is not dataclasses.MISSING}
    values = {one.name: (lacking | found)[one.name] for one in fields}
    return Timing(**values | {name: tuple(map(float, values[name])) for name in ("seconds", "errors")})
