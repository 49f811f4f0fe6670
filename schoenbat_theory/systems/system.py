"""What a system is, and which propositions, pictures, numbers and timed runs its chapter of a report shows.

A number in a chapter comes from evidence of the same report or from the record of timed runs; a sentence whose numbers are
not there is left out. A system is added as one constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Number", "Picture", "Sentence", "System"]


@dataclass(frozen=True)
class Picture:
    """A figure of a report: of the first evidence of ``proposition`` that has one and whose name holds ``words``."""

    proposition: str
    words: str


@dataclass(frozen=True)
class Number:
    """A number of a report: ``which`` of a field over all evidence of ``proposition`` whose name holds ``words``."""

    proposition: str
    words: str
    which: Callable[[Iterable[float]], float] = max
    field: str = "measured"


@dataclass(frozen=True)
class Sentence:
    """Words with a %s for each of the ``numbers``; left out where one of them is not in the report."""

    words: str
    numbers: Sequence[Number]


@dataclass(frozen=True)
class System:
    """A system of the literature, or ours.

    ``name``          of the anchor;  ``title``  of the chapter
    ``definition``    paragraphs with ``$...$`` for formulas
    ``propositions``  ids without their letter: P28 brings P28V
    ``pictures``      of the report;  ``scenes``  of the ``record`` of timed runs with this name
    ``sentences``     what its theorems say at the sizes of the report
    ``compared``      (scene, ours, theirs): methods of the record
    """

    name: str
    title: str
    definition: Sequence[str]
    propositions: Sequence[str]
    pictures: Sequence[Picture] = ()
    sentences: Sequence[Sentence] = ()
    scenes: Sequence[str] = ()
    record: str = "systems"
    compared: Sequence[tuple[str, str, str]] = ()
