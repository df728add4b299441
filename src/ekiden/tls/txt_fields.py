"""Records of the form ``v=NAME; field=value; ...``, which MTA-STS and TLSRPT share (RFC 8461 §3.1, RFC 8460 §3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_RECORD_LIMIT_BYTES = 4096
_DELIMITER = re.compile(r"[ \t]*;[ \t]*")
# RFC 8461 §3.1   sts-ext-name  = (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")
#                 sts-ext-value = 1*(%x21-3A / %x3C / %x3E-7E)
# RFC 8460 §3 has the same for TLSRPT.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_EXTENSION_VALUE = re.compile(r"[!-:<>-~]+")


class RecordError(ValueError):
    """A record that breaks its grammar."""


def records_of(version: str, texts: Sequence[bytes]) -> list[str]:
    """Those of a name's TXT records that are of this kind: they begin with ``v=VERSION`` and the end of that field.

    RFC 8461 §3.1, RFC 8460 §3: all others are as if they were not there.
    """
    if not texts:
        return []
    begin = re.compile(rb"v=" + version.encode() + rb"[ \t]*(?:;|\Z)")
    return [text.decode("latin-1") for text in texts if begin.match(text)]


def fields_of(version: str, text: str, known: Sequence[str]) -> list[tuple[str, str]]:
    """The fields after the version, in their order. Values of ``known`` names are for the caller to judge.

    Raises RecordError.
    """
    if len(text) > _RECORD_LIMIT_BYTES:
        raise RecordError("the record is too long")
    first, *rest = _DELIMITER.split(text.rstrip(" \t"))
    if first != f"v={version}":
        raise RecordError(f"the record does not begin with v={version}")
    if rest and not rest[-1]:
        rest.pop()
    fields: list[tuple[str, str]] = []
    for field in rest:
        name, equals, value = field.partition("=")
        if not equals or _NAME.fullmatch(name) is None:
            raise RecordError(f"not a field: {field[:40]!r}")
        if name not in known and _EXTENSION_VALUE.fullmatch(value) is None:
            raise RecordError(f"the value of {name} is none")
        fields.append((name, value))
    return fields
