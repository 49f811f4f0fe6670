"""What speed is asked, and whether a record shows it: each threshold holds and fails by its own figure."""

import dataclasses

import pytest

from schoenbat_theory.benchmark.thresholds import thresholds, thresholds_table
from schoenbat_theory.timings import Timing, Timings


def cell(scene, method, n, seconds, **values):
    return Timing(
        scene, method, "causal" in method, n, 64, 64, 256, "float32", (seconds,) * 3, 4 * n * 64 * 4, 0.1, 0.5, **values
    )


FAST = {
    "torch": 35.1,
    "plain": 3.1,
    "performer": 4.1,
    "sketch": 10.1,
    "floor": 0.66,
    "power": 1.04,
    "mb": 64.0,
    "causal": 1.9,
}


def record(**changed):
    """A record that holds every threshold, but for what is ``changed``: seconds, megabytes or a ratio."""
    it = FAST | changed
    cells = []
    for n in (256, 1024, 4096, 16384, 262144, 1048576):
        own = n / 1e6 if n > 256 else 1.0  # no length below 1,024 counts
        attention = {"random Maclaurin, plain": it["plain"], "FAVOR+ (performer-pytorch, 2 threads)": it["performer"],
                     "exact attention (torch, 1 thread)": 2 * it["torch"], "exact attention (torch, 2 threads)": it["torch"]}  # fmt: skip
        cells += [cell("attention", name, n, own * times) for name, times in attention.items() if n <= 65536]
        cells += [cell("attention", "random Maclaurin", n, n / 1e6, floor_seconds=it["floor"] * n / 1e6)] * (n <= 65536)
        cells.append(cell("maps", "random Maclaurin", n, n / 1e6))
        cells.append(cell("maps", "PolynomialCountSketch (scikit-learn)", n, own * it["sketch"]))
        cells.append(cell("causal", "random Maclaurin", n, n / 1e6))
        cells.append(cell("causal", "random Maclaurin, causal", n, own * it["causal"]))
        long = cell("long", "random Maclaurin", n, (n / 1e6) ** it["power"])
        cells.append(dataclasses.replace(long, peak_bytes=long.peak_bytes + int(it["mb"] * 1e6)))
    return Timings({}, tuple(cells))


def test_a_record_that_is_fast_enough_holds_every_threshold():
    found = thresholds(record())
    assert [one.holds for one in found] == [True] * len(found)
    assert [one.measured for one in found[:3]] == pytest.approx([35.1] * 3)
    assert "holds  MB beyond input and output at 1,048,576: 64 (<= 64 asked)" in thresholds_table(found)


@pytest.mark.parametrize(
    ("changed", "fails"),
    [
        ({"torch": 34.0}, ["torch's exact attention at 16,384"]),
        ({"torch": 8.0}, ["torch's exact attention at 4,096", "torch's exact attention at 16,384"]),
        ({"plain": 2.9}, ["the plain map"]),
        ({"performer": 3.9}, ["performer-pytorch"]),
        ({"sketch": 9.9}, ["PolynomialCountSketch"]),
        ({"floor": 0.64}, ["floor / time"]),
        ({"power": 1.06}, ["exponent of time"]),
        ({"mb": 65.0}, ["MB beyond input and output at 262,144", "MB beyond input and output at 1,048,576"]),
        ({"causal": 2.1}, ["causal / not causal"]),
    ],
)
def test_each_threshold_fails_alone(changed, fails):
    found = [one.line for one in thresholds(record(**changed)) if not one.holds]
    assert len(found) == len(fails)
    assert all(text in line for text, line in zip(fails, found, strict=True))


def test_a_speed_up_over_several_lengths_is_the_least_of_them():
    whole = record()
    slow = dataclasses.replace(
        whole,
        cells=tuple(
            dataclasses.replace(one, seconds=(2.5 * one.n / 1e6,) * 3) if (one.method, one.n) == ("random Maclaurin, plain", 4096) else one
            for one in whole.cells
        ),
    )  # fmt: skip
    assert [one.measured for one in thresholds(slow) if "plain" in one.line] == pytest.approx([2.5])


def test_what_a_record_does_not_tell_is_neither_held_nor_failed():
    assert {one.holds for one in thresholds(Timings({}, ()))} == {None}
    assert thresholds_table(thresholds(Timings({}, ()))) == ""
    part = Timings({}, tuple(record().of("causal")))
    assert [one.line for one in thresholds(part) if one.measured is not None] == ["causal / not causal, in time"]
