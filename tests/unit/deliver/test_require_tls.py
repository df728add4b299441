"""Messages with REQUIRETLS: they go to servers that are proven and offer it, or back (RFC 8689 §4.2.1, §4.3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.smtp import SmtpAgent
from ekiden.deliver.tls_policies import DomainPolicies, dane_rules
from ekiden.message.delivery import DeliveryRequest
from ekiden.message.host import Host
from ekiden.runtime.system_clock import SystemClock
from support.certificates import Authority, Pair, self_signed
from support.fake_peer import FakePeer
from support.fake_resolver import FakeResolver
from support.smtp_delivery import Notes, brief, request, run
from support.tls_peer import AFTER, TlsPeer, server_context

ROOT = Authority()
GOOD = ROOT.issue("fake.example")
OFFERS = AFTER.replace(b"250 8BITMIME", b"250-REQUIRETLS\r\n250 8BITMIME")


class Offering(TlsPeer):
    """It offers REQUIRETLS once encrypted."""

    async def _answer(self, verb: str, line: bytes, reader: object, writer: object) -> bytes:
        encrypted = writer.get_extra_info("ssl_object") is not None  # type: ignore[attr-defined]
        if encrypted and verb == "EHLO":
            writer.write(OFFERS)  # type: ignore[attr-defined]
            return OFFERS
        return await super()._answer(verb, line, reader, writer)  # type: ignore[arg-type]


def agent_for(tmp_path: Path, *peers: FakePeer, insecure_mx: bool = False, **settings: str) -> SmtpAgent:
    path = tmp_path / "root.pem"
    path.write_bytes(ROOT.pem)
    parameters = Parameters({"myhostname": "me.example", "smtp_tls_CAfile": str(path), **settings})

    async def hosts_for(next_hop: str) -> Sequence[Host]:
        return [structs.replace(peer.host, insecure_mx=insecure_mx) for peer in peers]

    return SmtpAgent(
        parameters,
        hosts_for=hosts_for,
        clock=SystemClock(),
        observer=Notes(),
        policies=lambda configured: DomainPolicies(configured, dane_rules(parameters, "smtp"), FakeResolver({})),
    )


def message(*, require_tls: bool = True) -> DeliveryRequest:
    made = request("a")
    return structs.replace(made, arrived=time.time(), envelope=structs.replace(made.envelope, require_tls=require_tls))


@pytest.mark.parametrize("level", ["none", "may", "encrypt", "verify"])
def test_a_server_that_is_proven_and_offers_it(tmp_path: Path, level: str) -> None:
    async def work() -> None:
        async with Offering(server_context(tmp_path, GOOD)) as peer:
            agent = agent_for(tmp_path, peer, smtp_tls_security_level=level)
            for _ in range(2):
                assert brief(await agent.deliver(message())) == [("relayed", "2.0.0")]
            await agent.close()
            assert [b"REQUIRETLS" in line for line in peer.lines if line.startswith(b"MAIL")] == [True] * 2
            assert len(peer.handshakes) == 1

    run(work())


@pytest.mark.parametrize(
    "pair", [self_signed("fake.example"), ROOT.issue("other.example"), ROOT.issue("fake.example", days=(-9, -1))]
)
def test_a_server_that_is_not_proven(tmp_path: Path, pair: Pair) -> None:
    async def work() -> None:
        async with Offering(server_context(tmp_path, pair)) as peer:
            agent = agent_for(tmp_path, peer)
            assert brief(await agent.deliver(message())) == [("delayed", "4.7.5")]
            assert brief(await agent.deliver(message(require_tls=False))) == [("relayed", "2.0.0")]
            await agent.close()

    run(work())


def test_a_server_that_does_not_offer_it(tmp_path: Path) -> None:
    """The message goes back: waiting would not teach the server (RFC 8689 §4.2.1)."""

    async def work() -> None:
        async with TlsPeer(server_context(tmp_path, GOOD)) as peer:
            agent = agent_for(tmp_path, peer)
            (result,) = await agent.deliver(message())
            assert brief([result]) == [("failed", "5.7.30")]
            assert "REQUIRETLS is required, but was not offered by host fake.example" in result.text
            # A connection that other mail has opened is no way around.
            assert brief(await agent.deliver(message(require_tls=False))) == [("relayed", "2.0.0")]
            assert brief(await agent.deliver(message())) == [("failed", "5.7.30")]
            await agent.close()
            assert peer.verbs.count("MAIL") == 1

    run(work())


def test_the_next_server_may_offer_it(tmp_path: Path) -> None:
    async def work() -> None:
        context = server_context(tmp_path, GOOD)
        async with FakePeer() as plain, TlsPeer(context) as without, Offering(context) as offering:
            agent = agent_for(tmp_path, plain, without, offering)
            assert brief(await agent.deliver(message())) == [("relayed", "2.0.0")]
            await agent.close()
            assert "MAIL" not in plain.verbs + without.verbs

    run(work())


def test_mx_records_that_nobody_proves_are_no_way_to_a_server(tmp_path: Path) -> None:
    """RFC 8689 §4.2.1, step 2."""

    async def work() -> None:
        async with Offering(server_context(tmp_path, GOOD)) as peer:
            for level in ("none", "may", "encrypt"):
                agent = agent_for(tmp_path, peer, insecure_mx=True, smtp_tls_security_level=level)
                assert brief(await agent.deliver(message())) == [("failed", "5.7.30")]
                await agent.close()
            assert not peer.connections

    run(work())


def test_a_mailbox_on_this_host_is_no_relay(tmp_path: Path) -> None:
    """RFC 8689 §4.4."""

    async def work() -> None:
        path = str(tmp_path / "lmtp")
        async with FakePeer(path=path) as peer:
            parameters = Parameters({"myhostname": "me.example"})

            async def hosts_for(next_hop: str) -> Sequence[Host]:
                raise AssertionError("nobody is looked up")

            agent = LmtpAgent(
                parameters,
                hosts_for=hosts_for,
                clock=SystemClock(),
                observer=Notes(),
                policies=lambda configured: DomainPolicies(
                    configured, dane_rules(parameters, "lmtp"), FakeResolver({})
                ),
            )
            for _ in range(2):
                results = await agent.deliver(structs.replace(message(), transport="lmtp", next_hop=f"unix:{path}"))
                assert brief(results) == [("relayed", "2.0.0")]
            await agent.close()
            assert peer.connections == 1

    run(work())
