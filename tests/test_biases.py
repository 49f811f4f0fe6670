from __future__ import annotations

import math

import numpy as np
import pytest

from schoenbat_theory import alibi_bias, clipped_bias, t5_bias, to_host
from schoenbat_theory.arrays import device_of


def published_bucket(r: int, exact: int, buckets: int, max_distance: int) -> int:
    """T5's rule as its code has it, in float32."""
    if r < exact:
        return r
    ratio = np.log(np.float32(r) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    return min(exact + int(ratio * np.float32(buckets - exact)), buckets - 1)


def test_the_slopes_of_alibi_are_those_of_the_paper():
    slopes = alibi_bias(1, 2, 8)[:, 1]
    assert slopes.tolist() == [2.0**-h for h in range(1, 9)]
    assert alibi_bias(1, 2, 16)[:, 1].tolist() == [2.0 ** (-h / 2) for h in range(1, 17)]
    assert alibi_bias(1, 2, 1)[:, 1].tolist() == [2.0**-8]


@pytest.mark.parametrize(("heads", "below"), [(3, 2), (12, 8), (15, 8)])
def test_between_powers_of_two_slopes_are_interpolated(heads, below):
    slopes = alibi_bias(1, 2, heads)[:, 1]
    assert slopes[:below].tolist() == alibi_bias(1, 2, below)[:, 1].tolist()
    assert slopes[below:].tolist() == alibi_bias(1, 2, 2 * below)[::2, 1][: heads - below].tolist()


def test_an_entry_of_alibi_is_the_slope_times_the_offset():
    n, m = 4, 6
    bias, symmetric = alibi_bias(n, m, 2), alibi_bias(n, m, 2, symmetric=True)
    assert bias.shape == symmetric.shape == (2, n + m - 1)
    for h, slope in enumerate((2.0**-4, 2.0**-8)):
        for i in range(n):
            for j in range(m):
                assert bias[h, j - i + n - 1] == slope * (j - i)
                assert symmetric[h, j - i + n - 1] == -slope * abs(j - i)


def test_the_buckets_of_t5_are_the_known_ones():
    first = {
        0: 0,
        7: 7,
        8: 8,
        11: 8,
        12: 9,
        15: 9,
        16: 10,
        22: 10,
        23: 11,
        31: 11,
        32: 12,
        45: 12,
        46: 13,
        63: 13,
        64: 14,
    }
    known = first | {90: 14, 91: 15, 127: 15, 128: 15, 5000: 15}
    n = m = 5001
    found = t5_bias(np.arange(32.0), n, m)
    for r, bucket in known.items():
        assert found[-r + n - 1] == bucket  # j <= i
        if r:
            assert found[r + n - 1] == bucket + 16  # j > i
    causal = t5_bias(np.arange(32.0), n, m, bidirectional=False)
    assert np.all(causal[n - 1 :] == 0)  # keys after the query
    assert [causal[-r + n - 1] for r in (0, 1, 15, 16, 18, 19, 20, 21, 112, 113, 127, 128)] == [
        *(0, 1, 15, 16, 16, 17, 17, 18),
        *(30, 31, 31, 31),
    ]


@pytest.mark.parametrize(("size", "max_distance"), [(32, 128), (16, 100), (10, 6), (64, 1000), (4, 2), (12, 20)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_buckets_follow_the_published_rule_beside_its_own_rounding(size, max_distance, bidirectional):
    buckets = size // 2 if bidirectional else size
    exact = buckets // 2
    if exact >= max_distance:
        pytest.skip("no room between the exact buckets and the largest distance")
    n = 2 * max_distance
    found = t5_bias(np.arange(float(size)), n, 1, bidirectional=bidirectional, max_distance=max_distance)[::-1]
    for r in range(n):
        position = (buckets - exact) * math.log(max(r, 1) / exact) / math.log(max_distance / exact)
        if r < exact or abs(position - round(position)) > 1e-5:  # else float32 may fall on either side
            assert found[r] == published_bucket(r, exact, buckets, max_distance)
        else:
            assert found[r] == min(exact + round(position), buckets - 1)


def test_a_farthest_distance_of_a_billion_is_no_loop():
    found = t5_bias(np.arange(32.0), 3000, 1, bidirectional=False, max_distance=10**9)[::-1]
    # The last bucket begun is that of 16 (10^9 / 16)^(4/16) = 1422.6, the second of the large ones that of 49.1.
    assert found[[15, 16, 49, 50, 1422, 1423, 2999]].tolist() == [15, 16, 16, 17, 19, 20, 20]


def test_distances_beyond_the_learned_ones_are_clipped():
    n, m, values = 5, 7, np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    found = clipped_bias(values, n, m)
    for i in range(n):
        for j in range(m):
            assert found[j - i + n - 1] == values[min(max(j - i, -2), 2) + 2]
    assert clipped_bias(np.array([3.0]), 2, 2).tolist() == [3, 3, 3]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [t5_bias, clipped_bias])
def test_learned_biases_stay_where_their_table_is(asarray, rng, make, dtype):
    table = rng.normal(size=(2, 3, 9)).astype(dtype)
    found = make(asarray(table), 30, 20)
    assert type(found) is type(asarray(table))
    assert (found.dtype, tuple(found.shape)) == (asarray(table).dtype, (2, 3, 49))
    assert np.array_equal(to_host(found)[1, 2], make(table[1, 2], 30, 20))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: alibi_bias(0, 4, 8), ValueError, "n: expected an int >= 1, found 0"),
        (lambda: alibi_bias(4, 2.5, 8), ValueError, "m: expected an int >= 1, found 2.5"),
        (lambda: alibi_bias(4, 4, 0), ValueError, "n_heads: expected an int >= 1, found 0"),
        (lambda: alibi_bias(4, 4, 8, symmetric="yes"), TypeError, "symmetric: expected True or False, found 'yes'"),
        (
            lambda: t5_bias(np.ones(3), 4, 4),
            ValueError,
            r"table: expected \(\.\.\., buckets\), buckets >= 4, found \(3,\)",
        ),
        (lambda: t5_bias(np.ones(1), 4, 4, bidirectional=False), ValueError, "buckets >= 2"),
        (lambda: t5_bias(np.ones(32), 4, 4, max_distance=8), ValueError, "max_distance: expected an int >= 9, found 8"),
        (lambda: t5_bias([1.0] * 32, 4, 4), TypeError, "table: expected an array, found list"),
        (lambda: t5_bias(np.arange(32), 4, 4), TypeError, "table: expected dtype float32 or float64, found int64"),
        (lambda: t5_bias(np.ones(()), 4, 4), ValueError, r"table: expected at least one axis, found \(\)"),
        (
            lambda: clipped_bias(np.ones(4), 4, 4),
            ValueError,
            r"values: expected \(\.\.\., 2 K \+ 1\), an odd number, found \(4,\)",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_alibi_comes_in_the_library_and_dtype_asked_for(asarray):
    like = asarray(np.ones(1, dtype=np.float32))
    bias = alibi_bias(3, 4, 2, like=like)
    assert (type(bias), bias.dtype, device_of(bias)) == (type(like), like.dtype, device_of(like))
    assert np.array_equal(to_host(bias), alibi_bias(3, 4, 2).astype(np.float32))
    with pytest.raises(TypeError, match="like: expected an array, found list"):
        alibi_bias(3, 4, 2, like=[1.0])
