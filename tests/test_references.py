"""Sources: the shipped BibTeX file, the reader of entries, and what the command line prints of them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from schoenbat_theory.cli import main
from schoenbat_theory.references import bibtex, read_entries, shipped_entries
from schoenbat_theory.verify import builtin_propositions, find

ROOT = Path(__file__).parent.parent
OWN = "@misc{me2026, title = {A {Braced} Title}, year = 2026}"


def field(entry: str, name: str) -> str | None:
    """Return a field of an entry that is written as the shipped ones are: ``name = {value}``, one field after another."""
    found = re.search(rf"^  {name} = \{{(.*?)\}},?$", entry, flags=re.MULTILINE | re.DOTALL)
    return None if found is None else " ".join(found[1].split())


def letters(title: str) -> str:
    """Return a title without case, braces, accents and punctuation."""
    return re.sub(r"[^a-z ]", "", unicodedata.normalize("NFKD", title.lower()))


@pytest.mark.parametrize("key", shipped_entries())
def test_a_shipped_entry_says_who_when_what_and_what_was_seen(key):
    entry = shipped_entries()[key]
    for name in ("author", "title", "annote"):
        assert field(entry, name), name
    assert field(entry, "year") in key
    assert field(entry, "note") is None  # styles print it, and what we have seen is no part of a user's paper


def test_the_shipped_file_is_ascii_so_that_every_bibtex_and_every_terminal_takes_it():
    assert all(entry.isascii() for entry in shipped_entries().values())


@pytest.mark.parametrize("group", builtin_propositions().values(), ids=builtin_propositions())
def test_every_installed_proposition_cites_a_source(group):
    assert all(p.cites for p in group)


def test_titles_in_the_citation_file_are_those_of_the_shipped_entries():
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").partition("references:")[2].splitlines()
    cited = [line.partition("title: ")[2].strip('"') for line in lines if "  title: " in line]
    shipped = {letters(field(entry, "title") or "") for entry in shipped_entries().values()}
    assert cited
    assert {letters(title) for title in cited} <= shipped


def test_entries_are_cut_at_balanced_braces_and_kept_as_they_stand():
    text = f"a comment\n{OWN} another\n@ARTICLE {{ two,\n author = {{A \\{{ B \\}} }} }}"
    assert read_entries(text) == {"me2026": OWN, "two": "@ARTICLE { two,\n author = {A \\{ B \\} } }"}


def test_a_text_without_entries_has_none():
    assert read_entries("") == read_entries("only a comment") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@misc{one, title = {A}", "balanced braces, found none that closes '@misc{one"),
        ("@misc{title = {A}}", "expected @type{key, fields}, found '@misc{title"),
        ("@misc(one, title = {A})", "expected @type{key, fields}"),
        ("mail@example.org", "expected @type{key, fields}, found '@example.org'"),
        (f"{OWN} {OWN}", "one entry of a key, found two of 'me2026'"),
    ],
)
def test_a_text_that_is_not_bibtex_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^text: .*{re.escape(message)}"):
        read_entries(text)


def test_each_entry_is_printed_once_in_order():
    text = bibtex(["schur1911", OWN, "kar2012random", "schur1911", OWN])
    assert list(read_entries(text)) == ["schur1911", "me2026", "kar2012random"]
    assert text.split("\n\n")[1] == OWN
    assert bibtex([]) == ""


@pytest.mark.parametrize(
    ("cites", "message"),
    [
        (
            ["kar2012"],
            "expected a key of references.bib or an entry that starts with '@', found 'kar2012'; near: kar2012",
        ),
        (["?"], "found '?'; near: guo2025schoenbat, guo2024macformer"),
        ([OWN, OWN.replace("Title", "Name")], "found two that differ for 'me2026'"),
        ([f"{OWN} @misc{{two, year = 1}}"], "one entry a text, found 2: me2026, two"),
        (["@misc{broken"], "expected @type{key, fields}"),
    ],
)
def test_a_cite_that_does_not_fit_is_refused(cites, message):
    with pytest.raises(ValueError, match=f"^cites: .*{re.escape(message)}"):
        bibtex(cites)


def test_the_command_line_prints_the_entries_of_a_proposition_and_its_repair_and_nothing_else(capsys):
    assert main(["show", "P09", "--bibtex"]) == 0
    printed = capsys.readouterr().out
    keys = list(dict.fromkeys(key for p in find("P09") for key in p.cites))
    assert list(read_entries(printed)) == keys
    assert printed == "\n\n".join(shipped_entries()[key] for key in keys) + "\n"
