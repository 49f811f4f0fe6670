"""Chapters of the report: what they show comes from the report or from the record, and what is not there is left out."""

import json
from pathlib import Path

import pytest
from test_report import Nesting

import schoenbat_theory as st
from schoenbat_theory import chapters as module
from schoenbat_theory.benchmark import SCENES
from schoenbat_theory.chapters import chapters, family
from schoenbat_theory.files import slug
from schoenbat_theory.markup import short
from schoenbat_theory.propositions import Proposition, observe
from schoenbat_theory.report import page
from schoenbat_theory.systems import SYSTEMS, Number, Picture, Sentence, System
from schoenbat_theory.timings import Timing, Timings, installed_timings
from schoenbat_theory.verify import builtin_propositions

BARS = {
    "plot": "bars",
    "title": "asked and given",
    "names": ["a", "b"],
    "series": {"error": [1, 2]},
    "y_label": "error",
}
RECORD = Timings(
    {"cpu": "a processor", "cores": 2, "date": "2026-01-01", "tokens": "tokens", "blas": [{"num_threads": 2}]},
    tuple(
        Timing("scene", method, False, n, 2, 2, size, "float32", (seconds * n,), 1000 * n, 0.1, 0.5)
        for n in (8, 16)
        for method, size, seconds in (("fast", 4, 1.0), ("slow", None, 2.0))
    ),
)


def numbers(cell):
    return [observe(name=f"asked: {name}", measured=x, predicted=7.0) for name, x in (("a", 1234.5), ("b", 0.25))]


def pictured(cell):
    return observe(name="features", measured=3.0, figure=BARS)


def proposition(identity, *checks):
    return Proposition(identity, "t", "s", (), "nobody", "proved", [holds, *checks])


def holds(cell):
    return st.decide(True, because="nothing")


SYSTEM = System(
    name="toy",
    title="Toy & sons",
    definition=("It is $x^2$ & more.",),
    propositions=("P90",),
    pictures=(Picture("P90V", "pictured"), Picture("P91", "features")),
    sentences=(
        Sentence("asks %s to %s of %s", (Number("P90V", "asked", min), Number("P90V", "asked"), Number("P90V", "asked", field="predicted"))),
        Sentence("never said: %s", (Number("P91", "asked"),)),
        Sentence("nor this: %s", (Number("P90V", "features", field="predicted"),)),
    ),
    scenes=("scene",),
    compared=(("scene", "fast", "slow"), ("scene", "fast", "absent")),
)  # fmt: skip


@pytest.fixture
def report(monkeypatch):
    monkeypatch.setattr(module, "SYSTEMS", (SYSTEM,))
    monkeypatch.setattr(module, "installed_timings", lambda name: RECORD)
    return st.verify(
        [proposition("P90", numbers), proposition("P90V", numbers, pictured), proposition("P92")], workers=1
    )


def test_a_chapter_holds_its_propositions_with_their_repairs_and_vacuous_bounds(report):
    (chapter,) = chapters(report)
    assert [one.proposition.id for one in chapter.outcomes] == ["P90", "P90V"]


def test_a_sentence_has_the_numbers_of_the_report_and_is_left_out_without_them(report):
    (chapter,) = chapters(report)
    assert chapter.sentences == ["asks 0.250 to 1,234 of 7"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("inf"), "∞"), (float("nan"), "–"), (0.0, "0"), (52, "52"), (1e15, "10¹⁵"), (12882851024755, "1.29 × 10¹³")],
)
def test_a_number_of_any_kind_can_be_said(value, text):
    assert text in short(value)


def test_a_picture_is_that_of_the_named_evidence(report):
    (chapter,) = chapters(report)
    assert [(wanted.proposition, e.figure) for wanted, e in chapter.pictures.values()] == [("P90V", BARS)]


def test_time_memory_and_error_come_from_the_record(report):
    (chapter,) = chapters(report)
    assert [e.name for e in chapter.timed.values()] == ["time against n", "memory against n", "error against n"]
    ((conditions, (said, *_)),) = chapter.comparisons.items()
    assert conditions.startswith(
        "Scene: timed on 2026-01-01 on a processor, 2 cores, BLAS on 2, in float32, d = 2, e = 2, tokens"
    )
    assert said.startswith("At n = 16 fast takes 16 s")


def test_the_page_shows_the_chapter_before_its_propositions(report):
    text = page(report)
    found = Nesting(text)
    assert found.wrong == []
    assert len(found.ids) == len(set(found.ids))
    assert set(found.links) <= set(found.ids)
    assert text.index("Toy &amp; sons") < text.index('<section id="P90"')
    for said in (
        "asks 0.25",
        "At n = 16 fast takes",
        "on a processor",
        'href="#P90V"',
        "Scene: error against n",
    ):
        assert said in text
    for missing in ("never said", "nor this", "no record"):
        assert missing not in text


def test_a_picture_of_a_chapter_stands_there_alone(report):
    text = page(report)
    assert text.count("asked and given") == 1
    assert 'Pictures of P90V: chapter <a href="#_toy">' in text


def test_the_page_is_the_same_for_the_same_report(report):
    assert page(report) == page(report)


def test_no_chapter_for_a_report_without_its_propositions(report):
    report.all_outcomes[:] = report.all_outcomes[2:]
    assert chapters(report) == []
    assert "Toy" not in page(report)


@pytest.mark.parametrize("reason", [None, ValueError("damaged"), OSError("gone")])
def test_without_a_record_the_page_says_which_command_makes_it(report, monkeypatch, reason):
    def none(name):
        if reason is not None:
            raise reason

    monkeypatch.setattr(module, "installed_timings", none)
    (chapter,) = chapters(report)
    assert (chapter.timed, chapter.comparisons) == ({}, {})
    assert "<code>schoenbat-theory bench --out DIR</code>" in page(report)


def test_the_propositions_of_the_systems_exist():
    known = {family(p.id) for group in builtin_propositions().values() for p in group}
    for system in SYSTEMS:
        assert set(system.propositions) <= known


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_number_and_picture_of_a_system_is_in_the_recorded_report(system):
    folder = Path(__file__).parent.parent / "benchmarks" / "verify-quick"
    recorded = {p["id"]: p["evidence"] for p in json.loads((folder / "verify.json").read_text())["propositions"]}
    for number in (number for sentence in system.sentences for number in sentence.numbers):
        named = [e for e in recorded[number.proposition] if number.words in e["name"]]
        assert any(e[number.field] is not None for e in named), number
    drawn = [path.stem for path in (folder / "figures").iterdir()]
    for picture in system.pictures:
        named = [e["name"] for e in recorded[picture.proposition] if picture.words in e["name"]]
        assert any(f"{picture.proposition}-{slug(name).lower()}" in drawn for name in named), picture


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_scene_and_method_of_a_system_is_timed(system):
    for scene, *methods in system.compared:
        assert scene in system.scenes
        assert {method.name for method in SCENES[scene].methods} >= set(methods)
    assert set(system.scenes) <= set(SCENES)
    recorded = installed_timings(system.record)
    assert all(recorded.of(scene) for scene in system.scenes)


def test_systems_have_names_of_their_own_and_formulas_that_close():
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)
    for system in SYSTEMS:
        for paragraph in system.definition:
            assert paragraph.count("$") % 2 == 0
        for sentence in system.sentences:
            assert sentence.words % tuple("x" * len(sentence.numbers))
            assert all(family(number.proposition) in system.propositions for number in sentence.numbers)
