"""Timed runs: every method of a scene at the same lengths, interleaved, with its memory and its error.

scenes   problems and the methods that solve them
run      time, memory and error of each; the machine
"""

from schoenbat_theory.benchmark.run import bench
from schoenbat_theory.benchmark.scenes import SCENES, Method, Scene

__all__ = ["SCENES", "Method", "Scene", "bench"]
