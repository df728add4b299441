"""Complaints of readers and failures of authentication (RFC 5965, RFC 6591, RFC 9991)."""

from __future__ import annotations

import pytest

from ekiden.reports.feedback import FeedbackReport, read_feedback, read_plain_failure
from ekiden.tls.tlsrpt import ReportError

# RFC 5965 Appendix B.2, in its gist.
COMPLAINT = (
    b"Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n"
    b"Original-Mail-From: <somespammer@example.net>\r\nOriginal-Rcpt-To: <user@example.com>\r\n"
    b"Received-Date: Thu, 8 Mar 2005 14:00:00 EDT\r\nSource-IP: 192.0.2.1\r\n"
    b"Authentication-Results: mail.example.com;\r\n spf=fail smtp.mail=somespammer@example.com\r\n"
    b"Reported-Domain: example.net\r\nReported-Uri: http://example.net/earn_money.html\r\n"
    b"Reported-Uri: mailto:user@example.com\r\nReporting-MTA: dns; mail.example.com\r\nIncidents: 3\r\n"
)
FAILURE = (
    b"Feedback-Type: auth-failure\r\nUser-Agent: G\r\nVersion: 1\r\nAuth-Failure: dmarc\r\n"
    b"Identity-Alignment: DKIM, spf\r\nDelivery-Result: smg-policy-action\r\nSource-IP: [2001:DB8::1]\r\n"
    b"DKIM-Domain: Example.com\r\nDKIM-Selector: s1\r\nDKIM-Identity: @example.com\r\n"
    b"Arrival-Date: Mon, 01 Oct 2018 11:20:27 +0200\r\n"
)
ORIGINAL = b'From: "a@wrong.example" <a@Mail.Example.com>\r\nSubject: Earn\r\n money\r\nMessage-ID: <1@x>\r\n'


def test_a_complaint_says_whose_mail_was_complained_of() -> None:
    assert read_feedback(COMPLAINT, ORIGINAL) == FeedbackReport(
        "abuse",
        source_ip="192.0.2.1",
        arrival=1110304800,
        mail_from="somespammer@example.net",
        rcpt_to=("user@example.com",),
        reported_domains=("example.net",),
        incidents=3,
        user_agent="SomeGenerator/1.0",
        reporting_mta="mail.example.com",
        authentication_results=("mail.example.com; spf=fail smtp.mail=somespammer@example.com",),
        author_domain="mail.example.com",
        subject="Earn money",
        message_id="<1@x>",
    )


def test_a_failure_says_what_failed() -> None:
    report = read_feedback(FAILURE, ORIGINAL)
    assert report.is_failure
    assert (report.auth_failure, report.identity_alignment, report.delivery_result) == (
        ("dmarc",),
        "dkim, spf",
        "policy",
    )
    assert (report.dkim_domain, report.dkim_selector) == ("example.com", "s1")
    assert (report.source_ip, report.arrival) == ("2001:db8::1", 1538385627)
    assert report.domain == "mail.example.com"  # that of the author, where none is reported


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        (b"Source-IP: nowhere", "source_ip", ""),
        (b"Arrival-Date: Mon, 99 Foo 99999 99:99:99 +9999", "arrival", None),
        (b"Incidents: " + b"9" * 10_000, "incidents", 1),
        (b"Incidents: 9999999999999", "incidents", 10**9),
        (b"Incidents: -4", "incidents", 1),
        (b"User-Agent: " + b"x" * 100_000, "user_agent", "x" * 300),
        (b"Original-Rcpt-To: a@b\r\n" * 5000, "rcpt_to", ("a@b",) * 20),
        (b"Delivery-Result: \xff\x1b[31m", "delivery_result", "31m"),
    ],
)
def test_what_a_stranger_writes_is_bounded(line: bytes, field: str, value: object) -> None:
    report = read_feedback(b"Feedback-Type: abuse\r\n" + line + b"\r\n", b"")
    assert getattr(report, field) == value


@pytest.mark.parametrize("part", [b"", b"\r\n", b"Version: 1\r\n", b"Feedback-Type: \r\n", b"\xff" * 1000])
def test_a_part_without_a_type_is_no_report(part: bytes) -> None:
    with pytest.raises(ReportError):
        read_feedback(part, ORIGINAL)


def test_a_failure_for_people_needs_an_address() -> None:
    with pytest.raises(ReportError):
        read_plain_failure(b"A message claiming to be from you has failed\r\n  Sender Domain: x.example\r\n")
