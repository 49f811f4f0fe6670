"""Systems of the literature: Skyformer, relative positions and the Toeplitz product beneath them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import schoenbat_theory as st
from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.problem import (
    FULL,
    LONGER,
    Inputs,
    Method,
    Scene,
    double,
    draw_tokens,
    no_draw,
    seed,
    single,
)

__all__ = ["LANDMARKS", "LITERATURE"]

LANDMARKS = 128

# Skyformer: Gaussian attention, and its Nystrom approximation.


def _gaussian_inputs(n: int, rng: np.random.Generator) -> Inputs:
    q, k, v = draw_tokens(n, rng)
    root = q.shape[1] ** 0.25
    return single(q=q / root, k=k / root, v=v)


def _gaussian_target(inputs: Inputs, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    del causal
    q, k, v = double(inputs, "q", "k", "v")
    exact = st.gaussian_attention(q[rows], k, v)
    return exact, np.zeros_like(exact)  # not normalised: who knows nothing answers 0


def _nystrom(inputs: Inputs, made: Any, inverse: str) -> Array:
    q, k, v = (inputs[name] for name in "qkv")
    return st.nystrom_attention(q, k, v, n_landmarks=LANDMARKS, rng=made, inverse=inverse)


LIMITS = "landmarks work on this head; on most heads of layer 2 they do not (P28V)"
SKYFORMER = Scene(
    "skyformer",
    _gaussian_inputs,
    _gaussian_target,
    [
        Method("Nyström by pseudo-inverse", functools.partial(_nystrom, inverse="exact"), seed, LANDMARKS, note=LIMITS),
        Method("Nyström by Schulz iteration", functools.partial(_nystrom, inverse="schulz"), seed, LANDMARKS, note=LIMITS),
        Method("Gaussian attention", lambda x, _: st.gaussian_attention(x["q"], x["k"], x["v"]), longest=16384),
    ],
    LONGER,
)  # fmt: skip


# Relative positions: unit queries and keys, a random bias in the buckets of T5.


def _biased_inputs(n: int, rng: np.random.Generator) -> Inputs:
    q, k, v = draw_tokens(n, rng)
    bias = st.t5_bias(rng.normal(size=32), n, n)
    return single(q=st.unit_norm(q), k=st.unit_norm(k), v=v, log_bias=bias)


def _biased_target(inputs: Inputs, rows: np.ndarray, causal: bool) -> tuple[Array, Array]:
    """Each row is a problem of its own with one query, so that a few rows cost what they should."""
    q, k, v, bias = double(inputs, "q", "k", "v", "log_bias")
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
            ("exact attention", _dense, no_draw, None),
        )
        for causal in (False, True)
    ],
    FULL | {32768: 3},
)  # fmt: skip


# The product alone: 64 columns, a Toeplitz matrix with random entries.


def _toeplitz_inputs(n: int, rng: np.random.Generator) -> Inputs:
    return {**single(v=rng.normal(size=(n, 64)), coefficients=rng.normal(size=2 * n - 1)), "width": None}


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

LITERATURE = (SKYFORMER, RELATIVE, TOEPLITZ)
