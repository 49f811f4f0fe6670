"""All cores for arrays of NumPy: order, errors, one thread for BLAS, and the same bits with any number of cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl

import schoenbat_theory as st
from schoenbat_theory import threads
from schoenbat_theory.threads import each, one_core

HERE = np.zeros(1)


@pytest.fixture
def cores(monkeypatch):
    """Pretend that there are so many cores, whatever the machine has."""

    def use(count):
        monkeypatch.setattr(threads, "CORES", count)
        threads._pool.cache_clear()

    yield use
    threads._pool.cache_clear()


def blas_threads():
    return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}


def on(arrived, expected):
    """Note this thread, and wait until as many as ``expected`` are here at a time."""
    arrived.add(threading.get_ident())
    deadline = time.monotonic() + 30
    while len(arrived) < expected and time.monotonic() < deadline:
        time.sleep(0.001)


def test_results_come_in_the_order_of_tasks_from_several_threads(cores):
    cores(3)
    arrived = set()

    def work(i):
        on(arrived, 3)
        return i * i

    assert each(work, range(20), HERE) == [i * i for i in range(20)]
    assert len(arrived) == 3


@pytest.mark.parametrize("like", [None, "strict"])
def test_other_arrays_are_worked_on_one_after_another(cores, like):
    cores(3)
    if like == "strict":
        like = pytest.importorskip("array_api_strict").zeros(1)
    ours = threading.get_ident()
    assert each(lambda i: (i, threading.get_ident()), range(5), like) == [(i, ours) for i in range(5)]


def test_pieces_of_a_piece_stay_on_its_thread_and_so_does_all_on_one_core(cores):
    cores(3)

    def outer(i):
        inner = set(each(lambda j: (time.sleep(0.002), threading.get_ident())[1], range(8), HERE))
        return inner == {threading.get_ident()}

    assert all(each(outer, range(2), HERE))  # one of three threads is idle
    with one_core():
        assert set(each(lambda j: threading.get_ident(), range(8), HERE)) == {threading.get_ident()}


def test_a_single_task_may_share_its_pieces(cores):
    cores(2)
    arrived = set()
    each(lambda _: each(lambda i: on(arrived, 2), range(8), HERE), range(1), HERE)
    assert len(arrived) == 2


@pytest.mark.parametrize("count", [1, 2, 3])
def test_blas_has_one_thread_inside_and_as_many_as_before_afterwards(cores, count):
    cores(count)
    with threadpoolctl.threadpool_limits(2):
        before = blas_threads()
        assert set().union(*each(lambda i: blas_threads(), range(4), HERE)) == {1}
        assert blas_threads() == before
        with one_core():
            assert blas_threads() == {1}
        assert blas_threads() == before


def test_of_callers_on_several_threads_one_has_the_cores_and_blas_is_left_as_it_was(cores):
    cores(2)
    before, found = blas_threads(), {}

    def call(name):
        found[name] = [each(lambda i: (i, np.ones((64, 64)) @ np.ones(64)), range(20), HERE) for _ in range(20)]

    callers = [threading.Thread(target=call, args=(name,)) for name in range(4)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert all([i for i, _ in run] == list(range(20)) for runs in found.values() for run in runs)
    assert len(found) == 4
    assert blas_threads() == before


def test_while_another_thread_has_the_cores_all_is_done_on_this_one(cores):
    cores(2)
    inside, done = threading.Event(), threading.Event()
    holder = threading.Thread(target=lambda: each(lambda _: (inside.set(), done.wait(30)), range(1), HERE))
    holder.start()
    assert inside.wait(30)
    ours = threading.get_ident()
    assert each(lambda i: threading.get_ident(), range(5), HERE) == [ours] * 5
    done.set()
    holder.join()


@pytest.mark.parametrize("failing", [0, 7, 19])
def test_the_error_of_a_piece_is_raised_once_no_piece_is_running(cores, failing):
    cores(3)
    running = set()

    def work(i):
        running.add(i)
        if i == failing:
            running.discard(i)
            raise ValueError(f"piece {i}")
        time.sleep(0.002)
        running.discard(i)

    with threadpoolctl.threadpool_limits(2):
        before = blas_threads()
        with pytest.raises(ValueError, match=f"piece {failing}"):
            each(work, range(20), HERE)
        assert not running
        assert blas_threads() == before
    assert each(lambda i: i, range(5), HERE) == list(range(5))


def test_a_thread_that_outlives_the_main_one_does_its_pieces_itself():
    code = """
import threading, numpy
from schoenbat_theory import threads
threads.CORES = 3
def late():
    threading.main_thread().join()
    print(threads.each(abs, [-1, 2], numpy.zeros(1)))
threading.Thread(target=late).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_the_cores_whoever_had_them_before():
    code = """
import os, sys, threading, numpy
from schoenbat_theory import threads
threads.CORES = 2
here, inside, done = numpy.zeros(1), threading.Event(), threading.Event()
threads.each(abs, range(4), here)
hold = lambda _: (inside.set(), done.wait(30))
threading.Thread(target=lambda: threads.each(hold, range(1), here)).start()
inside.wait(30)
if (child := os.fork()) == 0:
    meet = threading.Barrier(2, timeout=10)
    threads.each(lambda _: meet.wait(), range(2), here)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "7\n", done.stderr


def test_settings_of_the_caller_hold_in_every_piece(cores):
    cores(3)
    arrived = set()

    def work(i):
        on(arrived, 3)
        return np.geterr()["divide"]

    with np.errstate(divide="raise"):
        assert set(each(work, range(9), HERE)) == {"raise"}


def test_attention_has_the_same_bits_on_any_number_of_cores(cores, rng):
    q, k, v = (rng.normal(size=(3, 1300, 8)).astype(np.float32) / 4 for _ in range(3))
    shared, own = (st.RandomMaclaurin("exp", 32).draw(8, rng=0, shape=shape) for shape in ((), (3,)))
    level = q - q.mean(axis=-1, keepdims=True)  # tokens of which one head has to be formed
    uneven = level + np.asarray([0, 0, 9], np.float32)[:, None, None]
    forms = {
        "all keys": lambda: st.feature_attention(q, k, v, shared),
        "causal": lambda: st.feature_attention(q, k, v, shared, causal=True),
        "a draw for each head": lambda: st.feature_attention(q, k, v, own),
        "one head": lambda: st.feature_attention(q[0], k[0], v[0], shared),
        "first order": lambda: st.first_order_attention(q, k, v),
        "first order of one head, pre-scaled": lambda: st.first_order_attention(q[0], k[0], v[0], pre_scaled=1.0),
        "first order of heads unlike each other, pre-scaled": lambda: (
            st.first_order_attention(level, uneven, v, pre_scaled=1.0)
            + st.first_order_attention(uneven, level, v, pre_scaled=1.0)
        ),
        "local": lambda: st.local_attention(q, k, v),
        "exact": lambda: st.kernel_attention(q, k, v, "exp"),
    }
    found = {}
    for count in (1, 2, 5):
        cores(count)
        for name, form in forms.items():
            out = form()
            assert np.array_equal(found.setdefault(name, out), out), (name, count)
