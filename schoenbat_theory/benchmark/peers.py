"""Exact attention by torch on the CPU, where torch is installed: what others would run, pre-scaling included."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from typing import Any

from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.problem import Inputs, Method

__all__ = ["load_peers", "torch_attentions"]


def load_peers() -> bool:
    """Import torch where it is installed, so that no method pays for it in time or memory; tell whether it is."""
    found = importlib.util.find_spec("torch") is not None
    if found:
        importlib.import_module("torch")
    return found


def torch_attentions(scale: float, *, pre_scaled: bool) -> list[Method]:
    """Return exact attention by torch on one thread and on all cores; none where torch is missing or a core is alone.

    ``scale``       of the inner products, which costs it nothing
    ``pre_scaled``  whether queries and keys are pre-scaled first, in the time that counts
    """
    if importlib.util.find_spec("torch") is None:
        return []
    run = functools.partial(_attend, scale=scale, pre_scaled=pre_scaled)
    note = "its memory is not seen, as only that of NumPy is"
    return [
        Method(f"exact attention (torch, {threads} {'thread' if threads == 1 else 'threads'})",
               functools.partial(run, threads=threads), note=note)
        for threads in sorted({1, os.cpu_count() or 1})
    ]  # fmt: skip


def _attend(inputs: Inputs, made: Any, *, threads: int, scale: float, pre_scaled: bool) -> Array:
    del made
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    q, k, v = (torch.from_numpy(inputs[name])[None] for name in "qkv")  # its fast path wants four axes
    if pre_scaled:
        q, k = _pre_scale(torch, q), _pre_scale(torch, k)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)[0].numpy()


def _pre_scale(torch: Any, x: Any) -> Any:
    """Return (x - mean(x)) / its length, per token: of five ways that were timed the fastest, in place where it can be."""
    x = x - x.mean(dim=-1, keepdim=True)
    return x.div_(torch.linalg.vector_norm(x, dim=-1, keepdim=True))
