"""The checker, checked: thresholds are exact binomial tails, so that a correct check fails once in 10^9 runs of a test."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import sys

import numpy as np
import pytest
import scipy.stats

from schoenbat_theory import checks
from schoenbat_theory.checks import sequences
from schoenbat_theory.cli import main
from schoenbat_theory.power import controls, power, save, scenes, to_json, widths
from schoenbat_theory.power.mutants import mutants, twins
from schoenbat_theory.power.run import trials
from schoenbat_theory.power.trial import GROUPS, KINDS
from schoenbat_theory.sampling import stream

ALPHA, ONCE_IN_A_BILLION = 0.05, 1e-9
MUTANTS = {trial.name: trial for trial in mutants()}


@pytest.fixture(scope="module")
def reduced():
    """A reduced record: seconds instead of minutes."""
    return power(runs=16, seed=0)


def test_the_reduced_record_accuses_within_alpha_and_misses_no_mutant(reduced):
    false = reduced.group("on target", "at the edge", "just beyond", "twin")
    mutant = reduced.group("mutant")
    rows = len(false) + len(mutant)
    for tally in false:
        assert tally.count <= scipy.stats.binom.isf(ONCE_IN_A_BILLION / rows, tally.runs, ALPHA), tally.trial
    for tally in mutant:
        missed = tally.runs - tally.count
        assert missed <= scipy.stats.binom.isf(ONCE_IN_A_BILLION / rows, tally.runs, 0.01), tally.trial
    assert reduced.exit_code == 0


def test_every_named_mistake_is_there_and_is_beyond_the_margin():
    assert set(MUTANTS) == {
        "all-zero answer", "mean of V", "dropped degree", "missing n!", "p misused", "5 % weight",
        "one factor reused", "separate draws for q and k", "shared signs across degrees", "sum over the wrong axis",
        "clamped denominator", "additive epsilon", "off-by-one causality", "variance without last term", "l2 for l1",
    }  # fmt: skip
    assert all(trial.effect > 1 for trial in MUTANTS.values())
    looks = {trial.look for trial in twins()}
    assert {trial.look for trial in MUTANTS.values()} == looks  # each stands before a check that its twin passes


class Asked(Exception):
    """What a check was asked, instead of an answer."""


def asked(monkeypatch, trial):
    """Return the arguments of the check that a trial of a scene makes."""

    def spy(*arguments, **options):
        raise Asked(arguments, options)

    for name in ("check_mean", "check_tail", "check_rate"):
        monkeypatch.setattr(scenes, name, spy)
    with pytest.raises(Asked) as caught:
        trial.decide(np.random.default_rng(0), ALPHA)
    return caught.value.args


@pytest.mark.parametrize("name", [name for name, trial in MUTANTS.items() if trial.kind in ("Catoni", "betting")])
def test_the_effect_of_a_mutant_of_a_mean_is_the_one_that_is_stated(monkeypatch, rng, name):
    (sample, target), options = asked(monkeypatch, MUTANTS[name])
    n = 1 << 17
    drawn = np.concatenate([sample(rng, 1 << 13) for _ in range(16)])
    distance = np.abs(drawn.mean(axis=0) - target) / options["margin"]
    # A normal interval for each number; a largest of nine is off by at most the largest of nine errors, and 2^-40
    # is for rounding where nothing is random.
    error = scipy.stats.norm.isf(ONCE_IN_A_BILLION) * drawn.std(axis=0) / math.sqrt(n) / options["margin"]
    assert abs(np.max(distance) - MUTANTS[name].effect) <= np.max(error) + 2.0**-40
    assert np.max(error) < MUTANTS[name].effect / 2


@pytest.mark.parametrize("name", ["additive epsilon", "separate draws for q and k"])
def test_the_effect_of_a_mutant_of_a_rate_is_the_one_that_is_stated(monkeypatch, rng, name):
    (error, sizes, exponent), options = asked(monkeypatch, MUTANTS[name])
    largest = exponent - MUTANTS[name].effect * options["band"]  # the exponent of c / D + b^2 at the largest D
    floor = 1 / largest - 1  # b^2 D / c there
    errors = np.array([[error(rng, size) for _ in range(4000)] for size in sizes[-2:]])
    mean = errors.mean(axis=1)
    spread = math.sqrt(np.sum((errors.std(axis=1) / mean) ** 2) / 4000)
    ratio = math.log(mean[0] / mean[1])  # of c / D + b^2 at half the largest D and at the largest
    assert abs(ratio - math.log((2 + floor) / (1 + floor))) <= scipy.stats.norm.isf(ONCE_IN_A_BILLION) * spread


def test_the_effect_of_the_mutant_of_a_tail_is_the_one_that_is_stated(monkeypatch, rng):
    (exceeds, bound), _ = asked(monkeypatch, MUTANTS["l2 for l1"])
    n = 1 << 20
    hits = sum(int(exceeds(rng, 1 << 15).sum()) for _ in range(32))
    probability = MUTANTS["l2 for l1"].effect * bound  # of degrees up to 4; those beyond have probability 2^-5
    assert scipy.stats.binom.sf(hits, n, probability + 2.0**-5) > ONCE_IN_A_BILLION
    assert scipy.stats.binom.cdf(hits, n, probability) > ONCE_IN_A_BILLION


def accused(group, kind, name, runs):
    """How often a trial has the verdict that is counted."""
    (trial,) = [t for t in trials().values() if (t.group, t.kind, t.name) == (group, kind, name)]
    verdicts = [trial.decide(stream(0, "test", name, str(i)), ALPHA).verdict for i in range(runs)]
    return verdicts.count(GROUPS[group])


def half_as_wide(interval):
    def sabotaged(*arguments, **options):
        lower, upper = interval(*arguments, **options)
        return lower + (upper - lower) / 4, upper - (upper - lower) / 4

    return sabotaged


@pytest.mark.parametrize(
    ("kind", "name", "interval"),
    [
        ("Catoni", "fair signs", "catoni_interval"),
        ("betting", "fair coin", "betting_interval"),
        ("Student's t", "normal", "asymptotic_interval"),
    ],
)
def test_an_interval_half_as_wide_is_found_out(monkeypatch, kind, name, interval):
    runs = 300
    most = scipy.stats.binom.isf(ONCE_IN_A_BILLION, runs, ALPHA)
    assert accused("on target", kind, name, runs) <= most
    monkeypatch.setattr(sequences, interval, half_as_wide(getattr(sequences, interval)))
    assert accused("on target", kind, name, runs) > most


def test_a_check_that_ignores_its_margin_is_found_out(monkeypatch):
    runs = 50
    most = scipy.stats.binom.isf(ONCE_IN_A_BILLION, runs, ALPHA)
    assert accused("at the edge", "Catoni", "exponential", runs) <= most
    ignored = lambda *arguments, margin, **options: checks.check_mean(*arguments, margin=margin * 1e-6, **options)
    monkeypatch.setattr(controls, "check_mean", ignored)
    assert accused("at the edge", "Catoni", "exponential", runs) > most


def test_a_check_that_confirms_too_soon_is_found_out(monkeypatch):
    runs = 50
    most = scipy.stats.binom.isf(ONCE_IN_A_BILLION, runs, ALPHA)
    assert accused("just beyond", "tail", "event, 1 in 10", runs) <= most
    generous = lambda event, bound, **options: checks.check_tail(event, 1.1 * bound, **options)
    monkeypatch.setattr(controls, "check_tail", generous)
    assert accused("just beyond", "tail", "event, 1 in 10", runs) > most


def test_the_record_does_not_depend_on_the_workers():
    alone, together = (power(runs=2, seed=3, workers=workers).as_dict()["trials"] for workers in (1, 2))
    assert alone == together
    assert power(runs=2, seed=4, workers=1).as_dict()["trials"] != alone


def test_power_rises_with_the_distance(reduced):
    for row in reduced.as_dict()["trials"]:
        if row["group"] == "curve" and row["effect"] == 4:
            assert row["rate"] == 1, row
        if row["group"] == "curve" and row["effect"] < 1:
            assert row["rate"] <= 0.5, row


def test_a_record_says_what_is_contradicted(reduced):
    worse = dataclasses.replace(reduced, alpha=1e-9)
    guilty = [t for t in worse.group("on target", "at the edge", "just beyond", "twin") if t.count]
    assert len(worse.contradictions) == len(guilty) > 0
    assert worse.exit_code == 1
    assert "CONTRADICTED" in worse.table()


def test_the_table_the_document_and_the_pictures_hold_everything(reduced, tmp_path):
    table = reduced.table()
    for trial in trials().values():
        assert trial.name in table or trial.group == "twin"
    document = json.loads(to_json(reduced), parse_constant=pytest.fail)
    assert len(document["trials"]) == len(trials())
    assert all(sum(row["verdicts"].values()) == row["runs"] for row in document["trials"])
    assert {row["kind"] for row in document["trials"]} == set(KINDS)
    save(reduced, tmp_path, "power")
    assert json.loads((tmp_path / "power.json").read_text())["trials"] == document["trials"]
    drawn = {path.stem: path.read_text() for path in (tmp_path / "figures").iterdir()}
    assert set(drawn) == {"power", "draws", "false-verdicts", "mutants"}
    assert all("<svg" in text for text in drawn.values())


@pytest.fixture(scope="module")
def compared():
    return widths(runs=2, seed=0, workers=1)


def test_sequences_with_known_bounds_are_as_narrow_as_the_variance_allows(compared):
    for name in ("fair coin", "uniform"):
        assert np.all(compared.relative(name, "betting") <= 1.02 * compared.relative(name, "Catoni, variance known"))
        assert np.all(compared.relative(name, "empirical Bernstein") >= compared.relative(name, "betting") * 0.98)


def test_widths_are_kept_with_and_without_ville(compared, monkeypatch):
    peers = {label for found in compared.limits.values() for label in found if label.startswith("ville")}
    installed = importlib.util.find_spec("ville") is not None
    assert bool(peers) == installed
    monkeypatch.setitem(sys.modules, "ville", None)  # importing it fails
    alone = widths(runs=1, workers=1)
    assert not any(label.startswith("ville") for found in alone.limits.values() for label in found)
    assert "ville is not installed" in alone.table()
    assert ("ville is not installed" in compared.table()) == (not installed)
    assert alone.exit_code == 0


def test_the_command_line_writes_both_records(tmp_path, capsys):
    assert main(["power", "--runs", "1", "--workers", "1", "--json", "--out", str(tmp_path / "power")]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document["status"] == "as-expected"
    assert json.loads((tmp_path / "power" / "power.json").read_text())["trials"] == document["trials"]
    assert main(["power", "--widths", "--runs", "1", "--workers", "1", "--out", str(tmp_path / "widths")]) == 0
    assert "fair coin" in capsys.readouterr().out
    assert (tmp_path / "widths" / "widths.json").exists()
    assert len(list((tmp_path / "widths" / "figures").iterdir())) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runs": 0}, "runs: expected an int >= 1, found 0"),
        ({"seed": -1}, "seed: expected an int >= 0, found -1"),
        ({"alpha": 1.0}, r"alpha: expected a number in \(0, 1\), found 1.0"),
        ({"workers": "two"}, "workers: expected an int >= 1, found 'two'"),
    ],
)
@pytest.mark.parametrize("make", [power, widths])
def test_wrong_arguments_are_named(make, change, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make(**change)
