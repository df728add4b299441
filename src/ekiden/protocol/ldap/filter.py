"""Search filters (RFC 4515) in the encoding of RFC 4511 §4.5.1.7, and the quoting of what is put into them.

    filter     = "(" ( "&" *filter / "|" *filter / "!" filter / item ) ")"
    item       = attr ("=" / "~=" / ">=" / "<=") value / attr "=*" / attr "=" [value] "*" *(value "*") [value]
               / [attr] [":dn"] [":" rule] ":=" value
    value      = any character but NUL ( ) * and backslash, or a backslash and two hexadecimal digits

As OpenLDAP's library does, an item may stand there without parentheses, and blanks between filters count for nothing.
"""

from __future__ import annotations

import re

from ekiden.protocol.ldap import ber

_AND, _OR, _NOT, _EQUAL, _PARTS, _GREATER, _LESS, _PRESENT, _LIKE, _RULE = (
    0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0x87, 0xA8, 0xA9,
)  # fmt: skip
DEPTH_LIMIT = 50

# RFC 4512 §2.5: a name or numbers with dots, and options.
_ATTRIBUTE = r"(?:[A-Za-z][A-Za-z0-9_-]*|[0-9]+(?:\.[0-9]+)*)(?:;[A-Za-z0-9-]+)*"
_ITEM = re.compile(rf"({_ATTRIBUTE})\s*(=|~=|>=|<=)([^()]*)")
_RULE_ITEM = re.compile(r"([A-Za-z0-9;._-]*)(:dn)?(?::([A-Za-z0-9._-]+))?:=([^()]*)")
_ESCAPE = re.compile(rb"\\(..)?", re.DOTALL)
_UNSAFE = re.compile(r"[\x00()*\\]")


def quoted(value: str) -> str:
    """``value`` so that it stands for itself in a filter (RFC 4515 §3)."""
    return _UNSAFE.sub(lambda found: f"\\{ord(found[0]):02x}", value)


def encode(text: str) -> bytes:
    """Raises ValueError for what is no filter."""
    parser = _Parser(text.strip())
    found = parser.filter(0) if text.lstrip().startswith("(") else parser.item()
    if parser.at != len(parser.text):
        raise ValueError(f"there is something behind the filter: {parser.text[parser.at :][:40]!r}")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def filter(self, depth: int) -> bytes:
        if depth > DEPTH_LIMIT:
            raise ValueError(f"the parentheses are more than {DEPTH_LIMIT} deep")
        self._take("(")
        self._skip()
        kind = self.text[self.at : self.at + 1]
        if kind in ("&", "|"):
            self.at += 1
            self._skip()
            parts: list[bytes] = []
            while self.text[self.at : self.at + 1] == "(":
                parts.append(self.filter(depth + 1))
                self._skip()
            found = ber.sequence(*parts, tag=_AND if kind == "&" else _OR)
        elif kind == "!":
            self.at += 1
            self._skip()
            found = ber.element(_NOT, self.filter(depth + 1))
            self._skip()
        else:
            found = self.item()
        self._take(")")
        return found

    def item(self) -> bytes:
        matched = _ITEM.match(self.text, self.at)
        if matched is not None:
            self.at = matched.end()
            return _simple(matched[1], matched[2], matched[3])
        matched = _RULE_ITEM.match(self.text, self.at)
        if matched is None or not (matched[1] or matched[3]):
            raise ValueError(f"no attribute=value at {self.text[self.at :][:40]!r}")
        self.at = matched.end()
        return _by_rule(matched[1], bool(matched[2]), matched[3] or "", matched[4])

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
            self.at += 1

    def _take(self, char: str) -> None:
        if self.text[self.at : self.at + 1] != char:
            raise ValueError(f"{char!r} is missing at {self.text[self.at :][:40]!r}")
        self.at += 1


def _simple(attribute: str, operator: str, value: str) -> bytes:
    if operator == "=" and value == "*":
        return ber.text(attribute, _PRESENT)
    if operator == "=" and "*" in value:
        return _substrings(attribute, value.split("*"))
    tag = {"=": _EQUAL, "~=": _LIKE, ">=": _GREATER, "<=": _LESS}[operator]
    return ber.sequence(ber.text(attribute), ber.element(ber.OCTET_STRING, _value(value)), tag=tag)


def _substrings(attribute: str, pieces: list[str]) -> bytes:
    parts: list[bytes] = []
    last = len(pieces) - 1
    for index, piece in enumerate(pieces):
        if piece:
            parts.append(ber.element(0x80 if index == 0 else 0x82 if index == last else 0x81, _value(piece)))
    if not parts:
        return ber.text(attribute, _PRESENT)
    return ber.sequence(ber.text(attribute), ber.sequence(*parts), tag=_PARTS)


def _by_rule(attribute: str, of_name: bool, rule: str, value: str) -> bytes:
    parts = [ber.text(rule, 0x81)] if rule else []
    parts += [ber.text(attribute, 0x82)] if attribute else []
    parts.append(ber.element(0x83, _value(value)))
    parts += [ber.element(0x84, b"\xff")] if of_name else []
    return ber.sequence(*parts, tag=_RULE)


def _value(text: str) -> bytes:
    if "\0" in text or "*" in text:
        raise ValueError("NUL and * must be written \\00 and \\2a here")

    def escaped(found: re.Match[bytes]) -> bytes:
        digits = found[1]
        if digits is None or re.fullmatch(rb"[0-9A-Fa-f]{2}", digits) is None:
            raise ValueError("a backslash must be followed by two hexadecimal digits")
        return bytes([int(digits, 16)])

    return _ESCAPE.sub(escaped, text.encode("utf-8", "surrogateescape"))
