"""Whether a mail with a report comes from who it says (RFC 9990 §3.5.2: such mail must pass DMARC itself).

In:   the message as our server took it, with its Authentication-Results at the top.
Out:  what our server found; nothing where it did not look.
Never: believes a field of another server: those that claim our name are removed from mail of strangers.
"""

from __future__ import annotations

from ekiden.auth.results.read import ResultsError, parse
from ekiden.auth.results.remove import claims
from ekiden.message.header_fields import fields

_HEADER_LIMIT_BYTES = 64 * 1024


def dmarc_proof(content: bytes, authserv_id: str) -> bool | None:
    """Whether DMARC passed, by the first of our fields; None where that says nothing of DMARC or is not there."""
    header = content[:_HEADER_LIMIT_BYTES].partition(b"\r\n\r\n")[0] + b"\r\n"
    for field in fields(header):
        if field.name != b"authentication-results":
            continue
        value = header[field.value : field.end]
        if not claims(value, authserv_id):
            continue
        try:
            results = parse(value).results
        except ResultsError:
            return None
        return next((each.result == "pass" for each in results if each.method == "dmarc"), None)
    return None
