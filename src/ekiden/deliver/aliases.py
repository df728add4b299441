"""alias_maps: what a local name stands for (aliases(5)), and who answers for it.

An entry that cannot be understood is trouble: mail for it waits, it does not bounce as "unknown user".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.deliver.targets import Target, parse_targets
from ekiden.message.address import composed
from ekiden.tables.open import open_table
from ekiden.tables.table import Table, TableTrouble

# What Postfix adds to the name of a text to name the index that is made of it (postalias(1)).
_INDEX_SUFFIXES = ("", ".db", ".lmdb", ".cdb", ".pag")


class Alias(Struct, frozen=True):
    """An entry and the member of alias_maps that has it."""

    targets: tuple[Target, ...]
    table: str


class AliasSource(Protocol):
    async def lookup(self, name: str, *, partial: bool = False) -> tuple[Target, ...] | None:
        """What the local name ``name`` stands for, or None when it is no alias. Raises TableTrouble.

        ``partial``: the name is a part of the one that is looked for, which pattern tables are not asked for.
        """


class Aliases:
    """All of alias_maps, asked in order."""

    def __init__(self, tables: Sequence[tuple[str, Table]]) -> None:
        self._tables = tuple(tables)

    async def lookup(self, name: str, *, partial: bool = False) -> tuple[Target, ...] | None:
        alias = await self.find(name, partial=partial)
        return None if alias is None else alias.targets

    async def find(self, name: str, *, partial: bool = False) -> Alias | None:
        """The entry of ``name``, or None. Raises TableTrouble."""
        for word, table in self._tables:
            if partial and table.whole_keys:
                continue
            value = await table.lookup(composed(name.lower()))
            if value is None:
                continue
            try:
                return Alias(parse_targets(value), word)
            except ValueError as error:
                raise TableTrouble(f"{word}: {name}: {error}") from error
        return None


def open_aliases(
    words: Sequence[str],
    *,
    parameters: Parameters | None = None,
    open_table: Callable[..., Table] = open_table,
) -> Aliases:
    """The tables that alias_maps names. ``open_table`` is that of tables.open, or one like it. Raises ConfigError."""
    return Aliases([(word, open_table(word, aliases=True, parameters=parameters)) for word in words])


def owner_of_table(word: str) -> int:
    """The user who answers for what a member of alias_maps says: the owner of its file; root for one without a file.

    Raises TableTrouble.
    """
    path = word.partition(":")[2]
    if not path.startswith("/"):
        return 0  # inline:, static:, ldap:name ...: it stands in main.cf
    owners = set()
    for suffix in _INDEX_SUFFIXES:
        try:
            owners.add(os.stat(path + suffix).st_uid)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TableTrouble(f"{word}: {error.strerror}") from error
    if not owners:
        raise TableTrouble(f"{word}: the file is not there")
    # A text of root's and an index of another's (or the other way round): whoever is not root could have written it.
    owners.discard(0)
    if len(owners) > 1:
        raise TableTrouble(f"{word}: the file and its index belong to two users")
    return owners.pop() if owners else 0
