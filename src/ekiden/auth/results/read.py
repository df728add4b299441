"""Reads the value of an Authentication-Results field (RFC 8601 §2.2).

In:   the bytes behind the colon of the field, folded or not.
Out:  the authserv-id and the results, comments left out; or ResultsError.
Laws: linear time. Reading is not trusting: anybody can write such a field.
"""

from __future__ import annotations

import re

from msgspec import Struct

RESULTS_LIMIT = 200
PROPERTIES_LIMIT = 1000  # of all results together

# RFC 5321 §4.1.2: Keyword = Ldh-str; "_" is seen in results ("perm_fail").
_KEYWORD = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_-]*[0-9A-Za-z])?")
_DIGITS = re.compile(r"[0-9]{1,9}")
_BLANK = re.compile(r"[ \t\r\n]*")
COMMENT_PART = re.compile(r"[^()\\]+|\\.|[()]", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~\x80-\U0010ffff-]+")
# A token, an address, or what is written without the quotes it should have (addresses of IPv6, base64): all as far as
# a blank, ";", a comment, a quote or a backslash.
_BARE = re.compile(r"[!#-'*-:<-\[\]-~\x80-\U0010ffff]+")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_DOMAIN_BEHIND = re.compile(r"@[0-9A-Za-z_.\x80-\U0010ffff-]+")
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\n-\x1f\x7f]")


class ResultsError(ValueError):
    """What cannot be read as Authentication-Results. The message says what and where, without what is there."""


class Property(Struct, frozen=True):
    ptype: str  # in lower case, as ``name``: "smtp", "header", "policy"; "" where a word has none
    name: str
    value: str  # without the quotes; the local part of an address keeps its own


class MethodResult(Struct, frozen=True):
    method: str  # in lower case, as ``result``
    result: str
    version: int = 1
    reason: str = ""
    properties: tuple[Property, ...] = ()

    def value(self, ptype: str, name: str) -> str | None:
        """Of the first property that is named so."""
        return next((one.value for one in self.properties if one.ptype == ptype and one.name == name), None)


class AuthenticationResults(Struct, frozen=True):
    authserv_id: str
    results: tuple[MethodResult, ...] = ()
    version: int = 1


def parse(value: bytes, *, lenient: bool = False) -> AuthenticationResults:
    """``lenient`` takes words that are no properties for what they are ("action=none"). Raises ResultsError."""
    cursor = _Cursor(value.decode("utf-8", "replace"))
    authserv_id, version = _head(cursor)
    results: list[MethodResult] = []
    properties_left = PROPERTIES_LIMIT
    while cursor.take(";"):
        cursor.blank()
        if cursor.at_end and results:
            break  # a last ";" that many write
        method = cursor.match(_KEYWORD, "the name of a method").lower()
        cursor.blank()
        if method == "none" and not results and cursor.at_end:
            return AuthenticationResults(authserv_id, (), version)
        if len(results) == RESULTS_LIMIT:
            raise ResultsError("too many results")
        results.append(_result(cursor, method, properties_left, lenient))
        properties_left -= len(results[-1].properties)
    if not cursor.at_end or not results:
        raise ResultsError(f"no result at {cursor.at}")
    return AuthenticationResults(authserv_id, tuple(results), version)


def identifier(value: bytes) -> str:
    """The authserv-id of a field whose results need not be well-formed. Raises ResultsError."""
    return _head(_Cursor(value.decode("utf-8", "replace")))[0]


def _head(cursor: _Cursor) -> tuple[str, int]:
    cursor.blank()
    authserv_id = cursor.identifier()
    cursor.blank()
    version = cursor.number() if cursor.peek().isdigit() else 1
    cursor.blank()
    if not cursor.at_end and cursor.peek() != ";":
        raise ResultsError(f"no ';' at {cursor.at}")
    return authserv_id, version


def _result(cursor: _Cursor, method: str, properties_left: int, lenient: bool) -> MethodResult:
    method_version = 1
    if cursor.take("/"):
        cursor.blank()
        method_version = cursor.number()
        cursor.blank()
    cursor.expect("=")
    cursor.blank()
    result = cursor.match(_KEYWORD, "a result").lower()
    cursor.blank()
    reason = ""
    properties: list[Property] = []
    while not cursor.at_end and cursor.peek() != ";":
        word = cursor.match(_KEYWORD, "a property").lower()
        cursor.blank()
        if cursor.take("."):
            cursor.blank()
            name = cursor.match(_KEYWORD, "the name of a property").lower()
            cursor.blank()
            cursor.expect("=")
            cursor.blank()
            properties.append(Property(word, name, cursor.value()))
        else:
            cursor.expect("=")
            cursor.blank()
            if word == "reason" and not reason and not properties:
                reason = cursor.value()
            elif lenient:
                properties.append(Property("", word, cursor.value()))
            else:
                raise ResultsError(f"a property without a type at {cursor.at}")
        if len(properties) > properties_left:
            raise ResultsError("too many properties")
        cursor.blank()
    return MethodResult(method, result, method_version, reason, tuple(properties))


class _Cursor:
    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def at_end(self) -> bool:
        return self.at == len(self.text)

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False

    def expect(self, character: str) -> None:
        if not self.take(character):
            raise ResultsError(f"no {character!r} at {self.at}")

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ResultsError(f"not {what} at {self.at}")
        self.at = found.end()
        return found[0]

    def number(self) -> int:
        return int(self.match(_DIGITS, "a version"))

    def blank(self) -> None:
        """CFWS (RFC 5322 §3.2.2): white space and comments, which nest."""
        text = self.text
        found = _BLANK.match(text, self.at)
        at = found.end() if found is not None else self.at
        while text.startswith("(", at):
            depth = 0
            while True:
                part = COMMENT_PART.match(text, at)
                if part is None:
                    raise ResultsError("a comment has no end")
                at = part.end()
                depth += {"(": 1, ")": -1}.get(part[0], 0)
                if depth == 0:
                    break
            found = _BLANK.match(text, at)
            at = found.end() if found is not None else at
        self.at = at

    def identifier(self) -> str:
        if self.peek() != '"':
            return self.match(_TOKEN, "an authserv-id")
        quoted = self._quoted()
        if not quoted:
            raise ResultsError("the authserv-id is empty")
        return quoted

    def value(self) -> str:
        if self.peek() != '"':
            return self.match(_BARE, "a value")
        start = self.at
        quoted = self._quoted()
        # RFC 5321 §4.1.2: a quoted local part, before its domain.
        domain = _DOMAIN_BEHIND.match(self.text, self.at)
        if domain is None:
            return quoted
        self.at = domain.end()
        return self._unfolded(self.text[start : self.at])

    def _quoted(self) -> str:
        found = _QUOTED.match(self.text, self.at)
        if found is None:
            raise ResultsError(f"a quoted string has no end at {self.at}")
        self.at = found.end()
        return _PAIR.sub(r"\1", self._unfolded(found[1]))

    def _unfolded(self, quoted: str) -> str:
        text = _FOLD.sub("", quoted)
        if _CONTROL.search(text) is not None:
            raise ResultsError(f"a control character before {self.at}")
        return text
