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

from ekiden.reports.aggregate import AggregateReport, DkimResult, Record
from ekiden.reports.feedback import FeedbackReport
from ekiden.tls.tlsrpt import Report as TlsReport

K = TypeVar("K")
G = TypeVar("G")

_GROUPS_LIMIT = 50_000  # of one kind
_NAMES_SHOWN = 3
_WORDS_LIMIT = 20  # of one group: reasons, receivers
_MAKERS_LIMIT = 1000  # of one domain
_WORD_CHARACTERS = 200
_DAY_S = 86400
_LONGEST_DAYS = 32  # that a report may be about
_OLDEST_DAYS = 366  # how old it may be when it comes
_FORWARDED = frozenset({"forwarded", "trusted_forwarder", "mailing_list"})
_OF_RECORD = {
    "fail": "not in your record",
    "softfail": "not in your record",
    "neutral": "your record says nothing of it",
    "none": "they find no record of yours",
    "permerror": "they cannot read your record",
    "temperror": "DNS did not give them your record",
}


class Finding(Struct, frozen=True):
    """``kind``: domain, source, dkim, receiver, failure, complaint, tls-domain, tls, report."""

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
        self._sources: dict[tuple[str, str], _Source] = {}
        self._selectors: dict[tuple[str, str], _Selector] = {}
        self._receiver_errors: dict[tuple[str, str, str], int] = {}
        self._failures: dict[tuple[str, str], _Failures] = {}
        self._complaints: dict[tuple[str, str, str], int] = {}
        self._tls_domains: dict[str, _Sessions] = {}
        self._tls: dict[tuple[str, str, str], _TlsFailures] = {}
        self._odd: list[Finding] = []

    def add(self, report: AggregateReport | FeedbackReport | TlsReport, came: float, sender: str = "") -> None:
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
        _count(domain.makers, maker, limit=_MAKERS_LIMIT)
        domain.policy = report.policy.p or domain.policy
        for error in report.errors:
            key = report.policy.domain, maker, error
            if key in self._receiver_errors or len(self._receiver_errors) < _GROUPS_LIMIT:
                self._receiver_errors[key] = self._receiver_errors.get(key, 0) + 1
        for record in report.records:
            domain.messages += record.count
            domain.authentic += record.count if record.is_authentic else 0
            if record.spf != "pass":
                source = _group(self._sources, (record.source_ip, record.header_from), _Source)
                if source is not None:
                    source.add(record, maker)
            for result in record.dkim_results:
                if _is_of(result.domain, record.header_from, report.policy.domain):
                    selector = _group(self._selectors, (result.domain, result.selector), _Selector)
                    if selector is not None:
                        selector.add(result, record.count, maker)

    def _feedback(self, report: FeedbackReport, sender: str) -> None:
        by = report.reporting_mta or sender.rpartition("@")[2] or report.user_agent
        if report.is_failure:
            failures = _group(self._failures, (report.source_ip, report.domain), _Failures)
            if failures is not None:
                failures.count += report.incidents
                _count(failures.makers, by)
                for what in report.auth_failure:
                    _count(failures.what, what)
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
                    _count(failures.makers, report.organization_name or report.contact_info)

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
            self._odd,
        )
        return [finding for kind in found for finding in sorted(kind, key=lambda each: (-each.count, each.text))]

    def _of_domains(self) -> Iterator[Finding]:
        for name, domain in self._domains.items():
            share = f" ({100 * domain.authentic / domain.messages:.1f} %)" if domain.messages else ""
            text = (
                f"{name}: {_many(domain.messages, 'message')} in {_many(domain.reports, 'report')} of "
                f"{_many(len(domain.makers), 'receiver')}, {domain.authentic} authentic{share}; "
                f"policy {domain.policy or 'unknown'}"
            )
            yield Finding("domain", name, name, domain.messages, text)

    def _of_tls_domains(self) -> Iterator[Finding]:
        for name, sessions in self._tls_domains.items():
            text = f"{name or 'TLS'}: {_many(sessions.good, 'TLS session')} good, {sessions.failed} failed"
            yield Finding("tls-domain", name, name, sessions.good + sessions.failed, text)

    def _of_sources(self) -> Iterator[Finding]:
        for (address, name), source in self._sources.items():
            yield Finding("source", name, address, source.count, source.text(address, name))

    def _of_selectors(self) -> Iterator[Finding]:
        for (domain, selector), found in self._selectors.items():
            if found.failed:
                text = (
                    f"DKIM signatures of selector {selector or '(unknown)'} of {domain} fail at receivers: "
                    f"{found.failed} of {_many(found.count, 'message')}{_by(found.makers)}"
                )
                why = _first(found.why)
                yield Finding("dkim", domain, selector, found.failed, f"{text}: {why}" if why else text)

    def _of_receivers(self) -> Iterator[Finding]:
        for (domain, maker, error), count in self._receiver_errors.items():
            yield Finding("receiver", domain, maker, count, f"{maker} has trouble with the record of {domain}: {error}")

    def _of_failures(self) -> Iterator[Finding]:
        for (address, domain), found in self._failures.items():
            what = ", ".join(sorted(found.what)) or "authentication"
            text = (
                f"{address or 'an unknown host'} sends as {domain or 'an unknown domain'} and fails {what}: "
                f"{_many(found.count, 'failure report')}{_by(found.makers)}"
            )
            yield Finding("failure", domain, address, found.count, text)

    def _of_complaints(self) -> Iterator[Finding]:
        for (kind, domain, to), count in self._complaints.items():
            whose = f" of {domain}" if domain else ""
            text = f"{_many(count, 'complaint')} ({kind}) about mail{whose} to {to or 'unknown readers'}"
            yield Finding("complaint", domain, to, count, text)

    def _of_tls(self) -> Iterator[Finding]:
        for (domain, host, kind), found in self._tls.items():
            text = (
                f"TLS with {host or 'a host'} for mail to {domain or 'your domain'} fails ({kind}): "
                f"{_many(found.count, 'session')}{_by(found.makers)}"
            )
            yield Finding("tls", domain, host, found.count, text)


# -- what is counted


class _Domain:
    def __init__(self) -> None:
        self.reports = self.messages = self.authentic = 0
        self.makers: Counter[str] = Counter()
        self.policy = ""


class _Source:
    """One address and the author domain that it uses: what fails, and why."""

    def __init__(self) -> None:
        self.count = self.authentic = self.forwarded = 0
        self.disposition: Counter[str] = Counter()
        self.spf: Counter[str] = Counter()
        self.dkim: Counter[str] = Counter()
        self.makers: Counter[str] = Counter()

    def add(self, record: Record, maker: str) -> None:
        count = record.count
        self.count += count
        if record.is_authentic:
            self.authentic += count
        else:
            _count(self.dkim, _dkim_reason(record), count)
        if any(reason.type in _FORWARDED for reason in record.reasons):
            self.forwarded += count
        _count(self.disposition, record.disposition, count)
        _count(self.spf, _spf_reason(record), count)
        _count(self.makers, maker)

    def text(self, address: str, name: str) -> str:
        fails = "SPF" if self.authentic == self.count else "SPF and DKIM"
        why = _first(self.spf)
        if self.authentic == self.count:
            why = f"{why}; its DKIM signature is good"
        else:
            why = f"{why}, {_first(self.dkim)}"
            if self.authentic:
                why += f"; with a good DKIM signature in {self.authentic} messages"
        facts = [_many(self.count, "message")]
        for word, shown in (("reject", "refused"), ("quarantine", "quarantined")):
            if self.disposition[word]:
                facts.append(f"{self.disposition[word]} {shown}")
        if self.forwarded:
            facts.append(f"{self.forwarded} forwarded, say the receivers")
        return f"{address} sends as {name or 'nobody'} and fails {fails}: {why}; {', '.join(facts)}{_by(self.makers)}"


class _Selector:
    def __init__(self) -> None:
        self.count = self.failed = 0
        self.makers: Counter[str] = Counter()
        self.why: Counter[str] = Counter()

    def add(self, result: DkimResult, count: int, maker: str) -> None:
        self.count += count
        if result.result not in ("pass", "none"):
            self.failed += count
            _count(self.makers, maker)
            if result.human_result:
                _count(self.why, result.human_result)


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


def _count(counter: Counter[str], word: str, count: int = 1, limit: int = _WORDS_LIMIT) -> None:
    word = word[:_WORD_CHARACTERS]
    if word in counter or len(counter) < limit:
        counter[word] += count


# -- reasons


def _is_of(domain: str, author: str, policy_domain: str) -> bool:
    """Whether a domain belongs to the author's: one is below the other, or below where the policy is."""
    return domain in (author, policy_domain) or any(
        one.endswith("." + other)
        for one, other in ((domain, author), (author, domain), (domain, policy_domain))
        if other
    )


def _spf_reason(record: Record) -> str:
    for result in record.spf_results:
        if result.result == "pass":
            return f"its envelope sender is of {result.domain}"
        if _is_of(result.domain, record.header_from, record.header_from):
            return _OF_RECORD.get(result.result, f"they say {result.result}")
        return f"its envelope sender is of {result.domain}, where it fails too"
    return "they do not say why"


def _dkim_reason(record: Record) -> str:
    if not record.dkim_results:
        return "no signature"
    for result in record.dkim_results:
        if _is_of(result.domain, record.header_from, record.header_from) and result.result != "pass":
            return f"the signature of {result.domain} does not hold"
    return f"signed by {record.dkim_results[0].domain}"


# -- words


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _by(makers: Counter[str]) -> str:
    names = [name for name, _ in makers.most_common(_NAMES_SHOWN) if name]
    if len(makers) > _NAMES_SHOWN:
        names.append("...")
    return f" ({', '.join(names)})" if names else ""


def _first(counter: Counter[str]) -> str:
    return next((word for word, _ in counter.most_common(1)), "")
