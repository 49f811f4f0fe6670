"""The stress test: ratios and verdicts against a second computation, the same numbers again, sentences that hold them."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.attention.sharpness import FAMILIES
from schoenbat_theory.cells import CheckError
from schoenbat_theory.cli import main
from schoenbat_theory.compare.approximation import Approximation, Method, Output
from schoenbat_theory.compare.methods import methods
from schoenbat_theory.compare.stress import Case, Stress, stress
from schoenbat_theory.compare.stress.figures import curves, harm_picture
from schoenbat_theory.compare.stress.inputs import BETAS, BETWEEN, HALF, INPUTS, drawn, random_heads
from schoenbat_theory.compare.stress.measure import StressJob, _Answer, _budget, _nested
from schoenbat_theory.compare.stress.page import save
from schoenbat_theory.compare.stress.results import LIMIT, RULED, Point
from schoenbat_theory.compare.stress.table import coverage, harm, sentences
from schoenbat_theory.compare.targets import problem


def given(n=160, d=4):
    q, k, v = np.random.default_rng(3).normal(size=(3, 1, n, d))
    return q, k, v + 1


@pytest.fixture(scope="module")
def found():
    return stress(*given(), seeds=2, seed=5, workers=1)


def case(**changes):
    usual = {
        "head": "h",
        "input": INPUTS[0],
        "method": "m",
        "errors": (0.1,),
        "ratios": (0.5,),
        "certificates": ("covered",),
        "chosen": ("",),
    }
    return Case(**{**usual, **changes})  # fmt: skip


def small(*cases, points=()):
    names = tuple(dict.fromkeys(one.method for one in cases))
    inputs = tuple(dict.fromkeys(one.input for one in cases))
    return Stress(cases, points, points, ("h",), inputs, names, 1, 0, 64, 0.95, 256, "arrays")


def point(family, first=0.01, monomials=0.01, local=0.01):
    errors = dict(zip(RULED.values(), (first, monomials, local), strict=True)) | {"mean of the values": 0.5}
    return Point("h", 1.0, 0.1, 0.01, 2.0, 0.1, 9.0, 8.0, family, errors)


def test_there_is_a_case_for_every_head_input_and_method(found):
    assert [(one.input, one.method) for one in found.cases] == [(i, m) for i in INPUTS for m in found.methods]
    assert all(len(x) == 2 for one in found.cases for x in (one.errors, one.ratios, one.certificates))
    assert [len(one.chosen) for one in found.cases] == [
        2 * (one.method == "approximate attention") for one in found.cases
    ]
    assert [one.beta for one in found.curve] == list(BETAS)
    assert [one.beta for one in found.afresh[:5]] == list(BETWEEN)
    assert len(found.afresh) == 5 * (1 + 4)


def test_ratios_are_errors_over_the_better_mean_of_that_input(found):
    q, k, v = (x[0] for x in given())
    for factor, name in ((0.5, INPUTS[0]), (2.0, INPUTS[2])):
        x = factor * q / 2  # d^(1/2) = 2
        exact = st.kernel_attention(x, k, v, "exp")
        size = np.linalg.norm(exact)
        means = [np.linalg.norm(f(x, k, v) - exact) / size for f in (st.mean_attention, st.weighted_mean_attention)]
        error = np.linalg.norm(st.first_order_attention(x, k, v) - exact) / size
        (one,) = found.of("first order, recentred", name)
        # logits x k / 2 are made in another order: 20 u of logits of 20 at most
        assert one.errors == pytest.approx([error] * 2, rel=1e-9)
        assert one.ratios == pytest.approx([error / min(means)] * 2, rel=1e-9)


def test_halves_differ_from_seed_to_seed_and_factors_do_not():
    head = st.shipped_heads()[0]
    first, other = drawn(HALF, head, 0, 0), drawn(HALF, head, 0, 1)
    assert first.q.shape == first.k.shape == (256, 32)
    assert not np.array_equal(first.q, other.q)
    assert not np.array_equal(first.q, drawn(HALF, head, 1, 0).q)
    assert np.array_equal(first.k, drawn(HALF, head, 0, 0).k)
    rows = {row.tobytes() for row in head.k}
    assert all(row.tobytes() in rows for row in first.k)
    pairs = {(k.tobytes(), v.tobytes()) for k, v in zip(head.k, head.v, strict=True)}
    assert all((k.tobytes(), v.tobytes()) in pairs for k, v in zip(first.k, first.v, strict=True))
    assert np.array_equal(drawn("logits × 2", head, 0, 0).q, 2 * head.q)


def test_random_heads_are_the_same_again():
    like = st.Head("like", np.ones((20, 4)), np.ones((30, 4)), np.ones((30, 3)))
    for one, other in zip(random_heads(like, 0), random_heads(like, 0), strict=True):
        assert np.array_equal(one.q, other.q)
        assert np.array_equal(one.v, other.v)
        assert [one.q.shape, one.k.shape, one.v.shape] == [(20, 4), (30, 4), (30, 3)]
    assert not np.array_equal(next(random_heads(like, 0)).q, next(random_heads(like, 1)).q)


def test_the_same_seed_gives_the_same_document_but_for_the_machine(found):
    again = stress(*given(), seeds=2, seed=5, workers=1)
    assert again == found
    document = json.loads(found.to_json())
    assert document["schema"] == 1
    assert document["seed"] == 5
    assert document["environment"]
    assert document["curve"][0]["judged"] in ("right", "dearer than needed", "too cheap")


def _method(name, answer, random=True):
    def draw(law, problem, rng):
        return Approximation(lambda: Output(answer(problem, rng)), 1, 1.0)

    return Method(name, lambda problem, width: width, draw, random=random)


def stressed(answer, seeds=40, random=True, input=INPUTS[1]):
    head = dataclasses.replace(st.shipped_heads()[4])
    return StressJob(head, input, [_method("mine", answer, random)], 8, seeds, 0).run()[0]


def test_certificates_cover_an_error_that_is_spread_evenly_and_miss_one_that_hides_in_a_row():
    def even(problem, rng):
        return problem.exact + rng.normal(size=problem.exact.shape) / 50

    def hidden(problem, rng):
        found = problem.exact + rng.normal(size=problem.exact.shape) / 5000
        found[rng.integers(len(found)) : len(found), 0] += (
            0.01  # every row from some on: rows that differ are the others
        )
        found[7] -= (found[7] - found.mean(axis=0)) * 0.999  # near the mean row, where certain rows are not looked for
        return found

    # Of 40 certificates at 95 % fewer than 33 cover with probability 3e-4; the row is drawn among 48 of 496 others.
    assert stressed(even).certificates.count("covered") >= 33
    words = stressed(hidden).certificates
    assert words.count("missed") > words.count("covered")


def test_a_certificate_misses_on_either_side():
    job = StressJob(st.shipped_heads()[4], INPUTS[1], [], 8, 1, 0)
    target = problem("raw", "exp", job.head)
    errors = np.random.default_rng(0).exponential(size=64)
    answer = _Answer(target.exact, st.row_certificate(errors, np.full(64, 100.0), n=512))
    low, high = answer.certificate.interval
    words = [job._certified(None, target, answer, None, x, 0) for x in (0.9 * low, 1.1 * low, 0.9 * high, 1.1 * high)]
    assert words == ["missed", "covered", "covered", "missed"]


def test_an_answer_that_is_none_is_infinite_and_refused():
    def fails(problem, rng):
        raise ArithmeticError("0")

    for answer in (fails, lambda problem, rng: np.full_like(problem.exact, np.nan)):
        one = stressed(answer, seeds=2)
        assert one.errors == one.ratios == (math.inf, math.inf)
        assert one.certificates == ("refused", "refused")


def test_what_is_not_random_runs_once_an_input():
    calls = []

    def answer(problem, rng):
        calls.append(problem.target.head)
        return 0.9 * problem.exact

    stressed(answer, seeds=3, random=False)
    assert len(calls) == 1
    stressed(answer, seeds=3, random=False, input=HALF)
    assert len(set(calls[1:])) == 3
    calls.clear()
    stressed(answer, seeds=3)
    assert len(calls) == 3


def test_the_budget_of_approximate_attention_stays_below_exact_attention_on_halves():
    for head, most in ((st.shipped_heads()[0], 256), (drawn(HALF, st.shipped_heads()[0], 0, 0), 129)):
        target = problem("raw", "exp", head)
        assert _budget(target, 256) == most
        found = st.approximate_attention(target.q, target.k, target.v, n_features=most, rng=0)
        assert len(found.candidates) > 3
    more = st.approximate_attention(target.q, target.k, target.v, n_features=most + 1, rng=0)
    assert [one.name for one in more.candidates] == ["exact attention"]


def test_local_expansions_are_certified_where_half_of_the_clusters_give_another_answer():
    target = problem("raw", "exp", st.shipped_heads()[4])
    budget = st.LocalBudget.for_length(512, 512)
    coarse = dataclasses.replace(budget, clusters=budget.clusters // 2)
    expected = st.local_attention(target.q, target.k, target.v, budget=coarse)
    assert np.array_equal(_nested(methods()["local expansions"], target), expected)
    assert _nested(methods()["first order, recentred"], target) is None


def test_a_method_that_fails_is_named():
    def wrong(problem, rng):
        raise KeyError("x")

    with pytest.raises(CheckError, match="mine on layer 5 head 0, logits × 1: KeyError"):
        stressed(wrong, seeds=1)


def test_harm_counts_what_is_above_the_limit():
    rows = harm(small(case(ratios=(0.5, LIMIT, 1.06, 2.0), errors=(0.1, 0.2, 0.3, 0.4))))
    assert rows[0] == ["m", INPUTS[0], "0.25", "1.06", "2.00", "h", "50.0%"] or rows[0][-1] == "50.0%"
    assert rows[1][1] == "all inputs"


def test_coverage_leaves_out_what_was_refused_and_what_is_exact():
    words = ("covered",) * 90 + ("missed",) * 10 + ("refused",) * 5 + ("exact",) * 7
    row = coverage(small(case(certificates=words)))[0]
    assert row[:7] == ["m", "112", "90", "10", "5", "7", "90.0%"]
    assert row[7:9] == ["82.4% to 95.1%", "85.7%"]  # Clopper and Pearson for 90 of 100; 90 of 105
    both = small(case(certificates=words), case(input=INPUTS[1], certificates=("missed", "covered", "refused")))
    assert coverage(both)[0][-1] == "50.0%"
    assert coverage(small(case(certificates=("refused",))))[0][6:] == ["–", "0.0% to 100.0%", "0.0%", "–"]


def test_the_rule_is_judged_by_the_cheapest_family_that_works():
    assert point("first order").judged == "right"
    assert point("local").judged == "dearer than needed"
    assert point("exact").judged == "dearer than needed"
    assert point("first order", first=0.2).judged == "too cheap"
    assert point("monomials", first=0.2).judged == "right"
    assert point("exact", 0.2, 0.2, math.inf).judged == "right"
    assert point("local", 0.2, 0.05, 0.3).judged == "too cheap"
    assert [point(family).error for family in FAMILIES] == [0.01, 0.01, 0.01, 0.0]
    assert point("exact", 0.2, 0.2, math.inf).enough == "exact"


def test_sentences_hold_the_numbers():
    points = (point("first order"), point("local"), point("first order", first=0.3))
    cases = (case(certificates=("covered", "missed")), case(method="bad", ratios=(1.2,)))
    text = " ".join(sentences(small(*cases, points=points)))
    assert f"Never above {LIMIT} times the better mean: m. Above it in some case: bad." in text
    assert "cover 2 of 3 errors, 66.7 %" in text
    assert "refused for 0 more, with which it is 66.7 %" in text
    assert "50.0 %, for m" in text
    assert "on 1 of 3 heads and temperatures" in text
    assert "a dearer one on 1, and one that errs by more on 1 (at most 0.300)" in text


def test_the_figures_can_be_drawn(found):
    from schoenbat_theory.plots import draw

    for one in (harm_picture(found), *curves(found).values()):
        assert "<svg" in draw(one).file()


def test_the_page_is_whole_and_fetches_nothing(found, tmp_path):
    paths = save(found, tmp_path)
    assert {"stress.json", "stress.html", "harm.svg", "curve-head-0.svg"} == {path.name for path in paths}
    page = (tmp_path / "stress.html").read_text()
    assert found.to_html() == page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    for text in ("Do no harm", "Certificates", "Against the temperature", "independent normal"):
        assert text in page
    assert "Never above" in found.table()
    assert "over the better mean" in found._repr_html_()


def test_the_command_line_asks_for_what_it_can_do(capsys):
    for arguments in (["--seeds", "2"], ["--stress", "--draws", "2"], ["--stress", "mine.py"]):
        with pytest.raises(SystemExit) as stopped:
            main(["compare", *arguments])
        assert stopped.value.code == 2
        assert "--stress" in capsys.readouterr().err


def test_the_command_writes_and_prints(found, tmp_path, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr("schoenbat_theory.commands.stress", lambda *heads, **options: asked.update(options) or found)
    assert main(["compare", "--stress", "--seeds", "2", "--seed", "5", "--out", str(tmp_path / "new")]) == 0
    assert asked["seeds"] == 2
    assert "stress.html" in capsys.readouterr().out
    assert (tmp_path / "new" / "stress.html").exists()
    assert main(["compare", "--stress", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1


def test_wrong_input_is_refused():
    q, k, v = given(n=8)
    with pytest.raises(ValueError, match="seeds: expected an int >= 1"):
        stress(q, k, v, seeds=0)
    with pytest.raises(TypeError, match="k: expected q, k and v"):
        stress(q)
