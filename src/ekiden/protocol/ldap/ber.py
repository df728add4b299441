"""The part of the Basic Encoding Rules that LDAP uses (RFC 4511 §5.1): definite lengths, tags of one byte.

Elements are taken from a buffer one after the other, each once: the work is linear. ValueError is for what is no BER.
"""

from __future__ import annotations

from collections.abc import Iterator

BOOLEAN, INTEGER, OCTET_STRING, ENUMERATED, SEQUENCE, SET = 0x01, 0x02, 0x04, 0x0A, 0x30, 0x31


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def integer(value: int, tag: int = INTEGER) -> bytes:
    return element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def boolean(value: bool) -> bytes:
    return element(BOOLEAN, b"\xff" if value else b"\x00")


def text(value: str, tag: int = OCTET_STRING) -> bytes:
    return element(tag, value.encode("utf-8", "surrogateescape"))


def sequence(*parts: bytes, tag: int = SEQUENCE) -> bytes:
    return element(tag, b"".join(parts))


def find(buffer: bytes | bytearray, at: int = 0) -> tuple[int, int, int] | None:
    """Tag, begin and end of the content of the element at ``at``; None when its head is not whole.

    The end may lie behind the end of the buffer. Raises ValueError.
    """
    if len(buffer) < at + 2:
        return None
    tag, size = buffer[at], buffer[at + 1]
    begin = at + 2
    if tag & 0x1F == 0x1F:
        raise ValueError("a tag of more than one byte")
    if size >= 0x80:
        digits = size & 0x7F
        if not 0 < digits <= 4:
            raise ValueError("a length of no bytes or of more than four")
        if len(buffer) < begin + digits:
            return None
        size = int.from_bytes(buffer[begin : begin + digits], "big")
        begin += digits
    return tag, begin, begin + size


def elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that ``content`` consists of, as tag and content. Raises ValueError."""
    at = 0
    while at < len(content):
        found = find(content, at)
        if found is None or found[2] > len(content):
            raise ValueError("an element that goes beyond what holds it")
        tag, begin, at = found
        yield tag, content[begin:at]


def expect(tag: int, found: tuple[int, bytes] | None) -> bytes:
    """The content of an element that must have ``tag``. Raises ValueError."""
    if found is None or found[0] != tag:
        raise ValueError(f"no element with the tag {tag:#04x} where one must be")
    return found[1]


def to_int(content: bytes) -> int:
    """Raises ValueError."""
    if not 0 < len(content) <= 8:
        raise ValueError("an integer of no bytes or of more than eight")
    return int.from_bytes(content, "big", signed=True)


def to_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
