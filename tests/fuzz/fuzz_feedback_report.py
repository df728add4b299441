"""Whatever a mail with a report on one message says, the FeedbackReport has bounded text, or it is refused."""

from __future__ import annotations

from ekiden.reports.feedback import FeedbackReport, read_feedback, read_plain_failure
from ekiden.tls.tlsrpt import ReportError

SEEDS = [
    b"Feedback-Type: abuse\r\nSource-IP: 192.0.2.1\r\nOriginal-Rcpt-To: <a@b.test>\r\nIncidents: 3\r\n"
    b"Received-Date: Thu, 8 Mar 2005 14:00:00 EDT\r\n\r\nFrom: a@b.test\r\nSubject: x\r\n y\r\n",
    b"Feedback-Type: auth-failure\r\nAuth-Failure: dmarc\r\nIdentity-Alignment: dkim, spf\r\nSource-IP: [::1]\r\n"
    b"Reported-Domain: b.test\r\nDelivery-Result: smg-policy\r\nArrival-Date: 1 Oct 2018 11:20 +0200\r\n\r\nFrom: <x>",
    b"  Sender Domain: b.test\n  Sender IP Address: 192.0.2.1\n  SPF Alignment: no\n"
    b"the error was detected.\n\nFrom: a@b\n",
    b"Feedback-Type: auth-failure\r\nAuth-Failure: a b c d e f g h i j k l m n o p q r s t u v w x y z\r\n\r\n",
]


def one_input(data: bytes) -> None:
    part, _, original = data.partition(b"\r\n\r\n")
    try:
        report = read_feedback(part, original)
    except ReportError:
        try:
            report = read_plain_failure(data)
        except ReportError:
            return
    for name in FeedbackReport.__struct_fields__:
        value = getattr(report, name)
        assert not isinstance(value, tuple) or len(value) <= 20
        for text in value if isinstance(value, tuple) else (value,):
            assert not isinstance(text, str) or (len(text) <= 1000 and "\n" not in text and "\r" not in text)
    assert report.feedback_type
    assert 0 <= report.incidents <= 10**9
