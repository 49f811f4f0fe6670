"""How sharp attention is: numbers by hand, what they do not depend on, and how often the rule is right where nobody set it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.attention.sharpness import FAMILIES, WORKS, _decided, _Numbers, sharpness


def measured(q, k, v):
    """Errors of the families over the exact output."""
    exact = st.kernel_attention(q, k, v, "exp")
    x, y, w = st.recenter(q, k)
    law = st.OptimizedMaclaurin("exp", 256).fit(x, y, w, values=v)
    outputs = {
        "first order": st.first_order_attention(q, k, v),
        "monomials": st.feature_attention(x, y, v, law.draw(q.shape[-1], rng=0), key_log_weights=w),
        "local": st.local_attention(q, k, v),
        "exact": exact,
    }
    return {name: np.linalg.norm(out - exact) / np.linalg.norm(exact) for name, out in outputs.items()}


def test_the_numbers_are_those_of_the_formulas(rng):
    q, k = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    given = rng.normal(size=30)
    found = sharpness(q, k, key_log_weights=given)
    x, y, log_w = st.recenter(q, k, key_log_weights=given)
    w = np.exp(log_w) / np.exp(log_w).sum()
    t = x @ y.T
    rows = w * np.exp(t)
    divergence = np.log(rows.sum(axis=1)).mean()
    rows /= rows.sum(axis=1, keepdims=True)
    # t errs by d u of its terms, sums of up to 40 by as many u: far below 10^-9 here, as the balanced basis is well conditioned.
    assert found.spread == pytest.approx(math.sqrt(np.mean(t**2 @ w)), rel=1e-9)
    assert found.divergence == pytest.approx(divergence, rel=1e-9)
    assert found.effective_keys == pytest.approx(1 / np.sum(w**2), rel=1e-9)
    assert found.row_keys == pytest.approx(np.median(1 / np.sum(rows**2, axis=1)), rel=1e-9)
    parts = np.mean(x**2, axis=0) * (w @ y**2)
    assert found.dimension == pytest.approx(parts.sum() ** 2 / np.sum(parts**2), rel=1e-9)


def test_the_tail_is_what_lies_beyond_the_exact_keys_of_an_emulated_cluster(rng):
    q, k = rng.normal(size=(64, 3)), 2 * rng.normal(size=(600, 3))  # 600 keys, of which a cluster treats 192
    found, budget = sharpness(q, k), st.LocalBudget.for_length(64, 600)
    x, y, log_w = st.recenter(q, k)
    t = x @ y.T
    share = budget.clusters ** (-2 / found.dimension)
    centre = (1 - share) * t + math.sqrt(share * (1 - share)) * np.roll(t, 32, axis=0) + log_w
    rows = np.exp(t + log_w)
    rows /= rows.sum(axis=1, keepdims=True)
    least = np.sort(np.take_along_axis(rows, np.argsort(-centre, axis=1)[:, budget.exact :], axis=1), axis=1)
    assert found.tail == pytest.approx(np.mean(least.sum(axis=1)), rel=1e-9)


def test_the_rule_names_the_first_family_that_it_predicts_to_work():
    def family(divergence, dimension=3.0, tail=1.0, d=32):
        spread = 99.0  # does not count
        return _decided(_Numbers(*map(np.asarray, (spread, divergence, dimension, tail, 9.0, 9.0))), 512, 512, d).family

    size = (WORKS * math.sqrt(6)) ** (1 / 3)  # S^3 = 0.1 sqrt(3!)
    assert [family(WORKS * x) for x in (0.999, 1.001)] == ["first order", "monomials"]
    assert [family(size**2 / 2 * x) for x in (0.999, 1.001)] == ["monomials", "local"]
    assert [family(0.15, dimension=r) for r in (20.6, 20.7)] == ["monomials", "exact"]  # 1 + d + r (r + 1) / 2 = 256
    assert [family(0.15, dimension=r, tail=0.1) for r in (20.6, 20.7)] == ["monomials", "local"]
    left = math.sqrt(2.0) * (64 * 64) ** -0.1 / 2  # S = 2^(1/2), r = 10, 64 clusters and 64 blocks
    assert [family(1.0, dimension=10.0, tail=WORKS / left * x) for x in (0.999, 1.001)] == ["local", "exact"]


def test_the_divergence_is_half_the_squared_spread_where_that_is_small(rng):
    q, k = rng.normal(size=(2, 100, 8)) / 8
    found = sharpness(q, k)
    # A = s^2/2 + E t^3/6 + O(s^4): rows whose t are within 1 in size differ by at most s^2 max|t| / 6 (1 + ...)
    x, y, _ = st.recenter(q, k)
    assert abs(found.divergence - found.spread**2 / 2) <= found.spread**2 / 4 * np.abs(x @ y.T).max()


def test_a_collapsed_head_has_a_small_spread_and_is_not_taken_for_a_flat_one():
    head = st.shipped_heads()[1]
    q = 4 * head.q / math.sqrt(head.q.shape[1])
    found = sharpness(q, head.k)
    assert found.spread < 0.1  # degree <= 1 would be good if this were all
    assert found.divergence > 1
    assert found.effective_keys < 2
    assert found.family != "first order"
    assert measured(q, head.k, head.v)["first order"] > 0.9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_array_library_and_head_gets_its_own_numbers(asarray, rng, dtype):
    q, k = rng.normal(size=(2, 3, 40, 4)).astype(dtype), rng.normal(size=(3, 50, 4)).astype(dtype)
    found = sharpness(asarray(q), asarray(k))
    assert isinstance(found.spread, np.ndarray)
    assert found.spread.shape == found.family.shape == (2, 3)
    for index in np.ndindex(2, 3):
        one = sharpness(q[index].astype(np.float64), k[index[1]].astype(np.float64))
        for name in ("spread", "divergence", "dimension", "effective_keys", "row_keys"):
            # recentred logits of size 10 at most err by 40 sums of 4 terms, each some u of them
            assert getattr(found, name)[index] == pytest.approx(
                getattr(one, name), rel=1e4 * float(np.finfo(dtype).eps)
            )
        assert found.family[index] == one.family


def test_what_attention_does_not_notice_is_not_noticed(rng):
    q, k = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    basis, shift = rng.normal(size=(4, 4)) + 2 * np.eye(4), rng.normal(size=4)
    first, other = sharpness(q, k), sharpness(q @ basis, (k + shift) @ np.linalg.inv(basis).T)
    for name in ("spread", "divergence", "dimension", "tail", "effective_keys", "row_keys"):
        assert getattr(other, name) == pytest.approx(getattr(first, name), rel=1e-6), name


def test_masked_keys_count_for_nothing(asarray, rng):
    q, k, used = rng.normal(size=(30, 4)), rng.normal(size=(40, 4)), np.arange(40) % 3 > 0
    hidden = np.where(used[:, None], k, np.nan)
    found = sharpness(asarray(q), asarray(hidden), key_mask=asarray(used))
    expected = sharpness(q, k[used])
    assert found.divergence == pytest.approx(expected.divergence, rel=1e-9)
    assert found.effective_keys == pytest.approx(expected.effective_keys, rel=1e-9)


def test_heads_without_keys_or_queries_are_flat(rng):
    q = rng.normal(size=(5, 4))
    none = sharpness(q, q, key_mask=np.zeros(5, dtype=bool))
    assert (none.spread, none.divergence, none.tail, none.effective_keys, none.family) == (0, 0, 0, 0, "first order")
    assert sharpness(q[:0], q).family == sharpness(q, q[:0]).family == "first order"
    same = sharpness(q, np.ones((7, 4)))
    assert same.divergence == pytest.approx(0, abs=1e-12)
    assert same.effective_keys == pytest.approx(7, rel=1e-12)


def test_the_family_grows_dearer_with_the_temperature_on_heads_with_structure():
    head = st.shipped_heads()[4]
    q = head.q / math.sqrt(head.q.shape[1])
    order = [FAMILIES.index(sharpness(beta * q, head.k).family) for beta in (0.1, 0.5, 1.0, 2.0)]
    assert order == sorted(order)
    assert order[0] == 0
    assert order[-1] == FAMILIES.index("local")


def fresh():
    """Inputs that set nothing: other temperatures and halves of heads, and data of other kinds, sizes and widths."""
    rng = np.random.default_rng(2027)
    for i, head in enumerate(st.shipped_heads()):
        rows, keys = (rng.permutation(len(head.q))[:256] for _ in range(2))
        for beta in (0.17, 0.6, 1.7)[i % 3 :: 3]:
            yield beta * head.q[rows] / math.sqrt(32), head.k[keys], head.v[keys]
    for n, d in ((300, 24),):
        q, k, v = rng.normal(size=(3, n, d))
        walk = np.cumsum(k, axis=0) / np.sqrt(1 + np.arange(n))[:, None]
        for beta in (0.2, 1.0, 3.0):
            yield beta * q / math.sqrt(d), k, v
            yield beta * rng.laplace(size=(n, d)) / math.sqrt(d), k, v
            yield beta * walk / math.sqrt(d), walk, np.tanh(walk @ rng.normal(size=(d, d)))


def test_the_rule_is_right_on_inputs_that_did_not_set_it():
    judged = []
    for q, k, v in fresh():
        errors, family = measured(q, k, v), sharpness(q, k).family
        enough = next(name for name in FAMILIES if errors[name] <= WORKS)
        judged.append((errors[family] <= WORKS, family == enough))
    safe, right = np.mean(judged, axis=0)
    # Counted, not derived: a rule that fails on more than a tenth, or is dearer than needed on more than a third, is of no use.
    assert safe >= 0.9
    assert right >= 2 / 3


def test_it_shows_itself(rng):
    shown = sharpness(rng.normal(size=(2, 20, 4)), rng.normal(size=(2, 20, 4)))._repr_html_()
    assert "divergence" in shown
    assert shown.count("<tr>") == 3


def test_wrong_input_is_refused(rng):
    q = rng.normal(size=(5, 4))
    with pytest.raises(ValueError, match="k: expected finite entries, found nan"):
        sharpness(q, np.full((5, 4), np.nan))
    with pytest.raises(ValueError, match="expected"):
        sharpness(q, q[:, :3])
    with pytest.raises(TypeError, match="key_mask: expected booleans"):
        sharpness(q, q, key_mask=np.ones(5))
