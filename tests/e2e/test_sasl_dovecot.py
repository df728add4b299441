"""Login by a real Dovecot's auth socket: each mechanism, over unix and TCP, and Dovecot restarted meanwhile."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Iterator

import pytest

from ekiden.sasl.dovecot import DovecotMechanisms
from ekiden.sasl.exchange import Challenge, Facts, Failure, Success
from ekiden.sasl.scram_secret import derive
from ekiden.tables.stream import ServerAddress
from support.dovecot_auth import DovecotAuth, running_dovecot_auth

_SALT = b"0123456789abcdef"


def _users() -> str:
    secret = derive("sha256", "secret", _SALT, 4096)
    parts = (base64.b64encode(each).decode() for each in (_SALT, secret.pair.stored_key, secret.pair.server_key))
    return f"anna:{{SCRAM-SHA-256}}4096,{','.join(parts)}::::::\nbert:{{PLAIN}}pä ss::::::\n"


@pytest.fixture(scope="module")
def dovecot() -> Iterator[DovecotAuth]:
    with running_dovecot_auth(_users()) as running:
        yield running


_TLS = Facts("smtp", "127.0.0.1", 587, "127.0.0.2", 4711, tls=True)
_CLEAR = Facts("smtp", "127.0.0.1", 587, "127.0.0.2", 4711)


def mechanisms_of(dovecot: DovecotAuth, tcp: bool = False) -> DovecotMechanisms:
    server = ServerAddress("127.0.0.1", dovecot.port) if tcp else ServerAddress("", 0, str(dovecot.socket))
    return DovecotMechanisms(server, 20)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_plain_and_login(dovecot: DovecotAuth, tcp: bool) -> None:
    async def scene() -> None:
        mechanisms = mechanisms_of(dovecot, tcp)
        names = [each.name for each in await mechanisms.mechanisms()]
        assert {"PLAIN", "LOGIN", "SCRAM-SHA-256", "EXTERNAL"} <= set(names)

        async def plain(data: bytes, facts: Facts = _TLS) -> object:
            return await mechanisms.exchange().start("PLAIN", data, facts)

        assert await plain(b"\0anna\0secret") == Success("anna")
        assert await plain("\0bert\0pä ss".encode()) == Success("bert")
        assert await plain(b"anna\0anna\0secret") == Success("anna")
        for data in (
            b"\0anna\0wrong",
            b"\0nobody\0x",
            b"\0anna\0",
            b"",
            b"\0",
            b"\xff\0\xfe\0\xfd",
            b"bert\0anna\0secret",
            b"x" * 5000,
        ):
            step = await plain(data)
            assert isinstance(step, Failure), data[:20]
            assert not step.temporary, step
        # Whether a password may come in clear text is not Dovecot's to say here, but ours.
        assert await plain(b"\0anna\0secret", _CLEAR) == Success("anna")
        step = await plain(b"x" * 100_000)
        assert isinstance(step, Failure)
        assert step.malformed

        exchange = mechanisms.exchange()
        assert isinstance(await exchange.start("LOGIN", None, _TLS), Challenge)
        assert isinstance(await exchange.respond(b"anna"), Challenge)
        assert await exchange.respond(b"secret") == Success("anna")
        exchange = mechanisms.exchange()
        assert isinstance(await exchange.start("LOGIN", None, _TLS), Challenge)
        exchange.abandon()
        assert await plain(b"\0anna\0secret") == Success("anna")
        assert isinstance(await mechanisms.exchange().start("NOSUCH", None, _TLS), Failure)
        await mechanisms.aclose()

    asyncio.run(scene())


def test_scram(dovecot: DovecotAuth) -> None:
    async def scene() -> None:
        mechanisms = mechanisms_of(dovecot)
        exchange = mechanisms.exchange()
        bare = "n=anna,r=clientnonce"
        first = await exchange.start("SCRAM-SHA-256", f"n,,{bare}".encode(), _CLEAR)
        assert isinstance(first, Challenge)
        nonce = first.data.decode().split(",")[0]
        without = f"c=biws,{nonce}"
        message = f"{bare},{first.data.decode()},{without}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", b"secret", _SALT, 4096)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        step = await exchange.respond(f"{without},p={proof}".encode())
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        final = b"v=" + base64.b64encode(expected)
        if isinstance(step, Challenge):  # the last word may be a challenge of its own
            assert step.data == final
            assert await exchange.respond(b"") == Success("anna")
        else:
            assert step == Success("anna", final)
        await mechanisms.aclose()

    asyncio.run(scene())


def test_external_is_for_a_certificate_that_holds(dovecot: DovecotAuth) -> None:
    async def scene() -> None:
        mechanisms = mechanisms_of(dovecot)
        certified = Facts("smtp", tls=True, certificate_verified=True, certificate_name="anna")
        assert isinstance(await mechanisms.exchange().start("EXTERNAL", b"", _TLS), Failure)
        step = await mechanisms.exchange().start("EXTERNAL", b"bert", certified)
        assert isinstance(step, Failure)
        await mechanisms.aclose()

    asyncio.run(scene())


def test_dovecot_may_be_restarted(dovecot: DovecotAuth) -> None:
    async def scene() -> None:
        mechanisms = mechanisms_of(dovecot)
        assert await mechanisms.exchange().start("PLAIN", b"\0anna\0secret", _TLS) == Success("anna")
        dovecot.stop()
        # Its auth process may live on for the connection that is open; nobody else gets in.
        others = mechanisms_of(dovecot)
        step = await others.exchange().start("PLAIN", b"\0anna\0secret", _TLS)
        assert isinstance(step, Failure)
        assert step.temporary
        assert await others.mechanisms() == ()
        dovecot.start()
        for each in (mechanisms, others):
            assert await each.exchange().start("PLAIN", b"\0anna\0secret", _TLS) == Success("anna")
            await each.aclose()

    asyncio.run(scene())
