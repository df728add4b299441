"""Distinguished names and LDAP URLs, as far as a client that searches needs them (RFC 4514, RFC 4516)."""

from __future__ import annotations

from urllib.parse import unquote

from msgspec import Struct

from ekiden.protocol.ldap.messages import Scope

_SPECIAL = '\\,+"<>;='
_SCOPES = {"": Scope.BASE, "base": Scope.BASE, "one": Scope.ONE, "sub": Scope.SUB}


def quoted(value: str) -> str:
    """``value`` so that it stands for itself as the value of an attribute in a name (RFC 4514 §2.4)."""
    found = []
    last = len(value) - 1
    for index, char in enumerate(value):
        if char in _SPECIAL or (char == " " and index in (0, last)) or (char == "#" and index == 0):
            found.append("\\" + char)
        elif ord(char) < 32 or ord(char) == 127:
            found.append(f"\\{ord(char):02x}")
        else:
            found.append(char)
    return "".join(found)


class SearchUrl(Struct, frozen=True):
    """``ldap:///base?attributes?scope?filter``. The host is left out: the server that gave the URL is asked."""

    base: str
    attributes: tuple[str, ...]  # none: all
    scope: Scope
    filter: str


def parse_search_url(text: str) -> SearchUrl:
    """Raises ValueError (RFC 4516 §2)."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("ldap", "ldaps", "ldapi"):
        raise ValueError("not an LDAP URL")
    base, *fields = rest.partition("/")[2].split("?")
    if len(fields) > 4:
        raise ValueError("too many ? in an LDAP URL")
    attributes, scope, search_filter, extensions = (*fields, "", "", "", "")[:4]
    if scope.lower() not in _SCOPES:
        raise ValueError(f"{scope[:20]!r} is no scope")
    if any(extension.startswith("!") for extension in extensions.split(",")):
        raise ValueError("the LDAP URL has a critical extension")
    return SearchUrl(
        unquote(base, errors="surrogateescape"),
        tuple(unquote(name) for name in attributes.split(",") if name and name != "*"),
        _SCOPES[scope.lower()],
        unquote(search_filter, errors="surrogateescape") or "(objectClass=*)",
    )
