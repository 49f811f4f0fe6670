"""The ledger: exact, whole lines or none, and never a number of another run."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import schoenbat_theory as st
from schoenbat_theory import ledger as module
from schoenbat_theory.cells import CheckError
from schoenbat_theory.cli import main
from schoenbat_theory.ledger import Ledger, fingerprint, settled
from schoenbat_theory.loading import load_propositions
from schoenbat_theory.propositions import Evidence

KEY = {"cell": ["P01", "checks", "radii"], "seed": 0, "alpha": 0.001}
REALS = some.floats() | some.integers() | some.floats(width=32).map(np.float32)
FIGURES = some.dictionaries(
    some.text(max_size=3), some.recursive(some.none() | some.booleans() | REALS | some.text(), some.lists, max_leaves=5)
)


@given(
    some.builds(
        Evidence,
        some.none(),
        some.just("data"),
        name=some.text(),
        measured=some.none() | REALS,
        interval=some.none() | some.tuples(REALS, REALS),
        draws=some.integers() | some.integers(0, 9).map(np.int64),
        guaranteed=some.booleans().map(np.bool_),
        figure=some.none() | FIGURES,
    )
)
def test_evidence_comes_back_exactly_and_of_the_types_that_it_had_at_once(
    tmp_path_factory: pytest.TempPathFactory, evidence: Evidence
) -> None:
    path = tmp_path_factory.getbasetemp() / "exact.jsonl"
    (once,) = settled([evidence])
    with Ledger(path) as ledger:
        ledger.add(KEY, [evidence])
    with Ledger(path, resume=True) as ledger:
        (again,) = ledger.get(KEY) or []
    assert repr(vars(again)) == repr(vars(once))  # repr: types too, and NaN is NaN
    assert repr(once.measured) == repr(None if evidence.measured is None else plain(evidence.measured))
    assert isinstance(once.interval, tuple | None)


def plain(x: Any) -> Any:
    return int(x) if isinstance(x, int) else float(x)


def test_fractions_arrays_and_tuples_become_what_json_holds() -> None:
    figure = {1: (Fraction(1, 2), np.arange(2)), "text": np.array(["a"]), "none": None, "flag": np.True_}
    (found,) = settled([Evidence("proved", "exact", measured=Fraction(1, 4), figure=figure)])
    assert found.measured == 0.25
    assert found.figure == {"1": [0.5, [0, 1]], "text": ["a"], "none": None, "flag": True}


def test_a_line_is_strict_json_and_says_what_it_rests_on(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in the ledger")

    st.verify("P01", workers=1, ledger=tmp_path / "l", alpha=0.01, seed=3)
    lines = (tmp_path / "l").read_text().splitlines()
    entries = [json.loads(line, parse_constant=refuse) for line in lines]
    for entry in entries:
        assert (entry["schema"], entry["seed"], entry["alpha"], entry["budget"]) == (1, 3, 0.01, "quick")
        assert {"version", "code", "numpy", "scipy", "python", "input", "backend", "file"} <= set(entry)
    assert [entry["cell"][0] for entry in entries] == ["P01"] * len(entries)


@pytest.mark.parametrize("torn", [b'{"cell": ["P01", "che', b"\\xff\\xfe", b'{"cell": 1}'])
def test_what_a_kill_tore_off_is_dropped_and_does_not_spoil_the_next_line(tmp_path: Path, torn: bytes) -> None:
    path, proved = tmp_path / "cells.jsonl", Evidence("proved", "exact")
    with Ledger(path) as ledger:
        ledger.add(KEY, [proved])
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Ledger(path, resume=True) as ledger:
        assert ledger.get(KEY) == [proved]
        ledger.add({**KEY, "seed": 1}, [proved])
    assert path.read_bytes().startswith(whole)
    with Ledger(path, resume=True) as ledger:
        assert ledger.get(KEY) == ledger.get({**KEY, "seed": 1}) == [proved]


@pytest.mark.parametrize(
    "line", ["", "null", "[]", "7", "{}", '{"evidence": 1}', '{"evidence": [{"verdict": "sure"}]}', "[" * 9, "NaN"]
)
def test_a_line_of_somebody_else_is_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cells.jsonl"
    with Ledger(path) as ledger:
        ledger.add(KEY, [Evidence("proved", "exact")])
    path.write_text(f"{line}\n{path.read_text()}{line}\n")
    with Ledger(path, resume=True) as ledger:
        assert ledger.get(KEY) is not None


def test_nothing_is_found_under_another_key_or_without_resume(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    with Ledger(path) as ledger:
        ledger.add(KEY, [Evidence("proved", "exact")])
    with Ledger(path, resume=True) as ledger:
        for other in ({"seed": 1}, {"alpha": 0.0010000000000000002}, {"cell": ["P01"]}, {"more": 1}):
            assert ledger.get({**KEY, **other}) is None
        assert ledger.get(dict(reversed(KEY.items()))) is not None
    with Ledger(path) as ledger:
        assert ledger.get(KEY) is None
    assert not path.exists()


COUNTING = """
from pathlib import Path
import schoenbat_theory as st
from beside import FACTOR

def counted(cell):
    with open({log!r}, "a") as file:
        file.write("x")
    return st.observe(name=cell.heads[0].name, measured=FACTOR * cell.rng.random())

def stubborn(cell):
    if Path({stop!r}).exists():
        raise KeyboardInterrupt
    return st.decide(True, because="nothing")

A = st.Proposition("U1", "t", "s", (), "here", "proved", [counted, stubborn])
"""


class Laboratory:
    """A proposition in a file, how often its check ran, and whether the run is interrupted after it."""

    def __init__(self, folder: Path) -> None:
        self.file, self.log, self.stop, self.ledger = (folder / name for name in ("mine.py", "log", "stop", "ledger"))
        self.beside = folder / f"beside_{folder.name}.py"
        self.beside.write_text("FACTOR = 2\n")
        text = COUNTING.replace("from beside", f"from {self.beside.stem}")
        self.file.write_text(text.format(log=str(self.log), stop=str(self.stop)))
        self.log.touch()

    def verify(self, what: Any = None, **settings: Any) -> st.Report:
        return st.verify(what or self.file, **{"workers": 1, "ledger": self.ledger, "resume": True, **settings})

    @property
    def runs(self) -> int:
        return len(self.log.read_text())


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


def test_a_finished_cell_does_not_run_again_and_says_the_same(laboratory: Laboratory) -> None:
    laboratory.stop.touch()
    assert laboratory.verify().status == "interrupted"
    laboratory.stop.unlink()
    whole = laboratory.verify()
    assert (whole.status, laboratory.runs) == ("as-expected", 1)
    assert laboratory.verify().to_json() == whole.to_json()  # seconds too: they are those measured then
    assert laboratory.runs == 1
    assert laboratory.verify(workers=2).to_json() == whole.to_json()
    assert laboratory.verify(resume=False).evidence[0].measured == whole.evidence[0].measured
    assert laboratory.runs == 2


def test_propositions_of_a_file_are_recognised_and_other_objects_are_not(laboratory: Laboratory) -> None:
    (mine,) = load_propositions(laboratory.file)
    for runs in (1, 1):
        assert laboratory.verify([mine]).status == "as-expected"
        assert laboratory.runs == runs
    other = st.Proposition("U1", "t", "s", (), "here", "proved", mine.checks)
    for runs in (2, 3):
        assert laboratory.verify([other]).status == "as-expected"
        assert laboratory.runs == runs


@pytest.mark.parametrize("settings", [{"seed": 1}, {"alpha": 0.01}, {"budget": "full"}, {"qkv": "a.npz"}])
def test_other_settings_are_other_cells(laboratory: Laboratory, settings: dict[str, Any]) -> None:
    folder = laboratory.file.parent
    np.savez(folder / "a.npz", **{name: np.random.default_rng(0).normal(size=(1, 12, 8)) for name in "qkv"})
    if "qkv" in settings:
        settings = {"qkv": folder / "a.npz"}
    for more, runs in (({}, 1), (settings, 2), ({}, 2), (settings, 2)):
        assert laboratory.verify(**more).status == "as-expected"
        assert laboratory.runs == runs


def test_the_input_is_what_an_archive_holds_and_not_where_it_stands(laboratory: Laboratory) -> None:
    heads = {name: np.random.default_rng(0).normal(size=(1, 12, 8)) for name in "qkv"}
    (laboratory.file.parent / "moved").mkdir()
    first, moved = laboratory.file.parent / "a.npz", laboratory.file.parent / "moved" / "a.npz"
    np.savez(first, **heads)
    np.savez_compressed(moved, **heads)
    laboratory.verify(qkv=first)
    laboratory.verify(qkv=moved)
    assert laboratory.runs == 1
    heads["v"][0, 0, 0] += 2.0**-40
    np.savez(first, **heads)
    laboratory.verify(qkv=first)
    assert laboratory.runs == 2


@pytest.mark.parametrize("which", ["file", "beside"])
def test_an_edit_to_the_file_or_to_a_module_beside_it_runs_its_cells_again(laboratory: Laboratory, which: str) -> None:
    laboratory.verify()
    edited: Path = getattr(laboratory, which)
    edited.write_text(edited.read_text() + "# an edit\n")
    laboratory.verify()
    assert laboratory.runs == 2


def test_other_code_or_libraries_run_all_cells_again(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory.verify()
    for name in fingerprint():
        other = {**fingerprint(), name: "other"}
        monkeypatch.setattr(sys.modules["schoenbat_theory.verify"], "fingerprint", lambda other=other: other)
        before = laboratory.runs
        laboratory.verify()
        assert laboratory.runs == before + 1


def test_the_fingerprint_is_that_of_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(text: str, name: str) -> str:
        for package in ("schoenbat_theory", "proofs_checks"):
            (tmp_path / package / "inner").mkdir(parents=True, exist_ok=True)
        for file in tmp_path.rglob("*.py"):
            file.unlink()
        (tmp_path / name).write_text(text)
        return fingerprint.__wrapped__()["code"]

    class Spec:
        def __init__(self, name: str) -> None:
            self.submodule_search_locations = [str(tmp_path / name)]

    monkeypatch.setattr(module.importlib.util, "find_spec", Spec)
    names = ["schoenbat_theory/a.py", "schoenbat_theory/inner/a.py", "schoenbat_theory/b.py", "proofs_checks/a.py"]
    digests = [of(text, name) for text in ("1", "2") for name in names]
    assert len(set(digests)) == 8
    assert of("1", names[0]) == digests[0]


def test_a_figure_that_is_no_data_is_an_error_that_names_its_check() -> None:
    def drawn(cell: st.Cell) -> st.Evidence:
        return st.decide(True, because="nothing", figure={"x": [object()]})

    with pytest.raises(CheckError, match=r"^proposition U1, check 'drawn': figure: expected numbers, .* found <object"):
        st.verify([st.Proposition("U1", "t", "s", (), "here", "proved", [drawn])], workers=1)


def test_a_full_disk_is_one_line_and_resuming_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="no such limit here")
    command = [sys.executable, "-m", "schoenbat_theory", "verify", "P01", "--workers", "1", "--out", str(tmp_path)]
    limited = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("schoenbat-theory: ")
    assert done.stderr.count("\n") == 1
    assert 0 < (tmp_path / "cells.jsonl").stat().st_size <= 1500
    assert subprocess.run([*command, "--resume"], capture_output=True).returncode == 0


def test_an_existing_ledger_survives_what_is_refused_before_the_run(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "cells.jsonl").write_text("found with patience\n")
    for wrong in (["P99"], ["P01", "--qkv", "nothing.npz"]):
        assert main(["verify", *wrong, "--out", str(tmp_path)]) == 2
    capsys.readouterr()
    assert (tmp_path / "cells.jsonl").read_text() == "found with patience\n"


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "ledger"):
        with pytest.raises(OSError, match=str(place)):
            st.verify("P01", workers=1, ledger=place)
