"""Where the policy for a domain is, and which organization the domain is of (RFC 9989 §4.10).

In:   a Resolver; a domain in A-labels and lower case.
Out:  the record that holds for it; its organizational domain: found by walking up the DNS, or, as RFC 7489 §3.2 had it,
      from the list of public suffixes.
Never: asks for one name twice, asks more than WALK_QUERIES_LIMIT names a walk; takes DNS trouble for an answer: every
      method raises DnsTrouble.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from ekiden.auth.dmarc import public_suffix
from ekiden.auth.dmarc.record import DmarcRecord, PublicSuffixDomain, record_name, records_in
from ekiden.dns.name import dns_name
from ekiden.dns.resolver import Found, Resolver

Method = Literal["tree-walk", "public-suffix"]

WALK_QUERIES_LIMIT = 8  # RFC 9989 §4.10: a domain of more labels costs no more


class Policy(Struct, frozen=True):
    """``record`` is that of ``domain``; None: there is none, and ``reason`` may say why."""

    domain: str = ""
    record: DmarcRecord | None = None
    reason: str = "no DMARC record"


class Walk(Struct, frozen=True):
    """``records`` are those on the way from the longest name to the shortest, each with its domain."""

    organizational_domain: str
    records: tuple[tuple[str, DmarcRecord], ...] = ()


def walk_names(domain: str) -> Iterator[str]:
    """The domains whose records a walk asks for: all above, but at most seven labels of them (RFC 9989 §4.10)."""
    yield domain
    labels = domain.split(".")
    above = labels[1:][-(WALK_QUERIES_LIMIT - 1) :]
    for at in range(len(above)):
        yield ".".join(above[at:])


class Discovery:
    """What is found for one message is remembered, for its identifiers are often of one organization."""

    def __init__(self, resolver: Resolver, method: Method = "tree-walk") -> None:
        self._resolver = resolver
        self._method = method
        self._records: dict[str, DmarcRecord | None] = {}
        self._walks: dict[str, Walk] = {}
        self._several: set[str] = set()

    async def policy(self, author: str) -> Policy:
        """RFC 9989 §4.10.1: the author's domain, its organizational domain, its public suffix, in this order."""
        record = await self._record(author)
        if record is not None:
            return Policy(author, record)
        organizational = await self.organizational_domain(author)
        if organizational != author and (record := await self._record(organizational)) is not None:
            return Policy(organizational, record)
        if self._method == "tree-walk":
            for domain, record in (await self._walk(author)).records:
                if record.psd is PublicSuffixDomain.YES:
                    return Policy(domain, record)
        for domain in (author, organizational):
            if domain in self._several:
                return Policy(reason=f"{domain} has several DMARC records")
        return Policy()

    async def organizational_domain(self, domain: str) -> str:
        """``domain`` itself where nothing says otherwise."""
        if self._method == "tree-walk":
            return (await self._walk(domain)).organizational_domain
        return public_suffix.registrable_domain(domain) or domain

    def known_organization(self, domain: str) -> str | None:
        """Its organizational domain, if that has been needed so far."""
        if self._method == "tree-walk":
            walk = self._walks.get(domain)
            return walk.organizational_domain if walk is not None else None
        return public_suffix.registrable_domain(domain)

    async def exists(self, domain: str) -> bool:
        """RFC 9989 §3.2: a domain does not exist where any question about it says so (RFC 8020)."""
        return (await self._resolver.mx(domain)).found is not Found.NXDOMAIN

    async def _walk(self, domain: str) -> Walk:
        if domain not in self._walks:
            records: list[tuple[str, DmarcRecord]] = []
            for name in walk_names(domain):
                record = await self._record(name)
                if record is not None:
                    records.append((name, record))
                    if record.psd is not PublicSuffixDomain.UNKNOWN:
                        break
            self._walks[domain] = Walk(_organizational_domain(domain, records), tuple(records))
        return self._walks[domain]

    async def _record(self, domain: str) -> DmarcRecord | None:
        if domain not in self._records:
            name = dns_name(record_name(domain))
            # A name too long to be asked for has no record.
            answer = await self._resolver.txt(name) if name else None
            records = records_in(answer.records) if answer is not None else []
            if len(records) > 1:
                self._several.add(domain)
            self._records[domain] = records[0] if len(records) == 1 else None
        return self._records[domain]


def _organizational_domain(domain: str, records: list[tuple[str, DmarcRecord]]) -> str:
    """RFC 9989 §4.10.2. ``records`` come from the longest name to the shortest."""
    for name, record in records:
        if record.psd is PublicSuffixDomain.NO:
            return name
        if record.psd is PublicSuffixDomain.YES and name != domain:
            labels = domain.split(".")
            return ".".join(labels[-(name.count(".") + 2) :])
    return records[-1][0] if records else domain
