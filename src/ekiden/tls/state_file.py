"""A small database that all workers share, for what is useful and worth no mail: policies, counts for reports.

Never: waits for another process for longer than a moment, or raises when the file is full, locked or broken. It says so
once, each time that it begins to be, and tries the file anew at the next use.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

R = TypeVar("R")

_BUSY_MS = 50


class StateFile:
    """``consequence`` is what follows from a file that cannot be used, for ``warn``; ``schema`` makes its tables."""

    def __init__(self, path: Path, schema: str, *, consequence: str, warn: Callable[[str], None]) -> None:
        self._path, self._schema, self._consequence, self._warn = path, schema, consequence, warn
        self._database: sqlite3.Connection | None = None
        self._broken = False

    def use(self, work: Callable[[sqlite3.Connection], R]) -> R | None:
        """What ``work`` gives, in one transaction; None when the file or what it holds cannot be read."""
        try:
            if self._database is None:
                self._database = self._open()
            with self._database:
                result = work(self._database)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            if not self._broken:
                self._warn(f"{self._path}: {error}; {self._consequence}")
            self._broken = True
            self.close()
            return None
        self._broken = False
        return result

    def close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY_MS / 1000, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(self._schema)
        except sqlite3.Error:
            database.close()
            raise
        return database
