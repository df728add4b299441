"""The text that a table is made of: the formats of postmap(5) and aliases(5).

Of two equal keys the first holds. A line that cannot be used is a problem and is left out; the others hold.
"""

from __future__ import annotations

from msgspec import Struct

from ekiden.config.lines import logical_lines
from ekiden.tables.table import folded


class Source(Struct, frozen=True):
    """What a text holds: values by key as it is compared; problems as (line, text)."""

    entries: dict[str, str]
    problems: tuple[tuple[int, str], ...] = ()


def read_source(text: str, *, aliases: bool = False, fold: bool = True) -> Source:
    """Parse ``key value`` lines (postmap(5)), or with ``aliases`` ``name: value`` lines (aliases(5))."""
    entries: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    split = _split_alias if aliases else _split_entry
    for line in logical_lines(text):
        if line.orphan:
            problems.append((line.number, "a line must not begin with white space unless it continues another"))
            continue
        written, value, problem = split(line.text)
        if problem:
            problems.append((line.number, problem))
        elif (key := folded(written, fold)) in entries:
            problems.append((line.number, f"the key {written!r} is there already; the first one holds"))
        else:
            entries[key] = value.replace("\n", "")  # the next line brings its white space with it
    return Source(entries, tuple(problems))


def _split_entry(line: str) -> tuple[str, str, str]:
    """Key, value and what is wrong. A key with blanks stands in quotes, with ``\\`` before a quote or backslash."""
    if line.startswith('"'):
        key, end = _unquoted(line)
        if end < 0:
            return key, "", 'a " is not closed'
        value = line[end:].strip()
    else:
        key, *rest = line.split(None, 1)
        value = rest[0] if rest else ""
    if not key or not value:
        return key, "", f"{key!r} has no value: write key, blank, value" if key else "the key is empty"
    return key, value, ""


def _split_alias(line: str) -> tuple[str, str, str]:
    """As _split_entry, for ``name: value``; a name with special characters stands in quotes."""
    if line.startswith('"'):
        name, end = _unquoted(line)
        rest = line[end:].lstrip() if end >= 0 else ""
        colon, value = rest[:1], rest[1:].strip()
    else:
        name, colon, value = line.partition(":")
        name, value = name.rstrip(), value.strip()
        if any(char.isspace() for char in name):
            colon = ""
    if colon != ":" or not name:
        return name, "", "an entry is written name: address, address ..."
    return name, value, "" if value else f"the alias {name!r} leads nowhere"


def _unquoted(line: str) -> tuple[str, int]:
    """The quoted string at the beginning, without quotes and backslashes, and where it ends; -1 if it does not."""
    out: list[str] = []
    at = 1
    while at < len(line):
        char = line[at]
        if char == '"':
            return "".join(out), at + 1
        if char == "\\" and at + 1 < len(line):
            at += 1
            char = line[at]
        out.append(char)
        at += 1
    return "".join(out), -1
