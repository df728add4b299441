"""Any bytes in any chunking give one outcome of a PROXY header; never an exception, never more than a header kept."""

from __future__ import annotations

import ipaddress

from ekiden.protocol.proxy_protocol import V1_LINE_BYTES, V2_SIGNATURE, Proxied, ProxyHeader, ProxyProblem

LIMIT = 256
_V4 = bytes((192, 0, 2, 1, 198, 51, 100, 25, 0xDC, 4, 0, 25))

SEEDS = [
    b"PROXY TCP4 192.0.2.1 198.51.100.25 56324 25\r\nEHLO x\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::25 56324 25\r\n",
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 65535\r\n",
    b"PROXY UNKNOWN\r\nQUIT\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    b"PROXY TCP4 192.0.2.1 " + b"1" * 200,
    V2_SIGNATURE + b"\x21\x11\x00\x0c" + _V4 + b"EHLO x\r\n",
    V2_SIGNATURE + b"\x21\x21\x00\x24" + bytes(range(32)) + b"\xdc\x04\x00\x19",
    V2_SIGNATURE + b"\x21\x11\x00\x14" + _V4 + b"\x04\x00\x05\0\0\0\0\0",
    V2_SIGNATURE + b"\x20\x00\x00\x00" + b"\x16\x03\x01",
    V2_SIGNATURE + b"\x21\x31\x00\xd8" + b"/run/proxy".ljust(216, b"\0"),
    V2_SIGNATURE + b"\x21\x11\xff\xff" + _V4,
    b"EHLO client.example\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
]


def one_input(data: bytes) -> None:
    whole = _hold(data, len(data) or 1)
    for size in (1, 2, 3, 5, 13):
        assert _hold(data, size) == whole, size


def _hold(data: bytes, size: int) -> tuple[Proxied | ProxyProblem | None, bytes]:
    """The outcome, and what is left of the input; of a refused header nothing is read on."""
    receiver = ProxyHeader(LIMIT)
    at = 0
    while at < len(data) and receiver.outcome is None:
        receiver.feed(data[at : at + size])
        at += size
        assert len(receiver._held) <= max(V1_LINE_BYTES, 16 + LIMIT) + size
    outcome = receiver.outcome
    if isinstance(outcome, ProxyProblem):
        return outcome, b""
    if outcome is not None:
        for address in (outcome.source, outcome.destination):
            assert address is None or str(ipaddress.ip_address(address)) == address
        assert 0 <= outcome.source_port <= 65535 >= outcome.destination_port >= 0
    return outcome, receiver.rest + data[at:]
