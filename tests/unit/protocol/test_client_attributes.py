"""The attributes of XCLIENT and XFORWARD: what each value may be, and the client that they make."""

from __future__ import annotations

import pytest
from msgspec import structs

from ekiden.message.envelope import Client
from ekiden.message.reply import Reply
from ekiden.message.tls_facts import TlsFacts
from ekiden.protocol.smtp.client_attributes import ClientAttributes, parse_xclient, parse_xforward

GATEWAY = Client(
    name="gw.example",
    address="127.0.0.1",
    port=4000,
    helo="gw.example",
    protocol="ESMTP",
    login="a",
    login_method="PLAIN",
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b"NAME=mail.example", ClientAttributes(name="mail.example")),
        (b"name=mail.example", ClientAttributes(name="mail.example")),
        (b"NAME=[UNAVAILABLE]", ClientAttributes(name="unknown")),
        (b"NAME=[TEMPUNAVAIL]", ClientAttributes(name="unknown", name_failed=True)),
        (b"NAME=[unavailable]", ClientAttributes(name="unknown")),
        (b"ADDR=192.0.2.1 PORT=4711", ClientAttributes(address="192.0.2.1", port=4711)),
        (b"ADDR=IPV6:2001:DB8::1", ClientAttributes(address="2001:db8::1")),
        (b"ADDR=2001:db8::1", ClientAttributes(address="2001:db8::1")),
        (b"ADDR=IPv6:::ffff:192.0.2.1", ClientAttributes(address="192.0.2.1")),
        (b"ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]", ClientAttributes(address="unknown", port=0)),
        (b"PROTO=esmtp HELO=c.example", ClientAttributes(protocol="ESMTP", helo="c.example")),
        (b"HELO=[UNAVAILABLE]", ClientAttributes(helo="")),
        (b"HELO=a+20b+3Cc+3E", ClientAttributes(helo="a?b?c?")),
        (b"HELO=a+0D+0Ab+00", ClientAttributes(helo="a??b?")),
        (b"HELO=a+0d+0ab", ClientAttributes(helo="a??b")),
        (b"LOGIN=user+40x.example", ClientAttributes(login="user@x.example")),
        (b"LOGIN=[UNAVAILABLE]", ClientAttributes(login="")),
        (b"REVERSE_NAME=r.example DESTADDR=198.51.100.1 DESTPORT=25", ClientAttributes()),
        (b"NAME=a.example NAME=b.example", ClientAttributes(name="b.example")),
    ],
)
def test_what_xclient_says(arguments: bytes, expected: ClientAttributes) -> None:
    assert parse_xclient(arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (b"IDENT=4Fz+20x", ClientAttributes(ident="4Fz?x")),
        (b"IDENT=[UNAVAILABLE]", ClientAttributes(ident="")),
        (b"SOURCE=LOCAL", ClientAttributes(is_local=True)),
        (b"SOURCE=remote", ClientAttributes(is_local=False)),
        (b"SOURCE=[UNAVAILABLE]", ClientAttributes()),
        (b"PROTO=local", ClientAttributes(protocol="LOCAL")),
        (b"NAME=mail.example ADDR=192.0.2.1", ClientAttributes(name="mail.example", address="192.0.2.1")),
    ],
)
def test_what_xforward_says(arguments: bytes, expected: ClientAttributes) -> None:
    assert parse_xforward(arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        b"NAME",
        b"NAME=",
        b"=x",
        b"ADDR=192.0.2.1 NAME",
        b"NAME=-bad-",
        b"NAME=a b",
        b"NAME=a+20b",
        b"NAME=a..b",
        b"NAME=" + b"a" * 254,
        b"NAME=" + b"a" * 256,
        b"NAME=" + b"a" * 2000,
        b"ADDR=localhost",
        b"ADDR=192.0.2.300",
        b"ADDR=IPV6:192.0.2.1",
        b"ADDR=fe80::1%eth0",
        b"ADDR=0x7f000001",
        b"ADDR=127.1",
        b"PORT=65536",
        b"PORT=-1",
        b"PORT=12345678901234567890",
        b"PORT=\xb2",
        b"PROTO=HTTP",
        b"LOGIN=a+0Ab",
        b"LOGIN=a+00",
        b"HELO=a+4",
        b"HELO=a+GG",
        b"HELO=a+",
        b"IDENT=x",
        b"SOURCE=LOCAL",
        b"SHOE=44",
        b"\xff=1",
        b"DESTADDR=x",
        b"DESTPORT=x",
    ],
)
def test_what_xclient_may_not_say(arguments: bytes) -> None:
    found = parse_xclient(arguments)
    assert isinstance(found, Reply)
    assert found.code == 501
    assert str(found.status) == "5.5.4"
    assert found.text.isascii()
    assert found.text.isprintable()
    assert len(found.text) < 200


@pytest.mark.parametrize("arguments", [b"LOGIN=a", b"DESTADDR=192.0.2.1", b"SOURCE=HERE", b"PROTO=" + b"x" * 65])
def test_what_xforward_may_not_say(arguments: bytes) -> None:
    found = parse_xforward(arguments)
    assert isinstance(found, Reply)
    assert found.code == 501


def test_another_client_has_said_and_shown_nothing_yet() -> None:
    found = ClientAttributes(name="c.example", address="2001:db8::1", port=1).instead_of(GATEWAY)
    assert found == Client(name="c.example", address="2001:db8::1", port=1, is_ipv6=True, protocol="SMTP")


def test_an_address_does_not_keep_the_name_of_another() -> None:
    assert ClientAttributes(address="192.0.2.1").instead_of(GATEWAY).name == "unknown"
    assert ClientAttributes(address="127.0.0.1").instead_of(GATEWAY).name == "gw.example"
    assert ClientAttributes(login="u").instead_of(GATEWAY).name == "gw.example"


def test_a_login_is_the_gateway_s_word() -> None:
    found = ClientAttributes(address="192.0.2.1", login="u@x.example", helo="h", protocol="ESMTP").instead_of(GATEWAY)
    assert (found.login, found.login_method, found.helo, found.protocol) == ("u@x.example", "XCLIENT", "h", "ESMTP")
    assert not ClientAttributes(login="").instead_of(GATEWAY).login_method


def test_the_certificate_of_a_gateway_is_not_its_client_s() -> None:
    facts = TlsFacts("TLSv1.3", "AES", 256, "gw", "ca", "AA:BB", "CC:DD", trusted=True, verified=True, resumed=True)
    found = ClientAttributes(address="192.0.2.1").instead_of(structs.replace(GATEWAY, tls=facts))
    assert found.tls == TlsFacts("TLSv1.3", "AES", 256, resumed=True)
