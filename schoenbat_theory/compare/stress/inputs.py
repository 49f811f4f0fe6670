"""Inputs of the stress test: what a method was not made for, made of heads that are at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from schoenbat_theory.activations import Head
from schoenbat_theory.sampling import stream

__all__ = ["BETAS", "BETWEEN", "HALF", "INPUTS", "drawn", "heated", "random_heads"]

HALF = "half of the tokens"
FACTORS = {"logits × 0.5": 0.5, "as trained": 1.0, "logits × 2": 2.0}
INPUTS = (*FACTORS, HALF)
BETAS = tuple(2.0**i for i in range(-4, 3))  # of the curve
BETWEEN = (0.09, 0.35, 0.7, 1.4, 2.8)  # temperatures on which no rule was set
CENTRES = 16  # of random heads in clusters


def heated(head: Head, beta: float) -> Head:
    """Return the head with logits times ``beta``."""
    return Head(f"{head.name}, logits × {beta:g}", beta * head.q, head.k, head.v)


def drawn(name: str, head: Head, seed: int, index: int) -> Head:
    """Return the input ``name`` of a head; the half is another one for every ``index``, queries and keys drawn apart.

    The same numbers come whatever else runs: the stream has an address.
    """
    if name != HALF:
        return heated(head, FACTORS[name])
    rng = stream(seed, "stress", HALF, head.name, str(index))
    rows, keys = (np.sort(rng.permutation(len(x))[: (len(x) + 1) // 2]) for x in (head.q, head.k))
    return Head(f"{head.name}, half {index}", head.q[rows], head.k[keys], head.v[keys])


def random_heads(like: Head, seed: int) -> Iterator[Head]:
    """Yield heads of the size of another, without a text, of four kinds: values are independent of the keys, or follow them."""
    (n, d), (m, e) = like.q.shape, like.v.shape
    for name in ("independent normal", "heavy tails", "few directions", "clusters"):
        rng = stream(seed, "stress", "random", name)
        q, k, v = (rng.normal(size=shape) for shape in ((n, d), (m, d), (m, e)))
        if name == "heavy tails":
            q, k = (rng.standard_t(5, size=x.shape) for x in (q, k))
        if name == "few directions":
            q, k = (4 * x * 2.0 ** -np.arange(d) for x in (q, k))
            v = np.tanh(k @ rng.normal(size=(d, e))) + v / 4 + 1
        if name == "clusters":
            rows, keys = rng.integers(CENTRES, size=n), rng.integers(CENTRES, size=m)
            q = rng.normal(size=(CENTRES, d))[rows] + q / 2
            k, v = (rng.normal(size=(CENTRES, x.shape[1]))[keys] + x / 2 for x in (k, v))
        yield Head(name, q, k, v)
