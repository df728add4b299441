"""A listener behind a load balancer: who the client is stands in a PROXY header, which comes before all else.

Postfix believes every connection to such a listener. Here the proxy must be one of smtpd_upstream_proxy_clients, for
whoever is believed may say that it is one of mynetworks.
"""

from __future__ import annotations

from typing import Any

from ekiden.config.snapshot import Parameters
from ekiden.observe.events import Note, Observer
from ekiden.protocol.proxy_protocol import Proxied, ProxyHeader, ProxyProblem
from ekiden.receive.connection import Connection, ServerStops
from ekiden.tables.match import client_list
from ekiden.tables.table import TableTrouble


class UpstreamProxy:
    """What a service asks of the proxy before it. Raises ConfigError for a list that cannot be used."""

    def __init__(self, parameters: Parameters, observer: Observer, program: str = "smtpd") -> None:
        self._proxies = client_list(parameters, "smtpd_upstream_proxy_clients")
        self._timeout_s = parameters.smtpd_upstream_proxy_timeout
        self._header_limit = parameters.smtpd_upstream_proxy_header_limit
        self._observer = observer
        self._program = program

    async def client_of(self, connection: Connection, peer: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Address and port of the client that the proxy speaks for; None: the connection is to be dropped.

        What came behind the header is read next. ``peer`` itself where the proxy speaks for itself.
        """
        found = await self._read(connection, peer)
        if isinstance(found, str):
            text = f"dropping a connection from [{peer[0]}]:{peer[1]} to a listener behind a proxy: {found}"
            self._observer.emit(Note(self._program, text, "warning"))
            return None
        return peer if found.source is None else (found.source, found.source_port)

    async def _read(self, connection: Connection, peer: tuple[Any, ...]) -> Proxied | str:
        """What the header says, or why there is none that counts."""
        try:
            if not await self._proxies.matches(str(peer[0])):
                return "it is not one of smtpd_upstream_proxy_clients"
            connection.deadline = connection.loop.time() + self._timeout_s
            header = ProxyHeader(self._header_limit)
            while header.outcome is None:
                data = await connection.read()
                if not data:
                    return "lost connection in the PROXY header"
                header.feed(data)
        except TimeoutError:
            return "no PROXY header within smtpd_upstream_proxy_timeout"
        except ServerStops:
            return "the server stops"
        except TableTrouble as trouble:
            return f"smtpd_upstream_proxy_clients: {trouble}"
        connection.deadline = float("inf")
        if isinstance(header.outcome, ProxyProblem):
            return header.outcome.value
        connection.unread(header.rest)
        return header.outcome
