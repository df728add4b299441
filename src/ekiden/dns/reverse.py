"""The names below in-addr.arpa and ip6.arpa that PTR records of addresses have (RFC 1035 §3.5, RFC 3596 §2.5)."""

from __future__ import annotations

import socket


def reverse_name(address: str) -> str | None:
    """``192.0.2.1`` -> ``1.2.0.192.in-addr.arpa``; None when ``address`` is no IP address."""
    try:
        if ":" in address:
            digits = socket.inet_pton(socket.AF_INET6, address).hex()
            return ".".join(reversed(digits)) + ".ip6.arpa"
        octets = socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        return None
    return ".".join(str(octet) for octet in reversed(octets)) + ".in-addr.arpa"
