"""What others would run on the CPU, where it is installed: torch, performer-pytorch, maps of scikit-learn."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.problem import Inputs, Method
from schoenbat_theory.threads import CORES

__all__ = [
    "PERFORMER", "SKLEARN", "load_peers", "performer_attentions", "sklearn_map", "torch_attentions", "torch_decoding",
]  # fmt: skip

TORCH, PERFORMER, SKLEARN = "torch", "performer_pytorch", "sklearn.kernel_approximation"
UNSEEN = "its memory is not seen, as only that of NumPy is"


def load_peers(*modules: str) -> bool:
    """Import torch and ``modules`` where installed, so that no method pays for it in time or memory; tell whether all are."""
    found = [module for module in (TORCH, *modules) if _installed(module)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what they import: not for us to mend
        for module in found:
            importlib.import_module(module)
    return len(found) == 1 + len(modules)


def torch_attentions(scale: float, *, pre_scaled: bool, causal: bool = False) -> list[Method]:
    """Return exact attention by torch on one thread, and on all cores where there are more; none where torch is missing.

    ``scale``       of the inner products, which costs it nothing
    ``pre_scaled``  whether queries and keys are pre-scaled first, in the time that counts
    """
    if not _installed(TORCH):
        return []
    run = functools.partial(_attend, scale=scale, pre_scaled=pre_scaled, causal=causal)
    return [
        Method(f"exact attention (torch, {_threads(threads)})" + ", causal" * causal,
               functools.partial(run, threads=threads), causal=causal, note=UNSEEN)
        for threads in sorted({1, CORES})
    ]  # fmt: skip


def torch_decoding() -> list[Method]:
    """Return exact attention by torch on all cores, one query at a time and the keys so far; none where torch is missing."""
    if not _installed(TORCH):
        return []
    return [Method(f"exact attention (torch, {_threads(CORES)}), cache", _decode, causal=True, note=UNSEEN)]


def performer_attentions(width: int) -> list[Method]:
    """Return attention by performer-pytorch's softmax kernel on all cores, not causal; none where that is missing.

    Its causal form computes in blocks only with pytorch-fast-transformers, which does not build without CUDA.
    """
    if not (_installed(PERFORMER) and _installed(TORCH)):
        return []
    name = f"FAVOR+ (performer-pytorch, {_threads(CORES)})"
    return [Method(name, _perform, functools.partial(_performer, width=width), width, note=UNSEEN)]


def sklearn_map(name: str, width: int, **options: Any) -> Method | None:
    """Return a map of scikit-learn alone, of inputs["x"] (n, d), fitted beforehand; ``None`` where that is missing."""
    if not _installed(SKLEARN):
        return None

    def make(inputs: Inputs, rng: np.random.Generator) -> Any:
        law = getattr(importlib.import_module(SKLEARN), name)
        return law(n_components=width, random_state=int(rng.integers(1 << 32)), **options).fit(inputs["x"])

    note = "on one thread, but for its matrix products, and in float64 where its class computes so"
    return Method(f"{name} (scikit-learn)", lambda inputs, made: made.transform(inputs["x"]), make, width, note=note)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _threads(count: int) -> str:
    return f"{count} {'thread' if count == 1 else 'threads'}"


def _attend(inputs: Inputs, made: Any, *, threads: int, scale: float, pre_scaled: bool, causal: bool) -> Array:
    del made
    torch = importlib.import_module(TORCH)
    torch.set_num_threads(threads)
    q, k, v = (torch.from_numpy(inputs[name])[None] for name in "qkv")  # its fast path wants four axes
    if pre_scaled:
        q, k = _pre_scale(torch, q), _pre_scale(torch, k)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale, is_causal=causal)[0].numpy()


def _decode(inputs: Inputs, made: Any) -> Array:
    del made
    torch = importlib.import_module(TORCH)
    torch.set_num_threads(CORES)
    q, k, v = (torch.from_numpy(inputs[name])[None] for name in "qkv")
    out = torch.empty_like(v)
    for i in range(q.shape[-2]):
        now, seen = slice(i, i + 1), slice(i + 1)
        out[:, :, now] = torch.nn.functional.scaled_dot_product_attention(
            q[:, :, now], k[:, :, seen], v[:, :, seen], scale=1.0
        )
    return out[0].numpy()


def _pre_scale(torch: Any, x: Any) -> Any:
    """Return (x - mean(x)) / its length, per token: of five ways that were timed the fastest, in place where it can be."""
    x = x - x.mean(dim=-1, keepdim=True)
    return x.div_(torch.linalg.vector_norm(x, dim=-1, keepdim=True))


def _performer(inputs: Inputs, rng: np.random.Generator, width: int) -> Any:
    """Return the module with its projection, and queries and keys times d^(1/4), by which it divides them itself."""
    torch, d = importlib.import_module(TORCH), inputs["width"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(1 << 32)))
        attend = importlib.import_module(PERFORMER).FastAttention(dim_heads=d, nb_features=width)
    return attend, *(torch.from_numpy(inputs[name])[None] * d**0.25 for name in "qk")


def _perform(inputs: Inputs, made: Any) -> Array:
    torch = importlib.import_module(TORCH)
    torch.set_num_threads(CORES)
    attend, q, k = made
    with torch.inference_mode():
        return attend(q, k, torch.from_numpy(inputs["v"])[None])[0].numpy()
