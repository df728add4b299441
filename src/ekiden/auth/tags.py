"""Tag lists, ``name=value; name=value``, as DKIM and ARC fields and key records hold them (RFC 6376 §3.2).

In:   bytes, a field's value (folded or not) or a TXT record.
Out:  the tags in their order, names as written (they are case-sensitive), values without the white space around them.
Never: raises anything but TagError; looks at a byte more than a few times.
"""

from __future__ import annotations

import binascii
import re

# RFC 6376 §3.2
#   tag-list  =  tag-spec *( ";" tag-spec ) [ ";" ]
#   tag-spec  =  [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
#   tag-name  =  ALPHA *ALNUMPUNC                                (letters, digits and "_")
#   tag-value =  [ tval *( 1*(WSP / FWS) tval ) ]                (tval: printable, but ";")
# RFC 8616 §4 adds what UTF-8 encodes beyond ASCII to the values.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NAMES = frozenset("abcdghiklnpqrstvxz") | {"bh", "cv"}  # those in use, which need no second look
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # no other control belongs here
_NUMBER = re.compile(r"[0-9]{1,76}")


class TagError(ValueError):
    """Bytes that are no tag list, or a tag whose value is none."""


def parse_tags(octets: bytes) -> dict[str, str]:
    """Raises TagError; two tags of one name make the whole list invalid (RFC 6376 §3.2)."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise TagError("it holds bytes that are no UTF-8") from None
    # "WSP is allowed anywhere around tags": behind the last ";" too, where records in use have it.
    text = text.replace("\r\n", "").rstrip(" \t").removesuffix(";")
    tags: dict[str, str] = {}
    specs = text.split(";")
    for spec in specs:
        name, equals, value = spec.partition("=")
        if not equals:
            raise TagError(_fault(text))
        tags[name.strip(" \t")] = value.strip(" \t")
    # What can be printed, but for the tabs of folded lines, holds no control.
    is_plain = text.replace("\t", " ").isprintable() or _CONTROL.search(text) is None
    if len(tags) < len(specs) or not is_plain or not all(_NAME.fullmatch(name) for name in tags.keys() - _NAMES):
        raise TagError(_fault(text))
    return tags


def _fault(text: str) -> str:
    """What is wrong with a tag list that has fewer tags than specs."""
    if _CONTROL.search(text) is not None:
        return "it holds control characters"
    names: set[str] = set()
    name = ""
    for spec in text.split(";"):
        name, equals, _ = spec.partition("=")
        name = name.strip(" \t")
        if not equals or _NAME.fullmatch(name) is None:
            return f"not a tag: {spec.strip(' ')[:40]!r}"
        if name in names:
            break
        names.add(name)
    return f"{name}= is there twice"


def required(tags: dict[str, str], name: str) -> str:
    """Raises TagError where the tag is not there; the value may be empty."""
    if name not in tags:
        raise _missing(name)
    return tags[name]


def _missing(name: str) -> TagError:
    return TagError(f"{name}= is missing")


def base64_value(tags: dict[str, str], name: str) -> bytes:
    """What a required tag encodes; white space within does not count (RFC 6376 §2.10). Raises TagError."""
    if name not in tags:
        raise _missing(name)
    text = tags[name]
    if " " in text or "\t" in text:
        text = text.replace(" ", "").replace("\t", "")
    if len(text) % 4 or text[-3:] == "===":  # the strict mode takes too much padding
        raise TagError(f"{name}= is not base64")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error, or it is not ASCII
        raise TagError(f"{name}= is not base64") from None


def number_value(tags: dict[str, str], name: str) -> int | None:
    """An unsigned number, as l=, t= and x= are; None where the tag is not there. Raises TagError."""
    text = tags.get(name)
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise TagError(f"{name}= is not a number")
    return int(text)


def list_value(text: str) -> tuple[str, ...]:
    """The parts of a value that colons divide, without the white space around each."""
    parts = text.split(":")
    return tuple([part.strip(" \t") for part in parts] if " " in text or "\t" in text else parts)
