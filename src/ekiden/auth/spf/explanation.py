"""What a domain says of a failure, made fit for an SMTP reply (RFC 7208 §6.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ekiden.auth.spf.macros import MacroError, MacroString, parse_explanation

EXPLANATION_LIMIT_BYTES = 4096  # of the record; what is longer is no explanation

# RFC 7208 §6.2 restricts them to ASCII; a control character has no business in a reply.
_PRINTABLE = re.compile(r"[ -~]*")


def explanation_text(texts: Sequence[bytes]) -> MacroString | None:
    """The explanation of a TXT answer; None where the domain has none that counts: not one record, wrong syntax."""
    if len(texts) != 1 or len(texts[0]) > EXPLANATION_LIMIT_BYTES:
        return None
    try:
        return parse_explanation(texts[0].decode("ascii"))
    except (UnicodeDecodeError, MacroError):
        return None


def printable(words: str) -> str:
    """``words``, or "" where what a macro stands for cannot be shown."""
    return words if _PRINTABLE.fullmatch(words) is not None else ""
