"""Whether a domain can have mail at all: reject_unknown_sender_domain and its kin (postconf(5)).

In:   a domain and a resolver.
Out:  what DNS says of it, as one word. Nothing is raised: that nobody answers is one of the words.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

from ekiden.dns.resolver import DnsTrouble, Resolver
from ekiden.message.address import Address


class DomainState(enum.Enum):
    KNOWN = "known"
    UNKNOWN = "not found"
    NULL_MX = "does not accept mail"  # RFC 7505
    TROUBLE = "could not be looked up"


class MailDomains:
    def __init__(self, resolver: Resolver, is_final: Callable[[Address], Awaitable[bool]]) -> None:
        """``is_final``: whether mail for an address ends on this host. It may raise TableTrouble."""
        self._resolver = resolver
        self.is_final = is_final

    async def state_of(self, domain: str) -> DomainState:
        """By its MX record, or without one by its address (RFC 5321 §5.1)."""
        domain = domain.removesuffix(".")
        try:
            exchanges = await self._resolver.mx(domain)
            if exchanges.records:
                is_null = all(not record.exchange for record in exchanges.records)
                return DomainState.NULL_MX if is_null else DomainState.KNOWN
            addresses = await self._resolver.addresses(domain)
        except DnsTrouble:
            return DomainState.TROUBLE
        return DomainState.KNOWN if addresses.records else DomainState.UNKNOWN
