r"""P34: "Attention through random features stays in the convex hull of the values." Not with signed features.

    out  =  sum_j w_j v_j / sum_j w_j,      w_j = <phi(q), phi(k_j)>

Attention is a mean of values, and a mean is in their hull. Random Maclaurin features have signs, so that a weight may
be negative: at d = 1, D = 1, q = 1, keys 1 and -1/2, values 1 and 0, a feature of odd degree n has the weights 1 and
-2^-n, up to a factor, and the output is 1/(1 - 2^-n) > 1. That happens with probability sum_{n odd} 2^-(n+1) = 1/3,
and the output is 2 for n = 1. Trigonometric features have weights cos <w, q - k> of any sign; a sketch of the positive
kernel <q, k>^2 has signs too: q = (1, 0), keys (1, 0) and (1, 2) can have the weights 1 and -3.

P34R: if every w_j >= 0 and one is positive, the output is in the hull: of exact kernel attention with f > 0, and of
features with entries >= 0, as positive features have. Up to a common sign of all weights it is so only then, if all
values are allowed: with v = 1 at key j and 0 elsewhere the output is w_j / sum_l w_l.

Hypotheses of P34R: w_j >= 0, not all 0; for kernel attention f > 0 on the range, which a_n >= 0 alone does not give,
see f(t) = t.

Source: derived here. Choromanski et al. (2021, section 2.3, seen) argue for positive features from the sign of the
weights.

Idea of proof: w_j / sum_l w_l are >= 0 and sum to 1. A linear function of the output is the same mean of that
function of the values, and the hull is an intersection of half-spaces: values in one dimension tell everything.

Checked exactly, in integers: the output 2; all weights of {0, 1, 2}^4 with all values of {-1, 0, 2}^4; all weights of
{-1, 0, 1, 2}^3 for the converse. By sampling: how often the example leaves the hull, at D = 1 (1/3 is accepted) to
16. By search: the five kernels, absolute values of random Maclaurin features, and all kinds of positive features, in
ordinary inputs and in such as make whole rows of features underflow. In one draw each: Fourier features, a sketch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import schoenbat_theory as st

UNIT = 2.0**-53
Attention = Callable[[Any, Any, Any], Any]
QUERY, KEYS, VALUES = (np.array([[1.0]]), np.array([[1.0], [-0.5]]), np.array([[1.0], [0.0]]))


def _draw_of_degree_one() -> st.MaclaurinDraw:
    """The first draw of one feature for exp that has degree 1: a_1 / q_1 = 4, so that its scale is 2."""
    draws = (st.RandomMaclaurin("exp", 1).draw(1, rng=seed) for seed in itertools.count())
    return next(phi for phi in draws if isinstance(phi, st.MaclaurinDraw) and phi.degrees[0] == 1)


def _example(output: Any, weights: str, slack: float = 0.0) -> st.Evidence:
    """Whether the last output lies between the values 0 and 1, up to ``slack``."""
    found = float(st.to_host(output)[-1, 0])
    return st.decide(
        -slack <= found <= 1 + slack,
        kind="deterministic" if slack else "exact",
        because=f"weights {weights}",
        measured=found,
        interval=(0.0, 1.0),
        note=f"output {found:.3g}, values 1 and 0",
    )


def one_feature(cell: st.Cell) -> st.Evidence:
    """One feature of degree 1: the output is 2, the values are 0 and 1."""
    q, k, v = map(cell.asarray, (QUERY, KEYS, VALUES))
    return _example(st.feature_attention(q, k, v, _draw_of_degree_one()), "4 and -2, exact in float64")


def one_feature_clamped(cell: st.Cell) -> st.Evidence:
    """Twin: the released form, whose clamp at 1 does not act here, because the weights sum to 2."""
    q, k, v = map(cell.asarray, (np.ones_like(KEYS), KEYS, VALUES))
    return _example(st.released_attention(q, k, v, _draw_of_degree_one()), "4 and -2, exact in float64")


def fourier_features(cell: st.Cell) -> st.Evidence:
    """One frequency w, q = 0, keys 0 and (2 pi / 3) / |w|: weights 1 and -1/2, so that the output is 2."""
    phi, q, keys = (
        st.FourierFeatures(2, "gaussian").draw(1, rng=0),
        np.zeros((1, 1)),
        np.linspace(0, 32, 1 << 12)[:, None],
    )
    weights = st.to_host(phi(cell.asarray(keys))) @ st.to_host(phi(cell.asarray(q)))[0]
    # The key whose weight is nearest to -1/2, so that the other weight, 1, is most of the sum.
    k = keys[[0, int(np.argmin(np.abs(weights + 0.5)))]]
    q, k, v = map(cell.asarray, (q, k, VALUES))
    return _example(st.feature_attention(q, k, v, phi), "1 and about -1/2, in one draw: far from rounding", slack=1e-3)


def sketch_of_even_degree(cell: st.Cell) -> st.Evidence:
    """One Rademacher feature of degree 2, the first draw with weights 1 and -3: output -1/2, kernel weights 1 and 1."""
    q, k = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 2.0]])
    draws = (st.PolynomialSketch(2, 1).draw(2, rng=seed) for seed in itertools.count())
    phi = next(phi for phi in draws if phi(q)[0, 0] * phi(k)[1, 0] == -3)
    q, k, v = map(cell.asarray, (q, k, VALUES))
    return _example(st.feature_attention(q, k, v, phi), "1 and -3, exact in float64")


def _leaves(cell: st.Cell, width: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    """The event that the example leaves [0, 1]; its denominator is positive, since 1 + (-1/2)^n > 0."""
    law, q, keys = st.RandomMaclaurin("exp", width), cell.asarray(QUERY[0]), cell.asarray(KEYS)

    def event(rng: np.random.Generator, size: int) -> np.ndarray:
        weights = st.to_host(law.estimates(q, keys, rng=rng, size=size))
        output = weights[:, 0] / weights.sum(axis=-1)
        return np.abs(output - 0.5) > 0.5 + 2**6 * UNIT  # not for a weight that cancels to a rounding below 0

    return event


def sampled(cell: st.Cell) -> st.Evidence:
    """The probability of leaving the hull against 0, at D = 1, 4 and 16."""
    events = [_leaves(cell, width) for width in (1, 4, 16)]

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        return np.stack([event(rng, size) for event in events], axis=-1)

    return st.check_tail(exceeds, [0.0, 0.0, 0.0], alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws).but(
        note="rates at D = 1, 4 and 16 against 0",
        figure=None,  # a bound of 0 is on no logarithmic axis
    )


def rows_outside(cell: st.Cell) -> list[st.Evidence]:
    """Share of output rows of each head with an entry beyond the values, at D = 256 (exp, mean of four draws)."""
    law, found, shares = st.RandomMaclaurin("exp", 256), [], {"as trained": list[float](), "after pre-scaling": []}
    for head in cell.heads:
        factor, v = head.q.shape[1] ** -0.25, cell.asarray(head.v)
        inputs = {"as trained": (head.q * factor, head.k * factor), "after pre-scaling": st.prepare(head.q, head.k)}
        for name, (q, k) in inputs.items():
            outside = []
            for _ in range(4):
                phi = law.draw(q.shape[1], cell.rng)
                out = st.to_host(st.feature_attention(cell.asarray(q), cell.asarray(k), v, phi))
                beyond = (out < head.v.min(axis=0)) | (out > head.v.max(axis=0))
                outside.append(float(beyond.any(axis=-1).mean()))
            shares[name].append(float(np.mean(outside)))
            found.append(st.observe(name=f"{name}: {head.name}", measured=shares[name][-1], draws=4))
    if found:
        figure = {
            "plot": "bars",
            "title": "share of output rows outside the hull",
            "names": [head.name for head in cell.heads],
            "series": shares,
            "y_label": "share of rows outside the box of the values",
        }
        found[0] = found[0].but(figure=figure)
    return found


def _all(values: tuple[int, ...], length: int) -> np.ndarray:
    return np.array(list(itertools.product(values, repeat=length)), dtype=np.float64)


def _means_stay_inside(cell: st.Cell, weights: np.ndarray) -> st.Evidence:
    """min(v) S <= N <= max(v) S for rows of ``weights`` (., 4) and all v in {-1, 0, 2}^4, N and S the library's sums."""
    values = _all((-1, 0, 2), 4).T  # one column each
    sums = st.attention_sums(cell.asarray(weights), cell.asarray(np.eye(4)), cell.asarray(values))
    numerator, denominator = st.to_host(sums.numerator), st.to_host(sums.denominator)[:, None]
    outside = (numerator < values.min(axis=0) * denominator) | (numerator > values.max(axis=0) * denominator)
    return st.decide(
        not outside.any(),
        because="integers in float64; linear functions reduce the hull to an interval",
        measured=float(outside.sum()),
        predicted=0.0,
        comparisons=outside.size,
        note=f"{outside.sum()} of {outside.size:,} means are outside",
    )


def non_negative_weights(cell: st.Cell) -> st.Evidence:
    """All weights of {0, 1, 2}^4 but 0."""
    return _means_stay_inside(cell, _all((0, 1, 2), 4)[1:])


def one_negative_weight(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: weights (3, -1, w, w')."""
    pairs = _all((0, 1, 2), 2)
    return _means_stay_inside(cell, np.concatenate([np.tile([3.0, -1.0], (len(pairs), 1)), pairs], axis=1))


def negative_weights_never_do(cell: st.Cell) -> st.Evidence:
    """For weights of {-1, 0, 1, 2}^3 with sum S != 0: outputs are inside for all values if and only if every w_j / S >= 0."""
    weights = _all((-1, 0, 1, 2), 3)
    weights = weights[weights.sum(axis=1) != 0]
    sums = st.attention_sums(cell.asarray(weights), cell.asarray(np.eye(3)), cell.asarray(np.eye(3)))
    numerator, denominator = st.to_host(sums.numerator), st.to_host(sums.denominator)
    turned = np.sign(denominator)[:, None] * numerator  # of w_j / S, the sign; S > 0 from here on
    inside = ((turned >= 0) & (turned <= np.abs(denominator)[:, None])).all(axis=1)
    same_sign = (weights * weights.sum(axis=1, keepdims=True) >= 0).all(axis=1)
    wrong = int(np.sum(inside != same_sign))
    return st.decide(
        wrong == 0,
        because="values 1 at one key and 0 elsewhere, integers",
        measured=float(wrong),
        predicted=0.0,
        comparisons=len(weights),
        note=f"{int(same_sign.sum())} of {len(weights)} rows of weights keep every output inside",
    )


def _outputs_stay_inside(cell: st.Cell, attentions: Sequence[Attention], terms: int, norm: float = 0.99) -> st.Evidence:
    """Outputs of 16 sequences of tokens of length ``norm``, values 1 at one key and 0 elsewhere, which show every negative weight."""
    largest, cases, v = 0.0, 0, np.eye(24)
    for attention, dim in itertools.product(attentions, [2, 8] * 8):
        q, k = cell.rng.normal(size=(2, 24, dim))
        q, k = (norm * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
        out = st.to_host(attention(*map(cell.asarray, (q, k, v))))
        largest, cases = float(np.maximum(largest, np.maximum(-out, out - 1).max())), cases + out.size
    # Non-negative weights: either sum errs by the number of its terms times u, relative to the sum of w |v|.
    return st.decide(
        largest <= 4 * (24 + terms + 8) * UNIT,
        kind="deterministic",
        because="search over random sequences; rounding bounded",
        measured=largest,
        predicted=0.0,
        comparisons=cases,
        note=f"largest excess beyond the values: {largest:.2g}",
    )


def _through_kernels(cell: st.Cell, kernels: Iterable[st.DotProductKernel]) -> st.Evidence:
    attentions: list[Attention] = [functools.partial(st.kernel_attention, kernel=kernel) for kernel in kernels]
    return _outputs_stay_inside(cell, attentions, terms=0)


def kernel_attention_stays_inside(cell: st.Cell) -> st.Evidence:
    """Exact attention with the five kernels, which are positive on [-1, 1)."""
    return _through_kernels(cell, st.KERNELS.values())


def odd_kernel(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: f(t) = t has a_n >= 0, and negative weights."""
    return _through_kernels(cell, [st.polynomial(1)])


def _through_features(cell: st.Cell, change: Callable[[Any], Any]) -> st.Evidence:
    """Attention through ``change`` of four random Maclaurin features, one of which is the constant."""

    def attention(q: Any, k: Any, v: Any) -> Any:
        phi = st.RandomMaclaurin("exp", 4, "released").draw(q.shape[-1], cell.rng)
        return st.feature_attention(q, k, v, lambda x: change(phi(x)))

    return _outputs_stay_inside(cell, [attention], terms=4)


def non_negative_features(cell: st.Cell) -> st.Evidence:
    """Features with entries >= 0: absolute values of random Maclaurin features."""
    return _through_features(cell, abs)


def _through_positive_features(cell: st.Cell, norm: float) -> st.Evidence:
    """Attention through eight positive features of each kind."""

    def attention_with(**kind: Any) -> Attention:
        law = st.PositiveFeatures(8, **kind)
        return lambda q, k, v: st.feature_attention(q, k, v, law.draw(q.shape[-1], cell.rng))

    kinds = [
        {"orthogonal": orthogonal, "hyperbolic": hyperbolic, "tilt": tilt}
        for orthogonal, hyperbolic, tilt in itertools.product((True, False), (True, False), (0.0, -0.1))
    ]
    return _outputs_stay_inside(cell, [attention_with(**kind) for kind in kinds], terms=8, norm=norm)


def positive_features(cell: st.Cell) -> st.Evidence:
    """Positive features: orthogonal or not, hyperbolic or not, tilted or not."""
    return _through_positive_features(cell, 0.99)


def positive_features_that_underflow(cell: st.Cell) -> st.Evidence:
    """The same for tokens of length 600, where every tenth row of weights underflows and is computed again in logarithms."""
    return _through_positive_features(cell, 600.0)


def signed_features(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: the random Maclaurin features themselves."""
    return _through_features(cell, lambda features: features)


def no_weight_at_all(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: weights that are all 0 have no mean, and are refused as such."""
    sums = st.attention_sums(*(cell.asarray(x) for x in (np.ones((1, 1)), np.zeros((2, 1)), VALUES)))
    try:
        sums.ratio()
        refused = False
    except ArithmeticError:
        refused = True
    return st.decide(refused, because="0/0 is refused by name")


def rate_of_the_example(cell: st.Cell) -> st.Evidence:
    """At D = 1 the example leaves the hull with probability 1/3, as its degree is odd with 1/4 + 1/16 + ..."""
    event = _leaves(cell, 1)
    return st.check_mean(
        lambda rng, size: event(rng, size) * 1.0,
        1 / 3,
        margin=0.01,
        bounds=(0.0, 1.0),
        alpha=cell.alpha,
        rng=cell.rng,
        max_draws=cell.draws,
    ).but(figure={"label": "share of draws outside the hull"})


P34 = st.Proposition(
    id="P34",
    title="Attention through random features stays in the convex hull of the values",
    statement=r"$\frac{\sum_j \langle\phi(q),\phi(k_j)\rangle v_j}{\sum_j \langle\phi(q),\phi(k_j)\rangle} \in \mathrm{conv}\{v_j\}$ for random "
    r"Maclaurin features, Fourier features and sketches $\phi$.",
    hypotheses=(),
    source="what one expects of attention; not claimed in the sources seen",
    expected="refuted",
    checks=[one_feature, fourier_features, sketch_of_even_degree, sampled, rows_outside],
    mutants=[one_feature_clamped],
    cites=("guo2025schoenbat", "wacker2023complex"),
)

P34R = st.Proposition(
    id="P34R",
    title="It does where no estimated weight is negative",
    statement=r"If $w_j \ge 0$ for all $j$ and $\sum_j w_j > 0$ then $\frac{\sum_j w_j v_j}{\sum_j w_j} \in \mathrm{conv}\{v_j\}$: true of kernel "
    r"attention with $f > 0$ and of features with entries $\ge 0$. For all values it is true only then, up to a common sign.",
    hypotheses=(
        r"every $w_j \ge 0$",
        "not all are 0",
        "for kernel attention: $f > 0$ on the range of the inner products",
    ),
    source="derived here; positive features: Choromanski et al. (2021), section 2.3 (seen)",
    expected="consistent",
    checks=[
        non_negative_weights,
        negative_weights_never_do,
        kernel_attention_stays_inside,
        non_negative_features,
        positive_features,
        positive_features_that_underflow,
        no_weight_at_all,
        rate_of_the_example,
    ],
    mutants=[one_negative_weight, odd_kernel, signed_features],
    cites=("choromanski2021rethinking",),
)
