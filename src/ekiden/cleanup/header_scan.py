"""Reads the header of a message as it streams in: what the server itself must know, and where the body begins.

Laws: any bytes in any chunking give the same header, the same bytes behind it and the same facts, or the refusal of a
header that is too long; work is linear.
"""

from __future__ import annotations

import re

# RFC 5322 §2.2   field = 1*(%d33-57 / %d59-126) ":" unstructured CRLF, folded lines begin with white space.
# RFC 5322 §4.5.1 (obsolete) allows white space before the colon.
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
# The first line end that neither a field nor a folded line follows. (One pattern for all fields together would be a
# loop in the regular expression, which remembers every turn: a megabyte of short lines took a hundred.)
_FIELDS_END = re.compile(rb"\n(?![ \t]|[!-9;-~]+[ \t]*:)")
# The value as far as the end of the field; Message-ID may stand on a folded line (RFC 5322 §3.6.4).
_MESSAGE_ID = re.compile(rb"\nmessage-id[ \t]*:[ \t\r\n]*([^\r\n]*)", re.IGNORECASE)
_RECEIVED = re.compile(rb"\nreceived[ \t]*:", re.IGNORECASE)
_TLS_OPTIONAL = re.compile(rb"\ntls-required[ \t]*:[ \t\r\n]*no[ \t]*\r?(?=\n|\Z)", re.IGNORECASE)
_OPEN_FIELD = re.compile(rb"(?:[!-9;-~]+[ \t]*:|[ \t])[^\n]*\Z")
_MBOX_LINE = re.compile(rb">*From ")


class HeaderScan:
    """``feed`` takes content as it comes and gives back what lies behind the header, from its empty line on.

    Once ``complete``, ``header`` has the fields, which are the caller's to store before that. ``limit`` bounds the
    header block, and so the bytes held in memory.
    """

    __slots__ = ("_held", "complete", "has_end", "header", "limit", "too_long")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = bytearray()
        self.complete = False
        self.too_long = False
        self.has_end = True  # False: a line that is no field ended the header, not an empty one
        self.header = b""  # the fields, once complete, without the empty line

    def feed(self, data: bytes) -> bytes:
        """What lies behind the header of all that was fed; b"" until the header is complete."""
        if self.complete:
            return data
        held = self._held
        searched = max(0, len(held) - 3)
        held += data
        # The block is complete at the empty line; the first line may be that already (a message without header).
        if held.find(b"\r\n\r\n", searched) >= 0 or held.startswith(b"\r\n") or len(held) > self.limit:
            return self._settle()
        return b""

    def finish(self) -> bytes:
        """The content has ended: what lies behind the header, if that was not complete."""
        return b"" if self.complete else self._settle()

    def _settle(self) -> bytes:
        self.complete = True
        held, self._held = bytes(self._held), bytearray()
        # A line of an mbox file that a client passed on by mistake is kept as a field, so that the header goes on.
        if held.startswith((b"From ", b">")) and _MBOX_LINE.match(held):
            held = b"X-Mailbox-Line: " + held
        end = _fields_end(held)
        self.header = held[:end]
        # A line that is still open at the limit is part of the header if it could be a field.
        self.too_long = end > self.limit or (len(held) > self.limit and _OPEN_FIELD.match(held, end) is not None)
        if held.startswith(b"\r\n", end):
            return held[end:]
        # The header ended with a line that is no field: without an empty line it would lose what follows.
        self.has_end = end == len(held)
        return b"\r\n" + held[end:]

    @property
    def hops(self) -> int:
        """How many Received: fields there are (RFC 5321 §6.3: a server counts them to find loops)."""
        return len(_RECEIVED.findall(b"\n" + self.header))

    @property
    def tls_is_optional(self) -> bool:
        """There is a field ``TLS-Required: No`` (RFC 8689 §3)."""
        return _TLS_OPTIONAL.search(b"\n" + self.header) is not None


def message_id(header: bytes) -> str:
    """The value of the Message-ID: field, for the log; "" without one."""
    found = _MESSAGE_ID.search(b"\n" + header)
    return found[1].strip().decode("utf-8", "replace") if found else ""


def _fields_end(data: bytes) -> int:
    """Where the fields at the start of ``data`` end; a field whose last line has no end is not counted."""
    if _FIELD.match(data) is None:
        return 0
    found = _FIELDS_END.search(data)
    return found.end() if found is not None else data.rfind(b"\n") + 1
