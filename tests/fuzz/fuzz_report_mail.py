"""Any message holds a few reports that are within the limits, or is refused with a reason; its steps come to an end."""

from __future__ import annotations

import base64
import zlib

from ekiden.reports.archive import ArchiveLimits
from ekiden.reports.recognise import ReportLimits, at_once, in_message
from ekiden.tls.tlsrpt import ReportError

_LIMITS = ReportLimits(ArchiveLimits(packed_bytes=8192, unpacked_bytes=8192, members=3), records=5, tls_bytes=8192)
_XML = (
    b"<feedback><report_metadata><org_name>R</org_name><report_id>1</report_id><date_range><begin>17</begin><end>18"
    b"</end></date_range></report_metadata><policy_published><domain>a.b</domain></policy_published></feedback>"
)
_PACKER = zlib.compressobj(wbits=31)
_PACKED = base64.encodebytes(_PACKER.compress(_XML) + _PACKER.flush()).replace(b"\n", b"\r\n")
_COMPLAINT = b"Feedback-Type: abuse\r\nSource-IP: 192.0.2.1\r\n"
SEEDS = [
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\nContent-Type: application/gzip\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n" + _PACKED + b"--b--\r\n",
    b'Content-Type: image/x; name="a.xml"\n\n' + _XML,
    b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n"
    + _COMPLAINT
    + b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: a@b\r\nSubject: x\r\n\r\n--b\r\n\r\nText\r\n--b--\r\n",
    b"From x\n\nA message claiming to be from you has failed\n  Sender IP Address: ::1\n"
    b"error was detected.\n\nFrom: a@b\n",
    b"Content-Type: text/xml\nContent-Transfer-Encoding: quoted-printable\n\n" + _XML.replace(b"<", b"=3C"),
]


def one_input(data: bytes) -> None:
    try:
        found = at_once(in_message(data, _LIMITS))
    except ReportError:
        return
    assert 1 <= len(found) <= 20
    assert len(repr(found)) < 200 * len(data) + 10_000
