"""Timed runs as figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schoenbat_theory.files import slug, write_whole
from schoenbat_theory.markup import span
from schoenbat_theory.propositions import Evidence, observe
from schoenbat_theory.timings.record import RECORD, Timing, Timings
from schoenbat_theory.timings.trends import break_even, front, growth, questions, speed_ups
from schoenbat_theory.timings.words import about, notes_of, power, sure, title_of

__all__ = ["comparisons_of", "figures_of", "save"]

Curves = dict[str, dict[int, float]]  # label -> n -> a quantity
Points = dict[str, dict[str, list[float]]]  # label -> x and y of its lengths


def save(timings: Timings, folder: str | os.PathLike[str]) -> list[Path]:
    """Write the record and figures/ into ``folder``, which exists, and return their paths; older figures there go."""
    from schoenbat_theory import plots  # matplotlib is needed from here on

    folder, texts = Path(folder), {RECORD: timings.lines()}
    for scene in timings.scenes:
        for one in (*figures_of(timings, scene), *comparisons_of(timings, scene)):
            stem = slug(f"{scene} {one.name}")
            texts[f"figures/{stem}.svg"] = plots.draw(one).file()
    (folder / "figures").mkdir(exist_ok=True)
    for old in (folder / "figures").glob("*.svg"):
        old.unlink()
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts]


def figures_of(timings: Timings, scene: str) -> list[Evidence]:
    """Return time, memory and error against n as evidence whose figure `schoenbat_theory.plots` draws."""
    found = timings.of(scene)
    if not found:
        return []
    close = [cell for cell in found if cell.size is not None] or found  # rounding errors would need half the axis
    errors = _curves(close, lambda cell: cell.error) | _baselines(close)
    return [
        _time(found),
        _memory(found),
        _race(found, "error", errors, "relative error", f"{_measure(close)}{notes_of(close)}"),
    ]


def comparisons_of(timings: Timings, scene: str) -> list[Evidence]:
    """Return speed-up, error against time, and work under the roof: those that the record has the numbers for."""
    found = timings.of(scene)
    fronts = (_front(cells, _shared(found)) for cells in questions(found))
    return [one for one in (_speed_up(timings, scene), *fronts, _roof(timings, scene)) if one is not None]


def _time(cells: Sequence[Timing]) -> Evidence:
    """Return time against n, with fitted powers."""
    fitted = {method: growth([cell for cell in cells if cell.method == method]) for method in _methods(cells)}
    grown = {method: one for method, one in fitted.items() if one is not None}
    caption = "Median of runs that took turns, with quartiles."
    if grown:
        caption += f" Pale, over the lengths fitted: n to the power of the slope, the median of fits to {sure(grown.values())}."
    return _race(
        cells, "time", _curves(cells, lambda cell: cell.median), "seconds", caption + notes_of(cells),
        bands={(cell.method, cell.n): cell.quartiles for cell in cells},
        said={method: f"slope {power(one.exponent)}" for method, one in grown.items()},
        fits={method: [[one.start, one.stop], list(one.ends)] for method, one in grown.items()},
    )  # fmt: skip


def _memory(cells: Sequence[Timing]) -> Evidence:
    """Return memory against n: that of the process where it is known for all, else that of NumPy."""
    resident = {(cell.method, cell.n): cell.resident_bytes for cell in cells if cell.resident_bytes is not None}
    if len(resident) == len(cells):
        caption = "Growth of the memory of the process at its peak, whoever took it, with what is made beforehand."
        return _race(cells, "memory", _curves(cells, lambda cell: resident[cell.method, cell.n] / 1e6), "MB", caption)
    caption = "The most that NumPy held beyond the input, with what is made beforehand."
    return _race(cells, "memory", _curves(cells, lambda cell: cell.peak_bytes / 1e6), "MB", caption)


def _speed_up(timings: Timings, scene: str) -> Evidence | None:
    """Return the time of the fastest exact method over that of approximations, with the lengths where both are equal."""
    ratios, cells = speed_ups(timings, scene), timings.of(scene)
    if not ratios:
        return None
    turns = {method: break_even({n: one.median for n, one in of.items()}) for method, of in ratios.items()}
    met = {method: turn for method, turn in turns.items() if turn is not None and turn > min(ratios[method])}
    caption = (
        "Median and quartiles of ratios within repeats, to the exact method with the least median at each length. "
        "A circle: the length from which on a method is as fast, on a straight line between those timed."
    )
    return _race(
        cells, "speed-up", {method: {n: one.median for n, one in of.items()} for method, of in ratios.items()},
        "speed-up, ratio of times", caption + notes_of(cells),
        bands={(method, n): (one.low, one.high) for method, of in ratios.items() for n, one in of.items()},
        said={method: f"even at {about(turn)}" for method, turn in met.items()},
        turns=met, level=("fastest exact method", 1.0),
    )  # fmt: skip


def _front(cells: Sequence[Timing], shared: dict[str, Any]) -> Evidence | None:
    """Return error against time of the methods that answer one question, where there are several and one errs."""
    close = [cell for cell in cells if cell.size is not None]
    if not close or len(_methods(cells)) < 2:
        return None
    causal = ", causal" * cells[0].causal
    baselines = [cell.baseline for cell in close]
    figure = {
        "plot": "front",
        "title": f"{title_of(cells[0].scene)}: error against time{causal}",
        "series": _points(cells, _spent),
        "fronts": {n: _ends(front([cell for cell in cells if cell.n == n]), _spent) for n in sorted({c.n for c in cells})},
        "levels": [min(baselines), max(baselines)],
        "x_label": "seconds",
        "y_label": "relative error",
        "caption": f"{_measure(close)} A line joins the lengths of a method. Grey steps: what no method beats in time and error "
        f"at the length n above. Dotted: the lowest and the highest error of an answer without information.{notes_of(cells)}",
    }  # fmt: skip
    return observe(name=f"error against time{causal}", figure=figure | shared)


def _roof(timings: Timings, scene: str) -> Evidence | None:
    """Return multiply-adds per second against multiply-adds per byte, where the roof of the machine and the work are known."""
    roof, cells = timings.environment.get("roof"), timings.of(scene)
    known = [cell for cell in cells if cell.multiply_adds and cell.bytes_moved]
    if not roof or not known:
        return None
    figure = {
        "plot": "roof",
        "title": f"{title_of(scene)}: work under the roof",
        "series": _points(known, _work),
        "rate": roof["multiply_adds_per_second"],
        "bandwidth": roof["bytes_per_second"],
        "x_label": "multiply-adds per byte of inputs and output",
        "y_label": "multiply-adds per second",
        "caption": f"Matrix products that a method executes, divided by its median time. A line joins the lengths of a method. Black: "
        f"large products and large copies on this machine, in {roof['dtype']}. Methods whose products are not counted are missing.",
    }  # fmt: skip
    return observe(name="work under the roof", figure=figure | _shared(cells))


def _spent(cell: Timing) -> tuple[float, float]:
    """Return time and error, 0 where exact."""
    return cell.median, 0.0 if cell.size is None else cell.error


def _work(cell: Timing) -> tuple[float, float]:
    """Return multiply-adds per byte, and per second."""
    assert cell.multiply_adds is not None
    assert cell.bytes_moved is not None
    return cell.multiply_adds / cell.bytes_moved, cell.multiply_adds / cell.median


def _race(
    cells: Sequence[Timing], what: str, curves: Curves, y_label: str, caption: str, *,
    bands: Mapping[tuple[str, int], Sequence[float]] | None = None, **rest: Any,
) -> Evidence:  # fmt: skip
    """Return a quantity against n; ``bands``: (method, n) -> its lower and upper limits."""
    x = sorted({n for curve in curves.values() for n in curve} or {cell.n for cell in cells})
    figure = {
        "plot": "race",
        "title": f"{title_of(cells[0].scene)}: {what} against n",
        "x": x,
        "series": {label: [curve.get(n) for n in x] for label, curve in curves.items()},
        "x_label": "tokens n",
        "y_label": y_label,
        "caption": caption,
        **rest,
    }
    if bands:
        none = (None, None)
        figure["bands"] = {label: [[bands.get((label, n), none)[i] for n in x] for i in (0, 1)] for label in curves}
    return observe(name=f"{what} against n", figure=figure | _shared(cells))


def _shared(cells: Sequence[Timing]) -> dict[str, Any]:
    """Return what makes a method look the same in all pictures of a scene."""
    return {"methods": _methods(cells), "exact": _methods([cell for cell in cells if cell.size is None])}


def _methods(cells: Sequence[Timing]) -> list[str]:
    return list(dict.fromkeys(cell.method for cell in cells))


def _curves(cells: Sequence[Timing], value: Callable[[Timing], float]) -> Curves:
    """Return method -> n -> a quantity; what is 0 has no place on a logarithmic axis."""
    found: Curves = {}
    for cell in cells:
        if value(cell) > 0:
            found.setdefault(cell.method, {})[cell.n] = value(cell)
    return found


def _points(cells: Sequence[Timing], value: Callable[[Timing], tuple[float, float]]) -> Points:
    """Return method -> x and y of its lengths."""
    return {method: _ends([cell for cell in cells if cell.method == method], value) for method in _methods(cells)}


def _ends(cells: Sequence[Timing], value: Callable[[Timing], tuple[float, float]]) -> dict[str, list[float]]:
    x, y = zip(*map(value, cells), strict=True)
    return {"x": list(x), "y": list(y)}


def _baselines(cells: Sequence[Timing]) -> Curves:
    """Return the errors without information for each question, the lowest and the highest where methods answer several."""
    found: Curves = {}
    for question in questions(cell for cell in cells if cell.size is not None and cell.baseline > 0):
        label = "no information" + ", causal" * question[0].causal
        at = {n: [cell.baseline for cell in question if cell.n == n] for n in {cell.n for cell in question}}
        low, high = ({n: end(levels) for n, levels in at.items()} for end in (min, max))
        found |= {label: low} if low == high else {f"{label}, lowest": low, f"{label}, highest": high}
    return found


def _measure(cells: Sequence[Timing]) -> str:
    """Return how the errors were measured."""
    rows, draws = span(cell.rows for cell in cells), [max(len(cell.errors), 1) for cell in cells]
    said = f"Relative Frobenius error on {rows} rows, against exact answers in float64"
    drawn = f", median of {span(draws)} draws; all methods of a length have the same draws" if max(draws) > 1 else ""
    return f"{said}{drawn}."
