"""XCLIENT and XFORWARD: what a program says of the client that it speaks for (Postfix's XCLIENT and XFORWARD pages).

In:   the arguments of the command: ``NAME=host ADDR=192.0.2.1 HELO=[UNAVAILABLE] ...``, each value in xtext.
Out:  what they say, as a value; or the reply that refuses them.
Never: lets a value through that could break a line of the log or a header field.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct, structs

from ekiden.message.envelope import Client
from ekiden.message.reply import Reply, reply
from ekiden.message.tls_facts import TlsFacts
from ekiden.protocol.smtp.printable import printable
from ekiden.protocol.smtp.verbs import NEUTERED

XCLIENT_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "REVERSE_NAME", "DESTADDR", "DESTPORT")
XFORWARD_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_VALUE_BYTES = 255
_PROTOCOL_BYTES = 64
_FOR_NOW = b"[TEMPUNAVAIL]"
_UNAVAILABLE = (b"[UNAVAILABLE]", _FOR_NOW)
_UNKNOWN = "unknown"

_HEXCHAR = re.compile(rb"\+([0-9A-Fa-f]{2})")
_BAD_XTEXT = re.compile(rb"\+(?![0-9A-Fa-f]{2})")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\Z")
_PORT = re.compile(r"[0-9]{1,5}")

_EXPECTED = reply(501, "5.5.4", "Error: attribute=value expected")
_TOO_LONG = reply(501, "5.5.4", "Error: attribute value too long")


class ClientAttributes(Struct, frozen=True):
    """None is what was not said; what is said to be unavailable is ``unknown``, 0 or "" as in Client."""

    name: str | None = None
    name_failed: bool = False  # [TEMPUNAVAIL]
    address: str | None = None
    port: int | None = None
    helo: str | None = None
    protocol: str | None = None
    login: str | None = None
    ident: str | None = None
    is_local: bool | None = None  # SOURCE=LOCAL or REMOTE

    @property
    def names_client(self) -> bool:
        """Something is said of who the client is, and not of the message alone."""
        said = self.name, self.address, self.port, self.helo, self.protocol
        return any(value is not None for value in said)

    def instead_of(self, client: Client) -> Client:
        """The client that XCLIENT makes of ``client``: a new one, who has said and shown nothing but what is here.

        A name belongs to its address: an address that comes without one has none. A certificate was the gateway's own,
        which must open no door to the clients behind it.
        """
        tls = client.tls
        if tls is not None:
            tls = TlsFacts(tls.protocol, tls.cipher, tls.bits, resumed=tls.resumed, server_name=tls.server_name)
        address = client.address if self.address is None else self.address
        name = self.name or (client.name if address == client.address else _UNKNOWN)
        return structs.replace(
            client,
            name=name,
            address=address,
            is_ipv6=":" in address,
            port=client.port if self.port is None else self.port,
            helo=self.helo or "",
            protocol=self.protocol or "SMTP",
            login=self.login or "",
            login_method="XCLIENT" if self.login else "",
            name_failed=self.name_failed,
            tls=tls,
        )

    def added_to(self, client: Client) -> Client:
        """``client`` of earlier XFORWARD commands with what this one says."""
        said = {
            name: value
            for name in ("name", "address", "port", "helo", "protocol")
            if (value := getattr(self, name)) is not None
        }
        found = structs.replace(client, **said)
        return structs.replace(found, is_ipv6=":" in found.address)


def parse_xclient(arguments: bytes) -> ClientAttributes | Reply:
    return _parse(arguments, "XCLIENT", XCLIENT_ATTRIBUTES)


def parse_xforward(arguments: bytes) -> ClientAttributes | Reply:
    return _parse(arguments, "XFORWARD", XFORWARD_ATTRIBUTES)


def _parse(arguments: bytes, command: str, known: tuple[str, ...]) -> ClientAttributes | Reply:
    found = ClientAttributes()
    for word in arguments.split():
        key, _, coded = word.partition(b"=")
        if not coded:
            return _EXPECTED
        name = printable(key.upper())
        if name not in known:
            return reply(501, "5.5.4", f"Error: bad {command} attribute name: {name}")
        if len(coded) > _VALUE_BYTES:
            return _TOO_LONG
        if _BAD_XTEXT.search(coded) is not None:
            return reply(501, "5.5.4", f"Error: bad attribute value syntax: {printable(coded)}")
        value = _HEXCHAR.sub(lambda code: bytes((int(code[1], 16),)), coded)
        changed = _said(found, name, value, is_xclient=command == "XCLIENT")
        if changed is None:
            return reply(501, "5.5.4", f"Error: bad {name} syntax: {printable(value)}")
        found = changed
    return found


def _said(found: ClientAttributes, name: str, value: bytes, *, is_xclient: bool) -> ClientAttributes | None:
    """``found`` with one attribute more; None for a value that is none of its kind."""
    is_unknown = value.upper() in _UNAVAILABLE
    text = value.translate(NEUTERED).decode("ascii")
    match name:
        case "NAME" | "REVERSE_NAME":
            if not is_unknown and _HOST_NAME.match(text) is None:
                return None
            # The name that DNS gives for the address, unverified: nothing asks for it.
            if name == "REVERSE_NAME":
                return found
            failed = value.upper() == _FOR_NOW
            return structs.replace(found, name=_UNKNOWN if is_unknown else text, name_failed=failed)
        case "ADDR" | "DESTADDR":
            address = _UNKNOWN if is_unknown else _address(text)
            if address is None:
                return None
            return structs.replace(found, address=address) if name == "ADDR" else found
        case "PORT" | "DESTPORT":
            if not is_unknown and (_PORT.fullmatch(text) is None or int(text) > 65535):
                return None
            return structs.replace(found, port=0 if is_unknown else int(text)) if name == "PORT" else found
        case "HELO":
            return structs.replace(found, helo="" if is_unknown else text)
        case "PROTO":
            if is_xclient and text.upper() not in ("SMTP", "ESMTP"):
                return None
            if len(text) > _PROTOCOL_BYTES:
                return None
            return structs.replace(found, protocol=_UNKNOWN if is_unknown else text.upper())
        case "LOGIN":
            login = "" if is_unknown else value.decode("utf-8", "replace")
            return structs.replace(found, login=login) if login.isprintable() else None
        case "IDENT":
            return structs.replace(found, ident="" if is_unknown else text)
        case _:  # SOURCE
            if is_unknown or text.upper() in ("LOCAL", "REMOTE"):
                return structs.replace(found, is_local=None if is_unknown else text.upper() == "LOCAL")
            return None


def _address(text: str) -> str | None:
    """``192.0.2.1``, ``IPv6:2001:db8::1`` (RFC 5321 §4.1.3), or the same without the tag."""
    bare = text[5:] if text[:5].upper() == "IPV6:" else text
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if "%" in bare or (bare is not text and address.version == 4):
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
