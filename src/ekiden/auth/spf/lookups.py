"""What one check asks DNS, and how often it may (RFC 7208 §4.6.4)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from msgspec import Struct

from ekiden.auth.spf.client import bits_of
from ekiden.auth.spf.names import shown
from ekiden.auth.verdict import Result
from ekiden.dns.resolver import Answer, DnsTrouble, Mx, Resolver

R = TypeVar("R")


class SpfLimits(Struct, frozen=True):
    """RFC 7208 §4.6.4, §6.2."""

    lookups: int = 10  # terms that ask DNS
    void_lookups: int = 2  # terms for which a question has no answer
    names: int = 10  # of MX records, and of PTR records
    time_s: float = 20.0  # for the whole check; 0: no limit
    explains: bool = True  # the explanation of a failure is asked for
    explanation_time_s: float = 5.0  # for the explanation of a failure, after that; 0: no limit
    explanation_characters: int = 400


class Stop(Exception):
    """The check ends here: "temperror" or "permerror"."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class Lookups:
    """The questions of one check. Trouble is Stop with "temperror", a limit that is passed "permerror"."""

    def __init__(self, resolver: Resolver, limits: SpfLimits) -> None:
        self._resolver = resolver
        self.limits = limits
        self.terms = 0
        self.void_terms = 0
        self._counts_void = False

    def begin(self, term: str) -> None:
        """A term asks DNS from here on (RFC 7208 §4.6.4)."""
        if self.terms >= self.limits.lookups:
            raise Stop(
                Result.PERMERROR,
                f"more than {self.limits.lookups} terms ask DNS (RFC 7208 section 4.6.4): "
                f"{shown(term)} is one too many",
            )
        self.terms += 1
        self._counts_void = True

    def end(self) -> None:
        """What is asked from here on belongs to no term: an explanation (RFC 7208 §4.6.4)."""
        self._counts_void = False

    async def txt(self, name: str) -> Answer[bytes]:
        return await _answered(self._resolver.txt(name))

    async def mx(self, name: str) -> Answer[Mx]:
        answer = await _answered(self._resolver.mx(name))
        if not answer.records:
            self._void(name)
        return answer

    async def ptr(self, address: str) -> Answer[str]:
        answer = await _answered(self._resolver.ptr(address))
        if not answer.records:
            self._void(address)
        return answer

    async def addresses(self, name: str, family: int) -> list[int]:
        """Those of one family (4 or 6), as numbers."""
        answer = await _answered(self._resolver.addresses(name))
        found = [bits for address in answer.records if (bits := bits_of(family, address)) is not None]
        if not found:
            if answer.partial:
                raise Stop(Result.TEMPERROR, f"the IPv{family} addresses of {shown(name)} could not be found out")
            self._void(name)
        return found

    def _void(self, name: str) -> None:
        """RFC 7208 §4.6.4 counts the terms, not the questions, that come to nothing."""
        if not self._counts_void:
            return
        self._counts_void = False
        if self.void_terms >= self.limits.void_lookups:
            raise Stop(
                Result.PERMERROR,
                f"more than {self.limits.void_lookups} terms ask for what is not there (RFC 7208 section 4.6.4): "
                f"{shown(name)} is one too many",
            )
        self.void_terms += 1


async def _answered(question: Awaitable[Answer[R]]) -> Answer[R]:
    """RFC 7208 §2.6.6: trouble with DNS ends the check; that is no failure."""
    try:
        return await question
    except DnsTrouble as trouble:
        raise Stop(Result.TEMPERROR, f"DNS: {shown(str(trouble))}") from None
