"""Listening sockets: which addresses the services of master.cf want, and opening them, one socket a worker.

SO_REUSEPORT lets the kernel spread new connections over the workers' sockets (socket(7)), so that no worker waits for
another. The supervisor keeps all of them open: connections that come while a worker is restarted wait in its backlog.

A socket in the file system is one that all workers share.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from ekiden.config.errors import ConfigError
from ekiden.config.master_cf import Service
from ekiden.config.services import LISTENING
from ekiden.config.snapshot import Parameters
from ekiden.runtime.control import ListenerKey

# What a host without IPv6 (or without IPv4) answers; for an address nobody asked for by name that is no error.
_NOT_ON_THIS_HOST = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class ListenTrouble(Exception):
    """A service cannot be listened for; the text names the address and the cause."""


class WantedListener:
    """An address to listen on, and for which service. ``optional``: the host may lack this address."""

    __slots__ = ("key", "optional", "service")

    def __init__(self, key: ListenerKey, service: Service, *, optional: bool) -> None:
        self.key, self.service, self.optional = key, service, optional


def service_key(service: Service) -> str:
    """How master.cf tells services apart: ``name/type``."""
    return f"{service.name}/{service.type}"


def wanted_listeners(services: Sequence[Service], parameters: Parameters) -> list[WantedListener]:
    """Every address to listen on, without doubles. Raises ListenTrouble for a name that means no address."""
    found: dict[tuple[str, int], WantedListener] = {}
    for service in services:
        if service.command not in LISTENING:
            continue
        if service.type == "unix":
            path = socket_path(service, parameters)
            listeners = iter((WantedListener(ListenerKey(service_key(service), str(path)), service, optional=False),))
        elif service.type == "inet":
            listeners = _of_service(service, parameters)
        else:
            continue
        for listener in listeners:
            found.setdefault((listener.key.address, listener.key.port), listener)
    return list(found.values())


def socket_path(service: Service, parameters: Parameters) -> Path:
    """Where a service of type unix listens (master(5)): below ``private``, or ``public`` for every user."""
    return Path(parameters.queue_directory, "private" if service.private else "public", service.name)


def _of_service(service: Service, parameters: Parameters) -> Iterator[WantedListener]:
    try:
        endpoint = service.endpoint
    except ConfigError as error:
        raise ListenTrouble(error.text) from error
    assert endpoint is not None
    families = _families(parameters)
    for interface in (endpoint.host,) if endpoint.host else parameters.inet_interfaces:
        for address, optional in _addresses(interface, families, service):
            key = ListenerKey(service_key(service), address, endpoint.port)
            yield WantedListener(key, service, optional=optional)


def _families(parameters: Parameters) -> tuple[int, ...]:
    """The IP versions of ``inet_protocols``, IPv4 first."""
    names = {name.lower() for name in parameters.inet_protocols}
    versions = tuple(v for v, name in ((4, "ipv4"), (6, "ipv6")) if name in names or "all" in names)
    if not versions:
        raise ListenTrouble(f"inet_protocols = {' '.join(parameters.inet_protocols)}: names neither ipv4 nor ipv6")
    return versions


_SPECIAL = {
    "all": {4: "0.0.0.0", 6: "::"},  # noqa: S104 - what the administrator asked for
    "loopback-only": {4: "127.0.0.1", 6: "::1"},
}


def _addresses(interface: str, versions: Sequence[int], service: Service) -> Iterator[tuple[str, bool]]:
    """The addresses that ``interface`` stands for, and whether each may be missing on this host."""
    if (special := _SPECIAL.get(interface.lower())) is not None:
        for version in versions:
            yield special[version], len(versions) > 1
        return
    bare = interface.strip("[]")
    try:
        yield str(ipaddress.ip_address(bare)), False
        return
    except ValueError:
        pass
    try:
        infos = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenTrouble(f"{service.name}: address of {bare}: {error.strerror}") from None
    seen: dict[str, None] = {}
    for family, _, _, _, address in infos:
        if (6 if family == socket.AF_INET6 else 4) in versions:
            seen[str(address[0])] = None
    for text in seen:
        # localhost is ::1 too in /etc/hosts of hosts that have no IPv6.
        yield text, len(seen) > 1


def open_listeners(wanted: WantedListener, count: int, backlog: int, *, probe: bool = True) -> list[socket.socket]:
    """``count`` listening sockets on one address; none where an optional address is not on this host.

    ``probe`` refuses an address that is in use. Raises ListenTrouble.
    """
    key = wanted.key
    if key.address.startswith("/"):
        return _open_in_file_system(key, count, backlog)
    sockets: list[socket.socket] = []
    try:
        if probe and key.port:
            # Without SO_REUSEPORT: with it, a second server of the same user would silently share the port.
            _bound(key, reuse_port=False).close()
        for _ in range(count):
            sockets.append(_bound(key, reuse_port=True))
            sockets[-1].listen(backlog)
            # Port 0: the kernel chose one for the first socket, and the others share it.
            key = ListenerKey(key.service, key.address, sockets[0].getsockname()[1])
    except OSError as error:
        for opened in sockets:
            opened.close()
        if wanted.optional and error.errno in _NOT_ON_THIS_HOST:
            return []
        raise ListenTrouble(f"cannot listen on {key}: {_cause(error, key)}") from error
    return sockets


def _open_in_file_system(key: ListenerKey, count: int, backlog: int) -> list[socket.socket]:
    """The directory says who may connect. A socket that a server left behind is taken away."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if _answers(key.address):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        Path(key.address).unlink(missing_ok=True)
        # Not chmod, which could be led elsewhere: the directory is not root's.
        mask = os.umask(0o111)
        try:
            sock.bind(key.address)
        finally:
            os.umask(mask)
        sock.listen(backlog)
        return [sock, *(sock.dup() for _ in range(count - 1))]
    except OSError as error:
        sock.close()
        raise ListenTrouble(f"cannot listen on {key}: {error.strerror or error}") from error


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def _bound(key: ListenerKey, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in key.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((key.address, key.port))
    except OSError:
        sock.close()
        raise
    return sock


def _cause(error: OSError, key: ListenerKey) -> str:
    if error.errno == errno.EACCES and key.port < 1024:
        return f"{error.strerror} (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRINUSE:
        return f"{error.strerror} (another program listens there)"
    return error.strerror or os.strerror(error.errno or 0)
