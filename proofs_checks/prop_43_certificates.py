r"""P43: "The t interval of a ratio estimate covers at its level." It does not where errors sit in few rows.

    R = sum_i e_i / sum_i r_i over n rows. Looked at: C with certainty, S at random, s of the N = n - |C| others, without replacement
    E = sum_C e_i + (N/s) sum_S e_i,    T the same of r_i,    R^ = E / T,    z_i = e_i - R^ r_i
    t interval:  |log R - log R^| <= t_{s-1} N sqrt((1 - s/N) s_z^2 / s) / E,    s_z^2 the variance of z_i over S

P43 claims that it covers in 95 % of all samples. Where row errors have a heavy tail, most samples miss what is largest,
find a sum and a spread that are both too small, and the interval ends below the truth.
P43R: E and T are unbiased, their variances and their covariance are those of sampling without replacement,

    Var E = N^2 (1 - s/N) S_e^2 / s,    S_e^2 = sum over the N others of (e_i - mean)^2 / (N - 1),

rows taken with certainty adding nothing; and the interval of `row_certificate`, with degrees of freedom by kurtosis, the
floor z sqrt(2 (1 - s/N) / s) and the refusals, covers in at least 95 % of the samples of each of these populations of n =
512, r_i = 1, s = 48, where p_i = (i - 1/2) / n and Q is the normal quantile:

    even e = 1;   squares of normal numbers Q((1 + p)/2)^2;   exponential -log(1 - p);   log-normal exp(Q(p));
    a power law (1 - p)^(-1/2), of infinite variance as n grows;   one row in four errs by 1, the others by 1/1000

A refusal covers; it is rare here, most frequent, one in 16, under the power law. Of the intervals that are given 96 % or more
cover in each; counted as misses, refusals leave 94 % under the power law (40,000 samples).

Hypotheses: which rows are taken with certainty must not depend on errors that are not known yet: not on S. No few rows hold most of
the sum. Without that it fails, and must fail (P44): of two-valued populations with 16 bad rows of 512 it covers 79 %, and
where one row holds nearly everything it is certified, and wrong, with probability 1 - s/N exactly.

Source: unbiasedness and variances of sampling without replacement are textbook (Cochran, 1977, from memory), the t interval
after the delta method common practice; degrees of freedom by kurtosis follow Satterthwaite (1946, from memory), the share that
refuses is the critical value of Cochran's test (1941, from memory); floor and certain rows are not in the sources seen. The
populations are ours: real row errors are neither worse nor better by any theorem.

Idea of proof of the moments: each of the N others is in S with probability s/N, each pair with s (s - 1) / (N (N - 1)).

Checked exactly: the moments over all samples of small populations in rational arithmetic, and that `row_certificate` computes E / T;
coverage of both intervals on two-valued populations, where a sample is its number of bad rows, by hypergeometric weights; the
single bad row. By sampling: coverage on the populations above. Data: coverage for two approximations of each head.

Not checked: coverage on populations that are not listed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np

import schoenbat_theory as st

N_ROWS, DRAWN, LEVEL = 512, 48, 0.95
T_47 = 2.0117405137297655  # 97.5 % quantile of Student's t with 47 degrees of freedom, by SciPy; tables have 2.012
ROUNDING = 64 * 2.0**-53  # of a dozen operations on sums of at most 8 numbers

P = (np.arange(N_ROWS) + 0.5) / N_ROWS
QUANTILE = np.vectorize(NormalDist().inv_cdf)
POPULATIONS: dict[str, np.ndarray] = {
    "even": np.ones(N_ROWS),
    "squares of normal numbers": QUANTILE((1 + P) / 2) ** 2,
    "exponential": -np.log1p(-P),
    "log-normal": np.exp(QUANTILE(P)),
    "power law": (1 - P) ** -0.5,
    "one row in four": np.where(P > 0.75, 1.0, 0.001),
}
Interval = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# Moments, by enumeration of all samples.

SMALL = (
    ((0, 1, 1, 5, 2), (1, 2, 3, 1, 1), 0),
    ((9, 4, 0, 0, 1, 7, 3), (2, 2, 5, 1, 4, 3, 1), 2),
    ((3, 0, 0, 0, 0, 1), (0, 1, 1, 2, 0, 0), 1),
)


def _estimates(
    e: tuple[int, ...], certain: int, drawn: int, factor: Callable[[int, int], Fraction]
) -> Iterator[Fraction]:
    """Yield the estimate of sum e for every sample of ``drawn`` of the rows that are not certain, the first ones."""
    left = range(certain, len(e))
    for sample in itertools.combinations(left, drawn):
        yield Fraction(sum(e[:certain])) + factor(len(left), drawn) * sum(e[i] for i in sample)


def _stands_for(left: int, drawn: int) -> Fraction:
    return Fraction(left, drawn)


def _covariance(x: list[Fraction], y: list[Fraction]) -> Fraction:
    mean_x, mean_y = sum(x, Fraction(0)) / len(x), sum(y, Fraction(0)) / len(y)
    return sum(((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)), Fraction(0)) / len(x)


def _moments(
    factor: Callable[[int, int], Fraction] = _stands_for, correction: Callable[[int, int], Fraction] | None = None
) -> st.Evidence:
    """Compare mean, variance and covariance of E and T with the formulas, over all samples of all sizes."""
    correct = correction or (lambda left, drawn: 1 - Fraction(drawn, left))
    wrong = compared = 0
    for e, r, certain in SMALL:
        left = len(e) - certain
        rest_e, rest_r = ([Fraction(x) for x in values[certain:]] for values in (e, r))
        for drawn in range(1, left + 1):
            found_e, found_r = (list(_estimates(values, certain, drawn, factor)) for values in (e, r))
            wrong += sum(found_e) / Fraction(len(found_e)) != sum(e)
            wrong += sum(found_r) / Fraction(len(found_r)) != sum(r)
            scale = Fraction(left**2, drawn) * correct(left, drawn) * Fraction(left, left - 1)
            for (x, y), (of_x, of_y) in (
                ((found_e, found_e), (rest_e, rest_e)),
                ((found_r, found_r), (rest_r, rest_r)),
                ((found_e, found_r), (rest_e, rest_r)),
            ):
                wrong += _covariance(x, y) != scale * _covariance(of_x, of_y)
            compared += 5
    return st.decide(
        wrong == 0,
        because="all samples without replacement, rational arithmetic",
        measured=float(wrong),
        predicted=0.0,
        comparisons=compared,
        note=f"{wrong} of {compared} moments disagree",
    )


def moments_of_both_sums(cell: st.Cell) -> st.Evidence:
    """Means, variances and the covariance of E and T, three populations, every number of rows drawn."""
    del cell
    return _moments()


def rows_stand_for_too_few(cell: st.Cell) -> st.Evidence:
    """A row drawn stands for n / (all rows looked at) in place of N / s."""
    del cell
    return _moments(factor=lambda left, drawn: Fraction(left + 1, drawn + 1))


def no_finite_population_factor(cell: st.Cell) -> st.Evidence:
    """1 in place of 1 - s/N, as for draws with replacement."""
    del cell
    return _moments(correction=lambda left, drawn: Fraction(1))


def the_library_computes_it(cell: st.Cell) -> st.Evidence:
    """`row_certificate` on every sample of the small populations: its error squared is E / T."""
    del cell
    worst, compared = 0.0, 0
    for e, r, certain in SMALL:
        for drawn in range(1, len(e) - certain + 1):
            numbers = itertools.combinations(range(certain, len(e)), drawn)
            rows = [[*range(certain), *sample] for sample in numbers]
            found = st.row_certificate(np.array(e)[rows], np.array(r)[rows], n=len(e), certain=certain)
            pairs = zip(
                _estimates(e, certain, drawn, _stands_for), _estimates(r, certain, drawn, _stands_for), strict=True
            )
            for error, (total, norm) in zip(found.error, pairs, strict=True):
                if norm:
                    worst = max(worst, abs(error**2 - float(total / norm)) / max(float(total / norm), 1e-300))
                    compared += 1
    return st.decide(
        worst <= ROUNDING,
        kind="deterministic",
        because="all samples; a rounding bound of 64 units",
        measured=worst,
        predicted=0.0,
        comparisons=compared,
    )


# Coverage.


def _t_interval(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The t interval of R for rows of squared norm 1, (samples, 48) -> limits."""
    mean = errors.mean(axis=-1)
    spread = errors.std(axis=-1, ddof=1) * math.sqrt((1 - DRAWN / N_ROWS) / DRAWN)
    with np.errstate(divide="ignore"):
        return mean * np.exp(-T_47 * spread / mean), mean * np.exp(T_47 * spread / mean)


def _floored_interval(errors: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The interval of the library, for R; [0, inf) where it is refused."""
    low, high = st.row_certificate(errors, np.ones_like(errors), n=N_ROWS, level=level).interval
    return low**2, high**2


def _half_level_interval(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _floored_interval(errors, level=0.5)


def _misses(interval: Interval, errors: np.ndarray, truth: float) -> np.ndarray:
    low, high = interval(errors)
    return (low > truth * (1 + ROUNDING)) | (high < truth * (1 - ROUNDING))


def _sampled(cell: st.Cell, names: list[str], interval: Interval) -> st.Evidence:
    """Decide whether an interval misses in at most 5 % of the samples of each population; a refusal is no miss."""
    populations = np.stack([POPULATIONS[name] for name in names])

    def exceeds(rng: np.random.Generator, size: int) -> np.ndarray:
        # one sample of row numbers serves all populations; only their intervals are compared with the bound
        rows = np.argpartition(rng.random((size, N_ROWS), dtype=np.float32), DRAWN, axis=-1)[:, :DRAWN]
        return np.stack([_misses(interval, e[rows], float(e.mean())) for e in populations], axis=-1)

    bound = np.full(len(names), 1 - LEVEL)
    found = st.check_tail(exceeds, bound, alpha=cell.alpha, rng=cell.rng, max_draws=min(cell.draws, 1 << 17))
    return found.but(name="share of intervals that miss", note=f"{found.note}; {', '.join(names)}")


def t_interval_of_a_power_law(cell: st.Cell) -> st.Evidence:
    """The t interval on (1 - p)^(-1/2), 48 of 512 rows."""
    return _sampled(cell, ["power law"], _t_interval)


def floored_interval_of_six_populations(cell: st.Cell) -> st.Evidence:
    """The interval of the library on all six populations."""
    return _sampled(cell, list(POPULATIONS), _floored_interval)


def level_of_one_half(cell: st.Cell) -> st.Evidence:
    """An interval made for the level 1/2."""
    return _sampled(cell, ["log-normal"], _half_level_interval)


def _two_valued(bad: int, interval: Interval) -> Fraction:
    """Return how often an interval misses where ``bad`` of 512 rows err by 1 and the others by 1/1000, exactly.

    A sample is its number h of bad rows: C(bad, h) C(512 - bad, 48 - h) of the C(512, 48) samples.
    """
    samples = np.full((min(bad, DRAWN) + 1, DRAWN), 0.001)
    for hits, sample in enumerate(samples):
        sample[:hits] = 1.0
    truth = (bad + 0.001 * (N_ROWS - bad)) / N_ROWS
    missed = [
        math.comb(bad, h) * math.comb(N_ROWS - bad, DRAWN - h)
        for h in np.flatnonzero(_misses(interval, samples, truth)).tolist()
    ]
    return Fraction(sum(missed), math.comb(N_ROWS, DRAWN))


def _two_valued_coverage(bad: int, interval: Interval, **found: Any) -> st.Evidence:
    missed = _two_valued(bad, interval)
    return st.decide(
        missed <= Fraction(1, 20),
        because="hypergeometric weights of all samples, rational arithmetic",
        measured=float(missed),
        predicted=0.05,
        note=f"{bad} bad rows of {N_ROWS}: covers {float(1 - missed):.1%}",
        **found,
    )


def t_interval_of_few_bad_rows(cell: st.Cell) -> st.Evidence:
    """The t interval where 16 of 512 rows hold nearly all of the error."""
    del cell
    return _two_valued_coverage(16, _t_interval)


def t_interval_of_half_as_many_bad_rows(cell: st.Cell) -> st.Evidence:
    """Twin: 8 bad rows of 512, so that the refutation does not hang on their number."""
    del cell
    return _two_valued_coverage(8, _t_interval)


def floored_interval_of_many_bad_rows(cell: st.Cell) -> st.Evidence:
    """The interval of the library where 128 of 512 rows hold nearly all."""
    del cell
    return _two_valued_coverage(128, _floored_interval)


def it_fails_for_few_bad_rows(cell: st.Cell) -> st.Evidence:
    """Hypothesis broken: where 16 rows, or one, hold nearly all, the interval of the library misses in over 5 % too."""
    del cell
    bad = [1, 2, 4, 8, 16, 32, 64, 128]
    missed = {name: [_two_valued(b, one) for b in bad] for name, one in INTERVALS.items()}
    ours = missed["floor, kurtosis, refusals"]
    # A sample that holds the single bad row is refused; every other one is certified, and wrong.
    holds = ours[0] == 1 - Fraction(DRAWN, N_ROWS) and ours[4] > Fraction(1, 20)
    return st.decide(
        holds,
        because="hypergeometric weights of all samples, rational arithmetic",
        measured=float(ours[0]),
        predicted=1 - DRAWN / N_ROWS,
        comparisons=len(bad),
        note=f"one bad row: certified and wrong with probability {float(ours[0]):.4f} = 1 - s/N; 16: {float(ours[4]):.3f}",
        figure={
            "plot": "curves",
            "x": bad,
            "series": {name: [float(x) for x in rates] for name, rates in missed.items()},
            "title": "where few rows hold nearly all of the error, intervals miss",
            "x_label": f"bad rows of {N_ROWS}, {DRAWN} looked at",
            "y_label": "share of intervals that miss",
            "log_x": True,
            "lines": {"what the level allows": 0.05},
        },
    )


INTERVALS: dict[str, Interval] = {"Student's t": _t_interval, "floor, kurtosis, refusals": _floored_interval}


def on_activations(cell: st.Cell) -> list[st.Evidence]:
    """Coverage over 200 samples of 64 rows, for positive features and for the weighted mean, as trained."""
    found = []
    for head in cell.heads:
        q, k = (x / head.q.shape[-1] ** 0.25 for x in (head.q, head.k))
        exact = st.kernel_attention(q, k, head.v, "exp")
        phi = st.PositiveFeatures(256).draw(q.shape[-1], cell.rng)
        outputs = {"positive features": st.feature_attention(q, k, head.v, phi)}
        outputs["weighted mean"] = st.weighted_mean_attention(q, k, head.v)
        norms = np.sum(exact**2, axis=-1)
        for name, output in outputs.items():
            errors = np.sum((output - exact) ** 2, axis=-1)
            rows = np.argsort(cell.rng.random((200, len(errors))), axis=-1)[:, : min(64, len(errors))]
            made = st.row_certificate(errors[rows], norms[rows], n=len(errors))
            truth = math.sqrt(errors.sum() / norms.sum())
            covered = (made.interval[0] <= truth) & (truth <= made.interval[1])
            found.append(st.observe(name=f"coverage, {name}: {head.name}", measured=float(covered.mean()), draws=200))
    return found


P43 = st.Proposition(
    id="P43",
    title="The t interval of a ratio estimate covers at its level",
    statement=r"$|\log R - \log\hat R| \le t\, N \sqrt{(1 - s/N)\, s_z^2 / s}\,/\,E$ in 95 % of all samples.",
    hypotheses=("rows are drawn without replacement",),
    source="common practice after the delta method (textbooks from memory)",
    expected="refuted",
    checks=[t_interval_of_few_bad_rows, t_interval_of_a_power_law],
    mutants=[t_interval_of_half_as_many_bad_rows],
    cites=("oehlert1992", "cochran1977sampling"),
)

P43R = st.Proposition(
    id="P43R",
    title="Certificates: unbiased sums, and an interval with a floor",
    statement=(
        r"$E$ and $T$ are unbiased with variances $N^2 (1 - s/N) S^2 / s$; with degrees of freedom $2 s / (\kappa - 1)$, half-width of "
        r"$\log R$ at least $z \sqrt{2 (1 - s/N) / s}$, and refusals, the interval covers in 95 % on the six stated populations."
    ),
    hypotheses=(
        "rows are drawn without replacement; which rows are certain does not depend on the draw",
        "no few rows hold most of the error",
    ),
    source="moments: textbook (from memory); floor and refusals: not in the sources seen",
    expected="consistent",
    cites=("cochran1977sampling", "cochran1941distribution", "satterthwaite1946approximate"),
    checks=[
        moments_of_both_sums,
        the_library_computes_it,
        floored_interval_of_many_bad_rows,
        floored_interval_of_six_populations,
        it_fails_for_few_bad_rows,
        on_activations,
    ],
    mutants=[rows_stand_for_too_few, no_finite_population_factor, level_of_one_half],
)
