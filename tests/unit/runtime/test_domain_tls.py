"""Reports on TLS from the first count to the last place, and what a worker does from time to time (RFC 8460)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.message.host import Host
from ekiden.message.tls_facts import TlsFacts
from ekiden.queue.store import StoreTrouble
from ekiden.runtime.domain_tls import DomainTls
from ekiden.tls.policy import Level, Problem, TlsOutcome, TlsPolicy
from ekiden.tls.tlsrpt import decode
from ekiden.tls.tlsrpt_store import TlsrptStore
from support.certificates import Authority
from support.fake_clock import FakeClock
from support.fake_resolver import SERVFAIL, FakeResolver
from support.honours import honours
from support.https_server import HttpsServer, text
from support.smtp_delivery import Notes
from support.tls_reports import report_in

DAY = 86400.0
HOST = Host("mx.x.test", "192.0.2.1", 25)
RECORD = ("TXT", "_smtp._tls.x.test")


class World:
    def __init__(self, directory: Path, **settings: str) -> None:
        (directory / "tls").mkdir(exist_ok=True)
        self.resolver = FakeResolver({RECORD: [b"v=TLSRPTv1; rua=mailto:r@x.test"]})
        self.clock = FakeClock()
        self.sent: list[tuple[str, str, bytes]] = []
        self.trouble: Exception | None = None
        self.notes = Notes()
        self.settings = {
            "myhostname": "mx.our.test",
            "mydomain": "our.test",
            "queue_directory": str(directory),
            "smtp_tlsrpt_enable": "yes",
            **settings,
        }
        self.restart()

    def restart(self) -> None:
        self.parameters = Parameters(self.settings)
        self.tls = DomainTls(
            self.parameters,
            resolver=self.resolver,
            secure_resolver=lambda: self.resolver,
            submit=self.submit,
            clock=self.clock,
            observer=self.notes,
            rng=random.Random(1),
        )

    async def submit(self, sender: str, recipient: str, content: bytes) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.sent.append((sender, recipient, content))

    def session(self, problem: Problem | None = None, facts: TlsFacts | None = None) -> None:
        """One session of the smtp agent ends."""

        class NoTable:
            default = constant = TlsPolicy(Level.MAY)

            def tell(self, *told: object) -> None: ...

        source = self.tls.policies(self.parameters, "smtp")(NoTable())  # type: ignore[arg-type]
        source.tell("x.test", HOST, TlsPolicy(Level.MAY), TlsOutcome(problem, facts=facts))

    async def pass_(self, seconds: float) -> None:
        """Time passes, and the worker looks after things in between."""
        for _ in range(int(seconds // 600)):
            await self.clock.advance(600)
            await self.tls.tick(first=True)


def run(scenario: Callable[[], Awaitable[Any]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(whole())


@honours("smtp_tlsrpt_enable")
def test_a_day_is_reported_once_after_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        for problem in (None, None, Problem.NOT_OFFERED):
            world.session(problem)
        await world.tls.close()
        world.restart()  # a restart loses nothing
        world.session()
        await world.pass_(DAY + 5 * 3600)
        ((sender, recipient, content),) = world.sent
        assert (sender, recipient) == ("postmaster@our.test", "r@x.test")
        report = report_in(content)
        (result,) = report.policies
        assert result.policy.policy_type == "no-policy-found"
        assert result.summary.total_successful_session_count == 3
        assert [(each.result_type, each.failed_session_count) for each in result.failure_details] == [
            ("starttls-not-supported", 1)
        ]
        assert report.date_range.start_datetime.endswith("T00:00:00Z")
        await world.pass_(2 * DAY)
        assert len(world.sent) == 1
        world.session()
        await world.pass_(2 * DAY)
        assert len(world.sent) == 2
        await world.tls.close()

    run(scenario)


def test_without_a_wish_nothing_is_counted_or_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, smtp_tlsrpt_enable="no")
        world.session()
        await world.pass_(2 * DAY)
        assert not world.sent
        assert not list((tmp_path / "tls").glob("tlsrpt*"))
        world = World(tmp_path)
        del world.resolver.zone[RECORD]
        world.session()
        await world.pass_(2 * DAY)
        assert not world.sent
        assert world.tls.store.domains("9999") == []
        await world.tls.close()

    run(scenario)


@honours("smtp_tlsrpt_skip_reused_handshakes")
@pytest.mark.parametrize(("skipped", "sessions"), [("no", 2), ("yes", 1)])
def test_sessions_that_resume_another(tmp_path: Path, skipped: str, sessions: int) -> None:
    async def scenario() -> None:
        world = World(tmp_path, smtp_tlsrpt_skip_reused_handshakes=skipped)
        world.session(facts=TlsFacts("TLSv1.3", "x"))
        world.session(facts=TlsFacts("TLSv1.3", "x", resumed=True))
        world.tls.store.flush()
        ((day, domain),) = world.tls.store.domains("9999")
        assert [count.sessions for count in world.tls.store.counts(day, domain)] == [sessions]
        await world.tls.close()

    run(scenario)


@pytest.mark.parametrize("trouble", ["dns", "queue"])
def test_a_report_that_cannot_be_sent_is_tried_again_for_two_days(tmp_path: Path, trouble: str) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        good = world.resolver.zone[RECORD]

        def break_it() -> None:
            if trouble == "dns":
                world.resolver.zone[RECORD] = SERVFAIL
            else:
                world.trouble = StoreTrouble("full")

        break_it()
        world.session()
        await world.pass_(1.5 * DAY)
        assert not world.sent
        world.resolver.zone[RECORD], world.trouble = good, None
        await world.pass_(0.2 * DAY)
        assert len(world.sent) == 1
        break_it()
        world.session()
        await world.pass_(4 * DAY)
        assert world.tls.store.domains("9999") == []
        assert len(world.sent) == 1
        await world.tls.close()

    run(scenario)


def test_reports_by_https_and_mail_each_once(tmp_path: Path) -> None:
    authority = Authority()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.pem)

    async def scenario() -> None:
        world = World(tmp_path, smtp_tls_CAfile=str(ca_file))
        answers = [text(b"", status="503 No"), text(b"", status="201 Created")]
        async with HttpsServer(authority.issue("r.x.test"), tmp_path, lambda asked: answers.pop(0)) as server:
            place = f"https://r.x.test:{server.port}/in".encode()
            world.resolver.zone[RECORD] = [b"v=TLSRPTv1; rua=mailto:r@x.test," + place]
            world.resolver.zone["A", "r.x.test"] = ["127.0.0.1"]
            world.session()
            await world.clock.advance(1.5 * DAY)
            assert await world.tls.report() == 1  # by mail; the other is tried again
            assert await world.tls.report() == 1
            assert await world.tls.report() == 0
            assert len(world.sent) == 1
            head, _, body = server.requests[1].partition(b"\r\n\r\n")
            assert head.startswith(b"POST /in HTTP/1.1\r\n")
            assert b"Content-Type: application/tlsrpt+gzip\r\n" in head
            assert decode(body) == report_in(world.sent[0][2])
        await world.tls.close()

    run(scenario)


def test_counts_are_bounded_and_survive_a_broken_file(tmp_path: Path) -> None:
    warnings: list[str] = []
    store = TlsrptStore(tmp_path / "x.sqlite", limit=5, time=lambda: 1_800_000_000.0, warn=warnings.append)
    for n in range(20):
        store.none(f"d{n}.test", HOST, TlsOutcome())
        store.flush()
    assert len(store.domains("9999")) == 5
    store.close()
    (tmp_path / "y.sqlite").write_bytes(b"no database" * 100)
    store = TlsrptStore(tmp_path / "y.sqlite", limit=5, time=lambda: 1_800_000_000.0, warn=warnings.append)
    for _ in range(3):
        store.none("x.test", HOST, TlsOutcome())
        store.flush()
    assert len(warnings) == 1
    (tmp_path / "y.sqlite").unlink()
    store.flush()
    assert [count.sessions for count in store.counts("2027-01-15", "x.test")] == [3]
    store.close()
