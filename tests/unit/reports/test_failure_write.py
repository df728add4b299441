"""Failure reports that we write, read by parsedmarc, the mail parser and our own reader (RFC 9991, RFC 6591)."""

from __future__ import annotations

import email
import re
from email.policy import default
from typing import Any

import msgspec
import parsedmarc
import pytest

from ekiden.auth.verdict import DkimVerdict, DmarcPolicy, Result, SpfVerdict
from ekiden.reports.collect import Evaluated
from ekiden.reports.failure_write import Failure, FailureMail, compose_failure, failure_of
from ekiden.reports.feedback import FeedbackReport
from ekiden.reports.recognise import ReportLimits, at_once, in_message
from ekiden.reports.redaction import Redaction
from support.dmarc import DAY, evaluated

RUF = "v=DMARC1; p=reject; ruf=mailto:f@example.com"
HEADER = (
    b"Received: from x (x [192.0.2.1]) by here.example for <bob@here.example>; Sat, 29 Nov 2025 00:01:00 +0000\r\n"
    b"From: Alice <alice@example.com>\r\nTo: bob@here.example\r\nSubject: private\r\nMessage-ID: <7@x>\r\n"
)
SPF_FAIL = SpfVerdict(
    Result.FAIL, domain="example.com", sender="alice@example.com", record='v=spf1 exists:"x" -all', mechanism="-all"
)
BAD = DkimVerdict(Result.FAIL, "example.com", "s1", identity="alice@example.com", reason="of alice@example.com")


def wanted(fo: str | None = None, *, passed: bool = False, **facts: Any) -> Failure | None:
    record = RUF if fo is None else f"{RUF}; fo={fo}"
    return failure_of(evaluated(passed=passed, record=record, **facts))


BOTH = ("dkim", "spf")


@pytest.mark.parametrize(
    ("fo", "passed", "kind"),
    [
        (None, False, "dmarc"), (None, True, None), ("0", False, "dmarc"), ("1", False, "dmarc"), ("1", True, None),
        ("d", False, "signature"), ("d", True, None), ("s", False, "spf"), ("s", True, None),
        ("0:1:d:s", False, "dmarc"), ("x", False, "dmarc"),
    ],
)  # fmt: skip
def test_what_the_owner_asks_for_decides(fo: str | None, passed: bool, kind: str | None) -> None:
    found = wanted(fo, passed=passed)
    assert (found and found.kind) == kind


def half_aligned(fo: str, **facts: Any) -> Failure | None:
    message = evaluated(record=f"{RUF}; fo={fo}", **facts)
    dmarc = message.verdicts.dmarc
    assert dmarc is not None
    dmarc = msgspec.structs.replace(dmarc, spf_aligned=False)
    verdicts = msgspec.structs.replace(message.verdicts, dmarc=dmarc)
    return failure_of(msgspec.structs.replace(message, verdicts=verdicts))


def test_one_mechanism_that_fails_is_told_to_who_asks_for_that() -> None:
    assert half_aligned("0") is None
    assert half_aligned("1") == Failure("dmarc", ("spf",))
    assert half_aligned("1", spf=SpfVerdict(Result.TEMPERROR, domain="example.com")) is None


@pytest.mark.parametrize(
    "facts",
    [
        {"record": "v=DMARC1; p=reject; rua=mailto:a@example.com"},
        {"record": f"{RUF}; psd=y"},
        {"is_report": True},
        {"record": ""},
    ],
)
def test_nothing_is_told_of_these(facts: dict[str, Any]) -> None:
    assert failure_of(evaluated(passed=False, **{"record": RUF, **facts})) is None


def mail(*, redacted: bool = True, header: bytes = HEADER, incidents: int = 1, **facts: Any) -> bytes:
    message: Evaluated = evaluated(
        **{
            "passed": False, "record": RUF, "spf": SPF_FAIL, "signatures": (BAD,), "disposition": DmarcPolicy.REJECT,
            **facts,
        }
    )  # fmt: skip
    failure = failure_of(message)
    assert failure is not None
    return compose_failure(
        FailureMail(
            message, failure, header, "dmarc@our.example", "f@example.com", "mx.our.example", "our.example", DAY + 90.0,
            Redaction(b"k" * 32) if redacted else None, incidents,
        )
    )  # fmt: skip


def test_parsedmarc_reads_what_was_found() -> None:
    parsed: Any = parsedmarc.parse_report_email(mail(incidents=3), offline=True)
    assert parsed["report_type"] == "failure"
    report = parsed["report"]
    assert report["feedback_type"] == "auth-failure"
    assert report["auth_failure"] == ["dmarc"]
    assert report["authentication_mechanisms"] == ["dkim", "spf"]
    assert report["reported_domain"] == "example.com"
    assert report["source"]["ip_address"] == "192.0.2.1"
    assert report["arrival_date_utc"] == "2025-11-29 00:01:00"
    assert report["delivery_result"] == "reject"
    assert report["dkim_domain"] == "example.com"
    assert report["sample_headers_only"] is True
    assert "dmarc=fail" in report["authentication_results"] or "our.example" in report["authentication_results"]
    assert report["parsed_sample"]["from"]["domain"] == "example.com"


def test_we_read_what_we_write() -> None:
    (found,) = at_once(in_message(mail(incidents=3), ReportLimits()))
    report = found.report
    assert isinstance(report, FeedbackReport)
    assert (report.source_ip, report.arrival, report.incidents) == ("192.0.2.1", DAY + 60, 3)
    assert (report.auth_failure, report.identity_alignment) == (("dmarc",), "dkim, spf")
    assert (report.reported_domains, report.author_domain) == (("example.com",), "example.com")
    assert (report.dkim_domain, report.dkim_selector) == ("example.com", "s1")
    assert (report.delivery_result, report.message_id) == ("reject", "<7@x>")


def test_the_mail_has_the_three_parts_of_its_kind() -> None:
    """RFC 6522 §3, RFC 5965 §2."""
    message = email.message_from_bytes(mail(), policy=default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "feedback-report"
    assert message["Auto-Submitted"] == "auto-generated"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/feedback-report", "text/rfc822-headers"]


def test_what_the_fields_must_hold_they_hold() -> None:
    """RFC 9991 §4, RFC 6591 §3.2."""
    content = mail().decode()
    for line in (
        "Feedback-Type: auth-failure",
        "Version: 1",
        "Auth-Failure: dmarc",
        "Identity-Alignment: dkim, spf",
        "DKIM-Selector: s1",
        r'SPF-DNS: txt : example.com : "v=spf1 exists:\"x\" -all"',
    ):
        assert f"\r\n{line}\r\n" in content
    assert "\r\nIncidents:" not in content


def test_names_are_shown_only_where_the_administrator_says_so() -> None:
    shown = mail()
    for private in (b"alice", b"Alice", b"bob", b"private"):
        assert private not in shown
    shown = mail(redacted=False)
    assert b"From: Alice <alice@example.com>\r\nTo: bob@here.example\r\nSubject: private\r\n" in shown
    assert b"Original-Mail-From: <alice@example.com>\r\n" in shown


@pytest.mark.parametrize("redacted", [True, False])
def test_what_strangers_wrote_ends_nothing(redacted: bool) -> None:
    evil = 'x\r\nBcc: v@victim.example\r\n\r\n--=_failure_\x00\xff"@\ud800'
    header = (
        b"Received: from \x00\xff\r\n --=_failure_0\r\n\r\nbody\r\nFrom: <a@b>\r\n--x\r\nFeedback-Type: abuse\r\n"
        + b"Message-ID: "
        + b"y" * 5000
        + b"\r\n" * 50
    )
    content = mail(
        redacted=redacted,
        header=header,
        from_domain=evil,
        client=evil,
        spf=SpfVerdict(Result.FAIL, domain=evil, sender=evil, record=evil, reason=evil),
        signatures=(DkimVerdict(Result.FAIL, evil, evil, identity=evil, reason=evil, signature=evil),),
    )
    assert content.isascii()
    assert b"\x00" not in content
    assert max(map(len, content.split(b"\r\n"))) <= 1000
    assert b"\n" not in content.replace(b"\r\n", b"")
    message = email.message_from_bytes(content, policy=default)
    assert message["Bcc"] is None
    parts = list(message.iter_parts())
    assert [part.get_content_type() for part in parts] == [
        "text/plain", "message/feedback-report", "text/rfc822-headers",
    ]  # fmt: skip
    machine = content.split(b"Content-Type: message/feedback-report")[1].split(b"Content-Type: text/rfc822-headers")[0]
    assert re.findall(rb"^Feedback-Type: (.*)\r$", machine, re.MULTILINE) == [b"auth-failure"]
    assert b"\r\nBcc" not in machine


def test_a_header_beyond_the_limit_is_cut_between_lines() -> None:
    content = mail(redacted=False, header=b"".join(b"X-%d: %b\r\n" % (n, b"x" * 90) for n in range(2000)))
    assert len(content) < 40_000
    assert re.search(rb"X-\d+: x{90}\r\n\r\n--=_failure", content)


def test_the_first_signature_that_would_have_helped_is_named() -> None:
    other = DkimVerdict(Result.FAIL, "list.example", "l")
    content = mail(signatures=(other, BAD))
    assert b"\r\nDKIM-Domain: example.com\r\n" in content
    assert b"\r\nDKIM-Domain: list.example\r\n" in mail(signatures=(other,))
