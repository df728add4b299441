"""The values of an aggregate report (RFC 9990)."""

from __future__ import annotations

from ekiden.reports.aggregate import AggregateReport, PolicyPublished, Record


def _record(count: int, dkim: str, spf: str) -> Record:
    return Record("192.0.2.1", count, "none", dkim, spf, "example.com")


def test_messages_are_counted_by_whether_either_check_makes_them_authentic() -> None:
    records = (_record(3, "fail", "fail"), _record(5, "pass", "fail"), _record(7, "fail", "pass"))
    report = AggregateReport("receiver", "a@b.example", "1", 0, 86399, PolicyPublished("example.com"), records)
    assert (report.messages, report.failed_messages) == (15, 3)
