from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats

from schoenbat_theory import (
    draw_landmarks,
    gaussian_attention,
    gaussian_gram,
    nystrom_attention,
    nystrom_gram,
    threads,
    to_host,
)
from schoenbat_theory.attention.nystrom import _inverse_root

U = 2.0**-53
LAWS = ["uniform", "replacement", "released"]


def dense(x, y):
    difference = np.asarray(x, dtype=np.float64)[:, None, :] - np.asarray(y, dtype=np.float64)[None, :, :]
    return np.exp(-np.sum(difference**2, axis=-1) / 2)


def lifted(q, k, index):
    """The definition: the off-diagonal block of Cbar S (S^T Cbar S)^-1 S^T Cbar, without repeated landmarks."""
    points = np.concatenate([q, k])
    cbar, s = dense(points, points), np.unique(index)
    return (cbar[:, s] @ np.linalg.solve(cbar[np.ix_(s, s)], cbar[s]))[: len(q), len(q) :]


def entry(chosen, u):
    """Errors of an entry: `gaussian_gram`, and the definition coordinate by coordinate."""
    d, b = chosen.shape[-1], np.max(np.linalg.norm(chosen - np.mean(chosen, axis=0), axis=-1))
    return u * ((d + 4) * (1 + 4 * b * b) + 2) + U * ((d + 2) / math.e + 2)


def weight_bound(q, k, index, u=U):
    r"""Of one weight E_q W^-1 E_k, of two computations, to first order; landmarks with W well-conditioned.

    |W^-1 E_r| <= 1 / sqrt(lambda), as |E_r u_i|^2 <= lambda_i. E errs by sqrt(c) eta in each row, products with it by
    m u and c u; W by c eta and, in eigh or solve, by c u lambda_max; eigenvectors are orthogonal but for c u. Repeated
    landmarks add zeros and enlarge other eigenvalues, so that the smallest of the distinct ones will do.
    """
    chosen, m, c = np.concatenate([q, k])[np.unique(index)], len(k), len(index)
    values = np.linalg.eigvalsh(dense(chosen, chosen))
    eta, smallest, largest = entry(chosen, u), values[0], c
    rows = math.sqrt(c / smallest) * (2 * eta + (m + 4 * c) * u)
    return 2 * (rows + c * (eta + u * largest) / smallest)


def columns(v):
    return np.sum(np.abs(v), axis=0)


def spread(rng, *shape):
    """Points with a well-conditioned Gram matrix."""
    return 2 * rng.normal(size=shape)


@pytest.mark.parametrize("block", [4, 1024])
@pytest.mark.parametrize("landmarks", LAWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_off_diagonal_block_of_the_definition(asarray, rng, monkeypatch, landmarks, dtype, block):
    monkeypatch.setattr("schoenbat_theory.attention.nystrom.COLUMNS", block)
    q, k, v = (spread(rng, *shape).astype(dtype) for shape in ((7, 4), (9, 4), (9, 3)))
    found = nystrom_attention(*map(asarray, (q, k, v)), n_landmarks=5, rng=3, landmarks=landmarks)
    assert type(found) is type(asarray(q))
    assert found.dtype == asarray(q).dtype
    index = draw_landmarks(7, 9, 5, 3, landmarks=landmarks)
    bound = weight_bound(q, k, index, np.finfo(dtype).eps / 2)
    assert bound < (1e-2 if dtype == "float32" else 1e-11)  # no comparison with nothing
    assert np.all(np.abs(to_host(found) - lifted(q, k, index) @ v) <= bound * columns(v))
    assert np.max(np.abs(to_host(found) - dense(q, k) @ v)) > 0.1  # the definition is an approximation


@pytest.mark.parametrize("shift", [1e3, 1e6, 1e12])
def test_points_far_from_the_origin_are_as_good_as_near_ones(asarray, rng, shift):
    q, k, v = (shift + spread(rng, 7, 4), shift + spread(rng, 9, 4), spread(rng, 9, 3))
    found = nystrom_attention(*map(asarray, (q, k, v)), n_landmarks=5, rng=3)
    index = draw_landmarks(7, 9, 5, 3)
    bound = weight_bound(q, k, index)
    assert bound < 1e-11
    assert np.all(np.abs(to_host(found) - lifted(q, k, index) @ v) <= bound * columns(v))


@pytest.mark.parametrize("landmarks", LAWS)
def test_every_item_has_its_mask_its_landmarks_and_its_broadcast(asarray, rng, landmarks):
    q, k, v = spread(rng, 2, 1, 5, 4), spread(rng, 3, 6, 4), spread(rng, 6, 2)
    mask = np.array([[1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0]], dtype=bool)
    spoiled = np.where(mask[..., None], k, np.nan), np.where(mask[..., None], v, np.inf)
    options = {"n_landmarks": 4, "rng": 1, "landmarks": landmarks}
    found = to_host(nystrom_attention(asarray(q), *map(asarray, spoiled), key_mask=asarray(mask), **options))
    assert found.shape == (2, 3, 5, 2)
    index = draw_landmarks(5, 6, 4, 1, landmarks=landmarks, key_mask=mask)
    assert index.shape == (3, 4)
    for i in range(2):
        for j in range(3):
            used = mask[j]
            expected = (lifted(q[i, 0], k[j], index[j])[:, used]) @ v[used]
            bound = weight_bound(q[i, 0], k[j], index[j]) * columns(v[used])
            assert np.all(np.abs(found[i, j] - expected) <= bound)
            alone = nystrom_attention(q[i, 0], k[j], v, key_mask=used, **options)
            assert np.all(np.abs(found[i, j] - alone) <= bound)


@pytest.mark.parametrize("scale", [2.0, 0.3])
def test_with_every_point_a_landmark_it_is_exact(asarray, rng, scale):
    r"""Also where W is singular in floating-point numbers, as at the smaller scale.

    With tau the cut-off, W as computed is within tau of what is kept and within tau of the truth, and E within
    f = 2 eta lambda_max <= 2 tau of W: together tau + tau + 2 f + f^2 / tau <= 10 tau in spectral norm.
    """
    q, k, v = (scale * rng.normal(size=shape) for shape in ((30, 2), (40, 2), (40, 3)))
    found = to_host(nystrom_attention(*map(asarray, (q, k, v)), n_landmarks=70, rng=0))
    points = np.concatenate([q, k])
    values = np.linalg.eigvalsh(dense(points, points))
    tau = (entry(points, U) + 70 * U) * values[-1]
    assert (values[0] < tau) == (scale < 1)
    allowed = 10 * tau * np.linalg.norm(v, axis=0) + 40 * U * columns(v)
    assert np.all(np.abs(found - to_host(gaussian_attention(*map(asarray, (q, k, v))))) <= allowed)


def test_landmarks_that_repeat_are_harmless(rng):
    q, k, v = spread(rng, 3, 4), spread(rng, 4, 4), spread(rng, 4, 2)
    twice = np.concatenate([q, q[:1]]), np.concatenate([k, k[:2], q[1:2]]), np.concatenate([v, v[:2], v[:1]])
    found = nystrom_attention(*twice, n_landmarks=11, rng=0)
    index = np.arange(11)
    bound = weight_bound(q, k, np.arange(7)) * 11 / 7 * columns(twice[2])
    assert np.all(np.abs(found - dense(*twice[:2]) @ twice[2]) <= bound)
    many = draw_landmarks(3, 4, 50, 0, landmarks="replacement")
    assert set(many) == set(range(7))
    found = nystrom_attention(q, k, v, n_landmarks=50, rng=0, landmarks="replacement")
    assert np.all(np.abs(found - dense(q, k) @ v) <= weight_bound(q, k, many) * columns(v))
    points = np.concatenate(twice[:2])
    gram = gaussian_gram(points, points)
    assert np.all(
        np.abs(nystrom_gram(gram, index) - gram) <= weight_bound(points, points, index[[0, 1, 2, 4, 5, 6, 7]])
    )


def test_two_points_a_rounding_apart_count_as_one(rng):
    """The inverse of their 2 x 2 Gram matrix would be 1e31; the weights stay those of one of them."""
    q, k = spread(rng, 5, 3), spread(rng, 1, 3)
    k = np.concatenate([k, k * (1 + 2 * U)])
    for seed in range(20):
        found = nystrom_attention(q, k, np.ones((2, 1)), n_landmarks=7, rng=seed)
        assert np.all(np.abs(found - 2 * dense(q, k[:1])) <= 2 * weight_bound(q, k[:1], np.arange(6)) * 7 / 6)


def test_a_result_never_exceeds_twice_the_matrix_itself(rng):
    """0 <= result <= 2 Cbar along every vector, here unit vectors of close points: what the cut-off promises."""
    x = 1e-3 * rng.normal(size=(40, 1))
    for c in (2, 5, 20):
        diagonal = [
            nystrom_attention(x[i : i + 1], x[i : i + 1], np.ones((1, 1)), n_landmarks=2, rng=0) for i in range(3)
        ]
        assert np.all(np.abs(np.array(diagonal) - 1) <= 10 * (entry(x, U) + 2 * U) * 2)
        weights = nystrom_attention(x, x, np.eye(40), n_landmarks=c, rng=0)
        assert np.max(np.abs(weights)) <= 2 + 40 * U


@pytest.mark.parametrize("landmarks", LAWS)
@pytest.mark.parametrize("inverse", ["exact", "schulz"])
def test_an_item_without_keys_is_zeros_and_disturbs_no_other(asarray, rng, landmarks, inverse):
    q, k, v = spread(rng, 2, 3, 4), spread(rng, 2, 5, 4), spread(rng, 2, 5, 2)
    mask = np.array([[False] * 5, [True, True, False, True, True]])
    options = {"n_landmarks": 6, "rng": 0, "landmarks": landmarks, "inverse": inverse}
    found = to_host(nystrom_attention(*map(asarray, (q, k, v)), key_mask=asarray(mask), **options))
    assert found[0].tolist() == [[0, 0]] * 3
    assert np.array_equal(found[1], nystrom_attention(q[1], k[1], v[1], key_mask=mask[1], **options))
    if landmarks != "released":
        none = nystrom_attention(
            asarray(q), asarray(k)[:, :0, :], asarray(v)[:, :0, :], **{**options, "n_landmarks": 3}
        )
        assert to_host(none).tolist() == [[[0, 0]] * 3] * 2


def test_the_cut_off_adds_two_roundings_and_is_relative_to_each_matrix(asarray):
    """With eta = 4 u and c = 2, eigenvalues up to 6 u of the largest count as zero: 7 u does not, 5 u does."""
    diagonals = np.array([[1.0, 7 * U], [1.0, 5 * U], [7 * U * 1e-20, 1e-20], [0.0, 0.0]])
    root = to_host(_inverse_root(asarray(np.eye(2) * diagonals[:, None, :]), 4 * U))
    found = np.diagonal(root @ np.swapaxes(root, -1, -2), axis1=-2, axis2=-1)
    expected = np.array([[1.0, 1 / (7 * U)], [1.0, 0.0], [1e20 / (7 * U), 1e20], [0.0, 0.0]])
    assert np.all(np.abs(found - expected) <= 8 * U * expected)
    for kept, size in (([1.0, 5 * U], 5 * U), ([1.0, 3 * U], 0.0)):  # of a matrix that is given, eta is 2 u
        assert to_host(nystrom_gram(asarray(np.diag(kept)), [0, 1]))[1, 1] == pytest.approx(size, rel=8 * U, abs=0)


@pytest.mark.parametrize(("units", "kept"), [(50, False), (100, True)])
def test_attention_cuts_off_what_the_rounding_of_its_gram_matrix_can_make(asarray, units, kept):
    """A query and a key in float32, both landmarks: eigenvalues 1 + g and 1 - g, of which (eta + 2) u is cut off.

    Here eta + 2 = (d + 4) + 2 + 2 = 70. The weight of the key is g = 1 - 2 units u with both, and (1 + g) / 2 with the
    larger alone.
    """
    u = 2.0**-24
    gap = 2 * math.sqrt(math.atanh(units * u))  # (1 - g) / (1 + g) = tanh(r^2 / 4)
    q, k, v = (asarray(np.array([row], dtype=np.float32)) for row in (np.zeros(62), gap * np.eye(62)[0], [1.0]))
    missing = 1 - float(nystrom_attention(q, k, v, n_landmarks=2, rng=0)[0, 0])
    assert (missing > 1.5 * units * u) == kept


def test_a_gram_matrix_of_any_scale_has_its_approximation(asarray):
    """Also where an eigenvalue is so small that 1 over it, though not over its root, overflows."""
    gram = np.array([[1.0, 0.5], [0.5, 1.0]])
    for scale in (2.0**-1040, 2.0**1023):
        found = to_host(nystrom_gram(asarray(scale * gram), [0]))
        assert np.all(np.abs(found / scale - [[1.0, 0.5], [0.5, 0.25]]) <= 8 * U + 2.0**-1074 / scale)


# --- landmarks -----------------------------------------------------------------------------------------------------


def test_without_replacement_all_pairs_are_equally_likely():
    """Chi-square at a level of 1e-6: with its seed it fails always or never, a right law in one seed of a million."""
    mask = np.array([True, False, True])  # 4 points are used: 0, 1, 2, 4
    generator = np.random.default_rng(1)
    pairs = list(itertools.permutations([0, 1, 2, 4], 2))
    found = [tuple(draw_landmarks(2, 3, 2, generator, key_mask=mask).tolist()) for _ in range(6000)]
    assert set(found) == set(pairs)
    assert scipy.stats.chisquare([found.count(pair) for pair in pairs]).pvalue > 1e-6


@pytest.mark.parametrize("landmarks", ["replacement", "released"])
def test_with_replacement_all_pairs_are_equally_likely(landmarks):
    mask = np.array([True, False, True])
    found = draw_landmarks(2, 3, 12001, 1, landmarks=landmarks, key_mask=mask)
    if landmarks == "released":  # the odd one is a key
        assert np.sum(found < 2) == 6000
        pairs, drawn = itertools.product([0, 1], [2, 4]), list(zip(found[:6000], found[6000:], strict=False))
    else:
        pairs, drawn = itertools.product([0, 1, 2, 4], repeat=2), list(itertools.pairwise(found))[::2]
    pairs, drawn = list(pairs), [(int(a), int(b)) for a, b in drawn]
    assert set(drawn) == set(pairs)
    assert scipy.stats.chisquare([drawn.count(pair) for pair in pairs]).pvalue > 1e-6


@pytest.mark.parametrize("landmarks", LAWS)
def test_a_masked_key_is_never_a_landmark_and_a_mask_alone_is_as_in_a_batch(rng, landmarks):
    mask = rng.random((4, 9)) < 0.5
    mask[:, 0] = True
    found = draw_landmarks(3, 9, 4, 5, landmarks=landmarks, key_mask=mask)
    assert found.shape == (4, 4)
    used = np.concatenate([np.ones((4, 3), dtype=bool), mask], axis=-1)
    assert np.all(np.take_along_axis(used, found, axis=-1))
    for i in range(4):
        alone = draw_landmarks(3, 9, 4, 5, landmarks=landmarks, key_mask=mask[i])
        assert np.array_equal(alone, found[i])
    everything = draw_landmarks(3, 9, 4, 5, landmarks=landmarks, key_mask=np.ones(9, dtype=bool))
    assert np.array_equal(everything, draw_landmarks(3, 9, 4, 5, landmarks=landmarks))
    if landmarks == "uniform":
        assert all(len(set(row)) == 4 for row in found.tolist())


def test_landmarks_are_the_points_of_one_stream_that_the_mask_allows(rng):
    """As the docstring has it, with enough points to tell a stable order from another."""
    mask = rng.random(300) < 0.5
    used = np.append(np.ones(200, dtype=bool), mask)
    order, uniform = np.random.default_rng(5).permutation(500), np.random.default_rng(5).random(31)
    queries, keys = np.arange(200), 200 + np.flatnonzero(mask)
    expected = {
        "uniform": order[used[order]][:31],
        "replacement": np.flatnonzero(used)[np.floor(uniform * np.sum(used)).astype(int)],
        "released": [queries[int(x * 200)] for x in uniform[:15]] + [keys[int(x * len(keys))] for x in uniform[15:]],
    }
    for landmarks in LAWS:
        found = draw_landmarks(200, 300, 31, 5, landmarks=landmarks, key_mask=mask)
        assert found.tolist() == list(expected[landmarks])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n_landmarks": 6}, ValueError, "n_landmarks: expected at most the 5 points that are used, found 6"),
        (
            {"n_landmarks": 5, "key_mask": np.array([[True] * 3, [True, False, True]])},
            ValueError,
            "n_landmarks: expected at most the 4 points that are used, found 5",
        ),
        ({"n_landmarks": 0}, ValueError, "n_landmarks: expected an int >= 1"),
        ({"n_landmarks": 2.0}, ValueError, "n_landmarks: expected an int >= 1"),
        ({"n": -1}, ValueError, "n: expected an int >= 0"),
        ({"landmarks": "grid"}, ValueError, "landmarks: expected one of uniform, replacement, released, found 'grid'"),
        ({"landmarks": np.arange(2)}, ValueError, "landmarks: expected one of"),
        ({"landmarks": "released", "n": 0}, ValueError, "landmarks: expected a point to draw from"),
        ({"landmarks": "released", "key_mask": np.zeros(3, dtype=bool)}, ValueError, "landmarks: expected a point"),
        (
            {"key_mask": np.ones(2, dtype=bool)},
            ValueError,
            r"key_mask: expected booleans \(\.\.\., 3\), found bool \(2,\)",
        ),
        ({"key_mask": np.ones(3)}, ValueError, "key_mask: expected booleans"),
        ({"rng": "seed"}, TypeError, "rng: expected"),
    ],
)
def test_wrong_draws_are_named(change, error, words):
    right = {"n": 2, "m": 3, "n_landmarks": 2, "rng": 0}
    draw_landmarks(**right)
    with pytest.raises(error, match=words):
        draw_landmarks(**{**right, **change})


# --- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"k": np.ones((5, 3))}, ValueError, "k: expected last axis 4 as q has"),
        ({"v": np.full((5, 2), np.nan)}, ValueError, "v: expected finite entries"),
        ({"key_mask": np.ones(5)}, TypeError, "key_mask: expected booleans"),
        ({"key_mask": np.ones(4, dtype=bool)}, ValueError, r"key_mask: expected \(\.\.\., 5\)"),
        ({"n_landmarks": 9}, ValueError, "n_landmarks: expected at most the 8 points that are used, found 9"),
        ({"landmarks": 1}, ValueError, "landmarks: expected one of"),
        ({"inverse": "pinv"}, ValueError, "inverse: expected 'exact' or 'schulz', found 'pinv'"),
        ({"inverse": np.arange(2)}, ValueError, "inverse: expected 'exact' or 'schulz', found array"),
        ({"steps": 6}, ValueError, "steps: expected inverse='schulz' with it"),
        ({"gamma": 0.0}, ValueError, "gamma: expected inverse='schulz' with it"),
        ({"return_residual": True}, ValueError, "return_residual: expected inverse='schulz' with it"),
        ({"return_residual": "yes"}, TypeError, "return_residual: expected True or False"),
        ({"inverse": "schulz", "gamma": -1.0}, ValueError, "gamma: expected a number >= 0"),
        ({"inverse": "schulz", "steps": -1}, ValueError, "steps: expected an int >= 0"),
        ({"q": np.array([[1e9] * 4, [0.0] * 4, [1.0] * 4])}, ValueError, "q, k: expected rows around their mean"),
        ({"q": 1e200 * np.eye(3, 4)}, ValueError, "q, k: finite, but squared distances overflow float64"),
    ],
)
def test_wrong_arguments_are_named(change, error, words):
    right = {"q": np.eye(3, 4), "k": np.ones((5, 4)), "v": np.ones((5, 2)), "n_landmarks": 8, "rng": 0}
    nystrom_attention(**right)
    with pytest.raises(error, match=words):
        nystrom_attention(**{**right, **change})


@pytest.mark.parametrize(
    ("gram", "landmarks", "words"),
    [
        (np.eye(3)[:2], [0], r"gram: expected shape \(\.\.\., N, N\), found \(2, 3\)"),
        (np.full((2, 2), np.nan), [0], "gram: expected finite entries"),
        (np.eye(3), [], "landmarks: expected whole numbers"),
        (np.eye(3), [0.0], "landmarks: expected whole numbers"),
        (np.eye(3), [[0]], "landmarks: expected whole numbers"),
        (np.eye(3), [0, 3], r"landmarks: expected indices in 0 \.\. 2, found 0 \.\. 3"),
        (np.eye(3), [-1], r"landmarks: expected indices in 0 \.\. 2, found -1 \.\. -1"),
    ],
)
def test_wrong_gram_matrices_and_landmarks_are_named(gram, landmarks, words):
    with pytest.raises(ValueError, match=words):
        nystrom_gram(gram, landmarks)


def test_a_gram_matrix_is_exact_on_its_landmarks_and_has_no_more_than_their_rank(asarray, rng):
    x = spread(rng, 2, 12, 3)
    gram = to_host(gaussian_gram(asarray(x), asarray(x)))
    landmarks = np.array([1, 4, 4, 7])
    found = to_host(nystrom_gram(asarray(gram), landmarks))
    assert np.array_equal(to_host(nystrom_gram(asarray(gram), asarray(landmarks))), found)  # on its device, too
    assert np.array_equal(found, np.swapaxes(found, -1, -2))
    for i in range(2):
        bound = weight_bound(x[i], x[i], np.array([1, 4, 7])) * 4 / 3
        assert np.all(np.abs(found[i] - gram[i])[[1, 4, 7]] <= bound)
        values = np.linalg.eigvalsh(found[i])
        assert np.all(np.abs(values[:-3]) <= 12 * (bound + 12 * U * values[-1]))
        assert np.linalg.eigvalsh(gram[i] - found[i])[0] >= -12 * bound


def test_zero_matrices_have_zero_approximations(asarray):
    assert to_host(nystrom_gram(asarray(np.zeros((2, 2))), [0, 1])).tolist() == [[0, 0], [0, 0]]


def test_no_more_than_a_block_of_weights_is_held(rng):
    q, k, v = (rng.normal(size=(1 << 14, 2)) for _ in "qkv")
    tracemalloc.start()
    try:
        nystrom_attention(q, k, v, n_landmarks=64, rng=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < q.nbytes * 64 / 4  # half of the weights between queries and landmarks


def test_any_number_of_cores_gives_the_same_bits(rng, monkeypatch):
    q, k, v = (rng.normal(size=(2, size, 4)).astype(np.float32) for size in (1031, 1537, 1537))
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "CORES", cores)
        found.append(nystrom_attention(q, k, v, n_landmarks=16, rng=0))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
