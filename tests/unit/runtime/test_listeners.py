"""Which addresses are listened on, and with how many sockets."""

from __future__ import annotations

import socket

import pytest

from ekiden.config.master_cf import Service
from ekiden.config.snapshot import Parameters
from ekiden.runtime.listeners import ListenTrouble, open_listeners, wanted_listeners
from support.honours import honours


def service(name: str, kind: str = "inet", command: str = "smtpd") -> Service:
    return Service(name, kind, command=command)


def addresses(*services: Service, **settings: str) -> list[str]:
    return [str(listener.key) for listener in wanted_listeners(services, Parameters(settings))]


@honours("inet_interfaces", "inet_protocols")
@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("25", {"inet_interfaces": "all"}, ["0.0.0.0:25", "[::]:25"]),
        ("smtp", {"inet_interfaces": "all", "inet_protocols": "ipv4"}, ["0.0.0.0:25"]),
        ("25", {"inet_interfaces": "loopback-only"}, ["127.0.0.1:25", "[::1]:25"]),
        ("25", {"inet_interfaces": "192.0.2.1, [2001:db8::1]"}, ["192.0.2.1:25", "[2001:db8::1]:25"]),
        ("127.0.0.1:2525", {"inet_interfaces": "all"}, ["127.0.0.1:2525"]),
        ("[::1]:2525", {}, ["[::1]:2525"]),
        ("25", {"inet_interfaces": "all", "inet_protocols": "ipv6"}, ["[::]:25"]),
    ],
)
def test_interfaces_and_protocols(name: str, settings: dict[str, str], expected: list[str]) -> None:
    assert addresses(service(name), **settings) == expected


def test_only_smtp_servers_listen_and_each_address_once() -> None:
    services = [service("127.0.0.1:25"), service("127.0.0.1:25"), service("pickup", "unix", "pickup")]
    assert addresses(*services) == ["127.0.0.1:25"]


@pytest.mark.parametrize("name", ["127.0.0.1:nosuchservice", "[::1:25"])
def test_a_name_without_an_address_is_named(name: str) -> None:
    with pytest.raises(ListenTrouble, match=r"nosuchservice|::1"):
        addresses(service(name))


def test_no_protocol_is_an_error() -> None:
    with pytest.raises(ListenTrouble, match="inet_protocols"):
        addresses(service("25"), inet_protocols="ipx")


def test_every_worker_gets_a_socket_of_its_own_on_the_same_port() -> None:
    (wanted,) = wanted_listeners([service("127.0.0.1:0")], Parameters())
    sockets = open_listeners(wanted, 3, 10)
    try:
        assert len({sock.getsockname() for sock in sockets}) == 1
        assert len({sock.fileno() for sock in sockets}) == 3
        assert not any(sock.getblocking() or sock.get_inheritable() for sock in sockets)
    finally:
        for sock in sockets:
            sock.close()


def test_a_port_in_use_is_refused_even_where_it_could_be_shared() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (wanted,) = wanted_listeners([service(f"127.0.0.1:{port}")], Parameters())
        with pytest.raises(ListenTrouble, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            open_listeners(wanted, 1, 10)


def test_an_address_of_another_host_is_named() -> None:
    (wanted,) = wanted_listeners([service("192.0.2.1:2525")], Parameters())
    with pytest.raises(ListenTrouble, match=r"cannot listen on 192\.0\.2\.1:2525: Cannot assign"):
        open_listeners(wanted, 1, 10)
