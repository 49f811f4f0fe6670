"""Sets of monomials: what their features are, to the last rounding, for any leading axes, and what is no set."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import Monomials

KERNELS = [*st.KERNELS.values(), st.polynomial(3, 1.0), st.polynomial(2)]
COSH = st.DotProductKernel.from_coefficients(
    "cosh", lambda n: 0 if n % 2 else Fraction(1, math.factorial(n)), np.cosh, radius=math.inf
)


def powers(sets: Monomials, x: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return factors x^alpha by the definition."""
    return factors[..., None, :] * np.prod(x[..., :, None, :] ** sets.exponents()[..., None, :, :], axis=-1)


def assert_right(found: np.ndarray, sets: Monomials, x: np.ndarray, factors: np.ndarray) -> None:
    """Assert that features are their monomials, to three roundings a degree and two more; one is the oracle's own."""
    exact = powers(sets, x.astype(float), factors)
    assert found.shape == exact.shape
    u = np.finfo(x.dtype).eps / 2
    assert np.all(np.abs(found - exact) <= (3 * sets.degrees + 3)[..., None, :] * u * np.abs(exact))


def three_heads() -> Monomials:
    """Return three sets in three variables of which no two have the same columns, one of them padded."""
    deep = Monomials(3, [-1, 0, 1, 2, 3, 0, 4], [-1, 0, 0, 1, 2, 2, 2])
    flat = Monomials(3, [-1, 0, 0, 0, 1], [-1, 0, 1, 2, 2])
    return Monomials.stack([Monomials(3, [-1, 0, 0, 0, 1, 1, 2], [-1, 0, 1, 2, 0, 1, 1]), flat, deep])


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("degree", [0, 1, 4])
def test_features_of_all_monomials_sum_the_series(rng, kernel, degree):
    x, y = 0.4 * rng.normal(size=(2, 20, 4))
    every = Monomials.up_to(degree, 4)
    factors = every.factors(kernel)
    found = np.sum(every.apply(x, factors) * every.apply(y, factors), axis=-1)
    assert every.n_features == math.comb(4 + degree, degree)
    t, size = np.sum(x * y, axis=-1), np.sum(np.abs(x * y), axis=-1)
    # A factor errs by (2 n + 3) / 2 u, a feature by 3 n + 2 more, their sum by D u; the series itself by (4 + 2) n u.
    roundings = 2 * (4 * degree + 4) + every.n_features + 6 * degree
    allowed = roundings * 2.0**-53 * kernel.partial_sum(size, degree)
    assert np.all(np.abs(found - kernel.partial_sum(t, degree)) <= allowed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_feature_is_its_monomial_up_to_three_roundings_a_degree(asarray, rng, dtype):
    sets, x = three_heads(), rng.normal(size=(3, 5, 3)).astype(dtype)
    factors = sets.factors("exp")
    found = sets.apply(asarray(x), factors)
    assert type(found) is type(asarray(x))
    assert found.dtype == asarray(x).dtype
    assert_right(st.to_host(found), sets, x, factors)


def test_heads_together_are_heads_alone(rng):
    sets, x = three_heads(), rng.normal(size=(3, 4, 3))
    factors = sets.factors("inv")
    together = sets.apply(x, factors)
    for head in range(3):
        alone = Monomials(3, sets.parents[head], sets.coordinates[head])
        assert np.array_equal(together[head], alone.apply(x[head], factors[head]))


@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 3), (5, 2, 3), (2, 1)])
def test_leading_axes_broadcast(asarray, rng, lead):
    sets, x = three_heads(), rng.normal(size=(*lead, 4, 3))
    factors = sets.factors("exp")
    found = st.to_host(sets.apply(asarray(x), factors))
    assert found.shape == (*np.broadcast_shapes(lead, (3,)), 4, 7)
    assert_right(found, sets, x, factors)


@pytest.mark.parametrize("shape", [(0, 3), (0, 4, 3), (2, 0, 3)])
def test_no_rows_have_no_features(asarray, shape):
    found = Monomials.up_to(2, 3).apply(asarray(np.ones(shape)), np.ones(10))
    assert tuple(found.shape) == (*shape[:-1], 10)


def test_a_row_has_the_same_features_among_many(rng):
    every, x = Monomials.up_to(3, 8), rng.normal(size=(1000, 8))
    factors = every.factors("exp")
    many = every.apply(x, factors)
    assert np.array_equal(many[[0, 499, 500, 999]], every.apply(x[[0, 499, 500, 999]], factors))
    assert not np.array_equal(many[499], many[500])


def test_other_factors_and_another_kind_of_array_are_not_taken_for_the_last(asarray, rng):
    every, x = Monomials.up_to(3, 2), rng.normal(size=(3, 2))
    first, second = every.factors("exp"), every.factors("inv")
    for wanted, factors in ((x, first), (x, second), (x.astype(np.float32), second), (asarray(x), second)):
        found, fresh = every.apply(wanted, factors), Monomials.up_to(3, 2).apply(wanted, factors)
        assert found.dtype == fresh.dtype
        assert np.array_equal(st.to_host(found), st.to_host(fresh))


def test_a_set_is_shared_by_one_head_or_many(rng):
    one, x = Monomials.stack([Monomials.up_to(2, 3)]), rng.normal(size=(2, 4, 3))
    factors = one.factors("exp")
    for lead in (x, x[:1], x):
        assert_right(one.apply(lead, factors), one, lead, factors)


def test_factors_of_their_own_may_lead_along_axes_that_the_set_has_not(rng):
    every, x = Monomials.up_to(2, 2), rng.normal(size=(3, 2))
    factors = rng.normal(size=(4, 6))
    assert_right(every.apply(x, factors), every, x, factors)


def test_a_column_of_zeros_has_children_all_the_same(asarray, rng):
    every, x = Monomials.up_to(4, 2), rng.normal(size=(6, 2))
    factors = every.factors(COSH)
    found = st.to_host(every.apply(asarray(x), factors))
    assert np.array_equal(factors == 0, every.degrees % 2 == 1)
    assert np.all(found[:, every.degrees % 2 == 1] == 0)
    assert_right(found, every, x, factors)


def test_attention_through_them_is_attention_with_their_sum(asarray, rng):
    sets, (q, k, v) = Monomials.subspace(3, 2), 0.3 * rng.normal(size=(3, 9, 3))
    factors = sets.factors("exp")
    found = st.feature_attention(*map(asarray, (q, k, v)), lambda x: sets.apply(x, factors))
    weights = 1 + q @ k.T + (q[:, :2] @ k[:, :2].T) ** 2 / 2
    # A weight errs by (2 * 8 + 7) u of the sum of magnitudes, either sum over 9 keys by 9 u more; so do the ones here.
    sizes = np.abs(powers(sets, q, factors)) @ np.abs(powers(sets, k, factors)).T
    allowed = 2 * 2 * 32 * 2.0**-53 * sizes.sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    exact = weights @ v / weights.sum(axis=-1, keepdims=True)
    assert np.all(np.abs(st.to_host(found) - exact) <= allowed * np.max(np.abs(v)))


def test_exponents_degrees_and_multinomial_are_those_of_the_words():
    every = Monomials.up_to(5, 3)
    alpha = every.exponents()
    assert len({tuple(one) for one in alpha.tolist()}) == every.n_features == math.comb(8, 3)
    assert np.array_equal(every.degrees, alpha.sum(axis=-1))
    assert np.all(np.diff(every.degrees) >= 0)
    exact = [math.factorial(sum(one)) / math.prod(map(math.factorial, one)) for one in alpha.tolist()]
    assert np.all(np.abs(every.multinomial - exact) <= 2 * 5 * 2.0**-53 * np.array(exact))


def test_the_multinomial_coefficient_is_known_where_factorials_overflow():
    power = Monomials(1, np.arange(-1, 200), [-1, *[0] * 200])
    assert np.array_equal(power.multinomial, np.ones(201))
    assert np.array_equal(power.exponents()[:, 0], np.arange(201))


def test_a_subspace_has_squares_and_products_of_its_own_variables_only():
    found = Monomials.subspace(4, 2)
    assert found.n_features == 1 + 4 + 3
    assert found.exponents()[5:].tolist() == [[2, 0, 0, 0], [1, 1, 0, 0], [0, 2, 0, 0]]
    assert Monomials.subspace(4, 0).n_features == 5
    assert np.array_equal(Monomials.subspace(3, 3).exponents(), Monomials.up_to(2, 3).exponents())


def test_a_padded_set_has_empty_columns_of_factor_zero():
    sets = three_heads()
    assert (sets.shape, sets.n_features, sets.multiply_adds, sets.dim) == ((3,), 7, 6, 3)
    factors = sets.factors("inv")
    assert np.array_equal(factors[1, 5:], np.zeros(2))
    assert np.all(factors[[0, 2]] > 0)
    assert np.all(factors[:, 0] == 1)
    assert np.array_equal(sets.degrees[1], [0, 1, 1, 1, 2, 0, 0])
    assert np.array_equal(sets.multinomial[1], [1, 1, 1, 1, 2, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, [-1], [-1]), ValueError, "dim: expected an int >= 1, found 0"),
        ((2, [-1.0], [-1]), TypeError, r"parents: expected ints \(..., D\), D >= 1, found float64 \(1,\)"),
        ((2, -1, [-1]), TypeError, r"parents: expected ints \(..., D\), D >= 1, found int64 \(\)"),
        ((2, [-1], np.ones((2, 0), dtype=int)), TypeError, r"coordinates: expected ints .* found int64 \(2, 0\)"),
        ((2, [-1, 0], [-1]), ValueError, r"parents, coordinates: expected one shape, found \(2,\), \(1,\)"),
        ((2, [0], [0]), ValueError, "parents: expected columns before the child's own, or -1"),
        ((2, [-1, 2, 0], [-1, 0, 0]), ValueError, "parents: expected columns before"),
        ((2, [-1, -2], [-1, 0]), ValueError, "parents: expected columns before"),
        ((2, [-1, 0], [-1, 2]), ValueError, "coordinates: expected 0 .. 1"),
        ((2, [-1, 0], [-1, -1]), ValueError, "coordinates: expected 0 .. 1"),
        ((2, [-1, -1], [-1, 1]), ValueError, "coordinates: expected 0 .. 1"),
        ((2, [-1, 0, 1], [-1, 1, 0]), ValueError, "not below the parent's"),
    ],
)
def test_what_is_no_tree_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Monomials(*arguments)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="degree: expected an int >= 0, found -1"):
        Monomials.up_to(-1, 2)
    with pytest.raises(ValueError, match="r: expected at most dim = 2, found 3"):
        Monomials.subspace(2, 3)
    with pytest.raises(ValueError, match="sets: expected one dim and shape"):
        Monomials.stack([Monomials.up_to(1, 2), Monomials.up_to(1, 3)])
    with pytest.raises(ValueError, match=r"leading axes do not broadcast: monomials \(3,\), x \(2,\)"):
        three_heads().apply(np.ones((2, 4, 3)), np.ones(7))
