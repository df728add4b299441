"""The canonical body by the letter of RFC 6376 §3.4, line by line: what the fast one is compared with."""

from __future__ import annotations

import re


def canonical_body(body: bytes, canonicalization: str) -> bytes:
    lines = body.split(b"\r\n")
    if canonicalization == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    text = b"".join(line + b"\r\n" for line in lines)
    return text or (b"\r\n" if canonicalization == "simple" else b"")
