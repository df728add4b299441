"""``ekiden reports``: what others report of mail that says it is ours, in plain findings; and reports in files."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ekiden.cli import queue_access
from ekiden.cli.printable import printable
from ekiden.cli.queue_listing import print_lines
from ekiden.cli.trouble import CommandTrouble
from ekiden.config.load import Configuration
from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.findings import Finding, Summary, time_problem, tls_times
from ekiden.reports.received import ReceivedReports
from ekiden.reports.recognise import Found, Report, ReportLimits, at_once, in_file
from ekiden.tls.tlsrpt import ReportError
from ekiden.tls.tlsrpt_store import TlsrptStore

_DAY_S = 86400.0
_DAYS_LIMIT = 36525
_RECORDS_SHOWN = 1000
_FINDINGS_SHOWN = 50  # of one kind
_HEADINGS = {
    "domain": "Domains",
    "source": "Who sends in your name and fails",
    "dkim": "DKIM signatures that fail",
    "receiver": "Trouble that receivers have with your records",
    "failure": "Failure reports",
    "complaint": "Complaints",
    "tls-domain": "TLS of mail to you",
    "tls": "TLS that fails",
    "unproven": "Reports that may be forged",
    "report": "Reports that are not counted",
}


def summarise(options: argparse.Namespace) -> int:
    """Findings, by kind."""
    found = queue_access.configuration(options.config)
    if options.days < 1:
        raise CommandTrouble(os.EX_USAGE, "--days: write a number of days, at least 1")
    summary = Summary(options.domain)
    since = time.time() - min(options.days, _DAYS_LIMIT) * _DAY_S
    reports = _received_reports(found)
    if reports is not None:
        reports.each(since, lambda each: summary.add(each.report, each.at, each.sender, each.proven))
        reports.close()
    on_tls = _on_tls(found)
    if on_tls is not None:
        for each in on_tls.all_received():
            if each.at >= since:
                summary.add(each.report, each.at, each.sender)
        on_tls.close()
    findings = summary.findings()
    if options.json:
        # ASCII: what strangers wrote has no other form that every terminal is safe with.
        print_lines(json.dumps(msgspec.to_builtins(each)) for each in findings)
    elif findings:
        print_lines(_listed(findings))
    else:
        about = f" about {printable(options.domain)}" if options.domain else ""
        print_lines([f"no report{about} came in the last {options.days} days"])
    return 0


def _listed(findings: list[Finding]) -> Iterator[str]:
    first = True
    for kind, heading in _HEADINGS.items():
        lines = [printable(each.text) for each in findings if each.kind == kind]
        if not lines:
            continue
        if not first:
            yield ""
        first = False
        yield heading
        yield from (f"  {line}" for line in lines[:_FINDINGS_SHOWN])
        if len(lines) > _FINDINGS_SHOWN:
            yield f"  and {len(lines) - _FINDINGS_SHOWN} more; --json shows all"


def read(options: argparse.Namespace) -> int:
    """EX_DATAERR when one of the files holds no report, EX_NOINPUT when one cannot be read."""
    limits = ReportLimits()
    result = 0
    for name in options.files:
        try:
            octets = _octets(Path(name), limits.archive.packed_bytes)
            found = at_once(in_file(octets, limits))
        except OSError as error:
            queue_access.complain(f"{name}: {error.strerror}")
            result = os.EX_NOINPUT
            continue
        except ReportError as error:
            queue_access.complain(f"{name}: {printable(str(error))}")
            result = result or os.EX_DATAERR
            continue
        for each in found:
            print_lines(_as_json(name, each) if options.json else map(printable, _shown(name, each)))
    return result


def _octets(path: Path, limit: int) -> bytes:
    """Raises OSError, ReportError."""
    with path.open("rb") as file:
        octets = file.read(limit + 1)
    if len(octets) > limit:
        raise ReportError(f"the file is longer than {limit} bytes")
    return octets


def _as_json(name: str, found: Found) -> Iterator[str]:
    facts = {"file": name, "kind": _kind(found.report), "report": msgspec.to_builtins(found.report)}
    yield json.dumps({**facts, "problems": [*found.problems, *_odd_time(found.report)]})


def _kind(report: Report) -> str:
    if isinstance(report, AggregateReport):
        return "aggregate"
    return "feedback" if isinstance(report, FeedbackReport) else "tls"


def _odd_time(report: Report) -> Iterator[str]:
    """A file may be as old as it likes."""
    if isinstance(report, FeedbackReport):
        return
    begin, end = (report.begin, report.end) if isinstance(report, AggregateReport) else tls_times(report)
    problem = time_problem(begin, end, min(time.time(), max(end, 0)))
    if problem:
        yield problem


def _shown(name: str, found: Found) -> Iterator[str]:
    report = found.report
    if isinstance(report, AggregateReport):
        lines = _of_aggregate(report)
    elif isinstance(report, FeedbackReport):
        lines = _of_feedback(report)
    else:
        summary = Summary()
        summary.add(report, tls_times(report)[1])
        day = report.date_range.start_datetime[:10]
        head = f"report {report.report_id} on TLS by {report.organization_name}, {day}"
        lines = iter([head, *(f"  {finding.text}" for finding in summary.findings())])
    yield f"{name}: {next(lines)}"
    yield from lines
    for problem in (*found.problems, *_odd_time(report)):
        yield f"  note: {problem}"


def _of_aggregate(report: AggregateReport) -> Iterator[str]:
    policy = report.policy
    yield (
        f"aggregate report {report.report_id} by {report.org_name or report.email} on {policy.domain}, "
        f"{_date(report.begin)} to {_date(report.end)}, policy {policy.p or 'unknown'}: "
        f"{report.messages} messages, {report.failed_messages} failed"
    )
    for record in report.records[:_RECORDS_SHOWN]:
        reasons = "".join(f", {reason.type}" for reason in record.reasons)
        yield (
            f"  {record.source_ip} {record.count} from {record.header_from or 'nobody'}: DKIM {record.dkim}, "
            f"SPF {record.spf}, {record.disposition}{reasons}"
        )
    if len(report.records) > _RECORDS_SHOWN:
        yield f"  and {len(report.records) - _RECORDS_SHOWN} records more"
    for error in report.errors:
        yield f"  they had trouble: {error}"


def _of_feedback(report: FeedbackReport) -> Iterator[str]:
    when = f", {_date(report.arrival)}" if report.arrival is not None else ""
    yield f"report {report.feedback_type} on a message of {report.domain or 'nobody'}{when}"
    for label, value in (
        ("from address", report.source_ip),
        ("envelope sender", report.mail_from),
        ("recipients", ", ".join(report.rcpt_to)),
        ("failed", ", ".join(report.auth_failure)),
        ("they did", report.delivery_result),
        ("found", "; ".join(report.authentication_results)),
        ("subject", report.subject),
        ("message-id", report.message_id),
    ):
        if value:
            yield f"  {label}: {value}"


def _date(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _received_reports(found: Configuration) -> ReceivedReports | None:
    """None where none ever came. Raises CommandTrouble."""
    parameters = found.parameters
    path = _store(found, "reports", "received.sqlite")
    if path is None:
        return None
    return ReceivedReports(
        path,
        retention_s=parameters.received_report_retention_time,
        limit_bytes=parameters.received_report_store_limit,
        time=time.time,
        warn=queue_access.complain,
    )


def _on_tls(found: Configuration) -> TlsrptStore | None:
    path = _store(found, "tls", "tlsrpt.sqlite")
    limit = found.parameters.tlsrpt_store_limit
    return None if path is None else TlsrptStore(path, limit=limit, time=time.time, warn=queue_access.complain)


def _store(found: Configuration, folder: str, name: str) -> Path | None:
    path = Path(found.parameters.queue_directory) / folder / name
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandTrouble(os.EX_NOPERM, f"{path}: {error.strerror}") from error
    return path
