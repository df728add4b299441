"""The lmtp agent: a result for each recipient after the dot, over unix sockets and TCP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent, split_host_port
from ekiden.message.address import Address
from ekiden.message.delivery import Action, DeliveryRequest
from ekiden.message.envelope import Envelope, Recipient
from ekiden.message.host import Host
from ekiden.runtime.system_clock import SystemClock
from support.fake_peer import Act, FakePeer
from support.honours import honours
from support.smtp_delivery import CONTENT, Notes, brief, run


def request(next_hop: str, *names: str) -> DeliveryRequest:
    recipients = tuple(Recipient(Address(name, "d.example")) for name in names)
    return DeliveryRequest("Q1", "lmtp", next_hop, Envelope(), recipients, CONTENT, 0.0)


def agent_for(peer: FakePeer, asked: list[str] | None = None, **settings: str) -> LmtpAgent:
    async def hosts_for(next_hop: str) -> Sequence[Host]:
        if asked is not None:
            asked.append(next_hop)
        return [peer.host]

    parameters = Parameters({"myhostname": "me.example", **settings})
    return LmtpAgent(parameters, hosts_for=hosts_for, clock=SystemClock(), observer=Notes())


def test_each_recipient_has_its_own_reply_after_the_dot(tmp_path: Path) -> None:
    async def work() -> None:
        path = str(tmp_path / "lmtp")
        dots = [b"250 2.0.0 a\r\n", b"452 4.2.2 full\r\n"]
        script = {"RCPT": [b"250 Ok\r\n", b"550 5.1.1 no\r\n", b"250 Ok\r\n"], "DOT": dots}
        async with FakePeer(script, path=path) as peer:  # type: ignore[arg-type]
            agent = agent_for(peer)
            results = await agent.deliver(request(f"unix:{path}", "a", "b", "c"))
            assert brief(results) == [("relayed", "2.0.0"), ("failed", "5.1.1"), ("delayed", "4.2.2")]
            assert results[0].relay == f"me.example[{path}]"
            assert results[2].text == f"host me.example[{path}] said: 452 4.2.2 full (in reply to end of DATA command)"
            assert peer.lines[0] == b"LHLO me.example\r\n"
            assert len(peer.contents) == 1
            await agent.close()

    run(work())


@honours("lmtp_assume_final")
def test_a_connection_lost_amid_the_replies_defers_only_the_unanswered(tmp_path: Path) -> None:
    async def work() -> None:
        path = str(tmp_path / "lmtp")
        async with FakePeer({"DOT": [b"250 2.0.0 a\r\n", Act.CLOSE]}, path=path) as peer:
            agent = agent_for(peer, lmtp_assume_final="yes")
            results = await agent.deliver(request(f"unix:{path}", "a", "b"))
            assert brief(results) == [("delivered", "2.0.0"), ("delayed", "4.4.2")]
            await agent.close()

    run(work())


@honours("queue_directory")
def test_connections_are_used_again_below_the_queue_directory(tmp_path: Path) -> None:
    async def work() -> None:
        async with FakePeer(path=str(tmp_path / "lmtp")) as peer:
            agent = agent_for(peer, queue_directory=str(tmp_path))
            for _ in range(3):
                assert brief(await agent.deliver(request("unix:lmtp", "a"))) == [("relayed", "2.0.0")]
            assert peer.connections == 1
            await agent.close()

    run(work())


@pytest.mark.parametrize("form", ["inet:127.0.0.1:{}", "127.0.0.1:{}", "[127.0.0.1]:{}", "inet:[127.0.0.1]:{}"])
def test_an_address_needs_no_look_up(form: str) -> None:
    async def work() -> None:
        asked: list[str] = []
        async with FakePeer() as peer:
            agent = agent_for(peer, asked)
            (result,) = await agent.deliver(request(form.format(peer.port), "a"))
            assert result.action is Action.RELAYED
            assert result.relay == f"127.0.0.1[127.0.0.1]:{peer.port}"
            assert asked == []
            await agent.close()

    run(work())


def test_a_name_is_looked_up_without_mx() -> None:
    async def work() -> None:
        asked: list[str] = []
        async with FakePeer() as peer:
            agent = agent_for(peer, asked)
            assert brief(await agent.deliver(request("inet:mail.example", "a"))) == [("relayed", "2.0.0")]
            assert asked == ["[mail.example]:24"]
            await agent.close()

    run(work())


def test_a_socket_that_is_not_there_and_a_bad_next_hop_defer(tmp_path: Path) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            agent = agent_for(peer)
            (result,) = await agent.deliver(request(f"unix:{tmp_path}/none", "a"))
            assert brief([result]) == [("delayed", "4.4.1")]
            assert result.text == f"connect to me.example[{tmp_path}/none]: No such file or directory"
            assert brief(await agent.deliver(request("[mail.example", "a"))) == [("delayed", "4.3.5")]
            await agent.close()

    run(work())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail.example", ("mail.example", 24)),
        ("mail.example:2400", ("mail.example", 2400)),
        ("[::1]", ("::1", 24)),
        ("[IPv6:::1]:lmtp", ("::1", 24)),
        ("[mail.example]:submission", ("mail.example", 587)),
    ],
)
def test_next_hops_are_read(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 24) == expected


@pytest.mark.parametrize("text", ["", ":24", "[]", "a:b", "a:0", "a:70000", "[a]24", "[a"])
def test_bad_next_hops_are_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a port|missing"):
        split_host_port(text, 24)


@honours("lmtp_send_xforward_command", "lmtp_xforward_timeout")
def test_a_mailbox_server_may_hear_which_client_a_message_came_from() -> None:
    async def work() -> None:
        ehlo = b"250-fake.example\r\n250-PIPELINING\r\n250 XFORWARD ADDR IDENT\r\n"
        async with FakePeer({"LHLO": ehlo, "XFOR": [b"250 Ok\r\n", Act.STALL]}) as peer:
            agent = agent_for(peer, lmtp_send_xforward_command="yes", lmtp_xforward_timeout="1s")
            wanted = request(f"inet:127.0.0.1:{peer.port}", "a")
            assert brief(await agent.deliver(wanted)) == [("relayed", "2.0.0")]
            assert b"XFORWARD ADDR=[UNAVAILABLE] IDENT=Q1\r\n" in peer.lines
            (late,) = await agent.deliver(wanted)
            assert late.text.endswith("timed out while sending XFORWARD")
            await agent.close()

    run(work())
