"""receive.session: what the server decides, seen from a client's side of a loopback connection."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from pathlib import Path

import pytest

from ekiden.message.content import InlineContent
from ekiden.net.outbox import Outbox
from ekiden.observe.events import Connected, ConnectionLost, Note
from ekiden.queue.store import StoreTrouble
from ekiden.receive.connection import Connection, DeadlineWatch
from ekiden.receive.session import SmtpSession
from support.honours import honours
from support.smtp_session import Talk, World, play


def test_a_message_is_queued_with_its_trace() -> None:
    async def talk(client: Talk) -> None:
        assert (await client.reply()).startswith("220 mx.here.example ESMTP")
        assert "250-PIPELINING" in await client.say("EHLO client.example")
        assert await client.envelope("u@here.example") == ["250 2.1.5 Ok"]
        assert (await client.say("DATA")).startswith("354 ")
        assert await client.say("Message-ID: <1@x>\r\n\r\nHello\r\n.") == "250 2.0.0 Ok: queued as Q0"
        assert await client.say("QUIT") == "221 2.0.0 Bye"

    world = play(World(), talk)
    (message,) = world.queued
    assert message.message_id == "<1@x>"
    assert str(message.envelope.sender) == "a@b.example"
    assert [str(pending.recipient.address) for pending in message.pending] == ["u@here.example"]
    assert isinstance(message.content, InlineContent)
    assert message.content.data.startswith(b"Received: from client.example (unknown [127.0.0.1])\r\n")
    assert message.content.data.endswith(b"\r\nMessage-ID: <1@x>\r\n\r\nHello\r\n")
    assert not world.writers[0].discarded


@pytest.mark.parametrize(
    "probe", ["MAIL FROM: test@example.com", "MAIL FROM:<test@example.com>", "MAIL FROM:test@example.com"]
)
def test_the_textbook_probe_is_told_that_relaying_is_denied(probe: str) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        await client.say("EHLO test")
        assert (await client.say(probe)).startswith("250 ")
        answer = await client.say("RCPT TO: test@external.com")
        assert answer == "554 5.7.1 <test@external.com>: Relay access denied"
        assert (await client.say("DATA")).startswith("554 5.5.1")

    world = play(World(), talk)
    assert world.rejections()[0] == "relay-denied"


@honours("mynetworks")
def test_mynetworks_may_relay() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert await client.envelope("x@elsewhere.example") == ["250 2.1.5 Ok"]

    play(World(mynetworks="127.0.0.0/8"), talk)


def test_unknown_users_and_broken_tables() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        answers = await client.envelope("nobody@here.example", "trouble@here.example", "u@here.example")
        assert [answer[:9] for answer in answers] == ["550 5.1.1", "451 4.3.0", "250 2.1.5"]

    assert play(World(), talk).rejections() == ["unknown-user", "table-trouble"]


def test_data_behind_refused_recipients_is_no_refusal_of_its_own() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert (await client.envelope("nobody@here.example"))[0].startswith("550 5.1.1 ")
        assert await client.say("DATA") == "554 5.5.1 Error: no valid recipients"
        assert (await client.say("MAIL FROM:<b@b.example>")).startswith("503 5.5.1 ")

    assert play(World(), talk).rejections() == ["unknown-user", "bad-sequence"]


@honours("smtpd_recipient_limit")
def test_the_recipient_limit_refuses_softly() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        answers = await client.envelope(*(f"u{at}@here.example" for at in range(4)))
        assert [answer[:3] for answer in answers] == ["250", "250", "452", "452"]

    play(World(smtpd_recipient_limit="2"), talk)


@honours("smtpd_soft_error_limit", "smtpd_hard_error_limit")
def test_errors_are_slowed_down_and_then_end_the_session() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        answers = [await client.say("WRONG") for _ in range(5)]
        assert [answer[:3] for answer in answers] == ["500"] * 4 + ["421"]
        assert await client.reader.read() == b""

    world = play(World(smtpd_soft_error_limit="2", smtpd_hard_error_limit="5"), talk)
    assert world.clock.slept == [1.0, 1.0]


@honours("smtpd_junk_command_limit")
def test_junk_commands_end_the_session() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        answers = [await client.say("NOOP") for _ in range(4)]
        assert [answer[:3] for answer in answers] == ["250", "250", "250", "421"]

    play(World(smtpd_junk_command_limit="4"), talk)


def test_a_full_disk_is_said_at_mail() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        assert (await client.say("MAIL FROM:<a@b.example>")) == "452 4.3.1 Insufficient system storage"

    world = World()
    world.space = False
    play(world, talk)


def test_a_disk_that_fills_during_content_is_said_at_its_end() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert await client.say("A: b\r\n\r\n" + "x" * 5000 + "\r\n.") == "452 4.3.1 Insufficient system storage"
        assert (await client.say("NOOP")).startswith("250")

    world = World()
    world.full_after = 1000
    play(world, talk)
    assert world.queued == []
    assert world.writers[0].discarded


def test_a_queue_that_cannot_write_refuses_for_now_and_keeps_nothing() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert (await client.say("A: b\r\n\r\n.")).startswith("451 4.3.0")

    world = World()
    world.trouble = StoreTrouble("I/O error")
    play(world, talk)
    assert world.writers[0].discarded


@honours("hopcount_limit")
def test_too_many_hops() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert (await client.say("Received: x\r\n" * 6 + "\r\n.")).startswith("554 5.4.6")

    assert play(World(hopcount_limit="5"), talk).queued == []


def test_a_header_that_is_too_long() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert (await client.say("X-A: b\r\n" * 500 + "\r\n.")).startswith("552 5.3.4")
        assert (await client.say("NOOP")).startswith("250")

    assert play(World(header_block_limit="1000"), talk).queued == []


def test_aliases_are_expanded_before_the_queue() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("all@here.example")
        await client.say("DATA")
        assert (await client.say("A: b\r\n\r\n.")).startswith("250")

    world = play(World(virtual_alias_maps="inline:{ {all@here.example = x@y.example, z@y.example} }"), talk)
    assert [str(pending.recipient.address) for pending in world.queued[0].pending] == ["x@y.example", "z@y.example"]


@honours("smtpd_timeout")
@pytest.mark.parametrize("opening", ["", "EHLO x\r\n", "EHLO x\r\nMAIL FROM:<a@b.example>\r\n"])
def test_a_silent_client_is_dropped_in_every_state(opening: str) -> None:
    async def talk(client: Talk) -> None:
        await client.reply()
        client.writer.write(opening.encode())
        rest = await client.reader.read()
        assert rest.endswith(b"421 4.4.2 mx.here.example Error: timeout exceeded\r\n")

    world = play(World(smtpd_timeout="1s", smtpd_forbid_unauth_pipelining="no"), talk, watch_interval_s=0.1)
    assert [event.problem for event in world.events if isinstance(event, ConnectionLost)] == ["timeout"]


@honours("smtpd_per_request_deadline")
def test_a_command_that_drips_gets_no_more_time() -> None:
    async def talk(client: Talk) -> None:
        await client.reply()

        async def drip() -> None:
            while True:
                client.writer.write(b"N")
                await client.writer.drain()
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        # Only its line: what drips into the closed connection may reset it.
        assert (await client.reader.readline()).startswith(b"421 4.4.2 ")
        dripping.cancel()

    play(World(smtpd_timeout="1s", smtpd_per_request_deadline="yes"), talk, watch_interval_s=0.1)


def test_a_client_that_vanishes_leaves_nothing_behind() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        client.writer.write(b"A: b\r\n\r\nhalf of")

    world = play(World(), talk)
    assert world.queued == []
    assert world.writers[0].discarded
    assert world.service.sessions == 0


@honours("smtpd_client_connection_count_limit")
def test_connections_of_one_client_are_counted() -> None:
    async def talk(client: Talk) -> None:
        assert (await client.reply()).startswith("421 4.7.0 mx.here.example Error: too many connections from 127.0.0.1")

    world = World(smtpd_client_connection_count_limit="1")
    asyncio.run(world.service.counts.connect("127.0.0.1"))
    play(world, talk)


@honours("refuse_load_average_limit")
@pytest.mark.parametrize(("load", "answer"), [(17.9, "220 "), (18.0, "421 4.3.2 mx.here.example Error: load too high")])
def test_under_load_clients_are_told_to_come_back(load: float, answer: str) -> None:
    async def talk(client: Talk) -> None:
        assert (await client.reply()).startswith(answer)
        client.writer.write(b"QUIT\r\n")

    world = World(refuse_load_average_limit="18")
    world.service.load = lambda: load
    play(world, talk)


def test_a_pipelined_burst_is_answered_in_one_piece() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        client.writer.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@here.example>\r\nDATA\r\n")
        answers = await client.reader.readuntil(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        assert answers.count(b"\r\n") == 3
        client.writer.write(b"A: b\r\n\r\n.\r\nQUIT\r\n")
        assert (await client.reader.read()).endswith(b"221 2.0.0 Bye\r\n")

    assert len(play(World(), talk).queued) == 1


def test_a_bug_costs_the_session_a_421_and_is_logged() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert await client.say("A: b\r\n\r\n.") == "421 4.3.0 mx.here.example Error: internal error"
        assert await client.reader.read() == b""

    world = World()
    world.trouble = ZeroDivisionError("a bug")
    play(world, talk)
    assert [event.text for event in world.events if isinstance(event, Note)] == [
        "internal error after END-OF-MESSAGE: ZeroDivisionError: a bug"
    ]
    assert world.service.sessions == 0


@pytest.mark.parametrize("mynetworks", ["cidr:{ {127.0.0.0/8 ok} }", "inline:{ 127.0.0.1=ok }", "!10.0.0.0/8 static:x"])
def test_trusted_clients_may_be_listed_in_tables(mynetworks: str) -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.say("MAIL FROM:<a@b.example>")
        assert (await client.say("RCPT TO:<test@external.com>")).startswith("250")

    play(World(mynetworks=mynetworks), talk)


@pytest.mark.parametrize("name", ["mynetworks", "smtpd_client_event_limit_exceptions"])
def test_who_cannot_be_looked_up_is_asked_to_come_back(name: str) -> None:
    async def talk(client: Talk) -> None:
        assert (await client.reply()) == "421 4.3.0 mx.here.example Error: temporary lookup failure"

    assert play(World(**{name: "fail:x"}), talk).rejections() == ["table-trouble"]


def test_clients_in_a_table_may_end_lines_badly() -> None:
    async def talk(client: Talk) -> None:
        await client.hello()
        await client.envelope("u@here.example")
        await client.say("DATA")
        assert (await client.say("A: b\r\n\r\nbare\nnewline\r\n.")).startswith("250")

    table = "inline:{127.0.0.1=x}"
    world = play(World(smtpd_forbid_bare_newline="reject", smtpd_forbid_bare_newline_exclusions=table), talk)
    assert len(world.queued) == 1


@pytest.mark.parametrize("named", [False, True])
def test_a_client_of_this_host_is_at_the_loopback_address_whatever_its_socket_is_called(
    tmp_path: Path, *, named: bool
) -> None:
    world = World()

    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        watch = DeadlineWatch(loop)
        path = str(tmp_path / "smtpd")
        server = await loop.create_unix_server(
            lambda: Connection(partial(SmtpSession, world.service), watch, Outbox(), loop), path
        )
        with socket.socket(socket.AF_UNIX) as sock:
            if named:
                sock.bind(str(tmp_path / "192.0.2.1"))
            sock.connect(path)
            sock.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=sock)
            writer.write(b"QUIT\r\n")
            said = await reader.read()
            writer.close()
        server.close()
        watch.close()
        return said

    assert asyncio.run(run()).endswith(b"221 2.0.0 Bye\r\n")
    (connected,) = [event for event in world.events if isinstance(event, Connected)]
    assert str(connected.client) == "unknown[127.0.0.1]"
