"""Any finite input, however odd, gives a finite result of the right kind or an error that names an argument.

Never a silent NaN, never a warning (they are errors here), never another exception.
"""

from __future__ import annotations

import math

import hypothesis.strategies as some
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from schoenbat_theory import (
    KERNELS,
    RandomMaclaurin,
    feature_attention,
    get_kernel,
    kernel_attention,
    polynomial,
    post_scale,
    pre_scale,
    to_host,
)

SIZES = [
    0.0,
    5e-324,
    1e-310,
    1e-300,
    1e-45,
    1e-20,
    0.1,
    0.5,
    1.0,
    1 + 2**-52,
    3.0,
    30.0,
    1e19,
    1e38,
    1e160,
    1e300,
    1.7e308,
]
KERNEL = some.sampled_from([*KERNELS.values(), polynomial(3, 1.0), get_kernel("inv").scaled(0.5)])
LENGTH = some.integers(0, 4)
NAMED = (ValueError, TypeError, ArithmeticError)


@some.composite
def entries(draw, dtype):
    """Numbers of every size and sign that the dtype holds."""
    largest = float(np.finfo(dtype).max)
    size = draw(some.sampled_from([size for size in SIZES if size <= largest]) | some.floats(0, 1))
    return float(np.dtype(dtype).type(size * draw(some.sampled_from([-1, 1]))))


DTYPE = some.sampled_from(["float32", "float64"])


def array(shape, dtype):
    return arrays(dtype, shape, elements=entries(dtype), fill=some.nothing())


def holds(call, names, shape, like):
    """Run ``call``: a finite array of that shape and of the kind of ``like``, or an error with one of the names."""
    try:
        out = call()
    except NAMED as error:
        said = str(error)
        assert any(said.startswith((f"{name}:", f"{name},")) or f", {name}:" in said for name in names), said
        return None
    assert type(out) is type(like)
    assert out.dtype == like.dtype
    assert tuple(out.shape) == tuple(shape)
    assert np.isfinite(to_host(out)).all()
    return to_host(out)


def tokens(data, dtype, *lengths):
    d = data.draw(some.integers(1, 4))
    return [data.draw(array((n, d), dtype)) for n in lengths]


@given(data=some.data(), dtype=DTYPE, kernel=KERNEL)
def test_kernel(asarray, data, dtype, kernel):
    t = data.draw(array(data.draw(some.sampled_from([(), (0,), (3,), (2, 2)])), dtype))
    there = asarray(t)
    holds(lambda: kernel(there), ["t"], t.shape, there)
    holds(lambda: kernel.tail(there, 3), ["t"], t.shape, there)


@given(data=some.data(), dtype=DTYPE, kernel=KERNEL)
def test_gram(asarray, data, dtype, kernel):
    n, m = data.draw(LENGTH), data.draw(LENGTH)
    x, y = map(asarray, tokens(data, dtype, n, m))
    holds(lambda: kernel.gram(x, y), ["x", "y", "t"], (n, m), x)


@given(data=some.data(), dtype=DTYPE, kernel=KERNEL, degrees=some.sampled_from(["geometric", "released", "h01"]))
def test_phi(asarray, data, dtype, kernel, degrees):
    n = data.draw(LENGTH)
    (x,) = map(asarray, tokens(data, dtype, n))
    phi = RandomMaclaurin(kernel, 8, degrees).draw(x.shape[-1], data.draw(some.integers(0, 9)))
    holds(lambda: phi(x), ["x"], (n, 8), x)


@given(
    data=some.data(), dtype=DTYPE, degrees=some.sampled_from(["geometric", "released", "h01", (2, 3, 3)]), kernel=KERNEL
)
def test_closed_forms_of_a_law(asarray, data, dtype, degrees, kernel):
    x, y = (asarray(w[0]) for w in tokens(data, dtype, 1, 1))
    law = RandomMaclaurin(kernel, 8, degrees)
    try:
        mean, variance = float(law.mean(x, y)), float(law.variance(x, y))
    except NAMED:
        return
    assert not math.isnan(mean)
    assert variance >= 0  # infinite is an answer, NaN is none


@given(data=some.data(), dtype=DTYPE)
def test_pre_scale(asarray, data, dtype):
    n = data.draw(LENGTH)
    (x,) = map(asarray, tokens(data, dtype, n))
    out = holds(lambda: pre_scale(x), ["x"], x.shape, x)
    if out is not None:
        # Lengths err by far less than this; what matters is that none is 0, 2 or NaN.
        assert np.all(np.abs(np.linalg.norm(out.astype(float), axis=-1) - 1) <= 0.5)


@given(data=some.data(), dtype=DTYPE, signed=some.booleans())
def test_post_scale(asarray, data, dtype, signed):
    (a,) = map(asarray, tokens(data, dtype, data.draw(LENGTH)))
    gamma, beta = (data.draw(some.sampled_from([-1e300, -2.0, -0.5, 0.0, 0.5, 1.0, 3.0, 1e300])) for _ in range(2))
    holds(lambda: post_scale(a, gamma, beta, signed=signed), ["a"], a.shape, a)


@given(data=some.data(), dtype=DTYPE, kernel=KERNEL, causal=some.booleans(), extra=some.booleans())
def test_kernel_attention(asarray, data, dtype, kernel, causal, extra):
    n, m = data.draw(LENGTH), data.draw(LENGTH)
    q, k = map(asarray, tokens(data, dtype, n, m))
    v = asarray(data.draw(array((m, 2), dtype)))
    more = options(data, asarray, n, m, dtype) if extra else {}
    if extra and data.draw(some.booleans()):
        more["log_bias"] = asarray(data.draw(array((max(n + m - 1, 0),), dtype)))
    names = ["q", "k", "v", "t", "the attention weights"]
    call = lambda: kernel_attention(q, k, v, kernel, causal=causal, **more)
    holds(lambda: named(call), names, (n, 2), q)


@given(data=some.data(), dtype=DTYPE, kernel=KERNEL, causal=some.booleans(), extra=some.booleans())
def test_feature_attention(asarray, data, dtype, kernel, causal, extra):
    n, m = data.draw(LENGTH), data.draw(LENGTH)
    q, k = map(asarray, tokens(data, dtype, n, m))
    v = asarray(data.draw(array((m, 2), dtype)))
    more = options(data, asarray, n, m, dtype) if extra else {}
    phi = RandomMaclaurin(kernel, 8, "released").draw(q.shape[-1], data.draw(some.integers(0, 9)))
    call = lambda: feature_attention(q, k, v, phi, causal=causal, **more)
    holds(lambda: named(call), ["q", "k", "v", "x", "the attention weights"], (n, 2), q)


def options(data, asarray, n, m, dtype):
    mask = data.draw(arrays(bool, (m,)))
    return {"key_mask": asarray(mask), "key_log_weights": asarray(data.draw(array((m,), dtype)))}


def named(call):
    """Give the two arithmetic errors of a division, which count rows instead of naming an argument, a name."""
    try:
        return call()
    except ArithmeticError as error:
        if str(error).startswith(("the attention weights of ", "a denominator is so close to 0")):
            raise ArithmeticError("the attention weights: " + str(error)) from error
        raise


@pytest.mark.parametrize("kernel", ["exp", "inv"])
@given(data=some.data())
def test_attention_is_an_average_of_its_values(kernel, data):
    """Weights are positive here, so that every output lies between the least and the largest value."""
    x = data.draw(arrays(float, (5, 3), elements=some.floats(-0.5, 0.5)))
    v = data.draw(arrays(float, (5, 2), elements=some.floats(-1, 1)))
    out = kernel_attention(x, x, v, kernel)
    slack = 16 * 2.0**-53  # sums of five terms, and a quotient
    assert np.all(out <= v.max(axis=0) + slack)
    assert np.all(out >= v.min(axis=0) - slack)
