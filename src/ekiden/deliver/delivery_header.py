"""The header lines that final delivery puts before a message, and the mail loops that they reveal."""

from __future__ import annotations

import os
import re

from ekiden.message.address import Address
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.envelope import Recipient

# What an address must not bring into a header line. The grammar of addresses allows none of it; the queue might be
# older than the grammar.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

_PIECE_BYTES = 65_536

_DELIVERED_TO = re.compile(rb"^delivered-to:[ \t]*((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE)


def address_bytes(address: Address) -> bytes:
    """An address as it stands in a header of a delivered message, without brackets."""
    return _CONTROL.sub(b"?", str(address).encode("utf-8", "surrogateescape"))


def delivery_header(sender: Address, recipient: Recipient, *, original: bool, delivered_to: bool = True) -> bytes:
    """``Return-Path`` (RFC 5321 §4.4), ``X-Original-To`` if ``original``, ``Delivered-To``; lines end in LF."""
    to = address_bytes(recipient.address)
    head = b"Return-Path: <%b>\n" % address_bytes(sender)
    if original:
        head += b"X-Original-To: %b\n" % (to if recipient.original is None else address_bytes(recipient.original))
    return head + b"Delivered-To: %b\n" % to if delivered_to else head


def was_delivered_to(content: Content, recipient: Address, scan_bytes: int) -> bool:
    """Whether the message has been delivered to ``recipient`` before: its header says ``Delivered-To`` so.

    Looks at no more than ``scan_bytes``. Raises OSError when the content cannot be read.
    """
    head = content.data[:scan_bytes] if isinstance(content, InlineContent) else _head_of_file(content, scan_bytes)
    end = head.find(b"\r\n\r\n")
    header = head if end < 0 else head[:end]
    if b"delivered-to:" not in header.lower():  # most messages have none; one pass in C finds that out
        return False
    wanted = address_bytes(recipient).lower()
    return any(found[1].strip().lower() == wanted for found in _DELIVERED_TO.finditer(header))


def _head_of_file(content: FileContent, limit: int) -> bytes:
    fd = os.open(content.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The first piece is nearly always enough; a longer header is read on up to the limit.
        head = os.pread(fd, min(_PIECE_BYTES, limit), content.start)
        while b"\r\n\r\n" not in head and len(head) < limit:
            more = os.pread(fd, min(_PIECE_BYTES, limit - len(head)), content.start + len(head))
            if not more:
                break
            head += more
        return head
    finally:
        os.close(fd)
