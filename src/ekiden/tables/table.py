"""The one interface of all lookup tables."""

from __future__ import annotations

from typing import Protocol


class TableTrouble(Exception):
    """A table could not be asked. Always a temporary error for the message, never "not found"."""


class Table(Protocol):
    @property
    def name(self) -> str:
        """``type:name``, for logs and errors."""

    async def lookup(self, key: str) -> str | None:
        """The value of ``key``, or None when the table does not have it. Raises TableTrouble."""
