"""Compare: problems in parallel, then times and memory on one head alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schoenbat_theory.arrays import require_bool, require_int
from schoenbat_theory.compare.approximation import Method
from schoenbat_theory.compare.clock import clocked
from schoenbat_theory.compare.comparison import Comparison
from schoenbat_theory.compare.measure import Job, swept
from schoenbat_theory.compare.methods import methods as all_methods
from schoenbat_theory.compare.results import BASELINE, Result, Target
from schoenbat_theory.compare.targets import addresses, given_heads, isotropic
from schoenbat_theory.features.registry import MapMaker
from schoenbat_theory.kernels import KERNELS

__all__ = ["DRAWS", "KERNELS_COMPARED", "WIDTHS", "compare"]

KERNELS_COMPARED = ("exp", "inv", "logi", "sqrt")
WIDTHS = (64, 256)
DRAWS = 5


def compare(
    q: Any = None,
    k: Any = None,
    v: Any = None,
    *,
    kernels: Iterable[str] = KERNELS_COMPARED,
    widths: Iterable[int] = WIDTHS,
    draws: int = DRAWS,
    methods: Iterable[str] | None = None,
    maps: Mapping[str, MapMaker] | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = False,
) -> Comparison:
    r"""Compare feature maps and other attentions with the exact ones of real heads: error, skill, cost, time, memory.

    ``q`` (heads, n, d), ``k`` (heads, m, d), ``v`` (heads, m, e)   unscaled; none of them: the eight shipped heads
    ``kernels``   names of kernels f; attention is sum_j f(<q_i, k_j>) v_j / sum_j f(<q_i, k_j>)
    ``widths``    numbers of features or landmarks, each an int >= 1
    ``draws``     R of every random method; the interval of their errors covers the median with probability >= 1 - 2^(1-R)
    ``methods``   names of some methods, ``None``: all; the baselines are always among them
    ``maps``      feature maps of your own that are not registered, name -> maker as `feature_map` takes it
    ``seed``      root of all streams;  ``workers``  processes, ``None``: one per core;  ``progress``  a bar on standard error

    Targets, per head: softmax attention as it is ("raw"), attention of pre-scaled queries and keys ("unit"), the same times
    d^(-1/4) ("released"), each with every kernel, and Skyformer's ("gaussian"). What lies beyond the radius of a kernel is
    reported as undefined. With the shipped heads comes one target of another kind, drawn from ``seed``: 2,048 random unit
    vectors, no direction preferred ("isotropic"). Every method is measured at each of the widths, and on each head at the
    largest width at which it takes no more multiply-adds than the random Maclaurin map at the middle one; what is made for
    a head, such as a fit, is counted. A map of one width only that is wider than all of them enters at its own, as do local
    expansions, whose budget is a rule of the length. Times are of the first head alone. Errors are relative Frobenius errors
    of the whole output of a head, skill is 1 - error / error of the better of two means of the values, which know nothing of
    a query. Draws have addresses: the same seed gives the same errors whatever else runs, on any number of workers.

    Raises ``TypeError`` or ``ValueError`` for an argument that does not fit, and `CheckError` with the name of a method
    that fails with an error of its own.

    >>> import numpy as np
    >>> q, k, v = np.random.default_rng(0).normal(size=(3, 1, 16, 4))
    >>> compare(q, k, v, kernels=["exp"], widths=[8], methods=["Taylor, degree 1"], workers=1).heads
    ('head 0',)
    """
    heads = given_heads(q, k, v)
    names, notes = _kernels(kernels)
    sizes = tuple(sorted({require_int("widths", one, 1) for one in _listed("widths", widths)}))
    chosen = _methods(methods, maps)
    draws, seed = require_int("draws", draws, 1), require_int("seed", seed, 0)
    workers = None if workers is None else require_int("workers", workers, 1)
    progress = require_bool("progress", progress)
    jobs = [Job(*one, head, chosen, sizes, draws, seed) for one in addresses(names) for head in heads]
    if q is None and "exp" in names:
        jobs.append(Job("isotropic", "exp", isotropic(seed), chosen, sizes, draws, seed))
    targets, results, refusals = list[Target](), list[Result](), dict[str, str]()
    for job, measured in zip(jobs, swept(jobs, workers, progress), strict=True):
        found = clocked(measured, job.head, seed) if job.head is heads[0] else measured
        targets.append(found.target)
        results += found.results
        for method, why in found.refused.items():
            refusals.setdefault(f"{method} does not answer {found.target.name}", why)
    return Comparison(
        results=tuple(results),
        targets=tuple(targets),
        heads=tuple(head.name for head in heads),
        timed=heads[0].name,
        widths=sizes,
        draws=draws,
        seed=seed,
        data="shipped" if q is None else "arrays",
        notes=(*notes, *(f"{what}: {why}" for what, why in refusals.items())),
    )


def _kernels(kernels: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return kernels without repetition, and a note where one is another."""
    listed = _listed("kernels", kernels)
    unknown = [one for one in listed if not isinstance(one, str) or one not in KERNELS]
    if unknown:
        raise ValueError(f"kernels: expected some of {', '.join(KERNELS)}, found {unknown[0]!r:.60}")
    notes = ("trigh is sinh + cosh = exp: measured as exp",) if "trigh" in listed else ()
    return tuple(dict.fromkeys("exp" if one == "trigh" else one for one in listed)), notes


def _methods(wanted: Iterable[str] | None, maps: Mapping[str, MapMaker] | None) -> tuple[Method, ...]:
    """Return the methods of these names, the baselines always among them."""
    known = all_methods(maps)
    listed = list(known) if wanted is None else _listed("methods", wanted)
    unknown = [one for one in listed if not isinstance(one, str) or one not in known]
    if unknown:
        raise ValueError(f"methods: expected some of {'; '.join(known)}, found {unknown[0]!r:.60}")
    return tuple(one for name, one in known.items() if name in listed or one.family == BASELINE)


def _listed(name: str, values: Any) -> list[Any]:
    """Return what is listed; a text, which would be a list of letters, is refused, and so is nothing."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a list, found {values!r:.60}")
    found = list(values)
    if not found:
        raise ValueError(f"{name}: expected at least one, found none")
    return found
