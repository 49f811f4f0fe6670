"""scikit-learn as an oracle: its random features with its own draws, and every draw of its TensorSketch at once."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.features.fourier_draw import FourierDraw
from schoenbat_theory.features.landmarks_draw import LandmarkDraw

theirs = pytest.importorskip("sklearn.kernel_approximation", reason="scikit-learn is not installed (extra peers)")

U = 2.0**-53
D = 5  # of a vector


def feature_error(degree, width, dim, size):
    """How far one feature of TensorSketch may be from its exact value; ``size`` bounds the sum of |x_i|, first order.

    Buckets err by d u ``size``. A transform of length D errs by 8 u log2(D) of the length of its argument, in length
    (8: a butterfly with rounded roots, from memory); p of them and one back. No frequency exceeds ``size``, and a
    product of two complex numbers errs by 4 u.
    """
    transforms = (degree + 1) * 8 * max(math.log2(width), 1)
    return (transforms + 4 * degree + dim * degree) * U * size**degree


def with_their_draw(sampler, degree, width):
    """Our TensorSketch with the hashes and signs of a fitted PolynomialCountSketch."""
    phi = st.PolynomialSketch(degree, width, "tensorsketch").draw(sampler.indexHash_.shape[1], 0)
    entries = sampler.bitHash_[:, None, None, :].astype(phi.entries.dtype)
    return dataclasses.replace(phi, entries=entries, places=sampler.indexHash_.astype(phi.places.dtype))


@pytest.mark.parametrize(("degree", "width"), [(1, 8), (2, 8), (3, 7), (4, 64), (2, 1)])
def test_with_their_hashes_and_signs_our_tensorsketch_has_their_features(rng, degree, width):
    x = rng.normal(size=(20, D))
    sampler = theirs.PolynomialCountSketch(gamma=1.0, degree=degree, n_components=width, random_state=0).fit(x)
    allowed = 2 * feature_error(degree, width, D, np.abs(x).sum(axis=-1).max())
    found = with_their_draw(sampler, degree, width)(x)
    assert np.all(np.abs(found - sampler.transform(x)) <= allowed)


@pytest.mark.parametrize(("dim", "width", "degree"), [(2, 3, 1), (2, 2, 2), (2, 3, 2), (2, 4, 2), (3, 2, 2), (2, 2, 3)])
def test_over_all_their_hashes_and_signs_the_moments_are_our_closed_form(rng, dim, width, degree):
    """All (2 D)^(d p) draws, equally likely: an exact mean and an exact second moment of their estimates."""
    x, y = rng.normal(size=(2, dim))
    sampler = theirs.PolynomialCountSketch(gamma=1.0, degree=degree, n_components=width, random_state=0).fit(x[None])
    shape = sampler.indexHash_.shape
    estimates = []
    for hashes in itertools.product(range(width), repeat=dim * degree):
        sampler.indexHash_ = np.reshape(hashes, shape)
        for signs in itertools.product((-1, 1), repeat=dim * degree):
            sampler.bitHash_ = np.reshape(signs, shape)
            one, other = sampler.transform(np.stack([x, y]))
            estimates.append(float(one @ other))
    law = st.PolynomialSketch(degree, width, "tensorsketch")
    norms = [float(np.abs(v).sum()) for v in (x, y)]
    largest = math.prod(norms) ** degree  # of an estimate: lengths are below sums of |x_i|
    errors = [feature_error(degree, width, dim, norm) / norm**degree for norm in norms]
    estimate = width * (sum(errors) + U) * largest
    closed = 8 * (degree + dim + 4) * U  # eight powers of sums of d products
    mean, square = (math.fsum(e**power for e in estimates) / len(estimates) for power in (1, 2))
    assert abs(mean - float(law.mean(x, y))) <= estimate + closed * largest
    assert abs(square - float(law.second_moment(x, y))) <= (2 * estimate + closed * largest) * largest


def test_with_their_weights_our_trigonometric_features_are_theirs(rng):
    """Their map is sqrt(2 / D) cos(<w, x> + b); with each w twice, and b = 0 and -pi / 2, these are cosines and sines."""
    x, m = rng.normal(size=(20, D)), 8
    sampler = theirs.RBFSampler(gamma=0.5, n_components=2 * m, random_state=0).fit(x)
    weights = sampler.random_weights_[:, :m]
    sampler.random_weights_ = np.concatenate([weights, weights], axis=1)
    sampler.random_offset_ = np.repeat([0.0, -math.pi / 2], m)
    found = FourierDraw(weights.T, "gaussian", "RBFSampler")(x)
    # An angle errs by (d + 1) u |w| |x|, the offset and its sum by u (2 + |angle|), a cosine by 2 u, the factor by 3 u.
    angle = float(np.linalg.norm(weights, axis=0).max() * np.linalg.norm(x, axis=1).max())
    allowed = 2 * ((D + 2) * U * angle + 7 * U) / math.sqrt(m)
    assert np.all(np.abs(found - sampler.transform(x)) <= allowed)


@pytest.mark.parametrize("power", [1, 2])
def test_their_random_offsets_leave_our_mean_and_add_one_half_to_our_variance(rng, power):
    """A product of two of their features is cos<w, x-y> + cos(<w, x+y> + 2b), the second of mean 0 and square 1/2."""
    x, y = rng.normal(size=(2, D)) / 2
    law = st.FourierFeatures(2, "gaussian", orthogonal=False)

    def products(rng, size):
        seed = int(rng.integers(2**31))
        sampler = theirs.RBFSampler(gamma=0.5, n_components=size, random_state=seed).fit(x[None])
        one, other = sampler.transform(np.stack([x, y]))
        return (size * one * other) ** power

    target = float(law.mean(x, y)) if power == 1 else float(law.second_moment(x, y)) + 0.5
    bounds = (-2.0 - 1e-9, 2.0 + 1e-9) if power == 1 else (0.0, 4.0 + 1e-9)  # rounding of the cosines
    assert st.check_mean(products, target, margin=0.05, bounds=bounds, rng=rng).verdict == "consistent"
    assert st.check_mean(products, target + 0.15, margin=0.05, bounds=bounds, rng=rng).verdict == "refuted"


KERNELS = {
    "poly": ({"kernel": "poly", "degree": 2, "gamma": 1.0, "coef0": 1.0}, st.polynomial(2, 1.0)),
    "exp": ({"kernel": lambda x, y: math.exp(x @ y)}, st.get_kernel("exp")),
    "inv": ({"kernel": lambda x, y: 1 / (1 - x @ y)}, st.get_kernel("inv")),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_with_their_landmarks_our_nystrom_approximations_are_that_of_their_features(rng, kernel):
    options, ours = KERNELS[kernel]
    x = 0.9 * st.unit_norm(rng.normal(size=(30, 2 * D)))
    sampler = theirs.Nystroem(n_components=8, random_state=0, **options).fit(x)
    matrix, features = ours.gram(x, x), sampler.transform(x)
    # A kernel value errs by r u of the largest, r = (2 d + 4) / (1 - 0.81): inner products of size 0.81, and f'/f is
    # 1 / (1 - 0.81) at most here. Roots of W err by p(c) u of it, with p(c) = 10 c for the modest p(c) of LAPACK. With
    # K_i the columns at the landmarks and |W^(-1/2) K_i|^2 <= K_ii, what comes out moves by kappa(W) (r c + p(c)) u at
    # most, of the largest K_ii. All points being of one length, the Gaussian factor of "exp" has the same kappa.
    chosen = sampler.component_indices_
    condition = np.linalg.cond(matrix[np.ix_(chosen, chosen)])
    relative = condition * len(chosen) * ((4 * D + 4) / (1 - 0.81) + 10) * U
    assert relative < 1e-8  # first order, and a bound that says something
    mapped = LandmarkDraw(ours, sampler.components_, "Nystroem")(x)
    for found in (st.nystrom_gram(matrix, chosen), mapped @ mapped.T):
        assert np.all(np.abs(found - features @ features.T) <= 2 * relative * matrix.diagonal().max())


def test_their_gaussian_kernel_is_ours(rng):
    x = rng.normal(size=(30, D))
    sampler = theirs.Nystroem(kernel="rbf", gamma=0.5, n_components=30, random_state=0).fit(x)  # every point
    features = sampler.transform(x)
    # The exponent errs by (d + 4) u of (|x| + |y|)^2 / 2, and what follows as above.
    exact = st.gaussian_gram(x, x)
    relative = np.linalg.cond(exact) * 30 * ((D + 4) * 2 * np.sum(x * x, axis=-1).max() + 10) * U
    assert relative < 1e-6
    assert np.all(np.abs(features @ features.T - exact) <= 2 * relative)
