"""A stress test in rows of texts, for the terminal and for the page, and in sentences computed from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from schoenbat_theory.attention.sharpness import WORKS
from schoenbat_theory.compare.quantities import counted, median, short
from schoenbat_theory.compare.stress.results import COVERED, EXACT, LIMIT, MISSED, REFUSED, RULED, Case, Point, Stress
from schoenbat_theory.confidence import binomial_limits
from schoenbat_theory.results import columns

__all__ = ["COVERAGE", "CURVE", "HARM", "coverage", "curve", "harm", "sentences", "table"]

HARM = ("method", "input", "error", "over the better mean", "worst of these", "where", f"above {LIMIT}")
COVERAGE = (
    "method",
    "cases",
    "covered",
    "missed",
    "refused",
    "exact",
    "covers",
    "95 % interval",
    "of all",
    "least input",
)
CURVE = ("input", "logits ×", "spread", "√(2A)", "r", "tail", "keys", "a row's", *RULED, "rule", "enough")


def table(found: Stress) -> str:
    """Return what a stress test found, as text for a terminal."""
    blocks = {
        _title(found): [],
        "Error, and error over that of the better mean of the values on the same input: medians over heads and seeds, worst of all": [
            HARM,
            *harm(found),
        ],
        f"Certificates from {found.rows} rows at the level {100 * found.level:g} %": [COVERAGE, *coverage(found)],
        "The curve against the temperature: what sharpness says, errors, the rule and what would be enough": [
            CURVE,
            *curve(found.curve),
        ],
        "The same on inputs that the rule was not set on": [CURVE, *curve(found.afresh)],
    }
    texts = [
        "\n".join([title, *(f"  {line}" for line in columns(rows) if rows)]) if rows else title
        for title, rows in blocks.items()
    ]
    return "\n\n".join([*texts, "\n".join(sentences(found))])


def harm(found: Stress) -> list[list[str]]:
    """Return per method and input, under `HARM`, how it does beside the means of the values."""
    rows = []
    for method in found.methods:
        for name in (*found.inputs, "all inputs"):
            cases = found.of(method, None if name == "all inputs" else name)
            ratios = [ratio for one in cases for ratio in one.ratios]
            worst = max(cases, key=lambda one: max(one.ratios))
            above = sum(ratio > LIMIT for ratio in ratios) / len(ratios)
            where = worst.head if name != "all inputs" else f"{worst.head}, {worst.input}"
            error = median(error for one in cases for error in one.errors)
            rows.append([method, name, *map(short, (error, median(ratios), max(ratios))), where, f"{above:.1%}"])
    return rows


def coverage(found: Stress) -> list[list[str]]:
    """Return per method and pooled, under `COVERAGE`, what became of the certificates."""
    rows = [_covered(method, [found.of(method, name) for name in found.inputs]) for method in found.methods]
    return [
        *rows,
        _covered("all methods", [[one for one in found.cases if one.input == name] for name in found.inputs]),
    ]


def _covered(name: str, inputs: Sequence[Sequence[Case]]) -> list[str]:
    each = [Counter(word for one in cases for word in one.certificates) for cases in inputs]
    total = sum(each, Counter[str]())
    given = total[COVERED] + total[MISSED]
    asked = given + total[REFUSED]
    shares = [one[COVERED] / (one[COVERED] + one[MISSED]) for one in each if one[COVERED] + one[MISSED]]
    low, high = binomial_limits(np.asarray(total[COVERED]), given, 0.05) if given else (0.0, 1.0)
    return [
        name,
        *(f"{count:,}" for count in (sum(total.values()), *(total[one] for one in (COVERED, MISSED, REFUSED, EXACT)))),
        f"{total[COVERED] / given:.1%}" if given else "–",
        f"{low:.1%} to {high:.1%}",
        f"{total[COVERED] / asked:.1%}" if asked else "–",
        f"{min(shares):.1%}" if shares else "–",
    ]


def curve(points: Sequence[Point]) -> list[list[str]]:
    """Return the points, under `CURVE`."""
    return [
        [
            one.head,
            f"{one.beta:g}",
            *map(short, (one.spread, math.sqrt(2 * one.divergence), one.dimension, one.tail)),
            *(f"{keys:.0f}" for keys in (one.effective_keys, one.row_keys)),
            *(short(one.errors[method]) for method in RULED.values()),
            one.family,
            one.enough,
        ]
        for one in points
    ]


def sentences(found: Stress) -> list[str]:
    """Return what the numbers come to."""
    harmful = [one for one in found.methods if any(ratio > LIMIT for case in found.of(one) for ratio in case.ratios)]
    harmless = [one for one in found.methods if one not in harmful]
    said = [
        f"Never above {LIMIT} times the better mean: {'; '.join(harmless) or 'no method'}. Above it in some case: {'; '.join(harmful) or 'none'}.",
        _certified(found),
        "Cases of one head share its tokens and are not independent: the intervals of the coverage are too narrow, by how much is not known.",
    ]
    for points, where in (
        (found.curve, "heads and temperatures, most of which set its constant"),
        (found.afresh, "inputs that did not"),
    ):
        words = Counter(one.judged for one in points)
        said.append(
            f"The rule of sharpness names the cheapest family that errs by at most {100 * WORKS:g} % on {words['right']} of {len(points)} {where}, "
            f"a dearer one on {words['dearer than needed'] or 'none'}, and one that errs by more on {words['too cheap'] or 'none'}"
            + (f" (at most {short(max(one.error for one in points))})." if words["too cheap"] else ".")
        )
    return said


def _certified(found: Stress) -> str:
    """Return how often certificates cover, of all methods and of the one that is covered least."""
    words = {method: Counter(word for one in found.of(method) for word in one.certificates) for method in found.methods}
    shares = {
        name: one[COVERED] / (one[COVERED] + one[MISSED]) for name, one in words.items() if one[COVERED] + one[MISSED]
    }
    total = sum(words.values(), Counter[str]())
    if not shares:
        return "No certificate was given."
    least, given = min(shares, key=shares.__getitem__), total[COVERED] + total[MISSED]
    return (
        f"Certificates at the level {100 * found.level:g} % cover {total[COVERED]:,} of {given:,} errors, "
        f"{100 * total[COVERED] / given:.1f} %, and were refused for {total[REFUSED]:,} more, with which it is "
        f"{100 * total[COVERED] / (given + total[REFUSED]):.1f} %; "
        f"least of all they cover {100 * shares[least]:.1f} %, for {least}."
    )


def _title(found: Stress) -> str:
    return (
        f"{counted(len(found.heads), 'head')} ({found.data}), {counted(found.seeds, 'seed')} from {found.seed}, maps {found.width} wide, softmax "
        "attention."
    )
