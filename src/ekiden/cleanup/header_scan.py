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
_MESSAGE_ID = rb"message-id[ \t]*:(?=[ \t\r\n]*([^\r\n]*))"
_MESSAGE_ID_FIELD = re.compile(rb"\n" + _MESSAGE_ID, re.IGNORECASE)
# The fields that the server itself must know, for one walk through a header: group 1 is the value of Message-ID:,
# group 2 a Received:, group 3 a TLS-Required: No.
_FACTS = re.compile(
    rb"\n(?:" + _MESSAGE_ID + rb"|(received)[ \t]*:|(tls-required)[ \t]*:(?=[ \t\r\n]*no[ \t]*\r?(?:\n|\Z)))",
    re.IGNORECASE,
)
_OPEN_FIELD = re.compile(rb"(?:[!-9;-~]+[ \t]*:|[ \t])[^\n]*\Z")
_MBOX_LINE = re.compile(rb">*From ")


class HeaderScan:
    """``feed`` takes content as it comes and gives back what lies behind the header, from its empty line on.

    Once ``complete``, ``header`` has the fields, which are the caller's to store before that. ``limit`` bounds the
    header block, and so the bytes held in memory.
    """

    __slots__ = ("_held", "complete", "has_end", "header", "hops", "limit", "message_id", "tls_is_optional", "too_long")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: bytes | bytearray = b""
        self.complete = False
        self.too_long = False
        self.has_end = True  # False: a line that is no field ended the header, not an empty one
        # Once complete:
        self.header = b""  # the fields, without the empty line
        self.message_id = ""  # as message_id() says it
        self.hops = 0  # how many Received: fields there are (RFC 5321 §6.3: a server counts them to find loops)
        self.tls_is_optional = False  # there is a field ``TLS-Required: No`` (RFC 8689 §3)

    def feed(self, data: bytes) -> bytes:
        """What lies behind the header of all that was fed; b"" until the header is complete."""
        if self.complete:
            return data
        if self._held:
            held = self._held
            searched = max(0, len(held) - 3)
            held += data
        else:  # all of most headers comes at once, and needs no copy
            held, searched = data, 0
        # The block is complete at the empty line; the first line may be that already (a message without header).
        if held.find(b"\r\n\r\n", searched) >= 0 or held.startswith(b"\r\n") or len(held) > self.limit:
            return self._settle(bytes(held))
        self._held = bytearray(held) if held is data else held
        return b""

    def finish(self) -> bytes:
        """The content has ended: what lies behind the header, if that was not complete."""
        return b"" if self.complete else self._settle(bytes(self._held))

    def _settle(self, held: bytes) -> bytes:
        self.complete, self._held = True, b""
        # A line of an mbox file that a client passed on by mistake is kept as a field, so that the header goes on.
        if held.startswith((b"From ", b">")) and _MBOX_LINE.match(held):
            held = b"X-Mailbox-Line: " + held
        # Where the fields end; one whose last line has no end is not counted.
        end = 0
        if _FIELD.match(held) is not None:
            found = _FIELDS_END.search(held)
            end = found.end() if found is not None else held.rfind(b"\n") + 1
        self.header = held[:end]
        identifier: bytes | None = None
        for fact in _FACTS.finditer(b"\n" + self.header):
            which = fact.lastindex
            if which == 2:
                self.hops += 1
            elif which == 3:
                self.tls_is_optional = True
            elif identifier is None:
                identifier = fact[1]
                self.message_id = _as_text(identifier)
        # A line that is still open at the limit is part of the header if it could be a field.
        self.too_long = end > self.limit or (len(held) > self.limit and _OPEN_FIELD.match(held, end) is not None)
        if held.startswith(b"\r\n", end):
            return held[end:]
        # The header ended with a line that is no field: without an empty line it would lose what follows.
        self.has_end = end == len(held)
        return b"\r\n" + held[end:]


def message_id(header: bytes) -> str:
    """The value of the (first) Message-ID: field, for the log; "" without one."""
    found = _MESSAGE_ID_FIELD.search(b"\n" + header)
    return _as_text(found[1]) if found else ""


def _as_text(identifier: bytes) -> str:
    return identifier.strip().decode("utf-8", "replace")
