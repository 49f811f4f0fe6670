"""The laws of a random feature map, and its exam: `kernels` for f, `maps` for phi, `attention` for what uses it."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schoenbat_theory.arrays import Array, to_host
from schoenbat_theory.checks import ROUNDING, check_mean
from schoenbat_theory.confidence import looks
from schoenbat_theory.features.archive import load_draw
from schoenbat_theory.sampling import BATCHES
from schoenbat_theory.testing.exam import (
    Exam,
    Finding,
    agree,
    from_evidence,
    holds,
    not_examined,
    positive,
    reported,
    sit,
    unit,
    worst,
)
from schoenbat_theory.testing.kernels import same_kind

__all__ = ["MAP_LAWS", "examine_map"]

SHAPED_DRAWS, LOOPED_DRAWS = 1 << 17, 1 << 13  # draws at most, with and without leading axes of a draw
VARIANCE_MARGIN = 1 / 8  # relative, at SHAPED_DRAWS draws; it grows like the standard error with fewer


@dataclass(frozen=True)
class _Case:
    law: Any
    dim: int
    asarray: Callable[[np.ndarray], Array]
    seed: int
    random: bool
    alpha: float  # of one statistical law
    draws: int
    load: Callable[[str], Any]
    x: np.ndarray  # (n, d)
    pairs: tuple[np.ndarray, np.ndarray]  # (P, d) each, compared with the closed forms

    @property
    def phi(self) -> Any:
        """The same draw every time."""
        return self.law.draw(self.dim, np.random.default_rng(self.seed))

    @property
    def shaped(self) -> bool:
        """Whether draws may have leading axes."""
        return "shape" in inspect.signature(self.law.draw).parameters

    def rounding(self, phi: Any, x: np.ndarray) -> float:
        """Return by how much two evaluations of a feature may differ: the largest over features and rows of ``x`` (n, d).

        Backward error: a computed feature is the exact one of a row whose entries moved by at most (d + D) u
        each, and is then rounded. Hence 2 (d + D) u (|phi| + sum_c |x_c d phi / d x_c|), by central differences. The
        largest feature counts for all: a Fourier transform spreads the rounding of each over all of them.
        """
        wide, h = np.asarray(x, dtype=np.float64), unit(np.float64) ** (1 / 3)
        value = np.abs(_host(phi(self.asarray(wide))))
        for c in range(self.dim):
            step = np.zeros_like(wide)
            step[:, c] = h * wide[:, c]
            value += np.abs(_host(phi(self.asarray(wide + step))) - _host(phi(self.asarray(wide - step)))) / (2 * h)
        return float(2 * (self.dim + value.shape[-1]) * unit(x.dtype) * value.max())

    def products(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return ``size`` independent estimates <phi(x), phi(y)> of every pair, (size, P)."""
        x, y = (self.asarray(one) for one in self.pairs)
        if self.shaped:
            phi = self.law.draw(self.dim, rng, shape=(size,))
            # Two calls, as attention makes them: a map that is drawn anew at each call shows here.
            return np.asarray(np.sum(_host(phi(x)) * _host(phi(y)), axis=-1))
        out = np.empty((size, x.shape[0]))
        for r in range(size):
            phi = self.law.draw(self.dim, rng)
            out[r] = np.sum(_host(phi(x)) * _host(phi(y)), axis=-1)
        return out

    def closed_form(self, name: str) -> np.ndarray | None:
        """Return law.mean, law.variance ... of the pairs, (P,), or ``None`` where the law has none."""
        form = getattr(self.law, name, None)
        value = None if form is None else form(*self.pairs)
        return None if value is None else np.asarray(value, dtype=np.float64)

    @property
    def decidable(self) -> float:
        """The margin of a mean, in standard deviations of one draw, that all draws decide for a law that holds.

        Catoni's interval for n values of variance s^2, lambda = sqrt(2 L / (n s^2)), L = log(2 / alpha), lies within
        delta of the mean with probability 1 - alpha if lambda^2 delta^2 / 2 - lambda delta + 4 L / n <= 0.
        """
        comparisons, n_looks = len(self.pairs[0]), len(looks(min(1 << 13, self.draws), self.draws))
        share = math.log(2 * comparisons * n_looks / self.alpha) / BATCHES
        return (1 - math.sqrt(1 - 8 * share)) / math.sqrt(2 * share) * math.sqrt(BATCHES / self.draws)


def shape_dtype_and_device_are_kept(case: _Case) -> Finding:
    """A map takes (..., n, d) to (..., n, D), D = n_features, in the library, dtype and device of its argument."""
    width = int(case.law.n_features)
    for dtype in (np.float32, np.float64):
        for x in (case.x, np.broadcast_to(case.x, (2, 3, *case.x.shape))):
            x = case.asarray(np.array(x, dtype=dtype))
            out = case.phi(x)
            if tuple(out.shape) != (*x.shape[:-1], width):
                return Finding("fails", note=f"shape {tuple(out.shape)} for {tuple(x.shape)}, n_features = {width}")
            complaint = same_kind(out, x)
            if complaint:
                return Finding("fails", note=complaint)
    return holds(f"D = {width}, float32 and float64")


def features_depend_on_the_input(case: _Case) -> Finding:
    """phi(x) is not the same for every x."""
    phi, x = case.phi, case.x
    out = _host(phi(case.asarray(x)))
    return positive(float(np.max(np.ptp(out, axis=0) - case.rounding(phi, x))), "spread beyond rounding")


def the_same_draw_gives_the_same_features(case: _Case) -> Finding:
    """A drawn map is a fixed function: applied twice, it returns the same numbers."""
    phi, x = case.phi, case.asarray(case.x)
    return agree(phi(x), phi(x), 0.0, "bit for bit")


def the_same_seed_gives_the_same_features(case: _Case) -> Finding:
    """A draw is a function of the seed: the same seed, the same features; another seed, others."""
    x = case.asarray(case.x)
    same = agree(case.phi(x), case.phi(x), 0.0, "two draws with one seed, bit for bit")
    if same.fails or not case.random:
        return same
    other = _host(case.law.draw(case.dim, np.random.default_rng(case.seed + 1))(x))
    moved = float(np.max(np.abs(other - _host(case.phi(x)))))
    return positive(moved, "largest difference between the features of two seeds")


def draws_with_leading_axes_are_independent_maps(case: _Case) -> Finding:
    """draw(dim, rng, shape=(r,)) holds r different maps, each of width D."""
    if not case.shaped:
        return not_examined("law.draw takes no shape")
    phi = case.law.draw(case.dim, np.random.default_rng(case.seed), shape=(3,))
    out = _host(phi(case.asarray(case.x)))
    expected = (3, len(case.x), int(case.law.n_features))
    if out.shape != expected:
        return Finding("fails", note=f"shape {out.shape}, expected {expected}")
    if not case.random:
        return not_examined("the map is not random")
    apart = min(float(np.max(np.abs(out[i] - out[j]))) for i, j in ((0, 1), (0, 2), (1, 2)))
    return positive(apart, "largest difference between features, of the two maps closest to each other")


def rows_are_independent_of_each_other(case: _Case) -> Finding:
    """Permuted rows give permuted features, and each row alone gives its own."""
    phi, x = case.phi, case.x
    order = np.random.default_rng(case.seed).permutation(len(x))
    out, bound = _host(phi(case.asarray(x))), case.rounding(phi, x)
    alone = np.concatenate([_host(phi(case.asarray(x[i : i + 1]))) for i in range(len(x))])
    permuted = agree(phi(case.asarray(x[order])), out[order], bound, "permuted rows")
    return worst(permuted, agree(alone, out, bound, "each row alone"))


def an_item_alone_equals_itself_in_a_batch(case: _Case) -> Finding:
    """The features of a batch are the batch of features: no statistic of other, larger items enters."""
    phi = case.phi
    batch = np.stack([case.x, 2 * case.x, -case.x[::-1]])  # (3, n, d)
    out = _host(phi(case.asarray(batch)))
    items = [
        agree(out[i], phi(case.asarray(item)), case.rounding(phi, item), f"item {i} of {len(batch)}")
        for i, item in enumerate(batch)
    ]
    return worst(*items)


def every_array_library_gives_the_same_features(case: _Case) -> Finding:
    """One draw gives the same features on NumPy and on the library examined, up to rounding."""
    phi = case.phi
    try:
        host = phi(case.x)
    except TypeError as error:
        return not_examined(f"the map takes no NumPy array: {error}")
    return agree(phi(case.asarray(case.x)), host, case.rounding(phi, case.x), "float64")


def float32_features_equal_float64_features(case: _Case) -> Finding:
    """Features in float32 are those in float64, up to the rounding of float32."""
    phi, x = case.phi, case.x.astype(np.float32)
    wide = phi(case.asarray(x.astype(np.float64)))
    return agree(phi(case.asarray(x)), wide, case.rounding(phi, x), "u = 2^-24")


def float64_features_have_the_digits_of_float64(case: _Case) -> Finding:
    """Rows that move by 2^-24 of themselves move their features as their slope says: nothing passes through float32.

    The slope s is taken over h = 2^-14, with an error of about |s(2h) - s(h)| / 3. Where a feature jumps within 2 h but
    not within 2^-24, as one that is a sign does, that difference is at least half of the slope that is not there.
    """
    phi, near, h = case.phi, 2.0**-24, 2.0**-14

    def slope(by: float) -> np.ndarray:
        ahead, behind = (_host(phi(case.asarray((1 + t) * case.x))) for t in (by, -by))
        return np.asarray((ahead - behind) / (2 * by))

    wide = slope(h)
    bound = 2 * near * 2 * np.abs(slope(2 * h) - wide) + 2 * case.rounding(phi, case.x)
    return agree(2 * near * slope(near), 2 * near * wide, bound, "rows 2^-24 longer and shorter")


def inner_products_are_unbiased(case: _Case) -> Finding:
    """E <phi(x), phi(y)> = law.mean(x, y)."""
    mean, variance = case.closed_form("mean"), case.closed_form("variance")
    if mean is None:
        return not_examined("the law has no closed form of its mean")
    if variance is not None and not np.isfinite(variance).all():
        return not_examined(f"law.variance is infinite at rows of length {np.linalg.norm(case.x[0]):g}")
    rng, known = np.random.default_rng(case.seed), variance is not None
    if variance is None:
        pilot = case.products(np.random.default_rng(case.seed + 2), BATCHES)
        variance = np.var(pilot, axis=0, ddof=1)
    # A map without variance errs by rounding alone; D products of features, each at most |phi|^2 in all.
    x, y = (np.abs(_host(case.phi(case.asarray(one)))) for one in case.pairs)
    rounding = 2 * (case.dim + x.shape[-1]) * unit(np.float64) * np.sum(x * y, axis=-1)
    sd = np.sqrt(variance)
    slack = 2 * ROUNDING * (np.abs(mean) + np.hypot(mean, sd)) + np.finfo(np.float64).tiny  # of the average itself
    evidence = check_mean(
        case.products,
        mean,
        margin=case.decidable * sd + 2 * rounding + slack,
        alpha=case.alpha,
        variance=variance + rounding**2 if known else None,
        rng=rng,
        max_draws=case.draws,
    )
    source = "the closed-form" if known else "a pilot's (no closed form)"
    return from_evidence(evidence, f"{case.decidable:.3g} of {source} standard deviation")


def variance_equals_its_closed_form(case: _Case) -> Finding:
    """E (<phi(x), phi(y)> - mean)^2 = law.variance(x, y)."""
    mean, variance = case.closed_form("mean"), case.closed_form("variance")
    if mean is None or variance is None:
        return not_examined("the law has no closed form of its mean or variance")
    if not np.isfinite(variance).all():
        return not_examined(f"law.variance is infinite at rows of length {np.linalg.norm(case.x[0]):g}")
    if not (variance > 0).any():
        return not_examined("the variance is zero; the law of the mean says all")
    relative = VARIANCE_MARGIN * math.sqrt(SHAPED_DRAWS / case.draws)
    some = variance > 0

    def squares(rng: np.random.Generator, size: int) -> np.ndarray:
        return np.asarray(((case.products(rng, size) - mean) ** 2)[:, some] / variance[some])

    evidence = check_mean(
        squares,
        np.ones(int(some.sum())),
        margin=relative,
        alpha=case.alpha,
        rng=np.random.default_rng(case.seed + 3),
        max_draws=case.draws,
    )
    return from_evidence(evidence, f"{relative:.3g} of the variance, in units of which all is given")


def mean_compared_with_target(case: _Case) -> Finding:
    """How far law.mean is from law.target: the truncation of the series."""
    mean, target = case.closed_form("mean"), case.closed_form("target")
    if mean is None or target is None:
        return not_examined("the law has no closed form of its mean or target")
    return reported(float(np.max(np.abs(mean - target))), "largest |mean - target| over the pairs")


def second_moment_is_variance_plus_mean_squared(case: _Case) -> Finding:
    """E <phi(x), phi(y)>^2 = variance + mean^2."""
    forms = [case.closed_form(name) for name in ("second_moment", "variance", "mean")]
    second, variance, mean = forms
    if second is None or variance is None or mean is None:
        return not_examined("the law has no closed form of its second moment, variance or mean")
    return agree(second, variance + mean**2, 8 * unit(np.float64) * (variance + mean**2), "closed forms")


def merged_features_have_the_same_inner_products(case: _Case) -> Finding:
    """<merged(x), merged(y)> = <phi(x), phi(y)>, up to the rounding of sums of D terms."""
    phi = case.phi
    if not hasattr(phi, "merged"):
        return not_examined("the draw has no merged")
    full, merged = (_host(f(case.asarray(case.x))) for f in (phi, phi.merged))
    if merged.shape[-1] > full.shape[-1]:
        return Finding("fails", note=f"merged has {merged.shape[-1]} features, phi has {full.shape[-1]}")
    bound = 4 * (case.dim + full.shape[-1]) * unit(np.float64) * (np.abs(full) @ np.abs(full).T)
    return agree(merged @ merged.T, full @ full.T, bound, f"{merged.shape[-1]} of {full.shape[-1]} features")


def queries_have_features_like_those_of_keys(case: _Case) -> Finding:
    """phi.queries(x) has the shape and kind of phi(x), is finite at rows of any length, and treats rows apart."""
    phi, x = case.phi, case.x
    if not hasattr(phi, "queries"):
        return holds("queries are mapped as keys are")
    far = np.concatenate([x, 100 * x])
    moved = case.asarray(far)
    out = phi.queries(moved)
    alone = np.concatenate([_host(phi.queries(case.asarray(far[i : i + 1]))) for i in range(len(far))])
    complaint = same_kind(out, moved)
    if complaint or tuple(out.shape) != (len(far), int(case.law.n_features)):
        return Finding("fails", note=complaint or f"shape {tuple(out.shape)} for {far.shape}")
    largest = float(np.max(np.abs(alone)))
    return agree(out, alone, 2 * (case.dim + out.shape[-1]) * unit(np.float64) * largest, "each row alone")


def scaled_features_are_the_features(case: _Case) -> Finding:
    """(features, log_scale) = phi.scaled(x) satisfies features exp(log_scale) = phi(x)."""
    phi = case.phi
    if not hasattr(phi, "scaled"):
        return not_examined("the draw has no scaled")
    features, log_scale = (_host(part) for part in phi.scaled(case.asarray(case.x)))
    bound = case.rounding(phi, case.x) * (1 + np.abs(log_scale).max())  # exp turns d u |t| into a relative error
    return agree(features * np.exp(log_scale)[..., None], phi(case.asarray(case.x)), bound, "float64")


def a_saved_draw_is_the_same_map(case: _Case) -> Finding:
    """A draw that is saved and loaded gives the same features, bit for bit."""
    phi = case.phi
    if not hasattr(phi, "save"):
        return not_examined("the draw has no save")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "draw.npz")
        phi.save(path)
        x = case.asarray(case.x)
        return agree(case.load(path)(x), phi(x), 0.0, "bit for bit")


MAP_LAWS: tuple[Callable[[_Case], Finding], ...] = (
    shape_dtype_and_device_are_kept,
    features_depend_on_the_input,
    the_same_draw_gives_the_same_features,
    the_same_seed_gives_the_same_features,
    draws_with_leading_axes_are_independent_maps,
    rows_are_independent_of_each_other,
    an_item_alone_equals_itself_in_a_batch,
    every_array_library_gives_the_same_features,
    float32_features_equal_float64_features,
    float64_features_have_the_digits_of_float64,
    inner_products_are_unbiased,
    variance_equals_its_closed_form,
    second_moment_is_variance_plus_mean_squared,
    mean_compared_with_target,
    merged_features_have_the_same_inner_products,
    queries_have_features_like_those_of_keys,
    scaled_features_are_the_features,
    a_saved_draw_is_the_same_map,
)


def examine_map(
    law: Any,
    *,
    dim: int = 4,
    asarray: Callable[[Any], Array] = np.asarray,
    rng: int = 0,
    norm: float = 0.4,
    alpha: float = 1e-6,
    draws: int | None = None,
    random: bool = True,
    load: Callable[[str], Any] = load_draw,
) -> Exam:
    """Examine the law of a feature map: shapes, batches, seeds, libraries, mean and variance of the estimate.

        E <phi(x), phi(y)> = law.mean(x, y),   Var <phi(x), phi(y)> = law.variance(x, y)

    ``law``      has ``n_features``, ``draw(dim, rng)`` or ``draw(dim, rng, shape=())`` -> phi with phi(x): (..., n, d)
                 -> (..., n, D), and mean(x, y), variance(x, y), target(x, y) for (P, d) host arrays, each of which
                 may be missing or return ``None``; the findings then say so
    ``dim``      d;  ``norm``  length of the rows examined (twice it in one item of a batch). Fourth moments of
                 random Maclaurin features of radius 1 with p = 2 are finite if 840 norm^8 < 1, as 0.4 gives
    ``asarray``  function that moves a host array to the library and device to be examined
    ``rng``      an int, because one draw is made several times
    ``alpha``    error rate of the exam, half for the mean (guaranteed where the variance is known, by Catoni's
                 interval), half for the variance (asymptotic)
    ``draws``    at most so many per statistical law; by default 131072, or 8192 if draws take no shape. Margins
                 follow from it: the mean's is what Catoni's interval decides then, the variance's is 1/8 at 131072
    ``random``   False for a map without randomness;  ``load``  reads what phi.save wrote

    Returns an `Exam`; raises `ExamFailed`, an ``AssertionError``, that names every law which fails, the number
    found and its bound, and ``ValueError`` for fewer than 256 draws. Not in the source.

    >>> from schoenbat_theory import RandomMaclaurin
    >>> exam = examine_map(RandomMaclaurin("exp", 8, "released"), draws=8192)
    >>> exam.passed, exam.finding("inner products are unbiased").verdict
    (True, 'holds')
    """
    if not isinstance(dim, int | np.integer) or dim < 1:
        raise ValueError(f"dim: expected an int >= 1, found {dim!r}")
    shaped = "shape" in inspect.signature(law.draw).parameters
    draws = (SHAPED_DRAWS if shaped else LOOPED_DRAWS) if draws is None else int(draws)
    if draws < BATCHES:
        raise ValueError(f"draws: expected at least {BATCHES}, found {draws}")
    generator = np.random.default_rng(rng)
    x = _rows(generator.normal(size=(7, dim)), norm)
    # One generic pair, one that points the other way, and one concentrated on a coordinate, where
    # sum_i x_i^2 y_i^2 is largest: a variance that forgets this term is wrong there.
    sharp = _rows(np.eye(1, dim)[0] + 0.1 * generator.normal(size=dim), norm)
    pairs = np.stack([x[0], x[1], sharp]), np.stack([x[2], -x[1], sharp])
    x = x * np.linspace(1.0, 0.5, 7)[:, None]  # of different lengths, which matter where d = 1
    seed = int(generator.integers(1 << 31))
    case = _Case(law, int(dim), asarray, seed, random, alpha / 2, draws, load, x, pairs)
    return sit(f"map {law!r:.100}", case, MAP_LAWS, alpha)


def _rows(x: np.ndarray, norm: float) -> np.ndarray:
    return np.asarray(norm * x / np.linalg.norm(x, axis=-1, keepdims=True))


def _host(x: Array) -> np.ndarray:
    return np.asarray(to_host(x), dtype=np.float64)
