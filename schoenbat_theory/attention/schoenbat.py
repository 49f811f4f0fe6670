"""SchoenbAt end to end: pre-scaling, random Maclaurin features, post-scaling."""

from __future__ import annotations

from typing import Any

from schoenbat_theory.arrays import Array
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.inputs import check_rows, check_shapes
from schoenbat_theory.attention.sums import attention_sums
from schoenbat_theory.degrees import GeometricDegrees
from schoenbat_theory.features.maclaurin import RandomMaclaurin
from schoenbat_theory.features.weights import key_weights
from schoenbat_theory.kernels import DotProductKernel
from schoenbat_theory.scaling import post_scale, pre_scale_named

__all__ = ["RELEASED_CLAMP", "prepare", "released_attention", "schoenbat_attention"]

RELEASED_CLAMP = 1.0  # the released code raises every denominator to at least this


def prepare(q: Array, k: Array, *, key_mask: Array | None = None) -> tuple[Array, Array]:
    """Return queries and keys as SchoenbAt's map receives them: pre-scaled, then times d^(-1/4).

    The factor d^(-1/4) is in the released code; with it |<q, k>| <= d^(-1/2), and attention is nearly
    uniform (P16). ``q`` (..., n, d), ``k`` (..., m, d); ``key_mask`` as in `pre_scale`.

    >>> import numpy as np
    >>> q, k = prepare(np.eye(4), np.eye(4))
    >>> round(float(q[0] @ k[0]), 12)  # 4 ** -0.5
    0.5
    """
    check_rows(q=q, k=k)
    factor = q.shape[-1] ** -0.25
    return pre_scale_named("q", q) * factor, pre_scale_named("k", k, key_mask) * factor


def schoenbat_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    kernel: str | DotProductKernel = "exp",
    n_features: int = 256,
    degrees: str | GeometricDegrees = "released",
    rng: Any = None,
    causal: bool = False,
    key_mask: Array | None = None,
    gamma: Any = 1.0,
    beta: Any = 1.0,
) -> Array:
    """Compute SchoenbAt: post_scale(feature_attention(prepare(q, k), v), gamma, beta).

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e); ``degrees`` and ``n_features`` as in
    `RandomMaclaurin`; ``gamma``, ``beta`` as in `post_scale`. Returns (..., n, e). One map serves all
    leading axes, as in the source.

    Differs from the released code, see `released_attention`: (1) causal only on request, (2) no clamp
    of the denominator, (3) masked keys are left out of both sums, (4) features come from ``rng``.

    Source: arXiv:2505.12252 through its released code; the printed formulas were not seen.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(2, 5, 8))
    >>> schoenbat_attention(x, x, x, rng=0).shape
    (2, 5, 8)
    """
    key_weights(k, k.shape[-2], check_shapes(q, k, v), key_mask, None)  # names a mask that fits nothing
    phi = RandomMaclaurin(kernel, n_features, degrees).draw(q.shape[-1], rng)
    q, k = prepare(q, k, key_mask=key_mask)
    return post_scale(feature_attention(q, k, v, phi, causal=causal, key_mask=key_mask), gamma, beta)


def released_attention(q: Array, k: Array, v: Array, phi: Any, *, clamp: float | None = RELEASED_CLAMP) -> Array:
    """Compute the estimator as the code released with SchoenbAt does: causal, and clamped at 1.

    ``q`` (..., n, d), ``k`` (..., m, d) as `prepare` returns them; ``phi`` a draw, or any map. For the
    propositions about that code only: with V = 1 everywhere it does not return 1 where a row's weights
    sum to less than ``clamp``; ``None`` leaves the clamp out.

    Source: rmfa.py of the released code, which always uses prefix sums and clamp_min(1.0).

    >>> import numpy as np
    >>> half = np.full((1, 1), 0.5)
    >>> released_attention(half, half, np.ones((1, 1)), lambda x: x)  # the only weight is 1/4
    array([[0.25]])
    """
    return attention_sums(phi(q), phi(k), v, causal=True).ratio(clamp=clamp)
