"""nystrom-attention: an oracle of Nystromformer one item at a time, and what a batch does to it. In float64."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

import schoenbat_theory as st

torch = pytest.importorskip("torch", reason="torch is not installed (extra peers)")
reason = "nystrom-attention is not installed (extra peers)"
theirs = pytest.importorskip("nystrom_attention.nystrom_attention", reason=reason)

U = 2.0**-53
EXP = 20 * U  # an exponential, the less exact of the two in use (from memory)
N, LANDMARKS, D = 24, 6, 8


def softmax_matrix(rng, sharpness):
    """A matrix (LANDMARKS, LANDMARKS) of positive numbers, its rows of sum 1, the largest on its diagonal."""
    weights = np.exp(rng.normal(size=(LANDMARKS, LANDMARKS)) + sharpness * np.eye(LANDMARKS))
    return weights / weights.sum(axis=-1, keepdims=True)


def iterate(a, steps):
    """Their iterative pseudo-inverse of a batch of matrices, (..., c, c)."""
    return theirs.moore_penrose_iter_pinv(torch.from_numpy(a), iters=steps).numpy()


def magnitude(a, z):
    """A step with every sign +: bounds the step itself, and its rounding errors as multiples of it."""
    identity, product = np.eye(len(a)), np.abs(a) @ np.abs(z)
    return np.abs(z) @ (13 * identity + product @ (15 * identity + product @ (7 * identity + product))) / 4


STEP = (4 * LANDMARKS + 8) * U  # four products of matrices, four sums and their factors, in sequence


@pytest.mark.parametrize("step", range(6))
def test_each_step_of_their_pseudo_inverse_is_ours(rng, step):
    a = softmax_matrix(rng, 2.0)
    before, after = (iterate(a[None], steps)[0] for steps in (step, step + 1))
    assert np.all(np.abs(st.schulz_step(a, before) - after) <= 2 * STEP * magnitude(a, before))


def test_of_one_matrix_it_starts_from_the_transpose_over_both_norms(rng):
    a = softmax_matrix(rng, 2.0)
    expected = a.T / (np.linalg.norm(a, 1) * np.linalg.norm(a, np.inf))
    assert np.all(np.abs(iterate(a[None], 0)[0] - expected) <= 2 * (2 * LANDMARKS + 2) * U * expected)


def their_attention(x, *, steps):
    """The whole layer for queries, keys and values x[0], x[1], x[2], each (N, D): one item, one head, nothing learned."""
    layer = theirs.NystromAttention(
        3 * D, dim_head=D, heads=1, num_landmarks=LANDMARKS, pinv_iterations=steps, residual=False
    ).double()
    layer.to_out = torch.nn.Identity()
    with torch.no_grad():
        layer.to_qkv.weight.copy_(torch.eye(3 * D))
        return layer(torch.from_numpy(np.concatenate(x, axis=-1))[None])[0].numpy()


@pytest.mark.parametrize("steps", [0, 1])
def test_one_item_and_one_head_are_nystromformer_attention(rng, steps):
    """Few steps, so that rounding errors are those of a polynomial in A; the further steps are those above."""
    q, k, v = rng.normal(size=(3, N, D))
    middle_q, middle_k = (x.reshape(LANDMARKS, -1, D).mean(axis=1) for x in (q, k))
    eye = np.eye(LANDMARKS)
    front, a = (st.softmax_attention(x, middle_k, eye) for x in (q, middle_q))
    z = a.T / np.linalg.norm(a, 1)
    back = st.softmax_attention(middle_q, k, np.abs(v))
    size = front @ (magnitude(a, z) if steps else z) @ back
    # An exponent errs as an inner product does, by the means of N / LANDMARKS tokens and by a maximum taken off; a weight
    # by that and an exponential, above and below, and by a sum of N. There are 17 in a product at most: F, B, and with
    # one step three of A and four of Z, which is A' divided by two norms and so counts three.
    longest = np.prod([np.linalg.norm(x, axis=-1).max() for x in (q, k)]) / D**0.5
    exponent = (D + 2 * N // LANDMARKS + 8) * U * longest
    weight = 2 * (exponent + EXP) + (N + 2) * U
    allowed = 2 * ((2 + 4 * 3 + 3) * weight + STEP + (2 * LANDMARKS + N) * U) * size
    found = st.nystromformer_attention(q, k, v, n_landmarks=LANDMARKS, steps=steps)
    assert np.all(np.abs(found - their_attention((q, k, v), steps=steps)) <= allowed)


def test_an_item_changes_with_its_batch_as_the_start_is_divided_by_norms_of_all_items(rng):
    a = softmax_matrix(rng, 2.0)
    other = np.eye(LANDMARKS)[np.zeros(LANDMARKS, dtype=int)]  # every landmark looks at the first alone
    alone, together = iterate(a[None], 0)[0], iterate(np.stack([a, other]), 0)[0]
    rounding = 2 * (2 * LANDMARKS + 2) * U * alone
    mended = (
        f"nystrom-attention {version('nystrom-attention')} takes norms item by item now: say so where it is said not to"
    )
    assert np.any(np.abs(alone - together) > rounding), mended
