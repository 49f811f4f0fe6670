"""Timed runs: every method of a scene at the same lengths, interleaved, with its memory and its error.

problem  what a scene and a method are; tokens of real heads
scenes   systems of the literature
beyond   what goes beyond the paper, beside exact attention here and elsewhere
peers    exact attention by torch, where that is installed
run      time, memory and error of each; the machine
"""

from schoenbat_theory.benchmark.problem import Method, Scene
from schoenbat_theory.benchmark.run import bench
from schoenbat_theory.benchmark.scenes import SCENES

__all__ = ["SCENES", "Method", "Scene", "bench"]
