"""Weights of keys: logarithms, masks, and what they come to once they sum to 1."""

from __future__ import annotations

from schoenbat_theory.arrays import (
    Array,
    broadcast_shapes,
    check_finite,
    check_floating,
    check_mask,
    device_of,
    namespace,
)
from schoenbat_theory.features.inputs import check_pairs

__all__ = ["hide", "key_weights", "normalised", "open_keys", "top_off"]


def key_weights(
    like: Array, m: int, lead: tuple[int, ...], key_mask: Array | None, key_log_weights: Array | None
) -> Array | None:
    """Return log-weights (..., m), -inf where a key is masked, or ``None`` if every key counts alike.

    Their leading axes must broadcast with ``lead``, those of queries, keys and values.
    """
    xp = namespace(like)
    log_weights, shapes = None, {"arrays": lead}
    if key_log_weights is not None:
        check_floating(k=like, key_log_weights=key_log_weights)
        if key_log_weights.ndim < 1 or key_log_weights.shape[-1] != m:
            raise ValueError(f"key_log_weights: expected (..., {m}), found {tuple(key_log_weights.shape)}")
        if bool(xp.any(xp.isnan(key_log_weights) | (key_log_weights == xp.inf))):
            raise ValueError("key_log_weights: expected finite numbers or -inf, found NaN or +inf")
        log_weights = key_log_weights
        shapes["key_log_weights"] = tuple(key_log_weights.shape[:-1])
    if key_mask is not None:
        check_mask("key_mask", key_mask, like, m)
        shapes["key_mask"] = tuple(key_mask.shape[:-1])
    broadcast_shapes(**shapes)
    if key_mask is not None:
        zero = xp.zeros((), dtype=like.dtype, device=device_of(like))
        log_weights = xp.where(key_mask, zero if log_weights is None else log_weights, zero - xp.inf)
    return log_weights


def hide(x: Array, log_weights: Array | None) -> Array:
    """Return rows of ``x`` (..., m, d) with those of weight zero replaced by zeros, whatever they held."""
    if log_weights is None:
        return x
    xp = namespace(x)
    return xp.where((log_weights > -xp.inf)[..., None], x, xp.zeros_like(x))


def open_keys(q: Array, k: Array, key_mask: Array | None, key_log_weights: Array | None) -> tuple[Array, Array]:
    """Return keys (..., m, d), zeros where masked, and log-weights (..., m) with the leading axes of all, or raise."""
    lead, xp = check_pairs(q, k), namespace(q)
    weights = key_weights(k, k.shape[-2], lead, key_mask, key_log_weights)
    k = hide(k, weights)
    check_finite(q=q, k=k)
    zeros = xp.zeros((*lead, k.shape[-2]), dtype=q.dtype, device=device_of(q))
    return k, zeros if weights is None else zeros + weights


def top_off(log_weights: Array) -> Array:
    """Return log-weights (..., m) less the largest of each row, so that it is 0; rows of -inf stay as they are.

    >>> import numpy as np
    >>> top_off(np.array([1e308, 1e308, -np.inf])).tolist()
    [0.0, 0.0, -inf]
    """
    xp = namespace(log_weights)
    if log_weights.shape[-1] == 0:
        return log_weights
    top = xp.max(log_weights, axis=-1, keepdims=True)
    return log_weights - xp.where(top > -xp.inf, top, xp.zeros_like(top))


def normalised(log_weights: Array) -> Array:
    """Return exp(log_weights) / their sum, (..., m); zeros in a row of -inf.

    >>> import numpy as np
    >>> normalised(np.array([1e308, 1e308, -np.inf])).tolist()
    [0.5, 0.5, 0.0]
    """
    xp = namespace(log_weights)
    weights = xp.exp(top_off(log_weights))
    total = xp.sum(weights, axis=-1, keepdims=True)
    return weights / xp.where(total > 0, total, xp.ones_like(total))
