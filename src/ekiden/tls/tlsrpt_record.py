"""Where a domain wants reports on TLS sent to: the TXT record of ``_smtp._tls.DOMAIN`` (RFC 8460 §3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from ekiden.dns.name import host_name
from ekiden.tls.txt_fields import RecordError, fields_of, records_of

# RFC 3986 §2.1, §3: the characters of a URI, and "%" only before two digits. A comma, "!" and ";" come encoded.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9\-._~:/?#\[\]@$&'()*+=]|%[0-9A-Fa-f]{2})+")
_MAILBOX = re.compile(r"[^\s@,;<>\x00-\x1f\x7f]{1,64}@[^\s@,;<>\x00-\x1f\x7f]{1,253}")
_PLACES_LIMIT = 10  # of one record


def record_name(domain: str) -> str:
    return f"_smtp._tls.{domain}"


def report_places(texts: Sequence[bytes]) -> tuple[str, ...]:
    """The mailto: and https: URIs that a domain's one record names; none where it has no record. Raises RecordError."""
    records = records_of("TLSRPTv1", texts)
    if len(records) != 1:
        # RFC 8460 §3: as if there were none.
        return ()
    return parse_record(records[0])


def parse_record(text: str) -> tuple[str, ...]:
    """Raises RecordError."""
    places: list[str] = []
    for name, value in fields_of("TLSRPTv1", text, ("rua",)):
        if name != "rua":
            continue
        for word in value.split(","):
            uri = word.strip(" \t")
            if _URI.fullmatch(uri) is None:
                raise RecordError(f"not a URI: {uri[:80]!r}")
            places.append(uri)
    if not places:
        raise RecordError("the record names no place for reports")
    return tuple(place for place in dict.fromkeys(places) if mailbox_of(place) or https_of(place))[:_PLACES_LIMIT]


def mailbox_of(place: str) -> str | None:
    """The address of a ``mailto:`` URI (RFC 6068 §2), one only; None for what is none."""
    scheme, _, rest = place.partition(":")
    address = unquote(rest.partition("?")[0])
    return address if scheme.lower() == "mailto" and _MAILBOX.fullmatch(address) else None


def https_of(place: str) -> tuple[str, int, str] | None:
    """Host, port and path of an ``https:`` URI; None for what is none."""
    try:
        parts = urlsplit(place)
        host, port = host_name(parts.hostname or ""), parts.port
    except ValueError:
        return None
    if parts.scheme.lower() != "https" or host is None or parts.username is not None:
        return None
    return host, 443 if port is None else port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
