"""The next hop as transport_maps, relayhost and recipient domains write it (transport(5), smtp(8)).

``example.com`` (its MX hosts), ``example.com:2525``, ``[relay.example]`` (that host, no MX), ``[relay.example]:587``,
``[192.0.2.1]:25``, ``[2001:db8::1]``, ``[IPv6:2001:db8::1]`` (RFC 5321 §4.1.3).
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache

from msgspec import Struct

from ekiden.dns.name import host_name

_SERVICES = {"smtp": 25, "lmtp": 24, "submission": 587, "submissions": 465, "smtps": 465, "qmqp": 628}
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


class NextHop(Struct, frozen=True):
    """A parsed next hop. ``host`` is an IP address as text, or a host name in A-labels and lower case."""

    host: str
    port: int
    is_address: bool = False
    use_mx: bool = True


@lru_cache(maxsize=4096)
def parse_next_hop(text: str, default_port: int = 25) -> NextHop | None:
    """The meaning of ``text``, or None when it has none."""
    bracketed = text.startswith("[")
    if bracketed:
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        port_text = rest[1:]
        if rest and not port_text:
            return None
    else:
        host, colon, port_text = text.partition(":")
        if colon and not port_text:
            return None
    port = _port(port_text) if port_text else default_port
    if port is None:
        return None
    if bracketed:
        address = ip_address(host)
        if address is not None:
            return NextHop(address, port, is_address=True, use_mx=False)
    name = host_name(host)
    return None if name is None else NextHop(name, port, use_mx=not bracketed)


def ip_address(text: str) -> str | None:
    """The address of an address literal without its brackets, in its usual form, or None."""
    if text[:5].lower() == "ipv6:":
        text = text[5:]
        if ":" not in text:
            return None
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        return None


def _port(text: str) -> int | None:
    if _PORT.fullmatch(text) is None:
        return _SERVICES.get(text.lower())
    return int(text) if 0 < int(text) < 65536 else None
