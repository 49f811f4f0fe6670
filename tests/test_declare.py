"""Checks declared in one line: the same verdict as the check written out, in this process and in others."""

from __future__ import annotations

import numpy as np
import pytest

import schoenbat_theory as st

FILE = """
import schoenbat_theory as st

mean_is_half = st.mean_is(0.5, margin=0.01, variance=1 / 12)
fair = mean_is_half("fair", lambda rng, size: rng.random(size))
broken = mean_is_half("broken", lambda rng, size: rng.random(size) + 0.02)
MINE = st.Proposition("X1", "A mean", "$E U = 1/2$", [], "folklore", "consistent", [fair], [broken])
"""


def uniform(rng: np.random.Generator, size: int) -> np.ndarray:
    """Uniform numbers."""
    return rng.random(size)


def cell() -> st.Cell:
    return st.Cell(rng=np.random.default_rng(3), alpha=1e-5, draws=1 << 16, repeats=1)


@pytest.mark.parametrize("known", [{"variance": 1 / 12}, {"bounds": (0, 1)}, {}])
def test_it_is_check_mean_on_the_stream_the_alpha_and_the_draws_of_the_cell(known):
    declared = st.mean_is(0.5, margin=0.02, **known)("uniform", uniform)(cell())
    written = st.check_mean(
        uniform, 0.5, margin=0.02, alpha=1e-5, rng=np.random.default_rng(3), max_draws=1 << 16, **known
    )
    assert declared == written
    assert declared.alpha == 1e-5


def test_one_maker_tries_an_estimator_and_its_mutant(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    reports = [st.verify(path, workers=workers) for workers in (1, 2)]
    for report in reports:
        (outcome,) = report.outcomes
        assert report.status == "as-expected"
        assert [(e.name, e.verdict) for e in outcome.evidence] == [("fair", "consistent")]
        assert [(e.name, e.verdict) for e in outcome.mutants] == [("broken", "refuted")]
    assert reports[0].evidence[0].interval == reports[1].evidence[0].interval


def test_a_check_keeps_the_sentence_of_its_sampler():
    assert st.mean_is(0.5, margin=0.1)("uniform", uniform).__doc__ == "Uniform numbers."


def test_arrays_of_targets_are_compared_at_once():
    check = st.mean_is([0.5, 1 / 3], margin=[0.02, 0.03], variance=[1 / 12, 4 / 45])
    evidence = check("moments", lambda rng, size: rng.random((size, 1)) ** [1, 2])(cell())
    assert (evidence.verdict, evidence.comparisons) == ("consistent", 2)


@pytest.mark.parametrize(
    ("name", "sample", "message"),
    [
        (uniform, "uniform", "name: expected a str"),
        ("uniform", 0.5, r"sample: expected a function \(rng, size\) -> replicates, found 0.5"),
    ],
)
def test_a_name_or_a_sample_of_another_kind_is_refused_at_once(name, sample, message):
    with pytest.raises(TypeError, match=message):
        st.mean_is(0.5, margin=0.1)(name, sample)


def test_other_arguments_are_judged_by_name_when_the_check_runs():
    with pytest.raises(ValueError, match="margin: expected positive numbers"):
        st.mean_is(0.5, margin=-1)("uniform", uniform)(cell())
