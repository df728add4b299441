"""Failure reports from the message to the mail: asked for, agreed to, few (RFC 9991)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.queue.store import StoreTrouble
from ekiden.reports.collect import Evaluated
from ekiden.runtime.dmarc_reports import DmarcReports
from support.dmarc import DAY, evaluated
from support.fake_clock import FakeClock
from support.fake_resolver import SERVFAIL, FakeResolver
from support.smtp_delivery import Notes

RUF = "v=DMARC1; p=reject; ruf=mailto:f@example.com"
HEADER = b"From: Alice <alice@example.com>\r\nMessage-ID: <1@example.com>\r\n"


def failing(client: str = "192.0.2.1", record: str = RUF, domain: str = "example.com") -> Evaluated:
    return evaluated(passed=False, record=record, client=client, domain=domain)


class Host:
    def __init__(self, directory: Path, **settings: str) -> None:
        (directory / "reports").mkdir()
        self.clock = FakeClock(DAY + 60.0)
        self.resolver = FakeResolver({("TXT", "_dmarc.example.com"): [RUF.encode()]})
        self.sent: list[tuple[str, bytes]] = []
        self.trouble: Exception | None = None
        self.notes = Notes()
        self.reports = DmarcReports(
            Parameters(
                {
                    "myhostname": "mx.our.example",
                    "mydomain": "our.example",
                    "queue_directory": str(directory),
                    "dmarc_failure_reports": "yes",
                    **settings,
                }
            ),
            resolver=self.resolver,
            submit=self.submit,
            clock=self.clock,
            observer=self.notes,
        )

    async def submit(self, sender: str, recipient: str, content: bytes) -> None:
        if self.trouble is not None:
            raise self.trouble
        assert sender == "postmaster@our.example"
        self.sent.append((recipient, content))

    def told(self, *messages: Evaluated) -> list[tuple[str, bytes]]:
        """What goes out after these messages."""
        for message in messages:
            self.reports.add(message, HEADER)
        asyncio.run(self.reports.tick(first=False))
        sent, self.sent = self.sent, []
        return sent


def test_a_message_that_fails_is_told_to_who_asks_for_it(tmp_path: Path) -> None:
    ((to, content),) = Host(tmp_path).told(failing())
    assert to == "f@example.com"
    assert b"Message-ID: <1@example.com>" in content
    assert b"alice" not in content


def test_by_default_nothing_is_told(tmp_path: Path) -> None:
    assert Host(tmp_path, dmarc_failure_reports="no").told(failing()) == []
    assert not Parameters({}).dmarc_failure_reports
    assert Parameters({}).dmarc_failure_report_redaction


def test_a_place_outside_must_agree(tmp_path: Path) -> None:
    host = Host(tmp_path)
    record = "v=DMARC1; p=reject; ruf=mailto:a@red.example.net,mailto:v@victim.example"
    host.resolver.zone["TXT", "example.com._report._dmarc.red.example.net"] = [b"v=DMARC1"]
    assert [to for to, _ in host.told(failing(record=record))] == ["a@red.example.net"]


def test_what_dns_cannot_say_is_not_told(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.resolver.zone["TXT", "_dmarc.example.com"] = SERVFAIL
    assert host.told(failing(record=RUF.replace("f@", "f@sub."))) == []


def test_messages_that_fail_alike_are_one_report_an_hour(tmp_path: Path) -> None:
    host = Host(tmp_path)
    ((_, content),) = host.told(*(failing() for _ in range(50)))
    assert b"Incidents" not in content
    assert host.told(failing()) == []
    asyncio.run(host.clock.advance(3601))
    ((_, content),) = host.told(failing())
    assert b"\r\nIncidents: 51\r\n" in content


def test_there_are_few_for_one_domain_and_in_all(tmp_path: Path) -> None:
    host = Host(tmp_path, dmarc_failure_report_limit="3", dmarc_failure_report_total_limit="5")
    assert len(host.told(*(failing(f"192.0.2.{n}") for n in range(10)))) == 3
    others = [
        failing(record=f"v=DMARC1; p=none; ruf=mailto:a@{domain}", domain=domain)
        for domain in (f"d{number}.example" for number in range(10))
    ]
    assert len(host.told(*others)) == 2
    asyncio.run(host.clock.advance(86400))
    assert len(host.told(failing())) == 1


def test_a_flood_of_different_failures_is_bounded(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for number in range(5000):
        host.reports.add(failing(f"10.0.{number // 256}.{number % 256}"), HEADER * 10_000)
    failures = host.reports._failures
    assert failures is not None
    assert len(failures._waiting) == 100
    assert len(failures._alike) == 1000
    assert sum(len(each.header) for each in failures._waiting) < 4_000_000
    assert len(host.told()) == 10


@pytest.mark.parametrize("settings", [{"mydomain": "localdomain"}, {"dmarc_report_excluded_domains": "example.com"}])
def test_the_administrator_decides_who_gets_one(tmp_path: Path, settings: dict[str, str]) -> None:
    assert Host(tmp_path, **settings).told(failing()) == []


def test_what_cannot_be_queued_is_not_told_and_said(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.trouble = StoreTrouble("the disk is full")
    assert host.told(failing()) == []
    assert any("the disk is full" in text for text in host.notes.texts)


def test_a_file_that_cannot_be_had_shows_no_names(tmp_path: Path) -> None:
    """Without the key there is no redaction, and without redaction no report."""
    host = Host(tmp_path)
    (tmp_path / "reports").rmdir()
    assert host.told(failing()) == []
