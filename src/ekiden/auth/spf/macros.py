"""Macros of SPF records and explanations: parsed once, expanded for each message (RFC 7208 §7).

In:   the text behind ``include:``, ``exp=`` ... or an explanation; the values of the macro letters.
Out:  MacroString; names to ask for, and texts, of bounded length.
Never: raises anything but MacroError; asks DNS (the value of ``p`` is the caller's to find out).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from msgspec import Struct

from ekiden.dns.name import NAME_OCTETS_LIMIT

# RFC 7208 §7.1
#   macro-expand  = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
#   macro-literal = %x21-24 / %x26-7E
#   transformers  = *DIGIT [ "r" ]
#   delimiter     = "." / "-" / "+" / "," / "/" / "_" / "="
# and §6.2: an explanation may have spaces too.
_PIECE = re.compile(
    r"(?P<literal>[ -$&-~]+)|%\{(?P<letter>[slodiphcrtv])(?P<keep>[0-9]*)(?P<reverse>r?)(?P<delimiters>[.\-+,/_=]*)\}"
    r"|%(?P<sign>[%_-])",
    re.IGNORECASE,
)
_SIGNS = {"%": "%", "_": " ", "-": "%20"}
_EXPLANATION_LETTERS = frozenset("crt")  # RFC 7208 §7.2: in explanations only
# RFC 7208 §7.1   toplabel = ( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum )
_LABEL = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?")
_KEEP_DIGITS = 4  # no value has more parts than this many digits can say


class MacroError(ValueError):
    """A text that breaks the grammar of macros or of domain-spec."""


class Macro(Struct, frozen=True):
    letter: str  # in lower case
    escaped: bool  # it was in upper case: what it stands for is URL-escaped
    keep: int = 0  # parts on the right that stay; 0: all
    reverse: bool = False
    delimiters: str = "."

    def of(self, value: str) -> str:
        """``value`` as this macro transforms it (RFC 7208 §7.3)."""
        if self.keep or self.reverse or self.delimiters != ".":
            first = self.delimiters[0]
            for other in self.delimiters[1:]:
                value = value.replace(other, first)
            parts = value.split(first)
            if self.reverse:
                parts.reverse()
            value = ".".join(parts[-self.keep :])  # -0: all of them
        return quote(value, safe="") if self.escaped else value


class MacroString(Struct, frozen=True):
    """``parts`` are literal texts and macros in their order. ``text`` is what was written."""

    text: str
    parts: tuple[str | Macro, ...]
    letters: frozenset[str] = frozenset()

    def name(self, values: Mapping[str, str]) -> str:
        """The name to ask for: labels on the left fall away where it is too long (RFC 7208 §7.3). No trailing dot."""
        text = ""
        # From the right, because what is further left than a name is long does not matter.
        for part in reversed(self.parts):
            text = (part if isinstance(part, str) else part.of(values[part.letter])) + text
            if len(text) > 2 * NAME_OCTETS_LIMIT:
                text = text[-2 * NAME_OCTETS_LIMIT :]
                break
        text = text.removesuffix(".")
        if len(text) > NAME_OCTETS_LIMIT:
            text = text[len(text) - NAME_OCTETS_LIMIT - 1 :].partition(".")[2]
        return text

    def words(self, values: Mapping[str, str], limit: int) -> str:
        """The text, of ``limit`` characters at most."""
        text = ""
        for part in self.parts:
            text += part if isinstance(part, str) else part.of(values[part.letter])
            if len(text) >= limit:
                return text[:limit]
        return text


def parse_domain_spec(text: str) -> MacroString:
    """RFC 7208 §7.1: a macro-string that ends in a top-level label or in a macro. Raises MacroError."""
    parsed, ends_in_macro = _parse(text)
    if " " in text:
        raise MacroError("a blank in a domain name")
    if parsed.letters & _EXPLANATION_LETTERS:
        raise MacroError("the macros c, r and t are for explanations only")
    if not ends_in_macro:
        literal = parsed.parts[-1] if parsed.parts else ""
        assert isinstance(literal, str)
        _, dot, label = literal.removesuffix(".").rpartition(".")
        if not dot or _LABEL.fullmatch(label) is None or label.isdigit():
            raise MacroError(f"not a domain name: {text[:80]!r}")
    return parsed


def parse_macro_string(text: str) -> MacroString:
    """The value of a modifier that nobody defined (RFC 7208 §6). Raises MacroError."""
    if " " in text:
        raise MacroError("a blank in a value")
    return _parse(text)[0]


def parse_explanation(text: str) -> MacroString:
    """RFC 7208 §6.2   explain-string = *( macro-string / SP ). Raises MacroError."""
    return _parse(text)[0]


def _parse(text: str) -> tuple[MacroString, bool]:
    """The string, and whether a macro-expand ends it."""
    parts: list[str | Macro] = []
    letters: set[str] = set()
    at, ends_in_macro = 0, False
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise MacroError(f"not a macro: {text[at : at + 20]!r}")
        at = piece.end()
        literal, letter, keep, reverse, delimiters, sign = piece.groups()
        ends_in_macro = literal is None
        if letter is not None:
            letters.add(letter.lower())
            parts.append(_macro(letter, keep, bool(reverse), delimiters))
            continue
        plain = literal if sign is None else _SIGNS[sign]
        # "%%" and its like stand for themselves, but a domain name may end in one: then they are a part of their own.
        if parts and isinstance(parts[-1], str):
            parts[-1] += plain
        else:
            parts.append(plain)
    return MacroString(text, tuple(parts), frozenset(letters)), ends_in_macro


def _macro(letter: str, digits: str, reverse: bool, delimiters: str) -> Macro:
    keep = digits.lstrip("0")
    if digits and not keep:
        raise MacroError("a macro that keeps no part")  # RFC 7208 §7.1: "the value MUST be nonzero"
    number = int(keep) if keep and len(keep) <= _KEEP_DIGITS else 0
    return Macro(letter.lower(), letter.isupper(), number, reverse, delimiters or ".")
