"""The TLSA records of a server, as far as DNSSEC proves them (RFC 7672 §2.1, §2.2, RFC 7671 §7).

In:   a Resolver that knows what is authentic; a host as the router found it.
Out:  the records and the name they were found at; None where DANE has nothing to say of the host.
Never: takes a record that is not proven. What cannot be found out is DnsTrouble, and no reason to go without.
"""

from __future__ import annotations

from msgspec import Struct

from ekiden.dns.name import dns_name
from ekiden.dns.resolver import Found, Resolver, Tlsa
from ekiden.message.host import Host


class ServerRecords(Struct, frozen=True):
    """``records`` are all that there are, unusable ones too. ``base`` is the host's name or what CNAMEs make of it."""

    records: tuple[Tlsa, ...]
    base: str


def tlsa_name(base: str, port: int) -> str:
    """RFC 6698 §3."""
    return f"_{port}._tcp.{base}"


async def server_records(resolver: Resolver, host: Host) -> ServerRecords | None:
    """Raises DnsTrouble: SERVFAIL, which is also what bogus records come to, time-out (RFC 7672 §2.1.2)."""
    for base in await _bases(resolver, host):
        if dns_name(base) is None:
            continue
        answer = await resolver.tlsa(tlsa_name(base, host.port))
        if answer.found is Found.RECORDS and answer.authentic:
            return ServerRecords(answer.records, base)
    return None


async def _bases(resolver: Resolver, host: Host) -> tuple[str, ...]:
    """RFC 7672 §2.2.2, §2.2.3: which names may have the records, the best first."""
    if not host.canonical or host.canonical == host.name:
        return (host.name,) if host.authentic else ()
    if host.authentic:
        return host.canonical, host.name
    # An alias that leads out of the signed zones: its own name still counts if it itself is proven.
    alias = await resolver.cname(host.name)
    return (host.name,) if alias.found is Found.RECORDS and alias.authentic else ()
