"""Our reading of DNS messages, held against dnspython's, and what hostile ones come to (RFC 1035 §4)."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest

from ekiden.dns import wire
from ekiden.dns.wire import WireError, decode_reply, encode_name, encode_question

NUMBER = 4711


def reply_to(name: str, kind: int, *records: tuple[str, int, str, str], authority: str = "", flags: int = 0) -> bytes:
    """An answer as dnspython writes it; records are (owner, ttl, type, data)."""
    message = dns.message.make_response(dns.message.from_wire(encode_question(NUMBER, name, kind)))
    message.flags |= flags
    for owner, ttl, type_name, data in records:
        message.answer.append(dns.rrset.from_text(owner + ".", ttl, "IN", type_name, data))
    if authority:
        message.authority.append(dns.rrset.from_text("x.test.", 900, "IN", "SOA", authority))
    return message.to_wire()


def test_a_question_is_what_others_read_it_to_be() -> None:
    """With the DO bit (RFC 3225 §3) and the AD bit (RFC 6840 §5.7)."""
    message = dns.message.from_wire(encode_question(NUMBER, "mx.x.test", wire.TLSA))
    assert message.id == NUMBER
    assert [(str(each.name), each.rdtype) for each in message.question] == [("mx.x.test.", dns.rdatatype.TLSA)]
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload, message.ednsflags) == (0, 1232, dns.flags.DO)
    plain = dns.message.from_wire(encode_question(1, "", wire.MX, payload=0))
    assert (plain.edns, str(plain.question[0].name)) == (-1, ".")


@pytest.mark.parametrize(
    ("kind", "type_name", "data", "read", "value"),
    [
        (wire.A, "A", "192.0.2.1", wire.read_address, "192.0.2.1"),
        (wire.AAAA, "AAAA", "2001:db8::1", wire.read_address, "2001:db8::1"),
        (wire.MX, "MX", "10 MX.x.test.", wire.read_mx, (10, "mx.x.test")),
        (wire.MX, "MX", "0 .", wire.read_mx, (0, "")),
        (wire.PTR, "PTR", "a.x.test.", wire.read_name, "a.x.test"),
        (wire.CNAME, "CNAME", "a.x.test.", wire.read_name, "a.x.test"),
        (wire.SRV, "SRV", "1 2 587 a.x.test.", wire.read_srv, (1, 2, 587, "a.x.test")),
        (wire.TXT, "TXT", '"v=STSv1; " "id=1"', wire.read_txt, b"v=STSv1; id=1"),
        (wire.TLSA, "TLSA", "3 1 0 00ff", wire.read_tlsa, (3, 1, 0, b"\0\xff")),
    ],
)
def test_records(kind: int, type_name: str, data: str, read: object, value: object) -> None:
    packet = reply_to("x.test", kind, ("x.test", 60, type_name, data), flags=dns.flags.AD)
    reply = decode_reply(packet, NUMBER, "x.test", kind)
    assert reply.values(read) == (value,)  # type: ignore[arg-type]
    assert (reply.authentic, reply.ttl_s, reply.canonical) == (True, 60, "x.test")


def test_aliases_are_followed_and_nothing_else_is_taken() -> None:
    packet = reply_to(
        "a.test",
        wire.A,
        ("a.test", 50, "CNAME", "b.test."),
        ("b.test", 40, "CNAME", "c.test."),
        ("c.test", 60, "A", "192.0.2.3"),
        ("other.test", 60, "A", "192.0.2.66"),
    )
    reply = decode_reply(packet, NUMBER, "a.test", wire.A)
    assert reply.values(wire.read_address) == ("192.0.2.3",)
    assert (reply.canonical, reply.ttl_s) == ("c.test", 40)
    assert decode_reply(
        reply_to("a.test", wire.CNAME, ("a.test", 50, "CNAME", "b.test.")), NUMBER, "a.test", wire.CNAME
    ).values(wire.read_name) == ("b.test",)


def test_aliases_without_an_end() -> None:
    packet = reply_to("a.test", wire.A, ("a.test", 50, "CNAME", "b.test."), ("b.test", 40, "CNAME", "a.test."))
    with pytest.raises(WireError):
        decode_reply(packet, NUMBER, "a.test", wire.A)


def test_absence_lasts_as_the_soa_says() -> None:
    """RFC 2308 §5."""
    packet = reply_to("x.test", wire.TLSA, authority="ns. h. 1 2 3 4 300")
    assert decode_reply(packet, NUMBER, "x.test", wire.TLSA).ttl_s == 300
    packet = reply_to("x.test", wire.TLSA, authority="ns. h. 1 2 3 4 3000")
    assert decode_reply(packet, NUMBER, "x.test", wire.TLSA).ttl_s == 900
    assert decode_reply(reply_to("x.test", wire.TLSA), NUMBER, "x.test", wire.TLSA).ttl_s == 0


def test_a_time_to_live_with_the_highest_bit_is_none() -> None:
    """RFC 2181 §8."""
    packet = reply_to("x.test", wire.A, ("x.test", 0x7FFFFFFF, "A", "192.0.2.1")).replace(
        b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"
    )
    assert decode_reply(packet, NUMBER, "x.test", wire.A).ttl_s == 0


def test_what_answers_something_else_is_no_answer() -> None:
    packet = reply_to("x.test", wire.A, ("x.test", 60, "A", "192.0.2.1"))
    for number, name, kind in ((1, "x.test", wire.A), (NUMBER, "y.test", wire.A), (NUMBER, "x.test", wire.MX)):
        with pytest.raises(WireError):
            decode_reply(packet, number, name, kind)
    with pytest.raises(WireError):
        decode_reply(encode_question(NUMBER, "x.test", wire.A), NUMBER, "x.test", wire.A)  # a question


def test_names_with_odd_octets_equal_no_name_of_ours() -> None:
    target = dns.name.Name((b"a.b", b"c\\d", b"\xff ", b"")).to_wire() or b""
    head = struct.pack("!HHHHHH", NUMBER, 0x8180, 1, 1, 0, 0)
    question = encode_name("x.test") + struct.pack("!HH", wire.PTR, 1)
    packet = head + question + b"\xc0\x0c" + struct.pack("!HHIH", wire.PTR, 1, 60, len(target)) + target
    reply = decode_reply(packet, NUMBER, "x.test", wire.PTR)
    assert reply.values(wire.read_name) == (r"a\046b.c\092d.\255\032",)


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",  # itself, or further on: forward
        b"\xc0\xff",
        b"\x40a\0",
        b"\x05ab",
        b"\x3f" + b"a" * 63 + b"\xc0\x0c",
        b"\xc0",
        b"",
        (b"\x3f" + b"a" * 63) * 4 + b"\0",
    ],
)
def test_names_that_are_none(name: bytes) -> None:
    packet = struct.pack("!HHHHHH", NUMBER, 0x8180, 1, 0, 0, 0) + name
    with pytest.raises(WireError):
        decode_reply(packet, NUMBER, "x.test", wire.A)


def test_many_pointers_are_little_work() -> None:
    """Each record's owner points to a chain of pointers; a chain that is too long is no name."""
    head = struct.pack("!HHHHHH", NUMBER, 0x8180, 1, 3000, 0, 0)
    question = encode_name("x.test") + struct.pack("!HH", wire.A, 1)
    chain = bytearray()
    at = len(head) + len(question) + 10
    previous = 12
    for _ in range(1000):
        chain += struct.pack("!H", 0xC000 | previous)
        previous, at = at, at + 2
    first = b"\0" + struct.pack("!HHIH", 99, 1, 1, len(chain))[:9]
    packet = head + question + first + bytes([len(chain) >> 8]) + bytes(chain)
    with pytest.raises(WireError):
        decode_reply(packet, NUMBER, "x.test", wire.A)
