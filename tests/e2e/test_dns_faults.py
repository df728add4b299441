"""The resolver against a name server that fails, lies or says nothing: an answer or DnsTrouble, in bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.dns.cares import CaresResolver
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx
from support import fake_dns
from support.fake_dns import AAAA, MX, PTR, TXT, Behaviour, FakeDns, answer, ipv4, question_of, type_of, wire_name

R = TypeVar("R")

# One try of a second at the most: c-ares goes no lower than a quarter of one.
IMPATIENT = {"dns_timeout": "1s", "dns_tries": "1"}


def ask(
    behaviour: Behaviour, look_up: Callable[[CaresResolver], Awaitable[R]], **settings: str
) -> tuple[R | DnsTrouble, FakeDns]:
    async def scenario() -> tuple[R | DnsTrouble, FakeDns]:
        async with FakeDns(behaviour) as server:
            resolver = CaresResolver(Parameters({"dns_resolvers": server.address, **IMPATIENT, **settings}))
            try:
                return await look_up(resolver), server
            except DnsTrouble as trouble:
                return trouble, server
            finally:
                await resolver.close()

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("rcode", "words"),
    [
        (fake_dns.SERVFAIL, "SERVFAIL"),
        (fake_dns.REFUSED, "REFUSED"),
        (fake_dns.NOTIMP, "NOTIMP"),
        (fake_dns.FORMERR, "FORMERR"),
        (9, ""),  # NOTAUTH
    ],
)
def test_a_server_that_fails(rcode: int, words: str) -> None:
    outcome, _ = ask(lambda packet, tcp: [answer(packet, rcode=rcode)], lambda r: r.mx("x.test"))
    assert isinstance(outcome, DnsTrouble), outcome
    assert words in str(outcome)
    assert "x.test MX" in str(outcome)


def test_a_server_that_says_nothing() -> None:
    started = time.monotonic()
    outcome, server = ask(lambda packet, tcp: [], lambda r: r.mx("x.test"))
    assert isinstance(outcome, DnsTrouble)
    assert "timed out" in str(outcome)
    assert time.monotonic() - started < 10
    assert len(server.questions) == 1


def test_tries_are_bounded_in_number_and_time() -> None:
    outcome, server = ask(lambda packet, tcp: [], lambda r: r.mx("x.test"), dns_tries="2")
    assert isinstance(outcome, DnsTrouble)
    assert len(server.questions) == 2
    started = time.monotonic()
    outcome, _ = ask(lambda packet, tcp: [], lambda r: r.mx("x.test"), dns_timeout="1h", dns_lookup_time_limit="1s")
    assert isinstance(outcome, DnsTrouble)
    assert time.monotonic() - started < 10


async def answer_quickly(resolver: CaresResolver) -> None:
    """Let it learn that this server takes no time at all."""
    for n in range(5):
        await resolver.mx(f"quick{n}.test")


def test_a_server_that_was_quick_still_has_its_time() -> None:
    """A name server answers at once what it knows, and may need seconds for what it must ask others."""
    slow_since = 0.0

    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        nonlocal slow_since
        honest = answer(packet, (MX, b"\0\1" + wire_name("a.test")))
        if b"slow" not in question_of(packet):
            return [honest]
        slow_since = slow_since or time.monotonic()
        return [honest] if time.monotonic() - slow_since > 1.5 else []

    async def look_up(resolver: CaresResolver) -> Answer[Mx]:
        await answer_quickly(resolver)
        return await resolver.mx("slow.test")

    outcome, server = ask(behaviour, look_up, dns_timeout="2s", dns_tries="2")
    assert isinstance(outcome, Answer), outcome
    assert outcome.records == (Mx(1, "a.test"),)
    assert len(server.questions) <= 5 + 4


def test_a_question_that_is_asked_again_ends_with_the_resolver() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        is_quick = b"slow" not in question_of(packet)
        return [answer(packet, (MX, b"\0\1" + wire_name("a.test")))] if is_quick else []

    async def look_up(resolver: CaresResolver) -> Answer[Mx]:
        await answer_quickly(resolver)
        waiting = asyncio.create_task(resolver.mx("slow.test"))
        await asyncio.wait([waiting], timeout=1.0)  # long past the quarter of a second of the first try
        await resolver.close()
        return await waiting

    started = time.monotonic()
    outcome, _ = ask(behaviour, look_up, dns_timeout="30s", dns_tries="1", dns_lookup_time_limit="60s")
    assert isinstance(outcome, DnsTrouble)
    assert "closed" in str(outcome)
    assert time.monotonic() - started < 10


def test_a_truncated_answer_is_asked_for_again_by_tcp() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        if not tcp:
            return [answer(packet, truncated=True)]
        return [answer(packet, *((MX, bytes([0, n]) + wire_name(f"mx{n}.x.test")) for n in range(200)))]

    outcome, server = ask(behaviour, lambda r: r.mx("x.test"))
    assert isinstance(outcome, Answer)
    assert len(outcome.records) == 200
    assert outcome.records[7] == Mx(7, "mx7.x.test")
    assert [tcp for _, tcp in server.questions] == [False, True]


def test_a_truncated_answer_that_tcp_does_not_complete_is_trouble() -> None:
    outcome, _ = ask(lambda packet, tcp: [answer(packet, truncated=True)] if not tcp else [], lambda r: r.mx("x.test"))
    assert isinstance(outcome, DnsTrouble)


def lie(packet: bytes) -> bytes:
    return answer(packet, ipv4("203.0.113.66"))


@pytest.mark.parametrize(
    "forged",
    [
        lambda packet: answer(packet, ipv4("203.0.113.66"), number=int.from_bytes(packet[:2], "big") ^ 1),
        lambda packet: answer(packet, ipv4("203.0.113.66"), question=wire_name("y.test") + b"\0\1\0\1"),
        lambda packet: answer(packet, ipv4("203.0.113.66"), question=question_of(packet)[:-4] + b"\0\1\0\3"),
    ],
    ids=["another id", "another name", "another class"],
)
def test_an_answer_to_something_else_is_not_ours(forged: Callable[[bytes], bytes]) -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        honest = answer(packet, ipv4("192.0.2.1"))
        return [forged(packet), honest]

    outcome, _ = ask(behaviour, lambda r: r.addresses("x.test"), inet_protocols="ipv4")
    assert isinstance(outcome, DnsTrouble) or outcome.records == ("192.0.2.1",), outcome


@pytest.mark.parametrize(
    "garbage",
    [
        lambda packet: b"",
        lambda packet: packet[:2],
        lambda packet: b"\xff" * 600,
        lambda packet: lie(packet)[:-1],
        lambda packet: lie(packet)[:-8],
        lambda packet: answer(packet, (1, b"\x01\x02\x03")),
        lambda packet: answer(packet, (MX, b"\0")),
        lambda packet: answer(packet, (MX, b"\0\1\xc0\xff")),
        lambda packet: answer(packet, (MX, b"\0\1\xc0" + bytes([len(packet) % 200]))),
        lambda packet: answer(packet, (MX, b"\0\1\x3fabc")),
    ],
)
def test_bytes_that_are_no_answer_are_trouble_or_nothing(garbage: Callable[[bytes], bytes]) -> None:
    outcome, _ = ask(lambda packet, tcp: [garbage(packet)], lambda r: r.mx("x.test"))
    assert isinstance(outcome, DnsTrouble) or outcome.found is not Found.RECORDS, outcome


def test_records_of_another_type_are_not_taken() -> None:
    outcome, _ = ask(lambda packet, tcp: [answer(packet, (TXT, b"\3abc"), ipv4("192.0.2.1"))], lambda r: r.mx("x.test"))
    assert isinstance(outcome, Answer)
    assert outcome.found is Found.NODATA


def test_one_protocol_in_trouble_leaves_the_other_for_a_moment() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        if type_of(packet) == AAAA:
            return [answer(packet, rcode=fake_dns.SERVFAIL)]
        return [answer(packet, ipv4("192.0.2.1"), ttl=3600)]

    outcome, _ = ask(behaviour, lambda r: r.addresses("x.test"))
    assert isinstance(outcome, Answer)
    assert outcome.records == ("192.0.2.1",)
    assert outcome.ttl_s <= 2
    assert outcome.partial


def test_one_protocol_in_trouble_and_none_of_the_other_is_trouble() -> None:
    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        return [answer(packet, rcode=fake_dns.SERVFAIL if type_of(packet) == AAAA else fake_dns.NOERROR)]

    outcome, _ = ask(behaviour, lambda r: r.addresses("x.test"))
    assert isinstance(outcome, DnsTrouble)


@pytest.mark.parametrize("name", ["a b.example", "\x00.example", "x\r\nInjected: yes.example", "\xff.example", "*.x"])
def test_hostile_names_of_addresses_are_left_out(name: str) -> None:
    outcome, _ = ask(lambda packet, tcp: [answer(packet, (PTR, wire_name(name)))], lambda r: r.ptr("192.0.2.1"))
    assert isinstance(outcome, DnsTrouble) or outcome.found is Found.NODATA, outcome


def test_64_kib_of_txt() -> None:
    strings = (b"\xff" + b"x" * 255) * 250

    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        return [answer(packet, (TXT, strings))] if tcp else [answer(packet, truncated=True)]

    outcome, _ = ask(behaviour, lambda r: r.txt("x.test"))
    assert isinstance(outcome, Answer)
    assert outcome.records == (b"x" * 255 * 250,)


def test_a_cancelled_look_up_leaves_the_resolver_whole() -> None:
    silent = True

    def behaviour(packet: bytes, tcp: bool) -> list[bytes]:
        return [] if silent else [answer(packet, (MX, b"\0\1" + wire_name("a.test")))]

    async def look_up(resolver: CaresResolver) -> Answer[Mx]:
        nonlocal silent
        waiting = asyncio.create_task(resolver.mx("x.test"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        silent = False
        return await resolver.mx("y.test")

    outcome, _ = ask(behaviour, look_up)
    assert isinstance(outcome, Answer)
    assert outcome.records == (Mx(1, "a.test"),)


def test_closing_ends_what_still_waits() -> None:
    async def look_up(resolver: CaresResolver) -> Answer[Mx]:
        waiting = asyncio.create_task(resolver.mx("x.test"))
        await asyncio.sleep(0)
        await resolver.close()
        return await waiting

    outcome, _ = ask(lambda packet, tcp: [], look_up)
    assert isinstance(outcome, DnsTrouble)
    assert "closed" in str(outcome)
