"""Mail with reports of others is taken, kept once, and given back where it holds none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden.config.snapshot import Parameters
from ekiden.deliver.report_mail import ReportsAgent
from ekiden.message.address import Address
from ekiden.message.content import FileContent, InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult
from ekiden.message.envelope import Envelope, Recipient
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.received import ReceivedReport, ReceivedReports
from ekiden.tls.tlsrpt import DateRange, Report
from ekiden.tls.tlsrpt_store import Received, TlsrptStore
from support.fake_clock import FakeClock
from support.requirements import require_conformance

COMPLAINT = (
    b"From: fbl@x.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
    b"--b\r\n\r\nHello\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: a@our.test\r\n\r\nText\r\n--b--\r\n"
)


class World:
    def __init__(self, path: Path, **settings: str) -> None:
        self.clock = FakeClock()
        self.warnings: list[str] = []
        parameters = Parameters({"queue_directory": str(path), **settings})
        self.reports = ReceivedReports(
            path / "received.sqlite",
            retention_s=parameters.received_report_retention_time,
            limit_bytes=parameters.received_report_store_limit,
            time=self.clock.time,
            warn=self.warnings.append,
        )
        self.on_tls = TlsrptStore(path / "tlsrpt.sqlite", limit=100, time=self.clock.time, warn=self.warnings.append)
        self.agent = ReportsAgent(parameters, self.reports, self.on_tls, self.clock, name="reports")

    def deliver(self, content: bytes) -> DeliveryResult:
        return self.deliver_content(InlineContent(content))

    def deliver_content(self, content: InlineContent | FileContent) -> DeliveryResult:
        recipients = (Recipient(Address("dmarc", "our.test")), Recipient(Address("rua", "our.test")))
        request = DeliveryRequest("Q1", "reports", "", Envelope(Address("s", "x.test")), recipients, content, 0.0)
        first, second = asyncio.run(self.agent.deliver(request))
        assert first == second
        return first

    @property
    def kept(self) -> list[ReceivedReport]:
        found: list[ReceivedReport] = []
        assert self.reports.each(0, found.append)
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.reports.close()
    world.on_tls.close()


def samples() -> list[Path]:
    folders = (("dmarc", "aggregate"), ("dmarc", "failure"), ("mta-sts-tlsrpt-dane", "tlsrpt-reports"))
    return sorted(path for area, folder in folders for path in require_conformance(area, folder).rglob("*.eml"))


def test_reports_of_every_kind_are_kept_once(world: World) -> None:
    mails = [path.read_bytes() for path in samples()]
    for content in mails:
        result = world.deliver(content)
        assert (result.action.value, str(result.status), result.relay) == ("delivered", "2.0.0", "reports")
    kinds = [type(each.report) for each in world.kept]
    # One of the failure reports is there in two forms.
    assert (kinds.count(AggregateReport), kinds.count(FeedbackReport)) == (8, 4)
    assert len(world.on_tls.all_received()) == 2
    assert {each.sender for each in world.kept} == {"s@x.test"}
    for content in mails:
        assert world.deliver(content).action.value == "delivered"
    assert len(world.kept) == 12
    assert "kept before" in world.deliver(next(each for each in mails if b"google.com" in each)).text
    assert world.warnings == []


def test_a_complaint_is_kept(world: World) -> None:
    assert world.deliver(COMPLAINT).text == "report abuse on our.test kept"
    assert world.deliver(COMPLAINT).text == "report abuse on our.test kept before"
    assert world.deliver(COMPLAINT.replace(b"a@our", b"b@our")).text.endswith("kept before")
    assert world.deliver(COMPLAINT.replace(b"Text", b"Subject: x")).text.endswith("kept before")
    assert world.deliver(COMPLAINT.replace(b"a@our.test\r\n", b"a@our.test\r\nMessage-ID: <1>\r\n")).text.endswith(
        "kept"
    )
    assert len(world.kept) == 2


def test_what_our_server_found_of_the_sender_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, authserv_id="mx.test")
    for number, result in enumerate(("pass", "fail")):
        head = f"Authentication-Results: mx.test; dmarc={result} header.from=x.test\r\n".encode()
        world.deliver(head + COMPLAINT.replace(b"a@our", b"a@our%d" % number))
    world.deliver(COMPLAINT)
    assert [each.proven for each in world.kept] == [True, False, None]


def test_reports_on_tls_are_kept_in_bounded_length_and_time(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    store = TlsrptStore(
        tmp_path / "x.sqlite",
        limit=100,
        time=lambda: now[0],
        warn=pytest.fail,
        received_s=10 * 86400,
        received_bytes=1000,
    )
    dates = DateRange("2027-01-01T00:00:00Z", "2027-01-01T23:59:59Z")
    for number in range(20):
        now[0] += 1
        assert store.receive(Received(now[0], "s@x.test", Report(dates, f"{number:0100}", ())))
    assert [int(each.report.report_id) for each in store.all_received()] == [16, 17, 18, 19]
    now[0] += 11 * 86400
    assert store.receive(Received(now[0], "s@x.test", Report(dates, "new", ())))
    assert [each.report.report_id for each in store.all_received()] == ["new"]
    store.close()


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"Subject: hello\r\n\r\nno report", "5.6.0", "the message holds no report"),
        (b"Content-Type: application/zip\r\n\r\nPK\x03\x04", "5.6.0", "the archive ends early"),
        (bytes(10_485_761), "5.3.4", "a report of 10485761 bytes is too large"),
    ],
)
def test_what_is_no_report_goes_back_with_the_reason(world: World, content: bytes, status: str, text: str) -> None:
    result = world.deliver(content)
    assert (result.action.value, str(result.status), result.text) == ("failed", status, text)
    assert world.kept == []


def test_the_text_of_a_result_is_safe_for_the_log(world: World) -> None:
    content = COMPLAINT.replace(b"a@our.test", b"a@\xe2\x80\xae\x1b[1m" + b"x" * 500).replace(b"abuse", b"a-b\x1b\x7f")
    text = world.deliver(content).text
    assert text.isprintable()
    assert len(text) < 200


def test_reports_wait_while_they_cannot_be_kept_or_read(world: World, tmp_path: Path) -> None:
    (tmp_path / "received.sqlite").mkdir()
    result = world.deliver(COMPLAINT)
    assert (result.action.value, str(result.status)) == ("delayed", "4.3.0")
    assert len(world.warnings) == 1
    (tmp_path / "received.sqlite").rmdir()
    assert world.deliver(COMPLAINT).action.value == "delivered"
    result = world.deliver_content(FileContent(str(tmp_path / "gone"), 5))
    assert (result.action.value, str(result.status)) == ("delayed", "4.3.0")


def test_the_limits_are_parameters(tmp_path: Path) -> None:
    xml = require_conformance("dmarc", "aggregate", "mail-auth", "003.xml").read_bytes()
    content = b"Content-Type: text/xml\r\n\r\n" + xml
    for setting, value, why in (
        ("received_report_size_limit", "2000", "too large"),
        ("received_report_unpacked_limit", "2000", "longer than 2000 bytes"),
        ("received_report_record_limit", "3", "more than 3 records"),
    ):
        assert why in World(tmp_path, **{setting: value}).deliver(content).text
    on_tls = require_conformance("mta-sts-tlsrpt-dane", "tlsrpt-reports", "mail-auth", "rpt01.eml").read_bytes()
    assert "longer than 1024 bytes" in World(tmp_path, tlsrpt_report_size_limit="1024").deliver(on_tls).text
