"""The pages and pictures of `compare` and of the ablation of scaling: self-contained, no script, nothing fetched."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schoenbat_theory.compare.costs import RULE
from schoenbat_theory.compare.figures import overview, scaling_picture, target_picture
from schoenbat_theory.compare.results import BASELINE, ROUNDING, Comparison, Result
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.compare.scaling.ablation import Ablation
from schoenbat_theory.compare.scaling.words import scaling_sentences
from schoenbat_theory.files import slug
from schoenbat_theory.markup import decimal
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.report import Gallery, render, write_folder

__all__ = ["Section", "page", "save", "scaling_page"]

DATA = {"shipped": "of all-MiniLM-L6-v2, shipped with this package", "arrays": "given as arrays"}
USUAL_WIDTH = 256  # of the tables, where it was measured


@dataclass(frozen=True)
class Section:
    """What the page shows of one target.

    ``tables``    heading -> rows of texts under `COLUMNS`, the first the method;  ``heads``  errors, head by head
    ``distance``  of the exact attention from softmax attention, in words; empty where it is softmax attention
    """

    target: str
    sentence: str
    distance: str
    picture: Evidence
    tables: dict[str, list[list[str]]]
    heads: list[list[str]]


COLUMNS = ("method", "features", "multiply-adds", "error", "worst head", "skill", "rows ≤ 0", "seconds", "MB")


def page(comparison: Comparison) -> str:
    """Return the comparison as one self-contained HTML page; the same comparison gives the same text on one machine."""
    return _page(comparison, _pictures(comparison), Gallery())


def _page(comparison: Comparison, pictures: dict[str, Evidence], gallery: Gallery) -> str:
    width = USUAL_WIDTH if USUAL_WIDTH in comparison.widths else comparison.middle
    return render(
        "compare.html.j2",
        gallery,
        comparison=comparison,
        data=_whose(comparison.data),
        columns=COLUMNS,
        width=width,
        rule=RULE,
        overview=pictures.get("overview"),
        sections=_sections(comparison, pictures, width),
        undefined={one.name: one.undefined for one in comparison.targets if one.undefined},
    )


def scaling_page(ablation: Ablation) -> str:
    """Return the ablation of scaling as one self-contained HTML page."""
    return _scaling_page(ablation, scaling_picture(ablation), Gallery())


def _scaling_page(ablation: Ablation, picture: Evidence, gallery: Gallery) -> str:
    names = ("head", "setting", "distance", "10 % at the median pair", "match the mean", "predicted", "measured", "total", "γ", "γ, β", "floor")  # fmt: skip
    rows = [
        [
            row.head,
            row.setting,
            *(
                _number(value)
                for value in (
                    row.distance, row.pair_features, row.matching_features, row.predicted if row.trusted else None, row.measured,
                    row.total, row.exact_restored.gamma, row.exact_restored.power, row.exact_restored.monotone,
                )
            ),
        ]
        for row in ablation.rows
    ]  # fmt: skip
    return render(
        "scaling.html.j2",
        gallery,
        ablation=ablation,
        data=_whose(ablation.data),
        heads=len({row.head for row in ablation.rows}),
        picture=picture,
        parts_of_text=scaling_sentences(ablation),
        columns=names,
        rows=rows,
    )


def _whose(data: str) -> str:
    """Return where heads are from, to be read after "heads"."""
    return DATA.get(data, f"of {data}")


def save(comparison: Comparison, folder: str | os.PathLike[str], ablation: Ablation) -> list[Path]:
    """Write compare.json, compare.html, scaling.json, scaling.html and figures/ into ``folder``, and return their paths.

    Everything is made before anything is written, so that a failure leaves the old files as they were; figures of
    an earlier run are removed.
    """
    ablation = dataclasses.replace(ablation, data=comparison.data)  # of the same heads, and under the same name
    gallery, pictures, scaling = Gallery(), _pictures(comparison), scaling_picture(ablation)
    texts = {
        "compare.json": comparison.to_json(),
        "compare.html": _page(comparison, pictures, gallery),
        "scaling.json": ablation.to_json(),
        "scaling.html": _scaling_page(ablation, scaling, gallery),
    }
    figures = {slug(name): one for name, one in {**pictures, "scaling": scaling}.items()}
    return write_folder(texts, gallery.files(figures), folder)


def _pictures(comparison: Comparison) -> dict[str, Evidence]:
    """Return the picture of every target, and that of both settings of exp where both were measured."""
    pictures = {target: target_picture(comparison, target) for target in comparison.sentences()}
    both = overview(comparison)
    return pictures if both is None else {**pictures, "overview": both}


def _sections(comparison: Comparison, pictures: dict[str, Evidence], width: int) -> list[Section]:
    rows = comparison.rows()
    sections = []
    for target, sentence in comparison.sentences().items():
        mine = [row for row in rows if row.target == target]
        equal = [row for row in mine if row.basis == "width" and row.width in (width, None)]
        costs = [row for row in mine if row.basis == "multiply-adds" or row.family == BASELINE]
        distances = [one.distance for one in comparison.targets if one.name == target and one.distance is not None]
        tables = {f"At width {decimal(width)}": equal, "At equal multiply-adds": costs}
        sections.append(
            Section(
                target=target,
                sentence=sentence,
                distance=_distance(distances),
                picture=pictures[target],
                tables={
                    heading: [_texts(row) for row in _best_first(group)] for heading, group in tables.items() if group
                },
                heads=_heads(comparison, [one.method for one in _best_first(equal)], target, width),
            )
        )
    return sections


def _best_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: math.inf if row.error is None else row.error)


def _texts(row: Row) -> list[str]:
    numbers = (row.error, row.worst, None if row.family == BASELINE else row.skill, row.nonpositive, row.seconds)
    megabytes = None if row.peak_bytes is None else row.peak_bytes / 1e6
    cost = "–" if row.multiply_adds is None else f"{row.multiply_adds:,.0f}"
    features = "–" if row.features is None else f"{row.features:,}"
    return [row.method, features, cost, *map(_number, numbers), _number(megabytes)]


def _heads(comparison: Comparison, methods: Sequence[str], target: str, width: int) -> list[list[str]]:
    """Return, method by method, the errors of all heads, with their least and largest draw where there are several."""
    found: dict[tuple[str, str], Result] = {
        (one.method, one.head): one
        for one in comparison.results
        if one.target == target and one.basis == "width" and one.width in (width, None)
    }
    return [[method, *(_with_interval(found.get((method, head))) for head in comparison.heads)] for method in methods]


def _with_interval(result: Result | None) -> str:
    if result is None:
        return "–"
    low, high = result.interval
    if low == high:
        return _number(result.error)
    return f"{_number(result.error)} ({_number(low)} – {_number(high) if high is not None else '∞'})"


def _distance(found: Sequence[float]) -> str:
    if not found:
        return ""
    low, high = decimal(min(found), min(found) / 10), decimal(max(found), max(found) / 10)
    return low if low == high else f"{low} to {high}"


def _number(x: float | None) -> str:
    """Return a number to two digits or three; 0 for what is only rounding."""
    return decimal(x, abs(x) / 10) if x and abs(x) > ROUNDING else decimal(x and 0.0)
