"""Asking tables in a test, and keys that somebody hostile would have looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from ekiden.config.snapshot import Parameters
from ekiden.tables.open import open_table
from ekiden.tables.questions import Question, drive
from ekiden.tables.table import TableTrouble

T = TypeVar("T")

# Each is an address, or a part of one, that a stranger can put into MAIL or RCPT, or worse.
HOSTILE_KEYS = (
    "'", "''", "\\", "\\'", "\\\\'", "';drop table alias;--", "' or '1'='1", '" or "1"="1', "') or 1=1 -- ",
    "' or 1=1 #", "a'b\"@example", "a\\'b@example", "o'b@example", "%", "_", "%%", "%s@%d", "*", "*)(uid=*",
    "x)(|(mail=*))", "(", ")", "&", "|", "${jndi:x}", "$(id)", "`id`", "\N{INVERTED QUESTION MARK}' or 1=1 -- ",
    "縗' or 1=1 -- ", "\u02bc", "\uff07", "\n", "a\r\nset x 0 0 1\r\ny", "\x1a", "\x7f", "a b", "\t", "a,b@example",
    "+", "$$", "e'\\''", "x'41'", "--", "/*", "#", "l" * 3000 + "@example",
)  # fmt: skip
# What no database holds: a NUL, and bytes that are no UTF-8.
IMPOSSIBLE_KEYS = ("\0", "a\0b@example", "' or '1'='1\0", "\udcbf' or 1=1 -- ", "\udce5\udc5c' or 1=1 -- ", "\ud800")


def look(word: str, *keys: str, settings: Mapping[str, str] | None = None) -> list[str | None]:
    """The values of ``keys`` in a table that is opened and closed again."""

    async def main() -> list[str | None]:
        table = open_table(word, parameters=Parameters(settings or {}))
        try:
            return [await table.lookup(key) for key in keys]
        finally:
            await table.close()

    return asyncio.run(main())


def trouble(word: str, key: str, settings: Mapping[str, str] | None = None) -> str:
    """What a lookup that must fail says."""
    try:
        found = look(word, key, settings=settings)
    except TableTrouble as error:
        return str(error)
    raise AssertionError(f"{key!r} was answered: {found}")


def finished(asking: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that asks only tables which answer at once, as the deliverer runs it."""
    found: list[T] = []

    def ask(question: Question) -> None:
        raise AssertionError(f"{question} would have to wait")

    drive(asking, None, ask, found.append)
    return found[0]
