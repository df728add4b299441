"""SPF records: which text is one, and its terms as values (RFC 7208 §3, §4.5, §4.6.1, §5, §6, §12).

In:   the TXT records of a name.
Out:  the record's octets; Record with its mechanisms in their order and its modifiers.
Never: raises anything but RecordError, whatever a domain publishes; work is linear in the record.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from ekiden.auth.spf.macros import MacroError, MacroString, parse_domain_spec, parse_macro_string
from ekiden.auth.verdict import Result

RECORD_LIMIT_BYTES = 16 * 1024
CACHED_RECORD_BYTES = 1024  # with the number of records it bounds the memory of the cache
_CACHED_RECORDS = 512

# RFC 7208 §12   modifier  = redirect / explanation / unknown-modifier
#                name      = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
# RFC 7208 §12   directive = [ qualifier ] mechanism
_DIRECTIVE = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9]*)(?:([:/].*))?", re.DOTALL)
# RFC 7208 §12   dual-cidr-length = [ ip4-cidr-length ] [ "/" ip6-cidr-length ], each "/" and a number without
#                leading zeros. A domain-spec before it may have slashes of its own, but cannot end in one of these.
_PREFIXES = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_QUALIFIERS = {"": Result.PASS, "+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
BITS = {4: 32, 6: 128}


class RecordError(ValueError):
    """A record that breaks the grammar: "permerror" (RFC 7208 §4.6)."""


class All(Struct, frozen=True):
    """RFC 7208 §5.1. ``text`` is the term as written, ``result`` what its qualifier says; so for all mechanisms."""

    text: str
    result: Result


class Include(Struct, frozen=True):
    """RFC 7208 §5.2."""

    text: str
    result: Result
    domain: MacroString


class Hosts(Struct, frozen=True):
    """``a`` and ``mx`` (RFC 7208 §5.3, §5.4). Without ``domain`` it is the one whose record this is."""

    text: str
    result: Result
    domain: MacroString | None
    of_mx: bool
    prefix4: int
    prefix6: int


class Ptr(Struct, frozen=True):
    """RFC 7208 §5.5."""

    text: str
    result: Result
    domain: MacroString | None


class Network(Struct, frozen=True):
    """``ip4`` and ``ip6`` (RFC 7208 §5.6): the client's address has the same bits above the lowest ``shift``."""

    text: str
    result: Result
    family: int  # 4 or 6
    bits: int
    shift: int


class Exists(Struct, frozen=True):
    """RFC 7208 §5.7."""

    text: str
    result: Result
    domain: MacroString


Mechanism = Network | Include | Hosts | All | Ptr | Exists


class Record(Struct, frozen=True):
    text: str
    mechanisms: tuple[Mechanism, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None  # exp=


def record_of(texts: Sequence[bytes]) -> bytes | None:
    """The one SPF record among a name's TXT records (RFC 7208 §4.5). Raises RecordError where there are several."""
    found = [text for text in texts if text[:6].lower() == b"v=spf1" and text[6:7] in (b"", b" ")]
    if len(found) > 1:
        raise RecordError("there is more than one SPF record")
    return found[0] if found else None


def parse_record(octets: bytes) -> Record:
    """``octets`` begin with ``v=spf1``. Errors count anywhere, behind "all" too (RFC 7208 §4.6). Raises RecordError."""
    if len(octets) <= CACHED_RECORD_BYTES:
        return _parse_cached(octets)
    if len(octets) > RECORD_LIMIT_BYTES:
        raise RecordError("the record is too long")
    return _parse(octets)


def _parse(octets: bytes) -> Record:
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise RecordError("the record has characters beyond ASCII") from None
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, MacroString] = {}
    for term in text[6:].split(" "):
        if not term:
            continue
        try:
            modifier = _MODIFIER.fullmatch(term)
            if modifier is None:
                mechanisms.append(_mechanism(term))
                continue
            name = modifier[1].lower()
            if name not in ("redirect", "exp"):
                parse_macro_string(modifier[2])
            elif name in modifiers:
                raise RecordError(f"{name}= comes twice")
            else:
                modifiers[name] = parse_domain_spec(modifier[2])
        except MacroError as error:
            raise RecordError(f"{term[:80]!r}: {error}") from None
    return Record(text, tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


_parse_cached = lru_cache(maxsize=_CACHED_RECORDS)(_parse)


def _mechanism(term: str) -> Mechanism:
    directive = _DIRECTIVE.fullmatch(term)
    if directive is None:
        raise RecordError(f"not a term: {term[:80]!r}")
    result, name, rest = _QUALIFIERS[directive[1]], directive[2].lower(), directive[3] or ""
    match name:
        case "ip4" | "ip6":
            return _network(term, result, 4 if name == "ip4" else 6, rest)
        case "include" | "exists":
            if not rest.startswith(":"):
                raise RecordError(f"{term[:80]!r} names no domain")
            domain = parse_domain_spec(rest[1:])
            return Include(term, result, domain) if name == "include" else Exists(term, result, domain)
        case "a" | "mx":
            return _hosts(term, result, name == "mx", rest)
        case "all":
            if rest:
                raise RecordError(f'{term[:80]!r}: nothing may follow "all"')
            return All(term, result)
        case "ptr":
            if rest.startswith("/"):
                raise RecordError(f"{term[:80]!r}: ptr takes no prefix length")
            return Ptr(term, result, parse_domain_spec(rest[1:]) if rest else None)
    raise RecordError(f"unknown mechanism: {term[:80]!r}")


def _hosts(term: str, result: Result, of_mx: bool, rest: str) -> Hosts:
    prefixes = _PREFIXES.search(rest)
    assert prefixes is not None  # it matches "" at the end
    name = rest[: prefixes.start()]
    prefix4, prefix6 = int(prefixes[1] or BITS[4]), int(prefixes[2] or BITS[6])
    if prefix4 > BITS[4] or prefix6 > BITS[6] or (name and not name.startswith(":")):
        raise RecordError(f"{term[:80]!r}: not a prefix length")
    return Hosts(term, result, parse_domain_spec(name[1:]) if name else None, of_mx, prefix4, prefix6)


def _network(term: str, result: Result, family: int, rest: str) -> Network:
    address, slash, prefix = rest[1:].partition("/")
    octets = packed(family, address) if rest.startswith(":") else None
    if octets is None:
        raise RecordError(f"{term[:80]!r}: not an IPv{family} address")
    length = BITS[family]
    if slash:
        if _PREFIX.fullmatch(prefix) is None or int(prefix) > length:
            raise RecordError(f"{term[:80]!r}: not a prefix length")
        length = int(prefix)
    shift = BITS[family] - length
    return Network(term, result, family, int.from_bytes(octets, "big") >> shift, shift)


def packed(family: int, address: str) -> bytes | None:
    """The octets of an address of that family; None for what is none."""
    try:
        return socket.inet_pton(_FAMILIES[family], address)
    except (OSError, ValueError):
        return None
