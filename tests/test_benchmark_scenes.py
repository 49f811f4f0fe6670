"""The scenes of speed and their competitors: every answer is right, every method has the same problem and the same draws."""

import dataclasses

import numpy as np
import pytest

import schoenbat_theory as st
from schoenbat_theory.benchmark import SCENES, bench, peers
from schoenbat_theory.benchmark.plain import PlainMaclaurin, plain_attention, plain_feature_attention
from schoenbat_theory.benchmark.problem import draw_tokens
from schoenbat_theory.benchmark.scenes.attention import joined_inputs, joined_target
from schoenbat_theory.benchmark.scenes.work import (
    causal_feature_work,
    exact_work,
    feature_work,
    first_order_work,
    map_work,
)

EPS, EPS32 = np.finfo(np.float64).eps, np.finfo(np.float32).eps
SPEED = ["attention", "causal", "long", "maps", "decoding"]
NO_CONSTANT = {"maps": ("random Maclaurin", "positive", "RBFSampler", "PolynomialCountSketch")}  # may be worse than one


def method(scene, name):
    return next(one for one in SCENES[scene].methods if one.name == name)


def tokens(n=40, d=8, heads=3):
    q, k, v = np.random.default_rng(0).normal(size=(3, heads, n, d)) / 2
    return q, k, v


@pytest.fixture(scope="module")
def cells():
    short = [dataclasses.replace(SCENES[name], full={256: 1}, enough=0.0) for name in SPEED]
    return bench(short).cells


@pytest.mark.parametrize("causal", [False, True])
def test_plain_attention_is_exact_attention(causal):
    q, k, v = tokens()
    difference = plain_attention(q, k, v, causal=causal) - st.kernel_attention(q, k, v, "exp", causal=causal)
    # Logits of at most |q| |k|, off by d roundings, sums of n terms, either way; weights sum to 1.
    logits = np.linalg.norm(q, axis=-1).max() * np.linalg.norm(k, axis=-1).max()
    assert np.abs(difference).max() <= 4 * (40 + (8 + 4) * (1 + logits)) * EPS * np.abs(v).max()


@pytest.mark.parametrize("seed", range(5))
def test_the_plain_map_is_the_draw_whose_signs_it_has(seed):
    draw, x = st.RandomMaclaurin("exp", 64).draw(8, rng=seed), tokens()[0]
    found, expected = PlainMaclaurin.of(draw)(x), draw(x)
    assert found.shape == expected.shape
    # A factor of d terms errs by d roundings of |x|_1 at most, and their product and the scale by one for each.
    sizes = np.abs(x).sum(axis=-1, keepdims=True) ** draw.degrees * draw.scale
    assert np.all(np.abs(found - expected) <= 2 * (draw.degrees + 1) * (8 + 2) * EPS * sizes)


def test_attention_through_the_plain_map_is_attention_through_the_draw():
    q, k, v = tokens()
    draw = st.RandomMaclaurin("exp", 64).draw(8, rng=1)
    found, expected = plain_feature_attention(q, k, v, PlainMaclaurin.of(draw)), st.feature_attention(q, k, v, draw)
    # Features err as above, sums by a rounding for each term; the ratio by that over the denominator, twice.
    size = [np.abs(x).sum(axis=-1, keepdims=True) ** draw.degrees * draw.scale for x in (q, k)]
    denominator = np.abs((draw(q) @ np.swapaxes(draw(k), -1, -2)).sum(axis=-1))
    weights = (size[0] @ np.swapaxes(size[1], -1, -2)).sum(axis=-1) / denominator
    roundings = 2 * (2 * (draw.degrees.max() + 1) * (8 + 2) + 40 + 64)
    assert np.all(np.abs(found - expected).max(axis=-1) <= 2 * roundings * EPS * weights * np.abs(v).max())


@pytest.mark.parametrize(
    "draw",
    [
        st.RandomMaclaurin("exp", 64, "released").draw(4, rng=0),
        st.RandomMaclaurin("exp", 64).draw(4, rng=0, shape=(2,)),
        st.PositiveFeatures(8).draw(4, rng=0),
    ],
)
def test_the_plain_map_refuses_what_it_would_get_wrong(draw):
    with pytest.raises(ValueError, match="draw: expected"):
        PlainMaclaurin.of(draw)


def test_heads_are_joined_token_by_token():
    found, nearest = draw_tokens(20, np.random.default_rng(0), 4, 6), []
    for x, name in zip(found, "qkv", strict=True):
        for head, half in ((4, x[:, :32]), (6, x[:, 32:])):
            shipped = getattr(st.shipped_heads()[head], name)
            distances = np.linalg.norm((half[:, None] - shipped) / shipped.std(axis=0), axis=-1)
            nearest.append(distances.argmin(axis=1))
    assert np.ptp(nearest, axis=0).max() == 0  # noise of a tenth of the deviation hides no token


def test_queries_and_keys_are_pre_scaled_and_divided_as_the_released_code_does():
    inputs = joined_inputs(50, np.random.default_rng(0))
    for name in "qk":
        assert (inputs[name].shape, inputs[name].dtype) == ((4, 50, 64), np.float32)
        np.testing.assert_allclose(np.linalg.norm(inputs[name], axis=-1), 64**-0.25, rtol=64 * EPS32)
        np.testing.assert_allclose(inputs[name].sum(axis=-1), 0, atol=64 * EPS32)
    assert inputs["v"].std() > 0.1  # as they are


@pytest.mark.parametrize("causal", [False, True])
def test_the_target_is_rows_of_exact_attention_and_of_means(causal):
    inputs, rows = joined_inputs(50, np.random.default_rng(0)), np.array([0, 7, 49])
    q, k, v = (inputs[name].astype(np.float64) for name in "qkv")
    exact, blind = joined_target(inputs, rows, causal)
    bound = 4 * (50 + 64 + 4) * EPS * np.abs(v).max()  # logits of at most 1/8, sums of 64 and of 50 terms
    assert np.abs(exact - st.kernel_attention(q, k, v, "exp", causal=causal)[:, rows]).max() <= bound
    assert np.abs(blind - st.mean_attention(q, k, v, causal=causal)[:, rows]).max() <= bound


def test_a_map_is_measured_by_the_gram_matrix_of_its_own_kernel_beside_the_best_constant():
    scene, rows = SCENES["maps"], np.arange(0, 90, 9)
    inputs = scene.inputs(90, np.random.default_rng(0))
    x = inputs["x"][rows].astype(np.float64)
    features = np.random.default_rng(1).normal(size=(90, 5))
    assert np.array_equal(scene.seen(features, rows), features[rows] @ features[rows].T)
    distances = np.sum((x[:, None] - x) ** 2, axis=-1)
    kernels = {"exp": np.exp(x @ x.T), "polynomial": (1 + x @ x.T / 2) ** 2, "Gaussian": np.exp(-distances / 2)}
    for name, kernel in kernels.items():
        gram, constant = scene.target.func(inputs, rows, False, name)
        np.testing.assert_allclose(gram, kernel, rtol=4 * (64 + 4) * EPS)
        errors = [np.linalg.norm(gram - factor * constant) for factor in (0.99, 1.0, 1.01)]
        assert min(errors) == errors[1]


def test_every_method_of_the_scenes_of_speed_runs_and_answers_its_problem(cells):
    assert {(c.scene, c.method) for c in cells} == {(name, m.name) for name in SPEED for m in SCENES[name].methods}
    for cell in cells:
        if cell.size is None:  # sums of 64 and of n terms, logits of at most 1/8
            assert cell.error < (cell.n + 2 * 64) * EPS32
        elif not cell.method.startswith(NO_CONSTANT.get(cell.scene, ("FAVOR",))):
            assert 0 < cell.error < cell.baseline


def test_methods_share_draws():
    def made(scene, name):
        inputs = SCENES[scene].inputs(256, np.random.default_rng(0))
        return method(scene, name).make(inputs, np.random.default_rng(3))

    draw = made("attention", "random Maclaurin")
    for name in ("attention", "maps"):
        plain, same = made(name, "random Maclaurin, plain").groups, PlainMaclaurin.of(draw).groups
        assert all(
            one[0] == other[0] and np.array_equal(one[1], other[1]) for one, other in zip(plain, same, strict=True)
        )
    others = [("causal", "random Maclaurin"), ("causal", "random Maclaurin, causal"), ("maps", "random Maclaurin")]
    for scene, name in [*others, ("decoding", "random Maclaurin, state")]:
        assert np.array_equal(made(scene, name).bits, draw.bits)


@pytest.mark.parametrize("degrees", ["geometric", "released", "h01"])
def test_the_work_of_attention_is_what_its_draw_says(degrees):
    n, law = 1024, st.RandomMaclaurin("exp", 256, degrees)
    draw, inputs = law.draw(64, rng=0), joined_inputs(n, np.random.default_rng(0))
    width = draw.merged(np.zeros((1, 64))).shape[-1]
    work, causal = feature_work(inputs, draw), causal_feature_work(inputs, draw)
    projections = int(draw.degrees.sum())
    assert work.multiply_adds == 4 * n * (2 * 64 * projections + 2 * width * 65)
    assert causal.multiply_adds == work.multiply_adds + 4 * n * 128 * (width + 65)  # all pairs of a part
    assert work.bytes == causal.bytes == 4 * 4 * (4 * n * 64)
    assert map_work({"x": inputs["q"][0]}, draw).multiply_adds == n * 64 * projections


def test_the_work_of_exact_attention_is_quadratic_and_that_of_first_order_is_not():
    short, long = (joined_inputs(n, np.random.default_rng(0)) for n in (1024, 2048))
    assert exact_work(short, None).multiply_adds == 4 * 1024**2 * (64 + 64)
    assert exact_work(long, None).multiply_adds == 4 * exact_work(short, None).multiply_adds
    assert first_order_work(short, None).multiply_adds == 4 * 1024 * 64 * (65 + 64)
    assert first_order_work(long, None).multiply_adds == 2 * first_order_work(short, None).multiply_adds


def test_without_peers_their_methods_are_absent(monkeypatch):
    monkeypatch.setattr(peers, "_installed", lambda module: False)
    assert peers.torch_attentions(1.0, pre_scaled=False) == []
    assert peers.torch_decoding() == []
    assert peers.performer_attentions(8) == []
    assert peers.sklearn_map("RBFSampler", 8) is None
    assert peers.load_peers(peers.SKLEARN) is False


def test_torch_is_given_the_same_problem():
    pytest.importorskip("torch", reason="torch is not installed")
    for scene, causal in (("attention", False), ("causal", True)):
        inputs = SCENES[scene].inputs(200, np.random.default_rng(0))
        ours = plain_attention(*(inputs[name] for name in "qkv"), causal=causal)
        theirs = [one for one in SCENES[scene].methods if one.name.startswith("exact attention (torch")]
        assert theirs
        for one in theirs:  # sums of 64 and of n terms, logits of at most 1/8
            assert np.linalg.norm(one.run(inputs, None) - ours) <= (200 + 2 * 64) * EPS32 * np.linalg.norm(ours)


def test_performer_pytorch_is_given_the_same_problem():
    pytest.importorskip("torch", reason="torch is not installed")
    if not peers.load_peers(peers.PERFORMER):
        pytest.skip("performer-pytorch is not installed")
    inputs = SCENES["attention"].inputs(200, np.random.default_rng(0))
    exact = plain_attention(*(inputs[name] for name in "qkv"))
    errors = []
    for width in (256, 4096):  # of 16 times the width a quarter of the error
        one = peers.performer_attentions(width)[0]
        errors.append(np.linalg.norm(one.run(inputs, one.make(inputs, np.random.default_rng(0))) - exact))
    assert errors[1] < errors[0] / 2
