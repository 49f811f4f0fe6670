"""Figure data of a comparison and of the ablation, as `plots` draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.quantities import finite, median, or_inf
from schoenbat_theory.compare.results import BASELINE, BEYOND_THE_PAPER, Result
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.compare.scaling.ablation import Ablation
from schoenbat_theory.markup import decimal
from schoenbat_theory.propositions import Evidence, observe

__all__ = ["STRONG", "overview", "ranking", "scaling_picture", "target_picture"]

STRONG = {  # drawn to be seen first: three that go beyond the paper, the map of its released code, and FAVOR+
    "optimized Maclaurin, with values",
    "first order, recentred",
    "local expansions",
    "random Maclaurin, released",
    "positive, orthogonal",
}
OVERVIEW = {"raw exp": "raw: as trained", "released exp": "released: pre-scaled, times d^(-1/4)"}


def ranking(comparison: Comparison, rows: Sequence[Row], target: str) -> Evidence:
    """Return the figure of methods against one target in the order of their errors, ``rows`` one each, best first."""
    at = (comparison.usual, None)
    mine = [one for one in comparison.results if one.target == target and one.basis == "width" and one.width in at]
    lines, heads = [], list[Result]()
    for row in rows:
        heads = [one for one in mine if one.method == row.method]
        errors = _errors(heads)
        draws = [median(or_inf(one.interval[i]) for one in heads) for i in (0, 1)]
        lines.append(
            {
                "label": row.method,
                "error": row.error,
                "draws": [finite(x) for x in draws],
                "heads": [finite(min(errors)), finite(max(errors))],
                "cells": [
                    "–" if row.error is None else decimal(row.error, row.error / 10),
                    "–" if row.multiply_adds is None else f"{row.multiply_adds / 1e3:.1f}",
                ],
                "strong": row.family == BEYOND_THE_PAPER,
            }
        )
    caption = (
        f"Errors at width {decimal(comparison.usual)}, or at the width that a method has, best first. Mark: median over {_heads(heads)}; thick: the least and "
        "the largest draw, medians over heads; thin: from the best head to the worst. kMAC: thousands of multiply-adds per query, fits to the head included. "
        "In bold: beyond the paper. Dashed: answers in which no row depends on its own query; what lies in the shaded part is no better."
    )
    figure = {
        "plot": "ranking",
        "rows": lines,
        "columns": ["error", "kMAC"],
        "families": _families(comparison),
        "caption": caption,
    }
    return observe(name=f"ranking {target}", figure=figure)


def target_picture(comparison: Comparison, target: str) -> Evidence:
    """Return the figure of one target: error against multiply-adds and against features, on one scale of errors."""
    results = [one for one in comparison.results if one.target == target and one.basis == "width"]
    exact = {"exact attention": median(one.multiply_adds for one in comparison.targets if one.name == target)}
    panels = [
        _panel(results, "multiply_adds", limits=exact, title="", names=False, x_label="multiply-adds per query"),
        _panel(results, "features", title="", names=True, x_label="features or landmarks", ticks=comparison.widths),
    ]
    heads = [one for one in comparison.targets if one.name == target]
    caption = (
        f"Error of attention against cost and against width, median over {_heads(heads)}; bands from the best head to the "
        "worst for the methods in bold. Dashed: answers in which no row depends on its own query; what lies in the shaded part is no better. "
        "Dotted: the cost of the exact answer."
    )
    return observe(name=f"target {target}", figure=_contest(comparison, panels, caption, shared=True))


def overview(comparison: Comparison) -> Evidence | None:
    """Return the figure of exp as trained and after pre-scaling, side by side; ``None`` where one was not measured."""
    panels = []
    for target, title in OVERVIEW.items():
        results = [one for one in comparison.results if one.target == target and one.basis == "width"]
        panels.append(_panel(results, "features", title=title, names=True, x_label="features", ticks=comparison.widths))
    if not all(panel["series"] for panel in panels):
        return None
    caption = (
        f"Relative error of attention with the kernel exp, median over {_heads(comparison.heads)}; bands from the best head to the "
        "worst for the methods in bold. Dashed: answers in which no row depends on its own query; a method in the shaded part does no better "
        "than to ignore the queries."
    )
    return observe(name="as trained and after pre-scaling", figure=_contest(comparison, panels, caption, shared=False))


def scaling_picture(ablation: Ablation) -> Evidence:
    """Return the figure of the ablation: distance to softmax, features needed, what post-scaling leaves."""
    settings = {"raw": "raw: as trained", "unit": "unit: pre-scaled", "released": "released: divided by ∜d too"}
    present = {one: name for one, name in settings.items() if ablation.of(one)}
    last = list(present)[-1]
    distance = {name: ablation.values(one, "distance") for one, name in present.items()}
    distance["plain mean of V: no queries, no keys"] = ablation.values(last, "mean_of_softmax")
    needed = {f"kernel within 10 %, {one}": ablation.values(one, "pair_features") for one in present}
    needed |= {f"as good as the mean of V, {one}": ablation.values(one, "matching_features") for one in present}
    left = {
        "nothing": ablation.values(last, "distance"),
        "γ per channel": ablation.values(last, "exact_restored.gamma"),
        "γ and β per channel": ablation.values(last, "exact_restored.power"),
        "least with any γ and β ≥ 0": ablation.values(last, "exact_restored.monotone"),
        "one row for all queries instead": ablation.values(last, "exact_restored.constant"),
    }
    away = "relative distance to softmax attention"
    panels = [
        _strip(
            "What is computed: distance of the exact attention to softmax attention",
            away,
            distance,
            list(distance)[-1:],
        ),
        _strip("What it costs: kernel value of the median pair, and attention", "features D", needed, [], log=True),
        _strip(
            f"What post-scaling leaves of it ({last}), fitted to softmax attention itself", away, left, list(left)[-1:]
        ),
    ]
    caption = (
        "One dot per head, the stroke their median unless some are missing. Orange: answers that ignore the queries."
    )
    return observe(name="pre-scaling and post-scaling", figure={"plot": "dots", "panels": panels, "caption": caption})


def _contest(comparison: Comparison, panels: list[dict[str, Any]], caption: str, *, shared: bool) -> dict[str, Any]:
    return {
        "plot": "contest",
        "panels": panels,
        "families": _families(comparison),
        "shared": shared,
        "caption": caption,
    }


def _families(comparison: Comparison) -> dict[str, str]:
    """Return the family of every method, whatever one figure shows, so that each looks the same in all of them."""
    found = {one.method: one.family for one in comparison.results if one.family != BASELINE}
    first = {found[name] for name in STRONG if name in found}
    return dict(sorted(found.items(), key=lambda item: (item[1] != BEYOND_THE_PAPER, item[1] not in first)))


def _strip(
    title: str, x_label: str, groups: dict[str, list[float]], marked: list[str], *, log: bool = False
) -> dict[str, Any]:
    missing = "without a trusted prediction"
    return {"title": title, "x_label": x_label, "groups": groups, "marked": marked, "log": log, "missing": missing}


def _panel(results: Iterable[Result], x: str, **fields: Any) -> dict[str, Any]:
    """Return one panel: a series per method that has such an ``x``, a level per baseline and per method without one."""
    methods: dict[str, dict[float, list[Result]]] = {}
    levels: dict[str, list[Result]] = {}
    for one in results:
        place = getattr(one, x)
        if one.family == BASELINE or place is None:
            levels.setdefault(one.method, []).append(one)
        else:
            width = place if one.width is None else one.width
            methods.setdefault(one.method, {}).setdefault(width, []).append(one)
    series = {method: _series(list(widths.values()), x) for method, widths in methods.items()}
    shown = {method: error for method, group in levels.items() if (error := finite(median(_errors(group))))}
    return {"series": series, "levels": shown, **fields}


def _series(groups: list[list[Result]], x: str) -> dict[str, Any]:
    """Return the points of one method, those of equal ``x`` once: a map that is full spends no more.

    A map that does not use all features that it may have stands where it was asked to be.
    """
    places = [median(getattr(one, x) for one in group) for group in groups]
    first = groups[0][0]
    if x == "features" and len(set(places)) > 1:
        places = [float(group[0].width or place) for group, place in zip(groups, places, strict=True)]
    points = {place: _errors(group) for place, group in zip(places, groups, strict=True)}
    return {
        "x": list(points),
        "error": [finite(median(errors)) for errors in points.values()],
        "lower": [finite(min(errors)) for errors in points.values()],
        "upper": [finite(max(errors)) for errors in points.values()],
        "strong": first.method in STRONG,
    }


def _errors(group: Iterable[Result]) -> list[float]:
    return [or_inf(one.error) for one in group]


def _heads(heads: Sequence[Any]) -> str:
    return f"{decimal(len(heads))} heads" if len(heads) > 1 else "one head"
