r"""P03: Second moments of one Rademacher projection product.

    E <w,x>^2 <w,y> <w,z>  =  ||x||^2 <y,z> + 2 <x,y> <x,z> - 2 sum_i x_i^2 y_i z_i,     w uniform on {-1, 1}^d

With z = y it is V(x, y) = ||x||^2 ||y||^2 + 2 <x,y>^2 - 2 sum x_i^2 y_i^2, the base of every variance of random
Maclaurin features; the mixed form gives the covariance of two keys in the row of one query.

Hypotheses: the coordinates of w are 4-wise independent signs. For the mean, E <w,x> <w,y> = <x,y>, pairwise independence is enough.

Source: z = y is in Wacker, Ohana & Filippone (2023), Table 1 (seen); the mixed moment is derived here.

Idea of proof: expand the product; E w_i w_j w_k w_l is 1 if the four indices pair up and 0 otherwise; the
three pairings give the first two terms, and count i = j = k = l three times instead of once.

Checked exactly: both sides are polynomials of degree at most 2 in each x_i and at most 1 in each y_i and z_i
(2 in y_i when z = y). Such polynomials agree everywhere if they agree on a grid of 3 values per x_i and 2 (or 3)
per y_i and z_i. Every monomial has at most four distinct indices and both sides are symmetric under a common
permutation of the coordinates, so d = 4 implies every d: the enumeration below is a proof. The hypothesis is broken by four
signs of which only three are independent: they leave the mean as it is, and not the moment.
"""

from __future__ import annotations

import itertools

import numpy as np

import schoenbat_theory as st

DIM = 4


def _grid(values: tuple[int, ...]) -> np.ndarray:
    return np.array(list(itertools.product(values, repeat=DIM)), dtype=np.int64)


def _enumerated(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The sum over all signs of <w,x>^2 <w,y> <w,z>, in integers: 2^d times the expectation."""
    signs = st.sign_vectors(DIM).T
    return np.sum((x @ signs) ** 2 * (y @ signs) * (z @ signs), axis=-1)


def _formula(x: np.ndarray, y: np.ndarray, z: np.ndarray, last: int = 2) -> np.ndarray:
    return _dot(x, x) * _dot(y, z) + 2 * _dot(x, y) * _dot(x, z) - last * _dot(x * x, y * z)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, axis=-1)


def _compare(wrong: np.ndarray) -> st.Evidence:
    return st.decide(
        not wrong.any(),
        because=f"integers, all {2**DIM} signs, a grid that determines the polynomials",
        measured=float(wrong.sum()),
        predicted=0.0,
        comparisons=wrong.size,
        note=f"{wrong.sum()} of {wrong.size} grid points differ",
    )


def second_moment(cell: st.Cell) -> st.Evidence:
    """V on the grid {-1, 0, 1}^8, formula and library."""
    x, y = (part.reshape(-1, DIM) for part in np.broadcast_arrays(_grid((-1, 0, 1))[:, None], _grid((-1, 0, 1))[None]))
    exact = _enumerated(x, y, y)
    library = st.to_host(st.rademacher_moment(cell.asarray(x * 1.0), cell.asarray(y * 1.0)))
    return _compare((exact != 2**DIM * _formula(x, y, y)) | (exact != 2**DIM * library))


def mixed_moment(cell: st.Cell) -> st.Evidence:
    """T on the grid {-1, 0, 1}^4 x {0, 1}^8, formula and library."""
    grids = _grid((-1, 0, 1))[:, None, None], _grid((0, 1))[None, :, None], _grid((0, 1))[None, None, :]
    x, y, z = (part.reshape(-1, DIM) for part in np.broadcast_arrays(*grids))
    exact = _enumerated(x, y, z)
    library = st.to_host(st.rademacher_moment(*(cell.asarray(part * 1.0) for part in (x, y, z))))
    return _compare((exact != 2**DIM * _formula(x, y, z)) | (exact != 2**DIM * library))


def last_term_dropped(cell: st.Cell) -> st.Evidence:
    """The Gaussian formula, without - 2 sum x_i^2 y_i^2."""
    del cell
    x = _grid((-1, 0, 1))
    return _compare(_enumerated(x, x, x) != 2**DIM * _formula(x, x, x, last=0))


def _dependent_signs() -> np.ndarray:
    """Eight sign vectors with w_4 = w_1 w_2 w_3: pairwise (even 3-wise) independent, (4, 8)."""
    free = st.sign_vectors(3)
    return np.concatenate([free, free.prod(axis=1, keepdims=True)], axis=1).T


def pairwise_is_enough_for_the_mean(cell: st.Cell) -> st.Evidence:
    """E <w,x> <w,y> = <x,y> for these dependent signs, on the bilinear grid {0, 1}^8."""
    del cell
    signs, grid = _dependent_signs(), _grid((0, 1))
    return _compare((grid @ signs) @ (grid @ signs).T != 8 * grid @ grid.T)


def pairwise_independent_signs(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: for the second moment these signs are not enough."""
    del cell
    signs, x = _dependent_signs(), _grid((-1, 0, 1))
    y = x[:, [1, 0, 3, 2]]
    return _compare(np.sum((x @ signs) ** 2 * (y @ signs) ** 2, axis=-1) != 8 * _formula(x, y, y))


P03 = st.Proposition(
    id="P03",
    title="Moments of a Rademacher projection product",
    statement=r"$\mathbb{E}\,\langle w,x\rangle^2 \langle w,y\rangle \langle w,z\rangle = \|x\|^2 \langle y,z\rangle "
    r"+ 2 \langle x,y\rangle \langle x,z\rangle - 2\sum_i x_i^2 y_i z_i$ for $w$ uniform on $\{-1,1\}^d$, in every dimension.",
    hypotheses=("the signs are 4-wise independent; pairwise independence, enough for the mean, is not enough here",),
    source="z = y: Wacker, Ohana & Filippone (2023), Table 1 (seen); mixed moment: derived here",
    expected="proved",
    checks=[second_moment, mixed_moment, pairwise_is_enough_for_the_mean],
    mutants=[last_term_dropped, pairwise_independent_signs],
    cites=("wacker2023complex",),
)
