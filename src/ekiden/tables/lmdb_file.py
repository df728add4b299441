"""Files of OpenLDAP LMDB, through the library of the extra ``lmdb``."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ekiden.tables.table import TableTrouble

# Other programs write to such a file in place and hold a lock meanwhile; a reader waits so long for them.
_LOCK_WAIT_S = 0.2
_LOCK_STEP_S = 0.005

# The library opens a file once in a process: file -> its environment and how many share it.
_Key = tuple[int, int]
_open: dict[_Key, tuple[Any, int]] = {}


def library() -> Any:
    """The module lmdb. Raises TableTrouble that names the extra."""
    try:
        import lmdb
    except ImportError:
        raise TableTrouble("lmdb: tables need a library: pip install 'ekiden[lmdb]'") from None
    return lmdb


class LmdbReader:
    """Raises OSError, TableTrouble."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(self._lock)
        self._key = (found.st_dev, found.st_ino)
        try:
            self._lmdb = library()
            environment, users = _open.get(self._key, (None, 0))
            if environment is None:
                # The file of our own descriptor, whatever has its name by now: the library knows files by name.
                environment = self._lmdb.open(
                    f"/proc/self/fd/{self._lock}", subdir=False, readonly=True, lock=False, max_dbs=0
                )
            self._environment = environment
            _open[self._key] = (environment, users + 1)
        except BaseException as error:
            os.close(self._lock)
            self._lock = -1
            if not isinstance(error, TableTrouble | OSError) and isinstance(error, library().Error):
                raise TableTrouble(f"{path}: {error}") from error
            raise

    def get(self, key: bytes) -> bytes | None:
        if not 0 < len(key) <= self._environment.max_key_size():
            return None
        with self._transaction() as transaction:
            value: bytes | None = transaction.get(key)
            return value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction() as transaction:
            yield from transaction.cursor()

    def close(self) -> None:
        if self._lock < 0:
            return
        environment, users = _open[self._key]
        if users > 1:
            _open[self._key] = (environment, users - 1)
        else:
            del _open[self._key]
            environment.close()
        os.close(self._lock)
        self._lock = -1

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise TableTrouble(f"{self._path}: another program is changing it") from error
                time.sleep(_LOCK_STEP_S)
        try:
            with self._environment.begin() as transaction:
                yield transaction
        except self._lmdb.Error as error:
            raise TableTrouble(f"{self._path}: {error}") from error
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


def write_lmdb(path: Path, entries: Iterator[tuple[bytes, bytes]], map_bytes: int) -> None:
    """A new file with these entries; of equal keys the last holds. Raises TableTrouble."""
    lmdb = library()
    size = map_bytes
    pairs = list(entries)
    while True:
        try:
            with (
                lmdb.open(str(path), subdir=False, lock=False, map_size=size, mode=0o600) as environment,
                environment.begin(write=True) as transaction,
            ):
                for key, value in pairs:
                    transaction.put(key, value)
            return
        except lmdb.MapFullError:
            size *= 4
            path.unlink()
        except lmdb.Error as error:
            raise TableTrouble(f"{path}: {error}") from error
