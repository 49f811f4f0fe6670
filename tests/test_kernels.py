from __future__ import annotations

import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import KERNELS, DotProductKernel, RandomMaclaurin, get_kernel, polynomial, to_host
from schoenbat_theory.arrays import eps

U = 2.0**-53
NAMES = list(KERNELS)
EVERY = [
    *KERNELS.values(),
    polynomial(3, 0.5),
    polynomial(12),
    get_kernel("inv").scaled(0.5),
    get_kernel("exp").scaled(3),
]
EIGHTHS = [Fraction(n, 8) for n in range(-4, 5)]


def partial(kernel, t, n_max, n_min=0, power=1):
    """The partial sum in rational arithmetic."""
    return sum(Fraction(kernel.coefficient(n)) ** power * t**n for n in range(n_min, n_max + 1))


@pytest.mark.parametrize(
    ("name", "first", "step"),
    [
        ("exp", [1], lambda n: Fraction(1, n + 1)),  # y' = y
        ("trigh", [1], lambda n: Fraction(1, n + 1)),
        ("inv", [1], lambda n: 1),  # (1 - t) y' = y
        ("logi", [1, 1], lambda n: Fraction(n, n + 1)),  # (1 - t) y' = 1
        ("sqrt", [1, Fraction(1, 2)], lambda n: Fraction(2 * n - 1, 2 * n + 2)),  # 2 (1 - t) y' = 2 - y
    ],
)
def test_coefficients_obey_the_differential_equation_of_their_function(name, first, step):
    kernel, a = get_kernel(name), list(first)
    for n in range(len(a) - 1, 200):
        a.append(a[n] * step(n))
    assert [kernel.coefficient(n) for n in range(201)] == a
    assert kernel.coefficients(200).tolist() == [float(exact) for exact in a]


def test_trigh_is_exp():
    t = np.linspace(-5, 5, 101)
    assert np.array_equal(get_kernel("trigh")(t), get_kernel("exp")(t))
    assert [get_kernel("trigh").coefficient(n) for n in range(100)] == [
        get_kernel("exp").coefficient(n) for n in range(100)
    ]


@pytest.mark.parametrize("kernel", EVERY, ids=lambda k: k.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_closed_form_is_the_sum_of_the_series(asarray, kernel, dtype):
    t = asarray(np.array([float(t) for t in EIGHTHS], dtype=dtype))
    values = kernel(t)
    assert values.dtype == t.dtype
    for found, at in zip(to_host(values), EIGHTHS, strict=True):
        # What is left after 150 terms is below 2^-75 sum |a_n|; a closed form is a few operations of 2 u each,
        # and (t + c)^12 multiplies the relative error of its base by 12.
        assert abs(float(found) - float(partial(kernel, at, 150))) <= 32 * eps(t) * float(partial(kernel, abs(at), 150))


@pytest.mark.parametrize("kernel", EVERY, ids=lambda k: k.name)
@pytest.mark.parametrize("n_max", [0, 1, 5, 20])
def test_partial_sum_and_tail_make_the_whole(asarray, kernel, n_max):
    host = np.array([float(t) for t in EIGHTHS])
    t = asarray(host)
    whole = to_host(kernel.partial_sum(t, n_max) + kernel.tail(t, n_max))
    # Horner over at most 150 terms errs by 2 u per term, relative to the sum of |a_n t^n|.
    assert np.all(np.abs(whole - kernel(host)) <= 2 * 150 * U * kernel(np.abs(host)))


@pytest.mark.parametrize("kernel", EVERY, ids=lambda k: k.name)
@pytest.mark.parametrize("n_max", [0, 4, 11, 20])
def test_a_tail_is_accurate_where_subtraction_would_cancel(kernel, n_max):
    for t in (Fraction(1, 2), Fraction(1, 64)):
        exact = float(partial(kernel, t, n_max + 150, n_max + 1))
        assert abs(kernel.tail(float(t), n_max) - exact) <= 2 * 150 * U * exact


def test_a_tail_of_nothing_is_nothing():
    assert polynomial(2).tail(0.5, 2) == 0
    assert get_kernel("exp").tail(np.ones((0, 2)), 3).shape == (0, 2)


@pytest.mark.parametrize("name", ["inv", "logi", "sqrt"])
def test_beyond_the_radius_there_is_no_value(asarray, name):
    kernel = get_kernel(name)
    beyond = math.nextafter(1, 2)
    for t in (beyond, -beyond, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"t: kernel {name} needs finite \|t\| <= 1"):
            kernel(asarray(np.array([0.0, t])))
        with pytest.raises(ValueError, match=f"t: the tail of {name}"):
            kernel.tail(t, 3)


def test_a_pole_is_named_and_a_finite_edge_is_a_value():
    for name in ("inv", "logi"):
        with pytest.raises(ValueError, match=rf"t: kernel {name} is not finite \(in float64\) at t = 1\.0"):
            get_kernel(name)(1.0)
    assert get_kernel("sqrt")(1.0) == 2
    assert get_kernel("inv")(-1.0) == 0.5


@pytest.mark.parametrize(("t", "dtype"), [(710.0, "float64"), (89.0, "float32")])
def test_overflow_is_named_with_the_dtype(t, dtype):
    with pytest.raises(ValueError, match=rf"t: kernel exp is not finite \(in {dtype}\) at t = {t}"):
        get_kernel("exp")(np.array([t], dtype=dtype))


def test_numbers_arrays_and_nothing_keep_their_kind(asarray):
    kernel = get_kernel("exp")
    assert kernel(0.5) == math.exp(0.5)
    for shape in ((), (0,), (2, 0, 3), (2, 3)):
        t = asarray(np.zeros(shape))
        assert type(kernel(t)) is type(t)
        assert tuple(kernel(t).shape) == shape
    with pytest.raises(TypeError, match="t: expected dtype float32 or float64, found int64"):
        kernel(asarray(np.zeros(2, dtype=int)))


@pytest.mark.parametrize("p", [1, 2, 5])
@pytest.mark.parametrize("c", [0.0, 0.25, 2.0])
def test_a_polynomial_is_the_binomial_theorem(p, c):
    kernel = polynomial(p, c)
    for t in EIGHTHS:
        assert partial(kernel, t, p) == (t + Fraction(c)) ** p
    assert kernel.coefficients(p + 3)[p + 1 :].tolist() == [0, 0, 0]
    z = np.array([0.0, 0.5, 3.0])
    exact = [float(partial(kernel, Fraction(float(at)), p, power=2)) for at in z]
    assert np.all(np.abs(kernel.squared_series(z) - exact) <= 4 * (p + 1) * U * np.array(exact))


def test_a_scaled_kernel_is_f_of_beta_t():
    for name, beta in itertools.product(NAMES, (0.5, 2.0)):  # powers of two: t beta is exact
        kernel, scaled = get_kernel(name), get_kernel(name).scaled(beta)
        t = np.array([float(t) for t in EIGHTHS]) / 2
        assert np.array_equal(scaled(t), kernel(beta * t))
        assert scaled.radius == kernel.radius / beta
        assert [scaled.coefficient(n) for n in range(9)] == [
            kernel.coefficient(n) * Fraction(beta) ** n for n in range(9)
        ]
        assert np.array_equal(scaled.squared_series(t * t), kernel.squared_series(beta**2 * t * t))
    assert get_kernel("exp").scaled(3).log_slope == 3


def test_only_coefficients_that_are_asked_for_may_not_overflow():
    huge = get_kernel("inv").scaled(1e6)
    assert huge.coefficients(5)[5] == 1e30
    with pytest.raises(ValueError, match=r"a_52 overflows float64"):
        huge.coefficients(60)
    kernel = get_kernel("inv").scaled(1000.0)
    assert kernel.tail(0.9375e-3, 5) > 0  # 600 terms, of which a_103 is beyond float64


def test_a_kernel_of_ones_own_is_the_built_in():
    mine = DotProductKernel.from_coefficients("mine", lambda n: 1 / math.factorial(n), radius=math.inf)
    t = np.array([float(t) for t in EIGHTHS])
    assert np.array_equal(mine.coefficients(100), get_kernel("exp").coefficients(100))
    assert np.all(np.abs(mine(t) - np.exp(t)) <= 2 * 64 * U * np.exp(np.abs(t)))  # Horner, at most 64 terms
    assert np.all(np.abs(mine.squared_series(t * t) / get_kernel("exp").squared_series(t * t) - 1) <= 2 * 64 * U)


def test_a_series_with_gaps_is_summed_to_its_end():
    sparse = DotProductKernel.from_coefficients("sparse", lambda n: int(n % 20 == 19), radius=1.0)
    exact = 0.5**19 / (1 - 0.5**20)
    assert abs(sparse(0.5) - exact) <= 4 * U * exact


@pytest.mark.parametrize(
    ("coefficient", "form", "radius", "words"),
    [
        (lambda n: (-1.0) ** n, None, 1.0, r"Schoenberg's condition needs finite a_n >= 0, found a_1 = -1"),
        (lambda n: math.nan, None, 1.0, "found a_0 = nan"),
        (lambda n: 0.5**n, None, 4.0, "radius: the coefficients of mine say about 2"),
        (lambda n: 1.0, None, math.inf, "radius: the coefficients of mine say about 1"),
        (lambda n: 1.0, None, 0.0, "radius: expected a positive number"),
        (lambda n: 1.0, None, math.nan, "radius: expected a positive number"),
        (lambda n: 1.0, lambda t: 1 / (1 - t) + 1e-9, 1.0, r"closed_form: kernel mine at t = -0\.5"),
        (lambda n: 1.0, lambda t: t * math.nan, 1.0, "closed_form: kernel mine"),
        (lambda n: 1.0 * math.factorial(n), None, 1.0, "a_171 overflows float64"),
        (lambda n: 10_000**n, None, 1e-4, "a_78 overflows float64"),
        (lambda n: "one", None, 1.0, "found a_0 = one"),
        (lambda n: 1 / (n != 7), None, 1.0, "coefficient: kernel mine raised ZeroDivisionError at n = 7"),
    ],
)
def test_kernels_that_are_none_are_refused(coefficient, form, radius, words):
    with pytest.raises(ValueError, match=words):
        DotProductKernel.from_coefficients("mine", coefficient, form, radius=radius)


@pytest.mark.parametrize(
    ("coefficient", "form", "radius", "words"),
    [
        (lambda n: 1.0, None, "1", "radius: expected a positive number or math.inf, found '1'"),
        ([1.0], None, 1.0, r"coefficient: expected a function, found \[1\.0\]"),
        (lambda n: 1.0, 2.0, 1.0, "closed_form: expected a function, found 2.0"),
        (lambda n: 1 / math.factorial(n), math.exp, math.inf, "closed_form: kernel mine must take arrays, raised"),
        (
            lambda n: 1.0,
            lambda t: 1.0,
            1.0,
            r"closed_form: kernel mine must take arrays, returned shape \(\) for \(7,\)",
        ),
    ],
)
def test_a_kernel_is_made_of_functions_of_arrays(coefficient, form, radius, words):
    with pytest.raises(TypeError, match=words):
        DotProductKernel.from_coefficients("mine", coefficient, form, radius=radius)


def test_a_coefficient_that_fails_late_says_where():
    late = DotProductKernel.from_coefficients("late", lambda n: 1 / (n != 300), radius=1.0)
    with pytest.raises(ValueError, match="coefficient: kernel late raised ZeroDivisionError at n = 300"):
        late(0.9)


@pytest.mark.parametrize("n_max", [-5, -1, 2.5, "a", None, 10**6])
def test_a_degree_is_a_whole_number_within_reach(n_max):
    for call in (get_kernel("exp").coefficients, lambda n: get_kernel("exp").tail(0.5, n)):
        with pytest.raises((TypeError, ValueError), match="n_max: expected"):
            call(n_max)


def test_a_scale_may_be_any_number_that_leaves_a_radius():
    assert get_kernel("exp").scaled(np.float32(0.5))(1.0) == get_kernel("exp").scaled(0.5)(1.0)
    assert get_kernel("exp").scaled(1e300).squared_series(np.array(2.0)) == math.inf
    with pytest.raises(ValueError, match="beta: expected radius / beta within float64"):
        get_kernel("inv").scaled(1e-320)
    with pytest.raises(TypeError, match="beta: expected a positive number"):
        get_kernel("exp").scaled("a")
    with pytest.raises(TypeError, match="c: expected a number >= 0"):
        polynomial(2, "a")
    assert polynomial(np.int64(2), np.float32(0.5)).coefficients(2).tolist() == [0.25, 1, 1]


def test_a_negative_coefficient_is_found_as_soon_as_it_is_used():
    late = DotProductKernel.from_coefficients("late", lambda n: 1.0 if n != 300 else -1.0, radius=1.0)
    assert late(0.5) == pytest.approx(2, abs=2 * 256 * U)
    with pytest.raises(ValueError, match="found a_300 = -1"):
        late.coefficients(300)
    with pytest.raises(ValueError, match="found a_300 = -1"):
        late(0.9)  # needs more than 300 terms


def test_a_series_that_does_not_settle_asks_for_a_closed_form():
    mine = DotProductKernel.from_coefficients("mine", lambda n: 1.0, radius=1.0)
    with pytest.raises(ValueError, match="t: the series of mine does not settle"):
        mine(1.0)


@pytest.mark.parametrize("kernel", EVERY, ids=lambda k: k.name)
@pytest.mark.parametrize(("n_min", "n_max"), [(0, None), (1, None), (2, None), (0, 20), (1, 20)])
def test_the_series_of_squares_is_their_sum(kernel, n_min, n_max):
    for z in (Fraction(0), Fraction(1, 64), Fraction(1, 4), Fraction(3, 4)):
        exact = float(partial(kernel, z, 400 if n_max is None else n_max, n_min, power=2))
        found = float(kernel.squared_series(np.array([float(z)]), n_min, n_max)[0])
        # Special functions are granted 8 u, then two terms may be taken off; sums of N < 150 terms 2 N u.
        whole = float(partial(kernel, z, 400, power=2))
        assert abs(found - exact) <= max(2 * 150 * U * exact, 16 * U * whole * (z > Fraction(1, 2)))


def test_the_series_of_squares_at_its_radius():
    at = lambda name, z: float(get_kernel(name).squared_series(np.array(z)))
    beyond = math.nextafter(1, 2)
    assert at("inv", 1.0) == at("inv", beyond) == at("logi", beyond) == at("sqrt", beyond) == math.inf
    assert abs(at("logi", 1.0) - (1 + math.pi**2 / 6)) <= 8 * U * at("logi", 1.0)
    assert abs(at("sqrt", 1.0) - 4 / math.pi) <= 8 * U * at("sqrt", 1.0)  # Gauss's theorem
    mine = DotProductKernel.from_coefficients("mine", lambda n: 1.0, radius=1.0)
    assert float(mine.squared_series(np.array(2.0))) == math.inf
    with pytest.raises(ValueError, match="kernel mine: whether"):
        mine.squared_series(np.array(1.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gram_of_unit_vectors_survives_rounding_at_the_radius(asarray, rng, dtype):
    x = rng.normal(size=(200, 7))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(dtype)
    assert (np.abs(x @ x.T) > 1).any()  # it does happen
    gram = to_host(get_kernel("sqrt").gram(asarray(x), asarray(x)))
    assert gram.dtype == np.dtype(dtype)
    assert np.array_equal(gram, gram.T)
    assert gram.max() == 2  # f(1), no NaN
    # Positive definite up to rounding: an eigenvalue moves by the norm of the error, here at most
    # n times that of an entry near t = 1, where sqrt(1 - t) turns d u into sqrt(2 d u).
    assert np.linalg.eigvalsh(gram.astype(np.float64)).min() >= -200 * math.sqrt(2 * 8 * eps(np.ones(1, dtype=dtype)))
    get_kernel("sqrt").gram(asarray(x), asarray(-x))
    with pytest.raises(ValueError, match="t: kernel inv is not finite"):
        get_kernel("inv").gram(asarray(np.eye(2, dtype=dtype)), asarray(np.eye(2, dtype=dtype)))
    with pytest.raises(ValueError, match="t: kernel sqrt needs"):
        get_kernel("sqrt").gram(asarray(x), asarray(np.float32(1.001).astype(dtype) * x))


def test_gram_broadcasts_leading_axes_and_names_what_does_not(asarray, rng):
    kernel, x, y = get_kernel("exp"), rng.normal(size=(2, 1, 3, 4)) / 4, rng.normal(size=(5, 6, 4)) / 4
    gram = to_host(kernel.gram(asarray(x), asarray(y)))
    assert gram.shape == (2, 5, 3, 6)
    assert np.array_equal(gram[1, 2], to_host(kernel.gram(asarray(x[1, 0]), asarray(y[2]))))
    with pytest.raises(ValueError, match=r"x, y: expected .*found \(6, 4\), \(3, 5\)"):
        kernel.gram(asarray(y[0]), asarray(np.ones((3, 5))))
    y[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"y: expected finite entries, found nan at index \(0, 0, 0\)"):
        kernel.gram(asarray(x), asarray(y))


def test_an_unknown_kernel_is_answered_with_those_that_exist():
    with pytest.raises(ValueError, match="kernel: expected one of exp, inv, logi, trigh, sqrt, found 'cosh'"):
        get_kernel("cosh")
    with pytest.raises(TypeError, match="kernel: expected a name or a DotProductKernel, found int"):
        get_kernel(3)
    for p, c, words in [(0, 1.0, "p: "), (1.5, 1.0, "p: "), (2, -1.0, "c: "), (2, math.inf, "c: ")]:
        with pytest.raises(ValueError, match=words):
            polynomial(p, c)
    for beta in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="beta: expected a positive number"):
            get_kernel("exp").scaled(beta)
    with pytest.raises(ValueError, match="n_max: expected an int >= 0"):
        get_kernel("exp").coefficients(-1)


@pytest.mark.parametrize("kernel", EVERY, ids=lambda k: k.name)
def test_a_kernel_shows_itself_as_a_formula(kernel):
    assert kernel._repr_html_().count("<math") == 1
    assert "<code>" not in kernel._repr_html_()  # every formula was rendered
    assert kernel._repr_latex_().startswith(r"$\displaystyle f(t) = ")


def test_the_kernels_of_the_package_and_what_holds_them_can_be_pickled(rng):
    for kernel in KERNELS.values():
        assert pickle.loads(pickle.dumps(kernel)) is kernel
    law, x = RandomMaclaurin("exp", 8, weights="gaussian"), rng.normal(size=(3, 4))
    assert np.array_equal(pickle.loads(pickle.dumps(law)).draw(4, rng=0)(x), law.draw(4, rng=0)(x))
