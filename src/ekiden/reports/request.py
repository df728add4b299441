"""Who asks for reports, and what is a report itself: both are looked at for every message, so both are quick.

In:   the DMARC record of a domain; the header of a message.
Out:  what the record asks for; whether a message looks like a report.
Never: raises; takes more than linear time.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ekiden.auth.dmarc.record import DmarcRecord, parse_record

_CACHED_RECORDS = 4096
_HEADER_LIMIT_BYTES = 16 * 1024
# RFC 9990 §3.5.2: the subject of an aggregate report; RFC 8460 §5.3 has the same. RFC 5965 §2: the type of others.
_REPORT = re.compile(
    rb"^(?:subject[ \t]*:\s*(?:\[[^\]\r\n]{0,80}\]\s*)?report\s+domain\s*:"
    rb"|content-type[ \t]*:\s*multipart/report\b)",
    re.MULTILINE,
)


@lru_cache(maxsize=_CACHED_RECORDS)
def parsed(record: str) -> DmarcRecord | None:
    """The record of a verdict; domains have one for many messages."""
    return parse_record(record.encode("latin-1", "replace"))


def looks_like_report(header: bytes) -> bool:
    """Whether a message is a report on mail or a notification, by its subject or type."""
    begin = header[:_HEADER_LIMIT_BYTES].lower()
    # Nearly no message comes further than here.
    return b"report" in begin and _REPORT.search(begin) is not None
