"""Fields that a message of this host's own users must have and often lacks (RFC 5322 §3.6): cleanup(8)."""

from __future__ import annotations

import base64
import re
from collections.abc import Set

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.date import header_date

_VISIBLE = (b"to", b"cc", b"resent-to", b"resent-cc")
# RFC 5322 §3.2.3: a phrase of atoms needs no quotes.
_ATOMS = re.compile(r"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]+(?: +[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]+)*")
# RFC 2047 §2: an encoded word has 75 characters at most; so many bytes of text fit into one in base64.
_ENCODED_BYTES = 36


def missing_fields(
    present: Set[bytes], parameters: Parameters, *, sender: Address, full_name: str, queue_id: str, at: float
) -> bytes:
    """The fields, with their line ends, to put behind a header that has the fields ``present`` (in lower case).

    Of a message that was resent, those of the resending are the ones that matter (RFC 5322 §3.6.6).
    """
    resent = "Resent-" if any(name.startswith(b"resent-") for name in present) else ""
    prefix = resent.lower().encode()
    lines: list[str] = []
    if prefix + b"message-id" not in present:
        lines.append(f"{resent}Message-Id: <{queue_id}@{parameters.myhostname}>")
    if prefix + b"date" not in present:
        lines.append(f"{resent}Date: {header_date(at)}")
    if prefix + b"from" not in present:
        lines.append(f"{resent}From: {_mailbox(sender, full_name, parameters)}")
    if parameters.undisclosed_recipients_header and present.isdisjoint(_VISIBLE):
        lines.append(parameters.undisclosed_recipients_header)
    return "".join(line + "\r\n" for line in lines).encode("utf-8", "surrogateescape")


def _mailbox(sender: Address, full_name: str, parameters: Parameters) -> str:
    if sender.is_null:
        sender, full_name = Address("MAILER-DAEMON", parameters.myhostname), "Mail Delivery System"
    name = "".join(char for char in full_name.strip() if char >= " " and char != "\x7f")
    if not name:
        return str(sender)
    written = name if name.isascii() else encoded_words(name, parameters.full_name_encoding_charset)
    if parameters.header_from_format == "obsolete":
        escaped = written if not name.isascii() else re.sub(r"([()\\])", r"\\\1", name)
        return f"{sender} ({escaped})"
    if name.isascii() and _ATOMS.fullmatch(name) is None:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        written = f'"{quoted}"'
    return f"{written} <{sender}>"


def encoded_words(text: str, charset: str) -> str:
    """``text`` as encoded words (RFC 2047 §2); in UTF-8 when it cannot be written in ``charset``."""
    try:
        text.encode(charset)
    except (UnicodeError, LookupError):
        charset = "utf-8"
    words: list[str] = []
    piece = b""
    for char in text:
        encoded = char.encode(charset, "replace")
        if len(piece) + len(encoded) > _ENCODED_BYTES:
            words.append(_encoded_word(piece, charset))
            piece = b""
        piece += encoded
    words.append(_encoded_word(piece, charset))
    return " ".join(words)


def _encoded_word(piece: bytes, charset: str) -> str:
    return f"=?{charset}?B?{base64.b64encode(piece).decode('ascii')}?="
