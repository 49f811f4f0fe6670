"""The pytest door of schoenbat_theory: a fixture that decides propositions inside a test.

    def test_the_theory_holds(verify_proposition):
        verify_proposition(["P03", "P09"])

It stands beside the package, not in it: pytest imports this file whenever it starts, and the package would
bring NumPy along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from schoenbat_theory import Report

__all__ = ["verify_proposition"]


@pytest.fixture
def verify_proposition(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """Decide propositions: ``verify_proposition(ids_or_propositions, **settings)`` returns the `Report`.

    Arguments are those of `schoenbat_theory.verify`, in this process unless ``workers`` says otherwise. The test
    fails with the table of verdicts if one is not the expected one or is undecided, and with one sentence for
    an unknown id or setting. An error inside a check is raised with its traceback.

    The properties of the test, which ``--junit-xml`` writes, say per proposition what was found and expected, and the
    seed, alpha and the part of alpha that was spent.
    """

    def run(ids_or_propositions: Any = None, **settings: Any) -> Report:
        __tracebackhide__ = True
        from schoenbat_theory import verify

        try:
            report = verify(ids_or_propositions, **{"workers": 1, **settings})
        except (TypeError, ValueError) as error:
            raise pytest.fail.Exception(f"verify_proposition: {error}", pytrace=False) from None
        # Not `record_property`, which warns under pytest's default family of JUnit files.
        request.node.user_properties.extend(_properties(report))
        if report.interrupted:
            raise KeyboardInterrupt  # `verify` has caught it; pytest must end as well
        if report.status != "as-expected":
            pytest.fail(f"{_surprises(report)}\n\n{report.table()}", pytrace=False)
        return report

    return run


def _surprises(report: Report) -> str:
    """Return one line for pytest's summary: which propositions are not decided as expected, and how."""
    found = [(o.proposition, o.verdict) for o in report.outcomes]
    return "; ".join(f"{p.id} is {verdict}, expected {p.expected}" for p, verdict in found if verdict != p.expected)


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    """Yield (name, value) as JUnit files hold them; text, so that they travel between the processes of pytest-xdist."""
    for outcome in report.outcomes:
        p = outcome.proposition
        yield f"proposition {p.id}", f"{outcome.verdict} (expected {p.expected})"
    guaranteed, asymptotic = report.alpha_spent
    yield "verify seed", str(report.seed)
    yield "verify alpha", f"{report.alpha:g}"
    yield "verify alpha spent", f"{guaranteed:.3g} in guaranteed checks, {asymptotic:.3g} in asymptotic ones"
