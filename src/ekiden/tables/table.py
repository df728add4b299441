"""The one interface of all lookup tables."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.config.snapshot import Parameters

Seconds = Callable[[], float]


class TableTrouble(Exception):
    """A table could not be asked. Always a temporary error for the message, never "not found"."""


class Finding(Struct, frozen=True):
    """A line of a table's source that cannot be used or hardly means what it says. ``line`` 0: all of the file."""

    file: str
    line: int
    text: str


class Table(ABC):
    """A lookup table. ``name`` is ``type:name``, for logs and errors.

    Where keys are compared, they are compared without regard to case; who looks up need not fold them.
    """

    name: str

    # Pattern tables (regexp, pcre, cidr ...) are asked for whole keys only, never for the parts of an address or for
    # the parents of a domain: a pattern that fits any part would fit more than was meant (regexp_table(5)).
    whole_keys: bool = False

    @abstractmethod
    async def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None when the table does not have it. Raises TableTrouble."""

    async def lookup_many(self, keys: Sequence[str]) -> list[str | None]:
        """The values of several keys, in their order. Raises TableTrouble when one of them could not be asked for."""
        return [await self.lookup(key) for key in keys]

    def place(self, key: str) -> str:
        """Where the entry stands that answers ``key``: ``file:line``; "" where the table cannot tell.

        For people, after a look-up that found something. Raises TableTrouble.
        """
        return ""

    def check(self) -> list[Finding]:
        """What is wrong with the text that the table is made of, read now. Raises TableTrouble if it cannot be read."""
        return []

    async def close(self) -> None:  # noqa: B027 (most tables have nothing to close)
        """Let go of connections and files; the table is not asked again."""


class Opening(Struct, frozen=True):
    """What a table may need to know of the world: the function ``open_type`` of its module gets it with the name."""

    kind: str  # the type, where one module has several
    parameters: Parameters
    open: Callable[[str], Table]  # another table, ``type:name``, in the same world; raises ConfigError
    aliases: bool = False  # text sources are in the form of aliases(5); values are whole right-hand sides
    fold: bool = True  # keys are compared without regard to case
    files: bool = False  # values name files; what is looked up is their contents in base64 (postmap -F)
    monotonic: Seconds = time.monotonic
    wall: Seconds = time.time


def folded(key: str, fold: bool = True) -> str:
    """The form in which keys are compared."""
    return key.casefold() if fold else key
