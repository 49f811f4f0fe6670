"""Zero-information baselines: attention in which no row depends on its own query.

An approximation of attention whose error is no smaller than theirs has shown nothing of what a query asks for, however
small that error looks: where rows of attention are all alike, their mean is close to each. Hence they are the yardstick.
"""

from __future__ import annotations

from schoenbat_theory.arrays import Array, check_finite, device_of, namespace, require_bool
from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.inputs import check_shapes
from schoenbat_theory.attention.sums import attention_sums
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.kernels import DotProductKernel

__all__ = ["mean_attention", "weighted_mean_attention"]


def mean_attention(q: Array, k: Array, v: Array, *, causal: bool = False, key_mask: Array | None = None) -> Array:
    r"""Average the values that a row sees, all with one weight: no row depends on its query, nor on any key.

        out_i = mean of v_j over the keys j that query i sees

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   of q and k the shapes count alone
    ``causal``    query i sees keys j <= i: its row depends on i, still not on q_i
    ``key_mask``  (..., m) booleans, True = the key is used; masked keys and values are never looked at
    returns       (..., n, e), same library, device and dtype; a row that sees no key is zeros

    It is attention with the kernel f = 1, the limit of every other as queries shrink to 0, in time linear in n and m.
    Raises ``TypeError`` or ``ValueError`` for wrong input, NaN in q and k included. Not in the sources seen.

    >>> import numpy as np
    >>> mean_attention(np.eye(2), np.eye(2), np.array([[1.0], [3.0]]), causal=True)
    array([[1.],
           [2.]])
    """
    lead = check_shapes(q, k, v)
    causal = require_bool("causal", causal)
    weights = key_weights(k, k.shape[-2], lead, key_mask, None)
    check_finite(q=q, k=hide(k, weights))
    xp = namespace(q)
    ones_q, ones_k = (xp.ones_like(x[..., :1]) for x in (q, k))
    return attention_sums(ones_q, ones_k, v, causal=causal, key_mask=key_mask).ratio()


def weighted_mean_attention(
    q: Array, k: Array, v: Array, kernel: str | DotProductKernel = "exp", *, key_mask: Array | None = None
) -> Array:
    r"""Give every query the attention of the mean query: no row depends on its own query, but for its part in the mean.

        out_i = sum_j f(<qbar, k_j>) v_j / sum_j f(<qbar, k_j>),    qbar = (1/n) sum_i q_i,    the same for every i

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   used as given, as in `kernel_attention`
    ``kernel``    name or `DotProductKernel`
    ``key_mask``  (..., m) booleans, True = the key is used; masked keys and values are never looked at
    returns       (..., n, e), same library, device and dtype; zeros where every key is masked

    It knows which keys the queries prefer together, and nothing of one of them. It looks at all queries, so that there
    is no causal form. Exponentials are summed with a running maximum and cannot overflow; the mean query is, but for
    rounding, no longer than the longest, so that other kernels stay within their radius where the queries do. Time
    linear in n and m. Raises as `kernel_attention` does. Not in the sources seen.

    >>> import numpy as np
    >>> weighted_mean_attention(np.eye(2), np.array([[0.0, 0.0], [2.0, 2.0]]), np.eye(2)).round(3)  # weights 1, e^2
    array([[0.119, 0.881],
           [0.119, 0.881]])
    """
    check_shapes(q, k, v)
    check_finite(q=q)
    xp, n, first = namespace(q), q.shape[-2], q[..., :1, :]
    # Divided first, as a sum of finite queries may overflow; from the first on, so that equal queries are their mean.
    mean = first + xp.sum(q / max(n, 1) - first / max(n, 1), axis=-2, keepdims=True)
    row = kernel_attention(mean, k, v, kernel, key_mask=key_mask)  # (..., 1, e), or no row where there is no query
    return row + xp.zeros((n, 1), dtype=q.dtype, device=device_of(q))
