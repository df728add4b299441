"""Files that a table is made of: read when it is first asked for, and again when one has changed, without a reload.

They are looked at once a second at most, and one that was written to less than a second ago is left alone if there are
older contents: an editor may be in the midst of writing it, and an address that is missing for a moment must not
bounce. That does not hold for a file that is only ever put in place whole, by a rename: it counts when it is seen.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from ekiden.config.errors import ConfigError
from ekiden.tables.table import Finding, Opening, TableTrouble

_LOOK_EVERY_S = 1.0
_SETTLED_S = 1.0

T = TypeVar("T")
_State: TypeAlias = tuple[int, int, int, int]  # device, inode, time of the last change, size

# What goes wrong in a source is told here, not raised: the rest of the table holds. Who runs tables hears it.
log = logging.getLogger("ekiden.tables")


class Watched(Generic[T]):
    """``read`` makes the value from the files; it may raise OSError or TableTrouble. ``release`` ends an old value.

    A file among ``paths`` that is not there is a state like others: whether that is trouble, ``read`` knows.
    ``whole``: the first of them is put in place whole, after all that it is made of was read.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        read: Callable[[], T],
        opening: Opening,
        *,
        release: Callable[[T], None] | None = None,
        whole: bool = False,
    ) -> None:
        self._name, self._paths, self._read, self._release = name, tuple(paths), read, release
        self._monotonic, self._wall = opening.monotonic, opening.wall
        self._whole = whole
        self._value: T | None = None
        self._identity: list[_State | None] = []
        self._look_again = float("-inf")

    def get(self) -> T:
        """What the files hold now. Raises TableTrouble, and looks again at the next call."""
        now = self._monotonic()
        if now >= self._look_again or self._value is None:
            self._look()
            self._look_again = now + _LOOK_EVERY_S
        assert self._value is not None
        return self._value

    def drop(self) -> None:
        """Forget the value; it is read anew when it is asked for."""
        value, self._value, self._identity = self._value, None, []
        if value is not None and self._release is not None:
            self._release(value)

    def _look(self) -> None:
        try:
            found = [_state(path) for path in self._paths]
            if found == self._identity and self._value is not None:
                return
            if self._value is not None and not self._replaced(found) and self._is_being_written(found):
                return
            fresh = self._read()
        except (OSError, TableTrouble) as error:
            # What was known before may be gone for a reason: nothing is guessed, mail waits.
            self.drop()
            if isinstance(error, TableTrouble):
                raise
            raise TableTrouble(f"{self._name}: {error.strerror or error}") from error
        self.drop()
        self._value, self._identity = fresh, found

    def _replaced(self, found: Sequence[_State | None]) -> bool:
        """Whether the file that comes whole is there, and is another one (another inode) than before."""
        now, before = found[0], self._identity[0]
        return self._whole and now is not None and (before is None or now[:2] != before[:2])

    def _is_being_written(self, found: Sequence[_State | None]) -> bool:
        now = self._wall()
        return any(state and 0 <= now - state[2] / 1e9 < _SETTLED_S for state in found)


def _state(path: Path) -> _State | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def warn_of(label: str, path: str, problems: Sequence[tuple[int, str]]) -> None:
    """Tell of the problems of a source in the form that Postfix has for them."""
    begin = f"{label} {path}" if label else path
    for line, text in problems:
        log.warning("%s, line %d: %s", begin, line, text)


def findings(path: str, problems: Sequence[tuple[int, str]]) -> list[Finding]:
    return [Finding(path, line, text) for line, text in problems]


def absolute(kind: str, path: str) -> str:
    """The path of a table's file. Raises ConfigError for a relative one, which would depend on who looks."""
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"{kind}:{path}: the file must be given with its full path, such as /etc/ekiden/virtual")
    return path
