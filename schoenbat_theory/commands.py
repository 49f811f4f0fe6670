"""What the commands of the command line do, each with the options that `cli` has read; all return an exit code."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import dataclasses
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from schoenbat_theory import power, timings
from schoenbat_theory.activations import load_heads
from schoenbat_theory.cluster import connected
from schoenbat_theory.compare.run import compare
from schoenbat_theory.compare.stress.run import stress
from schoenbat_theory.compare.targets import stacked
from schoenbat_theory.files import write_whole
from schoenbat_theory.loading import load_maps
from schoenbat_theory.markup import encode_ascii, plain
from schoenbat_theory.propositions import check_name
from schoenbat_theory.references import bibtex
from schoenbat_theory.verify import builtin_propositions, find, verify

__all__ = ["print_in_any_encoding", "run_bench", "run_compare", "run_list", "run_power", "run_show", "run_verify"]


def run_verify(options: argparse.Namespace) -> int:
    """Decide propositions; return the exit code of the report."""
    if options.resume and options.out is None:
        options.usage("--resume needs --out DIR, which holds what was found")
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_folder(options))
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
    pages = None if out is None else f"{out / 'report.html'}, {out / 'verify.json'} and figures"
    _show(options, result.to_json, result.table, pages)
    return result.exit_code


def run_power(options: argparse.Namespace) -> int:
    """Measure how often the checks accuse and catch; return the exit code of the record."""
    with _folder(options) as out:
        found = (power.widths if options.widths else power.power)(
            **({} if options.runs is None else {"runs": options.runs}),
            seed=options.seed,
            alpha=options.alpha,
            workers=options.workers,
            progress=sys.stderr.isatty() and not options.json,
        )
        if out is not None:
            power.save(found, out, "widths" if options.widths else "power")
    _show(options, lambda: power.to_json(found), found.table)
    return found.exit_code


def run_bench(options: argparse.Namespace) -> int:
    """Time the scenes, keeping what is timed as it comes; or checks, where these alone are asked for."""
    if options.scenes == ["throughput"]:
        return _run_throughput(options)
    from schoenbat_theory.benchmark import bench  # linear algebra of SciPy, which no other command needs
    from schoenbat_theory.benchmark.thresholds import thresholds, thresholds_table

    with _folder(options) as out:
        unfinished = None if out is None else out / "unfinished.jsonl"  # beside the old record until it is whole
        found = bench(
            options.scenes or None,
            quick=options.quick,
            longest=options.longest,
            seed=options.seed,
            progress=sys.stderr.isatty(),
            keep=unfinished,
        )
        if unfinished is not None:
            timings.save(found, unfinished.parent)
            unfinished.unlink()
    print(timings.table(found))
    if asked := thresholds_table(thresholds(found)):
        print(asked)
    return 0


def _run_throughput(options: argparse.Namespace) -> int:
    from schoenbat_theory.benchmark.throughput import throughput

    with _folder(options) as out:
        found = throughput(quick=options.quick, seed=options.seed)
        if out is not None:
            write_whole(out / "throughput.jsonl", found.lines())
    print(found.table())
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Compare feature maps and attentions, and ablate the scaling where there is a folder for its page."""
    _check_stress(options)
    if options.stress:
        return _run_stress(options)
    with _folder(options) as out:
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
            from schoenbat_theory.compare.page import save
            from schoenbat_theory.compare.scaling.ablation import ablate_scaling

            kernel = next(one.kernel for one in found.targets if one.setting != "gaussian")
            asked = {"kernel": kernel, "width": max(found.middle, 2), "draws": found.draws}
            save(found, out, ablate_scaling(*heads, **asked, seed=options.seed, workers=options.workers))
    pages = None if out is None else f"{out / 'compare.html'}, {out / 'scaling.html'}, both as .json too, and figures"
    _show(options, found.to_json, found.table, pages)
    return 0


def _check_stress(options: argparse.Namespace) -> None:
    """Refuse what would be ignored."""
    if options.seeds is not None and not options.stress:
        options.usage("--seeds is of --stress; draws are --draws")
    if options.stress and (options.files or any(getattr(options, one) for one in ("kernels", "widths", "draws"))):
        options.usage("--stress takes no FILE.py, --kernels, --widths or --draws")


def _run_stress(options: argparse.Namespace) -> int:
    with _folder(options) as out:
        found = stress(
            *(() if options.qkv is None else stacked(load_heads(options.qkv))),
            **({} if options.seeds is None else {"seeds": options.seeds}),
            seed=options.seed,
            workers=options.workers,
            progress=sys.stderr.isatty() and not options.json,
        )
        if options.qkv is not None:
            found = dataclasses.replace(found, data=Path(options.qkv).name)
        if out is not None:
            from schoenbat_theory.compare.stress.page import save

            save(found, out)
    pages = None if out is None else f"{out / 'stress.html'}, {out / 'stress.json'} and figures"
    _show(options, found.to_json, found.table, pages)
    return 0


def run_list(options: argparse.Namespace) -> int:
    """Print one line for every proposition."""
    del options
    for group in builtin_propositions().values():
        for p in group:
            print(f"{p.id:<5} {p.expected:<11} {p.title}")
    return 0


def run_show(options: argparse.Namespace) -> int:
    """Print a proposition with its repair, or its sources."""
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


def print_in_any_encoding() -> None:
    """Let standard output write ASCII for the signs that its encoding lacks; a table must not end in an error."""
    codecs.register_error("schoenbat_theory", encode_ascii)
    if not _is_utf8() and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="schoenbat_theory")


def _show(
    options: argparse.Namespace, to_json: Callable[[], str], table: Callable[[], str], written: str | None = None
) -> None:
    """Print what was found: the document alone with ``--json``, else the table and what was ``written``."""
    if options.json:
        _print_json(to_json())
        return
    print(table())
    if written:
        print(f"Written: {written}.")


def _print_json(text: str) -> None:
    print(text if _is_utf8() else json.dumps(json.loads(text), indent=1) + "\n", end="")


def _is_utf8() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # a notebook's or none at all
    return codecs.lookup(encoding).name == "utf-8"


def _folder(options: argparse.Namespace) -> contextlib.AbstractContextManager[Path | None]:
    """Return the folder of ``--out``, ready to be written to, or ``None`` without."""
    return contextlib.nullcontext() if options.out is None else _writable(options.out)


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
