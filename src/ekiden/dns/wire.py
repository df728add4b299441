"""DNS messages (RFC 1035 §4): questions as bytes, and what answers say of one name and type. No I/O.

In:   a name in the form of dns.name, a type; the bytes of an answer.
Out:  the bytes of a question; a Reply whose records belong to the name, CNAMEs followed.
Never: raises anything but WireError for any bytes, follows a compression pointer forward, does more than linear work.

Names come out in lower case without a trailing dot; an octet that no name in text can show comes out as ``\\ddd``
(RFC 1035 §5.1), so that such a name equals no name that mail uses.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec import Struct

R = TypeVar("R")

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
MX: Final = 15
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
TLSA: Final = 52
_OPT: Final = 41
_IN: Final = 1

NOERROR: Final = 0
SERVFAIL: Final = 2
NXDOMAIN: Final = 3

_RESPONSE = 0x8000
_OPCODE = 0x7800
_TRUNCATED = 0x0200
_RECURSION_DESIRED = 0x0100
_AUTHENTIC = 0x0020
_RCODE = 0x000F
_DNSSEC_OK = 0x8000

_HEAD = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b".\\")
_MAX_POINTERS = 32  # of one name; every label of a name may lie elsewhere, but nobody writes names so
_MAX_NAME_OCTETS = 255  # RFC 1035 §2.3.4
_MAX_ALIASES = 16  # a chain of CNAMEs that is longer leads nowhere
_MAX_RECORDS = 4096  # of one message; 64 KiB hold some more of the smallest


class WireError(ValueError):
    """Bytes that are no DNS message, or none that answers the question."""


class Record(Struct, frozen=True):
    """``at`` and ``end`` are where its data lie in the message, whose names may be compressed."""

    owner: str
    kind: int
    ttl_s: int
    at: int
    end: int


class Reply(Struct, frozen=True):
    """An answer to the question that it was read for. ``records`` are of the type that was asked for."""

    packet: bytes
    rcode: int
    truncated: bool
    authentic: bool  # AD (RFC 4035 §3.2.3)
    records: tuple[Record, ...] = ()
    canonical: str = ""  # the name that has the records, or lacks them; as asked where no CNAME led away
    ttl_s: int = 0  # of the records and CNAMEs together; of absence by the SOA record (RFC 2308 §5), else 0

    def values(self, read: Callable[[bytes, Record], R | None]) -> tuple[R, ...]:
        """The records as values; those that ``read`` finds malformed or unwanted (None) are left out."""
        return tuple([value for record in self.records if (value := read(self.packet, record)) is not None])


def encode_question(number: int, name: str, kind: int, *, payload: int = 1232) -> bytes:
    """A question that wants recursion and the AD bit (RFC 6840 §5.7).

    ``payload``: the largest UDP answer, offered with DO by EDNS (RFC 6891 §6.1, RFC 3225 §3); 0 leaves EDNS out.
    """
    head = _HEAD.pack(number, _RECURSION_DESIRED | _AUTHENTIC, 1, 0, 0, 1 if payload else 0)
    question = encode_name(name) + struct.pack("!HH", kind, _IN)
    option = b"\0" + _RECORD.pack(_OPT, payload, _DNSSEC_OK, 0) if payload else b""
    return head + question + option


def encode_name(name: str) -> bytes:
    """``name`` is one that dns_name() made."""
    labels = [label.encode("ascii") for label in name.split(".")] if name else []
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def decode_reply(packet: bytes, number: int, name: str, kind: int) -> Reply:
    """What ``packet`` says in answer to a question of encode_question(). Raises WireError when it is none to it."""
    if len(packet) < _HEAD.size:
        raise WireError("shorter than a header")
    its_number, flags, questions, answers, authorities, _ = _HEAD.unpack_from(packet)
    if its_number != number or not flags & _RESPONSE or flags & _OPCODE:
        raise WireError("no answer to this question")
    rcode, authentic = flags & _RCODE, bool(flags & _AUTHENTIC)
    if questions == 0 and rcode not in (NOERROR, NXDOMAIN):
        # A server that did not understand the question may leave it out; what it says is then trouble only.
        return Reply(packet, rcode, False, False)
    if questions != 1:
        raise WireError("not one question")
    asked, at = _name(packet, _HEAD.size)
    if asked != name or packet[at : at + 4] != struct.pack("!HH", kind, _IN):
        raise WireError("another question")
    at += 4
    if flags & _TRUNCATED:
        return Reply(packet, rcode, True, authentic)
    if rcode not in (NOERROR, NXDOMAIN):
        return Reply(packet, rcode, False, authentic)
    if answers + authorities > _MAX_RECORDS:
        raise WireError("too many records")
    answer, at = _records(packet, at, answers)
    canonical, records, ttl_s = _follow(packet, answer, name, kind)
    if not records:
        authority, at = _records(packet, at, authorities)
        ttl_s = _negative_ttl_s(packet, authority, ttl_s)
    return Reply(packet, rcode, False, authentic, records, canonical, ttl_s)


def _follow(packet: bytes, answer: Sequence[Record], name: str, kind: int) -> tuple[str, tuple[Record, ...], int]:
    """The records of ``name``, or of what CNAMEs make of it; who they belong to; how long all that may be kept."""
    aliases: dict[str, Record] = {}
    for record in answer:
        if record.kind == CNAME and kind != CNAME:
            aliases.setdefault(record.owner, record)
    ttls: list[int] = []
    for _ in range(_MAX_ALIASES + 1):
        alias = aliases.get(name)
        if alias is None:
            records = tuple([record for record in answer if record.kind == kind and record.owner == name])
            return name, records, min([*ttls, *(record.ttl_s for record in records)], default=0)
        ttls.append(alias.ttl_s)
        name = _whole_name(packet, alias, alias.at)
    raise WireError("CNAMEs without an end")


def _negative_ttl_s(packet: bytes, authority: Sequence[Record], ttl_s: int) -> int:
    """RFC 2308 §5: the lesser of the SOA's TTL and its last field; of a chain that led here no more than its own."""
    for record in authority:
        if record.kind == SOA and record.end - record.at >= 22:
            minimum = int.from_bytes(packet[record.end - 4 : record.end], "big")
            life_s = min(record.ttl_s, minimum)
            return min(life_s, ttl_s) if ttl_s else life_s
    return 0


def _records(packet: bytes, at: int, count: int) -> tuple[list[Record], int]:
    found: list[Record] = []
    for _ in range(count):
        owner, at = _name(packet, at)
        if at + _RECORD.size > len(packet):
            raise WireError("a record ends early")
        kind, cls, ttl_s, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        if at + length > len(packet):
            raise WireError("a record ends early")
        if cls == _IN:
            # RFC 2181 §8: a TTL with the highest bit set is zero.
            found.append(Record(owner, kind, 0 if ttl_s & 0x80000000 else ttl_s, at, at + length))
        at += length
    return found, at


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at ``at``, and where what follows it begins (RFC 1035 §4.1.4).

    A pointer must lead to before where the name, or the last pointed-to part of it, began: so there is always an end.
    """
    labels: list[str] = []
    octets, pointers, after, limit = 1, 0, -1, at
    size = len(packet)
    while True:
        if at >= size:
            raise WireError("a name ends early")
        length = packet[at]
        if length == 0:
            return ".".join(labels), at + 1 if after < 0 else after
        if length >= 0xC0:
            if at + 1 >= size:
                raise WireError("a name ends early")
            target = (length & 0x3F) << 8 | packet[at + 1]
            pointers += 1
            if target >= limit or pointers > _MAX_POINTERS:
                raise WireError("a name points forward, or too often")
            if after < 0:
                after = at + 2
            at = limit = target
            continue
        if length > 63:
            raise WireError("a label of an unknown kind")
        octets += length + 1
        if at + 1 + length > size or octets > _MAX_NAME_OCTETS:
            raise WireError("a name ends early or is too long")
        labels.append(_label(packet[at + 1 : at + 1 + length]))
        at += 1 + length


def _label(octets: bytes) -> str:
    if not octets.translate(None, _PLAIN):
        return octets.decode("ascii").lower()
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:03d}" for octet in octets).lower()


def _whole_name(packet: bytes, record: Record, at: int) -> str:
    name, end = _name(packet, at)
    if end != record.end:
        raise WireError("a name in a record does not end with it")
    return name


# -- the data of records: None where it is malformed --


def _name_in(packet: bytes, record: Record, at: int) -> str | None:
    try:
        return _whole_name(packet, record, at)
    except WireError:
        return None


def read_address(packet: bytes, record: Record) -> str | None:
    data = packet[record.at : record.end]
    if record.kind == A and len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if record.kind == AAAA and len(data) == 16:
        return socket.inet_ntop(socket.AF_INET6, data)
    return None


def read_name(packet: bytes, record: Record) -> str | None:
    """PTR, CNAME."""
    return _name_in(packet, record, record.at)


def read_mx(packet: bytes, record: Record) -> tuple[int, str] | None:
    """Preference and exchange (RFC 1035 §3.3.9)."""
    if record.end - record.at < 3:
        return None
    exchange = _name_in(packet, record, record.at + 2)
    return None if exchange is None else (int.from_bytes(packet[record.at : record.at + 2], "big"), exchange)


def read_srv(packet: bytes, record: Record) -> tuple[int, int, int, str] | None:
    """Priority, weight, port, target (RFC 2782)."""
    if record.end - record.at < 7:
        return None
    priority, weight, port = struct.unpack_from("!HHH", packet, record.at)
    target = _name_in(packet, record, record.at + 6)
    return None if target is None else (priority, weight, port, target)


def read_txt(packet: bytes, record: Record) -> bytes | None:
    """The strings of one record joined (RFC 1035 §3.3.14, RFC 7208 §3.3)."""
    parts: list[bytes] = []
    at = record.at
    while at < record.end:
        after = at + 1 + packet[at]
        if after > record.end:
            return None
        parts.append(packet[at + 1 : after])
        at = after
    return b"".join(parts)


def read_tlsa(packet: bytes, record: Record) -> tuple[int, int, int, bytes] | None:
    """Usage, selector, matching type, data (RFC 6698 §2.1)."""
    if record.end - record.at < 3:
        return None
    usage, selector, matching = packet[record.at : record.at + 3]
    return usage, selector, matching, packet[record.at + 3 : record.end]
