"""What all tables that ask a SQL database have in common: which keys are asked for, and how rows become one value."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

from ekiden.tables.client_settings import ClientSettings
from ekiden.tables.key_format import Format, KeyDomains, KeyParts, can_be_asked, joined
from ekiden.tables.server_pool import PoolLimits
from ekiden.tables.sql_query import Dialect, SqlQuery, read_query
from ekiden.tables.table import Finding, Opening, Table, folded

Rows: TypeAlias = Sequence[Sequence[str | None]]


class SqlTable(Table):
    """Raises ConfigError."""

    _findings: list[Finding]

    def __init__(self, settings: ClientSettings, dialect: Dialect, opening: Opening) -> None:
        self.name = settings.table
        self._fold = opening.fold
        self._query = read_query(settings, dialect)
        self._result_format = settings.read("result_format", "%s", Format)
        self._domains = KeyDomains(settings.words("domain"), opening)
        self._expansion_limit = settings.number("expansion_limit", 0)

    async def lookup(self, key: str) -> str | None:
        parts = KeyParts.of(folded(key, self._fold))
        if (
            not can_be_asked(key)
            or not self._result_format.has_all_of(parts)
            or self._query.of_key(parts, escapes=False) is None
            or not await self._domains.include(parts)
        ):
            return None
        values = [value for row in await self._rows(self._query, parts) for value in row]
        return joined(self.name, values, self._result_format, parts, self._expansion_limit)

    def check(self) -> list[Finding]:
        return self._findings

    @abstractmethod
    async def _rows(self, query: SqlQuery, key: KeyParts) -> Rows:
        """What the database has for a key that has all that the query needs. Raises TableTrouble."""


def pool_limits(settings: ClientSettings, opening: Opening) -> PoolLimits:
    """Raises ConfigError."""
    return PoolLimits(
        opening.parameters.table_connection_limit,
        settings.seconds("timeout", opening.parameters.table_lookup_timeout, minimum=1),
        settings.seconds("idle_interval", 60, minimum=1),
        settings.seconds("retry_interval", 60),
    )


def shown(error: BaseException) -> str:
    """An error of a database library on one line, of an end. It may hold text of the address that was looked up."""
    text = " ".join(str(error).split())[:300]
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text) or type(error).__name__
