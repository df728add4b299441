"""A resolver whose zone is a dictionary, and which counts what it is asked; and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Srv, Tlsa

R = TypeVar("R")

# What a name holds for one type: records, a whole Answer, Found.NODATA, or trouble; one that is not there is NXDOMAIN.
Zone = Mapping[tuple[str, str], object]

SERVFAIL = DnsTrouble("server failure (SERVFAIL)")


class FakeResolver:
    def __init__(self, zone: Zone, *, ttl_s: float = 300.0) -> None:
        self.zone: dict[tuple[str, str], Any] = dict(zone)
        self.ttl_s = ttl_s
        self.asked: list[tuple[str, str]] = []
        self.gate: asyncio.Event | None = None  # answers wait for it

    async def mx(self, name: str) -> Answer[Mx]:
        return await self._answer("MX", name)

    async def addresses(self, name: str) -> Answer[str]:
        return await self._answer("A", name)

    async def ptr(self, address: str) -> Answer[str]:
        return await self._answer("PTR", address)

    async def srv(self, name: str) -> Answer[Srv]:
        return await self._answer("SRV", name)

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._answer("TXT", name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._answer("TLSA", name)

    async def cname(self, name: str) -> Answer[str]:
        return await self._answer("CNAME", name)

    async def _answer(self, kind: str, name: str) -> Answer[Any]:
        self.asked.append((kind, name))
        if self.gate is not None:
            await self.gate.wait()
        known = self.zone.get((kind, name))
        if isinstance(known, DnsTrouble):
            raise known
        if isinstance(known, Answer):
            return known
        if isinstance(known, Found):
            return Answer(known)
        if known is None:
            # RFC 8020: a name with records of another type exists.
            exists = any(name == other for _, other in self.zone)
            return Answer(Found.NODATA if exists else Found.NXDOMAIN)
        return Answer(Found.RECORDS, tuple(known), ttl_s=self.ttl_s)


class MovedClock:
    """Time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here should wait")
