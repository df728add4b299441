"""Reports on TLS as values and as JSON (RFC 8460 §4.4), our own and those of others.

In:   counted sessions of one domain and day; the bytes of a report, perhaps gzipped, that somebody sent.
Out:  the JSON of a Report; a Report within the limits.
Never: raises anything but ReportError for what was sent, unpacks more than the limit, keeps fields nobody defined.
"""

from __future__ import annotations

import datetime
import re
import zlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct

REPORT_LIMIT_BYTES = 10 * 1024 * 1024  # unpacked
_POLICIES_LIMIT = 10_000
_FAILURES_LIMIT = 100_000
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class ReportError(ValueError):
    """What was sent is no report, or more of one than is wanted."""


class PolicyDescription(Struct, frozen=True, rename="kebab", omit_defaults=True):
    policy_type: str  # tlsa, sts, no-policy-found; others write what they like
    policy_domain: str = ""
    policy_string: tuple[str, ...] | str = ()
    mx_host: tuple[str, ...] | str = ()  # the RFC's example has text, its schema a list


class Summary(Struct, frozen=True, rename="kebab"):
    total_successful_session_count: int = 0
    total_failure_session_count: int = 0


class FailureDetails(Struct, frozen=True, rename="kebab", omit_defaults=True):
    result_type: str
    failed_session_count: int = 0
    sending_mta_ip: str = ""
    receiving_mx_hostname: str = ""
    receiving_mx_helo: str = ""
    receiving_ip: str = ""
    additional_information: str = ""
    failure_reason_code: str = ""


class PolicyResult(Struct, frozen=True, rename="kebab", omit_defaults=True):
    policy: PolicyDescription
    summary: Summary
    failure_details: tuple[FailureDetails, ...] = ()


class DateRange(Struct, frozen=True, rename="kebab"):
    start_datetime: str
    end_datetime: str


class Report(Struct, frozen=True, rename="kebab", omit_defaults=True):
    date_range: DateRange
    report_id: str
    policies: tuple[PolicyResult, ...]
    organization_name: str = ""
    contact_info: str = ""


class Count(Struct, frozen=True):
    """So many sessions under one policy ended in one way; ``failure`` is None for those that met the policy."""

    policy: PolicyDescription
    failure: FailureDetails | None
    sessions: int


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Report)


def compose(day: str, domain: str, counts: Iterable[Count], *, organization: str, contact: str, host: str) -> Report:
    """The report on one day (``2026-11-29``, UTC) for one policy domain."""
    results: dict[PolicyDescription, tuple[int, list[FailureDetails]]] = {}
    for count in counts:
        good, failures = results.get(count.policy, (0, []))
        if count.failure is None:
            good += count.sessions
        else:
            failures.append(msgspec.structs.replace(count.failure, failed_session_count=count.sessions))
        results[count.policy] = good, failures
    return Report(
        organization_name=organization,
        contact_info=contact,
        date_range=DateRange(f"{day}T00:00:00Z", f"{day}T23:59:59Z"),
        report_id=f"{day}.{domain}@{host}",
        policies=tuple(
            PolicyResult(policy, Summary(good, sum(each.failed_session_count for each in failures)), tuple(failures))
            for policy, (good, failures) in results.items()
        ),
    )


def encode(report: Report) -> bytes:
    return _ENCODER.encode(report)


def compressed(report: Report) -> bytes:
    """gzip (RFC 1952), the same bytes for the same report."""
    packer = zlib.compressobj(9, wbits=_GZIP_WINDOW)
    return packer.compress(encode(report)) + packer.flush()


def decode(octets: bytes, *, limit: int = REPORT_LIMIT_BYTES) -> Report:
    """A report, gzipped or not. Raises ReportError."""
    if octets.startswith(b"\x1f\x8b"):
        octets = _unpacked(octets, limit)
    if len(octets) > limit:
        raise ReportError("the report is too long")
    try:
        report = _DECODER.decode(octets)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ReportError(f"no report: {error or 'nested too deeply'}") from None
    failures = sum(len(result.failure_details) for result in report.policies)
    if len(report.policies) > _POLICIES_LIMIT or failures > _FAILURES_LIMIT:
        raise ReportError("the report has too many policies or failures")
    start, end = (_DAY.match(text) for text in (report.date_range.start_datetime, report.date_range.end_datetime))
    if start is None or end is None:
        raise ReportError("the report has no dates")
    if any(
        count < 0
        for result in report.policies
        for count in (
            result.summary.total_successful_session_count,
            result.summary.total_failure_session_count,
            *(each.failed_session_count for each in result.failure_details),
        )
    ):
        raise ReportError("the report counts less than nothing")
    return report


def _unpacked(octets: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        data = unpacker.decompress(octets, limit + 1)
    except zlib.error:
        raise ReportError("the report cannot be unpacked") from None
    if len(data) > limit:
        raise ReportError(f"the report is longer than {limit} bytes when unpacked")
    if not unpacker.eof:
        raise ReportError("the report ends early")
    return data


def day_of(now: float) -> str:
    """The day in UTC (RFC 8460 §4.1) of seconds since the epoch."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d")
