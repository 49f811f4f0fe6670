"""`compare`: every error can be had by hand, broken maps are seen to be broken, and nothing depends on what else runs."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.activations import Head
from schoenbat_theory.attention import costs
from schoenbat_theory.cells import CheckError
from schoenbat_theory.compare import Comparison
from schoenbat_theory.compare.clock import clocked
from schoenbat_theory.compare.quantities import median
from schoenbat_theory.compare.results import Result
from schoenbat_theory.compare.rows import Row
from schoenbat_theory.compare.table import sentence
from schoenbat_theory.compare.targets import problem
from schoenbat_theory.loading import load_maps
from schoenbat_theory.sampling import stream

METHODS = ["random Maclaurin", "positive, orthogonal", "trigonometric", "Taylor, degree 1", "Nyströmformer"]
MEANS = {"mean of the values", "weighted mean of the values"}
N, D, E = 40, 6, 5


def heads(count: int = 2, n: int = N, m: int = N, scale: float = 1.5) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [scale * rng.normal(size=(count, rows, width)) for rows, width in ((n, D), (m, D), (m, E))]


def small(*arrays: np.ndarray, **options: object) -> Comparison:
    chosen = {"kernels": ["exp"], "widths": [8, 16], "draws": 3, "methods": METHODS, "workers": 1} | options
    return st.compare(*(arrays or heads()), **chosen)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return small()


def of(comparison: Comparison, method: str, target: str = "unit exp", **fields: object) -> list[Result]:
    fields = {"basis": "width"} | fields
    return [
        one
        for one in comparison.results
        if (one.method, one.target) == (method, target) and all(getattr(one, name) == x for name, x in fields.items())
    ]


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def scaled(setting: str, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if setting == "raw":
        return q * D**-0.25, k * D**-0.25
    return (st.pre_scale(q), st.pre_scale(k)) if setting == "unit" else st.prepare(q, k)


@pytest.mark.parametrize("setting", ["raw", "unit", "released"])
@pytest.mark.parametrize("method", ["random Maclaurin", "positive, orthogonal", "trigonometric"])
def test_an_error_is_that_of_feature_attention_with_the_draw_at_its_address(found, setting, method):
    q, k, v = (x[1] for x in heads())
    a, b = scaled(setting, q, k)
    exact = st.kernel_attention(a, b, v, "exp")
    law = st.feature_maps()[method]("exp", D, 16)
    expected = []
    for draw in range(3):
        rng = stream(0, "compare", setting, "exp", method, "16", "head 1", str(draw))
        expected.append(relative(st.feature_attention(a, b, v, law.draw(D, rng)), exact))
    (result,) = of(found, method, f"{setting} exp", width=16, head="head 1")
    assert np.allclose(result.errors, expected, rtol=1e-9, atol=0)
    assert result.error == sorted(result.errors)[1]
    assert result.interval == (min(result.errors), max(result.errors))
    assert len(set(result.errors)) == 3


def test_raw_exp_is_softmax_attention_and_the_other_attentions_get_queries_as_they_are(found):
    q, k, v = (x[0] for x in heads())
    exact = st.softmax_attention(q, k, v)
    (former,) = of(found, "Nyströmformer", "raw exp", width=8, head="head 0")
    assert former.error == pytest.approx(relative(st.nystromformer_attention(q, k, v, n_landmarks=8), exact), rel=1e-9)
    (linear,) = of(small(methods=["linear attention, elu + 1"]), "linear attention, elu + 1", "raw exp", head="head 0")
    assert linear.error == pytest.approx(relative(st.linear_attention(q, k, v), exact), rel=1e-9)
    assert linear.width is None
    assert linear.features == D
    assert not of(found, "Nyströmformer", "unit exp")


def test_the_baselines_are_the_two_means_and_skill_is_against_the_better(found):
    q, k, v = (x[0] for x in heads())
    a, b = scaled("unit", q, k)
    exact = st.kernel_attention(a, b, v, "exp")
    mean = relative(st.mean_attention(a, b, v), exact)
    weighted = relative(st.weighted_mean_attention(a, b, v, "exp"), exact)
    (one,), (two,) = (of(found, name, head="head 0") for name in sorted(MEANS))
    assert (one.error, two.error) == (pytest.approx(mean), pytest.approx(weighted))
    assert max(one.skill, two.skill) == 0
    for result in of(found, "random Maclaurin", head="head 0"):
        assert result.skill == pytest.approx(1 - result.error / min(mean, weighted))


def test_skyformers_target_is_not_normalised_and_its_baseline_is_zero():
    q, k, v = (x[0] for x in heads())
    a, b = scaled("raw", q, k)
    exact = st.gaussian_attention(a, b, v)
    names = ["Nyström, pseudo-inverse", "Nyström, Schulz iteration", "trigonometric, Gaussian"]
    comparison = small(methods=names)
    target = "gaussian"
    assert {one.method for one in comparison.results if one.target == target} == {*names, "the answer 0"}
    assert [one.error for one in of(comparison, "the answer 0", target)] == [1.0, 1.0]
    for name, inverse in zip(names[:2], ("exact", "schulz"), strict=True):
        (result,) = of(comparison, name, target, width=16, head="head 0")
        rng = stream(0, "compare", "gaussian", "gaussian", name, "16", "head 0", "0")
        seed = int(rng.integers(1 << 32))
        answer = st.nystrom_attention(a, b, v, n_landmarks=16, rng=seed, inverse=inverse)
        assert result.errors[0] == pytest.approx(relative(answer, exact), rel=1e-9)
        assert result.skill == pytest.approx(1 - result.error)
    (result,) = of(comparison, names[2], target, width=16, head="head 0")
    rng = stream(0, "compare", "gaussian", "gaussian", names[2], "16", "head 0", "0")
    phi = st.FourierFeatures(16, kernel="gaussian").draw(D, rng)
    assert result.errors[0] == pytest.approx(relative(phi(a) @ (phi(b).T @ v), exact), rel=1e-9)
    assert result.nonpositive is None


def test_the_distance_of_a_target_is_what_pre_scaling_costs(found):
    q, k, v = (x[1] for x in heads())
    exact = st.softmax_attention(q, k, v)
    for target in (one for one in found.targets if one.head == "head 1"):
        if target.setting in ("raw", "gaussian"):
            assert target.distance is None
        else:
            answer = st.kernel_attention(*scaled(target.setting, q, k), v, "exp")
            assert target.distance == pytest.approx(relative(answer, exact), rel=1e-9)


def test_what_lies_beyond_the_radius_is_reported_and_not_measured():
    comparison = small(kernels=["exp", "inv"])
    q, k, _ = heads()
    raw = [one for one in comparison.targets if one.name == "raw inv"]
    for i, target in enumerate(raw):
        largest = np.abs(q[i] @ k[i].T).max() * D**-0.5
        assert target.largest == pytest.approx(largest, rel=1e-12)
        assert target.undefined == f"the largest |<q, k>| is {largest:.3g}; the radius of inv is 1"
    assert len(raw) == 2
    assert not any(one.target == "raw inv" for one in comparison.results)
    assert "raw inv: undefined on 2 of 2 heads; the largest |<q, k>| is" in comparison.table()
    assert not any(one.undefined for one in comparison.targets if one.name != "raw inv")
    assert of(comparison, "random Maclaurin", "unit inv")


def test_the_largest_inner_product_is_that_of_all_blocks(monkeypatch):
    monkeypatch.setattr(sys.modules[problem.__module__], "ROWS", 7)
    q, k, v = (x[0] for x in heads())
    found = problem("raw", "exp", Head("h", q, k, v)).target.largest
    assert found == pytest.approx(np.abs(q @ k.T).max() * D**-0.5, rel=1e-12)


def stripped(comparison: Comparison) -> list[tuple[object, ...]]:
    """Results without what a clock says."""
    left_out = {"seconds", "fit_seconds", "peak_bytes"}
    return [tuple(x for name, x in vars(one).items() if name not in left_out) for one in comparison.results]


def test_numbers_depend_on_the_seed_and_on_nothing_else_that_runs(found):
    assert stripped(small(workers=2)) == stripped(found)
    fewer = small(methods=["trigonometric"], kernels=["sqrt", "exp"], widths=[16, 8])
    mine = set(stripped(fewer)) & {one for one in stripped(found) if "trigonometric" in one}
    assert mine == {one for one in stripped(found) if "trigonometric" in one}
    other = small(seed=1)
    assert of(other, "trigonometric")[0].errors != of(found, "trigonometric")[0].errors
    assert of(other, "Taylor, degree 1")[0].errors == of(found, "Taylor, degree 1")[0].errors


def test_what_is_not_random_is_drawn_once(found):
    (result,) = of(found, "Taylor, degree 1", width=8, head="head 0")
    assert len(result.errors) == 1
    assert result.interval == (result.error, result.error)
    assert result.features == 1 + D


def test_multiply_adds_are_counted_by_the_rule(found):
    (result,) = of(found, "random Maclaurin", width=16, head="head 0")
    counted = []
    for draw in range(3):
        rng = stream(0, "compare", "unit", "exp", "random Maclaurin", "16", "head 0", str(draw))
        phi = st.RandomMaclaurin("exp", 16).draw(D, rng)
        counted.append(2 * (phi.multiply_adds + phi.merged(np.ones((1, D))).shape[-1] * (E + 1)))
    assert result.multiply_adds == pytest.approx(np.mean(counted), rel=1e-12)
    assert {one.multiply_adds for one in found.targets} == {N * (D + 1 + E + 1)}
    (linear,) = of(small(methods=["linear attention, elu + 1"]), "linear attention, elu + 1", "raw exp", head="head 1")
    assert linear.multiply_adds == 2 * (2 * D + D * (E + 1))


def test_landmarks_are_counted_product_by_product():
    n, m, d, e, c = 40, 60, D, E, 8
    sizes = costs.Sizes(n, m, d, e)
    softmaxes = c * m * (d + 1 + e + 1) + c * c * (d + 1 + c + 1) + n * c * (d + 1 + e + 1)
    assert costs.nystromformer(sizes, c, 6) == ((n + m) * d + softmaxes + 6 * 4 * c**3 + c * c * e) / n
    grams = (n + m) * c * (d + 1) + c * c * (d + 1)
    products = (n + m) * c * e
    assert costs.nystrom(sizes, c, 6) == (grams + products + 6 * 4 * c**3 + c * c * e) / n
    assert costs.nystrom(sizes, c, None) == (grams + products + 4.5 * c**3 + 2 * c * c * e) / n
    assert costs.root(sizes, c) == (c * c * (d + 1) + 4.5 * c**3 + c**3) / n


def test_the_root_of_landmarks_is_counted_as_it_cannot_be_made_beforehand():
    (result,) = of(small(methods=["random landmarks"]), "random landmarks", width=8, head="head 0")
    q, k, _ = (x[0] for x in heads())
    a, b = scaled("unit", q, k)
    phi = st.feature_maps()["random landmarks"]("exp", D, 8).fit(a, b).draw(D, 0)
    of_rows = 2 * (phi.multiply_adds + 8 * (E + 1))
    assert result.multiply_adds == pytest.approx(of_rows + (8 * 8 * (D + 1) + 5.5 * 8**3) / N, rel=1e-12)


def test_what_is_fitted_to_a_head_is_counted_and_what_is_drawn_is_not():
    methods = ["fixed counts, Rademacher", "positive, tilted", "positive, orthogonal"]
    comparison = small(*heads(1), methods=methods, widths=[16])
    q, k, _ = (x[0] for x in heads(1))
    a, b = scaled("unit", q, k)
    law = st.feature_maps()[methods[0]]("exp", D, 16).fit(a, b)
    phis = [law.draw(D, stream(0, "compare", "unit", "exp", methods[0], "16", "head 0", str(i))) for i in range(3)]
    of_rows = np.mean([2 * (phi.multiply_adds + phi.merged(a[:1]).shape[-1] * (E + 1)) for phi in phis])
    (fixed,) = of(comparison, methods[0], width=16)
    pairs = 4096 * (6 * D + 8 * len(law.degrees.counts))
    assert fixed.multiply_adds == pytest.approx(of_rows + pairs / N, rel=1e-12)
    (tilted,), (plain,) = (of(comparison, name, width=16) for name in methods[1:])
    assert tilted.multiply_adds == plain.multiply_adds + 2 * 2 * D


def test_queries_and_keys_that_are_not_as_many_are_both_counted():
    comparison = small(*heads(1, n=20, m=60), methods=["Taylor, degree 1"])
    (result,) = of(comparison, "Taylor, degree 1", width=8)
    phi = st.TaylorFeatures("exp", 1, D).draw(D, 0)
    assert result.multiply_adds == (20 + 60) * (phi.multiply_adds + (1 + D) * (E + 1)) / 20
    assert comparison.targets[0].multiply_adds == 60 * (D + 1 + E + 1)


def test_a_budget_gives_the_largest_width_that_fits():
    comparison = small(*heads(1), methods=METHODS, widths=[8, 32, 64])
    budget = {one.budget for one in comparison.targets if one.setting in ("raw", "unit", "released")}
    assert len(budget) == 1
    (limit,) = budget
    reference = np.mean([one.multiply_adds for one in of(comparison, "random Maclaurin", width=32)])
    assert 0.5 * reference < limit < 2 * reference
    rng, law = stream(0, "compare", "budget", "32"), st.RandomMaclaurin("exp", 32)
    phis = [law.draw(D, rng) for _ in range(64)]
    costs_of = [2 * (phi.multiply_adds + phi.merged(np.ones((1, D))).shape[-1] * (E + 1)) for phi in phis]
    assert limit == pytest.approx(np.mean(costs_of), rel=1e-12)
    fitting = [one for one in comparison.results if one.basis == "multiply-adds"]
    assert {one.method for one in fitting} == set(METHODS)
    assert all(one.multiply_adds <= limit for one in fitting)
    for name in ("positive, orthogonal", "trigonometric"):
        (result,) = of(comparison, name, basis="multiply-adds")
        wider = small(*heads(1), methods=[name], widths=[result.width + 8])
        assert result.width % 8 == 0
        assert of(wider, name)[0].multiply_adds > limit
    (taylor,) = of(comparison, "Taylor, degree 1", basis="multiply-adds")
    assert (taylor.width, taylor.features) == (1 + D, 1 + D)


class Drawn:
    """A map made of a function of tokens."""

    shape, radius = (), math.inf

    def __init__(self, function, dim: int) -> None:
        self.function, self.dim, self.n_features, self.multiply_adds = function, dim, 4, 4 * dim

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.function(x)


class Law:
    n_features = 4

    def __init__(self, function) -> None:
        self.function = function

    def draw(self, dim: int, rng: object) -> Drawn:
        return Drawn(self.function, dim)


def planted(function, **options: object) -> Comparison:
    maps = {"planted": lambda kernel, dim, n_features: Law(function)}
    return small(*heads(1), methods=["planted"], maps=maps, widths=[8], **options)


def test_a_map_of_zeros_has_no_error_and_no_skill():
    comparison = planted(lambda x: np.zeros((len(x), 4)))
    (result,) = of(comparison, "planted")
    assert result.errors == (None, None, None)
    assert (result.error, result.skill, result.interval) == (None, None, (None, None))
    said = comparison.sentences()["unit exp"]
    assert said.endswith("with kernel exp, planted of up to 4 features or landmarks is no better than the means of V.")
    assert "undefined" in comparison.table()


def test_a_map_that_ignores_its_token_is_no_better_than_the_mean():
    comparison = planted(lambda x: np.ones((len(x), 4)))
    (result,) = of(comparison, "planted")
    (mean,) = of(comparison, "mean of the values")
    assert result.error == pytest.approx(mean.error, rel=1e-12)
    best = min(one.error for name in MEANS for one in of(comparison, name))
    assert result.skill == pytest.approx(min(0.0, 1 - mean.error / best), rel=1e-9, abs=1e-12)
    assert result.nonpositive == 0
    assert any("unit exp, head 0: the error is that of the mean" in one and one.endswith("for planted.") for one in comparison.remarks())  # fmt: skip


def test_a_biased_map_has_negative_skill():
    comparison = planted(lambda x: np.concatenate([np.ones((len(x), 1)), 5 * x[:, :3]], axis=1))
    assert of(comparison, "planted")[0].skill < 0


def test_rows_with_a_denominator_that_is_not_positive_are_counted():
    q, k, _ = (x[0] for x in heads(1))
    a, b = scaled("unit", q, k)
    expected = np.mean(a[:, :2] @ b[:, :2].sum(axis=0) <= 0)
    assert 0 < expected < 1
    assert of(planted(lambda x: x[:, :2]), "planted")[0].nonpositive == pytest.approx(expected)


def test_features_that_overflow_leave_an_error_undefined():
    assert of(planted(lambda x: np.full((len(x), 4), np.inf)), "planted")[0].errors == (None, None, None)
    assert of(planted(lambda x: np.full((len(x), 4), 1e200)), "planted")[0].errors == (None, None, None)


def test_one_undefined_draw_of_three_is_the_largest_of_the_interval():
    result = Result("unit exp", "unit", "exp", "h", "a", "a", 8, "width", 8, 1.0, errors=(0.2, None, 0.1))
    assert (result.error, result.interval) == (0.2, (0.1, None))
    assert Result("", "", "", "", "", "", 8, "width", 8, 1.0, errors=(0.2, None, None)).error is None
    assert (median([3.0, 1.0]), median([1.0, math.inf]), median([math.inf] * 2)) == (2.0, math.inf, math.inf)


def test_a_map_that_refuses_is_noted_and_one_that_fails_is_named():
    def refuse(x: np.ndarray) -> np.ndarray:
        raise ValueError("not today")

    comparison = planted(refuse)
    assert not of(comparison, "planted")
    assert "planted does not answer unit exp: not today" in comparison.notes

    def fail(x: np.ndarray) -> np.ndarray:
        raise KeyError("lost")

    with pytest.raises(CheckError, match="planted on raw exp, head 0: KeyError: 'lost'"):
        planted(fail)


def test_a_map_without_a_cost_enters_by_width_alone():
    class Silent(Law):
        def draw(self, dim: int, rng: object) -> Drawn:
            phi = super().draw(dim, rng)
            del phi.multiply_adds
            return phi

    maps = {"silent": lambda kernel, dim, n_features: Silent(lambda x: np.ones((len(x), 4)))}
    comparison = small(*heads(1), methods=["silent"], maps=maps)
    assert of(comparison, "silent")[0].multiply_adds is None
    assert not of(comparison, "silent", basis="multiply-adds")
    json.loads(comparison.to_json())
    assert "silent" in comparison.table()


def test_a_file_of_your_own_stands_in_the_table_and_travels_to_workers():
    maps = load_maps(Path(__file__).parent / "a_map_of_your_own.py")
    (name,) = maps
    comparisons = [small(maps=maps, methods=[name], workers=workers) for workers in (1, 2)]
    assert name in comparisons[0].table()
    assert of(comparisons[0], name)
    assert stripped(comparisons[0]) == stripped(comparisons[1])
    assert name not in st.feature_maps()


def test_a_law_with_a_fit_is_fitted_to_the_head():
    q, k, v = (x[0] for x in heads())
    a, b = scaled("raw", q, k)
    (result,) = of(small(methods=["positive, tilted"]), "positive, tilted", "raw exp", width=16, head="head 0")
    law = st.feature_maps()["positive, tilted"]("exp", D, 16).fit(a, b)
    rng = stream(0, "compare", "raw", "exp", "positive, tilted", "16", "head 0", "0")
    expected = relative(st.feature_attention(a, b, v, law.draw(D, rng)), st.kernel_attention(a, b, v, "exp"))
    assert result.errors[0] == pytest.approx(expected, rel=1e-9)
    assert result.fit_seconds > 0


def test_a_fit_sees_queries_and_keys_in_this_order_as_the_target_uses_them():
    seen = []

    class Asks:
        def fit(self, q: np.ndarray, k: np.ndarray) -> Law:
            seen.append((q, k))
            return Law(lambda x: np.ones((len(x), 4)))

    small(*heads(1, n=20), methods=["asks"], maps={"asks": lambda kernel, dim, n_features: Asks()}, widths=[8])
    q, k, _ = (x[0] for x in heads(1, n=20))
    for setting in ("raw", "unit", "released"):
        a, b = scaled(setting, q, k)
        assert any(len(x) == 20 and np.allclose(x, a) and np.allclose(y, b) for x, y in seen)


def test_landmarks_that_are_too_many_do_not_enter():
    comparison = small(methods=["random landmarks", "Nyströmformer"], widths=[20, 24])
    assert {one.width for one in of(comparison, "random landmarks")} == {20}
    assert {one.width for one in of(comparison, "Nyströmformer", "raw exp")} == {20}


def test_times_are_of_the_first_head_alone(found):
    assert found.timed == "head 0"
    for one in found.results:
        measured = (one.seconds is not None, one.peak_bytes is not None)
        assert measured == (one.head == "head 0",) * 2
    assert all((one.seconds is not None) == (one.head == "head 0") for one in found.targets)
    assert of(found, "trigonometric", width=16, head="head 0")[0].peak_bytes > 8 * N * 16


def test_the_document_holds_everything_and_no_number_that_json_lacks(found, tmp_path):
    text = found.to_json(tmp_path / "c.json")
    assert (tmp_path / "c.json").read_text() == text
    document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert document["schema"] == 1
    assert len(document["results"]) == len(found.results)
    assert document["results"][0]["errors"] == list(found.results[0].errors)
    assert set(vars(found.results[0])) == set(document["results"][0])
    assert document["inequality"].count("1 - 2^(1 - 3) = 0.75") == 1
    assert document["multiply_adds"] == costs.RULE
    assert {one["setting"] for one in document["targets"]} == {"raw", "unit", "released", "gaussian"}
    assert document["sentences"] == found.sentences()


def test_the_table_is_sorted_and_ends_each_block_with_its_sentence(found):
    block = next(part for part in found.table().split("\n\n") if part.startswith("unit exp"))
    shown = sorted((row.error, row.method) for row in found.rows() if row.target == "unit exp" and row.basis == "width" and row.width in (16, None))  # fmt: skip
    lines = block.splitlines()[2:-1]
    assert [line.strip().split("  ")[0] for line in lines] == [method for _, method in shown]
    assert block.splitlines()[-1] == found.sentences()["unit exp"]


def test_rows_hold_the_median_and_the_worst_head(found):
    results = of(found, "trigonometric", width=16)
    (row,) = [one for one in found.rows() if (one.target, one.method, one.basis, one.width) == ("unit exp", "trigonometric", "width", 16)]  # fmt: skip
    assert row.error == pytest.approx(np.mean([one.error for one in results]))
    assert row.worst == max(one.error for one in results)
    assert row.skill == pytest.approx(np.mean([one.skill for one in results]))


def test_a_row_counts_an_undefined_head_as_the_worst_and_takes_means_and_medians_where_it_says(found):
    (first, second) = of(found, "trigonometric", width=16)
    changed = [
        dataclasses.replace(first, nonpositive=0.5, multiply_adds=10.0, features=10, skill=0.5),
        dataclasses.replace(second, nonpositive=0.0, multiply_adds=30.0, features=20, skill=None),
    ]
    (row,) = dataclasses.replace(found, results=tuple(changed)).rows()
    assert (row.nonpositive, row.multiply_adds, row.features) == (0.25, 20.0, 15)
    assert (row.skill, row.heads, row.wins, row.better) == (None, 2, 1, False)


def test_the_weighted_mean_has_the_weights_of_the_kernel_of_its_target():
    comparison = small(*heads(1), kernels=["inv"], methods=["Taylor, degree 1"])
    q, k, v = (x[0] for x in heads(1))
    a, b = scaled("unit", q, k)
    answer = st.kernel_attention(a.mean(axis=0, keepdims=True), b, v, "inv")
    (result,) = of(comparison, "weighted mean of the values", "unit inv")
    exact = st.kernel_attention(a, b, v, "inv")
    assert result.error == pytest.approx(relative(np.broadcast_to(answer, exact.shape), exact), rel=1e-9)


def row(method: str, wins: int, width: int = 8, family: str = "a", heads: int = 1, skill: float = 0.0) -> Row:
    return Row(
        "raw exp", "raw", "exp", method, family, width, "width", width, 1.0, 0.5, 0.5, skill, 0.0, None, None, None, heads, wins
    )  # fmt: skip


def test_the_sentence_says_who_is_no_better_than_the_means():
    start = "On these heads, as trained, with kernel exp, "
    base = row("mean", 0, family="baseline")
    assert sentence("raw exp", [base, row("a", 0), row("b", 0)]) == (
        f"{start}none of 2 methods of up to 8 features or landmarks is better than the means of V."
    )
    assert sentence("raw exp", [base, row("a", 1), row("b", 0), row("b", 1, 16)]) == (
        f"{start}each of 2 methods of up to 16 features or landmarks is better than the means of V."
    )
    assert sentence("raw exp", [base, row("a", 1), row("b, c", 0), row("d", 0)]) == (
        f"{start}2 of 3 methods of up to 8 features or landmarks are no better than the means of V: b, c; d."
    )
    assert sentence("raw exp", [base]) == f"{start}no method was measured beside the means of V."


def test_the_sentence_counts_heads_and_half_of_them_are_not_most():
    start = "On these heads, as trained, with kernel exp, "
    rows = [row("a", 5, heads=8), row("b", 4, heads=8, skill=0.2)]  # whatever the median of the skill is
    assert sentence("raw exp", rows) == (
        f"{start}1 of 2 methods of up to 8 features or landmarks is no better than the means of V on half of the heads or more: b."
    )
    assert sentence("raw exp", rows[:1]).endswith(
        "a of up to 8 features or landmarks is better than the means of V on most heads."
    )
    assert sentence("raw exp", [row("b", 8, heads=8), *rows[:1]]).endswith(
        "is better than the means of V on most heads."
    )
    assert sentence("raw exp", [row("b", 4, heads=8), row("c", 0, heads=8)]).endswith(
        "none of 2 methods of up to 8 features or landmarks is better than the means of V on most heads."
    )


def test_remarks_name_what_is_fitted_and_what_costs_more_than_exact_attention_against_any_target(found):
    assert not any(one.startswith("Fitted") for one in found.remarks())
    comparison = small(*heads(1), methods=["positive, tilted", "trigonometric"])
    (fitted,) = (one for one in comparison.remarks() if one.startswith("Fitted"))
    assert "anything is drawn: positive, tilted. That is in their multiply-adds and times" in fitted
    dear = {one.method: one.multiply_adds for one in comparison.results if one.method == "trigonometric"}
    exact = comparison.targets[0].multiply_adds
    raised = [
        dataclasses.replace(one, multiply_adds=exact - (one.target != "raw exp")) if one.method in dear else one
        for one in comparison.results
    ]
    said = [one for one in dataclasses.replace(comparison, results=tuple(raised)).remarks() if "in brackets" in one]
    assert len(said) == 1
    assert "trigonometric (" in said[0]
    assert said[0].startswith(f"Exact attention takes {exact:,.0f} multiply-adds")


def test_one_token_leaves_nothing_to_tell_a_method_from_the_means():
    comparison = small(*heads(1, n=1, m=1))
    divided = [one for one in comparison.results if one.setting != "gaussian"]
    assert max(one.error for one in divided) < 1e-12
    assert {one.skill for one in divided} == {0.0}
    assert comparison.sentences()["unit exp"].endswith(
        "none of 4 methods of up to 16 features or landmarks is better than the means of V."
    )
    assert not any("the error is that of the mean" in one for one in comparison.remarks())


def test_gaussian_weights_that_overflow_are_undefined_for_what_they_are():
    q, k, v = heads(1)
    comparison = small(1e90 * q, 1e90 * k, v, methods=["trigonometric, Gaussian", "Taylor, degree 1"])
    assert of(comparison, "Taylor, degree 1")
    assert all("radius" not in one.undefined for one in comparison.targets)


def test_what_is_not_random_is_drawn_once_whatever_the_numbers_of_queries_and_keys():
    (result,) = of(small(*heads(1, n=3, m=20), methods=["Taylor, degree 1"]), "Taylor, degree 1", width=8)
    assert len(result.errors) == 1


def test_each_time_is_that_of_its_own_method_and_the_least_of_its_runs(monkeypatch):
    clock = sys.modules[clocked.__module__]
    monkeypatch.setattr(clock, "take_turns", lambda runs: [(9.0, float(i), 8.0) for i in range(len(runs))])
    comparison = small(*heads(1), methods=["trigonometric"])
    assert {one.seconds for one in comparison.targets} == {0.0}
    assert [one.seconds for one in comparison.results if one.target == "unit exp"] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_trigh_is_exp_and_said_once():
    comparison = small(kernels=["trigh", "exp"], methods=["Taylor, degree 1"])
    assert {one.kernel for one in comparison.targets} == {"exp", "gaussian"}
    assert comparison.notes == ("trigh is sinh + cosh = exp: measured as exp",)


def bad_token() -> list[np.ndarray]:
    q, k, v = heads()
    k[1, 3] = 0.25
    return [q, k, v]


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ([], {"kernels": ["exp", "cosh"]}, "kernels: expected some of exp, .*, found 'cosh'"),
        ([], {"kernels": "exp"}, "kernels: expected a list, found 'exp'"),
        ([], {"widths": [8, 0]}, "widths: expected an int >= 1, found 0"),
        ([], {"widths": [8.5]}, "widths: expected an int >= 1, found 8.5"),
        ([], {"widths": []}, "widths: expected at least one, found none"),
        ([], {"widths": 8}, "widths: expected a list, found 8"),
        ([], {"draws": 0}, "draws: expected an int >= 1, found 0"),
        ([], {"seed": -1}, "seed: expected an int >= 0"),
        ([], {"workers": 0}, "workers: expected an int >= 1"),
        ([], {"methods": ["Taylor"]}, "methods: expected some of mean of the values; .*Taylor, degree 1.*found 'Taylor'"),
        ([*heads()[:2], None], {}, "v: expected q, k and v, or none of them, found None"),
        ([x[0] for x in heads()], {}, r"q, k, v: q has shape \(40, 6\), expected \(heads, tokens, width\)"),
        ([*heads()[:2], heads(m=30)[2]], {}, "q, k, v: .* do not fit"),
        ([heads()[0] * np.nan, *heads()[1:]], {}, "q, k, v: q holds nan at index"),
        (bad_token(), {}, "k of head 1: token .* is constant"),
        (["text", *heads()[1:]], {}, "q: expected real numbers"),
    ],
)  # fmt: skip
def test_bad_input_is_named(arrays, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(*arrays, **options)


def test_a_map_wider_than_every_width_asked_for_enters_at_its_own(rng):
    q, k, v = rng.normal(size=(3, 1, 16, 4))
    found = st.compare(
        q, k, v, kernels=["exp"], widths=[8], methods=["Taylor, degree 1", "Taylor, degree 2"], workers=1
    )
    widths = {(one.method, one.width, one.features) for one in found.results if one.basis == "width" and one.features}
    assert widths == {("Taylor, degree 1", 8, 5), ("Taylor, degree 2", None, 15)}
