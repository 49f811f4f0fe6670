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
from schoenbat_theory.benchmark.floor import Work
from schoenbat_theory.timings import LEAST

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

FULL = dict.fromkeys((512, 1024, 2048, 4096, 8192, 16384), LEAST)  # n -> repeats, at least
LONGER = FULL | {32768: LEAST, 65536: LEAST}
QUICK = dict.fromkeys((256, 512), LEAST)
HEAD = 6  # layer 5, head 8: there landmarks do worst of that layer


def no_draw(inputs: Inputs, rng: np.random.Generator) -> None:
    """Make nothing beforehand."""


@dataclass(frozen=True)
class Method:
    """What solves a scene: ``run(inputs, made)`` gives (..., n, e), where ``made = make(inputs, rng)`` is made once, untimed.

    ``size`` landmarks or features, or their number as a function of n, ``None`` where exact: nothing is drawn then;
    ``longest`` the largest n;  ``note`` for captions;  ``work(inputs, made)`` what a run executes, by which its floor is
    known;  ``target`` in place of the scene's. Methods of a scene are given the same draws: generators in the same state.
    """

    name: str
    run: Callable[[Inputs, Any], Array]
    make: Callable[[Inputs, np.random.Generator], Any] = no_draw
    size: int | Callable[[int], int] | None = None
    causal: bool = False
    longest: int = sys.maxsize
    note: str = ""
    work: Callable[[Inputs, Any], Work] | None = None
    target: Callable[[Inputs, np.ndarray, bool], tuple[Array, Array]] | None = None

    def size_at(self, n: int) -> int | None:
        """Return the number of landmarks or features at length n."""
        return self.size(n) if callable(self.size) else self.size


@dataclass(frozen=True)
class Scene:
    """A problem: ``inputs(n, rng)``; ``target(inputs, rows, causal)`` gives (exact, without information) on these rows.

    ``full``  length -> repeats, at least;  ``enough``  seconds that the repeats of a method take together, at least, as long
    as they are no more than 25: who is fast is repeated more often
    ``rows``  of the output that errors are measured on;  ``heads``  of the shipped ones, whose tokens the inputs are
    ``parallel``  methods use all cores by themselves: BLAS is given one thread, and an untimed run goes before every timed
    one, so that no method pays for idle threads of another library, which wait for work without sleeping
    ``warm``  an untimed run goes before every timed one, and BLAS has its threads for those who use them
    ``seen(output, rows)``  what of an output is compared with the target
    """

    name: str
    inputs: Callable[[int, np.random.Generator], Inputs]
    target: Callable[[Inputs, np.ndarray, bool], tuple[Array, Array]]
    methods: Sequence[Method]
    full: Mapping[int, int] = field(default_factory=lambda: FULL)
    enough: float = 0.5
    rows: int = 64
    heads: Sequence[int] = (HEAD,)
    parallel: bool = False
    warm: bool = False
    seen: Callable[[Array, np.ndarray], Array] = lambda output, rows: output[..., rows, :]

    def lengths(self, quick: bool) -> Mapping[int, int]:
        """Return n -> repeats, at least."""
        return QUICK if quick else self.full


@functools.cache
def _heads() -> tuple[Head, ...]:
    return shipped_heads()


def tokens(scenes: Iterable[Scene]) -> str:
    """Return what the tokens of scenes are, in words."""
    names = dict.fromkeys(_heads()[head].name for scene in scenes for head in scene.heads)
    return f"tokens of {', '.join(names)}, drawn with replacement, with noise"


def draw_tokens(n: int, rng: np.random.Generator, *heads: int) -> tuple[np.ndarray, ...]:
    """Return q, k, v (n, d), float64, unscaled: tokens of shipped heads with noise, those of several heads side by side."""
    shipped = [_heads()[head] for head in heads or (HEAD,)]
    q, k, v = (np.concatenate([getattr(one, name) for one in shipped], axis=1) for name in "qkv")
    which = rng.integers(len(q), size=n)
    return tuple(x[which] + 0.1 * x.std(axis=0) * rng.normal(size=(n, x.shape[1])) for x in (q, k, v))


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
