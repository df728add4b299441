"""message_strip_characters and message_reject_characters: their notation, and what they do to content."""

from __future__ import annotations

import re

# The escapes of C; three octal digits at most.
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_NAMED = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11, b"\\": 92}


def characters(text: str) -> bytes:
    r"""The set that ``text`` writes, such as ``\0\033``. Raises ValueError for an escape that there is not."""

    def one(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        if code.isdigit():
            value = int(code, 8)
            if value > 255:
                raise ValueError(f"there is no character {escape[0].decode('ascii')}")
            return bytes([value])
        if code not in _NAMED:
            raise ValueError(f"there is no escape {escape[0].decode('ascii', 'replace')}")
        return bytes([_NAMED[code]])

    return _ESCAPE.sub(one, text.encode("utf-8", "surrogateescape"))


class CharacterRules:
    """What happens to the bytes of content. Nothing is stripped of what ends a line."""

    __slots__ = ("_rejected", "_stripped")

    def __init__(self, stripped: bytes, rejected: bytes) -> None:
        self._stripped = bytes(set(stripped) - set(b"\r\n"))
        self._rejected = re.compile(b"[" + re.escape(rejected) + b"]") if rejected else None

    def rejects(self, data: bytes) -> bool:
        return self._rejected is not None and self._rejected.search(data) is not None

    def strip(self, data: bytes) -> bytes:
        return data.translate(None, self._stripped) if self._stripped else data
