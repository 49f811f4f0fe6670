"""The pytest door: what a user's CI sees of propositions that hold, fail, are unknown or are broken."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import schoenbat_theory as st


def holds(cell: st.Cell) -> st.Evidence:
    return st.decide(True, because="algebra")


def passes_too(cell: st.Cell) -> st.Evidence:
    return st.decide(True, because="algebra")


def sampled(cell: st.Cell) -> st.Evidence:
    return st.check_mean(
        lambda rng, size: rng.random(size), 0.5, margin=0.02, bounds=(0, 1), alpha=cell.alpha, rng=cell.rng
    )


def divides_by_zero(cell: st.Cell) -> st.Evidence:
    return st.decide(1 / 0 == 1, because="algebra")


def is_stopped(cell: st.Cell) -> st.Evidence:
    raise KeyboardInterrupt


def proposition(expected, check, mutants=()):
    return st.Proposition("X1", "a title", "$1 = 1$", (), "here", expected, [check], mutants)


def test_it_returns_the_report(verify_proposition):
    report = verify_proposition("P03")
    assert [outcome.verdict for outcome in report.outcomes] == ["proved"]


def test_it_runs_in_the_process_of_the_test(verify_proposition):
    processes = []

    def records(cell):
        processes.append(os.getpid())
        return st.decide(True, because="algebra")

    verify_proposition(st.Proposition("X2", "a title", "$1 = 1$", (), "here", "proved", [holds, records]))
    assert processes == [os.getpid()]


def test_a_refutation_that_is_expected_passes_with_its_repair(verify_proposition):
    report = verify_proposition(["P07"], seed=1)
    found = {outcome.proposition.id: outcome.verdict for outcome in report.outcomes}
    assert (found["P07"], found["P07R"]) == ("refuted", "consistent")


def test_verdicts_and_settings_become_properties_of_the_test(verify_proposition, request):
    verify_proposition(proposition("consistent", sampled), seed=7, alpha=0.01)
    found = dict(request.node.user_properties)
    assert found["proposition X1"] == "consistent (expected consistent)"
    assert (found["verify seed"], found["verify alpha"]) == ("7", "0.01")
    assert found["verify alpha spent"] == f"{0.01 / 128:.3g} in guaranteed checks, 0 in asymptotic ones"
    assert all(isinstance(value, str) for value in found.values())  # pytest-xdist sends them between processes


def test_another_verdict_fails_with_the_table_and_still_leaves_its_properties(verify_proposition, request):
    with pytest.raises(pytest.fail.Exception) as caught:
        verify_proposition(proposition("refuted", holds))
    first, _, table = str(caught.value).partition("\n\n")
    assert first == "X1 is proved, expected refuted"
    assert "0 of 1 propositions decided as expected (contradicted)" in table
    assert not caught.value.pytrace
    assert ("proposition X1", "proved (expected refuted)") in request.node.user_properties


def test_an_escaped_mutant_fails_and_is_named(verify_proposition):
    with pytest.raises(pytest.fail.Exception, match=r"X1 is undecided, expected proved(.|\n)*not refuted: passes too"):
        verify_proposition(proposition("proved", holds, [passes_too]))


@pytest.mark.parametrize(
    ("what", "settings", "message"),
    [
        ("P99", {}, "unknown proposition 'P99'; known: P01"),
        ("p03", {}, "unknown proposition 'p03'; did you mean P03"),
        ("nowhere.py", {}, "nowhere.py: no such file"),
        ("P03", {"budget": "huge"}, "budget: expected one of"),
        ("P03", {"budgets": "quick"}, "unexpected keyword argument 'budgets'"),
        (3, {}, "ids_or_propositions: expected"),
    ],
)
def test_what_does_not_fit_fails_in_one_sentence(verify_proposition, what, settings, message):
    with pytest.raises(pytest.fail.Exception, match=f"^verify_proposition: .*{message}") as caught:
        verify_proposition(what, **settings)
    assert not caught.value.pytrace
    assert caught.value.__suppress_context__  # else pytest prints the sentence twice


def test_an_error_inside_a_check_keeps_its_traceback(verify_proposition):
    with pytest.raises(RuntimeError, match="proposition X1, check 'divides by zero'") as caught:
        verify_proposition(proposition("proved", divides_by_zero))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_interrupt_ends_pytest(verify_proposition):
    with pytest.raises(KeyboardInterrupt):
        verify_proposition(proposition("proved", is_stopped))


# Seen from outside: a pytest of its own, in a folder of its own, that finds the plugin by its entry point.

USERS_TESTS = """
import pytest
import schoenbat_theory as st

@pytest.mark.parametrize("name", ["P01", "P03"])
def test_theory(name, verify_proposition):
    verify_proposition(name)

def test_contradicted(verify_proposition):
    check = lambda cell: st.decide(True, because="algebra")
    verify_proposition(st.Proposition("X1", "a title", "$1 < 2$", (), "here", "refuted", [check]))

def test_broken(verify_proposition):
    check = lambda cell: st.decide(1 / 0 == 1, because="algebra")
    verify_proposition(st.Proposition("X1", "a title", "$1 < 2$", (), "here", "proved", [check]))
"""


def run_pytest(folder: Path, *options: str) -> tuple[str, dict[str, ElementTree.Element]]:
    """Return what pytest printed about the user's tests, and the cases of its JUnit file by name."""
    (folder / "test_theory.py").write_text(USERS_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--junit-xml=junit.xml"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    cases = ElementTree.parse(folder / "junit.xml").iter("testcase")
    return done.stdout, {case.get("name"): case for case in cases}


def properties(case: ElementTree.Element) -> dict[str, str]:
    return {one.get("name"): one.get("value") for one in case.iter("property")}


def test_a_junit_file_carries_the_verdicts(tmp_path):
    printed, cases = run_pytest(tmp_path)
    assert properties(cases["test_theory[P03]"])["proposition P03"] == "proved (expected proved)"
    assert properties(cases["test_contradicted"])["proposition X1"] == "proved (expected refuted)"
    failure = cases["test_contradicted"].find("failure")
    assert failure.get("message").startswith("Failed: X1 is proved, expected refuted")
    assert "FAILED test_theory.py::test_contradicted - Failed: X1 is proved" in printed
    assert "pytest_schoenbat_theory.py" not in printed  # no line of a traceback is ours
    assert "ZeroDivisionError" in cases["test_broken"].find("failure").text
    assert "2 failed, 2 passed" in printed


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_a_junit_file_carries_the_verdicts_of_several_processes(tmp_path):
    _, cases = run_pytest(tmp_path, "-n", "2")
    assert properties(cases["test_theory[P01]"])["proposition P01"] == "proved (expected proved)"


def test_starting_pytest_imports_nothing_of_ours_but_the_plugin(tmp_path):
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    code = "import sys, pytest; pytest.main(['-q', '-p', 'no:cacheprovider']); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()
    assert "pytest_schoenbat_theory" in modules, "the entry point is missing: install the package again"
    assert "schoenbat_theory" not in modules


def test_the_plugin_itself_needs_nothing_that_pytest_has_not_imported():
    code = "import sys, pytest; old = set(sys.modules); import pytest_schoenbat_theory; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["pytest_schoenbat_theory"]
