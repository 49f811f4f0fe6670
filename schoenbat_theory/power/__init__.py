"""The checker, checked: how often its checks accuse what is correct, and which named mistakes they catch.

result = power(runs=2000)         # schoenbat-theory power --out DIR
print(result.table())

trial       one run of a check on an estimator whose distance from the claim is known
controls    synthetic trials: on target, at the edge of the margin, beyond it, and power curves
scenes      checks of the library with a place for one change;  mutants  the changes, fifteen of them
record      what was found, as a table, as JSON and as pictures
widths      the confidence sequences beside those of the package `ville`
"""

from schoenbat_theory.power.record import Power, save, to_json
from schoenbat_theory.power.run import power
from schoenbat_theory.power.widths import Widths, widths

__all__ = ["Power", "Widths", "power", "save", "to_json", "widths"]
