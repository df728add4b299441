"""The PROXY protocol, versions 1 and 2, on the side that receives it: who the client of a load balancer really is.

(HAProxy's proxy-protocol.txt.) The header comes before everything else on a connection, before a TLS handshake too.

In:   the first bytes of a connection, in pieces of any size.
Out:  the addresses that the header gives, or that it gives none; or what is wrong with it; and what came behind it.
Never: holds more than a header, raises for what a peer sends, guesses: without a header that is right in every part
      nothing is known of the client.
"""

from __future__ import annotations

import enum
import ipaddress
import re

from msgspec import Struct

# "In all cases ... the version 1 header is at most 107 characters, with its CRLF."
V1_LINE_BYTES = 107
_V1_START = b"PROXY "
V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD_BYTES = len(V2_SIGNATURE) + 4  # version and command, family and transport, length (2)

# Addresses are judged by the ipaddress module; the form of the line and of the numbers is fixed.
#   "PROXY TCP4 192.0.2.1 198.51.100.1 56324 25" CRLF
_V1_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")
_PORT_LIMIT = 65535


class ProxyProblem(enum.Enum):
    """Why a header was refused; the value is said in the log."""

    ABSENT = "no PROXY header"
    TOO_LONG = "the PROXY header is too long"
    SYNTAX = "the PROXY header is malformed"
    FAMILY = "the PROXY header is for a protocol that is not TCP over IP"


class Proxied(Struct, frozen=True):
    """Who speaks through the proxy. Without a source (``None``) the proxy speaks for itself: a health check, say."""

    source: str | None = None  # IP address as text
    source_port: int = 0
    destination: str | None = None
    destination_port: int = 0


class ProxyHeader:
    """Fed until ``outcome`` is there; then ``rest`` are the bytes behind the header, which are the client's own.

    ``payload_limit`` bounds what a version 2 header announces: addresses and extensions (TLVs), which are passed over.
    """

    __slots__ = ("_held", "_payload_limit", "outcome", "rest")

    def __init__(self, payload_limit: int) -> None:
        self._payload_limit = payload_limit
        self._held = b""
        self.outcome: Proxied | ProxyProblem | None = None
        self.rest = b""

    def feed(self, data: bytes) -> Proxied | ProxyProblem | None:
        """The outcome; None while the header is not whole."""
        self._held += data
        found = self._read(self._held)
        if found is not None:
            self.outcome, end = found
            self.rest, self._held = self._held[end:], b""
        return self.outcome

    def _read(self, held: bytes) -> tuple[Proxied | ProxyProblem, int] | None:
        """The outcome and where the header ends."""
        if held[: len(_V1_START)] == _V1_START[: len(held)]:
            return self._version_1(held) if len(held) >= len(_V1_START) else None
        if held[: len(V2_SIGNATURE)] == V2_SIGNATURE[: len(held)]:
            return self._version_2(held) if len(held) >= _V2_HEAD_BYTES else None
        return ProxyProblem.ABSENT, 0

    def _version_1(self, held: bytes) -> tuple[Proxied | ProxyProblem, int] | None:
        end = held.find(b"\n", 0, V1_LINE_BYTES) + 1
        if not end:
            return (ProxyProblem.TOO_LONG, len(held)) if len(held) >= V1_LINE_BYTES else None
        line = held[:end]
        return (_parse_line(line[:-2]) if line[-2:] == b"\r\n" else ProxyProblem.SYNTAX), end

    def _version_2(self, held: bytes) -> tuple[Proxied | ProxyProblem, int] | None:
        command, family = held[12], held[13]
        size = int.from_bytes(held[14:16], "big")
        if command not in (_LOCAL, _PROXY):
            return ProxyProblem.SYNTAX, len(held)
        if size > self._payload_limit:
            return ProxyProblem.TOO_LONG, len(held)
        end = _V2_HEAD_BYTES + size
        if len(held) < end:
            return None
        if command == _LOCAL:
            return Proxied(), end  # whatever follows means nothing
        return _parse_addresses(family, held[_V2_HEAD_BYTES:end]), end


# Version 2 in the high half of the byte, the command in the low.
_LOCAL, _PROXY = 0x20, 0x21

# Address family in the high half, transport in the low: how long an address is. Everything else is not SMTP over TCP.
_UNSPECIFIED = 0x00
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}


def _parse_addresses(family: int, payload: bytes) -> Proxied | ProxyProblem:
    if family == _UNSPECIFIED:
        return Proxied()
    size = _ADDRESS_BYTES.get(family)
    if size is None:
        return ProxyProblem.FAMILY
    if len(payload) < 2 * size + 4:
        return ProxyProblem.SYNTAX
    source, destination, ports = payload[:size], payload[size : 2 * size], payload[2 * size : 2 * size + 4]
    return Proxied(
        _text(ipaddress.ip_address(source)),
        int.from_bytes(ports[:2], "big"),
        _text(ipaddress.ip_address(destination)),
        int.from_bytes(ports[2:], "big"),
    )


def _parse_line(line: bytes) -> Proxied | ProxyProblem:
    """A line of version 1, without its end."""
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Proxied()
    parts = _V1_LINE.fullmatch(line)
    if parts is None:
        return ProxyProblem.SYNTAX
    version = 4 if parts[1] == b"TCP4" else 6
    try:
        source, destination = (ipaddress.ip_address(part.decode("ascii")) for part in parts.group(2, 3))
    except ValueError:
        return ProxyProblem.SYNTAX
    source_port, destination_port = int(parts[4]), int(parts[5])
    if not (source.version == destination.version == version and max(source_port, destination_port) <= _PORT_LIMIT):
        return ProxyProblem.SYNTAX
    return Proxied(_text(source), source_port, _text(destination), destination_port)


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An IPv4 client of a dual-stack socket of the proxy is an IPv4 client."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
