"""A report on TLS as mail (RFC 8460 §5.3): composed, and found in what others send.

In:   a Report and who sends it to whom; the content of a message.
Out:  the content of a message; the bytes of the report in a message.
Never: raises anything but ReportError for a message, looks deeper than one level of parts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from msgspec import Struct

from ekiden.message.date import header_date
from ekiden.tls.tlsrpt import Report, ReportError, compressed

_PARTS_LIMIT = 20
_HEADER_LIMIT_BYTES = 64 * 1024
_TYPES = ("application/tlsrpt+gzip", "application/tlsrpt+json", "application/tlsrpt", "application/gzip")
_FIELD = re.compile(rb"(?:\A|\r?\n)([!-9;-~]+)[ \t]*:((?:[^\n]|\n[ \t])*)")
_PARAMETER = re.compile(r';\s*([A-Za-z0-9*_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')


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


def report_in(content: bytes) -> bytes:
    """The bytes of the report in a message: JSON or gzip. Raises ReportError."""
    fields, body = _split(content)
    kind, parameters = _content_type(fields)
    if kind in _TYPES:
        return _decoded(fields, body)
    if not kind.startswith("multipart/") or not parameters.get("boundary"):
        raise ReportError("the message holds no TLS report")
    for part in _parts(body, parameters["boundary"].encode("utf-8", "replace")):
        fields, inner = _split(part)
        kind, parameters = _content_type(fields)
        name = (
            _parameters(fields.get("content-disposition", "")).get("filename") or parameters.get("name", "")
        ).lower()
        if kind in _TYPES or (name.endswith((".json", ".json.gz")) and kind.startswith("application/")):
            return _decoded(fields, inner)
    raise ReportError("the message holds no TLS report")


def _split(part: bytes) -> tuple[dict[str, str], bytes]:
    """The fields by name in lower case, the first of each, and the body."""
    if part.startswith((b"\r\n", b"\n")):
        return {}, part.partition(b"\n")[2]
    ends = [(at, size) for mark, size in ((b"\r\n\r\n", 4), (b"\n\n", 2)) if (at := part.find(mark)) >= 0]
    at, size = min(ends, default=(len(part), 0))
    if at > _HEADER_LIMIT_BYTES:
        raise ReportError("the header of the message or of a part is too long")
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(part[:at]):
        fields.setdefault(name.decode("latin-1").lower(), " ".join(value.decode("latin-1").split()))
    return fields, part[at + size :]


def _content_type(fields: dict[str, str]) -> tuple[str, dict[str, str]]:
    value = fields.get("content-type", "text/plain")
    return value.partition(";")[0].strip().lower(), _parameters(value)


def _parameters(value: str) -> dict[str, str]:
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
        for name, quoted, bare in _PARAMETER.findall(value)
    }


def _parts(body: bytes, boundary: bytes) -> Iterator[bytes]:
    """RFC 2046 §5.1.1."""
    mark = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    start = -1
    for number, found in enumerate(mark.finditer(body)):
        if start >= 0:
            yield body[start : found.start()]
        if found[1] or number >= _PARTS_LIMIT:
            return
        start = found.end()
        start += 2 if body[start : start + 2] == b"\r\n" else 1


def _decoded(fields: dict[str, str], body: bytes) -> bytes:
    coding = fields.get("content-transfer-encoding", "7bit").lower()
    if coding in ("7bit", "8bit", "binary"):
        return body
    if coding == "quoted-printable":
        return binascii.a2b_qp(body)
    if coding != "base64":
        raise ReportError("the report is in an unknown encoding")
    try:
        return base64.b64decode(b"".join(body.split()))
    except (binascii.Error, ValueError):
        raise ReportError("the report is no base64") from None
