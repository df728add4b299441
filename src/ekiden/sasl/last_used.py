"""On which day each app password was last used: what tells an administrator which may go.

A small file of JSON beside the queue, which the workers write (they cannot write to the configuration directory): by
one at a time, whole, at most once a day for each app password. It is lost without harm.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

NAME = "app-passwords-used"
_LIMIT_BYTES = 16_777_216


def utc_day(at: float) -> str:
    """``at`` (seconds since the epoch) as 2026-11-29."""
    return datetime.fromtimestamp(at, tz=UTC).date().isoformat()


class LastUsed:
    """``path`` of the file. ``wall`` gives seconds since the epoch."""

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self._path = path
        self._wall = wall
        self._noted: dict[tuple[str, str], str] = {}

    def is_noted(self, account: str, app_password: str) -> bool:
        """Whether this process has noted its use today."""
        return self._noted.get((account, app_password)) == utc_day(self._wall())

    def note(self, account: str, app_password: str) -> None:
        """It was used now. What cannot be written is left out: a login does not depend on it. Blocks."""
        day = utc_day(self._wall())
        try:
            self._write(account, app_password, day)
        except OSError:
            return
        self._noted[account, app_password] = day

    def read(self) -> dict[str, dict[str, str]]:
        """The days by account and app password; nothing where there is no such file or it cannot be understood."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(_LIMIT_BYTES), type=dict[str, dict[str, str]])
        except (OSError, ValueError, RecursionError):
            return {}

    def _write(self, account: str, app_password: str, day: str) -> None:
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            days = self.read()
            if days.get(account, {}).get(app_password) == day:
                return
            days.setdefault(account, {})[app_password] = day
            temporary = f"{self._path}.new"
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(msgspec.json.encode(days))
            os.replace(temporary, self._path)
        finally:
            os.close(lock)
