"""A comparison as text: one block per target, and a sentence computed from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.quantities import counted, median, or_inf, short, whole
from schoenbat_theory.compare.ratios import RATIO_COLUMNS, ratio_rows
from schoenbat_theory.compare.results import BASELINE, BEYOND_THE_PAPER, SETTINGS
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.results import columns

__all__ = ["sentence", "table"]

HEADER = [
    "method",
    "features",
    "kMAC",
    "error",
    "worst head",
    "skill",
    "rows ≤ 0",
    "ms",
    "same cost: features",
    "error",
]


def table(comparison: Comparison) -> str:
    """Return per target the widest entry of every method, best first, and what the errors come to."""
    rows, sentences = comparison.rows(), comparison.sentences()
    blocks = [_title(comparison)]
    for name in sentences:
        mine = [row for row in rows if row.target == name]
        shown = sorted(_widest(mine), key=lambda row: or_inf(row.error))
        same = {row.method: row for row in mine if row.basis == "multiply-adds"}
        lines = columns([HEADER, *(_cells(row, same.get(row.method)) for row in shown)])
        blocks.append(
            "\n".join([f"{name}  ({_about(comparison, name)})", *(f"  {line}" for line in lines), sentences[name]])
        )
    return "\n\n".join([*blocks, "\n".join(_notes(comparison))])


def sentence(name: str, rows: Iterable[Row]) -> str:
    """Return which methods, each at its largest width, are no better than the means of the values on half of the heads or more."""
    mine = [row for row in rows if row.target == name]
    shown = [row for row in _widest(mine) if row.family != BASELINE]
    first = mine[0]
    start = (
        f"{SETTINGS[first.setting]}, "
        if first.setting == "gaussian"
        else f"{SETTINGS[first.setting]}, with kernel {first.kernel}, "
    )
    nothing = "the answer 0" if first.setting == "gaussian" else "the means of V"
    if not shown:
        return f"{start}no method was measured beside {nothing}."
    several = max(row.heads for row in shown) > 1
    most, half = (" on most heads", " on half of the heads or more") if several else ("", "")
    failed = [row.method for row in shown if not row.better]
    widths = [row.features for row in shown if row.features is not None]
    size = f" of up to {max(widths):,} features or landmarks" if widths else ""
    if len(shown) == 1:
        return (
            f"{start}{shown[0].method}{size} is {'no ' * bool(failed)}better than {nothing}{half if failed else most}."
        )
    methods = f"{len(shown)} methods{size}"
    if not failed:
        return f"{start}each of {methods} is better than {nothing}{most}."
    if len(failed) == len(shown):
        return f"{start}none of {methods} is better than {nothing}{most}."
    return f"{start}{len(failed)} of {methods} {'is' if len(failed) == 1 else 'are'} no better than {nothing}{half}: {'; '.join(failed)}."


def _widest(rows: Sequence[Row]) -> list[Row]:
    """Return of every method the entry with the largest width that was asked for."""
    found = {row.method: row for row in sorted(rows, key=lambda row: row.width or 0) if row.basis == "width"}
    return list(found.values())


def _cells(row: Row, same: Row | None) -> list[str]:
    return [
        row.method + " *" * (row.family == BEYOND_THE_PAPER),
        whole(row.features),
        "–" if row.multiply_adds is None else f"{row.multiply_adds / 1e3:.1f}",
        short(row.error),
        short(row.worst),
        "–" if row.skill is None else f"{round(row.skill, 2) + 0.0:.2f}" if row.skill > -10 else f"{row.skill:.0f}",
        "–" if row.nonpositive is None else f"{row.nonpositive:.1%}",
        "–" if row.total_seconds is None else f"{row.total_seconds * 1e3:.1f}",
        "" if same is None else whole(same.features),
        "" if same is None else short(same.error),
    ]


def _title(comparison: Comparison) -> str:
    return (
        f"{counted(len(comparison.heads), 'head')} ({comparison.data}), {counted(comparison.draws, 'draw')}, seed {comparison.seed}. "
        f"Errors are relative, of the whole output: median over draws, then over heads. kMAC: thousands of multiply-adds per query.\n"
        f"raw: queries and keys as trained; unit: pre-scaled to length 1; released: times d^(-1/4) too. Skill: 1 - error / that of the "
        f"better mean of the values. ms: with the fit, of {comparison.timed}. Same cost: the width at which a method takes, on each head, no more than the random "
        f"Maclaurin map takes at {comparison.middle}; kMAC count all that is made for a head. * beyond the paper."
    )


def _about(comparison: Comparison, name: str) -> str:
    """Return what exact attention costs, and how far the target is from softmax attention."""
    targets = [one for one in comparison.targets if one.name == name and not one.undefined]
    said = f"exact: {median(one.multiply_adds for one in targets) / 1e3:.1f} kMAC"
    seconds = [one.seconds for one in targets if one.seconds is not None]
    said += f", {seconds[0] * 1e3:.1f} ms" if seconds else ""
    distances = [one.distance for one in targets if one.distance is not None]
    if distances:
        said += f"; from the softmax attention of the head: {short(median(distances))}, at most {short(max(distances))}"
    return said


def _notes(comparison: Comparison) -> list[str]:
    """Return what is undefined, and what else is to be known."""
    lines = []
    for name in dict.fromkeys(one.name for one in comparison.targets if one.undefined):
        undefined = [one for one in comparison.targets if one.name == name and one.undefined]
        worst = max(undefined, key=lambda one: one.largest)
        lines.append(
            f"{name}: undefined on {len(undefined)} of {counted(len(comparison.heads), 'head')}; {worst.undefined}"
        )
    return [
        *_ratios(comparison),
        *comparison.failures(),
        *lines,
        *comparison.remarks(),
        f"Intervals: {comparison.inequality}.",
    ]


def _ratios(comparison: Comparison) -> list[str]:
    """Return the ratios worth quoting, as lines of a table."""
    rows = ratio_rows(comparison.ratios())
    return [*columns([list(RATIO_COLUMNS), *rows]), ""] if rows else []
