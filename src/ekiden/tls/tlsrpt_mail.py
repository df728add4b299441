"""A report of ours on TLS as mail (RFC 8460 §5.3). Those that others send are found by reports.recognise.

In:   a Report and who sends it to whom.
Out:  the content of a message.
"""

from __future__ import annotations

import base64

from msgspec import Struct

from ekiden.message.date import header_date
from ekiden.tls.tlsrpt import Report, compressed


class ReportMail(Struct, frozen=True):
    """``sender`` and ``to`` are addresses; ``host`` is our name, ``domain`` the one reported on; times in seconds."""

    report: Report
    sender: str
    to: str
    host: str
    domain: str
    now: float
    begins: int
    ends: int


def compose_mail(mail: ReportMail) -> bytes:
    """In wire form, 7-bit. What an address or name holds cannot break out of its field."""
    boundary = f"=_tlsrpt_{mail.report.report_id.encode().hex()[:40]}"
    file_name = f"{mail.host}!{mail.domain}!{mail.begins}!{mail.ends}.json.gz"
    header = (
        f"From: {mail.sender}",
        f"To: {mail.to}",
        f"Date: {header_date(mail.now)}",
        f"Message-ID: <{mail.report.report_id}>",
        f"Subject: Report Domain: {mail.domain}\r\n Submitter: {mail.host}\r\n Report-ID: <{mail.report.report_id}>",
        f"TLS-Report-Domain: {mail.domain}",
        f"TLS-Report-Submitter: {mail.host}",
        "TLS-Required: No",  # RFC 8460 §3 by way of RFC 8689 §3: the report may be about why TLS fails
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt"; boundary="{boundary}"',
    )
    packed = base64.encodebytes(compressed(mail.report)).decode("ascii").replace("\n", "\r\n")
    lines = (
        *header,
        "",
        f"--{boundary}",
        'Content-Type: text/plain; charset="us-ascii"',
        "Content-Transfer-Encoding: 7bit",
        "",
        f"This is an aggregate TLS report from {mail.host} on {mail.domain}.",
        "",
        f"--{boundary}",
        "Content-Type: application/tlsrpt+gzip",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{file_name}"',
        "",
        f"{packed}--{boundary}--",
        "",
    )
    return "\r\n".join(lines).encode("ascii", "replace")
