from __future__ import annotations

import itertools

import numpy as np
import pytest

from schoenbat_theory import check_mean, check_tail, sampling
from schoenbat_theory.sampling import BATCHES, batch_means, chunks, replicates, stream


def test_the_same_address_gives_the_same_numbers_and_another_gives_others():
    addresses = [
        ("P01", "checks", "a"),
        ("P01", "checks", "b"),
        ("P01", "mutants", "a"),
        ("P02", "checks", "a"),
        ("P01checks", "a"),
    ]
    first = [stream(0, *address).random(8).tolist() for address in addresses]
    assert first == [stream(0, *address).random(8).tolist() for address in addresses]
    others = [stream(1, *address).random(8).tolist() for address in addresses]
    for a, b in itertools.combinations(first + others, 2):
        assert a != b


def test_streams_do_not_depend_on_the_process_or_the_platform():
    # PCG64DXSM and SeedSequence are frozen by NumPy's stability policy, SHA-256 by its standard.
    assert stream(0, "P05", "sampled").integers(1 << 30, size=3).tolist() == [949602258, 1059506180, 2032618]


def test_two_streams_are_uncorrelated():
    n = 1 << 14
    x, y = (stream(0, "P05", name).random(n) - 0.5 for name in ("a", "b"))
    # Terms of x y lie in [-1/4, 1/4]; Hoeffding with error rate 1e-9.
    assert abs(np.mean(x * y)) <= 0.25 * np.sqrt(2 * np.log(2e9) / n)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (7, 50), (1 << 20,)])
@pytest.mark.parametrize("total", [1, 1000, 1 << 15])
def test_chunks_add_up_and_are_powers_of_two(shape, total):
    if np.prod(shape) > 1 << 18:
        total = 5
    sizes = list(chunks(total, shape))
    assert sum(sizes) == total
    assert all(size == sizes[0] for size in sizes[:-1])
    assert sizes[0] & (sizes[0] - 1) == 0 or len(sizes) == 1


@pytest.mark.parametrize("shape", [(), (3,)])
def test_batch_means_are_means_of_the_replicates_in_order(shape):
    drawn = []

    def sample(rng, size):
        drawn.append(rng.random((size, *shape)))
        return drawn[-1]

    for n, means, square in batch_means(
        sample, np.random.default_rng(0), [256, 512, 1024, 2048, 4096], shape, np.zeros(shape)
    ):
        flat = np.concatenate(drawn)
        assert len(flat) == n  # nothing is drawn twice or thrown away
        assert means.shape == (BATCHES, *shape)
        # Sums of n numbers below 1 in another order: n u each.
        assert np.all(np.abs(means.mean(axis=0) - flat.mean(axis=0)) <= 2 * n * 2.0**-53)
        assert np.all(np.abs(square - np.mean(flat**2, axis=0)) <= 2 * n * 2.0**-53)
        expected = flat.reshape(BATCHES, -1, *shape).mean(axis=1)  # batches are neighbours in the order of drawing
        assert np.all(np.abs(means - expected) <= 2 * n * 2.0**-53)


def test_who_watches_sees_every_replicate_once():
    seen, sizes = [], [256 << i for i in range(9)]
    looks = list(batch_means(lambda rng, size: rng.random(size), np.random.default_rng(0), sizes, (), 0.0, seen.append))
    everything = np.concatenate(seen)
    assert np.array_equal(everything, np.random.default_rng(0).random(1 << 16))
    assert len(looks) == 9


def test_results_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    def run():
        mean = check_mean(lambda r, size: r.random((size, 3)), np.full(3, 0.5), margin=0.01, variance=1 / 12, rng=1)
        tail = check_tail(lambda r, size: r.random(size) < 0.1, 0.11, rng=1)
        return mean, tail

    mean, tail = run()
    monkeypatch.setattr(sampling, "CHUNK", 64)
    small_mean, small_tail = run()
    assert small_tail == tail
    assert (small_mean.verdict, small_mean.draws) == (mean.verdict, mean.draws)
    # The interval's slack comes from a sum of squares that is added in another order.
    assert np.allclose(small_mean.interval, mean.interval, rtol=0, atol=2 * mean.draws * 2.0**-53)


@pytest.mark.parametrize(
    ("sample", "error", "words"),
    [
        (lambda r, size: np.zeros(3), ValueError, r"sample: expected shape \(10, 2\) for size = 10, found \(3,\)"),
        (lambda r, size: np.zeros((1, 2)), ValueError, "sample: expected shape"),
        (lambda r, size: np.full((size, 2), np.nan), ArithmeticError, "sample: a replicate is not finite"),
        (lambda r, size: np.full((size, 2), -np.inf), ArithmeticError, "sample: a replicate is not finite"),
    ],
)
def test_wrong_replicates_are_refused(rng, sample, error, words):
    with pytest.raises(error, match=words):
        list(replicates(sample, rng, 10, (2,)))
