"""``ekiden dmarc ...``: what is counted of mail for the domains it says it is from, and reported (RFC 9990)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import msgspec

from ekiden.cli import queue_access
from ekiden.cli.printable import printable
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.report_state import send_due, state_path
from ekiden.config.load import Configuration
from ekiden.deliver.dmarc_reports import reporting_of
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.aggregate_compose import compose
from ekiden.reports.collect import AggregateCounts
from ekiden.runtime.dmarc_reports import counts_of

_ALL_DAYS = "9999"


def show(options: argparse.Namespace) -> int:
    """What is not reported yet."""
    found = queue_access.configuration(options.config)
    counts = _counts(found)
    if counts is None:
        return 0
    for day, domain in counts.due(_ALL_DAYS):
        counted = counts.counted(day, domain)
        if counted is None:
            continue
        report = compose(counted, reporting_of(found.parameters))
        if options.json:
            print_lines([json.dumps(msgspec.to_builtins(report), ensure_ascii=False)])
        else:
            print_lines(_lines(day, report))
    counts.close()
    return 0


def send(options: argparse.Namespace) -> int:
    """Report now what is due."""
    return send_due(options.config, "dmarc")


def _counts(found: Configuration) -> AggregateCounts | None:
    """None where nothing was ever counted. Raises CommandTrouble."""
    if state_path(found, "reports", "dmarc.sqlite") is None:
        return None
    return counts_of(found.parameters, warn=queue_access.complain)


def _lines(day: str, report: AggregateReport) -> Iterator[str]:
    """One line a domain and one a record; what strangers wrote must not drive the terminal."""
    yield printable(
        f"{day} {report.policy.domain}: p={report.policy.p}: {report.messages} messages, "
        f"{report.failed_messages} not authentic"
    )
    for record in report.records:
        reasons = "".join(f" ({reason.type})" for reason in record.reasons)
        yield printable(
            f"    {record.count} from {record.source_ip}: {record.header_from}: dkim={record.dkim} spf={record.spf} "
            f"{record.disposition}{reasons}"
        )
    for error in report.errors:
        yield printable(f"    {error}")
