from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from schoenbat_theory import draw_landmarks, nystrom_attention, schulz_inverse, schulz_step, to_host
from schoenbat_theory.attention.gaussian import gaussian_rounding

U = 2.0**-53


def dense(x, y):
    return np.exp(-np.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1) / 2)


def test_a_step_maps_the_residual_exactly_as_its_formula_says():
    """E' = (3 E^3 + E^4) / 4, in rational arithmetic, X and V any matrices."""
    generator = np.random.default_rng(0)
    for c in (1, 2, 3):
        x, v = (
            np.array(
                [[Fraction(int(a), 7) for a in row] for row in generator.integers(-9, 10, size=(c, c))], dtype=object
            )
            for _ in range(2)
        )
        identity = np.eye(c, dtype=object)
        e = identity - x @ v
        assert np.array_equal(identity - x @ schulz_step(x, v), (3 * e @ e @ e + e @ e @ e @ e) / 4)


def conditioned(rng, c=8):
    """A Gram matrix, X and the eigenvalues of X as the formulas give them."""
    points = 0.7 * rng.normal(size=(c, 3))
    gram = dense(points, points)
    shifted = gram + 0.1 * np.eye(c)
    root = np.sqrt(np.sum(shifted, axis=-1))
    return gram, shifted, shifted / root[:, None] / root, root


def step_rounding(x):
    """One step errs in E by c u |X| |V| per product: |V| <= kappa, coefficients below 16. Twice for second order."""
    c, kappa = len(x), 1 / np.linalg.eigvalsh(x)[0]
    return 2 * c * U * kappa * (kappa + 16)


def test_the_residual_is_that_of_the_cubic_map(asarray, rng):
    """Slopes of the map on [0, 1] are at most 13 / 4, by which a rounding error grows in every later step."""
    gram, _, x, _ = conditioned(rng)
    e = 1 - np.linalg.eigvalsh(x) ** 2 / np.max(np.sum(x, axis=0))
    for steps in range(7):
        found = schulz_inverse(asarray(gram), steps=steps)
        assert np.all(np.abs(to_host(found.normalized) - x) <= 16 * U)
        assert abs(float(found.residual) - np.max(e)) <= (steps + 1) * 3.25**steps * step_rounding(x)
        e = (3 * e**3 + e**4) / 4


def test_the_largest_eigenvalue_of_the_normalised_matrix_is_one(asarray, rng):
    gram, _, _, root = conditioned(rng)
    found = to_host(schulz_inverse(asarray(gram)).normalized)
    assert np.all(np.abs(found @ root - root) <= 32 * U * np.abs(found) @ root)
    assert np.linalg.eigvalsh(found)[-1] <= 1 + 8 * 8 * U


def test_enough_steps_invert_the_matrix(asarray, rng):
    gram, shifted, x, root = conditioned(rng)
    found = schulz_inverse(asarray(gram), steps=30)
    kappa = 1 / np.linalg.eigvalsh(x)[0]
    assert float(found.residual) <= step_rounding(x)
    # V - X^-1 = -X^-1 E, and D^(-1/2) on both sides.
    allowed = 2 * kappa * step_rounding(x) / np.min(root) ** 2
    assert np.all(np.abs(to_host(found.inverse) - np.linalg.inv(shifted)) <= allowed)
    released = schulz_inverse(asarray(gram))
    assert np.array_equal(to_host(released.iterate), to_host(schulz_inverse(asarray(gram), steps=6, gamma=0.1).iterate))
    assert 0.1 < float(released.residual) < 1  # six steps do not invert even this


def test_a_matrix_in_a_batch_is_inverted_as_alone(asarray, rng):
    grams = np.stack([conditioned(rng)[0], np.eye(8), np.ones((8, 8))])
    found = schulz_inverse(asarray(grams))
    assert tuple(found.residual.shape) == (3,)
    for i in range(3):
        assert np.array_equal(to_host(found.inverse)[i], to_host(schulz_inverse(asarray(grams[i])).inverse))


def released_code(q, k, v, index, steps=6, gamma=0.1):
    """The released forward pass, its lines in NumPy: one item, scaled already."""
    points = np.concatenate([q, k])
    sketch = dense(points, points[index])
    stas = sketch[index] + gamma * np.eye(len(index))
    d = np.sqrt(1 / stas.sum(-1))
    stas = d[:, None] * stas * d
    inverse = 1 / np.max(np.sum(stas, axis=-2)) * stas.T
    for _ in range(steps):
        product = stas @ inverse
        inverse = (
            0.25
            * inverse
            @ (13 * np.eye(len(d)) - product @ (15 * np.eye(len(d)) - product @ (7 * np.eye(len(d)) - product)))
        )
    return sketch[: len(q)] @ ((sketch[len(q) :] * d @ inverse * d).T @ v)


@pytest.mark.parametrize("options", [{}, {"steps": 2, "gamma": 0.5}])
def test_the_released_variant_is_the_released_code(asarray, rng, options):
    q, k, v = rng.normal(size=(7, 4)), rng.normal(size=(9, 4)), rng.normal(size=(9, 3))
    found, residual = nystrom_attention(
        *map(asarray, (q, k, v)), n_landmarks=5, rng=2, landmarks="released", inverse="schulz", return_residual=True,
        **options,
    )  # fmt: skip
    index = draw_landmarks(7, 9, 5, 2, landmarks="released")
    points = np.concatenate([q, k])
    result = schulz_inverse(dense(points[index], points[index]), **options)
    # Rounding of entries, by two formulas, acts as that of products does; later steps multiply it by 13 / 4 at most.
    eta = 2 * float(gaussian_rounding(points[index] - np.mean(points[index], axis=0), "points")) / U
    error = 7 * 3.25**6 * eta * step_rounding(result.normalized)
    kappa, c = 1 / np.linalg.eigvalsh(result.normalized)[0], len(index)
    size = np.sum(np.abs(v), axis=0)
    allowed = c * (kappa * error + 2 * eta * U * kappa) / options.get("gamma", 0.1)
    assert np.all(np.abs(to_host(found) - released_code(q, k, v, index, **options)) <= allowed * size)
    exact = nystrom_attention(q, k, v, n_landmarks=5, rng=2, landmarks="released")
    assert np.all(np.max(np.abs(to_host(found) - exact), axis=0) > 100 * allowed * size)  # it is another function
    assert abs(float(residual) - float(result.residual)) <= error


@pytest.mark.parametrize(
    ("gram", "options", "error", "words"),
    [
        (np.ones((2, 3)), {}, ValueError, r"gram: expected shape \(\.\.\., c, c\), c >= 1, found \(2, 3\)"),
        (np.ones((0, 0)), {}, ValueError, "gram: expected shape"),
        ([[1.0]], {}, TypeError, "gram: expected an array"),
        (np.full((2, 2), np.inf), {}, ValueError, "gram: expected finite entries"),
        (-np.ones((2, 2)), {}, ValueError, "gram: expected positive row sums of gram \\+ gamma I, found -1.9"),
        (np.array([[1.0, 9.0], [9.0, 1.0]]) * np.array([[1, -0.1], [-0.1, 1]]), {"steps": 99}, ValueError, "overflows"),
        (np.zeros((2, 2)), {"gamma": 0.0}, ValueError, r"gram: expected positive row sums of gram \+ gamma I, found 0"),
        (np.full((1, 1), 1e-320), {"gamma": 0.0}, ValueError, "gram, gamma: .* the iteration overflows float64"),
        (np.eye(2, dtype=np.float32), {"gamma": 1e39}, ValueError, "the iteration overflows float32"),
        (np.eye(2), {"gamma": math.inf}, ValueError, "gamma: expected a number >= 0"),
        (np.eye(2), {"steps": 1.5}, ValueError, "steps: expected an int >= 0"),
    ],
)
def test_wrong_matrices_and_steps_are_named(gram, options, error, words):
    with pytest.raises(error, match=words):
        schulz_inverse(gram, **options)
