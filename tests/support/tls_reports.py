"""The report on TLS in a message."""

from __future__ import annotations

from ekiden.reports.recognise import ReportLimits, at_once, in_message
from ekiden.tls.tlsrpt import Report, ReportError


def report_in(content: bytes, limits: ReportLimits | None = None) -> Report:
    """Raises ReportError."""
    for found in at_once(in_message(content, limits or ReportLimits())):
        if isinstance(found.report, Report):
            return found.report
    raise ReportError("the message holds no report on TLS")
