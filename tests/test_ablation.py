"""The ablation of scaling: closed forms against draws, fits against what nothing can beat."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from schoenbat_theory.attention import feature_attention, kernel_attention, softmax_attention
from schoenbat_theory.attention.schoenbat import prepare
from schoenbat_theory.compare.scaling import ablation
from schoenbat_theory.compare.scaling.first_order import first_order
from schoenbat_theory.compare.scaling.post import BETAS, post_scaling
from schoenbat_theory.compare.scaling.words import scaling_sentences, span
from schoenbat_theory.features import RandomMaclaurin
from schoenbat_theory.scaling import post_scale

UNIT = 2.0**-53


ablate_scaling = functools.partial(ablation.ablate_scaling, workers=1)


def heads(n=24, d=4, count=2, seed=0):
    return np.random.default_rng(seed).normal(size=(3, count, n, d))


@pytest.fixture(scope="module")
def found():
    return ablate_scaling(*heads(), width=64, draws=4, seed=1)


def test_rows_come_head_by_head_and_setting_by_setting(found):
    assert [(row.head, row.setting) for row in found.rows] == [
        (head, setting) for head in ("head 0", "head 1") for setting in ("raw", "unit", "released")
    ]
    assert [row.setting for row in found.of("unit")] == ["unit", "unit"]


def test_the_distance_is_that_of_the_exact_attentions(found):
    q, k, v = heads()
    softmax = softmax_attention(q[1], k[1], v[1])
    exact = kernel_attention(*prepare(q[1], k[1]), v[1], "exp")
    row = found.of("released")[1]
    assert row.distance == pytest.approx(np.linalg.norm(exact - softmax) / np.linalg.norm(softmax), rel=1e-12)
    plain = np.linalg.norm(v[1].mean(axis=0) - softmax) / np.linalg.norm(softmax)
    assert row.mean_of_softmax == pytest.approx(plain, rel=1e-12)
    assert row.mean_of_target == pytest.approx(
        np.linalg.norm(v[1].mean(axis=0) - exact) / np.linalg.norm(exact), rel=1e-12
    )
    assert max(found.values("raw", "distance")) < 1e-12


def test_the_variance_of_a_pair_is_that_of_the_law(found):
    q, k, _ = heads()
    q, k = prepare(q[0], k[0])
    law = RandomMaclaurin("exp", 2, "released")
    relative = law.variance(q[:, None], k) / np.exp(q @ k.T) ** 2
    row = found.of("released")[0]
    assert row.pair_variance == pytest.approx(np.median(relative), rel=1e-12)
    assert row.worst_variance == pytest.approx(relative.max(), rel=1e-12)
    wide = RandomMaclaurin("exp", math.ceil(row.pair_features), "released")
    at_width = np.median(wide.variance(q[:, None], k) / np.exp(q @ k.T) ** 2)
    assert 0.09**2 < at_width <= 0.1**2 * (1 + 1e-12)


def test_the_prediction_is_what_many_draws_show():
    q, k, v = heads(n=8, count=1)
    row = ablate_scaling(q, k, v + 3, width=512, draws=400, seed=2).of("released")[
        0
    ]  # + 3: only differences of values err
    # A mean of 400 squared errors, each a sum over several entries, has a standard error of 7 % at most where one entry's
    # square alone would have sqrt(2 / 400); four of these, and halved by the root.
    assert row.trusted
    assert row.measured == pytest.approx(row.predicted, rel=0.15)


def test_the_prediction_is_the_double_sum_over_the_covariances():
    q, k, v = heads(n=6, count=1)
    v = v + 3 * k[..., :1]  # values that go with the keys, so that numerators and denominators do too
    row = ablate_scaling(q, k, v, width=32, draws=1).of("released")[0]
    q, k = prepare(q[0], k[0])
    weights, law = np.exp(q @ k.T), RandomMaclaurin("exp", 32, "released")
    out = kernel_attention(q, k, v[0], "exp")
    away = v[0] - out[:, None]  # (n, m, e)
    square = np.einsum("ijl,ijc,ilc,i->", law.row_covariance(q, k), away, away, 1 / weights.sum(axis=1) ** 2)
    assert row.predicted == pytest.approx(math.sqrt(square) / np.linalg.norm(out), rel=1e-9)


def test_what_is_measured_is_that_of_the_draws_at_their_addresses():
    heads_of = heads(n=20)
    q, k, v = (x[1] for x in heads_of)
    row = ablate_scaling(*heads_of, width=64, draws=3, seed=5).of("released")[1]
    a, b = prepare(q, k)
    exact, softmax = kernel_attention(a, b, v, "exp"), softmax_attention(q, k, v)
    some = [0, 3, 5, 8, 11, 14, 16, 19]  # 8 of 20 queries, evenly spaced
    law, squares, distances = RandomMaclaurin("exp", 64, "released"), [], []
    for draw in range(3):
        rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(1, draw)))
        out = feature_attention(a, b, v, law.draw(4, rng))
        squares.append((np.linalg.norm(out[some] - exact[some]) / np.linalg.norm(exact[some])) ** 2)
        distances.append(np.linalg.norm(out - softmax) / np.linalg.norm(softmax))
    assert row.measured == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-9)
    assert row.total == pytest.approx(np.median(distances), rel=1e-9)


def test_features_needed_give_the_error_that_they_are_needed_for(found):
    for row in found.of("released"):
        tenth = ablate_scaling(*heads(), width=row.output_features, draws=1).of("released")
        again = next(one for one in tenth if one.head == row.head)
        assert again.predicted <= 0.1 * (1 + 1e-12)
        assert again.predicted > 0.09
        needed = ablate_scaling(*heads(), width=row.matching_features, draws=1).of("released")
        again = next(one for one in needed if one.head == row.head)
        assert again.predicted <= row.mean_of_target * (1 + 1e-12)
        assert again.predicted > row.mean_of_target * math.sqrt(
            (row.matching_features - 2) / (row.matching_features - 1)
        ) * (1 - 1e-12)


def test_the_variance_of_the_denominator_is_that_of_the_sum_of_all_estimates():
    q, k, v = heads(n=6, count=1)
    q, k = prepare(q[0], k[0])
    law = RandomMaclaurin("exp", 2, "released")
    expected = np.mean(law.row_covariance(q, k).sum(axis=(-1, -2)) / np.exp(q @ k.T).sum(axis=1) ** 2)
    assert first_order(law, q, k, v[0])[1] == pytest.approx(expected, rel=1e-9)


def test_trust_begins_where_the_relative_variance_of_the_denominator_is_one_in_25():
    q, k, v = heads(n=8, count=1)
    variance = first_order(RandomMaclaurin("exp", 2, "released"), *prepare(q[0], k[0]), v[0])[1]
    least = 1 + math.ceil(25 * variance)
    assert variance > 1 / 25  # else no width is too small
    assert ablate_scaling(q, k, v, width=least, draws=1).of("released")[0].trusted
    assert not ablate_scaling(q, k, v, width=least - 1, draws=1).of("released")[0].trusted


def test_no_prediction_is_trusted_where_the_denominator_may_vanish():
    loud = heads() * np.array([6.0, 6.0, 1.0])[:, None, None, None]
    raw, released = (ablate_scaling(*loud, width=64, draws=1).of(name)[0] for name in ("raw", "released"))
    assert not raw.trusted
    assert released.trusted
    # that pre-scaling forgets the length is the reason
    assert released.predicted == pytest.approx(
        ablate_scaling(*heads(), width=64, draws=1).of("released")[0].predicted, rel=1e-9
    )


def test_what_is_restored_of_a_draw_is_its_own_and_comes_to_the_exact_one_as_features_are_added(found):
    softmax = [softmax_attention(*one) for one in zip(*heads(), strict=True)]
    for row, target in zip(found.of("released"), softmax, strict=True):
        assert row.drawn_restored != row.exact_restored
        assert row.drawn_restored.constant == pytest.approx(
            np.linalg.norm(target - target.mean(axis=0)) / np.linalg.norm(target), rel=1e-12
        )
    wide = ablate_scaling(*heads(n=12), width=1 << 14, draws=1).of("released")
    for row in wide:  # least squares move by the change of the output over its own size, at most
        assert abs(row.drawn_restored.gamma - row.exact_restored.gamma) < 0.2


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(found):
    assert ablate_scaling(*heads(), width=64, draws=4, seed=1).rows == found.rows
    assert ablate_scaling(*heads(), width=64, draws=4, seed=2).rows != found.rows


def test_the_number_of_workers_changes_no_number(found):
    assert ablate_scaling(*heads(), width=64, draws=4, seed=1, workers=2).rows == found.rows


def test_a_setting_without_attention_is_left_out():
    rows = ablate_scaling(*(3 * heads()), kernel="inv", width=16, draws=1)
    assert {row.setting for row in rows.rows} == {"unit", "released"}
    assert scaling_sentences(rows)
    assert rows.to_html().startswith("<!doctype html>")


@pytest.mark.parametrize("loud", [4.0, 15.0, 60.0])
def test_heads_beyond_float64_have_infinite_numbers_and_pages_all_the_same(loud):
    q, k, v = heads(n=12, d=8)
    rows = ablate_scaling(loud * q, loud * k, v, width=16, draws=2)
    assert max(rows.values("raw", "distance")) < 1e-9
    assert not any(row.trusted for row in rows.of("raw"))
    assert math.isfinite(max(rows.values("released", "drawn_restored.power")))
    assert json.loads(rows.to_json())["rows"][0]["pair_variance"] is not None
    assert rows.to_html().startswith("<!doctype html>")
    assert rows.table()


def test_one_key_leaves_nothing_to_scale():
    q, k, v = heads(n=1)
    rows = ablate_scaling(q, k, v, width=2, draws=1)
    assert max(rows.values("released", "mean_of_softmax")) < 1e-12
    assert rows.to_html().startswith("<!doctype html>")


def test_keys_that_are_all_alike_leave_no_error_and_sentences_without_ratios():
    q, k, v = heads(n=12)
    rows = ablate_scaling(q, np.broadcast_to(k[:, :1], k.shape), v, width=8, draws=2)
    assert max(rows.values("unit", "predicted")) < 1e-7
    text = " ".join(sentence for part in scaling_sentences(rows).values() for sentence in part)
    assert "measured over predicted" not in text
    assert "nearer by nothing" in text


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"width": 1}, ValueError, "width: expected an int >= 2"),
        ({"draws": 0}, ValueError, "draws"),
        ({"seed": -1}, ValueError, "seed"),
        ({"kernel": "cosine"}, ValueError, "kernel"),
        ({"k": None}, TypeError, "k"),
    ],
)
def test_bad_input_is_named(wrong, error, match):
    q, k, v = heads()
    with pytest.raises(error, match=match):
        ablate_scaling(**{"q": q, "k": k, "v": v, **wrong})


def test_the_document_is_json_and_the_table_has_a_line_per_row(found):
    assert json.loads(found.to_json())["rows"][0]["exact_restored"]["monotone"] == found.rows[0].exact_restored.monotone
    assert len(found.table().splitlines()) == 1 + len(found.rows)


# Post-scaling


def test_a_power_with_a_factor_per_channel_is_found_out():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 3))
    beta = np.array([1.0, 2.0, 0.5])
    left = post_scaling(a, post_scale(a, np.array([2.0, -3.0, 1.0]), beta, signed=True))
    assert left.power < 1e-12
    assert left.monotone < 1e-12
    assert left.gamma > 0.1


def test_the_grid_has_one_and_the_limit_zero():
    assert 1.0 in BETAS
    assert 0.0 in BETAS
    assert BETAS.max() == 256


def test_a_sign_flip_of_gamma_is_allowed():
    a = np.random.default_rng(0).normal(size=(9, 2))
    assert post_scaling(a, -a).gamma < 1e-12
    assert post_scaling(a, -(a**3)).monotone == 0.0


def test_an_output_without_queries_restores_the_best_row_and_no_more():
    target = np.random.default_rng(0).normal(size=(9, 2)) + 1
    left = post_scaling(np.ones((9, 2)), target)
    assert left.gamma == pytest.approx(left.constant, rel=1e-12)
    assert left.monotone == pytest.approx(left.constant, rel=1e-12)
    assert left.spread == pytest.approx(0, abs=1e-14)
    assert left.bound == pytest.approx(left.constant, rel=1e-12)


def test_scale_does_not_matter_even_where_powers_would_overflow():
    rng = np.random.default_rng(0)
    a, target = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    left, tiny = post_scaling(a, target), post_scaling(a * 2.0**-900, target * 2.0**400)
    assert tiny.power == pytest.approx(left.power, rel=1e-9)
    assert tiny.monotone == pytest.approx(left.monotone, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(some.integers(0, 2**32 - 1), some.integers(2, 12), some.floats(0.0, 8.0), some.floats(-5, 5))
def test_no_gamma_and_no_beta_beat_the_floors(seed, n, beta, gamma):
    rng = np.random.default_rng(seed)
    a, target = np.round(rng.normal(size=(n, 2)), 1), rng.normal(size=(n, 2))  # rounded: some entries agree
    left = post_scaling(a, target)
    size, slack = np.linalg.norm(target), 1e-9
    error = np.linalg.norm(post_scale(a, gamma, beta, signed=True) - target) / size
    assert left.monotone <= error + slack
    assert left.monotone <= left.power + slack
    assert left.power <= left.gamma + slack
    assert left.bound <= left.gamma + slack
    if beta == 1.0:
        assert left.gamma <= error + slack


def test_the_floor_of_monotone_functions_is_that_of_all_of_them_by_hand():
    a, target = np.array([[1.0], [2.0], [3.0]]), np.array([[0.0], [3.0], [0.0]])
    # rising: 0, 1.5, 1.5; falling: 1.5, 1.5, 0: both leave 2 * 1.5^2 of 9
    assert post_scaling(a, target).monotone == pytest.approx(math.sqrt(0.5), rel=1e-12)
    assert post_scaling(a, target).constant == pytest.approx(math.sqrt(6) / 3, rel=1e-12)


def test_entries_that_agree_keep_agreeing_in_the_floor():
    for sign in (1, -1):
        found = post_scaling(np.array([[1.0], [1.0], [2.0]]), np.array([[0.0], [sign * 2.0], [sign * 5.0]]))
        assert found.monotone == pytest.approx(math.sqrt(2 / 29), rel=1e-12)


@pytest.mark.parametrize(
    ("a", "target"), [(np.ones((3, 2)), np.ones((3, 1))), (np.ones(3), np.ones(3)), (np.ones((3, 2)), np.zeros((3, 2)))]
)
def test_shapes_and_a_target_of_zeros_are_refused(a, target):
    with pytest.raises(ValueError, match="target"):
        post_scaling(a, target)


# Words


def test_sentences_hold_the_numbers(found):
    text = " ".join(sentence for part in scaling_sentences(found).values() for sentence in part)
    for name in (
        "distance",
        "exact_restored.gamma",
        "exact_restored.power",
        "exact_restored.monotone",
        "exact_restored.constant",
    ):
        assert span(found.values("released", name)) in text
    assert "nan" not in text
    assert "inf" not in text.replace("information", "")


def test_shares_are_of_what_they_are_said_to_be_of(found):
    text = " ".join(sentence for part in scaling_sentences(found).values() for sentence in part)

    def shares(values):
        return "{:.1f} to {:.1f} %".format(*(100 * pick(values) for pick in (min, max))).replace("-", "−")

    for setting in ("unit", "released"):
        nearer = [1 - row.distance / row.mean_of_softmax for row in found.of(setting)]
        assert f"nearer than the mean of V by {shares(nearer)}" in text
    kept = [
        (row.distance - row.exact_restored.constant) / (row.distance - row.exact_restored.gamma)
        for row in found.of("released")
    ]
    assert min(kept) < 0 < max(kept)  # a row that is worse than no γ: nothing is said of shares
    assert "needs no attention" not in text
    better = tuple(row for row, share in zip(found.of("released"), kept, strict=True) if share > 0)
    sentences = scaling_sentences(dataclasses.replace(found, rows=better)).values()
    said = " ".join(sentence for part in sentences for sentence in part)
    assert f"of what γ restores, {100 * max(kept):.1f} % needs no attention" in said
    trusted = [row.measured / row.predicted for row in found.rows if row.trusted]
    assert f"measured over predicted is {span(trusted)} in the {len(trusted)} of 6 cases" in text


def test_a_span_of_one_number_is_one_number():
    assert span([0.5]) == "0.5"
    assert span([7.51, 8.33]) == "7.5 to 8.3"
    assert span([1e8, 4.46e26]) == "1.00 × 10⁸ to 4.46 × 10²⁶"
