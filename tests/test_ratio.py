from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.confidence import binomial_limits

HALF = Fraction(1, 2)
QUERY, KEYS, VALUES = (HALF, Fraction(-1, 3)), ((1, HALF), (0, -2), (Fraction(-1, 4), 1)), (3, -1, HALF)
ONE_DIM = {"q": [HALF], "k": [[1], [0]], "v": [1, 0]}  # the example of P09


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def features(kernel, max_degree, exact_below, p):
    """Yield (probability, (one feature's estimate of each weight)) for every degree and all its signs."""
    scale = sum(Fraction(p) ** -n for n in range(exact_below, max_degree + 1))
    for n in range(exact_below, max_degree + 1):
        chance = Fraction(p) ** -n / scale
        for signs in itertools.product(itertools.product((1, -1), repeat=2), repeat=n):
            weight = Fraction(st.get_kernel(kernel).coefficient(n)) / chance
            products = [math.prod(dot(w, QUERY) * dot(w, key) for w in signs) for key in KEYS]
            yield chance / 4**n, [weight * x for x in products]


def brute_force(kernel, max_degree, exact_below, p):
    """The joint law of the sums for two random features beside the exact ones, and the target."""
    a = [Fraction(st.get_kernel(kernel).coefficient(n)) for n in range(max_degree + 1)]
    series = [[sum(a[n] * dot(QUERY, key) ** n for n in range(top)) for key in KEYS] for top in range(max_degree + 2)]
    law = {}
    for (p1, x1), (p2, x2) in itertools.product(features(kernel, max_degree, exact_below, p), repeat=2):
        estimate = [e + (y + z) / 2 for e, y, z in zip(series[exact_below], x1, x2, strict=True)]
        sums = dot(estimate, VALUES), sum(estimate)
        law[sums] = law.get(sums, 0) + p1 * p2
    return law, dot(series[-1], VALUES) / sum(series[-1])


@pytest.mark.parametrize(
    ("kernel", "max_degree", "exact_below", "p"),
    [(kernel, 2, 0, 2) for kernel in st.KERNELS]
    + [("exp", 3, 1, 2), ("inv", 2, 2, 2), ("sqrt", 2, 1, 3), ("logi", 2, 0, Fraction(5, 2)), ("exp", 0, 0, 1.5)],
)
def test_the_law_is_that_of_plain_enumeration(kernel, max_degree, exact_below, p):
    law = st.ratio_law(
        QUERY, KEYS, VALUES, kernel, n_features=2 + (0, 1, 3)[exact_below], max_degree=max_degree,
        exact_below=exact_below, p=p,
    )  # fmt: skip
    sums, target = brute_force(kernel, max_degree, exact_below, p)
    assert law.sums == sums
    assert law.target == target
    values = {}
    for (x, y), chance in sums.items():
        if y:
            values[x / y] = values.get(x / y, 0) + chance
    assert law.values == values
    assert law.zero == sum(chance for (_, y), chance in sums.items() if y == 0)
    assert law.negative == sum(chance for (_, y), chance in sums.items() if y < 0)
    assert law.mean == sum(x * chance for x, chance in values.items()) / (1 - law.zero)
    assert law.bias == law.mean - law.target


@pytest.mark.parametrize("exact_below", [0, 1])
def test_both_sums_are_unbiased_and_probabilities_sum_to_one(exact_below):
    law = st.ratio_law(QUERY, KEYS, VALUES, n_features=4, max_degree=2, exact_below=exact_below)
    numerator, denominator = (sum(s[i] * chance for s, chance in law.sums.items()) for i in (0, 1))
    series = [sum(dot(QUERY, key) ** n / math.factorial(n) for n in range(3)) for key in KEYS]
    assert (numerator, denominator) == (dot(series, VALUES), sum(series))
    assert sum(law.sums.values()) == 1
    assert sum(law.values.values()) == 1 - law.zero


def test_degrees_zero_and_one_in_one_dimension_give_the_binomial_law():
    n = 256
    law = st.ratio_law(**ONE_DIM, n_features=n, max_degree=1)
    # A feature of degree 0 (2 of 3) is 3/2 for both keys, one of degree 1 is 3 q = 3/2 for the first: R = n / (n + #0).
    expected = {Fraction(n, n + j): math.comb(n, j) * Fraction(2**j, 3**n) for j in range(n + 1)}
    assert law.values == expected
    assert law.mean == sum(x * p for x, p in expected.items())


def test_the_numbers_of_the_untruncated_example_are_approached():
    def mean(n_features, **options):
        return float(st.ratio_law(**ONE_DIM, n_features=n_features, **options).mean)

    # R is in [0, 1], and a degree above the limit has at most this probability.
    assert abs(mean(1, max_degree=20) - 0.75) <= 2.0**-21
    assert abs(mean(2, max_degree=20) - 0.6819247) <= 2 * 2.0**-21 + 0.5e-7
    assert abs(mean(2, max_degree=20, exact_below=1) - 0.613847) <= 0.5e-5


def test_the_library_draws_from_this_law(rng):
    size, options = 1 << 17, {"max_degree": 2, "exact_below": 1}
    query = [6 * x for x in QUERY]  # long enough for negative denominators
    law = st.ratio_law(query, KEYS, VALUES, n_features=3, **options)
    assert law.negative > 0.01
    q, k, v = (np.array(x, dtype=float) for x in (query, KEYS, VALUES))
    drawn = st.RandomMaclaurin("exp", 3, st.GeometricDegrees(**options)).estimates(q, k, rng=rng, size=size)
    unit = math.lcm(*(z.denominator for sums in law.sums for z in sums))  # sums are whole in these units
    found = dict.fromkeys([(int(x * unit), int(y * unit)) for x, y in law.sums], 0)
    for x, y in np.rint(unit * np.stack([drawn @ v, drawn.sum(axis=-1)], axis=-1)).tolist():
        found[int(x), int(y)] += 1  # KeyError for a value that the law does not have
    low, high = binomial_limits(np.array(list(found.values())), size, 1e-9 / len(found))
    p = np.array([float(chance) for chance in law.sums.values()])
    assert ((low <= p) & (p <= high)).all()


def test_a_denominator_can_be_zero_or_negative():
    law = st.ratio_law([1, 1], [[1, 1]], [1], st.polynomial(1), n_features=2, max_degree=1, exact_below=1)
    assert law.sums == {(0, 0): HALF, (4, 4): HALF}
    assert (law.zero, law.negative, law.mean, law.bias) == (HALF, 0, 1, 0)
    assert st.ratio_law([HALF], [[-1]], [1], n_features=1, max_degree=1).negative == Fraction(1, 3)


def test_where_no_ratio_exists_the_mean_says_so():
    law = st.RatioLaw({(Fraction(1), Fraction(0)): Fraction(1)}, Fraction(1))
    assert law.values == {}
    with pytest.raises(ValueError, match="mean: the denominator is 0"):
        _ = law.mean


def test_numbers_of_every_kind_are_taken_exactly():
    expected = st.ratio_law(**ONE_DIM, n_features=3, max_degree=2)
    for q, k, v in [
        (np.array([0.5]), np.array([[1.0], [0.0]]), np.array([1.0, 0.0])),
        (np.array([0.5], dtype=np.float32), np.array([[1], [0]]), np.array([1, 0], dtype=np.int8)),
        ((0.5,), ([np.int64(1)], [0]), (True, 0)),
    ]:
        assert st.ratio_law(q, k, v, n_features=3, max_degree=2) == expected
    tenth = st.ratio_law([0.1], [[1]], [1], n_features=1, max_degree=1)
    assert max(y for _, y in tenth.sums) == 3 * HALF
    assert min(y for _, y in tenth.sums) == 3 * Fraction(0.1) != Fraction(3, 10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": [math.nan]}, ValueError, "q: expected finite rational numbers, found nan"),
        ({"q": 0.5}, ValueError, "q: expected 1 axes"),
        ({"q": []}, ValueError, "q: expected 1 axes and at least one number"),
        ({"q": [1j]}, TypeError, "q: expected finite rational numbers"),
        ({"k": [["1"], [0]]}, TypeError, "k: expected finite rational numbers, found '1'"),
        ({"k": [[1, 2], [0, 1]]}, ValueError, r"k: expected \(m, d\) = \(2, 1\)"),
        ({"k": [[1], [0, 1]]}, ValueError, "k: expected 2 axes"),
        ({"v": [1, math.inf]}, ValueError, "v: expected finite rational numbers, found inf"),
        ({"kernel": "cosh"}, ValueError, "kernel: expected one of"),
        ({"n_features": 0}, ValueError, "n_features: expected an int >= 1, found 0"),
        ({"n_features": 1, "exact_below": 1}, ValueError, "n_features: expected an int >= 2"),
        ({"max_degree": None}, TypeError, "max_degree: expected an int >= 0, found None"),
        ({"max_degree": 0, "exact_below": 1}, ValueError, "max_degree: expected at least exact_below"),
        ({"exact_below": 3}, ValueError, "exact_below: expected 0, 1 or 2"),
        ({"p": 1}, ValueError, "p: expected a finite number > 1"),
        ({"p": "2"}, TypeError, "p: expected finite rational numbers"),
        ({"q": [-1], "k": [[1], [1]], "max_degree": 1}, ValueError, "the truncated kernel sums to 0"),
        ({"n_features": 256, "max_degree": 3}, ValueError, "n_features: .* found 11448836, for 2862209 sums of 256"),
        ({"q": [1] * 23, "k": [[1] * 23, [0] * 23]}, ValueError, r"q: .* found 4194304, for 2\^22 sign vectors"),
        (
            {"q": [2**-i for i in range(9)], "k": [[2**-i for i in range(9)], [0] * 9], "max_degree": 3},
            ValueError,
            "max_degree: .* products of 3 of 256 projections",
        ),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        st.ratio_law(**{**ONE_DIM, "n_features": 2, "max_degree": 2, **change})


def test_a_mean_with_too_long_a_denominator_is_refused():
    law = st.ratio_law([0.5, 0.3], [[1, 0.5], [0, -1], [0.2, 0.7]], [1, 0, -1], n_features=14, max_degree=2)
    with pytest.raises(ValueError, match=r"mean: .* the bits of a common denominator"):
        _ = law.mean


def test_a_law_does_not_grow_when_it_is_read():
    law = st.ratio_law([0.5], [[1], [0]], [1, 0], n_features=1, max_degree=1)
    with pytest.raises(KeyError):
        law.sums[7, 7]
