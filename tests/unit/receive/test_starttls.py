"""STARTTLS and implicit TLS in a session (RFC 3207, RFC 8314 §3.3): what is before, what forgotten, what is told."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from ekiden.message.queued import QueuedMessage
from ekiden.observe.events import ConnectionLost, Event, TlsEstablished, TlsFailed
from ekiden.observe.maillog import MailLogRenderer
from ekiden.tls.facts import certificate_of
from support.certificates import Authority, self_signed
from support.honours import honours
from support.smtp_session import Talk, World
from support.tls_peers import client_context

SYNCHRONIZED = "554 5.5.0 Error: SMTP protocol synchronization"


class Place:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority("The Root")
        self.root = directory / "root.pem"
        self.root.write_bytes(self.authority.pem)
        self.certificate, self.key = self.authority.issue("mx.test").write(directory, "server")

    def world(self, command: str = "smtpd", /, **settings: str) -> World:
        return World(
            None,
            command,
            **{
                "smtpd_tls_security_level": "may",
                "smtpd_tls_cert_file": str(self.certificate),
                "smtpd_tls_key_file": str(self.key),
                "smtpd_tls_loglevel": "2",
                **settings,
            },
        )

    def client(self, *, of: Authority | None = None, shows: bool = False) -> ssl.SSLContext:
        context = client_context(self.root)
        if shows:
            pair = self_signed("client.example") if of is None else of.issue("client.example", client=True)
            self.client_der = pair.der
            context.load_cert_chain(*pair.write(self.directory, "client"))
        return context


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def encrypt(talk: Talk, context: ssl.SSLContext) -> None:
    assert await talk.say("STARTTLS") == "220 2.0.0 Ready to start TLS"
    await talk.writer.start_tls(context, server_hostname="mx.test")


def log_of(events: list[Event]) -> list[str]:
    renderer = MailLogRenderer()
    return [renderer.render(event)[1] for event in events]


async def send(talk: Talk) -> str:
    await talk.envelope("c@here.example")
    await talk.say("DATA")
    return await talk.say("Subject: x\r\n\r\nx\r\n.")


def received_of(message: QueuedMessage, world: World) -> str:
    (writer,) = world.writers
    return writer.data.partition(b"Subject:")[0].decode()


@honours("smtpd_tls_security_level", "smtpd_tls_received_header", "smtpd_tls_loglevel")
def test_all_is_said_again_under_encryption_and_the_message_bears_it(place: Place) -> None:
    world = place.world(smtpd_tls_received_header="yes")

    async def talk(talk: Talk) -> None:
        await talk.reply()
        assert "STARTTLS" in await talk.say("EHLO in.the.clear")
        await talk.say("MAIL FROM:<nobody@b.example>")
        await encrypt(talk, place.client())
        # RFC 3207 §4.2: neither the greeting nor the transaction are left.
        assert await talk.say("RCPT TO:<c@here.example>") == "503 5.5.1 Error: need MAIL command"
        assert "STARTTLS" not in await talk.say("EHLO encrypted.example")
        assert await talk.say("STARTTLS") == "554 5.5.1 Error: TLS already active"
        assert (await send(talk)).startswith("250 ")
        await talk.say("QUIT")

    world.play(talk)
    (message,) = world.queued
    client = message.envelope.client
    assert (client.helo, client.protocol) == ("encrypted.example", "ESMTP")
    assert client.tls is not None
    assert client.tls.protocol == "TLSv1.3"
    how = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
    assert received_of(message, world).startswith(
        "Received: from encrypted.example (unknown [127.0.0.1])\r\n"
        f"\t(using {how})\r\n"
        "\t(No client certificate requested)\r\n"
        "\tby mx.here.example (Ekiden) with ESMTPS id Q0\r\n"
    )
    assert f"Anonymous TLS connection established from unknown[127.0.0.1]: {how}" in log_of(world.events)


def test_without_the_wish_nothing_of_it_is_told(place: Place) -> None:
    world = place.world(smtpd_tls_loglevel="0")

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, place.client())
        await talk.say("EHLO encrypted.example")
        await send(talk)

    world.play(talk)
    assert "using TLS" not in received_of(world.queued[0], world)
    assert "with ESMTPS id" in received_of(world.queued[0], world)
    assert not [event for event in world.events if isinstance(event, TlsEstablished)]


def test_helo_over_tls_is_no_esmtp(place: Place) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, place.client())
        await talk.say("HELO encrypted.example")
        await send(talk)

    world.play(talk)
    assert "with SMTP id" in received_of(world.queued[0], world)


@pytest.mark.parametrize(
    "behind", [b"RSET\r\n", b"EHLO evil.example\r\nMAIL FROM:<evil@b.example>\r\n", b"x", b"\x16\x03\x01\x02\x00"]
)
@pytest.mark.parametrize("lenient", ["yes", "no"])
def test_what_comes_behind_starttls_in_the_clear_ends_the_session(place: Place, behind: bytes, lenient: str) -> None:
    """CVE-2011-0411."""
    world = place.world(smtpd_forbid_unauth_pipelining=lenient)

    async def talk(talk: Talk) -> None:
        await talk.hello()
        talk.writer.write(b"STARTTLS\r\n" + behind)
        assert await talk.reply() == SYNCHRONIZED
        assert await talk.reader.read() == b""

    world.play(talk)
    assert world.rejections() == ["improper-pipelining"]
    assert not [event for event in world.events if isinstance(event, TlsEstablished | TlsFailed)]


def test_starttls_may_end_a_group(place: Place) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.hello()
        talk.writer.write(b"RSET\r\nSTARTTLS\r\n")
        assert await talk.reply() == "250 2.0.0 Ok"
        assert await talk.reply() == "220 2.0.0 Ready to start TLS"
        await talk.writer.start_tls(place.client(), server_hostname="mx.test")
        assert (await talk.say("NOOP")).startswith("250 ")

    world.play(talk)


def test_starttls_has_no_arguments_and_needs_no_ehlo(place: Place) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.reply()
        assert await talk.say("STARTTLS now") == "501 5.5.4 Syntax: STARTTLS"
        await encrypt(talk, place.client())
        assert await talk.say("NOOP") == "250 2.0.0 Ok"

    world.play(talk)


@pytest.mark.parametrize(
    "settings",
    [
        {"smtpd_tls_security_level": "none"},
        {"smtpd_tls_security_level": ""},
        {"smtpd_discard_ehlo_keywords": "starttls"},
    ],
)
def test_where_it_is_not_offered_there_is_no_such_command(place: Place, settings: dict[str, str]) -> None:
    world = place.world(**settings)

    async def talk(talk: Talk) -> None:
        await talk.reply()
        assert "STARTTLS" not in await talk.say("EHLO client.example")
        assert await talk.say("STARTTLS") == "502 5.5.1 Error: command not implemented"
        assert (await send(talk)).startswith("250 ")

    world.play(talk)


def test_without_a_usable_key_it_is_not_offered_and_mail_goes_on(place: Place) -> None:
    place.key.unlink()
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.reply()
        assert "STARTTLS" not in await talk.say("EHLO client.example")
        assert await talk.say("STARTTLS") == "454 4.7.0 TLS not available due to local problem"
        assert (await send(talk)).startswith("250 ")

    world.play(talk)
    assert "smtpd_tls_key_file" in log_of(world.events)[0]


@honours("smtpd_tls_security_level", "smtpd_enforce_tls")
@pytest.mark.parametrize("settings", [{"smtpd_tls_security_level": "encrypt"}, {"smtpd_enforce_tls": "yes"}])
@pytest.mark.parametrize("has_key", [True, False])
def test_where_it_is_obligatory_nothing_of_weight_goes_without(
    place: Place, settings: dict[str, str], has_key: bool
) -> None:
    if not has_key:
        place.key.unlink()
    world = place.world(**{"smtpd_tls_security_level": "", **settings, "smtpd_soft_error_limit": "100"})

    async def talk(talk: Talk) -> None:
        await talk.reply()
        await talk.say("HELO client.example")
        await talk.say("EHLO client.example")
        for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@here.example>", "DATA", "VRFY c", "RSET", "HELP", "MAIL"):
            assert await talk.say(line) == "530 5.7.0 Must issue a STARTTLS command first", line
        assert await talk.say("NOOP") == "250 2.0.0 Ok"
        assert await talk.say("NONSENSE") == "500 5.5.2 Error: command not recognized"
        if has_key:
            await encrypt(talk, place.client())
            await talk.say("EHLO client.example")
            assert (await send(talk)).startswith("250 ")
        assert (await talk.say("QUIT")).startswith("221 ")

    world.play(talk)
    assert len(world.queued) == has_key


# Handshakes that fail.


def test_garbage_in_the_handshake_ends_the_session_without_a_word_in_the_clear(place: Place) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await talk.say("STARTTLS")
        talk.writer.write(b"MAIL FROM:<a@b.example>\r\n" * 20)
        answer = await talk.reader.read()
        assert not answer.strip(b"\x00\x02\x03\x15\x01\x04\x46\x0a\x32\x28\x16")  # an alert, or nothing

    world.play(talk)
    (failed,) = [event for event in world.events if isinstance(event, TlsFailed)]
    assert failed.reason in ("wrong version number", "http request", "packet length too long")
    assert [event.after for event in world.events if isinstance(event, ConnectionLost)] == ["STARTTLS"]


def test_a_client_that_goes_away_in_the_handshake(place: Place) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await talk.say("STARTTLS")
        talk.writer.write_eof()
        assert await talk.reader.read() == b""

    world.play(talk)
    assert "SSL_accept error from unknown[127.0.0.1]: lost connection" in log_of(world.events)


@honours("smtpd_starttls_timeout")
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_slow_handshake_is_dropped_at_its_time(place: Place, hello: bytes) -> None:
    world = place.world(smtpd_starttls_timeout="1s", smtpd_timeout="100s")

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await talk.say("STARTTLS")
        talk.writer.write(hello)
        async with asyncio.timeout(10):
            assert await talk.reader.read() == b""

    world.play(talk, watch_interval_s=0.05)
    assert "SSL_accept error from unknown[127.0.0.1]: Connection timed out" in log_of(world.events)


@pytest.mark.parametrize("settled", [True, False])
def test_a_record_that_was_changed_on_the_way_ends_the_session(place: Place, settled: bool) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, place.client())
        if settled:
            await talk.say("NOOP")
        raw = talk.writer.transport.get_extra_info("socket")
        os.write(raw.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(ssl.SSLError, match="bad record mac"):
            await talk.reader.read()

    world.play(talk)
    assert [event.problem for event in world.events if isinstance(event, ConnectionLost)] == ["lost connection"]


# TLS from the first byte on.


@honours("smtpd_tls_wrappermode")
def test_implicit_tls(place: Place) -> None:
    world = place.world(smtpd_tls_wrappermode="yes", smtpd_tls_security_level="none")

    async def talk(talk: Talk) -> None:
        await talk.writer.start_tls(place.client(), server_hostname="mx.test")
        assert (await talk.reply()).startswith("220 mx.here.example")
        assert "STARTTLS" not in await talk.say("EHLO client.example")
        assert await talk.say("STARTTLS") == "554 5.5.1 Error: TLS already active"
        assert (await send(talk)).startswith("250 ")

    world.play(talk)
    assert "with ESMTPS id" in received_of(world.queued[0], world)


def test_plain_smtp_on_the_port_of_tls_is_dropped_without_an_answer(place: Place) -> None:
    world = place.world(smtpd_tls_wrappermode="yes")

    async def talk(talk: Talk) -> None:
        talk.writer.write(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n")
        assert b"220" not in await talk.reader.read()

    world.play(talk)
    assert [type(event) for event in world.events if isinstance(event, TlsFailed)]
    assert not world.rejections()


def test_implicit_tls_without_a_key(place: Place) -> None:
    place.key.unlink()
    world = place.world(smtpd_tls_wrappermode="yes")

    async def talk(talk: Talk) -> None:
        assert await talk.reader.read() == b""

    world.play(talk)
    assert any("no certificate for the TLS of this port" in line for line in log_of(world.events))


def test_a_tls_hello_on_the_plain_port_is_dropped(place: Place) -> None:
    world = place.world()

    async def talk(talk: Talk) -> None:
        await talk.reply()
        talk.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert await talk.reply() == "221 2.7.0 Error: this is an SMTP server"
        assert await talk.reader.read() == b""

    world.play(talk)


# Certificates of clients.


@honours("smtpd_tls_ask_ccert", "smtpd_tls_received_header")
@pytest.mark.parametrize(
    ("shown", "line", "log"),
    [
        ("trusted", '(Client CN "client.example", Issuer "The Root" (verified OK))', "Trusted"),
        ("self-signed", '(Client CN "client.example", Issuer "client.example" (not verified))', "Untrusted"),
        ("none", "(Client did not present a certificate)", "Anonymous"),
    ],
)
def test_what_a_clients_certificate_is_worth_is_told(place: Place, shown: str, line: str, log: str) -> None:
    world = place.world(
        smtpd_tls_ask_ccert="yes", smtpd_tls_CAfile=str(place.root), smtpd_tls_received_header="yes"
    )  # fmt: skip
    client = place.client(of=place.authority if shown == "trusted" else None, shows=shown != "none")

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, client)
        await talk.say("EHLO client.example")
        await send(talk)

    world.play(talk)
    assert f"\t{line}\r\n" in received_of(world.queued[0], world)
    lines = log_of(world.events)
    assert any(text.startswith(f"{log} TLS connection established from unknown[127.0.0.1]: TLSv1.3") for text in lines)
    assert any("subject_CN=client.example" in text for text in lines) is (shown != "none")


@honours("smtpd_tls_req_ccert")
@pytest.mark.parametrize("shown", ["trusted", "self-signed", "none"])
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_clients_without_a_trusted_certificate_get_no_session(place: Place, shown: str, mode: str) -> None:
    settings = {"smtpd_tls_wrappermode": "yes"} if mode == "implicit" else {"smtpd_tls_security_level": "encrypt"}
    world = place.world(**settings, smtpd_tls_req_ccert="yes", smtpd_tls_CAfile=str(place.root))
    client = place.client(of=place.authority if shown == "trusted" else None, shows=shown != "none")

    async def talk(talk: Talk) -> None:
        if mode == "implicit":
            await talk.writer.start_tls(client, server_hostname="mx.test")
        else:
            await talk.hello()
            await encrypt(talk, client)
        if shown == "trusted":
            if mode == "implicit":
                await talk.reply()
            await talk.say("EHLO client.example")
            assert (await send(talk)).startswith("250 ")
        else:
            assert (await talk.reply()).startswith("421 4.7.0 ")
            assert await talk.reader.read() == b""

    world.play(talk)
    expected = {"trusted": [], "self-signed": ["client-certificate-not-trusted"], "none": ["no-client-certificate"]}
    assert world.rejections() == expected[shown]


def test_a_certificate_cannot_be_required_where_tls_is_not(place: Place) -> None:
    world = place.world(smtpd_tls_req_ccert="yes")

    async def talk(talk: Talk) -> None:
        await talk.hello()
        assert (await send(talk)).startswith("250 ")

    world.play(talk)


@honours("relay_clientcerts")
@pytest.mark.parametrize("by", ["certificate", "key", "another's", "trouble"])
def test_clients_whose_certificate_is_known_may_send_anywhere(place: Place, by: str) -> None:
    client = place.client(shows=True)
    known = certificate_of(place.client_der, "sha256")
    table = place.directory / "known"
    fingerprint = {"certificate": known.fingerprint, "key": known.key_fingerprint}.get(by, "00:11:22")
    if by != "trouble":
        table.write_text(f"{fingerprint} client.example\n")
    world = place.world(
        smtpd_tls_ask_ccert="yes",
        relay_clientcerts=f"texthash:{table}",
        smtpd_relay_restrictions="permit_tls_clientcerts, reject_unauth_destination",
    )

    async def talk(talk: Talk) -> None:
        await talk.hello()
        (before,) = await talk.envelope("c@elsewhere.example")
        assert before.startswith("554 5.7.1 ")
        await encrypt(talk, client)
        await talk.say("EHLO client.example")
        (after,) = await talk.envelope("c@elsewhere.example")
        expected = {"certificate": "250 ", "key": "250 ", "trouble": "451 4.3.0 "}
        assert after.startswith(expected.get(by, "554 5.7.1 "))

    world.play(talk)


def test_a_known_certificate_counts_only_where_a_list_says_so(place: Place) -> None:
    client = place.client(shows=True)
    world = place.world(smtpd_tls_ask_ccert="yes", relay_clientcerts="static:all")

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, client)
        await talk.say("EHLO client.example")
        (after,) = await talk.envelope("c@elsewhere.example")
        assert after.startswith("554 5.7.1 ")

    world.play(talk)


# Much at once.


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_messages_of_any_size_pass_whole(place: Place, size: int) -> None:
    world = place.world()
    text = b"".join(b"%08d\r\n" % number for number in range(size // 10))

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, place.client())
        await talk.say("EHLO client.example")
        await talk.envelope("c@here.example")
        await talk.say("DATA")
        talk.writer.write(b"\r\n" + text + b".\r\n")
        assert (await talk.reply()).startswith("250 ")

    world.play(talk)
    assert world.writers[0].data.endswith(b"\r\n\r\n" + text)


def test_a_client_that_reads_nothing_is_waited_for(place: Place) -> None:
    """Replies without end do not pile up: see Connection.writable."""
    world = place.world(smtpd_junk_command_limit="1000000", smtpd_timeout="1s", smtpd_forbid_unauth_pipelining="no")

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await encrypt(talk, place.client())
        await talk.say("EHLO client.example")
        transport: Any = talk.writer.transport
        transport.pause_reading()
        try:
            async with asyncio.timeout(10):
                while True:
                    talk.writer.write(b"NOOP\r\n" * 10_000)
                    await talk.writer.drain()
        except OSError:
            pass  # dropped

    world.play(talk, watch_interval_s=0.05)
    assert [event.problem for event in world.events if isinstance(event, ConnectionLost)] == ["timeout"]


@honours("smtpd_client_new_tls_session_rate_limit")
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_new_tls_sessions_are_counted_and_those_taken_up_again_are_not(place: Place, mode: str) -> None:
    world = place.world(
        smtpd_tls_wrappermode="yes" if mode == "implicit" else "no",
        smtpd_client_new_tls_session_rate_limit="2",
        smtpd_client_event_limit_exceptions="",
    )
    context = place.client()
    heard: list[str] = []

    async def talk(talk: Talk) -> None:
        if mode == "implicit":
            await talk.writer.start_tls(context, server_hostname="mx.test")
            heard.append((await talk.reply())[:9])
        else:
            await talk.hello()
            await encrypt(talk, context)
            talk.writer.write(b"EHLO client.example\r\n")
            heard.append((await talk.reply())[:9])

    for _ in range(3):
        world.play(talk)
    assert [reply[:3] for reply in heard] == ["220" if mode == "implicit" else "250"] * 2 + ["421"]
    assert heard[-1] == "421 4.7.0"
    assert world.rejections() == ["rate-limit"]


def test_lmtp_has_starttls_too(place: Place) -> None:
    world = place.world("lmtpd")

    async def talk(talk: Talk) -> None:
        await talk.reply()
        assert "STARTTLS" in await talk.say("LHLO client.example")
        await encrypt(talk, place.client())
        assert "STARTTLS" not in await talk.say("LHLO client.example")
        assert (await send(talk)).startswith("250 ")

    world.play(talk)
    assert "with LMTPS id" in received_of(world.queued[0], world)
    assert {event.service for event in world.events if isinstance(event, TlsEstablished)} == {"lmtpd"}


def test_a_gateways_word_and_a_filters_word(place: Place) -> None:
    """XCLIENT over TLS leaves the connection encrypted; what XFORWARD said before the handshake is forgotten."""
    world = place.world(
        smtpd_authorized_xclient_hosts="127.0.0.1", smtpd_authorized_xforward_hosts="127.0.0.1"
    )  # fmt: skip

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await talk.say("XFORWARD NAME=forged.example ADDR=192.0.2.66")
        await encrypt(talk, place.client())
        await talk.say("EHLO gateway.example")
        assert (await talk.say("XCLIENT NAME=client.example ADDR=192.0.2.7")).startswith("220 ")
        assert "STARTTLS" not in await talk.say("EHLO client.example")
        assert await talk.say("STARTTLS") == "554 5.5.1 Error: TLS already active"
        assert (await send(talk)).startswith("250 ")

    world.play(talk)
    client = world.queued[0].envelope.client
    assert (client.name, client.address) == ("client.example", "192.0.2.7")
    assert client.tls is not None
