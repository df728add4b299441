"""Each parameter of the SMTP client and its LMTP twin: changed, and seen in what goes over the wire or comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.config.errors import ConfigError
from ekiden.config.snapshot import Parameters
from ekiden.deliver.agent import Agent
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.smtp import SmtpAgent
from ekiden.message.content import Content, FileContent, InlineContent
from ekiden.message.delivery import DeliveryResult
from ekiden.message.host import Host
from ekiden.runtime.system_clock import SystemClock
from support.fake_peer import PLAIN, Act, Answer, FakePeer, Script
from support.honours import honours
from support.smtp_delivery import CONTENT, Notes, brief, request, run, until

AGENTS: dict[str, Callable[..., Agent]] = {"smtp": SmtpAgent, "lmtp": LmtpAgent}
Settings = Mapping[str, str]
NONE: Settings = {}
NOTHING_ODD: Script = {}
SENT = [("relayed", "2.0.0")]
LATER: Script = {"MAIL": b"451 4.3.0 later\r\n"}
both = pytest.mark.parametrize("protocol", AGENTS)


def agent_for(
    protocol: str, *peers: FakePeer | Host, settings: Settings = NONE, asked: list[str] | None = None
) -> Agent:
    """``settings`` are named without their prefix."""

    async def hosts_for(next_hop: str) -> Sequence[Host]:
        if asked is not None:
            asked.append(next_hop)
        return [peer.host if isinstance(peer, FakePeer) else peer for peer in peers]

    named = {f"{protocol}_{name}": value for name, value in settings.items()}
    parameters = Parameters({"myhostname": "me.example", **named})
    return AGENTS[protocol](parameters, hosts_for=hosts_for, clock=SystemClock(), observer=Notes())


async def deliver(
    protocol: str, *peers: FakePeer | Host, settings: Settings = NONE, content: Content = CONTENT, times: int = 1
) -> list[DeliveryResult]:
    agent = agent_for(protocol, *peers, settings=settings)
    try:
        return [result for _ in range(times) for result in await agent.deliver(request("a", content=content))]
    finally:
        await agent.close()


def outcome(protocol: str, script: Script = NOTHING_ODD, settings: Settings = NONE) -> tuple[DeliveryResult, FakePeer]:
    """What becomes of one message to one server."""
    found: list[tuple[DeliveryResult, FakePeer]] = []

    async def work() -> None:
        async with FakePeer(script) as peer:
            found.append(((await deliver(protocol, peer, settings=settings))[0], peer))

    run(work())
    return found[0]


@contextlib.asynccontextmanager
async def served_by(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], address: str = "127.0.0.1"
) -> AsyncIterator[Host]:
    """A server whose sessions are ``serve``; each connection is closed when that returns."""
    sessions: list[asyncio.Task[None]] = []

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        sessions.append(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(session, address, 0, limit=1024)
    try:
        yield Host("x.example", address, server.sockets[0].getsockname()[1])
        await asyncio.gather(*sessions)
    finally:
        server.close()
        await server.wait_closed()


# -- who we say we are --


@honours("smtp_helo_name", "lmtp_lhlo_name")
@pytest.mark.parametrize(("protocol", "name"), [("smtp", "helo_name"), ("lmtp", "lhlo_name")])
def test_the_name_in_the_greeting(protocol: str, name: str) -> None:
    _, peer = outcome(protocol, settings={name: "other.example"})
    assert peer.lines[0].endswith(b"LO other.example\r\n")
    _, peer = outcome(protocol)
    assert peer.lines[0].endswith(b"LO me.example\r\n")


@honours("smtp_always_send_ehlo", "smtp_never_send_ehlo")
@pytest.mark.parametrize(
    ("greeting", "settings", "verb"),
    [
        (b"220 old.example\r\n", {}, "EHLO"),
        (b"220 old.example\r\n", {"always_send_ehlo": "no"}, "HELO"),
        (b"220 new.example ESMTP\r\n", {"always_send_ehlo": "no"}, "EHLO"),
        (b"220 new.example ESMTP\r\n", {"never_send_ehlo": "yes"}, "HELO"),
    ],
)
def test_ehlo_or_helo(greeting: bytes, settings: dict[str, str], verb: str) -> None:
    result, peer = outcome("smtp", {"GREETING": greeting}, settings=settings)
    assert brief([result]) == SENT
    assert peer.verbs[0] == verb


@honours("smtp_discard_ehlo_keywords", "lmtp_discard_lhlo_keywords")
@pytest.mark.parametrize(("protocol", "name"), [("smtp", "discard_ehlo_keywords"), ("lmtp", "discard_lhlo_keywords")])
def test_extensions_that_are_not_used(protocol: str, name: str) -> None:
    _, peer = outcome(protocol)
    assert b" SIZE=27\r\n" in peer.lines[1]
    _, peer = outcome(protocol, settings={name: "Size, pipelining"})
    assert peer.lines[1] == b"MAIL FROM:<s@s.example>\r\n"


@honours("smtp_bind_address", "smtp_bind_address6", "lmtp_bind_address", "lmtp_bind_address6")
@honours("smtp_bind_address_enforce", "lmtp_bind_address_enforce")
@pytest.mark.parametrize(
    ("protocol", "name", "server", "local"),
    [
        ("smtp", "bind_address", "127.0.0.1", "127.0.0.9"),
        ("lmtp", "bind_address", "127.0.0.1", "127.0.0.9"),
        # ::1 is the one address that every IPv6 loopback has: what cannot be bound is seen as a failure.
        ("smtp", "bind_address6", "::1", "::1"),
        ("lmtp", "bind_address6", "::1", "::1"),
    ],
)
def test_the_address_that_connections_come_from(protocol: str, name: str, server: str, local: str) -> None:
    seen: list[str] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        writer.write(b"421 busy\r\n")

    async def work() -> None:
        async with served_by(greet, server) as host:
            await deliver(protocol, host, settings={name: local})
            assert seen == [local]
            elsewhere = {"bind_address": "192.0.2.1", "bind_address6": "2001:db8::1"}[name]
            settings = {name: elsewhere, "bind_address_enforce": "yes"}
            (result,) = await deliver(protocol, host, settings=settings)
            assert result.text.endswith("Cannot assign requested address")
            assert seen == [local]

    run(work())


@honours("lmtp_tcp_port")
def test_the_port_of_a_next_hop_without_one() -> None:
    async def work() -> None:
        asked: list[str] = []
        async with FakePeer() as peer:
            agent = agent_for("lmtp", peer, asked=asked, settings={"tcp_port": str(peer.port)})
            (result,) = await agent.deliver(structs.replace(request("a"), next_hop="inet:127.0.0.1"))
            assert result.relay == f"127.0.0.1[127.0.0.1]:{peer.port}"
            assert asked == []
            await agent.close()

    run(work())


# -- which servers are tried --


@honours("smtp_mx_address_limit", "smtp_mx_session_limit", "lmtp_mx_address_limit", "lmtp_mx_session_limit")
@both
@pytest.mark.parametrize(
    ("settings", "sessions"),
    [
        ({}, [1, 1, 0, 0]),
        ({"mx_session_limit": "3"}, [1, 1, 1, 0]),
        ({"mx_session_limit": "0"}, [1, 1, 1, 1]),
        ({"mx_session_limit": "0", "mx_address_limit": "1"}, [1, 0, 0, 0]),
    ],
)
def test_how_many_servers_one_attempt_asks(protocol: str, settings: dict[str, str], sessions: list[int]) -> None:
    async def work() -> None:
        async with FakePeer(LATER) as one, FakePeer(LATER) as two, FakePeer(LATER) as three, FakePeer(LATER) as four:
            peers = (one, two, three, four)
            assert brief(await deliver(protocol, *peers, settings=settings)) == [("delayed", "4.3.0")]
            assert [peer.connections for peer in peers] == sessions

    run(work())


@honours("smtp_skip_5xx_greeting", "lmtp_skip_5xx_greeting")
@both
@pytest.mark.parametrize(("skip", "expected"), [("yes", SENT), ("no", [("failed", "5.3.2")])])
def test_a_5xx_greeting(protocol: str, skip: str, expected: list[tuple[str, str]]) -> None:
    async def work() -> None:
        async with FakePeer({"GREETING": b"554 5.3.2 no\r\n"}) as first, FakePeer() as second:
            assert brief(await deliver(protocol, first, second, settings={"skip_5xx_greeting": skip})) == expected

    run(work())


# -- how long each step may take --


@honours(
    "lmtp_lhlo_timeout", "lmtp_mail_timeout", "lmtp_rcpt_timeout", "lmtp_data_init_timeout", "lmtp_data_done_timeout"
)
@pytest.mark.parametrize(
    ("stage", "name", "text"),
    [
        ("GREETING", "lhlo_timeout", "receiving the initial server greeting"),
        ("LHLO", "lhlo_timeout", "performing the LHLO handshake"),
        ("MAIL", "mail_timeout", "sending MAIL FROM"),
        ("RCPT", "rcpt_timeout", "sending RCPT TO"),
        ("DATA", "data_init_timeout", "sending DATA command"),
        ("DOT", "data_done_timeout", "sending end of data -- message may be sent more than once"),
    ],
)
def test_an_lmtp_server_that_stalls_is_left_after_the_time_of_its_stage(stage: str, name: str, text: str) -> None:
    result, _ = outcome("lmtp", {stage: Act.STALL}, settings={name: "1s"})
    assert brief([result]) == [("delayed", "4.4.2")]
    assert result.text == f"conversation with fake.example[127.0.0.1] timed out while {text}"


@honours("lmtp_data_xfer_timeout", "smtp_data_xfer_timeout")
@both
def test_content_that_stands_still(protocol: str, tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "content"
        with path.open("wb") as file:
            file.truncate(64 << 20)
        heard_enough = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in (b"220 x\r\n", b"250 x\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 go\r\n"):
                writer.write(answer)
                await reader.readline()
            await heard_enough.wait()

        async with served_by(deaf) as host:
            agent = agent_for(protocol, host, settings={"data_xfer_timeout": "1s"})
            (result,) = await agent.deliver(request("a", content=FileContent(str(path), 64 << 20)))
            assert result.text == "conversation with x.example[127.0.0.1] timed out while sending message body"
            await agent.close()
            heard_enough.set()

    run(work())


@honours("smtp_connect_timeout", "lmtp_connect_timeout")
@both
def test_a_connection_that_does_not_complete(protocol: str) -> None:
    """A listener whose backlog is full answers no SYN: what the kernel does with a host that is down."""

    async def work() -> None:
        with socket.socket() as listener, socket.socket() as filler:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            filler.connect(listener.getsockname())
            host = Host("slow.example", "127.0.0.1", listener.getsockname()[1])
            (result,) = await deliver(protocol, host, settings={"connect_timeout": "1s"})
        assert brief([result]) == [("delayed", "4.4.1")]
        assert result.text == f"connect to slow.example[127.0.0.1]:{host.port}: Connection timed out"

    run(work())


@honours("smtp_rset_timeout", "lmtp_rset_timeout")
@both
def test_a_reset_that_is_not_answered(protocol: str) -> None:
    """The connection is left after its time, and the message goes over a fresh one."""
    answers: list[Answer] = [b"550 5.1.1 no\r\n", b"250 Ok\r\n"]
    script: Script = {"RCPT": answers, "RSET": Act.STALL, "EHLO": PLAIN, "LHLO": PLAIN}

    async def work() -> None:
        async with FakePeer(script) as peer:
            results = await deliver(protocol, peer, times=2, settings={"rset_timeout": "1s"})
            assert brief(results) == [("failed", "5.1.1"), ("delayed", "4.4.2")]
            assert results[1].text.endswith("timed out while sending RSET"), results
            assert "RSET" in peer.verbs

    run(work())


# -- connections that are used again, and how they end --


@honours(
    "smtp_connection_cache_on_demand",
    "smtp_connection_reuse_count_limit",
    "smtp_connection_reuse_time_limit",
    "lmtp_connection_cache_on_demand",
    "lmtp_connection_reuse_count_limit",
    "lmtp_connection_reuse_time_limit",
)
@both
@pytest.mark.parametrize(
    ("settings", "connections"),
    [
        ({}, 1),
        ({"connection_cache_on_demand": "no"}, 4),
        ({"connection_reuse_count_limit": "1"}, 2),
        ({"connection_reuse_time_limit": "0s"}, 4),
    ],
)
def test_how_often_a_connection_is_used(protocol: str, settings: dict[str, str], connections: int) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            assert brief(await deliver(protocol, peer, times=4, settings=settings)) == SENT * 4
            assert peer.connections == connections

    run(work())


@honours("smtp_connection_cache_time_limit", "lmtp_connection_cache_time_limit")
@both
def test_how_long_an_unused_connection_is_kept(protocol: str) -> None:
    async def work() -> None:
        async with FakePeer() as left, FakePeer() as kept:
            short = agent_for(protocol, left, settings={"connection_cache_time_limit": "1s"})
            long = agent_for(protocol, kept, settings={"connection_cache_time_limit": "600s"})
            for agent in (long, short):
                assert brief(await agent.deliver(request("a"))) == SENT
            await until(lambda: left.open == 0)
            assert kept.open == 1
            for agent in (long, short):
                await agent.close()

    run(work())


@honours("smtp_skip_quit_response", "smtp_quit_timeout", "lmtp_skip_quit_response", "lmtp_quit_timeout")
@both
def test_the_reply_to_quit(protocol: str) -> None:
    """With skip the connection is closed with QUIT; without, it stays for the reply, but no longer than its time."""

    async def work() -> None:
        left_after_s: list[float] = []
        now = asyncio.get_running_loop().time

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in (b"220 x\r\n", b"250 x\r\n", b"250 Ok\r\n", b"250 Ok\r\n", b"354 go\r\n"):
                writer.write(answer)
                await reader.readline()
            while await reader.readline() != b".\r\n":
                pass
            writer.write(b"250 2.0.0 Ok\r\n")
            assert await reader.readline() == b"QUIT\r\n"
            began = now()
            await reader.read()
            left_after_s.append(now() - began)

        for known, (skip, timeout) in enumerate((("yes", "9s"), ("no", "1s"))):
            settings = {"skip_quit_response": skip, "quit_timeout": timeout, "connection_cache_on_demand": "no"}
            async with served_by(serve) as host:
                agent = agent_for(protocol, host, settings=settings)
                assert brief(await agent.deliver(request("a"))) == SENT
                await until(lambda known=known: len(left_after_s) > known)  # type: ignore[misc]
                await agent.close()
        at_once, after_its_time = left_after_s
        assert at_once < 0.8 < after_its_time < 8

    run(work())


# -- what goes over the wire --


@honours("smtp_line_length_limit", "lmtp_line_length_limit")
@both
@pytest.mark.parametrize(
    ("limit", "lines"),
    [
        ("20", [b"x" * 20, b" " + b"x" * 19, b" " + b"x" * 11]),
        ("998", [b"x" * 50]),
        ("0", [b"x" * 50]),
    ],
)
def test_long_lines_are_broken(protocol: str, limit: str, lines: list[bytes]) -> None:
    content = InlineContent(b"A: b\r\n\r\n" + b"x" * 50 + b"\r\n")

    async def work() -> None:
        async with FakePeer() as peer:
            await deliver(protocol, peer, content=content, settings={"line_length_limit": limit})
            assert peer.contents[0].split(b"\r\n")[2:-2] == lines

    run(work())


@honours("lmtp_assume_final")
@pytest.mark.parametrize(("final", "action"), [("yes", "delivered"), ("no", "relayed")])
def test_what_an_lmtp_server_takes_may_be_called_delivered(final: str, action: str) -> None:
    result, _ = outcome("lmtp", settings={"assume_final": final})
    assert brief([result]) == [(action, "2.0.0")]


@honours("smtp_discard_ehlo_keyword_address_maps", "lmtp_discard_lhlo_keyword_address_maps")
@pytest.mark.parametrize(
    ("protocol", "name"),
    [("smtp", "discard_ehlo_keyword_address_maps"), ("lmtp", "discard_lhlo_keyword_address_maps")],
)
@pytest.mark.parametrize(("server", "mail"), [("127.0.0.1", b"<s@s.example>\r\n"), ("192.0.2.1", b"SIZE=27\r\n")])
def test_extensions_that_are_not_used_with_some_servers(protocol: str, name: str, server: str, mail: bytes) -> None:
    _, peer = outcome(protocol, settings={name: f"inline:{{{server}=Size}}"})
    assert peer.lines[1].endswith(mail)
    result, peer = outcome(protocol, settings={name: "texthash:/nowhere/at/all"})
    assert brief([result]) == [("delayed", "4.3.0")]
    assert peer.connections == 0


@honours("smtp_reply_filter", "lmtp_reply_filter")
@both
def test_replies_are_read_as_a_table_has_them(protocol: str) -> None:
    script: Script = {"RCPT": b"550 5.7.1 try again later\r\n"}
    table = "pcre:{{/^550 (.*) later$$/ 450 4.7.1 $$1}}"
    result, _ = outcome(protocol, script, settings={"reply_filter": table})
    assert brief([result]) == [("delayed", "4.7.1")]
    assert "said: 450 4.7.1 5.7.1 try again (in reply to RCPT TO command)" in result.text
    result, _ = outcome(protocol, settings={"reply_filter": "texthash:/nowhere/at/all"})
    assert brief([result])[0][0] == "delayed"
    with pytest.raises(ConfigError, match="must lie on this host"):
        agent_for(protocol, settings={"reply_filter": "memcache:/x"})


@honours("smtp_quote_rfc821_envelope", "lmtp_quote_rfc821_envelope")
@both
@pytest.mark.parametrize(
    ("quotes", "local", "path"),
    [
        ("yes", "a..b", b'<"a..b"@d.example>'),
        ("no", "a..b", b"<a..b@d.example>"),
        ("no", "a b", b'<"a b"@d.example>'),
        ("no", "a> X=<b", b'<"a> X=<b"@d.example>'),
        ("no", 'a"b', b'<"a\\"b"@d.example>'),
    ],
)
def test_odd_local_parts_are_quoted_or_not(protocol: str, quotes: str, local: str, path: bytes) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            agent = agent_for(protocol, peer, settings={"quote_rfc821_envelope": quotes})
            await agent.deliver(request(local))
            assert peer.lines[2] == b"RCPT TO:" + path + b"\r\n"
            await agent.close()

    run(work())
