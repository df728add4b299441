"""What the reports of others say together, in plain findings.

In:   reports, each with the time when it came.
Out:  findings, the heaviest of each kind first.
Never: grows with the number of reports (only with what differs in them, up to a limit), counts what a report says of a
       time that cannot be, shows what a stranger wrote otherwise than as it is in a finding's texts: who prints them,
       prints printable characters.
"""

from __future__ import annotations

import calendar
import time
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from ekiden.reports.aggregate import AggregateReport, DkimResult
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.sources import Source, is_of
from ekiden.reports.tally import by, first, many, note
from ekiden.tls.tlsrpt import Report as TlsReport

K = TypeVar("K")
G = TypeVar("G")

_GROUPS_LIMIT = 50_000  # of one kind
_MAKERS_LIMIT = 1000  # of one domain
_DAY_S = 86400
_LONGEST_DAYS = 32  # that a report may be about
_OLDEST_DAYS = 366  # how old it may be when it comes


class Finding(Struct, frozen=True):
    """``kind``: domain, source, dkim, receiver, failure, complaint, tls-domain, tls, unproven, report."""

    kind: str
    domain: str  # of ours, that it is about
    subject: str  # an address, a selector, a host
    count: int  # messages, complaints, sessions
    text: str


def time_problem(begin: float, end: float, now: float) -> str:
    """Why the time that a report says it is about cannot be; "" when it can. ``now`` is when it came."""
    if end < begin:
        return "it ends before it begins"
    if begin > now + _DAY_S or end > now + 2 * _DAY_S:
        return "it is about days to come"
    if end - begin > _LONGEST_DAYS * _DAY_S:
        return f"it is about {int((end - begin) // _DAY_S)} days at once"
    if end < now - _OLDEST_DAYS * _DAY_S:
        return "it is about a time long ago"
    return ""


def tls_times(report: TlsReport) -> tuple[float, float]:
    """Where a date is none, it is that of 1970."""

    def seconds(text: str) -> float:
        try:
            return calendar.timegm(time.strptime(text[:10], "%Y-%m-%d"))
        except (ValueError, OverflowError):
            return 0.0

    return seconds(report.date_range.start_datetime), seconds(report.date_range.end_datetime)


class Summary:
    """Add reports, then ask for ``findings()``. ``domain``: only what is about it and the domains below it."""

    def __init__(self, domain: str = "") -> None:
        self._only = domain.lower().rstrip(".")
        self._domains: dict[str, _Domain] = {}
        self._sources: dict[tuple[str, str], Source] = {}
        self._selectors: dict[tuple[str, str], _Selector] = {}
        self._receiver_errors: dict[tuple[str, str, str], int] = {}
        self._failures: dict[tuple[str, str], _Failures] = {}
        self._complaints: dict[tuple[str, str, str], int] = {}
        self._tls_domains: dict[str, _Sessions] = {}
        self._tls: dict[tuple[str, str, str], _TlsFailures] = {}
        self._unproven: Counter[str] = Counter()
        self._odd: list[Finding] = []

    def add(
        self,
        report: AggregateReport | FeedbackReport | TlsReport,
        came: float,
        sender: str = "",
        proven: bool | None = None,
    ) -> None:
        """``proven``: whether DMARC proved the author of the mail that it came in; None: nobody looked."""
        if proven is False and not isinstance(report, TlsReport):
            maker = report.org_name or report.email if isinstance(report, AggregateReport) else report.reporting_mta
            domain = report.policy.domain if isinstance(report, AggregateReport) else report.domain
            if self._is_wanted(domain):
                note(self._unproven, maker or sender, limit=_MAKERS_LIMIT)
        if isinstance(report, AggregateReport):
            if self._is_wanted(report.policy.domain):
                title = f"report {report.report_id} by {report.org_name or report.email or sender}"
                problem = time_problem(report.begin, report.end, came)
                self._odd_time(title, report.policy.domain, problem) if problem else self._aggregate(report)
        elif isinstance(report, FeedbackReport):
            if self._is_wanted(report.domain):
                self._feedback(report, sender)
        else:
            title = f"report {report.report_id} on TLS by {report.organization_name or sender}"
            problem = time_problem(*tls_times(report), came)
            self._odd_time(title, "", problem) if problem else self._on_tls(report)

    def _is_wanted(self, domain: str) -> bool:
        return not self._only or domain == self._only or domain.endswith("." + self._only)

    def _odd_time(self, title: str, domain: str, problem: str) -> None:
        if len(self._odd) < _GROUPS_LIMIT:
            self._odd.append(Finding("report", domain, "", 1, f"{title} is not counted: {problem}"))

    # -- what reports say

    def _aggregate(self, report: AggregateReport) -> None:
        maker = report.org_name or report.email
        domain = _group(self._domains, report.policy.domain, _Domain)
        if domain is None:
            return
        domain.reports += 1
        note(domain.makers, maker, limit=_MAKERS_LIMIT)
        domain.policy = report.policy.p or domain.policy
        for error in report.errors:
            key = report.policy.domain, maker, error
            if key in self._receiver_errors or len(self._receiver_errors) < _GROUPS_LIMIT:
                self._receiver_errors[key] = self._receiver_errors.get(key, 0) + 1
        for record in report.records:
            domain.messages += record.count
            domain.authentic += record.count if record.is_authentic else 0
            if record.spf != "pass":
                source = _group(self._sources, (record.source_ip, record.header_from), Source)
                if source is not None:
                    source.add(record, maker)
            for result in record.dkim_results:
                if is_of(result.domain, record.header_from, report.policy.domain):
                    selector = _group(self._selectors, (result.domain, result.selector), _Selector)
                    if selector is not None:
                        selector.add(result, record.count, maker)

    def _feedback(self, report: FeedbackReport, sender: str) -> None:
        by = report.reporting_mta or sender.rpartition("@")[2] or report.user_agent
        if report.is_failure:
            failures = _group(self._failures, (report.source_ip, report.domain), _Failures)
            if failures is not None:
                failures.count += report.incidents
                note(failures.makers, by)
                for what in report.auth_failure:
                    note(failures.what, what)
            return
        to = report.rcpt_to[0].rpartition("@")[2].lower() if report.rcpt_to else by
        key = report.feedback_type, report.domain, to
        if key in self._complaints or len(self._complaints) < _GROUPS_LIMIT:
            self._complaints[key] = self._complaints.get(key, 0) + report.incidents

    def _on_tls(self, report: TlsReport) -> None:
        for result in report.policies:
            name = result.policy.policy_domain.lower()
            if not self._is_wanted(name):
                continue
            domain = _group(self._tls_domains, name, _Sessions)
            if domain is None:
                continue
            domain.good += result.summary.total_successful_session_count
            domain.failed += result.summary.total_failure_session_count
            for failure in result.failure_details:
                host = failure.receiving_mx_hostname or failure.receiving_ip
                failures = _group(self._tls, (name, host, failure.result_type), _TlsFailures)
                if failures is not None:
                    failures.count += failure.failed_session_count
                    note(failures.makers, report.organization_name or report.contact_info)

    # -- findings

    def findings(self) -> list[Finding]:
        found = (
            self._of_domains(),
            self._of_sources(),
            self._of_selectors(),
            self._of_receivers(),
            self._of_failures(),
            self._of_complaints(),
            self._of_tls_domains(),
            self._of_tls(),
            self._of_makers(),
            self._odd,
        )
        return [finding for kind in found for finding in sorted(kind, key=lambda each: (-each.count, each.text))]

    def _of_domains(self) -> Iterator[Finding]:
        for name, domain in self._domains.items():
            share = f" ({100 * domain.authentic / domain.messages:.1f} %)" if domain.messages else ""
            text = (
                f"{name}: {many(domain.messages, 'message')} in {many(domain.reports, 'report')} of "
                f"{many(len(domain.makers), 'receiver')}, {domain.authentic} authentic{share}; "
                f"policy {domain.policy or 'unknown'}"
            )
            yield Finding("domain", name, name, domain.messages, text)

    def _of_tls_domains(self) -> Iterator[Finding]:
        for name, sessions in self._tls_domains.items():
            text = f"{name or 'TLS'}: {many(sessions.good, 'TLS session')} good, {sessions.failed} failed"
            yield Finding("tls-domain", name, name, sessions.good + sessions.failed, text)

    def _of_sources(self) -> Iterator[Finding]:
        for (address, name), source in self._sources.items():
            yield Finding("source", name, address, source.count, source.text(address, name))

    def _of_selectors(self) -> Iterator[Finding]:
        for (domain, selector), found in self._selectors.items():
            if found.failed:
                text = (
                    f"DKIM signatures of selector {selector or '(unknown)'} of {domain} fail at receivers: "
                    f"{found.failed} of {many(found.count, 'message')}{by(found.makers)}"
                )
                why = first(found.why)
                yield Finding("dkim", domain, selector, found.failed, f"{text}: {why}" if why else text)

    def _of_receivers(self) -> Iterator[Finding]:
        for (domain, maker, error), count in self._receiver_errors.items():
            yield Finding("receiver", domain, maker, count, f"{maker} has trouble with the record of {domain}: {error}")

    def _of_failures(self) -> Iterator[Finding]:
        for (address, domain), found in self._failures.items():
            what = ", ".join(sorted(found.what)) or "authentication"
            text = (
                f"{address or 'an unknown host'} sends as {domain or 'an unknown domain'} and fails {what}: "
                f"{many(found.count, 'failure report')}{by(found.makers)}"
            )
            yield Finding("failure", domain, address, found.count, text)

    def _of_complaints(self) -> Iterator[Finding]:
        for (kind, domain, to), count in self._complaints.items():
            whose = f" of {domain}" if domain else ""
            text = f"{many(count, 'complaint')} ({kind}) about mail{whose} to {to or 'unknown readers'}"
            yield Finding("complaint", domain, to, count, text)

    def _of_makers(self) -> Iterator[Finding]:
        for maker, count in self._unproven.items():
            text = f"{many(count, 'report')} in the name of {maker}: DMARC does not prove who sent the mail"
            yield Finding("unproven", "", maker, count, text)

    def _of_tls(self) -> Iterator[Finding]:
        for (domain, host, kind), found in self._tls.items():
            text = (
                f"TLS with {host or 'a host'} for mail to {domain or 'your domain'} fails ({kind}): "
                f"{many(found.count, 'session')}{by(found.makers)}"
            )
            yield Finding("tls", domain, host, found.count, text)


# -- what is counted


class _Domain:
    def __init__(self) -> None:
        self.reports = self.messages = self.authentic = 0
        self.makers: Counter[str] = Counter()
        self.policy = ""


class _Selector:
    def __init__(self) -> None:
        self.count = self.failed = 0
        self.makers: Counter[str] = Counter()
        self.why: Counter[str] = Counter()

    def add(self, result: DkimResult, count: int, maker: str) -> None:
        self.count += count
        if result.result not in ("pass", "none"):
            self.failed += count
            note(self.makers, maker)
            if result.human_result:
                note(self.why, result.human_result)


class _Failures:
    def __init__(self) -> None:
        self.count = 0
        self.makers: Counter[str] = Counter()
        self.what: Counter[str] = Counter()


class _TlsFailures:
    def __init__(self) -> None:
        self.count = 0
        self.makers: Counter[str] = Counter()


class _Sessions:
    def __init__(self) -> None:
        self.good = self.failed = 0


def _group(groups: dict[K, G], key: K, kind: type[G]) -> G | None:
    """The group, a new one where there is room."""
    found = groups.get(key)
    if found is None and len(groups) < _GROUPS_LIMIT:
        found = groups[key] = kind()
    return found
