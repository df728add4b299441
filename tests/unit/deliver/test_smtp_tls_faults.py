"""What a server does wrong once a session is encrypted: nothing of it is believed, and no mail is lost."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.message.content import InlineContent
from support.certificates import Authority
from support.fake_peer import Act, Answer
from support.honours import honours
from support.smtp_delivery import agent_for, brief, request, run
from support.tls_peer import EHLO, TlsPeer, server_context

ROOT = Authority()
GOOD = ROOT.issue("fake.example")
ENCRYPT = {"smtp_tls_security_level": "encrypt"}

STAGES = {
    "EHLO": "performing the EHLO handshake",
    "MAIL": "sending MAIL FROM",
    "DATA": "sending DATA command",
    "DOT": "sending end of data -- message may be sent more than once",
}


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
@pytest.mark.parametrize("stage", STAGES)
def test_a_connection_that_ends_within_tls(tmp_path: Path, stage: str, act: Act) -> None:
    async def work() -> None:
        answer: Answer | list[Answer] = [EHLO, act] if stage == "EHLO" else act
        async with TlsPeer(server_context(tmp_path, GOOD), {stage: answer}) as peer:
            agent = agent_for(peer, settings=ENCRYPT)
            (result,) = await agent.deliver(request("a"))
            await agent.close()
            assert brief([result]) == [("delayed", "4.4.2")]
            assert result.text == f"lost connection with fake.example[127.0.0.1] while {STAGES[stage]}"
            assert peer.connections == 1

    run(work())


class Rude(TlsPeer):
    """After the handshake it sends ``raw`` in place of, or before, what it should say within TLS."""

    def __init__(self, context: ssl.SSLContext, raw: bytes, *, encrypted: bool) -> None:
        super().__init__(context)
        self._raw, self._encrypted = raw, encrypted

    async def _encrypt(self, writer: asyncio.StreamWriter) -> None:
        await super()._encrypt(writer)
        if self._encrypted:
            writer.write(self._raw)
        else:
            sock = writer.get_extra_info("socket")
            sock._sock.send(self._raw)


@pytest.mark.parametrize(
    ("raw", "encrypted"),
    [
        (b"250 fake.example\r\n", True),  # an answer before the EHLO that it should be for
        (b"250 fake.example\r\n", False),  # plain text among the records
        (b"\x17\x03\x03\x00\x10" + b"x" * 16, False),  # a record that nobody has sealed
        (b"\x15\x03\x03\x00\x02\x02\x28", False),  # an alert that anybody could send
        (b"\x16\x03\x03\xff\xff" + b"x" * 100, False),  # a record of more than there may be
    ],
)
def test_what_does_not_belong_into_the_session_ends_it(tmp_path: Path, raw: bytes, encrypted: bool) -> None:
    async def work() -> None:
        async with Rude(server_context(tmp_path, GOOD), raw, encrypted=encrypted) as peer:
            agent = agent_for(peer, settings=ENCRYPT)
            (result,) = await agent.deliver(request("a"))
            await agent.close()
            assert brief([result])[0][0] == "delayed"
            assert "MAIL" not in peer.verbs

    run(work())


@honours("smtp_helo_timeout")
def test_a_server_that_says_nothing_within_tls(tmp_path: Path) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD), {"EHLO": [EHLO, Act.STALL]}) as peer:
            agent = agent_for(peer, settings={**ENCRYPT, "smtp_helo_timeout": "1s"})
            (result,) = await agent.deliver(request("a"))
            await agent.close()
            assert result.text.startswith("conversation with fake.example[127.0.0.1] timed out while performing")

    run(work())


def test_a_server_that_takes_no_more_of_a_large_message(tmp_path: Path) -> None:
    """Its refusal amid the content is heard through TLS too; the rest is not sent."""

    async def work() -> None:
        async with TlsPeer(
            server_context(tmp_path, GOOD), {"DATA": (b"354 go\r\n", b"552 5.3.4 enough\r\n", Act.STALL)}
        ) as peer:
            agent = agent_for(peer, settings=ENCRYPT)
            message = structs.replace(request("a"), content=InlineContent(b"x" * 60 + b"\r\n" * 100))
            (result,) = await agent.deliver(message)
            await agent.close()
            assert brief([result]) == [("failed", "5.3.4")]

    run(work())


@pytest.mark.parametrize("level", ["may", "encrypt"])
@pytest.mark.parametrize("stage", ["MAIL", "DOT"])
def test_a_session_that_broke_off_is_tried_without_tls_where_that_is_no_more_than_a_wish(
    tmp_path: Path, stage: str, level: str
) -> None:
    """As Postfix does, for mail that has waited; and not when the message may have arrived."""

    async def work() -> None:
        good = b"250 2.0.0 Ok\r\n"
        async with TlsPeer(server_context(tmp_path, GOOD), {stage: [Act.CLOSE, good]}) as peer:
            agent = agent_for(peer, settings={"smtp_tls_security_level": level})
            fresh = structs.replace(request("a"), arrived=time.time())
            for message, again in ((fresh, False), (request("a"), level == "may" and stage == "MAIL")):
                peer._script[stage] = [Act.CLOSE, good]
                before = peer.connections, len(peer.handshakes)
                (result,) = await agent.deliver(message)
                assert brief([result])[0][0] == ("relayed" if again else "delayed")
                assert peer.connections - before[0] == 1 + again
                assert len(peer.handshakes) - before[1] == 1
            await agent.close()

    run(work())


def test_extensions_of_before_the_handshake_are_not_used(tmp_path: Path) -> None:
    """RFC 3207 §4.2: SIZE and PIPELINING were offered in plain text only."""

    async def work() -> None:
        bare = b"250 fake.example\r\n"
        async with TlsPeer(server_context(tmp_path, GOOD), {"EHLO": [EHLO, bare]}) as peer:
            agent = agent_for(peer, settings=ENCRYPT)
            assert brief(await agent.deliver(request("a"))) == [("relayed", "2.0.0")]
            await agent.close()
            assert b"MAIL FROM:<s@s.example>\r\n" in peer.lines

    run(work())


def test_many_deliveries_at_once_each_have_their_session(tmp_path: Path) -> None:
    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            own = {**ENCRYPT, "smtp_tls_session_cache_database": "x:y", "smtp_tls_loglevel": "1"}
            agent = agent_for(peer, settings=own)
            results = await asyncio.gather(*(agent.deliver(request(f"r{at}")) for at in range(30)))
            assert [brief(each) for each in results] == [[("relayed", "2.0.0")]] * 30
            await agent.close()
            assert len(peer.contents) == 30

    run(work())
