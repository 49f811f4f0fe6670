"""Maps made for given queries and keys: never worse than their parts, closed forms of what is random, masks, heads."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory import FittedMaclaurin, Monomials, OptimizedMaclaurin, Remainder
from schoenbat_theory.features import candidates
from schoenbat_theory.features.optimized import sample_size
from schoenbat_theory.features.prediction import take_sample
from schoenbat_theory.testing import examine_map

KERNELS = [*st.KERNELS.values(), st.polynomial(3, 1.0)]


def tokens(rng, shape=(), n=40, m=30, dim=6, length=0.9):
    """Queries, keys and values; directions of falling weight, rows of norm at most ``length``."""
    scale = 0.7 ** np.arange(dim)
    q, k = (rng.normal(size=(*shape, size, dim)) * scale for size in (n, m))
    q, k = (length * x / np.max(np.linalg.norm(x, axis=-1)) for x in (q, k))
    return q, k, rng.normal(size=(*shape, m, 3))


def along_the_diagonal(rng, shape=()):
    """Queries and keys near the diagonal of 48 coordinates."""
    return tuple(
        rng.uniform(0.5, 1.2, size=(*shape, 60, 1)) / 48**0.5 + 0.02 * rng.normal(size=(*shape, 60, 48)) for _ in "qk"
    )


def relative(found, exact):
    return np.linalg.norm(st.to_host(found) - exact) / np.linalg.norm(exact)


def by_hand(kernel, dim, cut, counts, shrinkage):
    """A law with the random part that is asked for; queries beyond length 4 are clipped."""
    kernel = st.get_kernel(kernel)
    remainder = Remainder(kernel, np.array(cut), np.array(counts), np.array(shrinkage, dtype=float))
    nothing = st.Prediction(np.zeros(()), np.zeros(()), np.array("by hand"), {})
    return FittedMaclaurin(
        kernel, Monomials.subspace(dim, cut), remainder, np.array(4.0), np.ones(dim), nothing, np.array(0)
    )


# --- what a fit promises -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("width", [1, 5, 16, 28, 64])
def test_the_choice_has_the_least_predicted_error_of_all_candidates(rng, kernel, width):
    q, k, v = tokens(rng)
    law = OptimizedMaclaurin(kernel, width).fit(q, k, values=v)
    found = law.prediction
    assert law.n_features <= width
    assert found.error == min(found.candidates.values()) == found.candidates[str(found.chosen)]
    truncations = (
        {"degree 0"} | ({"degree <= 1"} if width >= 7 else set()) | ({"degree <= 2"} if width >= 28 else set())
    )
    assert truncations <= found.candidates.keys()
    assert math.isfinite(found.candidates["degree 0"])


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_without_sampling_the_predicted_error_of_a_map_that_is_not_random_is_its_error(rng, kernel):
    q, k, v = tokens(rng)
    law = OptimizedMaclaurin(kernel, 20).fit(q, k, values=v)  # fewer tokens than a sample has
    assert not law.random
    exact = st.kernel_attention(q, k, v, kernel)
    found = relative(st.feature_attention(q, k, v, law.draw(6)), exact)
    # Both are differences of sums of at most 64 terms, rounded, and divided by denominators that cancel nothing.
    assert found == pytest.approx(float(law.prediction.error), abs=1e4 * 2.0**-53)
    assert 0 < found < relative(st.feature_attention(q, k, v, st.TaylorFeatures(kernel, 1, 6).draw(6)), exact)


def test_of_few_coordinates_whole_degrees_beyond_the_second_are_candidates(rng):
    q, k, v = tokens(rng, dim=3)
    found = OptimizedMaclaurin("exp", 56).fit(q, k, values=v).prediction
    assert {"degree 0", *(f"degree <= {n}" for n in range(1, 6))} <= found.candidates.keys()
    whole = Monomials.up_to(5, 3)
    error = relative(
        st.feature_attention(q, k, v, lambda x: whole.apply(x, whole.factors("exp"))),
        st.kernel_attention(q, k, v, "exp"),
    )
    assert float(found.candidates["degree <= 5"]) == pytest.approx(error, rel=1e-6)  # no clipping helps here


def test_no_clipping_is_worse_than_none_for_a_truncation_without_it(rng):
    """Keys along (1, -1), queries along (1, 1): sizes are far beyond those of the logits, and clipping leaves no logit."""
    z, y = 10 * rng.normal(size=(50, 1)), 10 * rng.normal(size=(60, 1))
    q, k = np.concatenate([z, z], axis=1), np.concatenate([y, 0.003 * rng.normal(size=(60, 1)) - y], axis=1)
    v = k @ np.ones((2, 1))
    law, exact = OptimizedMaclaurin("exp", 6).fit(q, k, values=v), st.kernel_attention(q, k, v, "exp")
    found = relative(st.feature_attention(q, k, v, law.draw(2)), exact)
    plain = [relative(st.feature_attention(q, k, v, st.TaylorFeatures("exp", n, 2).draw(2)), exact) for n in (0, 1, 2)]
    assert found <= min(plain) + 1e8 * 2.0**-53  # products up to 10^3, squared in degree 2, cancel; sums of 60 of them
    assert float(law.clip) > max(candidates.CLIPS)


@pytest.mark.filterwarnings("error")
def test_huge_queries_and_keys_are_no_reason_to_warn_or_to_fail(rng):
    q, k, v = tokens(rng, n=500, m=400)
    for q[11], k[17] in ((1e9, -1e9), (1e60, -1e60), (1e200, -1e100)):
        law = OptimizedMaclaurin("exp", 64).fit(q, k, values=v)
        assert np.all(np.isfinite(st.feature_attention(q, k, v, law.draw(6))))


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_the_unit_of_the_values_is_of_no_consequence(rng, unit):
    q, k, v = tokens(rng)
    found, expected = (OptimizedMaclaurin("exp", 16).fit(q, k, values=x).prediction for x in (unit * v, v))
    assert float(found.error) == pytest.approx(float(expected.error), rel=1e-9)
    assert str(found.chosen) == str(expected.chosen)


def test_laws_and_draws_say_what_they_are(rng):
    q, k, _ = tokens(rng, (2,))
    law = OptimizedMaclaurin("exp", 16).fit(q, k)
    assert repr(law) == "FittedMaclaurin('exp', dim=6, n_features=16, shape=(2,))"
    assert repr(law.draw(6)) == f"OptimizedDraw(dim=6, n_features=16, shape=(2,), name={repr(law)!r})"


def test_wider_maps_err_less_and_the_values_help(rng):
    q, k, v = tokens(rng, n=400, m=300, dim=8, length=2.0)
    exact = st.kernel_attention(q, k, v, "exp")
    errors = [
        relative(st.feature_attention(q, k, v, OptimizedMaclaurin("exp", width).fit(q, k, values=v).draw(8)), exact)
        for width in (1, 9, 32, 128)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 30


def test_monomials_are_those_that_the_values_ask_for(rng):
    """Values along the weakest coordinate of keys whose coordinates are not correlated."""
    q, _, _ = tokens(rng)
    k = rng.normal(size=(30, 6))
    k = np.linalg.qr(k - np.mean(k, axis=0))[0] * 0.7 ** np.arange(6)
    blind, seeing = (OptimizedMaclaurin("exp", 6).fit(q, k, values=v).monomials for v in (None, k[:, 5:]))
    assert 5 not in blind.coordinates
    assert 5 in seeing.coordinates


def test_every_truncation_has_the_clipping_that_suits_it(rng):
    """What degree <= 1 is predicted to err is the same beside higher degrees, which want other clippings, and without."""
    q, k, v = tokens(rng, length=3.0)
    narrow, wide = (OptimizedMaclaurin("exp", width).fit(q, k, values=v).prediction.candidates for width in (7, 28))
    for name in ("degree 0", "degree <= 1"):
        assert float(narrow[name]) == pytest.approx(float(wide[name]), rel=1e-9)


def test_bias_and_deviation_of_a_clipped_random_map_are_those_of_its_law():
    """`Search` on so few tokens that it looks at all, against `predict_error`, which knows nothing of powers of a clipping."""
    rng, kernel, weights = np.random.default_rng(1), st.get_kernel("exp"), np.full(30, 1 / 30)
    q, k, v = tokens(rng, n=16, length=2.0)
    q[3], k = 10 * q[3], k - np.mean(k, axis=0)
    spread = weights @ (k * k)
    search = candidates.Search(kernel, take_sample(kernel, q, k, weights, v, 128), q, k, weights, spread)
    (plain,) = search.truncations(["degree <= 2"], Monomials.up_to(0, 6))
    found = search.with_remainder(2, 3000, 2, dataclasses.replace(plain, clip=2.0, bias=0.0), math.inf)
    assert found.clip < np.max(np.sqrt(q * q @ spread))
    assert np.all(found.counts[2:4] > 0)
    law = dataclasses.replace(
        by_hand("exp", 6, 2, found.counts, found.shrinkage), clip=np.array(found.clip), spread=spread
    )
    bias, variance = st.predict_error(law, q, k, v)
    size = np.linalg.norm(st.kernel_attention(q, k, v, "exp"))
    assert found.bias == pytest.approx(np.sqrt(np.sum(bias)) / size, rel=1e-9)
    assert found.deviation == pytest.approx(np.sqrt(np.sum(variance)) / size, rel=1e-9)


def test_random_features_are_chosen_where_no_few_monomials_carry_the_kernel(rng):
    """Tokens along the diagonal of 48 coordinates, not balanced: degree 2 is spread evenly over 1176 monomials."""
    q, k = along_the_diagonal(rng)
    v = rng.normal(size=(60, 2)) + 8 * k[:, :1]
    law = OptimizedMaclaurin("exp", 768).fit(q, k, values=v)
    found = law.prediction
    assert law.random
    assert law.n_features == 768
    others = [float(error) for name, error in found.candidates.items() if "random" not in name]
    assert float(found.error) < min(others) / 2
    bias, variance = st.predict_error(law, q, k, v)
    exact = st.kernel_attention(q, k, v, "exp")
    size = np.linalg.norm(exact)
    assert float(found.bias) == pytest.approx(np.sqrt(np.sum(bias)) / size, rel=1e-6)
    # Of 60 rows and keys the fit looks at 16 and at all: a mean of 16 of 60 numbers that differ by their own size.
    assert float(found.deviation) == pytest.approx(np.sqrt(np.sum(variance)) / size, rel=0.25)
    drawn = st.feature_attention(q, k, v, law.draw(48, rng, shape=(16,)))
    assert np.sqrt(np.mean(np.sum((drawn - exact) ** 2, axis=(-2, -1)))) / size < min(others) / 2


def test_random_features_beside_several_heads_and_in_every_library(asarray, rng):
    q, k = along_the_diagonal(rng, (2,))
    q[1], k[1] = q[1] * np.eye(48)[0], k[1] * np.eye(48)[0]  # of the second head the first coordinate is all there is
    law = OptimizedMaclaurin("exp", 768).fit(asarray(q), asarray(k))
    assert ["random" in str(name) for name in law.prediction.chosen] == [True, False]
    phi = law.draw(48, 0)
    both = st.to_host(phi(asarray(q)))
    assert both.shape == (2, 60, law.n_features)
    assert np.allclose(both, phi(q), rtol=0, atol=1e3 * 2.0**-53 * np.max(np.abs(both)))


def test_queries_that_were_not_sampled_cannot_ruin_an_output(rng):
    """Of 500 queries one is forty times as long as the others: its polynomial is kept from leaving the trusted range."""
    q, k, v = tokens(rng, n=500, m=400, length=1.5)
    q[7] *= 40
    law = OptimizedMaclaurin("exp", 24).fit(q, k, values=v)
    found = st.feature_attention(q, k, v, law.draw(6))
    assert np.all(st.to_host(law.clip) <= max(candidates.CLIPS))
    assert np.max(np.abs(found)) < 2 * np.max(np.abs(v))
    loose = dataclasses.replace(law.draw(6), clip=np.array(1e9))
    assert np.max(np.abs(st.feature_attention(q, k, v, loose)[7] - found[7])) > 0.1


def test_one_query_whose_denominator_is_not_trusted_rules_a_truncation_out(rng):
    """1 + <q, k> is not positive at a query that was not sampled and is about -3 k, all keys being alike."""
    q, k = 0.1 * rng.normal(size=(500, 4)), np.eye(4)[0] + 0.05 * rng.normal(size=(60, 4))
    found = OptimizedMaclaurin("exp", 5).fit(q, k).prediction.candidates
    assert math.isfinite(found["degree <= 1"])
    q[0] = -3 * np.eye(4)[0]  # the sample begins with the second row
    found = OptimizedMaclaurin("exp", 5).fit(q, k).prediction.candidates
    assert math.isinf(found["degree <= 1"])
    assert math.isfinite(found["degree 0"])


def test_random_features_that_may_make_a_denominator_vanish_are_not_chosen(rng, monkeypatch):
    """Denominators that have four deviations to spare have no thousand."""
    q, k = along_the_diagonal(rng)
    assert OptimizedMaclaurin("exp", 768).fit(q, k).random
    monkeypatch.setattr(candidates, "DEVIATIONS", 1000)
    strict = OptimizedMaclaurin("exp", 768).fit(q, k)
    assert not strict.random
    assert max(strict.prediction.candidates.values()) == math.inf


def test_a_fit_is_the_same_each_time_and_looks_at_no_seed(rng):
    q, k, _ = tokens(rng)
    a, b = (OptimizedMaclaurin("exp", 16).fit(q, k) for _ in range(2))
    assert np.array_equal(a.draw(6, 0)(q), b.draw(6, 1)(q))
    assert float(a.prediction.error) == float(b.prediction.error)


def test_a_larger_sample_is_asked_where_there_are_more_tokens():
    assert sample_size(512, 512, 32, 256) == 128
    n, d, width = 1 << 15, 32, 256
    s = sample_size(n, n, d, width)
    assert s == math.ceil(2 * d * math.sqrt(2 * n / (width + 2 * d)))
    assert (s - 1) ** 2 * (width + 2 * d) < 4 * (2 * n) * d**2 <= s**2 * (width + 2 * d)


def test_the_cost_of_a_fit_grows_like_the_tokens(rng):
    """From 2^12 tokens on it grows no faster than they do, but for rounding of the sample size: 2 per cent."""
    spent = []
    for n in (1 << 12, 1 << 14):
        q, k, _ = tokens(rng, n=n, m=n, dim=8)
        spent.append(int(OptimizedMaclaurin("exp", 16).fit(q, k).fit_multiply_adds))
    assert 0 < spent[1] <= 4.08 * spent[0]


# --- heads, masks, libraries ---------------------------------------------------------------------------------------


def test_every_head_is_fitted_on_its_own(rng):
    q, k, v = tokens(rng, (2, 3))
    q[1, 2] *= 3
    law = OptimizedMaclaurin("exp", 20).fit(q, k, values=v)
    assert law.shape == (2, 3) == law.fit_multiply_adds.shape == law.prediction.error.shape
    out = st.feature_attention(q, k, v, law.draw(6))
    for head in np.ndindex(2, 3):
        alone = OptimizedMaclaurin("exp", 20).fit(q[head], k[head], values=v[head])
        assert str(law.prediction.chosen[head]) == str(alone.prediction.chosen)
        expected = st.feature_attention(q[head], k[head], v[head], alone.draw(6))
        assert np.allclose(out[head], expected, rtol=0, atol=1e3 * 2.0**-53 * np.max(np.abs(v)))


def test_shared_keys_and_values_are_broadcast(rng):
    q, k, v = tokens(rng, (3,))
    law = OptimizedMaclaurin("exp", 12).fit(q, k[0], values=v[0])
    assert law.shape == (3,)
    assert st.feature_attention(q, k[0], v[0], law.draw(6)).shape == (3, 40, 3)


def test_masked_keys_are_not_there(rng):
    q, k, v = tokens(rng)
    mask = np.arange(30) < 20
    k[~mask], v[~mask] = np.nan, np.nan
    short = OptimizedMaclaurin("exp", 16).fit(q, k[:20], values=v[:20])
    weights = np.where(mask, 0.0, -np.inf)
    for options in ({"key_mask": mask}, {"key_log_weights": weights}):
        law = OptimizedMaclaurin("exp", 16).fit(q, k, values=v, **options)
        assert np.array_equal(law.draw(6)(q), short.draw(6)(q))
    nobody = OptimizedMaclaurin("exp", 16).fit(q, k, key_mask=np.zeros(30, dtype=bool))
    assert nobody.n_features == 1
    assert np.all(st.feature_attention(q, k, v, nobody.draw(6), key_mask=np.zeros(30, dtype=bool)) == 0)


def test_weights_of_keys_count_like_copies_of_keys(rng):
    q, k, v = tokens(rng)
    twice = OptimizedMaclaurin("exp", 16).fit(q, np.concatenate([k, k[:10]]), values=np.concatenate([v, v[:10]]))
    once = OptimizedMaclaurin("exp", 16).fit(q, k, np.where(np.arange(30) < 10, math.log(2), 0.0), values=v)
    assert str(once.prediction.chosen) == str(twice.prediction.chosen)
    assert float(once.prediction.error) == pytest.approx(float(twice.prediction.error), rel=1e-9)
    assert np.allclose(once.spread, twice.spread, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_and_dtype_is_served(asarray, rng, dtype):
    q, k, v = (asarray(np.asarray(x, dtype=dtype)) for x in tokens(rng, (2,)))
    law = OptimizedMaclaurin("exp", 20).fit(q, k, values=v)
    out = st.feature_attention(q, k, v, law.draw(6))
    assert out.dtype == q.dtype
    assert type(out) is type(q)
    exact = st.to_host(st.kernel_attention(q, k, v, "exp"))
    assert relative(out, exact) < 1.01 * np.max(law.prediction.error) + 1e-5
    for found in (law.mean(q[..., :1, :], k), law.variance(q[..., :1, :], k), law.target(q[..., :1, :], k)):
        assert found.dtype == q.dtype
        assert tuple(found.shape) == (2, 30)


# --- the closed forms ----------------------------------------------------------------------------------------------


def estimates(law, q, k):
    """All estimates of one feature of degree 2, (outcomes, m), by every pair of sign vectors."""
    w, kept = st.sign_vectors(len(q)), np.arange(len(q)) < int(law.remainder.cuts)

    def z(x):
        return np.multiply.outer(w @ x, w @ x) - np.multiply.outer(w @ (x * kept), w @ (x * kept))

    known = (
        law.monomials.apply(q[None], law.monomials.factors("exp"))
        @ law.monomials.apply(k, law.monomials.factors("exp")).T
    )
    factor = 0.5 * float(law.remainder.shrinkage[2])
    return known + factor * np.stack([(z(q) * z(one)).ravel() for one in k], axis=-1)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_mean_and_covariance_are_those_of_all_signs(rng, cut):
    q, k = rng.integers(-2, 3, size=3) / 2, rng.integers(-2, 3, size=(4, 3)) / 2
    law = by_hand("exp", 3, cut, [0, 0, 1], [0, 0, 0.75])
    found = estimates(law, q, k)
    # |q|_1, |k|_1 <= 3, so that one estimate is below 2^9 and its square below 2^18; 64 outcomes are summed.
    tolerance, squared = (2.0**bits * 64 * 2.0**-53 for bits in (9, 18))
    assert np.allclose(law.mean(q, k), found.mean(axis=0), rtol=0, atol=tolerance)
    assert np.allclose(law.row_covariance(q, k), np.cov(found.T, bias=True), rtol=0, atol=squared)
    assert np.allclose(law.variance(q, k), found.var(axis=0), rtol=0, atol=squared)
    assert np.allclose(law.second_moment(q, k), (found**2).mean(axis=0), rtol=0, atol=squared)


@pytest.mark.parametrize(
    "law",
    [
        by_hand("exp", 4, 2, [0, 0, 4, 3, 2], [0, 0, 0.8, 0.5, 0.1]),
        by_hand("inv", 4, 0, [0, 0, 8], [0, 0, 1.0]),
        by_hand("sqrt", 4, 3, [0, 0, 2, 0, 3], [0, 0, 0.3, 0, 1.0]),
        by_hand("exp", 4, 4, [0], [0]),
    ],
    ids=["exp", "inv", "sqrt", "not random"],
)
def test_laws_with_a_random_part_pass_the_exam(law, asarray):
    exam = examine_map(law, asarray=asarray, draws=1 << 13, random=law.random)
    assert exam.finding("queries have features like those of keys").verdict == "holds"
    assert exam.finding("inner products are unbiased").verdict == "holds"
    assert exam.finding("variance equals its closed form").verdict == ("holds" if law.random else "not examined")


def test_closed_forms_of_several_heads_are_those_of_each(rng):
    kernel, x, y = st.get_kernel("exp"), *rng.normal(size=(2, 2, 5, 3)) / 2
    laws = [by_hand("exp", 3, cut, counts, (0, 0, 0.5, 0.25)) for cut, counts in ((1, (0, 0, 3, 0)), (2, (0, 0, 1, 1)))]
    both = FittedMaclaurin(
        kernel,
        Monomials.stack([law.monomials for law in laws]),
        Remainder(
            kernel,
            np.array([1, 2]),
            *(np.stack([getattr(law.remainder, n) for law in laws]) for n in ("counts", "shrinkage")),
        ),
        np.full(2, 4.0),
        np.ones((2, 3)),
        laws[0].prediction,
        np.zeros(2, dtype=int),
    )
    assert both.shape == (2,)
    assert both.draw(3, 0, shape=(4,))(x).shape == (4, 2, 5, both.n_features)
    for name in ("mean", "variance", "second_moment", "target"):
        found = getattr(both, name)(x, y)
        expected = np.stack([getattr(law, name)(a, b) for law, a, b in zip(laws, x, y, strict=True)])
        assert np.allclose(found, expected, rtol=1e-14, atol=1e-15)
    rows = both.row_covariance(x, y[..., None, :, :])
    expected = np.stack(
        [law.row_covariance(a, np.broadcast_to(b, (5, 5, 3))) for law, a, b in zip(laws, x, y, strict=True)]
    )
    assert np.allclose(rows, expected, rtol=1e-14, atol=1e-15)


def test_counts_and_shrinkage_have_the_least_error_of_all(rng):
    """`plan_remainder` against every composition of the width and the best factor of each degree."""
    x, y = rng.normal(size=(2, 6, 3)) / 1.5
    weights = np.full(6, 1 / 6)
    for cut, width in itertools.product((0, 2), (1, 3, 5)):
        counts, shrinkage, left = st.plan_remainder(st.get_kernel("exp"), x, y, weights, cut, width, cut)
        assert counts.sum() == width
        assert counts[:2].sum() == 0
        assert np.all((shrinkage > 0) == (counts > 0))
        signal, noise = moments(x, y, cut)
        errors = {
            some: sum(s * v / (s * c + v) for s, v, c in zip(signal, noise, some, strict=True))
            for some in itertools.product(range(width + 1), repeat=3)
            if sum(some) <= width
        }
        chosen = tuple(int(c) for c in counts[2:5])
        assert errors[chosen] == pytest.approx(min(errors.values()), rel=1e-12)
        best = [s / (s + v / c) if c else 0.0 for s, v, c in zip(signal, noise, chosen, strict=True)]
        assert np.allclose(shrinkage[2:5], best, rtol=1e-9)
        assert 0 < left < 1


def test_a_plan_weighs_keys_and_says_what_it_leaves_of_the_larger_subspace(rng):
    kernel, (x, y) = st.get_kernel("exp"), rng.normal(size=(2, 6, 3)) / 1.5
    twice = np.concatenate([y, y[:2]])
    once, copies = (
        st.plan_remainder(kernel, x, keys, weights, 1, 5, 2)
        for keys, weights in ((y, np.array([2, 2, 1, 1, 1, 1]) / 8), (twice, np.full(8, 1 / 8)))
    )
    for found, expected in zip(once, copies, strict=True):
        assert np.allclose(found, expected, rtol=1e-9, atol=0)
    uniform = np.full(6, 1 / 6)
    assert st.plan_remainder(kernel, x, y, uniform, 2, 0, 2)[2] == 1
    assert st.plan_remainder(kernel, x, y, uniform, 1, 0, 2)[2] > 1.001


def moments(x, y, cut):
    """Mean squares of signal and noise of one feature of degrees 2, 3 and 4 of exp, by the law with that one feature."""
    found = []
    for n in (2, 3, 4):
        law = by_hand("exp", 3, cut, np.eye(5, dtype=int)[n], np.ones(5))
        mean = law.remainder.mean(x[:, None, :], y[None, :, :])
        found.append((np.mean(mean**2), np.mean(law.variance(x[:, None, :], y[None, :, :]))))
    return zip(*found, strict=True)


# --- what is wrong is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": np.zeros((3, 5))}, ValueError, "q, k"),
        ({"q": np.zeros((0, 6))}, ValueError, "none empty"),
        ({"q": np.full((3, 6), np.nan)}, ValueError, "q: expected finite"),
        ({"q": [[0.0] * 6]}, TypeError, "q: expected an array"),
        ({"values": np.zeros((3, 2))}, ValueError, "values: expected"),
        ({"values": np.full((30, 2), np.inf)}, ValueError, "values: expected finite"),
        ({"key_mask": np.ones(30)}, TypeError, "key_mask"),
        ({"key_log_weights": np.zeros(29)}, ValueError, "key_log_weights"),
    ],
)
def test_wrong_input_is_named(rng, change, error, words):
    q, k, _ = tokens(rng)
    with pytest.raises(error, match=words):
        OptimizedMaclaurin("exp", 8).fit(**({"q": q, "k": k} | change))


def test_wrong_laws_and_draws_are_named(rng):
    q, k, _ = tokens(rng, length=1.5)
    with pytest.raises(ValueError, match="n_features"):
        OptimizedMaclaurin("exp", 0)
    with pytest.raises(ValueError, match="kernel: expected one of"):
        OptimizedMaclaurin("cosh", 8)
    with pytest.raises(ValueError, match="n_features: expected enough"):
        OptimizedMaclaurin(st.polynomial(2), 1).fit(q, k)
    assert OptimizedMaclaurin(st.polynomial(2), 28).fit(q, k).prediction.error < 1e-12
    with pytest.raises(ValueError, match="inv needs"):
        OptimizedMaclaurin("inv", 8).fit(q, k)
    law = OptimizedMaclaurin("exp", 8).fit(q, k)
    with pytest.raises(ValueError, match="dim: expected 6"):
        law.draw(5)
    with pytest.raises(ValueError, match="x, y: expected"):
        law.mean(q[:, :5], k[:, :5])
    with pytest.raises(ValueError, match=r"x, y: expected \(..., n, 6\)"):
        OptimizedMaclaurin("exp", 8).fit(q[None], k[None]).mean(q[0], k[0])


def test_a_law_that_is_not_fitted_says_what_to_do():
    with pytest.raises(ValueError, match=r"expected a fitted law to draw from; fit\(q, k\) gives it"):
        OptimizedMaclaurin("exp", 8).draw(4, rng=0)
