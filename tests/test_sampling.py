from __future__ import annotations

import itertools

import numpy as np
import pytest

from schoenbat_theory import OuterProducts, SignProducts, check_mean, check_tail, sign_vectors
from schoenbat_theory.sampling import BATCHES, batch_means, batches, chunks, replicates, sign_sums, signs, stream


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
        sample, np.random.default_rng(0), [256, 512, 1024, 2048, 4096], shape, np.full(shape, 0.75)
    ):
        flat = np.concatenate(drawn)
        assert len(flat) == n  # nothing is drawn twice or thrown away
        assert means.shape == (BATCHES, *shape)
        # Sums of n numbers below 1 in another order: n u each.
        assert np.all(np.abs(means.mean(axis=0) - flat.mean(axis=0)) <= 2 * n * 2.0**-53)
        assert np.all(np.abs(square - np.mean((flat - 0.75) ** 2, axis=0)) <= 2 * n * 2.0**-53)
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
    monkeypatch.setattr(batches, "CHUNK", 64)
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


GENERATORS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


@pytest.mark.parametrize("bits", GENERATORS)
def test_signs_are_fair_and_uncorrelated_for_every_generator(bits):
    found = signs(np.random.Generator(bits(0)), (1 << 14, 64), np.int8)
    assert set(np.unique(found)) == {-1, 1}
    # Means of 2^14 numbers in [-1, 1]: Hoeffding, for 64 positions in a word and their 2,016 pairs, with error rate 1e-9.
    slack = np.sqrt(2 * np.log(2 * (64 + 2016) / 1e-9) / len(found))
    second = found.T.astype(np.int64) @ found / len(found)
    assert np.all(np.abs(found.mean(axis=0)) <= slack)
    assert np.all(np.abs(second - np.eye(64)) <= slack)


@pytest.mark.parametrize(("shape", "count"), [((), 1), (0, 0), (1, 1), ((3, 0), 0), ((5, 7), 35), (1 << 10, 1 << 10)])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_signs_are_those_of_the_bits_of_the_generator(shape, count, dtype):
    found = signs(np.random.default_rng(3), shape, dtype)
    words = np.random.default_rng(3).bit_generator.random_raw(-(-count // 64)).tolist()
    bits = [word >> (8 * byte + 7 - bit) & 1 for word in words for byte in range(8) for bit in range(8)]
    assert found.dtype == dtype
    assert found.shape == ((shape,) if isinstance(shape, int) else shape)
    assert found.ravel().tolist() == [2 * bit - 1 for bit in bits[:count]]


def test_signs_do_not_depend_on_the_platform():
    # Bytes are read from the lowest up, in each the highest bit first; big-endian machines swap theirs.
    expected = [-1, 1, -1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 1, -1]
    assert signs(np.random.default_rng(0), 16, np.int8).tolist() == expected


EXPONENTS = [[0, 0, 0], [1, 0, 0], [2, 1, 0], [1, 1, 1], [2, 4, 6], [3, 0, 1]]


@pytest.mark.parametrize("size", [1, 2, 8, 37, 64, 100])
def test_means_of_products_of_signs_are_those_of_an_enumeration(size):
    vectors = sign_vectors(3)[np.random.default_rng(0).integers(8, size=(4, size))]
    sampler = SignProducts(EXPONENTS, lambda rng, n: (1 - vectors.reshape(n, 3)) // 2)
    means, _ = sampler.means(np.random.default_rng(0), 4, size, np.zeros(6))
    expected = np.prod(vectors[:, :, None, :] ** np.array(EXPONENTS), axis=-1).sum(axis=1)  # whole numbers
    assert np.array_equal(means, expected / size)
    assert np.array_equal(sampler(np.random.default_rng(0), 4 * size).reshape(4, size, 6).sum(axis=1), expected)


@pytest.mark.parametrize("total", [1, 63, 64, 65, 1 << 14])
def test_sums_of_products_of_fair_signs_are_whole_numbers_of_the_right_parity_and_size(total):
    found = sign_sums(np.random.default_rng(1), EXPONENTS, total)
    assert found.dtype == np.int64
    assert found[[0, 4]].tolist() == [total, total]  # even powers
    assert np.all((found - total) % 2 == 0)
    assert np.all(np.abs(found) <= total)
    assert np.all(np.abs(found[[1, 2, 3, 5]]) <= np.sqrt(2 * total * np.log(8e9)))  # Hoeffding


def test_fair_sign_products_are_consistent_and_dependent_ones_refuted():
    pairs = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]

    def dependent(rng, size):
        free = rng.integers(2, size=(size, 3))
        return np.concatenate([free, free.sum(axis=1, keepdims=True) % 2], axis=1)

    fair = check_mean(SignProducts(pairs), np.zeros(3), margin=0.05, variance=1.0, rng=0)
    found = check_mean(SignProducts(pairs, dependent), np.zeros(3), margin=0.05, variance=1.0, rng=0)
    assert (fair.verdict, found.verdict) == ("consistent", "refuted")
    assert found.measured == 1.0


@pytest.mark.parametrize("exponents", [[], [1, 2], [[-1, 0]], [[0.5, 1]], [[np.nan, 1]]])
def test_other_exponents_are_refused(exponents):
    with pytest.raises(ValueError, match="exponents: expected whole numbers >= 0"):
        SignProducts(exponents)


def test_other_bits_and_targets_of_sign_products_are_refused(rng):
    for bits in (lambda rng, size: np.ones((size, 2)), lambda rng, size: np.full((size, 3), 2)):
        with pytest.raises(ValueError, match="bits: expected zeros and ones"):
            SignProducts(EXPONENTS, bits)(rng, 4)
    with pytest.raises(ValueError, match=r"sample: expected a target \(6,\), found \(2,\)"):
        check_mean(SignProducts(EXPONENTS), np.zeros(2), margin=0.1)


def factors(lead=()):
    return lambda rng, size: (rng.normal(1, 2, (size, *lead, 3)), rng.normal(size=(size, *lead, 4)))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("about", [None, 0.75])
@pytest.mark.parametrize("piece", [64, 1 << 14])
def test_outer_products_have_the_batch_means_of_their_formed_replicates(monkeypatch, lead, about, piece):
    monkeypatch.setattr(batches, "CHUNK", piece)
    sampler, shape, sizes = OuterProducts(factors(lead), about), (*lead, 3, 4), [256, 512, 1024]
    monkeypatch.setattr(OuterProducts, "held", lambda self, shape: shape)  # the same chunks for both
    ours = batch_means(sampler, np.random.default_rng(0), sizes, shape, np.ones(shape))
    formed = batch_means(sampler.__call__, np.random.default_rng(0), sizes, shape, np.ones(shape))
    for (n, means, square), (m, expected, _) in zip(ours, formed, strict=True):
        assert n == m
        # Sums of up to n numbers, in magnitude at most what the scale says in the mean over all batches.
        size = 1 + np.sqrt(square)
        assert np.all(np.abs(means - expected) <= (n + 16) * BATCHES * 2.0**-53 * size)


@pytest.mark.parametrize("about", [None, 0.75])
def test_the_scale_of_rounding_is_at_least_the_mean_of_what_is_added(about):
    z = OuterProducts(factors())(np.random.default_rng(0), 1024)
    added = np.abs(z) if about is None else (np.abs(z) + about) ** 2
    _, square = OuterProducts(factors(), about).means(np.random.default_rng(0), 4, 256, np.zeros((3, 4)))
    assert np.all(added.mean(axis=0) <= np.sqrt(square / 1024))


# For a normal with mean 1 and variance 4, and b standard normal: E a^2 = 5, E a^4 = 73; E b = 0, E b^2 = 1, E b^4 = 3.
@pytest.mark.parametrize(("about", "mean", "variance"), [(None, 0.0, 5.0), (0.0, 5.0, 73 * 3 - 25.0)])
def test_checks_of_outer_products_decide_as_those_of_formed_replicates(about, mean, variance):
    sampler, margin = OuterProducts(factors(), about), 0.05 * np.sqrt(variance)
    for shift, verdict in ((0.0, "consistent"), (3 * margin, "refuted")):
        target = mean + shift * np.eye(3, 4)
        known = {"margin": margin, "variance": variance, "rng": 1}
        ours, formed = (check_mean(one, target, **known) for one in (sampler, sampler.__call__))
        assert ours.verdict == formed.verdict == verdict


def test_known_bounds_look_at_every_outer_product():
    inside = OuterProducts(lambda rng, size: (rng.random((size, 9)), rng.random((size, 9))))
    known = {"target": np.full((9, 9), 0.25), "margin": 0.05, "rng": 0}
    assert check_mean(inside, bounds=(0, 1), **known).verdict == "consistent"
    with pytest.raises(ValueError, match="bounds: expected to contain"):
        check_mean(inside, bounds=(0, 0.5), **known)


def test_factors_of_few_bits_are_multiplied_in_float64_where_replicates_are_formed(rng):
    hundred = OuterProducts(lambda rng, size: (np.full((size, 1), 100, np.int8), np.full((size, 1), 100, np.int8)))
    assert np.array_equal(hundred(rng, 2), np.full((2, 1, 1), 1e4))
    formed = OuterProducts(lambda rng, size: (np.full((size, 1), 0.1, np.float32), np.full((size, 1), 3, np.float32)))
    assert formed(rng, 1)[0, 0, 0] == float(np.float32(0.1)) * 3


def test_the_limits_of_a_constant_outer_product_hold_it_in_spite_of_cancellation():
    # (z - c)^2 with z = 0.1 * 0.7 and c = 1e6: 2^13 terms of 1e12 are added, whose rounding is bounded by 2^14 2^-53 3e12 = 5.5.
    constant = OuterProducts(lambda rng, size: (np.full((size, 1), 0.1), np.full((size, 1), 0.7)), about=1e6)
    exact = (0.07 - 1e6) ** 2
    found = check_mean(constant, [[exact]], margin=10.0, variance=0.0, rng=0)
    assert found.verdict == "consistent"
    assert found.interval[0] <= exact <= found.interval[1]


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [
        (lambda r, size: (np.zeros((size, 3)), np.zeros((size, 5))), ValueError, "sample: expected factors"),
        (lambda r, size: (np.zeros((1, 3)), np.zeros((1, 4))), ValueError, "sample: expected factors"),
        (lambda r, size: (np.zeros((size, 3)), 1j * np.zeros((size, 4))), TypeError, "sample: expected real numbers"),
        (lambda r, size: (np.full((size, 3), np.nan), np.zeros((size, 4))), ArithmeticError, "is not finite"),
        (lambda r, size: (np.full((size, 3), np.inf), np.zeros((size, 4))), ArithmeticError, "is not finite"),
        (lambda r, size: (np.full((size, 3), 1e200), np.ones((size, 4))), ArithmeticError, "or its square"),
    ],
)
def test_wrong_factors_are_refused(broken, error, words):
    with pytest.raises(error, match=words):
        check_mean(OuterProducts(broken), np.zeros((3, 4)), margin=0.1, variance=1.0, rng=0)


def test_a_target_without_two_axes_is_refused():
    with pytest.raises(ValueError, match="sample: expected factors"):
        check_mean(OuterProducts(factors()), np.zeros(3), margin=0.1, variance=1.0, rng=0)


@pytest.mark.parametrize("known", [{"variance": 1.0}, {"bounds": (0, 1)}])
def test_one_factor_does_not_stand_for_many_whether_replicates_are_formed_or_not(known):
    one = OuterProducts(lambda rng, size: (rng.random((1, 1)), rng.random((size, 1))))
    with pytest.raises(ValueError, match="sample: expected factors"):
        check_mean(one, [[0.25]], margin=0.1, rng=0, **known)


@pytest.mark.parametrize("about", [np.nan, [[0.0, np.inf]]])
def test_a_centre_that_is_not_finite_is_refused(about):
    with pytest.raises(ValueError, match="about: expected finite numbers"):
        OuterProducts(factors(), about)
