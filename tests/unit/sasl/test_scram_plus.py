"""Our client and our server of SCRAM-...-PLUS, each with its own end of one TLS connection."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from ekiden.sasl.accounts import ScramKeys, ScramPair
from ekiden.sasl.client_mechanisms import Channel, Credentials, ScramClient
from ekiden.sasl.exchange import Challenge, Facts, Failure, Success
from ekiden.sasl.scram_secret import derive
from ekiden.sasl.scram_server import MadeUp, ScramServer
from ekiden.tls.channel_binding import channel_bindings
from ekiden.tls.client_context import ClientLayer
from ekiden.tls.layer import TlsLayer
from support.certificates import Authority
from support.requirements import require_that


class OneAccount:
    """``anna``, whose password is ``secret``."""

    scram_hashes = frozenset({"sha256"})

    async def scram_keys(self, name: str, algorithm: str) -> ScramKeys | None:
        secret = derive("sha256", "secret", b"0123456789abcdef", 4096)
        pairs = (ScramPair(secret.pair.stored_key, secret.pair.server_key),)
        return ScramKeys("anna", b"0123456789abcdef", 4096, pairs)

    async def authorize(self, account: str, wanted: str) -> bool:
        return not wanted


def connected(tmp_path: Path, version: ssl.TLSVersion) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection without a socket: the client's, the server's."""
    certificate, key = Authority().issue("mx.example").write(tmp_path, "server")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.check_hostname, ours.verify_mode, ours.maximum_version = False, ssl.CERT_NONE, version
    client, server = ClientLayer(ours, ""), TlsLayer(theirs, server_side=True)
    client.handshake()
    while not (client.done and server.done):
        if not server.done:
            server.handshake(client.take_output())
        if not client.done:
            client.handshake(server.take_output())
    return client.connection, server.connection


@pytest.mark.parametrize(
    ("version", "kind"), [(ssl.TLSVersion.TLSv1_3, "tls-exporter"), (ssl.TLSVersion.TLSv1_2, "tls-unique")]
)
@pytest.mark.parametrize("between", [False, True], ids=["one connection", "somebody between"])
def test_an_exchange_holds_for_its_own_connection_only(
    tmp_path: Path, version: ssl.TLSVersion, kind: str, between: bool
) -> None:
    """RFC 5802 §6, RFC 9266 §2, RFC 5929 §3."""
    ours, theirs = connected(tmp_path, version)
    if between:
        _, theirs = connected(tmp_path, version)
    bindings = channel_bindings(ours, is_server=False)
    require_that(kind in bindings, f"this interpreter does not give {kind}")
    mechanism = "SCRAM-SHA-256-PLUS"
    client = ScramClient(mechanism, Credentials("anna", "secret"), Channel(bindings=bindings))
    assert client.initial is not None
    assert client.initial.startswith(f"p={kind},".encode())

    async def exchange() -> object:
        server = ScramServer(OneAccount(), MadeUp(lambda: b"x"), lambda: "servernonce")  # type: ignore[arg-type]
        known = channel_bindings(theirs, is_server=True)
        facts = Facts(tls=True, channel_bindings=known, offered=frozenset({mechanism}))
        step = await server.start(mechanism, client.initial, facts)
        assert isinstance(step, Challenge)
        answer = client.respond(step.data)
        assert isinstance(answer, bytes)
        return await server.respond(answer)

    end = asyncio.run(exchange())
    if between:
        assert isinstance(end, Failure)
        return
    assert isinstance(end, Success)
    assert end.final is not None
    assert client.respond(end.final) == b""
    assert client.complete
