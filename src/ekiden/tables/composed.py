"""Tables made of tables: ``unionmap:{ type:name, ... }`` and ``pipemap:{ type:name, ... }``.

A union answers with the answers of all its tables, separated by commas. In a pipe the answer of each table is the key
for the next one. Either counts as a pattern table if its first one is such.
"""

from __future__ import annotations

from collections.abc import Sequence

from ekiden.config.errors import ConfigError
from ekiden.config.registry import split_words
from ekiden.tables.table import Finding, Opening, Table


class _Composed(Table):
    def __init__(self, name: str, tables: Sequence[Table]) -> None:
        self.name, self._tables = name, tuple(tables)
        self.whole_keys = self._tables[0].whole_keys

    def check(self) -> list[Finding]:
        return [finding for table in self._tables for finding in table.check()]

    async def close(self) -> None:
        for table in self._tables:
            await table.close()


class UnionTable(_Composed):
    async def lookup(self, key: str) -> str | None:
        values = [value for table in self._tables if (value := await table.lookup(key)) is not None]
        return ",".join(values) if values else None


class PipeTable(_Composed):
    async def lookup(self, key: str) -> str | None:
        for table in self._tables:
            value = await table.lookup(key)
            if value is None:
                return None
            key = value
        return key


def members(kind: str, text: str, what: str) -> list[str]:
    """The members of ``{ one, two ... }``. Raises ConfigError when it is no such list, or has none."""
    inner = list(split_words(text[1:-1])) if text.startswith("{") and text.endswith("}") else []
    if not inner:
        raise ConfigError(f'bad syntax: "{kind}:{text}"; need "{kind}:{{{what}...}}"')
    return [_bare(word) for word in inner]


def _bare(word: str) -> str:
    return word[1:-1].strip() if word.startswith("{") and word.endswith("}") else word


def open_type(text: str, opening: Opening) -> Table:
    kind = opening.kind
    tables = [opening.open(word) for word in members(kind, text, "type:name")]
    name = f"{kind}:{text}"
    return UnionTable(name, tables) if kind == "unionmap" else PipeTable(name, tables)
