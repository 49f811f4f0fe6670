r"""P30: With all points as landmarks, a ridge gamma in Nyström's formula costs less than gamma.

    R = G - G (G + gamma I)^(-1) G = gamma G (G + gamma I)^(-1),      0 <= R < gamma I,      |C - C~| < gamma / 2

for the lifted matrix G of P27 and its block C; the tilde here has the ridge, W + gamma I in place of W. With c < 2n
landmarks the ridge acts as one of about gamma 2n / c on G, which is exact where 2n / c copies of every landmark make up
the points.

Hypotheses: G is positive semidefinite, gamma > 0; the inverse is exact, or the iteration of P29 has converged.

Source: gamma = 0.1 is that of the released code of Skyformer (Chen et al. 2021, seen), which adds it to keep the
iteration of P29 going. What it costs is not in the sources seen; neither is the effective ridge.

Idea of proof: lambda - lambda^2 / (lambda + gamma) = gamma lambda / (lambda + gamma), which is >= 0 and below gamma.
The half is P27's: both R and gamma I - R are semidefinite. For copies, G = W x J (J the r x r matrix of ones, r = 2n /
c) has eigenvalues r lambda, and R = (W - W (W + gamma I)^(-1) W) x J has r gamma lambda / (lambda + gamma) = rho mu /
(mu + rho) with mu = r lambda, rho = r gamma. The case r = 1 is the first statement.

Checked exactly: the eigenvalue, polynomials of degree 2 in each of two variables, at 3 x 3 points, which proves it for
every matrix by the spectral theorem. As cases: R (G + rho I) = rho G and the order, for the corners of cubes with kappa
= 2^(-|a - b|^2), each corner one to four times. By computation: `nystrom_attention` with the released inverse and
enough steps. By sampling, without a verdict, on close points, and data on heads: what gamma adds to the error with a
quarter of the points as landmarks.

Not checked: "about" for landmarks that are drawn. It says little on the heads, where Nyström's own error is larger than
what gamma adds.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

U = 2.0**-53
GAMMA = 0.1  # of the released code


def _eigenvalue(sign: int) -> st.Evidence:
    """The identities l (l + s g) - l^2 = g l and g (l + s g) - g l = g^2, l an eigenvalue, g gamma, s = ``sign``."""
    pairs = list(itertools.product(range(3), repeat=2))
    holds = all(
        value * (value + sign * gamma) - value**2 == gamma * value
        and gamma * (value + sign * gamma) - gamma * value == gamma**2
        for value, gamma in pairs
    )
    return st.decide(
        holds,
        because="polynomials of degree 2 in each of two variables that agree at 3 x 3 points are equal",
        comparisons=2 * len(pairs),
    )


def error_of_an_eigenvalue(cell: st.Cell) -> st.Evidence:
    """It is gamma lambda / (lambda + gamma), which is gamma^2 / (lambda + gamma) below gamma."""
    del cell
    return _eigenvalue(1)


def ridge_subtracted(cell: st.Cell) -> st.Evidence:
    """Twin: W - gamma I."""
    del cell
    return _eigenvalue(-1)


def _cubes(copies: int, ridge: Fraction, share: Fraction = Fraction(1)) -> st.Evidence:
    """R for corners of cubes, each ``copies`` times and once a landmark, gamma = 1/10, against ``ridge`` on G."""
    gamma, holds, largest = Fraction(1, 10), True, Fraction(0)
    for dim in (1, 2, 3):
        corners = np.array(list(itertools.product((0, 1), repeat=dim)))
        distances, size = np.sum(corners[:, None] != corners, axis=-1), len(corners)
        w = np.array([[Fraction(1, 2**h) for h in row] for row in distances.tolist()], dtype=object)
        values = np.array([Fraction(3 ** (dim - k), 2**dim) for k in corners.sum(axis=1).tolist()], dtype=object)
        walsh, one = (-1) ** (corners @ corners.T), np.eye(size, dtype=int)
        inverse = walsh / (values + gamma) @ walsh.T / size
        residual = w - w @ inverse @ w
        errors = (walsh.T @ residual @ walsh).diagonal() / size  # R is W's function: these are its eigenvalues
        ones = np.ones((copies, copies), dtype=int)
        r, g = np.kron(residual, ones), np.kron(w, ones)
        holds &= bool(((w + gamma * one) @ inverse == one).all() and (walsh * errors == residual @ walsh).all())
        holds &= bool((r @ g + ridge * r == ridge * g).all())
        holds &= all(0 <= copies * error < share * ridge for error in errors)
        largest = max(largest, *(copies * error for error in errors))
    return st.decide(
        holds,
        because="complete sets of eigenvectors in rational arithmetic",
        measured=float(largest),
        predicted=float(share * ridge),
        comparisons=3,
        note=f"|R| = {float(largest):.4f}, gamma = 0.1, every landmark stands for {copies} points",
    )


def all_points(cell: st.Cell) -> st.Evidence:
    """All points are landmarks."""
    del cell
    return _cubes(1, Fraction(1, 10))


def effective_ridge(cell: st.Cell) -> list[st.Evidence]:
    """A half, a third and a quarter of the points, one of every kind: the ridge is gamma 2n / c."""
    del cell
    return [_cubes(copies, Fraction(copies, 10)).but(name=f"1 of {copies}") for copies in (2, 3, 4)]


def half_of_gamma(cell: st.Cell) -> st.Evidence:
    """Twin: R < gamma / 2."""
    del cell
    return _cubes(1, Fraction(1, 10), share=Fraction(1, 2))


def gamma_with_few_landmarks(cell: st.Cell) -> st.Evidence:
    """Twin: gamma, not gamma 2n / c, with a quarter of the points."""
    del cell
    return _cubes(4, Fraction(1, 10))


def _attention(cell: st.Cell, steps: int) -> list[st.Evidence]:
    """`nystrom_attention` with V = I, all landmarks and the iteration, against the block of gamma G (G + gamma)^-1."""
    rng, found = np.random.default_rng(30), []
    for name, q, k in (
        ("normal points", *rng.normal(size=(2, 24, 4)) / 2**0.5),
        ("keys equal to queries", *np.repeat(rng.normal(size=(1, 24, 4)), 2, axis=0)),
    ):
        points, n = np.concatenate([q, k]), len(q)
        g = np.exp(-np.sum((points[:, None] - points) ** 2, axis=-1) / 2)
        ridged = g + GAMMA * np.eye(2 * n)
        wanted = GAMMA * np.linalg.solve(ridged, g)[:n, n:]
        out = st.nystrom_attention(
            *map(cell.asarray, (q, k, np.eye(n))), n_landmarks=2 * n, rng=0, inverse="schulz", steps=steps, gamma=GAMMA
        )
        error = g[:n, n:] - st.to_host(out)
        norm, inverse = float(np.linalg.norm(g, 2)), float(np.linalg.norm(np.linalg.inv(ridged), 2))
        # An entry of G errs by d + 4 roundings of an exponent below 8 max |x|^2; (G + gamma I)^-1 is that of a matrix
        # as far away, and 2n u |G| more; between two factors G that moves R by |G|^2 |(G + gamma I)^-1|^2 as much.
        roundings = 2 * n + 8 * (points.shape[-1] + 4) * float(np.max(np.sum(points**2, axis=-1))) + 4
        allowed = 4 * roundings * U * norm * (1 + norm * inverse) ** 2
        size, off = float(np.linalg.norm(error, 2)), float(np.linalg.norm(error - wanted, 2))
        found.append(
            st.decide(
                off <= allowed and size < GAMMA / 2 + allowed,
                kind="deterministic",
                because="the closed form; rounding bounded to first order",
                name=name,
                measured=size,
                predicted=GAMMA / 2,
                comparisons=2,
                note=f"|C - C~| = {size:.4f}, gamma / 2 = 0.05; {off:.1e} from the closed form, {allowed:.1e} allowed",
            )
        )
    return found


def attention_of_the_library(cell: st.Cell) -> list[st.Evidence]:
    """The iteration with 40 steps."""
    return _attention(cell, 40)


def six_steps(cell: st.Cell) -> list[st.Evidence]:
    """Twin: the released six steps in place of an inverse."""
    return _attention(cell, 6)


def added_by_gamma(cell: st.Cell) -> list[st.Evidence]:
    """What gamma = 0.1 adds to the error of G with a quarter of the points as landmarks, beside the error without."""
    close = cell.rng.normal(size=(256, 16)) / 20
    found = [_added(cell, close).but(name="close points", kind="monte-carlo", draws=1)]
    for head in cell.heads:
        q, k = (x[:: -(-len(x) // 128)] / x.shape[-1] ** 0.25 for x in (head.q, head.k))
        try:
            found.append(_added(cell, np.concatenate([q, k])).but(name=head.name))
        except ValueError as error:
            found.append(st.observe(name=head.name, note=f"points too far apart: {error}"))
    return found


def _added(cell: st.Cell, points: np.ndarray) -> st.Evidence:
    count = max(len(points) // 4, 1)
    g, landmarks = st.gaussian_gram(points, points), cell.rng.permutation(len(points))[:count]
    plain, f = st.nystrom_gram(g, landmarks), g[:, landmarks]
    ridged = f @ np.linalg.solve(g[np.ix_(landmarks, landmarks)] + GAMMA * np.eye(count), f.T)
    added, without, size = (float(np.linalg.norm(x, 2)) for x in (plain - ridged, g - plain, g))
    note = f"|G - G~| is {without:.3g} without gamma, |G| {size:.3g}"
    return st.observe(measured=added, predicted=GAMMA * len(points) / count, note=note)


P30 = st.Proposition(
    id="P30",
    title="What a ridge costs in Nyström's formula",
    statement=r"$0 \le G - G (G + \gamma I)^{-1} G < \gamma I$ in the Loewner order, "
    r"and $\|C - \tilde{C}\| < \gamma / 2$ when all $2n$ points are landmarks; "
    r"where each of $c$ landmarks stands for $2n / c$ copies, the same with $\gamma\, 2n / c$.",
    hypotheses=(
        r"the tilde here has the ridge, $W + \gamma I$ in place of $W = S^\top G S$; $G$, $C$ and $S$ are those of P27",
        r"$G$ is positive semidefinite, $\gamma > 0$",
        "the inverse is exact, or its iteration has converged",
    ),
    source="not in the sources seen; gamma is that of the released code of Chen et al. (2021), seen",
    expected="consistent",
    checks=[error_of_an_eigenvalue, all_points, effective_ridge, attention_of_the_library, added_by_gamma],
    mutants=[ridge_subtracted, half_of_gamma, gamma_with_few_landmarks, six_steps],
    cites=("chen2021skyformer",),
)
