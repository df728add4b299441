"""The DNS cache: a Resolver in front of another, with bounded memory, negative answers and one question at a time.

In:   a Resolver, a clock, limits.
Out:  the same answers; from memory while their time to live lasts (RFC 1035 §3.2.1, RFC 2308 §5).
Never: remembers trouble for longer than a moment, asks the same question twice at once, suspends on a hit.

Memory is bounded by a rough weight in bytes; what came first leaves first. That order costs nothing on a hit, and a
flood of names that nobody asks for again can at worst make busy names be asked for once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from ekiden.config.snapshot import Parameters
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Resolver, Srv, Tlsa
from ekiden.message.clock import Clock

R = TypeVar("R")

Kind = Literal["mx", "addresses", "ptr", "srv", "txt", "tlsa", "cname"]

_ENTRY_BYTES = 400  # dictionary slot, key, entry and answer
_RECORD_BYTES = 120

# (dead at, answer or trouble): a tuple, because a hit is read a hundred times as often as it is made.
_Entry = tuple[float, Answer[Any] | None, str]


class CacheLimits:
    """How long and how much is kept. Times in seconds; see the dns_ parameters."""

    __slots__ = ("negative_ttl_s", "size_bytes", "trouble_ttl_s", "ttl_s")

    def __init__(self, parameters: Parameters) -> None:
        self.size_bytes = parameters.dns_cache_size_limit
        self.ttl_s = parameters.dns_cache_ttl_limit
        self.negative_ttl_s = parameters.dns_negative_ttl_limit
        # A server that is back must be found again at once, whatever an administrator wrote.
        self.trouble_ttl_s = min(parameters.dns_trouble_ttl, 2.0)


class CachingResolver:
    """A Resolver that remembers what ``resolver`` answered."""

    def __init__(self, resolver: Resolver, clock: Clock, parameters: Parameters) -> None:
        self._resolver = resolver
        self.now = clock.monotonic
        self._limits = CacheLimits(parameters)
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._weights: dict[tuple[str, str], int] = {}
        self._flights: dict[tuple[str, str], _Flight] = {}
        self.clearing = 0  # how often everything was forgotten
        self.weight_bytes = 0
        self.hits = 0
        self.misses = 0

    async def mx(self, name: str) -> Answer[Mx]:
        key = ("mx", name.lower())
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return await self._learn(key, entry, self._resolver.mx)

    async def addresses(self, name: str) -> Answer[str]:
        key = ("addresses", name.lower())
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return await self._learn(key, entry, self._resolver.addresses)

    async def ptr(self, address: str) -> Answer[str]:
        key = ("ptr", address.lower())
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return await self._learn(key, entry, self._resolver.ptr)

    async def srv(self, name: str) -> Answer[Srv]:
        key = ("srv", name.lower())
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return await self._learn(key, entry, self._resolver.srv)

    async def txt(self, name: str) -> Answer[bytes]:
        answer = self.remembered_txt(name)
        if answer is not None:
            return answer
        key = ("txt", name.lower())
        return await self._learn(key, self._entries.get(key), self._resolver.txt)

    def remembered_txt(self, name: str) -> Answer[bytes] | None:
        """Without waiting: None where it must be asked for."""
        entry = self._entries.get(("txt", name.lower()))
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return None

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        key = ("tlsa", name.lower())
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return await self._learn(key, entry, self._resolver.tlsa)

    async def cname(self, name: str) -> Answer[str]:
        key = ("cname", name.lower())
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self.now() and (answer := entry[1]) is not None:
            self.hits += 1
            return answer
        return await self._learn(key, entry, self._resolver.cname)

    def lives_until(self, kind: Kind, name: str, answer: Answer[Any]) -> float:
        """When ``answer``, just given, is forgotten, by ``now``; 0 where it is not remembered."""
        entry = self._entries.get((kind, name.lower()))
        return entry[0] if entry is not None and entry[1] is answer else 0.0

    def clear(self) -> None:
        """Forget everything that was learnt; questions that are open go on."""
        self.clearing += 1
        self._entries.clear()
        self._weights.clear()
        self.weight_bytes = 0

    async def _learn(
        self, key: tuple[str, str], entry: _Entry | None, ask: Callable[[str], Awaitable[Answer[R]]]
    ) -> Answer[R]:
        if entry is not None and entry[1] is None and entry[0] > self.now():
            self.hits += 1
            raise DnsTrouble(entry[2])
        while (flight := self._flights.get(key)) is not None:
            await flight.ended.wait()
            if flight.answer is not None:
                return flight.answer
            if flight.trouble:
                raise DnsTrouble(flight.trouble)
            # Whoever asked was cancelled: the next one that waits asks.
        flight = self._flights[key] = _Flight()
        self.misses += 1
        try:
            answer = await ask(key[1])
        except DnsTrouble as trouble:
            flight.trouble = str(trouble) or "DNS trouble"
            self._keep(key, None, flight.trouble, self._limits.trouble_ttl_s)
            raise
        else:
            flight.answer = answer
            self._keep(key, answer, "", self._life_s(answer))
            return answer
        finally:
            del self._flights[key]
            flight.ended.set()

    def _life_s(self, answer: Answer[Any]) -> float:
        if answer.found is Found.RECORDS:
            return min(answer.ttl_s, self._limits.ttl_s)
        # A resolver that does not tell the SOA's minimum (RFC 2308 §5) leaves 0.
        return min(answer.ttl_s or self._limits.negative_ttl_s, self._limits.negative_ttl_s)

    def _keep(self, key: tuple[str, str], answer: Answer[Any] | None, trouble: str, life_s: float) -> None:
        self._forget(key)
        if life_s <= 0:
            return
        weight = _ENTRY_BYTES + len(key[1]) + len(trouble)
        if answer is not None:
            weight += sum(_RECORD_BYTES + _length(record) for record in answer.records)
        limit = self._limits.size_bytes
        if weight > limit:
            return
        while self.weight_bytes + weight > limit:
            self._forget(next(iter(self._entries)))
        self._entries[key] = (self.now() + life_s, answer, trouble)
        self._weights[key] = weight
        self.weight_bytes += weight

    def _forget(self, key: tuple[str, str]) -> None:
        if self._entries.pop(key, None) is not None:
            self.weight_bytes -= self._weights.pop(key)


def remembered_txt(resolver: Resolver, name: str) -> Answer[bytes] | None:
    """What ``resolver`` need not ask for, so that nobody has to make a task of the question."""
    return resolver.remembered_txt(name) if isinstance(resolver, CachingResolver) else None


class _Flight:
    """One question that is being asked, for all who want its answer."""

    __slots__ = ("answer", "ended", "trouble")

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.answer: Answer[Any] | None = None
        self.trouble = ""


def _length(record: object) -> int:
    if isinstance(record, Mx):
        return len(record.exchange)
    if isinstance(record, Srv):
        return len(record.target)
    if isinstance(record, Tlsa):
        return len(record.data)
    return len(record) if isinstance(record, (str, bytes)) else 0
