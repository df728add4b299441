"""xtext: how arbitrary text travels as the value of a parameter of MAIL or RCPT (RFC 3461 §4).

Errors: decode gives None for what is no xtext.
"""

from __future__ import annotations

import re

# RFC 3461 §4   xtext = *( xchar / hexchar )      xchar = any ASCII from "!" to "~" except "+" and "="
#               hexchar = "+" and two upper case hexadecimal digits
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
_QUOTED = re.compile(rb"[^!-*,-<>-~]")


def decode_xtext(data: bytes) -> bytes | None:
    """The bytes that ``data`` stands for; None when it is no xtext."""
    if _XTEXT.fullmatch(data) is None:
        return None
    if b"+" not in data:
        return data
    return _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), data)


def encode_xtext(data: bytes) -> bytes:
    return _QUOTED.sub(lambda found: b"+%02X" % ord(found[0]), data)
