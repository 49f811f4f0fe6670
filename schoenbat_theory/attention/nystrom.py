"""Skyformer: Gaussian attention through landmarks of the lifted kernel matrix, in linear time."""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import (
    Array,
    all_finite,
    as_generator,
    asarray_like,
    broadcast_shapes,
    check_finite,
    check_floating,
    device_of,
    eps,
    namespace,
    require_bool,
    require_int,
    to_host,
)
from schoenbat_theory.attention.exact import COLUMNS
from schoenbat_theory.attention.gaussian import mean_row
from schoenbat_theory.attention.inputs import blocks, check_shapes, explain_not_finite, take_rows
from schoenbat_theory.attention.schulz import schulz_inverse
from schoenbat_theory.features.gram import centred_gram, gaussian_rounding, inverse_roots
from schoenbat_theory.features.weights import hide, key_weights
from schoenbat_theory.threads import each

__all__ = ["draw_landmarks", "nystrom_attention", "nystrom_gram"]

LANDMARKS = ("uniform", "replacement", "released")


def nystrom_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    n_landmarks: int,
    rng: Any = None,
    landmarks: str = "uniform",
    inverse: str = "exact",
    steps: int | None = None,
    gamma: float | None = None,
    key_mask: Array | None = None,
    return_residual: bool = False,
) -> Array | tuple[Array, Array]:
    r"""Compute Skyformer: `gaussian_attention` with the weights of a Nyström approximation, in time linear in n + m.

    The weights C = kappa(Q, K) are a block of the positive semidefinite matrix Cbar of all n + m points [Q; K]. With S
    the columns of the identity that belong to c landmarks,

        out = kappa(Q, L) W^+ kappa(L, K) V,    W = S^T Cbar S = kappa(L, L),    L = S^T [Q; K],

    the off-diagonal block of Cbar S W^+ S^T Cbar times V. Of neither matrix more than a block of rows is ever held.

    ``q`` (..., n, d), ``k`` (..., m, d), ``v`` (..., m, e), ``key_mask`` (..., m)   as in `gaussian_attention`
    ``n_landmarks, rng, landmarks``   c and their law, as in `draw_landmarks`: one draw serves all leading axes
    ``inverse``          "exact", the pseudo-inverse with a cut-off, or "schulz", `schulz_inverse` of W
    ``steps, gamma``     of "schulz" alone, by default 6 and 0.1 as released
    ``return_residual``  of "schulz" alone: return (output, residual), the residual (...) one number for each W
    returns              (..., n, e), same library, device and dtype; zeros where every key is masked

    Cut-off. Rounding moves each entry of W by a relative error of at most eta (`gaussian_rounding`). No entry is
    negative, hence W moves by at most eta lambda_max in spectral norm; the eigenvalues as computed are those of a
    matrix that is at most c u lambda_max away (c stands for the modest p(c) of LAPACK). So an eigenvalue of at most
    tau = (eta + c u) lambda_max may be zero, and is taken for zero. With U the eigenvectors that are kept and D > tau I
    their eigenvalues, U^T W U <= D + tau I <= 2 D in the Loewner order, so that what comes out, a block of
    Cbar S U D^-1 U^T S^T Cbar, is one of at most 2 Cbar, rounding of kappa(Q, L) and kappa(L, K) apart. As Cbar >= 0,
    |(Cbar S u_i)_r|^2 <= lambda_i: along u_i, errors of these two are divided by sqrt(lambda_i) once, those of W by
    lambda_i.

    Differs from the released code, which is landmarks="released" with inverse="schulz": (1) queries and keys are not
    scaled, there by 32^(-1/4), (2) `schulz_inverse` starts from each matrix alone, (3) a mask hides keys, not queries.
    Raises ``TypeError`` or ``ValueError`` for wrong input, ``steps`` or ``gamma`` without "schulz" among it.

    Source: arXiv:2111.00035, equations 4 to 6 and section 4.4, and its released code (seen); the cut-off is not in it.

    >>> x = np.random.default_rng(0).normal(size=(6, 2))
    >>> from schoenbat_theory import gaussian_attention
    >>> np.allclose(nystrom_attention(x, x, x, n_landmarks=12), gaussian_attention(x, x, x))  # every point
    True
    """
    options = _schulz_options(inverse, steps, gamma, require_bool("return_residual", return_residual))
    lead = check_shapes(q, k, v)
    n, m = q.shape[-2], k.shape[-2]
    weights = key_weights(k, m, lead, key_mask, None)
    k, v = hide(k, weights), hide(v, weights)
    check_finite(q=q, k=k, v=v)
    index = draw_landmarks(n, m, n_landmarks, rng, landmarks=landmarks, key_mask=_some_key(key_mask))
    xp = namespace(q)
    with np.errstate(all="ignore"):  # an overflow is found in the result
        chosen = _choose(q, k, index)
        centre = mean_row(chosen)
        chosen = chosen - centre
        rounding = gaussian_rounding(chosen, "q, k")
        gram = centred_gram(chosen, chosen)

        def weights_of(x: Array, rows: range) -> Array:
            return centred_gram(take_rows(x, rows) - centre, chosen)

        context = sum(  # (..., c, e)
            each(lambda r: xp.matrix_transpose(weights_of(k, r)) @ take_rows(v, r), blocks(m, COLUMNS) or [range(0)], q)
        )
        if options is None:
            root = _inverse_root(gram, rounding)
            context = root @ (xp.matrix_transpose(root) @ context)
        else:
            found = schulz_inverse(gram, **options)
            context = found.inverse @ context
        out = xp.empty((*context.shape[:-2], n, v.shape[-1]), dtype=q.dtype, device=device_of(q))

        def work(r: range) -> None:
            out[..., r.start : r.stop, :] = weights_of(q, r) @ context

        each(work, blocks(n, COLUMNS), q)
    if not all_finite(out):
        explain_not_finite(q=q, k=k, v=v)
    return (out, found.residual) if return_residual else out


def draw_landmarks(
    n: int, m: int, n_landmarks: int, rng: Any = None, *, landmarks: str = "uniform", key_mask: Any = None
) -> np.ndarray:
    r"""Draw c landmarks among n queries and m keys: indices into [Q; K], the keys from n on.

    ``n, m``         int >= 0, ``n_landmarks``  c >= 1;  ``rng``  int, SeedSequence, Generator or None
    ``landmarks``    "uniform": uniform on the points that are used, without replacement; "replacement": each uniform
                     on these, independently; "released", as the released code: c // 2 among the queries and the
                     others among the keys, so that an odd one is a key, each uniform and independent
    ``key_mask``     (..., m) booleans, True = the key is used; a masked key is never a landmark
    returns          (..., c) on the host, leading axes those of the mask

    One draw serves all masks: of one permutation of all points each takes the first c that it allows, of one list of
    uniform numbers U the points of rank floor(U count). So a mask alone gives what it gives in a batch. Raises
    ``ValueError`` where "uniform" is asked for more landmarks than there are points, and where there is none to draw.

    Source: "replacement" is definition 1 of arXiv:2111.00035, "released" its released code (seen).

    >>> draw_landmarks(2, 3, 5, rng=0).tolist()
    [2, 4, 3, 0, 1]
    """
    n, m, count = require_int("n", n, 0), require_int("m", m, 0), require_int("n_landmarks", n_landmarks, 1)
    if not isinstance(landmarks, str) or landmarks not in LANDMARKS:
        raise ValueError(f"landmarks: expected one of {', '.join(LANDMARKS)}, found {landmarks!r:.60}")
    keys = np.ones(m, dtype=bool) if key_mask is None else to_host(key_mask)
    if keys.dtype != np.bool_ or keys.ndim < 1 or keys.shape[-1] != m:
        raise ValueError(f"key_mask: expected booleans (..., {m}), found {keys.dtype} {keys.shape}")
    used = np.concatenate([np.ones((*keys.shape[:-1], n), dtype=bool), keys], axis=-1)
    generator = as_generator(rng)
    if landmarks == "uniform":
        fewest = int(np.min(np.sum(used, axis=-1), initial=n + m))
        if count > fewest:
            raise ValueError(f"n_landmarks: expected at most the {fewest} points that are used, found {count}")
        order = generator.permutation(n + m)
        return order[_first_used(used[..., order])[..., :count]]
    uniform = generator.random(count)
    if landmarks == "replacement":
        return _ranked(used, uniform)
    half = count // 2
    return np.concatenate([_ranked(used & (np.arange(n + m) < n), uniform[:half]),
                           _ranked(used & (np.arange(n + m) >= n), uniform[half:])], axis=-1)  # fmt: skip


def nystrom_gram(gram: Array, landmarks: Any) -> Array:
    r"""Return the Nyström approximation G S (S^T G S)^+ S^T G of a positive semidefinite matrix.

    ``gram``       (..., N, N), symmetric positive semidefinite, its entries rounded once
    ``landmarks``  (c,) whole numbers in 0 .. N - 1, of which S has the columns of the identity; they may repeat
    returns        (..., N, N), symmetric positive semidefinite, 0 <= G - result but for rounding

    The pseudo-inverse is that of `nystrom_attention`, with eta = c u: entries of either sign that are off by u of
    themselves move a semidefinite matrix by at most u times its Frobenius norm, hence by at most c u lambda_max. Raises
    ``TypeError`` or ``ValueError`` for wrong input; that ``gram`` is semidefinite is not checked.

    Source: arXiv:2111.00035, equation 5.

    >>> nystrom_gram(np.array([[1.0, 0.5], [0.5, 1.0]]), [0])
    array([[1.  , 0.5 ],
           [0.5 , 0.25]])
    """
    xp = check_floating(gram=gram)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2]:
        raise ValueError(f"gram: expected shape (..., N, N), found {tuple(gram.shape)}")
    check_finite(gram=gram)
    chosen, size = to_host(landmarks), gram.shape[-1]
    if chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
        raise ValueError(f"landmarks: expected whole numbers (c,), c >= 1, found {landmarks!r:.60}")
    if np.any((chosen < 0) | (chosen >= size)):
        raise ValueError(f"landmarks: expected indices in 0 .. {size - 1}, found {chosen.min()} .. {chosen.max()}")
    index = asarray_like(chosen, gram, dtype=xp.int64)
    columns = xp.take(gram, index, axis=-1)
    factor = columns @ _inverse_root(xp.take(columns, index, axis=-2), len(chosen) * eps(gram))
    return factor @ xp.matrix_transpose(factor)


def _schulz_options(
    inverse: str, steps: int | None, gamma: float | None, return_residual: bool
) -> dict[str, Any] | None:
    """Return what `schulz_inverse` is to be given, ``None`` for the exact inverse."""
    given = {name: value for name, value in (("steps", steps), ("gamma", gamma)) if value is not None}
    if not isinstance(inverse, str) or inverse not in ("exact", "schulz"):
        raise ValueError(f"inverse: expected 'exact' or 'schulz', found {inverse!r:.60}")
    if inverse == "schulz":
        return given
    for name in [*given, *(["return_residual"] if return_residual else [])]:
        raise ValueError(f"{name}: expected inverse='schulz' with it, found inverse='exact'")
    return None


def _some_key(key_mask: Array | None) -> np.ndarray | None:
    """Return the mask on the host, all True where it hides every key: zeros then, whatever the landmarks are."""
    if key_mask is None:
        return None
    mask = to_host(key_mask)
    return mask | ~np.any(mask, axis=-1, keepdims=True)


def _first_used(used: np.ndarray) -> np.ndarray:
    """Return the positions along the last axis, those in use first, each part in order."""
    return np.argsort(~used, axis=-1, kind="stable")


def _ranked(used: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return for each U in [0, 1) the position of rank floor(U count) among those in use, (..., c)."""
    count = np.sum(used, axis=-1, keepdims=True)
    if uniform.size and not np.all(count):
        raise ValueError("landmarks: expected a point to draw from, found none that is used")
    return np.take_along_axis(_first_used(used), (uniform * count).astype(np.int64), axis=-1)


def _choose(q: Array, k: Array, index: np.ndarray) -> Array:
    """Return the rows of [Q; K] at ``index`` (..., c), with the leading axes of all three."""
    xp = namespace(q)
    lead = broadcast_shapes(q=tuple(q.shape[:-2]), k=tuple(k.shape[:-2]), landmarks=index.shape[:-1])
    points = xp.concat([xp.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k)], axis=-2)
    wanted = np.broadcast_to(index[..., None], (*lead, index.shape[-1], q.shape[-1]))
    return xp.take_along_axis(points, asarray_like(wanted, q, dtype=xp.int64), axis=-2)


def _inverse_root(gram: Array, rounding: Any) -> Array:
    """Return H (..., c, c) with H H^T the pseudo-inverse: eigenvectors over roots, zeros at and below the cut-off."""
    vectors, roots = inverse_roots(gram, rounding)
    return vectors * roots[..., None, :]
