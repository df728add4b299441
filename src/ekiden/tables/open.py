"""Opens lookup tables by the names that main.cf gives them: ``type:name``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ekiden.config.errors import ConfigError
from ekiden.tables.inline import InlineTable
from ekiden.tables.static import StaticTable
from ekiden.tables.table import Table
from ekiden.tables.texthash import TexthashTable

Seconds = Callable[[], float]

_OPENERS: dict[str, Callable[[str, Seconds, Seconds], Table]] = {
    "inline": lambda text, monotonic, wall: InlineTable(text),
    "static": lambda text, monotonic, wall: StaticTable(text),
    "texthash": lambda text, monotonic, wall: TexthashTable(_absolute(text), monotonic=monotonic, wall=wall),
}

TABLE_TYPES = tuple(sorted(_OPENERS))

# Types of Postfix that keep a compiled form of a file whose source texthash reads as it is.
_COMPILED = frozenset({"btree", "cdb", "dbm", "hash", "lmdb", "sdbm"})

# Types whose name is the path of a file with a text form.
FILE_TYPES = _COMPILED | {"texthash"}


class Maps:
    """Tables that are asked in order; the first that has the key answers."""

    __slots__ = ("tables",)

    def __init__(self, tables: Sequence[Table] = ()) -> None:
        self.tables = tuple(tables)

    def __bool__(self) -> bool:
        return bool(self.tables)

    async def lookup(self, key: str) -> str | None:
        """The first answer, or None. Raises TableTrouble when a table that was asked could not answer."""
        for table in self.tables:
            value = await table.lookup(key)
            if value is not None:
                return value
        return None


def is_table(word: str) -> bool:
    """Whether a member of a list names a table (``type:name``) rather than a domain or an address."""
    kind, colon, rest = word.partition(":")
    return bool(colon) and bool(rest) and kind.replace("-", "").replace("_", "").isalnum() and not kind[0].isdigit()


def open_table(word: str, *, monotonic: Seconds = time.monotonic, wall: Seconds = time.time) -> Table:
    """The table ``type:name``. Raises ConfigError; a file that is not there is TableTrouble at the lookup."""
    kind, colon, text = word.partition(":")
    kinds = ", ".join(TABLE_TYPES)
    if not colon:
        raise ConfigError(f"{word!r} is not a table: write type:name, with one of the types {kinds}")
    opener = _OPENERS.get(kind)
    if opener is None:
        hint = f"; texthash:{text} reads the same file without postmap" if kind in _COMPILED else ""
        raise ConfigError(f"there is no table type {kind!r} (in {word!r}); the types are {kinds}{hint}")
    return opener(text.strip(), monotonic, wall)


def open_tables(words: Sequence[str], *, monotonic: Seconds = time.monotonic, wall: Seconds = time.time) -> Maps:
    """The tables of a list. Raises ConfigError."""
    return Maps([open_table(word, monotonic=monotonic, wall=wall) for word in words])


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ConfigError(f"texthash:{path}: the file must be given with its full path, such as /etc/ekiden/virtual")
    return path
