"""Decoding: n tokens one by one, each attending to those so far, with a state of fixed size or with all of them kept."""

from __future__ import annotations

import numpy as np

import schoenbat_theory as st
from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.peers import torch_decoding
from schoenbat_theory.benchmark.plain import plain_attention
from schoenbat_theory.benchmark.problem import Inputs, Method, Scene
from schoenbat_theory.benchmark.scenes.attention import GEOMETRIC, HEADS, WIDTH, joined_inputs, joined_target

__all__ = ["DECODING"]


def _with_state(inputs: Inputs, phi: st.MaclaurinDraw) -> Array:
    """Decode with the sums over the keys so far."""
    q, k, v = (inputs[name] for name in "qkv")
    state, out = st.AttentionState(phi), np.empty_like(v)
    for token in range(q.shape[-2]):
        now = slice(token, token + 1)
        out[..., now, :] = state.update(k[..., now, :], v[..., now, :]).attend(q[..., now, :])
    return out


def _with_cache(inputs: Inputs, made: None) -> Array:
    """Decode with the keys and values so far."""
    del made
    q, k, v = (inputs[name] for name in "qkv")
    out = np.empty_like(v)
    for token in range(q.shape[-2]):
        now, seen = slice(token, token + 1), slice(token + 1)
        out[..., now, :] = plain_attention(q[..., now, :], k[..., seen, :], v[..., seen, :])
    return out


DECODING = Scene(
    "decoding",
    joined_inputs,
    joined_target,
    [
        Method("random Maclaurin, state", _with_state, GEOMETRIC.make, WIDTH, causal=True),
        Method("exact attention (plain NumPy), cache", _with_cache, causal=True),
        *torch_decoding(),
    ],
    {1024: 5, 4096: 3, 16384: 1},
    heads=HEADS,
)
