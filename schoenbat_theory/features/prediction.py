r"""The error of attention through a map before it is drawn: squared bias and variance of every output row.

    R = N / S,   N = sum_j w_j <phi(q), phi(k_j)> v_j,   S = sum_j w_j <phi(q), phi(k_j)>
    o' = E N / E S,    R - o  =  (o' - o) + sum_j w_j (estimate_j - its mean) (v_j - o') / E S + second order

    squared bias  |o' - o|^2,    variance  sum_jl w_j w_l <v_j - o', v_l - o'> Cov_jl / (E S)^2

with o the exact row and Cov_jl the covariance of the estimates of f(<q, k_j>) and f(<q, k_l>). The bias of a map without
randomness is exact; what is left out of the ratio of a random one is of the order of the variance (P10, P40). Derived
here, by the delta method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    asarray_like,
    broadcast_shapes,
    check_finite,
    check_floating,
    namespace,
    to_host,
)
from schoenbat_theory.features.inputs import check_some
from schoenbat_theory.features.sample import evenly_spaced, spread_keys
from schoenbat_theory.features.weights import normalised, open_keys
from schoenbat_theory.kernels import DotProductKernel

__all__ = [
    "Prediction",
    "Sample",
    "kernel_weights",
    "open_values",
    "predict_error",
    "row_variances",
    "take_sample",
]

COLUMNS = 32  # of values where none are given


@dataclass(frozen=True, eq=False)
class Prediction:
    """The relative error that a fit expects on its sample, root mean square over rows, of every head: arrays (*lead).

    ``bias``        from what the map leaves out;  ``deviation``  of one draw, to first order
    ``error``       of both: of the output where the fit was given values, else of the rows of attention weights, which is
                    the output's for independent values of one variance
    ``chosen``      which candidate it is, for people
    ``candidates``  name -> error (*lead) of each candidate with its best clipping; ``inf`` where no clipping gave every
                    query a denominator to be trusted, NaN where the candidate does not exist

    ``error`` is the smallest of ``candidates``, among them every truncation of the series that fits the width.
    """

    bias: np.ndarray
    deviation: np.ndarray
    chosen: np.ndarray
    candidates: Mapping[str, np.ndarray] = field(repr=False)

    @property
    def error(self) -> np.ndarray:
        """sqrt(bias^2 + deviation^2)."""
        return np.hypot(self.bias, self.deviation)


@dataclass(frozen=True, eq=False)
class Sample:
    """What a fit looks at of one head: queries ``x`` (s, d), keys ``y`` (s', d), ``weights`` (s',) of sum 1, ``values`` (s', e).

    ``output`` (s, e) is exact attention over the sampled keys.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    output: np.ndarray


def take_sample(
    kernel: DotProductKernel, q: np.ndarray, k: np.ndarray, weights: np.ndarray, values: np.ndarray | None, size: int
) -> Sample:
    """Return at most ``size`` queries, evenly spaced, and as many keys as `spread_keys` says; nothing is random.

    Without ``values`` they are columns of signs, always the same: the mean square of an error of the output is then that of
    the row of attention weights, with a relative deviation of (2 / columns)^(1/2) of one row.
    """
    keys, own = spread_keys(weights, size)
    x, y = q[evenly_spaced(size, len(q))], k[keys]
    signs = 1.0 - 2.0 * np.random.default_rng(0).integers(2, size=(len(keys), COLUMNS))
    v = signs if values is None else values[keys]
    return Sample(x, y, own, v, kernel_weights(kernel, x, y, own) @ v)


def kernel_weights(kernel: DotProductKernel, q: np.ndarray, k: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the exact attention weights (..., n, m) of ``q`` (..., n, d) and ``k`` (..., m, d), keys weighing ``weights`` (..., m)."""
    t, weights = q @ np.swapaxes(k, -1, -2), weights[..., None, :]
    if kernel.log_slope is not None:
        with np.errstate(divide="ignore"):  # a key that is masked
            return np.asarray(normalised(kernel.log_slope * t + np.log(weights)))
    terms = kernel(kernel.clip(t, q.shape[-1])) * weights
    return np.asarray(terms / _safe(np.sum(terms, axis=-1, keepdims=True)))


def row_variances(
    covariance: np.ndarray, weights: np.ndarray, values: np.ndarray, output: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """Return the variance of output rows to first order, (..., n), by the formula of this module.

    ``covariance`` (..., n, m, m), ``weights`` (..., m), ``values`` (..., m, e), ``output`` o' (..., n, e), ``total`` E S (..., n)
    """
    centre = weights[..., None, :] @ values  # taken off both, as only differences matter
    weighted, output = weights[..., None] * (values - centre), output - centre
    cross = output @ np.swapaxes(weighted, -1, -2)  # w_j <v_j, o'>
    plain = (covariance @ weights[..., None, :, None])[..., 0]  # sum_l w_l Cov_jl
    found = np.sum(covariance * (weighted @ np.swapaxes(weighted, -1, -2))[..., None, :, :], axis=(-2, -1))
    found += np.sum(output**2, axis=-1) * np.sum(plain * weights[..., None, :], axis=-1) - 2 * np.sum(
        cross * plain, axis=-1
    )
    return np.maximum(found / _safe(total) ** 2, 0.0)


def predict_error(
    law: Any, q: Array, k: Array, v: Array, key_log_weights: Array | None = None, *, key_mask: Array | None = None
) -> tuple[Array, Array]:
    """Return squared bias and variance of each row of attention through a draw of ``law``, (..., n) each, to first order.

    ``law``              a law of dot-product features with ``mean`` and ``row_covariance``; one that clips its queries has
                         ``clipped``
    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e), ``key_log_weights``, ``key_mask``  as in `feature_attention`

    In units of the squared values. Costs n m^2 d: for n m^2 that fits in memory. Raises ``ValueError`` or ``TypeError``
    for wrong input, a law without these closed forms among it. Not in the sources seen; P40.

    >>> from schoenbat_theory import RandomMaclaurin
    >>> x = np.random.default_rng(0).normal(size=(5, 2)) / 2
    >>> bias, variance = predict_error(RandomMaclaurin("exp", 64), x, x, x)
    >>> bool(bias.max() < 1e-12), variance.shape
    (True, (5,))
    """
    if not hasattr(law, "row_covariance"):
        raise TypeError(f"law: expected one with mean and row_covariance, found {law!r:.60}")
    check_some(q, k)
    k, log_weights = open_keys(q, k, key_mask, key_log_weights)
    weights = to_host(normalised(log_weights)).astype(np.float64)
    values = open_values("v", v, k, weights)
    used, pairs = getattr(law, "clipped", lambda x: x)(q), (*log_weights.shape[:-1], q.shape[-2], k.shape[-2])
    xp = namespace(q)
    x, y = (xp.broadcast_to(one, (*pairs, one.shape[-1])) for one in (used[..., :, None, :], k[..., None, :, :]))
    flat = (*pairs[:-2], pairs[-2] * pairs[-1], x.shape[-1])
    mean = to_host(law.mean(xp.reshape(x, flat), xp.reshape(y, flat))).astype(np.float64).reshape(pairs)
    mean = mean * weights[..., None, :]
    total = np.sum(mean, axis=-1)
    output = (mean @ values) / _safe(total)[..., None]
    covariance = to_host(law.row_covariance(used, k[..., None, :, :])).astype(np.float64)
    wide_q, wide_k = (to_host(one).astype(np.float64) for one in (q, k))
    exact = kernel_weights(law.kernel, wide_q, wide_k, weights) @ values
    variance = row_variances(covariance, weights, values, output, total)
    return asarray_like(np.sum((output - exact) ** 2, axis=-1), q), asarray_like(variance, q)


def open_values(name: str, values: Array, k: Array, weights: np.ndarray) -> np.ndarray:
    """Return values (..., m, e) on the host in float64, with the leading axes of ``weights``, zeros where no key is used."""
    check_floating(k=k, **{name: values})
    if values.ndim < 2 or values.shape[-2] != k.shape[-2] or values.shape[-1] == 0:
        raise ValueError(f"{name}: expected (..., {k.shape[-2]}, e), e >= 1, found {tuple(values.shape)}")
    lead = {"weights": weights.shape[:-1], name: tuple(values.shape[:-2])}
    if broadcast_shapes(**lead) != weights.shape[:-1]:
        raise ValueError(f"{name}: expected leading axes within {weights.shape[:-1]}, found {tuple(values.shape)}")
    wide = np.where(weights[..., None] > 0, to_host(values).astype(np.float64), 0.0)
    check_finite(**{name: wide})
    return wide


def _safe(total: np.ndarray) -> np.ndarray:
    """Return ``total`` with 1 for 0: a row that sees no key."""
    return np.where(total == 0, 1.0, total)
