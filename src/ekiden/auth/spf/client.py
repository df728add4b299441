"""The SMTP client's address as SPF compares and writes it (RFC 7208 §4.1, §5, §7.3)."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from msgspec import Struct

from ekiden.auth.spf.record import packed


class Client(Struct, frozen=True):
    text: str  # as people write it: macro c
    family: int  # 4 or 6
    bits: int

    @property
    def dotted(self) -> str:
        """Macro i: 32 nibbles with dots between them for IPv6."""
        return self.text if self.family == 4 else ".".join(f"{self.bits:032x}")

    @property
    def zone(self) -> str:
        """Macro v."""
        return "in-addr" if self.family == 4 else "ip6"


@lru_cache(maxsize=1024)
def client_of(address: str) -> Client | None:
    """An IPv4 address in IPv6 clothes is an IPv4 address (RFC 7208 §5). None: no address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return Client(str(parsed), parsed.version, int(parsed))


def bits_of(family: int, address: str) -> int | None:
    """Of an address that DNS gave; None where it is of the other family."""
    octets = packed(family, address)
    return None if octets is None else int.from_bytes(octets, "big")
