"""The header as signatures see it: fields picked by name from the bottom up, and their canonical forms (RFC 6376 §3.4).

In:   a header block, fields with CRLF, without the empty line; the names that h= lists.
Out:  the bytes that a signature of DKIM or ARC covers.
Never: raises for a hostile header; covers a field twice for one signature, so work is linear in the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ekiden.message.header_fields import divided

SIMPLE = "simple"
RELAXED = "relaxed"

_FOLD = re.compile(rb"\r\n(?=[ \t])")  # RFC 5322 §2.2.3
_BLANKS = re.compile(rb"[ \t]+")
_NOT_WSP = b"\r\n\x0b\x0c"  # bytes.split() divides at these, RFC 6376 does not: its white space is blank and tab
_RUN = re.compile(rb"  +")
_VALUE = b"\x0b"  # marks where a value begins, in a header that does not hold it
# Fields of a header up to this size are made canonical together, for each signature anew; those of others once, each by
# itself, so that many signatures of a giant header cost no more than one.
_SHORT_OCTETS = 16 * 1024
_OWN_VALUE = re.compile(rb";[ \t\r\n]*b[ \t\r\n]*=([^;]*)")  # of b=, where a semicolon is before each tag

# A name of a field in lower case, and which field of this name is meant, counted from the bottom, that one being 1.
Pick = tuple[bytes, int]


class SignableField(Struct, eq=False):
    """A field is the same only as itself, however many are alike."""

    name: bytes  # in lower case
    begin: bytes  # as it is up to the colon, which is included
    value: bytes  # what is behind it, folded as it is, with the line end
    relaxed: bytes = b""  # its canonical form, once it was asked for by itself

    @property
    def raw(self) -> bytes:
        return self.begin + self.value


class SignableHeader:
    """Fields are taken for as many signatures as there are."""

    __slots__ = ("_by_name", "_together", "fields")

    def __init__(self, header: bytes) -> None:
        self.fields = [SignableField(name, begin, value) for begin, name, value in divided(header)]
        self._together = len(header) <= _SHORT_OCTETS and header.endswith(b"\r\n") and _VALUE not in header
        by_name = self._by_name = dict[bytes, list[SignableField]]()
        for field in self.fields:
            if field.name in by_name:
                by_name[field.name].append(field)
            else:
                by_name[field.name] = [field]

    def named(self, name: bytes) -> Sequence[SignableField]:
        """The fields of this name (lower case), from the top down."""
        return self._by_name.get(name, ())

    def has_any(self, names: frozenset[bytes]) -> bool:
        """There is a field of one of these names (lower case)."""
        return not names.isdisjoint(self._by_name)

    def pick(self, picks: Sequence[Pick], *, but: SignableField | None = None) -> list[SignableField]:
        """The fields that h= names, in its order.

        A name that has no field left stands for nothing (RFC 6376 §5.4.2). ``but`` is the signature that is being
        verified: it was not there when it was made, and never signs itself.
        """
        by_name = self._by_name
        if but is not None and (but.name, 1) in picks:
            others = {name: named for name, named in by_name.items() if name != but.name}
            left = [field for field in by_name[but.name] if field is not but]
            by_name = others | {but.name: left} if left else others
        # Where there is a name, there is its lowest field: most names need no more than that.
        return [
            by_name[name][-nth] for name, nth in picks if name in by_name and (nth == 1 or nth <= len(by_name[name]))
        ]

    def canonical(self, fields: Sequence[SignableField], canonicalization: str) -> bytes:
        """Each with its CRLF."""
        if canonicalization == SIMPLE:
            return b"".join([simple_field(field.raw) for field in fields])
        if self._together:
            lines = b"".join([b"%b:\x0b%b" % (field.name, field.value) for field in fields])
            lines = lines.replace(b"\t", b" ").replace(b"\r\n ", b" ")
            # Each value ends with a line feed. If all of these are of CRLF, and there are no others, a line is a field.
            if lines.count(b"\r\n") == len(fields) == lines.count(b"\n") == lines.count(b"\r"):
                lines = relaxed_lines(lines).replace(b"\x0b ", b"")
                return lines if _VALUE not in lines else lines.replace(_VALUE, b"")  # not all begin with a blank
        for field in fields:
            if not field.relaxed:
                field.relaxed = relaxed_field(field.raw)
        return b"".join([field.relaxed for field in fields])

    def hash_input(self, picks: Sequence[Pick], canonicalization: str, signature: SignableField) -> bytes:
        """What ``signature`` was made over: the fields that it names, and at their end itself (RFC 6376 §3.7)."""
        value = simple_field(_without_own_value(signature.value))
        own = SignableField(signature.name, signature.begin, value)
        return self.canonical([*self.pick(picks, but=signature), own], canonicalization)[:-2]


def picks(names: Iterable[str]) -> tuple[Pick, ...]:
    """What h= stands for: each name takes the lowest field that is not taken yet (RFC 6376 §5.4.2)."""
    taken: dict[bytes, int] = {}
    found: list[Pick] = []
    for name in names:
        key = name.encode().lower()
        taken[key] = taken.get(key, 0) + 1
        found.append((key, taken[key]))
    return tuple(found)


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


def relaxed_lines(lines: bytes) -> bytes:
    """RFC 6376 §3.4.2, §3.4.4: one blank for each run of white space, none at the end of a line.

    ``lines`` does not end within white space or a line end.
    """
    # Whole-chunk replacements pass over the text at gigabytes a second, a regular expression at a tenth of that:
    # it is for the long runs that two replacements leave, so that work stays linear.
    if b"\t" in lines:
        lines = lines.replace(b"\t", b" ")
    if b"  " in lines:
        lines = lines.replace(b"    ", b" ").replace(b"  ", b" ")
        if b"  " in lines:
            lines = _RUN.sub(b" ", lines)
    return lines.replace(b" \r\n", b"\r\n")


def own_input(raw: bytes, canonicalization: str) -> bytes:
    """A signature field as it covers itself: the value of b= deleted, no CRLF at its end (RFC 6376 §3.7)."""
    name, colon, value = raw.partition(b":")
    emptied = name + colon + _without_own_value(value)
    return (simple_field(emptied) if canonicalization == SIMPLE else relaxed_field(emptied))[:-2]


def _without_own_value(value: bytes) -> bytes:
    own = _OWN_VALUE.search(b";" + value)
    if own is None:
        return value
    begin, end = own.span(1)  # behind the semicolon that was put before it
    return value[: begin - 1] + value[end - 1 :]
