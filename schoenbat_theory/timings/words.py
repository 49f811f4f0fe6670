"""Timed runs in words: a table for a terminal, and sentences on what was gained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from schoenbat_theory.markup import short, span
from schoenbat_theory.timings.record import Ratio, Timing, Timings
from schoenbat_theory.timings.trends import Growth, break_even, fastest_exact, growth, questions, speed_ups, upper

__all__ = ["about", "gain", "notes_of", "pace", "power", "since", "sure", "table", "title_of"]


def table(timings: Timings) -> str:
    """Return medians, shares of the floor, memory and errors as text for a terminal, and under it what they come to."""
    lines = [
        f"{'scene':<20} {'n':>9}  {'method':<38} {'seconds':>9} {'floor':>6} {'MB':>8} {'process':>8} {'error':>9} {'baseline':>9}"
    ]
    lines += [
        f"{one.scene:<20} {one.n:>9,}  {one.method:<38} {one.median:>9.4f} {_share(one.floor_ratio):>6} "
        f"{_megabytes(one.peak_bytes):>8} {_megabytes(one.resident_bytes):>8} {one.error:>9.1e} {one.baseline:>9.1e}"
        for one in timings.cells
    ]
    said = [text for scene in timings.scenes for text in (*gain(timings, scene), *pace(timings, scene))]
    return "\n".join([*lines, *said, *_legend(timings, "\n".join(said))])


def _legend(timings: Timings, said: str) -> list[str]:
    """Return what the words and columns mean, of those that are there."""
    cells = timings.cells
    rows = f"on {span(cell.rows for cell in cells)} rows " if cells else ""
    meanings = {
        "n^x: least squares in logarithms, the median and the range of one fit per repeat": " as n^" in said,
        "faster: the median lower by a tenth or more, quartiles apart; as fast: the median of ratios within repeats 1 or more": (
            "every exact" in said
        ),
        "floor: least time in which this machine does the products of a method alone, or moves its bytes, over its least time": (
            any(cell.floor_ratio is not None for cell in cells)
        ),
        "MB: the most that NumPy held beyond the input": True,
        "process: growth of the memory of the process in MB, whoever took it": (
            any(cell.resident_bytes is not None for cell in cells)
        ),
        f"error: relative Frobenius error {rows}against float64; "
        "baseline: the same of an answer that ignores queries and keys": True,
    }
    return [text for text, there in meanings.items() if there]


def gain(timings: Timings, scene: str, error: float = 0.01) -> list[str]:
    """Say how soon an error of at most ``error`` is had, beside the fastest exact method, and from which n on each saves time."""
    return [text for cells in questions(timings.of(scene)) for text in _gain(scene, cells, error)]


def _gain(scene: str, found: list[Timing], error: float) -> list[str]:
    exact, n = fastest_exact(found), max(cell.n for cell in found)
    near = [cell for cell in found if cell.size is not None]
    if not exact or not near:
        return []
    said, causal = [], "causal " * found[0].causal
    if enough := [cell for cell in near if cell.n == n and cell.error <= error and cell.error < cell.baseline]:
        one = min(enough, key=lambda cell: cell.median)
        beside = f"no exact {causal}method was timed there."
        if n in exact:
            times = f"{short(exact[n].median / one.median)} times as long"
            beside = f"no error {short(exact[n].median)} s ({exact[n].method}), {times}."
        said.append(
            f"{scene}: at n = {n:,} an error of {short(100 * error)}% or less takes {short(one.median)} s ({one.method}), {beside}"
            + f" Without information the error is {short(100 * one.baseline)}% already." * (one.baseline <= error)
        )
    met = [cell for cell in near if cell.n in exact]
    for method in dict.fromkeys(cell.method for cell in met):
        faster = {cell.n: cell.faster(exact[cell.n]) for cell in met if cell.method == method}
        first = since(faster)
        turn = ("not faster", f"at n = {max(faster):,}") if first is None else ("faster", f"from n = {first:,} on")
        said.append(f"{scene}: {method} is {turn[0]} than every exact {causal}method {turn[1]}.")
    return said


def pace(timings: Timings, scene: str) -> list[str]:
    """Say of every method how its time grows, where it is as fast as the fastest exact method, and how near to its floor."""
    ratios, said = speed_ups(timings, scene), []
    for method in dict.fromkeys(cell.method for cell in timings.of(scene)):
        cells = timings.of(scene, method)
        found = (_grown(growth(cells)), _beside(ratios.get(method, {})), _floored(cells))
        if parts := [part for part in found if part]:
            said.append(f"{scene}: {method} {'; '.join(parts)}.")
    return said


def _grown(found: Growth | None) -> str:
    if found is None:
        return ""
    interval = f", {power(found.low)} to {power(found.high)} over {found.repeats} repeats" * (found.repeats > 1)
    return f"takes time as n^{power(found.exponent)} (n = {found.start:,} to {found.stop:,}{interval})"


def _beside(ratios: Mapping[int, Ratio]) -> str:
    if not ratios:
        return ""
    turn, n = break_even({n: ratio.median for n, ratio in ratios.items()}), max(ratios)
    last = ratios[n]
    speed, exact = f"{short(last.median)} times", "as fast as the fastest exact method"
    there = f"at n = {n:,}" + (f" (quartiles {short(last.low)} to {short(last.high)})" if last.repeats > 1 else "")
    if turn is None or len(ratios) == 1:
        return f"is {speed} {exact} {there}"
    start = f"n = {min(ratios):,}, the shortest," if turn == min(ratios) else f"about n = {about(turn)}"
    return f"is {exact} from {start} on, {speed} {there}"


def _floored(cells: list[Timing]) -> str:
    known = [(cell.n, cell.floor_ratio) for cell in upper(cells) if cell.floor_ratio is not None]
    if not known:
        return ""
    shares = " to ".join(dict.fromkeys(_share(end(ratio for _, ratio in known)) for end in (min, max)))
    lengths = " to ".join(dict.fromkeys(f"{end(n for n, _ in known):,}" for end in (min, max)))
    return f"reaches {shares} of its floor (n = {lengths})"


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.1f}"


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


def sure(found: Iterable[Growth]) -> str:
    """Return what exponents are fitted to, and what the lowest and the highest fit are good for."""
    repeats = sorted({one.repeats for one in found})
    said = f"each of {span(repeats)} repeats" if repeats[-1] > 1 else "one repeat"
    if repeats[0] < 2:
        return said
    level = math.floor(100 * (1 - 2.0 ** (1 - repeats[0])))
    return f"{said}, whose lowest and highest hold the median of such fits with probability {level}% or more if repeats are independent"


def notes_of(cells: Iterable[Timing]) -> str:
    """Return the notes of the methods, each with those whom it is about, to be appended to a caption."""
    notes: dict[str, dict[str, None]] = {}
    for cell in cells:
        notes.setdefault(cell.note, {})[cell.method] = None
    return "".join(f" {' and '.join(methods)}: {note}." for note, methods in notes.items() if note)


def title_of(scene: str) -> str:
    """Return the name of a scene as a title."""
    return scene.replace("-", " ").capitalize()


def power(exponent: float) -> str:
    """Return an exponent with two decimals.

    >>> power(1.0049), power(-0.126), power(-0.001)
    ('1.00', '−0.13', '0.00')
    """
    return f"{round(exponent, 2) + 0.0:.2f}".replace("-", "−")


def about(n: float) -> str:
    """Return a length that lies between those measured: to two digits.

    >>> about(1337.2), about(97.0)
    ('1,300', '97')
    """
    return f"{round(n, 1 - math.floor(math.log10(n))):,.0f}"


def since(holds: Mapping[int, bool]) -> int | None:
    """Return the length from which on something holds at all lengths; ``None`` where it does not hold at the longest.

    >>> since({8: True, 16: False, 32: True, 64: True}), since({8: True, 16: False})
    (32, None)
    """
    fails = max((n for n, true in holds.items() if not true), default=0)
    return min((n for n in holds if n > fails), default=None)
