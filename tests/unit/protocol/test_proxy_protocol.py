"""PROXY headers of both versions: what they say, where they end, and what is no header."""

from __future__ import annotations

import ipaddress

import pytest

from ekiden.protocol.proxy_protocol import V2_SIGNATURE, Proxied, ProxyHeader, ProxyProblem

LIMIT = 512
LONGEST = b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"


def version_2(command: int, family: int, payload: bytes, size: int | None = None) -> bytes:
    return (
        V2_SIGNATURE + bytes((command, family)) + (len(payload) if size is None else size).to_bytes(2, "big") + payload
    )


def addresses(source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return packed + source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")


IPV4 = addresses("192.0.2.1", "198.51.100.25", 56324, 25)
IPV6 = addresses("2001:db8::1", "2001:db8::25", 56324, 25)
TLV = b"\x04\x00\x03abc" + b"\x20\x00\x02\x00\x00"
CLIENT_4 = Proxied("192.0.2.1", 56324, "198.51.100.25", 25)
CLIENT_6 = Proxied("2001:db8::1", 56324, "2001:db8::25", 25)

GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 56324 25\r\n", CLIENT_4),
    (b"PROXY TCP6 2001:db8::1 2001:db8::25 56324 25\r\n", CLIENT_6),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 2001:db8::25 56324 25\r\n", CLIENT_6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.25 56324 25\r\n", CLIENT_4),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n",
        Proxied("255.255.255.255", 65535, "255.255.255.255", 0),
    ),
    (b"PROXY UNKNOWN\r\n", Proxied()),
    (b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n", Proxied()),
    (version_2(0x21, 0x11, IPV4), CLIENT_4),
    (version_2(0x21, 0x21, IPV6), CLIENT_6),
    (version_2(0x21, 0x11, IPV4 + TLV), CLIENT_4),
    (version_2(0x21, 0x11, IPV4 + b"\0" * (LIMIT - len(IPV4))), CLIENT_4),
    (version_2(0x21, 0x21, addresses("::ffff:192.0.2.1", "::ffff:198.51.100.25", 56324, 25)), CLIENT_4),
    (version_2(0x20, 0x00, b""), Proxied()),  # LOCAL
    (version_2(0x20, 0x11, IPV4), Proxied()),  # LOCAL with addresses, which mean nothing
    (version_2(0x20, 0xFF, b"junk"), Proxied()),
    (version_2(0x21, 0x00, b""), Proxied()),  # UNSPEC
    (version_2(0x21, 0x00, TLV), Proxied()),
]

BAD = [
    (b"EHLO client.example\r\n", ProxyProblem.ABSENT),
    (b"\x16\x03\x01\x02\x00\x01", ProxyProblem.ABSENT),
    (b"proxy TCP4 192.0.2.1 198.51.100.25 56324 25\r\n", ProxyProblem.ABSENT),
    (b"PROXX", ProxyProblem.ABSENT),
    (b"\r\n\r\n\x00\r\nQUIX", ProxyProblem.ABSENT),
    (b"\n", ProxyProblem.ABSENT),
    (b"PROXY \r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4\r\n", ProxyProblem.SYNTAX),
    (b"PROXY UNKNOWNX\r\n", ProxyProblem.SYNTAX),
    (b"PROXY UDP4 192.0.2.1 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 56324 25\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 56324 25\r\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 56324 25 \r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4  192.0.2.1 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4\t192.0.2.1 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 056324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 65536 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.1 198.51.100.25 -1 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.01 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2.256 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 192.0.2 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 2001:db8::1 2001:db8::25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP6 192.0.2.1 198.51.100.25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP6 fe80::1%eth0 2001:db8::25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP6 1::2::3 2001:db8::25 56324 25\r\n", ProxyProblem.SYNTAX),
    (b"PROXY TCP4 " + b"1" * 200, ProxyProblem.TOO_LONG),
    (b"PROXY " + b"x" * 10_000_000, ProxyProblem.TOO_LONG),  # nodemailer/smtp-server#262: a line without an end
    (version_2(0x11, 0x11, IPV4), ProxyProblem.SYNTAX),  # no version 2
    (version_2(0x22, 0x11, IPV4), ProxyProblem.SYNTAX),  # no such command
    (version_2(0x21, 0x11, IPV4[:-1]), ProxyProblem.SYNTAX),
    (version_2(0x21, 0x21, IPV4), ProxyProblem.SYNTAX),
    (version_2(0x21, 0x12, IPV4), ProxyProblem.FAMILY),  # UDP
    (version_2(0x21, 0x31, b"/run/x".ljust(216, b"\0")), ProxyProblem.FAMILY),  # UNIX
    (version_2(0x21, 0x41, IPV4), ProxyProblem.FAMILY),
    (version_2(0x21, 0x11, IPV4 + b"\0" * (LIMIT - len(IPV4) + 1)), ProxyProblem.TOO_LONG),
    (version_2(0x21, 0x11, b"", size=65535), ProxyProblem.TOO_LONG),
]


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
@pytest.mark.parametrize(("header", "proxied"), GOOD)
@pytest.mark.parametrize("behind", [b"", b"EHLO x\r\n", b"\x16\x03\x01"])
def test_what_a_header_says_and_where_it_ends(header: bytes, proxied: Proxied, behind: bytes, size: int) -> None:
    receiver = ProxyHeader(LIMIT)
    rest = b""
    for at in range(0, len(header), size):
        assert receiver.outcome is None
        receiver.feed(header[at : at + size])
    assert receiver.outcome == proxied
    whole = ProxyHeader(LIMIT)
    assert whole.feed(header + behind) == proxied
    rest = whole.rest
    assert rest == behind


@pytest.mark.parametrize(("header", "problem"), BAD, ids=lambda value: str(value)[:50])
def test_what_is_no_header(header: bytes, problem: ProxyProblem) -> None:
    assert ProxyHeader(LIMIT).feed(header) is problem
    piecewise = ProxyHeader(LIMIT)
    for at in range(min(len(header), 1000)):
        if piecewise.feed(header[at : at + 1]) is not None:
            break
    assert piecewise.outcome is problem


def test_the_longest_line_fits_and_no_byte_more() -> None:
    assert len(LONGEST) == 104  # what the two longest addresses make; 107 is for "UNKNOWN" with all its fields
    receiver = ProxyHeader(LIMIT)
    assert isinstance(receiver.feed(LONGEST), Proxied)
    line = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
    assert ProxyHeader(LIMIT).feed(line) == Proxied()
    assert ProxyHeader(LIMIT).feed(b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n") is ProxyProblem.TOO_LONG
    assert ProxyHeader(LIMIT).feed(b"PROXY UNKNOWN ".ljust(107, b"x")) is ProxyProblem.TOO_LONG
