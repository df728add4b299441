"""A quick look that tells whether cleanup can let a header pass as it stands: most headers need nothing."""

from __future__ import annotations

import re
from collections.abc import Collection

from ekiden.message.header_fields import ADDRESS_FIELDS

# One address that is complete: "name <local@domain>", "local@domain". Whatever looks otherwise is read with care.
# After each part comes a byte that the part cannot hold, so a text is read in one way only.
_NAME = rb'(?:"[^"\\\r\n]*"[ \t]*|[^\r\n<>"(),:;@\\\[]*)<'
_LOCAL = rb"[!#$&'*+\-/=?^_`{|}~0-9A-Za-z]+(?:\.[!#$&'*+\-/=?^_`{|}~0-9A-Za-z]+)*"
_LABELS = rb"[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)"


def drop_pattern(names: Collection[bytes]) -> re.Pattern[bytes] | None:
    """Finds one of the fields ``names`` in a header that a line end was put before."""
    if not names:
        return None
    return re.compile(rb"\n(?:" + b"|".join(map(re.escape, sorted(names))) + rb")[ \t]*:", re.IGNORECASE)


class PlainHeader:
    """``passes`` is true only for a header with From, Date and Message-ID, none of ``dropped``, and whole addresses.

    ``dots``: a domain must have a dot. ``destination``: there must be To: or Cc: too.
    """

    __slots__ = ("_destination", "_pattern")

    def __init__(self, dropped: Collection[bytes], *, dots: bool, destination: bool) -> None:
        mailbox = rb"(?:" + _NAME + rb")?" + _LOCAL + rb"@" + _LABELS + (rb"+" if dots else rb"*") + rb">?"
        value = rb"[ \t]*" + mailbox + rb"(?:,[ \t]*(?:\r\n[ \t]+)?" + mailbox + rb")*[ \t]*\r\n(?![ \t])"
        others = ADDRESS_FIELDS - {b"from", b"to", b"cc"} - set(dropped)
        careful = b"|".join(sorted({*map(re.escape, dropped), rb"resent-[!-9;-~]+"}))
        self._pattern = re.compile(
            rb"\n(?:(?P<date>date)|(?P<id>message-id)|(?P<care>" + careful + rb")"
            rb"|(?:(?P<from>from)|(?P<to>to|cc)|" + b"|".join(sorted(others)) + rb")"
            rb"(?=[ \t]*:(?:(?P<value>" + value + rb")|)))[ \t]*:",
            re.IGNORECASE,
        )
        self._destination = destination

    def passes(self, header: bytes) -> bool:
        seen = 0
        for found in self._pattern.finditer(b"\n" + header):
            kind = found.lastgroup
            if kind == "date":
                seen |= 1
            elif kind == "id":
                seen |= 2
            elif kind == "value":
                if found["from"] is not None:
                    seen |= 4
                elif found["to"] is not None:
                    seen |= 8
            else:
                return False
        return seen & 7 == 7 and (not self._destination or seen & 8 == 8)
