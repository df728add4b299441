"""AUTH and what a client answers to its challenges (RFC 4954 §4, §8).

auth-command     = "AUTH" SP sasl-mech [SP initial-response] *(CRLF [base64]) [CRLF cancel-response]
initial-response = base64 / "="
cancel-response  = "*"
"""

from __future__ import annotations

import binascii
import re

from ekiden.message.reply import Refusal
from ekiden.protocol.smtp import server_replies as replies
from ekiden.protocol.smtp.commands import AuthResponse, AuthStart, Invalid

# RFC 4422 §3.1
#   sasl-mech    = 1*20mech-char
#   mech-char    = UPPER-ALPHA / DIGIT / HYPHEN / UNDERSCORE
_MECHANISM = re.compile(rb"[A-Za-z0-9\-_]{1,20}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


def parse_auth(arguments: bytes) -> AuthStart | Invalid:
    name, _, initial = arguments.partition(b" ")
    if _MECHANISM.fullmatch(name) is None or b" " in initial:
        return Invalid("AUTH", replies.AUTH_SYNTAX, "syntax")
    mechanism = name.decode("ascii").upper()
    if not initial:
        return AuthStart(mechanism)
    data = b"" if initial == b"=" else _decoded(initial)
    return Invalid("AUTH", replies.BAD_BASE64, "bad-base64") if data is None else AuthStart(mechanism, data)


def parse_response(line: bytes) -> AuthResponse:
    """``line`` is without its end."""
    if line == b"*":
        return AuthResponse(b"", Refusal(replies.AUTH_CANCELLED, "login-cancelled"))
    data = _decoded(line)
    if data is None:
        return AuthResponse(b"", Refusal(replies.BAD_BASE64, "bad-base64"))
    return AuthResponse(data)


def _decoded(text: bytes) -> bytes | None:
    """Of base64; None for what is none: not a character is passed over (RFC 4648 §3.3)."""
    if len(text) % 4 or _BASE64.fullmatch(text) is None:
        return None
    return binascii.a2b_base64(text)
