"""The command line: ``schoenbat-theory verify | list | show | power | bench | compare``.

Exit codes: 0 every verdict is the expected one; 1 one is not; 2 usage or unreadable input; 3 undecided
propositions remain; 130 interrupted; 141 the reader of standard output has gone, e.g. ``| head``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from schoenbat_theory import environment
from schoenbat_theory.cells import BUDGETS
from schoenbat_theory.commands import (
    print_in_any_encoding,
    run_bench,
    run_compare,
    run_list,
    run_power,
    run_show,
    run_verify,
)
from schoenbat_theory.compare.run import DRAWS, KERNELS_COMPARED, WIDTHS
from schoenbat_theory.compare.stress.run import SEEDS
from schoenbat_theory.systems import SYSTEMS

__all__ = ["main"]

SPEED = ("attention", "causal", "long", "maps", "decoding")  # scenes of no chapter; known without loading them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    >>> main(["show", "P99"])
    2
    """
    try:
        options = _parser().parse_args(arguments)
        print_in_any_encoding()
        code = int(options.run(options))
        print(end="", flush=True)  # a closed pipe is noticed here, not at exit
        return code
    except BrokenPipeError:
        with contextlib.suppress(OSError, AttributeError):  # else Python complains when it flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        print(f"schoenbat-theory: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("schoenbat-theory: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="schoenbat-theory", description="A laboratory in which the theory of random-feature attention is tested."
    )
    parser.add_argument("--version", action="version", version=f"schoenbat_theory {environment.version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_verify, _add_list, _add_show, _add_power, _add_bench, _add_compare):
        add(commands)
    return parser


def _add_verify(commands: Any) -> None:
    parser = commands.add_parser("verify", help="decide propositions", description="Decide propositions.")
    parser.add_argument("what", nargs="*", metavar="ID | FILE.py", help="propositions; none: all that are installed")
    _add_qkv(parser)
    parser.add_argument("--backend", choices=["numpy", "cupy"], default="numpy", help="array library (default: numpy)")
    parser.add_argument("--budget", choices=list(BUDGETS), default="quick", help="table of draws (default: quick)")
    _add_seed(parser)
    parser.add_argument("--alpha", type=_probability, default=1e-3, help="total error rate (default: 0.001)")
    where = parser.add_mutually_exclusive_group()
    _add_workers(where)
    where.add_argument("--cluster", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    parser.add_argument(
        "--out", metavar="DIR", help="write verify.json, report.html and figures/ there, cells.jsonl at once"
    )
    parser.add_argument("--resume", action="store_true", help="do not run again what cells.jsonl in DIR holds")
    _add_json(parser)
    parser.set_defaults(run=run_verify, usage=parser.error)


def _add_list(commands: Any) -> None:
    parser = commands.add_parser("list", help="list the installed propositions")
    parser.set_defaults(run=run_list)


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="print one proposition with its repair")
    parser.add_argument("id", metavar="ID")
    parser.add_argument(
        "--bibtex", action="store_true", help="print the BibTeX entries of its sources and nothing else"
    )
    parser.set_defaults(run=run_show)


def _add_power(commands: Any) -> None:
    parser = commands.add_parser(
        "power",
        help="how often the checks accuse what is correct, and which mutants they catch",
        description="Run every check many times on correct estimators and on named mutants of the library.",
    )
    parser.add_argument(
        "--widths", action="store_true", help="compare confidence sequences with the package ville instead"
    )
    parser.add_argument("--runs", type=_positive, metavar="N", help="of each estimator (default: 2000; of widths: 100)")
    _add_seed(parser)
    parser.add_argument("--alpha", type=_probability, default=0.05, help="error rate of each check (default: 0.05)")
    _add_workers(parser)
    parser.add_argument("--out", metavar="DIR", help="write power.json (or widths.json) and figures/ there")
    _add_json(parser)
    parser.set_defaults(run=run_power)


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="time, memory and error of the systems against the length of a sequence",
        description="Time every method of some scenes at the same lengths, with its memory, its error and the floor of its "
        "work. All scenes take about half an hour on two cores; a record says how long it took.",
    )
    scenes = ", ".join([*(scene for system in SYSTEMS for scene in system.scenes), *SPEED])
    parser.add_argument(
        "scenes",
        nargs="*",
        metavar="SCENE",
        help=f"some of {scenes}; none: all of them; or throughput: replicates per second of every kind of check",
    )
    parser.add_argument("--quick", action="store_true", help="short sequences only: under a minute")
    parser.add_argument("--longest", type=_positive, metavar="N", help="no sequences of more than N tokens")
    _add_seed(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="write systems.jsonl and figures/ there, unfinished.jsonl meanwhile"
    )
    parser.set_defaults(run=run_bench)


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="every feature map on real heads, beside the exact attention and the means of the values",
        description="Compare feature maps and other attentions with the exact ones of real heads: error, skill, cost, time.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE.py", help="files that register feature maps of your own")
    _add_qkv(parser)
    parser.add_argument("--kernels", type=_names, metavar="exp,inv", help=f"default: {','.join(KERNELS_COMPARED)}")
    parser.add_argument("--widths", type=_positives, metavar="64,256", help=f"default: {','.join(map(str, WIDTHS))}")
    parser.add_argument("--draws", type=_positive, metavar="N", help=f"of every random method (default: {DRAWS})")
    parser.add_argument(
        "--stress",
        action="store_true",
        help="what lies beyond the paper on other temperatures and halves of the tokens instead, with certificates",
    )
    parser.add_argument("--seeds", type=_positive, metavar="N", help=f"of --stress (default: {SEEDS})")
    _add_seed(parser)
    _add_workers(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="write compare and scaling (or stress), .json and .html, and figures/ there"
    )
    _add_json(parser)
    parser.set_defaults(run=run_compare, usage=parser.error)


def _add_seed(parser: Any) -> None:
    parser.add_argument("--seed", type=_natural, default=0, help="root of all random streams (default: 0)")


def _add_workers(parser: Any) -> None:
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes (default: one per core)")


def _add_qkv(parser: Any) -> None:
    parser.add_argument("--qkv", metavar="FILE.npz", help="q, k, v of shape (heads, n, d), unscaled; default: shipped")


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print the JSON document and nothing else")


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer >= 0, found {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, found {text!r}")
    return int(text)


def _positives(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number in (0, 1), found {text!r}")
    return value
