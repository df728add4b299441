"""What is made of answers of the DNS lives as long as they do, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.dns.cache import CachingResolver
from ekiden.dns.derived import Basis, Derived
from ekiden.dns.resolver import Answer, DnsTrouble, Found, Mx
from support.fake_resolver import SERVFAIL, FakeResolver, MovedClock

ZONE: dict[tuple[str, str], object] = {
    ("TXT", "a"): [b"x"],
    ("TXT", "short"): Answer(Found.RECORDS, (b"y",), ttl_s=10),
    ("TXT", "gone"): Answer(Found.RECORDS, (b"y",), ttl_s=0),
    ("TXT", "trouble"): SERVFAIL,
    ("TXT", "huge"): [b"x" * 70_000],
    ("MX", "short"): Answer(Found.RECORDS, (Mx(1, "a"),), ttl_s=10),
    ("A", "short"): Answer(Found.RECORDS, ("192.0.2.1",), ttl_s=10),
    ("PTR", "short"): Answer(Found.RECORDS, ("a",), ttl_s=10),
    ("SRV", "short"): Answer(Found.RECORDS, ("a",), ttl_s=10),
    ("TLSA", "short"): Answer(Found.RECORDS, ("a",), ttl_s=10),
    ("CNAME", "short"): Answer(Found.RECORDS, ("a",), ttl_s=10),
}


class Made:
    """Values made of a zone, and the clock that they live by."""

    def __init__(self, *, limit: int = 10, cached: bool = True, **settings: str) -> None:
        self.clock, inner = MovedClock(), FakeResolver(ZONE, ttl_s=60)
        self.cache = CachingResolver(inner, self.clock, Parameters(settings))
        self.resolver = self.cache if cached else inner
        self.derived: Derived[str, str] = Derived(self.resolver, limit=limit)

    def make(self, key: str, *questions: tuple[str, str]) -> None:
        async def run() -> None:
            basis = Basis(self.resolver)
            for kind, name in questions:
                try:
                    await getattr(basis, kind)(name)
                except DnsTrouble:
                    pass
            self.derived.keep(key, f"of {key}", basis)

        asyncio.run(run())


@pytest.mark.parametrize("kind", ["txt", "mx", "addresses", "ptr", "srv", "tlsa", "cname"])
@pytest.mark.parametrize("last", [True, False])
def test_the_answer_that_dies_first_ends_it(kind: str, last: bool) -> None:
    made = Made()
    questions = [("txt", "a"), (kind, "Short")]
    made.make("k", *(questions if last else reversed(questions)))
    made.clock.now += 9.9
    assert made.derived.known("k") == "of k"
    made.clock.now += 0.2
    assert made.derived.known("k") is None


def test_it_lives_from_when_the_answer_came_not_from_when_it_was_used() -> None:
    made = Made()
    made.make("first", ("txt", "short"))
    made.clock.now += 9
    made.make("second", ("txt", "short"))
    assert made.derived.known("second") == "of second"
    made.clock.now += 1
    assert made.derived.known("second") is None
    made.make("second", ("txt", "short"))
    assert made.derived.known("second") == "of second"


@pytest.mark.parametrize("name", ["trouble", "gone"])
def test_trouble_and_what_no_cache_keeps_are_not_remembered(name: str) -> None:
    made = Made()
    made.make("k", ("txt", name), ("txt", "a"))
    made.make("l", ("txt", "a"), ("txt", name))
    assert len(made.derived) == 0


def test_what_was_cancelled_is_no_basis() -> None:
    async def run() -> Basis:
        inner = FakeResolver(ZONE)
        inner.gate = asyncio.Event()
        basis = Basis(CachingResolver(inner, MovedClock(), Parameters({})))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(basis.txt("a"), 0.001)
        return basis

    assert asyncio.run(run()).until == 0


def test_an_answer_that_the_cache_has_no_room_for_is_no_basis() -> None:
    made = Made(dns_cache_size_limit="65536")
    made.make("k", ("txt", "huge"))
    assert len(made.derived) == 0


def test_without_a_cache_nothing_is_remembered() -> None:
    made = Made(cached=False)
    made.make("k", ("txt", "a"))
    made.make("l")
    assert len(made.derived) == 0


def test_a_cache_that_is_cleared_takes_it_along() -> None:
    made = Made()
    made.make("k", ("txt", "a"))
    made.cache.clear()
    assert made.derived.known("k") is None
    made.make("k", ("txt", "a"))
    assert made.derived.known("k") == "of k"


def test_it_is_bounded() -> None:
    made = Made(limit=10)
    for number in range(100):
        made.make(str(number), ("txt", "a"))
        assert len(made.derived) <= 10
        assert made.derived.known(str(number)) is not None
    assert made.derived.known("1") is None
