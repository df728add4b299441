"""Opens lookup tables by the names that main.cf gives them: ``type:name``."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.tables.table import Opening, Seconds, Table

# The module of ekiden.tables that has each type, imported when the first table of the type is opened. It has a function
# ``open_type(text, opening)``, which raises ConfigError for a text (what follows ``type:``) that it cannot use.
MODULES: dict[str, str] = {
    # on this host
    "btree": "index",
    "cdb": "index",
    "cidr": "cidr",
    "dbm": "index",
    "environ": "environ",
    "fail": "fail",
    "hash": "index",
    "inline": "inline",
    "lmdb": "index",
    "pcre": "patterns",
    "pipemap": "composed",
    "proxy": "proxy",
    "randmap": "randmap",
    "regexp": "patterns",
    "sdbm": "index",
    "static": "static",
    "texthash": "texthash",
    "unionmap": "composed",
    "unix": "unix",
    # over the network
    "ldap": "ldap",
    "memcache": "memcache",
    "mysql": "mysql",
    "pgsql": "pgsql",
    "redis": "redis",
    "socketmap": "socketmap",
    "sqlite": "sqlite",
    "tcp": "tcp",
}

TABLE_TYPES = tuple(sorted(MODULES))

# Types whose name is the path of a file with a text form (postmap(5), aliases(5)).
FILE_TYPES = frozenset({"btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash"})


class Maps:
    """Tables that are asked in order; the first that has the key answers."""

    __slots__ = ("tables",)

    def __init__(self, tables: Sequence[Table] = ()) -> None:
        self.tables = tuple(tables)

    def __bool__(self) -> bool:
        return bool(self.tables)

    async def lookup(self, key: str, *, partial: bool = False) -> str | None:
        """The first answer, or None. Raises TableTrouble when a table that was asked could not answer.

        ``partial``: the key is a part of what is looked for (a domain of an address, a parent of a domain), which
        pattern tables are not asked for.
        """
        for table in self.tables:
            if partial and table.whole_keys:
                continue
            value = await table.lookup(key)
            if value is not None:
                return value
        return None


def is_table(word: str) -> bool:
    """Whether a member of a list names a table (``type:name``) rather than a domain or an address."""
    kind, colon, rest = word.partition(":")
    return bool(colon) and bool(rest) and kind.replace("-", "").replace("_", "").isalnum() and not kind[0].isdigit()


def open_table(
    word: str,
    *,
    aliases: bool = False,
    fold: bool = True,
    files: bool = False,
    parameters: Parameters | None = None,
    monotonic: Seconds = time.monotonic,
    wall: Seconds = time.time,
) -> Table:
    """The table ``type:name``. Raises ConfigError; a file that is not there is TableTrouble at the lookup.

    ``aliases``: a text source is in the form of aliases(5), and values are right-hand sides as they are written.
    Without ``fold`` keys are compared as they are. ``files``: values name files, whose contents are meant (base64).
    ``parameters`` are for limits and for types that are described in main.cf; without them the defaults hold.
    """
    kind, colon, text = word.partition(":")
    kinds = ", ".join(TABLE_TYPES)
    if not colon:
        raise ConfigError(f"{word!r} is not a table: write type:name, with one of the types {kinds}")
    module = MODULES.get(kind)
    if module is None:
        raise ConfigError(f"there is no table type {kind!r} (in {word!r}); the types are {kinds}")
    if not text.strip():
        raise ConfigError(f"{word!r} lacks the name of the table: write type:name")
    parameters = _defaults() if parameters is None else parameters

    def open_inner(inner: str) -> Table:
        return open_table(
            inner, aliases=aliases, fold=fold, files=files, parameters=parameters, monotonic=monotonic, wall=wall
        )

    opening = Opening(kind, parameters, open_inner, aliases, fold, files, monotonic, wall)
    open_type: Callable[[str, Opening], Table] = importlib.import_module(f"ekiden.tables.{module}").open_type
    return open_type(text.strip(), opening)


def open_tables(
    words: Sequence[str],
    *,
    parameters: Parameters | None = None,
    monotonic: Seconds = time.monotonic,
    wall: Seconds = time.time,
) -> Maps:
    """The tables of a list. Raises ConfigError."""
    return Maps([open_table(word, parameters=parameters, monotonic=monotonic, wall=wall) for word in words])


@lru_cache(maxsize=1)
def _defaults() -> Parameters:
    return Parameters()
