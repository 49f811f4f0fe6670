"""FlexAttention of torch as an oracle: softmax of log f(score) is kernelized attention, in float64 on the CPU."""

from __future__ import annotations

import math

import numpy as np
import pytest

import schoenbat_theory as st

torch = pytest.importorskip("torch", reason="torch is not installed (extra peers)")
flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="this torch has no FlexAttention")

# Compiled, it needs a C++ compiler; not compiled, it says at its first call that it holds the matrix of scores.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")

U = 2.0**-53
EXP = 20 * U  # an exponential or a logarithm, the least exact of all in use (from memory)
BATCH, HEADS, D, E = 2, 3, 16, 5
REACH = 0.9  # of an inner product

LOGS = {
    "exp": lambda t: t,
    "inv": lambda t: -torch.log1p(-t),
    "logi": lambda t: torch.log(1 - torch.log1p(-t)),
    "sqrt": lambda t: torch.log(2 - torch.sqrt(1 - t)),
    "polynomial": lambda t: 2 * torch.log1p(t),
}
SLOPES = {  # of log f; each is largest at an end of [-REACH, REACH], as its own derivative changes sign once at most
    "exp": lambda t: 1.0,
    "inv": lambda t: 1 / (1 - t),
    "logi": lambda t: 1 / ((1 - t) * (1 - math.log(1 - t))),
    "sqrt": lambda t: 1 / (2 * math.sqrt(1 - t) * (2 - math.sqrt(1 - t))),
    "polynomial": lambda t: 2 / (1 + t),
}


def kernel_of(name):
    return st.polynomial(2, 1.0) if name == "polynomial" else name


def tokens(rng, n, m):
    """Queries (BATCH, HEADS, n, D) and keys (..., m, D) of length sqrt(REACH), and values (..., m, E)."""
    q, k, v = (rng.normal(size=(BATCH, HEADS, *shape)) for shape in ((n, D), (m, D), (m, E)))
    return *(math.sqrt(REACH) * st.unit_norm(x) for x in (q, k)), v


def torch_attention(name, q, k, v, seen=None, **options):
    """FlexAttention with weights f(<q_i, k_j>) where ``seen(batch, i, j)``, else 0."""

    def modified(score, b, h, i, j):
        log = LOGS[name](score)
        return log if seen is None else torch.where(seen(b, i, j), log, -math.inf)

    q, k, v = map(torch.from_numpy, (q, k, v))
    return flex.flex_attention(q, k, v, score_mod=modified, scale=1.0, **options).numpy()


def bound(name, m):
    """How far two averages with weights f > 0 may be apart, as a multiple of the average of |v|; first order.

    An inner product errs by d u REACH, and 1 - t by u (1 + REACH); a relative error of f is ``slope`` times these, and
    at most 4 u (1 + 1 / f) more: f is at most three operations on numbers that are below 2 + f. The logarithm adds EXP
    and u |log f|, taking off a maximum 2 u |log f|, and an exponential EXP. Numerator and denominator err so and by
    m u for their sums; and all this twice.
    """
    kernel = st.get_kernel(kernel_of(name))
    ends = (-REACH, REACH)
    slope = max(SLOPES[name](t) for t in ends)
    logs = max(abs(math.log(kernel(t))) for t in ends)  # f is monotone
    weight = slope * U * (D * REACH + 1 + REACH) + 4 * U * (1 + 1 / kernel(-REACH)) + 3 * U * logs + 2 * EXP + m * U
    return 2 * (2 * weight + U)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (17, 60), (1, 7)])
@pytest.mark.parametrize("name", LOGS)
def test_softmax_of_the_logarithm_of_a_kernel_is_kernel_attention(rng, name, n, m):
    q, k, v = tokens(rng, n, m)
    found = st.kernel_attention(q, k, v, kernel_of(name))
    allowed = bound(name, m) * torch_attention(name, q, k, np.abs(v))
    assert np.all(np.abs(found - torch_attention(name, q, k, v)) <= allowed)


@pytest.mark.parametrize("name", LOGS)
def test_a_key_mask_is_a_score_of_minus_infinity(rng, name):
    q, k, v = tokens(rng, 17, 60)
    used = rng.random((BATCH, 1, 60)) < 0.7
    on_device = torch.from_numpy(used[:, 0])

    def seen(b, i, j):
        return on_device[b, j]

    found = st.kernel_attention(q, k, v, kernel_of(name), key_mask=used)
    allowed = bound(name, 60) * torch_attention(name, q, k, np.abs(v), seen)
    assert np.all(np.abs(found - torch_attention(name, q, k, v, seen)) <= allowed)


@pytest.mark.parametrize("blocked", [False, True], ids=["score_mod", "block_mask"])
@pytest.mark.parametrize("name", LOGS)
def test_causal_attention_is_theirs_by_scores_and_by_blocks(rng, name, blocked):
    q, k, v = tokens(rng, 40, 40)
    if blocked:
        mask = flex.create_block_mask(lambda b, h, i, j: j <= i, None, None, 40, 40, device="cpu")
        expected, size = (torch_attention(name, q, k, x, block_mask=mask) for x in (v, np.abs(v)))
    else:
        expected, size = (torch_attention(name, q, k, x, lambda b, i, j: j <= i) for x in (v, np.abs(v)))
    found = st.kernel_attention(q, k, v, kernel_of(name), causal=True)
    assert np.all(np.abs(found - expected) <= bound(name, 40) * size)
