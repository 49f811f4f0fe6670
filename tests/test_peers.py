"""Other libraries as oracles, in float32: what they compute too is the same within rounding, to first order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from schoenbat_theory import gaussian_attention, kernel_attention, linear_attention, softmax_attention

torch = pytest.importorskip("torch", reason="torch is not installed (extra peers)")

U = 2.0**-24
EXP = 20 * U  # an exponential of torch's fused kernel, the least exact of all in use (from memory)
HEADS, D, E = 3, 16, 5


def tokens(rng, n, m):
    """Queries (HEADS, n, D), keys (HEADS, m, D) and values (HEADS, m, E) in float32."""
    return tuple(rng.normal(size=(HEADS, *shape)).astype(np.float32) for shape in ((n, D), (m, D), (m, E)))


def torch_attention(q, k, v, mask=None, **options):
    q, k, v = (torch.from_numpy(x) for x in (q, k, v))
    mask = None if mask is None else torch.from_numpy(mask)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options).numpy()


def longest(x):
    return float(np.linalg.norm(x.astype(np.float64), axis=-1).max())


def bound(size, logs, m):
    """How far two averages with positive weights may be apart, as a multiple of the average of |v|.

    ``size`` bounds |q| |k| / sqrt(d), ``logs`` what is added to it. An inner product errs by d u ``size``, the scale of
    its two factors by 4 u ``size``. Adding, taking off a maximum and rescaling once per block (of 512 keys at least)
    err by 2 u (size + logs) each, an exponential by EXP, and as often. A sum of m terms errs by m u. Numerator and
    denominator err so, and the division; and all this twice.
    """
    times = 3 + m // 512
    weight = (D + 4) * U * size + times * (2 * U * (size + logs) + EXP) + m * U
    return 2 * (2 * weight + U)


def toeplitz(bias, n, m):
    """The matrix (..., n, m) of bias (..., n + m - 1)."""
    return bias[..., np.arange(m)[None, :] - np.arange(n)[:, None] + n - 1]


def cases(rng, n, m):
    """Our options, torch's, and the largest number added to an exponent."""
    used = rng.random((HEADS, m)) < 0.7
    weights = rng.normal(size=(HEADS, m)).astype(np.float32)
    bias = rng.normal(size=(HEADS, n + m - 1)).astype(np.float32)
    return {
        "plain": ({}, {}, 0.0),
        "causal": ({"causal": True}, {"is_causal": True}, 0.0),
        "key_mask": ({"key_mask": used}, {"mask": used[:, None, :]}, 0.0),
        "key_log_weights": ({"key_log_weights": weights}, {"mask": weights[:, None, :]}, np.abs(weights).max()),
        "log_bias": ({"log_bias": bias}, {"mask": toeplitz(bias, n, m)}, np.abs(bias).max()),
    }


@pytest.mark.parametrize(("n", "m"), [(40, 40), (300, 1100), (1, 7)])
@pytest.mark.parametrize("case", ["plain", "causal", "key_mask", "key_log_weights", "log_bias"])
def test_softmax_attention_is_scaled_dot_product_attention(rng, case, n, m):
    q, k, v = tokens(rng, n, m)
    ours, theirs, logs = cases(rng, n, m)[case]
    expected = torch_attention(q, k, v, **theirs)
    allowed = bound(longest(q) * longest(k) / math.sqrt(D), logs, m) * torch_attention(q, k, np.abs(v), **theirs)
    found = softmax_attention(q, k, v, **ours)
    assert found.dtype == expected.dtype == np.float32
    assert np.all(np.abs(found - expected) <= allowed)
    factor = D**-0.25
    assert np.all(np.abs(kernel_attention(factor * q, factor * k, v, "exp", **ours) - expected) <= allowed)


def test_gaussian_attention_divided_by_that_of_ones_is_dot_product_attention_with_lighter_long_keys(rng):
    q, k, v = (x / 2 for x in tokens(rng, 40, 60))
    squares = np.sum(k.astype(np.float64) ** 2, axis=-1)
    lighter = (-squares / 2).astype(np.float32)[:, None, :]
    expected, size = (torch_attention(q, k, x, lighter, scale=1.0) for x in (v, np.abs(v)))
    found = gaussian_attention(q, k, v) / gaussian_attention(q, k, np.ones_like(v[..., :1]))
    # exp(-|q - k|^2 / 2) = exp(<q, k> - |k|^2 / 2) exp(-|q|^2 / 2), the last factor in all weights of a row. A weight
    # of ours errs by (d + 4) u (a + b)^2 / 2, a and b the lengths of q and k from the mean of the keys.
    centre = k.mean(axis=-2, keepdims=True)
    reach = longest(q - centre) + longest(k - centre)
    gaussian = 2 * (D + 4) * U * reach**2 / 2
    assert np.all(np.abs(found - expected) <= (gaussian + bound(longest(q) * longest(k), squares.max() / 2, 60)) * size)


@pytest.mark.parametrize("n", [40, 600])
@pytest.mark.parametrize("causal", [False, True])
def test_linear_attention_is_that_of_elu_plus_one(rng, causal, n):
    q, k, v = tokens(rng, n, n)
    phi_q, phi_k = (torch.nn.functional.elu(torch.from_numpy(x)) + 1 for x in (q, k))
    weights = phi_q @ phi_k.mT
    weights = torch.tril(weights) if causal else weights
    weights = weights / weights.sum(dim=-1, keepdim=True)
    expected, average = ((weights @ torch.from_numpy(x)).numpy() for x in (v, np.abs(v)))
    # All terms are positive. Features: torch's elu is expm1, whose sum with 1 has lost what the exponential has below
    # u, so that entries near e^-X are off by u e^X, X = max |x|; ours by a few u X. Sums of d and of m terms.
    size = max(np.abs(q).max(), np.abs(k).max())
    feature = U * math.exp(size) + 8 * U * (size + 1)
    assert feature < 1e-2  # first order
    weight = 2 * feature + (D + 2 * n) * U
    assert np.all(np.abs(linear_attention(q, k, v, causal=causal) - expected) <= 2 * (2 * weight + U) * average)
