"""Softmax attention of four heads of width 64 by everything that is here and elsewhere: time, memory and error against n.

Queries and keys are pre-scaled and divided by d^(1/4), as the released code takes them, outside the time for all alike: so
inner products are at most 1/8, and attention is close to a mean.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import schoenbat_theory as st
from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.peers import PERFORMER, load_peers, performer_attentions, torch_attentions
from schoenbat_theory.benchmark.plain import PlainMaclaurin, plain_attention, plain_feature_attention
from schoenbat_theory.benchmark.problem import Inputs, Method, Scene, draw_tokens, seed
from schoenbat_theory.benchmark.scenes.work import causal_feature_work, exact_work, feature_work, first_order_work

__all__ = ["ATTENTION", "CAUSAL", "FIRST_ORDER", "GEOMETRIC", "HEADS", "WIDTH", "joined_inputs", "joined_target"]

WIDTH, DIM = 256, 64
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7))  # of the shipped heads, of one layer: side by side they are 64 wide
HEADS = tuple(head for pair in PAIRS for head in pair)
LANDMARKS = 64
PLAIN = "it loops over degrees and holds all features"


def joined_inputs(n: int, rng: np.random.Generator) -> Inputs:
    """Return q, k, v (4, n, 64), float32, queries and keys pre-scaled and divided by 64^(1/4)."""
    load_peers(PERFORMER)
    arrays = {name: np.empty((len(PAIRS), n, DIM), dtype=np.float32) for name in "qkv"}
    for head, pair in enumerate(PAIRS):  # one after another: a million tokens of all in float64 are 6 GB
        q, k, v = draw_tokens(n, rng, *pair)
        for x, found in zip(arrays.values(), (*st.prepare(q, k), v), strict=True):
            x[head] = found
    return arrays | {"width": DIM}


def joined_target(inputs: Inputs, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    """Return some rows of exact attention and of means, (4, rows, 64), computed in float64 and one head at a time."""
    found = []
    for head in range(len(PAIRS)):
        q, k, v = (inputs[name][head].astype(np.float64) for name in "qkv")
        found.append(_one_head(q, k, v, rows, causal))
    exact, blind = (np.stack(some) for some in zip(*found, strict=True))
    return exact, blind


def _one_head(q: Array, k: Array, v: Array, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    if not causal:
        return st.kernel_attention(q[rows], k, v, "exp"), np.broadcast_to(v.mean(axis=0), (len(rows), v.shape[1]))
    seen = [slice(row + 1) for row in rows]
    exact = [st.kernel_attention(q[[s.stop - 1]], k[s], v[s], "exp")[0] for s in seen]
    return np.stack(exact), np.stack([v[s].mean(axis=0) for s in seen])


def _attention(attend: Callable[..., Array], **options: Any) -> Callable[[Inputs, Any], Array]:
    """Return a run of ``attend(q, k, v)``."""
    return lambda inputs, made: attend(inputs["q"], inputs["k"], inputs["v"], **options)


def _features(inputs: Inputs, phi: Any, *, causal: bool = False) -> Array:
    return st.feature_attention(inputs["q"], inputs["k"], inputs["v"], phi, causal=causal)


def _drawn(law: Any) -> Callable[[Inputs, np.random.Generator], Any]:
    return lambda inputs, rng: law.draw(inputs["width"], rng)


def _clusters(n: int) -> int:
    return st.LocalBudget.for_length(n, n).clusters


def _optimized(inputs: Inputs, made: Any) -> Array:
    """Fit, draw and attend, all of it in the time."""
    q, k, weights = st.recenter(inputs["q"], inputs["k"])
    phi = st.OptimizedMaclaurin("exp", WIDTH).fit(q, k, weights).draw(DIM, made)
    return st.feature_attention(q, k, inputs["v"], phi, key_log_weights=weights)


def _plain(inputs: Inputs, phi: PlainMaclaurin) -> Array:
    return plain_feature_attention(inputs["q"], inputs["k"], inputs["v"], phi)


def _plain_draw(inputs: Inputs, rng: np.random.Generator) -> PlainMaclaurin:
    return PlainMaclaurin.of(LAW.draw(inputs["width"], rng))


def _undivided(inputs: Inputs, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return queries and keys times d^(1/4), by which the method divides them itself."""
    q, k = (inputs[name] * np.float32(DIM**0.25) for name in "qk")
    return q, k


def _nystromformer(inputs: Inputs, made: tuple[Array, Array]) -> Array:
    return st.nystromformer_attention(*made, inputs["v"], n_landmarks=LANDMARKS)


def _torch(*, causal: bool, longest: int) -> list[Method]:
    """Return exact attention by torch, up to ``longest`` on one thread."""
    found = torch_attentions(1.0, pre_scaled=False, causal=causal)
    return [dataclasses.replace(one, longest=longest) for one in found[:-1]] + found[-1:]


LAW = st.RandomMaclaurin("exp", WIDTH)
GEOMETRIC = Method("random Maclaurin", _features, _drawn(LAW), WIDTH, work=feature_work)
FIRST_ORDER = Method("first order", _attention(st.first_order_attention), size=1 + DIM, work=first_order_work)
_RELEASED = _drawn(st.RandomMaclaurin("exp", WIDTH, "released"))
_CAUSAL = functools.partial(_features, causal=True)

ATTENTION = Scene(
    "attention",
    joined_inputs,
    joined_target,
    [
        GEOMETRIC,
        Method("random Maclaurin, released", _features, _RELEASED, WIDTH, work=feature_work),
        Method("optimized Maclaurin", _optimized, seed, WIDTH, note="its fit is inside the time"),
        FIRST_ORDER,
        Method("positive, orthogonal", _features, _drawn(st.PositiveFeatures(WIDTH)), WIDTH, work=feature_work),
        Method("local expansions", _attention(st.local_attention), size=_clusters),
        Method("Nyströmformer", _nystromformer, _undivided, LANDMARKS),
        Method("exact attention", _attention(st.kernel_attention, kernel="exp"), longest=16384, work=exact_work),
        Method("exact attention (plain NumPy)", _attention(plain_attention), longest=4096),
        Method("random Maclaurin, plain", _plain, _plain_draw, WIDTH, note=PLAIN),
        *performer_attentions(WIDTH),
        *_torch(causal=False, longest=16384),
    ],
    {1024: 15, 4096: 9, 16384: 5, 65536: 2},
    heads=HEADS,
    warm=True,
)

CAUSAL = Scene(
    "causal",
    joined_inputs,
    joined_target,
    [
        GEOMETRIC,
        Method("random Maclaurin, causal", _CAUSAL, _drawn(LAW), WIDTH, causal=True, work=causal_feature_work),
        Method("exact attention, causal", _attention(st.kernel_attention, kernel="exp", causal=True), causal=True),
        Method("exact attention (plain NumPy), causal", _attention(plain_attention, causal=True), causal=True, longest=4096),
        *_torch(causal=True, longest=16384),
    ],
    {1024: 15, 4096: 9, 16384: 5},
    heads=HEADS,
    warm=True,
)  # fmt: skip
