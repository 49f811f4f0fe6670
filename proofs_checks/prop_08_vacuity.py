r"""P07V, P08V: at SchoenbAt's sizes Kar & Karnick's bounds say nothing.

    2 exp(-D eps^2 / (8 C^2)) < 1                               at one pair              (P07V, the bound of P07R)
    2 (32 R L / eps)^{2d} exp(-D eps^2 / (8 C^2)) < 1           over all pairs at once   (P08V, the bound of P08R)

with C = p f(p R^2), L = R f'(R^2) + p^2 R sqrt(d) f'(p R^2), R the l1 radius, p = 2. Both bounds are true.

Hypotheses: unit vectors times d^(-1/4), d = 32, as SchoenbAt's map receives them; D up to 1024; eps up to a tenth of the kernel.

Source: Kar & Karnick (2012), section 4 and Theorem 8 (seen); the sizes are those of the released code of SchoenbAt (arXiv:2505.12252, seen). What
its own theorem asks for was not seen.

Why: pre-scaling bounds the l2 norm. The l1 norm of such vectors reaches d^(1/4), for flat ones, so p R^2 = 2 sqrt 32 = 11.3. That is beyond the
radius of inv, logi and sqrt, whose features have no bound at all, and makes C = 2 exp(11.3) = 1.6e5 for exp, of features whose standard
deviation is about 1. P07V begins to speak at D = 8 C^2 log 2 / eps^2, while Chebyshev's inequality with the exact variance s^2 asks
D = s^2 / (delta eps^2). Even the sharp range B of P06R, 1.9e4, saves little: the range is a rare event of rare degrees. In P08V the net
alone has more than 10^595 pairs of points.

Checked exactly: that the bounds are at least 1, from rational enclosures; smaller D and eps only make them larger. By sampling: that
Chebyshev's inequality with the exact variance holds, and speaks, at D = 128.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

import schoenbat_theory as st

DIM = 32  # width of a head in SchoenbAt, and in the shipped activations
RADIUS = DIM**0.25
FLAT = np.full(DIM, DIM**-0.75)  # of l2 norm d^(-1/4) and l1 norm d^(1/4)
EPS, DELTA = 0.02, 0.05  # about 2 % of the kernel, with 95 % confidence
BEGINS = math.nextafter(1.0, 0.0)  # the probability at which a bound begins to say something


def _bounds(radius: float, variance: float) -> dict[str, st.bounds.TailBound]:
    return {
        "Kar & Karnick": st.bounds.KarKarnick("exp", radius),
        "Hoeffding, sharp range": st.bounds.Hoeffding(st.bounds.sharp_range("exp", radius)),
        "Chebyshev, exact variance": st.bounds.Chebyshev(variance),
        "central limit, no bound": st.bounds.CentralLimit(variance),
    }


def _variance() -> float:
    """Variance of one feature at x = y = FLAT, in closed form."""
    return float(st.RandomMaclaurin("exp", 1).variance(FLAT, FLAT))


# Rational enclosures for exp at R = 32^(1/4) > 2.37: sqrt 32 > 5.65, p R^2 = 2 sqrt 32 > 11, e > 2.718.
_POWER = Fraction(2718, 1000) ** 11  # below f(p R^2) and f'(p R^2)
_EPS = Fraction(122, 1000)  # above a tenth of f <= exp(1 / sqrt 32) < 1 / (1 - 0.177) < 1.22
_LIPSCHITZ = 4 * Fraction(237, 100) * Fraction(565, 100) * _POWER  # below p^2 R sqrt(d) f'(p R^2) < L
_NET = (32 * Fraction(237, 100) * _LIPSCHITZ / _EPS) ** (2 * DIM)


def _says_something(net: Fraction, *, claimed: bool = False, note: str = "") -> st.Evidence:
    """A rational below 2 net exp(-z) at D = 1024, by exp(-z) >= 1 - z: vacuous if it is >= 1, and a ``claimed`` speech is refuted.

    Measured is its power of ten.
    """
    bound = 2 * net * (1 - 1024 * _EPS**2 / (8 * (2 * _POWER) ** 2))
    size = math.log10(bound.numerator) - math.log10(bound.denominator)
    because = "rational lower bound of the bound, e > 2.718"
    if claimed:
        return st.decide(bound < 1, because=because, measured=size, predicted=0.0)
    verdict = "vacuous" if bound >= 1 else "refuted"
    return st.Evidence(verdict, "exact", inequality=because, measured=size, predicted=0.0, note=note)


def one_pair(cell: st.Cell) -> st.Evidence:
    """The bound at one pair for exp, D = 1024, eps a tenth of the kernel."""
    del cell
    asked = {name: float(bound.features(EPS, DELTA)) for name, bound in _bounds(RADIUS, _variance()).items()}
    begins = float(st.bounds.KarKarnick("exp", RADIUS).features(EPS, BEGINS))
    asks = "; ".join(f"{count:.2g} ({name})" for name, count in asked.items())
    return _says_something(
        Fraction(1), note=f"x = y flat, ε = {EPS}: speaks from D = {begins:.2g} on; δ = {DELTA} asks {asks}"
    )


def one_pair_claimed_to_speak(cell: st.Cell) -> st.Evidence:
    """Twin: the same bound is below 1."""
    del cell
    return _says_something(Fraction(1), claimed=True)


def all_pairs(cell: st.Cell) -> st.Evidence:
    """The uniform bound for exp, D = 1024, eps a tenth of the kernel."""
    del cell
    bound = st.bounds.KarKarnickUniform("exp", RADIUS, DIM)
    begins, asked = (float(bound.features(EPS, delta)) for delta in (BEGINS, DELTA))
    return _says_something(_NET, note=f"ε = {EPS}: speaks from D = {begins:.3g} on; δ = {DELTA} asks {asked:.3g}")


def all_pairs_claimed_to_speak(cell: st.Cell) -> st.Evidence:
    """Twin: the same bound is below 1."""
    del cell
    return _says_something(_NET, claimed=True)


def _beside_it(cell: st.Cell, fraction: float) -> st.Evidence:
    """Chebyshev with ``fraction`` of the exact variance at D = 64 and 128, eps a tenth of the kernel, x = y flat."""
    law, on_device, widths = st.RandomMaclaurin("exp", 64), cell.asarray(FLAT), [64, 128]
    mean = float(law.mean(FLAT, FLAT))

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        halves = st.to_host(law.estimates(on_device, on_device, rng=rng, size=2 * size)).reshape(size, 2)
        return np.abs(np.stack([halves[:, 0], halves.mean(axis=1)], axis=1) - mean) > mean / 10

    bound = st.bounds.Chebyshev(fraction * _variance()).tail(mean / 10, widths)
    found = st.check_tail(exceeds, bound, alpha=cell.alpha, rng=cell.rng, max_draws=cell.draws)
    rates = dict(zip(widths, (found.figure or {})["rate"], strict=True))
    return found.but(figure=_curves(mean / 10, rates))


def _curves(eps: float, rates: dict[int, float]) -> dict[str, Any]:
    """Each bound against D, where it lies between 1e-4 and 20; the measured tails are points among them."""
    n = 2.0 ** np.arange(2, 50)
    tails = {name: bound.tail(eps, n) for name, bound in _bounds(RADIUS, _variance()).items()}
    series = {name: [float(p) if 1e-4 <= p <= 20 else None for p in tail] for name, tail in tails.items()}
    return {
        "plot": "curves",
        "x": n.tolist(),
        "series": {**series, "measured": [rates.get(int(count)) for count in n]},
        "x_label": "features D (d = 32, exp, x = y flat)",
        "y_label": f"P[error > f/10 = {eps:.3g}]",
        "log_x": True,
        "log_y": True,
        "shade": [1.0, None],
        "shade_label": "says nothing: bound ≥ 1",
    }


def chebyshev_speaks(cell: st.Cell) -> st.Evidence:
    """Chebyshev with the exact variance: says something at D = 128, and holds."""
    return _beside_it(cell, 1.0)


def a_quarter_of_the_variance(cell: st.Cell) -> st.Evidence:
    """Chebyshev with a quarter of the variance, as if the standard deviation were half as large."""
    return _beside_it(cell, 0.25)


def features_for_one_pair(cell: st.Cell) -> list[st.Evidence]:
    """D for eps = 0.02, delta = 0.05 on real heads: Kar & Karnick at the l1 radius, Chebyshev at the worst of 64 x 64 pairs."""
    found = []
    for head, q, k, radius in _prepared(cell):
        step = max(1, len(q) // 64)
        variance = float(st.RandomMaclaurin("exp", 1).variance(q[::step, None], k[::step]).max())
        asked = {name: bound.features(EPS, DELTA) for name, bound in _bounds(radius, variance).items()}
        found += [_asks(name, head, asked[name]) for name in ("Kar & Karnick", "Chebyshev, exact variance")]
    return found


def features_for_all_pairs(cell: st.Cell) -> list[st.Evidence]:
    """The same for all pairs at once: the uniform bound; and Hoeffding's with the sharp range and a union over the pairs of the head."""
    found = []
    for head, q, k, radius in _prepared(cell):
        union = st.bounds.Hoeffding(st.bounds.sharp_range("exp", radius)).features(EPS, DELTA / (len(q) * len(k)))
        found += [
            _asks("uniform bound", head, st.bounds.KarKarnickUniform("exp", radius, q.shape[-1]).features(EPS, DELTA)),
            _asks("union over pairs", head, union),
        ]
    return found


def _prepared(cell: st.Cell) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Yield name, pre-scaled queries and keys, and their l1 radius."""
    for head in cell.heads:
        q, k = st.prepare(head.q, head.k)
        yield head.name, q, k, float(max(np.abs(q).sum(axis=-1).max(), np.abs(k).sum(axis=-1).max()))


def _asks(name: str, head: str, count: Any) -> st.Evidence:
    return st.observe(
        name=f"D asked by {name}: {head}", measured=float(count), note=f"exp, p = 2, ε = {EPS}, δ = {DELTA}"
    )


HYPOTHESES = (
    r"$R = d^{1/4}$ is the $\ell_1$ radius of the $\ell_2$ sphere of radius $d^{-1/4}$, reached by flat vectors",
    r"$f = \exp$: for inv, logi and sqrt $p R^2 = 11.3$ is beyond the radius of convergence, and there is no bound",
)

P07V = st.Proposition(
    id="P07V",
    title="Kar & Karnick's tail at SchoenbAt's sizes",
    statement=r"For $\|x\|_2 = \|y\|_2 = d^{-1/4}$, $d = 32$, $D \le 1024$ and $\varepsilon \le f/10$ the bound of P07R says something: "
    r"$2\exp\left(-\frac{D\varepsilon^2}{8C^2}\right) < 1$.",
    hypotheses=HYPOTHESES,
    source="Kar & Karnick (2012), section 4 (seen), at the sizes of the released code of arXiv:2505.12252 (seen)",
    expected="vacuous",
    checks=[one_pair, chebyshev_speaks, features_for_one_pair],
    mutants=[one_pair_claimed_to_speak, a_quarter_of_the_variance],
    cites=("kar2012random", "guo2025schoenbat", "chebyshev1867"),
)

P08V = st.Proposition(
    id="P08V",
    title="Kar & Karnick's uniform bound at SchoenbAt's sizes",
    statement=r"For $\|x\|_2, \|y\|_2 \le d^{-1/4}$, $d = 32$, $D \le 1024$ and $\varepsilon \le f/10$ the bound of P08R says something: "
    r"$2 \max(32 R L / \varepsilon, 1)^{2d} \exp\left(-\frac{D\varepsilon^2}{8C^2}\right) < 1$.",
    hypotheses=HYPOTHESES,
    source="Kar & Karnick (2012), Theorem 8 (seen), at the sizes of the released code of arXiv:2505.12252 (seen)",
    expected="vacuous",
    checks=[all_pairs, features_for_all_pairs],
    mutants=[all_pairs_claimed_to_speak],
    cites=("kar2012random", "guo2025schoenbat"),
)
