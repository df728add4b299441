"""What is wrong in the configuration, with the place where it is."""

from __future__ import annotations

import enum

from msgspec import Struct


class Level(enum.Enum):
    INFO = "info"  # known to Postfix, not (yet) honoured here
    WARNING = "warning"  # the server starts, but hardly as meant
    ERROR = "error"  # the server does not start


class Problem(Struct, frozen=True):
    """``file`` and ``line`` are where it stands; 0 where no line says it (a default, the command line)."""

    file: str
    line: int
    level: Level
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.level.value}: {self.text}"
