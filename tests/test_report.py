import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import schoenbat_theory as st
from schoenbat_theory import plots
from schoenbat_theory.propositions import Evidence, Proposition
from schoenbat_theory.propositions import observe as data
from schoenbat_theory.report import page, save

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = r"""<script>alert(1)</script> " onload='x' {{ 7 * 7 }} $\text{<script>alert(2)</script>}$ $\href{http://e}{x}$ $\style{background:url(http://e)}{x}$ https://example.org"""


def fair(cell):
    def coin(rng, size):
        return rng.integers(0, 2, size) * 1.0

    return st.check_mean(coin, 0.5, margin=0.02, variance=0.25, alpha=cell.alpha, rng=cell.rng)


def loaded(cell):
    return st.decide(False, because="a coin with $p = 0.6$", measured=0.6, predicted=0.5)


def on_heads(cell):
    figure = {"plot": "bars", "names": ["a", "b"], "series": {"error": [1, 2]}, "y_label": "error"}
    return data(measured=1.2345e-5, note="a number", figure=figure)


COIN = Proposition("X1", "A fair coin", "$E X = 1/2$", ("fair",), "folklore", "consistent", [fair, on_heads], [loaded])
FALSE = Proposition("X2", "A loaded coin", "$p = 1/2$", (), "nobody", "refuted", [loaded])


@pytest.fixture(scope="module")
def report():
    return st.verify([COIN, FALSE], workers=1)


class Nesting(HTMLParser):
    """Collect what is wrong with a page: tags that do not balance, ids that occur twice."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.ids, self.links, self.tags = [], [], [], [], set()
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.wrong += [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value[1:] for name, value in attrs if name == "href" and value.startswith("#")]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")


def test_the_page_shows_verdicts_numbers_and_formulas(report):
    text = page(report)
    for expected in (
        "X1",
        "A fair coin",
        "consistent",
        "refuted",
        "1 of 1",
        "Catoni",
        "1.23 × 10⁻⁵",
        "<math",
        "<svg",
        "seed 0",
    ):
        assert expected in text
    assert "not as expected" not in text
    assert "Every proposition was decided as declared" in text


def test_the_page_is_well_formed_and_its_links_lead_somewhere(report):
    found = Nesting(page(report))
    assert found.wrong == []
    assert len(found.ids) == len(set(found.ids))
    assert set(found.links) <= set(found.ids)


def test_the_page_fetches_nothing_and_runs_nothing(report):
    text = page(report)
    for forbidden in ("http", "<script", "src=", "@import", "url(/", "<link", "<iframe"):
        assert forbidden not in text


def test_the_page_is_the_same_for_the_same_numbers(report):
    def without_time(text):
        return re.sub(r"\d+\.\d s<", "", text)

    assert without_time(page(report)) == without_time(page(st.verify([COIN, FALSE], workers=1)))


def test_hostile_text_stays_text():
    def hostile(cell):
        figure = {"plot": "bars", "names": [HOSTILE], "series": {HOSTILE: [1]}, "y_label": HOSTILE}
        return [
            Evidence("consistent", "exact", name=HOSTILE, note=HOSTILE, inequality=HOSTILE, figure=figure),
            Evidence(None, "data", name=HOSTILE, note=HOSTILE, figure=figure),
        ]

    p = Proposition('X" id="_real', HOSTILE, HOSTILE, (HOSTILE,), HOSTILE, "consistent", [hostile], [hostile_twin])
    text = page(st.verify([p], workers=1))
    found = Nesting(text)
    assert found.wrong == []
    assert "script" not in found.tags
    assert len(found.ids) == len(set(found.ids))
    assert "http" not in text
    assert "{{ 7 * 7 }}" in text
    assert "alert(2)" in text


def hostile_twin(cell):
    return Evidence("consistent", "exact", name=HOSTILE)


def test_a_surprise_an_escaped_mutant_and_an_interruption_are_said():
    wrong = Proposition("X3", "t", "s", (), "none", "proved", [loaded])
    escaped = Proposition("X4", "t", "s", (), "none", "consistent", [fair], [hostile_twin])
    report = st.verify([wrong, escaped], workers=1)
    assert page(report).count("not as expected") == 2
    assert "0 of 1" in page(report)
    report.interrupt()
    assert "Interrupted" in page(report)


UNDRAWABLE = [{"plot": "pie"}, {"plot": "bars", "names": 1, "series": 2, "y_label": 3}]


def undrawable(figure):
    def pie(cell):
        return Evidence("proved", "exact", figure=figure)

    return st.verify([Proposition("X5", "t", "s", (), "none", "proved", [pie, on_heads])], workers=1)


@pytest.mark.parametrize("figure", UNDRAWABLE, ids=["unknown plot", "wrong types"])
def test_a_figure_that_cannot_be_drawn_says_why(figure):
    assert "This figure cannot be drawn" in page(undrawable(figure))


@pytest.mark.parametrize("figure", UNDRAWABLE, ids=["unknown plot", "wrong types"])
def test_a_figure_that_cannot_be_drawn_costs_neither_the_numbers_nor_the_other_figures(tmp_path, figure):
    paths = save(undrawable(figure), tmp_path / "out")
    assert [str(path.relative_to(tmp_path / "out")) for path in paths] == [
        "verify.json",
        "report.html",
        "figures/X5-on-heads.svg",
    ]
    assert all(path.stat().st_size for path in paths)


def test_a_figure_is_drawn_once_for_the_page_and_its_file(tmp_path, report, monkeypatch):
    drawn, draw = [], plots.draw
    monkeypatch.setattr(plots, "draw", lambda evidence: drawn.append(evidence.name) or draw(evidence))
    save(report, tmp_path)
    assert sorted(drawn) == ["fair", "on heads"]
    assert (tmp_path / "report.html").read_text().count("<svg") == 2


def test_a_report_is_saved_afresh_and_leaves_other_files_alone(tmp_path, report):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "P99-old.svg").write_text("<svg/>")
    (tmp_path / "notes.txt").write_text("mine")
    save(report, tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"X1-fair.svg", "X1-on-heads.svg"}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_cannot_be_made_leaves_the_old_report_as_it_was(tmp_path, report, monkeypatch):
    save(report, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fails(report, gallery):
        raise RuntimeError("no page")

    monkeypatch.setattr("schoenbat_theory.report.page", fails)
    with pytest.raises(RuntimeError, match="no page"):
        save(undrawable({"plot": "pie"}), tmp_path)
    assert {path: path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file()} == before
