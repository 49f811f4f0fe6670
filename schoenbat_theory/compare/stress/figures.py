"""Figure data of a stress test, as `plots` draws them."""

from __future__ import annotations

import math

from schoenbat_theory.attention.sharpness import WORKS
from schoenbat_theory.compare.quantities import finite
from schoenbat_theory.compare.stress.results import LIMIT, RULED, Stress
from schoenbat_theory.propositions import Evidence, observe

__all__ = ["curves", "harm_picture"]

NAMES = {"first order": "first order", "monomials": "monomials", "local": "local expansions"}


def harm_picture(found: Stress) -> Evidence:
    """Return the figure of harm: per method the worst ratio of every head and input, over seeds."""
    groups = {method: [max(one.ratios) for one in found.of(method)] for method in found.methods}
    panel = {
        "title": "Error over that of the better mean of the values, worst of all seeds",
        "x_label": "1 is an answer that knows nothing of a query",
        "groups": groups,
        "marked": [method for method, ratios in groups.items() if max(ratios) > LIMIT],
        "log": True,
        "missing": "exact, or without an answer",
    }
    caption = f"One dot per head and input, the stroke their median. Orange: methods above {LIMIT} somewhere."
    return observe(name="harm", figure={"plot": "dots", "panels": [panel], "caption": caption})


def curves(found: Stress) -> dict[str, Evidence]:
    """Return head -> the figure of its errors against the temperature, with what the rule names."""
    pictures = {}
    for head in found.heads:
        points = [one for one in found.curve if one.head == head]
        means = [
            min(value for name, value in one.errors.items() if name.endswith("mean of the values")) for one in points
        ]
        series = {
            "better mean of the values": means,
            **{NAMES[family]: [finite(one.errors[method]) for one in points] for family, method in RULED.items()},
            "what the rule names": [one.error or None for one in points],
        }
        sharp = ", ".join(f"{math.sqrt(2 * one.divergence):.2f}" for one in points)
        figure = {
            "plot": "curves",
            "x": [one.beta for one in points],
            "series": series,
            "x_label": "logits times",
            "y_label": "relative error",
            "log_x": True,
            "log_y": True,
            "lines": {f"{100 * WORKS:g} %": WORKS},
            "caption": f"{head}. From left to right √(2A) is {sharp}.",
        }
        pictures[head] = observe(name=f"curve {head}", figure=figure)
    return pictures
