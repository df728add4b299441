"""An aggregate report as XML, as a file and as mail (RFC 9990 §3.1.1, §3.5.2).

In:   an AggregateReport, whose texts may be what strangers wrote; who sends it to whom.
Out:  the XML, gzipped; the name of the file; the content of a message.
Never: lets a text end its element, its field or its line, or puts a character into XML that XML does not have.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from msgspec import Struct

from ekiden.message.date import header_date
from ekiden.reports.aggregate import NAMESPACE, AggregateReport, PolicyPublished, Record
from ekiden.reports.mail_text import header_text

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_VERSION = "1.0"  # RFC 9990 §3.1.1.2: of the format
# XML 1.0 §2.2: all others are no characters of XML, not even written as numbers.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_TOKEN = re.compile(r"[^A-Za-z0-9.-]")


def xml(report: AggregateReport) -> bytes:
    """UTF-8. Elements whose text is "" are left out where they are optional."""
    return "".join(_document(report)).encode("utf-8")


def compressed(report: AggregateReport) -> bytes:
    """gzip (RFC 1952), the same bytes for the same report."""
    packer = zlib.compressobj(9, wbits=_GZIP_WINDOW)
    return packer.compress(xml(report)) + packer.flush()


def file_name(report: AggregateReport, host: str) -> str:
    """RFC 9990 §3.5.2. ``host`` is our name. The same report has the same name, however often it is sent."""
    receiver, domain = (_NO_TOKEN.sub("_", name) for name in (host, report.policy.domain))
    return f"{receiver}!{domain}!{report.begin}!{report.end}.xml.gz"


class AggregateMail(Struct, frozen=True):
    """``sender`` and ``to`` are addresses; ``host`` is our name; ``now`` in seconds since the epoch."""

    report: AggregateReport
    sender: str
    to: Sequence[str]
    host: str
    now: float


def compose_mail(mail: AggregateMail, packed: bytes) -> bytes:
    """In wire form, 7-bit. ``packed``: what ``compressed`` gave."""
    report, host = mail.report, header_text(mail.host)
    domain, report_id = header_text(report.policy.domain), header_text(report.report_id)
    boundary = f"=_dmarc_{zlib.crc32(packed):08x}_{report.begin}"
    # RFC 9990 §3.5.2: the subject lets a reader know a report that came twice.
    header = (
        f"From: {header_text(mail.sender)}",
        f"To: {header_text(', '.join(mail.to))}",
        f"Date: {header_date(mail.now)}",
        f"Message-ID: <{report_id}>",
        f"Subject: Report Domain: {domain}\r\n Submitter: {host}\r\n Report-ID: <{report_id}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/mixed; boundary="{boundary}"',
    )
    name = file_name(report, mail.host)
    lines = (
        *header,
        "",
        f"--{boundary}",
        'Content-Type: text/plain; charset="us-ascii"',
        "Content-Transfer-Encoding: 7bit",
        "",
        f"This is an aggregate report of DMARC from {host} on mail of {domain}:",
        f"{report.messages} messages, {report.failed_messages} of them not authentic.",
        "",
        f"--{boundary}",
        f'Content-Type: application/gzip; name="{name}"',
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{name}"',
        "",
        base64.encodebytes(packed).decode("ascii").replace("\n", "\r\n") + f"--{boundary}--",
        "",
    )
    return "\r\n".join(lines).encode("ascii", "replace")


def _document(report: AggregateReport) -> Iterator[str]:
    yield f'<?xml version="1.0" encoding="UTF-8"?>\n<feedback xmlns="{NAMESPACE}">\n'
    yield _element("version", report.version or _VERSION)
    yield "<report_metadata>\n"
    yield _element("org_name", report.org_name)
    yield _element("email", report.email)
    yield _optional("extra_contact_info", report.extra_contact_info)
    yield _element("report_id", report.report_id)
    yield f"<date_range>\n<begin>{report.begin}</begin>\n<end>{report.end}</end>\n</date_range>\n"
    # RFC 9990 §3.1.1.3: one at most; RFC 7489 Appendix C had many.
    yield _optional("error", "; ".join(report.errors))
    yield _optional("generator", report.generator)
    yield "</report_metadata>\n"
    yield from _policy(report.policy)
    for record in report.records:
        yield from _record(record)
    yield "</feedback>\n"


def _policy(policy: PolicyPublished) -> Iterator[str]:
    """RFC 9990 §3.1.1.5: it has an element for each of these tags, and none for psd."""
    yield "<policy_published>\n"
    yield _element("domain", policy.domain)
    yield _optional("discovery_method", policy.discovery_method)
    yield _element("p", policy.p or "none")
    yield _optional("sp", policy.sp)
    yield _optional("np", policy.np)
    yield _optional("fo", policy.fo)
    yield _optional("adkim", policy.adkim)
    yield _optional("aspf", policy.aspf)
    yield _optional("testing", policy.testing)
    yield "</policy_published>\n"


def _record(record: Record) -> Iterator[str]:
    yield "<record>\n<row>\n"
    yield _element("source_ip", record.source_ip)
    yield f"<count>{record.count}</count>\n<policy_evaluated>\n"
    yield _element("disposition", record.disposition)
    yield _element("dkim", record.dkim)
    yield _element("spf", record.spf)
    for reason in record.reasons:
        yield f"<reason>\n{_element('type', reason.type)}{_optional('comment', reason.comment)}</reason>\n"
    yield "</policy_evaluated>\n</row>\n<identifiers>\n"
    yield _element("header_from", record.header_from)
    yield _element("envelope_from", record.envelope_from)  # RFC 9990 §3.1.1.10: empty for the null sender
    yield _optional("envelope_to", record.envelope_to)
    yield "</identifiers>\n<auth_results>\n"
    for dkim in record.dkim_results:
        yield "<dkim>\n"
        yield _element("domain", dkim.domain) + _element("selector", dkim.selector) + _element("result", dkim.result)
        yield _optional("human_result", dkim.human_result) + "</dkim>\n"
    for spf in record.spf_results:
        yield "<spf>\n"
        yield _element("domain", spf.domain) + _optional("scope", spf.scope) + _element("result", spf.result)
        yield _optional("human_result", spf.human_result) + "</spf>\n"
    yield "</auth_results>\n</record>\n"


def _optional(name: str, text: str) -> str:
    return _element(name, text) if text else ""


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(_characters(text))}</{name}>\n"


def _characters(text: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", text)
