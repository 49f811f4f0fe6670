r"""P01: The Maclaurin coefficients of the five kernels of SchoenbAt; two of the five are one.

    exp  1/n!     inv  1     logi  1, 1/n     sqrt  C(2n, n) / (|2n - 1| 4^n)     trigh  1/n!

Hypotheses: none.

Source: the five kernels are those of the code released with SchoenbAt (arXiv:2505.12252); the paper's
own table was not seen. The closed forms are derived here.

Idea of proof: each f is the only power series that solves an equation over the rationals, with a_0 given:

    exp, trigh   f' = f          inv  (1 - t) f = 1         logi  (1 - t) f' = 1        sqrt  (2 - f)^2 = 1 - t

and sinh t + cosh t satisfies f' = f with f(0) = 1. So `trigh` is `exp`, coefficient by coefficient; any
difference reported between the two is noise.

In coefficients the equations are the recurrences

    exp  (n+1) a_{n+1} = a_n      inv  a_{n+1} = a_n      logi  (n+1) a_{n+1} = n a_n      sqrt  (2n+2) a_{n+1} = (2n-1) a_n

for n >= 1, which the closed forms satisfy for every n; the radii are the limits of a_n / a_{n+1}.

Checked exactly: the equations, as identities of power series below degree 64 in rational arithmetic; the recurrences for n < 255
and the limits of their ratios; that the float64 coefficients are what the recurrences give, rounded once; that `exp` and `trigh` have
the same coefficients and return the same bits.

Not checked by machine: higher degrees, for which the recurrences above are the proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

import schoenbat_theory as st

DEGREE = 64
Series = list[Fraction]

# name -> (residual of the defining equation, which must vanish below DEGREE; limit of a_{n+1}/a_n)
EQUATIONS: dict[str, Callable[[Series], Series]] = {
    "exp": lambda f: _minus(_derivative(f), f),
    "trigh": lambda f: _minus(_derivative(f), f),
    "inv": lambda f: _minus(_times([1, -1], f), [1]),
    "logi": lambda f: _minus(_times([1, -1], _derivative(f)), [1]),
    "sqrt": lambda f: _minus(_times(_minus([2], f), _minus([2], f)), [1, -1]),
}
RATIOS: dict[str, Callable[[int], Fraction]] = {  # a_{n+1} / a_n for n >= 1: tends to 0 or to 1
    "exp": lambda n: Fraction(1, n + 1),
    "trigh": lambda n: Fraction(1, n + 1),
    "inv": lambda n: Fraction(1),
    "logi": lambda n: Fraction(n, n + 1),
    "sqrt": lambda n: Fraction(2 * n - 1, 2 * n + 2),
}


def _pad(f: Sequence[int | Fraction]) -> Series:
    return [Fraction(c) for c in f] + [Fraction(0)] * (DEGREE + 2 - len(f))


def _derivative(f: Series) -> Series:
    return [n * f[n] for n in range(1, len(f))]


def _minus(f: Sequence[int | Fraction], g: Sequence[int | Fraction]) -> Series:
    return [a - b for a, b in zip(_pad(f), _pad(g), strict=True)]


def _times(f: Sequence[int | Fraction], g: Sequence[int | Fraction]) -> Series:
    a, b = _pad(f), _pad(g)
    return [sum((a[i] * b[n - i] for i in range(n + 1)), Fraction(0)) for n in range(DEGREE + 1)]


def _coefficients(name: str) -> Series:
    coefficient = st.KERNELS[name].coefficient
    return [Fraction(coefficient(n)) for n in range(DEGREE + 1)]


def _equation_holds(name: str, f: Series) -> bool:
    return f[0] == 1 and all(residual == 0 for residual in EQUATIONS[name](f)[:DEGREE])


def equations(cell: st.Cell) -> st.Evidence:
    """Each series solves its equation."""
    del cell
    wrong = [name for name in EQUATIONS if not _equation_holds(name, _coefficients(name))]
    return st.decide(
        not wrong,
        because=f"identities of power series up to degree {DEGREE}, rational arithmetic",
        measured=float(len(wrong)),
        predicted=0.0,
        comparisons=len(EQUATIONS) * DEGREE,
        note=f"series that fail: {', '.join(wrong) or 'none'}",
    )


def _by_recurrence(name: str, count: int) -> Series:
    """a_0 = 1, a_1 = f'(0) (1/2 for sqrt, 1 for the others), and a_{n+1} from a_n."""
    a = [Fraction(1), Fraction(1, 2) if name == "sqrt" else Fraction(1)]
    for n in range(1, count - 1):
        a.append(RATIOS[name](n) * a[n])
    return a


def radii(cell: st.Cell) -> st.Evidence:
    """The coefficients follow the recurrences, whose ratios tend to 1 / radius."""
    del cell
    wrong = 0
    for name, ratio in RATIOS.items():
        kernel = st.KERNELS[name]
        wrong += sum(kernel.coefficient(n) != a for n, a in enumerate(_by_recurrence(name, 256)))
        limit = ratio(10**9)  # monotone rational functions of n: within 10^-8 of their limit, 0 or 1
        wrong += abs(1 / kernel.radius - limit) > Fraction(1, 10**8)
    return st.decide(
        wrong == 0,
        because="ratio test on the recurrences, rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=len(RATIOS) * 257,
        note="radius 1 for inv, logi and sqrt, infinite for exp and trigh",
    )


def rounded_once(cell: st.Cell) -> st.Evidence:
    """`coefficients` are the rationals of the recurrences, rounded once."""
    del cell
    wrong = sum(
        float(a) != value
        for name in RATIOS
        for a, value in zip(_by_recurrence(name, 256), st.KERNELS[name].coefficients(255), strict=True)
    )
    return st.decide(
        wrong == 0, because="float64 against rationals", measured=float(wrong), predicted=0.0, comparisons=5 * 256
    )


def trigh_is_exp(cell: st.Cell) -> st.Evidence:
    """The even part (cosh) plus the odd part (sinh) of e^t, and the same bits from both kernels."""
    exp, trigh = (_coefficients(name) for name in ("exp", "trigh"))
    cosh = [(exp[n] + (-1) ** n * exp[n]) / 2 for n in range(DEGREE + 1)]
    sinh = [(exp[n] - (-1) ** n * exp[n]) / 2 for n in range(DEGREE + 1)]
    same_series = trigh == [a + b for a, b in zip(cosh, sinh, strict=True)] == exp
    t = cell.asarray(np.linspace(-20.0, 20.0, 1001))
    same_bits = np.array_equal(st.to_host(st.get_kernel("exp")(t)), st.to_host(st.get_kernel("trigh")(t)))
    return st.decide(
        same_series and same_bits,
        because=f"equal rationals up to degree {DEGREE}, equal bits at 1001 points",
        comparisons=DEGREE + 1002,
        note="sinh t + cosh t = e^t: the five kernels are four",
    )


def factorial_forgotten(cell: st.Cell) -> st.Evidence:
    """Coefficients 1/n where 1/n! belongs."""
    del cell
    return st.decide(
        _equation_holds("exp", [Fraction(1, max(n, 1)) for n in range(DEGREE + 1)]), because="the same identity"
    )


def sign_of_the_root_kept(cell: st.Cell) -> st.Evidence:
    """Coefficients of 1 + sqrt(1 - t), whose sign is wrong from degree 1 on."""
    del cell
    f = _coefficients("sqrt")
    return st.decide(_equation_holds("sqrt", [f[0], *(-a for a in f[1:])]), because="the same identity")


P01 = st.Proposition(
    id="P01",
    title="Coefficients of the five kernels; trigh is exp",
    statement=r"The kernels $e^t$, $\frac{1}{1-t}$, $1-\log(1-t)$, $\sinh t+\cosh t$ and $2-\sqrt{1-t}$ have Maclaurin "
    r"coefficients $\frac{1}{n!}$; $1$; $1, \frac1n$; $\frac{1}{n!}$; $\left|\binom{1/2}{n}\right|$, all $\ge 0$, and radii "
    r"$\infty, 1, 1, \infty, 1$. Since $\sinh t + \cosh t = e^t$, the fourth kernel is the first.",
    hypotheses=(),
    source="kernels of the code released with SchoenbAt (arXiv:2505.12252); the paper's table was not seen; derived here",
    expected="proved",
    checks=[equations, radii, rounded_once, trigh_is_exp],
    mutants=[factorial_forgotten, sign_of_the_root_kept],
    cites=("guo2025schoenbat",),
)
