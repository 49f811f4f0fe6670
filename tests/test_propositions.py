"""Evidence, propositions, and how verdicts combine."""

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.propositions import VERDICTS, combine, json_number


def holds(cell: st.Cell) -> st.Evidence:
    return st.decide(True, because="algebra")


def fails(cell: st.Cell) -> st.Evidence:
    return st.decide(False, because="algebra")


def proposition(**changes: object) -> st.Proposition:
    fields = {
        "id": "X1",
        "title": "a title",
        "statement": "$1 = 1$",
        "hypotheses": (),
        "source": "here",
        "expected": "proved",
        "checks": [holds],
        "mutants": [fails],
    }
    return st.Proposition(**{**fields, **changes})


def test_one_refutation_outweighs_everything() -> None:
    assert combine([*VERDICTS]) == "refuted"


def test_a_proposition_is_as_strong_as_its_weakest_check() -> None:
    assert combine(["proved", "proved"]) == "proved"
    assert combine(["proved", "consistent"]) == "consistent"
    assert combine(["consistent", "vacuous"]) == "vacuous"
    assert combine(["vacuous", "undecided"]) == "undecided"


def test_data_decides_nothing() -> None:
    assert st.observe(measured=1.0).verdict is None
    assert combine([None, "proved"]) == "proved"
    assert combine([None]) == "undecided"


def test_a_search_is_never_a_proof() -> None:
    assert st.decide(True, because="grid", kind="deterministic").verdict == "consistent"
    assert st.decide(True, because="algebra").verdict == "proved"
    with pytest.raises(ValueError, match="kind"):
        st.decide(True, because="a feeling", kind="hunch")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"expected": "true"}, "expected"),
        ({"checks": []}, "checks"),
        ({"checks": [holds, holds]}, "checks"),
        ({"mutants": [holds]}, "mutants"),
        ({"cites": ["kar2012"]}, "proposition X1: cites: .* found 'kar2012'; near: kar2012random"),
        ({"cites": ["@misc{broken"]}, "proposition X1: cites: expected @type"),
    ],
)
def test_a_malformed_proposition_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        proposition(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": 7}, "id: expected a str, found 7"),
        ({"title": None}, "X1: title: expected a str, found None"),
        ({"statement": b"1 = 1"}, "statement: expected a str"),
        ({"hypotheses": "q is fair"}, "hypotheses: expected a sequence of str, not a str, found 'q is fair'"),
        ({"hypotheses": [1]}, "hypotheses"),
        ({"checks": holds}, "checks: expected a sequence of functions"),
        ({"checks": [holds, "fails"]}, "checks"),
        ({"mutants": {fails}}, "mutants"),
        ({"cites": "kar2012random"}, "cites: expected a sequence of str, not a str, found 'kar2012random'"),
        ({"cites": [2012]}, "cites"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_its_proposition(changes: dict[str, object], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        proposition(**changes)


def test_sources_are_keys_of_the_shipped_file_or_entries_of_a_users_own() -> None:
    own = "@misc{me2026, title = {My note}}"
    assert proposition(cites=("kar2012random", own)).cites == ("kar2012random", own)
    assert proposition().cites == ()


def test_an_id_is_not_empty() -> None:
    with pytest.raises(ValueError, match="id"):
        proposition(id=" ")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 1},
        {"note": None},
        {"measured": "0.5"},
        {"predicted": np.ones(3)},
        {"interval": 0.5},
        {"interval": (0, 1, 2)},
        {"interval": ("0", "1")},
        {"alpha": None},
        {"draws": 1.5},
        {"figure": "bars"},
    ],
    ids=lambda changes: "{} = {!r}".format(*next(iter(changes.items()))),
)
def test_a_field_of_evidence_of_the_wrong_type_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=rf"^{next(iter(changes))}: expected"):
        st.Evidence("proved", "exact", **changes)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind: expected one of exact"):
        st.Evidence("proved", "gut feeling")


def test_numpy_scalars_are_numbers() -> None:
    evidence = st.Evidence(
        "proved", "exact", measured=np.float32(0.5), interval=(np.float64(0), np.int64(1)), draws=np.int64(7)
    )
    assert evidence.draws == 7


def test_an_unknown_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match="verdict"):
        st.Evidence("probably", "exact")


def test_changes_merge_into_the_figure() -> None:
    evidence = st.observe(figure={"plot": "bars", "names": []})
    assert evidence.but(figure={"log": True}).figure == {"plot": "bars", "names": [], "log": True}


def test_numbers_that_json_cannot_hold_are_written_out() -> None:
    assert json_number(np.inf) == "inf"
    assert json_number(-np.inf) == "-inf"
    assert json_number(np.nan) is None
    assert json_number(None) is None
    assert json_number(np.float64(0.5)) == 0.5


def test_a_proposition_shows_itself_with_its_text_escaped() -> None:
    page = proposition(title="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
