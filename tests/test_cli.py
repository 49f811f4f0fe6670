"""The command line: exit codes, one-line errors, nothing half-written, nothing lost on Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from schoenbat_theory.cli import main

SLOW = """
import time
import schoenbat_theory as st

def quick(cell):
    return st.decide(True, because="nothing")

def slow(cell):
    open({marker!r}, "w").close()
    time.sleep(600)

A = st.Proposition("U1", "quick", "$1=1$", (), "here", "proved", [quick])
B = st.Proposition("U2", "slow", "$1=1$", (), "here", "proved", [slow])
"""


def archive(path: Path, **changes: object) -> Path:
    """A small valid archive of one head, with ``changes``; a change to ``None`` leaves an array out."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(1, 12, 8)) for name in "qkv"} | changes
    np.savez(path, **{name: x for name, x in arrays.items() if x is not None})
    return path


@pytest.fixture
def one_line_error(capsys: pytest.CaptureFixture[str]):
    """Run a command that must end with exit 2 and one line on standard error, and return the line."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err

    return run


def test_no_archive(tmp_path: Path, one_line_error) -> None:
    (tmp_path / "text.npz").write_text("not an archive")
    assert "text.npz" in one_line_error("verify", "P05", "--qkv", str(tmp_path / "text.npz"))
    assert "missing.npz" in one_line_error("verify", "P05", "--qkv", str(tmp_path / "missing.npz"))
    np.save(tmp_path / "one.npy", np.ones(3))
    assert "single array" in one_line_error("verify", "P05", "--qkv", str(tmp_path / "one.npy"))
    assert one_line_error("verify", "P05", "--qkv", str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v": None}, "missing v"),
        ({"k": np.array([{"a": 1}], dtype=object)}, "pickled"),
        ({"q": np.ones((12, 8))}, "shape (12, 8)"),
        ({"q": np.ones((1, 12, 9))}, "do not fit"),
        ({"v": np.ones((1, 11, 8))}, "do not fit"),
        ({"k": np.full((1, 12, 8), np.nan)}, "nan at index (0, 0, 0)"),
        ({"q": np.ones((1, 0, 8))}, "empty"),
        ({"v": np.zeros((1, 12, 8))}, "largest entry of v, head 0, is 0"),
        ({"v": np.full((1, 12, 8), 1e300)}, "largest entry of v, head 0, is 1e+300"),
        ({"q": np.ones((1, 12, 8), dtype=int)}, "dtype int64"),
        ({"q": np.ones((1, 12, 1)), "k": np.ones((1, 12, 1))}, "head dimension 1"),
    ],
)
def test_bad_archives(tmp_path: Path, one_line_error, changes: dict[str, object], message: str) -> None:
    out = tmp_path / "out"
    error = one_line_error("verify", "P05", "--qkv", str(archive(tmp_path / "bad.npz", **changes)), "--out", str(out))
    assert message in error
    assert not list(out.rglob("*.json"))
    assert not list(out.rglob("*.html"))


def test_a_truncated_archive(tmp_path: Path, one_line_error) -> None:
    whole = archive(tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "cut.npz" in one_line_error("verify", "P05", "--qkv", str(tmp_path / "cut.npz"))


def test_a_constant_token_is_explained(tmp_path: Path, one_line_error) -> None:
    k = np.random.default_rng(1).normal(size=(2, 12, 8))
    k[1, 3] = 0.7
    q, v = np.ones((2, 1, 1)) * k[:1], k
    error = one_line_error("verify", "P33", "--qkv", str(archive(tmp_path / "c.npz", q=q, k=k, v=v)))
    assert "c.npz: k of head 1: token (3,) is constant over its 8 features" in error


def test_unknown_ids(one_line_error) -> None:
    assert "P99" in one_line_error("verify", "P99")
    assert "P99" in one_line_error("show", "P99")


def test_cupy_without_a_gpu(one_line_error) -> None:
    try:
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("there is a GPU")
    except ImportError:
        pass
    assert "cupy" in one_line_error("verify", "P33", "--backend", "cupy")


def test_an_unwritable_folder(tmp_path: Path, one_line_error) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "--out" in one_line_error("verify", "P33", "--out", str(tmp_path / "file"))
    assert "--out" in one_line_error("verify", "P33", "--out", "/proc/nowhere")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--alpha", "2"],
        ["--seed", "-1"],
        ["--workers", "0"],
        ["--budget", "x"],
        ["--nonsense"],
        ["--resume"],
        ["--workers", "2", "--cluster", "tcp://127.0.0.1:1"],
    ],
)
def test_usage_errors_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["verify", "P33", *arguments])
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_json_is_one_document_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "P33", "P16", "--json", "--workers", "1", "--qkv", str(archive(tmp_path / "a.npz"))]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["schema"] == 1
    assert document["status"] == "as-expected"
    assert document["data"] == "a.npz"
    assert [p["id"] for p in document["propositions"]] == ["P33", "P16"]
    fields = {
        "name",
        "kind",
        "verdict",
        "measured",
        "predicted",
        "interval",
        "draws",
        "comparisons",
        "inequality",
        "seconds",
    }
    assert all(fields <= set(evidence) for p in document["propositions"] for evidence in p["evidence"])


def test_out_holds_the_document_the_page_and_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "P16", "--workers", "1", "--out", str(tmp_path / "new" / "out")]) == 0
    out = tmp_path / "new" / "out"
    assert json.loads((out / "verify.json").read_text())["status"] == "as-expected"
    assert "P16" in (out / "report.html").read_text()
    assert len(list((out / "figures").glob("P16*.svg"))) == 1
    assert "P16" in capsys.readouterr().out
    assert not list(out.rglob(".*"))


LOUD = """
import schoenbat_theory as st
print("loud at import")

def loud(cell):
    print("loud in a check")
    return {returned}

A = st.Proposition("U1", "t", "s", (), "here", "proved", [loud])
B = st.Proposition("U2", "t", "s", (), "here", "proved", [loud])
"""
RUN = [sys.executable, "-m", "schoenbat_theory"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_a_file_prints_stays_out_of_the_document(tmp_path: Path, workers: str) -> None:
    (tmp_path / "loud.py").write_text(LOUD.format(returned='st.decide(True, because="é ≤ 1", note="é ≤ 1")'))
    command = [*RUN, "verify", str(tmp_path / "loud.py"), "--workers", workers, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(done.stdout)["status"] == "as-expected"
    assert "loud at import" in done.stderr
    assert "loud in a check" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_encoding_of_the_terminal_will_do(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "f.py").write_text(LOUD.format(returned='st.observe(name="é ≤ 1", measured=1e-9)'))
    for arguments, code in ((["verify", "P01"], 0), (["show", "P09"], 0), (["verify", str(tmp_path / "f.py")], 3)):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([*RUN, *arguments], capture_output=True, env=environment)
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False)
    assert (" x 10^-9" if encoding == "ascii" else " × 10^-9") in done.stdout.decode(encoding)
    done = subprocess.run([*RUN, *arguments, "--json"], capture_output=True, env=environment)
    assert json.loads(done.stdout.decode("ascii"))["propositions"][0]["evidence"][0]["name"] == "loud: é ≤ 1"


def test_a_failing_check_leaves_no_folder_behind(tmp_path: Path, one_line_error) -> None:
    (tmp_path / "f.py").write_text(LOUD.format(returned="1 / 0").replace("print", "str"))
    (tmp_path / "there").mkdir()
    for out in ("new/deep/out", "there"):
        error = one_line_error("verify", str(tmp_path / "f.py"), "--workers", "1", "--out", str(tmp_path / out))
        assert "U1" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.py", "there"]
    assert not list((tmp_path / "there").iterdir())


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.Popen([*RUN, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "P09R  consistent" in capsys.readouterr().out
    assert main(["show", "P09R"]) == 0
    out = capsys.readouterr().out
    assert "P09: " in out
    assert "mutant" in out


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("after", [0.0, 0.2, 0.5, 1.0])
def test_ctrl_c_prints_no_traceback(tmp_path: Path, workers: str, after: float) -> None:
    """From the moment the command's own code runs, while workers start, and later."""
    started = tmp_path / "started"
    (tmp_path / "f.py").write_text(f"open({str(started)!r}, 'w').close()\n" + SLOW.format(marker=str(tmp_path / "m")))
    process = subprocess.Popen(
        [*RUN, "verify", str(tmp_path / "f.py"), "--workers", workers],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not started.exists():
        time.sleep(0.01)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_what_is_decided(tmp_path: Path, workers: str) -> None:
    marker, out = tmp_path / "started", tmp_path / "out"
    (tmp_path / "slow.py").write_text(SLOW.format(marker=str(marker)))
    command = ["verify", str(tmp_path / "slow.py"), "--workers", workers, "--out", str(out), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "schoenbat_theory", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for _ in range(600):
        if marker.exists():
            break
        time.sleep(0.1)
    time.sleep(2)  # with two workers the quick cell runs beside the slow one; let it come home
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    document = json.loads(stdout)
    assert document["status"] == "interrupted"
    assert [p["id"] for p in document["propositions"]] == ["U1"]
    assert json.loads((out / "verify.json").read_text()) == document
    assert [json.loads(line)["cell"][0] for line in (out / "cells.jsonl").read_text().splitlines()] == ["U1"]
    assert "interrupted" in (out / "report.html").read_text()
    assert "Traceback" not in stderr


COMPARE = ["compare", "--kernels", "exp", "--widths", "8", "--draws", "2", "--workers", "1"]


def test_compare_prints_a_table_or_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(archive(tmp_path / "mine.npz"))
    assert main([*COMPARE, "--qkv", data]) == 0
    out, err = capsys.readouterr()
    assert "1 head (mine.npz), 2 draws, seed 0" in out
    assert "no better than the means of V" in out or "better than the means of V" in out
    assert err == ""
    assert main([*COMPARE, "--qkv", data, "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert (document["data"], document["widths"], document["draws"]) == ("mine.npz", [8], 2)
    assert {one["setting"] for one in document["targets"]} == {"raw", "unit", "released", "gaussian"}


def test_compare_writes_a_folder_and_takes_maps_of_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, out = str(Path(__file__).parent / "a_map_of_your_own.py"), tmp_path / "new" / "out"
    command = [*COMPARE, mine, "--qkv", str(archive(tmp_path / "a.npz")), "--out", str(out)]
    assert main(command) == 0
    assert "sparse signs" in capsys.readouterr().out
    assert "sparse signs" in (out / "compare.html").read_text()
    document = json.loads((out / "compare.json").read_text())
    assert "sparse signs" in {one["method"] for one in document["results"]}
    assert (out / "scaling.html").exists()
    assert list((out / "figures").glob("*.svg"))
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"k": np.full((1, 12, 8), np.nan)}, "nan at index (0, 0, 0)"), ({"v": np.ones((1, 11, 8))}, "do not fit")],
)
def test_compare_refuses_bad_archives(tmp_path: Path, one_line_error, changes: dict[str, object], message: str) -> None:
    out = tmp_path / "out"
    error = one_line_error(*COMPARE, "--qkv", str(archive(tmp_path / "bad.npz", **changes)), "--out", str(out))
    assert "bad.npz" in error
    assert message in error
    assert not out.exists()


def test_compare_names_what_does_not_fit(tmp_path: Path, one_line_error) -> None:
    assert "kernels: expected some of exp, " in one_line_error("compare", "--kernels", "exp,cosh")
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert "registers no feature map" in one_line_error("compare", str(tmp_path / "empty.py"))
    assert "no such file" in one_line_error("compare", str(tmp_path / "missing.py"))
    (tmp_path / "file").write_text("in the way")
    assert "--out" in one_line_error("compare", "--out", str(tmp_path / "file"))


@pytest.mark.parametrize("widths", ["0", "8,x", "8,,16", "-8", "1.5"])
def test_compare_wants_widths_that_are_counts(widths: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", f"--widths={widths}"])
    assert stop.value.code == 2
    assert "expected an integer >= 1" in capsys.readouterr().err


SLOW_MAP = """
import time
import schoenbat_theory as st

@st.feature_map("slow")
def make(kernel, dim, n_features):
    open({marker!r}, "w").close()
    time.sleep(600)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_in_compare_leaves_nothing_behind(tmp_path: Path, workers: str) -> None:
    marker, out = tmp_path / "started", tmp_path / "out"
    (tmp_path / "slow.py").write_text(SLOW_MAP.format(marker=str(marker)))
    process = subprocess.Popen(
        [*RUN, *COMPARE[:-1], workers, str(tmp_path / "slow.py"), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert not out.exists()
