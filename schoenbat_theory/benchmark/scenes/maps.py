"""Feature maps alone: 64 numbers of a token become 256 features whose inner products estimate a kernel.

What is compared is the Gram matrix of 64 tokens with that of the kernel that a map is made for, and the best constant beside
it. Tokens are of one length, so that the Gaussian kernel is the exponential one but for a factor.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

import schoenbat_theory as st
from schoenbat_theory.arrays import Array
from schoenbat_theory.benchmark.peers import SKLEARN, load_peers, sklearn_map
from schoenbat_theory.benchmark.plain import PlainMaclaurin
from schoenbat_theory.benchmark.problem import Inputs, Method, Scene, draw_tokens
from schoenbat_theory.benchmark.scenes.work import map_work

__all__ = ["MAPS"]

WIDTH, HEADS = 256, (6, 7)  # the heads side by side
DEGREE = 2  # of PolynomialCountSketch, the least that is no linear kernel: its time grows with it
OURS = (
    "random Maclaurin",
    "random Maclaurin, H0/1",
    "fixed counts, SRHT",
    "fixed counts, complex SRHT",
    "fixed counts, TensorSketch",
    "positive, orthogonal",
)


def _inputs(n: int, rng: np.random.Generator) -> Inputs:
    """Return queries x (n, 64), and keys k to fit counts to, pre-scaled and divided by 64^(1/4), float32."""
    load_peers(SKLEARN)
    q, k, _ = draw_tokens(n, rng, *HEADS)
    x, k = (one.astype(np.float32) for one in st.prepare(q, k))
    return {"x": x, "k": k, "v": x, "width": x.shape[-1]}


def _target(inputs: Inputs, rows: np.ndarray, causal: bool, kernel: str) -> tuple[Array, Array]:
    """Return the Gram matrix of some tokens, and the constant one that is closest to it."""
    del causal
    x = inputs["x"][rows].astype(np.float64)
    t = x @ x.T
    squares = np.diag(t)
    gram = {
        "exp": lambda: np.exp(t),
        "Gaussian": lambda: np.exp(t - (squares[:, None] + squares) / 2),
        "polynomial": lambda: (1 + t / DEGREE) ** DEGREE,
    }[kernel]()
    return gram, np.full_like(gram, gram.mean())


def _gram(features: Array, rows: np.ndarray) -> Array:
    some = features[rows].astype(np.float64)
    return some @ some.T


def _make(inputs: Inputs, rng: np.random.Generator, name: str) -> Any:
    """Return a draw of a registered map, fitted to queries and keys where it has to be."""
    law = st.feature_maps()[name]("exp", inputs["width"], WIDTH)
    return (law if hasattr(law, "draw") else law.fit(inputs["x"], inputs["k"])).draw(inputs["width"], rng)


def _ours(name: str) -> Method:
    plain = name == "random Maclaurin"
    return Method(name, _apply, functools.partial(_make, name=name), WIDTH, work=map_work if plain else None)


def _plain(inputs: Inputs, rng: np.random.Generator) -> PlainMaclaurin:
    return PlainMaclaurin.of(_make(inputs, rng, "random Maclaurin"))


def _apply(inputs: Inputs, phi: Any) -> Array:
    return phi(inputs["x"])


def _others() -> list[Method]:
    """Return maps of scikit-learn, each with the kernel that it is made for."""
    return [
        dataclasses.replace(one, target=functools.partial(_target, kernel=kernel))
        for kernel, one in (
            ("polynomial", sklearn_map("PolynomialCountSketch", WIDTH, degree=DEGREE, gamma=1 / DEGREE, coef0=1)),
            ("Gaussian", sklearn_map("RBFSampler", WIDTH, gamma=0.5)),
            ("Gaussian", sklearn_map("Nystroem", WIDTH, kernel="rbf", gamma=0.5)),
        )
        if one is not None
    ]


MAPS = Scene(
    "maps",
    _inputs,
    functools.partial(_target, kernel="exp"),
    [
        *(_ours(name) for name in OURS),
        Method("random Maclaurin, plain", _apply, _plain, WIDTH, note="it loops over degrees"),
        *_others(),
    ],
    {4096: 9, 16384: 9},
    heads=HEADS,
    warm=True,
    seen=_gram,
)
