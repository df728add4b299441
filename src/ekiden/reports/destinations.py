"""Where reports on a domain may go: its rua or ruf places, those outside of its organization only if they agree.

In:   the places of a DMARC record and the domain at which it was found; a Resolver.
Out:  the mailboxes, each with the largest report it takes (RFC 9990 §3.5, §4; RFC 9991 §5 has the same for ruf).
Never: lets a domain have reports sent to somebody who has not agreed. Raises DnsTrouble where DNS cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from ekiden.auth.dmarc.discovery import Discovery
from ekiden.auth.dmarc.record import ReportPlace, parse_record
from ekiden.dns.name import dns_name, host_name
from ekiden.dns.resolver import Resolver
from ekiden.tls.tlsrpt_record import mailbox_of

PLACES_LIMIT = 5  # of one domain: RFC 7489 §6.2 asks for two at least
# RFC 9990 §4 step 6: the version is all that such a record needs.
_AGREES = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")

Tag = Literal["rua", "ruf"]


class Destination(Struct, frozen=True):
    mailbox: str
    size_limit_bytes: int | None = None

    def takes(self, size: int) -> bool:
        """``size`` of the mail, as it is sent (RFC 9990 §3.5)."""
        return self.size_limit_bytes is None or size <= self.size_limit_bytes


class Refused(Struct, frozen=True):
    """A place that gets nothing, and why; it is the domain's text, unquoted."""

    uri: str
    reason: str


class Destinations(Struct, frozen=True):
    accepted: tuple[Destination, ...] = ()
    refused: tuple[Refused, ...] = ()


async def destinations(
    resolver: Resolver, places: Sequence[ReportPlace], domain: str, *, tag: Tag, discovery: Discovery | None = None
) -> Destinations:
    """``domain``: where the record was found. In the order of the record. Raises DnsTrouble."""
    if discovery is None:
        discovery = Discovery(resolver)
    accepted: dict[str, Destination] = {}
    refused: list[Refused] = []
    for place in places:
        if len(accepted) >= PLACES_LIMIT:
            refused.append(Refused(place.uri, f"only {PLACES_LIMIT} places get reports"))
            continue
        mailbox = mailbox_of(place.uri)
        host = host_name(mailbox.rpartition("@")[2]) if mailbox is not None else None
        if mailbox is None or host is None:
            refused.append(Refused(place.uri, "not a mailto: URI with one address"))
            continue
        chosen = [Destination(mailbox, place.size_limit_bytes)]
        if not await _is_internal(discovery, host, domain):
            agreed = await _agreed(resolver, host, domain, tag)
            if agreed is None:
                refused.append(Refused(place.uri, f"{host} does not agree to reports on {domain}"))
                continue
            if agreed:
                # RFC 9990 §4 step 9: the receiver may choose the mailbox, but only one of the same host.
                mailboxes = [mailbox_of(each.uri) for each in agreed]
                if any(each is None or host_name(each.rpartition("@")[2]) != host for each in mailboxes):
                    refused.append(Refused(place.uri, f"{host} wants them sent to another host"))
                    continue
                chosen = [
                    Destination(each, other.size_limit_bytes)
                    for each, other in zip(mailboxes, agreed, strict=True)
                    if each is not None
                ]
        for destination in chosen:
            accepted.setdefault(destination.mailbox, destination)
    return Destinations(tuple(accepted.values())[:PLACES_LIMIT], tuple(refused))


async def _is_internal(discovery: Discovery, host: str, domain: str) -> bool:
    """RFC 9990 §4: the organizations are the same."""
    if host == domain:
        return True
    # A name has its organizational domain's labels at its end: without them no question is needed.
    organization = await discovery.organizational_domain(domain)
    if host != organization and not host.endswith(f".{organization}"):
        return False
    return await discovery.organizational_domain(host) == organization


async def _agreed(resolver: Resolver, host: str, domain: str, tag: Tag) -> tuple[ReportPlace, ...] | None:
    """The places that the receiver names instead, perhaps none; None where it does not agree (RFC 9990 §4)."""
    name = dns_name(f"{domain}._report._dmarc.{host}")
    if name is None:  # step 4: too long to be asked for
        return None
    agreeing = [text for text in (await resolver.txt(name)).records if _AGREES.match(text)]
    if not agreeing:
        return None
    for text in agreeing:
        record = parse_record(text)
        places = () if record is None else record.rua if tag == "rua" else record.ruf
        if places:
            return places
    return ()
