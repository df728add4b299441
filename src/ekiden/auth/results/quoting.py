"""How a value stands in Authentication-Results, so that nothing a sender wrote ends it, or its line, early.

RFC 8601 §2.2   value  = token / quoted-string
                pvalue = [CFWS] ( value / [ [ local-part ] "@" ] domain-name ) [CFWS]
RFC 2045 §5.1   token: printable ASCII but SPACE and ()<>@,;:\\"/[]?=
RFC 5322 §3.2.4 quoted-string; RFC 6532 §3.2 lets UTF-8 stand in one, in a message that needs SMTPUTF8 anyway.
"""

from __future__ import annotations

import re
from functools import lru_cache

VALUE_LIMIT = 400  # octets; an address has at most 320 (RFC 5321 §4.5.3.1), a line 998 (RFC 5322 §2.1.1)
REASON_LIMIT = 200  # characters

_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")
_ADDRESS = re.compile(r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~.-]*@[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_])?")
_UNPRINTABLE = re.compile(r"[^ -~]")
# Controls of ASCII and of Latin-1, separators of lines and paragraphs, halves of surrogate pairs; and the marks that
# turn the direction of text, so that a line would be read as it was not written.
_UNPRINTABLE_UTF8 = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
_NOT_FOR_COMMENTS = re.compile(r"[^ !#-'*-\[\]-~]")
_ESCAPED = re.compile(r'(["\\])')


@lru_cache(1024)  # most values come again and again
def value_text(value: str, *, utf8: bool = False) -> str | None:
    """``value`` as a token, an address or a quoted string; None where it cannot stand there as it is.

    That is: an empty one, controls, more than VALUE_LIMIT octets, and what is not ASCII unless ``utf8``. A value that
    was made to fit would be another value, such as the name of another account.
    """
    if not value or len(value) > VALUE_LIMIT:
        return None
    if _TOKEN.fullmatch(value) is not None or _ADDRESS.fullmatch(value) is not None:
        return value
    if (_UNPRINTABLE_UTF8 if utf8 else _UNPRINTABLE).search(value) is not None:
        return None
    return quoted_string(value) if value.isascii() or len(value.encode()) <= VALUE_LIMIT else None


def reason_text(reason: str, *, utf8: bool = False) -> str:
    """For people: what cannot stand there becomes "?", and a long one is cut."""
    printable = (_UNPRINTABLE_UTF8 if utf8 else _UNPRINTABLE).sub("?", reason[:REASON_LIMIT])
    return printable if _TOKEN.fullmatch(printable) is not None else quoted_string(printable)


def quoted_string(printable: str) -> str:
    return '"' + _ESCAPED.sub(r"\\\1", printable) + '"'


def comment_text(words: str) -> str:
    """A comment (RFC 5322 §3.2.2) of printable ASCII; what would end it or nest in it becomes "?"."""
    return "(" + _NOT_FOR_COMMENTS.sub("?", words[:REASON_LIMIT]) + ")"
