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
    ],
)
def test_a_malformed_proposition_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        proposition(**changes)


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
