"""A million tokens: attention in linear time, and the memory that it takes beside input and output."""

from __future__ import annotations

from schoenbat_theory.benchmark.problem import Scene
from schoenbat_theory.benchmark.scenes.attention import FIRST_ORDER, GEOMETRIC, HEADS, joined_inputs, joined_target

__all__ = ["LONG"]

LONG = Scene(
    "long",
    joined_inputs,
    joined_target,
    [GEOMETRIC, FIRST_ORDER],
    {4096: 15, 16384: 9, 65536: 5, 262144: 5, 1048576: 3},
    heads=HEADS,
    warm=True,
)
