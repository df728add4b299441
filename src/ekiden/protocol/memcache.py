"""The text protocol of memcached (its protocol.txt): what one lookup and one update need.

In:   keys that valid_key() accepts; the bytes of a reply.
Out:  requests; the values of a reply by key. Raises ValueError for a reply that is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

KEY_BYTES = 250
_KEY = re.compile(rb"[^\x00-\x20\x7f]+")
_VALUE = re.compile(rb"VALUE ([^\x00-\x20\x7f]+) [0-9]{1,10} ([0-9]{1,10})(?: [0-9]{1,20})?")


class MemcacheError(Exception):
    """The server answered with an error."""


def valid_key(key: bytes) -> bool:
    """Whether memcached can have such a key; one with white space would be several, or another command."""
    return len(key) <= KEY_BYTES and _KEY.fullmatch(key) is not None


def get_request(keys: Sequence[bytes]) -> bytes:
    return b"get " + b" ".join(keys) + b"\r\n"


def set_request(key: bytes, value: bytes, flags: int, ttl: int) -> bytes:
    return b"set %s %d %d %d\r\n%s\r\n" % (key, flags, ttl, len(value), value)


def parse_values(
    buffer: bytes | bytearray, line_limit: int, data_limit: int
) -> tuple[dict[bytes, bytes] | MemcacheError, int] | None:
    """The reply to a get request: values by key, and its length; None when it is not whole. Raises ValueError."""
    values: dict[bytes, bytes] = {}
    at = 0
    while (line := _line(buffer, at, line_limit)) is not None:
        text, at = line
        if text == b"END":
            return values, at
        if (error := _error(text)) is not None:
            return error, at
        found = _VALUE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text[:40]!r} in the reply to a get")
        size = int(found[2])
        if size > data_limit:
            raise ValueError(f"a value of {size} bytes, more than data_size_limit = {data_limit}")
        end = at + size
        if len(buffer) < end + 2:
            return None
        if buffer[end : end + 2] != b"\r\n":
            raise ValueError("a value that is longer than was told")
        values[found[1]] = bytes(buffer[at:end])
        at = end + 2
    return None


def parse_stored(buffer: bytes | bytearray, line_limit: int) -> tuple[bool | MemcacheError, int] | None:
    """The reply to a set request: whether it was done. Raises ValueError."""
    line = _line(buffer, 0, line_limit)
    if line is None:
        return None
    text, used = line
    if text in (b"STORED", b"NOT_STORED"):
        return text == b"STORED", used
    if (error := _error(text)) is not None:
        return error, used
    raise ValueError(f"{text[:40]!r} in the reply to a set")


def _line(buffer: bytes | bytearray, at: int, limit: int) -> tuple[bytes, int] | None:
    end = buffer.find(b"\r\n", at, at + limit + 2)
    if end < 0:
        if len(buffer) - at >= limit + 2:
            raise ValueError(f"a line of more than line_size_limit = {limit} bytes")
        return None
    return bytes(buffer[at:end]), end + 2


def _error(text: bytes) -> MemcacheError | None:
    if text == b"ERROR" or text.startswith((b"CLIENT_ERROR ", b"SERVER_ERROR ")):
        return MemcacheError(text[:200].decode("utf-8", "replace"))
    return None
