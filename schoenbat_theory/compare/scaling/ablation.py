r"""Ablation of SchoenbAt's scaling: what pre-scaling does to target and variance, and what post-scaling can restore.

Three settings of queries and keys, and one kernel:

    raw        q d^(-1/4), k d^(-1/4): with the kernel exp, softmax attention itself
    unit       pre_scale(q), pre_scale(k): centred, of length 1
    released   the same times d^(-1/4), as the code released with SchoenbAt does it

The map is that of the released code: degree 0 exact, others up to 20 drawn (`RandomMaclaurin(..., "released")`). Its
D - 1 random features are independent, so that every variance and covariance is that of one over D - 1.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schoenbat_theory.activations import Head
from schoenbat_theory.arrays import as_generator, require_int
from schoenbat_theory.attention import feature_attention, softmax_attention
from schoenbat_theory.compare.measure import alone, swept
from schoenbat_theory.compare.quantities import ROUNDING
from schoenbat_theory.compare.scaling.first_order import TRUSTED, first_order, pair_variances
from schoenbat_theory.compare.scaling.post import PostScaling, post_scaling
from schoenbat_theory.compare.targets import Problem, given_heads, problem, relative_error
from schoenbat_theory.environment import environment
from schoenbat_theory.features import RandomMaclaurin
from schoenbat_theory.files import json_text, kept
from schoenbat_theory.kernels import get_kernel
from schoenbat_theory.markup import decimal
from schoenbat_theory.propositions import json_number

__all__ = ["SCALINGS", "Ablation", "AblationRow", "ablate_scaling"]

SCALINGS = ("raw", "unit", "released")
ROWS = 8  # queries, evenly spaced, whose covariances are computed: (m, m) numbers each
WANTED = 0.1  # the relative error that "features needed" are needed for


@dataclass(frozen=True)
class AblationRow:
    """One head in one setting. Errors are Frobenius norms relative to that of what they are errors of.

    ``distance``           of the exact attention in this setting from the head's softmax attention
    ``mean_of_target``     error of the plain mean of V as that attention;  ``mean_of_softmax``  as softmax attention
    ``pair_variance``      variance of one random feature's estimate of f(<q, k>) over f^2: median over all pairs
    ``worst_variance``     ... and the largest
    ``pair_features``      features D for 10 % error of the kernel at the median pair
    ``predicted``          rms error of attention at ``width``, first order in 1 / D, on 8 queries evenly spaced
    ``measured``           ... over the draws, on the same queries
    ``trusted``            whether the prediction is to be believed at ``width``
    ``output_features``    features for 10 % error of attention; ``None`` where the prediction is not to be believed there
    ``matching_features``  features for the error that the plain mean of V has; ``None`` likewise
    ``total``              distance of the approximated attention from softmax attention, median over draws, all queries
    ``exact_restored``     what post-scaling leaves of the distance of the exact attention;
    ``drawn_restored``     ... and of the approximated one, first draw; ``None`` where that overflows

    Closed forms and errors are infinite where they are beyond float64.
    """

    head: str
    setting: str
    distance: float
    mean_of_target: float
    mean_of_softmax: float
    pair_variance: float
    worst_variance: float
    pair_features: float
    predicted: float
    measured: float
    trusted: bool
    output_features: float | None
    matching_features: float | None
    total: float
    exact_restored: PostScaling
    drawn_restored: PostScaling | None


@dataclass(frozen=True)
class Ablation:
    """What `ablate_scaling` found: ``rows`` per head and setting, and what is needed to repeat it."""

    rows: tuple[AblationRow, ...] = field(repr=False)
    kernel: str
    width: int
    draws: int
    seed: int
    data: str

    def of(self, setting: str) -> list[AblationRow]:
        """Return the rows of one setting, head by head; none where the kernel is not defined there."""
        return [row for row in self.rows if row.setting == setting]

    def values(self, setting: str, name: str) -> list[float]:
        """Return one field of every head, e.g. "distance" or "exact_restored.power"; infinite for ``None``."""
        found = []
        for row in self.of(setting):
            value: Any = row
            for part in name.split("."):
                value = getattr(value, part, None)
            found.append(math.inf if value is None else float(value))
        return found

    def table(self) -> str:
        """Return the rows as text for a terminal."""
        names = ("distance", "pair_features", "output_features", "predicted", "measured", "total", "mean_of_softmax")
        restored = ("gamma", "power", "monotone")
        lines = [f"{'head':<18} {'setting':<9}" + "".join(f" {name:>17}" for name in (*names, *restored))]
        for row in self.rows:
            values = [
                *(getattr(row, name) if row.trusted or name != "predicted" else None for name in names),
                *(getattr(row.exact_restored, name) for name in restored),
            ]
            texts = [
                "–" if value is None else decimal(value, abs(value) / 10) if value > ROUNDING else "0"
                for value in values
            ]
            lines.append(f"{row.head:<18} {row.setting:<9}" + "".join(f" {text:>17}" for text in texts))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document: no NaN or infinity in it."""
        document = {"schema": 1, **{name: getattr(self, name) for name in ("kernel", "width", "draws", "seed", "data")}}
        return {
            **document,
            "environment": environment(),
            "rows": [_plain(dataclasses.asdict(row)) for row in self.rows],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the JSON document, and write it to ``path``, whole or not at all, if one is given."""
        return kept(json_text(self.as_dict()), path)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the ablation as one self-contained HTML page, and write it to ``path`` if one is given."""
        from schoenbat_theory.compare.page import scaling_page  # jinja2 and matplotlib are needed from here on

        return kept(scaling_page(self), path)


def ablate_scaling(
    q: Any = None,
    k: Any = None,
    v: Any = None,
    *,
    kernel: str = "exp",
    width: int = 256,
    draws: int = 5,
    seed: int = 0,
    workers: int | None = None,
) -> Ablation:
    """Measure, head by head, what pre-scaling does to attention and to its approximation, and what post-scaling restores.

    ``q`` (heads, n, d), ``k`` (heads, m, d), ``v`` (heads, m, e)   unscaled; all ``None``: the eight shipped heads
    ``kernel``  one of `KERNELS`;  ``width``  D >= 2, total width of the feature map;  ``draws``  of it, >= 1
    ``seed``    root of all streams;  ``workers``  processes, ``None``: one per core; the same numbers for any number of them

    A setting whose attention does not exist, e.g. for an inner product beyond the radius of the kernel, is left out. Not in
    the sources seen.

    >>> x = np.random.default_rng(0).normal(size=(1, 6, 4))
    >>> [row.setting for row in ablate_scaling(x, x, x, width=16, draws=1, workers=1).rows]
    ['raw', 'unit', 'released']
    """
    kernel, width, draws = get_kernel(kernel).name, require_int("width", width, 2), require_int("draws", draws, 1)
    seed = require_int("seed", seed, 0)
    workers = None if workers is None else require_int("workers", workers, 1)
    jobs = [
        _Job(setting, kernel, head, width, [np.random.SeedSequence(seed, spawn_key=(i, draw)) for draw in range(draws)])
        for i, head in enumerate(given_heads(q, k, v))
        for setting in SCALINGS
    ]
    rows = tuple(row for row in swept(jobs, workers) if row is not None)
    return Ablation(rows, kernel, width, draws, seed, "shipped" if q is None else "arrays")


@dataclass(frozen=True)
class _Job:
    """One head in one setting; ``seeds`` of the draws, one each."""

    setting: str
    kernel: str
    head: Head = field(repr=False)
    width: int
    seeds: Sequence[np.random.SeedSequence] = field(repr=False)

    @property
    def where(self) -> str:
        """What it is about, for error messages."""
        return f"{self.setting} {self.kernel}, {self.head.name}"

    def run(self, settings: Any = None) -> AblationRow | None:
        """Return the row; ``None`` where there is no such attention."""
        del settings
        with alone():
            found = problem(self.setting, self.kernel, self.head)
            if found.exact is None:
                return None
            softmax = softmax_attention(self.head.q, self.head.k, self.head.v)
            return _row(found, found.exact, softmax, self.width, [as_generator(one) for one in self.seeds])


def _row(
    found: Problem, exact: np.ndarray, softmax: np.ndarray, width: int, rngs: list[np.random.Generator]
) -> AblationRow:
    q, k, v, kernel = found.q, found.k, found.v, found.target.kernel
    some = np.unique(np.linspace(0, len(q) - 1, min(ROWS, len(q))).round().astype(int))
    law = RandomMaclaurin(kernel, 2, "released")  # one constant and one random feature
    relative = pair_variances(law, q, k)
    square, denominator = first_order(law, q[some], k, v)
    map_law = RandomMaclaurin(kernel, width, "released")
    drawn = [_drawn(map_law.draw(q.shape[-1], rng), found) for rng in rngs]
    plain = np.broadcast_to(v.mean(axis=0), exact.shape)
    mean_of_target = relative_error(plain, exact)

    def needed(error: float) -> float | None:
        random = square / error**2 if error else math.inf
        return 1 + math.ceil(random) if random < math.inf and denominator <= TRUSTED * random else None

    return AblationRow(
        head=found.head.name,
        setting=found.target.setting,
        distance=relative_error(exact, softmax),
        mean_of_target=mean_of_target,
        mean_of_softmax=relative_error(plain, softmax),
        pair_variance=float(np.median(relative)),
        worst_variance=float(relative.max()),
        pair_features=1 + float(np.median(relative)) / WANTED**2,
        predicted=math.sqrt(square / (width - 1)),
        measured=math.sqrt(np.mean([relative_error(out[some], exact[some]) ** 2 for out in drawn])),
        trusted=denominator <= TRUSTED * (width - 1),
        output_features=needed(WANTED),
        matching_features=needed(mean_of_target),
        total=float(np.median([relative_error(out, softmax) for out in drawn])),
        exact_restored=post_scaling(exact, softmax),
        drawn_restored=post_scaling(drawn[0], softmax) if np.isfinite(drawn[0]).all() else None,
    )


def _drawn(phi: Any, found: Problem) -> np.ndarray:
    """Return attention through one draw, infinite where it overflows or divides by 0."""
    try:
        return feature_attention(found.q, found.k, found.v, phi)
    except (ValueError, ArithmeticError):
        return np.full((len(found.q), found.v.shape[-1]), math.inf)


def _plain(value: Any) -> Any:
    """Return nested fields with the numbers that JSON has."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return json_number(value) if isinstance(value, float) else value
