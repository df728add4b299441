"""What is kept of the reports of others, and for how long."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from msgspec.structs import replace

from ekiden.reports.aggregate import AggregateReport, PolicyPublished, Record
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.received import Kept, ReceivedReport, ReceivedReports

DAY = 86400.0
REPORT = AggregateReport(
    "Receiver",
    "a@r.example",
    "1",
    0,
    86399,
    PolicyPublished("example.com"),
    (Record("192.0.2.1", 1, "none", "fail", "fail", "example.com"),),
)


class World:
    def __init__(self, path: Path, limit: int = 10**6) -> None:
        self.now = 1_800_000_000.0
        self.warnings: list[str] = []
        self.store = ReceivedReports(
            path, retention_s=10 * DAY, limit_bytes=limit, time=lambda: self.now, warn=self.warnings.append
        )

    def receive(self, report: AggregateReport | FeedbackReport, *problems: str) -> Kept:
        return self.store.receive(ReceivedReport(self.now, "s@r.example", report, problems))

    def kept(self, since: float = 0) -> list[ReceivedReport]:
        found: list[ReceivedReport] = []
        assert self.store.each(since, found.append)
        return found


def test_a_report_is_counted_once_whatever_it_claims_the_second_time(tmp_path: Path) -> None:
    world = World(tmp_path / "x.sqlite")
    assert world.receive(REPORT, "odd") is Kept.KEPT
    assert world.receive(REPORT) is Kept.KNOWN
    assert world.receive(replace(REPORT, org_name="RECEIVER", records=())) is Kept.KNOWN
    for other in (
        replace(REPORT, report_id="2"),
        replace(REPORT, org_name="Other"),
        replace(REPORT, policy=PolicyPublished("example.org")),
        replace(REPORT, report_id=""),
        replace(REPORT, report_id="", end=5),
        replace(REPORT, report_id="x" * 1000),
    ):
        assert world.receive(other) is Kept.KEPT
        assert world.receive(other) is Kept.KNOWN
    assert len(world.kept()) == 7
    assert world.kept()[0] == ReceivedReport(world.now, "s@r.example", REPORT, ("odd",))
    complaint = FeedbackReport("abuse", source_ip="192.0.2.1")
    assert world.receive(complaint) is Kept.KEPT
    assert world.receive(complaint) is Kept.KNOWN
    world.store.close()


def test_a_report_is_kept_for_its_time_by_our_clock_alone(tmp_path: Path) -> None:
    world = World(tmp_path / "x.sqlite")
    world.receive(replace(REPORT, begin=9_000_000_000, end=9_000_086_400))  # of the future
    world.now += 9 * DAY
    world.receive(replace(REPORT, report_id="2", begin=1, end=2))  # of long ago
    assert [each.report.begin for each in world.kept() if isinstance(each.report, AggregateReport)] == [
        9_000_000_000,
        1,
    ]
    assert len(world.kept(since=world.now - DAY)) == 1
    world.now += 2 * DAY
    world.receive(replace(REPORT, report_id="3"))
    assert len(world.kept()) == 2
    world.store.close()


def test_the_room_is_bounded_and_the_oldest_leave(tmp_path: Path) -> None:
    world = World(tmp_path / "x.sqlite", limit=5000)  # unpacked
    for number in range(200):
        world.now += 1
        world.receive(replace(REPORT, report_id=str(number)))
    numbers = [each.report.report_id for each in world.kept() if isinstance(each.report, AggregateReport)]
    assert 5 < len(numbers) < 20
    assert numbers == [str(number) for number in range(200 - len(numbers), 200)]
    big = tuple(replace(REPORT.records[0], source_ip=f"2001:db8::{number:x}") for number in range(5000))
    assert world.receive(replace(REPORT, report_id="big", records=big)) is Kept.KEPT  # and it is not kept for long
    assert world.kept() == []
    world.store.close()


def test_a_file_that_is_broken_is_trouble_and_no_exception(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"no database" * 100)
    world = World(path)
    assert world.receive(REPORT) is Kept.TROUBLE
    assert not world.store.each(0, lambda _: None)
    assert len(world.warnings) == 1
    path.unlink()
    assert world.receive(REPORT) is Kept.KEPT
    world.store.close()
    database = sqlite3.connect(path)
    for packed in (b"junk", b"x\x9cjunk"):
        with database:
            database.execute("UPDATE report SET report = ?", (packed,))
        assert not world.store.each(0, lambda _: None)
    database.close()
    world.store.close()
