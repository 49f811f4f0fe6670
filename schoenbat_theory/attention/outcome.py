"""What `approximate_attention` returns: an output, where it is from, how far it is off, and all that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from schoenbat_theory.arrays import Array
from schoenbat_theory.attention.certificate import Certificate
from schoenbat_theory.markup import decimal, table

__all__ = ["ApproximateAttention", "Candidate", "nested"]


class Candidate(NamedTuple):
    """What was tried: its cost in multiply-adds per query, fit included, and its relative error, estimated on 40 rows."""

    name: str
    multiply_adds: float
    error: float


@dataclass(frozen=True, eq=False)
class ApproximateAttention:
    """What `approximate_attention` returns; nested tuples and arrays of the leading axes where there are any.

    ``output``         (..., n, e)
    ``method``         name of the candidate that it is from, per head
    ``certificate``    `Certificate` of its relative error, approximate; of exact attention 0
    ``candidates``     tuple of `Candidate`, in the order in which they were tried, per head
    ``multiply_adds``  per query, of all that was computed: candidates, exact rows, and exact attention where it was
    """

    output: Array = field(repr=False)
    method: Any
    certificate: Certificate
    candidates: Any = field(repr=False)
    multiply_adds: Any

    def _repr_html_(self) -> str:
        lead = np.shape(self.certificate.error)
        rows = []
        for index in np.ndindex(lead):
            method, candidates = _at(self.method, index), _at(self.candidates, index)
            name = ", ".join(map(str, index)) or "–"
            for one in candidates:
                mark = "chosen" if one.name == method else ""
                rows.append((name, one.name, decimal(round(one.multiply_adds)), decimal(one.error), mark))
        tried = table(("head", "tried", "multiply-adds per query", "relative error, about", ""), rows)
        return tried + self.certificate._repr_html_()


def nested(values: Sequence[Any], lead: tuple[int, ...]) -> Any:
    """Return the values in nested tuples with these axes, the value itself where there are none.

    >>> nested([1, 2, 3, 4], (2, 2))
    ((1, 2), (3, 4))
    """
    if not lead:
        return values[0]
    size = len(values) // lead[0]
    return tuple(nested(values[i * size : (i + 1) * size], lead[1:]) for i in range(lead[0]))


def _at(nested: Any, index: tuple[int, ...]) -> Any:
    for i in index:
        nested = nested[i]
    return nested
