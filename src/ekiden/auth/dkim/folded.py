"""The text of a field that holds tags, folded where white space does not count (RFC 6376 §3.2, RFC 5322 §2.1.1).

What must not be parted, a domain say, may make a line longer than is usual; no line is longer than one such word.
"""

from __future__ import annotations

from collections.abc import Iterable

_LINE = 78
_FOLD = "\r\n\t"
_FOLDED_LINE = _LINE - 8  # as far as most programs show a tab to go


class FoldedTags:
    """``FoldedTags("DKIM-Signature: v=1;")``, then tags in their order, each with its semicolon."""

    __slots__ = ("_room", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._room = _LINE - len(text)

    def copy(self) -> FoldedTags:
        """To go on from here in more than one way."""
        made = FoldedTags(self._text)
        made._room = self._room
        return made

    def octets(self) -> bytes:
        """All of it so far, without a line end."""
        return self._text.encode("ascii")

    def add(self, text: str) -> None:
        """A tag that is not parted."""
        if len(text) + 1 > self._room:
            self.begin_line(text)
        else:
            self._put(" " + text)

    def begin_line(self, text: str) -> None:
        self._text += _FOLD
        self._room = _FOLDED_LINE
        self._put(text)

    def add_names(self, start: str, names: Iterable[str]) -> None:
        """h=, whose colons may have white space around them (RFC 6376 §3.5); at least one name."""
        first, *others = names
        self.add(start + first)
        for name in others:
            # A colon or a semicolon follows the name.
            if len(name) + 2 > self._room:
                self._put(":")
                self.begin_line(name)
            else:
                self._put(":" + name)
        self._put(";")

    def add_base64(self, text: str) -> None:
        """More of the value of the tag before, within which white space does not count (RFC 6376 §2.10)."""
        at = max(0, self._room)
        self._put(text[:at])
        for start in range(at, len(text), _FOLDED_LINE):
            self.begin_line(text[start : start + _FOLDED_LINE])

    def _put(self, text: str) -> None:
        self._text += text
        self._room -= len(text)
