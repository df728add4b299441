"""The way to a content filter (postconf(5) content_filter): all recipients of a message take it, not their own."""

from __future__ import annotations

from ekiden.config.snapshot import Parameters
from ekiden.message.address import Address
from ekiden.message.delivery import Route


def filter_route(content_filter: str, address: Address, parameters: Parameters) -> Route:
    """``amavis:[127.0.0.1]:10024`` as a route for ``address``.

    Without a next hop (``amavis:``, ``amavis``) it is default_filter_nexthop, else the recipient's domain.
    """
    transport, _, next_hop = content_filter.partition(":")
    next_hop = next_hop.strip() or parameters.default_filter_nexthop or address.domain or parameters.myhostname
    return Route(transport.strip(), next_hop, address)
