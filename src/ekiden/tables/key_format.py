"""Formats with ``%s`` and its like, for queries and results of tables that ask a server.

mysql_table(5), ldap_table(5) and memcache_table(5) describe them in the same words: %s %u %d are the key, its local
part, its domain; %1 ... %9 the labels of the key's domain from the right; in a format of results %s %u %d are those of
the result, and %S %U %D those of the key. What a format asks for and a key lacks means that there is no result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from ekiden.config.errors import ConfigError
from ekiden.tables.match import DomainList
from ekiden.tables.table import Opening, TableTrouble

_CODES = "sudSUD123456789"


class KeyParts(Struct, frozen=True):
    """A key as the formats see it. An address is split at its last ``@``."""

    whole: str
    user: str | None  # None: it is empty
    domain: str | None  # None: there is none, or it is empty
    labels: tuple[str, ...] = ()  # of the domain, from the right

    @classmethod
    def of(cls, key: str) -> KeyParts:
        local, at, domain = key.rpartition("@")
        if not at:
            return cls(key, key or None, None)
        return cls(key, local or None, domain or None, tuple(reversed(domain.split("."))) if domain else ())


class Format:
    """One format. Raises ConfigError for a ``%`` with something behind it that has no meaning."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces = _pieces(text)
        codes = {code for literal, code in self.pieces if code}
        self.expands = bool(codes)
        self._labels = max((int(code) for code in codes if code.isdigit()), default=0)
        self._needs_domain = "D" in codes
        self._needs_user = "U" in codes
        self._codes = codes

    def has_all_of(self, key: KeyParts) -> bool:
        """Whether a key has what a format of results takes from it."""
        return not (
            len(key.labels) < self._labels
            or (self._needs_domain and key.domain is None)
            or (self._needs_user and key.user is None)
            or ("S" in self._codes and not key.whole)
        )

    def of_key(self, key: KeyParts, quote: Callable[[str], str] = str) -> str | None:
        """A query for ``key``, each part of which is passed through ``quote``; None when it lacks something."""
        return self._expand(key, key, quote)

    def of_result(self, value: str, key: KeyParts) -> str | None:
        """A result; None when it is empty or lacks something."""
        if self.text == "%s":
            return value or None
        return self._expand(KeyParts.of(value), key, str)

    def _expand(self, low: KeyParts, key: KeyParts, quote: Callable[[str], str]) -> str | None:
        found: list[str] = []
        for literal, code in self.pieces:
            found.append(literal)
            if not code:
                continue
            part = _part(low if code.islower() else key, code)
            if not part:
                return None
            found.append(quote(part))
        return "".join(found)


def _part(parts: KeyParts, code: str) -> str | None:
    if code.isdigit():
        return parts.labels[int(code) - 1] if int(code) <= len(parts.labels) else None
    if code in "sS":
        return parts.whole
    return parts.user if code in "uU" else parts.domain


def _pieces(text: str) -> tuple[tuple[str, str], ...]:
    """Literal text, each with the code of the expansion that follows it ("" for none). Raises ConfigError."""
    pieces: list[tuple[str, str]] = []
    literal: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char != "%":
            literal.append(char)
            at += 1
            continue
        code = text[at + 1 : at + 2]
        if code == "%":
            literal.append("%")
        elif code and code in _CODES:
            pieces.append(("".join(literal), code))
            literal = []
        else:
            raise ConfigError(f"%{code} has no meaning: the expansions are %s %u %d %S %U %D %1 ... %9, and %% is a %")
        at += 2
    if literal:
        pieces.append(("".join(literal), ""))
    return tuple(pieces)


def joined(name: str, values: Sequence[str | None], form: Format, key: KeyParts, limit: int) -> str | None:
    """Results as one value, separated by commas; None when there are none. Raises TableTrouble above ``limit``."""
    found = [result for value in values if value and (result := form.of_result(value, key)) is not None]
    if limit and len(found) > limit:
        raise TableTrouble(f"{name}: more than expansion_limit = {limit} results for {key.whole!r}")
    return ",".join(found) or None


class KeyDomains:
    """The ``domain`` parameter: only addresses in these domains are looked up. Raises ConfigError."""

    def __init__(self, words: Sequence[str], opening: Opening) -> None:
        self._domains = DomainList(words, opener=opening.open) if words else None

    async def include(self, key: KeyParts) -> bool:
        """Raises TableTrouble."""
        if self._domains is None:
            return True
        return key.user is not None and key.domain is not None and await self._domains.matches(key.domain)


def can_be_asked(key: str) -> bool:
    """Whether a server can have the key at all: text with a NUL, or that is no UTF-8, is nowhere stored as such."""
    if "\0" in key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
