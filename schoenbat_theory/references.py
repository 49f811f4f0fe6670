"""Where claims come from: the shipped BibTeX file, its keys, and the entries of a user's own."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence
from importlib import resources

__all__ = ["bibtex", "read_entries", "shipped_entries"]

_HEAD = re.compile(r"@\s*\w+\s*\{\s*([^\s,{}]+)\s*,")  # @type{key,


def bibtex(cites: Sequence[str]) -> str:
    """Return the BibTeX entries of ``cites``, each once, in order, with an empty line between them.

    ``cites``  keys of the shipped file, or whole entries: texts that start with "@"

    Raises ``ValueError`` for a key that is not shipped, with those that come near, for a text that is not one
    entry, and for two different entries of one key.

    >>> print(bibtex(["schur1911"]).partition("\\n")[0])
    @article{schur1911,
    """
    found: dict[str, str] = {}
    for cite in cites:
        key, entry = _entry(cite)
        if found.setdefault(key, entry) != entry:
            raise ValueError(f"cites: expected one entry of a key, found two that differ for {key!r}")
    return "\n\n".join(found.values())


@functools.cache
def shipped_entries() -> dict[str, str]:
    """Return the entries of the shipped ``references.bib`` by key; their ``note`` says what was seen.

    >>> "kar2012random" in shipped_entries()
    True
    """
    file = resources.files("schoenbat_theory") / "data" / "references.bib"
    return read_entries(file.read_text(encoding="utf-8"))


def read_entries(text: str) -> dict[str, str]:
    """Return the entries of a BibTeX text, each as it stands there, by key; what is between entries is left out.

    Raises ``ValueError`` for an "@" outside that does not begin ``@type{key, ...}``, for braces that do not
    balance, as BibTeX counts them, and for a key that comes twice.

    >>> read_entries("First: @misc{one, title = {A {B}}} and @misc{two, year = 1}.")
    {'one': '@misc{one, title = {A {B}}}', 'two': '@misc{two, year = 1}'}
    """
    entries: dict[str, str] = {}
    start = text.find("@")
    while start >= 0:
        head = _HEAD.match(text, start)
        if head is None:
            raise ValueError(f"text: expected @type{{key, fields}}, found {_excerpt(text, start)!r}")
        key, end = head[1], _closing(text, start)
        if key in entries:
            raise ValueError(f"text: expected one entry of a key, found two of {key!r}")
        entries[key] = text[start:end]
        start = text.find("@", end)
    return entries


def _entry(cite: str) -> tuple[str, str]:
    """Return (key, entry) of one cite."""
    if cite.lstrip().startswith("@"):
        try:
            own = read_entries(cite)
        except ValueError as error:
            raise ValueError(f"cites: {str(error).removeprefix('text: ')}") from None
        if len(own) != 1:
            raise ValueError(f"cites: expected one entry a text, found {len(own)}: {', '.join(own)}")
        return next(iter(own.items()))
    shipped = shipped_entries()
    if cite not in shipped:
        near = ", ".join(difflib.get_close_matches(cite, shipped, cutoff=0.4)) or ", ".join(shipped)
        raise ValueError(
            f"cites: expected a key of references.bib or an entry that starts with '@', found {cite!r}; near: {near}"
        )
    return cite, shipped[cite]


def _closing(text: str, start: int) -> int:
    """Return where the first brace after ``start`` is closed, plus one."""
    depth = 0
    for brace in re.compile("[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise ValueError(f"text: expected balanced braces, found none that closes {_excerpt(text, start)!r}")


def _excerpt(text: str, start: int) -> str:
    return text[start : start + 40]
