"""Local parts and names taken out of what a failure report shows of a message (RFC 6590 §3).

In:   a header; a key that does not leave this host.
Out:  the fields that tell the message's way and its signatures; the same local part gives the same digest each time.
Never: shows a local part, a display name, a subject, a file name or the body; takes more than linear time.
"""

from __future__ import annotations

import base64
import hmac
import re

from ekiden.message.address_list import parse_addresses
from ekiden.message.header_fields import fields

_DIGEST_CHARACTERS = 16
_FIELDS_LIMIT = 200
_TOKENS_LIMIT = 300
# What may stand in a local part without quotes (RFC 5322 §3.2.3), 8-bit characters too (RFC 6531 §3.3).
_LOCAL = "".join(map(chr, (*range(0x80, 0x100),))) + (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."
)
_ADDRESSES = frozenset({b"from", b"sender", b"reply-to", b"return-path", b"resent-from", b"resent-sender"})
_TRACE = frozenset(
    {
        *(b"received", b"received-spf", b"authentication-results"),
        *(b"dkim-signature", b"arc-seal", b"arc-message-signature", b"arc-authentication-results"),
    }
)
_WHOLE = frozenset({b"date", b"resent-date", b"message-id", b"mime-version", b"list-id"})
# A signature may hold a copy of the fields that it signs, subject and recipients among them (RFC 6376 §3.5: z=).
_COPIED = re.compile(r"(?:\A|;)[ \t\r\n]*z[ \t\r\n]*=[^;]*", re.IGNORECASE)
_NOT_FOLDED = re.compile(rb"\r?\n(?![ \t])")
# Logins, as Postfix and others write them to Received.
_LOGIN = re.compile(r"\((?:Authenticated sender|authenticated as|account)[: ][^()]*\)", re.IGNORECASE)


class Redaction:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, local: str) -> str:
        """What stands for a local part: who has the key can find it again, nobody else."""
        octets = hmac.digest(self._key, local.encode("utf-8", "surrogateescape"), "sha256")
        return base64.urlsafe_b64encode(octets).decode("ascii")[:_DIGEST_CHARACTERS]

    def text(self, text: str) -> str:
        """``text`` with the local part of each address replaced."""
        before, *rest = text.split("@")
        parts: list[str] = []
        for piece in rest:
            start = _local_start(before)
            parts.append(before[:start])
            parts.append(self.digest(before[start:]) + "@" if start < len(before) else "@")
            before = piece
        return "".join((*parts, before))

    def header(self, header: bytes) -> bytes:
        """The fields that are shown, with CRLF. Their bytes may be 8-bit; lines are as long as they were."""
        shown: list[bytes] = []
        for number, field in enumerate(fields(header)):
            if number >= _FIELDS_LIMIT:
                break
            value = self._value(field.name, header[field.value : field.end])
            if value is not None:
                name = header[field.start : field.start + len(field.name)]
                # What belongs to no field goes to the one before; it must not look like one of its own.
                shown.append(b"%b: %b\r\n" % (name, _NOT_FOLDED.sub(b"\r\n ", value.strip(b" \t\r\n"))))
        return b"".join(shown)

    def _value(self, name: bytes, value: bytes) -> bytes | None:
        if name in _WHOLE:
            return value
        if name == b"content-type":
            return value.partition(b";")[0]
        if name in _ADDRESSES:
            listed = parse_addresses(value, token_limit=_TOKENS_LIMIT)
            return ", ".join(
                self.digest(each.local) + (f"@{each.domain}" if each.has_domain else "") for each in listed.mailboxes
            ).encode("utf-8", "surrogateescape")
        if name in _TRACE:
            text = value.decode("latin-1")
            return self.text(_LOGIN.sub("", _COPIED.sub("", text))).encode("latin-1")
        return None


def _local_start(text: str) -> int:
    """Where the local part begins at whose end the text ends."""
    if not text.endswith('"'):
        return len(text.rstrip(_LOCAL))
    start = text.rfind('"', 0, len(text) - 1)
    while start > 0 and text[start - 1] == "\\":
        start = text.rfind('"', 0, start)
    return max(start, 0)
