"""Random landmarks: projections of a kernel on what was drawn, exact there, and never above the kernel."""

from __future__ import annotations

import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import LandmarkFeatures, load_draw
from schoenbat_theory.features.landmarks_draw import LandmarkDraw
from schoenbat_theory.files import read_npz, write_npz

U = 2.0**-53
EXPONENTIALS = [st.get_kernel("exp"), st.get_kernel("trigh"), st.get_kernel("exp").scaled(0.5)]
OTHERS = [*(st.get_kernel(name) for name in ("inv", "logi", "sqrt")), st.polynomial(3, 1.0), st.polynomial(2)]
KERNELS = [*EXPONENTIALS, *OTHERS]
STORED = ("format", "kernel", "landmarks", "name")


def rows(rng, n, dim, length=0.9):
    x = rng.normal(size=(n, dim))
    return length * x / np.linalg.norm(x, axis=-1, keepdims=True)


def gram(phi, x, y):
    return st.to_host(phi(x)) @ np.swapaxes(st.to_host(phi(y)), -1, -2)


def rounding(kernel, points, unit=U):
    """Bound what an entry of <phi(x), phi(y)> may be off where x or y is a landmark, for a well-conditioned K_SS.

    Along an eigenvector errors of k(S, x) are divided by lambda >= lambda_min in <phi(x), phi(y)>, those of K_SS too:
    with every entry of size f <= F off by e = (100 + 8 d) u F, the product k K^+ k is off by 3 c e F / lambda_min, and
    as many again for the root. The 100 covers f and the eigendecomposition, whose constants are modest.
    """
    values = np.linalg.eigvalsh(kernel.gram(points, points))
    largest = float(np.max(kernel.gram(points, points)))
    return 6 * len(points) * (100 + 8 * points.shape[-1]) * unit * largest**2 / float(values[0])


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_it_is_exact_where_one_point_is_a_landmark(asarray, rng, kernel):
    points, others = rows(rng, 5, 4), rows(rng, 9, 4, 0.7)
    phi = LandmarkDraw(kernel, points, "five")
    found = gram(phi, asarray(points), asarray(others))
    bound = rounding(kernel, points)
    assert bound < 1e-8
    assert np.max(np.abs(found - kernel.gram(points, others))) <= bound
    assert np.max(np.abs(gram(phi, points, points) - kernel.gram(points, points))) <= bound
    # and it is not the kernel elsewhere
    assert np.max(np.abs(gram(phi, others, others) - kernel.gram(others, others))) > 1e-3


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_all_points_make_the_kernel_itself_whatever_their_order(rng, kernel):
    q, k = rows(rng, 3, 4), rows(rng, 2, 4, 0.8)
    phi = LandmarkFeatures(kernel, 5).fit(q, k).draw(4, rng)
    points = np.concatenate([q, k])
    assert np.max(np.abs(gram(phi, points, points) - kernel.gram(points, points))) <= rounding(kernel, points)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("count", [1, 3, 10, 40])
def test_the_approximation_is_below_the_kernel_in_the_loewner_order(rng, kernel, count):
    """K - G >= 0, and G >= 0 by its form. Of many landmarks K_SS is singular to rounding, which the cut-off is for.

    Along a kept eigenvector errors of k(S, x), at most e = (eta + u) F each, are divided by sqrt(tau), tau = eta c F:
    a feature matrix is off by sqrt(n c) e / sqrt(tau), and G by twice that times sqrt(n F), so at most by
    2 n F sqrt((eta + u)^2 / eta) <= 4 n F sqrt(eta), eta < 1000 u here.
    """
    points = rows(rng, 60, 3)
    law = LandmarkFeatures(kernel, count).fit(points[:30], points[30:])
    phi = law.draw(3, rng)
    full = kernel.gram(points, points)
    gap = np.linalg.eigvalsh(full - gram(phi, points, points))
    assert gap[0] >= -4 * 60 * float(np.max(full)) * math.sqrt(1000 * U)
    if count < 10:
        assert gap[-1] > 1e-3  # few landmarks leave something out


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_more_landmarks_leave_less_out(rng, kernel):
    points = rows(rng, 40, 3)
    left = []
    for count in (1, 4, 16):
        phi = LandmarkDraw(kernel, points[:count], "nested")
        left.append(float(np.trace(kernel.gram(points, points) - gram(phi, points, points))))
    assert left[0] > left[1] > left[2] > -1e-6


@pytest.mark.parametrize("kernel", [*EXPONENTIALS, *OTHERS[:2]], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_landmarks_that_repeat_do_no_harm(asarray, rng, kernel, dtype):
    """A singular matrix: its zero eigenvalues are cut off, in the dtype of the argument."""
    points, x = rows(rng, 4, 3), rows(rng, 8, 3, 0.6).astype(dtype)
    once, twice = (LandmarkDraw(kernel, p, "") for p in (points, np.concatenate([points] * 3)))
    unit = float(np.finfo(dtype).eps) / 2
    assert np.max(np.abs(st.to_host(twice(asarray(x)))), initial=0) < 10
    found, expected = (gram(phi, asarray(x), asarray(x)).astype(np.float64) for phi in (twice, once))
    assert np.max(np.abs(found - expected)) <= 3 * rounding(kernel, points, unit)


def test_exponentials_do_not_overflow_when_scaled(asarray):
    x = np.array([[40.0, 0.0], [0.0, 41.0], [30.0, 30.0]])
    phi = LandmarkFeatures("exp", 3).fit(x[:2], x[2:]).draw(2, 0)
    features, log_scale = (st.to_host(part) for part in phi.scaled(asarray(x)))
    assert np.array_equal(log_scale, np.sum(x * x, axis=-1) / 2)
    assert np.all(np.linalg.norm(features, axis=-1) <= 1 + 100 * U)
    logs = np.log(np.sum(features * features, axis=-1)) + 2 * log_scale
    assert np.allclose(logs, np.sum(x * x, axis=-1), rtol=100 * U)  # landmarks: exact
    with pytest.raises(ValueError, match=r"features overflow .*float64; use scaled"):
        phi(asarray(x))


def test_attention_through_all_points_is_attention(asarray, rng):
    q, k, v = rows(rng, 4, 4), rows(rng, 3, 4, 0.7), rng.normal(size=(3, 2))
    phi = LandmarkFeatures("exp", 7).fit(q, k).draw(4, 0)
    found = st.to_host(st.feature_attention(*map(asarray, (q, k, v)), phi))
    bound = 4 * rounding(st.get_kernel("exp"), np.concatenate([q, k])) * np.max(np.abs(v)) / math.exp(-0.63)
    assert bound < 1e-8
    assert np.max(np.abs(found - st.kernel_attention(q, k, v, "exp"))) <= bound


@pytest.mark.parametrize("kernel", ["exp", "inv"])
def test_leading_axes_hold_independent_maps(asarray, rng, kernel):
    q = rows(rng, 20, 3)
    phi = LandmarkFeatures(kernel, 4).fit(q, -q).draw(3, 1, shape=(2, 1))
    assert (phi.shape, phi.dim, phi.n_features) == ((2, 1), 3, 4)
    x = np.stack([q, q[::-1], 0.5 * q])
    found = st.to_host(phi(asarray(x)))
    assert found.shape == (2, 3, 20, 4)
    for i in range(2):
        alone = LandmarkDraw(phi.kernel, phi.landmarks[i, 0], "")
        for j in range(3):
            assert np.allclose(found[i, j], alone(x[j]), rtol=0, atol=1e-11)
    assert not np.array_equal(phi.landmarks[0], phi.landmarks[1])
    assert tuple(phi.scaled(asarray(x))[1].shape) == (2, 3, 20)


def test_landmarks_are_distinct_rows_drawn_uniformly_from_queries_and_keys(rng):
    q, k = rng.normal(size=(3, 2)), rng.normal(size=(2, 2))
    law = LandmarkFeatures("exp", 2).fit(q, k)
    points = np.concatenate([q, k])
    assert np.array_equal(law.points, points)
    drawn = law.draw(2, 0, shape=(5000,)).landmarks
    which = np.argmax(np.all(drawn[..., None, :] == points, axis=-1), axis=-1)  # (5000, 2)
    assert np.array_equal(points[which], drawn)
    assert np.all(which[:, 0] != which[:, 1])
    # Each ordered pair has probability 1/20; Hoeffding: all 20 counts within 5000 h, 2 * 20 exp(-2 * 5000 h^2) = 1e-9.
    h = math.sqrt(math.log(40e9) / 10000)
    counts = np.array([np.sum((which[:, 0] == i) & (which[:, 1] == j)) for i in range(5) for j in range(5) if i != j])
    assert np.max(np.abs(counts / 5000 - 1 / 20)) <= h < 1 / 20


def test_the_same_seed_draws_the_same_landmarks(rng):
    law = LandmarkFeatures("exp", 4).fit(rows(rng, 20, 3), rows(rng, 20, 3))
    assert np.array_equal(law.draw(3, 5).landmarks, law.draw(3, 5).landmarks)
    assert not np.array_equal(law.draw(3, 5).landmarks, law.draw(3, 6).landmarks)


def test_fit_pools_leading_axes_and_is_no_wider_than_its_points(asarray, rng):
    q, k = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 5))
    law = LandmarkFeatures("exp", 8).fit(asarray(q), asarray(k))
    assert law.n_features == 8
    assert np.array_equal(law.points, np.concatenate([q.reshape(-1, 5), k]))
    assert isinstance(law.points, np.ndarray)
    assert LandmarkFeatures("exp", 64).fit(asarray(q), asarray(k)).n_features == 30
    assert LandmarkFeatures("exp", 64).fit(q[..., :0, :], k[:1]).n_features == 1


def test_no_closed_form_is_claimed(rng):
    x = rows(rng, 6, 3)
    law = LandmarkFeatures("inv", 3).fit(x, x)
    assert law.mean(x, x) is None
    assert law.variance(x, x) is None
    assert law.second_moment(x, x) is None
    assert np.allclose(law.target(x, -x), 1 / (1 + 0.81), rtol=100 * U)


def test_the_root_is_symmetric_so_that_signs_of_eigenvectors_do_not_matter(rng):
    phi = LandmarkDraw(st.get_kernel("inv"), rows(rng, 4, 3), "")
    root = phi._prepared(np.ones((1, 3))).root
    assert np.max(np.abs(root - root.T)) <= 100 * U * np.max(np.abs(root))


def test_the_cut_off_follows_the_dtype_of_the_argument(rng):
    """Two landmarks 1e-5 apart: the small eigenvalue, about 1e-10, is seen in float64 and is rounding in float32."""
    for kernel in (st.get_kernel("exp"), st.get_kernel("inv")):
        phi = LandmarkDraw(kernel, np.array([[0.5, 0.0], [0.5, 1e-5]]), "")
        ranks = [int(np.linalg.matrix_rank(phi._host(np.dtype(dtype)).root)) for dtype in ("float32", "float64")]
        assert ranks == [1, 2]


@pytest.mark.parametrize(("kernel", "eta"), [("exp", 8.0), ("inv", 10 / 3)])
def test_the_cut_off_is_the_rounding_of_an_entry_and_of_the_eigenvalues(kernel, eta):
    """In units of u = 2^-24, of two landmarks: eta + c u, c = 2.

    Gaussian: around the origin eta is (d + 4) u + 2 u. At r^2 = 1/4 of 1 / (1 - t) an inner product errs by u / 2, f by
    its slope 16/9 times that, 2/3 u of f = 4/3, and is rounded: eta = 2 (2/3 + 1) u.
    """
    for units, rank in (((eta + 2) * 0.95, 1), ((eta + 2) * 1.1, 2)):
        assert units > 1.1 * max(eta, 2)  # neither part alone would do
        ratio = units * 2.0**-24
        if kernel == "exp":  # eigenvalues 1 + g and 1 - g, g = e^(-r^2 / 2)
            far = 2 * math.sqrt(math.atanh(ratio))
            points = np.array([[0.0, 0.0], [far, 0.0]])
        else:  # (f(r^2) - f(t)) / (f(r^2) + f(t)) is about (t - r^2) f' / 2 f at r^2
            angle = math.acos(1 - ratio * 2 * (4 / 3) / (16 / 9) / 0.25)
            points = 0.5 * np.array([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
        phi = LandmarkDraw(st.get_kernel(kernel), points, "")
        assert np.linalg.matrix_rank(phi._host(np.dtype("float32")).root) == rank


def test_landmarks_far_from_the_origin_are_seen_from_their_mean():
    """In float32, 1000 away, |x|^2 + |y|^2 - 2 <x, y> has no digit left; seen from the mean it has all."""
    near = 2.0 * np.array([[0, 0], [1, 0], [0, 1], [1, 1], [3, 0]])
    far = (near + 1000).astype(np.float32)
    features, _ = LandmarkDraw(st.get_kernel("exp"), far.astype(np.float64), "").scaled(far)
    exact = st.gaussian_gram(near, near)
    bound = 6 * 5 * (100 + 8 * 2) * 2.0**-24 / np.linalg.eigvalsh(exact)[0]  # as `rounding` has it, entries at most 1
    assert bound < 1e-3
    assert np.max(np.abs(features @ features.T - exact)) <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unit_vectors_are_on_the_boundary_in_their_own_dtype(asarray, rng, dtype):
    """Rounded to float32 many are longer than 1 by more than float64 forgives."""
    kernel, x = st.get_kernel("sqrt"), st.unit_norm(rng.normal(size=(8, 8)).astype(dtype))
    assert np.max(np.sum(x.astype(np.float64) ** 2, axis=-1)) > 1
    phi = LandmarkFeatures(kernel, 8).fit(x, x[:0]).draw(8, 0)
    gap = gram(phi, asarray(x), asarray(x)) - kernel.gram(x, x)
    # The slope of sqrt(1 - t) is infinite at the end: 2 d u inside the end it is sqrt(2 d u) less.
    unit = float(np.finfo(dtype).eps) / 2
    assert np.max(np.abs(gap)) <= 100 * math.sqrt(2 * 8 * unit)
    with pytest.raises(ValueError, match=r"kernel sqrt needs finite \|t\| <= 1"):
        phi(asarray(x * (1 + 40 * unit)))
    with pytest.raises(ValueError, match=r"kernel sqrt needs finite \|t\| <= 1"):
        LandmarkDraw(kernel, x * (1 + 40 * unit), "")(asarray(x / 2))


@pytest.mark.parametrize(("kernel", "length"), [("inv", 0.9995), ("logi", 0.9995), ("sqrt", 1.0), ("inv", 0.5)])
def test_the_cut_off_covers_what_rounding_does_to_the_gram_matrix(rng, kernel, length):
    """Close to a pole, or to the branch point of the root, f turns the rounding of an inner product into much more."""
    kernel, moved = st.get_kernel(kernel), []
    for _ in range(20):
        points = rows(rng, 6, 8, length - 1e-7).astype(np.float32)  # not beyond 1 when rounded
        wide = points.astype(np.float64)
        exact, eta = kernel.gram(wide, wide), float(LandmarkDraw(kernel, wide, "")._rounding(wide, 2.0**-24))
        moved.append(np.linalg.norm(kernel.gram(points, points) - exact, 2) / np.linalg.eigvalsh(exact)[-1])
        assert moved[-1] <= eta < 1
    if length > 0.9:
        assert max(moved) > 6 * 2.0**-24  # c u alone would not do


@pytest.mark.parametrize(
    ("kernel", "operations"), [("inv", 5 * (5 + 3 + 1)), ("exp", 5 * (5 + 3 + 1) + 3 * 5 + 4 * 3 + 1)]
)
def test_multiply_adds_count_inner_products_and_the_root(rng, kernel, operations):
    assert LandmarkDraw(st.get_kernel(kernel), rows(rng, 5, 3), "").multiply_adds == operations


def test_a_saved_draw_is_the_same_map(tmp_path, rng):
    x = rows(rng, 6, 3)
    for kernel in ("exp", "sqrt"):
        phi = LandmarkFeatures(kernel, 3).fit(x, x).draw(3, 0, shape=(2,))
        phi.save(tmp_path / "phi.npz")
        again = load_draw(tmp_path / "phi.npz")
        assert isinstance(again, st.LandmarkDraw)
        assert np.array_equal(again(x), phi(x))
        assert (again.kernel, again.name, again.shape) == (phi.kernel, phi.name, (2,))


def test_a_kernel_without_a_name_of_its_own_cannot_be_saved(tmp_path, rng):
    phi = LandmarkDraw(st.polynomial(2), rows(rng, 2, 3), "")
    with pytest.raises(ValueError, match=r"kernel: expected one of exp, .* to save a draw, found polynomial\(2, 0\)"):
        phi.save(tmp_path / "phi.npz")
    assert not (tmp_path / "phi.npz").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": np.array("cos")},
        {"kernel": np.array(3)},
        {"landmarks": np.ones(3)},
        {"landmarks": np.ones((0, 3))},
        {"landmarks": np.ones((2, 0))},
        {"landmarks": np.ones((2, 3), dtype=np.float32)},
        {"landmarks": np.full((2, 3), np.inf)},
        {"name": np.array(3)},
    ],
    ids=str,
)
def test_an_archive_that_is_no_draw_is_refused(tmp_path, change):
    path = tmp_path / "phi.npz"
    LandmarkDraw(st.get_kernel("exp"), np.ones((2, 3)), "").save(path)
    write_npz(path, **{**read_npz(path, STORED), **change})
    with pytest.raises(ValueError, match=rf"phi\.npz: {next(iter(change))} of the draw is damaged"):
        load_draw(path)


def test_wrong_laws_and_points_are_refused(rng):
    x = rng.normal(size=(4, 3))
    with pytest.raises(ValueError, match="n_features: expected an int >= 1, found 0"):
        LandmarkFeatures("exp", 0)
    with pytest.raises(ValueError, match="n_features: expected at most the 4 points, found 5"):
        LandmarkFeatures("exp", 5, x)
    with pytest.raises(ValueError, match=r"points: expected finite \(N, d\), none empty, found \(4,\)"):
        LandmarkFeatures("exp", 1, np.ones(4))
    with pytest.raises(ValueError, match="points: expected finite"):
        LandmarkFeatures("exp", 1, np.array([[np.nan]]))
    with pytest.raises(ValueError, match=r"points: expected some to draw landmarks from, found none; fit\(q, k\)"):
        LandmarkFeatures("exp", 2).draw(3)
    law = LandmarkFeatures("exp", 2)
    with pytest.raises(
        ValueError, match=r"q, k: expected \(..., n, d\), \(..., m, d\), d >= 1, found \(4, 3\), \(4, 2\)"
    ):
        law.fit(x, x[:, :2])
    with pytest.raises(ValueError, match=r"d >= 1, found \(4, 0\), \(4, 0\)"):
        law.fit(x[:, :0], x[:, :0])
    with pytest.raises(ValueError, match="k: expected finite entries"):
        law.fit(x, np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="points: expected finite"):
        law.fit(x[:0], x[:0])
    with pytest.raises(TypeError, match="k: expected an array"):
        law.fit(x, [[1.0]])


def test_wrong_rows_are_refused(rng):
    x = rows(rng, 4, 3)
    law = LandmarkFeatures("inv", 2).fit(x, x)
    with pytest.raises(ValueError, match="dim: expected 3 as the points have, found 4"):
        law.draw(4)
    with pytest.raises(TypeError, match="shape: expected a tuple"):
        law.draw(3, shape=2)
    phi = law.draw(3, 0)
    for apply in (phi, phi.scaled):
        with pytest.raises(ValueError, match=r"x: expected shape \(..., n, 3\), found \(4, 2\)"):
            apply(x[:, :2])
        with pytest.raises(ValueError, match=r"kernel inv needs finite \|t\| <= 1"):
            apply(10 * x)
    with pytest.raises(ValueError, match="x: expected finite entries, found nan"):
        LandmarkDraw(st.get_kernel("exp"), x, "")(np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match="x: expected finite entries, found nan"):
        phi(np.full((1, 3), np.nan))
    with pytest.raises(ValueError, match="kernel inv is not finite"):
        LandmarkDraw(st.get_kernel("inv"), np.eye(3), "")(x)
    with pytest.raises(ValueError, match="landmarks: expected rows around their mean"):
        LandmarkDraw(st.get_kernel("exp"), 1e8 * x, "")(x)
