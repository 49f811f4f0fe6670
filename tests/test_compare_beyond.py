"""`compare` shows what goes beyond the paper with all that it costs, and says by how much it wins and where it does not."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import plots
from schoenbat_theory.activations import Head
from schoenbat_theory.attention import costs
from schoenbat_theory.compare import Comparison
from schoenbat_theory.compare.approximation import Method, sizes
from schoenbat_theory.compare.budget import budget_of, width_within
from schoenbat_theory.compare.figures import ranking
from schoenbat_theory.compare.measure import Job
from schoenbat_theory.compare.methods import methods
from schoenbat_theory.compare.quantities import median
from schoenbat_theory.compare.ratios import QUOTED
from schoenbat_theory.compare.results import Result
from schoenbat_theory.compare.run import compare
from schoenbat_theory.compare.targets import isotropic, problem
from schoenbat_theory.sampling import stream

N, D, E = 48, 4, 3
MAPS = ["optimized Maclaurin, recentred", "optimized Maclaurin, with values"]
OTHERS = ["first order, recentred", "local expansions", "approximate attention", "Taylor, degree 2, recentred"]


def heads(count: int = 2, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [scale * rng.normal(size=(count, N, width)) + 0.5 for width in (D, D, E)]


def small(*arrays: np.ndarray, **options: object) -> Comparison:
    chosen = {"kernels": ["exp", "inv"], "widths": [8, 16], "draws": 2, "methods": [*MAPS, *OTHERS], "workers": 1}
    return st.compare(*(arrays or heads()), **(chosen | options))


@pytest.fixture(scope="module")
def found() -> Comparison:
    return small()


def of(comparison: Comparison, method: str, target: str, **fields: object) -> list[Result]:
    fields = {"basis": "width"} | fields
    return [
        one
        for one in comparison.results
        if (one.method, one.target) == (method, target) and all(getattr(one, name) == x for name, x in fields.items())
    ]


def tokens(target: str, head: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q, k, v = (x[head] for x in heads())
    setting = target.partition(" ")[0]
    scaled = {
        "raw": (q * D**-0.25, k * D**-0.25),
        "unit": (st.pre_scale(q), st.pre_scale(k)),
        "released": st.prepare(q, k),
    }
    return *scaled[setting], v


def relative(answer: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, kernel: str = "exp") -> float:
    exact = st.kernel_attention(q, k, v, kernel)
    return float(np.linalg.norm(answer - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("target", ["raw exp", "unit exp", "released exp"])
def test_first_order_and_local_expansions_are_what_the_library_computes(found, target):
    q, k, v = tokens(target)
    (first,) = of(found, "first order, recentred", target, head="head 0")
    assert first.errors == (pytest.approx(relative(st.first_order_attention(q, k, v), q, k, v), rel=1e-9),)
    assert (first.width, first.features) == (None, 1 + D)
    (local,) = of(found, "local expansions", target, head="head 0")
    assert local.errors == (pytest.approx(relative(st.local_attention(q, k, v), q, k, v), rel=1e-6, abs=1e-12),)
    rule = st.LocalBudget.for_length(N, N)
    assert (local.features, local.multiply_adds) == (rule.blocks + rule.exact, rule.multiply_adds(N, N, D, E))


@pytest.mark.parametrize("method", MAPS)
def test_an_optimized_map_is_recentred_fitted_and_drawn(found, method):
    q, k, v = tokens("unit exp", 1)
    x, y, w = st.recenter(q, k)
    values = v if "values" in method else None
    law = st.OptimizedMaclaurin("exp", 16).fit(x, y, w, values=values)
    (result,) = of(found, method, "unit exp", width=16, head="head 1")
    for i, error in enumerate(result.errors):
        phi = law.draw(D, stream(0, "compare", "unit", "exp", method, "16", "head 1", str(i)))
        answer = st.feature_attention(x, y, v, phi, key_log_weights=w)
        assert error == pytest.approx(relative(answer, q, k, v), rel=1e-9)
    s = costs.Sizes(N, N, D, E)
    of_rows = 2 * (phi.multiply_adds + phi.n_features * (E + 1)) + 3 * D
    assert result.multiply_adds == pytest.approx(of_rows + costs.recentring(s) + law.fit_multiply_adds / N, rel=1e-12)
    assert result.features == phi.n_features <= 16


def test_other_kernels_than_exp_are_balanced_and_never_shifted(found):
    q, k, v = tokens("unit inv")
    x, y = st.balance(q, k)
    law = st.OptimizedMaclaurin("inv", 16).fit(x, y)
    (result,) = of(found, MAPS[0], "unit inv", width=16, head="head 0")
    phi = law.draw(D, stream(0, "compare", "unit", "inv", MAPS[0], "16", "head 0", "0"))
    answer = (phi.queries(x) @ (phi(y).T @ v)) / (phi.queries(x) @ phi(y).sum(axis=0))[:, None]
    assert result.errors[0] == pytest.approx(relative(answer, q, k, v, "inv"), rel=1e-9)
    of_rows = 2 * (phi.multiply_adds + phi.n_features * (E + 1)) + 3 * D
    fit = costs.balancing(costs.Sizes(N, N, D, E)) + law.fit_multiply_adds / N
    assert result.multiply_adds == pytest.approx(of_rows + fit, rel=1e-12)
    for name in ("first order, recentred", "local expansions"):
        assert not of(found, name, "unit inv")


def test_degree_2_enters_at_its_own_width_where_it_is_wider_than_all():
    wide = small(methods=["Taylor, degree 2, recentred"], widths=[8])
    (result,) = of(wide, "Taylor, degree 2, recentred", "raw exp", head="head 0")
    q, k, v = tokens("raw exp")
    x, y, w = st.recenter(q, k)
    phi = st.TaylorFeatures("exp", 2, D).draw(D)
    answer = st.feature_attention(x, y, v, phi, key_log_weights=w)
    assert result.errors == (pytest.approx(relative(answer, q, k, v), rel=1e-9),)
    assert (result.width, result.features) == (None, 15)


def test_approximate_attention_says_what_it_chose_and_what_that_came_to(found):
    q, k, v = tokens("unit exp")
    (result,) = of(found, "approximate attention", "unit exp", width=16, head="head 0")
    for i, error in enumerate(result.errors):
        rng = stream(0, "compare", "unit", "exp", "approximate attention", "16", "head 0", str(i))
        same = st.approximate_attention(q, k, v, n_features=16, rng=int(rng.integers(1 << 32)))
        assert error == pytest.approx(relative(same.output, q, k, v), rel=1e-6, abs=1e-12)
        assert result.chosen[i] == same.method
    assert result.multiply_adds == pytest.approx(same.multiply_adds)  # of so few tokens all is exact
    (said,) = (one for one in found.remarks() if one.startswith("What approximate attention decided for"))
    assert "unit exp: exact attention (4)" in said


def test_recentring_is_counted_operation_by_operation():
    n, m, d, e = 40, 60, 8, 5
    s = costs.Sizes(n, m, d, e)
    tilts, weights, mean_key = m * d, 2 * m, m * d
    sample = d * m  # 60 keys are fewer than 16 d
    shares = sample * d + 2 * sample + 5 * 6 * sample
    assert costs.shifts(s) * n == pytest.approx(n * d + tilts + weights + mean_key + shares)
    moments, weighting, applied = (n + m) * d * d, m * d, (n + m) * d * d
    roots, svd, products = 2 * 4.5 * d**3, 10.5 * d**3, 4 * d**3
    assert costs.balancing(s) * n == pytest.approx(moments + weighting + applied + roots + svd + products)
    assert costs.recentring(s) * n == pytest.approx((costs.shifts(s) + costs.balancing(s)) * n + (n + m) * d)
    covariance, values, product = m * d * e, 4 * m * e, n * d * e + n * e
    assert costs.first_order(s) * n == pytest.approx(costs.shifts(s) * n + covariance + values + product)
    proposed, used = (
        d * (20 + 20) * 2,
        (n + m) * (1 + e + 1),
    )  # of 20 queries and 20 keys; one column of features and sums
    assert costs.monomial(s, 20) * n == pytest.approx(proposed + used)


def test_the_budget_holds_on_every_head(found):
    budget = {one.name: one.budget for one in found.targets if one.budget is not None}
    fitting = [one for one in found.results if one.basis == "multiply-adds"]
    assert {one.method for one in fitting} >= {"first order, recentred", "approximate attention"}
    for one in fitting:
        if not one.chosen:  # what decides as it runs may end with exact attention
            assert one.multiply_adds <= budget[one.target], one.method


def test_queries_beyond_the_trusted_range_are_clipped_as_in_feature_attention():
    arrays = heads(1, scale=4.0)
    (result,) = of(small(*arrays, kernels=["exp"], methods=MAPS[:1]), MAPS[0], "raw exp", width=16)
    q, k, v = (x[0] for x in arrays)
    x, y, w = st.recenter(q * D**-0.25, k * D**-0.25)
    phi = st.OptimizedMaclaurin("exp", 16).fit(x, y, w).draw(D, stream(0, "compare", "raw", "exp", MAPS[0], "16", "head 0", "0"))  # fmt: skip
    assert not np.allclose(phi.queries(x), phi(x))
    answer = st.feature_attention(x, y, v, phi, key_log_weights=w)
    assert result.errors[0] == pytest.approx(relative(answer, q * D**-0.25, k * D**-0.25, v), rel=1e-9)


@pytest.mark.parametrize("budget", [4000.0, 4170.3, 4170.5])
@pytest.mark.parametrize("power", [1, 3])
@pytest.mark.parametrize("fixed", [0, 900, 5000])
def test_the_width_within_a_budget_is_the_largest(power, fixed, budget):
    target = problem("unit", "exp", Head("h", *(x[0] for x in heads())))
    asked = []

    def cost(width: int | None) -> float:
        asked.append(width)
        return fixed + 40 * width + (width / 10) ** power

    fits = [8 * i for i in range(1, 200) if fixed + 320 * i + (0.8 * i) ** power <= budget]
    method = Method("any", lambda problem, width: width, None)
    for known in ([], [(16, cost(16))], [(16, cost(16)), (64, cost(64))]):
        asked.clear()
        assert width_within(budget, method, target, cost, known) == max(fits, default=0)
        assert len(asked) <= 7


def test_what_has_no_width_is_within_the_budget_or_not():
    target = problem("unit", "exp", Head("h", *(x[0] for x in heads())))
    method = Method("any", lambda problem, width: width, None, sized=False)
    assert width_within(10.0, method, target, lambda width: 10.0, []) is None
    assert width_within(10.0, method, target, lambda width: 10.1, []) == 0
    assert budget_of(problem("gaussian", "gaussian", target.head), 16, 0) is None


def test_local_expansions_have_as_many_terms_as_the_width_says():
    target = problem("raw", "exp", Head("h", *np.random.default_rng(0).normal(size=(3, 512, 8))))
    law = methods()["local expansions"].law
    assert law(target, 1 << 13) == st.LocalBudget.for_length(512, 512)
    for width in (16, 64, 100, 184, 256):
        budget = law(target, width)
        assert budget.blocks + budget.exact == width
        assert budget.exact >= budget.blocks
    assert law(problem("unit", "inv", target.head), 64) is None


def test_isotropic_vectors_come_with_the_shipped_heads_alone_and_are_drawn_from_the_seed(monkeypatch, found):
    assert not any(one.setting == "isotropic" for one in found.targets)
    targets = sys.modules[isotropic.__module__]
    monkeypatch.setattr(targets, "ISOTROPIC", (20, 5))
    head = isotropic(0)
    assert np.allclose(np.linalg.norm(head.q, axis=1), 1)
    assert not np.array_equal(head.q, isotropic(1).q)
    run = sys.modules[compare.__module__]
    monkeypatch.setattr(run, "given_heads", lambda q, k, v: (Head("h", *(x[0] for x in heads())),))
    shipped = st.compare(kernels=["exp"], widths=[8], draws=1, methods=["first order, recentred"], workers=1)
    (target,) = (one for one in shipped.targets if one.setting == "isotropic")
    assert (target.name, target.head, target.n, target.d) == ("isotropic exp", "random unit vectors", 20, 5)
    (first,) = of(shipped, "first order, recentred", "isotropic exp")
    answer = st.first_order_attention(head.q, head.k, head.v)
    assert first.error == pytest.approx(relative(answer, head.q, head.k, head.v), rel=1e-9)
    others = st.compare(kernels=["inv"], widths=[8], draws=1, methods=["Taylor, degree 1"], workers=1)
    assert not any(one.setting == "isotropic" for one in others.targets)


def test_ratios_are_quotients_head_by_head(found):
    ours, theirs = (of(found, name, "unit exp", width=16) for name in (MAPS[0], "approximate attention"))
    changed = [dataclasses.replace(one, errors=(0.1 * (i + 1),)) for i, one in enumerate(ours)]
    changed += [dataclasses.replace(one, errors=(0.5,), multiply_adds=7.0) for one in theirs]
    comparison = dataclasses.replace(found, results=tuple(changed))
    one = comparison.ratio("unit exp", MAPS[0], "approximate attention")
    assert (one.median, one.worst, one.heads) == (pytest.approx(0.3), pytest.approx(0.4), 2)
    assert (one.width, one.reference_multiply_adds) == (16, 7.0)
    assert one.multiply_adds == median(one.multiply_adds for one in ours)
    broken = [dataclasses.replace(changed[0], errors=(None,)), *changed[1:]]
    assert (
        dataclasses.replace(found, results=tuple(broken)).ratio("unit exp", MAPS[0], "approximate attention").worst
        is None
    )
    with pytest.raises(ValueError, match="not both measured against 'unit exp'"):
        comparison.ratio("unit exp", MAPS[1], "approximate attention")
    assert comparison.ratios() == ()


def test_the_ratios_worth_quoting_are_in_the_document_and_in_the_table():
    comparison = small(kernels=["exp"], methods=["first order, recentred", "random Maclaurin"])
    quoted = [(one.target, one.method, one.reference) for one in comparison.ratios()]
    assert quoted == [(t, "first order, recentred", "random Maclaurin") for t in ("released exp", "unit exp")]
    assert [one["median"] for one in comparison.as_dict()["ratios"]] == [one.median for one in comparison.ratios()]
    assert "released exp: first order, recentred beside random Maclaurin" in comparison.table()
    assert "unit exp: first order, recentred beside random Maclaurin" in comparison.to_html()
    assert {method for *_, method, _ in QUOTED} <= set(methods())


def test_what_fits_on_some_heads_alone_has_no_row_at_equal_cost(found):
    method = "first order, recentred"
    both = [one for one in found.results if (one.method, one.target) == (method, "raw exp")]
    assert any(row.basis == "multiply-adds" for row in dataclasses.replace(found, results=tuple(both)).rows())
    dropped = [one for one in both if (one.basis, one.head) != ("multiply-adds", "head 1")]
    rows = dataclasses.replace(found, results=tuple(dropped)).rows()
    assert [row.basis for row in rows] == ["width"]


def test_what_does_not_work_is_said_first(found):
    base = [one for one in found.results if one.target == "raw exp" and one.family == "baseline"]
    (first, *_), (local, *_) = (of(found, name, "raw exp") for name in ("first order, recentred", "local expansions"))
    poor = dataclasses.replace(first, errors=(0.6,), skill=0.2, multiply_adds=200.0)
    good = dataclasses.replace(local, errors=(0.2,), skill=0.8, multiply_adds=100.0)

    def said(*results: Result) -> str:
        return " ".join(dataclasses.replace(found, results=(*base, *results)).failures())

    assert "What does not work: methods beyond the paper" in said(poor, good)
    assert "raw exp: first order, recentred (error 0.600)." in said(poor, good)
    assert "first order, recentred: raw exp (local expansions, 3.00)." in said(poor, good)
    cheap = dataclasses.replace(poor, multiply_adds=50.0)
    assert "more than twice as much" not in said(cheap, good)
    close = dataclasses.replace(poor, errors=(0.39,), skill=0.6)
    assert "more than twice as much" not in said(close, good)
    assert "What does not work" not in said(close, good)
    text = dataclasses.replace(found, results=(*base, poor, good)).to_html()
    assert text.index("What does not work") < text.index("What was measured")


def test_the_ranking_is_in_the_order_of_the_errors_with_draws_and_heads(found):
    rows = sorted((r for r in found.rows() if r.target == "unit exp" and r.width in (16, None) and r.basis == "width"), key=lambda r: r.error)  # fmt: skip
    picture = ranking(found, rows, "unit exp")
    lines = {line["label"]: line for line in picture.figure["rows"]}
    assert list(lines) == [row.method for row in rows]
    for method in MAPS:
        both = of(found, method, "unit exp", width=16)
        assert lines[method]["heads"] == [min(one.error for one in both), max(one.error for one in both)]
        assert lines[method]["draws"] == [median(one.interval[i] for one in both) for i in (0, 1)]
        assert lines[method]["strong"]
    assert not lines["mean of the values"]["strong"]
    text = plots.svg(picture)
    assert all(method in text for method in lines)


def test_a_ranking_draws_what_is_undefined_without_a_mark():
    row = {"label": "a", "error": None, "draws": [None, None], "heads": [0.1, None], "cells": ["–"], "strong": False}
    picture = {
        "plot": "ranking",
        "rows": [row, row | {"label": "b", "error": 0.2}],
        "columns": ["error"],
        "families": {},
    }
    text = plots.svg(st.Evidence(None, "data", figure=picture | {"families": {"a": "A", "b": "B"}}))
    assert "a" in text
    with pytest.raises(ValueError, match="expected the keys rows, columns, families; missing columns"):
        plots.plot(st.Evidence(None, "data", figure={"plot": "ranking", "rows": [], "families": {}}))


def test_the_families_of_what_goes_beyond_the_paper_are_one(found):
    known = methods()
    mine = {name for name, one in known.items() if one.family == "beyond the paper"}
    assert mine == {*MAPS, *OTHERS, "optimized Maclaurin"}
    assert {one.family for one in found.results if one.method in mine} == {"beyond the paper"}
    assert "first order, recentred *" in found.table()


def test_a_job_of_one_target_needs_no_other():
    head = Head("h", *(x[0] for x in heads()))
    chosen = [methods()["first order, recentred"]]
    measured = Job("unit", "exp", head, chosen, (64,), 1, 0).run()
    assert [one.basis for one in measured.results] == ["width", "multiply-adds"]
    assert len(measured.entries) == 2
    assert measured.target.budget == budget_of(problem("unit", "exp", head), 64, 0)
    assert math.isclose(measured.results[0].multiply_adds, costs.first_order(sizes(problem("unit", "exp", head))))
