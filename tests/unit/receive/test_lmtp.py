"""An LMTP service (RFC 2033): what a session of it says, counts and logs."""

from __future__ import annotations

from ekiden.message.content import InlineContent
from ekiden.observe.events import Accepting, Connected, Disconnected, Rejected
from ekiden.queue.store import StoreTrouble
from support.smtp_session import Talk, World, play

MESSAGE = "Subject: x\r\n\r\nHello\r\n."


def test_a_message_for_several_recipients() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        answer = await client.say("LHLO client.example")
        # RFC 2033 §5: a server must have these two, and should have the third.
        assert {"250-PIPELINING", "250-ENHANCEDSTATUSCODES", "8BITMIME"} <= {
            line if line.startswith("250-P") or line.startswith("250-E") else line[4:] for line in answer.split("\n")
        }
        answers = await client.envelope("u@here.example", "nobody@here.example", "v@here.example")
        assert [answer[:3] for answer in answers] == ["250", "550", "250"]
        await client.say("DATA")
        assert await client.say(MESSAGE) == "250 2.0.0 Ok: queued as Q0"
        assert await client.reply() == "250 2.0.0 Ok: queued as Q0"
        assert (await client.say("QUIT")).startswith("221 ")

    world = play(World(None, "lmtpd"), talk)
    assert [len(message.envelope.recipients) for message in world.queued] == [2]
    content = world.queued[0].content
    assert isinstance(content, InlineContent)
    assert b" with LMTP id Q0" in content.data
    named = [event for event in world.events if isinstance(event, Accepting | Connected | Disconnected | Rejected)]
    assert {event.service for event in named} == {"lmtpd"}
    assert len(named) == 4
    counts = next(event.commands for event in named if isinstance(event, Disconnected))
    assert counts["LHLO"] == (1, 1)


def test_a_message_that_the_queue_cannot_take() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        await client.say("LHLO client.example")
        await client.envelope("u@here.example", "v@here.example")
        await client.say("DATA")
        assert (await client.say(MESSAGE)).startswith("452 4.3.1 ")
        assert (await client.reply()).startswith("452 4.3.1 ")
        assert (await client.say("NOOP")).startswith("250 ")

    world = World(None, "lmtpd")
    world.trouble = StoreTrouble("full", full=True)
    play(world, talk)
    assert not world.queued


def test_no_message_without_recipients() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        await client.say("LHLO client.example")
        await client.envelope("nobody@here.example")
        assert await client.say("DATA") == "503 5.5.1 Error: no valid recipients"
        assert (await client.say("EHLO client.example")).startswith("500 5.5.2 ")

    world = play(World(None, "lmtpd"), talk)
    assert [event.stage for event in world.events if isinstance(event, Rejected)] == ["RCPT", "EHLO"]
