"""The page and the pictures of a stress test: self-contained, no script, nothing fetched."""

from __future__ import annotations

import os
from pathlib import Path

from schoenbat_theory.compare.page import whose
from schoenbat_theory.compare.stress.figures import curves, harm_picture
from schoenbat_theory.compare.stress.results import LIMIT, Stress
from schoenbat_theory.compare.stress.table import COVERAGE, CURVE, HARM, coverage, curve, harm, sentences
from schoenbat_theory.files import slug
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.report import Gallery, render, write_folder

__all__ = ["page", "save"]


def page(found: Stress) -> str:
    """Return the stress test as one self-contained HTML page; the same test gives the same text on one machine."""
    return _page(found, _pictures(found), Gallery())


def save(found: Stress, folder: str | os.PathLike[str]) -> list[Path]:
    """Write stress.json, stress.html and figures/ into ``folder``, and return their paths; older figures there go."""
    gallery, pictures = Gallery(), _pictures(found)
    texts = {"stress.json": found.to_json(), "stress.html": _page(found, pictures, gallery)}
    return write_folder(texts, gallery.files({slug(name): one for name, one in pictures.items()}), folder)


def _pictures(found: Stress) -> dict[str, Evidence]:
    return {"harm": harm_picture(found), **{f"curve {head}": one for head, one in curves(found).items()}}


def _page(found: Stress, pictures: dict[str, Evidence], gallery: Gallery) -> str:
    return render(
        "stress.html.j2",
        gallery,
        found=found,
        data=whose(found.data),
        limit=LIMIT,
        sentences=sentences(found),
        harm=(HARM, harm(found)),
        coverage=(COVERAGE, coverage(found)),
        curve=(CURVE, curve(found.curve)),
        afresh=(CURVE, curve(found.afresh)),
        picture=pictures["harm"],
        curves={name: one for name, one in pictures.items() if name != "harm"},
    )
