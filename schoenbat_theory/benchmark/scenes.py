"""Scenes: a problem of any length, the methods that solve it, and the exact answer on some rows.

Tokens are those of a shipped head, drawn with replacement, and noise of a tenth of the standard deviation of each coordinate, so that no
two are equal: real norms and directions at any length. The order of a real text is lost, and longer sequences have no more variety.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg

import schoenbat_theory as st
from schoenbat_theory.activations import Head, shipped_heads
from schoenbat_theory.arrays import Array

__all__ = ["SCENES", "Inputs", "Method", "Scene", "tokens"]

Inputs = Mapping[str, Any]  # q, k, v and what else the scene has, float32; "width" is d or None

FULL = {512: 9, 1024: 9, 2048: 7, 4096: 5, 8192: 3, 16384: 3}  # n -> repeats: a table, not seconds
LONGER = FULL | {32768: 3, 65536: 3}
QUICK = {256: 3, 512: 3}
LANDMARKS = 128
HEAD = 6  # layer 5, head 8: there landmarks do worst of that layer


@dataclass(frozen=True)
class Method:
    """What solves a scene: ``run(inputs, made)`` gives (n, e), where ``made = make(inputs, rng)`` is made once, untimed.

    ``size`` landmarks or features, ``None`` where exact: nothing is drawn then;  ``longest`` the largest n;  ``note``
    for captions. Methods of a scene are given the same draws: generators in the same state.
    """

    name: str
    run: Callable[[Inputs, Any], Array]
    make: Callable[[Inputs, np.random.Generator], Any] = lambda inputs, rng: None
    size: int | None = None
    causal: bool = False
    longest: int = sys.maxsize
    note: str = ""


@dataclass(frozen=True)
class Scene:
    """A problem: ``inputs(n, rng)``; ``target(inputs, rows, causal)`` gives (exact, without information) on these rows."""

    name: str
    inputs: Callable[[int, np.random.Generator], Inputs]
    target: Callable[[Inputs, np.ndarray, bool], tuple[Array, Array]]
    methods: Sequence[Method]
    full: Mapping[int, int] = field(default_factory=lambda: FULL)
    rows: int = 64

    def lengths(self, quick: bool) -> Mapping[int, int]:
        """Return n -> repeats."""
        return QUICK if quick else self.full


@functools.cache
def _head() -> Head:
    return shipped_heads()[HEAD]


def tokens() -> str:
    """Return what tokens are, in words."""
    return f"tokens of {_head().name}, drawn with replacement, with noise"


def _tokens(n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return q, k, v (n, d), float64, unscaled: tokens of a shipped head with noise."""
    head = _head()
    which = rng.integers(len(head.q), size=n)
    return tuple(x[which] + 0.1 * x.std(axis=0) * rng.normal(size=(n, x.shape[1])) for x in (head.q, head.k, head.v))


def _single(**arrays: Any) -> Inputs:
    return {name: x.astype(np.float32) for name, x in arrays.items()} | {"width": next(iter(arrays.values())).shape[-1]}


def _double(inputs: Inputs, *names: str) -> list[np.ndarray]:
    return [inputs[name].astype(np.float64) for name in names]


# Skyformer: Gaussian attention, and its Nystrom approximation.


def _gaussian_inputs(n: int, rng: np.random.Generator) -> Inputs:
    q, k, v = _tokens(n, rng)
    root = q.shape[1] ** 0.25
    return _single(q=q / root, k=k / root, v=v)


def _gaussian_target(inputs: Inputs, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    del causal
    q, k, v = _double(inputs, "q", "k", "v")
    exact = st.gaussian_attention(q[rows], k, v)
    return exact, np.zeros_like(exact)  # not normalised: who knows nothing answers 0


def _nystrom(inputs: Inputs, seed: Any, inverse: str) -> Array:
    q, k, v = (inputs[name] for name in "qkv")
    return st.nystrom_attention(q, k, v, n_landmarks=LANDMARKS, rng=seed, inverse=inverse)


def _seed(inputs: Inputs, rng: np.random.Generator) -> int:
    del inputs
    return int(rng.integers(1 << 32))


LIMITS = "landmarks work on this head; on most heads of layer 2 they do not (P28V)"
SKYFORMER = Scene(
    "skyformer",
    _gaussian_inputs,
    _gaussian_target,
    [
        Method("Nyström by pseudo-inverse", functools.partial(_nystrom, inverse="exact"), _seed, LANDMARKS, note=LIMITS),
        Method("Nyström by Schulz iteration", functools.partial(_nystrom, inverse="schulz"), _seed, LANDMARKS, note=LIMITS),
        Method("Gaussian attention", lambda x, _: st.gaussian_attention(x["q"], x["k"], x["v"]), longest=16384),
    ],
    LONGER,
)  # fmt: skip


# Relative positions: unit queries and keys, a random bias in the buckets of T5.


def _biased_inputs(n: int, rng: np.random.Generator) -> Inputs:
    q, k, v = _tokens(n, rng)
    bias = st.t5_bias(rng.normal(size=32), n, n)
    return _single(q=st.unit_norm(q), k=st.unit_norm(k), v=v, log_bias=bias)


def _biased_target(inputs: Inputs, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    """Each row is a problem of its own with one query, so that a few rows cost what they should."""
    q, k, v, bias = _double(inputs, "q", "k", "v", "log_bias")
    n = len(q)
    biases = bias[n - 1 - rows[:, None] + np.arange(n)]  # row i: entry j - i + n - 1 for key j
    seen = np.arange(n) <= rows[:, None] if causal else None
    exact, blind = (
        st.kernel_attention(one[:, None, :], k, v, "exp", key_mask=seen, log_bias=biases)[:, 0, :]
        for one in (q[rows], 0 * q[rows])
    )
    return exact, blind


def _relative(inputs: Inputs, phi: Any, causal: bool) -> Array:
    q, k, v, bias = (inputs[name] for name in ("q", "k", "v", "log_bias"))
    return st.relative_attention(q, k, v, phi, log_bias=bias, causal=causal)


def _dense(inputs: Inputs, _: Any, causal: bool) -> Array:
    q, k, v, bias = (inputs[name] for name in ("q", "k", "v", "log_bias"))
    return st.kernel_attention(q, k, v, "exp", log_bias=bias, causal=causal)


def _positive(size: int) -> Callable[[Inputs, np.random.Generator], Any]:
    return lambda inputs, rng: st.PositiveFeatures(size, orthogonal=True).draw(inputs["width"], rng)


RELATIVE = Scene(
    "relative-positions",
    _biased_inputs,
    _biased_target,
    [
        Method(name + ", causal" * causal, functools.partial(run, causal=causal), make, size, causal)
        for name, run, make, size in (
            ("FFT with 64 features", _relative, _positive(64), 64),
            ("FFT with 256 features", _relative, _positive(256), 256),
            ("exact attention", _dense, Method.make, None),
        )
        for causal in (False, True)
    ],
    FULL | {32768: 3},
)  # fmt: skip


# The product alone: 64 columns, a Toeplitz matrix with random entries.


def _toeplitz_inputs(n: int, rng: np.random.Generator) -> Inputs:
    return {**_single(v=rng.normal(size=(n, 64)), coefficients=rng.normal(size=2 * n - 1)), "width": None}


def _matrix(inputs: Inputs, rng: Any = None, *, rows: Any = slice(None)) -> np.ndarray:
    """Return the matrix, or some of its rows: entry j - i + n - 1 of the coefficients in row i, column j."""
    n = len(inputs["v"])
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(inputs["coefficients"], n)[::-1][rows])


def _toeplitz_target(inputs: Inputs, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    del causal
    exact = _matrix(inputs, rows=rows).astype(np.float64) @ inputs["v"].astype(np.float64)
    return exact, np.zeros_like(exact)


def _scipy(inputs: Inputs, _: Any) -> Array:
    c, v = inputs["coefficients"], inputs["v"]
    return scipy.linalg.matmul_toeplitz((c[len(v) - 1 :: -1], c[len(v) - 1 :]), v)


TOEPLITZ = Scene(
    "toeplitz-product",
    _toeplitz_inputs,
    _toeplitz_target,
    [
        Method(
            "FFT (here)", lambda x, v: st.toeplitz_product(x["coefficients"], v).T, lambda x, _: x["v"].T.copy()
        ),
        Method("FFT (SciPy)", _scipy, note="scipy.linalg.matmul_toeplitz computes in float64, the others in float32"),
        Method("dense product", lambda x, matrix: matrix @ x["v"], _matrix, note="the matrix is made beforehand, untimed"),
    ],
    {n: repeats for n, repeats in FULL.items() if n >= 1024},
)  # fmt: skip

SCENES = {scene.name: scene for scene in (SKYFORMER, RELATIVE, TOEPLITZ)}
