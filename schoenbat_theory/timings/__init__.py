"""Timed runs: the record of `schoenbat_theory.benchmark.bench`, what it says, and what it looks like.

record   cells, and the machine: lines of JSON
memory   the most memory that a call holds
turns    who is timed takes turns
trends   how time grows, speed-ups and where they begin, what no method beats
words    a table, and sentences on what was gained
figures  time, memory and error against n, speed-up, error against time, work under the roof
"""

from schoenbat_theory.timings.figures import comparisons_of, figures_of, save
from schoenbat_theory.timings.memory import peak_of, resident_of
from schoenbat_theory.timings.record import RECORD, Ratio, Timing, Timings, installed_timings, read_timings
from schoenbat_theory.timings.turns import LEAST, take_turns
from schoenbat_theory.timings.words import gain, notes_of, since, table, title_of

__all__ = [
    "LEAST", "RECORD", "Ratio", "Timing", "Timings", "comparisons_of", "figures_of", "gain", "installed_timings", "notes_of", "peak_of",
    "read_timings", "resident_of", "save", "since", "table", "take_turns", "title_of",
]  # fmt: skip
