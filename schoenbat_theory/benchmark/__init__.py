"""Timed runs: every method of a scene at the same lengths, interleaved, with its memory and its error.

problem     what a scene and a method are; tokens of real heads
scenes      systems of the literature; attention, maps and decoding beside others; a million tokens
beyond      what goes beyond the paper, beside exact attention here and elsewhere
plain       attention and a random Maclaurin map as one would write them first
peers       torch, performer-pytorch and scikit-learn, where they are installed
floor       the least time for what a method executes
run         time, memory and error of each
machine     what they were run on
thresholds  what speed is asked, and whether a record shows it
"""

from schoenbat_theory.benchmark.problem import Method, Scene
from schoenbat_theory.benchmark.run import bench
from schoenbat_theory.benchmark.scenes import SCENES

__all__ = ["SCENES", "Method", "Scene", "bench"]
