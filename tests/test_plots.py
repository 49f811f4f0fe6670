import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import schoenbat_theory as st
from schoenbat_theory import plots
from schoenbat_theory.markup import decimal
from schoenbat_theory.plots.contest import COLORS, looks, spread_apart
from schoenbat_theory.propositions import Evidence, Proposition, observe
from schoenbat_theory.report import page, save_figures

FIGURES = {
    "sequence": {
        "draws": [8192, 16384], "estimate": [0.49, 0.5], "lower": [-np.inf, 0.49], "upper": [0.53, 0.51],
        "target": 0.5, "margin": 0.02, "label": r"mean of $\phi$ for $5",
    },
    "tail": {
        "rate": [0.1, 0.0, 0.4], "lower": [0.08, 0.0, 0.3], "upper": [0.12, 0.001, 0.5], "bound": [0.4, 0.01, 1e30],
        "x": [32, 64, 128], "x_label": "features $D$",
    },
    "rate": {
        "sizes": [16, 64, 256], "error": [1, 0.25, 0.06], "lower": [0.9, 0.2, 0.05], "upper": [1.1, 0.3, 0.07],
        "exponent": 1.0, "fitted": 1.01, "predicted": [1, 0.25, 0.0625], "baselines": {"plain mean of V": 0.1},
    },
    "weights": {"before": [[0.5, 0.5], [0.9, 0.1]], "after": [[0.6, 0.4], [1.1, -0.1]], "uniform": 0.5},
    "curves": {
        "x": [16, 64, 256], "series": {"bound $": [30, 2, None], "exact": [0.5, 0.1, 0.02]}, "x_label": "features $D$",
        "y_label": "probability", "log_x": True, "log_y": True, "shade": (1, None), "shade_label": "says nothing",
        "lines": {"α": 0.05}, "bands": {"exact": [[0.4, 0.05, 0.01], [0.6, 0.2, 0.03]]},
    },
    "bars": {"names": ["a $", "<b>"], "series": {"error": [1, 2], "baseline": [2, 3]}, "y_label": "error", "log": True},
    "contest": {
        "panels": [{
            "title": "as trained", "x_label": "features", "names": True, "levels": {"mean of V": 0.7}, "ticks": (64, 256),
            "limits": {"exact $": 128},
            "series": {
                "drawn <b>": {"x": [64, 256], "error": [1, 0.5], "lower": [1, None], "upper": [2, 0.6], "strong": True},
                "lost $": {"x": [64, 256], "error": [None, None], "lower": [None, None], "upper": [None, None], "strong": False},
                "full": {"x": [33], "error": [0.1], "lower": [0.1], "upper": [0.1], "strong": False},
            },
        }],
        "families": {"drawn <b>": "random", "lost $": "random", "full": "exact"},
    },
    "dots": {
        "panels": [
            {"title": "$", "x_label": "error", "groups": {"a": [0, 1, 2], "b": [3, np.inf]}, "log": False, "marked": ["b"]},
            {"title": "t", "x_label": "D", "groups": {"<a>": [1, 1e9, 0]}, "log": True, "marked": [], "missing": "lost"},
        ],
    },
    "race": {
        "x": [1024, 4096], "series": {"near <b>": [0.1, 0.4], "exact $": [0.2, None], "no information": [1, 1]}, "x_label": "tokens n",
        "y_label": "seconds", "methods": ["near <b>", "exact $"], "exact": ["exact $"], "said": {"near <b>": "slope 1.0"},
        "bands": {"near <b>": [[0.1, 0.3], [0.2, 0.5]]}, "fits": {"near <b>": [[1024, 4096], [0.1, 0.4]]}, "level": ("as fast", 0.3),
        "turns": {"near <b>": 3000.0},
    },
    "front": {
        "series": {"near <b>": {"x": [1, 2], "y": [0.1, 0.05]}, "exact $": {"x": [4, 16], "y": [0, 0]}}, "levels": [0.2, 0.3],
        "fronts": {8: {"x": [1, 4], "y": [0.1, 0]}, 16: {"x": [2, 16], "y": [0.05, 0]}}, "x_label": "seconds", "y_label": "error",
    },
    "roof": {
        "series": {"near <b>": {"x": [1, 9], "y": [1e9, 2e9]}}, "rate": 1e11, "bandwidth": 1e10, "x_label": "per byte", "y_label": "per second",
    },
}  # fmt: skip


def evidence(kind, name="a check"):
    return Evidence("consistent", "monte-carlo", name=name, figure={"plot": kind, **FIGURES[kind]})


@pytest.mark.parametrize("kind", FIGURES)
def test_every_kind_draws_labels_its_axes_and_leaves_the_style_alone(kind):
    before = dict(matplotlib.rcParams)
    axes = plots.plot(evidence(kind))
    plots.svg(evidence(kind))
    assert dict(matplotlib.rcParams) == before
    assert axes.get_xlabel()
    assert axes.get_ylabel() or kind in ("bars", "dots")  # there the names stand on the axis


@pytest.mark.parametrize("kind", FIGURES)
def test_every_kind_draws_on_given_axes(kind):
    figure = Figure()
    several = {"weights": 2, "contest": 1, "dots": 2}
    ax = figure.subplots(1, several.get(kind, 1), squeeze=False)[0]
    ax, given = (ax, ax[0]) if kind in several else (ax[0], ax[0])
    assert plots.plot(evidence(kind), ax=ax) is given
    figure.canvas.draw()


@pytest.mark.parametrize("kind", FIGURES)
def test_svg_is_inline_repeatable_and_refers_to_nothing_outside(kind):
    text = plots.svg(evidence(kind))
    assert text == plots.svg(evidence(kind))
    for forbidden in ("http", "<script", "<?xml", "<!DOCTYPE", "metadata", "xmlns", "xlink"):
        assert forbidden not in text
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert "a check" in root.get("aria-label")
    ids = {node.get("id") for node in root.iter() if node.get("id")}
    wanted = {node.get("href")[1:] for node in root.iter() if node.get("href", "").startswith("#")}
    assert wanted <= ids


def test_figures_on_one_page_share_no_ids():
    def ids(text):
        return {node.get("id") for node in ElementTree.fromstring(text).iter()} - {None}

    assert ids(plots.svg(evidence("rate"), key="1"))
    assert not ids(plots.svg(evidence("rate"), key="1")) & ids(plots.svg(evidence("rate"), key="2"))


@pytest.mark.parametrize("kind", FIGURES)
def test_the_file_is_the_element_of_the_page_with_a_title_on_white(kind):
    drawing = plots.draw(evidence(kind))
    file, element = ElementTree.fromstring(drawing.file()), ElementTree.fromstring(drawing.element("key"))
    title, ground, *rest = file
    assert title.text == element.get("aria-label")
    assert (ground.get("fill"), ground.get("width"), ground.get("height")) == ("white", "100%", "100%")
    assert file.get("viewBox") == element.get("viewBox")
    assert [len(list(one.iter())) for one in rest] == [len(list(one.iter())) for one in element]
    ids = {node.get("id") for node in file.iter()} - {None}
    wanted = {node.get("href")[1:] for node in file.iter() if node.get("href", "").startswith("#")}
    assert wanted <= ids


def test_a_readers_text_is_text():
    hostile = "<script>alert(1)</script> $x_ costs 5$ https://example.org 漢"
    figure = FIGURES["bars"] | {"names": [hostile, "b"], "series": {hostile: [1, 2]}, "y_label": "$\\bad{$"}
    text = plots.svg(Evidence(None, "data", name=hostile, figure={"plot": "bars", **figure}))
    assert "<script" not in text
    assert "https:" not in text.partition(">")[2]


def test_a_caption_of_its_own_replaces_the_general_one():
    mine = evidence("bars").but(figure={"caption": "Where $D$ is large, <b>nothing</b> is said."})
    assert "Where D is large" in ElementTree.fromstring(plots.svg(mine)).get("aria-label")
    text = page(st.verify([Proposition("X", "t", "s", (), "none", "consistent", [lambda cell: mine])], workers=1))
    assert "is large, &lt;b&gt;nothing&lt;/b&gt; is said." in text
    assert plots.READING["bars"] not in text


def test_only_a_figure_with_a_shaded_region_is_said_to_have_one():
    figure = {"plot": "curves", **FIGURES["curves"]}
    assert "shaded" in plots.reading(figure)
    assert "shaded" not in plots.reading({name: value for name, value in figure.items() if name != "shade"})


def labels(x, y):
    """Tick labels within sight, of a figure with logarithmic axes."""
    figure = {"x": x, "series": {"s": y}, "x_label": "n", "y_label": "y", "log_x": True, "log_y": True}
    ax = plots.plot(observe(name="x", figure={"plot": "curves", **figure}))
    ax.figure.canvas.draw()
    found = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
        found.append([label.get_text() for place, label in ticks if low <= place <= high])
    return found


def test_lengths_are_written_whole():
    assert labels([1024, 4096, 16384, 65536], [1, 2, 3, 4])[0] == ["1,024", "4,096", "16,384", "65,536"]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ((0.02, 50), ["0.1", "1", "10"]),
        ((5e-4, 5), ["10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹"]),
        ((20, 3e4), ["10²", "10³", "10⁴"]),
    ],
)
def test_powers_of_ten_and_plain_numbers_do_not_mix(y, expected):
    assert labels([1, 10], y)[1] == expected


def test_an_unknown_kind_and_missing_numbers_are_named():
    with pytest.raises(ValueError, match="found 'pie'"):
        plots.plot(Evidence(None, "data", figure={"plot": "pie"}))
    with pytest.raises(ValueError, match="found None"):
        plots.plot(Evidence(None, "data"))
    with pytest.raises(ValueError, match="missing bound"):
        plots.plot(Evidence(None, "data", figure={"plot": "tail", "rate": [], "lower": [], "upper": []}))


@pytest.mark.parametrize(
    ("x", "width", "text"),
    [
        (0.12345, 0.003, "0.1235"), (1e-9, 0.1, "1.0 × 10⁻⁹"), (65536.0, None, "65,536"), (9.9999e-7, None, "1 × 10⁻⁶"),
        (float("nan"), 1.0, "–"), (-float("inf"), None, "−∞"), (0.0, 0.1, "0"), (37.5, None, "37.5"), (5e-324, None, "4.941 × 10⁻³²⁴"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_their_uncertainty_allows(x, width, text):
    assert decimal(x, width) == text


def test_figures_are_saved_as_whole_files_with_safe_names(tmp_path):
    def same_name(cell):
        return [evidence("tail", "../x"), evidence("rate", "../x"), observe(name="no figure")]

    p = Proposition("P/5 é", "t", "s", (), "none", "consistent", [same_name])
    paths = save_figures(st.verify([p], workers=1), tmp_path / "new")
    assert [path.name for path in paths] == ["P-5-same-name-x.svg", "P-5-same-name-x-2.svg"]
    root = ElementTree.parse(paths[0]).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("width")


def drawn_text(kind, **changed):
    root = ElementTree.fromstring(plots.svg(Evidence(None, "data", figure={"plot": kind, **FIGURES[kind], **changed})))
    return ["".join(node.itertext()).strip() for node in root.iter("text")]


def test_methods_and_levels_are_named_beside_their_panel_and_lost_ones_are_not():
    found = drawn_text("contest")
    assert {"drawn <b>", "full", "mean of V", "exact $"} <= set(found)
    assert "lost $" not in found
    silent = FIGURES["contest"]["panels"][0] | {"names": False}
    assert "full" not in drawn_text("contest", panels=[silent])


def test_a_method_looks_the_same_whatever_else_is_drawn():
    found = looks({"a": "A", "b": "A", "c": "B"})
    assert len(set(found.values())) == 3
    assert found["a"][1] == found["b"][1] == COLORS[0] != found["c"][1]
    assert found["a"][0] != found["b"][0]


def test_panels_that_share_a_scale_have_one_range_of_errors():
    high = FIGURES["contest"]["panels"][0] | {"levels": {"mean of V": 100.0}}
    figure = {"plot": "contest", **FIGURES["contest"], "panels": [FIGURES["contest"]["panels"][0], high]}
    for shared in (True, False):
        first = plots.plot(Evidence(None, "data", figure=figure | {"shared": shared}))
        assert (first.get_ylim() == first.figure.axes[1].get_ylim()) is shared


def test_names_are_a_line_apart_in_the_order_of_their_errors_and_as_near_as_they_can_be():
    places = spread_apart(np.array([0.0, 0.5, 0.51, 0.52, 1.0]), 0.1, 0.0, 1.0)
    assert places == pytest.approx([0.0, 0.41, 0.51, 0.61, 1.0])
    assert spread_apart(np.full(11, 0.5), 0.2, 0.0, 1.0) == pytest.approx(np.linspace(0, 1, 11))  # no room for more
    assert spread_apart(np.array([0.0, 0.0]), 0.1, 0.0, 1.0) == pytest.approx([0.0, 0.1])


def test_dots_that_cannot_be_drawn_are_counted():
    found = drawn_text("dots")
    assert "1 lost" in found
    assert "1 without a number" in found
