"""Makes and changes the index files of tables (postmap(1), postalias(1)).

A new file is written beside the old one and takes its name when it is whole and on disk: who looks up meanwhile has the
old one, and who crashes leaves it.
"""

from __future__ import annotations

import enum
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from ekiden.tables.cdb_file import CdbDamaged, CdbTooLarge, CdbWriter
from ekiden.tables.index import MARK_KEY, MARK_VALUE, SUFFIXES, ForeignIndex, open_index
from ekiden.tables.table import TableTrouble

_READABLE = 0o644


class Duplicates(enum.Enum):
    """What becomes of an entry whose key is there already."""

    WARN = "the first holds, and it is told"
    IGNORE = "the first holds"
    REPLACE = "the last holds"


class Manner(Struct, frozen=True):
    """How an index is made. ``null``: keys and values end with a null byte; None is the habit of the type."""

    duplicates: Duplicates = Duplicates.WARN
    null: bool | None = None
    inherit: bool = True  # a new index gets the permissions of its source
    lmdb_map_bytes: int = 16_777_216


class IndexBuilder:
    """Holds the index that is to be until write(). ``warn`` hears of duplicates."""

    def __init__(self, kind: str, path: str, manner: Manner, warn: Callable[[str], None]) -> None:
        """Raises TableTrouble for a type that has no index."""
        if kind not in SUFFIXES:
            raise TableTrouble(f"unsupported dictionary type: {kind} does not support bulk-mode creation.")
        self._kind, self._source, self._manner, self._warn = kind, Path(path), manner, warn
        self.index_path = Path(path + SUFFIXES[kind])
        # What a warning begins with, as Postfix has it for each type.
        self._label = {"cdb": path, "lmdb": f"lmdb:{path}"}.get(kind, str(self.index_path))
        self._entries: dict[bytes, bytes] = {}

    def load(self) -> None:
        """Take over what the index holds now; none yet is an empty one. Raises TableTrouble."""
        try:
            index = open_index(self._kind, self.index_path)
        except FileNotFoundError:
            return
        except (OSError, CdbDamaged, ForeignIndex) as error:
            raise TableTrouble(f"{self.index_path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            for key, value in index.items():
                self._entries.setdefault(key, value)
        except CdbDamaged as error:
            raise TableTrouble(f"{self.index_path}: {error}") from error
        finally:
            index.close()

    def add(self, key: str, value: str) -> None:
        coded = key.encode("utf-8", "surrogateescape")
        if coded in self._entries and self._manner.duplicates is not Duplicates.REPLACE:
            if self._manner.duplicates is Duplicates.WARN:
                self._warn(f'{self._label}: duplicate entry: "{key}"')
            return
        self._entries[coded] = value.encode("utf-8", "surrogateescape")

    def remove(self, key: str) -> bool:
        """Whether it was there."""
        return self._entries.pop(key.encode("utf-8", "surrogateescape"), None) is not None

    def write(self) -> None:
        """Put the index in its place. Raises TableTrouble; the old one is as it was then."""
        fresh = self.index_path.with_name(f".{self.index_path.name}.{os.urandom(8).hex()}")
        try:
            model = self._model()
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "w+b") as file:
                    self._fill(fresh, file.fileno())
                    _take_over(file.fileno(), model)
                    os.fsync(file.fileno())
                os.rename(fresh, self.index_path)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
            folder = os.open(self.index_path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise TableTrouble(f"open database {self.index_path}: {error.strerror or error}") from error
        except CdbTooLarge:
            raise TableTrouble(f"{self.index_path}: more than 4 GiB, which the format cannot hold") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the index meanwhile, who asks so, too. Raises TableTrouble."""
        while True:
            try:
                descriptor = os.open(self.index_path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                yield
                return
            except OSError as error:
                raise TableTrouble(f"open database {self.index_path}: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _same(descriptor, self.index_path):  # else somebody put a new one there while we waited
                    yield
                    return
            finally:
                os.close(descriptor)

    def _model(self) -> os.stat_result | None:
        """The file whose owner and permissions the new index gets: the old one, else the source."""
        for path in (self.index_path, self._source) if self._manner.inherit else (self.index_path,):
            try:
                return os.stat(path)
            except FileNotFoundError:
                continue
        return None

    def _fill(self, path: Path, descriptor: int) -> None:
        null = self._kind == "lmdb" if self._manner.null is None else self._manner.null
        end = b"\0" if null else b""
        if self._kind == "lmdb":
            from ekiden.tables.lmdb_file import write_lmdb

            write_lmdb(path, ((k + end, v + end) for k, v in self._entries.items()), self._manner.lmdb_map_bytes)
            return
        with os.fdopen(os.dup(descriptor), "w+b") as file:
            writer = CdbWriter(file)
            if self._kind != "cdb":
                writer.add(MARK_KEY, MARK_VALUE)
                end = b""  # only we read these
            for key, value in self._entries.items():
                writer.add(key + end, value + end)
            writer.finish()


def _take_over(descriptor: int, model: os.stat_result | None) -> None:
    if model is None:
        os.fchmod(descriptor, _READABLE)
        return
    os.fchmod(descriptor, stat.S_IMODE(model.st_mode) & _READABLE | 0o600)
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (model.st_uid, model.st_gid):
        try:
            os.fchown(descriptor, model.st_uid, model.st_gid)
        except PermissionError:  # only root gives files away; who may write here owns the index then
            pass


def _same(descriptor: int, path: Path) -> bool:
    try:
        here = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (here.st_dev, here.st_ino)


def alias_value(value: str) -> str:
    """The right-hand side of an alias as postalias shows it, with one blank behind each comma, where that is plain."""
    if any(char in value for char in '"(\\'):
        return value
    return ", ".join(part for part in (piece.strip() for piece in value.split(",")) if part)
