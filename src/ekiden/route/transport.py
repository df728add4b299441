"""``transport:nexthop`` as transport_maps and the transport parameters hold it (transport(5))."""

from __future__ import annotations

from msgspec import Struct

# Transports whose next hop is a text (error(8)).
UNDELIVERABLE = frozenset({"error", "retry"})
_NO_TEXT = "Address is undeliverable"


class Transport(Struct, frozen=True):
    """Either part may be empty: what that means depends on where it stands."""

    name: str
    next_hop: str


def parse_transport(text: str) -> Transport:
    """``smtp:[h]:25`` -> smtp and ``[h]:25``; ``:[h]`` keeps the transport; ``lmtp`` alone has no next hop."""
    name, _, next_hop = text.strip().partition(":")
    return Transport(name.strip(), next_hop.strip())


def applied(found: Transport, default: Transport, domain: str) -> Transport:
    """What a transport_maps result makes of the default (transport(5), "RESULT FORMAT").

    A transport without next hop means the recipient's domain, not the default's next hop (for error and retry it
    means a text); a next hop without transport keeps the default's transport; both empty change nothing.
    """
    if found.name in UNDELIVERABLE:
        return Transport(found.name, found.next_hop or _NO_TEXT)
    if found.name:
        return Transport(found.name, found.next_hop or domain)
    if found.next_hop:
        return Transport(default.name, found.next_hop)
    return default
