"""The validating look-ups against servers that fail, lie or are silent; and whose AD bit counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ekiden.config.snapshot import ParameterError, Parameters
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Tlsa
from ekiden.dns.stub import StubResolver
from ekiden.dns.system_servers import NameServer, name_servers
from support.fake_dns import (
    AAAA,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    A,
    Behaviour,
    FakeDns,
    answer,
    ipv4,
    question_of,
    type_of,
)
from support.honours import honours

R = TypeVar("R")

TLSA = 52
RECORD = (TLSA, b"\3\1\1" + b"\xaa" * 32)
VALUE = Tlsa(3, 1, 1, b"\xaa" * 32)


def with_ad(packet: bytes) -> bytes:
    return packet[:3] + bytes([packet[3] | 0x20]) + packet[4:]


def ask(
    behaviour: Behaviour, look_up: Callable[[StubResolver], Awaitable[R]], **settings: str
) -> tuple[R | DnsTrouble, FakeDns]:
    async def scenario() -> tuple[R | DnsTrouble, FakeDns]:
        async with FakeDns(behaviour) as server:
            few = {"dns_resolvers": server.address, "dns_timeout": "1s", "dns_tries": "1", **settings}
            try:
                return await look_up(StubResolver(Parameters(few))), server
            except DnsTrouble as trouble:
                return trouble, server

    return asyncio.run(scenario())


def tlsa(resolver: StubResolver) -> Awaitable[Answer[Tlsa]]:
    return resolver.tlsa("_25._tcp.mx.test")


def test_the_ad_bit_is_authentic() -> None:
    outcome, _ = ask(lambda packet, tcp: [with_ad(answer(packet, RECORD))], tlsa)
    assert outcome == Answer(Found.RECORDS, (VALUE,), True, 60.0)
    outcome, _ = ask(lambda packet, tcp: [answer(packet, RECORD)], tlsa)
    assert outcome == Answer(Found.RECORDS, (VALUE,), False, 60.0)


@pytest.mark.parametrize(("rcode", "word"), [(SERVFAIL, "SERVFAIL"), (REFUSED, "REFUSED"), (9, "code 9")])
def test_a_server_that_fails(rcode: int, word: str) -> None:
    outcome, server = ask(lambda packet, tcp: [answer(packet, rcode=rcode)], tlsa, dns_tries="3")
    assert isinstance(outcome, DnsTrouble)
    assert word in str(outcome)
    assert "_25._tcp.mx.test TLSA" in str(outcome)
    assert len(server.questions) == 1


def test_silence_is_trouble_after_all_tries() -> None:
    outcome, server = ask(lambda packet, tcp: [], tlsa, dns_tries="2")
    assert isinstance(outcome, DnsTrouble)
    assert "timed out" in str(outcome)
    assert len(server.questions) == 2
    outcome, _ = ask(lambda packet, tcp: [], tlsa, dns_timeout="1h", dns_lookup_time_limit="1s")
    assert isinstance(outcome, DnsTrouble)


def test_forged_answers_are_passed_over() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        true = with_ad(answer(packet, RECORD))
        other = int.from_bytes(packet[:2], "big") ^ 1
        forged = (TLSA, b"\3\1\1" + b"\xbb" * 32)
        return [answer(packet, forged, number=other), b"", b"x" * 600, answer(packet, forged)[:-40], true]

    outcome, _ = ask(behaviour, tlsa)
    assert isinstance(outcome, Answer)
    assert outcome.records == (VALUE,)


def test_truncated_answers_come_again_by_tcp() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        return [with_ad(answer(packet, RECORD)) if tcp else answer(packet, truncated=True)]

    outcome, server = ask(behaviour, tlsa)
    assert isinstance(outcome, Answer)
    assert outcome.authentic
    assert [tcp for _, tcp in server.questions] == [False, True]
    outcome, _ = ask(lambda packet, tcp: [answer(packet, truncated=True)], tlsa)
    assert isinstance(outcome, DnsTrouble)


def test_a_record_that_cannot_be_read_is_no_proof_of_absence() -> None:
    outcome, _ = ask(lambda packet, tcp: [with_ad(answer(packet, (TLSA, b"\3")))], tlsa)
    assert outcome == Answer(Found.NODATA, (), False, 60.0)


def test_addresses_of_one_protocol_are_good_where_the_other_fails() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        if type_of(packet) == AAAA:
            return [answer(packet, rcode=SERVFAIL)]
        return [with_ad(answer(packet, ipv4("192.0.2.1")))]

    outcome, _ = ask(behaviour, lambda r: r.addresses("mx.test"), inet_protocols="all")
    assert outcome == Answer(Found.RECORDS, ("192.0.2.1",), True, 1.0, partial=True)


def test_addresses_are_authentic_when_both_are() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        if type_of(packet) == A:
            return [with_ad(answer(packet, ipv4("192.0.2.1")))]
        return [answer(packet, (AAAA, bytes(15) + b"\1"))]

    outcome, _ = ask(behaviour, lambda r: r.addresses("mx.test"), inet_protocols="all")
    assert isinstance(outcome, Answer)
    assert not outcome.authentic
    outcome, _ = ask(behaviour, lambda r: r.addresses("mx.test"), inet_protocols="ipv4")
    assert isinstance(outcome, Answer)
    assert outcome.authentic


def test_absence() -> None:
    outcome, _ = ask(lambda packet, tcp: [with_ad(answer(packet, rcode=NXDOMAIN))], lambda r: r.addresses("mx.test"))
    assert outcome == Answer(Found.NXDOMAIN, authentic=True)
    outcome, _ = ask(lambda packet, tcp: [answer(packet)], lambda r: r.addresses("mx.test"))
    assert outcome == Answer(Found.NODATA)


def test_the_next_server_is_asked() -> None:
    async def scenario() -> Answer[Tlsa]:
        async with (
            FakeDns(lambda packet, tcp: [answer(packet, rcode=SERVFAIL)]) as bad,
            FakeDns(lambda packet, tcp: [with_ad(answer(packet, RECORD))]) as good,
        ):
            resolver = StubResolver(Parameters({"dns_resolvers": f"{bad.address}, {good.address}"}))
            return await resolver.tlsa("_25._tcp.mx.test")

    assert asyncio.run(scenario()).authentic


def test_nobody_listens() -> None:
    async def scenario() -> None:
        async with FakeDns(lambda packet, tcp: []) as server:
            address = server.address
        await StubResolver(Parameters({"dns_resolvers": address, "dns_tries": "1"})).tlsa("x.test")

    with pytest.raises(DnsTrouble, match="could not contact"):
        asyncio.run(scenario())


def test_whose_ad_bit_counts(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# nameserver 9.9.9.9\nnameserver 192.0.2.53\nnameserver 127.0.0.1\nnameserver junk\nsearch x\n")
    assert name_servers((), file) == (NameServer("192.0.2.53"), NameServer("127.0.0.1", trusted=True))
    file.write_text("nameserver 192.0.2.53\noptions edns0 trust-ad\n")
    assert name_servers((), file) == (NameServer("192.0.2.53", trusted=True),)
    assert name_servers((), tmp_path / "none") == (NameServer("127.0.0.1", trusted=True),)
    configured = ("192.0.2.53:53", "[2001:db8::1]:5300")
    assert name_servers(configured, file) == (
        NameServer("192.0.2.53", 53, trusted=True),
        NameServer("2001:db8::1", 5300, trusted=True),
    )


def test_the_ad_bit_of_a_server_that_nobody_vouches_for_is_not_believed(tmp_path: Path) -> None:
    async def scenario() -> Answer[Tlsa]:
        async with FakeDns(lambda packet, tcp: [with_ad(answer(packet, RECORD))]) as server:
            resolver = StubResolver(Parameters({"dns_resolvers": server.address}))
            address, _, port = server.address.rpartition(":")
            resolver._servers = (NameServer(address, int(port)),)
            return await resolver.tlsa("_25._tcp.mx.test")

    answered = asyncio.run(scenario())
    assert answered.records == (VALUE,)
    assert not answered.authentic


@honours("dnssec_probe")
@pytest.mark.parametrize(
    ("probe", "root", "warning"),
    [
        ("ns:.", "proven", None),
        ("ns:.", "plain", "DNSSEC validation may be unavailable: dnssec_probe 'ns:.' received a response that is not"),
        ("ns:.", "failing", "DNSSEC validation may be unavailable: dnssec_probe 'ns:.' received no response"),
        ("", "plain", None),
    ],
)
def test_a_name_server_that_does_not_validate_is_told_of_once(probe: str, root: str, warning: str | None) -> None:
    asked: list[bytes] = []

    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        if question_of(packet)[:1] != b"\0":
            return [answer(packet, RECORD)]
        asked.append(question_of(packet))
        if root == "failing":
            return [answer(packet, rcode=SERVFAIL)]
        said = answer(packet, (2, b"\1a\0"))
        return [with_ad(said) if root == "proven" else said]

    warnings: list[str] = []

    async def scenario() -> None:
        async with FakeDns(behaviour) as server:
            parameters = Parameters({"dns_resolvers": server.address, "dnssec_probe": probe})
            resolver = StubResolver(parameters, warn=warnings.append)
            for _ in range(3):
                await resolver.tlsa("_25._tcp.mx.test")
            if resolver._probing is not None:
                await resolver._probing
            await resolver.close()

    asyncio.run(scenario())
    assert asked == ([b"\0\0\2\0\1"] if probe else [])
    assert len(warnings) == (warning is not None)
    assert all(text.startswith(warning or "-") for text in warnings)


@pytest.mark.parametrize("text", ["ns", "ns:", "ptr:.", ":."])
def test_probes_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="must be type:name"):
        Parameters({"dnssec_probe": text})
