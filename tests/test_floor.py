"""The floor of a method: its products and its bytes, executed as often as it says and no more; nothing here asserts a time."""

import math

import numpy as np
import pytest

from schoenbat_theory.benchmark import floor as module
from schoenbat_theory.benchmark.floor import Product, Work, floor, lowest, rivals, roof

CASES = [Product(4096, 64, 256), Product(3, 5, 7, count=9), Product(1, 1, 1), Product(1 << 20, 64, 256), Product(64, 1 << 20, 65)]  # fmt: skip


@pytest.mark.parametrize("product", CASES)
@pytest.mark.parametrize("cores", [1, 2, 5])
def test_a_product_is_cut_so_that_every_core_has_a_piece_and_memory_is_bounded(product, cores):
    found = product.pieces(cores)
    assert found.count >= cores or (found.rows, found.inner, found.columns) == (1, 1, 1)
    assert found.entries <= module.ENTRIES
    assert found.multiply_adds <= product.multiply_adds
    if all(
        math.log2(side).is_integer() for side in (product.rows, product.inner)
    ):  # sides that are cut, in these cases
        assert found.multiply_adds == product.multiply_adds


def test_what_needs_no_cut_is_timed_at_its_own_shape():
    assert Product(512, 64, 256, count=64).pieces(2) == Product(512, 64, 256, count=64)


@pytest.fixture
def calls(monkeypatch):
    """Count multiplications by shape, and bytes copied."""
    found = {"shapes": [], "dtypes": set(), "outputs": set(), "bytes": 0}

    def matmul(a, b, out):
        found["shapes"].append((*a.shape, b.shape[1]))
        found["outputs"].add(out.ctypes.data)
        found["dtypes"] |= {a.dtype, b.dtype, out.dtype}

    def copyto(target, source):
        assert target.nbytes == source.nbytes
        assert not np.may_share_memory(target, source)
        found["bytes"] += target.nbytes + source.nbytes

    monkeypatch.setattr(module.np, "matmul", matmul)
    monkeypatch.setattr(module.np, "copyto", copyto)
    return found


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("one_core", [False, True])
def test_every_product_is_executed_as_often_as_it_says(calls, monkeypatch, cores, one_core):
    monkeypatch.setattr(module, "CORES", cores)
    monkeypatch.setattr(module, "LITTLE", 0)
    work = Work((Product(4, 3, 2, count=7), Product(2, 5, 2, count=3)), bytes=0, one_core=one_core)
    (run,) = rivals(work, "float32")
    run()
    assert sorted(calls["shapes"]) == [(2, 5, 2)] * 3 + [(4, 3, 2)] * 7
    assert calls["dtypes"] == {np.dtype("float32")}
    assert len(calls["outputs"]) == (2 if one_core or cores == 1 else 2 * cores)  # those of each core, for each product


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 10, 1 << 10, (1 << 10) + 1, 5 << 10])
def test_as_many_bytes_are_read_and_written_as_the_work_says(calls, monkeypatch, cores, size):
    for name, value in {"CORES": cores, "LITTLE": 0, "COPIED": 1 << 8}.items():
        monkeypatch.setattr(module, name, value)
    (run,) = rivals(Work((), bytes=size), "float32")
    run()
    assert calls["bytes"] == 2 * math.ceil(size / 2)


def test_work_without_products_or_bytes_has_no_floor():
    assert rivals(Work((), 0), "float32") == []
    assert lowest([]) == 0.0


def test_the_floor_is_the_larger_of_the_least_times():
    assert lowest([(3.0, 2.0, 5.0), (1.0, 4.0, 1.5)]) == 2.0
    assert lowest([(3.0, 2.0), (4.0, 2.5)]) == 2.5


def test_the_floor_of_something_is_a_time_and_the_roof_two_rates():
    assert floor(Work((Product(8, 8, 8),), bytes=64), "float64") > 0
    assert all(rate > 0 for rate in roof())
