"""Any message and any report is a Report that reads the same when written, or a ReportError; within the limits."""

from __future__ import annotations

import base64

from ekiden.reports.archive import ArchiveLimits
from ekiden.reports.recognise import ReportLimits
from ekiden.tls.tlsrpt import Report, ReportError, compressed, decode, encode
from support.tls_reports import report_in

_JSON = (
    b'{"organization-name":"x","date-range":{"start-datetime":"2026-01-01T00:00:00Z","end-datetime":"2026-01-01T1"},'
    b'"report-id":"y","policies":[{"policy":{"policy-type":"sts","policy-string":["a"],"policy-domain":"x.test",'
    b'"mx-host":"m"},"summary":{"total-successful-session-count":1,"total-failure-session-count":2},'
    b'"failure-details":[{"result-type":"certificate-expired","failed-session-count":2}]}]}'
)
_PACKED = compressed(decode(_JSON))
_HEAD = b'Subject: x\r\nContent-Type: multipart/report; report-type="tlsrpt";\r\n boundary="b b"\r\n\r\n'
_PART = b"Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
SEEDS = [
    _JSON,
    _PACKED,
    _HEAD + b"--b b\r\n\r\ntext\r\n--b b\r\n" + _PART + base64.encodebytes(_PACKED) + b"\r\n--b b--\r\n",
    b"Content-Type: application/tlsrpt+json\n\n" + _JSON,
]
_LIMIT = 100_000
_LIMITS = ReportLimits(ArchiveLimits(unpacked_bytes=_LIMIT), tls_bytes=_LIMIT)


def _read(octets: bytes) -> Report | None:
    try:
        return decode(octets, limit=_LIMIT)
    except ReportError:
        return None


def _read_mail(content: bytes) -> Report | None:
    try:
        return report_in(content, _LIMITS)
    except ReportError:
        return None


def one_input(data: bytes) -> None:
    for report in (_read(data), _read_mail(data)):
        if report is not None:
            assert decode(encode(report)) == report
            assert decode(compressed(report)) == report
