"""Aggregate reports of DMARC from the first message to the last place (RFC 9990)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import parsedmarc
import pytest

from ekiden.auth.verdict import DmarcPolicy
from ekiden.config.snapshot import Parameters
from ekiden.deliver.dmarc_reports import sender_trouble
from ekiden.queue.store import StoreTrouble
from ekiden.runtime.dmarc_reports import DmarcReports
from support.dmarc import DAY, RECORD, evaluated
from support.fake_clock import FakeClock
from support.fake_resolver import SERVFAIL, FakeResolver
from support.smtp_delivery import Notes

DAY_S = 86400
POLICY = ("TXT", "_dmarc.example.com")


class Host:
    """One worker of several, on a host with one directory."""

    def __init__(self, directory: Path, clock: FakeClock | None = None, **settings: str) -> None:
        (directory / "reports").mkdir(exist_ok=True)
        self.clock = FakeClock(DAY + 60.0) if clock is None else clock
        self.resolver = FakeResolver({POLICY: [RECORD.encode()]})
        self.sent: list[tuple[str, str, bytes]] = []
        self.trouble: Exception | None = None
        self.notes = Notes()
        self.settings = {
            "myhostname": "mx.our.example",
            "mydomain": "our.example",
            "queue_directory": str(directory),
            **settings,
        }
        self.restart()

    def restart(self) -> None:
        self.reports = DmarcReports(
            Parameters(self.settings),
            resolver=self.resolver,
            submit=self.submit,
            clock=self.clock,
            observer=self.notes,
            rng=random.Random(1),
        )

    async def submit(self, sender: str, recipient: str, content: bytes) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.sent.append((sender, recipient, content))

    async def tick(self, *, first: bool = True) -> None:
        await self.reports.tick(first=first)
        if (task := self.reports._reporting) is not None:
            await task

    async def pass_(self, seconds: float) -> None:
        """Time passes, and the worker looks after things in between."""
        for _ in range(int(seconds // 1800)):
            await self.clock.advance(1800)
            await self.tick()

    @property
    def places(self) -> list[str]:
        return [recipient for _, recipient, _ in self.sent]


def days(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run(tmp_path: Path, **values: Any) -> None:
        asyncio.run(test(tmp_path, **values))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def numbers(content: bytes) -> tuple[str, dict[str, int]]:
    """The domain, and the messages by disposition, as parsedmarc reads the report."""
    report: Any = parsedmarc.parse_report_email(content, offline=True)["report"]
    found: dict[str, int] = {}
    for record in report["records"]:
        disposition = record["policy_evaluated"]["disposition"]
        found[disposition] = found.get(disposition, 0) + record["count"]
    return report["policy_published"]["domain"], found


@days
async def test_a_day_passes_and_its_report_arrives_once(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for number in range(7):
        host.reports.add(evaluated(client=f"192.0.2.{number % 2}"))
    host.reports.add(evaluated(passed=False, disposition=DmarcPolicy.REJECT))
    await host.pass_(3600 * 23)
    assert host.sent == []
    await host.pass_(3600 * 6)
    ((sender, recipient, content),) = host.sent
    assert (sender, recipient) == ("postmaster@our.example", "dmarc@example.com")
    assert numbers(content) == ("example.com", {"pass": 7, "reject": 1})
    await host.pass_(3600 * 48)
    assert len(host.sent) == 1


@days
async def test_every_day_has_a_report_of_its_own(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for _ in range(3):
        host.reports.add(evaluated(now=host.clock.time()))
        await host.pass_(DAY_S)
    await host.pass_(3600 * 6)
    assert len(host.sent) == 3
    assert len({content.partition(b"Report-ID:")[2][:40] for _, _, content in host.sent}) == 3


@days
async def test_the_report_leaves_at_a_random_time_within_the_limit(tmp_path: Path) -> None:
    host = Host(tmp_path, dmarc_report_delay_limit="0")
    host.reports.add(evaluated())
    await host.pass_(DAY_S - 1800)
    assert host.sent == []
    await host.pass_(1800)  # it has just begun: the other workers may still have counts to write
    assert host.sent == []
    await host.pass_(1800)
    assert len(host.sent) == 1


@days
async def test_only_the_first_worker_sends_what_all_have_counted(tmp_path: Path) -> None:
    clock = FakeClock(DAY + 60.0)
    first, second = Host(tmp_path, clock), Host(tmp_path, clock)
    first.reports.add(evaluated())
    second.reports.add(evaluated())
    for _ in range(60):
        await clock.advance(1800)
        await second.tick(first=False)
        await first.tick()
    assert second.sent == []
    assert [numbers(content)[1] for _, _, content in first.sent] == [{"pass": 2}]


@days
async def test_two_that_send_at_the_same_time_send_one_report(tmp_path: Path) -> None:
    """While the old server ends, a new one may have begun."""
    clock = FakeClock(DAY + DAY_S + 60.0)
    hosts = [Host(tmp_path, clock) for _ in range(3)]
    hosts[0].reports.add(evaluated())
    await hosts[0].reports.flush()
    await asyncio.gather(*(host.reports.report() for host in hosts))
    assert sum(len(host.sent) for host in hosts) == 1


@days
async def test_what_cannot_be_queued_is_tried_again_also_after_a_restart(tmp_path: Path) -> None:
    record = f"{RECORD}, mailto:second@example.com"
    host = Host(tmp_path)
    host.resolver.zone[POLICY] = [
        b"v=DMARC1; p=reject; rua=mailto:dmarc@example.com,mailto:second@example.com",
    ]
    host.reports.add(evaluated(record=record))
    await host.reports.flush()
    await host.clock.advance(DAY_S)
    real = host.submit

    async def second_fails(sender: str, recipient: str, content: bytes) -> None:
        if recipient.startswith("second"):
            raise StoreTrouble("the disk is full")
        await real(sender, recipient, content)

    host.reports._submit = second_fails
    assert await host.reports.report() == 1
    await host.reports.close()
    host.restart()
    assert await host.reports.report() == 1
    assert host.places == ["dmarc@example.com", "second@example.com"]
    assert await host.reports.report() == 0
    assert [text for text in host.notes.texts if "disk is full" in text]


@days
async def test_what_cannot_be_known_is_tried_again_for_two_days(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.reports.add(evaluated())
    host.resolver.zone[POLICY] = SERVFAIL
    await host.pass_(DAY_S * 2)
    assert host.reports.counts.due("9999")
    host.resolver.zone[POLICY] = [RECORD.encode()]
    await host.pass_(3600 * 2)
    assert len(host.sent) == 1

    host.reports.add(evaluated(now=host.clock.time()))
    host.resolver.zone[POLICY] = SERVFAIL
    await host.pass_(DAY_S * 4)
    assert host.reports.counts.due("9999") == []
    assert len(host.sent) == 1
    assert any("given up" in text for text in host.notes.texts)


@days
async def test_who_has_taken_the_wish_back_gets_no_report(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.reports.add(evaluated())
    host.resolver.zone[POLICY] = [b"v=DMARC1; p=reject"]
    await host.pass_(DAY_S + 3600 * 5)
    assert host.sent == []
    assert host.reports.counts.due("9999") == []


@days
async def test_a_stranger_gets_none_that_has_not_asked_for_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.reports.add(evaluated())
    host.resolver.zone[POLICY] = [b"v=DMARC1; p=reject; rua=mailto:v@victim.example,mailto:a@watch.example"]
    host.resolver.zone["TXT", "example.com._report._dmarc.watch.example"] = [b"v=DMARC1;"]
    await host.pass_(DAY_S + 3600 * 5)
    assert host.places == ["a@watch.example"]
    assert any("victim.example does not agree" in text for text in host.notes.texts)


@days
async def test_a_report_that_is_too_large_for_one_place_goes_to_the_others(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for number in range(200):
        host.reports.add(evaluated(selector=f"s{number * 7919}"))
    host.resolver.zone[POLICY] = [b"v=DMARC1; p=none; rua=mailto:small@example.com!1k,mailto:large@example.com!1m"]
    await host.pass_(DAY_S + 3600 * 5)
    assert host.places == ["large@example.com"]
    assert any("more than are wanted" in text for text in host.notes.texts)


@days
async def test_nothing_is_counted_where_reports_are_off(tmp_path: Path) -> None:
    host = Host(tmp_path, dmarc_aggregate_reports="no")
    host.reports.add(evaluated())
    await host.pass_(DAY_S * 2)
    assert host.sent == []
    assert list((tmp_path / "reports").iterdir()) == []


@days
async def test_some_domains_get_none_whatever_they_ask_for(tmp_path: Path) -> None:
    host = Host(tmp_path, dmarc_report_excluded_domains="Example.com, other.example")
    host.resolver.zone["TXT", "_dmarc.anexample.com"] = [b"v=DMARC1; p=none; rua=mailto:a@anexample.com"]
    host.reports.add(evaluated())
    host.reports.add(evaluated(domain="anexample.com"))
    await host.pass_(DAY_S + 3600 * 5)
    assert host.places == ["a@anexample.com"]


@days
async def test_a_host_without_a_domain_sends_none(tmp_path: Path) -> None:
    host = Host(tmp_path, mydomain="localdomain")
    host.reports.add(evaluated())
    await host.pass_(DAY_S + 3600 * 5)
    assert host.sent == []
    assert host.reports.counts.due("9999") == []
    assert any("dmarc_report_sender" in text for text in host.notes.texts)


@pytest.mark.parametrize(
    "sender", ["postmaster@localhost", "a@mx.localdomain", "postmaster", "a@host.local", "a@192.0.2.1", "a@b c.example"]
)
def test_whose_reports_nobody_could_believe(sender: str) -> None:
    assert sender_trouble(sender)


def test_a_sender_in_a_domain_of_the_internet_is_good() -> None:
    assert sender_trouble("dmarc@our.example") == ""


@days
async def test_a_closed_worker_has_written_its_counts(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.reports.add(evaluated())
    await host.reports.close()
    host.restart()
    assert len(host.reports.counts.due("9999")) == 1


@days
async def test_who_we_are_is_for_the_administrator_to_say(tmp_path: Path) -> None:
    host = Host(
        tmp_path,
        dmarc_report_organization_name="Our & Co",
        dmarc_report_contact_info="help@our.example",
        dmarc_report_extra_contact_info="https://our.example/help",
        dmarc_report_sender="noreply@our.example",
    )
    host.reports.add(evaluated())
    await host.pass_(DAY_S + 3600 * 5)
    ((sender, _, content),) = host.sent
    metadata: Any = parsedmarc.parse_report_email(content, offline=True)["report"]["report_metadata"]
    assert sender == "noreply@our.example"
    assert b"\r\nFrom: noreply@our.example\r\n" in b"\r\n" + content
    assert (metadata["org_name"], metadata["org_email"]) == ("Our & Co", "help@our.example")
    assert metadata["org_extra_contact_info"] == "https://our.example/help"


@days
async def test_messages_that_are_not_listed_are_told_of(tmp_path: Path) -> None:
    host = Host(tmp_path, dmarc_report_record_limit="10")
    for number in range(25):
        host.reports.add(evaluated(client=f"192.0.2.{number}"))
    await host.pass_(DAY_S + 3600 * 5)
    report: Any = parsedmarc.parse_report_email(host.sent[0][2], offline=True)["report"]
    assert len(report["records"]) == 10
    assert report["report_metadata"]["errors"] == [
        "15 more messages are not listed: they were too different from each other"
    ]


@days
async def test_servers_that_do_not_answer_keep_no_other_domain_waiting(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for number in range(50):
        host.reports.add(evaluated(domain=f"d{number}.example"))
    await host.reports.flush()
    await host.clock.advance(DAY_S)
    host.resolver.gate = asyncio.Event()
    reporting = asyncio.ensure_future(host.reports.report())
    while len(host.resolver.asked) < 20:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert len(host.resolver.asked) == 20
    host.resolver.gate.set()
    assert await reporting == 0


@days
async def test_a_server_that_dies_while_it_sends_sends_the_same_report_later(tmp_path: Path) -> None:
    """RFC 9990 §3.5.2: with the same name and identifier, so that its reader knows it again."""
    host = Host(tmp_path)
    host.reports.add(evaluated())
    await host.reports.flush()
    await host.clock.advance(DAY_S)
    real = host.submit

    async def queued_and_dead(sender: str, recipient: str, content: bytes) -> None:
        await real(sender, recipient, content)
        raise asyncio.CancelledError

    host.reports._submit = queued_and_dead
    with pytest.raises(asyncio.CancelledError):
        await host.reports.report()
    host.restart()
    assert await host.reports.report() == 0, "whoever sends it may still be alive"
    await host.clock.advance(700)
    assert await host.reports.report() == 1
    (_, _, first), (_, _, second) = host.sent
    lines = [content.split(b"\r\n") for content in (first, second)]
    assert [(a, b) for a, b in zip(*lines, strict=True) if a != b and not a.startswith(b"Date:")] == []


@days
async def test_what_goes_wrong_with_one_report_is_said_and_the_others_leave(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.resolver.zone["TXT", "_dmarc.bad.example"] = [b"v=DMARC1; p=none; rua=mailto:x@bad.example"]
    host.reports.add(evaluated(domain="bad.example"))
    host.reports.add(evaluated())
    real = host.submit

    async def submit(sender: str, recipient: str, content: bytes) -> None:
        if recipient == "x@bad.example":
            raise RuntimeError("unforeseen")
        await real(sender, recipient, content)

    host.reports._submit = submit
    for _ in range(60):
        await host.clock.advance(1800)
        await host.reports.tick(first=True)
        if (reporting := host.reports._reporting) is not None:
            await asyncio.gather(reporting, return_exceptions=True)
            await asyncio.sleep(0.05)
    assert host.places == ["dmarc@example.com"]
    assert any("RuntimeError: unforeseen" in text for text in host.notes.texts)
