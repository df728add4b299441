"""What is a report itself."""

from __future__ import annotations

import time

import pytest

from ekiden.reports.request import looks_like_report


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@example.com\r\nSubject: Report Domain: example.com Submitter: x Report-ID: <1>\r\n",
        b"SUBJECT:report  domain: example.com\r\n",
        b"Subject: [Preview] Report Domain: example.com\r\n Submitter: x\r\n",
        b'Content-Type: multipart/report; report-type="tlsrpt"\r\n',
        b"Content-Type:\r\n multipart/report;\r\n report-type=feedback-report\r\n",
    ],
)
def test_a_report_looks_like_one(header: bytes) -> None:
    assert looks_like_report(header)


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: On the Report Domain: example.com\r\n",
        b"X-Subject: Report Domain: example.com\r\n",
        b"Subject: hello\r\nContent-Type: multipart/mixed\r\n",
        b"Content-Type: multipart/reporter\r\n",
        b"",
    ],
)
def test_other_mail_does_not(header: bytes) -> None:
    assert not looks_like_report(header)


@pytest.mark.parametrize("piece", [b"subject:", b"subject: \r\n", b"subject: [", b"content-type: ", b"report\t", b" "])
def test_the_look_takes_linear_time(piece: bytes) -> None:
    header = b"subject:" + piece * (1_000_000 // len(piece))
    began = time.process_time()
    looks_like_report(header)
    assert time.process_time() - began < 0.5
