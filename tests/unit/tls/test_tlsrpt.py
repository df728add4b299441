"""Reports on TLS: ours, those of others, and what is none (RFC 8460 §4.4, §5.3)."""

from __future__ import annotations

import email
import email.policy
import gzip
import json
import zlib
from pathlib import Path

import pytest

from ekiden.tls.tlsrpt import (
    Count,
    FailureDetails,
    PolicyDescription,
    ReportError,
    compose,
    compressed,
    day_of,
    decode,
    encode,
)
from ekiden.tls.tlsrpt_mail import ReportMail, compose_mail
from support.requirements import require_conformance
from support.tls_reports import report_in

STS = PolicyDescription(
    "sts", "x.test", ("version: STSv1", "mode: enforce", "mx: mx.x.test", "max_age: 1"), ("mx.x.test",)
)
NONE = PolicyDescription("no-policy-found", "x.test")
EXPIRED = FailureDetails("certificate-expired", receiving_mx_hostname="mx.x.test", receiving_ip="192.0.2.1")
COUNTS = [Count(STS, None, 5), Count(STS, EXPIRED, 3), Count(NONE, None, 2)]


def made() -> bytes:
    report = compose("2026-11-29", "x.test", COUNTS, organization="Ours", contact="a@our.test", host="mx.our.test")
    return encode(report)


def test_our_report_is_in_the_words_of_the_rfc() -> None:
    report = json.loads(made())
    assert report == {
        "organization-name": "Ours",
        "date-range": {"start-datetime": "2026-11-29T00:00:00Z", "end-datetime": "2026-11-29T23:59:59Z"},
        "contact-info": "a@our.test",
        "report-id": "2026-11-29.x.test@mx.our.test",
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": ["version: STSv1", "mode: enforce", "mx: mx.x.test", "max_age: 1"],
                    "policy-domain": "x.test",
                    "mx-host": ["mx.x.test"],
                },
                "summary": {"total-successful-session-count": 5, "total-failure-session-count": 3},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "mx.x.test",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 3,
                    }
                ],
            },
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "x.test"},
                "summary": {"total-successful-session-count": 2, "total-failure-session-count": 0},
            },
        ],
    }
    assert encode(decode(made())) == made()
    assert day_of(1_796_000_000) == "2026-11-30"


def samples() -> list[Path]:
    return sorted(require_conformance("mta-sts-tlsrpt-dane", "tlsrpt-reports").rglob("*.*"))


def test_reports_of_others_are_read() -> None:
    read = 0
    for path in samples():
        octets = path.read_bytes()
        if path.suffix == ".json":
            report = decode(octets)
            assert decode(gzip.compress(octets)) == report
        else:
            report = report_in(octets)
        expected = json.loads(path.with_suffix(".json").read_bytes())
        assert report.report_id == expected["report-id"], path
        assert len(report.policies) == len(expected["policies"]), path
        for result, theirs in zip(report.policies, expected["policies"], strict=True):
            failures = theirs["summary"].get("total-failure-session-count", 0)
            assert result.summary.total_failure_session_count == failures, path
            assert len(result.failure_details) == len(theirs.get("failure-details", ())), path
        read += 1
    assert read >= 7


def test_our_mail_is_what_others_read_and_what_we_read() -> None:
    report = decode(made())
    mail = ReportMail(report, "tls@our.test", "r@x.test", "mx.our.test", "x.test", 1_796_000_000, 1, 2)
    content = compose_mail(mail)
    parsed = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "tlsrpt"
    assert parsed["TLS-Report-Domain"] == "x.test"
    assert parsed["TLS-Report-Submitter"] == "mx.our.test"
    assert parsed["TLS-Required"] == "No"
    parts = list(parsed.iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "application/tlsrpt+gzip"]
    assert parts[1].get_filename() == "mx.our.test!x.test!1!2.json.gz"
    assert json.loads(gzip.decompress(parts[1].get_content())) == json.loads(made())
    assert report_in(content) == report
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    assert content.isascii()


def test_a_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 1_000_000) for _ in range(200)) + packer.flush()
    assert len(bomb) < 300_000
    with pytest.raises(ReportError, match="longer than"):
        decode(bomb)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b"\x1f\x8b",
        compressed(decode(made()))[:-9],
        b"\x1f\x8bjunk",
        made().replace(b"2026-11-29T", b"T"),
        made().replace(b'"sts"', b"7"),
        made().replace(b":3", b":-3"),
        made().replace(b":3", b':"3"'),
        made().replace(b":3", b":" + b"9" * 5000),
        made().replace(b"mx.x.test", b"\xff\xfe"),
        b" " * (10 * 1024 * 1024 + 1),
    ],
)
def test_reports_that_are_none(octets: bytes) -> None:
    with pytest.raises(ReportError):
        decode(octets)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Subject: hello\r\n\r\nhello",
        b"Content-Type: multipart/report\r\n\r\n",
        b"Content-Type: multipart/report; boundary=n\r\n\r\n--n\r\n\r\n--n--",
        b"Content-Type: multipart/report; boundary=n\r\n\r\n" + b"--n\r\n\r\n" * 100_000,
        b'Content-Type: multipart/report; boundary="' + b"n" * 100_000 + b'"\r\n\r\n',
        b"Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n!",
        b"Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nx",
    ],
)
def test_messages_without_a_report(content: bytes) -> None:
    with pytest.raises(ReportError):
        report_in(content)
