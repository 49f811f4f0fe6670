"""Pictures and sentences of a record of timed runs: true for any record, with the numbers that were put in."""

import dataclasses
import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.text import Text

from schoenbat_theory import plots
from schoenbat_theory.plots.contest import looks
from schoenbat_theory.plots.methods import LEVEL, styles_of
from schoenbat_theory.propositions import Evidence
from schoenbat_theory.timings import Timing, Timings
from schoenbat_theory.timings.figures import comparisons_of, figures_of, save
from schoenbat_theory.timings.trends import break_even, fastest_exact, front, growth, questions, speed_ups, upper
from schoenbat_theory.timings.words import about, gain, pace, sure, table

LENGTHS = (1024, 4096, 16384, 65536)
ROOF = {"roof": {"dtype": "float32", "multiply_adds_per_second": 2e11, "bytes_per_second": 2e10}}


def cell(method="near", n=1024, seconds=(1.0,), size=256, error=0.02, **rest):
    values = {"causal": False, "d": 64, "e": 64, "dtype": "float32", "peak_bytes": 10**6, "baseline": 0.1} | rest
    return Timing("toy", method, n=n, size=size, seconds=tuple(seconds), error=error, **values)


def record(*cells, **environment):
    return Timings(environment, cells)


def linear_and_exact(*, lengths=LENGTHS, longest=16384):
    """Seconds n / 4096 of one that errs, (n / 4096)^2 of one that is exact: equal at 4,096."""
    near = [
        cell("near", n, (n / 4096,) * 3, multiply_adds=n * 4096, bytes_moved=n * 64, floor_seconds=n / 8192)
        for n in lengths
    ]
    exact = [cell("exact", n, ((n / 4096) ** 2,) * 3, None, 1e-7) for n in lengths if n <= longest]
    return record(*near, *exact, **ROOF)


def dozen():
    """Twelve methods, four of them exact, with everything that a record can hold."""
    generator = np.random.default_rng(0)
    found = []
    for i, n in itertools.product(range(12), LENGTHS):
        exact = i >= 8
        taken = (1 + i) * 1e-6 * n ** (2 if exact else 1) * generator.uniform(1, 1.1, 5)
        work = {
            "multiply_adds": n * 2**14 * (1 + i),
            "bytes_moved": n * 512,
            "floor_seconds": 1e-7 * n,
            "resident_bytes": n * (i + 1),
        }
        found.append(
            cell(f"method {i} with a name of forty letters or so", n, taken, None if exact else 8, 0.5 / 2**i, **work)
        )
    return record(*found, **ROOF)


def texts(evidence):
    root = ElementTree.fromstring(plots.draw(evidence).element("key"))
    return ["".join(node.itertext()).strip() for node in root.iter("text")]


def pictures(timings, scene="toy"):
    return {one.name: one for one in (*figures_of(timings, scene), *comparisons_of(timings, scene))}


# Growth.


def test_the_exponent_of_a_power_is_found_and_its_fit_passes_through_the_times():
    found = growth([cell(n=n, seconds=(3e-9 * n**1.5,) * 4) for n in LENGTHS])
    assert (found.exponent, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert (found.start, found.stop, found.repeats) == (4096, 65536, 4)
    assert found.ends == pytest.approx([3e-9 * n**1.5 for n in (4096, 65536)])


def test_an_exponent_is_the_median_of_one_fit_per_repeat_between_the_lowest_and_the_highest():
    slopes = (0.9, 1.3, 1.0)
    found = growth([cell(n=n, seconds=[n**slope for slope in slopes]) for n in (8, 32, 64)])
    assert (found.low, found.exponent, found.high) == pytest.approx((0.9, 1.0, 1.3))


def test_short_lengths_are_left_out_of_a_fit_where_two_long_ones_remain():
    cells = [cell(n=n) for n in LENGTHS]
    assert [one.n for one in upper(cells)] == [4096, 16384, 65536]
    assert [one.n for one in upper(cells[:2])] == [1024, 4096]


def test_nothing_grows_at_one_length_or_without_time():
    assert growth([]) is None
    assert growth([cell()]) is None
    assert growth([cell(n=8), cell(n=16, seconds=(0.0,))]) is None


def test_further_repeats_of_some_lengths_are_not_paired():
    found = growth([cell(n=8, seconds=(8.0, 8.0, 1e9)), cell(n=16, seconds=(16.0, 16.0))])
    assert (found.exponent, found.repeats) == (pytest.approx(1.0), 2)


def test_the_range_over_repeats_holds_the_median_as_often_as_is_said():
    """Slopes of independent repeats: both ends on one side of the median with probability 2 / 2^repeats."""
    generator, repeats, trials = np.random.default_rng(0), 3, 2000
    inside = 0
    for noise in np.exp(generator.normal(0, 0.3, (trials, 2, repeats))):
        found = growth([cell(n=n, seconds=n * taken) for n, taken in zip((8, 64), noise, strict=True)])
        inside += found.low <= 1 <= found.high
    # 75 % by symmetry; a deviation of 0.05 has probability below 2 exp(-2 * 2000 * 0.05^2) < 1e-4 (Hoeffding).
    assert abs(inside / trials - 0.75) < 0.05
    assert "with probability 75% or more" in sure([found])


def test_the_probability_of_an_interval_is_that_of_the_fewest_repeats_and_none_is_said_of_one():
    one, three, five = (growth([cell(n=n, seconds=(n,) * repeats) for n in (8, 16)]) for repeats in (1, 3, 5))
    assert sure([three, five]).startswith("each of 3 to 5 repeats, whose lowest and highest hold")
    assert "75%" in sure([three, five])
    assert "93%" in sure([five])
    assert sure([one]) == "one repeat"
    assert sure([one, five]) == "each of 1 to 5 repeats"


# Speed-up.


def test_break_even_lies_on_a_straight_line_in_logarithms_and_holds_from_there_on():
    assert break_even({16: 4.0, 4: 0.5}) == pytest.approx(4 * 4 ** (1 / 3))
    assert break_even({4: 2.0, 8: 0.5, 16: 0.5, 64: 2.0}) == pytest.approx(32)  # the last crossing
    assert break_even({4: 0.5, 8: 1.0, 16: 3.0}) == pytest.approx(8)
    assert break_even({4: 1.0}) == 4
    assert break_even({4: 2.0, 8: 0.99}) is None


def test_a_speed_up_is_to_the_fastest_exact_method_of_the_same_question_at_the_same_length():
    near = [cell("near", n, (1.0, 2.0, 1.0)) for n in (8, 16, 32)]
    exact = [
        cell("slow", 8, (9.0,) * 3, None),
        cell("fast", 8, (3.0, 8.0, 5.0), None),
        cell("slow", 16, (2.0,) * 3, None),
    ]
    other = cell("soon", 8, (0.001,) * 3, None, causal=True)
    found = speed_ups(record(*near, *exact, other), "toy")
    assert list(found) == ["near"]
    assert {n: (one.median, one.low, one.high) for n, one in found["near"].items()} == {
        8: (4, 3.5, 4.5),
        16: (2, 1.5, 2),
    }
    assert {n: one.method for n, one in fastest_exact((*near, *exact)).items()} == {8: "fast", 16: "slow"}
    assert [[one.causal for one in part] for part in questions((*near, other))] == [[False] * 3, [True]]


def test_the_picture_of_a_speed_up_marks_where_it_begins():
    figure = pictures(linear_and_exact())["speed-up against n"].figure
    assert figure["x"] == [1024, 4096, 16384]
    assert figure["series"] == {"near": [0.25, 1.0, 4.0]}
    assert figure["turns"] == {"near": pytest.approx(4096)}
    assert figure["said"] == {"near": "even at 4,100"}
    assert {"near, even at 4,100", "fastest exact method"} <= set(
        texts(pictures(linear_and_exact())["speed-up against n"])
    )


def test_who_is_never_or_always_as_fast_has_no_mark():
    never = record(*(cell("near", n, (9.0,)) for n in (8, 16)), *(cell("exact", n, (1.0,), None) for n in (8, 16)))
    always = record(*(cell("near", n, (1.0,)) for n in (8, 16)), *(cell("exact", n, (9.0,), None) for n in (8, 16)))
    for found in (never, always):
        assert pictures(found)["speed-up against n"].figure["turns"] == {}
        assert "even at" not in " ".join(texts(pictures(found)["speed-up against n"]))


# Front.


def test_the_front_has_who_is_beaten_by_nobody_in_time_and_error():
    cells = [
        cell("quick", seconds=(1.0,), error=0.5), cell("same time, worse", seconds=(1.0,), error=0.6), cell("slower, no better", seconds=(2.0,), error=0.5),
        cell("good", seconds=(3.0,), error=0.1), cell("exact", seconds=(4.0,), size=None, error=1e-7), cell("slower", seconds=(5.0,), size=None, error=0.0),
    ]  # fmt: skip
    assert [one.method for one in front(cells)] == ["quick", "good", "exact"]
    assert front([]) == []


def test_every_method_at_every_length_is_in_the_picture_of_error_against_time():
    figure = pictures(linear_and_exact())["error against time"].figure
    assert figure["series"]["near"] == {"x": [n / 4096 for n in LENGTHS], "y": [0.02] * 4}
    assert figure["series"]["exact"] == {"x": [0.0625, 1.0, 16.0], "y": [0.0] * 3}
    assert figure["fronts"][1024] == {"x": [0.0625], "y": [0.0]}
    assert figure["fronts"][16384] == {"x": [4.0, 16.0], "y": [0.02, 0.0]}
    assert figure["levels"] == [0.1, 0.1]


def test_causal_methods_have_a_front_of_their_own_and_keep_their_looks():
    both = [cell(name, n, (1.0,), size, causal=causal) for n in (8, 16) for causal in (False, True)
            for name, size in ((f"near {causal}", 4), (f"exact {causal}", None))]  # fmt: skip
    found = pictures(record(*both))
    assert list(found["error against time, causal"].figure["series"]) == ["near True", "exact True"]
    assert found["error against time"].figure["methods"] == found["error against time, causal"].figure["methods"]


def test_the_stairs_go_down_where_a_method_has_finished():
    ax = plots.plot(pictures(linear_and_exact())["error against time"])
    stairs = next(line for line in ax.lines if line.get_drawstyle() == "steps-post" and len(line.get_xdata()) == 3)
    assert list(stairs.get_xdata()) == [4.0, 4.0, 16.0]
    assert list(stairs.get_ydata()) == [ax.get_ylim()[1], 0.02, 0.005]
    assert ax.get_yticklabels()[0].get_text() == "exact"


def test_lengths_above_the_stairs_do_not_collide():
    n = [2**i for i in range(9, 16)]
    same = [cell(name, one, (0.01 + 1e-9 * one,), size) for one in n for name, size in (("near", 4), ("exact", None))]
    ax = plots.plot(pictures(record(*same))["error against time"])
    ax.figure.draw_without_rendering()
    names = [Text.get_window_extent(text) for text in ax.texts]
    assert len(names) == 8
    assert not any(one.overlaps(other) for one, other in itertools.combinations(names, 2))


# Roof and memory.


def test_work_is_drawn_under_the_measured_roof():
    figure = pictures(linear_and_exact())["work under the roof"].figure
    assert figure["series"] == {"near": {"x": [64.0] * 4, "y": [pytest.approx(4096 * 4096)] * 4}}
    roof = next(
        line
        for line in plots.plot(pictures(linear_and_exact())["work under the roof"]).lines
        if len(line.get_xdata()) == 3
    )
    assert list(roof.get_xdata()) == [
        5.0,
        10.0,
        128.0,
    ]  # half the ridge, the ridge at 2e11 / 2e10, beyond the last point
    assert list(roof.get_ydata()) == [1e11, 2e11, 2e11]
    assert "measured: products 200 billion/s, copies 20 GB/s" in texts(
        pictures(linear_and_exact())["work under the roof"]
    )


def test_without_a_roof_or_counted_work_there_is_no_such_picture():
    known = linear_and_exact()
    assert "work under the roof" not in pictures(Timings({}, known.cells))
    assert "work under the roof" not in pictures(record(cell(), **ROOF))


def test_memory_is_that_of_the_process_only_where_it_is_known_for_all():
    known = [cell("a", resident_bytes=5 * 10**6), cell("b", resident_bytes=0)]
    found = pictures(record(*known))["memory against n"].figure
    assert found["series"] == {"a": [5.0]}
    assert "process" in found["caption"]
    found = pictures(record(*known, cell("c")))["memory against n"].figure
    assert found["series"] == {"a": [1.0], "b": [1.0], "c": [1.0]}
    assert "NumPy" in found["caption"]


def test_baselines_that_differ_at_a_length_are_drawn_as_the_lowest_and_the_highest():
    found = pictures(record(cell("a", baseline=0.1), cell("b", baseline=0.3), cell("exact", size=None, baseline=9.0)))
    assert found["error against n"].figure["series"] == {
        "a": [0.02], "b": [0.02], "no information, lowest": [0.1], "no information, highest": [0.3],
    }  # fmt: skip
    assert found["error against time"].figure["levels"] == [0.1, 0.3]


# Any record can be drawn and said.

RECORDS = {
    "everything": dozen(),
    "one cell": record(cell()),
    "one exact cell": record(cell(size=None, error=0.0)),
    "one length": record(cell("a"), cell("b", seconds=(2.0, 3.0)), cell("exact", size=None)),
    "exact methods alone": record(*(cell(name, n, (1.0,), None, 1e-7) for name in "ab" for n in (8, 16))),
    "errors and baselines of 0": record(*(cell(name, n, error=0.0, baseline=0.0) for name in "ab" for n in (8, 16))),
    "no memory": record(cell("a", peak_bytes=0), cell("exact", size=None, peak_bytes=0)),
    "no lengths in common": record(cell("a", 8), cell("exact", 16, size=None)),
    "lengths that differ": linear_and_exact(),
}


@pytest.mark.parametrize("name", RECORDS)
def test_any_record_can_be_drawn_labelled_and_said(name, tmp_path):
    timings = RECORDS[name]
    for one in pictures(timings).values():
        ax = plots.plot(one)
        ax.figure.draw_without_rendering()
        assert ax.get_xlabel()
        assert ax.get_ylabel()
    text = table(timings)
    for word in ("nan", "inf", "None"):
        assert word not in text.replace("information", "")
    written = [path.name for path in save(timings, tmp_path)]
    assert len(written) == len(set(written)) == 1 + len(pictures(timings))


def test_a_record_without_cells_says_what_the_columns_are():
    assert figures_of(record(), "toy") == comparisons_of(record(), "toy") == []
    assert "on" not in table(record()).splitlines()[-1].split("relative")[0].split()


@pytest.mark.parametrize("name", [*pictures(dozen())])
def test_no_two_words_of_a_picture_of_twelve_methods_collide_and_none_is_cut_off(name):
    ax = plots.plot(pictures(dozen())[name])
    ax.figure.draw_without_rendering()
    (legend,) = ax.figure.legends
    drawn = [
        *legend.get_texts(),
        *ax.texts,
        ax.xaxis.label,
        ax.yaxis.label,
        *ax.get_xticklabels(),
        *ax.get_yticklabels(),
    ]
    seen = [text for text in drawn if text.get_text() and text.get_visible()]
    inside = [text for text in seen if _in_sight(text, ax)]
    boxes = [Text.get_window_extent(text) for text in inside]
    hit = [
        (a.get_text(), b.get_text())
        for (a, x), (b, y) in itertools.combinations(zip(inside, boxes, strict=True), 2)
        if x.overlaps(y)
    ]
    assert hit == []
    whole = ax.figure.bbox
    assert all(box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0 and box.y1 <= whole.y1 for box in boxes)
    assert not any(
        box.overlaps(legend.get_window_extent())
        for text, box in zip(inside, boxes, strict=True)
        if text not in legend.get_texts()
    )
    assert ax.get_window_extent().height >= 1.9 * ax.figure.dpi  # the legend leaves room for the data


def _in_sight(text, ax):
    """Whether a tick label belongs to a tick within the limits; other words always are."""
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
            if label is text:
                return low <= place <= high
    return True


def test_twelve_methods_look_different_the_same_in_all_pictures_and_exact_ones_are_hollow():
    shown = [styles_of(one.figure) for one in pictures(dozen()).values()]
    whole = shown[0]
    assert len({(one["color"], one["marker"], one["mfc"]) for label, one in whole.items() if "method" in label}) == 12
    for styles in shown:
        assert all(style == whole[label] for label, style in styles.items() if label in whole)
    exact = {label for label, one in whole.items() if one["mfc"] == "white"}
    assert exact == {one.method for one in dozen().cells if one.size is None}
    close = [one["color"] for label, one in whole.items() if label not in exact]
    assert len(set(close)) == len(close) == 8
    assert styles_of({"series": {"a": 1, "level": 1}, "methods": ["a"]})["level"]["color"] == LEVEL["color"]
    assert looks({"a": "a"})["a"] == (
        styles_of({"series": {"a": 1}})["a"]["marker"],
        styles_of({"series": {"a": 1}})["a"]["color"],
    )


def test_methods_that_err_have_colours_of_their_own_wherever_they_stand():
    exact, close = [f"exact {i}" for i in range(4)], [f"close {i}" for i in range(8)]
    styles = styles_of({"series": dict.fromkeys([*exact, *close]), "exact": exact})
    assert len({styles[label]["color"] for label in close}) == 8


def test_the_legend_goes_from_the_line_that_ends_highest_down_and_says_slopes():
    found = [text for text in texts(pictures(linear_and_exact())["time against n"]) if "slope" in text]
    assert found == ["near, slope 1.00", "exact, slope 2.00"]  # both end at 16
    found = [text for text in texts(pictures(linear_and_exact(longest=65536))["time against n"]) if "slope" in text]
    assert found == ["exact, slope 2.00", "near, slope 1.00"]


def test_names_that_begin_alike_both_stand_in_the_legend():
    long = "a name that is longer than a legend of this width can show, number "
    found = texts(pictures(record(cell(long + "1"), cell(long + "2")))["time against n"])
    assert sum(text.startswith("a name that") for text in found) == 2


@pytest.mark.parametrize("kind", ["race", "front", "roof"])
def test_missing_figure_data_are_named(kind):
    with pytest.raises(ValueError, match=r"missing .*x_label, y_label"):
        plots.plot(Evidence(None, "data", figure={"plot": kind}))


# Words.


def test_every_method_is_said_to_grow_to_gain_and_to_reach_its_floor():
    assert pace(linear_and_exact(), "toy") == [
        "toy: near takes time as n^1.00 (n = 4,096 to 65,536, 1.00 to 1.00 over 3 repeats); is as fast as the fastest exact method "
        "from about n = 4,100 on, 4 times at n = 16,384 (quartiles 4 to 4); reaches 50% of its floor (n = 4,096 to 65,536).",
        "toy: exact takes time as n^2.00 (n = 4,096 to 16,384, 2.00 to 2.00 over 3 repeats).",
    ]


def test_what_is_not_known_is_not_said():
    assert pace(record(cell()), "toy") == []
    assert pace(record(), "toy") == []
    (said,) = pace(record(cell(seconds=(2.0,)), cell("exact", size=None)), "toy")
    assert said == "toy: near is 0.500 times as fast as the fastest exact method at n = 1,024."


def test_at_one_length_nothing_is_said_of_others():
    found = record(cell("near", seconds=(1.0,)), cell("exact", seconds=(2.0,), size=None))
    assert pace(found, "toy") == ["toy: near is 2 times as fast as the fastest exact method at n = 1,024."]


def test_who_is_as_fast_at_every_length_is_said_to_be_from_the_shortest_on():
    found = record(*(cell("near", n, (1.0,)) for n in (8, 16)), *(cell("exact", n, (2.0,), None) for n in (8, 16)))
    assert "from n = 8, the shortest, on, 2 times at n = 16" in pace(found, "toy")[0]


def test_a_gain_is_beside_exact_methods_of_the_same_question():
    near = cell("near", seconds=(2.0,) * 3, error=0.001, causal=True)
    others = cell("soon", seconds=(1.0,) * 3, size=None), cell("late", seconds=(8.0,) * 3, size=None, causal=True)
    assert gain(record(near, *others), "toy") == [
        "toy: at n = 1,024 an error of 1% or less takes 2 s (near), no error 8 s (late), 4 times as long.",
        "toy: near is faster than every exact causal method from n = 1,024 on.",
    ]


def test_an_error_that_is_had_without_information_is_no_gain_and_is_said():
    near = [cell("blind", error=0.008, baseline=0.008), cell("near", seconds=(2.0,), error=0.001, baseline=0.008)]
    (said, *_) = gain(record(*near, cell("exact", size=None, seconds=(4.0,))), "toy")
    assert (
        "takes 2 s (near), no error 4 s (exact), 2 times as long. Without information the error is 0.800% already."
        in said
    )
    assert gain(record(near[0], cell("exact", size=None)), "toy")[0].startswith("toy: blind is not faster")


def test_where_no_exact_method_was_timed_that_is_said():
    found = gain(linear_and_exact(), "toy", error=0.05)
    assert found[0] == "toy: at n = 65,536 an error of 5% or less takes 16 s (near), no exact method was timed there."


def test_the_legend_of_the_table_has_what_the_table_has():
    whole, little = table(dozen()), table(record(cell()))
    for meaning in ("n^x:", "faster:", "floor:", "MB:", "process:", "error:"):
        assert sum(line.startswith(meaning) for line in whole.splitlines()) == 1
        assert any(line.startswith(meaning) for line in little.splitlines()) == (meaning in ("MB:", "error:"))


def test_the_table_has_the_share_of_the_floor_and_the_memory_of_the_process():
    one = dataclasses.replace(cell(seconds=(2.0, 4.0)), floor_seconds=1.0, resident_bytes=2_500_000)
    row = table(record(one)).splitlines()[1].split()
    assert row == ["toy", "1,024", "near", "3.0000", "50%", "1.0", "2.5", "2.0e-02", "1.0e-01"]


@pytest.mark.parametrize(("n", "text"), [(1337.2, "1,300"), (99.6, "100"), (7.0, "7"), (123456.0, "120,000")])
def test_a_length_between_those_timed_has_two_digits(n, text):
    assert about(n) == text
