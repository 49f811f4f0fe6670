"""Checks declared, not written: an estimator of one's own is on trial in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schoenbat_theory.checks import Sample, check_mean
from schoenbat_theory.propositions import Cell, Check, Evidence

__all__ = ["mean_is"]


def mean_is(
    target: Any, *, margin: Any, variance: Any = None, bounds: tuple[float, float] | None = None
) -> Callable[[str, Sample], Check]:
    """Return a maker of checks: ``make(name, sample)`` asks whether the mean of ``sample`` is ``target`` up to ``margin``.

    ``sample``   (rng, size) -> (size, ...) independent replicates of the estimator
    ``target``   (...) what their mean should be;  ``margin``, ``variance``, ``bounds``  as in `check_mean`
    ``name``     names the evidence

    The check is `check_mean` on the stream, the share of alpha and the draws of its cell. An estimator and its mutants
    come from one maker, so that they stand the same trial. Raises ``TypeError`` for a name or a sample of another kind;
    the other arguments are judged when the check runs. Not in the source.

    >>> import schoenbat_theory as st
    >>> mean_is_a_third = st.mean_is(1 / 3, margin=0.01, bounds=(0, 1))
    >>> square = mean_is_a_third("square of a uniform number", lambda rng, size: rng.random(size) ** 2)
    >>> cube = mean_is_a_third("cube of a uniform number", lambda rng, size: rng.random(size) ** 3)
    >>> mine = st.Proposition("X1", "A moment", "$E U^2 = 1/3$", (), "folklore", "consistent", [square], [cube])
    >>> st.verify([mine], workers=1).status
    'as-expected'
    """

    def make(name: str, sample: Sample) -> Check:
        if not isinstance(name, str):
            raise TypeError(f"name: expected a str, found {name!r}")
        if not callable(sample):
            raise TypeError(f"sample: expected a function (rng, size) -> replicates, found {sample!r}")

        def check(cell: Cell) -> Evidence:
            return check_mean(
                sample,
                target,
                margin=margin,
                alpha=cell.alpha,
                variance=variance,
                bounds=bounds,
                rng=cell.rng,
                max_draws=cell.draws,
            )

        check.__name__ = name
        check.__doc__ = sample.__doc__
        return check

    return make
