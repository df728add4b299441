"""``hash:/path``, ``btree:``, ``dbm:``, ``sdbm:``, ``cdb:``, ``lmdb:``: a text file with an index beside it.

``postmap hash:/etc/virtual`` makes ``/etc/virtual.db`` of ``/etc/virtual``, and the index is what is asked. Without an
index the text is read as it is, so that a table works before anybody has thought of postmap. A ``.db`` file of Berkeley
DB, as other servers make it, cannot be read: the text is read in its place, with a warning.

An index that has become older than its text is asked all the same, with a warning, as everybody knows it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ekiden.tables.cdb_file import CdbDamaged, CdbReader
from ekiden.tables.files import Watched, absolute, findings, log, warn_of
from ekiden.tables.source import Source, place_of
from ekiden.tables.table import Finding, Opening, Table, TableTrouble, folded
from ekiden.tables.texthash import read_text_source

# How the file of each type's index ends. What is made here for the types of .db is one format, a constant database.
SUFFIXES = {"btree": ".db", "cdb": ".cdb", "dbm": ".db", "hash": ".db", "lmdb": ".lmdb", "sdbm": ".db"}

# The first record of a .db that was made here. No key that anybody looks up has a null byte.
MARK_KEY, MARK_VALUE = b"\0ekiden index", b"1"

_BERKELEY_DB = {0x00061561: "hash", 0x00053162: "btree"}
_MAGIC_AT, _MAGIC_BYTES = 12, 4


class Index(Protocol):
    """An open index file. ``get`` and ``items`` raise CdbDamaged, OSError, TableTrouble."""

    def get(self, key: bytes) -> bytes | None: ...
    def items(self) -> Iterator[tuple[bytes, bytes]]: ...
    def close(self) -> None: ...


class TextIndex:
    """A text source that stands where an index is not."""

    def __init__(self, source: Source) -> None:
        self._entries = source.entries

    def get(self, key: bytes) -> bytes | None:
        value = self._entries.get(key.decode("utf-8", "surrogateescape"))
        return None if value is None else value.encode("utf-8", "surrogateescape")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._entries.items():
            yield key.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")

    def close(self) -> None:
        pass


class NullEnded:
    """An index of another program, whose keys and values may end with a null byte each; few mix both habits."""

    def __init__(self, inner: Index) -> None:
        self._inner = inner
        self._habits: tuple[bytes, ...] = (b"\0", b"")

    def get(self, key: bytes) -> bytes | None:
        for end in self._habits:
            value = self._inner.get(key + end)
            if value is not None:
                self._habits = (end,)  # the program that wrote one entry so wrote the others so, too
                return value.removesuffix(end)
        return None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._inner.items():
            yield key.removesuffix(b"\0"), value.removesuffix(b"\0")

    def close(self) -> None:
        self._inner.close()


class OwnIndex:
    """A .db that was made here: a constant database with a mark."""

    def __init__(self, inner: CdbReader) -> None:
        self._inner = inner

    def get(self, key: bytes) -> bytes | None:
        return self._inner.get(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return ((key, value) for key, value in self._inner.items() if key != MARK_KEY)

    def close(self) -> None:
        self._inner.close()


class ForeignIndex(Exception):
    """The .db file is there and not ours."""


def open_index(kind: str, path: Path) -> Index:
    """The index file ``path``. Raises OSError, CdbDamaged, TableTrouble, ForeignIndex."""
    if kind == "lmdb":
        from ekiden.tables.lmdb_file import LmdbReader

        return NullEnded(LmdbReader(path))
    if kind == "cdb":
        return NullEnded(CdbReader(path))
    with open(path, "rb") as file:
        head = file.read(_MAGIC_AT + _MAGIC_BYTES)[_MAGIC_AT:]
    for number in (int.from_bytes(head, "little"), int.from_bytes(head, "big")):
        if (flavour := _BERKELEY_DB.get(number)) is not None:
            raise ForeignIndex(f"a Berkeley DB {flavour} file of another mail server")
    try:
        reader = CdbReader(path)
    except CdbDamaged:
        raise ForeignIndex("no index file that is known here") from None
    try:
        ours = reader.get(MARK_KEY) is not None
    except CdbDamaged:
        ours = False
    if not ours:
        reader.close()
        raise ForeignIndex("no index file that is known here")
    return OwnIndex(reader)


class IndexTable(Table):
    def __init__(self, kind: str, path: str, opening: Opening) -> None:
        self.name = f"{kind}:{path}"
        self._kind, self._path, self._opening = kind, path, opening
        self.index_path = Path(path + SUFFIXES[kind])
        self._index = Watched(
            self.name, [self.index_path, Path(path)], self._open, opening,
            release=lambda index: index.close(), whole=True,
        )  # fmt: skip

    async def lookup(self, key: str) -> str | None:
        index = self._index.get()
        try:
            value = index.get(folded(key, self._opening.fold).encode("utf-8", "surrogateescape"))
        except (CdbDamaged, OSError) as error:
            self._index.drop()
            raise TableTrouble(f"{self.name}: {self.index_path}: {error}") from error
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def place(self, key: str) -> str:
        """The line of the text: an index has none."""
        return place_of(self._path, key, aliases=self._opening.aliases, fold=self._opening.fold)

    def items(self) -> Iterator[tuple[str, str]]:
        """All entries, in the order of the file. Raises TableTrouble."""
        try:
            for key, value in self._index.get().items():
                yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        except (CdbDamaged, OSError) as error:
            raise TableTrouble(f"{self.name}: {self.index_path}: {error}") from error

    def check(self) -> list[Finding]:
        found: list[Finding] = []
        try:
            open_index(self._kind, self.index_path).close()
        except FileNotFoundError:
            pass
        except ForeignIndex as foreign:
            found.append(Finding(str(self.index_path), 0, self._instead(foreign)))
        except (OSError, CdbDamaged) as error:
            raise TableTrouble(f"{self.name}: {self.index_path}: {error}") from error
        else:
            return [Finding(str(self.index_path), 0, f"older than {self._path}: {self._how()}")] if self._old() else []
        try:
            return found + findings(self._path, read_text_source(self._path, self._opening).problems)
        except OSError as error:
            raise TableTrouble(f"{self.name}: {error.strerror or error}") from error

    async def close(self) -> None:
        self._index.drop()

    def _open(self) -> Index:
        try:
            index = open_index(self._kind, self.index_path)
        except FileNotFoundError:
            return self._text()
        except ForeignIndex as foreign:
            if not os.path.exists(self._path):
                raise TableTrouble(
                    f"{self.name}: {self.index_path} is {foreign}, and there is no {self._path}"
                ) from None
            log.warning("%s: %s", self.index_path, self._instead(foreign))
            return self._text()
        except CdbDamaged as error:
            raise TableTrouble(f"{self.name}: {self.index_path}: {error}") from error
        if self._old():
            log.warning("database %s is older than source file %s", self.index_path, self._path)
        return index

    def _text(self) -> Index:
        source = read_text_source(self._path, self._opening)
        warn_of("", self._path, source.problems)
        return TextIndex(source)

    def _old(self) -> bool:
        try:
            return os.stat(self._path).st_mtime > os.stat(self.index_path).st_mtime
        except OSError:
            return False

    def _instead(self, foreign: ForeignIndex) -> str:
        return f"{foreign}: {self._path} itself is read in its place; {self._how()}"

    def _how(self) -> str:
        command = "newaliases" if self._opening.aliases else f"postmap {self.name}"
        return f"{command} makes a new index"


def open_type(text: str, opening: Opening) -> IndexTable:
    kind = opening.kind
    return IndexTable(kind, absolute(kind, text), opening)
