"""Where a result was made: versions, machine, BLAS. Recorded with every result, never part of it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

__all__ = ["environment", "version"]

PACKAGES = (
    "numpy", "scipy", "array-api-compat", "matplotlib", "joblib", "cupy-cuda12x", "cupy-cuda13x", "torch",
    "scikit-learn", "performer-pytorch", "nystrom-attention",
)  # fmt: skip


def version() -> str:
    """Return the version of this package."""
    return _version("schoenbat_theory") or "unknown"


def environment() -> dict[str, Any]:
    """Return Python, package versions, machine, and the BLAS kernels in use, as plain data."""
    import threadpoolctl

    return {
        "schoenbat_theory": version(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "blas": [
            {key: pool.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for pool in sorted(threadpoolctl.threadpool_info(), key=str)  # not as they happened to be loaded
        ],
        "tf32": os.environ.get("CUPY_TF32", "0"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
