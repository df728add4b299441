"""The header as signatures see it: fields picked by name from the bottom up, and their canonical forms (RFC 6376 §3.4).

In:   a header block, fields with CRLF, without the empty line; the names that h= lists.
Out:  the bytes that a signature of DKIM or ARC covers.
Never: raises for a hostile header; covers a field twice for one signature, so work is linear in the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ekiden.message.header_fields import Field, fields

SIMPLE = "simple"
RELAXED = "relaxed"

_FOLD = re.compile(rb"\r\n(?=[ \t])")  # RFC 5322 §2.2.3
_BLANKS = re.compile(rb"[ \t]+")
_NOT_WSP = b"\r\n\x0b\x0c"  # bytes.split() divides at these, RFC 6376 does not: its white space is blank and tab
_FWS = b" \t\r\n"


class SignableHeader:
    """Fields are taken for as many signatures as there are; each is made canonical once."""

    __slots__ = ("_by_name", "_relaxed", "fields", "octets")

    def __init__(self, header: bytes) -> None:
        self.octets = header
        self.fields: tuple[Field, ...] = tuple(fields(header))
        self._by_name: dict[bytes, list[Field]] = {}
        for field in self.fields:
            self._by_name.setdefault(field.name, []).append(field)
        self._relaxed: dict[int, bytes] = {}

    def named(self, name: bytes) -> list[Field]:
        """The fields of this name (lower case), from the top down."""
        return self._by_name.get(name, [])

    def raw(self, field: Field) -> bytes:
        return self.octets[field.start : field.end]

    def value(self, field: Field) -> bytes:
        """What is behind the colon, folded as it is, with the line end."""
        return self.octets[field.value : field.end]

    def pick(self, names: Iterable[str], *, but: Field | None = None) -> list[Field]:
        """The fields that h= names, in its order: each name takes the lowest field that is not taken yet.

        A name that has no field left stands for nothing (RFC 6376 §5.4.2). ``but`` is the signature that is being
        verified: it was not there when it was made, and never signs itself.
        """
        left: dict[bytes, list[Field]] = {}
        picked: list[Field] = []
        for key in _keys(tuple(names)):
            stack = left.get(key)
            if stack is None:
                found = self._by_name.get(key)
                if found is None:  # as most names that are signed so that nobody adds a field
                    continue
                stack = left[key] = [field for field in found if field is not but]
            if stack:
                picked.append(stack.pop())
        return picked

    def canonical(self, field: Field, canonicalization: str) -> bytes:
        """One field with its CRLF."""
        if canonicalization == SIMPLE:
            return simple_field(self.raw(field))
        known = self._relaxed.get(field.start)
        if known is None:
            known = self._relaxed[field.start] = relaxed_field(self.raw(field))
        return known

    def signed(self, names: Iterable[str], canonicalization: str, *, but: Field | None = None) -> bytes:
        """The fields that h= names in canonical form; the signature field itself comes behind them (own_input)."""
        return b"".join([self.canonical(field, canonicalization) for field in self.pick(names, but=but)])


@lru_cache(512)  # a domain signs the same names in all of its mail
def _keys(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """As fields are known by them."""
    return tuple([name.encode().lower() for name in names])


def simple_field(raw: bytes) -> bytes:
    """RFC 6376 §3.4.1: as it is."""
    return raw if raw.endswith(b"\r\n") else raw.removesuffix(b"\n") + b"\r\n"


def relaxed_field(raw: bytes) -> bytes:
    """RFC 6376 §3.4.2: name in lower case, unfolded, one blank for each run of white space, none around the value."""
    name, _, value = (raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")).partition(b":")
    if b"\r\n" in value:
        value = _FOLD.sub(b"", value)
    if len(value.translate(None, _NOT_WSP)) == len(value):
        value = b" ".join(value.split())
    else:
        value = _BLANKS.sub(b" ", value).strip(b" ")
    return name.rstrip(b" \t").lower() + b":" + value + b"\r\n"


def own_input(raw: bytes, canonicalization: str) -> bytes:
    """A signature field as it covers itself: the value of b= deleted, no CRLF at its end (RFC 6376 §3.7)."""
    field_name, colon, value = raw.partition(b":")
    specs = value.split(b";")
    for at, spec in enumerate(specs):
        name, equals, _ = spec.partition(b"=")
        if name.strip(_FWS) == b"b" and equals:
            specs[at] = name + equals
            break
    emptied = field_name + colon + b";".join(specs)
    return (simple_field(emptied) if canonicalization == SIMPLE else relaxed_field(emptied))[:-2]
