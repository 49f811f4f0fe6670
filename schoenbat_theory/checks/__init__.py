"""Checks by sampling: is a mean what it should be, does a tail obey its bound, does an error fall at its rate?

kind                 refuted                                     consistent       otherwise
mean = target        interval misses [target - m, target + m]    inside it        undecided
P <= bound           lower limit above the bound                 upper at/below   undecided
error^2 ~ size^-s    an interval of s misses the band            inside it        undecided
"""

from schoenbat_theory.checks.mean import check_mean
from schoenbat_theory.checks.rate import check_rate
from schoenbat_theory.checks.sequences import ROUNDING, Sample
from schoenbat_theory.checks.tail import check_tail

__all__ = ["ROUNDING", "Sample", "check_mean", "check_rate", "check_tail"]
