"""Any bytes are an answer to the question, with records that lie inside it, or a WireError; in linear work."""

from __future__ import annotations

import struct

from ekiden.dns import wire

NUMBER = 0x1234
_HEAD = struct.pack("!HHHHHH", NUMBER, 0x81A0, 1, 3, 1, 0)
_READERS = (
    wire.read_address, wire.read_name, wire.read_mx, wire.read_srv, wire.read_txt, wire.read_tlsa,
)  # fmt: skip
_KINDS = (wire.A, wire.AAAA, wire.CNAME, wire.MX, wire.SRV, wire.TXT, wire.TLSA)


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 300, len(data)) + data


def _seed(kind: int, data: bytes) -> bytes:
    question = wire.encode_name("x.test") + struct.pack("!HH", kind, 1)
    return (
        _HEAD
        + question
        + _record(b"\xc0\x0c", wire.CNAME, b"\1y\xc0\x0e")
        + _record(b"\1y\xc0\x0e", kind, data)
        + _record(b"\xc0\x0c", 46, b"\0" * 20)
        + _record(b"\xc0\x0e", wire.SOA, b"\0\0" + b"\0\0\1\0" * 5)
    )


SEEDS = [
    _seed(wire.A, b"\xc0\0\2\1"),
    _seed(wire.AAAA, bytes(16)),
    _seed(wire.MX, b"\0\x0a\2mx\xc0\x0c"),
    _seed(wire.SRV, b"\0\1\0\2\2\x4b\2mx\xc0\x0c"),
    _seed(wire.TXT, b"\x09v=STSv1; \4id=1"),
    _seed(wire.TLSA, b"\3\1\1" + b"\xaa" * 32),
    _HEAD[:4] + bytes(8),
]


def one_input(data: bytes) -> None:
    for kind in _KINDS:
        try:
            reply = wire.decode_reply(data, NUMBER, "x.test", kind)
        except wire.WireError:
            continue
        assert data[2] & 0x80
        for record in reply.records:
            assert record.kind == kind
            assert 12 < record.at <= record.end <= len(data)
            assert 0 <= record.ttl_s < 2**31
        for read in _READERS:
            values = reply.values(read)
            assert len(values) <= len(reply.records)
