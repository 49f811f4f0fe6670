"""What methods are compared on: the exact attentions of a head, with queries and keys scaled in several ways."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.activations import Head, as_heads, shipped_heads
from schoenbat_theory.arrays import as_reals
from schoenbat_theory.attention import costs, gaussian_attention, kernel_attention, softmax_attention
from schoenbat_theory.attention.inputs import blocks
from schoenbat_theory.compare.results import Target
from schoenbat_theory.kernels import get_kernel
from schoenbat_theory.sampling import stream
from schoenbat_theory.scaling import pre_scale_named

__all__ = ["Problem", "addresses", "given_heads", "isotropic", "problem", "relative_error", "stacked"]

ISOTROPIC = (2048, 32)  # tokens, entries of each
ROWS = 512  # queries whose inner products are looked at together
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """A target, with the queries and keys as they are used, and the exact attention; ``None`` where it does not exist.

    ``q`` (n, d), ``k`` (m, d), ``v`` (m, e), ``exact`` (n, e), float64 on the host; ``head`` with its unscaled q and k
    """

    target: Target
    head: Head
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    exact: np.ndarray | None

    def attend(self) -> np.ndarray:
        """Return the exact attention, computed again."""
        return _attention(self.target.setting, self.target.kernel)(self.q, self.k, self.v)

    def error(self, found: np.ndarray) -> float:
        """Return the relative Frobenius error of an answer."""
        assert self.exact is not None
        return relative_error(found, self.exact)


def given_heads(q: Any, k: Any, v: Any) -> tuple[Head, ...]:
    """Return heads of arrays (heads, n, d), (heads, m, d), (heads, m, e), checked; the shipped ones where none is given.

    Raises ``TypeError`` or ``ValueError`` that names the array and what was expected, also for a token without a direction.
    """
    given = {"q": q, "k": k, "v": v}
    missing = [name for name, x in given.items() if x is None]
    if len(missing) == len(given):
        return shipped_heads()  # all of whose tokens have directions
    if missing:
        raise TypeError(f"{missing[0]}: expected q, k and v, or none of them, found None")
    arrays = {name: as_reals(name, x) for name, x in given.items()}
    names = [f"head {i}" for i in range(len(arrays["q"]) if arrays["q"].ndim else 0)]
    heads = tuple(as_heads(arrays, "q, k, v", names))
    for head in heads:
        _pre_scaled(head)  # says at once which token has no direction
    return heads


def isotropic(seed: int) -> Head:
    """Return a head of `ISOTROPIC` queries and keys drawn uniformly from the unit sphere, and of normal values."""
    q, k, v = stream(seed, "compare", "isotropic").normal(size=(3, *ISOTROPIC))
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    return Head("random unit vectors", q, k, v)


def stacked(heads: Sequence[Head]) -> tuple[np.ndarray, ...]:
    """Return q, k, v of heads of one shape, as `given_heads` takes them."""
    return tuple(np.stack([getattr(head, name) for head in heads]) for name in "qkv")


def addresses(kernels: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return setting and kernel of every target of a head as an encoder has it."""
    return [(setting, name) for setting in HEADS for name in (kernels if setting != "gaussian" else ["gaussian"])]


def problem(setting: str, kernel: str, head: Head) -> Problem:
    """Return what methods are to approximate. Raises ``ValueError`` for a token that pre-scaling cannot scale."""
    q, k = _SCALED[setting](head)
    (n, d), (m, e) = q.shape, head.v.shape
    exact, undefined = None, ""
    try:
        exact = _attention(setting, kernel)(q, k, head.v)
    except (ValueError, ArithmeticError) as error:
        undefined = str(error)
    distance = None
    if exact is not None and setting in ("unit", "released"):
        distance = relative_error(exact, softmax_attention(head.q, head.k, head.v))
    largest = max(float(np.abs(q[r.start : r.stop] @ k.T).max()) for r in blocks(n, ROWS))
    if undefined:
        radius = math.inf if setting == "gaussian" else get_kernel(kernel).radius
        beyond = f"the radius of {kernel} is {radius:g}" if largest > radius else undefined
        undefined = f"the largest |<q, k>| is {largest:.3g}; {beyond}"
    target = Target(setting, kernel, head.name, n, m, d, e, largest, undefined, distance, costs.exact(m, d, e))
    return Problem(target, head, q, k, head.v, exact)


def relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the relative Frobenius error, infinite where it overflows."""
    with np.errstate(all="ignore"):
        error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    return error if error == error else np.inf


def _attention(setting: str, kernel: str) -> Callable[..., np.ndarray]:
    return gaussian_attention if setting == "gaussian" else functools.partial(kernel_attention, kernel=kernel)


def _raw(head: Head) -> Pair:
    return _shrunk(head.q, head.k)


def _pre_scaled(head: Head) -> Pair:
    q, k = (pre_scale_named(f"{name} of {head.name}", x) for name, x in (("q", head.q), ("k", head.k)))
    return q, k


def _released(head: Head) -> Pair:
    return _shrunk(*_pre_scaled(head))


def _shrunk(q: np.ndarray, k: np.ndarray) -> Pair:
    """Return both times d^(-1/4), so that inner products are divided by the root of d."""
    factor = q.shape[-1] ** -0.25
    return q * factor, k * factor


def _as_drawn(head: Head) -> Pair:
    return head.q, head.k


HEADS = ("raw", "unit", "released", "gaussian")  # settings that are made of the heads given
_SCALED: dict[str, Callable[[Head], Pair]] = dict(zip(HEADS, (_raw, _pre_scaled, _released, _raw), strict=True))
_SCALED["isotropic"] = _as_drawn
