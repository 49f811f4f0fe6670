"""Timed runs: what is recorded is right and whole; nothing here asserts a time."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
import threadpoolctl

import schoenbat_theory as st
from schoenbat_theory import timings
from schoenbat_theory.benchmark import SCENES, Method, Scene, bench, run
from schoenbat_theory.benchmark.floor import Product, Work
from schoenbat_theory.benchmark.problem import draw_tokens
from schoenbat_theory.benchmark.scenes import LANDMARKS
from schoenbat_theory.chapters import compare, held_by, informed
from schoenbat_theory.cli import main
from schoenbat_theory.systems import SYSTEMS
from schoenbat_theory.timings import Timing, Timings, figures_of, gain, read_timings, record, table

OF_SYSTEMS = [scene for system in SYSTEMS for scene in system.scenes]
CELL = Timing("s", "ours", False, 8, 2, 2, 4, "float32", (3.0, 1.0, 2.0, 2.0), 1_000_000, 0.1, 0.5)


def scene(*methods: Method, lengths=(4, 8), repeats=3) -> Scene:
    """A scene whose answer is ones, and whose uninformed answer is zeros."""
    return Scene(
        "toy",
        lambda n, rng: {"v": np.ones((n, 2), dtype=np.float32), "width": 3},
        lambda inputs, rows, causal: (np.ones((len(rows), 2)), np.zeros((len(rows), 2))),
        methods,
        dict.fromkeys(lengths, repeats),
        enough=0.0,
        rows=4,
    )


def ones(inputs, made):
    return inputs["v"]


def test_a_parallel_scene_runs_a_method_untimed_before_every_timed_run(monkeypatch):
    monkeypatch.setattr(timings.turns, "WARM", 0.0)
    calls = []
    methods = [
        Method(name, lambda inputs, made, name=name: (calls.append(name), ones(inputs, made))[1]) for name in "ab"
    ]
    found = bench([dataclasses.replace(scene(*methods, lengths=(4,), repeats=2), parallel=True)]).cells
    assert "".join(calls) == "aabb" + "aabb" + "bbaa"  # first memory, as NumPy and as the system tell it
    assert [len(cell.seconds) for cell in found] == [2, 2]


def test_a_parallel_scene_leaves_blas_one_thread(monkeypatch):
    monkeypatch.setattr(timings.turns, "WARM", 0.0)

    def threads():
        return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}

    found, before = [], threads()
    method = Method("a", lambda inputs, made: (found.append(threads()), ones(inputs, made))[1])
    for parallel in (True, False):
        bench([dataclasses.replace(scene(method, lengths=(4,), repeats=1), parallel=parallel)])
    assert found == [{1}] * 4 + [before] * 3
    assert threads() == before


def test_a_size_may_depend_on_the_length():
    found = bench([scene(Method("a", ones, size=lambda n: 3 * n))]).cells
    assert [cell.size for cell in found] == [12, 24]


def test_the_rows_of_several_heads_are_measured_together():
    three = np.ones((3, 8, 2), dtype=np.float32)
    three[1, 7] = 3.0  # of the last row, which is looked at
    heads = dataclasses.replace(
        scene(Method("a", lambda inputs, made: three), lengths=(8,)),
        target=lambda inputs, rows, causal: (np.ones((3, len(rows), 2)), np.zeros((3, len(rows), 2))),
    )
    assert bench([heads]).cells[0].error == pytest.approx(np.sqrt(8 / 24))  # two entries off by 2, of 24 ones


def test_a_record_is_read_as_it_was_written(tmp_path):
    found = bench([scene(Method("a", ones), Method("b", ones, size=7, causal=True, note="n"))], seed=5)
    (tmp_path / "r.jsonl").write_text(found.lines())
    assert read_timings(tmp_path / "r.jsonl") == found
    first, *cells = map(json.loads, found.lines().splitlines())
    assert {
        *(
            "date",
            "cpu",
            "commit",
            "seed",
            "quick",
            "tokens",
            "python",
            "packages",
            "blas",
            "cores",
            "threads",
            "roof",
            "elapsed_seconds",
        )
    } <= set(first["environment"])
    assert first["environment"]["seed"] == 5
    assert [(c["method"], c["n"], c["size"], c["causal"], c["note"]) for c in cells] == [
        *(("a", 4, None, False, ""), ("b", 4, 7, True, "n")),
        *(("a", 8, None, False, ""), ("b", 8, 7, True, "n")),
    ]
    assert all(
        (c["scene"], c["d"], c["e"], c["dtype"], len(c["seconds"])) == ("toy", 3, 2, "float32", 3) for c in cells
    )


def test_median_and_quartiles_are_those_of_the_repeats():
    found = CELL.as_dict()
    assert (found["median"], found["quartiles"]) == (2.0, [1.75, 2.25])


def test_methods_take_turns_and_nobody_always_follows_the_same_one():
    calls = []
    methods = [
        Method(name, lambda inputs, made, name=name: (calls.append(name), ones(inputs, made))[1]) for name in "abc"
    ]
    bench([scene(*methods, lengths=(4,))])
    assert "".join(calls) == "aabbcc" + "abc" + "cab" + "bca"


def test_what_is_made_beforehand_is_the_same_for_every_timed_run_and_made_anew_to_measure_memory():
    given = []
    method = Method("a", lambda inputs, x: (given.append(x), inputs["v"])[1], lambda inputs, rng: object())
    bench([scene(method, lengths=(4,))])
    first, second, *timed = given
    assert first is not second
    assert len(timed) == 3
    assert all(one is first for one in timed)


@pytest.mark.parametrize("tracing", [False, True])
def test_memory_is_the_peak_beyond_the_input_with_what_is_made_once(tracing):
    def run(inputs, made):
        return (np.ones(1 << 20)[:1] * inputs["v"]).astype(np.float32)  # 8 MB for a moment

    if tracing:
        tracemalloc.start()
        np.ones(1 << 22)  # a peak of before, which is not ours
    try:
        held = np.ones(1 << 20)
        cell = bench([scene(Method("a", run, lambda inputs, rng: np.ones(1 << 19)), lengths=(4,))]).cells[0]
        assert tracemalloc.is_tracing() is tracing
    finally:
        tracemalloc.stop()
    assert held.nbytes + (1 << 22) <= cell.peak_bytes < held.nbytes + (1 << 22) + 100_000


def test_a_method_stops_at_its_longest_length():
    found = bench([scene(Method("a", ones), Method("b", ones, longest=4))])
    assert [(c.method, c.n) for c in found.cells] == [("a", 4), ("b", 4), ("a", 8)]


def test_errors_are_relative_and_the_baseline_stands_beside_them():
    cell = bench([scene(Method("a", lambda inputs, made: 0.75 * inputs["v"]))]).cells[0]
    assert (cell.error, cell.baseline) == (pytest.approx(0.25), 1.0)
    assert (cell.errors, cell.rows) == ((cell.error,), 4)


def guess(inputs, made):
    return made * inputs["v"]


def drawn(inputs, rng):
    return rng.normal()


def test_an_error_is_the_median_of_draws_that_all_methods_of_a_length_share():
    methods = Method("a", guess, drawn, size=1), Method("b", guess, drawn, size=2, causal=True), Method("c", ones)
    found = bench([scene(*methods, lengths=(4, 4096, 4097))]).cells
    assert [len(cell.errors) for cell in found] == [5, 5, 1, 5, 5, 1, 3, 3, 1]
    for a, b, c in (found[:3], found[3:6], found[6:]):
        assert a.errors == b.errors
        assert len(set(a.errors)) == len(a.errors)
        assert a.error == np.median(a.errors)
        assert c.errors == (0.0,)
    assert found[0].errors != found[3].errors


def test_a_record_without_the_single_draws_is_read(tmp_path):
    first, cell = Timings({}, (CELL,)).lines().splitlines()
    older = {name: value for name, value in json.loads(cell).items() if name not in ("errors", "rows")}
    (tmp_path / "r.jsonl").write_text(f"{first}\n{json.dumps(older)}\n")
    assert read_timings(tmp_path / "r.jsonl").cells == (CELL,)


@pytest.mark.parametrize("causal", [False, True])
def test_the_exact_rows_of_relative_positions_are_rows_of_exact_attention(causal):
    one = SCENES["relative-positions"]
    inputs = one.inputs(40, np.random.default_rng(0))
    rows = np.array([0, 7, 39])
    exact, blind = one.target(inputs, rows, causal)
    q, k, v, bias = (inputs[name].astype(np.float64) for name in ("q", "k", "v", "log_bias"))
    for queries, found in ((q, exact), (0 * q, blind)):
        whole = st.kernel_attention(queries, k, v, "exp", log_bias=bias, causal=causal)
        np.testing.assert_allclose(found, whole[rows], rtol=1e-12)


def test_the_exact_rows_of_a_toeplitz_product_are_those_of_the_definition():
    one = SCENES["toeplitz-product"]
    inputs = one.inputs(6, np.random.default_rng(0))
    c, v = inputs["coefficients"].astype(float), inputs["v"].astype(float)
    dense = np.array([[c[j - i + 5] for j in range(6)] for i in range(6)])
    np.testing.assert_allclose(one.target(inputs, np.array([1, 4]), False)[0], dense[[1, 4]] @ v, rtol=1e-14)


@pytest.mark.parametrize("name", ["pre-scaled", "pre-scaled-released", "local-sharp", "local-moderate"])
def test_the_exact_rows_of_real_heads_are_rows_of_exact_attention_scaled_as_the_scene_says(name):
    one = SCENES[name]
    inputs = one.inputs(40, np.random.default_rng(0))
    rows = np.array([0, 7, 39])
    exact, blind = one.target(inputs, rows, False)
    q, k, v = (inputs[x].astype(np.float64) for x in "qkv")
    assert q.shape == (4, 40, 32)
    generator = np.random.default_rng(0)
    tokens = [np.stack(some) for some in zip(*(draw_tokens(40, generator, head) for head in one.heads), strict=True)]
    for found, token in zip("qkv", tokens, strict=True):
        factor = 32**-0.25 if name.startswith("local") and found != "v" else 1.0
        np.testing.assert_allclose(inputs[found], factor * token, rtol=1e-6)
    if name.startswith("pre-scaled"):
        q, k = (st.pre_scale(x) * (32**-0.25 if name.endswith("released") else 1) for x in (q, k))
    # Sums of 40 keys, exponents of at most 80 from products of 32 terms, either way.
    bound = 4 * (40 + 36 * 80) * np.finfo(float).eps * np.abs(v).max()
    assert np.abs(exact - st.kernel_attention(q, k, v, "exp")[:, rows]).max() <= bound
    assert np.abs(blind - st.mean_attention(q, k, v)[:, rows]).max() <= bound


def test_torch_is_given_the_same_problem():
    pytest.importorskip("torch", reason="torch is not installed")
    for name in ("pre-scaled", "pre-scaled-released", "local-sharp"):
        inputs = SCENES[name].inputs(300, np.random.default_rng(0))
        ours, *theirs = [m.run(inputs, None) for m in SCENES[name].methods if m.name.startswith("exact attention")]
        assert theirs
        for found in theirs:  # sums of n terms, exponents below 80 from inner products of 32 terms, pre-scaling
            assert np.linalg.norm(found - ours) <= (300 + 100 * 80) * np.finfo(np.float32).eps * np.linalg.norm(ours)


def test_each_head_is_given_what_was_made_for_it():
    one = next(m for m in SCENES["pre-scaled"].methods if m.name == "random Maclaurin")
    inputs = SCENES["pre-scaled"].inputs(64, np.random.default_rng(0))
    made = one.make(inputs, np.random.default_rng(1))
    of_q, of_k = (made(st.pre_scale(inputs[x]).astype(np.float64)) for x in "qk")
    for head, found in enumerate(one.run(inputs, made)):
        weights = of_q[head] @ of_k[head].T
        exact = weights @ inputs["v"][head] / weights.sum(axis=1, keepdims=True)
        # Sums of 64 tokens and 256 features, each of at most 20 factors that are sums of 32 terms; signs cancel in weights.
        sizes = (abs(of_q[head]) @ abs(of_k[head]).T).sum(axis=1) / weights.sum(axis=1)
        bound = 2 * (64 + 256 + 20 * 32) * np.finfo(np.float32).eps * sizes.max() * np.abs(inputs["v"]).max()
        assert np.abs(found - exact).max() <= bound


def test_first_order_is_far_better_than_no_information_on_pre_scaled_heads(quick):
    for cell in quick.cells:
        if cell.method == "first order, recentred":
            assert cell.error < cell.baseline / 10


@pytest.fixture(scope="module")
def quick():
    return bench(OF_SYSTEMS, quick=True)


def test_exact_methods_err_by_rounding_and_large_approximations_by_less_than_no_information(quick):
    for cell in quick.cells:
        if cell.size is None:  # sums of n terms, exponents below 80 from inner products of at most 64 terms
            assert cell.error < (cell.n + 68 * 80) * np.finfo(np.float32).eps
        elif (
            cell.size >= 128 and cell.method != "random Maclaurin"
        ):  # on pre-scaled heads that is about as good as none
            assert 0 < cell.error < cell.baseline
    assert {cell.scene for cell in quick.cells} == set(OF_SYSTEMS)
    assert {cell.size for cell in quick.cells if cell.scene == "skyformer"} == {None, LANDMARKS}


def test_the_same_seed_gives_the_same_errors(quick):
    again = bench(["skyformer", "pre-scaled"], quick=True)
    for name in again.scenes:
        assert [c.errors for c in again.of(name)] == [c.errors for c in quick.of(name)]
    assert bench(["skyformer"], quick=True, seed=1).cells[1].error != quick.cells[1].error


def test_figures_show_every_method_and_the_baseline(quick):
    time, memory, error = figures_of(quick, "skyformer")
    assert time.figure["x"] == [256, 512]
    assert list(time.figure["series"]) == list(memory.figure["series"])
    assert list(error.figure["series"]) == [
        "Nyström by pseudo-inverse",
        "Nyström by Schulz iteration",
        "no information",
    ]
    assert figures_of(quick, "nowhere") == []
    assert error.figure["caption"].startswith(
        "Relative Frobenius error on 64 rows, against exact answers in float64, median of 5 draws; all methods of a "
        "length have the same draws. Nyström by pseudo-inverse and Nyström by Schulz iteration: landmarks work"
    )


def test_captions_of_time_and_error_hold_the_notes_of_their_methods(quick):
    time, memory, error = (one.figure["caption"] for one in figures_of(quick, "toeplitz-product"))
    for caption in (time, error):
        assert "FFT (SciPy): scipy.linalg.matmul_toeplitz computes in float64, the others in float32." in caption
        assert "dense product: the matrix is made beforehand, untimed." in caption
    assert "with what is made beforehand" in memory
    assert "draws" not in error


def test_an_error_of_zero_is_no_point_on_a_logarithmic_axis():
    found = bench([scene(Method("a", ones, size=1))])
    assert figures_of(found, "toy")[2].figure["series"] == {"no information": [1.0, 1.0]}


def test_two_methods_are_compared_where_both_were_timed():
    def cell(method, n, seconds):
        return Timing("s", method, False, n, 2, 2, 4, "float32", (seconds,), 2_000_000, 0.1, 0.5)

    f = [cell("f", n, seconds) for n, seconds in ((8, 3.0), (16, 2.0), (32, 9.0), (64, 2.0), (128, 1.0))]
    g = [cell("g", n, seconds) for n, seconds in ((8, 1.0), (16, 4.0), (32, 1.0), (64, 4.0))]
    found = Timings({}, (*f, *g))
    text = compare(found, "s", "f", "g")
    assert text.startswith(
        "At n = 64 f takes 2 s and 2 MB, and errs by 0.100, an answer without information by 0.500; g takes 4 s"
    )
    assert text.endswith("f is faster from n = 64 on.")
    assert "g is not faster" in compare(found, "s", "g", "f")
    assert compare(found, "s", "f", "h") == ""


@pytest.mark.parametrize(
    ("ours", "faster"),
    [
        ((0.8, 0.8, 0.8), True),
        ((0.98, 0.98, 0.98), False),  # 2 % less
        ((0.1, 0.8, 1.7), False),  # quartiles 0.45 and 1.25
    ],
)
def test_faster_is_a_tenth_of_the_median_with_quartiles_apart(ours, faster):
    one, other = (dataclasses.replace(CELL, seconds=x) for x in (ours, (1.0, 1.0, 1.0)))
    assert one.faster(other) is faster
    assert not other.faster(one)


def cells(**values):
    """Cells of "near", an approximation, and "exact" at n = 8, 16, 32 with the peaks or errors that are given."""
    return [
        dataclasses.replace(CELL, method=method, size=4 if method == "near" else None, n=n, **{name: x})
        for name, methods in values.items()
        for method, found in methods.items()
        for n, x in zip((8, 16, 32), found, strict=False)
    ]


def test_memory_is_said_as_the_numbers_have_it():
    mega = 10**6
    more = held_by(cells(peak_bytes={"near": (mega, 5 * mega, 9 * mega), "exact": (2 * mega, 3 * mega, 4 * mega)}))
    assert more.startswith("At n = 32 the approximations hold 9 MB, the exact methods 4 MB. From n = 16 on every exact")
    less = held_by(cells(peak_bytes={"near": (mega, mega), "exact": (2 * mega, 3 * mega, 4 * mega)}))
    assert less == (
        "At n = 16 the approximations hold 1 MB, the exact methods 3 MB. From n = 8 on every approximation holds less "
        "than every exact method."
    )
    same = held_by(cells(peak_bytes={"near": (mega,), "exact": (mega,)}))
    assert same == "At n = 8 the approximations hold 1 MB, the exact methods 1 MB."
    assert held_by(cells(peak_bytes={"exact": (mega,)})) == ""


def test_an_approximation_that_knows_no_better_than_nothing_is_named():
    assert informed(cells(error={"near": (0.6, 0.5, 0.1), "exact": (1.0, 1.0, 1.0)})) == (
        "At n = 32 the error, divided by that of an answer without information, is 0.200 for near. It is 1 or more, no "
        "better than that answer, at 2 of 3 lengths for near."
    )
    assert informed(cells(error={"near": (0.4, 0.1)})).endswith("It is below 1 at every length timed.")
    assert informed(cells(error={"exact": (0.0,)})) == ""


def test_the_gain_is_time_to_an_error_beside_the_fastest_exact_method_and_the_length_from_which_on():
    def cell(method, n, seconds, size, error):
        return dataclasses.replace(CELL, method=method, n=n, seconds=(seconds,) * 3, size=size, error=error)

    near = [cell("rough", n, 0.5, 4, 0.02) for n in (8, 16)] + [cell("fine", n, 1.0, 4, 0.01) for n in (8, 16)]
    finer = [cell("finer", n, 9.0, 4, 0.001) for n in (8, 16)]
    exact = [cell(name, n, n * x, None, 0.0) for name, x in (("slow", 1.0), ("fast", 0.125)) for n in (8, 16)]
    found = Timings({}, (*near, *finer, *exact))
    assert gain(found, "s") == [
        "s: at n = 16 an error of 1% or less takes 1 s (fine), no error 2 s (fast), 2 times as long.",
        "s: rough is faster than every exact method from n = 8 on.",
        "s: fine is faster than every exact method from n = 16 on.",
        "s: finer is not faster than every exact method at n = 16.",
    ]
    assert gain(found, "s")[0] in table(found)
    assert gain(found, "s", 1e-4)[0].startswith("s: rough is faster")
    assert gain(Timings({}, tuple(exact)), "s") == []


@pytest.mark.parametrize(("scenes", "error"), [(["sky"], ValueError), ("skyformer", TypeError), ([3], ValueError)])
def test_unknown_scenes_are_refused_by_name(scenes, error):
    with pytest.raises(error, match="scenes: expected"):
        bench(scenes)


@pytest.mark.parametrize(
    ("line", "text"), [(1, ""), (1, "{}\n"), (1, "nonsense"), (2, '{"environment": {}}\n{"n": 3}\n')]
)
def test_a_damaged_record_is_refused_with_its_line(tmp_path, line, text):
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(ValueError, match=rf"r\.jsonl: expected a record .* line {line} "):
        read_timings(tmp_path / "r.jsonl")


def test_the_records_of_the_checkout_are_found_and_cover_every_method():
    installed = (timings.installed_timings(name) for name in ("systems", "beyond"))
    recorded = [{(c.scene, c.method) for c in found.cells if "torch" not in c.method} for found in installed]
    assert recorded[0].isdisjoint(recorded[1])
    here = {(scene, m.name) for scene in OF_SYSTEMS for m in SCENES[scene].methods if "torch" not in m.name}
    assert recorded[0] | recorded[1] == here


def test_no_record_is_none(monkeypatch):
    monkeypatch.setattr(record, "RECORD", "no-such-record.jsonl")
    assert timings.installed_timings() is None


def stopped(inputs, made):
    if len(inputs["v"]) == 8:
        raise KeyboardInterrupt
    return inputs["v"]


def test_an_interruption_keeps_what_is_measured_and_the_old_record(tmp_path, monkeypatch, capsys):
    (tmp_path / "systems.jsonl").write_text("old")
    monkeypatch.setitem(SCENES, "toy", scene(Method("a", stopped)))
    assert main(["bench", "toy", "--out", str(tmp_path)]) == 130
    assert (tmp_path / "systems.jsonl").read_text() == "old"
    assert [cell.n for cell in read_timings(tmp_path / "unfinished.jsonl").cells] == [4]


def test_the_command_writes_the_record_and_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SCENES, "toy", scene(Method("a", ones, size=2)))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("<svg/>")
    assert main(["bench", "toy", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "toy" in out
    assert out.endswith("rows against float64; baseline: the same of an answer that ignores queries and keys\n")
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    figures = {f"figures/toy-{what}-against-n.svg" for what in ("time", "memory", "error")}
    assert written == {"systems.jsonl", *figures}
    assert len(read_timings(tmp_path / "systems.jsonl").cells) == 2


def test_the_command_passes_its_seed_and_stops_at_the_longest_length(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SCENES, "toy", scene(Method("a", guess, drawn, size=1)))
    for seed in ("0", "1"):
        assert main(["bench", "toy", "--longest", "7", "--seed", seed, "--out", str(tmp_path / seed)]) == 0
    one, other = (read_timings(tmp_path / seed / "systems.jsonl") for seed in ("0", "1"))
    assert [cell.n for cell in (*one.cells, *other.cells)] == [4, 4]
    assert one.cells[0].errors != other.cells[0].errors
    assert other.environment["seed"] == 1
    assert main(["bench", "toy", "--longest", "3"]) == 2
    assert capsys.readouterr().err.endswith("longest: expected at least 4, found 3\n")


def test_the_floor_of_a_method_is_timed_in_its_scene_and_not_known_where_it_does_not_say_what_it_does():
    work = Work((Product(4, 3, 2, count=5),), bytes=64)
    methods = (
        Method("a", ones, work=lambda inputs, made: work),
        Method("b", ones),
        Method("c", ones, work=lambda *_: work),
    )
    a, b, c = bench([scene(*methods, lengths=(4,))]).cells
    assert (a.multiply_adds, a.bytes_moved) == (120, 64)
    assert a.floor_seconds > 0
    assert a.floor_seconds == c.floor_seconds
    assert (b.multiply_adds, b.bytes_moved, b.floor_seconds, b.floor_ratio) == (None,) * 4


@pytest.mark.parametrize(("quick", "least", "enough"), [(False, 7, 1.5), (True, 3, 0.0)])
def test_the_repeats_are_those_of_the_scene_and_few_when_it_should_be_quick(monkeypatch, quick, least, enough):
    asked = []

    def turns(runs, repeats, *, enough, warm):
        asked.append((len(runs), repeats, enough, warm))
        return [(1.0,) * repeats for _ in runs]

    monkeypatch.setattr(run, "take_turns", turns)
    one = dataclasses.replace(scene(Method("a", ones), lengths=(4,), repeats=7), enough=1.5, warm=True)
    found = bench([one], quick=quick).cells
    assert set(asked) == {(1, least, enough, True)}
    assert [cell.seconds for cell in found] == [(1.0,) * least] * len(asked)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda inputs, made: 1 // 0, "ZeroDivisionError: "),
        (lambda inputs, made: np.inf * inputs["v"], "ArithmeticError: its answer is not finite"),
        (lambda inputs, made: np.nan * inputs["v"], "ArithmeticError: its answer is not finite"),
    ],
)
def test_a_method_that_fails_is_named_in_one_line_and_what_was_timed_before_is_kept(
    tmp_path, monkeypatch, capsys, run, said
):
    def late(inputs, made):
        return run(inputs, made) if len(inputs["v"]) == 8 else inputs["v"]

    monkeypatch.setitem(SCENES, "toy", scene(Method("a", ones), Method("bad", late)))
    assert main(["bench", "toy", "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"schoenbat-theory: bad of toy at n = 8: {said}")
    assert err.count("\n") == 1
    assert [cell.n for cell in read_timings(tmp_path / "unfinished.jsonl").cells] == [4, 4]


def test_a_folder_that_cannot_be_written_is_one_line_before_the_work(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setitem(SCENES, "toy", scene(Method("a", lambda inputs, made: calls.append(0) or inputs["v"])))
    (tmp_path / "file").write_text("")
    assert main(["bench", "toy", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert calls == []


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SCENES, "toy", scene(Method("a", ones)))
    assert main(["bench", "toy"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scene_is_one_line_and_exit_2(capsys):
    assert main(["bench", "sky"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "'sky'" in err


def test_the_help_names_the_scenes(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    out = "".join(capsys.readouterr().out.split())  # lines are broken after hyphens too
    assert ",".join(SCENES) in out


def test_the_machine_has_a_name_where_it_tells_none(monkeypatch):
    from schoenbat_theory.benchmark import machine

    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError))
    assert machine._processor()
