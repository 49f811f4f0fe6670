"""What methods execute, for the floor: matrix products by shape, and bytes moved at least."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from schoenbat_theory.attention.running import CAUSAL_TOKENS, TOKENS
from schoenbat_theory.benchmark.floor import Product, Work
from schoenbat_theory.benchmark.problem import Inputs

__all__ = ["causal_feature_work", "exact_work", "feature_work", "first_order_work", "map_work", "moved"]


def feature_work(inputs: Inputs, phi: Any) -> Work:
    """Return what attention through a map executes: features of queries and keys, the sum over keys, and its rows."""
    return Work(_linear(inputs, TOKENS, phi), moved(inputs))


def causal_feature_work(inputs: Inputs, phi: Any) -> Work:
    """Return what the causal form executes: in each block of tokens also its own scores and their sums, of all pairs."""
    block, blocks, columns, width = _sizes(inputs, CAUSAL_TOKENS, phi)
    inside = Product(block, width, block, blocks), Product(block, block, columns, blocks)
    return Work((*_linear(inputs, CAUSAL_TOKENS, phi), *inside), moved(inputs))


def first_order_work(inputs: Inputs, made: Any) -> Work:
    """Return what first order cannot do without: one covariance of keys and values, read by every query."""
    del made
    block, blocks, columns, _ = _sizes(inputs, TOKENS, None)
    d = inputs["width"]
    return Work((Product(d, block, columns, blocks), Product(block, d, columns - 1, blocks)), moved(inputs))


def exact_work(inputs: Inputs, made: Any) -> Work:
    """Return what exact attention executes, its exponentials left out: all scores, and their products with the values."""
    del made
    block, blocks, columns, _ = _sizes(inputs, TOKENS, None)
    n = inputs["q"].shape[-2]
    return Work((Product(block, inputs["width"], n, blocks), Product(block, n, columns - 1, blocks)), moved(inputs))


def map_work(inputs: Inputs, phi: Any) -> Work:
    """Return what a random Maclaurin map alone executes, of inputs["x"], and its features as written."""
    x = inputs["x"]
    return Work((Product(_projections(phi), phi.dim, len(x)),), x.nbytes + len(x) * phi.n_features * x.itemsize)


def moved(inputs: Inputs) -> int:
    """Return the bytes of queries, keys and values, read once, and of the output, written once."""
    q, v = inputs["q"], inputs["v"]
    output = math.prod(q.shape[:-1]) * v.shape[-1] * v.itemsize
    return output + sum(inputs[name].nbytes for name in "qkv")


def _linear(inputs: Inputs, tokens: int, phi: Any) -> tuple[Product, ...]:
    """Return features of queries and of keys, the sum over keys, and its rows, block by block."""
    block, blocks, columns, width = _sizes(inputs, tokens, phi)
    return (
        Product(_projections(phi), inputs["width"], block, 2 * blocks),
        Product(width, block, columns, blocks),
        Product(block, width, columns, blocks),
    )


def _sizes(inputs: Inputs, tokens: int, phi: Any) -> tuple[int, int, int, int]:
    """Return tokens of a block, how many blocks all heads have, columns of values and ones, and features after merging."""
    heads, n, e = inputs["v"].shape
    block = min(n, tokens)
    return block, heads * -(-n // block), e + 1, 0 if phi is None else _merged(phi)


def _projections(phi: Any) -> int:
    """Return how many inner products with a token its features take: of random Maclaurin features the sum of degrees."""
    degrees = getattr(phi, "degrees", None)
    return phi.n_features if degrees is None else int(np.sum(degrees))


def _merged(phi: Any) -> int:
    """Return the number of features in attention, all constant ones merged into one."""
    degrees = getattr(phi, "degrees", None)
    if degrees is None:
        return int(phi.n_features)
    constant = np.any(degrees == 0) or phi.constant is not None
    return int(np.count_nonzero(degrees) + constant + (phi.dim if phi.linear is not None else 0))
