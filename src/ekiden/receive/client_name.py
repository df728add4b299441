"""The verified host name of a client: its PTR record, if that name leads back to the address."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

from ekiden.dns.cache import CachingResolver
from ekiden.dns.derived import Basis, Derived
from ekiden.dns.resolver import DnsTrouble, Resolver

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\Z")


# Clients whose names are remembered.
_REMEMBERED = 10_000


class ClientNames:
    """Names by address: /etc/hosts first, as a system's own resolver does, then DNS.

    ``cache`` lies behind ``resolver``: what was found is known as long as all answers that it stands on are there.
    """

    def __init__(
        self, resolver: Resolver | None, hosts: Mapping[str, str], cache: CachingResolver | None = None
    ) -> None:
        self._resolver = resolver  # None: smtpd_peername_lookup = no
        self._hosts = hosts
        self._cache = cache
        self._found: Derived[str, str] = Derived(cache, limit=_REMEMBERED)

    def known(self, address: str) -> str | None:
        """The name where no question need be asked."""
        if self._resolver is None:
            return "unknown"
        return self._hosts.get(address) or self._found.known(address)

    async def look_up(self, address: str) -> str | None:
        """The name, or "unknown"; None when DNS cannot be asked now, which is no trouble: a name is a courtesy here."""
        if self._resolver is None:
            return "unknown"
        basis = Basis(self._resolver, self._cache)
        try:
            found = await _verified(basis, address)
        except DnsTrouble:
            return None
        self._found.keep(address, found, basis)
        return found


async def _verified(resolver: Resolver, address: str) -> str:
    """Raises DnsTrouble."""
    for name in (await resolver.ptr(address)).records:
        # A PTR record is written by whoever owns the address: only a plain host name may pass.
        if _HOST_NAME.match(name) is None:
            continue
        if address in (await resolver.addresses(name)).records:
            return name
    return "unknown"


def read_hosts(path: Path) -> dict[str, str]:
    """First names by address of a hosts(5) file; empty when there is none."""
    names: dict[str, str] = {}
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return names
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or _HOST_NAME.match(words[1]) is None:
            continue
        try:
            names.setdefault(str(ipaddress.ip_address(words[0])), words[1])
        except ValueError:
            continue
    return names
