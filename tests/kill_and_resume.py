"""Kill `verify` at random moments and resume it: are the final documents those of a run that nothing disturbed?

python tests/kill_and_resume.py P05 P09 P10 --kills 20 --seed 0 > record.json
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from schoenbat_theory.environment import environment
from schoenbat_theory.ledger import fingerprint

VERIFY = [sys.executable, "-m", "schoenbat_theory", "verify"]


def documents(out: Path) -> dict[str, bytes]:
    """The final JSON, `seconds` aside, and the figures, which are drawn from what the ledger gives back."""
    found = {path.name: path.read_bytes() for path in (out / "figures").iterdir()}
    return found | {"verify.json": re.sub(rb'"seconds": [^,\n]+', b"", (out / "verify.json").read_bytes())}


def finished(out: Path) -> int:
    """How many cells the ledger holds."""
    ledger = out / "cells.jsonl"
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def kill_and_resume(folder: Path, propositions: list[str], *, kills: int, seed: int) -> dict[str, Any]:
    """Kill at moments uniform over the time of a whole run, resume until it is done, and begin anew for more kills.

    SIGKILL goes to the process group: to the command and its workers at once.
    """
    command = [*VERIFY, *propositions, "--workers", "2", "--out"]
    whole, out, rng = folder / "whole", folder / "killed", np.random.default_rng(seed)
    start = time.perf_counter()
    subprocess.run([*command, whole], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    killed: list[dict[str, float]] = []
    equal: list[bool] = []
    resume: list[str] = []
    while resume or len(killed) < kills:
        process = subprocess.Popen([*command, out, *resume], stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            code = process.wait(rng.uniform(0, seconds) if len(killed) < kills else None)
        except subprocess.TimeoutExpired as moment:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed.append({"after": round(moment.timeout, 3), "cells": finished(out)})
            resume = ["--resume"]
        else:
            equal.append(code == 0 and documents(out) == documents(whole))
            resume = []
    return {
        "equal": all(equal),
        "kills": len(killed),
        "runs": len(equal),
        "propositions": propositions,
        "cells": finished(whole),
        "workers": 2,
        "seed": seed,
        "seconds undisturbed": round(seconds, 3),
        "killed": killed,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("propositions", nargs="+", metavar="ID | FILE.py")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = kill_and_resume(Path(folder), options.propositions, kills=options.kills, seed=options.seed)
    print(json.dumps({**record, "code": fingerprint()["code"], "environment": environment()}, indent=1))
