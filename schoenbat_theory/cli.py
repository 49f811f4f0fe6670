"""The command line: ``schoenbat-theory verify | list | show | power | bench | compare``.

Exit codes: 0 every verdict is the expected one; 1 one is not; 2 usage or unreadable input; 3 undecided
propositions remain; 130 interrupted; 141 the reader of standard output has gone, e.g. ``| head``.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import dataclasses
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from schoenbat_theory import environment, power
from schoenbat_theory.activations import load_heads
from schoenbat_theory.cells import BUDGETS
from schoenbat_theory.cluster import connected
from schoenbat_theory.compare.run import DRAWS, KERNELS_COMPARED, WIDTHS, compare
from schoenbat_theory.compare.targets import stacked
from schoenbat_theory.loading import load_maps
from schoenbat_theory.markup import encode_ascii, plain
from schoenbat_theory.propositions import check_name
from schoenbat_theory.references import bibtex
from schoenbat_theory.systems import SYSTEMS
from schoenbat_theory.verify import builtin_propositions, find, verify

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    >>> main(["show", "P99"])
    2
    """
    try:
        options = _parser().parse_args(arguments)
        _print_in_any_encoding()
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

    one = commands.add_parser("verify", help="decide propositions", description="Decide propositions.")
    one.add_argument("what", nargs="*", metavar="ID | FILE.py", help="propositions; none: all that are installed")
    one.add_argument("--qkv", metavar="FILE.npz", help="q, k, v of shape (heads, n, d), unscaled; default: shipped")
    one.add_argument("--backend", choices=["numpy", "cupy"], default="numpy", help="array library (default: numpy)")
    one.add_argument("--budget", choices=list(BUDGETS), default="quick", help="table of draws (default: quick)")
    one.add_argument("--seed", type=_natural, default=0, help="root of all random streams (default: 0)")
    one.add_argument("--alpha", type=_probability, default=1e-3, help="total error rate (default: 0.001)")
    where = one.add_mutually_exclusive_group()
    where.add_argument("--workers", type=_positive, metavar="N", help="processes (default: one per core)")
    where.add_argument("--cluster", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    one.add_argument(
        "--out", metavar="DIR", help="write verify.json, report.html and figures/ there, cells.jsonl at once"
    )
    one.add_argument("--resume", action="store_true", help="do not run again what cells.jsonl in DIR holds")
    one.add_argument("--json", action="store_true", help="print the JSON document and nothing else")
    one.set_defaults(run=_verify, usage=one.error)

    two = commands.add_parser("list", help="list the installed propositions")
    two.set_defaults(run=_list)

    three = commands.add_parser("show", help="print one proposition with its repair")
    three.add_argument("id", metavar="ID")
    three.add_argument("--bibtex", action="store_true", help="print the BibTeX entries of its sources and nothing else")
    three.set_defaults(run=_show)

    four = commands.add_parser(
        "power",
        help="how often the checks accuse what is correct, and which mutants they catch",
        description="Run every check many times on correct estimators and on named mutants of the library.",
    )
    four.add_argument(
        "--widths", action="store_true", help="compare confidence sequences with the package ville instead"
    )
    four.add_argument("--runs", type=_positive, metavar="N", help="of each estimator (default: 2000; of widths: 100)")
    four.add_argument("--seed", type=_natural, default=0, help="root of all random streams (default: 0)")
    four.add_argument("--alpha", type=_probability, default=0.05, help="error rate of each check (default: 0.05)")
    four.add_argument("--workers", type=_positive, metavar="N", help="processes (default: one per core)")
    four.add_argument("--out", metavar="DIR", help="write power.json (or widths.json) and figures/ there")
    four.add_argument("--json", action="store_true", help="print the JSON document and nothing else")
    four.set_defaults(run=_power)

    five = commands.add_parser(
        "bench",
        help="time, memory and error of the systems against the length of a sequence",
        description="Time every method of some scenes at the same lengths, with its memory and its error. All scenes take "
        "about five minutes on two cores.",
    )
    scenes = ", ".join(scene for system in SYSTEMS for scene in system.scenes)
    five.add_argument("scenes", nargs="*", metavar="SCENE", help=f"some of {scenes}; none: all of them")
    five.add_argument("--quick", action="store_true", help="short sequences only: a few seconds")
    five.add_argument("--out", metavar="DIR", help="write systems.jsonl and figures/ there")
    five.set_defaults(run=_bench)

    six = commands.add_parser(
        "compare",
        help="every feature map on real heads, beside the exact attention and the means of the values",
        description="Compare feature maps and other attentions with the exact ones of real heads: error, skill, cost, time.",
    )
    six.add_argument("files", nargs="*", metavar="FILE.py", help="files that register feature maps of your own")
    six.add_argument("--qkv", metavar="FILE.npz", help="q, k, v of shape (heads, n, d), unscaled; default: shipped")
    six.add_argument("--kernels", type=_names, metavar="exp,inv", help=f"default: {','.join(KERNELS_COMPARED)}")
    six.add_argument("--widths", type=_positives, metavar="64,256", help=f"default: {','.join(map(str, WIDTHS))}")
    six.add_argument("--draws", type=_positive, metavar="N", help=f"of every random method (default: {DRAWS})")
    six.add_argument("--seed", type=_natural, default=0, help="root of all random streams (default: 0)")
    six.add_argument("--workers", type=_positive, metavar="N", help="processes (default: one per core)")
    six.add_argument("--out", metavar="DIR", help="write compare.json, compare.html, scaling.html and figures/ there")
    six.add_argument("--json", action="store_true", help="print the JSON document and nothing else")
    six.set_defaults(run=_compare)
    return parser


def _verify(options: argparse.Namespace) -> int:
    if options.resume and options.out is None:
        options.usage("--resume needs --out DIR, which holds what was found")
    with contextlib.ExitStack() as stack:
        out = None if options.out is None else stack.enter_context(_writable(options.out))
        if options.cluster is not None:
            stack.enter_context(connected(options.cluster))
        result = verify(
            options.what or None,
            qkv=options.qkv,
            backend=options.backend,
            budget=options.budget,
            seed=options.seed,
            alpha=options.alpha,
            workers=options.workers,
            progress=sys.stderr.isatty() and not options.json,
            ledger=None if out is None else out / "cells.jsonl",
            resume=options.resume,
        )
        if out is not None:
            from schoenbat_theory.report import save

            save(result, out)
    if options.json:
        _print_json(result.to_json())
    else:
        print(result.table())
        if out is not None:
            print(f"Written: {out / 'report.html'}, {out / 'verify.json'} and figures.")
    return result.exit_code


def _power(options: argparse.Namespace) -> int:
    with contextlib.nullcontext() if options.out is None else _writable(options.out) as out:
        found = (power.widths if options.widths else power.power)(
            **({} if options.runs is None else {"runs": options.runs}),
            seed=options.seed,
            alpha=options.alpha,
            workers=options.workers,
            progress=sys.stderr.isatty() and not options.json,
        )
        if out is not None:
            power.save(found, out, "widths" if options.widths else "power")
    if options.json:
        _print_json(power.to_json(found))
    else:
        print(found.table())
    return found.exit_code


def _bench(options: argparse.Namespace) -> int:
    from schoenbat_theory.benchmark import bench  # linear algebra of SciPy, which no other command needs

    with contextlib.nullcontext() if options.out is None else _writable(options.out) as out:
        unfinished = None if out is None else out / "unfinished.jsonl"  # beside the old record until it is whole
        found = bench(options.scenes or None, quick=options.quick, progress=sys.stderr.isatty(), keep=unfinished)
        if unfinished is not None:
            found.save(unfinished.parent)
            unfinished.unlink()
    print(found.table())
    return 0


def _compare(options: argparse.Namespace) -> int:
    with contextlib.nullcontext() if options.out is None else _writable(options.out) as out:
        heads = () if options.qkv is None else stacked(load_heads(options.qkv))
        asked = {name: getattr(options, name) for name in ("kernels", "widths", "draws")}
        found = compare(
            *heads,
            **{name: value for name, value in asked.items() if value is not None},
            maps=load_maps(*options.files),
            seed=options.seed,
            workers=options.workers,
            progress=sys.stderr.isatty() and not options.json,
        )
        if options.qkv is not None:
            found = dataclasses.replace(found, data=Path(options.qkv).name)
        if out is not None:
            from schoenbat_theory.compare.ablation import ablate_scaling
            from schoenbat_theory.compare.page import save

            save(found, out, ablate_scaling(*heads, seed=options.seed))
    if options.json:
        _print_json(found.to_json())
    else:
        print(found.table())
        if out is not None:
            print(f"Written: {out / 'compare.html'}, {out / 'scaling.html'}, {out / 'compare.json'} and figures.")
    return 0


def _list(options: argparse.Namespace) -> int:
    del options
    for group in builtin_propositions().values():
        for p in group:
            print(f"{p.id:<5} {p.expected:<11} {p.title}")
    return 0


def _show(options: argparse.Namespace) -> int:
    group = find(options.id)
    if options.bibtex:
        print(bibtex(list(itertools.chain.from_iterable(p.cites for p in group))))
        return 0
    for p in group:
        lines = [f"{p.id}: {p.title}", "", f"  statement    {plain(p.statement)}"]
        lines += [f"  hypothesis   {plain(h)}" for h in p.hypotheses]
        lines += [f"  source       {plain(p.source)}", f"  expected     {p.expected}"]
        for kind in ("checks", "mutants"):
            for check in getattr(p, kind):
                first = (check.__doc__ or "").strip().splitlines()
                lines.append(f"  {kind[:-1]:<12} {check_name(check)}: {plain(first[0]) if first else ''}")
        print("\n".join([*lines, ""]))
    return 0


@contextlib.contextmanager
def _writable(folder: str) -> Iterator[Path]:
    """Give ``folder``, made if need be, after a file was written and removed there: refused before the work, not after.

    What was made here and is empty when the work fails is removed again.
    """
    path = Path(folder)
    made = [one for one in (path / "figures", path, *path.parents) if not one.exists()]
    try:
        try:
            (path / "figures").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise OSError(f"--out {folder}: cannot be written ({error.strerror or error})") from None
        yield path
    except BaseException:
        with contextlib.suppress(OSError):  # from the inside out, up to the first that is not empty
            for one in made:
                if one.exists():
                    one.rmdir()
        raise


def _print_in_any_encoding() -> None:
    """Let standard output write ASCII for the signs that its encoding lacks; a table must not end in an error."""
    codecs.register_error("schoenbat_theory", encode_ascii)
    if not _is_utf8() and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="schoenbat_theory")


def _print_json(text: str) -> None:
    print(text if _is_utf8() else json.dumps(json.loads(text), indent=1) + "\n", end="")


def _is_utf8() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # a notebook's or none at all
    return codecs.lookup(encoding).name == "utf-8"


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
