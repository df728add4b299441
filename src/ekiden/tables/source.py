"""The text that a table is made of: the formats of postmap(5) and aliases(5).

Of two equal keys the first holds. A line that cannot be used is a problem and is left out; the others hold.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from ekiden.config.lines import logical_lines
from ekiden.config.registry import split_words
from ekiden.tables.table import folded


class Entry(Struct, frozen=True):
    """One logical line. ``problem``: why it cannot be used; ``doubt``: it is used, but hardly as meant."""

    line: int
    key: str  # as it is written
    value: str
    problem: str = ""
    doubt: str = ""


class Source(Struct, frozen=True):
    """What a text holds: values by key as it is compared; problems as (line, text)."""

    entries: dict[str, str]
    problems: tuple[tuple[int, str], ...] = ()


def read_entries(text: str, *, aliases: bool = False) -> Iterator[Entry]:
    """The logical lines of ``key value`` (postmap(5)), or with ``aliases`` of ``name: value`` (aliases(5))."""
    split = _alias if aliases else _entry
    for line in logical_lines(text):
        if line.orphan:
            yield Entry(line.number, line.text.strip(), "", "logical line must not start with whitespace")
        else:
            # A continuation line brings its white space with it.
            yield split(line.number, line.text.replace("\n", ""))


def read_source(text: str, *, aliases: bool = False, fold: bool = True, files: bool = False) -> Source:
    """As read_entries, as a table. ``files``: values name files, and become their contents (base64)."""
    entries: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for entry in read_entries(text, aliases=aliases):
        if entry.problem:
            problems.append((entry.line, entry.problem))
            continue
        if entry.doubt:
            problems.append((entry.line, entry.doubt))
        if (key := folded(entry.key, fold)) in entries:
            problems.append((entry.line, f'duplicate entry: "{key}"'))
            continue
        try:
            entries[key] = contents_of(entry.value) if files else entry.value
        except FilesTrouble as trouble:
            problems.append((entry.line, f"{trouble}: skipping this entry"))
    return Source(entries, tuple(problems))


def place_of(path: str, key: str, *, aliases: bool = False, fold: bool = True) -> str:
    """``file:line`` of the entry in a text that has ``key``; the file alone when none has it, or it cannot be read."""
    try:
        text = Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return path
    wanted = folded(key, fold)
    for entry in read_entries(text, aliases=aliases):
        if not entry.problem and folded(entry.key, fold) == wanted:
            return f"{path}:{entry.line}"
    return path


def _entry(number: int, line: str) -> Entry:
    """The key ends at the first white space outside of quotes, which are a part of it: ``"John Doe"@example.com``."""
    at = 0
    while at < len(line) and not line[at].isspace():
        if line[at] == '"':
            at = quoted_string(line, at)[1]
            if at < 0:
                return Entry(number, line, "", f"unbalanced '\"' in '{line}' -- ignoring this line")
        else:
            at += 1
    key, value = line[:at], line[at:].strip()
    if not value:
        return Entry(number, key, value, "expected format: key whitespace value")
    doubt = 'record is in "key: value" format; is this an alias file?' if key.endswith(":") else ""
    return Entry(number, key, value, doubt=doubt)


def _alias(number: int, line: str) -> Entry:
    if line.startswith('"'):
        name, end = quoted_string(line, 0)
        rest = line[end:].lstrip() if end >= 0 else ""
        colon, value = rest[:1], rest[1:].strip()
    else:
        name, colon, value = line.partition(":")
        name, value = name.rstrip(), value.strip()
    if colon != ":" or not name or not value:
        return Entry(number, name, value, "need name:value pair")
    return Entry(number, name, value)


def quoted_string(line: str, at: int) -> tuple[str, int]:
    """The quoted string that begins here, without quotes and backslashes, and where it ends; -1 if it does not."""
    out: list[str] = []
    at += 1
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


class FilesTrouble(Exception):
    """A value that should name files does not name such as can be read."""


def contents_of(value: str) -> str:
    """The contents of the files that a value names, with a newline between them, in base64. Raises FilesTrouble."""
    names = list(split_words(value))
    if not names:
        raise FilesTrouble("empty pathname list")
    parts = []
    for name in names:
        try:
            parts.append(Path(name).read_bytes())
        except (OSError, ValueError) as error:
            raise FilesTrouble(f"open {name}: {getattr(error, 'strerror', None) or error}") from error
    return base64.b64encode(b"\n".join(parts)).decode("ascii")
