r"""P15: "PreSBN is a batch normalization." It normalises each token alone, and divides by its length.

    PreSBN(x)  =  c / ||c||,    c = x - mean(x) over the d features of one token

A batch normalisation takes mean and deviation of a feature over the tokens: its output has mean 0 over them, and what
it makes of one depends on the others. Neither is true here. P15R says what PreSBN is: a function of one token, of
length 1, and the same at x and at a x + b with a > 0; so that dividing by the standard deviation of the features
first (a = 1/sd) is immaterial.

Hypotheses of P15R: no token is constant; for those c = 0 and the formula is 0/0.

Source: ppSBN.py of the code released with SchoenbAt (arXiv:2505.12252), read; "batch normalization" is its name there
and the B of ppSBN. The printed definition was not seen.

Idea of proof: a x + b has the centred token a c, and a cancels in c / ||c||.

Checked exactly: an image is given by the rationals sign(c_i) c_i^2 / ||c||^2, equal for x and a x + b; on all tokens
of {0 .. 8}^4 whose largest entry is a power of 2 and whose length is rational, the library returns the image rounded
once; other tokens replaced, outputs compared bit by bit; constant tokens. By search: random integer tokens, rounding
bounded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

UNIT = 2.0**-53
Scaling = Callable[[Any], Any]


def batch_normalisation(x: Any) -> np.ndarray:
    """Every feature over the tokens: less its mean, over its standard deviation."""
    x = st.to_host(x)
    return (x - x.mean(axis=0)) / x.std(axis=0)


def layer_normalisation(x: Any) -> np.ndarray:
    """Every token over its features: less its mean, over its standard deviation."""
    x = st.to_host(x)
    return (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)


def _rows_that_depend_on_others(cell: st.Cell, scaling: Scaling) -> int:
    """How many of eight images change when the other seven tokens are replaced."""
    tokens, others = np.random.default_rng(15).integers(-50, 50, size=(2, 8, 6)) * 1.0
    before, changed = st.to_host(scaling(cell.asarray(tokens))), 0
    for i in range(8):
        replaced = others.copy()
        replaced[i] = tokens[i]
        changed += not np.array_equal(st.to_host(scaling(cell.asarray(replaced)))[i], before[i])
    return changed


def _uses_the_batch(cell: st.Cell, scaling: Scaling) -> st.Evidence:
    changed = _rows_that_depend_on_others(cell, scaling)
    return st.decide(
        changed == 8,
        because="other tokens replaced; images compared bit by bit",
        measured=float(changed),
        predicted=8.0,
        comparisons=8,
        note=f"{changed} of 8 images depend on the other tokens",
    )


def other_tokens_matter(cell: st.Cell) -> st.Evidence:
    """A batch normalisation depends on the batch; here no image does."""
    return _uses_the_batch(cell, st.pre_scale)


def layer_normalisation_is_none_either(cell: st.Cell) -> st.Evidence:
    """Twin: mean and standard deviation, but over the features of one token."""
    return _uses_the_batch(cell, layer_normalisation)


def mean_over_tokens_is_zero(cell: st.Cell) -> st.Evidence:
    """A batch normalisation makes the mean over tokens 0; four tokens (1, 1, -1, -1) become four halves."""
    tokens = np.tile([1.0, 1.0, -1.0, -1.0], (4, 1))
    mean = st.to_host(st.pre_scale(cell.asarray(tokens))).mean(axis=0)
    return st.decide(
        bool((mean == 0).all()),
        because="c = x, ||c|| = 2; halves are exact in float64",
        measured=float(mean[0]),
        predicted=0.0,
        comparisons=4,
    )


def _signed_squares(token: Sequence[int]) -> list[Fraction]:
    """sign(c_i) c_i^2 / ||c||^2: rational, and as good as the image itself."""
    centred = [Fraction(value) - Fraction(sum(token), len(token)) for value in token]
    square = sum(c * c for c in centred)
    return [c * abs(c) / square for c in centred]


def perfect_squares(cell: st.Cell) -> st.Evidence:
    """All tokens of {0 .. 8}^4 whose images are rational and cost one rounding: the library's against the correctly rounded ones."""
    tokens, images = [], []
    for token in itertools.product(range(9), repeat=4):
        centred = [4 * value - sum(token) for value in token]  # 4 c
        square = sum(c * c for c in centred)
        length = math.isqrt(square)
        if max(token) in (1, 2, 4, 8) and length > 0 and length**2 == square:
            tokens.append(token)
            images.append([float(Fraction(c, length)) for c in centred])
    found = st.to_host(st.pre_scale(cell.asarray(np.array(tokens) * 1.0)))
    wrong = int(np.sum((found != np.array(images)).any(axis=-1)))
    return st.decide(
        wrong == 0,
        because="quotients by powers of 2, sums and roots are exact; one division is rounded",
        measured=float(wrong),
        predicted=0.0,
        comparisons=len(tokens),
        note=f"{wrong} of {len(tokens)} tokens differ",
    )


def _images_agree(cell: st.Cell, scaling: Scaling) -> st.Evidence:
    """Random integer tokens x and a x + b: the same rational image, and what ``scaling`` makes of them."""
    worst, largest, cases = 0.0, 0.0, 0
    for dim in (2, 7, 32):
        tokens = cell.rng.integers(-99, 100, size=(8, dim))
        tokens[:, 0] = 100  # so that no token is constant
        exact = [_signed_squares(token) for token in tokens.tolist()]
        for a, b in ((1, 0), (3, 500), (1000, -7)):
            moved = a * tokens + b
            same = [_signed_squares(token) for token in moved.tolist()] == exact
            image = np.array([[math.copysign(math.sqrt(abs(s)), s) for s in squares] for squares in exact])
            difference = np.abs(st.to_host(scaling(cell.asarray(moved * 1.0))) - image)
            # In units of the largest entry: c errs by (d + 5) u, its length by sqrt(d) times that; then d/2 + 4 roundings.
            centred = moved - moved.mean(axis=-1, keepdims=True)
            length = np.linalg.norm(centred, axis=-1, keepdims=True) / np.abs(moved).max(axis=-1, keepdims=True)
            allowed = ((1 + dim**0.5) * (dim + 6) / length + dim / 2 + 6) * UNIT
            worst = float(np.maximum(worst, np.max(difference / allowed) if same else math.inf))
            largest, cases = max(largest, float(difference.max())), cases + moved.size
    return st.decide(
        worst <= 1,
        kind="deterministic",
        because="rational images of random integer tokens; rounding bounded",
        measured=largest,
        predicted=0.0,
        comparisons=cases,
        note=f"largest difference {worst:.2g} of its rounding bound",
    )


def images(cell: st.Cell) -> st.Evidence:
    """The image c / ||c||, at x and at a x + b."""
    return _images_agree(cell, st.pre_scale)


def standard_deviation_only(cell: st.Cell) -> st.Evidence:
    """The image c / sd, as long as sqrt(d)."""
    return _images_agree(cell, layer_normalisation)


def without_centring(cell: st.Cell) -> st.Evidence:
    """The image x / ||x||, which b moves."""
    return _images_agree(cell, lambda x: st.to_host(x) / np.linalg.norm(st.to_host(x), axis=-1, keepdims=True))


def _token_by_token(cell: st.Cell, scaling: Scaling) -> st.Evidence:
    changed = _rows_that_depend_on_others(cell, scaling)
    return st.decide(
        changed == 0,
        because="other tokens replaced; images compared bit by bit",
        measured=float(changed),
        predicted=0.0,
        comparisons=8,
        note=f"{changed} of 8 images depend on the other tokens",
    )


def token_by_token(cell: st.Cell) -> st.Evidence:
    """No image depends on another token."""
    return _token_by_token(cell, st.pre_scale)


def over_the_batch(cell: st.Cell) -> st.Evidence:
    """A true batch normalisation, all of whose images depend on the batch."""
    return _token_by_token(cell, batch_normalisation)


def constant_tokens_have_no_image(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: c = 0; the formula makes NaN of it, the library refuses the token by its place."""
    tokens = np.array([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]])
    centred = tokens - tokens.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        formula = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
    try:
        st.pre_scale(cell.asarray(tokens))
        message = ""
    except ValueError as error:
        message = str(error)
    return st.decide(
        bool(np.isfinite(formula[0]).all() and np.isnan(formula[1]).all() and "token (1,) is constant" in message),
        because="7 - 7 = 0, exactly",
        comparisons=2,
    )


def lengths_forgotten(cell: st.Cell) -> list[st.Evidence]:
    """How much longer the longest centred query or key of a head is than the shortest: what PreSBN takes away."""
    found = []
    for head in cell.heads:
        ratios = []
        for x in (head.q, head.k):
            length = np.linalg.norm(x - x.mean(axis=-1, keepdims=True), axis=-1)
            ratios.append(float(length.max() / length.min()))
        found.append(st.observe(name=head.name, measured=max(ratios), note="longest over shortest token"))
    return found


P15 = st.Proposition(
    id="P15",
    title="PreSBN is a batch normalization",
    statement="The first stage of ppSBN normalises every feature over the tokens of a batch.",
    hypotheses=(),
    source="the name PreSBN in the code released with SchoenbAt (arXiv:2505.12252), read; the printed definition was not seen",
    expected="refuted",
    checks=[other_tokens_matter, mean_over_tokens_is_zero],
    mutants=[layer_normalisation_is_none_either],
    cites=("guo2025schoenbat",),
)

P15R = st.Proposition(
    id="P15R",
    title="PreSBN divides a centred token by its length",
    statement=r"$\mathrm{PreSBN}(x) = \frac{c}{\|c\|}$ with $c = x - \mathrm{mean}(x)$, token by token: of length 1, the same at "
    r"$a x + b$ for every $a > 0$ and $b$, whether or not one divides by the standard deviation first.",
    hypotheses=("no token is constant over its features; for those the formula is $0/0$",),
    source="derived here from the code released with SchoenbAt (arXiv:2505.12252)",
    expected="consistent",
    checks=[perfect_squares, images, token_by_token, constant_tokens_have_no_image, lengths_forgotten],
    mutants=[without_centring, standard_deviation_only, over_the_batch],
    cites=("guo2025schoenbat",),
)
