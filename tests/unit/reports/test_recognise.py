"""Finding the report in a message (RFC 9990 §3.5.2, RFC 5965 §2, RFC 8460 §5.3)."""

from __future__ import annotations

import base64
import gzip
import time

import pytest

from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.archive import ArchiveLimits
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.recognise import Found, ReportLimits, at_once, in_file, in_message
from ekiden.tls.tlsrpt import Report as TlsReport
from ekiden.tls.tlsrpt import ReportError

XML = (
    b"<feedback><report_metadata><org_name>R</org_name><report_id>1</report_id><date_range><begin>1700000000</begin>"
    b"<end>1700086399</end></date_range></report_metadata><policy_published><domain>example.com</domain><p>none</p>"
    b"</policy_published><record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated>"
    b"<disposition>none</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers>"
    b"<header_from>example.com</header_from></identifiers></record></feedback>"
)
TLS = (
    b'{"organization-name":"T","date-range":{"start-datetime":"2026-01-01T00:00:00Z","end-datetime":'
    b'"2026-01-01T23:59:59Z"},"report-id":"t1","policies":[]}'
)
QUOTED = XML.replace(b"<record>", b"=\r\n<record=3E")
LIMITS = ReportLimits(ArchiveLimits(packed_bytes=2_000_000, unpacked_bytes=4_000_000), records=100)


def part(kind: str, body: bytes, *fields: str, encoded: bool = True) -> bytes:
    head = [f"Content-Type: {kind}", *fields]
    if encoded:
        head.append("Content-Transfer-Encoding: base64")
        body = base64.encodebytes(body).replace(b"\n", b"\r\n")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def mail(*parts: bytes, kind: str = "mixed") -> bytes:
    body = b"".join(b"--b\r\n" + each + b"\r\n" for each in parts) + b"--b--\r\n"
    return b'From: r@receiver.example\r\nContent-Type: multipart/%s; boundary="b"\r\n\r\n%s' % (kind.encode(), body)


def found(content: bytes) -> tuple[Found, ...]:
    return at_once(in_message(content, LIMITS))


@pytest.mark.parametrize(
    "content",
    [
        mail(part("text/plain", b"Hello", encoded=False), part("application/gzip", gzip.compress(XML))),
        mail(part("text/xml", XML, encoded=False)),
        mail(part("application/octet-stream; name=a.xml.gz", gzip.compress(XML))),
        mail(part("image/gif", gzip.compress(XML), 'Content-Disposition: attachment;\r\n filename="a!b!1!2.xml.GZ"')),
        mail(part("text/plain; name*0*=utf-8''a; name*1*=%2E.xml", XML)),
        mail(part("text/xml", QUOTED, "Content-Transfer-Encoding: quoted-printable", encoded=False)),
        mail(mail(part("application/gzip", gzip.compress(XML)), kind="alternative").replace(b"--b", b"--c").replace(
            b'"b"', b'"c"'
        )),
        part("application/gzip", gzip.compress(XML)),
        part("application/gzip", gzip.compress(XML)).replace(b"\r\n", b"\n"),
        b"From r@x Thu Jan  1\n" + part("application/gzip", gzip.compress(XML)),
        part("application/gzip", gzip.compress(XML)).rstrip(b"=\r\n"),
        part("text/xml", b"\xef\xbb\xbf\r\n" + XML),
    ],
)  # fmt: skip
def test_an_aggregate_report_is_found_in_every_form_of_mail(content: bytes) -> None:
    (one,) = found(content)
    assert isinstance(one.report, AggregateReport)
    assert one.report.messages == 2


def test_a_message_may_hold_several_reports_and_broken_ones_beside() -> None:
    content = mail(
        part("application/gzip", b"\x1f\x8bjunk"),
        part("application/gzip", gzip.compress(XML)),
        part("application/tlsrpt+gzip", gzip.compress(TLS)),
        part("application/tlsrpt+json", TLS, encoded=False),
    )
    assert [type(each.report) for each in found(content)] == [AggregateReport, TlsReport, TlsReport]


COMPLAINT = part("message/feedback-report", b"Feedback-Type: abuse\r\nSource-IP: 192.0.2.9\r\n", encoded=False)
ORIGINAL = b"From: a@example.com\r\nSubject: Offer\r\n\r\n"


@pytest.mark.parametrize(
    "content",
    [
        mail(COMPLAINT, part("message/rfc822", ORIGINAL + b"body", encoded=False), kind="report"),
        mail(COMPLAINT, part("message/rfc822", ORIGINAL + b"body"), kind="report"),
        mail(COMPLAINT, part("text/rfc822-headers", ORIGINAL, encoded=False), kind="report"),
        mail(
            part("message/feedback-report", b"\r\nFeedback-Type: abuse\nSource-IP: 192.0.2.9\n"),
            part("message/rfc822", ORIGINAL + part("application/gzip", gzip.compress(XML)), encoded=False),
        ),
    ],
)
def test_a_complaint_is_found_with_the_header_of_the_message(content: bytes) -> None:
    (one,) = found(content)
    assert isinstance(one.report, FeedbackReport)
    assert (one.report.feedback_type, one.report.source_ip) == ("abuse", "192.0.2.9")
    assert (one.report.author_domain, one.report.subject) == ("example.com", "Offer")


def test_a_report_within_a_message_that_is_attached_is_not_one_of_the_sender() -> None:
    forwarded = b"From: a@b\r\n" + part("application/gzip", gzip.compress(XML))
    with pytest.raises(ReportError, match="holds no report"):
        found(mail(part("message/rfc822", forwarded, encoded=False)))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no report"),
        (b"Subject: hello\r\n\r\nhello", "holds no report"),
        (b"Content-Type: multipart/mixed; boundary=n\r\n\r\n", "holds no report"),
        (mail(part("application/pdf", b"%PDF")), "holds no report"),
        (mail(part("application/octet-stream", b"%PDF")), "neither XML nor JSON"),
        (mail(part("application/gzip", b"")), "empty"),
        (mail(part("application/gzip", b" \n" * 90_000)), "empty"),
        (mail(part("application/zip", b"PK\x03\x04")), "ends early"),
        (mail(part("text/xml", b"<html/>")), "no aggregate report"),
        (mail(part("application/json", b"[" * 100_000)), "neither XML nor JSON"),
        (mail(part("application/json", b'{"a":' * 100_000)), "no report"),
        (mail(part("application/json", b'{"a":' + b"[" * 100_000)), "no report"),
        (mail(part("text/xml", XML, "Content-Transfer-Encoding: x-uuencode", encoded=False)), "unknown encoding"),
        (mail(part("text/xml", b"!", "Content-Transfer-Encoding: base64", encoded=False)), "empty"),
        (mail(part("text/xml", b"QQQQQ", "Content-Transfer-Encoding: base64", encoded=False)), "base64"),
        (mail(*[part("text/plain", b"")] * 300), "too many parts"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100_000, "too many parts"),
        (mail(part("application/gzip", gzip.compress(b"<feedback>" + b" " * 3_900_000))), "more densely"),
        (mail(part("message/feedback-report", b"x")), "no Feedback-Type"),
    ],
)
def test_a_message_without_a_report_is_refused_with_its_reason(content: bytes, why: str) -> None:
    with pytest.raises(ReportError, match=why):
        found(content)


def test_files_are_messages_or_what_messages_have_attached() -> None:
    for octets in (XML, gzip.compress(XML), part("application/gzip", gzip.compress(XML)), b"\n" + XML):
        assert isinstance(at_once(in_file(octets, LIMITS))[0].report, AggregateReport)
    with pytest.raises(ReportError):
        at_once(in_file(b"\x7fELF", LIMITS))
    # Without a blank before its first colon XML is no header, either.
    assert at_once(in_file(XML.replace(b"192.0.2.1", b"2001:db8::1"), LIMITS))
    # The root of all names is no domain that a report could be about.
    with pytest.raises(ReportError, match="what domain"):
        at_once(in_file(XML.replace(b"<domain>example.com<", b"<domain>.<"), LIMITS))


def test_the_work_comes_in_short_steps() -> None:
    body = XML.replace(b"</feedback>", b"<record/>" * 50_000 + b"</feedback>")
    content = mail(part("text/xml", body, encoded=False))
    steps, longest = in_message(content, ReportLimits(records=100_000)), 0.0
    count = 0
    while True:
        begin = time.process_time()
        try:
            next(steps)
        except StopIteration:
            break
        longest = max(longest, time.process_time() - begin)
        count += 1
    assert count >= 2 * len(body) // 65536
    assert longest < 0.25
