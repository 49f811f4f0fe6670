"""The README tells the truth: its commands, its snippets, its numbers and its picture."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.benchmark.thresholds import thresholds
from schoenbat_theory.benchmark.throughput import read_throughput
from schoenbat_theory.markup import short
from schoenbat_theory.timings import installed_timings, read_timings, since
from schoenbat_theory.verify import builtin_propositions

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RECORD = json.loads((ROOT / "benchmarks" / "verify-quick" / "verify.json").read_text())
PYTHON = [block.split("```")[0] for block in README.split("```python\n")[1:]]


def test_the_first_fenced_blocks_are_the_two_commands():
    fences = re.findall(r"^```(\w+)$", README, flags=re.MULTILINE)
    assert fences[:2] == ["sh", "sh"]
    assert fences.count("sh") == 2


def test_every_proposition_is_listed_with_its_expected_verdict():
    listed = [line.strip("|").split("|") for line in README.splitlines() if re.match(r"\| P\d+[RV]? \|", line)]
    expected = [(p.id, p.expected) for group in builtin_propositions().values() for p in group]
    assert [(row[0].strip(), row[-1].strip(" *")) for row in listed] == expected


def test_the_snippets_run():
    rng = np.random.default_rng(0)
    names = dict(zip("qkv", rng.normal(size=(3, 2, 9, 64)) / 8, strict=True), st=st)
    names |= dict(zip("xy", rng.normal(size=(2, 64)) / 8, strict=True))
    for block in PYTHON[:5]:
        exec(block, names)
    assert names["out"].shape == names["sky"].shape == names["rel"].shape == (2, 9, 64)
    assert names["half"](1.0) == 2.0


def test_what_a_user_brings_is_examined_in_under_ten_lines(capsys):
    own, feature_map, door = PYTHON[5:]
    for block in (own, feature_map):
        names = {}
        assert sum(bool(line.strip()) for line in block.splitlines()) < 10
        exec(block, names)
        if block is own:
            assert st.verify(names["MINE"]).status == "as-expected"
    assert "11 laws hold" in capsys.readouterr().out
    assert "verify_proposition(" in door
    compile(door, "README.md", "exec")


def test_every_picture_is_in_the_repository():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_the_record_was_made_by_the_propositions_as_they_stand():
    assert RECORD["status"] == "as-expected"
    expected = [(p.id, p.title, p.expected) for group in builtin_propositions().values() for p in group]
    assert [(p["id"], p["title"], p["expected"]) for p in RECORD["propositions"]] == expected


def test_the_power_of_the_checks_is_that_of_the_record():
    record = json.loads((ROOT / "benchmarks" / "power" / "power.json").read_text())
    assert (record["status"], record["alpha"], record["runs"]) == ("as-expected", 0.05, 2000)
    trials = record["trials"]
    false = [t for t in trials if t["group"] in ("on target", "at the edge", "just beyond", "twin")]
    asymptotic = [t for t in false if t["kind"] in ("Student's t", "rate")]
    guaranteed = [t for t in false if t not in asymptotic]
    mutants = [t for t in trials if t["group"] == "mutant"]
    assert (len(mutants), {t["runs"] for t in mutants}) == (15, {1000})

    def shown(several, choose, limit, words):
        return (
            f"| {choose(t['rate'] for t in several):.1%} ({words} {choose(t['limits'][limit] for t in several):.1%}) |"
        )

    printed = README.replace(" %", "%")
    for several, choose, limit, words in (
        (guaranteed, max, 1, "at most"),
        (asymptotic, max, 1, "at most"),
        (mutants, min, 0, "at least"),
    ):
        assert shown(several, choose, limit, words) in printed


def test_the_times_are_those_of_the_record():
    printed = [
        line for line in README.splitlines() if re.match(r"\| (toeplitz-product|relative-positions|skyformer) \|", line)
    ]
    assert len(printed) == 7
    for line in printed:
        scene, method = (cell.strip() for cell in line.split("|")[1:3])
        cell = next(one for one in installed_timings().of(scene, method) if one.n == 16384)
        errors = (short(cell.error), short(cell.baseline)) if cell.size else ("", "")
        expected = (scene, method, short(cell.median), short(cell.peak_bytes / 1e6), *errors)
        assert line == "| " + " | ".join(expected) + " |"


@pytest.mark.parametrize(
    ("row", "quantity"),
    [
        ("P16: distance of an attention row from uniform, as trained", "distance from uniform: as trained"),
        ("P16: the same after pre-scaling", "distance from uniform: after pre-scaling"),
        ("P19: relative error of 256 random Maclaurin features", "relative error: map, D = 256"),
        ("P19: relative error of the plain mean of V", "relative error: plain mean of V"),
        ("P09: bias of the attention ratio", "relative size: bias of the ratio"),
        (
            "P13: share of rows whose denominator is not positive",
            "on activations: rows with a denominator <= 0, as they",
        ),
        ("P28V: landmarks that Skyformer's theorem asks for", "asked on heads: asked / available"),
        ("P28V: relative error of Skyformer's weights", "error with 128 landmarks: "),
        ("P32: positive features for 10 % error", "features on activations: features for 10 % error, as they are:"),
        (
            "P32: the same with queries and keys of length 1",
            "features on activations: features for 10 % error, unit norms:",
        ),
    ],
)
def test_the_numbers_are_those_of_the_record(row: str, quantity: str):
    line = next(line for line in README.splitlines() if line.startswith(f"| {row}"))
    printed = [cell.strip() for cell in line.strip("|").split("|")][1:]
    found = [
        evidence["measured"]
        for p in RECORD["propositions"]
        for evidence in p["evidence"]
        if evidence["name"].startswith(quantity)
    ]
    assert len(found) == 8
    formats = "{:.0e}" if "e" in printed[0] else "{:.3f}" if float(printed[0]) < 1 else "{:.3g}"
    assert printed == [formats.format(min(found)), formats.format(max(found))]


COMPARED = json.loads((ROOT / "benchmarks" / "compare" / "compare.json").read_text())
SCALING = json.loads((ROOT / "benchmarks" / "compare" / "scaling.json").read_text())


def cells_below(header: str) -> list[list[str]]:
    lines = README[README.index(header) :].splitlines()
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[2:])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_errors_of_all_methods_are_those_of_the_record():
    rows = cells_below("| method | raw: as trained")
    assert len(rows) == 22
    assert (COMPARED["data"], COMPARED["draws"], 256 in COMPARED["widths"]) == ("shipped", 5, True)
    for name, *printed in rows:
        method = name.partition(" (")[0]
        for target, cell in zip(("raw exp", "unit exp", "released exp"), printed, strict=True):
            found = [
                (one["error"], one["features"])
                for one in COMPARED["results"]
                if (one["method"], one["target"], one["basis"]) == (method, target, "width")
                and one["width"] in (256, None)
            ]
            assert cell == ("–" if not found else f"{np.median([error for error, _ in found]):.2g}"), (name, target)
            if "(" in name and found:
                assert re.search(rf"\({found[0][1]} (features|terms)\)$", name)


@pytest.mark.parametrize(
    ("target", "basis", "method", "largest_median", "largest"),
    [
        ("released exp", "width", "optimized Maclaurin, recentred", 1 / 300, 1 / 150),
        ("released exp", "width", "optimized Maclaurin, with values", 1 / 300, 1 / 150),
        ("unit exp", "width", "optimized Maclaurin, recentred", 1 / 60, 1 / 30),
        ("isotropic exp", "width", "optimized Maclaurin, recentred", 1 / 6, 1 / 6),
        ("released exp", "width", "first order, recentred", 1 / 30, 1 / 20),
        ("raw exp", "multiply-adds", "local expansions", 1 / 4, 1 / 2),
    ],
)
def test_the_record_shows_what_goes_beyond_the_paper(target, basis, method, largest_median, largest):
    (one,) = (r for r in COMPARED["ratios"] if (r["target"], r["basis"], r["method"]) == (target, basis, method))
    assert one["median"] <= largest_median
    assert one["worst"] <= largest
    assert one["heads"] == (1 if target.startswith("isotropic") else 8)
    if basis == "multiply-adds":  # those of a random map of width 256, the fit of the expansions among them
        assert one["multiply_adds"] <= one["budget"]


POLYNOMIALS = ("first order, recentred", "Taylor, degree 1", "Taylor, degree 2", "Taylor, degree 2, recentred")


def errors_of(method: str, target: str) -> dict[str, float]:
    """Return head -> error at width 256, or at the method's own."""
    return {
        one["head"]: one["error"]
        for one in COMPARED["results"]
        if (one["method"], one["target"], one["basis"]) == (method, target, "width") and one["width"] in (256, None)
    }


def beside_torch():
    """Rows of first order and of local expansions at n = 16,384 beside the faster of torch's, and from where on they are faster."""
    timings, rows = installed_timings("beyond"), []
    for scene, method in [
        ("pre-scaled", "first order, recentred"),
        ("pre-scaled-released", "first order, recentred"),
        ("local-sharp", "local expansions"),
        ("local-moderate", "local expansions"),
    ]:
        cells = {one.n: one for one in timings.of(scene, method)}
        torch = {n: min(one.median for one in timings.of(scene) if one.n == n and "torch" in one.method) for n in cells}
        own, first = cells[16384], since({n: one.median < torch[n] for n, one in cells.items()})
        times = short(own.median), short(torch[16384]), f"{torch[16384] / own.median:.3g}"
        rows.append(
            [scene, method, *times, short(own.error), short(own.baseline), "-" if first is None else f"{first:,}"]
        )
    return rows


def speed():
    """Rows of scene `attention`: seconds at four lengths, error and share of the floor at the longest up to 16,384."""
    timings, rows = read_timings(ROOT / "benchmarks" / "speed" / "systems.jsonl"), []
    for method in dict.fromkeys(one.method for one in timings.of("attention")):
        cells = {one.n: one for one in timings.of("attention", method)}
        last = cells[max(n for n in cells if n <= 16384)]
        seconds = [short(cells[n].median) if n in cells else "" for n in (1024, 4096, 16384, 65536)]
        share = "" if last.floor_ratio is None else f"{last.floor_ratio:.0%}"
        rows.append([method, *seconds, "" if last.size is None else short(last.error), share])
    return rows


def asked():
    """Rows of what is asked of the plain geometric map, and what the record shows."""
    timings = read_timings(ROOT / "benchmarks" / "speed" / "systems.jsonl")
    return [[one.line, one.asked, f"{one.measured:.3g}"] for one in thresholds(timings) if one.measured is not None]


def throughput():
    """Rows of replicates per second."""
    found = read_throughput(ROOT / "benchmarks" / "throughput" / "throughput.jsonl").kinds
    return [[one.kind, one.replicate, f"{one.rate:.3g}", f"{one.loop_rate:.3g}", f"{one.gain:.3g}"] for one in found]


TIMED = {
    "| scene | method | seconds | torch": beside_torch,
    "| attention: seconds, medians of runs": speed,
    "| random Maclaurin features, geometric": asked,
    "| check | a replicate | per second": throughput,
}


@pytest.mark.parametrize("head", TIMED)
def test_what_is_fast_is_said_of_the_record(head: str):
    assert list(cells_below(head)) == TIMED[head]()


def test_the_error_without_information_stands_beside_the_times():
    cells = read_timings(ROOT / "benchmarks" / "speed" / "systems.jsonl").of("attention", "random Maclaurin")
    (cell,) = (one for one in cells if one.n == 16384)
    assert f"without information the error is {short(cell.baseline)}." in README


def test_what_works_and_what_does_not_is_said_of_the_record():
    local = errors_of("local expansions", "raw exp").values()
    assert f"`local_attention`: {np.median(list(local)):.2g}, and {max(local):.2g} on the worst head" in README
    (beside,) = (
        one
        for one in COMPARED["ratios"]
        if (one["target"], one["basis"]) == ("raw exp", "multiply-adds") and one["method"] == "local expansions"
    )
    assert "same cost err 18 times" in README
    assert 1 / beside["worst"] >= 18
    optimized = [name for name in {one["method"] for one in COMPARED["results"]} if name.startswith("optimized")]
    sharp = [
        one["error"]
        for one in COMPARED["results"]
        if one["target"] == "raw exp" and "layer 2" in one["head"] and one["method"] in (*POLYNOMIALS, *optimized)
        if one["width"] in (256, None) or one["basis"] == "multiply-adds"
    ]
    assert "or not: 0.57 or more" in README
    assert 0.57 <= min(sharp) < 0.58
    random = [
        m
        for m in {one["method"] for one in COMPARED["results"]}
        if re.match("random Maclaurin|positive|trigon|fixed", m)
    ]
    medians = [np.median(list(found)) for m in random if (found := errors_of(m, "raw exp").values())]
    assert len(medians) == 13
    assert "a median of 0.76 or more" in README
    assert min(medians) >= 0.755
    for target, ratio in (("unit exp", "1/135"), ("released exp", "1/845")):
        (one,) = (
            one
            for one in COMPARED["ratios"]
            if (one["target"], one["basis"], one["method"]) == (target, "width", "optimized Maclaurin, recentred")
        )
        assert f"1/{1 / one['median']:.0f}" == ratio
        assert ratio in README


STRESSED = json.loads((ROOT / "benchmarks" / "stress" / "stress.json").read_text())


def test_the_certificates_are_those_of_the_record():
    rows = cells_below("| certificates of | given")
    assert [name for name, *_ in rows][:-1] == STRESSED["methods"][:4]
    for name, *printed in rows:
        by_input: dict[str, list[str]] = {}
        for case in STRESSED["cases"]:
            if name.startswith("all methods") or case["method"] == name:
                by_input.setdefault(case["input"], []).extend(case["certificates"])

        def covered(words: list[str]) -> float:
            return 100 * words.count("covered") / (words.count("covered") + words.count("missed"))

        words = list(itertools.chain.from_iterable(by_input.values()))
        given, least = words.count("covered") + words.count("missed"), min(map(covered, by_input.values()))
        shares = f"{covered(words):.1f} %", f"{least:.1f} %"
        assert printed == [f"{given:,}", *shares, str(words.count("refused")), str(words.count("exact"))]


def test_no_method_but_first_order_is_worse_than_the_better_mean():
    worst = {
        method: max(ratio for case in STRESSED["cases"] if case["method"] == method for ratio in case["ratios"])
        for method in STRESSED["methods"][:4]
    }
    assert "First order errs up to 1.52 times" in README
    assert f"{worst.pop('first order, recentred'):.2f}" == "1.52"
    assert max(worst.values()) < 1.05


def test_the_rule_of_sharpness_is_as_good_as_is_said():
    judged = [one["judged"] for one in STRESSED["afresh"]]
    assert "on 60 inputs that did not set its constant" in README
    assert (len(judged), judged.count("right")) == (60, 54)
    assert set(judged) == {"right", "dearer than needed"}


def test_what_is_no_better_than_a_mean_of_the_values_is_said_of_the_record():
    said = COMPARED["sentences"]["raw exp"]
    for method in ("random Maclaurin", "random Maclaurin, released", "positive, orthogonal", "trigonometric"):
        assert re.search(rf"[:;] {re.escape(method)}[;.]", said)
    exact = {one["multiply_adds"] for one in COMPARED["targets"]}
    better = {"random landmarks", "Nyströmformer"}
    assert not any(re.search(rf"[:;] {one}[;.]", said) for one in better)
    costs = [
        one["multiply_adds"]
        for one in COMPARED["results"]
        if one["method"] in better and one["target"] == "raw exp" and one["basis"] == "width" and one["width"] == 256
    ]
    assert min(costs) > max(exact)


@pytest.mark.parametrize(
    ("row", "shown", "quantity"),
    [
        ("features for a kernel value", ("{:.0e}", "{:.0f}", "{:.1f}"), lambda one: one["pair_features"]),
        ("distance of the exact attention", ("", "{:.3f}", "{:.3f}"), lambda one: one["distance"]),
        (
            "of the way from the mean",
            ("", "{:.1f}", "{:.1f}"),
            lambda one: 100 * (1 - one["distance"] / one["mean_of_softmax"]),
        ),
        ("distance left by the best", ("", "{:.3f}", "{:.3f}"), lambda one: one["exact_restored"]["power"]),
        ("distance of the best row", ("{:.3f}", "{:.3f}", "{:.3f}"), lambda one: one["exact_restored"]["constant"]),
    ],
)
def test_the_ablation_is_that_of_the_record(row, shown, quantity):
    printed = next(cells for cells in cells_below("| quantity | raw: as trained") if cells[0].startswith(row))
    for setting, form, cell in zip(("raw", "unit", "released"), shown, printed[1:], strict=True):
        found = [quantity(one) for one in SCALING["rows"] if one["setting"] == setting]
        assert len(found) == 8
        if not form:  # exact attention of what is as trained is softmax attention
            assert cell == f"{np.mean(found):.0f}" + " %" * ("%" in cell)
            assert np.ptp(found) < 1e-12
        else:
            assert cell.removesuffix(" %") == f"{form.format(min(found))} to {form.format(max(found))}"


def test_one_row_for_all_queries_gains_most_of_what_gamma_gains():
    assert "Two thirds or\nmore of what gamma gains" in README
    for one in (one for one in SCALING["rows"] if one["setting"] == "released"):
        left = one["exact_restored"]
        assert (one["distance"] - left["constant"]) / (one["distance"] - left["gamma"]) > 0.66
