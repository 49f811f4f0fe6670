"""Random feature attention: trigonometric features of queries and keys of length one."""

from __future__ import annotations

from typing import Any

from schoenbat_theory.arrays import Array, namespace
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.inputs import check_shapes
from schoenbat_theory.features.fourier import FourierFeatures
from schoenbat_theory.features.weights import key_weights
from schoenbat_theory.scaling import unit_norm_named

__all__ = ["rfa_attention"]


def rfa_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    n_features: int,
    rng: Any = None,
    causal: bool = False,
    key_mask: Array | None = None,
) -> Array:
    r"""Approximate softmax attention of unit vectors through D = ``n_features`` random Fourier features.

        out_i = sum_j c_ij v_j / sum_j c_ij,    c_ij = (2/D) sum_l cos<w_l, q_i/|q_i| - k_j/|k_j|>,    w_l ~ N(0, I)

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e); masks, result (..., n, e) and errors as in
    `feature_attention`. ``n_features`` is even; ``rng`` is an int, SeedSequence or Generator, and one map serves all
    leading axes. Lengths of queries and keys are lost: a token of zeros is a ``ValueError``.

    E c_ij = exp(-|q_i/|q_i| - k_j/|k_j||^2 / 2) = exp(<q_i, k_j> / (|q_i| |k_j|)) / e, and e cancels. The variance of c_ij
    is that of ``FourierFeatures(n_features, "gaussian", orthogonal=False)``. Cosines have both signs, so a denominator
    may be <= 0, and a row then lie anywhere; one of exactly 0 is an ``ArithmeticError``.

    Source: Peng et al. (2021), of which the abstract and the beginning were seen; without its gate, and with the standard
    deviations of w, which it learns (from memory), fixed at one.

    >>> import numpy as np
    >>> rfa_attention(np.eye(2), 3 * np.eye(2), np.eye(2), n_features=4096, rng=0).round(1)  # e / (e + 1) = 0.73
    array([[0.7, 0.3],
           [0.3, 0.7]])
    """
    key_weights(k, k.shape[-2], check_shapes(q, k, v), key_mask, None)  # names a mask that fits nothing
    phi = FourierFeatures(n_features, "gaussian", orthogonal=False).draw(q.shape[-1], rng)
    if key_mask is not None:  # a masked key is never looked at, and may have no direction
        k = namespace(k).where(key_mask[..., None], k, namespace(k).ones_like(k))
    q, k = unit_norm_named("q", q), unit_norm_named("k", k)
    return feature_attention(q, k, v, phi, causal=causal, key_mask=key_mask)
