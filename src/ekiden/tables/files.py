"""A file that a table is made of: read when it is first asked for, and again when it has changed, without a reload.

The file is looked at once a second at most, and one that was written to less than a second ago is left alone if there
are older contents: an editor may be in the midst of writing it, and an address that is missing for a moment must not
bounce.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ekiden.tables.table import Opening, TableTrouble

_LOOK_EVERY_S = 1.0
_SETTLED_S = 1.0

T = TypeVar("T")


class Watched(Generic[T]):
    """``read`` makes the value from the file; it may raise OSError or TableTrouble."""

    def __init__(self, name: str, path: Path, read: Callable[[Path], T], opening: Opening) -> None:
        self._name, self._path, self._read = name, path, read
        self._monotonic, self._wall = opening.monotonic, opening.wall
        self._value: T | None = None
        self._identity: tuple[int, int, int, int] | None = None
        self._look_again = float("-inf")

    def get(self) -> T:
        """What the file holds now. Raises TableTrouble, and looks again at the next call."""
        now = self._monotonic()
        if now >= self._look_again:
            self._look(now)
        if self._value is None:
            raise TableTrouble(f"{self._name}: cannot be read")
        return self._value

    def _look(self, now: float) -> None:
        try:
            found = os.stat(self._path)
            identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            fresh = 0 <= self._wall() - found.st_mtime < _SETTLED_S
            if identity != self._identity and not (fresh and self._value is not None):
                self._value = self._read(self._path)
                self._identity = identity
        except (OSError, TableTrouble) as error:
            # What was known before may be gone for a reason: nothing is guessed, mail waits.
            self._value = self._identity = None
            if isinstance(error, TableTrouble):
                raise
            raise TableTrouble(f"{self._name}: {error.strerror or error}") from error
        self._look_again = now + _LOOK_EVERY_S
