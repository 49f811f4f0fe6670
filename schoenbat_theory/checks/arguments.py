"""What the three checks ask of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from schoenbat_theory.arrays import as_reals, require_int, require_real
from schoenbat_theory.confidence import looks

__all__ = ["FIRST", "look_sizes", "of_shape", "require", "require_alpha"]

FIRST = 1 << 13  # draws at the first look


def look_sizes(max_draws: int, at_least: int = 1) -> list[int]:
    """Return the numbers of draws at which a check looks: powers of two up to ``max_draws``, from `FIRST` on."""
    power = 1 << (require_int("max_draws", max_draws, 1).bit_length() - 1)
    return looks(max(at_least, min(FIRST, power)), max_draws)


def of_shape(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``values`` broadcast to ``shape``, that of the target."""
    found = as_reals(name, values)
    try:
        return np.broadcast_to(found, shape)
    except ValueError:
        raise ValueError(f"{name}: expected a shape that broadcasts to {shape}, found {found.shape}") from None


def require_alpha(alpha: float) -> None:
    """Raise unless ``alpha`` is a probability that can be spent."""
    require_real("alpha", alpha, "a number in (0, 1)", lambda a: 0 < a < 1)


def require(condition: Any, name: str, expected: str, found: Any) -> None:
    """Raise ``ValueError`` that names the argument unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{name}: expected {expected}, found {found}")
