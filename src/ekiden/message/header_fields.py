"""The fields of a message header (RFC 5322 §2.2) as places in its bytes, and which of them hold addresses.

In:   a header as cleanup.header_scan gives it: fields only, lines ended by CRLF or LF, without the empty line.
Out:  one Field for each; together they cover the header without a gap. Or the bytes of each, divided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

# A field with its folded lines. The name ends at the colon; white space before it is obsolete syntax (RFC 5322 §4.5).
_START = re.compile(rb"^([!-9;-~]+)[ \t]*:", re.MULTILINE)
_DIVIDE = re.compile(rb"\n(([!-9;-~]+)[ \t]*:)")  # the same; a line feed is found much faster than the begin of a line

# Whose addresses these are (ADDRESS_REWRITING_README: the class header_sender or header_recipient).
SENDER_FIELDS = frozenset(
    {
        *(b"from", b"sender", b"reply-to", b"resent-from", b"resent-sender", b"errors-to", b"return-path"),
        *(b"return-receipt-to", b"disposition-notification-to", b"mail-followup-to"),
    }
)
RECIPIENT_FIELDS = frozenset(
    # Resent-Reply-To is here because it is there in Postfix.
    {b"to", b"cc", b"bcc", b"apparently-to", b"resent-to", b"resent-cc", b"resent-bcc", b"resent-reply-to"}
)
ADDRESS_FIELDS = SENDER_FIELDS | RECIPIENT_FIELDS


class Field(Struct, frozen=True):
    """``name`` is in lower case; the value is what lies from ``value`` to ``end``, its line end included."""

    name: bytes
    start: int
    value: int
    end: int


def begins_field(line: bytes) -> bool:
    return _START.match(line) is not None


def fields(header: bytes) -> Iterator[Field]:
    """The fields in their order. Folded lines never begin one, because a name holds no white space."""
    last = None
    for found in _START.finditer(header):
        if last is not None:
            yield Field(last[1].lower(), last.start(), last.end(), found.start())
        last = found
    if last is not None:
        yield Field(last[1].lower(), last.start(), last.end(), len(header))


def divided(header: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Of each field what reaches to its colon, its name in lower case, and its value, the line end included."""
    pieces = _DIVIDE.split(b"\n" + header)
    values = [value + b"\n" for value in pieces[3::3]]
    if values:
        values[-1] = pieces[-1]  # nothing is cut off behind it
    return zip(pieces[1::3], map(bytes.lower, pieces[2::3]), values, strict=True)
