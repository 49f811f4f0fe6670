"""What the page of a comparison shows of one target: sentence, pictures, and tables of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.figures import overview, ranking, target_picture
from schoenbat_theory.compare.quantities import ROUNDING, or_inf, whole
from schoenbat_theory.compare.results import BASELINE, Result
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.markup import decimal
from schoenbat_theory.propositions import Evidence

__all__ = ["COLUMNS", "Section", "number", "pictures", "sections"]

COLUMNS = ("method", "family", "features", "multiply-adds", "error", "worst head", "skill", "rows ≤ 0", "seconds", "MB")


@dataclass(frozen=True)
class Section:
    """What the page shows of one target.

    ``tables``    heading -> rows of texts under `COLUMNS`, the first the method;  ``heads``  errors, head by head, of ``names``
    ``distance``  of the exact attention from softmax attention, in words; empty where it is softmax attention
    """

    target: str
    sentence: str
    distance: str
    pictures: list[Evidence]
    tables: dict[str, list[list[str]]]
    names: list[str]
    heads: list[list[str]]


def pictures(comparison: Comparison) -> dict[str, Evidence]:
    """Return pictures by name: every target's ranking, error against cost for the first kernel, and both settings of exp."""
    targets, found = list(comparison.sentences()), dict[str, Evidence]()
    first = next((one.kernel for one in comparison.targets), "")
    drawn = {one.name for one in comparison.targets if one.kernel in (first, one.setting)}
    for target in targets:
        found[f"ranking {target}"] = ranking(comparison, _at_usual(comparison, target), target)
        if target in drawn:
            found[target] = target_picture(comparison, target)
    both = overview(comparison)
    return found if both is None else {**found, "overview": both}


def sections(comparison: Comparison, drawn: dict[str, Evidence]) -> list[Section]:
    """Return what the page shows, target by target."""
    rows, found = comparison.rows(), list[Section]()
    for target, sentence in comparison.sentences().items():
        equal = _at_usual(comparison, target)
        same = [
            row for row in rows if row.target == target and (row.basis == "multiply-adds" or row.family == BASELINE)
        ]
        targets = [one for one in comparison.targets if one.name == target and not one.undefined]
        tables = {f"At width {decimal(comparison.usual)}": equal, "At equal multiply-adds": _best_first(same)}
        names = [one.head for one in targets]
        found.append(
            Section(
                target=target,
                sentence=sentence,
                distance=_distance([one.distance for one in targets if one.distance is not None]),
                pictures=[drawn[name] for name in (f"ranking {target}", target) if name in drawn],
                tables={heading: [_texts(row) for row in group] for heading, group in tables.items() if group},
                names=names,
                heads=_heads(comparison, [row.method for row in equal], target, names),
            )
        )
    return found


def _at_usual(comparison: Comparison, target: str) -> list[Row]:
    """Return the rows of the tables, best first."""
    at = (comparison.usual, None)
    return _best_first([r for r in comparison.rows() if r.target == target and r.basis == "width" and r.width in at])


def _best_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: or_inf(row.error))


def _texts(row: Row) -> list[str]:
    numbers = (row.error, row.worst, None if row.family == BASELINE else row.skill, row.nonpositive, row.total_seconds)
    megabytes = None if row.peak_bytes is None else row.peak_bytes / 1e6
    family = "" if row.method.startswith(row.family) else row.family
    return [
        row.method,
        family,
        whole(row.features),
        whole(row.multiply_adds),
        *map(number, numbers),
        number(megabytes),
    ]


def _heads(comparison: Comparison, methods: Sequence[str], target: str, heads: Sequence[str]) -> list[list[str]]:
    """Return, method by method, the errors of all heads, with their least and largest draw where there are several."""
    found: dict[tuple[str, str], Result] = {
        (one.method, one.head): one
        for one in comparison.results
        if one.target == target and one.basis == "width" and one.width in (comparison.usual, None)
    }
    return [[method, *(_with_interval(found.get((method, head))) for head in heads)] for method in methods]


def _with_interval(result: Result | None) -> str:
    if result is None:
        return "–"
    low, high = result.interval
    if low == high:
        return number(result.error)
    return f"{number(result.error)} ({number(low)} – {number(high) if high is not None else '∞'})"


def _distance(found: Sequence[float]) -> str:
    if not found:
        return ""
    low, high = decimal(min(found), min(found) / 10), decimal(max(found), max(found) / 10)
    return low if low == high else f"{low} to {high}"


def number(x: float | None) -> str:
    """Return a number to two digits or three; 0 for what is only rounding."""
    return decimal(x, abs(x) / 10) if x and abs(x) > ROUNDING else decimal(x and 0.0)
