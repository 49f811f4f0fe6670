"""Taking turns by a clock that is told, memory as the system tells it, ratios within repeats, records of all ages."""

import dataclasses
import itertools
import json
import platform

import numpy as np
import pytest

from schoenbat_theory.timings import (
    Timing,
    Timings,
    installed_timings,
    memory,
    read_timings,
    resident_of,
    take_turns,
)

CELL = Timing("s", "ours", False, 8, 2, 2, 4, "float32", (3.0, 1.0, 2.0, 2.0), 1_000_000, 0.1, 0.5)
FULL = dataclasses.replace(CELL, resident_bytes=9, multiply_adds=64, bytes_moved=128, floor_seconds=0.5)


class Clock:
    """A clock that runs only while somebody works."""

    def __init__(self):
        self.now, self.calls = 0.0, ""

    def __call__(self):
        return self.now

    def worker(self, name, *seconds):
        taken = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def work():
            self.now += next(taken)
            self.calls += name

        return work


def test_each_time_is_that_of_its_own_run():
    clock = Clock()
    workers = clock.worker("a", 5.0, 2.0, 3.0), clock.worker("b", 1.0)
    assert take_turns(workers, 3, clock=clock) == [(5.0, 2.0, 3.0), (1.0, 1.0, 1.0)]
    assert clock.calls == "ab" + "ba" + "ab"


def test_untimed_runs_of_a_twentieth_of_a_second_go_before_every_timed_one():
    clock = Clock()
    workers = clock.worker("a", 0.5, 0.25, 0.75, 0.125), clock.worker("b", 2.0**-6)  # 4 of which are 1/16 > 1/20
    assert take_turns(workers, 2, warm=True, clock=clock) == [(0.25, 0.125), (2.0**-6, 2.0**-6)]
    assert clock.calls == "aa" + "bbbbb" + "bbbbb" + "aa"


def test_what_takes_a_second_is_not_warmed_up_again():
    clock = Clock()
    assert take_turns([clock.worker("a", 7.0, 1.0, 2.0, 0.5, 0.25, 0.125)], 4, warm=True, clock=clock) == [
        (1.0, 2.0, 0.5, 0.125)
    ]


def test_who_is_fast_is_repeated_until_that_is_enough_and_who_is_slow_the_least_often():
    clock = Clock()
    workers = clock.worker("f", 0.25), clock.worker("s", 10.0), clock.worker("m", 0.5)
    fast, slow, middle = take_turns(workers, 3, enough=2.0, clock=clock)
    assert [len(fast), len(slow), len(middle)] == [8, 3, 4]
    assert (
        clock.calls[9:] == "mf" + "ffff"
    )  # three repeats of all, one of the two that have not had enough, then one's own


def test_nobody_is_repeated_more_than_25_times_unless_asked_for():
    clock = Clock()
    assert [len(one) for one in take_turns([clock.worker("a", 0.0)], 3, enough=1.0, clock=clock)] == [25]
    assert [len(one) for one in take_turns([clock.worker("a", 0.0)], 30, enough=1.0, clock=clock)] == [30]


def test_nobody_takes_no_turn():
    assert take_turns([]) == []


def touch():
    return np.ones(1 << 22).sum()  # 32 MB, freed at the end


@pytest.mark.skipif(resident_of(touch)[1] is None, reason="the system does not tell")
def test_the_memory_of_the_process_is_that_of_the_run_whatever_was_held_before():
    held = np.ones(1 << 23)  # 64 MB, a peak of before
    del held
    for _ in range(2):  # what the first run freed is seen again
        found, grown = resident_of(touch)
        assert found == 1 << 22
        assert abs(grown - (1 << 25)) < 1 << 20  # the kernel counts pages core by core, and sums up now and then
    assert resident_of(lambda: 3)[1] < 1 << 20


@pytest.mark.skipif(resident_of(touch)[1] is None or platform.libc_ver()[0] != "glibc", reason="no glibc on Linux")
def test_memory_that_the_allocator_kept_is_seen_when_it_is_taken_again():
    def many():
        return [np.ones(1 << 13) for _ in range(512)]  # 32 MB in pieces that are not given back one by one

    kept = many()[-1]  # the others lie free below this one
    found, grown = resident_of(many)
    assert len(found) == 512
    assert kept.size == 1 << 13
    assert abs(grown - (1 << 25)) < 1 << 20


def test_where_the_system_does_not_tell_the_memory_of_the_process_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "nowhere")
    assert resident_of(lambda: 3) == (3, None)
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert resident_of(lambda: 3) == (3, None)


def test_an_error_of_the_run_is_not_taken_for_silence_of_the_system():
    def fail():
        raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        resident_of(fail)


def test_a_ratio_is_the_median_of_the_repeats_that_both_have():
    fast = dataclasses.replace(CELL, method="fast", seconds=(1.0, 3.0, 4.0, 1.0))
    slow = dataclasses.replace(CELL, method="slow", seconds=(2.0, 3.0, 40.0))
    found = Timings({}, (fast, slow, dataclasses.replace(slow, n=16), dataclasses.replace(fast, scene="t")))
    assert found.ratio("s", "slow", "fast", 8) == (2.0, 1.5, 6.0, 3)  # medians alone would say 3 / 2, or 1
    assert found.ratio("s", "fast", "slow", 8).median == 0.5
    for scene, method, n in (("s", "fast", 16), ("t", "slow", 8), ("s", "other", 8)):
        with pytest.raises(ValueError, match=f"method: expected one that {scene} has at n = {n}"):
            found.ratio(scene, method, "slow", n)


def test_the_ratio_to_the_floor_is_that_of_the_least_time():
    assert FULL.floor_ratio == 0.5
    assert CELL.floor_ratio is None
    assert FULL.as_dict()["floor_ratio"] == 0.5


def test_scenes_are_named_once_in_their_order():
    cells = [dataclasses.replace(CELL, scene=name) for name in "tst"]
    assert Timings({}, tuple(cells)).scenes == ["t", "s"]


@pytest.mark.parametrize("cell", [CELL, FULL])
def test_a_record_says_its_schema_and_is_read_as_it_was_written(tmp_path, cell):
    found = Timings({"a": 1}, (cell,))
    (tmp_path / "r.jsonl").write_text(found.lines())
    assert read_timings(tmp_path / "r.jsonl") == found
    first, line = map(json.loads, found.lines().splitlines())
    assert first == {"schema": 2, "environment": {"a": 1}}
    assert line["resident_bytes"] == cell.resident_bytes


def test_a_record_of_schema_1_is_read(tmp_path):
    _, line = Timings({}, (CELL,)).lines().splitlines()
    newer = ("resident_bytes", "multiply_adds", "bytes_moved", "floor_seconds", "floor_ratio")
    older = {name: value for name, value in json.loads(line).items() if name not in newer}
    (tmp_path / "r.jsonl").write_text(f'{{"schema": 1, "environment": {{}}}}\n{json.dumps(older)}\n')
    assert read_timings(tmp_path / "r.jsonl").cells == (CELL,)


def test_a_record_of_a_later_version_is_refused_for_what_it_is(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"schema": 3, "environment": {}}\n{}\n')
    with pytest.raises(ValueError, match=r"r\.jsonl: expected schema 2 or below, found 3, of a later version"):
        read_timings(tmp_path / "r.jsonl")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_json_has_no_word_for_is_not_written(bad):
    with pytest.raises(ValueError, match="JSON"):
        Timings({}, (dataclasses.replace(CELL, error=bad),)).lines()


@pytest.mark.parametrize("name", ["systems", "beyond"])
def test_the_committed_records_are_read_and_consist_of_lines_of_strict_json(name):
    found = installed_timings(name)
    assert found.cells
    for line in found.lines().splitlines():
        json.loads(line, parse_constant=pytest.fail)
