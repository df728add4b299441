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
    "inline": "inline",
    "static": "static",
    "texthash": "texthash",
    # over the network
}

TABLE_TYPES = tuple(sorted(MODULES))

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
    parameters: Parameters | None = None,
    monotonic: Seconds = time.monotonic,
    wall: Seconds = time.time,
) -> Table:
    """The table ``type:name``. Raises ConfigError; a file that is not there is TableTrouble at the lookup.

    ``aliases``: a text source is in the form of aliases(5), and values are right-hand sides as they are written.
    Without ``fold`` keys are compared as they are. ``parameters`` are for limits and for types that are described in
    main.cf; without them the defaults hold.
    """
    kind, colon, text = word.partition(":")
    kinds = ", ".join(TABLE_TYPES)
    if not colon:
        raise ConfigError(f"{word!r} is not a table: write type:name, with one of the types {kinds}")
    module = MODULES.get(kind)
    if module is None:
        hint = f"; texthash:{text} reads the same file without postmap" if kind in _COMPILED else ""
        raise ConfigError(f"there is no table type {kind!r} (in {word!r}); the types are {kinds}{hint}")
    parameters = _defaults() if parameters is None else parameters

    def open_inner(inner: str) -> Table:
        return open_table(inner, aliases=aliases, fold=fold, parameters=parameters, monotonic=monotonic, wall=wall)

    opening = Opening(parameters, open_inner, aliases, fold, monotonic, wall)
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
