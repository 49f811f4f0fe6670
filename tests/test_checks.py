from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from schoenbat_theory import check_mean, check_rate, check_tail
from schoenbat_theory.checks import rate, sequences
from schoenbat_theory.confidence import binomial_limits
from schoenbat_theory.sampling import BATCHES, CHUNK


def coin(p):
    return lambda rng, size: 1.0 * (rng.random(size) < p)


KNOWN = {"variance": {"variance": 0.25}, "bounds": {"bounds": (0.0, 1.0)}, "nothing": {}}


@pytest.mark.parametrize("known", KNOWN)
def test_a_true_mean_is_consistent_and_a_shifted_one_refuted(known):
    right = check_mean(coin(0.5), 0.5, margin=0.01, rng=0, **KNOWN[known])
    wrong = check_mean(coin(0.53), 0.5, margin=0.01, rng=0, **KNOWN[known])
    few = check_mean(coin(0.5), 0.5, margin=1e-4, rng=0, max_draws=1 << 12, **KNOWN[known])
    assert [right.verdict, wrong.verdict, few.verdict] == ["consistent", "refuted", "undecided"]
    assert right.guaranteed is wrong.guaranteed is (known != "nothing")
    assert few.draws <= 1 << 12
    for evidence in (right, wrong, few):
        low, high = evidence.interval
        inside, outside = low >= 0.49 and high <= 0.51, high < 0.49 or low > 0.51
        assert (evidence.verdict == "consistent") == (inside and evidence is not few)
        assert (evidence.verdict == "refuted") == outside
        assert low <= evidence.measured <= high
        assert evidence.predicted == 0.5


def test_one_wrong_number_among_many_refutes():
    target = np.zeros((3, 4))
    sample = lambda rng, size: rng.normal(size=(size, 3, 4)) + np.eye(3, 4) * [0.2, 0, 0, 0]
    evidence = check_mean(sample, target, margin=0.05, variance=1.0, rng=0)
    assert evidence.verdict == "refuted"
    assert evidence.comparisons == 12
    assert evidence.interval[0] > 0.05  # it is the wrong one that is shown
    assert abs(evidence.measured - 0.2) < 0.15


def test_draws_stop_as_soon_as_a_verdict_is_reached():
    near = check_mean(coin(0.5), 0.5, margin=0.01, variance=0.25, rng=0)
    far = check_mean(coin(0.9), 0.5, margin=0.01, variance=0.25, rng=0)
    assert far.draws < near.draws
    assert near.figure["draws"][-1] == near.draws
    assert len(near.figure["lower"]) == len(near.figure["draws"])


@pytest.mark.parametrize("known", ["variance", "bounds"])
def test_a_correct_mean_is_accused_at_most_as_often_as_alpha_says(known):
    # A margin far below what the draws resolve: the verdict is refuted or undecided, and refuted only by error.
    alpha, runs = 0.2, 200
    accused = sum(
        check_mean(coin(0.5), 0.5, margin=1e-9, alpha=alpha, rng=seed, max_draws=1 << 12, **KNOWN[known]).verdict
        == "refuted"
        for seed in range(runs)
    )
    assert accused <= scipy.stats.binom.isf(1e-9, runs, alpha)


LOOKS = {  # what is known, how many numbers: the interval that is asked for, and whether looks share alpha
    "variance": ({"variance": 1.0}, 5, "catoni_interval", True),
    "nothing": ({}, 5, "asymptotic_interval", True),
    "bounds": ({"bounds": (0, 1)}, 5, "betting_interval", False),
    "bounds of many": ({"bounds": (0, 1)}, 65, "empirical_bernstein_interval", False),
}


@pytest.mark.parametrize("case", LOOKS)
def test_comparisons_share_alpha_and_looks_do_unless_an_interval_holds_at_all_times(monkeypatch, case):
    known, numbers, name, shared = LOOKS[case]
    asked, horizons = [], []

    def spy(*arguments, alpha=None, weights=None, horizon=None):
        asked.append(arguments[-1] if alpha is None else alpha)
        horizons.append(horizon)
        return np.full(numbers, -1.0), np.full(numbers, 1.0)

    monkeypatch.setattr(sequences, name, spy)
    sample = lambda rng, size: rng.random((size, numbers))
    check_mean(sample, np.zeros(numbers), margin=0.1, alpha=0.01, rng=0, max_draws=1 << 15, **known)
    assert len(asked) == 3  # 2^13, 2^14, 2^15
    assert (sum(asked) if shared else max(asked)) * numbers == pytest.approx(0.01, rel=1e-12)
    assert shared or (set(asked), set(horizons)) == ({asked[0]}, {1 << 15})  # one martingale for all looks


@pytest.mark.parametrize("numbers", [1, 64, 65])
def test_bounds_decide_few_numbers_and_many(numbers):
    uniform = lambda rng, size: rng.random((size, numbers))
    for shift, verdict in ((0.0, "consistent"), (0.05, "refuted")):
        target = 0.5 + shift * np.eye(1, numbers)[0]
        found = check_mean(uniform, target, margin=0.02, bounds=(0.0, 1.0), rng=0)
        assert found.verdict == verdict
        assert found.inequality == f"{'betting' if numbers <= 64 else 'empirical Bernstein'}, known bounds"


def test_bounds_are_as_good_as_the_variance():
    draws = [check_mean(coin(0.5), 0.5, margin=0.005, rng=0, **KNOWN[known]).draws for known in ("variance", "bounds")]
    assert draws[1] <= draws[0]


def test_replicates_may_be_booleans():
    event = lambda rng, size: rng.random(size) < 0.5
    for known in KNOWN.values():
        assert check_mean(event, 0.5, margin=0.02, rng=0, **known).verdict == "consistent"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sample": lambda r, size: np.zeros((size, 2))}, ValueError, "sample: expected shape"),
        ({"sample": lambda r, size: np.zeros(1)}, ValueError, "sample: expected shape"),
        ({"sample": lambda r, size: np.full(size, np.inf)}, ArithmeticError, "sample: a replicate is not finite"),
        (
            {"sample": lambda r, size: np.full(size, 2.0), "bounds": (0, 1)},
            ValueError,
            r"bounds: expected to contain \[2, 2\]",
        ),
        (
            {"sample": lambda r, size: np.full((size, 65), 2.0), "target": np.zeros(65), "bounds": (0, 1)},
            ValueError,
            r"bounds: expected to contain \[2, 2\]",
        ),
        ({"target": np.nan}, ValueError, "target: expected finite numbers"),
        ({"target": np.zeros(0)}, ValueError, "target: expected finite numbers, at least one"),
        ({"margin": 0.0}, ValueError, "margin: expected positive numbers"),
        ({"margin": np.nan}, ValueError, "margin: expected positive numbers"),
        ({"variance": -1.0}, ValueError, "variance: expected finite, >= 0"),
        ({"variance": np.inf}, ValueError, "variance: expected finite, >= 0"),
        ({"alpha": 0.0}, ValueError, r"alpha: expected a number in \(0, 1\)"),
        ({"alpha": 1.0}, ValueError, r"alpha: expected a number in \(0, 1\)"),
        ({"alpha": "a"}, TypeError, r"alpha: expected a number in \(0, 1\)"),
        ({"target": 1j}, TypeError, "target: expected real numbers, found 1j"),
        ({"sample": lambda r, size: r.random(size) + 1j}, TypeError, "sample: expected real numbers"),
        ({"margin": np.ones(2)}, ValueError, r"margin: expected a shape that broadcasts to \(\), found \(2,\)"),
        ({"margin": "a"}, TypeError, "margin: expected real numbers"),
        ({"variance": np.ones(2)}, ValueError, r"variance: expected a shape that broadcasts to \(\), found \(2,\)"),
        ({"variance": 0.0}, ValueError, "variance: expected an upper bound .*, found 0 although replicates differ"),
        ({"bounds": 3}, ValueError, r"bounds: expected \(low, high\), low <= high, found 3"),
        ({"bounds": (1, 0)}, ValueError, r"bounds: expected \(low, high\), low <= high, found \(1, 0\)"),
        ({"bounds": (0, np.inf)}, ValueError, "bounds: expected finite numbers"),
        ({"sample": lambda r, size: np.full(size, np.nan), "bounds": (0, 1)}, ArithmeticError, "is not finite"),
        ({"max_draws": 0}, ValueError, "max_draws: expected an int >= 1"),
        ({"rng": "seed"}, (TypeError, ValueError), "rng: expected"),
    ],
)
def test_wrong_arguments_of_a_mean_are_named(change, error, words):
    arguments = {"sample": coin(0.5), "target": 0.5, "margin": 0.1, "rng": 0, **change}
    with pytest.raises(error, match=words):
        check_mean(arguments.pop("sample"), arguments.pop("target"), **arguments)


@pytest.mark.parametrize("known", KNOWN)
def test_a_sample_may_be_a_list(known):
    found = check_mean(lambda r, size: coin(0.5)(r, size).tolist(), 0.5, margin=0.1, rng=0, **KNOWN[known])
    assert found == check_mean(coin(0.5), 0.5, margin=0.1, rng=0, **KNOWN[known])


def test_a_constant_has_no_variance_and_no_less_than_256_draws():
    # Batch means of 0.1 differ by rounding, which is no variance.
    sample = lambda rng, size: np.full(size, 0.1)
    assert check_mean(sample, 0.1, margin=1e-9, variance=0.0, rng=0).verdict == "consistent"
    assert check_mean(sample, 0.2, margin=1e-9, variance=0.0, rng=0, max_draws=1).draws == 256


def test_the_rounding_allowance_grows_with_the_batches():
    n = BATCHES << 15  # batches twice as long as a chunk
    assert n // BATCHES == 2 * CHUNK
    found = check_mean(lambda rng, size: np.ones(size), 1.0, margin=1e-16, variance=0.0, rng=0, max_draws=n)
    assert found.draws == n
    assert found.interval[1] - 1 >= 2 * CHUNK * 2.0**-53


def test_a_tail_obeys_breaks_or_ignores_its_bound():
    event = lambda rng, size: rng.random(size) < 0.1
    assert check_tail(event, 0.12, rng=0).verdict == "consistent"
    assert check_tail(event, 0.08, rng=0).verdict == "refuted"
    assert check_tail(event, 0.1, rng=0, max_draws=1 << 12).verdict == "undecided"
    vacuous = check_tail(event, 1.0, rng=0)
    assert (vacuous.verdict, vacuous.draws, vacuous.alpha) == ("vacuous", 0, 0)


def test_a_bound_of_zero_is_broken_by_one_hit_and_never_confirmed():
    assert check_tail(lambda rng, size: rng.random(size) < 0.01, 0.0, rng=0).verdict == "refuted"
    assert (
        check_tail(lambda rng, size: np.zeros(size, dtype=bool), 0.0, rng=0, max_draws=1 << 12).verdict == "undecided"
    )


def test_bounds_above_one_say_nothing_beside_others():
    event = lambda rng, size: rng.random((size, 3)) < [0.9, 0.1, 0.1]
    mixed = check_tail(event, [1.2, 0.2, 0.3], rng=0)
    assert (mixed.verdict, mixed.comparisons) == ("consistent", 2)
    assert mixed.predicted == 0.2  # the one that comes closest
    assert check_tail(event, [1.2, 0.05, 0.3], rng=0).verdict == "refuted"


def test_a_correct_bound_is_accused_at_most_as_often_as_alpha_says():
    alpha, runs = 0.2, 200
    event = lambda rng, size: rng.random(size) < 0.1
    accused = sum(
        check_tail(event, 0.1, alpha=alpha, rng=seed, max_draws=1 << 10).verdict == "refuted" for seed in range(runs)
    )
    assert accused <= scipy.stats.binom.isf(1e-9, runs, alpha)


@pytest.mark.parametrize(
    ("event", "bound", "words"),
    [
        (lambda r, size: r.random(size), 0.5, "exceeds: expected booleans, found float64"),
        (lambda r, size: r.random((size, 2)) < 0.5, 0.5, "sample: expected shape"),
        (lambda r, size: r.random(size) < 0.5, -0.1, "bound: expected numbers >= 0"),
        (lambda r, size: r.random(size) < 0.5, np.nan, "bound: expected numbers >= 0"),
        (lambda r, size: r.random(size) < 0.5, np.zeros(0), "bound: expected numbers >= 0, at least one"),
    ],
)
def test_wrong_arguments_of_a_tail_are_named(event, bound, words):
    with pytest.raises(ValueError, match=words):
        check_tail(event, bound, rng=0)


SIZES = [10, 20, 40, 80, 160]


def test_a_rate_is_found_and_another_refuted():
    error = lambda rng, size: rng.exponential() / size
    assert check_rate(error, SIZES, 1.0, band=0.2, rng=0).verdict == "consistent"
    assert check_rate(error, SIZES, 2.0, band=0.2, rng=0).verdict == "refuted"
    assert check_rate(error, SIZES, 1.0, band=1e-3, rng=0).verdict == "undecided"
    assert check_rate(error, SIZES, 1.0, band=0.2, rng=0, max_draws=1).verdict == "undecided"
    assert not check_rate(error, SIZES, 1.0, band=0.2, rng=0).guaranteed


def test_a_plateau_on_the_last_decade_is_refuted():
    # Over three decades the slope is still near 1; the floor shows at the end.
    sizes = [10, 30, 100, 300, 1000, 3000, 10000]
    biased = lambda rng, size: rng.exponential() / size + 1e-3
    found = check_rate(biased, sizes, 1.0, band=0.5, rng=0)
    assert found.verdict == "refuted"
    assert found.measured < 0.5
    assert check_rate(lambda rng, size: rng.exponential() / size, sizes, 1.0, band=0.5, rng=0).verdict == "consistent"


def test_a_plateau_that_only_the_last_sizes_show_is_refuted():
    # Local exponents 0.93, 0.86, 0.76, 0.61: 0.79 over all sizes, 0.74 over the last decade, both in the band.
    level = lambda size: 1 / size + 0.9 / 160
    found = check_rate(lambda rng, size: level(size) * (1 + 0.01 * rng.normal()), SIZES, 1.0, band=0.3, rng=0)
    assert found.verdict == "refuted"
    assert found.interval[1] < 0.7
    assert "0.79" in found.note
    assert "0.74" in found.note


def test_exponents_that_lie_in_the_band_at_every_size_are_not_accused():
    # 1/D + 4/D^2 is as convex as a plateau: its exponent falls from 1.29 to 1.02, all of it in the band.
    convex = lambda rng, size: rng.exponential() * (1 / size + 4 / size**2)
    assert check_rate(convex, SIZES, 1.0, band=0.3, rng=0, max_draws=1 << 12).verdict == "consistent"


@pytest.mark.parametrize("power", [1, 2, 4])
def test_a_correct_rate_is_accused_about_as_often_as_alpha_says(power):
    # Powers of exponentials have variances 1, 5 and 69 times their squared means.
    alpha, runs = 0.2, 200
    error = lambda rng, size: rng.exponential() ** power / size
    accused = sum(
        check_rate(error, SIZES, 1.0, band=1e-9, alpha=alpha, rng=seed, max_draws=64).verdict == "refuted"
        for seed in range(runs)
    )
    assert accused <= scipy.stats.binom.isf(1e-9, runs, alpha)


def test_the_fits_of_a_rate_share_alpha_with_the_looks(monkeypatch):
    asked = []
    monkeypatch.setattr(rate, "_fit", lambda x, y, sd, r, alpha: asked.append(alpha) or rate._Fit(0.0, -9.0, 9.0))
    check_rate(lambda rng, size: rng.exponential() / size, SIZES, 1.0, band=0.2, alpha=0.01, rng=0, max_draws=64)
    assert len(asked) == 4 * 3  # runs of sizes that end at the largest; looks at 16, 32, 64
    assert sum(asked) == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": [10, 100]}, "sizes: expected three or more positive integers"),
        ({"sizes": [0, 10, 100]}, "sizes: expected three or more positive integers"),
        ({"sizes": [10, 20, 99]}, "sizes: expected at least a decade"),
        ({"sizes": None}, "sizes: expected"),
        ({"sizes": 10}, "sizes: expected three or more positive integers"),
        ({"sizes": [10.5, 30, 200]}, "sizes: expected three or more positive integers"),
        ({"sizes": [10, 100, np.inf]}, "sizes: expected three or more positive integers"),
        ({"exponent": np.nan}, "exponent: expected a finite number"),
        ({"band": "a"}, "band: expected a positive number"),
        ({"max_draws": None}, "max_draws: expected an int >= 1"),
        ({"band": 0.0}, "band: expected a positive number"),
        ({"alpha": 2.0}, "alpha: expected"),
        ({"max_draws": 0}, "max_draws: expected an int >= 1"),
    ],
)
def test_wrong_arguments_of_a_rate_are_named(change, words):
    arguments = {"sizes": SIZES, "exponent": 1.0, "band": 0.2, "rng": 0, **change}
    with pytest.raises((TypeError, ValueError), match=words):
        check_rate(lambda rng, size: 1 / size, **arguments)


def test_an_error_that_is_no_positive_number_is_refused():
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ArithmeticError, match="error: expected positive finite squared errors"):
            check_rate(lambda rng, size, bad=bad: bad, SIZES, 1.0, band=0.2, rng=0)


def test_bounds_of_a_tail_share_alpha_and_so_do_the_looks():
    def never(rng, size):
        return np.zeros((size, 4), dtype=bool)

    found = check_tail(
        never, [1e-9, 1e-9, 1e-9, 2.0], alpha=0.03, rng=0, max_draws=1 << 15
    )  # 2^13, 2^14, 2^15: three looks
    assert found.interval[1] == binomial_limits(np.array(0), 1 << 15, 0.03 / (3 * 3))[1]
