"""Extensions where there is encryption, or ought to be: chunks across STARTTLS, REQUIRETLS, UTF8SMTPS."""

from __future__ import annotations

from pathlib import Path

from ekiden.message.content import InlineContent
from support.certificates import Authority
from support.smtp_session import Talk, World
from support.tls_peers import client_context


class Place:
    def __init__(self, directory: Path) -> None:
        authority = Authority("The Root")
        root = directory / "root.pem"
        root.write_bytes(authority.pem)
        certificate, key = authority.issue("mx.test").write(directory, "server")
        self.context = client_context(root)
        self.settings = {"smtpd_tls_cert_file": str(certificate), "smtpd_tls_key_file": str(key)}

    async def encrypt(self, talk: Talk) -> None:
        assert await talk.say("STARTTLS") == "220 2.0.0 Ready to start TLS"
        await talk.writer.start_tls(self.context, server_hostname="mx.test")
        await talk.say("EHLO encrypted.example")


def test_chunks_under_tls_and_none_left_from_before(tmp_path: Path) -> None:
    place = Place(tmp_path)
    world = World(smtpd_tls_security_level="may", **place.settings)

    async def talk(talk: Talk) -> None:
        await talk.hello()
        await talk.envelope("c@here.example")
        talk.writer.write(b"BDAT 5\r\na: b\r")
        assert (await talk.reply()).startswith("250 2.0.0 ")
        await place.encrypt(talk)
        talk.writer.write(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert (await talk.reply()).startswith("503 5.5.1 ")  # RFC 3207 §4.2: the transaction is gone
        await talk.envelope("c@here.example")
        for part in (b"BDAT 40", b"000\r\n", b"x" * 17_000, b"y" * 23_000, b"BDAT 2 LAST\r\n", b"\r\n"):
            talk.writer.write(part)
            await talk.writer.drain()
        assert (await talk.reply()).startswith("250 2.0.0 Ok: 40000 octets")
        assert (await talk.reply()).startswith("250 2.0.0 Ok: queued as ")

    world.play(talk)
    (message,) = world.queued
    assert isinstance(message.content, InlineContent)
    assert message.content.data.endswith(b"x" * 17_000 + b"y" * 23_000 + b"\r\n")


def test_a_chunk_behind_starttls_is_no_content_of_the_session_under_tls(tmp_path: Path) -> None:
    """RFC 3207 §4.2, CVE-2011-0411: what comes in clear text behind STARTTLS ends the session."""
    place = Place(tmp_path)
    world = World(smtpd_tls_security_level="may", **place.settings)

    async def talk(talk: Talk) -> None:
        await talk.hello()
        talk.writer.write(b"STARTTLS\r\nBDAT 6 LAST\r\nNOOP\r\n")
        assert (await talk.reply()).startswith("554 5.5.0 ")
        assert await talk.reader.read() == b""

    world.play(talk)


def test_where_encryption_is_required_the_octets_of_a_chunk_in_clear_text_are_no_commands(tmp_path: Path) -> None:
    place = Place(tmp_path)
    world = World(smtpd_tls_security_level="encrypt", **place.settings)

    async def talk(talk: Talk) -> None:
        await talk.hello()
        talk.writer.write(b"BDAT 10 LAST\r\nSTARTTLS\r\n")
        assert (await talk.reply()).startswith("530 5.7.0 ")
        assert (await talk.say("NOOP")).startswith("250 ")
        await place.encrypt(talk)
        await talk.envelope("c@here.example")
        talk.writer.write(b"BDAT 6 LAST\r\na: b\r\n")
        assert (await talk.reply()).startswith("250 ")

    world.play(talk)
    assert len(world.queued) == 1


def test_require_tls_travels_with_the_message_and_needs_tls_itself(tmp_path: Path) -> None:
    """RFC 8689 §4.2.1; RFC 6531 §4.3 for the name of the protocol"""
    place = Place(tmp_path)
    world = World(smtpd_tls_security_level="may", **place.settings)

    async def talk(talk: Talk) -> None:
        await talk.reply()
        assert "REQUIRETLS" not in await talk.say("EHLO client.example")
        assert (await talk.say("MAIL FROM:<a@b.example> REQUIRETLS")).startswith("555 5.5.4 ")
        await place.encrypt(talk)
        assert "REQUIRETLS" in await talk.say("EHLO encrypted.example")
        for mail in ("REQUIRETLS SMTPUTF8", ""):
            assert (await talk.say(f"MAIL FROM:<a@b.example> {mail}")).startswith("250 ")
            await talk.say("RCPT TO:<c@here.example>")
            await talk.say("DATA")
            assert (await talk.say("a: b\r\n\r\nx\r\n.")).startswith("250 ")

    world.play(talk)
    required, other = world.queued
    assert required.envelope.require_tls
    assert not other.envelope.require_tls
    assert isinstance(required.content, InlineContent)
    assert isinstance(other.content, InlineContent)
    assert b" with UTF8SMTPS id " in required.content.data
    assert b" with ESMTPS id " in other.content.data
