"""The laws of an attention, and its exam; what ``attend`` supports is said by a tuple of options."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, as_generator, to_host
from schoenbat_theory.testing.exam import Exam, Finding, agree, holds, not_examined, positive, sit, unit, worst
from schoenbat_theory.testing.kernels import same_kind

__all__ = ["ATTENTION_LAWS", "OPTIONS", "examine_attention"]

OPTIONS = ("causal", "key_mask", "key_log_weights")
LARGE = (530, 1040)  # n, m: more than the blocks of 256 and 512 rows and of 1024 keys that this package uses
ROUNDINGS = 16.0  # of one weight beside its sum: an elementary function, a rescaling or two, a division


@dataclass(frozen=True)
class _Case:
    attend: Callable[..., Array]
    asarray: Callable[[np.ndarray], Array]
    options: tuple[str, ...]
    fixed: bool
    normalised: bool
    symmetric: bool
    dense: Callable[[Array, Array], Array] | None
    magnitude: Callable[[Array, Array], Array] | None
    terms: int
    q: np.ndarray  # (n, d)
    k: np.ndarray  # (m, d)
    v: np.ndarray  # (m, e)
    rng: np.random.Generator

    def __call__(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, **options: Any) -> np.ndarray:
        """Return attend(q, k, v) on the host as float64, for host arguments."""
        moved = {name: self.asarray(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
        out = self.attend(self.asarray(q), self.asarray(k), self.asarray(v), **moved)
        return np.asarray(to_host(out), dtype=np.float64)

    def without(self, option: str) -> Finding | None:
        """Return the finding that says that ``option`` is not supported, or ``None``."""
        return None if option in self.options else not_examined(f"no option {option}")

    def rounding(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, **options: Any) -> np.ndarray:
        """Return (..., n, e): by how much two ways of computing an entry may differ.

        A row is sum w_j v_j / sum w_j with w_j a sum of ``terms`` terms. To first order each sum errs by its length
        times u times the sum of absolute values M_j >= |w_j| of its terms, hence the row by

            (m + terms + ROUNDINGS) u sum_j (M_j / |sum w|) (|v_j| + |out|),     twice that for two computations.

        M_j is ``magnitude``, else |w_j|, from ``dense`` or, without it, by attending to unit vectors as values.
        """
        m = k.shape[-2]
        length = 2 * (m + self.terms + ROUNDINGS)
        if self.dense is not None:
            size, weights = (
                self._host(f(self.asarray(q), self.asarray(k))) for f in (self.magnitude or self.dense, self.dense)
            )
            size = np.abs(size)
            seen = _seen(q.shape[-2], m, **options)
            total = np.abs(np.sum(weights * seen, axis=-1, keepdims=True))
            size = size * seen / (np.where(total > 0, total, 1.0) if self.normalised else 1.0)
        else:
            lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
            size = np.abs(self(q, k, np.broadcast_to(np.eye(m), (*lead, m, m)).astype(v.dtype), **options))
        out = np.max(np.abs(v), axis=-2, keepdims=True) if self.normalised else 0.0
        sizes = np.sum(size, axis=-1, keepdims=True)
        out = out * sizes  # |out| <= sum_j |w_j / sum w| max |v|
        return np.asarray(length * unit(v.dtype) * (size @ np.abs(v) + sizes * out) + np.finfo(v.dtype).tiny)

    @staticmethod
    def _host(x: Array) -> np.ndarray:
        return np.asarray(to_host(x), dtype=np.float64)


def shape_dtype_and_device_are_kept(case: _Case) -> Finding:
    """(n, d), (m, d), (m, e) give (n, e) with n != m, in the library, dtype and device of the arguments."""
    for dtype in (np.float32, np.float64):
        q, k, v = (case.asarray(x.astype(dtype)) for x in (case.q, case.k, case.v))
        out = case.attend(q, k, v)
        if tuple(out.shape) != (len(case.q), case.v.shape[-1]):
            return Finding("fails", note=f"shape {tuple(out.shape)} for q {q.shape}, k {k.shape}, v {v.shape}")
        complaint = same_kind(out, q)
        if complaint:
            return Finding("fails", note=complaint)
    return holds("float32 and float64")


def the_same_arguments_give_the_same_result(case: _Case) -> Finding:
    """Called twice, attention returns the same numbers: no map is drawn in between."""
    return agree(case(case.q, case.k, case.v), case(case.q, case.k, case.v), 0.0, "bit for bit")


def values_of_one_give_one(case: _Case) -> Finding:
    """Where every value is 1, so is every row: nothing is added to the denominator, and nothing clamps it."""
    if not case.normalised:
        return not_examined("the weights of a row are not normalised")
    found = []
    options: tuple[dict[str, Any], ...] = ({}, {"causal": True}) if "causal" in case.options else ({},)
    # Shorter rows have smaller sums of weights, which is where a clamp or an epsilon shows.
    for option in options:
        for factor in (1.0, 0.1):
            k = factor * case.k
            q = k[::-1] if option else factor * case.q
            ones = np.ones_like(case.v)
            note = f"rows of length {np.linalg.norm(q[0]):.2g}{', causal' if option else ''}"
            found.append(agree(case(q, k, ones, **option), np.ones((len(q), ones.shape[-1])),
                               case.rounding(q, k, ones, **option), note))  # fmt: skip
    one_key = case.v[:1]
    found.append(agree(case(case.q, case.k[:1], one_key), np.broadcast_to(one_key, (len(case.q), one_key.shape[-1])),
                       case.rounding(case.q, case.k[:1], one_key), "a single key"))  # fmt: skip
    return worst(*found)


def output_is_linear_in_the_values(case: _Case) -> Finding:
    """attend(q, k, 2 v + w) = 2 attend(q, k, v) + attend(q, k, w)."""
    q, k, v = case.q, case.k, case.v
    w = case.rng.normal(size=v.shape)
    size = 2 * np.abs(v) + np.abs(w)
    return agree(
        case(q, k, 2 * v + w), 2 * case(q, k, v) + case(q, k, w), 2 * case.rounding(q, k, size), "two sums of values"
    )


def output_depends_on_queries_and_keys(case: _Case) -> Finding:
    """Other queries or other keys give another output: it is not the mean of the values."""
    q, k, v = case.q, case.k, case.v
    out, bound = case(q, k, v), case.rounding(q, k, v)
    moved = [float(np.max(np.abs(out - other) - bound)) for other in (case(q[::-1], k, v), case(q, k[::-1], v))]
    return positive(min(moved), "change beyond rounding, the smaller of the two")


def permuted_keys_change_nothing(case: _Case) -> Finding:
    """Keys and values in another order give the same output."""
    if not case.fixed:
        return not_examined("weights are not a fixed function of query and key")
    q, k, v = case.q, case.k, case.v
    order = case.rng.permutation(len(k))
    return agree(case(q, k[order], v[order]), case(q, k, v), case.rounding(q, k, v), "keys in another order")


def permuted_queries_permute_rows(case: _Case) -> Finding:
    """Queries in another order, or one by one, give the rows in that order."""
    if not case.fixed:
        return not_examined("weights are not a fixed function of query and key")
    q, k, v = case.q, case.k, case.v
    out, bound, order = case(q, k, v), case.rounding(q, k, v), case.rng.permutation(len(q))
    alone = np.concatenate([case(q[i : i + 1], k, v) for i in range(len(q))])
    permuted = agree(case(q[order], k, v), out[order], bound[order], "another order")
    return worst(permuted, agree(alone, out, bound, "one by one"))


def weights_are_symmetric(case: _Case) -> Finding:
    """w(x, y) = w(y, x), as queries and keys share one map; of normalised rows W_ij W_jl W_li = W_il W_lj W_ji.

    Kolmogorov's criterion: the sums that rows are divided by cancel from the two products.
    """
    if not (case.symmetric and case.fixed):
        return not_examined("symmetric weights are not promised")
    found = []
    for x in (case.q[:3], case.k[:3], case.k[3:6]):
        w, bound = case(x, x, np.eye(3)), case.rounding(x, x, np.eye(3))
        forward = (w[0, 1], w[1, 2], w[2, 0]), (bound[0, 1], bound[1, 2], bound[2, 0])
        back = (w[0, 2], w[2, 1], w[1, 0]), (bound[0, 2], bound[2, 1], bound[1, 0])
        # prod (|w| + b) - prod |w| bounds the error of a product of factors with errors b; 2 more roundings.
        slack = sum(math.prod(np.abs(a) + np.array(b)) - (1 - 4 * unit(np.float64)) * abs(math.prod(a))
                    for a, b in (forward, back))  # fmt: skip
        found.append(agree(np.array(math.prod(forward[0])), np.array(math.prod(back[0])), slack, "cycles of three"))
    return worst(*found)


def an_item_alone_equals_itself_in_a_batch(case: _Case) -> Finding:
    """Attention of a batch is the batch of attentions: no maximum or mean over other, larger items enters."""
    q, k, v = (np.stack([x, factor * x[::-1], -x]) for x, factor in ((case.q, 2.0), (case.k, 2.0), (case.v, 8.0)))
    out = case(q, k, v)
    items = [agree(out[i], case(q[i], k[i], v[i]), case.rounding(q[i], k[i], v[i]), f"item {i} of 3") for i in range(3)]
    return worst(*items)


def leading_axes_broadcast(case: _Case) -> Finding:
    """Leading axes broadcast: q (2, 1, n, d), k (3, m, d), v (m, e) give (2, 3, n, e), each item as alone."""
    q = np.stack([case.q, -case.q])[:, None]
    k = np.stack([case.k, case.k[::-1], 0.5 * case.k])
    out = case(q, k, case.v)
    if out.shape[:2] != (2, 3):
        return Finding("fails", note=f"shape {out.shape}, expected leading axes (2, 3)")
    items = [
        agree(out[i, j], case(q[i, 0], k[j], case.v), case.rounding(q[i, 0], k[j], case.v), f"item {i}, {j}")
        for i in range(2)
        for j in range(3)
    ]
    return worst(*items)


def causal_rows_attend_to_their_prefix(case: _Case) -> Finding:
    """causal: row i is the attention of query i to keys j <= i, and row 0 is v_0."""
    missing = case.without("causal")
    if missing is not None:
        return missing
    if not case.fixed:
        return not_examined("weights are not a fixed function of query and key")
    q, k, v = case.k[::-1], case.k, case.v  # as many queries as keys
    out, bound = case(q, k, v, causal=True), case.rounding(q, k, v, causal=True)
    prefix = np.concatenate([case(q[i : i + 1], k[: i + 1], v[: i + 1]) for i in range(len(k))])
    rows = agree(out, prefix, bound, "each row against its prefix")
    return worst(agree(out[0], v[0], bound[0], "first row"), rows) if case.normalised else rows


def later_keys_change_nothing(case: _Case) -> Finding:
    """causal: keys and values after i change no bit of rows up to i, however large they are."""
    missing = case.without("causal")
    if missing is not None:
        return missing
    q, k, v = case.k[::-1], case.k, case.v
    out, found = case(q, k, v, causal=True), []
    for i in (0, len(k) // 2, len(k) - 2):
        later, values = k.copy(), v.copy()
        later[i + 1 :] *= -2
        values[i + 1 :] = 1e6
        after = case(q, later, values, causal=True)
        found.append(agree(after[: i + 1], out[: i + 1], 0.0, f"keys after {i}, bit for bit"))
    return worst(*found)


def masked_keys_are_never_looked_at(case: _Case) -> Finding:
    """key_mask: what masked keys and values hold, NaN too, changes no bit, and the result is that of dropping them."""
    missing = case.without("key_mask")
    if missing is not None:
        return missing
    q, k, v, used = case.q, case.k, case.v, _every_third_dropped(len(case.k))
    hidden = [np.where(used[:, None], x, np.nan) for x in (k, v)]
    out = case(q, k, v, key_mask=used)
    same = agree(case(q, *hidden, key_mask=used), out, 0.0, "NaN behind the mask, bit for bit")
    if not case.fixed:
        return same
    return worst(same, agree(out, case(q, k[used], v[used]), case.rounding(q, k[used], v[used]), "keys dropped"))


def a_row_without_keys_is_zeros(case: _Case) -> Finding:
    """key_mask: where every key is masked the row is zeros, and so is a causal row before the first key used."""
    missing = case.without("key_mask")
    if missing is not None:
        return missing
    none = np.zeros(len(case.k), dtype=bool)
    out = case(case.q, case.k, case.v, key_mask=none)
    found = [agree(out, np.zeros_like(out), 0.0, "no key at all")]
    if "causal" in case.options:
        late = np.arange(len(case.k)) >= 2
        out = case(case.k, case.k, case.v, key_mask=late, causal=True)
        found.append(agree(out[:2], np.zeros_like(out[:2]), 0.0, "causal, first key used at 2"))
    return worst(*found)


def a_log_weight_of_log_2_doubles_a_key(case: _Case) -> Finding:
    """key_log_weights: log 2 is as good as the key twice, -inf as good as dropping it."""
    missing = case.without("key_log_weights")
    if missing is not None:
        return missing
    if not case.fixed:
        return not_examined("weights are not a fixed function of query and key")
    q, k, v, m = case.q, case.k, case.v, len(case.k)
    twice = np.concatenate([np.arange(m), [1, m - 1]])
    weights = np.zeros(m)
    weights[[1, m - 1]] = math.log(2)
    doubled = agree(
        case(q, k, v, key_log_weights=weights), case(q, k[twice], v[twice]), case.rounding(q, k[twice], v[twice]),
        "two keys doubled",
    )  # fmt: skip
    used = _every_third_dropped(m)
    masked = case(q, k, v, key_log_weights=np.where(used, 0.0, -np.inf))
    return worst(doubled, agree(masked, case(q, k[used], v[used]), case.rounding(q, k[used], v[used]), "-inf"))


def blockwise_equals_whole(case: _Case) -> Finding:
    """Many queries and keys, which are worked on in blocks, give what one matrix of weights gives."""
    if case.dense is None:
        return not_examined("no dense reference was given")
    dim, found = case.q.shape[-1], []
    n, m = LARGE
    q, k = (_rows(case.rng.normal(size=(size, dim)), float(np.linalg.norm(case.q[0]))) for size in (m, m))
    v = case.rng.normal(size=(m, 2))
    for some in _combinations(case.options, m):
        rows = q if "causal" in some else q[:n]
        expected = _whole(case._host(case.dense(case.asarray(rows), case.asarray(k))), v, case.normalised, **some)
        found.append(
            agree(case(rows, k, v, **some), expected, case.rounding(rows, k, v, **some),
                  f"{len(rows)} queries, {m} keys{', ' if some else ''}{', '.join(some)}")
        )  # fmt: skip
    return worst(*found)


ATTENTION_LAWS: tuple[Callable[[_Case], Finding], ...] = (
    shape_dtype_and_device_are_kept,
    the_same_arguments_give_the_same_result,
    values_of_one_give_one,
    output_is_linear_in_the_values,
    output_depends_on_queries_and_keys,
    permuted_keys_change_nothing,
    permuted_queries_permute_rows,
    weights_are_symmetric,
    an_item_alone_equals_itself_in_a_batch,
    leading_axes_broadcast,
    causal_rows_attend_to_their_prefix,
    later_keys_change_nothing,
    masked_keys_are_never_looked_at,
    a_row_without_keys_is_zeros,
    a_log_weight_of_log_2_doubles_a_key,
    blockwise_equals_whole,
)


def examine_attention(
    attend: Callable[..., Array],
    *,
    asarray: Callable[[Any], Array] = np.asarray,
    options: tuple[str, ...] = (),
    fixed: bool = True,
    normalised: bool = True,
    symmetric: bool = True,
    dense: Callable[[Array, Array], Array] | None = None,
    magnitude: Callable[[Array, Array], Array] | None = None,
    terms: int | None = None,
    dim: int = 4,
    norm: float = 0.4,
    rng: Any = 0,
) -> Exam:
    """Examine an attention: V = 1, linearity, permutations, batches, causality, masks, weights, blocks.

        attend(q, k, v, **options) = sum_j w(q_i, k_j) v_j / sum_j w(q_i, k_j)

    ``attend``      for q (..., n, d), k (..., m, d), v (..., m, e) returns (..., n, e)
    ``asarray``     function that moves a host array to the library and device to be examined
    ``options``     which of "causal", "key_mask", "key_log_weights" it takes, as in `kernel_attention`
    ``fixed``       w is a fixed function of q_i and k_j, as with a drawn map; False where whole sequences are looked at
    ``normalised``  weights are divided by their sum;  ``symmetric``  w(x, y) = w(y, x), as queries and keys share a map
    ``dense``       (q, k) -> (..., n, m) the weights w before normalisation, as one matrix: kernel.gram, or the inner
                    products of all features. With it, blocks are compared with the whole on 530 queries, 1040 keys
    ``magnitude``   (q, k) -> (..., n, m) sums of absolute values of the terms that make w, where w has both signs, as
                    inner products of features have; |w| by default, and without ``dense``
    ``terms``       how many terms that is: d by default, the width D for features
    ``dim, norm``   d and the largest length of a row of q and k (twice it in one item of a batch)
    ``rng``         int, SeedSequence or Generator

    Returns an `Exam`; raises `ExamFailed`, an ``AssertionError``, that names every law which fails, the number found
    and its bound, and ``ValueError`` for options that are not known. Bounds are first-order rounding errors.
    Nothing is sampled, so there is no error rate. Not in the source.

    >>> from schoenbat_theory import kernel_attention
    >>> examine_attention(lambda q, k, v: kernel_attention(q, k, v, "exp")).passed
    True
    """
    unknown = [option for option in options if option not in OPTIONS]
    if unknown:
        raise ValueError(f"options: expected some of {', '.join(OPTIONS)}, found {unknown}")
    generator = as_generator(rng)
    q, k = (_rows(generator.normal(size=(size, dim)), norm) for size in (5, 8))
    q = q * np.linspace(1.0, 0.5, 5)[:, None]  # of different lengths, which matter where d = 1
    v = generator.normal(size=(8, 3))
    case = _Case(
        attend, asarray, tuple(options), fixed, normalised, symmetric, dense, magnitude,
        dim if terms is None else terms, q, k, v, generator,
    )  # fmt: skip
    return sit(f"attention {getattr(attend, '__name__', repr(attend)):.100}", case, ATTENTION_LAWS)


def _rows(x: np.ndarray, norm: float) -> np.ndarray:
    return np.asarray(norm * x / np.linalg.norm(x, axis=-1, keepdims=True))


def _every_third_dropped(m: int) -> np.ndarray:
    return np.arange(m) % 3 != 0


def _combinations(options: tuple[str, ...], m: int) -> list[dict[str, Any]]:
    """Return no option, each option alone, and all together."""
    used = _every_third_dropped(m)
    values = {"causal": True, "key_mask": used, "key_log_weights": np.linspace(-1.0, 1.0, m)}
    chosen = {name: value for name, value in values.items() if name in options}
    return [{}, *({name: value} for name, value in chosen.items()), *([chosen] if len(chosen) > 1 else [])]


def _seen(
    n: int,
    m: int,
    *,
    causal: bool = False,
    key_mask: np.ndarray | None = None,
    key_log_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return (n, m) factors of the weights: 0 for keys that a query does not see."""
    seen = np.tril(np.ones((n, m))) if causal else np.ones((n, m))
    if key_mask is not None:
        seen = seen * key_mask
    return seen if key_log_weights is None else seen * np.exp(key_log_weights)


def _whole(weights: np.ndarray, v: np.ndarray, normalised: bool, **options: Any) -> np.ndarray:
    """Return attention from one matrix of weights (n, m)."""
    weights = weights * _seen(*weights.shape, **options)
    total = np.sum(weights, axis=-1, keepdims=True) if normalised else np.ones((len(weights), 1))
    return np.asarray(np.where(total == 0, 0.0, weights @ v / np.where(total == 0, 1.0, total)))
