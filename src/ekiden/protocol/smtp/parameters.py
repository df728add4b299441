"""The parameters of MAIL and RCPT as a table: which extension brings each, and how its value is read.

In:   what follows the path in MAIL FROM or RCPT TO; which extensions this client was offered.
Out:  the values by the names of the fields that take them, or why not: a reply and a reason for the log.
Never: takes a parameter twice, or one of an extension that was not offered (RFC 5321 §4.1.1.11: 555).

A new parameter is a row in MAIL_PARAMETERS or RCPT_PARAMETERS and a field in commands.py. SIZE and BODY are known to
every client, as in Postfix: they were sent long before anyone asked what was offered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from ekiden.message.envelope import BodyType, Notify, Ret
from ekiden.message.reply import Reply
from ekiden.message.xtext import decode_xtext
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import By
from ekiden.protocol.smtp.printable import printable


class BadParameter(Exception):
    """Leaves a reader of values; never leaves read_parameters."""

    def __init__(self, answer: Reply, reason: str = "syntax") -> None:
        self.answer, self.reason = answer, reason


class _NotOffered(Exception):
    """Leaves a reader of values: the value belongs to an extension that was not offered."""


class Allowed(Struct, frozen=True):
    """What readers must know: the extensions offered to the client, and how large a message may be (0: any size)."""

    offered: Collection[str]
    size_limit: int


class Parameter(Struct, frozen=True):
    keyword: bytes
    extension: str  # the EHLO keyword that offers it; "": any client may use it
    field: str  # a parameter is given twice when its field is
    read: Callable[[bytes, Allowed], Any] | None  # gets the value; None: the parameter has none


class Unacceptable(Struct, frozen=True):
    reply: Reply
    reason: str


def read_parameters(text: bytes, table: Mapping[bytes, Parameter], allowed: Allowed) -> dict[str, Any] | Unacceptable:
    """The parameters in ``text``, with the value of each under the name of its field."""
    values: dict[str, Any] = {}
    for written in text.split():
        keyword, equals, value = written.partition(b"=")
        parameter = table.get(keyword.upper())
        if parameter is None or (parameter.extension and parameter.extension not in allowed.offered):
            return _unsupported(written)
        if parameter.field in values:
            return Unacceptable(replies.REPEATED_PARAMETER, "repeated-parameter")
        if parameter.read is None:
            if equals:
                return Unacceptable(replies.bad_parameter(parameter.keyword.decode()), "syntax")
            values[parameter.field] = True
            continue
        try:
            values[parameter.field] = parameter.read(value, allowed)
        except _NotOffered:
            return _unsupported(written)
        except BadParameter as problem:
            return Unacceptable(problem.answer, problem.reason)
    return values


def _unsupported(written: bytes) -> Unacceptable:
    return Unacceptable(replies.unsupported_option(printable(written)), "unknown-parameter")


def _bad(keyword: str) -> BadParameter:
    return BadParameter(replies.bad_parameter(keyword))


def _size(value: bytes, allowed: Allowed) -> int:
    # RFC 1870 §3: size-value = 1*20DIGIT
    if not (value.isdigit() and len(value) <= 20):
        raise BadParameter(replies.BAD_SIZE)
    size = int(value)
    if 0 < allowed.size_limit < size:
        raise BadParameter(replies.SIZE_TOO_BIG, "message-too-big")
    return size


# RFC 6152 §2, RFC 3030 §3
_BODY_TYPES = {
    b"7BIT": BodyType.SEVEN_BIT,
    b"8BITMIME": BodyType.EIGHT_BIT_MIME,
    b"BINARYMIME": BodyType.BINARY_MIME,
}


def _body(value: bytes, allowed: Allowed) -> BodyType:
    body = _BODY_TYPES.get(value.upper())
    # RFC 3030 §3: BINARYMIME is of no use without CHUNKING, for only BDAT can carry such a message.
    if body is None or (
        body is BodyType.BINARY_MIME and not ("BINARYMIME" in allowed.offered and "CHUNKING" in allowed.offered)
    ):
        raise _NotOffered
    return body


def _ret(value: bytes, _allowed: Allowed) -> Ret:
    try:
        return Ret(value.upper().decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        raise _bad("RET") from None


_ENVID_BYTES = 100  # RFC 3461 §5.4
_ORCPT_BYTES = 500  # RFC 3461 §5.4


def _envid(value: bytes, _allowed: Allowed) -> str:
    decoded = decode_xtext(value) if 0 < len(value) <= _ENVID_BYTES else None
    if decoded is None or not _is_printable(decoded):
        raise _bad("ENVID")
    return decoded.decode("ascii")


def _notify(value: bytes, _allowed: Allowed) -> Notify:
    words = value.upper().split(b",")
    # RFC 3461 §4.1: NEVER stands alone.
    if words == [b"NEVER"]:
        return Notify.GIVEN
    notify = Notify.GIVEN
    for word in words:
        if word not in _NOTIFY:
            raise _bad("NOTIFY")
        notify |= _NOTIFY[word]
    return notify


_NOTIFY = {b"SUCCESS": Notify.SUCCESS, b"FAILURE": Notify.FAILURE, b"DELAY": Notify.DELAY}

# RFC 3461 §4.2    original-recipient-address = addr-type ";" xtext
_ADDRESS_TYPE = re.compile(rb"[!#-'*+\-/0-9=?A-Z^-~]+", re.IGNORECASE)
# RFC 6533 §3: characters that 7-bit transport cannot carry are \x{HEXPOINT} in utf-8-addr-xtext.
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _orcpt(value: bytes, allowed: Allowed) -> str:
    kind, semicolon, address = value.partition(b";")
    if not semicolon or not address or len(value) > _ORCPT_BYTES or _ADDRESS_TYPE.fullmatch(kind) is None:
        raise _bad("ORCPT")
    if kind.lower() == b"utf-8":
        return "utf-8;" + _utf8_address(address, allowed)
    decoded = decode_xtext(address)
    # Postfix calls the addresses of SMTPUTF8 rfc822, too; they are of the type utf-8 (RFC 6533 §3).
    if decoded is not None and not decoded.isascii() and kind.lower() == b"rfc822":
        return "utf-8;" + _utf8_address(address, allowed)
    if decoded is None or not _is_printable(decoded):
        raise _bad("ORCPT")
    return f"{kind.decode('ascii')};{decoded.decode('ascii')}"


def _utf8_address(value: bytes, allowed: Allowed) -> str:
    """The address of an ORCPT with the type utf-8, in either of its forms (RFC 6533 §3)."""
    try:
        if value.isascii():
            text = (decode_xtext(value) or b"").decode("utf-8")
        elif "SMTPUTF8" in allowed.offered:
            text = value.decode("utf-8")
        else:
            text = ""
        text = _EMBEDDED.sub(lambda found: chr(int(found[1], 16)), text)
        text.encode("utf-8")  # no surrogates
    except (UnicodeError, ValueError, OverflowError):
        raise _bad("ORCPT") from None
    if not text or _UNWANTED.search(text) is not None:
        raise _bad("ORCPT")
    return text


def _is_printable(text: bytes) -> bool:
    """RFC 3461 §4.2, §4.4: graphic characters and spaces; a line end would end a field of a notification."""
    return text.isascii() and text.decode("ascii").isprintable()


# RFC 2852 §4    by-value = by-time ";" by-mode [by-trace]       by-time = ["-" / "+"] 1*9digit
_BY = re.compile(rb"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)


def _by(value: bytes, _allowed: Allowed) -> By:
    found = _BY.fullmatch(value)
    if found is None:
        raise _bad("BY")
    by = By(int(found[1]), found[2] in b"Rr", bool(found[3]))
    # RFC 2852 §4: who wants it back when it is late cannot want it to be late from the start.
    if by.returns and by.seconds <= 0:
        raise _bad("BY")
    return by


def _hold_for(value: bytes, _allowed: Allowed) -> int:
    # RFC 4865 §3: future-release-integer = %x31-39 *8DIGIT
    if not (value.isdigit() and len(value) <= 9 and not value.startswith(b"0")):
        raise _bad("HOLDFOR")
    return int(value)


# RFC 4865 §3: the Internet date/time of RFC 3339 §5.6, whose letters may be small.
_DATE_TIME = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})", re.IGNORECASE
)


def _hold_until(value: bytes, _allowed: Allowed) -> float:
    if _DATE_TIME.fullmatch(value) is None:
        raise _bad("HOLDUNTIL")
    text = value.decode("ascii").upper()
    fraction = text.find(".")
    if fraction > 0:  # a part of a second is of no use here, and Python reads few forms of it
        text = text[:fraction] + text[fraction + 1 :].lstrip("0123456789")
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        raise _bad("HOLDUNTIL") from None


_PRIORITY = re.compile(rb"-?[1-9]|0")  # RFC 6710 §5


def _priority(value: bytes, _allowed: Allowed) -> int:
    if _PRIORITY.fullmatch(value) is None:
        raise _bad("MT-PRIORITY")
    return int(value)


def _auth(value: bytes, _allowed: Allowed) -> str:
    # RFC 4954 §5: <> stands for "nobody, or it is not known who".
    decoded = decode_xtext(value) if value else None
    if decoded is None or not _is_printable(decoded):
        raise _bad("AUTH")
    return decoded.decode("ascii")


def _table(*parameters: Parameter) -> Mapping[bytes, Parameter]:
    return {parameter.keyword: parameter for parameter in parameters}


MAIL_PARAMETERS = _table(
    Parameter(b"SIZE", "", "size", _size),
    Parameter(b"BODY", "", "body", _body),
    Parameter(b"SMTPUTF8", "SMTPUTF8", "smtputf8", None),
    Parameter(b"RET", "DSN", "ret", _ret),
    Parameter(b"ENVID", "DSN", "envid", _envid),
    Parameter(b"AUTH", "AUTH", "auth", _auth),
    Parameter(b"BY", "DELIVERBY", "by", _by),
    Parameter(b"HOLDFOR", "FUTURERELEASE", "hold_for", _hold_for),
    Parameter(b"HOLDUNTIL", "FUTURERELEASE", "hold_until", _hold_until),
    Parameter(b"MT-PRIORITY", "MT-PRIORITY", "priority", _priority),
    Parameter(b"REQUIRETLS", "REQUIRETLS", "require_tls", None),
)

RCPT_PARAMETERS = _table(
    Parameter(b"NOTIFY", "DSN", "notify", _notify),
    Parameter(b"ORCPT", "DSN", "orcpt", _orcpt),
)
