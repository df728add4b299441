"""Which MTA-STS policy holds for a domain, and when it is fetched (RFC 8461 §3.3, §5.1, §10.2)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.protocol.http import HttpResponse
from ekiden.tls.https import HttpsTrouble
from ekiden.tls.mta_sts import Mode, Policy
from ekiden.tls.policy import Problem
from ekiden.tls.sts_cache import Kept, StsCache
from ekiden.tls.sts_discovery import Discovered, StsDiscovery
from support.fake_clock import FakeClock
from support.fake_resolver import SERVFAIL, FakeResolver
from support.honours import honours

RECORD = ("TXT", "_mta-sts.x.test")
DAY = 86400.0
ENFORCE = Policy(Mode.ENFORCE, ("mx.x.test",), 7 * 86400)


class World:
    """A domain x.test whose record and policy host say what a test wants."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.resolver = FakeResolver({RECORD: [b"v=STSv1; id=1"]})
        self.clock = FakeClock()
        self.fetched: list[tuple[str, str]] = []
        self.answer: HttpResponse | HttpsTrouble = served(ENFORCE)
        self.gate: asyncio.Event | None = None
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.parameters = Parameters(settings)
        self.directory = directory
        self.restart()

    def restart(self) -> None:
        limit = self.parameters.smtp_mta_sts_cache_limit
        self.cache = StsCache(self.directory / "mta-sts.sqlite", limit=limit, warn=self.warnings.append)
        self.discovery = StsDiscovery(
            self.parameters, self.resolver, self.cache, self.fetch, self.clock, self.notes.append
        )

    async def fetch(self, host: str, path: str) -> HttpResponse:
        self.fetched.append((host, path))
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, HttpsTrouble):
            raise self.answer
        return self.answer

    def says(self, record: object) -> None:
        self.resolver.zone[RECORD] = record


def served(policy: Policy, **changes: object) -> HttpResponse:
    fields = {"status": 200, "fields": {"content-type": "text/plain"}, "body": "\r\n".join(policy.lines()).encode()}
    return HttpResponse(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.cache.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario()

    asyncio.run(whole())


def test_a_policy_is_fetched_once_and_kept(world: World) -> None:
    async def scenario() -> None:
        for _ in range(3):
            assert await world.discovery.policy_of("x.test") == Discovered(ENFORCE)
        assert world.fetched == [("mta-sts.x.test", "/.well-known/mta-sts.txt")]

    run(scenario)


def test_a_policy_survives_a_restart_and_is_shared(world: World) -> None:
    async def scenario() -> None:
        await world.discovery.policy_of("x.test")
        world.restart()
        assert await world.discovery.policy_of("x.test") == Discovered(ENFORCE)
        assert len(world.fetched) == 1

    run(scenario)


def test_a_domain_without_a_record_has_no_policy(world: World) -> None:
    async def scenario() -> None:
        assert await world.discovery.policy_of("y.test") == Discovered()
        assert not world.fetched

    run(scenario)


@pytest.mark.parametrize(
    ("record", "problem"),
    [(None, None), (SERVFAIL, Problem.STS_POLICY_FETCH), ([b"v=STSv1; id=!"], Problem.STS_POLICY_INVALID)],
)
def test_a_policy_that_lives_holds_whatever_dns_says(world: World, record: object, problem: Problem | None) -> None:
    """RFC 8461 §5.1, and none is made up where there is none."""

    async def scenario() -> None:
        await world.discovery.policy_of("x.test")
        if record is None:
            del world.resolver.zone[RECORD]
        else:
            world.says(record)
        found = await world.discovery.policy_of("x.test")
        assert (found.policy, found.problem) == (ENFORCE, problem)
        await world.clock.advance(7 * DAY)  # it expires
        found = await world.discovery.policy_of("x.test")
        assert (found.policy, found.problem) == (None, problem)
        assert len(world.fetched) <= 2

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (HttpsTrouble("expired", by_certificate=True), Problem.STS_WEBPKI_INVALID),
        (HttpsTrouble("no route"), Problem.STS_POLICY_FETCH),
        (served(ENFORCE, status=404), Problem.STS_POLICY_FETCH),
        (served(ENFORCE, status=301), Problem.STS_POLICY_FETCH),
        (served(ENFORCE, fields={"content-type": "text/html"}), Problem.STS_POLICY_FETCH),
        (served(ENFORCE, body=b"version: STSv1\nmode: enforce\nmax_age: 1"), Problem.STS_POLICY_INVALID),
    ],
)
@honours("smtp_mta_sts_retry_time")
def test_a_policy_that_cannot_be_fetched(world: World, answer: HttpResponse | HttpsTrouble, problem: Problem) -> None:
    async def scenario() -> None:
        good, world.answer = world.answer, answer
        for _ in range(3):  # one try: the rest of the mail does not wait for it
            found = await world.discovery.policy_of("x.test")
            assert (found.policy, found.problem) == (None, problem)
        assert len(world.fetched) == 1
        assert len(world.notes) == 1
        assert world.notes[0].startswith("MTA-STS policy of x.test cannot be had: ")
        await world.clock.advance(301)
        world.answer = good
        assert await world.discovery.policy_of("x.test") == Discovered(ENFORCE)
        # A new policy that cannot be had leaves the old one in force.
        world.says([b"v=STSv1; id=2"])
        world.answer = answer
        found = await world.discovery.policy_of("x.test")
        assert (found.policy, found.problem) == (ENFORCE, problem)

    run(scenario)


def test_a_name_server_that_is_silent_holds_up_one_message_only(world: World) -> None:
    async def scenario() -> None:
        good = world.resolver.zone[RECORD]
        world.says(SERVFAIL)
        for _ in range(3):
            assert (await world.discovery.policy_of("x.test")).problem is Problem.STS_POLICY_FETCH
        assert len(world.resolver.asked) == 1
        world.says(good)
        await world.clock.advance(301)
        assert await world.discovery.policy_of("x.test") == Discovered(ENFORCE)

    run(scenario)


def test_a_new_id_brings_a_new_policy(world: World) -> None:
    async def scenario() -> None:
        await world.discovery.policy_of("x.test")
        new = Policy(Mode.TESTING, ("*.x.test",), 86400)
        world.answer = served(new)
        assert await world.discovery.policy_of("x.test") == Discovered(ENFORCE)
        world.says([b"v=STSv1; id=2"])
        assert await world.discovery.policy_of("x.test") == Discovered(new)
        world.says([b"v=STSv1; id=3"])
        world.answer = served(Policy(Mode.NONE, (), 86400))  # RFC 8461 §8.3: how a domain leaves
        assert await world.discovery.policy_of("x.test") == Discovered()
        assert await world.discovery.policy_of("x.test") == Discovered()
        assert len(world.fetched) == 3

    run(scenario)


def test_many_who_want_a_policy_share_one_fetch(world: World) -> None:
    async def scenario() -> None:
        world.gate = asyncio.Event()
        waiting = [asyncio.create_task(world.discovery.policy_of("x.test")) for _ in range(50)]
        while not world.fetched:
            await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        world.gate.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == [Discovered(ENFORCE)] * 49
        assert len(world.fetched) == 1

    run(scenario)


@honours("smtp_mta_sts_refresh_time")
def test_a_policy_in_use_is_fetched_anew_before_it_ends(world: World) -> None:
    """RFC 8461 §10.2: even where the record has gone, which may be an attacker's doing."""

    async def scenario() -> None:
        await world.discovery.policy_of("x.test")
        del world.resolver.zone[RECORD]
        await world.clock.advance(DAY + 1)
        assert await world.discovery.policy_of("x.test") == Discovered(ENFORCE)  # at once, by the old one
        while len(world.fetched) < 2 or world.discovery._fetches:
            await asyncio.sleep(0)
        await world.clock.advance(6.5 * DAY)  # past the end of the first
        assert (await world.discovery.policy_of("x.test")).policy == ENFORCE

    run(scenario)


def test_many_policies_are_renewed_a_few_at_a_time(world: World) -> None:
    async def scenario() -> None:
        for n in range(50):
            world.cache.put(f"d{n}.test", Kept("1", ENFORCE, world.clock.time(), world.clock.time() + 7 * DAY))
        await world.clock.advance(2 * DAY)
        assert await world.discovery.refresh() == 50
        assert len(world.fetched) == 50
        assert await world.discovery.refresh() == 0

    run(scenario)


def test_a_policy_that_nobody_uses_is_fetched_anew_too(world: World) -> None:
    async def scenario() -> None:
        await world.discovery.policy_of("x.test")
        assert await world.discovery.refresh() == 0
        for _ in range(10):
            await world.clock.advance(DAY + 1)
            assert await world.discovery.refresh() == 1
            assert await world.discovery.refresh() == 0
        assert (await world.discovery.policy_of("x.test")).policy == ENFORCE
        # One that cannot be fetched is not tried again and again.
        world.answer = HttpsTrouble("no route")
        await world.clock.advance(DAY + 1)
        assert await world.discovery.refresh() == 1
        assert await world.discovery.refresh() == 0

    run(scenario)


@honours("smtp_mta_sts_max_age_limit")
def test_a_policy_is_kept_no_longer_than_the_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, smtp_mta_sts_max_age_limit="1d", smtp_mta_sts_refresh_time="10d")
        await world.discovery.policy_of("x.test")
        del world.resolver.zone[RECORD]
        await world.clock.advance(DAY - 1)
        assert (await world.discovery.policy_of("x.test")).policy == ENFORCE
        await world.clock.advance(2)
        assert await world.discovery.policy_of("x.test") == Discovered()
        world.cache.close()

    run(scenario)


def test_a_policy_of_no_age_is_not_fetched_for_every_message(world: World) -> None:
    async def scenario() -> None:
        world.answer = served(Policy(Mode.ENFORCE, ("mx.x.test",), 0))
        for _ in range(5):
            assert (await world.discovery.policy_of("x.test")).policy is not None
        assert len(world.fetched) == 1

    run(scenario)


# -- the file --


@honours("smtp_mta_sts_cache_limit")
def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = StsCache(tmp_path / "sts", limit=10, warn=pytest.fail)
    for n in range(30):
        cache.put(f"d{n}.test", Kept("1", ENFORCE, 1000.0, 2000.0 + n))
    assert cache.get("d29.test", 1500.0) is not None
    cache.close()
    with sqlite3.connect(tmp_path / "sts") as database:
        kept = [domain for (domain,) in database.execute("SELECT domain FROM policy ORDER BY expires")]
    database.close()
    assert kept == [f"d{n}.test" for n in range(20, 30)]
    assert len(cache._memory) == 10


def test_two_processes_share_the_cache(tmp_path: Path) -> None:
    one, two = (StsCache(tmp_path / "sts", limit=10, warn=pytest.fail) for _ in range(2))
    assert one.get("x.test", 0) is None
    assert one.get("x.test", 1450.0) is None
    two.put("x.test", Kept("1", ENFORCE, 1000.0, 2000.0))
    assert one.get("x.test", 1509.0) is None  # the file is not asked for every message
    kept = one.get("x.test", 1510.0)
    assert kept == Kept("1", ENFORCE, 1000.0, 2000.0)
    two.put("x.test", Kept("2", ENFORCE, 1100.0, 2000.0))
    assert one.get("x.test", 1500.0) == kept
    assert one.renewed("x.test", 1500.0) == Kept("2", ENFORCE, 1100.0, 2000.0)
    assert one.get("x.test", 2000.0) is None
    one.close()
    two.close()


def test_a_file_that_cannot_be_used_is_told_of_and_mail_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "sts"
    path.write_bytes(b"this is no database" * 100)
    warnings: list[str] = []
    cache = StsCache(path, limit=10, warn=warnings.append)
    for _ in range(3):
        cache.put("x.test", Kept("1", ENFORCE, 1000.0, 2000.0))
    assert cache.get("x.test", 1500.0) == Kept("1", ENFORCE, 1000.0, 2000.0)
    assert cache.due(1500.0, 1500.0, 10) == []
    assert len(warnings) == 1
    assert "not a database" in warnings[0]


def test_a_row_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    cache = StsCache(tmp_path / "sts", limit=10, warn=pytest.fail)
    cache.put("x.test", Kept("1", ENFORCE, 1000.0, 2000.0))
    with sqlite3.connect(tmp_path / "sts") as database:
        database.execute("UPDATE policy SET text = x'ff'")
    database.close()
    assert StsCache(tmp_path / "sts", limit=10, warn=pytest.fail).get("x.test", 1500.0) is None
    cache.close()
