"""Aliases of local names: the grammar of aliases(5), the file that holds them, and their expansion.

The text file itself is read, at once and again when it changes; there is no compiled form and no newaliases to forget.
An entry that cannot be understood is kept as one: mail for it waits, it does not bounce as "unknown user".
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.config.lines import logical_lines
from ekiden.message.address import Address
from ekiden.protocol.smtp.path import parse_mailbox
from ekiden.tables.address import split_extension
from ekiden.tables.open import Maps, open_table
from ekiden.tables.table import TableTrouble

# Types of Postfix that are made from a file in this grammar.
_FILE_TYPES = frozenset(("btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash"))
# As for texthash tables: a file is looked at once a second at most, and left alone while it is being written.
_LOOK_EVERY_S = 1.0
_SETTLED_S = 1.0

Seconds = Callable[[], float]


class MailTo(Struct, frozen=True):
    """An address, or without a domain a local name. ``final``: ``\\user``, which no further alias replaces."""

    address: Address
    final: bool = False


class NotYet(Struct, frozen=True):
    """A target that this version does not deliver to: ``|command``, ``/file``, ``:include:/file``."""

    text: str


Target = MailTo | NotYet


class AliasFile(Struct, frozen=True):
    """Entries by lower-case name; the text of an entry that is not understood; problems as (line, text)."""

    entries: dict[str, tuple[Target, ...]]
    broken: dict[str, str]
    problems: tuple[tuple[int, str], ...]


def parse_aliases(text: str) -> AliasFile:
    """Read the grammar of aliases(5). Of two entries of one name the first holds."""
    entries: dict[str, tuple[Target, ...]] = {}
    broken: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for line in logical_lines(text):
        try:
            name, rest = _split_name(line.text)
        except ValueError:  # a quote that is not closed
            name = None
        if name is None or line.orphan:
            problems.append((line.number, "an entry is written name: address, address ..."))
            continue
        key = name.lower()
        if key in entries or key in broken:
            problems.append((line.number, f"{name} has an entry already; the first one holds"))
            continue
        try:
            entries[key] = parse_targets(rest)
        except ValueError as error:
            broken[key] = str(error)
            problems.append((line.number, f"{name}: {error}"))
    return AliasFile(entries, broken, tuple(problems))


def _split_name(line: str) -> tuple[str | None, str]:
    """``name`` and what follows its colon; a name with special characters is quoted."""
    if not line.startswith('"'):
        name, colon, rest = line.partition(":")
        name = name.rstrip()
        return (name if colon and name and " " not in name else None), rest
    name, end = _unquoted(line, 0)
    rest = line[end:].lstrip()
    return (name if name and rest.startswith(":") else None), rest[1:]


def parse_targets(text: str) -> tuple[Target, ...]:
    """The right-hand side of an alias. Raises ValueError that says which part is wrong."""
    targets = tuple(_target(word) for word in _members(text))
    if not targets:
        raise ValueError("the alias leads nowhere")
    return targets


def _members(text: str) -> list[str]:
    """The members of a list separated by commas; inside quotes a comma is itself. Linear in the text."""
    members: list[str] = []
    start = at = 0
    while at < len(text):
        if text[at] == '"':
            at = _unquoted(text, at)[1]
        elif text[at] == ",":
            members.append(text[start:at])
            start = at = at + 1
        else:
            at += 1
    members.append(text[start:])
    return [word for word in (" ".join(member.split("\n")).strip() for member in members) if word]


def _unquoted(text: str, at: int) -> tuple[str, int]:
    """The quoted string that begins at ``at``, without quotes and backslashes, and where it ends. Raises ValueError."""
    out: list[str] = []
    at += 1
    while at < len(text):
        char = text[at]
        if char == '"':
            return "".join(out), at + 1
        if char == "\\" and at + 1 < len(text):
            at += 1
            char = text[at]
        out.append(char)
        at += 1
    raise ValueError("a quote is not closed")


def _target(word: str) -> Target:
    bare = word
    if word.startswith('"'):
        inner, end = _unquoted(word, 0)
        if end == len(word):  # "|command args", "/file name", "user name"; but "local part"@domain is an address
            bare = inner
            if inner and not inner.startswith(("|", "/", ":")):
                return MailTo(Address(inner))
    if bare.startswith(("|", "/")) or bare.lower().startswith(":include:"):
        return NotYet(bare)
    final = word.startswith("\\")
    address = parse_mailbox(word[1:] if final else word, lenient=True)
    if address is None or not address.local:  # ""@x.example is an address, but nobody's
        raise ValueError(f"{word!r} is not an address")
    return MailTo(address, final)


class AliasSource(Protocol):
    async def lookup(self, name: str) -> tuple[Target, ...] | None:
        """What the local name ``name`` stands for, or None when it is no alias. Raises TableTrouble."""


class AliasFileSource:
    """One file, read when it is first asked for and when it has changed."""

    def __init__(self, path: str, *, monotonic: Seconds = time.monotonic, wall: Seconds = time.time) -> None:
        self._path = Path(path)
        self._monotonic, self._wall = monotonic, wall
        self._file: AliasFile | None = None
        self._identity: tuple[int, int, int, int] | None = None
        self._look_again = float("-inf")

    async def lookup(self, name: str) -> tuple[Target, ...] | None:
        now = self._monotonic()
        if now >= self._look_again:
            self._look(now)
        if self._file is None:
            raise TableTrouble(f"aliases {self._path}: cannot be read")
        key = name.lower()
        if key in self._file.broken:
            raise TableTrouble(f"aliases {self._path}: {key}: {self._file.broken[key]}")
        return self._file.entries.get(key)

    def _look(self, now: float) -> None:
        try:
            found = os.stat(self._path)
            identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            fresh = 0 <= self._wall() - found.st_mtime < _SETTLED_S
            if identity != self._identity and not (fresh and self._file is not None):
                self._file = parse_aliases(self._path.read_text("utf-8", "surrogateescape"))
                self._identity = identity
        except OSError as error:
            # The aliases that were known before may be gone for a reason: nothing is guessed, mail waits.
            self._file = self._identity = None
            raise TableTrouble(f"aliases {self._path}: {error.strerror or error}") from error
        self._look_again = now + _LOOK_EVERY_S


class AliasTableSource:
    """A table of another type whose values are right-hand sides of aliases."""

    def __init__(self, maps: Maps, name: str) -> None:
        self._maps, self._name = maps, name

    async def lookup(self, name: str) -> tuple[Target, ...] | None:
        value = await self._maps.lookup(name.lower())
        if value is None:
            return None
        try:
            return parse_targets(value)
        except ValueError as error:
            raise TableTrouble(f"{self._name}: {name}: {error}") from error


class Aliases:
    """All of alias_maps, asked in order."""

    def __init__(self, sources: Sequence[AliasSource]) -> None:
        self._sources = tuple(sources)

    async def lookup(self, name: str) -> tuple[Target, ...] | None:
        for source in self._sources:
            targets = await source.lookup(name)
            if targets is not None:
                return targets
        return None


def open_aliases(words: Sequence[str], *, monotonic: Seconds = time.monotonic, wall: Seconds = time.time) -> Aliases:
    """The sources that alias_maps names. Raises ConfigError."""
    sources: list[AliasSource] = []
    for word in words:
        kind, _, path = word.partition(":")
        if kind in _FILE_TYPES:
            if not path.startswith("/"):
                raise ConfigError(f"alias_maps: {word}: the file must be given with its full path")
            sources.append(AliasFileSource(path, monotonic=monotonic, wall=wall))
        else:
            sources.append(AliasTableSource(Maps([open_table(word, monotonic=monotonic, wall=wall)]), word))
    return Aliases(sources)


class AliasLoop(Exception):
    """Aliases lead back to themselves, or too far."""


class Expansion(Struct, frozen=True):
    """Where a local name leads: names of mailboxes, addresses elsewhere, and what cannot be delivered to yet."""

    mailboxes: tuple[str, ...]
    addresses: tuple[Address, ...]
    not_yet: tuple[NotYet, ...]


class ExpansionRules(Struct, frozen=True):
    delimiter: str  # recipient_delimiter
    myorigin: str  # the domain of a target without one
    recursion_limit: int
    expansion_limit: int


# Without an alias of their own, the mail of these goes where that of the next goes.
_FALLBACK = {"mailer-daemon": "postmaster", "postmaster": "root"}


async def expand(
    name: str, aliases: AliasSource, is_local: Callable[[str], Awaitable[bool]], rules: ExpansionRules
) -> Expansion:
    """Follow the aliases of a local name to their ends, each end once. Raises AliasLoop, TableTrouble."""
    mailboxes: dict[str, str] = {}
    addresses: dict[str, Address] = {}
    not_yet: dict[str, NotYet] = {}
    seen: set[str] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ())]  # names, each with the aliases that led to it
    while waiting:
        current, chain = waiting.pop()
        alias, targets = await _find(current, aliases, rules.delimiter)
        if targets is None or (chain and chain[-1] == alias):  # an alias that names itself means the user
            mailboxes.setdefault(current.lower(), current)
            continue
        if alias in chain or len(chain) >= rules.recursion_limit:
            raise AliasLoop(f"alias database loop for {name}")
        if alias in seen:
            continue
        seen.add(alias)
        inner = (*chain, alias)
        names: list[str] = []
        for target in targets:
            if isinstance(target, NotYet):
                not_yet.setdefault(target.text, target)
                continue
            address = target.address
            if await is_local(address.domain or rules.myorigin):
                if target.final:
                    mailboxes.setdefault(address.local.lower(), address.local)
                else:
                    names.append(address.local)
            else:
                full = address if address.domain else Address(address.local, rules.myorigin)
                addresses.setdefault(full.key, full)
        waiting.extend((local, inner) for local in reversed(names))
        if len(waiting) + len(mailboxes) + len(addresses) > rules.expansion_limit:
            raise AliasLoop(f"the alias {name} stands for more than {rules.expansion_limit} addresses")
    return Expansion(tuple(mailboxes.values()), tuple(addresses.values()), tuple(not_yet.values()))


async def _find(name: str, aliases: AliasSource, delimiter: str) -> tuple[str, tuple[Target, ...] | None]:
    """The alias that stands for ``name`` and its targets: the whole name first, then without its extension."""
    key = name.lower()
    if (targets := await aliases.lookup(key)) is not None:
        return key, targets
    user, extension = split_extension(key, delimiter)
    if extension and (targets := await aliases.lookup(user)) is not None:
        return user, targets
    while user in _FALLBACK:
        user = _FALLBACK[user]
        if (targets := await aliases.lookup(user)) is not None:
            return user, targets
    return key, None
