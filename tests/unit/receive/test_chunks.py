"""BDAT in a session: what is queued, what is refused and when, and how long a client may take."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.message.content import InlineContent
from ekiden.message.envelope import BodyType
from ekiden.observe.events import ConnectionLost, Disconnected
from ekiden.queue.store import StoreTrouble
from support.honours import honours
from support.smtp_session import Talk, World, play


async def chunk(client: Talk, data: str, *, last: bool = False) -> str:
    client.writer.write(f"BDAT {len(data)}{' LAST' if last else ''}\r\n{data}".encode())
    return await client.reply()


def content(world: World) -> bytes:
    (message,) = world.queued
    assert isinstance(message.content, InlineContent)
    return message.content.data


def test_a_message_in_chunks_is_queued_with_its_trace() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        assert await chunk(client, "Message-ID: <1@x>\r") == "250 2.0.0 Ok: 18 octets"
        assert await chunk(client, "\n\r\n.\r\n") == "250 2.0.0 Ok: 6 octets"
        assert await chunk(client, "", last=True) == "250 2.0.0 Ok: queued as Q0"
        assert await client.say("QUIT") == "221 2.0.0 Bye"

    world = play(World(), talk)
    assert world.queued[0].message_id == "<1@x>"
    assert content(world).startswith(b"Received: from client.example (unknown [127.0.0.1])\r\n")
    assert b" with ESMTP id Q0\r\n" in content(world)
    assert content(world).endswith(b"\r\nMessage-ID: <1@x>\r\n\r\n.\r\n")
    (end,) = [event for event in world.events if isinstance(event, Disconnected)]
    assert end.commands["BDAT"] == (3, 3)


def test_binary_content_is_kept_as_it_is() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.say("MAIL FROM:<a@b.example> BODY=BINARYMIME")
        await client.say("RCPT TO:<u@here.example>")
        assert (await client.say("DATA")).startswith("503 5.5.1 ")
        assert (await chunk(client, "a: b\r\n\r\n\n\r\0\n.", last=True)).startswith("250 ")

    world = play(World(), talk)
    assert world.queued[0].envelope.body is BodyType.BINARY_MIME
    assert content(world).endswith(b"\r\na: b\r\n\r\n\n\r\0\n.")


def test_what_is_wrong_with_the_content_is_said_at_the_chunk_and_once() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        assert (await chunk(client, "a: " + "b" * 500)).startswith("250 ")
        assert (await chunk(client, "b" * 1000)).startswith("552 5.3.4 Message header size")
        assert (await chunk(client, "QUIT\r\n")).startswith("503 5.5.1 ")
        assert (await chunk(client, "QUIT\r\n", last=True)).startswith("503 5.5.1 ")
        await client.envelope("u@here.example")
        assert (await chunk(client, "a: b\r\n\r\n", last=True)).startswith("250 ")

    world = play(World(header_block_limit="1000"), talk)
    assert world.rejections() == ["header-too-long", "after-refused-chunk", "after-refused-chunk"]
    assert world.writers[0].discarded


@pytest.mark.parametrize("trouble", [StoreTrouble("no space", full=True), StoreTrouble("torn")])
def test_a_queue_in_trouble_is_told_at_the_last_chunk(trouble: StoreTrouble) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        assert (await chunk(client, "a: b\r\n\r\n", last=True)).startswith("452 4.3.1" if trouble.full else "451 4.3.0")
        await client.envelope("u@here.example")

    world = World()
    world.trouble = trouble
    play(world, talk)
    assert not world.queued


def test_a_disk_that_fills_up_in_the_middle() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        assert (await chunk(client, "a: b\r\n\r\n" + "x" * 5000)).startswith("452 4.3.1 ")
        assert (await chunk(client, "QUIT\r\n", last=True)).startswith("503 5.5.1 ")

    world = World()
    world.full_after = 1000
    play(world, talk)


def test_a_client_that_goes_away_in_a_chunk_leaves_nothing() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        client.writer.write(b"BDAT 1000 LAST\r\na: b\r\n\r\n")
        await client.writer.drain()

    world = play(World(), talk)
    assert not world.queued
    assert world.writers[0].discarded


@honours("smtpd_timeout", "smtpd_min_data_rate")
@pytest.mark.parametrize("before", ["", "MAIL FROM:<a@b.example>\r\nRCPT TO:<u@here.example>\r\n"])
def test_who_stops_in_the_middle_of_a_chunk_is_dropped(before: str) -> None:
    """Also in a chunk that is only read to be let go."""

    async def talk(client: Talk) -> None:
        await client.hello()
        client.writer.write(before.encode() + b"BDAT 1000000 LAST\r\nx")
        for _ in range(before.count("\r\n")):
            await client.reply()
        assert (await client.reply()).startswith("421 4.4.2 ")

    world = play(World(smtpd_timeout="1s"), talk, watch_interval_s=0.05)
    assert any(isinstance(event, ConnectionLost) for event in world.events)


def test_who_drips_octets_is_dropped_though_it_never_stops() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        client.writer.write(b"BDAT 100000 LAST\r\n")
        answer = asyncio.ensure_future(client.reply())
        while not answer.done():
            client.writer.write(b"x")
            await asyncio.wait({answer}, timeout=0.02)
        assert (await answer).startswith("421 4.4.2 ")

    play(World(smtpd_timeout="1s", smtpd_min_data_rate="1000"), talk, watch_interval_s=0.05)


def test_a_refused_chunk_over_the_limit_ends_the_session() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        client.writer.write(b"BDAT 1001\r\n")
        assert (await client.reply()).startswith("503 5.5.1 ")
        assert await client.reader.read() == b""

    play(World(smtpd_refused_chunk_limit="1000"), talk)


@honours("smtpd_discard_ehlo_keywords")
def test_without_chunking_there_is_no_binary_mime_either() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        answer = await client.say("EHLO client.example")
        assert "CHUNKING" not in answer
        assert "BINARYMIME" not in answer
        assert (await client.say("MAIL FROM:<a@b.example> BODY=BINARYMIME")).startswith("555 5.5.4 ")
        await client.envelope("u@here.example")
        assert (await chunk(client, "QUIT\r\n", last=True)).startswith("502 5.5.1 ")
        assert (await client.say("DATA")).startswith("354 ")
        assert (await client.say("x\r\n.")).startswith("250 ")

    play(World(smtpd_discard_ehlo_keywords="chunking"), talk)


@honours("smtpd_forbid_bare_newline")
@pytest.mark.parametrize(
    ("wanted", "answer"), [("reject", "550 5.5.2 "), ("normalize", "250 2.0.0 "), ("no", "250 2.0.0 ")]
)
def test_bare_newlines_in_chunks(wanted: str, answer: str) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        assert (await chunk(client, "a: b\n\nx\n", last=True)).startswith(answer)

    world = play(World(smtpd_forbid_bare_newline=wanted), talk)
    if wanted != "reject":
        assert content(world).endswith(b"a: b\r\n\r\nx\r\n")
