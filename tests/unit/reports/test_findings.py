"""What reports say together, in plain words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ekiden.reports.aggregate import AggregateReport, DkimResult, OverrideReason, PolicyPublished, Record, SpfResult
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.findings import Summary, time_problem, tls_times
from ekiden.tls.tlsrpt import DateRange, FailureDetails, PolicyDescription, PolicyResult
from ekiden.tls.tlsrpt import Report as TlsReport
from ekiden.tls.tlsrpt import Summary as Sessions

NOW = 1_800_000_000
DAY = 86400
OWN_FAIL = (SpfResult("example.com", "fail", "mfrom"),)


def record(
    address: str = "203.0.113.7",
    count: int = 1,
    dkim: str = "fail",
    spf: str = "fail",
    name: str = "example.com",
    dkim_results: tuple[DkimResult, ...] = (),
    spf_results: tuple[SpfResult, ...] = OWN_FAIL,
    disposition: str = "none",
    reasons: tuple[OverrideReason, ...] = (),
) -> Record:
    return Record(address, count, disposition, dkim, spf, name, "", "", reasons, dkim_results, spf_results)


def report(
    *records: Record, by: str = "google.com", domain: str = "example.com", errors: tuple[str, ...] = ()
) -> AggregateReport:
    policy = PolicyPublished(domain, p="reject")
    return AggregateReport(by, f"a@{by}", "1", NOW - 2 * DAY, NOW - DAY - 1, policy, records, errors=errors)


def texts(*reports: AggregateReport | FeedbackReport | TlsReport, kind: str, domain: str = "") -> list[str]:
    summary = Summary(domain)
    for each in reports:
        summary.add(each, NOW, "fbl@x.test")
    return [finding.text for finding in summary.findings() if finding.kind == kind]


GOOD = (DkimResult("example.com", "pass", "s1"),)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (
            record(dkim="pass", dkim_results=GOOD, count=5),
            "203.0.113.7 sends as example.com and fails SPF: not in your record; its DKIM signature is good; "
            "5 messages (google.com)",
        ),
        (
            record(disposition="reject"),
            "203.0.113.7 sends as example.com and fails SPF and DKIM: not in your record, no signature; "
            "1 message, 1 refused (google.com)",
        ),
        (
            record(disposition="quarantine", spf_results=(SpfResult("example.com", "softfail"),), dkim_results=GOOD),
            "203.0.113.7 sends as example.com and fails SPF and DKIM: not in your record, signed by example.com; "
            "1 message, 1 quarantined (google.com)",
        ),
        (
            record(spf_results=(SpfResult("bounce.example.net", "pass"),), dkim_results=(DkimResult("x.net", "pass"),)),
            "203.0.113.7 sends as example.com and fails SPF and DKIM: its envelope sender is of bounce.example.net, "
            "signed by x.net; 1 message (google.com)",
        ),
        (
            record(spf_results=(), dkim_results=(DkimResult("example.com", "fail", "s1"),)),
            "203.0.113.7 sends as example.com and fails SPF and DKIM: they do not say why, the signature of "
            "example.com does not hold; 1 message (google.com)",
        ),
        (
            record(spf_results=(SpfResult("example.com", "permerror"),)),
            "203.0.113.7 sends as example.com and fails SPF and DKIM: they cannot read your record, no signature; "
            "1 message (google.com)",
        ),
        (
            record(reasons=(OverrideReason("mailing_list"),), spf_results=(SpfResult("l.test", "fail"),)),
            "203.0.113.7 sends as example.com and fails SPF and DKIM: its envelope sender is of l.test, where it "
            "fails too, no signature; 1 message, 1 forwarded, say the receivers (google.com)",
        ),
    ],
)
def test_a_source_that_fails_is_told_with_the_reason(one: Record, text: str) -> None:
    assert texts(report(one), kind="source") == [text]


def test_sources_are_counted_over_all_reports_and_the_heaviest_comes_first() -> None:
    found = texts(
        report(record(count=2), record("192.0.2.9", 3)),
        report(record(count=4), by="outlook.com"),
        report(record(count=1, spf="pass")),
        kind="source",
    )
    assert found == [
        "203.0.113.7 sends as example.com and fails SPF and DKIM: not in your record, no signature; 6 messages "
        "(google.com, outlook.com)",
        "192.0.2.9 sends as example.com and fails SPF and DKIM: not in your record, no signature; 3 messages "
        "(google.com)",
    ]


def test_a_selector_whose_signatures_fail_is_told() -> None:
    bad = DkimResult("mail.example.com", "permerror", "s1", "no key")
    found = texts(
        report(
            record(count=4, dkim_results=(bad, DkimResult("esp.test", "fail", "x"))),
            record(count=96, dkim_results=GOOD),
        ),
        report(record(count=6, dkim_results=(replace(bad, result="pass"),))),
        kind="dkim",
    )
    assert found == [
        "DKIM signatures of selector s1 of mail.example.com fail at receivers: 4 of 10 messages (google.com): no key"
    ]


def test_each_domain_has_its_numbers() -> None:
    found = texts(
        report(record(count=1), record(count=999, spf="pass")),
        report(record(count=3, dkim="pass"), domain="example.org", by="a.test", errors=("two records",)),
        report(domain="empty.test"),
        kind="domain",
    )
    assert found == [
        "example.com: 1000 messages in 1 report of 1 receiver, 999 authentic (99.9 %); policy reject",
        "example.org: 3 messages in 1 report of 1 receiver, 3 authentic (100.0 %); policy reject",
        "empty.test: 0 messages in 1 report of 1 receiver, 0 authentic; policy reject",
    ]
    errors = texts(report(by="a.test", errors=("two records",)), kind="receiver")
    assert errors == ["a.test has trouble with the record of example.com: two records"]


def test_complaints_and_failures_are_counted() -> None:
    complaint = FeedbackReport("abuse", rcpt_to=("u@hotmail.test",), reported_domains=("example.com",))
    failure = FeedbackReport("auth-failure", "192.0.2.1", reported_domains=("example.com",), auth_failure=("dmarc",))
    reports = (complaint, replace(complaint, incidents=3), replace(complaint, rcpt_to=()), failure, failure)
    assert texts(*reports, kind="complaint") == [
        "4 complaints (abuse) about mail of example.com to hotmail.test",
        "1 complaint (abuse) about mail of example.com to x.test",
    ]
    assert texts(*reports, kind="failure") == [
        "192.0.2.1 sends as example.com and fails dmarc: 2 failure reports (x.test)"
    ]


def test_reports_that_may_be_forged_are_told_of() -> None:
    summary = Summary("example.com")
    for proven in (True, False, None, False):
        summary.add(report(record()), NOW, "s@x.test", proven)
    summary.add(report(record(), domain="other.test"), NOW, "s@x.test", False)
    summary.add(FeedbackReport("abuse", reported_domains=("example.com",)), NOW, "s@x.test", False)
    assert [finding.text for finding in summary.findings() if finding.kind == "unproven"] == [
        "2 reports in the name of google.com: DMARC does not prove who sent the mail",
        "1 report in the name of s@x.test: DMARC does not prove who sent the mail",
    ]


ON_TLS = TlsReport(
    date_range=DateRange("2027-01-14T00:00:00Z", "2027-01-14T23:59:59Z"),
    report_id="t",
    organization_name="Company-X",
    policies=(
        PolicyResult(
            PolicyDescription("sts", "example.com"),
            Sessions(100, 3),
            (FailureDetails("certificate-expired", 3, receiving_mx_hostname="mx.example.com"),),
        ),
    ),
)


def test_tls_that_fails_is_told() -> None:
    assert texts(ON_TLS, ON_TLS, kind="tls") == [
        "TLS with mx.example.com for mail to example.com fails (certificate-expired): 6 sessions (Company-X)"
    ]
    assert texts(ON_TLS, kind="tls-domain") == ["example.com: 100 TLS sessions good, 3 failed"]


def test_a_domain_may_be_chosen_with_what_is_below_it() -> None:
    reports = (report(record()), report(record(name="b.a.test"), domain="b.a.test"), ON_TLS)
    for chosen, count in (("example.com", 1), ("EXAMPLE.com.", 1), ("a.test", 1), ("test", 1), ("ample.com", 0)):
        assert len(texts(*reports, kind="source", domain=chosen)) == count, chosen
    assert texts(ON_TLS, kind="tls", domain="other.test") == []


@pytest.mark.parametrize(
    ("begin", "end", "problem"),
    [
        (NOW - DAY, NOW, ""),
        (NOW, NOW + DAY, ""),
        (NOW - 360 * DAY, NOW - 359 * DAY, ""),
        (NOW + 2 * DAY, NOW + 3 * DAY, "it is about days to come"),
        (NOW - DAY, NOW + 40 * DAY, "it is about days to come"),
        (10**11, 10**11 + DAY, "it is about days to come"),
        (NOW, NOW - DAY, "it ends before it begins"),
        (NOW - 60 * DAY, NOW, "it is about 60 days at once"),
        (0, DAY, "it is about a time long ago"),
    ],
)
def test_a_report_of_a_time_that_cannot_be_is_told_of_and_not_counted(begin: int, end: int, problem: str) -> None:
    assert time_problem(begin, end, NOW) == problem
    odd = replace(report(record()), begin=begin, end=end)
    assert (texts(odd, kind="source") == []) is bool(problem)
    told = [f"report 1 by google.com is not counted: {problem}"] if problem else []
    assert texts(odd, kind="report") == told


@pytest.mark.parametrize("text", ["", "9999-99-99", "now", "99999-01-01", "2031-01-01T00:00:00Z"])
def test_a_report_on_tls_has_its_times_checked_too(text: str) -> None:
    odd = replace(ON_TLS, date_range=DateRange(text, text))
    assert tls_times(odd)[0] >= 0
    assert texts(odd, kind="tls") == []
    assert "not counted" in texts(odd, kind="report")[0]


def test_memory_is_bounded_whatever_reports_name() -> None:
    summary = Summary()
    for number in range(120):
        records = tuple(record(f"2001:db8::{number:x}:{each:x}", name=f"{each}.example.com") for each in range(1000))
        summary.add(report(*records), NOW)
        summary.add(report(by=f"{number}.test" + "x" * 9999), NOW)
    (domain,) = (finding for finding in summary.findings() if finding.kind == "domain")
    assert "121 receivers" in domain.text
    assert len([finding for finding in summary.findings() if finding.kind == "source"]) == 50_000
