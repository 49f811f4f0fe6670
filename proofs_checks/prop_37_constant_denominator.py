r"""P37: Around the weighted mean of the keys, degree <= 1 has a constant denominator, and is exact for Gaussian tokens.

    m = sum_j w_j k_j,  sum_j w_j = 1:        sum_j w_j (1 + <x, k_j - m>) = 1        for every x

so that attention cut off after degree 1 is linear in the query, with v_w = sum_j w_j v_j,

    o(x) = sum_j w_j (1 + <x, k_j - m>) v_j = v_w + Cov_w(v, k) x:

no denominator can be 0 or change its sign, however long x is. With another m it is 1 + <x, sum_j w_j k_j - m>, which is
negative for half of all directions if x is long enough: m cancels in exact attention (P36), not in a series that is cut off.

If key and value are jointly Gaussian under w (a population, not a finite set), the linear function is attention itself, for
every x: sharpness does no harm.

Hypotheses: m is the mean under the very weights that attention uses, those after the shift of the queries; for the second
part (k, v) is jointly Gaussian under w.

Source: derived here; the second part is the exponential tilt of a Gaussian (common knowledge). Not in the sources seen.

Idea of proof: sum_j w_j (k_j - m) = 0. Second part: let z = <x, k - m>; its weight e^z moves the mean of every u that is
jointly Gaussian with z by Cov(u, z). In series: E u z^n = n Cov(u, z) E z^(n-1) for centred u, by pairings (Isserlis), so that
E u e^z = Cov(u, z) E e^z. In general the mean of u under weights e^z is the sum over n of the joint cumulants of (u, z, .., z)
with n copies of z, over n!: degree <= 1 is exact for all x in a neighbourhood if and only if those with n >= 2 vanish.

Checked exactly: the denominator on rational keys and weights, at 0 and d unit vectors, as an affine function of x; the moments by
all pairings, n <= 8. Through the library: attention on Gauss-Hermite nodes, whose moments are Gaussian up to degree 2 N - 1,
within the remainder of the quadrature. Data: rows of real heads whose denominator is not positive, for three choices of m.

The remainder, for keys z at N nodes and v = 2 z + 1: quadrature is exact for degrees below 2 N, and gives at most the moment for even
degrees. With T(N) = sum_(i >= N) (x^2/2)^i / i! the denominator errs by at most T(N), the sum over z by |x| T(N - 1), and their
quotient by at most |x| (T(N - 1) + T(N)) / (e^(x^2/2) - T(N)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

REACH = np.array([-2.0, -1.0, 0.5, 2.0])  # queries of the nodes


def _denominators(shift: Callable[[Any, Any], Any]) -> st.Evidence:
    """Denominators at x = 0, e_1, .., e_3 of 200 sets of five rational keys and weights, after ``shift``(keys, weights)."""
    rng, wrong, sets = np.random.default_rng(37), 0, 200
    to_fraction = np.vectorize(Fraction, otypes=[object])
    for _ in range(sets):
        keys = to_fraction(rng.integers(-9, 10, (5, 3))) / 4
        weights = to_fraction(rng.integers(1, 10, 5))
        weights = weights / weights.sum()
        y = keys - shift(keys, weights)
        found = [weights.sum(), *(weights.sum() + weights @ y[:, r] for r in range(3))]
        wrong += any(one != 1 for one in found)
    return st.decide(
        wrong == 0,
        because="rational arithmetic; an affine function of the query is known by its values at 0 and at d unit vectors",
        measured=float(wrong),
        predicted=0.0,
        comparisons=4 * sets,
        note=f"{wrong} of {sets} denominators are not the constant 1",
    )


def weighted_mean(cell: st.Cell) -> st.Evidence:
    """The mean of the keys under their weights."""
    del cell
    return _denominators(lambda keys, weights: weights @ keys)


def plain_mean(cell: st.Cell) -> st.Evidence:
    """The plain mean of the keys, weights left aside."""
    del cell
    return _denominators(lambda keys, weights: keys.sum(axis=0) / len(keys))


def no_shift(cell: st.Cell) -> st.Evidence:
    """Keys as they are."""
    del cell
    return _denominators(lambda keys, weights: 0 * keys[0])


def plain_mean_has_a_zero(cell: st.Cell) -> st.Evidence:
    """Keys 0 and 1, weights 1/4 and 3/4, m = 1/2: the denominator 1 + x/4 is 0 at x = -4, and negative beyond."""
    del cell
    keys, weights = (Fraction(0), Fraction(1)), (Fraction(1, 4), Fraction(3, 4))
    found = [sum(w * (1 + x * (k - Fraction(1, 2))) for w, k in zip(weights, keys, strict=True)) for x in (-4, -8)]
    return st.decide(found == [0, -1], because="rational arithmetic", comparisons=2, note="1 + x/4")


def _pairings(covariances: Sequence[Sequence[Fraction]], which: Sequence[int]) -> Fraction:
    """E of a product of centred Gaussians: the sum over all pairings of products of covariances."""
    if len(which) % 2:
        return Fraction(0)
    if not which:
        return Fraction(1)
    first, rest = which[0], list(which[1:])
    return sum(
        (covariances[first][other] * _pairings(covariances, rest[:i] + rest[i + 1 :]) for i, other in enumerate(rest)),
        Fraction(0),
    )


def _two_points(covariances: Sequence[Sequence[Fraction]], which: Sequence[int]) -> Fraction:
    """The same with u and z both multiples of one sign: of the covariances those of z alone are used, |z|^2 and u = z / 2."""
    size = Fraction(math.isqrt(int(4 * covariances[1][1])), 2)
    return Fraction(0) if len(which) % 2 else math.prod((size if i else size / 2 for i in which), start=Fraction(1))


def _moves_by_the_covariance(moment: Callable[..., Fraction]) -> st.Evidence:
    """E u z^n = n Cov(u, z) E z^(n-1), n = 1 .. 8, three covariances, with the moments of ``moment``."""
    wrong, orders = 0, range(1, 9)
    for cross in (Fraction(-1), Fraction(1, 3), Fraction(5, 4)):
        covariances = ((Fraction(3), cross), (cross, Fraction(9, 4)))
        own = moment(covariances, (0, 1))
        for n in orders:
            wrong += moment(covariances, (0, *[1] * n)) != n * own * moment(covariances, [1] * (n - 1))
    return st.decide(
        wrong == 0,
        because="all pairings in rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=3 * len(orders),
        note=f"{wrong} of {3 * len(orders)} moments disagree",
    )


def gaussian_moments(cell: st.Cell) -> st.Evidence:
    """Jointly Gaussian key and value."""
    del cell
    return _moves_by_the_covariance(_pairings)


def moments_of_a_sign(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: key and value are multiples of one sign."""
    del cell
    return _moves_by_the_covariance(_two_points)


def _tail(nodes: int) -> np.ndarray:
    """T(nodes) of the page, at every query: at most the first term over 1 - ratio, here 1 - x^2 / (2 nodes)."""
    rate = REACH**2 / 2
    return rate**nodes / math.factorial(nodes) / (1 - rate / nodes)


def _nodes(cell: st.Cell, nodes: int, claimed: int) -> st.Evidence:
    """Attention on Gauss-Hermite ``nodes``, v = 2 k + 1, against 1 + 2 x, within the remainder of ``claimed`` nodes."""
    keys, weights = np.polynomial.hermite_e.hermegauss(nodes)
    q, k, v, log_weights = map(cell.asarray, (REACH[:, None], keys[:, None], 2 * keys[:, None] + 1, np.log(weights)))
    found = st.to_host(st.kernel_attention(q, k, v, "exp", key_log_weights=log_weights))[:, 0]
    allowed = 2 * np.abs(REACH) * (_tail(claimed - 1) + _tail(claimed)) / (np.exp(REACH**2 / 2) - _tail(claimed))
    allowed += 2.0**-40  # nodes and weights of NumPy, to twelve digits and more (its documentation, from memory)
    error = np.abs(found - (1 + 2 * REACH))
    worst = int(np.argmax(error / allowed))
    return st.decide(
        bool(np.all(error <= allowed)),
        kind="deterministic",
        because="the remainder of Gauss-Hermite quadrature",
        measured=float(found[worst]),
        predicted=float(1 + 2 * REACH[worst]),
        comparisons=REACH.size,
        note=f"off by {error[worst]:.2g}, where {allowed[worst]:.2g} is allowed, at x = {REACH[worst]:g}",
    )


def gaussian_keys(cell: st.Cell) -> st.Evidence:
    """Ten nodes."""
    return _nodes(cell, 10, 10)


def two_keys(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: two keys, -1 and 1, where attention is 1 + 2 tanh(x)."""
    return _nodes(cell, 2, 10)


def real_heads(cell: st.Cell) -> list[st.Evidence]:
    """Share of rows whose denominator of degree <= 1 is not positive, raw, queries around their mean, for three shifts of the keys."""
    found, shares = [], dict[str, list[float]]()
    for head in cell.heads:
        q, k = (x / head.q.shape[1] ** 0.25 for x in (head.q, head.k))
        x, logits = q - q.mean(axis=0), k @ q.mean(axis=0)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        for name, m in (("no shift", 0 * k[0]), ("plain mean", k.mean(axis=0)), ("weighted mean", weights @ k)):
            share = float(np.mean(1 + x @ (weights @ (k - m)) <= 0))
            shares.setdefault(name, []).append(share)
            found.append(st.observe(name=f"not positive, {name}: {head.name}", measured=share))
    if found:
        figure = {
            "plot": "bars",
            "title": "rows of degree ≤ 1 whose denominator is not positive",
            "names": [head.name for head in cell.heads],
            "series": shares,
            "y_label": "share of rows",
        }
        found[0] = found[0].but(figure=figure)
    return found


P37 = st.Proposition(
    id="P37",
    title="Around the weighted mean of the keys, degree ≤ 1 has a constant denominator, and is exact for Gaussian tokens",
    statement=r"With $\sum_j w_j = 1$ and $m = \sum_j w_j k_j$, $\sum_j w_j (1 + \langle x, k_j - m\rangle) = 1$ for every $x$; if $(k, v)$ is jointly "
    r"Gaussian under $w$, then $\mathbb{E}_w[e^{\langle x,k\rangle} v] / \mathbb{E}_w[e^{\langle x,k\rangle}] = \mathbb{E}_w v + \mathrm{Cov}_w(v, k)\, x$.",
    hypotheses=(
        "$m$ is the mean under the weights of attention",
        "second part: $(k, v)$ is jointly Gaussian under $w$",
    ),
    source="derived here; not in the sources seen",
    expected="consistent",
    cites=("schoenbat_theory2026",),
    checks=[weighted_mean, plain_mean_has_a_zero, gaussian_moments, gaussian_keys, real_heads],
    mutants=[plain_mean, no_shift, moments_of_a_sign, two_keys],
)
