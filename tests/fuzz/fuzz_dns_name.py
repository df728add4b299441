"""Any text is a name of at most 253 octets in A-labels, the same when read again, or none; never an exception."""

from __future__ import annotations

import re

from ekiden.dns.name import dns_name, host_name
from ekiden.dns.reverse import reverse_name

SEEDS = [
    b"example.com",
    b"Example.COM.",
    "bücher.example".encode(),
    "例え。テスト".encode(),
    b"xn--bcher-kva.example",
    b"a" * 63 + b".b",
    b".".join([b"a" * 63] * 4),
    b"192.0.2.1",
    b"2001:db8::1",
    b"a\\.b",
    b"\xf0\x9f\x92\xa9.la",
]
_LDH = re.compile(r"[0-9a-z_.-]+")


def one_input(data: bytes) -> None:
    for text in (data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        name = dns_name(text)
        if name:
            assert len(name) <= 253
            assert name.isascii()
            assert name == name.lower()
            assert all(0x20 < ord(char) < 0x7F and char != "\\" for char in name)
            assert all(0 < len(label) <= 63 for label in name.split("."))
            assert dns_name(name) == name
        host = host_name(text)
        if host is not None:
            assert host == name
            assert _LDH.fullmatch(host) is not None
        reverse = reverse_name(text)
        assert reverse is None or dns_name(reverse) == reverse
