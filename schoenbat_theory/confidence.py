"""Intervals with a stated error rate. Every look at the data is paid for.

    Catoni               mean, variance known or bounded; any distribution with that variance
    betting              mean, values in a known interval; every time at once
    empirical Bernstein  the same from two sums, a little wider
    asymptotic           mean, nothing known: Student's t for batch means, and named as such
    Clopper-Pearson      probability, exact

Looks are taken at sample sizes n_0, 2 n_0, 4 n_0, ... Betting and empirical Bernstein intervals hold at
all times together. The others hold at one: their error rate is split evenly over the looks, so that all
intervals of one check hold together with probability 1 - alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.special

__all__ = [
    "asymptotic_interval",
    "betting_interval",
    "binomial_limits",
    "catoni_interval",
    "empirical_bernstein_interval",
    "looks",
    "on_knots",
]

BLOCK = 1 << 14  # numbers that an interval is found for at a time
HALVINGS = 60  # of the bracket of a root, at most: far below what an interval resolves


def looks(first: int, last: int) -> list[int]:
    """Return the sample sizes first, 2 first, 4 first, ... up to ``last``; at least one.

    >>> looks(4, 20)
    [4, 8, 16]
    """
    sizes = [first]
    while 2 * sizes[-1] <= last:
        sizes.append(2 * sizes[-1])
    return sizes


def catoni_interval(values: np.ndarray, variance: np.ndarray | float, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return Catoni's interval for the mean of independent ``values`` whose variance is at most ``variance``.

        { m : | sum_i psi(lambda (x_i - m)) | <= n lambda^2 variance / 2 + log(2 / alpha) },
        psi(u) = sign(u) log(1 + |u| + u^2 / 2),    lambda = sqrt(2 log(2 / alpha) / (n variance))

    ``values``    (n, ...) floats;  ``variance``  (...) or a number, >= the true variance
    returns       lower and upper limits, (...), each (...)

    The true mean is outside with probability at most ``alpha``, for every distribution: E exp(psi(u)) <=
    1 + E u + E u^2 / 2, then Markov on each side. The half-width is close to sqrt(2 variance log(2 / alpha) / n).
    A variance of 0 says that all values are the mean: the limits are the smallest and the largest value,
    an interval only if the values do not differ, or by rounding alone.
    Raises ``ValueError`` if n <= 2 log(2 / alpha): too few values for any interval.

    Source: Catoni (2012); as confidence set for a mean, Wang & Ramdas (2022), from memory.

    >>> lower, upper = catoni_interval(np.tile([-1.0, 1.0], 500), 1.0, 1e-3)
    >>> bool(lower < 0 < upper), round(float(upper), 3)
    (True, 0.124)
    """
    n, log_term = values.shape[0], math.log(2 / alpha)
    if n <= 2 * log_term:
        raise ValueError(f"values: alpha = {alpha:g} needs more than {2 * log_term:.0f} values, found {n}")
    shape = values.shape[1:]
    columns, known = values.reshape(n, -1), np.broadcast_to(np.asarray(variance, dtype=np.float64), shape).ravel()
    step = max(1, BLOCK // n)  # columns at a time: what fits into the cache is several times as fast
    blocks = [slice(i, i + step) for i in range(0, known.size, step)]
    limits = [_catoni_limits(columns[:, some], known[some], log_term) for some in blocks]
    lower, upper = (np.concatenate(side).reshape(shape) for side in zip(*limits, strict=True))
    return lower, upper


def _catoni_limits(values: np.ndarray, variance: np.ndarray, log_term: float) -> tuple[np.ndarray, np.ndarray]:
    n = len(values)
    rate = np.sqrt(2 * log_term / (n * np.where(variance > 0, variance, 1.0)))
    # The limits are the roots of a decreasing function of m. At mean +- 4 half-widths it has usually passed them:
    # |psi(u)| >= log(1 + u^2/2) grows, and `_outer_root` widens the bracket wherever that is not enough.
    level = n * rate**2 * variance / 2 + log_term
    centre, reach = values.mean(axis=0), 4 * np.sqrt(2 * variance * log_term / n)

    def influence(m: np.ndarray) -> np.ndarray:
        u = rate * (values - m)
        return np.asarray(np.sum(np.copysign(np.log1p(np.abs(u) + u * u / 2), u), axis=0))

    upper = _outer_root(lambda m: influence(m) + level, centre, reach)
    lower = -_outer_root(lambda m: level - influence(-m), -centre, reach)
    still = variance == 0  # a constant is its own interval
    return np.where(still, values.min(axis=0), lower), np.where(still, values.max(axis=0), upper)


def betting_interval(
    values: np.ndarray,
    bounds: tuple[float, float],
    alpha: float,
    *,
    weights: np.ndarray | None = None,
    horizon: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the betting interval for the mean of independent ``values`` in a known interval.

        { m : K_+(m) < 2 / alpha and K_-(m) < 2 / alpha },
        K_+-(m) = (1/J) sum_j prod_i (1 +- l_j (x_i - m) / (high - low)),    l_j = 1, 1/2, 1/4, ..., 2^(1-J)

    ``values``   (n, ...) floats;  ``bounds``  (low, high) that no value leaves
    ``weights``  (n, ...) how often each value counts, default: once; ``values`` may lack its last axes (`on_knots`)
    ``horizon``  the largest n of the sequence that this interval belongs to, default: n; it sets J
    returns      lower and upper limits, (...), each (...)

    The true mean is outside *at any time* up to infinity with probability at most ``alpha``, so looks cost nothing:
    at the mean both K are averages of products of independent factors >= 0 with mean 1, martingales that start at 1,
    and Ville's inequality gives P[some K ever reaches 2 / alpha] <= alpha / 2 for each. K_+ falls and K_- rises in m,
    hence an interval. No bet depends on an estimate: one of the J fits the variance up to a factor of two in l, which
    leaves the half-width close to sqrt(2 variance log(2 J / alpha) / n) for every variance, known or not.

    Source: Waudby-Smith & Ramdas (2024), section 4, where bets are predicted, not mixed (from memory); Ville (1939).

    >>> lower, upper = betting_interval(np.array([0.0, 1.0]), (0, 1), 1e-3, weights=np.array([500, 500]), horizon=1000)
    >>> round(float(lower), 3), round(float(upper), 3)
    (0.433, 0.567)
    """
    low, width = bounds[0], bounds[1] - bounds[0]
    weights = np.ones(values.shape) if weights is None else weights
    values = values.reshape(values.shape + (1,) * (weights.ndim - values.ndim))
    count = weights.sum(axis=0)
    if width == 0:
        return np.full(count.shape, low), np.full(count.shape, low)
    bets = _bets(alpha, int(np.max(count)) if horizon is None else horizon)
    level, bets = math.log(2 * bets.size / alpha), bets.reshape(-1, *[1] * weights.ndim)

    def room(m: np.ndarray, sign: int) -> np.ndarray:
        """How far the capital of the bets against m, on a mean above it (1) or below (-1), is from ruling m out."""
        gain = sign * (values - m) / width  # (n, ...)
        return level - np.logaddexp.reduce(scipy.special.xlog1py(weights, bets * gain).sum(axis=1), axis=0)

    return _both_sides(room, np.sum(weights * values, axis=0) / count, *bounds)


def on_knots(values: np.ndarray, bounds: tuple[float, float], knots: int) -> np.ndarray:
    """Return weights (knots, ...) on evenly spaced knots that stand for ``values`` (n, ...) in `betting_interval`.

    Each value is shared by its two neighbouring knots so that its mean is kept. Since log(1 + l (x - m)) is concave in
    x, the sum over knots is at most the sum over values: capital is lost, per value at most (l / (1 - l))^2 / (8 (knots - 1)^2)
    of its logarithm, and never won, so that the interval keeps its guarantee. A stream of any length takes that much room.

    >>> on_knots(np.array([0.0, 0.25, 0.5]), (0, 1), 3)
    array([1.5, 1.5, 0. ])
    """
    shape, columns = values.shape[1:], math.prod(values.shape[1:])
    width = bounds[1] - bounds[0]
    place = (values.reshape(-1, columns) - bounds[0]) * ((knots - 1) / width if width > 0 else 0.0)
    below = np.clip(np.floor(place), 0, knots - 2)
    cell = (below.astype(np.int64) * columns + np.arange(columns)).ravel()
    upper = np.clip(place - below, 0.0, 1.0).ravel()
    size = knots * columns
    found = np.bincount(cell, 1 - upper, size) + np.bincount(cell + columns, upper, size)
    return found.reshape(knots, *shape)


def empirical_bernstein_interval(
    mean: np.ndarray,
    variance: np.ndarray,
    n: int,
    bounds: tuple[float, float],
    alpha: float,
    *,
    horizon: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the empirical Bernstein interval for the mean of ``n`` independent values in a known interval.

        { m : (1/J) sum_j exp(+- l_j S(m) - g(l_j) Q(m)) < 2 / alpha },    g(l) = -l - log(1 - l),
        S(m) = n (mean - m) / (high - low),    Q(m) = n (variance + (mean - m)^2) / (high - low)^2

    ``mean``, ``variance``  (...) of the values, the variance with divisor n;  ``bounds``  (low, high)
    ``horizon``             as in `betting_interval`;  the bets l_j are its bets below 1

    Valid at all times at once, because it contains the betting interval of the same bets: for y >= -1 and 0 <= l < 1,
    log(1 + l y) >= l y - g(l) y^2, since (log(1 + l y) - l y) / y^2 rises in y and is -g(l) at y = -1. It needs two
    sums instead of the values, and is wider by about (4/3) (high - low) log(2 J / alpha) / n.

    Source: Fan, Grama & Liu (2015), the inequality; Waudby-Smith & Ramdas (2024), its use (both from memory).

    >>> lower, upper = empirical_bernstein_interval(np.array(0.5), np.array(0.25), 1000, (0, 1), 1e-3)
    >>> round(float(upper - lower), 3)
    0.145
    """
    width = bounds[1] - bounds[0]
    if width == 0:
        return np.full(np.shape(mean), bounds[0]), np.full(np.shape(mean), bounds[0])
    bets = _bets(alpha, n if horizon is None else horizon)[1:]
    level, bets = math.log(2 * bets.size / alpha), bets.reshape(-1, *[1] * np.ndim(mean))
    cost = -bets - np.log1p(-bets)

    def room(m: np.ndarray, sign: int) -> np.ndarray:
        gap = (mean - m) / width
        return level - np.logaddexp.reduce(n * (bets * sign * gap - cost * (variance / width**2 + gap**2)), axis=0)

    return _both_sides(room, np.asarray(mean, dtype=np.float64), *bounds)


def asymptotic_interval(values: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's t interval for the mean of ``values`` (n, ...): exact for normal values, else asymptotic.

    >>> lower, upper = asymptotic_interval(np.array([-1.0, 1.0] * 50), 0.05)
    >>> round(float(upper), 4)
    0.1994
    """
    n = values.shape[0]
    quantile = float(scipy.special.stdtrit(n - 1, 1 - alpha / 2))
    half = quantile * values.std(axis=0, ddof=1) / math.sqrt(n)
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def binomial_limits(hits: np.ndarray, n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Clopper-Pearson limits for a probability after ``hits`` (...) in ``n`` trials, alpha / 2 on each side.

    >>> lower, upper = binomial_limits(np.array(0), 1000, 0.002)
    >>> float(lower), round(float(upper), 5)  # 1 - 0.001 ** (1 / 1000)
    (0.0, 0.00688)
    """
    hits = np.asarray(hits, dtype=np.float64)
    lower = scipy.special.betaincinv(np.maximum(hits, 1), n - hits + 1, alpha / 2)
    upper = scipy.special.betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - alpha / 2)
    return np.where(hits == 0, 0.0, lower), np.where(hits == n, 1.0, upper)


def _bets(alpha: float, horizon: int) -> np.ndarray:
    """Return 1, 1/2, 1/4, ... down to the bet that is best at the horizon for the largest variance, width^2 / 4."""
    smallest = math.sqrt(8 * math.log(2 / alpha) / horizon)  # sqrt(2 log(2/alpha) / (n variance)) in units of 1 / width
    return 0.5 ** np.arange(1 + max(1, math.ceil(-math.log2(smallest))))


def _both_sides(
    room: Callable[[np.ndarray, int], np.ndarray], mean: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return where ``room`` ends on both sides of the mean, within the bounds."""
    mean = np.clip(mean, low, high)
    upper = _outer_root(lambda m: room(m, -1), mean, np.full(mean.shape, high - low))
    lower = -_outer_root(lambda m: room(-m, 1), -mean, np.full(mean.shape, high - low))
    return np.clip(lower, low, high), np.clip(upper, low, high)


def _outer_root(function: Callable[[np.ndarray], np.ndarray], centre: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return roots >= centre of a function that falls in m and is positive at the centre; outer end of the bracket.

    Interpolated, truncated and projected (Oliveira & Takahashi 2020, from memory): ten to twenty steps where halving takes
    `HALVINGS`, and never more than one beyond those. The bracket ends 2^-HALVINGS of its first width wide, or some units in
    the last place.
    """
    low, high = centre.copy(), centre + reach
    at_low, at_high = function(low), function(high)
    for _ in range(64):
        open_end = at_high > 0
        if not open_end.any():
            break
        high = np.where(open_end, high + (high - low), high)
        at_high = function(high)
    width = high - low
    enough = np.maximum(width * 0.5**HALVINGS, 2.0**-51 * np.maximum(np.abs(low), np.abs(high)))
    for step in range(HALVINGS + 2):
        middle, gap = (low + high) / 2, high - low
        if (gap <= enough).all():
            break
        drop = np.where(at_low > at_high, at_low - at_high, 1.0)
        away = middle - (low + gap * np.clip(at_low / drop, 0.0, 1.0))  # of the chord's root from the middle
        past = np.maximum(0.2 * gap**2 / np.where(width > 0, width, 1.0), enough / 2)  # so that the root is between
        nearer = np.sign(away) * np.maximum(np.abs(away) - past, 0.0)
        budget = np.maximum(width * 0.5**step - gap / 2, 0.0)  # so that halving from here on would end in time
        point = middle - np.clip(nearer, -budget, budget)
        value = function(point)
        above = value > 0
        low, at_low = np.where(above, point, low), np.where(above, value, at_low)
        high, at_high = np.where(above, high, point), np.where(above, at_high, value)
    return high
