"""Addresses that do not come from DNS: ``localhost`` (RFC 6761 §6.3) and /etc/hosts (smtp_host_lookup = native).

A Resolver in front of another. Only addresses are concerned: MX, SRV, TXT and PTR records come from DNS.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from ekiden.config.snapshot import Parameters
from ekiden.dns.name import host_name
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Resolver, Srv, Tlsa
from ekiden.message.clock import Clock

_FILE_LIMIT_BYTES = 4 * 1024 * 1024
_RECHECK_S = 5.0  # how old our knowledge of the file may be


class HostsResolver:
    """Answers for localhost by itself, and from the hosts file where the parameters say so."""

    def __init__(
        self, resolver: Resolver, clock: Clock, parameters: Parameters, *, lookup: Sequence[str] | None = None
    ) -> None:
        """``lookup`` stands for smtp_host_lookup."""
        ways = {way.lower() for way in (parameters.smtp_host_lookup if lookup is None else lookup)}
        self._dns = "dns" in ways or not ways
        self._file = HostsFile(Path(parameters.native_hosts_file), clock) if "native" in ways else None
        protocols = parameters.inet_protocols
        self._ipv4 = "ipv4" in protocols or "all" in protocols
        self._ipv6 = "ipv6" in protocols or "all" in protocols
        loopback = [address for address in ("::1", "127.0.0.1") if self._in_use(address)]
        self._localhost = Answer(Found.RECORDS if loopback else Found.NODATA, tuple(loopback))
        self._resolver = resolver

    async def addresses(self, name: str) -> Answer[str]:
        low = name.lower()
        if low == "localhost" or low.endswith(".localhost"):
            return self._localhost
        if self._file is None:
            return await self._resolver.addresses(name)
        if not self._dns:
            return self._native(name) or Answer(Found.NXDOMAIN)
        try:
            answer = await self._resolver.addresses(name)
        except DnsTrouble:
            if (known := self._native(name)) is not None:
                return known
            raise
        if answer.found is Found.RECORDS:
            return answer
        return self._native(name) or answer

    async def mx(self, name: str) -> Answer[Mx]:
        return await self._resolver.mx(name)

    async def ptr(self, address: str) -> Answer[str]:
        return await self._resolver.ptr(address)

    async def srv(self, name: str) -> Answer[Srv]:
        return await self._resolver.srv(name)

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._resolver.txt(name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._resolver.tlsa(name)

    async def cname(self, name: str) -> Answer[str]:
        return await self._resolver.cname(name)

    def _native(self, name: str) -> Answer[str] | None:
        if self._file is None:
            return None
        addresses = tuple(address for address in self._file.addresses(name) if self._in_use(address))
        return Answer(Found.RECORDS, addresses) if addresses else None

    def _in_use(self, address: str) -> bool:
        return self._ipv6 if ":" in address else self._ipv4


class HostsFile:
    """hosts(5): ``address name alias ...``, ``#`` begins a comment. Read again when the file changes."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._checked = float("-inf")
        self._version: tuple[int, int, int] | None = None
        self._names: dict[str, tuple[str, ...]] = {}

    def addresses(self, name: str) -> Sequence[str]:
        """The addresses of ``name``; none when the file does not have it or cannot be read."""
        now = self._clock.monotonic()
        if now - self._checked >= _RECHECK_S:
            self._checked = now
            self._refresh()
        known = host_name(name)
        return self._names.get(known, ()) if known is not None else ()

    def _refresh(self) -> None:
        try:
            facts = self._path.stat()
            version = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if version == self._version:
                return
            with self._path.open(encoding="utf-8", errors="replace") as lines:
                self._names = _parse(lines.read(_FILE_LIMIT_BYTES))
            self._version = version
        except OSError:
            # No file is an empty file, as it is for the C library.
            self._version, self._names = None, {}


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *hosts = line.partition("#")[0].split() or [""]
        if not _is_address(address):
            continue
        for host in hosts:
            name = host_name(host)
            if name is not None and address not in names.get(name, ()):
                names[name] = (*names.get(name, ()), address)
    return names


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True
