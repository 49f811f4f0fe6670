"""Generators at addresses: a stream belongs to (proposition, check, cell), never to a position in a run.

The same seed and the same address give the same numbers, whatever else runs, in any order, on any
number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["stream"]


def stream(seed: int, *address: str) -> np.random.Generator:
    """Return the generator at ``address`` under the root ``seed``.

    >>> float(stream(0, "P05", "sampled").random()) == float(stream(0, "P05", "sampled").random())
    True
    """
    digest = hashlib.sha256("\0".join(address).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(seed, spawn_key=key)))
