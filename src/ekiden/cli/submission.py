"""What sendmail(1) does to a message on its way to the maildrop: line ends, its end, recipients of its header.

In:   the bytes of standard input.
Out:  the content in pieces, with LF for line ends.
Errors: Refused, whose text is for who submits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ekiden.protocol.smtp.path import parse_mailbox

_PIECE_BYTES = 65536
HEADER_LIMIT_BYTES = 1_048_576
_FIELD_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
# RFC 5322 §3.6.6: who sends a message again means those of the resent fields alone.
_RECIPIENT_FIELDS = (b"to", b"cc", b"bcc")
_RESENT_FIELDS = (b"resent-to", b"resent-cc", b"resent-bcc")
_HIDDEN_FIELDS = (b"bcc", b"resent-bcc")


class Refused(Exception):
    """Nothing is submitted."""


class TooLarge(Refused):
    pass


def lines(file: BinaryIO, *, dot_ends: bool, line_ends: str) -> Iterator[bytes]:
    """The message up to its end: a dot alone (if ``dot_ends``), or the end of the file.

    ``line_ends`` is sendmail_fix_line_endings. A CR that is left in place stands for no line end, and nothing else may
    stand in a message for itself: it becomes a space. The ``From `` lines of mailbox files at the beginning go.
    """
    at_start, leading, strips = True, True, line_ends == "always"
    while line := file.readline(_PIECE_BYTES):
        whole, at_start_now = line.endswith(b"\n"), at_start
        at_start = whole
        if leading and at_start_now:
            if line.startswith((b"From ", b">From ")):
                continue
            leading = False
            strips = strips or (line_ends == "strict" and line.endswith(b"\r\n"))
        if line.endswith(b"\r\n"):
            line = line[:-2] + (b"\n" if strips else b" \n")
        if dot_ends and at_start_now and line == b".\n":
            return
        yield line


def header_of(content: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The header, and what else was read by then (from its empty line on). Raises TooLarge."""
    read: list[bytes] = []
    size = 0
    for line in content:
        if line == b"\n":
            return b"".join(read), line
        read.append(line)
        size += len(line)
        if size > HEADER_LIMIT_BYTES:
            raise TooLarge("the header is too long")
    return b"".join(read), b""


def _fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each field with its continuation lines as (name in lower case, whole text); "" is a line that is no field."""
    name, text = b"", b""
    for line in header.splitlines(keepends=True):
        if line[:1] in (b" ", b"\t") and text:
            text += line
            continue
        if text:
            yield name, text
        found = _FIELD_NAME.match(line)
        name, text = (found[1].lower() if found else b""), line
    if text:
        yield name, text


def header_recipients(header: bytes, limit: int) -> list[str]:
    """The addresses of To, Cc and Bcc; of the resent fields alone if there are any. Raises Refused beyond ``limit``."""
    fields = list(_fields(header))
    resent = [text for name, text in fields if name in _RESENT_FIELDS]
    chosen = resent or [text for name, text in fields if name in _RECIPIENT_FIELDS]
    found = [address for text in chosen for address in addresses(text.partition(b":")[2].decode("utf-8", "replace"))]
    if len(found) > limit:
        raise Refused(f"{len(found)} recipients in the message header (extract_recipient_limit = {limit})")
    return found


def addresses(text: str) -> list[str]:
    """The bare addresses of a list with names, comments and groups (RFC 5322 §3.4)."""
    # Half of the start-up time of a message without -t, if it were above.
    from email.utils import getaddresses

    return [address for _, address in getaddresses([text]) if address]


def without_hidden(header: bytes) -> bytes:
    """The header without the recipients that the others are not to see."""
    return b"".join(text for name, text in _fields(header) if name not in _HIDDEN_FIELDS)


def checked(recipients: Sequence[str]) -> list[str]:
    """Each recipient of the command line, which may be a list in itself. Raises Refused: later nobody listens."""
    found: list[str] = []
    for words in recipients:
        for recipient in addresses(words) if "," in words or "<" in words else [words.strip()]:
            address = parse_mailbox(recipient, lenient=True)
            if address is None or address.is_null:
                raise Refused(f"bad recipient address: {recipient!r}; the message was not taken")
            found.append(recipient)
        if ("," in words or "<" in words) and not addresses(words):
            raise Refused(f"bad recipient address: {words!r}; the message was not taken")
    return found


def limited(content: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """``limit`` in bytes; 0 is none. Raises TooLarge."""
    size = 0
    for part in content:
        size += len(part)
        if limit and size > limit:
            raise TooLarge(f"message file too big (message_size_limit = {limit} bytes)")
        yield part
