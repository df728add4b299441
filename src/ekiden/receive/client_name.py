"""The verified host name of a client: its PTR record, if that name leads back to the address."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path

from ekiden.dns.resolver import DnsTrouble, Resolver

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\Z")


class ClientNames:
    """Names by address: /etc/hosts first, as a system's own resolver does, then DNS."""

    def __init__(self, resolver: Resolver | None, hosts: Mapping[str, str]) -> None:
        self._resolver = resolver  # None: smtpd_peername_lookup = no
        self._hosts = hosts

    def known(self, address: str) -> str | None:
        """The name where no question need be asked."""
        return self._hosts.get(address) if self._resolver is not None else "unknown"

    async def look_up(self, address: str) -> str | None:
        """The name, or "unknown"; None when DNS cannot be asked now, which is no trouble: a name is a courtesy here."""
        if self._resolver is None:
            return "unknown"
        try:
            for name in (await self._resolver.ptr(address)).records:
                # A PTR record is written by whoever owns the address: only a plain host name may pass.
                if _HOST_NAME.match(name) is None:
                    continue
                if address in (await self._resolver.addresses(name)).records:
                    return name
        except DnsTrouble:
            return None
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
