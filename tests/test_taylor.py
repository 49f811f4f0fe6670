"""The exact map of the first terms: what it sums, how wide it is, what it refuses."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import TaylorFeatures, load_draw
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
KERNELS = [*st.KERNELS.values(), st.polynomial(3, 1.0), st.polynomial(2), st.get_kernel("inv").scaled(0.5)]
STORED = ("format", "dim", "coefficients", "shape", "radius", "name")


def pairs(rng, dim, *, n=20):
    x = rng.normal(size=(2, n, dim))
    return 0.9 * x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_inner_products_are_the_first_terms_of_the_series(asarray, rng, kernel, degree):
    x, y = pairs(rng, 5)
    law = TaylorFeatures(kernel, degree, 5)
    phi = law.draw(5)
    found = np.sum(st.to_host(phi(asarray(x))) * st.to_host(phi(asarray(y))), axis=-1)
    terms = [float(a) * np.sum(x * y, axis=-1) ** n for n, a in enumerate(kernel.coefficients(degree))]
    # A feature errs by 4 u of itself (a root, two products, sqrt 2), a sum of D products by D u more; |phi|^2 bounds it.
    largest = sum(float(a) * 0.81**n for n, a in enumerate(kernel.coefficients(degree)))
    bound = (2 * 4 + law.n_features + 1 + 8) * U * largest  # 8: the terms themselves
    assert np.max(np.abs(found - sum(terms))) <= bound
    assert np.max(np.abs(st.to_host(law.mean(asarray(x), asarray(y))) - sum(terms))) <= bound


def test_the_square_of_an_inner_product_is_exact_in_whole_numbers():
    """For f = t^2 features of whole numbers are whole numbers, times sqrt 2 off the diagonal; products are exact."""
    x, y = np.array([[1.0, -2.0, 3.0]]), np.array([[4.0, 5.0, -6.0]])
    phi = TaylorFeatures(st.polynomial(2), 2, 3).draw(3)
    squares = [Fraction(*(v * v).as_integer_ratio()) for v in (1.0, -2.0, 3.0)]
    assert [Fraction(*v.as_integer_ratio()) for v in phi(x)[0, [4, 7, 9]]] == squares
    assert np.array_equal(phi(x)[0, :4], np.zeros(4))
    assert np.array_equal(phi(x)[0, [5, 6, 8]], np.array([-2.0, 3.0, -6.0]) * math.sqrt(2))
    assert abs(np.sum(phi(x) * phi(y)) - 576) <= 32 * U * 1444  # (4 - 10 - 18)^2; sum of absolute values is (4+10+18)^2


@pytest.mark.parametrize(("degree", "dim", "width"), [(0, 7, 1), (1, 7, 8), (2, 1, 3), (2, 7, 36), (2, 64, 2145)])
def test_the_width_is_the_number_of_monomials(degree, dim, width):
    law = TaylorFeatures("exp", degree, dim)
    phi = law.draw(dim)
    assert law.n_features == phi.n_features == phi(np.ones((1, dim))).shape[-1] == width
    assert (phi.dim, phi.shape, phi.radius) == (dim, (), math.inf)


@pytest.mark.parametrize(("degree", "operations"), [(0, 0), (1, 3), (2, 3 + 2 * 6)])
def test_multiply_adds_count_every_product(degree, operations):
    assert TaylorFeatures("exp", degree, 3).draw(3).multiply_adds == operations


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_are_those_of_a_constant_in_the_kind_of_the_argument(asarray, rng, dtype):
    x, y = (asarray(one.astype(dtype)) for one in pairs(rng, 4))
    law = TaylorFeatures("inv", 2, 4)
    assert np.array_equal(st.to_host(law.variance(x, y)), np.zeros(20))
    assert np.array_equal(st.to_host(law.second_moment(x, y)), st.to_host(law.mean(x, y)) ** 2)
    target = st.get_kernel("inv")(asarray(np.sum(st.to_host(x) * st.to_host(y), axis=-1)))
    assert np.allclose(st.to_host(law.target(x, y)), st.to_host(target), rtol=100 * float(np.finfo(dtype).eps))
    for found in (law.mean(x, y), law.variance(x, y), law.second_moment(x, y), law.target(x, y)):
        assert type(found) is type(x)
        assert found.dtype == x.dtype
    phi = law.draw(4)(x)
    assert type(phi) is type(x)
    assert phi.dtype == x.dtype


def test_the_truncation_is_the_tail_of_the_kernel(rng):
    x, y = pairs(rng, 4)
    t = np.sum(x * y, axis=-1)
    for degree in (0, 1, 2):
        law = TaylorFeatures("inv", degree, 4)
        assert np.allclose(law.target(x, y) - law.mean(x, y), t ** (degree + 1) / (1 - t), rtol=0, atol=1e3 * U)


def test_the_mean_is_known_beyond_the_radius_and_the_target_is_not():
    law, x = TaylorFeatures("inv", 2, 1), np.array([2.0])
    assert law.mean(x, x) == 21
    assert law.draw(1)(np.array([[2.0]])).tolist() == [[1, 2, 4]]
    with pytest.raises(ValueError, match=r"needs finite \|t\| <= 1"):
        law.target(x, x)


def test_the_target_of_unit_vectors_is_on_the_boundary():
    x = np.full(3, math.sqrt(1 / 3)) * (1 + 2 * U)
    assert np.sum(x * x) > 1
    assert TaylorFeatures("sqrt", 2, 3).target(x, x) == 2


def test_a_draw_ignores_the_seed_and_is_the_same_along_leading_axes(asarray, rng):
    law, x = TaylorFeatures("exp", 2, 3), rng.normal(size=(5, 3))
    assert np.array_equal(law.draw(3, 0)(x), law.draw(3, 1)(x))
    phi = law.draw(3, shape=(2, 1))
    assert phi.shape == (2, 1)
    found = st.to_host(phi(asarray(np.stack([x, 2 * x, 3 * x]))))
    assert found.shape == (2, 3, 5, 10)
    assert np.array_equal(found[1, 2], law.draw(3)(3 * x))


def test_attention_through_it_is_attention_with_the_partial_sum(asarray, rng):
    """1 + t + t^2/2 = ((1 + t)^2 + 1) / 2 > 0: every denominator is positive, and no weight cancels."""
    q, k, v = rng.normal(size=(7, 3)), rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    phi = TaylorFeatures("exp", 2, 3).draw(3)
    found = st.to_host(st.feature_attention(*map(asarray, (q, k, v)), phi))
    weights = 1 + q @ k.T + (q @ k.T) ** 2 / 2
    # A weight errs by (D + 8) u |phi(q)| |phi(k)| and is at least 1/2; both sums by m u more; found and expected.
    length = np.max(np.linalg.norm(phi(q), axis=-1)) * np.max(np.linalg.norm(phi(k), axis=-1))
    bound = 2 * 2 * (2 * (10 + 8) * length + 9) * U * np.max(np.abs(v))
    assert np.max(np.abs(found - weights @ v / weights.sum(axis=-1, keepdims=True))) <= bound


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_a_saved_draw_is_the_same_map(tmp_path, rng, degree):
    phi = TaylorFeatures("logi", degree, 3).draw(3, shape=(2,))
    phi.save(tmp_path / "phi.npz")
    again, x = load_draw(tmp_path / "phi.npz"), rng.normal(size=(4, 3))
    assert isinstance(again, st.TaylorDraw)
    assert np.array_equal(again(x), phi(x))
    assert (again.name, again.shape, again.radius, again.n_features) == (phi.name, (2,), 1.0, phi.n_features)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": np.array(0)},
        {"dim": np.array(2.0)},
        {"dim": np.array([2])},
        {"coefficients": np.ones(4)},
        {"coefficients": np.ones(0)},
        {"coefficients": np.ones((1, 1))},
        {"coefficients": np.array([1.0, -1.0])},
        {"coefficients": np.array([1.0, np.nan])},
        {"coefficients": np.ones(2, dtype=np.float32)},
        {"shape": np.array([-1])},
        {"shape": np.array(1)},
        {"radius": np.array(0.0)},
        {"radius": np.array(np.nan)},
        {"name": np.array(3)},
    ],
    ids=str,
)
def test_an_archive_that_is_no_draw_is_refused(tmp_path, change):
    path = tmp_path / "phi.npz"
    TaylorFeatures("exp", 1, 2).draw(2).save(path)
    write_npz(path, **{**read_npz(path, STORED), **change})
    with pytest.raises(ValueError, match=rf"phi\.npz: {next(iter(change))} of the draw is damaged"):
        load_draw(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exp", 3, 2), r"degree: expected 0, 1 or 2, found 3"),
        (("exp", -1, 2), r"degree: expected an int >= 0, found -1"),
        (("exp", 1, 0), r"dim: expected an int >= 1, found 0"),
        (("cos", 1, 2), r"kernel: expected one of"),
    ],
)
def test_wrong_laws_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TaylorFeatures(*arguments)


def test_wrong_rows_are_refused():
    law = TaylorFeatures("exp", 2, 2)
    with pytest.raises(ValueError, match="dim: expected 2, which the law was made for, found 3"):
        law.draw(3)
    with pytest.raises(TypeError, match="shape: expected a tuple"):
        law.draw(2, shape=3)
    with pytest.raises(ValueError, match=r"x: expected shape \(..., n, 2\), found \(3, 4\)"):
        law.draw(2)(np.ones((3, 4)))
    with pytest.raises(ValueError, match="x: expected finite entries"):
        law.draw(2)(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="x: features overflow float64"):
        law.draw(2)(np.array([[1e200, 1.0]]))
    with pytest.raises(TypeError, match="x: expected dtype"):
        law.draw(2)(np.ones((3, 2), dtype=int))
    with pytest.raises(ValueError, match=r"x, y: expected \(..., 2\), found \(3,\), \(3,\)"):
        law.mean(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="<x, y> overflows float64"):
        law.mean(np.full(2, 1e200), np.full(2, 1e200))


def test_it_is_registered_where_it_fits_into_the_width():
    maps = st.feature_maps()
    assert maps["Taylor, degree 1"]("inv", 8, 9) == TaylorFeatures("inv", 1, 8)
    assert maps["Taylor, degree 1"]("inv", 8, 8) is None
    assert maps["Taylor, degree 2"]("sqrt", 8, 45) == TaylorFeatures("sqrt", 2, 8)
    assert maps["Taylor, degree 2"]("sqrt", 8, 44) is None
