"""The ``lmtp`` delivery agent (RFC 2033): to a mailbox server, which answers for each recipient."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ekiden.config.snapshot import Parameters
from ekiden.deliver.connection import Endpoint, UnixHost
from ekiden.deliver.generic import GenericMaps
from ekiden.deliver.smtp import Engine, HostsFor
from ekiden.deliver.smtp_security import Policies, Security
from ekiden.deliver.smtp_settings import lmtp_settings, port_number
from ekiden.message.clock import Clock
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.observe.events import Observer
from ekiden.tls.key_files import KeyFiles


class LmtpAgent:
    """An Agent. Next hops: ``unix:/path`` (relative ones lie below queue_directory), ``inet:host:port``, ``host:port``,
    ``[address]:port``; the port may be left out. ``hosts_for`` resolves ``[host]:port``: LMTP asks for no MX.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        hosts_for: HostsFor,
        clock: Clock,
        observer: Observer,
        hostname: str | None = None,
        generic: GenericMaps | None = None,
        policies: Policies | None = None,
        key_files: Callable[[], KeyFiles] = KeyFiles,
    ) -> None:
        self._settings = lmtp_settings(parameters)
        self._hosts_for = hosts_for
        self._own_name = parameters.myhostname if hostname is None else hostname
        self._queue_directory = parameters.queue_directory
        self._engine = Engine(
            self._settings,
            endpoints=self._endpoints,
            clock=clock,
            observer=observer,
            own_name=self._own_name,
            security=Security(
                parameters, "lmtp", clock=clock, observer=observer, policies=policies, key_files=key_files
            ),
            generic=generic,
        )

    def deliver(self, request: DeliveryRequest) -> Coroutine[Any, Any, Sequence[DeliveryResult]]:
        return self._engine.deliver(request)

    async def close(self) -> None:
        await self._engine.close()

    async def _endpoints(self, next_hop: str) -> Sequence[Endpoint] | DeliveryResult:
        if next_hop.startswith("unix:"):
            path = next_hop.removeprefix("unix:")
            return [UnixHost(self._own_name, os.path.join(self._queue_directory, path))]
        try:
            host, port = split_host_port(next_hop.removeprefix("inet:"), self._settings.default_port)
        except ValueError as error:
            # The administrator can mend this, so the mail waits (RFC 3463 §3.4: system incorrectly configured).
            return deferred(Status(4, 3, 5), f"bad next hop {next_hop}: {error}")
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            return await self._hosts_for(f"[{host}]:{port}")
        return [Host(host, address, port)]


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[host]`` or ``[host]:port``. Raises ValueError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("the closing bracket is missing or misplaced")
        port = rest[1:]
        # RFC 5321 §4.1.3 marks an IPv6 literal.
        if host[:5].lower() == "ipv6:":
            host = host[5:]
    else:
        host, _, port = text.partition(":")
    if not host:
        raise ValueError("the host is missing")
    return host, port_number(port) if port else default_port
