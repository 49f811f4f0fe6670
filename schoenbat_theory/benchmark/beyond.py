"""Softmax attention of four real heads: pre-scaled, where first order is enough, and raw, where it is not.

Pre-scaling, fits and choices are inside the time; only the draws of the random map are not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import schoenbat_theory as st
from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.peers import load_peers, torch_attentions
from schoenbat_theory.benchmark.problem import FULL, Inputs, Method, Scene, double, draw_tokens, no_draw, seed, single

__all__ = ["LOCAL", "PRE_SCALED"]

WIDTH = 256
BOTH, LAYER_2, LAYER_5 = (0, 1, 4, 5), (0, 1, 2, 3), (4, 5, 6, 7)  # of the shipped heads
Attend = Callable[[Array, Array, Array, Any], Array]  # q, k, v (heads, n, d or e) and what was made beforehand


def _inputs(n: int, rng: np.random.Generator, heads: Iterable[int], root: float) -> Inputs:
    """Return q, k, v (heads, n, d): queries and keys divided by d**root."""
    load_peers()
    q, k, v = (np.stack(some) for some in zip(*(draw_tokens(n, rng, head) for head in heads), strict=True))
    return single(q=q / q.shape[-1] ** root, k=k / k.shape[-1] ** root, v=v)


def _target(inputs: Inputs, rows: np.ndarray, causal: bool, scaled: Callable[[Array], Array]) -> tuple[Array, Array]:
    del causal
    q, k, v = double(inputs, "q", "k", "v")
    q, k = scaled(q)[..., rows, :], scaled(k)
    exact, blind = (st.kernel_attention(one, k, v, "exp") for one in (q, 0 * q))
    return exact, blind


def _method(
    name: str,
    attend: Attend,
    scaled: Callable[[Array], Array],
    make: Callable[[Inputs, np.random.Generator], Any] = no_draw,
    **rest: Any,
) -> Method:
    """Return a method that scales queries and keys and attends."""

    def run(inputs: Inputs, made: Any) -> Array:
        return attend(scaled(inputs["q"]), scaled(inputs["k"]), inputs["v"], made)

    return Method(name, run, make, **rest)


def _exact(q: Array, k: Array, v: Array, made: Any) -> Array:
    return st.kernel_attention(q, k, v, "exp")


def _first_order(q: Array, k: Array, v: Array, made: Any, root: float) -> Array:
    return st.first_order_attention(q, k, v, pre_scaled=q.shape[-1] ** -root)


def _local(q: Array, k: Array, v: Array, made: Any) -> Array:
    return st.local_attention(q, k, v)


def _random(q: Array, k: Array, v: Array, made: Any) -> Array:
    return st.feature_attention(q, k, v, made)


def _optimized(q: Array, k: Array, v: Array, made: Any) -> Array:
    q, k, weights = st.recenter(q, k)
    phi = st.OptimizedMaclaurin("exp", WIDTH).fit(q, k, weights).draw(q.shape[-1], made)
    return st.feature_attention(q, k, v, phi, key_log_weights=weights)


def _draws(inputs: Inputs, rng: np.random.Generator) -> Any:
    return st.RandomMaclaurin("exp", WIDTH).draw(inputs["width"], rng, shape=(len(inputs["q"]),))


def _unit(x: Array) -> Array:
    return st.pre_scale(x)


def _released(x: Array) -> Array:
    """Pre-scaled and divided by d^(1/4), as the released code takes queries and keys."""
    out = st.pre_scale(x)
    out *= x.shape[-1] ** -0.25
    return out


def _as_given(x: Array) -> Array:
    return x


def _pre_scaled(name: str, scaled: Callable[[Array], Array], root: float) -> Scene:
    """Return the scene of two heads of layer 2 and two of layer 5; ``root``: queries and keys are divided by d**root too."""
    width = st.shipped_heads()[0].q.shape[-1]
    return Scene(
        name,
        functools.partial(_inputs, heads=BOTH, root=0.0),
        functools.partial(_target, scaled=scaled),
        [
            _method("first order, recentred", functools.partial(_first_order, root=root), _as_given, size=1 + width),
            _method("optimized Maclaurin, recentred", _optimized, scaled, seed, size=WIDTH),
            _method("random Maclaurin", _random, scaled, _draws, size=WIDTH),
            _method("exact attention", _exact, scaled),
            *torch_attentions(width ** (-2 * root), pre_scaled=True),
        ],
        {n: repeats for n, repeats in FULL.items() if n >= 1024},
        heads=BOTH,
        parallel=True,
    )


def _raw(name: str, heads: tuple[int, ...]) -> Scene:
    return Scene(
        name,
        functools.partial(_inputs, heads=heads, root=0.25),
        functools.partial(_target, scaled=_as_given),
        [
            _method("local expansions", _local, _as_given, size=lambda n: st.LocalBudget.for_length(n, n).clusters),
            _method("exact attention", _exact, _as_given),
            *torch_attentions(1.0, pre_scaled=False),
        ],
        {n: FULL[n] for n in (512, 1024, 4096, 16384)},
        heads=heads,
        parallel=True,
    )


PRE_SCALED = (_pre_scaled("pre-scaled", _unit, 0.0), _pre_scaled("pre-scaled-released", _released, 0.25))
LOCAL = (_raw("local-sharp", LAYER_2), _raw("local-moderate", LAYER_5))
