"""Whatever is attached to a mail is a report or a clear refusal: within the limits, without an entity or a file."""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile

from ekiden.reports.aggregate import AggregateReport
from ekiden.reports.archive import ArchiveLimits, documents
from ekiden.reports.recognise import ReportLimits, at_once, in_file
from ekiden.tls.tlsrpt import ReportError

_LIMITS = ReportLimits(ArchiveLimits(packed_bytes=4096, unpacked_bytes=8192, members=3), records=5)
_XML = (
    b"<feedback><report_metadata><org_name>R</org_name><report_id>1</report_id><date_range><begin>17</begin><end>18"
    b"</end></date_range></report_metadata><policy_published><domain>a.b</domain></policy_published><record><row>"
    b"<source_ip>::1</source_ip><count>2</count><policy_evaluated><dkim>fail</dkim><reason><type>other</type></reason>"
    b"</policy_evaluated></row><identifiers><header_from>a.b</header_from></identifiers><auth_results><spf>"
    b"<domain>a.b</domain></spf></auth_results></record></feedback>"
)


def _zipped(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.xml", _XML)
    return out.getvalue()


SEEDS = [
    _XML,
    gzip.compress(_XML),
    _zipped(zipfile.ZIP_STORED),
    _zipped(zipfile.ZIP_DEFLATED),
    gzip.compress(bytes(100_000)),
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><feedback>&b;</feedback>",
    b"<feedback><a:b xmlns:a='c'/><record><count>&#65;</record>",
    _XML.replace(b"::1", b"::1" + bytes(60)),
    _XML.replace(b"<domain>", b"<domain>.</domain><domain>", 1),
    b'{"date-range":{"start-datetime":"2026-01-01","end-datetime":"2026-01-01"},"report-id":"1","policies":[]}',
]


def one_input(data: bytes) -> None:
    if not data.startswith(b"<"):
        with contextlib.suppress(ReportError):
            size = sum(len(piece) for pieces in documents(data, _LIMITS.archive) for piece in pieces)
            assert size <= _LIMITS.archive.unpacked_bytes
    try:
        found = at_once(in_file(data, _LIMITS))
    except ReportError:
        return
    assert found
    for each in found:
        report = each.report
        if isinstance(report, AggregateReport):
            assert report.policy.domain
            assert 0 <= report.begin <= 10**11
            assert len(report.records) <= _LIMITS.records
            assert len(report.report_id) <= 1000
            assert all(record.count >= 0 for record in report.records)
            assert all(len(problem) <= 200 for problem in each.problems)
