"""A file that is looked at (stat(2)) each time it is asked for, and read anew when it is another one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from ekiden.sasl.accounts import AccountTrouble

T = TypeVar("T")
_State: TypeAlias = tuple[int, int, int, int]  # device, inode, time of the last change, size


class WatchedFile(Generic[T]):
    """``read`` makes the value; it raises OSError, or AccountTrouble for what cannot be understood."""

    def __init__(self, path: Path, read: Callable[[], T]) -> None:
        self._path, self._read = str(path), read
        self._state: _State | None = None
        self._value: T | None = None

    def get(self) -> T:
        """What the file holds now. Raises AccountTrouble: what was known before may be gone for a reason."""
        try:
            state = self._look()
            if self._value is None or state is None or state != self._state:
                self._value = None
                # The state is of before: what changes while it is read is read again.
                self._value, self._state = self._read(), state
        except OSError as error:
            raise AccountTrouble(f"{self._path}: {error.strerror}") from error
        return self._value

    def _look(self) -> _State | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
