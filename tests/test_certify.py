"""Certificates: what a few exact rows say of all, which rows they are, and when nothing is said."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import Certificate, certify, row_certificate
from schoenbat_theory.attention.certificate import largest_share
from schoenbat_theory.attention.certify import certain_rows, choose_rows, squared_distances

Z = 1.959963984540054  # normal quantile of 97.5 %


@pytest.fixture
def problem(rng):
    return rng.normal(size=(300, 4)), rng.normal(size=(200, 4)), rng.normal(size=(200, 3))


@pytest.fixture
def noisy(problem, rng):
    """An output whose relative error is known."""
    exact = st.kernel_attention(*problem, "exp")
    output = exact + 0.1 * rng.normal(size=exact.shape)
    return output, float(np.linalg.norm(output - exact) / np.linalg.norm(exact))


# Estimate and interval from rows.


def test_the_estimate_weighs_rows_by_what_they_stand_for():
    errors, norms = np.arange(1.0, 21.0), np.arange(20.0, 0.0, -1.0)
    found = row_certificate(errors, norms, n=100, certain=4)
    total = errors[:4].sum() + 6 * errors[4:].sum()
    assert found.error == pytest.approx(math.sqrt(total / (norms[:4].sum() + 6 * norms[4:].sum())), rel=1e-14)
    assert found.largest_share == pytest.approx(6 * 20 / total, rel=1e-14)
    assert (found.rows, found.certain, found.n, found.certified, found.reason) == (20, 4, 100, True, "")


def test_even_errors_have_the_width_of_the_floor():
    found = row_certificate(np.full(32, 2.0), np.full(32, 50.0), n=128)
    half = Z * math.sqrt(2 / 32 * (1 - 32 / 128))  # of log R, all z_i are equal
    assert found.error == pytest.approx(0.2, rel=1e-14)
    assert found.interval == pytest.approx((0.2 * math.exp(-half / 2), 0.2 * math.exp(half / 2)), rel=1e-12)


def test_uneven_errors_have_a_t_interval_with_degrees_of_freedom_by_kurtosis():
    errors, norms = np.array([1.0] * 30 + [16.0] * 2), np.full(32, 50.0)
    found = row_certificate(errors, norms, n=128)
    z = errors - errors.mean()
    kurtosis = np.mean(z**4) / np.mean(z**2) ** 2
    t = t_quantile(64 / (kurtosis - 1), 0.975)
    half = t * math.sqrt(np.sum(z**2) / 31 / 32 * (1 - 32 / 128)) / errors.mean()
    assert half > Z * math.sqrt(2 / 32)
    assert np.log(found.interval[1] / found.error) == pytest.approx(half / 2, rel=1e-9)
    assert np.log(found.error / found.interval[0]) == pytest.approx(half / 2, rel=1e-9)


def t_quantile(freedom, p):
    """Return the quantile of Student's t by integrating its density: no formula is shared with the library."""
    x = np.linspace(0, 200, 2_000_001)
    density = (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    density *= math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    cumulated = 0.5 + np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2) * (x[1] - x[0])])
    return float(np.interp(p, cumulated, x))


def test_intervals_scale_with_errors_and_norms_and_not_with_their_unit():
    rng = np.random.default_rng(3)
    errors, norms = rng.exponential(size=40), rng.exponential(size=40) + 1
    one = row_certificate(errors, norms, n=400, certain=10)
    for unit in (2.0**-300, 2.0**300):
        other = row_certificate(unit * errors, unit * norms, n=400, certain=10)
        assert (other.error, *other.interval) == pytest.approx((one.error, *one.interval), rel=1e-12)
    four = row_certificate(4 * errors, norms, n=400, certain=10)
    assert four.error == pytest.approx(2 * one.error, rel=1e-14)


def test_a_wider_level_gives_a_wider_interval():
    errors, norms = np.random.default_rng(4).exponential(size=40), np.ones(40)
    widths = [np.log(np.divide(*row_certificate(errors, norms, n=400, level=p).interval)) for p in (0.5, 0.9, 0.99)]
    assert widths[0] > widths[1] > widths[2]  # logarithms of low / high


def test_all_rows_leave_no_interval():
    found = row_certificate([1.0, 0.0, 8.0], [30.0, 30.0, 40.0], n=3, certain=3)
    assert found.error == pytest.approx(0.3, rel=1e-14)
    assert found.interval == (found.error, found.error)
    assert found.certified
    assert row_certificate(np.zeros(3), np.ones(3), n=3).interval == (0.0, 0.0)
    assert row_certificate(np.zeros(3), np.zeros(3), n=3).error == 0.0
    assert "are zero" in row_certificate(np.ones(3), np.zeros(3), n=3).reason


@pytest.mark.parametrize(
    ("errors", "norms", "certain", "reason"),
    [
        (np.ones(15), np.ones(15), 0, "fewer than 16"),
        (np.ones(19), np.ones(19), 4, "fewer than 16"),
        (np.array([1.0] * 4 + [0.0] * 20), np.ones(24), 4, "none of the rows"),
        (np.ones(20), np.zeros(20), 0, "are zero"),
        (np.array([30.0] + [1.0] * 19), np.ones(20), 0, "too much"),
    ],
)
def test_what_is_refused_has_a_reason_and_no_interval(errors, norms, certain, reason):
    found = row_certificate(errors, norms, n=100, certain=certain)
    assert not found.certified
    assert reason in found.reason
    assert found.interval == (0.0, math.inf)
    assert "refused" in repr(found)


def test_a_row_that_holds_less_is_not_refused_nor_is_a_certain_row_that_holds_all():
    limit = largest_share(20)
    assert 0.45 < limit < 0.5
    for share, certified in ((limit - 0.001, True), (limit + 0.001, False)):
        errors = np.array([19 * share / (1 - share)] + [1.0] * 19)
        assert row_certificate(errors, np.ones(20), n=100).certified == certified
    assert row_certificate(np.array([1e9] + [1.0] * 20), np.ones(21), n=100, certain=1).certified


def test_squares_of_normal_numbers_are_refused_once_in_a_hundred():
    rng = np.random.default_rng(6)
    for drawn in (16, 48, 96):
        squares = rng.normal(size=(20000, drawn)) ** 2
        rate = np.mean(squares.max(axis=-1) > largest_share(drawn) * squares.sum(axis=-1))
        assert 0.006 < rate < 0.01 + 5 * np.sqrt(0.01 / 20000)  # the union bound is nearly sharp


def test_leading_axes_are_judged_apart():
    rng = np.random.default_rng(5)
    errors, norms = rng.exponential(size=(2, 3, 20)), np.ones((2, 3, 20))
    errors[1, 2, 7] = 1e6
    found = row_certificate(errors, norms, n=100, certain=2)
    assert found.error.shape == found.interval[0].shape == found.certified.shape == found.reason.shape == (2, 3)
    for index in itertools.product(range(2), range(3)):
        one = row_certificate(errors[index], norms[index], n=100, certain=2)
        assert (one.error, *one.interval, one.largest_share, one.certified, one.reason) == pytest.approx(
            tuple(x[index] for x in (found.error, *found.interval, found.largest_share, found.certified, found.reason)),
            rel=1e-14,
        )
    assert not found.certified[1, 2]
    assert found.certified.sum() == 5


@pytest.mark.parametrize(
    ("arguments", "options", "word"),
    [
        ((np.ones(3), np.ones(4)), {"n": 9}, "one shape"),
        ((np.ones((2, 0)), np.ones((2, 0))), {"n": 9}, "one shape"),
        ((-np.ones(3), np.ones(3)), {"n": 9}, "errors"),
        ((np.ones(3), np.array([1.0, np.nan, 1.0])), {"n": 9}, "norms"),
        ((np.ones(3), np.ones(3)), {"n": 2}, "n: "),
        ((np.ones(3), np.ones(3)), {"n": 9, "certain": -1}, "certain"),
        ((np.ones(3), np.ones(3)), {"n": 9, "certain": 3}, "certain"),
        ((np.ones(3), np.ones(3)), {"n": 9, "level": 1.0}, "level"),
    ],
)
def test_rows_that_do_not_fit_are_refused(arguments, options, word):
    with pytest.raises(ValueError, match=word):
        row_certificate(*arguments, **options)


# Which rows.


def test_rows_are_the_farthest_and_then_others_at_random():
    distances = np.arange(10.0)
    rows = [choose_rows(distances, 2, 5, np.random.default_rng(i)) for i in range(300)]
    assert all(set(found[:2]) == {8, 9} and len(set(found)) == 5 for found in rows)
    counts = np.bincount(np.concatenate([found[2:] for found in rows]), minlength=10)[:8]
    # 300 draws of 3 out of 8: each row is drawn 112.5 times on average, with a standard deviation of 8.4
    assert np.all(np.abs(counts - 112.5) < 5 * 8.4)


def test_ties_are_broken_at_random():
    assert len({tuple(choose_rows(np.zeros(50), 1, 1, np.random.default_rng(i))) for i in range(40)}) > 10


def test_a_quarter_of_the_rows_is_certain_and_all_where_none_is_left_out():
    assert [certain_rows(*pair) for pair in ((64, 500), (3, 500), (64, 64), (1, 1))] == [16, 0, 64, 1]


# Certificates of attention.


def test_the_contract_takes_its_arguments_by_position(problem, noisy):
    found = certify(*problem, noisy[0], "exp", rng=0)
    assert isinstance(found, Certificate)
    assert found.interval[0] <= noisy[1] <= found.interval[1]
    assert (found.rows, found.certain, found.n, found.level, found.certified) == (64, 16, 300, 0.95, True)


def test_with_all_rows_the_error_is_the_error(asarray, problem, noisy):
    q, k, v, output = map(asarray, (*problem, noisy[0]))
    found = certify(q, k, v, output, rows=300)
    # two ways to the same norms of 900 numbers: sums in another order
    assert found.error == pytest.approx(noisy[1], rel=4 * 900 * 2.0**-53)
    assert found.interval == (found.error, found.error)
    assert found.certain == 300


def test_float32_is_measured_to_its_rounding(asarray, problem):
    q, k, v = (asarray(x.astype("float32")) for x in problem)
    found = certify(q, k, v, st.kernel_attention(q, k, v, "exp") * 1.25, rng=0)
    assert found.error == pytest.approx(0.25, rel=1e-4)  # of 0.25 x 2^-24 x a few


def test_rows_cost_only_themselves(problem, noisy, monkeypatch):
    asked = []

    def counting(q, *rest, **options):
        asked.append(q.shape[-2])
        return st.kernel_attention(q, *rest, **options)

    monkeypatch.setattr(sys.modules["schoenbat_theory.attention.certify"], "kernel_attention", counting)
    certify(*problem, noisy[0], rows=40, rng=0)
    assert asked == [40]


def covering(problem, output, **options):
    """Return how many of 20 certificates are given and cover."""
    truth = certify(*problem, output, rows=len(output), among=options.get("among")).error
    found = [certify(*problem, output, rng=seed, **options) for seed in range(20)]
    return sum(bool(one.certified and one.interval[0] <= truth <= one.interval[1]) for one in found)


def test_a_blown_up_row_is_found_without_a_second_approximation(problem):
    output = st.kernel_attention(*problem, "exp")
    output = output + 0.001 * np.random.default_rng(0).normal(size=output.shape)
    output[137] += 1000.0
    assert covering(problem, output) >= 17  # of 20; a random row is this one in 64 of 300 draws
    assert covering(problem, output, among=np.arange(299, 99, -1)) >= 17


def test_nested_approximations_point_at_rows_that_the_output_does_not_show(problem):
    exact = st.kernel_attention(*problem, "exp")
    output, rng = exact.copy(), np.random.default_rng(0)
    output += 1e-6 * rng.normal(size=output.shape)
    output[137] = exact.mean(axis=0)  # looks like any other row
    nested = exact + 1e-6 * rng.normal(size=output.shape)
    assert covering(problem, output) <= 10
    assert covering(problem, output, nested=nested) >= 17


def test_heads_are_judged_by_rows_of_their_own(asarray, problem, rng):
    q, k, v = problem
    many = np.stack([[q, -q], [q / 2, q / 3]])
    exact = st.kernel_attention(many, k, v, "exp")
    scales = np.array([[0.1, 0.2], [0.4, 0.8]])[..., None, None]
    # broadcast over heads: keys and values are shared
    found = certify(*map(asarray, (many, k, v, exact * (1 + scales))), rng=0)
    assert found.error == pytest.approx(scales[..., 0, 0], rel=1e-10)
    assert found.interval[1].shape == (2, 2)
    draws = certify(q, k, v, np.stack([exact[0, 0] * 1.5, exact[0, 0] * 3]), rng=0)  # two outputs of one head
    assert draws.error == pytest.approx([0.5, 2.0], rel=1e-10)


def test_masked_keys_are_not_looked_at_and_weights_count(asarray, problem, rng):
    q, k, v = problem
    mask, weights = np.arange(200) % 3 > 0, rng.normal(size=200)
    exact = st.kernel_attention(q, k, v, "exp", key_mask=mask, key_log_weights=weights)
    k, v = np.where(mask[:, None], k, np.nan), np.where(mask[:, None], v, np.nan)
    arrays = map(asarray, (q, k, v, exact * 1.5))
    found = certify(*arrays, key_mask=asarray(mask), key_log_weights=asarray(weights), rng=0)
    assert found.error == pytest.approx(0.5, rel=1e-10)


def test_another_kernel_is_another_attention(problem):
    q, k, v = (0.1 * x for x in problem)
    output = st.kernel_attention(q, k, v, "inv") * 1.5
    assert certify(q, k, v, output, "inv", rng=0).error == pytest.approx(0.5, rel=1e-10)
    assert abs(certify(q, k, v, output, rng=0).error - 0.5) > 1e-5


def test_rows_that_are_padding_can_be_left_out(problem):
    exact = st.kernel_attention(*problem, "exp")
    output = exact * 1.5
    output[250:] = 1e9
    found = certify(*problem, output, among=np.arange(250), rng=0)
    assert found.error == pytest.approx(0.5, rel=1e-10)
    assert found.n == 250
    assert certify(*problem, output, among=[3], rng=0).error == pytest.approx(0.5, rel=1e-10)


def test_a_single_entry_that_is_not_finite_is_found_unless_it_is_padding(problem, noisy):
    output = noisy[0].copy()
    output[137, 1] = np.nan
    with pytest.raises(ValueError, match=r"output: expected finite entries, found nan at index \(137, 1\)"):
        certify(*problem, output, rows=20, rng=0)
    others = np.delete(np.arange(300), 137)
    assert certify(*problem, output, among=others, rng=0).certified
    blown = noisy[0].copy()
    blown[139] += 1000  # found among rows whose mean row is defined
    blown[137] = np.nan
    assert certify(*problem, blown, among=others, rng=0).error > 10


def test_rows_where_a_nested_approximation_fails_are_looked_at(problem, noisy):
    output, nested = noisy[0].copy(), noisy[0].copy()
    output[137] += 1000
    nested[137] = np.nan
    assert all(certify(*problem, output, nested=nested, rng=seed).error > 10 for seed in range(5))


def test_rows_of_float32_that_differ_by_more_than_squares_hold_are_told_apart():
    output = np.zeros((40, 2), dtype="float32")
    output[7], output[9] = 1e25, 1e26
    assert np.argsort(-squared_distances(output, None))[:2].tolist() == [9, 7]


def test_one_seed_gives_one_certificate(asarray, problem, noisy):
    q, k, v, output = problem + noisy[:1]
    here = certify(q, k, v, output, rng=7)
    there = certify(*map(asarray, (q, k, v, output)), rng=7)
    assert (there.error, *there.interval) == pytest.approx((here.error, *here.interval), rel=1e-12)
    assert certify(q, k, v, output, rng=8).error != here.error


def test_an_exact_output_is_refused_where_its_rows_have_no_error_at_all():
    q = np.zeros((100, 2))
    found = certify(q, q, np.ones((100, 1)), np.ones((100, 1)), rng=0)  # means of ones are exact
    assert found.error == 0
    assert not found.certified
    assert "none" in found.reason


def test_it_shows_itself_as_approximate(problem, noisy):
    found = certify(*problem, noisy[0], rng=0)
    shown = found._repr_html_()
    assert "approximate" in shown
    assert "64 of 300, 16 with certainty" in shown
    assert "level 0.95" in shown
    assert f"{found.largest_share:.1%}" in shown
    assert "approximate" in repr(found)
    heads = certify(*problem, np.stack([noisy[0], 0 * noisy[0]]), rng=0)
    assert heads._repr_html_().count("<tr>") == 3
    assert repr(heads).count("64 of 300") == 2


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"output": np.zeros((299, 3))}, ValueError, "output: expected"),
        ({"output": np.zeros((300, 2))}, ValueError, "output: expected"),
        ({"output": np.zeros((300, 3), dtype="float32")}, TypeError, "output"),
        ({"output": np.full((300, 3), np.nan)}, ValueError, "output: expected finite"),
        ({"nested": np.zeros((3, 300))}, ValueError, "nested"),
        ({"q": np.zeros((2, 300, 4))}, ValueError, "output: expected leading axes"),
        ({"q": np.zeros((0, 4)), "output": np.zeros((0, 3))}, ValueError, "at least one query"),
        ({"rows": 0}, ValueError, "rows"),
        ({"level": 95}, ValueError, "level"),
        ({"among": [1, 1]}, ValueError, "among"),
        ({"among": [300]}, ValueError, "among"),
        ({"among": []}, ValueError, "among"),
        ({"among": [0.5]}, ValueError, "among"),
        ({"kernel": "none"}, ValueError, "kernel"),
        ({"rng": "a"}, TypeError, "rng"),
        ({"k": np.full((200, 4), np.inf)}, ValueError, "k: expected finite"),
    ],
)
def test_what_does_not_fit_is_named(problem, noisy, change, error, word):
    arguments = dict(zip(("q", "k", "v", "output"), (*problem, noisy[0]), strict=True))
    with pytest.raises(error, match=word):
        certify(**(arguments | change))


def test_a_certificate_of_all_rows_says_that_it_is_exact():
    q = np.random.default_rng(0).normal(size=(20, 3))
    shown = repr(st.certify(q, q, q, np.zeros_like(q)))
    assert "1, exact, all 20" in shown
    assert "refused" not in shown
