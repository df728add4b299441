"""The name servers of this host, and whether their word on DNSSEC counts: /etc/resolv.conf (resolv.conf(5)).

The AD bit is worth what the way to the resolver is worth (RFC 7672 §2.1.1, RFC 4035 §4.9.3): a resolver on this host is
believed, others when the administrator names them in dns_resolvers or writes ``options trust-ad``.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from msgspec import Struct

_FILE_LIMIT_BYTES = 64 * 1024
_MAX_SERVERS = 3  # as the C library has it


class NameServer(Struct, frozen=True):
    address: str
    port: int = 53
    trusted: bool = False  # its AD bit is


def name_servers(configured: tuple[str, ...], resolv_conf: Path) -> tuple[NameServer, ...]:
    """``configured`` is dns_resolvers (``a.b.c.d:port`` or ``[v6]:port``); without any, those of the file."""
    if configured:
        return tuple(_configured(server) for server in configured)
    try:
        with resolv_conf.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_FILE_LIMIT_BYTES)
    except OSError:
        text = ""
    return _of_file(text) or (NameServer("127.0.0.1", trusted=True),)


def _configured(server: str) -> NameServer:
    address, _, port = server.rpartition(":")
    return NameServer(address.strip("[]"), int(port), trusted=True)


def _of_file(text: str) -> tuple[NameServer, ...]:
    addresses: list[str] = []
    trusts_all = False
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest and _is_address(rest[0]):
            addresses.append(rest[0])
        elif word == "options" and "trust-ad" in rest:
            trusts_all = True
    return tuple(
        NameServer(address, trusted=trusts_all or ipaddress.ip_address(address).is_loopback)
        for address in addresses[:_MAX_SERVERS]
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
