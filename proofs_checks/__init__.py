"""Propositions about random-feature attention, one file each: statement, source, proof idea, checks, mutants.

`schoenbat-theory verify` finds every ``prop_*.py`` here by its file name. A file uses the public names of
``schoenbat_theory`` only.
"""
