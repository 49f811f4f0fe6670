"""Sweeps: the same document from every engine, after every death; what cannot be had is said in one line."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import joblib
import numpy as np
import pytest
from joblib.parallel import ThreadingBackend
from kill_and_resume import VERIFY, documents, finished, kill_and_resume

import schoenbat_theory as st
from schoenbat_theory.cells import CheckError
from schoenbat_theory.cli import main
from schoenbat_theory.environment import version
from schoenbat_theory.loading import load_propositions

VERSION = version()
THREE = str(Path(__file__).with_name("three_propositions.py"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The documents of an undisturbed run in one process."""
    out = tmp_path_factory.mktemp("reference")
    subprocess.run([*VERIFY, THREE, "--workers", "1", "--out", out], check=True, capture_output=True)
    return documents(out)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes, each the head of a group of its own, none of which outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*command: Any, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        started.append(subprocess.Popen(list(map(str, command)), text=True, start_new_session=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        stop(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def stop(process: subprocess.Popen[str]) -> None:
    """End a process and what it has started, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def cluster(tmp_path: Path, start: Callable[..., Any]) -> tuple[str, Any, list[Any]]:
    """A Dask scheduler and two workers of one thread, started apart: its address, itself, them."""
    card, silent = tmp_path / "scheduler.json", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    scheduler = start(
        *dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", card, **silent
    )
    wait_for(lambda: card.exists() and card.read_text().endswith("}"))
    address = json.loads(card.read_text())["address"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", tmp_path]
    return address, scheduler, [start(*worker, **silent, cwd="/") for _ in range(2)]


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for a minute")


def test_two_workers_write_what_one_does(tmp_path: Path, reference: dict[str, bytes]) -> None:
    subprocess.run([*VERIFY, THREE, "--workers", "2", "--out", tmp_path], check=True, capture_output=True)
    assert documents(tmp_path) == reference


def test_killed_at_random_moments_and_resumed_it_writes_the_same(tmp_path: Path) -> None:
    record = kill_and_resume(tmp_path, [THREE], kills=5, seed=0)
    assert record["equal"]
    assert record["kills"] == 5
    assert any(0 < one["cells"] < record["cells"] for one in record["killed"])


LOCAL = """
import sys
from distributed import LocalCluster
from schoenbat_theory.cli import main

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster:
        sys.exit(main(["verify", {file!r}, "--cluster", cluster.scheduler_address, "--out", {out!r}]))
"""


def test_a_local_cluster_writes_the_same(tmp_path: Path, reference: dict[str, bytes]) -> None:
    code = LOCAL.format(file=THREE, out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Written" in done.stdout
    assert documents(tmp_path) == reference


def test_a_cluster_that_loses_one_of_two_workers_writes_the_same(
    tmp_path: Path, reference: dict[str, bytes], cluster: Any, start: Callable[..., Any]
) -> None:
    address, _, workers = cluster
    out = tmp_path / "out"
    command = start(*VERIFY, THREE, "--cluster", address, "--out", out, "--json")
    wait_for(lambda: finished(out) > 5)
    assert finished(out) < 30
    stop(workers[0])
    stdout, stderr = command.communicate(timeout=60)
    assert (command.returncode, stderr) == (0, "")
    assert json.loads(stdout)["status"] == "as-expected"
    assert documents(out) == reference


def test_a_scheduler_that_dies_is_one_line_and_what_was_found_is_kept(
    tmp_path: Path, reference: dict[str, bytes], cluster: Any, start: Callable[..., Any]
) -> None:
    address, scheduler, _ = cluster
    out = tmp_path / "out"
    command = start(*VERIFY, THREE, "--cluster", address, "--out", out)
    wait_for(lambda: finished(out) > 5)
    stop(scheduler)
    _, stderr = command.communicate(timeout=60)
    assert command.returncode == 2
    assert re.fullmatch(r"schoenbat-theory: proposition T\d.*: the engine gave up, .*\n", stderr)
    kept = finished(out)
    assert 5 < kept < 37
    subprocess.run([*VERIFY, THREE, "--out", out, "--resume"], check=True, capture_output=True)
    assert finished(out) == 37
    assert documents(out) == reference


MORTAL = """
import os
import signal
import time
from pathlib import Path
import schoenbat_theory as st

def check_of(number):
    def check(cell):
        time.sleep(0.1)
        return st.decide(True, because="nothing", measured=cell.rng.random())
    check.__name__ = f"quick_{{number}}"
    return check

def mortal(cell):
    marker = Path({marker!r})
    if {always} or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return st.decide(True, because="nothing", measured=cell.rng.random())

quick = [check_of(number) for number in range(8)]
A = st.Proposition("U1", "t", "s", (), "here", "proved", [*quick[:4], mortal, *quick[4:]])
"""


def mortal(folder: Path, *, always: bool) -> Path:
    file = folder / "mortal.py"
    file.write_text(MORTAL.format(marker=str(folder / "killed"), always=always))
    return file


def numbers(report: st.Report) -> list[tuple[str, float | None]]:
    return [(one.name, one.measured) for one in report.evidence]


def test_a_worker_that_dies_costs_time_and_no_number(tmp_path: Path) -> None:
    file = mortal(tmp_path, always=False)
    after = st.verify(file, workers=2)
    assert (tmp_path / "killed").exists()
    assert after.status == "as-expected"
    assert numbers(after) == numbers(st.verify(file, workers=1))


def test_a_cell_that_ends_every_worker_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    ledger = tmp_path / "cells.jsonl"
    with pytest.raises(CheckError, match=r"^proposition U1, check 'mortal': 3 times a worker died while this ran$"):
        st.verify(mortal(tmp_path, always=True), workers=2, ledger=ledger)
    assert ledger.read_text().count("\n") == 8  # all that did not die


def test_a_cell_that_ends_every_worker_of_a_cluster_is_named_too(
    tmp_path: Path, cluster: Any, start: Callable[..., Any]
) -> None:
    command = start(*VERIFY, mortal(tmp_path, always=True), "--cluster", cluster[0])
    stdout, stderr = command.communicate(timeout=60)
    assert (command.returncode, stdout) == (2, "")
    assert re.fullmatch(r"schoenbat-theory: proposition U1, check 'mortal'.*: the engine gave up, .*\n", stderr)


HEADS = """
import schoenbat_theory as st

def named(cell):
    return st.decide([head.name for head in cell.heads] == ["a.npz head 0"], because="its name")

def read_only(cell):
    return st.decide(not cell.heads[0].q.flags.writeable, because="a check may not spoil what the next one reads")

A = st.Proposition("U1", "t", "s", (), "here", "proved", [named, read_only])
"""


def test_a_cluster_needs_neither_the_archive_nor_the_file_of_a_proposition(
    tmp_path: Path, cluster: Any, start: Callable[..., Any]
) -> None:
    """Its workers run in another folder, where these relative paths name nothing."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", **{name: rng.normal(size=(1, 12, 8)) for name in "qkv"})
    (tmp_path / "mine.py").write_text(HEADS)
    command = start(*VERIFY, "mine.py", "--qkv", "a.npz", "--cluster", cluster[0], cwd=tmp_path)
    assert command.communicate(timeout=60)[1] == ""
    assert command.returncode == 0


def test_a_worker_does_not_read_the_file_of_a_proposition(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(THREE_CHECKS)
    propositions = load_propositions(tmp_path / "mine.py")
    (tmp_path / "mine.py").unlink()
    assert st.verify(propositions, workers=2).status == "as-expected"


THREE_CHECKS = """
import threading
import time
import schoenbat_theory as st

inside = []

def alone(cell):
    inside.append(cell)
    time.sleep(0.02)
    return st.decide(len(inside) == 1 and inside.pop() is cell, because="a list", measured=cell.rng.random())

def check_of(number):
    def check(cell):
        return alone(cell)
    check.__name__ = f"alone_{number}"
    return check

def nested(cell):
    return st.decide(st.verify("P01").status == "as-expected", because="verify within a check")

checks = [nested, *(check_of(number) for number in range(6))]
A = st.Proposition("U1", "t", "s", (), "here", "proved", checks)
"""


class Batches(ThreadingBackend):
    """An engine that cannot stream, as Ray's."""

    supports_return_generator = False


@pytest.mark.parametrize("engine", ["threading", Batches(), "loky"], ids=["threads", "batches", "processes"])
def test_the_engine_of_the_user_gives_the_same_numbers_one_cell_at_a_time(tmp_path: Path, engine: Any) -> None:
    (tmp_path / "mine.py").write_text(THREE_CHECKS)
    here = st.verify(tmp_path / "mine.py", workers=1)
    with joblib.parallel_config(backend=engine, n_jobs=3):
        there = st.verify(tmp_path / "mine.py")
    assert here.status == there.status == "as-expected"
    assert numbers(here) == numbers(there)


def process(cell: st.Cell) -> st.Evidence:
    return st.observe(name="process and thread", measured=float(os.getpid()), predicted=float(threading.get_ident()))


@pytest.mark.parametrize(("engine", "workers", "where"), [("threading", None, "thread"), ("threading", 1, "here")])
def test_the_engine_is_the_one_that_the_user_names_unless_one_worker_is_asked_for(
    engine: str, workers: int | None, where: str
) -> None:
    with joblib.parallel_config(backend=engine, n_jobs=2):
        (found,) = st.verify(st.Proposition("U1", "t", "s", (), "here", "proved", [process]), workers=workers).evidence
    assert found.measured == os.getpid()
    assert (found.predicted == threading.get_ident()) is (where == "here")


def test_a_worker_with_other_code_is_refused(tmp_path: Path, cluster: Any, start: Callable[..., Any]) -> None:
    code = (
        "import schoenbat_theory.sweep as sweep; own = sweep.fingerprint(); from schoenbat_theory.cli import main\n"
        "sweep.fingerprint = lambda: {**own, 'code': 'older'}\n"
        f"raise SystemExit(main(['verify', 'P01', '--cluster', {cluster[0]!r}]))"
    )
    command = start(sys.executable, "-c", code)
    _, stderr = command.communicate(timeout=60)
    assert command.returncode == 2
    assert re.fullmatch(r".* cannot be received by a worker, ValueError: it has code \w+, expected older\n", stderr)


class Scheduler:
    """What `connected` asks of a `distributed.Client`."""

    workers: ClassVar[dict[str, Any]] = {}

    def __init__(self, address: str, timeout: float) -> None:
        if address != "tcp://here:1":
            raise OSError("Timed out")

    def __enter__(self) -> "Scheduler":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for_workers(self, count: int, timeout: float) -> None:
        if len(self.workers) < count:
            raise TimeoutError

    def run(self, *_: Any, on_error: str) -> dict[str, Any]:
        return self.workers


@pytest.mark.parametrize(
    ("workers", "address", "message"),
    [
        ({}, "tcp://there:1", "--cluster tcp://there:1: no Dask scheduler answers there (Timed out)"),
        ({}, "tcp://here:1", "--cluster tcp://here:1: the scheduler has no worker"),
        (
            {"w": "0.0.1"},
            "tcp://here:1",
            f"--cluster tcp://here:1: w: expected schoenbat_theory {VERSION}, found 0.0.1",
        ),
        ({"w": PackageNotFoundError("x")}, "tcp://here:1", f"w: expected schoenbat_theory {VERSION}, found none"),
        (None, "tcp://here:1", 'Dask is not installed (pip install "schoenbat_theory[cluster]")'),
    ],
    ids=["nobody there", "no worker", "an older version", "without the package", "no Dask"],
)
def test_a_cluster_that_cannot_be_used_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workers: Any,
    address: str,
    message: str,
) -> None:
    """On a stand-in for Dask; what is asked of it is what the tests above ask of Dask itself."""
    monkeypatch.setattr(Scheduler, "workers", workers)
    monkeypatch.setitem(sys.modules, "distributed", workers if workers is None else SimpleNamespace(Client=Scheduler))
    ledger = tmp_path / "cells.jsonl"
    ledger.write_text("an earlier run\n")
    assert main(["verify", "P01", "--cluster", address, "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert ledger.read_text() == "an earlier run\n"
