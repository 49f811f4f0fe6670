"""Attentions of the same family to compare with: softmax, linear with elu + 1, and Nystromformer."""

from __future__ import annotations

import numpy as np

from schoenbat_theory.arrays import Array, all_finite, device_of, namespace, require_int
from schoenbat_theory.attention.exact import kernel_attention
from schoenbat_theory.attention.features import feature_attention
from schoenbat_theory.attention.inputs import check_rows, check_shapes, explain_not_finite
from schoenbat_theory.attention.schulz import schulz_step
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.kernels import get_kernel

__all__ = ["linear_attention", "nystromformer_attention", "softmax_attention"]


def softmax_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    key_log_weights: Array | None = None,
    log_bias: Array | None = None,
) -> Array:
    r"""Compute the attention of an encoder, scaled by the square root of its width, exactly and block by block.

        out_i = sum_j w_ij v_j / sum_j w_ij,    w_ij = exp(<q_i, k_j> / sqrt(d) + key_log_weights_j + bias_{j-i})

    Arguments, result (..., n, e) and errors are those of `kernel_attention` with the kernel "exp", here of the argument
    t / sqrt(d): queries and keys times d**-0.25 give the same within d + 3 roundings of |q_i| |k_j| / sqrt(d) per
    exponent.

    Source: Vaswani et al. (2017), equation 1 (from memory); masks, weights, biases and blocks are not in the source.

    >>> import numpy as np
    >>> softmax_attention(np.eye(4)[:1], 2 * np.eye(4)[:2], np.eye(2)).round(3)  # e / (e + 1)
    array([[0.731, 0.269]])
    """
    check_rows(q=q)
    kernel = get_kernel("exp").scaled(q.shape[-1] ** -0.5)
    return kernel_attention(
        q, k, v, kernel, causal=causal, key_mask=key_mask, key_log_weights=key_log_weights, log_bias=log_bias
    )


def linear_attention(q: Array, k: Array, v: Array, *, causal: bool = False, key_mask: Array | None = None) -> Array:
    """Compute the attention of linear transformers, in time linear in n and m.

        out_i = sum_j <phi(q_i), phi(k_j)> v_j / sum_j <phi(q_i), phi(k_j)>,
        phi(x) = elu(x) + 1 = x + 1 where x > 0, e^x elsewhere, entry by entry

    Arguments, result (..., n, e) and errors are those of `feature_attention`. Queries and keys are not scaled, and
    nothing is added to the denominator; the released code adds 1e-6. The map has a scale and a logarithm, so that e^x
    may underflow.

    Source: Katharopoulos et al. (2020), equations 4 to 7 (from memory); linear_attention.py of the released code.

    >>> import numpy as np
    >>> linear_attention(np.zeros((1, 2)), np.array([[0.0, 0.0], [1.0, 1.0]]), np.eye(2)).round(3)  # weights 2 and 4
    array([[0.333, 0.667]])
    """
    return feature_attention(q, k, v, _EluPlusOne(), causal=causal, key_mask=key_mask)


class _EluPlusOne:
    """The feature map phi(x) = elu(x) + 1, entry by entry, (..., n, d) -> (..., n, d)."""

    def __call__(self, x: Array) -> Array:
        return namespace(x).exp(self.log(x))

    def log(self, x: Array) -> Array:
        """Return the logarithms of the features, (..., n, d)."""
        xp = namespace(x)
        return xp.where(x > 0, xp.log1p(xp.maximum(x, xp.zeros_like(x))), x)

    def scaled(self, x: Array) -> tuple[Array, Array]:
        """Return features in [0, 1], the largest of each token 1, and the logarithm (..., n) of what they lack."""
        xp = namespace(x)
        top = xp.max(x, axis=-1, keepdims=True)
        zero = xp.zeros_like(top)
        growing, decaying = xp.maximum(top, zero), xp.minimum(top, zero)  # one of them is 0
        features = xp.where(x > 0, x + 1, xp.exp(xp.minimum(x, zero) - decaying)) / (growing + 1)
        return features + 0 * x, (xp.log1p(growing) + decaying)[..., 0]  # 0 * x: an infinite x is no feature of 0


def nystromformer_attention(
    q: Array, k: Array, v: Array, *, n_landmarks: int, steps: int = 6, key_mask: Array | None = None
) -> Array:
    r"""Approximate softmax attention through the means of c = ``n_landmarks`` runs of queries and of keys.

        out = F Z (B v),    F = softmax(q kt' / sqrt(d)),  A = softmax(qt kt' / sqrt(d)),  B = softmax(qt k' / sqrt(d)),
        Z_0 = A' / (||A||_1 ||A||_inf),    Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4,  ``steps`` times, near A^+

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e)   queries and keys unscaled
    ``n_landmarks``  c <= n, m; qt and kt (..., c, d) are means of successive tokens, the runs n // c long or one more,
                     the shorter runs first
    ``key_mask``     (..., m) booleans, True = the key is used; masked keys enter neither means nor B, and a run without
                     any key is no landmark
    returns          (..., n, e), same library, device and dtype; zeros where no key is used

    Rows of F Z B sum to 1 only as far as Z is an inverse, and its entries have both signs. Where A is singular, a step
    multiplies rounding errors by 13 / 4: by 1178 in six steps, by more than 1 / u in 15 of float32 or 32 of float64.
    Never holds n x m numbers. Raises ``TypeError`` or ``ValueError`` for wrong input, and ``ArithmeticError`` where Z
    overflows.

    Source: Xiong et al. (2021) (from memory), and the released code, which differs: its norms are maxima over the whole
    batch, so that one item moves another; masked tokens count as zeros in its means; it adds a depthwise convolution of
    v; and where c is the length of the sequence it computes softmax attention, which this comes to as steps are added.

    >>> import numpy as np
    >>> nystromformer_attention(np.eye(2), np.eye(2), np.eye(2), n_landmarks=2).round(3)  # softmax attention
    array([[0.67, 0.33],
           [0.33, 0.67]])
    """
    lead = check_shapes(q, k, v)
    n, m = q.shape[-2], k.shape[-2]
    n_landmarks = require_int("n_landmarks", n_landmarks, 1)
    steps = require_int("steps", steps, 0)
    if n_landmarks > min(n, m):
        raise ValueError(f"n_landmarks: expected at most {min(n, m)} for {n} queries and {m} keys, found {n_landmarks}")
    k = hide(k, key_weights(k, m, lead, key_mask, None))
    middle_q, _ = _means(q, n_landmarks, None)
    middle_k, used = _means(k, n_landmarks, key_mask)
    if not all_finite(middle_q, middle_k):
        explain_not_finite(q=q, k=k)
    xp = namespace(q)
    identity = xp.eye(n_landmarks, dtype=q.dtype, device=device_of(q))
    between = softmax_attention(middle_q, middle_k, identity, key_mask=used)  # A, (..., c, c)
    values = _solve(between, softmax_attention(middle_q, k, v, key_mask=key_mask), steps)
    return softmax_attention(q, middle_k, values, key_mask=used)


@np.errstate(all="ignore")  # an overflow is found in the means
def _means(x: Array, count: int, used: Array | None) -> tuple[Array, Array]:
    """Return the means (..., count, d) of the used among successive tokens, and which of them have any (..., count)."""
    xp = namespace(x)
    if used is None:
        used = xp.ones(x.shape[-2:-1], dtype=xp.bool, device=device_of(x))
    tokens = _runs(xp.astype(used, x.dtype)[..., None], count)
    return _runs(x, count) / xp.maximum(tokens, xp.ones_like(tokens)), tokens[..., 0] > 0


def _runs(x: Array, count: int) -> Array:
    """Return the sums (..., count, d) of ``count`` runs of successive rows of x (..., n, d), the shorter runs first."""
    xp = namespace(x)
    length, longer = divmod(x.shape[-2], count)
    cut = (count - longer) * length
    parts = (x[..., :cut, :], count - longer, length), (x[..., cut:, :], longer, length + 1)
    sums = [xp.sum(xp.reshape(part, (*x.shape[:-2], *shape, x.shape[-1])), axis=-2) for part, *shape in parts]
    return xp.concat(sums, axis=-2)


@np.errstate(all="ignore")  # an overflow is found in the result
def _solve(a: Array, values: Array, steps: int) -> Array:
    """Return Z ``values`` (..., c, e) for softmax matrices A = ``a`` (..., c, c); zeros where no key is used."""
    xp = namespace(a)
    norm = xp.max(xp.sum(a, axis=-2, keepdims=True), axis=-1, keepdims=True)  # ||A||_1; ||A||_inf is 1
    z = xp.matrix_transpose(a) / xp.where(norm > 0, norm, xp.ones_like(norm))
    for _ in range(steps):
        z = schulz_step(a, z)
    if not all_finite(z):
        raise ArithmeticError(f"steps: the iteration for the inverse overflows within {steps} steps; take fewer")
    out = z @ values
    if not all_finite(out):
        explain_not_finite(v=values)
    return out
