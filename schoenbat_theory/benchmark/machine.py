"""The machine of a run, and the run itself: what is recorded so that times can be judged."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import schoenbat_theory
from schoenbat_theory.benchmark.floor import roof
from schoenbat_theory.environment import environment
from schoenbat_theory.threads import CORES

__all__ = ["machine"]


def machine(**run: Any) -> dict[str, Any]:
    """Return the date, the processor and what it can do, the commit, versions and BLAS; ``run``: what else is known of this run."""
    multiply_adds, moved = roof("float32")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _processor(),
        "commit": _commit(),
        **run,
        **environment(),
        "threads": CORES,  # that this process may use
        "roof": {"dtype": "float32", "multiply_adds_per_second": multiply_adds, "bytes_per_second": moved},
    }


def _processor() -> str:
    """Return the processor by name, which Python knows on some systems only."""
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from, "-dirty" where it was edited; else ``None``."""
    root = Path(schoenbat_theory.__file__).parent.parent
    if not (root / ".git").exists():  # else the repository around a virtual environment would answer
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
