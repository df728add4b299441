"""Any arguments of XCLIENT and XFORWARD give attributes that fit a line of the log, or a 501; never an exception."""

from __future__ import annotations

import ipaddress

from ekiden.message.envelope import Client
from ekiden.message.reply import Reply
from ekiden.protocol.smtp.client_attributes import parse_xclient, parse_xforward

SEEDS = [
    b"NAME=mail.example ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=c.example LOGIN=user+40x.example",
    b"NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 REVERSE_NAME=[TEMPUNAVAIL] DESTADDR=::1 DESTPORT=25",
    b"ADDR=[UNAVAILABLE] HELO=a+0D+0A+20b PROTO=SMTP LOGIN=[UNAVAILABLE]",
    b"NAME=a.example ADDR=192.0.2.1 IDENT=4Fz SOURCE=LOCAL PROTO=ESMTP",
    b"SOURCE=REMOTE IDENT=a+3D+2Bb PORT=[UNAVAILABLE]",
    b"NAME= ADDR =x HELO=" + b"a" * 300,
]


def one_input(data: bytes) -> None:
    # A command line has no control characters: the core refuses them before.
    arguments = bytes(byte for byte in data if byte >= 0x20 and byte != 0x7F)
    for parse in (parse_xclient, parse_xforward):
        found = parse(arguments)
        if isinstance(found, Reply):
            assert found.code == 501
            assert found.text.isascii()
            assert found.text.isprintable()
            continue
        for client in (found.instead_of(Client(address="127.0.0.1")), found.added_to(Client())):
            assert 0 <= client.port <= 65535
            assert client.address == "unknown" or str(ipaddress.ip_address(client.address)) == client.address
            for text in (client.name, client.helo, client.protocol):
                assert text.isascii()
                assert text.isprintable()
                assert not set(text) & set(' <>()\\";@')
            assert client.login.isprintable()
        assert found.ident is None or found.ident.isprintable()
