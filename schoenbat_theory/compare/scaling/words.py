"""What the ablation of the scaling says, in sentences computed from its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from schoenbat_theory.compare.quantities import ROUNDING, counted
from schoenbat_theory.compare.scaling.ablation import Ablation
from schoenbat_theory.markup import decimal

__all__ = ["scaling_sentences", "span"]

CALLED = {"raw": "as trained", "unit": "pre-scaled to length 1", "released": "pre-scaled, with the factor d^(-1/4)"}


def scaling_sentences(ablation: Ablation) -> dict[str, list[str]]:
    """Return heading -> sentences; what needs a setting that does not exist for the kernel is left out."""
    present = [setting for setting in CALLED if ablation.of(setting)]
    parts = {
        "What pre-scaling does to the target": _distance(ablation, present),
        "What it does to the price of random features": _cost(ablation, present),
        "What the features buy": _use(ablation, [one for one in present if one != "raw"]),
        "What post-scaling can restore, and what not": [
            sentence for one in ("released",) if one in present for sentence in _restored(ablation, one)
        ],
    }
    return {heading: sentences for heading, sentences in parts.items() if sentences}


def span(values: Sequence[float]) -> str:
    """Return the range of positive numbers in words, to two digits.

    >>> span([0.123, 0.456]), span([2.0])
    ('0.12 to 0.46', '2')
    """
    low, high = (_two_digits(pick(values)) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _two_digits(x: float) -> str:
    if not math.isfinite(x) or x == 0:
        return decimal(x)
    power = 10.0 ** (math.floor(math.log10(abs(x))) - 1)
    return decimal(round(x / power) * power) if 1e-3 < abs(x) < 1e6 else decimal(x, abs(x) / 10)


def _distance(ablation: Ablation, present: Sequence[str]) -> list[str]:
    plain = ablation.values(present[0], "mean_of_softmax")
    sentences = [
        f"All distances are relative to the norm of what they are distances from. Without pre-scaling the target is the "
        f"softmax attention of these heads; the plain mean of V, which knows neither queries nor keys, is {span(plain)} away from it."
    ]
    for setting in present:
        distance = ablation.values(setting, "distance")
        if max(distance) < 1e-6:  # only rounding: the target itself
            sentences.append(f"{CALLED[setting].capitalize()}, the kernel {ablation.kernel} is softmax attention.")
            continue
        sentences.append(
            f"{CALLED[setting].capitalize()}, the exact attention is {span(distance)} away from softmax attention, nearer than the "
            f"mean of V by {_nearer(distance, plain)}, before anything is approximated."
        )
    return sentences


def _cost(ablation: Ablation, present: Sequence[str]) -> list[str]:
    sentences = []
    for setting in present:
        features = ablation.values(setting, "pair_features")
        sentences.append(
            f"{CALLED[setting].capitalize()}, the median pair needs {span(features)} random Maclaurin features for a "
            "standard deviation of 10 % of its kernel value."
        )
    trusted = [row for row in ablation.rows if row.trusted and min(row.measured, row.predicted) > ROUNDING]
    if trusted:
        ratio = [row.measured / row.predicted for row in trusted]
        sentences.append(
            f"These are closed forms. They also predict, to first order in 1 / D, the error of the attention output at width "
            f"{decimal(ablation.width)}: over {counted(ablation.draws, 'draw')}, measured over predicted is {span(ratio)} in the "
            f"{len(trusted)} of {counted(len(ablation.rows), 'case')} in which that prediction is to be believed."
        )
    return sentences


def _use(ablation: Ablation, present: Sequence[str]) -> list[str]:
    sentences = []
    for setting in present:
        measured, plain = ablation.values(setting, "measured"), ablation.values(setting, "mean_of_target")
        matching = [d for d in ablation.values(setting, "matching_features") if math.isfinite(d)]
        sentence = (
            f"{CALLED[setting].capitalize()}, {decimal(ablation.width)} features err by {span(measured)} in the attention of "
            f"this setting, and the plain mean of V, with no features at all, by {span(plain)}"
        )
        if matching:
            where = "" if len(matching) == len(measured) else f" on {len(matching)} of {counted(len(measured), 'head')}"
            sentence += f"; {span(matching)} features are needed to be as good as that mean{where}"
        total, softmax = ablation.values(setting, "total"), ablation.values(setting, "mean_of_softmax")
        sentences.append(
            f"{sentence}. Seen from softmax attention, the approximation is {span(total)} away, the mean of V {span(softmax)}: "
            f"nearer by {_nearer(total, softmax)}."
        )
    return sentences


def _restored(ablation: Ablation, setting: str) -> list[str]:
    def of(name: str) -> list[float]:
        return ablation.values(setting, f"exact_restored.{name}")

    bounds = [row.exact_restored.bound for row in ablation.of(setting)]
    shares = [
        (row.distance - row.exact_restored.constant) / (row.distance - row.exact_restored.gamma)
        for row in ablation.of(setting)
        if row.distance - row.exact_restored.gamma > ROUNDING
    ]
    told = shares and min(shares) >= 0  # else that row is farther away than the attention is without γ
    attention = f": of what γ restores, {_shares(shares)} needs no attention" if told else ""
    return [
        "Post-scaling, γ sign(a) |a|^β entry by entry, can restore a norm. Whether it restores the attention is another "
        "question, and these numbers answer it generously: γ and β are fitted to softmax attention itself, for every channel "
        "of every head, which no training with β ≥ 0 can do better on this input, but for the steps of the grid of β.",
        f"{CALLED[setting].capitalize()}: of a distance of {span(ablation.values(setting, 'distance'))}, the best γ leaves {span(of('gamma'))}, the best γ and β "
        f"{span(of('power'))}. No γ and no β ≥ 0 leave less than {span(of('monotone'))}, nor does any function of the entries "
        "that is monotone in each channel.",
        f"One row, the same for all queries, fitted likewise, leaves {span(of('constant'))}{attention}. The output after γ is within {span(of('spread'))} of such a row, and hence, by the triangle "
        f"inequality, at least {span(bounds)} away from softmax attention.",
        "Queries whose outputs agree keep agreeing: each entry is mapped alone, and what pre-scaling has made equal no "
        "γ and β can tell apart.",
        f"With {decimal(ablation.width)} random features in place of the exact attention, the best γ leaves "
        f"{span(ablation.values(setting, 'drawn_restored.gamma'))}, the best γ and β "
        f"{span(ablation.values(setting, 'drawn_restored.power'))}.",
    ]


def _nearer(distances: Sequence[float], others: Sequence[float]) -> str:
    """Return by which shares of the others distances are less; heads whose other distance is only rounding have none."""
    return _shares([1 - one / other for one, other in zip(distances, others, strict=True) if other > ROUNDING])


def _shares(shares: Sequence[float]) -> str:
    """Return the range of shares in per cent."""
    if not shares:
        return "nothing"
    low, high = (f"{100 * pick(shares):.1f}".replace("-", "−") for pick in (min, max))
    return f"{low} %" if low == high else f"{low} to {high} %"
