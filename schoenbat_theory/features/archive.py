"""Draws of every kind, read from the archives that they were saved in."""

from __future__ import annotations

import os
from collections.abc import Callable

from schoenbat_theory.features.draw import MACLAURIN_FORMAT, MaclaurinDraw, read_maclaurin
from schoenbat_theory.features.exponential_draw import POSITIVE_FORMAT, PositiveDraw, read_positive
from schoenbat_theory.features.fourier_draw import FOURIER_FORMAT, FourierDraw, read_fourier
from schoenbat_theory.features.joined import JOINED_FORMAT, JoinedDraw, read_joined
from schoenbat_theory.features.landmarks_draw import LANDMARKS_FORMAT, LandmarkDraw, read_landmarks
from schoenbat_theory.features.optimized_draw import OPTIMIZED_FORMAT, OptimizedDraw, read_optimized
from schoenbat_theory.features.sketch_draw import SKETCH_FORMAT, SketchDraw, read_sketch
from schoenbat_theory.features.taylor import TAYLOR_FORMAT, TaylorDraw, read_taylor
from schoenbat_theory.files import read_npz

__all__ = ["Draw", "load_draw"]

Draw = MaclaurinDraw | JoinedDraw | SketchDraw | PositiveDraw | FourierDraw | LandmarkDraw | TaylorDraw | OptimizedDraw


def load_draw(path: str | os.PathLike[str]) -> Draw:
    """Read a draw written by its ``save``, of whichever kind the archive says it is: the same features, bit for bit.

    Raises ``ValueError`` for a file that is no such archive.

    >>> import tempfile, numpy as np
    >>> from schoenbat_theory import RandomMaclaurin
    >>> phi = RandomMaclaurin("exp", 8).draw(2, rng=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "phi.npz")
    >>> phi.save(path); bool((load_draw(path)(np.eye(2)) == phi(np.eye(2))).all())
    True
    """
    readers: dict[str, Callable[..., Draw]] = {
        str(MACLAURIN_FORMAT): read_maclaurin,
        JOINED_FORMAT: read_joined,
        SKETCH_FORMAT: read_sketch,
        POSITIVE_FORMAT: read_positive,
        FOURIER_FORMAT: read_fourier,
        LANDMARKS_FORMAT: read_landmarks,
        TAYLOR_FORMAT: read_taylor,
        str(OPTIMIZED_FORMAT): read_optimized,
    }
    found = str(read_npz(path, ("format",))["format"])
    if found not in readers:
        raise ValueError(f"{path}: expected a draw of format {' or '.join(readers)}, found {found:.60}")
    return readers[found](path)
