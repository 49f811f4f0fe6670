from __future__ import annotations

import numpy as np
import pytest

from schoenbat_theory import (
    RandomMaclaurin,
    attention_sums,
    feature_attention,
    post_scale,
    pre_scale,
    prepare,
    released_attention,
    schoenbat_attention,
    to_host,
)

U = 2.0**-53


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("degrees", ["released", "geometric", "h01"])
@pytest.mark.parametrize("kernel", ["exp", "logi"])
def test_it_is_the_composition_of_its_parts(asarray, rng, causal, degrees, kernel):
    q, k, v = (asarray(rng.normal(size=shape)) for shape in ((2, 5, 8), (6, 8), (6, 3)))
    found = schoenbat_attention(
        q, k, v, kernel=kernel, n_features=128, degrees=degrees, rng=3, causal=causal, gamma=2.0, beta=3.0
    )
    phi = RandomMaclaurin(kernel, 128, degrees).draw(8, 3)
    factor = 8**-0.25
    parts = feature_attention(pre_scale(q) * factor, pre_scale(k) * factor, v, phi, causal=causal)
    assert np.array_equal(to_host(found), to_host(post_scale(parts, 2.0, 3.0)))


def test_a_masked_key_is_left_out_whatever_it_holds(asarray, rng):
    q, k, v = rng.normal(size=(5, 8)), rng.normal(size=(6, 8)), rng.normal(size=(6, 3))
    mask = np.array([True] * 4 + [False] * 2)
    k[4:], v[4:] = np.nan, np.inf
    found = schoenbat_attention(*map(asarray, (q, k, v)), rng=0, key_mask=asarray(mask))
    short = schoenbat_attention(q, k[:4], v[:4], rng=0)
    # Two more terms are zero, so that D + m terms may be added in another order, in both sums; their absolute
    # values sum to less than twice the denominator, because |<q, k>| <= d^(-1/2) makes all weights positive.
    assert np.all(np.abs(to_host(found) - short) <= 4 * 2 * (256 + 6) * U * np.abs(v[:4]).max())


def test_prepared_tokens_have_length_d_to_the_minus_a_quarter(asarray, rng):
    q, k = prepare(asarray(rng.normal(size=(5, 16))), asarray(1e3 * rng.normal(size=(4, 16))))
    for x in (q, k):
        assert np.all(np.abs(np.linalg.norm(to_host(x), axis=-1) - 0.5) <= 2**8 * U)
    assert np.abs(to_host(q) @ to_host(k).T).max() <= 0.25 * (1 + 2**8 * U)


def test_the_released_form_is_causal_and_clamps_at_one(rng):
    phi_q, phi_k, v = rng.random((4, 2)) / 4, rng.random((4, 2)) / 4, rng.random((4, 1))
    sums = attention_sums(phi_q, phi_k, v, causal=True)
    assert np.all(sums.denominator < 1)  # so that the clamp is all there is
    assert np.array_equal(released_attention(phi_q, phi_k, v, lambda x: x), sums.numerator)
    free = released_attention(phi_q, phi_k, v, lambda x: x, clamp=None)
    assert np.array_equal(free, feature_attention(phi_q, phi_k, v, lambda x: x, causal=True))


@pytest.mark.parametrize("clamp", [np.nan, np.inf, "1"])
def test_a_clamp_is_a_finite_number(rng, clamp):
    x = rng.random((4, 2)) / 4
    with pytest.raises((TypeError, ValueError), match="clamp: expected a finite number, found"):
        released_attention(x, x, x, lambda x: x, clamp=clamp)
    with pytest.raises((TypeError, ValueError), match="clamp: expected a finite number, found"):
        attention_sums(x, x, x).ratio(clamp=clamp)


@pytest.mark.parametrize(
    ("q", "error", "words"),
    [
        ([1.0], TypeError, "q: expected an array, found list"),
        (None, TypeError, "q: expected an array, found NoneType"),
        (np.array(1.0), ValueError, r"q: expected shape .*found \(\)"),
        (np.ones((2, 0)), ValueError, r"q: expected shape .*found \(2, 0\)"),
    ],
)
def test_what_is_no_row_of_queries_or_keys_is_not_prepared(rng, q, error, words):
    x = rng.normal(size=(5, 8))
    with pytest.raises(error, match=words):
        prepare(q, x)
    with pytest.raises(error, match=words.replace("q:", "k:")):
        prepare(x, q)


def test_a_mask_whose_leading_axes_fit_nothing_is_named(asarray, rng):
    x, mask = asarray(rng.normal(size=(2, 5, 8))), asarray(np.ones((3, 5), dtype=bool))
    with pytest.raises(ValueError, match=r"arrays \(2,\), key_mask \(3,\)"):
        schoenbat_attention(x, x, x, rng=0, key_mask=mask)
    with pytest.raises(ValueError, match=r"x \(2,\), key_mask \(3,\)"):
        pre_scale(x, key_mask=mask)


def test_a_negative_output_has_no_square_root(rng):
    x = rng.normal(size=(5, 8))
    with pytest.raises(ValueError, match=r"a: \d+ negative entries have no real power beta = 0\.5"):
        schoenbat_attention(x, x, -np.abs(x), rng=0, beta=0.5)


def test_wrong_arguments_are_named(rng):
    x = rng.normal(size=(5, 8))
    with pytest.raises(ValueError, match="v: expected 5 rows as k has"):
        schoenbat_attention(x, x, x[:4])
    with pytest.raises(ValueError, match="q: token"):
        schoenbat_attention(np.ones((2, 8)), x, x, rng=0)
    with pytest.raises(ValueError, match="n_features: the exact part"):
        schoenbat_attention(x, x, x, rng=0, n_features=4, degrees="h01")
