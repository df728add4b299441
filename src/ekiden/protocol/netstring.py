"""Netstrings: ``5:hello,`` (D. J. Bernstein, netstrings, 1997)."""

from __future__ import annotations

_LENGTH_DIGITS = 9


def netstring(data: bytes) -> bytes:
    return b"%d:%s," % (len(data), data)


def parse_netstring(buffer: bytes | bytearray, limit: int) -> tuple[bytes, int] | None:
    """The string at the beginning of ``buffer`` and the bytes it takes there; None when it is not whole yet.

    Raises ValueError for what cannot become one, and for one of more than ``limit`` bytes.
    """
    colon = buffer.find(b":", 0, _LENGTH_DIGITS + 1)
    digits = bytes(buffer[: colon if colon >= 0 else _LENGTH_DIGITS + 1])
    if (digits or colon >= 0) and not digits.isdigit():
        raise ValueError("no length of a netstring")
    if len(digits) > 1 and digits[0] == 0x30:
        raise ValueError("a netstring's length begins with 0")
    if colon < 0:
        if len(digits) > _LENGTH_DIGITS:
            raise ValueError("a netstring's length has too many digits")
        return None
    length = int(digits)
    if length > limit:
        raise ValueError(f"a netstring of {length} bytes, more than the {limit} that are allowed")
    end = colon + 1 + length
    if len(buffer) <= end:
        return None
    if buffer[end] != 0x2C:
        raise ValueError("a netstring does not end with a comma")
    return bytes(buffer[colon + 1 : end]), end + 1
