from __future__ import annotations

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.benchmark import loop
from schoenbat_theory.benchmark.throughput import Throughput, Throughputs, contests, read_throughput, throughput
from schoenbat_theory.cli import main

LAW = st.RandomMaclaurin("exp", 1)
X, Y = np.random.default_rng(0).uniform(-0.3, 0.3, size=(2, 3, 5))


@pytest.fixture(scope="module")
def record():
    return throughput(quick=True, repeats=2)


def test_every_kind_of_check_is_timed_beside_its_loop(record):
    assert [one.kind for one in record.kinds] == [one.kind for one in contests(True, 0)]
    assert len({one.kind for one in record.kinds}) == len(record.kinds) == 7
    for one in record.kinds:
        assert one.count > 0
        assert one.loop_count > 0
        assert len(one.seconds) == len(one.loop_seconds) == 2
    assert record.environment["quick"] is True


def test_a_record_is_read_as_it_was_written(record, tmp_path):
    path = tmp_path / "throughput.jsonl"
    path.write_text(record.lines(), encoding="utf-8")
    assert read_throughput(path) == record


@pytest.mark.parametrize("text", ["", "{}\n", '{"environment": {}}\n{"kind": "mean"}\n', "no JSON\n", "[]\n[]\n"])
def test_another_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "other.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"other.jsonl: expected a record of throughput"):
        read_throughput(path)


def test_rates_and_gains_count_replicates_and_pair_repeats():
    one = Throughput("mean", "a number", 1000, 10, (1.0, 2.0, 4.0), (1.0, 4.0, 2.0))
    assert (one.rate, one.loop_rate) == (500.0, 5.0)
    assert one.gain == 100.0  # the median of 1, 2 and 1/2, times 100
    table = Throughputs({}, (one,)).table().splitlines()
    assert table[1].split() == ["mean", "a", "number", "500", "5", "100"]


@pytest.mark.parametrize(("argument", "error"), [({"quick": 1}, TypeError), ({"repeats": 0}, ValueError)])
def test_other_arguments_are_refused(argument, error):
    with pytest.raises(error, match=next(iter(argument))):
        throughput(**argument)


def test_the_loop_over_pairs_estimates_what_the_closed_forms_say(rng):
    size = 1 << 13
    mean, square = loop.moments_of_pairs(LAW, X, Y, rng, size)
    pairs = X[:, None], Y[None]
    expected, variance = LAW.mean(*pairs), LAW.variance(*pairs)
    _, fourth = st.central_moments("exp", *pairs)
    # Chebyshev for nine pairs and both moments, error rate 1e-3; E X^4 by Minkowski.
    spread = np.sqrt(18 / 1e-3 / size)
    assert np.all(np.abs(mean - expected) <= spread * np.sqrt(variance))
    assert np.all(np.abs(square - variance - expected**2) <= spread * (fourth**0.25 + expected) ** 2)


def test_the_loop_over_pairs_adds_up_products_and_their_squares():
    rng = np.random.default_rng(1)
    draws = [LAW.draw(X.shape[-1], rng) for _ in range(8)]
    products = np.array([phi(X) @ phi(Y).T for phi in draws])
    mean, square = loop.moments_of_pairs(LAW, X, Y, np.random.default_rng(1), 8)
    # Sums of eight in one order or another: 8 units of 2^-53 of the magnitudes, twice.
    for found, terms in ((mean, products), (square, products**2)):
        assert np.all(np.abs(found - terms.mean(axis=0)) <= 16 * 2.0**-53 * np.abs(terms).mean(axis=0))


def test_the_loop_makes_the_features_that_a_batch_makes():
    # One degree and many draws: both are fair products of two signs times sqrt(2), for a vector of length 1.
    law = st.RandomMaclaurin("exp", 1, st.GeometricDegrees(exact_below=0, max_degree=0))
    mean, square = loop.moments_of_pairs(law, X[:, :1], Y[:, :1], np.random.default_rng(0), 4)
    assert np.array_equal(mean, np.ones((3, 3)))
    assert np.array_equal(square, np.ones((3, 3)))
    assert np.array_equal(law.features(X, rng=0, size=4), np.ones((4, 3)))


def test_the_other_loops_agree_with_exact_answers(rng):
    constant = st.RandomMaclaurin("exp", 1, st.GeometricDegrees(exact_below=0, max_degree=0))  # the estimate is 1
    off = abs(1 - float(np.exp(X[0] @ Y[0])))
    assert loop.exceedances(constant, X[0], Y[0], 0.5 * off, rng, 3) == 3
    assert loop.exceedances(constant, X[0], Y[0], 2 * off, rng, 3) == 0
    assert loop.errors(constant, X[0], Y[0], (1, 2), rng) == pytest.approx([off**2] * 2, rel=1e-12)
    x, y = np.array([1, 2, -1]), np.array([3, 1, 1])
    assert loop.enumerated_moment(x, y, 2) == float(st.product_moment(x, y, 2))
    assert set(np.unique(loop.signs_by_choice(rng, 100))) == {-1.0, 1.0}
    assert loop.sign_products(rng, np.array([[2, 0], [0, 0]]), 50).tolist() == [50.0, 50.0]


def test_the_command_writes_a_record_and_shows_it(tmp_path, capsys):
    assert main(["bench", "throughput", "--quick", "--out", str(tmp_path / "out")]) == 0
    record = read_throughput(tmp_path / "out" / "throughput.jsonl")
    assert capsys.readouterr().out.strip() == record.table()
