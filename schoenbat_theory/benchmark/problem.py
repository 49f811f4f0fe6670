"""A problem of any length, the methods that solve it, and the exact answer on some rows.

Tokens are those of shipped heads, drawn with replacement, and noise of a tenth of the standard deviation of each coordinate, so that no
two are equal: real norms and directions at any length. The order of a real text is lost, and longer sequences have no more variety.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.activations import Head, shipped_heads
from schoenbat_theory.arrays import Array

__all__ = [
    "FULL",
    "LONGER",
    "Inputs",
    "Method",
    "Scene",
    "double",
    "draw_tokens",
    "no_draw",
    "seed",
    "single",
    "tokens",
]

Inputs = Mapping[str, Any]  # q, k, v and what else the scene has, float32; "width" is d or None

FULL = {512: 9, 1024: 9, 2048: 7, 4096: 5, 8192: 3, 16384: 3}  # n -> repeats: a table, not seconds
LONGER = FULL | {32768: 3, 65536: 3}
QUICK = {256: 3, 512: 3}
HEAD = 6  # layer 5, head 8: there landmarks do worst of that layer


def no_draw(inputs: Inputs, rng: np.random.Generator) -> None:
    """Make nothing beforehand."""


@dataclass(frozen=True)
class Method:
    """What solves a scene: ``run(inputs, made)`` gives (..., n, e), where ``made = make(inputs, rng)`` is made once, untimed.

    ``size`` landmarks or features, or their number as a function of n, ``None`` where exact: nothing is drawn then;
    ``longest`` the largest n;  ``note`` for captions. Methods of a scene are given the same draws: generators in the
    same state.
    """

    name: str
    run: Callable[[Inputs, Any], Array]
    make: Callable[[Inputs, np.random.Generator], Any] = no_draw
    size: int | Callable[[int], int] | None = None
    causal: bool = False
    longest: int = sys.maxsize
    note: str = ""

    def size_at(self, n: int) -> int | None:
        """Return the number of landmarks or features at length n."""
        return self.size(n) if callable(self.size) else self.size


@dataclass(frozen=True)
class Scene:
    """A problem: ``inputs(n, rng)``; ``target(inputs, rows, causal)`` gives (exact, without information) on these rows.

    ``rows``  of the output that errors are measured on;  ``heads``  of the shipped ones, whose tokens the inputs are
    ``parallel``  methods use all cores by themselves: BLAS is given one thread, and an untimed run goes before every timed
    one, so that no method pays for idle threads of another library, which wait for work without sleeping
    """

    name: str
    inputs: Callable[[int, np.random.Generator], Inputs]
    target: Callable[[Inputs, np.ndarray, bool], tuple[Array, Array]]
    methods: Sequence[Method]
    full: Mapping[int, int] = field(default_factory=lambda: FULL)
    rows: int = 64
    heads: Sequence[int] = (HEAD,)
    parallel: bool = False

    def lengths(self, quick: bool) -> Mapping[int, int]:
        """Return n -> repeats."""
        return QUICK if quick else self.full


@functools.cache
def _heads() -> tuple[Head, ...]:
    return shipped_heads()


def tokens(scenes: Iterable[Scene]) -> str:
    """Return what the tokens of scenes are, in words."""
    names = dict.fromkeys(_heads()[head].name for scene in scenes for head in scene.heads)
    return f"tokens of {', '.join(names)}, drawn with replacement, with noise"


def draw_tokens(n: int, rng: np.random.Generator, head: int = HEAD) -> tuple[np.ndarray, ...]:
    """Return q, k, v (n, d), float64, unscaled: tokens of a shipped head with noise."""
    one = _heads()[head]
    which = rng.integers(len(one.q), size=n)
    return tuple(x[which] + 0.1 * x.std(axis=0) * rng.normal(size=(n, x.shape[1])) for x in (one.q, one.k, one.v))


def single(**arrays: Any) -> Inputs:
    """Return inputs in float32."""
    return {name: x.astype(np.float32) for name, x in arrays.items()} | {"width": next(iter(arrays.values())).shape[-1]}


def double(inputs: Inputs, *names: str) -> list[np.ndarray]:
    """Return some of the inputs in float64."""
    return [inputs[name].astype(np.float64) for name in names]


def seed(inputs: Inputs, rng: np.random.Generator) -> int:
    """Return a seed, for methods that draw while they run."""
    del inputs
    return int(rng.integers(1 << 32))
