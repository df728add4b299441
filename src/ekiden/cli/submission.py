"""What sendmail(1) does to a message on its way to the maildrop: line ends, its end, recipients of its header.

In:   the bytes of standard input.
Out:  the content in pieces, with LF for line ends.
Errors: Refused, whose text is for who submits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ekiden.message.address_list import parse_addresses
from ekiden.message.header_fields import begins_field, fields
from ekiden.protocol.smtp.path import parse_mailbox

_PIECE_BYTES = 65536
HEADER_LIMIT_BYTES = 1_048_576
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
    """The header, and what else was read by then: its empty line, or the line that is no field and so begins the body.

    Raises TooLarge.
    """
    read: list[bytes] = []
    size, at_start = 0, True
    for line in content:
        if at_start and not (begins_field(line) or (read and line.startswith((b" ", b"\t")))):
            return b"".join(read), line
        at_start = line.endswith(b"\n")
        read.append(line)
        size += len(line)
        if size > HEADER_LIMIT_BYTES:
            raise TooLarge("the header is too long")
    return b"".join(read), b""


def header_recipients(header: bytes, limit: int) -> list[str]:
    """The addresses of To, Cc and Bcc; of the resent fields alone if there are any.

    Raises Refused beyond ``limit``, and for what is no address.
    """
    found = list(fields(header))
    chosen = [field for field in found if field.name in _RESENT_FIELDS]
    chosen = chosen or [field for field in found if field.name in _RECIPIENT_FIELDS]
    recipients: list[str] = []
    for field in chosen:
        name = header[field.start : field.value].rstrip(b": \t").decode("ascii")
        recipients += _listed(header[field.value : field.end], f"bad address in the field {name}")
    if len(recipients) > limit:
        raise Refused(f"{len(recipients)} recipients in the message header (extract_recipient_limit = {limit})")
    return recipients


def _listed(value: bytes, complaint: str) -> list[str]:
    """The bare addresses of a list with names, comments and groups (RFC 5322 §3.4). Raises Refused."""
    found: list[str] = []
    for mailbox in parse_addresses(value, token_limit=len(value)).mailboxes:
        text = str(mailbox.address)
        if mailbox.odd or not mailbox.local or not _is_recipient(text):
            written = value[mailbox.start : mailbox.end].decode("utf-8", "replace")
            raise Refused(f"{complaint}: {written!r}; the message was not taken")
        found.append(text)
    return found


def _is_recipient(text: str) -> bool:
    """Whether the server will take it; later nobody listens."""
    address = parse_mailbox(text, lenient=True, utf8=True)
    return address is not None and not address.is_null


def without_hidden(header: bytes) -> bytes:
    """The header without the recipients that the others are not to see."""
    return b"".join(header[field.start : field.end] for field in fields(header) if field.name not in _HIDDEN_FIELDS)


def checked(recipients: Sequence[str]) -> list[str]:
    """Each recipient of the command line, which may be a list in itself. Raises Refused."""
    found: list[str] = []
    for words in recipients:
        if "," in words or "<" in words:
            listed = _listed(words.encode("utf-8", "surrogateescape"), "bad recipient address")
        else:
            listed = [words.strip()] if _is_recipient(words.strip()) else []
        if not listed:
            raise Refused(f"bad recipient address: {words!r}; the message was not taken")
        found += listed
    return found


def limited(content: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """``limit`` in bytes; 0 is none. Raises TooLarge."""
    size = 0
    for part in content:
        size += len(part)
        if limit and size > limit:
            raise TooLarge(f"message file too big (message_size_limit = {limit} bytes)")
        yield part
