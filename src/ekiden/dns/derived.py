"""What is made of answers of the DNS, remembered no longer than the answers themselves.

In:   the Resolver that is asked, a key that says what else the value was made from.
Out:  the value, while the cache of DNS could give each answer that went into it again.
Never: outlives an answer, or a cache that was cleared; remembers what trouble had a part in; grows beyond its limit.

Without a cache of DNS nothing is remembered: nobody knows how long an answer lives.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Hashable
from typing import Generic, TypeVar

from ekiden.dns.cache import CachingResolver, Kind
from ekiden.dns.resolver import Answer, Mx, Resolver, Srv, Tlsa

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R")


class Basis:
    """A Resolver that passes questions on, one at a time, and notes until when all its answers live.

    ``cache`` is what lies behind ``resolver``, if that is no cache itself.
    """

    def __init__(self, resolver: Resolver, cache: CachingResolver | None = None) -> None:
        self._resolver = resolver
        self._cache = resolver if isinstance(resolver, CachingResolver) else cache
        self.clearing = self._cache.clearing if self._cache is not None else 0
        self.until = math.inf if self._cache is not None else 0.0  # by the clock of the cache

    async def mx(self, name: str) -> Answer[Mx]:
        return await self._noted("mx", name, self._resolver.mx(name))

    async def addresses(self, name: str) -> Answer[str]:
        return await self._noted("addresses", name, self._resolver.addresses(name))

    async def ptr(self, address: str) -> Answer[str]:
        return await self._noted("ptr", address, self._resolver.ptr(address))

    async def srv(self, name: str) -> Answer[Srv]:
        return await self._noted("srv", name, self._resolver.srv(name))

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._noted("txt", name, self._resolver.txt(name))

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._noted("tlsa", name, self._resolver.tlsa(name))

    async def cname(self, name: str) -> Answer[str]:
        return await self._noted("cname", name, self._resolver.cname(name))

    async def _noted(self, kind: Kind, name: str, question: Awaitable[Answer[R]]) -> Answer[R]:
        # If it is not answered, whatever is made of that is not to be remembered: trouble is for the moment only.
        until, self.until = self.until, 0.0
        answer = await question
        if self._cache is not None:
            self.until = min(until, self._cache.lives_until(kind, name, answer))
        return answer


class Derived(Generic[K, V]):
    """Values by their keys. When there are more than ``limit``, all are forgotten at once."""

    def __init__(self, resolver: Resolver | None, *, limit: int) -> None:
        self._cache = resolver if isinstance(resolver, CachingResolver) else None
        self._limit = limit
        self._values: dict[K, tuple[V, Basis]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def known(self, key: K) -> V | None:
        found = self._values.get(key)
        if found is None or self._cache is None:
            return None
        value, basis = found
        return value if basis.until > self._cache.now() and basis.clearing == self._cache.clearing else None

    def keep(self, key: K, value: V, basis: Basis) -> None:
        if self._cache is None or basis.until <= self._cache.now():
            return
        if len(self._values) >= self._limit:
            self._values.clear()
        self._values[key] = value, basis
