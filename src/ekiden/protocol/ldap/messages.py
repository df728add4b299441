"""LDAP messages of a client that binds and searches (RFC 4511 §4).

In:   requests as arguments; the bytes of the server.
Out:  the bytes of requests; Entry, Done and Other values. Raises ValueError for bytes that are no LDAP message.
"""

from __future__ import annotations

import enum

from msgspec import Struct

from ekiden.protocol.ldap import ber

_BIND, _BIND_DONE, _UNBIND = 0x60, 0x61, 0x42
_SEARCH, _ENTRY, _DONE, _REFERENCE = 0x63, 0x64, 0x65, 0x73
_EXTENDED, _EXTENDED_DONE = 0x77, 0x78
_SIMPLE, _SASL = 0x80, 0xA3
_START_TLS = "1.3.6.1.4.1.1466.20037"  # RFC 4511 §4.14.1

SUCCESS, SIZE_LIMIT_EXCEEDED, NO_SUCH_OBJECT = 0, 4, 32

# What can come: RFC 4511 §4.1.9, the codes that a search or a bind may end with.
_NAMES = {
    1: "operations error", 2: "protocol error", 3: "time limit exceeded", 4: "size limit exceeded",
    7: "authentication method not supported", 8: "stronger authentication required", 10: "referral",
    11: "administrative limit exceeded", 13: "confidentiality required", 16: "no such attribute",
    18: "inappropriate matching", 21: "invalid attribute syntax", 32: "no such object", 34: "invalid DN syntax",
    48: "inappropriate authentication", 49: "invalid credentials", 50: "insufficient access rights", 51: "busy",
    52: "unavailable", 53: "unwilling to perform", 80: "other error",
}  # fmt: skip


class Scope(enum.IntEnum):
    BASE = 0
    ONE = 1
    SUB = 2


class Entry(Struct, frozen=True):
    """What a search found: ``attributes`` in the server's order."""

    id: int
    name: str
    attributes: tuple[tuple[str, tuple[bytes, ...]], ...]


class Done(Struct, frozen=True):
    """The end of an operation."""

    id: int
    code: int
    text: str

    def __str__(self) -> str:
        name = _NAMES.get(self.code, f"result code {self.code}")
        return f"{name}: {self.text[:200]}" if self.text else name


class Other(Struct, frozen=True):
    """A message that a search may bring and that is of no use here: a reference to other servers."""

    id: int


def bind_request(number: int, name: str, password: str) -> bytes:
    """A simple bind (§4.2)."""
    body = ber.sequence(ber.integer(3), ber.text(name), ber.text(password, _SIMPLE), tag=_BIND)
    return _message(number, body)


def bind_external_request(number: int, authorization: str) -> bytes:
    """A SASL bind as whoever the socket or the TLS certificate shows (RFC 4422, appendix A)."""
    sasl = ber.sequence(ber.text("EXTERNAL"), ber.text(authorization), tag=_SASL)
    return _message(number, ber.sequence(ber.integer(3), ber.text(""), sasl, tag=_BIND))


def start_tls_request(number: int) -> bytes:
    return _message(number, ber.sequence(ber.text(_START_TLS, 0x80), tag=_EXTENDED))


def unbind_request(number: int) -> bytes:
    return _message(number, ber.element(_UNBIND, b""))


def search_request(
    number: int,
    base: str,
    scope: Scope,
    search_filter: bytes,
    attributes: tuple[str, ...],
    *,
    dereference: int = 0,
    size_limit: int = 0,
    time_limit_s: int = 0,
) -> bytes:
    """§4.5.1. ``search_filter`` is one that ekiden.protocol.ldap.filter has encoded."""
    body = ber.sequence(
        ber.text(base),
        ber.integer(scope, ber.ENUMERATED),
        ber.integer(dereference, ber.ENUMERATED),
        ber.integer(size_limit),
        ber.integer(time_limit_s),
        ber.boolean(False),
        search_filter,
        ber.sequence(*(ber.text(name) for name in attributes)),
        tag=_SEARCH,
    )
    return _message(number, body)


def parse_message(buffer: bytes | bytearray, limit: int) -> tuple[Entry | Done | Other, int] | None:
    """The message at the beginning of ``buffer`` and its length; None when it is not whole. Raises ValueError."""
    head = ber.find(buffer)
    if head is None:
        return None
    tag, begin, end = head
    if tag != ber.SEQUENCE:
        raise ValueError("what comes is no LDAP message")
    if end > limit:
        raise ValueError(f"a message of {end} bytes, more than {limit}")
    if len(buffer) < end:
        return None
    parts = ber.elements(bytes(buffer[begin:end]))
    number = ber.to_int(ber.expect(ber.INTEGER, next(parts, None)))
    kind, content = next(parts, (0, b""))
    if kind == _ENTRY:
        return _entry(number, content), end
    if kind in (_BIND_DONE, _DONE, _EXTENDED_DONE):
        return _done(number, content), end
    if kind == _REFERENCE:
        return Other(number), end
    raise ValueError(f"a message of the kind {kind:#04x}, which is no answer to what was asked")


def _message(number: int, body: bytes) -> bytes:
    return ber.sequence(ber.integer(number), body)


def _done(number: int, content: bytes) -> Done:
    parts = ber.elements(content)
    code = ber.to_int(ber.expect(ber.ENUMERATED, next(parts, None)))
    ber.expect(ber.OCTET_STRING, next(parts, None))  # the matched DN
    text = ber.to_text(ber.expect(ber.OCTET_STRING, next(parts, None)))
    return Done(number, code, text)


def _entry(number: int, content: bytes) -> Entry:
    parts = ber.elements(content)
    name = ber.to_text(ber.expect(ber.OCTET_STRING, next(parts, None)))
    attributes: list[tuple[str, tuple[bytes, ...]]] = []
    for tag, packed in ber.elements(ber.expect(ber.SEQUENCE, next(parts, None))):
        if tag != ber.SEQUENCE:
            raise ValueError("an attribute that is no sequence")
        inner = ber.elements(packed)
        kind = ber.to_text(ber.expect(ber.OCTET_STRING, next(inner, None)))
        values = ber.elements(ber.expect(ber.SET, next(inner, None)))
        attributes.append((kind, tuple(ber.expect(ber.OCTET_STRING, value) for value in values)))
    return Entry(number, name, tuple(attributes))
