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
    """Content in a file of its own (``path`` is absolute), durable before the queue names it.

    It begins at ``start``: before it was room for header fields that are known only when all has come.
    """

    path: str
    size: int
    start: int = 0


Content = InlineContent | FileContent


class SplicedContent(Struct, frozen=True, tag="spliced"):
    """A file whose first ``skipped`` bytes are replaced by ``head``: content on its way out, never in the queue."""

    head: bytes
    file: FileContent
    skipped: int

    @property
    def size(self) -> int:
        return len(self.head) + self.file.size - self.skipped


OutgoingContent = Content | SplicedContent
