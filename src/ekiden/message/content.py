"""The content of a message as the queue keeps it: header, empty line and body.

It is in wire form, lines ending in CRLF, with dot-stuffing undone.
"""

from __future__ import annotations

from msgspec import Struct


class InlineContent(Struct, frozen=True, tag="inline"):
    """Content small enough to travel in memory and lie in the store itself."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


class FileContent(Struct, frozen=True, tag="file"):
    """Content in a file of its own (``path`` is absolute), durable before the queue names it."""

    path: str
    size: int


Content = InlineContent | FileContent
