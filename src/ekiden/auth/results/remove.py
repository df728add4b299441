"""Removes Authentication-Results fields that claim to be ours (RFC 8601 §5): only we can say what we found.

In:   a header as received, fields only, and our authserv-id.
Out:  the header without the fields whose authserv-id is ours in any spelling, and without those that are not well
      formed up to their authserv-id and hold ours anywhere: some reader may take them for ours.
Laws: linear time; a field with the well-formed authserv-id of somebody else stays, byte for byte, as all others do.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ekiden.auth.results.read import COMMENT_PART, ResultsError, identifier
from ekiden.dns.name import dns_name, spellings

RESULTS_FIELDS = frozenset({b"authentication-results"})  # without_own() touches no other
_OURS_PERHAPS = re.compile(rb"\nauthentication-results[ \t]*:", re.IGNORECASE)
_FIELD_END = re.compile(rb"\n(?![ \t])")
_IGNORED = re.compile(r"[\x00-\x20\x7f-\xa0\"\\()]+")
_ENCODED_WORD = "=?"  # RFC 2047 §2; it has no place here, but may be shown decoded


def without_own(header: bytes, authserv_id: str) -> bytes:
    lines = b"\n" + header
    found = _OURS_PERHAPS.search(lines)
    if found is None:
        return header
    kept = []
    copied = 1
    while found is not None:
        end = _FIELD_END.search(lines, found.end())
        stop = end.start() + 1 if end is not None else len(lines)
        if claims(lines[found.end() : stop], authserv_id):
            kept.append(lines[copied : found.start() + 1])
            copied = stop
        found = _OURS_PERHAPS.search(lines, stop - 1)
    return b"".join((*kept, lines[copied:]))


def claims(value: bytes, authserv_id: str) -> bool:
    """The value of such a field is, or could be read as, that of ``authserv_id``."""
    try:
        written = identifier(value)
    except ResultsError:
        return _mentions(value.decode("utf-8", "replace"), authserv_id)
    return same_identifier(written, authserv_id)


def same_identifier(one: str, other: str) -> bool:
    """RFC 8601 §5: without regard to case, A-labels and U-labels being the same; a last dot says nothing."""
    one, other = one.removesuffix(".").casefold(), other.removesuffix(".").casefold()
    if one == other:
        return True
    return not (one.isascii() and other.isascii()) and (dns_name(one) or one) == (dns_name(other) or other)


def _mentions(text: str, authserv_id: str) -> bool:
    if _ENCODED_WORD in text:
        return True
    # As a reader sees it that strips comments, and as one that does not.
    for seen in (text, _without_comments(text)):
        plain = _IGNORED.sub("", seen).casefold()
        if any(spelling in plain for spelling in _spellings(authserv_id)):
            return True
    return False


def _without_comments(text: str) -> str:
    """Comments may lack their ends here."""
    depth = 0
    kept = []
    for part in COMMENT_PART.findall(text):
        if part == "(":
            depth += 1
        elif part == ")":
            depth = max(0, depth - 1)
        elif depth == 0:
            kept.append(part)
    return "".join(kept)


@lru_cache(maxsize=64)
def _spellings(authserv_id: str) -> tuple[str, ...]:
    return tuple(_IGNORED.sub("", one).casefold() for one in spellings(authserv_id.removesuffix(".")))
