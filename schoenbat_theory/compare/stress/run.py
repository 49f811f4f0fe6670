"""Stress: inputs of all heads in parallel, then their curves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from schoenbat_theory.arrays import require_bool, require_int
from schoenbat_theory.compare.measure import swept
from schoenbat_theory.compare.methods import methods
from schoenbat_theory.compare.stress.inputs import BETAS, BETWEEN, HALF, INPUTS, drawn, random_heads
from schoenbat_theory.compare.stress.measure import APPROXIMATE, LEVEL, ROWS, CurveJob, StressJob
from schoenbat_theory.compare.stress.results import RULED, Stress
from schoenbat_theory.compare.targets import given_heads

__all__ = ["SEEDS", "stress"]

SEEDS = 20
WIDTH = 256
CONTROLS = ("positive, orthogonal", "random Maclaurin")  # maps of the literature


def stress(
    q: Any = None,
    k: Any = None,
    v: Any = None,
    *,
    seeds: int = SEEDS,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> Stress:
    """Stress the methods beyond the paper: other temperatures, halves of the tokens, many seeds, and their certificates.

    ``q`` (heads, n, d), ``k`` (heads, m, d), ``v`` (heads, m, e)   unscaled; none of them: the eight shipped heads
    ``seeds``    draws of everything that is random, of halves and of the rows of certificates too, >= 1
    ``seed``     root of all streams;  ``workers``  processes, ``None``: one per core;  ``progress``  a bar on standard error

    Softmax attention, unscaled tokens times d^(-1/4). Per head, input of `INPUTS`, method and seed: the error over that of the better of
    the two means of the values on that input, and whether an approximate certificate from 64 rows at the level 95 % covers
    the error, misses it, or refuses. What has nothing to draw runs once per input. Per head and temperature of `BETAS`: what `sharpness`
    says, and the errors, one draw each. Maps are 256 wide; the budget of approximate attention is the same, but below the cost of
    exact attention, which it would return else. Streams have addresses: the same seed gives the same numbers
    on any number of workers. Raises as `compare` does.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(3, 1, 32, 4))
    >>> stress(*x, seeds=1, workers=1).inputs
    ('logits × 0.5', 'as trained', 'logits × 2', 'half of the tokens')
    """
    heads = given_heads(q, k, v)
    seeds, seed = require_int("seeds", seeds, 1), require_int("seed", seed, 0)
    workers = None if workers is None else require_int("workers", workers, 1)
    known = methods()
    chosen = [known[name] for name in (*RULED.values(), APPROXIMATE, *CONTROLS)]
    cases = [StressJob(head, name, chosen, WIDTH, seeds, seed) for head in heads for name in INPUTS]
    curve = [CurveJob(head, BETAS, chosen, WIDTH, seed) for head in heads]
    fresh = [*(drawn(HALF, head, seed, seeds) for head in heads), *random_heads(heads[0], seed)]
    afresh = [CurveJob(head, BETWEEN, chosen, WIDTH, seed) for head in fresh]
    jobs: Sequence[Any] = [*cases, *curve, *afresh]
    found = swept(jobs, workers, require_bool("progress", progress))
    first, last = len(cases), len(cases) + len(curve)
    return Stress(
        cases=_flat(found[:first]),
        curve=_flat(found[first:last]),
        afresh=_flat(found[last:]),
        heads=tuple(head.name for head in heads),
        inputs=INPUTS,
        methods=tuple(one.name for one in chosen),
        seeds=seeds,
        seed=seed,
        rows=ROWS,
        level=LEVEL,
        width=WIDTH,
        data="shipped" if q is None else "arrays",
    )


def _flat(found: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(itertools.chain.from_iterable(found))
