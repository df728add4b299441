"""Any text is a next hop with a real port and a host that can be connected to, or none; never an exception."""

from __future__ import annotations

import socket

from ekiden.dns.name import host_name
from ekiden.route.next_hop import parse_next_hop
from ekiden.route.transport import Transport, applied, parse_transport

SEEDS = [
    b"example.com",
    b"example.com:2525",
    b"[mail.example]:587",
    b"[192.0.2.1]:25",
    b"[IPv6:2001:db8::1]",
    b"[::ffff:192.0.2.1]:submission",
    b"smtp:[h]:25",
    b"error:5.1.1 gone",
    "bücher.example:25".encode(),
    b":[h]",
    b"[]:",
]


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    hop = parse_next_hop(text)
    if hop is not None:
        assert 0 < hop.port < 65536
        if hop.is_address:
            socket.inet_pton(socket.AF_INET6 if ":" in hop.host else socket.AF_INET, hop.host)
            assert not hop.use_mx
        else:
            assert host_name(hop.host) == hop.host
    chosen = applied(parse_transport(text), Transport("smtp", "default.example"), "domain.example")
    assert chosen.name
    assert chosen.next_hop
