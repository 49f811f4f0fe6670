"""The page and the pictures of a comparison, from results made by hand."""

import dataclasses
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from schoenbat_theory import plots
from schoenbat_theory.compare import page as pages
from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.figures import overview, scaling_picture, target_picture
from schoenbat_theory.compare.results import Result, Target
from schoenbat_theory.compare.scaling.ablation import ablate_scaling

HEADS = ("layer 2 head 0", "layer 2 <b>head</b> 4", "layer 5 head 8")
METHODS = {  # name: error at 64 features
    "random Maclaurin": 0.16, "random Maclaurin, released": 0.06, "random Maclaurin, H0/1": 0.05, "random Maclaurin, Gaussian": 0.19,
    "random Maclaurin, complex": 0.14, "fixed counts, Rademacher": 0.05, "fixed counts, SRHT": 0.048,
    "fixed counts, complex SRHT": 0.041, "fixed counts, TensorSketch": 0.053, "positive, independent": 0.09,
    "positive, orthogonal": 0.08, "positive, tilted": 0.07, "trigonometric": 0.11, "random landmarks": 0.025,
}  # fmt: skip
BASELINES = {"mean of the values": 0.017, "weighted mean of the values": 0.0142}
TARGETS = ("raw exp", "released exp", "unit inv")


def result(target, head, method, width, errors, **fields):
    setting, kernel = target.split()
    standard = {
        "basis": "width",
        "features": width,
        "multiply_adds": 100.0 * (width or 3),
        "skill": 1 - np.median(errors) / 0.0142,
    }
    family = "baseline" if method in BASELINES else method.partition(",")[0]
    return Result(target, setting, kernel, head, method, family, width, errors=tuple(errors), **{**standard, **fields})


def comparison(targets=TARGETS, heads=HEADS):
    rng = np.random.default_rng(0)
    results = []
    for target in targets:
        for head in heads:
            for method, error in METHODS.items():
                for width in (64, 256, 1024):
                    errors = (
                        (40 if target == "raw exp" else 1) * error * (width / 64) ** -0.5 * rng.uniform(0.8, 1.2, 3)
                    )
                    cost = 1000.0 * width * rng.uniform(0.5, 2)
                    timed = {"seconds": 0.01, "peak_bytes": 123456} if head == heads[0] else {}
                    results.append(
                        result(target, head, method, width, errors, nonpositive=0.25, multiply_adds=cost, **timed)
                    )
                results.append(result(target, head, method, 200, [error], basis="multiply-adds"))
            for method, width, error in (("Taylor, degree 1", 33, 0.006), ("Taylor, degree 2", 561, 0.0004)):
                for asked in (64, 256, 1024):
                    if asked >= width:
                        results.append(result(target, head, method, asked, [error] * 3, features=width))
            results += [
                result(target, head, name, None, [error] * 3, features=None) for name, error in BASELINES.items()
            ]
    places = [Target(*name.split(), head, 8, 8, 4, 4, 0.5, "", 0.9, 100.0) for name in targets for head in heads]
    places.append(Target("raw", "inv", heads[0], 8, 8, 4, 4, 20.0, "the largest |<q, k>| is 20", None, 100.0))
    return Comparison(tuple(results), tuple(places), tuple(heads), heads[0], (64, 256, 1024), 3, 7, "arrays")


@pytest.fixture(scope="module")
def ablation():
    x = np.random.default_rng(0).normal(size=(3, 2, 12, 4))
    return ablate_scaling(*x, width=16, draws=2, workers=1)


@pytest.fixture(scope="module")
def whole():
    return pages.page(comparison())


def text_of(svg):
    return "".join(ElementTree.fromstring(svg).itertext())


def test_the_page_says_what_was_measured_and_links_to_every_target(whole):
    text = whole
    for expected in (
        "3 heads",
        "seed 7",
        "Widths 64, 256, 1024",
        "multiply-adds",
        "probability 1 - 2^(1 - 3)",
        "layer 2 head 0",
        "schoenbat_theory",
    ):
        assert expected in text
    for i in (1, 2, 3):
        assert f'href="#_{i}"' in text
        assert f'id="_{i}"' in text
    assert "the largest |&lt;q, k&gt;| is 20" in text


def test_every_sentence_of_the_comparison_is_on_the_page_twice():
    one = comparison(("released exp",))
    (sentence,) = one.sentences().values()
    assert pages.page(one).count(str(sentence)) == 2


def test_pages_are_self_contained_and_escape_what_is_given(whole, ablation):
    for text in (whole, pages.scaling_page(ablation)):
        for forbidden in ("http", "<script", "xlink", "src=", "@import", "url(//", "<b>head</b>"):
            assert forbidden not in text.replace("url(#", "")
        assert text.count("<!doctype html>") == 1
        assert "$" not in text
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids))


def test_the_same_comparison_gives_the_same_page(whole, ablation):
    assert pages.page(comparison()) == whole
    assert pages.scaling_page(ablation) == pages.scaling_page(ablation)


def test_the_name_of_a_map_is_text():
    one = comparison(("released exp",), HEADS[:1])
    hostile = [
        dataclasses.replace(r, method=r.method.replace("trigonometric", "<i>mine</i> & $x$")) for r in one.results
    ]
    text = pages.page(dataclasses.replace(one, results=tuple(hostile)))
    assert "<i>" not in text
    assert "&lt;i&gt;mine&lt;/i&gt; &amp;" in text


def rows_of(text, heading):
    """Cells of the first table after a heading."""
    table = text[text.index(heading) :].partition("</table>")[0]
    return [re.findall(r'<span class="value">([^<]*)</span>', row) for row in table.split("<tr>")[2:]]


def test_tables_begin_with_the_best_and_hold_the_medians_over_heads():
    one = comparison(("released exp",))
    rows = rows_of(pages.page(one), "At width 256")
    assert rows[0][0] == "Taylor, degree 1"
    assert {"mean of the values", "weighted mean of the values"} < {row[0] for row in rows}
    assert "Taylor, degree 2" not in {row[0] for row in rows}  # 561 features are not within 256
    by_hand = np.median(
        [r.error for r in one.results if (r.method, r.width, r.basis) == ("trigonometric", 256, "width")]
    )
    (found,) = (row for row in rows if row[0] == "trigonometric")
    assert float(found[4]) == pytest.approx(by_hand, rel=0.05)
    equal_cost = rows_of(pages.page(one), "At equal multiply-adds")
    assert {row[2] for row in equal_cost} == {"200", "–"}


def test_heads_are_folded_away_with_their_draws():
    text = pages.page(comparison(("released exp",)))
    details = text[text.index("Head by head") : text.rindex("</details>")]
    assert "layer 5 head 8" in details
    assert re.search(r"0\.0\d+ \(0\.0\d+ – 0\.0\d+\)", details)


def test_another_width_is_taken_where_the_usual_one_was_not_measured():
    one = comparison(("released exp",))
    kept = tuple(r for r in one.results if r.width != 256)
    assert "At width 1,024" in pages.page(dataclasses.replace(one, results=kept, widths=(64, 1024)))


def test_an_error_that_is_undefined_is_a_dash_and_last():
    one = comparison(("raw exp",))
    broken = [
        dataclasses.replace(r, errors=(None,) * 3, skill=None) if r.method == "trigonometric" else r
        for r in one.results
    ]
    text = pages.page(dataclasses.replace(one, results=tuple(broken)))
    assert rows_of(text, "At width 256")[-1][:5:4] == ["trigonometric", "–"]


def test_both_pictures_of_a_target_name_every_method_once():
    picture = target_picture(comparison(), "released exp")
    text = text_of(plots.svg(picture))
    for name in (*METHODS, *BASELINES, "Taylor, degree 1", "Taylor, degree 2"):
        assert text.count(name) == sum(name in other for other in (*METHODS, *BASELINES)) or "Taylor" in name
        assert name in text
    cost, width = picture.figure["panels"]
    assert cost["series"]["Taylor, degree 1"]["x"] != width["series"]["Taylor, degree 1"]["x"] == [33]
    assert width["series"]["trigonometric"]["x"] == [64, 256, 1024]
    assert width["levels"] == pytest.approx(BASELINES)
    assert cost["limits"] == {"exact attention": 100.0}


def test_bands_go_from_the_best_head_to_the_worst():
    one = comparison(("released exp",))
    series = target_picture(one, "released exp").figure["panels"][1]["series"]["positive, orthogonal"]
    at_64 = [r.error for r in one.results if (r.method, r.width) == ("positive, orthogonal", 64)]
    assert (series["lower"][0], series["error"][0], series["upper"][0]) == (min(at_64), np.median(at_64), max(at_64))
    assert series["strong"]


def test_what_is_no_better_than_the_best_baseline_is_shaded():
    figure = overview(comparison())
    for ax, panel in zip(plots.plot(figure).figure.axes, figure.figure["panels"], strict=True):
        (shade,) = ax.patches
        low, high = (shade.get_y(), shade.get_y() + shade.get_height())
        assert low == pytest.approx(max(min(panel["levels"].values()), ax.get_ylim()[0]))
        assert high == pytest.approx(ax.get_ylim()[1])


def test_what_is_not_to_be_believed_is_a_dash_in_the_table(ablation):
    rows = rows_of(pages.scaling_page(ablation), "Head by head")
    assert {row.trusted for row in ablation.rows} == {True, False}
    assert [row[5] == "–" for row in rows] == [not row.trusted for row in ablation.rows]


def test_a_line_of_dots_with_missing_numbers_has_no_median(ablation):
    one = scaling_picture(ablation)
    panel = {"title": "", "x_label": "", "groups": {"a": [1, 2, 3], "b": [1, math.inf, 3]}, "log": True, "marked": []}
    ax = plots.plot(dataclasses.replace(one, figure={"plot": "dots", "panels": [panel]}))
    strokes = [line for line in ax.lines if line.get_linewidth() == 1.8]
    assert [list(line.get_xdata()) for line in strokes] == [[2.0, 2.0]]
    assert [text.get_text() for text in ax.texts if "without" in text.get_text()] == ["1 without a number"]


def test_the_overview_needs_both_settings():
    assert overview(comparison()).figure["panels"][1]["title"]
    assert overview(comparison(("released exp",))) is None
    assert "As trained" not in pages.page(comparison(("released exp",)))


def test_the_picture_of_the_ablation_has_a_dot_per_head(ablation):
    for panel in scaling_picture(ablation).figure["panels"]:
        assert {len(values) for values in panel["groups"].values()} == {2}
    *_, left = scaling_picture(ablation).figure["panels"]
    for name, place in {"nothing": "distance", "least with any γ and β ≥ 0": "exact_restored.monotone"}.items():
        assert left["groups"][name] == ablation.values("released", place)
    text = text_of(plots.svg(scaling_picture(ablation)))
    assert "γ and β per channel" in text


def test_the_folder_holds_pages_documents_and_pictures_and_no_older_ones(tmp_path, ablation):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("old")
    paths = pages.save(comparison(), tmp_path, ablation)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {str(path.relative_to(tmp_path)) for path in paths}
    assert found == {
        "compare.json", "compare.html", "scaling.json", "scaling.html", "figures/raw-exp.svg", "figures/released-exp.svg",
        "figures/ranking-raw-exp.svg", "figures/ranking-released-exp.svg",
        "figures/ranking-unit-inv.svg", "figures/overview.svg", "figures/scaling.svg",
    }  # fmt: skip
    assert json.loads((tmp_path / "compare.json").read_text())["seed"] == 7


def test_a_picture_is_drawn_once_for_its_page_and_its_file(tmp_path, ablation, monkeypatch):
    drawn, draw = [], plots.draw
    monkeypatch.setattr(plots, "draw", lambda evidence: drawn.append(evidence.name) or draw(evidence))
    pages.save(comparison(("released exp",)), tmp_path, ablation)
    assert sorted(drawn) == ["pre-scaling and post-scaling", "ranking released exp", "target released exp"]


def test_what_cannot_be_drawn_leaves_the_folder_as_it_was(tmp_path, ablation, monkeypatch):
    (tmp_path / "compare.html").write_text("old")
    monkeypatch.setattr(pages, "scaling_picture", lambda ablation: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pages.save(comparison(), tmp_path, ablation)
    assert [path.name for path in tmp_path.iterdir()] == ["compare.html"]
    assert (tmp_path / "compare.html").read_text() == "old"
