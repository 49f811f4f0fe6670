"""The pages and pictures of `compare` and of the ablation of scaling: self-contained, no script, nothing fetched."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from schoenbat_theory.attention.costs import RULE
from schoenbat_theory.compare.budget import MANY
from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.figures import scaling_picture
from schoenbat_theory.compare.ratios import RATIO_COLUMNS, ratio_rows
from schoenbat_theory.compare.scaling.ablation import Ablation
from schoenbat_theory.compare.scaling.words import scaling_sentences
from schoenbat_theory.compare.sections import COLUMNS, number, pictures, sections
from schoenbat_theory.files import slug
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.report import Gallery, render, write_folder

__all__ = ["page", "save", "scaling_page", "whose"]

DATA = {"shipped": "of all-MiniLM-L6-v2, shipped with this package", "arrays": "given as arrays"}


def page(comparison: Comparison) -> str:
    """Return the comparison as one self-contained HTML page; the same comparison gives the same text on one machine."""
    return _page(comparison, pictures(comparison), Gallery())


def _page(comparison: Comparison, drawn: dict[str, Evidence], gallery: Gallery) -> str:
    return render(
        "compare.html.j2",
        gallery,
        comparison=comparison,
        data=whose(comparison.data),
        columns=COLUMNS,
        ratio_columns=RATIO_COLUMNS,
        ratios=ratio_rows(comparison.ratios()),
        rule=RULE,
        many=MANY,
        overview=drawn.get("overview"),
        sections=sections(comparison, drawn),
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
                number(value)
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
        data=whose(ablation.data),
        heads=len({row.head for row in ablation.rows}),
        picture=picture,
        parts_of_text=scaling_sentences(ablation),
        columns=names,
        rows=rows,
    )


def whose(data: str) -> str:
    """Return where heads are from, to be read after "heads"."""
    return DATA.get(data, f"of {data}")


def save(comparison: Comparison, folder: str | os.PathLike[str], ablation: Ablation) -> list[Path]:
    """Write compare.json, compare.html, scaling.json, scaling.html and figures/ into ``folder``, and return their paths.

    Everything is made before anything is written, so that a failure leaves the old files as they were; figures of
    an earlier run are removed.
    """
    ablation = dataclasses.replace(ablation, data=comparison.data)  # of the same heads, and under the same name
    gallery, drawn, scaling = Gallery(), pictures(comparison), scaling_picture(ablation)
    texts = {
        "compare.json": comparison.to_json(),
        "compare.html": _page(comparison, drawn, gallery),
        "scaling.json": ablation.to_json(),
        "scaling.html": _scaling_page(ablation, scaling, gallery),
    }
    figures = {slug(name): one for name, one in {**drawn, "scaling": scaling}.items()}
    return write_folder(texts, gallery.files(figures), folder)
