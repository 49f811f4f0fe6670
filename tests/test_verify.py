"""The main job: every proposition as expected, every mutant refuted, the same document every time."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
import threadpoolctl

import schoenbat_theory as st
from schoenbat_theory.cells import ALPHA_PARTS, CheckError
from schoenbat_theory.loading import load_propositions
from schoenbat_theory.sampling import stream
from schoenbat_theory.verify import builtin_propositions

PROPOSITIONS = [p for group in builtin_propositions().values() for p in group]


def comparable(report: st.Report) -> dict[str, Any]:
    """The JSON document without what may differ: seconds and environment; strict about NaN and infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in the JSON document")

    document = json.loads(report.to_json(), parse_constant=refuse)
    del document["environment"]
    for p in document["propositions"]:
        del p["seconds"]
        for evidence in p["evidence"]:
            del evidence["seconds"]
    return document


@pytest.fixture(scope="module")
def whole() -> st.Report:
    return st.verify(workers=2)


@pytest.fixture(scope="module")
def outcomes(whole: st.Report) -> dict[str, Any]:
    return {outcome.proposition.id: outcome for outcome in whole.outcomes}


def test_the_main_job_ends_as_expected(whole: st.Report) -> None:
    assert whole.status == "as-expected"
    assert whole.exit_code == 0
    assert [outcome.proposition for outcome in whole.outcomes] == PROPOSITIONS


@pytest.mark.parametrize("proposition", PROPOSITIONS, ids=lambda p: p.id)
def test_the_verdict_is_the_expected_one_and_every_mutant_is_refuted(
    proposition: st.Proposition, outcomes: dict[str, Any]
) -> None:
    outcome = outcomes[proposition.id]
    assert outcome.verdict == proposition.expected
    assert outcome.mutants
    assert [mutant.verdict for mutant in outcome.mutants] == ["refuted"] * len(outcome.mutants)


@pytest.mark.parametrize("proposition", PROPOSITIONS, ids=lambda p: p.id)
def test_every_leg_that_decides_agrees_with_the_expected_verdict(
    proposition: st.Proposition, outcomes: dict[str, Any]
) -> None:
    """Else an exact leg that uses no library code would refute a false claim, and hide a broken library."""
    agrees = {"refuted": {"refuted"}, "vacuous": {"vacuous", "proved", "consistent"}}
    found = {e.verdict for e in outcomes[proposition.id].evidence} - {None}
    assert found <= agrees.get(proposition.expected, {"proved", "consistent"})


@pytest.mark.parametrize("proposition", PROPOSITIONS, ids=lambda p: p.id)
def test_no_expected_verdict_rests_on_an_asymptotic_interval_alone(
    proposition: st.Proposition, outcomes: dict[str, Any]
) -> None:
    assert any(e.guaranteed and e.verdict not in (None, "undecided") for e in outcomes[proposition.id].evidence)


@pytest.mark.parametrize("proposition", PROPOSITIONS, ids=lambda p: p.id)
def test_each_proposition_spends_at_most_its_share_of_alpha(
    proposition: st.Proposition, outcomes: dict[str, Any], whole: st.Report
) -> None:
    spent = sum(evidence.alpha for evidence in outcomes[proposition.id].evidence)
    assert spent <= whole.alpha / ALPHA_PARTS * (1 + 1e-12)


def test_data_legs_cover_every_shipped_head(outcomes: dict[str, Any]) -> None:
    names = [head.name for head in st.shipped_heads()]
    for proposition_id in ("P05", "P09", "P16", "P19"):
        data = [e for e in outcomes[proposition_id].evidence if e.kind == "data"]
        assert list(dict.fromkeys(e.name.rpartition(": ")[2] for e in data)) == names
        assert all(e.verdict is None for e in data)


def test_the_numbers_on_activations_are_each_of_a_shipped_head(whole: st.Report) -> None:
    """Else the table of real activations would mix in what was measured on other points."""
    names = {head.name for head in st.shipped_heads()}
    assert {e.name.rpartition(": ")[2] for e in whole.evidence if e.kind == "data"} == names


def test_one_worker_and_two_give_the_same_document(whole: st.Report) -> None:
    assert comparable(st.verify(workers=1)) == comparable(whole)


def test_one_id_alone_gives_what_it_gives_within_the_whole(whole: st.Report) -> None:
    alone = comparable(st.verify("P09R", workers=1))["propositions"]
    within = [p for p in comparable(whole)["propositions"] if p["id"] in ("P09", "P09R")]
    assert alone == within


CHECKS = [(p, kind, check) for p in PROPOSITIONS for kind in ("checks", "mutants") for check in getattr(p, kind)]


@pytest.mark.parametrize(("proposition", "kind", "check"), CHECKS, ids=[f"{p.id} {c.__name__}" for p, _, c in CHECKS])
def test_every_check_says_the_same_on_a_library_that_refuses_numpy(
    proposition: st.Proposition, kind: str, check: Any
) -> None:
    """A small budget on array-api-strict's second device, the stand-in for a GPU, and on NumPy."""
    device = array_api_strict.Device("device1")
    backends = [np.asarray, lambda x: array_api_strict.asarray(np.asarray(x), device=device)]
    found = []
    for asarray in backends:
        rng = stream(0, proposition.id, kind, check.__name__)
        with threadpoolctl.threadpool_limits(1):
            evidence = check(
                st.Cell(rng, 1e-5, draws=1 << 13, repeats=4, heads=st.shipped_heads()[:1], asarray=asarray)
            )
        found.append([evidence] if isinstance(evidence, st.Evidence) else list(evidence))
    for one, other in zip(*found, strict=True):
        assert one.verdict == other.verdict
        if one.measured is not None:
            # Different summation orders of at most 2^13 x 512 terms, relative to means of the size measured.
            assert other.measured == pytest.approx(one.measured, rel=2.0**-30, abs=2.0**-30)


def test_another_seed_gives_other_numbers_and_the_same_verdict() -> None:
    first, second = (st.verify("P05", seed=seed, workers=1) for seed in (0, 1))
    assert comparable(first)["propositions"] != comparable(second)["propositions"]
    assert second.status == "as-expected"


def test_naming_a_claim_brings_its_repair() -> None:
    assert [o.proposition.id for o in st.verify("P07", workers=1).outcomes] == ["P07", "P07R"]


def make(verdicts: list[str | None], expected: str = "proved", mutant: str = "refuted") -> st.Proposition:
    def check_of(index: int, verdict: str | None) -> Any:
        def check(cell: st.Cell) -> st.Evidence:
            return st.Evidence(verdict, "data" if verdict is None else "exact")

        check.__name__ = f"check_{index}"
        return check

    checks = [check_of(i, verdict) for i, verdict in enumerate(verdicts)]
    return st.Proposition("X1", "title", "$1$", (), "here", expected, checks, [check_of(99, mutant)])


@pytest.mark.parametrize(
    ("proposition", "status", "code"),
    [
        (make(["proved"]), "as-expected", 0),
        (make(["refuted"]), "contradicted", 1),
        (make(["consistent"]), "contradicted", 1),
        (make(["undecided"]), "undecided", 3),
        (make(["undecided"], expected="undecided"), "as-expected", 0),
        (make(["proved"], mutant="consistent"), "undecided", 3),
        (make(["refuted"], expected="refuted"), "as-expected", 0),
    ],
    ids=["as declared", "refuted", "weaker", "undecided", "declared undecided", "escaped mutant", "declared refuted"],
)
def test_the_status_follows_from_the_verdicts(proposition: st.Proposition, status: str, code: int) -> None:
    report = st.verify([proposition], workers=1)
    assert (report.status, report.exit_code) == (status, code)


def test_a_contradiction_wins_over_an_undecided_proposition() -> None:
    two = [make(["undecided"]), st.Proposition("X2", "t", "s", (), "here", "proved", make(["refuted"]).checks)]
    assert st.verify(two, workers=1).exit_code == 1


def test_an_escaped_mutant_is_named() -> None:
    report = st.verify([make(["proved"], mutant="consistent")], workers=1)
    assert "check 99" in report.table()
    assert report.evidence[0].verdict == "proved"


def test_a_users_file_runs_in_workers_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(README_PROPOSITION)
    first, second = (st.verify([str(file)], workers=workers) for workers in (1, 2))
    assert first.status == "as-expected"
    assert comparable(first) == comparable(second)


README = (Path(__file__).parent.parent / "README.md").read_text()
README_PROPOSITION = next(b for b in (part.split("```")[0] for part in README.split("```python\n")) if "MINE =" in b)


def test_a_check_that_fails_with_an_error_is_named() -> None:
    def broken(cell: st.Cell) -> st.Evidence:
        raise ZeroDivisionError("no")

    p = st.Proposition("X1", "title", "$1$", (), "here", "proved", [broken])
    with pytest.raises(CheckError, match=r"X1.*broken.*ZeroDivisionError: no"):
        st.verify([p], workers=1)


def nothing(cell: st.Cell) -> Any:
    return []


def forgot(cell: st.Cell) -> Any:
    st.decide(True, because="never returned")


def words(cell: st.Cell) -> Any:
    return "proved"


def mixed(cell: st.Cell) -> Any:
    return [st.observe(measured=1.0), 0.5]


def leaves(cell: st.Cell) -> Any:
    raise SystemExit(0)


def fails_late(cell: st.Cell) -> Iterator[st.Evidence]:
    yield st.observe(measured=1.0)
    raise ZeroDivisionError("late")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (nothing, r"'nothing': expected Evidence or a non-empty sequence of it, found \[\]"),
        (forgot, "'forgot': expected Evidence .* found None"),
        (words, "'words': expected Evidence .* found 'proved'"),
        (mixed, "'mixed': expected Evidence .* found 0.5"),
        (leaves, "'leaves': SystemExit: 0"),
        (fails_late, "'fails late': ZeroDivisionError: late"),
    ],
)
@pytest.mark.parametrize("kind", ["check", "mutant"])
def test_what_finds_no_evidence_is_an_error_and_never_a_success(wrong: Any, message: str, kind: str) -> None:
    good = make(["proved"]).checks[0]
    checks, mutants = ([wrong], []) if kind == "check" else ([good], [wrong])
    with pytest.raises(CheckError, match=f"^proposition X1, {kind} {message}"):
        st.verify([st.Proposition("X1", "t", "s", (), "here", "proved", checks, mutants)], workers=1)


def test_a_check_may_yield_its_evidence_and_runs_inside_the_limits() -> None:
    def threads(cell: st.Cell) -> Iterator[st.Evidence]:
        for library in threadpoolctl.threadpool_info():
            yield st.decide(library["num_threads"] == 1, because="threadpoolctl")

    assert st.verify([st.Proposition("X1", "t", "s", (), "here", "proved", [threads])], workers=1).exit_code == 0


def test_numpy_scalars_reach_the_document_as_numbers() -> None:
    def scalars(cell: st.Cell) -> st.Evidence:
        whole, real = np.int64(3), np.float64(0.5)
        return st.Evidence(
            "proved", "exact", draws=whole, comparisons=whole, measured=real, alpha=real, guaranteed=whole > 2
        )

    report = st.verify([st.Proposition("X1", "t", "s", (), "here", "proved", [scalars])], workers=1)
    assert report.alpha_spent == (0.5, 0.0)
    assert json.loads(report.to_json())["propositions"][0]["evidence"][0]["draws"] == 3


SIBLING = """
from __future__ import annotations
import dataclasses
import schoenbat_theory as st
from beside_{tag} import VALUE

@dataclasses.dataclass
class Pair:
    value: int

def equal(cell):
    from later_{tag} import SAME
    return st.decide(Pair(VALUE) == Pair(SAME), because="{tag}")

closures = [lambda cell: st.decide(Pair(VALUE).value == {value}, because="a closure")]
A = st.Proposition("U{value}", "t", "s", (), "here", "proved", [equal, *closures])
"""


def file_with_siblings(folder: Path, tag: str, value: int) -> Path:
    folder.mkdir()
    for name, attribute in ((f"beside_{tag}", "VALUE"), (f"later_{tag}", "SAME")):
        (folder / f"{name}.py").write_text(f"{attribute} = {value}\n")
    (folder / "mine.py").write_text(SIBLING.format(tag=tag, value=value))
    return folder / "mine.py"


@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_one_stem_import_their_siblings_and_define_dataclasses(tmp_path: Path, workers: int) -> None:
    files = [file_with_siblings(tmp_path / f"f{i}", f"t{workers}{i}", 10 * workers + i) for i in range(2)]
    assert st.verify(files, workers=workers).status == "as-expected"
    assert st.verify(load_propositions(files[0]), workers=workers).status == "as-expected"
    assert not list(tmp_path.rglob("mine*.pyc"))


def test_an_edited_file_is_read_anew_in_workers_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(README_PROPOSITION)
    assert st.verify(file, workers=2).status == "as-expected"
    old = load_propositions(file)
    file.write_text(README_PROPOSITION.replace('"consistent"', '"refuted"'))
    assert st.verify(file, workers=2).status == "contradicted"
    assert st.verify(old, workers=2).status == "as-expected"


def test_a_check_that_cannot_travel_is_named() -> None:
    def locked(cell: st.Cell, lock: Any = threading.Lock()) -> st.Evidence:  # noqa: B008
        return st.decide(lock is not None, because="a lock")

    p = st.Proposition("X1", "t", "s", (), "here", "proved", [locked, *make(["proved"]).checks])
    with pytest.raises(CheckError, match=r"X1, check 'locked': cannot be sent to a worker, .*workers=1"):
        st.verify([p], workers=2)
    assert st.verify([p], workers=1).status == "as-expected"


def test_a_path_object_names_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(README_PROPOSITION)
    assert st.verify(tmp_path / "mine", workers=1).status == "as-expected"


def test_seed_alpha_and_workers_may_be_numpy_numbers() -> None:
    report = st.verify("P01", seed=np.int64(1), alpha=np.float32(0.5), workers=np.int8(1))
    assert json.loads(report.to_json())["seed"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids_or_propositions": 1},
        {"ids_or_propositions": ["P01", 1]},
        {"alpha": "a"},
        {"seed": "0"},
        {"workers": "2"},
        {"qkv": 1},
        {"ledger": 1},
        {"resume": "yes"},
    ],
)
def test_arguments_of_the_wrong_type_are_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=rf"^{next(iter(arguments))}: expected"):
        st.verify(**arguments)


def test_the_summary_says_what_the_error_rate_is_of(whole: st.Report) -> None:
    last = whole.summary()[-1]
    assert last.startswith("Probability of a wrong sampled verdict, by the union bound: at most ")
    assert "given their variances and bounds" in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids_or_propositions": "P99"}, "P99"),
        ({"ids_or_propositions": []}, "no proposition"),
        ({"ids_or_propositions": ["no_such_file.py"]}, "no such file"),
        ({"budget": "huge"}, "budget"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed: expected an int >= 0, found 0.5"),
        ({"alpha": 0.0}, "alpha"),
        ({"workers": 0}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"resume": True}, "resume: expected a ledger"),
        ({"backend": "abacus"}, "backend"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        st.verify(**arguments)


def test_a_file_without_propositions_or_with_a_syntax_error_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(ValueError, match=r"leaves\.py: cannot be imported, SystemExit: 0"):
        load_propositions(tmp_path / "leaves.py")
    with pytest.raises(ValueError, match="defines no Proposition at its top level"):
        load_propositions(tmp_path / "empty.py")
    with pytest.raises(ValueError, match="SyntaxError"):
        load_propositions(tmp_path / "broken.py")


def test_a_report_shows_itself_without_script(whole: st.Report) -> None:
    page = whole._repr_html_()
    assert "P09R" in page
    assert "<script" not in page
