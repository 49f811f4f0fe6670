r"""P17: "PostSBN, gamma a^beta with learned gamma and beta, restores the scale of any attention output."

Of no output with a negative entry, unless beta is an integer: y = gamma (-1)^(1/2) would have y^2 = -gamma^2 < 0.
(Odd roots of negative numbers are real, but beta with an even denominator, or none, lies between any two of them, and
powers in float64 are NaN for all.) Nor can beta be learned: d/dbeta a^beta = a^beta log a does not exist at beta = 1
for a < 0. Attention outputs are means of values, which have both signs: about half of the entries on real heads are
negative.

The repair P17R keeps the sign:

    s(a) = gamma sign(a) |a|^beta,      ds/dbeta = s(a) log|a|

is defined for every a, odd, continuous, and gamma a^beta for a >= 0. For beta <= 1, |s(a) - s(b)| <= |gamma|
2^(1-beta) |a - b|^beta; beyond, the mean value theorem applies. At beta = 1, gamma = ||target||_F / ||a||_F restores
the Frobenius norm; that needs no beta.

Hypotheses of P17R: beta > 0 (beta = 0 leaves sign(a), with a jump at 0; beta < 0 has a pole there); for the norm, a
!= 0.

Source: ppSBN.py of the code released with SchoenbAt (arXiv:2505.12252), read; the printed formula was not seen. The
signed power is not in the source.

Idea of proof: a^beta is concave for 0 < beta <= 1, hence subadditive, which is the bound for equal signs; for
opposite ones |a|^beta + |b|^beta <= 2 ((|a| + |b|) / 2)^beta by Jensen.

Checked exactly: the square that would have to be negative; Frobenius norms in integers; that the hypotheses are
needed. By grid: the powers and their difference quotients at negative a; the properties of the signed power; its
derivative, against central differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import schoenbat_theory as st

UNIT = 2.0**-53
Power = Callable[[Any, float, float], Any]  # a, gamma, beta


def _released(a: Any, gamma: float, beta: float) -> Any:
    """The released formula in NumPy, NaN and all."""
    with np.errstate(invalid="ignore"):
        return gamma * st.to_host(a) ** beta


def _signed(a: Any, gamma: float, beta: float) -> Any:
    return st.post_scale(a, gamma, beta, signed=True)


def no_real_square_root(cell: st.Cell) -> st.Evidence:
    """At a = -1, gamma = 2, beta = 1/2 the square of the output would be gamma^2 a = -4; the library says so by name."""
    try:
        st.post_scale(cell.asarray(np.array([-1.0])), 2.0, 0.5)
        refused = False
    except ValueError as error:
        refused = "no real power" in str(error)
    square = 2**2 * -1
    return st.decide(
        square >= 0 or not refused,
        because="squares of real numbers are >= 0; integer arithmetic",
        measured=float(square),
        predicted=0.0,
    )


def _real_at_negative_entries(betas: Sequence[float]) -> st.Evidence:
    a = -np.logspace(-3, 3, 13)
    real = sum(int(np.isfinite(_released(a, 1.0, beta)).sum()) for beta in betas)
    cases = len(betas) * a.size
    return st.decide(
        real == cases,
        kind="deterministic",
        because="grid of negative entries and of beta",
        measured=real / cases,
        predicted=1.0,
        comparisons=cases,
        note=f"{real} of {cases} powers of negative numbers are numbers",
    )


def powers_of_negative_entries(cell: st.Cell) -> st.Evidence:
    """Thirteen negative entries, beta from 1/2 to 3/2."""
    del cell
    return _real_at_negative_entries((0.5, 0.8, 0.99, 1.01, 1.25, 1.5))


def smallest_step_from_one(cell: st.Cell) -> st.Evidence:
    """Twin: beta no further from 1 than a rounding."""
    del cell
    return _real_at_negative_entries((1 - 2.0**-53, 1 + 2.0**-52))


def beta_can_be_learned(cell: st.Cell) -> st.Evidence:
    """Difference quotients in beta at beta = 1, a = -1/2, with steps down to 2^-50: none is a number."""
    del cell
    steps = [sign * 2.0**-k for k in range(1, 51) for sign in (1, -1)]
    quotients = [float((_released(np.float64(-0.5), 1.0, 1 + h) + 0.5) / h) for h in steps]
    finite = sum(map(math.isfinite, quotients))
    return st.decide(
        finite == len(steps),
        kind="deterministic",
        because="100 steps of both signs",
        measured=float(finite),
        predicted=float(len(steps)),
        comparisons=len(steps),
        note=f"{finite} of {len(steps)} difference quotients are numbers",
    )


def share_of_negative_entries(cell: st.Cell) -> list[st.Evidence]:
    """Entries of the exact attention output of each head that are negative: softmax as trained, and after pre-scaling."""
    found = []
    for head in cell.heads:
        dim = head.q.shape[1]
        trained = st.kernel_attention(head.q * dim**-0.25, head.k * dim**-0.25, head.v, "exp")
        scaled = st.kernel_attention(*st.prepare(head.q, head.k), head.v, "exp")
        for name, out in (("as trained", trained), ("after pre-scaling", scaled)):
            found.append(st.observe(name=f"{name}: {head.name}", measured=float(np.mean(out < 0))))
    return found


def _properties(cell: st.Cell, power: Power) -> st.Evidence:
    """Finite, odd, the released power for a >= 0 (for odd beta everywhere), and its modulus of continuity, on a grid."""
    positive = np.concatenate([[0.0], np.logspace(-6, 3, 200)])
    a = np.concatenate([-positive[::-1], positive])
    gamma, broken, cases = 1.5, [], 0
    for beta in (0.25, 0.5, 1.0, 1.7, 3.0):
        out = st.to_host(power(cell.asarray(a), gamma, beta))
        kept = a >= 0 if beta not in (1.0, 3.0) else np.full(a.shape, True)
        # A power errs by 2 u at most, and need not do so alike in every library or place of an array.
        rounding = 8 * UNIT * np.abs(out)
        near = (np.abs(out - _released(a, gamma, beta)) <= rounding)[kept]
        plain = st.to_host(st.post_scale(cell.asarray(positive), gamma, beta))  # the library's own form for a >= 0
        gap, change = np.abs(a[:, None] - a), np.abs(out[:, None] - out)
        if beta <= 1:
            modulus = gamma * 2 ** (1 - beta) * gap**beta
        else:
            modulus = gamma * beta * np.maximum(np.abs(a)[:, None], np.abs(a)) ** (beta - 1) * gap
        slack = rounding[:, None] + rounding + 8 * UNIT * modulus
        for name, holds in {
            "finite": np.isfinite(out).all(),
            "odd": (np.abs(out[::-1] + out) <= rounding).all(),
            "as released where that is real": near.all(),
            "as released, unsigned": (np.abs(plain - _released(positive, gamma, beta)) <= 8 * UNIT * plain).all(),
            "continuous": (change <= modulus + slack).all(),
        }.items():
            cases += 1
            broken += [] if holds else [f"{name} (beta = {beta:g})"]
    return st.decide(
        not broken,
        kind="deterministic",
        because="grid of both signs; roundings bounded",
        measured=float(len(broken)),
        predicted=0.0,
        comparisons=cases,
        note=f"not true: {', '.join(broken) or 'none'}",
    )


def signed_power(cell: st.Cell) -> st.Evidence:
    """The properties for five beta."""
    return _properties(cell, _signed)


def released_power(cell: st.Cell) -> st.Evidence:
    """The power without its sign, NaN for a < 0."""
    return _properties(cell, _released)


def absolute_value(cell: st.Cell) -> st.Evidence:
    """The power gamma |a|^beta, whose sign is lost."""
    return _properties(cell, lambda a, gamma, beta: gamma * np.abs(st.to_host(a)) ** beta)


def additive_epsilon(cell: st.Cell) -> st.Evidence:
    """A constant added to |a| before the power is taken: a jump at 0."""
    return _properties(
        cell, lambda a, gamma, beta: gamma * np.sign(st.to_host(a)) * (np.abs(st.to_host(a)) + 1e-3) ** beta
    )


def _derivative_agrees(cell: st.Cell, derivative: Callable[[np.ndarray, float], np.ndarray]) -> st.Evidence:
    """Central differences of the signed power in beta, against a formula, at eight a and four beta."""
    a, h, largest, holds = np.array([-3.0, -2.0, -0.5, -0.125, 0.125, 0.5, 2.0, 3.0]), 2.0**-16, 0.0, True
    log = np.abs(np.log(np.abs(a)))
    for beta in (0.5, 1.0, 1.5, 3.0):
        high, low = (st.to_host(_signed(cell.asarray(a), 1.0, beta + step)) for step in (h, -h))
        difference = np.abs((high - low) / (2 * h) - derivative(a, beta))
        # Taylor: h^2/6 times the third derivative |a|^b |log a|^3 for some b within h of beta; each power errs by 4 u, at most.
        size = np.maximum(np.abs(high), np.abs(low))
        allowed = h**2 / 6 * size * log**3 + 4 * UNIT * size / h + 4 * UNIT * size * log
        holds, largest = holds and bool((difference <= allowed).all()), max(largest, float(difference.max()))
    return st.decide(
        holds,
        kind="deterministic",
        because="central differences, Taylor's remainder and rounding bounded",
        measured=largest,
        predicted=0.0,
        comparisons=4 * a.size,
    )


def derivative_in_beta(cell: st.Cell) -> st.Evidence:
    """The derivative is sign(a) |a|^beta log|a|, finite at beta = 1 for a < 0 as well."""
    return _derivative_agrees(cell, lambda a, beta: np.sign(a) * np.abs(a) ** beta * np.log(np.abs(a)))


def derivative_without_logarithm(cell: st.Cell) -> st.Evidence:
    """The derivative in a, beta |a|^(beta-1), in place of that in beta."""
    return _derivative_agrees(cell, lambda a, beta: beta * np.abs(a) ** (beta - 1))


def _norm_restored(cell: st.Cell, gamma: float) -> st.Evidence:
    """The factor gamma at beta = 1, for a with ||a||_F = 5, against the norm 15."""
    a = np.array([[1.0, -2.0], [2.0, -4.0]])
    square = float(np.sum(st.to_host(_signed(cell.asarray(a), gamma, 1.0)) ** 2))
    return st.decide(square == 15**2, because="integers in float64", measured=math.sqrt(square), predicted=15.0)


def frobenius_norm(cell: st.Cell) -> st.Evidence:
    """The factor gamma = ||target||_F / ||a||_F = 3 restores the norm."""
    return _norm_restored(cell, 15 / 5)


def factor_of_squares(cell: st.Cell) -> st.Evidence:
    """The ratio of squared norms in its place."""
    return _norm_restored(cell, 15**2 / 5**2)


def beta_must_be_positive(cell: st.Cell) -> st.Evidence:
    """The hypothesis broken: at beta = 0 the entries 2^-1000 and -2^-1000 are 2 apart; at beta = -1 the entry 0 is refused."""
    tiny = cell.asarray(np.array([2.0**-1000, -(2.0**-1000)]))
    jump = st.to_host(_signed(tiny, 1.0, 0.0))
    try:
        _signed(cell.asarray(np.array([0.0])), 1.0, -1.0)
        refused = False
    except ValueError:
        refused = True
    return st.decide(
        float(jump[0] - jump[1]) == 2 and refused,
        because="|a|^0 = 1, exactly",
        measured=float(jump[0] - jump[1]),
        predicted=2.0,
        comparisons=2,
    )


P17 = st.Proposition(
    id="P17",
    title="PostSBN restores the scale of any attention output",
    statement=r"For every attention output $a$, $\gamma\,a^{\beta}$ with learned $\gamma$ and $\beta$ is a real output of the wanted scale.",
    hypotheses=(),
    source="ppSBN.py of the code released with SchoenbAt (arXiv:2505.12252), read; the printed formula was not seen",
    expected="refuted",
    checks=[no_real_square_root, powers_of_negative_entries, beta_can_be_learned, share_of_negative_entries],
    mutants=[smallest_step_from_one],
    cites=("guo2025schoenbat",),
)

P17R = st.Proposition(
    id="P17R",
    title="A signed power is defined everywhere, and a factor restores the norm",
    statement=r"$\gamma\,\mathrm{sign}(a)\,|a|^{\beta}$ is real, odd and continuous in $a$, equals $\gamma\,a^\beta$ for $a \ge 0$, and has "
    r"the derivative $\gamma\,\mathrm{sign}(a)\,|a|^\beta \log|a|$ in $\beta$. At $\beta = 1$, $\gamma = \|b\|_F / \|a\|_F$ gives $a$ the norm of $b$.",
    hypotheses=(r"$\beta > 0$", r"for the derivative and the norm, $a \ne 0$"),
    source="derived here; not in the source",
    expected="consistent",
    checks=[signed_power, derivative_in_beta, frobenius_norm, beta_must_be_positive],
    mutants=[released_power, absolute_value, additive_epsilon, derivative_without_logarithm, factor_of_squares],
    cites=("guo2025schoenbat",),
)
