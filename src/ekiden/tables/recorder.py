"""Remembers what tables answered, so that ``ekiden why`` can name the entry that decided.

Whoever opens tables through ``Recorder.open`` asks them as always and knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.tables.open import open_table
from ekiden.tables.table import Table


class Hit(Struct, frozen=True):
    """One look-up that found something. ``place`` is ``file:line``, or "" where the table cannot tell."""

    table: str  # as main.cf names it
    key: str
    value: str
    place: str = ""


class Recorder:
    def __init__(self, open_table: Callable[..., Table] = open_table) -> None:
        self._open = open_table
        self._hits: list[Hit] = []

    def open(self, word: str, *, aliases: bool = False, parameters: Parameters | None = None) -> Table:
        """As open_table. Raises ConfigError."""
        return _Recorded(self._open(word, aliases=aliases, parameters=parameters), word, self._hits)

    def taken(self) -> list[Hit]:
        """The hits since the last call, in their order; one that came twice in a row is there once."""
        hits = [hit for at, hit in enumerate(self._hits) if at == 0 or hit != self._hits[at - 1]]
        self._hits.clear()
        return hits


class _Recorded(Table):
    def __init__(self, inner: Table, word: str, hits: list[Hit]) -> None:
        self.name = inner.name
        self.whole_keys = inner.whole_keys
        self._inner, self._word, self._hits = inner, word, hits

    async def lookup(self, key: str) -> str | None:
        value = await self._inner.lookup(key)
        if value is not None:
            self._hits.append(Hit(self._word, key, value, self._inner.place(key)))
        return value

    def place(self, key: str) -> str:
        return self._inner.place(key)

    async def close(self) -> None:
        await self._inner.close()
