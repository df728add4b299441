"""Dovecot's auth protocol as its client, and the relay over it, against a server that a script plays."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.protocol.dovecot_auth import (
    Accepted,
    Continue,
    DovecotAuthClient,
    Event,
    Mechanism,
    Ready,
    Refused,
    escaped,
    unescaped,
)
from ekiden.sasl.dovecot import DovecotMechanisms
from ekiden.sasl.exchange import Challenge, Facts, Failure, Success
from ekiden.sasl.login_source import dovecot_server, open_login_source
from ekiden.tables.stream import ServerAddress
from support.fake_clock import FakeClock
from support.honours import honours

_GREETING = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tANONYMOUS\tanonymous\n"
    b"MECH\tSECRET\tprivate\nMECH\tSCRAM-SHA-256-PLUS\nSPID\t17\nCUID\t1\nCOOKIE\tabc\nNEW-THING\tx\nDONE\n"
)


def events_of(data: bytes, size: int = 10_000) -> list[Event]:
    client = DovecotAuthClient(1)
    return [event for at in range(0, len(data), size) for event in client.receive(data[at : at + size])]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_a_greeting_and_answers_in_any_pieces(size: int) -> None:
    data = _GREETING + (
        b"CONT\t1\tYWJj\nOK\t1\tuser=anna\tresp=dj0x\nOK\t2\tuser=a\x01tb\n"
        b"FAIL\t3\tuser=x\ttemp\treason=sql\x01n down\n"
        b"FAIL\t4\tuser=x\tauthz\nCONT\t5\nUNKNOWN\t6\nFAIL\t7\tcode=temp_fail\nFAIL\t8\tuser=y\tcode=user_disabled\n"
    )
    ready, *rest = events_of(data, size)
    assert isinstance(ready, Ready)
    assert ready.mechanisms[0] == Mechanism("PLAIN", frozenset({"plaintext"}))
    assert rest == [
        Continue(1, b"abc"),
        Accepted(1, "anna", b"v=1"),
        Accepted(2, "a\tb", None),
        Refused(3, "x", True, "sql\n down"),
        Refused(4, "x", False, "the authorization identity is not for this user"),
        Continue(5, b""),
        Refused(7, "", True, "temporary"),
        Refused(8, "y", False, "the account is disabled"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"VERSION\t2\t0\n", b"DONE\n", b"VERSION\n", _GREETING + b"OK\t1\n", _GREETING + b"OK\tx\tuser=a\n",
        _GREETING + b"CONT\t1\t???\n", _GREETING + b"OK\t1\tuser=\n", _GREETING + b"FAIL\n", b"x" * 70_000,
        _GREETING + b"CONT\t1\t" + b"A" * 70_000 + b"\n", _GREETING + b"OK\t99999999999\tuser=a\n",
    ],
)  # fmt: skip
def test_what_is_not_of_the_protocol_ends_it(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        events_of(data)


def test_questions_hold_what_they_were_given_and_nothing_else() -> None:
    client = DovecotAuthClient(77)
    assert client.take_output() == b"VERSION\t1\t2\nCPID\t77\n"
    client.auth(5, "PLAIN", {"service": "smtp", "secured": None, "local_name": "a\tb\nc\0"}, b"\0anna\0x")
    assert (
        client.take_output()
        == b"AUTH\t5\tPLAIN\tservice=smtp\tsecured\tlocal_name=a\x01tb\x01nc\x010\tresp=AGFubmEAeA==\n"
    )
    client.auth(6, "PLAIN", {}, None)
    client.auth(7, "PLAIN", {}, b"")
    client.answer(6, b"")
    client.cancel(6)
    assert client.take_output() == b"AUTH\t6\tPLAIN\nAUTH\t7\tPLAIN\tresp=\nCONT\t6\t\nCANCEL\t6\n"
    for mechanism in ("", "PLAIN\tx", "plain", "X" * 41):
        with pytest.raises(ValueError, match="mechanism"):
            client.auth(8, mechanism, {}, None)
    with pytest.raises(ValueError, match="more than Dovecot takes"):
        client.answer(8, b"x" * 10_000)
    assert client.take_output() == b""
    assert unescaped(escaped("a\0\x01\t\r\nz")) == "a\0\x01\t\r\nz"


# --- the relay

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def served(path: Path, script: Script, scene: Callable[[DovecotMechanisms], Awaitable[None]]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_GREETING)
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    mechanisms = DovecotMechanisms(ServerAddress("", 0, str(path)), 0.5)
    try:
        await scene(mechanisms)
    finally:
        await mechanisms.aclose()
        server.close()


async def told(reader: asyncio.StreamReader) -> list[str]:
    """The next line that is a question."""
    while True:
        words = (await reader.readline()).decode().rstrip("\n").split("\t")
        if words[0] not in ("VERSION", "CPID"):
            return words


def test_exchanges_at_the_same_time_get_their_own_answers(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        questions = [await told(reader) for _ in range(3)]
        for words in reversed(questions):
            writer.write(f"OK\t{words[1]}\tuser={base64.b64decode(words[-1][5:]).decode()}\n".encode())

    async def scene(mechanisms: DovecotMechanisms) -> None:
        steps = await asyncio.gather(
            *(mechanisms.exchange().start("PLAIN", name.encode(), Facts()) for name in ("anna", "bert", "carol"))
        )
        assert steps == [Success("anna"), Success("bert"), Success("carol")]

    asyncio.run(served(tmp_path / "auth", script, scene))


def test_what_is_offered_is_what_can_be_relayed(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scene(mechanisms: DovecotMechanisms) -> None:
        offered = await mechanisms.mechanisms()
        assert [each.name for each in offered] == ["PLAIN", "SCRAM-SHA-256", "ANONYMOUS"]
        assert offered[0].plaintext
        assert offered[1].mutual
        assert offered[2].anonymous

    asyncio.run(served(tmp_path / "auth", script, scene))


def test_dovecot_hears_who_the_client_is(tmp_path: Path) -> None:
    heard: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await told(reader))
        writer.write(f"CONT\t{heard[1]}\tYQ==\n".encode())
        heard.extend(await told(reader))
        writer.write(f"FAIL\t{heard[1]}\tuser=anna\n".encode())
        heard.extend(await told(reader))

    async def scene(mechanisms: DovecotMechanisms) -> None:
        facts = Facts("smtp", "192.0.2.1", 587, "2001:db8::1", 4711, True, "mx.example", True, "anna")
        exchange = mechanisms.exchange()
        assert await exchange.start("LOGIN", None, facts) == Challenge(b"a")
        assert await exchange.respond(b"") == Failure("Dovecot: refused", False, "anna")
        assert isinstance(await exchange.respond(b""), Failure)
        exchange.abandon()
        assert heard[2:] == [
            "LOGIN", "service=smtp", "nologin", "lip=192.0.2.1", "lport=587", "rip=2001:db8::1", "rport=4711",
            "secured", "local_name=mx.example", "valid-client-cert", "cert_username=anna", "CONT", heard[1], "",
        ]  # fmt: skip

    asyncio.run(served(tmp_path / "auth", script, scene))


@pytest.mark.parametrize("end", ["close", "silence", "garbage", "flood"])
def test_a_server_that_fails_is_a_temporary_failure_and_the_next_login_tries_again(tmp_path: Path, end: str) -> None:
    count = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        words = await told(reader)
        if count > 1:
            writer.write(f"OK\t{words[1]}\tuser=anna\n".encode())
        elif end == "silence":
            await told(reader)  # CANCEL
            writer.write(f"OK\t{words[1]}\tuser=evil\n".encode())  # too late: it is for nobody
            words = await told(reader)
            writer.write(f"OK\t{words[1]}\tuser=anna\n".encode())
        elif end == "garbage":
            writer.write(b"OK\tx\tuser=evil\n")
        elif end == "flood":
            writer.write(b"x" * 200_000)
        if end != "close" or count > 1:
            await reader.read()

    async def scene(mechanisms: DovecotMechanisms) -> None:
        step = await mechanisms.exchange().start("PLAIN", b"x", Facts())
        assert isinstance(step, Failure)
        assert step.temporary
        assert await mechanisms.exchange().start("PLAIN", b"x", Facts()) == Success("anna")

    asyncio.run(served(tmp_path / "auth", script, scene))


def test_what_was_offered_stays_offered_while_dovecot_is_away(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await told(reader)

    async def scene(mechanisms: DovecotMechanisms) -> None:
        offered = await mechanisms.mechanisms()
        (tmp_path / "auth").unlink()
        await mechanisms.aclose()
        assert await mechanisms.mechanisms() == offered != ()
        step = await mechanisms.exchange().start("PLAIN", b"x", Facts())
        assert isinstance(step, Failure)
        assert step.temporary

    asyncio.run(served(tmp_path / "auth", script, scene))


def test_no_server_at_all(tmp_path: Path) -> None:
    async def scene() -> None:
        mechanisms = DovecotMechanisms(ServerAddress("", 0, str(tmp_path / "auth")), 0.5)
        assert await mechanisms.mechanisms() == ()
        step = await mechanisms.exchange().start("PLAIN", b"x", Facts())
        assert isinstance(step, Failure)
        assert step.temporary
        exchange = mechanisms.exchange()
        exchange.abandon()
        assert await exchange.respond(b"x") == Failure("a response without an exchange", malformed=True)

    asyncio.run(scene())


# --- which server it is


@honours("smtpd_sasl_path", "smtpd_sasl_type")
@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("private/auth", ServerAddress("", 0, "/queue/private/auth")),
        ("/run/dovecot/auth", ServerAddress("", 0, "/run/dovecot/auth")),
        ("unix:private/auth", ServerAddress("", 0, "/queue/private/auth")),
        ("inet:127.0.0.1:12345", ServerAddress("127.0.0.1", 12345)),
        ("inet:[::1]:12345", ServerAddress("::1", 12345)),
    ],
)
def test_where_the_socket_is(path: str, address: ServerAddress) -> None:
    assert dovecot_server(path, "/queue") == address
    settings = {"smtpd_sasl_type": "dovecot", "smtpd_sasl_path": path, "queue_directory": "/queue"}
    source = open_login_source(Parameters(settings), FakeClock())
    assert source.accounts is None
    assert source.relay is not None
    assert source.relay._server == address


@pytest.mark.parametrize("path", ["", "inet:", "inet:host", "inet:host:0", "inet:host:smtp"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="smtpd_sasl_path = "):
        dovecot_server(path, "/queue")
