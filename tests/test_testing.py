"""The exam is itself examined: what is right passes, and every broken twin is caught by the law meant for it."""

from __future__ import annotations

import dataclasses
import math
import types

import array_api_compat
import numpy as np
import pytest
import scipy.special

import schoenbat_theory as st
from schoenbat_theory.arrays import to_host
from schoenbat_theory.testing import (
    ATTENTION_LAWS,
    KERNEL_LAWS,
    MAP_LAWS,
    Exam,
    ExamFailed,
    Finding,
    examine_attention,
    examine_kernel,
    examine_map,
)

KERNELS = [*st.KERNELS.values(), st.polynomial(3, 1.0), st.polynomial(2), st.get_kernel("inv").scaled(0.5)]
DEGREES = ["geometric", "released", "h01", (2, 6, 4, 4)]
POSITIVE = [
    st.PositiveFeatures(6, orthogonal=False),
    *(st.PositiveFeatures(n_features) for n_features in (3, 4, 10)),  # of dimension 4: fewer, as many, more
    st.PositiveFeatures(12, hyperbolic=True),
    st.PositiveFeatures(8, orthogonal=False, hyperbolic=True, tilt=-0.1),
    st.PositiveFeatures(8, tilt=0.03),
]
FOURIER = [
    st.FourierFeatures(8, orthogonal=False),
    st.FourierFeatures(8, "gaussian", orthogonal=False),
    *(st.FourierFeatures(n_features) for n_features in (6, 8, 20)),  # of dimension 4: fewer vectors, as many, more
    st.FourierFeatures(20, "gaussian"),
]
OTHER_WEIGHTS = [
    *(st.RandomMaclaurin("exp", 16, degrees, "gaussian") for degrees in DEGREES),
    *(st.RandomMaclaurin("exp", 16, degrees, "complex-rademacher") for degrees in ("geometric", DEGREES[-1])),
    *(st.RandomMaclaurin("exp", 17, degrees, "complex-gaussian") for degrees in ("released", "h01")),
    *(st.RandomMaclaurin("exp", 16, DEGREES[-1], weights) for weights in ("srht", "complex-srht", "tensorsketch")),
]
WEIGHTS = ["rademacher", "gaussian", "complex-rademacher", "complex-gaussian", "srht", "complex-srht", "tensorsketch"]
SKETCHES = [
    *(
        st.PolynomialSketch(degree, n_features, weights)
        for weights in WEIGHTS
        for degree, n_features in [(1, 10), (2, 6)]
    ),
    # Products of three normal numbers have heavy tails: their variance is decided where many are averaged.
    *(st.PolynomialSketch(3, 48 if "gaussian" in weights else 12, weights) for weights in WEIGHTS),
]
OPTIONS = ("causal", "key_mask", "key_log_weights")


def turned(x):
    return array_api_compat.array_namespace(x).matrix_transpose(x)


def assert_attention_passes(phi, asarray):
    """Every law of attention holds for `feature_attention` through this draw."""
    exam = examine_attention(
        lambda q, k, v, **options: st.feature_attention(q, k, v, phi, **options),
        asarray=asarray,
        options=OPTIONS,
        dense=lambda q, k: phi(q) @ turned(phi(k)),
        magnitude=lambda q, k: abs(phi(q)) @ turned(abs(phi(k))),
        terms=phi.n_features,
    )
    assert [f.verdict for f in exam.findings] == ["holds"] * len(ATTENTION_LAWS)


def caught(examine, *args, **options):
    """Return the names of the laws that a broken twin fails by what it computes, not by an exception that it raises."""
    with pytest.raises(AssertionError) as raised:
        examine(*args, **options)
    assert isinstance(raised.value, ExamFailed)
    for finding in raised.value.exam.failures:
        assert finding.law in str(raised.value)  # the sentence names the law
        assert finding.statement in str(raised.value)
    return {f.law for f in raised.value.exam.failures if not f.note.startswith("raised")}


# --- what is right passes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_passes(kernel, asarray):
    exam = examine_kernel(kernel, asarray=asarray)
    assert len(exam.findings) == len(KERNEL_LAWS)
    assert [f.law for f in exam.findings if f.verdict != "holds"] == (
        ["arguments outside the radius are refused"] if math.isinf(kernel.radius) else []
    )


@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_every_degree_law_passes(degrees, asarray):
    exam = examine_map(st.RandomMaclaurin("exp", 16, degrees), asarray=asarray)
    assert len(exam.findings) == len(MAP_LAWS)
    for law in ("inner products are unbiased", "variance equals its closed form"):
        assert exam.finding(law).verdict == "holds"
    truncation = exam.finding("mean compared with target")
    assert truncation.verdict == "reported"
    # "released" stops at degree 20, where |t| <= 0.16 leaves nothing; the counts stop at degree 3.
    assert (truncation.found > 1e-9) == (not isinstance(degrees, str))


@pytest.mark.parametrize("degrees", DEGREES[1:], ids=str)
@pytest.mark.parametrize("kernel", ["inv", "logi", "sqrt"])
def test_every_kernel_has_maps_that_pass(kernel, degrees):
    assert examine_map(st.RandomMaclaurin(kernel, 16, degrees), dim=5, rng=1).passed


@pytest.mark.parametrize("law", OTHER_WEIGHTS, ids=lambda law: f"{law.weights}-{law.degrees!r}")
def test_every_family_of_weights_passes(law, asarray):
    exam = examine_map(law, asarray=asarray, draws=1 << 14)
    other = {f.law: f.verdict for f in exam.findings if f.verdict != "holds"}
    assert other == {"mean compared with target": "reported", "scaled features are the features": "not examined"}


@pytest.mark.parametrize("law", OTHER_WEIGHTS[-4:], ids=lambda law: f"{law.weights}-{law.degrees!r}")
def test_attention_through_other_weights_passes(law, asarray):
    phi = law.draw(4, rng=1)
    assert_attention_passes(phi, asarray)


@pytest.mark.parametrize("kernel", [*st.KERNELS.values(), st.polynomial(3, 1.0)], ids=lambda kernel: kernel.name)
def test_kernel_attention_passes(kernel, asarray):
    exam = examine_attention(
        lambda q, k, v, **options: st.kernel_attention(q, k, v, kernel, **options),
        asarray=asarray,
        options=OPTIONS,
        dense=kernel.gram,
    )
    assert [f.verdict for f in exam.findings] == ["holds"] * len(ATTENTION_LAWS)


def test_local_attention_passes_where_every_key_is_treated_exactly(asarray):
    exam = examine_attention(
        lambda q, k, v, **options: st.local_attention(q, k, v, budget=st.LocalBudget(8, 8, k.shape[-2]), **options),
        asarray=asarray,
        options=OPTIONS[1:],
        dense=st.get_kernel("exp").gram,
    )
    other = {f.law: f.verdict for f in exam.findings if f.verdict != "holds"}
    causal = ("causal rows attend to their prefix", "later keys change nothing")
    assert other == dict.fromkeys(causal, "not examined")


def test_local_attention_passes_with_few_clusters_and_blocks(asarray):
    """What it computes depends on all queries and keys at once: laws of fixed weights are not examined."""
    exam = examine_attention(
        lambda q, k, v, **options: st.local_attention(q, k, v, budget=st.LocalBudget(2, 2, 1), **options),
        asarray=asarray,
        options=OPTIONS[1:],
        fixed=False,
    )
    assert exam.passed


@pytest.mark.parametrize("degrees", DEGREES, ids=str)
def test_feature_attention_passes(degrees, asarray):
    phi = st.RandomMaclaurin("exp", 16, degrees).draw(4, rng=1)
    assert_attention_passes(phi, asarray)


def examine_sketch(law, asarray):
    # Of length 5, padded to 8: widths are smaller and larger.
    exam = examine_map(law, dim=5, rng=1, asarray=asarray, draws=1 << 15)
    assert {f.law: f.verdict for f in exam.findings if f.verdict != "holds"} == {
        "mean compared with target": "reported",
        "scaled features are the features": "not examined",
    }
    assert exam.finding("mean compared with target").found == 0


@pytest.mark.parametrize("law", SKETCHES, ids=repr)
def test_every_sketch_passes(law):
    examine_sketch(law, np.asarray)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_sketch_passes_in_every_library(weights, asarray):
    examine_sketch(st.PolynomialSketch(2, 10, weights), asarray)


def registered(name, kernel):
    """Return the law registered under ``name``, fitted where it is to be, and whether it is random; ``None``: no law."""
    width = {"random landmarks": 4}.get(name, 16)  # of four landmarks in dimension 4 the Gram matrix is no singular one
    made = st.feature_maps()[name](kernel, 4, width)
    q, k = np.random.default_rng(7).normal(size=(2, 20, 4))
    q, k = (0.6 * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    law = made if made is None or hasattr(made, "draw") else made.fit(q, k)
    return law, getattr(law, "random", not isinstance(law, st.TaylorFeatures))


@pytest.mark.parametrize("kernel", ["exp", "inv"])
@pytest.mark.parametrize("name", st.feature_maps())
def test_every_registered_map_passes(name, kernel, asarray):
    law, random = registered(name, kernel)
    if law is None:
        assert (name.partition(",")[0], kernel) in {("positive", "inv"), ("trigonometric", "inv")}
        return
    exam = examine_map(law, asarray=asarray, draws=1 << 13, random=random)
    assert exam.finding("every array library gives the same features").verdict == "holds"
    known = "not examined" if name == "random landmarks" else "holds"
    assert exam.finding("inner products are unbiased").verdict == known
    assert exam.finding("variance equals its closed form").verdict == (known if random else "not examined")


@pytest.mark.parametrize("name", ["Taylor, degree 2", "random landmarks", "optimized Maclaurin"])
def test_attention_through_registered_maps_passes(name, asarray):
    law, _ = registered(name, "exp")
    phi = law.draw(4, rng=1)
    assert_attention_passes(phi, asarray)


@pytest.mark.parametrize("law", [*POSITIVE, *FOURIER], ids=repr)
def test_every_positive_and_every_trigonometric_law_passes(law, asarray):
    exam = examine_map(law, asarray=asarray)
    other = {f.law: f.verdict for f in exam.findings if f.verdict != "holds"}
    assert other == {
        "mean compared with target": "reported",
        "merged features have the same inner products": "not examined",
    }
    assert exam.finding("mean compared with target").found == 0


@pytest.mark.parametrize("law", [*POSITIVE, *FOURIER], ids=repr)
def test_attention_through_positive_and_trigonometric_features_passes(law, asarray):
    assert_attention_passes(law.draw(4, rng=1), asarray)


def test_rfa_attention_passes(asarray):
    phi = st.FourierFeatures(64, "gaussian", orthogonal=False).draw(4, rng=1)
    exam = examine_attention(
        lambda q, k, v, **options: st.rfa_attention(q, k, v, n_features=64, rng=1, **options),
        asarray=asarray,
        options=("causal", "key_mask"),
        dense=lambda q, k: phi(st.unit_norm(q)) @ turned(phi(st.unit_norm(k))),
        magnitude=lambda q, k: abs(phi(st.unit_norm(q))) @ turned(abs(phi(st.unit_norm(k)))),
        terms=64,
    )
    assert {f.law for f in exam.findings if f.verdict != "holds"} == {"a log weight of log 2 doubles a key"}


def test_relative_attention_without_a_bias_passes(asarray):
    phi = st.RandomMaclaurin("exp", 16).draw(4, rng=1)

    def attend(q, k, v, **options):
        flat = asarray(np.zeros(q.shape[-2] + k.shape[-2] - 1))
        flat = array_api_compat.array_namespace(q).astype(flat, q.dtype)
        return st.relative_attention(q, k, v, phi, log_bias=flat, **options)

    exam = examine_attention(
        attend,
        asarray=asarray,
        options=("causal", "key_mask"),
        dense=lambda q, k: phi(q) @ turned(phi(k)),
        magnitude=lambda q, k: abs(phi(q)) @ turned(abs(phi(k))),
        terms=16 + 64,  # 2 log2(N) ||c|| ||x|| of FFT is less than 64 times the sum of |c x| here, N = 2048 at most
    )
    assert {f.law for f in exam.findings if f.verdict != "holds"} == {"a log weight of log 2 doubles a key"}


def test_schoenbat_attention_passes():
    def attend(q, k, v, **options):
        return st.schoenbat_attention(q, k, v, n_features=64, rng=0, **options)

    assert examine_attention(attend, options=("causal", "key_mask"), terms=64).passed


def test_softmax_attention_passes(asarray):
    exam = examine_attention(
        st.softmax_attention, asarray=asarray, options=OPTIONS, dense=st.get_kernel("exp").scaled(0.5).gram, dim=4
    )
    assert [f.verdict for f in exam.findings] == ["holds"] * len(ATTENTION_LAWS)


def elu_plus_one(x):
    xp = array_api_compat.array_namespace(x)
    return xp.where(x > 0, x + 1, xp.exp(x))


def test_linear_attention_passes(asarray):
    exam = examine_attention(
        st.linear_attention,
        asarray=asarray,
        options=("causal", "key_mask"),
        dense=lambda q, k: elu_plus_one(q) @ turned(elu_plus_one(k)),
    )
    silent = {f.law for f in exam.findings if f.verdict != "holds"}
    assert silent == {"a log weight of log 2 doubles a key"}


def test_nystromformer_attention_passes(asarray):
    # Landmarks are means of runs, so that order matters, and rows of the product of three matrices do not sum to 1.
    exam = examine_attention(
        lambda q, k, v, **options: st.nystromformer_attention(q, k, v, n_landmarks=2, **options),
        asarray=asarray,
        options=("key_mask",),
        fixed=False,
        normalised=False,
        symmetric=False,
        terms=math.ceil((13 / 4) ** 6),  # each of six steps may multiply rounding errors by 13 / 4
    )
    assert exam.finding("an item alone equals itself in a batch").verdict == "holds"
    assert exam.finding("masked keys are never looked at").verdict == "holds"


def test_gaussian_attention_passes(asarray):
    exam = examine_attention(
        st.gaussian_attention, asarray=asarray, options=("key_mask",), normalised=False, dense=st.gaussian_gram
    )
    assert {f.verdict for f in exam.findings} == {"holds", "not examined"}
    assert exam.finding("blockwise equals whole").verdict == "holds"


@pytest.mark.parametrize("landmarks", ["uniform", "replacement", "released"])
@pytest.mark.parametrize("inverse", ["exact", "schulz"])
def test_nystrom_attention_passes(asarray, landmarks, inverse):
    """On rows of length 2, of which 5 have a well-conditioned Gram matrix: its inverse magnifies no rounding."""

    def attend(q, k, v, **options):
        return st.nystrom_attention(q, k, v, n_landmarks=5, rng=0, landmarks=landmarks, inverse=inverse, **options)

    exam = examine_attention(
        attend, asarray=asarray, options=("key_mask",), fixed=False, normalised=False, terms=5, norm=2.0
    )
    assert exam.finding("an item alone equals itself in a batch").verdict == "holds"


# --- a user's own --------------------------------------------------------------------------------------------------


def test_a_users_kernel_passes(asarray):
    def sqrt_of_inverse(t):
        return (1 - t) ** -0.5

    def coefficient(n):  # |binom(-1/2, n)|
        return math.comb(2 * n, n) / 4**n

    mine = st.DotProductKernel.from_coefficients("mine", coefficient, sqrt_of_inverse, radius=1.0)
    assert examine_kernel(mine, asarray=asarray).passed


class GaussianLinear:
    """A user's map, ten lines: n_features projections on normal vectors; E = <x, y>, variance in closed form."""

    n_features = 12

    def draw(self, dim, rng):
        w = np.random.default_rng(rng).normal(size=(dim, self.n_features)) / math.sqrt(self.n_features)
        return lambda x: x @ array_api_compat.array_namespace(x).asarray(w, dtype=x.dtype, device=x.device)

    def mean(self, x, y):
        return np.sum(x * y, axis=-1)

    target = mean

    def variance(self, x, y):
        return (np.sum(x * x, axis=-1) * np.sum(y * y, axis=-1) + self.mean(x, y) ** 2) / self.n_features


def test_a_users_map_passes_with_fewer_draws_where_it_takes_no_shape():
    exam = examine_map(GaussianLinear(), dim=3)
    silent = {f.law: f.note for f in exam.findings if f.verdict == "not examined"}
    assert silent["draws with leading axes are independent maps"] == "law.draw takes no shape"
    assert silent["a saved draw is the same map"] == "the draw has no save"
    assert "margin 0.148 of" in exam.finding("inner products are unbiased").note  # 0.04 at 131072 draws
    assert "margin 0.5 of" in exam.finding("variance equals its closed form").note


def test_a_law_without_closed_forms_says_so():
    class NoVariance(GaussianLinear):
        def variance(self, x, y):
            return None

    class NoMean(GaussianLinear):
        target = variance = None

        def mean(self, x, y):
            return None

    exam = examine_map(NoVariance(), draws=2048)
    assert "asymptotic" in exam.finding("inner products are unbiased").note
    assert exam.finding("variance equals its closed form").verdict == "not examined"
    exam = examine_map(NoMean(), draws=2048)
    assert exam.finding("inner products are unbiased").verdict == "not examined"
    assert exam.finding("mean compared with target").verdict == "not examined"


def test_a_map_without_randomness_passes():
    class Degree2:
        """1, x, and all products of two entries: exactly 1 + t + t^2 / 2."""

        def __init__(self, dim):
            self.n_features = 1 + dim + dim * dim

        def draw(self, dim, rng, shape=()):
            def phi(x):
                xp = array_api_compat.array_namespace(x)
                pairs = xp.reshape(x[..., :, None] * x[..., None, :], (*x.shape[:-1], dim * dim)) * 0.5**0.5
                out = xp.concat([xp.ones_like(x[..., :1]), x, pairs], axis=-1)
                return xp.broadcast_to(out, (*shape, *out.shape))

            return phi

        def mean(self, x, y):
            t = np.sum(x * y, axis=-1)
            return 1 + t + t * t / 2

        def variance(self, x, y):
            return np.zeros(x.shape[:-1])

    exam = examine_map(Degree2(3), dim=3, random=False)
    assert exam.finding("inner products are unbiased").verdict == "holds"
    assert "variance is zero" in exam.finding("variance equals its closed form").note


def test_a_users_attention_passes(asarray):
    def softmax(q, k, v):
        xp = array_api_compat.array_namespace(q)
        w = xp.exp(q @ turned(k))
        return w @ v / xp.sum(w, axis=-1, keepdims=True)

    exam = examine_attention(softmax, asarray=asarray)
    assert exam.finding("later keys change nothing").note == "no option causal"
    assert exam.finding("blockwise equals whole").verdict == "not examined"


def test_attention_without_normalisation_or_fixed_weights_is_examined_for_the_rest():
    def gaussian(q, k, v):
        return np.exp(-np.sum((q[..., :, None, :] - k[..., None, :, :]) ** 2, axis=-1) / 2) @ v

    exam = examine_attention(gaussian, normalised=False)
    assert exam.finding("values of one give one").verdict == "not examined"

    def centred(q, k, v):  # looks at all keys at once
        return st.kernel_attention(q, k - k.mean(axis=-2, keepdims=True), v, "exp")

    exam = examine_attention(centred, fixed=False)
    assert exam.finding("permuted keys change nothing").verdict == "not examined"
    assert exam.finding("an item alone equals itself in a batch").verdict == "holds"


# --- broken kernels ------------------------------------------------------------------------------------------------


def smuggled(name="smuggled", **changes):
    return dataclasses.replace(st.get_kernel("exp"), name=name, **changes)


def test_a_negative_coefficient_is_caught():
    def coefficient(n):
        return (1, 1, -0.3)[n] if n < 3 else 0

    broken = st.DotProductKernel("negative", coefficient, lambda t: 1 + t - 0.3 * t * t, math.inf)
    laws = caught(examine_kernel, broken)
    assert "coefficients are not negative" in laws
    assert "gram matrices are positive semidefinite" in laws


def test_a_wrong_closed_form_is_caught():
    broken = smuggled("wrong form", closed_form=lambda t: np.exp(t) + 1e-12 * t)
    assert "function equals its series" in caught(examine_kernel, broken)


def test_a_form_that_changes_dtype_is_caught():
    broken = smuggled("wide", closed_form=lambda t: np.exp(t.astype(np.float64)))
    assert caught(examine_kernel, broken) == {"dtype and device are kept"}


def test_a_kernel_that_accepts_everything_is_caught():
    class Open(st.DotProductKernel):
        def __call__(self, t):
            return self.closed_form(t)

    inv = st.get_kernel("inv")
    broken = Open("open", inv.coefficient, inv.closed_form, 1.0)
    assert caught(examine_kernel, broken) == {"arguments outside the radius are refused"}


def test_a_wrong_scaling_is_caught():
    class Unscaled(st.DotProductKernel):
        def scaled(self, beta):
            return super().scaled(beta**2)

    broken = Unscaled("unscaled", *(getattr(st.get_kernel("exp"), f) for f in ("coefficient", "closed_form", "radius")))
    assert caught(examine_kernel, broken) == {"scaled kernel is the kernel of the scaled argument"}


# --- broken maps ---------------------------------------------------------------------------------------------------


class Wrapped:
    """A law whose draws are changed by ``change(phi)``, or whose closed forms lie."""

    def __init__(self, change=None, degrees="geometric", **lies):
        self.law = st.RandomMaclaurin("exp", 16, degrees)
        self.change = change
        for name, lie in lies.items():
            setattr(self, name, lie)

    def __getattr__(self, name):
        return getattr(self.law, name)

    def draw(self, dim, rng=None, *, shape=()):
        phi = self.law.draw(dim, rng, shape=shape)
        return phi if self.change is None else self.change(phi)


def test_the_wrapper_itself_passes():
    assert examine_map(Wrapped(), draws=1 << 14, alpha=1e-3).alpha == 1e-3


def drop_degree_0(phi):
    def features(x):
        out = phi(x)
        return np.where(np.broadcast_to((phi.degrees == 0)[..., None, :], out.shape), 0.0, out)

    return features


def variance(x, y, last_term=True):
    """[sum_n a_n^2 2^(n+1) V^n - f(t)^2] / D for exp, D = 16; without its last term V is ||x||^2 ||y||^2 + 2 t^2."""
    t = np.sum(x * y, axis=-1)
    v = np.sum(x * x, axis=-1) * np.sum(y * y, axis=-1) + 2 * t * t
    if last_term:
        v = v - 2 * np.sum(x * x * y * y, axis=-1)
    return (2 * scipy.special.i0(2 * np.sqrt(2 * v)) - np.exp(2 * t)) / 16


def other_draw_at_each_call(phi):
    streams = iter(np.random.default_rng(5).integers(1 << 31, size=1 << 16))
    law = st.RandomMaclaurin("exp", 16)
    return lambda x: law.draw(phi.dim, int(next(streams)), shape=phi.shape)(x)


BROKEN_MAPS = {
    "zero map": (lambda phi: lambda x: 0 * phi(x), "features depend on the input"),
    "ignores x": (lambda phi: lambda x: phi(0 * x + 0.1), "features depend on the input"),
    "drawn at each call, hence separate draws for q and k": (
        other_draw_at_each_call,
        "the same draw gives the same features",
    ),
    "separate draws are biased": (other_draw_at_each_call, "inner products are unbiased"),
    "degree 0 dropped": (drop_degree_0, "inner products are unbiased"),
    "1/sqrt(D) missing": (lambda phi: lambda x: 4 * phi(x), "inner products are unbiased"),
    "bias of 5 %": (lambda phi: lambda x: 1.025 * phi(x), "inner products are unbiased"),
    "always float64": (lambda phi: lambda x: phi(x.astype(np.float64)), "shape dtype and device are kept"),
    "half precision inside": (
        lambda phi: lambda x: phi(x.astype(np.float16).astype(x.dtype) if x.dtype == np.float32 else x),
        "float32 features equal float64 features",
    ),
    "single precision inside": (
        lambda phi: lambda x: phi(x).astype(np.float32).astype(x.dtype),
        "float64 features have the digits of float64",
    ),
    "too wide": (lambda phi: lambda x: np.concatenate([phi(x), phi(x)], -1), "shape dtype and device are kept"),
    "batch statistics": (
        lambda phi: lambda x: phi(x / (1 + 1e-9 * np.abs(x).max())),
        "an item alone equals itself in a batch",
    ),
    "statistics of all rows": (
        lambda phi: lambda x: phi(x - 1e-9 * x.mean(axis=-2, keepdims=True)),
        "rows are independent of each other",
    ),
}


@pytest.mark.parametrize("name", BROKEN_MAPS)
def test_broken_maps_are_caught(name):
    change, law = BROKEN_MAPS[name]
    assert law in caught(examine_map, Wrapped(change), draws=1 << 15)


@pytest.mark.parametrize("where", [2.0**-20, -(2.0**-20), 2.0**-14.5, 2.0**-13.5, 2.0**-12])
def test_features_that_jump_beside_a_row_have_the_digits_of_float64(where, rng):
    x = rng.normal(size=(7, 4))
    examine = next(law for law in MAP_LAWS if law.__name__ == "float64_features_have_the_digits_of_float64")
    for phi, verdict in (
        (lambda y: y - x * (1 + where), "holds"),
        (lambda y: np.sign(y - x * (1 + where)), "holds"),
        (lambda y: np.concatenate([np.sign(y - x * (1 + where)), y.astype(np.float32)], axis=-1), "fails"),
    ):
        case = types.SimpleNamespace(phi=phi, x=x, asarray=np.asarray, rounding=lambda phi, x: 2.0**-45)
        assert examine(case).verdict == verdict


def test_a_variance_without_its_last_term_is_caught():
    assert examine_map(Wrapped(variance=variance, second_moment=None)).passed
    assert caught(examine_map, Wrapped(variance=lambda x, y: variance(x, y, False), second_moment=None)) == {
        "variance equals its closed form"
    }


def test_a_mean_that_lies_is_caught():
    lie = Wrapped(mean=lambda x, y: st.get_kernel("exp").partial_sum(np.sum(x * y, axis=-1), 1))
    assert "inner products are unbiased" in caught(examine_map, lie)


def test_a_broken_twin_of_a_registered_map_is_caught():
    """The factor sqrt 2 of products x_i x_j, i < j, is forgotten."""

    def forget(phi):
        keep = np.r_[np.ones(5), np.where(np.equal(*np.triu_indices(4)), 1, 0.5**0.5)]
        return lambda x: (phi(x) * keep).astype(x.dtype)

    twin = Wrapped(forget)
    twin.law, random = registered("Taylor, degree 2", "exp")
    assert caught(examine_map, twin, random=random) == {"inner products are unbiased"}


def test_a_map_that_differs_between_libraries_is_caught(asarray):
    if asarray is np.asarray:
        pytest.skip("there is nothing to compare NumPy with")

    def change(phi):
        return lambda x: phi(x) if isinstance(x, np.ndarray) else phi(x * (1 + 1e-12))

    assert caught(examine_map, Wrapped(change), asarray=asarray, draws=1 << 14, alpha=0.1) == {
        "every array library gives the same features"
    }


def test_a_seed_that_is_ignored_is_caught():
    class OneSeed(Wrapped):
        def draw(self, dim, rng=None, *, shape=()):
            return self.law.draw(dim, 0, shape=shape)

    class Global(Wrapped):
        streams = np.random.default_rng(9)

        def draw(self, dim, rng=None, *, shape=()):
            return self.law.draw(dim, self.streams, shape=shape)

    law = "the same seed gives the same features"
    assert law in caught(examine_map, OneSeed(), draws=1 << 13)
    assert law in caught(examine_map, Global(), draws=1 << 13)


def test_one_map_repeated_over_leading_axes_is_caught():
    class Repeated(Wrapped):
        def draw(self, dim, rng=None, *, shape=()):
            phi = self.law.draw(dim, rng)
            return lambda x: np.broadcast_to(phi(x), (*shape, *phi(x).shape))

    assert "draws with leading axes are independent maps" in caught(examine_map, Repeated(), draws=1 << 13)


@pytest.mark.parametrize(
    ("part", "law"),
    [
        ("merged", "merged features have the same inner products"),
        ("save", "a saved draw is the same map"),
        ("scaled", "scaled features are the features"),
    ],
)
def test_broken_parts_of_a_draw_are_caught(part, law):
    class Broken:
        def __init__(self, phi):
            self.phi = phi

        def __call__(self, x):
            return self.phi(x)

        def merged(self, x):
            return self.phi.merged(x)[..., 1:] if part == "merged" else self.phi.merged(x)

        def scaled(self, x):
            return self.phi(x) / 2, np.full(x.shape[:-1], math.log(3 if part == "scaled" else 2))

        def save(self, path):
            phi = self.phi
            if part == "save":
                phi = dataclasses.replace(phi, scale=phi.scale.astype(np.float32).astype(np.float64))
            phi.save(path)

    assert caught(examine_map, Wrapped(Broken), draws=1 << 14, alpha=1e-2) == {law}


# --- broken attentions ---------------------------------------------------------------------------------------------


def whole(q, k, v, *, causal=False, key_mask=None, key_log_weights=None):
    """Attention in five lines, right but for what a twin changes."""
    return twin(q, k, v, causal=causal, key_mask=key_mask, key_log_weights=key_log_weights)


def twin(
    q, k, v, *, causal=False, key_mask=None, key_log_weights=None, clamp=None, epsilon=0.0, late=0, wrong_axis=False,
    top=None, power=1,
):  # fmt: skip
    if key_mask is not None:
        k, v = (np.where(key_mask[..., None], x, 0.0) for x in (k, v))
    scores = q @ np.swapaxes(k, -1, -2)
    w = np.exp(scores - (0 if top is None else top(scores)))
    if key_mask is not None:
        w = w * key_mask
    if key_log_weights is not None:
        w = w * np.exp(power * key_log_weights)
    if causal and not wrong_axis:
        w = np.tril(w, k=late)
    total = w.sum(axis=-1, keepdims=True) + epsilon
    if clamp is not None:
        total = np.maximum(total, clamp)
    out = w @ v
    if causal and wrong_axis:
        out = np.cumsum(out, axis=-1)
    return np.where(total == 0, 0.0, out / np.where(total == 0, 1.0, total)).astype(v.dtype)


def broken(**changes):
    return lambda q, k, v, **options: twin(q, k, v, **options, **changes)


def half(q, k, v, **options):
    """A kernel whose sums are small: a clamp at 1 shows."""
    return twin(q, k, v, top=lambda scores: 4.0, **options)


def test_the_unbroken_twins_pass():
    options = {"options": OPTIONS, "dense": st.get_kernel("exp").gram}
    assert examine_attention(whole, **options).passed
    assert examine_attention(half, **options).passed


BROKEN_ATTENTIONS = {
    "clamp at 1": (broken(clamp=1.0, top=lambda scores: 4.0), "values of one give one"),
    "additive epsilon": (broken(epsilon=1e-4), "values of one give one"),
    "zeros": (lambda q, k, v, **options: 0 * whole(q, k, v, **options), "values of one give one"),
    "causal, one key too late": (broken(late=1), "causal rows attend to their prefix"),
    "causal, one key too early": (broken(late=-1), "causal rows attend to their prefix"),
    "the future leaks": (broken(late=1), "later keys change nothing"),
    "cumulative sum over the wrong axis": (broken(wrong_axis=True), "causal rows attend to their prefix"),
    "epsilon after a maximum over the batch": (
        broken(epsilon=1e-9, top=lambda scores: scores.max()),
        "an item alone equals itself in a batch",
    ),
    "epsilon after a maximum over all keys": (
        broken(epsilon=1e-9, top=lambda scores: scores.max(axis=-1, keepdims=True)),
        "later keys change nothing",
    ),
    "log-weights taken for weights of twice the log": (broken(power=2), "a log weight of log 2 doubles a key"),
    "mean of the values": (
        lambda q, k, v, **options: whole(0 * q, 0 * k, v, **options),
        "output depends on queries and keys",
    ),
    "values squared": (lambda q, k, v, **options: whole(q, k, v * v, **options), "output is linear in the values"),
    "position of the key": (
        lambda q, k, v, **options: whole(q, k * (1 + np.arange(k.shape[-2]))[:, None], v, **options),
        "permuted keys change nothing",
    ),
    "position of the query": (
        lambda q, k, v, **options: whole(q * (1 + np.arange(q.shape[-2]))[:, None], k, v, **options),
        "permuted queries permute rows",
    ),
    "always float64": (
        lambda q, k, v, **options: whole(q, k, v, **options).astype(np.float64),
        "shape dtype and device are kept",
    ),
    "no leading axes": (
        lambda q, k, v, **options: whole(q, k, v, **options).reshape(-1, q.shape[-2], v.shape[-1])[0],
        "leading axes broadcast",
    ),
}


@pytest.mark.parametrize("name", BROKEN_ATTENTIONS)
def test_broken_attentions_are_caught(name):
    attend, law = BROKEN_ATTENTIONS[name]
    assert law in caught(examine_attention, attend, options=OPTIONS)


def test_separate_draws_for_queries_and_keys_are_caught():
    phi_q, phi_k = (st.RandomMaclaurin("exp", 64).draw(4, rng=seed) for seed in (0, 1))

    def attend(q, k, v):
        return st.attention_sums(phi_q(q), phi_k(k), v).ratio()

    laws = caught(examine_attention, attend, terms=64)
    assert laws == {"weights are symmetric"}


def test_a_map_drawn_at_each_call_is_caught():
    fresh = np.random.default_rng(0)
    law = st.RandomMaclaurin("exp", 64)
    laws = caught(examine_attention, lambda q, k, v: st.feature_attention(q, k, v, law.draw(4, fresh)), terms=64)
    assert "the same arguments give the same result" in laws


def test_masks_that_leak_are_caught():
    def looks(q, k, v, *, key_mask=None):  # 0 times NaN
        w = np.exp(q @ np.swapaxes(k, -1, -2)) * (1.0 if key_mask is None else key_mask)
        return (w @ v / w.sum(axis=-1, keepdims=True)).astype(v.dtype)

    def uniform(q, k, v, *, key_mask=None):  # a large negative number in place of minus infinity
        bias = 0.0 if key_mask is None else np.where(key_mask, 0.0, -1e9)
        k, v = (x if key_mask is None else np.where(key_mask[:, None], x, 0.0) for x in (k, v))
        scores = q @ np.swapaxes(k, -1, -2) + bias
        w = np.exp(scores - scores.max(axis=-1, keepdims=True))
        v = v if key_mask is None else v + ~key_mask[:, None]
        return (w @ v / w.sum(axis=-1, keepdims=True)).astype(v.dtype)

    with np.errstate(invalid="ignore"):
        assert "masked keys are never looked at" in caught(examine_attention, looks, options=("key_mask",))
    assert caught(examine_attention, uniform, options=("key_mask",)) == {"a row without keys is zeros"}


def test_a_seam_between_blocks_is_caught():
    def seam(q, k, v, *, causal=False):
        if k.shape[-2] > 1024:
            k = np.concatenate([k[..., :1024, :], 0 * k[..., 1024:, :]], axis=-2)
        return whole(q, k, v, causal=causal)

    laws = caught(examine_attention, seam, options=("causal",), dense=st.get_kernel("exp").gram)
    assert laws == {"blockwise equals whole"}


# --- the exam as an object -----------------------------------------------------------------------------------------


def test_a_law_that_meets_an_exception_fails_with_its_words():
    def refuses(q, k, v):
        raise RuntimeError("no such thing")

    with pytest.raises(ExamFailed, match=r"raised RuntimeError: no such thing") as raised:
        examine_attention(refuses)
    assert len(raised.value.exam.failures) > 5


def test_a_failure_names_law_number_and_bound():
    with pytest.raises(AssertionError, match=r"values of one give one .* found 1\.\d+e-05, the law asks for <= \d"):
        examine_attention(broken(epsilon=1e-4))


def test_undecided_is_not_passed():
    # A map of enormous kurtosis: one draw in 500 carries all the variance.
    class Rare(GaussianLinear):
        n_features = 1

        def draw(self, dim, rng, shape=()):
            hit = np.random.default_rng(rng).random((*shape, 1, 1)) < 1 / 500
            return lambda x: (np.sqrt(500) * hit * np.sum(x, axis=-1, keepdims=True)).astype(x.dtype)

        def mean(self, x, y):
            return np.sum(x, axis=-1) * np.sum(y, axis=-1)

        def variance(self, x, y):
            return 499 * self.mean(x, y) ** 2

    with pytest.raises(ExamFailed) as raised:
        examine_map(Rare(), draws=1 << 13)
    assert raised.value.exam.finding("variance equals its closed form").verdict == "undecided"


def test_an_exam_is_a_table_and_a_page():
    exam = Exam("f", (Finding("holds", 0.0, 1.0, law="a law", statement="$x < y$", note="n"),), 1e-6)
    assert "a law" in str(exam)
    assert "0 <= 1" in str(exam)
    assert "error rate 1e-06" in exam.summary()
    assert "<math" in exam._repr_html_()
    with pytest.raises(KeyError, match="expected one of a law"):
        exam.finding("another")


def test_arguments_are_checked():
    law = st.RandomMaclaurin("exp", 8)
    with pytest.raises(ValueError, match="options: expected some of causal"):
        examine_attention(whole, options=("mask",))
    with pytest.raises(ValueError, match="draws: expected at least 256"):
        examine_map(law, draws=10)
    with pytest.raises(ValueError, match="dim: expected an int >= 1"):
        examine_map(law, dim=0)


@pytest.mark.parametrize("laws", [KERNEL_LAWS, MAP_LAWS, ATTENTION_LAWS])
def test_every_law_has_a_name_and_a_sentence(laws):
    names = [law.__name__ for law in laws]
    assert len(set(names)) == len(names)
    for law in laws:
        assert law.__doc__
        assert law.__doc__.partition("\n\n")[0].endswith(".")


def test_exams_are_repeatable(asarray):
    law = st.RandomMaclaurin("inv", 8, "h01")
    first, second = (str(examine_map(law, dim=3, asarray=asarray, draws=4096, alpha=0.1)) for _ in range(2))
    assert first == second
    assert isinstance(to_host(asarray(np.ones(2))), np.ndarray)
