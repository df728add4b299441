from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.dns.cache import CachingResolver
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx, Tlsa
from support.fake_resolver import SERVFAIL, FakeResolver, MovedClock

R = TypeVar("R")


def at_once(look_up: Coroutine[Any, Any, R]) -> R:
    """The result of a look-up that must not suspend."""
    try:
        look_up.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    look_up.close()
    raise AssertionError("it suspended")


def caching(inner: FakeResolver, clock: MovedClock, **settings: str) -> CachingResolver:
    return CachingResolver(inner, clock, Parameters(settings))


def test_a_hit_does_not_suspend_and_lasts_as_long_as_the_record() -> None:
    inner, clock = FakeResolver({("MX", "a.example"): [Mx(10, "mx.example")]}, ttl_s=30), MovedClock()
    cache = caching(inner, clock)
    first = asyncio.run(cache.mx("a.example"))
    assert first.records == (Mx(10, "mx.example"),)
    inner.gate = asyncio.Event()
    assert at_once(cache.mx("A.Example")) is first  # names have no case
    clock.now += 29.9
    assert at_once(cache.mx("a.example")) is first
    inner.gate = None
    clock.now += 0.2
    asyncio.run(cache.mx("a.example"))
    assert inner.asked == [("MX", "a.example")] * 2
    assert (cache.hits, cache.misses) == (2, 2)


def test_the_types_of_a_name_are_kept_apart() -> None:
    inner = FakeResolver({("A", "a"): ["192.0.2.1"], ("TXT", "a"): [b"v=spf1"], ("PTR", "192.0.2.1"): ["a"]})
    cache = caching(inner, MovedClock())
    for _ in range(2):
        assert asyncio.run(cache.addresses("a")).records == ("192.0.2.1",)
        assert asyncio.run(cache.txt("a")).records == (b"v=spf1",)
        assert asyncio.run(cache.ptr("192.0.2.1")).records == ("a",)
        assert asyncio.run(cache.mx("a")).found is Found.NODATA
    assert len(inner.asked) == 4


@pytest.mark.parametrize(("zone", "found"), [({}, Found.NXDOMAIN), ({("A", "a"): ["::1"]}, Found.NODATA)])
def test_absence_is_remembered_for_the_negative_time(zone: dict[Any, Any], found: Found) -> None:
    inner, clock = FakeResolver(zone), MovedClock()
    cache = caching(inner, clock, dns_negative_ttl_limit="20s")
    assert asyncio.run(cache.mx("a")).found is found
    clock.now += 19
    assert at_once(cache.mx("a")).found is found
    clock.now += 2
    asyncio.run(cache.mx("a"))
    assert len(inner.asked) == 2


def test_trouble_is_remembered_for_a_moment_whatever_the_parameter_says() -> None:
    inner, clock = FakeResolver({("MX", "a"): SERVFAIL}), MovedClock()
    cache = caching(inner, clock, dns_trouble_ttl="1h")
    for _ in range(3):
        with pytest.raises(DnsTrouble, match="SERVFAIL"):
            asyncio.run(cache.mx("a"))
    assert len(inner.asked) == 1
    clock.now += 2.1
    inner.zone["MX", "a"] = [Mx(1, "b")]
    assert asyncio.run(cache.mx("a")).records == (Mx(1, "b"),)


def test_a_long_life_is_cut_to_the_limit_and_none_is_not_kept() -> None:
    inner, clock = FakeResolver({("A", "a"): ["::1"]}, ttl_s=1e9), MovedClock()
    cache = caching(inner, clock, dns_cache_ttl_limit="10s")
    asyncio.run(cache.addresses("a"))
    clock.now += 11
    asyncio.run(cache.addresses("a"))
    assert len(inner.asked) == 2
    inner.ttl_s = 0
    clock.now += 11
    asyncio.run(cache.addresses("a"))
    asyncio.run(cache.addresses("a"))
    assert len(inner.asked) == 4


def test_many_that_ask_at_once_are_one_question() -> None:
    async def scenario() -> None:
        inner = FakeResolver({("A", "a"): ["::1"]}, ttl_s=0)
        inner.gate = asyncio.Event()
        cache = caching(inner, MovedClock())
        waiting = [asyncio.create_task(cache.addresses("a")) for _ in range(50)]
        while not inner.asked:
            await asyncio.sleep(0)
        inner.gate.set()
        answers = await asyncio.gather(*waiting)
        assert len({id(answer) for answer in answers}) == 1
        assert len(inner.asked) == 1

    asyncio.run(scenario())


def test_trouble_reaches_all_that_wait() -> None:
    async def scenario() -> None:
        inner = FakeResolver({("A", "a"): SERVFAIL})
        inner.gate = asyncio.Event()
        cache = caching(inner, MovedClock(), dns_trouble_ttl="0s")
        waiting = [asyncio.create_task(cache.addresses("a")) for _ in range(5)]
        while not inner.asked:
            await asyncio.sleep(0)
        inner.gate.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, DnsTrouble) for outcome in outcomes)
        assert len(inner.asked) == 1

    asyncio.run(scenario())


def test_when_the_one_that_asks_is_cancelled_another_asks() -> None:
    async def scenario() -> None:
        inner = FakeResolver({("A", "a"): ["::1"]})
        inner.gate = asyncio.Event()
        cache = caching(inner, MovedClock())
        first, second = (asyncio.create_task(cache.addresses("a")) for _ in range(2))
        while not inner.asked:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # the second waits for the first now
        first.cancel()
        while len(inner.asked) < 2:
            await asyncio.sleep(0)
        inner.gate.set()
        assert (await second).records == ("::1",)
        assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is asyncio.CancelledError

    asyncio.run(scenario())


def test_memory_is_bounded_by_what_records_weigh() -> None:
    class Endless(FakeResolver):
        async def txt(self, name: str) -> Answer[bytes]:
            return Answer(Found.RECORDS, (b"x" * 60_000,), ttl_s=300)

    async def scenario() -> None:
        cache = CachingResolver(Endless({}), MovedClock(), Parameters({"dns_cache_size_limit": "1000000"}))
        for number in range(200):
            await cache.txt(f"n{number}.example")
            assert cache.weight_bytes <= 1_000_000
        at_once(cache.txt("n199.example"))
        assert cache.hits == 1
        cache.clear()
        assert cache.weight_bytes == 0

    asyncio.run(scenario())


def test_what_is_larger_than_the_whole_cache_is_not_kept() -> None:
    inner = FakeResolver({("TXT", "a"): [b"x" * 70_000]})
    cache = caching(inner, MovedClock(), dns_cache_size_limit="65536")
    asyncio.run(cache.txt("a"))
    assert cache.weight_bytes == 0


def test_what_dnssec_proved_is_remembered_with_the_answer() -> None:
    record, alias = Tlsa(3, 1, 1, b"\xaa" * 32), "b.example"
    inner = FakeResolver(
        {
            ("TLSA", "_25._tcp.a"): Answer(Found.RECORDS, (record,), authentic=True, ttl_s=60),
            ("CNAME", "a"): Answer(Found.RECORDS, (alias,), authentic=True, ttl_s=60),
            ("TLSA", "_25._tcp.b"): Answer(Found.NODATA, authentic=True, ttl_s=60),
        }
    )
    cache = caching(inner, MovedClock())
    for _ in range(2):
        assert asyncio.run(cache.tlsa("_25._tcp.A")) == Answer(Found.RECORDS, (record,), True, 60)
        assert asyncio.run(cache.cname("a")) == Answer(Found.RECORDS, (alias,), True, 60)
        assert asyncio.run(cache.tlsa("_25._tcp.b")).authentic
    assert len(inner.asked) == 3


def test_until_when_an_answer_is_remembered() -> None:
    inner, clock = FakeResolver({("TXT", "a"): [b"x"], ("TXT", "b"): SERVFAIL}, ttl_s=60), MovedClock()
    cache = caching(inner, clock)
    answer = asyncio.run(cache.txt("a"))
    assert cache.lives_until("txt", "A", answer) == clock.now + 60
    # Another answer, though it says the same, may have come from elsewhere or earlier.
    assert cache.lives_until("txt", "a", Answer(Found.RECORDS, (b"x",), ttl_s=60)) == 0
    assert cache.lives_until("mx", "a", answer) == cache.lives_until("txt", "b", answer) == 0
    cache.clear()
    assert cache.lives_until("txt", "a", answer) == 0
