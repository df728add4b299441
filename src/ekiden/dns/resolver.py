"""The resolver interface: answers that tell "no such name", "no such record" and "could not be found out" apart."""

from __future__ import annotations

import enum
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

R = TypeVar("R")


class Found(enum.Enum):
    """What an answer means (RFC 2308 §2, RFC 1035 §4.1.1)."""

    RECORDS = "records"
    NODATA = "no record of this type"
    NXDOMAIN = "no such domain name"


class DnsTrouble(Exception):
    """The question was not answered: SERVFAIL, REFUSED, time-out. Always temporary for mail (RFC 5321 §5.1)."""


class Answer(Struct, Generic[R], frozen=True):
    found: Found
    records: tuple[R, ...] = ()
    authentic: bool = False  # the AD bit of a resolver that we trust: for absence too (RFC 4035 §3.2.3)
    ttl_s: float = 0.0
    canonical: str = ""  # whose the records are, where CNAMEs led from the name that was asked for
    partial: bool = False  # there are addresses of one kind, and the question for the other kind was not answered


class Mx(Struct, frozen=True, order=True):
    preference: int
    exchange: str  # no trailing dot; "" is the root: RFC 7505 null MX


class Srv(Struct, frozen=True):
    """RFC 2782. ``target`` has no trailing dot; "" is the root: the service is not there."""

    priority: int
    weight: int
    port: int
    target: str


class Tlsa(Struct, frozen=True, order=True):
    """RFC 6698 §2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


class Resolver(Protocol):
    """Names are given without a trailing dot. Every method raises DnsTrouble."""

    async def mx(self, name: str) -> Answer[Mx]: ...
    async def addresses(self, name: str) -> Answer[str]:
        """IPv6 and IPv4 addresses as text, of the protocols in use."""

    async def ptr(self, address: str) -> Answer[str]: ...
    async def srv(self, name: str) -> Answer[Srv]: ...
    async def txt(self, name: str) -> Answer[bytes]: ...
    async def tlsa(self, name: str) -> Answer[Tlsa]: ...
    async def cname(self, name: str) -> Answer[str]:
        """The alias record of ``name`` itself; ``authentic`` is about that one record."""
