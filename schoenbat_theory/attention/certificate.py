r"""What a few rows, computed exactly, say of the relative error of all: the estimate, the interval, and when there is none.

    R = sum_i e_i / sum_i r_i,    e_i = |output_i - exact_i|^2,  r_i = |exact_i|^2;    relative error = sqrt(R)

Of n rows c are looked at with certainty and s at random, without replacement, out of the N = n - c others. A row drawn
stands for N / s rows: E and T, the weighted sums of the e_i and of the r_i looked at, are unbiased (P43), and R^ = E / T.
With s_z^2 the variance of z_i = e_i - R^ r_i over the rows drawn, and kappa their kurtosis, the interval is

    |log R - log R^| <= max( t N sqrt(s_z^2 / s) / E,  z sqrt(2 / s) ) sqrt(1 - s/N)

z the normal quantile, t Student's with min(s - 1, 2 s / (kappa - 1)) degrees of freedom, which those of s_z^2 are by its
first two moments. The floor is the width for errors e_i that are the squares of one normal number each; one row drawn
that holds more of E than the largest of s such squares does in 99 % of all samples refutes them, and there is no interval.
*It is approximate*: no interval that holds for all populations is of any use (P44).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

from schoenbat_theory.arrays import as_reals, require_int, require_real
from schoenbat_theory.markup import decimal, table

__all__ = ["Certificate", "largest_share", "row_certificate"]

LEAST = 16  # rows drawn at random, below which their spread says too little of the spread of all
RARE = 0.01  # how often the largest share of a row may be refused though errors are squares of normal numbers
REASONS = (
    "",
    "the exact rows are zero",
    f"fewer than {LEAST} rows were drawn at random",
    "none of the rows drawn at random errs",
    "one row drawn at random holds too much of the sum of squared errors",
)
HEADER = "relative error", "interval", "rows looked at", "largest share of a row drawn"


@dataclass(frozen=True, eq=False)
class Certificate:
    """The relative error of an output, estimated from some of its rows; arrays of the leading axes where there are any.

    ``error``          estimate of |output - exact| / |exact|, Frobenius norms over the ``n`` rows that it is about
    ``interval``       (low, high), *approximate* at ``level``; (0, inf) where it is refused
    ``rows, certain``  rows that were computed exactly, and how many of them were taken with certainty, not at random;
                       arrays where heads were looked at apart
    ``largest_share``  of the estimated sum of squared errors, held by one row drawn at random: the smaller, the safer
    ``certified``      whether there is an interval;  ``reason``  why not, else empty
    """

    error: Any
    interval: tuple[Any, Any]
    rows: Any
    certain: Any
    n: int
    largest_share: Any
    level: float
    certified: Any
    reason: Any

    @classmethod
    def stack(cls, certificates: Sequence[Certificate], lead: tuple[int, ...]) -> Certificate:
        """Return certificates of single heads, about as many rows and at one level, as one with leading axes ``lead``."""
        first = certificates[0]
        if not lead:
            return first

        def together(*values: Any) -> np.ndarray:
            return np.reshape(np.asarray(values), lead)

        limits = [together(*(one.interval[i] for one in certificates)) for i in (0, 1)]
        names = ("error", "rows", "certain", "largest_share", "certified", "reason")
        fields = {name: together(*(getattr(one, name) for one in certificates)) for name in names}
        return cls(interval=(limits[0], limits[1]), n=first.n, level=first.level, **fields)

    def __repr__(self) -> str:
        heads = "; ".join(", ".join(row) for row in self._table())
        return f"Certificate(approximate, level {self.level:g}: {heads})"

    def _repr_html_(self) -> str:
        names = [", ".join(map(str, index)) or "–" for index in np.ndindex(np.shape(self.error))]
        rows = [(name, *row) for name, row in zip(names, self._table(), strict=True)]
        return table(("head", *HEADER), rows, f"approximate certificate, level {self.level:g}")

    def _table(self) -> list[tuple[str, ...]]:
        """Return the texts of every head."""
        fields = (self.error, *self.interval, self.rows, self.certain, self.largest_share, self.certified, self.reason)
        columns = (column.ravel() for column in np.broadcast_arrays(*fields))
        found: list[tuple[str, ...]] = []
        for error, low, high, rows, certain, share, certified, reason in zip(*columns, strict=True):
            if certain == self.n:
                found.append((decimal(float(error)), "exact", f"all {self.n}", "–"))
                continue
            interval = f"{decimal(float(low))} to {decimal(float(high))}" if certified else f"refused: {reason}"
            looked = f"{rows} of {self.n}, {certain} with certainty"
            found.append((decimal(float(error)), interval, looked, f"{share:.1%}"))
        return found


def row_certificate(errors: Any, norms: Any, *, n: int, certain: int = 0, level: float = 0.95) -> Certificate:
    """Return the certificate that rows give: squared errors and squared norms of the exact rows, (..., rows) each.

    ``n``        rows that the certificate is about
    ``certain``  how many rows, the first ones, were taken with certainty; the others were drawn at random, without
                 replacement, from the n - certain that remain
    ``level``    how often the interval is to cover, in (0, 1)
    returns      `Certificate` with arrays of the leading axes, floats where there are none

    The formulas are those of the module. Refused where fewer than 16 rows were drawn at random, where none of them errs,
    where the exact rows are zero, and where one row drawn holds more than `largest_share`. With all n rows the interval is
    the estimate. Raises ``TypeError`` or ``ValueError`` for arguments that do not fit.

    >>> found = row_certificate(np.arange(32.0), np.full(32, 100.0), n=320)
    >>> round(found.error, 4), [round(limit, 3) for limit in found.interval]
    (0.3937, [0.312, 0.497])
    """
    e, r = as_reals("errors", errors), as_reals("norms", norms)
    if e.shape != r.shape or e.ndim == 0 or e.shape[-1] == 0:
        raise ValueError(f"errors, norms: expected one shape (..., rows >= 1), found {e.shape} and {r.shape}")
    for name, x in (("errors", e), ("norms", r)):
        if not ((x >= 0) & (x < np.inf)).all():
            raise ValueError(f"{name}: expected finite numbers >= 0, found {x[~((x >= 0) & (x < np.inf))][0]}")
    rows = e.shape[-1]
    n = require_int("n", n, rows)
    certain = require_int("certain", certain, 0)
    level = require_real("level", level, "a number in (0, 1)", lambda x: 0 < x < 1)
    if certain > rows or (certain == rows < n):
        raise ValueError(f"certain: expected fewer than the {rows} rows, found {certain} of n = {n}")
    weights = np.ones(rows)
    weights[certain:] = (n - certain) / max(rows - certain, 1)
    with np.errstate(all="ignore"):  # what is not defined is refused
        total, norm = e @ weights, r @ weights
        ratio = np.where(total > 0, total / norm, 0.0)  # an output that is exactly zero where all is zero does not err
        shares = (weights * e)[..., certain:] / total[..., None]
        share = np.max(np.nan_to_num(shares), axis=-1, initial=0.0)
        half_width = _half_width(e, r, ratio, total, n - certain, rows - certain, level)
        error, factor = np.sqrt(ratio), np.exp(half_width / 2)
        low, high = error / factor, error * factor
    sampled = rows < n  # with all rows nothing is unknown, but a relative error of zero rows
    why = np.select(
        [
            (norm == 0) & (sampled | (total > 0)),
            np.full(total.shape, sampled and rows - certain < LEAST),
            sampled & ~e[..., certain:].any(axis=-1),
            sampled & (share > largest_share(rows - certain)),
        ],
        [1, 2, 3, 4],
        0,
    )
    low, high = np.where(why > 0, 0.0, low), np.where(why > 0, np.inf, high)
    return Certificate(
        error=_plain(error),
        interval=(_plain(low), _plain(high)),
        rows=rows,
        certain=certain,
        n=n,
        largest_share=_plain(share),
        level=level,
        certified=_plain(why == 0),
        reason=_plain(np.asarray(REASONS)[why]),
    )


def largest_share(drawn: int) -> float:
    """Return the share that the largest of ``drawn`` squares of normal numbers has of their sum in at most 1 % of all samples.

    One square has the share Beta(1/2, (drawn - 1)/2), and one of them is too large at most ``drawn`` times as often: the
    critical value of Cochran's test for the largest of several variances, of one degree of freedom (from memory).

    >>> [round(largest_share(drawn), 2) for drawn in (16, 48, 96)]
    [0.55, 0.26, 0.15]
    """
    return 1 - float(scipy.special.betaincinv((drawn - 1) / 2, 0.5, RARE / drawn)) if drawn > 1 else 1.0


def _half_width(
    e: np.ndarray, r: np.ndarray, ratio: np.ndarray, total: np.ndarray, left: int, drawn: int, level: float
) -> np.ndarray:
    """Return the half-width of the interval of log R, from ``drawn`` rows, the last ones, out of ``left``."""
    if drawn == left:
        return np.zeros(total.shape)
    z = e[..., -drawn:] - ratio[..., None] * r[..., -drawn:]
    z = z - z.mean(axis=-1, keepdims=True)
    scale = np.max(np.abs(z), axis=-1, keepdims=True)
    unit = z / np.where(scale > 0, scale, 1.0)  # fourth powers need room
    second, fourth = np.mean(unit**2, axis=-1), np.mean(unit**4, axis=-1)
    excess = np.where(second > 0, fourth / second**2, 1.0) - 1
    spread = np.sqrt(drawn / max(drawn - 1, 1) * second) * scale[..., 0]
    freedom = np.minimum(max(drawn - 1, 1), 2 * drawn / np.maximum(excess, 1e-300))
    quantile = (1 + level) / 2
    wide = scipy.special.stdtrit(freedom, quantile) * left * spread / (np.sqrt(drawn) * total)
    floor = scipy.special.ndtri(quantile) * np.sqrt(2 / drawn)
    return np.maximum(wide, floor) * np.sqrt(1 - drawn / left)


def _plain(x: np.ndarray) -> Any:
    """Return a Python number or text where there are no axes."""
    return x.item() if x.ndim == 0 else x
