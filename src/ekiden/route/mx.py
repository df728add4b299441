"""From a next hop to the hosts to connect to, best first (RFC 5321 §5.1, RFC 7505, RFC 3974 §2).

In:   a next hop; a Resolver, the own names and addresses, a random source.
Out:  hosts in the order to try them, or why there are none: deferred where DNS could not say, failed where it could.
Never: raises for what DNS says, asks for more than smtp_mx_record_limit hosts, names this host when it is MX itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from msgspec import Struct

from ekiden.config.snapshot import Parameters
from ekiden.dns.name import host_name
from ekiden.dns.resolver import DnsTrouble, Found, Mx, Resolver
from ekiden.message.delivery import DeliveryResult, deferred, failed
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.route.next_hop import NextHop, parse_next_hop
from ekiden.route.srv import in_order, srv_name

_SMTP_PORT = 25
_LOOKUPS_AT_ONCE = 10  # of hosts of one preference

_BAD_HOST = Status(5, 1, 2)
_NULL_MX = Status(5, 1, 10)
_NOT_FOUND = Status(5, 4, 4)
_LOOP = Status(5, 4, 6)
_TRY_AGAIN = Status(4, 4, 3)

_NO_HOST = "Host not found"
_NO_RECORD = "Host found but no data record of requested type"


class HostRules(Struct, frozen=True):
    """What parameters say of the hosts of a next hop, under the prefix smtp or lmtp."""

    use_mx: bool
    address_limit: int  # 0: none
    record_limit: int
    preference: str  # "any", "ipv4" or "ipv6"
    balance: bool
    randomize: bool
    defer_without_address: bool
    ignore_mx_trouble: bool
    srv_services: frozenset[str]  # whose servers SRV records name
    service: str  # of a next hop that names no port
    srv_fallback: bool  # to MX records, where there are no SRV records
    ignore_srv_trouble: bool


def host_rules(parameters: Parameters, prefix: str = "smtp") -> HostRules:
    """``prefix`` is "smtp" or "lmtp". LMTP asks for no MX records (RFC 2033 §5)."""

    def own(name: str) -> Any:
        return getattr(parameters, f"{prefix}_{name}")

    return HostRules(
        use_mx=prefix == "smtp" and uses_dns(parameters, prefix),
        address_limit=own("mx_address_limit"),
        record_limit=parameters.smtp_mx_record_limit,
        preference=own("address_preference"),
        balance=own("balance_inet_protocols"),
        randomize=own("randomize_addresses"),
        defer_without_address=own("defer_if_no_mx_address_found"),
        ignore_mx_trouble=parameters.ignore_mx_lookup_error,
        srv_services=frozenset(parameters.use_srv_lookup if uses_dns(parameters, prefix) else ()),
        service=own("tcp_port"),
        srv_fallback=parameters.allow_srv_lookup_fallback,
        ignore_srv_trouble=parameters.ignore_srv_lookup_error,
    )


def uses_dns(parameters: Parameters, prefix: str) -> bool:
    """smtp_dns_support_level, and disable_dns_lookups where that is empty."""
    level: str = getattr(parameters, f"{prefix}_dns_support_level")
    return level != "disabled" if level else not parameters.disable_dns_lookups


class BetterHosts(list[Host]):
    """The MX hosts before this host, which is one too: mail for the domain goes to them and nobody else."""


class MxRouter:
    """Finds hosts. ``own_addresses`` are those that this host receives mail on (route.own_addresses)."""

    def __init__(
        self,
        resolver: Resolver,
        parameters: Parameters,
        *,
        own_addresses: frozenset[str] = frozenset(),
        rng: random.Random | None = None,
        prefix: str = "smtp",
    ) -> None:
        self._resolver = resolver
        self._own_names = frozenset({parameters.myhostname.lower()})
        self._own_addresses = own_addresses
        self._random = rng if rng is not None else random.SystemRandom()
        self._rules = host_rules(parameters, prefix)
        protocols = parameters.inet_protocols
        self._ipv4 = "ipv4" in protocols or "all" in protocols
        self._ipv6 = "ipv6" in protocols or "all" in protocols

    async def hosts_for(self, word: str, default_port: int = _SMTP_PORT) -> Sequence[Host] | DeliveryResult:
        """The hosts of one next hop in the order to try, or why there are none."""
        hop = parse_next_hop(word, default_port)
        if hop is None:
            return failed(_BAD_HOST, f"{printable(word)}: not a valid host or domain name")
        if hop.is_address:
            if not (self._ipv6 if ":" in hop.host else self._ipv4):
                return failed(_NOT_FOUND, f"[{hop.host}]: inet_protocols does not have its address family")
            if hop.port == _SMTP_PORT and hop.host in self._own_addresses:
                return _loops(word)
            return (Host(hop.host, hop.host, hop.port),)
        if self._rules.srv_services and hop.use_mx:
            found = await self._srv_hosts(hop, word.partition(":")[2] or self._rules.service)
            if found is not None:
                return found
        if not (hop.use_mx and self._rules.use_mx):
            return await self._one_host(word, hop)
        try:
            answer = await self._resolver.mx(hop.host)
        except DnsTrouble as trouble:
            if self._rules.ignore_mx_trouble:
                return await self._one_host(word, hop)
            return _try_again(hop.host, "MX", trouble)
        if answer.found is Found.NXDOMAIN:
            return failed(_NOT_FOUND, _name_service_error(hop.host, "MX", _NO_HOST))
        if answer.found is Found.NODATA or not answer.records:
            # RFC 5321 §5.1: the name is its own MX of preference 0.
            return await self._one_host(word, hop)
        return await self._mx_hosts(hop, answer.records, authentic=answer.authentic)

    async def _one_host(self, word: str, hop: NextHop) -> Sequence[Host] | DeliveryResult:
        hosts = await self._addresses(hop.host, hop.port)
        if isinstance(hosts, DeliveryResult):
            return hosts
        if hop.port == _SMTP_PORT and self._has_self(hop.host, hosts):
            return _loops(word)
        return self._limited(self._ordered(hosts))

    async def _srv_hosts(self, hop: NextHop, service: str) -> Sequence[Host] | DeliveryResult | None:
        """The hosts that SRV records name for a service of the domain; None: go on without them."""
        if service not in self._rules.srv_services:
            return None
        name = srv_name(service, hop.host)
        try:
            answer = await self._resolver.srv(name)
        except DnsTrouble as trouble:
            return None if self._rules.ignore_srv_trouble else _try_again(name, "SRV", trouble)
        if answer.found is not Found.RECORDS or not answer.records:
            if self._rules.srv_fallback:
                return None
            why = _NO_HOST if answer.found is Found.NXDOMAIN else _NO_RECORD
            return failed(_NOT_FOUND, _name_service_error(name, "SRV", why))
        # A target of "." says that the service is decidedly not there.
        records = in_order((record for record in answer.records if record.target), self._random)
        records = records[: self._rules.record_limit]
        if not records:
            return failed(_NOT_FOUND, f"{name}: the service is not available at this domain")
        hosts: list[Host] = []
        problem: DeliveryResult | None = None
        for record in records:
            found = await self._addresses(record.target, record.port, insecure_mx=not answer.authentic)
            if isinstance(found, DeliveryResult):
                problem = found if problem is None or problem.is_final else problem
            elif record.port != _SMTP_PORT or not self._has_self(record.target, found):
                hosts += self._ordered(found)
            if 0 < self._rules.address_limit <= len(hosts):
                break
        if hosts:
            return self._limited(hosts)
        return problem if problem is not None else _loops(hop.host)

    async def _mx_hosts(
        self, hop: NextHop, records: Sequence[Mx], *, authentic: bool
    ) -> Sequence[Host] | DeliveryResult:
        usable = sorted((record for record in records if record.exchange), key=_preference_of)[
            : self._rules.record_limit
        ]
        if not usable:
            # RFC 7505 §3: the root as the only exchange. Beside other records it means nothing and is left out.
            return failed(_NULL_MX, f"Domain {hop.host} does not accept mail (nullMX)")
        watch_for_self = hop.port == _SMTP_PORT
        hosts: list[Host] = []
        problem: DeliveryResult | None = None
        for _, group in groupby(usable, key=_preference_of):
            exchanges = list(dict.fromkeys(record.exchange for record in group))
            if self._rules.randomize:
                self._random.shuffle(exchanges)
            equal: list[Host] = []
            found_self = False
            for exchange, found in await self._all_addresses(exchanges, hop.port, insecure_mx=not authentic):
                if watch_for_self and self._has_self(exchange, () if isinstance(found, DeliveryResult) else found):
                    found_self = True
                elif isinstance(found, DeliveryResult):
                    problem = found if problem is None or problem.is_final else problem
                else:
                    equal.extend(found)
            if found_self:
                # RFC 5321 §5.1: hosts of our own preference and worse would send it back to us.
                if hosts:
                    return BetterHosts(self._limited(hosts))
                return problem if problem is not None and not problem.is_final else _loops(hop.host)
            hosts.extend(self._ordered(equal))
            if 0 < self._rules.address_limit <= len(hosts):
                break
        if hosts:
            return self._limited(hosts)
        assert problem is not None  # no host has an address, so each had a problem
        if problem.is_final and self._rules.defer_without_address:
            return deferred(Status(4, 4, 4), problem.text)
        return problem

    async def _all_addresses(
        self, exchanges: Sequence[str], port: int, *, insecure_mx: bool
    ) -> list[tuple[str, Sequence[Host] | DeliveryResult]]:
        if len(exchanges) == 1:
            return [(exchanges[0], await self._addresses(exchanges[0], port, insecure_mx=insecure_mx))]
        found: list[tuple[str, Sequence[Host] | DeliveryResult]] = []
        for start in range(0, len(exchanges), _LOOKUPS_AT_ONCE):
            some = exchanges[start : start + _LOOKUPS_AT_ONCE]
            theirs = (self._addresses(name, port, insecure_mx=insecure_mx) for name in some)
            found += zip(some, await asyncio.gather(*theirs), strict=True)
        return found

    async def _addresses(
        self, exchange: str, port: int, *, insecure_mx: bool = False
    ) -> Sequence[Host] | DeliveryResult:
        """The addresses of a host as they came, or why there are none."""
        name = host_name(exchange)
        if name is None:
            # RFC 5321 §5.1 wants a domain name here; "192.0.2.1." is a frequent mistake.
            return failed(
                _NOT_FOUND, _name_service_error(printable(exchange), "MX", "Malformed or unexpected host name")
            )
        kind = "A" if self._ipv4 else "AAAA"
        try:
            answer = await self._resolver.addresses(name)
        except DnsTrouble as trouble:
            return _try_again(name, kind, trouble)
        if answer.found is Found.RECORDS and answer.records:
            facts = answer.authentic, insecure_mx, answer.canonical
            return [Host(name, address, port, *facts) for address in answer.records]
        why = _NO_HOST if answer.found is Found.NXDOMAIN else _NO_RECORD
        return failed(_NOT_FOUND, _name_service_error(name, kind, why))

    def _has_self(self, name: str, hosts: Iterable[Host]) -> bool:
        return name in self._own_names or any(host.address in self._own_addresses for host in hosts)

    def _ordered(self, hosts: Sequence[Host]) -> list[Host]:
        """Hosts of equal preference in the order to try them."""
        mixed = list(dict.fromkeys(hosts))
        if self._rules.randomize:
            self._random.shuffle(mixed)
        if self._rules.preference != "any":
            last = self._rules.preference == "ipv4"
            mixed.sort(key=lambda host: (":" in host.address) is last)
        return mixed

    def _limited(self, hosts: list[Host]) -> Sequence[Host]:
        """The best of ``hosts``, of both protocols if there are both, so that one that is out of order does no harm."""
        limit = self._rules.address_limit
        if not limit or len(hosts) <= limit:
            return hosts
        chosen, rest = hosts[:limit], hosts[limit:]
        if self._rules.balance and limit > 1:
            is_ipv6 = ":" in chosen[0].address
            if all((":" in host.address) is is_ipv6 for host in chosen):
                other = next((host for host in rest if (":" in host.address) is not is_ipv6), None)
                if other is not None:
                    chosen[-1] = other
        return chosen


def _preference_of(record: Mx) -> int:
    return record.preference


def printable(name: str) -> str:
    """A name as it may stand in a log line or reply: short, and without what a terminal or header would obey."""
    shown = "".join(char if char.isprintable() else "?" for char in name[:100])
    return shown + "..." if len(name) > 100 else shown


def _name_service_error(name: str, kind: str, why: str) -> str:
    return f"Host or domain name not found. Name service error for name={name} type={kind}: {why}"


def _try_again(name: str, kind: str, trouble: DnsTrouble) -> DeliveryResult:
    why = f"{_NO_HOST}, try again"
    return deferred(_TRY_AGAIN, _name_service_error(name, kind, why), diagnostic=f"X-Ekiden; {trouble}")


def _loops(name: str) -> DeliveryResult:
    return failed(_LOOP, f"mail for {printable(name)} loops back to myself")
