"""Connections that are used again, and what happens when the peer has other plans."""

from __future__ import annotations

import asyncio

import pytest

from support.fake_peer import PLAIN, Act, Answer, FakePeer
from support.honours import honours
from support.smtp_delivery import agent_for, brief, request, run, until

SENT = [("relayed", "2.0.0")]


def test_the_next_message_takes_the_same_connection_and_asks_for_no_hosts() -> None:
    async def work() -> None:
        lookups: list[str] = []
        async with FakePeer() as peer:
            agent = agent_for(peer, lookups=lookups)
            for _ in range(5):
                (result,) = await agent.deliver(request("a"))
                assert brief([result]) == SENT
            assert (peer.connections, lookups) == (1, ["d.example"])
            assert result.connect_s == 0.0
            assert peer.verbs == ["EHLO", *["MAIL", "RCPT", "DATA"] * 5]
            await agent.close()
            await until(lambda: peer.open == 0)
            assert peer.verbs[-1] == "QUIT"

    run(work())


def test_two_messages_at_once_take_two_connections_and_the_pool_keeps_both() -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            agent = agent_for(peer)
            for _ in range(3):
                await asyncio.gather(agent.deliver(request("a")), agent.deliver(request("b")))
            assert peer.connections == 2
            await agent.close()

    run(work())


@honours("smtp_connection_cache_time_limit")
def test_an_idle_connection_is_closed_after_its_time() -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            agent = agent_for(peer, settings={"smtp_connection_cache_time_limit": "1s"})
            await agent.deliver(request("a"))
            await until(lambda: peer.open == 0)
            assert peer.verbs[-1] == "QUIT"
            assert brief(await agent.deliver(request("a"))) == SENT
            await agent.close()

    run(work())


@honours("smtp_connection_cache_on_demand", "smtp_connection_reuse_count_limit", "smtp_connection_reuse_time_limit")
@pytest.mark.parametrize(
    ("settings", "connections"),
    [
        ({"smtp_connection_cache_on_demand": "no"}, 4),
        ({"smtp_connection_reuse_count_limit": "1"}, 2),
        ({"smtp_connection_reuse_time_limit": "0s"}, 4),
        ({"smtp_connection_cache_limit": "0"}, 4),
        ({}, 1),
    ],
)
def test_how_often_a_connection_is_used(settings: dict[str, str], connections: int) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            agent = agent_for(peer, settings=settings)
            for _ in range(4):
                assert brief(await agent.deliver(request("a"))) == SENT
            assert peer.connections == connections
            await agent.close()

    run(work())


@pytest.mark.parametrize(
    "farewell", [Act.CLOSE, Act.RESET, (b"421 4.4.2 idle\r\n", Act.CLOSE), (b"250 what?\r\n", Act.STALL)]
)
def test_an_idle_connection_that_the_peer_ended_or_spoke_on_is_not_used(farewell: Answer) -> None:
    async def work() -> None:
        async with FakePeer({"DOT": [(b"250 2.0.0 Ok\r\n", farewell), b"250 2.0.0 Ok\r\n"]}) as peer:
            agent = agent_for(peer)
            assert brief(await agent.deliver(request("a"))) == SENT
            assert brief(await agent.deliver(request("b"))) == SENT
            assert (peer.connections, len(peer.contents)) == (2, 2)
            await agent.close()

    run(work())


@pytest.mark.parametrize("end", [Act.CLOSE, Act.RESET, (b"421 4.7.0 enough\r\n", Act.CLOSE)])
def test_a_reused_connection_that_fails_at_mail_is_replaced_by_a_fresh_one(end: Answer) -> None:
    async def work() -> None:
        ok = b"250 Ok\r\n"
        async with FakePeer({"MAIL": [ok, end, ok]}) as peer:
            agent = agent_for(peer, settings={"smtp_mx_session_limit": "1"})
            assert brief(await agent.deliver(request("a"))) == SENT
            assert brief(await agent.deliver(request("a", "b"))) == SENT * 2
            assert (peer.connections, len(peer.contents)) == (2, 2)
            await agent.close()

    run(work())


@pytest.mark.parametrize("ehlo", [None, PLAIN])
def test_what_a_transaction_left_behind_is_reset_before_the_next(ehlo: bytes | None) -> None:
    async def work() -> None:
        script: dict[str, Answer | list[Answer]] = {
            "RCPT": [b"550 5.1.1 no\r\n", b"250 Ok\r\n"],
            "DATA": [b"554 5.5.1 nobody\r\n", b"354 go\r\n"] if ehlo is None else b"354 go\r\n",
        }
        if ehlo is not None:
            script["EHLO"] = ehlo
        async with FakePeer(script) as peer:
            agent = agent_for(peer)
            assert brief(await agent.deliver(request("a"))) == [("failed", "5.1.1")]
            assert brief(await agent.deliver(request("b"))) == SENT
            assert peer.connections == 1
            assert peer.verbs.index("RSET") < len(peer.verbs) - 3
            await agent.close()

    run(work())


def test_a_reset_that_is_refused_bounces_nothing() -> None:
    async def work() -> None:
        rcpt: list[Answer] = [b"550 5.1.1 no\r\n", b"250 Ok\r\n"]
        data: list[Answer] = [b"554 nobody\r\n", b"354 go\r\n"]
        async with FakePeer({"RCPT": rcpt, "DATA": data, "RSET": (b"503 5.5.1 what?\r\n", Act.CLOSE)}) as peer:
            agent = agent_for(peer)
            assert brief(await agent.deliver(request("a"))) == [("failed", "5.1.1")]
            assert brief(await agent.deliver(request("b"))) == SENT
            assert peer.connections == 2
            await agent.close()

    run(work())


def test_a_close_waits_for_no_server() -> None:
    async def work() -> None:
        async with FakePeer({"QUIT": Act.STALL}) as peer:
            agent = agent_for(peer, settings={"smtp_skip_quit_response": "no"})
            await agent.deliver(request("a"))
            await agent.close()
            await until(lambda: peer.open == 0)

    run(work())


@honours("smtp_skip_quit_response", "smtp_quit_timeout")
def test_a_retired_connection_waits_for_the_reply_to_quit_in_the_background() -> None:
    async def work() -> None:
        settings = {"smtp_connection_cache_on_demand": "no", "smtp_skip_quit_response": "no", "smtp_quit_timeout": "1s"}
        async with FakePeer() as good, FakePeer({"QUIT": Act.STALL}) as bad:
            for peer in (good, bad):
                agent = agent_for(peer, settings=settings)
                assert brief(await agent.deliver(request("a"))) == SENT
                await until(lambda peer=peer: peer.open == 0)  # type: ignore[misc]
                assert peer.verbs[-1] == "QUIT"
                await agent.close()

    run(work())
