"""What strangers wrote, in the header of mail that we write."""

from __future__ import annotations

import re

_LIMIT_CHARACTERS = 700  # of one line with its name (RFC 5322 §2.1.1)
_UNSAFE = re.compile(r"[^ -~]")


def header_text(text: str, limit: int = _LIMIT_CHARACTERS) -> str:
    """Printable ASCII on one line, "?" for all else."""
    return _UNSAFE.sub("?", text[:limit])
