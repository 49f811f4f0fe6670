"""What a comparison measures: one target, the attention of one head, and one method against it."""

from __future__ import annotations

from dataclasses import dataclass, field

from schoenbat_theory.compare.quantities import finite, median, or_inf

__all__ = ["BASELINE", "BEYOND_THE_PAPER", "LANDMARKS", "SETTINGS", "Result", "Target"]

BASELINE = "baseline"  # the family of those that know nothing of queries, or nothing at all
LANDMARKS = "landmarks"  # the family of methods that answer through some of the tokens
BEYOND_THE_PAPER = "beyond the paper"  # the family of methods that fit themselves to a head
SETTINGS = {  # what a target is the attention of, for the start of a sentence
    "raw": "On these heads, as trained",
    "unit": "After pre-scaling to unit length",
    "released": "After pre-scaling and the factor d^(-1/4)",
    "isotropic": "On random unit vectors, no direction preferred",
    "gaussian": "With Gaussian weights that are not normalised",
}


@dataclass(frozen=True)
class Target:
    """What the methods are to approximate on one head.

    ``setting``    "raw": queries and keys times d^(-1/4); "unit": pre-scaled; "released": pre-scaled, times d^(-1/4);
                   "gaussian": Skyformer's attention of queries and keys times d^(-1/4); "isotropic": random unit vectors
    ``kernel``     name of f in the weights f(<q_i, k_j>), "gaussian" for those of Skyformer
    ``head``       name of the head;  ``n, m, d, e``  its queries, its keys, their width, that of a value
    ``largest``    the largest |<q_i, k_j>| of the queries and keys as they are used
    ``undefined``  why this attention does not exist, e.g. an inner product beyond the radius; empty where it does
    ``distance``   relative Frobenius distance to the softmax attention of the head: what pre-scaling costs
    ``multiply_adds``  of the exact attention per query, by the rule of `attention.costs`
    ``budget``  what a method may take on the basis "multiply-adds"; ``None`` where there is no such basis
    ``seconds``  of the exact attention, least of some runs, on the head that is timed; else ``None``
    """

    setting: str
    kernel: str
    head: str
    n: int
    m: int
    d: int
    e: int
    largest: float
    undefined: str
    distance: float | None
    multiply_adds: float
    budget: float | None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """Setting and kernel, e.g. "unit exp"; one word for Skyformer's."""
        return self.setting if self.setting == self.kernel else f"{self.setting} {self.kernel}"


@dataclass(frozen=True)
class Result:
    """One method against one target on one head.

    ``target``         setting and kernel, e.g. "unit exp";  ``setting, kernel, head``  as in `Target`
    ``method, family`` its name, and the part of it before a comma; the family of a baseline is "baseline"
    ``width``          features or landmarks asked for; ``None`` where the method has no width to choose
    ``basis``          "width": the widths of the run; "multiply-adds": the largest width within one budget for all
    ``features``       features or landmarks that the first draw uses; ``None`` where there are none
    ``multiply_adds``  per query, both sides and the sums, by the rule of `attention.costs`; mean over draws;
                       ``None`` where a map of your own does not say
    ``errors``         relative Frobenius error of the whole output, per draw; ``None``: a denominator of exactly 0, or
                       an overflow
    ``error``          their median, an undefined one counted as infinite; ``None`` where that is what it is
    ``interval``       the smallest and the largest: covers the median of the law with probability >= 1 - 2^(1-draws)
    ``skill``          1 - error / error of the better baseline, 0 where only rounding tells them apart; ``None``: undefined
    ``nonpositive``    share of rows whose denominator is <= 0, mean over draws; ``None`` where nothing is divided
    ``chosen``         per draw, what a method that chooses among others decided for; empty where it does not choose
    ``seconds``        of one attention, its draw made beforehand, least of some runs, on the head that is timed; else ``None``
    ``fit_seconds``    of fitting the law to queries and keys; ``None`` where nothing is fitted or the head is not timed
    ``peak_bytes``     most memory that NumPy held in a run of its own; ``None`` on heads that are not timed
    """

    target: str
    setting: str
    kernel: str
    head: str
    method: str
    family: str
    width: int | None
    basis: str
    features: int | None
    multiply_adds: float | None
    errors: tuple[float | None, ...]
    skill: float | None = None
    nonpositive: float | None = None
    chosen: tuple[str, ...] = ()
    seconds: float | None = None
    fit_seconds: float | None = None
    peak_bytes: int | None = None
    error: float | None = field(init=False)
    interval: tuple[float | None, float | None] = field(init=False)

    def __post_init__(self) -> None:
        found = [or_inf(error) for error in self.errors]
        object.__setattr__(self, "error", finite(median(found)))
        object.__setattr__(self, "interval", (finite(min(found)), finite(max(found))))
