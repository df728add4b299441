"""The Received-SPF field (RFC 7208 §9.1).

In:   a verdict and what was checked.
Out:  the field with its CRLF, folded; ASCII.
Never: lets what a sender or a domain wrote end a quoted string, a comment or a line.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ekiden.auth.verdict import Result, SpfVerdict

_VALUE_CHARACTERS = 250  # of a value: the line stays below the 998 octets of RFC 5322 §2.1.1, escapes and all
_COMMENT_CHARACTERS = 400
# RFC 5322 §3.2.3   dot-atom = atext, and dots between
_DOT_ATOM = re.compile(r"[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]+(?:\.[!#$%&'*+\-/=?^_`{|}~0-9A-Za-z]+)*")
_UNPRINTABLE = re.compile(r"[^ -~]")
_SPECIAL_IN_STRING = re.compile(r'["\\]')
_SPECIAL_IN_COMMENT = re.compile(r"[()\\]")
# RFC 7208 §9.1: no name for what is not among its results.
_RESULTS = frozenset(
    (Result.PASS, Result.FAIL, Result.SOFTFAIL, Result.NEUTRAL, Result.NONE, Result.TEMPERROR, Result.PERMERROR)
)


def received_spf(
    verdict: SpfVerdict, *, client_address: str, helo: str, receiver: str, envelope_from: str = ""
) -> bytes:
    """``envelope_from`` is the reverse-path without brackets, "" for the null sender."""
    assert verdict.result in _RESULTS
    field = (
        f"Received-SPF: {verdict.result} ({_comment(receiver, verdict.reason[:_COMMENT_CHARACTERS])})\r\n"
        f"\treceiver={_value(receiver)};\r\n"
        f"\tidentity={_value(verdict.identity)};\r\n"
        f"\tclient-ip={_value(client_address)};\r\n"
        f"\thelo={_value(helo)};\r\n"
        f"\tenvelope-from={_value(envelope_from or verdict.sender)}"
    )
    if verdict.result is Result.NEUTRAL or verdict.mechanism:
        # RFC 7208 §9.1: "default" where no mechanism matched
        field += f";\r\n\tmechanism={_value(verdict.mechanism or 'default')}"
    if verdict.result in (Result.TEMPERROR, Result.PERMERROR):
        field += f";\r\n\tproblem={_value(verdict.reason)}"
    return f"{field}\r\n".encode("ascii")


@lru_cache(1024)  # most values come again and again
def _value(text: str) -> str:
    """RFC 7208 §9.1   value = dot-atom / quoted-string"""
    text = _printable(text, _VALUE_CHARACTERS)
    if _DOT_ATOM.fullmatch(text) is not None:
        return text
    return '"' + _SPECIAL_IN_STRING.sub(r"\\\g<0>", text) + '"'


@lru_cache(1024)
def _comment(receiver: str, reason: str) -> str:
    return _SPECIAL_IN_COMMENT.sub(r"\\\g<0>", _printable(f"{receiver}: {reason}", _COMMENT_CHARACTERS))


def _printable(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return _UNPRINTABLE.sub("?", text)
