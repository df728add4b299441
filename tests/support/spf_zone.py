"""A zone in the form that the openspf.org test suite writes it, as a Resolver and as what pyspf asks."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from unittest.mock import patch

import spf as pyspf
from msgspec import Struct

from ekiden.auth.spf.check import check_host, mail_from_identity
from ekiden.auth.spf.lookups import SpfLimits
from ekiden.auth.verdict import SpfVerdict
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Srv, Tlsa
from ekiden.dns.reverse import reverse_name

R = TypeVar("R")

_CNAMES_LIMIT = 10
RECEIVER = "receiver.test"


class SpfZone:
    """name -> records, each ``{type: data}``, or ``TIMEOUT``: types of which none comes before it are not answered.

    ``SPF`` stands for TXT, unless the name has TXT records of its own (``TXT: NONE``: none).
    """

    def __init__(self, data: Mapping[str, Iterable[Any]]) -> None:
        self.names = {name.lower(): list(records or ()) for name, records in data.items()}
        self.asked: list[tuple[str, str]] = []

    def look_up(self, name: str, kind: str) -> list[Any]:
        """The data of the records, CNAMEs followed. Raises DnsTrouble, and LookupError for a name that is not there."""
        for _ in range(_CNAMES_LIMIT):
            self.asked.append((name, kind))
            records = self._of_name(name, kind)
            if records or kind == "CNAME":
                return records
            aliases = self._of_name(name, "CNAME")
            if not aliases:
                return []
            name = aliases[0].removesuffix(".").lower()
        raise DnsTrouble("a chain of CNAMEs without an end")

    def _of_name(self, name: str, kind: str) -> list[Any]:
        if name not in self.names:
            raise LookupError(name)
        found: list[Any] = []
        stands_in: list[Any] = []
        has_txt = timeout = False
        for record in self.names[name]:
            if record == "TIMEOUT":
                timeout = kind != "CNAME"
                break
            ((key, value),) = record.items()
            has_txt |= key == "TXT"
            if key == kind and value != "NONE":
                found.append(value)
            elif key == "SPF" and kind == "TXT":
                stands_in.append(value)
        found = found if has_txt else found + stands_in
        if timeout and not found:
            raise DnsTrouble(f"{name} {kind}: timed out")
        return found

    async def txt(self, name: str) -> Answer[bytes]:
        return self._answer([text_of(value) for value in self._or_none(name, "TXT")], name)

    async def mx(self, name: str) -> Answer[Mx]:
        values = self._or_none(name, "MX")
        return self._answer([Mx(int(value[0]), value[1].removesuffix(".").lower()) for value in values], name)

    async def addresses(self, name: str) -> Answer[str]:
        found: list[str] = []
        trouble: DnsTrouble | None = None
        for kind in ("AAAA", "A"):
            try:
                found += self._or_none(name, kind)
            except DnsTrouble as problem:
                trouble = problem
        if trouble is not None and not found:
            raise trouble
        answer = self._answer([str(ipaddress.ip_address(address)) for address in found], name)
        return Answer(answer.found, answer.records, partial=trouble is not None)

    async def ptr(self, address: str) -> Answer[str]:
        name = reverse_name(address) or ""
        return self._answer([value.removesuffix(".").lower() for value in self._or_none(name, "PTR")], name)

    async def srv(self, name: str) -> Answer[Srv]:
        raise AssertionError(name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        raise AssertionError(name)

    async def cname(self, name: str) -> Answer[str]:
        raise AssertionError(name)

    def _or_none(self, name: str, kind: str) -> list[Any]:
        try:
            return self.look_up(name, kind)
        except LookupError:
            return []

    def _answer(self, records: list[R], name: str) -> Answer[R]:
        if records:
            return Answer(Found.RECORDS, tuple(records), ttl_s=300.0)
        return Answer(Found.NODATA if name in self.names else Found.NXDOMAIN)


def text_of(value: Any) -> bytes:
    """The strings of a TXT record, joined (RFC 7208 §3.3)."""
    strings = value if isinstance(value, list) else [value]
    return "".join(strings).encode("latin-1")


def check(zone: SpfZone, host: str, sender: str, helo: str, limits: SpfLimits | None = None) -> SpfVerdict:
    domain, sender = mail_from_identity(sender, helo)

    async def run() -> SpfVerdict:
        return await check_host(
            zone,
            client_address=host,
            domain=domain,
            sender=sender,
            helo=helo,
            receiver=RECEIVER,
            limits=limits or SpfLimits(),
            now=1_000_000_000.5,
        )

    return asyncio.run(run())


class PyspfVerdict(Struct, frozen=True):
    result: str
    explanation: str  # ``DEFAULT``: none of the domain's own
    problem: str  # behind a permerror


def pyspf_check(zone: SpfZone, host: str, sender: str, helo: str, *, void_lookups: int = 2) -> PyspfVerdict:
    """What pyspf says, its DNS replaced by the zone."""

    def look_up(name: str, kind: str, strict: bool = True, timeout: float = 20) -> list[tuple[tuple[str, str], Any]]:
        try:
            values = zone.look_up(name.lower(), kind)
        except DnsTrouble as trouble:
            raise pyspf.TempError(f"DNS {trouble}") from None
        except LookupError:
            return []
        if kind == "TXT":
            return [((name, kind), (text_of(value),)) for value in values]
        if kind == "MX":
            return [((name, kind), (int(value[0]), value[1])) for value in values]
        return [((name, kind), value) for value in values]

    with patch.multiple(pyspf, DNSLookup=look_up, MAX_VOID_LOOKUPS=void_lookups):
        query = pyspf.query(i=host, s=sender, h=helo, receiver=RECEIVER, strict=True)
        query.set_default_explanation("DEFAULT")
        result, _, explanation = query.check()
    return PyspfVerdict(str(result), str(explanation), str(getattr(query, "perm_error", None) or ""))
