"""``ekiden dmarc ...``: what is counted of mail for the domains it says it is from, and reported (RFC 9990)."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ekiden.cli import queue_access
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.load import Configuration
from ekiden.deliver.dmarc_reports import reporting_of
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.aggregate_compose import compose
from ekiden.reports.collect import AggregateCounts
from ekiden.runtime.control_client import ServerTrouble
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
    with queue_access.connect(queue_access.configuration(options.config)) as server:
        try:
            count = server.send_reports("dmarc")
        except ServerTrouble as trouble:
            raise CommandTrouble(os.EX_UNAVAILABLE, str(trouble)) from trouble
    print_lines([f"{count} reports sent"])
    return 0


def _counts(found: Configuration) -> AggregateCounts | None:
    """None where nothing was ever counted. Raises CommandTrouble."""
    path = Path(found.parameters.queue_directory) / "reports" / "dmarc.sqlite"
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandTrouble(os.EX_NOPERM, f"{path}: {error.strerror}") from error
    return counts_of(found.parameters, warn=queue_access.complain)


def _lines(day: str, report: AggregateReport) -> Iterator[str]:
    """One line a domain and one a record; what strangers wrote must not drive the terminal."""
    yield _printable(
        f"{day} {report.policy.domain}: p={report.policy.p}: {report.messages} messages, "
        f"{report.failed_messages} not authentic"
    )
    for record in report.records:
        reasons = "".join(f" ({reason.type})" for reason in record.reasons)
        yield _printable(
            f"    {record.count} from {record.source_ip}: {record.header_from}: dkim={record.dkim} spf={record.spf} "
            f"{record.disposition}{reasons}"
        )
    for error in report.errors:
        yield _printable(f"    {error}")


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in line[:500])
