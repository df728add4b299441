"""``texthash:/path``: a file in the format of postmap(5), read into memory. Keys ignore case.

A changed file is read again without a reload. The file is looked at once a second at most, and one that was written to
less than a second ago is left alone if there are older contents: an editor may be in the midst of writing it, and an
address that is missing for a moment must not bounce.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from ekiden.config.lines import logical_lines
from ekiden.tables.table import TableTrouble

_LOOK_EVERY_S = 1.0
_SETTLED_S = 1.0


class Source(Struct, frozen=True):
    """What a file holds: entries by case-folded key; problems as (line, text). Of two equal keys the first holds."""

    entries: dict[str, str]
    problems: tuple[tuple[int, str], ...] = ()


def read_source(text: str) -> Source:
    """Parse the format of postmap(5): ``key value`` lines, continuation lines, comments."""
    entries: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for line in logical_lines(text):
        parts = line.text.split(None, 1)
        if line.orphan:
            problems.append((line.number, "a line must not begin with white space unless it continues another"))
        elif len(parts) < 2:
            problems.append((line.number, f"{parts[0]!r} has no value: write key, blank, value"))
        elif (key := parts[0].casefold()) in entries:
            problems.append((line.number, f"the key {parts[0]!r} is there already; the first one holds"))
        else:
            entries[key] = parts[1].replace("\n", " ")
    return Source(entries, tuple(problems))


class TexthashTable:
    def __init__(self, path: str, *, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self.name = f"texthash:{path}"
        self._path = Path(path)
        self._monotonic, self._wall = monotonic, wall
        self._entries: dict[str, str] | None = None
        self._identity: tuple[int, int, int, int] | None = None
        self._look_again = float("-inf")

    async def lookup(self, key: str) -> str | None:
        now = self._monotonic()
        if now >= self._look_again:
            self._look(now)
        if self._entries is None:
            raise TableTrouble(f"{self.name}: cannot be read")
        return self._entries.get(key.casefold())

    def _look(self, now: float) -> None:
        """Read the file if it has changed. Raises TableTrouble, and looks again at the next lookup."""
        try:
            found = os.stat(self._path)
            identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            fresh = 0 <= self._wall() - found.st_mtime < _SETTLED_S
            if identity != self._identity and not (fresh and self._entries is not None):
                self._entries = read_source(self._path.read_text("utf-8", "surrogateescape")).entries
                self._identity = identity
        except OSError as error:
            self._entries = self._identity = None
            raise TableTrouble(f"{self.name}: {error.strerror or error}") from error
        self._look_again = now + _LOOK_EVERY_S
