"""The protocol of Redis and Valkey, version 2 (RESP2, redis.io/docs/reference/protocol-spec): requests and replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

_LINE_BYTES = 4096
_ITEMS = 10_000


class RespError(Exception):
    """The server answered with an error."""


Simple: TypeAlias = bytes | int | RespError | None
Reply: TypeAlias = Simple | list[Simple]


def request(words: Sequence[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def parse_reply(buffer: bytes | bytearray, value_limit: int) -> tuple[Reply, int] | None:
    """The reply at the beginning of ``buffer`` and its length; None when it is not whole.

    An array may hold anything but arrays, which no command that we send gives. Raises ValueError.
    """
    if buffer[:1] != b"*":
        return _simple(buffer, 0, value_limit)
    head = _line(buffer, 0)
    if head is None:
        return None
    count, at = _number(head[0][1:]), head[1]
    if count > _ITEMS:
        raise ValueError(f"an array of {count} items")
    items: list[Simple] = []
    for _ in range(count):
        found = _simple(buffer, at, value_limit)
        if found is None:
            return None
        item, at = found
        items.append(item)
    return (items if count >= 0 else None), at


def _simple(buffer: bytes | bytearray, at: int, limit: int) -> tuple[Simple, int] | None:
    kind = buffer[at : at + 1]
    if kind and kind not in b"+-:$":
        raise ValueError(f"a reply that begins with {bytes(kind)!r}")
    line = _line(buffer, at)
    if line is None:
        return None
    text, end = line[0][1:], line[1]
    if kind == b"+":
        return text, end
    if kind == b"-":
        return RespError(text[:200].decode("utf-8", "replace")), end
    if kind == b":":
        return _number(text), end
    size = _number(text)
    if size < 0:
        return None, end
    if size > limit:
        raise ValueError(f"a value of {size} bytes, more than {limit}")
    if len(buffer) < end + size + 2:
        return None
    if buffer[end + size : end + size + 2] != b"\r\n":
        raise ValueError("a value that is longer than was told")
    return bytes(buffer[end : end + size]), end + size + 2


def _line(buffer: bytes | bytearray, at: int) -> tuple[bytes, int] | None:
    end = buffer.find(b"\r\n", at, at + _LINE_BYTES)
    if end < 0:
        if len(buffer) - at >= _LINE_BYTES:
            raise ValueError(f"a line of more than {_LINE_BYTES} bytes")
        return None
    return bytes(buffer[at:end]), end + 2


def _number(text: bytes) -> int:
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit() or len(digits) > 18:
        raise ValueError(f"{text[:20]!r} is no number")
    return int(text)
