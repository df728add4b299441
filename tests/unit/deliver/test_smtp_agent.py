"""The smtp agent against peers that say everything a peer may say: what becomes of each recipient."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.smtp import SmtpAgent
from ekiden.message.address import Address
from ekiden.message.content import FileContent
from ekiden.message.delivery import Action, DeliveryResult, deferred, failed
from ekiden.message.envelope import BodyType
from ekiden.message.host import Host
from ekiden.message.status import Status
from support.fake_clock import FakeClock
from support.fake_peer import PLAIN, Act, Answer, FakePeer
from support.honours import honours
from support.running import free_port
from support.smtp_delivery import Notes, agent_for, brief, request, run, until


async def one(
    script: dict[str, Answer | list[Answer]], *names: str, **settings: str
) -> tuple[list[DeliveryResult], FakePeer]:
    async with FakePeer(script) as peer:
        agent = agent_for(peer, settings=settings)
        try:
            return list(await agent.deliver(request(*names or ("a",)))), peer
        finally:
            await agent.close()


def test_a_message_arrives_whole_and_the_result_says_where() -> None:
    async def work() -> None:
        (result,), peer = await one({})
        assert result.action is Action.RELAYED
        assert result.text == "250 2.0.0 Ok: queued as F00"
        assert result.relay == f"fake.example[127.0.0.1]:{peer.port}"
        assert (result.diagnostic, result.remote_mta) == ("smtp; 250 2.0.0 Ok: queued as F00", "dns; fake.example")
        assert result.connect_s > 0
        assert result.transmit_s > 0
        assert peer.contents == [b"Subject: x\r\n\r\n..hidden dot\r\n.\r\n"]
        assert peer.lines[:4] == [
            b"EHLO me.example\r\n",
            b"MAIL FROM:<s@s.example> SIZE=27\r\n",
            b"RCPT TO:<a@d.example>\r\n",
            b"DATA\r\n",
        ]

    run(work())


@pytest.mark.parametrize("ehlo", [None, PLAIN])
def test_each_recipient_has_its_own_result(ehlo: bytes | None) -> None:
    async def work() -> None:
        answers: list[Answer] = [b"250 Ok\r\n", b"550 5.1.1 <b@d.example>: no\r\n", b"450 4.2.1 later\r\n"]
        script: dict[str, Answer | list[Answer]] = {"RCPT": answers}
        if ehlo is not None:
            script["EHLO"] = ehlo
        results, peer = await one(script, "a", "b", "c")
        assert brief(results) == [("relayed", "2.0.0"), ("failed", "5.1.1"), ("delayed", "4.2.1")]
        assert results[1].text == (
            "host fake.example[127.0.0.1] said: 550 5.1.1 <b@d.example>: no (in reply to RCPT TO command)"
        )
        assert results[1].diagnostic == "smtp; 550 5.1.1 <b@d.example>: no"
        assert len(peer.contents) == 1

    run(work())


def test_a_server_that_knows_helo_only_gets_the_message_too() -> None:
    async def work() -> None:
        results, peer = await one({"EHLO": b"502 what?\r\n"}, "a", "b")
        assert brief(results) == [("relayed", "2.0.0")] * 2
        assert peer.verbs[:6] == ["EHLO", "HELO", "MAIL", "RCPT", "RCPT", "DATA"]

    run(work())


AT_EVERY_STAGE = ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"]
WHILE = {
    "GREETING": "receiving the initial server greeting",
    "EHLO": "performing the EHLO handshake",
    "MAIL": "sending MAIL FROM",
    "RCPT": "sending RCPT TO",
    "DATA": "sending DATA command",
    "DOT": "sending end of data -- message may be sent more than once",
}


@honours("smtp_discard_ehlo_keywords")
@pytest.mark.parametrize("stage", AT_EVERY_STAGE)
@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
@pytest.mark.parametrize("keyword", ["", "pipelining"])
def test_a_lost_connection_defers(stage: str, act: Act, keyword: str) -> None:
    async def work() -> None:
        (result,), peer = await one({stage: act}, smtp_discard_ehlo_keywords=keyword)
        assert brief([result]) == [("delayed", "4.4.2")]
        assert result.text == f"lost connection with fake.example[127.0.0.1] while {WHILE[stage]}"
        assert peer.connections == 1

    run(work())


@pytest.mark.parametrize("stage", AT_EVERY_STAGE)
def test_421_at_every_stage_defers(stage: str) -> None:
    async def work() -> None:
        (result,), _ = await one({stage: (b"421 4.3.2 closing\r\n", Act.CLOSE)})
        assert brief([result]) == [("delayed", "4.3.2")]
        assert "421 4.3.2 closing" in result.text

    run(work())


STAGE_TIMEOUT = {
    "GREETING": "smtp_helo_timeout",
    "EHLO": "smtp_helo_timeout",
    "MAIL": "smtp_mail_timeout",
    "RCPT": "smtp_rcpt_timeout",
    "DATA": "smtp_data_init_timeout",
    "DOT": "smtp_data_done_timeout",
}


@honours(
    "smtp_helo_timeout",
    "smtp_mail_timeout",
    "smtp_rcpt_timeout",
    "smtp_data_init_timeout",
    "smtp_data_done_timeout",
)
@pytest.mark.parametrize("stage", AT_EVERY_STAGE)
def test_a_peer_that_stalls_is_left_after_the_time_of_its_stage(stage: str) -> None:
    async def work() -> None:
        (result,), _ = await one({stage: Act.STALL}, **{STAGE_TIMEOUT[stage]: "1s"})
        assert brief([result]) == [("delayed", "4.4.2")]
        assert result.text == f"conversation with fake.example[127.0.0.1] timed out while {WHILE[stage]}"

    run(work())


def test_a_peer_that_drips_one_reply_has_the_time_of_one_reply() -> None:
    async def work() -> None:
        left = asyncio.Event()

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220-")
            while not reader.at_eof():
                writer.write(b"x")  # each byte in time, the reply as a whole never
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(reader.read(1), 0.02)
            writer.close()
            left.set()

        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        host = Host("slow.example", "127.0.0.1", server.sockets[0].getsockname()[1])
        agent = agent_for(host, settings={"smtp_helo_timeout": "1s"})
        (result,) = await agent.deliver(request("a"))
        assert "timed out" in result.text
        await agent.close()
        await left.wait()
        server.close()
        await server.wait_closed()

    run(work())


@pytest.mark.parametrize("stage", AT_EVERY_STAGE)
@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello?\r\n",
        b"\x00\xff\xfe\r\n",
        b"250-yes\r\n550 no\r\n",
        b"250-" + b"x" * 1_000_000,
        b"250-x\r\n" * 150_000,
    ],
)
def test_nonsense_defers_and_is_bounded(stage: str, nonsense: bytes) -> None:
    async def work() -> None:
        (result,), _ = await one({stage: (nonsense, Act.STALL)})
        assert brief([result]) == [("delayed", "4.5.0")]
        assert len(result.text) < 400
        assert result.text.isprintable()

    run(work())


def test_mail_refused_fails_all_and_tells_which_command() -> None:
    async def work() -> None:
        results, _ = await one({"MAIL": b"550 5.7.1 not you\r\n"}, "a", "b")
        assert brief(results) == [("failed", "5.7.1")] * 2
        assert results[0].text.endswith("550 5.7.1 not you (in reply to MAIL FROM command)")

    run(work())


@pytest.mark.parametrize(
    ("stage", "reply", "expected"),
    [
        ("DATA", b"451 4.3.0 later\r\n", ("delayed", "4.3.0")),
        ("DATA", b"554 no\r\n", ("failed", "5.0.0")),
        ("DOT", b"554 5.6.0 bad content\r\n", ("failed", "5.6.0")),
        ("DOT", b"452 4.3.1 full\r\n", ("delayed", "4.3.1")),
        ("DOT", b"550 5.7.2\r\n", ("failed", "5.7.2")),
        ("DOT", b"550 2.0.0 liar\r\n", ("failed", "5.0.0")),
        ("RCPT", b"250 5.1.1 liar\r\n", ("relayed", "2.0.0")),
    ],
)
def test_a_reply_decides_by_its_code(stage: str, reply: bytes, expected: tuple[str, str]) -> None:
    async def work() -> None:
        results, _ = await one({stage: reply})
        assert brief(results) == [expected]

    run(work())


def test_all_recipients_refused_sends_no_content() -> None:
    async def work() -> None:
        results, peer = await one({"RCPT": b"550 5.1.1 no\r\n", "DATA": b"354 go\r\n"}, "a", "b")
        assert brief(results) == [("failed", "5.1.1")] * 2
        assert peer.contents == [b".\r\n"]  # RFC 2920 §3.1: DATA went out with the burst

    run(work())


# -- more than one server --


async def two(
    first: dict[str, Answer | list[Answer]], *names: str, **settings: str
) -> tuple[list[tuple[str, str]], FakePeer, FakePeer]:
    async with FakePeer(first, name="mx1.example") as one, FakePeer(name="mx2.example") as other:
        agent = agent_for(one, other, settings=settings)
        results = await agent.deliver(request(*names or ("a",)))
        await agent.close()
        return brief(results), one, other


@pytest.mark.parametrize("answer", [Act.CLOSE, b"421 busy\r\n", b"554 go away\r\n", b"oops\r\n"])
def test_the_next_server_takes_what_the_first_does_not_greet(answer: Answer) -> None:
    async def work() -> None:
        results, _, other = await two({"GREETING": answer})
        assert results == [("relayed", "2.0.0")]
        assert len(other.contents) == 1

    run(work())


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", [Act.CLOSE, b"451 4.3.0 later\r\n", b"oops\r\n", (b"421 bye\r\n", Act.CLOSE)])
def test_the_next_server_takes_what_the_first_did_not_decide(stage: str, answer: Answer) -> None:
    async def work() -> None:
        results, one, other = await two({stage: answer})
        assert results == [("relayed", "2.0.0")]
        assert [content for content in one.contents if content != b".\r\n"] == []
        assert len(other.contents) == 1

    run(work())


def test_only_recipients_put_off_go_to_the_next_server() -> None:
    async def work() -> None:
        rcpt: list[Answer] = [b"250 Ok\r\n", b"550 5.1.1 no\r\n", b"450 4.2.1 later\r\n"]
        results, _, other = await two({"RCPT": rcpt}, "a", "b", "c")
        assert results == [("relayed", "2.0.0"), ("failed", "5.1.1"), ("relayed", "2.0.0")]
        assert [line for line in other.lines if line.startswith(b"RCPT")] == [b"RCPT TO:<c@d.example>\r\n"]

    run(work())


@pytest.mark.parametrize("answer", [Act.CLOSE, Act.STALL, b"oops\r\n"])
def test_a_lost_reply_to_the_dot_is_not_tried_at_once_elsewhere(answer: Answer) -> None:
    async def work() -> None:
        results, one, other = await two({"DOT": answer}, smtp_data_done_timeout="1s")
        assert results[0][0] == "delayed"
        assert (len(one.contents), other.connections) == (1, 0)

    run(work())


@honours("smtp_skip_5xx_greeting")
def test_a_5xx_greeting_bounces_only_if_it_shall() -> None:
    async def work() -> None:
        results, _, other = await two({"GREETING": b"554 5.3.2 no\r\n"}, smtp_skip_5xx_greeting="no")
        assert results == [("failed", "5.3.2")]
        assert other.connections == 0
        (result,), _ = await one({"GREETING": b"554 5.3.2 no\r\n"})
        assert brief([result]) == [("delayed", "4.3.2")]
        assert result.text == "host fake.example[127.0.0.1] refused to talk to me: 554 5.3.2 no"

    run(work())


@honours("smtp_mx_address_limit", "smtp_mx_session_limit")
def test_sessions_and_addresses_are_limited() -> None:
    async def work() -> None:
        later: dict[str, Answer | list[Answer]] = {"MAIL": b"451 4.3.0 later\r\n"}
        async with FakePeer(later) as one, FakePeer(later) as two, FakePeer() as three:
            agent = agent_for(one, two, three)
            assert brief(await agent.deliver(request("a"))) == [("delayed", "4.3.0")]
            assert three.connections == 0
            await agent.close()
            agent = agent_for(one, three, settings={"smtp_mx_address_limit": "1"})
            assert brief(await agent.deliver(request("a"))) == [("delayed", "4.3.0")]
            assert three.connections == 0
            await agent.close()
            agent = agent_for(one, two, three, settings={"smtp_mx_session_limit": "0"})
            assert brief(await agent.deliver(request("a"))) == [("relayed", "2.0.0")]
            await agent.close()

    run(work())


def test_a_server_that_does_not_listen_is_passed_over_and_noted() -> None:
    async def work() -> None:
        notes = Notes()
        dead = Host("dead.example", "127.0.0.1", free_port())
        async with FakePeer() as peer:
            agent = agent_for(dead, peer, notes=notes)
            assert brief(await agent.deliver(request("a"))) == [("relayed", "2.0.0")]
            await agent.close()
        assert notes.texts == [f"connect to {dead}: Connection refused"]
        agent = agent_for(dead)
        (result,) = await agent.deliver(request("a"))
        assert (result.status, result.text, result.relay) == (Status(4, 4, 1), notes.texts[0], "none")
        await agent.close()

    run(work())


@pytest.mark.parametrize("name", ["GREETING", "EHLO"])
def test_mail_that_would_come_back_to_us_is_not_sent(name: str) -> None:
    async def work() -> None:
        ours = b"220 me.example ESMTP\r\n" if name == "GREETING" else b"250 ME.example\r\n"
        async with FakePeer({name: ours}) as us, FakePeer() as other:
            port = str(us.port)
            agent = agent_for(us, settings={"smtp_tcp_port": port})
            (result,) = await agent.deliver(request("a"))
            assert (result.status, result.text) == (Status(5, 4, 6), "mail for d.example loops back to myself")
            await agent.close()
            agent = agent_for(other, us, settings={"smtp_tcp_port": port})
            assert brief(await agent.deliver(request("a"))) == [("relayed", "2.0.0")]
            await agent.close()
            agent = agent_for(us)  # another port than the mail port: a filter may use our name
            assert brief(await agent.deliver(request("a"))) == [("relayed", "2.0.0")]
            await agent.close()

    run(work())


@pytest.mark.parametrize("answer", [failed(Status(5, 1, 2), "no such domain"), deferred(Status(4, 4, 3), "no DNS")])
def test_a_next_hop_that_cannot_be_found_is_the_result(answer: DeliveryResult) -> None:
    async def work() -> None:
        clock = FakeClock()

        async def hosts_for(next_hop: str) -> DeliveryResult:
            await clock.advance(3.0)
            return answer

        agent = SmtpAgent(Parameters(), hosts_for=hosts_for, clock=clock, observer=Notes())
        result = structs.replace(answer, connect_s=3.0)  # the time of the look-up
        assert await agent.deliver(request("a", "b")) == [result, result]
        await agent.close()

    run(work())


# -- what need not be asked --


def test_a_message_too_large_for_the_server_is_not_sent() -> None:
    async def work() -> None:
        (result,), peer = await one({"EHLO": b"250-mx\r\n250 SIZE 20\r\n"})
        assert result.status == Status(5, 3, 4)
        assert result.text == "message size 27 exceeds size limit 20 of server fake.example[127.0.0.1]"
        assert "MAIL" not in peer.verbs

    run(work())


def test_addresses_that_no_command_can_hold_fail_alone() -> None:
    async def work() -> None:
        results, peer = await one({}, "a", "b\r\nRCPT TO:<x@y.example>", "c")
        assert brief(results) == [("relayed", "2.0.0"), ("failed", "5.1.3"), ("relayed", "2.0.0")]
        assert peer.verbs.count("RCPT") == 2
        results, _ = await one({}, "宛先")
        assert brief(results) == [("failed", "5.6.7")]

    run(work())


def test_an_eight_bit_message_says_so() -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            agent = agent_for(peer)
            await agent.deliver(request("a", body=BodyType.EIGHT_BIT_MIME, sender=Address("", "")))
            await agent.close()
            assert peer.lines[1] == b"MAIL FROM:<> SIZE=27 BODY=8BITMIME\r\n"

    run(work())


# -- large content --


def test_large_content_streams_from_its_file(tmp_path: Path) -> None:
    async def work() -> None:
        data = b"".join(b".%07d" % number + b"x" * 70 + b"\r\n" for number in range(40_000))
        path = tmp_path / "content"
        path.write_bytes(data)
        async with FakePeer() as peer:
            agent = agent_for(peer)
            results = await agent.deliver(request("a", content=FileContent(str(path), len(data))))
            assert brief(results) == [("relayed", "2.0.0")]
            assert peer.contents == [data.replace(b"\r\n.", b"\r\n..").replace(b".", b"..", 1) + b".\r\n"]
            await agent.close()

    run(work())


def test_content_that_cannot_be_read_is_never_finished(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "content"
        path.write_bytes(b"half\r\n" * 10)
        async with FakePeer() as peer:
            agent = agent_for(peer)
            results = await agent.deliver(request("a", content=FileContent(str(path), 1_000_000)))
            assert brief(results) == [("delayed", "4.3.0")]
            await agent.close()
            await until(lambda: peer.open == 0)
            assert peer.contents == []

    run(work())


@honours("smtp_data_xfer_timeout")
def test_a_server_that_reads_no_content_is_left(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "content"
        path.write_bytes(b"x" * 70 + b"\r\n")
        with path.open("r+b") as file:
            file.truncate(64 << 20)
        silent, left = asyncio.Event(), asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 deaf\r\n")
            await reader.readline()
            writer.write(b"250 deaf\r\n")
            for answer in (b"250 Ok\r\n", b"250 Ok\r\n", b"354 go\r\n"):
                await reader.readline()
                writer.write(answer)
            await silent.wait()
            writer.close()
            left.set()

        server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1024)
        host = Host("deaf.example", "127.0.0.1", server.sockets[0].getsockname()[1])
        agent = agent_for(host, settings={"smtp_data_xfer_timeout": "1s"})
        (result,) = await agent.deliver(request("a", content=FileContent(str(path), 64 << 20)))
        assert result.text == "conversation with deaf.example[127.0.0.1] timed out while sending message body"
        await agent.close()
        silent.set()
        await left.wait()
        server.close()
        await server.wait_closed()

    run(work())


def test_a_refusal_in_the_middle_of_the_content_is_heard(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "content"
        with path.open("wb") as file:
            file.truncate(64 << 20)
        async with FakePeer({"DATA": (b"354 go\r\n", b"552 5.3.4 too big\r\n", Act.STALL)}) as peer:
            agent = agent_for(peer)
            results = list(await agent.deliver(request("a", content=FileContent(str(path), 64 << 20))))
            await agent.close()
        # The refusal may come so early that it stands where no answer can be yet; it is never taken for acceptance.
        assert results[0].status in (Status(5, 3, 4), Status(4, 5, 0))
        assert peer.contents == []

    run(work())


@pytest.mark.parametrize(
    ("stage", "answer", "expected"),
    [
        ("GREETING", b"220 mx\r\n250 mx\r\n", ("delayed", "4.5.0")),
        ("EHLO", b"250 mx\r\n250 mx\r\n", ("delayed", "4.5.0")),
        ("DATA", b"354 go\r\n250 2.0.0 taken\r\n", ("delayed", "4.5.0")),
        ("DATA", b"354 go\r\n552 5.3.4 too big\r\n", ("failed", "5.3.4")),
    ],
)
def test_two_replies_in_one_segment_are_both_heard_at_once(
    stage: str, answer: bytes, expected: tuple[str, str]
) -> None:
    async def work() -> None:
        results, peer = await one({stage: (answer, Act.STALL)})
        assert brief(results) == [expected]
        assert peer.contents == []

    run(work())


def test_a_cancelled_delivery_ends_its_connection_without_the_dot() -> None:
    async def work() -> None:
        async with FakePeer({"RCPT": Act.STALL}) as peer:
            agent = agent_for(peer)
            delivery = asyncio.create_task(agent.deliver(request("a")))
            await until(lambda: "RCPT" in peer.verbs)
            delivery.cancel()
            with pytest.raises(asyncio.CancelledError):
                await delivery
            await until(lambda: peer.open == 0)
            assert peer.contents == []
            await agent.close()

    run(work())
