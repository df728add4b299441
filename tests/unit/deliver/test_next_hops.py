"""The smtp agent and more than one next hop: lists, fallback relays, loops, and where connections come from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from ekiden.config.snapshot import Parameters
from ekiden.deliver.lmtp import LmtpAgent
from ekiden.deliver.smtp import SmtpAgent
from ekiden.deliver.smtp_outcome import LOOPS
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, delivered, failed
from ekiden.message.host import Host
from ekiden.message.status import Status
from ekiden.route.mx import BetterHosts
from ekiden.runtime.system_clock import SystemClock
from support.fake_peer import Answer, FakePeer
from support.honours import honours
from support.running import free_port
from support.smtp_delivery import Notes, brief, request, run, until

NOT_FOUND = failed(Status(5, 4, 4), "Host or domain name not found")
NO_DNS = deferred(Status(4, 4, 3), "try again")
LOOP = failed(LOOPS, "mail for loop loops back to myself")
Found = Sequence[Host] | DeliveryResult


def agent(places: dict[str, Found], notes: Notes | None = None, **settings: str) -> SmtpAgent:
    async def hosts_for(next_hop: str) -> Found:
        return places[next_hop]

    return SmtpAgent(
        Parameters({"myhostname": "me.example", **settings}),
        hosts_for=hosts_for,
        clock=SystemClock(),
        observer=notes or Notes(),
    )


def nobody() -> Host:
    return Host("nobody.example", "127.0.0.1", free_port())


async def deliver(sender: SmtpAgent, next_hop: str, *names: str) -> list[tuple[str, str]]:
    try:
        return brief(await sender.deliver(structs.replace(request(*names or ("a",)), next_hop=next_hop)))
    finally:
        await sender.close()


WITHOUT = {
    "not found": ("failed", "5.4.4"),
    "no dns": ("delayed", "4.4.3"),
    "no answer": ("delayed", "4.4.1"),
    "busy": ("delayed", "4.2.1"),
}
FALLBACK = [{"smtp_fallback_relay": "[fall]"}, {"fallback_relay": "other, [fall]"}]


@honours("smtp_fallback_relay", "fallback_relay")
@pytest.mark.parametrize("settings", FALLBACK)
@pytest.mark.parametrize("first", WITHOUT)
def test_the_fallback_relay_takes_what_the_next_hop_does_not(first: str, settings: dict[str, str]) -> None:
    async def work() -> None:
        async with FakePeer() as fall, FakePeer({"RCPT": b"450 4.2.1 busy\r\n"}) as busy:
            found: dict[str, Found] = {
                "not found": NOT_FOUND, "no dns": NO_DNS, "no answer": [nobody()], "busy": [busy.host],
            }  # fmt: skip
            places = {"x": found[first], "[fall]": [fall.host], "other": [nobody()]}
            assert await deliver(agent(places), "x") == [WITHOUT[first]]
            assert await deliver(agent(places, None, **settings), "x") == [("relayed", "2.0.0")]
            assert len(fall.contents) == 1

    run(work())


def test_what_the_next_hop_refuses_is_no_matter_for_the_fallback_relay() -> None:
    async def work() -> None:
        answers: dict[str, Answer | list[Answer]] = {"RCPT": [b"550 5.1.1 no\r\n", b"450 4.2.1 later\r\n"]}
        async with FakePeer() as fall, FakePeer(answers) as peer:
            sender = agent({"x": [peer.host], "f": [fall.host]}, smtp_fallback_relay="f")
            assert await deliver(sender, "x", "a", "b") == [("failed", "5.1.1"), ("relayed", "2.0.0")]
            assert fall.lines.count(b"RCPT TO:<b@d.example>\r\n") == 1
            assert fall.verbs.count("RCPT") == 1

    run(work())


@pytest.mark.parametrize("why", ["loop", "better mx"])
def test_a_loop_is_not_made_worse_by_a_fallback_relay(why: str) -> None:
    async def work() -> None:
        async with FakePeer() as fall:
            places: dict[str, Found] = {"x": LOOP if why == "loop" else BetterHosts([nobody()]), "f": [fall.host]}
            results = await deliver(agent(places, smtp_fallback_relay="f"), "x")
            assert results == [("failed", "5.4.6") if why == "loop" else ("delayed", "4.4.1")]
            assert not fall.connections

    run(work())


@pytest.mark.parametrize(
    ("name", "whose"), [("smtp_fallback_relay", "smtp_fallback_relay"), ("relayhost", "relayhost")]
)
def test_a_relay_of_our_own_that_does_not_exist_returns_no_mail(name: str, whose: str) -> None:
    async def work() -> None:
        notes = Notes()
        sender = agent({"x": NOT_FOUND, "y": NOT_FOUND}, notes, **{name: "x" if name == "relayhost" else "y"})
        assert await deliver(sender, "x") == [("delayed", "4.3.5")]
        assert notes.texts == [f"{name} configuration problem"]

    run(work())


def test_connections_to_a_fallback_relay_are_not_taken_for_the_next_hops() -> None:
    async def work() -> None:
        async with FakePeer() as fall:
            sender = agent({"x": [nobody()], "f": [fall.host]}, smtp_fallback_relay="f")
            for _ in range(2):
                await sender.deliver(structs.replace(request("a"), next_hop="x"))
            assert fall.connections == 2
            await sender.close()

    run(work())


@pytest.mark.parametrize(
    ("next_hop", "expected"),
    [
        ("gone, [good]", ("relayed", "2.0.0")),
        ("dead bad [good]", ("relayed", "2.0.0")),
        ("gone bad", ("delayed", "4.4.3")),
        ("bad gone", ("delayed", "4.4.3")),
        ("dead, gone", ("delayed", "4.4.1")),
        ("gone", ("failed", "5.4.4")),
    ],
)
def test_a_list_of_next_hops_is_tried_in_order(next_hop: str, expected: tuple[str, str]) -> None:
    async def work() -> None:
        async with FakePeer() as good:
            places: dict[str, Found] = {"gone": NOT_FOUND, "bad": NO_DNS, "dead": [nobody()], "[good]": [good.host]}
            assert await deliver(agent(places), next_hop) == [expected]

    run(work())


def test_each_next_hop_has_sessions_of_its_own() -> None:
    async def work() -> None:
        later = {"RCPT": b"450 4.2.1 later\r\n"}
        async with FakePeer(later) as one, FakePeer(later) as two, FakePeer() as three:
            sender = agent({"a": [one.host, two.host], "b": [three.host]}, smtp_mx_session_limit="1")
            assert await deliver(sender, "a b") == [("relayed", "2.0.0")]
            assert (one.connections, two.connections) == (1, 0)

    run(work())


@honours("lmtp_fallback_relay")
def test_lmtp_has_fallback_relays_too() -> None:
    async def work() -> None:
        async with FakePeer() as fall:

            async def hosts_for(next_hop: str) -> Found:
                raise AssertionError(next_hop)

            settings = {"lmtp_fallback_relay": f"inet:127.0.0.1:{fall.port}"}
            sender = LmtpAgent(Parameters(settings), hosts_for=hosts_for, clock=SystemClock(), observer=Notes())
            results = await sender.deliver(structs.replace(request("a"), next_hop="unix:/nowhere/a, b"))
            assert brief(results) == [("relayed", "2.0.0")]
            await sender.close()

    run(work())


def test_mail_that_comes_back_may_have_a_transport_of_its_own() -> None:
    passed: list[DeliveryRequest] = []

    async def pass_on(given: DeliveryRequest) -> list[DeliveryResult]:
        passed.append(given)
        return [delivered(Status(2, 0, 0), "delivered to mailbox")] * len(given.recipients)

    async def work() -> None:
        async def hosts_for(next_hop: str) -> Found:
            return LOOP

        sender = SmtpAgent(Parameters(), hosts_for=hosts_for, clock=SystemClock(), observer=Notes(), loops_to=pass_on)
        assert brief(await sender.deliver(request("a", "b"))) == [("delivered", "2.0.0")] * 2
        assert passed == [request("a", "b")]

    run(work())


@honours("smtp_bind_address_enforce")
@pytest.mark.parametrize("enforce", ["yes", "no"])
def test_a_bind_address_that_is_not_there(enforce: str) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            notes = Notes()
            settings = {"smtp_bind_address": "192.0.2.123", "smtp_bind_address_enforce": enforce}
            results = await deliver(agent({"x": [peer.host]}, notes, **settings), "x")
            assert results == [("delayed", "4.4.1") if enforce == "yes" else ("relayed", "2.0.0")]
            if enforce == "no":
                assert notes.texts == ["connections are not made from 192.0.2.123: Cannot assign requested address"]

    run(work())


@honours("smtp_connection_cache_destinations")
@pytest.mark.parametrize(("kept", "connections"), [("", 2), ("other", 2), ("X.example", 1), ("x.example", 1)])
def test_connections_of_some_destinations_are_kept(kept: str, connections: int) -> None:
    async def work() -> None:
        async with FakePeer() as peer:
            settings = {"smtp_connection_cache_on_demand": "no", "smtp_connection_cache_destinations": kept}
            sender = agent({"[x.example]:26": [peer.host]}, None, **settings)
            for _ in range(2):
                await sender.deliver(structs.replace(request("a"), next_hop="[x.example]:26"))
            await until(lambda: peer.connections == connections)
            await sender.close()

    run(work())


@honours("lmtp_bind_address_enforce", "lmtp_connection_cache_destinations")
def test_lmtp_has_the_same_settings_of_its_own() -> None:
    from ekiden.deliver.smtp_settings import lmtp_settings, smtp_settings

    given = Parameters({"lmtp_bind_address_enforce": "yes", "lmtp_connection_cache_destinations": "a b"})
    assert (lmtp_settings(given).bind_enforce, lmtp_settings(given).cache_destinations) == (True, ("a", "b"))
    assert (smtp_settings(given).bind_enforce, smtp_settings(given).cache_destinations) == (False, ())
